#include "common/calendar.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define WEIR_X(upper, name) [WEIR_WINDOW_##upper] = (name),
const char *const weir_window_length_name[WEIR_WINDOW_LENGTH_COUNT] = {WEIR_WINDOW_LENGTHS(WEIR_X)};
#undef WEIR_X

/* 1. dates */

/* Years begin in March here, so that the leap day is the last one of its year; eras of 400 years repeat (the algorithm
 * that Howard Hinnant describes in "chrono-Compatible Low-Level Date Algorithms"). */
int64_t weir_days_of_date(int64_t year, int month, int day)
{
    year += (month - 1) / 12;
    month = (month - 1) % 12 + 1;
    int64_t from_march = year - (month <= 2);
    int64_t era = (from_march >= 0 ? from_march : from_march - 399) / 400;
    int64_t year_of_era = from_march - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

void weir_date_of_days(int64_t days, int64_t *ret_year, int *ret_month, int *ret_day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int month = (int)((5 * day_of_year + 2) / 153);
    *ret_day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    *ret_month = month < 10 ? month + 3 : month - 9;
    *ret_year = year_of_era + era * 400 + (*ret_month <= 2);
}

/* 2. RFC 3339 */
enum { DATE_LENGTH = 10, HOUR_LENGTH = 14 };  /* "2026-01-05", "2026-01-05T10:" */
#define HOURS_MAX (WEIR_TIME_MAX / WEIR_HOUR) /* its last hour is whole */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool two_digits(const char *at, int *ret_value)
{
    *ret_value = (at[0] - '0') * 10 + (at[1] - '0');
    return is_digit(at[0]) && is_digit(at[1]);
}

static int days_in_month(int year, int month)
{
    static const signed char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && is_leap);
}

/* Eight characters at once: whether they are `pattern`, in which 0 stands for any digit. Each byte of *ret_pairs is
 * then ten times its digit and the next byte's, so that it is the number that two digits beginning there write. */
static inline bool match_digits(const char *at, const char pattern[8], uint64_t *ret_pairs)
{
    const uint64_t low = UINT64_C(0x0606060606060606), high = UINT64_C(0xf0f0f0f0f0f0f0f0);
    uint64_t text, wanted, zeros = 0;

    memcpy(&text, at, 8);
    memcpy(&wanted, pattern, 8);
    for (int i = 0; i < 8; i++) /* constant, once it is compiled */
        zeros |= pattern[i] == '0' ? UINT64_C(0xff) << (8 * i) : 0;
    uint64_t found = text ^ wanted; /* a digit's value; 0 where another character is as it should be */
    *ret_pairs = found * 10 + (found >> 8);
    return (found & ~zeros) == 0 && ((found | (found + low)) & zeros & high) == 0;
}

/* For 1969 and later (year: 1969..9999). */
static inline int64_t days_since_1970(int year, int month, int day)
{
    static const int16_t before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    unsigned whole = (unsigned)(year - (month <= 2)); /* years whose leap day is behind the date */

    return (int64_t)year * 365 + (int64_t)(whole / 4 - whole / 100 + whole / 400) + before[month - 1] + day - 719528;
}

/* "YYYY-MM-DD", the first 10 characters, as days since 1970. Years that begin more than a day before 1970 are refused
 * here already. */
static bool parse_date(const char *at, int64_t *ret_days)
{
    uint64_t date;
    int day;

    if (!match_digits(at, "0000-00-", &date) || !two_digits(at + 8, &day))
        return false;
    int year = (int)(date & 0xff) * 100 + (int)(date >> 16 & 0xff), month = (int)(date >> 40 & 0xff);
    if (year < 1969 || month < 1 || month > 12 || day < 1 || (day > 28 && day > days_in_month(year, month)))
        return false;
    *ret_days = days_since_1970(year, month, day);
    return true;
}

