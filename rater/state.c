#include "rater/state.h"

#include <stdlib.h>

#include "common/arena.h"
#include "common/hash.h"

#define WEIR_X(upper, lower) [WEIR_UNPRICED_##upper] = #lower,
const char *const weir_unpriced_name[WEIR_UNPRICED_COUNT] = {WEIR_UNPRICED(WEIR_X)};
#undef WEIR_X
#define WEIR_X(upper, lower) #lower,
const char *const weir_grant_end_name[WEIR_GRANT_END_COUNT] = {WEIR_GRANT_ENDS(WEIR_X)};
#undef WEIR_X

/* An open-addressing set of entries of one kind, and the entries in the order they were made. The index holds the full
 * hash beside the entry, so that a probe touches an entry only when it is most likely the right one. */
struct slot {
    uint64_t hash;
    void *entry; /* NULL: free */
};

struct table {
    struct slot *slots;
    uint32_t slot_count; /* a power of two, or 0 */
    uint32_t count;
    uint32_t room;
    void **entries;
};

struct weir_state {
    struct weir_arena *arena;       /* of all but the windows */
    struct weir_arena *for_windows; /* theirs, with their lanes: gone with them (weir_state_forget_windows) */
    struct table windows, prices, splits, periods, lanes, charged, segments, commitments, draws, grants, accounts;
};

enum { FIRST_SLOTS = 1024 };

static void table_free(struct table *table)
{
    free(table->slots);
    free(table->entries);
    *table = (struct table){0};
}

/* Empty, with its memory kept: a batch is followed by another one of the same size. */
static void table_clear(struct table *table)
{
    if (table->slots)
        memset(table->slots, 0, table->slot_count * sizeof *table->slots);
    table->count = 0;
}

static void table_place(struct table *table, uint64_t hash, void *entry)
{
    uint32_t mask = table->slot_count - 1, at = (uint32_t)hash & mask;

    while (table->slots[at].entry)
        at = (at + 1) & mask;
    table->slots[at] = (struct slot){hash, entry};
}

static void table_grow(struct table *table)
{
    struct slot *old = table->slots;
    uint32_t old_count = table->slot_count;

    weir_check(old_count < UINT32_MAX / 2);
    table->slot_count = old_count ? old_count * 2 : FIRST_SLOTS;
    table->slots = weir_new_array(table->slot_count, sizeof *table->slots);
    for (uint32_t i = 0; i < old_count; i++)
        if (old[i].entry)
            table_place(table, old[i].hash, old[i].entry);
    free(old);
}

/* Whether the entry has the probe's key; both are of the table's kind. */
typedef bool same_key(const void *entry, const void *probe);

static void *table_find(const struct table *table, uint64_t hash, same_key *same, const void *probe)
{
    if (!table->slot_count)
        return NULL;
    uint32_t mask = table->slot_count - 1;
    for (uint32_t at = (uint32_t)hash & mask; table->slots[at].entry; at = (at + 1) & mask)
        if (table->slots[at].hash == hash && same(table->slots[at].entry, probe))
            return table->slots[at].entry;
    return NULL;
}

static void table_add(struct table *table, uint64_t hash, void *entry)
{
    if ((uint64_t)(table->count + 1) * 4 > (uint64_t)table->slot_count * 3)
        table_grow(table);
    if (table->count == table->room) {
        table->room = table->room ? table->room * 2 : FIRST_SLOTS;
        table->entries = weir_resize(table->entries, table->room, sizeof *table->entries);
    }
    table->entries[table->count++] = entry;
    table_place(table, hash, entry);
}

struct weir_state *weir_state_new(void)
{
    struct weir_state *state = weir_new(sizeof *state);
    state->arena = weir_arena_new();
    state->for_windows = weir_arena_new();
    return state;
}

struct weir_state *weir_state_free(struct weir_state *state)
{
    if (!state)
        return NULL;
    table_free(&state->windows);
    table_free(&state->prices);
    table_free(&state->splits);
    table_free(&state->periods);
    table_free(&state->lanes);
    table_free(&state->charged);
    table_free(&state->segments);
    table_free(&state->commitments);
    table_free(&state->draws);
    table_free(&state->grants);
    table_free(&state->accounts);
    weir_arena_free(state->arena);
    weir_arena_free(state->for_windows);
    free(state);
    return NULL;
}

