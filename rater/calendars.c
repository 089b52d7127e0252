#include "rater/calendars.h"

#include <stdlib.h>
#include <string.h>

#include "rater/apply_check.h"
#include "rater/postgres_value.h"

/* One calendar while it is read and extended. */
struct keeping {
    struct weir_calendar calendar; /* a copy whose kept boundaries grow */
    size_t room;
    char anchor[WEIR_ANCHOR_TEXT_MAX];
};

/* New rows of all calendars: one INSERT, since the trigger that looks for gaps looks at each statement. */
struct new_rows {
    size_t count;
    struct weir_buffer columns[5]; /* timezone, billing_period, billing_anchor, start, end */
};

/* 1. reading */

static void take_boundary(struct keeping *keeping, size_t at, int64_t boundary)
{
    struct weir_calendar *calendar = &keeping->calendar;

    if (calendar->kept_count == keeping->room) {
        keeping->room = keeping->room ? 2 * keeping->room : 64;
        calendar->kept = weir_resize(calendar->kept, keeping->room, sizeof *calendar->kept);
    }
    memmove(&calendar->kept[at + 1], &calendar->kept[at], (calendar->kept_count - at) * sizeof *calendar->kept);
    calendar->kept[at] = boundary;
    calendar->kept_count++;
}

/* What the system's rules would cut elsewhere, of rows that were written by others: said, and left as it is. */
static void compare_rules(const struct keeping *keeping, const PGresult *rows, const char *version,
                          struct weir_apply_report *report)
{
    const struct weir_calendar *calendar = &keeping->calendar;
    int differing = 0, first = 0;

    for (int i = 0; i < PQntuples(rows); i++) {
        int64_t start, end;
        weir_period_of(calendar->billing_period, calendar->anchor, calendar->zone, calendar->kept[i], &start, &end);
        if (start == calendar->kept[i] && end == calendar->kept[i + 1])
            continue;
        first = differing++ == 0 ? i : first;
    }
    if (differing == 0 || !report)
        return;
    char at[WEIR_TIME_TEXT_MAX];
    struct weir_slice rules = weir_postgres_field(rows, first, 2);
    weir_time_format(calendar->kept[first], at);
    weir_apply_say(
        report,
        "! calendar %.*s %s%s%s: the system's zone rules (%s) would cut %d of its periods otherwise, the first at "
        "%s; they stay as they were written (rules %.*s)",
        TEXT(calendar->timezone), weir_billing_period_name[calendar->billing_period], *keeping->anchor ? " from " : "",
        keeping->anchor, version, differing, at, TEXT(rules));
}

static enum weir_status read_kept(PGconn *connection, struct keeping *keeping, const char *version,
                                  struct weir_apply_report *report, struct weir_error *reterr)
{
    struct weir_calendar *calendar = &keeping->calendar;
    const char *period = weir_billing_period_name[calendar->billing_period];
    struct weir_parameters parameters = {0};
    PGresult *rows = NULL;

    weir_parameters_add(&parameters, calendar->timezone.data, calendar->timezone.length);
    weir_parameters_add_text(&parameters, period);
    weir_parameters_add_text(&parameters, keeping->anchor);
    enum weir_status status =
        weir_postgres_ask(connection,
                          "SELECT lower(period), upper(period), zone_rules FROM weir.calendar_periods WHERE timezone ="
                          " $1::text AND billing_period = $2::text AND billing_anchor = $3::text ORDER BY period",
                          &parameters, "reading calendars", &rows, reterr);
    if (status != WEIR_OK)
        return status;
    for (int i = 0; i < PQntuples(rows); i++) {
        int64_t start = weir_get_time(PQgetvalue(rows, i, 0));
        if (i == 0)
            take_boundary(keeping, 0, start);
        weir_check(calendar->kept[i] == start); /* the table's trigger keeps them without a gap */
        take_boundary(keeping, calendar->kept_count, weir_get_time(PQgetvalue(rows, i, 1)));
    }
    if (PQntuples(rows))
        compare_rules(keeping, rows, version, report);
    PQclear(rows);
    return WEIR_OK;
}

/* 2. writing */

static void add_row(struct new_rows *rows, const struct keeping *keeping, int64_t start, int64_t end)
{
    weir_put_text(&rows->columns[0], keeping->calendar.timezone);
    weir_put_text(&rows->columns[1], weir_slice_text(weir_billing_period_name[keeping->calendar.billing_period]));
    weir_put_text(&rows->columns[2], weir_slice_text(keeping->anchor));
    weir_put_time(&rows->columns[3], start);
    weir_put_time(&rows->columns[4], end);
    rows->count++;
}

