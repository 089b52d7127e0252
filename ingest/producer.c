#include "ingest/producer.h"

#include <stdlib.h>
#include <time.h>

#include "ingest/kafka_common.h"

enum {
    FULL_WAIT_MS = 50,
    ASK_MS = 2500,
    REACH_MS = 15000, /* for brokers that do not answer */
    CREATE_MS = 5000, /* a broker that creates topics by use says no at first */
};

struct weir_producer {
    rd_kafka_t *handle;
    rd_kafka_topic_t *topic;
    uint64_t sent, delivered, failed; /* delivery reports are served on the sender's thread */
    rd_kafka_resp_err_t reason;
};

static void on_delivery(rd_kafka_t *handle, const rd_kafka_message_t *message, void *context)
{
    struct weir_producer *producer = context;

    (void)handle;
    if (message->err) {
        producer->failed++;
        producer->reason = message->err;
    } else {
        producer->delivered++;
    }
}

struct weir_producer *weir_producer_free(struct weir_producer *producer)
{
    if (!producer)
        return NULL;
    if (producer->topic)
        rd_kafka_topic_destroy(producer->topic);
    if (producer->handle)
        rd_kafka_destroy(producer->handle);
    free(producer);
    return NULL;
}

static int64_t monotonic_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static enum weir_status find_topic(struct weir_producer *producer, const struct weir_kafka_settings *settings,
                                   struct weir_error *reterr)
{
    int64_t began = monotonic_ms();
    int32_t partitions;

    for (;;) {
        enum weir_status status =
            weir_kafka_partitions(producer->handle, settings->brokers, settings->topic, ASK_MS, &partitions, reterr);
        if (status == WEIR_OK)
            return WEIR_OK;
        if (monotonic_ms() - began >= (status == WEIR_RETRY ? REACH_MS : CREATE_MS))
            return status == WEIR_RETRY ? WEIR_FATAL : status;
        rd_kafka_poll(producer->handle, FULL_WAIT_MS);
    }
}

static enum weir_status connect_producer(struct weir_producer *producer, const struct weir_kafka_settings *settings,
                                         struct weir_error *reterr)
{
    static const struct weir_kafka_pair defaults[] = {
        {"compression.type", "lz4"},
        {"linger.ms", "20"},
        {"batch.num.messages", "10000"},
        {"batch.size", "1000000"},
        {"queue.buffering.max.messages", "500000"},
        {"queue.buffering.max.kbytes", "262144"},
        {"partitioner",
         "murmur2_random"}, /* as the Java clients do: a customer stays in one partition whoever publishes */
        {"message.max.bytes", "1100000"},
        {"client.id", "weir-produce"},
        {NULL, NULL},
    };
    static const struct weir_kafka_pair owned[] = {{"enable.idempotence", "true"}, {NULL, NULL}};
    char text[512];
    rd_kafka_conf_t *conf;
    enum weir_status status = weir_kafka_conf(settings, defaults, owned, &conf, reterr);

    if (status != WEIR_OK)
        return status;
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_opaque(conf, producer);
    producer->handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!producer->handle) {
        rd_kafka_conf_destroy(conf);
        return weir_fail(reterr, WEIR_REJECT, "Kafka producer: %s", text);
    }
    producer->topic = rd_kafka_topic_new(producer->handle, settings->topic, NULL);
    return find_topic(producer, settings, reterr);
}

enum weir_status weir_producer_open(const struct weir_kafka_settings *settings, struct weir_producer **ret_producer,
                                    struct weir_error *reterr)
{
    struct weir_producer *producer = weir_new(sizeof *producer);
    enum weir_status status = connect_producer(producer, settings, reterr);

    if (status == WEIR_OK)
        *ret_producer = producer;
    else
        weir_producer_free(producer);
    return status;
}

static enum weir_status failure(const struct weir_producer *producer, struct weir_error *reterr)
{
    return weir_fail(reterr, WEIR_FATAL, "%llu events were not taken by Kafka: %s",
                     (unsigned long long)producer->failed, rd_kafka_err2str(producer->reason));
}

enum weir_status weir_producer_send(struct weir_producer *producer, struct weir_slice key, struct weir_slice value,
                                    struct weir_error *reterr)
{
    if (rd_kafka_produce(producer->topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, (void *)value.data, value.length,
                         key.length ? key.data : NULL, key.length, NULL)
        == 0) {
        if (++producer->sent % 1024 == 0)
            rd_kafka_poll(producer->handle, 0);
        return WEIR_OK;
    }
    rd_kafka_resp_err_t error = rd_kafka_last_error();
    if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        rd_kafka_poll(producer->handle, FULL_WAIT_MS);
        return producer->failed ? failure(producer, reterr) : WEIR_AGAIN;
    }
    return weir_fail(reterr, WEIR_FATAL, "an event of %u bytes cannot be published: %s", value.length,
                     rd_kafka_err2str(error));
}

enum weir_status weir_producer_flush(struct weir_producer *producer, int timeout_ms, struct weir_error *reterr)
{
    rd_kafka_resp_err_t error = rd_kafka_flush(producer->handle, timeout_ms);

    if (producer->failed)
        return failure(producer, reterr);
    return error ? WEIR_AGAIN : WEIR_OK;
}

uint64_t weir_producer_delivered(const struct weir_producer *producer)
{
    return producer->delivered;
}
