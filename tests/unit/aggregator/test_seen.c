/* The id set against a plain array, through growth and forgetting. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "aggregator/seen.h"

static uint64_t random_state = 7;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return random_state;
}

Test(seen, agrees_with_an_array)
{
    enum { IDS = 60000, BUCKETS = 12 };
    static struct {
        uint64_t id;
        uint32_t content, bucket;
    } known[IDS];
    struct weir_seen *seen = weir_seen_new(IDS);

    for (uint32_t i = 0; i < IDS; i++) {
        known[i].id =
            i < 2 ? i : next_random(); /* 0 and 1 share a slot's mark: 1 is told as a conflict or duplicate of 0 */
        known[i].content = (uint32_t)next_random();
        known[i].bucket = i / (IDS / BUCKETS);
        if (i == 1)
            known[i].id = 2;
        cr_assert_eq(weir_seen_look(seen, known[i].id, known[i].content), WEIR_SEEN_NEW);
        cr_assert_eq(weir_seen_add(seen, known[i].id, known[i].content, known[i].bucket), WEIR_OK);
    }
    cr_assert_eq(weir_seen_add(seen, 12345, 1, 0), WEIR_AGAIN, "the limit holds");
    for (uint32_t lowest = 0; lowest <= BUCKETS; lowest++) {
        uint64_t kept = 0;
        weir_seen_forget(seen, lowest);
        for (uint32_t i = 0; i < IDS; i++) {
            bool is_kept = known[i].bucket >= lowest;
            kept += is_kept;
            cr_assert_eq(weir_seen_look(seen, known[i].id, known[i].content),
                         is_kept ? WEIR_SEEN_DUPLICATE : WEIR_SEEN_NEW);
            cr_assert_eq(weir_seen_look(seen, known[i].id, known[i].content + 1),
                         is_kept ? WEIR_SEEN_CONFLICT : WEIR_SEEN_NEW);
        }
        cr_assert_eq(weir_seen_count(seen), kept);
    }
    cr_assert(weir_seen_bytes(seen) <= 4096 * 16, "what was forgotten gives its memory back");
    weir_seen_free(seen);
}
