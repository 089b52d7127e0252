/* The audit log on a real PostgreSQL: what is recorded, and that nothing can be removed or altered unseen. */
#include <pthread.h>

#include "postgres_database.h"

#include "rater/apply.h"
#include "rater/audit.h"
#include "rater/lanes.h"
#include "rater/reconciliations.h"

static struct database database;

static void drop_database(void)
{
    database_drop(&database);
} /* also after a failed assertion */

TestSuite(audit, .fini = drop_database, .timeout = 600);

static const char catalog_json[] =
    "{\"meters\":[{\"key\":\"calls\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"}],"
    "\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"2026-01-01T00:00:00Z\","
    "\"prices\":[{\"meter\":\"calls\",\"model\":\"per_unit\",\"unit_price\":\"1\"}]}],"
    "\"default_contract\":{\"price_book\":\"b\",\"billing_period\":\"month\",\"timezone\":\"UTC\"}}";

static void apply(const char *json)
{
    struct weir_apply_report report = {0};
    struct weir_error error = {{0}};

    cr_assert_eq(weir_apply_catalog(database.url, json, strlen(json), false, &report, &error), WEIR_OK, "%s",
                 error.text);
    cr_assert_eq(report.outcome, WEIR_APPLY_STORED);
    weir_apply_report_free(&report);
}

/* A database in which each kind of action was done: migrations, a catalog, a release and a repair. */
static void do_everything(void)
{
    database_make(&database);
    apply(catalog_json);
    sql_on(database.admin,
           "INSERT INTO weir.lanes (lane, next_offset, highest_offset, watermark) VALUES ('events:0', 9, 9, now());"
           "INSERT INTO weir.lane_gaps (lane, kind, from_offset, to_offset, time_from, time_to, found_at, is_loss)"
           " VALUES ('events:0', 'retention', 3, 7, now() - interval '1h', now(), now(), true);"
           "INSERT INTO weir.gap_releases (gap, released_by, reason, lowers) VALUES (1, 'a@b', 'nothing was sent', "
           "false)");
    struct weir_reconciliations *reconciliations = weir_reconciliations_new(database.url);
    struct weir_error error = {{0}};
    for (uint64_t repaired = 0; repaired < 2; repaired++) {
        const struct weir_reconciliation found = {.started_at = 1, .lanes = 1, .repaired = repaired};
        cr_assert_eq(weir_reconciliations_add(reconciliations, "events", &found, &error), WEIR_OK, "%s", error.text);
    }
    weir_reconciliations_free(reconciliations);
}

static struct weir_audit_report verify(struct weir_audit_mark kept)
{
    struct weir_audit_report report;
    struct weir_error error = {{0}};

    cr_assert_eq(weir_audit_verify(database.url, &kept, &report, &error), WEIR_OK, "%s", error.text);
    return report;
}

Test(audit, everything_is_recorded)
{
    do_everything();
    struct weir_audit_report report = verify((struct weir_audit_mark){0});
    long migrations = ask_number(&database, "SELECT count(*) FROM weir.schema_migrations");

    cr_assert_eq(report.findings, 0, "%s", report.texts[0]);
    cr_assert_eq((long)report.entries, migrations + 3, "a reconciliation that repaired nothing is no action");
    char *actions = ask_text(&database, "SELECT string_agg(action || ' ' || subject, ', ' ORDER BY entry)"
                                        " FROM weir.audit_log WHERE action <> 'migrate'");
    cr_assert_str_eq(actions, "apply catalog 1, release gap 1, repair reconciliation 2");
    free(actions);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.audit_log WHERE role <> session_user"), 0);
    cr_assert_eq(
        ask_number(&database, "SELECT count(*) FROM weir.audit_log WHERE (actor = '') <> (action = 'release')"), 0,
        "what weir does names who ran it; plain SQL has nobody");
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.audit_log WHERE detail ? 'catalog'"), 0);
    weir_audit_report_free(&report);
}

Test(audit, it_is_append_only)
{
    do_everything();
    cr_assert_str_eq(sqlstate_of(&database, "UPDATE weir.audit_log SET actor = 'nobody'"), "23001");
    cr_assert_str_eq(sqlstate_of(&database, "DELETE FROM weir.audit_log WHERE entry = 1"), "23001");
    cr_assert_str_eq(sqlstate_of(&database, "TRUNCATE weir.audit_log"), "23001");
    cr_assert_str_eq(sqlstate_of(&database, "UPDATE weir.catalog_versions SET sha256 = sha256"), "23001");
    cr_assert_str_eq(sqlstate_of(&database, "DELETE FROM weir.catalog_versions"), "23001");
}

