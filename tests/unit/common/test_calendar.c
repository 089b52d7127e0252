/* Time by hand; the many thousands of others are in tests/oracle/test_calendar_oracle.py. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <unistd.h>

#include "common/calendar.h"

static int64_t at(const char *text)
{
    int64_t time = -1;
    cr_assert(weir_time_parse(weir_slice_text(text), &time), "%s", text);
    return time;
}

Test(time, limits_are_as_the_header_says)
{
    int64_t time = 7;

    cr_assert_eq(at("1970-01-01T00:00:00Z"), 0);
    cr_assert_eq(at("2261-12-31T23:59:59.999999999Z"), WEIR_TIME_MAX);
    cr_assert_eq(at("2026-01-05t10:59:59.123+01:00"), at("2026-01-05T09:59:59.123000000z"));
    static const char *const wrong[] = {
        "1969-12-31T23:59:59.999999999Z",
        "2262-01-01T00:00:00Z",
        "2016-12-31T23:59:60Z",
        "2023-02-29T00:00:00Z",
        "2026-01-05T10:59:59",
        "2026-01-05T10:59:59.1234567890Z",
        "2026-01-05T24:00:00Z",
        "2026-01-05T10:59:59+24:00",
        "",
        "Z",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_expect_not(weir_time_parse(weir_slice_text(wrong[i]), &time), "%s", wrong[i]);
    cr_expect_not(weir_time_parse(weir_slice_of(NULL, 0), &time));
    cr_assert_eq(time, 7, "what cannot be read leaves the result alone");
}

/* With the date or the hour of the one before, whatever that was: another one, the same, or none that can be read. */
Test(time, the_time_before_changes_nothing)
{
    static const char nothing[20] = {[10] = 'T', '0', '0', ':', '0', '0', ':', '0', '0', 'Z'};
    static const char *const texts[] = {
        "2026-01-05T10:59:59Z",     "2026-01-05t00:00:00.5+01:00", "2026-01-06T00:00:00Z",
        "2026-02-30T00:00:00Z",     "2026-01-05T24:00:00Z",        "2026-01-05",
        "1969-12-31T23:00:00Z",     "1970-01-01T00:00:00Z",        nothing,
        "2026-01-05T10:59:59.123Z", "2026-01-05T10:00:07.000Z",    "2026-01-05T11:00:07.000Z",
        "2026-01-05t10:00:07.000Z", "2026-01-06T10:00:07.999Z",    "2026-01-05T10:60:00.000Z",
        "2026-01-05T10:00:60.000Z", "2026-01-05T10:5a:00.000Z",    "2026-01-05T10:50:00.00:Z",
        "2026-01-05T10:50:00.000z", "2026-01-05T10:50:00,000Z",    "2026-01-05T10:50:0.0000Z",
        "2026-01-05T24:00:00.000Z", "2026-01-05T10-50:00.000Z",    "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:30:00.001Z", "1970-01-01T01:30:00.001Z",    "2261-12-31T23:59:59.999Z",
        "2262-01-01T00:00:00.000Z", "2026-01-05T10:59:59.1234Z"};
    enum { COUNT = sizeof texts / sizeof *texts };

    for (size_t i = 0; i < COUNT * COUNT; i++) {
        struct weir_date_memo memo = {0};
        for (size_t j = i; j <= i + 2; j++) {
            const char *text = texts[(j == i ? i : i / COUNT) % COUNT];
            struct weir_slice whole = weir_slice_of(text, text == nothing ? sizeof nothing : strlen(text));
            int64_t plain = 7, next = 7;
            cr_assert_eq(weir_time_parse_next(whole, &memo, &next), weir_time_parse(whole, &plain), "%s", text);
            cr_assert_eq(next, plain, "%s", text);
        }
    }
}

Test(time, is_written_as_it_is_read)
{
    char text[WEIR_TIME_TEXT_MAX];

    cr_assert_eq(weir_time_format(at("2026-01-05T10:59:59.120Z"), text), 23u);
    cr_assert_str_eq(text, "2026-01-05T10:59:59.12Z");
    weir_time_format(WEIR_TIME_MAX, text);
    cr_assert_str_eq(text, "2261-12-31T23:59:59.999999999Z");
    weir_time_format(at("2024-02-29T00:00:00Z"), text);
    cr_assert_str_eq(text, "2024-02-29T00:00:00Z");
}

static const struct weir_billing_anchor first_day = {0};

static void assert_anchored(enum weir_billing_period period, struct weir_billing_anchor anchor, const char *name,
                            const char *time, const char *start, const char *end)
{
    struct weir_zone *zone = weir_zone_open(name);
    int64_t from, to;

    cr_assert_not_null(zone, "%s", name);
    weir_period_of(period, anchor, zone, at(time), &from, &to);
    cr_expect(from == at(start) && to == at(end), "%s %s in %s", weir_billing_period_name[period], time, name);
    weir_zone_close(zone);
}

