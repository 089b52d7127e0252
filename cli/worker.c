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
    RETAKE_MS = 1000,     /* a fenced lane waits this long: if the group took it away, the news arrives first */
    RELIEVED_MS = 5000,   /* no lane was paused for so long: back-pressure is over */
    JUMP_SAID_MS = 60000, /* a clock that is off by less is not worth a line */
    LOOK_MS = 5000,       /* a lane without news sends a cut so often: has the store come back older? And raters learn
                           * how far an idle lane's watermark is */
};

static int64_t monotonic(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * WEIR_SECOND + now.tv_nsec;
}

/* Goes on while the machine is suspended. */
static int64_t boot_time(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * WEIR_SECOND + now.tv_nsec;
}

static void fail(struct weir_worker *worker, const struct weir_error *error)
{
    if (!worker->has_failed)
        worker->failure = *error;
    worker->has_failed = true;
}

/* 1. flights */

/* Nothing of this lane may be written any more: what it has in memory is not what the store has. */
static void drop_lane(struct worker_lane *owned)
{
    owned->lane = weir_lane_free(owned->lane);
    owned->is_fenced = true;
    owned->retake_at = monotonic() + RETAKE_MS * (WEIR_SECOND / 1000);
}

static void land(struct weir_worker *worker, struct weir_flight *flight)
{
    struct worker_lane *owned = flight->lane;

    worker->free_flights[worker->free_count++] = flight;
    owned->in_flight--;
    if (flight->status == WEIR_OK) {
        /* A cut from before the topic was made anew is durable as well, but its offset means nothing any more. */
        if (flight->generation == owned->generation && owned->lane
            && flight->sealed->cut.state.next_offset <= weir_lane_state(owned->lane)->next_offset)
            worker->source->ops->mark_durable(worker->source, owned->partition, flight->sealed->cut.state.next_offset);
        return;
    }
    if (flight->status != WEIR_FENCED) {
        fail(worker, &flight->error);
        return;
    }
    if (flight->generation != owned->generation || !owned->lane)
        return;
    weir_log(WEIR_LOG_WARN, "lane %s: %s; reading it again from its stored cut", owned->name_bytes, flight->error.text);
    drop_lane(owned);
}

static void land_all(struct weir_worker *worker)
{
    struct weir_flight *flight;

    while ((flight = weir_writer_receive(worker->writer)))
        land(worker, flight);
}

/* Seals what the lane has and sends it off. false: no free cut now. */
static bool send_cut(struct weir_worker *worker, struct worker_lane *owned)
{
    if (worker->free_count == 0)
        return false;
    struct weir_flight *flight = worker->free_flights[--worker->free_count];
    weir_lane_seal(owned->lane, flight->sealed);
    flight->lane = owned;
    flight->generation = owned->generation;
    flight->has_quarantined = owned->has_quarantined;
    owned->has_quarantined = false;
    owned->last_seal = monotonic();
    owned->in_flight++;
    weir_writer_send(worker->writer, flight);
    return true;
}

/* Writes everything that the lane has and waits for it. false: it did not get through in time, or was fenced. */
static bool settle_lane(struct weir_worker *worker, struct worker_lane *owned)
{
    bool is_sent = false;

    while (monotonic() < worker->hand_over_deadline && !worker->has_failed) {
        land_all(worker);
        if (!owned->lane)
            return false;
        if (!is_sent && (!weir_lane_has_changes(owned->lane) || send_cut(worker, owned)))
            is_sent = true;
        if (is_sent && owned->in_flight == 0)
            return owned->lane != NULL;
        weir_writer_wait(worker->writer, POLL_MS);
        weir_daemon_alive();
    }
    return false;
}

/* 2. lanes come and go */

static uint64_t left_of(uint64_t max, uint64_t held)
{
    return held < max ? max - held : 1;
}

/* What the other lanes leave: a lane that does not fit beside them is refused before it takes the memory. */
static struct weir_lane_settings lane_settings(const struct weir_worker *worker)
{
    struct weir_lane_settings settings = worker->settings.lane;

    for (int32_t i = 0; i < worker->partition_limit; i++) {
        const struct worker_lane *other = worker->lanes[i];
        if (!other || !other->lane)
            continue;
        settings.windows_max = left_of(settings.windows_max, weir_lane_windows(other->lane));
        settings.ids_max = left_of(settings.ids_max, weir_lane_ids(other->lane));
    }
    return settings;
}

/* One try at becoming the lane's owner. */
static enum weir_status take_lane(struct weir_worker *worker, struct worker_lane *owned, struct weir_error *reterr)
{
    struct weir_lane_settings settings = lane_settings(worker);
    struct weir_lane *lane = weir_lane_new(worker->catalog, owned->name, &settings);
    struct weir_lane_loader loader = weir_lane_loader(lane);
    unsigned char secret[WEIR_LANE_SECRET_BYTES];
    struct weir_lane_state state;

