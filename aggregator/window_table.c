#include "aggregator/window_table.h"

#include <assert.h>
#include <stdlib.h>

#include "aggregator/unique_set.h"

/* Positions are 1-based in the index tables and links; 0 is "none" there. */
enum { FIRST_SLOTS = 4096, NONE = 0 };

/* An interned (meter, customer, dimensions). */
struct series {
    uint64_t hash;
    char *key;           /* series key bytes, malloc'ed while the series lives */
    uint32_t key_length; /* 0: free, `latest` links the free ones */
    uint32_t meter;      /* index in the catalog; UINT32_MAX: a stored series whose meter is gone from it */
    uint32_t latest;     /* the window that was hit last: nearly always the next one to be hit as well */
    uint32_t window_count;
};

enum { IS_CLOSED = 1, IS_CHANGED = 2, IS_UNPRICED = 4 };

struct window {
    int64_t start;
    struct weir_window_total total;
    uint32_t series;
    uint32_t length_seconds; /* 31 days fit easily */
    uint32_t next_in_group;
    uint32_t flags;
    struct weir_unique_set *unique;
    struct weir_kept *kept; /* retractable min, max, latest, unique; NULL: only the total is known */
};

/* All windows with the same end, in a list, so that closing and forgetting touch only what is due. */
struct group {
    int64_t end;
    uint32_t first;
};

struct slot {
    uint32_t tag;      /* the upper half of the hash: saves touching the entry on most mismatches */
    uint32_t position; /* NONE: free */
};

struct index {
    struct slot *slots;
    uint32_t mask;
    uint32_t count;
};

struct weir_window_table {
    const struct weir_catalog *catalog;
    uint64_t *meters; /* by index: what stands for the meter in hashes */
    struct weir_unpriced_check check;
    struct weir_hash_key secret;
    uint64_t limit;
    uint64_t window_count;
    bool closes_at_once; /* one group for all windows */
    int64_t
        closed_through; /* windows that end at or before it are closed, those of late events as soon as they are made */

    struct index series_index, window_index;
    struct series *series; /* [0] unused */
    uint32_t series_used, series_room, free_series;
    struct window *windows; /* [0] unused */
    uint32_t windows_used, windows_room, free_window;

    struct group *groups; /* by end, ascending */
    size_t group_count, group_room;
    size_t closed_groups; /* the first ones: those with end <= closed_through */

    uint32_t *changed;
    size_t changed_count, changed_room;
    size_t unique_bytes;
    uint64_t unique_count;

    uint32_t *drain; /* once draining: the windows by series */
    uint64_t drained;
};

static_assert(sizeof(struct window) <= 96, "what README says of memory per window");

/* 1. index */
static void index_start(struct index *index)
{
    index->mask = FIRST_SLOTS - 1;
    index->slots = weir_new_array(FIRST_SLOTS, sizeof *index->slots);
}

static void index_place(struct index *index, uint64_t hash, uint32_t position)
{
    uint32_t at = (uint32_t)hash & index->mask;

    while (index->slots[at].position != NONE)
        at = (at + 1) & index->mask;
    index->slots[at] = (struct slot){(uint32_t)(hash >> 32), position};
}

/* Linear probing without tombstones: closes the gap by moving later members of the cluster back (Knuth 6.4, R). */
static void index_remove(struct index *index, uint32_t at, uint64_t (*hash_of)(const void *, uint32_t), const void *of)
{
    uint32_t hole = at;

    for (uint32_t next = (at + 1) & index->mask; index->slots[next].position != NONE; next = (next + 1) & index->mask) {
        uint32_t home = (uint32_t)hash_of(of, index->slots[next].position) & index->mask;
        if (((next - home) & index->mask) >= ((next - hole) & index->mask)) {
            index->slots[hole] = index->slots[next];
            hole = next;
        }
    }
    index->slots[hole] = (struct slot){0, NONE};
    index->count--;
}

