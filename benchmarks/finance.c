/* What finance waits for: one customer's month in each of its views, of a ledger of so many line items. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "benchmarks/database.h"
#include "common/decimal.h"
#include "common/status.h"

enum { MONTHS = 12, MONTH = 5 /* June */, HOURS = 30 * 24, CUSTOMERS_MAX = 1000000 };

static uint64_t line_items = 1000000, customers = 1000, closed_customers = 20, is_kept = 0;
static const char *found_database;
static char database[64], url[512];

/* 1. the ledger: a year of hours; in each every customer has about as many line items, and the first has a hundredth of
 * all. Rows stand as raters write them, hour by hour, so that a customer's are spread over the partition. */

static const char prepare[] =
    "INSERT INTO weir.price_books VALUES ('list', 'USD', 2, 'half_even');"
    "INSERT INTO weir.price_book_versions (price_book, price_book_version, effective_from, prices, fees) VALUES"
    " ('list', 1, '2020-01-01', '[]', '[{\"key\": \"platform\", \"per\": \"period\"}, {\"key\": \"support\", \"per\": "
    "\"year\"}]');"
    "INSERT INTO weir.customers (customer) SELECT 'customer-' || to_char(n, 'FM0000000')"
    " FROM generate_series(0, current_setting('benchmark.customers')::int - 1) AS n;"
    "INSERT INTO weir.contracts (contract, customer, price_book, starts_at, billing_period, timezone, overrides,"
    "                            commitments)"
    " SELECT 'k-' || to_char(n, 'FM0000000'), 'customer-' || to_char(n, 'FM0000000'), 'list', '2026-01-01', 'month',"
    "        'UTC', '[]', '[]' FROM generate_series(0, current_setting('benchmark.customers')::int - 1) AS n;"
    "INSERT INTO weir.billing_periods"
    " SELECT 'customer-' || to_char(n, 'FM0000000'), 'k-' || to_char(n, 'FM0000000'), m, m + interval '1 month', 0, 0,"
    "        0, true, true FROM generate_series(0, current_setting('benchmark.customers')::int - 1) AS n,"
    "   generate_series(timestamptz '2026-01-01', timestamptz '2026-12-01', interval '1 month') AS m;"
    "INSERT INTO weir.lanes (lane, next_offset, highest_offset, watermark, rated_through)"
    " VALUES ('events:0', 1, 1, '2027-01-15', '2027-01-15')";

static const char fill_month[] =
    "BEGIN; SELECT weir.make_line_items_partition(current_setting('benchmark.month')::timestamptz::date);"
    "INSERT INTO weir.line_items (customer, contract, item, dimensions, period_start, period_end, window_start,"
    "   window_end, kind, component, price_book, price_book_version, quantity, amount, currency, revision)"
    " SELECT 'customer-' || to_char(c, 'FM0000000'), 'k-' || to_char(c, 'FM0000000'), f.item, '{}', p.month,"
    "   p.month + interval '1 month', p.month, p.month + interval '1 month', 'fee', 'fee', 'list', 1, 1, f.amount,"
    "   'USD', 1"
    " FROM (SELECT current_setting('benchmark.month')::timestamptz AS month) AS p, generate_series(0, "
    "current_setting('benchmark.customers')::int - 1) AS c,"
    "   (VALUES ('platform', 31), ('support', 365)) AS f (item, amount)"
    " WHERE f.item = 'platform' OR p.month = '2026-01-01';"
    "INSERT INTO weir.line_items (customer, contract, item, meter, dimensions, period_start, period_end, window_start,"
    "   window_end, kind, component, price_book, price_book_version, model, tier, quantity, unit_price, amount,"
    "   currency, revision)"
    " SELECT 'customer-' || to_char(r.customer, 'FM0000000'), 'k-' || to_char(r.customer, 'FM0000000'), 'tokens',"
    "   'tokens', jsonb_build_object('model', 'model-' || r.row % 4), p.month, p.month + interval '1 month',"
    "   p.month + r.hour * interval '1 hour', p.month + (r.hour + 1) * interval '1 hour', 'usage', 'units', 'list', 1,"
    "   'graduated', r.tier, r.quantity, r.tier * 0.001, r.quantity * r.tier * 0.001, 'USD', 1"
    " FROM (SELECT m AS month, extract(day FROM m + interval '1 month' - interval '1 day')::int * 24 AS hours"
    "       FROM (SELECT current_setting('benchmark.month')::timestamptz AS m) AS o) AS p,"
    "   LATERAL (SELECT h AS hour, n AS row, CASE n % 100 WHEN 0 THEN 0 WHEN 50 THEN 1"
    "                   ELSE 2 + (n + h * 131) % (current_setting('benchmark.customers')::int - 2) END AS customer,"
    "                   1 + n % 2 AS tier, 1 + (n * 7919 + h * 104729) % 1999 AS quantity"
    "            FROM generate_series(0, p.hours - 1) AS h, generate_series(0, current_setting('benchmark.rows')::int "
    "/ p.hours - 1) AS n) AS r;"
    "COMMIT";

