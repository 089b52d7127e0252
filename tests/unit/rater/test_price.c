/* Prices: what peers publish, the properties that billing by differences rests on, and the edges of the range. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rater/price.h"

static struct weir_decimal decimal(const char *text)
{
    struct weir_decimal value;
    cr_assert_eq(weir_decimal_parse(weir_slice_text(text), &value), WEIR_DECIMAL_OK, "%s", text);
    return value;
}

/* A catalog with this one price in it; its meter gets what the model needs. */
static struct weir_catalog *catalog_with(const char *price)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    char *json = NULL;

    cr_assert(
        asprintf(&json,
                 "{\"meters\":[{\"key\":\"usage\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.v\","
                 "\"window\":\"1h\"}],\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"USD\","
                 "\"effective_from\":\"2026-01-01T00:00:00Z\",\"prices\":[%s]}]}",
                 price)
        > 0);
    enum weir_status status = weir_catalog_parse("test", json, strlen(json), &catalog, &mistakes);
    cr_assert_eq(status, WEIR_OK, "%s: %s", json, mistakes.count ? mistakes.mistakes[0].text : "");
    free(json);
    return catalog;
}

static const struct weir_price *only_price(const struct weir_catalog *catalog)
{
    return &catalog->books[0].versions[0].prices[0];
}

static void expect(const struct weir_price *price, const char *quantity, uint64_t events, const char *amount,
                   const char *what)
{
    struct weir_decimal found = {0};
    char text[WEIR_DECIMAL_TEXT_MAX];

    cr_assert(weir_price_total(price, decimal(quantity), events, &found), "%s", what);
    weir_decimal_format_short(found, text);
    cr_expect_eq(weir_decimal_compare(found, decimal(amount)), 0, "%s: price(%s, %llu) is %s, not %s", what, quantity,
                 (unsigned long long)events, text, amount);
}

Test(price, peers)
{
    json_error_t error;
    json_t *root = json_load_file(WEIR_SOURCE_DIR "/tests/data/peer_examples.json", 0, &error);
    json_t *examples = json_object_get(root, "examples"), *example;
    size_t i;

    cr_assert(json_array_size(examples) > 20, "%s", error.text);
    json_array_foreach(examples, i, example)
    {
        char *json = json_dumps(json_object_get(example, "price"), 0);
        struct weir_catalog *catalog = catalog_with(json);
        struct weir_price scaled;
        struct weir_tier tiers[WEIR_TIERS_MAX];
        cr_assert(weir_price_override(
            only_price(catalog), decimal(json_string_value(json_object_get(example, "multiplier"))), tiers, &scaled));
        expect(&scaled, json_string_value(json_object_get(example, "quantity")),
               (uint64_t)json_integer_value(json_object_get(example, "events")),
               json_string_value(json_object_get(example, "amount")),
               json_string_value(json_object_get(example, "name")));
        weir_catalog_free(catalog);
        free(json);
    }
    json_decref(root);
}

static const char *const models[] = {
    "{\"meter\":\"usage\",\"model\":\"per_unit\",\"unit_price\":\"0.0000025\"}",
    "{\"meter\":\"usage\",\"model\":\"per_unit\",\"unit_price\":\"0.3\",\"free_units\":\"10.5\"}",
    "{\"meter\":\"usage\",\"model\":\"graduated\",\"tiers\":[{\"up_to\":\"10\",\"unit_price\":\"1\",\"flat_fee\":\"2\"}"
    ","
    "{\"up_to\":\"20.5\",\"unit_price\":\"0.333333333333\"},{\"up_to\":null,\"unit_price\":\"0.1\",\"flat_fee\":\"5\"}]"
    "}",
    "{\"meter\":\"usage\",\"model\":\"graduated\",\"tiers\":[{\"up_to\":\"10\",\"unit_price\":\"1\",\"flat_fee\":\"2\","
    "\"flat_fee_at_zero\":true},{\"up_to\":null,\"unit_price\":\"0.1\"}],\"maximum_amount\":\"14\"}",
    "{\"meter\":\"usage\",\"model\":\"volume\",\"tiers\":[{\"up_to\":\"10\",\"unit_price\":\"1\"},"
    "{\"up_to\":\"20\",\"unit_price\":\"0.5\",\"flat_fee\":\"1\"},{\"up_to\":null,\"unit_price\":\"0.1\"}],\"free_"
    "units\":\"3\"}",
    "{\"meter\":\"usage\",\"model\":\"package\",\"package_size\":\"3.5\",\"package_price\":\"0.07\",\"minimum_amount\":"
    "\"1\"}",
    "{\"meter\":\"usage\",\"model\":\"percentage\",\"rate\":\"0.029\",\"fixed_fee\":\"0.3\",\"minimum_amount\":\"2\"}",
    "{\"meter\":\"usage\",\"model\":\"flat\",\"amount\":\"9.99\",\"free_units\":\"5\"}",
    "{\"meter\":\"usage\",\"model\":\"package\",\"package_size\":\"3.5\",\"package_price\":\"0.07\"}",
    "{\"meter\":\"usage\",\"model\":\"percentage\",\"rate\":\"0.029\",\"fixed_fee\":\"0.3\"}",
    "{\"meter\":\"usage\",\"model\":\"flat\",\"amount\":\"9.99\"}",
    "{\"meter\":\"usage\",\"model\":\"per_unit\",\"unit_price\":\"0.3\",\"minimum_amount\":\"4\"}",
};
enum { MODEL_COUNT = sizeof models / sizeof *models };

