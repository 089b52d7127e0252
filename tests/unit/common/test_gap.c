#include <criterion/criterion.h>

#include "common/model/gap.h"

static struct weir_gap gap(enum weir_gap_kind kind, int64_t from, int64_t to, int64_t time_from, int64_t time_to)
{
    return (struct weir_gap){kind, from, to, time_from, time_to, from + 1};
}

Test(gap, text_there_and_back)
{
    char text[WEIR_GAPS_MAX * WEIR_GAP_TEXT_MAX];
    struct weir_gaps gaps = {0}, back;

    cr_assert_eq(weir_gaps_format(&gaps, text).length, 0);
    cr_assert(weir_gaps_parse((struct weir_slice){0}, &back));
    cr_assert_eq(back.count, 0);
    for (int i = 0; i < WEIR_GAPS_MAX; i++) {
        struct weir_gap one =
            gap((enum weir_gap_kind)(i % WEIR_GAP_KIND_COUNT), INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN);
        one.found_at = i ? INT64_MIN : INT64_MAX;
        weir_gaps_add(&gaps, &one);
    }
    struct weir_slice formatted = weir_gaps_format(&gaps, text);
    cr_assert(weir_gaps_parse(formatted, &back));
    cr_assert_eq(back.count, WEIR_GAPS_MAX);
    for (int i = 0; i < WEIR_GAPS_MAX; i++) {
        cr_assert_eq(back.at[i].kind, gaps.at[i].kind);
        cr_assert_eq(back.at[i].from, INT64_MIN);
        cr_assert_eq(back.at[i].found_at, gaps.at[i].found_at);
    }
}

Test(gap, what_is_no_list_of_gaps_is_refused)
{
    static const char *const bad[] = {"x",
                                      ",",
                                      "retention 1 2 3 4",
                                      "retention 1 2 3 4 5 6",
                                      "retention 1 2 3 4 5,",
                                      "retention 1 2 3 4 x",
                                      "holiday 1 2 3 4 5",
                                      "retention 1 2 3 4 5,,retention 1 2 3 4 5"};
    struct weir_gaps gaps;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_not(weir_gaps_parse(weir_slice_text(bad[i]), &gaps), "%s", bad[i]);
    cr_assert(weir_gaps_parse(weir_slice_text("retention 1 2 3 4 5,recreated 6 -1 7 8 9"), &gaps));
    cr_assert_eq(gaps.count, 2);
    cr_assert_eq(gaps.at[1].to, WEIR_GAP_END_UNKNOWN);
}

Test(gap, one_too_many_widens_the_last)
{
    struct weir_gaps gaps = {0};

    for (int i = 0; i < WEIR_GAPS_MAX; i++) {
        struct weir_gap one = gap(WEIR_GAP_NOTHING_STORED, 100 * i, 100 * i + 10, 1000 * i, 1000 * i + 10);
        weir_gaps_add(&gaps, &one);
    }
    struct weir_gap more = gap(WEIR_GAP_RETENTION, 5000, 5010, 14000, 60000);
    weir_gaps_add(&gaps, &more);
    const struct weir_gap *last = &gaps.at[WEIR_GAPS_MAX - 1];
    cr_assert_eq(gaps.count, WEIR_GAPS_MAX);
    cr_assert_eq(last->kind, WEIR_GAP_RETENTION);
    cr_assert_eq(last->from, 1500);
    cr_assert_eq(last->to, 5010);
    cr_assert_eq(last->time_from, 14000);
    cr_assert_eq(last->time_to, 60000);
    cr_assert_eq(last->found_at, 5001, "a gap that nobody has seen yet");
    more = gap(WEIR_GAP_RECREATED, 20, WEIR_GAP_END_UNKNOWN, 50, 50000);
    weir_gaps_add(&gaps, &more);
    cr_assert_eq(last->kind, WEIR_GAP_RECREATED);
    cr_assert_eq(last->to, WEIR_GAP_END_UNKNOWN);
    cr_assert_eq(last->time_from, 50);
    cr_assert_eq(last->time_to, 60000);
    cr_assert_eq(gaps.at[0].to, 10, "the others stay");
}
