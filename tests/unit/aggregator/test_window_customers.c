/* Series of many customers and meters against plain counters: found by the place that was noted for them, by a place
 * that is another's by now, or by looking; with numbers of customers that have met, have gone and are used up. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/window_table_internal.h"
#include "common/calendar.h"

enum { ROUNDS = 300, EVENTS = 120, CUSTOMERS = 7, METERS = 4, GROUPS = 3, PLACES = 32 };

static const int64_t base = INT64_C(20454) * WEIR_DAY; /* a midnight */
static const char *const customers[CUSTOMERS] = {"a",         "b",         "customer-1",           "customer-2",
                                                 "ab-0000-x", "ab-0000-y", "a longer name than 16"};
static const char *const groups[GROUPS] = {"", "large", "small"};
static const char catalog_text[] =
    "{\"meters\":["
    "{\"key\":\"a\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.v\",\"window\":\"1h\","
    "\"group_by\":[\"g\"]},"
    "{\"key\":\"b\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"},"
    "{\"key\":\"c\",\"event_type\":\"t\",\"aggregation\":\"max\",\"value\":\"data.v\",\"window\":\"1h\"},"
    "{\"key\":\"d\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\",\"group_by\":[\"g\"]}]}";

struct bench {
    struct weir_window_table *table;
    uint32_t random;
    uint32_t places[PLACES]; /* where series stood */
    uint64_t events[CUSTOMERS][METERS][GROUPS];
};

static uint32_t draw(struct bench *bench, uint32_t below)
{
    bench->random = bench->random * 1664525 + 1013904223;
    return (bench->random >> 8) % below;
}

static void send(struct bench *bench, uint32_t hour)
{
    uint32_t customer = draw(bench, CUSTOMERS), group[METERS], count = 0, prepared;
    struct weir_slice name = weir_slice_text(customers[customer]);
    struct weir_reading readings[METERS];
    static const struct weir_hash_key secret;
    bool is_retractable;
    struct weir_window_change changes[METERS];
    struct weir_window_event event = {
        .customer = name, .id = 1, .time = base + hour * WEIR_HOUR + (int64_t)draw(bench, 3600) * WEIR_SECOND};

    for (uint32_t meter = 0; meter < METERS; meter++) {
        if (draw(bench, 4) == 0)
            continue;
        group[count] = meter == 0 || meter == 3 ? draw(bench, GROUPS) : 0;
        readings[count] = (struct weir_reading){.meter = meter, .value = weir_decimal_of(1)};
        readings[count].dimensions[0] = weir_slice_text(groups[group[count]]);
        count++;
    }
    (void)weir_window_table_hash(bench->table, readings, count, weir_hash64(name.data, name.length, 0), &secret,
                                 &is_retractable);
    struct weir_window_coming coming = {bench->table, readings, count, false};
    for (int stage = 0; stage <= 3 && count > 0; stage++)
        weir_window_table_prefetch(&coming, 1, stage);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t *place = &bench->places[draw(bench, PLACES)];
        if (readings[i].place != NONE)
            *place = readings[i].place;
        if (draw(bench, 3) == 0) /* anybody's */
            readings[i].place = bench->places[draw(bench, PLACES)];
    }
    cr_assert_eq(weir_window_table_prepare(bench->table, WEIR_WINDOW_ADD, readings, count, &event, changes, &prepared),
                 WEIR_PREPARED);
    cr_assert_eq(prepared, count);
    weir_window_table_apply(bench->table, WEIR_WINDOW_ADD, readings, changes, count);
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(bench->table->windows[changes[i].window].events,
                     ++bench->events[customer][readings[i].meter][group[i]], "customer %s, meter %u",
                     customers[customer], readings[i].meter);
}

/* Each window that is taken is one of the counters, and all of them are. */
static void compare(void *context, const struct weir_cut_window *window)
{
    struct bench *bench = context;
    struct weir_series series;
    uint32_t customer = 0, group = 0;

    cr_assert(weir_series_parse(window->window.series_key, &series));
    while (!weir_slice_equal(series.customer, weir_slice_text(customers[customer])))
        customer++;
    while (series.dimension_count && !weir_slice_equal(series.dimensions[0].text, weir_slice_text(groups[group])))
        group++;
    uint64_t *events = &bench->events[customer][series.meter.data[0] - 'a'][group];
    cr_assert_eq(window->window.total.events, *events);
    *events = 0;
}

static void ignore(void *context, const struct weir_cut_window *window)
{
    (void)context, (void)window;
}

static void run(uint32_t first_number)
{
    static const uint64_t none[CUSTOMERS][METERS][GROUPS];
    struct weir_catalog *catalog;
    struct weir_mistake_list mistakes;
    struct bench bench = {.random = first_number + 1};

    cr_assert_eq(weir_catalog_parse("test", catalog_text, sizeof catalog_text - 1, &catalog, &mistakes), WEIR_OK);
    bench.table = weir_window_table_new(catalog, 100000, false, NULL);
    bench.table->customers = first_number;
    for (uint32_t hour = 0; hour < ROUNDS; hour++) {
        uint32_t events = 1 + draw(&bench, EVENTS);
        int64_t end = base + (hour + 1) * WEIR_HOUR;
        for (uint32_t i = 0; i < events; i++)
            send(&bench, hour);
        weir_window_table_take_changed(bench.table, compare, &bench);
        cr_assert_arr_eq(bench.events, none, sizeof none);
        (void)weir_window_table_close(bench.table, end, UINT32_MAX);
        weir_window_table_take_changed(bench.table, ignore, NULL);
        if (draw(&bench, 3) == 0) /* and with them most series */
            weir_window_table_forget(bench.table, end);
    }
    weir_window_table_free(bench.table);
    weir_catalog_free(catalog);
}

Test(window_customers, are_never_taken_for_one_another)
{
    run(0);
}

Test(window_customers, numbers_that_are_used_up)
{
    run(NO_NUMBER - 2);
}
