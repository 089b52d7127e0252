/* Spans, windows and logs back out of Redis. Everything is read in pieces of a megabyte or so, a few commands ahead of
 * their answers, so that neither side holds a lane twice and Redis keeps serving others in between. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "aggregator/store_redis_internal.h"

/* 1. Values. */

bool weir_redis_read_i64(const redisReply *reply, int64_t *ret_value)
{
    char *end = NULL;
    if (reply->type != REDIS_REPLY_STRING || reply->len < 1 || reply->len > 20
        || !((reply->str[0] >= '0' && reply->str[0] <= '9') || reply->str[0] == '-'))
        return false;
    int64_t value = strtoll(reply->str, &end, 10);
    if (end != reply->str + reply->len)
        return false;
    *ret_value = value;
    return true;
}

bool weir_redis_read_u64(const redisReply *reply, uint64_t *ret_value)
{
    char *end = NULL;
    if (reply->type != REDIS_REPLY_STRING || reply->len < 1 || reply->len > 20 || reply->str[0] < '0'
        || reply->str[0] > '9')
        return false;
    uint64_t value = strtoull(reply->str, &end, 10);
    if (end != reply->str + reply->len)
        return false;
    *ret_value = value;
    return true;
}

static bool read_span_text(const char *text, struct weir_redis_span *ret_span)
{
    struct weir_redis_span span = {0};
    int read = 0;
    if (sscanf(text, "%" SCNd64 ":%" SCNd64 "%n", &span.start, &span.end, &read) != 2 || text[read])
        return false;
    *ret_span = span;
    return true;
}

bool weir_redis_read_span(const redisReply *reply, struct weir_redis_span *ret_span)
{
    return reply->type == REDIS_REPLY_STRING && read_span_text(reply->str, ret_span);
}

bool weir_redis_read_value(const redisReply *reply, struct weir_window_total *ret_total, bool *ret_closed)
{
    return reply->type == REDIS_REPLY_STRING && weir_redis_load_value(reply->str, reply->len, ret_total, ret_closed);
}

bool weir_redis_is_format(const redisReply *format)
{
    return format->type == REDIS_REPLY_STRING && format->len == 1 && format->str[0] >= '1'
           && format->str[0] <= WEIR_REDIS_FORMAT[0];
}

/* 2. The index. */

static bool add_log(struct weir_redis_index *index, const redisReply *name, uint64_t bytes)
{
    struct weir_redis_span named;
    if (name->type != REDIS_REPLY_STRING)
        return false;
    if (strncmp(name->str, "unique:", 7) == 0 && read_span_text(name->str + 7, &named)) {
        struct weir_redis_span *span = weir_redis_span_find(index, named.start, named.end);
        if (span)
            span->unique_bytes = bytes;
        return span != NULL;
    }
    if (strcmp(name->str, "open") == 0 || strcmp(name->str, "open_from") == 0) {
        *(name->len == 4 ? &index->open.bytes : &index->open.from) = bytes;
        return true;
    }
    int64_t bucket;
    int read = 0;
    bool is_old = sscanf(name->str, "ids:%" SCNd64 "%n", &bucket, &read) == 1;
    if ((!is_old && sscanf(name->str, "seen:%" SCNd64 "%n", &bucket, &read) != 1) || name->str[read]
        || bytes % (is_old ? WEIR_REDIS_OLD_ID_BYTES : WEIR_ID_BYTES))
        return false;
    struct weir_redis_bucket *known = weir_redis_bucket_get(index, bucket);
    *(is_old ? &known->old_bytes : &known->bytes) = bytes;
    return true;
}

static bool fill_index(struct weir_redis_index *index, const redisReply *spans, const redisReply *logs)
{
    for (size_t i = 0; i < spans->elements; i++) {
        struct weir_redis_span span;
        if (!weir_redis_read_span(spans->element[i], &span))
            return false;
        weir_redis_span_get(index, span.start, span.end)->is_new = false;
    }
    for (size_t i = 0; i + 1 < logs->elements; i += 2) {
        uint64_t bytes;
        if (!weir_redis_read_u64(logs->element[i + 1], &bytes) || !add_log(index, logs->element[i], bytes))
            return false;
    }
    return index->open.from <= index->open.bytes;
}

