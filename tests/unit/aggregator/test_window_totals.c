/* Every aggregation in every length of window: what a lane stores against a straight model of the same events, in
 * disorder, with repeats, negative values, equal times, and the lane taken again from its cuts in between. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "aggregator/lane.h"
#include "common/calendar.h"
#include "common/model/tally.h"

enum { AGGREGATIONS = 7, LENGTHS = 6, METERS = AGGREGATIONS * LENGTHS, IDS = 1500, EVENTS = 2500, DISTINCT = 9 };

static const char *const aggregations[AGGREGATIONS] = {"count", "sum", "min", "max", "latest", "avg", "unique"};
static const struct {
    const char *name;
    int64_t seconds; /* 0: a calendar month */
} lengths[LENGTHS] = {{"1m", 60}, {"5m", 300}, {"15m", 900}, {"1h", 3600}, {"1d", 86400}, {"1mo", 0}};

/* 2024-02-28T12:00:00Z: two days and some more behind it reach over a leap day into another month. */
static const int64_t base = INT64_C(1709121600) * WEIR_SECOND;
enum { SPAN_SECONDS = 4 * 86400 };

struct event {
    int id, value, distinct;
    int64_t time, offset; /* of the first of its id */
};

/* 1. the model */
struct expected {
    uint64_t events;
    int64_t value; /* of the whole numbers that the events hold */
    int64_t latest_time, latest_offset;
};

static int64_t window_start(int length, int64_t time)
{
    time_t seconds = time / WEIR_SECOND;
    struct tm broken;

    if (lengths[length].seconds)
        return (int64_t)(seconds - seconds % lengths[length].seconds) * WEIR_SECOND;
    gmtime_r(&seconds, &broken);
    broken.tm_mday = 1;
    broken.tm_hour = broken.tm_min = broken.tm_sec = 0;
    return (int64_t)timegm(&broken) * WEIR_SECOND;
}

static bool is_later(const struct event *event, const struct expected *expected)
{
    return event->time > expected->latest_time
           || (event->time == expected->latest_time && event->offset > expected->latest_offset);
}

/* The window of one meter that begins at start, of the events that counted. */
static struct expected work_out(const struct event *events, int aggregation, int length, int64_t start)
{
    struct expected expected = {.latest_time = -1, .latest_offset = -1};
    bool has_text[DISTINCT] = {false};

    for (int i = 0; i < IDS; i++) {
        const struct event *event = &events[i];
        if (event->offset < 0 || window_start(length, event->time) != start)
            continue;
        bool is_first = expected.events++ == 0;
        switch (aggregation) {
        case 1:
        case 5:
            expected.value += event->value;
            break;
        case 2:
            expected.value = is_first || event->value < expected.value ? event->value : expected.value;
            break;
        case 3:
            expected.value = is_first || event->value > expected.value ? event->value : expected.value;
            break;
        case 4:
            if (is_later(event, &expected)) {
                expected.value = event->value;
                expected.latest_time = event->time;
                expected.latest_offset = event->offset;
            }
            break;
        case 6:
            expected.value += !has_text[event->distinct];
            has_text[event->distinct] = true;
            break;
        default:
            break;
        }
    }
    if (aggregation != 4)
        expected.latest_time = expected.latest_offset = 0;
    return expected;
}

/* 2. the lane */
static struct weir_catalog *load_catalog(void)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);

    for (int i = 0; i < METERS; i++)
        fprintf(file, "%s{\"key\":\"%s-%s\",\"event_type\":\"t\",\"aggregation\":\"%s\",\"window\":\"%s\"%s}",
                i ? "," : "{\"meters\":[", aggregations[i / LENGTHS], lengths[i % LENGTHS].name,
                aggregations[i / LENGTHS], lengths[i % LENGTHS].name, i / LENGTHS == 0 ? "" : ",\"value\":\"data.v\"");
    fputs("]}", file);
    fclose(file);
    cr_assert_eq(weir_catalog_parse("test", text, size, &catalog, &mistakes), WEIR_OK, "%s: %s",
                 mistakes.count ? mistakes.mistakes[0].path : "", mistakes.count ? mistakes.mistakes[0].text : "");
    free(text);
    return catalog;
}

static struct weir_lane *take(const struct weir_catalog *catalog, struct weir_window_store *store)
{
    static const struct weir_lane_settings settings = {.disorder = 7 * WEIR_DAY,
                                                       .lateness = 30 * WEIR_DAY,
                                                       .retention = 30 * WEIR_DAY,
                                                       .max_future = WEIR_DAY,
                                                       .windows_max = 1000000,
                                                       .ids_max = 100000};
    static const unsigned char secret[WEIR_LANE_SECRET_BYTES] = "a secret of thirty-two bytes...";
    struct weir_lane *lane = weir_lane_new(catalog, weir_slice_text("events:0"), &settings);
    struct weir_lane_loader loader = weir_lane_loader(lane);
    struct weir_lane_state state;
    struct weir_error error;

    cr_assert_eq(store->ops->take_lane(store, weir_slice_text("events:0"), secret, &loader, &state, &error), WEIR_OK);
    cr_assert_eq(weir_lane_start(lane, &state, &error), WEIR_OK);
    return lane;
}

static enum weir_outcome send(struct weir_lane *lane, const struct event *event, int64_t offset)
{
    struct weir_reading readings[METERS] = {0};
    struct weir_lane_hashes hashes;
    struct weir_rejection rejection;
    char id[16], text[16];
    struct weir_event bytes = {.time = event->time,
                               .source = weir_slice_text("src"),
                               .type = weir_slice_text("t"),
                               .subject = weir_slice_text("acme")};

