/* Shared by the tests of the window store: its twins (in memory, a real Redis, a Redis Cluster), what is stored in them
 * as a picture, and cuts to write.
 *
 * WEIR_TEST_REDIS_URL names a Redis to use for the contract; without it, and always where a test bends the server (out
 * of memory, killed connections), the test starts one of its own. WEIR_TEST_REDIS_CLUSTER_URL names a Redis
 * Cluster, for a third twin; what only a cluster does is in test_window_store_cluster.c.
 */
#ifndef WEIR_TESTS_COMPONENT_WINDOW_STORE_TWINS_H
#define WEIR_TESTS_COMPONENT_WINDOW_STORE_TWINS_H

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "aggregator/window_store.h"
#include "common/hash.h"
#include "redis_server.h"

enum { MINUTE = 60 };
#define NS INT64_C(1000000000)

static struct redis_server server;

static inline void stop_server(void)
{
    redis_server_stop(&server);
} /* also after a failed assertion */

/* 1. Twins. */

struct fixture {
    struct weir_window_store *store;
    bool is_redis;
    char url[256];
    char lane[WEIR_LANE_NAME_MAX];
};

static const char *const twins[] = {"memory", "redis", "cluster"};

static inline void open_twin(struct fixture *fixture, const char *twin, const char *topic)
{
    static int number;
    memset(fixture, 0, sizeof(*fixture));
    fixture->is_redis = strcmp(twin, "memory") != 0;
    snprintf(fixture->lane, sizeof(fixture->lane), "%s-%d-%d:%d", topic, (int)getpid(), (int)time(NULL), number++);
    if (!fixture->is_redis) {
        fixture->store = weir_store_memory_new();
        return;
    }
    const char *url = getenv(strcmp(twin, "redis") == 0 ? "WEIR_TEST_REDIS_URL" : "WEIR_TEST_REDIS_CLUSTER_URL");
    if (!url && server.pid == 0)
        redis_server_start(&server);
    snprintf(fixture->url, sizeof(fixture->url), "%s", url ? url : server.url);
    struct weir_error error;
    cr_assert_eq(weir_store_redis_open(fixture->url, &fixture->store, &error), WEIR_OK, "%s", error.text);
}

static inline void close_twin(struct fixture *fixture)
{
    weir_window_store_free(fixture->store);
    redis_server_stop(&server);
}

/* A Redis of the test alone, to be bent, and a connection of its own. */
static inline redisContext *open_private(struct fixture *f)
{
    unsetenv("WEIR_TEST_REDIS_URL");
    open_twin(f, "redis", "private");
    redisContext *context = redisConnect("127.0.0.1", server.port);
    cr_assert(context && !context->err);
    return context;
}

static inline void close_private(struct fixture *f, redisContext *context)
{
    redisFree(context);
    close_twin(f);
}

static inline void tell(redisContext *context, const char *command)
{
    redisReply *reply = redisCommand(context, command);
    cr_assert(reply && reply->type != REDIS_REPLY_ERROR, "%s: %s", command, reply ? reply->str : context->errstr);
    freeReplyObject(reply);
}

#define CONTRACT(name)                                                                                                 \
    static void contract_##name(struct fixture *f);                                                                    \
    ParameterizedTestParameters(window_store, name)                                                                    \
    {                                                                                                                  \
        static int which[] = {0, 1, 2};                                                                                \
        return cr_make_param_array(int, which, getenv("WEIR_TEST_REDIS_CLUSTER_URL") ? 3 : 2);                         \
    }                                                                                                                  \
    ParameterizedTest(int *which, window_store, name)                                                                  \
    {                                                                                                                  \
        struct fixture fixture;                                                                                        \
        open_twin(&fixture, twins[*which], "a topic:with {braces}");                                                   \
        contract_##name(&fixture);                                                                                     \
        close_twin(&fixture);                                                                                          \
    }                                                                                                                  \
    static void contract_##name(struct fixture *f)

static const unsigned char secret[WEIR_LANE_SECRET_BYTES] = "\0\r\n\xff secret of thirty-two by..";

static inline struct weir_slice lane_name(const struct fixture *f)
{
    return weir_slice_text(f->lane);
}

/* 2. What is loaded and scanned, in a list sorted by identity. */

struct row {
    int64_t start, end;
    struct weir_window_total total;
    bool is_closed, has_work;
    uint64_t token;
    char *key;
    uint32_t key_length;
    char *unique; /* fingerprints, in the order written */
    uint32_t unique_length;
};

struct ids_row {
    int64_t bucket;
    char *ids;
    uint32_t length;
};

struct picture {
    struct row *rows;
    size_t count;
    struct ids_row *ids;
    size_t ids_count;
    struct weir_lane_state state;
};

static inline char *copy_of(const char *data, uint32_t length)
{
    char *copy = malloc(length + 1);
    if (length)
        memcpy(copy, data, length);
    return copy;
}

static inline struct row *find_row(struct picture *picture, int64_t start, int64_t end, struct weir_slice key)
{
    for (size_t i = 0; i < picture->count; i++)
        if (picture->rows[i].start == start && picture->rows[i].end == end
            && weir_slice_equal(weir_slice_of(picture->rows[i].key, picture->rows[i].key_length), key))
            return &picture->rows[i];
    return NULL;
}

