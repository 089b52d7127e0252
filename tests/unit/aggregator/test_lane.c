/* Lanes: windows against a plain model, time and lateness, duplicates and conflicts, and that a lane which is taken
 * again from its cuts goes on exactly where it was. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/lane.h"
#include "common/calendar.h"
#include "common/hash.h"
#include "common/model/tally.h"

static const char catalog_json[] =
    "{\"meters\":["
    "{\"key\":\"c\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1m\"},"
    "{\"key\":\"s\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.v\",\"window\":\"5m\",\"group_by\":["
    "\"g\"]},"
    "{\"key\":\"u\",\"event_type\":\"t\",\"aggregation\":\"unique\",\"value\":\"data.u\",\"window\":\"1h\"}]}";

enum { T0 = 1767225600 }; /* 2026-01-01 */
static const int64_t base = T0 * WEIR_SECOND;

static struct weir_catalog *load_catalog(void)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    cr_assert_eq(weir_catalog_parse("test", catalog_json, sizeof catalog_json - 1, &catalog, &mistakes), WEIR_OK);
    return catalog;
}

static const struct weir_lane_settings defaults = {
    .disorder = 10 * WEIR_SECOND,
    .lateness = WEIR_HOUR,
    .retention = WEIR_HOUR,
    .max_future = WEIR_MINUTE,
    .windows_max = 100000,
    .ids_max = 100000,
};

struct bench {
    struct weir_catalog *catalog;
    struct weir_window_store *store;
    struct weir_lane *lane;
    struct weir_sealed_cut *sealed;
    struct weir_lane_settings settings;
    struct weir_rejection rejection;
};

static void take(struct bench *bench)
{
    static const unsigned char secret[WEIR_LANE_SECRET_BYTES] = "a secret of thirty-two bytes...";
    struct weir_lane_state state;
    struct weir_error error;

    bench->lane = weir_lane_new(bench->catalog, weir_slice_text("events:0"), &bench->settings);
    struct weir_lane_loader loader = weir_lane_loader(bench->lane);
    cr_assert_eq(
        bench->store->ops->take_lane(bench->store, weir_slice_text("events:0"), secret, &loader, &state, &error),
        WEIR_OK);
    cr_assert_eq(weir_lane_start(bench->lane, &state, &error), WEIR_OK);
}

static struct bench set_up(const struct weir_lane_settings *settings)
{
    struct bench bench = {.catalog = load_catalog(),
                          .store = weir_store_memory_new(),
                          .sealed = weir_sealed_cut_new(),
                          .settings = *settings};
    take(&bench);
    return bench;
}

static void tear_down(struct bench *bench)
{
    weir_lane_free(bench->lane);
    weir_sealed_cut_free(bench->sealed);
    weir_window_store_free(bench->store);
    weir_catalog_free(bench->catalog);
}

/* Its watermark goes on with the clock, and there is nothing to forget. */
Test(lane, without_windows_is_sealed)
{
    struct bench bench = set_up(&defaults);
    weir_lane_idle(bench.lane, base);
    weir_lane_seal(bench.lane, bench.sealed);
    cr_assert_eq(bench.sealed->cut.window_count, 0);
    cr_assert_eq(bench.sealed->cut.forget_windows_below, base - 10 * WEIR_SECOND - WEIR_HOUR);
    tear_down(&bench);
}

static void flush(struct bench *bench)
{
    struct weir_error error;
    weir_lane_seal(bench->lane, bench->sealed);
    cr_assert_eq(bench->store->ops->write_cut(bench->store, &bench->sealed->cut, &error), WEIR_OK, "%s", error.text);
    cr_assert(!weir_lane_has_changes(bench->lane) || bench->settings.close_least > 0);
}

/* One event of customer "c<customer>": counts 1, adds v to split g, and, when it matches all three meters, u to the
 * distinct ones. */
static enum weir_outcome offer(struct bench *bench, int64_t sequence, int id, int customer, int64_t time, int v, int g,
                               int u, uint32_t meters, bool is_retraction)
{
    char texts[4][16];
    struct weir_reading readings[3] = {{.meter = 0}, {.meter = 1}, {.meter = 2}};
    struct weir_event event = {
        .time = time, .source = weir_slice_text("src"), .type = weir_slice_text("t"), .is_retraction = is_retraction};
    char data[64];

    snprintf(texts[0], 16, "id%d", id);
    snprintf(texts[1], 16, "c%d", customer);
    snprintf(texts[2], 16, "g%d", g);
    snprintf(texts[3], 16, "u%d", u);
    snprintf(data, sizeof data, "{%d,%d,%d}", v, g, u);
    event.id = weir_slice_text(texts[0]);
    event.subject = weir_slice_text(texts[1]);
    event.data = weir_slice_text(data);
    readings[1].value = weir_decimal_of(v);
    readings[1].dimensions[0] = weir_slice_text(texts[2]);
    readings[2].unique_text = weir_slice_text(texts[3]);
    struct weir_lane_hashes hashes;
    weir_lane_hash(bench->lane, &event, readings, meters, &hashes);
    return weir_lane_take(bench->lane, &event, readings, meters, &hashes, sequence, &bench->rejection);
}

static enum weir_outcome send(struct bench *bench, int64_t sequence, int id, int customer, int64_t time, int v, int g,
                              int u)
{
    return offer(bench, sequence, id, customer, time, v, g, u, 3, false);
}

struct found {
    uint64_t windows, closed, events, retracted, digest;
    struct weir_decimal sum, unique;
    struct weir_tally tallied; /* all customers together */
    uint64_t told;             /* tallies that raters are told of */
};

static void add_found(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    struct found *found = context;
    struct weir_series series;
    struct weir_slice customer;
    struct weir_tally tally;

    if (weir_tally_load(window, &customer, &tally)) {
        found->tallied.duplicate += tally.duplicate;
        found->tallied.quarantined += tally.quarantined;
        found->tallied.admitted += tally.admitted;
        found->told += has_work;
        return;
    }
    cr_assert(weir_series_parse(window->series_key, &series));
    cr_assert(!has_work || is_closed);
    found->windows++;
    found->closed += is_closed;
    if (series.meter.data[0] == 'c') {
        found->events += window->total.events;
        found->retracted += window->total.retracted;
    }
    unsigned char total[WEIR_WINDOW_TOTAL_BYTES];
    weir_window_total_store(&window->total, total);
    found->digest += weir_hash64(
        total, sizeof total, weir_hash64(window->series_key.data, window->series_key.length, (uint64_t)window->start));
    if (series.meter.data[0] == 's')
        cr_assert(weir_decimal_add(found->sum, window->total.value, &found->sum));
    if (series.meter.data[0] == 'u')
        cr_assert(weir_decimal_add(found->unique, window->total.value, &found->unique));
}

static struct found look(struct bench *bench)
{
    struct found found = {0};
    struct weir_error error;
    cr_assert_eq(bench->store->ops->scan_windows(bench->store, weir_slice_text("events:0"), add_found, &found, &error),
                 WEIR_OK);
    return found;
}

/* Whatever becomes of an event that does not count is tallied with its customer, in the same cut; raters are told by
 * the cut in which the watermark passes a quarter of an hour, or when the lane is idle, also of what was tallied before
 * the lane was taken. */
Test(lane, tallies_what_does_not_count)
{
    const struct weir_slice nobody = weir_slice_of(NULL, 0);
    const int64_t passes = base + 15 * WEIR_MINUTE + 10 * WEIR_SECOND;
    struct bench bench = set_up(&defaults);

    send(&bench, 0, 1, 1, base + 10 * WEIR_SECOND, 5, 1, 1);
    flush(&bench);
    cr_assert_eq(send(&bench, 1, 1, 1, base, 5, 1, 1), WEIR_OUTCOME_DUPLICATE);
    cr_assert_eq(send(&bench, 2, 1, 2, base, 5, 1, 1), WEIR_OUTCOME_REJECTED, "a conflict");
    weir_lane_reject(bench.lane, weir_slice_text("c1"), 3);
    weir_lane_reject(bench.lane, nobody, 4);
    flush(&bench);
    struct found found = look(&bench);
    cr_assert(found.tallied.duplicate == 1 && found.tallied.quarantined == 3 && found.tallied.admitted == 0);
    cr_assert_eq(found.told, 0);

    weir_lane_free(bench.lane);
    take(&bench);
    cr_assert_eq(send(&bench, 5, 1, 1, passes - 1, 5, 1, 1), WEIR_OUTCOME_DUPLICATE);
    flush(&bench);
    cr_assert_eq(look(&bench).told, 0);
    send(&bench, 6, 2, 1, passes, 5, 1, 1);
    flush(&bench);
    found = look(&bench);
    cr_assert_eq(found.told, 3, "c1, c2 and nobody");
    cr_assert(found.tallied.duplicate == 2 && found.tallied.quarantined == 3);

    weir_lane_reject(bench.lane, weir_slice_text("c3"), 7);
    flush(&bench);
    cr_assert_eq(look(&bench).told, 3);
    weir_lane_idle(bench.lane, passes + WEIR_MINUTE);
    flush(&bench);
    cr_assert_eq(look(&bench).told, 4, "at once");
    weir_lane_idle(bench.lane, passes + 2 * WEIR_MINUTE);
    weir_lane_seal(bench.lane, bench.sealed);
    cr_assert_eq(bench.sealed->cut.window_count, 0, "nothing has changed since");
    tear_down(&bench);
}

