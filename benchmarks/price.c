/* Rating alone: closed windows in memory to line items in memory, one core, nothing read and nothing written.
 *
 * A quarter each of per-unit and volume prices, half graduated and split by region. In turns: weir_rater on batches of
 * windows, those of a series together (as `weir rate` hands them out) and in any order (as a store may list them), and
 * beside them the prices alone, without finding them: charges and differences. The answer is checked each time: line
 * items must add up to the price of each period's total.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/measure.h"
#include "common/calendar.h"
#include "rater/price.h"
#include "rater/rate.h"

enum { CUSTOMERS = 2500, SMOKE_CUSTOMERS = 25, CUSTOMERS_MAX = 200000, SERIES = 4, HOURS = 48, BATCH = 512 };

static const char catalog_text[] =
    "{\"meters\":["
    "{\"key\":\"calls\",\"event_type\":\"call\",\"aggregation\":\"count\",\"window\":\"1h\"},"
    "{\"key\":\"stored\",\"event_type\":\"sample\",\"aggregation\":\"sum\",\"value\":\"data.gb\",\"window\":\"1h\"},"
    "{\"key\":\"tokens\",\"event_type\":\"call\",\"aggregation\":\"sum\",\"value\":\"data.tokens\",\"window\":\"1h\","
    "\"group_by\":[\"region\"]}],"
    "\"price_books\":[{\"key\":\"standard\",\"version\":1,\"currency\":\"USD\","
    "\"effective_from\":\"2026-01-01T00:00:00Z\",\"prices\":["
    "{\"meter\":\"calls\",\"model\":\"per_unit\",\"unit_price\":\"0.0004\"},"
    "{\"meter\":\"stored\",\"model\":\"volume\",\"tiers\":[{\"up_to\":\"500\",\"unit_price\":\"0.023\"},"
    "{\"up_to\":\"5000\",\"unit_price\":\"0.021\",\"flat_fee\":\"1\"},{\"up_to\":null,\"unit_price\":\"0.019\"}]},"
    "{\"meter\":\"tokens\",\"model\":\"graduated\",\"tiers\":[{\"up_to\":\"100000\",\"unit_price\":\"0\"},"
    "{\"up_to\":\"1000000\",\"unit_price\":\"0.0000015\",\"flat_fee\":\"5.00\"},"
    "{\"up_to\":null,\"unit_price\":\"0.000001\"}]}]}],"
    "\"default_contract\":{\"price_book\":\"standard\",\"billing_period\":\"month\",\"timezone\":\"UTC\"}}";

static const struct {
    const char *meter, *region;
} series_of[SERIES] = {{"calls", NULL}, {"stored", NULL}, {"tokens", "eu-west-1"}, {"tokens", "us-east-1"}};

struct workload {
    struct weir_catalog *catalog;
    const struct weir_price *prices[SERIES];
    size_t count;
    struct weir_lane_window *windows, *shuffled;
    char *keys;
    struct weir_decimal want; /* what all periods cost */
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* 1. The windows. */

static struct weir_slice make_key(char *text, uint32_t customer, int series)
{
    char name[32];
    struct weir_series made = {.meter = weir_slice_text(series_of[series].meter),
                               .customer = weir_slice_of(name, (size_t)sprintf(name, "customer-%06u", customer))};

    if (series_of[series].region) {
        made.dimension_count = 1;
        made.dimensions[0] =
            (struct weir_dimension){weir_slice_text("region"), weir_slice_text(series_of[series].region)};
    }
    char bytes[WEIR_SERIES_KEY_MAX];
    size_t length = weir_series_write(&made, bytes);
    memcpy(text, bytes, length);
    return weir_slice_of(text, length);
}

static struct weir_window make_window(struct weir_slice key, int series, int hour, uint64_t *random)
{
    static const int64_t start = 1767571200LL * WEIR_SECOND; /* 2026-01-05 */
    struct weir_window window = {.series_key = key, .start = start + hour * WEIR_HOUR};

    window.end = window.start + WEIR_HOUR;
    window.total.events = 1 + next_random(random) % 1000;
    if (series == 1)
        window.total.value.e12 = (weir_int128)(next_random(random) % 200000) * (WEIR_DECIMAL_ONE / 1000);
    else if (series > 1)
        window.total.value = weir_decimal_of((int64_t)(next_random(random) % 40000));
    return window;
}

