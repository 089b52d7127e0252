/* What Kafka says of a topic's partitions: for reconcile. Reads only. */
#ifndef WEIR_INGEST_KAFKA_OFFSETS_H
#define WEIR_INGEST_KAFKA_OFFSETS_H

#include "common/status.h"
#include "ingest/source.h"

struct weir_kafka_offsets {
    int64_t low, end;  /* what Kafka holds: [low, end) */
    int64_t committed; /* by the group, for lag monitors; -1: nothing */
};

/* *ret_offsets: one for each partition, from 0; to be freed. WEIR_RETRY: brokers do not answer. WEIR_REJECT: no such
 * topic, *ret_count is 0; or a setting that Kafka refuses, -1. */
enum weir_status weir_kafka_ask_offsets(const struct weir_kafka_settings *settings,
                                        struct weir_kafka_offsets **ret_offsets, int32_t *ret_count,
                                        struct weir_error *reterr);

#endif
