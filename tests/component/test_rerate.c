/* Rerating against a real PostgreSQL: what a catalog would have charged is what a rater that begins with nothing makes
 * of the same windows, and the catalog that it was rated by changes nothing. */
#include <pthread.h>

#include "rater/audit.h"
#include "rater/ledger_audit.h"
#include "rerate_work.h"

static struct database database;

static void drop_database(void)
{
    database_drop(&database);
} /* also after a failed assertion */

TestSuite(rerate, .fini = drop_database, .timeout = 600);

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

/* Runs that write ----------------------------------------------------------------------------------------------------
 */

static void count_difference(void *context, const struct weir_audit_difference *difference)
{
    (void)difference;
    ++*(int *)context;
}

/* Totals that are not the sums of what they are totals of. */
static int audit_differences(void)
{
    struct weir_ledger_audit *audit;
    struct weir_error error;
    int count = 0;

    cr_assert_eq(weir_ledger_audit_open(database.url, &audit, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(weir_ledger_audit_totals(audit, count_difference, &count, &error), WEIR_OK, "%s", error.text);
    weir_ledger_audit_free(audit);
    return count;
}

static size_t kept_lines; /* of runs that write; 0: as many as always */

static enum weir_status try_to_write(const struct weir_catalog *catalog, struct weir_rerate_filter filter,
                                     const char *reason, struct weir_rerate_report *report, int64_t *run,
                                     bool *was_begun, struct weir_error *error)
{
    const struct weir_rerate_request request = {
        .url = database.url, .catalog = catalog, .filter = filter, .workers = 2, .kept_lines = kept_lines};
    const struct weir_rerate_order order = {
        reason, "tester@here", (int)ask_number(&database, "SELECT max(catalog_version) FROM weir.catalog_versions")};

    return weir_rerate_write(&request, &order, run, was_begun, report, error);
}

static struct weir_rerate_counts write_all(const struct weir_catalog *catalog, struct weir_rerate_filter filter)
{
    struct weir_rerate_report report = {0};
    struct weir_error error;
    int64_t run = 0;
    bool was_begun = true;

    cr_assert_eq(try_to_write(catalog, filter, "a test", &report, &run, &was_begun, &error), WEIR_OK, "%s", error.text);
    cr_assert(!was_begun && run > 0);
    struct weir_rerate_counts counts = report.counts;
    weir_rerate_report_free(&report);
    return counts;
}

static void note_catalog_text(const char *text)
{
    char sql[400];

    snprintf(sql, sizeof sql,
             "INSERT INTO weir.catalog_versions (catalog, sha256) VALUES ('%s', encode(sha256('%s'), 'hex'))", text,
             text);
    sql_on(database.admin, sql);
}

static void note_catalog(void)
{
    note_catalog_text("{}");
}

static long count_items(void)
{
    return ask_number(&database, "SELECT count(*) FROM weir.line_items");
}

/* Draws that the ledger and the entries of balances tell differently of. */
static long count_untrue_balances(void)
{
    return ask_number(
        &database,
        "SELECT count(*) FROM (SELECT contract, item AS grant_key, dimensions ->> 'meter' AS meter, period_start,"
        " window_start, sum(amount) AS amount FROM weir.line_items WHERE component = 'drawdown' GROUP BY 1, 2, 3, 4, 5"
        " HAVING sum(amount) <> 0) AS l FULL JOIN (SELECT contract, grant_key, meter, period_start, segment_start,"
        " sum(amount) AS amount FROM weir.grant_entries WHERE meter IS NOT NULL GROUP BY 1, 2, 3, 4, 5"
        " HAVING sum(amount) <> 0) AS e ON (l.contract, l.grant_key, l.meter, l.period_start, l.window_start)"
        " = (e.contract, e.grant_key, e.meter, e.period_start, e.segment_start)"
        " FULL JOIN (SELECT contract, grant_key, meter, period_start, segment_start, -amount AS amount"
        " FROM weir.draw_totals WHERE grant_key <> '' AND amount <> 0) AS t"
        " ON (t.contract, t.grant_key, t.meter, t.period_start, t.segment_start)"
        " = (e.contract, e.grant_key, e.meter, e.period_start, e.segment_start)"
        " WHERE l.amount IS DISTINCT FROM e.amount OR t.amount IS DISTINCT FROM e.amount");
}

/* After a rerating the ledger is what the other catalog makes of the same windows, and stays it when more comes. */
static void check_writing_from(struct terms from, struct terms terms)
{
    struct weir_catalog *catalog = make_catalog(&from), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 3);

    note_catalog();
    long before = count_items();
    struct weir_rerate_counts counts = write_all(other, everything);
    cr_assert_gt(counts.changed, 0);
    cr_assert_eq(count_items(), before + (long)counts.reversals + (long)counts.line_items);
    cr_assert_eq(audit_differences(), 0);
    counts = write_all(other, everything);
    cr_assert_eq(counts.reversals + counts.line_items, 0, "a second run changes something");

    grow_work(work, 3);
    rate_work(database.url, other, work, true);
    char *found = sums_in_sql(&database), *expected = sums_of_catalog(other, work);
    cr_assert_str_eq(found, expected);
    cr_assert_eq(audit_differences(), 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.held_windows"), 0);
    counts = write_all(other, everything);
    cr_assert_eq(counts.reversals + counts.line_items, 0, "what raters made of it since is not right");
    cr_assert_eq(count_untrue_balances(), 0);
    free(found);
    free(expected);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}

static void check_writing(struct terms terms)
{
    check_writing_from(plain_terms, terms);
}

Test(rerate, writes_another_price)
{
    struct terms terms = plain_terms;
    terms.unit_price = "0.004";
    terms.fee = "12.34";
    check_writing(terms);
}

Test(rerate, writes_a_version_in_the_middle_of_a_period)
{
    struct terms terms = plain_terms;
    terms.effective_from = "2026-01-15T00:00:00Z";
    terms.floor = "700";
    check_writing(terms);
}

Test(rerate, writes_usage_that_loses_its_price)
{
    struct terms terms = plain_terms;
    terms.tokens_when = "\"when\":{\"model\":\"model 1\"},";
    check_writing(terms);
}

Test(rerate, writes_other_billing_periods)
{
    struct terms terms = plain_terms;
    terms.billing_period = "week";
    check_writing(terms);
}

/* Customers with more line items than are kept are gone through twice: all of them, or those that have many by now. */
Test(rerate, writes_more_than_is_kept)
{
    struct terms terms = plain_terms;
    terms.unit_price = "0.004";
    kept_lines = 1;
    check_writing(terms);
}

Test(rerate, writes_about_as_much_as_is_kept)
{
    struct terms terms = plain_terms;
    terms.effective_from = "2026-01-15T00:00:00Z";
    kept_lines = 160;
    check_writing(terms);
}

/* Also where customers are gone through twice: because of the filter, or because they have more than is kept. */
Test(rerate, counts_usage_without_a_price_once)
{
    struct terms terms = plain_terms;
    terms.tokens_when = "\"when\":{\"model\":\"model 1\"},";
    struct weir_catalog *catalog = make_catalog(&plain_terms), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 1);
    struct weir_rerate_filter by_book = everything;
    by_book.price_book = S("standard");

    struct weir_rerate_report all = look(other, everything), of_book = look(other, by_book);
    note_catalog();
    kept_lines = 1;
    struct weir_rerate_counts written = write_all(other, everything);
    uint64_t unpriced = (uint64_t)ask_number(
        &database, "SELECT count(*) FROM weir.rated_windows WHERE unpriced IS NOT NULL AND events > 0");
    cr_assert_gt(unpriced, 0);
    cr_expect_eq(all.counts.unpriced, unpriced);
    cr_expect_eq(of_book.counts.unpriced, unpriced);
    cr_expect_eq(written.unpriced, unpriced);
    weir_rerate_report_free(&all);
    weir_rerate_report_free(&of_book);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}

#define PREPAID(key, amount, more)                                                                                     \
    ",{\"key\":\"" key "\",\"type\":\"prepaid\",\"amount\":\"" amount "\",\"price\":\"1\"" more "}"
#define LEAST_PER(per, quantity)                                                                                       \
    ",{\"key\":\"least\",\"type\":\"minimum_quantity\",\"meter\":\"tokens\",\"quantity\":\"" quantity                  \
    "\",\"per\":\"" per "\"}"
#define LEAST(quantity) LEAST_PER("period", quantity)

static const char some_credits[] = PREPAID("a", "40", ",\"expires_at\":\"2026-01-12T00:00:00Z\"")
    PREPAID("b", "1.5", ",\"meters\":[\"tokens\"],\"overage_multiplier\":\"1.5\"") LEAST("900");
static const char other_credits[] = PREPAID("a", "30", ",\"expires_at\":\"2026-01-20T00:00:00Z\"")
    PREPAID("c", "30", ",\"overage_multiplier\":\"2\"") LEAST("1100");

/* What was sold and what is missing follows prices; the other way round, prices do not follow them. */
Test(rerate, writes_what_is_drawn_and_what_is_missing)
{
    struct terms from = plain_terms, terms;
    from.commitments = some_credits;
    terms = from;
    terms.unit_price = "0.03";
    check_writing_from(from, terms);
    cr_assert_gt(ask_number(&database, "SELECT count(*) FROM weir.line_items WHERE rerating = 1 AND kind = 'reversal'"
                                       " AND component = 'drawdown'"),
                 0);
    cr_assert_gt(ask_number(&database, "SELECT count(*) FROM weir.balance_entries WHERE rerating = 1"), 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.balance_entries WHERE rerating > 1"), 0);
    cr_assert_gt(ask_number(&database, "SELECT count(*) FROM weir.balance_entries WHERE rerating IS NULL"), 0);
    cr_assert_gt(ask_number(&database, "SELECT count(*) FROM weir.line_items WHERE kind = 'overage'"), 0);
    cr_assert_gt(ask_number(&database, "SELECT count(*) FROM weir.line_items WHERE component = 'shortfall'"), 0);
}

Test(rerate, writes_prepaid_amounts_where_there_were_none)
{
    struct terms terms = plain_terms;
    terms.commitments = some_credits;
    check_writing(terms);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.grant_balances"), 2);
}

Test(rerate, writes_prepaid_amounts_that_are_gone)
{
    struct terms from = plain_terms;
    from.commitments = some_credits;
    check_writing_from(from, plain_terms);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.grant_balances WHERE balance <> 0"), 0);
}

Test(rerate, writes_other_access_windows)
{
    struct terms from = plain_terms, terms;
    from.commitments = some_credits;
    terms = from;
    terms.commitments = other_credits;
    check_writing_from(from, terms);
    cr_assert_eq(
        ask_number(&database, "SELECT count(*) FROM weir.grant_balances WHERE grant_key = 'b' AND balance = 0"), 1);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.grant_balances WHERE grant_key = 'a'"
                                       " AND expires_at = '2026-01-20T00:00:00Z'"),
                 1);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.grant_windows WHERE rerating = 1"), 1);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.grant_windows"), 1);
}

