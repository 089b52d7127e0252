/* Drawdown on random grants and charges: the answer is the same in whatever order and pieces the charges come, never
 * takes more than there is, and together with the overage explains every charge. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "rater/drawdown.h"

enum { CASES = 3000, GRANTS = 5, METERS = 3, SEGMENTS = 4, PERIODS = 2, CHARGES = METERS * SEGMENTS * PERIODS };

static const char *const keys[GRANTS] = {"a", "b", "c", "d", "e"};
static const char *const meters[METERS] = {"calls", "seats", "tokens"};
static uint64_t random_state = 20260105;

static uint64_t draw_random(uint64_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % below;
}

struct answer {
    struct weir_decimal drawn[GRANTS][SEGMENTS * PERIODS][METERS];
    struct weir_decimal overage[SEGMENTS * PERIODS][METERS];
    struct weir_decimal left[GRANTS];
};

#define WEIR_X(upper, lower) WEIR_DRAW_BY_##upper,
static const struct weir_draw_order customary = {WEIR_DRAW_KEY_COUNT, {WEIR_DRAW_KEYS(WEIR_X)}};
#undef WEIR_X

static size_t place(struct weir_slice text, const char *const texts[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (weir_slice_equal(text, weir_slice_text(texts[i])))
            return i;
    cr_assert(false, "an unknown text");
    return 0;
}

static bool take(void *context, const struct weir_usage_charge *charge, const struct weir_grant *grant,
                 struct weir_decimal amount)
{
    struct answer *answer = context;
    size_t meter = place(charge->meter, meters, METERS);
    struct weir_decimal *at = grant ? &answer->drawn[place(grant->key, keys, GRANTS)][charge->segment_start / 10][meter]
                                    : &answer->overage[charge->segment_start / 10][meter];

    cr_expect(!grant || amount.e12 > 0);
    cr_expect_neq(amount.e12, 0);
    cr_expect_eq(at->e12, 0, "told twice");
    *at = amount;
    return true;
}

static struct weir_grant random_grant(int number)
{
    static const struct weir_slice list[METERS] = {{"calls", 5}, {"seats", 5}, {"tokens", 6}};
    uint32_t first = (uint32_t)draw_random(METERS);

    return (struct weir_grant){
        .key = weir_slice_text(keys[number]),
        .contract = weir_slice_text("contract"),
        .currency = weir_slice_text("USD"),
        .funding = (enum weir_funding)draw_random(WEIR_FUNDING_COUNT),
        .priority = (int64_t)draw_random(2),
        .starts_at = (int64_t)draw_random(4) * 10,
        .expires_at = 30 + (int64_t)draw_random(6) * 10,
        .meters = list + first,
        .meter_count = (uint32_t)draw_random(METERS - first + 1),
        .has_overage = draw_random(2),
        .overage_multiplier = weir_decimal_of((int64_t)draw_random(3)),
    };
}

static struct weir_usage_charge charge_of(size_t number)
{
    int64_t segment = (int64_t)(number / METERS);
    return (struct weir_usage_charge){
        .contract = weir_slice_text("contract"),
        .meter = weir_slice_text(meters[number % METERS]),
        .currency = weir_slice_text("USD"),
        .order = &customary,
        .period_start = segment / SEGMENTS * SEGMENTS * 10,
        .segment_start = segment * 10,
    };
}

/* The charges cut in two at random, shuffled. */
static struct answer answer_for(const struct weir_grant *grants, const int64_t *granted, const int64_t *amounts)
{
    struct weir_usage_charge charges[2 * CHARGES];
    struct weir_grant own[GRANTS];
    struct answer answer = {0};

    memcpy(own, grants, sizeof own);
    for (size_t i = 0; i < GRANTS; i++) {
        answer.left[i] = weir_decimal_of(granted[i]);
        own[i].left = &answer.left[i];
    }
    for (size_t i = 0; i < CHARGES; i++) {
        int64_t part = (int64_t)draw_random(50) - 25;
        charges[2 * i] = charges[2 * i + 1] = charge_of(i);
        charges[2 * i].amount = weir_decimal_of(part);
        charges[2 * i + 1].amount = weir_decimal_of(amounts[i] - part);
    }
    for (size_t i = 2 * CHARGES; i > 1; i--) {
        size_t other = draw_random(i);
        struct weir_usage_charge kept = charges[i - 1];
        charges[i - 1] = charges[other];
        charges[other] = kept;
    }
    cr_assert(weir_draw_down(own, GRANTS, charges, 2 * CHARGES, take, &answer));
    return answer;
}

