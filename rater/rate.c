#include "rater/rate.h"

#include <stdlib.h>

#include "rater/rate_internal.h"

/* 1. making and freeing */
struct weir_rater *weir_rater_new(const struct weir_catalog *catalog, struct weir_ledger *ledger)
{
    struct weir_rater *rater = weir_new(sizeof *rater);
    rater->catalog = catalog;
    rater->ledger = ledger;
    rater->state = weir_state_new();
    rater->overrides = weir_arena_new();
    rater->batch = weir_arena_new();
    rater->memo.generation = 1;
    rater->ended = INT64_MIN;
    rater->settled = weir_new_array(catalog->contract_count + 1, sizeof *rater->settled);
    return rater;
}

struct weir_rater *weir_rater_free(struct weir_rater *rater)
{
    if (!rater)
        return NULL;
    weir_state_free(rater->state);
    weir_arena_free(rater->overrides);
    weir_arena_free(rater->batch);
    free(rater->overdrawn);
    free(rater->settled);
    free(rater->overridden);
    free(rater->items);
    free(rater->targets);
    free(rater->memo.known);
    free(rater->memo.hashes);
    free(rater);
    return NULL;
}

void weir_rater_on_refusal(struct weir_rater *rater,
                           void (*tell)(void *context, const struct weir_lane_window *window, struct weir_slice why),
                           void *context)
{
    rater->tell_refused = tell;
    rater->tell_context = context;
}

struct weir_rater_counts weir_rater_counts(const struct weir_rater *rater)
{
    return rater->counts;
}

enum weir_status weir_rater_overflow(const struct weir_rated_window *window, struct weir_error *reterr)
{
    struct weir_series series = {0};
    char start[WEIR_TIME_TEXT_MAX];

    weir_check(weir_series_parse(window->series_key, &series));
    weir_time_format(window->start, start);
    return weir_fail(
        reterr, WEIR_REJECT,
        "customer '%.*s', meter '%.*s', window %s: the quantity or amount does not fit (limit about 1.7e26). "
        "Check the events of this window, the price, and what a prepaid amount's overage_multiplier makes of it",
        (int)series.customer.length, series.customer.data, (int)series.meter.length, series.meter.data, start);
}

/* 2. one window */

/* A window is rated under what it was rated under before. Anything else would bill the difference of two prices. */
static enum weir_status check_same_terms(const struct target *target, struct weir_error *reterr)
{
    const struct weir_rated_window *window = target->window;

    if (window->unpriced != WEIR_UNPRICED_PRICED || !window->price_book.length)
        return WEIR_OK; /* was not priced yet: priced whole, now */
    if (target->unpriced == WEIR_UNPRICED_PRICED && weir_slice_equal(window->contract, target->contract->key)
        && window->period_start == target->period_start
        && weir_slice_equal(window->price_book, target->version->book->key)
        && window->price_book_version == target->version->version
        && weir_slice_equal(window->price_key, target->price->key))
        return WEIR_OK;
    struct weir_series series = {0};
    char start[WEIR_TIME_TEXT_MAX];
    weir_check(weir_series_parse(window->series_key, &series));
    weir_time_format(window->start, start);
    return weir_fail(
        reterr, WEIR_FATAL,
        "customer '%.*s', meter '%.*s', window %s: it was rated by price book '%.*s' version %u, price '%.*s', and the "
        "catalog now says otherwise. Apply the catalog that it was rated with, or rerate",
        (int)series.customer.length, series.customer.data, (int)series.meter.length, series.meter.data, start,
        (int)window->price_book.length, window->price_book.data, window->price_book_version,
        (int)window->price_key.length, window->price_key.data);
}

/* The slices are the catalog's and the state's: both outlive the entry. */
static void remember_terms(struct target *target)
{
    struct weir_rated_window *window = target->window;

    window->entry.is_dirty = true;
    window->unpriced = target->unpriced;
    window->contract = target->contract ? target->contract->key : (struct weir_slice){0};
    window->period_start = target->contract ? target->period_start : 0;
    window->period_end = target->contract ? target->period_end : 0;
    if (target->unpriced == WEIR_UNPRICED_PRICED) {
        window->price_book = target->running->price_book;
        window->price_book_version = target->version->version;
        window->price_key = target->running->price_key;
    }
}

