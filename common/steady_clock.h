/* A wall clock that a jump of the system's clock cannot carry away.
 *
 * It goes on with the time that passes, and turns towards the system's clock by an eighth of that at most: what NTP
 * mends by and by is followed at once, an hour that the system's clock is off for a moment hardly at all, and an hour
 * that it was set right by is followed within eight. Where a lane must be sure that a time has passed it asks for the
 * earlier of the two clocks, and where it judges what may come, for the later one; so neither a jump forward nor one
 * back closes a window too early or turns an event away.
 *
 * One thread. Times are ns since 1970; `passed` is ns of a clock that only goes forward.
 */
#ifndef WEIR_COMMON_STEADY_CLOCK_H
#define WEIR_COMMON_STEADY_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct weir_steady_clock {
    int64_t steady; /* what we hold the time to be */
    int64_t wall;   /* what the system's clock said last */
    int64_t passed;
};

/* Believes the system's clock. */
void weir_steady_clock_start(struct weir_steady_clock *clock, int64_t wall, int64_t passed);
void weir_steady_clock_look(struct weir_steady_clock *clock, int64_t wall, int64_t passed);

static inline int64_t weir_steady_clock_earlier(const struct weir_steady_clock *clock)
{
    return clock->steady < clock->wall ? clock->steady : clock->wall;
}

static inline int64_t weir_steady_clock_later(const struct weir_steady_clock *clock)
{
    return clock->steady > clock->wall ? clock->steady : clock->wall;
}

/* How far the system's clock is ahead (negative: behind). */
static inline int64_t weir_steady_clock_jump(const struct weir_steady_clock *clock)
{
    return clock->wall - clock->steady;
}

#endif