    weir_hash_make_secret(secret);
    enum weir_status status =
        worker->store->ops->take_lane(worker->store, owned->name, secret, &loader, &state, reterr);
    if (status == WEIR_OK)
        status = weir_lane_start(lane, &state, reterr);
    if (status != WEIR_OK) {
        weir_lane_free(lane);
        /* Overtaken while it was loaded: it is taken again, unless the group's news says first that it is not ours. */
        return status == WEIR_FENCED ? WEIR_RETRY : status;
    }
    owned->lane = lane;
    owned->generation = ++worker->generations;
    owned->is_fenced = false;
    owned->last_seal = owned->last_event = monotonic();
    owned->caught_up_at = 0;
    weir_outage_end(&worker->gauges.store, "the window store answers");
    weir_log(WEIR_LOG_INFO, "lane %s taken: epoch %llu, offset %lld, %llu windows, %llu ids", owned->name_bytes,
             (unsigned long long)state.epoch, (long long)state.next_offset, (unsigned long long)weir_lane_windows(lane),
             (unsigned long long)weir_lane_ids(lane));
    return WEIR_OK;
}

static void cannot_take(struct weir_worker *worker, const struct weir_error *error)
{
    weir_outage_begin(&worker->gauges.store, "lanes cannot be taken yet, trying again", error->text);
}

/* Where the lane is to be read from; of one that has nothing stored, whatever there still is. */
static int64_t first_offset(const struct worker_lane *owned)
{
    int64_t next = weir_lane_state(owned->lane)->next_offset;
    return next;
}

static bool on_assigned(void *context, struct weir_slice topic, int32_t partition, int64_t *ret_offset,
                        struct weir_error *reterr)
{
    struct weir_worker *worker = context;

    if (partition >= WEIR_PARTITIONS_MAX) {
        weir_fail(reterr, WEIR_FATAL, "partition %d: weir reads at most %d partitions of a topic", partition,
                  WEIR_PARTITIONS_MAX);
        fail(worker, reterr);
        return false;
    }
    struct worker_lane *owned = worker->lanes[partition];
    if (!owned) {
        owned = weir_new(sizeof *owned);
        owned->partition = partition;
        owned->name.length = (uint32_t)snprintf(owned->name_bytes, sizeof owned->name_bytes, "%.*s:%d",
                                                (int)topic.length, topic.data, partition);
        owned->name.data = owned->name_bytes;
        owned->gauges = weir_lane_gauges_of(&worker->gauges, partition, owned->name_bytes);
        worker->lanes[partition] = owned;
        worker->lane_count++;
        if (partition >= worker->partition_limit)
            worker->partition_limit = partition + 1;
    }
    enum weir_status status = owned->lane ? WEIR_OK : take_lane(worker, owned, reterr);
    weir_daemon_alive(); /* many lanes may come in one call */
    if (status == WEIR_RETRY) {
        cannot_take(worker, reterr);
        drop_lane(owned); /* taken by retake_lanes, and read from there on, as soon as the store answers */
        *ret_offset = -1;
        return true;
    }
    if (status != WEIR_OK) {
        fail(worker, reterr);
        return false;
    }
    *ret_offset = first_offset(owned);
    return true;
}

static int64_t on_stamp(void *context, int32_t partition)
{
    const struct weir_worker *worker = context;
    const struct worker_lane *owned = partition < WEIR_PARTITIONS_MAX ? worker->lanes[partition] : NULL;

    return owned && owned->lane ? weir_lane_state(owned->lane)->stamp : -1;
}

/* Of nothing_stored only the rater knows whether it is a loss: it may be the first start on an old topic. */
static void log_gap(const struct worker_lane *owned, const struct weir_gap *gap)
{
    static const char *const what[WEIR_GAP_KIND_COUNT] = {
        [WEIR_GAP_NOTHING_STORED] = "nothing is stored of it, and Kafka's first messages are gone",
        [WEIR_GAP_RETENTION] = "Kafka deleted messages before they were read",
        [WEIR_GAP_RECREATED] = "the topic was made anew; what the old one still held is unknown",
    };
    char from[WEIR_TIME_TEXT_MAX], to[WEIR_TIME_TEXT_MAX], end[24] = "?";

    weir_time_format(gap->time_from, from);
    weir_time_format(gap->time_to, to);
    if (gap->to != WEIR_GAP_END_UNKNOWN)
        (void)snprintf(end, sizeof end, "%lld", (long long)gap->to);
    weir_log(
        gap->kind == WEIR_GAP_NOTHING_STORED ? WEIR_LOG_WARN : WEIR_LOG_ERROR,
        "lane %s: gap (%s), offsets %lld to %s: %s. Usage from %s to %s may be incomplete: the rater holds it until "
        "`weir release` (docs/gaps.md)",
        owned->name_bytes, weir_gap_kind_name[gap->kind], (long long)gap->from, end, what[gap->kind], from, to);
}