static void ask(const char *sql)
{
    char answer[WEIR_DATABASE_ANSWER_MAX];

    weir_database_ask(url, sql, answer);
}

static uint64_t rows_of_month(void)
{
    return line_items / MONTHS;
}

/* Of June, in thousandths of a dollar: its usage and its platform fee. */
static int64_t charged(uint64_t customer)
{
    int64_t sum = 31000;

    for (uint64_t hour = 0; hour < HOURS; hour++)
        for (uint64_t row = 0; row < rows_of_month() / HOURS; row++) {
            uint64_t of = row % 100 == 0 ? 0 : row % 100 == 50 ? 1 : 2 + (row + hour * 131) % (customers - 2);
            if (of == customer)
                sum += (int64_t)((1 + (row * 7919 + hour * 104729) % 1999) * (1 + row % 2));
        }
    return sum;
}

static void close_books(uint64_t customer)
{
    char sql[256];

    (void)snprintf(sql, sizeof sql,
                   "SELECT count(*) FROM weir.close_books('customer-%07llu', '2026-11-30', NULL, false, 'INV', "
                   "'benchmark', NULL, '{}', '{}', '{}')",
                   (unsigned long long)customer);
    ask(sql);
}

static void run_with(const char *sql, int month)
{
    static char text[8192];

    (void)snprintf(
        text, sizeof text,
        "SET benchmark.customers = %llu; SET benchmark.rows = %llu; SET benchmark.month = '2026-%02d-01'; %s",
        (unsigned long long)customers, (unsigned long long)rows_of_month(), month, sql);
    ask(text);
}

static void fill(void)
{
    weir_database_make(database, url);
    run_with(prepare, 1);
    for (int month = 1; month <= MONTHS; month++) {
        weir_measure_progress("month %d of %d", month, MONTHS);
        run_with(fill_month, month);
    }
    ask("ANALYZE weir.line_items, weir.billing_periods, weir.contracts");
    for (uint64_t i = 0; i < closed_customers; i++) {
        weir_measure_progress("closing the books of %llu of %llu customers", (unsigned long long)i,
                              (unsigned long long)closed_customers);
        close_books(i * 2);
    }
    ask("VACUUM (ANALYZE) weir.line_items, weir.billing_periods, weir.invoice_ranges, weir.invoice_rows");
}

/* 2. the questions; $ is the customer */

static const struct question {
    const char *view, *sql;
    bool needs_invoices, is_of_many_months, has_support;
} questions[] = {
    {"charge_lines", "SELECT sum(amount) FROM weir.charge_lines WHERE customer = '$' AND period_start = '2026-06-01'",
     false, false, false},
    {"charges_by_customer_and_period",
     "SELECT sum(amount) FROM weir.charges_by_customer_and_period WHERE customer = '$' AND period_start = "
     "'2026-06-01'",
     false, false, false},
    {"adjustments",
     "SELECT c.amount - coalesce(a.amount, 0) FROM (SELECT sum(amount) AS amount FROM weir.charge_lines WHERE customer "
     "= '$' AND period_start = '2026-06-01') AS c, (SELECT sum(amount) AS amount FROM weir.adjustments WHERE customer "
     "= '$' AND period_start = '2026-06-01') AS a",
     false, false, false},
    {"revenue_schedule",
     "SELECT sum(recognised) FROM weir.revenue_schedule WHERE customer = '$' AND period_start = '2026-06-01'", false,
     false, false},
    {"invoices", "SELECT sum(amount) FROM weir.invoices WHERE customer = '$' AND period_start = '2026-06-01'", true,
     false, false},
    {"invoice_lines", "SELECT sum(amount) FROM weir.invoice_lines WHERE customer = '$' AND period_start = '2026-06-01'",
     true, false, false},
    {"invoice_line_items",
     "SELECT sum(amount) FROM weir.invoice_line_items WHERE customer = '$' AND period_start = '2026-06-01'", true,
     false, false},
    {"revenue_months", "SELECT recognised FROM weir.revenue_months WHERE customer = '$' AND month = '2026-06-01'",
     false, true, true},
    {"usage_by_day",
     "SELECT 31 + coalesce(sum(amount), 0) FROM weir.usage_by_day WHERE customer = '$' AND period_start = '2026-06-01'",
     false, false, false},
};