/* MULTI, as a reconcile may read while the owner writes. */
enum weir_status weir_redis_read_index(struct weir_redis_store *store, struct weir_slice lane,
                                       struct weir_redis_index *index, struct weir_error *reterr)
{
    char spans_key[WEIR_REDIS_KEY_MAX], logs_key[WEIR_REDIS_KEY_MAX];
    size_t spans_length = weir_redis_key(spans_key, lane, "spans");
    size_t logs_length = weir_redis_key(logs_key, lane, "logs");
    redisReply *reply = NULL;
    redisAppendCommand(store->context, "MULTI");
    redisAppendCommand(store->context, "SMEMBERS %b", spans_key, spans_length);
    redisAppendCommand(store->context, "HGETALL %b", logs_key, logs_length);
    redisAppendCommand(store->context, "EXEC");
    for (int i = 0; i < 3; i++) {
        enum weir_status status = weir_redis_receive(store, &reply, reterr);
        if (status != WEIR_OK)
            return status;
        freeReplyObject(reply);
    }
    enum weir_status status = weir_redis_receive_array(store, 2, &reply, reterr);
    if (status != WEIR_OK)
        return status;
    weir_redis_index_clear(index);
    bool fits = reply->element[0]->type == REDIS_REPLY_ARRAY && reply->element[1]->type == REDIS_REPLY_ARRAY
                && fill_index(index, reply->element[0], reply->element[1]);
    freeReplyObject(reply);
    return fits ? WEIR_OK : weir_redis_corrupt(store, lane, "the set of spans or the hash of logs", reterr);
}

/* 3. Logs. */

struct log_range {
    uint64_t segment;
    uint64_t from;
    size_t length;
};

/* Up to the next multiple of WEIR_REDIS_RANGE_BYTES, which divides the segment. */
static struct log_range range_of(uint64_t segment, uint64_t at, uint64_t bytes)
{
    uint64_t length = WEIR_REDIS_RANGE_BYTES - at % WEIR_REDIS_RANGE_BYTES;
    length = bytes - at < length ? bytes - at : length;
    return (struct log_range){at / segment, at % segment, (size_t)length};
}

enum weir_status weir_redis_read_log(struct weir_redis_store *store, struct weir_slice lane, const char *name,
                                     uint64_t segment, uint64_t from, uint64_t bytes,
                                     void (*take)(void *context, const char *data, size_t length), void *context,
                                     struct weir_error *reterr)
{
    uint64_t asked = from;
    for (uint64_t got = from; got < bytes;) {
        /* A few ranges are under way; one more is asked for as one arrives. */
        while (asked < bytes && asked - got < 4 * (uint64_t)WEIR_REDIS_RANGE_BYTES) {
            struct log_range range = range_of(segment, asked, bytes);
            struct weir_redis_key key = weir_redis_segment_key(lane, name, range.segment);
            redisAppendCommand(store->context, "GETRANGE %b %llu %llu", key.bytes, key.length,
                               (unsigned long long)range.from, (unsigned long long)(range.from + range.length - 1));
            asked += range.length;
        }
        size_t expected = range_of(segment, got, bytes).length;
        redisReply *reply = NULL;
        enum weir_status status = weir_redis_receive(store, &reply, reterr);
        if (status != WEIR_OK)
            return status;
        bool fits = reply->type == REDIS_REPLY_STRING && reply->len == expected;
        if (fits)
            take(context, reply->str, expected);
        freeReplyObject(reply);
        if (!fits)
            return weir_redis_corrupt(store, lane, "a log (open, seen: or unique:) shorter than recorded", reterr);
        got += expected;
    }
    return WEIR_OK;
}

static enum weir_status read_log(struct weir_redis_store *store, struct weir_slice lane, const char *name,
                                 uint64_t bytes, void (*take)(void *context, const char *data, size_t length),
                                 void *context, struct weir_error *reterr)
{
    return weir_redis_read_log(store, lane, name, WEIR_REDIS_SEGMENT_BYTES, 0, bytes, take, context, reterr);
}

static void take_to_buffer(void *context, const char *data, size_t length)
{
    weir_redis_put(context, data, length);
}

struct ids_sink {
    const struct weir_lane_loader *loader;
    int64_t bucket;
    struct weir_redis_buffer *converted; /* ids of the old format in the present one */
    size_t record;                       /* bytes of one as they are stored */
    char part[WEIR_ID_BYTES];            /* the front of one that lies across two ranges */
    size_t part_length;
};

