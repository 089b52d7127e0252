#include "aggregator/lane_internal.h"

#include <stdlib.h>

/* 1. life */
struct weir_lane *weir_lane_new(const struct weir_catalog *catalog, struct weir_slice name,
                                const struct weir_lane_settings *settings)
{
    struct weir_lane *lane = weir_new(sizeof *lane);

    weir_check(name.length <= WEIR_LANE_NAME_MAX);
    weir_check(settings->is_bounded || settings->keeps_all || settings->retention >= settings->lateness);
    lane->catalog = catalog;
    lane->settings = *settings;
    memcpy(lane->name, name.data, name.length);
    lane->name_length = name.length;
    lane->type_contents = weir_new_array(catalog->meter_count + 1, sizeof *lane->type_contents);
    lane->windows = weir_window_table_new(catalog, settings->windows_max, settings->is_bounded, &settings->unpriced);
    lane->seen = weir_seen_new(settings->ids_max);
    lane->tallies = weir_tallies_new(WEIR_TALLIES_MAX);
    return lane;
}

struct weir_lane *weir_lane_free(struct weir_lane *lane)
{
    if (!lane)
        return NULL;
    weir_window_table_free(lane->windows);
    weir_seen_free(lane->seen);
    weir_tallies_free(lane->tallies);
    free(lane->type_contents);
    free(lane->ids);
    free(lane->runs);
    free(lane);
    return NULL;
}

void weir_lane_expect(struct weir_lane *lane, uint64_t events)
{
    weir_seen_expect(lane->seen, events);
}

static void load_window(void *context, const struct weir_window *window, bool is_closed, struct weir_slice unique)
{
    struct weir_lane *lane = context;
    struct weir_slice customer;
    struct weir_tally tally;

    if (weir_tally_load(window, &customer, &tally)) {
        weir_tallies_restore(lane->tallies, customer, &tally, is_closed);
        return;
    }
    enum weir_status status = weir_window_table_restore(lane->windows, window, is_closed, unique);

    lane->unreadable += status == WEIR_REJECT;
    lane->is_loading_full = lane->is_loading_full || status == WEIR_AGAIN;
}

static void load_ids(void *context, int64_t bucket, struct weir_slice ids)
{
    struct weir_lane *lane = context;

    weir_check(ids.length % WEIR_ID_BYTES == 0);
    if (bucket > lane->last_bucket)
        lane->last_bucket = bucket;
    for (uint32_t at = 0; at < ids.length && !lane->is_loading_full; at += WEIR_ID_BYTES) {
        struct weir_id_mark mark;
        uint64_t id = weir_id_load(ids.data + at, &mark);
        if (weir_seen_set(lane->seen, id, mark, (uint32_t)bucket) != WEIR_OK)
            lane->is_loading_full = true;
    }
}

struct weir_lane_loader weir_lane_loader(struct weir_lane *lane)
{
    return (struct weir_lane_loader){.context = lane, .window = load_window, .ids = load_ids};
}

uint64_t weir_lane_unreadable(const struct weir_lane *lane)
{
    return lane->unreadable;
}

static void close_windows(struct weir_lane *lane, uint32_t least)
{
    int64_t through = weir_window_table_close(lane->windows, lane->state.watermark, least);

    if (through > lane->closed_through)
        lane->closed_through = through;
}

void weir_lane_close_some(struct weir_lane *lane)
{
    enum { USUAL = 2048 }; /* a quarter of what a busy lane's cut holds anyway */

    close_windows(lane, lane->settings.close_least ? lane->settings.close_least : USUAL);
}

