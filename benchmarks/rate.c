/* `weir rate`, from a file to line items, beside its ceiling: reading the same file and decoding it (source, decoder
 * and reader alone). In turns, in one run.
 *
 *     benchmark_rate [--smoke] [--events N] [--customers N] [--repetitions N] [--keep FILE]
 *
 * Without --customers: a hundred, then ten thousand. The answer is checked each time: events read, counted and
 * duplicate, and the sum of all tokens in the summary, must be what the generator made. Events per second are of wall
 * time; CPU time stands beside it. --keep writes the events to FILE and the catalog to FILE.catalog.json and stops: for
 * trying things out by hand.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "benchmarks/workload.h"
#include "cli/commands.h"
#include "common/decimal.h"
#include "ingest/decode.h"
#include "ingest/reading.h"
#include "ingest/source.h"

enum { REPETITIONS_MAX = 50, SEED = 1, REPEATED_PERMILLE = 10, LATE_PERMILLE = 10 };

static char folder[64];
static char events_path[96], catalog_path[96], summary_path[96], said_path[96];
static struct weir_workload_totals made;

struct run {
    double wall, cpu; /* s; time is no money */
};

static void clean_up(void)
{
    const char *paths[] = {events_path, catalog_path, summary_path, said_path};
    for (int i = 0; i < 4; i++)
        unlink(paths[i]);
    rmdir(folder);
}

static void die(const char *what)
{
    if (folder[0])
        clean_up();
    fprintf(stderr, "benchmark_rate: %s\n", what);
    exit(1);
}

static struct run now(void)
{
    struct timespec at;
    struct rusage used;
    clock_gettime(CLOCK_MONOTONIC, &at);
    getrusage(RUSAGE_SELF, &used);
    return (struct run){(double)at.tv_sec + (double)at.tv_nsec / 1e9,
                        (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
                            + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6};
}

static struct run since(struct run start)
{
    struct run end = now();
    return (struct run){end.wall - start.wall, end.cpu - start.cpu};
}

/* 1. The ceiling. */

static struct run read_and_decode(const struct weir_catalog *catalog)
{
    static struct weir_message messages[WEIR_POLL_MESSAGES_MAX];
    static struct weir_reading readings[WEIR_METERS_MAX];
    static struct weir_event event;
    struct run start = now();
    struct weir_decoder *decoder = weir_decoder_new(catalog);
    struct weir_reader *reader = weir_reader_new(catalog);
    const char *const paths[] = {events_path};
    struct weir_source *source;
    struct weir_error error;
    struct weir_rejection why;
    uint64_t read = 0;
    size_t count;
    uint32_t found;

