/* Inside of window_table*.c: the structs, and what the files share. window_table_series.c has the series,
 * window_table_event.c what an event does, window_table_drain.c the end of bounded input, window_table.c windows, their
 * end and their cuts. */
#ifndef WEIR_AGGREGATOR_WINDOW_TABLE_INTERNAL_H
#define WEIR_AGGREGATOR_WINDOW_TABLE_INTERNAL_H

#include <assert.h>
#include <stdlib.h>

#include "aggregator/series_keys.h"
#include "aggregator/unique_set.h"
#include "aggregator/window_index.h"
#include "aggregator/window_table.h"

/* An interned (meter, customer, dimensions). */
struct series {
    char *key;                /* series key bytes, of the table's keys */
    uint32_t tag;             /* of its hash, as the index has it */
    uint32_t key_length : 24; /* 0: free, `latest` links the free ones */
    uint32_t priced : 8;      /* the number of the span in which its windows have a price; 0: of none */
    uint32_t meter;           /* index in the catalog; NO_METER: free, or a stored series whose meter is gone from it */
    uint32_t customer; /* a number from 1: series that have the same are one customer's. Others may be as well: they get
                          the same once an event has met both. NO_NUMBER: there are no more */
    uint32_t latest;   /* the window that starts last, which nearly every event hits; the others are in the index.
                          NONE: all are in the index (those of a meter whose length was another are in no order) */
    uint32_t window_count;
};
#define NO_METER UINT32_MAX
#define NO_NUMBER UINT32_MAX

/* Of a meter, what each event needs. */
struct meter {
    uint64_t hash;        /* what stands for it in hashes */
    uint32_t customer_at; /* in its series' keys */
    uint32_t group_at;    /* the text of its first group, there too, less the customer's length */
    uint8_t group_count;
    uint8_t aggregation; /* enum weir_aggregation */
    uint8_t window;      /* enum weir_window_length */
    uint8_t plain;       /* of its windows' flags: COUNTS, SUMS or none */
    bool has_more;       /* its windows have something elsewhere: texts, or what is in `latest` */
    bool keeps_events;
    bool is_retractable;
};

enum {
    IS_CLOSED = 1,
    IS_CHANGED = 2,
    IS_UNPRICED = 4,
    KEEPS_EVENTS = 8,
    HAS_LATEST = 16,
    /* An event adds no more to it than itself, or also its value: neither KEEPS_EVENTS nor HAS_LATEST. */
    COUNTS = 32,
    SUMS = 64,
    PLAIN = COUNTS | SUMS,
};

/* One line of the cache: what is left of weir_window_total is in `latest` of the table, if it is anything. */
struct window {
    int64_t start;
    union {
        struct weir_unique_set *unique; /* NULL: no texts, or none are kept */
        struct weir_kept *kept;         /* with KEEPS_EVENTS: retractable min, max, latest, unique */
    };
    uint64_t events, retracted;
    struct weir_decimal value;
    uint32_t series;
    uint32_t length_seconds; /* 31 days fit easily */
    union {
        uint32_t next_in_group;
        uint32_t earlier; /* of the series, where the table is linked */
    };
    uint16_t flags;
    uint16_t told; /* the round in which a cut told its series key; 0: none yet */
};

/* Of a window with HAS_LATEST. */
struct latest {
    int64_t time, offset;
};

/* All windows with the same end, in a list, so that closing and forgetting touch only what is due. */
struct group {
    int64_t end;
    uint32_t first, count;
};

/* The window of one length that was asked for last: most new ones are there. */
struct span {
    int64_t start, end;
};

/* A window on its way into the index. */
struct waiting {
    uint64_t hash;
    uint32_t position;
};
enum { WAITING_MAX = 16 };

/* A window that the event at hand made, and what was its series' latest before. */
struct made {
    uint32_t position, latest;
};

