/* weir in one process, with everything that can go wrong: all interleavings of small cases, random ones of larger.
 *
 *   simulation                      every run of the small cases with one deviation, then random ones for 30 s
 *   simulation --case NAME --deviations 2       every run of one small case with up to two deviations
 *   simulation --seed 17 --runs 1 --trace       one random run again, step by step
 *   simulation --case NAME --choices 0x12,3     one run of a small case again
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/simulation/simulation.h"

/* A sanitizer's finding is a failing run like any other; freed memory need not wait long for its wrong use. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "abort_on_error=1:handle_abort=0:quarantine_size_mb=16";
}

struct options {
    const char *only; /* a small case */
    uint64_t seed, runs, seconds;
    unsigned deviations;
    bool has_seed, is_traced;
    char *list;
};

struct small_case {
    const char *name, *what;
    uint64_t seed;
    struct shape shape;
};

#define SMALL(cuts, messages)                                                                                          \
    .customers = 2, .minutes = 3, .pauses = 2, .cuts_max = (cuts), .changes_max = 100, .queue = 1, .batch = 8,         \
    .threads = 1, .fetch = (messages), .flush_interval = 1, .idle = WEIR_SECOND / 10, .disorder = 0,                   \
    .lateness = WEIR_DAY
static const struct small_case small_cases[] = {
    {"one_lane",
     "two workers and a rater, one lane, 4 events",
     1,
     {.partitions = 1, .workers = 2, .raters = 1, .events = 4, .is_plain = true, SMALL(2, 2)}},
    {"again",
     "two workers and a rater, one lane, 5 messages: a repeat, a conflict, a retraction after rating",
     2107,
     {.partitions = 1, .workers = 2, .raters = 1, .events = 5, SMALL(2, 2)}},
    {"full_queue",
     "two workers and a rater, one lane, 5 messages, conflicts that quarantine has no room for",
     278,
     {.partitions = 1, .workers = 2, .raters = 1, .events = 5, SMALL(2, 5)}},
    {"two_lanes",
     "two workers and a rater, two lanes, 3 events each",
     3,
     {.partitions = 2, .workers = 2, .raters = 1, .events = 3, .is_plain = true, SMALL(1, 2)}},
    {"two_raters",
     "a worker and two raters, two lanes, 3 messages each",
     4,
     {.partitions = 2, .workers = 1, .raters = 2, .events = 3, SMALL(2, 2)}},
    {"undone",
     "a worker and a rater, two lanes, 5 messages each: retractions of what is folded, also of another lane's events",
     16,
     {.partitions = 2, .workers = 1, .raters = 1, .events = 5, SMALL(2, 2)}},
    {"lost",
     "a worker and a rater, one lane, 4 events, some of which Kafka forgets; an operator releases the gap",
     1,
     {.partitions = 1, .workers = 1, .raters = 1, .events = 4, .is_plain = true, .losses = 1, SMALL(2, 2)}},
    {"lowered",
     "the same, and the operator's word lowers what was rated",
     1,
     {.partitions = 1,
      .workers = 1,
      .raters = 1,
      .events = 4,
      .is_plain = true,
      .losses = 1,
      .lowers = 10,
      SMALL(2, 2)}},
};
enum { SMALL_CASES = sizeof small_cases / sizeof *small_cases };

static struct choices choices;
static char which[256];    /* the flags that bring this run back */
static uint64_t runs_done; /* runs in all */
static struct run total;

static void tell_run(int signal_number)
{
    signal(signal_number, SIG_DFL);
    print_trace();
    fprintf(stderr, "run again with: %s", which);
    if (choices.how != CHOOSE_RANDOM) {
        fprintf(stderr, ", ");
        print_choices(&choices);
    } else
        fprintf(stderr, "\n");
    fflush(stderr);
    raise(signal_number);
}

