#include "rater/rate.h"

#include <stdlib.h>

#include "rater/rate_internal.h"

/* 1. making and freeing */
static enum weir_status refuse_unbilled(const struct weir_contract *contract, struct weir_error *reterr)
{
    for (uint32_t i = 0; i < contract->commitment_count; i++) {
        const struct weir_commitment *commitment = &contract->commitments[i];
        if (commitment->type != WEIR_COMMITMENT_MINIMUM_SPEND)
            return weir_fail(reterr, WEIR_REJECT,
                             "contract '%.*s', commitment '%.*s': %s is not billed yet by this version of weir; only "
                             "minimum_spend is. Take the commitment out to rate without it",
                             (int)contract->key.length, contract->key.data, (int)commitment->key.length,
                             commitment->key.data, weir_commitment_type_name[commitment->type]);
    }
    return WEIR_OK;
}

enum weir_status weir_rater_new(const struct weir_catalog *catalog, struct weir_ledger *ledger,
                                struct weir_rater **ret_rater, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    for (uint32_t i = 0; i < catalog->contract_count && status == WEIR_OK; i++)
        status = refuse_unbilled(&catalog->contracts[i], reterr);
    if (status == WEIR_OK && catalog->default_contract)
        status = refuse_unbilled(catalog->default_contract, reterr);
    if (status != WEIR_OK)
        return status;
    struct weir_rater *rater = weir_new(sizeof *rater);
    rater->catalog = catalog;
    rater->ledger = ledger;
    rater->state = weir_state_new();
    rater->overrides = weir_arena_new();
    rater->settled = weir_new_array(catalog->contract_count + 1, sizeof *rater->settled);
    *ret_rater = rater;
    return WEIR_OK;
}

struct weir_rater *weir_rater_free(struct weir_rater *rater)
{
    if (!rater)
        return NULL;
    weir_state_free(rater->state);
    weir_arena_free(rater->overrides);
    free(rater->settled);
    free(rater->overridden);
    free(rater->items);
    free(rater->targets);
    free(rater);
    return NULL;
}

struct weir_rater_counts weir_rater_counts(const struct weir_rater *rater)
{
    return rater->counts;
}

/* 2. line items */
void weir_rater_add_item(struct weir_rater *rater, const struct weir_line_item *item)
{
    if (rater->item_count == rater->item_room) {
        rater->item_room = rater->item_room ? rater->item_room * 2 : 4096;
        rater->items = weir_resize(rater->items, rater->item_room, sizeof *rater->items);
    }
    rater->items[rater->item_count++] = *item;
}

bool weir_add_usage(struct weir_period_running *period, struct weir_decimal amount)
{
    if (weir_decimal_is_zero(amount))
        return true;
    period->entry.is_dirty = true;
    return weir_decimal_add(period->usage_amount, amount, &period->usage_amount);
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
        "Check the events of this window and the price",
        (int)series.customer.length, series.customer.data, (int)series.meter.length, series.meter.data, start);
}

/* 3. what a window is priced by */

/* Where (contract, price) stands or would stand. */
static struct overridden *overridden_slot(const struct weir_rater *rater, const struct weir_contract *contract,
                                          const struct weir_price *price)
{
    uint32_t mask = rater->overridden_room - 1;
    uint64_t hash = ((uint64_t)(uintptr_t)contract * 31 + (uint64_t)(uintptr_t)price) * UINT64_C(0x9E3779B97F4A7C15);
    uint32_t at = (uint32_t)(hash >> 32) & mask;

    while (rater->overridden[at].contract
           && (rater->overridden[at].contract != contract || rater->overridden[at].price != price))
        at = (at + 1) & mask;
    return &rater->overridden[at];
}

static void grow_overridden(struct weir_rater *rater)
{
    uint32_t old_room = rater->overridden_room;
    struct overridden *old = rater->overridden;

    rater->overridden_room = old_room ? old_room * 2 : 256;
    rater->overridden = weir_new_array(rater->overridden_room, sizeof *rater->overridden);
    for (uint32_t i = 0; i < old_room; i++)
        if (old[i].contract)
            *overridden_slot(rater, old[i].contract, old[i].price) = old[i];
    free(old);
}

