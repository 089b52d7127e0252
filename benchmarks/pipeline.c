/* `weir ingest` stage by stage beside bare librdkafka: Kafka to durable lane cuts in Redis. See about[].
 *
 * Each stage is made of the real functions; the whole is the ingest workers as the command runs them, as many threads
 * as there are cores, between sources and stores that look at the clock: from the first message until the cuts in Redis
 * cover the last one (members.h). So joining the group is left out, and nothing else. It is judged beside one bare
 * consumer, however many threads it has; several of those are shown, too. Every stage's answer is checked against what
 * the workload made. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "benchmarks/measure.h"
#include "benchmarks/members.h"
#include "benchmarks/process.h"
#include "benchmarks/topic.h"
#include "benchmarks/way.h"
#include "common/cores.h"
#include "common/log.h"
#include "ingest/decode.h"
#include "ingest/reading.h"

enum { SEED = 7, PARTITIONS = 4, REPEATED_PERMILLE = 10, LATE_PERMILLE = 10, PATIENCE_SECONDS = 180 };

static const char about[] =
    "Fills a topic once and reads it in turns: with bare librdkafka; with weir's source alone; and decoding; and "
    "counting\n"
    "into windows and ids (cuts are sealed and dropped); and writing the cuts to Redis, five times a second a lane.\n"
    "That last with one thread, and with as many as there are cores; bare librdkafka likewise.\n"
    "Needs WEIR_KAFKA_BROKERS and WEIR_REDIS_URL; makes a topic and lanes of its own and removes them again.";

static struct weir_topic topic = {.partitions = PARTITIONS, .codec = "lz4"};
static struct weir_workload_settings settings = {
    .seed = SEED, .repeated_permille = REPEATED_PERMILLE, .late_permille = LATE_PERMILLE};
static struct weir_workload_totals totals;
static struct weir_catalog *catalog;
static const char *redis_url;
static struct weir_members_result last; /* of those that wrote to Redis */

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

/* 3. The workers. */

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

static void check_store(void)
{
    struct weir_window_store *store;
    struct stored stored = {0};
    struct weir_error error;
    char lane[96];

    if (weir_store_redis_open(redis_url, &store, &error) != WEIR_OK)
        weir_measure_die("%s", error.text);
    for (int32_t i = 0; i < topic.partitions; i++) {
        snprintf(lane, sizeof lane, "%s:%d", topic.name, i);
        if (store->ops->scan_windows(store, weir_slice_text(lane), add_window, &stored, &error) != WEIR_OK)
            weir_measure_die("%s", error.text);
    }
    weir_window_store_free(store);
    if (stored.completions != totals.completions || stored.requests != totals.requests
        || stored.samples != totals.samples || stored.tokens_in.e12 != (weir_int128)totals.tokens_in * WEIR_DECIMAL_ONE)
        weir_measure_die("wrong: the windows in Redis do not hold what the topic does");
}

static void check_counts(const struct weir_members_result *result)
{
    if (result->counted != totals.events || result->duplicate != totals.repeated)
        weir_measure_die("wrong: %llu counted and %llu duplicate, not %llu and %llu",
                         (unsigned long long)result->counted, (unsigned long long)result->duplicate,
                         (unsigned long long)totals.events, (unsigned long long)totals.repeated);
}

