/* weir's Kafka source beside bare librdkafka: batch consume of the same topic, in turns, in one run.
 *
 * It creates a topic of 250-byte events in 4
 * partitions, reads it with each and removes it again. Both see every message's bytes (a digest over offset, length and
 * first byte): a fast wrong answer fails. Wall and CPU time are from the first message to the last, so that joining a
 * group is left out. */
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "benchmarks/measure.h"
#include "ingest/source.h"

enum { PARTITIONS = 4, EVENT_BYTES = 250, CALL_MS = 30000 };

static const char *brokers;
static char topic[64];

struct run {
    uint64_t events;
    uint64_t digest;
    struct weir_took start, took;
};

/* 1. The topic. */

static rd_kafka_t *client(rd_kafka_type_t type, const char *const *pairs)
{
    char text[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, text, sizeof text) != RD_KAFKA_CONF_OK)
        weir_measure_die("%s: %s", "brokers", text);
    for (; *pairs; pairs += 2)
        if (rd_kafka_conf_set(conf, pairs[0], pairs[1], text, sizeof text) != RD_KAFKA_CONF_OK)
            weir_measure_die("%s: %s", pairs[0], text);
    rd_kafka_t *handle = rd_kafka_new(type, conf, text, sizeof text);
    if (!handle)
        weir_measure_die("%s: %s", "librdkafka", text);
    return handle;
}

static void administer(rd_kafka_t *handle, bool is_removal)
{
    char text[512] = "";
    rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
    if (is_removal) {
        rd_kafka_DeleteTopic_t *what = rd_kafka_DeleteTopic_new(topic);
        rd_kafka_DeleteTopics(handle, &what, 1, NULL, queue);
        rd_kafka_DeleteTopic_destroy(what);
    } else {
        rd_kafka_NewTopic_t *what = rd_kafka_NewTopic_new(topic, PARTITIONS, 1, text, sizeof text);
        if (!what)
            weir_measure_die("%s: %s", "topic", text);
        rd_kafka_CreateTopics(handle, &what, 1, NULL, queue);
        rd_kafka_NewTopic_destroy(what);
    }
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, CALL_MS);
    if (!event || rd_kafka_event_error(event))
        weir_measure_die("%s: %s", brokers, event ? rd_kafka_event_error_string(event) : "does not answer");
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
}

static void fill(uint64_t events)
{
    static const char *const pairs[] = {
        "linger.ms", "50", "batch.size", "1000000", "compression.type", "lz4", "queue.buffering.max.messages",
        "500000",    NULL};
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, pairs);
    rd_kafka_topic_t *of = rd_kafka_topic_new(producer, topic, NULL);
    char event[EVENT_BYTES + 64];
    for (uint64_t i = 0; i < events; i++) {
        int length =
            snprintf(event, sizeof event,
                     "{\"specversion\":\"1.0\",\"id\":\"8f0c-%016" PRIx64
                     "\",\"source\":\"api-gateway\",\"type\":\"llm.completion\","
                     "\"subject\":\"customer-%05" PRIu64 "\",\"time\":\"2026-01-05T10:59:59.123Z\","
                     "\"data\":{\"tokens\":%04" PRIu64 ",\"model\":\"large\",\"region\":\"eu-west-1\",\"pad\":\"",
                     i * UINT64_C(0x9e3779b97f4a7c15), i % 20011, i % 9973);
        memset(event + length, 'p', (size_t)(EVENT_BYTES - 3 - length));
        memcpy(event + EVENT_BYTES - 3, "\"}}", 3);
        while (rd_kafka_produce(of, (int32_t)(i % PARTITIONS), RD_KAFKA_MSG_F_COPY, event, EVENT_BYTES, NULL, 0, NULL)
               != 0) {
            if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
                weir_measure_die("%s: %s", "produce", rd_kafka_err2str(rd_kafka_last_error()));
            rd_kafka_poll(producer, 10);
        }
    }
    if (rd_kafka_flush(producer, 120000) != RD_KAFKA_RESP_ERR_NO_ERROR)
        weir_measure_die("%s: %s", "produce", "not everything was delivered");
    rd_kafka_topic_destroy(of);
    rd_kafka_destroy(producer);
}

/* 2. The two. */

static void see(struct run *run, int32_t partition, int64_t offset, const char *bytes, size_t length)
{
    run->events++;
    run->digest +=
        ((uint64_t)offset * PARTITIONS + (uint64_t)partition + 1) * (length + (unsigned char)bytes[length / 2]);
}

