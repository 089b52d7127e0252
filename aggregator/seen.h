/* The ids that a lane has counted: answers "was this one counted before, and with the same content?".
 *
 * An id is a 64-bit keyed fingerprint of (source, id). With n ids remembered, the chance that a new one is taken for an
 * old one is n / 2^64: one in 1.8 * 10^12 for 10 million. A 32-bit fingerprint of the content tells a resend from a
 * conflict; the key is the lane's secret, so that no producer can aim for a collision.
 *
 * Open addressing with linear probing, 16 bytes a slot, at most 7/8 full. Buckets exist only to forget: an id stands in
 * the bucket of the lane's highest event time when it was counted (minutes since 1970). One owner thread.
 */
#ifndef WEIR_AGGREGATOR_SEEN_H
#define WEIR_AGGREGATOR_SEEN_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct weir_seen;

enum weir_seen_answer {
    WEIR_SEEN_NEW,
    WEIR_SEEN_DUPLICATE,
    WEIR_SEEN_CONFLICT, /* known id, other content */
};

/* limit: ids at most, >= 1. */
struct weir_seen *weir_seen_new(uint64_t limit);
struct weir_seen *weir_seen_free(struct weir_seen *seen); /* NULL in, NULL out */

enum weir_seen_answer weir_seen_look(const struct weir_seen *seen, uint64_t id, uint32_t content);
/* Remembers an id that look answered NEW for. WEIR_AGAIN: the limit is reached, nothing changed. */
enum weir_status weir_seen_add(struct weir_seen *seen, uint64_t id, uint32_t content, uint32_t bucket);
/* Drops every id of a bucket below this one. Costs a pass over the table when there is anything to drop. */
void weir_seen_forget(struct weir_seen *seen, uint32_t bucket);
uint64_t weir_seen_count(const struct weir_seen *seen);
/* Fetches the slot of an id that will be looked up soon. */
void weir_seen_prefetch(const struct weir_seen *seen, uint64_t id);
size_t weir_seen_bytes(const struct weir_seen *seen); /* memory held */

#endif
