/* `weir rater`, the whole way: closed windows taken from Redis, rated, and written to PostgreSQL, beside a bare binary
 * COPY of the very same rows into the same tables with the same indexes. In turns, each round in databases and a lane
 * of its own; Redis is a private one.
 *
 * Every window is new, as most are: a line item and a rated window each. The rater's time is from its start to its end
 * with --until-done, connecting and reading the catalog included.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "../tests/component/redis_server.h"
#include "aggregator/window_store.h"
#include "benchmarks/database.h"
#include "cli/commands.h"
#include "common/calendar.h"
#include "rater/apply.h"

enum { SPLITS = 10, CUT = 10000 };
#define START (INT64_C(1767225600) * WEIR_SECOND)

static const char catalog_text[] =
    "{\"meters\":[{\"key\":\"tokens\",\"event_type\":\"call\",\"aggregation\":\"sum\",\"value\":\"data.tokens\","
    "\"window\":\"1h\",\"group_by\":[\"model\",\"region\"]}],"
    "\"price_books\":[{\"key\":\"standard\",\"version\":1,\"currency\":\"USD\","
    "\"effective_from\":\"2026-01-01T00:00:00Z\",\"prices\":["
    "{\"meter\":\"tokens\",\"model\":\"per_unit\",\"unit_price\":\"0.0000025\"}]}],"
    "\"default_contract\":{\"price_book\":\"standard\",\"billing_period\":\"month\",\"timezone\":\"UTC\"}}";

struct sizes {
    int hours, customers;
};

static struct redis_server redis;
static char names[2][64];

static void clean_up(void)
{
    redis_server_stop(&redis);
    weir_database_drop(names[0]);
    weir_database_drop(names[1]);
}

static void must(enum weir_status status, const struct weir_error *error)
{
    if (status != WEIR_OK)
        weir_measure_die("%s", error->text);
}

static void apply_catalog(const char *url)
{
    struct weir_apply_report report = {0};
    struct weir_error error;

    must(weir_apply_catalog(url, catalog_text, sizeof catalog_text - 1, false, &report, &error), &error);
    if (report.outcome == WEIR_APPLY_REFUSED)
        weir_measure_die("the catalog was refused");
    weir_apply_report_free(&report);
}

/* 1. Windows in Redis. */

static size_t make_key(int number, char key[WEIR_SERIES_KEY_MAX])
{
    char customer[32], model[32];
    snprintf(customer, sizeof customer, "customer-%06d", number / SPLITS);
    snprintf(model, sizeof model, "model-%d", number % SPLITS);
    struct weir_series series = {.meter = weir_slice_text("tokens"),
                                 .customer = weir_slice_text(customer),
                                 .dimension_count = 2,
                                 .dimensions = {{weir_slice_text("model"), weir_slice_text(model)},
                                                {weir_slice_text("region"), weir_slice_text("eu-west-1")}}};
    return weir_series_write(&series, key);
}

/* Hour by hour, as they close. */
static void fill_lane(const char *url, const char *lane, const struct sizes *sizes)
{
    static const unsigned char secret[WEIR_LANE_SECRET_BYTES] = "benchmark";
    static struct weir_cut_window windows[CUT];
    static char keys[CUT][128];
    struct weir_window_store *store;
    struct weir_lane_state state;
    struct weir_error error = {""};
    int series = sizes->customers * SPLITS, total = series * sizes->hours;
    char key[WEIR_SERIES_KEY_MAX];

    must(weir_store_redis_open(url, &store, &error), &error);
    must(store->ops->take_lane(store, weir_slice_text(lane), secret, NULL, &state, &error), &error);
    for (int i = 0; i < total;) {
        size_t count = 0;
        for (; count < CUT && i < total; i++, count++) {
            size_t length = make_key(i % series, key);
            memcpy(keys[count], key, length);
            windows[count] = (struct weir_cut_window){.is_closed = true};
            windows[count].window =
                (struct weir_window){.series_key = weir_slice_of(keys[count], length),
                                     .start = START + i / series * WEIR_HOUR,
                                     .end = START + (i / series + 1) * WEIR_HOUR,
                                     .total = {.events = 17, .value = weir_decimal_of(1 + i % 5000)}};
        }
        struct weir_cut cut = {.lane = weir_slice_text(lane),
                               .expected_offset = state.next_offset,
                               .state = state,
                               .window_count = count,
                               .windows = windows};
        cut.state.next_offset = (state.next_offset < 0 ? 0 : state.next_offset) + (int64_t)count;
        cut.state.first_time = START;
        cut.state.last_time = START + sizes->hours * WEIR_HOUR - 1;
        must(store->ops->write_cut(store, &cut, &error), &error);
        state = cut.state;
    }
    weir_window_store_free(store);
}

