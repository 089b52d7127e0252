/* Events published again, byte for byte: for `weir admit`.
 *
 * A topic that is missing is made: one partition, so that whatever is published there meets in one lane, and
 * nothing in it expires, so that the lane can be rebuilt from it. One thread.
 */
#ifndef WEIR_INGEST_REPUBLISH_H
#define WEIR_INGEST_REPUBLISH_H

#include "common/status.h"
#include "ingest/source.h"

struct weir_republisher;

/* settings->topic: where to. WEIR_REJECT: the topic cannot be made, and why. WEIR_RETRY: Kafka does not answer. */
enum weir_status weir_republisher_open(const struct weir_kafka_settings *settings,
                                       struct weir_republisher **ret_republisher, struct weir_error *reterr);
struct weir_republisher *weir_republisher_free(struct weir_republisher *republisher); /* NULL in, NULL out */

/* Value and headers are copied. partition: of the topic, >= 0. Waits while the queue is full. */
enum weir_status weir_republisher_send(struct weir_republisher *republisher, int32_t partition, struct weir_slice key,
                                       struct weir_slice value, const struct weir_header *headers, uint32_t count,
                                       struct weir_error *reterr);
/* Returns when all of them are acknowledged. */
enum weir_status weir_republisher_flush(struct weir_republisher *republisher, struct weir_error *reterr);

#endif
