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
    BURST = 5000,         /* events that are sent without a look at what was delivered, at most */
    UNDER_WAY = 400000,   /* events that are sent and not visible, at most, while the full load is looked for */
    FULL_SECONDS = 10,    /* of that */
    PATIENCE_MS = 60000,
};

static const char about[] =
    "Sends the workload's events to a topic at an even rate, with a real `weir ingest` reading it, and looks every\n"
    "millisecond how far each lane's cut in Redis is: from when the broker put an event into its log (its own time "
    "stamp)\n"
    "until the cut that holds it is there; and from just before it was given to the Kafka client. First it sends as "
    "fast\n"
    "as what was sent becomes visible, with producer, broker, worker and Redis on the same cores: half of that is half "
    "load.\n"
    "Needs WEIR_KAFKA_BROKERS and WEIR_REDIS_URL.";

struct sample {
    int64_t sent, logged; /* monotonic us */
    int64_t offset;
};

/* Shared with the sending process: it appends, the watching one reads up to count. */
struct probes {
    _Atomic size_t count[PARTITIONS];
    _Atomic bool is_done;
    _Atomic int64_t began;   /* monotonic us: from here on events are sent at the full rate; 0: not yet */
    _Atomic int64_t visible; /* events of all partitions that the cuts hold */
    struct sample samples[PARTITIONS][SAMPLES_MAX];
};

/* Of one run. */
struct load {
    uint64_t rate; /* events a second; 0: as fast as they become visible */
    uint64_t seconds;
};

/* What it came to. */
struct outcome {
    size_t count;      /* of probes */
    double per_second; /* events that became visible, once warm */
};

static struct weir_topic topic = {.partitions = PARTITIONS, .codec = "lz4", .is_stamped_by_broker = true};
static struct probes *probes;
static redisContext *redis;

static int64_t now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

/* How far the wall clock, which the broker stamps by, is ahead of the monotonic one. */
static int64_t wall_ahead_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000 - now_us();
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
    rd_kafka_timestamp_type_t type;
    int64_t stamp = rd_kafka_message_timestamp(message, &type);
    if (type != RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME)
        weir_measure_die("the broker does not say when it put an event into its log");
    probes->samples[message->partition][at] =
        (struct sample){(int64_t)(intptr_t)message->_private, stamp * 1000 - wall_ahead_us(), message->offset};
    /* release: whoever sees the count sees the sample. */
    atomic_store_explicit(&probes->count[message->partition], at + 1, memory_order_release);
}

/* Slowly, until the watching process says that a cut of every lane is there: the group is joined meanwhile. How many.
 */
static uint64_t send_first(rd_kafka_t *producer, rd_kafka_topic_t *of, struct weir_workload *workload)
{
    char event[WEIR_WORKLOAD_EVENT_MAX];
    uint64_t sent = 0;
    size_t length;

    for (; !atomic_load_explicit(&probes->began, memory_order_acquire)
           && (length = weir_workload_next(workload, event)) > 0;
         sent++) {
        weir_topic_send(producer, of, weir_topic_partition_of(&topic, event, length), event, length, NULL);
        rd_kafka_poll(producer, 1000 / SLOW_RATE);
    }
    return sent;
}

/* How many events may be sent by now, beside the first ones. */
static uint64_t due_by(const struct load *load, uint64_t first, int64_t began)
{
    int64_t passed = now_us() - began;

    if (load->rate) {
        uint64_t due = load->rate * (uint64_t)passed / 1000000, all = load->rate * load->seconds;
        return due < all ? due : all;
    }
    int64_t due = atomic_load_explicit(&probes->visible, memory_order_acquire) + UNDER_WAY - (int64_t)first;
    return due > 0 ? (uint64_t)due : 0;
}

