/* Where messages come from: files and standard input, or Kafka. One interface, two implementations (a test suite runs
 * on both).
 *
 * A source belongs to one thread: the one that calls poll. Listener calls happen inside poll, on that thread.
 * Messages returned by poll are views that live until the next poll (or free).
 */
#ifndef WEIR_INGEST_SOURCE_H
#define WEIR_INGEST_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/model/gap.h"
#include "common/slice.h"
#include "common/status.h"

enum {
    WEIR_POLL_MESSAGES_MAX = 4096,
    WEIR_HEADERS_MAX = 64, /* Kafka headers of one message that are looked at; more: quarantine too_large */
};

struct weir_header {
    struct weir_slice name;
    struct weir_slice value;
};

/* One message: an event's bytes and where they stand. */
struct weir_message {
    struct weir_slice topic; /* Kafka topic, or the file's name ("-" for standard input) */
    int32_t partition;       /* 0 for files */
    int64_t offset;          /* Kafka offset; for files the line number from 1, counted per file */
    int64_t timestamp;       /* Kafka's, ms; -1: it has none, and for files */
    int64_t sequence; /* strictly ascending within a lane, over all files: the lane's own offset. Kafka: == offset */
    struct weir_slice value; /* empty with is_tombstone: a Kafka null value */
    bool is_tombstone;
    bool is_too_large; /* value was cut: over WEIR_EVENT_BYTES_MAX; value holds the first WEIR_EVENT_BYTES_MAX bytes */
    uint32_t header_count;
    const struct weir_header *headers;
    struct weir_slice unread; /* .data not NULL: the headers are not read yet, this is how they stand in Kafka's record,
                                 behind the value, or the front of that (record_headers.h: weir_message_headers) */
    const void *record;       /* with `unread`: librdkafka's message, for where that is only the front; NULL: none */
};

/* What a source tells its worker. All on the polling thread. */
struct weir_source_listener {
    void *context;
    /* This partition is ours now. Take its lane and set the offset to read from (-1: the earliest that exists), or
     * answer false: the source gives the partition up and fails with *reterr. */
    bool (*assigned)(void *context, struct weir_slice topic, int32_t partition, int64_t *ret_offset,
                     struct weir_error *reterr);
    /* No longer ours. lost: it already belongs to somebody else, write nothing. Else: flush, then return. */
    void (*revoked)(void *context, struct weir_slice topic, int32_t partition, bool lost);
    /* Kafka's timestamp (ms) of the message just below the offset that `assigned` set or `seek` was told; -1: not
     * known. With it the source makes sure that the topic is still the one that the lane read. May be NULL: it does
     * not. */
    int64_t (*stamp)(void *context, int32_t partition);
    /* What was to be read next is gone, and reading goes on at next_offset (recreated: it may lie below). The worker
     * has every message before that. May be NULL: a lane with nothing stored begins at what there is, and for the
     * others poll fails with WEIR_FATAL. */
    void (*gone)(void *context, int32_t partition, enum weir_gap_kind kind, int64_t next_offset);
};

struct weir_source;

struct weir_source_ops {
    const char *name; /* "file", "kafka" */
    /* Up to max messages, waiting up to timeout_ms for the first. WEIR_OK with *ret_count == 0 after the time ran out;
     * WEIR_AGAIN: the end (files: end of the last one; Kafka with until_end: every partition's end offset reached);
     * WEIR_FATAL with *reterr. */
    enum weir_status (*poll)(struct weir_source *source, int timeout_ms, struct weir_message *ret_messages, size_t max,
                             size_t *ret_count, struct weir_error *reterr);
    /* Back-pressure: no more messages of this partition until resume. Already returned ones stand. */
    void (*pause)(struct weir_source *source, int32_t partition);
    void (*resume)(struct weir_source *source, int32_t partition);
    /* Read this partition from offset on (Kafka: -1: the earliest that exists): after a reload of its lane. Messages of
     * it that were fetched before are dropped. */
    enum weir_status (*seek)(struct weir_source *source, int32_t partition, int64_t offset, struct weir_error *reterr);
    /* For lag monitors only: everything below next_offset is durable. May be asynchronous. */
    void (*mark_durable)(struct weir_source *source, int32_t partition, int64_t next_offset);
    /* True when every message that existed at the last look has been returned, and the look was a moment ago (a lane
     * that is idle may then follow the wall clock): not while the brokers are away. */
    bool (*is_caught_up)(struct weir_source *source, int32_t partition);
    /* Where the next message can stand at the earliest, for one who has taken all below next_offset (-1: nothing yet):
     * beyond it when what lies between holds nothing for us (transaction markers, the beginning of an empty partition).
     * May be NULL: next_offset. */
    int64_t (*next)(struct weir_source *source, int32_t partition, int64_t next_offset);
    /* How many offsets of the partition are yet to be returned, as far as the last fetch told; -1: not known, or not
     * ours. Asks nobody. */
    int64_t (*lag)(struct weir_source *source, int32_t partition);
    /* Why nothing comes though there may be something, for people; a text that lasts. NULL: all is well. May itself be
     * NULL: all always is. */
    const char *(*trouble)(struct weir_source *source);
    void (*free)(struct weir_source *source);
};

struct weir_source {
    const struct weir_source_ops *ops; /* implementations put this first in their own struct */
};

/* paths: files in order, "-" is standard input, names ending in .gz and .zst are decompressed. Blank lines (only
 * spaces, tabs, CR) are skipped and counted in lines, not in messages. All files together are one lane, partition 0.
 * WEIR_REJECT when a file cannot be opened. A file damaged in the middle ends poll with WEIR_FATAL naming file and
 * byte. */
enum weir_status weir_source_file_open(const char *const *paths, size_t path_count, struct weir_source **ret_source,
                                       struct weir_error *reterr);
/* Bytes read so far and in all (0 when not known: pipes, compressed), for progress. */
void weir_source_file_progress(const struct weir_source *source, uint64_t *ret_read, uint64_t *ret_total);

struct weir_property {
    const char *name;
    const char *value;
};

struct weir_kafka_settings {
    const char *brokers;
    const char *topic;
    const char *group;
    const struct weir_property *properties; /* any librdkafka property, applied last but for those weir must own */
    size_t property_count;
    bool until_end; /* stop at the offsets that were the end when the source was opened */
    int reach_ms;   /* until_end: how long brokers may stay away; 0: 30 s */
};

enum weir_status weir_source_kafka_open(const struct weir_kafka_settings *settings,
                                        const struct weir_source_listener *listener, struct weir_source **ret_source,
                                        struct weir_error *reterr);
/* Librdkafka's own properties that weir sets and nobody may override, for --help and the README. NULL-terminated pairs.
 */
extern const char *const weir_kafka_owned_properties[];

static inline void weir_source_free(struct weir_source *source)
{
    if (source)
        source->ops->free(source);
}

#endif
