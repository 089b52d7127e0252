/* A lane's windows in memory: totals by (series, start), what changed since the last cut, and which are due to close.
 *
 * A series (meter, customer, dimensions) is interned while it has windows; a window is 64 bytes, a line of the cache,
 * and 16 more where a catalog has meters of the kind `latest`. A series leads to the window that starts last; only the
 * others have a slot in the index. Both tables are open addressing with growth; nothing is allocated for an event that
 * hits a known window. One owner thread.
 */
#ifndef WEIR_AGGREGATOR_WINDOW_TABLE_H
#define WEIR_AGGREGATOR_WINDOW_TABLE_H

#include "aggregator/kept.h"
#include "aggregator/window_store.h"
#include "common/hash.h"
#include "common/model/catalog.h"
#include "common/model/reading.h"

struct weir_window_table;

/* What an event does to its windows. */
enum weir_window_step {
    WEIR_WINDOW_ADD,
    WEIR_WINDOW_UNDO, /* takes out what ADD put in; retractable meters only */
    WEIR_WINDOW_VOID, /* ADD and UNDO at once: the event is void before it comes */
};

/* One place where an event adds up: what find returned, and what the window would be after the event. */
struct weir_window_change {
    uint32_t window;
    bool is_new_unique; /* this and the rest is not set where adding changes no more than events and sum */
    struct weir_window_total after;
    struct weir_hash128 unique;     /* `unique` meters only */
    struct weir_kept_record record; /* where the window keeps its events */
};

/* Who and when: what windows need of the event beside its readings; and what they have found out of it so far, at first
 * nothing. */
struct weir_window_event {
    struct weir_slice customer;
    uint64_t id; /* fingerprint, as in the lane's ids */
    int64_t time, offset;
    uint32_t series;  /* one of the customer's */
    uint32_t number;  /* the customer's, as that series has it; 0: not known yet, or none */
    uint32_t made;    /* windows that were made for it */
    bool is_unpriced; /* one of its windows has no price */
};

/* Says whether a window of the series that starts then finds no price, and for which starts, [*ret_from, *ret_to), that
 * is so: start is one of them. NULL: never asked. */
struct weir_unpriced_check {
    void *context;
    bool (*is_unpriced)(void *context, struct weir_slice series_key, int64_t start, int64_t *ret_from, int64_t *ret_to);
};

/* limit: windows at most, >= 1. closes_at_once: windows are only ever closed all together (bounded input in any
 * disorder). The catalog must outlive the table. */
struct weir_window_table *weir_window_table_new(const struct weir_catalog *catalog, uint64_t limit, bool closes_at_once,
                                                const struct weir_unpriced_check *check);
struct weir_window_table *weir_window_table_free(struct weir_window_table *table); /* NULL in, NULL out */

/* Sets what of each reading is the lane's: series, place and, of texts, their fingerprint by the lane's secret;
 * customer_hash is weir_hash64 of the customer with seed 0. Returns the sum of a hash for each reading: which window it
 * adds to, and how much; the same in every process for as long as the meters are the same, in any order, since it goes
 * into the effect of an id. *ret_is_retractable: all meters can take the event out again; if not, the sum tells
 * nothing. Reads of the table only what never changes. */
uint64_t weir_window_table_hash(const struct weir_window_table *table, struct weir_reading *readings, uint32_t count,
                                uint64_t customer_hash, const struct weir_hash_key *secret, bool *ret_is_retractable);
/* An event on its way to a table. */
struct weir_window_coming {
    const struct weir_window_table *table;
    struct weir_reading *readings;
    uint32_t count; /* >= 1 */
    bool has_more;  /* stage 2 sets it, for stage 3: most events have neither a `unique` nor a `latest` meter */
};
/* Fetches what prepare will touch of the events' readings, one dependent step a stage (0 to 3), so that a group of
 * events waits for memory together. Sets their place, by which prepare finds the series if it is right by then. */
void weir_window_table_prefetch(struct weir_window_coming *events, size_t count, int stage);

