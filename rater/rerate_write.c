/* The transaction of a rerating that writes: locks, rows of line_items, terms of windows, and the rater's own state,
 * which is then what it would be if all had been rated by this catalog from the start. */
#include "rater/rerate_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TERM_KEYS = 4, TERM_COLUMNS = 11, TERMS_AT_ONCE = 20000, COPY_AT_ONCE = 1 << 20, ITEM_COLUMNS = 21 };

/* 1. opening */
enum weir_status weir_rerate_writer_open(struct rerate_writer *writer, const char *url, int64_t run,
                                         int catalog_version, struct weir_error *reterr)
{
    struct weir_ledger *ledger = NULL;
    enum weir_status status = weir_ledger_postgres_open(url, &ledger, reterr);

    *writer = (struct rerate_writer){.ledger = (struct weir_postgres_ledger *)ledger,
                                     .url = url,
                                     .run = run,
                                     .catalog_version = catalog_version,
                                     .lines = {.judge = &writer->judge}};
    if (status == WEIR_OK) {
        writer->lines.arena = weir_arena_new();
        writer->lines.connection = weir_postgres_open(url, "weir rerate", &status, reterr);
    }
    if (status == WEIR_OK)
        status = weir_postgres_run(writer->lines.connection, "SET jit = off; SET enable_seqscan = off",
                                   "setting the session up", reterr);
    return status;
}

void weir_rerate_writer_close(struct rerate_writer *writer)
{
    if (writer->ledger)
        weir_ledger_free(&writer->ledger->ledger);
    PQfinish(writer->maker);
    weir_partitions_free(&writer->partitions);
    weir_rerate_judge_free(&writer->judge);
    weir_rerate_lines_free(&writer->lines);
    weir_buffer_free(&writer->copy);
    for (int i = 0; i < TERM_COLUMNS; i++)
        weir_buffer_free(&writer->terms[i]);
    *writer = (struct rerate_writer){0};
}

static PGconn *connection_of(const struct rerate_writer *writer)
{
    return writer->ledger->connection;
}

/* 2. the transaction */

/* The locks are those of raters, taken in the same order: whoever rates one of these customers waits for the commit,
 * and finds the new state. */
enum weir_status weir_rerate_writer_begin(struct rerate_writer *writer, const struct weir_slice *customers,
                                          size_t count, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer list = {0};
    PGresult *result = NULL;
    char begin_sql[128]; /* entries of balances take the run from there */

    (void)snprintf(begin_sql, sizeof begin_sql,
                   "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL weir.rerating = %" PRId64, writer->run);
    enum weir_status status = weir_postgres_run(connection_of(writer), begin_sql, "beginning a transaction", reterr);

    weir_array_begin(&list, WEIR_PG_TEXT);
    for (size_t i = 0; i < count; i++)
        weir_put_text(&list, customers[i]);
    weir_array_end(&list, count);
    weir_parameters_add(&parameters, list.data, list.length);
    if (status == WEIR_OK)
        status = weir_postgres_ask(connection_of(writer),
                                   "SELECT count(*)::int, (SELECT max(catalog_version) FROM weir.catalog_versions)"
                                   " FROM (SELECT FROM weir.customers WHERE customer = ANY ($1::text[])"
                                   " ORDER BY customer FOR NO KEY UPDATE) AS locked",
                                   &parameters, "locking customers", &result, reterr);
    if (status == WEIR_OK && weir_get_int4(PQgetvalue(result, 0, 1)) != writer->catalog_version)
        status = weir_fail(reterr, WEIR_FATAL,
                           "catalog %d was applied while this ran: what is done so far is priced by catalog %d. Run it "
                           "again to rate all by the new one",
                           weir_get_int4(PQgetvalue(result, 0, 1)), writer->catalog_version);
    PQclear(result);
    weir_buffer_free(&list);
    return status;
}

void weir_rerate_writer_abandon(struct rerate_writer *writer)
{
    struct weir_error ignored;

    writer->copy.length = 0;
    writer->term_count = 0;
    if (writer->ledger && PQstatus(connection_of(writer)) == CONNECTION_OK)
        (void)weir_postgres_run(connection_of(writer), "ROLLBACK", "giving a transaction up", &ignored);
}

