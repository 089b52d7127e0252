/* One contract, every twin: what the window store promises, on memory and on a real Redis.
 *
 * WEIR_TEST_REDIS_URL names a Redis to use for the contract; without it, and always where a test bends the server (out
 * of memory, killed connections), the test starts one of its own. WEIR_TEST_REDIS_CLUSTER_URL names a Redis
 * Cluster, for a third twin; what only a cluster does is in test_window_store_cluster.c.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <inttypes.h>
#include <pthread.h>

#include "aggregator/window_store.h"
#include "common/hash.h"
#include "redis_server.h"

enum { MINUTE = 60 };
#define NS INT64_C(1000000000)

static struct redis_server server;

static void stop_server(void)
{
    redis_server_stop(&server);
} /* also after a failed assertion */

TestSuite(window_store, .fini = stop_server);
TestSuite(window_store_redis, .fini = stop_server);

/* 1. Twins. */

struct fixture {
    struct weir_window_store *store;
    bool is_redis;
    char url[256];
    char lane[WEIR_LANE_NAME_MAX];
};

static const char *twins[] = {"memory", "redis", "cluster"};

static void open_twin(struct fixture *fixture, const char *twin, const char *topic)
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

static void close_twin(struct fixture *fixture)
{
    weir_window_store_free(fixture->store);
    redis_server_stop(&server);
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

static struct weir_slice lane_name(const struct fixture *f)
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

static char *copy_of(const char *data, uint32_t length)
{
    char *copy = malloc(length + 1);
    if (length)
        memcpy(copy, data, length);
    return copy;
}

static struct row *find_row(struct picture *picture, int64_t start, int64_t end, struct weir_slice key)
{
    for (size_t i = 0; i < picture->count; i++)
        if (picture->rows[i].start == start && picture->rows[i].end == end
            && weir_slice_equal(weir_slice_of(picture->rows[i].key, picture->rows[i].key_length), key))
            return &picture->rows[i];
    return NULL;
}

static struct row *add_row(struct picture *picture, const struct weir_window *window)
{
    if ((picture->count & (picture->count - 1)) == 0) /* to the next power of two: AddressSanitizer copies at each */
        picture->rows = realloc(picture->rows, (picture->count ? 2 * picture->count : 1) * sizeof(struct row));
    struct row *row = &picture->rows[picture->count++];
    *row = (struct row){.start = window->start, .end = window->end, .key_length = window->series_key.length};
    row->key = copy_of(window->series_key.data, window->series_key.length);
    return row;
}

static void add_unique(struct row *row, struct weir_slice unique)
{
    row->unique = realloc(row->unique, row->unique_length + unique.length + 1);
    if (unique.length)
        memcpy(row->unique + row->unique_length, unique.data, unique.length);
    row->unique_length += unique.length;
}

static void add_ids(struct picture *picture, int64_t bucket, struct weir_slice ids)
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

static void forget_row(struct picture *picture, size_t i)
{
    free(picture->rows[i].key);
    free(picture->rows[i].unique);
    picture->rows[i] = picture->rows[--picture->count];
}

static void forget_bucket(struct picture *picture, size_t i)
{
    free(picture->ids[i].ids);
    picture->ids[i] = picture->ids[--picture->ids_count];
}

static void clear(struct picture *picture)
{
    while (picture->count)
        forget_row(picture, 0);
    while (picture->ids_count)
        forget_bucket(picture, 0);
    free(picture->rows);
    free(picture->ids);
    *picture = (struct picture){0};
}

static void on_window(void *context, const struct weir_window *window, bool is_closed, struct weir_slice unique)
{
    cr_assert_null(find_row(context, window->start, window->end, window->series_key), "a window is loaded twice");
    struct row *row = add_row(context, window);
    row->total = window->total;
    row->is_closed = is_closed;
    add_unique(row, unique);
}

static void on_ids(void *context, int64_t bucket, struct weir_slice ids)
{
    add_ids(context, bucket, ids);
}

static void on_scan(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    on_window(context, window, is_closed, (struct weir_slice){0});
    struct row *row = find_row(context, window->start, window->end, window->series_key);
    row->has_work = has_work;
}

/* The second try, for a connection that a random history has killed. */
static void take(struct fixture *f, struct picture *picture)
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

static void scan(struct fixture *f, struct picture *picture)
{
    struct weir_error error = {""};
    clear(picture);
    cr_assert_eq(f->store->ops->scan_windows(f->store, lane_name(f), on_scan, picture, &error), WEIR_OK, "%s",
                 error.text);
}

static bool same_total(const struct weir_window_total *a, const struct weir_window_total *b)
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

static void begin_cut(struct fixture *f, struct cut *cut, const struct weir_lane_state *state, int64_t next_offset)
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

static struct weir_cut_window *put_window(struct cut *cut, struct weir_slice key, int64_t start_minute, uint64_t events)
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

static void put_ids(struct cut *cut, int64_t bucket, const char *ids, uint32_t length)
{
    cut->ids[cut->cut.ids_count++] = (struct weir_cut_ids){bucket, weir_slice_of(ids, length)};
}

static enum weir_status write_cut(struct fixture *f, const struct cut *cut)
{
    struct weir_error error = {""};
    enum weir_status status = f->store->ops->write_cut(f->store, &cut->cut, &error);
    cr_assert_eq(status == WEIR_OK, error.text[0] == 0, "an error text goes with every status but OK");
    return status;
}

static void must_write(struct fixture *f, struct cut *cut, struct weir_lane_state *state)
{
    struct weir_error error = {""};
    cr_assert_eq(f->store->ops->write_cut(f->store, &cut->cut, &error), WEIR_OK, "%s", error.text);
    *state = cut->cut.state;
}

static size_t read_work(struct fixture *f, struct weir_work *work, size_t max)
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

static void finish(struct fixture *f, const struct weir_work *work, size_t count)
{
    struct weir_error error = {""};
    cr_assert_eq(f->store->ops->finish_work(f->store, lane_name(f), work, count, &error), WEIR_OK, "%s", error.text);
}

/* 4. The contract, one promise at a time. */

CONTRACT(a_fresh_lane_is_empty)
{
    struct picture picture = {0};
    struct weir_work work[4];
    take(f, &picture);
    cr_assert_gt(picture.state.epoch, 0);
    cr_assert_eq(picture.state.next_offset, -1);
    cr_assert_eq(picture.state.watermark, 0);
    cr_assert_eq(picture.state.high, 0);
    cr_assert_gt(picture.state.first_time, picture.state.last_time);
    cr_assert_eq(picture.state.counts.read, 0);
    cr_assert_eq(memcmp(picture.state.secret, secret, sizeof(secret)), 0);
    cr_assert_eq(picture.count + picture.ids_count, 0);
    cr_assert_eq(read_work(f, work, 4), 0);
    scan(f, &picture);
    cr_assert_eq(picture.count, 0);
    clear(&picture);
}

CONTRACT(the_first_owner_makes_the_secret)
{
    struct picture picture = {0};
    static const unsigned char other[WEIR_LANE_SECRET_BYTES] = "another";
    struct weir_lane_state state;
    struct weir_error error;
    take(f, &picture);
    cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), other, NULL, &state, &error), WEIR_OK);
    cr_assert_gt(state.epoch, picture.state.epoch);
    cr_assert_eq(memcmp(state.secret, secret, sizeof(secret)), 0);
    clear(&picture);
}

CONTRACT(state_comes_back_as_written)
{
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, INT64_MAX);
    cut.cut.state.high = INT64_MAX - 1;
    cut.cut.state.watermark = -5;
    cut.cut.state.forgotten = INT64_MAX - 2;
    cut.cut.state.first_time = INT64_MIN;
    cut.cut.state.last_time = 1767610799123456789;
    cut.cut.state.counts = (struct weir_lane_counts){UINT64_MAX, UINT64_C(1) << 53, (UINT64_C(1) << 53) + 1, 4, 5, 6};
    must_write(f, &cut, &picture.state);
    struct weir_lane_state written = picture.state;
    take(f, &picture);
    cr_assert_gt(picture.state.epoch, written.epoch);
    written.epoch = picture.state.epoch;
    cr_assert_eq(memcmp(&picture.state, &written, sizeof(written)), 0);
    clear(&picture);
}

static bool same_gap(const struct weir_gap *a, const struct weir_gap *b)
{
    return a->kind == b->kind && a->from == b->from && a->to == b->to && a->time_from == b->time_from
           && a->time_to == b->time_to && a->found_at == b->found_at;
}

