/* The log of open windows: what changed, cut after cut, blocks of records by span (gather_open in
 * store_redis_encode.c).
 *
 * Why a log. An open window changes with every third cut or so, and to write it as a field of a hash costs Redis four
 * lines of memory that nobody has touched since; a record at the end of a string costs its bytes. The price is paid
 * where the lane is taken, which is seldom: there the log is read, and of a window's records the last one holds. It
 * holds 1 to 8 records of each open window, since rounds (window_store.h) let its front go; one or two of them have
 * the window's series key, the others a number instead, which is a third of the bytes.
 *
 * Here is a table of the windows that were met, by span and series key, whose bytes are copied, and by number; some 120
 * bytes and the key for each, as long as a lane is taken or scanned.
 */
#include <stdlib.h>

#include "aggregator/store_redis_internal.h"
#include "aggregator/window_index.h"
#include "common/hash.h"

struct entry {
    struct weir_window_total total;
    size_t key; /* in keys */
    uint32_t key_length;
    uint32_t span;   /* in the lane's index */
    uint32_t next;   /* of the span; NONE: the last one */
    uint32_t number; /* that records without a key have; 0: none, or another window has it by now */
    bool is_hidden;
};

struct weir_redis_open {
    const struct weir_redis_index *lane;
    struct index index, numbers; /* by span and series key, by number */
    struct entry *entries;       /* [0] unused */
    uint32_t used, room;
    uint32_t *first; /* of each span */
    struct weir_redis_buffer keys;
    /* While the log is read: */
    struct weir_redis_buffer *unread; /* the front of a record whose end is not there yet */
    int64_t forgotten;
    uint64_t block;   /* bytes of the block that are not read yet */
    uint32_t span;    /* the block's */
    bool is_numbered; /* its records */
    bool is_ignored;  /* its windows are passed over */
    bool is_corrupt;
};

/* 1. The table. */

struct weir_redis_open *weir_redis_open_free(struct weir_redis_open *open)
{
    if (!open)
        return NULL;
    free(open->index.slots);
    free(open->numbers.slots);
    free(open->entries);
    free(open->first);
    weir_redis_buffer_free(&open->keys);
    free(open);
    return NULL;
}

static struct weir_slice key_of(const struct weir_redis_open *open, const struct entry *entry)
{
    return weir_slice_of(open->keys.data + entry->key, entry->key_length);
}

static uint32_t place_of(const struct weir_redis_open *open, const struct weir_redis_span *span)
{
    return (uint32_t)(span - open->lane->spans);
}

static uint64_t hash_of(uint32_t span, struct weir_slice series)
{
    return weir_hash64(series.data, series.length, span);
}

static struct entry *find(const struct weir_redis_open *open, uint32_t span, struct weir_slice series)
{
    const struct index *index = &open->index;
    uint64_t hash = hash_of(span, series);
    for (uint32_t at = index_home(index, hash); index->slots[at].position != NONE; at = index_next(index, at)) {
        struct entry *entry = &open->entries[index->slots[at].position];
        if (index->slots[at].tag == index_tag(hash) && entry->span == span
            && weir_slice_equal(key_of(open, entry), series))
            return entry;
    }
    return NULL;
}

static struct entry *find_or_add(struct weir_redis_open *open, uint32_t span, struct weir_slice series)
{
    struct entry *entry = find(open, span, series);
    if (entry)
        return entry;
    if (open->used == open->room) {
        open->room *= 2;
        open->entries = weir_resize(open->entries, open->room, sizeof(*open->entries));
    }
    entry = &open->entries[open->used];
    *entry =
        (struct entry){.key = open->keys.length, .key_length = series.length, .span = span, .next = open->first[span]};
    open->first[span] = open->used;
    weir_redis_put(&open->keys, series.data, series.length);
    index_add(&open->index, hash_of(span, series), open->used++);
    return entry;
}

/* NULL: nobody has it. */
static struct entry *find_number(const struct weir_redis_open *open, uint32_t number)
{
    const struct index *index = &open->numbers;
    for (uint32_t at = index_home(index, weir_hash_mix(number)); index->slots[at].position != NONE;
         at = index_next(index, at))
        if (open->entries[index->slots[at].position].number == number)
            return &open->entries[index->slots[at].position];
    return NULL;
}

static void take_number_from(struct weir_redis_open *open, struct entry *entry)
{
    if (!entry || entry->number == 0)
        return;
    index_remove(&open->numbers, index_tag(weir_hash_mix(entry->number)), (uint32_t)(entry - open->entries));
    entry->number = 0;
}

static void give_number(struct weir_redis_open *open, struct entry *entry, uint32_t number)
{
    if (entry->number == number)
        return;
    take_number_from(open, find_number(open, number));
    take_number_from(open, entry);
    entry->number = number;
    if (number)
        index_add(&open->numbers, weir_hash_mix(number), (uint32_t)(entry - open->entries));
}

bool weir_redis_open_settle(struct weir_redis_open *open, const struct weir_redis_span *span, struct weir_slice series,
                            bool is_closed)
{
    struct entry *entry = find(open, place_of(open, span), series);
    if (entry && is_closed)
        entry->is_hidden = true;
    return !entry || is_closed;
}

void weir_redis_open_visit(const struct weir_redis_open *open, const struct weir_redis_span *span,
                           void (*visit)(void *context, const struct weir_window *window), void *context)
{
    for (uint32_t at = open->first[place_of(open, span)]; at != NONE; at = open->entries[at].next) {
        const struct entry *entry = &open->entries[at];
        struct weir_window window = {key_of(open, entry), span->start, span->end, entry->total};
        if (!entry->is_hidden)
            visit(context, &window);
    }
}