enum { QUESTIONS = sizeof questions / sizeof *questions, READERS = 4 };

static struct reader {
    const char *what;
    uint64_t customer;
    bool is_closed;
} readers[READERS] = {{"one of many, books closed", 2, true},
                      {"one of many, nothing closed", 3, false},
                      {"the largest, books closed", 0, true},
                      {"the largest, nothing closed", 1, false}};

static void write_question(const struct question *question, uint64_t customer, char sql[1024])
{
    char name[32];
    size_t length = 0;

    (void)snprintf(name, sizeof name, "customer-%07llu", (unsigned long long)customer);
    for (const char *from = question->sql; *from; from++)
        length += (size_t)snprintf(sql + length, 1024 - length, "%.*s", *from == '$' ? (int)sizeof name : 1,
                                   *from == '$' ? name : from);
}

/* 3. plans: which of the ledger's partitions are read, and by which index */

struct plan {
    char scans[1024];
    size_t length;
    uint64_t partitions; /* a bit for each month */
    bool reads_all;
};

/* "Index Scan using KEY on PARTITION", "Bitmap Index Scan on KEY" below "Bitmap Heap Scan on PARTITION". */
static void look_at_line(void *context, const char *line)
{
    static const char table[] = " on line_items_2026_";
    struct plan *plan = context;
    const char *at = strstr(line, table), *index = strstr(line, " using ");
    char name[64];

    if (!at || strstr(line, "never executed"))
        return;
    plan->partitions |= UINT64_C(1) << strtol(at + sizeof table - 1, NULL, 10);
    plan->reads_all |= strstr(line, "Seq Scan") != NULL;
    index = index ? index + 7 : strstr(line, "Bitmap Index Scan") ? at + 4 : NULL;
    if (!index)
        return;
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(index, " "), index);
    if (!strstr(plan->scans, name) && plan->length + 64 < sizeof plan->scans)
        plan->length += (size_t)snprintf(plan->scans + plan->length, sizeof plan->scans - plan->length, " %s", name);
}

static void look_at_plan(const struct question *question, uint64_t customer)
{
    char sql[1024], explain[1200];
    struct plan plan = {0};

    write_question(question, customer, sql);
    (void)snprintf(explain, sizeof explain, "EXPLAIN (ANALYZE, COSTS off, TIMING off) %s", sql);
    weir_database_each(url, explain, look_at_line, &plan);
    int count = __builtin_popcountll(plan.partitions);
    printf("  %-32s %2d of %d partitions%s%s\n", question->view, count, MONTHS, count ? ": by" : "",
           count == 1  ? plan.scans
           : count > 1 ? " the index of each"
                       : "");
    if (plan.reads_all || (!question->is_of_many_months && count > 1))
        weir_measure_die("%s reads %s", question->view, plan.reads_all ? "a whole partition" : "several partitions");
}

/* 4. rounds */

static struct weir_figure figures[READERS][QUESTIONS], slowest = {.what = "the slowest of all", .unit = "ms"};
static char names[READERS][QUESTIONS][96];
static int64_t expected[READERS];

static bool is_asked(const struct reader *reader, const struct question *question)
{
    return reader->is_closed || !question->needs_invoices;
}

static double measure(const struct reader *reader, const struct question *question, int64_t wanted)
{
    char sql[1024], answer[WEIR_DATABASE_ANSWER_MAX];
    struct weir_decimal found;

    write_question(question, reader->customer, sql);
    struct weir_took began = weir_measure_now();
    weir_database_ask(url, sql, answer);
    double wall = weir_measure_since(began).wall;
    wanted += question->has_support ? 30000 : 0; /* 30 of 365 days of June */
    if (weir_decimal_parse(weir_slice_text(answer), &found) != WEIR_DECIMAL_OK
        || found.e12 != (__int128)wanted * 1000000000)
        weir_measure_die("%s, %s: %s, not %lld thousandths", question->view, reader->what, answer, (long long)wanted);
    return wall * 1000;
}

