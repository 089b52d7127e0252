/* Windows by HSCAN, span by span: as a lane is loaded (store_redis_load.c), and every one of them for reconcile, while
 * the owner may be writing. */
#include <stdlib.h>

#include "aggregator/store_redis_internal.h"

/* 1. Some spans. */

/* One HSCAN for each span that is not finished, all under way at once. A cursor of "0" after the first is the end. */
struct span_scan {
    const struct weir_redis_span *span;
    unsigned long long cursor;
    bool is_done;
};

static void send_scan(struct weir_redis_store *store, struct weir_slice lane, const char *what,
                      const struct span_scan *scan)
{
    struct weir_redis_key key = weir_redis_span_key(lane, what, scan->span);
    redisAppendCommand(store->context, "HSCAN %b %llu COUNT %d", key.bytes, key.length, scan->cursor,
                       WEIR_REDIS_SCAN_COUNT);
}

static enum weir_status take_scan(struct weir_redis_store *store, struct weir_slice lane, struct span_scan *scan,
                                  const struct weir_redis_window_sink *sink, struct weir_error *reterr)
{
    redisReply *reply = NULL;
    enum weir_status status = weir_redis_receive_array(store, 2, &reply, reterr);
    if (status != WEIR_OK)
        return status;
    uint64_t cursor = 0;
    const redisReply *pairs = reply->element[1];
    bool corrupt = !weir_redis_read_u64(reply->element[0], &cursor) || pairs->type != REDIS_REPLY_ARRAY;
    for (size_t i = 0; !corrupt && i + 1 < pairs->elements; i += 2) {
        const redisReply *series = pairs->element[i];
        sink->take(sink->context, scan->span, weir_slice_of(series->str, series->len), pairs->element[i + 1], &corrupt);
    }
    freeReplyObject(reply);
    if (corrupt)
        return weir_redis_corrupt(store, lane, "a stored window", reterr);
    scan->cursor = cursor;
    scan->is_done = cursor == 0;
    return WEIR_OK;
}

enum weir_status weir_redis_scan_spans(struct weir_redis_store *store, struct weir_slice lane, const char *what,
                                       const struct weir_redis_span *spans, size_t count,
                                       const struct weir_redis_window_sink *sink, struct weir_error *reterr)
{
    struct span_scan scans[WEIR_REDIS_PIPELINE];
    weir_check(count <= WEIR_REDIS_PIPELINE);
    for (size_t i = 0; i < count; i++)
        scans[i] = (struct span_scan){.span = &spans[i]};
    for (bool is_done = false; !is_done;) {
        is_done = true;
        for (size_t i = 0; i < count; i++)
            if (!scans[i].is_done)
                send_scan(store, lane, what, &scans[i]);
        for (size_t i = 0; i < count; i++) {
            if (scans[i].is_done)
                continue;
            enum weir_status status = take_scan(store, lane, &scans[i], sink, reterr);
            if (status != WEIR_OK)
                return status;
            is_done &= scans[i].is_done;
        }
    }
    return WEIR_OK;
}

/* 2. Every window, for reconcile. The owner may be writing: HSCAN may show a window twice when its hash is resized
 * meanwhile, so a span is collected and sorted, and each window is visited once. */

struct found {
    struct weir_slice series;
    struct weir_window_total total;
    size_t offset;
    bool is_closed;
};

struct found_list {
    struct found *at;
    size_t count;
    size_t capacity;
    struct weir_redis_buffer bytes;
};

static struct found *add_found(struct found_list *list, struct weir_slice series)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? list->capacity * 2 : 1024;
        list->at = weir_resize(list->at, list->capacity, sizeof(*list->at));
    }
    struct found *found = &list->at[list->count++];
    *found = (struct found){.series.length = series.length, .offset = list->bytes.length};
    weir_redis_put(&list->bytes, series.data, series.length);
    return found;
}

struct window_scan {
    struct found_list windows, work;
    struct weir_redis_open *open;
};

static void collect_window(void *context, const struct weir_redis_span *span, struct weir_slice series,
                           const redisReply *value, bool *reterr_corrupt)
{
    struct window_scan *scan = context;
    struct weir_window_total total;
    bool is_closed;
    if (!weir_redis_read_value(value, &total, &is_closed)) {
        *reterr_corrupt = true;
        return;
    }
    if (!weir_redis_open_settle(scan->open, span, series, is_closed))
        return;
    struct found *found = add_found(&scan->windows, series);
    found->total = total;
    found->is_closed = is_closed;
}

static void collect_open_window(void *context, const struct weir_window *window)
{
    struct window_scan *scan = context;
    add_found(&scan->windows, window->series_key)->total = window->total;
}

