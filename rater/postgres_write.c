/* What a batch leaves in PostgreSQL: the columns of each table, and what stands in a row. How rows get there is
 * postgres_table.c's. */
#include <stdlib.h>
#include <string.h>

#include "rater/postgres_table.h"

/* 1. Line items. */

static const struct weir_postgres_column item_columns[] = {
    {"customer", WEIR_PG_TEXT, false},
    {"contract", WEIR_PG_TEXT, false},
    {"item", WEIR_PG_TEXT, false},
    {"meter", WEIR_PG_TEXT, false},
    {"dimensions", WEIR_PG_JSONB, false},
    {"period_start", WEIR_PG_TIMESTAMPTZ, false},
    {"period_end", WEIR_PG_TIMESTAMPTZ, false},
    {"window_start", WEIR_PG_TIMESTAMPTZ, false},
    {"window_end", WEIR_PG_TIMESTAMPTZ, false},
    {"kind", WEIR_PG_TEXT, false},
    {"component", WEIR_PG_TEXT, false},
    {"price_book", WEIR_PG_TEXT, false},
    {"price_book_version", WEIR_PG_INT4, false},
    {"model", WEIR_PG_TEXT, false},
    {"tier", WEIR_PG_INT4, false},
    {"quantity", WEIR_PG_NUMERIC, false},
    {"unit_price", WEIR_PG_NUMERIC, false},
    {"amount", WEIR_PG_NUMERIC, false},
    {"currency", WEIR_PG_TEXT, false},
    {"revision", WEIR_PG_INT4, false},
    {"rerating", WEIR_PG_INT8, false},
    {"advance_at", WEIR_PG_TIMESTAMPTZ, false},
};
enum { ITEM_COLUMNS = sizeof item_columns / sizeof *item_columns };
static const struct weir_postgres_table item_table = {"weir.line_items", NULL, ITEM_COLUMNS, item_columns};

static void put_text_or_null(struct weir_buffer *to, struct weir_slice text)
{
    if (text.length)
        weir_put_text(to, text);
    else
        weir_put_null(to);
}

static void put_number_or_null(struct weir_buffer *to, uint32_t number)
{
    weir_check(number <= INT32_MAX);
    if (number)
        weir_put_int4(to, (int32_t)number);
    else
        weir_put_null(to);
}

static void put_dimensions(struct weir_postgres_ledger *ledger, struct weir_buffer *to,
                           const struct weir_dimension *dimensions, uint32_t count)
{
    weir_put_jsonb(to, weir_slice_of(ledger->json, weir_dimensions_json(dimensions, count, ledger->json)));
}

static void put_item(struct weir_postgres_ledger *ledger, const struct weir_line_item *item)
{
    struct weir_buffer *to = &ledger->copy;

    weir_put_row(to, ITEM_COLUMNS);
    weir_put_text(to, item->customer);
    weir_put_text(to, item->contract);
    weir_put_text(to, item->item);
    put_text_or_null(to, item->meter);
    put_dimensions(ledger, to, item->dimensions, item->dimension_count);
    weir_put_time(to, item->period_start);
    weir_put_time(to, item->period_end);
    weir_put_time(to, item->window_start);
    weir_put_time(to, item->window_end);
    weir_put_text(to, weir_slice_text(weir_kind_name[item->kind]));
    weir_put_text(to, weir_slice_text(weir_component_name[item->component]));
    weir_put_text(to, item->price_book);
    put_number_or_null(to, item->price_book_version);
    put_text_or_null(to, weir_slice_text(item->model));
    if (item->kind == WEIR_KIND_USAGE)
        weir_put_int4(to, (int32_t)item->tier);
    else
        weir_put_null(to);
    weir_put_decimal(to, item->quantity);
    if (item->has_unit_price)
        weir_put_decimal(to, item->unit_price);
    else
        weir_put_null(to);
    weir_put_decimal(to, item->amount);
    weir_put_text(to, item->currency);
    weir_put_int4(to, (int32_t)item->revision);
    if (ledger->run)
        weir_put_int8(to, ledger->run);
    else
        weir_put_null(to);
    if (item->advance_at)
        weir_put_time(to, item->advance_at);
    else
        weir_put_null(to);
}

