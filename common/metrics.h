/* Counters and gauges for whoever watches a process, in Prometheus' text format.
 *
 * Everything is registered before threads start; from then on any thread adds to what it was given (or to an atomic of its own that it
 * registered), relaxed, and any thread may write the page. Values are whole numbers: what has a unit carries it in its
 * name (_bytes, _milliseconds), so that nothing here needs a fraction.
 */
#ifndef WEIR_COMMON_METRICS_H
#define WEIR_COMMON_METRICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define WEIR_METRIC_KINDS(X) X(COUNTER, counter) X(GAUGE, gauge)
enum weir_metric_kind {
#define WEIR_X(upper, lower) WEIR_METRIC_##upper,
    WEIR_METRIC_KINDS(WEIR_X)
#undef WEIR_X
        WEIR_METRIC_KIND_COUNT
};

struct weir_metrics;

struct weir_metrics *weir_metrics_new(void);
struct weir_metrics *weir_metrics_free(struct weir_metrics *metrics); /* NULL in, NULL out */

/* What a row is: its kind, its name ("weir_events_total": letters, digits and underscores; counters end in _total), what
 * it tells in a sentence, and one label or none ("reason", "too_late"). Copied. Rows of one name have one kind and one
 * help text, and differ in their label's value (all checked). */
struct weir_metric_row {
    enum weir_metric_kind kind;
    const char *name;
    const char *help;
    const char *label; /* NULL: none */
    const char *label_value;
};

/* A value that the registry keeps: add to it with weir_metric_add or set it; lives as long as the registry. */
_Atomic uint64_t *weir_metrics_add(struct weir_metrics *metrics, const struct weir_metric_row *row);
/* A value that stands elsewhere, read with relaxed order; must outlive the registry. */
void weir_metrics_show(struct weir_metrics *metrics, const struct weir_metric_row *row,
                       const _Atomic uint64_t *value);
/* A value that is worked out when the page is written, on whichever thread writes it; may be negative. */
void weir_metrics_ask(struct weir_metrics *metrics, const struct weir_metric_row *row,
                      int64_t (*read)(const void *context), const void *context);

static inline void weir_metric_add(_Atomic uint64_t *value, uint64_t count)
{
    atomic_fetch_add_explicit(value, count, memory_order_relaxed); /* a count orders nothing */
}

/* The page: malloc'd, the caller frees; NUL-terminated, *ret_length without it. */
char *weir_metrics_page(const struct weir_metrics *metrics, size_t *ret_length);

#endif