    snprintf(id, sizeof id, "id%d", event->id);
    snprintf(text, sizeof text, "u%d", event->distinct);
    bytes.id = weir_slice_text(id);
    for (uint32_t i = 0; i < METERS; i++) {
        readings[i].meter = i;
        readings[i].value = weir_decimal_of(event->value);
        readings[i].unique_text = weir_slice_text(i / LENGTHS == 6 ? text : "");
    }
    weir_lane_hash(lane, &bytes, readings, METERS, &hashes);
    return weir_lane_take(lane, &bytes, readings, METERS, &hashes, offset, &rejection);
}

static void flush(struct weir_lane *lane, struct weir_window_store *store, struct weir_sealed_cut *sealed)
{
    struct weir_error error;

    weir_lane_seal(lane, sealed);
    cr_assert_eq(store->ops->write_cut(store, &sealed->cut, &error), WEIR_OK, "%s", error.text);
}

/* 3. both */
struct comparison {
    const struct event *events;
    uint64_t windows[METERS], counted[METERS];
};

static void compare(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    struct comparison *comparison = context;
    struct weir_series series;
    char name[16];
    int meter = 0;

    (void)is_closed, (void)has_work;
    if (weir_series_is_tally(window->series_key))
        return;
    cr_assert(weir_series_parse(window->series_key, &series));
    for (; meter < METERS; meter++) {
        snprintf(name, sizeof name, "%s-%s", aggregations[meter / LENGTHS], lengths[meter % LENGTHS].name);
        if (strlen(name) == series.meter.length && memcmp(name, series.meter.data, series.meter.length) == 0)
            break;
    }
    cr_assert_lt(meter, METERS);
    struct expected expected = work_out(comparison->events, meter / LENGTHS, meter % LENGTHS, window->start);
    cr_assert_gt(window->end, window->start);
    cr_assert_eq(window_start(meter % LENGTHS, window->end - 1), window->start, "%s ends in another window", name);
    cr_assert_eq(window_start(meter % LENGTHS, window->end), window->end, "%s ends within a window", name);
    cr_assert_eq(window->total.events, expected.events, "%s: %llu events, not %llu", name,
                 (unsigned long long)window->total.events, (unsigned long long)expected.events);
    cr_assert_eq(weir_decimal_compare(window->total.value, weir_decimal_of(expected.value)), 0, "%s at %lld", name,
                 (long long)window->start);
    cr_assert_eq(window->total.latest_time, expected.latest_time, "%s", name);
    cr_assert_eq(window->total.latest_offset, expected.latest_offset, "%s", name);
    comparison->windows[meter]++;
    comparison->counted[meter] += expected.events;
}

static void make_events(struct event events[IDS])
{
    for (int id = 0; id < IDS; id++)
        events[id] = (struct event){.id = id,
                                    .value = rand() % 2001 - 1000,
                                    .distinct = rand() % DISTINCT,
                                    .time = base + (int64_t)(rand() % SPAN_SECONDS) * WEIR_SECOND,
                                    .offset = -1};
    for (int id = 1; id < IDS; id += 5) /* equal times: the later offset is the latest */
        events[id].time = events[id - 1].time;
}

Test(window_totals, every_aggregation_in_every_window_agrees_with_a_model)
{
    struct weir_catalog *catalog = load_catalog();
    struct weir_window_store *store = weir_store_memory_new();
    struct weir_sealed_cut *sealed = weir_sealed_cut_new();
    struct weir_lane *lane = take(catalog, store);
    struct event events[IDS];
    struct comparison comparison = {.events = events};
    struct weir_error error;
    int order[EVENTS];
    uint64_t counted = 0;

    srand(17);
    make_events(events);
    for (int i = 0; i < EVENTS; i++)
        order[i] = rand() % IDS;
    for (int i = 0; i < EVENTS; i++) {
        if (rand() % 97 == 0) { /* a crash: what was not flushed is gone, and is sent again */
            weir_lane_free(lane);
            lane = take(catalog, store);
            i = (int)weir_lane_state(lane)->next_offset < 0 ? 0 : (int)weir_lane_state(lane)->next_offset;
            for (int id = 0; id < IDS; id++)
                events[id].offset = events[id].offset >= i ? -1 : events[id].offset;
        }
        bool is_first = events[order[i]].offset < 0;
        cr_assert_eq(send(lane, &events[order[i]], i), is_first ? WEIR_OUTCOME_COUNTED : WEIR_OUTCOME_DUPLICATE);
        if (is_first)
            events[order[i]].offset = i;
        if (rand() % 41 == 0)
            flush(lane, store, sealed);
    }
    flush(lane, store, sealed);
    for (int id = 0; id < IDS; id++)
        counted += events[id].offset >= 0;
    cr_assert_eq(store->ops->scan_windows(store, weir_slice_text("events:0"), compare, &comparison, &error), WEIR_OK);
    for (int i = 0; i < METERS; i++) {
        cr_assert_eq(comparison.counted[i], counted, "%s-%s", aggregations[i / LENGTHS], lengths[i % LENGTHS].name);
        cr_assert_geq(comparison.windows[i], (uint64_t)2, "%s", lengths[i % LENGTHS].name);
    }
    weir_lane_free(lane);
    weir_sealed_cut_free(sealed);
    weir_window_store_free(store);
    weir_catalog_free(catalog);
}
