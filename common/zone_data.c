#include "common/zone_data.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    FILE_BYTES_MAX = 1 << 20,
    NAME_BYTES_MAX = 64,
    HEADER_BYTES = 44,
    TYPE_BYTES = 6,
};

/* One half of a rule: a day of the year, and a clock time on it in seconds (which may lie outside the day). */
struct change {
    enum { JULIAN, DAY_OF_YEAR, DAY_OF_WEEK } kind;
    int month, week, day;
    int64_t time;
};

/* POSIX' "EST5EDT,M3.2.0,M11.1.0": what holds after the last transition of the file. Offsets are seconds east. */
struct rule {
    bool is_there, has_summer;
    int64_t standard, summer;
    struct change start, end; /* of summer */
};

struct weir_zone {
    int64_t first_offset; /* before the first transition */
    size_t count;
    int64_t *times;   /* of transitions, ascending */
    int64_t *offsets; /* from times[i] on */
    struct rule rule;
};

/* 1. the rule */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool take_number(const char **at, int max, int *ret_number)
{
    int number = 0;

    if (!is_digit(**at))
        return false;
    for (; is_digit(**at); ++*at)
        if ((number = number * 10 + (**at - '0')) > max)
            return false;
    *ret_number = number;
    return true;
}

static bool take_character(const char **at, char c)
{
    if (**at != c)
        return false;
    ++*at;
    return true;
}

/* [+-]hh[:mm[:ss]] in seconds; up to 167 hours either way. */
static bool take_time(const char **at, int64_t *ret_seconds)
{
    bool is_negative = **at == '-';
    int hours, minutes = 0, seconds = 0;

    if (**at == '-' || **at == '+')
        ++*at;
    if (!take_number(at, 167, &hours))
        return false;
    if (take_character(at, ':') && !take_number(at, 59, &minutes))
        return false;
    if (take_character(at, ':') && !take_number(at, 59, &seconds))
        return false;
    *ret_seconds = (hours * INT64_C(3600) + minutes * INT64_C(60) + seconds) * (is_negative ? -1 : 1);
    return true;
}

/* "EST" or "<+0330>": only passed over. */
static bool take_name(const char **at)
{
    const char *from = *at;

    if (take_character(at, '<')) {
        while (**at && **at != '>')
            ++*at;
        return take_character(at, '>');
    }
    while ((**at >= 'A' && **at <= 'Z') || (**at >= 'a' && **at <= 'z'))
        ++*at;
    return *at - from >= 3;
}

/* ",M3.2.0/2", ",J60" or ",59". */
static bool take_change(const char **at, struct change *ret_change)
{
    struct change change = {.time = 7200};

    if (!take_character(at, ','))
        return false;
    if (take_character(at, 'M')) {
        change.kind = DAY_OF_WEEK;
        if (!take_number(at, 12, &change.month) || !take_character(at, '.') || !take_number(at, 5, &change.week)
            || !take_character(at, '.') || !take_number(at, 6, &change.day) || change.month < 1 || change.week < 1)
            return false;
    } else {
        change.kind = take_character(at, 'J') ? JULIAN : DAY_OF_YEAR;
        if (!take_number(at, 365, &change.day))
            return false;
    }
    if (take_character(at, '/') && !take_time(at, &change.time))
        return false;
    *ret_change = change;
    return true;
}

static bool parse_rule(const char *text, struct rule *ret_rule)
{
    struct rule rule = {.is_there = true};
    int64_t west;

    if (!take_name(&text) || !take_time(&text, &west))
        return false;
    rule.standard = -west;
    if (*text) {
        rule.has_summer = true;
        rule.summer = rule.standard + 3600;
        if (!take_name(&text))
            return false;
        if (*text != ',') {
            if (!take_time(&text, &west))
                return false;
            rule.summer = -west;
        }
        if (!take_change(&text, &rule.start) || !take_change(&text, &rule.end))
            return false;
    }
    *ret_rule = rule;
    return *text == '\0';
}

