#include "rater/ledger_audit.h"

#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "rater/postgres.h"
#include "rater/postgres_value.h"

#define WEIR_X(upper, lower) [WEIR_AUDIT_##upper] = #lower,
const char *const weir_audit_total_name[WEIR_AUDIT_TOTAL_COUNT] = {WEIR_AUDIT_TOTALS(WEIR_X)};
#undef WEIR_X

enum { KEY_COLUMNS = 3 };

struct weir_ledger_audit {
    PGconn *connection; /* in one transaction from the beginning: the snapshot */
    PGconn *now;        /* each question for itself; NULL until the first */
    char *url;
    struct weir_digester *digester;
    struct weir_buffer keys[KEY_COLUMNS];
};

enum weir_status weir_ledger_audit_open(const char *url, struct weir_ledger_audit **ret_audit,
                                        struct weir_error *reterr)
{
    enum weir_status status;
    PGconn *connection = weir_postgres_open(url, "weir reconcile", &status, reterr);

    if (status == WEIR_OK)
        status = weir_postgres_run(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "beginning to read",
                                   reterr);
    if (status != WEIR_OK) {
        PQfinish(connection);
        return status;
    }
    *ret_audit = weir_new(sizeof **ret_audit);
    (*ret_audit)->connection = connection;
    (*ret_audit)->url = weir_copy_text(url, strlen(url));
    (*ret_audit)->digester = weir_digester_new();
    return WEIR_OK;
}

struct weir_ledger_audit *weir_ledger_audit_free(struct weir_ledger_audit *audit)
{
    if (!audit)
        return NULL;
    PQfinish(audit->connection);
    PQfinish(audit->now);
    weir_digester_free(audit->digester);
    for (int i = 0; i < KEY_COLUMNS; i++)
        weir_buffer_free(&audit->keys[i]);
    free(audit->url);
    free(audit);
    return NULL;
}

/* 1. streaming */
struct row {
    const PGresult *result;
    int number;
};

static struct weir_slice text_at(struct row row, int column)
{
    return weir_slice_of(PQgetvalue(row.result, row.number, column),
                         (size_t)PQgetlength(row.result, row.number, column));
}

static int64_t int8_at(struct row row, int column)
{
    return weir_get_int8(PQgetvalue(row.result, row.number, column));
}

static int64_t time_at(struct row row, int column)
{
    return weir_get_time(PQgetvalue(row.result, row.number, column));
}

static bool decimal_at(struct row row, int column, struct weir_decimal *ret_value)
{
    return weir_get_decimal(PQgetvalue(row.result, row.number, column),
                            (size_t)PQgetlength(row.result, row.number, column), ret_value);
}

/* Handles one row; false: weir never wrote such a one. */
typedef bool take_row(void *reader, struct row row);

static enum weir_status read_rows(const PGresult *result, take_row *take, void *reader, const char *doing,
                                  struct weir_error *reterr)
{
    for (int i = 0; i < PQntuples(result); i++)
        if (!take(reader, (struct row){result, i}))
            return weir_fail(reterr, WEIR_FATAL,
                             "PostgreSQL, %s: a row that weir never wrote; restore the tables of schema "
                             "weir as they were",
                             doing);
    return WEIR_OK;
}

/* A cursor, some thousand rows at a time. `select` takes at most one parameter, a text. */
static enum weir_status stream(struct weir_ledger_audit *audit, const char *declare,
                               const struct weir_parameters *parameters, take_row *take, void *reader,
                               const char *doing, struct weir_error *reterr)
{
    PGresult *result = NULL;
    enum weir_status status = weir_postgres_ask(audit->connection, declare, parameters, doing, &result, reterr);
    int rows = 1;

    PQclear(result);
    while (status == WEIR_OK && rows > 0) {
        result = NULL;
        status = weir_postgres_ask(audit->connection, "FETCH 5000 FROM audit", NULL, doing, &result, reterr);
        if (status != WEIR_OK)
            return status;
        rows = PQntuples(result);
        status = read_rows(result, take, reader, doing, reterr);
        PQclear(result);
    }
    if (status == WEIR_OK)
        status = weir_postgres_run(audit->connection, "CLOSE audit", doing, reterr);
    return status;
}

