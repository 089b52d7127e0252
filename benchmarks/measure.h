/* What every benchmark needs: its command line, clocks, repetitions, and figures that a person and benchmarks/run read.
 *
 *     weir_measure_start(&program, argc, argv);
 *     for (int i = 0; i < weir_measure_repetitions(); i++) {      in turns, so that all meet the same weather
 *         start = weir_measure_now(); bare(); weir_figure_add_rate(&ceiling, events, weir_measure_since(start));
 *         start = weir_measure_now(); ours(); weir_figure_add_rate(&figure, events, weir_measure_since(start));
 *     }
 *     weir_measure_print(&ceiling);
 *     weir_measure_target(&target);                               prints the figure, and its ratio to the ceiling
 *
 * Time and rates are no money: doubles. One benchmark a process, one thread; of several, any may ask the clocks, and
 * die.
 */
#ifndef WEIR_BENCHMARKS_MEASURE_H
#define WEIR_BENCHMARKS_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIR_REPETITIONS_MAX = 50, WEIR_MEASURE_OPTIONS_MAX = 16 };

/* 1. The program and its command line. */

/* One of number and text is set: where the value goes, which holds the default before. */
struct weir_measure_option {
    const char *name;     /* "--events" */
    const char *argument; /* "N"; NULL: a switch, which sets *number to 1 */
    const char *help;
    uint64_t *number;
    const char **text;
};

struct weir_measure_program {
    const char *name;    /* without benchmark_ */
    const char *about;   /* for --help: a sentence or two, with line ends where they are wanted */
    const char *example; /* the arguments of an example; NULL: --smoke */
    int repetitions;     /* default; the smoke size has one */
    struct weir_measure_option options[WEIR_MEASURE_OPTIONS_MAX]; /* beside the common ones; up to one without a name */
};

/* Reads --smoke, --repetitions N, --json FILE, --help and the program's own options. Mistakes and --help end the
 * process (2 and 0). `program` must stay. */
void weir_measure_start(const struct weir_measure_program *program, int argc, char **argv);
bool weir_measure_is_smoke(void);
int weir_measure_repetitions(void); /* 1..WEIR_REPETITIONS_MAX */
/* The value of WEIR_<what> or, in tests, WEIR_TEST_<what>; dies with what to do when neither is set. */
const char *weir_measure_server(const char *what);
/* Called once: by weir_measure_end, weir_measure_die, SIGINT or SIGTERM. Removes what the benchmark made. */
void weir_measure_at_end(void (*clean_up)(void));
int weir_measure_end(void); /* the last statement: return weir_measure_end(); */
_Noreturn void weir_measure_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line of progress, on a terminal only; the next one or a figure overwrites it. */
void weir_measure_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* 2. Clocks, in seconds. */

struct weir_took {
    double wall;
    double cpu;      /* of all threads of this process */
    double children; /* CPU time of those that have ended and were waited for */
};

struct weir_took weir_measure_now(void);
struct weir_took weir_measure_since(struct weir_took start);
double weir_measure_thread_cpu(void); /* of this thread alone */
/* Memory of this process that is in RAM now, in bytes. */
uint64_t weir_measure_resident(void);
/* The most that it was since the last call, or since the process began. */
uint64_t weir_measure_peak(void);

/* 3. Figures. */

/* One thing, measured several times. Zero it and set the names. */
struct weir_figure {
    const char *what; /* "bare librdkafka batch" */
    const char *unit; /* "million events/s" */
    size_t count;
    double values[WEIR_REPETITIONS_MAX];
    double cpu_us[WEIR_REPETITIONS_MAX]; /* microseconds of CPU time for each; all 0: none is shown */
};

/* A repetition that did `count` things. The unit is millions a second. */
void weir_figure_add_rate(struct weir_figure *figure, double count, struct weir_took took);
void weir_figure_add(struct weir_figure *figure, double value, double cpu_us); /* any unit; cpu_us 0: none */
double weir_figure_median(const struct weir_figure *figure);
/* Prints the row (minimum, median, maximum) and keeps it in --json. */
void weir_measure_print(const struct weir_figure *figure);

/* What issue 5 asks of a figure: at least or at most so much of its ceiling in the same run (each repetition beside its
 * own), or in itself when it has none. */
struct weir_target {
    const char *what; /* "decode one event, against simdjson's DOM alone" */
    const struct weir_figure *figure;
    const struct weir_figure *ceiling; /* NULL: the figure itself is judged */
    double at_least, at_most;          /* 0: no such bound */
    double cpu_at_most;                /* CPU time for each, so many times the ceiling's; 0: not judged */
};

/* Prints the ratio and whether the target is met, and keeps it in --json. Never fails: a smoke run meets none. */
void weir_measure_target(const struct weir_target *target);

#endif
