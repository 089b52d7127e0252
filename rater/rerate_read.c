/* What PostgreSQL has of some customers: totals and periods as rows, windows as a stream. */
#include <stdio.h>
#include <stdlib.h>

#include "common/calendar.h"
#include "rater/postgres_rows.h"
#include "rater/rerate_internal.h"

/* 1. totals and periods */

static const char prices_sql[] =
    "SELECT t.customer, t.contract, t.period_start, t.price_book, t.price_book_version, t.meter, t.price_key,"
    " t.quantity, t.events, t.amount, b.currency, b.currency_places::int FROM weir.price_totals AS t"
    " JOIN weir.price_books AS b USING (price_book) WHERE t.customer >= $1::text AND t.customer <= $2::text"
    " ORDER BY t.customer, t.contract, t.period_start, t.price_book, t.price_book_version, t.price_id";

static const char periods_sql[] =
    "SELECT customer, contract, period_start, period_end, usage_amount, true_up, true_up_revision, is_advance_charged,"
    " is_closed FROM weir.billing_periods WHERE customer >= $1::text AND customer <= $2::text"
    " ORDER BY customer, contract, period_start";

/* What has no meter, and discounts on invoices, have an index of their own: no usage is gone through. */
static const char others_sql[] =
    "SELECT l.customer, l.contract, l.period_start, l.item, l.currency, b.currency_places::int, sum(l.amount)"
    " FROM weir.line_items AS l JOIN weir.price_books AS b USING (price_book)"
    " WHERE (l.meter IS NULL OR l.component = 'invoice_discount')"
    " AND l.customer >= $1::text AND l.customer <= $2::text"
    " GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4";

/* Who has prepaid amounts or minimum quantities in the ledger. */
static const char accounts_sql[] =
    "SELECT customer, bool_or(has_prepaid) FROM (SELECT customer, true AS has_prepaid FROM weir.grants"
    " WHERE customer >= $1::text AND customer <= $2::text UNION ALL SELECT customer, false FROM weir.commitment_totals"
    " WHERE customer >= $1::text AND customer <= $2::text) AS a GROUP BY 1 ORDER BY 1";

enum { PRICES, PERIODS, OTHERS, ACCOUNTS, ANSWERS };

struct row {
    const PGresult *result;
    int number;
};

static struct weir_slice text_at(struct row row, int column)
{
    return weir_postgres_field(row.result, row.number, column);
}

static const char *bytes_at(struct row row, int column)
{
    return PQgetvalue(row.result, row.number, column);
}

static bool decimal_at(struct row row, int column, struct weir_decimal *ret_value)
{
    return weir_get_decimal(bytes_at(row, column), (size_t)PQgetlength(row.result, row.number, column), ret_value);
}

static bool take_price(struct rerate_customer *customer, struct row row)
{
    struct rerate_old_price *price = &customer->prices[customer->price_count++];

    *price = (struct rerate_old_price){
        .contract = text_at(row, 1),
        .period_start = weir_get_time(bytes_at(row, 2)),
        .price_book = text_at(row, 3),
        .price_book_version = (uint32_t)weir_get_int4(bytes_at(row, 4)),
        .meter = text_at(row, 5),
        .price_key = text_at(row, 6),
        .events = (uint64_t)weir_get_int8(bytes_at(row, 8)),
        .currency = text_at(row, 10),
        .currency_places = weir_get_int4(bytes_at(row, 11)),
    };
    return decimal_at(row, 7, &price->quantity) && decimal_at(row, 9, &price->amount);
}

static bool take_period(struct rerate_customer *customer, struct row row)
{
    struct rerate_old_period *period = &customer->periods[customer->period_count++];

    *period = (struct rerate_old_period){
        .contract = text_at(row, 1),
        .start = weir_get_time(bytes_at(row, 2)),
        .end = weir_get_time(bytes_at(row, 3)),
        .true_up_revision = (uint32_t)weir_get_int4(bytes_at(row, 6)),
        .is_advance_charged = *bytes_at(row, 7),
        .is_closed = *bytes_at(row, 8),
    };
    return decimal_at(row, 4, &period->usage_amount) && decimal_at(row, 5, &period->true_up);
}

