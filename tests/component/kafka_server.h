/* Topics of the test's own on a real Kafka, and messages in them put there by bare librdkafka.
 *
 * WEIR_TEST_KAFKA_BROKERS names brokers that the tests may create topics at; without it, one hook starts a private
 * Kafka for the whole program (deploy/local) and another one stops it. */
#ifndef WEIR_TESTS_COMPONENT_KAFKA_SERVER_H
#define WEIR_TESTS_COMPONENT_KAFKA_SERVER_H

#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { KAFKA_CALL_MS = 90000 };

static char kafka_folder[64]; /* of the server that this program started; "": none */

static inline void kafka_local(const char *command)
{
    char line[512];
    snprintf(line, sizeof line, WEIR_SOURCE_DIR "/deploy/local %s --dir %s >/dev/null 2>&1", command, kafka_folder);
    if (system(line) != 0)
        fprintf(stderr, "%s failed\n", line);
}

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    if (getenv("WEIR_TEST_KAFKA_BROKERS"))
        return;
    char line[512], brokers[512] = "";
    strcpy(kafka_folder, "/tmp/weir-test-XXXXXX");
    if (!mkdtemp(kafka_folder))
        abort();
    kafka_local("up --only kafka --fast");
    snprintf(line, sizeof line,
             "eval \"$(" WEIR_SOURCE_DIR "/deploy/local env --dir %s)\"; printf %%s \"$WEIR_KAFKA_BROKERS\"",
             kafka_folder);
    FILE *pipe = popen(line, "r");
    if (pipe) {
        if (!fgets(brokers, sizeof brokers, pipe))
            brokers[0] = '\0';
        pclose(pipe);
    }
    setenv("WEIR_TEST_KAFKA_BROKERS", brokers, 1);
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    (void)stats;
    if (!kafka_folder[0])
        return;
    kafka_local("down --wipe");
    rmdir(kafka_folder);
}

static inline const char *kafka_brokers(void)
{
    const char *brokers = getenv("WEIR_TEST_KAFKA_BROKERS");
    cr_assert(brokers && *brokers, "no Kafka: WEIR_TEST_KAFKA_BROKERS is not set and deploy/local did not start one");
    return brokers;
}

static inline int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* pairs: name, value, …, NULL. The client is destroyed by the caller. */
static inline rd_kafka_t *kafka_client(rd_kafka_type_t type, const char *const *pairs)
{
    char text[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    cr_assert_eq(rd_kafka_conf_set(conf, "bootstrap.servers", kafka_brokers(), text, sizeof text), RD_KAFKA_CONF_OK);
    for (; pairs && *pairs; pairs += 2)
        cr_assert_eq(rd_kafka_conf_set(conf, pairs[0], pairs[1], text, sizeof text), RD_KAFKA_CONF_OK, "%s", text);
    rd_kafka_t *client = rd_kafka_new(type, conf, text, sizeof text);
    cr_assert(client, "%s", text);
    return client;
}

/* Makes a topic that takes messages of 4 MiB, and waits until its partitions are led; the broker's answer. policy:
 * cleanup.policy, or NULL. */
static inline rd_kafka_resp_err_t kafka_make_topic(const char *name, int partitions, const char *policy)
{
    char text[512];
    rd_kafka_t *client = kafka_client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, partitions, 1, text, sizeof text);
    cr_assert(topic, "%s", text);
    rd_kafka_NewTopic_set_config(topic, "max.message.bytes", "4194304");
    if (policy)
        rd_kafka_NewTopic_set_config(topic, "cleanup.policy", policy);
    rd_kafka_CreateTopics(client, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, KAFKA_CALL_MS);
    cr_assert(event && !rd_kafka_event_error(event), "topic %s: %s", name,
              event ? rd_kafka_event_error_string(event) : "no answer");
    size_t count;
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    cr_assert_eq(count, 1);
    rd_kafka_resp_err_t error = rd_kafka_topic_result_error(results[0]);
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    /* Created is not yet led: wait for the leaders. */
    int64_t deadline = now_ms() + KAFKA_CALL_MS, low, high;
    for (int i = 0; i < partitions && !error;)
        if (rd_kafka_query_watermark_offsets(client, name, i, &low, &high, 1000) == RD_KAFKA_RESP_ERR_NO_ERROR)
            i++;
        else
            cr_assert(now_ms() < deadline, "topic %s: no leader", name);
    rd_kafka_destroy(client);
    return error;
}

/* A new topic of an unused name (into `name`). */
static inline void kafka_topic(const char *stem, int partitions, char name[64])
{
    static int number;
    snprintf(name, 64, "%s-%d-%lld-%d", stem, (int)getpid(), (long long)time(NULL), number++);
    rd_kafka_resp_err_t error = kafka_make_topic(name, partitions, NULL);
    cr_assert_eq(error, RD_KAFKA_RESP_ERR_NO_ERROR, "topic %s: %s", name, rd_kafka_err2str(error));
}