static void index_make_room(struct index *index, uint64_t (*hash_of)(const void *, uint32_t), const void *of)
{
    if ((uint64_t)(index->count + 1) * 4 <= ((uint64_t)index->mask + 1) * 3)
        return;
    struct slot *old = index->slots;
    uint32_t old_mask = index->mask;
    weir_check(old_mask < UINT32_MAX / 2);
    index->mask = old_mask * 2 + 1;
    index->slots = weir_new_array((size_t)index->mask + 1, sizeof *index->slots);
    for (uint64_t i = 0; i <= old_mask; i++)
        if (old[i].position != NONE)
            index_place(index, hash_of(of, old[i].position), old[i].position);
    free(old);
}

static uint64_t hash_of_series(const void *of, uint32_t position)
{
    return ((const struct weir_window_table *)of)->series[position].hash;
}

/* The multiplier spreads starts, which are multiples of a window's length. */
static uint64_t hash_window(uint32_t series, int64_t start)
{
    uint64_t hash = ((uint64_t)series << 32 ^ (uint64_t)start) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 29;
}

static uint64_t hash_of_window(const void *of, uint32_t position)
{
    const struct window *window = &((const struct weir_window_table *)of)->windows[position];
    return hash_window(window->series, window->start);
}

/* 2. series */

/* Everything of the meter by which the same event would be counted otherwise, beside what is read from the event. */
static uint64_t hash_meter(const struct weir_meter *meter)
{
    const char *aggregation = weir_aggregation_name[meter->aggregation];
    const char *length = weir_window_length_name[meter->window];
    uint64_t hash = weir_hash64(meter->key.data, meter->key.length, 1);

    hash = weir_hash64(aggregation, strlen(aggregation), hash);
    hash = weir_hash64(length, strlen(length), hash);
    for (uint32_t i = 0; i < meter->group_count; i++)
        hash = weir_hash64(meter->groups[i].name.data, meter->groups[i].name.length, hash);
    return hash;
}

struct weir_window_table *weir_window_table_new(const struct weir_catalog *catalog, uint64_t limit, bool closes_at_once,
                                                const struct weir_unpriced_check *check)
{
    struct weir_window_table *table = weir_new(sizeof *table);

    weir_check(limit >= 1 && limit < UINT32_MAX);
    table->catalog = catalog;
    table->meters = weir_new_array(catalog->meter_count + 1, sizeof *table->meters);
    for (uint32_t i = 0; i < catalog->meter_count; i++)
        table->meters[i] = hash_meter(&catalog->meters[i]);
    table->limit = limit;
    table->closes_at_once = closes_at_once;
    if (check)
        table->check = *check;
    index_start(&table->series_index);
    index_start(&table->window_index);
    table->series_used = table->windows_used = 1;
    return table;
}

struct weir_window_table *weir_window_table_free(struct weir_window_table *table)
{
    if (!table)
        return NULL;
    for (uint32_t i = 1; i < table->series_used; i++)
        free(table->series[i].key);
    for (uint32_t i = 1; i < table->windows_used; i++) {
        weir_unique_set_free(table->windows[i].unique);
        weir_kept_free(table->windows[i].kept);
    }
    free(table->series_index.slots);
    free(table->window_index.slots);
    free(table->series);
    free(table->windows);
    free(table->groups);
    free(table->changed);
    free(table->drain);
    free(table->meters);
    free(table);
    return NULL;
}

void weir_window_table_set_secret(struct weir_window_table *table, const unsigned char secret[WEIR_LANE_SECRET_BYTES])
{
    weir_hash_key_init(&table->secret, secret);
}

/* memcmp for what is mostly the same and mostly short. */
static inline bool is_same(const char *one, const char *other, size_t length)
{
    size_t at = 0;

    for (; length - at >= 8; at += 8) {
        uint64_t left, right;
        memcpy(&left, one + at, 8);
        memcpy(&right, other + at, 8);
        if (left != right)
            return false;
    }
    for (; at < length; at++)
        if (one[at] != other[at])
            return false;
    return true;
}

