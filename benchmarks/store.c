/* The window store against a real Redis: cuts written, a lane loaded, work drained, beside what the same Redis does
 * with a bare pipeline of HSET and with bare APPEND in the same run.
 *
 *   benchmark_store [--smoke] [--url redis://…]
 *
 * Without --url it starts a redis-server of its own on a free loopback port (no persistence). Ends with a digest of
 * what was loaded, compared with what was written: a fast wrong answer fails.
 */
#include <inttypes.h>
#include <time.h>

#include "../tests/component/redis_server.h"
#include "aggregator/window_store.h"
#include "common/hash.h"

#define NS INT64_C(1000000000)
enum { CEILING_BATCH = 1000 };

struct bench {
    struct weir_window_store *store;
    redisContext *bare;
    struct weir_lane_state state;
    struct weir_cut_window *windows; /* all series there are, in turn */
    char (*keys)[64];
    size_t series;
    char *ids;
    size_t ids_per_cut;
    uint64_t digest_written;
};

static double now_seconds(void) /* time is no money: a double is fine for rates */
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void must(enum weir_status status, const struct weir_error *error)
{
    if (status == WEIR_OK)
        return;
    fprintf(stderr, "benchmark_store: %s\n", error->text);
    exit(1);
}

static uint64_t digest_of(const struct weir_window *window)
{
    unsigned char total[WEIR_WINDOW_TOTAL_BYTES];
    weir_window_total_store(&window->total, total);
    return weir_hash64(total, sizeof(total),
                       weir_hash64(window->series_key.data, window->series_key.length, (uint64_t)window->start));
}

/* 1. What there is to write. */

static void prepare(struct bench *bench, size_t series, size_t spans, size_t ids_per_cut)
{
    bench->series = series;
    bench->windows = weir_new_array(series, sizeof(*bench->windows));
    bench->keys = weir_new_array(series, sizeof(*bench->keys));
    bench->ids_per_cut = ids_per_cut;
    bench->ids = weir_new_array(ids_per_cut, WEIR_ID_BYTES);
    for (size_t i = 0; i < ids_per_cut * WEIR_ID_BYTES; i++)
        bench->ids[i] = (char)(i * 2654435761u >> 11);
    for (size_t i = 0; i < series; i++) {
        int length = snprintf(bench->keys[i], sizeof(*bench->keys), "%c%ctokens%c%ccustomer-%07zu\1%c%cmodel%c%clarge",
                              6, 0, 16, 0, i / spans, 5, 0, 5, 0);
        int64_t start = (int64_t)(490000 + i % spans) * 3600 * NS;
        bench->windows[i].window = (struct weir_window){
            .series_key = weir_slice_of(bench->keys[i], (size_t)length), .start = start, .end = start + 3600 * NS};
    }
}

static void release(struct bench *bench)
{
    free(bench->windows);
    free(bench->keys);
    free(bench->ids);
}

/* 2. Ceilings: the least that Redis could be asked to do for the same. */

static double bare_hset(struct bench *bench, size_t count)
{
    const char *argv[4] = {"HSET", "bare", NULL, NULL};
    size_t lengths[4] = {4, 4, 0, WEIR_WINDOW_TOTAL_BYTES + 1};
    char value[WEIR_WINDOW_TOTAL_BYTES + 1] = {0};
    double start = now_seconds();
    argv[3] = value;
    for (size_t i = 0; i < count; i += CEILING_BATCH) {
        for (size_t n = 0; n < CEILING_BATCH; n++) {
            const struct weir_slice *key = &bench->windows[(i + n) % bench->series].window.series_key;
            argv[2] = key->data;
            lengths[2] = key->length;
            redisAppendCommandArgv(bench->bare, 4, argv, lengths);
        }
        for (size_t n = 0; n < CEILING_BATCH; n++) {
            void *reply = NULL;
            if (redisGetReply(bench->bare, &reply) != REDIS_OK)
                abort();
            freeReplyObject(reply);
        }
    }
    double rate = (double)count / (now_seconds() - start);
    freeReplyObject(redisCommand(bench->bare, "UNLINK bare"));
    return rate;
}