/* How a book's invoices are rounded, for the views: noted when its first line item comes, applied catalog or not. */
static enum weir_status note_book(struct weir_postgres_ledger *ledger, const struct weir_line_item *item,
                                  struct weir_error *reterr)
{
    static const char *const rounding[] = {[WEIR_HALF_EVEN] = "half_even", [WEIR_HALF_UP] = "half_up"};
    struct weir_parameters parameters = {0};
    struct weir_buffer places = {0};
    PGresult *result = NULL;

    weir_put_int4(&places, item->currency_places);
    weir_parameters_add(&parameters, item->price_book.data, item->price_book.length);
    weir_parameters_add(&parameters, item->currency.data, item->currency.length);
    weir_parameters_add(&parameters, places.data + 4, 4);
    weir_parameters_add_text(&parameters, rounding[item->rounding]);
    enum weir_status status =
        weir_postgres_ask(ledger->connection,
                          "INSERT INTO weir.price_books (price_book, currency, currency_places, rounding)"
                          " VALUES ($1::text, $2::text, $3::int, $4::text) ON CONFLICT DO NOTHING",
                          &parameters, "noting a price book", &result, reterr);
    PQclear(result);
    weir_buffer_free(&places);
    if (status != WEIR_OK)
        return status;
    if (ledger->book_count == ledger->book_room) {
        ledger->book_room = ledger->book_room ? ledger->book_room * 2 : 16;
        ledger->books = weir_resize(ledger->books, ledger->book_room, sizeof *ledger->books);
    }
    ledger->books[ledger->book_count++] =
        weir_arena_copy(ledger->arena, item->price_book.data, item->price_book.length);
    return WEIR_OK;
}

static bool knows_book(const struct weir_postgres_ledger *ledger, struct weir_slice book)
{
    for (size_t i = 0; i < ledger->book_count; i++)
        if (weir_slice_equal(ledger->books[i], book))
            return true;
    return false;
}

/* All that are not known yet, by name: two raters that note the same ones then wait in a line, not in a circle. */
static enum weir_status note_books(struct weir_postgres_ledger *ledger, const struct weir_line_item *items,
                                   size_t count, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    const struct weir_line_item *first;

    do {
        first = NULL;
        for (size_t i = 0; i < count; i++)
            if ((i == 0 || items[i].price_book.data != items[i - 1].price_book.data)
                && (!first || weir_slice_compare(items[i].price_book, first->price_book) < 0)
                && !knows_book(ledger, items[i].price_book))
                first = &items[i];
        if (first)
            status = note_book(ledger, first, reterr);
    } while (first && status == WEIR_OK);
    return status;
}

enum weir_status weir_postgres_write_items(struct weir_postgres_ledger *ledger, const struct weir_line_item *items,
                                           size_t count, struct weir_error *reterr)
{
    static const char doing[] = "writing line items";
    struct weir_postgres_sink sink = {{0}};
    enum weir_status status = note_books(ledger, items, count, reterr);

    if (count == 0 || status != WEIR_OK)
        return status;
    status = weir_postgres_copy_begin(ledger, &item_table, doing, &sink, reterr);
    for (size_t i = 0; i < count && status == WEIR_OK; i++) {
        put_item(ledger, &items[i]);
        if (ledger->copy.length >= WEIR_POSTGRES_COPY_CHUNK)
            status = weir_postgres_copy_send(ledger, doing, reterr);
    }
    return status == WEIR_OK ? weir_postgres_copy_end(ledger, doing, reterr) : status;
}

/* 2. State. */