static bool same_total(const struct weir_window_total *a, const struct weir_window_total *b)
{
    return a->events == b->events && a->value.e12 == b->value.e12 && a->latest_time == b->latest_time
           && a->latest_offset == b->latest_offset && a->retracted == b->retracted;
}

static bool add_to_segment(struct weir_segment_running *segment, struct weir_decimal change, uint64_t events_before,
                           uint64_t events_after)
{
    segment->entry.is_dirty = true;
    segment->events += events_after - events_before;
    return weir_decimal_add(segment->quantity, change, &segment->quantity);
}

static bool price_change(struct weir_rater *rater, struct target *target, const struct weir_rated_lane *lane,
                         const struct weir_window_total *total)
{
    static const struct weir_window_total nothing;
    enum weir_aggregation aggregation = target->meter->aggregation;
    struct weir_window_total before = {0}, merged;
    const struct weir_window_total *after = total;
    struct weir_decimal change, quantity;
    uint32_t revision = lane->revision + 1;
    bool is_alone = target->window->lane_count == 1 && total->events > 0;

    /* What was unpriced so far has charged nothing: then the whole window is the change. */
    bool was_priced = target->window->price_book.length > 0;
    const struct weir_window_total *old = was_priced ? &lane->total : &nothing;
    if (was_priced && !weir_merge_lanes(aggregation, target->window, lane, old, &before))
        return false;
    if (!is_alone) {
        after = &merged;
        if (!weir_merge_lanes(aggregation, target->window, lane, total, &merged))
            return false;
    }
    if (!weir_rater_quantity_change(rater, target, &before, after, &change)
        || !weir_decimal_add(target->running->quantity, change, &quantity))
        return false;
    uint64_t events = target->running->events - before.events + after->events;
    return weir_rater_charge(rater, target, quantity, events, revision)
           && (!target->segment || add_to_segment(target->segment, change, before.events, after->events));
}

/* The operator's word: for a window that is let go, or that was counted again. */
static bool may_lower(const struct target *target, const struct weir_rated_lane *lane)
{
    return target->from->replaced || (lane->held_number && lane->may_lower);
}

/* What was read of a lane before it lost events has some that the operator's word was not about: rating it would undo a
 * word that lowers. A held window's row and what was counted again are checked by themselves (let_go, is_overtaken). */
static enum weir_status check_words(const struct weir_rater *rater, size_t count, struct weir_error *reterr)
{
    for (size_t i = 0; i < count; i++) {
        const struct target *target = &rater->targets[i];
        const struct weir_lane_window *from = target->from;
        if (!from->held_number && !from->replaced && from->known_gap < target->lane->released)
            return weir_fail(reterr, WEIR_AGAIN,
                             "gap %lld of lane %.*s was released after its windows were read: they are read again",
                             (long long)target->lane->released, (int)from->lane.length, from->lane.data);
    }
    return WEIR_OK;
}

static bool is_in_gap(const struct target *target)
{
    const struct weir_window *window = &target->from->window;

    for (uint32_t i = 0; i < target->lane->span_count; i++)
        if (window->start < target->lane->spans[i].to && window->end > target->lane->spans[i].from)
            return true;
    return false;
}

/* A window in an open gap may be below the truth however many events it has: a rebuilt one that misses 40 of 100 and
 * then gets 41 late ones has 101. Only one that is what was rated is surely not another. */
static void hold(struct weir_rater *rater, const struct target *target, struct weir_rated_lane *lane)
{
    const struct weir_window_total *total = &target->from->window.total;

    if (lane->revision > 0 && same_total(&lane->total, total)) {
        rater->counts.unchanged++;
        /* It may have been read before the lane lost it and was rebuilt: then what is held is newer, and of it nothing
         * is on the list any more. */
        if (lane->held_number && !weir_window_total_is_older(total, &lane->held))
            lane->held_change = WEIR_HELD_LET_GO;
        return;
    }
    rater->counts.held++;
    if (target->from->held_number && target->from->held_number != lane->held_number)
        return; /* another rater was faster */
    /* Where the store was emptied again, it has less of the window by now than what is held. */
    bool keeps =
        lane->held_number && (same_total(&lane->held, total) || weir_window_total_is_older(total, &lane->held));
    if (keeps && !lane->is_refused)
        return;
    if (!keeps)
        lane->held = *total;
    lane->held_change = WEIR_HELD_HOLD;
}

