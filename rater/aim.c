/* What a window is priced by: its contract, billing period, price book version and price, and the entries of the state
 * that hold what was rated so far. */
#include <stddef.h>
#include <stdlib.h>

#include "common/hash.h"
#include "rater/rate_internal.h"

/* 1. overrides and discounts */

/* Where (contract, price, discounts) stands or would stand. */
static struct overridden *overridden_slot(const struct weir_rater *rater, const struct overridden *key)
{
    uint32_t mask = rater->overridden_room - 1;
    uint64_t hash = ((uint64_t)(uintptr_t)key->contract * 31 + (uint64_t)(uintptr_t)key->price + key->discounts)
                    * UINT64_C(0x9E3779B97F4A7C15);
    uint32_t at = (uint32_t)(hash >> 32) & mask;

    for (; rater->overridden[at].contract; at = (at + 1) & mask)
        if (rater->overridden[at].contract == key->contract && rater->overridden[at].price == key->price
            && rater->overridden[at].list == key->list && rater->overridden[at].discounts == key->discounts)
            break;
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
            *overridden_slot(rater, &old[i]) = old[i];
    free(old);
}

/* NULL: it overflows. */
static const struct weir_price *change_price(struct weir_rater *rater, const struct weir_price *price,
                                             const struct weir_override *override,
                                             const struct weir_discount_list *discounts)
{
    struct weir_price *changed = weir_arena_take(rater->overrides, sizeof *changed);

    *changed = *price;
    if (override) {
        struct weir_tier *tiers = weir_arena_take_array(rater->overrides, price->tier_count, sizeof *tiers);
        if (!weir_price_override(price, override->multiplier, tiers, changed))
            return NULL;
    }
    if (discounts->count) {
        struct weir_discount_list *kept = weir_arena_take(rater->overrides, sizeof *kept);
        *kept = *discounts;
        changed->discounts = kept;
    }
    return changed;
}

/* Cached by address: prices and contracts live as long as the catalog. */
const struct weir_price *weir_rater_effective_price(struct weir_rater *rater, const struct weir_contract *contract,
                                                    const struct weir_price *price, int64_t period_start)
{
    const struct weir_override *override = NULL;
    struct weir_discount_list discounts = {.count = 0};
    uint32_t count;
    struct overridden key = {
        .contract = contract, .price = price, .list = weir_contract_discounts(contract, period_start, &count)};

    for (uint32_t i = 0; i < contract->override_count && !override; i++)
        if (contract->overrides[i].meter == price->meter)
            override = &contract->overrides[i];
    if (key.list)
        weir_discounts_of(contract, price->meter, period_start, &discounts);
    if (!override && discounts.count == 0)
        return price;
    for (uint32_t i = 0; i < discounts.count; i++)
        key.discounts |= 1u << (discounts.discounts[i] - key.list);
    if (rater->overridden_count * 2 >= rater->overridden_room)
        grow_overridden(rater);
    struct overridden *slot = overridden_slot(rater, &key);
    if (!slot->contract) {
        *slot = key;
        slot->scaled = change_price(rater, price, override, &discounts);
        rater->overridden_count++;
    }
    return slot->scaled;
}

/* 2. the catalog's answer */

/* All but the period. */
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
    target->version = weir_price_book_at(target->contract->book, start);
    if (!target->version)
        return WEIR_UNPRICED_NO_PRICE;
    for (uint32_t i = 0; i < series->dimension_count; i++)
        texts[i] = series->dimensions[i].text;
    target->price = weir_price_for(target->version, target->meter, texts);
    return target->price ? WEIR_UNPRICED_PRICED : WEIR_UNPRICED_NO_PRICE;
}

/* Narrows the span to where none of the times lies inside of it. */
static void narrow(int64_t start, int64_t time, int64_t *from, int64_t *to)
{
    if (time <= start && time > *from)
        *from = time;
    if (time > start && time < *to)
        *to = time;
}

