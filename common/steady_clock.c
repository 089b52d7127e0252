#include "common/steady_clock.h"

enum { TURN = 8 };

void weir_steady_clock_start(struct weir_steady_clock *clock, int64_t wall, int64_t passed)
{
    *clock = (struct weir_steady_clock){.steady = wall, .wall = wall, .passed = passed};
}

void weir_steady_clock_look(struct weir_steady_clock *clock, int64_t wall, int64_t passed)
{
    int64_t took = passed > clock->passed ? passed - clock->passed : 0;
    int64_t most = took / TURN;
    int64_t off = wall - (clock->steady + took);

    clock->steady += took + (off > most ? most : off < -most ? -most : off);
    clock->passed += took;
    clock->wall = wall;
}
