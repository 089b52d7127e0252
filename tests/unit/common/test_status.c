/* Tables that grow: what is in them stays, from a few bytes to many huge pages. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/status.h"

Test(tables, keep_what_is_in_them_and_stand_on_lines)
{
    enum { FIRST = 100, LAST = 3 << 20, HUGE_PAGE = 2 << 20 };
    uint64_t *table = NULL;
    size_t room = 0;

    while (room < LAST) {
        size_t more = room ? room * 2 + room / 3 : FIRST;
        table = weir_resize_table(table, room, more, sizeof *table);
        cr_assert_eq((uintptr_t)table % (more * sizeof *table >= (size_t)HUGE_PAGE ? HUGE_PAGE : 64), 0);
        for (size_t i = 0; i < room; i++)
            cr_assert_eq(table[i], i * 7);
        for (size_t i = room; i < more; i++)
            table[i] = i * 7;
        room = more;
    }
    cr_assert_null(weir_resize_table(table, room, 0, sizeof *table));
    cr_assert_null(weir_resize_table(NULL, 0, 0, 1));
}

/* What wraps around, or would when it is rounded up, to some megabytes is not taken for those. Each ends the process.
 */
#define REFUSED(name, call)                                                                                            \
    Test(tables, name, .exit_code = EXIT_FAILURE)                                                                      \
    {                                                                                                                  \
        volatile size_t wraps = SIZE_MAX / 8 + 1 + (2 << 20), all = SIZE_MAX - 5;                                      \
        (void)wraps, (void)all;                                                                                        \
        (void)(call);                                                                                                  \
    }
REFUSED(refuse_an_array_that_wraps_around, weir_new_array(wraps, 8))
REFUSED(refuse_an_array_of_all_memory, weir_new_array(all, 1))
REFUSED(refuse_to_grow_an_array_that_wraps_around, weir_resize(NULL, wraps, 8))
REFUSED(refuse_to_grow_a_table_that_wraps_around, weir_resize_table(NULL, 0, wraps, 8))
REFUSED(refuse_to_grow_a_table_of_all_memory, weir_resize_table(NULL, 0, all, 1))
