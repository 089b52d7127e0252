/* The PostgreSQL ledger's whole way (lock, load, write, commit) beside a bare binary COPY of the very same rows into
 * the same tables with the same indexes, both in transactions of one batch. In turns, each round in databases of their
 * own.
 *
 * Every window is new, as most are: a line item and a rated window each, and each batch brings the running totals of
 * its customers forward, which the bare COPY does not.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "benchmarks/measure.h"
#include "common/calendar.h"
#include "rater/ledger.h"
#include "rater/migrate.h"

enum { SPLITS = 10 };
#define START (INT64_C(1767225600) * WEIR_SECOND)

struct sizes {
    int batches, customers;
};

/* The rows of one batch as PostgreSQL itself encodes them. */
struct stream {
    char *items, *windows;
    size_t items_length, windows_length;
};

static void run(PGconn *connection, const char *sql)
{
    PGresult *result = PQexec(connection, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
}

static PGconn *connect_to(const char *url)
{
    PGconn *connection = PQconnectdb(url);
    if (PQstatus(connection) != CONNECTION_OK)
        weir_measure_die("%s: %s", "connecting", PQerrorMessage(connection));
    run(connection, "SET client_min_messages = warning; SET timezone = 'UTC'");
    return connection;
}

/* 1. databases */
static void make_database(const char *name, char url[512])
{
    static struct weir_migration_list list;
    struct weir_error error;
    char sql[256];
    const char *server = weir_measure_server("POSTGRES_URL"), *slashes = strstr(server, "://"),
               *path = slashes ? strchr(slashes + 3, '/') : NULL;
    if (!path)
        weir_measure_die("%s: %s", server, "must be postgresql://.../DATABASE");
    PGconn *connection = connect_to(server);
    snprintf(sql, sizeof sql, "DROP DATABASE IF EXISTS %s WITH (FORCE)", name);
    run(connection, sql);
    snprintf(sql, sizeof sql, "CREATE DATABASE %s TEMPLATE template0 ENCODING 'UTF8'", name);
    run(connection, sql);
    PQfinish(connection);
    const char *options = strchr(path, '?');
    snprintf(url, 512, "%.*s/%s%s", (int)(path - server), server, name, options ? options : "");
    if (weir_migrate(url, false, &list, &error) != WEIR_OK)
        weir_measure_die("%s: %s", "migrating", error.text);
}

static void drop_database(const char *name)
{
    char sql[256];
    PGconn *connection = connect_to(weir_measure_server("POSTGRES_URL"));
    snprintf(sql, sizeof sql, "DROP DATABASE IF EXISTS %s WITH (FORCE)", name);
    run(connection, sql);
    PQfinish(connection);
}

/* 2. a batch */
static struct weir_decimal amount_of(int number)
{
    return (struct weir_decimal){(weir_int128)(1 + number % 997) * 1234567890};
}

static void fill_item(struct weir_line_item *item, const struct weir_price_running *price,
                      const struct weir_series *series, const struct weir_rated_window *window, int number)
{
    *item = (struct weir_line_item){
        .customer = price->customer,
        .contract = price->contract,
        .item = weir_slice_text("tokens"),
        .meter = weir_slice_text("tokens"),
        .dimension_count = series->dimension_count,
        .period_start = price->period_start,
        .period_end = price->period_end,
        .window_start = window->start,
        .window_end = window->end,
        .kind = WEIR_KIND_USAGE,
        .component = WEIR_COMPONENT_UNITS,
        .price_book = price->price_book,
        .price_book_version = 1,
        .model = "per_unit",
        .tier = 1,
        .quantity = weir_decimal_of(1 + number % 5000),
        .has_unit_price = true,
        .unit_price = {2500000},
        .amount = amount_of(number),
        .currency = weir_slice_text("USD"),
        .currency_places = 2,
        .revision = 1,
    };
    memcpy(item->dimensions, series->dimensions, sizeof item->dimensions);
}

/* One customer's windows of one hour, with their line items; the price and the period move on. */
static void rate_customer(struct weir_state *state, int batch, int customer_number, struct weir_line_item *items)
{
    char customer[32], model[32], key[WEIR_SERIES_KEY_MAX];
    int64_t start = START + batch * WEIR_HOUR, period_end = START + 31 * WEIR_DAY;

    snprintf(customer, sizeof customer, "customer-%06d", customer_number);
    struct weir_price_running *price =
        weir_state_price(state, weir_slice_text(customer), weir_slice_text("contract-2026"), START, period_end,
                         weir_slice_text("standard"), 1, weir_slice_text("tokens"));
    struct weir_period_running *period =
        weir_state_period(state, weir_slice_text(customer), weir_slice_text("contract-2026"), START, period_end);
    price->entry.is_dirty = period->entry.is_dirty = true;
    for (int i = 0; i < SPLITS; i++) {
        snprintf(model, sizeof model, "model-%d", i);
        struct weir_series series = {.meter = weir_slice_text("tokens"),
                                     .customer = weir_slice_text(customer),
                                     .dimension_count = 2,
                                     .dimensions = {{weir_slice_text("model"), weir_slice_text(model)},
                                                    {weir_slice_text("region"), weir_slice_text("eu-west-1")}}};
        struct weir_rated_window *window =
            weir_state_window(state, weir_slice_of(key, weir_series_write(&series, key)), start, start + WEIR_HOUR);
        struct weir_rated_lane *lane = weir_rated_window_lane(state, window, weir_slice_text("events:3"));
        int number = customer_number * SPLITS + i + batch;
        lane->total = (struct weir_window_total){.events = 17, .value = weir_decimal_of(1 + number % 5000)};
        lane->revision = 1;
        lane->is_dirty = window->entry.is_dirty = true;
        window->contract = price->contract;
        window->period_start = START;
        window->period_end = period_end;
        window->price_book = price->price_book;
        window->price_book_version = 1;
        window->price_key = price->price_key;
        if (!weir_series_parse(window->series_key, &series))
            weir_measure_die("%s: %s", "series", "a key that cannot be read");
        fill_item(&items[i], price, &series, window, number);
    }
}

/* The totals that were loaded, moved on by this batch. */
static void move_totals(struct weir_state *state, const struct weir_line_item *items)
{
    struct weir_state_view all = weir_state_all(state);

    for (size_t i = 0; i < all.price_count; i++)
        for (int j = 0; j < SPLITS; j++) {
            const struct weir_line_item *item = &items[i * SPLITS + (size_t)j];
            if (!weir_decimal_add(all.prices[i]->quantity, item->quantity, &all.prices[i]->quantity)
                || !weir_decimal_add(all.prices[i]->amount, item->amount, &all.prices[i]->amount)
                || !weir_decimal_add(all.periods[i]->usage_amount, item->amount, &all.periods[i]->usage_amount))
                weir_measure_die("%s: %s", "totals", "overflow");
            all.prices[i]->events += 17;
        }
}

static void add(struct weir_took *sum, struct weir_took more)
{
    sum->wall += more.wall;
    sum->cpu += more.cpu;
}

static struct weir_took time_ledger(const char *url, const struct sizes *sizes)
{
    struct weir_ledger *ledger;
    struct weir_error error;
    struct weir_state *state = weir_state_new();
    struct weir_line_item *items = weir_new_array((size_t)sizes->customers * SPLITS, sizeof *items);
    struct weir_took took = {0}, began;

    if (weir_ledger_postgres_open(url, &ledger, &error) != WEIR_OK)
        weir_measure_die("%s: %s", "opening the ledger", error.text);
    for (int batch = 0; batch < sizes->batches; batch++) {
        weir_state_clear(state);
        for (int i = 0; i < sizes->customers; i++)
            rate_customer(state, batch, i, items + (size_t)i * SPLITS);
        began = weir_measure_now();
        if (ledger->ops->load(ledger, state, &error) != WEIR_OK)
            weir_measure_die("%s: %s", "load", error.text);
        add(&took, weir_measure_since(began));
        move_totals(state, items);
        began = weir_measure_now();
        if (ledger->ops->write(ledger, items, (size_t)sizes->customers * SPLITS, state, &error) != WEIR_OK)
            weir_measure_die("%s: %s", "write", error.text);
        add(&took, weir_measure_since(began));
    }
    weir_ledger_free(ledger);
    weir_state_free(state);
    free(items);
    return took;
}

/* 3. the bare COPY */
#define ITEM_COLUMNS                                                                                                   \
    "customer, contract, item, meter, dimensions, period_start, period_end, window_start, window_end, kind, "          \
    "component, price_book,"                                                                                           \
    " price_book_version, model, tier, quantity, unit_price, amount, currency, revision"
#define WINDOW_COLUMNS                                                                                                 \
    "customer, window_start, series, lane, window_end, meter, dimensions, series_key, events, value, latest_time, "    \
    "latest_offset, revision,"                                                                                         \
    " unpriced, contract, period_start, period_end, price_book, price_book_version, price_key"

static char *copy_out(PGconn *connection, const char *columns, const char *table, int batch, size_t *ret_length)
{
    char sql[1024], *all = NULL, *piece;
    size_t length = 0;
    int got;

    snprintf(sql, sizeof sql,
             "COPY (SELECT %s FROM weir.%s WHERE window_start = '2026-01-01'::timestamptz + %d * interval '1h') TO "
             "STDOUT (FORMAT binary)",
             columns, table, batch);
    PGresult *result = PQexec(connection, sql);
    if (PQresultStatus(result) != PGRES_COPY_OUT)
        weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
    while ((got = PQgetCopyData(connection, &piece, 0)) > 0) {
        all = weir_resize(all, length + (size_t)got, 1);
        memcpy(all + length, piece, (size_t)got);
        length += (size_t)got;
        PQfreemem(piece);
    }
    PQclear(PQgetResult(connection));
    *ret_length = length;
    return all;
}

static void copy_in(PGconn *connection, const char *sql, const char *data, size_t length)
{
    PGresult *result = PQexec(connection, sql);
    if (PQresultStatus(result) != PGRES_COPY_IN)
        weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
    for (size_t at = 0; at < length; at += 262144)
        if (PQputCopyData(connection, data + at, (int)(length - at < 262144 ? length - at : 262144)) != 1)
            weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    if (PQputCopyEnd(connection, NULL) != 1)
        weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    while ((result = PQgetResult(connection))) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
        PQclear(result);
    }
}

