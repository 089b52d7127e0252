#include "aggregator/kept.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/unique_set.h"
#include "common/status.h"

enum { UNITS_A_CHANGE = 3, CHANGE_BYTES = UNITS_A_CHANGE * WEIR_UNIQUE_BYTES, FIRST_RECORDS = 8 };

static const char mark[WEIR_UNIQUE_BYTES] = {'w', 'e', 'i', 'r', ' ', 'k', 'e', 'e',
                                             'p', 's', ' ', 'e', 'v', 'e', 'n', 't'};

static_assert(sizeof(struct weir_decimal) == 16 && sizeof(struct weir_hash128) == 16, "stored as they are");

struct weir_kept {
    struct weir_kept_record *records; /* in no order */
    size_t count, room;
    struct weir_unique_set *uniques; /* of all records' fingerprints; NULL: not a `unique` window */
    char *fresh;                     /* units */
    size_t fresh_length, fresh_room;
};

static void put_fresh(struct weir_kept *kept, const void *bytes, size_t length)
{
    if (kept->fresh_room - kept->fresh_length < length) {
        kept->fresh_room = kept->fresh_room ? kept->fresh_room * 2 : 4 * CHANGE_BYTES;
        kept->fresh = weir_resize(kept->fresh, kept->fresh_room, 1);
    }
    memcpy(kept->fresh + kept->fresh_length, bytes, length);
    kept->fresh_length += length;
}

static void put_change(struct weir_kept *kept, const struct weir_kept_record *record, bool is_taken_out)
{
    /* 16 value or fingerprint | 8 time | 8 offset | 8 id | 8: 0 added, 1 taken out; little endian */
    unsigned char bytes[CHANGE_BYTES];
    uint64_t sign = is_taken_out;

    memcpy(bytes, &record->unique, 16);
    memcpy(bytes + 16, &record->time, 8);
    memcpy(bytes + 24, &record->offset, 8);
    memcpy(bytes + 32, &record->id, 8);
    memcpy(bytes + 40, &sign, 8);
    put_fresh(kept, bytes, sizeof bytes);
}

struct weir_kept *weir_kept_new(enum weir_aggregation aggregation)
{
    struct weir_kept *kept = weir_new(sizeof *kept);
    if (aggregation == WEIR_AGGREGATION_UNIQUE)
        kept->uniques = weir_unique_set_new();
    put_fresh(kept, mark, sizeof mark);
    return kept;
}

struct weir_kept *weir_kept_free(struct weir_kept *kept)
{
    if (kept) {
        weir_unique_set_free(kept->uniques);
        free(kept->records);
        free(kept->fresh);
    }
    free(kept);
    return NULL;
}

/* 1. records */

/* From the end: what is taken out came mostly not long ago. */
static struct weir_kept_record *find(const struct weir_kept *kept, uint64_t id)
{
    for (size_t i = kept->count; i-- > 0;)
        if (kept->records[i].id == id)
            return &kept->records[i];
    return NULL;
}

bool weir_kept_has_id(const struct weir_kept *kept, uint64_t id)
{
    return find(kept, id) != NULL;
}

uint64_t weir_kept_count(const struct weir_kept *kept)
{
    return kept->count;
}

static bool is_same_text(struct weir_hash128 a, struct weir_hash128 b)
{
    return a.low == b.low && a.high == b.high;
}

bool weir_kept_has_unique(const struct weir_kept *kept, struct weir_hash128 unique)
{
    return kept->uniques && weir_unique_set_has(kept->uniques, unique);
}

static void add_unique(struct weir_kept *kept, struct weir_hash128 unique)
{
    if (!kept->uniques)
        return;
    weir_unique_set_add(kept->uniques, unique);
    weir_unique_set_mark_stored(kept->uniques);
}

static void insert(struct weir_kept *kept, const struct weir_kept_record *record)
{
    if (kept->count == kept->room) {
        kept->room = kept->room ? kept->room * 2 : FIRST_RECORDS;
        kept->records = weir_resize(kept->records, kept->room, sizeof *kept->records);
    }
    kept->records[kept->count++] = *record;
    add_unique(kept, record->unique);
}

