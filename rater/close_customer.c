/* Closing one customer's periods. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "rater/close_internal.h"
#include "rater/postgres_value.h"

enum { ATTEMPTS = 5, PAUSE = 100 * 1000 * 1000 };

static const char close_sql[] =
    "SELECT contract, period_start, period_end, coalesce(invoice, 0), coalesce(number, 0), was_made,"
    " coalesce(total::text, ''), coalesce(currency, ''), coalesce(why, '')"
    " FROM weir.close_books($1::text, nullif($2::text, '')::date, nullif($3::text, '')::timestamptz,"
    " ($4::text)::boolean, $5::text, $6::text, nullif(($7::text)::bigint, 0), ($8::text)::jsonb, ($9::text)::jsonb,"
    " ($10::text)::jsonb)";

void weir_closed_clear(struct closed *closed)
{
    PQclear(closed->periods);
    PQclear(closed->kinds);
    PQclear(closed->months);
    *closed = (struct closed){.periods = NULL};
}

static enum weir_status ask(const struct closing *closing, PGconn *connection, int64_t run, struct weir_slice customer,
                            PGresult **ret_result, struct weir_error *reterr)
{
    const struct weir_close_request *request = closing->request;
    const struct weir_invoice_details *details = request->details;
    struct weir_parameters parameters = {0};
    char number[24], *buyer = details->buyer(details->context, customer);

    (void)snprintf(number, sizeof number, "%lld", (long long)run);
    weir_parameters_add_slice(&parameters, customer);
    weir_close_add_through(&parameters, request->through);
    weir_parameters_add_text(&parameters, request->is_draft ? "true" : "false");
    weir_parameters_add_text(&parameters, request->series);
    weir_parameters_add_text(&parameters, request->by);
    weir_parameters_add_text(&parameters, number);
    weir_parameters_add_text(&parameters, details->seller);
    weir_parameters_add_text(&parameters, buyer);
    weir_parameters_add_text(&parameters, details->tax_categories);
    enum weir_status status =
        weir_postgres_ask(connection, close_sql, &parameters, "closing a customer's periods", ret_result, reterr);
    free(buyer);
    return status;
}

/* Row by row of `closed` (there are some) its invoice's kind, empty where there is none. A question of its own: the one
 * before does not see what its function made. */
static enum weir_status ask_kinds(PGconn *connection, const PGresult *closed, PGresult **ret_kinds,
                                  struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer numbers = {0};

    weir_array_begin(&numbers, WEIR_PG_INT8);
    for (int row = 0; row < PQntuples(closed); row++)
        weir_put_int8(&numbers, weir_get_int8(PQgetvalue(closed, row, 3)));
    weir_array_end(&numbers, (size_t)PQntuples(closed));
    weir_parameters_add(&parameters, numbers.data, numbers.length);
    enum weir_status status =
        weir_postgres_ask(connection,
                          "SELECT coalesce(h.kind, '') FROM unnest($1::bigint[]) WITH ORDINALITY AS c (invoice,"
                          " place) LEFT JOIN weir.invoice_heads AS h USING (invoice) ORDER BY c.place",
                          &parameters, "asking of what kind invoices are", ret_kinds, reterr);
    weir_buffer_free(&numbers);
    return status;
}

/* What is open of calendar months now. Drafts close none; raters tell nobody. */
static enum weir_status ask_months(const struct closing *closing, PGconn *connection, struct weir_slice customer,
                                   PGresult **ret_months, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};

    if (closing->request->is_draft || closing->request->only_due)
        return WEIR_OK;
    weir_parameters_add_slice(&parameters, customer);
    weir_close_add_through(&parameters, closing->request->through);
    return weir_postgres_ask(connection,
                             "SELECT contract, starts_at, ends_at, months, why FROM weir.months_left_open($1::text,"
                             " nullif($2::text, '')::date, nullif($3::text, '')::timestamptz)",
                             &parameters, "asking which months are left open", ret_months, reterr);
}

static enum weir_status try_customer(const struct closing *closing, PGconn *connection, int64_t run,
                                     struct weir_slice customer, struct closed *ret_closed, struct weir_error *reterr)
{
    enum weir_status status = weir_postgres_run(connection, "BEGIN", "beginning to close a customer's periods", reterr);

    if (status == WEIR_OK)
        status = ask(closing, connection, run, customer, &ret_closed->periods, reterr);
    if (status == WEIR_OK && PQntuples(ret_closed->periods) > 0)
        status = ask_kinds(connection, ret_closed->periods, &ret_closed->kinds, reterr);
    if (status == WEIR_OK)
        status = ask_months(closing, connection, customer, &ret_closed->months, reterr);
    bool is_kept = status == WEIR_OK && !closing->request->is_dry;
    if (PQstatus(connection) == CONNECTION_OK) {
        enum weir_status ended =
            weir_postgres_run(connection, is_kept ? "COMMIT" : "ROLLBACK", "ending to close a customer's periods",
                              status == WEIR_OK ? reterr : NULL);
        status = status == WEIR_OK ? ended : status;
    }
    return status;
}

/* With only_due a run is only begun when there is something to do: it is looked for every ten minutes. */
static enum weir_status look(const struct closing *closing, PGconn *connection, struct weir_slice customer,
                             bool *ret_has_work, uint64_t *ret_left_open, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    weir_parameters_add_slice(&parameters, customer);
    weir_close_add_through(&parameters, closing->request->through);
    enum weir_status status =
        weir_postgres_ask(connection,
                          "SELECT count(after_item), count(*) FILTER (WHERE after_item IS NULL) FROM"
                          " weir.closing_plan($1::text, nullif($2::text, '')::date, nullif($3::text, '')::timestamptz)",
                          &parameters, "looking at a customer's periods", &result, reterr);
    if (status == WEIR_OK) {
        *ret_has_work = weir_get_int8(PQgetvalue(result, 0, 0)) > 0;
        if (!*ret_has_work)
            *ret_left_open = (uint64_t)weir_get_int8(PQgetvalue(result, 0, 1));
    }
    PQclear(result);
    return status;
}

/* A transaction that the server broke off (a deadlock, a lock that took too long) left nothing: once more. */
static enum weir_status close_now(const struct closing *closing, PGconn *connection, int64_t run,
                                  struct weir_slice customer, struct closed *ret_closed, struct weir_error *reterr)
{
    enum weir_status status = try_customer(closing, connection, run, customer, ret_closed, reterr);

    for (int i = 1; i < ATTEMPTS && status == WEIR_RETRY && PQstatus(connection) == CONNECTION_OK; i++) {
        weir_closed_clear(ret_closed);
        nanosleep(&(struct timespec){.tv_nsec = PAUSE}, NULL);
        status = try_customer(closing, connection, run, customer, ret_closed, reterr);
    }
    return status;
}

enum weir_status weir_close_customer(struct closing *closing, PGconn *connection, struct weir_slice customer,
                                     struct closed *ret_closed, struct weir_error *reterr)
{
    bool has_work = true;
    int64_t run = 0;
    enum weir_status status = WEIR_OK;

    if (closing->request->only_due)
        status = look(closing, connection, customer, &has_work, &ret_closed->left_open, reterr);
    if (status == WEIR_OK && has_work && !closing->request->is_dry)
        status = weir_close_begin(closing, connection, &run, reterr);
    return status == WEIR_OK && has_work ? close_now(closing, connection, run, customer, ret_closed, reterr) : status;
}
