/* A rerating that writes: its row, which customers it is done with, its end. */
#include <stdlib.h>

#include "common/calendar.h"
#include "rater/rerate_internal.h"

/* One rerating at a time: two with different filters could otherwise take turns at a customer for ever. */
static enum weir_status lock(PGconn *connection, struct weir_error *reterr)
{
    PGresult *result = NULL;
    enum weir_status status =
        weir_postgres_ask(connection, "SELECT pg_try_advisory_lock(" WEIR_LOCK_CLASS ", hashtext('weir rerate'))", NULL,
                          "looking for another rerating", &result, reterr);

    if (status == WEIR_OK && !*PQgetvalue(result, 0, 0))
        status = weir_fail(reterr, WEIR_FATAL, "another weir rerate is under way: wait until it is done");
    PQclear(result);
    return status;
}

/* The filter as parameters $1 to $6: texts, empty for none. */
struct filter_texts {
    char from[WEIR_TIME_TEXT_MAX], to[WEIR_TIME_TEXT_MAX], version[16];
};

static void add_filter(struct weir_parameters *parameters, const struct weir_rerate_filter *filter,
                       struct filter_texts *texts)
{
    memset(texts, 0, sizeof *texts);
    if (filter->from != INT64_MIN)
        weir_time_format(filter->from, texts->from);
    if (filter->to != WEIR_TIME_NEVER)
        weir_time_format(filter->to, texts->to);
    if (filter->price_book_version)
        (void)snprintf(texts->version, sizeof texts->version, "@%u", filter->price_book_version);
    weir_parameters_add_text(parameters, texts->from);
    weir_parameters_add_text(parameters, texts->to);
    weir_parameters_add_slice(parameters, filter->customer);
    weir_parameters_add_slice(parameters, filter->meter);
    weir_parameters_add_slice(parameters, filter->contract);
    weir_parameters_add_slice(parameters, filter->price_book);
    weir_parameters_add_text(parameters, texts->version);
}

/* The newest run of the same order that is not done, or a new one. */
static const char begin_sql[] =
    "WITH asked AS (SELECT jsonb_strip_nulls(jsonb_build_object('from', nullif($1::text, ''), 'to', nullif($2::text, "
    "''),"
    " 'customer', nullif($3::text, ''), 'meter', nullif($4::text, ''), 'contract', nullif($5::text, ''),"
    " 'price_book', nullif($6::text || $7::text, ''))) AS filters),"
    " begun AS (SELECT max(r.rerating) AS rerating FROM weir.reratings AS r, asked WHERE r.filters = asked.filters"
    " AND r.reason = $8::text AND r.catalog_version = $10::int"
    " AND NOT EXISTS (SELECT FROM weir.rerating_ends AS e WHERE e.rerating = r.rerating)),"
    " made AS (INSERT INTO weir.reratings (started_by, reason, filters, catalog_version)"
    " SELECT $9::text, $8::text, asked.filters, $10::int FROM asked, begun WHERE begun.rerating IS NULL"
    " RETURNING rerating)"
    " SELECT coalesce(begun.rerating, made.rerating), begun.rerating IS NOT NULL FROM begun LEFT JOIN made ON true";

static enum weir_status begin(PGconn *connection, const struct weir_rerate_request *request,
                              const struct weir_rerate_order *order, int64_t *ret_run, bool *ret_was_begun,
                              struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer version = {0};
    struct filter_texts texts;
    PGresult *result = NULL;

    add_filter(&parameters, &request->filter, &texts);
    weir_parameters_add_text(&parameters, order->reason);
    weir_parameters_add_text(&parameters, order->by);
    weir_put_int4(&version, order->catalog_version);
    weir_parameters_add(&parameters, version.data + 4, 4);
    enum weir_status status =
        weir_postgres_ask(connection, begin_sql, &parameters, "beginning a rerating", &result, reterr);
    if (status == WEIR_OK) {
        *ret_run = weir_get_int8(PQgetvalue(result, 0, 0));
        *ret_was_begun = *PQgetvalue(result, 0, 1);
    }
    PQclear(result);
    weir_buffer_free(&version);
    return status;
}

static enum weir_status ask_of_run(PGconn *connection, const char *sql, int64_t run, const char *doing,
                                   PGresult **ret_result, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer number = {0};

    weir_put_int8(&number, run);
    weir_parameters_add(&parameters, number.data + 4, 8);
    enum weir_status status = weir_postgres_ask(connection, sql, &parameters, doing, ret_result, reterr);
    weir_buffer_free(&number);
    return status;
}