/* Whole records, as the loader takes them. */
static void hand_over_ids(const struct ids_sink *sink, const char *records, size_t length)
{
    if (sink->record == WEIR_REDIS_OLD_ID_BYTES) {
        sink->converted->length = 0;
        for (size_t at = 0; at < length; at += WEIR_REDIS_OLD_ID_BYTES) {
            struct weir_id_mark mark = {.state = WEIR_ID_COUNTED_UNKNOWN};
            uint64_t id;
            char bytes[WEIR_ID_BYTES];
            memcpy(&id, records + at, 8);
            memcpy(&mark.content, records + at + 8, 4);
            weir_id_store(id, &mark, bytes);
            weir_redis_put(sink->converted, bytes, WEIR_ID_BYTES);
        }
        records = sink->converted->data;
        length = sink->converted->length;
    }
    if (length)
        sink->loader->ids(sink->loader->context, sink->bucket, weir_slice_of(records, length));
}

static void take_ids(void *context, const char *data, size_t length)
{
    struct ids_sink *sink = context;
    if (sink->part_length) {
        size_t rest = sink->record - sink->part_length;
        rest = length < rest ? length : rest;
        memcpy(sink->part + sink->part_length, data, rest);
        sink->part_length += rest;
        data += rest;
        length -= rest;
        if (sink->part_length < sink->record)
            return;
        hand_over_ids(sink, sink->part, sink->record);
    }
    size_t whole = length - length % sink->record;
    hand_over_ids(sink, data, whole);
    sink->part_length = length - whole;
    memcpy(sink->part, data + whole, sink->part_length);
}

static enum weir_status load_ids(struct weir_redis_store *store, struct weir_slice lane,
                                 const struct weir_redis_index *index, const struct weir_lane_loader *loader,
                                 struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    for (size_t i = 0; i < 2 * index->bucket_count && status == WEIR_OK; i++) {
        const struct weir_redis_bucket *bucket = &index->buckets[i / 2];
        bool is_old = i % 2 == 0; /* first: of two records of an id the later one holds */
        struct ids_sink sink = {.loader = loader,
                                .bucket = bucket->bucket,
                                .converted = &store->gather,
                                .record = is_old ? WEIR_REDIS_OLD_ID_BYTES : WEIR_ID_BYTES};
        char name[WEIR_REDIS_NAME_MAX];
        snprintf(name, sizeof(name), "%s:%" PRId64, is_old ? "ids" : "seen", sink.bucket);
        status = read_log(store, lane, name, is_old ? bucket->old_bytes : bucket->bytes, take_ids, &sink, reterr);
    }
    return status;
}

/* 4. A span's unique fingerprints, by series. */

struct unique_record {
    struct weir_slice series;
    struct weir_slice fingerprints;
};

struct unique_records {
    struct unique_record *at;
    size_t count;
    size_t capacity;
    size_t claimed; /* handed out with a window: all of them in the end, or a window is missing */
};

static int compare_records(const void *a, const void *b)
{
    const struct unique_record *left = a, *right = b;
    int order = weir_slice_compare(left->series, right->series);
    if (order)
        return order; /* next, as written: both point into the log */
    return (left->fingerprints.data > right->fingerprints.data) - (left->fingerprints.data < right->fingerprints.data);
}

static bool split_records(const struct weir_redis_buffer *log, struct unique_records *records)
{
    const unsigned char *at = (const unsigned char *)log->data;
    size_t left = log->length;
    records->count = 0;
    records->claimed = 0;
    while (left > 0) {
        size_t key = left >= 2 ? at[0] | (size_t)at[1] << 8 : SIZE_MAX;
        if (left < 2 || left - 2 < key || left - 2 - key < 4)
            return false;
        const unsigned char *size = at + 2 + key;
        uint64_t bytes =
            (size[0] | (uint64_t)size[1] << 8 | (uint64_t)size[2] << 16 | (uint64_t)size[3] << 24) * WEIR_UNIQUE_BYTES;
        if (left - 6 - key < bytes || bytes > UINT32_MAX)
            return false;
        if (records->count == records->capacity) {
            records->capacity = records->capacity ? records->capacity * 2 : 1024;
            records->at = weir_resize(records->at, records->capacity, sizeof(*records->at));
        }
        records->at[records->count++] = (struct unique_record){weir_slice_of((const char *)at + 2, key),
                                                               weir_slice_of((const char *)size + 4, bytes)};
        at = size + 4 + bytes;
        left -= 6 + key + bytes;
    }
    if (records->count)
        qsort(records->at, records->count, sizeof(*records->at), compare_records);
    return true;
}

