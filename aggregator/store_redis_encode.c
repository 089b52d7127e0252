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
#include <stdio.h>
#include <stdlib.h>

#include "aggregator/store_redis_internal.h"
#include "common/model/tally.h"

/* 1. What the probe asks and the transaction writes. */

/* The probe asks for the key's type; the first letter of what it has to be ("none" fits too): hash, set or string. */
static void probe_type(struct weir_redis_store *store, const struct weir_redis_key *key, char type)
{
    weir_redis_stream_begin(&store->probe, "TYPE", 1);
    weir_redis_stream_put_key(&store->probe, key);
    weir_redis_put(&store->probe_types, &type, 1);
}

/* command key member: SADD, HDEL. */
static void put_member(struct weir_redis_store *store, const char *command, const struct weir_redis_key *key,
                       const char *member)
{
    weir_redis_stream_begin(&store->transaction, command, 2);
    weir_redis_stream_put_key(&store->transaction, key);
    weir_redis_stream_put_text(&store->transaction, "%s", member);
}

static void put_log_length(struct weir_redis_store *store, struct weir_slice lane, const char *name, uint64_t bytes)
{
    struct weir_redis_key logs = weir_redis_plain_key(lane, "logs");
    weir_redis_stream_begin(&store->transaction, "HSET", 3);
    weir_redis_stream_put_key(&store->transaction, &logs);
    weir_redis_stream_put_text(&store->transaction, "%s", name);
    weir_redis_stream_put_text(&store->transaction, "%" PRIu64, bytes);
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
    struct weir_redis_key key = weir_redis_plain_key(cut->lane, "lane");
    bool has_gaps = cut->state.gaps.count > 0; /* it never gets fewer, and a lane begins with none */
    weir_redis_stream_begin(stream, "HSET", 1 + 2 * (14 + has_gaps));
    weir_redis_stream_put_key(stream, &key);
    weir_redis_stream_put_text(stream, "cut");
    weir_redis_stream_put_text(stream, "%" PRIu64, lane->cut_number + 1);
#define WEIR_X(name)                                                                                                   \
    weir_redis_stream_put_text(stream, #name);                                                                         \
    weir_redis_stream_put_text(stream, "%" PRId64, cut->state.name);
    STATE_TIMES(WEIR_X)
#undef WEIR_X
#define WEIR_X(name)                                                                                                   \
    weir_redis_stream_put_text(stream, #name);                                                                         \
    weir_redis_stream_put_text(stream, "%" PRIu64, cut->state.counts.name);
    STATE_COUNTS(WEIR_X)
#undef WEIR_X
    if (has_gaps) {
        char gaps[WEIR_GAPS_MAX * WEIR_GAP_TEXT_MAX];
        struct weir_slice text = weir_gaps_format(&cut->state.gaps, gaps);
        weir_redis_stream_put_text(stream, "gaps");
        weir_redis_stream_put(stream, text.data, text.length);
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
        struct weir_redis_key key = weir_redis_segment_key(lane, name, segment);
        probe_type(store, &key, 's');
        weir_redis_stream_begin(&store->transaction, "APPEND", 2);
        weir_redis_stream_put_key(&store->transaction, &key);
        weir_redis_stream_put(&store->transaction, data, piece);
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

/* 2. Windows by span. */

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
    return !window->is_closed && (window->number || !weir_series_is_tally(window->window.series_key));
}

/* One HSET of those of the windows that have a field; how many of them are closed. */
static size_t encode_fields(struct weir_redis_stream *stream, const struct weir_cut *cut, const uint32_t *at,
                            size_t count, size_t fields, const struct weir_redis_key *key)
{
    size_t closed = 0;
    if (fields == 0)
        return 0;
    weir_redis_stream_begin(stream, "HSET", 1 + 2 * fields);
    weir_redis_stream_put_key(stream, key);
    for (size_t i = 0; i < count; i++) {
        const struct weir_cut_window *window = &cut->windows[at[i]];
        const struct weir_slice *series = &window->window.series_key;
        unsigned char value[WEIR_REDIS_VALUE_BYTES];
        if (is_logged(window))
            continue;
        size_t length = weir_redis_store_value(&window->window.total, window->is_closed, value);
        char *to = weir_redis_reserve(&stream->bytes,
                                      2 * (WEIR_REDIS_HEAD_MAX + WEIR_REDIS_END) + series->length + sizeof(value));
        to = weir_redis_write_argument(to, series->data, series->length);
        weir_redis_used_up_to(&stream->bytes, weir_redis_write_argument(to, value, length));
        closed += window->is_closed;
    }
    return closed;
}

/* The closed ones of them, with this change's token. */
static void encode_work(struct weir_redis_stream *stream, const struct weir_cut *cut, const uint32_t *at, size_t count,
                        size_t closed, const struct weir_redis_key *key, uint64_t token)
{
    unsigned char bytes[WEIR_REDIS_TOKEN_BYTES];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(token >> (8 * i));
    if (closed == 0)
        return;
    weir_redis_stream_begin(stream, "HSET", 1 + 2 * closed);
    weir_redis_stream_put_key(stream, key);
    for (size_t i = 0; i < count; i++) {
        const struct weir_slice *series = &cut->windows[at[i]].window.series_key;
        if (!cut->windows[at[i]].is_closed)
            continue;
        char *to = weir_redis_reserve(&stream->bytes,
                                      2 * (WEIR_REDIS_HEAD_MAX + WEIR_REDIS_END) + series->length + sizeof(bytes));
        to = weir_redis_write_argument(to, series->data, series->length);
        weir_redis_used_up_to(&stream->bytes, weir_redis_write_argument(to, bytes, sizeof(bytes)));
    }
}

/* A block without records is none. */
static void end_block(struct weir_redis_buffer *open, size_t head, const struct weir_redis_span *span)
{
    size_t records = open->length - head - WEIR_REDIS_OPEN_HEAD_BYTES;
    uint32_t bytes = (uint32_t)records | WEIR_REDIS_OPEN_NUMBERED;
    weir_check(records < WEIR_REDIS_OPEN_NUMBERED);
    memcpy(open->data + head, &span->start, 8);
    memcpy(open->data + head + 8, &span->end, 8);
    memcpy(open->data + head + 16, &bytes, 4);
    if (records == 0)
        open->length = head;
}

static size_t begin_block(struct weir_redis_buffer *open)
{
    size_t head = open->length;
    weir_redis_reserve(open, WEIR_REDIS_OPEN_HEAD_BYTES);
    open->length += WEIR_REDIS_OPEN_HEAD_BYTES;
    return head;
}

/* The span's open windows: its start, its end, how many bytes follow (and that records have numbers), and for each
 * window u32 number, u8 length of the value, with KEYED u16 length of the series key and the key, the value. */
static void gather_open(struct weir_redis_buffer *open, const struct weir_redis_span *span, const struct weir_cut *cut,
                        const uint32_t *at, size_t count)
{
    enum { BLOCK_MOST = 1 << 30 };
    size_t head = begin_block(open);
    for (size_t i = 0; i < count; i++) {
        const struct weir_cut_window *window = &cut->windows[at[i]];
        const struct weir_slice *series = &window->window.series_key;
        uint16_t key = (uint16_t)series->length;
        if (!is_logged(window))
            continue;
        weir_check(key == series->length && (key || window->number));
        char *record =
            weir_redis_reserve(open, WEIR_REDIS_OPEN_RECORD_BYTES + sizeof(key) + key + WEIR_REDIS_VALUE_BYTES);
        char *to = record + WEIR_REDIS_OPEN_RECORD_BYTES;
        if (key) {
            memcpy(to, &key, sizeof(key));
            memcpy(to + sizeof(key), series->data, key);
            to += sizeof(key) + key;
        }
        size_t length = weir_redis_store_value(&window->window.total, false, (unsigned char *)to);
        memcpy(record, &window->number, 4);
        record[4] = (char)(length | (key ? WEIR_REDIS_OPEN_KEYED : 0));
        weir_redis_used_up_to(open, to + length);
        if (open->length - head > BLOCK_MOST) {
            end_block(open, head, span);
            head = begin_block(open);
        }
    }
    end_block(open, head, span);
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
    struct weir_redis_key windows = weir_redis_span_key(cut->lane, "windows", span),
                          work = weir_redis_span_key(cut->lane, "work", span);
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
        struct weir_redis_key working = weir_redis_plain_key(cut->lane, "working");
        probe_type(store, &work, 'h');
        put_member(store, "SADD", &working, name);
    }
    if (span->is_new) {
        struct weir_redis_key spans = weir_redis_plain_key(cut->lane, "spans");
        put_member(store, "SADD", &spans, name);
    }
}

/* 3. The whole. */

static void encode_probe_head(struct weir_redis_store *store, struct weir_slice lane)
{
    struct weir_redis_key key = weir_redis_plain_key(lane, "lane");
    weir_redis_stream_begin(&store->probe, "WATCH", 1);
    weir_redis_stream_put_key(&store->probe, &key);
    weir_redis_stream_begin(&store->probe, "HMGET", 5);
    weir_redis_stream_put_key(&store->probe, &key);
    weir_redis_stream_put_text(&store->probe, "format");
    weir_redis_stream_put_text(&store->probe, "epoch");
    weir_redis_stream_put_text(&store->probe, "next_offset");
    weir_redis_stream_put_text(&store->probe, "cut");
    static const struct {
        const char *name;
        char type;
    } plain[] = {{"spans", 's'}, {"working", 's'}, {"logs", 'h'}};
    for (size_t i = 0; i < 3; i++) {
        key = weir_redis_plain_key(lane, plain[i].name);
        probe_type(store, &key, plain[i].type == 'h' ? 'h' : 'S');
    }
}

/* The log grows by a cut: the probe asks how long it is now, and `expected` is what that has to be. */
static void probe_log(struct weir_redis_store *store, struct weir_slice lane, const char *name, uint64_t expected)
{
    struct weir_redis_key logs = weir_redis_plain_key(lane, "logs");
    char type = 'l';
    weir_redis_stream_begin(&store->probe, "HGET", 2);
    weir_redis_stream_put_key(&store->probe, &logs);
    weir_redis_stream_put_text(&store->probe, "%s", name);
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
        struct weir_redis_key key = weir_redis_segment_key(cut->lane, "open", i);
        weir_redis_stream_begin(&store->transaction, "UNLINK", 1);
        weir_redis_stream_put_key(&store->transaction, &key);
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
    struct weir_redis_key logs = weir_redis_plain_key(lane, "logs");
    char name[WEIR_REDIS_NAME_MAX];
    snprintf(name, sizeof(name), "%s:%" PRId64, what, bucket);
    for (uint64_t i = 0; i < segments_of(bytes); i++) {
        struct weir_redis_key key = weir_redis_segment_key(lane, name, i);
        weir_redis_stream_begin(&store->transaction, "UNLINK", 1);
        weir_redis_stream_put_key(&store->transaction, &key);
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
    struct weir_redis_key key;
    weir_redis_stream_begin(stream, "EVAL", 2 + keys + 2 * spans);
    weir_redis_stream_put(stream, text, length);
    weir_redis_stream_put_text(stream, "%zu", keys);
    static const char *const plain[] = {"spans", "logs", "working"};
    for (size_t i = 0; i < 3; i++) {
        key = weir_redis_plain_key(cut->lane, plain[i]);
        weir_redis_stream_put_key(stream, &key);
    }
    for (size_t s = 0; s < spans; s++) {
        const struct weir_redis_span *span = &index->spans[s];
        char name[WEIR_REDIS_NAME_MAX];
        unique_name(span, name);
        key = weir_redis_span_key(cut->lane, "work", span);
        weir_redis_stream_put_key(stream, &key);
        key = weir_redis_span_key(cut->lane, "windows", span);
        weir_redis_stream_put_key(stream, &key);
        for (uint64_t i = 0; i < segments_of(span->unique_bytes + span->pending); i++) {
            key = weir_redis_segment_key(cut->lane, name, i);
            weir_redis_stream_put_key(stream, &key);
        }
    }
    for (size_t s = 0; s < spans; s++) {
        const struct weir_redis_span *span = &index->spans[s];
        char name[WEIR_REDIS_NAME_MAX];
        span_name(span, name);
        weir_redis_stream_put_text(stream, "%s", name);
        weir_redis_stream_put_text(stream, "%" PRIu64, 2 + segments_of(span->unique_bytes + span->pending));
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
    weir_redis_stream_begin(&store->transaction, "MULTI", 0);
    put_state(store, lane, cut);
    for (size_t s = 0; s < index->span_count; s++)
        if (order.from[s + 1] > order.from[s])
            encode_span(store, &index->spans[s], cut, order.window + order.from[s], order.from[s + 1] - order.from[s]);
    encode_open(store, &index->open, cut);
    encode_unique(store, index, cut->lane);
    encode_ids(store, index, cut);
    encode_id_forgetting(store, index, cut);
    encode_dropping(store, index, cut); /* last: settle_cut looks for its answer there */
    weir_redis_stream_begin(&store->transaction, "EXEC", 0);
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