static void check_sums(const struct weir_grant *grants, const int64_t *granted, const int64_t *amounts,
                       const struct answer *answer)
{
    for (size_t g = 0; g < GRANTS; g++) {
        weir_int128 drawn = 0;
        for (size_t i = 0; i < CHARGES; i++) {
            weir_int128 part = answer->drawn[g][i / METERS][i % METERS].e12;
            int64_t start = (int64_t)(i / METERS) * 10;
            cr_expect(part == 0 || (start >= grants[g].starts_at && start < grants[g].expires_at));
            drawn += part;
        }
        cr_expect(answer->left[g].e12 >= 0 && answer->left[g].e12 == weir_decimal_of(granted[g]).e12 - drawn);
    }
    for (size_t period = 0; period < PERIODS; period++)
        for (size_t meter = 0; meter < METERS; meter++) {
            weir_int128 charged = 0, drawn = 0;
            for (size_t s = period * SEGMENTS; s < (period + 1) * SEGMENTS; s++) {
                charged += weir_decimal_of(amounts[s * METERS + meter]).e12;
                for (size_t g = 0; g < GRANTS; g++)
                    drawn += answer->drawn[g][s][meter].e12;
            }
            cr_expect(drawn <= (charged > 0 ? charged : 0), "more was drawn than the period costs");
        }
}

Test(drawdown, depends_on_sums_alone_and_never_takes_more_than_there_is)
{
    for (int number = 0; number < CASES; number++) {
        struct weir_grant grants[GRANTS];
        int64_t granted[GRANTS], amounts[CHARGES];
        for (int i = 0; i < GRANTS; i++) {
            grants[i] = random_grant(i);
            granted[i] = (int64_t)draw_random(60);
        }
        for (size_t i = 0; i < CHARGES; i++)
            amounts[i] = draw_random(3) ? (int64_t)draw_random(40) - 10 : 0;
        struct answer first = answer_for(grants, granted, amounts), second = answer_for(grants, granted, amounts);
        cr_assert_eq(memcmp(&first, &second, sizeof first), 0, "case %d", number);
        check_sums(grants, granted, amounts, &first);
    }
}

/* 1. the order */
static struct weir_grant plain(const char *key)
{
    return (struct weir_grant){.key = weir_slice_text(key),
                               .contract = weir_slice_text("x"),
                               .funding = WEIR_FUNDING_PAID,
                               .expires_at = 100,
                               .starts_at = 10};
}

Test(drawdown, takes_grants_in_the_published_order)
{
    static const struct weir_slice one[2] = {{"calls", 5}, {"seats", 5}};
    struct weir_grant grants[8];
    const char *expected[8] = {"h", "g", "f", "e", "d", "c", "a", "b"};

    for (size_t i = 0; i < 8; i++)
        grants[i] = plain((const char *[]){"b", "a", "c", "d", "e", "f", "g", "h"}[i]);
    grants[2].starts_at = 9;                                         /* c: an earlier start */
    grants[3].expires_at = 99;                                       /* d: an earlier expiry */
    grants[4].meter_count = 2, grants[4].meters = one;               /* e: fewer meters than all */
    grants[5].meter_count = 1, grants[5].meters = one;               /* f: fewer still */
    grants[6].funding = WEIR_FUNDING_FREE, grants[6].starts_at = 50; /* g: not paid */
    grants[7].priority = -1, grants[7].starts_at = 50;               /* h: priority */
    weir_grants_sort(grants, 8, &customary);
    for (size_t i = 0; i < 8; i++)
        cr_expect(weir_slice_equal(grants[i].key, weir_slice_text(expected[i])), "place %zu: %.*s", i,
                  (int)grants[i].key.length, grants[i].key.data);
    static const struct weir_draw_order other = {
        4, {WEIR_DRAW_BY_EXPIRES_AT, WEIR_DRAW_BY_METERS, WEIR_DRAW_BY_FUNDING, WEIR_DRAW_BY_PRIORITY}};
    const char *then[8] = {"d", "f", "e", "g", "h", "a", "b", "c"};
    weir_grants_sort(grants, 8, &other);
    for (size_t i = 0; i < 8; i++)
        cr_expect(weir_slice_equal(grants[i].key, weir_slice_text(then[i])), "then place %zu: %.*s", i,
                  (int)grants[i].key.length, grants[i].key.data);
}