Test(lane, of_admitted_events_tallies_all_of_them)
{
    struct weir_lane_settings settings = defaults;

    settings.keeps_all = true;
    struct bench bench = set_up(&settings);
    send(&bench, 0, 1, 1, base, 5, 1, 1);
    send(&bench, 1, 2, 1, base, 5, 1, 1);
    send(&bench, 2, 2, 1, base, 5, 1, 1);
    flush(&bench);
    struct found found = look(&bench);
    cr_assert(found.tallied.admitted == 2 && found.tallied.duplicate == 1 && found.tallied.quarantined == 0);
    cr_assert_eq(found.told, 1, "at once");
    tear_down(&bench);
}

Test(lane, counts_each_event_once)
{
    struct bench bench = set_up(&defaults);

    cr_assert_eq(send(&bench, 0, 1, 1, base, 5, 1, 1), WEIR_OUTCOME_COUNTED);
    cr_assert_eq(send(&bench, 1, 1, 1, base, 5, 1, 1), WEIR_OUTCOME_DUPLICATE);
    cr_assert_eq(send(&bench, 2, 1, 1, base + WEIR_MINUTE, 5, 1, 1), WEIR_OUTCOME_DUPLICATE,
                 "another time is a resend still");
    cr_assert_eq(send(&bench, 3, 1, 1, base, 6, 1, 1), WEIR_OUTCOME_REJECTED);
    cr_assert_eq(bench.rejection.reason, WEIR_REASON_CONFLICT);
    cr_assert_eq(send(&bench, 4, 2, 1, base, 7, 1, 1), WEIR_OUTCOME_COUNTED);
    flush(&bench);
    struct found found = look(&bench);
    cr_assert_eq(found.events, 2);
    cr_assert_eq(weir_decimal_compare(found.sum, weir_decimal_of(12)), 0);
    cr_assert_eq(weir_decimal_compare(found.unique, weir_decimal_of(1)), 0);
    const struct weir_lane_counts *counts = &weir_lane_state(bench.lane)->counts;
    cr_assert_eq(counts->read, 5);
    cr_assert_eq(counts->counted, 2);
    cr_assert_eq(counts->duplicate, 2);
    cr_assert_eq(counts->quarantined, 1);
    cr_assert_eq(weir_lane_state(bench.lane)->next_offset, 5);
    tear_down(&bench);
}

/* Crashes between cuts at random: the lane is taken again and the events since its stored offset are sent again. */
Test(lane, goes_on_from_its_cut)
{
    enum { EVENTS = 4000, IDS = 3000 };
    struct weir_lane_settings settings = defaults;

    settings.close_least = 2; /* windows wait to be closed when it crashes */
    struct bench whole = set_up(&defaults), broken = set_up(&settings);
    srand(11);
    struct {
        int id, customer, v, g, u;
        int64_t time;
    } events[EVENTS];
    for (int i = 0; i < EVENTS; i++) {
        int id = rand() % IDS; /* the rest follows from the id, so that a repeat is a duplicate */
        events[i].id = id;
        events[i].customer = id % 7;
        events[i].v = id % 100;
        events[i].g = id % 3;
        events[i].u = id % 50;
        events[i].time = base + (int64_t)id % 1000 * WEIR_SECOND + (i > EVENTS / 2 ? 600 * WEIR_SECOND : 0);
    }
    for (int i = 0; i < EVENTS; i++)
        send(&whole, i, events[i].id, events[i].customer, events[i].time, events[i].v, events[i].g, events[i].u);
    flush(&whole);
    for (int i = 0; i < EVENTS; i++) {
        if (rand() % 97 == 0) { /* a crash: what was not flushed is gone */
            weir_lane_free(broken.lane);
            take(&broken);
            i = (int)weir_lane_state(broken.lane)->next_offset;
            i = i < 0 ? 0 : i;
        }
        send(&broken, i, events[i].id, events[i].customer, events[i].time, events[i].v, events[i].g, events[i].u);
        if (rand() % 53 == 0)
            flush(&broken);
    }
    weir_lane_close_all(broken.lane);
    flush(&broken);
    struct found a = look(&whole), b = look(&broken);
    cr_assert_eq(a.events, b.events);
    cr_assert_eq(a.windows, b.windows);
    cr_assert_eq(a.closed, b.closed);
    cr_assert_eq(weir_decimal_compare(a.sum, b.sum), 0);
    cr_assert_eq(weir_decimal_compare(a.unique, b.unique), 0);
    cr_assert_eq(weir_lane_state(whole.lane)->counts.duplicate, weir_lane_state(broken.lane)->counts.duplicate);
    cr_assert_eq(weir_lane_windows(whole.lane), weir_lane_windows(broken.lane));
    tear_down(&whole);
    tear_down(&broken);
}

/* Counts only: one window for each of the customers. */
static void send_minute(struct bench *bench, int customers, int64_t time)
{
    int64_t from = weir_lane_state(bench->lane)->next_offset;

    from = from < 0 ? 0 : from;
    for (int i = 0; i < customers; i++)
        cr_assert_eq(offer(bench, from + i, (int)from + i, i, time, 1, 1, 1, 1, false), WEIR_OUTCOME_COUNTED);
}

/* A sixteenth by each cut, beside what changes anyway; and the cut tells no watermark that some of them have not
 * passed, nor forgets them, whoever has the lane. */