CONTRACT(gaps_and_stamp_come_back_as_written)
{
    struct picture picture = {0};
    struct weir_lane_state read;
    struct weir_error error;
    struct cut cut;
    take(f, &picture);
    cr_assert_eq(picture.state.gaps.count, 0);
    cr_assert_eq(picture.state.stamp, -1);
    for (int i = 0; i < WEIR_GAPS_MAX; i++) {
        struct weir_gap gap = {.kind = (enum weir_gap_kind)(i % WEIR_GAP_KIND_COUNT),
                               .from = i,
                               .to = i % 2 ? INT64_MAX : WEIR_GAP_END_UNKNOWN,
                               .time_from = i ? -1767610799123456000 : 0,
                               .time_to = INT64_MAX,
                               .found_at = 1767610799123456000 + i};
        begin_cut(f, &cut, &picture.state, 10 * (i + 1));
        cut.cut.state.stamp = INT64_MAX - i;
        weir_gaps_add(&cut.cut.state.gaps, &gap);
        must_write(f, &cut, &picture.state);
    }
    struct weir_lane_state written = picture.state;
    take(f, &picture);
    cr_assert_eq(picture.state.stamp, INT64_MAX - (WEIR_GAPS_MAX - 1));
    cr_assert_eq(picture.state.gaps.count, WEIR_GAPS_MAX);
    cr_assert_eq(f->store->ops->read_lane(f->store, lane_name(f), &read, &error), WEIR_OK);
    cr_assert_eq(read.gaps.count, WEIR_GAPS_MAX);
    cr_assert_gt(read.epoch, written.epoch);
    for (int i = 0; i < WEIR_GAPS_MAX; i++) {
        cr_assert(same_gap(&picture.state.gaps.at[i], &written.gaps.at[i]), "gap %d", i);
        cr_assert(same_gap(&read.gaps.at[i], &written.gaps.at[i]), "gap %d", i);
    }
    begin_cut(f, &cut, &picture.state, 1000); /* a cut that adds none leaves them */
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.state.gaps.count, WEIR_GAPS_MAX);
    clear(&picture);
}

CONTRACT(a_lane_that_nobody_took_reads_as_none)
{
    struct weir_lane_state state;
    struct weir_error error;
    cr_assert_eq(f->store->ops->read_lane(f->store, lane_name(f), &state, &error), WEIR_OK);
    cr_assert_eq(state.epoch, 0);
    cr_assert_eq(state.next_offset, -1);
}

CONTRACT(a_lane_begins_anew_as_a_step_of_its_owner_alone)
{
    struct picture old = {0}, now = {0};
    struct cut cut;
    take(f, &old);
    begin_cut(f, &cut, &old.state, 100);
    put_window(&cut, weir_slice_text("k"), 1, 5);
    put_ids(&cut, 1, "123456789012012", WEIR_ID_BYTES);
    must_write(f, &cut, &old.state);
    take(f, &now);
    begin_cut(f, &cut, &old.state, 0);
    cut.cut.is_anew = true;
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED, "a zombie");
    struct weir_lane_state wrong = now.state;
    wrong.next_offset = 90;
    begin_cut(f, &cut, &wrong, 0);
    cut.cut.is_anew = true;
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED, "another offset than the stored one");
    begin_cut(f, &cut, &now.state, 0);
    cut.cut.is_anew = true;
    put_window(&cut, weir_slice_text("k"), 1, 6);
    must_write(f, &cut, &now.state);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(write_cut(f, &cut), WEIR_OK, "the same cut again");
    begin_cut(f, &cut, &now.state, 10);
    put_ids(&cut, 1, "abcdefghijkljkl", WEIR_ID_BYTES);
    must_write(f, &cut, &now.state);
    take(f, &now);
    cr_assert_eq(now.state.next_offset, 10);
    cr_assert_eq(now.count, 1);
    cr_assert_eq(now.rows[0].total.events, 6);
    cr_assert_eq(now.ids[0].length, 2 * WEIR_ID_BYTES, "ids are kept");
    clear(&old);
    clear(&now);
}

CONTRACT(an_old_owner_writes_nothing)
{
    struct picture old = {0}, now = {0};
    struct cut cut;
    take(f, &old);
    take(f, &now);
    begin_cut(f, &cut, &old.state, 10);
    put_window(&cut, weir_slice_text("k"), 1, 5)->is_closed = true;
    put_ids(&cut, 1, "123456789012012", WEIR_ID_BYTES);
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED);
    begin_cut(f, &cut, &now.state, 10);
    must_write(f, &cut, &now.state);
    begin_cut(f, &cut, &old.state, 10); /* the same offsets as the new owner's cut: the epoch alone tells */
    put_window(&cut, weir_slice_text("k"), 1, 5)->is_closed = true;
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED);
    take(f, &now);
    cr_assert_eq(now.count + now.ids_count, 0);
    cr_assert_eq(now.state.next_offset, 10);
    clear(&old);
    clear(&now);
}

CONTRACT(a_late_cut_of_an_old_owner_disturbs_nothing)
{
    struct picture old = {0}, now = {0};
    struct cut cut;
    take(f, &old);
    take(f, &now);
    for (int i = 1; i < 4; i++) {
        begin_cut(f, &cut, &now.state, 10 * i);
        put_ids(&cut, 1, "123456789012012", WEIR_ID_BYTES);
        must_write(f, &cut, &now.state);
        begin_cut(f, &cut, &old.state, 10 * i); /* as when it waited in a queue while the lane was taken anew */
        cr_assert_eq(write_cut(f, &cut), WEIR_FENCED);
    }
    take(f, &now);
    cr_assert_eq(now.ids[0].length, 3 * WEIR_ID_BYTES);
    clear(&old);
    clear(&now);
}

CONTRACT(an_unexpected_offset_writes_nothing)
{
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    struct weir_lane_state wrong = picture.state;
    for (int64_t offset = 8; offset <= 12; offset++) {
        if (offset == 10)
            continue;
        wrong.next_offset = offset;
        begin_cut(f, &cut, &wrong, 30);
        put_window(&cut, weir_slice_text("k"), 1, 5);
        put_ids(&cut, 1, "123456789012012", WEIR_ID_BYTES);
        cr_assert_eq(write_cut(f, &cut), WEIR_FENCED, "offset %d", (int)offset);
    }
    take(f, &picture);
    cr_assert_eq(picture.count + picture.ids_count, 0);
    cr_assert_eq(picture.state.next_offset, 10);
    clear(&picture);
}

CONTRACT(a_lane_that_was_never_taken_can_not_be_written)
{
    struct weir_lane_state state = {.epoch = 1, .next_offset = -1};
    struct weir_work work[1];
    struct cut cut;
    begin_cut(f, &cut, &state, 10);
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED);
    cr_assert_eq(read_work(f, work, 1), 0);
}

CONTRACT(the_same_cut_again_is_harmless)
{
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    struct weir_cut_window *window = put_window(&cut, weir_slice_text("k"), 1, 5);
    window->is_closed = true;
    window->unique = weir_slice_of("0123456789abcdef", 16);
    put_ids(&cut, 1, "123456789012012", WEIR_ID_BYTES);
    must_write(f, &cut, &picture.state);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(write_cut(f, &cut), WEIR_OK);
    struct cut next;
    begin_cut(f, &next, &picture.state, 10); /* moves no offset, as when windows close by the wall clock */
    put_window(&next, weir_slice_text("k"), 1, 5)->is_closed = true;
    for (int i = 0; i < 3; i++)
        cr_assert_eq(write_cut(f, &next), WEIR_OK);
    begin_cut(f, &next, &picture.state, 20);
    put_ids(&next, 1, "abcdefghijkljkl", WEIR_ID_BYTES);
    must_write(f, &next, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.count, 1);
    cr_assert_eq(picture.rows[0].unique_length, 16);
    cr_assert_eq(picture.ids_count, 1);
    cr_assert_eq(picture.ids[0].length, 2 * WEIR_ID_BYTES);
    cr_assert_eq(memcmp(picture.ids[0].ids, "123456789012012abcdefghijkljkl", 2 * WEIR_ID_BYTES), 0);
    clear(&picture);
}

CONTRACT(totals_are_absolute_and_exact)
{
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    struct weir_window_total total = {UINT64_MAX, UINT64_MAX, weir_decimal_max(), INT64_MIN, INT64_MAX};
    for (int i = 0; i < 3; i++) {
        begin_cut(f, &cut, &picture.state, 10 * (i + 1));
        put_window(&cut, weir_slice_text("k"), -3, 5)->window.total = total;
        must_write(f, &cut, &picture.state);
        take(f, &picture);
        cr_assert_eq(picture.count, 1);
        cr_assert(same_total(&picture.rows[0].total, &total));
        cr_assert_eq(picture.rows[0].start, -3 * MINUTE * NS);
        total.value = weir_decimal_negate(total.value);
        total.events /= 3;
    }
    clear(&picture);
}