/* Whether the stored key is this meter's, customer's and texts': compares piece by piece, without building a key. */
static bool is_series(const struct weir_window_table *table, const struct series *series, uint32_t meter_index,
                      struct weir_slice customer, const struct weir_slice texts[])
{
    if (series->meter != meter_index)
        return false;
    const struct weir_meter *meter = &table->catalog->meters[meter_index];
    const char *at = series->key + 2 + meter->key.length; /* the index says that the meter is the same */
    uint16_t length;
    memcpy(&length, at, 2);
    if (length != customer.length || !is_same(at + 2, customer.data, length))
        return false;
    at += 2 + customer.length + 1;
    for (uint32_t i = 0; i < meter->group_count; i++) {
        at += 2 + meter->groups[i].name.length;
        memcpy(&length, at, 2);
        if (length != texts[i].length || !is_same(at + 2, texts[i].data, length))
            return false;
        at += 2 + length;
    }
    return true;
}

static uint32_t add_series(struct weir_window_table *table, uint64_t hash, uint32_t meter, struct weir_slice key)
{
    uint32_t position = table->free_series;

    if (position != NONE) {
        table->free_series = table->series[position].latest;
    } else {
        if (table->series_used >= table->series_room) {
            table->series_room = table->series_room ? table->series_room * 2 : FIRST_SLOTS;
            table->series = weir_resize(table->series, table->series_room, sizeof *table->series);
        }
        position = table->series_used++;
    }
    table->series[position] = (struct series){
        .hash = hash, .key = weir_copy_text(key.data, key.length), .key_length = key.length, .meter = meter};
    index_make_room(&table->series_index, hash_of_series, table);
    index_place(&table->series_index, hash, position);
    table->series_index.count++;
    return position;
}

/* The hash of a series: the customer's, mixed with meter (by hash_meter; 0: gone from the catalog) and texts. */
static uint64_t hash_series(uint64_t customer_hash, uint64_t meter, const struct weir_slice texts[], uint32_t count)
{
    uint64_t hash = (customer_hash + meter) * UINT64_C(0xD6E8FEB86659FD93);

    hash ^= hash >> 32;
    for (uint32_t i = 0; i < count; i++)
        hash = weir_hash64(texts[i].data, texts[i].length, hash);
    return hash;
}

uint64_t weir_window_table_hash(const struct weir_window_table *table, const struct weir_reading *reading,
                                uint64_t customer_hash)
{
    return hash_series(customer_hash, table->meters[reading->meter], reading->dimensions,
                       table->catalog->meters[reading->meter].group_count);
}

void weir_window_table_prefetch(const struct weir_window_table *table, uint64_t hash, int stage)
{
    const struct slot *slot = &table->series_index.slots[(uint32_t)hash & table->series_index.mask];

    if (stage == 0) {
        __builtin_prefetch(slot);
    } else if (slot->position != NONE) { /* most likely the right one; if not, the wait is only longer */
        const struct series *series = &table->series[slot->position];
        if (stage == 1) {
            __builtin_prefetch(series);
        } else {
            __builtin_prefetch(series->key);
            __builtin_prefetch(series->key + 32); /* most keys are longer than that, half of those cross a line */
            __builtin_prefetch(&table->windows[series->latest], 1);
            __builtin_prefetch((const char *)&table->windows[series->latest] + 64, 1);
        }
    }
}

static uint32_t find_series(struct weir_window_table *table, const struct weir_reading *reading,
                            struct weir_slice customer, uint64_t hash)
{
    const struct weir_meter *meter = &table->catalog->meters[reading->meter];
    const struct index *index = &table->series_index;

    for (uint32_t at = (uint32_t)hash & index->mask; index->slots[at].position != NONE; at = (at + 1) & index->mask) {
        uint32_t position = index->slots[at].position;
        if (index->slots[at].tag == (uint32_t)(hash >> 32) && table->series[position].hash == hash
            && is_series(table, &table->series[position], reading->meter, customer, reading->dimensions))
            return position;
    }
    struct weir_series series = {.meter = meter->key, .customer = customer, .dimension_count = meter->group_count};
    char key[WEIR_SERIES_KEY_MAX];
    for (uint32_t i = 0; i < meter->group_count; i++)
        series.dimensions[i] = (struct weir_dimension){meter->groups[i].name, reading->dimensions[i]};
    size_t length = weir_series_write(&series, key);
    return add_series(table, hash, reading->meter, weir_slice_of(key, length));
}

