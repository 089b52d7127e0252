/* The past priced again (`weir rerate`) beside the SQL that does the same by hand, in the same PostgreSQL: the dry run
 * beside an analyst's query over the same windows; the run that writes beside INSERT ... SELECT and a binary COPY of
 * the very rows that it wrote, into tables with the same indexes.
 *
 * Windows of one graduated meter, rated by a rater first, each round in a database of its own: what was rerated before
 * is read again by the next rerating. Then a catalog is applied that differs in the upper tiers, tried and written, so
 * that there is a reversal and a new row for each line item above the first tier, and none for the windows below. Every
 * report is compared with the query's answer.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "benchmarks/database.h"
#include "benchmarks/measure.h"
#include "common/calendar.h"
#include "rater/apply.h"
#include "rater/ledger.h"
#include "rater/rate.h"
#include "rater/rerate.h"

enum {
    HOURS = 100,
    SPLITS = 5,
    OF_A_CUSTOMER = HOURS * SPLITS,
    BATCH_CUSTOMERS = 800,
    BATCH_HOURS = 5,
    RATERS = 2,
    BESIDE_CUSTOMERS_MAX = 2000, /* whose rows are written in SQL and by COPY: two million rows say how fast it is */
    WINDOWS_MAX = 20000000
};
#define START (INT64_C(1767225600) * WEIR_SECOND) /* 2026-01-01 */

/* Prices of the second and third tier (units above 5,000 and 50,000 of a period). */
static const char *const prices[2][2] = {{"0.002", "0.0015"}, {"0.0025", "0.0011"}};

static uint64_t window_count = 1000000, worker_count = 2;
static char database[64], url[512];

static void must(enum weir_status status, const char *doing, const struct weir_error *error)
{
    if (status != WEIR_OK)
        weir_measure_die("%s: %s", doing, error->text);
}

/* 1. catalogs */

static void apply(int which)
{
    char text[1200];
    struct weir_apply_report report;
    struct weir_error error;
    int length = snprintf(
        text, sizeof text,
        "{\"meters\":[{\"key\":\"tokens\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.n\","
        "\"window\":\"1h\",\"group_by\":[\"model\"]}],\"price_books\":[{\"key\":\"list\",\"version\":1,\"currency\":"
        "\"USD\",\"effective_from\":\"2020-01-01T00:00:00Z\",\"prices\":[{\"meter\":\"tokens\",\"model\":\"graduated\","
        "\"tiers\":[{\"up_to\":\"5000\",\"unit_price\":\"0.003\"},{\"up_to\":\"50000\",\"unit_price\":\"%s\"},"
        "{\"up_to\":null,\"unit_price\":\"%s\"}]}]}],"
        "\"default_contract\":{\"price_book\":\"list\",\"billing_period\":\"month\",\"timezone\":\"UTC\"}}",
        prices[which][0], prices[which][1]);

    must(weir_apply_for_rerating(url, text, (size_t)length, false, &report, &error), "apply", &error);
    if (report.outcome == WEIR_APPLY_REFUSED)
        weir_measure_die("apply: %s", report.count ? report.lines[0] : "refused");
    weir_apply_report_free(&report);
}

/* 2. what is there to be rerated */

/* Of one window: between 1 and 1,999 units. */
static int64_t units_of(uint64_t customer, int hour, int split)
{
    return 1 + (int64_t)((customer * 7919 + (uint64_t)hour * 104729 + (uint64_t)split * 1299709) % 1999);
}