static double bare_append(struct bench *bench, size_t cuts)
{
    double start = now_seconds();
    for (size_t i = 0; i < cuts; i++)
        freeReplyObject(redisCommand(bench->bare, "APPEND bare-%d %b", (int)(i / 50), bench->ids,
                                     bench->ids_per_cut * WEIR_ID_BYTES));
    double rate = (double)(cuts * bench->ids_per_cut) / (now_seconds() - start);
    for (size_t i = 0; i <= cuts / 50; i++)
        freeReplyObject(redisCommand(bench->bare, "UNLINK bare-%d", (int)i));
    return rate;
}

/* 3. The store. */

static void take(struct bench *bench, const char *lane, const struct weir_lane_loader *loader)
{
    static const unsigned char secret[WEIR_LANE_SECRET_BYTES] = "benchmark";
    struct weir_error error = {""};
    must(bench->store->ops->take_lane(bench->store, weir_slice_text(lane), secret, loader, &bench->state, &error),
         &error);
}

/* Cuts of `windows` windows and `ids` ids each; the seconds that it took. */
static double write_cuts(struct bench *bench, const char *lane, size_t cuts, size_t windows, size_t ids, bool is_closed)
{
    struct weir_error error = {""};
    struct weir_cut_window *cut_windows = weir_new_array(windows + 1, sizeof(*cut_windows));
    double start = now_seconds(), preparing = 0;
    for (size_t c = 0; c < cuts; c++) {
        double before = now_seconds();
        for (size_t i = 0; i < windows; i++) {
            struct weir_cut_window *window = &bench->windows[(c * windows + i) % bench->series];
            window->window.total.events++;
            window->window.total.value.e12 += (weir_int128)i << 40;
            cut_windows[i] = *window;
            cut_windows[i].is_closed = is_closed;
        }
        preparing += now_seconds() - before;
        struct weir_cut_ids bucket = {(int64_t)(c * 10 / cuts), weir_slice_of(bench->ids, ids * WEIR_ID_BYTES)};
        struct weir_cut cut = {.lane = weir_slice_text(lane),
                               .expected_offset = bench->state.next_offset,
                               .state = bench->state,
                               .window_count = windows,
                               .windows = cut_windows,
                               .ids_count = ids ? 1 : 0,
                               .ids = &bucket};
        cut.state.next_offset += (int64_t)(windows + ids);
        must(bench->store->ops->write_cut(bench->store, &cut, &error), &error);
        bench->state = cut.state;
    }
    free(cut_windows);
    return now_seconds() - start - preparing;
}

struct loaded {
    uint64_t windows, ids, digest;
};

static void on_window(void *context, const struct weir_window *window, bool is_closed, struct weir_slice unique)
{
    struct loaded *loaded = context;
    (void)is_closed;
    (void)unique;
    loaded->windows++;
    loaded->digest += digest_of(window);
}

static void on_ids(void *context, int64_t bucket, struct weir_slice ids)
{
    struct loaded *loaded = context;
    (void)bucket;
    loaded->ids += ids.length / WEIR_ID_BYTES;
}

static int load(struct bench *bench, const char *lane, uint64_t windows, uint64_t ids)
{
    struct loaded loaded = {0};
    struct weir_lane_loader loader = {&loaded, on_window, on_ids};
    double start = now_seconds();
    take(bench, lane, &loader);
    double seconds = now_seconds() - start;
    uint64_t expected = 0;
    for (size_t i = 0; i < bench->series; i++)
        expected += digest_of(&bench->windows[i].window);
    bool fits = loaded.windows == windows && loaded.ids == ids && loaded.digest == expected;
    printf("load                    %8" PRIu64 " windows and %9" PRIu64 " ids in %.2f s, digest %016" PRIx64 " %s\n",
           loaded.windows, loaded.ids, seconds, loaded.digest, fits ? "as written" : "WRONG");
    return fits ? 0 : 1;
}

static size_t drain(struct bench *bench, const char *lane, size_t batch)
{
    struct weir_error error = {""};
    struct weir_work *work = weir_new_array(batch, sizeof(*work));
    size_t count = 0, total = 0;
    do {
        must(bench->store->ops->read_work(bench->store, weir_slice_text(lane), batch, work, &count, &error), &error);
        must(bench->store->ops->finish_work(bench->store, weir_slice_text(lane), work, count, &error), &error);
        total += count;
    } while (count > 0);
    free(work);
    return total;
}