/* Somebody has rated the share since it was compared with what was counted again: that would be taken back. */
static bool is_overtaken(const struct target *target, const struct weir_rated_lane *lane)
{
    const struct weir_window_total *replaced = target->from->replaced;

    return replaced && !same_total(&lane->total, replaced) && !same_total(&lane->total, &target->from->window.total);
}

/* A held window that no gap holds any more. false: it is not to be rated now: another rater was faster, or what comes
 * from the store is older than what is held. */
static bool let_go(struct weir_rater *rater, const struct target *target, struct weir_rated_lane *lane)
{
    if (target->from->held_number ? target->from->held_number != lane->held_number
                                  : lane->held_number && !target->from->replaced
                                        && weir_window_total_is_older(&target->from->window.total, &lane->held)) {
        rater->counts.stale++;
        return false;
    }
    if (lane->held_number)
        lane->held_change = WEIR_HELD_LET_GO;
    return true;
}

/* What price_change can change. */
struct totals {
    struct weir_entry running, period, split, segment;
    struct weir_decimal quantity, amount, usage_amount, segment_quantity;
    uint64_t events, segment_events;
    struct weir_window_total folded;
};

/* A call of its own, so that each is written where it stays: what is put together field by field and then copied is
 * waited for. So are sums of the window before, unless they are fetched as they were written. */
static __attribute__((noinline)) void keep_totals(const struct target *target, struct totals *totals)
{
    totals->running = target->running->entry;
    totals->quantity = weir_decimal_by_words(&target->running->quantity);
    totals->events = target->running->events;
    totals->amount = weir_decimal_by_words(&target->running->amount);
    totals->period = target->period->entry;
    totals->usage_amount = weir_decimal_by_words(&target->period->usage_amount);
    if (target->split) {
        totals->split = target->split->entry;
        totals->folded = target->split->total;
    }
    if (target->segment) {
        totals->segment = target->segment->entry;
        totals->segment_quantity = target->segment->quantity;
        totals->segment_events = target->segment->events;
    }
}

static void restore_totals(struct target *target, const struct totals *totals)
{
    target->running->entry = totals->running;
    target->running->quantity = totals->quantity;
    target->running->events = totals->events;
    target->running->amount = totals->amount;
    target->period->entry = totals->period;
    target->period->usage_amount = totals->usage_amount;
    if (target->split) {
        target->split->entry = totals->split;
        target->split->total = totals->folded;
    }
    if (target->segment) {
        target->segment->entry = totals->segment;
        target->segment->quantity = totals->segment_quantity;
        target->segment->events = totals->segment_events;
    }
}

/* All or nothing of price_change, and what a true-up will need of the period. false: it does not fit. */
static bool price_whole(struct weir_rater *rater, struct target *target, const struct weir_rated_lane *lane,
                        const struct weir_window_total *total)
{
    if (!target->effective)
        return false;
    struct totals totals;
    size_t item_count = rater->item_count;

    keep_totals(target, &totals);
    if (price_change(rater, target, lane, total) && weir_rater_can_true_up(rater, target->contract, target->period))
        return true;
    restore_totals(target, &totals);
    rater->item_count = item_count;
    rater->charging.running = NULL; /* what it knows may be of the total that did not fit */
    return false;
}

/* Somebody keeps what is kept out: the ledger, or whoever is told of it. */
static bool may_refuse(const struct weir_rater *rater)
{
    return rater->ledger->ops->keeps_state || rater->tell_refused;
}

/* A window that cannot be rated is kept out, with the reason, so that it holds back nothing else. Nothing of it has
 * changed. */
