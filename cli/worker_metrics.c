/* What an ingest worker shows lane by lane, and of what holds it up. docs/metrics.md has every name. */
#include "cli/worker_metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/calendar.h"

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

static void each_lane(const struct weir_metric_rows *to, enum figure figure)
{
    const struct weir_worker_gauges *gauges = to->context;
    int32_t limit = atomic_load_explicit(&gauges->partition_limit, memory_order_acquire);

    for (int32_t i = 0; i < limit; i++) {
        const struct weir_lane_gauges *lane = atomic_load_explicit(&gauges->by_partition[i], memory_order_acquire);
        if (lane && atomic_load_explicit(&lane->is_ours, memory_order_relaxed)
            && (figure != LAG || figure_of(lane, LAG) >= 0))
            to->emit(to->page, lane->labels, figure_of(lane, figure));
    }
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

static int64_t store_is_up(void *context)
{
    return !weir_outage_is_on(&((struct weir_worker_gauges *)context)->store);
}

static int64_t quarantine_is_up(void *context)
{
    return !weir_outage_is_on(&((struct weir_worker_gauges *)context)->quarantine);
}

static int64_t jump_seconds(void *context)
{
    return atomic_load_explicit(&((struct weir_worker_gauges *)context)->clock_jump, memory_order_relaxed)
           / WEIR_SECOND;
}

const char *weir_worker_why_not_ready(const struct weir_worker_gauges *gauges)
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

void weir_worker_add_metrics(struct weir_metrics *metrics, struct weir_worker_gauges *gauges)
{
    weir_metrics_add_rows(metrics, WEIR_METRIC_GAUGE, "weir_lane_lag", "Offsets of the lane that are yet to be taken.",
                          lags, gauges);
    weir_metrics_add_rows(metrics, WEIR_METRIC_GAUGE, "weir_lane_watermark_seconds",
                          "The lane's watermark, seconds since 1970: windows that end before it are closed.",
                          watermarks, gauges);
    weir_metrics_add_rows(metrics, WEIR_METRIC_GAUGE, "weir_lane_unsealed_changes",
                          "Changed windows and new ids of the lane that no cut holds yet.", unsealed, gauges);
    weir_metrics_add_rows(metrics, WEIR_METRIC_GAUGE, "weir_lane_paused",
                          "1 while the lane is not read: the window store is behind or away.", paused, gauges);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_cuts_in_flight_limit", "",
                     "Cuts under way before lanes are paused (ring_cuts).", &gauges->cuts_max);
    weir_metrics_add_call(metrics, WEIR_METRIC_GAUGE, "weir_window_store_up", "",
                          "1 while the window store takes cuts and gives lanes.", store_is_up, gauges);
    weir_metrics_add_call(metrics, WEIR_METRIC_GAUGE, "weir_quarantine_up", "",
                          "1 while the quarantine topic takes records.", quarantine_is_up, gauges);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_quarantine_backlog", "",
                     "Quarantine records that Kafka has not acknowledged yet.", &gauges->quarantine_backlog);
    weir_metrics_add_call(metrics, WEIR_METRIC_GAUGE, "weir_clock_jump_seconds", "",
                          "How far the system's clock jumped ahead of the time that passed.", jump_seconds, gauges);
}
