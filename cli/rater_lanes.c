/* What lanes there are, and through when all that closed in them is rated. */
#include <string.h>

#include "cli/admitted.h"
#include "cli/rater_internal.h"

enum { LANES_MAX = 65536 };

/* Lanes mostly come in the order of last time, and none twice. NULL: not known yet. */
static struct known_lane *find_lane(struct rating *rating, struct weir_slice name)
{
    for (size_t i = 0; i < rating->known_count; i++) {
        size_t at = (rating->next_lane + i) % rating->known_count;
        struct known_lane *lane = &rating->lanes[at];
        if (weir_slice_equal(weir_slice_of(lane->name_bytes, lane->name.length), name)) {
            rating->next_lane = at + 1;
            return lane;
        }
    }
    return NULL;
}

static void add_lane(void *context, struct weir_slice name, const struct weir_lane_state *state)
{
    struct rating *rating = context;
    struct known_lane *lane = find_lane(rating, name);

    if (!lane && (rating->lane_count == LANES_MAX || name.length > WEIR_LANE_NAME_MAX)) {
        rating->has_too_many = true;
        return;
    }
    if (!lane && rating->lane_count == rating->lane_room) {
        rating->lane_room = rating->lane_room ? rating->lane_room * 2 : 16;
        rating->lanes = weir_resize(rating->lanes, rating->lane_room, sizeof *rating->lanes);
    }
    if (!lane) {
        lane = &rating->lanes[rating->lane_count++];
        *lane = (struct known_lane){
            .name.length = name.length, .rated_through = NEVER_RATED, .noted_offset = -1, .gap = -1};
        memcpy(lane->name_bytes, name.data, name.length);
    } else if (!weir_lane_state_goes_on(&lane->state, state)) {
        lane->rated_through = NEVER_RATED;
    }
    lane->state = *state;
    lane->listed_watermark = state->watermark;
    lane->listed_offset = state->next_offset;
    lane->listed_counts = state->counts;
    lane->is_listed = true;
}

/* Periods end when every lane has passed their end and all that closed until then is rated: the slowest one decides.
 * Lanes of admitted events have no time of their own, and end nothing. false: some lane was not rated yet. */
bool weir_rating_horizon(const struct rating *rating, struct weir_horizon *ret_horizon)
{
    struct weir_horizon horizon = {.first_time = WEIR_TIME_NEVER, .last_time = 0, .ended = WEIR_TIME_NEVER};
    bool is_any = false, are_all = true;

    for (size_t i = 0; i < rating->lane_count; i++) {
        const struct known_lane *lane = &rating->lanes[i];
        const struct weir_lane_state *state = &lane->state;
        bool has_time = !weir_is_admitted(lane->name);
        is_any = is_any || has_time;
        are_all = are_all && lane->rated_through != NEVER_RATED;
        if (has_time && lane->rated_through < horizon.ended)
            horizon.ended = lane->rated_through;
        if (state->counts.counted + state->counts.retracted == 0)
            continue;
        if (state->first_time < horizon.first_time)
            horizon.first_time = state->first_time;
        if (state->last_time > horizon.last_time)
            horizon.last_time = state->last_time;
    }
    if (!is_any)
        horizon.ended = 0;
    *ret_horizon = horizon;
    return are_all;
}

/* Lanes that the store has no more are forgotten. */
static void keep_listed(struct rating *rating)
{
    size_t kept = 0;

    for (size_t i = 0; i < rating->lane_count; i++)
        if (rating->lanes[i].is_listed) {
            rating->lanes[kept] = rating->lanes[i];
            rating->lanes[kept].name.data = rating->lanes[kept].name_bytes; /* the array may have moved as well */
            kept++;
        }
    rating->lane_count = kept;
}

enum weir_status weir_rating_list_lanes(struct rating *rating, struct weir_error *reterr)
{
    char admitted[WEIR_SETTING_TEXT_MAX];

    for (size_t i = 0; i < rating->lane_count; i++)
        rating->lanes[i].is_listed = false;
    rating->next_lane = 0;
    rating->known_count = rating->lane_count;
    enum weir_status status =
        rating->store->ops->list_lanes(rating->store, rating->settings.kafka_topic, add_lane, rating, reterr);
    if (status == WEIR_OK)
        status = rating->store->ops->list_lanes(rating->store, weir_admitted_topic(&rating->settings, admitted),
                                                add_lane, rating, reterr);
    keep_listed(rating);
    if (status == WEIR_OK) /* relaxed: a figure on a page */
        atomic_store_explicit(&rating->lanes_known, rating->lane_count, memory_order_relaxed);
    /* Rating some and not the others would settle periods too early. */
    if (status == WEIR_OK && rating->has_too_many)
        return weir_fail(reterr, WEIR_FATAL, "redis: topic %s has more than %d lanes; a rater takes no more than that",
                         rating->settings.kafka_topic, LANES_MAX);
    return status;
}

void weir_rating_forget_told(struct rating *rating)
{
    for (size_t i = 0; i < rating->lane_count; i++)
        rating->lanes[i].noted_offset = rating->lanes[i].gap = -1;
}

static bool is_listed(const struct rating *rating, struct weir_slice lane)
{
    for (size_t i = 0; i < rating->lane_count; i++)
        if (weir_slice_equal(rating->lanes[i].name, lane))
            return true;
    return false;
}

struct settling {
    const struct rating *rating;
    struct weir_horizon *horizon;
};

/* A lane that the store has lost and nobody has taken again yet is as far as it was last seen. */
static void wait_for_lane(void *context, struct weir_slice lane, int64_t watermark)
{
    const struct settling *settling = context;

    if (watermark < settling->horizon->ended && !is_listed(settling->rating, lane))
        settling->horizon->ended = watermark;
}

/* Where the earliest open gap begins, if that is before *end. */
enum weir_status weir_rating_end_at_gaps(struct rating *rating, int64_t *end, struct weir_error *reterr)
{
    const struct weir_open_gap *gaps = NULL;
    size_t count = 0;
    enum weir_status status =
        weir_lane_book_open_gaps(rating->book, rating->settings.kafka_topic, false, &gaps, &count, reterr);

    for (size_t i = 0; i < count && status == WEIR_OK; i++)
        if (gaps[i].gap.time_from < *end)
            *end = gaps[i].gap.time_from;
    return status;
}

/* A period that an open gap concerns has not ended: its usage may be incomplete. Nor has one that a gap concerned when
 * the round began, and which was released since: its windows are not rated yet. */
enum weir_status weir_rating_find_horizon(struct rating *rating, struct weir_horizon *ret_horizon, bool *ret_known,
                                          struct weir_error *reterr)
{
    struct weir_horizon horizon;
    struct settling settling = {rating, &horizon};

    *ret_known = weir_rating_horizon(rating, &horizon);
    enum weir_status status =
        weir_lane_book_lanes(rating->book, rating->settings.kafka_topic, wait_for_lane, &settling, reterr);
    if (status == WEIR_OK)
        status = weir_rating_end_at_gaps(rating, &horizon.ended, reterr);
    if (rating->first_gap < horizon.ended)
        horizon.ended = rating->first_gap;
    *ret_horizon = horizon;
    return status;
}
