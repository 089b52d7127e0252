/* Keys that come and go in any order, of all sizes: each stays what it was, and what is removed is used again. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "aggregator/series_keys.h"

enum { KEYS = 2000, STEPS = 60000, LENGTHS = 700 };

static uint32_t random_state = 11;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * 1664525 + 1013904223;
    return (uint32_t)(((uint64_t)random_state * below) >> 32);
}

Test(series_keys, stay_what_they_were)
{
    static struct {
        char *key;
        size_t length;
        char letter;
    } known[KEYS];
    char text[LENGTHS + 1];
    struct weir_series_keys *keys = weir_series_keys_new();
    size_t half = 0;

    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t at = draw(KEYS);
        if (known[at].key) {
            for (size_t i = 0; i < known[at].length; i++)
                cr_assert_eq(known[at].key[i], known[at].letter);
            weir_series_keys_remove(keys, known[at].key, known[at].length);
            known[at].key = NULL;
        } else {
            known[at].length = 1 + draw(draw(8) ? 64 : LENGTHS);
            known[at].letter = (char)('a' + draw(26));
            memset(text, known[at].letter, known[at].length);
            known[at].key = weir_series_keys_add(keys, weir_slice_of(text, known[at].length));
            cr_assert(known[at].length >= 512 || (uintptr_t)known[at].key % 16 == 0);
        }
        if (step == STEPS / 2)
            half = weir_series_keys_bytes(keys);
    }
    cr_assert_leq(weir_series_keys_bytes(keys), half + half / 4, "what was removed is not used again");
    for (uint32_t i = 0; i < KEYS; i++)
        if (known[i].key)
            weir_series_keys_remove(keys, known[i].key, known[i].length);
    weir_series_keys_free(keys);
    cr_assert_null(weir_series_keys_free(NULL));
}
