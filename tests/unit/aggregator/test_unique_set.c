/* The set of distinct texts against a plain array: from a list to a table, with texts that are stored and some that are
 * not at every size. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/unique_set.h"

enum { TEXTS = 100, ROUNDS = 200 };

static uint32_t random_state = 5;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * 1664525 + 1013904223;
    return (uint32_t)(((uint64_t)random_state * below) >> 32);
}

/* Number 0 is the fingerprint that marks a free place, 1 the one that it is stored as. */
static struct weir_hash128 text_of(uint32_t number)
{
    return (struct weir_hash128){number, number < 2 ? 0 : number * UINT64_C(0x9E3779B97F4A7C15)};
}

static uint32_t stored_number(uint32_t number)
{
    return number ? number : 1;
}

static void check_fresh(const struct weir_unique_set *set, const uint32_t *fresh, uint32_t count)
{
    struct weir_slice texts = weir_unique_set_new_texts(set);

    cr_assert_eq(texts.length, count * sizeof(struct weir_hash128));
    for (uint32_t i = 0; i < count; i++) {
        struct weir_hash128 want = text_of(stored_number(fresh[i]));
        cr_assert_eq(memcmp(texts.data + i * sizeof want, &want, sizeof want), 0, "in the order in which they came");
    }
}

Test(unique_set, agrees_with_an_array)
{
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct weir_unique_set *set = weir_unique_set_new();
        bool is_there[TEXTS] = {false};
        uint32_t fresh[TEXTS], fresh_count = 0, count = 0, wanted = draw(round % 2 ? 12 : TEXTS - 1);

        for (uint32_t restored = round % 3 ? draw(20) : 0; restored > 0; restored--) {
            uint32_t number = stored_number(draw(TEXTS));
            struct weir_hash128 text = text_of(number);
            weir_unique_set_restore(set, weir_slice_of((const char *)&text, sizeof text));
            count += !is_there[number];
            is_there[number] = true;
        }
        check_fresh(set, fresh, 0);
        while (count < wanted) {
            uint32_t number = draw(TEXTS), stored = stored_number(number);
            cr_assert_eq(weir_unique_set_has(set, text_of(number)), is_there[stored]);
            weir_unique_set_add(set, text_of(number));
            if (!is_there[stored])
                fresh[fresh_count++] = number;
            count += !is_there[stored];
            is_there[stored] = true;
            cr_assert_eq(weir_unique_set_count(set), count);
            check_fresh(set, fresh, fresh_count);
            if (draw(6) == 0) {
                weir_unique_set_mark_stored(set);
                fresh_count = 0;
            }
        }
        for (uint32_t i = 0; i < TEXTS; i++)
            cr_assert_eq(weir_unique_set_has(set, text_of(i)), is_there[stored_number(i)]);
        weir_unique_set_free(set);
    }
}
