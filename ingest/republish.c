#include "ingest/republish.h"

#include <stdlib.h>
#include <string.h>

#include "ingest/kafka_common.h"

enum {
    ASK_MS = 15000,
    FULL_WAIT_MS = 50,
    FLUSH_MS = 60000,
    LOOKS_MAX = 100, /* at a topic that was just made, FULL_WAIT_MS apart */
};

struct weir_republisher {
    rd_kafka_t *handle;
    char *topic;
    uint64_t failed; /* delivery reports are served on the sender's thread */
    rd_kafka_resp_err_t reason;
};

static void on_delivery(rd_kafka_t *handle, const rd_kafka_message_t *message, void *context)
{
    struct weir_republisher *republisher = context;

    (void)handle;
    if (message->err) {
        republisher->failed++;
        republisher->reason = message->err;
    }
}

/* 1. the topic */
static enum weir_status topic_refused(const struct weir_republisher *republisher, const char *why,
                                      struct weir_error *reterr)
{
    return weir_fail(reterr, WEIR_REJECT,
                     "topic '%s' cannot be made: %s. Make it: one partition, retention.ms=-1, cleanup.policy=delete",
                     republisher->topic, why);
}

static enum weir_status read_answer(const struct weir_republisher *republisher, rd_kafka_event_t *event,
                                    struct weir_error *reterr)
{
    if (!event)
        return weir_fail(reterr, WEIR_RETRY, "Kafka does not answer whether topic '%s' was made", republisher->topic);
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
    if (rd_kafka_event_error(event) || !result)
        return topic_refused(republisher, rd_kafka_event_error_string(event), reterr);
    size_t count = 0;
    const rd_kafka_topic_result_t *const *topics = rd_kafka_CreateTopics_result_topics(result, &count);
    rd_kafka_resp_err_t error = count ? rd_kafka_topic_result_error(topics[0]) : RD_KAFKA_RESP_ERR_NO_ERROR;
    if (error && error != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        return topic_refused(republisher, rd_kafka_topic_result_error_string(topics[0]), reterr);
    return WEIR_OK;
}

/* Kept for ever: the lane's memory in the window store may have to be built again from it. */
static enum weir_status make_topic(const struct weir_republisher *republisher, struct weir_error *reterr)
{
    char text[512] = "";
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(republisher->topic, 1, -1, text, sizeof text);
    enum weir_status status;

    if (!topic)
        return topic_refused(republisher, text, reterr);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(republisher->handle);
    rd_kafka_NewTopic_set_config(topic, "retention.ms", "-1");
    rd_kafka_NewTopic_set_config(topic, "retention.bytes", "-1");
    rd_kafka_NewTopic_set_config(topic, "cleanup.policy", "delete");
    rd_kafka_CreateTopics(republisher->handle, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, ASK_MS);
    status = read_answer(republisher, event, reterr);
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    return status;
}

/* A list of all topics makes none; a question for one would, where brokers make topics by use. */
static enum weir_status has_topic(const struct weir_republisher *republisher, const char *brokers, bool *ret_is_there,
                                  struct weir_error *reterr)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t error = rd_kafka_metadata(republisher->handle, 1, NULL, &metadata, ASK_MS);

    if (error)
        return weir_fail(reterr, WEIR_RETRY, "Kafka at %s does not answer: %s", brokers, rd_kafka_err2str(error));
    *ret_is_there = false;
    for (int i = 0; i < metadata->topic_cnt; i++)
        *ret_is_there =
            *ret_is_there
            || (strcmp(metadata->topics[i].topic, republisher->topic) == 0 && metadata->topics[i].partition_cnt > 0);
    rd_kafka_metadata_destroy(metadata);
    return WEIR_OK;
}

static enum weir_status find_topic(const struct weir_republisher *republisher, const char *brokers,
                                   struct weir_error *reterr)
{
    bool is_there = false;
    enum weir_status status = has_topic(republisher, brokers, &is_there, reterr);