/* 2. The command, in a process of its own, as it is meant to run. */

static struct weir_took run_rater(const char *redis_url, const char *postgres_url, const char *topic)
{
    char *arguments[] = {"rater",
                         "--redis-url",
                         (char *)redis_url,
                         "--postgres-url",
                         (char *)postgres_url,
                         "--kafka-topic",
                         (char *)topic,
                         "--metrics-listen",
                         "off",
                         "--until-done",
                         NULL};
    struct weir_took start = weir_measure_now();
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        _exit(weir_command_rater(10, arguments));
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        weir_measure_die("weir rater failed");
    return weir_measure_since(start);
}

int main(int argc, char **argv)
{
    static const struct weir_measure_program program = {
        .name = "rater",
        .about = "weir rater from Redis to PostgreSQL, beside a bare binary COPY of the very same rows.",
        .repetitions = 5,
    };
    struct weir_figure rater = {.what = "weir rater, Redis to PostgreSQL", .unit = "million windows/s"},
                       copy = {.what = "bare binary COPY, same rows", .unit = "million windows/s"};

    weir_measure_start(&program, argc, argv);
    struct sizes sizes = weir_measure_is_smoke() ? (struct sizes){2, 200} : (struct sizes){10, 2000};
    double windows = (double)sizes.hours * sizes.customers * SPLITS;
    struct weir_database_rows *rows = weir_new_array((size_t)sizes.hours, sizeof *rows);
    char urls[2][512], redis_url[64], topic[32], lane[40];

    for (int i = 0; i < 2; i++)
        snprintf(names[i], sizeof names[i], "weir_benchmark_%d_%d", (int)getpid(), i);
    weir_measure_server("POSTGRES_URL"); /* before anything is started */
    redis_server_start(&redis);
    snprintf(redis_url, sizeof redis_url, "redis://127.0.0.1:%d", redis.port);
    weir_measure_at_end(clean_up);
    for (int round = 0; round < weir_measure_repetitions(); round++) {
        weir_database_make(names[0], urls[0]);
        weir_database_make(names[1], urls[1]);
        apply_catalog(urls[0]);
        snprintf(topic, sizeof topic, "usage-%d", round);
        snprintf(lane, sizeof lane, "%s:0", topic);
        fill_lane(redis_url, lane, &sizes);
        weir_figure_add_rate(&rater, windows, run_rater(redis_url, urls[0], topic));
        if (round == 0)
            weir_database_copy_out(urls[0], START, sizes.hours, rows);
        weir_figure_add_rate(&copy, windows, weir_database_copy_in(urls[1], rows, sizes.hours));
        weir_database_compare(urls[0], urls[1], (int64_t)windows);
    }
    printf("%.0f windows; CPU time is the client's\n", windows);
    weir_measure_print(&copy);
    weir_measure_print(&rater);
    weir_measure_target(&(struct weir_target){
        .what = "weir rater, of a bare binary COPY", .figure = &rater, .ceiling = &copy, .at_least = 0.5});
    weir_database_free_rows(rows, sizes.hours);
    return weir_measure_end();
}
