/* The single events of one window of a retractable min, max, latest or unique meter, so that any of them can be taken
 * out again: what a running total cannot tell.
 *
 * A record a event, 48 bytes here and 48 in the store (48 more when it is taken out); adding is O(1), taking out and
 * working out the rest O(n) for the n events of the window. Whether a window keeps its events is settled when it is
 * made, by its meter, and stays so.
 *
 * In the store it is a row of units of WEIR_UNIQUE_BYTES in the place where other windows have fingerprints: a mark,
 * which no fingerprint is but by a chance of 2^-128, then three units for each change, in order.
 */
#ifndef WEIR_AGGREGATOR_KEPT_H
#define WEIR_AGGREGATOR_KEPT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/hash.h"
#include "common/model/catalog.h"
#include "common/model/window.h"
#include "common/slice.h"

struct weir_kept;

/* One event. */
struct weir_kept_record {
    union {
        struct weir_decimal value;  /* min, max, latest */
        struct weir_hash128 unique; /* unique: fingerprint of the text */
    };
    int64_t time;
    int64_t offset;
    uint64_t id; /* fingerprint of (source, id), as in the lane's ids */
};

struct weir_kept *weir_kept_new(enum weir_aggregation aggregation);
struct weir_kept *weir_kept_free(struct weir_kept *kept); /* NULL in, NULL out */

bool weir_kept_has_id(const struct weir_kept *kept, uint64_t id);
/* An event has the text of this fingerprint. */
bool weir_kept_has_unique(const struct weir_kept *kept, struct weir_hash128 unique);
void weir_kept_add(struct weir_kept *kept, const struct weir_kept_record *record);
void weir_kept_remove(struct weir_kept *kept, uint64_t id); /* has_id is true (checked) */
/* *total is that of all events; makes it that of all but one. `retracted` stays. has_id is true (checked). */
void weir_kept_total_without(const struct weir_kept *kept, enum weir_aggregation aggregation, uint64_t id,
                             struct weir_window_total *total);
uint64_t weir_kept_count(const struct weir_kept *kept);

/* Units of the store. */
bool weir_kept_is_mark(struct weir_slice units); /* they begin with the mark: the window keeps its events */
void weir_kept_restore(struct weir_kept *kept, struct weir_slice units); /* all of them, mark included */
struct weir_slice weir_kept_new_units(const struct weir_kept *kept);     /* since the last cut; until the next change */
void weir_kept_mark_stored(struct weir_kept *kept);
size_t weir_kept_bytes(const struct weir_kept *kept);

#endif