    if (weir_source_file_open(paths, 1, &source, &error) != WEIR_OK)
        die(error.text);
    enum weir_status status = WEIR_OK;
    while (status == WEIR_OK) {
        status = source->ops->poll(source, -1, messages, WEIR_POLL_MESSAGES_MAX, &count, &error);
        for (size_t i = 0; i < count; i++)
            if (weir_decode(decoder, &messages[i], &event, &why) != WEIR_OK
                || weir_read_event(reader, &event, readings, &found, &why) != WEIR_OK || found == 0)
                die("an event of the workload does not decode");
        read += count;
    }
    if (read != made.events + made.repeated)
        die("the file does not have the events that were written");
    weir_source_free(source);
    weir_reader_free(reader);
    weir_decoder_free(decoder);
    return since(start);
}

/* 2. The command. */

static void check_counts(uint64_t *ret_per_second)
{
    char line[512], want[128];
    FILE *said = fopen(said_path, "r");
    const char *rate = NULL;

    if (!said || !fgets(line, sizeof line, said))
        die("weir rate said nothing");
    fclose(said);
    snprintf(want, sizeof want, "weir rate: read=%" PRIu64 " counted=%" PRIu64 " duplicate=%" PRIu64 " ",
             made.events + made.repeated, made.events, made.repeated);
    if (strncmp(line, want, strlen(want)) != 0 || !(rate = strstr(line, "events_per_second="))) {
        fprintf(stderr, "wanted: %s\nfound:  %s", want, line);
        die("weir rate counted otherwise");
    }
    *ret_per_second = strtoull(rate + strlen("events_per_second="), NULL, 10);
}

static void check_tokens(void)
{
    char line[4096];
    struct weir_decimal sum = {0}, want = weir_decimal_of((int64_t)made.tokens_in), quantity;
    FILE *summary = fopen(summary_path, "r");

    while (summary && fgets(line, sizeof line, summary)) {
        char *field = line;
        if (!strstr(line, ",tokens-in,usage,"))
            continue;
        for (int i = 0; i < 6; i++)
            field = strchr(field, ',') + 1;
        *strchr(field, ',') = '\0';
        if (weir_decimal_parse(weir_slice_text(field), &quantity) != WEIR_DECIMAL_OK
            || !weir_decimal_add(sum, quantity, &sum))
            die("a quantity in the summary cannot be read");
    }
    if (summary)
        fclose(summary);
    if (weir_decimal_compare(sum, want) != 0)
        die("the tokens of the summary do not add up to what was made");
}

static struct run rate(uint64_t *ret_per_second)
{
    char *arguments[] = {"rate", "--catalog", catalog_path, "--summary", "--format",
                         "csv",  "--output",  summary_path, events_path, NULL};
    int kept = dup(STDERR_FILENO), said = open(said_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct run start = now();

    dup2(said, STDERR_FILENO);
    int status = weir_command_rate(9, arguments);
    struct run took = since(start);
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(said);
    if (status != WEIR_EXIT_DONE)
        die("weir rate failed");
    check_counts(ret_per_second);
    check_tokens();
    return took;
}

/* 3. The report. */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double report(const char *name, const struct run *runs, size_t count)
{
    double speeds[REPETITIONS_MAX], cpu[REPETITIONS_MAX], events = (double)(made.events + made.repeated);

    for (size_t i = 0; i < count; i++) {
        speeds[i] = events / runs[i].wall / 1e6;
        cpu[i] = runs[i].cpu / events * 1e6;
    }
    qsort(speeds, count, sizeof *speeds, compare_doubles);
    qsort(cpu, count, sizeof *cpu, compare_doubles);
    printf("%-26s %6.2f %6.2f %6.2f million events/s   %5.2f us CPU each   (min median max of %zu)\n", name, speeds[0],
           speeds[count / 2], speeds[count - 1], cpu[count / 2], count);
    return speeds[count / 2];
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text ? text : "", &end, 10);
    if (!text || !*text || *end || value == 0)
        die("a number from 1 is wanted behind the option");
    return value;
}

static void prepare(const struct weir_workload_settings *settings, const char *keep)
{
    struct run start = now();

    if (keep) {
        snprintf(events_path, sizeof events_path, "%s", keep);
        snprintf(catalog_path, sizeof catalog_path, "%s.catalog.json", keep);
    } else {
        snprintf(folder, sizeof folder, "/tmp/weir-benchmark-rate-XXXXXX");
        if (!mkdtemp(folder))
            die("no folder can be made in /tmp");
        snprintf(events_path, sizeof events_path, "%s/events.ndjson", folder);
        snprintf(catalog_path, sizeof catalog_path, "%s/catalog.json", folder);
        snprintf(summary_path, sizeof summary_path, "%s/summary.csv", folder);
        snprintf(said_path, sizeof said_path, "%s/said", folder);
    }
    struct weir_workload *workload = weir_workload_new(settings);
    if (!weir_workload_write(workload, events_path, catalog_path))
        die("the events cannot be written");
    made = weir_workload_totals(workload);
    weir_workload_free(workload);
    printf("%-26s %6.2f million events/s, to a file\n", "generator",
           (double)settings->events / since(start).wall / 1e6);
}

static int measure(const struct weir_workload_settings *settings, size_t repetitions, const char *keep)
{
    struct run ceiling[REPETITIONS_MAX], ours[REPETITIONS_MAX];
    struct weir_mistake_list mistakes;
    struct weir_catalog *catalog;
    uint64_t per_second = 0;

    prepare(settings, keep);
    if (keep)
        return 0;
    if (weir_catalog_load(catalog_path, &catalog, &mistakes) != WEIR_OK)
        die(mistakes.mistakes[0].text);
    for (size_t i = 0; i < repetitions; i++) {
        ceiling[i] = read_and_decode(catalog);
        ours[i] = rate(&per_second);
    }
    double best = report("read and decode the file", ceiling, repetitions);
    double found = report("weir rate --summary", ours, repetitions);
    printf("%-26s %6.0f %%   (its own last line: %" PRIu64 " events/s)\n", "weir rate / ceiling", found / best * 100,
           per_second);
    weir_catalog_free(catalog);
    clean_up();
    return 0;
}

int main(int argc, char **argv)
{
    struct weir_workload_settings settings = {
        .seed = SEED, .events = 1000000, .repeated_permille = REPEATED_PERMILLE, .late_permille = LATE_PERMILLE};
    const char *keep = NULL;
    size_t repetitions = 5;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--smoke") == 0)
            settings.events = 20000, repetitions = 1;
        else if (strcmp(argv[i], "--events") == 0)
            settings.events = number(argv[++i]);
        else if (strcmp(argv[i], "--customers") == 0)
            settings.customers = (uint32_t)number(argv[++i]);
        else if (strcmp(argv[i], "--repetitions") == 0)
            repetitions = number(argv[++i]);
        else if (strcmp(argv[i], "--keep") == 0)
            keep = argv[++i];
        else
            die("usage: benchmark_rate [--smoke] [--events N] [--customers N] [--repetitions N] [--keep FILE]");
    }
    if (repetitions > REPETITIONS_MAX || settings.customers > 1000000)
        die("at most 50 repetitions and 1,000,000 customers");
    if (settings.customers || keep) {
        settings.customers = settings.customers ? settings.customers : 10000;
        return measure(&settings, repetitions, keep);
    }
    /* Few customers: what counting costs. Many: nearly every event has windows of its own, so it is rating that is
     * seen. */
    static const uint32_t customers[] = {100, 10000};
    for (size_t i = 0; i < 2; i++) {
        settings.customers = customers[i];
        printf("%s%u customers, 8 meters, windows of an hour, %" PRIu64 " events\n", i ? "\n" : "", customers[i],
               settings.events);
        measure(&settings, repetitions, NULL);
    }
    return 0;
}
