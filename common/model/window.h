/* A window's identity and its absolute total: what lanes compute, stores keep and the rater prices.
 *
 * The series key is self-describing bytes, so that no process-local number ever reaches a store:
 *   u16 meter length, meter | u16 customer length, customer | u8 n | n * (u16 name length, name, u16 text length, text)
 * lengths little endian; dimensions in the meter's group_by order. A reader rejects any other shape
 * (weir_series_parse).
 */
#ifndef WEIR_COMMON_MODEL_WINDOW_H
#define WEIR_COMMON_MODEL_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "common/decimal.h"
#include "common/model/event.h"
#include "common/slice.h"

enum {
    WEIR_KEY_MAX = 64,        /* bytes of a catalog key (meter, price book, ...) */
    WEIR_DIMENSIONS_MAX = 8,  /* group_by names of one meter */
    WEIR_PATH_TEXT_MAX = 128, /* bytes of a path or group_by name */
    WEIR_SERIES_KEY_MAX = 2 + WEIR_KEY_MAX + 2 + WEIR_IDENTIFIER_MAX + 1
                          + WEIR_DIMENSIONS_MAX * (2 + WEIR_PATH_TEXT_MAX + 2 + WEIR_IDENTIFIER_MAX),
    WEIR_UNIQUE_BYTES = 16, /* fingerprint of one distinct text in a `unique` window */
};

struct weir_dimension {
    struct weir_slice name;
    struct weir_slice text;
};

/* The parsed form; views into the key's bytes. */
struct weir_series {
    struct weir_slice meter;
    struct weir_slice customer;
    uint32_t dimension_count;
    struct weir_dimension dimensions[WEIR_DIMENSIONS_MAX];
};

size_t weir_series_write(const struct weir_series *series, char bytes[WEIR_SERIES_KEY_MAX]);
bool weir_series_parse(struct weir_slice bytes, struct weir_series *ret_series); /* false: not a series key */

/* Absolute, never an increment. What `value` is depends on the meter's aggregation:
 * count: 0 (events says it); sum, avg: the sum; min, max; latest: the value at (latest_time, latest_offset);
 * unique: the number of distinct texts. */
struct weir_window_total {
    uint64_t events;    /* those that count now: retracted ones are not among them */
    uint64_t retracted; /* events that were taken out again, or were void before they came */
    struct weir_decimal value;
    int64_t latest_time;   /* `latest` only, else 0 */
    int64_t latest_offset; /* `latest` only, else 0 */
};

/* How often the window changed. It only rises in a lane's history (an event adds 1, its retraction 1 more), so of two
 * totals the one with fewer changes is the older one. */
static inline uint64_t weir_window_total_changes(const struct weir_window_total *total)
{
    return total->events + 2 * total->retracted;
}

/* Whether a is an older state of the window than b, or was rebuilt from less of its events. In a lane's history neither
 * the changes nor the events that came (counted or retracted) ever get fewer; of a window that was rebuilt without some
 * of its events only one of the two may tell: 60 counted and 25 retracted are more changes than 100 counted. */
static inline bool weir_window_total_is_older(const struct weir_window_total *a, const struct weir_window_total *b)
{
    return weir_window_total_changes(a) < weir_window_total_changes(b)
           || a->events + a->retracted < b->events + b->retracted;
}

/* 48 bytes: u64 events | i128 value | i64 latest_time | i64 latest_offset | u64 retracted, little endian. */
enum { WEIR_WINDOW_TOTAL_BYTES = 48 };
void weir_window_total_store(const struct weir_window_total *total, unsigned char bytes[WEIR_WINDOW_TOTAL_BYTES]);
struct weir_window_total weir_window_total_load(const unsigned char bytes[WEIR_WINDOW_TOTAL_BYTES]);

/* One window: which, and how much. */
struct weir_window {
    struct weir_slice series_key;
    int64_t start; /* [start, end), ns since 1970 */
    int64_t end;
    struct weir_window_total total;
};

#endif
