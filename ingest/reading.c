#include "ingest/reading.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* A type's first and last eight bytes, which may overlap; of a shorter one all, and 0. */
struct ends {
    uint64_t left, right;
};

/* Meters of one event type: a run of the sorted list. */
struct type_meters {
    struct weir_slice type;
    struct ends ends;
    uint32_t first;
    uint32_t count; /* 0: an empty slot of the table */
};

/* What has been found out about the value at a path, for the event at hand: several meters may read the same. (Not the
 * text of a string, which is at hand already.) */
struct slot_state {
    uint64_t text_event;   /* the event that text and text_result belong to */
    uint64_t number_event; /* the event that number and number_result belong to */
    struct weir_slice text;
    struct weir_decimal number;
    enum weir_decimal_result text_result;
    enum weir_decimal_result number_result;
    char digits[WEIR_DECIMAL_TEXT_MAX]; /* of a number's canonical text */
};

struct weir_reader {
    const struct weir_catalog *catalog;
    const struct weir_meter **meters; /* by event type, then as in the catalog */
    struct type_meters *types;
    uint32_t types_mask;
    uint64_t event; /* a number for the event at hand, from 1 */
    struct slot_state slots[WEIR_PATHS_MAX];
};

enum { DIGITS_SAFE = 26 }; /* a whole number of so many digits is always in range */

/* 1. lifecycle */
static int by_type(const void *a, const void *b)
{
    const struct weir_meter *first = *(const struct weir_meter *const *)a;
    const struct weir_meter *second = *(const struct weir_meter *const *)b;
    int order = weir_slice_compare(first->event_type, second->event_type);
    return order ? order : (first->index > second->index) - (first->index < second->index);
}

static inline struct ends ends_of(struct weir_slice type)
{
    struct ends ends = {0, 0};

    if (__builtin_expect(type.length >= sizeof ends.left, 1)) {
        memcpy(&ends.left, type.data, sizeof ends.left);
        memcpy(&ends.right, type.data + type.length - sizeof ends.right, sizeof ends.right);
    } else {
        for (uint32_t i = 0; i < type.length; i++)
            ends.left = ends.left << 8 | (unsigned char)type.data[i];
    }
    return ends;
}

/* Of its length and its ends: a look-up must not cost more than what is done with the result, and what is in the table
 * is the catalog's, nobody's who sends events. */
static inline uint32_t type_hash(struct ends ends, uint32_t length)
{
    uint64_t hash = (ends.left ^ (ends.right << 23 | ends.right >> 41)) + length;
    return (uint32_t)((hash * UINT64_C(0x9E3779B97F4A7C15)) >> 32);
}

/* Most types are no longer than their ends. */
static inline bool is_type(const struct type_meters *known, struct ends ends, struct weir_slice type)
{
    return known->ends.left == ends.left && known->ends.right == ends.right && known->type.length == type.length
           && (type.length <= sizeof ends || memcmp(known->type.data, type.data, type.length) == 0);
}

static inline struct type_meters *type_slot(const struct weir_reader *reader, struct weir_slice type, struct ends ends)
{
    uint32_t at = type_hash(ends, type.length) & reader->types_mask;
    while (reader->types[at].count && !is_type(&reader->types[at], ends, type))
        at = (at + 1) & reader->types_mask;
    return &reader->types[at];
}

struct weir_reader *weir_reader_new(const struct weir_catalog *catalog)
{
    struct weir_reader *reader = weir_new(sizeof *reader);
    uint32_t size = 4;