static void remove_series(struct weir_window_table *table, uint32_t position)
{
    struct series *series = &table->series[position];
    uint32_t at = (uint32_t)series->hash & table->series_index.mask;

    while (table->series_index.slots[at].position != position)
        at = (at + 1) & table->series_index.mask;
    index_remove(&table->series_index, at, hash_of_series, table);
    free(series->key);
    *series = (struct series){.latest = table->free_series};
    table->free_series = position;
}

/* 3. windows */
static struct weir_slice series_key(const struct weir_window_table *table, uint32_t series)
{
    return weir_slice_of(table->series[series].key, table->series[series].key_length);
}

static int64_t window_end(const struct window *window)
{
    return window->start + (int64_t)window->length_seconds * WEIR_SECOND;
}

/* The group of this end, made if it is not there. Ends come mostly in order, so that an insertion moves little. */
static struct group *find_group(struct weir_window_table *table, int64_t end)
{
    size_t at = 0, after = table->group_count;

    if (table->closes_at_once)
        end = WEIR_TIME_NEVER;
    if (after > 0 && table->groups[after - 1].end < end)
        at = after;
    while (at < after) {
        size_t middle = at + (after - at) / 2;
        if (table->groups[middle].end < end)
            at = middle + 1;
        else
            after = middle;
    }
    if (at < table->group_count && table->groups[at].end == end)
        return &table->groups[at];
    if (table->group_count == table->group_room) {
        table->group_room = table->group_room ? table->group_room * 2 : 64;
        table->groups = weir_resize(table->groups, table->group_room, sizeof *table->groups);
    }
    memmove(&table->groups[at + 1], &table->groups[at], (table->group_count - at) * sizeof *table->groups);
    table->group_count++;
    table->groups[at] = (struct group){.end = end};
    table->closed_groups += end <= table->closed_through;
    return &table->groups[at];
}

static uint32_t look_window(const struct weir_window_table *table, uint32_t series, int64_t start)
{
    const struct index *index = &table->window_index;
    uint64_t hash = hash_window(series, start);

    for (uint32_t at = (uint32_t)hash & index->mask; index->slots[at].position != NONE; at = (at + 1) & index->mask) {
        const struct window *window = &table->windows[index->slots[at].position];
        if (index->slots[at].tag == (uint32_t)(hash >> 32) && window->series == series && window->start == start)
            return index->slots[at].position;
    }
    return NONE;
}

/* NONE: the limit is reached. */
static uint32_t add_window(struct weir_window_table *table, uint32_t series, int64_t start, int64_t end)
{
    uint32_t position = table->free_window;

    if (table->window_count == table->limit)
        return NONE;
    if (position != NONE) {
        table->free_window = table->windows[position].next_in_group;
    } else {
        if (table->windows_used >= table->windows_room) {
            table->windows_room = table->windows_room ? table->windows_room * 2 : FIRST_SLOTS;
            table->windows = weir_resize(table->windows, table->windows_room, sizeof *table->windows);
        }
        position = table->windows_used++;
    }
    struct group *group = find_group(table, end);
    table->windows[position] = (struct window){.start = start,
                                               .series = series,
                                               .length_seconds = (uint32_t)((end - start) / WEIR_SECOND),
                                               .next_in_group = group->first,
                                               .flags = end <= table->closed_through ? IS_CLOSED : 0};
    group->first = position;
    index_make_room(&table->window_index, hash_of_window, table);
    index_place(&table->window_index, hash_window(series, start), position);
    table->window_index.count++;
    table->window_count++;
    table->series[series].window_count++;
    if (table->check.is_unpriced && table->check.is_unpriced(table->check.context, series_key(table, series), start))
        table->windows[position].flags |= IS_UNPRICED;
    return position;
}