static size_t fill_customer(uint64_t number, int hour, char (*keys)[64], struct weir_lane_window *windows)
{
    char customer[32], model[16];

    (void)snprintf(customer, sizeof customer, "customer-%07llu", (unsigned long long)number);
    for (int i = 0; i < SPLITS; i++) {
        (void)snprintf(model, sizeof model, "model-%d", i);
        struct weir_series series = {.meter = weir_slice_text("tokens"),
                                     .customer = weir_slice_text(customer),
                                     .dimension_count = 1,
                                     .dimensions = {{weir_slice_text("model"), weir_slice_text(model)}}};
        char key[WEIR_SERIES_KEY_MAX];
        size_t length = weir_series_write(&series, key);
        weir_check(length <= sizeof keys[i]);
        memcpy(keys[i], key, length);
        windows[i] = (struct weir_lane_window){
            .lane = weir_slice_text("events:0"),
            .window = {.series_key = weir_slice_of(keys[i], length),
                       .start = START + hour * WEIR_HOUR,
                       .end = START + (hour + 1) * WEIR_HOUR,
                       .total = {.events = 1, .value = weir_decimal_of(units_of(number, hour, i))}}};
    }
    return SPLITS;
}

/* As raters find them: some hours of many customers after the others. */
static void rate_part(struct weir_rater *rater, uint64_t first, uint64_t end)
{
    enum { ROOM = BATCH_CUSTOMERS * BATCH_HOURS * SPLITS };
    struct weir_error error;
    char(*keys)[64] = weir_new_array(ROOM, sizeof *keys);
    struct weir_lane_window *windows = weir_new_array(ROOM, sizeof *windows);

    for (int hours = 0; hours < HOURS; hours += BATCH_HOURS)
        for (uint64_t from = first; from < end; from += BATCH_CUSTOMERS) {
            size_t count = 0;
            for (int hour = hours; hour < hours + BATCH_HOURS; hour++)
                for (uint64_t i = from; i < from + BATCH_CUSTOMERS && i < end; i++)
                    count += fill_customer(i, hour, keys + count, windows + count);
            must(weir_rater_rate(rater, windows, count, &error), "rate", &error);
        }
    free(keys);
    free(windows);
}

static void *rate_share(void *context)
{
    uint64_t number = *(const uint64_t *)context, customers = window_count / OF_A_CUSTOMER;
    struct weir_catalog *catalog;
    struct weir_ledger *ledger;
    struct weir_error error;

    must(weir_apply_load_catalog(url, &catalog, &error), "catalog", &error);
    must(weir_ledger_postgres_open(url, &ledger, &error), "ledger", &error);
    struct weir_rater *rater = weir_rater_new(catalog, ledger);
    rate_part(rater, customers * number / RATERS, customers * (number + 1) / RATERS);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    weir_catalog_free(catalog);
    return NULL;
}

static void rate_all(void)
{
    pthread_t threads[RATERS];
    uint64_t numbers[RATERS];

    weir_measure_progress("rating %llu windows", (unsigned long long)window_count);
    for (int i = 0; i < RATERS; i++) {
        numbers[i] = (uint64_t)i;
        weir_check(pthread_create(&threads[i], NULL, rate_share, &numbers[i]) == 0);
    }
    for (int i = 0; i < RATERS; i++)
        pthread_join(threads[i], NULL);
}

/* 3. by weir */

/* Looks, or with a reason writes. *ret_after: what all customers are charged. Returns the number of the run. */
static int64_t rerate(const char *reason, struct weir_decimal *ret_after, struct weir_rerate_counts *ret_counts)
{
    struct weir_catalog *catalog;
    struct weir_rerate_report report = {0};
    struct weir_error error;
    int64_t number = 0;
    int version;
    bool was_begun;

    must(weir_apply_load_version(url, &catalog, &version, &error), "catalog", &error);
    const struct weir_rerate_request request = {.url = url,
                                                .catalog = catalog,
                                                .filter = {.from = INT64_MIN, .to = WEIR_TIME_NEVER},
                                                .workers = (int)worker_count};
    const struct weir_rerate_order order = {reason, "benchmark@localhost", version};
    must(reason ? weir_rerate_write(&request, &order, &number, &was_begun, &report, &error)
                : weir_rerate_look(&request, &report, &error),
         "rerate", &error);
    *ret_after = weir_decimal_of(0);
    for (size_t i = 0; i < report.row_count; i++)
        weir_check(weir_decimal_add(*ret_after, report.rows[i].after, ret_after));
    *ret_counts = report.counts;
    if (report.counts.windows != window_count)
        weir_measure_die("%llu windows were read", (unsigned long long)report.counts.windows);
    weir_rerate_report_free(&report);
    weir_catalog_free(catalog);
    return number;
}

