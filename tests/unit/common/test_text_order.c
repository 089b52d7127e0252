/* Texts in order, against comparing each with each: with common beginnings of every length, ends that are zeros, equal
 * ones. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "common/text_order.h"

enum { ROUNDS = 300, TEXTS = 700, BYTES = 40 };

static uint32_t draw(uint32_t *random, uint32_t below)
{
    *random = *random * 1664525 + 1013904223;
    return (*random >> 8) % below;
}

/* A few bytes of an alphabet of few, the zero among them, so that many are the same for long. */
static struct weir_slice make_text(uint32_t *random, char *bytes, uint32_t common, uint32_t most)
{
    static const char alphabet[] = {'\0', 'a', 'b', (char)0xFF};
    uint32_t length = common + draw(random, draw(random, 2) ? 4 : BYTES - common), letters = 1 + draw(random, 4);

    length = length < common + most ? length : common + most;

    memset(bytes, 'x', common);
    for (uint32_t i = common; i < length; i++)
        bytes[i] = alphabet[draw(random, letters)];
    return weir_slice_of(bytes, length);
}

Test(text_order, is_that_of_comparing_and_stable)
{
    static char bytes[TEXTS][BYTES];
    static struct weir_slice texts[TEXTS];
    static uint32_t order[TEXTS], seen[TEXTS];
    uint32_t random = 1;

    for (uint32_t round = 1; round <= ROUNDS; round++) {
        uint32_t count = draw(&random, round % 3 ? 60 : TEXTS + 1), common = draw(&random, 2) * draw(&random, 20);
        uint32_t most = draw(&random, 2) ? BYTES : draw(&random, 3); /* behind that */
        for (uint32_t i = 0; i < count; i++)
            texts[i] = make_text(&random, bytes[i], common, most);
        weir_text_order(texts, count, order);
        for (uint32_t i = 0; i < count; i++) {
            cr_assert_lt(order[i], count);
            cr_assert_neq(seen[order[i]], round, "round %u: one stands twice", round);
            seen[order[i]] = round;
            if (i == 0)
                continue;
            int compared = weir_slice_compare(texts[order[i - 1]], texts[order[i]]);
            cr_assert(compared < 0 || (compared == 0 && order[i - 1] < order[i]), "round %u, place %u", round, i);
        }
    }
}
