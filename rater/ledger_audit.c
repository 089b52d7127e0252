#include "rater/ledger_audit.h"

#include <stdlib.h>
#include <string.h>

#include "rater/postgres.h"
#include "rater/postgres_value.h"

#define WEIR_X(upper, lower) [WEIR_AUDIT_##upper] = #lower,
const char *const weir_audit_total_name[WEIR_AUDIT_TOTAL_COUNT] = {WEIR_AUDIT_TOTALS(WEIR_X)};
#undef WEIR_X

struct weir_ledger_audit {
    PGconn *connection;
};

enum weir_status weir_ledger_audit_open(const char *url, struct weir_ledger_audit **ret_audit,
                                        struct weir_error *reterr)
{
    enum weir_status status;
    PGconn *connection = weir_postgres_connect(url, "weir reconcile", &status, reterr);

    if (connection)
        status = weir_postgres_check_schema(connection, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_run(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "beginning to read",
                                   reterr);
    if (status != WEIR_OK) {
        PQfinish(connection);
        return status;
    }
    *ret_audit = weir_new(sizeof **ret_audit);
    (*ret_audit)->connection = connection;
    return WEIR_OK;
}

struct weir_ledger_audit *weir_ledger_audit_free(struct weir_ledger_audit *audit)
{
    if (!audit)
        return NULL;
    PQfinish(audit->connection);
    free(audit);
    return NULL;
}

/* 1. streaming
 * ---------------------------------------------------------------------------------------------------------- */
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

/* 2. windows
 * -------------------------------------------------------------------------------------------------------------- */
struct window_reader {
    void (*visit)(void *context, const struct weir_audited_window *window);
    void *context;
};

static bool take_window(void *context, struct row row)
{
    struct window_reader *reader = context;
    struct weir_audited_window audited = {
        .window =
            {
                .series_key = text_at(row, 0),
                .start = time_at(row, 1),
                .end = time_at(row, 2),
                .total = {.events = (uint64_t)int8_at(row, 3),
                          .latest_time = int8_at(row, 5),
                          .latest_offset = int8_at(row, 6)},
            },
        .revision = (uint32_t)weir_get_int4(PQgetvalue(row.result, row.number, 7)),
        .unpriced = WEIR_UNPRICED_COUNT,
    };
    struct weir_slice unpriced = text_at(row, 8);

    for (int i = 0; i < WEIR_UNPRICED_COUNT; i++)
        if (weir_slice_equal(unpriced, weir_slice_text(weir_unpriced_name[i]))
            || (unpriced.length == 0 && i == WEIR_UNPRICED_PRICED))
            audited.unpriced = (enum weir_unpriced)i;
    if (audited.unpriced == WEIR_UNPRICED_COUNT || !decimal_at(row, 4, &audited.window.total.value))
        return false;
    reader->visit(reader->context, &audited);
    return true;
}

enum weir_status weir_ledger_audit_windows(struct weir_ledger_audit *audit, struct weir_slice lane,
                                           void (*visit)(void *context, const struct weir_audited_window *window),
                                           void *context, struct weir_error *reterr)
{
    struct window_reader reader = {visit, context};
    struct weir_parameters parameters = {0};

    weir_parameters_add(&parameters, lane.data, lane.length);
    return stream(
        audit,
        "DECLARE audit NO SCROLL CURSOR FOR SELECT series_key, window_start, window_end, events, value, latest_time,"
        " latest_offset, revision, coalesce(unpriced, '') FROM weir.rated_windows WHERE lane = $1::text"
        " ORDER BY customer, window_start, series",
        &parameters, take_window, &reader, "reading rated windows", reterr);
}

struct lane_reader {
    void (*visit)(void *context, struct weir_slice lane, uint64_t windows);
    void *context;
};

static bool take_lane(void *context, struct row row)
{
    struct lane_reader *reader = context;
    reader->visit(reader->context, text_at(row, 0), (uint64_t)int8_at(row, 1));
    return true;
}

enum weir_status weir_ledger_audit_lanes(struct weir_ledger_audit *audit,
                                         void (*visit)(void *context, struct weir_slice lane, uint64_t windows),
                                         void *context, struct weir_error *reterr)
{
    struct lane_reader reader = {visit, context};

    return stream(
        audit,
        "DECLARE audit NO SCROLL CURSOR FOR SELECT lane, count(*) FROM weir.rated_windows GROUP BY lane ORDER BY lane",
        NULL, take_lane, &reader, "listing rated lanes", reterr);
}

/* 3. totals
 * ----------------------------------------------------------------------------------------------------------------- */
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
    "        sum(quantity) AS quantity, sum(amount) AS amount FROM weir.line_items WHERE kind = 'usage'"
    "        GROUP BY 1, 2, 3, 4, 5, 6) AS s"
    " USING (customer, contract, period_start, price_book, price_book_version, meter)"
    " WHERE coalesce(k.quantity, 0) <> coalesce(s.quantity, 0) OR coalesce(k.amount, 0) <> coalesce(s.amount, 0)"
    " ORDER BY 1, 2, 3, 4, 5, 6";

static const char period_sql[] =
    "DECLARE audit NO SCROLL CURSOR FOR SELECT customer, contract, period_start, '', 0, '',"
    " coalesce(k.usage_amount, 0), coalesce(s.usage_amount, 0), coalesce(k.true_up, 0), coalesce(s.true_up, 0)"
    " FROM (SELECT customer, contract, period_start, usage_amount, true_up FROM weir.billing_periods) AS k"
    " FULL JOIN (SELECT customer, contract, period_start, coalesce(sum(amount) FILTER (WHERE kind = 'usage'), 0) AS "
    "usage_amount,"
    "        coalesce(sum(amount) FILTER (WHERE kind = 'true_up'), 0) AS true_up FROM weir.line_items GROUP BY 1, 2, "
    "3) AS s"
    " USING (customer, contract, period_start)"
    " WHERE coalesce(k.usage_amount, 0) <> coalesce(s.usage_amount, 0) OR coalesce(k.true_up, 0) <> "
    "coalesce(s.true_up, 0)"
    " ORDER BY 1, 2, 3";

enum weir_status weir_ledger_audit_totals(struct weir_ledger_audit *audit,
                                          void (*visit)(void *context, const struct weir_audit_difference *difference),
                                          void *context, struct weir_error *reterr)
{
    struct total_reader prices = {visit, context, WEIR_AUDIT_PRICE_QUANTITY, WEIR_AUDIT_PRICE_AMOUNT};
    struct total_reader periods = {visit, context, WEIR_AUDIT_USAGE_AMOUNT, WEIR_AUDIT_TRUE_UP};
    enum weir_status status =
        stream(audit, price_sql, NULL, take_difference, &prices, "adding line items up by price", reterr);

    if (status == WEIR_OK)
        status = stream(audit, period_sql, NULL, take_difference, &periods, "adding line items up by period", reterr);
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