/* 1. one run */
static void run_once(const struct shape *shape, uint64_t seed, bool is_traced)
{
    struct weir_catalog *catalog = run.catalog;

    memset(&run, 0, sizeof run);
    run.catalog = catalog;
    run.shape = *shape;
    make_events(seed);
    run.operator_seed = seed;
    run_books = books_new();
    source_begin();
    quarantine_begin();
    store_begin();
    book_begin();
    truth_begin();
    schedule_begin(&choices, WALL_START);
    trace_events();
    allow_deviations(true);
    start_actors();
    wait_for_rest();
    allow_deviations(false);
    wait_for_rest();
    stop_actors();
    check_end();
    schedule_end();
    store_end();
    truth_end();
    run_books = books_free(run_books);
    if (is_traced)
        print_trace();
    runs_done++;
    total.faults += run.faults;
    total.store_writes += run.store_writes;
    total.commits += run.commits;
    total.fallbacks += run.fallbacks;
    total.deaths += run.deaths;
    total.stalls += run.stalls;
    total.revocations += run.revocations;
    total.gaps += run.gaps;
    total.holds += run.holds;
    total.words += run.words;
}

/* 2. all runs of a small case */
static void enumerate(const struct small_case *small, unsigned deviations, bool is_traced)
{
    uint64_t before = runs_done;

    choices.how = CHOOSE_ENUMERATED;
    choices.deviations = deviations;
    choices.count = choices.given = 0;
    snprintf(which, sizeof which, "--case %s", small->name);
    do
        run_once(&small->shape, small->seed, is_traced);
    while (next_choices(&choices));
    printf("%-11s %s: all %llu runs with at most %u deviation%s\n", small->name, small->what,
           (unsigned long long)(runs_done - before), deviations, deviations == 1 ? "" : "s");
}

static void run_given(const struct small_case *small, char *list)
{
    char *save = NULL;

    choices.how = CHOOSE_GIVEN;
    choices.deviations = CHOICES_MAX;
    choices.given = 0;
    for (char *word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        char *times = strchr(word, 'x');
        size_t count = times ? strtoul(times + 1, NULL, 10) : 1;
        for (size_t i = 0; i < count && choices.given < CHOICES_MAX; i++)
            choices.values[choices.given++] = (uint16_t)strtoul(word, NULL, 10);
    }
    snprintf(which, sizeof which, "--case %s", small->name);
    run_once(&small->shape, small->seed, true);
}

/* 3. random runs of larger cases */
static unsigned between(uint64_t *seed, unsigned least, unsigned most)
{
    return least + (unsigned)(next_random(seed) % (most - least + 1));
}

static struct shape any_shape(uint64_t *seed)
{
    struct shape shape = {
        .partitions = between(seed, 1, PARTITIONS_MAX),
        .workers = between(seed, 1, WORKERS_MAX),
        .raters = between(seed, 1, RATERS_MAX),
        .events = between(seed, 3, 40),
        .customers = between(seed, 1, 4),
        .minutes = between(seed, 1, 50),
        .pauses = between(seed, 1, 12),
        .cuts_max = between(seed, 1, 4),
        .queue = between(seed, 1, 8),
        .changes_max = between(seed, 2, 60),
        .batch = between(seed, 1, BATCH_MAX),
        .fetch = between(seed, 1, 10),
        .flush_interval = between(seed, 0, 2) * (WEIR_SECOND / 10) + 1,
        .idle = between(seed, 1, 10) * (WEIR_SECOND / 10),
        .disorder = between(seed, 0, 60) * WEIR_SECOND,
        .lateness = WEIR_DAY,
        .is_long = between(seed, 0, 3) == 0,
    };

    if (shape.is_long) {
        shape.minutes = between(seed, 60, 1200);
        shape.lateness = between(seed, 10, 40) * WEIR_MINUTE;
    }
    shape.threads = between(seed, 1, THREADS_OF_RATER_MAX);
    if (between(seed, 0, 2) == 0) {
        shape.losses = between(seed, 1, LOSSES_MAX);
        shape.lowers = between(seed, 0, 10);
    }
    return shape;
}

static void run_random(uint64_t seed, bool is_traced)
{
    uint64_t chance = seed;
    struct shape shape = any_shape(&chance);

    choices.how = CHOOSE_RANDOM;
    choices.odds = between(&chance, 4, 80);
    choices.deviations = between(&chance, 0, 40);
    uint64_t events = next_random(&chance);
    choices.seed = next_random(&chance);
    snprintf(which, sizeof which, "--seed %llu --runs 1 --trace", (unsigned long long)seed);
    run_once(&shape, events, is_traced);
}

