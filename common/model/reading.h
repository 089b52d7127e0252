/* What one event adds to one meter: the noun between decoding and aggregating. Views into the event and the reader's
 * scratch. */
#ifndef WEIR_COMMON_MODEL_READING_H
#define WEIR_COMMON_MODEL_READING_H

#include "common/decimal.h"
#include "common/model/window.h"

struct weir_reading {
    uint32_t meter;                /* index in the catalog */
    struct weir_decimal value;     /* sum, min, max, latest, avg */
    struct weir_slice unique_text; /* unique */
    struct weir_slice
        dimensions[WEIR_DIMENSIONS_MAX]; /* texts in the meter's group_by order; only the first group_count */
};

#endif
