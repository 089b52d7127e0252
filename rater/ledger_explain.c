#include "rater/ledger_explain.h"

#include <inttypes.h>
#include <string.h>

#include "rater/postgres.h"
#include "rater/postgres_value.h"

#define TIME(column)                                                                                                   \
    "to_char(" column                                                                                                  \
    " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS') || coalesce('.' || nullif(rtrim(to_char(" column                \
    ", 'US'), '0'), ''), '') || 'Z'"
#define DECIMAL(column) "trim_scale(" column ")::text"

/* In the order of writing, the rows of one charge stand together: a customer is locked while it is rated. So a charge
 * is an island of rows of one window and revision among the customer's rows of the period. */
static const char
    explain_sql[] =
        "WITH i AS MATERIALIZED (SELECT * FROM weir.line_items WHERE line_item_id = $1::bigint),"
        " p AS MATERIALIZED (SELECT l.*, row_number() OVER (ORDER BY l.line_item_id) AS place FROM weir.line_items "
        "AS "
        "l, i"
        "  WHERE l.customer = i.customer AND l.contract = i.contract AND l.period_start = i.period_start),"
        " same AS (SELECT p.*, p.place - row_number() OVER (ORDER BY p.line_item_id) AS island FROM p, i"
        "  WHERE p.item = i.item AND p.kind = i.kind AND p.window_start = i.window_start AND p.window_end = "
        "i.window_end"
        "  AND p.dimensions = i.dimensions AND p.revision = i.revision AND p.recorded_at = i.recorded_at),"
        " g AS MATERIALIZED (SELECT min(line_item_id) AS first, max(line_item_id) AS last FROM same WHERE island ="
        "  (SELECT island FROM same WHERE line_item_id = $1::bigint))"
        " SELECT jsonb_build_object("
        "'item', (SELECT jsonb_build_object('line_item_id', line_item_id, 'recorded_at', " TIME(
            "recorded_at") ","
                           " 'customer', customer, 'contract', contract, 'item', item, 'meter', meter, "
                           "'dimensions', "
                           "dimensions,"
                           " 'period_start', " TIME("period_start") ", 'period_end', " TIME(
                               "period_end") ","
                                             " 'window_start', " TIME(
                                                 "window_start") ", "
                                                                 "'window_"
                                                                 "end',"
                                                                 " " TIME(
                                                                     "window_end") ", 'kind', "
                                                                                   "kind,"
                                                                                   " '"
                                                                                   "component',"
                                                                                   " "
                                                                                   "component, "
                                                                                   "'price_"
                                                                                   "book', "
                                                                                   "price_book,"
                                                                                   " "
                                                                                   "'price_"
                                                                                   "book_"
                                                                                   "version', "
                                                                                   "price_book_"
                                                                                   "version, "
                                                                                   "'model', "
                                                                                   "model,"
                                                                                   " 'tier', "
                                                                                   "tier, "
                                                                                   "'quantity',"
                                                                                   " " DECIMAL("qu"
                                                                                               "an"
                                                                                               "ti"
                                                                                               "t"
                                                                                               "y") ", "
                                                                                                    "'u"
                                                                                                    "ni"
                                                                                                    "t_"
                                                                                                    "pr"
                                                                                                    "ic"
                                                                                                    "e'"
                                                                                                    ","
                                                                                                    " " DECIMAL("unit_"
                                                                                                                "price") ","
                                                                                                                         " "
                                                                                                                         "'"
                                                                                                                         "a"
                                                                                                                         "m"
                                                                                                                         "o"
                                                                                                                         "u"
                                                                                                                         "n"
                                                                                                                         "t"
                                                                                                                         "'"
                                                                                                                         ","
                                                                                                                         " " DECIMAL("a"
                                                                                                                                     "m"
                                                                                                                                     "o"
                                                                                                                                     "u"
                                                                                                                                     "n"
                                                                                                                                     "t") ", 'currency', currency, 'revision', revision) FROM i),"
                                                                                                                                          "'charge', (SELECT jsonb_build_array(first, last) FROM g),"
                                                                                                                                          "'revisions', (SELECT coalesce(jsonb_agg(jsonb_build_object('kind', p.kind, 'line_item_id', p.line_item_id,"
                                                                                                                                          " 'recorded_at', " TIME(
                                                                                                                                              "p.recorded_at") ", 'revision', p.revision, 'component', p.component, 'tier', p.tier,"
                                                                                                                                                               " 'quantity', " DECIMAL(
                                                                                                                                                                   "p.quantity") ", 'amount', " DECIMAL("p.amount") ") ORDER BY p.line_item_id), '[]')"
                                                                                                                                                                                                                    " FROM p, i WHERE p.item = i.item AND weir.reversed_kind(p.kind, p.meter, p.component) = weir.reversed_kind(i.kind, i.meter, i.component) AND p.window_start = i.window_start"
                                                                                                                                                                                                                    " AND p.window_end = i.window_end AND p.dimensions = i.dimensions),"
                                                                                                                                                                                                                    "'lanes', (SELECT coalesce(jsonb_agg(jsonb_build_object('lane', w.lane, 'events', w.events,"
                                                                                                                                                                                                                    " 'value', " DECIMAL("w.value") ", 'latest_time', w.latest_time, 'latest_offset', w.latest_offset,"
                                                                                                                                                                                                                                                    " 'revision', w.revision, 'rated_at', " TIME("w.rated_at") ", 'price_key', w.price_key,"
                                                                                                                                                                                                                                                                                                               " 'series_key', encode(w.series_key, 'hex')) ORDER BY w.lane), '[]') FROM weir.rated_windows AS w, i"
                                                                                                                                                                                                                                                                                                               " WHERE w.customer = i.customer AND w.window_start = i.window_start AND w.window_end = i.window_end"
                                                                                                                                                                                                                                                                                                               " AND w.meter = i.meter AND w.dimensions = i.dimensions),"
                                                                                                                                                                                                                                                                                                               "'running', (SELECT coalesce(jsonb_agg(jsonb_build_object('dimensions', dimensions, 'component', component,"
                                                                                                                                                                                                                                                                                                               " 'tier', tier, 'quantity_before', " DECIMAL("quantity_before") ", 'quantity_after', " DECIMAL("quantity_after") ","
                                                                                                                                                                                                                                                                                                                                                                                                                                " 'amount_before', " DECIMAL(
                                                                                                                                                                                                                                                                                                                                                                                                                                    "amount_before") ", 'amount_after', " DECIMAL("amount_after") ")"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  " ORDER BY component, tier), '[]') FROM (SELECT p.dimensions, p.component, p.tier,"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  "  coalesce(sum(p.quantity) FILTER (WHERE p.line_item_id < g.first), 0) AS quantity_before,"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  "  coalesce(sum(p.quantity) FILTER (WHERE p.line_item_id <= g.last), 0) AS quantity_after,"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  "  coalesce(sum(p.amount) FILTER (WHERE p.line_item_id < g.first), 0) AS amount_before,"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  "  coalesce(sum(p.amount) FILTER (WHERE p.line_item_id <= g.last), 0) AS amount_after FROM p, g, i"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  "  WHERE i.kind = 'usage' AND p.meter IS NOT NULL AND p.item = i.item AND p.price_book = i.price_book"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  "  AND p.price_book_version = i.price_book_version AND p.line_item_id <= g.last GROUP BY 1, 2, 3) AS r),"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  "'period', (SELECT jsonb_build_object('is_closed', b.is_closed, 'usage_amount', " DECIMAL("b.usage_amount") ","
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                              " 'true_up', " DECIMAL(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  "b.true_up") ","
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               " 'usage_before', (SELECT " DECIMAL(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                   "coalesce(sum(amount), 0)") " FROM p, g WHERE meter IS NOT NULL"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               "  AND line_item_id < first),"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               " 'true_up_before', (SELECT " DECIMAL(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                   "coalesce(sum(amount), 0)") " FROM p, g WHERE component = 'true_up'"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               "  AND line_item_id < first),"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               " 'line_items', (SELECT count(*) FROM p)) FROM weir.billing_periods AS b, i"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               " WHERE b.customer = i.customer AND b.contract = i.contract AND b.period_start = i.period_start),"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               "'rerating', (SELECT jsonb_build_object('rerating', r.rerating, 'started_by', r.started_by, 'reason', r.reason, 'recount', r.filters->'recount', 'started_at', " TIME("r.started_at") ")"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     " FROM weir.reratings AS r, i WHERE r.rerating = i.rerating),"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "'catalog', (SELECT jsonb_build_object('catalog_version', catalog_version, 'applied_at', " TIME("applied_at") ","
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                   " 'text', catalog::text) FROM weir.catalog_versions, i WHERE applied_at <= recorded_at"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                   " ORDER BY catalog_version DESC LIMIT 1)"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                   ")::text FROM i";

