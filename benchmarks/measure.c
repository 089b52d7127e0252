#include "benchmarks/measure.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/status.h"

static struct {
    const struct weir_measure_program *program;
    bool is_smoke;
    uint64_t repetitions;
    FILE *json;
    void (*clean_up)(void);
    bool has_header, has_progress;
} measure;

/* 1. The program and its command line. */

static void clean_up_once(void)
{
    void (*clean_up)(void) = measure.clean_up;
    measure.clean_up = NULL;
    if (clean_up)
        clean_up();
}

static void end_progress(void)
{
    if (measure.has_progress)
        fputs("\r\033[K", stderr);
    measure.has_progress = false;
}

void weir_measure_die(const char *format, ...)
{
    va_list arguments;

    end_progress();
    fflush(stdout);
    fprintf(stderr, "benchmark_%s: ", measure.program ? measure.program->name : "?");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    clean_up_once();
    exit(EXIT_FAILURE);
}

/* Not safe at every moment: better than leaving topics, databases and servers behind. */
static void on_signal(int number)
{
    (void)signal(number, SIG_DFL);
    clean_up_once();
    (void)raise(number);
}

void weir_measure_at_end(void (*clean_up)(void))
{
    measure.clean_up = clean_up;
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
}

static void print_option(FILE *to, const char *name, const char *argument, const char *help)
{
    char left[64];
    snprintf(left, sizeof left, "%s%s%s", name, argument ? " " : "", argument ? argument : "");
    fprintf(to, "  %-20s %s\n", left, help);
}

static _Noreturn void end_with_usage(bool is_help)
{
    const struct weir_measure_program *program = measure.program;
    FILE *to = is_help ? stdout : stderr;
    char help[64];

    fprintf(to, "Usage: benchmark_%s [OPTION...]\n\n%s\n\n", program->name, program->about);
    print_option(to, "--smoke", NULL, "the smallest size, once: does it still work?");
    snprintf(help, sizeof help, "how often each is measured, in turn (%d)", program->repetitions);
    print_option(to, "--repetitions", "N", help);
    print_option(to, "--json", "FILE", "adds each figure and target to FILE, a line of JSON each");
    for (const struct weir_measure_option *option = program->options; option->name; option++)
        print_option(to, option->name, option->argument, option->help);
    fprintf(to, "\nExample: benchmark_%s %s\n", program->name, program->example ? program->example : "--smoke");
    exit(is_help ? EXIT_SUCCESS : 2);
}

static void read_number(const char *name, const char *text, uint64_t *number)
{
    char *end;

    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || *end || *text < '0' || *text > '9') {
        fprintf(stderr, "benchmark_%s: %s %s: a whole number is wanted\n", measure.program->name, name, text);
        exit(2);
    }
    *number = value;
}

static const struct weir_measure_option *find_option(const struct weir_measure_option *options, const char *name)
{
    while (options->name && strcmp(options->name, name) != 0)
        options++;
    return options->name ? options : NULL;
}

static void read_arguments(const struct weir_measure_option common[], int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const struct weir_measure_option *option = find_option(common, argv[i]);
        if (!option)
            option = find_option(measure.program->options, argv[i]);
        if (strcmp(argv[i], "--help") == 0)
            end_with_usage(true);
        if (!option || (option->argument && i + 1 == argc)) {
            fprintf(stderr, "benchmark_%s: %s: %s\n", measure.program->name, argv[i],
                    option ? "a value is missing behind it" : "no such option");
            end_with_usage(false);
        }
        if (!option->argument)
            *option->number = 1;
        else if (option->number)
            read_number(option->name, argv[++i], option->number);
        else
            *option->text = argv[++i];
    }
}

void weir_measure_start(const struct weir_measure_program *program, int argc, char **argv)
{
    uint64_t is_smoke = 0, repetitions = 0;
    const char *json = NULL;
    const struct weir_measure_option common[] = {{"--smoke", NULL, NULL, &is_smoke, NULL},
                                                 {"--repetitions", "N", NULL, &repetitions, NULL},
                                                 {"--json", "FILE", NULL, NULL, &json},
                                                 {0}};

    measure.program = program;
    read_arguments(common, argc, argv);
    measure.is_smoke = is_smoke;
    measure.repetitions = repetitions ? repetitions : is_smoke ? 1 : (uint64_t)program->repetitions;
    if (measure.repetitions > WEIR_REPETITIONS_MAX) {
        fprintf(stderr, "benchmark_%s: --repetitions: at most %d\n", program->name, WEIR_REPETITIONS_MAX);
        exit(2);
    }
    if (json && !(measure.json = fopen(json, "a")))
        weir_measure_die("%s: %s", json, strerror(errno));
    (void)setvbuf(stdout, NULL, _IOLBF,
                  0); /* into a log, line by line: a benchmark that is ended shows how far it got */
}

