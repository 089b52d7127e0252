#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/calendar.h"

#define WEIR_X(upper, lower) [WEIR_LOG_##upper] = #lower,
const char *const weir_log_level_name[WEIR_LOG_LEVEL_COUNT] = {WEIR_LOG_LEVELS(WEIR_X)};
#undef WEIR_X

static struct {
    const char *name;
    bool is_json;
    bool is_terminal;
    enum weir_log_level level;
} settings = {.name = "weir", .level = WEIR_LOG_INFO}; /* written once, before threads start */

void weir_log_open(const char *name, bool is_json, enum weir_log_level level)
{
    settings.name = name;
    settings.is_json = is_json;
    settings.level = level;
    settings.is_terminal = isatty(STDERR_FILENO);
}

/* How many bytes the UTF-8 character at `at` has; 0: there is none. The NUL behind the text ends every sequence. */
static size_t character_length(const unsigned char *at)
{
    size_t length = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;

    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    bool is_overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool is_beyond = (at[0] == 0xed && at[1] >= 0xa0) || (at[0] == 0xf4 && at[1] >= 0x90); /* surrogates, U+110000 on */
    return is_overlong || is_beyond ? 0 : length;
}

/* What a line may hold: no line breaks or other control characters (messages quote what came from outside), in JSON
 * valid UTF-8 and escaped quotes too. Returns how many bytes it wrote, at most room. */
static size_t escape(char *to, size_t room, const char *text, bool is_json)
{
    static const char hex[] = "0123456789abcdef";
    size_t used = 0, length;

    for (; *text && used + 6 <= room; text += length ? length : 1) {
        unsigned char c = (unsigned char)*text;
        length = character_length((const unsigned char *)text);
        if (length == 0) {
            memcpy(to + used, "\xef\xbf\xbd", 3); /* U+FFFD */
            used += 3;
        } else if (c < 0x20 || c == 0x7f) {
            memcpy(to + used, "\\u00", 4);
            to[used + 4] = hex[c >> 4];
            to[used + 5] = hex[c & 15];
            used += 6;
        } else {
            if (is_json && (c == '"' || c == '\\'))
                to[used++] = '\\';
            memcpy(to + used, text, length);
            used += length;
        }
    }
    return used;
}

/* Always to the millisecond: columns stay where they are. */
static void format_now(char text[WEIR_TIME_TEXT_MAX])
{
    int64_t now = weir_time_now();
    size_t length = weir_time_format(now / WEIR_SECOND * WEIR_SECOND, text); /* ends in "Z" */

    snprintf(text + length - 1, WEIR_TIME_TEXT_MAX - length + 1, ".%03dZ", (int)(now % WEIR_SECOND / 1000000));
}

static void write_line(enum weir_log_level level, bool is_plain, const char *format, va_list arguments)
{
    static const char *const colours[WEIR_LOG_LEVEL_COUNT] = {"\033[31m", "\033[33m", "", "\033[2m"};
    char message[WEIR_LOG_LINE_MAX], line[2 * WEIR_LOG_LINE_MAX], time[WEIR_TIME_TEXT_MAX];
    const char *colour = settings.is_terminal && !settings.is_json && !is_plain ? colours[level] : "";
    int length;

    (void)vsnprintf(message, sizeof message, format, arguments);
    format_now(time);
    if (settings.is_json)
        length = snprintf(line, sizeof line, "{\"time\":\"%s\",\"level\":\"%s\",\"command\":\"%s\",\"message\":\"",
                          time, weir_log_level_name[level], settings.name);
    else if (is_plain)
        length = snprintf(line, sizeof line, "%s: ", settings.name);
    else
        length = snprintf(line, sizeof line, "%s%s %-5s %s: ", colour, time, weir_log_level_name[level], settings.name);
    length += (int)escape(line + length, sizeof line - (size_t)length - 8, message, settings.is_json);
    length += snprintf(line + length, 8, "%s%s\n", settings.is_json ? "\"}" : "", *colour ? "\033[0m" : "");
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        return; /* nobody to tell */
}

void weir_log(enum weir_log_level level, const char *format, ...)
{
    va_list arguments;

    if (level > settings.level)
        return;
    va_start(arguments, format);
    write_line(level, false, format, arguments);
    va_end(arguments);
}

void weir_log_plain(enum weir_log_level level, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    write_line(level, true, format, arguments);
    va_end(arguments);
}
