/* How long a worker that was killed takes to count again, with much in its lanes' cuts. See about[]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "aggregator/window_store.h"
#include "benchmarks/measure.h"
#include "benchmarks/process.h"
#include "common/calendar.h"
#include "common/hash.h"

enum { PARTITIONS = 4, IDS_A_CUT = 500000, WINDOWS_A_CUT = 50000, PATIENCE_SECONDS = 120 };

static const char about[] =
    "Writes cuts with so many ids and open windows to four lanes, starts a real `weir ingest`, kills it (-9), sends "
    "an\n"
    "event to each partition and starts a worker again: until Redis holds the first of them. Once as it comes, where "
    "the\n"
    "group waits for the dead member until session.timeout.ms (10 s here) is over; once with group.instance.id, by "
    "which\n"
    "the group knows the new process for the old one. Needs WEIR_KAFKA_BROKERS and WEIR_REDIS_URL.";

static struct weir_topic topic = {.partitions = PARTITIONS, .codec = "lz4"};
static uint64_t ids = 10000000, windows = 1000000;
static int64_t end; /* of each partition */
static redisContext *redis;
static const char *url;

static void must(enum weir_status status, const struct weir_error *error)
{
    if (status != WEIR_OK)
        weir_measure_die("%s", error->text);
}

/* 1. Cuts. */

/* Window number n of the lane, open: it ends in an hour. */
static struct weir_window window_of(uint64_t n, int64_t now, char key[WEIR_SERIES_KEY_MAX])
{
    char customer[32];
    int length = snprintf(customer, sizeof customer, "customer-%08llu", (unsigned long long)n);
    struct weir_series series = {.meter = weir_slice_text("requests"),
                                 .customer = weir_slice_of(customer, (size_t)length)};
    int64_t start = now / WEIR_HOUR * WEIR_HOUR;

    return (struct weir_window){.series_key = weir_slice_of(key, weir_series_write(&series, key)),
                                .start = start,
                                .end = start + WEIR_HOUR,
                                .total = {.events = 1}};
}

static void write_lane(struct weir_window_store *store, int32_t partition)
{
    static struct weir_cut_window cut_windows[WINDOWS_A_CUT];
    static char keys[WINDOWS_A_CUT][64], marks[(size_t)IDS_A_CUT * WEIR_ID_BYTES], key[WEIR_SERIES_KEY_MAX];
    const unsigned char secret[WEIR_LANE_SECRET_BYTES] = "benchmark";
    char name[128];
    struct weir_lane_state state;
    struct weir_error error;
    int64_t now = weir_time_now();
    uint64_t ids_left = ids / PARTITIONS, windows_left = windows / PARTITIONS, made = 0;

    snprintf(name, sizeof name, "%s:%d", topic.name, partition);
    must(store->ops->take_lane(store, weir_slice_text(name), secret, NULL, &state, &error), &error);
    while (ids_left > 0 || windows_left > 0) {
        struct weir_cut cut = {.lane = weir_slice_text(name), .expected_offset = state.next_offset};
        uint64_t count = ids_left < IDS_A_CUT ? ids_left : IDS_A_CUT;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t number = ids_left - i;
            weir_id_store(weir_hash64(&number, sizeof number, (uint64_t)partition),
                          &(struct weir_id_mark){.content = (uint32_t)i}, marks + i * WEIR_ID_BYTES);
        }
        struct weir_cut_ids run = {now / WEIR_MINUTE, weir_slice_of(marks, count * WEIR_ID_BYTES)};
        cut.ids = &run;
        cut.ids_count = count > 0;
        ids_left -= count;
        for (; cut.window_count < WINDOWS_A_CUT && windows_left > 0; windows_left--) {
            struct weir_window window = window_of(made++, now, key);
            weir_check(window.series_key.length <= sizeof keys[0]);
            memcpy(keys[cut.window_count], key, window.series_key.length);
            window.series_key.data = keys[cut.window_count];
            cut_windows[cut.window_count++] = (struct weir_cut_window){.window = window};
        }
        cut.windows = cut_windows;
        state.next_offset = end;
        state.stamp = -1;
        state.high = now;
        state.watermark = now - WEIR_MINUTE;
        state.first_time = state.last_time = now;
        state.counts.read = state.counts.counted = ids / PARTITIONS;
        cut.state = state;
        must(store->ops->write_cut(store, &cut, &error), &error);
    }
}

/* 2. Events of now. */