static void remove_window(struct weir_window_table *table, uint32_t position)
{
    struct window *window = &table->windows[position];
    struct series *series = &table->series[window->series];
    uint32_t at = (uint32_t)hash_window(window->series, window->start) & table->window_index.mask;

    weir_check(!(window->flags & IS_CHANGED));
    while (table->window_index.slots[at].position != position)
        at = (at + 1) & table->window_index.mask;
    index_remove(&table->window_index, at, hash_of_window, table);
    if (series->latest == position)
        series->latest = NONE;
    if (--series->window_count == 0)
        remove_series(table, window->series);
    if (window->unique) {
        table->unique_bytes -= weir_unique_set_bytes(window->unique);
        table->unique_count -= weir_unique_set_count(window->unique);
    }
    if (window->kept) {
        table->unique_bytes -= weir_kept_bytes(window->kept);
        table->unique_count -= weir_kept_count(window->kept);
    }
    weir_unique_set_free(window->unique);
    weir_kept_free(window->kept);
    *window = (struct window){.next_in_group = table->free_window};
    table->free_window = position;
    table->window_count--;
}

static void mark_changed(struct weir_window_table *table, uint32_t position)
{
    if (table->windows[position].flags & IS_CHANGED)
        return;
    table->windows[position].flags |= IS_CHANGED;
    if (table->changed_count == table->changed_room) {
        table->changed_room = table->changed_room ? table->changed_room * 2 : FIRST_SLOTS;
        table->changed = weir_resize(table->changed, table->changed_room, sizeof *table->changed);
    }
    table->changed[table->changed_count++] = position;
}

/* 4. an event */

/* What adds up is subtracted; other windows have kept the event, or are refused. */
static enum weir_prepared take_out_reading(const struct weir_meter *meter, const struct weir_reading *reading,
                                           const struct window *window, uint64_t id, struct weir_window_total *total)
{
    if (total->events == 0)
        return WEIR_PREPARED_ABSENT;
    total->retracted++;
    switch (meter->aggregation) {
    case WEIR_AGGREGATION_COUNT:
        total->events--;
        return WEIR_PREPARED;
    case WEIR_AGGREGATION_SUM:
    case WEIR_AGGREGATION_AVG:
        total->events--;
        return weir_decimal_subtract(total->value, reading->value, &total->value) ? WEIR_PREPARED
                                                                                  : WEIR_PREPARED_OVERFLOW;
    default:
        if (!window->kept || !weir_kept_has_id(window->kept, id))
            return WEIR_PREPARED_ABSENT; /* counted before the meter became retractable */
        weir_kept_total_without(window->kept, meter->aggregation, id, total);
        return WEIR_PREPARED;
    }
}

static bool add_reading(const struct weir_meter *meter, const struct weir_reading *reading, int64_t time,
                        int64_t offset, struct weir_window_change *change)
{
    struct weir_window_total *total = &change->after;
    bool is_first = total->events++ == 0;

    switch (meter->aggregation) {
    case WEIR_AGGREGATION_COUNT:
        return true;
    case WEIR_AGGREGATION_SUM:
    case WEIR_AGGREGATION_AVG:
        return weir_decimal_add(total->value, reading->value, &total->value);
    case WEIR_AGGREGATION_MIN:
        if (is_first || weir_decimal_compare(reading->value, total->value) < 0)
            total->value = reading->value;
        return true;
    case WEIR_AGGREGATION_MAX:
        if (is_first || weir_decimal_compare(reading->value, total->value) > 0)
            total->value = reading->value;
        return true;
    case WEIR_AGGREGATION_LATEST:
        if (is_first || time > total->latest_time || (time == total->latest_time && offset > total->latest_offset)) {
            total->value = reading->value;
            total->latest_time = time;
            total->latest_offset = offset;
        }
        return true;
    case WEIR_AGGREGATION_UNIQUE:
        return !change->is_new_unique || weir_decimal_add(total->value, weir_decimal_of(1), &total->value);
    case WEIR_AGGREGATION_COUNT_OF:
        break;
    }
    weir_check(!"an aggregation that is none");
    return false;
}

