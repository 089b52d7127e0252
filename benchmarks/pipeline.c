/* `weir ingest` stage by stage beside bare librdkafka: Kafka to durable lane cuts in Redis. See about[].
 *
 * Each stage is made of the real functions; the whole is the ingest worker as the command runs it, between a source and
 * a store that look at the clock: from the first message that the source returns until the cuts in Redis cover the last
 * one. So joining the group is left out, and nothing else. Every stage's answer is checked against what the workload
 * made. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "benchmarks/measure.h"
#include "benchmarks/process.h"
#include "benchmarks/topic.h"
#include "benchmarks/way.h"
#include "cli/worker.h"
#include "common/calendar.h"
#include "common/log.h"
#include "ingest/decode.h"
#include "ingest/reading.h"

enum { SEED = 7, PARTITIONS = 4, REPEATED_PERMILLE = 10, LATE_PERMILLE = 10, PATIENCE_SECONDS = 180 };

static const char about[] =
    "Fills a topic once and reads it in turns: with bare librdkafka; with weir's source alone; and decoding; and "
    "counting\n"
    "into windows and ids (cuts are sealed and dropped); and writing the cuts to Redis, five times a second a lane.\n"
    "Needs WEIR_KAFKA_BROKERS and WEIR_REDIS_URL; makes a topic and lanes of its own and removes them again.";

static struct weir_topic topic = {.partitions = PARTITIONS, .codec = "lz4"};
static struct weir_workload_settings settings = {
    .seed = SEED, .repeated_permille = REPEATED_PERMILLE, .late_permille = LATE_PERMILLE};
static struct weir_workload_totals totals;
static struct weir_catalog *catalog;
static const char *redis_url;

/* 1. What the topic leaves behind. */

static void remove_lanes(void)
{
    redisContext *redis = weir_process_redis(redis_url);

    weir_process_remove_lanes(redis, &topic);
    redisFree(redis);
}

static void clean_up(void)
{
    remove_lanes();
    weir_topic_remove(&topic);
}

/* 2. The source alone, and with decoding. */

static bool take(void *context, struct weir_slice of, int32_t partition, int64_t *ret_offset, struct weir_error *reterr)
{
    (void)context, (void)of, (void)partition, (void)reterr;
    *ret_offset = 0;
    return true;
}

static void let_go(void *context, struct weir_slice of, int32_t partition, bool lost)
{
    (void)context, (void)of, (void)partition, (void)lost;
}

static struct weir_source *open_source(const struct weir_source_listener *listener)
{
    struct weir_kafka_settings kafka = {.brokers = topic.brokers, .topic = topic.name, .group = topic.name};
    struct weir_source *source;
    struct weir_error error;

    if (weir_source_kafka_open(&kafka, listener, &source, &error) != WEIR_OK)
        weir_measure_die("%s", error.text);
    return source;
}

static uint64_t decode_all(struct weir_decoder *decoder, struct weir_reader *reader,
                           const struct weir_message *messages, size_t count)
{
    static struct weir_reading readings[WEIR_METERS_MAX];
    struct weir_rejection rejection;
    uint64_t matched = 0;

    for (size_t i = 0; i < count; i++) {
        struct weir_event event;
        uint32_t found = 0;
        if (weir_decode(decoder, &messages[i], &event, &rejection) != WEIR_OK
            || weir_read_event(reader, &event, readings, &found, &rejection) != WEIR_OK)
            weir_measure_die("an event was refused: %s", rejection.detail);
        matched += found;
    }
    return matched;
}

