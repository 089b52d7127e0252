/* Inside of lane*.c: the struct, and what the files share. lane.c has a lane's life, its watermark and what happens to
 * it beside events, lane_event.c what an event does, lane_cut.c its cuts. */
#ifndef WEIR_AGGREGATOR_LANE_INTERNAL_H
#define WEIR_AGGREGATOR_LANE_INTERNAL_H

#include "aggregator/lane.h"
#include "aggregator/seen.h"
#include "aggregator/tallies.h"
#include "common/calendar.h"

enum { ID_BUCKETS = 16 }; /* the retention is cut into so many: ids are kept at most two sixteenths longer than asked */

/* Ids counted or voided since the last seal, as they will be stored: WEIR_ID_BYTES each, grouped by bucket. */
struct fresh_ids {
    int64_t bucket;
    size_t count;
};

struct weir_lane {
    /* What weir_lane_hash reads, on lines of its own: a thread that decodes does not wait for the one that counts. */
    const struct weir_catalog *catalog;
    uint64_t *type_contents; /* by meter: what its events' content begins with (weir_event_content_of_type) */
    struct weir_window_table *windows;
    struct weir_hash_key secret;
    char name[WEIR_LANE_NAME_MAX + 1];
    uint32_t name_length;

    struct weir_lane_settings settings;
    struct weir_lane_state state;
    struct weir_seen *seen;
    struct weir_tallies *tallies;
    int64_t last_bucket;  /* of ids, the highest so far */
    int64_t bucket_until; /* as long as `high` is below it, it is of the same bucket as before */
    bool is_loading_full; /* the stored lane is larger than the limits */
    uint64_t unreadable;  /* stored windows that were left where they are */

    /* Since the last seal. high only rises, so the ids of one bucket stand together. */
    char *ids;
    size_t ids_count, ids_room;
    struct fresh_ids *runs;
    size_t run_count, run_room;
    int64_t sealed_offset;  /* next_offset of the last seal */
    int64_t closed_through; /* the watermark that cuts tell: every window that ends by then is closed */
    int64_t sealed_watermark;
    uint32_t round_place; /* where the round goes on that is under way; 0: none is */
    uint64_t open_sealed; /* open windows that cuts brought since the last round began */
    bool has_new_gap;
    bool is_idle;

    struct weir_window_change changes[WEIR_METERS_MAX];
};

/* 1. The watermark. */

/* Closes windows whose end has passed, not so many of one end that a cut would be more than it mostly is;
 * closed_through tells how far that went. */
void weir_lane_close_some(struct weir_lane *lane);

static inline void lane_raise_watermark(struct weir_lane *lane, int64_t watermark)
{
    if (watermark <= lane->state.watermark || lane->settings.is_bounded)
        return;
    lane->state.watermark = watermark;
    weir_lane_close_some(lane);
}

/* An older event is too late. `forgotten` tells when lateness was made longer after windows and ids had gone. */
static inline int64_t lane_accepted_from(const struct weir_lane *lane)
{
    int64_t from = lane->state.watermark - lane->settings.lateness;

    return lane->state.forgotten > from && lane->state.forgotten > 0 ? lane->state.forgotten : from;
}

/* 2. Buckets of ids. */

/* Minutes. */
static inline int64_t lane_bucket_length(const struct weir_lane *lane)
{
    int64_t length = lane->settings.retention / ID_BUCKETS / WEIR_MINUTE;
    return length < 1 ? 1 : length;
}

/* A bucket is named by the minute in which it ends, so that it says by itself when its ids may go, however long buckets
 * were when it was made. */
static inline int64_t lane_bucket_of(const struct weir_lane *lane, int64_t time)
{
    int64_t length = lane_bucket_length(lane);
    return (time / WEIR_MINUTE / length + 1) * length;
}

/* With this watermark, ids of buckets below are not needed any more. (Older cuts name a bucket by its beginning.) */
static inline int64_t lane_ids_needed_from(const struct weir_lane *lane, int64_t watermark)
{
    return (watermark - lane->settings.retention) / WEIR_MINUTE - lane_bucket_length(lane);
}

#endif