/* As somebody with every right would do it: past the triggers. */
static void bend(const char *sql)
{
    sql_on(database.admin, "SET session_replication_role = replica");
    sql_on(database.admin, sql);
    sql_on(database.admin, "SET session_replication_role = DEFAULT");
}

static void finds(const char *sql, struct weir_audit_mark kept, const char *says)
{
    bend(sql);
    struct weir_audit_report report = verify(kept);
    bool is_told = false;
    for (size_t i = 0; i < report.findings && i < WEIR_AUDIT_FINDINGS_MAX; i++)
        is_told |= strstr(report.texts[i], says) != NULL;
    cr_assert(is_told, "%s: %s is not told, but: %s", sql, says, report.findings ? report.texts[0] : "nothing");
    weir_audit_report_free(&report);
}

static const struct weir_audit_mark nothing_kept;

static void finds_nothing(void)
{
    struct weir_audit_report report = verify(nothing_kept);

    cr_assert_eq(report.findings, 0, "%s", report.texts[0]);
    weir_audit_report_free(&report);
}

Test(audit, an_altered_entry)
{
    static const char *const changes[] = {
        "at = at + interval '1 microsecond'",
        "actor = actor || 'x'",
        "role = role || 'x'",
        "action = 'Apply'",
        "subject = subject || ' '",
        "detail = detail || '{\"lowers\": true}'",
    };

    do_everything();
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char sql[256];
        snprintf(sql, sizeof sql,
                 "CREATE TABLE public.kept AS SELECT * FROM weir.audit_log; UPDATE weir.audit_log SET %s"
                 " WHERE action = 'apply'",
                 changes[i]);
        finds(sql, nothing_kept, "was altered: its hash is not the one of its columns");
        bend(
            "DELETE FROM weir.audit_log; INSERT INTO weir.audit_log SELECT * FROM public.kept; DROP TABLE public.kept");
        finds_nothing();
    }
}

/* Text that moves from one column to the next is not the same entry: each field is hashed with its length. */
Test(audit, text_that_changes_columns)
{
    do_everything();
    finds("UPDATE weir.audit_log SET role = role || left(action, 1), action = substr(action, 2) WHERE entry = 1",
          nothing_kept, "entry 1 (igrate schema 1) was altered");
}

Test(audit, a_removed_entry)
{
    do_everything();
    finds("DELETE FROM weir.audit_log WHERE entry = 3", nothing_kept, "entries 3 to 3 are gone");
}

Test(audit, the_first_entries_removed)
{
    do_everything();
    finds("DELETE FROM weir.audit_log WHERE entry <= 2", nothing_kept, "entries 1 to 2 are gone");
}

Test(audit, an_entry_altered_with_its_hash)
{
    do_everything();
    finds(
        "UPDATE weir.audit_log SET actor = 'nobody', hash = encode(sha256(convert_to(previous_hash"
        " || weir.audit_field(entry::text) || weir.audit_field(to_char(at AT TIME ZONE 'UTC',"
        " 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')) || weir.audit_field('nobody') || weir.audit_field(role)"
        " || weir.audit_field(action) || weir.audit_field(subject) || weir.audit_field(detail::text), 'UTF8')), 'hex')"
        " WHERE entry = 4",
        nothing_kept, "entry 5 does not follow from the one before it");
}

/* The end of the chain has nothing after it: what it told of is missing from the log, and a mark that was kept is. */
Test(audit, the_last_entry_removed)
{
    do_everything();
    struct weir_audit_report before = verify(nothing_kept);
    finds("DELETE FROM weir.audit_log WHERE entry = (SELECT max(entry) FROM weir.audit_log)", nothing_kept,
          "reconciliation 2 is not in the log");
    finds("DELETE FROM weir.reconciliations WHERE repaired > 0", before.head, "beyond the log's end");
    weir_audit_report_free(&before);
}

