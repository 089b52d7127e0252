/* How long an event that was sent to Kafka takes to stand in Redis. See about[]. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "benchmarks/measure.h"
#include "benchmarks/process.h"

enum {
    PARTITIONS = 4,
    SAMPLES_MAX = 200000, /* of one partition */
    PROBE_EVERY = 97,     /* events: one of so many is followed on its way */
    SLICE_MS = 2,         /* events of so long are sent at once */
    SLOW_RATE = 500,      /* events a second until the worker has every lane: it has nothing to catch up with then */
    WARM_UP_MS = 3000,    /* the first ones after that are not judged */
    PATIENCE_MS = 60000,
};

static const char about[] =
    "Sends the workload's events to a topic at an even rate, with a real `weir ingest` reading it, and looks every\n"
    "millisecond how far each lane's cut in Redis is: from just before an event is given to the Kafka client (which "
    "waits\n"
    "up to 2 ms for others to go with it) until the cut that holds it is there. Needs WEIR_KAFKA_BROKERS and\n"
    "WEIR_REDIS_URL.";

struct sample {
    int64_t sent, acknowledged; /* monotonic us */
    int64_t offset;
};

/* Shared with the sending process: it appends, the watching one reads up to count. */
struct probes {
    _Atomic size_t count[PARTITIONS];
    _Atomic bool is_done;
    _Atomic int64_t began; /* monotonic us: from here on events are sent at the full rate; 0: not yet */
    struct sample samples[PARTITIONS][SAMPLES_MAX];
};

static struct weir_topic topic = {.partitions = PARTITIONS, .codec = "lz4"};
static struct probes *probes;
static redisContext *redis;

static int64_t now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

/* 1. The sending process. */

static void on_delivery(rd_kafka_t *producer, const rd_kafka_message_t *message, void *context)
{
    (void)producer, (void)context;
    if (message->err)
        weir_measure_die("produce: %s", rd_kafka_err2str(message->err));
    if (!message->_private)
        return;
    size_t at = atomic_load_explicit(&probes->count[message->partition], memory_order_relaxed); /* ours alone */
    if (at == SAMPLES_MAX)
        return;
    probes->samples[message->partition][at] =
        (struct sample){(int64_t)(intptr_t)message->_private, now_us(), message->offset};
    /* release: whoever sees the count sees the sample. */
    atomic_store_explicit(&probes->count[message->partition], at + 1, memory_order_release);
}

/* Slowly, until the watching process says that a cut of every lane is there: the group is joined meanwhile. */
static void send_first(rd_kafka_t *producer, rd_kafka_topic_t *of, struct weir_workload *workload)
{
    char event[WEIR_WORKLOAD_EVENT_MAX];
    size_t length;

    while (!atomic_load_explicit(&probes->began, memory_order_acquire)
           && (length = weir_workload_next(workload, event)) > 0) {
        weir_topic_send(producer, of, weir_topic_partition_of(&topic, event, length), event, length, NULL);
        rd_kafka_poll(producer, 1000 / SLOW_RATE);
    }
}

static void send_all(uint64_t rate, uint64_t seconds)
{
    struct weir_workload_settings settings = {.seed = 11,
                                              .events = rate * seconds + SLOW_RATE * PATIENCE_MS / 1000,
                                              .customers = 10000,
                                              .repeated_permille = 10,
                                              .late_permille = 10,
                                              .span_seconds = (uint32_t)seconds};
    struct weir_workload *workload = weir_workload_new(&settings);
    rd_kafka_topic_t *of;
    rd_kafka_t *producer = weir_topic_producer(&topic, "2", on_delivery, &of);
    char event[WEIR_WORKLOAD_EVENT_MAX];
    size_t length = 1;

    send_first(producer, of, workload);
    int64_t began = now_us();
    for (uint64_t sent = 0; length > 0 && sent < rate * seconds;) {
        uint64_t due = rate * (uint64_t)(now_us() - began) / 1000000;
        due = due < rate * seconds ? due : rate * seconds;
        for (; sent < due && (length = weir_workload_next(workload, event)) > 0; sent++) {
            int64_t stamp = sent % PROBE_EVERY == 0 ? now_us() : 0;
            weir_topic_send(producer, of, weir_topic_partition_of(&topic, event, length), event, length,
                            (void *)(intptr_t)stamp);
        }
        rd_kafka_poll(producer, SLICE_MS);
    }
    weir_topic_producer_end(producer, of);
    weir_workload_free(workload);
    atomic_store_explicit(&probes->is_done, true, memory_order_release);
}

/* 2. The watching one. */