CONTRACT(keys_may_hold_any_bytes)
{
    static const struct weir_slice keys[] = {
        {"\0\0\0", 3}, {"\0\0", 2}, {"\xff\xfe \r\n", 5}, {"", 0}, {" ", 1}, {"*3\r\n$3\r\n", 8}, {"\xd9\xda", 2},
    };
    enum { KEYS = sizeof(keys) / sizeof(*keys) };
    struct picture picture = {0};
    struct weir_work work[KEYS + 3];
    struct cut cut;
    char longest[3][WEIR_SERIES_KEY_MAX];
    uint32_t lengths[3] = {255, 256, WEIR_SERIES_KEY_MAX};
    for (int i = 0; i < 3; i++)
        for (size_t n = 0; n < lengths[i]; n++)
            longest[i][n] = (char)(n * 7 + (size_t)i);
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    for (int i = 0; i < KEYS; i++)
        put_window(&cut, keys[i], 1, (uint64_t)i + 1)->is_closed = true;
    for (int i = 0; i < 3; i++) {
        struct weir_cut_window *window = put_window(&cut, weir_slice_of(longest[i], lengths[i]), 1, 100 + (uint64_t)i);
        window->is_closed = true;
        window->unique = weir_slice_of("\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff", 16);
    }
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.count, KEYS + 3);
    for (int i = 0; i < KEYS + 3; i++) {
        struct row *row = find_row(&picture, MINUTE * NS, 2 * MINUTE * NS, cut.windows[i].window.series_key);
        cr_assert_not_null(row, "key %d", i);
        cr_assert(same_total(&row->total, &cut.windows[i].window.total));
        cr_assert_eq(row->unique_length, i < KEYS ? 0 : 16);
    }
    cr_assert_eq(read_work(f, work, KEYS + 3), KEYS + 3);
    finish(f, work, KEYS + 3);
    cr_assert_eq(read_work(f, work, KEYS + 3), 0);
    clear(&picture);
}

CONTRACT(unique_fingerprints_add_up_by_window)
{
    struct picture picture = {0};
    struct cut cut;
    char fingerprints[64];
    take(f, &picture);
    for (size_t i = 0; i < sizeof(fingerprints); i++)
        fingerprints[i] = (char)i;
    for (int round = 0; round < 3; round++) {
        begin_cut(f, &cut, &picture.state, 10 * (round + 1));
        for (int w = 0; w < 4; w++) /* two series in two spans; the second span's second window never gets any */
            if (w < 3)
                put_window(&cut, weir_slice_text(w & 1 ? "b" : "a"), w / 2, 1)->unique =
                    weir_slice_of(fingerprints + 16 * round, round == 2 ? 32 : 16);
            else
                put_window(&cut, weir_slice_text("b"), 1, 1);
        must_write(f, &cut, &picture.state);
    }
    take(f, &picture);
    cr_assert_eq(picture.count, 4);
    for (int w = 0; w < 4; w++) {
        struct row *row =
            find_row(&picture, w / 2 * MINUTE * NS, (w / 2 + 1) * MINUTE * NS, weir_slice_text(w & 1 ? "b" : "a"));
        cr_assert_eq(row->unique_length, w < 3 ? 64 : 0);
        cr_assert(w == 3 || memcmp(row->unique, fingerprints, 64) == 0);
    }
    clear(&picture);
}

CONTRACT(ids_are_kept_by_bucket_until_forgotten)
{
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    put_ids(&cut, -2, "-2-2-2-2-2-22-2", WEIR_ID_BYTES);
    put_ids(&cut, 5, "555555555555555", WEIR_ID_BYTES);
    put_ids(&cut, 3, "333333333333333", WEIR_ID_BYTES);
    put_ids(&cut, 4, "444444444444444", WEIR_ID_BYTES);
    put_ids(&cut, 3, "3.3.3.3.3.3..3.", WEIR_ID_BYTES);
    must_write(f, &cut, &picture.state);
    begin_cut(f, &cut, &picture.state, 20);
    cut.cut.forget_ids_below = 4;
    put_ids(&cut, 5, "5+5+5+5+5+5++5+5-5-5-5-5-5--5-", 2 * WEIR_ID_BYTES);
    put_ids(&cut, 3, "too late.......", WEIR_ID_BYTES);
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.ids_count, 2);
    for (int i = 0; i < 2; i++) {
        cr_assert(picture.ids[i].bucket == 4 || picture.ids[i].bucket == 5);
        if (picture.ids[i].bucket == 5)
            cr_assert(picture.ids[i].length == 3 * WEIR_ID_BYTES
                      && memcmp(picture.ids[i].ids, "5555555555555555+5+5+5+5+5++5+5-5-5-5-5-5--5-", 3 * WEIR_ID_BYTES)
                             == 0);
    }
    begin_cut(f, &cut, &picture.state, 30); /* a bucket comes back after it was forgotten */
    cut.cut.state.epoch = picture.state.epoch;
    put_ids(&cut, 3, "once more......", WEIR_ID_BYTES);
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.ids_count, 3);
    clear(&picture);
}

CONTRACT(a_change_between_read_and_finish_stays_on_the_list)
{
    struct picture picture = {0};
    struct weir_work work[8], again[8];
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    put_window(&cut, weir_slice_text("open"), 1, 1);
    for (int i = 0; i < 3; i++)
        put_window(&cut, weir_slice_text("closed"), i, 1)->is_closed = true;
    must_write(f, &cut, &picture.state);
    cr_assert_eq(read_work(f, work, 8), 3);
    cr_assert_eq(read_work(f, again, 2), 2, "no more than asked for");
    cr_assert_eq(read_work(f, work, 8), 3, "reading takes nothing off");
    begin_cut(f, &cut, &picture.state, 20);
    put_window(&cut, weir_slice_text("closed"), 1, 2)->is_closed = true;
    must_write(f, &cut, &picture.state);
    finish(f, work, 3);
    finish(f, work, 3);
    cr_assert_eq(read_work(f, again, 8), 1);
    cr_assert_eq(again[0].window.start, MINUTE * NS);
    cr_assert_eq(again[0].window.total.events, 2);
    scan(f, &picture);
    cr_assert_eq(picture.count, 4);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(picture.rows[i].is_closed, picture.rows[i].key_length == 6);
        cr_assert_eq(picture.rows[i].has_work, picture.rows[i].is_closed && picture.rows[i].start == MINUTE * NS);
    }
    finish(f, again, 1);
    cr_assert_eq(read_work(f, again, 8), 0);
    clear(&picture);
}

CONTRACT(only_finished_windows_are_forgotten)
{
    struct picture picture = {0};
    struct weir_work work[8];
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    for (int i = 0; i < 4; i++)
        put_window(&cut, weir_slice_text("k"), i, 1)->is_closed = true;
    cut.cut.windows == cut.windows ? (void)(cut.windows[1].unique = weir_slice_of("0123456789abcdef", 16)) : (void)0;
    cut.cut.forget_windows_below = 3 * MINUTE * NS;
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.count, 4, "all are on the list of work");
    cr_assert_eq(read_work(f, work, 8), 4);
    for (size_t i = 0; i < 4; i++)
        if (work[i].window.start != 0)
            finish(f, &work[i], 1);
    begin_cut(f, &cut, &picture.state, 20);
    cut.cut.forget_windows_below = 3 * MINUTE * NS;
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_not_null(find_row(&picture, 0, MINUTE * NS, weir_slice_text("k")), "still to be rated");
    cr_assert_not_null(find_row(&picture, 3 * MINUTE * NS, 4 * MINUTE * NS, weir_slice_text("k")), "not old enough");
    if (f->is_redis)
        cr_assert_eq(picture.count, 2, "the two between are finished and old");
    cr_assert_eq(read_work(f, work, 8), 1);
    finish(f, work, 1);
    begin_cut(f, &cut, &picture.state, 20);
    cut.cut.forget_windows_below = 3 * MINUTE * NS;
    must_write(f, &cut, &picture.state);
    if (f->is_redis) {
        take(f, &picture);
        cr_assert_eq(picture.count, 1);
    }
    clear(&picture);
}

struct listed {
    size_t count;
    struct weir_lane_state state;
    char name[WEIR_LANE_NAME_MAX];
    uint32_t length;
    const char *only; /* lanes of other tests may stand in the same Redis */
};