/* 3. line items */
static const char copy_sql[] =
    "COPY weir.line_items (customer, contract, item, meter, dimensions, period_start, period_end, window_start,"
    " window_end, kind, component, price_book, price_book_version, model, tier, quantity, unit_price, amount, currency,"
    " revision, rerating) FROM STDIN (FORMAT binary)";

static enum weir_status flush_items(struct rerate_writer *writer, struct weir_error *reterr)
{
    static const char doing[] = "writing line items";
    PGconn *connection = connection_of(writer);
    enum weir_status status = WEIR_OK;

    if (writer->copy.length == 0)
        return WEIR_OK;
    weir_put_copy_end(&writer->copy);
    PGresult *result = PQexec(connection, copy_sql);
    if (PQresultStatus(result) != PGRES_COPY_IN)
        return weir_postgres_failed(connection, result, doing, reterr);
    PQclear(result);
    if (PQputCopyData(connection, writer->copy.data, (int)writer->copy.length) != 1
        || PQputCopyEnd(connection, NULL) != 1)
        return weir_postgres_failed(connection, NULL, doing, reterr);
    while ((result = PQgetResult(connection))) {
        if (PQresultStatus(result) == PGRES_COMMAND_OK || status != WEIR_OK)
            PQclear(result);
        else
            status = weir_postgres_failed(connection, result, doing, reterr);
    }
    writer->copy.length = 0;
    return status;
}

static void put_text_or_null(struct weir_buffer *to, struct weir_slice text)
{
    if (text.length)
        weir_put_text(to, text);
    else
        weir_put_null(to);
}

static const char *kind_of(const struct rerate_line *line, bool is_reversal)
{
    if (is_reversal)
        return weir_kind_name[WEIR_KIND_REVERSAL];
    if (line->has_meter)
        return weir_kind_name[WEIR_KIND_USAGE];
    switch (line->component) {
    case WEIR_COMPONENT_TRUE_UP:
    case WEIR_COMPONENT_SHORTFALL:
        return weir_kind_name[WEIR_KIND_TRUE_UP];
    case WEIR_COMPONENT_DRAWDOWN:
        return weir_kind_name[WEIR_KIND_DRAWDOWN];
    case WEIR_COMPONENT_OVERAGE:
        return weir_kind_name[WEIR_KIND_OVERAGE];
    default:
        return weir_kind_name[WEIR_KIND_FEE];
    }
}

static void put_line(struct rerate_writer *writer, const struct rerate_line *line, bool is_reversal)
{
    struct weir_buffer *to = &writer->copy;

    if (to->length == 0)
        weir_put_copy_header(to);
    weir_put_row(to, ITEM_COLUMNS);
    weir_put_text(to, writer->customer->customer);
    weir_put_text(to, line->contract);
    weir_put_text(to, line->item);
    put_text_or_null(to, line->has_meter ? line->item : (struct weir_slice){0});
    weir_put_jsonb(to, line->dimensions);
    weir_put_time(to, line->period_start);
    weir_put_time(to, line->period_end);
    weir_put_time(to, line->window_start);
    weir_put_time(to, line->window_end);
    weir_put_text(to, weir_slice_text(kind_of(line, is_reversal)));
    weir_put_text(to, weir_slice_text(weir_component_name[line->component]));
    weir_put_text(to, line->price_book);
    if (line->price_book_version)
        weir_put_int4(to, (int32_t)line->price_book_version);
    else
        weir_put_null(to);
    put_text_or_null(to, line->model);
    if (line->has_meter)
        weir_put_int4(to, (int32_t)line->tier);
    else
        weir_put_null(to);
    weir_put_decimal(to, line->quantity);
    if (line->has_unit_price)
        weir_put_decimal(to, line->unit_price);
    else
        weir_put_null(to);
    weir_put_decimal(to, line->amount);
    weir_put_text(to, line->currency);
    weir_put_int4(to, (int32_t)line->revision);
    weir_put_int8(to, writer->run);
}

/* The partition of the line's period is there before the line is sent. By a connection of its own: the others are in
 * the middle of a transaction and of a stream. */
static enum weir_status need_partition(struct rerate_writer *writer, int64_t period_start, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    if (weir_partitions_have(&writer->partitions, period_start))
        return WEIR_OK;
    if (!writer->maker)
        writer->maker = weir_postgres_open(writer->url, "weir rerate", &status, reterr);
    return status == WEIR_OK ? weir_partitions_make(&writer->partitions, writer->maker, period_start, reterr) : status;
}

