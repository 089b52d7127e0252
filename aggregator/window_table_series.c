/* Series of the window table: interned while they have windows. */
#include "aggregator/window_table_internal.h"

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

    *ret_meter = (struct meter){
        .hash = hash_meter(meter),
        .customer_at = (uint32_t)sizeof(uint16_t) + meter->key.length,
        .group_count = (uint8_t)meter->group_count,
        .aggregation = (uint8_t)meter->aggregation,
        .keeps_events = meter->is_retractable && !adds_up,
    };
}

/* relative: a series of the same customer; NONE: none is known. */
static uint32_t add_series(struct weir_window_table *table, uint64_t hash, uint32_t meter, struct weir_slice key,
                           uint32_t relative)
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
                                              .meter = meter,
                                              .customer = relative != NONE ? table->series[relative].customer
                                                          : table->customers < NO_NUMBER ? table->customers++
                                                                                         : NO_NUMBER};
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

void weir_window_table_hash(const struct weir_window_table *table, struct weir_reading *readings, uint32_t count,
                            uint64_t customer_hash)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct meter *meter = &table->meters[readings[i].meter];
        readings[i].series = hash_series(customer_hash, meter->hash, readings[i].dimensions, meter->group_count);
    }
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

/* The text of the key is only read for the customer, once an event, and for dimensions. */
static inline bool prefetch_windows(const struct weir_window_table *table, const struct weir_reading *readings,
                                    uint32_t count)
{
    bool has_texts = false;

    for (uint32_t i = 0; i < count; i++) {
        const struct series *series = &table->series[readings[i].place];
        if (readings[i].place == NONE)
            continue;
        if (i == 0 || table->meters[readings[i].meter].group_count > 0) {
            __builtin_prefetch(series->key);
            __builtin_prefetch(series->key + 32); /* most keys are longer than that, half of those cross a line */
        }
        __builtin_prefetch(&table->windows[series->latest], 1);
        has_texts = has_texts || readings[i].unique_text.data;
    }
    return has_texts;
}

bool weir_window_table_prefetch(const struct weir_window_table *table, struct weir_reading *readings, uint32_t count,
                                int stage)
{
    const struct index *index = &table->series_index;

    if (stage == 0) {
        for (uint32_t i = 0; i < count; i++)
            __builtin_prefetch(&index->slots[index_home(index, readings[i].series)]);
    } else if (stage == 1) {
        for (uint32_t i = 0; i < count; i++) {
            readings[i].place = guess(table, &readings[i]);
            __builtin_prefetch(&table->series[readings[i].place]);
        }
    } else if (stage == 2) {
        return prefetch_windows(table, readings, count);
    } else {
        for (uint32_t i = 0; i < count; i++)
            if (readings[i].unique_text.data && readings[i].place != NONE)
                prefetch_texts(table, &readings[i]);
    }
    return false;
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
