/* Series of the window table: interned while they have windows. */
#include "aggregator/window_table_internal.h"

/* Everything of the meter by which the same event would be counted otherwise, beside what is read from the event. */
uint64_t weir_window_hash_meter(const struct weir_meter *meter)
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

static inline bool is_same_8(const char *one, const char *other)
{
    uint64_t left, right;

    memcpy(&left, one, 8);
    memcpy(&right, other, 8);
    return left == right;
}

/* memcmp for what is mostly the same and mostly short. The last piece may overlap the one before. */
static inline bool is_same(const char *one, const char *other, size_t length)
{
    if (length >= 8) {
        for (size_t at = 0; at + 8 < length; at += 8)
            if (!is_same_8(one + at, other + at))
                return false;
        return is_same_8(one + length - 8, other + length - 8);
    }
    for (size_t at = 0; at < length; at++)
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
            uint32_t room = table->series_room ? table->series_room * 2 : FIRST_SLOTS;
            table->series = weir_resize_table(table->series, table->series_room, room, sizeof *table->series);
            table->series_room = room;
        }
        position = table->series_used++;
    }
    table->series[position] = (struct series){.key = weir_series_keys_add(table->keys, key),
                                              .tag = index_tag(hash),
                                              .key_length = key.length & (KEY_LENGTH_LIMIT - 1),
                                              .meter = meter};
    index_add(&table->series_index, hash, position);
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

/* The series, unless another one has the same tag: then the wait is only longer. NONE: it is not there yet. */
static inline uint32_t guess(const struct weir_window_table *table, const struct weir_reading *reading)
{
    const struct index *index = &table->series_index;
    uint32_t tag = index_tag(reading->series);

    for (uint32_t at = index_home(index, reading->series); index->slots[at].position != NONE;
         at = index_next(index, at))
        if (index->slots[at].tag == tag)
            return index->slots[at].position;
    return NONE;
}

/* The texts of the `unique` window that the reading is most likely counted into. */
static inline void prefetch_texts(const struct weir_window_table *table, const struct weir_reading *reading)
{
    uint32_t latest = table->series[reading->place].latest;

    if (latest != NONE && window_unique(&table->windows[latest]))
        weir_unique_set_prefetch(table->windows[latest].unique, reading->unique);
}

void weir_window_table_prefetch(const struct weir_window_table *table, struct weir_reading *readings, uint32_t count,
                                int stage)
{
    const struct index *index = &table->series_index;
    const struct weir_reading *end = readings + count;

    if (stage == 0) {
        for (struct weir_reading *reading = readings; reading < end; reading++)
            __builtin_prefetch(&index->slots[index_home(index, reading->series)]);
    } else if (stage == 1) {
        for (struct weir_reading *reading = readings; reading < end; reading++) {
            reading->place = guess(table, reading);
            __builtin_prefetch(&table->series[reading->place]);
        }
    } else if (stage == 2) {
        for (struct weir_reading *reading = readings; reading < end; reading++) {
            const struct series *series = &table->series[reading->place];
            if (reading->place == NONE)
                continue;
            __builtin_prefetch(series->key);
            __builtin_prefetch(series->key + 32); /* most keys are longer than that, half of those cross a line */
            __builtin_prefetch(&table->windows[series->latest], 1);
        }
    } else {
        for (struct weir_reading *reading = readings; reading < end; reading++)
            if (reading->unique_text.data && reading->place != NONE)
                prefetch_texts(table, reading);
    }
}

/* Where prefetch has found it; others may have gone and come since. */
static bool is_at(const struct weir_window_table *table, uint32_t place, const struct weir_reading *reading,
                  struct weir_slice customer)
{
    const struct series *series = &table->series[place];

    return place != NONE && series->key_length > 0 && series->tag == index_tag(reading->series)
           && is_series(table, series, reading->meter, customer, reading->dimensions);
}

uint32_t weir_window_find_series(struct weir_window_table *table, const struct weir_reading *reading,
                                 struct weir_slice customer)
{
    const struct weir_meter *meter = &table->catalog->meters[reading->meter];
    const struct index *index = &table->series_index;
    uint64_t hash = reading->series;

    if (is_at(table, reading->place, reading, customer))
        return reading->place;
    for (uint32_t at = index_home(index, hash); index->slots[at].position != NONE; at = index_next(index, at)) {
        uint32_t position = index->slots[at].position;
        if (index->slots[at].tag == index_tag(hash)
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

void weir_window_remove_series(struct weir_window_table *table, uint32_t position)
{
    struct series *series = &table->series[position];

    index_remove(&table->series_index, series->tag, position);
    weir_series_keys_remove(table->keys, series->key, series->key_length);
    *series = (struct series){.latest = table->free_series};
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
    uint32_t index = is_known ? meter->index : UINT32_MAX;
    uint64_t hash = hash_series(weir_hash64(parsed.customer.data, parsed.customer.length, 0),
                                is_known ? table->meters[index] : 0, texts, parsed.dimension_count);
    *ret_meter = is_known ? meter : NULL;
    const struct index *slots = &table->series_index;
    for (uint32_t at = index_home(slots, hash); slots->slots[at].position != NONE; at = index_next(slots, at)) {
        uint32_t position = slots->slots[at].position;
        if (slots->slots[at].tag == index_tag(hash) && weir_slice_equal(series_key(table, position), key))
            return position;
    }
    return add_series(table, hash, index, key);
}
