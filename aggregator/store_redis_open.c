/* The log of open windows: what changed, cut after cut, blocks of records by span (gather_open in
 * store_redis_encode.c).
 *
 * Why a log. An open window changes with every third cut or so, and to write it as a field of a hash costs Redis four
 * lines of memory that nobody has touched since; a record at the end of a string costs its bytes. The price is paid
 * where the lane is taken, which is seldom: there the log is read, and of a window's records the last one holds. It
 * holds as many records as there are open windows, some four times, since rounds (window_store.h) let its front go.
 *
 * Here is a table of the windows that were met, by span and series key, whose bytes are copied; some 100 bytes and the
 * key for each, as long as a lane is taken or scanned.
 */
#include <stdlib.h>

#include "aggregator/store_redis_internal.h"
#include "common/hash.h"

enum { FIRST_SLOTS = 1024, NONE = UINT32_MAX };

struct entry {
    struct weir_window_total total;
    uint64_t hash;
    size_t key; /* in keys */
    uint32_t key_length;
    uint32_t span; /* in the index */
    uint32_t next; /* of the span; NONE: the last one */
    bool is_hidden;
};

struct weir_redis_open {
    const struct weir_redis_index *index;
    struct entry *entries;
    size_t count, room;
    uint32_t *slots; /* position in entries; NONE: empty. A power of two, at most half of them used */
    size_t slot_count;
    uint32_t *first; /* of each span */
    struct weir_redis_buffer keys;
    /* While the log is read: */
    struct weir_redis_buffer *unread; /* the front of a record whose end is not there yet */
    int64_t forgotten;
    uint64_t block; /* bytes of the block that are not read yet */
    uint32_t span;  /* the block's; NONE: its windows are passed over */
    bool is_corrupt;
};

/* 1. The table. */

struct weir_redis_open *weir_redis_open_new(const struct weir_redis_index *index)
{
    struct weir_redis_open *open = weir_new(sizeof(*open));
    open->index = index;
    open->first = weir_new_array(index->span_count + 1, sizeof(*open->first));
    for (size_t i = 0; i < index->span_count; i++)
        open->first[i] = NONE;
    open->slot_count = FIRST_SLOTS;
    open->slots = weir_new_array(open->slot_count, sizeof(*open->slots));
    memset(open->slots, 0xff, open->slot_count * sizeof(*open->slots));
    return open;
}

struct weir_redis_open *weir_redis_open_free(struct weir_redis_open *open)
{
    if (!open)
        return NULL;
    free(open->entries);
    free(open->slots);
    free(open->first);
    weir_redis_buffer_free(&open->keys);
    free(open);
    return NULL;
}

static struct weir_slice key_of(const struct weir_redis_open *open, const struct entry *entry)
{
    return weir_slice_of(open->keys.data + entry->key, entry->key_length);
}

static uint64_t hash_of(uint32_t span, struct weir_slice series)
{
    return weir_hash64(series.data, series.length, span);
}

/* The slot where the window is, or would be. */
static uint32_t *slot_of(const struct weir_redis_open *open, uint32_t span, struct weir_slice series, uint64_t hash)
{
    for (size_t at = hash & (open->slot_count - 1);; at = (at + 1) & (open->slot_count - 1)) {
        uint32_t *slot = &open->slots[at];
        if (*slot == NONE)
            return slot;
        const struct entry *entry = &open->entries[*slot];
        if (entry->hash == hash && entry->span == span && weir_slice_equal(key_of(open, entry), series))
            return slot;
    }
}

static void grow(struct weir_redis_open *open)
{
    open->slot_count *= 2;
    open->slots = weir_resize(open->slots, open->slot_count, sizeof(*open->slots));
    memset(open->slots, 0xff, open->slot_count * sizeof(*open->slots));
    for (size_t i = 0; i < open->count; i++) {
        size_t at = open->entries[i].hash & (open->slot_count - 1);
        while (open->slots[at] != NONE)
            at = (at + 1) & (open->slot_count - 1);
        open->slots[at] = (uint32_t)i;
    }
}