    weir_check(catalog->path_count <= WEIR_PATHS_MAX);
    while (size < 4 * catalog->meter_count)
        size *= 2;
    reader->catalog = catalog;
    reader->meters = weir_new_array(catalog->meter_count + 1, sizeof(struct weir_meter *));
    reader->types = weir_new_array(size, sizeof *reader->types);
    reader->types_mask = size - 1;
    for (uint32_t i = 0; i < catalog->meter_count; i++)
        reader->meters[i] = &catalog->meters[i];
    qsort(reader->meters, catalog->meter_count, sizeof(struct weir_meter *), by_type);
    for (uint32_t i = 0; i < catalog->meter_count; i++) {
        struct weir_slice text = reader->meters[i]->event_type;
        struct ends ends = ends_of(text);
        struct type_meters *type = type_slot(reader, text, ends);
        if (type->count == 0)
            *type = (struct type_meters){text, ends, i, 0};
        type->count++;
    }
    return reader;
}

struct weir_reader *weir_reader_free(struct weir_reader *reader)
{
    if (!reader)
        return NULL;
    free(reader->meters);
    free(reader->types);
    free(reader);
    return NULL;
}

/* 2. texts and numbers */
static bool is_plain_digits(struct weir_slice text)
{
    for (uint32_t i = 0; i < text.length; i++)
        if ((unsigned char)(text.data[i] - '0') > 9)
            return false;
    return text.length <= DIGITS_SAFE; /* JSON allows no leading zero: canonical already */
}

/* The value as a decimal, which means nothing unless OK; for kinds NUMBER and STRING. */
static enum weir_decimal_result number_of(struct weir_reader *reader, const struct weir_event *event, uint32_t slot,
                                          struct weir_decimal *ret_number)
{
    struct slot_state *state = &reader->slots[slot];

    if (state->number_event != reader->event) {
        state->number_event = reader->event;
        state->number_result = weir_decimal_parse(event->values[slot].text, &state->number);
    }
    *ret_number = weir_decimal_by_words(&state->number);
    return state->number_result;
}

static void make_text(struct weir_reader *reader, const struct weir_event *event, uint32_t slot)
{
    const struct weir_value *value = &event->values[slot];
    struct slot_state *state = &reader->slots[slot];
    struct weir_decimal number;

    state->text_result = WEIR_DECIMAL_OK;
    switch (value->kind) {
    case WEIR_VALUE_TRUE:
        state->text = (struct weir_slice){"true", 4};
        return;
    case WEIR_VALUE_FALSE:
        state->text = (struct weir_slice){"false", 5};
        return;
    case WEIR_VALUE_NUMBER:
        if (is_plain_digits(value->text)) {
            state->text = value->text;
            return;
        }
        state->text_result = number_of(reader, event, slot, &number);
        if (state->text_result == WEIR_DECIMAL_OK)
            state->text = weir_slice_of(state->digits, weir_decimal_format_short(number, state->digits));
        return;
    case WEIR_VALUE_OBJECT:
    case WEIR_VALUE_ARRAY:
        state->text_result = WEIR_DECIMAL_SYNTAX;
        return;
    case WEIR_VALUE_STRING: /* text_of() answers by itself */
    case WEIR_VALUE_MISSING:
    case WEIR_VALUE_NULL:
        break;
    }
    state->text = (struct weir_slice){NULL, 0};
}

/* Of what is no string. */
static __attribute__((noinline)) enum weir_decimal_result
other_text_of(struct weir_reader *reader, const struct weir_event *event, uint32_t slot, struct weir_slice *ret_text)
{
    struct slot_state *state = &reader->slots[slot];

    if (state->text_event != reader->event) {
        state->text_event = reader->event;
        make_text(reader, event, slot);
    }
    *ret_text = state->text;
    return state->text_result;
}

/* The value's text (docs/rating.md 1.2). SYNTAX: an object or array has none; PRECISION, RANGE: not representable. */
static inline enum weir_decimal_result text_of(struct weir_reader *reader, const struct weir_event *event,
                                               uint32_t slot, struct weir_slice *ret_text)
{
    if (__builtin_expect(event->values[slot].kind != WEIR_VALUE_STRING, 0))
        return other_text_of(reader, event, slot, ret_text);
    *ret_text = event->values[slot].text;
    return WEIR_DECIMAL_OK;
}