static void send_one_each(void)
{
    static uint64_t serial;
    rd_kafka_topic_t *of;
    rd_kafka_t *producer = weir_topic_producer(&topic, "0", NULL, &of);
    char event[512], time_text[WEIR_TIME_TEXT_MAX];

    weir_time_format(weir_time_now(), time_text);
    for (int32_t i = 0; i < PARTITIONS; i++) {
        int length = snprintf(event, sizeof event,
                              "{\"specversion\":\"1.0\",\"id\":\"resume-%llu\",\"source\":\"benchmark\",\"type\":\"api."
                              "request\",\"subject\":\"customer-%d\",\"time\":\"%s\",\"data\":{\"path\":\"/\","
                              "\"millis\":1}}",
                              (unsigned long long)++serial, i, time_text);
        weir_topic_send(producer, of, i, event, (size_t)length, NULL);
    }
    weir_topic_producer_end(producer, of);
    end++;
}

/* Until a lane (all: every lane) stands in Redis as far as the topic goes. */
static double wait_for_lanes(struct weir_took start, bool all)
{
    for (;;) {
        int there = 0;
        for (int32_t i = 0; i < PARTITIONS; i++)
            there += weir_process_next_offset(redis, &topic, i) >= end;
        double took = weir_measure_since(start).wall;
        if (there >= (all ? PARTITIONS : 1))
            return took;
        if (took > PATIENCE_SECONDS)
            weir_measure_die("no event was counted within %d s", PATIENCE_SECONDS);
        usleep(1000);
    }
}

static void measure(const char *properties, struct weir_figure *first, struct weir_figure *every)
{
    pid_t worker = weir_process_start(&topic, url, properties);

    send_one_each();
    wait_for_lanes(weir_measure_now(), true);
    weir_process_kill(worker);
    struct weir_took start = weir_measure_now();
    worker = weir_process_start(&topic, url, properties);
    send_one_each();
    weir_figure_add(first, wait_for_lanes(start, false), 0);
    weir_figure_add(every, wait_for_lanes(start, true), 0);
    weir_process_end(worker);
}

static void clean_up(void)
{
    weir_process_remove_lanes(redis, &topic);
    redisFree(redis);
    weir_topic_remove(&topic);
}

int main(int argc, char **argv)
{
    const struct weir_measure_program program = {
        .name = "resume",
        .about = about,
        .example = "--ids 10000000 --windows 1000000",
        .repetitions = 3,
        .options = {{"--ids", "N", "in the cuts of all four lanes (10000000; smoke 20000)", &ids, NULL},
                    {"--windows", "N", "open ones in them (1000000; smoke 2000)", &windows, NULL}}};
    struct weir_figure first = {.what = "kill -9 -> first new event, as it comes", .unit = "s"},
                       every = {.what = "the same, all four lanes", .unit = "s"},
                       known = {.what = "kill -9 -> first new event, group.instance.id", .unit = "s"},
                       known_every = {.what = "the same, all four lanes", .unit = "s"};
    struct weir_window_store *store;
    struct weir_error error;

    weir_measure_start(&program, argc, argv);
    if (weir_measure_is_smoke())
        ids = 20000, windows = 2000;
    topic.brokers = weir_measure_server("KAFKA_BROKERS");
    url = weir_measure_server("REDIS_URL");
    redis = weir_process_redis(url);
    must(weir_store_redis_open(url, &store, &error), &error);
    snprintf(topic.name, sizeof topic.name, "benchmark-resume-%d-%lld", (int)getpid(), (long long)time(NULL));
    weir_topic_create(&topic);
    weir_measure_at_end(clean_up);
    send_one_each();
    for (int32_t i = 0; i < PARTITIONS; i++)
        write_lane(store, i);
    for (int i = 0; i < weir_measure_repetitions(); i++) {
        measure("{\"group.instance.id\":\"benchmark\"}", &known, &known_every);
        if (!weir_measure_is_smoke()) /* the group waits for ten seconds, and tries nothing else */
            measure(NULL, &first, &every);
    }
    if (first.count > 0) {
        weir_measure_print(&first);
        weir_measure_print(&every);
    }
    weir_measure_print(&known);
    weir_measure_print(&known_every);
    weir_measure_target(
        &(struct weir_target){.what = "resume after kill -9, group.instance.id", .figure = &known, .at_most = 5});
    weir_window_store_free(store);
    return weir_measure_end();
}
