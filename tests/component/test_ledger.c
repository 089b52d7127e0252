/* One contract, both twins: the same line items into NDJSON and into a real PostgreSQL come back the same. Then what
 * only PostgreSQL promises: state that comes back as it was, batches that may be repeated, two raters at once, rows
 * that stay. */
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <time.h>

#include "common/calendar.h"
#include "postgres_database.h"
#include "rater/ledger_audit.h"
#include "rater/rate.h"
#include "rater/summary.h"
#include "rater/text_row.h"

#define S(text) weir_slice_text(text)

static struct database database;

static void drop_database(void)
{
    database_drop(&database);
} /* also after a failed assertion */

TestSuite(ledger, .fini = drop_database, .timeout = 600);
TestSuite(ledger_postgres, .fini = drop_database, .timeout = 600);

/* 1. chance */
static uint64_t seed;

static uint64_t next_random(void)
{
    seed += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t x = seed;
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static uint64_t below(uint64_t limit)
{
    return next_random() % limit;
}

static void seed_random(uint64_t fallback)
{
    const char *given = getenv("WEIR_RANDOM_SEED");
    seed = given ? strtoull(given, NULL, 10) : fallback;
}

static struct weir_decimal any_decimal(void)
{
    static const char *const edges[] = {"0",    "1",     "-1",     "0.000000000001", "-0.000000000001", "0.0001",
                                        "9999", "10000", "0.9999", "99999999.9999",  "1000000000000",   "-10000.0001",
                                        "0.5"};
    struct weir_decimal value = weir_decimal_max();

    switch (below(5)) {
    case 0:
        weir_decimal_parse(S(edges[below(sizeof edges / sizeof *edges)]), &value);
        break;
    case 1:
        if (below(2))
            value = weir_decimal_negate(value);
        break;
    case 2:
        value.e12 = (weir_int128)((weir_uint128)next_random() << 64 | next_random()) >> (1 + below(126));
        if (below(2))
            value.e12 = -value.e12;
        break;
    default:
        value.e12 = (int64_t)next_random() >> below(60);
    }
    return value;
}

static const char *const awkward[] = {
    "acme",
    "a \"quoted\" one",
    "back\\slash",
    "tab\there",
    "line\nbreak",
    "comma, semicolon;",
    "Zoë & Söhne",
    "客户",
    "\xF0\x9F\xA7\xBE",
    "'; DROP TABLE weir.line_items; --",
    "\x01\x1f",
    " ",
    "\\N",
    "\\.",
    "{}",
    "a\r\nb",
    "null",
};
enum { AWKWARD = sizeof awkward / sizeof *awkward };

static struct weir_slice any_text(void)
{
    return S(awkward[below(AWKWARD)]);
}

/* 2. twins */
static const char *twins[] = {"ndjson", "postgres"};

struct fixture {
    struct weir_ledger *ledger;
    struct weir_state *state;
    char *text; /* of the NDJSON ledger */
    size_t text_length;
    FILE *output;
};

static void open_twin(struct fixture *fixture, int which)
{
    struct weir_error error;
    *fixture = (struct fixture){.state = weir_state_new()};
    if (which == 0) {
        fixture->output = open_memstream(&fixture->text, &fixture->text_length);
        cr_assert_eq(weir_ledger_text_open(WEIR_LEDGER_NDJSON, false, fixture->output, &fixture->ledger, &error),
                     WEIR_OK);
    } else {
        database_make(&database);
        cr_assert_eq(weir_ledger_postgres_open(database.url, &fixture->ledger, &error), WEIR_OK, "%s", error.text);
    }
    cr_assert_str_eq(fixture->ledger->ops->name, twins[which]);
}

static void close_twin(struct fixture *fixture)
{
    weir_ledger_free(fixture->ledger);
    weir_state_free(fixture->state);
    if (fixture->output)
        fclose(fixture->output);
    free(fixture->text);
    database_drop(&database);
}

#define CONTRACT(name)                                                                                                 \
    static void contract_##name(struct fixture *f);                                                                    \
    ParameterizedTestParameters(ledger, name)                                                                          \
    {                                                                                                                  \
        static int which[] = {0, 1};                                                                                   \
        return cr_make_param_array(int, which, 2);                                                                     \
    }                                                                                                                  \
    ParameterizedTest(int *which, ledger, name)                                                                        \
    {                                                                                                                  \
        struct fixture fixture;                                                                                        \
        open_twin(&fixture, *which);                                                                                   \
        contract_##name(&fixture);                                                                                     \
        close_twin(&fixture);                                                                                          \
    }                                                                                                                  \
    static void contract_##name(struct fixture *f)

#include <criterion/parameterized.h>

/* What must come back: the columns of design section 6, in one text. */
static char *expected_text(const struct weir_line_item *item)
{
    static char dimensions[WEIR_CELL_MAX];
    char times[4][WEIR_TIME_TEXT_MAX], numbers[3][WEIR_DECIMAL_TEXT_MAX];
    char *text;

    dimensions[weir_dimensions_json(item->dimensions, item->dimension_count, dimensions)] = '\0';
    weir_time_format(item->period_start, times[0]);
    weir_time_format(item->period_end, times[1]);
    weir_time_format(item->window_start, times[2]);
    weir_time_format(item->window_end, times[3]);
    weir_decimal_format(item->quantity, numbers[0]);
    weir_decimal_format(item->unit_price, numbers[1]);
    weir_decimal_format(item->amount, numbers[2]);
    json_t *parsed = json_loads(dimensions, 0, NULL);
    cr_assert(parsed);
    char *sorted = json_dumps(parsed, JSON_SORT_KEYS | JSON_COMPACT);
    cr_assert(asprintf(&text, "%.*s|%.*s|%.*s|%.*s|%s|%s|%s|%s|%s|%s|%s|%.*s|%u|%s|%u|%s|%s|%s|%.*s|%u",
                       (int)item->customer.length, item->customer.data, (int)item->contract.length, item->contract.data,
                       (int)item->item.length, item->item.data, (int)item->meter.length, item->meter.data, sorted,
                       times[0], times[1], times[2], times[3], weir_kind_name[item->kind],
                       weir_component_name[item->component], (int)item->price_book.length, item->price_book.data,
                       item->price_book_version, item->model, item->tier, numbers[0],
                       item->has_unit_price ? numbers[1] : "", numbers[2], (int)item->currency.length,
                       item->currency.data, item->revision)
              > 0);
    free(sorted);
    json_decref(parsed);
    return text;
}

static const char *const columns[] = {"customer",           "contract",     "item",       "meter",
                                      "dimensions",         "period_start", "period_end", "window_start",
                                      "window_end",         "kind",         "component",  "price_book",
                                      "price_book_version", "model",        "tier",       "quantity",
                                      "unit_price",         "amount",       "currency",   "revision"};
enum { COLUMNS = sizeof columns / sizeof *columns };

/* One row, whatever ledger it comes from, as a JSON object. */
static char *row_text(json_t *row)
{
    char *text = strdup("");

    cr_assert_eq(json_object_size(row), COLUMNS);
    for (int i = 0; i < COLUMNS; i++) {
        json_t *value = json_object_get(row, columns[i]);
        char *cell, *longer;
        cr_assert(value, "%s is missing", columns[i]);
        if (json_is_string(value))
            cell = strdup(json_string_value(value));
        else if (json_is_object(value))
            cell = json_dumps(value, JSON_SORT_KEYS | JSON_COMPACT);
        else
            cr_assert(asprintf(&cell, "%" JSON_INTEGER_FORMAT, json_is_null(value) ? 0 : json_integer_value(value))
                      > 0);
        if (i == 14) /* 0 is the whole price; none is null */
            cr_assert_eq(json_is_null(value), strcmp(json_string_value(json_object_get(row, "kind")), "usage") != 0);
        if (json_is_null(value) && i != 12 && i != 14)
            cell[0] = '\0';
        cr_assert(asprintf(&longer, "%s%s%s", text, i ? "|" : "", cell) >= 0);
        free(cell);
        free(text);
        text = longer;
    }
    return text;
}

#define INSTANT "YYYY-MM-DD\"T\"HH24:MI:SS\"Z\""

/* The rows of the ledger as JSON objects in the order of writing. */
static json_t *read_back(struct fixture *f)
{
    json_t *rows = json_array();
    struct weir_error error;

    if (f->output) {
        cr_assert_eq(f->ledger->ops->finish(f->ledger, &error), WEIR_OK);
        for (char *line = f->text; *line; line = strchr(line, '\n') + 1) {
            json_t *row = json_loadb(line, (size_t)(strchr(line, '\n') - line), JSON_REJECT_DUPLICATES, NULL);
            cr_assert(row, "not JSON: %.200s", line);
            json_array_append_new(rows, row);
        }
        return rows;
    }
    PGresult *result =
        PQexec(database.admin,
               "SELECT json_build_object('customer', customer, 'contract', contract, 'item', item, 'meter', meter,"
               "'dimensions', dimensions, 'period_start', to_char(period_start, '" INSTANT "'),"
               "'period_end', to_char(period_end, '" INSTANT "'), 'window_start', to_char(window_start, '" INSTANT "'),"
               "'window_end', to_char(window_end, '" INSTANT "'), 'kind', kind, 'component', component,"
               "'price_book', price_book, 'price_book_version', price_book_version, 'model', model, 'tier', tier,"
               "'quantity', quantity::text, 'unit_price', unit_price::text, 'amount', amount::text,"
               "'currency', currency, 'revision', revision) FROM weir.line_items ORDER BY line_item_id");
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(database.admin));
    for (int i = 0; i < PQntuples(result); i++)
        json_array_append_new(rows, json_loads(PQgetvalue(result, i, 0), 0, NULL));
    PQclear(result);
    return rows;
}

