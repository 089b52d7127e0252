#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/reconcile.h"
#include "common/calendar.h"
#include "common/log.h"
#include "common/model/tally.h"

enum {
    RETRY_MS = 500,
    RETRIES_MAX = 120,  /* a minute for a server to come back */
    FAILURES_MAX = 100, /* windows that cannot be rated, one by one; then the repair gives up */
};

/* 1. customers that nothing is rated of */
void weir_reconcile_add_damaged(struct weir_reconcile *reconcile, struct weir_slice customer)
{
    size_t count = reconcile->damaged_count;

    if (count > WEIR_RECONCILE_DAMAGED_MAX || (count && weir_slice_equal(reconcile->damaged[count - 1], customer)))
        return;
    if (count == reconcile->damaged_room) {
        reconcile->damaged_room = count ? count * 2 : 64;
        reconcile->damaged = weir_resize(reconcile->damaged, reconcile->damaged_room, sizeof *reconcile->damaged);
    }
    reconcile->damaged[reconcile->damaged_count++] = weir_arena_copy(reconcile->names, customer.data, customer.length);
}

bool weir_reconcile_is_damaged(const struct weir_reconcile *reconcile, struct weir_slice customer)
{
    if (reconcile->damaged_count > WEIR_RECONCILE_DAMAGED_MAX)
        return true; /* there are more than were noted */
    return reconcile->damaged_count
           && bsearch(&customer, reconcile->damaged, reconcile->damaged_count, sizeof customer,
                      weir_slice_compare_items);
}

/* 2. what kind of difference */
static bool same_total(const struct weir_window_total *a, const struct weir_window_total *b)
{
    return a->events == b->events && weir_decimal_compare(a->value, b->value) == 0 && a->latest_time == b->latest_time
           && a->latest_offset == b->latest_offset && a->retracted == b->retracted;
}

/* before: the snapshot; now: looked at after Redis was. */
static enum weir_difference kind_of(const struct weir_window_total *found, const struct weir_audited_share *before,
                                    const struct weir_audited_share *now)
{
    if (now->revision && same_total(found, &now->total))
        return WEIR_DIFFERENCE_COUNT;
    if (before->revision && weir_window_total_is_older(found, &before->total))
        return WEIR_DIFFERENCE_OLDER;
    if (!now->revision)
        return WEIR_DIFFERENCE_UNRATED;
    if (weir_window_total_changes(found) > weir_window_total_changes(&now->total))
        return WEIR_DIFFERENCE_NEWER;
    return weir_window_total_changes(found) == weir_window_total_changes(&now->total) ? WEIR_DIFFERENCE_CONFLICTING
                                                                                      : WEIR_DIFFERENCE_COUNT;
}

static struct weir_reconcile_span *span_of(struct weir_reconcile_lane *lane, int64_t end)
{
    size_t low = 0, high = lane->span_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (lane->spans[middle].end < end)
            low = middle + 1;
        else
            high = middle;
    }
    return low < lane->span_count && lane->spans[low].end == end ? &lane->spans[low] : NULL;
}

/* Looks all windows of the batch up in the snapshot; those that differ there, as of now too. */
static enum weir_status find_differences(struct weir_reconcile *reconcile, struct weir_error *reterr)
{
    struct weir_reconcile_lane *lane = reconcile->lane;
    bool is_any = false;
    enum weir_status status = weir_ledger_audit_find(reconcile->audit, false, lane->name, reconcile->windows,
                                                     reconcile->count, reconcile->shares, reterr);

    for (size_t i = 0; i < reconcile->count && status == WEIR_OK; i++) {
        struct weir_reconcile_item *item = &reconcile->items[i];
        struct weir_reconcile_span *span = span_of(lane, reconcile->windows[i].end);
        item->rated = reconcile->shares[i];
        if (span && item->rated.revision && !item->rated.is_recounted)
            span->matched++;
        /* What was counted again stands, whatever the store has left of it: it takes no more events. */
        item->kind = item->is_closed && !item->has_work && !item->rated.is_recounted
                             && !(item->rated.revision && same_total(&item->rated.total, &reconcile->windows[i].total))
                         ? WEIR_DIFFERENCE_UNRATED
                         : WEIR_DIFFERENCE_COUNT;
        is_any = is_any || item->kind != WEIR_DIFFERENCE_COUNT;
    }
    if (status != WEIR_OK || !is_any)
        return status;
    status = weir_ledger_audit_find(reconcile->audit, true, lane->name, reconcile->windows, reconcile->count,
                                    reconcile->shares, reterr);
    for (size_t i = 0; i < reconcile->count && status == WEIR_OK; i++) {
        struct weir_reconcile_item *item = &reconcile->items[i];
        if (item->kind == WEIR_DIFFERENCE_COUNT)
            continue;
        item->kind = kind_of(&reconcile->windows[i].total, &item->rated, &reconcile->shares[i]);
        item->rated = reconcile->shares[i];
        if (item->rated.is_refused)
            item->why = "raters tried and cannot rate it: SELECT refused FROM weir.held_usage says why";
    }
    return status;
}