static void run_bare(uint64_t events, struct run *run)
{
    static const char *const pairs[] = {"group.id",
                                        "bench",
                                        "enable.auto.commit",
                                        "false",
                                        "enable.auto.offset.store",
                                        "false",
                                        "fetch.message.max.bytes",
                                        "4194304",
                                        "queued.min.messages",
                                        "200000",
                                        "queued.max.messages.kbytes",
                                        "65536",
                                        NULL};
    static rd_kafka_message_t *messages[WEIR_POLL_MESSAGES_MAX];
    rd_kafka_t *consumer = client(RD_KAFKA_CONSUMER, pairs);
    rd_kafka_poll_set_consumer(consumer);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(PARTITIONS);
    for (int32_t i = 0; i < PARTITIONS; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = 0;
    double deadline = weir_measure_now().wall + 120;
    rd_kafka_assign(consumer, list);
    while (run->events < events && weir_measure_now().wall < deadline) {
        ssize_t count = rd_kafka_consume_batch_queue(queue, 50, messages, WEIR_POLL_MESSAGES_MAX);
        if (run->events == 0 && count > 0)
            run->start = weir_measure_now();
        for (ssize_t i = 0; i < count; i++) {
            if (!messages[i]->err)
                see(run, messages[i]->partition, messages[i]->offset, messages[i]->payload, messages[i]->len);
            rd_kafka_message_destroy(messages[i]);
        }
    }
    run->took = weir_measure_since(run->start);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_queue_destroy(queue);
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
}

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

static void run_weir(uint64_t events, struct run *run)
{
    static struct weir_message messages[WEIR_POLL_MESSAGES_MAX];
    struct weir_source_listener listener = {.assigned = take, .revoked = let_go};
    struct weir_kafka_settings settings = {.brokers = brokers, .topic = topic, .group = topic};
    struct weir_source *source;
    struct weir_error error;
    double deadline = weir_measure_now().wall + 120;
    if (weir_source_kafka_open(&settings, &listener, &source, &error) != WEIR_OK)
        weir_measure_die("%s: %s", "source", error.text);
    while (run->events < events && weir_measure_now().wall < deadline) {
        size_t count;
        if (source->ops->poll(source, 50, messages, WEIR_POLL_MESSAGES_MAX, &count, &error) != WEIR_OK)
            weir_measure_die("%s: %s", "source", error.text);
        if (run->events == 0 && count > 0)
            run->start = weir_measure_now();
        for (size_t i = 0; i < count; i++)
            see(run, messages[i].partition, messages[i].offset, messages[i].value.data, messages[i].value.length);
    }
    run->took = weir_measure_since(run->start);
    weir_source_free(source);
}

static rd_kafka_t *admin;

static void remove_topic(void)
{
    if (!admin)
        return;
    administer(admin, true);
    rd_kafka_destroy(admin);
}

int main(int argc, char **argv)
{
    static const char *const none[] = {NULL};
    static uint64_t events;
    static const struct weir_measure_program program = {
        .name = "consume",
        .about = "weir's Kafka source beside bare librdkafka: batch consume of the same topic.",
        .repetitions = 5,
        .options = {{"--events", "N", "how many (2 million)", &events, NULL}},
    };
    struct weir_figure bare = {.what = "bare librdkafka batch", .unit = "million events/s"},
                       ours = {.what = "weir source poll", .unit = "million events/s"};

    weir_measure_start(&program, argc, argv);
    events = events ? events : weir_measure_is_smoke() ? 20000 : 2000000;
    brokers = weir_measure_server("KAFKA_BROKERS");
    snprintf(topic, sizeof topic, "benchmark-consume-%d-%lld", (int)getpid(), (long long)time(NULL));
    rd_kafka_t *handle = client(RD_KAFKA_PRODUCER, none);
    administer(handle, false);
    admin = handle;
    weir_measure_at_end(remove_topic);
    fill(events);
    for (int i = 0; i < weir_measure_repetitions(); i++) {
        struct run first = {0}, second = {0};
        run_bare(events, &first);
        run_weir(events, &second);
        if (first.events != events || second.events != events || first.digest != second.digest)
            weir_measure_die("the two did not see the same messages");
        weir_figure_add_rate(&bare, (double)events, first.took);
        weir_figure_add_rate(&ours, (double)events, second.took);
    }
    weir_measure_print(&bare);
    weir_measure_print(&ours);
    return weir_measure_end();
}