/* The ledger says so, also where the expiry has moved to before its first word of it. */
Test(rerate, writes_earlier_expiries)
{
    struct terms from = plain_terms, terms;
    from.commitments = other_credits;
    terms = from;
    terms.commitments = some_credits;
    check_writing_from(from, terms);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.grant_balances WHERE grant_key = 'a'"
                                       " AND expires_at = '2026-01-12T00:00:00Z'"),
                 1);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.expired_grants('2026-01-13', '2026-02-01')"
                                       " WHERE grant_key = 'a'"),
                 0);
}

/* What is drawn in January decides what is left for February: a customer with prepaid amounts is rerated whole, where
 * anything of it was chosen, and the others are not. */
Test(rerate, writes_all_of_a_customer_with_prepaid_amounts)
{
    struct terms from = plain_terms, terms;
    from.commitments = some_credits;
    terms = from;
    terms.unit_price = "0.03";
    struct weir_catalog *catalog = make_catalog(&from), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 3);
    struct weir_rerate_filter february = everything, before = everything, peak = everything;
    february.from = WORK_START + 31 * WEIR_DAY;
    before.to = WORK_START - 31 * WEIR_DAY;
    before.customer = peak.customer = S("customer 0");
    peak.meter = S("peak");
    char *expected = sums_of_catalog(other, work);

    note_catalog();
    struct weir_rerate_counts counts = write_all(other, before);
    cr_assert_eq(counts.reversals + counts.line_items, 0);
    write_all(other, february);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.line_items WHERE rerating = 2"
                                       " AND customer <> 'customer 0' AND window_start < '2026-02-01'"),
                 0);
    cr_assert_gt(ask_number(&database, "SELECT count(*) FROM weir.line_items WHERE rerating = 2"
                                       " AND customer = 'customer 0' AND window_start < '2026-02-01'"),
                 0);
    counts = write_all(other, peak);
    cr_assert_eq(counts.reversals + counts.line_items, 0);
    write_all(other, everything);
    char *found = sums_in_sql(&database);
    cr_assert_str_eq(found, expected);
    cr_assert_eq(count_untrue_balances(), 0);
    cr_assert_eq(audit_differences(), 0);
    free(found);
    free(expected);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}

