#include "ingest/json_text.h"

#include <stdbool.h>
#include <stdio.h>

enum { SHOWN_BYTES = 48 };

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four hex digits at `at`, or -1. */
static int32_t hex4(const char *at, const char *end)
{
    int32_t value = 0;

    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

static char *put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

/* *at is behind `\u`. Moves *at and *out behind what was read and written. */
static enum weir_unescaped unescape_unicode(const char **at, const char *end, char **out)
{
    int32_t c = hex4(*at, end);

    if (c < 0)
        return WEIR_UNESCAPED_BAD;
    if (c == 0)
        return WEIR_UNESCAPED_NUL;
    *at += 4;
    if (c >= 0xd800 && c <= 0xdfff) {
        int32_t low = end - *at >= 2 && (*at)[0] == '\\' && (*at)[1] == 'u' ? hex4(*at + 2, end) : -1;
        if (c >= 0xdc00 || low < 0xdc00 || low > 0xdfff)
            return WEIR_UNESCAPED_HALF;
        *at += 6;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    *out = put_utf8(*out, (uint32_t)c);
    return WEIR_UNESCAPED;
}

/* What a one-letter escape stands for; 0: there is none. */
static char unescape_letter(char c)
{
    switch (c) {
    case '"':
    case '\\':
    case '/':
        return c;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return 0;
    }
}

enum weir_unescaped weir_unescape(struct weir_slice text, const char *backslash, char *out, struct weir_slice *ret_text,
                                  const char **reterr_place)
{
    const char *end = text.data + text.length;
    const char *at = text.data;
    char *begin = out;

    while (at < end) {
        memcpy(out, at, (size_t)(backslash - at));
        out += backslash - at;
        if (backslash == end)
            break;
        at = backslash + 2;
        char c = at <= end ? backslash[1] : 0;
        enum weir_unescaped result = WEIR_UNESCAPED;
        if (c == 'u')
            result = unescape_unicode(&at, end, &out);
        else if ((*out++ = unescape_letter(c)) == 0)
            result = WEIR_UNESCAPED_BAD;
        if (result != WEIR_UNESCAPED) {
            *reterr_place = backslash;
            return result;
        }
        backslash = weir_find_backslash(at, end);
    }
    *ret_text = weir_slice_of(begin, (size_t)(out - begin));
    return WEIR_UNESCAPED;
}

/* Bytes of the UTF-8 character at `at`, 0 when it is none (Unicode 15, table 3-7). */
static size_t utf8_length(const unsigned char *at, size_t left)
{
    if (at[0] < 0x80)
        return 1;
    size_t length = at[0] >= 0xc2 && at[0] <= 0xdf   ? 2
                    : (at[0] & 0xf0) == 0xe0         ? 3
                    : at[0] >= 0xf0 && at[0] <= 0xf4 ? 4
                                                     : 0;
    if (length == 0 || left < length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    bool is_overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool is_beyond = (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf4 && at[1] > 0x8f);
    return is_overlong || is_beyond ? 0 : length;
}

size_t weir_find_bad_utf8(const char *text, size_t length)
{
    size_t at = 0;

    while (at < length) {
        size_t bytes = utf8_length((const unsigned char *)text + at, length - at);
        if (bytes == 0)
            break;
        at += bytes;
    }
    return at;
}

size_t weir_find_control(const char *text, size_t length)
{
    bool is_inside = false;

    for (size_t i = 0; i < length; i++) {
        bool is_escape = text[i] == '\\'; /* outside of strings as well: as the index sees it */
        if (is_escape && ++i == length)
            break;
        if (text[i] == '"' && !is_escape)
            is_inside = !is_inside;
        if (is_inside && (unsigned char)text[i] < 0x20)
            return i;
    }
    return length;
}

void weir_show_byte(const char *text, size_t length, size_t place, char shown[WEIR_SHOWN_MAX])
{
    if (place >= length) {
        (void)snprintf(shown, WEIR_SHOWN_MAX, "the end");
    } else if (text[place] > 0x20 && text[place] < 0x7f) {
        (void)snprintf(shown, WEIR_SHOWN_MAX, "'%c'", text[place]);
    } else {
        (void)snprintf(shown, WEIR_SHOWN_MAX, "byte 0x%02x", (unsigned char)text[place]);
    }
}

void weir_show_text(struct weir_slice text, char shown[WEIR_SHOWN_MAX])
{
    uint32_t length = text.length;

    if (length > SHOWN_BYTES)
        for (length = SHOWN_BYTES; length > 0 && ((unsigned char)text.data[length] & 0xc0) == 0x80; length--)
            ; /* not within a character */
    shown[0] = '"';
    for (uint32_t i = 0; i < length; i++)
        shown[i + 1] = (unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f ? '?' : text.data[i];
    (void)snprintf(shown + length + 1, WEIR_SHOWN_MAX - length - 1, length < text.length ? "...\"" : "\"");
}
