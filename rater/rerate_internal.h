/* The parts of rerating: rerate.c (threads), rerate_worker.c (what each does with a chunk), rerate_rows.c (the report),
 * rerate_read.c (what PostgreSQL has of some customers), rerate_choose.c (which periods and meters of them),
 * rerate_fresh.c (a rater that begins with nothing, and what it charges); and of a run that writes: rerate_run.c (the
 * run's own rows), rerate_judge.c (what of a customer changes), rerate_lines.c (reversals and new rows),
 * rerate_accounts.c (balances), rerate_write.c (the transaction). Nobody else's.
 */
#ifndef WEIR_RATER_RERATE_INTERNAL_H
#define WEIR_RATER_RERATE_INTERNAL_H

#include <pthread.h>

#include "common/arena.h"
#include "common/calendar.h"
#include "rater/postgres.h"
#include "rater/postgres_value.h"
#include "rater/rate.h"
#include "rater/rerate.h"

enum {
    WEIR_RERATE_CHUNK = 64,   /* customers that are read with one set of statements */
    WEIR_RERATE_BATCH = 4096, /* windows that are rated at once; more where more start at one instant */
};

/* 1. rerate_read.c: what there is of the customers of a chunk */

/* A row of an answer; views live as long as the chunk. */
struct rerate_old_price {
    struct weir_slice contract, price_book, meter, price_key, currency;
    int64_t period_start;
    uint32_t price_book_version;
    int currency_places;
    uint64_t events;
    struct weir_decimal quantity, amount;
};

struct rerate_old_period {
    struct weir_slice contract;
    int64_t start, end;
    struct weir_decimal usage_amount, true_up;
    uint32_t true_up_revision;
    bool is_advance_charged, is_closed;
};

/* Fees and true-ups of one period and item, added up. */
struct rerate_old_other {
    struct weir_slice contract, item, currency;
    int64_t period_start;
    int currency_places;
    struct weir_decimal amount;
};

/* One customer's part of the chunk. */
struct rerate_customer {
    struct weir_slice customer;
    size_t price_count, period_count, other_count;
    struct rerate_old_price *prices;
    struct rerate_old_period *periods;
    struct rerate_old_other *others;
    int64_t from, to;        /* what is rerated: whole periods */
    struct weir_slice meter; /* the only one that is; empty: all */
    /* Prepaid amounts, by the catalog or in the ledger: what is drawn in one period decides what is left for the
     * others, so that all of it is rerated; likewise a minimum spend of whole terms, of the catalog or one that has
     * charged something. Or minimum quantities: all meters are. */
    bool has_prepaid, has_commitments;
    struct weir_state *accounts; /* the chunk's: with them, what the ledger has of both, and what was ordered */

    /* What the report shows. */
    int64_t shown_from, shown_to;
    struct weir_slice shown_meter;

    /* Of a run that writes. */
    bool is_changed;             /* by the report alone, until all is judged */
    size_t first_row, row_count; /* of the report */
    uint64_t windows, reversals, line_items;
};

struct rerate_chunk {
    size_t count;
    struct rerate_customer customers[WEIR_RERATE_CHUNK];
    struct weir_arena *arena; /* of the rows */
    struct weir_state *accounts;
    PGresult *results[4]; /* that they point into */
};

/* Contracts to which any catalog so far gave a minimum spend per term, sorted. */
struct rerate_term_minimums {
    PGresult *owned;
    struct weir_slice *contracts;
    size_t count;
};
/* Once for a run. The caller's to free, also after an error. */
enum weir_status weir_rerate_term_minimums_read(PGconn *connection, struct rerate_term_minimums *ret_minimums,
                                                struct weir_error *reterr);
void weir_rerate_term_minimums_free(struct rerate_term_minimums *minimums);

/* Reads totals, periods and others of the customers (sorted). */
enum weir_status weir_rerate_read(PGconn *connection, const struct weir_catalog *catalog,
                                  const struct rerate_term_minimums *minimums, const struct weir_slice *customers,
                                  size_t count, struct rerate_chunk *ret_chunk, struct weir_error *reterr);
void weir_rerate_chunk_free(struct rerate_chunk *chunk);

/* The customer, and from and to as texts, as parameters 1 to 3; `span` must stay as long as they do. */
struct rerate_span {
    char from[WEIR_TIME_TEXT_MAX], to[WEIR_TIME_TEXT_MAX];
};
struct rerate_span weir_rerate_span(const struct rerate_customer *customer);
void weir_rerate_add_span(struct weir_parameters *parameters, const struct rerate_customer *customer,
                          struct rerate_span *span);

/* One lane's share of a window, out of PostgreSQL. */
struct rerate_window {
    char *bytes; /* PQfreemem's */
    struct weir_slice customer, meter;
    struct weir_lane_window share;

    /* With terms: what it was rated under. Empty: null. */
    bool has_contract;
    struct weir_slice unpriced, contract, price_book, price_key;
    int64_t period_start;
    uint32_t price_book_version;
};

/* Windows of the chunk, in the order of customer, start, series and lane, as a COPY under way. */
enum weir_status weir_rerate_windows_begin(PGconn *connection, const struct rerate_chunk *chunk, bool has_terms,
                                           struct weir_error *reterr);
