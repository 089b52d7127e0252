/* Memory with one lifespan: many small pieces, given back all at once.
 *
 * Pieces are zeroed, aligned for any type and never move. Memory running out ends the process (common/status.h), so a
 * piece is never NULL. One thread at a time.
 */
#ifndef WEIR_COMMON_ARENA_H
#define WEIR_COMMON_ARENA_H

#include <stdarg.h>
#include <stddef.h>

#include "common/slice.h"

struct weir_arena;

struct weir_arena *weir_arena_new(void);
struct weir_arena *weir_arena_free(struct weir_arena *arena); /* NULL in, NULL out */
/* Takes all pieces back; the memory is kept for the next ones, so that a batch after a batch asks the system for
 * nothing.
 */
void weir_arena_clear(struct weir_arena *arena);

void *weir_arena_take(struct weir_arena *arena, size_t size);
/* count * size bytes; the product is checked. count 0 gives NULL. */
void *weir_arena_take_array(struct weir_arena *arena, size_t count, size_t size);
/* A copy with a NUL behind its last byte, so that .data is a C string as well. */
struct weir_slice weir_arena_copy(struct weir_arena *arena, const char *data, size_t length);
const char *weir_arena_print(struct weir_arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *weir_arena_vprint(struct weir_arena *arena, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

#endif