static int by_value(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void wait_for_lanes(void)
{
    int64_t began = now_us();

    for (int32_t i = 0; i < PARTITIONS;) {
        if (now_us() - began > PATIENCE_MS * 1000)
            weir_measure_die("a lane has no cut after a minute");
        if (weir_process_next_offset(redis, &topic, i) > 0)
            i++;
        else
            usleep(1000);
    }
    atomic_store_explicit(&probes->began, now_us(), memory_order_release);
}

/* Microseconds of each probe, in order of size: from sent to visible, to acknowledged, and between the two; how many.
 */
static size_t watch(int64_t *ret_waits, int64_t *ret_sending, int64_t *ret_after)
{
    size_t seen[PARTITIONS] = {0}, waits = 0;
    bool is_done = false;

    wait_for_lanes();
    int64_t began = now_us(), last_news = began;
    while (!is_done) {
        bool is_sent = atomic_load_explicit(&probes->is_done, memory_order_acquire);
        is_done = is_sent;
        for (int32_t i = 0; i < PARTITIONS; i++) {
            int64_t next = weir_process_next_offset(redis, &topic, i), now = now_us();
            size_t count = atomic_load_explicit(&probes->count[i], memory_order_acquire);
            for (; seen[i] < count && probes->samples[i][seen[i]].offset < next; seen[i]++) {
                last_news = now;
                const struct sample *sample = &probes->samples[i][seen[i]];
                if (sample->sent - began <= WARM_UP_MS * 1000)
                    continue;
                ret_sending[waits] = sample->acknowledged - sample->sent;
                ret_after[waits] = now - sample->acknowledged;
                ret_waits[waits++] = now - sample->sent;
            }
            is_done = is_done && seen[i] == count;
        }
        if (now_us() - last_news > PATIENCE_MS * 1000)
            weir_measure_die("nothing came through for a minute");
        usleep(1000);
    }
    qsort(ret_waits, waits, sizeof *ret_waits, by_value);
    qsort(ret_sending, waits, sizeof *ret_sending, by_value);
    qsort(ret_after, waits, sizeof *ret_after, by_value);
    return waits;
}

static void clean_up(void)
{
    weir_process_remove_lanes(redis, &topic);
    redisFree(redis);
    weir_topic_remove(&topic);
}

int main(int argc, char **argv)
{
    uint64_t rate = 300000, seconds = 0;
    const struct weir_measure_program program = {
        .name = "latency",
        .about = about,
        .example = "--rate 400000 --seconds 20",
        .repetitions = 3,
        .options = {
            {"--rate", "N", "events a second (300000; smoke 2000): half of what benchmark_pipeline reaches", &rate,
             NULL},
            {"--seconds", "N", "each time (15; smoke 5), the first three of which are not judged", &seconds, NULL}}};
    struct weir_figure acknowledged = {.what = "event sent -> acknowledged by Kafka, 99 of 100", .unit = "ms"},
                       after = {.what = "acknowledged -> visible in Redis, 99 of 100", .unit = "ms"},
                       median = {.what = "event sent to Kafka -> visible in Redis, median", .unit = "ms"},
                       p99 = {.what = "the same, 99 of 100", .unit = "ms"},
                       most = {.what = "the same, the slowest", .unit = "ms"};
    static int64_t waits[PARTITIONS * SAMPLES_MAX], sending[PARTITIONS * SAMPLES_MAX],
        from_there[PARTITIONS * SAMPLES_MAX];

    weir_measure_start(&program, argc, argv);
    if (weir_measure_is_smoke())
        rate = 2000;
    if (!seconds)
        seconds = weir_measure_is_smoke() ? 5 : 15;
    topic.brokers = weir_measure_server("KAFKA_BROKERS");
    const char *url = weir_measure_server("REDIS_URL");
    probes = mmap(NULL, sizeof *probes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (probes == MAP_FAILED)
        weir_measure_die("no memory");
    for (int i = 0; i < weir_measure_repetitions(); i++) {
        /* Another name each time: a topic made anew under its old one would be a fault to get over. */
        snprintf(topic.name, sizeof topic.name, "benchmark-latency-%d-%lld-%d", (int)getpid(), (long long)time(NULL),
                 i);
        redis = weir_process_redis(url);
        weir_topic_create(&topic);
        weir_measure_at_end(clean_up);
        memset((void *)probes->count, 0, sizeof probes->count);
        probes->is_done = false;
        probes->began = 0;
        pid_t worker = weir_process_start(&topic, url, NULL);
        fflush(NULL);
        pid_t sender = fork();
        if (sender == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            send_all(rate, seconds);
            _exit(0);
        }
        size_t count = watch(waits, sending, from_there);
        if (waitpid(sender, NULL, 0) != sender || count == 0)
            weir_measure_die("no event was followed");
        weir_process_end(worker);
        size_t middle = count / 2, last_hundredth = count * 99 / 100;
        weir_figure_add(&acknowledged, (double)sending[last_hundredth] / 1e3, 0);
        weir_figure_add(&after, (double)from_there[last_hundredth] / 1e3, 0);
        weir_figure_add(&median, (double)waits[middle] / 1e3, 0);
        weir_figure_add(&p99, (double)waits[last_hundredth] / 1e3, 0);
        weir_figure_add(&most, (double)waits[count - 1] / 1e3, 0);
        weir_measure_at_end(NULL);
        clean_up();
    }
    printf("%llu events a second\n", (unsigned long long)rate);
    weir_measure_print(&acknowledged);
    weir_measure_print(&after);
    weir_measure_print(&median);
    weir_measure_print(&p99);
    weir_measure_print(&most);
    weir_measure_target(
        &(struct weir_target){.what = "event in Kafka to visible in Redis, 99 of 100, flush interval 200 ms",
                              .figure = &p99,
                              .at_most = 300});
    return weir_measure_end();
}
