/* Publishes events to the topic, keyed by customer: for `weir produce`, that is for trying things out and for load. */
#ifndef WEIR_INGEST_PRODUCER_H
#define WEIR_INGEST_PRODUCER_H

#include <stdint.h>

#include "common/status.h"
#include "ingest/source.h"

struct weir_producer;

enum weir_status weir_producer_open(const struct weir_kafka_settings *settings, struct weir_producer **ret_producer,
                                    struct weir_error *reterr);
/* value is copied; key.length 0: no key. WEIR_AGAIN: the queue is full, call again (this call has waited a little). */
enum weir_status weir_producer_send(struct weir_producer *producer, struct weir_slice key, struct weir_slice value,
                                    struct weir_error *reterr);
/* Waits up to timeout_ms for what was sent. WEIR_OK: all delivered. WEIR_AGAIN: not all yet. WEIR_FATAL: some failed
 * for good. */
enum weir_status weir_producer_flush(struct weir_producer *producer, int timeout_ms, struct weir_error *reterr);
uint64_t weir_producer_delivered(const struct weir_producer *producer);
struct weir_producer *weir_producer_free(struct weir_producer *producer); /* NULL in, NULL out */

#endif
