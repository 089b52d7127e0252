/* Quarantine in Kafka: the original bytes and headers, with where and why as further headers. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"
#include "ingest/kafka_common.h"
#include "ingest/quarantine.h"

enum {
    FLUSH_MS = 10000,
    RECORD_MAX = 1000000,      /* librdkafka's limit for a whole message, and below a broker's (1,048,588) */
    HEADERS_BYTES_MAX = 65536, /* of the original ones */
    OWN_BYTES_MAX = 2048,      /* of ours, and of what the record itself takes */
};

struct kafka_quarantine {
    struct weir_quarantine quarantine;
    rd_kafka_t *handle;
    char *topic;
    _Atomic uint64_t failed;   /* deliveries that failed for good */
    _Atomic int failed_reason; /* rd_kafka_resp_err_t of the last one */
};

static void on_delivery(rd_kafka_t *handle, const rd_kafka_message_t *message, void *context)
{
    struct kafka_quarantine *quarantine = context;

    (void)handle;
    if (!message->err)
        return;
    /* relaxed: flush reads them on the thread that serves this call, or later. */
    atomic_store_explicit(&quarantine->failed_reason, message->err, memory_order_relaxed);
    atomic_fetch_add_explicit(&quarantine->failed, 1, memory_order_relaxed);
}

/* Brokers that are away: the consumer says that. */
static void on_error(rd_kafka_t *handle, int code, const char *reason, void *context)
{
    (void)handle, (void)context;
    weir_log(WEIR_LOG_DEBUG, "kafka, quarantine: %s (%s)", reason, rd_kafka_err2name((rd_kafka_resp_err_t)code));
}

static void add_header(rd_kafka_headers_t *headers, const char *name, const char *value, size_t length)
{
    weir_check(rd_kafka_header_add(headers, name, -1, value, (ssize_t)length) == RD_KAFKA_RESP_ERR_NO_ERROR);
}

/* *ret_room: how long the value may be. A record that the topic would not take must not stop the lane: then it is cut,
 * and weir_cut says so. */
static rd_kafka_headers_t *make_headers(const struct weir_message *message, const struct weir_rejection *why,
                                        size_t *ret_room)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(message->header_count + 7);
    size_t bytes = 0;
    bool is_cut = false;
    char number[32];

    for (uint32_t i = 0; i < message->header_count && !is_cut; i++) {
        const struct weir_header *header = &message->headers[i];
        bytes += header->name.length + header->value.length + 10;
        is_cut = bytes > HEADERS_BYTES_MAX;
        if (!is_cut)
            rd_kafka_header_add(headers, header->name.data, (ssize_t)header->name.length, header->value.data,
                                (ssize_t)header->value.length);
    }
    *ret_room = RECORD_MAX - OWN_BYTES_MAX - (bytes < HEADERS_BYTES_MAX ? bytes : HEADERS_BYTES_MAX);
    add_header(headers, "weir_topic", message->topic.data, message->topic.length);
    add_header(headers, "weir_partition", number, (size_t)snprintf(number, sizeof number, "%d", message->partition));
    add_header(headers, "weir_offset", number,
               (size_t)snprintf(number, sizeof number, "%lld", (long long)message->offset));
    add_header(headers, "weir_reason", weir_reason_name[why->reason], strlen(weir_reason_name[why->reason]));
    add_header(headers, "weir_field", why->field, strlen(why->field));
    add_header(headers, "weir_detail", why->detail, strlen(why->detail));
    if (is_cut || message->value.length > *ret_room)
        add_header(headers, "weir_cut", "true", 4);
    return headers;
}

static enum weir_status failure(struct kafka_quarantine *quarantine, struct weir_error *reterr)
{
    rd_kafka_resp_err_t reason =
        (rd_kafka_resp_err_t)atomic_load_explicit(&quarantine->failed_reason, memory_order_relaxed);

    return weir_fail(reterr, WEIR_FATAL,
                     "quarantine topic '%s' does not take records: %s. Create it, or set quarantine.topic; nothing was "
                     "lost, the events will be read again",
                     quarantine->topic, rd_kafka_err2str(reason));
}