static void on_gone(void *context, int32_t partition, enum weir_gap_kind kind, int64_t next_offset)
{
    struct weir_worker *worker = context;
    struct worker_lane *owned = partition < WEIR_PARTITIONS_MAX ? worker->lanes[partition] : NULL;

    if (!owned || !owned->lane)
        return; /* dropped: when it is taken again, it is found again */
    log_gap(owned, weir_lane_add_gap(owned->lane, kind, next_offset, weir_time_now()));
    atomic_fetch_add_explicit(&worker->gauges.gaps[kind], 1, memory_order_relaxed);
}

static void give_up(struct weir_worker *worker, struct worker_lane *owned)
{
    /* Flights point at it, so every one must be back. A store that does not answer is not waited for any longer: cuts
     * of other lanes under way are given up with it, and those lanes read again. */
    weir_writer_abandon(worker->writer, true);
    while (owned->in_flight > 0) {
        land_all(worker);
        if (owned->in_flight > 0)
            weir_writer_wait(worker->writer, POLL_MS);
        weir_daemon_alive();
    }
    weir_writer_abandon(worker->writer, false);
    worker->lanes[owned->partition] = NULL;
    worker->lane_count--;
    atomic_store_explicit(&owned->gauges->is_ours, false, memory_order_relaxed); /* a figure on a page */
    weir_lane_free(owned->lane);
    free(owned);
}

static void on_revoked(void *context, struct weir_slice topic, int32_t partition, bool lost)
{
    struct weir_worker *worker = context;
    struct worker_lane *owned = partition < WEIR_PARTITIONS_MAX ? worker->lanes[partition] : NULL;

    (void)topic;
    if (!owned)
        return;
    /* Lanes that are revoked one after the other share one time: many of them, and a store that is away, would keep a
     * worker from stopping. */
    if (monotonic() - worker->last_revoked > WEIR_SECOND)
        worker->hand_over_deadline = monotonic() + worker->settings.hand_over;
    if (lost)
        owned->lane = weir_lane_free(owned->lane);
    bool is_whole = owned->lane && settle_lane(worker, owned);
    weir_log(WEIR_LOG_INFO, "lane %s %s", owned->name_bytes,
             is_whole ? "handed over, all written" : "given up; its next owner reads on from the stored cut");
    give_up(worker, owned);
    worker->last_revoked = monotonic();
}

static void pause_lane(struct weir_worker *worker, struct worker_lane *owned, bool is_paused)
{
    if (is_paused && !owned->is_paused)
        worker->source->ops->pause(worker->source, owned->partition);
    else if (!is_paused && owned->is_paused)
        worker->source->ops->resume(worker->source, owned->partition);
    owned->is_paused = is_paused;
}

/* Lanes that were dropped are taken again once nothing of the old one is under way. */
static enum weir_status retake_lanes(struct weir_worker *worker, struct weir_error *reterr)
{
    for (int32_t i = 0; i < worker->partition_limit; i++) {
        struct worker_lane *owned = worker->lanes[i];
        if (!owned || !owned->is_fenced || owned->in_flight > 0 || monotonic() < owned->retake_at)
            continue;
        enum weir_status status = take_lane(worker, owned, reterr);
        if (status == WEIR_RETRY) {
            cannot_take(worker, reterr);
            owned->retake_at = monotonic() + RETAKE_MS * (WEIR_SECOND / 1000);
            return WEIR_OK; /* the others would wait for the same store */
        }
        if (status == WEIR_OK)
            status = worker->source->ops->seek(worker->source, owned->partition, first_offset(owned), reterr);
        if (status != WEIR_OK)
            return status;
        pause_lane(worker, owned, false);
    }
    return WEIR_OK;
}

/* 3. the loop */
/* Whether the lane wants the message: not while it is dropped or seeking (it will be read again), and not what a cut
 * covers. */
static bool is_wanted(const struct worker_lane *owned, const struct weir_message *message)
{
    return owned && owned->lane && message->sequence >= weir_lane_state(owned->lane)->next_offset;
}