struct sums {
    struct weir_decimal quantity, amount;
};

static bool add_to_sums(void *context, const struct weir_charge *charge)
{
    struct sums *sums = context;
    return weir_decimal_add(sums->quantity, charge->quantity, &sums->quantity)
           && weir_decimal_add(sums->amount, charge->amount, &sums->amount);
}

struct told {
    uint32_t count;
    struct weir_charge charges[2 * WEIR_CHARGES_MAX];
};

static bool tell(void *context, const struct weir_charge *charge)
{
    struct told *told = context;
    told->charges[told->count++] = *charge;
    return true;
}

/* From one total to another is the difference of what the two cost, each worked out by itself. */
static void expect_difference(const struct told *told, const struct weir_price *price,
                              const struct weir_charge_list *before, const struct weir_charge_list *after)
{
    struct told want = {0};

    cr_assert(weir_charges_difference(before, after, tell, &want));
    cr_assert_eq(told->count, want.count, "model %d: %u differences, not %u", price->model, told->count, want.count);
    for (uint32_t i = 0; i < want.count; i++) {
        const struct weir_charge *a = &told->charges[i], *b = &want.charges[i];
        cr_assert(a->component == b->component && a->tier == b->tier && a->has_unit_price == b->has_unit_price);
        cr_assert(weir_decimal_equal(a->quantity, b->quantity) && weir_decimal_equal(a->amount, b->amount));
        cr_assert(weir_decimal_equal(a->unit_price, b->unit_price));
    }
}

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13, *random ^= *random >> 7, *random ^= *random << 17;
    return *random;
}

/* By millionths, anywhere; or by halves, so that totals come to stand on tiers' ends; mostly upwards, at times below
 * zero, and not at all. */
static struct weir_decimal next_change(uint64_t *random, bool is_by_halves)
{
    if (is_by_halves)
        return (struct weir_decimal){((weir_int128)(next_random(random) % 14) - 5) * WEIR_DECIMAL_ONE / 2};
    return (struct weir_decimal){(weir_int128)(next_random(random) % 20000000) * 1000000 - 6 * WEIR_DECIMAL_ONE};
}

static void advance_at_random(const struct weir_price *price, uint64_t *random, bool is_by_halves)
{
    struct weir_running_charges running = {0};
    struct weir_charge_list lists[2];
    struct sums sums = {{0}, {0}};
    struct weir_decimal quantity = {0}, total;
    uint64_t events = 0;

    for (int step = 0; step < 24; step++) {
        struct told told = {0};
        cr_assert(weir_decimal_add(quantity, next_change(random, is_by_halves), &quantity));
        events += next_random(random) % 3;
        cr_assert(weir_price_advance(price, quantity, events, &running, tell, &told));
        cr_assert(weir_price_charges(price, quantity, events, &lists[step % 2]));
        expect_difference(&told, price, step ? &lists[!(step % 2)] : NULL, &lists[step % 2]);
        for (uint32_t i = 0; i < told.count; i++)
            cr_assert(add_to_sums(&sums, &told.charges[i]));
    }
    cr_assert(weir_price_total(price, quantity, events, &total));
    cr_assert(weir_decimal_equal(sums.amount, total) && weir_decimal_equal(sums.quantity, quantity));
}

/* Whatever the order of changes, the differences add up to price(end) and to the end's quantity. */
Test(price, differences_add_up)
{
    uint64_t random = 88172645463325252u;

    for (int m = 0; m < MODEL_COUNT; m++) {
        struct weir_catalog *catalog = catalog_with(models[m]);
        for (int run = 0; run < 200; run++)
            advance_at_random(only_price(catalog), &random, run % 2);
        weir_catalog_free(catalog);
    }
}

Test(price, nothing_used_costs_nothing)
{
    for (int m = 0; m < MODEL_COUNT; m++) {
        struct weir_catalog *catalog = catalog_with(models[m]);
        const struct weir_price *price = only_price(catalog);
        expect(price, "0", 0, price->flat_fee_at_zero ? "2" : "0", models[m]);
        expect(price, "-7.25", 0, price->flat_fee_at_zero ? "2" : "0", models[m]);
        weir_catalog_free(catalog);
    }
}