/* *ret_window.bytes NULL: there are no more. */
enum weir_status weir_rerate_windows_next(PGconn *connection, bool has_terms, struct rerate_window *ret_window,
                                          struct weir_error *reterr);

/* Pieces of a COPY that reads. */
bool weir_rerate_add_literal(PGconn *connection, struct weir_buffer *sql, const char *before, struct weir_slice text);
void weir_rerate_add_time(struct weir_buffer *sql, const char *before, int64_t time);
enum weir_status weir_rerate_copy_begin(PGconn *connection, const char *sql, const char *doing,
                                        struct weir_error *reterr);
/* The next row's fields, data NULL for null; views into *ret_bytes, PQfreemem's. *ret_bytes NULL: the end. */
enum weir_status weir_rerate_copy_next(PGconn *connection, struct weir_slice *fields, int count, const char *doing,
                                       char **ret_bytes, struct weir_error *reterr);

/* 2. rerate_fresh.c: what the customer is charged when everything is rated anew */

/* A ledger that keeps the line items of fees and true-ups. */
struct rerate_fresh {
    struct weir_ledger ledger;
    struct weir_rater *rater;
    const struct weir_catalog *catalog;
    const struct rerate_customer *customer;
    struct weir_state *state; /* the rater's */
    struct weir_line_item *others;
    size_t other_count, other_room;

    /* Of a run that writes: called for each line item, and after each batch with the windows that it rated. */
    void (*take_item)(void *context, const struct weir_line_item *item);
    void *context;
};

void weir_rerate_fresh_open(struct rerate_fresh *fresh, const struct weir_catalog *catalog);
void weir_rerate_fresh_close(struct rerate_fresh *fresh);
void weir_rerate_fresh_begin(struct rerate_fresh *fresh, const struct rerate_customer *customer);
/* Whole instants: no window of a later call starts when one of this does. */
enum weir_status weir_rerate_fresh_windows(struct rerate_fresh *fresh, const struct weir_lane_window *windows,
                                           size_t count, struct weir_error *reterr);
/* Fees and true-ups of the periods that have them so far, and what is drawn from prepaid amounts. */
enum weir_status weir_rerate_fresh_periods(struct rerate_fresh *fresh, struct weir_error *reterr);

/* The contract whose period this still is, and its end; NULL: the catalog has no such period any more. */
const struct weir_contract *weir_rerate_contract_of(const struct rerate_fresh *fresh,
                                                    const struct rerate_old_period *period, int64_t *ret_end);
/* Keeps what periods were that have neither usage nor fees now; the state is then what is to be stored. */
void weir_rerate_fresh_complete(struct rerate_fresh *fresh);

/* 3. rerate_choose.c: what of a customer is looked at */

/* WEIR_REJECT: the request names a meter, contract, price book or version that neither catalog nor ledger has, or a
 * customer that was never rated. Asked before anything else: a run under such names would never be done. */
enum weir_status weir_rerate_check_names(PGconn *connection, const struct weir_rerate_request *request,
                                         struct weir_error *reterr);

/* Whole billing periods, of before and of the catalog, that hold anything of what the request's times and meter choose.
 */
void weir_rerate_choose(const struct weir_rerate_request *request, struct rerate_customer *customer);
/* Of these, after they were rated anew, the ones in which the contract or price book that the request names charges,
 * before or after. from = to: none. */
void weir_rerate_narrow(const struct weir_rerate_request *request, const struct rerate_fresh *fresh,
                        struct rerate_customer *customer);
/* The rest of what has to be rerated with it, because of its commitments. */
enum weir_status weir_rerate_widen(PGconn *connection, const struct weir_rerate_request *request,
                                   struct rerate_customer *customer, struct weir_error *reterr);

/* 4. rerate.c: all customers, by threads */

/* run 0: nothing is written. Customers that the run is done with are passed by. The connection lists them. */
enum weir_status weir_rerate_all(const struct weir_rerate_request *request, PGconn *connection, int64_t run,
                                 int catalog_version, struct weir_rerate_report *ret_report, struct weir_error *reterr);

/* The meter of a price's key. */
struct weir_slice weir_rerate_price_meter(struct weir_slice price_key);
bool weir_rerate_is_in(const struct rerate_customer *customer, int64_t period_start);

/* 5. rerate_rows.c: the report */

/* Rows that one thread makes. */
struct rerate_rows {
    size_t count, room;
    struct weir_rerate_row *rows;
    struct weir_arena *arena; /* of their texts */
};

/* Adds what the customer was and would be charged, and notes in it which rows those are. false: a sum does not fit. */
bool weir_rerate_rows_add(struct rerate_rows *rows, const struct weir_rerate_request *request,
                          struct rerate_customer *customer, const struct rerate_fresh *fresh, bool *ret_is_changed);
/* Copies another thread's rows, of other customers. */
void weir_rerate_rows_append(struct rerate_rows *rows, const struct rerate_rows *from);
/* Sorts the rows, and hands them over. */
void weir_rerate_rows_report(struct rerate_rows *rows, struct weir_rerate_report *report);

#endif
