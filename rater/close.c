#include "rater/close.h"

#include <stdio.h>
#include <string.h>

#include "common/calendar.h"
#include "rater/close_internal.h"
#include "rater/expiries.h"
#include "rater/postgres_value.h"

/* 1. through when */

static bool is_day(const char *text)
{
    return strlen(text) == 10;
}

bool weir_close_is_through(const char *text)
{
    char whole[WEIR_TIME_TEXT_MAX];
    int64_t time;

    (void)snprintf(whole, sizeof whole, "%s%s", text, is_day(text) ? "T00:00:00Z" : "");
    return weir_time_parse(weir_slice_text(whole), &time);
}

void weir_close_add_through(struct weir_parameters *parameters, const char *through)
{
    weir_parameters_add_text(parameters, is_day(through) ? through : "");
    weir_parameters_add_text(parameters, is_day(through) ? "" : through);
}

/* 2. the run */

static enum weir_status lock(struct closing *closing, struct weir_error *reterr)
{
    PGresult *result = NULL;
    enum weir_status status = weir_postgres_ask(
        closing->connection, "SELECT pg_try_advisory_lock(" WEIR_LOCK_CLASS ", hashtext('weir close'))", NULL,
        "looking for another closing", &result, reterr);

    if (status == WEIR_OK && !*PQgetvalue(result, 0, 0))
        status = weir_fail(reterr, WEIR_AGAIN, "another weir close is under way: wait until it is done");
    PQclear(result);
    return status;
}

/* Due: a period that was settled and has no invoice; or, in one that goes on, something in advance that is on none. */
static const char list_sql[] =
    "SELECT c.customer FROM weir.customers AS c WHERE $1::text IN ('', c.customer)"
    " AND ($2::text = '' OR EXISTS (SELECT FROM weir.billing_periods AS p WHERE p.customer = c.customer AND p.is_closed"
    " AND p.period_end <= coalesce(nullif($4::text, '')::timestamptz, nullif($3::text, '')::date + interval '2 days')"
    " AND NOT EXISTS (SELECT FROM weir.invoice_heads AS h WHERE h.customer = p.customer AND h.contract = p.contract"
    " AND h.period_start = p.period_start AND h.kind = 'period'"
    " AND NOT EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice)))"
    " OR EXISTS (SELECT FROM weir.billing_periods AS p JOIN weir.line_items AS i ON i.customer = p.customer"
    " AND i.period_start = p.period_start AND i.contract = p.contract WHERE p.customer = c.customer"
    " AND p.period_end > coalesce(nullif($4::text, '')::timestamptz, nullif($3::text, '')::date)"
    " AND i.advance_at <= coalesce(nullif($4::text, '')::timestamptz, nullif($3::text, '')::date + interval '2 days')"
    " AND NOT EXISTS (SELECT FROM weir.invoice_ranges AS r WHERE r.customer = i.customer AND r.contract = i.contract"
    " AND r.period_start = i.period_start AND r.currency = i.currency AND r.after_item = i.line_item_id - 1"
    " AND NOT EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = r.invoice))))"
    " ORDER BY c.customer";

static enum weir_status list_customers(struct closing *closing, PGresult **ret_list, struct weir_error *reterr)
{
    const struct weir_close_request *request = closing->request;
    struct weir_parameters parameters = {0};

    weir_parameters_add_slice(&parameters, request->customer);
    weir_parameters_add_text(&parameters, request->only_due ? "due" : "");
    weir_close_add_through(&parameters, request->through);
    enum weir_status status =
        weir_postgres_ask(closing->connection, list_sql, &parameters, "listing customers", ret_list, reterr);
    if (status == WEIR_OK && request->customer.length && PQntuples(*ret_list) == 0)
        status = weir_fail(reterr, WEIR_REJECT, "customer '%.*s' was never rated", (int)request->customer.length,
                           request->customer.data);
    return status;
}

static enum weir_status note_run(const struct weir_close_request *request, PGconn *connection, int64_t *ret_number,
                                 struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    weir_parameters_add_text(&parameters, request->by);
    weir_parameters_add_text(&parameters, request->through);
    weir_parameters_add_slice(&parameters, request->customer);
    weir_parameters_add_text(&parameters, request->is_draft ? "true" : "false");
    enum weir_status status = weir_postgres_ask(
        connection,
        "INSERT INTO weir.closings (started_by, through, filters, is_draft) VALUES ($1::text, $2::text,"
        " jsonb_strip_nulls(jsonb_build_object('customer', nullif($3::text, ''))), ($4::text)::boolean) RETURNING "
        "closing",
        &parameters, "beginning a closing", &result, reterr);
    if (status == WEIR_OK)
        *ret_number = weir_get_int8(PQgetvalue(result, 0, 0));
    PQclear(result);
    return status;
}