int weir_measure_end(void)
{
    end_progress();
    clean_up_once();
    return EXIT_SUCCESS;
}

bool weir_measure_is_smoke(void)
{
    return measure.is_smoke;
}

int weir_measure_repetitions(void)
{
    return (int)measure.repetitions;
}

const char *weir_measure_server(const char *what)
{
    char name[64];

    snprintf(name, sizeof name, "WEIR_%s", what);
    const char *value = getenv(name);
    if (!value) {
        snprintf(name, sizeof name, "WEIR_TEST_%s", what);
        value = getenv(name);
    }
    if (!value)
        weir_measure_die("WEIR_%s is not set: deploy/local up, then eval \"$(deploy/local env)\"", what);
    return value;
}

void weir_measure_progress(const char *format, ...)
{
    va_list arguments;

    if (!isatty(STDERR_FILENO))
        return;
    end_progress();
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fflush(stderr);
    measure.has_progress = true;
}

/* 2. Clocks. */

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static double seconds_by(clockid_t clock)
{
    struct timespec at;

    (void)clock_gettime(clock, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

struct weir_took weir_measure_now(void)
{
    struct rusage children;

    (void)getrusage(RUSAGE_CHILDREN, &children);
    return (struct weir_took){seconds_by(CLOCK_MONOTONIC), seconds_by(CLOCK_PROCESS_CPUTIME_ID),
                              seconds_of(children.ru_utime) + seconds_of(children.ru_stime)};
}

struct weir_took weir_measure_since(struct weir_took start)
{
    struct weir_took end = weir_measure_now();

    return (struct weir_took){end.wall - start.wall, end.cpu - start.cpu, end.children - start.children};
}

double weir_measure_thread_cpu(void)
{
    return seconds_by(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t weir_measure_resident(void)
{
    unsigned long long all = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "r");

    if (!statm || fscanf(statm, "%llu %llu", &all, &resident) != 2)
        weir_measure_die("/proc/self/statm cannot be read");
    fclose(statm);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t weir_measure_peak(void)
{
    char line[128];
    unsigned long long kilobytes = 0;
    FILE *status = fopen("/proc/self/status", "r"), *forget;

    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %llu", &kilobytes) == 1)
            break;
    if (status)
        fclose(status);
    if (kilobytes == 0)
        weir_measure_die("/proc/self/status has no VmHWM");
    forget = fopen("/proc/self/clear_refs", "w");
    if (!forget || fputs("5", forget) < 0 || fclose(forget) != 0)
        weir_measure_die("/proc/self/clear_refs cannot be written: %s", strerror(errno));
    return kilobytes * 1024;
}

/* 3. Figures. */

struct spread {
    double minimum, median, maximum;
};

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static struct spread spread_of(const double *values, size_t count)
{
    double sorted[WEIR_REPETITIONS_MAX];

    if (count == 0)
        return (struct spread){0};
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_value);
    return (struct spread){sorted[0], (sorted[(count - 1) / 2] + sorted[count / 2]) / 2, sorted[count - 1]};
}

void weir_figure_add(struct weir_figure *figure, double value, double cpu_us)
{
    weir_check(figure->count < WEIR_REPETITIONS_MAX);
    figure->values[figure->count] = value;
    figure->cpu_us[figure->count++] = cpu_us;
}

void weir_figure_add_rate(struct weir_figure *figure, double count, struct weir_took took)
{
    weir_figure_add(figure, count / took.wall / 1e6, (took.cpu + took.children) / count * 1e6);
}

double weir_figure_median(const struct weir_figure *figure)
{
    return spread_of(figure->values, figure->count).median;
}

/* Four significant digits, never an exponent. */
static const char *write_value(char text[24], double value)
{
    snprintf(text, 24, value >= 1000 ? "%.0f" : value >= 100 ? "%.1f" : value >= 10 ? "%.2f" : "%.3f", value);
    return text;
}

static json_t *json_of_spread(struct spread spread)
{
    return json_pack("{s:f, s:f, s:f}", "min", spread.minimum, "median", spread.median, "max", spread.maximum);
}

static json_t *json_of_figure(const struct weir_figure *figure)
{
    struct spread cpu = spread_of(figure->cpu_us, figure->count);
    json_t *json = json_of_spread(spread_of(figure->values, figure->count));

    json_object_set_new(json, "what", json_string(figure->what));
    json_object_set_new(json, "unit", json_string(figure->unit));
    json_object_set_new(json, "repetitions", json_integer((json_int_t)figure->count));
    if (cpu.maximum > 0)
        json_object_set_new(json, "cpu_us", json_of_spread(cpu));
    return json;
}

static void keep_line(json_t *line)
{
    json_object_set_new(line, "benchmark", json_string(measure.program->name));
    if (measure.json
        && (json_dumpf(line, measure.json, JSON_COMPACT | JSON_REAL_PRECISION(9)) != 0
            || fputc('\n', measure.json) == EOF || fflush(measure.json) != 0))
        weir_measure_die("--json: %s", strerror(errno));
    json_decref(line);
}

void weir_measure_print(const struct weir_figure *figure)
{
    struct spread value = spread_of(figure->values, figure->count), cpu = spread_of(figure->cpu_us, figure->count);
    char minimum[24], median[24], maximum[24];

    end_progress();
    if (!measure.has_header)
        printf("%-48s %9s %9s %9s  %-18s %s\n", "", "min", "median", "max", "", "CPU each, median");
    measure.has_header = true;
    printf("%-48s %9s %9s %9s  %-18s", figure->what, write_value(minimum, value.minimum),
           write_value(median, value.median), write_value(maximum, value.maximum), figure->unit);
    if (cpu.maximum > 0)
        printf(" %s us", write_value(median, cpu.median));
    printf("\n");
    keep_line(json_pack("{s:o}", "figure", json_of_figure(figure)));
}

static struct spread ratios(const double *figure, const double *ceiling, size_t count)
{
    double values[WEIR_REPETITIONS_MAX];

    for (size_t i = 0; i < count; i++)
        values[i] = ceiling[i] > 0 ? figure[i] / ceiling[i] : 0;
    return spread_of(values, count);
}

static json_t *json_of_bounds(const struct weir_target *target)
{
    json_t *json = json_object();

    if (target->at_least > 0)
        json_object_set_new(json, "at_least", json_real(target->at_least));
    if (target->at_most > 0)
        json_object_set_new(json, "at_most", json_real(target->at_most));
    if (target->cpu_at_most > 0)
        json_object_set_new(json, "cpu_at_most", json_real(target->cpu_at_most));
    return json;
}

void weir_measure_target(const struct weir_target *target)
{
    const struct weir_figure *figure = target->figure, *ceiling = target->ceiling;
    struct spread judged = spread_of(figure->values, figure->count), cpu = {0};
    char text[24], wanted[24];

    if (ceiling) {
        weir_check(figure->count == ceiling->count);
        judged = ratios(figure->values, ceiling->values, figure->count);
        cpu = ratios(figure->cpu_us, ceiling->cpu_us, figure->count);
    }
    bool is_met = (target->at_least == 0 || judged.median >= target->at_least)
                  && (target->at_most == 0 || judged.median <= target->at_most)
                  && (target->cpu_at_most == 0 || cpu.median <= target->cpu_at_most);
    end_progress();
    printf("  %s: %s%s, wanted at %s %s", target->what, write_value(text, judged.median), ceiling ? " of it" : "",
           target->at_least > 0 ? "least" : "most",
           write_value(wanted, target->at_least > 0 ? target->at_least : target->at_most));
    if (target->cpu_at_most > 0) {
        printf("; CPU %s times", write_value(text, cpu.median));
        printf(", wanted at most %s", write_value(text, target->cpu_at_most));
    }
    printf(": %s\n", is_met ? "met" : "not met");
    keep_line(json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:b}", "target", target->what, "figure", json_of_figure(figure),
                        "ceiling", ceiling ? json_of_figure(ceiling) : json_null(), "ratio",
                        ceiling ? json_of_spread(judged) : json_null(), "cpu_ratio",
                        ceiling && cpu.maximum > 0 ? json_of_spread(cpu) : json_null(), "wanted",
                        json_of_bounds(target), "met", is_met));
}
