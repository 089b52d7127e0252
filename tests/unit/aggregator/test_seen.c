/* The id set against a plain array, through growth, changes of marks and forgetting. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "aggregator/seen.h"

static uint64_t random_state = 7;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return random_state;
}

static struct weir_id_mark any_mark(void)
{
    return (struct weir_id_mark){(uint32_t)next_random(), (uint32_t)next_random() >> (32 - WEIR_EFFECT_BITS),
                                 (enum weir_id_state)(next_random() % 4)};
}

static void assert_mark(struct weir_seen *seen, uint64_t id, struct weir_id_mark expected)
{
    struct weir_id_mark mark;

    cr_assert_eq(weir_seen_look(seen, id, expected.content, &mark), WEIR_SEEN_KNOWN);
    cr_assert(mark.content == (expected.content & WEIR_SEEN_CONTENT_MASK)
              && mark.effect == (expected.effect & WEIR_SEEN_EFFECT_MASK) && mark.state == expected.state);
    cr_assert_eq(weir_seen_look(seen, id, expected.content + 1, &mark), WEIR_SEEN_CONFLICT);
}

Test(seen, agrees_with_an_array)
{
    enum { IDS = 60000, BUCKETS = 12 };
    static struct {
        uint64_t id;
        struct weir_id_mark mark;
        uint32_t bucket;
    } known[IDS];
    struct weir_seen *seen = weir_seen_new(IDS);
    struct weir_id_mark mark;

    for (uint32_t i = 0; i < IDS; i++) {
        known[i].id = i < 2 ? i : next_random();
        known[i].mark = any_mark();
        known[i].bucket = i / (IDS / BUCKETS);
        cr_assert_eq(weir_seen_look(seen, known[i].id, known[i].mark.content, &mark), WEIR_SEEN_NEW);
        cr_assert_eq(weir_seen_set(seen, known[i].id, known[i].mark, known[i].bucket), WEIR_OK);
    }
    cr_assert_eq(weir_seen_set(seen, 12345, any_mark(), 0), WEIR_AGAIN, "the limit holds");
    for (uint32_t i = 0; i < IDS; i += 7) { /* voided later: another mark, a later bucket, no new id */
        known[i].mark.state = WEIR_ID_VOID;
        known[i].bucket = known[i].bucket < BUCKETS / 2 ? known[i].bucket + 3 : known[i].bucket;
        cr_assert_eq(weir_seen_set(seen, known[i].id, known[i].mark, known[i].bucket), WEIR_OK);
    }
    for (uint32_t lowest = 0; lowest <= BUCKETS; lowest++) {
        uint64_t kept = 0;
        weir_seen_forget(seen, lowest);
        for (uint32_t i = 0; i < IDS; i++) {
            kept += known[i].bucket >= lowest;
            if (known[i].bucket >= lowest)
                assert_mark(seen, known[i].id, known[i].mark);
            else
                cr_assert_eq(weir_seen_look(seen, known[i].id, known[i].mark.content, &mark), WEIR_SEEN_NEW);
        }
        cr_assert_eq(weir_seen_count(seen), kept);
    }
    cr_assert(weir_seen_bytes(seen) <= 4096 * 16, "what was forgotten gives its memory back");
    weir_seen_free(seen);
}

/* More buckets than a slot can tell apart, in any order: nothing is forgotten before its time, and all of it in the
 * end. */
Test(seen, many_buckets_are_remembered_longer_never_shorter)
{
    enum { IDS = 5000 };
    static uint32_t bucket[IDS];
    struct weir_seen *seen = weir_seen_new(IDS);
    struct weir_id_mark mark = {1, 2, WEIR_ID_COUNTED};

    for (uint32_t i = 0; i < IDS; i++) {
        bucket[i] = 1000 + i * 3 + (uint32_t)(next_random() % 900);
        cr_assert_eq(weir_seen_set(seen, i + 1, mark, bucket[i]), WEIR_OK);
    }
    cr_assert(weir_seen_is_crowded(seen));
    for (uint32_t lowest = 900; lowest < 18000; lowest += 450) {
        weir_seen_forget(seen, lowest);
        for (uint32_t i = 0; i < IDS; i++)
            if (bucket[i] >= lowest)
                cr_assert_eq(weir_seen_look(seen, i + 1, mark.content, &mark), WEIR_SEEN_KNOWN);
    }
    cr_assert_eq(weir_seen_count(seen), 0);
    cr_assert(!weir_seen_is_crowded(seen));
    weir_seen_free(seen);
}

Test(seen, a_record_keeps_every_mark)
{
    for (int i = 0; i < 10000; i++) {
        struct weir_id_mark mark = any_mark(), loaded;
        uint64_t id = next_random();
        char bytes[WEIR_ID_BYTES];
        weir_id_store(id, &mark, bytes);
        cr_assert_eq(weir_id_load(bytes, &loaded), id);
        cr_assert(loaded.content == mark.content && loaded.effect == mark.effect && loaded.state == mark.state);
    }
}