enum { PRICED_NUMBERS = 255, KEY_LENGTH_LIMIT = 1 << 24 };
static_assert((int)WEIR_SERIES_KEY_MAX < (int)KEY_LENGTH_LIMIT, "a series key's length has 24 bits");

struct weir_window_table {
    const struct weir_catalog *catalog;
    struct meter *meters; /* by index */
    struct weir_unpriced_check check;
    uint32_t customers;             /* numbers that were given to series */
    int64_t priced_from, priced_to; /* of starts: windows of series with that number have a price */
    uint32_t priced_number;         /* from 1 */
    uint64_t limit;
    uint64_t window_count;
    bool closes_at_once;     /* one group for all windows */
    bool is_linked;          /* from the series' latest on, by time: in place of window_index, and of groups */
    uint64_t walked;         /* links that were followed */
    int64_t closing_through; /* windows that end at or before it are closed, those of late events as soon as they are
                                made; of the last end before it all, or some so far */

    struct span spans[WEIR_WINDOW_LENGTH_COUNT];
    struct index series_index, window_index;
    struct waiting waiting[WAITING_MAX]; /* for window_index: put there together, when their slots are in the cache */
    uint32_t waiting_count;
    struct made *made; /* as many as the event tells; there is room for one of each meter */
    struct weir_series_keys *keys;
    struct series *series; /* [0] is nobody's: no meter has it */
    uint32_t series_used, series_room, free_series;
    struct window *windows; /* [0] holds no time */
    struct latest *latest;  /* by window; NULL until there is one to keep */
    uint32_t windows_used, windows_room, free_window;

    struct group *groups; /* by end, ascending */
    size_t group_count, group_room;
    size_t last_group;    /* the one that was found last, if it is still there */
    size_t closed_groups; /* the first ones: all of their windows are closed */
    bool is_half_closed;  /* the one behind them is begun */
    uint32_t closing;     /* the next window of it, when it is; those before it are closed */
    uint32_t closed;      /* since the last cut, of what had not changed anyway */

    uint16_t round; /* from 1, and from there again after the last number: each tells all that are open, so that none is
                       as far behind */
    uint32_t *changed;
    size_t changed_count, changed_room;
    size_t unique_bytes;
    uint64_t unique_count;

    uint32_t *drain; /* once draining: the windows in that order */
    uint64_t drained;
};

static_assert(sizeof(struct series) == 32, "two on a line of the cache");
static_assert(sizeof(struct window) == 64, "a line of the cache; what ARCHITECTURE.md says of memory");

/* Its events, where it keeps them. */
static inline struct weir_kept *window_kept(const struct window *window)
{
    return window->flags & KEEPS_EVENTS ? window->kept : NULL;
}

/* Its texts, where it keeps only those. */
static inline struct weir_unique_set *window_unique(const struct window *window)
{
    return window->flags & KEEPS_EVENTS ? NULL : window->unique;
}

static inline void window_keep_events(struct window *window, enum weir_aggregation aggregation)
{
    window->kept = weir_kept_new(aggregation);
    window->flags = (uint16_t)((window->flags & ~(uint32_t)PLAIN) | KEEPS_EVENTS);
}

static inline int64_t window_end(const struct window *window)
{
    return window->start + (int64_t)window->length_seconds * WEIR_SECOND;
}

/* None is held by windows[0]. */
static inline bool holds_time(const struct window *window, int64_t time)
{
    return (uint64_t)time - (uint64_t)window->start < (uint64_t)window->length_seconds * (uint64_t)WEIR_SECOND;
}

static inline struct weir_window_total window_total(const struct weir_window_table *table, uint32_t position)
{
    const struct window *window = &table->windows[position];
    struct weir_window_total total = {.events = window->events, .retracted = window->retracted, .value = window->value};

    if (window->flags & HAS_LATEST) {
        total.latest_time = table->latest[position].time;
        total.latest_offset = table->latest[position].offset;
    }
    return total;
}

