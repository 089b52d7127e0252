/* The PostgreSQL ledger's whole way (lock, load, write, commit) beside a bare binary COPY of the very same rows into
 * the same tables with the same indexes, both in transactions of one batch. In turns, each round in databases of their
 * own.
 *
 * Every window is new, as most are: a line item and a rated window each, and each batch brings the running totals of
 * its customers forward, which the bare COPY does not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "benchmarks/database.h"
#include "benchmarks/measure.h"
#include "common/calendar.h"
#include "rater/ledger.h"

enum { SPLITS = 10 };
#define START (INT64_C(1767225600) * WEIR_SECOND)

struct sizes {
    int batches, customers;
};

/* 1. a batch */
static struct weir_decimal amount_of(int number)
{
    return (struct weir_decimal){(weir_int128)(1 + number % 997) * 1234567890};
}

static void fill_item(struct weir_line_item *item, const struct weir_price_running *price,
                      const struct weir_series *series, const struct weir_rated_window *window, int number)
{
    *item = (struct weir_line_item){
        .customer = price->customer,
        .contract = price->contract,
        .item = weir_slice_text("tokens"),
        .meter = weir_slice_text("tokens"),
        .dimension_count = series->dimension_count,
        .period_start = price->period_start,
        .period_end = price->period_end,
        .window_start = window->start,
        .window_end = window->end,
        .kind = WEIR_KIND_USAGE,
        .component = WEIR_COMPONENT_UNITS,
        .price_book = price->price_book,
        .price_book_version = 1,
        .model = "per_unit",
        .tier = 1,
        .quantity = weir_decimal_of(1 + number % 5000),
        .has_unit_price = true,
        .unit_price = {2500000},
        .amount = amount_of(number),
        .currency = weir_slice_text("USD"),
        .currency_places = 2,
        .revision = 1,
    };
    memcpy(item->dimensions, series->dimensions, sizeof item->dimensions);
}

/* One customer's windows of one hour, with their line items; the price and the period move on. */
static void rate_customer(struct weir_state *state, int batch, int customer_number, struct weir_line_item *items)
{
    char customer[32], model[32], key[WEIR_SERIES_KEY_MAX];
    int64_t start = START + batch * WEIR_HOUR, period_end = START + 31 * WEIR_DAY;

    snprintf(customer, sizeof customer, "customer-%06d", customer_number);
    struct weir_price_running *price =
        weir_state_price(state, weir_slice_text(customer), weir_slice_text("contract-2026"), START, period_end,
                         weir_slice_text("standard"), 1, weir_slice_text("tokens"));
    struct weir_period_running *period =
        weir_state_period(state, weir_slice_text(customer), weir_slice_text("contract-2026"), START, period_end);
    price->entry.is_dirty = period->entry.is_dirty = true;
    for (int i = 0; i < SPLITS; i++) {
        snprintf(model, sizeof model, "model-%d", i);
        struct weir_series series = {.meter = weir_slice_text("tokens"),
                                     .customer = weir_slice_text(customer),
                                     .dimension_count = 2,
                                     .dimensions = {{weir_slice_text("model"), weir_slice_text(model)},
                                                    {weir_slice_text("region"), weir_slice_text("eu-west-1")}}};
        struct weir_rated_window *window =
            weir_state_window(state, weir_slice_of(key, weir_series_write(&series, key)), start, start + WEIR_HOUR);
        struct weir_rated_lane *lane = weir_rated_window_lane(state, window, weir_slice_text("events:3"));
        int number = customer_number * SPLITS + i + batch;
        lane->total = (struct weir_window_total){.events = 17, .value = weir_decimal_of(1 + number % 5000)};
        lane->revision = 1;
        lane->is_dirty = window->entry.is_dirty = true;
        window->contract = price->contract;
        window->period_start = START;
        window->period_end = period_end;
        window->price_book = price->price_book;
        window->price_book_version = 1;
        window->price_key = price->price_key;
        if (!weir_series_parse(window->series_key, &series))
            weir_measure_die("%s: %s", "series", "a key that cannot be read");
        fill_item(&items[i], price, &series, window, number);
    }
}

