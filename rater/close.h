/* Closing billing periods: for each customer one transaction of PostgreSQL, under the lock that raters take, which
 * makes the invoices of all periods that ended and have nothing in their way. What it does is in schemas/postgres
 * (weir.close_books), by docs/invoices.md and docs/revenue.md; here is whom it is done for, and what is told of it.
 *
 * What a customer's transaction did stays, whatever becomes of the run: the same run again finds it done. Customers are
 * closed by several threads at once, and told of by the calling one in the order of their names.
 */
#ifndef WEIR_RATER_CLOSE_H
#define WEIR_RATER_CLOSE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/slice.h"
#include "common/status.h"

enum { WEIR_CLOSE_WORKERS_MAX = 64 };

/* What an invoice says of seller and buyer, and to whom taxes are left: JSON texts. NULL functions are not allowed. */
struct weir_invoice_details {
    const char *seller;         /* an object */
    const char *tax_categories; /* an object: item to category, "" for all others */
    /* The customer's object, the caller's. From any thread. */
    char *(*buyer)(void *context, struct weir_slice customer);
    void *context;
};

/* What became of a period: an invoice (made now, or a draft of before that is final now), or why it could not be
 * closed; or, of kind month, calendar months of a contract that were not, from the first to the last. Views live for
 * the call. */
struct weir_closed_period {
    struct weir_slice customer, contract;
    int64_t period_start, period_end; /* ns */
    int64_t invoice;                  /* 0: none, and `why` says what it waits for */
    int64_t number;                   /* 0: a draft */
    bool was_made;                    /* now */
    struct weir_slice kind; /* of the invoice: period, advance, correction; month; empty: a period that is open */
    struct weir_slice total, currency;
    struct weir_slice why;
};

struct weir_close_counts {
    uint64_t customers;        /* looked at */
    uint64_t invoices;         /* made */
    uint64_t issued;           /* got their number */
    uint64_t left_open;        /* periods */
    uint64_t months_left_open; /* calendar months of a contract; not looked for of drafts, nor with only_due */
    uint64_t expired;          /* customers whose grants had expired, and what was left of them is gone now */
    uint64_t waiting;          /* grants that have expired, and whose usage is not all rated */
};

struct weir_close_request {
    const char *url;
    struct weir_slice customer; /* empty: all */
    const char *through;        /* a day, in each contract's time zone, or an instant (weir_close_is_through) */
    bool is_draft;              /* no numbers are given */
    bool is_dry;                /* nothing is written: each customer's transaction is given up */
    bool only_due; /* customers with a period that has no invoice, not those with late usage alone; nothing is written
                      where there is nothing to do */
    int workers;   /* threads, each with a connection of its own: 1 to WEIR_CLOSE_WORKERS_MAX */
    const char *series, *by;
    const struct weir_invoice_details *details;
    const _Atomic bool *stop; /* NULL: never */
    void (*visit)(void *context, const struct weir_closed_period *period);
    void *context;
};

/* Whether a text is a day (2026-01-31) or an instant (2026-02-01T00:00:00Z). */
bool weir_close_is_through(const char *text);

/* WEIR_AGAIN: stopped by the flag, or another closing is under way. WEIR_REJECT: no such customer. WEIR_RETRY: the
 * server is away. WEIR_FATAL. *ret_counts is filled in any case. */
enum weir_status weir_close(const struct weir_close_request *request, struct weir_close_counts *ret_counts,
                            struct weir_error *reterr);

#endif