enum weir_status weir_lane_start(struct weir_lane *lane, const struct weir_lane_state *state, struct weir_error *reterr)
{
    if (lane->is_loading_full || weir_lane_ids(lane) > lane->settings.ids_max)
        return weir_fail(reterr, WEIR_REJECT,
                         "lane %s: its stored windows or ids do not fit into what other lanes leave of "
                         "lane_windows_max (%llu) and lane_ids_max (%llu). Raise them with the memory that they need; "
                         "nothing was lost",
                         lane->name, (unsigned long long)lane->settings.windows_max,
                         (unsigned long long)lane->settings.ids_max);
    lane->state = *state;
    if (state->first_time == 0 && state->last_time == 0 && state->counts.counted + state->counts.retracted == 0)
        lane->state.first_time = WEIR_TIME_NEVER; /* nothing counted: an empty span */
    weir_hash_key_init(&lane->secret, state->secret);
    for (uint32_t i = 0; i < lane->catalog->meter_count; i++)
        lane->type_contents[i] =
            weir_event_content_of_type(lane->catalog->meters[i].event_type, weir_hash_key_seed(&lane->secret));
    if (lane->settings.keeps_all)
        lane->state.watermark = WEIR_TIME_NEVER;
    lane->sealed_offset = state->next_offset;
    lane->sealed_watermark = state->watermark;
    if (weir_window_table_count(lane->windows) > 0)
        lane->open_sealed = UINT64_MAX / 2; /* at once: what earlier owners wrote may be long */
    close_windows(lane, UINT32_MAX);
    /* Its cut may have told a watermark that was waiting for windows to close. */
    if (state->high > 0)
        lane_raise_watermark(lane, state->high - lane->settings.disorder);
    return WEIR_OK;
}

/* 2. what happens to it beside events */

void weir_lane_skip_to(struct weir_lane *lane, int64_t next_offset)
{
    if (next_offset <= lane->state.next_offset)
        return;
    lane->state.next_offset = next_offset;
    lane->state.stamp = -1;
}

void weir_lane_set_stamp(struct weir_lane *lane, int64_t stamp)
{
    lane->state.stamp = stamp;
}

/* What the lost events' times may be. A lane that has a cut would take none older than it accepts; one that
 * has none took them at a time that nobody here remembers. None was taken that lay further ahead of the clock than
 * allowed. */
const struct weir_gap *weir_lane_add_gap(struct weir_lane *lane, enum weir_gap_kind kind, int64_t next_offset,
                                         int64_t now)
{
    struct weir_lane_state *state = &lane->state;
    int64_t from = state->next_offset > 0 ? state->next_offset : 0;
    /* A lane of admitted events took them of any age, and has no watermark to speak of. */
    bool is_any_age = kind == WEIR_GAP_NOTHING_STORED || lane->settings.keeps_all;
    int64_t earliest = is_any_age ? 0 : lane_accepted_from(lane);
    int64_t latest = now + lane->settings.max_future > earliest ? now + lane->settings.max_future : earliest;
    struct weir_gap gap = {
        .kind = kind,
        .from = from,
        .to = kind == WEIR_GAP_RECREATED ? WEIR_GAP_END_UNKNOWN : next_offset,
        .time_from = earliest > 0 ? earliest - earliest % 1000 : 0,
        .time_to = latest - latest % 1000 + 1000,
        .found_at = now - now % 1000,
    };

    weir_check(next_offset >= from || kind == WEIR_GAP_RECREATED);
    weir_gaps_add(&state->gaps, &gap);
    state->next_offset = next_offset;
    state->stamp = -1;
    lane->has_new_gap = true;
    return &state->gaps.at[state->gaps.count - 1];
}

void weir_lane_idle(struct weir_lane *lane, int64_t now)
{
    lane_raise_watermark(lane, now - lane->settings.disorder);
    lane->is_idle = true;
}

void weir_lane_close_all(struct weir_lane *lane)
{
    if (!lane->settings.is_bounded)
        close_windows(lane, UINT32_MAX);
}

size_t weir_lane_drain(struct weir_lane *lane, size_t max, struct weir_window *ret_windows, bool *ret_is_whole)
{
    weir_check(lane->settings.is_bounded);
    return weir_window_table_drain(lane->windows, max, ret_windows, ret_is_whole);
}

/* 3. what it has */

const struct weir_lane_state *weir_lane_state(const struct weir_lane *lane)
{
    return &lane->state;
}

struct weir_slice weir_lane_name(const struct weir_lane *lane)
{
    return weir_slice_of(lane->name, lane->name_length);
}

uint64_t weir_lane_windows(const struct weir_lane *lane)
{
    return weir_window_table_count(lane->windows);
}

uint64_t weir_lane_ids(const struct weir_lane *lane)
{
    return weir_seen_count(lane->seen) + weir_window_table_uniques(lane->windows);
}

size_t weir_lane_bytes(const struct weir_lane *lane)
{
    return weir_window_table_bytes(lane->windows) + weir_seen_bytes(lane->seen) + weir_tallies_bytes(lane->tallies);
}

int64_t weir_lane_accepted_from(const struct weir_lane *lane)
{
    return lane_accepted_from(lane);
}