static void add_up(struct weir_decimal *sum, struct weir_decimal more)
{
    if (!weir_decimal_add(*sum, more, sum))
        weir_measure_die("a sum does not fit");
}

static struct weir_decimal quantity_of(const struct weir_window *window, int series)
{
    return series == 0 ? weir_decimal_of((int64_t)window->total.events) : window->total.value;
}

/* Makes a customer's windows and adds what their periods cost. Both regions' tokens are one price's. */
static void make_customer(struct workload *workload, uint32_t customer, char *keys, uint64_t *random)
{
    struct weir_decimal totals[SERIES] = {0}, cost;

    for (int series = 0; series < SERIES; series++) {
        struct weir_slice key = make_key(keys + series * 64, customer, series);
        for (int hour = 0; hour < HOURS; hour++) {
            struct weir_lane_window *window = &workload->windows[workload->count++];
            *window = (struct weir_lane_window){.lane = weir_slice_text("usage:0"),
                                                .window = make_window(key, series, hour, random)};
            add_up(&totals[series < 3 ? series : 2], quantity_of(&window->window, series));
        }
    }
    for (int series = 0; series < 3; series++) {
        if (!weir_price_total(workload->prices[series], totals[series], 0, &cost))
            weir_measure_die("a period's cost does not fit");
        add_up(&workload->want, cost);
    }
}

static struct workload make_workload(uint32_t customers)
{
    struct workload workload = {0};
    struct weir_mistake_list mistakes;
    uint64_t random = 88172645463325252u;
    size_t room = (size_t)customers * SERIES * HOURS;

    if (weir_catalog_parse("price", catalog_text, sizeof catalog_text - 1, &workload.catalog, &mistakes) != WEIR_OK)
        weir_measure_die("%s", mistakes.mistakes[0].text);
    for (int i = 0; i < SERIES; i++) {
        struct weir_slice text = weir_slice_text("eu-west-1");
        workload.prices[i] =
            weir_price_for(&workload.catalog->books[0].versions[0],
                           weir_catalog_meter(workload.catalog, weir_slice_text(series_of[i].meter)), &text);
    }
    workload.windows = weir_new_array(room, sizeof *workload.windows);
    workload.shuffled = weir_new_array(room, sizeof *workload.shuffled);
    workload.keys = weir_new_array((size_t)customers * SERIES, 64);
    for (uint32_t i = 0; i < customers; i++)
        make_customer(&workload, i, workload.keys + (size_t)i * SERIES * 64, &random);
    memcpy(workload.shuffled, workload.windows, room * sizeof *workload.windows);
    for (size_t i = room - 1; i > 0; i--) {
        size_t other = next_random(&random) % (i + 1);
        struct weir_lane_window kept = workload.shuffled[i];
        workload.shuffled[i] = workload.shuffled[other];
        workload.shuffled[other] = kept;
    }
    return workload;
}

/* 2. A ledger that only adds up. */

struct adding_ledger {
    struct weir_ledger ledger;
    struct weir_decimal amount;
    uint64_t items;
};

static enum weir_status load(struct weir_ledger *self, struct weir_state *state, struct weir_error *reterr)
{
    (void)self, (void)state, (void)reterr;
    return WEIR_OK;
}

static enum weir_status add_items(struct weir_ledger *self, const struct weir_line_item *items, size_t count,
                                  struct weir_state *state, struct weir_error *reterr)
{
    struct adding_ledger *ledger = (struct adding_ledger *)self;

    (void)state, (void)reterr;
    for (size_t i = 0; i < count; i++)
        add_up(&ledger->amount, items[i].amount);
    ledger->items += count;
    return WEIR_OK;
}

static void abandon(struct weir_ledger *self)
{
    (void)self;
}

/* 3. What is measured. */

