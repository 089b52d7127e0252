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
 * be read. Whatever does not add up is left to librdkafka.
 */
#ifndef WEIR_INGEST_RECORD_HEADERS_H
#define WEIR_INGEST_RECORD_HEADERS_H

#include "ingest/source.h"

/* key and value point into what was fetched: a record of librdkafka's, of any format, that it has found whole (key.data
 * NULL: none). true: *ret_count headers, at most `room`, are in ret_headers, views into the record; names end before a
 * NUL. false: ask librdkafka. */
bool weir_record_headers(struct weir_slice key, struct weir_slice value, struct weir_header *ret_headers, uint32_t room,
                         uint32_t *ret_count);

#endif
