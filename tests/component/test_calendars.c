/* The calendars of billing periods in PostgreSQL: written once, whole, and going before what zone rules say later. */
#include "common/zone_data.h"
#include "rater/calendars.h"
#include "tests/component/postgres_database.h"

static struct database database;

static const char catalog_text[] =
    "{\"meters\":[{\"key\":\"m\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"}],\"price_books\":"
    "[{\"key\":\"b\",\"version\":1,\"currency\":\"EUR\",\"effective_from\":\"2025-03-15T00:00:00Z\",\"prices\":"
    "[{\"meter\":\"m\",\"model\":\"flat\",\"amount\":\"1\"}]}],\"contracts\":["
    "{\"key\":\"a\",\"customer\":\"x\",\"price_book\":\"b\",\"starts_at\":\"2026-01-10T00:00:00Z\","
    "\"billing_period\":\"month\",\"billing_anchor\":31,\"timezone\":\"Europe/Berlin\"},"
    "{\"key\":\"c\",\"customer\":\"y\",\"price_book\":\"b\",\"starts_at\":\"%s\",\"ends_at\":\"2026-04-01T00:00:00Z\","
    "\"billing_period\":\"month\",\"billing_anchor\":31,\"timezone\":\"Europe/Berlin\"},"
    "{\"key\":\"q\",\"customer\":\"z\",\"price_book\":\"b\",\"starts_at\":\"2026-01-01T00:00:00Z\","
    "\"billing_period\":\"quarter\",\"billing_anchor\":\"11-01\",\"timezone\":\"UTC\"}],"
    "\"default_contract\":{\"price_book\":\"b\",\"billing_period\":\"day\",\"timezone\":\"America/New_York\"}}";

static int64_t at(const char *text)
{
    int64_t time;
    cr_assert(weir_time_parse(weir_slice_text(text), &time), "%s", text);
    return time;
}

/* Contract c starts when it is told. */
static struct weir_catalog *catalog_from(const char *start)
{
    char text[2048];
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    snprintf(text, sizeof text, catalog_text, start);
    cr_assert_eq(weir_catalog_parse("test", text, strlen(text), &catalog, &mistakes), WEIR_OK, "%s",
                 mistakes.count ? mistakes.mistakes[0].text : "");
    return catalog;
}

static void keep_at(struct weir_catalog *catalog, int64_t now, struct weir_apply_report *report)
{
    struct weir_error error;
    enum weir_status status;
    PGconn *connection = weir_postgres_open(database.url, "test", &status, &error);
    cr_assert(connection, "%s", error.text);
    cr_assert_eq(weir_postgres_run(connection, "BEGIN", "beginning", &error), WEIR_OK);
    cr_assert_eq(weir_calendars_keep(connection, catalog, now, false, report, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(weir_postgres_run(connection, "COMMIT", "ending", &error), WEIR_OK, "%s", error.text);
    PQfinish(connection);
}

static void assert_whole(void)
{
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.calendar_gaps"), 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.calendar_periods AS a JOIN weir.calendar_periods AS b"
                                       " ON a.timezone = b.timezone AND a.billing_period = b.billing_period"
                                       " AND a.billing_anchor = b.billing_anchor AND a.period && b.period"
                                       " AND a.ctid <> b.ctid"),
                 0);
}

/* What an INSERT by hand is refused with: the constraint's name. */
static void assert_refused(const char *sql, const char *constraint)
{
    PGresult *result = PQexec(database.admin, sql);
    const char *found = PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME);
    const char *text = PQresultErrorMessage(result);
    cr_assert(PQresultStatus(result) == PGRES_FATAL_ERROR, "%s is not refused", sql);
    cr_assert((found && strcmp(found, constraint) == 0) || strstr(text, constraint), "%s: %s", sql, text);
    PQclear(result);
}

