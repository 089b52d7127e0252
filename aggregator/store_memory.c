/* The window store in memory: exact, and the plain reading of the contract that Redis is compared with.
 *
 * A lane is a table of its windows by (start, end, series key), which never shrinks, and its ids by bucket.
 */
#include <stdlib.h>

#include "aggregator/epoch.h"
#include "aggregator/window_store.h"
#include "common/hash.h"
#include "common/model/tally.h"

struct bytes {
    char *data;
    size_t length;
    size_t capacity;
};

struct entry {
    struct weir_window window; /* series_key is owned */
    struct bytes unique;
    uint64_t token;   /* of the last change after closing */
    uint64_t written; /* number of the last cut that held it */
    uint64_t told;    /* number of the last cut that held it with its key */
    uint64_t hash;
    size_t work_place; /* in lane->work, + 1; 0: not on it */
    bool is_closed;
};

struct bucket {
    int64_t number;
    struct bytes ids;
};

struct lane {
    char name[WEIR_LANE_NAME_MAX];
    uint32_t name_length;
    struct weir_lane_state state;
    struct entry *entries;
    size_t entry_count;
    size_t entry_capacity;
    uint32_t *slots; /* position in entries + 1; 0: empty. A power of two of them, at most half full */
    size_t slot_count;
    uint32_t *work; /* positions in entries */
    size_t work_count;
    size_t work_capacity;
    struct bucket *buckets;
    size_t bucket_count;
    uint64_t cuts;
    uint64_t round;    /* number of the cut that began the last round; 0: none since the lane was taken */
    uint32_t *numbers; /* of windows that the owner has told: position in entries + 1 */
    size_t number_room;
};

struct memory_store {
    struct weir_window_store base;
    struct lane **lanes;
    size_t lane_count;
    uint64_t token;
};

static void append(struct bytes *bytes, const void *data, size_t length)
{
    if (length == 0)
        return;
    if (bytes->capacity - bytes->length < length) {
        size_t capacity = bytes->capacity * 2 > bytes->length + length ? bytes->capacity * 2 : bytes->length + length;
        bytes->data = weir_resize(bytes->data, capacity, 1);
        bytes->capacity = capacity;
    }
    memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
}

/* 1. The table. */

static uint64_t hash_of(const struct weir_window *window)
{
    return weir_hash64(window->series_key.data, window->series_key.length,
                       (uint64_t)window->start * 0x9e3779b97f4a7c15u ^ (uint64_t)window->end);
}

static void grow_slots(struct lane *lane)
{
    lane->slot_count = lane->slot_count ? lane->slot_count * 2 : 1024;
    free(lane->slots);
    lane->slots = weir_new_array(lane->slot_count, sizeof(*lane->slots));
    for (size_t i = 0; i < lane->entry_count; i++) {
        size_t at = lane->entries[i].hash & (lane->slot_count - 1);
        while (lane->slots[at])
            at = (at + 1) & (lane->slot_count - 1);
        lane->slots[at] = (uint32_t)i + 1;
    }
}

/* The slot where the window is, or would be. */
static uint32_t *find_slot(const struct lane *lane, const struct weir_window *window, uint64_t hash)
{
    for (size_t at = hash & (lane->slot_count - 1);; at = (at + 1) & (lane->slot_count - 1)) {
        uint32_t *slot = &lane->slots[at];
        if (*slot == 0)
            return slot;
        const struct entry *entry = &lane->entries[*slot - 1];
        if (entry->hash == hash && entry->window.start == window->start && entry->window.end == window->end
            && weir_slice_equal(entry->window.series_key, window->series_key))
            return slot;
    }
}

static struct entry *find_entry(const struct lane *lane, const struct weir_window *window)
{
    uint32_t slot = lane->slot_count ? *find_slot(lane, window, hash_of(window)) : 0;
    return slot ? &lane->entries[slot - 1] : NULL;
}

static struct entry *get_entry(struct lane *lane, const struct weir_window *window)
{
    if (lane->entry_count * 2 >= lane->slot_count)
        grow_slots(lane);
    uint64_t hash = hash_of(window);
    uint32_t *slot = find_slot(lane, window, hash);
    if (*slot)
        return &lane->entries[*slot - 1];
    weir_check(lane->entry_count < UINT32_MAX - 1);
    if (lane->entry_count == lane->entry_capacity) {
        lane->entry_capacity = lane->entry_capacity ? lane->entry_capacity * 2 : 1024;
        lane->entries = weir_resize(lane->entries, lane->entry_capacity, sizeof(*lane->entries));
    }
    struct entry *entry = &lane->entries[lane->entry_count++];
    *slot = (uint32_t)lane->entry_count;
    *entry = (struct entry){.window = *window, .hash = hash};
    entry->window.series_key.data = weir_copy_text(window->series_key.data, window->series_key.length);
    return entry;
}