/* 3. repair */
static enum weir_status rate(struct weir_reconcile *reconcile, size_t first, size_t count, struct weir_error *reterr)
{
    const struct timespec pause = {0, RETRY_MS * 1000000L};
    enum weir_status status = weir_rater_rate(reconcile->rater, reconcile->work + first, count, reterr);

    for (int i = 0; i < RETRIES_MAX && status == WEIR_RETRY; i++) {
        nanosleep(&pause, NULL);
        status = weir_rater_rate(reconcile->rater, reconcile->work + first, count, reterr);
    }
    return status;
}

/* A batch is rated whole or not at all: one window that cannot be rated is found by halving, and named. */
static enum weir_status rate_apart(struct weir_reconcile *reconcile, size_t first, size_t count,
                                   struct weir_error *reterr)
{
    struct weir_error error;
    enum weir_status status = rate(reconcile, first, count, &error);

    if (status == WEIR_RETRY || status == WEIR_AGAIN || (status != WEIR_OK && reconcile->failures >= FAILURES_MAX)) {
        *reterr = error;
        return status;
    }
    if (status == WEIR_OK)
        return WEIR_OK;
    if (count == 1) {
        struct weir_reconcile_item *item = &reconcile->items[reconcile->work_items[first]];
        reconcile->failures++;
        item->why = weir_arena_print(reconcile->arena, "%s", error.text);
        return WEIR_OK;
    }
    status = rate_apart(reconcile, first, count / 2, reterr);
    return status == WEIR_OK ? rate_apart(reconcile, first + count / 2, count - count / 2, reterr) : status;
}

/* Rating a window whose row was lost would charge it twice. The price's total still has it, so it does not add up: then
 * the customer is among the damaged. */
static bool may_rate(struct weir_reconcile *reconcile, size_t i)
{
    struct weir_reconcile_item *item = &reconcile->items[i];
    struct weir_series series;

    switch (item->kind) {
    case WEIR_DIFFERENCE_OLDER:
        item->why = "an older total never lowers a bill; it grows again while the worker reads on";
        return false;
    case WEIR_DIFFERENCE_CONFLICTING:
        item->why = "as many events and another value: neither is the newer one, so somebody has to find out which is "
                    "right (weir explain)";
        return false;
    case WEIR_DIFFERENCE_UNRATED:
    case WEIR_DIFFERENCE_NEWER:
        weir_check(weir_series_parse(reconcile->windows[i].series_key, &series));
        if (!weir_reconcile_is_damaged(reconcile, series.customer))
            return true;
        item->why = "the customer's ledger does not add up, and rating could charge it twice: mend that first";
        return false;
    default:
        return false;
    }
}

/* As raters do it (note_lane in rater_round.c): a gap is noted before anything is rated that may miss what it lost,
 * and what was read of a store that has been emptied since, or has lost every cut, is left. */
static enum weir_status note_lane(struct weir_reconcile *reconcile, bool *ret_is_same, int64_t *ret_gap,
                                  struct weir_error *reterr)
{
    const struct weir_reconcile_lane *lane = reconcile->lane;
    struct weir_lane_state now;
    int64_t back;
    enum weir_status status = reconcile->looker->ops->read_lane(reconcile->looker, lane->name, &now, reterr);

    if (status != WEIR_OK)
        return status;
    *ret_is_same = weir_lane_state_goes_on(&lane->state, &now) && now.next_offset >= 0;
    return *ret_is_same ? weir_lane_book_note(reconcile->book, lane->name, &now, &back, ret_gap, reterr) : WEIR_OK;
}

static bool is_in_gap(const struct weir_reconcile *reconcile, const struct weir_window *window,
                      const struct weir_open_gap *gaps, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (weir_slice_equal(gaps[i].lane, reconcile->lane->name) && window->start < gaps[i].gap.time_to
            && window->end > gaps[i].gap.time_from)
            return true;
    return false;
}

