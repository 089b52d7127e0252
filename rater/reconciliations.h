/* What reconciliations found, kept in PostgreSQL: written by `weir reconcile`, shown by every rater's page of metrics.
 *
 * A handle connects when it is first needed and again after a failure. One thread.
 */
#ifndef WEIR_RATER_RECONCILIATIONS_H
#define WEIR_RATER_RECONCILIATIONS_H

#include <stdint.h>

#include "common/status.h"

/* What can differ. The word stands in reports, in metrics and in weir.reconciliations; docs/operations.md tells the one
 * on call what each means and what to do. */
#define WEIR_DIFFERENCES(X)                                                                                            \
    X(OFFSET, offset)           /* a lane's cut is not within what Kafka holds */                                      \
    X(COUNTS, counts)           /* a lane's events read are not what became of them */                                 \
    X(LANE, lane)               /* rated, and Redis does not know the lane */                                          \
    X(MISSING, missing)         /* rated, and gone from Redis before its time */                                       \
    X(UNRATED, unrated)         /* closed, and neither rated nor waiting to be */                                      \
    X(NEWER, newer)             /* changed since it was rated, and not waiting to be rated again */                    \
    X(OLDER, older)             /* Redis has less than what was rated */                                               \
    X(CONFLICTING, conflicting) /* as many events as were rated, and another value */                                  \
    X(TOTAL, total)             /* the ledger does not add up */
enum weir_difference {
#define WEIR_X(upper, lower) WEIR_DIFFERENCE_##upper,
    WEIR_DIFFERENCES(WEIR_X)
#undef WEIR_X
        WEIR_DIFFERENCE_COUNT
};
extern const char *const weir_difference_name[WEIR_DIFFERENCE_COUNT];

struct weir_reconciliation {
    int64_t started_at, finished_at; /* ns; both 0: there was none yet */
    uint64_t lanes, windows, waiting, behind;
    uint64_t repaired;
    uint64_t differences[WEIR_DIFFERENCE_COUNT]; /* what is left, by kind */
};

uint64_t weir_reconciliation_differences(const struct weir_reconciliation *reconciliation); /* of all kinds */

struct weir_reconciliations;

struct weir_reconciliations *weir_reconciliations_new(const char *url); /* any libpq connection string */
struct weir_reconciliations *weir_reconciliations_free(struct weir_reconciliations *reconciliations);

/* Appends; finished_at is the server's clock. WEIR_RETRY: it may or may not be there, which harms nothing. */
enum weir_status weir_reconciliations_add(struct weir_reconciliations *reconciliations, const char *topic,
                                          const struct weir_reconciliation *reconciliation, struct weir_error *reterr);
/* The topic's last one. */
enum weir_status weir_reconciliations_last(struct weir_reconciliations *reconciliations, const char *topic,
                                           struct weir_reconciliation *ret_last, struct weir_error *reterr);

#endif
