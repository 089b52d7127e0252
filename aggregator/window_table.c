#include "aggregator/window_table_internal.h"
#include "common/calendar.h"

enum { LINKS_A_WINDOW = 2 };

/* 1. the table */

static void make_window_room(struct weir_window_table *table)
{
    uint32_t room = table->windows_room ? table->windows_room * 2 : FIRST_SLOTS;

    table->windows = weir_resize_table(table->windows, table->windows_room, room, sizeof *table->windows);
    if (table->latest)
        table->latest = weir_resize_table(table->latest, table->windows_room, room, sizeof *table->latest);
    table->windows_room = room;
}

struct weir_window_table *weir_window_table_new(const struct weir_catalog *catalog, uint64_t limit, bool closes_at_once,
                                                const struct weir_unpriced_check *check)
{
    struct weir_window_table *table = weir_new(sizeof *table);

    weir_check(limit >= 1 && limit < UINT32_MAX);
    table->catalog = catalog;
    table->meters = weir_new_array(catalog->meter_count + 1, sizeof *table->meters);
    for (uint32_t i = 0; i < catalog->meter_count; i++)
        weir_window_learn_meter(&catalog->meters[i], &table->meters[i]);
    table->made = weir_new_array(catalog->meter_count + 1, sizeof *table->made);
    table->limit = limit;
    table->round = 1;
    table->closes_at_once = closes_at_once;
    table->is_linked = closes_at_once;
    table->keys = weir_series_keys_new();
    if (check)
        table->check = *check;
    index_start(&table->series_index);
    index_start(&table->window_index);
    table->priced_from = INT64_MIN;
    table->priced_to = WEIR_TIME_NEVER;
    table->priced_number = 1;
    weir_window_make_series_room(table);
    make_window_room(table);
    table->series[0] = (struct series){.meter = NO_METER};
    table->windows[0] = (struct window){.length_seconds = 0};
    table->series_used = table->windows_used = 1;
    return table;
}

struct weir_window_table *weir_window_table_free(struct weir_window_table *table)
{
    if (!table)
        return NULL;
    weir_series_keys_free(table->keys);
    for (uint32_t i = 1; i < table->windows_used; i++) {
        weir_unique_set_free(window_unique(&table->windows[i]));
        weir_kept_free(window_kept(&table->windows[i]));
    }
    free(table->series_index.slots);
    free(table->window_index.slots);
    (void)weir_resize_table(table->series, table->series_room, 0, sizeof *table->series);
    (void)weir_resize_table(table->windows, table->windows_room, 0, sizeof *table->windows);
    (void)weir_resize_table(table->latest, table->latest ? table->windows_room : 0, 0, sizeof *table->latest);
    free(table->groups);
    free(table->changed);
    free(table->drain);
    free(table->made);
    free(table->meters);
    free(table);
    return NULL;
}

/* Multipliers spread starts, which are multiples of a window's length, and series, which are numbered in a row. */
static uint64_t hash_window(uint32_t series, int64_t start)
{
    uint64_t hash = ((uint64_t)start + series * UINT64_C(0xD6E8FEB86659FD93)) * UINT64_C(0x9E3779B97F4A7C15);
    return (hash ^ hash >> 32) * UINT64_C(0xD6E8FEB86659FD93);
}

/* 2. windows */

/* The group of this end, made if it is not there. Ends come mostly in order, so that an insertion moves little; and new
 * windows mostly have the end of the one before. */
static struct group *find_group(struct weir_window_table *table, int64_t end)
{
    size_t at = table->last_group, after = table->group_count;