/* 4. by hand */

/* What each window is charged, by the running total of its customer and period before and after it, customer by
 * customer: the tiers are written out, which is what makes it fast. */
static void ask_by_window(int which, char answer[WEIR_DATABASE_ANSWER_MAX])
{
    static const char cost[] = "least(%s, 5000) * 0.003 + greatest(least(%s, 50000) - 5000, 0) * %s + "
                               "greatest(%s - 50000, 0) * %s";
    char after[256], before[256], sql[1536];

    (void)snprintf(after, sizeof after, cost, "q", "q", prices[which][0], "q", prices[which][1]);
    (void)snprintf(before, sizeof before, cost, "(q - value)", "(q - value)", prices[which][0], "(q - value)",
                   prices[which][1]);
    (void)snprintf(
        sql, sizeof sql,
        "SELECT sum(amount) FROM (SELECT customer, period_start, sum((%s) - (%s)) AS amount FROM "
        "(SELECT customer, period_start, value, sum(value) OVER (PARTITION BY customer, period_start "
        "ORDER BY window_start, series, lane) AS q FROM weir.rated_windows WHERE meter = 'tokens') AS running "
        "GROUP BY customer, period_start) AS by_customer",
        after, before);
    weir_database_ask(url, sql, answer);
}

/* Only what each period's total costs: no window's own charge. */
static void ask_by_period(int which, char answer[WEIR_DATABASE_ANSWER_MAX])
{
    char sql[1024];

    (void)snprintf(sql, sizeof sql,
                   "SELECT sum(least(q, 5000) * 0.003 + greatest(least(q, 50000) - 5000, 0) * %s + "
                   "greatest(q - 50000, 0) * %s) FROM (SELECT customer, period_start, sum(value) AS q "
                   "FROM weir.rated_windows WHERE meter = 'tokens' GROUP BY customer, period_start) AS totals",
                   prices[which][0], prices[which][1]);
    weir_database_ask(url, sql, answer);
}

static void compare(const char *what, const char *answer, struct weir_decimal after)
{
    struct weir_decimal found;

    if (weir_decimal_parse(weir_slice_text(answer), &found) != WEIR_DECIMAL_OK
        || weir_decimal_compare(found, after) != 0) {
        char text[WEIR_DECIMAL_TEXT_MAX];
        size_t length = weir_decimal_format(after, text);
        weir_measure_die("%s: %s, but weir says %.*s", what, answer, (int)length, text);
    }
}

/* 5. rounds */

static struct weir_figure look = {.what = "weir rerate --dry-run", .unit = "million windows/s"},
                          by_window = {.what = "SQL, each window's charge", .unit = "million windows/s"},
                          by_period = {.what = "SQL, only each period's total", .unit = "million windows/s"},
                          writing = {.what = "weir rerate, rows written", .unit = "million rows/s"},
                          insert = {.what = "INSERT ... SELECT of the same rows", .unit = "million rows/s"},
                          by_hand = {.what = "the same job in SQL: priced, compared, inserted",
                                     .unit = "million rows/s"},
                          copy = {.what = "binary COPY of the same rows", .unit = "million rows/s"},
                          memory = {.what = "dry run, memory above the start", .unit = "MiB"},
                          writing_memory = {.what = "rows written, memory above the start", .unit = "MiB"};

