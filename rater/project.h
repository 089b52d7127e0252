/* What is left of grants if windows that are not rated yet were: worked out as rating them would, and given up. Nothing
 * is written and nobody has to wait. */
#ifndef WEIR_RATER_PROJECT_H
#define WEIR_RATER_PROJECT_H

#include "rater/rate.h"

/* Views live for the call. */
struct weir_projected_grant {
    struct weir_slice customer, contract, grant, currency, funding; /* funding empty: the catalog has it no more */
    int64_t starts_at, expires_at;                                  /* WEIR_TIME_NEVER: it does not expire */
    const char *state;                                              /* active, future, expired, void, refund */
    struct weir_decimal balance;                                    /* as the ledger has it */
    struct weir_decimal projected;
};

/* With a ledger of PostgreSQL, which never writes any more. All grants of the customers and of the windows' customers;
 * of each customer all its windows stand in one call. now: the time that states are of. WEIR_RETRY: the server is away.
 * WEIR_REJECT, WEIR_FATAL: as weir_rater_rate. */
enum weir_status weir_rater_project(struct weir_rater *rater, const struct weir_slice *customers, size_t customer_count,
                                    const struct weir_lane_window *windows, size_t count, int64_t now,
                                    void (*visit)(void *context, const struct weir_projected_grant *grant),
                                    void *context, struct weir_error *reterr);

#endif