    if (table->closes_at_once)
        end = WEIR_TIME_NEVER;
    if (at < after && table->groups[at].end == end)
        return &table->groups[at];
    at = 0;
    if (after > 0 && table->groups[after - 1].end < end)
        at = after;
    while (at < after) {
        size_t middle = at + (after - at) / 2;
        if (table->groups[middle].end < end)
            at = middle + 1;
        else
            after = middle;
    }
    table->last_group = at;
    if (at < table->group_count && table->groups[at].end == end)
        return &table->groups[at];
    if (table->group_count == table->group_room) {
        table->group_room = table->group_room ? table->group_room * 2 : 64;
        table->groups = weir_resize(table->groups, table->group_room, sizeof *table->groups);
    }
    memmove(&table->groups[at + 1], &table->groups[at], (table->group_count - at) * sizeof *table->groups);
    table->group_count++;
    table->groups[at] = (struct group){.end = end};
    table->closed_groups += end <= table->closing_through; /* its windows are closed when they are made */
    return &table->groups[at];
}

static void index_waiting(struct weir_window_table *table)
{
    for (uint32_t i = 0; i < table->waiting_count; i++)
        index_add(&table->window_index, table->waiting[i].hash, table->waiting[i].position);
    table->waiting_count = 0;
}

/* Whoever puts it there at once waits for its slot to come from memory. */
static void index_window(struct weir_window_table *table, uint32_t position)
{
    const struct window *window = &table->windows[position];
    uint64_t hash = hash_window(window->series, window->start);

    if (table->waiting_count == WAITING_MAX)
        index_waiting(table);
    __builtin_prefetch(&table->window_index.slots[index_home(&table->window_index, hash)], 1);
    table->waiting[table->waiting_count++] = (struct waiting){hash, position};
}

/* Bounded input comes mostly in the order of time, so that few events look for a window before the latest; an index of
 * all the others is worth it only once following links has cost as much. */
static void index_links(struct weir_window_table *table)
{
    table->is_linked = false;
    for (uint32_t i = 1; i < table->windows_used; i++) {
        if (table->windows[i].series == NONE)
            continue; /* it was taken back */
        struct group *group = find_group(table, window_end(&table->windows[i]));
        if (table->series[table->windows[i].series].latest != i)
            index_window(table, i);
        table->windows[i].next_in_group = group->first;
        group->first = i;
        group->count++;
    }
}

/* The series' first window, from the latest back, that does not start after start. *ret_later: the one behind it. */
static uint32_t follow_links(struct weir_window_table *table, uint32_t series, int64_t start, uint32_t *ret_later)
{
    uint32_t at = table->series[series].latest;

    *ret_later = NONE;
    while (at != NONE && table->windows[at].start > start) {
        *ret_later = at;
        at = table->windows[at].earlier;
        table->walked++;
    }
    return at;
}

static void link_window(struct weir_window_table *table, uint32_t position)
{
    struct window *window = &table->windows[position];
    uint32_t later;

    window->earlier = follow_links(table, window->series, window->start, &later);
    if (later == NONE)
        table->series[window->series].latest = position;
    else
        table->windows[later].earlier = position;
}

static uint32_t look_by_links(struct weir_window_table *table, uint32_t series, int64_t start)
{
    uint32_t later, found = follow_links(table, series, start, &later);

    if (found != NONE && table->windows[found].start != start)
        found = NONE;
    if (table->walked > LINKS_A_WINDOW * (table->window_count + FIRST_SLOTS / LINKS_A_WINDOW))
        index_links(table);
    return found;
}

uint32_t weir_window_look(struct weir_window_table *table, uint32_t series, int64_t start)
{
    const struct index *index = &table->window_index;
    uint32_t latest = table->series[series].latest;

    if (latest != NONE && start >= table->windows[latest].start)
        return start == table->windows[latest].start ? latest : NONE;
    if (table->series[series].window_count == (latest != NONE))
        return NONE;
    if (table->is_linked)
        return look_by_links(table, series, start);
    index_waiting(table);
    uint64_t hash = hash_window(series, start);
    for (uint32_t at = index_home(index, hash); index->slots[at].position != NONE; at = index_next(index, at)) {
        if (index->slots[at].tag != index_tag(hash))
            continue;
        const struct window *window = &table->windows[index->slots[at].position];
        if (window->series == series && window->start == start)
            return index->slots[at].position;
    }
    return NONE;
}

/* A series whose windows have the length that its meter has now begins with its first one to have a latest; a window of
 * another length ends that. So none of them starts after the latest, and none is in the index and the latest too. */
