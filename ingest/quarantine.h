/* Where events go that cannot be counted: original bytes, place and reason. Nothing is dropped silently.
 *
 * Record, one JSON object (schemas/quarantine.schema.json):
 *   {"topic","partition","offset","reason","field","detail","event"} with "event_base64" instead of "event" when the
 * bytes are not UTF-8 text. A crash between a record and the cut that covers it repeats the record: readers identify
 * one by (topic, partition, offset).
 *
 * put and flush may be called from different threads (put: the lane's; flush: the writer's); each implementation is
 * safe for that.
 */
#ifndef WEIR_INGEST_QUARANTINE_H
#define WEIR_INGEST_QUARANTINE_H

#include "common/model/event.h"
#include "common/status.h"
#include "ingest/source.h"

struct weir_quarantine;

struct weir_quarantine_ops {
    /* Hands the record over. WEIR_AGAIN: the queue is full, pause the lane and call again. */
    enum weir_status (*put)(struct weir_quarantine *quarantine, const struct weir_message *message,
                            const struct weir_rejection *why, struct weir_error *reterr);
    /* Returns when all records put before are durable (acknowledged by Kafka; written and fsynced to the file).
     * WEIR_RETRY: they are not yet, or the topic does not take them; none is given up, and the next call puts again
     * what was refused. */
    enum weir_status (*flush)(struct weir_quarantine *quarantine, struct weir_error *reterr);
    /* Records that were put and are not durable yet, as far as that is known. Any thread. */
    uint64_t (*backlog)(const struct weir_quarantine *quarantine);
    void (*free)(struct weir_quarantine *quarantine);
};

struct weir_quarantine {
    const struct weir_quarantine_ops *ops;
};

/* path NULL: counted only (the caller reports that); the file is created at the first record, and truncated by it. */
enum weir_status weir_quarantine_file_open(const char *path, struct weir_quarantine **ret_quarantine,
                                           struct weir_error *reterr);
/* In Kafka the value is the original bytes with its headers kept, and the record's other fields are headers
 * weir_topic, weir_partition, weir_offset, weir_reason, weir_field, weir_detail; and weir_cut:
 * true where value or headers were cut to what a topic takes by default (1 MB). topic NULL:
 * "<settings->topic>.quarantine". */
enum weir_status weir_quarantine_kafka_open(const struct weir_kafka_settings *settings, const char *topic,
                                            struct weir_quarantine **ret_quarantine, struct weir_error *reterr);

static inline void weir_quarantine_free(struct weir_quarantine *quarantine)
{
    if (quarantine)
        quarantine->ops->free(quarantine);
}

#endif