/* When the change comes in a year, as the clock before it shows: seconds since 1970. */
static int64_t change_in_year(const struct change *change, int64_t year)
{
    int64_t day = weir_days_of_date(year, 1, 1);

    if (change->kind == DAY_OF_YEAR) {
        day += change->day;
    } else if (change->kind == JULIAN) { /* February 29 is never counted */
        bool is_leap = weir_days_of_date(year, 3, 1) - weir_days_of_date(year, 2, 1) == 29;
        day += change->day - 1 + (is_leap && change->day >= 60);
    } else { /* the first such weekday of the month, some weeks on; week 5 is the last */
        day = weir_days_of_date(year, change->month, 1);
        int64_t next_month = weir_days_of_date(year, change->month + 1, 1);
        int64_t weekday = ((day + 4) % 7 + 7) % 7; /* 1970-01-01 was a Thursday, 4 */
        day += (change->day - weekday + 7) % 7 + 7 * (change->week - 1);
        while (day >= next_month)
            day -= 7;
    }
    return day * 86400 + change->time;
}

static int64_t rule_offset(const struct rule *rule, int64_t instant)
{
    int64_t year, latest = INT64_MIN, offset = rule->standard;
    int month, day;

    if (!rule->has_summer)
        return rule->standard;
    weir_date_of_days(instant >= 0 ? instant / 86400 : -((86399 - instant) / 86400), &year, &month, &day);
    /* The last change that has come; the years beside ours, since a change may lie over New Year. */
    for (int64_t of = year - 1; of <= year + 1; of++) {
        int64_t end = change_in_year(&rule->end, of) - rule->summer;
        int64_t start = change_in_year(&rule->start, of) - rule->standard;
        if (end <= instant && end >= latest) {
            latest = end;
            offset = rule->standard;
        }
        if (start <= instant && start >= latest) { /* at the same instant as an end: it is always summer */
            latest = start;
            offset = rule->summer;
        }
    }
    return offset;
}

/* 2. the file */
static int64_t big_endian(const unsigned char *at, int bytes)
{
    uint64_t value = at[0] & 0x80 ? UINT64_MAX : 0;

    for (int i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return (int64_t)value;
}

/* The counts of a TZif header, in the file's order. */
struct counts {
    size_t utc_marks, standard_marks, leaps, transitions, types, characters;
};

static bool read_header(const unsigned char *at, size_t room, struct counts *ret_counts)
{
    size_t numbers[6];

    if (room < HEADER_BYTES || memcmp(at, "TZif", 4) != 0 || at[4] < '2')
        return false;
    for (int i = 0; i < 6; i++)
        numbers[i] = (size_t)big_endian(at + 20 + 4 * i, 4) & UINT32_MAX;
    *ret_counts = (struct counts){numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]};
    return true;
}

static size_t block_bytes(const struct counts *counts, size_t time_bytes)
{
    return counts->transitions * (time_bytes + 1) + counts->types * TYPE_BYTES + counts->characters
           + counts->leaps * (time_bytes + 4) + counts->standard_marks + counts->utc_marks;
}

static bool take_transitions(const unsigned char *at, const struct counts *counts, struct weir_zone *zone)
{
    const unsigned char *indexes = at + counts->transitions * 8, *types = indexes + counts->transitions;

    zone->first_offset = big_endian(types, 4);
    zone->times = weir_new_array(counts->transitions, sizeof *zone->times);
    zone->offsets = weir_new_array(counts->transitions, sizeof *zone->offsets);
    for (zone->count = 0; zone->count < counts->transitions; zone->count++) {
        size_t type = indexes[zone->count];
        zone->times[zone->count] = big_endian(at + zone->count * 8, 8);
        if (type >= counts->types || (zone->count > 0 && zone->times[zone->count] <= zone->times[zone->count - 1]))
            return false;
        zone->offsets[zone->count] = big_endian(types + type * TYPE_BYTES, 4);
    }
    return true;
}