/* Cached by address: prices and contracts live as long as the catalog. */
const struct weir_price *weir_rater_effective_price(struct weir_rater *rater, const struct weir_contract *contract,
                                                    const struct weir_price *price)
{
    const struct weir_override *override = NULL;

    for (uint32_t i = 0; i < contract->override_count && !override; i++)
        if (contract->overrides[i].meter == price->meter)
            override = &contract->overrides[i];
    if (!override)
        return price;
    if (rater->overridden_count * 2 >= rater->overridden_room)
        grow_overridden(rater);
    struct overridden *slot = overridden_slot(rater, contract, price);
    if (!slot->contract) {
        struct weir_price *scaled = weir_arena_take(rater->overrides, sizeof *scaled);
        struct weir_tier *tiers = weir_arena_take_array(rater->overrides, price->tier_count, sizeof *tiers);
        if (!weir_price_override(price, override->multiplier, tiers, scaled))
            scaled = NULL;
        *slot = (struct overridden){contract, price, scaled};
        rater->overridden_count++;
    }
    return slot->scaled;
}

static enum weir_unpriced resolve(const struct weir_catalog *catalog, const struct weir_series *series, int64_t start,
                                  struct target *target)
{
    struct weir_slice texts[WEIR_DIMENSIONS_MAX];

    target->meter = weir_catalog_meter(catalog, series->meter);
    if (!target->meter || target->meter->group_count != series->dimension_count)
        return WEIR_UNPRICED_NO_METER;
    target->contract = weir_catalog_contract_at(catalog, series->customer, start);
    if (!target->contract)
        return WEIR_UNPRICED_NO_CONTRACT;
    weir_contract_period_at(target->contract, start, &target->period_start, &target->period_end);
    target->version = weir_price_book_at(target->contract->book, start);
    if (!target->version)
        return WEIR_UNPRICED_NO_PRICE;
    for (uint32_t i = 0; i < series->dimension_count; i++)
        texts[i] = series->dimensions[i].text;
    target->price = weir_price_for(target->version, target->meter, texts);
    return target->price ? WEIR_UNPRICED_PRICED : WEIR_UNPRICED_NO_PRICE;
}

enum weir_unpriced weir_find_unpriced(const struct weir_catalog *catalog, struct weir_slice series_key, int64_t start)
{
    struct weir_series series;
    struct target target = {0};

    return weir_series_parse(series_key, &series) ? resolve(catalog, &series, start, &target) : WEIR_UNPRICED_NO_METER;
}

/* min, max, latest and avg of a period are not sums of their windows, unless rolled up. */
static bool folds(const struct weir_meter *meter)
{
    switch (meter->aggregation) {
    case WEIR_AGGREGATION_MIN:
    case WEIR_AGGREGATION_MAX:
    case WEIR_AGGREGATION_LATEST:
    case WEIR_AGGREGATION_AVG:
        return !meter->rollup_sum;
    default:
        return false;
    }
}

/* Makes the entries that rating this window will touch, so that one load fetches them all. */
static enum weir_status aim(struct weir_rater *rater, const struct weir_lane_window *from, struct target *target,
                            struct weir_error *reterr)
{
    const struct weir_window *window = &from->window;
    struct weir_series series;

    *target = (struct target){.from = from};
    if (!weir_series_parse(window->series_key, &series))
        return weir_fail(reterr, WEIR_FATAL,
                         "lane %.*s holds a window whose series key cannot be read: the store was "
                         "written by something else, or is damaged",
                         (int)from->lane.length, from->lane.data);
    target->window = weir_state_window(rater->state, window->series_key, window->start, window->end);
    target->lane = weir_state_lane(rater->state, from->lane);
    target->unpriced = resolve(rater->catalog, &series, window->start, target);
    if (!target->contract)
        return WEIR_OK;
    target->period = weir_state_period(rater->state, series.customer, target->contract->key, target->period_start,
                                       target->period_end);
    if (target->unpriced != WEIR_UNPRICED_PRICED)
        return WEIR_OK;
    target->effective = weir_rater_effective_price(rater, target->contract, target->price);
    if (!target->effective)
        return weir_rater_overflow(target->window, reterr);
    target->running =
        weir_state_price(rater->state, series.customer, target->contract->key, target->period_start, target->period_end,
                         target->version->book->key, target->version->version, target->price->key);
    if (folds(target->meter))
        target->split = weir_state_split(rater->state, target->running, window->series_key);
    return WEIR_OK;
}

