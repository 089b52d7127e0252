/* The ids that a lane has counted or voided: answers "is this one known, and what became of it?".
 *
 * An id is a 64-bit keyed fingerprint of (source, id). With n ids remembered, the chance that a new one is taken for an
 * old one is n / 2^64: one in 1.8 * 10^12 for 10 million. The mark beside it keeps 24 bits of the content's fingerprint
 * (tells a resend from a conflict: one conflict in 17 million passes as a resend) and 16 bits of the effect's (tells a
 * retraction that takes out what was counted from one that would not: one in 65,536 passes wrongly); the key is the
 * lane's secret, so that no producer can aim for a collision. Stores keep more bits (weir_id_store).
 *
 * Memory: 13 bytes a place, and 82 to 92 % of the places taken: less than 16 bytes an id from a million ids on, at
 * every moment of growth, since it grows in 256 segments, one at a time, each by an eighth to a quarter
 * (seen_blocks.h). With few ids each segment has a block: 210 KB.
 *
 * Buckets exist only to forget: an id stands in the bucket of the lane's highest event time when its mark was last set
 * (minutes since 1970). A place has 6 bits for its bucket: old ones are forgotten, and when there are more, neighbours
 * are put together, and ids are remembered longer than asked. One owner thread.
 */
#ifndef WEIR_AGGREGATOR_SEEN_H
#define WEIR_AGGREGATOR_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aggregator/window_store.h"
#include "common/status.h"

struct weir_seen;

/* Of the fingerprints in a mark, the lower bits that are kept. */
enum { WEIR_SEEN_CONTENT_BITS = 24, WEIR_SEEN_EFFECT_BITS = 16 };
#define WEIR_SEEN_CONTENT_MASK ((UINT32_C(1) << WEIR_SEEN_CONTENT_BITS) - 1)
#define WEIR_SEEN_EFFECT_MASK ((UINT32_C(1) << WEIR_SEEN_EFFECT_BITS) - 1)

enum weir_seen_answer {
    WEIR_SEEN_NEW,
    WEIR_SEEN_KNOWN,    /* with this content */
    WEIR_SEEN_CONFLICT, /* with other content */
};

/* limit: ids at most, >= 1. */
struct weir_seen *weir_seen_new(uint64_t limit);
struct weir_seen *weir_seen_free(struct weir_seen *seen); /* NULL in, NULL out */
/* About so many ids will come: room for them is made now, instead of growing to it, and stands on huge pages where it
 * is large. There are none yet; asked once at most. */
void weir_seen_expect(struct weir_seen *seen, uint64_t count);

/* *ret_mark is set when the answer is KNOWN; of content and effect it has the bits that are kept. Changes nothing but
 * that the place of a new id is noted. */
enum weir_seen_answer weir_seen_look(struct weir_seen *seen, uint64_t id, uint32_t content,
                                     struct weir_id_mark *ret_mark);
/* Remembers the id with this mark in this bucket, known or not. WEIR_AGAIN: it is new and the limit is reached, nothing
 * changed. */
enum weir_status weir_seen_set(struct weir_seen *seen, uint64_t id, struct weir_id_mark mark, uint32_t bucket);
/* The same for an id that weir_seen_look has just called NEW (nothing was set since): it is not looked for again. */
enum weir_status weir_seen_add(struct weir_seen *seen, uint64_t id, struct weir_id_mark mark, uint32_t bucket);
/* Drops every id of a bucket below this one. Costs a pass over the table when there is anything to drop. */
void weir_seen_forget(struct weir_seen *seen, uint32_t bucket);
/* So many buckets that forgetting the old ones now is better than waiting. */
bool weir_seen_is_crowded(const struct weir_seen *seen);
uint64_t weir_seen_count(const struct weir_seen *seen);
/* Fetches what an id that will be looked up soon, and is most likely new, will touch. */
void weir_seen_prefetch(const struct weir_seen *seen, uint64_t id);
size_t weir_seen_bytes(const struct weir_seen *seen); /* memory held */

#endif