static enum weir_status refuse(struct weir_rater *rater, struct target *target, struct weir_rated_lane *lane,
                               const struct weir_error *why)
{
    rater->counts.refused++;
    target->is_refused = true;
    lane->held = target->from->window.total;
    lane->held_change = WEIR_HELD_HOLD;
    lane->refused = weir_state_copy(rater->state, weir_slice_text(why->text));
    return WEIR_OK;
}

static enum weir_status rate_window(struct weir_rater *rater, struct target *target, struct weir_error *reterr)
{
    const struct weir_window_total *total = &target->from->window.total;
    struct weir_rated_lane *lane = weir_rated_window_share(rater->state, target->window, target->lane);

    weir_check(target->window != NULL);
    rater->counts.windows++;
    if (is_in_gap(target)) {
        hold(rater, target, lane);
        return WEIR_OK;
    }
    if (is_overtaken(target, lane)) {
        rater->counts.stale++;
        return WEIR_OK;
    }
    if (!let_go(rater, target, lane))
        return WEIR_OK;
    if (target->unpriced != WEIR_UNPRICED_PRICED) {
        rater->counts.unpriced_windows++;
        rater->counts.unpriced_events += total->events;
    }
    bool gains_price = target->unpriced == WEIR_UNPRICED_PRICED && !target->window->price_book.length;
    if (lane->revision > 0 && same_total(&lane->total, total) && !gains_price) {
        rater->counts.unchanged++;
        return WEIR_OK;
    }
    if (weir_window_total_is_older(total, &lane->total) && !may_lower(target, lane)) {
        /* An older cut came back (a store that lost its last seconds). The events and retractions will come again;
         * until then what is rated stands. */
        rater->counts.stale++;
        return WEIR_OK;
    }
    enum weir_status status = check_same_terms(target, reterr);
    if (status == WEIR_OK && target->unpriced == WEIR_UNPRICED_PRICED
        && weir_rater_is_outdated(rater, target->period->customer))
        status = weir_rater_say_waiting(rater, target->period->customer, reterr);
    if (status == WEIR_OK && target->unpriced == WEIR_UNPRICED_PRICED && !price_whole(rater, target, lane, total))
        status = weir_rater_overflow(target->window, reterr);
    if (status != WEIR_OK)
        return may_refuse(rater) ? refuse(rater, target, lane, reterr) : status;
    if (target->period && !target->period->entry.exists)
        target->period->entry.is_dirty = true; /* the default contract has a period where there is usage */
    if (target->from->replaced && !lane->is_replaced) {
        lane->is_replaced = true;
        lane->replaced = lane->total;
    }
    lane->total = *total;
    lane->revision++;
    lane->is_dirty = true;
    remember_terms(target);
    return WEIR_OK;
}

/* 3. batches */
void weir_rater_forget(struct weir_rater *rater)
{
    rater->item_count = 0;
    rater->charging.running = NULL;
    rater->charging.series_key = NULL;
    if (rater->ledger->ops->keeps_state)
        weir_state_clear(rater->state);
}

void weir_rater_forget_windows(struct weir_rater *rater)
{
    weir_state_forget_windows(rater->state);
}

void weir_rater_start_over(struct weir_rater *rater)
{
    weir_check(!rater->ledger->ops->keeps_state);
    weir_rater_forget(rater);
    weir_rater_forget_series(rater);
    weir_state_clear(rater->state);
}

enum weir_status weir_rater_write(struct weir_rater *rater, struct weir_error *reterr)
{
    enum weir_status status =
        rater->ledger->ops->write(rater->ledger, rater->items, rater->item_count, rater->state, reterr);

    if (status == WEIR_OK)
        rater->counts.line_items += rater->item_count;
    return status;
}

/* No lane has rated an event of it, and no other one is in this batch: nothing of it is in a period yet. */
static bool is_new(const struct weir_rated_window *window)
{
    return window->lane_count == 1 && window->lanes[0].total.events == 0;
}

/* Where a window that was folded into its period moves back, what the period's other windows amount to is needed. One
 * lane's share decides for all: whether the window moves back is only known when the lanes are merged, but it never
 * does where no share does. */
