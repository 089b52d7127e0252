#include "common/steady_clock.h"

#include <criterion/criterion.h>

#include "common/calendar.h"

static const int64_t noon = INT64_C(1700000000) * WEIR_SECOND;

/* `steps` looks, each after `step` ns, at a system clock that is off by `off`. */
static void pass(struct weir_steady_clock *clock, int steps, int64_t step, int64_t off)
{
    for (int i = 0; i < steps; i++) {
        int64_t passed = clock->passed + step;
        weir_steady_clock_look(clock, noon + passed + off, passed);
    }
}

Test(steady_clock, follows_a_good_clock_to_the_nanosecond)
{
    struct weir_steady_clock clock;
    weir_steady_clock_start(&clock, noon, 0);
    pass(&clock, 1000, 50 * WEIR_SECOND / 1000, 0);
    cr_expect_eq(clock.steady, noon + 50 * WEIR_SECOND);
    cr_expect_eq(weir_steady_clock_earlier(&clock), weir_steady_clock_later(&clock));
}

Test(steady_clock, follows_what_ntp_mends_at_once)
{
    struct weir_steady_clock clock;
    weir_steady_clock_start(&clock, noon, 0);
    for (int i = 1; i <= 1000; i++) /* 500 ppm */
        weir_steady_clock_look(&clock, noon + i * (WEIR_SECOND + WEIR_SECOND / 2000), i * WEIR_SECOND);
    cr_expect_eq(weir_steady_clock_jump(&clock), 0);
}

Test(steady_clock, is_not_carried_away_by_a_jump_forward)
{
    struct weir_steady_clock clock;
    weir_steady_clock_start(&clock, noon, 0);
    pass(&clock, 10 * 60, WEIR_SECOND, 365 * WEIR_DAY);
    cr_expect_leq(weir_steady_clock_earlier(&clock), noon + clock.passed + clock.passed / 8);
    cr_expect_eq(weir_steady_clock_later(&clock), noon + clock.passed + 365 * WEIR_DAY);
    pass(&clock, 10 * 60, WEIR_SECOND, 0); /* set right again: as long as it was wrong */
    cr_expect_eq(weir_steady_clock_jump(&clock), 0);
}

Test(steady_clock, never_goes_back_whatever_the_clock_does)
{
    struct weir_steady_clock clock;
    int64_t before = 0, offs[] = {-WEIR_HOUR, 0, WEIR_DAY, -20000 * WEIR_DAY + WEIR_DAY, 1, 0};
    weir_steady_clock_start(&clock, noon, 0);
    for (size_t i = 0; i < sizeof offs / sizeof *offs; i++)
        for (int j = 0; j < 100; j++) {
            pass(&clock, 1, WEIR_SECOND, offs[i]);
            cr_expect_gt(clock.steady, before);
            before = clock.steady;
        }
}

Test(steady_clock, turns_to_a_clock_that_stays_within_eight_times_the_jump)
{
    struct weir_steady_clock clock;
    weir_steady_clock_start(&clock, noon, 0);
    pass(&clock, 8 * 3600 + 1, WEIR_SECOND, WEIR_HOUR);
    cr_expect_eq(weir_steady_clock_jump(&clock), 0);
    pass(&clock, 8 * 3600 + 1, WEIR_SECOND, -WEIR_HOUR);
    cr_expect_leq(-weir_steady_clock_jump(&clock), WEIR_HOUR); /* back by two: on its way */
    pass(&clock, 8 * 3600 + 1, WEIR_SECOND, -WEIR_HOUR);
    cr_expect_eq(weir_steady_clock_jump(&clock), 0);
}