Test(audit, the_log_written_anew)
{
    do_everything();
    struct weir_audit_report before = verify(nothing_kept);
    bend("DELETE FROM weir.audit_log; DELETE FROM weir.gap_releases");
    sql_on(database.admin, "SELECT weir.record_audit('migrate', 'schema ' || m.version, to_jsonb(m))"
                           " FROM weir.schema_migrations AS m ORDER BY m.version;"
                           "SELECT weir.record_audit('apply', 'catalog 1', to_jsonb(c) - 'catalog')"
                           " FROM weir.catalog_versions AS c;"
                           "SELECT weir.record_audit('repair', 'reconciliation 2', to_jsonb(r))"
                           " FROM weir.reconciliations AS r WHERE repaired > 0;"
                           "SELECT weir.record_audit('other', '', '{}')");
    struct weir_audit_report report = verify(nothing_kept);
    cr_assert_eq(report.findings, 0, "the chain alone cannot tell: %s", report.texts[0]);
    weir_audit_report_free(&report);
    finds("SELECT 1", before.head, "is not the one that was kept");
    weir_audit_report_free(&before);
}

Test(audit, what_it_tells_of)
{
    do_everything();
    finds("UPDATE weir.catalog_versions SET catalog = replace(catalog::text, '\"1\"', '\"2\"')::json", nothing_kept,
          "catalog 1 its text is not the one of its checksum");
    finds("UPDATE weir.gap_releases SET reason = 'another'", nothing_kept, "gap 1 is not what the log tells");
    finds("DELETE FROM weir.gap_releases", nothing_kept, "gap 1 is gone, and the log tells of it");
    finds("INSERT INTO weir.gap_releases (gap, released_by, reason, lowers) VALUES (1, 'x', 'unseen', true)",
          nothing_kept, "gap 1 is not what the log tells");
}

/* A scope that was taken back and given again is told of three times, and there once. */
Test(audit, whose_usage_finance_sees)
{
    do_everything();
    sql_on(database.admin, "INSERT INTO weir.finance_scopes VALUES (session_user, 'acme'), (session_user, NULL);"
                           "DELETE FROM weir.finance_scopes WHERE customer = 'acme';"
                           "INSERT INTO weir.finance_scopes VALUES (session_user, 'acme'), (session_user, 'bolt');"
                           "DELETE FROM weir.finance_scopes WHERE customer = 'bolt'");
    finds_nothing();
    finds("INSERT INTO weir.finance_scopes VALUES (session_user, 'bolt')", nothing_kept,
          ", customer bolt is not in the log");
    finds("DELETE FROM weir.finance_scopes WHERE customer IS NULL", nothing_kept,
          ", every customer is gone, and the log tells of it");
}

/* acme's of January and of March, as what was closed of those months has them below. */
static const char invoices[] =
    "INSERT INTO weir.invoice_heads (customer, contract, kind, period_start, period_end, currency, currency_places,"
    " amount, total, ledger_position, made_by) VALUES"
    " ('acme', '', 'period', '2026-01-01', '2026-02-01', 'USD', 2, 10, 10.01, 0, 'x'),"
    " ('acme', '', 'period', '2026-03-01', '2026-04-01', 'USD', 2, 1, 1, 0, 'x');"
    "INSERT INTO weir.invoice_rows (invoice, line, is_adjustment, kind, item, dimensions, service_start, service_end,"
    " quantity, amount, invoice_amount, line_items) SELECT invoice, 1, false, 'usage', 'calls', '{}', period_start,"
    " period_end, 1, amount, total, 1 FROM weir.invoice_heads;"
    "DO $$ BEGIN PERFORM weir.issue_number('INV', 'invoice', invoice, 'x') FROM weir.invoice_heads; END $$";

