/* The worker's lanes: they come and go with the group's partitions, and their cuts fly to the writing thread and back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/worker_internal.h"
#include "cli/worker_metrics.h"
#include "common/calendar.h"
#include "common/log.h"

enum {
    WAIT_MS = 50,     /* for a flight to come back */
    RETAKE_MS = 1000, /* a fenced lane waits this long: if the group took it away, the news arrives first */
};

int64_t weir_worker_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * WEIR_SECOND + now.tv_nsec;
}

void weir_worker_fail(struct weir_worker *worker, const struct weir_error *error)
{
    if (!worker->has_failed)
        worker->failure = *error;
    worker->has_failed = true;
}

/* 1. flights */

/* Nothing of this lane may be written any more: what it has in memory is not what the store has. */
void weir_worker_drop_lane(struct worker_lane *owned, int64_t again_ms)
{
    owned->lane = weir_lane_free(owned->lane);
    owned->is_fenced = true;
    owned->retake_at = weir_worker_now() + again_ms * (WEIR_SECOND / 1000);
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
        weir_worker_fail(worker, &flight->error);
        return;
    }
    if (flight->generation != owned->generation || !owned->lane)
        return;
    weir_log(WEIR_LOG_WARN, "%s; reading it again from its stored cut", flight->error.text); /* it names the lane */
    weir_worker_drop_lane(owned, RETAKE_MS);
}

void weir_worker_land_all(struct weir_worker *worker)
{
    struct weir_flight *flight;

    while ((flight = weir_writer_receive(worker->writer)))
        land(worker, flight);
}

/* When the lane's interval began that now is in. Each lane has its own, spread by the golden ratio whichever are ours:
 * one thread writes all cuts, and if all lanes were due at once, the last one would wait for the others. */
static int64_t interval_start(const struct weir_worker *worker, const struct worker_lane *owned, int64_t now)
{
    int64_t interval = worker->settings.flush_interval;
    uint32_t part = ((uint32_t)owned->partition * UINT32_C(0x9E3779B9)) >> 16;

    return interval > 0 ? now - (now + interval * part / 65536) % interval : now;
}

/* Seals what the lane has and sends it off. false: no free cut now. */
bool weir_worker_send_cut(struct weir_worker *worker, struct worker_lane *owned)
{
    if (worker->free_count == 0)
        return false;
    struct weir_flight *flight = worker->free_flights[--worker->free_count];
    weir_lane_seal(owned->lane, flight->sealed);
    flight->lane = owned;
    flight->generation = owned->generation;
    flight->has_quarantined = owned->has_quarantined;
    owned->has_quarantined = false;
    owned->last_seal = interval_start(worker, owned, weir_worker_now());
    owned->in_flight++;
    weir_writer_send(worker->writer, flight);
    return true;
}

/* Writes everything that the lane has and waits for it. false: it did not get through in time, or was fenced. */
bool weir_worker_settle_lane(struct weir_worker *worker, struct worker_lane *owned)
{
    bool is_sent = false;

    while (weir_worker_now() < worker->hand_over_deadline && !worker->has_failed) {
        weir_worker_land_all(worker);
        if (!owned->lane)
            return false;
        if (!is_sent && (!weir_lane_has_changes(owned->lane) || weir_worker_send_cut(worker, owned)))
            is_sent = true;
        if (is_sent && owned->in_flight == 0)
            return owned->lane != NULL;
        weir_writer_wait(worker->writer, WAIT_MS);
        weir_daemon_alive();
    }
    return false;
}

/* 2. lanes come and go */

static uint64_t left_of(uint64_t max, uint64_t held)
{
    return held < max ? max - held : 1;
}

