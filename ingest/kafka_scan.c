#include "ingest/kafka_scan.h"

#include <stdlib.h>

#include "common/model/event.h"
#include "ingest/kafka_common.h"
#include "ingest/record_headers.h"
#include "ingest/source_kafka_internal.h"

enum {
    ASK_MS = 15000,
    POLL_MS = 200,
    SILENCE_MS = 60000,                 /* without a message and without an end */
    BATCH = 1000,                       /* messages */
    HEADERS_MAX = 2 * WEIR_HEADERS_MAX, /* an event's own, and quarantine's */
};

struct scanning {
    rd_kafka_t *handle;
    const struct weir_kafka_settings *settings;
    const struct weir_kafka_scan *scan;
    struct weir_kafka_stretch *stretches;
    size_t count, open; /* open: not at their ends yet */
    int ask_ms, silence_ms;
    uint64_t done, all;
    bool is_enough;
    struct weir_header headers[HEADERS_MAX];
    rd_kafka_message_t *batch[BATCH];
};

static enum weir_status open_handle(const struct weir_kafka_settings *settings, bool has_all, rd_kafka_t **ret_handle,
                                    struct weir_error *reterr)
{
    const struct weir_kafka_pair defaults[] = {{"isolation.level", "read_committed"},
                                               {"client.id", "weir-scan"},
                                               {"fetch.message.max.bytes", "4194304"},
                                               {"queued.max.messages.kbytes", "65536"},
                                               {"queued.min.messages", "200000"},
                                               {weir_kafka_backoff_property(), "10"}, /* not known: NULL */
                                               {NULL, NULL}};
    const struct weir_kafka_pair owned[] = {{"group.id", settings->group},
                                            {"enable.auto.commit", "false"},
                                            {"enable.auto.offset.store", "false"},
                                            {"auto.offset.reset", has_all ? "error" : "earliest"},
                                            {"enable.partition.eof", "true"},
                                            {"allow.auto.create.topics", "false"},
                                            {NULL, NULL}};
    char text[512];
    rd_kafka_conf_t *conf;
    enum weir_status status = weir_kafka_conf(settings, defaults, owned, &conf, reterr);

    if (status != WEIR_OK)
        return status;
    *ret_handle = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (*ret_handle)
        return WEIR_OK;
    rd_kafka_conf_destroy(conf);
    return weir_fail(reterr, WEIR_REJECT, "Kafka consumer: %s", text);
}

enum weir_status weir_kafka_whole(const struct weir_kafka_settings *settings, struct weir_kafka_stretch **ret_stretches,
                                  size_t *ret_count, struct weir_error *reterr)
{
    rd_kafka_t *handle = NULL;
    int32_t count = 0;
    enum weir_status status = open_handle(settings, false, &handle, reterr);

    if (status == WEIR_OK)
        status = weir_kafka_partitions(handle, settings->brokers, settings->topic, ASK_MS, &count, reterr);
    if (status == WEIR_OK) {
        *ret_stretches = weir_new_array((size_t)count, sizeof **ret_stretches);
        *ret_count = (size_t)count;
        for (int32_t i = 0; i < count; i++)
            (*ret_stretches)[i] = (struct weir_kafka_stretch){.partition = i, .to = INT64_MAX};
    }
    if (handle)
        rd_kafka_destroy(handle);
    return status;
}

/* 1. where to read */
static enum weir_status find_ends(struct scanning *scanning, struct weir_error *reterr)
{
    const char *topic = scanning->settings->topic;

    for (size_t i = 0; i < scanning->count; i++) {
        struct weir_kafka_stretch *stretch = &scanning->stretches[i];
        rd_kafka_resp_err_t error = weir_kafka_range(scanning->handle, topic, stretch->partition, scanning->ask_ms,
                                                     &stretch->low, &stretch->end);
        if (error)
            return weir_fail(reterr, WEIR_RETRY, "Kafka at %s does not tell the end of %s:%d: %s",
                             scanning->settings->brokers, topic, stretch->partition, rd_kafka_err2str(error));
        stretch->messages = 0;
        stretch->next = stretch->from > stretch->low ? stretch->from : stretch->low;
        if (stretch->to > stretch->end)
            stretch->to = stretch->end;
        if (stretch->next < stretch->to) {
            scanning->open++;
            scanning->all += (uint64_t)(stretch->to - stretch->next);
        }
    }
    return WEIR_OK;
}