/* Rows that have no entry of their own: what they follow from has one. */
Test(audit, what_follows_from_it)
{
    do_everything();
    sql_on(database.admin,
           "INSERT INTO weir.reratings (started_by, reason, filters, catalog_version) VALUES ('a@b', 'x', '{}', 1);"
           "INSERT INTO weir.rerating_customers (rerating, customer, windows, reversals, line_items)"
           " VALUES (1, 'acme', 3, 2, 2), (1, 'bolt', 1, 0, 0);"
           "INSERT INTO weir.rerating_ends (rerating, customers, changed, windows, reversals, line_items)"
           " VALUES (1, 2, 1, 4, 2, 2);"
           "INSERT INTO weir.reratings (started_by, reason, filters, catalog_version) VALUES ('a@b', 'x', '{}', 1);"
           "INSERT INTO weir.rerating_ends (rerating, customers, changed, windows, reversals, line_items)"
           " VALUES (2, 0, 0, 0, 0, 0);"
           "INSERT INTO weir.customers (customer) VALUES ('acme')");
    sql_on(database.admin, invoices);
    sql_on(database.admin,
           "INSERT INTO weir.closed_months (customer, contract, month, through_item)"
           " SELECT 'acme', '', m, 9 FROM generate_series('2026-01-01'::date, '2026-03-01', '1 month') AS m;"
           "INSERT INTO weir.closed_revenue (customer, contract, month, currency, invoiced, rounding, recognised, "
           "deferred, unbilled)"
           " VALUES ('acme', '', '2026-01-01', 'USD', 10, 0.01, 7, 3, 0), ('acme', '', '2026-02-01', 'USD', 0, 0, 3, "
           "0, 0),"
           " ('acme', '', '2026-03-01', 'USD', 1, 0, 4, 0, 3);"
           "INSERT INTO weir.month_closings (customer, contract, first_month, last_month, digest) VALUES ('acme', '', "
           "'2026-01-01', '2026-03-01', weir.closed_digest('acme', '', '2026-01-01', '2026-03-01'))");
    finds_nothing();
    finds("UPDATE weir.closed_revenue SET recognised = 8 WHERE month = '2026-02-01'", nothing_kept,
          "customer acme, USD, 2026-02 is closed with figures that do not follow from the month before it");
    finds("UPDATE weir.closed_revenue SET recognised = 3 WHERE month = '2026-02-01';"
          "DELETE FROM weir.closed_revenue WHERE month = '2026-02-01'",
          nothing_kept, "customer acme, USD, 2026-03 is closed");
    finds("UPDATE weir.rerating_customers SET line_items = 3 WHERE customer = 'acme'", nothing_kept,
          "rerating 1 is not what its customers come to");
    finds("DELETE FROM weir.rerating_customers WHERE customer = 'bolt'", nothing_kept,
          "rerating 1 is not what its customers come to");
    finds("UPDATE weir.contracts SET timezone = 'Europe/Rome'", nothing_kept,
          "the default contract is not what the catalog in force says");
    finds("INSERT INTO weir.contracts SELECT (jsonb_populate_record(c, '{\"contract\":\"free\",\"customer\":\"acme\","
          "\"starts_at\":\"2026-01-01T00:00:00Z\"}')).* FROM weir.contracts AS c",
          nothing_kept, "contract free is not in the catalog in force");
    finds("DELETE FROM weir.price_book_versions", nothing_kept,
          "price book b version 1 is gone, and the catalog in force has it");
    finds("UPDATE weir.meters SET window_length = '1d'", nothing_kept,
          "meter calls is not what the catalog in force says");
}

#define MONTHS(month) "months [\"acme\", \"\", \"2026-0" #month "-01\"] "
static const char keep_months[] = "CREATE TABLE public.months AS SELECT * FROM weir.closed_months;"
                                  "CREATE TABLE public.revenue AS SELECT * FROM weir.closed_revenue;"
                                  "CREATE TABLE public.prepaid AS SELECT * FROM weir.closed_prepaid;"
                                  "CREATE TABLE public.closings AS SELECT * FROM weir.month_closings";
static const char restore_months[] = "DELETE FROM weir.closed_months; DELETE FROM weir.closed_revenue;"
                                     "DELETE FROM weir.closed_prepaid; DELETE FROM weir.month_closings;"
                                     "INSERT INTO weir.closed_months SELECT * FROM public.months;"
                                     "INSERT INTO weir.closed_revenue SELECT * FROM public.revenue;"
                                     "INSERT INTO weir.closed_prepaid SELECT * FROM public.prepaid;"
                                     "INSERT INTO weir.month_closings SELECT * FROM public.closings";