static bool parse_file(const unsigned char *bytes, size_t length, struct weir_zone *zone)
{
    struct counts counts;
    char text[256];

    if (!read_header(bytes, length, &counts))
        return false;
    size_t second = HEADER_BYTES + block_bytes(&counts, 4);
    if (second > length || !read_header(bytes + second, length - second, &counts))
        return false;
    /* Leap seconds are no part of POSIX time, so a file that counts them ("right/...") is none of ours. */
    size_t data = second + HEADER_BYTES, footer = data + block_bytes(&counts, 8);
    if (footer >= length || counts.types == 0 || counts.leaps > 0 || !take_transitions(bytes + data, &counts, zone))
        return false;
    const unsigned char *end = memchr(bytes + footer + 1, '\n', length - footer - 1);
    if (bytes[footer] != '\n' || !end || (size_t)(end - bytes) - footer > sizeof text)
        return false;
    size_t text_length = (size_t)(end - bytes) - footer - 1;
    memcpy(text, bytes + footer + 1, text_length);
    text[text_length] = '\0';
    return text_length == 0 || parse_rule(text, &zone->rule);
}

struct weir_zone *weir_zone_read(const unsigned char *bytes, size_t length)
{
    struct weir_zone *zone = weir_new(sizeof *zone);

    return parse_file(bytes, length, zone) ? zone : weir_zone_close(zone);
}

/* An IANA name: letters, digits and a few signs, parts between slashes. What depends on the machine is none. */
static bool is_zone_name(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/";
    size_t length = strlen(name);

    return length > 0 && length <= NAME_BYTES_MAX && strspn(name, allowed) == length && name[0] != '/'
           && name[length - 1] != '/' && !strstr(name, "//") && strncmp(name, "posix/", 6) != 0
           && strcmp(name, "localtime") != 0 && strcmp(name, "posixrules") != 0;
}

struct weir_zone *weir_zone_open(const char *name)
{
    char path[NAME_BYTES_MAX + 32];

    if (!is_zone_name(name))
        return NULL;
    snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", name);
    FILE *file = fopen(path, "re");
    if (!file)
        return NULL;
    unsigned char *bytes = weir_new(FILE_BYTES_MAX);
    size_t length = fread(bytes, 1, FILE_BYTES_MAX, file); /* a folder reads as nothing */
    struct weir_zone *zone = weir_zone_read(bytes, length);
    free(bytes);
    fclose(file);
    return zone;
}

/* The first line of tzdata.zi, the rules as text: "# version 2025b". */
size_t weir_zone_version(char text[WEIR_ZONE_VERSION_MAX])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
    char line[64] = "";
    FILE *file = fopen("/usr/share/zoneinfo/tzdata.zi", "re");
    bool is_read = file && fgets(line, sizeof line, file);

    if (file)
        fclose(file);
    const char *version = line + strlen("# version ");
    size_t length = is_read && strncmp(line, "# version ", strlen("# version ")) == 0 ? strspn(version, letters) : 0;
    if (length == 0 || length >= WEIR_ZONE_VERSION_MAX)
        return (size_t)snprintf(text, WEIR_ZONE_VERSION_MAX, "unknown");
    return (size_t)snprintf(text, WEIR_ZONE_VERSION_MAX, "%.*s", (int)length, version);
}

struct weir_zone *weir_zone_close(struct weir_zone *zone)
{
    if (zone) {
        free(zone->times);
        free(zone->offsets);
    }
    free(zone);
    return NULL;
}

int64_t weir_zone_offset(const struct weir_zone *zone, int64_t instant)
{
    size_t low = 0, high = zone->count; /* how many transitions have come */

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->times[middle] <= instant)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == zone->count && zone->rule.is_there)
        return rule_offset(&zone->rule, instant);
    return low > 0 ? zone->offsets[low - 1] : zone->first_offset;
}