enum weir_unpriced weir_find_unpriced(const struct weir_catalog *catalog, struct weir_slice series_key, int64_t start,
                                      int64_t *ret_from, int64_t *ret_to)
{
    struct weir_series series;
    struct target target = {0};
    uint32_t count;

    *ret_from = INT64_MIN;
    *ret_to = WEIR_TIME_NEVER;
    if (!weir_series_parse(series_key, &series))
        return WEIR_UNPRICED_NO_METER;
    enum weir_unpriced unpriced = resolve(catalog, &series, start, &target);
    const struct weir_contract *contracts = weir_catalog_contracts_of(catalog, series.customer, &count);
    for (uint32_t i = 0; i < count; i++) {
        narrow(start, contracts[i].starts_at, ret_from, ret_to);
        narrow(start, contracts[i].ends_at, ret_from, ret_to);
    }
    const struct weir_price_book *book = target.contract ? target.contract->book : NULL;
    for (uint32_t i = 0; book && i < book->version_count; i++)
        narrow(start, book->versions[i].effective_from, ret_from, ret_to);
    return unpriced;
}

bool weir_period_folds(const struct weir_meter *meter)
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

/* 3. the entries */

/* A period that folds is charged for as a whole, from its start on. */
static void aim_at_segment(struct weir_rater *rater, const struct weir_account *account, struct target *target)
{
    if (!weir_has_segments(target->contract, account, target->period_start, target->period_end))
        return;
    int64_t time = target->split ? target->period_start : target->window->start, start, end;
    weir_segment_at(target->contract, account, target->period_start, target->period_end, time, &start, &end);
    target->segment = weir_state_segment(rater->state, target->running, start);
}

void weir_rater_aim_at_segments(struct weir_rater *rater, size_t count)
{
    const struct weir_account *account = NULL;

    if (weir_state_all(rater->state).account_count == 0)
        return;
    for (size_t i = 0; i < count; i++) {
        struct target *target = &rater->targets[i];
        if (target->unpriced != WEIR_UNPRICED_PRICED)
            continue;
        if (!account || !weir_slice_equal(account->customer, target->period->customer))
            account = weir_state_known_account(rater->state, target->period->customer);
        if (account)
            aim_at_segment(rater, account, target);
    }
}

/* Finds period and running totals for a target that resolve has filled. */
static void aim_at_state(struct weir_rater *rater, const struct weir_series *series, struct weir_slice series_key,
                         struct target *target)
{
    target->period = weir_state_period(rater->state, series->customer, target->contract->key, target->period_start,
                                       target->period_end);
    if (target->unpriced != WEIR_UNPRICED_PRICED)
        return;
    target->effective = weir_rater_effective_price(rater, target->contract, target->price, target->period_start);
    target->running =
        weir_state_price(rater->state, series->customer, target->contract->key, target->period_start,
                         target->period_end, target->version->book->key, target->version->version, target->price->key);
    if (weir_period_folds(target->meter))
        target->split = weir_state_split(rater->state, target->running, series_key);
    if (target->contract->has_minimum_quantity)
        weir_rater_aim_at_minimums(rater, target->contract, target->period);
    if (target->contract->has_invoice_discounts)
        weir_rater_aim_at_invoice_discounts(rater, target->contract, target->period);
    if (target->contract->has_term_minimum)
        weir_rater_aim_at_term(rater, target->contract, target->period);
    if (target->contract->has_prepaid)
        weir_state_account(rater->state, series->customer);
}

/* Whether it is the version in force then. */
static bool is_in_force(const struct weir_price_book_version *version, int64_t time)
{
    const struct weir_price_book_version *last = &version->book->versions[version->book->version_count - 1];

    return version->effective_from <= time && (version == last || version[1].effective_from > time);
}

/* Whether the catalog says for a window that starts at start what it said for the target's: contract, period and
 * version are spans of time, and everything else is the series'. */