/* Draws by segment, of all that was ever written of each. */
static char *draws_in_sql(void)
{
    return ask_text(
        &database,
        "SELECT coalesce(string_agg(concat_ws(' ', item, dimensions ->> 'meter', window_start, window_end,"
        " amount), ', ' ORDER BY item, dimensions ->> 'meter', window_start), '') FROM (SELECT item, dimensions,"
        " window_start, window_end, sum(amount) AS amount FROM weir.line_items WHERE component ="
        " 'drawdown' GROUP BY 1, 2, 3, 4 HAVING sum(amount) <> 0) AS s");
}

/* As versions of weir did that drew by whole periods (docs/operations.md, "After an upgrade"). */
static void merge_segments(void)
{
    sql_on(
        database.admin,
        "SET session_replication_role = replica;"
        "UPDATE weir.line_items SET window_start = period_start, window_end = period_end WHERE component = 'drawdown';"
        "UPDATE weir.grant_entries SET segment_start = period_start WHERE segment_start IS NOT NULL;"
        "WITH gone AS (DELETE FROM weir.segment_totals RETURNING *) INSERT INTO weir.segment_totals"
        " SELECT customer, contract, period_start, price_book, price_book_version, price_id, period_start, period_end,"
        " price_key, sum(quantity), sum(events)::bigint FROM gone GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;"
        "WITH gone AS (DELETE FROM weir.draw_totals RETURNING *) INSERT INTO weir.draw_totals (customer, contract,"
        " period_start, segment_start, meter, grant_key, period_end, amount, revision) SELECT customer, contract,"
        " period_start, period_start, meter, grant_key, period_end, sum(amount), max(revision) FROM gone"
        " GROUP BY 1, 2, 3, 4, 5, 6, 7;"
        "RESET session_replication_role");
}

