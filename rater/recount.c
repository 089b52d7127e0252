#include "rater/recount.h"

#include <stdlib.h>

#include "common/calendar.h"
#include "rater/postgres.h"
#include "rater/postgres_value.h"

struct weir_recount_book {
    PGconn *connection;
    PGresult *result; /* what the last answer's views point into */
    struct weir_recount_stored *stored;
    struct weir_recount_charge *charges;
};

enum weir_status weir_recount_book_open(const char *url, struct weir_recount_book **ret_book, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    PGconn *connection = weir_postgres_open(url, "weir recount", &status, reterr);

    if (status != WEIR_OK)
        return status;
    *ret_book = weir_new(sizeof **ret_book);
    (*ret_book)->connection = connection;
    return WEIR_OK;
}

struct weir_recount_book *weir_recount_book_free(struct weir_recount_book *book)
{
    if (!book)
        return NULL;
    PQclear(book->result);
    PQfinish(book->connection);
    free(book->stored);
    free(book->charges);
    free(book);
    return NULL;
}

static enum weir_status ask(struct weir_recount_book *book, const char *sql, const struct weir_parameters *parameters,
                            const char *doing, struct weir_error *reterr)
{
    PQclear(book->result);
    book->result = NULL;
    return weir_postgres_ask(book->connection, sql, parameters, doing, &book->result, reterr);
}

/* 1. the run */

/* The lock that reratings hold: a run of theirs would meet windows that this one is about to replace. */
static enum weir_status lock(struct weir_recount_book *book, struct weir_error *reterr)
{
    enum weir_status status = ask(book, "SELECT pg_try_advisory_lock(" WEIR_LOCK_CLASS ", hashtext('weir rerate'))",
                                  NULL, "looking for another recount", reterr);

    if (status == WEIR_OK && !*PQgetvalue(book->result, 0, 0))
        status = weir_fail(reterr, WEIR_FATAL,
                           "another weir recount or weir rerate is under way: wait until it is "
                           "done");
    return status;
}

/* What was counted by a catalog that is not in force any more would be rated by it. */
static enum weir_status check_catalog(struct weir_recount_book *book, int version, struct weir_error *reterr)
{
    enum weir_status status = ask(book, "SELECT max(catalog_version)::int FROM weir.catalog_versions", NULL,
                                  "looking for another catalog", reterr);

    if (status == WEIR_OK && weir_get_int4(PQgetvalue(book->result, 0, 0)) != version)
        status = weir_fail(reterr, WEIR_FATAL,
                           "catalog %d was applied while the meter was counted by catalog %d: run this again",
                           weir_get_int4(PQgetvalue(book->result, 0, 0)), version);
    return status;
}

static const char begin_sql[] =
    "WITH asked AS (SELECT jsonb_strip_nulls(jsonb_build_object('recount', $1::text, 'meter', $2::text,"
    " 'customer', nullif($3::text, ''), 'from', nullif($4::text, ''), 'to', nullif($5::text, ''))) AS filters),"
    " begun AS (SELECT max(r.rerating) AS rerating FROM weir.reratings AS r, asked WHERE r.filters = asked.filters"
    " AND r.reason = $6::text AND r.catalog_version = $8::int"
    " AND NOT EXISTS (SELECT FROM weir.rerating_ends AS e WHERE e.rerating = r.rerating)),"
    " made AS (INSERT INTO weir.reratings (started_by, reason, filters, catalog_version)"
    " SELECT $7::text, $6::text, asked.filters, $8::int FROM asked, begun WHERE begun.rerating IS NULL"
    " RETURNING rerating)"
    " SELECT coalesce(begun.rerating, made.rerating), begun.rerating IS NOT NULL FROM begun LEFT JOIN made ON true";