static enum weir_status take_group(struct weir_worker *worker, struct weir_intake_item *items, size_t count,
                                   int64_t clock, struct weir_error *reterr)
{
    int64_t now = weir_steady_clock_later(&worker->clock);
    enum weir_status status = WEIR_OK;

    for (size_t done = 0, taken = 0; done < count && (status == WEIR_OK || status == WEIR_AGAIN); done += taken) {
        status = weir_intake_take(worker->intake, items + done, count - done, now, &taken, reterr);
        if (status == WEIR_AGAIN)
            status = worker->quarantine->ops->flush(worker->quarantine, reterr) == WEIR_FATAL ? WEIR_FATAL : WEIR_OK;
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
    return status;
}

static enum weir_status take_messages(struct weir_worker *worker, const struct weir_message *messages, size_t count,
                                      struct weir_error *reterr)
{
    struct weir_intake_item items[WEIR_INTAKE_GROUP];
    int64_t clock = monotonic();
    enum weir_status status = WEIR_OK;

    for (size_t i = 0; i < count && status == WEIR_OK;) {
        size_t group = 0;
        for (; i < count && group < WEIR_INTAKE_GROUP; i++) {
            struct worker_lane *owned = worker->lanes[messages[i].partition];
            if (!is_wanted(owned, &messages[i]))
                continue;
            items[group++] = (struct weir_intake_item){.lane = owned->lane, .message = &messages[i]};
        }
        status = take_group(worker, items, group, clock, reterr);
    }
    return status == WEIR_OK ? WEIR_OK : WEIR_FATAL;
}

/* Pauses a lane whose changes pile up while no cut is free, and lets it go on when they are off. */
static void press_back(struct weir_worker *worker, struct worker_lane *owned)
{
    size_t unsealed = weir_lane_unsealed(owned->lane);

    if (unsealed >= worker->settings.changes_max && worker->free_count == 0)
        pause_lane(worker, owned, true);
    else if (unsealed < worker->settings.changes_max / 2)
        pause_lane(worker, owned, false);
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
    int64_t now = monotonic(), wall = weir_steady_clock_earlier(&worker->clock);
    uint32_t paused = 0;
    int32_t first = worker->first_lane;
    bool is_short = false;

    for (int32_t n = 0; n < worker->partition_limit; n++) {
        int32_t i = (first + n) % worker->partition_limit;
        struct worker_lane *owned = worker->lanes[i];
        if (!owned)
            continue;
        if (!owned->lane) { /* nothing of it is wanted yet */
            pause_lane(worker, owned, true);
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
        bool is_due = now - owned->last_seal >= worker->settings.flush_interval || is_end
                      || weir_lane_unsealed(owned->lane) >= worker->settings.changes_max;
        bool must_look = owned->in_flight == 0 && now - owned->last_seal >= LOOK_MS * (WEIR_SECOND / 1000);
        bool wants_cut = (is_due && weir_lane_has_news(owned->lane)) || must_look;
        if (wants_cut && !send_cut(worker, owned) && !is_short) {
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
    worker->hand_over_deadline = monotonic() + worker->settings.hand_over;
    tend_lanes(worker, true);
    for (int32_t i = 0; i < worker->partition_limit; i++)
        if (worker->lanes[i] && worker->lanes[i]->lane && !settle_lane(worker, worker->lanes[i]))
            return false;
    return !has_fenced_lane(worker);
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
        status = take_messages(worker, messages, count, reterr);
        land_all(worker);
        /* What failed may have left a lane past a message that stands nowhere: then no more of it is sealed. */
        if (status == WEIR_OK) {
            tend_lanes(worker, false);
            status = retake_lanes(worker, reterr);
        }
        *ret_ended =
            status == WEIR_OK && is_end && worker->settings.until_end && !has_fenced_lane(worker) && end_lanes(worker);
    }
    if (worker->has_failed) {
        *reterr = worker->failure;
        status = WEIR_FATAL;
    }
    if (status == WEIR_OK && worker->settings.until_end
        && weir_outage_lasts(&worker->gauges.store) > worker->settings.patience)
        status = weir_fail(reterr, WEIR_FATAL,
                           "the window store does not answer, and patience is at its end; start it again");
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
    weir_intake_stop_on(worker->intake, stop);
    weir_steady_clock_start(&worker->clock, weir_time_now(), boot_time());
    worker->writer = weir_writer_new(worker->writer_store, worker->quarantine, &worker->gauges);
    while (status == WEIR_OK && !is_ended && !atomic_load_explicit(stop, memory_order_relaxed))
        status = step(worker, &is_ended, reterr);
    weir_progress_end(&worker->progress);
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

/* 4. life */
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
    worker->intake = weir_intake_new(catalog, quarantine);
    worker->lanes = weir_new_array(WEIR_PARTITIONS_MAX, sizeof *worker->lanes);
    worker->gauges.by_partition = weir_new_array(WEIR_PARTITIONS_MAX, sizeof *worker->gauges.by_partition);
    worker->gauges.cuts_max = settings->cuts_max;
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

struct weir_source_listener weir_worker_listener(struct weir_worker *worker)
{
    return (struct weir_source_listener){
        .context = worker, .assigned = on_assigned, .revoked = on_revoked, .stamp = on_stamp, .gone = on_gone};
}

struct weir_worker_gauges *weir_worker_gauges(struct weir_worker *worker)
{
    return &worker->gauges;
}