/* 4. totals */
static bool is_later(const struct weir_window_total *a, const struct weir_window_total *b)
{
    return a->latest_time != b->latest_time ? a->latest_time > b->latest_time : a->latest_offset > b->latest_offset;
}

/* Adds `more`, another share of the same thing (a lane's of a window, a window's of a period). false: overflow. */
static bool merge(enum weir_aggregation aggregation, struct weir_window_total *total,
                  const struct weir_window_total *more)
{
    bool is_first = total->events == 0;

    total->retracted += more->retracted;
    if (more->events == 0)
        return true;
    if (__builtin_add_overflow(total->events, more->events, &total->events))
        return false;
    switch (aggregation) {
    case WEIR_AGGREGATION_COUNT:
        return true;
    case WEIR_AGGREGATION_SUM:
    case WEIR_AGGREGATION_AVG:
    case WEIR_AGGREGATION_UNIQUE: /* across lanes a text counts once for each (docs/rating.md 2.3) */
        return weir_decimal_add(total->value, more->value, &total->value);
    case WEIR_AGGREGATION_MIN:
        if (is_first || weir_decimal_compare(more->value, total->value) < 0)
            total->value = more->value;
        return true;
    case WEIR_AGGREGATION_MAX:
        if (is_first || weir_decimal_compare(more->value, total->value) > 0)
            total->value = more->value;
        return true;
    case WEIR_AGGREGATION_LATEST:
        if (is_first || is_later(more, total)) {
            total->value = more->value;
            total->latest_time = more->latest_time;
            total->latest_offset = more->latest_offset;
        }
        return true;
    case WEIR_AGGREGATION_COUNT_OF:
        break;
    }
    weir_check(!"an aggregation that is none");
    return false;
}

/* The quantity that a total stands for. */
static bool quantity_of(enum weir_aggregation aggregation, const struct weir_window_total *total,
                        struct weir_decimal *ret_quantity)
{
    *ret_quantity = (struct weir_decimal){0};
    if (total->events == 0)
        return true;
    if (aggregation == WEIR_AGGREGATION_COUNT)
        return weir_decimal_scale(weir_decimal_of(1), total->events, ret_quantity);
    if (aggregation == WEIR_AGGREGATION_AVG) {
        struct weir_decimal events;
        return weir_decimal_scale(weir_decimal_of(1), total->events, &events)
               && weir_decimal_divide(total->value, events, WEIR_HALF_EVEN, ret_quantity);
    }
    *ret_quantity = total->value;
    return true;
}

/* All lanes' shares of the window merged, with `lane` counting as `total`. */
static bool merge_lanes(enum weir_aggregation aggregation, const struct weir_rated_window *window,
                        const struct weir_rated_lane *lane, const struct weir_window_total *total,
                        struct weir_window_total *ret_merged)
{
    *ret_merged = (struct weir_window_total){0};
    for (uint32_t i = 0; i < window->lane_count; i++)
        if (!merge(aggregation, ret_merged, &window->lanes[i] == lane ? total : &window->lanes[i].total))
            return false;
    return true;
}

static bool is_of_split(const struct weir_rated_window *window, const struct target *target)
{
    return window->unpriced == WEIR_UNPRICED_PRICED && window->period_start == target->period_start
           && window->price_book_version == target->version->version
           && weir_slice_equal(window->series_key, target->window->series_key)
           && weir_slice_equal(window->price_book, target->version->book->key)
           && weir_slice_equal(window->price_key, target->price->key)
           && weir_slice_equal(window->contract, target->contract->key);
}