static void on_lane(void *context, struct weir_slice lane, const struct weir_lane_state *state)
{
    struct listed *listed = context;
    if (!weir_slice_equal(lane, weir_slice_text(listed->only)))
        return;
    listed->count++;
    listed->state = *state;
}

CONTRACT(lanes_are_listed_by_topic)
{
    struct picture picture = {0};
    struct weir_error error;
    struct cut cut;
    char other[WEIR_LANE_NAME_MAX + 8], topic[WEIR_LANE_NAME_MAX];
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 77);
    must_write(f, &cut, &picture.state);
    snprintf(topic, sizeof(topic), "%.*s", (int)(strrchr(f->lane, ':') - f->lane), f->lane);
    snprintf(other, sizeof(other), "%s:0:3", topic); /* of topic "<topic>:0" */
    cr_assert_eq(f->store->ops->take_lane(f->store, weir_slice_text(other), secret, NULL, &picture.state, &error),
                 WEIR_OK);
    struct listed listed = {.only = f->lane}, listed_other = {.only = other};
    f->store->ops->list_lanes(f->store, topic, on_lane, &listed, &error);
    f->store->ops->list_lanes(f->store, topic, on_lane, &listed_other, &error);
    cr_assert_eq(listed.count, 1);
    cr_assert_eq(listed_other.count, 0);
    cr_assert_eq(listed.state.next_offset, 77);
    f->store->ops->list_lanes(f->store, NULL, on_lane, &listed, &error);
    f->store->ops->list_lanes(f->store, NULL, on_lane, &listed_other, &error);
    cr_assert_eq(listed.count, 2);
    cr_assert_eq(listed_other.count, 1);
    clear(&picture);
}

/* 5. Random histories against a plain model. */

struct random_walk {
    struct fixture *f;
    struct picture model;
    struct weir_lane_state state;
    uint64_t seed;
    int64_t forgot_windows;
    char fingerprints[1 << 12];
    redisContext *bender; /* Redis only: kills connections, flushes scripts */
};

static uint64_t roll(struct random_walk *walk, uint64_t below)
{
    walk->seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = walk->seed;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % below;
}

static const char *const walk_keys[] = {"a", "b\xff",
                                        "a longer series key with more bytes in it than a listpack likes to hold"};

static void random_cut(struct random_walk *walk, struct cut *cut)
{
    begin_cut(walk->f, cut, &walk->state, walk->state.next_offset + (int64_t)roll(walk, 3));
    bool moves = cut->cut.state.next_offset != walk->state.next_offset;
    bool used[40][3] = {{false}};
    size_t windows = roll(walk, 30);
    for (size_t i = 0; i < windows; i++) {
        int64_t minute = (int64_t)roll(walk, 40);
        size_t key = roll(walk, 3);
        if (used[minute][key])
            continue;
        used[minute][key] = true;
        struct weir_cut_window *window = put_window(cut, weir_slice_text(walk_keys[key]), minute, roll(walk, 1000));
        window->is_closed = roll(walk, 2);
        if (moves && roll(walk, 3) == 0)
            window->unique = weir_slice_of(walk->fingerprints + roll(walk, 100), 16 * (1 + (uint32_t)roll(walk, 4)));
    }
    for (size_t i = 0; moves && i < roll(walk, 4); i++)
        put_ids(cut, (int64_t)roll(walk, 6) - 2, walk->fingerprints + roll(walk, 200),
                WEIR_ID_BYTES * (uint32_t)roll(walk, 8));
    if (roll(walk, 4) == 0)
        cut->cut.forget_ids_below = (int64_t)roll(walk, 6) - 3;
    if (roll(walk, 4) == 0)
        cut->cut.forget_windows_below = (int64_t)roll(walk, 30) * MINUTE * NS;
    cut->cut.state.watermark = (int64_t)roll(walk, 1000);
}

static bool span_has_work(const struct picture *model, int64_t start, int64_t end)
{
    for (size_t i = 0; i < model->count; i++)
        if (model->rows[i].start == start && model->rows[i].end == end && model->rows[i].has_work)
            return true;
    return false;
}

static void model_cut(struct random_walk *walk, const struct weir_cut *cut)
{
    struct picture *model = &walk->model;
    for (size_t i = 0; i < cut->window_count; i++) {
        const struct weir_cut_window *window = &cut->windows[i];
        struct row *row = find_row(model, window->window.start, window->window.end, window->window.series_key);
        if (!row)
            row = add_row(model, &window->window);
        row->total = window->window.total;
        row->is_closed = window->is_closed;
        row->has_work |= window->is_closed;
        add_unique(row, window->unique);
    }
    for (size_t i = 0; i < cut->ids_count; i++)
        if (cut->ids[i].ids.length && cut->ids[i].bucket >= cut->forget_ids_below)
            add_ids(model, cut->ids[i].bucket, cut->ids[i].ids);
    for (size_t i = 0; i < model->ids_count;)
        if (model->ids[i].bucket < cut->forget_ids_below)
            forget_bucket(model, i);
        else
            i++;
    for (size_t i = 0; walk->f->is_redis && i < model->count;) /* memory keeps windows */
        if (model->rows[i].end <= cut->forget_windows_below
            && !span_has_work(model, model->rows[i].start, model->rows[i].end))
            forget_row(model, i);
        else
            i++;
    walk->state = cut->state;
}

static void bend(struct random_walk *walk)
{
    const char *command = roll(walk, 2) ? "SCRIPT FLUSH" : "CLIENT KILL TYPE normal SKIPME yes";
    if (walk->bender)
        freeReplyObject(redisCommand(walk->bender, command));
}

static void walk_write(struct random_walk *walk)
{
    struct cut cut;
    struct weir_error error = {""};
    struct weir_window_store *store = walk->f->store;
    random_cut(walk, &cut);
    if (roll(walk, 5) == 0) { /* refused first: by epoch or by offset */
        struct cut wrong = cut;
        wrong.cut.windows = wrong.windows;
        wrong.cut.ids = wrong.ids;
        if (roll(walk, 2))
            wrong.cut.state.epoch--;
        else
            wrong.cut.state.next_offset = 5 + (wrong.cut.expected_offset += 1 + (int64_t)roll(walk, 3));
        cr_assert_eq(store->ops->write_cut(store, &wrong.cut, &error), WEIR_FENCED);
    }
    if (roll(walk, 6) == 0)
        bend(walk);
    enum weir_status status = WEIR_RETRY;
    for (int i = 0; i < 3 && status == WEIR_RETRY; i++)
        status = store->ops->write_cut(store, &cut.cut, &error);
    cr_assert_eq(status, WEIR_OK, "%s", error.text);
    for (uint64_t again = roll(walk, 8) == 0 ? 2 : 0; again > 0; again--)
        cr_assert_eq(store->ops->write_cut(store, &cut.cut, &error), WEIR_OK, "%s", error.text);
    model_cut(walk, &cut.cut);
}

static void walk_rate(struct random_walk *walk)
{
    struct weir_work work[200];
    size_t expected = 0, max = 1 + roll(walk, 199);
    for (size_t i = 0; i < walk->model.count; i++)
        expected += walk->model.rows[i].has_work;
    size_t count = read_work(walk->f, work, max);
    cr_assert(count <= expected && (count > 0 || expected == 0), "%zu of %zu", count, expected);
    for (size_t i = 0; i < count; i++) {
        struct row *row = find_row(&walk->model, work[i].window.start, work[i].window.end, work[i].window.series_key);
        cr_assert(row && row->has_work && same_total(&row->total, &work[i].window.total));
        for (size_t n = 0; n < i; n++)
            cr_assert(work[n].window.start != work[i].window.start
                          || !weir_slice_equal(work[n].window.series_key, work[i].window.series_key),
                      "an item stands twice in one answer");
    }
    size_t first = count ? roll(walk, count) : 0;
    for (size_t i = first; i < count; i++)
        find_row(&walk->model, work[i].window.start, work[i].window.end, work[i].window.series_key)->has_work = false;
    struct weir_error error = {""};
    enum weir_status status = WEIR_RETRY;
    if (roll(walk, 6) == 0)
        bend(walk);
    for (int i = 0; i < 3 && status == WEIR_RETRY; i++)
        status =
            walk->f->store->ops->finish_work(walk->f->store, lane_name(walk->f), work + first, count - first, &error);
    cr_assert_eq(status, WEIR_OK, "%s", error.text);
}

