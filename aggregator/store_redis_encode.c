/* A cut as commands: a probe that looks first, then one transaction that writes.
 *
 * The probe: WATCH of the lane hash, what it holds, how long the logs are, and the type of every key that will be
 * written. The transaction: MULTI, the commands, EXEC. Nothing of it is done before EXEC, and EXEC does nothing if the
 * lane hash was changed since WATCH (another owner) or if any command was refused when it was queued (memory, replica,
 * disk). A command that fails inside EXEC is not rolled back, which is why types are looked at first: nothing else can
 * fail there.
 *
 * Why no script: Lua keeps every string that it touches once, in a table, and its hash reads every second byte only of
 * a string of 32 to 63 bytes. Series keys and totals are such strings and alike: measured here, a script wrote a third
 * of the totals per second that this does, and a customer could choose names that make it far slower.
 *
 * Windows are ordered by span first, so that each span takes few commands (500 closed windows in each; of all open ones
 * one APPEND: store_redis_open.c says why). A cut is always one
 * transaction, however large: each command stays far below the 1,048,576 arguments that Redis takes. Staging a
 * large cut in side keys would need a merge that costs as much again, and a clean-up of what a dead worker leaves. The
 * price: Redis serves nobody else while EXEC runs (about a second for each million closed windows), and holds the
 * commands until then.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "aggregator/store_redis_internal.h"
#include "common/model/tally.h"

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
    index->open = (struct weir_redis_open_log){.round = WEIR_REDIS_NO_ROUND};
}

/* 2. Commands, in the form in which they are sent: "*arguments\r\n", then "$length\r\nbytes\r\n" for each. */

enum { HEAD_MAX = 24, END = 2 }; /* bytes in front of an argument, and behind it */

/* The digits of the number between the mark and the end of the line; they are mostly two or three. */
static inline char *write_head(char *at, char mark, size_t number)
{
    char digits[HEAD_MAX];
    size_t count = 0;

    *at++ = mark;
    for (; number >= 10; number /= 10)
        digits[count++] = (char)('0' + number % 10);
    *at++ = (char)('0' + number);
    while (count > 0)
        *at++ = digits[--count];
    memcpy(at, "\r\n", END);
    return at + END;
}

/* One argument, where HEAD_MAX + length + END bytes have room. */
static inline char *write_argument(char *at, const void *data, size_t length)
{
    at = write_head(at, '$', length);
    if (length)
        memcpy(at, data, length);
    memcpy(at + length, "\r\n", END);
    return at + length + END;
}

static inline void used_up_to(struct weir_redis_buffer *bytes, const char *end)
{
    bytes->length = (size_t)(end - bytes->data);
}

static void put(struct weir_redis_stream *stream, const void *data, size_t length)
{
    char *at = weir_redis_reserve(&stream->bytes, HEAD_MAX + length + END);
    used_up_to(&stream->bytes, write_argument(at, data, length));
}

__attribute__((format(printf, 2, 3))) static void put_text(struct weir_redis_stream *stream, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    weir_check(length >= 0 && (size_t)length < sizeof(text));
    put(stream, text, (size_t)length);
}

static void begin(struct weir_redis_stream *stream, const char *name, size_t arguments)
{
    used_up_to(&stream->bytes, write_head(weir_redis_reserve(&stream->bytes, HEAD_MAX), '*', arguments + 1));
    put(stream, name, strlen(name));
    stream->commands++;
}

/* A key of the cut's lane. */
struct key {
    char bytes[WEIR_REDIS_KEY_MAX];
    size_t length;
};

static struct key span_key(struct weir_slice lane, const char *what, const struct weir_redis_span *span)
{
    struct key key;
    key.length = weir_redis_key(key.bytes, lane, "%s:%" PRId64 ":%" PRId64, what, span->start, span->end);
    return key;
}

static struct key plain_key(struct weir_slice lane, const char *what)
{
    struct key key;
    key.length = weir_redis_key(key.bytes, lane, "%s", what);
    return key;
}

static struct key segment_key(struct weir_slice lane, const char *log, uint64_t segment)
{
    struct key key;
    key.length = weir_redis_key(key.bytes, lane, "%s:%" PRIu64, log, segment);
    return key;
}

static void put_key(struct weir_redis_stream *stream, const struct key *key)
{
    put(stream, key->bytes, key->length);
}

