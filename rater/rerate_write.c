/* The transaction of a rerating that writes: locks, rows of line_items, terms of windows, and the rater's own state,
 * which is then what it would be if all had been rated by this catalog from the start. */
#include "rater/rerate_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TERM_KEYS = 4,
    TERM_COLUMNS = 11,
    CLEARED_COLUMNS = 4,
    TERMS_AT_ONCE = 20000,
    SENT_AT_ONCE = 1 << 18,  /* bytes of line items that are handed to libpq */
    COPY_AT_ONCE = 16 << 20, /* bytes of one COPY: no statement lasts long */
    ITEM_COLUMNS = 21
};

/* 1. opening */
enum weir_status weir_rerate_writer_open(struct rerate_writer *writer, const struct weir_rerate_request *request,
                                         int64_t run, int catalog_version, struct weir_error *reterr)
{
    struct weir_ledger *ledger = NULL;
    enum weir_status status = weir_ledger_postgres_open(request->url, &ledger, reterr);

    *writer = (struct rerate_writer){.ledger = (struct weir_postgres_ledger *)ledger,
                                     .url = request->url,
                                     .run = run,
                                     .catalog_version = catalog_version,
                                     .last_period = INT64_MIN,
                                     .totals = weir_state_new(),
                                     .lines = {.judge = &writer->judge, .kept_max = request->kept_lines}};
    if (status == WEIR_OK) {
        writer->lines.arena = weir_arena_new();
        writer->lines.connection = weir_postgres_open(request->url, "weir rerate", &status, reterr);
    }
    if (status == WEIR_OK)
        status = weir_postgres_run(writer->lines.connection,
                                   "SET jit = off; SET enable_seqscan = off; SET enable_sort = off",
                                   "setting the session up", reterr);
    if (status == WEIR_OK)
        status = weir_partitions_find(&writer->partitions, writer->lines.connection, reterr);
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
    weir_state_free(writer->totals);
    for (int i = 0; i < CLEARED_COLUMNS; i++)
        weir_buffer_free(&writer->cleared[i]);
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
    char begin_sql[256]; /* entries of balances take the run from there */

    /* Rows are found by their keys, whatever the planner thinks of tables that it has no statistics of. */
    (void)snprintf(
        begin_sql, sizeof begin_sql,
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL weir.rerating = %" PRId64
        "; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
        writer->run);
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
    writer->is_copying = false;
    writer->term_count = writer->cleared_count = 0;
    weir_state_clear(writer->totals);
    if (writer->ledger && PQstatus(connection_of(writer)) == CONNECTION_OK)
        (void)weir_postgres_run(connection_of(writer), "ROLLBACK", "giving a transaction up", &ignored);
}

/* 3. line items */
static const char doing_items[] = "writing line items";
static const char copy_sql[] =
    "COPY weir.line_items (customer, contract, item, meter, dimensions, period_start, period_end, window_start,"
    " window_end, kind, component, price_book, price_book_version, model, tier, quantity, unit_price, amount, currency,"
    " revision, rerating) FROM STDIN (FORMAT binary)";

/* Hands what is there to the COPY, and begins it where none is under way: it goes on from customer to customer, while
 * others are read, since each one costs the server the setting up of its buffers. */
static enum weir_status send_items(struct rerate_writer *writer, struct weir_error *reterr)
{
    PGconn *connection = connection_of(writer);

    if (!writer->is_copying) {
        PGresult *result = PQexec(connection, copy_sql);
        if (PQresultStatus(result) != PGRES_COPY_IN)
            return weir_postgres_failed(connection, result, doing_items, reterr);
        PQclear(result);
        writer->is_copying = true;
        writer->copied = 0;
    }
    writer->copied += writer->copy.length;
    int sent = PQputCopyData(connection, writer->copy.data, (int)writer->copy.length);
    writer->copy.length = 0;
    return sent == 1 ? WEIR_OK : weir_postgres_failed(connection, NULL, doing_items, reterr);
}

/* The connection is free for a statement then. Rows of which none was sent yet wait for more. */
static enum weir_status end_copy(struct rerate_writer *writer, struct weir_error *reterr)
{
    PGconn *connection = connection_of(writer);

    if (!writer->is_copying)
        return WEIR_OK;
    weir_put_copy_end(&writer->copy);
    enum weir_status status = send_items(writer, reterr);
    writer->is_copying = false;
    if (status == WEIR_OK && PQputCopyEnd(connection, NULL) != 1)
        status = weir_postgres_failed(connection, NULL, doing_items, reterr);
    if (status != WEIR_OK)
        return status;
    for (PGresult *result; (result = PQgetResult(connection));) {
        if (PQresultStatus(result) == PGRES_COMMAND_OK || status != WEIR_OK)
            PQclear(result);
        else
            status = weir_postgres_failed(connection, result, doing_items, reterr);
    }
    return status;
}

static enum weir_status flush_items(struct rerate_writer *writer, struct weir_error *reterr)
{
    enum weir_status status = writer->copy.length ? send_items(writer, reterr) : WEIR_OK;