/* Each column of what was written down of them, the last of them with all that is of it, and one more. */
static const struct {
    const char *change, *says;
} bent_months[] = {
    {"UPDATE weir.closed_months SET through_item = 8 WHERE month = '2026-01-01'", MONTHS(2) "is not what was closed"},
    {"UPDATE weir.closed_months SET closed_at = closed_at + interval '1 second' WHERE month = '2026-03-01'",
     MONTHS(3) "is not what was closed"},
    {"UPDATE weir.closed_months SET closing = 7 WHERE month = '2026-03-01'", MONTHS(3) "is not what was closed"},
    {"UPDATE weir.closed_revenue SET invoiced = invoiced + 1, unbilled = unbilled - 1 WHERE month = '2026-03-01'",
     MONTHS(3) "is not what was closed"},
    {"UPDATE weir.closed_revenue SET invoiced = invoiced + 1, deferred = deferred + 1 WHERE month = '2026-03-01'",
     MONTHS(3) "is not what was closed"},
    {"UPDATE weir.closed_revenue SET rounding = 0.02 WHERE month = '2026-01-01'", MONTHS(2) "is not what was closed"},
    {"UPDATE weir.closed_revenue SET recognised = recognised + 1 WHERE month = '2026-02-01'",
     MONTHS(2) "is not what was closed"},
    {"UPDATE weir.closed_revenue SET currency = 'EUR'", MONTHS(2) "is not what was closed"},
    {"DELETE FROM weir.closed_prepaid", MONTHS(2) "is not what was closed"},
    {"UPDATE weir.closed_prepaid SET last_day = '2026-12-30'", MONTHS(2) "is not what was closed"},
    {"UPDATE weir.closed_prepaid SET first_day = '2026-01-02'", MONTHS(2) "is not what was closed"},
    {"UPDATE weir.closed_prepaid SET rolled_day = '2026-01-02'", MONTHS(2) "is not what was closed"},
    {"UPDATE weir.closed_prepaid SET line_item_id = 5", MONTHS(2) "is not what was closed"},
    {"UPDATE weir.closed_prepaid SET period_start = '2026-01-02'", MONTHS(2) "is not what was closed"},
    {"UPDATE weir.closed_prepaid SET grant_key = 'other'", MONTHS(2) "is not what was closed"},
    {"DELETE FROM weir.closed_revenue WHERE month = '2026-03-01'; DELETE FROM weir.closed_months WHERE month = "
     "'2026-03-01'",
     MONTHS(3) "is not what was closed"},
    {"DELETE FROM weir.closed_revenue WHERE month = '2026-03-01'; DELETE FROM weir.closed_months WHERE month = "
     "'2026-03-01'; DELETE FROM weir.month_closings WHERE last_month = '2026-03-01'",
     MONTHS(3) "is gone, and the log tells of it"},
    {"UPDATE weir.month_closings SET first_month = '2026-02-01', digest = weir.closed_digest('acme', '', '2026-02-01',"
     " '2026-02-01') WHERE last_month = '2026-02-01'",
     MONTHS(2) "is not what the log tells"},
    {"INSERT INTO weir.closed_months (customer, contract, month, through_item) VALUES ('acme', '', '2026-04-01', 9)",
     MONTHS(4) "is in weir.closed_months, and the log does not tell that it was closed"},
    {"INSERT INTO weir.closed_months (customer, contract, month, through_item) VALUES ('acme', '', '2026-04-01', 9);"
     "INSERT INTO weir.month_closings VALUES ('acme', '', '2026-04-01', '2026-04-01', weir.closed_digest('acme', '',"
     " '2026-04-01', '2026-04-01'))",
     MONTHS(4) "is not in the log"},
};

Test(audit, months_that_were_closed)
{
    do_everything();
    sql_on(database.admin, "INSERT INTO weir.customers (customer) VALUES ('acme')");
    sql_on(database.admin, invoices);
    sql_on(
        database.admin,
        "INSERT INTO weir.closed_months (customer, contract, month, through_item)"
        " SELECT 'acme', '', m, 9 FROM generate_series('2026-01-01'::date, '2026-03-01', '1 month') AS m;"
        "INSERT INTO weir.closed_revenue VALUES ('acme', '', '2026-01-01', 'USD', 10, 0.01, 7, 3, 0),"
        " ('acme', '', '2026-02-01', 'USD', 0, 0, 3, 0, 0), ('acme', '', '2026-03-01', 'USD', 1, 0, 4, 0, 3);"
        "INSERT INTO weir.closed_prepaid VALUES ('acme', '', 'credit', 'USD', '2026-02-01', NULL, NULL, '2026-02-01',"
        " '2026-12-31', NULL, 0, 0, 0, 0, 0, 0, 0, 0);"
        "INSERT INTO weir.month_closings (customer, contract, first_month, last_month, digest) SELECT 'acme', '', f, l,"
        " weir.closed_digest('acme', '', f, l) FROM (VALUES ('2026-01-01'::date, '2026-02-01'::date),"
        " ('2026-03-01', '2026-03-01')) AS m (f, l)");
    sql_on(database.admin, keep_months);
    for (size_t i = 0; i < sizeof bent_months / sizeof *bent_months; i++) {
        finds_nothing();
        finds(bent_months[i].change, nothing_kept, bent_months[i].says);
        bend(restore_months);
    }
    finds_nothing();
}