static void assert_holds(struct fixture *f, const struct weir_line_item *items, size_t count)
{
    json_t *rows = read_back(f);

    cr_assert_eq(json_array_size(rows), count, "%zu rows for %zu items", json_array_size(rows), count);
    for (size_t i = 0; i < count; i++) {
        char *expected = expected_text(&items[i]), *found = row_text(json_array_get(rows, i));
        cr_assert_str_eq(found, expected, "row %zu\n%s\n%s", i, found, expected);
        free(expected);
        free(found);
    }
    json_decref(rows);
}

#define START INT64_C(1767225600) /* 2026-01-01 */

/* Fits all checks of the table; everything else is as odd as it may be. */
static struct weir_line_item any_item(void)
{
    bool is_usage = below(4) > 0;
    int64_t period = (START + (int64_t)below(36) * 2678400) * WEIR_SECOND;
    int64_t window = period + (int64_t)below(100) * WEIR_MINUTE;
    struct weir_line_item item = {
        .customer = any_text(),
        .contract = below(2) ? any_text() : S(""),
        .item = S("tokens"),
        .meter = is_usage ? S("tokens") : S(""),
        .period_start = period,
        .period_end = period + 31 * WEIR_DAY,
        .window_start = window,
        .window_end = window + WEIR_HOUR,
        .kind = is_usage ? WEIR_KIND_USAGE : WEIR_KIND_FEE,
        .component = (enum weir_component)below(WEIR_COMPONENT_COUNT),
        .price_book = S("standard"),
        .price_book_version = (uint32_t)below(3),
        .model = is_usage ? "graduated" : "",
        .tier = is_usage ? (uint32_t)below(3) : 0, /* fees have none */
        .quantity = any_decimal(),
        .has_unit_price = below(2),
        .amount = any_decimal(),
        .currency = S("USD"),
        .currency_places = 2,
        .revision = 1 + (uint32_t)below(5),
    };

    item.unit_price = item.has_unit_price ? any_decimal() : (struct weir_decimal){0};
    item.dimension_count = is_usage ? (uint32_t)below(4) : 0;
    for (uint32_t i = 0; i < item.dimension_count; i++)
        item.dimensions[i] = (struct weir_dimension){S(awkward[i * 3 + below(3)]), any_text()};
    return item;
}

/* Entries as the rater would have made them, so that load knows customers and months. */
static void load_for(struct fixture *f, const struct weir_line_item *items, size_t count)
{
    struct weir_error error;

    weir_state_clear(f->state);
    for (size_t i = 0; i < count; i++) {
        struct weir_period_running *period = weir_state_period(f->state, items[i].customer, items[i].contract,
                                                               items[i].period_start, items[i].period_end);
        period->entry.is_dirty = true;
    }
    cr_assert_eq(f->ledger->ops->load(f->ledger, f->state, &error), WEIR_OK, "%s", error.text);
}

static void put(struct fixture *f, const struct weir_line_item *items, size_t count)
{
    struct weir_error error;

    load_for(f, items, count);
    cr_assert_eq(f->ledger->ops->write(f->ledger, items, count, f->state, &error), WEIR_OK, "%s", error.text);
}

CONTRACT(what_goes_in_comes_out)
{
    enum { ITEMS = 1500 };
    struct weir_line_item *items = weir_new_array(ITEMS, sizeof *items);

    seed_random(1);
    for (size_t i = 0; i < ITEMS; i++)
        items[i] = any_item();
    for (size_t at = 0, take; at < ITEMS; at += take) {
        take = 1 + below(400) < ITEMS - at ? 1 + below(400) : ITEMS - at;
        take = take > ITEMS - at ? ITEMS - at : take;
        put(f, items + at, take);
    }
    assert_holds(f, items, ITEMS);
    free(items);
}

CONTRACT(extreme_decimals)
{
    struct weir_line_item items[160];
    size_t count = 0;

    seed_random(2);
    for (int bit = 0; bit < 127; bit++) {
        struct weir_line_item item = any_item();
        item.quantity.e12 = (weir_int128)1 << bit;
        item.amount = weir_decimal_negate(item.quantity);
        item.has_unit_price = true;
        item.unit_price.e12 = ((weir_int128)1 << bit) - 1;
        items[count++] = item;
    }
    struct weir_decimal power = {1};
    for (int i = 0; i < 33;
         i++, power.e12 *= i < 33 ? 10 : 1) { /* digits of 10000: each boundary, just below and above */
        struct weir_line_item item = any_item();
        item.quantity = power;
        item.amount.e12 = power.e12 - 1;
        item.has_unit_price = true;
        item.unit_price.e12 = -power.e12 - 1;
        items[count++] = item;
    }
    put(f, items, count);
    assert_holds(f, items, count);
}

CONTRACT(nothing_is_fine)
{
    put(f, NULL, 0);
    assert_holds(f, NULL, 0);
}

CONTRACT(long_texts)
{
    static char customer[WEIR_IDENTIFIER_MAX], texts[WEIR_DIMENSIONS_MAX][WEIR_IDENTIFIER_MAX],
        names[WEIR_DIMENSIONS_MAX][WEIR_PATH_TEXT_MAX];

    seed_random(3);
    struct weir_line_item item = any_item();
    memset(customer, 'c', sizeof customer);
    item.customer = weir_slice_of(customer, sizeof customer);
    item.kind = WEIR_KIND_USAGE;
    item.meter = S("tokens");
    item.dimension_count = WEIR_DIMENSIONS_MAX;
    for (int i = 0; i < WEIR_DIMENSIONS_MAX; i++) {
        memset(names[i], 'a' + i, sizeof names[i]);
        memset(texts[i], 1 + i, sizeof texts[i]); /* six bytes each in JSON */
        item.dimensions[i] =
            (struct weir_dimension){weir_slice_of(names[i], sizeof names[i]), weir_slice_of(texts[i], sizeof texts[i])};
    }
    put(f, &item, 1);
    assert_holds(f, &item, 1);
}

/* 3. state */

/* Entries of every kind, the same ones for the same seed; `round` changes their contents, not their keys. */
struct made {
    struct weir_rated_window *windows[60];
    struct weir_price_running *prices[40];
    struct weir_split_running *splits[40];
    struct weir_period_running *periods[40];
};

static struct weir_slice series_of(struct weir_state *state, int number)
{
    char bytes[WEIR_SERIES_KEY_MAX];
    static char long_text[WEIR_IDENTIFIER_MAX];
    struct weir_series series = {.meter = S(number % 3 ? "tokens" : "calls"), .customer = S(awkward[number % AWKWARD])};

    memset(long_text, 'x', sizeof long_text);
    series.dimension_count = (uint32_t)(number % 9);
    for (uint32_t i = 0; i < series.dimension_count; i++)
        series.dimensions[i] = (struct weir_dimension){S(awkward[(number + (int)i) % AWKWARD]),
                                                       weir_slice_of(long_text, (size_t)(number * 7 % 257))};
    return weir_state_copy(state, weir_slice_of(bytes, weir_series_write(&series, bytes)));
}

static void make_keys(struct weir_state *state, struct made *made)
{
    for (int i = 0; i < 60; i++) {
        int64_t start = (START + i / 2 * 3600) * WEIR_SECOND;
        made->windows[i] = weir_state_window(state, series_of(state, i), start, start + WEIR_HOUR);
    }
    for (int i = 0; i < 40; i++) {
        struct weir_slice customer = S(awkward[i % AWKWARD]), contract = S(i % 3 ? "c-1" : "");
        int64_t start = (START + i / 4 * 2678400) * WEIR_SECOND;
        made->periods[i] = weir_state_period(state, customer, contract, start, start + 31 * WEIR_DAY);
        made->prices[i] = weir_state_price(state, customer, contract, start, start + 31 * WEIR_DAY, S("standard"),
                                           1 + (uint32_t)i % 2, S(i % 2 ? "tokens[model=la\\]rge]" : "calls"));
        made->splits[i] = weir_state_split(state, made->prices[i], series_of(state, i * 5 % 40));
    }
}

