#include "common/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/status.h"

#ifdef __SANITIZE_ADDRESS__
enum { KEEPS_BLOCKS = 0 }; /* so that the sanitizer sees whoever still looks at a piece */
#else
enum { KEEPS_BLOCKS = 1 };
#endif

enum { BLOCK_BYTES = 64 * 1024, ALIGNMENT = 16 };

struct block {
    struct block *next;
    size_t size; /* of bytes[] */
    size_t used;
    _Alignas(ALIGNMENT) unsigned char bytes[];
};

struct weir_arena {
    struct block *first; /* the one that pieces are cut from; the others are full or single large pieces */
    struct block *spare; /* emptied ones of BLOCK_BYTES */
};

struct weir_arena *weir_arena_new(void)
{
    return weir_new(sizeof(struct weir_arena));
}

static void free_blocks(struct block *block)
{
    for (struct block *next; block; block = next) {
        next = block->next;
        free(block);
    }
}

struct weir_arena *weir_arena_free(struct weir_arena *arena)
{
    if (!arena)
        return NULL;
    free_blocks(arena->first);
    free_blocks(arena->spare);
    free(arena);
    return NULL;
}

void weir_arena_clear(struct weir_arena *arena)
{
    for (struct block *block = arena->first, *next; block; block = next) {
        next = block->next;
        if (block->size != BLOCK_BYTES || !KEEPS_BLOCKS) {
            free(block);
            continue;
        }
        memset(block->bytes, 0, block->used);
        block->used = 0;
        block->next = arena->spare;
        arena->spare = block;
    }
    arena->first = NULL;
}

static struct block *take_block(struct weir_arena *arena, size_t room)
{
    struct block *block = arena->spare;

    if (room == BLOCK_BYTES && block) {
        arena->spare = block->next;
        return block;
    }
    block = weir_new(sizeof *block + room);
    block->size = room;
    return block;
}

void *weir_arena_take(struct weir_arena *arena, size_t size)
{
    weir_check(size <= SIZE_MAX / 2);
    size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    struct block *first = arena->first;
    if (first && first->size - first->used >= size) {
        void *piece = first->bytes + first->used;
        first->used += size;
        return piece;
    }
    size_t room = size > BLOCK_BYTES / 4 ? size : BLOCK_BYTES;
    struct block *block = take_block(arena, room);
    block->used = size;
    if (first && room != BLOCK_BYTES) { /* a large piece: keep cutting from the block that still has room */
        block->next = first->next;
        first->next = block;
    } else {
        block->next = first;
        arena->first = block;
    }
    return block->bytes;
}

void *weir_arena_take_array(struct weir_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    weir_check(!__builtin_mul_overflow(count, size, &bytes));
    return bytes ? weir_arena_take(arena, bytes) : NULL;
}

struct weir_slice weir_arena_copy(struct weir_arena *arena, const char *data, size_t length)
{
    weir_check(length < UINT32_MAX);
    char *copy = weir_arena_take(arena, length + 1);
    if (length)
        memcpy(copy, data, length);
    return weir_slice_of(copy, length);
}

const char *weir_arena_vprint(struct weir_arena *arena, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    weir_check(length >= 0);
    char *text = weir_arena_take(arena, (size_t)length + 1);
    (void)vsnprintf(text, (size_t)length + 1, format, arguments);
    return text;
}

const char *weir_arena_print(struct weir_arena *arena, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const char *text = weir_arena_vprint(arena, format, arguments);
    va_end(arguments);
    return text;
}
