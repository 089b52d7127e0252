#include "cli/worker_metrics.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/calendar.h"

/* 1. by lane */
struct weir_lane_gauges *weir_lane_gauges_of(struct weir_worker_gauges *gauges, int32_t partition, const char *lane)
{
    struct weir_lane_gauges *mine = gauges->by_partition[partition];

    if (!mine) {
        mine = weir_new(sizeof *mine);
        (void)snprintf(mine->labels, sizeof mine->labels, "lane=\"%s\"", lane);
        /* release: who finds the pointer finds the labels. */
        atomic_store_explicit(&gauges->by_partition[partition], mine, memory_order_release);
        if (partition >= atomic_load_explicit(&gauges->partition_limit, memory_order_relaxed))
            atomic_store_explicit(&gauges->partition_limit, partition + 1, memory_order_release);
    }
    return mine;
}

void weir_worker_gauges_free(struct weir_worker_gauges *gauges)
{
    for (int32_t i = 0; i < gauges->partition_limit; i++)
        free(gauges->by_partition[i]);
    free(gauges->by_partition);
    gauges->by_partition = NULL;
}

enum figure { LAG, WATERMARK, UNSEALED, PAUSED };

static int64_t figure_of(const struct weir_lane_gauges *lane, enum figure figure)
{
    switch (figure) { /* relaxed: figures on a page */
    case LAG:
        return atomic_load_explicit(&lane->lag, memory_order_relaxed);
    case WATERMARK:
        return atomic_load_explicit(&lane->watermark, memory_order_relaxed) / WEIR_SECOND;
    case UNSEALED:
        return (int64_t)atomic_load_explicit(&lane->unsealed, memory_order_relaxed);
    case PAUSED:
        break;
    }
    return atomic_load_explicit(&lane->is_paused, memory_order_relaxed);
}

static void each_lane_of(const struct weir_worker_gauges *gauges, const struct weir_metric_rows *to, enum figure figure)
{
    int32_t limit = atomic_load_explicit(&gauges->partition_limit, memory_order_acquire);

    for (int32_t i = 0; i < limit; i++) {
        const struct weir_lane_gauges *lane = atomic_load_explicit(&gauges->by_partition[i], memory_order_acquire);
        if (lane && atomic_load_explicit(&lane->is_ours, memory_order_relaxed)
            && (figure != LAG || figure_of(lane, LAG) >= 0))
            to->emit(to->page, lane->labels, figure_of(lane, figure));
    }
}

static void each_lane(const struct weir_metric_rows *to, enum figure figure)
{
    const struct weir_worker_peers *peers = to->context;

    for (uint32_t i = 0; i < peers->count; i++)
        each_lane_of(peers->gauges[i], to, figure);
}

static void lags(const struct weir_metric_rows *to)
{
    each_lane(to, LAG);
}

static void watermarks(const struct weir_metric_rows *to)
{
    each_lane(to, WATERMARK);
}

static void unsealed(const struct weir_metric_rows *to)
{
    each_lane(to, UNSEALED);
}

static void paused(const struct weir_metric_rows *to)
{
    each_lane(to, PAUSED);
}

/* 2. all workers together */
#define OF(gauge) offsetof(struct weir_worker_gauges, gauge)
#define EACH(gauge, i) (OF(gauge) + (size_t)(i) * sizeof(uint64_t))

static bool has_outage(const struct weir_worker_peers *peers, size_t offset)
{
    for (uint32_t i = 0; i < peers->count; i++)
        if (weir_outage_is_on((const struct weir_outage *)((const char *)peers->gauges[i] + offset)))
            return true;
    return false;
}

static int64_t store_is_up(void *context)
{
    return !has_outage(context, OF(store));
}

static int64_t quarantine_is_up(void *context)
{
    return !has_outage(context, OF(quarantine));
}

/* They look at the same clock, each when its round comes. */
static int64_t jump_seconds(void *context)
{
    const struct weir_worker_peers *peers = context;
    int64_t jump = 0;

    for (uint32_t i = 0; i < peers->count; i++) {
        int64_t seen = atomic_load_explicit(&peers->gauges[i]->clock_jump, memory_order_relaxed);
        if (llabs(seen) > llabs(jump))
            jump = seen;
    }
    return jump / WEIR_SECOND;
}

