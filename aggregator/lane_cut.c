/* A lane's cuts: copies of what changed, which another thread can write. */
#include "aggregator/lane_internal.h"

#include <stdlib.h>

#define TELL_EVERY (15 * WEIR_MINUTE)

/* A round is begun when cuts have brought so many open windows at least, and each so many times, since the last one
 * began; it brings so many for each that changed. */
enum { ROUND_LEAST = 1 << 14, ROUND_AFTER = 6, ROUND_SHARE = 2 };

/* 1. life */

struct weir_sealed_cut *weir_sealed_cut_new(void)
{
    return weir_new(sizeof(struct weir_sealed_cut));
}

struct weir_sealed_cut *weir_sealed_cut_free(struct weir_sealed_cut *sealed)
{
    if (!sealed)
        return NULL;
    free(sealed->windows);
    free(sealed->ids);
    free(sealed->bytes);
    free(sealed);
    return NULL;
}

/* 2. what there is to seal */

bool weir_lane_has_news(const struct weir_lane *lane)
{
    return lane->state.next_offset != lane->sealed_offset || lane->has_new_gap
           || weir_window_table_changed(lane->windows) > 0;
}

bool weir_lane_has_changes(const struct weir_lane *lane)
{
    return weir_lane_has_news(lane) || lane->closed_through != lane->sealed_watermark;
}

size_t weir_lane_unsealed(const struct weir_lane *lane)
{
    return weir_window_table_changed(lane->windows) + lane->ids_count;
}

/* 3. sealing */

/* While bytes grows, views into it are kept as offsets from a null pointer; seal turns them into pointers at the end.
 */
static struct weir_slice add_bytes(struct weir_sealed_cut *sealed, struct weir_slice from)
{
    if (sealed->bytes_room - sealed->bytes_used < from.length) {
        sealed->bytes_room = (sealed->bytes_used + from.length) * 2;
        sealed->bytes = weir_resize(sealed->bytes, sealed->bytes_room, 1);
    }
    if (from.length)
        memcpy(sealed->bytes + sealed->bytes_used, from.data, from.length);
    struct weir_slice copy = {(const char *)(uintptr_t)sealed->bytes_used, from.length};
    sealed->bytes_used += from.length;
    return copy;
}

static void place_bytes(const struct weir_sealed_cut *sealed, struct weir_slice *slice)
{
    slice->data = sealed->bytes + (uintptr_t)slice->data;
}

static void seal_window(void *context, const struct weir_cut_window *window)
{
    struct weir_sealed_cut *sealed = context;
    struct weir_cut_window *copy = &sealed->windows[sealed->cut.window_count++];

    *copy = *window;
    copy->window.series_key = add_bytes(sealed, window->window.series_key);
    copy->unique = add_bytes(sealed, window->unique);
}

static void seal_ids(struct weir_lane *lane, struct weir_sealed_cut *sealed)
{
    const char *from = lane->ids;

    if (sealed->ids_room < lane->run_count) {
        sealed->ids_room = lane->run_count;
        sealed->ids = weir_resize(sealed->ids, sealed->ids_room, sizeof *sealed->ids);
    }
    for (size_t i = 0; i < lane->run_count; i++) {
        size_t bytes = lane->runs[i].count * WEIR_ID_BYTES;
        sealed->ids[i] =
            (struct weir_cut_ids){.bucket = lane->runs[i].bucket, .ids = add_bytes(sealed, weir_slice_of(from, bytes))};
        from += bytes;
    }
    sealed->cut.ids_count = lane->run_count;
    lane->ids_count = lane->run_count = 0;
}

/* Periods end at quarters of an hour: raters know every tally by the cut in which the watermark passes one. They are
 * told at once by a lane that is idle, and of admitted events. */
static void seal_tallies(struct weir_lane *lane, struct weir_sealed_cut *sealed)
{
    bool has_passed = lane->closed_through / TELL_EVERY != lane->sealed_watermark / TELL_EVERY;

    weir_tallies_take(lane->tallies, has_passed || lane->is_idle || lane->settings.keeps_all, seal_window, sealed);
    lane->is_idle = false;
}