static int64_t real_seconds(void)
{
    return (int64_t)time(NULL);
}

/* 4. the command */
static int usage(void)
{
    fputs("Usage: simulation [--case NAME] [--deviations N] [--seed N] [--runs N] [--seconds N] [--trace] [--choices "
          "LIST]\n"
          "  --case NAME     only this small case: every run of it\n"
          "  --deviations N  small cases: at most so many in one run, 0..4 (default 1)\n"
          "  --choices LIST  with --case: one run again, as a failing one printed it\n"
          "  --seed N        random runs: the first one's seed (default 1)\n"
          "  --runs N        random runs: so many, and no small cases\n"
          "  --seconds N     random runs: for so long (default 30)\n"
          "  --trace         tell every step\n"
          "Example: simulation --seed 1 --runs 10000\n",
          stderr);
    return 2;
}

static bool parse(int argc, char **argv, struct options *options)
{
    static const struct option flags[] = {
        {"case", required_argument, NULL, 'c'},
        {"deviations", required_argument, NULL, 'd'},
        {"seed", required_argument, NULL, 's'},
        {"runs", required_argument, NULL, 'r'},
        {"trace", no_argument, NULL, 't'},
        {"choices", required_argument, NULL, 'l'},
        {"seconds", required_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };

    *options = (struct options){.seed = 1, .seconds = 30, .deviations = 1};
    for (int flag; (flag = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        switch (flag) {
        case 'c':
            options->only = optarg;
            break;
        case 'd':
            options->deviations = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 's':
            options->seed = strtoull(optarg, NULL, 10), options->has_seed = true;
            break;
        case 'r':
            options->runs = strtoull(optarg, NULL, 10);
            break;
        case 'n':
            options->seconds = strtoull(optarg, NULL, 10);
            break;
        case 't':
            options->is_traced = true;
            break;
        case 'l':
            options->list = optarg;
            break;
        default:
            return false;
        }
    }
    return optind == argc && options->deviations <= 4 && (!options->list || options->only);
}

static bool run_small_cases(const struct options *options)
{
    bool is_found = false;

    for (int i = 0; i < SMALL_CASES; i++) {
        if (options->only && strcmp(options->only, small_cases[i].name) != 0)
            continue;
        is_found = true;
        if (options->list)
            run_given(&small_cases[i], options->list);
        else
            enumerate(&small_cases[i], options->deviations, options->is_traced);
        fflush(stdout);
    }
    return is_found;
}

int main(int argc, char **argv)
{
    struct options options;

    if (!parse(argc, argv, &options))
        return usage();
    signal(SIGABRT, tell_run);
    make_catalog();
    if ((options.only || (!options.runs && !options.has_seed)) && !run_small_cases(&options))
        return usage();
    if (!options.only) {
        int64_t until = real_seconds() + (int64_t)options.seconds;
        uint64_t seed = options.seed;
        for (uint64_t done = 0; options.runs ? done < options.runs : real_seconds() < until; done++)
            run_random(seed++, options.is_traced);
        printf("random      seeds %llu to %llu\n", (unsigned long long)options.seed, (unsigned long long)seed - 1);
    }
    printf("in all      %llu runs: %llu cuts, %llu commits, %llu faults, of them %llu deaths, %llu stops, %llu falls "
           "back; "
           "%llu revocations; %llu gaps, %llu windows held, %llu of them let go by a word that held to the end\n",
           (unsigned long long)runs_done, (unsigned long long)total.store_writes, (unsigned long long)total.commits,
           (unsigned long long)total.faults, (unsigned long long)total.deaths, (unsigned long long)total.stalls,
           (unsigned long long)total.fallbacks, (unsigned long long)total.revocations, (unsigned long long)total.gaps,
           (unsigned long long)total.holds, (unsigned long long)total.words);
    weir_catalog_free(run.catalog);
    return 0;
}
