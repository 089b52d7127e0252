#include "rater/close.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/calendar.h"
#include "rater/expiries.h"
#include "rater/postgres.h"
#include "rater/postgres_value.h"

enum { ATTEMPTS = 5, PAUSE = 100 * 1000 * 1000 };

struct closing {
    const struct weir_close_request *request;
    PGconn *connection;
    int64_t number; /* the run's; 0: none yet */
    struct weir_close_counts counts;
};

/* 1. texts as parameters: every type is cast in the SQL */

static void add(struct weir_parameters *parameters, struct weir_slice text)
{
    weir_parameters_add(parameters, text.length ? text.data : "", text.length);
}

static void add_text(struct weir_parameters *parameters, const char *text)
{
    add(parameters, weir_slice_text(text));
}

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

static void add_through(struct weir_parameters *parameters, const char *through)
{
    add_text(parameters, is_day(through) ? through : "");
    add_text(parameters, is_day(through) ? "" : through);
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

    add(&parameters, request->customer);
    add_text(&parameters, request->only_due ? "due" : "");
    add_through(&parameters, request->through);
    enum weir_status status =
        weir_postgres_ask(closing->connection, list_sql, &parameters, "listing customers", ret_list, reterr);
    if (status == WEIR_OK && request->customer.length && PQntuples(*ret_list) == 0)
        status = weir_fail(reterr, WEIR_REJECT, "customer '%.*s' was never rated", (int)request->customer.length,
                           request->customer.data);
    return status;
}

static enum weir_status begin(struct closing *closing, struct weir_error *reterr)
{
    const struct weir_close_request *request = closing->request;
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    add_text(&parameters, request->by);
    add_text(&parameters, request->through);
    add(&parameters, request->customer);
    add_text(&parameters, request->is_draft ? "true" : "false");
    enum weir_status status = weir_postgres_ask(
        closing->connection,
        "INSERT INTO weir.closings (started_by, through, filters, is_draft) VALUES ($1::text, $2::text,"
        " jsonb_strip_nulls(jsonb_build_object('customer', nullif($3::text, ''))), ($4::text)::boolean) RETURNING "
        "closing",
        &parameters, "beginning a closing", &result, reterr);
    if (status == WEIR_OK)
        closing->number = weir_get_int8(PQgetvalue(result, 0, 0));
    PQclear(result);
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

/* 3. one customer */

static const char close_sql[] =
    "SELECT contract, period_start, period_end, coalesce(invoice, 0), coalesce(number, 0), was_made,"
    " coalesce(total::text, ''), coalesce(currency, ''), coalesce(why, '')"
    " FROM weir.close_books($1::text, nullif($2::text, '')::date, nullif($3::text, '')::timestamptz,"
    " ($4::text)::boolean, $5::text, $6::text, nullif(($7::text)::bigint, 0), ($8::text)::jsonb, ($9::text)::jsonb,"
    " ($10::text)::jsonb)";

/* What closing a customer's periods came to, row by row. */
struct closed {
    PGresult *periods, *kinds;
};

static void clear(struct closed *closed)
{
    PQclear(closed->periods);
    PQclear(closed->kinds);
    *closed = (struct closed){NULL, NULL};
}

static enum weir_status ask(struct closing *closing, struct weir_slice customer, PGresult **ret_result,
                            struct weir_error *reterr)
{
    const struct weir_close_request *request = closing->request;
    const struct weir_invoice_details *details = request->details;
    struct weir_parameters parameters = {0};
    char number[24];

    (void)snprintf(number, sizeof number, "%lld", (long long)closing->number);
    add(&parameters, customer);
    add_through(&parameters, request->through);
    add_text(&parameters, request->is_draft ? "true" : "false");
    add_text(&parameters, request->series);
    add_text(&parameters, request->by);
    add_text(&parameters, number);
    add_text(&parameters, details->seller);
    add_text(&parameters, details->buyer(details->context, customer));
    add_text(&parameters, details->tax_categories);
    return weir_postgres_ask(closing->connection, close_sql, &parameters, "closing a customer's periods", ret_result,
                             reterr);
}

/* Row by row of `closed` (there are some) its invoice's kind, empty where there is none. A question of its own: the one
 * before does not see what its function made. */
static enum weir_status ask_kinds(struct closing *closing, const PGresult *closed, PGresult **ret_kinds,
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
        weir_postgres_ask(closing->connection,
                          "SELECT coalesce(h.kind, '') FROM unnest($1::bigint[]) WITH ORDINALITY AS c (invoice,"
                          " place) LEFT JOIN weir.invoice_heads AS h USING (invoice) ORDER BY c.place",
                          &parameters, "asking of what kind invoices are", ret_kinds, reterr);
    weir_buffer_free(&numbers);
    return status;
}

static void tell(struct closing *closing, struct weir_slice customer, const struct closed *closed, int row)
{
    const PGresult *result = closed->periods;
    struct weir_closed_period period = {
        .customer = customer,
        .contract = weir_postgres_field(result, row, 0),
        .period_start = weir_get_time(PQgetvalue(result, row, 1)),
        .period_end = weir_get_time(PQgetvalue(result, row, 2)),
        .invoice = weir_get_int8(PQgetvalue(result, row, 3)),
        .number = weir_get_int8(PQgetvalue(result, row, 4)),
        .was_made = *PQgetvalue(result, row, 5) != 0,
        .kind = weir_postgres_field(closed->kinds, row, 0),
        .total = weir_postgres_field(result, row, 6),
        .currency = weir_postgres_field(result, row, 7),
        .why = weir_postgres_field(result, row, 8),
    };

    closing->counts.invoices += period.was_made;
    closing->counts.issued += period.number != 0;
    closing->counts.left_open += period.invoice == 0;
    closing->request->visit(closing->request->context, &period);
}

/* In one transaction, so that who is told of what was made is told once, and what breaks off has made nothing. */
static enum weir_status try_customer(struct closing *closing, struct weir_slice customer, struct closed *ret_closed,
                                     struct weir_error *reterr)
{
    enum weir_status status =
        weir_postgres_run(closing->connection, "BEGIN", "beginning to close a customer's periods", reterr);

