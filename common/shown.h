/* Text from outside as people are shown it, in tables, in sentences and in log lines: a terminal obeys control
 * characters and turns round what stands between bidirectional ones, so neither gets there. What programs read (JSON,
 * CSV) is exact and has nothing to do with this.
 *
 * Whatever the locale says, text is UTF-8. Any thread.
 */
#ifndef WEIR_COMMON_SHOWN_H
#define WEIR_COMMON_SHOWN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/slice.h"

#define WEIR_SHOWN_NOT_UTF8 UINT32_MAX

struct weir_shown_character {
    uint32_t code; /* WEIR_SHOWN_NOT_UTF8: the byte begins no character */
    uint32_t length;
};

/* The character that text, which is not empty, begins with. */
struct weir_shown_character weir_shown_first(struct weir_slice text);

/* Controls (C0, DEL and C1), and those that embed, override and isolate directions. */
bool weir_shown_is_harmful(uint32_t code);

/* A copy with a '?' for each harmful character, and for each byte that is none: into `to`, which has room for as many
 * bytes as text. Returns how many it took. */
uint32_t weir_shown_copy(struct weir_slice text, char *to);
/* The same, written. */
void weir_shown_put(FILE *output, const char *text);

/* Columns of a terminal that the copy takes: two for a wide character, none for one that combines. */
size_t weir_shown_width(struct weir_slice text);

#endif