/* 3. rejecting */
static __attribute__((cold, noinline, format(printf, 5, 6))) enum weir_status
reject(const struct weir_reader *reader, enum weir_reason reason, uint32_t slot, struct weir_rejection *reterr,
       const char *format, ...)
{
    struct weir_slice path = reader->catalog->paths[slot].text;
    va_list arguments;

    reterr->reason = reason;
    (void)snprintf(reterr->field, sizeof reterr->field, "%.*s", (int)path.length, path.data);
    va_start(arguments, format);
    (void)vsnprintf(reterr->detail, sizeof reterr->detail, format, arguments);
    va_end(arguments);
    return WEIR_REJECT;
}

static const char *kind_text(enum weir_value_kind kind)
{
    static const char *const texts[] = {
        [WEIR_VALUE_MISSING] = "missing",  [WEIR_VALUE_NULL] = "null",
        [WEIR_VALUE_FALSE] = "false",      [WEIR_VALUE_TRUE] = "true",
        [WEIR_VALUE_NUMBER] = "a number",  [WEIR_VALUE_STRING] = "a string that is no number",
        [WEIR_VALUE_OBJECT] = "an object", [WEIR_VALUE_ARRAY] = "an array",
    };
    return texts[kind];
}

static enum weir_status reject_range(const struct weir_reader *reader, const struct weir_meter *meter, uint32_t slot,
                                     enum weir_decimal_result result, struct weir_rejection *reterr)
{
    if (result == WEIR_DECIMAL_PRECISION)
        return reject(reader, WEIR_REASON_NUMBER_RANGE, slot, reterr,
                      "meter %.*s reads a number with more than 12 decimal places; round it where it is made",
                      (int)meter->key.length, meter->key.data);
    return reject(reader, WEIR_REASON_NUMBER_RANGE, slot, reterr,
                  "meter %.*s reads a number beyond 170141183460469231731687303 (2^127 / 10^12)",
                  (int)meter->key.length, meter->key.data);
}

/* 4. one meter */
static bool passes(struct weir_reader *reader, const struct weir_event *event, const struct weir_where *where)
{
    struct weir_slice text;

    if (text_of(reader, event, where->slot, &text) != WEIR_DECIMAL_OK)
        return false;
    for (uint32_t i = 0; i < where->value_count; i++)
        if (weir_slice_equal(where->values[i], text))
            return true;
    return false;
}

static __attribute__((noinline)) bool passes_all(struct weir_reader *reader, const struct weir_event *event,
                                                 const struct weir_meter *meter)
{
    for (uint32_t i = 0; i < meter->where_count; i++)
        if (!passes(reader, event, &meter->where[i]))
            return false;
    return true;
}

static enum weir_status read_number(struct weir_reader *reader, const struct weir_event *event,
                                    const struct weir_meter *meter, struct weir_decimal *ret_value,
                                    struct weir_rejection *reterr)
{
    uint32_t slot = meter->value_slot;
    enum weir_value_kind kind = event->values[slot].kind;
    enum weir_decimal_result result = WEIR_DECIMAL_SYNTAX;

    if (kind == WEIR_VALUE_NUMBER || kind == WEIR_VALUE_STRING)
        result = number_of(reader, event, slot, ret_value);
    if (result == WEIR_DECIMAL_OK)
        return WEIR_OK;
    if (kind == WEIR_VALUE_MISSING || kind == WEIR_VALUE_NULL)
        return reject(reader, WEIR_REASON_MISSING_FIELD, slot, reterr, "meter %.*s reads a number here; it is %s",
                      (int)meter->key.length, meter->key.data, kind_text(kind));
    if (result == WEIR_DECIMAL_SYNTAX)
        return reject(reader, WEIR_REASON_WRONG_TYPE, slot, reterr,
                      "meter %.*s reads a number (or a string that is one, as \"12.5\") here; it is %s",
                      (int)meter->key.length, meter->key.data, kind_text(kind));
    return reject_range(reader, meter, slot, result, reterr);
}