static bool keeps_events(const struct weir_meter *meter)
{
    return meter->is_retractable && meter->aggregation != WEIR_AGGREGATION_COUNT
           && meter->aggregation != WEIR_AGGREGATION_SUM && meter->aggregation != WEIR_AGGREGATION_AVG;
}

/* The window of the series that holds the time; NONE: not there (and not to be made), or the limit is reached. */
static uint32_t find_window(struct weir_window_table *table, const struct weir_meter *meter, uint32_t series,
                            int64_t time, bool is_made)
{
    uint32_t position = table->series[series].latest;
    int64_t start, end;

    if (position != NONE && time >= table->windows[position].start && time < window_end(&table->windows[position]))
        return position;
    weir_window_of(meter->window, time, &start, &end);
    position = look_window(table, series, start);
    if (position == NONE && is_made) {
        position = add_window(table, series, start, end);
        if (position != NONE && keeps_events(meter)) {
            table->windows[position].kept = weir_kept_new(meter->aggregation);
            table->unique_bytes += weir_kept_bytes(table->windows[position].kept);
        }
    }
    if (position != NONE)
        table->series[series].latest = position;
    else if (table->series[series].window_count == 0)
        remove_series(table, series);
    return position;
}

/* The fingerprint of a `unique` meter's text, and whether the window has none like it. */
static void look_unique(const struct weir_window_table *table, const struct window *window,
                        const struct weir_reading *reading, struct weir_window_change *change)
{
    change->unique = weir_fingerprint128(&table->secret, reading->unique_text);
    if (window->kept)
        change->is_new_unique = !weir_kept_has_unique(window->kept, change->unique);
    else
        change->is_new_unique = !window->unique || !weir_unique_set_has(window->unique, change->unique);
}

static void fill_record(const struct weir_meter *meter, const struct weir_reading *reading,
                        const struct weir_window_event *event, struct weir_window_change *change)
{
    change->record.id = event->id;
    change->record.time = event->time;
    change->record.offset = event->offset;
    if (meter->aggregation == WEIR_AGGREGATION_UNIQUE)
        change->record.unique = change->unique;
    else
        change->record.value = reading->value;
}

enum weir_prepared weir_window_table_prepare(struct weir_window_table *table, enum weir_window_step step,
                                             const struct weir_reading *reading, uint64_t hash,
                                             const struct weir_window_event *event,
                                             struct weir_window_change *ret_change)
{
    const struct weir_meter *meter = &table->catalog->meters[reading->meter];
    uint32_t series = find_series(table, reading, event->customer, hash);
    uint32_t position = find_window(table, meter, series, event->time, step != WEIR_WINDOW_UNDO);
    enum weir_prepared prepared = WEIR_PREPARED;

    if (position == NONE)
        return step == WEIR_WINDOW_UNDO ? WEIR_PREPARED_ABSENT : WEIR_PREPARED_FULL;
    const struct window *window = &table->windows[position];
    ret_change->window = position;
    ret_change->is_unpriced = window->flags & IS_UNPRICED;
    ret_change->after = window->total;
    ret_change->is_new_unique = false;
    ret_change->step = step;
    if (step == WEIR_WINDOW_VOID) {
        ret_change->after.retracted++;
    } else if (step == WEIR_WINDOW_UNDO) {
        ret_change->record.id = event->id;
        prepared = take_out_reading(meter, reading, window, event->id, &ret_change->after);
    } else {
        if (meter->aggregation == WEIR_AGGREGATION_UNIQUE)
            look_unique(table, window, reading, ret_change);
        if (!add_reading(meter, reading, event->time, event->offset, ret_change))
            prepared = WEIR_PREPARED_OVERFLOW;
        if (window->kept)
            fill_record(meter, reading, event, ret_change);
    }
    return prepared;
}