static enum weir_status assign(struct scanning *scanning, struct weir_error *reterr)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)scanning->count);

    for (size_t i = 0; i < scanning->count; i++)
        if (scanning->stretches[i].next < scanning->stretches[i].to)
            rd_kafka_topic_partition_list_add(list, scanning->settings->topic, scanning->stretches[i].partition)
                ->offset = scanning->stretches[i].next;
    rd_kafka_resp_err_t error = rd_kafka_assign(scanning->handle, list);
    rd_kafka_topic_partition_list_destroy(list);
    return error ? weir_fail(reterr, WEIR_FATAL, "topic '%s' cannot be read again: %s", scanning->settings->topic,
                             rd_kafka_err2str(error))
                 : WEIR_OK;
}

/* 2. reading */
static struct weir_kafka_stretch *stretch_of(struct scanning *scanning, int32_t partition)
{
    for (size_t i = 0; i < scanning->count; i++)
        if (scanning->stretches[i].partition == partition)
            return &scanning->stretches[i];
    return NULL;
}

/* Visitors find them in an array. Quarantine may have given a record more of them than an event may have. */
static void take_headers(struct scanning *scanning, const rd_kafka_message_t *from, struct weir_message *message)
{
    message->headers = scanning->headers;
    if (weir_kafka_has_no_headers(from))
        return;
    weir_kafka_headers(from, scanning->headers, HEADERS_MAX, message);
    message->header_count = weir_message_headers(message, scanning->headers, &message->headers);
    message->unread = (struct weir_slice){0};
}

/* Brings a stretch forward; what is at its end is open no more. */
static void pass(struct scanning *scanning, struct weir_kafka_stretch *stretch, int64_t next)
{
    if (next <= stretch->next || stretch->next >= stretch->to)
        return;
    scanning->done += (uint64_t)((next < stretch->to ? next : stretch->to) - stretch->next);
    stretch->next = next;
    if (next >= stretch->to)
        scanning->open--;
}

static void take_message(struct scanning *scanning, const rd_kafka_message_t *from)
{
    struct weir_kafka_stretch *stretch = stretch_of(scanning, from->partition);

    if (!stretch || stretch->next >= stretch->to || from->offset < stretch->next)
        return;
    if (from->offset < stretch->to) {
        struct weir_message message = {
            .topic = weir_slice_text(scanning->settings->topic),
            .partition = from->partition,
            .offset = from->offset,
            .timestamp = rd_kafka_message_timestamp(from, NULL), /* -1 where there is none */
            .sequence = from->offset,
            .is_tombstone = from->payload == NULL,
            .is_too_large = from->len > WEIR_EVENT_BYTES_MAX,
            .value = weir_slice_of(from->payload, from->len > WEIR_EVENT_BYTES_MAX ? WEIR_EVENT_BYTES_MAX : from->len),
        };
        take_headers(scanning, from, &message);
        stretch->messages++;
        scanning->is_enough = !scanning->scan->visit(scanning->scan->context, &message);
    }
    pass(scanning, stretch, from->offset + 1);
}

static enum weir_status take(struct scanning *scanning, const rd_kafka_message_t *from, struct weir_error *reterr)
{
    struct weir_kafka_stretch *stretch;

    switch (from->err) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        take_message(scanning, from);
        return WEIR_OK;
    case RD_KAFKA_RESP_ERR__PARTITION_EOF: /* markers of transactions, or an open one, may lie before the end */
        stretch = stretch_of(scanning, from->partition);
        if (stretch)
            pass(scanning, stretch, stretch->to);
        return WEIR_OK;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        return weir_fail(reterr, WEIR_FATAL, "topic '%s' at %s: %s", scanning->settings->topic,
                         scanning->settings->brokers, rd_kafka_err2str(from->err));
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        return weir_fail(reterr, WEIR_RETRY,
                         "topic '%s' at %s: messages were removed while they were read; run this again",
                         scanning->settings->topic, scanning->settings->brokers);
    default: /* a broker that is away for a moment; silence has its own limit */
        return WEIR_OK;
    }
}

