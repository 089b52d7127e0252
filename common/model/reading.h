/* What one event adds to one meter: the noun between decoding and aggregating. Views into the event and the reader's
 * scratch. A line of the cache of its own, which holds all but the second and later dimensions: it may be read on
 * another core. */
#ifndef WEIR_COMMON_MODEL_READING_H
#define WEIR_COMMON_MODEL_READING_H

#include "common/decimal.h"
#include "common/hash.h"
#include "common/model/window.h"

struct weir_reading {
    _Alignas(64) uint32_t meter; /* index in the catalog */
    uint32_t place;  /* where the series seems to stand; 0: not known. The lane's own, as is all that it sets */
    uint64_t series; /* hash of the series that it is counted into; the lane sets it (weir_lane_hash) */
    union {
        struct weir_decimal value;  /* sum, min, max, latest, avg */
        struct weir_hash128 unique; /* unique: fingerprint of the text; the lane sets it (weir_lane_hash) */
    };
    struct weir_slice unique_text; /* unique */
    struct weir_slice
        dimensions[WEIR_DIMENSIONS_MAX]; /* texts in the meter's group_by order; only the first group_count */
};

#endif
