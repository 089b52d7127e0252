/* The page that Prometheus reads, and the two questions that an orchestrator asks, over HTTP (libmicrohttpd).
 *
 *   /metrics   text format 0.0.4
 *   /healthz   200 while the loop goes round (weir_daemon_alive), else 503: restart it
 *   /readyz    200 when it goes round and does its work, else 503 and why not
 *
 * Figures are C11 atomics that their owners update relaxed; the page reads them at any time. Register everything before
 * open.
 */
#ifndef WEIR_COMMON_METRICS_H
#define WEIR_COMMON_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

enum weir_metric_type { WEIR_METRIC_COUNTER, WEIR_METRIC_GAUGE };

enum { WEIR_METRICS_MAX = 256 };
/* ns; as long as WatchdogSec of the units: the longest step is the taking of a lane of the largest size. */
#define WEIR_SILENCE_MAX INT64_C(180000000000)

struct weir_metrics;

struct weir_metrics *weir_metrics_new(void);
/* Stops the server if there is one. NULL in, NULL out. */
struct weir_metrics *weir_metrics_free(struct weir_metrics *metrics);

/* name: "weir_events_total", kept by reference like the rest; rows of one name stand together and share help and type.
 * labels: "reason=\"too_late\"" or "". The value must outlive the metrics. */
void weir_metrics_add(struct weir_metrics *metrics, enum weir_metric_type type, const char *name, const char *labels,
                      const char *help, const _Atomic uint64_t *value);
/* One of many figures that one call knows by a number of its own; on the server's thread. */
struct weir_metric_figures {
    uint64_t (*read)(const void *context, size_t which);
    const void *context;
};
void weir_metrics_add_figure(struct weir_metrics *metrics, enum weir_metric_type type, const char *name,
                             const char *labels, const char *help, const struct weir_metric_figures *of, size_t which);
/* A figure that is worked out when the page is read, on the server's thread. */
void weir_metrics_add_call(struct weir_metrics *metrics, enum weir_metric_type type, const char *name,
                           const char *labels, const char *help, int64_t (*call)(void *context), void *context);

/* A figure of many things, each a row with labels of its own: `rows` calls emit for each, on the server's thread. */
struct weir_metric_rows {
    void *context;
    void (*emit)(void *page, const char *labels, int64_t value);
    void *page;
};
void weir_metrics_add_rows(struct weir_metrics *metrics, enum weir_metric_type type, const char *name, const char *help,
                           void (*rows)(const struct weir_metric_rows *to), void *context);

/* listen: "HOST:PORT" (HOST an IPv4 address or "localhost"), or "off". port 0: any free one; *ret_port (may be NULL) is
 * the one. */
enum weir_status weir_metrics_open(struct weir_metrics *metrics, const char *listen, uint16_t *ret_port,
                                   struct weir_error *reterr);
/* Any thread. reason: why not, for people; kept by reference; NULL when it is ready. */
void weir_metrics_set_ready(struct weir_metrics *metrics, bool is_ready, const char *reason);
/* Asked too when /readyz is: why not, or NULL when it is ready; on the server's thread. Before open. */
void weir_metrics_ready_call(struct weir_metrics *metrics, const char *(*why_not)(void *context), void *context);
/* /healthz answers 503 when weir_daemon_alive was not called for longer. Before open; else WEIR_SILENCE_MAX. */
void weir_metrics_set_silence_max(struct weir_metrics *metrics, int64_t silence);
/* The page's text, for tests; to be freed. */
char *weir_metrics_page(const struct weir_metrics *metrics);

#endif
