/* What an ingest worker shows of itself: figures, readiness, progress, and that its memory has an end. */
#include <stddef.h>

#include "cli/worker_internal.h"
#include "cli/worker_metrics.h"
#include "common/calendar.h"

static void set_gauge(_Atomic uint64_t *gauge, uint64_t value)
{
    /* relaxed: a figure on a page, with no other memory hanging on it. */
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

static void show_lane(const struct weir_worker *worker, const struct worker_lane *owned)
{
    struct weir_lane_gauges *to = owned->gauges;
    int64_t watermark = owned->lane ? weir_lane_state(owned->lane)->watermark : 0;
    int64_t lag = worker->source ? worker->source->ops->lag(worker->source, owned->partition) : -1;

    /* relaxed: figures on a page. */
    atomic_store_explicit(&to->is_ours, true, memory_order_relaxed);
    atomic_store_explicit(&to->is_paused, owned->is_paused, memory_order_relaxed);
    atomic_store_explicit(&to->lag, lag, memory_order_relaxed);
    atomic_store_explicit(&to->watermark, watermark, memory_order_relaxed);
    set_gauge(&to->unsealed, owned->lane ? weir_lane_unsealed(owned->lane) : 0);
}

void weir_worker_show_gauges(struct weir_worker *worker)
{
    const struct weir_intake_counts *counts = weir_intake_counts(worker->intake);
    uint64_t windows = 0, ids = 0, bytes = 0, paused = 0, waiting = 0;
    int64_t watermark = WEIR_TIME_NEVER;

    for (int32_t i = 0; i < worker->partition_limit; i++) {
        const struct worker_lane *owned = worker->lanes[i];
        if (!owned)
            continue;
        show_lane(worker, owned);
        paused += owned->is_paused;
        waiting += owned->lane == NULL;
        if (!owned->lane)
            continue;
        windows += weir_lane_windows(owned->lane);
        ids += weir_lane_ids(owned->lane);
        bytes += weir_lane_bytes(owned->lane);
        if (weir_lane_state(owned->lane)->watermark < watermark)
            watermark = weir_lane_state(owned->lane)->watermark;
    }
    set_gauge(&worker->gauges.lanes, worker->lane_count);
    set_gauge(&worker->gauges.windows, windows);
    set_gauge(&worker->gauges.ids, ids);
    set_gauge(&worker->gauges.lane_bytes, bytes);
    set_gauge(&worker->gauges.lanes_paused, paused);
    set_gauge(&worker->gauges.lanes_waiting, waiting);
    set_gauge(&worker->gauges.cuts_in_flight, worker->settings.cuts_max - worker->free_count);
    set_gauge(&worker->gauges.quarantine_backlog, worker->quarantine->ops->backlog(worker->quarantine));
    set_gauge(&worker->gauges.bytes, counts->bytes);
    atomic_store_explicit(&worker->gauges.watermark, worker->lane_count ? watermark : 0, memory_order_relaxed);
    for (int i = 0; i < WEIR_OUTCOME_FULL; i++)
        set_gauge(&worker->gauges.outcomes[i], counts->outcomes[i]);
    for (int i = 0; i < WEIR_REASON_COUNT; i++)
        set_gauge(&worker->gauges.rejections[i], counts->rejections[i]);
}

void weir_worker_show_readiness(struct weir_worker *worker)
{
    const struct weir_source_ops *ops = worker->source->ops;

    /* relaxed: a text that lasts. */
    atomic_store_explicit(&worker->gauges.source_trouble, ops->trouble ? ops->trouble(worker->source) : NULL,
                          memory_order_relaxed);
    if (worker->peers == &worker->alone)
        weir_workers_show(worker->peers, worker->settings.until_end ? &worker->progress : NULL);
}

enum weir_status weir_worker_check_room(const struct weir_worker *worker, struct weir_error *reterr)
{
    const struct weir_lane_settings *most = &worker->settings.lane;
    uint64_t lanes = weir_workers_sum(worker->peers, offsetof(struct weir_worker_gauges, lanes));
    uint64_t windows = weir_workers_sum(worker->peers, offsetof(struct weir_worker_gauges, windows));
    uint64_t ids = weir_workers_sum(worker->peers, offsetof(struct weir_worker_gauges, ids));

    if (windows <= most->windows_max && ids <= most->ids_max)
        return WEIR_OK;
    return weir_fail(
        reterr, WEIR_FATAL,
        "%llu lanes hold %llu windows and %llu ids in memory, more than lane_windows_max or lane_ids_max allow. "
        "Raise them with the memory that they need, start more workers, or lower lateness; nothing was lost",
        (unsigned long long)lanes, (unsigned long long)windows, (unsigned long long)ids);
}
