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
#include "aggregator/window_index.h"
#include "common/hash.h"

struct entry {
    struct weir_window_total total;
    size_t key; /* in keys */
    uint32_t key_length;
    uint32_t span; /* in the lane's index */
    uint32_t next; /* of the span; NONE: the last one */
    bool is_hidden;
};

struct weir_redis_open {
    const struct weir_redis_index *lane;
    struct index index;
    struct entry *entries; /* [0] unused */
    uint32_t used, room;
    uint32_t *first; /* of each span */
    struct weir_redis_buffer keys;
    /* While the log is read: */
    struct weir_redis_buffer *unread; /* the front of a record whose end is not there yet */
    int64_t forgotten;
    uint64_t block;  /* bytes of the block that are not read yet */
    uint32_t span;   /* the block's */
    bool is_ignored; /* its windows are passed over */
    bool is_corrupt;
};

/* 1. The table. */

struct weir_redis_open *weir_redis_open_free(struct weir_redis_open *open)
{
    if (!open)
        return NULL;
    free(open->index.slots);
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
    const struct weir_redis_span *known =
        weir_redis_span_find((struct weir_redis_index *)open->lane, span.start, span.end);
    open->block = bytes;
    open->is_ignored = span.end <= open->forgotten;
    open->is_corrupt = bytes == 0 || (!known && !open->is_ignored);
    open->span = known ? place_of(open, known) : 0;
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
    if (!open->is_ignored)
        find_or_add(open, open->span, weir_slice_of(at + 2, key))->total = total;
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
    open->entries = weir_new_array(open->room, sizeof(*open->entries));
    open->first = weir_new_array(index->span_count + 1, sizeof(*open->first));
    store->open.length = 0;
    enum weir_status status = weir_redis_read_log(store, lane, "open", WEIR_REDIS_OPEN_SEGMENT_BYTES, index->open.from,
                                                  index->open.bytes, take_bytes, open, reterr);
    if (status == WEIR_OK && (open->is_corrupt || open->block > 0 || store->open.length > 0))
        status = weir_redis_corrupt(store, lane, "the log of open windows", reterr);
    return status;
}