static int run(struct bench *bench, bool is_smoke)
{
    size_t series = is_smoke ? 20000 : 1000000, ids = 20000, cuts = is_smoke ? 5 : 500;
    prepare(bench, series, 24, ids);
    printf("bare pipelined HSET     %8.2f million totals/s\n", bare_hset(bench, series) / 1e6);
    printf("bare APPEND             %8.2f million ids/s\n", bare_append(bench, cuts) / 1e6);
    take(bench, "bench:0", NULL);
    double fill = write_cuts(bench, "bench:0", 1, series, 0, false);
    printf("one cut of all series   %8.2f million totals/s (%zu windows, %.2f s, new)\n", (double)series / fill / 1e6,
           series, fill);
    static const size_t sizes[] = {1000, 10000, 100000};
    for (size_t i = 0; i < 3; i++) {
        size_t count = series / sizes[i] ? series / sizes[i] : 1;
        if (sizes[i] > series)
            continue;
        double seconds = write_cuts(bench, "bench:0", count, sizes[i], 0, false);
        printf("cuts of %6zu windows  %8.2f million totals/s\n", sizes[i], (double)(count * sizes[i]) / seconds / 1e6);
    }
    double seconds = write_cuts(bench, "bench:0", cuts, 0, ids, false);
    printf("cuts of  20000 ids      %8.2f million ids/s\n", (double)(cuts * ids) / seconds / 1e6);
    int result = load(bench, "bench:0", series, cuts * ids);
    take(bench, "bench:1", NULL);
    size_t fifth = cuts / 5;
    for (size_t windows = 1000; windows <= 10000; windows *= 10) {
        seconds = write_cuts(bench, "bench:1", fifth, windows, ids, false);
        printf("cuts of both, %6zu    %8.2f million totals/s with %.2f million ids/s, %.2f ms each\n", windows,
               (double)(fifth * windows) / seconds / 1e6, (double)(fifth * ids) / seconds / 1e6,
               seconds * 1000 / (double)fifth);
    }
    size_t closed = series / 10000 ? series / 10000 : 1;
    (void)write_cuts(bench, "bench:2", 0, 0, 0, false);
    take(bench, "bench:2", NULL);
    seconds = write_cuts(bench, "bench:2", closed, 10000, 0, true);
    printf("cuts of  10000 closed   %8.2f million totals/s\n", (double)(closed * 10000) / seconds / 1e6);
    double start = now_seconds();
    size_t drained = drain(bench, "bench:2", 10000);
    printf("work drained by 10000   %8.2f million windows/s (%zu)\n", (double)drained / (now_seconds() - start) / 1e6,
           drained);
    if (drained != closed * 10000)
        result = 1;
    release(bench);
    return result;
}

int main(int argc, char **argv)
{
    struct redis_server server = {0};
    struct bench bench = {0};
    struct weir_error error;
    const char *url = NULL;
    bool is_smoke = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--smoke") == 0) {
            is_smoke = true;
        } else if (strcmp(argv[i], "--url") == 0 && i + 1 < argc) {
            url = argv[++i];
        } else {
            fprintf(stderr, "usage: %s [--smoke] [--url redis://127.0.0.1:PORT]\n", argv[0]);
            return 2;
        }
    }
    int port = 6379;
    char host[64] = "127.0.0.1";
    if (!url)
        redis_server_start(&server);
    else if (sscanf(url, "redis://%63[^:/]:%d", host, &port) < 1)
        return 2;
    bench.bare = redisConnect(host, url ? port : server.port);
    if (!bench.bare || bench.bare->err) {
        fprintf(stderr, "benchmark_store: no Redis at %s:%d\n", host, port);
        return 1;
    }
    must(weir_store_redis_open(url ? url : server.url, &bench.store, &error), &error);
    int result = run(&bench, is_smoke);
    weir_window_store_free(bench.store);
    redisFree(bench.bare);
    redis_server_stop(&server);
    return result;
}
