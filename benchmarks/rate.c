/* `weir rate`, from a file to line items, beside its ceiling: reading the same file and decoding it (source, decoder
 * and reader alone); and beside a yardstick that does not move when our own decoder becomes faster: reading it the same
 * way and simdjson's DOM of each event, nothing looked up. In turns, in one run.
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
#include <unistd.h>

#include "benchmarks/dom_ceiling.h"
#include "benchmarks/measure.h"
#include "benchmarks/workload.h"
#include "cli/commands.h"
#include "common/decimal.h"
#include "ingest/decode.h"
#include "ingest/reading.h"
#include "ingest/source.h"

enum { SEED = 1, REPEATED_PERMILLE = 10, LATE_PERMILLE = 10, TEXT_MAX = 8192, DOM_PADDING = 64 };

static char folder[64];
static char events_path[96], catalog_path[96], summary_path[96], said_path[96];
static struct weir_workload_totals made;

static void clean_up(void)
{
    const char *paths[] = {events_path, catalog_path, summary_path, said_path};
    if (!folder[0])
        return;
    for (int i = 0; i < 4; i++)
        unlink(paths[i]);
    rmdir(folder);
    folder[0] = '\0';
}

/* 1. The ceilings. */

struct decoding {
    struct weir_decoder *decoder;
    struct weir_reader *reader;
};

static bool decode(void *context, const struct weir_message *message)
{
    static struct weir_reading readings[WEIR_METERS_MAX];
    static struct weir_event event;
    const struct decoding *decoding = context;
    struct weir_rejection why;
    uint32_t found;

    return weir_decode(decoding->decoder, message, &event, &why) == WEIR_OK
           && weir_read_event(decoding->reader, &event, readings, &found, &why) == WEIR_OK && found > 0;
}

/* It reads past the text's end, which where it stands may be the end of the memory: from a copy, some 10 ns. */
static bool make_dom(void *context, const struct weir_message *message)
{
    static char padded[TEXT_MAX + DOM_PADDING];

    (void)context;
    if (message->value.length > TEXT_MAX)
        return false;
    memcpy(padded, message->value.data, message->value.length);
    return dom_ceiling_parse(padded, message->value.length);
}

static struct weir_took read_file(bool (*take)(void *context, const struct weir_message *message), void *context)
{
    static struct weir_message messages[WEIR_POLL_MESSAGES_MAX];
    struct weir_took start = weir_measure_now();
    const char *const paths[] = {events_path};
    struct weir_source *source;
    struct weir_error error;
    uint64_t read = 0;
    size_t count;

    if (weir_source_file_open(paths, 1, &source, &error) != WEIR_OK)
        weir_measure_die("%s", error.text);
    enum weir_status status = WEIR_OK;
    while (status == WEIR_OK) {
        status = source->ops->poll(source, -1, messages, WEIR_POLL_MESSAGES_MAX, &count, &error);
        for (size_t i = 0; i < count; i++)
            if (!take(context, &messages[i]))
                weir_measure_die("an event of the workload does not decode");
        read += count;
    }
    if (read != made.events + made.repeated)
        weir_measure_die("the file does not have the events that were written");
    weir_source_free(source);
    return weir_measure_since(start);
}

static struct weir_took read_and_decode(const struct weir_catalog *catalog)
{
    struct decoding decoding = {weir_decoder_new(catalog), weir_reader_new(catalog)};
    struct weir_took took = read_file(decode, &decoding);

    weir_reader_free(decoding.reader);
    weir_decoder_free(decoding.decoder);
    return took;
}

/* 2. The command. */

/* What the command's last line says beside its counts. */
struct said {
    uint64_t windows, line_items, per_second;
};

static uint64_t number_behind(const char *line, const char *word)
{
    const char *at = strstr(line, word);

    if (!at)
        weir_measure_die("weir rate says nothing of %s", word);
    return strtoull(at + strlen(word), NULL, 10);
}