static void place_window(struct weir_window_table *table, uint32_t position, bool is_regular)
{
    struct window *window = &table->windows[position];
    struct series *series = &table->series[window->series];
    uint32_t latest = series->latest;

    if (table->is_linked) {
        link_window(table, position);
    } else if (series->window_count == 0 && is_regular) {
        series->latest = position;
    } else if (latest != NONE && is_regular && window->start > table->windows[latest].start) {
        index_window(table, latest);
        series->latest = position;
    } else {
        if (latest != NONE && !is_regular) {
            index_window(table, latest);
            series->latest = NONE;
        }
        index_window(table, position);
    }
    series->window_count++;
}

void weir_window_set_latest(struct weir_window_table *table, uint32_t position, struct latest latest)
{
    if (!table->latest)
        table->latest = weir_resize_table(NULL, 0, table->windows_room, sizeof *table->latest);
    table->windows[position].flags = (table->windows[position].flags & ~(uint32_t)PLAIN) | HAS_LATEST;
    table->latest[position] = latest;
}

/* Asking costs as much as making the window, and nearly always the answer is the same for all of them: so it is kept,
 * where the window has a price, as one span of time that the answers of many series have in common. */
static bool finds_no_price(struct weir_window_table *table, uint32_t position, int64_t start)
{
    struct series *series = &table->series[position];
    int64_t from, to;

    if (series->priced == table->priced_number && start >= table->priced_from && start < table->priced_to)
        return false;
    if (table->check.is_unpriced(table->check.context, series_key(table, position), start, &from, &to))
        return true;
    int64_t later = from > table->priced_from ? from : table->priced_from;
    int64_t sooner = to < table->priced_to ? to : table->priced_to;
    if (later >= sooner) { /* another time: from here on that one is kept */
        if (table->priced_number == PRICED_NUMBERS)
            return false;
        table->priced_number++;
        later = from;
        sooner = to;
    }
    table->priced_from = later;
    table->priced_to = sooner;
    series->priced = table->priced_number & PRICED_NUMBERS;
    return false;
}

/* NONE: the limit is reached. */
uint32_t weir_window_add(struct weir_window_table *table, uint32_t series, int64_t start, int64_t end, bool is_regular)
{
    uint32_t position = table->free_window;

    if (table->window_count == table->limit)
        return NONE;
    if (position != NONE) {
        table->free_window = table->windows[position].next_in_group;
    } else {
        if (table->windows_used >= table->windows_room)
            make_window_room(table);
        position = table->windows_used++;
    }
    uint32_t meter = table->series[series].meter, plain = meter == NO_METER ? 0 : table->meters[meter].plain;
    table->windows[position] =
        (struct window){.start = start,
                        .series = series,
                        .length_seconds = (uint32_t)((end - start) / WEIR_SECOND),
                        .flags = (uint16_t)(plain | (end <= table->closing_through ? IS_CLOSED : 0))};
    if (!table->is_linked) {
        struct group *group = find_group(table, end);
        table->windows[position].next_in_group = group->first;
        group->first = position;
        group->count++;
    }
    place_window(table, position, is_regular);
    table->window_count++;
    if (table->check.is_unpriced && finds_no_price(table, series, start))
        table->windows[position].flags |= IS_UNPRICED;
    return position;
}

static void unindex_window(struct weir_window_table *table, uint32_t position)
{
    const struct window *window = &table->windows[position];

    index_waiting(table);
    index_remove(&table->window_index, index_tag(hash_window(window->series, window->start)), position);
}

/* Nothing leads to it any more. */
static void free_window(struct weir_window_table *table, uint32_t position)
{
    struct window *window = &table->windows[position];

    if (--table->series[window->series].window_count == 0)
        weir_window_remove_series(table, window->series);
    if (window_unique(window)) {
        table->unique_bytes -= weir_unique_set_bytes(window->unique);
        table->unique_count -= weir_unique_set_count(window->unique);
    }
    if (window_kept(window)) {
        table->unique_bytes -= weir_kept_bytes(window->kept);
        table->unique_count -= weir_kept_count(window->kept);
    }
    weir_unique_set_free(window_unique(window));
    weir_kept_free(window_kept(window));
    *window = (struct window){.next_in_group = table->free_window};
    table->free_window = position;
    table->window_count--;
}

