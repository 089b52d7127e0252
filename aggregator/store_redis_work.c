/* The rater's list of work, oldest spans first. */
#include <inttypes.h>
#include <stdlib.h>

#include "aggregator/store_redis_internal.h"

/* 1. Reading. Tokens are read before totals: a change in between leaves an old token, which finish_work then refuses.
 */

struct work_batch {
    struct weir_slice lane;
    struct weir_redis_span spans[WEIR_REDIS_PIPELINE];
    unsigned long long cursors[WEIR_REDIS_PIPELINE]; /* to start from */
    size_t asked[WEIR_REDIS_PIPELINE];               /* items */
    redisReply *found[WEIR_REDIS_PIPELINE];          /* HSCAN's answers, owned by store->kept */
    size_t wanted[WEIR_REDIS_PIPELINE];              /* items used of each */
    size_t count;
};

void weir_redis_release_kept(struct weir_redis_store *store)
{
    for (size_t i = 0; i < store->kept_count; i++)
        freeReplyObject(store->kept[i]);
    store->kept_count = 0;
}

static void keep(struct weir_redis_store *store, redisReply *reply)
{
    if (store->kept_count == store->kept_capacity) {
        store->kept_capacity = store->kept_capacity ? store->kept_capacity * 2 : 64;
        store->kept = weir_resize(store->kept, store->kept_capacity, sizeof(*store->kept));
    }
    store->kept[store->kept_count++] = reply;
}

static int compare_spans(const void *a, const void *b)
{
    const struct weir_redis_span *left = a, *right = b;
    int order = (left->end > right->end) - (left->end < right->end);
    return order ? order : (left->start > right->start) - (left->start < right->start);
}

/* Spans with work, oldest first, in *ret_spans (to be freed). */
static enum weir_status read_working(struct weir_redis_store *store, struct weir_slice lane,
                                     struct weir_redis_span **ret_spans, size_t *ret_count, struct weir_error *reterr)
{
    char lane_key[WEIR_REDIS_KEY_MAX], key[WEIR_REDIS_KEY_MAX];
    size_t lane_length = weir_redis_key(lane_key, lane, "lane");
    size_t length = weir_redis_key(key, lane, "working");
    redisReply *reply = NULL;
    redisAppendCommand(store->context, "HGET %b format", lane_key, lane_length);
    redisAppendCommand(store->context, "SMEMBERS %b", key, length);
    enum weir_status status = weir_redis_receive(store, &reply, reterr);
    if (status != WEIR_OK)
        return status;
    bool fits = reply->type == REDIS_REPLY_NIL || weir_redis_is_format(reply);
    freeReplyObject(reply);
    if (!fits)
        return weir_redis_other_format(store, lane, reterr);
    status = weir_redis_receive_array(store, SIZE_MAX, &reply, reterr);
    if (status != WEIR_OK)
        return status;
    struct weir_redis_span *spans = weir_new_array(reply->elements + 1, sizeof(*spans));
    for (size_t i = 0; i < reply->elements && fits; i++)
        fits = weir_redis_read_span(reply->element[i], &spans[i]);
    size_t count = reply->elements;
    freeReplyObject(reply);
    if (!fits) {
        free(spans);
        return weir_redis_corrupt(store, lane, "the set of spans with work", reterr);
    }
    qsort(spans, count, sizeof(*spans), compare_spans);
    *ret_spans = spans;
    *ret_count = count;
    return WEIR_OK;
}

/* Keeps as many spans of the batch, from its front, as hold `room` items together. */
static enum weir_status size_batch(struct weir_redis_store *store, struct work_batch *batch, size_t room,
                                   struct weir_error *reterr)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct weir_redis_key key = weir_redis_span_key(batch->lane, "work", &batch->spans[i]);
        redisAppendCommand(store->context, "HLEN %b", key.bytes, key.length);
    }
    size_t items = 0, needed = 0;
    for (size_t i = 0; i < batch->count; i++) {
        redisReply *reply = NULL;
        enum weir_status status = weir_redis_receive(store, &reply, reterr);
        if (status != WEIR_OK)
            return status;
        if (items < room)
            needed = i + 1;
        batch->asked[i] = items < room ? room - items : 0;
        items += reply->type == REDIS_REPLY_INTEGER ? (size_t)reply->integer : 0;
        freeReplyObject(reply);
    }
    batch->count = needed;
    return WEIR_OK;
}

