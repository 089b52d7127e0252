/* The windows of one series against a plain list of them: restored in any order, some of them as long as the meter's
 * windows were in an older catalog, then events of any time, windows forgotten and made again. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/window_table_internal.h"
#include "common/calendar.h"

enum { ROUNDS = 400, RESTORED = 12, STEPS = 300, HOURS = 72, WINDOWS_MAX = 1000 };

static const int64_t base = INT64_C(20454) * WEIR_DAY; /* a midnight */

struct plain {
    int64_t start, end;
    uint64_t events;
};

struct bench {
    struct weir_catalog *catalog;
    struct weir_window_table *table;
    struct plain plain[WINDOWS_MAX];
    int count;
    uint32_t random;
    int64_t forgotten;
};

static uint32_t draw(struct bench *bench, uint32_t below)
{
    bench->random = bench->random * 1664525 + 1013904223;
    return (bench->random >> 8) % below;
}

static void load_catalog(struct bench *bench)
{
    static const char text[] =
        "{\"meters\":[{\"key\":\"m\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"}]}";
    struct weir_mistake_list mistakes;

    cr_assert_eq(weir_catalog_parse("test", text, sizeof text - 1, &bench->catalog, &mistakes), WEIR_OK);
}

static struct plain *find(struct bench *bench, int64_t start)
{
    for (int i = 0; i < bench->count; i++)
        if (bench->plain[i].start == start)
            return &bench->plain[i];
    return NULL;
}

static void restore(struct bench *bench, bool has_other_lengths)
{
    static const int64_t lengths[] = {WEIR_HOUR, WEIR_DAY, 15 * WEIR_MINUTE};
    int64_t length = lengths[has_other_lengths ? draw(bench, 3) : 0];
    int64_t start = base + (int64_t)draw(bench, HOURS) * WEIR_HOUR / length * length;
    char key[WEIR_SERIES_KEY_MAX];
    struct weir_series series = {.meter = weir_slice_text("m"), .customer = weir_slice_text("acme")};
    struct weir_window window = {.start = start, .end = start + length, .total = {.events = 1 + draw(bench, 9)}};

    start = window.start = base + (start - base) / length * length;
    window.end = start + length;
    if (find(bench, start))
        return;
    window.series_key = weir_slice_of(key, weir_series_write(&series, key));
    cr_assert_eq(weir_window_table_restore(bench->table, &window, false, weir_slice_text("")), WEIR_OK);
    bench->plain[bench->count++] = (struct plain){start, window.end, window.total.events};
}

static void send(struct bench *bench)
{
    int64_t time = base + (int64_t)draw(bench, HOURS * 60) * WEIR_MINUTE, start = time - time % WEIR_HOUR;
    struct weir_slice customer = weir_slice_text("acme");
    struct weir_reading reading = {.meter = 0};
    struct weir_window_event event = {.customer = customer, .id = 1, .time = time, .offset = 1};
    static const struct weir_hash_key secret;
    bool is_retractable;
    struct weir_window_change change;
    uint32_t prepared;
    struct plain *plain = find(bench, start);

    if (start < bench->forgotten)
        return;
    (void)weir_window_table_hash(bench->table, &reading, 1, weir_hash64(customer.data, customer.length, 0), &secret,
                                 &is_retractable);
    cr_assert_eq(weir_window_table_prepare(bench->table, WEIR_WINDOW_ADD, &reading, 1, &event, &change, &prepared),
                 WEIR_PREPARED);
    weir_window_table_apply(bench->table, WEIR_WINDOW_ADD, &reading, &change, 1);
    if (!plain) {
        plain = &bench->plain[bench->count++];
        *plain = (struct plain){start, start + WEIR_HOUR, 0};
    }
    cr_assert_eq(bench->table->windows[change.window].events, ++plain->events, "window %lld",
                 (long long)(start - base));
}

static void compare(void *context, const struct weir_cut_window *window)
{
    struct bench *bench = context;
    struct plain *plain = find(bench, window->window.start);

    cr_assert_not_null(plain);
    cr_assert_eq(window->window.end, plain->end);
    cr_assert_eq(window->window.total.events, plain->events);
}

/* What ends by a time of this second half of the span. */
static void forget(struct bench *bench)
{
    int64_t end = bench->forgotten + (int64_t)draw(bench, 8) * WEIR_HOUR;
    int kept = 0;

    bench->forgotten = end;
    (void)weir_window_table_close(bench->table, end, UINT32_MAX);
    weir_window_table_take_changed(bench->table, compare, bench);
    weir_window_table_forget(bench->table, end);
    for (int i = 0; i < bench->count; i++)
        if (bench->plain[i].end > end)
            bench->plain[kept++] = bench->plain[i];
    bench->count = kept;
    cr_assert_eq(weir_window_table_count(bench->table), (uint64_t)kept);
}

static void run(uint32_t seed, bool has_other_lengths)
{
    static struct bench bench;

    bench = (struct bench){.random = seed, .forgotten = base};
    load_catalog(&bench);
    bench.table = weir_window_table_new(bench.catalog, WINDOWS_MAX, false, NULL);
    for (uint32_t i = draw(&bench, RESTORED); i > 0; i--)
        restore(&bench, has_other_lengths);
    for (int i = 0; i < STEPS; i++)
        if (draw(&bench, 50) == 0)
            forget(&bench);
        else
            send(&bench);
    forget(&bench);
    weir_window_table_free(bench.table);
    weir_catalog_free(bench.catalog);
}

static void want_key(void *context, const struct weir_cut_window *window)
{
    cr_assert_eq(window->window.series_key.length > 0, *(bool *)context);
    cr_assert_gt(window->number, 0);
}

/* Each round tells every key once more, also the one whose number was all ones. */
Test(window_table, a_key_is_told_once_a_round)
{
    static struct bench bench;
    bool is_wanted = true, is_not_wanted = false;

    bench = (struct bench){.random = 1, .forgotten = base};
    load_catalog(&bench);
    bench.table = weir_window_table_new(bench.catalog, WINDOWS_MAX, false, NULL);
    bench.table->round = UINT16_MAX - 2;
    for (int round = 0; round < 5; round++) {
        weir_window_table_begin_round(bench.table);
        cr_assert_gt(bench.table->round, 0);
        for (int i = 0; i < 100 * HOURS; i++)
            send(&bench);
        weir_window_table_take_changed(bench.table, want_key, &is_wanted);
        cr_assert_eq(weir_window_table_take_unchanged(bench.table, 1, SIZE_MAX / 32, want_key, &is_not_wanted), 0);
        for (int i = 0; i < 100 * HOURS; i++)
            send(&bench);
        weir_window_table_take_changed(bench.table, want_key, &is_not_wanted);
    }
    weir_window_table_free(bench.table);
    weir_catalog_free(bench.catalog);
}

Test(window_table, windows_of_a_series_are_found_by_their_start)
{
    for (uint32_t seed = 1; seed <= ROUNDS; seed++)
        run(seed, false);
}

Test(window_table, windows_of_another_length_are_found_too)
{
    for (uint32_t seed = 1; seed <= ROUNDS; seed++)
        run(seed, true);
}
