#include "cli/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/worker_internal.h"
#include "cli/worker_metrics.h"
#include "cli/writer.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/steady_clock.h"

enum {
    POLL_MS = 50,
    RELIEVED_MS = 5000,   /* no lane was paused for so long: back-pressure is over */
    JUMP_SAID_MS = 60000, /* a clock that is off by less is not worth a line */
    LOOK_MS = 5000,       /* a lane without news sends a cut so often: has the store come back older? And raters learn
                           * how far an idle lane's watermark is */
};

/* Goes on while the machine is suspended. */
static int64_t boot_time(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * WEIR_SECOND + now.tv_nsec;
}

/* 1. the loop */
/* Whether the lane wants the message: not while it is dropped or seeking (it will be read again), and not what a cut
 * or a message before it in the batch covers. */
static bool is_wanted(const struct weir_worker *worker, struct worker_lane *owned, const struct weir_message *message)
{
    if (!owned || !owned->lane)
        return false;
    if (owned->batch != worker->batch) {
        owned->batch = worker->batch;
        owned->wanted_from = weir_lane_state(owned->lane)->next_offset;
    }
    if (message->sequence < owned->wanted_from)
        return false;
    owned->wanted_from = message->sequence + 1;
    return true;
}

static enum weir_status check_patience(const struct weir_worker *worker, struct weir_error *reterr)
{
    int64_t patience = worker->settings.patience;
    const char *what = weir_outage_lasts(&worker->gauges.store) > patience ? "the window store does not answer"
                       : weir_outage_lasts(&worker->gauges.quarantine) > patience
                           ? "the quarantine topic takes no records"
                       : weir_outage_lasts(&worker->untold) > patience ? "the topic of admitted events cannot be read"
                                                                       : NULL;

    if (!worker->settings.until_end || !what)
        return WEIR_OK;
    return weir_fail(reterr, WEIR_FATAL, "%s, and patience is at its end; start it again", what);
}

static enum weir_status take_items(struct weir_worker *worker, struct weir_intake_item *items, size_t count,
                                   struct weir_error *reterr)
{
    int64_t now = weir_steady_clock_later(&worker->clock), clock = weir_worker_now();
    enum weir_status status = WEIR_OK;

    for (size_t done = 0, taken = 0; done < count && (status == WEIR_OK || status == WEIR_AGAIN); done += taken) {
        status = weir_intake_take(worker->intake, items + done, count - done, now, &taken, reterr);
        if (status == WEIR_AGAIN
            && (status = weir_flush_quarantine(worker->quarantine, &worker->gauges, reterr)) != WEIR_FATAL)
            status = check_patience(worker, reterr);
        weir_daemon_alive(); /* quarantine may have no room for minutes */
        /* Nobody waits for quarantine to have room again while the worker is to stop: the rest is read again. */
        if (status == WEIR_OK && taken == 0 && atomic_load_explicit(worker->stop, memory_order_relaxed))
            count = done;
    }
    for (size_t i = 0; i < count && status == WEIR_OK; i++) {
        struct worker_lane *owned = worker->lanes[items[i].message->partition];
        if (items[i].outcome == WEIR_OUTCOME_REJECTED)
            owned->has_quarantined = true;
        else
            owned->last_event = clock;
    }
    return status == WEIR_OK ? WEIR_OK : WEIR_FATAL;
}

static enum weir_status take_messages(struct weir_worker *worker, const struct weir_message *messages, size_t count,
                                      struct weir_error *reterr)
{
    static _Thread_local struct weir_intake_item items[WEIR_POLL_MESSAGES_MAX];
    size_t wanted = 0;

    worker->batch++;
    for (size_t i = 0; i < count; i++) {
        struct worker_lane *owned = worker->lanes[messages[i].partition];
        if (is_wanted(worker, owned, &messages[i]))
            items[wanted++] = (struct weir_intake_item){.lane = owned->lane, .message = &messages[i]};
    }
    return take_items(worker, items, wanted, reterr);
}

/* Pauses a lane whose changes pile up while no cut is free, and lets it go on when they are off. */
static void press_back(struct weir_worker *worker, struct worker_lane *owned)
{
    size_t unsealed = weir_lane_unsealed(owned->lane);

    if (unsealed >= worker->settings.changes_max && worker->free_count == 0)
        weir_worker_pause_lane(worker, owned, true);
    else if (unsealed < worker->settings.changes_max / 2)
        weir_worker_pause_lane(worker, owned, false);
}

/* A store that is just too slow pauses lanes many times a second: over is what has not been for a while. */
static void tell_pressure(struct weir_worker *worker, uint32_t paused, int64_t now)
{
    if (paused > 0) {
        weir_outage_begin(&worker->pressure, "lanes are paused", "the window store is behind, or away");
        worker->last_pressed = now;
    } else if (now - worker->last_pressed >= RELIEVED_MS * (WEIR_SECOND / 1000)) {
        weir_outage_end(&worker->pressure, "all lanes are read");
    }
}

