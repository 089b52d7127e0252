/* Time: RFC 3339, the UTC calendar, windows, and billing periods in an IANA time zone.
 *
 * A time is an int64_t count of nanoseconds since 1970-01-01T00:00:00Z (no leap seconds, as POSIX), valid from
 * 1970-01-01 to 2261-12-31T23:59:59.999999999Z. Zones come from the system's zone data (common/zone_data.h); a zone
 * is immutable once open and so may be shared by threads.
 */
#ifndef WEIR_COMMON_CALENDAR_H
#define WEIR_COMMON_CALENDAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/slice.h"
#include "common/status.h"

#define WEIR_SECOND INT64_C(1000000000)
#define WEIR_MINUTE (60 * WEIR_SECOND)
#define WEIR_HOUR (60 * WEIR_MINUTE)
#define WEIR_DAY (24 * WEIR_HOUR)
#define WEIR_TIME_NEVER INT64_MAX                  /* an open end */
#define WEIR_TIME_MAX INT64_C(9214646399999999999) /* the last nanosecond of 2261 */

enum { WEIR_TIME_TEXT_MAX = 36 };

/* RFC 3339 date-time, whole text: 'T' or 't', 'Z' or 'z' or ±hh:mm, 0 to 9 digits of fraction, leap years checked,
 * second 60 refused (POSIX time has no place for it). */
bool weir_time_parse(struct weir_slice text, int64_t *ret_time);
/* The same, for texts that mostly have the date, or even the hour, of the one before. Begins as all zero. */
struct weir_date_memo {
    char text[16]; /* "2026-01-05T10:", zeros behind it; empty: none yet */
    int64_t days;  /* since 1970 */
    int64_t hours; /* since 1970; 0: not known, or not all of it is in the range */
};
bool weir_time_parse_next(struct weir_slice text, struct weir_date_memo *memo, int64_t *ret_time);
/* "2026-01-05T10:59:59.123Z": UTC, fraction only where there is one (trailing zeros dropped). Returns the length. */
size_t weir_time_format(int64_t time, char text[WEIR_TIME_TEXT_MAX]);
int64_t weir_time_now(void); /* wall clock */

/* Days from 1970-01-01 of a proleptic Gregorian date, and back. month 1..12, day 1..31 (may run over). */
int64_t weir_days_of_date(int64_t year, int month, int day);
void weir_date_of_days(int64_t days, int64_t *ret_year, int *ret_month, int *ret_day);

/* 1. windows */
#define WEIR_WINDOW_LENGTHS(X) X(1M, "1m") X(5M, "5m") X(15M, "15m") X(1H, "1h") X(1D, "1d") X(1MO, "1mo")
enum weir_window_length {
#define WEIR_X(upper, name) WEIR_WINDOW_##upper,
    WEIR_WINDOW_LENGTHS(WEIR_X)
#undef WEIR_X
        WEIR_WINDOW_LENGTH_COUNT
};
extern const char *const weir_window_length_name[WEIR_WINDOW_LENGTH_COUNT];

/* The window [*ret_start, *ret_end) that holds time (0 <= time <= WEIR_TIME_MAX). */
void weir_window_of(enum weir_window_length length, int64_t time, int64_t *ret_start, int64_t *ret_end);

/* 2. billing periods */
#define WEIR_BILLING_PERIODS(X) X(DAY, "day") X(WEEK, "week") X(MONTH, "month") X(QUARTER, "quarter") X(YEAR, "year")
enum weir_billing_period {
#define WEIR_X(upper, name) WEIR_PERIOD_##upper,
    WEIR_BILLING_PERIODS(WEIR_X)
#undef WEIR_X
        WEIR_BILLING_PERIOD_COUNT
};
extern const char *const weir_billing_period_name[WEIR_BILLING_PERIOD_COUNT];

/* The day on which periods begin, counted from 0 so that all zeros are the calendar's own: Mondays, the 1st, January
 * 1st. */
struct weir_billing_anchor {
    unsigned char weekday; /* weeks: 0 (Monday) to 6 */
    unsigned char month;   /* quarters, years: 0 to 11, of one of the quarters */
    unsigned char day;     /* months, quarters, years: 0 to 30; a month without that day has its last one instead */
};
extern const char *const weir_weekday_name[7]; /* "monday", ... */

enum { WEIR_ANCHOR_TEXT_MAX = 12 };
/* As a catalog writes it: "monday", "15", "04-06"; "" for days. Returns the length. */
size_t weir_anchor_format(enum weir_billing_period period, struct weir_billing_anchor anchor,
                          char text[WEIR_ANCHOR_TEXT_MAX]);

struct weir_zone; /* an IANA time zone */
/* NULL when the system does not know the name, or when it means another zone on another machine ("localtime"). The
 * caller's. */
struct weir_zone *weir_zone_open(const char *name);
struct weir_zone *weir_zone_close(struct weir_zone *zone); /* NULL in, NULL out */

/* Version of the system's zone data, such as "2025b"; "unknown" where it does not say. Returns its length. */
enum { WEIR_ZONE_VERSION_MAX = 32 };
size_t weir_zone_version(char text[WEIR_ZONE_VERSION_MAX]);

/* The billing period [*ret_start, *ret_end) that holds time: periods have no gap between them and do not overlap. A
 * boundary is the anchor day's local midnight; where that does not exist (a zone that springs forward at 00:00) it is
 * the first instant of that day; where it happens twice, the first one. */
void weir_period_of(enum weir_billing_period period, struct weir_billing_anchor anchor, const struct weir_zone *zone,
                    int64_t time, int64_t *ret_start, int64_t *ret_end);
/* The date of the day that holds time, in days since 1970-01-01; days are the periods above. */
int64_t weir_zone_day(const struct weir_zone *zone, int64_t time);
/* The first instant of a day, and the day of a month, counted from January of year 0, that has the number of an anchor
 * or is the month's last. */
int64_t weir_zone_day_start(const struct weir_zone *zone, int64_t day);
int64_t weir_day_of_month(int64_t month, int anchor_day);

/* 3. durations: "200ms" "10s" "5m" "24h" "7d" -> nanoseconds, and back */
bool weir_duration_parse(struct weir_slice text, int64_t *ret_duration);
size_t weir_duration_format(int64_t duration, char text[WEIR_TIME_TEXT_MAX]);

#endif
