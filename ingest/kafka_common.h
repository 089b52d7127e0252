/* What the Kafka source, quarantine and producer share: configuration with the properties that users pass through. */
#ifndef WEIR_INGEST_KAFKA_COMMON_H
#define WEIR_INGEST_KAFKA_COMMON_H

#include <librdkafka/rdkafka.h>

#include "common/status.h"
#include "ingest/source.h"

struct weir_kafka_pair {
    const char *name, *value; /* ended by a NULL name */
};

/* brokers, then `defaults`, then the settings' properties (those in weir_kafka_owned_properties are refused), then
 * `owned`. Log lines of librdkafka go to common/log.h. WEIR_REJECT: *reterr says which property, in librdkafka's own
 * words. */
enum weir_status weir_kafka_conf(const struct weir_kafka_settings *settings, const struct weir_kafka_pair *defaults,
                                 const struct weir_kafka_pair *owned, rd_kafka_conf_t **ret_conf,
                                 struct weir_error *reterr);

/* How many partitions the topic has; asks the brokers for up to timeout_ms. WEIR_REJECT: there is no such topic
 * (*ret_count 0), or it may not be looked at (-1). WEIR_RETRY: no answer (-1). */
enum weir_status weir_kafka_partitions(rd_kafka_t *handle, const char *brokers, const char *topic, int timeout_ms,
                                       int32_t *ret_count, struct weir_error *reterr);

/* Where a partition begins and ends, one question after the other, up to timeout_ms each. Not
 * rd_kafka_query_watermark_offsets: librdkafka (2.0.2) asks for both at once there, and where it has to ask again, as
 * the leader is just lost or found, it may answer with the end twice. Then all that the partition holds would pass for
 * lost, or as read. On an error both are as they were. */
rd_kafka_resp_err_t weir_kafka_range(rd_kafka_t *handle, const char *topic, int32_t partition, int timeout_ms,
                                     int64_t *ret_low, int64_t *ret_end);

#endif