static void collect_work(void *context, const struct weir_redis_span *span, struct weir_slice series,
                         const redisReply *value, bool *reterr_corrupt)
{
    (void)span;
    (void)value;
    (void)reterr_corrupt;
    struct window_scan *scan = context;
    add_found(&scan->work, series);
}

static int compare_found(const void *a, const void *b)
{
    return weir_slice_compare(((const struct found *)a)->series, ((const struct found *)b)->series);
}

static void sort_found(struct found_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        list->at[i].series.data = list->bytes.data + list->at[i].offset; /* only now do the bytes stay in place */
    if (list->count)
        qsort(list->at, list->count, sizeof(*list->at), compare_found);
}

static enum weir_status scan_span(struct weir_redis_store *store, struct weir_slice lane,
                                  const struct weir_redis_span *span, struct window_scan *scan,
                                  void (*visit)(void *context, const struct weir_window *window, bool is_closed,
                                                bool has_work),
                                  void *context, struct weir_error *reterr)
{
    struct found_list *windows = &scan->windows, *work = &scan->work;
    struct weir_redis_window_sink window_sink = {collect_window, scan}, work_sink = {collect_work, scan};
    windows->count = windows->bytes.length = work->count = work->bytes.length = 0;
    enum weir_status status = weir_redis_scan_spans(store, lane, "windows", span, 1, &window_sink, reterr);
    if (status == WEIR_OK)
        status = weir_redis_scan_spans(store, lane, "work", span, 1, &work_sink, reterr);
    if (status != WEIR_OK)
        return status;
    weir_redis_open_visit(scan->open, span, collect_open_window, scan);
    sort_found(windows);
    sort_found(work);
    for (size_t i = 0, w = 0; i < windows->count; i++) {
        const struct found *found = &windows->at[i];
        if (i + 1 < windows->count && compare_found(found, found + 1) == 0)
            continue;
        while (w < work->count && compare_found(&work->at[w], found) < 0)
            w++;
        struct weir_window window = {found->series, span->start, span->end, found->total};
        visit(context, &window, found->is_closed, w < work->count && compare_found(&work->at[w], found) == 0);
    }
    return WEIR_OK;
}

/* The index and what the log comes to. The state is read between the two: a span that the index lacks was dropped, and
 * the state tells through which time. */
static enum weir_status read_open(struct weir_redis_store *store, struct weir_slice lane,
                                  struct weir_redis_index *index, struct weir_redis_open **ret_open,
                                  struct weir_error *reterr)
{
    struct weir_lane_state state;
    enum weir_status status;
    do {
        status = weir_redis_reach(store, lane, reterr);
        if (status == WEIR_OK)
            status = weir_redis_read_index(store, lane, index, reterr);
    } while (weir_redis_follow(store, status));
    if (status == WEIR_OK)
        status = store->base.ops->read_lane(&store->base, lane, &state, reterr);
    if (status != WEIR_OK)
        return status;
    return weir_redis_open_read(store, lane, index, state.forgotten, ret_open, reterr);
}

enum weir_status weir_redis_scan_windows(struct weir_window_store *base, struct weir_slice lane,
                                         void (*visit)(void *context, const struct weir_window *window, bool is_closed,
                                                       bool has_work),
                                         void *context, struct weir_error *reterr)
{
    enum { TRIES = 8 };
    struct weir_redis_store *store = (struct weir_redis_store *)base;
    struct weir_redis_index index = {0};
    struct window_scan scan = {0};
    enum weir_status status = WEIR_OK;
    /* The owner may let the log's front go while it is read, which looks like damage: then it begins elsewhere now. */
    bool is_overtaken = true;
    for (uint64_t from = UINT64_MAX, i = 0; i < TRIES && is_overtaken; i++) {
        scan.open = weir_redis_open_free(scan.open);
        status = read_open(store, lane, &index, &scan.open, reterr);
        is_overtaken = status == WEIR_FATAL && index.open.from != from;
        from = index.open.from;
    }
    if (is_overtaken)
        status = weir_fail(reterr, WEIR_RETRY,
                           "lane %.*s: its log of open windows goes on faster than it can be read; try again",
                           (int)lane.length, lane.data);
    for (size_t s = 0; s < index.span_count && status == WEIR_OK; s++)
        status = scan_span(store, lane, &index.spans[s], &scan, visit, context, reterr);
    weir_redis_open_free(scan.open);
    free(scan.windows.at);
    free(scan.work.at);
    weir_redis_buffer_free(&scan.windows.bytes);
    weir_redis_buffer_free(&scan.work.bytes);
    free(index.spans);
    free(index.buckets);
    return status;
}