static struct weir_window_total any_total(void)
{
    return (struct weir_window_total){.events = 1 + below(INT64_MAX),
                                      .value = any_decimal(),
                                      .latest_time = (int64_t)below(INT64_MAX),
                                      .latest_offset = (int64_t)below(INT64_MAX)};
}

static void change_window(struct weir_state *state, struct weir_rated_window *window)
{
    static const char *const lanes[] = {"events:0", "events:1", "a topic:with {braces}:7"};
    int count = 1 + (int)below(3);

    for (int i = 0; i < count; i++) {
        struct weir_rated_lane *lane = weir_rated_window_lane(state, window, S(lanes[below(3)]));
        lane->total = any_total();
        lane->total.retracted = below(3) ? 0 : below(INT64_MAX);
        lane->revision++;
        lane->is_dirty = true;
    }
    window->entry.is_dirty = true;
    window->unpriced = (enum weir_unpriced)below(WEIR_UNPRICED_COUNT);
    bool has_contract = window->unpriced == WEIR_UNPRICED_PRICED || window->unpriced == WEIR_UNPRICED_NO_PRICE;
    window->contract = has_contract && below(2) ? S("c-1") : S("");
    window->period_start = has_contract ? START * WEIR_SECOND : 0;
    window->period_end = has_contract ? (START + 86400) * WEIR_SECOND : 0;
    bool has_price = window->unpriced == WEIR_UNPRICED_PRICED;
    window->price_book = has_price ? S("standard") : S("");
    window->price_book_version = has_price ? 1 + (uint32_t)below(9) : 0;
    window->price_key = has_price ? any_text() : S("");
}

static void change_some(struct weir_state *state, struct made *made)
{
    for (int i = 0; i < 60; i++)
        if (below(2))
            change_window(state, made->windows[i]);
    for (int i = 0; i < 40; i++) {
        struct weir_price_running *price = made->prices[i];
        struct weir_split_running *split = made->splits[i];
        struct weir_period_running *period = made->periods[i];
        if (below(2)) {
            price->quantity = any_decimal();
            price->amount = any_decimal();
            price->events = below(INT64_MAX);
            price->entry.is_dirty = true;
        }
        if (below(2)) {
            split->total = any_total();
            split->entry.is_dirty = true;
        }
        if (below(2)) {
            period->usage_amount = any_decimal();
            period->true_up = any_decimal();
            period->true_up_revision = (uint32_t)below(99);
            period->is_advance_charged = below(2);
            period->is_closed = below(2);
            period->entry.is_dirty = true;
        }
    }
}

static void describe_total(FILE *output, const struct weir_window_total *total)
{
    char value[WEIR_DECIMAL_TEXT_MAX];
    weir_decimal_format(total->value, value);
    fprintf(output, " %" PRIu64 " %" PRIu64 " %s %" PRId64 " %" PRId64, total->events, total->retracted, value,
            total->latest_time, total->latest_offset);
}

static int by_name(const void *left, const void *right)
{
    const struct weir_rated_lane *a = left, *b = right;
    return weir_slice_compare(a->lane, b->lane);
}

/* All contents as text, for comparing. */
static char *describe(struct made *made)
{
    char *text, a[WEIR_DECIMAL_TEXT_MAX], b[WEIR_DECIMAL_TEXT_MAX];
    size_t length;
    FILE *output = open_memstream(&text, &length);

    for (int i = 0; i < 60; i++) {
        struct weir_rated_window *window = made->windows[i];
        fprintf(output, "window %d %d %d %.*s %" PRId64 " %" PRId64 " %.*s %u %.*s\n", i, window->entry.exists,
                window->unpriced, (int)window->contract.length, window->contract.data, window->period_start,
                window->period_end, (int)window->price_book.length, window->price_book.data, window->price_book_version,
                (int)window->price_key.length, window->price_key.data);
        if (window->lane_count)
            qsort(window->lanes, window->lane_count, sizeof *window->lanes, by_name);
        for (uint32_t j = 0; j < window->lane_count; j++) {
            fprintf(output, "  %.*s %u", (int)window->lanes[j].lane.length, window->lanes[j].lane.data,
                    window->lanes[j].revision);
            describe_total(output, &window->lanes[j].total);
            fputc('\n', output);
        }
    }
    for (int i = 0; i < 40; i++) {
        weir_decimal_format(made->prices[i]->quantity, a);
        weir_decimal_format(made->prices[i]->amount, b);
        fprintf(output, "price %d %d %s %s %" PRIu64 "\n", i, made->prices[i]->entry.exists, a, b,
                made->prices[i]->events);
        fprintf(output, "split %d %d", i, made->splits[i]->entry.exists);
        describe_total(output, &made->splits[i]->total);
        weir_decimal_format(made->periods[i]->usage_amount, a);
        weir_decimal_format(made->periods[i]->true_up, b);
        fprintf(output, "\nperiod %d %d %s %s %u %d %d\n", i, made->periods[i]->entry.exists, a, b,
                made->periods[i]->true_up_revision, made->periods[i]->is_advance_charged, made->periods[i]->is_closed);
    }
    fclose(output);
    return text;
}

/* Write, forget, load: the same again, over many rounds in which some entries change and some are new. */
Test(ledger_postgres, state_comes_back)
{
    struct fixture f;
    struct made made;
    struct weir_error error;
    char *before = NULL;

    open_twin(&f, 1);
    seed_random(4);
    for (int round = 0; round < 12; round++) {
        weir_state_clear(f.state);
        make_keys(f.state, &made);
        cr_assert_eq(f.ledger->ops->load(f.ledger, f.state, &error), WEIR_OK, "%s", error.text);
        char *found = describe(&made);
        if (before)
            cr_assert_str_eq(found, before, "round %d", round);
        free(found);
        free(before);
        change_some(f.state, &made);
        cr_assert_eq(f.ledger->ops->write(f.ledger, NULL, 0, f.state, &error), WEIR_OK, "%s", error.text);
        before = describe(&made);
        cr_assert(!made.windows[0]->entry.is_dirty && !made.prices[0]->entry.is_dirty);
    }
    free(before);
    close_twin(&f);
}

/* A second load in one transaction fetches what was added since, and leaves alone what was there. */
Test(ledger_postgres, loads_in_parts)
{
    struct fixture f;
    struct weir_error error;
    int64_t start = START * WEIR_SECOND, end = start + WEIR_DAY;

    open_twin(&f, 1);
    for (int round = 0; round < 2; round++) {
        weir_state_clear(f.state);
        struct weir_period_running *first = weir_state_period(f.state, S("a"), S(""), start, end);
        cr_assert_eq(f.ledger->ops->load(f.ledger, f.state, &error), WEIR_OK, "%s", error.text);
        cr_assert_eq(first->true_up_revision, (uint32_t)round * 7);
        first->true_up_revision = 7;
        first->entry.is_dirty = true;
        struct weir_period_running *second =
            weir_state_period(f.state, S("b"), S(""), start + 70 * WEIR_DAY, end + 70 * WEIR_DAY);
        cr_assert_eq(f.ledger->ops->load(f.ledger, f.state, &error), WEIR_OK, "%s", error.text);
        cr_assert_eq(first->true_up_revision, 7);
        cr_assert_eq(second->true_up_revision, (uint32_t)round * 9);
        second->true_up_revision = 9;
        second->entry.is_dirty = true;
        cr_assert_eq(f.ledger->ops->write(f.ledger, NULL, 0, f.state, &error), WEIR_OK, "%s", error.text);
    }
    close_twin(&f);
}

/* 4. breaking off */

/* Ends the ledger's session when `condition` holds of it; answers whether it came to that within the deadline. */
static bool kill_when(PGconn *admin, const char *condition, int milliseconds)
{
    char sql[512];
    struct timespec pause = {0, 1000000};

    snprintf(sql, sizeof sql,
             "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
             " AND application_name = 'weir rater' AND %s",
             condition);
    for (int i = 0; i < milliseconds; i++) {
        PGresult *result = PQexec(admin, sql);
        bool is_killed = PQresultStatus(result) == PGRES_TUPLES_OK && strcmp(PQgetvalue(result, 0, 0), "0") != 0;
        PQclear(result);
        if (is_killed)
            return true;
        nanosleep(&pause, NULL); /* between polls */
    }
    return false;
}