static void run_source(struct weir_figure *figure, bool is_decoding)
{
    static struct weir_message messages[WEIR_POLL_MESSAGES_MAX];
    struct weir_source_listener listener = {.assigned = take, .revoked = let_go};
    struct weir_decoder *decoder = weir_decoder_new(catalog);
    struct weir_reader *reader = weir_reader_new(catalog);
    struct weir_source *source = open_source(&listener);
    struct weir_took start = weir_measure_now(), began = start;
    struct weir_error error;
    uint64_t events = 0, matched = 0;

    while (events < settings.events && weir_measure_since(began).wall < PATIENCE_SECONDS) {
        size_t count;
        if (source->ops->poll(source, 50, messages, WEIR_POLL_MESSAGES_MAX, &count, &error) != WEIR_OK)
            weir_measure_die("%s", error.text);
        if (events == 0 && count > 0)
            start = weir_measure_now();
        if (is_decoding)
            matched += decode_all(decoder, reader, messages, count);
        events += count;
    }
    weir_figure_add_rate(figure, (double)events, weir_measure_since(start));
    weir_source_free(source);
    weir_reader_free(reader);
    weir_decoder_free(decoder);
    if (events != settings.events || (is_decoding && matched < 2 * events))
        weir_measure_die("the source saw %llu events", (unsigned long long)events);
}

/* 3. The worker, between a source and a store that look at the clock. */

struct timed_source {
    struct weir_source source;
    struct weir_source *real;
    struct weir_took start; /* of the first message; before any cut, so the ring orders it for the writing thread */
    bool has_begun;
};

struct timed_store {
    struct weir_window_store store;
    struct weir_window_store *real; /* NULL: cuts are dropped */
    const struct timed_source *source;
    int64_t durable[PARTITIONS];
    struct weir_took took;
    uint64_t cuts, windows;
    _Atomic bool is_done;
};

static struct timed_source timed_source;
static struct timed_store timed_store;

static enum weir_status timed_poll(struct weir_source *self, int timeout_ms, struct weir_message *ret_messages,
                                   size_t max, size_t *ret_count, struct weir_error *reterr)
{
    struct timed_source *timed = (struct timed_source *)self;
    enum weir_status status = timed->real->ops->poll(timed->real, timeout_ms, ret_messages, max, ret_count, reterr);

    if (!timed->has_begun && *ret_count > 0) {
        timed->has_begun = true;
        timed->start = weir_measure_now();
    }
    return status;
}

#define REAL(self) (((struct timed_source *)(self))->real)
static void timed_pause(struct weir_source *self, int32_t partition)
{
    REAL(self)->ops->pause(REAL(self), partition);
}

static void timed_resume(struct weir_source *self, int32_t partition)
{
    REAL(self)->ops->resume(REAL(self), partition);
}

static enum weir_status timed_seek(struct weir_source *self, int32_t partition, int64_t offset,
                                   struct weir_error *reterr)
{
    return REAL(self)->ops->seek(REAL(self), partition, offset, reterr);
}

static void timed_mark_durable(struct weir_source *self, int32_t partition, int64_t next_offset)
{
    REAL(self)->ops->mark_durable(REAL(self), partition, next_offset);
}

static bool timed_is_caught_up(struct weir_source *self, int32_t partition)
{
    return REAL(self)->ops->is_caught_up(REAL(self), partition);
}

static int64_t timed_lag(struct weir_source *self, int32_t partition)
{
    return REAL(self)->ops->lag(REAL(self), partition);
}

static void timed_free(struct weir_source *self)
{
    weir_source_free(REAL(self));
}

static enum weir_status timed_take_lane(struct weir_window_store *self, struct weir_slice lane,
                                        const unsigned char secret[WEIR_LANE_SECRET_BYTES],
                                        const struct weir_lane_loader *loader, struct weir_lane_state *ret_state,
                                        struct weir_error *reterr)
{
    struct weir_window_store *real = ((struct timed_store *)self)->real;

    if (real)
        return real->ops->take_lane(real, lane, secret, loader, ret_state, reterr);
    *ret_state = (struct weir_lane_state){.epoch = 1, .next_offset = -1, .stamp = -1};
    memcpy(ret_state->secret, secret, WEIR_LANE_SECRET_BYTES);
    return WEIR_OK;
}

