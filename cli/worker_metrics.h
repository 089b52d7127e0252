/* The figures of a worker by lane, and its metrics. The worker's thread writes, the metrics server's reads. */
#ifndef WEIR_CLI_WORKER_METRICS_H
#define WEIR_CLI_WORKER_METRICS_H

#include "cli/worker.h"
#include "common/metrics.h"

/* Found or made; lives as long as the gauges. The worker's thread. */
struct weir_lane_gauges *weir_lane_gauges_of(struct weir_worker_gauges *gauges, int32_t partition, const char *lane);
void weir_worker_gauges_free(struct weir_worker_gauges *gauges);

/* NULL: it reads and writes all that it owns. A text that lasts. Any thread. */
const char *weir_worker_why_not_ready(const struct weir_worker_gauges *gauges);

void weir_worker_add_metrics(struct weir_metrics *metrics, struct weir_worker_gauges *gauges);

#endif
