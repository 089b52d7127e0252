/* The headers of a Kafka record, read where they stand.
 *
 * librdkafka copies headers into a list of its own, a piece of memory for each, when it is asked for them: several
 * times what all else costs that is done for a message. They stand right behind the value, though, in a record of
 * format v2 (all since 0.11):
 *
 *   length, attributes (1 byte: 0), time delta, offset delta, length of key, key, length of value, value,
 *   number of headers, for each: length of name, name, length of value (-1: null), value
 *
 * where all but attributes and bytes are varints (zigzag). Nothing says where the value of a message came from, so this
 * looks back from it: in front of it must stand its length, and so on back to the record's own, which says how far may
 * be read. Whatever does not add up is left to librdkafka. So is a record whose headers do not end where it seemed to
 * end: how many bytes its length has nothing tells for sure, and of one with far more headers than value too few may
 * have been read.
 */
#ifndef WEIR_INGEST_RECORD_HEADERS_H
#define WEIR_INGEST_RECORD_HEADERS_H

#include <stddef.h>

#include "ingest/source.h"

/* key and value point into what was fetched: a record of librdkafka's, of any format, that it has found whole (key.data
 * NULL: none). true: it has *ret_count headers, 1 to max; *ret_bytes is the rest of the record behind that number, or
 * only the front of it: all of it where that many headers end just there. None of them is looked at. false: there are
 * none, or more, or it is not understood: ask librdkafka. */
bool weir_record_find_headers(struct weir_slice key, struct weir_slice value, uint32_t max,
                              struct weir_slice *ret_bytes, uint32_t *ret_count);

/* The headers of a message, views that live as long as it: its own, or read into room where they are unread yet. How
 * many; where its bytes are not just as many headers, those that librdkafka reads, of a message that has none of its
 * own 0. Names end before a NUL. */
uint32_t weir_message_headers(const struct weir_message *message, struct weir_header room[WEIR_HEADERS_MAX],
                              const struct weir_header **ret_headers);

/* For who knows what to expect. true: `name`, of 1 to WEIR_RECORD_NAME_MAX bytes, stands at *at, and *at is behind it.
 */
enum { WEIR_RECORD_NAME_MAX = 63 }; /* its length is one byte */
static inline bool weir_record_has_name(const char **at, const char *end, struct weir_slice name)
{
    const char *text = *at + 1;

    if (end - text < (ptrdiff_t)name.length || text[-1] != (char)(name.length << 1)
        || !weir_bytes_equal(text, name.data, name.length))
        return false;
    *at = text + name.length;
    return true;
}

/* true: a value of less than 8 KB, none that is null, stands at *at, and *at is behind it. */
static inline bool weir_record_short_value(const char **at, const char *end, struct weir_slice *ret_value)
{
    const char *text = *at + 1;

    if (*at >= end)
        return false;
    uint32_t number = (unsigned char)text[-1]; /* twice its length; odd: below zero */
    if (__builtin_expect(number >= 0x80, 0)) {
        if (text >= end || (unsigned char)*text >= 0x80)
            return false;
        number = (number & 0x7f) | (uint32_t)(unsigned char)*text++ << 7;
    }
    if ((number & 1) != 0 || (ptrdiff_t)(number >> 1) > end - text)
        return false;
    *ret_value = (struct weir_slice){text, number >> 1};
    *at = text + (number >> 1);
    return true;
}

#endif