/* To both sides: contracts may come that start earlier, and time goes on. */
static void extend(struct keeping *keeping, int64_t now, struct new_rows *rows)
{
    struct weir_calendar *calendar = &keeping->calendar;
    int64_t horizon = now + WEIR_CALENDAR_AHEAD_DAYS * WEIR_DAY, start, end;

    if (calendar->from >= horizon)
        return; /* its time will come */
    if (calendar->kept_count == 0) {
        weir_calendar_period_at(calendar, calendar->from, &start, &end);
        take_boundary(keeping, 0, start);
        take_boundary(keeping, 1, end);
        add_row(rows, keeping, start, end);
    }
    while (calendar->from < calendar->kept[0]) {
        weir_calendar_period_at(calendar, calendar->kept[0] - 1, &start, &end);
        take_boundary(keeping, 0, start);
        add_row(rows, keeping, start, end);
    }
    if (calendar->kept[calendar->kept_count - 1] >= now + WEIR_CALENDAR_LEAST_DAYS * WEIR_DAY)
        return;
    while (calendar->kept[calendar->kept_count - 1] < horizon) {
        weir_calendar_period_at(calendar, calendar->kept[calendar->kept_count - 1], &start, &end);
        take_boundary(keeping, calendar->kept_count, end);
        add_row(rows, keeping, start, end);
    }
}

static enum weir_status insert_rows(PGconn *connection, struct new_rows *rows, const char *version,
                                    struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    for (int i = 0; i < 5; i++) {
        weir_array_end(&rows->columns[i], rows->count);
        weir_parameters_add(&parameters, rows->columns[i].data, rows->columns[i].length);
    }
    weir_parameters_add_text(&parameters, version);
    enum weir_status status = weir_postgres_ask(
        connection,
        "INSERT INTO weir.calendar_periods (timezone, billing_period, billing_anchor, period, zone_rules)"
        " SELECT timezone, billing_period, billing_anchor, tstzrange(period_start, period_end), $6::text"
        " FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])"
        " AS r (timezone, billing_period, billing_anchor, period_start, period_end)",
        &parameters, "writing calendars", &result, reterr);
    PQclear(result);
    return status;
}

/* 3. both */

static enum weir_status keep_calendar(PGconn *connection, struct weir_catalog *catalog, struct weir_calendar *calendar,
                                      int64_t now, const char *version, struct weir_apply_report *report,
                                      struct new_rows *rows, struct weir_error *reterr)
{
    struct keeping keeping = {.calendar = *calendar};

    keeping.calendar.kept_count = 0;
    keeping.calendar.kept = NULL;
    weir_anchor_format(calendar->billing_period, calendar->anchor, keeping.anchor);
    enum weir_status status = read_kept(connection, &keeping, version, report, reterr);
    if (status == WEIR_OK) {
        extend(&keeping, now, rows);
        weir_calendar_keep(catalog, calendar, keeping.calendar.kept, keeping.calendar.kept_count);
    }
    free(keeping.calendar.kept);
    return status;
}

enum weir_status weir_calendars_keep(PGconn *connection, struct weir_catalog *catalog, int64_t now, bool dry_run,
                                     struct weir_apply_report *report, struct weir_error *reterr)
{
    static const enum weir_postgres_type types[5] = {WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ,
                                                     WEIR_PG_TIMESTAMPTZ};
    char version[WEIR_ZONE_VERSION_MAX];
    struct new_rows rows = {0};
    enum weir_status status =
        weir_postgres_run(connection, "SELECT pg_advisory_xact_lock(" WEIR_LOCK_CLASS ", hashtext('weir calendars'))",
                          "waiting for who else writes calendars", reterr);

    weir_zone_version(version);
    for (int i = 0; i < 5; i++)
        weir_array_begin(&rows.columns[i], types[i]);
    for (size_t i = 0; i < catalog->calendar_count && status == WEIR_OK; i++)
        status = keep_calendar(connection, catalog, &catalog->calendars[i], now, version, report, &rows, reterr);
    if (status == WEIR_OK && rows.count && !dry_run)
        status = insert_rows(connection, &rows, version, reterr);
    for (int i = 0; i < 5; i++)
        weir_buffer_free(&rows.columns[i]);
    return status;
}

enum weir_status weir_calendars_open(const char *url, struct weir_catalog *catalog, bool dry_run,
                                     struct weir_error *reterr)
{
    enum weir_status status;
    PGconn *connection = weir_postgres_open(url, "weir calendars", &status, reterr);

    if (!connection)
        return status;
    status = weir_postgres_run(connection, "BEGIN", "beginning", reterr);
    if (status == WEIR_OK)
        status = weir_calendars_keep(connection, catalog, weir_time_now(), dry_run, NULL, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_run(connection, "COMMIT", "writing calendars", reterr);
    PQfinish(connection);
    return status;
}