static void run_workers(struct weir_figure *figure, bool is_storing, int threads)
{
    const struct weir_members_settings of_members = {.topic = &topic,
                                                     .catalog = catalog,
                                                     .redis_url = is_storing ? redis_url : NULL,
                                                     .events = settings.events,
                                                     .members = threads};
    struct weir_members_result result = weir_members_run(&of_members);

    weir_figure_add_rate(figure, (double)settings.events, result.took);
    check_counts(&result);
    if (!is_storing)
        return;
    check_store();
    remove_lanes();
    last = result;
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

enum { BARE, BARES, SOURCE, DECODE, COUNT, ONE, WHOLE, STAGES };

static char whole_name[64], bares_name[64];
static struct weir_figure figures[STAGES] = {
    [BARE] = {.what = "bare librdkafka batch consume", .unit = "million events/s"},
    [BARES] = {.what = bares_name, .unit = "million events/s"},
    [SOURCE] = {.what = "weir's source", .unit = "million events/s"},
    [DECODE] = {.what = "source, decode", .unit = "million events/s"},
    [COUNT] = {.what = "source, decode, count (cuts dropped)", .unit = "million events/s"},
    [ONE] = {.what = "weir ingest, one thread", .unit = "million events/s"},
    [WHOLE] = {.what = whole_name, .unit = "million events/s"}};

static void name_figures(int threads)
{
    snprintf(bares_name, sizeof bares_name, "bare librdkafka, %d consumers", threads);
    snprintf(whole_name, sizeof whole_name, "weir ingest, %d thread%s: to durable cuts in Redis", threads,
             threads == 1 ? "" : "s");
}

static void run_stage(int stage, int threads)
{
    struct weir_figure *figure = &figures[stage];

    if (stage == BARE || stage == BARES)
        weir_figure_add_rate(figure, (double)settings.events,
                             weir_topic_consume_bare(&topic, settings.events, stage == BARE ? 1 : threads));
    else if (stage == SOURCE || stage == DECODE)
        run_source(figure, stage == DECODE);
    else
        run_workers(figure, stage != COUNT, stage == WHOLE ? threads : 1);
}

static int default_threads(void)
{
    long cores = weir_cores();
    return cores < PARTITIONS ? (int)cores : PARTITIONS;
}

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
    uint64_t threads = (uint64_t)default_threads();
    const char *keys = "customer";
    const struct weir_measure_program program = {
        .name = "pipeline",
        .about = about,
        .example = "--events 4000000 --codec none",
        .repetitions = 5,
        .options = {
            {"--events", "N", "in the topic (6,000,000; smoke: 20,000)", &events, NULL},
            {"--customers", "N", "Zipf (10000)", &customers, NULL},
            {"--span", "SECONDS", "event time that the events are spread over (3600)", &span, NULL},
            {"--codec", "NAME", "lz4 or none (lz4)", NULL, &topic.codec},
            {"--keys", "HOW", "customer, none, or hot: four of five in one partition (customer)", NULL, &keys},
            {"--event-bytes", "N", "longer events, at most 4000 (as they come: 250 to 300)", &event_bytes, NULL},
            {"--binary", NULL, "events in Kafka's binary mode", &is_binary, NULL},
            {"--threads", "N", "of weir ingest, at most 4 (one a core)", &threads, NULL},
            {"--ends", NULL, "bare librdkafka and the whole way alone", &ends, NULL},
            {"--only", "STAGE", "0 to 6: that stage alone, for a profiler", &only, NULL}}};

    weir_measure_start(&program, argc, argv);
    weir_log_open("benchmark_pipeline", false, WEIR_LOG_WARN);
    settings.events = events ? events : weir_measure_is_smoke() ? 20000 : 6000000;
    settings.customers = (uint32_t)customers;
    settings.span_seconds = (uint32_t)span;
    if (customers < 1 || customers > 1000000 || event_bytes > 4000 || threads < 1 || threads > PARTITIONS)
        weir_measure_die("--customers: 1 to 1,000,000; --event-bytes: at most 4000; --threads: 1 to %d", PARTITIONS);
    settings.event_bytes = (uint32_t)event_bytes;
    topic.is_binary = is_binary;
    topic.keys = keys_of(keys);
    name_figures((int)threads);
    prepare();
    weir_measure_progress("once unmeasured: the broker compiles what it is asked for often");
    weir_topic_consume_bare(&topic, settings.events, (int)threads);
    for (int i = 0; i < weir_measure_repetitions(); i++)
        for (int stage = 0; stage < STAGES; stage++) {
            bool is_twice = threads == 1 && (stage == BARES || stage == ONE);
            if (is_twice || (only != STAGES && only != (uint64_t)stage) || (ends && stage != BARE && stage != WHOLE))
                continue;
            weir_measure_progress("%d: %s", i + 1, figures[stage].what);
            run_stage(stage, (int)threads);
        }
    for (int i = 0; i < STAGES; i++)
        if (figures[i].count)
            weir_measure_print(&figures[i]);
    if (only == WHOLE || only == STAGES)
        printf("  the last one: %llu cuts with %llu windows\n", (unsigned long long)last.cuts,
               (unsigned long long)last.windows);
    char how[128], what[192];
    snprintf(what, sizeof what, "weir ingest, %d thread%s, against bare librdkafka (%s)", (int)threads,
             threads == 1 ? "" : "s", describe(how, keys));
    if (only == STAGES)
        weir_measure_target(&(struct weir_target){
            .what = what, .figure = &figures[WHOLE], .ceiling = &figures[BARE], .at_least = 0.6, .cpu_at_most = 2.2});
    weir_catalog_free(catalog);
    return weir_measure_end();
}