/* Which clock is right when they differ nobody knows: a time has passed, and is too early, only by both. */
static void look_at_clock(struct weir_worker *worker)
{
    weir_steady_clock_look(&worker->clock, weir_time_now(), boot_time());
    int64_t jump = weir_steady_clock_jump(&worker->clock);
    if (llabs(jump) >= JUMP_SAID_MS * (WEIR_SECOND / 1000))
        weir_outage_begin(
            &worker->jump, "the system's clock jumped",
            "idle lanes follow the earlier of it and the time that passed. If it was set right, a restart "
            "of this worker makes them follow it at once");
    else
        weir_outage_end(&worker->jump, "the system's clock and the time that passed agree");
    atomic_store_explicit(&worker->gauges.clock_jump, jump, memory_order_relaxed); /* a figure on a page */
}

static void tend_lanes(struct weir_worker *worker, bool is_end)
{
    int64_t now = weir_worker_now(), wall = weir_steady_clock_earlier(&worker->clock);
    uint32_t paused = 0;
    int32_t first = worker->first_lane;
    bool is_short = false;

    for (int32_t n = 0; n < worker->partition_limit; n++) {
        int32_t i = (first + n) % worker->partition_limit;
        struct worker_lane *owned = worker->lanes[i];
        if (!owned)
            continue;
        if (!owned->lane) { /* nothing of it is wanted yet */
            weir_worker_pause_lane(worker, owned, true);
            paused += weir_outage_is_on(&worker->gauges.store);
            continue;
        }
        if (worker->source->ops->next)
            weir_lane_skip_to(owned->lane, worker->source->ops->next(worker->source, owned->partition,
                                                                     weir_lane_state(owned->lane)->next_offset));
        if (is_end || worker->source->ops->is_caught_up(worker->source, owned->partition))
            owned->caught_up_at = wall;
        if (is_end || now - owned->last_event >= worker->settings.idle)
            weir_lane_idle(owned->lane, owned->caught_up_at);
        if (is_end)
            weir_lane_close_all(owned->lane);
        bool is_due = now - owned->last_seal >= worker->settings.flush_interval || is_end
                      || weir_lane_unsealed(owned->lane) >= worker->settings.changes_max;
        bool must_look = owned->in_flight == 0 && now - owned->last_seal >= LOOK_MS * (WEIR_SECOND / 1000);
        bool wants_cut = (is_due && weir_lane_has_news(owned->lane)) || must_look;
        if (wants_cut && !weir_worker_send_cut(worker, owned) && !is_short) {
            worker->first_lane = i;
            is_short = true;
        }
        press_back(worker, owned);
        paused += owned->is_paused;
    }
    tell_pressure(worker, paused, now);
}

static bool has_fenced_lane(const struct weir_worker *worker)
{
    for (int32_t i = 0; i < worker->partition_limit; i++)
        if (worker->lanes[i] && !worker->lanes[i]->lane)
            return true;
    return false;
}

/* The end was reached: closes by the wall clock, writes all. true: everything stands in the store. */
static bool end_lanes(struct weir_worker *worker)
{
    worker->hand_over_deadline = weir_worker_now() + worker->settings.hand_over;
    tend_lanes(worker, true);
    for (int32_t i = 0; i < worker->partition_limit; i++)
        if (worker->lanes[i] && worker->lanes[i]->lane && !weir_worker_settle_lane(worker, worker->lanes[i]))
            return false;
    return !has_fenced_lane(worker);
}

/* relaxed: a hint, which the next poll puts right. */
bool weir_worker_has_helper(const struct weir_worker_peers *peers, const struct weir_worker_gauges *own, int64_t cores)
{
    int64_t behind = 1; /* itself, whether it is or not: else it has little to be helped with */

    for (uint32_t i = 0; i < peers->count; i++)
        behind += peers->gauges[i] != own && atomic_load_explicit(&peers->gauges[i]->is_behind, memory_order_relaxed);
    return 2 * behind <= cores;
}

static void share_cores(struct weir_worker *worker, bool is_behind)
{
    atomic_store_explicit(&worker->gauges.is_behind, is_behind, memory_order_relaxed);
    weir_intake_call_helper(worker->intake,
                            weir_worker_has_helper(worker->peers, &worker->gauges, worker->settings.cores));
}

static enum weir_status step(struct weir_worker *worker, bool *ret_ended, struct weir_error *reterr)
{
    static _Thread_local struct weir_message messages[WEIR_POLL_MESSAGES_MAX];
    size_t count = 0;
    enum weir_status status =
        worker->source->ops->poll(worker->source, POLL_MS, messages, WEIR_POLL_MESSAGES_MAX, &count, reterr);