static bool take_other(struct rerate_customer *customer, struct row row)
{
    struct rerate_old_other *other = &customer->others[customer->other_count++];

    *other = (struct rerate_old_other){
        .contract = text_at(row, 1),
        .period_start = weir_get_time(bytes_at(row, 2)),
        .item = text_at(row, 3),
        .currency = text_at(row, 4),
        .currency_places = weir_get_int4(bytes_at(row, 5)),
    };
    return decimal_at(row, 6, &other->amount);
}

static bool take_account(struct rerate_customer *customer, struct row row)
{
    customer->has_commitments = true;
    customer->has_prepaid = *bytes_at(row, 1);
    return true;
}

/* How many rows from `at` on are of the customer; rows of customers that are not in the chunk are passed by. */
static int rows_of(const PGresult *result, struct weir_slice customer, int *at)
{
    int count = 0;

    while (*at < PQntuples(result) && weir_slice_compare(weir_postgres_field(result, *at, 0), customer) < 0)
        ++*at;
    while (*at + count < PQntuples(result) && weir_slice_equal(weir_postgres_field(result, *at + count, 0), customer))
        count++;
    return count;
}

static enum weir_status share_out(struct rerate_chunk *chunk, struct weir_error *reterr)
{
    static bool (*const take[])(struct rerate_customer * customer, struct row row) = {take_price, take_period,
                                                                                      take_other, take_account};
    int at[ANSWERS] = {0};

    for (size_t i = 0; i < chunk->count; i++) {
        struct rerate_customer *customer = &chunk->customers[i];
        int rows[ANSWERS];
        for (int k = 0; k < ANSWERS; k++)
            rows[k] = rows_of(chunk->results[k], customer->customer, &at[k]);
        customer->prices = weir_arena_take_array(chunk->arena, (size_t)rows[PRICES], sizeof *customer->prices);
        customer->periods = weir_arena_take_array(chunk->arena, (size_t)rows[PERIODS], sizeof *customer->periods);
        customer->others = weir_arena_take_array(chunk->arena, (size_t)rows[OTHERS], sizeof *customer->others);
        for (int k = 0; k < ANSWERS; k++)
            for (int end = at[k] + rows[k]; at[k] < end; at[k]++)
                if (!take[k](customer, (struct row){chunk->results[k], at[k]}))
                    return weir_fail(reterr, WEIR_FATAL,
                                     "PostgreSQL, reading the totals of customer '%.*s': a row that weir never wrote; "
                                     "restore the tables of schema weir as they were",
                                     (int)customer->customer.length, customer->customer.data);
    }
    return WEIR_OK;
}

static void find_commitments(const struct weir_contract *contract, struct rerate_customer *customer)
{
    bool needs_all = contract->has_prepaid || contract->has_term_minimum;

    customer->has_prepaid = customer->has_prepaid || needs_all;
    customer->has_commitments =
        customer->has_commitments || needs_all || contract->has_minimum_quantity || contract->has_invoice_discounts;
}

/* Also those of the catalog, whenever they hold. */
static void find_all_commitments(const struct weir_catalog *catalog, struct rerate_customer *customer)
{
    uint32_t count;
    const struct weir_contract *contracts = weir_catalog_contracts_of(catalog, customer->customer, &count);

    for (uint32_t i = 0; i < count; i++)
        find_commitments(&contracts[i], customer);
    if (catalog->default_contract)
        find_commitments(catalog->default_contract, customer);
}

/* What a minimum of a term has charged stands in the term's last period, also when the catalog has dropped it: whatever
 * was chosen of the term, it goes with it. What is charged for quantities stands by commitment, and is not asked which
 * one has charged it. */
static void find_old_true_ups(const struct rerate_term_minimums *minimums, struct rerate_customer *customer)
{
    for (size_t i = 0; minimums->count && i < customer->period_count; i++)
        if ((customer->has_commitments || !weir_decimal_is_zero(customer->periods[i].true_up))
            && bsearch(&customer->periods[i].contract, minimums->contracts, minimums->count,
                       sizeof *minimums->contracts, weir_slice_compare_items))
            customer->has_prepaid = customer->has_commitments = true;
}