static enum weir_status load_rests(struct weir_rater *rater, size_t count, struct weir_error *reterr)
{
    bool is_any = false;

    if (!rater->ledger->ops->keeps_state)
        return WEIR_OK; /* the state holds all windows */
    for (size_t i = 0; i < count; i++) {
        const struct target *target = &rater->targets[i];
        if (!target->split || target->meter->aggregation == WEIR_AGGREGATION_AVG)
            continue;
        const struct weir_rated_lane *lane = weir_rated_window_lane(rater->state, target->window, target->from->lane);
        if (is_new(target->window)
            || !weir_moves_back(target->meter->aggregation, &lane->total, &target->from->window.total))
            continue;
        if (is_in_gap(target)
            || (weir_window_total_is_older(&target->from->window.total, &lane->total) && !may_lower(target, lane)))
            continue; /* will not be rated */
        target->split->wants_rest = is_any = true;
        target->split->aggregation = target->meter->aggregation;
    }
    return is_any ? rater->ledger->ops->load_rest(rater->ledger, rater->state, reterr) : WEIR_OK;
}

static enum weir_status rate_loaded(struct weir_rater *rater, size_t count, struct weir_error *reterr)
{
    for (size_t i = 0; i < count; i++) {
        enum weir_status status = rate_window(rater, &rater->targets[i], reterr);
        if (status != WEIR_OK)
            return status;
    }
    for (size_t i = 0; i < count; i++) {
        struct target *target = &rater->targets[i];
        /* Usage without a price changes nothing that true-ups look at, and what they have charged is not loaded for it.
         */
        if (target->unpriced == WEIR_UNPRICED_PRICED && target->period->is_closed
            && !weir_rater_is_outdated(rater, target->period->customer)
            && !weir_rater_true_up(rater, target->contract, target->period))
            return weir_rater_overflow(target->window, reterr);
    }
    enum weir_status status = rater->ledger->ops->keeps_state ? weir_rater_draw(rater, reterr) : WEIR_OK;
    return status == WEIR_OK ? weir_rater_write(rater, reterr) : status;
}

static void tell_refused(struct weir_rater *rater, size_t count)
{
    for (size_t i = 0; rater->tell_refused && i < count; i++) {
        const struct target *target = &rater->targets[i];
        if (target->is_refused)
            rater->tell_refused(rater->tell_context, target->from,
                                weir_rated_window_lane(rater->state, target->window, target->from->lane)->refused);
    }
}

static enum weir_status rate_once(struct weir_rater *rater, const struct weir_lane_window *windows, size_t count,
                                  struct weir_error *reterr)
{
    enum weir_status status = weir_rater_aim(rater, windows, count, reterr);

    if (status == WEIR_OK)
        status = rater->ledger->ops->load(rater->ledger, rater->state, reterr);
    if (status == WEIR_OK) {
        weir_rater_find_outdated(rater);
        weir_rater_aim_at_segments(rater, count);
        status = check_words(rater, count, reterr);
    }
    if (status == WEIR_OK)
        status = load_rests(rater, count, reterr);
    return status == WEIR_OK ? rate_loaded(rater, count, reterr) : status;
}

enum weir_status weir_rater_rate(struct weir_rater *rater, const struct weir_lane_window *windows, size_t count,
                                 struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    struct weir_rater_counts counts = rater->counts;
    size_t overdrawn;

    if (count > rater->target_room) {
        rater->target_room = count;
        rater->targets = weir_resize(rater->targets, count, sizeof *rater->targets);
        rater->memo.hashes = weir_resize(rater->memo.hashes, count, sizeof *rater->memo.hashes);
    }
    weir_rater_forget_overdrawn(rater);
    do {
        overdrawn = rater->overdrawn_count;
        status = rate_once(rater, windows, count, reterr);
        if (status == WEIR_OK) {
            tell_refused(rater, count);
        } else {
            rater->ledger->ops->abandon(rater->ledger);
            rater->counts = counts;
        }
        weir_rater_forget(rater);
    } while (status != WEIR_OK && rater->overdrawn_count > overdrawn);
    return status;
}