static enum weir_status end(PGconn *connection, int64_t run, struct weir_rerate_counts *counts,
                            struct weir_error *reterr)
{
    PGresult *result = NULL;
    enum weir_status status = ask_of_run(
        connection,
        "INSERT INTO weir.rerating_ends (rerating, customers, changed, windows, reversals, line_items)"
        " SELECT $1::bigint, count(*), count(*) FILTER (WHERE reversals + line_items > 0), coalesce(sum(windows), 0),"
        " coalesce(sum(reversals), 0), coalesce(sum(line_items), 0) FROM weir.rerating_customers"
        " WHERE rerating = $1::bigint RETURNING customers, changed, windows, reversals, line_items",
        run, "ending a rerating", &result, reterr);

    if (status == WEIR_OK) {
        counts->customers = (uint64_t)weir_get_int8(PQgetvalue(result, 0, 0));
        counts->changed = (uint64_t)weir_get_int8(PQgetvalue(result, 0, 1));
        counts->windows = (uint64_t)weir_get_int8(PQgetvalue(result, 0, 2));
        counts->reversals = (uint64_t)weir_get_int8(PQgetvalue(result, 0, 3));
        counts->line_items = (uint64_t)weir_get_int8(PQgetvalue(result, 0, 4));
    }
    PQclear(result);
    return status;
}

/* All customers' amounts: also of those that were done before the run was broken off. */
static enum weir_status read_report(PGconn *connection, int64_t run, struct weir_rerate_report *report,
                                    struct weir_error *reterr)
{
    PGresult *result = NULL;
    struct weir_arena *arena = weir_arena_new();
    enum weir_status status =
        ask_of_run(connection,
                   "SELECT customer, currency, currency_places::int, before, after FROM weir.rerating_amounts"
                   " WHERE rerating = $1::bigint ORDER BY customer, currency COLLATE \"C\"",
                   run, "reading what a rerating did", &result, reterr);
    size_t count = status == WEIR_OK ? (size_t)PQntuples(result) : 0;

    report->rows = weir_new_array(count + 1, sizeof *report->rows);
    report->owned = arena;
    for (int i = 0; (size_t)i < count && status == WEIR_OK; i++) {
        struct weir_rerate_row *row = &report->rows[report->row_count++];
        struct weir_slice customer = weir_postgres_field(result, i, 0), currency = weir_postgres_field(result, i, 1);
        *row = (struct weir_rerate_row){
            .customer = weir_arena_copy(arena, customer.data, customer.length),
            .currency = weir_arena_copy(arena, currency.data, currency.length),
            .currency_places = weir_get_int4(PQgetvalue(result, i, 2)),
        };
        if (!weir_get_decimal(PQgetvalue(result, i, 3), (size_t)PQgetlength(result, i, 3), &row->before)
            || !weir_get_decimal(PQgetvalue(result, i, 4), (size_t)PQgetlength(result, i, 4), &row->after))
            status = weir_fail(reterr, WEIR_FATAL, "weir.rerating_amounts: an amount that weir never wrote");
    }
    PQclear(result);
    if (status != WEIR_OK)
        weir_rerate_report_free(report);
    return status;
}

enum weir_status weir_rerate_write(const struct weir_rerate_request *request, const struct weir_rerate_order *order,
                                   int64_t *ret_run, bool *ret_was_begun, struct weir_rerate_report *ret_report,
                                   struct weir_error *reterr)
{
    struct weir_rerate_report done = {0};
    enum weir_status status;
    PGconn *connection = weir_postgres_open(request->url, "weir rerate", &status, reterr);

    weir_check(!request->has_items);
    if (status == WEIR_OK)
        status = lock(connection, reterr);
    if (status == WEIR_OK) /* before there is a number: what names nothing would never be done */
        status = weir_rerate_check_names(connection, request, reterr);
    if (status == WEIR_OK)
        status = begin(connection, request, order, ret_run, ret_was_begun, reterr);
    if (status == WEIR_OK)
        status = weir_rerate_all(request, connection, *ret_run, order->catalog_version, &done, reterr);
    if (status == WEIR_OK) {
        struct weir_rerate_counts counts = done.counts;
        weir_rerate_report_free(&done);
        status = end(connection, *ret_run, &counts, reterr);
        if (status == WEIR_OK)
            status = read_report(connection, *ret_run, ret_report, reterr);
        if (status == WEIR_OK)
            ret_report->counts = counts;
    }
    PQfinish(connection);
    return status;
}