Test(calendars, are_written_once_and_extended_to_both_sides)
{
    int64_t now = at("2026-05-01T12:00:00Z");
    database_make(&database);
    struct weir_catalog *catalog = catalog_from("2026-01-31T00:00:00+01:00");
    cr_assert_eq(catalog->calendar_count, 3);
    keep_at(catalog, now, NULL);
    int64_t rows = ask_number(&database, "SELECT count(*) FROM weir.calendar_periods");
    cr_assert_gt(rows, 800);
    assert_whole();
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.calendar_periods WHERE billing_period = 'month'"
                                       " AND lower(period) = '2025-12-30T23:00:00Z' AND upper(period) = '2026-01-30T23:"
                                       "00:00Z' AND billing_anchor = '31' AND timezone = 'Europe/Berlin'"),
                 1, "the first one holds the earliest start");
    keep_at(catalog, now + 100 * WEIR_DAY, NULL);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.calendar_periods"), rows, "still far enough ahead");
    weir_catalog_free(catalog);

    catalog = catalog_from("2024-02-29T00:00:00+01:00");
    keep_at(catalog, now + 500 * WEIR_DAY, NULL);
    assert_whole();
    cr_assert_gt(ask_number(&database, "SELECT count(*) FROM weir.calendar_periods"), rows + 500);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.calendar_periods WHERE billing_period = 'month'"
                                       " AND lower(period) = '2024-02-28T23:00:00Z'"),
                 1);
    weir_catalog_free(catalog);
    database_drop(&database);
}

Test(calendars, refuse_overlaps_gaps_and_changes)
{
    database_make(&database);
    struct weir_catalog *catalog = catalog_from("2026-01-31T00:00:00+01:00");
    keep_at(catalog, at("2026-05-01T12:00:00Z"), NULL);
    weir_catalog_free(catalog);
#define INSERT "INSERT INTO weir.calendar_periods SELECT 'UTC', 'quarter', '02-01', "
    assert_refused(INSERT "tstzrange('2026-03-01Z', '2026-04-01Z'), '2025b'", "calendar_periods_overlap");
    assert_refused(INSERT "tstzrange('2095-03-01Z', '2095-04-01Z'), '2025b'", "calendar_periods_gap");
    assert_refused(INSERT "tstzrange(max(upper(period)), max(upper(period)) + '90 d', '[]'), '2025b' FROM"
                          " weir.calendar_periods WHERE billing_period = 'quarter'",
                   "calendar_periods_period_check");
    assert_refused("UPDATE weir.calendar_periods SET zone_rules = 'x'", "append-only");
    assert_refused("DELETE FROM weir.calendar_periods", "append-only");
    assert_refused("TRUNCATE weir.calendar_periods", "append-only");
    sql_on(database.admin, INSERT "tstzrange(max(upper(period)), max(upper(period)) + '90 d'), '2025b' FROM"
                                  " weir.calendar_periods WHERE billing_period = 'quarter'");
    assert_whole();
    database_drop(&database);
}