static void look_and_ask(int which)
{
    struct weir_rerate_counts counts;
    struct weir_decimal after;
    char answer[WEIR_DATABASE_ANSWER_MAX];

    (void)weir_measure_peak();
    uint64_t resident = weir_measure_resident();
    struct weir_took began = weir_measure_now();
    (void)rerate(NULL, &after, &counts);
    weir_figure_add_rate(&look, (double)window_count, weir_measure_since(began));
    uint64_t peak = weir_measure_peak();
    weir_figure_add(&memory, peak > resident ? (double)(peak - resident) / (1 << 20) : 0, 0);
    began = weir_measure_now();
    ask_by_window(which, answer);
    weir_figure_add_rate(&by_window, (double)window_count, weir_measure_since(began));
    compare("the query by window", answer, after);
    began = weir_measure_now();
    ask_by_period(which, answer);
    weir_figure_add_rate(&by_period, (double)window_count, weir_measure_since(began));
    compare("the query by period", answer, after);
}

/* What weir gives of a row; the rest is the table's. */
#define ITEM_COLUMNS                                                                                                   \
    "customer, contract, item, meter, dimensions, period_start, period_end, window_start, window_end, kind, "          \
    "component, price_book, price_book_version, model, tier, quantity, unit_price, amount, currency, revision"

static void run(const char *sql)
{
    char answer[WEIR_DATABASE_ANSWER_MAX];

    weir_database_ask(url, sql, answer);
}

/* A copy of the ledger as it was: partition, indexes, constraints, identity, and the rows of before. Whoever writes
 * into it finds what the rerating found. Each one writes the rows of customers of its own. */
static void make_beside(void)
{
    run("DROP TABLE IF EXISTS public.beside");
    run("CREATE TABLE public.beside (LIKE weir.line_items INCLUDING ALL) PARTITION BY RANGE (period_start)");
    run("CREATE TABLE public.beside_of_the_month PARTITION OF public.beside"
        " FOR VALUES FROM ('2026-01-01 00:00Z') TO ('2026-02-01 00:00Z')");
    run("INSERT INTO public.beside (" ITEM_COLUMNS ") SELECT " ITEM_COLUMNS
        " FROM weir.line_items WHERE rerating IS NULL");
    run("VACUUM ANALYZE public.beside");
    run("CHECKPOINT");
}

/* Customers of whom one way writes the rows. */
struct slice {
    int64_t run;
    char customers[96]; /* a condition */
};

static struct slice slice_of(int64_t run, uint64_t number)
{
    uint64_t customers = window_count / OF_A_CUSTOMER / 3;
    struct slice slice = {.run = run};

    if (customers > BESIDE_CUSTOMERS_MAX)
        customers = BESIDE_CUSTOMERS_MAX;
    if (customers == 0)
        customers = 1;
    uint64_t first = number * customers, end = first + customers;
    (void)snprintf(slice.customers, sizeof slice.customers,
                   "customer >= 'customer-%07llu' AND customer < 'customer-%07llu'", (unsigned long long)first,
                   (unsigned long long)end);
    return slice;
}

/* Number of the slice's rows of the run, and a sum over all that they say. */
static double fingerprint(const char *table, const struct slice *slice, char answer[WEIR_DATABASE_ANSWER_MAX])
{
    char sql[768];

    (void)snprintf(sql, sizeof sql,
                   "SELECT concat_ws(' ', count(*), sum(hash_record_extended(ROW(" ITEM_COLUMNS
                   "), 0))) FROM %s WHERE rerating = %lld AND %s",
                   table, (long long)slice->run, slice->customers);
    weir_database_ask(url, sql, answer);
    return strtod(answer, NULL);
}

/* The number of rows: those of weir, all of them and nothing else. */
static double check_beside(const char *what, const struct slice *slice)
{
    char answer[WEIR_DATABASE_ANSWER_MAX], wanted[WEIR_DATABASE_ANSWER_MAX];
    double rows = fingerprint("weir.line_items", slice, wanted);

    (void)fingerprint("public.beside", slice, answer);
    if (strcmp(answer, wanted) != 0)
        weir_measure_die("%s: %s, but weir wrote %s", what, answer, wanted);
    return rows;
}

/* The whole job by hand, in one statement: windows are priced, compared with the lines that stand, and what differs is
 * taken back and written anew. */