static void send_scan(struct weir_redis_store *store, const struct work_batch *batch, size_t i)
{
    struct weir_redis_key key = weir_redis_span_key(batch->lane, "work", &batch->spans[i]);
    redisAppendCommand(store->context, "HSCAN %b %llu COUNT %llu", key.bytes, key.length, batch->cursors[i],
                       (unsigned long long)batch->asked[i]);
}

static enum weir_status take_scan(struct weir_redis_store *store, struct work_batch *batch, size_t i,
                                  struct weir_error *reterr)
{
    uint64_t cursor;
    enum weir_status status = weir_redis_receive_array(store, 2, &batch->found[i], reterr);
    if (status != WEIR_OK)
        return status;
    keep(store, batch->found[i]);
    if (!weir_redis_read_u64(batch->found[i]->element[0], &cursor)
        || batch->found[i]->element[1]->type != REDIS_REPLY_ARRAY)
        return weir_redis_corrupt(store, batch->lane, "the list of work", reterr);
    batch->cursors[i] = cursor;
    return WEIR_OK;
}

/* Asks each span once for what the ones before it leave room for: one HSCAN shows no item twice, several might. Only
 * while a span has shown nothing at all is it asked again, up to a whole round, so that a sparse hash never looks
 * empty. */
static enum weir_status scan_work(struct weir_redis_store *store, struct work_batch *batch, struct weir_error *reterr)
{
    bool is_round[WEIR_REDIS_PIPELINE] = {false}; /* walked from the very front */
    for (size_t i = 0; i < batch->count; i++) {
        is_round[i] = batch->cursors[i] == 0;
        send_scan(store, batch, i);
    }
    for (size_t i = 0; i < batch->count; i++) {
        enum weir_status status = take_scan(store, batch, i, reterr);
        if (status != WEIR_OK)
            return status;
    }
    for (size_t i = 0; i < batch->count; i++) {
        while (batch->found[i]->element[1]->elements == 0 && !(is_round[i] && batch->cursors[i] == 0)) {
            is_round[i] |= batch->cursors[i] == 0;
            send_scan(store, batch, i);
            enum weir_status status = take_scan(store, batch, i, reterr);
            if (status != WEIR_OK)
                return status;
        }
    }
    return WEIR_OK;
}

static bool read_token(const redisReply *reply, uint64_t *ret_token)
{
    if (reply->type != REDIS_REPLY_STRING || reply->len != WEIR_REDIS_TOKEN_BYTES)
        return false;
    uint64_t token = 0;
    for (size_t i = 0; i < WEIR_REDIS_TOKEN_BYTES; i++)
        token |= (uint64_t)(unsigned char)reply->str[i] << (8 * i);
    *ret_token = token;
    return true;
}

static void send_totals(struct weir_redis_store *store, const struct work_batch *batch, size_t i)
{
    const redisReply *pairs = batch->found[i]->element[1];
    struct weir_redis_key key = weir_redis_span_key(batch->lane, "windows", &batch->spans[i]);
    const char **argv = weir_new_array(batch->wanted[i] + 2, sizeof(*argv));
    size_t *lengths = weir_new_array(batch->wanted[i] + 2, sizeof(*lengths));
    argv[0] = "HMGET";
    lengths[0] = 5;
    argv[1] = key.bytes;
    lengths[1] = key.length;
    for (size_t n = 0; n < batch->wanted[i]; n++) {
        argv[n + 2] = pairs->element[2 * n]->str;
        lengths[n + 2] = pairs->element[2 * n]->len;
    }
    redisAppendCommandArgv(store->context, (int)(batch->wanted[i] + 2), argv, lengths);
    free(argv);
    free(lengths);
}

static enum weir_status take_totals(struct weir_redis_store *store, const struct work_batch *batch, size_t i,
                                    struct weir_work *work, size_t *count, struct weir_error *reterr)
{
    const redisReply *pairs = batch->found[i]->element[1];
    redisReply *totals = NULL;
    enum weir_status status = weir_redis_receive_array(store, batch->wanted[i], &totals, reterr);
    if (status != WEIR_OK)
        return status;
    bool fits = true;
    for (size_t n = 0; n < batch->wanted[i] && fits; n++) {
        /* Gone: another rater finished it and the next cut dropped its span, since the list was read. */
        if (totals->element[n]->type == REDIS_REPLY_NIL)
            continue;
        struct weir_work *item = &work[*count];
        const redisReply *series = pairs->element[2 * n];
        bool is_closed;
        item->window.series_key = weir_slice_of(series->str, series->len);
        item->window.start = batch->spans[i].start;
        item->window.end = batch->spans[i].end;
        fits = weir_redis_read_value(totals->element[n], &item->window.total, &is_closed)
               && read_token(pairs->element[2 * n + 1], &item->token);
        *count += fits;
    }
    freeReplyObject(totals);
    return fits ? WEIR_OK : weir_redis_corrupt(store, batch->lane, "a closed window or its token", reterr);
}

