/* Series of the window table: interned while they have windows. */
#include "aggregator/window_table_internal.h"
#include "common/hash_short.h"

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

void weir_window_learn_meter(const struct weir_meter *meter, struct meter *ret_meter)
{
    bool adds_up = meter->aggregation == WEIR_AGGREGATION_COUNT || meter->aggregation == WEIR_AGGREGATION_SUM
                   || meter->aggregation == WEIR_AGGREGATION_AVG;
    uint32_t customer_at = (uint32_t)sizeof(uint16_t) + meter->key.length;

    *ret_meter = (struct meter){
        .hash = hash_meter(meter),
        .customer_at = customer_at,
        .group_at = customer_at + (uint32_t)(sizeof(uint16_t) + 1 + sizeof(uint16_t))
                    + (meter->group_count ? meter->groups[0].name.length : 0),
        .group_count = (uint8_t)meter->group_count,
        .aggregation = (uint8_t)meter->aggregation,
        .window = (uint8_t)meter->window,
        .plain = meter->aggregation == WEIR_AGGREGATION_COUNT ? COUNTS
                 : adds_up                                    ? SUMS
                                                              : 0,
        .has_more = meter->aggregation == WEIR_AGGREGATION_UNIQUE || meter->aggregation == WEIR_AGGREGATION_LATEST,
        .keeps_events = meter->is_retractable && !adds_up,
        .is_retractable = meter->is_retractable,
    };
}

void weir_window_make_series_room(struct weir_window_table *table)
{
    uint32_t room = table->series_room ? table->series_room * 2 : FIRST_SLOTS;

    table->series = weir_resize_table(table->series, table->series_room, room, sizeof *table->series);
    table->series_room = room;
}

/* relative: a series of the same customer; NONE: none is known. */
static uint32_t add_series(struct weir_window_table *table, uint64_t hash, uint32_t meter, struct weir_slice key,
                           uint32_t relative)
{
    uint32_t position = table->free_series;

    if (position != NONE) {
        table->free_series = table->series[position].latest;
    } else {
        if (table->series_used >= table->series_room)
            weir_window_make_series_room(table);
        position = table->series_used++;
    }
    table->series[position] = (struct series){.key = weir_series_keys_add(table->keys, key),
                                              .tag = index_tag(hash),
                                              .key_length = key.length & (KEY_LENGTH_LIMIT - 1),
                                              .meter = meter,
                                              .customer = relative != NONE ? table->series[relative].customer
                                                          : table->customers < NO_NUMBER - 1 ? ++table->customers
                                                                                             : NO_NUMBER};
    index_add(&table->series_index, hash, position);
    return position;
}

/* The hash of a series: the customer's, mixed with meter (by hash_meter; 0: gone from the catalog) and texts. */
static inline uint64_t hash_series(uint64_t customer_hash, uint64_t meter, const struct weir_slice texts[],
                                   uint32_t count)
{
    uint64_t hash = (customer_hash + meter) * UINT64_C(0xD6E8FEB86659FD93);

    hash ^= hash >> 32;
    for (uint32_t i = 0; i < count; i++)
        hash = weir_hash64_short(texts[i], hash);
    return hash;
}

/* What the reading adds, as a number. */
static inline uint64_t hash_value(uint8_t aggregation, const struct weir_reading *reading)
{
    if (aggregation == WEIR_AGGREGATION_COUNT)
        return 0;
    if (aggregation == WEIR_AGGREGATION_UNIQUE)
        return weir_hash64(reading->unique_text.data, reading->unique_text.length, 0);
    return (uint64_t)reading->value.e12 + (uint64_t)(reading->value.e12 >> 64) * UINT64_C(0x9E3779B97F4A7C15);
}