/* 2. windows */
static const char shares_sql[] =
    "SELECT k.n, coalesce(w.events, 0), coalesce(w.value, 0), coalesce(w.latest_time, 0), coalesce(w.latest_offset, 0),"
    " coalesce(w.revision, 0), coalesce(w.retracted, 0), h.refused IS NOT NULL,"
    " EXISTS (SELECT FROM weir.recounted_windows AS r WHERE r.customer = k.customer AND r.window_start = k.start"
    "  AND r.series = k.series AND r.lane = $4::text AND r.revision = w.revision)"
    " FROM unnest($1::text[], $2::timestamptz[], $3::uuid[]) WITH ORDINALITY AS k(customer, start, series, n)"
    " LEFT JOIN weir.rated_windows AS w ON w.customer = k.customer AND w.window_start = k.start AND w.series = k.series"
    " AND w.lane = $4::text"
    " LEFT JOIN weir.held_windows AS h ON h.customer = k.customer AND h.window_start = k.start AND h.series = k.series"
    " AND h.lane = $4::text WHERE w.lane IS NOT NULL OR h.refused IS NOT NULL";

static bool take_share(struct row row, size_t count, struct weir_audited_share *shares)
{
    size_t place = (size_t)int8_at(row, 0) - 1;
    struct weir_audited_share share = {
        .total = {.events = (uint64_t)int8_at(row, 1),
                  .latest_time = int8_at(row, 3),
                  .latest_offset = int8_at(row, 4),
                  .retracted = (uint64_t)int8_at(row, 6)},
        .revision = (uint32_t)weir_get_int4(PQgetvalue(row.result, row.number, 5)),
        .is_refused = *PQgetvalue(row.result, row.number, 7),
        .is_recounted = *PQgetvalue(row.result, row.number, 8),
    };

    if (place >= count || !decimal_at(row, 2, &share.total.value))
        return false;
    shares[place] = share;
    return true;
}

static void put_keys(struct weir_ledger_audit *audit, const struct weir_window *windows, size_t count)
{
    static const enum weir_postgres_type types[KEY_COLUMNS] = {WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ, WEIR_PG_UUID};
    unsigned char digest[WEIR_DIGEST_BYTES];
    struct weir_series series;

    for (int i = 0; i < KEY_COLUMNS; i++)
        weir_array_begin(&audit->keys[i], types[i]);
    for (size_t i = 0; i < count; i++) {
        weir_check(weir_series_parse(windows[i].series_key, &series));
        weir_digest(audit->digester, windows[i].series_key, digest);
        weir_put_text(&audit->keys[0], series.customer);
        weir_put_time(&audit->keys[1], windows[i].start);
        weir_put_uuid(&audit->keys[2], digest);
    }
    for (int i = 0; i < KEY_COLUMNS; i++)
        weir_array_end(&audit->keys[i], count);
}

enum weir_status weir_ledger_audit_find(struct weir_ledger_audit *audit, bool is_now, struct weir_slice lane,
                                        const struct weir_window *windows, size_t count,
                                        struct weir_audited_share *ret_shares, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    enum weir_status status = WEIR_OK;
    PGresult *result = NULL;

    if (is_now && !audit->now)
        audit->now = weir_postgres_connect(audit->url, "weir reconcile", &status, reterr);
    if (status != WEIR_OK)
        return status;
    put_keys(audit, windows, count);
    for (int i = 0; i < KEY_COLUMNS; i++)
        weir_parameters_add(&parameters, audit->keys[i].data, audit->keys[i].length);
    weir_parameters_add(&parameters, lane.data, lane.length);
    status = weir_postgres_ask(is_now ? audit->now : audit->connection, shares_sql, &parameters,
                               "reading rated windows", &result, reterr);
    if (status != WEIR_OK)
        return status;
    memset(ret_shares, 0, count * sizeof *ret_shares);
    for (int i = 0; i < PQntuples(result) && status == WEIR_OK; i++)
        if (!take_share((struct row){result, i}, count, ret_shares))
            status = weir_fail(reterr, WEIR_FATAL,
                               "PostgreSQL, weir.rated_windows: a row that weir never wrote; restore the tables of "
                               "schema weir as they were");
    PQclear(result);
    return status;
}

struct span_reader {
    void (*visit)(void *context, const struct weir_audited_span *span);
    void *context;
};

static bool take_span(void *context, struct row row)
{
    struct span_reader *reader = context;
    struct weir_audited_span span = {text_at(row, 0), time_at(row, 1), (uint64_t)int8_at(row, 2)};

    reader->visit(reader->context, &span);
    return true;
}

enum weir_status weir_ledger_audit_spans(struct weir_ledger_audit *audit,
                                         void (*visit)(void *context, const struct weir_audited_span *span),
                                         void *context, struct weir_error *reterr)
{
    struct span_reader reader = {visit, context};

    return stream(audit,
                  "DECLARE audit NO SCROLL CURSOR FOR SELECT lane, window_end, count(*) FROM weir.rated_windows AS w"
                  " WHERE NOT EXISTS (SELECT FROM weir.recounted_windows AS r WHERE r.customer = w.customer"
                  "  AND r.window_start = w.window_start AND r.series = w.series AND r.lane = w.lane"
                  "  AND r.revision = w.revision)"
                  " GROUP BY lane, window_end ORDER BY lane, window_end",
                  NULL, take_span, &reader, "counting rated windows", reterr);
}