static inline struct row *add_row(struct picture *picture, const struct weir_window *window)
{
    if ((picture->count & (picture->count - 1)) == 0) /* to the next power of two: AddressSanitizer copies at each */
        picture->rows = realloc(picture->rows, (picture->count ? 2 * picture->count : 1) * sizeof(struct row));
    struct row *row = &picture->rows[picture->count++];
    *row = (struct row){.start = window->start, .end = window->end, .key_length = window->series_key.length};
    row->key = copy_of(window->series_key.data, window->series_key.length);
    return row;
}

static inline void add_unique(struct row *row, struct weir_slice unique)
{
    row->unique = realloc(row->unique, row->unique_length + unique.length + 1);
    if (unique.length)
        memcpy(row->unique + row->unique_length, unique.data, unique.length);
    row->unique_length += unique.length;
}

static inline void add_ids(struct picture *picture, int64_t bucket, struct weir_slice ids)
{
    size_t i = 0;
    while (i < picture->ids_count && picture->ids[i].bucket != bucket)
        i++;
    if (i == picture->ids_count) {
        picture->ids = realloc(picture->ids, ++picture->ids_count * sizeof(struct ids_row));
        picture->ids[i] = (struct ids_row){.bucket = bucket};
    }
    struct ids_row *row = &picture->ids[i];
    row->ids = realloc(row->ids, row->length + ids.length + 1);
    if (ids.length)
        memcpy(row->ids + row->length, ids.data, ids.length);
    row->length += ids.length;
}

static inline void forget_row(struct picture *picture, size_t i)
{
    free(picture->rows[i].key);
    free(picture->rows[i].unique);
    picture->rows[i] = picture->rows[--picture->count];
}

static inline void forget_bucket(struct picture *picture, size_t i)
{
    free(picture->ids[i].ids);
    picture->ids[i] = picture->ids[--picture->ids_count];
}

static inline void clear(struct picture *picture)
{
    while (picture->count)
        forget_row(picture, 0);
    while (picture->ids_count)
        forget_bucket(picture, 0);
    free(picture->rows);
    free(picture->ids);
    *picture = (struct picture){0};
}

static inline void on_window(void *context, const struct weir_window *window, bool is_closed, struct weir_slice unique)
{
    cr_assert_null(find_row(context, window->start, window->end, window->series_key), "a window is loaded twice");
    struct row *row = add_row(context, window);
    row->total = window->total;
    row->is_closed = is_closed;
    add_unique(row, unique);
}

static inline void on_ids(void *context, int64_t bucket, struct weir_slice ids)
{
    add_ids(context, bucket, ids);
}

static inline void on_scan(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    on_window(context, window, is_closed, (struct weir_slice){0});
    struct row *row = find_row(context, window->start, window->end, window->series_key);
    row->has_work = has_work;
}

/* The second try, for a connection that a random history has killed. */
static inline void take(struct fixture *f, struct picture *picture)
{
    struct weir_error error = {""};
    struct weir_lane_loader loader = {picture, on_window, on_ids};
    enum weir_status status = WEIR_RETRY;
    for (int i = 0; i < 2 && status == WEIR_RETRY; i++) {
        clear(picture);
        status = f->store->ops->take_lane(f->store, lane_name(f), secret, &loader, &picture->state, &error);
    }
    cr_assert_eq(status, WEIR_OK, "%s", error.text);
}

static inline void scan(struct fixture *f, struct picture *picture)
{
    struct weir_error error = {""};
    clear(picture);
    cr_assert_eq(f->store->ops->scan_windows(f->store, lane_name(f), on_scan, picture, &error), WEIR_OK, "%s",
                 error.text);
}

static inline bool same_total(const struct weir_window_total *a, const struct weir_window_total *b)
{
    return a->events == b->events && a->value.e12 == b->value.e12 && a->latest_time == b->latest_time
           && a->latest_offset == b->latest_offset && a->retracted == b->retracted;
}

/* 3. Cuts. */

struct cut {
    struct weir_cut cut;
    struct weir_cut_window windows[400];
    struct weir_cut_ids ids[8];
};

static inline void begin_cut(struct fixture *f, struct cut *cut, const struct weir_lane_state *state,
                             int64_t next_offset)
{
    cut->cut = (struct weir_cut){
        .lane = lane_name(f),
        .expected_offset = state->next_offset,
        .state = *state,
        .windows = cut->windows,
        .ids = cut->ids,
        .forget_ids_below = INT64_MIN,
        .forget_windows_below = INT64_MIN,
    };
    cut->cut.state.next_offset = next_offset;
}

static inline struct weir_cut_window *put_window(struct cut *cut, struct weir_slice key, int64_t start_minute,
                                                 uint64_t events)
{
    cr_assert_lt(cut->cut.window_count, sizeof(cut->windows) / sizeof(*cut->windows));
    struct weir_cut_window *window = &cut->windows[cut->cut.window_count++];
    *window = (struct weir_cut_window){
        .window = {.series_key = key, .start = start_minute * MINUTE * NS, .end = (start_minute + 1) * MINUTE * NS}};
    window->window.total.events = events;
    window->window.total.value.e12 = (weir_int128)events * 3 - 7;
    window->window.total.retracted = events % 5;
    return window;
}

