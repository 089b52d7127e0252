/* The PostgreSQL ledger read as a whole, for reconcile: what was rated, lane by lane, and whether what is kept agrees
 * with the line items. Read-only, and all of it one snapshot, taken when the audit is opened: raters may go on
 * meanwhile.
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

/* One lane's share of a window, as it was last rated. Views live for the call. */
struct weir_audited_window {
    struct weir_window window;
    enum weir_unpriced unpriced;
    uint32_t revision;
};

/* Every share of the lane, in the order of customer and start. */
enum weir_status weir_ledger_audit_windows(struct weir_ledger_audit *audit, struct weir_slice lane,
                                           void (*visit)(void *context, const struct weir_audited_window *window),
                                           void *context, struct weir_error *reterr);

/* The lanes that hold shares of rated windows, and how many. */
enum weir_status weir_ledger_audit_lanes(struct weir_ledger_audit *audit,
                                         void (*visit)(void *context, struct weir_slice lane, uint64_t windows),
                                         void *context, struct weir_error *reterr);

/* A total that is kept and its line items, which do not add up to it. Views live for the call. */
#define WEIR_AUDIT_TOTALS(X)                                                                                           \
    X(PRICE_QUANTITY, price_quantity) X(PRICE_AMOUNT, price_amount) X(USAGE_AMOUNT, usage_amount) X(TRUE_UP, true_up)
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
    struct weir_slice price_book, meter; /* prices only; all prices of a meter in a version count together */
    uint32_t price_book_version;         /* prices only */
    struct weir_decimal kept;            /* in price_totals or billing_periods; 0 when no row is there */
    struct weir_decimal summed;          /* over line_items */
};

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