/* Like memcmp, for what is mostly the same and mostly short: pieces may overlap. */
static inline bool is_same_8(const char *one, const char *other)
{
    uint64_t left, right;

    memcpy(&left, one, 8);
    memcpy(&right, other, 8);
    return left == right;
}

static inline bool is_same_text(const char *one, const char *other, size_t length)
{
    if (length >= 8) {
        for (size_t at = 0; at + 8 < length; at += 8)
            if (!is_same_8(one + at, other + at))
                return false;
        return is_same_8(one + length - 8, other + length - 8);
    }
    if (length >= 4) {
        uint32_t left[2], right[2];
        memcpy(&left[0], one, 4);
        memcpy(&left[1], one + length - 4, 4);
        memcpy(&right[0], other, 4);
        memcpy(&right[1], other + length - 4, 4);
        return left[0] == right[0] && left[1] == right[1];
    }
    for (size_t at = 0; at < length; at++)
        if (one[at] != other[at])
            return false;
    return true;
}

static inline struct weir_slice series_key(const struct weir_window_table *table, uint32_t series)
{
    return weir_slice_of(table->series[series].key, table->series[series].key_length);
}

void weir_window_make_series_room(struct weir_window_table *table);
/* Whether the texts of its groups are the reading's. It is a series of the reading's meter, which has groups, and of
 * the event's customer. */
bool weir_window_has_groups_of(const struct weir_window_table *table, const struct series *series,
                               const struct weir_reading *reading, const struct weir_window_event *event);
static inline bool is_customer_of(const struct series *series, const struct meter *meter, struct weir_slice customer)
{
    const char *at = series->key + meter->customer_at;
    uint16_t length;

    memcpy(&length, at, 2);
    return length == customer.length && is_same_text(at + 2, customer.data, length);
}

/* Whether it is the reading's. */
static inline bool is_series_of(const struct weir_window_table *table, const struct series *series,
                                const struct weir_reading *reading, const struct weir_window_event *event)
{
    if (series->meter != reading->meter)
        return false;
    const struct meter *meter = &table->meters[reading->meter];
    return (series->customer == event->number || is_customer_of(series, meter, event->customer))
           && (meter->group_count == 0 || weir_window_has_groups_of(table, series, reading, event));
}

void weir_window_learn_meter(const struct weir_meter *meter, struct meter *ret_meter);
/* The series of a reading, made if it is not there. */
uint32_t weir_window_find_series(struct weir_window_table *table, const struct weir_reading *reading,
                                 struct weir_window_event *event);
/* The series of a stored key, made if it is not there; NONE: it is no series key. *ret_meter: NULL when it is gone from
 * the catalog. */
uint32_t weir_window_restore_series(struct weir_window_table *table, struct weir_slice key,
                                    const struct weir_meter **ret_meter);
/* It has no windows. */
void weir_window_remove_series(struct weir_window_table *table, uint32_t position);

uint32_t weir_window_look(struct weir_window_table *table, uint32_t series, int64_t start); /* NONE: not there */
/* is_regular: the series' meter makes such windows. NONE: full. */
uint32_t weir_window_add(struct weir_window_table *table, uint32_t series, int64_t start, int64_t end, bool is_regular);
/* Takes back the one that was made last, and is as it was made. */
void weir_window_unmake(struct weir_window_table *table, struct made made);
void weir_window_set_latest(struct weir_window_table *table, uint32_t position, struct latest latest);

static inline void window_set_total(struct weir_window_table *table, uint32_t position,
                                    const struct weir_window_total *total)
{
    struct window *window = &table->windows[position];

    window->events = total->events;
    window->retracted = total->retracted;
    window->value = weir_decimal_by_words(&total->value); /* as it was just written */
    if (total->latest_time | total->latest_offset || window->flags & HAS_LATEST)
        weir_window_set_latest(table, position, (struct latest){total->latest_time, total->latest_offset});
}

/* It is not yet. */
void weir_window_mark_changed(struct weir_window_table *table, uint32_t position);

#endif