static bool is_same_span(const struct weir_catalog *catalog, const struct target *target, int64_t start)
{
    const struct weir_contract *contract = target->contract;

    if (!contract || !target->version || start < target->period_start || start >= target->period_end)
        return false;
    /* The default contract holds only where the customer has no other one. */
    if (contract == catalog->default_contract && catalog->contract_count > 0
        && weir_catalog_contract_at(catalog, target->period->customer, start) != contract)
        return false;
    return is_in_force(target->version, start);
}

/* 4. windows that find what another one found */

enum { SERIES_TERMS = offsetof(struct target, unpriced) };

/* As another window of the series, whose contract, period and version are this one's as well. series_key: any text of
 * it. */
static void aim_as(struct weir_rater *rater, const struct target *known, struct weir_slice series_key, size_t at,
                   const struct weir_lane_window *from, struct target *target)
{
    const struct weir_window *window = &from->window;

    /* What was just written field by field would be waited for if it were read in wider pieces. */
    memcpy((char *)target + SERIES_TERMS, (const char *)known + SERIES_TERMS, sizeof *target - SERIES_TERMS);
    target->is_refused = false;
    target->segment = NULL;
    target->from = from;
    target->window = weir_state_window_of(rater->state, rater->memo.hashes[at], series_key, window->start, window->end);
}

static void aim_at_lane(struct weir_rater *rater, const struct target *last, struct target *target)
{
    struct weir_slice lane = target->from->lane;

    target->lane = last && weir_slice_same(last->from->lane, lane) ? last->lane : weir_state_lane(rater->state, lane);
}

/* Windows mostly come with others of their series: what the last one found is found again without asking. */
static bool aim_as_last(struct weir_rater *rater, size_t at, const struct weir_lane_window *from,
                        const struct target *last, struct target *target)
{
    if (!last || !weir_slice_same(last->from->window.series_key, from->window.series_key)
        || !is_same_span(rater->catalog, last, from->window.start))
        return false;
    aim_as(rater, last, last->window->series_key, at, from, target);
    return true;
}

static bool uses_memo(const struct weir_rater *rater)
{
    return !rater->memo.is_off && !rater->ledger->ops->keeps_state;
}

static struct known_series *known_slot(const struct weir_rater *rater, uint64_t hash)
{
    return &rater->memo.known[hash & (WEIR_KNOWN_SERIES - 1)];
}

static bool is_known(const struct weir_rater *rater, const struct known_series *known, size_t at)
{
    return known->hash == rater->memo.hashes[at] && known->generation == rater->memo.generation;
}

static bool aim_as_known(struct weir_rater *rater, size_t at, const struct weir_lane_window *from,
                         struct target *target)
{
    struct weir_slice key = from->window.series_key;

    if (!uses_memo(rater))
        return false;
    const struct known_series *known = known_slot(rater, rater->memo.hashes[at]);
    if (!is_known(rater, known, at) || !weir_slice_equal(weir_slice_of(known->key, known->key_length), key)
        || !is_same_span(rater->catalog, &known->target, from->window.start)) {
        rater->memo.missed++;
        return false;
    }
    rater->memo.found++;
    aim_as(rater, &known->target, key, at, from, target);
    return true;
}

static void keep_known(struct weir_rater *rater, size_t at, const struct target *target)
{
    struct weir_slice key = target->from->window.series_key;

    if (!uses_memo(rater) || key.length > WEIR_KNOWN_KEY_MAX)
        return;
    struct known_series *known = known_slot(rater, rater->memo.hashes[at]);
    known->hash = rater->memo.hashes[at];
    known->generation = rater->memo.generation;
    known->key_length = key.length;
    memcpy(known->key, key.data, key.length);
    known->target = *target;
}

void weir_rater_forget_series(struct weir_rater *rater)
{
    struct series_memo *memo = &rater->memo;

    memo->is_off = memo->is_off || memo->found < memo->missed;
    memo->found = memo->missed = 0;
    memo->is_off = memo->is_off || ++memo->generation == 0; /* after four thousand million times */
    if (memo->is_off) {
        free(memo->known);
        memo->known = NULL;
    }
}