static void remove_window(struct weir_window_table *table, uint32_t position)
{
    struct window *window = &table->windows[position];
    struct series *series = &table->series[window->series];

    weir_check(!(window->flags & IS_CHANGED) && !table->is_linked);
    if (series->latest == position)
        series->latest = NONE;
    else
        unindex_window(table, position);
    free_window(table, position);
}

/* A group goes with its last window, as if it had never been. */
static void ungroup_window(struct weir_window_table *table, uint32_t position)
{
    struct group *group = find_group(table, window_end(&table->windows[position]));
    uint32_t *link = &group->first;

    while (*link != position)
        link = &table->windows[*link].next_in_group;
    *link = table->windows[position].next_in_group;
    if (--group->count > 0)
        return;
    size_t at = (size_t)(group - table->groups);
    table->group_count--;
    table->closed_groups -= at < table->closed_groups;
    memmove(group, group + 1, (table->group_count - at) * sizeof *group);
}

void weir_window_unmake(struct weir_window_table *table, struct made made)
{
    struct window *window = &table->windows[made.position];
    struct series *series = &table->series[window->series];

    weir_check(!(window->flags & IS_CHANGED) && window->events + window->retracted == 0);
    if (table->is_linked) {
        uint32_t *link = &series->latest;
        while (*link != made.position)
            link = &table->windows[*link].earlier;
        *link = window->earlier;
    } else {
        ungroup_window(table, made.position);
        if (series->latest != made.position) {
            unindex_window(table, made.position);
        } else {
            series->latest = made.latest;
            if (made.latest != NONE)
                unindex_window(table, made.latest);
        }
    }
    free_window(table, made.position);
}

void weir_window_mark_changed(struct weir_window_table *table, uint32_t position)
{
    table->windows[position].flags |= IS_CHANGED;
    if (table->closes_at_once)
        return; /* there are no cuts */
    if (table->changed_count == table->changed_room) {
        table->changed_room = table->changed_room ? table->changed_room * 2 : FIRST_SLOTS;
        table->changed = weir_resize(table->changed, table->changed_room, sizeof *table->changed);
    }
    table->changed[table->changed_count++] = position;
}

/* 3. closing, forgetting, cutting */

static bool is_regular(const struct weir_meter *meter, const struct weir_window *window)
{
    int64_t start, end;

    if (!meter)
        return false;
    weir_window_of(meter->window, window->start, &start, &end);
    return window->start == start && window->end == end;
}