static void send_all(const struct load *load)
{
    enum { MOST = 1500000 }; /* events a second that the workload has enough for */
    struct weir_workload_settings settings = {.seed = 11,
                                              .events = (load->rate ? load->rate : MOST) * load->seconds
                                                        + SLOW_RATE * PATIENCE_MS / 1000,
                                              .customers = 10000,
                                              .repeated_permille = 10,
                                              .late_permille = 10,
                                              .span_seconds = (uint32_t)load->seconds};
    struct weir_workload *workload = weir_workload_new(&settings);
    rd_kafka_topic_t *of;
    rd_kafka_t *producer = weir_topic_producer(&topic, "2", on_delivery, &of);
    char event[WEIR_WORKLOAD_EVENT_MAX];
    size_t length = 1;

    uint64_t first = send_first(producer, of, workload), sent = 0;
    int64_t began = now_us(), until = began + (int64_t)load->seconds * 1000000;
    while (length > 0 && (load->rate ? sent < load->rate * load->seconds : now_us() < until)) {
        uint64_t due = due_by(load, first, began), most = sent + BURST;
        for (; sent < due && sent < most && (length = weir_workload_next(workload, event)) > 0; sent++) {
            int64_t stamp = sent % PROBE_EVERY == 0 ? now_us() : 0;
            weir_topic_send(producer, of, weir_topic_partition_of(&topic, event, length), event, length,
                            (void *)(intptr_t)stamp);
        }
        rd_kafka_poll(producer, sent < due ? 0 : SLICE_MS);
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

/* Microseconds of each probe, in order of size: from sent to visible, and from the broker's log. */
static struct outcome watch(int64_t *ret_waits, int64_t *ret_after)
{
    size_t seen[PARTITIONS] = {0};
    struct outcome outcome = {0};
    bool is_done = false;

    wait_for_lanes();
    int64_t began = now_us(), last_news = began, warm_at = 0, warm = 0;
    while (!is_done) {
        bool is_sent = atomic_load_explicit(&probes->is_done, memory_order_acquire);
        int64_t visible = 0, now = 0;
        is_done = is_sent;
        for (int32_t i = 0; i < PARTITIONS; i++) {
            int64_t next = weir_process_next_offset(redis, &topic, i);
            size_t count = atomic_load_explicit(&probes->count[i], memory_order_acquire);
            now = now_us();
            visible += next;
            for (; seen[i] < count && probes->samples[i][seen[i]].offset < next; seen[i]++) {
                last_news = now;
                const struct sample *sample = &probes->samples[i][seen[i]];
                if (sample->sent - began <= WARM_UP_MS * 1000)
                    continue;
                ret_after[outcome.count] = now - sample->logged;
                ret_waits[outcome.count++] = now - sample->sent;
            }
            is_done = is_done && seen[i] == count;
        }
        atomic_store_explicit(&probes->visible, visible, memory_order_release);
        if (!warm_at && now - began > WARM_UP_MS * 1000)
            warm_at = now, warm = visible;
        if (warm_at && !is_sent && now > warm_at)
            outcome.per_second = (double)(visible - warm) * 1e6 / (double)(now - warm_at);
        if (now - last_news > PATIENCE_MS * 1000)
            weir_measure_die("nothing came through for a minute");
        usleep(1000);
    }
    qsort(ret_waits, outcome.count, sizeof *ret_waits, by_value);
    qsort(ret_after, outcome.count, sizeof *ret_after, by_value);
    return outcome;
}

static void clean_up(void)
{
    weir_process_remove_lanes(redis, &topic);
    redisFree(redis);
    weir_topic_remove(&topic);
}

/* 3. A run. */

static int64_t waits[PARTITIONS * SAMPLES_MAX], after[PARTITIONS * SAMPLES_MAX];

static struct outcome run(const char *url, const struct load *load)
{
    static int number;

    /* Another name each time: a topic made anew under its old one would be a fault to get over. */
    snprintf(topic.name, sizeof topic.name, "benchmark-latency-%d-%lld-%d", (int)getpid(), (long long)time(NULL),
             number++);
    redis = weir_process_redis(url);
    weir_topic_create(&topic);
    weir_measure_at_end(clean_up);
    memset((void *)probes->count, 0, sizeof probes->count);
    probes->is_done = false;
    probes->began = probes->visible = 0;
    pid_t worker = weir_process_start(&topic, url, NULL);
    fflush(NULL);
    pid_t sender = fork();
    if (sender == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        send_all(load);
        _exit(0);
    }
    struct outcome outcome = watch(waits, after);
    if (waitpid(sender, NULL, 0) != sender || outcome.count == 0)
        weir_measure_die("no event was followed");
    weir_process_end(worker);
    weir_measure_at_end(NULL);
    clean_up();
    return outcome;
}

int main(int argc, char **argv)
{
    struct load load = {0};
    const struct weir_measure_program program = {
        .name = "latency",
        .about = about,
        .example = "--rate 100000 --seconds 20",
        .repetitions = 3,
        .options = {{"--rate", "N", "events a second (half of what is found to be the full load; smoke 2000)",
                     &load.rate, NULL},
                    {"--seconds", "N", "each time (15; smoke 5), the first three of which are not judged",
                     &load.seconds, NULL}}};
    struct weir_figure full = {.what = "sent as fast as it becomes visible: full load", .unit = "million events/s"},
                       rate = {.what = "half load, as sent and made visible", .unit = "million events/s"},
                       in_log = {.what = "event in Kafka's log -> visible in Redis, median", .unit = "ms"},
                       p99 = {.what = "the same, 99 of 100", .unit = "ms"},
                       most = {.what = "the same, the slowest", .unit = "ms"},
                       sent = {.what = "event given to the producer -> visible, 99 of 100", .unit = "ms"};

    weir_measure_start(&program, argc, argv);
    if (!load.seconds)
        load.seconds = weir_measure_is_smoke() ? 5 : 15;
    if (!load.rate && weir_measure_is_smoke())
        load.rate = 2000;
    topic.brokers = weir_measure_server("KAFKA_BROKERS");
    const char *url = weir_measure_server("REDIS_URL");
    probes = mmap(NULL, sizeof *probes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (probes == MAP_FAILED)
        weir_measure_die("no memory");
    if (!load.rate) {
        struct outcome outcome = run(url, &(struct load){.seconds = FULL_SECONDS});
        load.rate = (uint64_t)(outcome.per_second / 2);
        weir_figure_add(&full, outcome.per_second / 1e6, 0);
        weir_measure_print(&full);
    }
    for (int i = 0; i < weir_measure_repetitions(); i++) {
        struct outcome outcome = run(url, &load);
        size_t middle = outcome.count / 2, last_hundredth = outcome.count * 99 / 100;
        weir_figure_add(&rate, outcome.per_second / 1e6, 0);
        weir_figure_add(&in_log, (double)after[middle] / 1e3, 0);
        weir_figure_add(&p99, (double)after[last_hundredth] / 1e3, 0);
        weir_figure_add(&most, (double)after[outcome.count - 1] / 1e3, 0);
        weir_figure_add(&sent, (double)waits[last_hundredth] / 1e3, 0);
    }
    printf("%llu events a second\n", (unsigned long long)load.rate);
    weir_measure_print(&rate);
    weir_measure_print(&in_log);
    weir_measure_print(&p99);
    weir_measure_print(&most);
    weir_measure_print(&sent);
    weir_measure_target(
        &(struct weir_target){.what = "event in Kafka to visible in Redis, 99 of 100, flush interval 200 ms",
                              .figure = &p99,
                              .at_most = 300});
    return weir_measure_end();
}
