#include "rater/rehearsal.h"

#include <stdlib.h>

#include "rater/postgres_rows.h"

/* An item of a billing period that a batch has moved, or that a window of it belongs to. Views into the batch. */
struct place {
    struct weir_slice customer, item, currency, contract;
    int64_t period_start;
    int currency_places;
    struct weir_decimal before, change;
};

struct weir_rehearsal {
    const struct weir_catalog *catalog;
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_arena *arena; /* of the rows' texts */
    struct place *places;
    size_t place_count, place_room;
    struct weir_rerate_row *rows;
    size_t row_count, row_room;
    struct weir_slice why;
};

/* 1. what a batch moves */
static void add_place(struct weir_rehearsal *rehearsal, const struct place *place)
{
    if (rehearsal->place_count == rehearsal->place_room) {
        rehearsal->place_room = rehearsal->place_room ? rehearsal->place_room * 2 : 1024;
        rehearsal->places = weir_resize(rehearsal->places, rehearsal->place_room, sizeof *rehearsal->places);
    }
    rehearsal->places[rehearsal->place_count++] = *place;
}

static void add_items(struct weir_rehearsal *rehearsal, const struct weir_line_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct place place = {
            .customer = items[i].customer,
            .item = items[i].item,
            .currency = items[i].currency,
            .contract = items[i].contract,
            .period_start = items[i].period_start,
            .currency_places = items[i].currency_places,
            .change = items[i].amount,
        };
        add_place(rehearsal, &place);
    }
}

/* Also those whose charge stays: what they were charged before is told all the same. */
static void add_windows(struct weir_rehearsal *rehearsal, struct weir_state *state)
{
    struct weir_state_view all = weir_state_all(state);

    for (size_t i = 0; i < all.window_count; i++) {
        const struct weir_rated_window *window = all.windows[i];
        struct weir_series series = {0};
        if (!window->price_book.length)
            continue; /* it has no price */
        const struct weir_price_book *book = weir_catalog_book(rehearsal->catalog, window->price_book);
        if (!book)
            continue; /* kept out */
        weir_check(weir_series_parse(window->series_key, &series));
        const struct place place = {
            .customer = series.customer,
            .item = series.meter,
            .currency = book->currency,
            .contract = window->contract,
            .period_start = window->period_start,
            .currency_places = book->currency_places,
        };
        add_place(rehearsal, &place);
    }
}

/* Rows are by the first three; places of one row, and of one period in it, stand together. */
static int by_row(const struct place *left, const struct place *right)
{
    int order = weir_slice_compare(left->customer, right->customer);

    if (order == 0)
        order = weir_slice_compare(left->item, right->item);
    return order ? order : weir_slice_compare(left->currency, right->currency);
}

static int by_place(const void *a, const void *b)
{
    const struct place *left = a, *right = b;
    int order = by_row(left, right);

    if (order == 0)
        order = weir_slice_compare(left->contract, right->contract);
    return order ? order : (left->period_start > right->period_start) - (left->period_start < right->period_start);
}

static bool merge_places(struct weir_rehearsal *rehearsal)
{
    size_t kept = 0;

    if (rehearsal->place_count)
        qsort(rehearsal->places, rehearsal->place_count, sizeof *rehearsal->places, by_place);
    for (size_t i = 0; i < rehearsal->place_count; i++) {
        struct place *last = kept ? &rehearsal->places[kept - 1] : NULL;
        if (!last || by_place(last, &rehearsal->places[i]) != 0)
            rehearsal->places[kept++] = rehearsal->places[i];
        else if (!weir_decimal_add(last->change, rehearsal->places[i].change, &last->change))
            return false;
    }
    rehearsal->place_count = kept;
    return true;
}

/* 2. what the ledger has of it */
static const char before_sql[] =
    "SELECT k.n, sum(l.amount)::numeric(39,12) FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[],"
    " $5::text[]) WITH ORDINALITY AS k(customer, contract, period_start, item, currency, n)"
    " JOIN weir.line_items AS l ON l.customer = k.customer AND l.period_start = k.period_start"
    " AND l.contract = k.contract AND l.item = k.item AND l.currency = k.currency GROUP BY k.n";