static enum weir_status read_unique(struct weir_reader *reader, const struct weir_event *event,
                                    const struct weir_meter *meter, struct weir_slice *ret_text,
                                    struct weir_rejection *reterr)
{
    uint32_t slot = meter->value_slot;
    enum weir_value_kind kind = event->values[slot].kind;
    enum weir_decimal_result result = text_of(reader, event, slot, ret_text);

    if (result == WEIR_DECIMAL_SYNTAX)
        return reject(reader, WEIR_REASON_WRONG_TYPE, slot, reterr, "meter %.*s counts distinct texts here; it is %s",
                      (int)meter->key.length, meter->key.data, kind_text(kind));
    if (result != WEIR_DECIMAL_OK)
        return reject_range(reader, meter, slot, result, reterr);
    if (ret_text->length == 0)
        return reject(reader, WEIR_REASON_MISSING_FIELD, slot, reterr,
                      "meter %.*s counts distinct texts here; it is %s", (int)meter->key.length, meter->key.data,
                      kind == WEIR_VALUE_STRING ? "the empty string" : kind_text(kind));
    return WEIR_OK;
}

static enum weir_status read_dimensions(struct weir_reader *reader, const struct weir_event *event,
                                        const struct weir_meter *meter, struct weir_slice *ret_texts,
                                        struct weir_rejection *reterr)
{
    for (uint32_t i = 0; i < meter->group_count; i++) {
        uint32_t slot = meter->groups[i].slot;
        enum weir_decimal_result result = text_of(reader, event, slot, &ret_texts[i]);
        if (__builtin_expect(result == WEIR_DECIMAL_OK && ret_texts[i].length <= WEIR_IDENTIFIER_MAX, 1))
            continue;
        if (result == WEIR_DECIMAL_SYNTAX)
            return reject(reader, WEIR_REASON_WRONG_TYPE, slot, reterr, "meter %.*s groups by this; it is %s",
                          (int)meter->key.length, meter->key.data, kind_text(event->values[slot].kind));
        if (result != WEIR_DECIMAL_OK)
            return reject_range(reader, meter, slot, result, reterr);
        return reject(reader, WEIR_REASON_TOO_LONG, slot, reterr,
                      "meter %.*s groups by this; it has %u bytes, and at most %d are allowed", (int)meter->key.length,
                      meter->key.data, ret_texts[i].length, WEIR_IDENTIFIER_MAX);
    }
    return WEIR_OK;
}

static enum weir_status read_meter(struct weir_reader *reader, const struct weir_event *event,
                                   const struct weir_meter *meter, struct weir_reading *reading,
                                   struct weir_rejection *reterr)
{
    enum weir_status status = read_dimensions(reader, event, meter, reading->dimensions, reterr);

    reading->meter = meter->index;
    if (status != WEIR_OK || meter->aggregation == WEIR_AGGREGATION_COUNT)
        return status;
    if (meter->aggregation == WEIR_AGGREGATION_UNIQUE)
        return read_unique(reader, event, meter, &reading->unique_text, reterr);
    return read_number(reader, event, meter, &reading->value, reterr);
}

enum weir_status weir_read_event(struct weir_reader *reader, const struct weir_event *event,
                                 struct weir_reading *ret_readings, uint32_t *ret_count, struct weir_rejection *reterr)
{
    const struct type_meters *type = type_slot(reader, event->type, ends_of(event->type));
    const struct weir_meter *const *at = reader->meters + type->first, *const *end = at + type->count;
    struct weir_reading *reading = ret_readings;

    reader->event++;
    for (; at < end; at++) {
        if ((*at)->where_count > 0 && !passes_all(reader, event, *at))
            continue;
        if (read_meter(reader, event, *at, reading, reterr) != WEIR_OK)
            return WEIR_REJECT;
        reading++;
    }
    *ret_count = (uint32_t)(reading - ret_readings);
    return WEIR_OK;
}
