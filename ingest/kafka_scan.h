/* Reading stretches of a topic again, beside everything else: for explain and admit. No group is joined, nothing is
 * committed, workers do not notice.
 */
#ifndef WEIR_INGEST_KAFKA_SCAN_H
#define WEIR_INGEST_KAFKA_SCAN_H

#include <stdatomic.h>
#include <stdbool.h>

#include "common/status.h"
#include "ingest/source.h"

/* Offsets [from, to) of one partition. */
struct weir_kafka_stretch {
    int32_t partition;
    int64_t from, to; /* to INT64_MAX: the end as it is when the scan begins */
    /* Set by the scan. */
    int64_t low, end;  /* what Kafka held: [low, end); end -1: there is no such topic */
    int64_t next;      /* read up to here */
    uint64_t messages; /* visited */
};

struct weir_kafka_scan {
    void *context;
    /* The message's views live for the call. false: that is enough, the scan ends well. */
    bool (*visit)(void *context, const struct weir_message *message);
    /* Called now and then with how many offsets were read, and of how many. May be NULL. */
    void (*progress)(void *context, uint64_t done, uint64_t all);
    const _Atomic bool *stop; /* may be NULL; set: the scan ends with WEIR_FATAL ("stopped by a signal") */
    int patience_ms;          /* for an answer, and between two messages; 0: 15 s and 60 s */
    bool has_all; /* what Kafka removes before it is read ends the scan (WEIR_RETRY); else it goes on behind */
};

/* Visits every message that a worker would be given (of committed transactions), partition by partition in order of
 * offset, partitions mixed. WEIR_REJECT: no such topic, or a property is wrong. WEIR_RETRY: Kafka does not answer. */
enum weir_status weir_kafka_scan(const struct weir_kafka_settings *settings, struct weir_kafka_stretch *stretches,
                                 size_t count, const struct weir_kafka_scan *scan, struct weir_error *reterr);

/* One stretch for each partition of the topic, whole: *ret_stretches is to be freed. */
enum weir_status weir_kafka_whole(const struct weir_kafka_settings *settings, struct weir_kafka_stretch **ret_stretches,
                                  size_t *ret_count, struct weir_error *reterr);

#endif
