#include "ingest/record_headers.h"

#include "ingest/source_kafka_internal.h"

enum {
    VARINT_MAX = 10,       /* bytes of a varint */
    LENGTH_MAX = 5,        /* of one that is a length */
    VALUE_BYTES = 1 << 20, /* a value's length in format v2 has less than four bytes; up to v1 it always has four */
};

/* 1. back from the value to the record's beginning */

/* The start of the varint of `length` if it ends at `end`; NULL: something else stands there. */
static const unsigned char *length_before(const unsigned char *end, uint32_t length)
{
    unsigned char bytes[LENGTH_MAX];
    uint64_t rest = (uint64_t)length << 1;
    int count = 0;

    for (; rest >= 0x80; rest >>= 7)
        bytes[count++] = (unsigned char)(rest | 0x80);
    bytes[count++] = (unsigned char)rest;
    for (int i = 1; i <= count; i++) /* from behind: never beyond the first that differs */
        if (end[-i] != bytes[count - i])
            return NULL;
    return end - count;
}

/* The start of whichever varint ends at `end`, where the byte before it has no high bit. */
static const unsigned char *varint_before(const unsigned char *end)
{
    const unsigned char *at = end - 1;

    if (*at >= 0x80)
        return NULL;
    while (at[-1] >= 0x80)
        if (end - --at > VARINT_MAX)
            return NULL;
    return at;
}

/* Where the record ends of which `attributes` is the second field and [attributes, end) is known to be a part, or
 * before that; NULL: not to be found. How many bytes its length has only its value can tell: with each byte more it is
 * larger, so the first that is large enough is no larger than the true one, and nothing before that is read. It is too
 * small where there is far more behind `end` than before it: that shows once the headers do not end there. */
static const unsigned char *record_end(const unsigned char *attributes, const unsigned char *end)
{
    const unsigned char *at = attributes - 1;
    uint64_t need = (uint64_t)(end - attributes), length = *at;

    if (*at >= 0x80)
        return NULL;
    while (length >> 1 < need) {
        if (attributes - --at > LENGTH_MAX || *at < 0x80)
            return NULL;
        length = length << 7 | (*at & 0x7f);
    }
    return length & 1 ? NULL : attributes + (length >> 1);
}

/* Where the headers end that begin behind the value, or before that; NULL: no record of format v2, or none that is
 * understood. In front of a value there are at least four bytes in every format, and more in front of a record of v2
 * that has them so. */
static const unsigned char *headers_end(struct weir_slice key, struct weir_slice value)
{
    const unsigned char *begin = (const unsigned char *)value.data;
    const unsigned char *at = length_before(begin, value.length);

    if (!at)
        return NULL;
    if (key.data && key.length > 0)
        at = (const unsigned char *)key.data + key.length == at
                 ? length_before((const unsigned char *)key.data, key.length)
                 : NULL;
    else
        at = at[-1] <= 1 ? at - 1 : NULL; /* an empty key, or none */
    if (!at || !(at = varint_before(at)) || !(at = varint_before(at)) || at[-1] != 0)
        return NULL;
    return record_end(at - 1, begin + value.length);
}

/* 2. the headers */

static bool take_number(const unsigned char **at, const unsigned char *end, int64_t *ret_number)
{
    uint64_t number = 0;

    for (unsigned shift = 0; *at < end && shift < 7 * LENGTH_MAX; shift += 7) {
        unsigned char byte = *(*at)++;
        number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret_number = (int64_t)(number >> 1) ^ -(int64_t)(number & 1);
            return true;
        }
    }
    return false;
}

static bool take_bytes(const unsigned char **at, const unsigned char *end, int64_t length, struct weir_slice *ret_bytes)
{
    if (length < 0 || length > end - *at)
        return false;
    *ret_bytes = weir_slice_of((const char *)*at, (size_t)length);
    *at += length;
    return true;
}

static bool take_header(const unsigned char **at, const unsigned char *end, struct weir_header *ret_header)
{
    int64_t length;

    if (!take_number(at, end, &length) || !take_bytes(at, end, length, &ret_header->name)
        || !take_number(at, end, &length))
        return false;
    const char *zero = ret_header->name.length ? memchr(ret_header->name.data, '\0', ret_header->name.length) : NULL;
    if (zero)
        ret_header->name.length = (uint32_t)(zero - ret_header->name.data);
    ret_header->value = (struct weir_slice){NULL, 0};
    return length == -1 || take_bytes(at, end, length, &ret_header->value);
}

/* They do not end where the record was taken to end: librdkafka knows where it does. */
static __attribute__((noinline)) uint32_t ask(const struct weir_message *message,
                                              struct weir_header room[WEIR_HEADERS_MAX])
{
    uint32_t all;

    return message->record ? weir_kafka_list_headers(message->record, room, WEIR_HEADERS_MAX, &all) : 0;
}

uint32_t weir_message_headers(const struct weir_message *message, struct weir_header room[WEIR_HEADERS_MAX],
                              const struct weir_header **ret_headers)
{
    const unsigned char *at = (const unsigned char *)message->unread.data, *end = at + message->unread.length;

    *ret_headers = message->headers;
    if (!at)
        return message->header_count;
    *ret_headers = room;
    for (uint32_t i = 0; i < message->header_count; i++)
        if (i == WEIR_HEADERS_MAX || !take_header(&at, end, &room[i]))
            return ask(message, room);
    return at == end ? message->header_count : ask(message, room);
}

bool weir_record_find_headers(struct weir_slice key, struct weir_slice value, uint32_t max,
                              struct weir_slice *ret_bytes, uint32_t *ret_count)
{
    const unsigned char *at = (const unsigned char *)value.data + value.length, *end;
    int64_t count;

    if (value.length == 0 || value.length >= VALUE_BYTES || !(end = headers_end(key, value)))
        return false;
    if (!take_number(&at, end, &count) || count <= 0 || count > max)
        return false;
    *ret_bytes = weir_slice_of((const char *)at, (size_t)(end - at));
    *ret_count = (uint32_t)count;
    return true;
}
