/* What Redis holds of a lane, by name and length: sorted arrays, as lanes have tens to a few thousand spans and
 * buckets. Filled from Redis by store_redis_load.c, and brought along by each cut (store_redis_encode.c). */
#include "aggregator/store_redis_internal.h"

static size_t span_place(const struct weir_redis_index *index, int64_t start, int64_t end)
{
    size_t low = 0, high = index->span_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct weir_redis_span *span = &index->spans[middle];
        if (span->end < end || (span->end == end && span->start < start))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct weir_redis_span *weir_redis_span_find(struct weir_redis_index *index, int64_t start, int64_t end)
{
    size_t at = span_place(index, start, end);
    return at < index->span_count && index->spans[at].start == start && index->spans[at].end == end ? &index->spans[at]
                                                                                                    : NULL;
}

struct weir_redis_span *weir_redis_span_get(struct weir_redis_index *index, int64_t start, int64_t end)
{
    struct weir_redis_span *span = weir_redis_span_find(index, start, end);
    if (span)
        return span;
    if (index->span_count == index->span_capacity) {
        index->span_capacity = index->span_capacity ? index->span_capacity * 2 : 64;
        index->spans = weir_resize(index->spans, index->span_capacity, sizeof(*index->spans));
    }
    size_t at = span_place(index, start, end);
    memmove(&index->spans[at + 1], &index->spans[at], (index->span_count - at) * sizeof(*index->spans));
    index->span_count++;
    index->spans[at] = (struct weir_redis_span){.start = start, .end = end, .is_new = true};
    return &index->spans[at];
}

struct weir_redis_bucket *weir_redis_bucket_get(struct weir_redis_index *index, int64_t bucket)
{
    size_t at = index->bucket_count; /* the newest is at the end and asked for most */
    while (at > 0 && index->buckets[at - 1].bucket > bucket)
        at--;
    if (at > 0 && index->buckets[at - 1].bucket == bucket)
        return &index->buckets[at - 1];
    if (index->bucket_count == index->bucket_capacity) {
        index->bucket_capacity = index->bucket_capacity ? index->bucket_capacity * 2 : 64;
        index->buckets = weir_resize(index->buckets, index->bucket_capacity, sizeof(*index->buckets));
    }
    memmove(&index->buckets[at + 1], &index->buckets[at], (index->bucket_count - at) * sizeof(*index->buckets));
    index->bucket_count++;
    index->buckets[at] = (struct weir_redis_bucket){.bucket = bucket};
    return &index->buckets[at];
}

void weir_redis_index_clear(struct weir_redis_index *index)
{
    index->span_count = 0;
    index->bucket_count = 0;
    index->open = (struct weir_redis_open_log){.round = WEIR_REDIS_NO_ROUND};
}
