/* The window store against a real Redis: cuts written, a lane loaded, work drained, beside what the same Redis does
 * with a bare pipeline of HSET and with bare APPEND in the same run.
 *
 * It starts a redis-server of its own on a free loopback port (no persistence). A digest of what is loaded is compared
 * with what was written: a fast wrong answer fails.
 */
#include <inttypes.h>

#include "../tests/component/redis_server.h"
#include "aggregator/window_store.h"
#include "benchmarks/measure.h"
#include "common/hash.h"

#define NS INT64_C(1000000000)
enum { CEILING_BATCH = 1000, TOTAL_BYTES = 12 /* as those of the windows below, packed */ };

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

static void must(enum weir_status status, const struct weir_error *error)
{
    if (status != WEIR_OK)
        weir_measure_die("%s", error->text);
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

static void bare_hset(struct bench *bench, size_t count)
{
    const char *argv[4] = {"HSET", "bare", NULL, NULL};
    size_t lengths[4] = {4, 4, 0, TOTAL_BYTES};
    char value[TOTAL_BYTES] = {0};
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
                weir_measure_die("redis: %s", bench->bare->errstr);
            freeReplyObject(reply);
        }
    }
}

static void bare_append(struct bench *bench, size_t times)
{
    for (size_t i = 0; i < times; i++)
        freeReplyObject(redisCommand(bench->bare, "APPEND bare-%d %b", (int)(i / 50), bench->ids,
                                     bench->ids_per_cut * WEIR_ID_BYTES));
}

/* 3. The store. */

static void take(struct bench *bench, const char *lane, const struct weir_lane_loader *loader)
{
    static const unsigned char secret[WEIR_LANE_SECRET_BYTES] = "benchmark";
    struct weir_error error = {""};
    must(bench->store->ops->take_lane(bench->store, weir_slice_text(lane), secret, loader, &bench->state, &error),
         &error);
}