void weir_state_forget_windows(struct weir_state *state)
{
    table_clear(&state->windows);
    weir_arena_clear(state->for_windows);
}

void weir_state_clear(struct weir_state *state)
{
    weir_state_forget_windows(state);
    table_clear(&state->prices);
    table_clear(&state->splits);
    table_clear(&state->periods);
    table_clear(&state->lanes);
    table_clear(&state->charged);
    table_clear(&state->segments);
    table_clear(&state->commitments);
    table_clear(&state->draws);
    table_clear(&state->grants);
    table_clear(&state->accounts);
    weir_arena_clear(state->arena);
}

struct weir_slice weir_state_copy(struct weir_state *state, struct weir_slice text)
{
    return weir_arena_copy(state->arena, text.data, text.length);
}

static uint64_t hash_slice(struct weir_slice slice, uint64_t seed)
{
    return weir_hash64(slice.data, slice.length, seed);
}

/* 1. windows */
struct window_key {
    struct weir_slice series_key;
    int64_t start;
};

static bool same_window(const void *entry, const void *probe)
{
    const struct weir_rated_window *a = entry;
    const struct window_key *b = probe;
    return a->start == b->start && weir_slice_equal(a->series_key, b->series_key);
}

struct weir_rated_window *weir_state_window(struct weir_state *state, struct weir_slice series_key, int64_t start,
                                            int64_t end)
{
    return weir_state_window_of(state, hash_slice(series_key, 0), series_key, start, end);
}

/* Starts are multiples of a window's length: their lower bits say little. */
static uint64_t hash_window(uint64_t series, int64_t start)
{
    uint64_t hash = (series ^ (uint64_t)start) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 32;
}

struct weir_rated_window *weir_state_window_of(struct weir_state *state, uint64_t hash, struct weir_slice series_key,
                                               int64_t start, int64_t end)
{
    struct window_key probe = {.series_key = series_key, .start = start};
    hash = hash_window(hash, start);
    struct weir_rated_window *window = table_find(&state->windows, hash, same_window, &probe);

    if (window) {
        weir_check(window->end == end);
        return window;
    }
    struct weir_rated_window *last =
        state->windows.count ? state->windows.entries[state->windows.count - 1] : NULL; /* often of the same series */
    window = weir_arena_take(state->for_windows, sizeof *window);
    window->start = start;
    window->end = end;
    if (last && weir_slice_same(last->series_key, series_key))
        window->series_key = last->series_key;
    else
        window->series_key = weir_arena_copy(state->for_windows, series_key.data, series_key.length);
    table_add(&state->windows, hash, window);
    return window;
}

static struct weir_rated_lane *find_share(const struct weir_rated_window *window, struct weir_slice lane)
{
    for (uint32_t i = 0; i < window->lane_count; i++)
        if (weir_slice_same(window->lanes[i].lane, lane))
            return &window->lanes[i];
    return NULL;
}

/* The lane's name is the state's already. */
static struct weir_rated_lane *add_share(struct weir_state *state, struct weir_rated_window *window,
                                         struct weir_slice lane)
{
    if (window->lane_count == window->lane_room) {
        /* Nearly always one lane; the old array stays in the arena, doubling keeps that waste below the array itself.
         */
        uint32_t room = window->lane_room ? window->lane_room * 2 : 1;
        struct weir_rated_lane *lanes = weir_arena_take_array(state->for_windows, room, sizeof *lanes);
        if (window->lane_count)
            memcpy(lanes, window->lanes, window->lane_count * sizeof *lanes);
        window->lanes = lanes;
        window->lane_room = room;
    }
    struct weir_rated_lane *added = &window->lanes[window->lane_count++];
    added->lane = lane;
    return added;
}

struct weir_rated_lane *weir_rated_window_lane(struct weir_state *state, struct weir_rated_window *window,
                                               struct weir_slice lane)
{
    struct weir_rated_lane *found = find_share(window, lane);

    return found ? found : add_share(state, window, weir_arena_copy(state->for_windows, lane.data, lane.length));
}

struct weir_rated_lane *weir_rated_window_share(struct weir_state *state, struct weir_rated_window *window,
                                                const struct weir_held_lane *lane)
{
    struct weir_rated_lane *found = find_share(window, lane->lane);

    return found ? found : add_share(state, window, lane->lane);
}