static void check_counts(struct said *ret_said)
{
    char line[512], want[128];
    FILE *said = fopen(said_path, "r");

    if (!said || !fgets(line, sizeof line, said))
        weir_measure_die("weir rate said nothing");
    fclose(said);
    snprintf(want, sizeof want, "weir rate: read=%" PRIu64 " counted=%" PRIu64 " duplicate=%" PRIu64 " ",
             made.events + made.repeated, made.events, made.repeated);
    if (strncmp(line, want, strlen(want)) != 0) {
        fprintf(stderr, "wanted: %s\nfound:  %s", want, line);
        weir_measure_die("weir rate counted otherwise");
    }
    ret_said->windows = number_behind(line, " windows=");
    ret_said->line_items = number_behind(line, " line_items=");
    ret_said->per_second = number_behind(line, " events_per_second=");
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
            weir_measure_die("a quantity in the summary cannot be read");
    }
    if (summary)
        fclose(summary);
    if (weir_decimal_compare(sum, want) != 0)
        weir_measure_die("the tokens of the summary do not add up to what was made");
}

static struct weir_took rate(struct said *ret_said)
{
    char *arguments[] = {"rate", "--catalog", catalog_path, "--summary", "--format",
                         "csv",  "--output",  summary_path, events_path, NULL};
    int kept = dup(STDERR_FILENO), said = open(said_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct weir_took start = weir_measure_now();

    dup2(said, STDERR_FILENO);
    int status = weir_command_rate(9, arguments);
    struct weir_took took = weir_measure_since(start);
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(said);
    if (status != WEIR_EXIT_DONE)
        weir_measure_die("weir rate failed");
    check_counts(ret_said);
    check_tokens();
    return took;
}

/* 3. The report. */

enum { WHAT_MAX = 160 };
/* Asked of `weir rate`, and, in benchmark_decode, of what it is measured against: both together are what is asked of it
 * beside simdjson. */
static const double OF_DECODING = 0.5, DECODING_OF_DOM = 0.7;

static void prepare(const struct weir_workload_settings *settings, const char *keep)
{
    struct weir_took start = weir_measure_now();

    if (keep) {
        snprintf(events_path, sizeof events_path, "%s", keep);
        snprintf(catalog_path, sizeof catalog_path, "%s.catalog.json", keep);
    } else {
        snprintf(folder, sizeof folder, "/tmp/weir-benchmark-rate-XXXXXX");
        if (!mkdtemp(folder))
            weir_measure_die("no folder can be made in /tmp");
        snprintf(events_path, sizeof events_path, "%s/events.ndjson", folder);
        snprintf(catalog_path, sizeof catalog_path, "%s/catalog.json", folder);
        snprintf(summary_path, sizeof summary_path, "%s/summary.csv", folder);
        snprintf(said_path, sizeof said_path, "%s/said", folder);
    }
    struct weir_workload *workload = weir_workload_new(settings);
    if (!weir_workload_write(workload, events_path, catalog_path))
        weir_measure_die("the events cannot be written");
    made = weir_workload_totals(workload);
    weir_workload_free(workload);
    printf("%-26s %6.2f million events/s, to a file\n", "generator",
           (double)settings->events / weir_measure_since(start).wall / 1e6);
}

/* `what` has the first `length` bytes. */
static void judge(char what[WHAT_MAX], int length, const char *of, const struct weir_figure *ours,
                  const struct weir_figure *ceiling, double at_least)
{
    snprintf(what + length, WHAT_MAX - (size_t)length, "%s", of);
    weir_measure_target(&(struct weir_target){.what = what, .figure = ours, .ceiling = ceiling, .at_least = at_least});
}

static void measure(const struct weir_workload_settings *settings, const char *keep)
{
    struct weir_figure ceiling = {.what = "read and decode the file", .unit = "million events/s"},
                       dom = {.what = "read the file, simdjson's DOM of each", .unit = "million events/s"},
                       ours = {.what = "weir rate --summary", .unit = "million events/s"};
    struct weir_mistake_list mistakes;
    struct weir_catalog *catalog;
    struct said said = {0};
    char what[WHAT_MAX];

    prepare(settings, keep);
    if (keep)
        return;
    if (weir_catalog_load(catalog_path, &catalog, &mistakes) != WEIR_OK)
        weir_measure_die("%s", mistakes.mistakes[0].text);
    for (int i = 0; i < weir_measure_repetitions(); i++) {
        weir_figure_add_rate(&ceiling, (double)settings->events, read_and_decode(catalog));
        weir_figure_add_rate(&dom, (double)settings->events, read_file(make_dom, NULL));
        weir_figure_add_rate(&ours, (double)settings->events, rate(&said));
    }
    weir_measure_print(&ceiling);
    weir_measure_print(&dom);
    weir_measure_print(&ours);
    int length = snprintf(what, WHAT_MAX, "weir rate with %" PRIu32 " customers", settings->customers);
    if (settings->span_seconds)
        length += snprintf(what + length, WHAT_MAX - (size_t)length, ", %" PRIu64 " events of %" PRIu32 " s",
                           settings->events, settings->span_seconds);
    if (settings->event_bytes)
        length += snprintf(what + length, WHAT_MAX - (size_t)length, ", %" PRIu32 " bytes", settings->event_bytes);
    judge(what, length, ", of reading and decoding the file", &ours, &ceiling, OF_DECODING);
    judge(what, length, ", of reading it and simdjson's DOM", &ours, &dom, OF_DECODING * DECODING_OF_DOM);
    printf("  %" PRIu64 " windows and %" PRIu64 " line items made; its own last line: %" PRIu64 " events/s\n",
           said.windows, said.line_items, said.per_second);
    weir_catalog_free(catalog);
    clean_up();
}

int main(int argc, char **argv)
{
    static uint64_t events, customers, span, event_bytes;
    static const char *keep;
    static const struct weir_measure_program program = {
        .name = "rate",
        .about =
            "weir rate, from a file to line items, beside reading the same file and decoding it, and beside reading\n"
            "it and simdjson's DOM of each event.",
        .example = "--events 2000000 --customers 1000000",
        .repetitions = 5,
        .options = {{"--events", "N", "how many (a million)", &events, NULL},
                    {"--customers", "N", "how many (a hundred, then ten thousand)", &customers, NULL},
                    {"--span", "SECONDS", "event time that the events are spread over (two days)", &span, NULL},
                    {"--event-bytes", "N", "longer events, at most 4000 (as they come: 250 to 300)", &event_bytes,
                     NULL},
                    {"--keep", "FILE", "writes events to FILE and the catalog to FILE.catalog.json, and stops", NULL,
                     &keep}},
    };
    weir_measure_start(&program, argc, argv);
    weir_measure_at_end(clean_up);
    struct weir_workload_settings settings = {.seed = SEED,
                                              .events = events                    ? events
                                                        : weir_measure_is_smoke() ? 20000
                                                                                  : 1000000,
                                              .repeated_permille = REPEATED_PERMILLE,
                                              .late_permille = LATE_PERMILLE};
    /* Few customers: what counting costs. Many: nearly every event has windows of its own, so it is rating that is
     * seen. */
    uint64_t some[] = {customers ? customers : keep ? 10000 : 100, customers || keep ? 0 : 10000};
    if (customers > 1000000 || event_bytes > 4000)
        weir_measure_die("--customers: at most 1,000,000; --event-bytes: at most 4000");
    settings.event_bytes = (uint32_t)event_bytes;
    settings.span_seconds = (uint32_t)span;
    for (size_t i = 0; i < 2 && some[i]; i++) {
        settings.customers = (uint32_t)some[i];
        printf("%s%" PRIu64 " customers, 8 meters, windows of an hour, %" PRIu64 " events\n", i ? "\n" : "", some[i],
               settings.events);
        measure(&settings, keep);
    }
    return weir_measure_end();
}
