/* A meter counted again for the past (`weir recount`) beside bare reading and decoding of the same topic. See about[].
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "benchmarks/database.h"
#include "benchmarks/measure.h"
#include "benchmarks/process.h"
#include "common/status.h"
#include "ingest/decode.h"

enum { BATCH = 4096, PATIENCE_SECONDS = 180, NAME_MAX_BYTES = 64 };

static const char about[] = "A topic that workers have counted and raters have rated is read once more by a real `weir "
                            "recount --dry-run`, which\n"
                            "counts one meter in memory and compares it with what was rated; in turns with librdkafka "
                            "alone, by batches, whose\n"
                            "messages are decoded and thrown away. Whole processes, start and end included; the broker "
                            "is on the same machine, so\n"
                            "look at the CPU time of each event beside the rate. Needs WEIR_KAFKA_BROKERS, "
                            "WEIR_REDIS_URL and WEIR_POSTGRES_URL.";

static struct weir_topic topic = {.partitions = 2, .codec = "lz4"};
static uint64_t events, customers;
static char database[NAME_MAX_BYTES], postgres_url[512];
static const char *redis_url;
static redisContext *redis;

static struct weir_process_took run(const char *const *arguments)
{
    const struct weir_process_settings settings = {&topic, redis_url, postgres_url};

    return weir_process_run(&settings, arguments);
}

/* 1. what there is to be counted again */
static void clean_up(void)
{
    weir_process_remove_lanes(redis, &topic);
    weir_topic_remove(&topic);
    weir_database_drop(database);
}

static void fill(void)
{
    struct weir_workload *workload = weir_workload_new(&(struct weir_workload_settings){
        .seed = 7, .events = events, .customers = (uint32_t)customers, .repeated_permille = 10});

    (void)snprintf(topic.name, sizeof topic.name, "benchmark-recount-%d-%lld", (int)getpid(), (long long)time(NULL));
    (void)snprintf(database, sizeof database, "benchmark_recount_%d", (int)getpid());
    weir_topic_create(&topic);
    weir_database_make(database, postgres_url);
    weir_measure_at_end(clean_up);
    weir_topic_fill(&topic, workload);
    weir_workload_free(workload);
}

static void rate(void)
{
    static const char *const apply[] = {"apply", "--catalog", WEIR_PROCESS_CATALOG, NULL};
    static const char *const ingest[] = {"ingest", "--until-end", "--lateness", "1h", NULL};
    static const char *const rater[] = {"rater", "--until-done", NULL};

    weir_measure_progress("counting and rating %llu events", (unsigned long long)events);
    (void)run(apply);
    (void)run(ingest);
    (void)run(rater);
}

/* 2. bare */
static void decode(struct weir_decoder *decoder, const rd_kafka_message_t *from)
{
    const struct weir_message message = {
        .topic = weir_slice_text(topic.name),
        .partition = from->partition,
        .offset = from->offset,
        .sequence = from->offset,
        .value = weir_slice_of(from->payload, from->len),
    };
    struct weir_event event;
    struct weir_rejection why;

    if (weir_decode(decoder, &message, &event, &why) != WEIR_OK)
        weir_measure_die("an event of the workload is refused: %s", why.detail);
}

static struct weir_took read_bare(const struct weir_catalog *catalog)
{
    static const char *const pairs[] = {
        "group.id", "bench", "enable.auto.commit", "false", "fetch.message.max.bytes", "4194304", "queued.min.messages",
        "1000000",  NULL};
    static rd_kafka_message_t *messages[BATCH];
    struct weir_took start = weir_measure_now();
    struct weir_decoder *decoder = weir_decoder_new(catalog);
    rd_kafka_t *consumer = weir_topic_client(&topic, RD_KAFKA_CONSUMER, pairs);
    rd_kafka_queue_t *queue = (rd_kafka_poll_set_consumer(consumer), rd_kafka_queue_get_consumer(consumer));
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(topic.partitions);
    uint64_t seen = 0;

    for (int32_t i = 0; i < topic.partitions; i++)
        rd_kafka_topic_partition_list_add(list, topic.name, i)->offset = 0;
    rd_kafka_assign(consumer, list);
    while (seen < events) {
        ssize_t count = rd_kafka_consume_batch_queue(queue, 50, messages, BATCH);
        for (ssize_t i = 0; i < count; i++) {
            if (!messages[i]->err) {
                decode(decoder, messages[i]);
                seen++;
            }
            rd_kafka_message_destroy(messages[i]);
        }
        if (weir_measure_since(start).wall > PATIENCE_SECONDS)
            weir_measure_die("bare librdkafka saw %llu events", (unsigned long long)seen);
    }
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_queue_destroy(queue);
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
    weir_decoder_free(decoder);
    return weir_measure_since(start);
}

/* 3. weir */
static void recount(struct weir_figure *rate_of, struct weir_figure *memory)
{
    static const char *const dry[] = {"recount", "--meter",    "tokens-in", "--dry-run", "--format",
                                      "csv",     "--lateness", "1h",        NULL};
    struct weir_process_took took = run(dry);
    char wanted[32];

    (void)snprintf(wanted, sizeof wanted, "read=%llu ", (unsigned long long)events);
    if (!strstr(took.said, wanted) || !strstr(took.said, " changed=0 ") || strstr(took.said, " unchanged=0 "))
        weir_measure_die("the recount did not find what was counted: %s", took.said);
    weir_figure_add(rate_of, (double)events / took.wall / 1e6, took.cpu / (double)events * 1e6);
    weir_figure_add(memory, (double)took.peak / 1048576, 0);
}

int main(int argc, char **argv)
{
    const struct weir_measure_program program = {
        .name = "recount",
        .about = about,
        .example = "--events 3000000 --customers 10000",
        .repetitions = 3,
        .options = {{"--events", "N", "in the topic (1000000; smoke 10000)", &events, NULL},
                    {"--customers", "N", "of the events (100; smoke 10)", &customers, NULL}}};
    struct weir_figure bare = {.what = "bare librdkafka batch, and decoding", .unit = "million events/s"},
                       ours = {.what = "weir recount, dry run", .unit = "million events/s"},
                       memory = {.what = "its memory, worst moment", .unit = "MB"};
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes;

    weir_measure_start(&program, argc, argv);
    if (!events)
        events = weir_measure_is_smoke() ? 10000 : 1000000;
    if (!customers)
        customers = weir_measure_is_smoke() ? 10 : 100;
    topic.brokers = weir_measure_server("KAFKA_BROKERS");
    redis_url = weir_measure_server("REDIS_URL");
    redis = weir_process_redis(redis_url);
    if (weir_catalog_parse("workload", weir_workload_catalog, strlen(weir_workload_catalog), &catalog, &mistakes)
        != WEIR_OK)
        weir_measure_die("the workload's catalog is refused");
    fill();
    rate();
    for (int i = 0; i < weir_measure_repetitions(); i++) {
        weir_figure_add_rate(&bare, (double)events, read_bare(catalog));
        recount(&ours, &memory);
    }
    weir_catalog_free(catalog);
    weir_measure_print(&bare);
    weir_measure_print(&ours);
    weir_measure_target(&(struct weir_target){
        .what = "recount, against bare reading and decoding", .figure = &ours, .ceiling = &bare, .at_least = 0.5});
    weir_measure_print(&memory);
    return weir_measure_end();
}
