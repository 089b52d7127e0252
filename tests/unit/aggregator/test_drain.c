/* The end of bounded input: every window is handed out once, customer by customer; and which of them found a price,
 * asked of a catalog whose answers change with time, each series' at times of its own. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/window_table.h"
#include "common/calendar.h"

enum { ROUNDS = 32, EVENTS = 1200, CUSTOMERS = 90, METERS = 3, HOURS = 40, CHANGES = 3 };

static const int64_t base = INT64_C(20454) * WEIR_DAY; /* a midnight */

struct bench {
    struct weir_catalog *catalog;
    struct weir_window_table *table;
    uint32_t random, customers, changes;
    int64_t changes_at[CUSTOMERS][CHANGES]; /* when a customer begins or ends to have prices */
    uint64_t events[CUSTOMERS][METERS][HOURS];
    uint64_t windows, asked;
};

static uint32_t draw(struct bench *bench, uint32_t below)
{
    bench->random = bench->random * 1664525 + 1013904223;
    return (bench->random >> 8) % below;
}

static struct weir_slice customer_name(uint32_t customer, char name[32])
{
    return weir_slice_of(name, (size_t)snprintf(name, 32, "c%u", customer * 7919 % 1000));
}

static uint32_t customer_of(struct weir_slice name)
{
    char own[32];

    for (uint32_t i = 0; i < CUSTOMERS; i++)
        if (weir_slice_equal(customer_name(i, own), name))
            return i;
    cr_assert(false, "a customer that is none");
    return 0;
}

/* Unpriced before the first change, priced after it, unpriced after the next. */
static bool is_unpriced_at(const struct bench *bench, uint32_t customer, int64_t start, int64_t *from, int64_t *to)
{
    uint32_t passed = 0;

    *from = INT64_MIN;
    *to = WEIR_TIME_NEVER;
    for (uint32_t i = 0; i < bench->changes; i++) {
        int64_t at = bench->changes_at[customer][i];
        passed += at <= start;
        if (at <= start && at > *from)
            *from = at;
        if (at > start && at < *to)
            *to = at;
    }
    return passed % 2 == 0 && bench->changes > 0;
}

static bool is_unpriced(void *context, struct weir_slice series_key, int64_t start, int64_t *ret_from, int64_t *ret_to)
{
    struct bench *bench = context;
    struct weir_series series;

    bench->asked++;
    cr_assert(weir_series_parse(series_key, &series));
    return is_unpriced_at(bench, customer_of(series.customer), start, ret_from, ret_to);
}

/* An event that one, some or all meters count: those series have their customer's number in common. */
static void send(struct bench *bench)
{
    uint32_t customer = draw(bench, bench->customers), meter = draw(bench, METERS), hour = draw(bench, HOURS);
    uint32_t count = 1 + draw(bench, METERS), prepared;
    char name[32];
    struct weir_slice slice = customer_name(customer, name);
    struct weir_reading readings[METERS] = {{0}};
    struct weir_window_event event = {
        .customer = slice, .id = 1, .time = base + hour * WEIR_HOUR + (int64_t)draw(bench, 3600) * WEIR_SECOND};
    static const struct weir_hash_key secret;
    bool is_retractable;
    struct weir_window_change changes[METERS];
    int64_t from, to;

    for (uint32_t i = 0; i < count; i++)
        readings[i].meter = (meter + i) % METERS;
    (void)weir_window_table_hash(bench->table, readings, count, weir_hash64(slice.data, slice.length, 0), &secret,
                                 &is_retractable);
    cr_assert_eq(weir_window_table_prepare(bench->table, WEIR_WINDOW_ADD, readings, count, &event, changes, &prepared),
                 WEIR_PREPARED);
    weir_window_table_apply(bench->table, WEIR_WINDOW_ADD, readings, changes, count);
    cr_assert_eq(event.is_unpriced, is_unpriced_at(bench, customer, base + hour * WEIR_HOUR, &from, &to));
    for (uint32_t i = 0; i < count; i++)
        bench->windows += bench->events[customer][readings[i].meter][hour]++ == 0;
}

static void check_window(struct bench *bench, const struct weir_window *window, struct weir_series *ret_series)
{
    cr_assert(weir_series_parse(window->series_key, ret_series));
    uint32_t customer = customer_of(ret_series->customer), meter = (uint32_t)(ret_series->meter.data[1] - '0');
    int64_t hour = (window->start - base) / WEIR_HOUR;
    cr_assert_eq(window->end, window->start + WEIR_HOUR);
    cr_assert_gt(window->total.events, 0);
    cr_assert_eq(window->total.events, bench->events[customer][meter][hour], "wrong, or handed out twice");
    bench->events[customer][meter][hour] = 0;
}