static void compare_with_model(struct random_walk *walk)
{
    struct picture loaded = {0}, scanned = {0};
    uint64_t epoch = walk->state.epoch;
    take(walk->f, &loaded);
    scan(walk->f, &scanned);
    cr_assert_gt(loaded.state.epoch, epoch);
    walk->state.epoch = loaded.state.epoch;
    cr_assert_eq(memcmp(&loaded.state, &walk->state, sizeof(loaded.state)), 0);
    cr_assert_eq(loaded.count, walk->model.count);
    cr_assert_eq(scanned.count, walk->model.count);
    for (size_t i = 0; i < walk->model.count; i++) {
        const struct row *row = &walk->model.rows[i];
        struct weir_slice key = weir_slice_of(row->key, row->key_length);
        const struct row *load = find_row(&loaded, row->start, row->end, key);
        const struct row *seen = find_row(&scanned, row->start, row->end, key);
        cr_assert(load && seen && same_total(&load->total, &row->total) && same_total(&seen->total, &row->total));
        cr_assert(load->is_closed == row->is_closed && seen->is_closed == row->is_closed);
        cr_assert_eq(seen->has_work, row->has_work);
        cr_assert_eq(load->unique_length, row->unique_length);
        cr_assert(row->unique_length == 0 || memcmp(load->unique, row->unique, row->unique_length) == 0);
    }
    cr_assert_eq(loaded.ids_count, walk->model.ids_count);
    for (size_t i = 0; i < loaded.ids_count; i++) {
        size_t m = 0;
        while (m < walk->model.ids_count && walk->model.ids[m].bucket != loaded.ids[i].bucket)
            m++;
        cr_assert(m < walk->model.ids_count && walk->model.ids[m].length == loaded.ids[i].length
                  && memcmp(walk->model.ids[m].ids, loaded.ids[i].ids, loaded.ids[i].length) == 0);
    }
    clear(&loaded);
    clear(&scanned);
}

CONTRACT(random_histories_match_a_model)
{
    for (uint64_t seed = 1; seed <= 25; seed++) {
        struct random_walk walk = {.f = f, .seed = seed};
        snprintf(f->lane, sizeof(f->lane), "walk-%d-%d:%d", (int)getpid(), (int)time(NULL), (int)seed);
        for (size_t i = 0; i < sizeof(walk.fingerprints); i++)
            walk.fingerprints[i] = (char)roll(&walk, 256);
        if (f->is_redis && server.pid)
            walk.bender = redisConnect("127.0.0.1", server.port);
        take(f, &walk.model);
        walk.state = walk.model.state;
        for (int step = 0; step < 60; step++) {
            uint64_t what = roll(&walk, 10);
            if (what < 6)
                walk_write(&walk);
            else if (what < 9)
                walk_rate(&walk);
            else
                compare_with_model(&walk);
        }
        compare_with_model(&walk);
        clear(&walk.model);
        if (walk.bender)
            redisFree(walk.bender);
    }
}

/* 6. Large cuts. */

struct tally {
    uint64_t windows, ids, unique;
    uint64_t digest; /* of windows with their totals and fingerprints, in any order */
    uint64_t ids_digest;
};

static uint64_t digest_of(const struct weir_window *window, bool is_closed, struct weir_slice unique)
{
    unsigned char total[WEIR_WINDOW_TOTAL_BYTES];
    weir_window_total_store(&window->total, total);
    uint64_t digest = weir_hash64(window->series_key.data, window->series_key.length, (uint64_t)window->start);
    digest = weir_hash64(total, sizeof(total), digest ^ (uint64_t)window->end);
    return weir_hash64(unique.data ? unique.data : "", unique.length, digest + is_closed);
}

static void tally_window(void *context, const struct weir_window *window, bool is_closed, struct weir_slice unique)
{
    struct tally *tally = context;
    tally->windows++;
    tally->unique += unique.length / WEIR_UNIQUE_BYTES;
    tally->digest += digest_of(window, is_closed, unique);
}

static void tally_ids(void *context, int64_t bucket, struct weir_slice ids)
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

static void make_large(struct large *large, size_t windows, size_t bytes, size_t spans)
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

static void free_large(struct large *large)
{
    free(large->windows);
    free(large->keys);
    free(large->bytes);
}

/* Rates all there is, in batches; every item must come exactly once. */
static size_t drain(struct fixture *f, size_t batch)
{
    struct weir_work *work = calloc(batch, sizeof(*work));
    size_t total = 0;
    for (size_t count; (count = read_work(f, work, batch)) > 0; total += count)
        finish(f, work, count);
    free(work);
    return total;
}

static size_t read_more(struct fixture *f, struct weir_work_place *place, struct weir_work *work, size_t max)
{
    struct weir_error error = {""};
    size_t count = SIZE_MAX;
    cr_assert_eq(f->store->ops->read_more_work(f->store, lane_name(f), place, max, work, &count, &error), WEIR_OK, "%s",
                 error.text);
    cr_assert_leq(count, max);
    return count;
}

static size_t number_of(const struct weir_work *work)
{
    return strtoul(work->window.series_key.data + sizeof("series number ") - 1, NULL, 10);
}

/* Spans of every size that Redis keeps in its own way, and lots that end within one. */
CONTRACT(reading_on_passes_by_what_is_under_way)
{
    enum { WINDOWS = 9000, LOT = 70 };
    static bool is_seen[WINDOWS], is_rated[WINDOWS];
    struct picture picture = {0};
    struct weir_work work[LOT];
    struct weir_work_place place = {0};
    struct large large;
    struct cut cut;
    size_t seen = 0, rated = 0;
    make_large(&large, WINDOWS, 1, 3);
    for (size_t i = 0; i < WINDOWS; i++)
        if (i % 7 == 0)
            large.windows[i].window.start = large.windows[i].window.end - NS * (1 + (int64_t)i % 5);
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 1000);
    cut.cut.windows = large.windows;
    cut.cut.window_count = WINDOWS;
    must_write(f, &cut, &picture.state);
    for (size_t count = LOT; count == LOT; seen += count) {
        count = read_more(f, &place, work, LOT);
        for (size_t i = 0; i < count; i++) {
            cr_assert(!is_seen[number_of(&work[i])], "window %zu came twice", number_of(&work[i]));
            is_seen[number_of(&work[i])] = true;
        }
    }
    cr_assert_gt(seen, WINDOWS / 2 * 9 / 10, "only %zu were read", seen);
    cr_assert_eq(read_more(f, &place, work, LOT), 0, "nothing is behind the end");
    place = (struct weir_work_place){0};
    for (size_t count = LOT, lot = 0; count == LOT; lot++) { /* what is finished meanwhile hides no other */
        count = read_more(f, &place, work, LOT);
        for (size_t i = 0; i < count && lot % 2; i++)
            is_rated[number_of(&work[i])] = true;
        finish(f, work, lot % 2 ? count : 0);
    }
    for (size_t count; (count = read_work(f, work, LOT)) > 0; finish(f, work, count))
        for (size_t i = 0; i < count; i++) {
            cr_assert(!is_rated[number_of(&work[i])], "window %zu is off the list", number_of(&work[i]));
            is_rated[number_of(&work[i])] = true;
        }
    for (size_t i = 0; i < WINDOWS; i++)
        rated += is_rated[i];
    cr_assert_eq(rated, WINDOWS / 2);
    free_large(&large);
    clear(&picture);
}

/* Logs over several segments, ids and fingerprints across their ends, and more items than one packed argument holds. */
CONTRACT(a_cut_of_two_million_windows_is_one_cut)
{
#ifdef __SANITIZE_ADDRESS__
    enum { WINDOWS = 200000, IDS = 2500001, FINGERPRINTS = 1000001 };
#else
    enum { WINDOWS = 2000000, IDS = 2500001, FINGERPRINTS = 1000001 };
#endif
    struct picture picture = {0};
    struct large large;
    make_large(&large, WINDOWS, (size_t)IDS * WEIR_ID_BYTES, 3);
    large.windows[7].unique = weir_slice_of(large.bytes, (size_t)FINGERPRINTS * WEIR_UNIQUE_BYTES);
    take(f, &picture);
    struct weir_cut_ids ids[] = {{1, weir_slice_of(large.bytes, (size_t)(IDS - 1) * WEIR_ID_BYTES)},
                                 {2, weir_slice_of(large.bytes, WEIR_ID_BYTES)},
                                 {1, weir_slice_of(large.bytes + 7, WEIR_ID_BYTES)}};
    struct cut cut;
    begin_cut(f, &cut, &picture.state, 1000);
    cut.cut.windows = large.windows;
    cut.cut.window_count = WINDOWS;
    cut.cut.ids = ids;
    cut.cut.ids_count = 3;
    must_write(f, &cut, &picture.state);
    struct tally expected = {0}, loaded = {0};
    for (size_t i = 0; i < WINDOWS; i++)
        tally_window(&expected, &large.windows[i].window, large.windows[i].is_closed, large.windows[i].unique);
    for (size_t i = 0; i < 3; i++)
        tally_ids(&expected, ids[i].bucket, ids[i].ids);
    struct weir_lane_loader loader = {&loaded, tally_window, tally_ids};
    struct weir_error error = {""};
    cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), secret, &loader, &picture.state, &error), WEIR_OK,
                 "%s", error.text);
    cr_assert_eq(memcmp(&loaded, &expected, sizeof(loaded)), 0,
                 "%" PRIu64 " windows, %" PRIu64 " ids, %" PRIu64 " unique", loaded.windows, loaded.ids, loaded.unique);
    cr_assert_eq(drain(f, 50000), WINDOWS / 2);
    free_large(&large);
    clear(&picture);
}

