#include "common/shown.h"

#include <glib.h>

struct weir_shown_character weir_shown_first(struct weir_slice text)
{
    gunichar code = g_utf8_get_char_validated(text.data, (gssize)text.length);

    if (code == (gunichar)-1 || code == (gunichar)-2) /* none, or not all of one */
        return (struct weir_shown_character){WEIR_SHOWN_NOT_UTF8, 1};
    return (struct weir_shown_character){code, (uint32_t)g_unichar_to_utf8(code, NULL)};
}

bool weir_shown_is_harmful(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x202a && code <= 0x202e)
           || (code >= 0x2066 && code <= 0x2069);
}

static bool is_replaced(uint32_t code)
{
    return code == WEIR_SHOWN_NOT_UTF8 || weir_shown_is_harmful(code);
}

/* How many bytes stand for themselves and take a column each: nearly always all. */
static uint32_t plain_length(struct weir_slice text)
{
    uint32_t at = 0;

    while (at < text.length && text.data[at] >= 0x20 && text.data[at] < 0x7f)
        at++;
    return at;
}

static struct weir_slice from(struct weir_slice text, uint32_t at)
{
    return (struct weir_slice){text.data + at, text.length - at};
}

uint32_t weir_shown_copy(struct weir_slice text, char *to)
{
    uint32_t at = plain_length(text), used = at;

    if (at > 0)
        memcpy(to, text.data, at);
    while (at < text.length) {
        struct weir_shown_character character = weir_shown_first(from(text, at));
        if (is_replaced(character.code)) {
            to[used++] = '?';
        } else {
            memcpy(to + used, text.data + at, character.length);
            used += character.length;
        }
        at += character.length;
    }
    return used;
}

void weir_shown_put(FILE *output, const char *text)
{
    struct weir_slice rest = weir_slice_text(text);

    for (;;) {
        uint32_t plain = plain_length(rest);
        fwrite(rest.data, 1, plain, output);
        rest = from(rest, plain);
        if (rest.length == 0)
            return;
        char shown[4];
        struct weir_shown_character character = weir_shown_first(rest);
        fwrite(shown, 1, weir_shown_copy(weir_slice_of(rest.data, character.length), shown), output);
        rest = from(rest, character.length);
    }
}

size_t weir_shown_width(struct weir_slice text)
{
    uint32_t at = plain_length(text);
    size_t width = at;

    while (at < text.length) {
        struct weir_shown_character character = weir_shown_first(from(text, at));
        if (is_replaced(character.code) || !g_unichar_iszerowidth(character.code))
            width += is_replaced(character.code) || !g_unichar_iswide(character.code) ? 1 : 2;
        at += character.length;
    }
    return width;
}