static void take_out(struct weir_kept *kept, struct weir_kept_record *record)
{
    struct weir_hash128 unique = record->unique;
    bool is_left = false;

    *record = kept->records[--kept->count];
    for (size_t i = 0; kept->uniques && i < kept->count && !is_left; i++)
        is_left = is_same_text(kept->records[i].unique, unique);
    if (is_left || !kept->uniques)
        return;
    weir_unique_set_free(kept->uniques);
    kept->uniques = weir_unique_set_new();
    for (size_t i = 0; i < kept->count; i++)
        add_unique(kept, kept->records[i].unique);
}

void weir_kept_add(struct weir_kept *kept, const struct weir_kept_record *record)
{
    insert(kept, record);
    put_change(kept, record, false);
}

void weir_kept_remove(struct weir_kept *kept, uint64_t id)
{
    struct weir_kept_record *record = find(kept, id);

    weir_check(record != NULL);
    put_change(kept, record, true);
    take_out(kept, record);
}

/* 2. totals */
static bool is_later(const struct weir_kept_record *record, const struct weir_window_total *total)
{
    return record->time != total->latest_time ? record->time > total->latest_time
                                              : record->offset > total->latest_offset;
}

static void fold(enum weir_aggregation aggregation, const struct weir_kept_record *record,
                 struct weir_window_total *total)
{
    bool is_first = total->events++ == 0;
    bool is_taken = is_first;

    if (aggregation == WEIR_AGGREGATION_MIN)
        is_taken = is_first || weir_decimal_compare(record->value, total->value) < 0;
    else if (aggregation == WEIR_AGGREGATION_MAX)
        is_taken = is_first || weir_decimal_compare(record->value, total->value) > 0;
    else if (aggregation == WEIR_AGGREGATION_LATEST)
        is_taken = is_first || is_later(record, total);
    if (!is_taken)
        return;
    total->value = record->value;
    if (aggregation == WEIR_AGGREGATION_LATEST) {
        total->latest_time = record->time;
        total->latest_offset = record->offset;
    }
}

void weir_kept_total_without(const struct weir_kept *kept, enum weir_aggregation aggregation, uint64_t id,
                             struct weir_window_total *total)
{
    const struct weir_kept_record *gone = find(kept, id);
    struct weir_window_total rest = {.retracted = total->retracted};
    bool is_left = false;

    weir_check(gone != NULL);
    for (size_t i = 0; i < kept->count; i++) {
        if (&kept->records[i] == gone)
            continue;
        is_left = is_left || is_same_text(kept->records[i].unique, gone->unique);
        fold(aggregation, &kept->records[i], &rest);
    }
    if (aggregation == WEIR_AGGREGATION_UNIQUE) {
        rest.value = total->value;
        if (!is_left)
            weir_check(weir_decimal_subtract(rest.value, weir_decimal_of(1), &rest.value));
    }
    *total = rest;
}

/* 3. the store */
bool weir_kept_is_mark(struct weir_slice units)
{
    return units.length >= sizeof mark && memcmp(units.data, mark, sizeof mark) == 0;
}

void weir_kept_restore(struct weir_kept *kept, struct weir_slice units)
{
    weir_check(weir_kept_is_mark(units) && (units.length - sizeof mark) % CHANGE_BYTES == 0);
    for (uint32_t at = sizeof mark; at < units.length; at += CHANGE_BYTES) {
        const char *bytes = units.data + at;
        struct weir_kept_record record;
        uint64_t sign;
        memcpy(&record.unique, bytes, 16);
        memcpy(&record.time, bytes + 16, 8);
        memcpy(&record.offset, bytes + 24, 8);
        memcpy(&record.id, bytes + 32, 8);
        memcpy(&sign, bytes + 40, 8);
        if (!sign) {
            insert(kept, &record);
            continue;
        }
        struct weir_kept_record *known = find(kept, record.id);
        weir_check(known != NULL);
        take_out(kept, known);
    }
    kept->fresh_length = 0;
}

struct weir_slice weir_kept_new_units(const struct weir_kept *kept)
{
    return weir_slice_of(kept->fresh, kept->fresh_length);
}

void weir_kept_mark_stored(struct weir_kept *kept)
{
    kept->fresh_length = 0;
}

size_t weir_kept_bytes(const struct weir_kept *kept)
{
    return sizeof *kept + kept->room * sizeof *kept->records + kept->fresh_room
           + (kept->uniques ? weir_unique_set_bytes(kept->uniques) : 0);
}
