/* Rerating against a real PostgreSQL: what a catalog would have charged is what a rater that begins with nothing makes
 * of the same windows, and the catalog that it was rated by changes nothing. */
#include "rerate_work.h"

static struct database database;

static void drop_database(void)
{
    database_drop(&database);
} /* also after a failed assertion */

TestSuite(rerate, .fini = drop_database, .timeout = 120);

static struct work *rated_work(const struct weir_catalog *catalog, int rounds)
{
    struct work *work = weir_new(sizeof *work);

    database_make(&database);
    make_work(work);
    for (int round = 0; round < rounds; round++) {
        grow_work(work, round);
        rate_work(database.url, catalog, work, round == rounds - 1);
    }
    return work;
}

static struct weir_rerate_report look(const struct weir_catalog *catalog, struct weir_rerate_filter filter)
{
    struct weir_rerate_report report = {0};
    struct weir_error error;
    struct weir_rerate_request request = {
        .url = database.url, .catalog = catalog, .filter = filter, .workers = 2, .has_items = true};

    cr_assert_eq(weir_rerate_look(&request, &report, &error), WEIR_OK, "%s", error.text);
    return report;
}

static const struct weir_rerate_filter everything = {.from = INT64_MIN, .to = WEIR_TIME_NEVER};

/* Sum of the rows' amounts by customer and item, as text. */
static char *sums_of(const struct weir_rerate_report *report, bool is_after)
{
    char *text, amount[WEIR_DECIMAL_TEXT_MAX];
    size_t length;
    FILE *output = open_memstream(&text, &length);

    for (size_t i = 0; i < report->row_count; i++) {
        const struct weir_rerate_row *row = &report->rows[i];
        struct weir_decimal value = is_after ? row->after : row->before;
        if (value.e12 == 0)
            continue;
        weir_decimal_format(value, amount);
        fprintf(output, "%.*s,%.*s,%s\n", (int)row->customer.length, row->customer.data, (int)row->item.length,
                row->item.data, amount);
    }
    fclose(output);
    return text;
}

/* The same out of SQL, from any database. */
static char *sums_in_sql(struct database *of)
{
    return ask_text(of,
                    "SELECT coalesce(string_agg(customer || ',' || item || ',' || amount || E'\\n', ''"
                    " ORDER BY customer, item COLLATE \"C\"), '') FROM (SELECT customer, item, sum(amount) AS amount"
                    " FROM weir.line_items GROUP BY 1, 2 HAVING sum(amount) <> 0) AS s");
}

/* What the catalog makes of the work in a database of its own. */
static char *sums_of_catalog(const struct weir_catalog *catalog, struct work *work)
{
    static struct database other;

    database_make(&other);
    rate_work(other.url, catalog, work, true);
    char *sums = sums_in_sql(&other);
    database_drop(&other);
    return sums;
}

Test(rerate, the_same_catalog_changes_nothing)
{
    struct weir_catalog *catalog = make_catalog(&plain_terms);
    struct work *work = rated_work(catalog, 4);
    struct weir_rerate_report report = look(catalog, everything);

    cr_assert_eq(report.counts.changed, 0);
    cr_assert_eq(report.counts.customers, WORK_CUSTOMERS);
    cr_assert_eq(report.counts.windows, WORK_LANES * WORK_WINDOWS);
    char *before = sums_of(&report, false), *after = sums_of(&report, true), *ledger = sums_in_sql(&database);
    cr_assert_str_eq(before, ledger);
    cr_assert_str_eq(after, ledger);
    cr_assert(strstr(ledger, "customer 0,floor,") && strstr(ledger, ",base,") && strstr(ledger, ",peak,"));
    free(before);
    free(after);
    free(ledger);
    weir_rerate_report_free(&report);
    weir_catalog_free(catalog);
    free(work);
}

static void check_other(struct terms terms)
{
    struct weir_catalog *catalog = make_catalog(&plain_terms), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 3);
    struct weir_rerate_report report = look(other, everything);
    char *before = sums_of(&report, false), *after = sums_of(&report, true);
    char *ledger = sums_in_sql(&database), *expected = sums_of_catalog(other, work);

    cr_assert_gt(report.counts.changed, 0);
    cr_assert_str_eq(before, ledger);
    cr_assert_str_eq(after, expected);
    cr_assert_str_neq(before, after);
    free(before);
    free(after);
    free(ledger);
    free(expected);
    weir_rerate_report_free(&report);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}