static void note_number(struct lane *lane, uint32_t number, const struct entry *entry)
{
    if (number >= lane->number_room) {
        size_t room = (size_t)number * 2 + 1024;
        lane->numbers = weir_resize(lane->numbers, room, sizeof(*lane->numbers));
        memset(lane->numbers + lane->number_room, 0, (room - lane->number_room) * sizeof(*lane->numbers));
        lane->number_room = room;
    }
    lane->numbers[number] = (uint32_t)(entry - lane->entries) + 1;
}

/* Another store would not find a window any more that was told before the last round. */
static struct entry *find_told(const struct lane *lane, const struct weir_cut_window *window)
{
    weir_check(window->number > 0 && window->number < lane->number_room && lane->numbers[window->number]);
    struct entry *entry = &lane->entries[lane->numbers[window->number] - 1];
    weir_check(entry->window.start == window->window.start && entry->window.end == window->window.end);
    weir_check(entry->told >= lane->round && !window->is_closed && window->unique.length == 0);
    return entry;
}

/* 2. Lanes. */

static struct lane *find_lane(const struct weir_window_store *base, struct weir_slice name)
{
    const struct memory_store *store = (const struct memory_store *)base;
    for (size_t i = 0; i < store->lane_count; i++)
        if (weir_slice_equal((struct weir_slice){store->lanes[i]->name, store->lanes[i]->name_length}, name))
            return store->lanes[i];
    return NULL;
}

static struct lane *add_lane(struct memory_store *store, struct weir_slice name,
                             const unsigned char secret[WEIR_LANE_SECRET_BYTES])
{
    struct lane *lane = weir_new(sizeof(*lane));
    weir_check(name.length > 0 && name.length <= WEIR_LANE_NAME_MAX);
    memcpy(lane->name, name.data, name.length);
    lane->name_length = name.length;
    lane->state.next_offset = -1;
    lane->state.first_time = INT64_MAX;
    lane->state.last_time = INT64_MIN;
    lane->state.stamp = -1;
    memcpy(lane->state.secret, secret, WEIR_LANE_SECRET_BYTES);
    store->lanes = weir_resize(store->lanes, store->lane_count + 1, sizeof(struct lane *));
    store->lanes[store->lane_count++] = lane;
    return lane;
}

static enum weir_status take_lane(struct weir_window_store *base, struct weir_slice name,
                                  const unsigned char secret[WEIR_LANE_SECRET_BYTES],
                                  const struct weir_lane_loader *loader, struct weir_lane_state *ret_state,
                                  struct weir_error *reterr)
{
    struct lane *lane = find_lane(base, name);
    (void)reterr;
    if (!lane)
        lane = add_lane((struct memory_store *)base, name, secret);
    lane->state.epoch += weir_epoch_raise();
    lane->round = 0;
    free(lane->numbers);
    lane->numbers = NULL;
    lane->number_room = 0;
    for (size_t i = 0; loader && i < lane->entry_count; i++) {
        const struct entry *entry = &lane->entries[i];
        loader->window(loader->context, &entry->window, entry->is_closed,
                       weir_slice_of(entry->unique.data, entry->unique.length));
    }
    for (size_t i = 0; loader && i < lane->bucket_count; i++)
        loader->ids(loader->context, lane->buckets[i].number,
                    weir_slice_of(lane->buckets[i].ids.data, lane->buckets[i].ids.length));
    *ret_state = lane->state;
    return WEIR_OK;
}

static void add_work(struct lane *lane, struct entry *entry, uint64_t token)
{
    entry->token = token;
    if (entry->work_place)
        return;
    if (lane->work_count == lane->work_capacity) {
        lane->work_capacity = lane->work_capacity ? lane->work_capacity * 2 : 1024;
        lane->work = weir_resize(lane->work, lane->work_capacity, sizeof(*lane->work));
    }
    lane->work[lane->work_count++] = (uint32_t)(entry - lane->entries);
    entry->work_place = lane->work_count;
}