uint64_t weir_window_table_hash(const struct weir_window_table *table, struct weir_reading *readings, uint32_t count,
                                uint64_t customer_hash, const struct weir_hash_key *secret, bool *ret_is_retractable)
{
    const struct meter *meters = table->meters;
    bool is_retractable = true;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct weir_reading *reading = &readings[i];
        const struct meter *meter = &meters[reading->meter];
        uint64_t series = hash_series(customer_hash, meter->hash, reading->dimensions, meter->group_count);
        reading->place = NONE;
        reading->series = series;
        if (meter->aggregation == WEIR_AGGREGATION_UNIQUE)
            reading->unique = weir_fingerprint128(secret, reading->unique_text);
        else
            reading->unique_text.data = NULL;
        if (meter->is_retractable)
            sum += weir_hash_mix(series ^ hash_value(meter->aggregation, reading) * UINT64_C(0x9E3779B97F4A7C15));
        else
            is_retractable = false;
    }
    *ret_is_retractable = is_retractable;
    return sum;
}

/* The series, unless another one has the same tag: then the wait is only longer. NONE: it is not there yet. */
static inline uint32_t guess(const struct index *index, uint64_t hash)
{
    uint32_t tag = index_tag(hash), at = index_home(index, hash);
    struct slot slot = index->slots[at];

    while (__builtin_expect(slot.tag != tag && slot.position != NONE, 0))
        slot = index->slots[at = index_next(index, at)];
    return slot.position;
}

static void prefetch_slots(const struct weir_window_coming *event)
{
    const struct index *index = &event->table->series_index;
    const struct weir_reading *end = event->readings + event->count;

    for (const struct weir_reading *reading = event->readings; reading < end; reading++)
        __builtin_prefetch(&index->slots[index_home(index, reading->series)]);
}

static void prefetch_series(const struct weir_window_coming *event)
{
    const struct index *index = &event->table->series_index;
    const struct series *series = event->table->series;
    struct weir_reading *end = event->readings + event->count;

    for (struct weir_reading *reading = event->readings; reading < end; reading++) {
        reading->place = guess(index, reading->series);
        __builtin_prefetch(&series[reading->place]);
    }
}

static inline void prefetch_key(const struct series *series)
{
    __builtin_prefetch(series->key);
    __builtin_prefetch(series->key + 32); /* most keys are longer than that, half of those cross a line */
}

/* The text of the key is only read for the customer, once an event, and for dimensions. */
static void prefetch_windows(struct weir_window_coming *event)
{
    const struct weir_window_table *table = event->table;
    const struct series *all = table->series;
    const struct window *windows = table->windows;
    const struct meter *meters = table->meters;
    const struct weir_reading *reading = event->readings, *end = reading + event->count;
    bool has_more = false;

    prefetch_key(&all[reading->place]);
    for (; reading < end; reading++) {
        const struct series *series = &all[reading->place];
        if (meters[reading->meter].group_count > 0) {
            prefetch_key(series);
            __builtin_prefetch(reading->dimensions[0].data); /* mostly, another core has read it so far */
        }
        __builtin_prefetch(&windows[series->latest], 1);
        has_more |= meters[reading->meter].has_more;
    }
    event->has_more = has_more;
}

/* What `unique` and `latest` windows that the readings are most likely counted into have elsewhere. */
static void prefetch_more(const struct weir_window_coming *event)
{
    const struct weir_window_table *table = event->table;

    for (uint32_t i = 0; i < event->count; i++) {
        const struct weir_reading *reading = &event->readings[i];
        uint32_t position = table->series[reading->place].latest;
        const struct window *latest = &table->windows[position];
        if (!table->meters[reading->meter].has_more)
            continue;
        if (latest->flags & HAS_LATEST)
            __builtin_prefetch(&table->latest[position], 1);
        else if (reading->unique_text.data && window_unique(latest))
            weir_unique_set_prefetch(latest->unique, reading->unique);
    }
}