static void apply_kept(struct weir_window_table *table, struct window *window, const struct weir_window_change *change)
{
    table->unique_bytes -= weir_kept_bytes(window->kept);
    table->unique_count -= weir_kept_count(window->kept);
    if (change->step == WEIR_WINDOW_ADD)
        weir_kept_add(window->kept, &change->record);
    else if (change->step == WEIR_WINDOW_UNDO)
        weir_kept_remove(window->kept, change->record.id);
    table->unique_bytes += weir_kept_bytes(window->kept);
    table->unique_count += weir_kept_count(window->kept);
}

void weir_window_table_apply(struct weir_window_table *table, const struct weir_window_change *change)
{
    struct window *window = &table->windows[change->window];

    weir_check(weir_window_total_changes(&change->after) > weir_window_total_changes(&window->total));
    window->total = change->after;
    if (window->kept) {
        apply_kept(table, window, change);
    } else if (change->is_new_unique) {
        if (!window->unique)
            window->unique = weir_unique_set_new();
        else
            table->unique_bytes -= weir_unique_set_bytes(window->unique);
        weir_unique_set_add(window->unique, change->unique);
        table->unique_count++;
        table->unique_bytes += weir_unique_set_bytes(window->unique);
    }
    mark_changed(table, change->window);
}

/* 5. closing, forgetting, cutting */
enum weir_status weir_window_table_restore(struct weir_window_table *table, const struct weir_window *window,
                                           bool is_closed, struct weir_slice unique)
{
    struct weir_series parsed;
    struct weir_slice texts[WEIR_DIMENSIONS_MAX];

    weir_check(weir_series_parse(window->series_key, &parsed));
    const struct weir_meter *meter = weir_catalog_meter(table->catalog, parsed.meter);
    bool is_known = meter && meter->group_count == parsed.dimension_count;
    for (uint32_t i = 0; i < parsed.dimension_count; i++) {
        texts[i] = parsed.dimensions[i].text;
        is_known = is_known && weir_slice_equal(parsed.dimensions[i].name, meter->groups[i].name);
    }
    /* A meter that is gone from the catalog gets no more events, but its windows still close and are rated. */
    uint32_t index = is_known ? meter->index : UINT32_MAX;
    uint64_t hash = hash_series(weir_hash64(parsed.customer.data, parsed.customer.length, 0),
                                is_known ? table->meters[index] : 0, texts, parsed.dimension_count);
    uint32_t series = NONE;
    for (uint32_t at = (uint32_t)hash & table->series_index.mask; table->series_index.slots[at].position != NONE;
         at = (at + 1) & table->series_index.mask) {
        uint32_t position = table->series_index.slots[at].position;
        if (table->series[position].hash == hash && weir_slice_equal(series_key(table, position), window->series_key))
            series = position;
    }
    if (series == NONE)
        series = add_series(table, hash, index, window->series_key);
    weir_check(look_window(table, series, window->start) == NONE);
    uint32_t position = add_window(table, series, window->start, window->end);
    if (position == NONE)
        return WEIR_AGAIN;
    struct window *restored = &table->windows[position];
    restored->total = window->total;
    if (is_closed)
        restored->flags |= IS_CLOSED;
    if (weir_kept_is_mark(unique)) {
        restored->kept = weir_kept_new(is_known ? meter->aggregation : WEIR_AGGREGATION_COUNT);
        weir_kept_restore(restored->kept, unique);
        table->unique_count += weir_kept_count(restored->kept);
        table->unique_bytes += weir_kept_bytes(restored->kept);
    } else if (unique.length) {
        restored->unique = weir_unique_set_new();
        weir_unique_set_restore(restored->unique, unique);
        table->unique_count += weir_unique_set_count(restored->unique);
        table->unique_bytes += weir_unique_set_bytes(restored->unique);
    }
    return WEIR_OK;
}