static void drain(struct bench *bench)
{
    static struct weir_window windows[64];
    struct weir_series last = {0}, series;
    struct weir_slice last_key = {0};
    bool is_whole = true;
    size_t count, max = 1 + draw(bench, 64);
    uint64_t found = 0, changes = 0, series_count = 0;

    while ((count = weir_window_table_drain(bench->table, max, windows, &is_whole)) > 0) {
        for (size_t i = 0; i < count; i++, found++) {
            check_window(bench, &windows[i], &series);
            int order = weir_slice_compare(last.customer, series.customer);
            cr_assert_leq(order, 0, "a customer comes back");
            cr_assert(order < 0 || weir_slice_compare(last.meter, series.meter) <= 0, "a meter comes back");
            changes += order < 0;
            series_count += !weir_slice_equal(last_key, windows[i].series_key);
            last = series;
            last_key = windows[i].series_key;
        }
        bool has_more = false;
        for (int m = 0; m < METERS; m++)
            for (int h = 0; h < HOURS; h++)
                has_more = has_more || bench->events[customer_of(last.customer)][m][h] > 0;
        cr_assert_eq(is_whole, !has_more);
        cr_assert(count == max || is_whole);
    }
    cr_assert_eq(found, bench->windows);
    cr_assert_leq(series_count, changes * METERS, "a series' windows stand apart");
}

Test(drain, hands_every_window_out_once_customer_by_customer)
{
    static const char text[] =
        "{\"meters\":[{\"key\":\"m0\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"},"
        "{\"key\":\"m1\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"},"
        "{\"key\":\"m2\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"}]}";
    static struct bench bench;
    struct weir_mistake_list mistakes;
    uint64_t asked = 0, windows = 0;

    for (uint32_t round = 0; round < ROUNDS; round++) {
        bench = (struct bench){.random = round, .customers = 1 + round * CUSTOMERS / ROUNDS, .changes = round % 4};
        for (uint32_t c = 0; c < CUSTOMERS; c++)
            for (uint32_t i = 0; i < bench.changes; i++)
                bench.changes_at[c][i] = base + (int64_t)draw(&bench, HOURS) * WEIR_HOUR;
        const struct weir_unpriced_check check = {.context = &bench, .is_unpriced = is_unpriced};
        cr_assert_eq(weir_catalog_parse("test", text, sizeof text - 1, &bench.catalog, &mistakes), WEIR_OK);
        bench.table = weir_window_table_new(bench.catalog, UINT32_MAX - 1, true, &check);
        uint32_t events = 1 + draw(&bench, EVENTS);
        for (uint32_t i = 0; i < events; i++)
            send(&bench);
        if (bench.changes == 0) {
            asked += bench.asked;
            windows += bench.windows;
        }
        drain(&bench);
        weir_window_table_free(bench.table);
        weir_catalog_free(bench.catalog);
    }
    cr_assert_lt(asked, windows / 4, "where the answer is always the same, it is asked for once a series");
}

static void send_model(struct weir_window_table *table, const char *const *models, uint32_t count)
{
    struct weir_slice customer = weir_slice_text("acme");
    struct weir_window_event event = {.customer = customer, .id = 1, .time = base};
    struct weir_reading readings[2] = {{0}};
    static const struct weir_hash_key secret;
    struct weir_window_change changes[2];
    bool is_retractable;
    uint32_t prepared;

    for (uint32_t i = 0; i < count; i++)
        readings[i].dimensions[0] = weir_slice_text(models[i]);
    (void)weir_window_table_hash(table, readings, count, weir_hash64(customer.data, customer.length, 0), &secret,
                                 &is_retractable);
    cr_assert_eq(weir_window_table_prepare(table, WEIR_WINDOW_ADD, readings, count, &event, changes, &prepared),
                 WEIR_PREPARED);
    weir_window_table_apply(table, WEIR_WINDOW_ADD, readings, changes, count);
}

/* The first and the last come with one event, so that they are known to be one customer's; the other one is not. */
Test(drain, series_of_a_meter_come_in_the_order_in_which_they_were_made)
{
    static const char text[] = "{\"meters\":[{\"key\":\"m\",\"event_type\":\"t\",\"aggregation\":\"count\","
                               "\"window\":\"1h\",\"group_by\":[\"model\"]}]}";
    static const char *const models[] = {"c", "a", "b"};
    struct weir_catalog *catalog;
    struct weir_mistake_list mistakes;
    struct weir_window windows[4];
    struct weir_series series;
    bool is_whole;

    cr_assert_eq(weir_catalog_parse("test", text, sizeof text - 1, &catalog, &mistakes), WEIR_OK);
    struct weir_window_table *table = weir_window_table_new(catalog, UINT32_MAX - 1, true, NULL);
    send_model(table, models, 1);
    send_model(table, models + 1, 1);
    send_model(table, (const char *const[]){models[0], models[2]}, 2);
    cr_assert_eq(weir_window_table_drain(table, 4, windows, &is_whole), 3);
    for (size_t i = 0; i < 3; i++) {
        cr_assert(weir_series_parse(windows[i].series_key, &series));
        cr_assert(weir_slice_equal(series.dimensions[0].text, weir_slice_text(models[i])), "window %zu", i);
    }
    cr_assert(is_whole);
    weir_window_table_free(table);
    weir_catalog_free(catalog);
}
