#include "benchmarks/topic.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "benchmarks/measure.h"
#include "common/hash.h"
#include "common/status.h"

enum {
    CALL_MS = 30000,
    LOOK_MS = 5,
    DELIVER_MS = 120000,
    FULL_MS = 10,
    CONSUME_SECONDS = 180,
    CONSUME_MESSAGES = 4096
};

static rd_kafka_t *open_client(const struct weir_topic *topic, rd_kafka_type_t type, const char *const *pairs,
                               weir_topic_delivery *on_delivery)
{
    char text[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    if (on_delivery)
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);

    if (rd_kafka_conf_set(conf, "bootstrap.servers", topic->brokers, text, sizeof text) != RD_KAFKA_CONF_OK)
        weir_measure_die("brokers: %s", text);
    for (; *pairs; pairs += 2)
        if (rd_kafka_conf_set(conf, pairs[0], pairs[1], text, sizeof text) != RD_KAFKA_CONF_OK)
            weir_measure_die("%s: %s", pairs[0], text);
    rd_kafka_t *handle = rd_kafka_new(type, conf, text, sizeof text);
    if (!handle)
        weir_measure_die("librdkafka: %s", text);
    return handle;
}

rd_kafka_t *weir_topic_client(const struct weir_topic *topic, rd_kafka_type_t type, const char *const *pairs)
{
    return open_client(topic, type, pairs, NULL);
}

static bool has_leaders(rd_kafka_t *handle, const struct weir_topic *topic, rd_kafka_topic_t *of)
{
    const struct rd_kafka_metadata *metadata;

    if (rd_kafka_metadata(handle, 0, of, &metadata, CALL_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return false;
    const struct rd_kafka_metadata_topic *found = &metadata->topics[0];
    bool has = metadata->topic_cnt == 1 && !found->err && found->partition_cnt == topic->partitions;
    for (int i = 0; has && i < found->partition_cnt; i++)
        has = !found->partitions[i].err && found->partitions[i].leader >= 0;
    rd_kafka_metadata_destroy(metadata);
    return has;
}

/* The controller answers when it has made the topic; brokers hear of it a moment later, and deny it until then. */
static void wait_for_leaders(rd_kafka_t *handle, const struct weir_topic *topic)
{
    rd_kafka_topic_t *of = rd_kafka_topic_new(handle, topic->name, NULL);
    time_t until = time(NULL) + CALL_MS / 1000;

    while (!has_leaders(handle, topic, of)) {
        if (time(NULL) > until)
            weir_measure_die("%s: topic %s has no leaders", topic->brokers, topic->name);
        usleep(LOOK_MS * 1000);
    }
    rd_kafka_topic_destroy(of);
}

static void administer(const struct weir_topic *topic, bool is_removal)
{
    static const char *const none[] = {NULL};
    char text[512] = "";
    rd_kafka_t *handle = weir_topic_client(topic, RD_KAFKA_PRODUCER, none);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);

    if (is_removal) {
        rd_kafka_DeleteTopic_t *what = rd_kafka_DeleteTopic_new(topic->name);
        rd_kafka_DeleteTopics(handle, &what, 1, NULL, queue);
        rd_kafka_DeleteTopic_destroy(what);
    } else {
        rd_kafka_NewTopic_t *what = rd_kafka_NewTopic_new(topic->name, topic->partitions, 1, text, sizeof text);
        if (!what)
            weir_measure_die("topic: %s", text);
        if (topic->is_stamped_by_broker)
            rd_kafka_NewTopic_set_config(what, "message.timestamp.type", "LogAppendTime");
        rd_kafka_CreateTopics(handle, &what, 1, NULL, queue);
        rd_kafka_NewTopic_destroy(what);
    }
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, CALL_MS);
    if (!event || rd_kafka_event_error(event))
        weir_measure_die("%s: %s", topic->brokers, event ? rd_kafka_event_error_string(event) : "does not answer");
    rd_kafka_event_destroy(event);
    if (!is_removal)
        wait_for_leaders(handle, topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(handle);
}

void weir_topic_create(const struct weir_topic *topic)
{
    administer(topic, false);
}

void weir_topic_remove(const struct weir_topic *topic)
{
    administer(topic, true);
}

int32_t weir_topic_partition_of(const struct weir_topic *topic, const char *event, size_t length)
{
    const char *before = topic->keys == WEIR_TOPIC_UNKEYED ? "\"id\":\"" : "\"subject\":\"";
    const char *from = memmem(event, length, before, strlen(before));

    if (!from)
        weir_measure_die("an event without a subject or id: %.*s", (int)length, event);
    from += strlen(before);
    const char *end = memchr(from, '"', (size_t)(event + length - from));
    uint64_t hash = weir_hash64(from, (size_t)(end - from), 7);
    if (topic->keys == WEIR_TOPIC_HOT && (hash >> 32) % 5 != 0)
        return 0;
    return (int32_t)(hash % (uint32_t)topic->partitions);
}

rd_kafka_t *weir_topic_producer(const struct weir_topic *topic, const char *linger_ms, weir_topic_delivery *on_delivery,
                                rd_kafka_topic_t **ret_of)
{
    const char *const pairs[] = {"linger.ms",
                                 linger_ms,
                                 "batch.size",
                                 "1000000",
                                 "compression.type",
                                 topic->codec,
                                 "queue.buffering.max.messages",
                                 "500000",
                                 "enable.idempotence",
                                 "true",
                                 NULL};
    rd_kafka_t *producer = open_client(topic, RD_KAFKA_PRODUCER, pairs, on_delivery);

    *ret_of = rd_kafka_topic_new(producer, topic->name, NULL);
    return producer;
}

void weir_topic_send(rd_kafka_t *producer, rd_kafka_topic_t *of, int32_t partition, const char *event, size_t length,
                     void *opaque)
{
    while (rd_kafka_produce(of, partition, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)event, length, NULL, 0, opaque)
           != 0) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            weir_measure_die("produce: %s", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_poll(producer, FULL_MS);
    }
}

