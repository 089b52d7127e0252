#include <stdlib.h>
#include <string.h>

#include "cli/admitted.h"
#include "cli/recount.h"
#include "common/calendar.h"

/* 1. shares, found and on record, side by side */
static int by_window(struct weir_slice left_key, int64_t left_start, struct weir_slice left_lane,
                     struct weir_slice right_key, int64_t right_start, struct weir_slice right_lane)
{
    int order = weir_slice_compare(left_key, right_key);

    if (order == 0)
        order = (left_start > right_start) - (left_start < right_start);
    return order ? order : weir_slice_compare(left_lane, right_lane);
}

static int by_share(const void *a, const void *b)
{
    const struct weir_recount_share *left = a, *right = b;

    return by_window(left->series_key, left->start, left->lane, right->series_key, right->start, right->lane);
}

static struct weir_recount_share share_of(const struct weir_lane_window *from)
{
    return (struct weir_recount_share){.lane = from->lane,
                                       .series_key = from->window.series_key,
                                       .start = from->window.start,
                                       .end = from->window.end};
}

static bool has_prefix(struct weir_slice text, const char *prefix, const char *suffix)
{
    size_t length = strlen(prefix), more = strlen(suffix);

    return text.length > length + more && memcmp(text.data, prefix, length) == 0
           && memcmp(text.data + length, suffix, more) == 0
           && !memchr(text.data + length + more, ':', text.length - length - more);
}

static bool is_of_topic(const struct weir_recount *recount, struct weir_slice lane)
{
    const char *topic = recount->settings.kafka_topic;

    return has_prefix(lane, topic, ":") || has_prefix(lane, topic, WEIR_ADMITTED_SUFFIX ":")
           || weir_slice_equal(lane, weir_slice_text(recount->files_lane));
}

/* Both lists sorted into one; what is in both becomes one share. */
static void join(struct weir_recount *recount, const struct weir_recount_stored *stored, size_t count)
{
    size_t all = recount->found_count + count, kept = 0;
    struct weir_recount_share *shares = weir_new_array(all + 1, sizeof *shares);

    for (size_t i = 0; i < recount->found_count; i++) {
        shares[i] = share_of(&recount->found[i]);
        shares[i].is_found = true;
        shares[i].after = recount->found[i].window.total;
    }
    for (size_t i = 0; i < count; i++) {
        struct weir_recount_share *share = &shares[recount->found_count + i];
        *share = share_of(&stored[i].share);
        share->before = stored[i].before;
        share->stored = stored[i].share.window.total;
        share->is_kept = !is_of_topic(recount, share->lane);
        if (share->is_kept)
            share->after = share->stored;
    }
    if (all)
        qsort(shares, all, sizeof *shares, by_share);
    for (size_t i = 0; i < all; i++) {
        struct weir_recount_share *last = kept ? &shares[kept - 1] : NULL;
        if (!last || by_share(last, &shares[i]) != 0) {
            shares[kept++] = shares[i];
            continue;
        }
        const struct weir_recount_share *found = last->is_found ? last : &shares[i],
                                        *old = last->is_found ? &shares[i] : last;
        struct weir_recount_share both = *old;
        both.is_found = true;
        both.after = found->after;
        *last = both;
    }
    recount->shares = shares;
    recount->share_count = kept;
}

/* 2. a window */
bool weir_recount_is_same(const struct weir_window_total *a, const struct weir_window_total *b)
{
    return a->events == b->events && a->value.e12 == b->value.e12 && a->latest_time == b->latest_time
           && a->latest_offset == b->latest_offset && a->retracted == b->retracted;
}

static enum weir_status does_not_fit(const struct weir_recount_share *share, struct weir_error *reterr)
{
    struct weir_series series = {0};
    char start[WEIR_TIME_TEXT_MAX];

    weir_check(weir_series_parse(share->series_key, &series));
    weir_time_format(share->start, start);
    return weir_fail(reterr, WEIR_REJECT, "customer '%.*s', meter '%.*s', window %s: the quantity does not fit",
                     (int)series.customer.length, series.customer.data, (int)series.meter.length, series.meter.data,
                     start);
}

size_t weir_recount_next_window(const struct weir_recount *recount, size_t first)
{
    size_t next = first + 1;

    while (next < recount->share_count && recount->shares[next].start == recount->shares[first].start
           && weir_slice_equal(recount->shares[next].series_key, recount->shares[first].series_key))
        next++;
    return next;
}

enum weir_status weir_recount_merge(const struct weir_recount *recount, size_t first,
                                    struct weir_window_total *ret_before, struct weir_window_total *ret_after,
                                    size_t *ret_next, struct weir_error *reterr)
{
    *ret_next = weir_recount_next_window(recount, first);
    *ret_before = *ret_after = (struct weir_window_total){0};
    for (size_t i = first; i < *ret_next; i++)
        if (!weir_total_merge(recount->meter_before->aggregation, ret_before, &recount->shares[i].before)
            || !weir_total_merge(recount->meter->aggregation, ret_after, &recount->shares[i].after))
            return does_not_fit(&recount->shares[i], reterr);
    return WEIR_OK;
}