enum weir_status weir_window_table_restore(struct weir_window_table *table, const struct weir_window *window,
                                           bool is_closed, struct weir_slice unique)
{
    const struct weir_meter *meter;
    uint32_t series = weir_window_restore_series(table, window->series_key, &meter);

    weir_check(!table->closes_at_once);
    if (series == NONE)
        return WEIR_REJECT;
    weir_check(weir_window_look(table, series, window->start) == NONE);
    uint32_t position = weir_window_add(table, series, window->start, window->end, is_regular(meter, window));
    if (position == NONE)
        return WEIR_AGAIN;
    struct window *restored = &table->windows[position];
    window_set_total(table, position, &window->total);
    if (is_closed)
        restored->flags |= IS_CLOSED;
    if (weir_kept_is_mark(unique)) {
        window_keep_events(restored, meter ? meter->aggregation : WEIR_AGGREGATION_COUNT);
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

/* false: no more before the next cut. */
static bool close_some(struct weir_window_table *table, const struct group *group, uint32_t most)
{
    uint32_t at = table->is_half_closed ? table->closing : group->first;

    for (; at != NONE; at = table->windows[at].next_in_group) {
        struct window *window = &table->windows[at];
        if (window->flags & IS_CLOSED)
            continue; /* restored as closed, or made since it was due */
        if (!(window->flags & IS_CHANGED)) {
            if (table->closed >= most)
                break;
            table->closed++;
            weir_window_mark_changed(table, at);
        }
        window->flags |= IS_CLOSED;
    }
    table->is_half_closed = at != NONE;
    table->closing = at;
    return at == NONE;
}

int64_t weir_window_table_close(struct weir_window_table *table, int64_t watermark, uint32_t least)
{
    enum { SHARE = 16 };

    for (; table->closed_groups < table->group_count; table->closed_groups++) {
        const struct group *group = &table->groups[table->closed_groups];
        if (group->end > watermark)
            break;
        bool is_last = table->closed_groups + 1 == table->group_count || group[1].end > watermark;
        uint32_t most = !is_last ? UINT32_MAX : group->count / SHARE > least ? group->count / SHARE : least;
        table->closing_through = group->end;
        if (!close_some(table, group, most))
            return group->end - 1;
    }
    if (watermark > table->closing_through)
        table->closing_through = watermark;
    return watermark;
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

/* As it goes into a cut, which tells its series key from then on. Neither the series nor its key is looked at where it
 * was told before: a cut's windows come in no order, so that each look would wait for memory. */
static struct weir_cut_window tell_window(struct weir_window_table *table, uint32_t position, struct weir_slice unique)
{
    struct window *window = &table->windows[position];
    bool is_closed = window->flags & IS_CLOSED;
    bool is_told = window->told == table->round && !is_closed && unique.length == 0;

    window->told = table->round;
    return (struct weir_cut_window){
        .window = {.series_key = is_told ? weir_slice_of(NULL, 0) : series_key(table, window->series),
                   .start = window->start,
                   .end = window_end(window),
                   .total = window_total(table, position)},
        .number = is_closed ? 0 : position,
        .is_closed = is_closed,
        .unique = unique,
    };
}

void weir_window_table_begin_round(struct weir_window_table *table)
{
    if (++table->round == 0)
        table->round = 1;
}

uint64_t weir_window_table_open(const struct weir_window_table *table)
{
    uint64_t open = 0;

    for (size_t i = table->closed_groups; i < table->group_count; i++)
        open += table->groups[i].count;
    return open;
}

uint32_t weir_window_table_take_unchanged(struct weir_window_table *table, uint32_t place, size_t max,
                                          void (*visit)(void *context, const struct weir_cut_window *window),
                                          void *context)
{
    enum { LOOKS = 16, LOOKS_LEAST = 1024 }; /* closed windows, which may be many more, lie between the open ones */
    size_t looks = LOOKS_LEAST + LOOKS * max;

    for (; place < table->windows_used && max > 0 && looks > 0; place++, looks--) {
        const struct window *window = &table->windows[place];
        if (window->series == NONE || window->flags & (IS_CLOSED | IS_CHANGED))
            continue;
        struct weir_cut_window cut = tell_window(table, place, weir_slice_of(NULL, 0));
        visit(context, &cut);
        max--;
    }
    return place < table->windows_used ? place : 0;
}

void weir_window_table_take_changed(struct weir_window_table *table,
                                    void (*visit)(void *context, const struct weir_cut_window *window), void *context)
{
    for (size_t i = 0; i < table->changed_count; i++) {
        struct window *window = &table->windows[table->changed[i]];
        struct weir_slice unique = {0};
        if (window_kept(window))
            unique = weir_kept_new_units(window->kept);
        else if (window->unique)
            unique = weir_unique_set_new_texts(window->unique);
        struct weir_cut_window cut = tell_window(table, table->changed[i], unique);
        visit(context, &cut);
        if (window_kept(window))
            weir_kept_mark_stored(window->kept);
        else if (window->unique)
            weir_unique_set_mark_stored(window->unique);
        window->flags &= ~(uint32_t)IS_CHANGED;
    }
    table->changed_count = 0;
    table->closed = 0;
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
           + (table->latest ? table->windows_room * sizeof *table->latest : 0) + weir_series_keys_bytes(table->keys)
           + table->changed_room * sizeof *table->changed + table->group_room * sizeof *table->groups
           + table->unique_bytes;
}