Test(drawdown, takes_each_charge_by_its_own_order)
{
    static const struct weir_draw_order by_start = {1, {WEIR_DRAW_BY_STARTS_AT}};
    struct weir_decimal left[2] = {weir_decimal_of(9), weir_decimal_of(9)};
    struct weir_grant grants[2] = {plain("a"), plain("b")};
    struct weir_usage_charge charges[3] = {charge_of(0), charge_of(METERS), charge_of(2 * METERS)};
    struct answer answer = {0};

    for (int i = 0; i < 2; i++) {
        grants[i].contract = weir_slice_text("contract");
        grants[i].currency = weir_slice_text("USD");
        grants[i].left = &left[i];
    }
    for (int i = 0; i < 3; i++)
        charges[i].amount = weir_decimal_of(1 + i);
    grants[0].starts_at = -1;                         /* a: first by its start */
    grants[1].starts_at = 0, grants[1].priority = -1; /* b: first by priority */
    charges[1].order = &by_start;
    cr_assert(weir_draw_down(grants, 2, charges, 3, take, &answer));
    cr_expect_eq(answer.drawn[1][0][0].e12, weir_decimal_of(1).e12);
    cr_expect_eq(answer.drawn[0][1][0].e12, weir_decimal_of(2).e12);
    cr_expect_eq(answer.drawn[1][2][0].e12, weir_decimal_of(3).e12);
}

/* 2. what goes on */
Test(drawdown, draws_a_rollover_as_far_as_its_source_left_something)
{
    struct weir_decimal left[2] = {weir_decimal_of(9), {0}};
    struct weir_rollover rollover = {.from = &left[0], .at = 10, .fraction = {WEIR_DECIMAL_ONE / 2}, .left = &left[1]};
    struct weir_grant grants[2] = {plain("b"), plain("a")};
    struct weir_usage_charge charges[3] = {charge_of(METERS), charge_of(0), charge_of(2 * METERS)};
    struct answer answer = {0};

    for (int i = 0; i < 2; i++) {
        grants[i].contract = weir_slice_text("contract");
        grants[i].currency = weir_slice_text("USD");
        grants[i].left = &left[i];
        grants[i].starts_at = i * 10;
        grants[i].expires_at = i ? 20 : 10;
    }
    grants[1].rollover = &rollover;
    charges[0].amount = charges[2].amount = weir_decimal_of(100);
    charges[1].amount = weir_decimal_of(6);
    cr_assert(weir_draw_down(grants, 2, charges, 3, take, &answer));
    cr_expect(rollover.is_set);
    cr_expect_eq(answer.drawn[1][0][0].e12, weir_decimal_of(6).e12, "the source, before it expires");
    cr_expect_eq(answer.drawn[0][1][0].e12, 3 * WEIR_DECIMAL_ONE / 2, "half of the 3 that it left");
    cr_expect_eq(answer.drawn[0][2][0].e12, 0, "nothing after its own expiry");
    cr_expect(left[0].e12 == weir_decimal_of(3).e12 && left[1].e12 == 0);
}

/* 3. what does not fit */
Test(drawdown, says_so_when_an_amount_does_not_fit)
{
    struct weir_grant grant = plain("a");
    struct answer answer = {0};
    struct weir_decimal left = {0};
    struct weir_usage_charge charges[2] = {charge_of(3), charge_of(3)};

    grant.left = &left;
    grant.contract = weir_slice_text("contract");
    grant.has_overage = true;
    grant.overage_multiplier = weir_decimal_of(1000);
    grant.currency = weir_slice_text("USD");
    charges[0].amount = charges[1].amount = weir_decimal_max();
    cr_expect_not(weir_draw_down(&grant, 1, charges, 2, take, &answer));
    cr_expect_not(weir_draw_down(&grant, 1, charges, 1, take, &answer));
}