static enum weir_status emit(void *context, const struct rerate_line *line, bool is_reversal, struct weir_error *reterr)
{
    struct rerate_writer *writer = context;
    enum weir_status status = need_partition(writer, line->period_start, reterr);

    if (status != WEIR_OK)
        return status;
    put_line(writer, line, is_reversal);
    if (is_reversal)
        writer->customer->reversals++;
    else
        writer->customer->line_items++;
    return writer->copy.length >= COPY_AT_ONCE ? flush_items(writer, reterr) : WEIR_OK;
}

/* 4. terms of windows */
static const enum weir_postgres_type term_types[TERM_COLUMNS] = {
    WEIR_PG_TEXT,        WEIR_PG_TIMESTAMPTZ, WEIR_PG_UUID, WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_TEXT,
    WEIR_PG_TIMESTAMPTZ, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT, WEIR_PG_INT4, WEIR_PG_TEXT};

static enum weir_status flush_terms(struct rerate_writer *writer, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    if (writer->term_count == 0)
        return WEIR_OK;
    for (int i = 0; i < TERM_COLUMNS; i++) {
        weir_array_end(&writer->terms[i], writer->term_count);
        weir_parameters_add(&parameters, writer->terms[i].data, writer->terms[i].length);
    }
    writer->term_count = 0;
    enum weir_status status = weir_postgres_ask(
        connection_of(writer),
        "UPDATE weir.rated_windows AS w SET unpriced = k.unpriced, contract = k.contract, period_start = "
        "k.period_start,"
        " period_end = k.period_end, price_book = k.book, price_book_version = k.version, price_key = k.price"
        " FROM unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::text[],"
        " $7::timestamptz[], $8::timestamptz[], $9::text[], $10::int[], $11::text[])"
        " AS k(customer, start, series, lane, unpriced, contract, period_start, period_end, book, version, price)"
        " WHERE w.customer = k.customer AND w.window_start = k.start AND w.series = k.series AND w.lane = k.lane",
        &parameters, "writing windows' terms", &result, reterr);
    PQclear(result);
    return status;
}

static void put_terms(struct rerate_writer *writer, const struct rerate_window *share,
                      const struct weir_rated_window *window)
{
    struct weir_buffer *to = writer->terms;

    for (int i = 0; i < TERM_COLUMNS && writer->term_count == 0; i++)
        weir_array_begin(&to[i], term_types[i]);
    weir_put_text(&to[0], share->customer);
    weir_put_time(&to[1], window->start);
    weir_put_uuid(&to[2], (const unsigned char *)share->series.data);
    weir_put_text(&to[3], share->share.lane);
    put_text_or_null(&to[TERM_KEYS], weir_slice_text(weir_unpriced_name[window->unpriced]));
    if (window->period_end) {
        weir_put_text(&to[5], window->contract);
        weir_put_time(&to[6], window->period_start);
        weir_put_time(&to[7], window->period_end);
    } else {
        for (int i = 5; i <= 7; i++)
            weir_put_null(&to[i]);
    }
    put_text_or_null(&to[8], window->price_book);
    if (window->price_book.length)
        weir_put_int4(&to[9], (int32_t)window->price_book_version);
    else
        weir_put_null(&to[9]);
    put_text_or_null(&to[10], window->price_book.length ? window->price_key : (struct weir_slice){0});
    writer->term_count++;
}

/* 5. one customer */
enum weir_status weir_rerate_writer_customer(struct rerate_writer *writer, struct rerate_customer *customer,
                                             struct weir_error *reterr)
{
    writer->customer = customer;
    return weir_rerate_lines_begin(&writer->lines, customer, reterr);
}

/* The state's windows are the batch's, in its order; one may be of several shares. */
enum weir_status weir_rerate_writer_batch(struct rerate_writer *writer, const struct rerate_window *shares,
                                          size_t count, const struct rerate_fresh *fresh, struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(fresh->state);
    enum weir_status status = WEIR_OK;
    size_t share = 0;

    for (size_t i = 0; i < all.window_count && status == WEIR_OK; i++) {
        const struct weir_rated_window *window = all.windows[i];
        for (; share < count && shares[share].share.window.start == window->start
               && weir_slice_equal(shares[share].share.window.series_key, window->series_key);
             share++)
            if (weir_rerate_has_new_terms(&shares[share], window))
                put_terms(writer, &shares[share], window);
        if (writer->term_count >= TERMS_AT_ONCE)
            status = flush_terms(writer, reterr);
    }
    weir_check(share == count || status != WEIR_OK);
    int64_t until = count ? shares[count - 1].share.window.start : INT64_MIN;
    return status == WEIR_OK ? weir_rerate_lines_merge(&writer->lines, until, false, emit, writer, reterr) : status;
}