/* 3. totals */
struct total_reader {
    void (*visit)(void *context, const struct weir_audit_difference *difference);
    void *context;
    enum weir_audit_total first, second;
};

/* Key, then two totals: each kept and summed. */
static bool take_difference(void *context, struct row row)
{
    struct total_reader *reader = context;
    struct weir_audit_difference difference = {
        .customer = text_at(row, 0),
        .contract = text_at(row, 1),
        .period_start = time_at(row, 2),
        .price_book = text_at(row, 3),
        .price_book_version = (uint32_t)weir_get_int4(PQgetvalue(row.result, row.number, 4)),
        .meter = text_at(row, 5),
    };

    for (int i = 0; i < 2; i++) {
        difference.total = i ? reader->second : reader->first;
        if (!decimal_at(row, 6 + 2 * i, &difference.kept) || !decimal_at(row, 7 + 2 * i, &difference.summed))
            return false;
        if (difference.kept.e12 != difference.summed.e12)
            reader->visit(reader->context, &difference);
    }
    return true;
}

static const char price_sql[] =
    "DECLARE audit NO SCROLL CURSOR FOR SELECT customer, contract, period_start, price_book, price_book_version, meter,"
    " coalesce(k.quantity, 0), coalesce(s.quantity, 0), coalesce(k.amount, 0), coalesce(s.amount, 0)"
    " FROM (SELECT customer, contract, period_start, price_book, price_book_version, meter, sum(quantity) AS quantity,"
    "        sum(amount) AS amount FROM weir.price_totals GROUP BY 1, 2, 3, 4, 5, 6) AS k"
    " FULL JOIN (SELECT customer, contract, period_start, price_book COLLATE \"C\" AS price_book, price_book_version, "
    "meter,"
    "        sum(quantity) AS quantity, sum(amount) AS amount FROM weir.line_items WHERE meter IS NOT NULL"
    "        AND component <> 'invoice_discount' GROUP BY 1, 2, 3, 4, 5, 6) AS s"
    " USING (customer, contract, period_start, price_book, price_book_version, meter)"
    " WHERE coalesce(k.quantity, 0) <> coalesce(s.quantity, 0) OR coalesce(k.amount, 0) <> coalesce(s.amount, 0)"
    " ORDER BY 1, 2, 3, 4, 5, 6";

static const char period_sql[] =
    "DECLARE audit NO SCROLL CURSOR FOR SELECT customer, contract, period_start, '', 0, '',"
    " coalesce(k.usage_amount, 0), coalesce(s.usage_amount, 0), coalesce(k.true_up, 0), coalesce(s.true_up, 0)"
    " FROM (SELECT customer, contract, period_start, usage_amount, true_up FROM weir.billing_periods) AS k"
    " FULL JOIN (SELECT customer, contract, period_start, coalesce(sum(amount) FILTER (WHERE meter IS NOT NULL), 0) AS "
    "usage_amount,"
    "        coalesce(sum(amount) FILTER (WHERE component = 'true_up'), 0) AS true_up FROM weir.line_items GROUP BY 1, "
    "2, "
    "3) AS s"
    " USING (customer, contract, period_start)"
    " WHERE coalesce(k.usage_amount, 0) <> coalesce(s.usage_amount, 0) OR coalesce(k.true_up, 0) <> "
    "coalesce(s.true_up, 0)"
    " ORDER BY 1, 2, 3";

/* One row for each price of a period: its events, and its quantity as section 4 of docs/rating.md has it, worked out of
 * the rated windows in three steps: lanes' shares to windows, windows to splits, splits to the price. Averages and
 * meters that weir.meters does not know have no quantity here. */