/* 2. prices */
static bool same_price(const void *entry, const void *probe)
{
    const struct weir_price_running *a = entry, *b = probe;
    return a->period_start == b->period_start && a->price_book_version == b->price_book_version
           && weir_slice_equal(a->customer, b->customer) && weir_slice_equal(a->contract, b->contract)
           && weir_slice_equal(a->price_key, b->price_key) && weir_slice_equal(a->price_book, b->price_book);
}

struct weir_price_running *weir_state_price(struct weir_state *state, struct weir_slice customer,
                                            struct weir_slice contract, int64_t period_start, int64_t period_end,
                                            struct weir_slice price_book, uint32_t price_book_version,
                                            struct weir_slice price_key)
{
    struct weir_price_running probe = {.customer = customer,
                                       .contract = contract,
                                       .period_start = period_start,
                                       .period_end = period_end,
                                       .price_book = price_book,
                                       .price_book_version = price_book_version,
                                       .price_key = price_key};
    /* Contract and book are left out: they hardly ever tell two prices apart that the rest does not. */
    uint64_t hash = hash_slice(price_key, hash_slice(customer, (uint64_t)period_start + price_book_version));
    struct weir_price_running *price = table_find(&state->prices, hash, same_price, &probe);

    if (price)
        return price;
    price = weir_arena_take(state->arena, sizeof *price);
    *price = probe;
    price->customer = weir_state_copy(state, customer);
    price->contract = weir_state_copy(state, contract);
    price->price_book = weir_state_copy(state, price_book);
    price->price_key = weir_state_copy(state, price_key);
    table_add(&state->prices, hash, price);
    return price;
}

/* 3. splits */
static bool same_split(const void *entry, const void *probe)
{
    const struct weir_split_running *a = entry, *b = probe;
    return a->price == b->price && weir_slice_equal(a->series_key, b->series_key);
}

struct weir_split_running *weir_state_split(struct weir_state *state, const struct weir_price_running *price,
                                            struct weir_slice series_key)
{
    struct weir_split_running probe = {.price = price, .series_key = series_key};
    /* A price's entry is unique and never moves, so that its address stands for its key. */
    uint64_t hash = hash_slice(series_key, (uint64_t)(uintptr_t)price);
    struct weir_split_running *split = table_find(&state->splits, hash, same_split, &probe);

    if (split)
        return split;
    split = weir_arena_take(state->arena, sizeof *split);
    *split = probe;
    split->series_key = weir_state_copy(state, series_key);
    table_add(&state->splits, hash, split);
    return split;
}

/* 4. periods */
static bool same_period(const void *entry, const void *probe)
{
    const struct weir_period_running *a = entry, *b = probe;
    return a->start == b->start && weir_slice_equal(a->customer, b->customer)
           && weir_slice_equal(a->contract, b->contract);
}

struct weir_period_running *weir_state_period(struct weir_state *state, struct weir_slice customer,
                                              struct weir_slice contract, int64_t start, int64_t end)
{
    struct weir_period_running probe = {.customer = customer, .contract = contract, .start = start, .end = end};
    uint64_t hash = hash_slice(customer, (uint64_t)start); /* a customer's contracts do not overlap */
    struct weir_period_running *period = table_find(&state->periods, hash, same_period, &probe);

    if (period)
        return period;
    period = weir_arena_take(state->arena, sizeof *period);
    *period = probe;
    period->customer = weir_state_copy(state, customer);
    period->contract = weir_state_copy(state, contract);
    table_add(&state->periods, hash, period);
    return period;
}

/* 5. lanes */
static bool same_lane(const void *entry, const void *probe)
{
    const struct weir_held_lane *a = entry, *b = probe;
    return weir_slice_equal(a->lane, b->lane);
}

struct weir_held_lane *weir_state_lane(struct weir_state *state, struct weir_slice lane)
{
    struct weir_held_lane probe = {.lane = lane};
    uint64_t hash = hash_slice(lane, 0);
    struct weir_held_lane *held = table_find(&state->lanes, hash, same_lane, &probe);

