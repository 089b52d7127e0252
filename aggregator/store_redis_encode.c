/* A cut as the arguments of write_cut.lua.
 *
 * Windows are ordered by span first, so that each span takes one HSET (or one for each 2,000 windows). A cut is always
 * one command, however large: Redis takes 1,048,576 arguments at most, and 2,000 windows share one, so the arguments end
 * at 2 * 10^9 windows and memory ends first. Staging a large cut in side keys would need a rename or merge that costs
 * as much again, and a clean-up of what a dead worker leaves. The price: Redis serves nobody else while it writes
 * (about a second for each million windows), and holds the arguments twice meanwhile (its own and Lua's).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "aggregator/store_redis_internal.h"

/* 1. The index: sorted arrays, as lanes have tens to a few thousand spans and buckets. */

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
}

/* Positions in KEYS that write_cut.lua knows. */
enum { KEY_LANE = 1, KEY_SPANS, KEY_LOGS, KEY_WORKING };

/* 2. Steps. Each appends its three arguments; the third of a packed step follows by pack_begin … pack_end. */

static void step(struct weir_redis_command *command, const char *what, size_t key)
{
    weir_redis_add_text(command, "%s", what);
    weir_redis_add_text(command, "%zu", key);
}

static void step_span(struct weir_redis_command *command, const char *what, size_t key,
                      const struct weir_redis_span *span)
{
    step(command, what, key);
    weir_redis_pack_begin(command);
    weir_redis_pack_text(command, "%" PRId64 ":%" PRId64, span->start, span->end);
    weir_redis_pack_end(command);
}

static void step_packed_pair(struct weir_redis_command *command, const char *what, size_t key, const char *name,
                             uint64_t value)
{
    step(command, what, key);
    weir_redis_pack_begin(command);
    weir_redis_pack_text(command, "%s", name);
    weir_redis_pack_text(command, "%" PRIu64, value);
    weir_redis_pack_end(command);
}

void weir_redis_pack_state(struct weir_redis_command *command, const struct weir_lane_state *state)
{
    const struct {
        const char *name;
        int64_t value;
    } times[] = {
        {"next_offset", state->next_offset}, {"high", state->high},           {"watermark", state->watermark},
        {"first_time", state->first_time},   {"last_time", state->last_time},
    };
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"read", state->counts.read},           {"counted", state->counts.counted},
        {"duplicate", state->counts.duplicate}, {"unmatched", state->counts.unmatched},
        {"quarantined", state->counts.quarantined},
    };
    for (size_t i = 0; i < sizeof(times) / sizeof(*times); i++) {
        weir_redis_pack_text(command, "%s", times[i].name);
        weir_redis_pack_text(command, "%" PRId64, times[i].value);
    }
    for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
        weir_redis_pack_text(command, "%s", counts[i].name);
        weir_redis_pack_text(command, "%" PRIu64, counts[i].value);
    }
}

/* Appends `data` at `bytes` of the log, cut where a segment ends. */
static void append_log(struct weir_redis_command *command, struct weir_slice lane, const char *name, uint64_t bytes,
                       const char *data, size_t length)
{
    while (length > 0) {
        uint64_t segment = bytes / WEIR_REDIS_SEGMENT_BYTES;
        size_t room = (size_t)((segment + 1) * WEIR_REDIS_SEGMENT_BYTES - bytes);
        size_t piece = length < room ? length : room;
        step(command, "APPEND", weir_redis_add_key(command, lane, "%s:%" PRIu64, name, segment));
        weir_redis_add_outside(command, data, piece);
        data += piece;
        bytes += piece;
        length -= piece;
    }
}

static uint64_t segments_of(uint64_t bytes) { return (bytes + WEIR_REDIS_SEGMENT_BYTES - 1) / WEIR_REDIS_SEGMENT_BYTES; }

static void unique_name(const struct weir_redis_span *span, char name[WEIR_REDIS_NAME_MAX])
{
    snprintf(name, WEIR_REDIS_NAME_MAX, "unique:%" PRId64 ":%" PRId64, span->start, span->end);
}

/* 3. Windows by span. */

struct cut_order {
    uint32_t *from;  /* by span: where its windows begin in `window`; one more at the end */
    uint32_t *window; /* positions in cut->windows, span after span */
};

