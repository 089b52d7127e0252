#include <criterion/criterion.h>
#include <stdint.h>

#include "common/arena.h"

static bool is_zero(const unsigned char *piece, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (piece[i])
            return false;
    return true;
}

/* Pieces of all sizes, one after the other, each filled: none may be dirty, and none may touch another. */
static void fill(struct weir_arena *arena, int count)
{
    unsigned char *last = NULL;
    size_t last_size = 0;

    for (int i = 0; i < count; i++) {
        size_t size = i % 50 == 49 ? 100000 + (size_t)i : 1 + (size_t)i * 37 % 3000;
        unsigned char *piece = weir_arena_take(arena, size);
        cr_assert_eq((uintptr_t)piece % 16, 0);
        cr_assert(is_zero(piece, size), "piece %d of %zu bytes is dirty", i, size);
        memset(piece, 0xff, size);
        for (size_t k = 0; last && k < last_size; k++)
            cr_assert_eq(last[k], 0xff);
        last = piece;
        last_size = size;
    }
}

Test(arena, pieces_are_zeroed_also_after_a_clear)
{
    struct weir_arena *arena = weir_arena_new();

    weir_arena_clear(arena); /* of nothing */
    for (int round = 0; round < 4; round++) {
        fill(arena, 50 + 200 * (round % 3));
        weir_arena_clear(arena);
    }
    weir_arena_free(arena);
}

Test(arena, copies_end_with_a_nul)
{
    struct weir_arena *arena = weir_arena_new();
    struct weir_slice copy = weir_arena_copy(arena, "weirdly", 4);

    cr_assert_eq(copy.length, 4);
    cr_assert_str_eq(copy.data, "weir");
    cr_assert_null(weir_arena_take_array(arena, 0, 8));
    weir_arena_free(arena);
}