Test(price, edges)
{
    static const struct {
        int model;
        const char *quantity, *amount;
    } cases[] = {
        {2, "10", "12"},
        {2, "10.000000000001", "12"},
        {2, "20.5", "15.499999999996"},
        {2, "20.500000000001", "20.499999999996"},
        /* 10.5 x 0.333333333333 = 3.4999999999965, to even */ {3, "30", "14"},
        {4, "13", "10"},
        {4, "13.000000000001", "6"}, /* 10.000000000001 x 0.5 = 5.0000000000005, to even */
        {5, "0.000000000001", "1"},
        {5, "52.5", "1.05"},
        {5, "52.500000000001", "1.12"},
        {6, "1", "2"},
        {7, "5", "0"},
        {7, "5.000000000001", "9.99"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct weir_catalog *catalog = catalog_with(models[cases[i].model]);
        expect(only_price(catalog), cases[i].quantity, 0, cases[i].amount, models[cases[i].model]);
        weir_catalog_free(catalog);
    }
}

/* Percentages and amounts, in their order, before the limits; never below zero. */
Test(price, discounts_come_before_limits)
{
    static const struct weir_discount tenth = {.type = WEIR_DISCOUNT_PERCENTAGE, .rate = {100000000000}};
    static const struct weir_discount third = {.type = WEIR_DISCOUNT_PERCENTAGE, .rate = {333333333333}};
    static const struct weir_discount five = {.type = WEIR_DISCOUNT_AMOUNT, .amount = {5000000000000}};
    static const struct {
        struct weir_discount_list discounts;
        const char *limits, *quantity, *amount;
    } cases[] = {
        {{1, {&tenth}}, "", "100", "90"},
        {{1, {&five}}, "", "100", "95"},
        {{1, {&five}}, "", "3", "0"},
        {{1, {&five}}, "", "0", "0"},
        {{1, {&five}}, "", "-3", "0"},
        {{2, {&tenth, &five}}, "", "100", "85"},
        {{2, {&five, &tenth}}, "", "100", "85.5"},
        {{2, {&five, &tenth}}, "", "4", "0"},
        {{1, {&third}}, "", "0.000000000005", "0.000000000003"},
        {{1, {&tenth}}, ",\"minimum_amount\":\"95\"", "100", "95"},
        {{1, {&tenth}}, ",\"maximum_amount\":\"95\"", "100", "90"},
        {{1, {&tenth}}, ",\"maximum_amount\":\"95\"", "110", "95"},
        {{1, {&five}}, ",\"minimum_amount\":\"2\"", "1", "2"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[160];
        snprintf(json, sizeof json, "{\"meter\":\"usage\",\"model\":\"per_unit\",\"unit_price\":\"1\"%s}",
                 cases[i].limits);
        struct weir_catalog *catalog = catalog_with(json);
        struct weir_price price = *only_price(catalog);
        price.discounts = &cases[i].discounts;
        expect(&price, cases[i].quantity, 0, cases[i].amount, json);
        weir_catalog_free(catalog);
    }
}

/* Line items are differences with discounts too. */
Test(price, discounted_differences_add_up)
{
    static const struct weir_discount rate = {.type = WEIR_DISCOUNT_PERCENTAGE, .rate = {123456789012}};
    static const struct weir_discount amount = {.type = WEIR_DISCOUNT_AMOUNT, .amount = {3000000000001}};
    static const struct weir_discount_list lists[] = {{2, {&rate, &amount}}, {2, {&amount, &rate}}};

    for (int m = 0; m < 2 * MODEL_COUNT; m++) {
        struct weir_catalog *catalog = catalog_with(models[m / 2]);
        struct weir_price price = *only_price(catalog);
        struct weir_running_charges running = {0};
        struct sums sums = {{0}, {0}};
        price.discounts = &lists[m % 2];
        for (int step = 0; step < 30; step++) {
            struct weir_decimal quantity = {(weir_int128)((step * 7919) % 41 - 3) * 777777777777}, total;
            cr_assert(weir_price_advance(&price, quantity, (uint64_t)step % 5, &running, add_to_sums, &sums));
            cr_assert(weir_price_total(&price, quantity, (uint64_t)step % 5, &total));
            cr_assert(sums.amount.e12 == total.e12 && total.e12 >= 0 && sums.quantity.e12 == quantity.e12, "%d", m);
        }
        weir_catalog_free(catalog);
    }
}

Test(price, overflow_is_an_answer)
{
    struct weir_catalog *catalog = catalog_with("{\"meter\":\"usage\",\"model\":\"per_unit\",\"unit_price\":\"1000\"}");
    struct weir_decimal amount;

    cr_assert(!weir_price_total(only_price(catalog), weir_decimal_max(), 1, &amount));
    weir_catalog_free(catalog);
}