/* By the connection that reads all else, so that it is of the same snapshot, or under the same locks. */
static enum weir_status read_accounts(PGconn *connection, struct rerate_chunk *chunk, struct weir_error *reterr)
{
    struct weir_postgres_ledger asking = {.connection = connection};

    for (size_t i = 0; i < chunk->count; i++) {
        chunk->customers[i].accounts = chunk->accounts;
        if (chunk->customers[i].has_commitments)
            weir_state_account(chunk->accounts, chunk->customers[i].customer);
    }
    enum weir_status status = weir_postgres_load_accounts(&asking, chunk->accounts, reterr);
    for (int i = 0; i < WEIR_ROW_COLUMNS_MAX; i++)
        weir_buffer_free(&asking.columns[i]);
    return status;
}

/* Few catalogs have one: the others' texts are looked through and not taken apart. */
enum weir_status weir_rerate_term_minimums_read(PGconn *connection, struct rerate_term_minimums *ret_minimums,
                                                struct weir_error *reterr)
{
    *ret_minimums = (struct rerate_term_minimums){0};
    enum weir_status status = weir_postgres_ask(
        connection,
        "SELECT DISTINCT (c.contract ->> 'key') COLLATE \"C\" FROM weir.catalog_versions AS v,"
        " jsonb_array_elements(v.catalog::jsonb -> 'contracts') AS c(contract) WHERE v.catalog::text LIKE '%\"term\"%'"
        " AND jsonb_path_exists(c.contract, '$.**.commitments[*] ? (@.type != \"prepaid\" && @.per == \"term\")')"
        " ORDER BY 1",
        NULL, "looking for minimums of terms", &ret_minimums->owned, reterr);

    if (status != WEIR_OK)
        return status;
    ret_minimums->count = (size_t)PQntuples(ret_minimums->owned);
    ret_minimums->contracts = weir_new_array(ret_minimums->count + 1, sizeof *ret_minimums->contracts);
    for (size_t i = 0; i < ret_minimums->count; i++)
        ret_minimums->contracts[i] = weir_postgres_field(ret_minimums->owned, (int)i, 0);
    return WEIR_OK;
}

void weir_rerate_term_minimums_free(struct rerate_term_minimums *minimums)
{
    free(minimums->contracts);
    PQclear(minimums->owned);
    *minimums = (struct rerate_term_minimums){0};
}

enum weir_status weir_rerate_read(PGconn *connection, const struct weir_catalog *catalog,
                                  const struct rerate_term_minimums *minimums, const struct weir_slice *customers,
                                  size_t count, struct rerate_chunk *ret_chunk, struct weir_error *reterr)
{
    static const char *const sql[] = {prices_sql, periods_sql, others_sql, accounts_sql};
    struct weir_parameters parameters = {0};
    enum weir_status status = WEIR_OK;

    weir_check(count > 0 && count <= WEIR_RERATE_CHUNK);
    *ret_chunk = (struct rerate_chunk){.count = count, .arena = weir_arena_new(), .accounts = weir_state_new()};
    for (size_t i = 0; i < count; i++)
        ret_chunk->customers[i] = (struct rerate_customer){.customer = customers[i]};
    weir_parameters_add(&parameters, customers[0].data, customers[0].length);
    weir_parameters_add(&parameters, customers[count - 1].data, customers[count - 1].length);
    for (int k = 0; k < ANSWERS && status == WEIR_OK; k++)
        status = weir_postgres_ask(connection, sql[k], &parameters, "reading totals", &ret_chunk->results[k], reterr);
    if (status == WEIR_OK)
        status = share_out(ret_chunk, reterr);
    for (size_t i = 0; i < count && status == WEIR_OK; i++) {
        find_all_commitments(catalog, &ret_chunk->customers[i]);
        find_old_true_ups(minimums, &ret_chunk->customers[i]);
    }
    if (status == WEIR_OK)
        status = read_accounts(connection, ret_chunk, reterr);
    if (status != WEIR_OK)
        weir_rerate_chunk_free(ret_chunk);
    return status;
}

void weir_rerate_chunk_free(struct rerate_chunk *chunk)
{
    for (int k = 0; k < ANSWERS; k++)
        PQclear(chunk->results[k]);
    weir_arena_free(chunk->arena);
    weir_state_free(chunk->accounts);
    *chunk = (struct rerate_chunk){0};
}

