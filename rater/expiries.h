/* Expiries that a closing writes: what is left of grants that expired by its time goes out of their balances, on into
 * others or not (docs/credits.md 5), whether a rater is running or not. One thread. */
#ifndef WEIR_RATER_EXPIRIES_H
#define WEIR_RATER_EXPIRIES_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/slice.h"
#include "common/status.h"

struct weir_expiries_request {
    const char *url;
    PGconn *connection; /* to look with; in no transaction */
    struct weir_slice customer;
    const char *day, *instant; /* one of them "" (weir.closing_end) */
    bool is_dry;               /* counted, and nothing written */
};

struct weir_expiries_counts {
    uint64_t customers; /* whose grants had expired */
    uint64_t waiting;   /* grants that have expired, while usage of before is not all rated */
};

/* By the catalog that was applied last; where none was, it is left to the raters, and all of it waits. WEIR_RETRY: the
 * server is away; the same again is right. */
enum weir_status weir_expiries_write(const struct weir_expiries_request *request,
                                     struct weir_expiries_counts *ret_counts, struct weir_error *reterr);

#endif