    if (held)
        return held;
    held = weir_arena_take(state->arena, sizeof *held);
    *held = probe;
    held->lane = weir_state_copy(state, lane);
    table_add(&state->lanes, hash, held);
    return held;
}

/* 6. items */
static bool same_item(const void *entry, const void *probe)
{
    const struct weir_charged_item *a = entry, *b = probe;
    return a->period_start == b->period_start && weir_slice_equal(a->customer, b->customer)
           && weir_slice_equal(a->item, b->item) && weir_slice_equal(a->contract, b->contract);
}

struct weir_charged_item *weir_state_charged(struct weir_state *state, struct weir_slice customer,
                                             struct weir_slice contract, int64_t period_start, int64_t period_end,
                                             struct weir_slice item)
{
    struct weir_charged_item probe = {.customer = customer,
                                      .contract = contract,
                                      .period_start = period_start,
                                      .period_end = period_end,
                                      .item = item};
    uint64_t hash = hash_slice(item, hash_slice(customer, (uint64_t)period_start));
    struct weir_charged_item *charged = table_find(&state->charged, hash, same_item, &probe);

    if (charged)
        return charged;
    charged = weir_arena_take(state->arena, sizeof *charged);
    *charged = probe;
    charged->customer = weir_state_copy(state, customer);
    charged->contract = weir_state_copy(state, contract);
    charged->item = weir_state_copy(state, item);
    table_add(&state->charged, hash, charged);
    return charged;
}

/* 7. what prepaid amounts and minimum quantities need */
static bool same_segment(const void *entry, const void *probe)
{
    const struct weir_segment_running *a = entry, *b = probe;
    return a->price == b->price && a->start == b->start;
}

struct weir_segment_running *weir_state_segment(struct weir_state *state, const struct weir_price_running *price,
                                                int64_t start)
{
    struct weir_segment_running probe = {.price = price, .start = start};
    uint64_t hash = weir_hash64(&start, sizeof start, (uint64_t)(uintptr_t)price);
    struct weir_segment_running *segment = table_find(&state->segments, hash, same_segment, &probe);

    if (segment)
        return segment;
    segment = weir_arena_take(state->arena, sizeof *segment);
    *segment = probe;
    table_add(&state->segments, hash, segment);
    return segment;
}

static bool same_commitment(const void *entry, const void *probe)
{
    const struct weir_commitment_running *a = entry, *b = probe;
    return a->period_start == b->period_start && weir_slice_equal(a->customer, b->customer)
           && weir_slice_equal(a->commitment, b->commitment) && weir_slice_equal(a->contract, b->contract);
}

struct weir_commitment_running *weir_state_commitment(struct weir_state *state, struct weir_slice customer,
                                                      struct weir_slice contract, int64_t period_start,
                                                      int64_t period_end, struct weir_slice commitment)
{
    struct weir_commitment_running probe = {.customer = customer,
                                            .contract = contract,
                                            .period_start = period_start,
                                            .period_end = period_end,
                                            .commitment = commitment};
    uint64_t hash = hash_slice(commitment, hash_slice(customer, (uint64_t)period_start));
    struct weir_commitment_running *running = table_find(&state->commitments, hash, same_commitment, &probe);

    if (running)
        return running;
    running = weir_arena_take(state->arena, sizeof *running);
    *running = probe;
    running->customer = weir_state_copy(state, customer);
    running->contract = weir_state_copy(state, contract);
    running->commitment = weir_state_copy(state, commitment);
    table_add(&state->commitments, hash, running);
    return running;
}

static bool same_draw(const void *entry, const void *probe)
{
    const struct weir_draw_running *a = entry, *b = probe;
    return a->period_start == b->period_start && a->segment_start == b->segment_start
           && weir_slice_equal(a->customer, b->customer) && weir_slice_equal(a->grant, b->grant)
           && weir_slice_equal(a->meter, b->meter) && weir_slice_equal(a->contract, b->contract);
}

struct weir_draw_running *weir_state_draw(struct weir_state *state, const struct weir_draw_running *probe)
{
    uint64_t hash = hash_slice(probe->customer, (uint64_t)probe->segment_start);
    hash = hash_slice(probe->meter, hash_slice(probe->grant, hash));
    struct weir_draw_running *draw = table_find(&state->draws, hash, same_draw, probe);