void weir_window_table_prefetch(struct weir_window_coming *events, size_t count, int stage)
{
    if (stage == 0) {
        for (size_t i = 0; i < count; i++)
            prefetch_slots(&events[i]);
    } else if (stage == 1) {
        for (size_t i = 0; i < count; i++)
            prefetch_series(&events[i]);
    } else if (stage == 2) {
        for (size_t i = 0; i < count; i++)
            prefetch_windows(&events[i]);
    } else {
        for (size_t i = 0; i < count; i++)
            if (events[i].has_more)
                prefetch_more(&events[i]);
    }
}

bool weir_window_has_groups_of(const struct weir_window_table *table, const struct series *series,
                               const struct weir_reading *reading, const struct weir_window_event *event)
{
    const struct meter *meter = &table->meters[reading->meter];
    const char *at = series->key + meter->group_at + event->customer.length;

    for (uint32_t i = 0;;) {
        uint16_t length;
        memcpy(&length, at, 2);
        if (length != reading->dimensions[i].length || !is_same_text(at + 2, reading->dimensions[i].data, length))
            return false;
        if (++i == meter->group_count)
            return true;
        at += 2 + length + 2 + table->catalog->meters[reading->meter].groups[i].name.length;
    }
}

uint32_t weir_window_find_series(struct weir_window_table *table, const struct weir_reading *reading,
                                 struct weir_window_event *event)
{
    const struct weir_meter *meter = &table->catalog->meters[reading->meter];
    const struct index *index = &table->series_index;
    uint64_t hash = reading->series;

    for (uint32_t at = index_home(index, hash); index->slots[at].position != NONE; at = index_next(index, at)) {
        uint32_t position = index->slots[at].position;
        if (index->slots[at].tag == index_tag(hash) && is_series_of(table, &table->series[position], reading, event))
            return position;
    }
    struct weir_series series = {
        .meter = meter->key, .customer = event->customer, .dimension_count = meter->group_count};
    char key[WEIR_SERIES_KEY_MAX];
    for (uint32_t i = 0; i < meter->group_count; i++)
        series.dimensions[i] = (struct weir_dimension){meter->groups[i].name, reading->dimensions[i]};
    size_t length = weir_series_write(&series, key);
    return add_series(table, hash, reading->meter, weir_slice_of(key, length), event->series);
}

void weir_window_remove_series(struct weir_window_table *table, uint32_t position)
{
    struct series *series = &table->series[position];

    index_remove(&table->series_index, series->tag, position);
    weir_series_keys_remove(table->keys, series->key, series->key_length);
    *series = (struct series){.meter = NO_METER, .latest = table->free_series};
    table->free_series = position;
}

uint32_t weir_window_restore_series(struct weir_window_table *table, struct weir_slice key,
                                    const struct weir_meter **ret_meter)
{
    struct weir_series parsed;
    struct weir_slice texts[WEIR_DIMENSIONS_MAX];

    if (!weir_series_parse(key, &parsed))
        return NONE;
    const struct weir_meter *meter = weir_catalog_meter(table->catalog, parsed.meter);
    bool is_known = meter && meter->group_count == parsed.dimension_count;
    for (uint32_t i = 0; i < parsed.dimension_count; i++) {
        texts[i] = parsed.dimensions[i].text;
        is_known = is_known && weir_slice_equal(parsed.dimensions[i].name, meter->groups[i].name);
    }
    /* A meter that is gone from the catalog gets no more events, but its windows still close and are rated. */
    uint32_t index = is_known ? meter->index : NO_METER;
    uint64_t hash = hash_series(weir_hash64(parsed.customer.data, parsed.customer.length, 0),
                                is_known ? table->meters[index].hash : 0, texts, parsed.dimension_count);
    *ret_meter = is_known ? meter : NULL;
    const struct index *slots = &table->series_index;
    for (uint32_t at = index_home(slots, hash); slots->slots[at].position != NONE; at = index_next(slots, at)) {
        uint32_t position = slots->slots[at].position;
        if (slots->slots[at].tag == index_tag(hash) && weir_slice_equal(series_key(table, position), key))
            return position;
    }
    return add_series(table, hash, index, key, NONE);
}
