/* Rating the past again: what is stored of each window, priced as if from the start of each billing period.
 *
 * A customer's windows go through a rater of their own (rater/rate.h) that begins with nothing, in the order of their
 * start: what it charges is what the ledger should say. Customers are shared out to threads, each with connections and
 * a rater of its own; nothing is shared but the list of customers. With run 0 everything is read in read-only
 * transactions and only the report is made (`weir rerate --dry-run`, `weir backtest`); otherwise differences are
 * written, customer by customer, each under the lock that raters take (docs/rerating.md).
 */
#ifndef WEIR_RATER_RERATE_H
#define WEIR_RATER_RERATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/model/catalog.h"
#include "common/status.h"

enum {
    WEIR_RERATE_WORKERS_MAX = 64,
    /* Line items of one customer, old and new, that a thread of a run that writes keeps: some 7 MB. A customer with
     * more is read twice, as a stream. */
    WEIR_RERATE_KEPT_LINES = 32768,
};

/* What is looked at: all billing periods that hold anything of it, whole; of a customer with prepaid amounts that has
 * any, all periods and meters (docs/rerating.md). Empty texts: all. */
struct weir_rerate_filter {
    struct weir_slice customer, meter, contract, price_book;
    uint32_t price_book_version; /* 0: all */
    int64_t from, to;            /* [from, to) of windows' starts; INT64_MIN and WEIR_TIME_NEVER: all */
};

struct weir_rerate_counts {
    uint64_t customers_all; /* that are there to be looked at */
    uint64_t customers;     /* looked at so far */
    uint64_t changed;       /* of them, with another charge */
    uint64_t windows;       /* lanes' shares read */
    uint64_t unpriced;      /* of them, without a price now */
    uint64_t reversals;     /* written */
    uint64_t line_items;    /* written, reversals aside */
};

/* A run that writes. */
struct weir_rerate_order {
    const char *reason;  /* never empty */
    const char *by;      /* user@host */
    int catalog_version; /* of the request's catalog: the one in force */
};

struct weir_rerate_request {
    const char *url;
    const struct weir_catalog *catalog; /* outlives the call */
    struct weir_rerate_filter filter;
    int workers;              /* 1 to WEIR_RERATE_WORKERS_MAX */
    size_t kept_lines;        /* 0: WEIR_RERATE_KEPT_LINES */
    bool has_items;           /* rows by customer and item, not by customer alone */
    bool shows_chosen;        /* the report has what was chosen alone, also of a customer that is priced whole */
    const _Atomic bool *stop; /* NULL: never */
    /* Called by the thread that called, some times a second. */
    void (*progress)(void *context, const struct weir_rerate_counts *counts);
    void *context;
};

/* What a customer (or one meter, fee or commitment of it) is charged in the periods that were looked at. */
struct weir_rerate_row {
    struct weir_slice customer;
    struct weir_slice item; /* empty without has_items */
    struct weir_slice currency;
    int currency_places;
    struct weir_decimal before, after;
};

struct weir_rerate_report {
    struct weir_rerate_counts counts;
    size_t row_count;
    struct weir_rerate_row *rows; /* by customer, item, currency */
    void *owned;                  /* their texts */
};

/* Prices the past and writes nothing. WEIR_OK: *ret_report is the caller's to free. WEIR_REJECT: a charge does not fit,
 * or the catalog holds what cannot be billed; WEIR_RETRY: the server is away; WEIR_AGAIN: stopped; WEIR_FATAL. */
enum weir_status weir_rerate_look(const struct weir_rerate_request *request, struct weir_rerate_report *ret_report,
                                  struct weir_error *reterr);

/* Prices the past and brings the ledger to it (docs/rerating.md). A run that was broken off (the same order and filter,
 * the same catalog) is gone on with: its customers that are done stay as they are, and are in the report. *ret_run is
 * the run's number. Has WEIR_FATAL also for: another run is under way, another catalog was applied meanwhile. What was
 * written when it fails stays, and is whole customers. has_items must be false. */
enum weir_status weir_rerate_write(const struct weir_rerate_request *request, const struct weir_rerate_order *order,
                                   int64_t *ret_run, bool *ret_was_begun, struct weir_rerate_report *ret_report,
                                   struct weir_error *reterr);

void weir_rerate_report_free(struct weir_rerate_report *report);

#endif