/* All fingerprints of one series, in store->gather. */
static struct weir_slice unique_of(struct weir_redis_store *store, struct unique_records *records,
                                   struct weir_slice series)
{
    size_t low = 0, high = records->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (weir_slice_compare(records->at[middle].series, series) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    store->gather.length = 0;
    for (; low < records->count && weir_slice_equal(records->at[low].series, series); low++, records->claimed++)
        weir_redis_put(&store->gather, records->at[low].fingerprints.data, records->at[low].fingerprints.length);
    return weir_slice_of(store->gather.data, store->gather.length);
}

/* 5. Loading a lane. Fields first, then what the log says of windows that are not closed. */

struct window_loading {
    struct weir_redis_store *store;
    const struct weir_lane_loader *loader;
    struct unique_records records;
    struct weir_redis_open *open;
};

static void hand_over(struct window_loading *loading, const struct weir_window *window, bool is_closed)
{
    struct weir_slice unique = {0};
    if (loading->records.count)
        unique = unique_of(loading->store, &loading->records, window->series_key);
    loading->loader->window(loading->loader->context, window, is_closed, unique);
}

static void load_open_window(void *context, const struct weir_window *window)
{
    hand_over(context, window, false);
}

static void load_window(void *context, const struct weir_redis_span *span, struct weir_slice series,
                        const redisReply *value, bool *reterr_corrupt)
{
    struct window_loading *loading = context;
    struct weir_window window = {.series_key = series, .start = span->start, .end = span->end};
    bool is_closed;
    if (!weir_redis_read_value(value, &window.total, &is_closed)) {
        *reterr_corrupt = true;
        return;
    }
    if (weir_redis_open_settle(loading->open, span, series, is_closed))
        hand_over(loading, &window, is_closed);
}

static enum weir_status load_spans(struct weir_redis_store *store, struct weir_slice lane,
                                   const struct weir_redis_span *spans, size_t count, struct window_loading *loading,
                                   struct weir_error *reterr)
{
    struct weir_redis_window_sink sink = {load_window, loading};
    enum weir_status status = weir_redis_scan_spans(store, lane, "windows", spans, count, &sink, reterr);
    for (size_t i = 0; i < count && status == WEIR_OK; i++)
        weir_redis_open_visit(loading->open, &spans[i], load_open_window, loading);
    return status;
}

/* A span with a unique log is read alone, since its fingerprints have to be there before its windows. */
static enum weir_status load_unique_span(struct weir_redis_store *store, struct weir_slice lane,
                                         const struct weir_redis_span *span, struct window_loading *loading,
                                         struct weir_error *reterr)
{
    char name[WEIR_REDIS_NAME_MAX];
    snprintf(name, sizeof(name), "unique:%" PRId64 ":%" PRId64, span->start, span->end);
    store->log.length = 0;
    enum weir_status status = read_log(store, lane, name, span->unique_bytes, take_to_buffer, &store->log, reterr);
    if (status != WEIR_OK)
        return status;
    if (!split_records(&store->log, &loading->records))
        return weir_redis_corrupt(store, lane, "a log of unique fingerprints", reterr);
    status = load_spans(store, lane, span, 1, loading, reterr);
    if (status == WEIR_OK && loading->records.claimed != loading->records.count)
        status =
            weir_redis_corrupt(store, lane, "a log of unique fingerprints names a window that is not there", reterr);
    loading->records.count = 0;
    return status;
}

enum weir_status weir_redis_load(struct weir_redis_store *store, struct weir_slice lane,
                                 const struct weir_redis_index *index, int64_t forgotten,
                                 const struct weir_lane_loader *loader, struct weir_error *reterr)
{
    struct window_loading loading = {.store = store, .loader = loader};
    enum weir_status status = weir_redis_open_read(store, lane, index, forgotten, &loading.open, reterr);
    for (size_t s = 0; s < index->span_count && status == WEIR_OK;) {
        if (index->spans[s].unique_bytes) {
            status = load_unique_span(store, lane, &index->spans[s++], &loading, reterr);
            continue;
        }
        size_t first = s;
        while (s < index->span_count && s - first < WEIR_REDIS_PIPELINE && index->spans[s].unique_bytes == 0)
            s++;
        status = load_spans(store, lane, &index->spans[first], s - first, &loading, reterr);
    }
    free(loading.records.at);
    weir_redis_open_free(loading.open);
    return status == WEIR_OK ? load_ids(store, lane, index, loader, reterr) : status;
}