/* "YYYY-MM-DDTHH:MM:SS", the first 19 characters, as seconds since 1970 of the clock it shows. */
static inline bool parse_clock(const char *at, struct weir_date_memo *memo, int64_t *ret_seconds)
{
    uint64_t clock;

    if (!memo->text[0] || memcmp(at, memo->text, DATE_LENGTH) != 0) {
        memo->hours = 0;
        if (!parse_date(at, &memo->days))
            return false;
        memcpy(memo->text, at, DATE_LENGTH);
    }
    if (!match_digits(at + 11, "00:00:00", &clock) || (at[10] | 0x20) != 't')
        return false;
    int hour = (int)(clock & 0xff), minute = (int)(clock >> 24 & 0xff), second = (int)(clock >> 48 & 0xff);
    if (hour > 23 || minute > 59 || second > 59)
        return false;
    memo->hours = memo->days * 24 + hour;
    memcpy(memo->text + DATE_LENGTH, at + DATE_LENGTH, HOUR_LENGTH - DATE_LENGTH);
    *ret_seconds = memo->days * 86400 + hour * 3600 + minute * 60 + second;
    return true;
}

/* "2026-01-05T10:59:59.123Z" with the hour of the one before, as most texts are. false: something else, perhaps right.
 */
static inline bool parse_in_hour(const char *at, const struct weir_date_memo *memo, int64_t *ret_time)
{
    uint64_t known[2], found[2], rest;

    memcpy(known, memo->text, 16);
    memcpy(found, at, 16);
    if (((known[0] ^ found[0]) | (known[1] ^ found[1]) << 16) != 0 || memo->hours <= 0 || memo->hours > HOURS_MAX
        || !match_digits(at + HOUR_LENGTH, "00:00.00", &rest) || !is_digit(at[22]) || at[23] != 'Z')
        return false;
    int64_t minute = rest & 0xff, second = rest >> 24 & 0xff, hundredth = rest >> 48 & 0xff;
    if (minute > 59 || second > 59)
        return false;
    *ret_time = (memo->hours * 3600 + minute * 60 + second) * WEIR_SECOND
                + (hundredth * 10 + (at[22] - '0')) * (WEIR_SECOND / 1000);
    return true;
}

/* ".123Z", as most clocks write it. false: something else, perhaps right. */
static inline bool parse_milliseconds(const char *at, const char *end, int64_t *ret_nanoseconds)
{
    if (end - at != 5 || at[0] != '.' || at[4] != 'Z' || !is_digit(at[1]) || !is_digit(at[2]) || !is_digit(at[3]))
        return false;
    *ret_nanoseconds = ((at[1] - '0') * 100 + (at[2] - '0') * 10 + (at[3] - '0')) * (WEIR_SECOND / 1000);
    return true;
}

/* ".123": 1 to 9 digits; *at moves behind them. */
static bool parse_fraction(const char **at, const char *end, int64_t *ret_nanoseconds)
{
    int64_t value = 0, unit = WEIR_SECOND;
    const char *from = ++*at;

    for (; *at < end && is_digit(**at); ++*at) {
        if (*at - from == 9)
            return false;
        value = value * 10 + (**at - '0');
        unit /= 10;
    }
    *ret_nanoseconds = value * unit;
    return *at > from;
}