static enum weir_status read_batch(struct weir_redis_store *store, struct work_batch *batch, size_t max,
                                   struct weir_work *work, size_t *count, struct weir_error *reterr)
{
    size_t room = max - *count;
    enum weir_status status = size_batch(store, batch, room, reterr);
    if (status == WEIR_OK)
        status = scan_work(store, batch, reterr);
    if (status != WEIR_OK)
        return status;
    for (size_t i = 0; i < batch->count; i++) {
        size_t found = batch->found[i]->element[1]->elements / 2;
        batch->wanted[i] = found < room ? found : room;
        room -= batch->wanted[i];
        if (batch->wanted[i])
            send_totals(store, batch, i);
    }
    for (size_t i = 0; i < batch->count && status == WEIR_OK; i++)
        if (batch->wanted[i])
            status = take_totals(store, batch, i, work, count, reterr);
    return status;
}

/* The oldest span is gone on with where the last call stopped: what lay before is mostly finished, and a hash that has
 * been emptied from its front would be walked through again and again. */
static unsigned long long saved_cursor(const struct weir_redis_store *store, struct weir_slice lane,
                                       const struct weir_redis_span *span)
{
    struct weir_slice saved = {store->cursor_lane, store->cursor_lane_length};
    return weir_slice_equal(saved, lane) && compare_spans(&store->cursor_span, span) == 0 ? store->cursor : 0;
}

static void save_cursor(struct weir_redis_store *store, struct weir_slice lane, const struct weir_redis_span *span,
                        unsigned long long cursor)
{
    memcpy(store->cursor_lane, lane.data, lane.length);
    store->cursor_lane_length = lane.length;
    store->cursor_span = *span;
    store->cursor = cursor;
}

/* As many spans from s on as are asked at once; one that is gone on with is asked alone: nobody knows how much of it is
 * left. */
static void choose_spans(struct work_batch *batch, const struct weir_redis_span *spans, size_t count)
{
    size_t most = batch->cursors[0] ? 1 : WEIR_REDIS_PIPELINE;

    for (; batch->count < count && batch->count < most; batch->count++)
        batch->spans[batch->count] = spans[batch->count];
}

/* The first span behind the place; *ret_cursor: where to go on in it. */
static size_t find_place(const struct weir_work_place *place, const struct weir_redis_span *spans, size_t count,
                         unsigned long long *ret_cursor)
{
    struct weir_redis_span last = {.start = place->start, .end = place->end};
    size_t s = 0;

    *ret_cursor = 0;
    while (s < count && compare_spans(&spans[s], &last) < 0)
        s++;
    if (s == count || compare_spans(&spans[s], &last) != 0)
        return s;
    *ret_cursor = place->cursor;
    return place->cursor ? s : s + 1;
}

static enum weir_status read_work(struct weir_redis_store *store, struct weir_slice lane, struct weir_work_place *place,
                                  size_t max, struct weir_work *ret_work, size_t *ret_count, struct weir_error *reterr)
{
    struct weir_redis_span *spans = NULL;
    size_t span_count = 0, count = 0, s = 0;
    unsigned long long cursor = 0;
    bool is_front = !place->goes_on;
    weir_redis_release_kept(store);
    enum weir_status status = weir_redis_reach(store, lane, reterr);
    if (status == WEIR_OK)
        status = read_working(store, lane, &spans, &span_count, reterr);
    if (status == WEIR_OK && !is_front)
        s = find_place(place, spans, span_count, &cursor);
    else if (status == WEIR_OK && span_count > 0)
        cursor = saved_cursor(store, lane, &spans[0]);
    while (s < span_count && count < max && status == WEIR_OK) {
        struct work_batch batch = {.lane = lane, .cursors = {cursor}};
        cursor = 0;
        choose_spans(&batch, spans + s, span_count - s);
        status = read_batch(store, &batch, max, ret_work, &count, reterr);
        if (status != WEIR_OK)
            break;
        if (is_front && s == 0)
            save_cursor(store, lane, &spans[0], batch.cursors[0]);
        s += batch.count;
        *place = (struct weir_work_place){.goes_on = true,
                                          .start = spans[s - 1].start,
                                          .end = spans[s - 1].end,
                                          .cursor = batch.cursors[batch.count - 1]};
    }
    free(spans);
    if (status == WEIR_OK)
        *ret_count = count;
    return status;
}