/* Counting sort: first every span gets its place in the index (which moves others), then windows are dealt out. */
static struct cut_order order_windows(struct weir_redis_store *store, struct weir_redis_index *index,
                                      const struct weir_cut *cut)
{
    struct weir_redis_span *last = NULL;
    for (size_t i = 0; i < cut->window_count; i++) {
        const struct weir_window *window = &cut->windows[i].window;
        if (!last || last->start != window->start || last->end != window->end)
            last = weir_redis_span_get(index, window->start, window->end);
    }
    size_t spans = index->span_count;
    size_t need = (spans + 2 + 2 * cut->window_count) * sizeof(uint32_t);
    if (store->order.capacity < need) {
        store->order.data = weir_resize(store->order.data, need, 1);
        store->order.capacity = need;
    }
    struct cut_order order = {.from = (uint32_t *)(void *)store->order.data};
    order.window = order.from + spans + 2;
    uint32_t *span_of = order.window + cut->window_count;
    memset(order.from, 0, (spans + 2) * sizeof(uint32_t));
    last = NULL;
    for (size_t i = 0; i < cut->window_count; i++) {
        const struct weir_window *window = &cut->windows[i].window;
        if (!last || last->start != window->start || last->end != window->end)
            last = weir_redis_span_find(index, window->start, window->end);
        span_of[i] = (uint32_t)(last - index->spans);
        order.from[span_of[i] + 2]++;
    }
    for (size_t s = 2; s < spans + 2; s++)
        order.from[s] += order.from[s - 1];
    for (size_t i = 0; i < cut->window_count; i++)
        order.window[order.from[span_of[i] + 1]++] = (uint32_t)i;
    return order;
}

/* One HSET for up to WEIR_REDIS_CHUNK windows; then the closed ones of them again, with this change's token. */
static void encode_windows(struct weir_redis_command *command, const struct weir_cut *cut, const uint32_t *at,
                           size_t count, size_t windows_key)
{
    step(command, "HSET", windows_key);
    weir_redis_pack_begin(command);
    for (size_t i = 0; i < count; i++) {
        const struct weir_cut_window *window = &cut->windows[at[i]];
        unsigned char value[WEIR_REDIS_VALUE_BYTES];
        weir_window_total_store(&window->window.total, value);
        value[WEIR_WINDOW_TOTAL_BYTES] = window->is_closed ? WEIR_REDIS_CLOSED : 0;
        weir_redis_pack(command, window->window.series_key.data, window->window.series_key.length);
        weir_redis_pack(command, value, sizeof(value));
    }
    weir_redis_pack_end(command);
}

static void encode_work(struct weir_redis_command *command, struct weir_slice lane, const struct weir_cut *cut,
                        const uint32_t *at, size_t count, const struct weir_redis_span *span, uint64_t token,
                        size_t *work_key)
{
    unsigned char bytes[WEIR_REDIS_TOKEN_BYTES];
    bool is_open = false;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(token >> (8 * i));
    for (size_t i = 0; i < count; i++) {
        if (!cut->windows[at[i]].is_closed)
            continue;
        if (*work_key == 0) {
            *work_key = weir_redis_add_key(command, lane, "work:%" PRId64 ":%" PRId64, span->start, span->end);
            step_span(command, "SADD", KEY_WORKING, span);
        }
        if (!is_open) {
            step(command, "HSET", *work_key);
            weir_redis_pack_begin(command);
            is_open = true;
        }
        const struct weir_slice *series = &cut->windows[at[i]].window.series_key;
        weir_redis_pack(command, series->data, series->length);
        weir_redis_pack(command, bytes, sizeof(bytes));
    }
    if (is_open)
        weir_redis_pack_end(command);
}

/* Records of the span's unique log: u16 series key length | series key | u32 fingerprints | fingerprints, little endian. */
static void gather_unique(struct weir_redis_buffer *gather, struct weir_redis_span *span, const struct weir_cut *cut,
                          const uint32_t *at, size_t count)
{
    span->pending_from = gather->length;
    for (size_t i = 0; i < count; i++) {
        const struct weir_cut_window *window = &cut->windows[at[i]];
        uint32_t fingerprints = window->unique.length / WEIR_UNIQUE_BYTES;
        if (fingerprints == 0)
            continue;
        weir_check(window->unique.length % WEIR_UNIQUE_BYTES == 0);
        uint32_t key = window->window.series_key.length;
        unsigned char head[2] = {(unsigned char)key, (unsigned char)(key >> 8)};
        unsigned char size[4] = {(unsigned char)fingerprints, (unsigned char)(fingerprints >> 8),
                                 (unsigned char)(fingerprints >> 16), (unsigned char)(fingerprints >> 24)};
        weir_redis_put(gather, head, sizeof(head));
        weir_redis_put(gather, window->window.series_key.data, key);
        weir_redis_put(gather, size, sizeof(size));
        weir_redis_put(gather, window->unique.data, window->unique.length);
    }
    span->pending = gather->length - span->pending_from;
}