static bool is_waiting(const struct weir_recount *recount, const struct weir_recount_share *share)
{
    size_t low = 0, high = recount->waiting_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct weir_recount_place *place = &recount->waiting[middle];
        int order = weir_slice_compare(place->series_key, share->series_key);
        if (order == 0 && place->start == share->start)
            return true;
        if (order < 0 || (order == 0 && place->start < share->start))
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static bool is_in_gap(const struct weir_recount *recount, const struct weir_recount_share *share)
{
    for (size_t i = 0; i < recount->gap_count; i++)
        if (share->start < recount->gaps[i].end && share->end > recount->gaps[i].start)
            return true;
    return false;
}

/* A share of a partition that is gone: nobody can read its events again. */
static bool is_unreadable(const struct weir_recount *recount, const struct weir_recount_share *share)
{
    for (size_t i = 0; i < recount->lane_count; i++)
        if (weir_slice_equal(recount->lanes[i].name, share->lane))
            return false;
    return !share->is_kept;
}

/* What was admitted since may be in what is on record, and is not in what was counted. */
static bool is_of_admitted(const struct weir_recount *recount, size_t first, size_t next)
{
    for (size_t i = first; i < next; i++)
        if (weir_is_admitted(recount->shares[i].lane))
            return true;
    return false;
}

/* Why the window is left alone; CHANGED: it is not. */
static enum weir_recount_verdict judge(const struct weir_recount *recount, size_t first, size_t next)
{
    const struct weir_recount_share *share = &recount->shares[first];

    for (size_t i = first; i < next && recount->file_count == 0; i++) {
        if (weir_slice_equal(recount->shares[i].lane, weir_slice_text(recount->files_lane)))
            return WEIR_RECOUNT_FROM_FILES;
        if (is_unreadable(recount, &recount->shares[i]))
            return WEIR_RECOUNT_LOST;
    }
    if (share->end > recount->final_until)
        return WEIR_RECOUNT_OPEN;
    if (share->start < recount->complete_from)
        return WEIR_RECOUNT_LOST;
    if (is_waiting(recount, share) || (recount->has_admitted && is_of_admitted(recount, first, next)))
        return WEIR_RECOUNT_WAITING;
    return is_in_gap(recount, share) ? WEIR_RECOUNT_HELD : WEIR_RECOUNT_CHANGED;
}

/* Of files, where nothing differs in sum, the lanes' shares stay as they are: then the same usage costs no row. */
static enum weir_status keep_same_sum(struct weir_recount *recount, size_t first, size_t next,
                                      struct weir_error *reterr)
{
    struct weir_window_total stored = {0}, after = {0};

    for (size_t i = first; i < next; i++)
        if (!weir_total_merge(recount->meter->aggregation, &stored, &recount->shares[i].stored)
            || !weir_total_merge(recount->meter->aggregation, &after, &recount->shares[i].after))
            return does_not_fit(&recount->shares[i], reterr);
    if (stored.events != after.events || stored.value.e12 != after.value.e12 || stored.latest_time != after.latest_time)
        return WEIR_OK;
    for (size_t i = first; i < next; i++)
        recount->shares[i].after = recount->shares[i].stored;
    return WEIR_OK;
}

static bool is_changed(const struct weir_recount_share *share)
{
    return !weir_recount_is_same(&share->stored, &share->after) || !weir_recount_is_same(&share->before, &share->after);
}

static enum weir_status decide(struct weir_recount *recount, size_t first, size_t next, struct weir_error *reterr)
{
    enum weir_recount_verdict verdict = judge(recount, first, next);
    enum weir_status status = WEIR_OK;
    bool is_any = false;

    if (verdict == WEIR_RECOUNT_CHANGED && recount->file_count && recount->meter_before == recount->meter)
        status = keep_same_sum(recount, first, next, reterr);
    for (size_t i = first; i < next; i++)
        is_any = is_any || is_changed(&recount->shares[i]);
    if (verdict == WEIR_RECOUNT_CHANGED && !is_any)
        verdict = WEIR_RECOUNT_SAME;
    for (size_t i = first; i < next; i++)
        recount->shares[i].verdict = verdict;
    recount->verdicts[verdict]++;
    return status;
}

enum weir_status weir_recount_compare(struct weir_recount *recount, struct weir_error *reterr)
{
    struct weir_recount_stored *stored = NULL;
    size_t count = 0;
    enum weir_status status = weir_recount_read(recount->book, &recount->filter, recount->run,
                                                recount->settings.lane_windows_max, &stored, &count, reterr);

    if (status != WEIR_OK)
        return status;
    if (count > (size_t)recount->settings.lane_windows_max)
        return weir_recount_too_many(recount, reterr);
    join(recount, stored, count);
    status = weir_recount_look_again(recount, reterr);
    for (size_t first = 0, next; first < recount->share_count && status == WEIR_OK; first = next) {
        next = weir_recount_next_window(recount, first);
        status = decide(recount, first, next, reterr);
    }
    return status;
}