static void put_places(struct weir_postgres_ledger *ledger, const struct weir_rehearsal *rehearsal,
                       struct weir_parameters *parameters)
{
    static const enum weir_postgres_type types[] = {WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT,
                                                    WEIR_PG_TEXT};
    enum { COLUMNS = sizeof types / sizeof *types };

    for (int i = 0; i < COLUMNS; i++)
        weir_array_begin(&ledger->columns[i], types[i]);
    for (size_t i = 0; i < rehearsal->place_count; i++) {
        const struct place *place = &rehearsal->places[i];
        weir_put_text(&ledger->columns[0], place->customer);
        weir_put_text(&ledger->columns[1], place->contract);
        weir_put_time(&ledger->columns[2], place->period_start);
        weir_put_text(&ledger->columns[3], place->item);
        weir_put_text(&ledger->columns[4], place->currency);
    }
    for (int i = 0; i < COLUMNS; i++) {
        weir_array_end(&ledger->columns[i], rehearsal->place_count);
        weir_parameters_add(parameters, ledger->columns[i].data, ledger->columns[i].length);
    }
}

static enum weir_status read_before(struct weir_postgres_ledger *ledger, struct weir_rehearsal *rehearsal,
                                    struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    put_places(ledger, rehearsal, &parameters);
    enum weir_status status =
        weir_postgres_ask(ledger->connection, before_sql, &parameters, "reading what was charged", &result, reterr);
    for (int i = 0; status == WEIR_OK && i < PQntuples(result); i++) {
        int64_t number = weir_get_int8(PQgetvalue(result, i, 0));
        weir_check(number >= 1 && (size_t)number <= rehearsal->place_count);
        if (!weir_get_decimal(PQgetvalue(result, i, 1), (size_t)PQgetlength(result, i, 1),
                              &rehearsal->places[number - 1].before))
            status = weir_fail(reterr, WEIR_FATAL, "weir.line_items: an amount that weir never wrote");
    }
    PQclear(result);
    return status;
}

/* 3. rows */
static struct weir_slice keep(struct weir_rehearsal *rehearsal, struct weir_slice text)
{
    return weir_arena_copy(rehearsal->arena, text.data, text.length);
}

static struct weir_rerate_row *add_row(struct weir_rehearsal *rehearsal, const struct place *place)
{
    if (rehearsal->row_count == rehearsal->row_room) {
        rehearsal->row_room = rehearsal->row_room ? rehearsal->row_room * 2 : 256;
        rehearsal->rows = weir_resize(rehearsal->rows, rehearsal->row_room, sizeof *rehearsal->rows);
    }
    struct weir_rerate_row *row = &rehearsal->rows[rehearsal->row_count++];
    *row = (struct weir_rerate_row){
        .customer = keep(rehearsal, place->customer),
        .item = keep(rehearsal, place->item),
        .currency = keep(rehearsal, place->currency),
        .currency_places = place->currency_places,
    };
    return row;
}

static bool add_rows(struct weir_rehearsal *rehearsal)
{
    struct weir_rerate_row *row = NULL;

    for (size_t i = 0; i < rehearsal->place_count; i++) {
        const struct place *place = &rehearsal->places[i];
        struct weir_decimal after;
        if (i == 0 || by_row(place - 1, place) != 0)
            row = add_row(rehearsal, place);
        if (!weir_decimal_add(place->before, place->change, &after)
            || !weir_decimal_add(row->before, place->before, &row->before)
            || !weir_decimal_add(row->after, after, &row->after))
            return false;
    }
    return true;
}

