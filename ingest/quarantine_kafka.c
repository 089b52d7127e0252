/* Quarantine in Kafka: the original bytes and headers, with where and why as further headers.
 *
 * A record that the topic does not take is never given up: it waits here, and each flush puts it again. Hardly any
 * error is for good: a broker that has just started calls topics unknown and forbidden that it will know and allow a
 * moment later, and what really is wrong with a topic is mended there, while the cuts wait. A worker that ended instead
 * would only read the same events into the same error.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"
#include "ingest/kafka_common.h"
#include "ingest/quarantine.h"
#include "ingest/record_headers.h"

enum {
    FLUSH_MS = 10000,
    REFUSED_MS = 200,          /* between two tries while the topic is refused without asking it */
    RECORD_MAX = 1000000,      /* librdkafka's limit for a whole message, and below a broker's (1,048,588) */
    HEADERS_BYTES_MAX = 65536, /* of the original ones */
    OWN_BYTES_MAX = 2048,      /* of ours, and of what the record itself takes */
};

/* One that the topic has not taken. */
struct waiting_record {
    struct waiting_record *next;
    rd_kafka_headers_t *headers;
    size_t length, bytes; /* of the value; with headers */
    bool is_null;
    char value[];
};

struct kafka_quarantine {
    struct weir_quarantine quarantine;
    rd_kafka_t *handle;
    char *topic;
    size_t waiting_max, waiting_bytes_max; /* as many as librdkafka's queue may hold */
    pthread_mutex_t lock;                  /* of all below; taken inside of delivery callbacks, held across none */
    struct waiting_record *first, **last;
    size_t waiting, waiting_bytes;
    uint64_t moves;              /* how often waiting records went back into librdkafka's queue */
    rd_kafka_resp_err_t refused; /* why the last one waits */
};

static rd_kafka_resp_err_t produce(struct kafka_quarantine *quarantine, const char *value, size_t length,
                                   rd_kafka_headers_t *headers)
{
    return rd_kafka_producev(quarantine->handle, RD_KAFKA_V_TOPIC(quarantine->topic),
                             RD_KAFKA_V_VALUE((void *)value, length), RD_KAFKA_V_HEADERS(headers),
                             RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
}

static size_t header_bytes(const rd_kafka_headers_t *headers)
{
    const char *name;
    const void *value;
    size_t bytes = 0, size;

    for (size_t i = 0; !rd_kafka_header_get_all(headers, i, &name, &value, &size); i++)
        bytes += strlen(name) + size;
    return bytes;
}

/* Owns the headers from then on. With the lock. */
static void keep(struct kafka_quarantine *quarantine, const char *value, size_t length, rd_kafka_headers_t *headers,
                 rd_kafka_resp_err_t refused)
{
    struct waiting_record *record = weir_new(sizeof *record + length);

    record->headers = headers;
    record->length = length;
    record->bytes = length + header_bytes(headers);
    record->is_null = !value;
    if (value && length)
        memcpy(record->value, value, length);
    *quarantine->last = record;
    quarantine->last = &record->next;
    quarantine->waiting++;
    quarantine->waiting_bytes += record->bytes;
    quarantine->refused = refused;
}

static void drop_first(struct kafka_quarantine *quarantine)
{
    struct waiting_record *record = quarantine->first;

    quarantine->first = record->next;
    if (!quarantine->first)
        quarantine->last = &quarantine->first;
    quarantine->waiting--;
    quarantine->waiting_bytes -= record->bytes;
    free(record);
}

/* Until one is not taken. Returns the number of moves so far. */
static uint64_t put_again(struct kafka_quarantine *quarantine, bool *ret_all)
{
    pthread_mutex_lock(&quarantine->lock);
    for (struct waiting_record *record; (record = quarantine->first); drop_first(quarantine)) {
        rd_kafka_resp_err_t error =
            produce(quarantine, record->is_null ? NULL : record->value, record->length, record->headers);
        if (error) {
            if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL)
                quarantine->refused = error;
            break;
        }
        quarantine->moves++;
    }
    *ret_all = !quarantine->first;
    uint64_t moves = quarantine->moves;
    pthread_mutex_unlock(&quarantine->lock);
    return moves;
}