static inline void put_ids(struct cut *cut, int64_t bucket, const char *ids, uint32_t length)
{
    cut->ids[cut->cut.ids_count++] = (struct weir_cut_ids){bucket, weir_slice_of(ids, length)};
}

static inline enum weir_status write_cut(struct fixture *f, const struct cut *cut)
{
    struct weir_error error = {""};
    enum weir_status status = f->store->ops->write_cut(f->store, &cut->cut, &error);
    cr_assert_eq(status == WEIR_OK, error.text[0] == 0, "an error text goes with every status but OK");
    return status;
}

static inline void must_write(struct fixture *f, struct cut *cut, struct weir_lane_state *state)
{
    struct weir_error error = {""};
    cr_assert_eq(f->store->ops->write_cut(f->store, &cut->cut, &error), WEIR_OK, "%s", error.text);
    *state = cut->cut.state;
}

static inline size_t read_work(struct fixture *f, struct weir_work *work, size_t max)
{
    struct weir_error error = {""};
    size_t count = SIZE_MAX;
    enum weir_status status = WEIR_RETRY;
    for (int i = 0; i < 2 && status == WEIR_RETRY; i++)
        status = f->store->ops->read_work(f->store, lane_name(f), max, work, &count, &error);
    cr_assert_eq(status, WEIR_OK, "%s", error.text);
    cr_assert_leq(count, max);
    return count;
}

static inline void finish(struct fixture *f, const struct weir_work *work, size_t count)
{
    struct weir_error error = {""};
    cr_assert_eq(f->store->ops->finish_work(f->store, lane_name(f), work, count, &error), WEIR_OK, "%s", error.text);
}

/* 4. Lanes that are listed. */

struct listed {
    size_t count;
    struct weir_lane_state state;
    char name[WEIR_LANE_NAME_MAX];
    uint32_t length;
    const char *only; /* lanes of other tests may stand in the same Redis */
};

static inline void on_lane(void *context, struct weir_slice lane, const struct weir_lane_state *state)
{
    struct listed *listed = context;
    if (!weir_slice_equal(lane, weir_slice_text(listed->only)))
        return;
    listed->count++;
    listed->state = *state;
}

/* 5. Large cuts. */

struct tally {
    uint64_t windows, ids, unique;
    uint64_t digest; /* of windows with their totals and fingerprints, in any order */
    uint64_t ids_digest;
};

static inline uint64_t digest_of(const struct weir_window *window, bool is_closed, struct weir_slice unique)
{
    unsigned char total[WEIR_WINDOW_TOTAL_BYTES];
    weir_window_total_store(&window->total, total);
    uint64_t digest = weir_hash64(window->series_key.data, window->series_key.length, (uint64_t)window->start);
    digest = weir_hash64(total, sizeof(total), digest ^ (uint64_t)window->end);
    return weir_hash64(unique.data ? unique.data : "", unique.length, digest + is_closed);
}

static inline void tally_window(void *context, const struct weir_window *window, bool is_closed,
                                struct weir_slice unique)
{
    struct tally *tally = context;
    tally->windows++;
    tally->unique += unique.length / WEIR_UNIQUE_BYTES;
    tally->digest += digest_of(window, is_closed, unique);
}

static inline void tally_ids(void *context, int64_t bucket, struct weir_slice ids)
{
    struct tally *tally = context;
    cr_assert_eq(ids.length % WEIR_ID_BYTES, 0);
    for (uint32_t i = 0; i < ids.length; i += WEIR_ID_BYTES)
        tally->ids_digest += weir_hash64(ids.data + i, WEIR_ID_BYTES, (uint64_t)bucket);
    tally->ids += ids.length / WEIR_ID_BYTES;
}

struct large {
    struct weir_cut_window *windows;
    char (*keys)[32];
    char *bytes; /* ids and fingerprints */
    size_t count;
};

static inline void make_large(struct large *large, size_t windows, size_t bytes, size_t spans)
{
    *large = (struct large){calloc(windows, sizeof(*large->windows)), calloc(windows, 32), malloc(bytes), windows};
    for (size_t i = 0; i < bytes; i++)
        large->bytes[i] = (char)(i * 2654435761u >> 13);
    for (size_t i = 0; i < windows; i++) {
        int length = snprintf(large->keys[i], 32, "series number %zu", i);
        large->windows[i] =
            (struct weir_cut_window){.window = {.series_key = weir_slice_of(large->keys[i], (size_t)length),
                                                .start = (int64_t)(i % spans) * MINUTE * NS,
                                                .end = (int64_t)(i % spans + 1) * MINUTE * NS,
                                                .total = {i, i / 2, {(weir_int128)i * i}, (int64_t)i, -(int64_t)i}},
                                     .is_closed = i % 2 == 0};
    }
}

static inline void free_large(struct large *large)
{
    free(large->windows);
    free(large->keys);
    free(large->bytes);
}

#endif