static int64_t lowest_watermark_seconds(void *context)
{
    const struct weir_worker_peers *peers = context;
    int64_t lowest = WEIR_TIME_NEVER;

    for (uint32_t i = 0; i < peers->count; i++) {
        int64_t watermark = atomic_load_explicit(&peers->gauges[i]->watermark, memory_order_relaxed);
        if (atomic_load_explicit(&peers->gauges[i]->lanes, memory_order_relaxed) > 0 && watermark < lowest)
            lowest = watermark;
    }
    return lowest == WEIR_TIME_NEVER ? 0 : lowest / WEIR_SECOND;
}

uint64_t weir_workers_sum(const struct weir_worker_peers *peers, size_t offset)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < peers->count; i++) /* relaxed: figures by themselves */
        sum += atomic_load_explicit((const _Atomic uint64_t *)((const char *)peers->gauges[i] + offset),
                                    memory_order_relaxed);
    return sum;
}

uint64_t weir_workers_outcome(const struct weir_worker_peers *peers, enum weir_outcome outcome)
{
    return weir_workers_sum(peers, EACH(outcomes, outcome));
}

uint64_t weir_workers_read(const struct weir_worker_peers *peers)
{
    uint64_t read = 0;

    for (int i = 0; i < WEIR_OUTCOME_FULL; i++)
        read += weir_workers_outcome(peers, (enum weir_outcome)i);
    return read;
}

static const char *why_not_ready(const struct weir_worker_gauges *gauges)
{
    const char *trouble = atomic_load_explicit(&gauges->source_trouble, memory_order_relaxed);

    if (trouble)
        return trouble;
    if (weir_outage_is_on(&gauges->store))
        return "the window store does not answer";
    if (weir_outage_is_on(&gauges->quarantine))
        return "the quarantine topic takes no records";
    return atomic_load_explicit(&gauges->lanes_waiting, memory_order_relaxed) ? "lanes are yet to be taken" : NULL;
}

const char *weir_workers_why_not_ready(const struct weir_worker_peers *peers)
{
    const char *why_not = NULL;

    for (uint32_t i = 0; i < peers->count && !why_not; i++)
        why_not = why_not_ready(peers->gauges[i]);
    return why_not;
}

void weir_workers_show(const struct weir_worker_peers *peers, struct weir_progress *progress)
{
    const char *why_not = weir_workers_why_not_ready(peers);

    weir_daemon_status(why_not ? why_not : "consuming");
    if (progress)
        weir_progress_show(progress, "%llu events%s%s", (unsigned long long)weir_workers_read(peers),
                           why_not ? "; " : "", why_not ? why_not : "");
}

/* 3. the page */
struct adding {
    struct weir_metrics *metrics;
    struct weir_worker_peers *peers;
};

static uint64_t sum_at(const void *context, size_t offset)
{
    return weir_workers_sum(context, offset);
}

static void add(const struct adding *adding, enum weir_metric_type type, const char *name, const char *labels,
                const char *help, size_t offset)
{
    weir_metrics_add_figure(adding->metrics, type, name, labels, help,
                            &(struct weir_metric_figures){sum_at, adding->peers}, offset);
}

static void add_events(const struct adding *to)
{
    static const char *const outcomes[WEIR_OUTCOME_FULL] = {
        [WEIR_OUTCOME_COUNTED] = "outcome=\"counted\"",      [WEIR_OUTCOME_DUPLICATE] = "outcome=\"duplicate\"",
        [WEIR_OUTCOME_UNMATCHED] = "outcome=\"unmatched\"",  [WEIR_OUTCOME_RETRACTED] = "outcome=\"retracted\"",
        [WEIR_OUTCOME_REJECTED] = "outcome=\"quarantined\"",
    };
    static char reasons[WEIR_REASON_COUNT][48], kinds[WEIR_GAP_KIND_COUNT][32];

    for (int i = 0; i < WEIR_OUTCOME_FULL; i++)
        if (i != WEIR_OUTCOME_UNPRICED) /* only `weir rate` tells it; here the rater does */
            add(to, WEIR_METRIC_COUNTER, "weir_events_total", outcomes[i], "Events taken, by what became of them.",
                EACH(outcomes, i));
    for (int i = 0; i < WEIR_REASON_COUNT; i++) {
        snprintf(reasons[i], sizeof reasons[i], "reason=\"%s\"", weir_reason_name[i]);
        add(to, WEIR_METRIC_COUNTER, "weir_quarantined_events_total", reasons[i], "Events in quarantine, by reason.",
            EACH(rejections, i));
    }
    for (int i = 0; i < WEIR_GAP_KIND_COUNT; i++) {
        snprintf(kinds[i], sizeof kinds[i], "kind=\"%s\"", weir_gap_kind_name[i]);
        add(to, WEIR_METRIC_COUNTER, "weir_lane_gaps_total", kinds[i],
            "Gaps found: events that Kafka lost before they were counted.", EACH(gaps, i));
    }
    add(to, WEIR_METRIC_COUNTER, "weir_event_bytes_total", "", "Bytes of events taken.", OF(bytes));
}