    if (status == WEIR_OK)
        status = ask(closing, customer, &ret_closed->periods, reterr);
    if (status == WEIR_OK && PQntuples(ret_closed->periods) > 0)
        status = ask_kinds(closing, ret_closed->periods, &ret_closed->kinds, reterr);
    bool is_kept = status == WEIR_OK && !closing->request->is_dry;
    if (PQstatus(closing->connection) == CONNECTION_OK) {
        enum weir_status ended =
            weir_postgres_run(closing->connection, is_kept ? "COMMIT" : "ROLLBACK",
                              "ending to close a customer's periods", status == WEIR_OK ? reterr : NULL);
        status = status == WEIR_OK ? ended : status;
    }
    return status;
}

/* A transaction that the server broke off (a deadlock, a lock that took too long) left nothing: once more. */
static enum weir_status close_one(struct closing *closing, struct weir_slice customer, struct weir_error *reterr)
{
    struct closed closed = {NULL, NULL};
    enum weir_status status = try_customer(closing, customer, &closed, reterr);

    for (int i = 1; i < ATTEMPTS && status == WEIR_RETRY && PQstatus(closing->connection) == CONNECTION_OK; i++) {
        clear(&closed);
        nanosleep(&(struct timespec){.tv_nsec = PAUSE}, NULL);
        status = try_customer(closing, customer, &closed, reterr);
    }
    for (int row = 0; status == WEIR_OK && row < PQntuples(closed.periods); row++)
        tell(closing, customer, &closed, row);
    closing->counts.customers += status == WEIR_OK;
    clear(&closed);
    return status;
}

/* With only_due a run is only begun when there is something to do: it is looked for every ten minutes. */
static enum weir_status look(struct closing *closing, struct weir_slice customer, bool *ret_has_work,
                             struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    add(&parameters, customer);
    add_through(&parameters, closing->request->through);
    enum weir_status status =
        weir_postgres_ask(closing->connection,
                          "SELECT count(after_item), count(*) FILTER (WHERE after_item IS NULL) FROM"
                          " weir.closing_plan($1::text, nullif($2::text, '')::date, nullif($3::text, '')::timestamptz)",
                          &parameters, "looking at a customer's periods", &result, reterr);
    if (status == WEIR_OK) {
        *ret_has_work = weir_get_int8(PQgetvalue(result, 0, 0)) > 0;
        if (!*ret_has_work)
            closing->counts.left_open += (uint64_t)weir_get_int8(PQgetvalue(result, 0, 1));
    }
    PQclear(result);
    return status;
}

static enum weir_status close_if_due(struct closing *closing, struct weir_slice customer, struct weir_error *reterr)
{
    bool has_work = true;
    enum weir_status status = WEIR_OK;

    if (closing->request->only_due)
        status = look(closing, customer, &has_work, reterr);
    if (status == WEIR_OK && has_work && !closing->number && !closing->request->is_dry)
        status = begin(closing, reterr);
    return status == WEIR_OK && has_work ? close_one(closing, customer, reterr) : status;
}

/* 4. the whole */

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
    const _Atomic bool *stop = closing->request->stop;
    PGresult *list = NULL;
    enum weir_status status = list_customers(closing, &list, reterr);
    int count = status == WEIR_OK ? PQntuples(list) : 0;

    if (status == WEIR_OK)
        status = expire(closing, reterr);
    if (status == WEIR_OK && !closing->request->is_dry && !closing->request->only_due)
        status = begin(closing, reterr);
    for (int i = 0; i < count && status == WEIR_OK; i++) {
        if (stop && atomic_load_explicit(stop, memory_order_relaxed))
            status = weir_fail(reterr, WEIR_AGAIN,
                               "stopped by a signal: customers that are done stay done, the same command goes on");
        else
            status = close_if_due(closing, weir_postgres_field(list, i, 0), reterr);
    }
    PQclear(list);
    return status == WEIR_OK && closing->number ? end(closing, reterr) : status;
}

enum weir_status weir_close(const struct weir_close_request *request, struct weir_close_counts *ret_counts,
                            struct weir_error *reterr)
{
    struct closing closing = {.request = request};
    enum weir_status status;

    weir_check(weir_close_is_through(request->through));
    closing.connection = weir_postgres_open(request->url, "weir close", &status, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_run(closing.connection, "SET jit = off", "setting the session up", reterr);
    if (status == WEIR_OK)
        status = lock(&closing, reterr);
    if (status == WEIR_OK)
        status = close_all(&closing, reterr);
    PQfinish(closing.connection);
    *ret_counts = closing.counts;
    return status;
}