static const char window_sql[] =
    "DECLARE audit NO SCROLL CURSOR FOR WITH windows AS (SELECT customer, contract, period_start, price_book,"
    "  price_book_version, price_key, w.series, window_start, sum(events) AS events,"
    "  CASE aggregation WHEN 'count' THEN sum(events) WHEN 'sum' THEN sum(value) WHEN 'unique' THEN sum(value)"
    "   WHEN 'min' THEN min(value) FILTER (WHERE events > 0) WHEN 'max' THEN max(value) FILTER (WHERE events > 0)"
    "   WHEN 'latest' THEN (array_agg(value ORDER BY latest_time DESC, latest_offset DESC, value DESC)"
    "    FILTER (WHERE events > 0))[1] END AS value,"
    "  max(latest_time) AS latest_time,"
    "  (array_agg(latest_offset ORDER BY latest_time DESC, latest_offset DESC))[1] AS latest_offset,"
    "  aggregation, coalesce(rollup, '') = 'sum' OR aggregation IN ('count', 'sum', 'unique') AS adds_up"
    "  FROM weir.rated_windows AS w LEFT JOIN weir.meters USING (meter) WHERE price_key IS NOT NULL"
    "  GROUP BY customer, contract, period_start, price_book, price_book_version, price_key, w.series, window_start,"
    "   aggregation, rollup),"
    " splits AS (SELECT customer, contract, period_start, price_book, price_book_version, price_key, series,"
    "  sum(events) AS events, CASE WHEN adds_up THEN sum(value) WHEN aggregation = 'min' THEN min(value)"
    "   WHEN aggregation = 'max' THEN max(value) WHEN aggregation = 'latest' THEN"
    "   (array_agg(value ORDER BY latest_time DESC, latest_offset DESC, value DESC) FILTER (WHERE value IS NOT "
    "NULL))[1] END AS "
    "value,"
    "  aggregation IS NOT NULL AND aggregation <> 'avg' AS is_defined FROM windows"
    "  GROUP BY customer, contract, period_start, price_book, price_book_version, price_key, series, adds_up,"
    "  aggregation),"
    " s AS (SELECT customer, contract, period_start, price_book COLLATE \"C\" AS price_book, price_book_version,"
    "  price_key, sum(events) AS events, coalesce(sum(value), 0) AS quantity, bool_and(is_defined) AS is_defined"
    "  FROM splits GROUP BY 1, 2, 3, 4, 5, 6)"
    " SELECT customer, contract, period_start, price_book, price_book_version, price_key,"
    " coalesce(k.quantity, 0) AS a, CASE WHEN coalesce(is_defined, true) THEN coalesce(s.quantity, 0)"
    "  ELSE coalesce(k.quantity, 0) END AS b, coalesce(k.events, 0)::numeric, coalesce(s.events, 0)::numeric"
    " FROM (SELECT customer, contract, period_start, price_book, price_book_version, price_key, quantity, events"
    "  FROM weir.price_totals) AS k FULL JOIN s"
    " USING (customer, contract, period_start, price_book, price_book_version, price_key)"
    " WHERE coalesce(k.events, 0) <> coalesce(s.events, 0)"
    " OR (coalesce(is_defined, true) AND coalesce(k.quantity, 0) <> coalesce(s.quantity, 0))"
    " ORDER BY 1, 2, 3, 4, 5, 6";

enum weir_status weir_ledger_audit_totals(struct weir_ledger_audit *audit,
                                          void (*visit)(void *context, const struct weir_audit_difference *difference),
                                          void *context, struct weir_error *reterr)
{
    struct total_reader prices = {visit, context, WEIR_AUDIT_PRICE_QUANTITY, WEIR_AUDIT_PRICE_AMOUNT};
    struct total_reader periods = {visit, context, WEIR_AUDIT_USAGE_AMOUNT, WEIR_AUDIT_TRUE_UP};
    struct total_reader windows = {visit, context, WEIR_AUDIT_WINDOW_QUANTITY, WEIR_AUDIT_WINDOW_EVENTS};
    enum weir_status status =
        stream(audit, price_sql, NULL, take_difference, &prices, "adding line items up by price", reterr);

    if (status == WEIR_OK)
        status = stream(audit, period_sql, NULL, take_difference, &periods, "adding line items up by period", reterr);
    if (status == WEIR_OK)
        status = stream(audit, window_sql, NULL, take_difference, &windows, "adding rated windows up", reterr);
    return status;
}

enum weir_status weir_ledger_audit_counts(struct weir_ledger_audit *audit, struct weir_audit_counts *ret_counts,
                                          struct weir_error *reterr)
{
    PGresult *result = NULL;
    enum weir_status status =
        weir_postgres_ask(audit->connection,
                          "SELECT (SELECT count(*) FROM weir.line_items), (SELECT count(*) FROM weir.rated_windows),"
                          " (SELECT count(*) FROM weir.rated_windows WHERE unpriced IS NOT NULL), (SELECT count(*) "
                          "FROM weir.price_totals),"
                          " (SELECT count(*) FROM weir.billing_periods), (SELECT count(*) FROM weir.customers)",
                          NULL, "counting", &result, reterr);

    if (status != WEIR_OK)
        return status;
    struct row row = {result, 0};
    *ret_counts = (struct weir_audit_counts){
        .line_items = (uint64_t)int8_at(row, 0),
        .rated_windows = (uint64_t)int8_at(row, 1),
        .unpriced_windows = (uint64_t)int8_at(row, 2),
        .price_totals = (uint64_t)int8_at(row, 3),
        .billing_periods = (uint64_t)int8_at(row, 4),
        .customers = (uint64_t)int8_at(row, 5),
    };
    PQclear(result);
    return WEIR_OK;
}