/* The probe asks for the key's type; the first letter of what it has to be ("none" fits too): hash, set or string. */
static void probe_type(struct weir_redis_store *store, const struct key *key, char type)
{
    begin(&store->probe, "TYPE", 1);
    put_key(&store->probe, key);
    weir_redis_put(&store->probe_types, &type, 1);
}

/* command key member: SADD, HDEL. */
static void put_member(struct weir_redis_store *store, const char *command, const struct key *key, const char *member)
{
    begin(&store->transaction, command, 2);
    put_key(&store->transaction, key);
    put_text(&store->transaction, "%s", member);
}

static void put_log_length(struct weir_redis_store *store, struct weir_slice lane, const char *name, uint64_t bytes)
{
    struct key logs = plain_key(lane, "logs");
    begin(&store->transaction, "HSET", 3);
    put_key(&store->transaction, &logs);
    put_text(&store->transaction, "%s", name);
    put_text(&store->transaction, "%" PRIu64, bytes);
}

#define STATE_TIMES(X) X(next_offset) X(high) X(watermark) X(first_time) X(last_time) X(forgotten) X(stamp)
#define STATE_COUNTS(X) X(read) X(counted) X(duplicate) X(unmatched) X(retracted) X(quarantined)

void weir_redis_pack_state(struct weir_redis_command *command, const struct weir_lane_state *state)
{
#define WEIR_X(name)                                                                                                   \
    weir_redis_pack_text(command, #name);                                                                              \
    weir_redis_pack_text(command, "%" PRId64, state->name);
    STATE_TIMES(WEIR_X)
#undef WEIR_X
#define WEIR_X(name)                                                                                                   \
    weir_redis_pack_text(command, #name);                                                                              \
    weir_redis_pack_text(command, "%" PRIu64, state->counts.name);
    STATE_COUNTS(WEIR_X)
#undef WEIR_X
    char gaps[WEIR_GAPS_MAX * WEIR_GAP_TEXT_MAX];
    struct weir_slice text = weir_gaps_format(&state->gaps, gaps);
    weir_redis_pack_text(command, "gaps");
    weir_redis_pack(command, text.data, text.length);
}

static void put_state(struct weir_redis_store *store, const struct weir_redis_lane *lane, const struct weir_cut *cut)
{
    struct weir_redis_stream *stream = &store->transaction;
    struct key key = plain_key(cut->lane, "lane");
    bool has_gaps = cut->state.gaps.count > 0; /* it never gets fewer, and a lane begins with none */
    begin(stream, "HSET", 1 + 2 * (14 + has_gaps));
    put_key(stream, &key);
    put_text(stream, "cut");
    put_text(stream, "%" PRIu64, lane->cut_number + 1);
#define WEIR_X(name)                                                                                                   \
    put_text(stream, #name);                                                                                           \
    put_text(stream, "%" PRId64, cut->state.name);
    STATE_TIMES(WEIR_X)
#undef WEIR_X
#define WEIR_X(name)                                                                                                   \
    put_text(stream, #name);                                                                                           \
    put_text(stream, "%" PRIu64, cut->state.counts.name);
    STATE_COUNTS(WEIR_X)
#undef WEIR_X
    if (has_gaps) {
        char gaps[WEIR_GAPS_MAX * WEIR_GAP_TEXT_MAX];
        struct weir_slice text = weir_gaps_format(&cut->state.gaps, gaps);
        put_text(stream, "gaps");
        put(stream, text.data, text.length);
    }
}

static void span_name(const struct weir_redis_span *span, char name[WEIR_REDIS_NAME_MAX])
{
    snprintf(name, WEIR_REDIS_NAME_MAX, "%" PRId64 ":%" PRId64, span->start, span->end);
}

/* Appends `data` at `bytes` of the log, cut where a segment ends. */
static void append_segments(struct weir_redis_store *store, struct weir_slice lane, const char *name,
                            uint64_t segment_bytes, uint64_t bytes, const char *data, size_t length)
{
    while (length > 0) {
        uint64_t segment = bytes / segment_bytes;
        size_t room = (size_t)((segment + 1) * segment_bytes - bytes);
        size_t piece = length < room ? length : room;
        struct key key = segment_key(lane, name, segment);
        probe_type(store, &key, 's');
        begin(&store->transaction, "APPEND", 2);
        put_key(&store->transaction, &key);
        put(&store->transaction, data, piece);
        data += piece;
        bytes += piece;
        length -= piece;
    }
}

static void append_log(struct weir_redis_store *store, struct weir_slice lane, const char *name, uint64_t bytes,
                       const char *data, size_t length)
{
    append_segments(store, lane, name, WEIR_REDIS_SEGMENT_BYTES, bytes, data, length);
}

static uint64_t segments_of(uint64_t bytes)
{
    return (bytes + WEIR_REDIS_SEGMENT_BYTES - 1) / WEIR_REDIS_SEGMENT_BYTES;
}

static void unique_name(const struct weir_redis_span *span, char name[WEIR_REDIS_NAME_MAX])
{
    snprintf(name, WEIR_REDIS_NAME_MAX, "unique:%" PRId64 ":%" PRId64, span->start, span->end);
}

/* 3. Windows by span. */

struct cut_order {
    uint32_t *from;   /* by span: where its windows begin in `window`; one more at the end */
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

/* An open window is a record in the log of open windows, as it changes again and again; a closed one, which hardly ever
 * does, has a field that a rater finds. So has a tally: there is one for a customer, for good. */
static bool is_logged(const struct weir_cut_window *window)
{
    return !window->is_closed && !weir_series_is_tally(window->window.series_key);
}

/* One HSET of those of the windows that have a field; how many of them are closed. */
static size_t encode_fields(struct weir_redis_stream *stream, const struct weir_cut *cut, const uint32_t *at,
                            size_t count, size_t fields, const struct key *key)
{
    size_t closed = 0;
    if (fields == 0)
        return 0;
    begin(stream, "HSET", 1 + 2 * fields);
    put_key(stream, key);
    for (size_t i = 0; i < count; i++) {
        const struct weir_cut_window *window = &cut->windows[at[i]];
        const struct weir_slice *series = &window->window.series_key;
        unsigned char value[WEIR_REDIS_VALUE_BYTES];
        if (is_logged(window))
            continue;
        size_t length = weir_redis_store_value(&window->window.total, window->is_closed, value);
        char *to = weir_redis_reserve(&stream->bytes, 2 * (HEAD_MAX + END) + series->length + sizeof(value));
        to = write_argument(to, series->data, series->length);
        used_up_to(&stream->bytes, write_argument(to, value, length));
        closed += window->is_closed;
    }
    return closed;
}

/* The closed ones of them, with this change's token. */
static void encode_work(struct weir_redis_stream *stream, const struct weir_cut *cut, const uint32_t *at, size_t count,
                        size_t closed, const struct key *key, uint64_t token)
{
    unsigned char bytes[WEIR_REDIS_TOKEN_BYTES];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(token >> (8 * i));
    if (closed == 0)
        return;
    begin(stream, "HSET", 1 + 2 * closed);
    put_key(stream, key);
    for (size_t i = 0; i < count; i++) {
        const struct weir_slice *series = &cut->windows[at[i]].window.series_key;
        if (!cut->windows[at[i]].is_closed)
            continue;
        char *to = weir_redis_reserve(&stream->bytes, 2 * (HEAD_MAX + END) + series->length + sizeof(bytes));
        to = write_argument(to, series->data, series->length);
        used_up_to(&stream->bytes, write_argument(to, bytes, sizeof(bytes)));
    }
}

/* The span's open windows: its start, its end, how many bytes follow, and for each window u16 length of the series key,
 * the key, u8 length of the value, the value. */
static void gather_open(struct weir_redis_buffer *open, const struct weir_redis_span *span, const struct weir_cut *cut,
                        const uint32_t *at, size_t count)
{
    size_t head = open->length;
    weir_redis_reserve(open, WEIR_REDIS_OPEN_HEAD_BYTES);
    open->length += WEIR_REDIS_OPEN_HEAD_BYTES;
    for (size_t i = 0; i < count; i++) {
        const struct weir_cut_window *window = &cut->windows[at[i]];
        const struct weir_slice *series = &window->window.series_key;
        if (!is_logged(window))
            continue;
        uint16_t key = (uint16_t)series->length;
        weir_check(key == series->length);
        char *to = weir_redis_reserve(open, sizeof(key) + series->length + 1 + WEIR_REDIS_VALUE_BYTES);
        memcpy(to, &key, sizeof(key));
        memcpy(to + sizeof(key), series->data, series->length);
        to += sizeof(key) + series->length;
        size_t length = weir_redis_store_value(&window->window.total, false, (unsigned char *)to + 1);
        *to = (char)length;
        used_up_to(open, to + 1 + length);
    }
    size_t records = open->length - head - WEIR_REDIS_OPEN_HEAD_BYTES;
    uint32_t bytes = (uint32_t)records;
    weir_check(bytes == records);
    memcpy(open->data + head, &span->start, 8);
    memcpy(open->data + head + 8, &span->end, 8);
    memcpy(open->data + head + 16, &bytes, 4);
    if (records == 0)
        open->length = head;
}

/* Records of the span's unique log: u16 series key length | series key | u32 fingerprints | fingerprints, little
 * endian. */
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

static void encode_span(struct weir_redis_store *store, const struct weir_redis_span *span, const struct weir_cut *cut,
                        const uint32_t *at, size_t count)
{
    struct key windows = span_key(cut->lane, "windows", span), work = span_key(cut->lane, "work", span);
    char name[WEIR_REDIS_NAME_MAX];
    size_t fields = 0, closed = 0;
    span_name(span, name);
    for (size_t i = 0; i < count; i += WEIR_REDIS_CHUNK) {
        size_t chunk = count - i < WEIR_REDIS_CHUNK ? count - i : WEIR_REDIS_CHUNK, in_chunk = 0;
        for (size_t n = i; n < i + chunk; n++)
            in_chunk += !is_logged(&cut->windows[at[n]]);
        size_t chunk_closed = encode_fields(&store->transaction, cut, at + i, chunk, in_chunk, &windows);
        encode_work(&store->transaction, cut, at + i, chunk, chunk_closed, &work, store->token);
        fields += in_chunk;
        closed += chunk_closed;
    }
    gather_open(&store->open, span, cut, at, count);
    if (fields > 0)
        probe_type(store, &windows, 'h');
    if (closed > 0) {
        struct key working = plain_key(cut->lane, "working");
        probe_type(store, &work, 'h');
        put_member(store, "SADD", &working, name);
    }
    if (span->is_new) {
        struct key spans = plain_key(cut->lane, "spans");
        put_member(store, "SADD", &spans, name);
    }
}

/* 4. The whole. */

static void encode_probe_head(struct weir_redis_store *store, struct weir_slice lane)
{
    struct key key = plain_key(lane, "lane");
    begin(&store->probe, "WATCH", 1);
    put_key(&store->probe, &key);
    begin(&store->probe, "HMGET", 5);
    put_key(&store->probe, &key);
    put_text(&store->probe, "format");
    put_text(&store->probe, "epoch");
    put_text(&store->probe, "next_offset");
    put_text(&store->probe, "cut");
    static const struct {
        const char *name;
        char type;
    } plain[] = {{"spans", 's'}, {"working", 's'}, {"logs", 'h'}};
    for (size_t i = 0; i < 3; i++) {
        key = plain_key(lane, plain[i].name);
        probe_type(store, &key, plain[i].type == 'h' ? 'h' : 'S');
    }
}

/* The log grows by a cut: the probe asks how long it is now, and `expected` is what that has to be. */
static void probe_log(struct weir_redis_store *store, struct weir_slice lane, const char *name, uint64_t expected)
{
    struct key logs = plain_key(lane, "logs");
    char type = 'l';
    begin(&store->probe, "HGET", 2);
    put_key(&store->probe, &logs);
    put_text(&store->probe, "%s", name);
    weir_redis_put(&store->probe_types, &type, 1);
    weir_redis_put(&store->probe_lengths, &expected, sizeof(expected));
}

/* Where the round began that the cut is of. */
static uint64_t round_of(const struct weir_redis_open_log *open, const struct weir_cut *cut)
{
    return cut->begins_round ? open->bytes : open->round;
}

/* Where the log begins when the cut is written: a round that ends makes what came before it needless. */
static uint64_t open_from(const struct weir_redis_open_log *open, const struct weir_cut *cut)
{
    uint64_t round = round_of(open, cut);
    return cut->ends_round && round != WEIR_REDIS_NO_ROUND ? round : open->from;
}

/* Only whole segments go; one that the cut itself writes never does. */
static void encode_open(struct weir_redis_store *store, struct weir_redis_open_log *open, const struct weir_cut *cut)
{
    uint64_t from = open_from(open, cut);
    open->pending = store->open.length;
    if (open->pending > 0) {
        probe_log(store, cut->lane, "open", open->bytes);
        append_segments(store, cut->lane, "open", WEIR_REDIS_OPEN_SEGMENT_BYTES, open->bytes, store->open.data,
                        open->pending);
        put_log_length(store, cut->lane, "open", open->bytes + open->pending);
    }
    if (from == open->from)
        return;
    for (uint64_t i = open->from / WEIR_REDIS_OPEN_SEGMENT_BYTES; i < from / WEIR_REDIS_OPEN_SEGMENT_BYTES; i++) {
        struct key key = segment_key(cut->lane, "open", i);
        begin(&store->transaction, "UNLINK", 1);
        put_key(&store->transaction, &key);
    }
    put_log_length(store, cut->lane, "open_from", from);
}

static void encode_unique(struct weir_redis_store *store, const struct weir_redis_index *index, struct weir_slice lane)
{
    for (size_t s = 0; s < index->span_count; s++) {
        const struct weir_redis_span *span = &index->spans[s];
        char name[WEIR_REDIS_NAME_MAX];
        if (span->pending == 0)
            continue;
        unique_name(span, name);
        probe_log(store, lane, name, span->unique_bytes);
        append_log(store, lane, name, span->unique_bytes, store->gather.data + span->pending_from, span->pending);
        put_log_length(store, lane, name, span->unique_bytes + span->pending);
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

static void encode_ids(struct weir_redis_store *store, const struct weir_redis_index *index, const struct weir_cut *cut)
{
    for (size_t b = 0; b < index->bucket_count; b++) {
        const struct weir_redis_bucket *bucket = &index->buckets[b];
        uint64_t bytes = bucket->bytes;
        char name[WEIR_REDIS_NAME_MAX];
        if (bucket->pending == 0)
            continue;
        snprintf(name, sizeof(name), "seen:%" PRId64, bucket->bucket);
        probe_log(store, cut->lane, name, bytes);
        for (size_t i = 0; i < cut->ids_count; i++) {
            if (cut->ids[i].bucket != bucket->bucket)
                continue;
            append_log(store, cut->lane, name, bytes, cut->ids[i].ids.data, cut->ids[i].ids.length);
            bytes += cut->ids[i].ids.length;
        }
        put_log_length(store, cut->lane, name, bytes);
    }
}

static void drop_log(struct weir_redis_store *store, struct weir_slice lane, const char *what, int64_t bucket,
                     uint64_t bytes)
{
    struct key logs = plain_key(lane, "logs");
    char name[WEIR_REDIS_NAME_MAX];
    snprintf(name, sizeof(name), "%s:%" PRId64, what, bucket);
    for (uint64_t i = 0; i < segments_of(bytes); i++) {
        struct key key = segment_key(lane, name, i);
        begin(&store->transaction, "UNLINK", 1);
        put_key(&store->transaction, &key);
    }
    put_member(store, "HDEL", &logs, name);
}

static void encode_id_forgetting(struct weir_redis_store *store, const struct weir_redis_index *index,
                                 const struct weir_cut *cut)
{
    for (size_t b = 0; b < index->bucket_count && index->buckets[b].bucket < cut->forget_ids_below; b++) {
        const struct weir_redis_bucket *bucket = &index->buckets[b];
        drop_log(store, cut->lane, "seen", bucket->bucket, bucket->bytes);
        if (bucket->old_bytes)
            drop_log(store, cut->lane, "ids", bucket->bucket, bucket->old_bytes);
    }
}

/* A script, since only Redis knows whether a span's list of work is empty; sent as text, as a transaction can not fall
 * back when the server has forgotten it. The index is sorted by end, so what may go is at its front. */
static void encode_dropping(struct weir_redis_store *store, const struct weir_redis_index *index,
                            const struct weir_cut *cut)
{
    struct weir_redis_stream *stream = &store->transaction;
    size_t spans = 0, keys = 3;
    while (spans < index->span_count && index->spans[spans].end <= cut->forget_windows_below) {
        const struct weir_redis_span *span = &index->spans[spans++];
        keys += 2 + segments_of(span->unique_bytes + span->pending);
    }
    if (spans == 0)
        return;
    size_t length;
    const char *text = weir_redis_script_text("redis/drop_spans.lua", &length);
    struct key key;
    begin(stream, "EVAL", 2 + keys + 2 * spans);
    put(stream, text, length);
    put_text(stream, "%zu", keys);
    static const char *const plain[] = {"spans", "logs", "working"};
    for (size_t i = 0; i < 3; i++) {
        key = plain_key(cut->lane, plain[i]);
        put_key(stream, &key);
    }
    for (size_t s = 0; s < spans; s++) {
        const struct weir_redis_span *span = &index->spans[s];
        char name[WEIR_REDIS_NAME_MAX];
        unique_name(span, name);
        key = span_key(cut->lane, "work", span);
        put_key(stream, &key);
        key = span_key(cut->lane, "windows", span);
        put_key(stream, &key);
        for (uint64_t i = 0; i < segments_of(span->unique_bytes + span->pending); i++) {
            key = segment_key(cut->lane, name, i);
            put_key(stream, &key);
        }
    }
    for (size_t s = 0; s < spans; s++) {
        const struct weir_redis_span *span = &index->spans[s];
        char name[WEIR_REDIS_NAME_MAX];
        span_name(span, name);
        put_text(stream, "%s", name);
        put_text(stream, "%" PRIu64, 2 + segments_of(span->unique_bytes + span->pending));
    }
}

bool weir_redis_encode_cut(struct weir_redis_store *store, struct weir_redis_lane *lane, const struct weir_cut *cut)
{
    struct weir_redis_index *index = &lane->index;
    weir_check(cut->window_count < UINT32_MAX / 4);
    store->probe = (struct weir_redis_stream){.bytes = store->probe.bytes};
    store->transaction = (struct weir_redis_stream){.bytes = store->transaction.bytes};
    store->probe.bytes.length = store->transaction.bytes.length = 0;
    store->probe_types.length = store->probe_lengths.length = store->gather.length = store->open.length = 0;
    store->token++;
    struct cut_order order = order_windows(store, index, cut);
    for (size_t s = 0; s < index->span_count; s++)
        gather_unique(&store->gather, &index->spans[s], cut, order.window + order.from[s],
                      order.from[s + 1] - order.from[s]);
    count_ids(index, cut);
    encode_probe_head(store, cut->lane);
    begin(&store->transaction, "MULTI", 0);
    put_state(store, lane, cut);
    for (size_t s = 0; s < index->span_count; s++)
        if (order.from[s + 1] > order.from[s])
            encode_span(store, &index->spans[s], cut, order.window + order.from[s], order.from[s + 1] - order.from[s]);
    encode_open(store, &index->open, cut);
    encode_unique(store, index, cut->lane);
    encode_ids(store, index, cut);
    encode_id_forgetting(store, index, cut);
    encode_dropping(store, index, cut); /* last: settle_cut looks for its answer there */
    begin(&store->transaction, "EXEC", 0);
    return store->transaction.bytes.length <= WEIR_REDIS_CUT_BYTES_MAX;
}

void weir_redis_settle_cut(struct weir_redis_index *index, const struct weir_cut *cut, const redisReply *answer)
{
    struct weir_redis_open_log *open = &index->open;
    size_t kept = 0;
    *open = (struct weir_redis_open_log){.from = open_from(open, cut),
                                         .bytes = open->bytes + open->pending,
                                         .round = cut->ends_round ? WEIR_REDIS_NO_ROUND : round_of(open, cut)};
    for (size_t s = 0; s < index->span_count; s++) {
        index->spans[s].unique_bytes += index->spans[s].pending;
        index->spans[s].pending = 0;
        index->spans[s].is_new = false;
    }
    /* Dropped spans come in the order in which they were named, which is the index's. */
    const redisReply *dropping = answer->elements ? answer->element[answer->elements - 1] : NULL;
    size_t named = 0, names = dropping && dropping->type == REDIS_REPLY_ARRAY ? dropping->elements : 0;
    for (size_t s = 0; s < index->span_count; s++) {
        struct weir_redis_span dropped;
        if (named < names && weir_redis_read_span(dropping->element[named], &dropped)
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