static void put_total(struct weir_postgres_sink *sink, int column, const struct weir_window_total *total)
{
    weir_check(total->events <= INT64_MAX);
    weir_put_int8(sink->to[column], (int64_t)total->events);
    weir_put_decimal(sink->to[column + 1], total->value);
    weir_put_int8(sink->to[column + 2], total->latest_time);
    weir_put_int8(sink->to[column + 3], total->latest_offset);
}

static const struct weir_postgres_column window_columns[] = {
    {"customer", WEIR_PG_TEXT, true},
    {"window_start", WEIR_PG_TIMESTAMPTZ, true},
    {"series", WEIR_PG_UUID, true},
    {"lane", WEIR_PG_TEXT, true},
    {"window_end", WEIR_PG_TIMESTAMPTZ, false},
    {"meter", WEIR_PG_TEXT, false},
    {"dimensions", WEIR_PG_JSONB, false},
    {"series_key", WEIR_PG_BYTEA, false},
    {"events", WEIR_PG_INT8, false},
    {"value", WEIR_PG_NUMERIC, false},
    {"latest_time", WEIR_PG_INT8, false},
    {"latest_offset", WEIR_PG_INT8, false},
    {"revision", WEIR_PG_INT4, false},
    {"unpriced", WEIR_PG_TEXT, false},
    {"contract", WEIR_PG_TEXT, false},
    {"period_start", WEIR_PG_TIMESTAMPTZ, false},
    {"period_end", WEIR_PG_TIMESTAMPTZ, false},
    {"price_book", WEIR_PG_TEXT, false},
    {"price_book_version", WEIR_PG_INT4, false},
    {"price_key", WEIR_PG_TEXT, false},
    {"retracted", WEIR_PG_INT8, false},
};
enum { WINDOW_COLUMNS = sizeof window_columns / sizeof *window_columns };
static const struct weir_postgres_table window_table = {"weir.rated_windows", "rated_at", WINDOW_COLUMNS,
                                                        window_columns};

static const struct weir_entry *window_entry(const void *list, size_t index)
{
    return &((struct weir_rated_window *const *)list)[index]->entry;
}

/* What a window was rated under: contract, period and price, each null where there is none. */
static void put_terms(struct weir_postgres_sink *sink, int column, const struct weir_rated_window *window)
{
    bool has_contract = window->period_end != 0;

    put_text_or_null(sink->to[column], weir_slice_text(weir_unpriced_name[window->unpriced]));
    if (has_contract) {
        weir_put_text(sink->to[column + 1], window->contract);
        weir_put_time(sink->to[column + 2], window->period_start);
        weir_put_time(sink->to[column + 3], window->period_end);
    } else {
        for (int i = 1; i <= 3; i++)
            weir_put_null(sink->to[column + i]);
    }
    bool has_price = window->price_book.length > 0;
    put_text_or_null(sink->to[column + 4], window->price_book);
    put_number_or_null(sink->to[column + 5], has_price ? window->price_book_version : 0);
    put_text_or_null(sink->to[column + 6], has_price ? window->price_key : (struct weir_slice){0});
}

/* Shares that are held and were never rated have no row. */
static const struct weir_rated_lane *rated_share(const struct weir_rated_window *window, uint32_t part)
{
    for (uint32_t i = 0; i < window->lane_count; i++)
        if (window->lanes[i].revision > 0 && part-- == 0)
            return &window->lanes[i];
    return NULL;
}

/* A part is a lane. All of them, changed or not: they carry the window's terms. */
static bool put_window(struct weir_postgres_ledger *ledger, const void *list, size_t index, uint32_t part,
                       struct weir_postgres_sink *sink)
{
    const struct weir_rated_window *window = ((struct weir_rated_window *const *)list)[index];
    struct weir_series series;