/* The topic goes, and another one of its name comes. */
static inline void kafka_make_anew(const char *name, int partitions)
{
    rd_kafka_t *client = kafka_client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_DeleteTopic_t *what = rd_kafka_DeleteTopic_new(name);
    rd_kafka_DeleteTopics(client, &what, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, KAFKA_CALL_MS);
    cr_assert(event && !rd_kafka_event_error(event));
    rd_kafka_event_destroy(event);
    rd_kafka_DeleteTopic_destroy(what);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(client);
    int64_t deadline = now_ms() + KAFKA_CALL_MS;
    while (kafka_make_topic(name, partitions, NULL)) /* exists still */
        cr_assert(now_ms() < deadline, "topic %s does not go", name);
}

static inline void kafka_add_partitions(const char *name, int partitions)
{
    char text[512];
    rd_kafka_t *client = kafka_client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_NewPartitions_t *what = rd_kafka_NewPartitions_new(name, (size_t)partitions, text, sizeof text);
    rd_kafka_CreatePartitions(client, &what, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, KAFKA_CALL_MS);
    cr_assert(event && !rd_kafka_event_error(event));
    rd_kafka_event_destroy(event);
    rd_kafka_NewPartitions_destroy(what);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(client);
}

/* Everything below `before` in a partition is gone from now on, as retention does it. */
static inline void kafka_delete_before(const char *topic, int partition, int64_t before)
{
    rd_kafka_t *client = kafka_client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition)->offset = before;
    rd_kafka_DeleteRecords_t *what = rd_kafka_DeleteRecords_new(list);
    rd_kafka_DeleteRecords(client, &what, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, KAFKA_CALL_MS);
    cr_assert(event && !rd_kafka_event_error(event));
    rd_kafka_event_destroy(event);
    rd_kafka_DeleteRecords_destroy(what);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(client);
}

static inline void kafka_count_failure(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    (void)client;
    *(int *)opaque += message->err != RD_KAFKA_RESP_ERR_NO_ERROR;
}

static int kafka_failures; /* of deliveries of this process's producers */

/* A producer whose deliveries are looked at by kafka_flush. Idempotent: what a busy broker has not answered in time is
 * sent again, and without that it would be there twice, or behind what came after it. It also has few requests under
 * way, so that it cannot get a minute ahead of such a broker. */
static inline rd_kafka_t *kafka_producer(const char *transactional_id)
{
    char text[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", kafka_brokers(), text, sizeof text);
    rd_kafka_conf_set(conf, "message.max.bytes", "4000000", text, sizeof text);
    rd_kafka_conf_set(conf, "linger.ms", "5", text, sizeof text);
    rd_kafka_conf_set(conf, "enable.idempotence", "true", text, sizeof text);
    rd_kafka_conf_set(conf, "queue.buffering.max.messages", "1000000", text, sizeof text);
    if (transactional_id)
        rd_kafka_conf_set(conf, "transactional.id", transactional_id, text, sizeof text);
    rd_kafka_conf_set_dr_msg_cb(conf, kafka_count_failure);
    rd_kafka_conf_set_opaque(conf, &kafka_failures);
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    cr_assert(producer, "%s", text);
    return producer;
}

/* A queue is full of what is not delivered, and of reports that nobody has asked for: both are waited for. */
static inline void kafka_put(rd_kafka_t *producer, const char *topic, int partition, const char *value, size_t length)
{
    rd_kafka_resp_err_t error;
    int64_t deadline = now_ms() + KAFKA_CALL_MS;

    do {
        error = rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                                  RD_KAFKA_V_VALUE((void *)value, length), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                  RD_KAFKA_V_END);
        rd_kafka_poll(producer, error ? 100 : 0);
    } while (error == RD_KAFKA_RESP_ERR__QUEUE_FULL && now_ms() < deadline);
    cr_assert_eq(error, RD_KAFKA_RESP_ERR_NO_ERROR, "%s", rd_kafka_err2str(error));
}

static inline void kafka_flush(rd_kafka_t *producer)
{
    cr_assert_eq(rd_kafka_flush(producer, KAFKA_CALL_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert_eq(kafka_failures, 0, "%d messages were not delivered", kafka_failures);
}

/* "0", "1", … into a partition: value and offset are the same while the topic is plain. */
static inline void kafka_fill(const char *topic, int partition, int64_t from, int64_t count)
{
    rd_kafka_t *producer = kafka_producer(NULL);
    char value[32];
    for (int64_t i = from; i < from + count; i++)
        kafka_put(producer, topic, partition, value, (size_t)snprintf(value, sizeof value, "%lld", (long long)i));
    kafka_flush(producer);
    rd_kafka_destroy(producer);
}

#endif