static void send_binary(rd_kafka_t *producer, rd_kafka_topic_t *of, int32_t partition, const char *event, size_t length)
{
    struct weir_workload_message message = weir_workload_to_binary(event, length);
    rd_kafka_resp_err_t error;

    for (;;) {
        rd_kafka_headers_t *headers = rd_kafka_headers_new(WEIR_WORKLOAD_HEADERS);
        for (int i = 0; i < WEIR_WORKLOAD_HEADERS; i++)
            rd_kafka_header_add(headers, message.headers[i].name.data, -1, message.headers[i].value.data,
                                (ssize_t)message.headers[i].value.length);
        error = rd_kafka_producev(producer, RD_KAFKA_V_RKT(of), RD_KAFKA_V_PARTITION(partition),
                                  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                  RD_KAFKA_V_VALUE((void *)(uintptr_t)message.value.data, message.value.length),
                                  RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
            return;
        rd_kafka_headers_destroy(headers);
        if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            weir_measure_die("produce: %s", rd_kafka_err2str(error));
        rd_kafka_poll(producer, FULL_MS);
    }
}

void weir_topic_producer_end(rd_kafka_t *producer, rd_kafka_topic_t *of)
{
    if (rd_kafka_flush(producer, DELIVER_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        weir_measure_die("produce: not everything was delivered");
    rd_kafka_topic_destroy(of);
    rd_kafka_destroy(producer);
}

void weir_topic_fill(const struct weir_topic *topic, struct weir_workload *workload)
{
    char event[WEIR_WORKLOAD_EVENT_MAX];
    rd_kafka_topic_t *of;
    rd_kafka_t *producer = weir_topic_producer(topic, "50", NULL, &of);

    for (size_t length; (length = weir_workload_next(workload, event)) > 0;) {
        int32_t partition = weir_topic_partition_of(topic, event, length);
        if (topic->is_binary)
            send_binary(producer, of, partition, event, length);
        else
            weir_topic_send(producer, of, partition, event, length, NULL);
    }
    weir_topic_producer_end(producer, of);
}

struct bare {
    const struct weir_topic *topic;
    uint64_t wanted;
    int consumers;
    pthread_barrier_t line;
    _Atomic bool has_begun; /* start is its who found it false; the events that follow make it visible to the last */
    _Atomic uint64_t events, bytes;
    struct weir_took start, took;
};

struct bare_consumer {
    struct bare *all;
    int number;
    pthread_t thread;
};

/* Reads with the others until all have seen everything. */
static void consume(struct bare *bare, rd_kafka_queue_t *queue)
{
    rd_kafka_message_t *messages[CONSUME_MESSAGES];
    struct weir_took began = weir_measure_now();

    while (bare->events < bare->wanted && weir_measure_since(began).wall < CONSUME_SECONDS) {
        ssize_t count = rd_kafka_consume_batch_queue(queue, 50, messages, CONSUME_MESSAGES);
        uint64_t events = 0, bytes = 0;
        if (count > 0 && !bare->has_begun && !atomic_exchange(&bare->has_begun, true))
            bare->start = weir_measure_now();
        for (ssize_t i = 0; i < count; i++) {
            events += !messages[i]->err;
            bytes += messages[i]->err ? 0 : messages[i]->len;
            rd_kafka_message_destroy(messages[i]);
        }
        bare->bytes += bytes;
        if (events > 0 && atomic_fetch_add(&bare->events, events) + events == bare->wanted)
            bare->took = weir_measure_since(bare->start);
    }
}

static void *run_consumer(void *context)
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
                                        "1000000",
                                        "queued.max.messages.kbytes",
                                        "1048576",
                                        NULL};
    const struct bare_consumer *consumer = context;
    const struct weir_topic *topic = consumer->all->topic;
    rd_kafka_t *handle = weir_topic_client(topic, RD_KAFKA_CONSUMER, pairs);
    rd_kafka_queue_t *queue = (rd_kafka_poll_set_consumer(handle), rd_kafka_queue_get_consumer(handle));
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(topic->partitions);

    for (int32_t i = consumer->number; i < topic->partitions; i += consumer->all->consumers)
        rd_kafka_topic_partition_list_add(list, topic->name, i)->offset = 0;
    pthread_barrier_wait(&consumer->all->line); /* nobody waits for another's client once one reads */
    rd_kafka_assign(handle, list);
    consume(consumer->all, queue);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_queue_destroy(queue);
    rd_kafka_consumer_close(handle);
    rd_kafka_destroy(handle);
    return NULL;
}

struct weir_took weir_topic_consume_bare(const struct weir_topic *topic, uint64_t wanted, int consumers)
{
    struct bare bare = {.topic = topic, .wanted = wanted, .consumers = consumers};
    struct bare_consumer of[WEIR_TOPIC_CONSUMERS_MAX];

    weir_check(consumers >= 1 && consumers <= WEIR_TOPIC_CONSUMERS_MAX);
    pthread_barrier_init(&bare.line, NULL, (unsigned)consumers);
    for (int i = 0; i < consumers; i++) {
        of[i] = (struct bare_consumer){.all = &bare, .number = i};
        if (pthread_create(&of[i].thread, NULL, run_consumer, &of[i]) != 0)
            weir_measure_die("no thread for a consumer");
    }
    for (int i = 0; i < consumers; i++)
        pthread_join(of[i].thread, NULL);
    pthread_barrier_destroy(&bare.line);
    if (bare.events != wanted || bare.bytes < bare.events * (topic->is_binary ? 60 : 200))
        weir_measure_die("bare librdkafka saw %llu events", (unsigned long long)bare.events);
    return bare.took;
}
