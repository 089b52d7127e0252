/* The simulation's ground: threads that run one at a time, a clock that moves only when all of them wait, and the list
 * of choices that makes a run.
 *
 * The program under test is the real one: cli/worker.c, its writing thread and the rater run on threads of their own,
 * but only the one that holds the baton moves. It hands the baton over where it would touch the outside (a store, a
 * ledger, a source) or wait. What happens there is a choice: 0 is the plain course, every other value a deviation
 * (somebody else goes first, an answer is lost, the process dies, ...). A run is its choices: the same list replays it.
 *
 * The seams are link-time ones (CMakeLists.txt: --wrap): clock_gettime, pthread_create and pthread_join,
 * weir_bell_open/close/ring/wait and weir_hash_make_secret are this file's. Nothing in the program knows of it.
 */
#ifndef WEIR_TESTS_SIMULATION_SCHEDULE_H
#define WEIR_TESTS_SIMULATION_SCHEDULE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/calendar.h"

/* 1. choices */
enum choosing {
    CHOOSE_ENUMERATED, /* depth first through all lists with at most `deviations` values other than 0 */
    CHOOSE_RANDOM,     /* by seed */
    CHOOSE_GIVEN,      /* a list that was printed */
};

enum { CHOICES_MAX = 65536 };

struct choices {
    enum choosing how;
    uint64_t seed;
    unsigned deviations, deviations_left;
    unsigned odds;       /* random: one in so many choices deviates */
    size_t count, given; /* made in this run; prescribed for it */
    uint16_t values[CHOICES_MAX], limits[CHOICES_MAX];
};

/* The next of a random sequence (splitmix64): for everything of a case that is by chance. */
uint64_t next_random(uint64_t *seed);
/* One of 0 .. limit - 1, by the run's choices. `what` stands in the trace when it deviates. */
unsigned choose(unsigned limit, const char *what);
/* Enumerated: prescribes the next list; false: all were run. */
bool next_choices(struct choices *choices);
void print_choices(const struct choices *choices);

/* 2. processes and their threads */
struct process {
    char name[24];         /* "worker 1.2": the second life of worker 1 */
    bool is_dead;          /* killed: whatever it still does has no effect */
    bool has_ended;        /* its first thread has returned */
    int64_t stalled_until; /* stopped (SIGSTOP) until then */
    _Atomic bool stop;     /* asked to stop (SIGTERM) */
    void (*on_end)(struct process *process, void *context);
    void *context;
};

#define CLOCK_START (1000 * WEIR_SECOND)
/* Begins a run: one process and thread, the caller's (the director), clock at `wall`. */
void schedule_begin(struct choices *choices, int64_t wall);
/* Ends it: every other thread has returned (checked). */
void schedule_end(void);
/* Starts a process whose first thread runs `run`. The struct is the caller's until schedule_end. */
void start_process(struct process *process, void (*run)(struct process *process));
struct process *this_process(void);
/* Deviations are chosen only while on. */
void allow_deviations(bool is_on);

/* Hands the baton to whoever can go on, until is_ready answers true or `timeout` ns went by (-1: never does). A dead
 * process never waits. */
void wait_for(bool (*is_ready)(void *context), void *context, int64_t timeout);
/* A place where others may go first: chooses. `extra` more alternatives are the caller's, its answer 1..extra, else 0.
 */
unsigned step(unsigned extra, const char *what);
/* Stops the caller's whole process for so long (SIGSTOP, then SIGCONT). */
void stall(int64_t duration);
int64_t simulated_clock(void);        /* monotonic ns */
void let_time_pass(int64_t duration); /* nobody does anything meanwhile */

/* 3. what a failing run leaves behind */
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
void print_trace(void);
/* The run broke a promise: says which, prints choices and trace, ends the program. */
_Noreturn void run_fails(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