/* Nothing but the draws is written again, and no sum is another. */
Test(rerate, writes_segments_that_were_cut_otherwise)
{
    struct terms terms = plain_terms;
    terms.billing_period = "week"; /* the first one begins in December */
    terms.commitments = PREPAID("a", "4000", "");
    struct weir_catalog *catalog = make_catalog(&terms);
    struct work *work = rated_work(catalog, 3);
    char *sums = sums_in_sql(&database), *draws = draws_in_sql();

    note_catalog();
    merge_segments();
    char *merged = draws_in_sql();
    cr_assert_str_neq(draws, merged);
    struct weir_rerate_report report = look(catalog, everything);
    cr_assert_eq(report.counts.changed, 0, "no sum is another");
    weir_rerate_report_free(&report);
    struct weir_rerate_counts counts = write_all(catalog, everything);
    cr_assert_gt(counts.reversals, 0);
    cr_assert_eq(
        ask_number(&database, "SELECT count(*) FROM weir.line_items WHERE rerating = 1 AND component <> 'drawdown'"),
        0);
    char *sums_after = sums_in_sql(&database), *draws_after = draws_in_sql();
    cr_expect_str_eq(sums_after, sums);
    cr_expect_str_eq(draws_after, draws, "%s instead of %s", draws_after, draws);
    cr_expect_eq(count_untrue_balances(), 0);
    cr_expect_eq(audit_differences(), 0);
    counts = write_all(catalog, everything);
    cr_expect_eq(counts.reversals + counts.line_items, 0);
    free(sums);
    free(draws);
    free(merged);
    free(sums_after);
    free(draws_after);
    weir_catalog_free(catalog);
    free(work);
}

