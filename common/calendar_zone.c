/* Billing periods: local days in a zone, and the instants at which they begin. */
#include "common/calendar.h"

#include <stdio.h>

#include "common/zone_data.h"

#define WEIR_X(upper, name) [WEIR_PERIOD_##upper] = (name),
const char *const weir_billing_period_name[WEIR_BILLING_PERIOD_COUNT] = {WEIR_BILLING_PERIODS(WEIR_X)};
#undef WEIR_X
const char *const weir_weekday_name[7] = {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"};

/* The first instant whose local clock shows `local` (seconds since 1970 as the clock shows them) or later. */
static int64_t first_instant(const struct weir_zone *zone, int64_t local)
{
    int64_t before = local - 26 * 3600; /* offsets lie within ±26 h, so this is before the instant looked for */
    int64_t offset = weir_zone_offset(zone, before);
    int64_t after = local - offset;

    if (after <= before || weir_zone_offset(zone, after) == offset)
        return after;
    /* The clock changes in (before, after]: find when. */
    while (after - before > 1) {
        int64_t middle = before + (after - before) / 2;
        if (weir_zone_offset(zone, middle) == offset)
            before = middle;
        else
            after = middle;
    }
    int64_t later = local - weir_zone_offset(zone, after);
    return later > after ? later : after;
}

int64_t weir_day_of_month(int64_t month, int anchor_day)
{
    int64_t first = weir_days_of_date(month / 12, (int)(month % 12) + 1, 1);

    if (anchor_day < 28)
        return first + anchor_day;
    int64_t next = weir_days_of_date((month + 1) / 12, (int)((month + 1) % 12) + 1, 1);
    return first + anchor_day < next ? first + anchor_day : next - 1;
}

/* Of periods of 1, 3 or 12 months. */
static int64_t first_day_by_months(int months, struct weir_billing_anchor anchor, int64_t day, int periods)
{
    int64_t year;
    int month, of_month;

    weir_date_of_days(day, &year, &month, &of_month);
    int64_t at = year * 12 + month - 1;
    at -= (at - anchor.month + 12) % months;
    if (day < weir_day_of_month(at, anchor.day))
        at -= months;
    return weir_day_of_month(at + (int64_t)months * periods, anchor.day);
}

/* The first local day (days since 1970) of the period that holds the local day, moved on by `periods`. */
static int64_t first_day(enum weir_billing_period period, struct weir_billing_anchor anchor, int64_t day, int periods)
{
    switch (period) {
    case WEIR_PERIOD_DAY:
        return day + periods;
    case WEIR_PERIOD_WEEK: { /* 1970-01-01 was a Thursday: three days after a Monday */
        int64_t of_week = ((day + 3 - anchor.weekday) % 7 + 7) % 7;
        return day - of_week + (int64_t)7 * periods;
    }
    case WEIR_PERIOD_MONTH:
        return first_day_by_months(1, anchor, day, periods);
    case WEIR_PERIOD_QUARTER:
        return first_day_by_months(3, anchor, day, periods);
    case WEIR_PERIOD_YEAR:
        return first_day_by_months(12, anchor, day, periods);
    case WEIR_BILLING_PERIOD_COUNT:
        break;
    }
    weir_check(!"a billing period that is none");
    return 0;
}

size_t weir_anchor_format(enum weir_billing_period period, struct weir_billing_anchor anchor,
                          char text[WEIR_ANCHOR_TEXT_MAX])
{
    int day = anchor.day % 31 + 1, month = anchor.month % 12 + 1;

    switch (period) {
    case WEIR_PERIOD_WEEK:
        return (size_t)snprintf(text, WEIR_ANCHOR_TEXT_MAX, "%s", weir_weekday_name[anchor.weekday % 7]);
    case WEIR_PERIOD_MONTH:
        return (size_t)snprintf(text, WEIR_ANCHOR_TEXT_MAX, "%d", day);
    case WEIR_PERIOD_QUARTER:
    case WEIR_PERIOD_YEAR:
        return (size_t)snprintf(text, WEIR_ANCHOR_TEXT_MAX, "%02d-%02d", month, day);
    default:
        *text = '\0';
        return 0;
    }
}

/* Seconds since 1970 to a time: not before the first one that can be, nor after the end of the last one. */
static int64_t time_of_seconds(int64_t seconds)
{
    if (seconds < 0)
        return 0;
    return seconds > WEIR_TIME_MAX / WEIR_SECOND ? WEIR_TIME_MAX + 1 : seconds * WEIR_SECOND;
}

/* The date that the clock shows at an instant. */
static int64_t shown_day(const struct weir_zone *zone, int64_t instant)
{
    int64_t local = instant + weir_zone_offset(zone, instant);
    return local >= 0 ? local / 86400 : -((86399 - local) / 86400);
}

void weir_period_of(enum weir_billing_period period, struct weir_billing_anchor anchor, const struct weir_zone *zone,
                    int64_t time, int64_t *ret_start, int64_t *ret_end)
{
    int64_t instant = time / WEIR_SECOND;
    int64_t day = shown_day(zone, instant);
    int64_t next = first_day(period, anchor, day, 1);
    int64_t start = first_instant(zone, first_day(period, anchor, day, 0) * 86400);
    int64_t end = first_instant(zone, next * 86400);

    /* Where the clock goes back over midnight, the evening is shown twice: the second time it belongs to the new day,
     * since days are cut at their first instant. */
    if (instant >= end) {
        start = end;
        end = first_instant(zone, first_day(period, anchor, next, 1) * 86400);
    }
    *ret_start = time_of_seconds(start);
    *ret_end = time_of_seconds(end);
}

int64_t weir_zone_day(const struct weir_zone *zone, int64_t time)
{
    int64_t instant = time / WEIR_SECOND, day = shown_day(zone, instant);

    /* An evening that is shown again is the next day's, as above. */
    return instant >= first_instant(zone, (day + 1) * 86400) ? day + 1 : day;
}

int64_t weir_zone_day_start(const struct weir_zone *zone, int64_t day)
{
    return time_of_seconds(first_instant(zone, day * 86400));
}