/* The split's total from all its windows, with target's as it will be: its value may have moved back, and then the fold
 * of before cannot tell what remains. rate_loaded has made the windows known. */
static bool fold_again(struct weir_rater *rater, struct target *target, const struct weir_window_total *after)
{
    enum weir_aggregation aggregation = target->meter->aggregation;
    struct weir_state_view all = weir_state_all(rater->state);
    struct weir_window_total folded = *after;

    for (size_t i = 0; i < all.window_count; i++) {
        struct weir_window_total total;
        if (all.windows[i] == target->window || !is_of_split(all.windows[i], target))
            continue;
        if (!merge_lanes(aggregation, all.windows[i], NULL, NULL, &total) || !merge(aggregation, &folded, &total))
            return false;
    }
    target->split->total = folded;
    return true;
}

/* Whether what was folded into a period may be ahead of `after`: events were taken out again, or some that a rebuilt
 * window (docs/gaps.md) does not have. */
static bool moves_back(enum weir_aggregation aggregation, const struct weir_window_total *before,
                       const struct weir_window_total *after)
{
    switch (aggregation) {
    case WEIR_AGGREGATION_MIN:
        return weir_decimal_compare(after->value, before->value) > 0;
    case WEIR_AGGREGATION_MAX:
        return weir_decimal_compare(after->value, before->value) < 0;
    case WEIR_AGGREGATION_LATEST:
        return is_later(before, after);
    default:
        return false;
    }
}

/* By how much the price's quantity changes. Where a period folds, the split's total is brought forward as well. */
static bool quantity_change(struct weir_rater *rater, struct target *target, const struct weir_window_total *before,
                            const struct weir_window_total *after, struct weir_decimal *ret_change)
{
    enum weir_aggregation aggregation = target->meter->aggregation;
    struct weir_decimal old, new;

    if (!target->split)
        return quantity_of(aggregation, before, &old) && quantity_of(aggregation, after, &new)
               && weir_decimal_subtract(new, old, ret_change);
    struct weir_window_total *folded = &target->split->total;
    if (!quantity_of(aggregation, folded, &old))
        return false;
    uint64_t events = folded->events;
    if (aggregation == WEIR_AGGREGATION_AVG) {
        struct weir_decimal change;
        if (!weir_decimal_subtract(after->value, before->value, &change)
            || !weir_decimal_add(folded->value, change, &folded->value))
            return false;
    } else if (before->events > 0 && (after->retracted > before->retracted || moves_back(aggregation, before, after))) {
        if (!fold_again(rater, target, after))
            return false;
    } else if (!merge(aggregation, folded, after)) {
        /* Where nothing is missing, a window's minimum only falls, its maximum only rises, its latest only gets
         * later: so merging the new total into the old fold is exact. */
        return false;
    }
    folded->events = events - before->events + after->events;
    folded->retracted = 0; /* not kept of splits */
    target->split->entry.is_dirty = true;
    return quantity_of(aggregation, folded, &new) && weir_decimal_subtract(new, old, ret_change);
}

/* 5. rating one window */
struct emission {
    struct weir_rater *rater;
    const struct target *target;
    struct weir_series series;
    uint32_t revision;
};

static bool emit_usage(void *context, const struct weir_charge *charge)
{
    struct emission *emission = context;
    const struct target *target = emission->target;
    const struct weir_price_book *book = target->version->book;
    struct weir_line_item item = {
        .customer = target->running->customer,
        .contract = target->running->contract,
        .item = target->meter->key,
        .meter = target->meter->key,
        .dimension_count = emission->series.dimension_count,
        .period_start = target->period_start,
        .period_end = target->period_end,
        .window_start = target->window ? target->window->start : target->period_start,
        .window_end = target->window ? target->window->end : target->period_end,
        .kind = WEIR_KIND_USAGE,
        .component = charge->component,
        .price_book = book->key,
        .price_book_version = target->version->version,
        .model = weir_price_model_name[target->price->model],
        .tier = charge->tier,
        .quantity = charge->quantity,
        .has_unit_price = charge->has_unit_price,
        .unit_price = charge->unit_price,
        .amount = charge->amount,
        .currency = book->currency,
        .currency_places = book->currency_places,
        .rounding = book->rounding,
        .revision = emission->revision,
    };

    memcpy(item.dimensions, emission->series.dimensions, sizeof item.dimensions);
    weir_rater_add_item(emission->rater, &item);
    return weir_add_usage(target->period, charge->amount)
           && weir_decimal_add(target->running->amount, charge->amount, &target->running->amount);
}