/* What is there, else the first that comes: librdkafka itself would wait for the whole batch. */
static size_t poll_batch(struct scanning *scanning, rd_kafka_queue_t *queue)
{
    ssize_t count = rd_kafka_consume_batch_queue(queue, 0, scanning->batch, BATCH);

    if (count > 0)
        return (size_t)count;
    scanning->batch[0] = rd_kafka_consume_queue(queue, POLL_MS);
    return scanning->batch[0] != NULL;
}

static enum weir_status take_batch(struct scanning *scanning, size_t count, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    for (size_t i = 0; i < count; i++) {
        if (status == WEIR_OK && !scanning->is_enough)
            status = take(scanning, scanning->batch[i], reterr);
        rd_kafka_message_destroy(scanning->batch[i]);
    }
    return status;
}

static enum weir_status read_all(struct scanning *scanning, rd_kafka_queue_t *queue, struct weir_error *reterr)
{
    const struct weir_kafka_scan *scan = scanning->scan;
    struct kafka_fetcher fetcher = {0};
    enum weir_status status = WEIR_OK;
    int64_t heard = weir_kafka_now_ms();

    weir_kafka_open_fetcher(&fetcher, scanning->handle);
    while (scanning->open > 0 && !scanning->is_enough && status == WEIR_OK) {
        size_t count = poll_batch(scanning, queue);
        uint64_t before = scanning->done;
        weir_kafka_wake_fetcher(&fetcher, queue);
        status = take_batch(scanning, count, reterr);
        if (scanning->done != before)
            heard = weir_kafka_now_ms();
        else if (status == WEIR_OK && weir_kafka_now_ms() - heard > scanning->silence_ms)
            status = weir_fail(reterr, WEIR_RETRY, "Kafka at %s has sent nothing of topic '%s' for %d s",
                               scanning->settings->brokers, scanning->settings->topic, scanning->silence_ms / 1000);
        if (scan->progress)
            scan->progress(scan->context, scanning->done, scanning->all);
        if (status == WEIR_OK && scan->stop && atomic_load_explicit(scan->stop, memory_order_relaxed))
            status = weir_fail(reterr, WEIR_FATAL, "stopped by a signal while topic '%s' was read",
                               scanning->settings->topic);
    }
    weir_kafka_close_fetcher(&fetcher);
    return status;
}

enum weir_status weir_kafka_scan(const struct weir_kafka_settings *settings, struct weir_kafka_stretch *stretches,
                                 size_t count, const struct weir_kafka_scan *scan, struct weir_error *reterr)
{
    struct scanning *scanning = weir_new(sizeof *scanning);
    int32_t partitions = -1;

    *scanning = (struct scanning){
        .settings = settings,
        .scan = scan,
        .stretches = stretches,
        .count = count,
        .ask_ms = scan->patience_ms ? scan->patience_ms : ASK_MS,
        .silence_ms = scan->patience_ms ? scan->patience_ms : SILENCE_MS,
    };
    enum weir_status status = open_handle(settings, scan->has_all, &scanning->handle, reterr);
    if (status == WEIR_OK)
        status = weir_kafka_partitions(scanning->handle, settings->brokers, settings->topic, scanning->ask_ms,
                                       &partitions, reterr);
    for (size_t i = 0; i < count; i++)
        stretches[i].end = partitions == 0 ? -1 : 0;
    if (status == WEIR_OK)
        status = find_ends(scanning, reterr);
    if (status == WEIR_OK && scanning->open > 0) {
        rd_kafka_poll_set_consumer(scanning->handle);
        status = assign(scanning, reterr);
        rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(scanning->handle);
        if (status == WEIR_OK)
            status = read_all(scanning, queue, reterr);
        rd_kafka_queue_destroy(queue);
        rd_kafka_assign(scanning->handle, NULL);
        rd_kafka_consumer_close(scanning->handle);
    }
    if (scanning->handle)
        rd_kafka_destroy(scanning->handle);
    free(scanning);
    return status;
}