/* "Z" or "+hh:mm", the whole rest. */
static bool parse_offset(const char *at, const char *end, int64_t *ret_seconds)
{
    int hours, minutes;

    if (end - at == 1 && (*at | 0x20) == 'z') {
        *ret_seconds = 0;
        return true;
    }
    if (end - at != 6 || (*at != '+' && *at != '-') || at[3] != ':' || !two_digits(at + 1, &hours)
        || !two_digits(at + 4, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_seconds = (hours * 3600 + minutes * 60) * (*at == '-' ? -1 : 1);
    return true;
}

bool weir_time_parse(struct weir_slice text, int64_t *ret_time)
{
    struct weir_date_memo memo = {0};
    return weir_time_parse_next(text, &memo, ret_time);
}

bool weir_time_parse_next(struct weir_slice text, struct weir_date_memo *memo, int64_t *ret_time)
{
    int64_t seconds, nanoseconds = 0, offset = 0;

    if (text.length == 24 && parse_in_hour(text.data, memo, ret_time))
        return true;
    if (text.length < 20 || !parse_clock(text.data, memo, &seconds))
        return false;
    const char *at = text.data + 19, *end = text.data + text.length;
    if (!parse_milliseconds(at, end, &nanoseconds)
        && ((*at == '.' && !parse_fraction(&at, end, &nanoseconds)) || !parse_offset(at, end, &offset)))
        return false;
    seconds -= offset;
    if (seconds < 0 || seconds > WEIR_TIME_MAX / WEIR_SECOND)
        return false;
    *ret_time = seconds * WEIR_SECOND + nanoseconds;
    return true;
}

static char *put_number(char *to, int64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value /= 10)
        to[i] = (char)('0' + value % 10);
    return to + digits;
}

size_t weir_time_format(int64_t time, char text[WEIR_TIME_TEXT_MAX])
{
    int64_t nanoseconds = time % WEIR_SECOND, seconds = time / WEIR_SECOND;
    int64_t year;
    int month, day;
    char *to = text;

    if (nanoseconds < 0) {
        nanoseconds += WEIR_SECOND;
        seconds--;
    }
    int64_t days = seconds / 86400, of_day = seconds % 86400;
    if (of_day < 0) {
        of_day += 86400;
        days--;
    }
    weir_date_of_days(days, &year, &month, &day);
    to = put_number(to, year, 4);
    *to++ = '-';
    to = put_number(to, month, 2);
    *to++ = '-';
    to = put_number(to, day, 2);
    *to++ = 'T';
    to = put_number(to, of_day / 3600, 2);
    *to++ = ':';
    to = put_number(to, of_day / 60 % 60, 2);
    *to++ = ':';
    to = put_number(to, of_day % 60, 2);
    if (nanoseconds) {
        *to++ = '.';
        to = put_number(to, nanoseconds, 9);
        while (to[-1] == '0')
            to--;
    }
    *to++ = 'Z';
    *to = '\0';
    return (size_t)(to - text);
}

int64_t weir_time_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    return now.tv_sec * WEIR_SECOND + now.tv_nsec;
}

/* 3. windows */
void weir_window_of(enum weir_window_length length, int64_t time, int64_t *ret_start, int64_t *ret_end)
{
    static const int64_t lengths[WEIR_WINDOW_LENGTH_COUNT] = {
        [WEIR_WINDOW_1M] = WEIR_MINUTE, [WEIR_WINDOW_5M] = 5 * WEIR_MINUTE, [WEIR_WINDOW_15M] = 15 * WEIR_MINUTE,
        [WEIR_WINDOW_1H] = WEIR_HOUR,   [WEIR_WINDOW_1D] = WEIR_DAY,
    };

    if (length != WEIR_WINDOW_1MO) {
        *ret_start = time - time % lengths[length];
        *ret_end = *ret_start + lengths[length];
        return;
    }
    int64_t year;
    int month, day;
    weir_date_of_days(time / WEIR_DAY, &year, &month, &day);
    *ret_start = weir_days_of_date(year, month, 1) * WEIR_DAY;
    *ret_end = weir_days_of_date(year, month + 1, 1) * WEIR_DAY;
}

/* 4. durations */
static const struct {
    const char *name;
    int64_t length;
} units[] = {{"d", WEIR_DAY}, {"h", WEIR_HOUR}, {"m", WEIR_MINUTE}, {"s", WEIR_SECOND}, {"ms", WEIR_SECOND / 1000}};
enum { UNIT_COUNT = sizeof units / sizeof *units };

bool weir_duration_parse(struct weir_slice text, int64_t *ret_duration)
{
    int64_t value = 0, duration;
    uint32_t at = 0;

    for (; at < text.length && is_digit(text.data[at]); at++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, text.data[at] - '0', &value))
            return false;
    struct weir_slice unit = weir_slice_of(text.data + at, text.length - at);
    for (int i = 0; at > 0 && i < UNIT_COUNT; i++) {
        if (!weir_slice_equal(unit, weir_slice_text(units[i].name)))
            continue;
        if (__builtin_mul_overflow(value, units[i].length, &duration))
            return false;
        *ret_duration = duration;
        return true;
    }
    return false;
}

size_t weir_duration_format(int64_t duration, char text[WEIR_TIME_TEXT_MAX])
{
    int unit = UNIT_COUNT - 1;

    for (int i = 0; i < UNIT_COUNT && duration != 0; i++)
        if (duration % units[i].length == 0) {
            unit = i;
            break;
        }
    return (size_t)snprintf(text, WEIR_TIME_TEXT_MAX, "%lld%s", (long long)(duration / units[unit].length),
                            units[unit].name);
}