bool weir_rater_charge(struct weir_rater *rater, struct target *target, struct weir_decimal quantity, uint64_t events,
                       uint32_t revision)
{
    struct weir_price_running *running = target->running;
    struct emission emission = {.rater = rater, .target = target, .revision = revision};
    struct weir_charge_list before, after;

    if (target->window)
        weir_check(weir_series_parse(target->window->series_key, &emission.series));
    /* A price that was never evaluated has charged nothing, not even its flat fee at zero. */
    bool is_evaluated = running->entry.exists || running->entry.is_dirty;
    if (is_evaluated && !weir_price_charges(target->effective, running->quantity, running->events, &before))
        return false;
    if (!weir_price_charges(target->effective, quantity, events, &after))
        return false;
    running->quantity = quantity;
    running->events = events;
    running->entry.is_dirty = true;
    return weir_charges_difference(is_evaluated ? &before : NULL, &after, emit_usage, &emission);
}

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
    return weir_fail(
        reterr, WEIR_FATAL,
        "a window of %.*s was rated by price book '%.*s' version %u, price '%.*s', and the catalog now says "
        "otherwise. Apply the catalog that it was rated with, or rerate",
        (int)target->running->customer.length, target->running->customer.data, (int)window->price_book.length,
        window->price_book.data, window->price_book_version, (int)window->price_key.length, window->price_key.data);
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

static bool price_change(struct weir_rater *rater, struct target *target, const struct weir_rated_lane *lane,
                         const struct weir_window_total *total)
{
    static const struct weir_window_total nothing;
    enum weir_aggregation aggregation = target->meter->aggregation;
    struct weir_window_total before = {0}, after;
    struct weir_decimal change, quantity;
    uint32_t revision = lane->revision + 1;

    /* What was unpriced so far has charged nothing: then the whole window is the change. */
    bool was_priced = target->window->price_book.length > 0;
    const struct weir_window_total *old = was_priced ? &lane->total : &nothing;
    if (was_priced && !merge_lanes(aggregation, target->window, lane, old, &before))
        return false;
    if (!merge_lanes(aggregation, target->window, lane, total, &after)
        || !quantity_change(rater, target, &before, &after, &change)
        || !weir_decimal_add(target->running->quantity, change, &quantity))
        return false;
    uint64_t events = target->running->events - before.events + after.events;
    return weir_rater_charge(rater, target, quantity, events, revision);
}

static bool is_older(const struct weir_window_total *a, const struct weir_window_total *b)
{
    return weir_window_total_changes(a) < weir_window_total_changes(b);
}

/* The operator's word, for a window that is let go. */
static bool may_lower(const struct weir_rated_lane *lane)
{
    return lane->held_number && lane->may_lower;
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
        if (lane->held_number)
            lane->held_change = WEIR_HELD_LET_GO;
        return;
    }
    rater->counts.held++;
    if (target->from->held_number || (lane->held_number && same_total(&lane->held, total)))
        return;
    lane->held = *total;
    lane->held_change = WEIR_HELD_HOLD;
}

/* A held window that no gap holds any more. false: it is not to be rated now: another rater was faster, or what comes
 * from the store is older than what is held. */