/* The ledger holds them, so rating did nothing. */
static enum weir_status explain_holds(struct weir_reconcile *reconcile, size_t work, struct weir_error *reterr)
{
    const struct weir_open_gap *gaps = NULL;
    size_t count = 0;
    enum weir_status status =
        weir_lane_book_open_gaps(reconcile->book, reconcile->settings.kafka_topic, false, &gaps, &count, reterr);

    for (size_t i = 0; i < work && status == WEIR_OK; i++) {
        struct weir_reconcile_item *item = &reconcile->items[reconcile->work_items[i]];
        if (!item->is_repaired && is_in_gap(reconcile, &reconcile->windows[reconcile->work_items[i]], gaps, count))
            item->why = "an open gap concerns it, so it is held until `weir release` (docs/gaps.md)";
    }
    return status;
}

/* Rates what may be, through the path that raters take, and looks again whether it stands. */
static enum weir_status repair(struct weir_reconcile *reconcile, struct weir_error *reterr)
{
    size_t count = 0;
    bool is_same = true;
    int64_t gap;

    for (size_t i = 0; i < reconcile->count; i++) {
        if (!may_rate(reconcile, i))
            continue;
        reconcile->work_items[count] = i;
        reconcile->work[count++] = (struct weir_lane_window){
            .lane = reconcile->lane->name, .window = reconcile->windows[i], .known_gap = reconcile->lane->gap};
    }
    if (count == 0)
        return WEIR_OK;
    enum weir_status status = note_lane(reconcile, &is_same, &gap, reterr);
    if (status != WEIR_OK || !is_same)
        return status;
    status = rate_apart(reconcile, 0, count, reterr);
    bool is_overtaken = status == WEIR_AGAIN;
    if (is_overtaken)
        status = WEIR_OK;
    if (status == WEIR_OK)
        status = weir_ledger_audit_find(reconcile->audit, true, reconcile->lane->name, reconcile->windows,
                                        reconcile->count, reconcile->shares, reterr);
    for (size_t i = 0; i < count && status == WEIR_OK; i++) {
        size_t at = reconcile->work_items[i];
        const struct weir_audited_share *share = &reconcile->shares[at];
        reconcile->items[at].is_repaired =
            share->revision && !share->is_refused
            && weir_window_total_changes(&share->total) >= weir_window_total_changes(&reconcile->windows[at].total);
        if (reconcile->items[at].is_repaired)
            reconcile->items[at].why = NULL;
        else if (is_overtaken)
            reconcile->items[at].why = "a gap of its lane was found and released since it was read: look again";
    }
    return status == WEIR_OK ? explain_holds(reconcile, count, reterr) : status;
}

void weir_reconcile_tell_refused(void *context, const struct weir_lane_window *window, struct weir_slice why)
{
    struct weir_reconcile *reconcile = context;

    reconcile->items[reconcile->work_items[window - reconcile->work]].why =
        weir_arena_print(reconcile->arena, "%.*s", (int)why.length, why.data);
}

/* 4. batches */
static void tell_item(struct weir_reconcile *reconcile, size_t i)
{
    const struct weir_reconcile_item *item = &reconcile->items[i];
    const struct weir_window *window = &reconcile->windows[i];
    char start[WEIR_TIME_TEXT_MAX], found[WEIR_DECIMAL_TEXT_MAX], was[WEIR_DECIMAL_TEXT_MAX];
    struct weir_series series = {0};

    weir_check(weir_series_parse(window->series_key, &series));
    weir_time_format(window->start, start);
    weir_decimal_format_short(window->total.value, found);
    weir_decimal_format_short(item->rated.total.value, was);
    weir_reconcile_tell(reconcile, item->kind, item->is_repaired, item->why,
                        "lane %s, customer '%.*s', meter '%.*s', window %s: Redis has %" PRIu64
                        " events, value %s; rated were %" PRIu64 " events, value %s",
                        reconcile->lane->name_bytes, (int)series.customer.length, series.customer.data,
                        (int)series.meter.length, series.meter.data, start, window->total.events, found,
                        item->rated.total.events, was);
    reconcile->lane->differing += !item->is_repaired;
}

/* There is nothing to compare: one that was noted with more stays. A repair notes what raters may have been told in
 * vain. */