static void add_ids(struct lane *lane, const struct weir_cut_ids *ids)
{
    size_t i = 0;
    while (i < lane->bucket_count && lane->buckets[i].number != ids->bucket)
        i++;
    if (i == lane->bucket_count) {
        lane->buckets = weir_resize(lane->buckets, ++lane->bucket_count, sizeof(*lane->buckets));
        lane->buckets[i] = (struct bucket){.number = ids->bucket};
    }
    append(&lane->buckets[i].ids, ids->ids.data, ids->ids.length);
}

static void forget_ids(struct lane *lane, int64_t below)
{
    size_t kept = 0;
    for (size_t i = 0; i < lane->bucket_count; i++) {
        if (lane->buckets[i].number < below)
            free(lane->buckets[i].ids.data);
        else
            lane->buckets[kept++] = lane->buckets[i];
    }
    lane->bucket_count = kept;
}

/* Nothing is dropped here, but another store would lose an open window that the round did not bring. Not of one that
 * the lane does not know, as it cannot read its key. */
static void check_round(const struct lane *lane)
{
    struct weir_series series;

    for (size_t i = 0; i < lane->entry_count; i++) {
        const struct entry *entry = &lane->entries[i];
        weir_check(entry->is_closed || entry->written >= lane->round || weir_series_is_tally(entry->window.series_key)
                   || !weir_series_parse(entry->window.series_key, &series));
    }
}

static enum weir_status write_cut(struct weir_window_store *base, const struct weir_cut *cut, struct weir_error *reterr)
{
    struct lane *lane = find_lane(base, cut->lane);
    weir_check(cut->state.next_offset >= cut->expected_offset || cut->is_anew);
    if (lane && lane->state.epoch == cut->state.epoch && lane->state.next_offset == cut->state.next_offset
        && cut->expected_offset != cut->state.next_offset)
        return WEIR_OK; /* this very cut again */
    if (!lane || lane->state.epoch != cut->state.epoch || lane->state.next_offset != cut->expected_offset)
        return weir_fail(reterr, WEIR_FENCED,
                         "lane %.*s: the store holds epoch %llu, next offset %lld, not epoch %llu, next offset %lld",
                         (int)cut->lane.length, cut->lane.data, lane ? (unsigned long long)lane->state.epoch : 0,
                         lane ? (long long)lane->state.next_offset : -1, (unsigned long long)cut->state.epoch,
                         (long long)cut->expected_offset);
    uint64_t token = ++((struct memory_store *)base)->token;
    lane->cuts++;
    if (cut->begins_round)
        lane->round = lane->cuts;
    for (size_t i = 0; i < cut->window_count; i++) {
        const struct weir_cut_window *window = &cut->windows[i];
        weir_check(!window->is_closed || window->number == 0);
        bool has_key = window->window.series_key.length > 0;
        struct entry *entry = has_key ? get_entry(lane, &window->window) : find_told(lane, window);
        if (has_key)
            entry->told = lane->cuts;
        if (has_key && window->number)
            note_number(lane, window->number, entry);
        entry->window.total = window->window.total;
        weir_check(window->is_closed || !entry->is_closed || weir_series_is_tally(entry->window.series_key));
        entry->is_closed = window->is_closed;
        entry->written = lane->cuts;
        append(&entry->unique, window->unique.data, window->unique.length);
        if (window->is_closed)
            add_work(lane, entry, token);
    }
    if (cut->ends_round && lane->round)
        check_round(lane);
    for (size_t i = 0; i < cut->ids_count; i++)
        if (cut->ids[i].ids.length)
            add_ids(lane, &cut->ids[i]);
    forget_ids(lane, cut->forget_ids_below);
    unsigned char secret[WEIR_LANE_SECRET_BYTES];
    memcpy(secret, lane->state.secret, sizeof(secret));
    lane->state = cut->state;
    memcpy(lane->state.secret, secret, sizeof(secret));
    return WEIR_OK;
}

/* 3. Raters and reconcile. */

static enum weir_status list_lanes(struct weir_window_store *base, const char *topic,
                                   void (*visit)(void *context, struct weir_slice lane,
                                                 const struct weir_lane_state *state),
                                   void *context, struct weir_error *reterr)
{
    const struct memory_store *store = (const struct memory_store *)base;
    (void)reterr;
    for (size_t i = 0; i < store->lane_count; i++) {
        const struct lane *lane = store->lanes[i];
        const char *colon = memrchr(lane->name, ':', lane->name_length);
        size_t length = colon ? (size_t)(colon - lane->name) : lane->name_length;
        if (!topic || weir_slice_equal(weir_slice_text(topic), weir_slice_of(lane->name, length)))
            visit(context, (struct weir_slice){lane->name, lane->name_length}, &lane->state);
    }
    return WEIR_OK;
}