enum weir_prepared {
    WEIR_PREPARED,
    WEIR_PREPARED_FULL,     /* the limit is reached */
    WEIR_PREPARED_OVERFLOW, /* the total does not fit */
    WEIR_PREPARED_ABSENT,   /* UNDO: no event is there to be taken out */
};

/* Finds or makes the window of each reading's series (UNDO only finds it) and works out its total after the reading,
 * changing nothing that counts. Changes of one event (its meters differ, so their windows do) are all prepared first
 * and then applied, so that an event counts whole or not at all. *ret_prepared: how many were; not all: the answer is
 * why the next one was not, and windows that were made for those before it are gone again. */
enum weir_prepared weir_window_table_prepare(struct weir_window_table *table, enum weir_window_step step,
                                             const struct weir_reading *readings, uint32_t count,
                                             struct weir_window_event *event, struct weir_window_change *ret_changes,
                                             uint32_t *ret_prepared);
/* Of the same step and readings. */
void weir_window_table_apply(struct weir_window_table *table, enum weir_window_step step,
                             const struct weir_reading *readings, const struct weir_window_change *changes,
                             uint32_t count);

/* Puts a stored window back (a lane is taken). WEIR_AGAIN: there is no room. WEIR_REJECT: its series key cannot be
 * read. */
enum weir_status weir_window_table_restore(struct weir_window_table *table, const struct weir_window *window,
                                           bool is_closed, struct weir_slice unique);

/* Closes the windows that end at or before the watermark; they count as changed. Windows of one end are many where
 * meters have the same window: all of a lane's may be due at the full hour. Closed in one cut they would make it many
 * times as large as others, and whatever Redis, which does nothing else meanwhile, is to do next would wait for it. So
 * between two calls of take_changed only a sixteenth of them is closed, or `least` if that is more, beside those that
 * changed anyway. Where windows of a later end are due as well, as in a replay, the earlier ones are closed at once.
 * Returns the time through which all are closed: the watermark, or less. */
int64_t weir_window_table_close(struct weir_window_table *table, int64_t watermark, uint32_t least);
/* Drops the closed windows that end at or before `end`. None may be changed (seal first; checked). */
void weir_window_table_forget(struct weir_window_table *table, int64_t end);

/* From here on cuts tell the series key of each open window once again (window_store.h, numbers). */
void weir_window_table_begin_round(struct weir_window_table *table);

/* The windows changed since the last call, and marks them unchanged; from here on another share may close. Calls visit
 * for each; the slices in it are views into the table that live until the next change. */
size_t weir_window_table_changed(const struct weir_window_table *table);
void weir_window_table_take_changed(struct weir_window_table *table,
                                    void (*visit)(void *context, const struct weir_cut_window *window), void *context);

/* Windows that are not closed. */
uint64_t weir_window_table_open(const struct weir_window_table *table);
/* Calls visit for open windows that did not change since the last call of take_changed, at most max of them, from a
 * place on; the place of the first is 1. Answers where to go on: 0 at the end. A window that is made meanwhile may be
 * passed by: it is one that changed. */
uint32_t weir_window_table_take_unchanged(struct weir_window_table *table, uint32_t place, size_t max,
                                          void (*visit)(void *context, const struct weir_cut_window *window),
                                          void *context);

/* Instead of cuts, at the end of bounded input: copies the next windows, at most max, customer by customer in the order
 * of their names, those of a series together; how many, 0: there are no more. *ret_is_whole: the last one's customer
 * has no more of them, as mostly. The keys are views into the table. No event may come any more. */
size_t weir_window_table_drain(struct weir_window_table *table, size_t max, struct weir_window *ret_windows,
                               bool *ret_is_whole);

uint64_t weir_window_table_count(const struct weir_window_table *table);
uint64_t weir_window_table_uniques(
    const struct weir_window_table *table); /* texts of `unique` windows, events of those that keep them */
size_t weir_window_table_bytes(const struct weir_window_table *table); /* memory held */

#endif
