/* One lane, four lanes on one worker, two workers on four lanes. See about[]. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "benchmarks/measure.h"
#include "benchmarks/process.h"

enum { PATIENCE_SECONDS = 180 };

static const char about[] =
    "Real `weir ingest` processes on a topic that is full already: a topic of one partition, and one of four with one\n"
    "worker and with two; from the cut in Redis that holds a quarter of it until all is held. The broker and Redis are "
    "on the "
    "same\n"
    "machine, so look at the CPU time of each event (workers only) beside the rate. Needs WEIR_KAFKA_BROKERS and\n"
    "WEIR_REDIS_URL.";

static struct weir_topic narrow = {.partitions = 1, .codec = "lz4"}, wide = {.partitions = 4, .codec = "lz4"};
static uint64_t events;
static const char *url;
static redisContext *redis;

static int64_t durable(const struct weir_topic *topic)
{
    int64_t sum = 0;

    for (int32_t i = 0; i < topic->partitions; i++) {
        int64_t next = weir_process_next_offset(redis, topic, i);
        sum += next > 0 ? next : 0;
    }
    return sum;
}

static void measure(const struct weir_topic *topic, int workers, struct weir_figure *figure)
{
    pid_t started[4];
    struct weir_took before = weir_measure_now(), first = before;
    int64_t have = 0, from = 0;

    for (int i = 0; i < workers; i++)
        started[i] = weir_process_start(topic, url, NULL);
    while (have < (int64_t)events) {
        have = durable(topic);
        if (from == 0 && have >= (int64_t)events / 4) { /* by then the group is whole */
            from = have;
            first = weir_measure_now();
        }
        if (weir_measure_since(before).wall > PATIENCE_SECONDS)
            weir_measure_die("%lld of %llu events after %d s", (long long)have, (unsigned long long)events,
                             PATIENCE_SECONDS);
        usleep(1000);
    }
    double wall = weir_measure_since(first).wall;
    for (int i = 0; i < workers; i++)
        weir_process_end(started[i]);
    weir_figure_add(figure, (double)(have - from) / wall / 1e6,
                    weir_measure_since(before).children / (double)events * 1e6);
    weir_process_remove_lanes(redis, topic);
}

static void clean_up(void)
{
    weir_process_remove_lanes(redis, &narrow);
    weir_process_remove_lanes(redis, &wide);
    weir_topic_remove(&narrow);
    weir_topic_remove(&wide);
}

static void fill(struct weir_topic *topic, const char *brokers, const char *what)
{
    struct weir_workload *workload = weir_workload_new(&(struct weir_workload_settings){.seed = 7,
                                                                                        .events = events,
                                                                                        .customers = 10000,
                                                                                        .repeated_permille = 10,
                                                                                        .late_permille = 10,
                                                                                        .span_seconds = 3600});

    topic->brokers = brokers;
    snprintf(topic->name, sizeof topic->name, "benchmark-workers-%s-%d-%lld", what, (int)getpid(),
             (long long)time(NULL));
    weir_topic_create(topic);
    weir_topic_fill(topic, workload);
    weir_workload_free(workload);
}

int main(int argc, char **argv)
{
    const struct weir_measure_program program = {
        .name = "workers",
        .about = about,
        .example = "--events 4000000",
        .repetitions = 3,
        .options = {{"--events", "N", "in each topic (4000000; smoke 20000)", &events, NULL}}};
    struct weir_figure one = {.what = "one lane", .unit = "million events/s"},
                       four = {.what = "four lanes on one worker", .unit = "million events/s"},
                       two = {.what = "two workers on four lanes", .unit = "million events/s"};

    weir_measure_start(&program, argc, argv);
    if (!events)
        events = weir_measure_is_smoke() ? 20000 : 4000000;
    const char *brokers = weir_measure_server("KAFKA_BROKERS");
    url = weir_measure_server("REDIS_URL");
    redis = weir_process_redis(url);
    fill(&narrow, brokers, "narrow");
    fill(&wide, brokers, "wide");
    weir_measure_at_end(clean_up);
    for (int i = 0; i < weir_measure_repetitions(); i++) {
        measure(&narrow, 1, &one);
        measure(&wide, 1, &four);
        measure(&wide, 2, &two);
    }
    weir_measure_print(&one);
    weir_measure_print(&four);
    weir_measure_print(&two);
    return weir_measure_end();
}