/* What was missing to a term stands in its last period. Of a minimum that the catalog has dropped, or has for each
 * period by now, it goes with whatever was chosen of the term. */
static void check_old_true_up(struct terms from, struct terms terms, const char *type)
{
    char text[256];
    from.renews = "\"renews\":{\"months\":2},";
    struct weir_catalog *catalog = make_catalog(&from), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 3);
    struct weir_rerate_filter january = everything, before = everything;
    january.to = WORK_START + 31 * WEIR_DAY;
    before.to = WORK_START - 31 * WEIR_DAY;

    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.line_items WHERE kind = 'true_up'"
                                       " AND period_start = '2026-02-01'"),
                 1);
    (void)snprintf(text, sizeof text,
                   "{\"contracts\":[{\"key\":\"a\"},{\"key\":\"c0\",\"phases\":[{\"commitments\":[{\"per\":\"term\","
                   "\"type\":\"%s\"}]}]}]}",
                   type);
    note_catalog_text(text);
    note_catalog();
    struct weir_rerate_counts counts = write_all(other, before);
    cr_assert_eq(counts.reversals + counts.line_items, 0);
    counts = write_all(other, january);
    cr_assert_eq(counts.changed, 1);
    char *found = sums_in_sql(&database), *expected = sums_of_catalog(other, work);
    cr_assert_str_eq(found, expected);
    cr_assert_eq(audit_differences(), 0);
    counts = write_all(other, everything);
    cr_assert_eq(counts.reversals + counts.line_items, 0, "a second run changes something");
    free(found);
    free(expected);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}

Test(rerate, writes_a_minimum_of_a_term_that_is_gone)
{
    struct terms from = plain_terms, terms = plain_terms;
    from.floor_per = "term";
    from.floor = "90000";
    terms.floor = "0.01"; /* less than is used */
    check_old_true_up(from, terms, "minimum_spend");
}

Test(rerate, writes_a_minimum_of_each_period_in_place_of_a_term)
{
    struct terms from = plain_terms, terms = plain_terms;
    from.floor_per = "term";
    from.floor = "90000";
    terms.floor = "50000";
    check_old_true_up(from, terms, "minimum_spend");
}

Test(rerate, writes_a_minimum_quantity_of_a_term_that_is_gone)
{
    struct terms from = plain_terms, terms;
    from.floor = "0.01";
    terms = from;
    from.commitments = LEAST_PER("term", "90000");
    check_old_true_up(from, terms, "minimum_quantity");
}

Test(rerate, writes_a_minimum_quantity_of_each_period_in_place_of_a_term)
{
    struct terms from = plain_terms, terms;
    from.floor = "0.01";
    terms = from;
    from.commitments = LEAST_PER("term", "90000");
    terms.commitments = LEAST("50000");
    check_old_true_up(from, terms, "minimum_quantity");
}

/* With the whole of the customer, whatever is chosen. */
Test(rerate, writes_what_is_missing_to_a_term)
{
    struct terms from = plain_terms, terms;
    from.renews = "\"renews\":{\"months\":2},";
    from.floor_per = "term";
    from.commitments = PREPAID("a", "40", "") LEAST_PER("term", "90000");
    terms = from;
    terms.unit_price = "0.03";
    check_writing_from(from, terms);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.line_items WHERE component = 'shortfall'"
                                       " AND kind = 'reversal' AND period_start = '2026-02-01'"),
                 1);
}