static void encode_span(struct weir_redis_store *store, struct weir_redis_span *span, const struct weir_cut *cut,
                        const uint32_t *at, size_t count)
{
    struct weir_redis_command *command = &store->command;
    size_t windows_key = weir_redis_add_key(command, cut->lane, "windows:%" PRId64 ":%" PRId64, span->start, span->end);
    size_t work_key = 0;
    for (size_t i = 0; i < count; i += WEIR_REDIS_CHUNK) {
        size_t chunk = count - i < WEIR_REDIS_CHUNK ? count - i : WEIR_REDIS_CHUNK;
        encode_windows(command, cut, at + i, chunk, windows_key);
        encode_work(command, cut->lane, cut, at + i, chunk, span, store->token, &work_key);
    }
    if (span->is_new)
        step_span(command, "SADD", KEY_SPANS, span);
}

/* 4. The whole. */

static void encode_head(struct weir_redis_command *command, const struct weir_redis_lane *lane,
                        const struct weir_cut *cut)
{
    weir_check(weir_redis_add_key(command, cut->lane, "lane") == KEY_LANE);
    weir_check(weir_redis_add_key(command, cut->lane, "spans") == KEY_SPANS);
    weir_check(weir_redis_add_key(command, cut->lane, "logs") == KEY_LOGS);
    weir_check(weir_redis_add_key(command, cut->lane, "working") == KEY_WORKING);
    weir_redis_add_text(command, "%s", WEIR_REDIS_FORMAT);
    weir_redis_add_text(command, "%" PRIu64, cut->state.epoch);
    weir_redis_add_text(command, "%" PRId64, cut->expected_offset);
    weir_redis_add_text(command, "%" PRId64, cut->state.next_offset);
    weir_redis_add_text(command, "%" PRIu64, lane->cut_number + 1);
    weir_redis_add_text(command, "%" PRIu64, lane->cut_number);
    weir_redis_pack_begin(command);
    weir_redis_pack_text(command, "cut");
    weir_redis_pack_text(command, "%" PRIu64, lane->cut_number + 1);
    weir_redis_pack_state(command, &cut->state);
    weir_redis_pack_end(command);
}

/* How many bytes each log that grows must hold now. */
static void encode_checks(struct weir_redis_command *command, const struct weir_redis_index *index)
{
    size_t count = 0;
    for (size_t s = 0; s < index->span_count; s++)
        count += index->spans[s].pending > 0;
    for (size_t b = 0; b < index->bucket_count; b++)
        count += index->buckets[b].pending > 0;
    weir_redis_add_text(command, "%zu", count);
    for (size_t s = 0; s < index->span_count; s++) {
        char name[WEIR_REDIS_NAME_MAX];
        if (index->spans[s].pending == 0)
            continue;
        unique_name(&index->spans[s], name);
        weir_redis_add_text(command, "%s", name);
        weir_redis_add_text(command, "%" PRIu64, index->spans[s].unique_bytes);
    }
    for (size_t b = 0; b < index->bucket_count; b++) {
        if (index->buckets[b].pending == 0)
            continue;
        weir_redis_add_text(command, "ids:%" PRId64, index->buckets[b].bucket);
        weir_redis_add_text(command, "%" PRIu64, index->buckets[b].bytes);
    }
}

static void encode_unique(struct weir_redis_store *store, const struct weir_redis_index *index, struct weir_slice lane)
{
    for (size_t s = 0; s < index->span_count; s++) {
        const struct weir_redis_span *span = &index->spans[s];
        char name[WEIR_REDIS_NAME_MAX];
        if (span->pending == 0)
            continue;
        unique_name(span, name);
        append_log(&store->command, lane, name, span->unique_bytes, store->gather.data + span->pending_from,
                   span->pending);
        step_packed_pair(&store->command, "HSET", KEY_LOGS, name, span->unique_bytes + span->pending);
    }
}

/* Ids of a bucket that this very cut forgets are not written. */
static bool is_kept(const struct weir_cut *cut, const struct weir_cut_ids *ids)
{
    return ids->ids.length > 0 && ids->bucket >= cut->forget_ids_below;
}

static void count_ids(struct weir_redis_index *index, const struct weir_cut *cut)
{
    for (size_t i = 0; i < cut->ids_count; i++) {
        weir_check(cut->ids[i].ids.length % WEIR_ID_BYTES == 0);
        if (is_kept(cut, &cut->ids[i]))
            weir_redis_bucket_get(index, cut->ids[i].bucket)->pending += cut->ids[i].ids.length;
    }
}

static void encode_ids(struct weir_redis_command *command, struct weir_redis_index *index, const struct weir_cut *cut)
{
    for (size_t b = 0; b < index->bucket_count; b++) {
        const struct weir_redis_bucket *bucket = &index->buckets[b];
        uint64_t bytes = bucket->bytes;
        char name[WEIR_REDIS_NAME_MAX];
        if (bucket->pending == 0)
            continue;
        snprintf(name, sizeof(name), "ids:%" PRId64, bucket->bucket);
        for (size_t i = 0; i < cut->ids_count; i++) {
            if (cut->ids[i].bucket != bucket->bucket)
                continue;
            append_log(command, cut->lane, name, bytes, cut->ids[i].ids.data, cut->ids[i].ids.length);
            bytes += cut->ids[i].ids.length;
        }
        step_packed_pair(command, "HSET", KEY_LOGS, name, bytes);
    }
}