    const struct weir_rated_lane *lane = rated_share(window, part);
    if (!lane)
        return false;
    struct weir_row_id id = weir_row_id(ledger, window->series_key);
    weir_check(weir_series_parse(window->series_key, &series) && lane->revision <= INT32_MAX);
    weir_put_text(sink->to[0], series.customer);
    weir_put_time(sink->to[1], window->start);
    weir_put_uuid(sink->to[2], id.bytes);
    weir_put_text(sink->to[3], lane->lane);
    weir_put_time(sink->to[4], window->end);
    weir_put_text(sink->to[5], series.meter);
    put_dimensions(ledger, sink->to[6], series.dimensions, series.dimension_count);
    weir_put_text(sink->to[7], window->series_key);
    put_total(sink, 8, &lane->total);
    weir_put_int4(sink->to[12], (int32_t)lane->revision);
    put_terms(sink, 13, window);
    weir_check(lane->total.retracted <= INT64_MAX);
    weir_put_int8(sink->to[20], (int64_t)lane->total.retracted);
    return true;
}

static const struct weir_postgres_column price_columns[] = {
    {"customer", WEIR_PG_TEXT, true},
    {"contract", WEIR_PG_TEXT, true},
    {"period_start", WEIR_PG_TIMESTAMPTZ, true},
    {"price_book", WEIR_PG_TEXT, true},
    {"price_book_version", WEIR_PG_INT4, true},
    {"price_id", WEIR_PG_UUID, true},
    {"period_end", WEIR_PG_TIMESTAMPTZ, false},
    {"meter", WEIR_PG_TEXT, false},
    {"price_key", WEIR_PG_TEXT, false},
    {"quantity", WEIR_PG_NUMERIC, false},
    {"events", WEIR_PG_INT8, false},
    {"amount", WEIR_PG_NUMERIC, false},
};
enum { PRICE_COLUMNS = sizeof price_columns / sizeof *price_columns, PRICE_KEYS = 6 };
static const struct weir_postgres_table price_table = {"weir.price_totals", "updated_at", PRICE_COLUMNS, price_columns};

static const struct weir_entry *price_entry(const void *list, size_t index)
{
    return &((struct weir_price_running *const *)list)[index]->entry;
}

static void put_price_key(struct weir_postgres_ledger *ledger, const struct weir_price_running *price,
                          struct weir_postgres_sink *sink)
{
    struct weir_row_id id = weir_row_id(ledger, price->price_key);

    weir_put_text(sink->to[0], price->customer);
    weir_put_text(sink->to[1], price->contract);
    weir_put_time(sink->to[2], price->period_start);
    weir_put_text(sink->to[3], price->price_book);
    weir_put_int4(sink->to[4], (int32_t)price->price_book_version);
    weir_put_uuid(sink->to[5], id.bytes);
}

static bool put_price(struct weir_postgres_ledger *ledger, const void *list, size_t index, uint32_t part,
                      struct weir_postgres_sink *sink)
{
    const struct weir_price_running *price = ((struct weir_price_running *const *)list)[index];
    const char *bracket = memchr(price->price_key.data, '[', price->price_key.length); /* no key of a meter has one */

    if (part > 0)
        return false;
    weir_check(price->events <= INT64_MAX);
    put_price_key(ledger, price, sink);
    weir_put_time(sink->to[6], price->period_end);
    weir_put_text(sink->to[7], bracket ? weir_slice_of(price->price_key.data, (size_t)(bracket - price->price_key.data))
                                       : price->price_key);
    weir_put_text(sink->to[8], price->price_key);
    weir_put_decimal(sink->to[9], price->quantity);
    weir_put_int8(sink->to[10], (int64_t)price->events);
    weir_put_decimal(sink->to[11], price->amount);
    return true;
}