/* The keys' hashes; and what is known of the windows' series on its way into the cache. */
static void hash_series(struct weir_rater *rater, const struct weir_lane_window *windows, size_t count)
{
    struct series_memo *memo = &rater->memo;

    if (uses_memo(rater) && !memo->known)
        memo->known = weir_new_array(WEIR_KNOWN_SERIES, sizeof *memo->known);
    for (size_t i = 0; i < count; i++) {
        struct weir_slice key = windows[i].window.series_key;
        bool is_last = i > 0 && weir_slice_same(windows[i - 1].window.series_key, key);
        memo->hashes[i] = is_last ? memo->hashes[i - 1] : weir_hash64(key.data, key.length, 0);
        if (is_last || !memo->known)
            continue;
        const char *known = (const char *)known_slot(rater, memo->hashes[i]);
        for (size_t line = 0; line < sizeof(struct known_series); line += 64)
            __builtin_prefetch(known + line);
    }
}

/* Entries that a window further on will most likely need. */
static void fetch_entries(const struct weir_rater *rater, size_t at)
{
    const struct known_series *known = known_slot(rater, rater->memo.hashes[at]);

    if (!is_known(rater, known, at))
        return;
    __builtin_prefetch(known->target.period, 1);
    __builtin_prefetch(&known->target.period->usage_amount, 1);
    if (!known->target.running)
        return;
    __builtin_prefetch(known->target.running, 1);
    __builtin_prefetch(&known->target.running->quantity, 1);
    __builtin_prefetch(&known->target.running->amount, 1);
}

/* A calendar's answer costs as much as all else here, and the contracts in use are few, or a window's next one is of
 * the same customer. */
static void find_period(struct weir_rater *rater, struct target *target, int64_t time)
{
    size_t at = ((uintptr_t)target->contract / sizeof *target->contract) % WEIR_KNOWN_PERIODS;
    struct known_period *known = &rater->periods[at];

    if (known->contract != target->contract || time < known->start || time >= known->end) {
        known->contract = target->contract;
        weir_contract_period_at(target->contract, time, &known->start, &known->end);
    }
    target->period_start = known->start;
    target->period_end = known->end;
}

static enum weir_status aim(struct weir_rater *rater, size_t at, const struct weir_lane_window *from,
                            struct target *target, struct weir_error *reterr)
{
    const struct weir_window *window = &from->window;
    const struct target *last = at ? target - 1 : NULL;
    struct weir_series series;

    if (aim_as_last(rater, at, from, last, target) || aim_as_known(rater, at, from, target)) {
        aim_at_lane(rater, last, target);
        return WEIR_OK;
    }
    *target = (struct target){.from = from};
    if (!weir_series_parse(window->series_key, &series))
        return weir_fail(reterr, WEIR_FATAL,
                         "lane %.*s holds a window whose series key cannot be read: the store was "
                         "written by something else, or is damaged",
                         (int)from->lane.length, from->lane.data);
    target->window =
        weir_state_window_of(rater->state, rater->memo.hashes[at], window->series_key, window->start, window->end);
    aim_at_lane(rater, last, target);
    target->unpriced = resolve(rater->catalog, &series, window->start, target);
    if (!target->contract)
        return WEIR_OK;
    find_period(rater, target, window->start);
    aim_at_state(rater, &series, window->series_key, target);
    keep_known(rater, at, target);
    return WEIR_OK;
}

enum weir_status weir_rater_aim(struct weir_rater *rater, const struct weir_lane_window *windows, size_t count,
                                struct weir_error *reterr)
{
    enum { AHEAD = 8 };
    enum weir_status status = WEIR_OK;

    hash_series(rater, windows, count);
    for (size_t i = 0; i < count && status == WEIR_OK; i++) {
        if (rater->memo.known && i + AHEAD < count)
            fetch_entries(rater, i + AHEAD);
        status = aim(rater, i, &windows[i], &rater->targets[i], reterr);
    }
    return status;
}