static enum weir_status timed_write_cut(struct weir_window_store *self, const struct weir_cut *cut,
                                        struct weir_error *reterr)
{
    struct timed_store *timed = (struct timed_store *)self;
    enum weir_status status = timed->real ? timed->real->ops->write_cut(timed->real, cut, reterr) : WEIR_OK;
    int partition = cut->lane.data[cut->lane.length - 1] - '0';
    int64_t all = 0;

    if (status != WEIR_OK)
        return status;
    timed->durable[partition] = cut->state.next_offset;
    timed->cuts++;
    timed->windows += cut->window_count;
    for (int i = 0; i < PARTITIONS; i++)
        all += timed->durable[i] > 0 ? timed->durable[i] : 0;
    if (all == (int64_t)settings.events && !timed->is_done) {
        timed->took = weir_measure_since(timed->source->start);
        timed->is_done = true;
    }
    return status;
}

/* Reads what stands in Redis. */
struct stored {
    uint64_t requests, samples, completions;
    struct weir_decimal tokens_in;
};

static void add_window(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    struct stored *stored = context;
    struct weir_series series;

    (void)is_closed, (void)has_work;
    if (!weir_series_parse(window->series_key, &series))
        weir_measure_die("Redis holds a window that is none");
    if (weir_slice_equal(series.meter, weir_slice_text("tokens-in")))
        stored->tokens_in.e12 += window->total.value.e12;
    else if (weir_slice_equal(series.meter, weir_slice_text("completions")))
        stored->completions += window->total.events;
    else if (weir_slice_equal(series.meter, weir_slice_text("requests")))
        stored->requests += window->total.events;
    else if (weir_slice_equal(series.meter, weir_slice_text("stored")))
        stored->samples += window->total.events;
}

static void check_store(struct weir_window_store *store)
{
    struct stored stored = {0};
    struct weir_error error;
    char lane[96];

    for (int32_t i = 0; i < topic.partitions; i++) {
        snprintf(lane, sizeof lane, "%s:%d", topic.name, i);
        if (store->ops->scan_windows(store, weir_slice_text(lane), add_window, &stored, &error) != WEIR_OK)
            weir_measure_die("%s", error.text);
    }
    if (stored.completions != totals.completions || stored.requests != totals.requests
        || stored.samples != totals.samples || stored.tokens_in.e12 != (weir_int128)totals.tokens_in * WEIR_DECIMAL_ONE)
        weir_measure_die("wrong: the windows in Redis do not hold what the topic does");
}

static struct weir_worker_settings worker_settings(void)
{
    return (struct weir_worker_settings){
        .lane = {.disorder = 5 * WEIR_SECOND,
                 .lateness = WEIR_DAY,
                 .retention = WEIR_DAY,
                 .max_future = WEIR_DAY,
                 .windows_max = 20000000,
                 .ids_max = 100000000},
        .flush_interval = WEIR_SECOND / 5,
        .idle = WEIR_MINUTE,
        .cuts_max = 8,
        .changes_max = 262144,
        .hand_over = 20 * WEIR_SECOND,
        .decodes_ahead = true,
    };
}

static void check_counts(const struct weir_worker_gauges *gauges)
{
    if (gauges->outcomes[WEIR_OUTCOME_COUNTED] != totals.events
        || gauges->outcomes[WEIR_OUTCOME_DUPLICATE] != totals.repeated)
        weir_measure_die("wrong: %llu counted and %llu duplicate, not %llu and %llu",
                         (unsigned long long)gauges->outcomes[WEIR_OUTCOME_COUNTED],
                         (unsigned long long)gauges->outcomes[WEIR_OUTCOME_DUPLICATE],
                         (unsigned long long)totals.events, (unsigned long long)totals.repeated);
}

static struct weir_window_store *open_redis(void)
{
    struct weir_window_store *store;
    struct weir_error error;

    if (weir_store_redis_open(redis_url, &store, &error) != WEIR_OK)
        weir_measure_die("%s", error.text);
    return store;
}