static bool let_go(struct weir_rater *rater, const struct target *target, struct weir_rated_lane *lane)
{
    if (target->from->held_number ? target->from->held_number != lane->held_number
                                  : lane->held_number && is_older(&target->from->window.total, &lane->held)) {
        rater->counts.stale++;
        return false;
    }
    if (lane->held_number)
        lane->held_change = WEIR_HELD_LET_GO;
    return true;
}

static enum weir_status rate_window(struct weir_rater *rater, struct target *target, struct weir_error *reterr)
{
    const struct weir_window_total *total = &target->from->window.total;
    struct weir_rated_lane *lane = weir_rated_window_lane(rater->state, target->window, target->from->lane);

    weir_check(target->window != NULL);
    rater->counts.windows++;
    if (is_in_gap(target)) {
        hold(rater, target, lane);
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
    if (is_older(total, &lane->total) && !may_lower(lane)) {
        /* An older cut came back (a store that lost its last seconds). The events and retractions will come again;
         * until then what is rated stands. */
        rater->counts.stale++;
        return WEIR_OK;
    }
    enum weir_status status = check_same_terms(target, reterr);
    if (status != WEIR_OK)
        return status;
    if (target->unpriced == WEIR_UNPRICED_PRICED && !price_change(rater, target, lane, total))
        return weir_rater_overflow(target->window, reterr);
    if (target->period && !target->period->entry.exists)
        target->period->entry.is_dirty = true; /* the default contract has a period where there is usage */
    lane->total = *total;
    lane->revision++;
    lane->is_dirty = true;
    remember_terms(target);
    return WEIR_OK;
}

/* 6. batches */
void weir_rater_forget(struct weir_rater *rater)
{
    rater->item_count = 0;
    if (rater->ledger->ops->keeps_state)
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

/* Where events are missing from a window that folds into its period, the period's other windows are needed. */
static enum weir_status load_splits(struct weir_rater *rater, size_t count, struct weir_error *reterr)
{
    bool is_any = false;

    if (!rater->ledger->ops->keeps_state)
        return WEIR_OK; /* the state holds all windows */
    for (size_t i = 0; i < count; i++) {
        const struct target *target = &rater->targets[i];
        if (!target->split || target->meter->aggregation == WEIR_AGGREGATION_AVG)
            continue;
        const struct weir_rated_lane *lane = weir_rated_window_lane(rater->state, target->window, target->from->lane);
        const struct weir_window_total *total = &target->from->window.total;
        if (lane->total.events == 0
            || (total->retracted <= lane->total.retracted
                && !moves_back(target->meter->aggregation, &lane->total, total)))
            continue;
        if (is_in_gap(target) || (is_older(total, &lane->total) && !may_lower(lane)))
            continue; /* will not be rated */
        enum weir_status status = rater->ledger->ops->find_split(rater->ledger, rater->state, target->split, reterr);
        if (status != WEIR_OK)
            return status;
        is_any = true;
    }
    return is_any ? rater->ledger->ops->load(rater->ledger, rater->state, reterr) : WEIR_OK;
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
        if (target->period && target->period->is_closed && !weir_rater_true_up(rater, target->contract, target->period))
            return weir_rater_overflow(target->window, reterr);
    }
    return weir_rater_write(rater, reterr);
}

enum weir_status weir_rater_rate(struct weir_rater *rater, const struct weir_lane_window *windows, size_t count,
                                 struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    struct weir_rater_counts counts = rater->counts;

    if (count > rater->target_room) {
        rater->target_room = count;
        rater->targets = weir_resize(rater->targets, count, sizeof *rater->targets);
    }
    for (size_t i = 0; i < count && status == WEIR_OK; i++)
        status = aim(rater, &windows[i], &rater->targets[i], reterr);
    if (status == WEIR_OK)
        status = rater->ledger->ops->load(rater->ledger, rater->state, reterr);
    if (status == WEIR_OK)
        status = load_splits(rater, count, reterr);
    if (status == WEIR_OK)
        status = rate_loaded(rater, count, reterr);
    if (status != WEIR_OK) {
        rater->ledger->ops->abandon(rater->ledger);
        rater->counts = counts;
    }
    weir_rater_forget(rater);
    return status;
}
