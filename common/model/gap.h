/* What a lane never counted and can read no more: offsets that Kafka has lost, and the event times that they may
 * concern.
 *
 * A gap is found by the worker that meets it, kept in the lane's cut, and recorded by the rater, which holds the
 * windows in its span until somebody has decided (docs/gaps.md).
 */
#ifndef WEIR_COMMON_MODEL_GAP_H
#define WEIR_COMMON_MODEL_GAP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/slice.h"

/* nothing_stored: the lane has no cut, and Kafka's first messages are gone: a first start on an old topic, or an
 * emptied store (whoever knew the lane before can tell). retention: the stored offset is gone. recreated: the topic is
 * another one than the lane read: what the old one still held is unknown. */
#define WEIR_GAP_KINDS(X) X(NOTHING_STORED, nothing_stored) X(RETENTION, retention) X(RECREATED, recreated)
enum weir_gap_kind {
#define WEIR_X(upper, lower) WEIR_GAP_##upper,
    WEIR_GAP_KINDS(WEIR_X)
#undef WEIR_X
        WEIR_GAP_KIND_COUNT
};
extern const char *const weir_gap_kind_name[WEIR_GAP_KIND_COUNT];

enum {
    WEIR_GAPS_MAX = 16,        /* of one lane: one more is merged into the last */
    WEIR_GAP_TEXT_MAX = 160,   /* of one gap */
    WEIR_GAP_END_UNKNOWN = -1, /* `to` of a topic that was made anew */
};

struct weir_gap {
    enum weir_gap_kind kind;
    int64_t from, to;           /* offsets [from, to) */
    int64_t time_from, time_to; /* event times [time_from, time_to), ns, whole microseconds */
    int64_t found_at;           /* wall clock, ns, whole microseconds */
};

struct weir_gaps {
    uint32_t count;
    struct weir_gap at[WEIR_GAPS_MAX]; /* as they were found */
};

/* Adds a gap. In a full list the last one becomes wide enough for both, and as new as this one: nothing is forgotten,
 * and whoever compares sees a gap that was not there before. */
void weir_gaps_add(struct weir_gaps *gaps, const struct weir_gap *gap);

/* "kind from to time_from time_to found_at", one after the other with ',' between: as the lane's hash keeps them. */
struct weir_slice weir_gaps_format(const struct weir_gaps *gaps, char text[WEIR_GAPS_MAX * WEIR_GAP_TEXT_MAX]);
bool weir_gaps_parse(struct weir_slice text, struct weir_gaps *ret_gaps); /* false: not of that form */

#endif