static void add_lanes(const struct adding *to)
{
    add(to, WEIR_METRIC_GAUGE, "weir_lanes", "", "Lanes that this process owns.", OF(lanes));
    add(to, WEIR_METRIC_GAUGE, "weir_lanes_paused", "", "Lanes that are not read: the window store is behind or away.",
        OF(lanes_paused));
    add(to, WEIR_METRIC_GAUGE, "weir_windows", "", "Windows in memory.", OF(windows));
    add(to, WEIR_METRIC_GAUGE, "weir_ids", "", "Event ids in memory.", OF(ids));
    add(to, WEIR_METRIC_GAUGE, "weir_lane_bytes", "", "Memory of windows and ids.", OF(lane_bytes));
    add(to, WEIR_METRIC_COUNTER, "weir_cuts_total", "result=\"written\"", "Lane cuts sent to the window store.",
        OF(cuts_written));
    add(to, WEIR_METRIC_COUNTER, "weir_cuts_total", "result=\"fenced\"", "", OF(cuts_fenced));
    add(to, WEIR_METRIC_COUNTER, "weir_cuts_total", "result=\"retried\"", "", OF(cuts_retried));
    add(to, WEIR_METRIC_GAUGE, "weir_cuts_in_flight", "", "Cuts under way to the window store.", OF(cuts_in_flight));
    weir_metrics_add_call(to->metrics, WEIR_METRIC_GAUGE, "weir_watermark_seconds", "",
                          "Lowest watermark of this process' lanes, seconds since 1970.", lowest_watermark_seconds,
                          to->peers);
    weir_metrics_add_rows(to->metrics, WEIR_METRIC_GAUGE, "weir_lane_lag",
                          "Offsets of the lane that are yet to be taken.", lags, to->peers);
    weir_metrics_add_rows(to->metrics, WEIR_METRIC_GAUGE, "weir_lane_watermark_seconds",
                          "The lane's watermark, seconds since 1970: windows that end before it are closed.",
                          watermarks, to->peers);
    weir_metrics_add_rows(to->metrics, WEIR_METRIC_GAUGE, "weir_lane_unsealed_changes",
                          "Changed windows and new ids of the lane that no cut holds yet.", unsealed, to->peers);
    weir_metrics_add_rows(to->metrics, WEIR_METRIC_GAUGE, "weir_lane_paused",
                          "1 while the lane is not read: the window store is behind or away.", paused, to->peers);
}

void weir_workers_add_metrics(struct weir_metrics *metrics, struct weir_worker_peers *peers)
{
    const struct adding to = {metrics, peers};

    add_events(&to);
    add_lanes(&to);
    add(&to, WEIR_METRIC_GAUGE, "weir_cuts_in_flight_limit", "",
        "Cuts under way before lanes are paused (ring_cuts, for each thread).", OF(cuts_max));
    weir_metrics_add_call(metrics, WEIR_METRIC_GAUGE, "weir_window_store_up", "",
                          "1 while the window store takes cuts and gives lanes.", store_is_up, peers);
    weir_metrics_add_call(metrics, WEIR_METRIC_GAUGE, "weir_quarantine_up", "",
                          "1 while the quarantine topic takes records.", quarantine_is_up, peers);
    add(&to, WEIR_METRIC_GAUGE, "weir_quarantine_backlog", "",
        "Quarantine records that Kafka has not acknowledged yet.", OF(quarantine_backlog));
    weir_metrics_add_call(metrics, WEIR_METRIC_GAUGE, "weir_clock_jump_seconds", "",
                          "How far the system's clock jumped ahead of the time that passed.", jump_seconds, peers);
}