CONTRACT(work_is_drained_in_small_batches_and_many_spans)
{
    enum { WINDOWS = 30000 };
    struct picture picture = {0};
    struct large large;
    make_large(&large, WINDOWS, 1, 997);
    take(f, &picture);
    struct cut cut;
    begin_cut(f, &cut, &picture.state, 1000);
    cut.cut.windows = large.windows;
    cut.cut.window_count = WINDOWS;
    must_write(f, &cut, &picture.state);
    cr_assert_eq(drain(f, 100), WINDOWS / 2);
    begin_cut(f, &cut, &picture.state, 2000);
    cut.cut.forget_windows_below = INT64_MAX;
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.count, f->is_redis ? 0 : WINDOWS);
    free_large(&large);
    clear(&picture);
}

/* 7. Redis alone: what only a server does. */

static redisContext *open_private(struct fixture *f)
{
    unsetenv("WEIR_TEST_REDIS_URL");
    open_twin(f, "redis", "private");
    redisContext *context = redisConnect("127.0.0.1", server.port);
    cr_assert(context && !context->err);
    return context;
}

static void close_private(struct fixture *f, redisContext *context)
{
    redisFree(context);
    close_twin(f);
}

static void tell(redisContext *context, const char *command)
{
    redisReply *reply = redisCommand(context, command);
    cr_assert(reply && reply->type != REDIS_REPLY_ERROR, "%s: %s", command, reply ? reply->str : context->errstr);
    freeReplyObject(reply);
}

static long long ask(redisContext *context, const char *command)
{
    redisReply *reply = redisCommand(context, command);
    cr_assert(reply && reply->type == REDIS_REPLY_INTEGER);
    long long answer = reply->integer;
    freeReplyObject(reply);
    return answer;
}

/* Everything in the database, as one number. */
static uint64_t digest_of_database(redisContext *context)
{
    redisReply *keys = redisCommand(context, "KEYS *");
    uint64_t digest = 0;
    for (size_t i = 0; i < keys->elements; i++) {
        redisReply *dump = redisCommand(context, "DUMP %b", keys->element[i]->str, keys->element[i]->len);
        digest += weir_hash64(dump->str, dump->len, weir_hash64(keys->element[i]->str, keys->element[i]->len, 0));
        freeReplyObject(dump);
    }
    freeReplyObject(keys);
    return digest;
}

static void full_cut(struct fixture *f, struct cut *cut, const struct weir_lane_state *state, int64_t next_offset)
{
    begin_cut(f, cut, state, next_offset);
    struct weir_cut_window *window = put_window(cut, weir_slice_text("k"), next_offset, 5);
    window->is_closed = true;
    window->unique = weir_slice_of("0123456789abcdef", 16);
    put_window(cut, weir_slice_text("k"), 0, 5);
    put_ids(cut, next_offset, "123456789012012", WEIR_ID_BYTES);
}

Test(window_store_redis, out_of_memory_refuses_the_whole_cut)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    struct weir_error error;
    struct weir_work work[4];
    take(f, &picture);
    full_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    cr_assert_eq(read_work(f, work, 4), 1);
    uint64_t before = digest_of_database(context);
    tell(context, "CONFIG SET maxmemory 1");
    full_cut(f, &cut, &picture.state, 20);
    cut.cut.forget_ids_below = 15;
    cut.cut.forget_windows_below = INT64_MAX;
    cr_assert_eq(f->store->ops->write_cut(f->store, &cut.cut, &error), WEIR_RETRY);
    cr_assert(strstr(error.text, "maxmemory"), "%s", error.text);
    cr_assert_eq(digest_of_database(context), before, "a refused cut wrote something");
    finish(f, work, 1); /* taking off the list needs no memory */
    tell(context, "CONFIG SET maxmemory 0");
    must_write(f, &cut, &picture.state);
    cr_assert_eq(read_work(f, work, 4), 1);
    clear(&picture);
    close_private(f, context);
}

/* Whatever maxmemory is, from where nothing fits to where everything does: all of a cut is there, or nothing. */
Test(window_store_redis, memory_that_ends_anywhere_leaves_whole_cuts)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct large large;
    struct weir_error error;
    int written = 0, refused = 0;
    make_large(&large, 20000, 1 << 20, 5);
    take(f, &picture);
    struct cut cut;
    full_cut(f, &cut, &picture.state, 1);
    must_write(f, &cut, &picture.state);
    redisReply *info = redisCommand(context, "INFO memory");
    long long used = strtoll(strstr(info->str, "used_memory:") + 12, NULL, 10);
    freeReplyObject(info);
    for (int i = 0; i < 24; i++) {
        redisReply *reply = redisCommand(context, "CONFIG SET maxmemory %lld", used + (i - 4) * 524288LL);
        freeReplyObject(reply);
        uint64_t before = digest_of_database(context);
        begin_cut(f, &cut, &picture.state, picture.state.next_offset + 1);
        cut.cut.windows = large.windows;
        cut.cut.window_count = large.count;
        put_ids(&cut, i, large.bytes, (1 << 20) / WEIR_ID_BYTES * WEIR_ID_BYTES);
        enum weir_status status = f->store->ops->write_cut(f->store, &cut.cut, &error);
        cr_assert(status == WEIR_OK || (status == WEIR_RETRY && strstr(error.text, "maxmemory")), "%s", error.text);
        if (status == WEIR_OK)
            picture.state = cut.cut.state;
        else
            cr_assert_eq(digest_of_database(context), before, "part of a cut at %d", i);
        written += status == WEIR_OK;
        refused += status == WEIR_RETRY;
    }
    cr_assert(written > 0 && refused > 0, "%d written, %d refused", written, refused);
    tell(context, "CONFIG SET maxmemory 0");
    int64_t next_offset = picture.state.next_offset;
    struct tally loaded = {0};
    struct weir_lane_loader loader = {&loaded, tally_window, tally_ids};
    f->store->ops->take_lane(f->store, lane_name(f), secret, &loader, &picture.state, &error);
    cr_assert_eq(picture.state.next_offset, next_offset);
    cr_assert_eq(loaded.ids, 1 + (uint64_t)written * ((1 << 20) / WEIR_ID_BYTES));
    free_large(&large);
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, a_wrong_type_anywhere_refuses_the_whole_cut)
{
    static const char *const spoiled[] = {"lane",
                                          "spans",
                                          "logs",
                                          "working",
                                          "windows:600000000000:660000000000",
                                          "work:600000000000:660000000000",
                                          "unique:600000000000:660000000000:0",
                                          "seen:10:0"};
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct weir_error error;
    for (size_t i = 0; i < sizeof(spoiled) / sizeof(*spoiled); i++) {
        struct picture picture = {0};
        struct cut cut;
        tell(context, "FLUSHALL");
        take(f, &picture);
        redisReply *reply = redisCommand(context, "DEL weir:{%s}:%s", f->lane, spoiled[i]);
        freeReplyObject(reply);
        reply = redisCommand(context, "LPUSH weir:{%s}:%s x", f->lane, spoiled[i]);
        freeReplyObject(reply);
        uint64_t before = digest_of_database(context);
        full_cut(f, &cut, &picture.state, 10);
        cr_assert_eq(f->store->ops->write_cut(f->store, &cut.cut, &error), WEIR_FATAL, "%s", spoiled[i]);
        cr_assert(strstr(error.text, "holds something else"), "%s", error.text);
        cr_assert_eq(digest_of_database(context), before, "%s", spoiled[i]);
        clear(&picture);
    }
    close_private(f, context);
}

/* Redis falls back to before a take, another worker takes the lane, and the first one, a zombie by now, still writes.
 * Its cut fits in every number that a count of takes and cuts would have. */