    weir_daemon_alive();
    look_at_clock(worker);
    if (status == WEIR_OK || status == WEIR_AGAIN) {
        bool is_end = status == WEIR_AGAIN;
        share_cores(worker, count == WEIR_POLL_MESSAGES_MAX);
        status = weir_worker_tell_lanes(worker, reterr);
        if (status == WEIR_OK)
            status = take_messages(worker, messages, count, reterr);
        weir_worker_land_all(worker);
        /* What failed may have left a lane past a message that stands nowhere: then no more of it is sealed. */
        if (status == WEIR_OK) {
            tend_lanes(worker, false);
            is_end = is_end && !has_fenced_lane(worker); /* one that is taken again now is not at its end */
            status = weir_worker_retake_lanes(worker, reterr);
        }
        *ret_ended =
            status == WEIR_OK && is_end && worker->settings.until_end && !has_fenced_lane(worker) && end_lanes(worker);
    }
    if (worker->has_failed) {
        *reterr = worker->failure;
        status = WEIR_FATAL;
    }
    if (status == WEIR_OK)
        status = check_patience(worker, reterr);
    weir_worker_show_gauges(worker);
    weir_worker_show_readiness(worker);
    return status == WEIR_OK ? weir_worker_check_room(worker, reterr) : status;
}

static void drop_all(struct weir_worker *worker)
{
    for (int32_t i = 0; i < worker->partition_limit; i++)
        if (worker->lanes[i])
            worker->lanes[i]->lane = weir_lane_free(worker->lanes[i]->lane);
}

enum weir_status weir_worker_run(struct weir_worker *worker, struct weir_source *source, const _Atomic bool *stop,
                                 struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    bool is_ended = false;

    worker->source = source;
    worker->stop = stop;
    worker->progress = weir_progress_start("weir ingest");
    weir_intake_stop_on(worker->intake, stop, worker->settings.until_end ? worker->settings.patience : 0);
    weir_steady_clock_start(&worker->clock, weir_time_now(), boot_time());
    worker->writer = weir_writer_new(worker->writer_store, worker->quarantine, &worker->gauges);
    while (status == WEIR_OK && !is_ended && !atomic_load_explicit(stop, memory_order_relaxed))
        status = step(worker, &is_ended, reterr);
    weir_progress_end(&worker->progress);
    atomic_store_explicit(&worker->gauges.is_behind, false, memory_order_relaxed);
    if (status != WEIR_OK)
        drop_all(worker); /* what went wrong may be in memory: write nothing more, the next owner reads again */
    /* Leaving the group revokes every partition, and that hands each lane over. */
    weir_source_free(source);
    worker->source = NULL;
    worker->writer = weir_writer_free(worker->writer);
    if (status == WEIR_OK && worker->has_failed) {
        *reterr = worker->failure;
        status = WEIR_FATAL;
    }
    if (status == WEIR_OK && worker->settings.until_end && !is_ended)
        status = weir_fail(reterr, WEIR_FATAL,
                           "stopped by a signal before the end: what was read is written; start it again to go on");
    weir_worker_show_gauges(worker);
    return status;
}

/* 2. life */
struct weir_worker *weir_worker_new(const struct weir_catalog *catalog, const struct weir_worker_settings *settings,
                                    struct weir_window_store *consumer_store, struct weir_window_store *writer_store,
                                    struct weir_quarantine *quarantine)
{
    struct weir_worker *worker = weir_new(sizeof *worker);

    weir_check(settings->cuts_max >= 1 && settings->cuts_max <= WEIR_CUTS_MAX);
    worker->catalog = catalog;
    worker->settings = *settings;
    worker->store = consumer_store;
    worker->writer_store = writer_store;
    worker->quarantine = quarantine;
    worker->intake = weir_intake_new(catalog, quarantine, settings->cores > 1);
    worker->lanes = weir_new_array(WEIR_PARTITIONS_MAX, sizeof *worker->lanes);
    worker->gauges.by_partition = weir_new_array(WEIR_PARTITIONS_MAX, sizeof *worker->gauges.by_partition);
    worker->gauges.cuts_max = settings->cuts_max;
    worker->alone = (struct weir_worker_peers){.gauges = {&worker->gauges}, .count = 1};
    worker->peers = settings->peers ? settings->peers : &worker->alone;
    for (uint32_t i = 0; i < settings->cuts_max; i++) {
        worker->flights[i].sealed = weir_sealed_cut_new();
        worker->free_flights[worker->free_count++] = &worker->flights[i];
    }
    return worker;
}

struct weir_worker *weir_worker_free(struct weir_worker *worker)
{
    if (!worker)
        return NULL;
    for (int32_t i = 0; i < worker->partition_limit; i++) {
        if (!worker->lanes[i])
            continue;
        weir_lane_free(worker->lanes[i]->lane);
        free(worker->lanes[i]);
    }
    for (uint32_t i = 0; i < worker->settings.cuts_max; i++)
        weir_sealed_cut_free(worker->flights[i].sealed);
    weir_intake_free(worker->intake);
    weir_worker_gauges_free(&worker->gauges);
    free(worker->lanes);
    free(worker);
    return NULL;
}

struct weir_worker_gauges *weir_worker_gauges(struct weir_worker *worker)
{
    return &worker->gauges;
}