enum weir_status weir_close_begin(struct closing *closing, PGconn *connection, int64_t *ret_number,
                                  struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    pthread_mutex_lock(&closing->begins);
    if (!closing->number)
        status = note_run(closing->request, connection, &closing->number, reterr);
    *ret_number = closing->number;
    pthread_mutex_unlock(&closing->begins);
    return status;
}

static enum weir_status end(struct closing *closing, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer numbers = {0};
    PGresult *result = NULL;
    const int64_t values[] = {closing->number, (int64_t)closing->counts.customers, (int64_t)closing->counts.invoices,
                              (int64_t)closing->counts.issued, (int64_t)closing->counts.left_open};
    enum { COUNT = sizeof values / sizeof *values };

    for (int i = 0; i < COUNT; i++)
        weir_put_int8(&numbers, values[i]);
    for (int i = 0; i < COUNT; i++)
        weir_parameters_add(&parameters, numbers.data + 12 * i + 4, 8);
    enum weir_status status =
        weir_postgres_ask(closing->connection,
                          "INSERT INTO weir.closing_ends (closing, customers, invoices, issued, left_open)"
                          " VALUES ($1::bigint, $2::bigint, $3::bigint, $4::bigint, $5::bigint)",
                          &parameters, "ending a closing", &result, reterr);
    PQclear(result);
    weir_buffer_free(&numbers);
    return status;
}

/* 3. the whole */

/* Before the invoices: what goes out at an expiry has a part in what they are made of, a refund's price say. */
static enum weir_status expire(struct closing *closing, struct weir_error *reterr)
{
    const struct weir_close_request *request = closing->request;
    const struct weir_expiries_request expiries = {
        .url = request->url,
        .connection = closing->connection,
        .customer = request->customer,
        .day = is_day(request->through) ? request->through : "",
        .instant = is_day(request->through) ? "" : request->through,
        .is_dry = request->is_dry,
    };
    struct weir_expiries_counts counts;
    enum weir_status status = weir_expiries_write(&expiries, &counts, reterr);

    closing->counts.expired = counts.customers;
    closing->counts.waiting = counts.waiting;
    return status;
}

static enum weir_status close_all(struct closing *closing, struct weir_error *reterr)
{
    PGresult *list = NULL;
    int64_t number;
    enum weir_status status = list_customers(closing, &list, reterr);

    if (status == WEIR_OK)
        status = expire(closing, reterr);
    if (status == WEIR_OK && !closing->request->is_dry && !closing->request->only_due)
        status = weir_close_begin(closing, closing->connection, &number, reterr);
    if (status == WEIR_OK)
        status = weir_close_list(closing, list, reterr);
    PQclear(list);
    return status == WEIR_OK && closing->number ? end(closing, reterr) : status;
}

enum weir_status weir_close_connect(const struct weir_close_request *request, PGconn **ret_connection,
                                    struct weir_error *reterr)
{
    enum weir_status status;

    *ret_connection = weir_postgres_open(request->url, "weir close", &status, reterr);
    /* One that is far ahead of a customer that takes long waits for him, however long idle sessions may live here. */
    return status == WEIR_OK ? weir_postgres_run(*ret_connection, "SET jit = off; SET idle_session_timeout = 0",
                                                 "setting the session up", reterr)
                             : status;
}

enum weir_status weir_close(const struct weir_close_request *request, struct weir_close_counts *ret_counts,
                            struct weir_error *reterr)
{
    struct closing closing = {.request = request};

    weir_check(weir_close_is_through(request->through));
    pthread_mutex_init(&closing.begins, NULL);
    enum weir_status status = weir_close_connect(request, &closing.connection, reterr);
    if (status == WEIR_OK)
        status = lock(&closing, reterr);
    if (status == WEIR_OK)
        status = close_all(&closing, reterr);
    PQfinish(closing.connection);
    pthread_mutex_destroy(&closing.begins);
    *ret_counts = closing.counts;
    return status;
}