static const struct weir_postgres_column split_columns[] = {
    {"customer", WEIR_PG_TEXT, true},
    {"contract", WEIR_PG_TEXT, true},
    {"period_start", WEIR_PG_TIMESTAMPTZ, true},
    {"price_book", WEIR_PG_TEXT, true},
    {"price_book_version", WEIR_PG_INT4, true},
    {"price_id", WEIR_PG_UUID, true},
    {"series", WEIR_PG_UUID, true},
    {"series_key", WEIR_PG_BYTEA, false},
    {"events", WEIR_PG_INT8, false},
    {"value", WEIR_PG_NUMERIC, false},
    {"latest_time", WEIR_PG_INT8, false},
    {"latest_offset", WEIR_PG_INT8, false},
};
enum { SPLIT_COLUMNS = sizeof split_columns / sizeof *split_columns };
static const struct weir_postgres_table split_table = {"weir.split_totals", "updated_at", SPLIT_COLUMNS, split_columns};

static const struct weir_entry *split_entry(const void *list, size_t index)
{
    return &((struct weir_split_running *const *)list)[index]->entry;
}

static bool put_split(struct weir_postgres_ledger *ledger, const void *list, size_t index, uint32_t part,
                      struct weir_postgres_sink *sink)
{
    const struct weir_split_running *split = ((struct weir_split_running *const *)list)[index];
    struct weir_row_id id;

    if (part > 0)
        return false;
    id = weir_row_id(ledger, split->series_key);
    put_price_key(ledger, split->price, sink);
    weir_put_uuid(sink->to[PRICE_KEYS], id.bytes);
    weir_put_text(sink->to[PRICE_KEYS + 1], split->series_key);
    put_total(sink, PRICE_KEYS + 2, &split->total);
    return true;
}

static const struct weir_postgres_column period_columns[] = {
    {"customer", WEIR_PG_TEXT, true},
    {"contract", WEIR_PG_TEXT, true},
    {"period_start", WEIR_PG_TIMESTAMPTZ, true},
    {"period_end", WEIR_PG_TIMESTAMPTZ, false},
    {"usage_amount", WEIR_PG_NUMERIC, false},
    {"true_up", WEIR_PG_NUMERIC, false},
    {"true_up_revision", WEIR_PG_INT4, false},
    {"is_advance_charged", WEIR_PG_BOOL, false},
    {"is_closed", WEIR_PG_BOOL, false},
};
enum { PERIOD_COLUMNS = sizeof period_columns / sizeof *period_columns };
static const struct weir_postgres_table period_table = {"weir.billing_periods", "updated_at", PERIOD_COLUMNS,
                                                        period_columns};

static const struct weir_entry *period_entry(const void *list, size_t index)
{
    return &((struct weir_period_running *const *)list)[index]->entry;
}

static bool put_period(struct weir_postgres_ledger *ledger, const void *list, size_t index, uint32_t part,
                       struct weir_postgres_sink *sink)
{
    const struct weir_period_running *period = ((struct weir_period_running *const *)list)[index];

    (void)ledger;
    if (part > 0)
        return false;
    weir_put_text(sink->to[0], period->customer);
    weir_put_text(sink->to[1], period->contract);
    weir_put_time(sink->to[2], period->start);
    weir_put_time(sink->to[3], period->end);
    weir_put_decimal(sink->to[4], period->usage_amount);
    weir_put_decimal(sink->to[5], period->true_up);
    weir_put_int4(sink->to[6], (int32_t)period->true_up_revision);
    weir_put_bool(sink->to[7], period->is_advance_charged);
    weir_put_bool(sink->to[8], period->is_closed);
    return true;
}

enum weir_status weir_postgres_write_state(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                           struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(state);
    const struct weir_postgres_rows tables[] = {
        {&window_table, "writing rated windows", all.windows, all.window_count, window_entry, put_window},
        {&price_table, "writing prices' totals", all.prices, all.price_count, price_entry, put_price},
        {&split_table, "writing splits' totals", all.splits, all.split_count, split_entry, put_split},
        {&period_table, "writing billing periods", all.periods, all.period_count, period_entry, put_period},
    };
    enum weir_status status = WEIR_OK;

    for (size_t i = 0; i < sizeof tables / sizeof *tables && status == WEIR_OK; i++)
        status = weir_postgres_write_rows(ledger, &tables[i], reterr);
    return status;
}