/* 2. a COPY that reads */

enum { COPY_HEADER = 19 };

bool weir_rerate_add_literal(PGconn *connection, struct weir_buffer *sql, const char *before, struct weir_slice text)
{
    char *literal = PQescapeLiteral(connection, text.length ? text.data : "", text.length);

    if (!literal)
        return false;
    weir_buffer_add(sql, weir_slice_text(before));
    weir_buffer_add(sql, weir_slice_text(literal));
    PQfreemem(literal);
    return true;
}

void weir_rerate_add_time(struct weir_buffer *sql, const char *before, int64_t time)
{
    char text[WEIR_TIME_TEXT_MAX];

    weir_time_format(time, text);
    weir_buffer_add(sql, weir_slice_text(before));
    weir_buffer_add(sql, weir_slice_text("'"));
    weir_buffer_add(sql, weir_slice_text(text));
    weir_buffer_add(sql, weir_slice_text("'"));
}

enum weir_status weir_rerate_copy_begin(PGconn *connection, const char *sql, const char *doing,
                                        struct weir_error *reterr)
{
    PGresult *result = PQexec(connection, sql);

    if (PQresultStatus(result) != PGRES_COPY_OUT)
        return weir_postgres_failed(connection, result, doing, reterr);
    PQclear(result);
    return WEIR_OK;
}

/* The end of a COPY: the server's verdict. */
static enum weir_status finish(PGconn *connection, const char *doing, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    for (PGresult *result; (result = PQgetResult(connection));) {
        if (PQresultStatus(result) == PGRES_COMMAND_OK || status != WEIR_OK)
            PQclear(result);
        else
            status = weir_postgres_failed(connection, result, doing, reterr);
    }
    return status;
}

static bool split_fields(const char *at, const char *end, struct weir_slice *fields, int count)
{
    for (int i = 0; i < count; i++) {
        int32_t length = end - at < 4 ? INT32_MAX : weir_get_int4(at);
        if (length < -1 || end - at - 4 < length)
            return false;
        fields[i] = length < 0 ? (struct weir_slice){0} : weir_slice_of(at + 4, (size_t)length);
        at += 4 + (length < 0 ? 0 : length);
    }
    return true;
}

enum weir_status weir_rerate_copy_next(PGconn *connection, struct weir_slice *fields, int count, const char *doing,
                                       char **ret_bytes, struct weir_error *reterr)
{
    static const char signature[] = "PGCOPY\n\377\r\n";

    *ret_bytes = NULL;
    for (;;) {
        char *bytes = NULL;
        int length = PQgetCopyData(connection, &bytes, 0);
        if (length < 0)
            return length == -1 ? finish(connection, doing, reterr)
                                : weir_postgres_failed(connection, NULL, doing, reterr);
        const char *at = bytes, *end = bytes + length;
        if (length >= COPY_HEADER && memcmp(bytes, signature, sizeof signature) == 0)
            at += COPY_HEADER;
        if (end - at < 2 || *at == '\377') { /* nothing but the header, or the trailer */
            PQfreemem(bytes);
            continue;
        }
        if (split_fields(at + 2, end, fields, count)) {
            *ret_bytes = bytes;
            return WEIR_OK;
        }
        PQfreemem(bytes);
        return weir_fail(reterr, WEIR_FATAL, "PostgreSQL, %s: an answer that cannot be read", doing);
    }
}

/* 3. windows */

enum { COLUMNS = 9, TERM_COLUMNS = 6 };
static const char doing_windows[] = "reading windows";