/* What the other workers of the process hold, as they have shown it last. */
static void leave_to_peers(const struct weir_worker *worker, struct weir_lane_settings *settings)
{
    const struct weir_worker_peers *peers = worker->peers;

    for (uint32_t i = 0; i < peers->count; i++) {
        if (peers->gauges[i] == &worker->gauges)
            continue;
        settings->windows_max =
            left_of(settings->windows_max, atomic_load_explicit(&peers->gauges[i]->windows, memory_order_relaxed));
        settings->ids_max =
            left_of(settings->ids_max, atomic_load_explicit(&peers->gauges[i]->ids, memory_order_relaxed));
    }
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
    leave_to_peers(worker, &settings);
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
    owned->is_untold = true;
    owned->last_seal = owned->last_event = weir_worker_now();
    owned->caught_up_at = 0;
    weir_outage_end(&worker->gauges.store, "the window store answers");
    weir_log(WEIR_LOG_INFO, "lane %s taken: epoch %llu, offset %lld, %llu windows, %llu ids", owned->name_bytes,
             (unsigned long long)state.epoch, (long long)state.next_offset, (unsigned long long)weir_lane_windows(lane),
             (unsigned long long)weir_lane_ids(lane));
    if (weir_lane_unreadable(lane))
        weir_log(WEIR_LOG_ERROR,
                 "lane %s: %llu of its windows in Redis have a series key that cannot be read and are left there "
                 "(docs/operations.md)",
                 owned->name_bytes, (unsigned long long)weir_lane_unreadable(lane));
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
        weir_worker_fail(worker, reterr);
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
        weir_worker_drop_lane(
            owned, RETAKE_MS); /* taken by retake_lanes, and read from there on, as soon as the store answers */
        *ret_offset = -1;
        return true;
    }
    if (status != WEIR_OK) {
        weir_worker_fail(worker, reterr);
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
        weir_worker_land_all(worker);
        if (owned->in_flight > 0)
            weir_writer_wait(worker->writer, WAIT_MS);
        weir_daemon_alive();
    }
    weir_writer_abandon(worker->writer, false);
    worker->lanes[owned->partition] = NULL;
    worker->lane_count--;
    atomic_store_explicit(&owned->gauges->is_ours, false, memory_order_relaxed); /* a figure on a page */
    weir_lane_free(owned->lane);
    free(owned);
    weir_worker_show_gauges(worker); /* its next owner may be a peer, which needs the room */
}

/* In a batch run. Whoever gets a lane that has been read to its end may have left by then, as all seems done: so what
 * ends a lane is done before it goes. */
static void close_at_end(struct weir_worker *worker, struct worker_lane *owned)
{
    if (!worker->settings.until_end || !owned->lane
        || !worker->source->ops->is_caught_up(worker->source, owned->partition))
        return;
    weir_lane_idle(owned->lane, weir_steady_clock_earlier(&worker->clock));
    weir_lane_close_all(owned->lane);
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
    if (weir_worker_now() - worker->last_revoked > WEIR_SECOND)
        worker->hand_over_deadline = weir_worker_now() + worker->settings.hand_over;
    if (lost)
        owned->lane = weir_lane_free(owned->lane);
    close_at_end(worker, owned);
    bool is_whole = owned->lane && weir_worker_settle_lane(worker, owned);
    weir_log(WEIR_LOG_INFO, "lane %s %s", owned->name_bytes,
             is_whole ? "handed over, all written" : "given up; its next owner reads on from the stored cut");
    give_up(worker, owned);
    worker->last_revoked = weir_worker_now();
}

void weir_worker_pause_lane(struct weir_worker *worker, struct worker_lane *owned, bool is_paused)
{
    if (is_paused && !owned->is_paused)
        worker->source->ops->pause(worker->source, owned->partition);
    else if (!is_paused && owned->is_paused)
        worker->source->ops->resume(worker->source, owned->partition);
    owned->is_paused = is_paused;
}

/* Lanes that were dropped are taken again once nothing of the old one is under way. */
enum weir_status weir_worker_retake_lanes(struct weir_worker *worker, struct weir_error *reterr)
{
    for (int32_t i = 0; i < worker->partition_limit; i++) {
        struct worker_lane *owned = worker->lanes[i];
        if (!owned || !owned->is_fenced || owned->in_flight > 0 || weir_worker_now() < owned->retake_at)
            continue;
        enum weir_status status = take_lane(worker, owned, reterr);
        if (status == WEIR_RETRY) {
            cannot_take(worker, reterr);
            owned->retake_at = weir_worker_now() + RETAKE_MS * (WEIR_SECOND / 1000);
            return WEIR_OK; /* the others would wait for the same store */
        }
        if (status == WEIR_OK)
            status = worker->source->ops->seek(worker->source, owned->partition, first_offset(owned), reterr);
        if (status != WEIR_OK)
            return status;
        weir_worker_pause_lane(worker, owned, false);
    }
    return WEIR_OK;
}

struct weir_source_listener weir_worker_listener(struct weir_worker *worker)
{
    return (struct weir_source_listener){
        .context = worker, .assigned = on_assigned, .revoked = on_revoked, .stamp = on_stamp, .gone = on_gone};
}