/* Both indexes are sorted by what forgetting goes by, so what goes is at the front. */
static void encode_forgetting(struct weir_redis_command *command, const struct weir_redis_index *index,
                              const struct weir_cut *cut)
{
    for (size_t s = 0; s < index->span_count && index->spans[s].end <= cut->forget_windows_below; s++) {
        const struct weir_redis_span *span = &index->spans[s];
        char name[WEIR_REDIS_NAME_MAX];
        unique_name(span, name);
        size_t first = weir_redis_add_key(command, cut->lane, "work:%" PRId64 ":%" PRId64, span->start, span->end);
        size_t last = weir_redis_add_key(command, cut->lane, "windows:%" PRId64 ":%" PRId64, span->start, span->end);
        for (uint64_t i = 0; i < segments_of(span->unique_bytes + span->pending); i++)
            last = weir_redis_add_key(command, cut->lane, "%s:%" PRIu64, name, i);
        step(command, "DROP", first);
        weir_redis_pack_begin(command);
        weir_redis_pack_text(command, "%zu", last - first);
        weir_redis_pack_text(command, "%" PRId64 ":%" PRId64, span->start, span->end);
        weir_redis_pack_text(command, "%s", name);
        weir_redis_pack_end(command);
    }
    for (size_t b = 0; b < index->bucket_count && index->buckets[b].bucket < cut->forget_ids_below; b++) {
        const struct weir_redis_bucket *bucket = &index->buckets[b];
        for (uint64_t i = 0; i < segments_of(bucket->bytes); i++) {
            step(command, "UNLINK",
                 weir_redis_add_key(command, cut->lane, "ids:%" PRId64 ":%" PRIu64, bucket->bucket, i));
            weir_redis_add_text(command, "-");
        }
        step(command, "HDEL", KEY_LOGS);
        weir_redis_pack_begin(command);
        weir_redis_pack_text(command, "ids:%" PRId64, bucket->bucket);
        weir_redis_pack_end(command);
    }
}

bool weir_redis_encode_cut(struct weir_redis_store *store, struct weir_redis_lane *lane, const struct weir_cut *cut)
{
    struct weir_redis_command *command = &store->command;
    struct weir_redis_index *index = &lane->index;
    weir_check(cut->window_count < UINT32_MAX / 4);
    weir_redis_command_clear(command);
    store->gather.length = 0;
    store->token++;
    struct cut_order order = order_windows(store, index, cut);
    for (size_t s = 0; s < index->span_count; s++)
        gather_unique(&store->gather, &index->spans[s], cut, order.window + order.from[s],
                      order.from[s + 1] - order.from[s]);
    count_ids(index, cut);
    encode_head(command, lane, cut);
    encode_checks(command, index);
    for (size_t s = 0; s < index->span_count; s++)
        if (order.from[s + 1] > order.from[s])
            encode_span(store, &index->spans[s], cut, order.window + order.from[s], order.from[s + 1] - order.from[s]);
    encode_unique(store, index, cut->lane);
    encode_ids(command, index, cut);
    encode_forgetting(command, index, cut);
    return command->bytes.length + command->outside_bytes <= WEIR_REDIS_CUT_BYTES_MAX;
}

void weir_redis_settle_cut(struct weir_redis_index *index, const struct weir_cut *cut, const redisReply *answer)
{
    size_t kept = 0;
    for (size_t s = 0; s < index->span_count; s++) {
        index->spans[s].unique_bytes += index->spans[s].pending;
        index->spans[s].pending = 0;
        index->spans[s].is_new = false;
    }
    /* Dropped spans come in the order in which the steps named them, which is the index's. */
    size_t named = 1;
    for (size_t s = 0; s < index->span_count; s++) {
        struct weir_redis_span dropped;
        if (named < answer->elements && weir_redis_read_span(answer->element[named], &dropped)
            && dropped.start == index->spans[s].start && dropped.end == index->spans[s].end)
            named++;
        else
            index->spans[kept++] = index->spans[s];
    }
    index->span_count = kept;
    kept = 0;
    for (size_t b = 0; b < index->bucket_count; b++) {
        index->buckets[b].bytes += index->buckets[b].pending;
        index->buckets[b].pending = 0;
        if (index->buckets[b].bucket >= cut->forget_ids_below)
            index->buckets[kept++] = index->buckets[b];
    }
    index->bucket_count = kept;
}