enum weir_status weir_ledger_explain(const char *url, int64_t line_item_id, char **ret_json, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer id = {0};
    PGresult *result = NULL;
    enum weir_status status;
    PGconn *connection = weir_postgres_open(url, "weir explain", &status, reterr);

    if (status == WEIR_OK) {
        weir_put_int8(&id, line_item_id);
        weir_parameters_add(&parameters, id.data + 4, 8);
        status = weir_postgres_ask(connection, explain_sql, &parameters, "reading a line item", &result, reterr);
    }
    if (status == WEIR_OK && PQntuples(result) == 0)
        status =
            weir_fail(reterr, WEIR_REJECT,
                      "there is no line item %" PRId64 ": the column line_item_id of weir.line_items has the numbers",
                      line_item_id);
    if (status == WEIR_OK)
        *ret_json = weir_copy_text(PQgetvalue(result, 0, 0), (size_t)PQgetlength(result, 0, 0));
    PQclear(result);
    weir_buffer_free(&id);
    PQfinish(connection);
    return status;
}

/* Without usage it is the few rows that have no meter. */
static const char term_sql[] =
    "SELECT coalesce(jsonb_agg(jsonb_build_object('period_start', to_char(s.period_start AT TIME ZONE 'UTC',"
    " 'YYYY-MM-DD\"T\"HH24:MI:SS.USZ'), 'usage_before', trim_scale(coalesce(s.usage_before, 0))::text,"
    " 'true_up_before', trim_scale(coalesce(s.true_up_before, 0))::text,"
    " 'true_up', trim_scale(coalesce(s.true_up, 0))::text,"
    " 'missing', trim_scale(coalesce(s.missing, 0))::text,"
    " 'charged', trim_scale(coalesce(s.charged, 0))::text)), '[]')::text FROM (SELECT l.period_start,"
    " sum(l.amount) FILTER (WHERE (l.meter IS NOT NULL OR l.component = 'shortfall') AND l.line_item_id < $2::bigint)"
    "  AS usage_before,"
    " sum(l.amount) FILTER (WHERE l.component = 'true_up' AND l.item = $5::text AND l.line_item_id < $2::bigint)"
    "  AS true_up_before,"
    " sum(l.amount) FILTER (WHERE l.component = 'true_up' AND l.item = $5::text) AS true_up,"
    " sum(l.quantity) FILTER (WHERE l.component = 'shortfall' AND l.item = $5::text) AS missing,"
    " sum(l.amount) FILTER (WHERE l.component = 'shortfall' AND l.item = $5::text) AS charged"
    " FROM weir.line_items AS l, (SELECT customer, contract FROM weir.line_items WHERE line_item_id = $1::bigint) AS i"
    " WHERE l.customer = i.customer AND l.contract = i.contract AND l.period_start >= $3::timestamptz"
    " AND l.period_start < $4::timestamptz AND (l.meter IS NULL OR $6::text = 'usage') GROUP BY 1) AS s";

enum weir_status weir_ledger_explain_term(const char *url, const struct weir_explained_term *term, char **ret_json,
                                          struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer fields[4] = {{0}};
    PGresult *result = NULL;
    enum weir_status status;
    PGconn *connection = weir_postgres_open(url, "weir explain", &status, reterr);
    const char *what = term->has_usage ? "usage" : "";

    weir_put_int8(&fields[0], term->line_item_id);
    weir_put_int8(&fields[1], term->before);
    weir_put_time(&fields[2], term->from);
    weir_put_time(&fields[3], term->to);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        weir_parameters_add(&parameters, fields[i].data + 4, 8);
    weir_parameters_add(&parameters, term->commitment.data, term->commitment.length);
    weir_parameters_add_text(&parameters, what);
    if (status == WEIR_OK)
        status = weir_postgres_ask(connection, term_sql, &parameters, "reading a term", &result, reterr);
    if (status == WEIR_OK)
        *ret_json = weir_copy_text(PQgetvalue(result, 0, 0), (size_t)PQgetlength(result, 0, 0));
    PQclear(result);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        weir_buffer_free(&fields[i]);
    PQfinish(connection);
    return status;
}