/* Begins a round (window_store.h) when it is due, and goes on with one: by what changed, so that a lane in which little
 * happens writes little. */
static void seal_round(struct weir_lane *lane, struct weir_sealed_cut *sealed, size_t most)
{
    uint64_t least = lane->settings.round_least ? lane->settings.round_least : ROUND_LEAST;

    if (lane->round_place == 0 && lane->open_sealed >= least
        && lane->open_sealed >= ROUND_AFTER * weir_window_table_open(lane->windows)) {
        sealed->cut.begins_round = true;
        weir_window_table_begin_round(lane->windows);
        lane->round_place = 1;
        lane->open_sealed = 0;
    }
    if (lane->round_place == 0)
        return;
    lane->round_place = weir_window_table_take_unchanged(lane->windows, lane->round_place, most, seal_window, sealed);
    sealed->cut.ends_round = lane->round_place == 0;
}

/* A bucket may go when the retention has passed its end; a window, when no event for it can be accepted any more. The
 * cut says how far that went, since another lateness, later, must not accept events for what is gone. By the watermark
 * that the cut tells: a window that is not closed yet stays, and whoever takes the lane knows no other one. */
static void forget(struct weir_lane *lane, struct weir_cut *cut)
{
    int64_t bucket = lane_ids_needed_from(lane, lane->closed_through);
    int64_t windows = lane->closed_through - lane->settings.lateness;

    if (lane->settings.is_bounded || lane->settings.keeps_all)
        return;
    if (windows > lane->state.forgotten)
        lane->state.forgotten = windows;
    cut->forget_windows_below = lane->state.forgotten;
    weir_window_table_forget(lane->windows, cut->forget_windows_below);
    if (bucket <= 0)
        return;
    cut->forget_ids_below = bucket;
    weir_seen_forget(lane->seen, (uint32_t)bucket);
}

void weir_lane_seal(struct weir_lane *lane, struct weir_sealed_cut *sealed)
{
    size_t changed = weir_window_table_changed(lane->windows), most = ROUND_SHARE * changed;
    size_t room = changed + most + weir_tallies_changed(lane->tallies);

    sealed->bytes_used = 0;
    /* The name too: a lane that is lost is freed while its cuts are still on their way. */
    sealed->cut =
        (struct weir_cut){.lane = add_bytes(sealed, weir_lane_name(lane)), .expected_offset = lane->sealed_offset};
    if (sealed->window_room < room) {
        sealed->window_room = room + room / 2;
        sealed->windows = weir_resize(sealed->windows, sealed->window_room, sizeof *sealed->windows);
    }
    if (lane->settings.names_all)
        weir_window_table_begin_round(lane->windows);
    seal_round(lane, sealed, most);
    weir_window_table_take_changed(lane->windows, seal_window, sealed);
    for (size_t i = 0; i < sealed->cut.window_count; i++)
        lane->open_sealed += !sealed->windows[i].is_closed;
    seal_tallies(lane, sealed);
    seal_ids(lane, sealed);
    place_bytes(sealed, &sealed->cut.lane);
    for (size_t i = 0; i < sealed->cut.window_count; i++) {
        place_bytes(sealed, &sealed->windows[i].window.series_key);
        place_bytes(sealed, &sealed->windows[i].unique);
    }
    for (size_t i = 0; i < sealed->cut.ids_count; i++)
        place_bytes(sealed, &sealed->ids[i].ids);
    sealed->cut.windows = sealed->windows;
    sealed->cut.ids = sealed->ids;
    forget(lane, &sealed->cut);
    sealed->cut.state = lane->state;
    sealed->cut.is_anew = lane->state.next_offset < lane->sealed_offset;
    lane->sealed_offset = lane->state.next_offset;
    sealed->cut.state.watermark = lane->closed_through;
    lane->sealed_watermark = lane->closed_through;
    lane->has_new_gap = false;
    weir_lane_close_some(lane);
}