    if (draw)
        return draw;
    draw = weir_arena_take(state->arena, sizeof *draw);
    *draw = (struct weir_draw_running){
        .customer = weir_state_copy(state, probe->customer),
        .contract = weir_state_copy(state, probe->contract),
        .period_start = probe->period_start,
        .period_end = probe->period_end,
        .segment_start = probe->segment_start,
        .meter = weir_state_copy(state, probe->meter),
        .grant = weir_state_copy(state, probe->grant),
    };
    table_add(&state->draws, hash, draw);
    return draw;
}

static bool same_grant(const void *entry, const void *probe)
{
    const struct weir_grant_running *a = entry, *b = probe;
    return weir_slice_equal(a->customer, b->customer) && weir_slice_equal(a->contract, b->contract)
           && weir_slice_equal(a->key, b->key);
}

struct weir_grant_running *weir_state_grant(struct weir_state *state, struct weir_slice customer,
                                            struct weir_slice contract, struct weir_slice key)
{
    struct weir_grant_running probe = {.customer = customer, .contract = contract, .key = key};
    uint64_t hash = hash_slice(contract, hash_slice(key, hash_slice(customer, 0)));
    struct weir_grant_running *grant = table_find(&state->grants, hash, same_grant, &probe);

    if (grant)
        return grant;
    grant = weir_arena_take(state->arena, sizeof *grant);
    grant->customer = weir_state_copy(state, customer);
    grant->contract = weir_state_copy(state, contract);
    grant->key = weir_state_copy(state, key);
    table_add(&state->grants, hash, grant);
    return grant;
}

static bool same_account(const void *entry, const void *probe)
{
    return weir_slice_equal(((const struct weir_account *)entry)->customer,
                            ((const struct weir_account *)probe)->customer);
}

struct weir_account *weir_state_known_account(const struct weir_state *state, struct weir_slice customer)
{
    struct weir_account probe = {.customer = customer};

    return state->accounts.count ? table_find(&state->accounts, hash_slice(customer, 0), same_account, &probe) : NULL;
}

struct weir_account *weir_state_account(struct weir_state *state, struct weir_slice customer)
{
    uint64_t hash = hash_slice(customer, 0);
    struct weir_account *account = weir_state_known_account(state, customer);

    if (account)
        return account;
    account = weir_arena_take(state->arena, sizeof *account);
    account->customer = weir_state_copy(state, customer);
    table_add(&state->accounts, hash, account);
    return account;
}

struct weir_grant_order *weir_state_order(struct weir_state *state, struct weir_account *account)
{
    if (account->order_count == account->order_room) {
        size_t room = account->order_room ? account->order_room * 2 : 8;
        struct weir_grant_order *orders = weir_arena_take(state->arena, room * sizeof *orders);
        if (account->order_count)
            memcpy(orders, account->orders, account->order_count * sizeof *orders);
        account->orders = orders;
        account->order_room = room;
    }
    return &account->orders[account->order_count++];
}

void *weir_state_take(struct weir_state *state, size_t size)
{
    return weir_arena_take(state->arena, size);
}

struct weir_state_view weir_state_all(struct weir_state *state)
{
    return (struct weir_state_view){
        .window_count = state->windows.count,
        .price_count = state->prices.count,
        .split_count = state->splits.count,
        .period_count = state->periods.count,
        .lane_count = state->lanes.count,
        .charged_count = state->charged.count,
        .segment_count = state->segments.count,
        .commitment_count = state->commitments.count,
        .draw_count = state->draws.count,
        .grant_count = state->grants.count,
        .account_count = state->accounts.count,
        .windows = (struct weir_rated_window **)state->windows.entries,
        .prices = (struct weir_price_running **)state->prices.entries,
        .splits = (struct weir_split_running **)state->splits.entries,
        .periods = (struct weir_period_running **)state->periods.entries,
        .lanes = (struct weir_held_lane **)state->lanes.entries,
        .charged = (struct weir_charged_item **)state->charged.entries,
        .segments = (struct weir_segment_running **)state->segments.entries,
        .commitments = (struct weir_commitment_running **)state->commitments.entries,
        .draws = (struct weir_draw_running **)state->draws.entries,
        .grants = (struct weir_grant_running **)state->grants.entries,
        .accounts = (struct weir_account **)state->accounts.entries,
    };
}