/* Cuts of `windows` windows and `ids` ids each; what it took, without making them. */
static struct weir_took write_cuts(struct bench *bench, const char *lane, size_t cuts, size_t windows, size_t ids,
                                   bool is_closed)
{
    struct weir_error error = {""};
    struct weir_cut_window *cut_windows = weir_new_array(windows + 1, sizeof(*cut_windows));
    struct weir_took took = {0}, start;
    for (size_t c = 0; c < cuts; c++) {
        for (size_t i = 0; i < windows; i++) {
            struct weir_cut_window *window = &bench->windows[(c * windows + i) % bench->series];
            window->window.total.events++;
            window->window.total.value.e12 += (weir_int128)i << 40;
            cut_windows[i] = *window;
            cut_windows[i].is_closed = is_closed;
        }
        struct weir_cut_ids bucket = {(int64_t)(c * 10 / cuts), weir_slice_of(bench->ids, ids * WEIR_ID_BYTES)};
        struct weir_cut cut = {.lane = weir_slice_text(lane),
                               .expected_offset = bench->state.next_offset,
                               .state = bench->state,
                               .window_count = windows,
                               .windows = cut_windows,
                               .ids_count = ids ? 1 : 0,
                               .ids = &bucket};
        cut.state.next_offset += (int64_t)(windows + ids);
        start = weir_measure_now();
        must(bench->store->ops->write_cut(bench->store, &cut, &error), &error);
        start = weir_measure_since(start);
        took.wall += start.wall;
        took.cpu += start.cpu;
        bench->state = cut.state;
    }
    free(cut_windows);
    return took;
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

/* A fast wrong answer fails: what is loaded is what was written, by a digest of it all. */
static void load(struct bench *bench, const char *lane, uint64_t windows, uint64_t ids)
{
    struct loaded loaded = {0};
    struct weir_lane_loader loader = {&loaded, on_window, on_ids};
    uint64_t expected = 0;

    take(bench, lane, &loader);
    for (size_t i = 0; i < bench->series; i++)
        expected += digest_of(&bench->windows[i].window);
    if (loaded.windows != windows || loaded.ids != ids || loaded.digest != expected)
        weir_measure_die("%" PRIu64 " windows and %" PRIu64 " ids were loaded, digest %016" PRIx64
                         ", which is not what was written",
                         loaded.windows, loaded.ids, loaded.digest);
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

/* 4. In turns. */

enum step { BARE_HSET, BARE_APPEND, NEW, BY_1000, BY_10000, BY_100000, IDS, LOAD, BOTH, CLOSED, DRAIN, STEPS };

static struct weir_figure figures[STEPS] = {
    {.what = "bare pipelined HSET", .unit = "million totals/s"},
    {.what = "bare APPEND", .unit = "million ids/s"},
    {.what = "one cut of all windows, new", .unit = "million totals/s"},
    {.what = "cuts of 1,000 windows", .unit = "million totals/s"},
    {.what = "cuts of 10,000 windows", .unit = "million totals/s"},
    {.what = "cuts of 100,000 windows", .unit = "million totals/s"},
    {.what = "cuts of 20,000 ids", .unit = "million ids/s"},
    {.what = "loading windows and ids", .unit = "million of them/s"},
    {.what = "cuts of 10,000 windows and 20,000 ids", .unit = "million totals/s"},
    {.what = "cuts of 10,000 closed windows", .unit = "million totals/s"},
    {.what = "draining work by 10,000", .unit = "million windows/s"},
};

static void run(struct bench *bench, size_t cuts)
{
    static const size_t sizes[] = {1000, 10000, 100000};
    size_t series = bench->series, ids = bench->ids_per_cut, closed = series / 10000;
    struct weir_took start = weir_measure_now();

    freeReplyObject(redisCommand(bench->bare, "FLUSHALL"));
    bare_hset(bench, series);
    weir_figure_add_rate(&figures[BARE_HSET], (double)series, weir_measure_since(start));
    start = weir_measure_now();
    bare_append(bench, cuts);
    weir_figure_add_rate(&figures[BARE_APPEND], (double)(cuts * ids), weir_measure_since(start));
    freeReplyObject(redisCommand(bench->bare, "FLUSHALL"));
    take(bench, "bench:0", NULL);
    weir_figure_add_rate(&figures[NEW], (double)series, write_cuts(bench, "bench:0", 1, series, 0, false));
    for (size_t i = 0; i < 3 && sizes[i] <= series; i++) {
        size_t times = series / sizes[i];
        weir_figure_add_rate(&figures[BY_1000 + i], (double)(times * sizes[i]),
                             write_cuts(bench, "bench:0", times, sizes[i], 0, false));
    }
    weir_figure_add_rate(&figures[IDS], (double)(cuts * ids), write_cuts(bench, "bench:0", cuts, 0, ids, false));
    start = weir_measure_now();
    load(bench, "bench:0", series, cuts * ids);
    weir_figure_add_rate(&figures[LOAD], (double)(series + cuts * ids), weir_measure_since(start));
    take(bench, "bench:1", NULL);
    weir_figure_add_rate(&figures[BOTH], (double)(closed * 10000),
                         write_cuts(bench, "bench:1", closed, 10000, ids, false));
    take(bench, "bench:2", NULL);
    weir_figure_add_rate(&figures[CLOSED], (double)(closed * 10000),
                         write_cuts(bench, "bench:2", closed, 10000, 0, true));
    start = weir_measure_now();
    if (drain(bench, "bench:2", 10000) != closed * 10000)
        weir_measure_die("not all work was drained");
    weir_figure_add_rate(&figures[DRAIN], (double)(closed * 10000), weir_measure_since(start));
}

static struct redis_server server;

static void stop_server(void)
{
    redis_server_stop(&server);
}

int main(int argc, char **argv)
{
    static const struct weir_measure_program program = {
        .name = "store",
        .about = "The window store against a Redis of its own: cuts written, a lane loaded, work drained, beside bare "
                 "HSET and APPEND.",
        .repetitions = 5,
    };
    struct bench bench = {0};
    struct weir_error error;

    weir_measure_start(&program, argc, argv);
    redis_server_start(&server);
    weir_measure_at_end(stop_server);
    bench.bare = redisConnect("127.0.0.1", server.port);
    if (!bench.bare || bench.bare->err)
        weir_measure_die("no Redis at 127.0.0.1:%d", server.port);
    must(weir_store_redis_open(server.url, &bench.store, &error), &error);
    prepare(&bench, weir_measure_is_smoke() ? 20000 : 300000, 24, 20000);
    for (int i = 0; i < weir_measure_repetitions(); i++)
        run(&bench, weir_measure_is_smoke() ? 5 : 100);
    for (int i = 0; i < STEPS; i++)
        if (figures[i].count > 0)
            weir_measure_print(&figures[i]);
    release(&bench);
    weir_window_store_free(bench.store);
    redisFree(bench.bare);
    return weir_measure_end();
}