/* *ret_items: line items that the windows made. */
static struct weir_took rate(const struct workload *workload, const struct weir_lane_window *windows,
                             uint64_t *ret_items)
{
    static const struct weir_ledger_ops ops = {.name = "adding", .load = load, .write = add_items, .abandon = abandon};
    struct adding_ledger ledger = {.ledger.ops = &ops};
    struct weir_rater *rater;
    struct weir_error error;
    struct weir_took start = weir_measure_now();

    rater = weir_rater_new(workload->catalog, &ledger.ledger);
    for (size_t at = 0; at < workload->count; at += BATCH) {
        size_t count = workload->count - at < BATCH ? workload->count - at : BATCH;
        if (weir_rater_rate(rater, windows + at, count, &error) != WEIR_OK)
            weir_measure_die("%s", error.text);
        weir_rater_forget_windows(rater);
    }
    struct weir_took took = weir_measure_since(start);
    if (weir_rater_counts(rater).windows != workload->count || ledger.items != weir_rater_counts(rater).line_items)
        weir_measure_die("windows or line items are missing");
    if (weir_decimal_compare(ledger.amount, workload->want) != 0)
        weir_measure_die("the line items do not add up to the price of the periods");
    weir_rater_free(rater);
    *ret_items = ledger.items;
    return took;
}

static bool add_charge(void *context, const struct weir_charge *charge)
{
    add_up(context, charge->amount);
    return true;
}

/* The prices alone: nothing is looked up, no line item is made. */
static struct weir_took price(const struct workload *workload)
{
    static struct weir_running_charges charges;
    struct weir_decimal sum = {0}, quantity = {0};
    struct weir_took start = weir_measure_now();

    for (size_t i = 0; i < workload->count; i++) {
        int series = (int)(i / HOURS % SERIES);
        if (i % HOURS == 0 && series != 3) { /* the fourth goes on where the third ended */
            quantity = (struct weir_decimal){0};
            charges.is_known = false;
        }
        add_up(&quantity, quantity_of(&workload->windows[i].window, series));
        if (!weir_price_advance(workload->prices[series], quantity, 0, &charges, add_charge, &sum))
            weir_measure_die("a charge does not fit");
    }
    struct weir_took took = weir_measure_since(start);
    if (weir_decimal_compare(sum, workload->want) != 0)
        weir_measure_die("the charges do not add up to the price of the periods");
    return took;
}

/* By CPU time, whoever else wants the core meanwhile: nothing here waits. */
static void add_windows(struct weir_figure *figure, double count, struct weir_took took)
{
    weir_figure_add(figure, count / took.cpu / 1e6, took.cpu / count * 1e6);
}

int main(int argc, char **argv)
{
    static uint64_t customers;
    static const struct weir_measure_program program = {
        .name = "price",
        .about = "Closed windows in memory to line items in memory: rating alone, on one core.",
        .repetitions = 7,
        .options = {{"--customers", "N", "how many, of 192 windows each (2500)", &customers, NULL}},
    };
    weir_measure_start(&program, argc, argv);
    if (customers > CUSTOMERS_MAX)
        weir_measure_die("--customers: at most %d", CUSTOMERS_MAX);
    struct workload workload = make_workload(customers                 ? (uint32_t)customers
                                             : weir_measure_is_smoke() ? SMOKE_CUSTOMERS
                                                                       : CUSTOMERS);
    struct weir_figure together = {.what = "rated, a series' windows together"},
                       apart = {.what = "rated, in any order"}, alone = {.what = "the prices alone"};
    double count = (double)workload.count;
    uint64_t items = 0;

    together.unit = apart.unit = alone.unit = "million windows/s";
    for (int i = 0; i < weir_measure_repetitions(); i++) {
        add_windows(&apart, count, rate(&workload, workload.shuffled, &items));
        add_windows(&together, count, rate(&workload, workload.windows, &items));
        add_windows(&alone, count, price(&workload));
    }
    printf("%zu windows, %llu line items\n", workload.count, (unsigned long long)items);
    weir_measure_print(&alone);
    weir_measure_print(&apart);
    weir_measure_print(&together);
    weir_measure_target(&(struct weir_target){.what = "rate closed windows, pure", .figure = &together, .at_least = 5});
    free(workload.windows);
    free(workload.shuffled);
    free(workload.keys);
    weir_catalog_free(workload.catalog);
    return weir_measure_end();
}
