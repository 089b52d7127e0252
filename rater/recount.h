/* The past counted again, as PostgreSQL sees it: what is on record of a meter's windows, and the runs that replace it
 * (docs/meter-changes.md). A run is a row of weir.reratings, so that line items, the audit log and reports name it as
 * they name a rerating. Of all of them one is under way at a time.
 *
 * One connection, opened at once; one thread.
 */
#ifndef WEIR_RATER_RECOUNT_H
#define WEIR_RATER_RECOUNT_H

#include "common/model/catalog.h"
#include "rater/rate.h"

/* Which windows: of one meter, that start in [from, to) (INT64_MIN and WEIR_TIME_NEVER: all); customer empty: all. */
struct weir_recount_filter {
    struct weir_slice meter, customer;
    int64_t from, to;
};

struct weir_recount_order {
    struct weir_recount_filter filter; /* as it was asked for */
    const char *reason;                /* never empty */
    const char *by;                    /* user@host */
    const char *source;                /* "kafka" or "files" */
    int catalog_version;
};

struct weir_recount_book;

enum weir_status weir_recount_book_open(const char *url, struct weir_recount_book **ret_book,
                                        struct weir_error *reterr);
struct weir_recount_book *weir_recount_book_free(struct weir_recount_book *book); /* NULL in, NULL out */

/* Begins a run, or goes on with the newest one of the same order that is not done. WEIR_FATAL: another rerating or
 * recount is under way. */
enum weir_status weir_recount_begin(struct weir_recount_book *book, const struct weir_recount_order *order,
                                    int64_t *ret_run, bool *ret_was_begun, struct weir_error *reterr);

/* A lane's share of a window on record. Views live until the next call with this book. */
struct weir_recount_stored {
    struct weir_lane_window share;
    struct weir_window_total
        before; /* what it was when the run came to it, if that replaced it already; else the same */
};
/* run 0: none. Shares come in no order. At most max + 1 of them: then there are too many. */
enum weir_status weir_recount_read(struct weir_recount_book *book, const struct weir_recount_filter *filter,
                                   int64_t run, int64_t max, struct weir_recount_stored **ret_stored, size_t *ret_count,
                                   struct weir_error *reterr);

/* What the run came to, over all its beginnings. */
struct weir_recount_result {
    uint64_t customers, shares, line_items;
    size_t charge_count;
    struct weir_recount_charge {
        struct weir_slice currency;
        struct weir_decimal amount;
    } * charges; /* what its line items add up to; views until the next call with this book */
};
enum weir_status weir_recount_end(struct weir_recount_book *book, int64_t run, struct weir_recount_result *ret_result,
                                  struct weir_error *reterr);

#endif