static bool windows_sql(PGconn *connection, const struct rerate_chunk *chunk, bool has_terms, struct weir_buffer *sql)
{
    int64_t from = WEIR_TIME_NEVER, to = INT64_MIN;
    struct weir_slice meter = chunk->customers[0].meter; /* of all, or there is none */

    for (size_t i = 0; i < chunk->count; i++) {
        meter = chunk->customers[i].meter.length ? meter : (struct weir_slice){0};
        from = chunk->customers[i].from < from ? chunk->customers[i].from : from;
        to = chunk->customers[i].to > to ? chunk->customers[i].to : to;
    }
    weir_buffer_add(sql, weir_slice_text("COPY (SELECT window_start, window_end, series_key, lane, events, value,"
                                         " latest_time, latest_offset, retracted"));
    if (has_terms)
        weir_buffer_add(sql, weir_slice_text(", unpriced, contract, period_start, price_book, price_book_version,"
                                             " price_key"));
    weir_buffer_add(sql, weir_slice_text(" FROM weir.rated_windows"));
    if (!weir_rerate_add_literal(connection, sql, " WHERE customer >= ", chunk->customers[0].customer)
        || !weir_rerate_add_literal(connection, sql, " AND customer <= ", chunk->customers[chunk->count - 1].customer)
        || (meter.length && !weir_rerate_add_literal(connection, sql, " AND meter = ", meter)))
        return false;
    if (from != INT64_MIN)
        weir_rerate_add_time(sql, " AND window_start >= ", from);
    if (to != WEIR_TIME_NEVER)
        weir_rerate_add_time(sql, " AND window_start < ", to);
    weir_buffer_add(sql, weir_slice_text(" ORDER BY customer, window_start, series, lane) TO STDOUT (FORMAT binary)"));
    weir_buffer_add(sql, weir_slice_of("", 1));
    return true;
}

enum weir_status weir_rerate_windows_begin(PGconn *connection, const struct rerate_chunk *chunk, bool has_terms,
                                           struct weir_error *reterr)
{
    struct weir_buffer sql = {0};
    enum weir_status status;

    if (windows_sql(connection, chunk, has_terms, &sql))
        status = weir_rerate_copy_begin(connection, sql.data, doing_windows, reterr);
    else
        status = weir_postgres_failed(connection, NULL, doing_windows, reterr);
    weir_buffer_free(&sql);
    return status;
}

static bool take_window(const struct weir_slice *fields, struct rerate_window *ret_window)
{
    struct weir_window *window = &ret_window->share.window;
    struct weir_series series;

    window->start = weir_get_time(fields[0].data);
    window->end = weir_get_time(fields[1].data);
    window->series_key = fields[2];
    ret_window->share.lane = fields[3];
    window->total = (struct weir_window_total){
        .events = (uint64_t)weir_get_int8(fields[4].data),
        .latest_time = weir_get_int8(fields[6].data),
        .latest_offset = weir_get_int8(fields[7].data),
        .retracted = (uint64_t)weir_get_int8(fields[8].data),
    };
    if (!weir_get_decimal(fields[5].data, fields[5].length, &window->total.value)
        || !weir_series_parse(window->series_key, &series))
        return false;
    ret_window->customer = series.customer;
    ret_window->meter = series.meter;
    return true;
}

static void take_terms(const struct weir_slice *fields, struct rerate_window *window)
{
    window->unpriced = fields[0];
    window->has_contract = fields[1].data != NULL;
    window->contract = fields[1];
    window->period_start = fields[2].data ? weir_get_time(fields[2].data) : 0;
    window->price_book = fields[3];
    window->price_book_version = fields[4].data ? (uint32_t)weir_get_int4(fields[4].data) : 0;
    window->price_key = fields[5];
}

enum weir_status weir_rerate_windows_next(PGconn *connection, bool has_terms, struct rerate_window *ret_window,
                                          struct weir_error *reterr)
{
    struct weir_slice fields[COLUMNS + TERM_COLUMNS];

    *ret_window = (struct rerate_window){0};
    enum weir_status status = weir_rerate_copy_next(connection, fields, has_terms ? COLUMNS + TERM_COLUMNS : COLUMNS,
                                                    doing_windows, &ret_window->bytes, reterr);
    if (status != WEIR_OK || !ret_window->bytes)
        return status;
    if (has_terms)
        take_terms(fields + COLUMNS, ret_window);
    if (take_window(fields, ret_window))
        return WEIR_OK;
    PQfreemem(ret_window->bytes);
    ret_window->bytes = NULL;
    return weir_fail(reterr, WEIR_FATAL,
                     "PostgreSQL, weir.rated_windows: a row that weir never wrote; restore the tables of schema weir "
                     "as they were");
}
