/* Ways around what librdkafka would make every message wait or pay for. */
#include <stdlib.h>
#include <strings.h>

#include "common/model/event.h"
#include "ingest/record_headers.h"
#include "ingest/source_kafka_internal.h"

enum {
    FETCH_QUEUE_BACKOFF_SINCE = 0x02020000, /* librdkafka has the property of that name */
    PEAK_MIN = 1000,                        /* a queue that never was longer has never been full */
    PAGE = 4096,
};

/* 1. the fetcher */

const char *weir_kafka_backoff_property(void)
{
    return rd_kafka_version() >= FETCH_QUEUE_BACKOFF_SINCE ? "fetch.queue.backoff.ms" : NULL;
}

static char *get_property(rd_kafka_t *handle, const char *name)
{
    size_t size = 0;

    if (rd_kafka_conf_get(rd_kafka_conf(handle), name, NULL, &size) != RD_KAFKA_CONF_OK)
        size = 0;
    char *text = weir_new_array(size + 1, 1);
    if (size > 0)
        (void)rd_kafka_conf_get(rd_kafka_conf(handle), name, text, &size);
    return text;
}

void weir_kafka_open_fetcher(struct kafka_fetcher *fetcher, rd_kafka_t *handle)
{
    char *protocol = get_property(handle, "security.protocol");
    bool has_sasl = strncasecmp(protocol, "sasl", 4) == 0;

    free(protocol);
    fetcher->handle = handle;
    fetcher->username = get_property(handle, "sasl.username");
    fetcher->password = get_property(handle, "sasl.password");
    /* Kerberos and tokens have no such pair, and must not be given an empty one. */
    fetcher->can_wake = !weir_kafka_backoff_property() && (!has_sasl || (*fetcher->username && *fetcher->password));
}

void weir_kafka_close_fetcher(struct kafka_fetcher *fetcher)
{
    free(fetcher->username);
    free(fetcher->password);
}

/* Before 2.2 librdkafka looks only once a second whether a queue that was full (queued.min.messages,
 * queued.max.messages.kbytes) has room again, if nothing else wakes the broker's thread: whoever is slower than the
 * brokers would get one queue a second and wait for the rest of it. Naming the credentials again, the same ones,
 * changes nothing but wakes that thread. It is done when the queue has fallen to half of what it was: rarely, and early
 * enough for the next answer to come before the rest is used up. */
void weir_kafka_wake_fetcher(struct kafka_fetcher *fetcher, rd_kafka_queue_t *queue)
{
    if (!fetcher->can_wake)
        return;
    size_t length = rd_kafka_queue_length(queue);
    if (length > fetcher->queue_peak)
        fetcher->queue_peak = length;
    if (fetcher->queue_peak < PEAK_MIN || length > fetcher->queue_peak / 2)
        return;
    fetcher->queue_peak = length;
    rd_kafka_error_destroy(rd_kafka_sasl_set_credentials(fetcher->handle, fetcher->username, fetcher->password));
}

/* 2. headers */

/* In Kafka's record format (v2, since 0.11) the number of headers comes right behind the value, and librdkafka's
 * payload points into the record: a zero there means none. rd_kafka_message_headers would find the same, but makes and
 * frees a reader of 600 bytes for it, a third of all that a message costs the polling thread. Records of older formats
 * have no headers, whatever stands there; the page is the value's own, so that it may be looked at. */
__attribute__((no_sanitize("address"))) bool weir_kafka_has_no_headers(const rd_kafka_message_t *message)
{
    if (message->len == 0)
        return false;
    const char *end = (const char *)message->payload + message->len;
    return (uintptr_t)end % PAGE != 0 && *end == 0;
}

uint32_t weir_kafka_list_headers(const rd_kafka_message_t *from, struct weir_header *room, uint32_t max,
                                 uint32_t *ret_all)
{
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t size;
    uint32_t count = 0;

    *ret_all = 0;
    if (rd_kafka_message_headers(from, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    *ret_all = (uint32_t)rd_kafka_header_cnt(headers);
    for (; count < max && !rd_kafka_header_get_all(headers, count, &name, &value, &size); count++)
        room[count] = (struct weir_header){weir_slice_text(name), weir_slice_of(value, value ? size : 0)};
    return count;
}

/* Where they stand, if they are found there: librdkafka's list of its own costs a piece of memory for each. */
void weir_kafka_headers(const rd_kafka_message_t *from, struct weir_header *room, uint32_t max,
                        struct weir_message *message)
{
    if (from->payload && from->len <= WEIR_EVENT_BYTES_MAX
        && weir_record_find_headers(weir_slice_of(from->key, from->key_len), weir_slice_of(from->payload, from->len),
                                    WEIR_HEADERS_MAX, &message->unread, &message->header_count)) {
        message->record = from;
        return;
    }
    uint32_t all;
    message->header_count = weir_kafka_list_headers(from, room, max, &all);
    if (message->header_count > 0)
        message->headers = room;
    if (all > WEIR_HEADERS_MAX)
        message->is_too_large = true;
}
