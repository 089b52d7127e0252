#include "common/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/calendar.h"
#include "common/shown.h"

#define WEIR_X(upper, lower) [WEIR_LOG_##upper] = #lower,
const char *const weir_log_level_name[WEIR_LOG_LEVEL_COUNT] = {WEIR_LOG_LEVELS(WEIR_X)};
#undef WEIR_X

static struct {
    const char *name;
    bool is_json;
    bool is_terminal;
    enum weir_log_level level;
} settings = {.name = "weir", .level = WEIR_LOG_INFO}; /* written once, before threads start */

#define CLEAR_LINE "\r\033[K"

/* Whether a progress line stands where the next line would begin; the lock is held across the write that it is about.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool is_progress_shown;

void weir_log_open(const char *name, bool is_json, enum weir_log_level level)
{
    settings.name = name;
    settings.is_json = is_json;
    settings.level = level;
    settings.is_terminal = isatty(STDERR_FILENO);
}

/* What a line may hold: no line breaks or other characters that a terminal obeys (messages quote what came from
 * outside), in JSON valid UTF-8 and escaped quotes too. Returns how many bytes it wrote, at most room. */
static size_t escape(char *to, size_t room, const char *text, bool is_json)
{
    static const char hex[] = "0123456789abcdef";
    struct weir_slice rest = weir_slice_text(text);
    size_t used = 0;

    while (rest.length > 0 && used + 6 <= room) {
        struct weir_shown_character character = weir_shown_first(rest);
        if (character.code == WEIR_SHOWN_NOT_UTF8) {
            memcpy(to + used, "\xef\xbf\xbd", 3); /* U+FFFD */
            used += 3;
        } else if (weir_shown_is_harmful(character.code)) { /* none is above U+FFFF */
            to[used++] = '\\';
            to[used++] = 'u';
            for (int shift = 12; shift >= 0; shift -= 4)
                to[used++] = hex[character.code >> shift & 15];
        } else {
            if (is_json && (character.code == '"' || character.code == '\\'))
                to[used++] = '\\';
            memcpy(to + used, rest.data, character.length);
            used += character.length;
        }
        rest = weir_slice_of(rest.data + character.length, rest.length - character.length);
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

static void write_all(const char *text, size_t length)
{
    if (write(STDERR_FILENO, text, length) < 0)
        return; /* nobody to tell */
}

/* text begins with CLEAR_LINE, which is left out where there is nothing to clear. */
static void write_text(const char *text, size_t length)
{
    pthread_mutex_lock(&lock);
    size_t from = is_progress_shown ? 0 : strlen(CLEAR_LINE);
    is_progress_shown = false;
    write_all(text + from, length - from);
    pthread_mutex_unlock(&lock);
}

static void write_line(enum weir_log_level level, bool is_plain, const char *format, va_list arguments)
{
    static const char *const colours[WEIR_LOG_LEVEL_COUNT] = {"\033[31m", "\033[33m", "", "\033[2m"};
    char message[WEIR_LOG_LINE_MAX], text[sizeof CLEAR_LINE + 2 * WEIR_LOG_LINE_MAX] = CLEAR_LINE;
    char *line = text + strlen(CLEAR_LINE), time[WEIR_TIME_TEXT_MAX];
    const size_t room = 2 * WEIR_LOG_LINE_MAX;
    const char *colour = settings.is_terminal && !settings.is_json && !is_plain ? colours[level] : "";
    int length;

    (void)vsnprintf(message, sizeof message, format, arguments);
    format_now(time);
    if (settings.is_json)
        length = snprintf(line, room, "{\"time\":\"%s\",\"level\":\"%s\",\"command\":\"%s\",\"message\":\"", time,
                          weir_log_level_name[level], settings.name);
    else if (is_plain)
        length = snprintf(line, room, "%s: ", settings.name);
    else
        length = snprintf(line, room, "%s%s %-5s %s: ", colour, time, weir_log_level_name[level], settings.name);
    length += (int)escape(line + length, room - (size_t)length - 8, message, settings.is_json);
    length += snprintf(line + length, 8, "%s%s\n", settings.is_json ? "\"}" : "", *colour ? "\033[0m" : "");
    write_text(text, (size_t)(line - text) + (size_t)length);
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

void weir_log_progress(const char *text)
{
    char line[sizeof CLEAR_LINE + WEIR_LOG_PROGRESS_MAX] = CLEAR_LINE;
    size_t length = strlen(CLEAR_LINE);

    if (settings.is_json)
        return;
    if (text)
        length += weir_shown_copy(weir_slice_of(text, strnlen(text, WEIR_LOG_PROGRESS_MAX)), line + length);
    pthread_mutex_lock(&lock);
    if (text || is_progress_shown)
        write_all(line, length);
    is_progress_shown = text != NULL;
    pthread_mutex_unlock(&lock);
}
