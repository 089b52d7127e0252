/* The text of JSON strings: escapes undone, faults located, and pieces shown in error messages. */
#ifndef WEIR_INGEST_JSON_TEXT_H
#define WEIR_INGEST_JSON_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/slice.h"

enum weir_unescaped {
    WEIR_UNESCAPED,
    WEIR_UNESCAPED_BAD,  /* no escape sequence */
    WEIR_UNESCAPED_HALF, /* half of a surrogate pair */
    WEIR_UNESCAPED_NUL,  /* \u0000 */
};

/* Undoes the escapes of a string's inside, whose first backslash is known, into `out` (room for text.length bytes, not
 * overlapping). WEIR_UNESCAPED sets *ret_text, else *reterr_place is the backslash to blame. */
enum weir_unescaped weir_unescape(struct weir_slice text, const char *backslash, char *out, struct weir_slice *ret_text,
                                  const char **reterr_place);

/* The first backslash in [begin, end), or end. */
static inline const char *weir_find_backslash(const char *begin, const char *end)
{
    const char *found = begin < end ? memchr(begin, '\\', (size_t)(end - begin)) : NULL;
    return found ? found : end;
}

/* For messages only, hence slow and simple: the place of the first byte that is not UTF-8, and of the first control
 * character within a string; length when there is none. */
size_t weir_find_bad_utf8(const char *text, size_t length);
size_t weir_find_control(const char *text, size_t length);

/* What stands at a place: `'x'`, `byte 0x1f` or `the end`. And a text (UTF-8) in double quotes, cut after some 48
 * bytes, with '?' for control characters. */
enum { WEIR_SHOWN_MAX = 64 };
void weir_show_byte(const char *text, size_t length, size_t place, char shown[WEIR_SHOWN_MAX]);
void weir_show_text(struct weir_slice text, char shown[WEIR_SHOWN_MAX]);

#endif