Test(rerate, another_price)
{
    struct terms terms = plain_terms;
    terms.unit_price = "0.004";
    check_other(terms);
}

Test(rerate, another_fee_and_floor)
{
    struct terms terms = plain_terms;
    terms.fee = "12.34";
    terms.floor = "700";
    check_other(terms);
}

Test(rerate, a_version_in_the_middle_of_a_period)
{
    struct terms terms = plain_terms;
    terms.effective_from = "2026-01-15T00:00:00Z";
    check_other(terms);
}

Test(rerate, usage_that_loses_its_price)
{
    struct terms terms = plain_terms;
    terms.tokens_when = "\"when\":{\"model\":\"model 1\"},";
    check_other(terms);
}

/* One meter, one customer, one period: the rest is not in the report, and a true-up follows its usage. */
Test(rerate, filters)
{
    struct terms terms = plain_terms;
    terms.unit_price = "0.004";
    terms.peak_price = "0.250";
    struct weir_catalog *catalog = make_catalog(&plain_terms), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 2);
    struct weir_rerate_filter filter = everything;

    filter.meter = S("peak");
    struct weir_rerate_report report = look(other, filter);
    size_t peaks = 0, floors = 0;
    for (size_t i = 0; i < report.row_count; i++) {
        const struct weir_rerate_row *row = &report.rows[i];
        cr_assert(!weir_slice_equal(row->item, S("tokens")));
        if (weir_slice_equal(row->item, S("peak")))
            peaks += row->after.e12 > row->before.e12;
        if (weir_slice_equal(row->item, S("floor")))
            floors += row->after.e12 < row->before.e12;
        if (weir_slice_equal(row->item, S("base")))
            cr_assert(row->after.e12 == row->before.e12);
    }
    cr_assert_eq(peaks, WORK_CUSTOMERS);
    cr_assert_eq(floors, 1);
    weir_rerate_report_free(&report);

    filter = everything;
    filter.customer = S("customer 3");
    report = look(other, filter);
    cr_assert_eq(report.counts.customers, 1);
    cr_assert_eq(report.counts.windows, WORK_LANES * WORK_WINDOWS / WORK_CUSTOMERS);
    weir_rerate_report_free(&report);

    filter = everything;
    filter.contract = S("c0");
    report = look(other, filter);
    cr_assert_eq(report.counts.changed, 1);
    cr_assert(weir_slice_equal(report.rows[0].customer, S("customer 0")));
    cr_assert_eq(report.counts.windows, WORK_LANES * WORK_WINDOWS / WORK_CUSTOMERS);
    weir_rerate_report_free(&report);

    filter = everything;
    filter.from = WORK_START + 10 * WEIR_DAY;
    filter.to = filter.from + WEIR_HOUR;
    report = look(other, filter); /* the whole of January, and nothing of February */
    cr_assert_eq((long)report.counts.windows,
                 ask_number(&database, "SELECT count(*) FROM weir.rated_windows WHERE window_start < '2026-02-01'"));
    weir_rerate_report_free(&report);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}

/* A contract by week where it was by month: periods of both are looked at whole, and nothing is charged twice. */
Test(rerate, other_billing_periods)
{
    struct terms terms = plain_terms;
    terms.billing_period = "week";
    struct weir_catalog *catalog = make_catalog(&plain_terms), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 2);
    struct weir_rerate_filter filter = everything;

    filter.customer = S("customer 0");
    filter.from = WORK_START + 10 * WEIR_DAY;
    filter.to = filter.from + WEIR_HOUR;
    struct weir_rerate_report report = look(other, filter);
    long all = ask_number(&database, "SELECT count(*) FROM weir.rated_windows WHERE customer = 'customer 0'"
                                     " AND window_start < '2026-03-02'");
    cr_assert_eq((long)report.counts.windows, all, "%ld of %ld", (long)report.counts.windows, all);
    weir_rerate_report_free(&report);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}