void weir_window_table_close(struct weir_window_table *table, int64_t watermark)
{
    if (watermark <= table->closed_through)
        return;
    table->closed_through = watermark;
    for (; table->closed_groups < table->group_count && table->groups[table->closed_groups].end <= watermark;
         table->closed_groups++) {
        for (uint32_t at = table->groups[table->closed_groups].first; at != NONE;
             at = table->windows[at].next_in_group) {
            if (table->windows[at].flags & IS_CLOSED)
                continue; /* restored as closed */
            table->windows[at].flags |= IS_CLOSED;
            mark_changed(table, at);
        }
    }
}

void weir_window_table_forget(struct weir_window_table *table, int64_t end)
{
    size_t gone = 0;

    while (gone < table->closed_groups && table->groups[gone].end <= end) {
        for (uint32_t at = table->groups[gone].first, next; at != NONE; at = next) {
            next = table->windows[at].next_in_group;
            remove_window(table, at);
        }
        gone++;
    }
    if (gone == 0)
        return;
    table->group_count -= gone;
    table->closed_groups -= gone;
    if (gone > 0)
        memmove(table->groups, table->groups + gone, table->group_count * sizeof *table->groups);
}

size_t weir_window_table_changed(const struct weir_window_table *table)
{
    return table->changed_count;
}

void weir_window_table_take_changed(struct weir_window_table *table,
                                    void (*visit)(void *context, const struct weir_cut_window *window), void *context)
{
    for (size_t i = 0; i < table->changed_count; i++) {
        struct window *window = &table->windows[table->changed[i]];
        struct weir_cut_window cut = {
            .window = {.series_key = series_key(table, window->series),
                       .start = window->start,
                       .end = window_end(window),
                       .total = window->total},
            .is_closed = window->flags & IS_CLOSED,
        };
        if (window->kept)
            cut.unique = weir_kept_new_units(window->kept);
        else if (window->unique)
            cut.unique = weir_unique_set_new_texts(window->unique);
        visit(context, &cut);
        if (window->kept)
            weir_kept_mark_stored(window->kept);
        else if (window->unique)
            weir_unique_set_mark_stored(window->unique);
        window->flags &= ~(uint32_t)IS_CHANGED;
    }
    table->changed_count = 0;
}

/* The windows that are there, by series, in the order in which they were made (a counting sort). */
static void start_draining(struct weir_window_table *table)
{
    uint32_t *ends = weir_new_array((size_t)table->series_used + 1, sizeof *ends);

    table->drain = weir_new_array(table->window_count + 1, sizeof *table->drain);
    for (uint32_t i = 1; i < table->series_used; i++)
        ends[i] = ends[i - 1] + table->series[i].window_count;
    for (uint32_t i = table->windows_used; i-- > 1;)
        if (table->windows[i].series != NONE)
            table->drain[--ends[table->windows[i].series]] = i;
    free(ends);
}

size_t weir_window_table_drain(struct weir_window_table *table, size_t max, struct weir_window *ret_windows)
{
    enum { AHEAD = 8 };
    size_t count = 0;

    if (!table->drain)
        start_draining(table);
    for (; count < max && table->drained < table->window_count; table->drained++) {
        const struct window *window = &table->windows[table->drain[table->drained]];
        if (table->drained + AHEAD < table->window_count)
            __builtin_prefetch(&table->windows[table->drain[table->drained + AHEAD]]);
        ret_windows[count++] = (struct weir_window){.series_key = series_key(table, window->series),
                                                    .start = window->start,
                                                    .end = window_end(window),
                                                    .total = window->total};
    }
    return count;
}

uint64_t weir_window_table_count(const struct weir_window_table *table)
{
    return table->window_count;
}

uint64_t weir_window_table_uniques(const struct weir_window_table *table)
{
    return table->unique_count;
}

size_t weir_window_table_bytes(const struct weir_window_table *table)
{
    return ((size_t)table->series_index.mask + 1 + table->window_index.mask + 1) * sizeof(struct slot)
           + table->series_room * sizeof *table->series + table->windows_room * sizeof *table->windows
           + table->changed_room * sizeof *table->changed + table->group_room * sizeof *table->groups
           + table->unique_bytes;
}