/* The totals that were loaded, moved on by this batch. */
static void move_totals(struct weir_state *state, const struct weir_line_item *items)
{
    struct weir_state_view all = weir_state_all(state);

    for (size_t i = 0; i < all.price_count; i++)
        for (int j = 0; j < SPLITS; j++) {
            const struct weir_line_item *item = &items[i * SPLITS + (size_t)j];
            if (!weir_decimal_add(all.prices[i]->quantity, item->quantity, &all.prices[i]->quantity)
                || !weir_decimal_add(all.prices[i]->amount, item->amount, &all.prices[i]->amount)
                || !weir_decimal_add(all.periods[i]->usage_amount, item->amount, &all.periods[i]->usage_amount))
                weir_measure_die("%s: %s", "totals", "overflow");
            all.prices[i]->events += 17;
        }
}

static void add(struct weir_took *sum, struct weir_took more)
{
    sum->wall += more.wall;
    sum->cpu += more.cpu;
}

static struct weir_took time_ledger(const char *url, const struct sizes *sizes)
{
    struct weir_ledger *ledger;
    struct weir_error error;
    struct weir_state *state = weir_state_new();
    struct weir_line_item *items = weir_new_array((size_t)sizes->customers * SPLITS, sizeof *items);
    struct weir_took took = {0}, began;

    if (weir_ledger_postgres_open(url, &ledger, &error) != WEIR_OK)
        weir_measure_die("%s: %s", "opening the ledger", error.text);
    for (int batch = 0; batch < sizes->batches; batch++) {
        weir_state_clear(state);
        for (int i = 0; i < sizes->customers; i++)
            rate_customer(state, batch, i, items + (size_t)i * SPLITS);
        began = weir_measure_now();
        if (ledger->ops->load(ledger, state, &error) != WEIR_OK)
            weir_measure_die("%s: %s", "load", error.text);
        add(&took, weir_measure_since(began));
        move_totals(state, items);
        began = weir_measure_now();
        if (ledger->ops->write(ledger, items, (size_t)sizes->customers * SPLITS, state, &error) != WEIR_OK)
            weir_measure_die("%s: %s", "write", error.text);
        add(&took, weir_measure_since(began));
    }
    weir_ledger_free(ledger);
    weir_state_free(state);
    free(items);
    return took;
}

/* 2. rounds */
static char names[2][64];

static void drop_databases(void)
{
    weir_database_drop(names[0]);
    weir_database_drop(names[1]);
}

int main(int argc, char **argv)
{
    static const struct weir_measure_program program = {
        .name = "ledger",
        .about = "The PostgreSQL ledger beside a bare binary COPY of the very same rows into the same tables.",
        .repetitions = 5,
    };
    struct weir_figure ledger = {.what = "weir ledger", .unit = "million windows/s"},
                       copy = {.what = "bare binary COPY, same rows", .unit = "million windows/s"};

    weir_measure_start(&program, argc, argv);
    struct sizes sizes = weir_measure_is_smoke() ? (struct sizes){2, 200} : (struct sizes){10, 2000};
    int64_t windows = (int64_t)sizes.batches * sizes.customers * SPLITS;
    struct weir_database_rows *streams = weir_new_array((size_t)sizes.batches, sizeof *streams);
    char urls[2][512];

    for (int i = 0; i < 2; i++)
        snprintf(names[i], sizeof names[i], "weir_benchmark_%d_%d", (int)getpid(), i);
    weir_measure_at_end(drop_databases);
    for (int round = 0; round < weir_measure_repetitions(); round++) {
        weir_database_make(names[0], urls[0]);
        weir_database_make(names[1], urls[1]);
        weir_figure_add_rate(&ledger, (double)windows, time_ledger(urls[0], &sizes));
        if (round == 0)
            weir_database_copy_out(urls[0], START, sizes.batches, streams);
        weir_figure_add_rate(&copy, (double)windows, weir_database_copy_in(urls[1], streams, sizes.batches));
        weir_database_compare(urls[0], urls[1], windows);
    }
    printf("%lld windows in %d transactions of %d; CPU time is the client's\n", (long long)windows, sizes.batches,
           sizes.customers * SPLITS);
    weir_measure_print(&copy);
    weir_measure_print(&ledger);
    weir_measure_target(&(struct weir_target){
        .what = "ledger, of a bare binary COPY", .figure = &ledger, .ceiling = &copy, .at_least = 0.5});
    weir_database_free_rows(streams, sizes.batches);
    return weir_measure_end();
}