Test(ledger_postgres, killed_between_load_and_write)
{
    struct fixture f;
    struct weir_error error = {{0}};
    struct weir_line_item items[50];

    open_twin(&f, 1);
    seed_random(5);
    for (int i = 0; i < 50; i++)
        items[i] = any_item();
    load_for(&f, items, 50);
    cr_assert(kill_when(database.admin, "true", 5000));
    cr_assert_eq(f.ledger->ops->write(f.ledger, items, 50, f.state, &error), WEIR_RETRY, "%s", error.text);
    cr_assert(strstr(error.text, "PostgreSQL"), "%s", error.text);
    put(&f, items, 50); /* by itself, on a new connection */
    assert_holds(&f, items, 50);
    /* Killed while idle: noticed by the next load, which is to be repeated, and no more than once. */
    cr_assert(kill_when(database.admin, "true", 5000));
    weir_state_clear(f.state);
    weir_state_period(f.state, S("x"), S(""), 0, WEIR_DAY);
    cr_assert_eq(f.ledger->ops->load(f.ledger, f.state, &error), WEIR_RETRY, "%s", error.text);
    cr_assert_eq(f.ledger->ops->load(f.ledger, f.state, &error), WEIR_OK, "%s", error.text);
    f.ledger->ops->abandon(f.ledger);
    close_twin(&f);
}

struct killer {
    PGconn *admin;
    bool has_killed;
};

static void *kill_in_copy(void *context)
{
    struct killer *killer = context;
    killer->has_killed = kill_when(killer->admin, "state = 'active' AND query LIKE 'COPY weir.line_items%'", 20000);
    return NULL;
}

Test(ledger_postgres, killed_in_the_middle_of_copy)
{
    enum { ITEMS = 150000 };
    struct fixture f;
    struct weir_error error = {{0}};
    struct weir_line_item *items = weir_new_array(ITEMS, sizeof *items);
    pthread_t thread;

    open_twin(&f, 1);
    seed_random(6);
    for (int i = 0; i < ITEMS; i++)
        items[i] = any_item();
    struct killer killer = {connect_to(database.url), false};
    load_for(&f, items, ITEMS);
    pthread_create(&thread, NULL, kill_in_copy, &killer);
    cr_assert_eq(f.ledger->ops->write(f.ledger, items, ITEMS, f.state, &error), WEIR_RETRY, "%s", error.text);
    pthread_join(thread, NULL);
    PQfinish(killer.admin);
    cr_assert(killer.has_killed);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.line_items"), 0);
    put(&f, items, ITEMS);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.line_items"), ITEMS);
    free(items);
    close_twin(&f);
}

/* 5. raters */
static const char rating_catalog[] =
    "{\"meters\":[{\"key\":\"tokens\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.n\",\"window\":"
    "\"1h\","
    "\"group_by\":[\"model\"]},{\"key\":\"peak\",\"event_type\":\"t\",\"aggregation\":\"max\",\"value\":\"data.n\","
    "\"window\":\"1h\"}],"
    "\"price_books\":[{\"key\":\"standard\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"2020-01-01T00:00:"
    "00Z\",\"prices\":["
    "{\"meter\":\"tokens\",\"model\":\"graduated\",\"tiers\":[{\"up_to\":\"100\",\"unit_price\":\"0.01\",\"flat_fee\":"
    "\"1.5\"},"
    "{\"up_to\":null,\"unit_price\":\"0.003\"}],\"minimum_amount\":\"2\"},"
    "{\"meter\":\"peak\",\"model\":\"per_unit\",\"unit_price\":\"0.125\"}],\"fees\":[{\"key\":\"base\",\"amount\":\"9."
    "99\","
    "\"per\":\"period\",\"charged\":\"in_arrears\"}]}],"
    "\"contracts\":[{\"key\":\"c0\",\"customer\":\"customer "
    "0\",\"price_book\":\"standard\",\"starts_at\":\"2025-01-01T00:00:00Z\","
    "\"billing_period\":\"month\",\"timezone\":\"UTC\",\"commitments\":[{\"key\":\"floor\",\"type\":\"minimum_spend\","
    "\"amount\":\"500\",\"per\":\"period\"}]}],"
    "\"default_contract\":{\"price_book\":\"standard\",\"billing_period\":\"month\",\"timezone\":\"UTC\"}}";

static struct weir_catalog *parse_catalog(void)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    cr_assert_eq(weir_catalog_parse("test", rating_catalog, sizeof rating_catalog - 1, &catalog, &mistakes), WEIR_OK,
                 "%s: %s", mistakes.count ? mistakes.mistakes[0].path : "",
                 mistakes.count ? mistakes.mistakes[0].text : "");
    return catalog;
}

enum { WORK_WINDOWS = 400, CUSTOMERS = 6 };

/* Windows of one lane: the same customers in every lane, each window changing from visit to visit. */
struct work {
    char lane[16];
    char keys[WORK_WINDOWS][WEIR_SERIES_KEY_MAX];
    struct weir_lane_window windows[WORK_WINDOWS];
};

static void make_work(struct work *work, int lane)
{
    snprintf(work->lane, sizeof work->lane, "events:%d", lane);
    for (int i = 0; i < WORK_WINDOWS; i++) {
        char customer[32], model[32];
        snprintf(customer, sizeof customer, "customer %d", i % CUSTOMERS);
        snprintf(model, sizeof model, "model %d", i / CUSTOMERS % 3);
        bool is_peak = i % 5 == 4;
        struct weir_series series = {.meter = S(is_peak ? "peak" : "tokens"),
                                     .customer = S(customer),
                                     .dimension_count = is_peak ? 0 : 1,
                                     .dimensions = {{S("model"), S(model)}}};
        int64_t start = (START + i / 18 * 3600) * WEIR_SECOND;
        size_t length = weir_series_write(&series, work->keys[i]);
        work->windows[i] = (struct weir_lane_window){
            .lane = S(work->lane),
            .window = {weir_slice_of(work->keys[i], length), start, start + WEIR_HOUR, {0}},
        };
    }
}

static void grow_work(struct work *work, int round, int lane)
{
    for (int i = 0; i < WORK_WINDOWS; i++) {
        struct weir_window_total *total = &work->windows[i].window.total;
        if (lane == 2 && i % 10 == 4) { /* peaks of which this lane only has what another one's events were voided by */
            total->retracted++;
            continue;
        }
        if ((i + round) % 3 == 0 && total->events > 2) {
            total->events -= 2; /* retracted: a sum down to below zero in some, a peak lower than its period's */
            total->retracted += 2;
            total->value.e12 -= (weir_int128)((i * 29 + round * 13) % 1500) * 1000000007;
            continue;
        }
        total->events += 1 + (uint64_t)((i * 7 + round) % 3);
        total->value.e12 += (weir_int128)((i * 31 + round * 17 + lane * 13) % 1000) * 1000000007;
    }
}

struct rating {
    const char *url;
    const struct weir_catalog *catalog;
    int lane, rounds;
    unsigned retries;
    char failure[WEIR_ERROR_TEXT_MAX];
};

/* Rates one lane through all rounds in batches, in an order of its own, over and over until each batch is through. */
static void *rate_lane(void *context)
{
    struct rating *rating = context;
    struct work *work = weir_new(sizeof *work);
    struct weir_ledger *ledger = NULL;
    struct weir_rater *rater = NULL;
    struct weir_error error = {{0}};
    enum weir_status status = weir_ledger_postgres_open(rating->url, &ledger, &error);

    make_work(work, rating->lane);
    if (status == WEIR_OK)
        rater = weir_rater_new(rating->catalog, ledger);
    for (int round = 0; round < rating->rounds && status == WEIR_OK; round++) {
        grow_work(work, round, rating->lane);
        for (size_t at = 0; at < WORK_WINDOWS && status == WEIR_OK; at += 50) {
            size_t from = rating->lane % 2 ? WORK_WINDOWS - 50 - at : at;
            do
                status = weir_rater_rate(rater, work->windows + from, 50, &error);
            while (status == WEIR_RETRY && ++rating->retries < 10000);
        }
    }
    if (status != WEIR_OK)
        snprintf(rating->failure, sizeof rating->failure, "%s", error.text);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    free(work);
    return NULL;
}