static void write_by_hand(int which, const struct slice *slice)
{
    char sql[4096];

    (void)snprintf(
        sql, sizeof sql,
        "WITH tiers (tier, floor, ceiling, unit_price) AS (VALUES (1, 0::numeric, 5000::numeric, 0.003::numeric),"
        " (2, 5000, 50000, %s), (3, 50000, NULL, %s)),"
        " running AS (SELECT customer, contract, meter, dimensions, period_start, period_end, window_start, window_end,"
        " price_book, price_book_version, value, sum(value) OVER (PARTITION BY customer, period_start"
        " ORDER BY window_start, series, lane) AS q FROM weir.rated_windows WHERE meter = 'tokens' AND %s),"
        " now AS (SELECT r.*, t.tier, t.unit_price, least(q, ceiling) - greatest(q - value, floor) AS quantity"
        " FROM running AS r JOIN tiers AS t ON q > floor AND (ceiling IS NULL OR q - value < ceiling)),"
        " changed AS (SELECT customer, period_start, window_start, dimensions, tier, coalesce(o.contract, n.contract)"
        " AS contract, coalesce(o.meter, n.meter) AS meter, coalesce(o.period_end, n.period_end) AS period_end,"
        " coalesce(o.window_end, n.window_end) AS window_end, coalesce(o.price_book, n.price_book) AS price_book,"
        " coalesce(o.price_book_version, n.price_book_version) AS price_book_version,"
        " coalesce(o.revision, 1) AS revision, -o.quantity AS old_quantity, o.unit_price AS old_price,"
        " -o.amount AS old_amount, n.quantity, n.unit_price, n.quantity * n.unit_price AS amount"
        " FROM (SELECT * FROM public.beside WHERE meter = 'tokens' AND %s) AS o"
        " FULL JOIN now AS n USING (customer, period_start, window_start, dimensions, tier)"
        " WHERE o.quantity IS DISTINCT FROM n.quantity OR o.amount IS DISTINCT FROM n.quantity * n.unit_price)"
        " INSERT INTO public.beside (" ITEM_COLUMNS ", rerating)"
        " SELECT customer, contract, meter, meter, dimensions, period_start, period_end, window_start, window_end,"
        " row.kind, 'units', price_book, price_book_version, 'graduated', tier, row.quantity, row.unit_price,"
        " row.amount, 'USD', revision, %lld FROM changed CROSS JOIN LATERAL (VALUES"
        " ('reversal', old_quantity, old_price, old_amount), ('usage', changed.quantity, changed.unit_price,"
        " changed.amount)) AS row (kind, quantity, unit_price, amount) WHERE row.quantity IS NOT NULL",
        prices[which][0], prices[which][1], slice->customers, slice->customers, (long long)slice->run);
    run(sql);
}

static int64_t write_all(void)
{
    struct weir_rerate_counts counts;
    struct weir_decimal after;
    char answer[WEIR_DATABASE_ANSWER_MAX];

    run("CHECKPOINT");
    (void)weir_measure_peak();
    uint64_t resident = weir_measure_resident();
    struct weir_took began = weir_measure_now();
    int64_t number = rerate("other prices", &after, &counts);
    weir_figure_add_rate(&writing, (double)(counts.reversals + counts.line_items), weir_measure_since(began));
    uint64_t peak = weir_measure_peak();
    weir_figure_add(&writing_memory, peak > resident ? (double)(peak - resident) / (1 << 20) : 0, 0);
    weir_database_ask(url, "SELECT sum(amount) FROM weir.line_items", answer);
    compare("the ledger's sum", answer, after);
    return number;
}