Test(lane, many_windows_of_one_end_are_closed_by_several_cuts)
{
    enum { CUSTOMERS = 80, SHARE = CUSTOMERS / 16 };
    const int64_t end = base + WEIR_MINUTE;
    struct weir_lane_settings settings = defaults;
    uint64_t cuts = 0;

    settings.close_least = SHARE - 1;
    settings.lateness = settings.retention = 0;
    struct bench bench = set_up(&settings);
    send_minute(&bench, CUSTOMERS, base);
    flush(&bench);
    send_minute(&bench, 1, end + 10 * WEIR_SECOND);
    cr_assert_eq(weir_lane_state(bench.lane)->watermark, end);
    for (uint64_t closed = 0; weir_lane_has_news(bench.lane); closed += SHARE, cuts++) {
        uint64_t before = look(&bench).closed;
        flush(&bench);
        cr_assert_eq(look(&bench).closed - before, SHARE, "cut %d", (int)cuts);
        cr_assert_eq(bench.sealed->cut.state.watermark, closed + SHARE < CUSTOMERS ? end - 1 : end);
        cr_assert_eq(bench.sealed->cut.forget_windows_below, bench.sealed->cut.state.watermark);
        if (closed + SHARE == CUSTOMERS)
            break;
        cr_assert_eq(look(&bench).closed, closed + SHARE);
        if (cuts % 3 == 1) {
            weir_lane_free(bench.lane);
            take(&bench);
            cr_assert_eq(weir_lane_state(bench.lane)->watermark, end, "an event is not taken that was too late");
        }
    }
    cr_assert_eq(cuts, CUSTOMERS / SHARE - 1, "and the last one");
    cr_assert(!weir_lane_has_changes(bench.lane));
    tear_down(&bench);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

/* Whatever comes, is closed, is forgotten or is loaded meanwhile: the store checks that a round brought all that is
 * open (store_memory.c). And rounds come again and again, but not with every cut. */
Test(lane, rounds_bring_every_open_window)
{
    enum { SEEDS = 40, CUTS = 150 };
    struct weir_lane_settings settings = defaults;
    uint64_t begun = 0, ended = 0, open = 0, named = 0;

    settings.close_least = 3;
    settings.lateness = settings.retention = 5 * WEIR_MINUTE;
    for (uint64_t number = 1; number <= SEEDS; number++) {
        uint64_t seed = number, customers = 1 + number;
        int64_t sequence = 0;
        settings.round_least = 1 + number;
        struct bench bench = set_up(&settings);
        for (int i = 0; i < CUTS; i++) {
            for (uint64_t n = next_random(&seed) % 7; n > 0; n--, sequence++) {
                int64_t time = base + i * 5 * WEIR_SECOND - (int64_t)(next_random(&seed) % (3 * WEIR_MINUTE));
                int customer = (int)(next_random(&seed) % customers);
                cr_assert_eq(send(&bench, sequence, (int)sequence, customer, time, 3, 1, 1), WEIR_OUTCOME_COUNTED);
            }
            flush(&bench);
            begun += bench.sealed->cut.begins_round;
            ended += bench.sealed->cut.ends_round;
            for (size_t n = 0; n < bench.sealed->cut.window_count; n++) {
                const struct weir_cut_window *window = &bench.sealed->windows[n];
                open += !window->is_closed;
                named += !window->is_closed && window->window.series_key.length > 0;
                cr_assert(window->window.series_key.length > 0 || (window->number > 0 && !window->is_closed));
            }
            if (i % 50 == 49) { /* in a round or not */
                uint64_t digest = look(&bench).digest;
                weir_lane_free(bench.lane);
                take(&bench);
                cr_assert_eq(look(&bench).digest, digest);
                cr_assert_eq(look(&bench).events, (uint64_t)sequence);
            }
        }
        tear_down(&bench);
    }
    cr_assert(ended > SEEDS && ended <= begun && begun <= ended + 4 * SEEDS, "%d begun, %d ended", (int)begun,
              (int)ended);
    cr_assert_lt(ended, SEEDS * CUTS / 4);
    cr_assert(named > open / 4 && named < open * 3 / 4, "%d of %d open windows have their keys", (int)named, (int)open);
}

Test(lane, windows_of_an_earlier_end_do_not_wait_for_their_share)
{
    enum { CUSTOMERS = 10, LEAST = 3 };
    struct weir_lane_settings settings = defaults;

    settings.close_least = LEAST;
    struct bench bench = set_up(&settings);
    send_minute(&bench, CUSTOMERS, base);
    send_minute(&bench, CUSTOMERS, base + WEIR_MINUTE);
    flush(&bench);
    send_minute(&bench, 1, base + 2 * WEIR_MINUTE + 10 * WEIR_SECOND);
    flush(&bench);
    cr_assert_eq(look(&bench).closed, CUSTOMERS, "which is the cut's share for those of the later end as well");
    flush(&bench);
    cr_assert_eq(look(&bench).closed, CUSTOMERS + LEAST);
    cr_assert_eq(bench.sealed->cut.state.watermark, base + 2 * WEIR_MINUTE - 1);
    /* Made in the middle of it: closed at once, and none is passed over. */
    cr_assert_eq(offer(&bench, 100, 100, CUSTOMERS, base + WEIR_MINUTE, 1, 1, 1, 1, false), WEIR_OUTCOME_COUNTED);
    cr_assert_eq(offer(&bench, 101, 101, 1, base - WEIR_MINUTE, 1, 1, 1, 1, false), WEIR_OUTCOME_COUNTED);
    weir_lane_close_all(bench.lane);
    flush(&bench);
    cr_assert_eq(look(&bench).closed, 2 * CUSTOMERS + 2);
    cr_assert_eq(bench.sealed->cut.state.watermark, base + 2 * WEIR_MINUTE);
    cr_assert(!weir_lane_has_changes(bench.lane));
    tear_down(&bench);
}

Test(lane, an_idle_watermark_is_a_change_but_no_news_until_it_closes_a_window)
{
    struct bench bench = set_up(&defaults);

    send(&bench, 0, 1, 1, base, 5, 1, 1);
    cr_assert(weir_lane_has_news(bench.lane));
    flush(&bench);
    weir_lane_idle(bench.lane, base + WEIR_SECOND);
    cr_assert(weir_lane_has_changes(bench.lane), "or the last cut would not tell how far it is");
    cr_assert(!weir_lane_has_news(bench.lane));
    weir_lane_idle(bench.lane, base + 40 * WEIR_DAY);
    cr_assert(weir_lane_has_news(bench.lane));
    flush(&bench);
    tear_down(&bench);
}

Test(lane, a_gap_is_passed_and_kept)
{
    struct bench bench = set_up(&defaults);

    send(&bench, 0, 1, 1, base, 5, 1, 1);
    weir_lane_set_stamp(bench.lane, 1234);
    flush(&bench);
    cr_assert_eq(weir_lane_state(bench.lane)->stamp, 1234);
    const struct weir_gap *gap = weir_lane_add_gap(bench.lane, WEIR_GAP_RETENTION, 50, base + WEIR_DAY + 1);
    cr_assert_eq(gap->from, 1);
    cr_assert_eq(gap->to, 50);
    cr_assert_eq(gap->time_from, base - 10 * WEIR_SECOND - WEIR_HOUR, "older ones would be too late anyway");
    cr_assert_eq(gap->time_to, base + WEIR_DAY + WEIR_MINUTE + 1000, "whole microseconds, outward");
    cr_assert_eq(gap->found_at, base + WEIR_DAY);
    cr_assert(weir_lane_has_news(bench.lane));
    flush(&bench);
    send(&bench, 50, 2, 1, base, 5, 1, 1);
    flush(&bench);
    weir_lane_free(bench.lane);
    take(&bench);
    cr_assert_eq(weir_lane_state(bench.lane)->next_offset, 51);
    cr_assert_eq(weir_lane_state(bench.lane)->gaps.count, 1);
    cr_assert_eq(look(&bench).events, 2);
    tear_down(&bench);
}

/* Admitted events are of any age, and their lane's watermark is for ever: a gap of theirs has a span all the same. */
Test(lane, a_gap_of_a_lane_that_keeps_all)
{
    struct weir_lane_settings settings = defaults;
    settings.keeps_all = true;
    struct bench bench = set_up(&settings);

    send(&bench, 0, 1, 1, base, 5, 1, 1);
    flush(&bench);
    const struct weir_gap *gap = weir_lane_add_gap(bench.lane, WEIR_GAP_RECREATED, 0, base);
    cr_assert_eq(gap->time_from, 0);
    cr_assert_eq(gap->time_to, base + WEIR_MINUTE + 1000);
    tear_down(&bench);
}

Test(lane, begins_anew_with_its_ids)
{
    struct bench bench = set_up(&defaults);

    for (int i = 0; i < 20; i++)
        send(&bench, i, i, 1, base, 5, 1, 1);
    flush(&bench);
    send(&bench, 20, 20, 1, base, 5, 1, 1); /* not yet sealed when the topic turns out to be another one */
    const struct weir_gap *gap = weir_lane_add_gap(bench.lane, WEIR_GAP_RECREATED, 0, base);
    cr_assert_eq(gap->from, 21);
    cr_assert_eq(gap->to, WEIR_GAP_END_UNKNOWN);
    flush(&bench);
    cr_assert_eq(send(&bench, 0, 7, 1, base, 5, 1, 1), WEIR_OUTCOME_DUPLICATE);
    cr_assert_eq(send(&bench, 1, 100, 1, base, 5, 1, 1), WEIR_OUTCOME_COUNTED);
    flush(&bench);
    weir_lane_free(bench.lane);
    take(&bench);
    cr_assert_eq(weir_lane_state(bench.lane)->next_offset, 2);
    cr_assert_eq(look(&bench).events, 22);
    /* At the very offset where it stood: the gap alone is the change. */
    weir_lane_add_gap(bench.lane, WEIR_GAP_RECREATED, 2, base);
    cr_assert(weir_lane_has_news(bench.lane));
    flush(&bench);
    cr_assert_eq(weir_lane_state(bench.lane)->gaps.count, 2);
    /* A lane without a cut may have lost events of any time. */
    weir_lane_free(bench.lane);
    weir_window_store_free(bench.store);
    bench.store = weir_store_memory_new();
    take(&bench);
    gap = weir_lane_add_gap(bench.lane, WEIR_GAP_NOTHING_STORED, 9, base);
    cr_assert_eq(gap->from, 0);
    cr_assert_eq(gap->to, 9);
    cr_assert_eq(gap->time_from, 0);
    flush(&bench);
    tear_down(&bench);
}

/* A worker drops a lane that is lost while its cuts are on their way; whoever writes them still has to name it. */
Test(lane, a_sealed_cut_outlives_its_lane)
{
    struct bench bench = set_up(&defaults);
    struct weir_error error;

    send(&bench, 0, 1, 1, base, 5, 1, 1);
    weir_lane_seal(bench.lane, bench.sealed);
    bench.lane = weir_lane_free(bench.lane);
    cr_assert(weir_slice_equal(bench.sealed->cut.lane, weir_slice_text("events:0")));
    cr_assert_eq(bench.store->ops->write_cut(bench.store, &bench.sealed->cut, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(look(&bench).events, 1);
    tear_down(&bench);
}

Test(lane, refuses_what_is_too_late_or_too_early)
{
    struct bench bench = set_up(&defaults);
    int64_t now = base + WEIR_HOUR;

    cr_assert_eq(send(&bench, 0, 1, 1, now, 1, 1, 1), WEIR_OUTCOME_COUNTED);
    int64_t watermark = weir_lane_state(bench.lane)->watermark;
    cr_assert_eq(watermark, now - defaults.disorder);
    cr_assert_eq(weir_lane_check_time(bench.lane, watermark - defaults.lateness, now, &bench.rejection), WEIR_OK);
    cr_assert_eq(weir_lane_check_time(bench.lane, watermark - defaults.lateness - 1, now, &bench.rejection),
                 WEIR_REJECT);
    cr_assert_eq(bench.rejection.reason, WEIR_REASON_TOO_LATE);
    cr_assert_eq(weir_lane_check_time(bench.lane, now + defaults.max_future, now, &bench.rejection), WEIR_OK);
    cr_assert_eq(weir_lane_check_time(bench.lane, now + defaults.max_future + 1, now, &bench.rejection), WEIR_REJECT);
    cr_assert_eq(bench.rejection.reason, WEIR_REASON_TOO_EARLY);
    tear_down(&bench);
}

static void take_with_lateness(struct bench *bench, int64_t lateness)
{
    weir_lane_free(bench->lane);
    bench->settings.lateness = bench->settings.retention = lateness;
    take(bench);
}

/* What is gone stays too late, whatever the lateness is afterwards; what is still there is accepted for longer. */
Test(lane, a_longer_lateness_brings_nothing_back)
{
    struct bench bench = set_up(&defaults);
    int64_t now = base + WEIR_DAY;

    cr_assert_eq(send(&bench, 0, 1, 1, now - 30 * WEIR_MINUTE, 1, 1, 1), WEIR_OUTCOME_COUNTED);
    cr_assert_eq(send(&bench, 1, 2, 1, now, 1, 1, 1), WEIR_OUTCOME_COUNTED);
    flush(&bench);
    int64_t gone = now - defaults.disorder - WEIR_HOUR;
    cr_assert_eq(weir_lane_state(bench.lane)->forgotten, gone);
    cr_assert_eq(bench.sealed->cut.forget_windows_below, gone);

    take_with_lateness(&bench, 10 * WEIR_HOUR);
    cr_assert_eq(weir_lane_check_time(bench.lane, gone, now, &bench.rejection), WEIR_OK);
    cr_assert_eq(weir_lane_check_time(bench.lane, gone - 1, now, &bench.rejection), WEIR_REJECT);
    cr_assert_eq(bench.rejection.reason, WEIR_REASON_TOO_LATE);
    cr_assert(strstr(bench.rejection.detail, "before lateness grew"), "%s", bench.rejection.detail);
    cr_assert_eq(send(&bench, 2, 3, 1, now + 9 * WEIR_HOUR, 1, 1, 1), WEIR_OUTCOME_COUNTED);
    flush(&bench);
    cr_assert_eq(weir_lane_state(bench.lane)->forgotten, gone, "nothing more until the longer lateness has passed");
    cr_assert_eq(bench.sealed->cut.forget_windows_below, gone);
    cr_assert_eq(send(&bench, 3, 1, 1, now - 30 * WEIR_MINUTE, 1, 1, 1), WEIR_OUTCOME_DUPLICATE);
    cr_assert_eq(weir_lane_add_gap(bench.lane, WEIR_GAP_RETENTION, 10, now + 9 * WEIR_HOUR)->time_from, gone);
    cr_assert_eq(send(&bench, 10, 4, 1, now + 20 * WEIR_HOUR, 1, 1, 1), WEIR_OUTCOME_COUNTED);
    flush(&bench);
    cr_assert_eq(weir_lane_state(bench.lane)->forgotten, now + 10 * WEIR_HOUR - defaults.disorder);

    take_with_lateness(&bench, WEIR_MINUTE); /* a shorter one holds at once */
    cr_assert_eq(weir_lane_check_time(bench.lane, now + 20 * WEIR_HOUR - 2 * WEIR_MINUTE, now + 20 * WEIR_HOUR,
                                      &bench.rejection),
                 WEIR_REJECT);
    cr_assert(strstr(bench.rejection.detail, "(lateness)"), "%s", bench.rejection.detail);
    tear_down(&bench);
}

/* Whatever the lateness was from cut to cut: an event that is accepted finds its windows and its id, and an id what
 * became of it last. */
Test(lane, accepts_nothing_that_it_may_have_forgotten)
{
    enum { EVENTS = 6000 };
    struct bench bench = set_up(&defaults);
    static int64_t times[EVENTS];
    static enum weir_outcome outcomes[EVENTS];
    uint64_t counted = 0, retracted = 0, refused = 0, resent = 0;
    int64_t sequence = 0;

    srand(17);
    for (int i = 0; i < EVENTS; i++) {
        int64_t now = base + i * WEIR_MINUTE;
        times[i] = now - (rand() % 4 ? 0 : rand() % 600 * WEIR_MINUTE);
        outcomes[i] = WEIR_OUTCOME_REJECTED;
        if (weir_lane_check_time(bench.lane, times[i], now, &bench.rejection) == WEIR_OK) {
            outcomes[i] = offer(&bench, sequence++, i, 1, times[i], 1, 1, 1, 2, false);
            cr_assert_eq(outcomes[i], WEIR_OUTCOME_COUNTED, "%d", i);
            counted++;
        }
        refused += outcomes[i] == WEIR_OUTCOME_REJECTED;
        int back = i - rand() % (i < 1200 ? i + 1 : 1200);
        if (outcomes[back] != WEIR_OUTCOME_REJECTED
            && weir_lane_check_time(bench.lane, times[back], now, &bench.rejection) == WEIR_OK) {
            bool is_retraction = rand() % 2;
            enum weir_outcome expected = is_retraction && outcomes[back] == WEIR_OUTCOME_COUNTED
                                             ? WEIR_OUTCOME_RETRACTED
                                             : WEIR_OUTCOME_DUPLICATE;
            cr_assert_eq(offer(&bench, sequence++, back, 1, times[back], 1, 1, 1, 2, is_retraction), expected, "%d",
                         back);
            if (expected == WEIR_OUTCOME_RETRACTED) {
                outcomes[back] = expected;
                retracted++;
            }
            resent++;
        }
        if (rand() % 7 == 0)
            flush(&bench);
        if (rand() % 25 == 0) {
            flush(&bench);
            take_with_lateness(&bench, (1 + rand() % 20) * 30 * WEIR_MINUTE);
        }
    }
    flush(&bench);
    cr_assert_eq(look(&bench).events, counted - retracted);
    cr_assert(refused > 500 && resent > 500 && retracted > 200, "%llu refused, %llu sent again, %llu retracted",
              (unsigned long long)refused, (unsigned long long)resent, (unsigned long long)retracted);
    tear_down(&bench);
}

/* Buckets of another length lie before and after each other; a lane that is taken again reads them in order. */
Test(lane, knows_an_id_by_its_last_record_whatever_the_retention_was)
{
    struct bench bench = set_up(&defaults);

    take_with_lateness(&bench, WEIR_MINUTE);
    cr_assert_eq(offer(&bench, 0, 1, 1, base, 1, 1, 1, 2, false), WEIR_OUTCOME_COUNTED);
    flush(&bench);
    take_with_lateness(&bench, 10 * WEIR_HOUR);
    cr_assert_eq(offer(&bench, 1, 2, 1, base, 1, 1, 1, 2, false), WEIR_OUTCOME_COUNTED);
    flush(&bench);
    take_with_lateness(&bench, WEIR_MINUTE);
    cr_assert_eq(offer(&bench, 2, 2, 1, base, 1, 1, 1, 2, true), WEIR_OUTCOME_RETRACTED);
    flush(&bench);
    take_with_lateness(&bench, WEIR_MINUTE);
    cr_assert_eq(offer(&bench, 3, 2, 1, base, 1, 1, 1, 2, true), WEIR_OUTCOME_DUPLICATE);
    tear_down(&bench);
}

/* The lane is told of an event, as offer would make it, that counts elsewhere. */
static enum weir_status know(struct bench *bench, int id, int64_t time, int v, bool is_retraction)
{
    char texts[2][16], data[64];
    struct weir_error error;

    snprintf(texts[0], 16, "id%d", id);
    snprintf(texts[1], 16, "c%d", id % 5);
    snprintf(data, sizeof data, "{%d,%d,0}", v, id % 3);
    return weir_lane_know(bench->lane,
                          &(struct weir_event){.time = time,
                                               .source = weir_slice_text("src"),
                                               .type = weir_slice_text("t"),
                                               .id = weir_slice_text(texts[0]),
                                               .subject = weir_slice_text(texts[1]),
                                               .data = weir_slice_text(data),
                                               .is_retraction = is_retraction},
                          &error);
}

static enum weir_outcome send_two(struct bench *bench, int64_t sequence, int id, int64_t time, int v,
                                  bool is_retraction)
{
    return offer(bench, sequence, id, id % 5, time, v, id % 3, 0, 2, is_retraction);
}

/* It is a duplicate, to the last moment at which it would be accepted, and in no cut. */
Test(lane, does_not_count_what_it_was_told_to_count_elsewhere)
{
    struct bench bench = set_up(&defaults);
    int64_t sequence = 0, before = base - 100 * WEIR_HOUR;

    cr_assert_eq(send_two(&bench, sequence++, 1, base, 5, false), WEIR_OUTCOME_COUNTED);
    flush(&bench);
    cr_assert_eq(know(&bench, 1, base, 5, false), WEIR_OK, "its own id stays its own");
    cr_assert_eq(know(&bench, 2, base, 5, true), WEIR_OK, "a retraction says nothing");
    cr_assert_eq(know(&bench, 3, weir_lane_accepted_from(bench.lane) - 1, 5, false), WEIR_OK, "it is too late anyway");
    cr_assert_eq(weir_lane_ids(bench.lane), 1);
    for (int id = 10; id < 310; id++) /* more buckets than are kept apart */
        cr_assert_eq(know(&bench, id, base + id * WEIR_MINUTE, 5, false), WEIR_OK);
    cr_assert_eq(know(&bench, 10, before, 6, false), WEIR_OK, "the first one holds");
    cr_assert(!weir_lane_has_changes(bench.lane));
    cr_assert_eq(send_two(&bench, sequence++, 1, base, 5, true), WEIR_OUTCOME_RETRACTED);
    cr_assert_eq(send_two(&bench, sequence++, 10, base + 10 * WEIR_MINUTE, 6, false), WEIR_OUTCOME_REJECTED);
    cr_assert_eq(bench.rejection.reason, WEIR_REASON_CONFLICT);
    cr_assert_eq(send_two(&bench, sequence++, 10, base + 10 * WEIR_MINUTE, 5, true), WEIR_OUTCOME_REJECTED);
    cr_assert_eq(bench.rejection.reason, WEIR_REASON_RETRACTION_DIFFERS);
    cr_assert(strstr(bench.rejection.detail, "weir admit"));
    for (int minute = 10; minute < 310; minute++) {
        cr_assert_eq(send_two(&bench, sequence++, 1000 + minute, base + minute * WEIR_MINUTE, 5, false),
                     WEIR_OUTCOME_COUNTED);
        flush(&bench);
        for (int id = 10; id < 310; id++)
            if (base + id * WEIR_MINUTE >= weir_lane_accepted_from(bench.lane) && id <= minute)
                cr_assert_eq(send_two(&bench, sequence++, id, base + id * WEIR_MINUTE, 5, false),
                             WEIR_OUTCOME_DUPLICATE);
    }
    flush(&bench);
    cr_assert(weir_lane_ids(bench.lane) < 300, "those that would be too late are forgotten: %llu",
              (unsigned long long)weir_lane_ids(bench.lane));
    weir_lane_free(bench.lane);
    take(&bench);
    cr_assert_eq(send_two(&bench, sequence++, 309, base + 309 * WEIR_MINUTE, 5, false), WEIR_OUTCOME_COUNTED,
                 "it must be told again");
    tear_down(&bench);
}

Test(lane, that_knows_of_more_than_it_has_room_for_says_so)
{
    struct weir_lane_settings small = defaults;
    small.ids_max = 2;
    struct bench bench = set_up(&small);

    cr_assert_eq(know(&bench, 1, base, 5, false), WEIR_OK);
    cr_assert_eq(know(&bench, 2, base, 5, false), WEIR_OK);
    cr_assert_eq(know(&bench, 2, base, 5, false), WEIR_OK);
    cr_assert_eq(know(&bench, 3, base, 5, false), WEIR_REJECT);
    tear_down(&bench);
}

/* For as long as an event is accepted at all, a resend of it is known. */
Test(lane, remembers_ids_for_as_long_as_resends_are_accepted)
{
    struct bench bench = set_up(&defaults);
    int64_t sequence = 0;

    for (int i = 0; i < 400; i++) {
        int64_t time = base + i * WEIR_MINUTE;
        cr_assert_eq(send(&bench, sequence++, i, 1, time, 1, 1, 1), WEIR_OUTCOME_COUNTED);
        flush(&bench);
        for (int back = 0; back <= i; back++) {
            int64_t old = base + back * WEIR_MINUTE;
            if (weir_lane_check_time(bench.lane, old, time, &bench.rejection) == WEIR_OK)
                cr_assert_eq(send(&bench, sequence++, back, 1, old, 1, 1, 1), WEIR_OUTCOME_DUPLICATE);
        }
    }
    cr_assert(weir_lane_ids(bench.lane) < 80, "older ones are forgotten: %llu",
              (unsigned long long)weir_lane_ids(bench.lane));
    cr_assert(weir_lane_windows(bench.lane) < 200, "and their windows");
    tear_down(&bench);
}

Test(lane, closes_by_watermark_and_by_the_clock)
{
    struct bench bench = set_up(&defaults);

    send(&bench, 0, 1, 1, base, 1, 1, 1);
    send(&bench, 1, 2, 1, base + 69 * WEIR_SECOND, 1, 1, 1);
    flush(&bench);
    cr_assert_eq(look(&bench).closed, 0, "the first minute's end is not passed by 59 s");
    send(&bench, 2, 3, 1, base + 70 * WEIR_SECOND, 1, 1, 1);
    flush(&bench);
    cr_assert_eq(look(&bench).closed, 1);
    weir_lane_idle(bench.lane, base + 2 * WEIR_HOUR + WEIR_MINUTE);
    flush(&bench);
    struct found found = look(&bench);
    cr_assert_eq(found.closed, found.windows);
    cr_assert_eq(send(&bench, 3, 4, 1, base + WEIR_HOUR + 30 * WEIR_MINUTE, 1, 1, 1), WEIR_OUTCOME_COUNTED);
    flush(&bench);
    struct found late = look(&bench);
    cr_assert_eq(late.closed, late.windows, "a late event's window is closed at once");
    tear_down(&bench);
}

Test(lane, limits_leave_it_as_it_was)
{
    struct weir_lane_settings small = defaults;
    small.windows_max = 5;
    small.ids_max = 4; /* three, and one text of the unique meter */
    struct bench bench = set_up(&small);

    cr_assert_eq(send(&bench, 0, 1, 1, base, 1, 1, 1), WEIR_OUTCOME_COUNTED);
    cr_assert_eq(send(&bench, 1, 2, 2, base, 1, 1, 1), WEIR_OUTCOME_FULL, "three more windows would be six");
    cr_assert_eq(weir_lane_windows(bench.lane), 3);
    cr_assert_eq(send(&bench, 1, 3, 1, base, 1, 1, 1), WEIR_OUTCOME_COUNTED);
    cr_assert_eq(send(&bench, 2, 4, 1, base, 1, 1, 1), WEIR_OUTCOME_COUNTED);
    cr_assert_eq(send(&bench, 3, 5, 1, base, 1, 1, 1), WEIR_OUTCOME_FULL, "a fourth id");
    cr_assert_eq(weir_lane_state(bench.lane)->next_offset, 3);
    cr_assert_eq(weir_lane_state(bench.lane)->counts.read, 3);
    tear_down(&bench);
}

/* A lane of admitted events: of any age, each once for ever, in windows that are closed as soon as they are made. */
Test(lane, that_keeps_all)
{
    struct weir_lane_settings settings = defaults;
    struct weir_rejection why;
    settings.keeps_all = true;
    settings.lateness = settings.retention = 0;
    struct bench bench = set_up(&settings);

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 50; i++) { /* a year back, event by event */
            int64_t time = base - i * 7 * WEIR_DAY, sequence = round * 50 + i;
            cr_assert_eq(weir_lane_check_time(bench.lane, time, base, &why), WEIR_OK);
            cr_assert_eq(send(&bench, sequence, i, i % 3, time, 1, 0, 0),
                         round ? WEIR_OUTCOME_DUPLICATE : WEIR_OUTCOME_COUNTED);
        }
        weir_lane_idle(bench.lane, base + WEIR_DAY * round);
        flush(&bench);
        cr_assert_eq(bench.sealed->cut.forget_ids_below, 0);
        cr_assert_eq(bench.sealed->cut.forget_windows_below, 0);
        struct found found = look(&bench);
        cr_assert_eq(found.events, 50);
        cr_assert_eq(found.closed, found.windows);
        weir_lane_free(bench.lane); /* and taken again */
        take(&bench);
        cr_assert_eq(weir_lane_ids(bench.lane), 100, "and each window one text");
    }
    cr_assert_eq(weir_lane_check_time(bench.lane, base + 2 * WEIR_MINUTE, base, &why), WEIR_REJECT);
    cr_assert_eq(why.reason, WEIR_REASON_TOO_EARLY);
    tear_down(&bench);
}

/* 2. retraction */
Test(lane, a_retraction_takes_its_event_out_in_whatever_order_they_come)
{
    struct bench event_first = set_up(&defaults), ahead = set_up(&defaults);

    cr_assert_eq(send_two(&event_first, 0, 1, base, 5, false), WEIR_OUTCOME_COUNTED);
    cr_assert_eq(send_two(&event_first, 1, 4, base, 7, false), WEIR_OUTCOME_COUNTED);
    cr_assert_eq(send_two(&event_first, 2, 1, base, 5, true), WEIR_OUTCOME_RETRACTED);
    cr_assert_eq(send_two(&ahead, 0, 1, base, 5, true), WEIR_OUTCOME_RETRACTED);
    cr_assert_eq(send_two(&ahead, 1, 1, base, 5, false), WEIR_OUTCOME_DUPLICATE);
    cr_assert_eq(send_two(&ahead, 2, 4, base, 7, false), WEIR_OUTCOME_COUNTED);
    for (int64_t i = 3; i < 7; i++) { /* resends of either, before and after the lane is taken again */
        cr_assert_eq(send_two(&event_first, i, 1, base, 5, i % 2), WEIR_OUTCOME_DUPLICATE);
        cr_assert_eq(send_two(&ahead, i, 1, base, 5, i % 2), WEIR_OUTCOME_DUPLICATE);
        flush(&event_first);
        flush(&ahead);
        weir_lane_free(event_first.lane);
        weir_lane_free(ahead.lane);
        take(&event_first);
        take(&ahead);
    }
    struct found a = look(&event_first), b = look(&ahead);
    cr_assert_eq(a.events, 1);
    cr_assert_eq(a.retracted, 1);
    cr_assert_eq(weir_decimal_compare(a.sum, weir_decimal_of(7)), 0);
    cr_assert(a.digest == b.digest && a.windows == b.windows, "every total is the same");
    const struct weir_lane_state *left = weir_lane_state(event_first.lane), *right = weir_lane_state(ahead.lane);
    cr_assert(left->first_time == right->first_time && left->last_time == right->last_time);
    cr_assert(left->counts.counted == 2 && left->counts.retracted == 1 && left->counts.duplicate == 4);
    cr_assert(right->counts.counted == 1 && right->counts.retracted == 1 && right->counts.duplicate == 5);
    cr_assert_eq(left->counts.read, 7);
    tear_down(&event_first);
    tear_down(&ahead);
}

Test(lane, a_retraction_that_does_not_fit_is_refused)
{
    struct bench bench = set_up(&defaults);

    cr_assert_eq(send_two(&bench, 0, 1, base, 5, false), WEIR_OUTCOME_COUNTED);
    flush(&bench);
    struct found before = look(&bench);
    cr_assert_eq(send_two(&bench, 1, 1, base, 6, true), WEIR_OUTCOME_REJECTED, "other data");
    cr_assert_eq(bench.rejection.reason, WEIR_REASON_CONFLICT);
    cr_assert_eq(send_two(&bench, 2, 1, base + 1, 5, true), WEIR_OUTCOME_REJECTED, "another time");
    cr_assert_eq(bench.rejection.reason, WEIR_REASON_RETRACTION_DIFFERS);
    cr_assert_eq(offer(&bench, 3, 1, 1, base, 5, 1, 0, 1, true), WEIR_OUTCOME_REJECTED, "one meter is gone");
    cr_assert_eq(bench.rejection.reason, WEIR_REASON_RETRACTION_DIFFERS);
    cr_assert_eq(offer(&bench, 4, 1, 1, base, 5, 1, 0, 3, true), WEIR_OUTCOME_REJECTED, "one cannot");
    cr_assert_eq(bench.rejection.reason, WEIR_REASON_NOT_RETRACTABLE);
    cr_assert_eq(offer(&bench, 5, 2, 1, base, 5, 1, 0, 3, true), WEIR_OUTCOME_REJECTED, "nor ahead");
    cr_assert_eq(bench.rejection.reason, WEIR_REASON_NOT_RETRACTABLE);
    flush(&bench);
    cr_assert_eq(look(&bench).digest, before.digest);
    cr_assert_eq(send_two(&bench, 6, 7, base, 5, true), WEIR_OUTCOME_RETRACTED);
    cr_assert_eq(send_two(&bench, 7, 7, base + 1, 5, false), WEIR_OUTCOME_REJECTED, "not the event that was voided");
    cr_assert_eq(bench.rejection.reason, WEIR_REASON_RETRACTION_DIFFERS);
    cr_assert_eq(send_two(&bench, 8, 1, base, 5, true), WEIR_OUTCOME_RETRACTED, "and the right one is still taken");
    cr_assert_eq(weir_lane_state(bench.lane)->counts.quarantined, 6);
    tear_down(&bench);
}

/* Events and retractions, each any number of times, in any order, with crashes between: what is left is what was not
 * retracted, to the last total. */
Test(lane, what_is_left_is_what_was_not_retracted)
{
    enum { IDS = 700, SENT = 4 * IDS };
    struct message {
        int id;
        bool is_retraction;
    } sent[SENT];
    struct bench bench = set_up(&defaults);
    bool is_retracted[IDS] = {false}, is_sent[IDS] = {false};
    uint64_t events = 0, retracted = 0;
    int64_t sum = 0;

    srand(5);
    for (int i = 0; i < SENT; i++) {
        sent[i] = (struct message){rand() % IDS, rand() % 6 == 0};
        is_retracted[sent[i].id] |= sent[i].is_retraction;
        is_sent[sent[i].id] = true;
    }
    for (int i = 0; i < IDS; i++) {
        events += is_sent[i] && !is_retracted[i];
        retracted += is_retracted[i];
        sum += is_sent[i] && !is_retracted[i] ? i % 100 : 0;
    }
    for (int64_t i = 0; i < SENT; i++) {
        if (rand() % 97 == 0) {
            weir_lane_free(bench.lane);
            take(&bench);
            i = weir_lane_state(bench.lane)->next_offset < 0 ? 0 : weir_lane_state(bench.lane)->next_offset;
        }
        int64_t time = base + sent[i].id * 3 * WEIR_SECOND; /* 35 minutes: within the lateness */
        enum weir_outcome outcome = send_two(&bench, i, sent[i].id, time, sent[i].id % 100, sent[i].is_retraction);
        cr_assert_neq(outcome, WEIR_OUTCOME_REJECTED, "%s", bench.rejection.detail);
        if (rand() % 53 == 0)
            flush(&bench);
    }
    flush(&bench);
    struct found found = look(&bench);
    cr_assert_eq(found.events, events);
    cr_assert_eq(found.retracted, retracted);
    cr_assert_eq(weir_decimal_compare(found.sum, weir_decimal_of(sum)), 0);
    cr_assert_eq(weir_lane_state(bench.lane)->counts.retracted, retracted);
    tear_down(&bench);
}

/* As the ids of counted events: for as long as a retraction or its event is accepted at all, the void id is known. */
Test(lane, remembers_void_ids_for_as_long_as_resends_are_accepted)
{
    struct bench bench = set_up(&defaults);
    int64_t sequence = 0;

    for (int i = 0; i < 300; i++) {
        int64_t time = base + i * WEIR_MINUTE;
        cr_assert_eq(send_two(&bench, sequence++, i, time, 1, i % 2),
                     i % 2 ? WEIR_OUTCOME_RETRACTED : WEIR_OUTCOME_COUNTED);
        int old = i - i % 40; /* even: counted; voided when it is up to 39 minutes old */
        if (i % 40 == 39)
            cr_assert_eq(send_two(&bench, sequence++, old, base + old * WEIR_MINUTE, 1, true), WEIR_OUTCOME_RETRACTED);
        if (i % 3 == 0)
            flush(&bench);
        for (int back = 0; back <= i; back++)
            if (weir_lane_check_time(bench.lane, base + back * WEIR_MINUTE, time, &bench.rejection) == WEIR_OK)
                cr_assert_eq(send_two(&bench, sequence++, back, base + back * WEIR_MINUTE, 1, false),
                             WEIR_OUTCOME_DUPLICATE);
    }
    cr_assert(weir_lane_ids(bench.lane) < 90, "older ones are forgotten: %llu",
              (unsigned long long)weir_lane_ids(bench.lane));
    tear_down(&bench);
}

/* 3. retractable meters that keep their events */
static const char keeping_json[] =
    "{\"meters\":["
    "{\"key\":\"h\",\"event_type\":\"t\",\"aggregation\":\"max\",\"value\":\"data.v\",\"window\":\"5m\","
    "\"retractable\":true},"
    "{\"key\":\"l\",\"event_type\":\"t\",\"aggregation\":\"min\",\"value\":\"data.v\",\"window\":\"1h\","
    "\"retractable\":true},"
    "{\"key\":\"n\",\"event_type\":\"t\",\"aggregation\":\"latest\",\"value\":\"data.v\",\"window\":\"15m\","
    "\"retractable\":true},"
    "{\"key\":\"u\",\"event_type\":\"t\",\"aggregation\":\"unique\",\"value\":\"data.u\",\"window\":\"1h\","
    "\"retractable\":true}]}";

static struct bench set_up_keeping(void)
{
    struct bench bench = {.store = weir_store_memory_new(), .sealed = weir_sealed_cut_new(), .settings = defaults};
    struct weir_mistake_list mistakes = {0};
    cr_assert_eq(weir_catalog_parse("test", keeping_json, sizeof keeping_json - 1, &bench.catalog, &mistakes), WEIR_OK);
    take(&bench);
    return bench;
}

/* Values of all windows that have events, as one number; an emptied window must look as if it were new. */
static void add_value(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    struct weir_window_total total = window->total;
    unsigned char bytes[WEIR_WINDOW_TOTAL_BYTES];

    (void)is_closed, (void)has_work;
    if (weir_series_is_tally(window->series_key))
        return;
    total.retracted = 0;
    weir_window_total_store(&total, bytes);
    if (total.events == 0)
        cr_assert(total.value.e12 == 0 && total.latest_time == 0 && total.latest_offset == 0);
    else
        *(uint64_t *)context +=
            weir_hash64(bytes, sizeof bytes,
                        weir_hash64(window->series_key.data, window->series_key.length, (uint64_t)window->start));
}

static void assert_same_values(struct bench *a, struct bench *b)
{
    uint64_t left = 0, right = 0;
    struct weir_error error;
    a->store->ops->scan_windows(a->store, weir_slice_text("events:0"), add_value, &left, &error);
    b->store->ops->scan_windows(b->store, weir_slice_text("events:0"), add_value, &right, &error);
    cr_assert_eq(left, right);
    cr_assert_neq(left, 0);
}

/* Event `id`: its value, text and time follow from it, with many alike. */
static enum weir_outcome send_kept(struct bench *bench, int64_t sequence, int id, bool is_retraction)
{
    char name[16], text[16];
    struct weir_reading readings[4] = {{.meter = 0}, {.meter = 1}, {.meter = 2}, {.meter = 3}};
    struct weir_event event = {.time = base + id / 5 % 300 * 10 * WEIR_SECOND,
                               .source = weir_slice_text("src"),
                               .type = weir_slice_text("t"),
                               .subject = weir_slice_text("c"),
                               .is_retraction = is_retraction};
    struct weir_lane_hashes hashes;

    snprintf(name, sizeof name, "id%d", id);
    snprintf(text, sizeof text, "u%d", id % 11);
    event.id = event.data = weir_slice_text(name);
    for (int i = 0; i < 3; i++)
        readings[i].value = weir_decimal_of(id * 7 % 50 - 20);
    readings[3].unique_text = weir_slice_text(text);
    weir_lane_hash(bench->lane, &event, readings, 4, &hashes);
    return weir_lane_take(bench->lane, &event, readings, 4, &hashes, sequence, &bench->rejection);
}

/* Events and retractions in any order, with crashes between. A second lane gets only what is left, in the order in
 * which it was counted: every value of every window is the same. */
Test(lane, kept_events_leave_what_they_would_have_left)
{
    enum { IDS = 900, SENT = 3 * IDS };
    struct message {
        int id;
        bool is_retraction;
    } sent[SENT];
    struct bench bench = set_up_keeping(), rest = set_up_keeping();
    bool is_retracted[IDS] = {false};
    uint64_t retracted = 0;

    srand(3);
    for (int i = 0; i < SENT; i++) {
        sent[i] = (struct message){rand() % IDS, rand() % 3 == 0};
        is_retracted[sent[i].id] |= sent[i].is_retraction;
    }
    for (int i = 0; i < IDS; i++)
        retracted += is_retracted[i];
    for (int64_t i = 0; i < SENT; i++) {
        if (rand() % 97 == 0) {
            weir_lane_free(bench.lane);
            take(&bench);
            i = weir_lane_state(bench.lane)->next_offset < 0 ? 0 : weir_lane_state(bench.lane)->next_offset;
        }
        cr_assert_neq(send_kept(&bench, i, sent[i].id, sent[i].is_retraction), WEIR_OUTCOME_REJECTED, "%s",
                      bench.rejection.detail);
        if (rand() % 53 == 0)
            flush(&bench);
    }
    for (int64_t i = 0; i < SENT; i++) {
        if (is_retracted[sent[i].id])
            weir_lane_skip_to(rest.lane, i + 1);
        else
            cr_assert_neq(send_kept(&rest, i, sent[i].id, false), WEIR_OUTCOME_REJECTED);
    }
    flush(&bench);
    flush(&rest);
    cr_assert_eq(weir_lane_state(bench.lane)->counts.retracted, retracted);
    assert_same_values(&bench, &rest);
    tear_down(&bench);
    tear_down(&rest);
}

/* 4. events that are refused */
static const char adding_json[] =
    "{\"meters\":["
    "{\"key\":\"a\",\"event_type\":\"t\",\"aggregation\":\"max\",\"value\":\"data.v\",\"window\":\"1m\","
    "\"retractable\":true},"
    "{\"key\":\"c\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1m\",\"group_by\":[\"g\"]},"
    "{\"key\":\"t\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.v\",\"window\":\"15m\"},"
    "{\"key\":\"l\",\"event_type\":\"t\",\"aggregation\":\"max\",\"value\":\"data.v\",\"window\":\"5m\","
    "\"retractable\":true},"
    "{\"key\":\"m\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"5m\"},"
    "{\"key\":\"v\",\"event_type\":\"t\",\"aggregation\":\"avg\",\"value\":\"data.v\",\"window\":\"1h\",\"group_by\":["
    "\"g\"]}]}";
enum { ADDING = 6 };

static struct bench set_up_adding(const struct weir_lane_settings *settings)
{
    struct bench bench = {.store = weir_store_memory_new(), .sealed = weir_sealed_cut_new(), .settings = *settings};
    struct weir_mistake_list mistakes = {0};

    cr_assert_eq(weir_catalog_parse("test", adding_json, sizeof adding_json - 1, &bench.catalog, &mistakes), WEIR_OK);
    if (settings->is_bounded)
        bench.lane = weir_lane_new(bench.catalog, weir_slice_text("files:0"), settings);
    else
        take(&bench);
    return bench;
}

struct adding {
    int id, customer, group;
    int64_t time;
    struct weir_decimal value;
    bool is_retraction;
};

/* Values are tenths of what fits, or small; an id that was refused comes again with what it fits with. */
static struct adding draw_adding(uint64_t *seed, int64_t time, int ids)
{
    struct adding adding = {.id = (int)(next_random(seed) % (uint64_t)ids),
                            .customer = (int)(next_random(seed) % 4),
                            .group = (int)(next_random(seed) % 3),
                            .time = time,
                            .is_retraction = next_random(seed) % 8 == 0};
    weir_int128 tenth = (weir_int128)1 << 123;

    adding.value.e12 =
        next_random(seed) % 3 ? tenth * (weir_int128)(next_random(seed) % 6) : (weir_int128)(next_random(seed) % 100);
    return adding;
}

static enum weir_outcome send_adding(struct bench *bench, int64_t sequence, const struct adding *adding)
{
    struct weir_reading readings[ADDING];
    char id[16], customer[16], group[16], data[32];
    struct weir_lane_hashes hashes;

    snprintf(id, sizeof id, "id%d", adding->id);
    snprintf(customer, sizeof customer, "c%d", adding->customer);
    snprintf(group, sizeof group, "g%d", adding->group);
    snprintf(data, sizeof data, "{%d}", adding->group); /* most of an id are one event */
    struct weir_event event = {.time = adding->time,
                               .source = weir_slice_text("src"),
                               .type = weir_slice_text("t"),
                               .id = weir_slice_text(id),
                               .subject = weir_slice_text(customer),
                               .data = weir_slice_text(data),
                               .is_retraction = adding->is_retraction};
    memset(readings, 0, sizeof readings);
    for (uint32_t i = 0; i < ADDING; i++) {
        readings[i].meter = i;
        readings[i].value = adding->value;
        readings[i].dimensions[0] = weir_slice_text(group);
    }
    weir_lane_hash(bench->lane, &event, readings, ADDING, &hashes);
    return weir_lane_take(bench->lane, &event, readings, ADDING, &hashes, sequence, &bench->rejection);
}

static void must_not_be_empty(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    (void)is_closed, (void)has_work, (void)context;
    if (!weir_series_is_tally(window->series_key))
        cr_assert_gt(window->total.events + window->total.retracted, 0);
}

static void assert_same_windows(struct bench *all, struct bench *rest)
{
    struct found a = look(all), b = look(rest);
    struct weir_error error;

    cr_assert(a.digest == b.digest && a.windows == b.windows && a.closed == b.closed);
    cr_assert_eq(weir_lane_windows(all->lane), weir_lane_windows(rest->lane));
    cr_assert_eq(weir_lane_ids(all->lane), weir_lane_ids(rest->lane));
    cr_assert_eq(
        all->store->ops->scan_windows(all->store, weir_slice_text("events:0"), must_not_be_empty, NULL, &error),
        WEIR_OK);
}

/* A second lane gets only what the first one has not refused: at every cut all windows are the same, and those that an
 * event was refused for leave no others behind, whatever is closed, forgotten or loaded meanwhile. */
Test(lane, an_event_that_is_refused_leaves_nothing)
{
    enum { SEEDS = 24, SENT = 1500 };
    struct weir_lane_settings settings = defaults;
    uint64_t refused = 0, counted = 0, retracted = 0;

    settings.close_least = 2;
    settings.round_least = 5;
    settings.lateness = settings.retention = 20 * WEIR_MINUTE;
    for (uint64_t number = 1; number <= SEEDS; number++) {
        uint64_t seed = number;
        struct bench all = set_up_adding(&settings), rest = set_up_adding(&settings);
        for (int64_t i = 0; i < SENT; i++) {
            int64_t back = (int64_t)(next_random(&seed) % (number % 2 ? 900 : 90));
            struct adding adding = draw_adding(&seed, base + (i * 5 - back) * WEIR_SECOND, SENT / 2);
            if (weir_lane_check_time(all.lane, adding.time, adding.time, &all.rejection) != WEIR_OK)
                continue;
            enum weir_outcome outcome = send_adding(&all, i, &adding);
            refused += outcome == WEIR_OUTCOME_REJECTED && all.rejection.reason == WEIR_REASON_NUMBER_RANGE;
            counted += outcome == WEIR_OUTCOME_COUNTED;
            retracted += outcome == WEIR_OUTCOME_RETRACTED;
            if (outcome != WEIR_OUTCOME_REJECTED)
                cr_assert_eq(send_adding(&rest, i, &adding), outcome);
            if (next_random(&seed) % 29 == 0) {
                flush(&all);
                flush(&rest);
                assert_same_windows(&all, &rest);
            }
            if (next_random(&seed) % 299 == 0) {
                flush(&all);
                flush(&rest);
                weir_lane_free(all.lane);
                weir_lane_free(rest.lane);
                take(&all);
                take(&rest);
            }
        }
        flush(&all);
        flush(&rest);
        assert_same_windows(&all, &rest);
        tear_down(&all);
        tear_down(&rest);
    }
    cr_assert(refused > 2000 && counted > 5000 && retracted > 500, "%d refused, %d counted, %d retracted", (int)refused,
              (int)counted, (int)retracted);
}

static uint64_t drain_digest(struct bench *bench, uint64_t *ret_windows)
{
    struct weir_window windows[64];
    uint64_t digest = 0;
    bool is_whole;

    *ret_windows = 0;
    for (size_t count; (count = weir_lane_drain(bench->lane, 64, windows, &is_whole)) > 0; *ret_windows += count)
        for (size_t i = 0; i < count; i++) {
            unsigned char total[WEIR_WINDOW_TOTAL_BYTES];
            cr_assert_gt(windows[i].total.events + windows[i].total.retracted, 0);
            weir_window_total_store(&windows[i].total, total);
            digest += weir_hash64(
                total, sizeof total,
                weir_hash64(windows[i].series_key.data, windows[i].series_key.length, (uint64_t)windows[i].start));
        }
    return digest;
}

/* The same where windows are linked by time, and put into an index while events come. */
Test(lane, an_event_that_is_refused_leaves_nothing_of_bounded_input)
{
    enum { SEEDS = 40 };
    struct weir_lane_settings settings = defaults;
    uint64_t refused = 0;

    settings.is_bounded = true;
    for (uint64_t number = 1; number <= SEEDS; number++) {
        uint64_t seed = number, windows, others;
        int64_t sent = 500 + (int64_t)number * 150, step = number % 3 ? 20 : -20;
        struct bench all = set_up_adding(&settings), rest = set_up_adding(&settings);
        for (int64_t i = 0; i < sent; i++) {
            int64_t back = (int64_t)(next_random(&seed) % (number % 2 ? 90 : 36000));
            struct adding adding = draw_adding(&seed, base + (i * step - back) * WEIR_SECOND, (int)sent);
            enum weir_outcome outcome = send_adding(&all, i, &adding);
            refused += outcome == WEIR_OUTCOME_REJECTED && all.rejection.reason == WEIR_REASON_NUMBER_RANGE;
            if (outcome != WEIR_OUTCOME_REJECTED)
                cr_assert_eq(send_adding(&rest, i, &adding), outcome);
        }
        cr_assert_eq(weir_lane_windows(all.lane), weir_lane_windows(rest.lane));
        cr_assert_eq(drain_digest(&all, &windows), drain_digest(&rest, &others));
        cr_assert_eq(windows, others);
        tear_down(&all);
        tear_down(&rest);
    }
    cr_assert_gt(refused, 2000);
}

/* A unique window may live longer than the ids of its events: its texts are bounded by themselves. */
Test(lane, texts_of_unique_windows_are_bounded_with_the_ids)
{
    struct weir_lane_settings small = defaults;
    struct weir_error error;
    small.ids_max = 20;
    struct bench bench = set_up(&small);

    for (int i = 0; i < 10; i++)
        cr_assert_eq(send(&bench, i, i, 1, base, 1, 1, i), WEIR_OUTCOME_COUNTED);
    cr_assert_eq(weir_lane_ids(bench.lane), 20);
    cr_assert_eq(send(&bench, 10, 10, 1, base, 1, 1, 1), WEIR_OUTCOME_FULL);
    cr_assert_eq(send(&bench, 10, 3, 1, base, 1, 1, 3), WEIR_OUTCOME_DUPLICATE, "what takes no room goes on");
    flush(&bench);
    weir_lane_free(bench.lane);
    take(&bench); /* and so it fits again */
    cr_assert_eq(weir_lane_ids(bench.lane), 20);
    struct weir_lane_state state = *weir_lane_state(bench.lane);
    weir_lane_free(bench.lane);
    small.ids_max = 19;
    bench.lane = weir_lane_new(bench.catalog, weir_slice_text("events:0"), &small);
    struct weir_lane_loader loader = weir_lane_loader(bench.lane);
    cr_assert_eq(
        bench.store->ops->take_lane(bench.store, weir_slice_text("events:0"), state.secret, &loader, &state, &error),
        WEIR_OK);
    cr_assert_eq(weir_lane_start(bench.lane, &state, &error), WEIR_REJECT);
    cr_assert(strstr(error.text, "leave of lane_windows_max (100000) and lane_ids_max (19)"), "%s", error.text);
    tear_down(&bench);
}

/* Something else wrote into the store, or it is damaged: nobody's window is no reason to keep the lane from being
 * taken. */
Test(lane, a_window_that_is_nobodys_is_left_where_it_is)
{
    struct weir_lane_settings settings = defaults;
    struct bench bench = set_up(&settings);
    struct weir_window window = {
        .series_key = weir_slice_of("\xff\xffnobody", 8), .start = base, .end = base + WEIR_HOUR};
    struct weir_error error;

    cr_assert_eq(send(&bench, 0, 0, 1, base, 1, 1, 0), WEIR_OUTCOME_COUNTED);
    flush(&bench);
    uint64_t windows = weir_lane_windows(bench.lane);
    weir_lane_free(bench.lane);
    bench.lane = weir_lane_new(bench.catalog, weir_slice_text("events:0"), &settings);
    struct weir_lane_loader loader = weir_lane_loader(bench.lane);
    struct weir_lane_state state;
    loader.window(loader.context, &window, false, (struct weir_slice){0});
    cr_assert_eq(bench.store->ops->take_lane(bench.store, weir_slice_text("events:0"),
                                             (const unsigned char *)"a secret of thirty-two bytes...", &loader, &state,
                                             &error),
                 WEIR_OK);
    cr_assert_eq(weir_lane_start(bench.lane, &state, &error), WEIR_OK);
    cr_expect_eq(weir_lane_unreadable(bench.lane), 1);
    cr_expect_eq(weir_lane_windows(bench.lane), windows);
    cr_expect_eq(send(&bench, 1, 0, 1, base, 1, 1, 0), WEIR_OUTCOME_DUPLICATE);
    tear_down(&bench);
}
