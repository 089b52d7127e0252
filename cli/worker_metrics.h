/* What the workers of a process show: figures in all and by lane, readiness, progress. Their threads write, the metrics
 * server's and the main thread read. docs/metrics.md has every name. */
#ifndef WEIR_CLI_WORKER_METRICS_H
#define WEIR_CLI_WORKER_METRICS_H

#include "cli/worker.h"
#include "common/daemon.h"
#include "common/metrics.h"

/* Found or made; lives as long as the gauges. The worker's thread. */
struct weir_lane_gauges *weir_lane_gauges_of(struct weir_worker_gauges *gauges, int32_t partition, const char *lane);
void weir_worker_gauges_free(struct weir_worker_gauges *gauges);

/* The sum of the uint64_t atomic at that offset. Any thread, as the next two. */
uint64_t weir_workers_sum(const struct weir_worker_peers *peers, size_t offset);
uint64_t weir_workers_outcome(const struct weir_worker_peers *peers, enum weir_outcome outcome);
/* Messages that were taken, whatever became of them. */
uint64_t weir_workers_read(const struct weir_worker_peers *peers);
/* NULL: they read and write all that they own. A text that lasts. Any thread. */
const char *weir_workers_why_not_ready(const struct weir_worker_peers *peers);
/* To systemd, and on a terminal (progress, NULL: nothing). Main thread. */
void weir_workers_show(const struct weir_worker_peers *peers, struct weir_progress *progress);

/* All figures of the page. peers is complete and outlives the metrics. */
void weir_workers_add_metrics(struct weir_metrics *metrics, struct weir_worker_peers *peers);

#endif