static void on_delivery(rd_kafka_t *handle, const rd_kafka_message_t *message, void *context)
{
    struct kafka_quarantine *quarantine = context;
    rd_kafka_headers_t *headers = NULL;

    (void)handle;
    if (!message->err)
        return;
    weir_check(rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR);
    pthread_mutex_lock(&quarantine->lock);
    keep(quarantine, message->payload, message->len, rd_kafka_headers_copy(headers), message->err);
    pthread_mutex_unlock(&quarantine->lock);
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
    struct weir_header read[WEIR_HEADERS_MAX];
    const struct weir_header *theirs;
    uint32_t count = weir_message_headers(message, read, &theirs);
    rd_kafka_headers_t *headers = rd_kafka_headers_new(count + 7);
    size_t bytes = 0;
    bool is_cut = false;
    char number[32];

    for (uint32_t i = 0; i < count && !is_cut; i++) {
        const struct weir_header *header = &theirs[i];
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

/* One sentence for what is one trouble, so that it is logged once. */
static enum weir_status say_refused(const struct kafka_quarantine *quarantine, enum weir_status status,
                                    rd_kafka_resp_err_t reason, struct weir_error *reterr)
{
    const char *remedy = "Mend it, or set quarantine.topic";

    if (reason == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || reason == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION) {
        reason = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        remedy = "If this lasts, create it, or set quarantine.topic";
    } else if (reason == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) {
        remedy = "If this lasts, create it, or set quarantine.topic";
    } else if (reason == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
        remedy = "Raise its max.message.bytes to 1048588";
    }
    return weir_fail(reterr, status,
                     "quarantine topic '%s' does not take records: %s. %s; nothing is lost, they are put again",
                     quarantine->topic, rd_kafka_err2str(reason), remedy);
}

static enum weir_status put(struct weir_quarantine *self, const struct weir_message *message,
                            const struct weir_rejection *why, struct weir_error *reterr)
{
    struct kafka_quarantine *quarantine = (struct kafka_quarantine *)self;
    size_t room;
    rd_kafka_headers_t *headers = make_headers(message, why, &room);
    size_t length = message->value.length > room ? room : message->value.length;
    const char *value = message->value.data ? message->value.data : ""; /* empty is not null */

    if (message->is_tombstone)
        value = NULL, length = 0;
    rd_kafka_resp_err_t error = produce(quarantine, value, length, headers);
    if (!error)
        return WEIR_OK; /* the headers are librdkafka's now */
    pthread_mutex_lock(&quarantine->lock);
    bool has_room = error != RD_KAFKA_RESP_ERR__QUEUE_FULL && quarantine->waiting < quarantine->waiting_max
                    && quarantine->waiting_bytes < quarantine->waiting_bytes_max;
    if (has_room)
        keep(quarantine, value, length, headers, error);
    pthread_mutex_unlock(&quarantine->lock);
    if (has_room)
        return WEIR_OK;
    rd_kafka_headers_destroy(headers);
    if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        return weir_fail(reterr, WEIR_AGAIN, "quarantine topic '%s': the queue is full", quarantine->topic);
    return say_refused(quarantine, WEIR_AGAIN, error, reterr);
}

static enum weir_status flush(struct weir_quarantine *self, struct weir_error *reterr)
{
    struct kafka_quarantine *quarantine = (struct kafka_quarantine *)self;
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;
    bool is_all;
    uint64_t moves = put_again(quarantine, &is_all);

    /* With some still waiting it is for nothing; but what is under way is heard of, and the caller is kept from
     * spinning. */
    if (is_all)
        error = rd_kafka_flush(quarantine->handle, FLUSH_MS);
    else
        rd_kafka_poll(quarantine->handle, REFUSED_MS);
    pthread_mutex_lock(&quarantine->lock);
    bool is_waiting = quarantine->first, is_moved = quarantine->moves != moves;
    rd_kafka_resp_err_t refused = quarantine->refused;
    pthread_mutex_unlock(&quarantine->lock);
    if (is_waiting)
        return say_refused(quarantine, WEIR_RETRY, refused, reterr);
    /* Moved: by another thread that flushes, after we saw the queue empty. */
    if (error || is_moved)
        return weir_fail(reterr, WEIR_RETRY, "quarantine topic '%s': records are not acknowledged yet: %s",
                         quarantine->topic, rd_kafka_err2str(error ? error : RD_KAFKA_RESP_ERR__IN_PROGRESS));
    return WEIR_OK;
}

static uint64_t backlog(const struct weir_quarantine *self)
{
    /* The lock is no part of what a reader sees. */
    struct kafka_quarantine *quarantine = (struct kafka_quarantine *)self;
    uint64_t count = (uint64_t)rd_kafka_outq_len(quarantine->handle);

    pthread_mutex_lock(&quarantine->lock);
    count += quarantine->waiting;
    pthread_mutex_unlock(&quarantine->lock);
    return count;
}

static void free_quarantine(struct weir_quarantine *self)
{
    struct kafka_quarantine *quarantine = (struct kafka_quarantine *)self;

    if (quarantine->handle)
        rd_kafka_destroy(quarantine->handle);
    while (quarantine->first) {
        rd_kafka_headers_destroy(quarantine->first->headers);
        drop_first(quarantine);
    }
    pthread_mutex_destroy(&quarantine->lock);
    free(quarantine->topic);
    free(quarantine);
}

static size_t number_of(const rd_kafka_t *handle, const char *property)
{
    char text[32] = "";
    size_t size = sizeof text;

    weir_check(rd_kafka_conf_get(rd_kafka_conf((rd_kafka_t *)handle), property, text, &size) == RD_KAFKA_CONF_OK);
    return strtoul(text, NULL, 10);
}

static rd_kafka_t *make_handle(struct kafka_quarantine *quarantine, rd_kafka_conf_t *conf, struct weir_error *reterr)
{
    char text[512];

    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_opaque(conf, quarantine);
    rd_kafka_t *handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!handle) {
        rd_kafka_conf_destroy(conf);
        weir_fail(reterr, WEIR_REJECT, "Kafka producer: %s", text);
    }
    return handle;
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
    /* No time-out: a broker that stays away holds the lane's cut back instead of losing the record. Not idempotent: a
     * record twice is known by its position, while an idempotent producer may meet an error that it never recovers
     * from. */
    static const struct weir_kafka_pair owned[] = {
        {"enable.idempotence", "false"}, {"acks", "all"}, {"message.timeout.ms", "0"}, {NULL, NULL}};
    struct kafka_quarantine *quarantine = weir_new(sizeof *quarantine);
    size_t room = strlen(settings->topic) + sizeof ".quarantine";
    rd_kafka_conf_t *conf;

    quarantine->quarantine.ops = &ops;
    pthread_mutex_init(&quarantine->lock, NULL);
    quarantine->last = &quarantine->first;
    quarantine->topic = weir_new((topic ? strlen(topic) : room) + 1);
    (void)snprintf(quarantine->topic, (topic ? strlen(topic) : room) + 1, "%s%s", topic ? topic : settings->topic,
                   topic ? "" : ".quarantine");
    enum weir_status status = weir_kafka_conf(settings, defaults, owned, &conf, reterr);
    if (status == WEIR_OK && !(quarantine->handle = make_handle(quarantine, conf, reterr)))
        status = WEIR_REJECT;
    if (status == WEIR_OK) {
        quarantine->waiting_max = number_of(quarantine->handle, "queue.buffering.max.messages");
        quarantine->waiting_bytes_max = number_of(quarantine->handle, "queue.buffering.max.kbytes") * 1024;
        *ret_quarantine = &quarantine->quarantine;
    } else {
        free_quarantine(&quarantine->quarantine);
    }
    return status;
}