static void assert_period(enum weir_billing_period period, const char *name, const char *time, const char *start,
                          const char *end)
{
    assert_anchored(period, first_day, name, time, start, end);
}

Test(period, is_cut_at_local_midnight)
{
    assert_period(WEIR_PERIOD_MONTH, "UTC", "2026-02-10T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
    assert_period(WEIR_PERIOD_MONTH, "America/New_York", "2026-03-01T04:59:59Z", "2026-02-01T05:00:00Z",
                  "2026-03-01T05:00:00Z");
    assert_period(WEIR_PERIOD_MONTH, "America/New_York", "2026-03-15T00:00:00Z", "2026-03-01T05:00:00Z",
                  "2026-04-01T04:00:00Z");
    assert_period(WEIR_PERIOD_QUARTER, "Europe/Berlin", "2026-05-01T00:00:00Z", "2026-03-31T22:00:00Z",
                  "2026-06-30T22:00:00Z");
    assert_period(WEIR_PERIOD_YEAR, "Asia/Kolkata", "2026-12-31T18:30:00Z", "2026-12-31T18:30:00Z",
                  "2027-12-31T18:30:00Z");
    assert_period(WEIR_PERIOD_WEEK, "UTC", "2026-01-04T23:59:59Z", "2025-12-29T00:00:00Z", "2026-01-05T00:00:00Z");
}

Test(period, where_midnight_is_skipped_the_day_begins_when_it_is)
{
    /* São Paulo 2018-11-04: from 00:00 to 01:00. */
    assert_period(WEIR_PERIOD_DAY, "America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z",
                  "2018-11-05T02:00:00Z");
    /* Apia had no 2011-12-30. */
    assert_period(WEIR_PERIOD_DAY, "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z",
                  "2011-12-30T10:00:00Z");
    assert_period(WEIR_PERIOD_DAY, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z",
                  "2011-12-31T10:00:00Z");
}

Test(period, where_midnight_comes_twice_the_first_counts)
{
    /* St John's 2010-11-07: from 00:01 back to 23:01 of the day before, so that midnight came at 02:30 and at 03:30
     * UTC. */
    assert_period(WEIR_PERIOD_DAY, "America/St_Johns", "2010-11-07T02:30:00Z", "2010-11-07T02:30:00Z",
                  "2010-11-08T03:30:00Z");
    assert_period(WEIR_PERIOD_DAY, "America/St_Johns", "2010-11-07T02:45:00Z", "2010-11-07T02:30:00Z",
                  "2010-11-08T03:30:00Z");
    assert_period(WEIR_PERIOD_DAY, "America/St_Johns", "2010-11-07T02:29:59Z", "2010-11-06T02:30:00Z",
                  "2010-11-07T02:30:00Z");
}

Test(period, begins_on_its_anchor_day)
{
    const struct weir_billing_anchor last = {.day = 30}, wednesday = {.weekday = 2}, tax = {.month = 3, .day = 5},
                                     leap = {.month = 1, .day = 28};

    assert_anchored(WEIR_PERIOD_MONTH, last, "UTC", "2026-02-27T23:59:59Z", "2026-01-31T00:00:00Z",
                    "2026-02-28T00:00:00Z");
    assert_anchored(WEIR_PERIOD_MONTH, last, "UTC", "2026-02-28T00:00:00Z", "2026-02-28T00:00:00Z",
                    "2026-03-31T00:00:00Z");
    assert_anchored(WEIR_PERIOD_MONTH, last, "UTC", "2024-03-15T00:00:00Z", "2024-02-29T00:00:00Z",
                    "2024-03-31T00:00:00Z");
    assert_anchored(WEIR_PERIOD_WEEK, wednesday, "America/New_York", "2026-03-10T12:00:00Z", "2026-03-04T05:00:00Z",
                    "2026-03-11T04:00:00Z");
    assert_anchored(WEIR_PERIOD_YEAR, tax, "Europe/London", "2026-04-05T22:59:59Z", "2025-04-05T23:00:00Z",
                    "2026-04-05T23:00:00Z");
    assert_anchored(WEIR_PERIOD_YEAR, leap, "UTC", "2025-01-01T00:00:00Z", "2024-02-29T00:00:00Z",
                    "2025-02-28T00:00:00Z");
    assert_anchored(WEIR_PERIOD_QUARTER, leap, "UTC", "2025-03-01T00:00:00Z", "2025-02-28T00:00:00Z",
                    "2025-05-29T00:00:00Z");
}

Test(period, is_right_beyond_the_tables_of_the_zone_files)
{
    /* Dublin's winter is its exception in the file; a reader that takes summer for it is two hours off. */
    assert_period(WEIR_PERIOD_MONTH, "Europe/Dublin", "2045-07-10T00:00:00Z", "2045-06-30T23:00:00Z",
                  "2045-07-31T23:00:00Z");
    assert_period(WEIR_PERIOD_MONTH, "Europe/Dublin", "2045-01-10T00:00:00Z", "2045-01-01T00:00:00Z",
                  "2045-02-01T00:00:00Z");
    assert_period(WEIR_PERIOD_MONTH, "America/New_York", "2200-07-10T00:00:00Z", "2200-07-01T04:00:00Z",
                  "2200-08-01T04:00:00Z");
    assert_period(WEIR_PERIOD_MONTH, "Australia/Sydney", "2200-01-10T00:00:00Z", "2199-12-31T13:00:00Z",
                  "2200-01-31T13:00:00Z");
}

Test(period, stays_within_what_a_time_can_say)
{
    struct weir_zone *zone = weir_zone_open("America/New_York");
    int64_t start, end;

    weir_period_of(WEIR_PERIOD_YEAR, first_day, zone, 0, &start, &end);
    cr_assert_eq(start, 0);
    cr_assert_eq(end, at("1970-01-01T05:00:00Z"));
    weir_period_of(WEIR_PERIOD_YEAR, first_day, zone, WEIR_TIME_MAX, &start, &end);
    cr_assert(start < WEIR_TIME_MAX && end == WEIR_TIME_MAX + 1, "the last moment is in it");
    weir_zone_close(zone);
    zone = weir_zone_open("UTC");
    weir_period_of(WEIR_PERIOD_DAY, first_day, zone, WEIR_TIME_MAX, &start, &end);
    cr_assert(start == at("2261-12-31T00:00:00Z") && end == start + WEIR_DAY);
    weir_zone_close(zone);
}

Test(zone, only_names_of_zones_open)
{
    static const char *const wrong[] = {"",          "Mars/Olympus", "../../etc/passwd", "/usr/share/zoneinfo/UTC",
                                        "Europe",    "Europe/",      "zone.tab",         "leapseconds",
                                        "localtime", "right/UTC",    "+02:00",           "UTC0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_expect_null(weir_zone_open(wrong[i]), "%s", wrong[i]);
    cr_expect_null(weir_zone_close(NULL));
}

/* Zones that skip a midnight, show one twice, go back over one, and lost a whole day. */
Test(zone, its_days_are_the_periods_of_a_day)
{
    static const char *const names[] = {"America/Sao_Paulo", "America/Havana", "America/St_Johns", "Pacific/Apia",
                                        "Europe/Berlin"};
    int64_t start, end;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct weir_zone *zone = weir_zone_open(names[i]);
        int64_t day = weir_zone_day(zone, at("2010-01-01T12:00:00Z")), until = at("2012-02-01T00:00:00Z");
        cr_assert_eq(day, weir_days_of_date(2010, 1, 1), "%s", names[i]);
        for (int64_t time = at("2010-01-01T12:00:00Z"); time < until; time = end, day++) {
            weir_period_of(WEIR_PERIOD_DAY, first_day, zone, time, &start, &end);
            if (weir_zone_day(zone, time) == weir_days_of_date(2011, 12, 31) && i == 3)
                day = weir_days_of_date(2011, 12, 31);
            cr_expect_eq(weir_zone_day(zone, time), day, "%s", names[i]);
            cr_expect_eq(weir_zone_day(zone, (time + end) / 2), day, "%s", names[i]);
            cr_expect_eq(weir_zone_day(zone, end - 1), day, "%s", names[i]);
        }
        weir_zone_close(zone);
    }
}

Test(zone, rules_have_a_version)
{
    char text[WEIR_ZONE_VERSION_MAX];

    cr_assert_eq(weir_zone_version(text), strlen(text));
    bool is_known = access("/usr/share/zoneinfo/tzdata.zi", R_OK) == 0;
    cr_assert(is_known ? strncmp(text, "20", 2) == 0 && text[4] >= 'a' : strcmp(text, "unknown") == 0, "%s", text);
}

/* One zone, two threads: under TSan where the threaded tests are. */
static struct weir_zone *shared;

static void *ask_often(void *context)
{
    int64_t start, end;
    for (int64_t time = 0; time < WEIR_TIME_MAX - 400 * WEIR_DAY; time += 50 * WEIR_DAY)
        weir_period_of(WEIR_PERIOD_MONTH, first_day, shared, time, &start, &end);
    return context;
}

Test(zone, is_shared_by_threads)
{
    pthread_t thread;

    shared = weir_zone_open("Europe/Dublin");
    cr_assert_eq(pthread_create(&thread, NULL, ask_often, NULL), 0);
    ask_often(NULL);
    pthread_join(thread, NULL);
    weir_zone_close(shared);
}
