/* Revenue by month as it stands in PostgreSQL (weir.revenue_months): what was invoiced and earned, and what is deferred
 * or not invoiced yet. The rules are in docs/revenue.md, and the arithmetic in schemas/postgres. One thread.
 */
#ifndef WEIR_RATER_REVENUE_H
#define WEIR_RATER_REVENUE_H

#include <stdbool.h>

#include "common/slice.h"
#include "common/status.h"

struct weir_revenue_filter {
    struct weir_slice customer; /* empty: all */
    const char *month;          /* "2026-01"; empty: all */
};
/* Whether a text is a month such as 2026-01. */
bool weir_revenue_is_month(const char *text);

/* A customer's contract in a month and a currency. Amounts are exact decimals. Views live for the call. */
struct weir_revenue_month {
    struct weir_slice month; /* "2026-01" */
    struct weir_slice customer, contract, currency;
    struct weir_slice invoiced, rounding, recognised, deferred, unbilled;
    struct weir_slice state; /* "open" or "closed" */
};
/* Calls visit for each, by month, customer, contract and currency. WEIR_RETRY: the server is away. WEIR_FATAL. */
enum weir_status weir_revenue_list(const char *url, const struct weir_revenue_filter *filter,
                                   void (*visit)(void *context, const struct weir_revenue_month *month), void *context,
                                   struct weir_error *reterr);

#endif