/* The rows of the rater's state that are replaced: $1 customer, [$2, $3) periods, $4 meter or ''. */
static const char *const clearing[] = {
    "DELETE FROM weir.split_totals AS s USING weir.price_totals AS p WHERE p.customer = $1::text"
    " AND p.period_start >= $2::text::timestamptz AND p.period_start < $3::text::timestamptz"
    " AND $4::text IN ('', p.meter) AND s.customer = p.customer AND s.contract = p.contract"
    " AND s.period_start = p.period_start AND s.price_book = p.price_book"
    " AND s.price_book_version = p.price_book_version AND s.price_id = p.price_id",
    "DELETE FROM weir.price_totals WHERE customer = $1::text AND period_start >= $2::text::timestamptz"
    " AND period_start < $3::text::timestamptz AND $4::text IN ('', meter)",
    "DELETE FROM weir.billing_periods WHERE customer = $1::text AND period_start >= $2::text::timestamptz"
    " AND period_start < $3::text::timestamptz AND $4::text = $4::text",
    "DELETE FROM weir.commitment_totals WHERE customer = $1::text AND period_start >= $2::text::timestamptz"
    " AND period_start < $3::text::timestamptz AND $4::text = $4::text",
    "DELETE FROM weir.segment_totals WHERE customer = $1::text AND period_start >= $2::text::timestamptz"
    " AND period_start < $3::text::timestamptz AND $4::text = $4::text",
    "DELETE FROM weir.draw_totals WHERE customer = $1::text AND period_start >= $2::text::timestamptz"
    " AND period_start < $3::text::timestamptz AND $4::text = $4::text",
};
enum { CLEARED = sizeof clearing / sizeof *clearing, CLEARED_OF_ALL = 3 }; /* the others only of commitments */

static enum weir_status clear_state(struct rerate_writer *writer, const struct rerate_fresh *fresh,
                                    struct weir_error *reterr)
{
    const struct rerate_customer *customer = fresh->customer;
    struct rerate_span span;
    struct weir_parameters parameters = {0};
    enum weir_status status = WEIR_OK;

    weir_rerate_add_span(&parameters, customer, &span);
    weir_parameters_add(&parameters, fresh->customer->meter.length ? fresh->customer->meter.data : "",
                        fresh->customer->meter.length);
    for (int i = 0; i < (customer->has_commitments ? CLEARED : CLEARED_OF_ALL) && status == WEIR_OK; i++) {
        PGresult *result = NULL;
        status = weir_postgres_ask(connection_of(writer), clearing[i], &parameters, "clearing totals", &result, reterr);
        PQclear(result);
    }
    return status;
}

static enum weir_status store_state(struct rerate_writer *writer, struct rerate_fresh *fresh, struct weir_error *reterr)
{
    weir_rerate_fresh_complete(fresh);
    weir_rerate_accounts_complete(fresh);
    struct weir_state_view all = weir_state_all(fresh->state);
    enum weir_status status = clear_state(writer, fresh, reterr);

    for (size_t i = 0; i < all.price_count; i++)
        if (fresh->customer->meter.length
            && !weir_slice_equal(weir_rerate_price_meter(all.prices[i]->price_key), fresh->customer->meter))
            all.prices[i]->entry.is_dirty = false; /* as it was, and still there */
        else
            all.prices[i]->entry.exists = false;
    for (size_t i = 0; i < all.period_count; i++)
        all.periods[i]->entry = (struct weir_entry){.is_loaded = true, .is_dirty = all.periods[i]->entry.is_dirty};
    if (status == WEIR_OK)
        status = weir_postgres_write_state(writer->ledger, fresh->state, reterr);
    return status == WEIR_OK ? weir_postgres_write_accounts(writer->ledger, fresh->state, reterr) : status;
}