static struct weir_took time_copy(const char *url, const struct stream *streams, int batches)
{
    PGconn *connection = connect_to(url);

    run(connection, "SELECT weir.make_line_items_partition('2026-01-01')");
    struct weir_took began = weir_measure_now();
    for (int i = 0; i < batches; i++) {
        run(connection, "BEGIN");
        copy_in(connection, "COPY weir.line_items (" ITEM_COLUMNS ") FROM STDIN (FORMAT binary)", streams[i].items,
                streams[i].items_length);
        copy_in(connection, "COPY weir.rated_windows (" WINDOW_COLUMNS ") FROM STDIN (FORMAT binary)",
                streams[i].windows, streams[i].windows_length);
        run(connection, "COMMIT");
    }
    struct weir_took took = weir_measure_since(began);
    PQfinish(connection);
    return took;
}

/* The same number of rows and the same sums stand in both. */
static void compare(const char *one, const char *other)
{
    const char *urls[] = {one, other};
    char answers[2][256];

    for (int i = 0; i < 2; i++) {
        PGconn *connection = connect_to(urls[i]);
        PGresult *result = PQexec(
            connection,
            "SELECT concat_ws(' ', count(*), sum(quantity), sum(amount), (SELECT sum(value) FROM weir.rated_windows))"
            " FROM weir.line_items");
        snprintf(answers[i], sizeof answers[i], "%s", PQgetvalue(result, 0, 0));
        PQclear(result);
        PQfinish(connection);
    }
    if (strcmp(answers[0], answers[1]) != 0)
        weir_measure_die("%s: %s", answers[0], answers[1]);
}