Test(window_store_redis, an_epoch_that_was_lost_is_not_given_out_again)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct weir_window_store *zombie = NULL;
    struct weir_lane_state lost, state;
    struct weir_error error;
    struct cut cut;
    cr_assert_eq(weir_store_redis_open(f->url, &zombie, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(zombie->ops->take_lane(zombie, lane_name(f), secret, NULL, &lost, &error), WEIR_OK);
    freeReplyObject(redisCommand(context, "FLUSHALL"));
    cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), secret, NULL, &state, &error), WEIR_OK);
    begin_cut(f, &cut, &lost, 10);
    cr_assert_eq(zombie->ops->write_cut(zombie, &cut.cut, &error), WEIR_FENCED);
    weir_window_store_free(zombie);
    close_private(f, context);
}

Test(window_store_redis, another_format_is_refused)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_lane_state state;
    struct weir_error error;
    struct weir_work work[1];
    size_t count;
    struct cut cut;
    take(f, &picture);
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:lane format 3", f->lane));
    full_cut(f, &cut, &picture.state, 10);
    uint64_t before = digest_of_database(context);
    cr_assert_eq(f->store->ops->write_cut(f->store, &cut.cut, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "another format"), "%s", error.text);
    cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), secret, NULL, &state, &error), WEIR_FATAL);
    cr_assert_eq(f->store->ops->read_work(f->store, lane_name(f), 1, work, &count, &error), WEIR_FATAL);
    cr_assert_eq(f->store->ops->list_lanes(f->store, NULL, on_lane, &(struct listed){.only = ""}, &error), WEIR_FATAL);
    cr_assert_eq(digest_of_database(context), before);
    clear(&picture);
    close_private(f, context);
}

/* As weir wrote a lane before it noted what it had forgotten. */
Test(window_store_redis, a_lane_without_forgotten_goes_on)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_lane_state read;
    struct weir_error error;
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    freeReplyObject(redisCommand(context, "HDEL weir:{%s}:lane forgotten", f->lane));
    cr_assert_eq(f->store->ops->read_lane(f->store, lane_name(f), &read, &error), WEIR_OK, "%s", error.text);
    take(f, &picture);
    cr_assert_eq(read.forgotten, 0);
    cr_assert_eq(picture.state.forgotten, 0);
    begin_cut(f, &cut, &picture.state, 20);
    cut.cut.state.forgotten = 1767610799123456789;
    must_write(f, &cut, &picture.state);
    cr_assert_eq(f->store->ops->read_lane(f->store, lane_name(f), &read, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(read.forgotten, 1767610799123456789);
    clear(&picture);
    close_private(f, context);
}

/* As weir wrote a lane before there were retractions: the first owner of this weir goes on with it. */
Test(window_store_redis, a_lane_of_the_old_format_goes_on)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    char value[41] = {7}, ids[12 * 200000];
    value[8] = 21;
    value[40] = 1;
    for (uint32_t i = 0; i < sizeof ids; i++)
        ids[i] = (char)(i * 31 + i / 12);
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    freeReplyObject(redisCommand(context, "HDEL weir:{%s}:lane retracted stamp gaps forgotten", f->lane));
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:lane format 1", f->lane));
    freeReplyObject(redisCommand(context, "SADD weir:{%s}:spans 0:60", f->lane));
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:windows:0:60 k %b", f->lane, value, sizeof value));
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:logs ids:3 %d", f->lane, (int)sizeof ids));
    freeReplyObject(redisCommand(context, "SET weir:{%s}:ids:3:0 %b", f->lane, ids, sizeof ids));
    struct listed listed = {.only = f->lane};
    struct weir_error error;
    f->store->ops->list_lanes(f->store, NULL, on_lane, &listed, &error);
    cr_assert_eq(listed.count, 1, "raters read it before it is taken");
    take(f, &picture);
    cr_assert_gt(picture.state.epoch, 1);
    cr_assert_eq(picture.state.next_offset, 10);
    cr_assert_eq(picture.state.stamp, -1);
    cr_assert_eq(picture.state.gaps.count, 0);
    cr_assert_eq(picture.state.counts.retracted, 0);
    cr_assert_eq(memcmp(picture.state.secret, secret, sizeof(secret)), 0);
    redisReply *reply = redisCommand(context, "HGET weir:{%s}:lane format", f->lane);
    cr_assert_str_eq(reply->str, "2");
    freeReplyObject(reply);
    cr_assert_eq(picture.count, 1);
    cr_assert(picture.rows[0].total.events == 7 && picture.rows[0].total.value.e12 == 21 && picture.rows[0].is_closed);
    cr_assert_eq(picture.rows[0].total.retracted, 0);
    cr_assert_eq(picture.ids[0].length, sizeof ids / 12 * WEIR_ID_BYTES);
    for (size_t i = 0; i < sizeof ids / 12; i++) {
        struct weir_id_mark mark;
        uint64_t id = weir_id_load(picture.ids[0].ids + i * WEIR_ID_BYTES, &mark);
        cr_assert(memcmp(&id, ids + i * 12, 8) == 0 && memcmp(&mark.content, ids + i * 12 + 8, 4) == 0);
        cr_assert_eq(mark.state, WEIR_ID_COUNTED_UNKNOWN);
    }
    begin_cut(f, &cut, &picture.state, 20);
    put_window(&cut, weir_slice_text("k"), 5, 5);
    put_ids(&cut, 3, "abcdefghijkljkl", WEIR_ID_BYTES);
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.count, 2);
    cr_assert_eq(picture.ids[0].length, (sizeof ids / 12 + 1) * WEIR_ID_BYTES);
    begin_cut(f, &cut, &picture.state, 30);
    cut.cut.forget_ids_below = 4;
    must_write(f, &cut, &picture.state);
    redisReply *left = redisCommand(context, "KEYS *:3:0");
    cr_assert_eq(left->elements, 0, "old logs are forgotten like new ones");
    freeReplyObject(left);
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, a_redis_that_went_back_in_time_is_noticed)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    full_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    struct weir_lane_state older = picture.state;
    redisReply *dump = redisCommand(context, "DUMP weir:{%s}:lane", f->lane);
    begin_cut(f, &cut, &picture.state, 10); /* closes a window by the wall clock: no offset moves */
    put_window(&cut, weir_slice_text("k"), 0, 5)->is_closed = true;
    must_write(f, &cut, &picture.state);
    freeReplyObject(redisCommand(context, "RESTORE weir:{%s}:lane 0 %b REPLACE", f->lane, dump->str, dump->len));
    freeReplyObject(dump);
    full_cut(f, &cut, &older, 20);
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED, "the cut before this one is lost, though the offset fits");
    tell(context, "FLUSHALL");
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED, "everything is lost");
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, a_lost_connection_is_a_retry_and_then_works)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_error error;
    struct weir_work work[4];
    size_t count;
    struct cut cut;
    take(f, &picture);
    full_cut(f, &cut, &picture.state, 10);
    tell(context, "CLIENT KILL TYPE normal SKIPME yes");
    cr_assert_eq(f->store->ops->write_cut(f->store, &cut.cut, &error), WEIR_RETRY);
    cr_assert(strstr(error.text, "reconnecting"), "%s", error.text);
    must_write(f, &cut, &picture.state);
    tell(context, "CLIENT KILL TYPE normal SKIPME yes");
    cr_assert_eq(f->store->ops->read_work(f->store, lane_name(f), 4, work, &count, &error), WEIR_RETRY);
    cr_assert_eq(read_work(f, work, 4), 1);
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, scripts_that_were_flushed_are_sent_again)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_work work[4];
    struct cut cut;
    for (int i = 1; i < 4; i++) {
        tell(context, "SCRIPT FLUSH");
        take(f, &picture);
        tell(context, "SCRIPT FLUSH");
        full_cut(f, &cut, &picture.state, 10 * i);
        must_write(f, &cut, &picture.state);
        tell(context, "SCRIPT FLUSH");
        cr_assert_eq(read_work(f, work, 4), 1);
        finish(f, work, 1);
    }
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, nothing_is_left_of_what_was_forgotten)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_work work[4];
    struct cut cut;
    take(f, &picture);
    full_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    cr_assert_gt(ask(context, "DBSIZE"), 6);
    cr_assert_eq(read_work(f, work, 4), 1);
    finish(f, work, 1);
    begin_cut(f, &cut, &picture.state, 20);
    cut.cut.forget_ids_below = INT64_MAX;
    cut.cut.forget_windows_below = INT64_MAX;
    must_write(f, &cut, &picture.state);
    cr_assert_eq(ask(context, "DBSIZE"), 2, "weir:lanes and the lane hash");
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, another_handle_may_write_what_one_has_taken)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_error error;
    struct weir_window_store *taker = f->store;
    struct cut cut;
    cr_assert_eq(weir_store_redis_open(server.socket_url, &f->store, &error), WEIR_OK);
    for (int i = 0; i < 3; i++) {
        struct fixture other = *f;
        other.store = taker;
        take(&other, &picture);
        cr_assert_eq(picture.ids_count, (size_t)i * 2);
        for (int n = 1; n <= 2; n++) {
            full_cut(f, &cut, &picture.state, i * 20 + 10 * n);
            must_write(f, &cut, &picture.state);
        }
    }
    weir_window_store_free(taker);
    clear(&picture);
    close_private(f, context);
}