/* A government moves midnight; what was billed stays, what follows joins on to it. */
Test(calendars, go_before_zone_rules)
{
    int64_t now = at("2026-05-01T12:00:00Z"), start, end, next;
    database_make(&database);
    /* As if Berlin's clocks had been five hours behind when these were written. */
    sql_on(database.admin,
           "INSERT INTO weir.calendar_periods SELECT 'Europe/Berlin', 'month', '31', tstzrange(s, e), '1999a'"
           " FROM (VALUES ('2026-01-31T04:00Z'::timestamptz, '2026-02-28T04:00Z'::timestamptz),"
           " ('2026-02-28T04:00Z', '2026-03-31T04:00Z')) AS r (s, e)");
    struct weir_catalog *catalog = catalog_from("2026-01-31T00:00:00+01:00");
    struct weir_apply_report report = {0};
    keep_at(catalog, now, &report);
    assert_whole();
    cr_assert_eq(report.count, 1);
    cr_assert(strstr(report.lines[0], "calendar Europe/Berlin month from 31") && strstr(report.lines[0], "2 of its")
                  && strstr(report.lines[0], "1999a") && strstr(report.lines[0], "2026-01-31T04:00:00Z"),
              "%s", report.lines[0]);
    const struct weir_contract *contract = &catalog->contracts[0]; /* of x */
    weir_contract_period_at(contract, at("2026-02-28T03:59:59Z"), &start, &end);
    cr_assert(start == at("2026-01-31T04:00:00Z") && end == at("2026-02-28T04:00:00Z"));
    weir_contract_period_at(contract, at("2026-04-01T00:00:00Z"), &start, &end);
    cr_assert(start == at("2026-03-31T04:00:00Z") && end == at("2026-04-29T22:00:00Z"));
    weir_contract_period_at(contract, at("2026-01-31T03:59:59Z"), &start, &end);
    cr_assert(start == contract->starts_at && end == at("2026-01-31T04:00:00Z"), "no five hours of their own");
    for (int64_t time = contract->starts_at; time < now + 900 * WEIR_DAY; time = next) {
        weir_contract_period_at(contract, time, &start, &next);
        cr_assert_eq(start, time, "periods go on where the one before ends");
        cr_assert_gt(next - start, 20 * WEIR_DAY);
        weir_contract_period_at(contract, next - 1, &start, &end);
        cr_assert(start == time && end == next);
    }
    weir_apply_report_free(&report);
    weir_catalog_free(catalog);
    database_drop(&database);
}

Test(calendars, of_contracts_are_cut_to_their_terms)
{
    struct weir_apply_report report = {0};
    struct weir_error error;
    char text[2048];
    database_make(&database);
    snprintf(text, sizeof text, catalog_text, "2026-02-10T00:00:00Z");
    cr_assert_eq(weir_apply_catalog(database.url, text, strlen(text), true, &report, &error), WEIR_OK);
    weir_apply_report_free(&report);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.calendar_periods"), 0, "a dry run wrote");
    cr_assert_eq(weir_apply_catalog(database.url, text, strlen(text), false, &report, &error), WEIR_OK);
    weir_apply_report_free(&report);
    char *rows = ask_text(&database, "SELECT string_agg(concat(period_start AT TIME ZONE 'UTC', '/', period_end AT TIME"
                                     " ZONE 'UTC'), ' ' ORDER BY period_start) FROM weir.contract_periods WHERE"
                                     " contract = 'c'");
    cr_assert_str_eq(rows,
                     "2026-02-10 00:00:00/2026-02-27 23:00:00 2026-02-27 23:00:00/2026-03-30 22:00:00 "
                     "2026-03-30 22:00:00/2026-04-01 00:00:00",
                     "%s", rows);
    free(rows);
    char version[WEIR_ZONE_VERSION_MAX], question[256];
    weir_zone_version(version);
    snprintf(question, sizeof question, "SELECT count(*) FROM weir.contract_periods WHERE zone_rules <> '%s'", version);
    cr_assert_eq(ask_number(&database, question), 0);
    /* Every contract's periods are there, by their anchors, without a gap and cut at the same instants as weir's. */
    struct weir_catalog *catalog = NULL;
    cr_assert_eq(weir_apply_load_catalog(database.url, &catalog, &error), WEIR_OK);
    for (uint32_t i = 0; i < catalog->contract_count; i++) {
        const struct weir_contract *contract = &catalog->contracts[i];
        int64_t start, end;
        weir_contract_period_at(contract, at("2026-03-05T00:00:00Z"), &start, &end);
        snprintf(question, sizeof question,
                 "SELECT count(*) FROM weir.contract_periods WHERE contract = '%s' AND extract(epoch FROM period_start)"
                 " = %lld AND extract(epoch FROM period_end) = %lld",
                 contract->key.data, (long long)(start / WEIR_SECOND), (long long)(end / WEIR_SECOND));
        cr_expect_eq(ask_number(&database, question), 1, "%s", question);
    }
    weir_catalog_free(catalog);
    database_drop(&database);
}