    return status == WEIR_OK ? end_copy(writer, reterr) : status;
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

    if (to->length == 0 && !writer->is_copying)
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

/* The partition of the line's period is there before the COPY begins that the line is sent by: one that is under way
 * does not see it. By a connection of its own: the others are in the middle of a transaction and of a stream. */
static enum weir_status need_partition(struct rerate_writer *writer, int64_t period_start, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    if (period_start == writer->last_period) /* of most lines */
        return WEIR_OK;
    if (weir_partitions_have(&writer->partitions, period_start)) {
        writer->last_period = period_start;
        return WEIR_OK;
    }
    status = end_copy(writer, reterr);
    if (status == WEIR_OK && !writer->maker)
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
    if (writer->copy.length < SENT_AT_ONCE)
        return WEIR_OK;
    status = send_items(writer, reterr);
    return status == WEIR_OK && writer->copied >= COPY_AT_ONCE ? end_copy(writer, reterr) : status;
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
    enum weir_status status = end_copy(writer, reterr);
    if (status != WEIR_OK)
        return status;
    for (int i = 0; i < TERM_COLUMNS; i++) {
        weir_array_end(&writer->terms[i], writer->term_count);
        weir_parameters_add(&parameters, writer->terms[i].data, writer->terms[i].length);
    }
    writer->term_count = 0;
    status = weir_postgres_ask(
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
    struct weir_row_id series = weir_row_id(writer->ledger, window->series_key);

    for (int i = 0; i < TERM_COLUMNS && writer->term_count == 0; i++)
        weir_array_begin(&to[i], term_types[i]);
    weir_put_text(&to[0], share->customer);
    weir_put_time(&to[1], window->start);
    weir_put_uuid(&to[2], series.bytes);
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
/* The state's windows are the batch's, in its order; one may be of several shares. */
enum weir_status weir_rerate_writer_terms(struct rerate_writer *writer, const struct rerate_window *shares,
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
            if (weir_rerate_has_new_terms(&shares[share], window)) {
                put_terms(writer, &shares[share], window);
                writer->judge.has_new_terms = true;
            }
        if (writer->term_count >= TERMS_AT_ONCE)
            status = flush_terms(writer, reterr);
    }
    weir_check(share == count || status != WEIR_OK);
    return status;
}

enum weir_status weir_rerate_writer_batch(struct rerate_writer *writer, int64_t until, struct weir_error *reterr)
{
    return weir_rerate_lines_merge(&writer->lines, until, false, emit, writer, reterr);
}

/* The rows of the rater's state that are replaced: $1 customers, [$2, $3) periods of each, $4 its meter or ''. */
#define CLEARED " FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS k(customer, start, until, meter)"
#define OF_CLEARED(table)                                                                                              \
    " WHERE " table ".customer = k.customer AND " table ".period_start >= k.start::timestamptz"                        \
    " AND " table ".period_start < k.until::timestamptz"
static const char *const clearing[] = {
    "DELETE FROM weir.split_totals AS s USING weir.price_totals AS p, (SELECT *" CLEARED
    ") AS k" OF_CLEARED("p") " AND k.meter IN ('', p.meter) AND s.customer = p.customer AND s.contract = p.contract"
                             " AND s.period_start = p.period_start AND s.price_book = p.price_book"
                             " AND s.price_book_version = p.price_book_version AND s.price_id = p.price_id",
    "DELETE FROM weir.price_totals AS t USING (SELECT *" CLEARED
    ") AS k" OF_CLEARED("t") " AND k.meter IN ('', t.meter)",
    "DELETE FROM weir.billing_periods AS t USING (SELECT *" CLEARED ") AS k" OF_CLEARED("t"),
    "DELETE FROM weir.commitment_totals AS t USING (SELECT *" CLEARED ") AS k" OF_CLEARED("t"),
    "DELETE FROM weir.segment_totals AS t USING (SELECT *" CLEARED ") AS k" OF_CLEARED("t"),
    "DELETE FROM weir.draw_totals AS t USING (SELECT *" CLEARED ") AS k" OF_CLEARED("t"),
};
enum { CLEARINGS = sizeof clearing / sizeof *clearing, CLEARINGS_OF_ALL = 3 }; /* the others only of commitments */

static void note_cleared(struct rerate_writer *writer, const struct rerate_customer *customer)
{
    struct rerate_span span = weir_rerate_span(customer);

    for (int i = 0; i < CLEARED_COLUMNS && writer->cleared_count == 0; i++)
        weir_array_begin(&writer->cleared[i], WEIR_PG_TEXT);
    weir_put_text(&writer->cleared[0], customer->customer);
    weir_put_text(&writer->cleared[1], weir_slice_text(span.from));
    weir_put_text(&writer->cleared[2], weir_slice_text(span.to));
    weir_put_text(&writer->cleared[3], customer->meter);
    writer->cleared_count++;
}

static enum weir_status clear_totals(struct rerate_writer *writer, int clearings, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    enum weir_status status = WEIR_OK;

    for (int i = 0; i < CLEARED_COLUMNS; i++) {
        weir_array_end(&writer->cleared[i], writer->cleared_count);
        weir_parameters_add(&parameters, writer->cleared[i].data, writer->cleared[i].length);
    }
    writer->cleared_count = 0;
    for (int i = 0; i < clearings && status == WEIR_OK; i++) {
        PGresult *result = NULL;
        status = weir_postgres_ask(connection_of(writer), clearing[i], &parameters, "clearing totals", &result, reterr);
        PQclear(result);
    }
    return status;
}

/* What is stored is new: its rows were cleared. */
static void mark_new(struct rerate_fresh *fresh)
{
    struct weir_state_view all = weir_state_all(fresh->state);

    for (size_t i = 0; i < all.price_count; i++)
        if (fresh->customer->meter.length
            && !weir_slice_equal(weir_rerate_price_meter(all.prices[i]->price_key), fresh->customer->meter))
            all.prices[i]->entry.is_dirty = false; /* as it was, and still there */
        else
            all.prices[i]->entry.exists = false;
    for (size_t i = 0; i < all.period_count; i++)
        all.periods[i]->entry = (struct weir_entry){.is_loaded = true, .is_dirty = all.periods[i]->entry.is_dirty};
}

/* The same entries in the state of the whole chunk, which is written at its end: tables are gone through once for all
 * of its customers. */
static void keep_totals(struct weir_state *totals, struct weir_state_view all)
{
    static const struct weir_entry new_entry = {.is_loaded = true, .is_dirty = true};

    for (size_t i = 0; i < all.price_count; i++) {
        const struct weir_price_running *from = all.prices[i];
        if (!from->entry.is_dirty)
            continue;
        struct weir_price_running *price =
            weir_state_price(totals, from->customer, from->contract, from->period_start, from->period_end,
                             from->price_book, from->price_book_version, from->price_key);
        price->quantity = from->quantity;
        price->events = from->events;
        price->amount = from->amount;
        price->entry = new_entry;
    }
    for (size_t i = 0; i < all.split_count; i++) {
        const struct weir_price_running *from = all.splits[i]->price;
        if (!all.splits[i]->entry.is_dirty)
            continue;
        struct weir_split_running *split = weir_state_split(
            totals,
            weir_state_price(totals, from->customer, from->contract, from->period_start, from->period_end,
                             from->price_book, from->price_book_version, from->price_key),
            all.splits[i]->series_key);
        split->total = all.splits[i]->total;
        split->entry = new_entry;
    }
    for (size_t i = 0; i < all.period_count; i++) {
        const struct weir_period_running *from = all.periods[i];
        if (!from->entry.is_dirty)
            continue;
        struct weir_period_running *period =
            weir_state_period(totals, from->customer, from->contract, from->start, from->end);
        period->usage_amount = from->usage_amount;
        period->true_up = from->true_up;
        period->true_up_revision = from->true_up_revision;
        period->is_advance_charged = from->is_advance_charged;
        period->is_closed = from->is_closed;
        period->entry = new_entry;
    }
}

static enum weir_status write_totals(struct rerate_writer *writer, struct weir_error *reterr)
{
    enum weir_status status = end_copy(writer, reterr);

    if (status == WEIR_OK && writer->cleared_count)
        status = clear_totals(writer, CLEARINGS_OF_ALL, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_write_state(writer->ledger, writer->totals, reterr);
    weir_state_clear(writer->totals);
    return status;
}

static enum weir_status store_state(struct rerate_writer *writer, struct rerate_fresh *fresh, struct weir_error *reterr)
{
    weir_rerate_fresh_complete(fresh);
    weir_rerate_accounts_complete(fresh);
    mark_new(fresh);
    if (!fresh->customer->has_commitments) {
        note_cleared(writer, fresh->customer);
        keep_totals(writer->totals, weir_state_all(fresh->state));
        return WEIR_OK;
    }
    enum weir_status status = write_totals(writer, reterr); /* of the customers before */
    note_cleared(writer, fresh->customer);
    if (status == WEIR_OK)
        status = clear_totals(writer, CLEARINGS, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_write_state(writer->ledger, fresh->state, reterr);
    return status == WEIR_OK ? weir_postgres_write_accounts(writer->ledger, fresh->state, reterr) : status;
}

enum weir_status weir_rerate_writer_end(struct rerate_writer *writer, struct rerate_fresh *fresh,
                                        struct weir_error *reterr)
{
    enum weir_status status = writer->lines.is_judged
                                  ? weir_rerate_lines_merge(&writer->lines, 0, true, emit, writer, reterr)
                                  : weir_rerate_lines_settle(&writer->lines, emit, writer, reterr);

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
        status = write_totals(writer, reterr);
    if (status == WEIR_OK)
        status = note_customers(writer, chunk, reterr);
    if (status == WEIR_OK)
        status = note_amounts(writer, chunk, rows, reterr);
    return status == WEIR_OK ? weir_postgres_run(connection_of(writer), "COMMIT", "committing", reterr) : status;
}
