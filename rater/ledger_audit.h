/* The PostgreSQL ledger read as a whole, for reconcile: what was rated of a lane's windows, and whether what is kept
 * agrees with the line items. Read-only, and all of it one snapshot, taken when the audit is opened, but for what is
 * asked for as of now: raters may go on meanwhile.
 *
 * Streams: memory does not grow with the ledger. One thread.
 */
#ifndef WEIR_RATER_LEDGER_AUDIT_H
#define WEIR_RATER_LEDGER_AUDIT_H

#include "common/model/window.h"
#include "common/status.h"
#include "rater/state.h"

struct weir_ledger_audit;

/* url: any libpq connection string. Statuses as weir_ledger_postgres_open. */
enum weir_status weir_ledger_audit_open(const char *url, struct weir_ledger_audit **ret_audit,
                                        struct weir_error *reterr);
struct weir_ledger_audit *weir_ledger_audit_free(struct weir_ledger_audit *audit); /* NULL in, NULL out */

/* One lane's share of a window, as it was last rated. */
struct weir_audited_share {
    struct weir_window_total total;
    uint32_t revision; /* 0: never rated */
    bool is_refused;   /* it cannot be rated (weir_rater_rate); weir.held_usage says why */
    bool is_recounted; /* its last rating was weir recount's: the store does not know of it */
};

/* What was rated of the lane's share in each of `count` windows, as of the snapshot, or (is_now) as of now. Their
 * totals are not looked at. */
enum weir_status weir_ledger_audit_find(struct weir_ledger_audit *audit, bool is_now, struct weir_slice lane,
                                        const struct weir_window *windows, size_t count,
                                        struct weir_audited_share *ret_shares, struct weir_error *reterr);

/* How many shares of a lane were rated by raters of the windows that end at one time: in the order of lane, then end.
 * Views live for the call. */
struct weir_audited_span {
    struct weir_slice lane;
    int64_t end;
    uint64_t shares;
};
enum weir_status weir_ledger_audit_spans(struct weir_ledger_audit *audit,
                                         void (*visit)(void *context, const struct weir_audited_span *span),
                                         void *context, struct weir_error *reterr);

/* A total that is kept and what it should be the sum of, which does not add up to it: line items, or (WINDOW_*) the
 * rated windows of one price. Views live for the call. */
#define WEIR_AUDIT_TOTALS(X)                                                                                           \
    X(PRICE_QUANTITY, price_quantity)                                                                                  \
    X(PRICE_AMOUNT, price_amount)                                                                                      \
    X(USAGE_AMOUNT, usage_amount)                                                                                      \
    X(TRUE_UP, true_up) X(WINDOW_QUANTITY, window_quantity) X(WINDOW_EVENTS, window_events)
enum weir_audit_total {
#define WEIR_X(upper, lower) WEIR_AUDIT_##upper,
    WEIR_AUDIT_TOTALS(WEIR_X)
#undef WEIR_X
        WEIR_AUDIT_TOTAL_COUNT
};
extern const char *const weir_audit_total_name[WEIR_AUDIT_TOTAL_COUNT];

struct weir_audit_difference {
    enum weir_audit_total total;
    struct weir_slice customer, contract;
    int64_t period_start;
    struct weir_slice price_book, meter; /* prices only; all prices of a meter in a version count together, and WINDOW_*
                                            have the price's key for meter */
    uint32_t price_book_version;         /* prices only */
    struct weir_decimal kept;            /* in price_totals or billing_periods; 0 when no row is there */
    struct weir_decimal summed;          /* over line_items or rated_windows */
};

/* Line items against price_totals and billing_periods; rated windows against price_totals: their events always, their
 * quantities where weir.meters knows the meter and it is no average (whose quotient is rounded otherwise here). */
enum weir_status weir_ledger_audit_totals(struct weir_ledger_audit *audit,
                                          void (*visit)(void *context, const struct weir_audit_difference *difference),
                                          void *context, struct weir_error *reterr);

/* How much there is. */
struct weir_audit_counts {
    uint64_t line_items, rated_windows, unpriced_windows, price_totals, billing_periods, customers;
};
enum weir_status weir_ledger_audit_counts(struct weir_ledger_audit *audit, struct weir_audit_counts *ret_counts,
                                          struct weir_error *reterr);

#endif