enum weir_status weir_rerate_writer_end(struct rerate_writer *writer, struct rerate_fresh *fresh,
                                        struct weir_error *reterr)
{
    enum weir_status status = weir_rerate_lines_merge(&writer->lines, 0, true, emit, writer, reterr);

    return status == WEIR_OK ? store_state(writer, fresh, reterr) : status;
}

/* 6. the end */
static enum weir_status ask_with(struct rerate_writer *writer, const char *sql, struct weir_buffer *columns, int count,
                                 size_t rows, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer run = {0};
    PGresult *result = NULL;

    weir_put_int8(&run, writer->run);
    weir_parameters_add(&parameters, run.data + 4, 8);
    for (int i = 0; i < count; i++) {
        weir_array_end(&columns[i], rows);
        weir_parameters_add(&parameters, columns[i].data, columns[i].length);
    }
    enum weir_status status =
        weir_postgres_ask(connection_of(writer), sql, &parameters, "noting customers that are done", &result, reterr);
    PQclear(result);
    weir_buffer_free(&run);
    return status;
}

static enum weir_status note_customers(struct rerate_writer *writer, const struct rerate_chunk *chunk,
                                       struct weir_error *reterr)
{
    struct weir_buffer columns[4] = {{0}};

    weir_array_begin(&columns[0], WEIR_PG_TEXT);
    for (int i = 1; i < 4; i++)
        weir_array_begin(&columns[i], WEIR_PG_INT8);
    for (size_t i = 0; i < chunk->count; i++) {
        weir_put_text(&columns[0], chunk->customers[i].customer);
        weir_put_int8(&columns[1], (int64_t)chunk->customers[i].windows);
        weir_put_int8(&columns[2], (int64_t)chunk->customers[i].reversals);
        weir_put_int8(&columns[3], (int64_t)chunk->customers[i].line_items);
    }
    enum weir_status status =
        ask_with(writer,
                 "INSERT INTO weir.rerating_customers (rerating, customer, windows, reversals, line_items)"
                 " SELECT $1::bigint, * FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[])",
                 columns, 4, chunk->count, reterr);
    for (int i = 0; i < 4; i++)
        weir_buffer_free(&columns[i]);
    return status;
}

static enum weir_status note_amounts(struct rerate_writer *writer, const struct rerate_chunk *chunk,
                                     const struct weir_rerate_row *rows, struct weir_error *reterr)
{
    static const enum weir_postgres_type types[] = {WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_INT4, WEIR_PG_NUMERIC,
                                                    WEIR_PG_NUMERIC};
    struct weir_buffer columns[5] = {{0}};
    size_t count = 0;

    for (int i = 0; i < 5; i++)
        weir_array_begin(&columns[i], types[i]);
    for (size_t i = 0; i < chunk->count; i++)
        for (size_t r = 0; r < chunk->customers[i].row_count; r++, count++) {
            const struct weir_rerate_row *row = &rows[chunk->customers[i].first_row + r];
            weir_put_text(&columns[0], row->customer);
            weir_put_text(&columns[1], row->currency);
            weir_put_int4(&columns[2], row->currency_places);
            weir_put_decimal(&columns[3], row->before);
            weir_put_decimal(&columns[4], row->after);
        }
    enum weir_status status =
        ask_with(writer,
                 "INSERT INTO weir.rerating_amounts (rerating, customer, currency, currency_places, before, after)"
                 " SELECT $1::bigint, * FROM unnest($2::text[], $3::text[], $4::int[], $5::numeric[], $6::numeric[])",
                 columns, 5, count, reterr);
    for (int i = 0; i < 5; i++)
        weir_buffer_free(&columns[i]);
    return status;
}

enum weir_status weir_rerate_writer_commit(struct rerate_writer *writer, const struct rerate_chunk *chunk,
                                           const struct weir_rerate_row *rows, struct weir_error *reterr)
{
    enum weir_status status = flush_items(writer, reterr);

    if (status == WEIR_OK)
        status = flush_terms(writer, reterr);
    if (status == WEIR_OK)
        status = note_customers(writer, chunk, reterr);
    if (status == WEIR_OK)
        status = note_amounts(writer, chunk, rows, reterr);
    return status == WEIR_OK ? weir_postgres_run(connection_of(writer), "COMMIT", "committing", reterr) : status;
}