/* What weir wrote once more, by others. */
static void write_beside(int which, int64_t number)
{
    struct slice slices[] = {slice_of(number, 0), slice_of(number, 1), slice_of(number, 2)};
    char rows[768], sql[1536];

    make_beside();
    (void)snprintf(sql, sizeof sql,
                   "INSERT INTO public.beside (" ITEM_COLUMNS ", rerating) SELECT " ITEM_COLUMNS
                   ", rerating FROM weir.line_items WHERE rerating = %lld AND %s",
                   (long long)number, slices[0].customers);
    struct weir_took began = weir_measure_now();
    run(sql);
    struct weir_took took = weir_measure_since(began);
    weir_figure_add_rate(&insert, check_beside("INSERT ... SELECT", &slices[0]), took);

    run("CHECKPOINT");
    began = weir_measure_now();
    write_by_hand(which, &slices[1]);
    took = weir_measure_since(began);
    weir_figure_add_rate(&by_hand, check_beside("the job in SQL", &slices[1]), took);

    run("CHECKPOINT");
    (void)snprintf(rows, sizeof rows,
                   "SELECT " ITEM_COLUMNS ", rerating FROM weir.line_items WHERE rerating = %lld AND %s",
                   (long long)number, slices[2].customers);
    took = weir_database_copy_rows(url, rows, "public.beside (" ITEM_COLUMNS ", rerating)");
    weir_figure_add_rate(&copy, check_beside("COPY", &slices[2]), took);
    run("DROP TABLE public.beside");
}

static void drop_database(void)
{
    weir_database_drop(database);
}

int main(int argc, char **argv)
{
    static const struct weir_measure_program program = {
        .name = "rerate",
        .about = "The past priced again beside the SQL that an analyst would write for it in the same PostgreSQL, and\n"
                 "the run that writes beside INSERT ... SELECT and a binary COPY of the same rows.",
        .example = "--windows 10000000 --repetitions 1",
        .repetitions = 5,
        .options = {{"--windows", "N", "stored windows, 500 of a customer (1,000,000; smoke: 5,000)", &window_count,
                     NULL},
                    {"--workers", "N", "of weir rerate (2)", &worker_count, NULL}},
    };
    char answer[WEIR_DATABASE_ANSWER_MAX];

    weir_measure_start(&program, argc, argv);
    if (weir_measure_is_smoke())
        window_count = 10 * OF_A_CUSTOMER;
    window_count -= window_count % OF_A_CUSTOMER;
    if (window_count < OF_A_CUSTOMER || window_count > WINDOWS_MAX)
        weir_measure_die("--windows must be %d to %d", OF_A_CUSTOMER, WINDOWS_MAX);
    if (worker_count < 1 || worker_count > WEIR_RERATE_WORKERS_MAX)
        weir_measure_die("--workers must be 1 to %d", WEIR_RERATE_WORKERS_MAX);
    (void)snprintf(database, sizeof database, "weir_benchmark_%d", (int)getpid());
    weir_measure_at_end(drop_database);
    for (int round = 1; round <= weir_measure_repetitions(); round++) {
        weir_database_make(database, url);
        apply(0);
        rate_all();
        weir_database_ask(url, "VACUUM ANALYZE", answer);
        weir_measure_progress("round %d of %d", round, weir_measure_repetitions());
        apply(1);
        look_and_ask(1);
        write_beside(1, write_all());
    }
    printf("%llu windows of %llu customers, %llu workers; CPU time is the client's\n", (unsigned long long)window_count,
           (unsigned long long)(window_count / OF_A_CUSTOMER), (unsigned long long)worker_count);
    weir_measure_print(&by_period);
    weir_measure_print(&by_window);
    weir_measure_target(&(struct weir_target){
        .what = "dry run, of SQL by window", .figure = &look, .ceiling = &by_window, .at_least = 3});
    weir_measure_print(&insert);
    weir_measure_target(&(struct weir_target){
        .what = "rerating, of INSERT ... SELECT", .figure = &writing, .ceiling = &insert, .at_least = 1.3});
    weir_measure_print(&by_hand);
    weir_measure_target(&(struct weir_target){
        .what = "rerating, of the same job in SQL", .figure = &writing, .ceiling = &by_hand, .at_least = 1.3});
    weir_measure_print(&copy);
    weir_measure_target(&(struct weir_target){
        .what = "rerating, of a binary COPY", .figure = &writing, .ceiling = &copy, .at_least = 0.6});
    weir_measure_print(&memory);
    weir_measure_print(&writing_memory);
    return weir_measure_end();
}