static enum weir_status note_tallies(struct weir_reconcile *reconcile, struct weir_error *reterr)
{
    bool is_same = true;
    int64_t gap;
    size_t count = reconcile->tally_count;
    enum weir_status status = count ? note_lane(reconcile, &is_same, &gap, reterr) : WEIR_OK;

    reconcile->tally_count = 0;
    return status == WEIR_OK && is_same
               ? weir_lane_book_tallies(reconcile->book, reconcile->lane->name, reconcile->tallies, count, reterr)
               : status;
}

static void end_batch(struct weir_reconcile *reconcile)
{
    if (reconcile->status == WEIR_OK)
        reconcile->status = note_tallies(reconcile, &reconcile->error);
    if (reconcile->count && reconcile->status == WEIR_OK)
        reconcile->status = find_differences(reconcile, &reconcile->error);
    if (reconcile->rater && reconcile->status == WEIR_OK)
        reconcile->status = repair(reconcile, &reconcile->error);
    for (size_t i = 0; i < reconcile->count && reconcile->status == WEIR_OK; i++)
        if (reconcile->items[i].kind != WEIR_DIFFERENCE_COUNT)
            tell_item(reconcile, i);
    reconcile->count = 0;
    weir_arena_free(reconcile->arena);
    reconcile->arena = weir_arena_new();
}

/* Nobody's: there is nothing to compare it with. */
static void tell_unreadable(struct weir_reconcile *reconcile, const struct weir_window *window)
{
    char start[WEIR_TIME_TEXT_MAX];

    weir_time_format(window->start, start);
    weir_reconcile_tell(reconcile, WEIR_DIFFERENCE_UNRATED, false,
                        reconcile->rater ? "nobody can tell whose it is" : NULL,
                        "lane %s, window %s with %" PRIu64 " events: its series key cannot be read",
                        reconcile->lane->name_bytes, start, window->total.events);
    reconcile->lane->differing++;
}

static void add_tally(struct weir_reconcile *reconcile, const struct weir_window *window)
{
    if (!reconcile->rater)
        return;
    if (reconcile->tally_count == WEIR_RECONCILE_TALLIES)
        end_batch(reconcile);
    struct weir_work *work = &reconcile->tallies[reconcile->tally_count++];
    work->window = *window;
    work->window.series_key = weir_arena_copy(reconcile->arena, window->series_key.data, window->series_key.length);
}

static void add_window(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    struct weir_reconcile *reconcile = context;
    struct weir_reconcile_lane *lane = reconcile->lane;
    struct weir_series series;

    if (reconcile->status != WEIR_OK)
        return; /* the scan cannot be broken off */
    if (weir_series_is_tally(window->series_key)) {
        add_tally(reconcile, window);
        return;
    }
    /* The watermark was read before: a window that it had passed was closed by that cut. */
    is_closed = is_closed || window->end <= lane->state.watermark;
    lane->windows++;
    lane->open += !is_closed;
    lane->waiting += has_work;
    if (!weir_series_parse(window->series_key, &series)) {
        tell_unreadable(reconcile, window);
        return;
    }
    size_t at = reconcile->count++;
    reconcile->windows[at] = *window;
    reconcile->windows[at].series_key =
        weir_arena_copy(reconcile->arena, window->series_key.data, window->series_key.length);
    reconcile->items[at].is_closed = is_closed;
    reconcile->items[at].has_work = has_work;
    reconcile->items[at].is_repaired = false;
    reconcile->items[at].why = NULL;
    if (reconcile->count == (size_t)reconcile->settings.rater_batch)
        end_batch(reconcile);
}

enum weir_status weir_reconcile_windows(struct weir_reconcile *reconcile, struct weir_reconcile_lane *lane,
                                        struct weir_error *reterr)
{
    bool is_same;

    reconcile->lane = lane;
    reconcile->arena = weir_arena_new();
    enum weir_status status = reconcile->rater ? note_lane(reconcile, &is_same, &lane->gap, reterr) : WEIR_OK;
    if (status == WEIR_OK)
        status = reconcile->store->ops->scan_windows(reconcile->store, lane->name, add_window, reconcile, reterr);
    if (status == WEIR_OK)
        end_batch(reconcile);
    reconcile->arena = weir_arena_free(reconcile->arena);
    reconcile->count = 0;
    if (status == WEIR_OK && reconcile->status != WEIR_OK) {
        *reterr = reconcile->error;
        status = reconcile->status;
    }
    return status;
}