static enum weir_status read_lane(struct weir_window_store *base, struct weir_slice name,
                                  struct weir_lane_state *ret_state, struct weir_error *reterr)
{
    const struct lane *lane = find_lane(base, name);
    (void)reterr;
    *ret_state = lane ? lane->state : (struct weir_lane_state){.next_offset = -1, .stamp = -1};
    return WEIR_OK;
}

/* The place's cursor is how many of the front were not read yet: those behind it may be finished and others come into
 * their places, which are passed by. */
static enum weir_status read_more_work(struct weir_window_store *base, struct weir_slice name,
                                       struct weir_work_place *place, size_t max, struct weir_work *ret_work,
                                       size_t *ret_count, struct weir_error *reterr)
{
    const struct lane *lane = find_lane(base, name);
    size_t left = lane ? lane->work_count : 0, count;
    (void)reterr;
    if (place->goes_on && place->cursor < left)
        left = place->cursor;
    count = left < max ? left : max;
    /* From the end, where finishing takes them away without moving others. */
    for (size_t i = 0; i < count; i++) {
        const struct entry *entry = &lane->entries[lane->work[left - 1 - i]];
        ret_work[i] = (struct weir_work){entry->window, entry->token};
    }
    *place = (struct weir_work_place){.goes_on = true, .cursor = left - count};
    *ret_count = count;
    return WEIR_OK;
}

static enum weir_status read_work(struct weir_window_store *base, struct weir_slice name, size_t max,
                                  struct weir_work *ret_work, size_t *ret_count, struct weir_error *reterr)
{
    struct weir_work_place front = {0};
    return read_more_work(base, name, &front, max, ret_work, ret_count, reterr);
}

static enum weir_status finish_work(struct weir_window_store *base, struct weir_slice name,
                                    const struct weir_work *work, size_t count, struct weir_error *reterr)
{
    struct lane *lane = find_lane(base, name);
    (void)reterr;
    for (size_t i = 0; lane && i < count; i++) {
        struct entry *entry = find_entry(lane, &work[i].window);
        if (!entry || entry->work_place == 0 || entry->token != work[i].token)
            continue;
        uint32_t last = lane->work[--lane->work_count];
        lane->work[entry->work_place - 1] = last;
        lane->entries[last].work_place = entry->work_place;
        entry->work_place = 0;
    }
    return WEIR_OK;
}

static enum weir_status scan_windows(struct weir_window_store *base, struct weir_slice name,
                                     void (*visit)(void *context, const struct weir_window *window, bool is_closed,
                                                   bool has_work),
                                     void *context, struct weir_error *reterr)
{
    const struct lane *lane = find_lane(base, name);
    (void)reterr;
    for (size_t i = 0; lane && i < lane->entry_count; i++)
        visit(context, &lane->entries[i].window, lane->entries[i].is_closed, lane->entries[i].work_place != 0);
    return WEIR_OK;
}

/* 4. The handle. */

static void free_lane(struct lane *lane)
{
    for (size_t i = 0; i < lane->entry_count; i++) {
        free((char *)lane->entries[i].window.series_key.data);
        free(lane->entries[i].unique.data);
    }
    for (size_t i = 0; i < lane->bucket_count; i++)
        free(lane->buckets[i].ids.data);
    free(lane->entries);
    free(lane->slots);
    free(lane->work);
    free(lane->buckets);
    free(lane->numbers);
    free(lane);
}

static void store_free(struct weir_window_store *base)
{
    struct memory_store *store = (struct memory_store *)base;
    for (size_t i = 0; i < store->lane_count; i++)
        free_lane(store->lanes[i]);
    free(store->lanes);
    free(store);
}

static const struct weir_window_store_ops memory_ops = {
    .name = "memory",
    .take_lane = take_lane,
    .write_cut = write_cut,
    .list_lanes = list_lanes,
    .read_lane = read_lane,
    .read_work = read_work,
    .read_more_work = read_more_work,
    .finish_work = finish_work,
    .scan_windows = scan_windows,
    .free = store_free,
};

struct weir_window_store *weir_store_memory_new(void)
{
    struct memory_store *store = weir_new(sizeof(*store));
    store->base.ops = &memory_ops;
    return &store->base;
}