static enum weir_status put(struct weir_quarantine *self, const struct weir_message *message,
                            const struct weir_rejection *why, struct weir_error *reterr)
{
    struct kafka_quarantine *quarantine = (struct kafka_quarantine *)self;
    size_t room;
    rd_kafka_headers_t *headers = make_headers(message, why, &room);
    size_t length = message->value.length > room ? room : message->value.length;
    const char *value = message->value.data ? message->value.data : ""; /* empty is not null */

    rd_kafka_resp_err_t error =
        rd_kafka_producev(quarantine->handle, RD_KAFKA_V_TOPIC(quarantine->topic),
                          RD_KAFKA_V_VALUE(message->is_tombstone ? NULL : (void *)value, length),
                          RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    if (!error)
        return WEIR_OK; /* the headers are librdkafka's now */
    rd_kafka_headers_destroy(headers);
    if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        return weir_fail(reterr, WEIR_AGAIN, "quarantine topic '%s': the queue is full", quarantine->topic);
    atomic_store_explicit(&quarantine->failed_reason, error, memory_order_relaxed);
    return failure(quarantine, reterr);
}

static enum weir_status flush(struct weir_quarantine *self, struct weir_error *reterr)
{
    struct kafka_quarantine *quarantine = (struct kafka_quarantine *)self;
    rd_kafka_resp_err_t error = rd_kafka_flush(quarantine->handle, FLUSH_MS);

    if (atomic_load_explicit(&quarantine->failed, memory_order_relaxed))
        return failure(quarantine, reterr);
    if (error)
        return weir_fail(reterr, WEIR_RETRY, "quarantine topic '%s': records are not acknowledged yet: %s",
                         quarantine->topic, rd_kafka_err2str(error));
    return WEIR_OK;
}

static uint64_t backlog(const struct weir_quarantine *self)
{
    return (uint64_t)rd_kafka_outq_len(((const struct kafka_quarantine *)self)->handle);
}

static void free_quarantine(struct weir_quarantine *self)
{
    struct kafka_quarantine *quarantine = (struct kafka_quarantine *)self;

    if (quarantine->handle)
        rd_kafka_destroy(quarantine->handle);
    free(quarantine->topic);
    free(quarantine);
}

enum weir_status weir_quarantine_kafka_open(const struct weir_kafka_settings *settings, const char *topic,
                                            struct weir_quarantine **ret_quarantine, struct weir_error *reterr)
{
    static const struct weir_quarantine_ops ops = {
        .put = put, .flush = flush, .backlog = backlog, .free = free_quarantine};
    static const struct weir_kafka_pair defaults[] = {{"compression.type", "lz4"},
                                                      {"linger.ms", "20"},
                                                      {"queue.buffering.max.messages", "100000"},
                                                      {"queue.buffering.max.kbytes", "65536"},
                                                      {"client.id", "weir-quarantine"},
                                                      {NULL, NULL}};
    /* No time-out: a broker that stays away holds the lane's cut back instead of losing the record. */
    static const struct weir_kafka_pair owned[] = {
        {"enable.idempotence", "true"}, {"message.timeout.ms", "0"}, {NULL, NULL}};
    struct kafka_quarantine *quarantine = weir_new(sizeof *quarantine);
    size_t room = strlen(settings->topic) + sizeof ".quarantine";
    char text[512];
    rd_kafka_conf_t *conf;

    quarantine->quarantine.ops = &ops;
    quarantine->topic = weir_new((topic ? strlen(topic) : room) + 1);
    (void)snprintf(quarantine->topic, (topic ? strlen(topic) : room) + 1, "%s%s", topic ? topic : settings->topic,
                   topic ? "" : ".quarantine");
    enum weir_status status = weir_kafka_conf(settings, defaults, owned, &conf, reterr);
    if (status == WEIR_OK) {
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        rd_kafka_conf_set_error_cb(conf, on_error);
        rd_kafka_conf_set_opaque(conf, quarantine);
        quarantine->handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
        if (!quarantine->handle) {
            rd_kafka_conf_destroy(conf);
            status = weir_fail(reterr, WEIR_REJECT, "Kafka producer: %s", text);
        }
    }
    if (status == WEIR_OK)
        *ret_quarantine = &quarantine->quarantine;
    else
        free_quarantine(&quarantine->quarantine);
    return status;
}