static struct entry *get_entry(struct weir_redis_open *open, uint32_t span, struct weir_slice series)
{
    uint64_t hash = hash_of(span, series);
    uint32_t *slot = slot_of(open, span, series, hash);
    if (*slot != NONE)
        return &open->entries[*slot];
    if (open->count == open->room) {
        open->room = open->room ? open->room * 2 : FIRST_SLOTS;
        open->entries = weir_resize(open->entries, open->room, sizeof(*open->entries));
    }
    weir_check(open->count < NONE);
    *slot = (uint32_t)open->count;
    struct entry *entry = &open->entries[open->count++];
    *entry = (struct entry){
        .hash = hash, .key = open->keys.length, .key_length = series.length, .span = span, .next = open->first[span]};
    open->first[span] = *slot;
    weir_redis_put(&open->keys, series.data, series.length);
    if (open->count * 2 > open->slot_count)
        grow(open);
    return entry;
}

static uint32_t place_of(const struct weir_redis_open *open, const struct weir_redis_span *span)
{
    return (uint32_t)(span - open->index->spans);
}

static struct entry *find_entry(const struct weir_redis_open *open, const struct weir_redis_span *span,
                                struct weir_slice series)
{
    uint32_t place = place_of(open, span), slot = *slot_of(open, place, series, hash_of(place, series));
    return slot == NONE ? NULL : &open->entries[slot];
}

bool weir_redis_open_has(const struct weir_redis_open *open, const struct weir_redis_span *span,
                         struct weir_slice series)
{
    return find_entry(open, span, series) != NULL;
}

void weir_redis_open_hide(struct weir_redis_open *open, const struct weir_redis_span *span, struct weir_slice series)
{
    struct entry *entry = find_entry(open, span, series);
    if (entry)
        entry->is_hidden = true;
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
    const struct weir_redis_span *known =
        weir_redis_span_find((struct weir_redis_index *)open->index, span.start, span.end);
    open->block = bytes;
    open->span = span.end <= open->forgotten ? NONE : known ? place_of(open, known) : NONE;
    open->is_corrupt = bytes == 0 || (!known && span.end > open->forgotten);
    *ret_length = WEIR_REDIS_OPEN_HEAD_BYTES;
    return !open->is_corrupt;
}

static bool take_record(struct weir_redis_open *open, const char *at, size_t left, size_t *ret_length)
{
    const unsigned char *bytes = (const unsigned char *)at;
    size_t key = left >= 2 ? bytes[0] | (size_t)bytes[1] << 8 : 0;
    size_t value = left > 2 + key ? bytes[2 + key] : 0, length = 2 + key + 1 + value;
    struct weir_window_total total;
    bool is_closed;
    if (left <= 2 + key || left < length)
        return false;
    open->is_corrupt =
        length > open->block || !weir_redis_load_value(at + 3 + key, value, &total, &is_closed) || is_closed;
    if (open->is_corrupt)
        return false;
    if (open->span != NONE)
        get_entry(open, open->span, weir_slice_of(at + 2, key))->total = total;
    open->block -= length;
    *ret_length = length;
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

enum weir_status weir_redis_open_read(struct weir_redis_open *open, struct weir_redis_store *store,
                                      struct weir_slice lane, int64_t forgotten, struct weir_error *reterr)
{
    open->unread = &store->open;
    open->forgotten = forgotten > 0 ? forgotten : INT64_MIN;
    store->open.length = 0;
    enum weir_status status =
        weir_redis_read_log(store, lane, "open", WEIR_REDIS_OPEN_SEGMENT_BYTES, open->index->open.from,
                            open->index->open.bytes, take_bytes, open, reterr);
    if (status == WEIR_OK && (open->is_corrupt || open->block > 0 || store->open.length > 0))
        status = weir_redis_corrupt(store, lane, "the log of open windows", reterr);
    return status;
}