enum weir_status weir_redis_read_more_work(struct weir_window_store *base, struct weir_slice lane,
                                           struct weir_work_place *place, size_t max, struct weir_work *ret_work,
                                           size_t *ret_count, struct weir_error *reterr)
{
    struct weir_redis_store *store = (struct weir_redis_store *)base;
    const struct weir_work_place before = *place;
    enum weir_status status;
    do {
        *place = before;
        status = read_work(store, lane, place, max, ret_work, ret_count, reterr);
    } while (weir_redis_follow(store, status));
    return status;
}

enum weir_status weir_redis_read_work(struct weir_window_store *base, struct weir_slice lane, size_t max,
                                      struct weir_work *ret_work, size_t *ret_count, struct weir_error *reterr)
{
    struct weir_work_place front = {0};
    return weir_redis_read_more_work(base, lane, &front, max, ret_work, ret_count, reterr);
}

/* 2. Finishing. */

/* Packs `count` items of one span as a step of finish_work.lua. */
static void encode_finish(struct weir_redis_command *command, size_t key, const struct weir_work *const *items,
                          size_t count)
{
    const struct weir_window *window = &items[0]->window;
    weir_redis_add_text(command, "%zu", key);
    weir_redis_add_text(command, "%" PRId64 ":%" PRId64, window->start, window->end);
    weir_redis_pack_begin(command);
    for (size_t i = 0; i < count; i++)
        weir_redis_pack(command, items[i]->window.series_key.data, items[i]->window.series_key.length);
    weir_redis_pack_end(command);
    weir_redis_pack_begin(command);
    for (size_t i = 0; i < count; i++) {
        unsigned char token[WEIR_REDIS_TOKEN_BYTES];
        for (size_t n = 0; n < sizeof(token); n++)
            token[n] = (unsigned char)(items[i]->token >> (8 * n));
        weir_redis_pack(command, token, sizeof(token));
    }
    weir_redis_pack_end(command);
}

static int compare_work(const void *a, const void *b)
{
    const struct weir_window *left = &(*(const struct weir_work *const *)a)->window;
    const struct weir_window *right = &(*(const struct weir_work *const *)b)->window;
    int order = (left->end > right->end) - (left->end < right->end);
    return order ? order : (left->start > right->start) - (left->start < right->start);
}

enum weir_status weir_redis_finish_work(struct weir_window_store *base, struct weir_slice lane,
                                        const struct weir_work *work, size_t count, struct weir_error *reterr)
{
    struct weir_redis_store *store = (struct weir_redis_store *)base;
    struct weir_redis_command *command = &store->command;
    enum weir_status status = WEIR_OK;
    if (count == 0)
        return WEIR_OK;
    const struct weir_work **items = weir_new_array(count, sizeof(*items));
    for (size_t i = 0; i < count; i++)
        items[i] = &work[i];
    qsort(items, count, sizeof(*items), compare_work);
    weir_redis_command_clear(command);
    weir_redis_add_key(command, lane, "lane");
    weir_redis_add_key(command, lane, "working");
    weir_redis_add_text(command, "%s", WEIR_REDIS_FORMAT);
    size_t key = 0;
    for (size_t i = 0, n; i < count; i += n) {
        if (i == 0 || compare_work(&items[i - 1], &items[i]) != 0)
            key = weir_redis_add_key(command, lane, "work:%" PRId64 ":%" PRId64, items[i]->window.start,
                                     items[i]->window.end);
        for (n = 1; i + n < count && n < WEIR_REDIS_CHUNK && compare_work(&items[i], &items[i + n]) == 0; n++)
            ;
        encode_finish(command, key, items + i, n);
    }
    free(items);
    redisReply *reply = NULL;
    do {
        status = weir_redis_reach(store, lane, reterr);
        if (status == WEIR_OK)
            status = weir_redis_run(store, WEIR_REDIS_FINISH_WORK, &reply, reterr);
    } while (weir_redis_follow(store, status));
    if (status == WEIR_OK)
        freeReplyObject(reply);
    return status;
}
