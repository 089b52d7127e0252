#include "common/shown.h"

#include <glib.h>

/* How many bytes the character has that begins with this one, were it whole; 0: none begins so. */
static uint32_t length_by(unsigned char first)
{
    return first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
}

struct weir_shown_character weir_shown_first(struct weir_slice text)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *at = (const unsigned char *)text.data;
    uint32_t length = length_by(at[0]);
    bool is_good = length > 0 && length <= text.length;
    uint32_t code = length <= 1 ? at[0] : at[0] & (0x7fu >> length);

    for (uint32_t i = 1; i < length && is_good; i++) {
        is_good = (at[i] & 0xc0) == 0x80;
        code = code << 6 | (at[i] & 0x3f);
    }
    is_good = is_good && code >= least[length] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    return is_good ? (struct weir_shown_character){code, length}
                   : (struct weir_shown_character){WEIR_SHOWN_NOT_UTF8, 1};
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