/* A contract shows what the package that it buys comes to: the catalog does not say it. */
Test(audit, what_packages_come_to)
{
    database_make(&database);
    apply("{\"meters\":[{\"key\":\"calls\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"}],"
          "\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"2026-01-01T00:00:"
          "00Z\","
          "\"packages\":[{\"key\":\"small\",\"amount\":\"100\",\"price\":\"95\"}],"
          "\"prices\":[{\"meter\":\"calls\",\"model\":\"per_unit\",\"unit_price\":\"1\"}]}],"
          "\"contracts\":[{\"key\":\"k\",\"customer\":\"acme\",\"price_book\":\"b\",\"starts_at\":\"2026-01-01T00:00:"
          "00Z\","
          "\"billing_period\":\"month\",\"timezone\":\"UTC\","
          "\"commitments\":[{\"key\":\"one\",\"type\":\"prepaid\",\"package\":\"small\"}],"
          "\"phases\":[{\"key\":\"more\",\"starts_at\":\"2026-02-01T00:00:00Z\",\"commitments\":["
          "{\"key\":\"two\",\"type\":\"prepaid\",\"package\":\"small\",\"quantity\":\"2\"}]}]}]}");
    finds_nothing();
    static const struct {
        const char *column, *from, *to;
    } changes[] = {
        {"commitments", "\"95\"", "\"9\""},
        {"commitments", "\"100\"", "\"101\""},
        {"phases", "\"190\"", "\"19\""},
        {"phases", "\"200\"", "\"201\""},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char sql[256];
        snprintf(sql, sizeof sql, "UPDATE weir.contracts SET %s = replace(%s::text, '%s', '%s')::jsonb",
                 changes[i].column, changes[i].column, changes[i].from, changes[i].to);
        finds(sql, nothing_kept, "contract k has an amount or a price in weir.contracts that is not what its package");
        snprintf(sql, sizeof sql, "UPDATE weir.contracts SET %s = replace(%s::text, '%s', '%s')::jsonb",
                 changes[i].column, changes[i].column, changes[i].to, changes[i].from);
        bend(sql);
        finds_nothing();
    }
    bend("UPDATE weir.contracts SET commitments = '[]'");
    struct weir_audit_report report = verify(nothing_kept);
    cr_assert_eq(report.findings, 1, "what is altered is told once");
    weir_audit_report_free(&report);
    finds("UPDATE weir.catalog_versions SET catalog = replace(catalog::text, '\"small\"', '1')::json", nothing_kept,
          "catalog 1 cannot be used by this weir, so packages are not compared");
}

static void *record(void *url)
{
    PGconn *connection = connect_to(url);
    for (int i = 0; i < 50; i++)
        sql_on(connection, "SELECT weir.record_audit('note', '', '{}')");
    PQfinish(connection);
    return NULL;
}

Test(audit, several_at_once_make_one_chain)
{
    enum { WRITERS = 4 };
    pthread_t threads[WRITERS];

    do_everything();
    struct weir_audit_report before = verify(nothing_kept);
    for (int i = 0; i < WRITERS; i++)
        pthread_create(&threads[i], NULL, record, database.url);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    struct weir_audit_report report = verify(before.head);
    cr_assert_eq(report.findings, 0, "%s", report.texts[0]);
    cr_assert_eq(report.entries, before.entries + 50 * WRITERS);
    weir_audit_report_free(&before);
    weir_audit_report_free(&report);
}

/* More entries than are read at once. */
Test(audit, a_long_log)
{
    do_everything();
    sql_on(database.admin,
           "SELECT count(weir.record_audit('note', n::text, '{}')) FROM generate_series(1, 10001) AS n");
    struct weir_audit_report report = verify(nothing_kept);
    cr_assert_eq(report.findings, 0, "%s", report.texts[0]);
    cr_assert_geq(report.entries, 10004);
    weir_audit_report_free(&report);
    bend("UPDATE weir.audit_log SET subject = ''");
    report = verify(nothing_kept);
    cr_assert_geq(report.findings, 10004, "all are counted, the first ones told");
    cr_assert(report.texts[WEIR_AUDIT_FINDINGS_MAX - 1] != NULL);
    weir_audit_report_free(&report);
}

Test(audit, marks)
{
    static const char good[] = "12:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static const char *const bad[] = {
        "",
        "12",
        "12:",
        ":0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "0:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "12:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde",
        "12:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdeff",
        "12:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
    };
    struct weir_audit_mark mark;

    cr_assert(weir_audit_mark_read(good, &mark));
    cr_assert(mark.entry == 12 && strcmp(mark.hash, good + 3) == 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_not(weir_audit_mark_read(bad[i], &mark), "%s", bad[i]);
}
