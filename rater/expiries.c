#include "rater/expiries.h"

#include <stdlib.h>
#include <time.h>

#include "rater/apply.h"
#include "rater/calendars.h"
#include "rater/postgres.h"
#include "rater/postgres_value.h"
#include "rater/rate.h"

enum { CUSTOMERS = 100, ATTEMPTS = 5, PAUSE = 100 * 1000 * 1000 };

/* Usage is known through the slowest lane's time, and no further than an open gap, as raters have it. */
static const char list_sql[] =
    "WITH known AS (SELECT least(now(), (SELECT min(l.through) FROM weir.live_lanes AS l),"
    " (SELECT min(time_from) FROM weir.open_gaps)) AS at)"
    " SELECT g.customer, max(g.expires_at) FILTER (WHERE g.expires_at <= k.at),"
    " count(*) FILTER (WHERE g.expires_at <= k.at), count(*) FROM known AS k CROSS JOIN"
    " weir.expired_grants('-infinity', coalesce(nullif($3::text, '')::timestamptz, nullif($2::text, '')::date"
    " + interval '2 days')) AS g WHERE g.expires_at <= weir.closing_end(g.contract, nullif($2::text, '')::date,"
    " nullif($3::text, '')::timestamptz) AND $1::text IN ('', g.customer) GROUP BY 1 ORDER BY 2, 1";

static enum weir_status list(const struct weir_expiries_request *request, PGresult **ret_rows,
                             struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};

    weir_parameters_add_slice(&parameters, request->customer);
    weir_parameters_add_text(&parameters, request->day);
    weir_parameters_add_text(&parameters, request->instant);
    return weir_postgres_ask(request->connection, list_sql, &parameters, "looking for grants that have expired",
                             ret_rows, reterr);
}

/* The same lot once more is right: what was written shows as a difference of zero. */
static enum weir_status expire(struct weir_rater *rater, const struct weir_slice *customers, size_t count,
                               int64_t through, struct weir_error *reterr)
{
    enum weir_status status = weir_rater_expire(rater, customers, count, through, reterr);

    for (int i = 1; i < ATTEMPTS && status == WEIR_RETRY; i++) {
        nanosleep(&(struct timespec){.tv_nsec = PAUSE}, NULL);
        status = weir_rater_expire(rater, customers, count, through, reterr);
    }
    return status;
}

/* Customers whose last expiry is the same are one lot: what expires after it is left for later. */
static enum weir_status expire_all(struct weir_rater *rater, const PGresult *rows, struct weir_error *reterr)
{
    struct weir_slice customers[CUSTOMERS];
    enum weir_status status = WEIR_OK;
    int64_t through = 0;
    size_t count = 0;

    for (int row = 0; row < PQntuples(rows) && status == WEIR_OK; row++) {
        if (weir_get_int8(PQgetvalue(rows, row, 2)) == 0)
            break; /* as are all that follow: what they have waits */
        int64_t last = weir_get_time(PQgetvalue(rows, row, 1));
        if (count == CUSTOMERS || (count > 0 && last != through)) {
            status = expire(rater, customers, count, through, reterr);
            count = 0;
        }
        through = last;
        customers[count++] = weir_postgres_field(rows, row, 0);
    }
    return status == WEIR_OK && count > 0 ? expire(rater, customers, count, through, reterr) : status;
}

static enum weir_status write_by(const struct weir_catalog *catalog, const char *url, const PGresult *rows,
                                 struct weir_error *reterr)
{
    struct weir_ledger *ledger = NULL;
    enum weir_status status = weir_ledger_postgres_open(url, &ledger, reterr);

    if (status != WEIR_OK)
        return status;
    struct weir_rater *rater = weir_rater_new(catalog, ledger);
    status = expire_all(rater, rows, reterr);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    return status;
}

/* *ret_written: there is a catalog to write by. */
static enum weir_status write_all(const char *url, const PGresult *rows, bool *ret_written, struct weir_error *reterr)
{
    struct weir_catalog *catalog = NULL;
    enum weir_status status = weir_apply_load_catalog(url, &catalog, reterr);

    *ret_written = status == WEIR_OK;
    if (status == WEIR_OK)
        status = weir_calendars_open(url, catalog, false, reterr);
    if (status == WEIR_OK)
        status = write_by(catalog, url, rows, reterr);
    else if (status == WEIR_REJECT && !*ret_written)
        status = WEIR_OK;
    weir_catalog_free(catalog);
    return status;
}

enum weir_status weir_expiries_write(const struct weir_expiries_request *request,
                                     struct weir_expiries_counts *ret_counts, struct weir_error *reterr)
{
    struct weir_expiries_counts counts = {0};
    PGresult *rows = NULL;
    uint64_t due = 0, grants = 0;
    bool is_written = request->is_dry;
    enum weir_status status = list(request, &rows, reterr);

    for (int row = 0; status == WEIR_OK && row < PQntuples(rows); row++) {
        uint64_t of_customer = (uint64_t)weir_get_int8(PQgetvalue(rows, row, 2));
        counts.customers += of_customer > 0;
        due += of_customer;
        grants += (uint64_t)weir_get_int8(PQgetvalue(rows, row, 3));
    }
    if (status == WEIR_OK && due > 0 && !is_written)
        status = write_all(request->url, rows, &is_written, reterr);
    if (due > 0 && !is_written)
        counts.customers = due = 0;
    counts.waiting = grants - due;
    PQclear(rows);
    *ret_counts = counts;
    return status;
}