struct overtaker {
    struct fixture *other;
    struct picture picture;
};

/* At the first window that the slower one loads, the other takes the lane and forgets what is yet to be loaded. */
static void overtake(void *context, const struct weir_window *window, bool is_closed, struct weir_slice unique)
{
    struct overtaker *overtaker = context;
    struct cut cut;

    (void)window;
    (void)is_closed;
    (void)unique;
    if (overtaker->picture.state.epoch != 0)
        return;
    take(overtaker->other, &overtaker->picture);
    begin_cut(overtaker->other, &cut, &overtaker->picture.state, 20);
    cut.cut.forget_ids_below = INT64_MAX;
    cut.cut.forget_windows_below = INT64_MAX;
    must_write(overtaker->other, &cut, &overtaker->picture.state);
}

static void pass_ids(void *context, int64_t bucket, struct weir_slice ids)
{
    (void)context;
    (void)bucket;
    (void)ids;
}

Test(window_store_redis, a_load_that_another_owner_overtakes_is_fenced_not_damaged)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct fixture other = *f;
    struct overtaker overtaker = {.other = &other};
    struct weir_lane_loader loader = {&overtaker, overtake, pass_ids};
    struct picture picture = {0};
    struct weir_lane_state state;
    struct weir_error error = {""};
    struct cut cut;

    cr_assert_eq(weir_store_redis_open(server.socket_url, &other.store, &error), WEIR_OK);
    take(f, &picture);
    full_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    enum weir_status status = f->store->ops->take_lane(f->store, lane_name(f), secret, &loader, &state, &error);
    cr_expect_eq(status, WEIR_FENCED, "%d: %s", status, error.text);
    cr_expect_not_null(strstr(error.text, "another worker took it"), "%s", error.text);
    weir_window_store_free(other.store);
    clear(&overtaker.picture);
    clear(&picture);
    close_private(f, context);
}

struct rival {
    pthread_t thread;
    const char *lane;
    int written, fenced;
};

/* Takes the lane and counts one id an offset, until fenced; then takes it again. */
static void *compete(void *context)
{
    struct rival *rival = context;
    struct fixture f = {.is_redis = true};
    struct weir_error error;
    snprintf(f.lane, sizeof(f.lane), "%s", rival->lane);
    cr_assert_eq(weir_store_redis_open(server.url, &f.store, &error), WEIR_OK);
    while (rival->written < 300) {
        struct weir_lane_state state;
        enum weir_status status = f.store->ops->take_lane(f.store, lane_name(&f), secret, NULL, &state, &error);
        cr_assert(status == WEIR_OK || status == WEIR_FENCED, "%s", error.text);
        while (status == WEIR_OK && rival->written < 300) {
            struct cut cut;
            char id[WEIR_ID_BYTES] = {0};
            begin_cut(&f, &cut, &state, state.next_offset + 1);
            memcpy(id, &cut.cut.state.next_offset, 8);
            put_ids(&cut, 0, id, sizeof(id));
            status = f.store->ops->write_cut(f.store, &cut.cut, &error);
            cr_assert(status == WEIR_OK || status == WEIR_FENCED, "%s", error.text);
            rival->written += status == WEIR_OK;
            rival->fenced += status == WEIR_FENCED;
            state = cut.cut.state;
        }
    }
    weir_window_store_free(f.store);
    return NULL;
}

Test(window_store_redis, rivals_for_a_lane_lose_and_double_nothing)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct rival rivals[3] = {{.lane = f->lane}, {.lane = f->lane}, {.lane = f->lane}};
    for (int i = 0; i < 3; i++)
        cr_assert_eq(pthread_create(&rivals[i].thread, NULL, compete, &rivals[i]), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(rivals[i].thread, NULL);
    take(f, &picture);
    cr_assert_eq(picture.state.next_offset, 899);
    cr_assert_eq(picture.ids_count, 1);
    cr_assert_eq(picture.ids[0].length, 900 * WEIR_ID_BYTES);
    for (int64_t i = 0; i < 900; i++)
        cr_assert_eq(memcmp(picture.ids[0].ids + i * WEIR_ID_BYTES, &i, 8), 0, "id %d", (int)i);
    cr_assert_gt(rivals[0].fenced + rivals[1].fenced + rivals[2].fenced, 0);
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, replica_password_and_eviction_are_named)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct weir_lane_state state;
    struct weir_error error;
    char url[128];
    tell(context, "REPLICAOF 127.0.0.1 1");
    cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), secret, NULL, &state, &error), WEIR_RETRY);
    cr_assert(strstr(error.text, "replica"), "%s", error.text);
    tell(context, "REPLICAOF NO ONE");
    tell(context, "CONFIG SET maxmemory 100mb maxmemory-policy allkeys-lru");
    cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), secret, NULL, &state, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "noeviction"), "%s", error.text);
    tell(context, "CONFIG SET maxmemory-policy noeviction requirepass p@ss:w/rd");
    struct weir_window_store *store;
    snprintf(url, sizeof(url), "redis://127.0.0.1:%d/3", server.port);
    cr_assert_eq(weir_store_redis_open(url, &store, &error), WEIR_OK);
    cr_assert_eq(store->ops->take_lane(store, lane_name(f), secret, NULL, &state, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "password"), "%s", error.text);
    weir_window_store_free(store);
    snprintf(url, sizeof(url), "redis://default:p%%40ss%%3Aw%%2Frd@127.0.0.1:%d/3", server.port);
    cr_assert_eq(weir_store_redis_open(url, &store, &error), WEIR_OK);
    cr_assert_eq(store->ops->take_lane(store, lane_name(f), secret, NULL, &state, &error), WEIR_OK, "%s", error.text);
    weir_window_store_free(store);
    tell(context, "SELECT 3");
    cr_assert_eq(ask(context, "DBSIZE"), 2);
    close_private(f, context);
}

Test(window_store_redis, a_server_that_is_not_there_is_a_retry)
{
    struct weir_window_store *store;
    struct weir_lane_state state;
    struct weir_error error;
    char url[64];
    snprintf(url, sizeof(url), "redis://127.0.0.1:%d", redis_server_free_port());
    cr_assert_eq(weir_store_redis_open(url, &store, &error), WEIR_OK);
    cr_assert_eq(store->ops->take_lane(store, weir_slice_text("t:0"), secret, NULL, &state, &error), WEIR_RETRY);
    cr_assert(strstr(error.text, "not reached"), "%s", error.text);
    weir_window_store_free(store);
}

Test(window_store_redis, bad_urls_are_refused_without_showing_them)
{
    static const char *const urls[] = {"",
                                       "localhost:6379",
                                       "http://localhost",
                                       "redis://",
                                       "redis://hidden@host",
                                       "redis://:hidden@",
                                       "redis://u:hidden@host:0",
                                       "redis://u:hidden@host:65536",
                                       "redis://u:hidden@host:12x",
                                       "redis://u:hidden%4@host",
                                       "redis://u:hidden%00@host",
                                       "redis://u:hidden@host/x",
                                       "redis://[::1",
                                       "redis://[::1]x",
                                       "unix:relative",
                                       "rediss://u:hidden@host:6379"};
    static const char *const good[] = {"redis://host",         "redis://host:1/15", "redis://:p@host/",
                                       "redis://[::1]:7000/2", "unix:/path",        "unix:///path"};
    struct weir_window_store *store;
    struct weir_error error;
    for (size_t i = 0; i < sizeof(urls) / sizeof(*urls); i++) {
        cr_assert_eq(weir_store_redis_open(urls[i], &store, &error), WEIR_REJECT, "%s", urls[i]);
        cr_assert_null(strstr(error.text, "hidden"), "%s", error.text);
    }
    cr_assert(strstr(error.text, "TLS"), "%s", error.text);
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        cr_assert_eq(weir_store_redis_open(good[i], &store, &error), WEIR_OK, "%s", good[i]);
        weir_window_store_free(store);
    }
}
