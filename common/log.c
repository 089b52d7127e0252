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

/* Inside a JSON string. Returns how many bytes it wrote, at most room. */
static size_t escape(char *to, size_t room, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    size_t used = 0;

    for (; *text && used + 6 <= room; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            to[used++] = '\\';
            to[used++] = (char)c;
        } else if (c < 0x20) {
            memcpy(to + used, "\\u00", 4);
            to[used + 4] = hex[c >> 4];
            to[used + 5] = hex[c & 15];
            used += 6;
        } else {
            to[used++] = (char)c;
        }
    }
    return used;
}

void weir_log(enum weir_log_level level, const char *format, ...)
{
    static const char *const colours[WEIR_LOG_LEVEL_COUNT] = {"\033[31m", "\033[33m", "", "\033[2m"};
    char message[WEIR_LOG_LINE_MAX], line[2 * WEIR_LOG_LINE_MAX], time[WEIR_TIME_TEXT_MAX];
    va_list arguments;
    int length;

    if (level > settings.level)
        return;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    weir_time_format(weir_time_now() / 1000000 * 1000000, time);
    if (settings.is_json) {
        length = snprintf(line, sizeof line, "{\"time\":\"%s\",\"level\":\"%s\",\"command\":\"%s\",\"message\":\"", time,
                          weir_log_level_name[level], settings.name);
        length += (int)escape(line + length, sizeof line - (size_t)length - 4, message);
        length += snprintf(line + length, 4, "\"}\n");
    } else {
        const char *colour = settings.is_terminal ? colours[level] : "";
        length = snprintf(line, sizeof line, "%s%s %-5s %s: %s%s\n", colour, time, weir_log_level_name[level],
                          settings.name, message, *colour ? "\033[0m" : "");
    }
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        return; /* nobody to tell */
}