/* What an embedded rater makes of the same totals at once: the sums that the ledger must have. */
static char *embedded_summary(const struct weir_catalog *catalog, int lanes, int rounds)
{
    char *text;
    size_t length;
    FILE *output = open_memstream(&text, &length);
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_error error;

    cr_assert_eq(weir_ledger_text_open(WEIR_LEDGER_CSV, true, output, &ledger, &error), WEIR_OK);
    rater = weir_rater_new(catalog, ledger);
    for (int lane = 0; lane < lanes; lane++) {
        struct work *work = weir_new(sizeof *work);
        make_work(work, lane);
        for (int round = 0; round < rounds; round++)
            grow_work(work, round, lane);
        cr_assert_eq(weir_rater_rate(rater, work->windows, WORK_WINDOWS, &error), WEIR_OK, "%s", error.text);
        free(work);
    }
    struct weir_horizon horizon = {START * WEIR_SECOND, (START + 86400) * WEIR_SECOND, WEIR_TIME_NEVER};
    cr_assert_eq(weir_rater_settle(rater, &horizon, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(ledger->ops->finish(ledger, &error), WEIR_OK);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    fclose(output);
    return text;
}

/* The view that finance reads, in the form of `weir rate --summary --format csv`. */
static char *view_summary(void)
{
    char *text;
    size_t length;
    FILE *output = open_memstream(&text, &length);
    PGresult *result = PQexec(
        database.admin,
        "SELECT concat_ws(',', customer, contract, to_char(period_start, '" INSTANT "'), to_char(period_end, '" INSTANT
        "'), item, kind, quantity, amount, invoice_amount, currency) FROM weir.charges_by_customer_and_period"
        " ORDER BY customer COLLATE \"C\", contract COLLATE \"C\", period_start, item COLLATE \"C\", kind COLLATE "
        "\"C\"");

    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(database.admin));
    fputs("customer,contract,period_start,period_end,item,kind,quantity,amount,invoice_amount,currency\n", output);
    for (int i = 0; i < PQntuples(result); i++)
        fprintf(output, "%s\n", PQgetvalue(result, i, 0));
    PQclear(result);
    fclose(output);
    return text;
}

static void settle_all(const struct weir_catalog *catalog)
{
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_error error;
    struct weir_horizon horizon = {START * WEIR_SECOND, (START + 86400) * WEIR_SECOND, WEIR_TIME_NEVER};

    cr_assert_eq(weir_ledger_postgres_open(database.url, &ledger, &error), WEIR_OK, "%s", error.text);
    rater = weir_rater_new(catalog, ledger);
    for (int i = 0; i < 2; i++) /* the second time there is nothing to do */
        cr_assert_eq(weir_rater_settle(rater, &horizon, &error), WEIR_OK, "%s", error.text);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
}

static void count_difference(void *context, const struct weir_audit_difference *difference)
{
    (void)difference;
    ++*(int *)context;
}

static int audit_differences(void)
{
    struct weir_ledger_audit *audit;
    struct weir_error error;
    int count = 0;

    cr_assert_eq(weir_ledger_audit_open(database.url, &audit, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(weir_ledger_audit_totals(audit, count_difference, &count, &error), WEIR_OK, "%s", error.text);
    weir_ledger_audit_free(audit);
    return count;
}

/* Three raters, the same customers, two directions, and an executioner: every total is exact, and no row stands twice.
 */
static void race(int rounds, bool with_kills)
{
    enum { RATERS = 3 };
    struct weir_catalog *catalog = parse_catalog();
    struct rating ratings[RATERS];
    pthread_t threads[RATERS];

    database_make(&database);
    for (int i = 0; i < RATERS; i++) {
        ratings[i] = (struct rating){.url = database.url, .catalog = catalog, .lane = i, .rounds = rounds};
        pthread_create(&threads[i], NULL, rate_lane, &ratings[i]);
    }
    for (int i = 0; with_kills && i < 8; i++)
        kill_when(database.admin, i % 2 ? "state = 'active' AND query LIKE 'COPY%'" : "state = 'idle in transaction'",
                  300);
    unsigned retries = 0;
    for (int i = 0; i < RATERS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_str_empty(ratings[i].failure, "%s", ratings[i].failure);
        retries += ratings[i].retries;
    }
    if (with_kills)
        cr_assert_gt(retries, 0, "nothing was killed");
    else
        cr_assert_eq(retries, 0, "%u retries: raters got in each other's way", retries);
    settle_all(catalog);
    char *expected = embedded_summary(catalog, RATERS, rounds), *found = view_summary();
    cr_assert_str_eq(found, expected);
    cr_assert_eq(audit_differences(), 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.rated_windows"), RATERS * WORK_WINDOWS);
    free(expected);
    free(found);
    weir_catalog_free(catalog);
}

Test(ledger_postgres, raters_at_once)
{
    race(6, false);
}

Test(ledger_postgres, raters_at_once_and_killed)
{
    race(25, true);
}

/* The same windows again: nothing to write. A window in several lanes: all shares are kept. */
Test(ledger_postgres, repeating_changes_nothing)
{
    struct weir_catalog *catalog = parse_catalog();
    struct rating rating = {.catalog = catalog, .rounds = 2};

    database_make(&database);
    rating.url = database.url;
    rate_lane(&rating);
    cr_assert_str_empty(rating.failure, "%s", rating.failure);
    char *before = ask_text(&database, "SELECT count(*) || ' ' || max(line_item_id) FROM weir.line_items");
    struct work *work = weir_new(sizeof *work);
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_error error;
    make_work(work, 0);
    grow_work(work, 0, 0);
    grow_work(work, 1, 0);
    cr_assert_eq(weir_ledger_postgres_open(database.url, &ledger, &error), WEIR_OK);
    rater = weir_rater_new(catalog, ledger);
    cr_assert_eq(weir_rater_rate(rater, work->windows, WORK_WINDOWS, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(weir_rater_counts(rater).unchanged, WORK_WINDOWS);
    char *after = ask_text(&database, "SELECT count(*) || ' ' || max(line_item_id) FROM weir.line_items");
    cr_assert_str_eq(after, before);
    free(before);
    free(after);
    free(work);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    weir_catalog_free(catalog);
}

/* One peak, in the hour-th window of lane events:<lane>. */
static void rate_peak(struct weir_rater *rater, int lane, int hour, uint64_t events, uint64_t retracted, int64_t value)
{
    char key[WEIR_SERIES_KEY_MAX], name[16];
    struct weir_series series = {.meter = S("peak"), .customer = S("customer 1")};
    int64_t start = (START + hour * 3600) * WEIR_SECOND;
    struct weir_lane_window window = {.window = {.start = start, .end = start + WEIR_HOUR}};
    struct weir_error error;

    snprintf(name, sizeof name, "events:%d", lane);
    window.lane = S(name);
    window.window.series_key = weir_slice_of(key, weir_series_write(&series, key));
    window.window.total =
        (struct weir_window_total){.events = events, .retracted = retracted, .value = weir_decimal_of(value)};
    cr_assert_eq(weir_rater_rate(rater, &window, 1, &error), WEIR_OK, "%s", error.text);
}

#define ASSERT_PEAK(value)                                                                                             \
    cr_assert_eq(ask_number(&database, "SELECT sum(quantity)::bigint FROM weir.line_items WHERE kind = 'usage'"), value)

/* A retraction that came by another partition than its event, and a lane that has only retractions: a period's maximum
 * is folded anew from all its windows, not from those that this batch happens to hold. */
Test(ledger_postgres, a_share_without_events_folds_the_whole_period)
{
    struct weir_catalog *catalog = parse_catalog();
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_error error;

    database_make(&database);
    cr_assert_eq(weir_ledger_postgres_open(database.url, &ledger, &error), WEIR_OK, "%s", error.text);
    rater = weir_rater_new(catalog, ledger);
    rate_peak(rater, 0, 0, 1, 0, 10);
    rate_peak(rater, 0, 1, 1, 0, 50);
    rate_peak(rater, 0, 2, 2, 0, 30);
    ASSERT_PEAK(50);
    rate_peak(rater, 1, 0, 0, 1, 0);
    ASSERT_PEAK(50);
    rate_peak(rater, 1, 1, 1, 1, 20);
    ASSERT_PEAK(50);
    rate_peak(rater, 0, 1, 0, 1, 0); /* the peak itself is taken out: another window's stands */
    ASSERT_PEAK(30);
    rate_peak(rater, 0, 2, 1, 1, 5);
    ASSERT_PEAK(20); /* lane 1's share of window 1 */
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    weir_catalog_free(catalog);
}

/* Late usage without a price, in a period whose missing quantity is charged: it is not charged once more. */
Test(ledger_postgres, unpriced_usage_of_a_closed_period_charges_nothing)
{
    static const char json[] =
        "{\"meters\":[{\"key\":\"peak\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.n\",\"window\":"
        "\"1h\"},{\"key\":\"other\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"}],\"price_books\":"
        "[{\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"2020-01-01T00:00:00Z\",\"prices\":"
        "[{\"meter\":\"other\",\"model\":\"per_unit\",\"unit_price\":\"1\"}]}],\"contracts\":[{\"key\":\"c\","
        "\"customer\":"
        "\"customer 1\",\"price_book\":\"b\",\"starts_at\":\"2026-01-01T00:00:00Z\",\"billing_period\":\"month\","
        "\"timezone\":\"UTC\",\"commitments\":[{\"key\":\"least\",\"type\":\"minimum_quantity\",\"meter\":\"other\","
        "\"quantity\":\"10\",\"per\":\"period\"}]}]}";
    const struct weir_horizon january = {START * WEIR_SECOND, START * WEIR_SECOND + 1, WEIR_TIME_NEVER};
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_error error;

    database_make(&database);
    cr_assert_eq(weir_catalog_parse("test", json, strlen(json), &catalog, &mistakes), WEIR_OK);
    cr_assert_eq(weir_ledger_postgres_open(database.url, &ledger, &error), WEIR_OK, "%s", error.text);
    rater = weir_rater_new(catalog, ledger);
    cr_assert_eq(weir_rater_settle(rater, &january, &error), WEIR_OK, "%s", error.text);
    rate_peak(rater, 0, 0, 1, 0, 10);
    cr_assert_eq(ask_number(&database, "SELECT sum(amount)::bigint FROM weir.line_items"), 10);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    weir_catalog_free(catalog);
}

/* What the first term is missing, and that its usage, what is missing and the true-up come to the minimum spend. */
static void check_term(struct weir_rater *rater, int64_t missing, int64_t charged)
{
    const struct weir_horizon horizon = {START * WEIR_SECOND, START * WEIR_SECOND + 40 * WEIR_DAY, WEIR_TIME_NEVER};
    static const char *const sums[] = {
        "SELECT coalesce(sum(quantity), 0)::bigint FROM weir.line_items WHERE item = 'least'",
        "SELECT coalesce(sum(amount), 0)::bigint FROM weir.line_items WHERE item = 'least'",
        "SELECT sum(amount)::bigint FROM weir.line_items WHERE kind IN ('usage', 'true_up')",
        "SELECT count(*)::bigint FROM weir.line_items WHERE kind = 'true_up' AND period_start <> '2026-02-01 00:00Z'",
        "SELECT -coalesce(sum(amount), 0)::bigint FROM weir.line_items WHERE item = 'credit'",
    };
    const int64_t expected[] = {missing, charged, 1000, 0, 300};
    struct weir_error error;

    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
        cr_assert_eq(ask_number(&database, sums[i]), expected[i], "%s", sums[i]);
    cr_assert_eq(weir_rater_settle(rater, &horizon, &error), WEIR_OK, "%s", error.text);
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
        cr_assert_eq(ask_number(&database, sums[i]), expected[i], "settled once more: %s", sums[i]);
}

/* What a term is missing is charged in its last period, by its tiers, and follows late usage of each of its periods. */
Test(ledger_postgres, late_usage_of_a_term_with_a_minimum_quantity)
{
    enum { FEBRUARY = 31 * 24 };
    static const char json[] =
        "{\"meters\":[{\"key\":\"peak\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.n\",\"window\":"
        "\"1h\"}],\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":"
        "\"2020-01-01T00:00:00Z\",\"prices\":[{\"meter\":\"peak\",\"model\":\"graduated\",\"tiers\":[{\"up_to\":"
        "\"100\","
        "\"unit_price\":\"1\"},{\"up_to\":null,\"unit_price\":\"0.5\"}]}]}],\"contracts\":[{\"key\":\"c\",\"customer\":"
        "\"customer 1\",\"price_book\":\"b\",\"starts_at\":\"2026-01-01T00:00:00Z\",\"billing_period\":\"month\","
        "\"timezone\":\"UTC\",\"renews\":{\"months\":2},\"commitments\":[{\"key\":\"least\",\"type\":"
        "\"minimum_quantity\",\"meter\":\"peak\",\"quantity\":\"500\",\"per\":\"term\"},{\"key\":\"floor\",\"type\":"
        "\"minimum_spend\",\"amount\":\"1000\",\"per\":\"term\"},{\"key\":\"credit\",\"type\":\"prepaid\",\"amount\":"
        "\"300\",\"funding\":\"free\"}]}]}";
    const struct weir_horizon both = {START * WEIR_SECOND, START * WEIR_SECOND + 40 * WEIR_DAY, WEIR_TIME_NEVER};
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_error error;

    database_make(&database);
    cr_assert_eq(weir_catalog_parse("test", json, strlen(json), &catalog, &mistakes), WEIR_OK);
    cr_assert_eq(weir_ledger_postgres_open(database.url, &ledger, &error), WEIR_OK, "%s", error.text);
    rater = weir_rater_new(catalog, ledger);
    rate_peak(rater, 0, 100, 1, 0, 120);
    rate_peak(rater, 0, FEBRUARY + 100, 1, 0, 60);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.line_items WHERE kind = 'true_up'"), 0);
    cr_assert_eq(weir_rater_settle(rater, &both, &error), WEIR_OK, "%s", error.text);
    check_term(rater, 320, 180); /* 40 + 280 / 2 */
    rate_peak(rater, 0, 200, 1, 0, 200);
    check_term(rater, 120, 80); /* 40 + 80 / 2 */
    rate_peak(rater, 0, FEBRUARY + 200, 1, 0, 50);
    check_term(rater, 70, 35);
    rate_peak(rater, 0, 300, 1, 0, 100); /* 530 by now */
    check_term(rater, 0, 0);
    rate_peak(rater, 0, 200, 0, 1, 0); /* the 200 are taken out again */
    check_term(rater, 170, 85);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    weir_catalog_free(catalog);
}

/* What the rest of a split amounts to costs one row, however many windows it has. */
Test(ledger_postgres, the_rest_of_a_split_is_not_loaded)
{
    static const enum weir_aggregation kinds[] = {WEIR_AGGREGATION_MAX, WEIR_AGGREGATION_MIN, WEIR_AGGREGATION_LATEST};
    static const int64_t expected[] = {399, 1, 399};
    struct weir_catalog *catalog = parse_catalog();
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_error error;
    char key[WEIR_SERIES_KEY_MAX];
    struct weir_series series = {.meter = S("peak"), .customer = S("customer 1")};

    database_make(&database);
    cr_assert_eq(weir_ledger_postgres_open(database.url, &ledger, &error), WEIR_OK, "%s", error.text);
    rater = weir_rater_new(catalog, ledger);
    for (int hour = 0; hour < 401; hour++)
        rate_peak(rater, 0, hour, hour % 400 ? 1 : 0, 1, hour % 400);
    sql_on(database.admin, "UPDATE weir.rated_windows SET latest_time = value::bigint");
    for (int i = 0; i < 3; i++) {
        struct weir_state *state = weir_state_new();
        struct weir_slice series_key = weir_slice_of(key, weir_series_write(&series, key));
        int64_t period = INT64_C(1767225600) * WEIR_SECOND; /* January 2026 */
        struct weir_price_running *price = weir_state_price(state, S("customer 1"), S(""), period,
                                                            period + 31 * WEIR_DAY, S("standard"), 1, S("peak"));
        struct weir_split_running *split = weir_state_split(state, price, series_key);
        weir_state_window(state, series_key, (START + 3600) * WEIR_SECOND, (START + 7200) * WEIR_SECOND);
        (void)series_key;
        cr_assert_eq(ledger->ops->load(ledger, state, &error), WEIR_OK, "%s", error.text);
        split->wants_rest = true;
        split->aggregation = kinds[i];
        cr_assert_eq(ledger->ops->load_rest(ledger, state, &error), WEIR_OK, "%s", error.text);
        cr_assert_eq(weir_decimal_compare(split->rest.value, weir_decimal_of(expected[i] + (i == 1))), 0,
                     "%d: not what was expected", i);
        cr_assert_eq(weir_state_all(state).window_count, 1);
        ledger->ops->abandon(ledger);
        weir_state_free(state);
    }
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    weir_catalog_free(catalog);
}

/* How many of the lane's shares are as the work has them, and how many were never rated. */
static void find_shares(struct weir_ledger_audit *audit, bool is_now, const char *lane, const struct work *work,
                        int *ret_same, int *ret_unrated)
{
    static struct weir_window windows[WORK_WINDOWS];
    static struct weir_audited_share shares[WORK_WINDOWS];
    struct weir_error error;

    *ret_same = *ret_unrated = 0;
    for (int i = 0; i < WORK_WINDOWS; i++)
        windows[i] = work->windows[i].window;
    cr_assert_eq(weir_ledger_audit_find(audit, is_now, S(lane), windows, WORK_WINDOWS, shares, &error), WEIR_OK, "%s",
                 error.text);
    for (int i = 0; i < WORK_WINDOWS; i++) {
        *ret_same += shares[i].revision == 1 && shares[i].total.events == windows[i].total.events
                     && shares[i].total.value.e12 == windows[i].total.value.e12;
        *ret_unrated += shares[i].revision == 0;
    }
}

static void add_shares(void *context, const struct weir_audited_span *span)
{
    cr_assert(weir_slice_equal(span->lane, S("events:2")));
    *(uint64_t *)context += span->shares;
}

Test(ledger_postgres, audit_sees_windows_and_tampering)
{
    struct weir_catalog *catalog = parse_catalog();
    struct rating rating = {.catalog = catalog, .rounds = 1, .lane = 2};
    struct work *work = weir_new(sizeof *work);
    struct weir_ledger_audit *audit;
    struct weir_audit_counts counts;
    uint64_t shares = 0;
    int same, unrated;
    struct weir_error error;

    database_make(&database);
    rating.url = database.url;
    rate_lane(&rating);
    make_work(work, 2);
    grow_work(work, 0, 2);
    cr_assert_eq(weir_ledger_audit_open(database.url, &audit, &error), WEIR_OK, "%s", error.text);
    find_shares(audit, false, "events:2", work, &same, &unrated);
    cr_assert(same == WORK_WINDOWS && unrated == 0, "%d same, %d unrated", same, unrated);
    find_shares(audit, false, "events:1", work, &same, &unrated);
    cr_assert(same == 0 && unrated == WORK_WINDOWS, "%d same, %d unrated", same, unrated);
    cr_assert_eq(weir_ledger_audit_spans(audit, add_shares, &shares, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(shares, WORK_WINDOWS);
    cr_assert_eq(weir_ledger_audit_counts(audit, &counts, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(counts.rated_windows, WORK_WINDOWS);
    cr_assert_eq(counts.customers, CUSTOMERS);
    cr_assert_eq(counts.unpriced_windows, 0);
    cr_assert_eq(audit_differences(), 0);
    sql_on(database.admin, "BEGIN; UPDATE weir.rated_windows SET events = events + 1 WHERE customer = 'customer 0' AND "
                           "window_start = (SELECT min(window_start) FROM weir.rated_windows WHERE customer = "
                           "'customer 0'); COMMIT");
    find_shares(audit, true, "events:2", work, &same, &unrated);
    cr_assert_lt(same, WORK_WINDOWS, "what is now was not seen");
    find_shares(audit, false, "events:2", work, &same, &unrated);
    cr_assert_eq(same, WORK_WINDOWS, "the snapshot moved");
    cr_assert_gt(audit_differences(), 0, "windows that are not their price's total");
    sql_on(database.admin, "BEGIN; UPDATE weir.rated_windows SET events = events - 1 WHERE customer = 'customer 0' AND "
                           "window_start = (SELECT min(window_start) FROM weir.rated_windows WHERE customer = "
                           "'customer 0'); COMMIT");
    cr_assert_eq(audit_differences(), 0);
    sql_on(database.admin,
           "UPDATE weir.price_totals SET amount = amount + 0.000000000001 WHERE customer = 'customer 1'");
    cr_assert_eq(audit_differences(), 2); /* two meters */
    sql_on(database.admin, "UPDATE weir.billing_periods SET true_up = 1 WHERE customer = 'customer 2'");
    cr_assert_eq(audit_differences(), 3);
    sql_on(database.admin,
           "INSERT INTO weir.line_items (customer, contract, item, meter, period_start, period_end, window_start, "
           "window_end,"
           " kind, component, price_book, price_book_version, quantity, amount, currency, revision) SELECT customer,"
           " contract, item, meter, period_start, period_end, window_start, window_end, kind, component, price_book,"
           " price_book_version, 0, 5, currency, revision FROM weir.line_items WHERE customer = 'customer 3' LIMIT 1");
    cr_assert_eq(audit_differences(), 5); /* its price and its period */
    weir_ledger_audit_free(audit);
    weir_catalog_free(catalog);
    free(work);
}

/* 6. the tables */
Test(ledger_postgres, partitions_come_when_needed)
{
    static const char *const starts[] = {"1970-01-01T00:00:00Z", "1999-12-31T23:00:00Z", "2024-02-29T00:00:00Z",
                                         "2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z", "2261-11-30T00:00:00Z"};
    struct fixture f;
    struct weir_line_item items[6];

    open_twin(&f, 1);
    seed_random(7);
    for (int i = 0; i < 6; i++) {
        items[i] = any_item();
        cr_assert(weir_time_parse(S(starts[i]), &items[i].period_start));
        items[i].period_end = items[i].period_start + WEIR_DAY;
        items[i].window_start = items[i].period_start;
        items[i].window_end = items[i].period_start + WEIR_MINUTE;
    }
    put(&f, items, 6);
    assert_holds(&f, items, 6);
    char *names = ask_text(
        &database, "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_inherits JOIN pg_class ON oid = inhrelid"
                   " WHERE inhparent = 'weir.line_items'::regclass");
    cr_assert_str_eq(names,
                     "line_items_1970_01 line_items_1999_12 line_items_2024_02 line_items_2026_01"
                     " line_items_2026_02 line_items_2261_11",
                     "%s", names);
    free(names);
    close_twin(&f);
}

/* What is loaded later in a batch has its month made in the batch's transaction, and goes with it. */
Test(ledger_postgres, a_month_given_up_is_made_again)
{
    struct fixture f;
    struct weir_error error;
    struct weir_line_item item;

    open_twin(&f, 1);
    seed_random(8);
    item = any_item();
    weir_state_clear(f.state);
    weir_state_period(f.state, S("first"), S(""), 0, WEIR_DAY);
    cr_assert_eq(f.ledger->ops->load(f.ledger, f.state, &error), WEIR_OK, "%s", error.text);
    weir_state_period(f.state, item.customer, item.contract, item.period_start, item.period_end);
    cr_assert_eq(f.ledger->ops->load(f.ledger, f.state, &error), WEIR_OK, "%s", error.text);
    f.ledger->ops->abandon(f.ledger);
    put(&f, &item, 1);
    assert_holds(&f, &item, 1);
    close_twin(&f);
}

struct partition_maker {
    const char *url;
    int month;
    enum weir_status status;
};

static void *make_month(void *context)
{
    struct partition_maker *maker = context;
    struct weir_ledger *ledger = NULL;
    struct weir_error error;
    struct weir_state *state = weir_state_new();
    char customer[16];

    snprintf(customer, sizeof customer, "c%p", context);
    maker->status = weir_ledger_postgres_open(maker->url, &ledger, &error);
    for (int i = 0; i < 24 && maker->status == WEIR_OK; i++) {
        int64_t start = (START + i * 2678400) * WEIR_SECOND;
        weir_state_period(state, S(customer), S(""), start, start + WEIR_DAY)->entry.is_dirty = true;
        maker->status = ledger->ops->load(ledger, state, &error);
        if (maker->status == WEIR_OK)
            maker->status = ledger->ops->write(ledger, NULL, 0, state, &error);
    }
    weir_ledger_free(ledger);
    weir_state_free(state);
    return NULL;
}

Test(ledger_postgres, partitions_at_once)
{
    struct partition_maker makers[4];
    pthread_t threads[4];

    database_make(&database);
    for (int i = 0; i < 4; i++) {
        makers[i] = (struct partition_maker){.url = database.url};
        pthread_create(&threads[i], NULL, make_month, &makers[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_eq(makers[i].status, WEIR_OK);
    }
    cr_assert_eq(
        ask_number(&database, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'weir.line_items'::regclass"), 24);
}

static const char upsert[] = "INSERT INTO weir.line_items OVERRIDING SYSTEM VALUE SELECT * FROM weir.line_items"
                             " ON CONFLICT (customer, period_start, line_item_id) DO UPDATE SET amount = 0";

Test(ledger_postgres, line_items_stay)
{
    static const char *const changes[] = {
        "UPDATE weir.line_items SET amount = 0",
        "DELETE FROM weir.line_items",
        "TRUNCATE weir.line_items",
        "UPDATE weir.line_items_2026_01 SET amount = 0",
        "DELETE FROM weir.line_items_2026_01",
        "TRUNCATE weir.line_items_2026_01",
        upsert,
    };
    struct fixture f;

    open_twin(&f, 1);
    seed_random(8);
    struct weir_line_item item = any_item();
    item.period_start = item.window_start = START * WEIR_SECOND;
    item.period_end = item.window_end = item.period_start + WEIR_DAY;
    put(&f, &item, 1);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        const char *state = sqlstate_of(&database, changes[i]);
        cr_assert_str_eq(state, "23001", "%s: %s", changes[i], state);
    }
    assert_holds(&f, &item, 1);
    close_twin(&f);
}

Test(ledger_postgres, tables_refuse_what_cannot_be)
{
    static const char *const wrong[] = {
        "currency = 'usd'",
        "currency = 'DOLLAR'",
        "customer = ''",
        "period_end = period_start",
        "window_end = window_start - interval '1s'",
        "kind = 'gift'",
        "revision = 0",
        "tier = -1",
        "meter = NULL",
        "price_book = ''",
        "amount = 'NaN'",
        "amount = 1e27",
    };
    char sql[1024];
    struct fixture f;

    open_twin(&f, 1);
    sql_on(database.admin, "SELECT weir.make_line_items_partition('2026-01-01')");
    sql_on(
        database.admin,
        "CREATE TEMP TABLE t AS SELECT * FROM weir.line_items; INSERT INTO t VALUES (1, now(), 'a', '', 'i', 'm', '{}',"
        "'2026-01-01', '2026-02-01', '2026-01-01', '2026-01-02', 'usage', 'units', 'b', 1, 'flat', 1, 1, 1, 1, 'USD', "
        "1)");
    const char *copy = "INSERT INTO weir.line_items OVERRIDING SYSTEM VALUE TABLE t";
    sql_on(database.admin, copy);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(sql, sizeof sql,
                 "BEGIN; ALTER TABLE t ALTER amount TYPE numeric; UPDATE t SET line_item_id = 2, %s; %s", wrong[i],
                 copy);
        const char *state = sqlstate_of(&database, sql);
        bool is_nan = strstr(wrong[i], "NaN");
        if (!is_nan)
            cr_assert(strncmp(state, "23", 2) == 0 || strcmp(state, "22003") == 0, "%s: '%s'", wrong[i], state);
        else
            cr_assert(strncmp(state, "23", 2) == 0, "NaN: '%s'", state);
        sql_on(database.admin, "ROLLBACK");
    }
    close_twin(&f);
}

Test(ledger_postgres, everything_is_explained)
{
    database_make(&database);
    char *bare = ask_text(
        &database, "SELECT coalesce(string_agg(c.relname || coalesce('.' || a.attname, ''), ' '), '') FROM pg_class c"
                   " LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
                   " WHERE c.relnamespace = 'weir'::regnamespace AND c.relkind IN ('r', 'p', 'v')"
                   " AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL)");
    cr_assert_str_empty(bare, "without a comment: %s", bare);
    free(bare);
}

Test(ledger_postgres, rounding_is_ours)
{
    database_make(&database);
    seed_random(9);
    for (int i = 0; i < 3000; i++) {
        struct weir_decimal value = any_decimal(), rounded;
        char text[WEIR_DECIMAL_TEXT_MAX], expected[WEIR_DECIMAL_TEXT_MAX], sql[256];
        int places = (int)below(5);
        enum weir_rounding rounding = below(2) ? WEIR_HALF_UP : WEIR_HALF_EVEN;
        if (below(2)) /* exactly between two */
            value.e12 = ((int64_t)below(2000001) - 1000000) * (weir_int128)5 * 100000000;
        if (!weir_decimal_round(value, places, rounding, &rounded))
            continue;
        weir_decimal_format(value, text);
        weir_decimal_format_places(rounded, places, expected);
        snprintf(sql, sizeof sql, "SELECT weir.round_invoice(%s, %d, '%s')", text, places,
                 rounding == WEIR_HALF_UP ? "half_up" : "half_even");
        char *found = ask_text(&database, sql);
        cr_assert_str_eq(found, expected, "%s", sql);
        free(found);
    }
}

/* 7. periods that wait */
Test(ledger_postgres, unsettled_periods)
{
    struct fixture f;
    struct weir_error error;
    struct weir_period_running found[10];
    size_t count;

    open_twin(&f, 1);
    for (int i = 0; i < 10; i++) {
        char customer[16];
        snprintf(customer, sizeof customer, "c%d", i);
        struct weir_period_running *period =
            weir_state_period(f.state, S(customer), S(i >= 7 ? "with a key" : ""), (START + i * 86400) * WEIR_SECOND,
                              (START + (i + 1) * 86400) * WEIR_SECOND);
        period->is_advance_charged = i != 5 && i != 8 && i != 9;
        period->is_closed = i == 0;
        period->usage_amount = weir_decimal_of(i);
        period->entry.is_dirty = true;
    }
    cr_assert_eq(f.ledger->ops->load(f.ledger, f.state, &error), WEIR_OK, "%s", error.text);
    /* load found nothing and left what was set */
    cr_assert_eq(f.ledger->ops->write(f.ledger, NULL, 0, f.state, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(f.ledger->ops->unsettled(f.ledger, (START + 3 * 86400) * WEIR_SECOND, 0, 10, found, &count, &error),
                 WEIR_OK, "%s", error.text);
    cr_assert_eq(count, 3); /* c1 and c2 have ended, c5's fees in advance are not charged */
    cr_assert(weir_slice_equal(found[0].customer, S("c1")) && weir_slice_equal(found[1].customer, S("c2"))
              && weir_slice_equal(found[2].customer, S("c5")));
    cr_assert_eq(found[1].start, (START + 2 * 86400) * WEIR_SECOND);
    cr_assert_eq(found[1].end, (START + 3 * 86400) * WEIR_SECOND);
    cr_assert_eq(found[2].usage_amount.e12, weir_decimal_of(5).e12);
    cr_assert(found[0].is_advance_charged && !found[2].is_advance_charged);
    cr_assert_eq(f.ledger->ops->unsettled(f.ledger, WEIR_TIME_NEVER, 0, 4, found, &count, &error), WEIR_OK, "%s",
                 error.text);
    cr_assert_eq(count, 4);
    cr_assert_eq(f.ledger->ops->unsettled(f.ledger, WEIR_TIME_NEVER, 0, 10, found, &count, &error), WEIR_OK, "%s",
                 error.text);
    cr_assert_eq(count, 6);
    /* With the span of the events beginning just before c9's ended, c8's lies before it. */
    cr_assert_eq(
        f.ledger->ops->unsettled(f.ledger, 0, (START + 10 * 86400) * WEIR_SECOND - 1, 10, found, &count, &error),
        WEIR_OK, "%s", error.text);
    cr_assert_eq(count, 2); /* and c5's fees */
    cr_assert(weir_slice_equal(found[1].customer, S("c8")) && weir_slice_equal(found[1].contract, S("with a key")));
    close_twin(&f);
}

/* 8. errors */
Test(ledger_postgres, says_what_is_wrong)
{
    struct weir_ledger *ledger = NULL;
    struct weir_error error = {{0}};
    char url[600];

    database_make_empty(&database);
    cr_assert_eq(weir_ledger_postgres_open(database.url, &ledger, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "weir migrate"), "%s", error.text);
    cr_assert_eq(weir_ledger_postgres_open("postgresql://weir:secret@127.0.0.1:1/weir", &ledger, &error), WEIR_RETRY,
                 "%s", error.text);
    cr_assert(!strstr(error.text, "secret") && strstr(error.text, "WEIR_POSTGRES_URL"), "%s", error.text);
    cr_assert(!strchr(error.text, '\n'), "%s", error.text);
    cr_assert_eq(weir_ledger_postgres_open("postgresql://[", &ledger, &error), WEIR_FATAL, "%s", error.text);
    database_url("weir_no_such_database", url);
    cr_assert_eq(weir_ledger_postgres_open(url, &ledger, &error), WEIR_FATAL, "%s", error.text);
    cr_assert_null(ledger);
}

/* A row that nobody could have written while the customer is locked: a defect, told as such, and nothing is written. */
Test(ledger_postgres, a_row_that_cannot_be_is_a_defect)
{
    struct fixture f;
    struct weir_error error = {{0}};
    struct weir_line_item item;

    open_twin(&f, 1);
    seed_random(10);
    item = any_item();
    load_for(&f, &item, 1);
    sql_on(database.admin, "INSERT INTO weir.billing_periods SELECT customer, '', now(), now() + interval '1s', 0, 0, "
                           "0, false, false FROM weir.customers");
    char sql[512], start[WEIR_TIME_TEXT_MAX];
    weir_time_format(item.period_start, start);
    const char *values[] = {item.customer.data, item.contract.data, start};
    const int lengths[] = {(int)item.customer.length, (int)item.contract.length, 0}, formats[] = {1, 1, 0};
    snprintf(sql, sizeof sql,
             "INSERT INTO weir.billing_periods VALUES ($1::text, $2::text, $3::timestamptz, $3::timestamptz + interval "
             "'1s', 0, 0, 0, false, false)");
    PGresult *result = PQexecParams(database.admin, sql, 3, NULL, values, lengths, formats, 0);
    cr_assert_eq(PQresultStatus(result), PGRES_COMMAND_OK, "%s", PQerrorMessage(database.admin));
    PQclear(result);
    cr_assert_eq(f.ledger->ops->write(f.ledger, &item, 1, f.state, &error), WEIR_FATAL, "%s", error.text);
    cr_assert(strstr(error.text, "23505"), "%s", error.text);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.line_items"), 0);
    close_twin(&f);
}