    if (status == WEIR_OK && !is_there)
        status = make_topic(republisher, reterr);
    for (int i = 0; i < LOOKS_MAX && status == WEIR_OK && !is_there; i++) {
        status = has_topic(republisher, brokers, &is_there, reterr);
        if (!is_there)
            rd_kafka_poll(republisher->handle, FULL_WAIT_MS);
    }
    return status == WEIR_OK && !is_there ? topic_refused(republisher, "it does not appear", reterr) : status;
}

/* 2. publishing */
enum weir_status weir_republisher_open(const struct weir_kafka_settings *settings,
                                       struct weir_republisher **ret_republisher, struct weir_error *reterr)
{
    static const struct weir_kafka_pair defaults[] = {{"compression.type", "lz4"},
                                                      {"linger.ms", "20"},
                                                      {"message.max.bytes", "1100000"},
                                                      {"client.id", "weir-admit"},
                                                      {NULL, NULL}};
    static const struct weir_kafka_pair owned[] = {{"enable.idempotence", "true"}, {NULL, NULL}};
    struct weir_republisher *republisher;
    char text[512];
    rd_kafka_conf_t *conf;
    enum weir_status status = weir_kafka_conf(settings, defaults, owned, &conf, reterr);

    if (status != WEIR_OK)
        return status;
    republisher = weir_new(sizeof *republisher);
    republisher->topic = weir_copy_text(settings->topic, strlen(settings->topic));
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_opaque(conf, republisher);
    republisher->handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!republisher->handle) {
        rd_kafka_conf_destroy(conf);
        status = weir_fail(reterr, WEIR_REJECT, "Kafka producer: %s", text);
    }
    if (status == WEIR_OK)
        status = find_topic(republisher, settings->brokers, reterr);
    if (status == WEIR_OK)
        *ret_republisher = republisher;
    else
        weir_republisher_free(republisher);
    return status;
}

struct weir_republisher *weir_republisher_free(struct weir_republisher *republisher)
{
    if (!republisher)
        return NULL;
    if (republisher->handle)
        rd_kafka_destroy(republisher->handle);
    free(republisher->topic);
    free(republisher);
    return NULL;
}

static rd_kafka_headers_t *copy_headers(const struct weir_header *headers, uint32_t count)
{
    rd_kafka_headers_t *copy = rd_kafka_headers_new(count);

    for (uint32_t i = 0; i < count; i++)
        weir_check(rd_kafka_header_add(copy, headers[i].name.data, (ssize_t)headers[i].name.length,
                                       headers[i].value.data, (ssize_t)headers[i].value.length)
                   == RD_KAFKA_RESP_ERR_NO_ERROR);
    return copy;
}

enum weir_status weir_republisher_send(struct weir_republisher *republisher, int32_t partition, struct weir_slice key,
                                       struct weir_slice value, const struct weir_header *headers, uint32_t count,
                                       struct weir_error *reterr)
{
    void *bytes = (void *)(value.data ? value.data : ""), *name = key.length ? (void *)key.data : NULL;

    for (;;) {
        rd_kafka_headers_t *copy = copy_headers(headers, count);
        rd_kafka_resp_err_t error = rd_kafka_producev(republisher->handle, RD_KAFKA_V_TOPIC(republisher->topic),
                                                      RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_KEY(name, key.length),
                                                      RD_KAFKA_V_VALUE(bytes, value.length), RD_KAFKA_V_HEADERS(copy),
                                                      RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        if (!error)
            return WEIR_OK; /* the headers are librdkafka's now */
        rd_kafka_headers_destroy(copy);
        if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            return weir_fail(reterr, WEIR_FATAL, "an event cannot be published to topic '%s': %s", republisher->topic,
                             rd_kafka_err2str(error));
        rd_kafka_poll(republisher->handle, FULL_WAIT_MS);
    }
}

enum weir_status weir_republisher_flush(struct weir_republisher *republisher, struct weir_error *reterr)
{
    rd_kafka_resp_err_t error = rd_kafka_flush(republisher->handle, FLUSH_MS);

    if (republisher->failed)
        error = republisher->reason;
    return error ? weir_fail(reterr, WEIR_FATAL,
                             "topic '%s' did not take all events: %s. Run the command again: those that it took are "
                             "counted once",
                             republisher->topic, rd_kafka_err2str(error))
                 : WEIR_OK;
}