/* More rows than are sent at once, of periods that begin in a month that nothing was charged in before. */
static void check_new_month(struct terms from, struct terms terms, const char *partition)
{
    enum { HOURS = 800, MODELS = 6, COUNT = HOURS * MODELS };
    struct weir_catalog *catalog = make_catalog(&from), *other = make_catalog(&terms);
    struct weir_lane_window *windows = weir_new_array(COUNT, sizeof *windows);
    char keys[MODELS][WEIR_SERIES_KEY_MAX], model[16], sql[128];
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_error error;

    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(model, sizeof model, "model %d", i % MODELS);
        struct weir_series series = {.meter = S("tokens"),
                                     .customer = S("customer 0"),
                                     .dimension_count = 1,
                                     .dimensions = {{S("model"), S(model)}}};
        size_t length = weir_series_write(&series, keys[i % MODELS]);
        int64_t start = WORK_START + i / MODELS * WEIR_HOUR;
        windows[i] = (struct weir_lane_window){.lane = S("events:0"),
                                               .window = {weir_slice_of(keys[i % MODELS], length),
                                                          start,
                                                          start + WEIR_HOUR,
                                                          {.events = 1, .value = weir_decimal_of(1 + i % 7)}}};
    }
    database_make(&database);
    cr_assert_eq(weir_ledger_postgres_open(database.url, &ledger, &error), WEIR_OK, "%s", error.text);
    rater = weir_rater_new(catalog, ledger);
    cr_assert_eq(weir_rater_rate(rater, windows, COUNT, &error), WEIR_OK, "%s", error.text);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    note_catalog();
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM pg_class WHERE relname = '%s'", partition);
    cr_assert_eq(ask_number(&database, sql), 0);
    struct weir_rerate_counts counts = write_all(other, everything);
    cr_assert_geq(counts.reversals, 740 * MODELS);
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM weir.%s", partition);
    cr_assert_gt(ask_number(&database, sql), 0);
    cr_assert_eq(audit_differences(), 0);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(windows);
}

Test(rerate, writes_many_rows_into_a_new_month)
{
    struct terms terms = plain_terms;
    terms.billing_period = "week"; /* the first one begins in December */
    check_new_month(plain_terms, terms, "line_items_2025_12");
}

/* A COPY that is under way does not see it. */
Test(rerate, a_new_month_comes_after_many_rows)
{
    struct terms from = plain_terms, terms;
    from.billing_period = "quarter";
    terms = plain_terms;
    terms.unit_price = "0.004";
    check_new_month(from, terms, "line_items_2026_02");
}

/* There and back again: the sums are what they were, and the windows that never changed have no rows. */
Test(rerate, writes_and_takes_back)
{
    struct terms terms = plain_terms;
    terms.peak_price = "0.5";
    struct weir_catalog *catalog = make_catalog(&plain_terms), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 3);
    char *before = sums_in_sql(&database);

    note_catalog();
    struct weir_rerate_counts counts = write_all(catalog, everything);
    cr_assert_eq(counts.reversals + counts.line_items, 0);
    write_all(other, everything);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.line_items WHERE rerating = 2 AND meter = 'tokens'"),
                 0, "windows whose charge did not change cost rows");
    cr_assert_gt(ask_number(&database, "SELECT count(*) FROM weir.line_items WHERE rerating = 2 AND meter = 'peak'"),
                 0);
    note_catalog();
    write_all(catalog, everything);
    char *after = sums_in_sql(&database);
    cr_assert_str_eq(after, before);
    cr_assert_eq(audit_differences(), 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.rerating_runs WHERE state = 'done'"), 3);
    free(before);
    free(after);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}

/* Lines of customers that follow are read along, also of those that turn out to be right. */
Test(rerate, writes_around_customers_that_are_right_already)
{
    struct terms terms = plain_terms;
    terms.unit_price = "0.004";
    struct weir_catalog *catalog = make_catalog(&plain_terms), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 3);
    struct weir_rerate_filter filter = everything;

    note_catalog();
    filter.customer = S("customer 2");
    cr_assert_eq(write_all(other, filter).changed, 1);
    filter.customer = S("customer 3");
    cr_assert_eq(write_all(other, filter).changed, 1);
    cr_assert_eq(write_all(other, everything).changed, WORK_CUSTOMERS - 2);
    char *found = sums_in_sql(&database), *expected = sums_of_catalog(other, work);
    cr_assert_str_eq(found, expected);
    cr_assert_eq(audit_differences(), 0);
    cr_assert_eq(write_all(other, everything).changed, 0);
    free(found);
    free(expected);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}