static void run_worker(struct weir_figure *figure, bool is_storing)
{
    static const struct weir_source_ops source_ops = {.name = "timed",
                                                      .poll = timed_poll,
                                                      .pause = timed_pause,
                                                      .resume = timed_resume,
                                                      .seek = timed_seek,
                                                      .mark_durable = timed_mark_durable,
                                                      .is_caught_up = timed_is_caught_up,
                                                      .lag = timed_lag,
                                                      .free = timed_free};
    static const struct weir_window_store_ops store_ops = {
        .name = "timed", .take_lane = timed_take_lane, .write_cut = timed_write_cut};
    struct weir_worker_settings of_worker = worker_settings();
    struct weir_window_store *real = is_storing ? open_redis() : NULL, *consumers = is_storing ? open_redis() : NULL;
    struct timed_store taking = {.store.ops = &store_ops, .real = consumers};
    struct weir_quarantine *quarantine;
    struct weir_error error;

    timed_source = (struct timed_source){.source.ops = &source_ops};
    timed_store = (struct timed_store){.store.ops = &store_ops, .real = real, .source = &timed_source};
    if (weir_quarantine_file_open(NULL, &quarantine, &error) != WEIR_OK)
        weir_measure_die("%s", error.text);
    struct weir_worker *worker = weir_worker_new(catalog, &of_worker, &taking.store, &timed_store.store, quarantine);
    struct weir_source_listener listener = weir_worker_listener(worker);
    timed_source.real = open_source(&listener);
    if (weir_worker_run(worker, &timed_source.source, &timed_store.is_done, &error) != WEIR_OK)
        weir_measure_die("%s", error.text);
    weir_figure_add_rate(figure, (double)settings.events, timed_store.took);
    check_counts(weir_worker_gauges(worker));
    if (is_storing)
        check_store(consumers);
    weir_worker_free(worker);
    weir_quarantine_free(quarantine);
    weir_window_store_free(real);
    weir_window_store_free(consumers);
}

/* 4. */

/* In a process of its own, so that nothing of it is in the way of what is measured. */
static void fill(void)
{
    struct weir_workload_totals *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0;

    if (shared == MAP_FAILED)
        weir_measure_die("no memory");
    pid_t child = fork();
    if (child == 0) {
        struct weir_workload *workload = weir_workload_new(&settings);
        weir_topic_fill(&topic, workload);
        *shared = weir_workload_totals(workload);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        weir_measure_die("the topic could not be filled");
    totals = *shared;
    munmap(shared, sizeof *shared);
}

static void prepare(void)
{
    catalog = weir_way_catalog();
    topic.brokers = weir_measure_server("KAFKA_BROKERS");
    redis_url = weir_measure_server("REDIS_URL");
    snprintf(topic.name, sizeof topic.name, "benchmark-pipeline-%d-%lld", (int)getpid(), (long long)time(NULL));
    weir_topic_create(&topic);
    weir_measure_at_end(clean_up);
    weir_measure_progress("filling the topic");
    fill();
}

enum { BARE, SOURCE, DECODE, COUNT, WHOLE, STAGES };

static enum weir_topic_keys keys_of(const char *name)
{
    static const char *const names[] = {"customer", "none", "hot"};

    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum weir_topic_keys)i;
    weir_measure_die("--keys %s: customer, none or hot", name);
}

/* What is not as in the plain workload, for the target's name. */
static const char *describe(char text[128], const char *keys)
{
    int at = snprintf(text, 128, "%u customers, %s", settings.customers, topic.codec);

    if (topic.keys != WEIR_TOPIC_BY_CUSTOMER)
        at += snprintf(text + at, 128 - (size_t)at, ", keys: %s", keys);
    if (settings.event_bytes)
        at += snprintf(text + at, 128 - (size_t)at, ", %u bytes", settings.event_bytes);
    if (topic.is_binary)
        snprintf(text + at, 128 - (size_t)at, ", binary mode");
    return text;
}