static void measure_all(void)
{
    double most = 0;

    for (int r = 0; r < READERS; r++)
        for (int q = 0; q < QUESTIONS; q++) {
            if (!is_asked(&readers[r], &questions[q]))
                continue;
            double took = measure(&readers[r], &questions[q], expected[r]);
            if (readers[r].is_closed
                || !questions[q].is_of_many_months) /* else it is no month's question, but a year's */
                most = took > most ? took : most;
            weir_figure_add(&figures[r][q], took, 0);
        }
    weir_figure_add(&slowest, most, 0);
}

static void drop_database(void)
{
    if (!is_kept && !found_database)
        weir_database_drop(database);
}

static void read_arguments(int argc, char **argv)
{
    static const struct weir_measure_program program = {
        .name = "finance",
        .about = "One customer's month in finance's views, each over a connection of its own: of a year's ledger, of "
                 "one of many\n"
                 "customers and of one with a hundredth of all. Prints which partitions and indexes are read.",
        .example = "--line-items 100000000 --customers 10000 --closed 1000 --keep",
        .repetitions = 5,
        .options = {{"--line-items", "N", "in the ledger (1,000,000; smoke: 20,000)", &line_items, NULL},
                    {"--customers", "N", "(1,000; smoke: 20)", &customers, NULL},
                    {"--closed", "N", "so many of the even ones have their books closed (20; smoke: 2)",
                     &closed_customers, NULL},
                    {"--keep", NULL, "leave the database, and say what it is called", &is_kept, NULL},
                    {"--database", "NAME", "one that was kept, made with the same numbers", NULL, &found_database}},
    };

    weir_measure_start(&program, argc, argv);
    if (weir_measure_is_smoke()) {
        line_items = 20000;
        customers = 20;
        closed_customers = 2;
    }
    if (customers < 10 || customers > CUSTOMERS_MAX || closed_customers < 2 || closed_customers > customers / 2)
        weir_measure_die("--customers must be 10 to %d, and --closed 2 to half of them", CUSTOMERS_MAX);
    if (line_items / MONTHS < 31 * 24)
        weir_measure_die("--line-items must be at least %d", MONTHS * 31 * 24);
}

static void print_all(void)
{
    for (int r = 0; r < READERS; r++)
        for (int q = 0; q < QUESTIONS; q++)
            if (is_asked(&readers[r], &questions[q]))
                weir_measure_print(&figures[r][q]);
    weir_measure_target(
        &(struct weir_target){.what = "one customer's month, whichever view", .figure = &slowest, .at_most = 1000});
}

int main(int argc, char **argv)
{
    char answer[WEIR_DATABASE_ANSWER_MAX];

    read_arguments(argc, argv);
    setenv("PGOPTIONS", "-c work_mem=16MB -c effective_io_concurrency=100", 0); /* as docs/finance.md advises readers */
    (void)snprintf(database, sizeof database, "weir_benchmark_%d", (int)getpid());
    if (found_database) {
        const char *server = weir_measure_server("POSTGRES_URL"), *path = strrchr(server, '/');
        (void)snprintf(url, sizeof url, "%.*s/%s", path ? (int)(path - server) : 0, server, found_database);
    } else {
        weir_measure_at_end(drop_database);
        fill();
    }
    for (int r = 0; r < READERS; r++) {
        expected[r] = charged(readers[r].customer);
        for (int q = 0; q < QUESTIONS; q++) {
            (void)snprintf(names[r][q], sizeof names[r][q], "%s, %s", questions[q].view, readers[r].what);
            figures[r][q] = (struct weir_figure){.what = names[r][q], .unit = "ms"};
        }
    }
    weir_database_ask(url, "SELECT sum(reltuples)::bigint FROM pg_class WHERE relname LIKE 'line\\_items\\_2026\\___'",
                      answer);
    printf("%s line items of %llu customers in %d partitions%s%s\n", answer, (unsigned long long)customers, MONTHS,
           is_kept ? ", in " : "", is_kept ? database : "");
    for (int q = 0; q < QUESTIONS; q++)
        look_at_plan(&questions[q], readers[0].customer);
    for (int i = 0; i < weir_measure_repetitions(); i++)
        measure_all();
    print_all();
    return weir_measure_end();
}