/* One meter alone: the other's rows stay, and minimum spends follow. */
Test(rerate, writes_one_meter)
{
    struct terms terms = plain_terms;
    terms.peak_price = "0.5";
    terms.unit_price = "0.004";
    struct weir_catalog *catalog = make_catalog(&plain_terms), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 3);
    struct weir_rerate_filter filter = everything;

    note_catalog();
    filter.meter = S("peak");
    write_all(other, filter);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.line_items WHERE rerating = 1 AND meter = 'tokens'"),
                 0);
    cr_assert_eq(audit_differences(), 0);
    filter.meter = S("tokens");
    write_all(other, filter);
    char *found = sums_in_sql(&database), *expected = sums_of_catalog(other, work);
    cr_assert_str_eq(found, expected);
    cr_assert_eq(audit_differences(), 0);
    free(found);
    free(expected);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}

/* Broken off in the middle: what is done stays, the same order goes on with the rest, another order begins anew. */
Test(rerate, goes_on_where_it_was_broken_off)
{
    struct terms terms = plain_terms;
    terms.unit_price = "0.004";
    struct weir_catalog *catalog = make_catalog(&plain_terms), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 2);
    struct weir_rerate_filter filter = everything;
    struct weir_rerate_report report = {0};
    struct weir_error error;
    int64_t run = 0, first;
    bool was_begun = false;

    note_catalog();
    /* Customer 3 cannot be written, so the run fails after some. One customer at a time by the filter. */
    filter.price_book = S("standard");
    sql_on(database.admin,
           "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.customer = 'customer 3' AND"
           " NEW.rerating IS NOT NULL THEN RAISE EXCEPTION 'not now'; END IF; RETURN NEW; END $$;"
           "CREATE TRIGGER refuse BEFORE INSERT ON weir.line_items FOR EACH ROW EXECUTE FUNCTION refuse()");
    cr_assert_eq(try_to_write(other, filter, "why", &report, &first, &was_begun, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "not now"), "%s", error.text);
    long done = ask_number(&database, "SELECT count(*) FROM weir.rerating_customers");
    cr_assert(done > 0 && done < WORK_CUSTOMERS, "%ld", done);
    cr_assert_eq(audit_differences(), 0);
    long rows = count_items();
    sql_on(database.admin, "DROP TRIGGER refuse ON weir.line_items");
    cr_assert_eq(try_to_write(other, filter, "why", &report, &run, &was_begun, &error), WEIR_OK, "%s", error.text);
    cr_assert(was_begun && run == first);
    cr_assert_eq(report.counts.customers, WORK_CUSTOMERS);
    cr_assert_eq(report.row_count, WORK_CUSTOMERS);
    cr_assert_gt(count_items(), rows);
    weir_rerate_report_free(&report);
    char *found = sums_in_sql(&database), *expected = sums_of_catalog(other, work);
    cr_assert_str_eq(found, expected);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM (SELECT FROM weir.line_items WHERE rerating = 1 GROUP BY"
                                       " customer, window_start, item, dimensions, component, tier, kind, price_book,"
                                       " price_book_version, contract, period_start HAVING count(*) > 1) AS twice"),
                 0);
    cr_assert_eq(try_to_write(other, filter, "why", &report, &run, &was_begun, &error), WEIR_OK, "%s", error.text);
    cr_assert(!was_begun && run != first);
    weir_rerate_report_free(&report);
    free(found);
    free(expected);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}

struct racing {
    const struct weir_catalog *catalog;
    struct work *work;
};

static void *rate_beside(void *context)
{
    struct racing *racing = context;

    for (int round = 3; round < 6; round++) {
        grow_work(racing->work, round);
        rate_work(database.url, racing->catalog, racing->work, true);
    }
    return NULL;
}

/* Late events are rated by the new catalog while the past is rerated: each is charged once, on the new basis. A
 * customer whose prepaid amounts are others now waits for its rerating, and nobody else does. */
