/* Answers calendar questions, one a line, for tests that compare the answers with Python's zoneinfo and datetime.
 *
 *   period PERIOD WEEKDAY,MONTH,DAY ZONE TIME -> START END (the anchor counted from 0)
 *   window LENGTH TIME         -> START END
 *   parse TEXT (rest of line)  -> TIME or bad         format TIME        -> TEXT
 *   date DAYS                  -> YEAR MONTH DAY DAYS (the last from the date back)
 *   offset TZIF TIME...        -> seconds east of UTC at each (TZIF: a zone file in hexadecimal; times in seconds)
 *   duration TEXT              -> NANOSECONDS or bad, and back as text
 *
 * Times are nanoseconds since 1970. An unknown zone answers "zone".
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/calendar.h"
#include "common/zone_data.h"

/* The zone of the line before: questions come in long runs of one zone. */
static struct weir_zone *zone;
static char zone_name[128];

static int find(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    fprintf(stderr, "calendar_lines: no '%s'\n", name);
    exit(EXIT_FAILURE);
}

static bool take_zone(const char *name)
{
    if (zone && strcmp(zone_name, name) == 0)
        return true;
    zone = weir_zone_close(zone);
    snprintf(zone_name, sizeof zone_name, "%s", name);
    zone = weir_zone_open(name);
    return zone != NULL;
}

static void ask_period(char *rest)
{
    int64_t start, end;
    int period = find(weir_billing_period_name, WEIR_BILLING_PERIOD_COUNT, strtok_r(rest, " ", &rest));
    struct weir_billing_anchor anchor;
    weir_check(sscanf(strtok_r(NULL, " ", &rest), "%hhu,%hhu,%hhu", &anchor.weekday, &anchor.month, &anchor.day) == 3);
    bool is_known = take_zone(strtok_r(NULL, " ", &rest));

    if (!is_known) {
        puts("zone");
        return;
    }
    weir_period_of((enum weir_billing_period)period, anchor, zone, strtoll(rest, NULL, 10), &start, &end);
    printf("%" PRId64 " %" PRId64 "\n", start, end);
}

static void ask_window(char *rest)
{
    int64_t start, end;
    int length = find(weir_window_length_name, WEIR_WINDOW_LENGTH_COUNT, strtok_r(rest, " ", &rest));

    weir_window_of((enum weir_window_length)length, strtoll(rest, NULL, 10), &start, &end);
    printf("%" PRId64 " %" PRId64 "\n", start, end);
}

static void ask_date(const char *rest)
{
    int64_t year;
    int month, day;

    weir_date_of_days(strtoll(rest, NULL, 10), &year, &month, &day);
    printf("%" PRId64 " %d %d %" PRId64 "\n", year, month, day, weir_days_of_date(year, month, day));
}

static void ask_offsets(char *rest)
{
    const char *hex = strtok_r(rest, " ", &rest);
    size_t length = strlen(hex) / 2;
    unsigned char *bytes = weir_new_array(length ? length : 1, 1); /* just its size: ASan sees a byte read too far */
    unsigned byte;

    for (size_t i = 0; i < length && sscanf(hex + 2 * i, "%2x", &byte) == 1; i++)
        bytes[i] = (unsigned char)byte;
    struct weir_zone *read = weir_zone_read(bytes, length);
    free(bytes);
    if (!read)
        printf("zone");
    for (const char *time; read && (time = strtok_r(NULL, " ", &rest));)
        printf("%" PRId64 " ", weir_zone_offset(read, strtoll(time, NULL, 10)));
    puts("");
    weir_zone_close(read);
}

static void take_line(char *line)
{
    char text[WEIR_TIME_TEXT_MAX];
    int64_t value;

    line[strcspn(line, "\n")] = '\0';
    char *rest = strchr(line, ' ');
    weir_check(rest);
    *rest++ = '\0';
    if (strcmp(line, "period") == 0) {
        ask_period(rest);
    } else if (strcmp(line, "offset") == 0) {
        ask_offsets(rest);
    } else if (strcmp(line, "window") == 0) {
        ask_window(rest);
    } else if (strcmp(line, "date") == 0) {
        ask_date(rest);
    } else if (strcmp(line, "format") == 0) {
        weir_check(weir_time_format(strtoll(rest, NULL, 10), text) == strlen(text));
        puts(text);
    } else if (strcmp(line, "parse") == 0) {
        if (weir_time_parse(weir_slice_text(rest), &value))
            printf("%" PRId64 "\n", value);
        else
            puts("bad");
    } else if (weir_check(strcmp(line, "duration") == 0), weir_duration_parse(weir_slice_text(rest), &value)) {
        weir_duration_format(value, text);
        printf("%" PRId64 " %s\n", value, text);
    } else {
        puts("bad");
    }
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;

    while (getline(&line, &room, stdin) > 0)
        take_line(line);
    free(line);
    weir_zone_close(zone);
    return EXIT_SUCCESS;
}