/* Instead of writing, and in the transaction that the batch was loaded in: before and after are of one moment. */
static enum weir_status take(void *context, struct weir_postgres_ledger *ledger, const struct weir_line_item *items,
                             size_t count, struct weir_state *state, struct weir_error *reterr)
{
    struct weir_rehearsal *rehearsal = context;
    enum weir_status status = WEIR_OK;

    rehearsal->place_count = 0;
    add_items(rehearsal, items, count);
    add_windows(rehearsal, state);
    bool is_fitting = merge_places(rehearsal);
    if (is_fitting && rehearsal->place_count)
        status = read_before(ledger, rehearsal, reterr);
    if (status == WEIR_OK && !(is_fitting && add_rows(rehearsal)))
        status = weir_fail(reterr, WEIR_REJECT, "the sum of a customer's charges does not fit (limit about 1.7e26)");
    return status;
}

/* 4. the rehearsal */
static void note_refusal(void *context, const struct weir_lane_window *window, struct weir_slice why)
{
    struct weir_rehearsal *rehearsal = context;

    (void)window;
    if (!rehearsal->why.length)
        rehearsal->why = keep(rehearsal, why);
}

enum weir_status weir_rehearsal_open(const char *url, const struct weir_catalog *catalog,
                                     struct weir_rehearsal **ret_rehearsal, struct weir_error *reterr)
{
    struct weir_ledger *ledger = NULL;
    enum weir_status status = weir_ledger_postgres_open(url, &ledger, reterr);

    if (status != WEIR_OK)
        return status;
    struct weir_rehearsal *rehearsal = weir_new(sizeof *rehearsal);
    rehearsal->catalog = catalog;
    rehearsal->ledger = ledger;
    rehearsal->arena = weir_arena_new();
    rehearsal->rater = weir_rater_new(catalog, ledger);
    weir_rater_on_refusal(rehearsal->rater, note_refusal, rehearsal);
    weir_postgres_ledger_rehearse(ledger, take, rehearsal);
    *ret_rehearsal = rehearsal;
    return WEIR_OK;
}

struct weir_rehearsal *weir_rehearsal_free(struct weir_rehearsal *rehearsal)
{
    if (!rehearsal)
        return NULL;
    weir_rater_free(rehearsal->rater);
    weir_ledger_free(rehearsal->ledger);
    weir_arena_free(rehearsal->arena);
    free(rehearsal->places);
    free(rehearsal->rows);
    free(rehearsal);
    return NULL;
}

enum weir_status weir_rehearsal_rate(struct weir_rehearsal *rehearsal, const struct weir_lane_window *windows,
                                     size_t count, struct weir_error *reterr)
{
    size_t row_count = rehearsal->row_count;
    enum weir_status status = weir_rater_rate(rehearsal->rater, windows, count, reterr);

    if (status != WEIR_OK)
        rehearsal->row_count = row_count;
    return status;
}

static int by_key(const void *a, const void *b)
{
    const struct weir_rerate_row *left = a, *right = b;
    int order = weir_slice_compare(left->customer, right->customer);

    if (order == 0)
        order = weir_slice_compare(left->item, right->item);
    return order ? order : weir_slice_compare(left->currency, right->currency);
}

void weir_rehearsal_report(struct weir_rehearsal *rehearsal, struct weir_rerate_report *ret_report)
{
    struct weir_rerate_counts counts = {.unpriced = weir_rater_counts(rehearsal->rater).unpriced_windows};
    bool is_changed = false;

    if (rehearsal->row_count)
        qsort(rehearsal->rows, rehearsal->row_count, sizeof *rehearsal->rows, by_key);
    for (size_t i = 0; i < rehearsal->row_count; i++) {
        const struct weir_rerate_row *row = &rehearsal->rows[i];
        bool is_new = i == 0 || !weir_slice_equal(row[-1].customer, row->customer);
        counts.customers += is_new;
        is_changed = (is_changed && !is_new);
        if (!is_changed && row->before.e12 != row->after.e12) {
            counts.changed++;
            is_changed = true;
        }
    }
    *ret_report =
        (struct weir_rerate_report){.counts = counts, .row_count = rehearsal->row_count, .rows = rehearsal->rows};
}

uint64_t weir_rehearsal_left_out(const struct weir_rehearsal *rehearsal, struct weir_slice *ret_why)
{
    const struct weir_rater_counts counts = weir_rater_counts(rehearsal->rater);

    *ret_why = rehearsal->why;
    return counts.held + counts.refused;
}