/* Room that was made beforehand, for fewer than come: segments leave it one by one, and nothing is lost. */
Test(seen, grows_out_of_what_was_expected)
{
    enum { EXPECTED = 100000, IDS = 2 * EXPECTED };
    static uint64_t ids[IDS];
    static struct weir_id_mark marks[IDS];
    struct weir_seen *seen = weir_seen_new(IDS);
    struct weir_id_mark mark;

    weir_seen_expect(seen, EXPECTED);
    size_t expected = weir_seen_bytes(seen);
    for (uint32_t i = 0; i < IDS; i++) {
        ids[i] = next_random() | 2;
        marks[i] = any_mark();
        weir_seen_prefetch(seen, ids[i]);
        cr_assert_eq(weir_seen_look(seen, ids[i], marks[i].content, &mark), WEIR_SEEN_NEW);
        cr_assert_eq(weir_seen_add(seen, ids[i], marks[i], 1), WEIR_OK);
        if (i == EXPECTED)
            cr_assert_lt(weir_seen_bytes(seen), expected + expected / 50);
    }
    for (uint32_t i = 0; i < IDS; i++)
        assert_mark(seen, ids[i], marks[i]);
    cr_assert_lt(weir_seen_bytes(seen), (size_t)IDS * 17, "the room of before is given back");
    weir_seen_forget(seen, 2);
    cr_assert_eq(weir_seen_count(seen), 0);
    weir_seen_free(seen);
}

/* Looked up together, as a group of events is, and added afterwards in another order, or not at all. */
Test(seen, an_id_is_added_where_it_belongs_whatever_was_looked_up_since)
{
    enum { IDS = 20000 };
    static uint64_t ids[IDS];
    struct weir_seen *seen = weir_seen_new(IDS);
    struct weir_id_mark mark = {1, 2, WEIR_ID_COUNTED};

    for (uint32_t i = 0; i < IDS; i += 2) {
        ids[i] = next_random();
        ids[i + 1] = next_random();
        cr_assert_eq(weir_seen_look(seen, ids[i], mark.content, &mark), WEIR_SEEN_NEW);
        cr_assert_eq(weir_seen_look(seen, ids[i + 1], mark.content, &mark), WEIR_SEEN_NEW);
        cr_assert_eq(weir_seen_set(seen, ids[i], mark, 1), WEIR_OK);
        cr_assert_eq(weir_seen_look(seen, ids[i + 1], mark.content, &mark), WEIR_SEEN_NEW);
        cr_assert_eq(weir_seen_look(seen, next_random(), mark.content, &mark), WEIR_SEEN_NEW);
        cr_assert_eq(weir_seen_add(seen, ids[i + 1], mark, 1), WEIR_OK);
    }
    for (uint32_t i = 0; i < IDS; i++)
        assert_mark(seen, ids[i], mark);
    weir_seen_free(seen);
}

/* All in one segment, whose blocks have to be found one after another; and all but the tag the same: what stands in a
 * block beyond those that are in use is not looked at, and a tag alone is no id. */
Test(seen, ids_that_differ_little_are_told_apart)
{
    enum { IDS = 4000 };
    struct weir_seen *seen = weir_seen_new(2 * IDS);
    struct weir_id_mark mark = {1, 2, WEIR_ID_COUNTED};

    for (uint64_t i = 0; i < IDS; i++) {
        uint64_t by_tag = i, by_rest = UINT64_C(7) << 56 | i << 16 | 9;
        cr_assert_eq(weir_seen_look(seen, by_tag, mark.content, &mark), WEIR_SEEN_NEW);
        cr_assert_eq(weir_seen_set(seen, by_tag, mark, 1), WEIR_OK);
        cr_assert_eq(weir_seen_look(seen, by_rest, mark.content, &mark), WEIR_SEEN_NEW);
        cr_assert_eq(weir_seen_set(seen, by_rest, mark, i % 2 ? 1 : 2), WEIR_OK);
    }
    weir_seen_forget(seen, 2);
    cr_assert_eq(weir_seen_count(seen), IDS / 2);
    for (uint64_t i = 0; i < IDS; i++) {
        uint64_t by_rest = UINT64_C(7) << 56 | i << 16 | 9;
        cr_assert_eq(weir_seen_look(seen, i, mark.content, &mark), WEIR_SEEN_NEW);
        cr_assert_eq(weir_seen_look(seen, by_rest, mark.content, &mark), i % 2 ? WEIR_SEEN_NEW : WEIR_SEEN_KNOWN);
    }
    weir_seen_free(seen);
}

Test(seen, expects_few)
{
    struct weir_seen *seen = weir_seen_new(10);
    struct weir_id_mark mark = any_mark();

    weir_seen_expect(seen, UINT64_MAX);
    cr_assert_eq(weir_seen_set(seen, 7, mark, 1), WEIR_OK);
    assert_mark(seen, 7, mark);
    weir_seen_free(seen);
}