enum weir_status weir_recount_begin(struct weir_recount_book *book, const struct weir_recount_order *order,
                                    int64_t *ret_run, bool *ret_was_begun, struct weir_error *reterr)
{
    char from[WEIR_TIME_TEXT_MAX] = "", to[WEIR_TIME_TEXT_MAX] = "";
    struct weir_parameters parameters = {0};
    struct weir_buffer version = {0};

    if (order->filter.from != INT64_MIN)
        weir_time_format(order->filter.from, from);
    if (order->filter.to != WEIR_TIME_NEVER)
        weir_time_format(order->filter.to, to);
    weir_parameters_add_text(&parameters, order->source);
    weir_parameters_add_slice(&parameters, order->filter.meter);
    weir_parameters_add_slice(&parameters, order->filter.customer);
    weir_parameters_add_text(&parameters, from);
    weir_parameters_add_text(&parameters, to);
    weir_parameters_add_text(&parameters, order->reason);
    weir_parameters_add_text(&parameters, order->by);
    weir_put_int4(&version, order->catalog_version);
    weir_parameters_add(&parameters, version.data + 4, 4);
    enum weir_status status = lock(book, reterr);
    if (status == WEIR_OK)
        status = check_catalog(book, order->catalog_version, reterr);
    if (status == WEIR_OK)
        status = ask(book, begin_sql, &parameters, "beginning a recount", reterr);
    if (status == WEIR_OK) {
        *ret_run = weir_get_int8(PQgetvalue(book->result, 0, 0));
        *ret_was_begun = *PQgetvalue(book->result, 0, 1);
    }
    weir_buffer_free(&version);
    return status;
}

/* 2. what is on record */
static const char read_sql[] =
    "SELECT w.window_start, w.window_end, w.series_key, w.lane, w.events, w.value, w.latest_time, w.latest_offset,"
    " w.retracted, r.events_before, r.value_before, r.latest_time_before, r.latest_offset_before, r.retracted_before"
    " FROM weir.rated_windows AS w LEFT JOIN weir.recounted_windows AS r ON r.rerating = $5::bigint"
    " AND r.customer = w.customer AND r.window_start = w.window_start AND r.series = w.series AND r.lane = w.lane"
    " WHERE w.meter = $1::text AND ($2::text = '' OR w.customer = $2::text)"
    " AND w.window_start >= $3::timestamptz AND w.window_start < $4::timestamptz"
    " LIMIT $6::bigint";

static bool take_total(const PGresult *rows, int row, int column, struct weir_window_total *ret_total)
{
    *ret_total = (struct weir_window_total){
        .events = (uint64_t)weir_get_int8(PQgetvalue(rows, row, column)),
        .latest_time = weir_get_int8(PQgetvalue(rows, row, column + 2)),
        .latest_offset = weir_get_int8(PQgetvalue(rows, row, column + 3)),
        .retracted = (uint64_t)weir_get_int8(PQgetvalue(rows, row, column + 4)),
    };
    return weir_get_decimal(PQgetvalue(rows, row, column + 1), (size_t)PQgetlength(rows, row, column + 1),
                            &ret_total->value);
}

static bool take_stored(const PGresult *rows, int row, struct weir_recount_stored *ret_stored)
{
    struct weir_window *window = &ret_stored->share.window;
    struct weir_series series;

    *ret_stored = (struct weir_recount_stored){.share.lane = weir_postgres_field(rows, row, 3)};
    window->start = weir_get_time(PQgetvalue(rows, row, 0));
    window->end = weir_get_time(PQgetvalue(rows, row, 1));
    window->series_key = weir_postgres_field(rows, row, 2);
    if (!weir_series_parse(window->series_key, &series) || !take_total(rows, row, 4, &window->total))
        return false;
    ret_stored->before = window->total;
    return PQgetisnull(rows, row, 9) || take_total(rows, row, 9, &ret_stored->before);
}

/* A time that PostgreSQL takes: whole microseconds, upwards, since windows start at such. */
static int64_t whole_microseconds(int64_t time)
{
    return time == WEIR_TIME_NEVER || time % 1000 == 0 ? time : time - time % 1000 + (time > 0 ? 1000 : 0);
}