static void check_beside(struct terms from, struct terms terms)
{
    terms.unit_price = "0.004";
    terms.peak_price = "0.5";
    struct weir_catalog *catalog = make_catalog(&from), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 3);
    struct racing racing = {other, work};
    pthread_t thread;

    note_catalog();
    cr_assert_eq(pthread_create(&thread, NULL, rate_beside, &racing), 0);
    for (int i = 0; i < 4; i++)
        write_all(other, everything);
    pthread_join(thread, NULL);
    write_all(other, everything);
    rate_work(database.url, other, work, true); /* what was kept out meanwhile */
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.held_windows"), 0);
    struct weir_rerate_counts counts = write_all(other, everything);
    cr_assert_eq(counts.reversals + counts.line_items, 0);
    char *found = sums_in_sql(&database), *expected = sums_of_catalog(other, work);
    cr_assert_str_eq(found, expected);
    cr_assert_eq(audit_differences(), 0);
    cr_assert_eq(count_untrue_balances(), 0);
    free(found);
    free(expected);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}

Test(rerate, beside_a_rater)
{
    check_beside(plain_terms, plain_terms);
}

Test(rerate, beside_a_rater_with_prepaid_amounts)
{
    struct terms from = plain_terms, terms = plain_terms;
    from.commitments = some_credits;
    terms.commitments = other_credits;
    check_beside(from, terms);
}

/* Raters that have the new catalog before the rerating: they say why the customer waits, and rate all others. */
static void check_before_rerating(const char *from_commitments, const char *commitments)
{
    struct terms from = plain_terms, terms = plain_terms;
    from.commitments = from_commitments;
    terms.commitments = commitments;
    struct weir_catalog *catalog = make_catalog(&from), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 3);

    note_catalog();
    grow_work(work, 3);
    rate_work(database.url, other, work, true);
    cr_assert_gt(ask_number(&database, "SELECT count(*) FROM weir.held_windows WHERE customer = 'customer 0'"
                                       " AND refused LIKE '%Run weir rerate%'"),
                 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.held_windows WHERE customer <> 'customer 0'"), 0);
    write_all(other, everything);
    rate_work(database.url, other, work, true);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.held_windows"), 0);
    char *found = sums_in_sql(&database), *expected = sums_of_catalog(other, work);
    cr_assert_str_eq(found, expected);
    cr_assert_eq(audit_differences(), 0);
    cr_assert_eq(count_untrue_balances(), 0);
    free(found);
    free(expected);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}

Test(rerate, raters_keep_a_customer_out_that_has_new_prepaid_amounts)
{
    check_before_rerating("", some_credits);
}

Test(rerate, raters_keep_a_customer_out_that_has_no_prepaid_amounts_any_more)
{
    check_before_rerating(some_credits, "");
}

Test(rerate, raters_keep_a_customer_out_that_has_other_access_windows)
{
    check_before_rerating(some_credits, other_credits);
}

/* The run is in the audit log, and what was altered of it is found. */
Test(rerate, is_in_the_audit_log)
{
    struct terms terms = plain_terms;
    terms.fee = "1.00";
    struct weir_catalog *catalog = make_catalog(&plain_terms), *other = make_catalog(&terms);
    struct work *work = rated_work(catalog, 1);
    struct weir_audit_mark nothing = {0};
    struct weir_audit_report report;
    struct weir_error error;

    note_catalog();
    write_all(other, everything);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.audit_log WHERE action IN ('rerate', 'rerated')"
                                       " AND subject = 'rerating 1'"),
                 2);
    cr_assert_eq(weir_audit_verify(database.url, &nothing, &report, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(report.findings, 0, "%s", report.texts[0]);
    weir_audit_report_free(&report);
    cr_assert_str_eq(sqlstate_of(&database, "UPDATE weir.reratings SET reason = 'another'"), "23001");
    sql_on(database.admin, "ALTER TABLE weir.reratings DISABLE TRIGGER append_only;"
                           "UPDATE weir.reratings SET reason = 'another'");
    cr_assert_eq(weir_audit_verify(database.url, &nothing, &report, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(report.findings, 1);
    cr_assert_str_eq(report.texts[0], "rerating 1 is not what the log tells");
    weir_audit_report_free(&report);
    weir_catalog_free(catalog);
    weir_catalog_free(other);
    free(work);
}