/* 2. Reading. */

/* false: not all of it is there yet, or it can not be. */
static bool take_head(struct weir_redis_open *open, const char *at, size_t left, size_t *ret_length)
{
    struct weir_redis_span span = {0};
    uint32_t bytes;
    if (left < WEIR_REDIS_OPEN_HEAD_BYTES)
        return false;
    memcpy(&span.start, at, 8);
    memcpy(&span.end, at + 8, 8);
    memcpy(&bytes, at + 16, 4);
    open->is_numbered = bytes & WEIR_REDIS_OPEN_NUMBERED;
    bytes &= ~WEIR_REDIS_OPEN_NUMBERED;
    const struct weir_redis_span *known =
        weir_redis_span_find((struct weir_redis_index *)open->lane, span.start, span.end);
    open->block = bytes;
    open->is_ignored = span.end <= open->forgotten;
    open->is_corrupt = bytes == 0 || (!known && !open->is_ignored);
    open->span = known ? place_of(open, known) : 0;
    *ret_length = WEIR_REDIS_OPEN_HEAD_BYTES;
    return !open->is_corrupt;
}

/* A record's parts: where they are, and what they take together. */
struct record {
    uint32_t number;
    struct weir_slice key; /* empty: the number's */
    struct weir_slice value;
    size_t length;
};

/* false: not all of it is there yet. */
static bool find_parts(const char *at, size_t left, bool is_numbered, struct record *ret_record)
{
    const unsigned char *bytes = (const unsigned char *)at;
    size_t key = 0, value = 0, key_at = 0, value_at;
    bool has_key = true;
    *ret_record = (struct record){0};
    if (is_numbered) {
        if (left < WEIR_REDIS_OPEN_RECORD_BYTES)
            return false;
        memcpy(&ret_record->number, at, 4);
        has_key = bytes[4] & WEIR_REDIS_OPEN_KEYED;
        value = bytes[4] & ~(unsigned)WEIR_REDIS_OPEN_KEYED;
        key_at = WEIR_REDIS_OPEN_RECORD_BYTES;
    }
    if (has_key) {
        if (left < key_at + 2)
            return false;
        key = bytes[key_at] | (size_t)bytes[key_at + 1] << 8;
        key_at += 2;
    }
    value_at = key_at + key;
    if (!is_numbered) {
        if (left <= value_at)
            return false;
        value = bytes[value_at++];
    }
    ret_record->key = weir_slice_of(at + key_at, key);
    ret_record->value = weir_slice_of(at + value_at, value);
    ret_record->length = value_at + value;
    return left >= ret_record->length;
}

/* The window that a record tells of; NULL: nobody told which one that is. */
static struct entry *entry_of(struct weir_redis_open *open, const struct record *record)
{
    struct entry *entry;
    if (record->key.length == 0) {
        entry = record->number ? find_number(open, record->number) : NULL;
        return entry && entry->span == open->span ? entry : NULL;
    }
    entry = find_or_add(open, open->span, record->key);
    give_number(open, entry, record->number);
    return entry;
}

static bool take_record(struct weir_redis_open *open, const char *at, size_t left, size_t *ret_length)
{
    struct weir_window_total total;
    struct record record;
    bool is_closed;
    if (!find_parts(at, left, open->is_numbered, &record))
        return false;
    open->is_corrupt = record.length > open->block
                       || !weir_redis_load_value(record.value.data, record.value.length, &total, &is_closed)
                       || is_closed;
    if (open->is_corrupt)
        return false;
    if (!open->is_ignored) {
        struct entry *entry = entry_of(open, &record);
        open->is_corrupt = !entry;
        if (!entry)
            return false;
        entry->total = total;
    }
    open->block -= record.length;
    *ret_length = record.length;
    return true;
}

static void take_bytes(void *context, const char *data, size_t length)
{
    struct weir_redis_open *open = context;
    size_t at = 0, step;
    weir_redis_put(open->unread, data, length);
    const char *bytes = open->unread->data;
    size_t count = open->unread->length;
    while (!open->is_corrupt && at < count
           && (open->block ? take_record(open, bytes + at, count - at, &step)
                           : take_head(open, bytes + at, count - at, &step)))
        at += step;
    memmove(open->unread->data, bytes + at, count - at);
    open->unread->length = count - at;
}

enum weir_status weir_redis_open_read(struct weir_redis_store *store, struct weir_slice lane,
                                      const struct weir_redis_index *index, int64_t forgotten,
                                      struct weir_redis_open **ret_open, struct weir_error *reterr)
{
    struct weir_redis_open *open = *ret_open = weir_new(sizeof(*open));
    *open = (struct weir_redis_open){.lane = index,
                                     .used = 1,
                                     .room = FIRST_SLOTS,
                                     .unread = &store->open,
                                     .forgotten = forgotten > 0 ? forgotten : INT64_MIN};
    index_start(&open->index);
    index_start(&open->numbers);
    open->entries = weir_new_array(open->room, sizeof(*open->entries));
    open->first = weir_new_array(index->span_count + 1, sizeof(*open->first));
    store->open.length = 0;
    enum weir_status status = weir_redis_read_log(store, lane, "open", WEIR_REDIS_OPEN_SEGMENT_BYTES, index->open.from,
                                                  index->open.bytes, take_bytes, open, reterr);
    if (status == WEIR_OK && (open->is_corrupt || open->block > 0 || store->open.length > 0))
        status = weir_redis_corrupt(store, lane, "the log of open windows", reterr);
    return status;
}