/* 4. rounds */
static char names[2][64];

static void drop_databases(void)
{
    drop_database(names[0]);
    drop_database(names[1]);
}

int main(int argc, char **argv)
{
    static const struct weir_measure_program program = {
        .name = "ledger",
        .about = "The PostgreSQL ledger beside a bare binary COPY of the very same rows into the same tables.",
        .repetitions = 5,
    };
    struct weir_figure ledger = {.what = "weir ledger", .unit = "million windows/s"},
                       copy = {.what = "bare binary COPY, same rows", .unit = "million windows/s"};

    weir_measure_start(&program, argc, argv);
    struct sizes sizes = weir_measure_is_smoke() ? (struct sizes){2, 200} : (struct sizes){10, 2000};
    int64_t windows = (int64_t)sizes.batches * sizes.customers * SPLITS;
    struct stream *streams = weir_new_array((size_t)sizes.batches, sizeof *streams);
    char urls[2][512];

    for (int i = 0; i < 2; i++)
        snprintf(names[i], sizeof names[i], "weir_benchmark_%d_%d", (int)getpid(), i);
    weir_measure_at_end(drop_databases);
    for (int round = 0; round < weir_measure_repetitions(); round++) {
        make_database(names[0], urls[0]);
        make_database(names[1], urls[1]);
        weir_figure_add_rate(&ledger, (double)windows, time_ledger(urls[0], &sizes));
        PGconn *connection = connect_to(urls[0]);
        for (int i = 0; i < sizes.batches && round == 0; i++) {
            streams[i].items = copy_out(connection, ITEM_COLUMNS, "line_items", i, &streams[i].items_length);
            streams[i].windows = copy_out(connection, WINDOW_COLUMNS, "rated_windows", i, &streams[i].windows_length);
        }
        PQfinish(connection);
        weir_figure_add_rate(&copy, (double)windows, time_copy(urls[1], streams, sizes.batches));
        compare(urls[0], urls[1]);
    }
    printf("%lld windows in %d transactions of %d; CPU time is the client's\n", (long long)windows, sizes.batches,
           sizes.customers * SPLITS);
    weir_measure_print(&copy);
    weir_measure_print(&ledger);
    weir_measure_target(&(struct weir_target){
        .what = "ledger, of a bare binary COPY", .figure = &ledger, .ceiling = &copy, .at_least = 0.5});
    for (int i = 0; i < sizes.batches; i++) {
        free(streams[i].items);
        free(streams[i].windows);
    }
    free(streams);
    return weir_measure_end();
}