int main(int argc, char **argv)
{
    uint64_t events = 0, customers = 10000, span = 3600, only = STAGES, ends = 0, event_bytes = 0, is_binary = 0;
    const char *keys = "customer";
    const struct weir_measure_program program = {
        .name = "pipeline",
        .about = about,
        .example = "--events 4000000 --codec none",
        .repetitions = 5,
        .options = {
            {"--events", "N", "in the topic (3,000,000; smoke: 20,000)", &events, NULL},
            {"--customers", "N", "Zipf (10000)", &customers, NULL},
            {"--span", "SECONDS", "event time that the events are spread over (3600)", &span, NULL},
            {"--codec", "NAME", "lz4 or none (lz4)", NULL, &topic.codec},
            {"--keys", "HOW", "customer, none, or hot: four of five in one partition (customer)", NULL, &keys},
            {"--event-bytes", "N", "longer events, at most 4000 (as they come: 250 to 300)", &event_bytes, NULL},
            {"--binary", NULL, "events in Kafka's binary mode", &is_binary, NULL},
            {"--ends", NULL, "bare librdkafka and the whole way alone", &ends, NULL},
            {"--only", "STAGE", "0 to 4: that stage alone, for a profiler", &only, NULL}}};
    struct weir_figure figures[STAGES] = {[BARE] = {.what = "bare librdkafka batch consume"},
                                          [SOURCE] = {.what = "weir's source"},
                                          [DECODE] = {.what = "source, decode"},
                                          [COUNT] = {.what = "source, decode, count (cuts dropped)"},
                                          [WHOLE] = {.what = "weir ingest: to durable cuts in Redis"}};

    weir_measure_start(&program, argc, argv);
    weir_log_open("benchmark_pipeline", false, WEIR_LOG_WARN);
    settings.events = events ? events : weir_measure_is_smoke() ? 20000 : 3000000;
    settings.customers = (uint32_t)customers;
    settings.span_seconds = (uint32_t)span;
    if (customers < 1 || customers > 1000000 || event_bytes > 4000)
        weir_measure_die("--customers: 1 to 1,000,000; --event-bytes: at most 4000");
    settings.event_bytes = (uint32_t)event_bytes;
    topic.is_binary = is_binary;
    topic.keys = keys_of(keys);
    for (int i = 0; i < STAGES; i++)
        figures[i].unit = "million events/s";
    prepare();
    for (int i = 0; i < weir_measure_repetitions(); i++)
        for (uint64_t stage = 0; stage < STAGES; stage++) {
            if ((only != STAGES && only != stage) || (ends && stage != BARE && stage != WHOLE))
                continue;
            weir_measure_progress("%d: %s", i + 1, figures[stage].what);
            if (stage == BARE)
                weir_figure_add_rate(&figures[stage], (double)settings.events,
                                     weir_topic_consume_bare(&topic, settings.events));
            else if (stage == SOURCE || stage == DECODE)
                run_source(&figures[stage], stage == DECODE);
            else
                run_worker(&figures[stage], stage == WHOLE);
            if (stage == WHOLE)
                remove_lanes();
        }
    for (int i = 0; i < STAGES; i++)
        if (figures[i].count)
            weir_measure_print(&figures[i]);
    if (only == WHOLE || only == STAGES)
        printf("  the last one: %llu cuts with %llu windows\n", (unsigned long long)timed_store.cuts,
               (unsigned long long)timed_store.windows);
    char how[128], what[192];
    snprintf(what, sizeof what, "weir ingest against bare librdkafka (%s)", describe(how, keys));
    if (only == STAGES)
        weir_measure_target(&(struct weir_target){
            .what = what, .figure = &figures[WHOLE], .ceiling = &figures[BARE], .at_least = 0.6, .cpu_at_most = 2.2});
    weir_catalog_free(catalog);
    return weir_measure_end();
}