enum weir_status weir_recount_read(struct weir_recount_book *book, const struct weir_recount_filter *filter,
                                   int64_t run, int64_t max, struct weir_recount_stored **ret_stored, size_t *ret_count,
                                   struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer bytes = {0};

    weir_put_time(&bytes, filter->from < 0 ? 0 : whole_microseconds(filter->from)); /* no event is before 1970 */
    weir_put_time(&bytes, whole_microseconds(filter->to));
    weir_put_int8(&bytes, run);
    weir_put_int8(&bytes, max + 1);
    weir_parameters_add_slice(&parameters, filter->meter);
    weir_parameters_add_slice(&parameters, filter->customer);
    for (int i = 0; i < 4; i++)
        weir_parameters_add(&parameters, bytes.data + 12 * i + 4, 8);
    enum weir_status status = ask(book, read_sql, &parameters, "reading what was rated of the meter", reterr);
    weir_buffer_free(&bytes);
    if (status != WEIR_OK)
        return status;
    size_t count = (size_t)PQntuples(book->result);
    book->stored = weir_resize(book->stored, count + 1, sizeof *book->stored);
    for (size_t i = 0; i < count; i++)
        if (!take_stored(book->result, (int)i, &book->stored[i]))
            return weir_fail(reterr, WEIR_FATAL,
                             "PostgreSQL, weir.rated_windows: a row that weir never wrote; restore the tables of "
                             "schema weir as they were");
    *ret_stored = book->stored;
    *ret_count = count;
    return WEIR_OK;
}

/* 3. the end */
static const char end_sql[] =
    "WITH shares AS (SELECT customer, count(*) AS shares FROM weir.recounted_windows WHERE rerating = $1::bigint"
    " GROUP BY customer),"
    " items AS (SELECT l.customer, l.currency, count(*) AS items, sum(l.amount) AS amount FROM shares AS s"
    "  JOIN weir.line_items AS l ON l.customer = s.customer AND l.rerating = $1::bigint"
    "  AND l.recorded_at >= (SELECT started_at FROM weir.reratings WHERE rerating = $1::bigint) GROUP BY 1, 2),"
    " done AS (INSERT INTO weir.rerating_customers (rerating, customer, windows, reversals, line_items)"
    "  SELECT $1::bigint, s.customer, s.shares, 0, coalesce((SELECT sum(items) FROM items AS i"
    "   WHERE i.customer = s.customer), 0) FROM shares AS s RETURNING windows, line_items),"
    " ended AS (INSERT INTO weir.rerating_ends (rerating, customers, changed, windows, reversals, line_items)"
    "  SELECT $1::bigint, count(*), count(*) FILTER (WHERE line_items > 0), coalesce(sum(windows), 0), 0,"
    "  coalesce(sum(line_items), 0) FROM done RETURNING customers, windows, line_items)"
    " SELECT e.customers::bigint, e.windows::bigint, e.line_items::bigint, i.currency, i.amount FROM ended AS e"
    " LEFT JOIN (SELECT currency, sum(amount)::numeric(39,12) AS amount FROM items GROUP BY currency) AS i ON true"
    " ORDER BY i.currency COLLATE \"C\"";

enum weir_status weir_recount_end(struct weir_recount_book *book, int64_t run, struct weir_recount_result *ret_result,
                                  struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer number = {0};

    weir_put_int8(&number, run);
    weir_parameters_add(&parameters, number.data + 4, 8);
    enum weir_status status = ask(book, end_sql, &parameters, "ending a recount", reterr);
    weir_buffer_free(&number);
    if (status != WEIR_OK)
        return status;
    const PGresult *rows = book->result;
    *ret_result = (struct weir_recount_result){
        .customers = (uint64_t)weir_get_int8(PQgetvalue(rows, 0, 0)),
        .shares = (uint64_t)weir_get_int8(PQgetvalue(rows, 0, 1)),
        .line_items = (uint64_t)weir_get_int8(PQgetvalue(rows, 0, 2)),
    };
    book->charges = weir_resize(book->charges, (size_t)PQntuples(rows), sizeof *book->charges);
    for (int i = 0; i < PQntuples(rows) && !PQgetisnull(rows, i, 3); i++) {
        struct weir_recount_charge *charge = &book->charges[ret_result->charge_count++];
        charge->currency = weir_postgres_field(rows, i, 3);
        if (!weir_get_decimal(PQgetvalue(rows, i, 4), (size_t)PQgetlength(rows, i, 4), &charge->amount))
            return weir_fail(reterr, WEIR_FATAL, "weir.line_items: an amount that weir never wrote");
    }
    ret_result->charges = book->charges;
    return WEIR_OK;
}
