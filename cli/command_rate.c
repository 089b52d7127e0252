/* `weir rate`: the whole way in one process, file -> memory -> line items. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aggregator/lane.h"
#include "cli/catalog_option.h"
#include "cli/commands.h"
#include "cli/intake.h"
#include "cli/overwrite.h"
#include "common/arena.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "rater/rate.h"

enum {
    WINDOWS_PER_BATCH = 512, /* a batch with its entries and line items stays in the cache of a core */
    EXPECTED_MAX = 1 << 24,  /* events that memory is taken for before they come: 240 MB */
    OUTPUT_BYTES = 1 << 17,
};

static const char help[] =
    "usage: weir rate --catalog DIR [OPTIONS] FILE...\n\n"
    "Meters and rates the events in FILEs (NDJSON CloudEvents; - is standard input; .gz and .zst are read as they "
    "are)\n"
    "and writes the line items. Nothing but this binary is needed. Every billing period that the events span counts as "
    "ended.\n\n"
    "  --catalog DIR        folder of JSON files, or one file (required)\n"
    "  --format FORMAT      table (default), csv or ndjson\n"
    "  --summary            one row per customer, contract, period, item and kind instead of line items\n"
    "  --output FILE        write there instead of to standard output\n"
    "  --quarantine FILE    keep events that cannot be counted there, with their reasons (NDJSON); without it they go\n"
    "                       to OUTPUT.quarantine.ndjson, and with no --output they are only counted; neither may be a\n"
    "                       file that is read\n"
    "  --keep-open          leave periods open that the events do not reach the end of: no fees in arrears, no "
    "true-ups\n"
    "  --help               this text\n\n"
    "The last line on stderr counts the events. Exit status: 0 done, 1 failed, 2 bad usage or bad catalog.\n\n"
    "example: weir rate --catalog deploy/example/catalog --summary deploy/example/events.ndjson\n";

struct request {
    const char *catalog, *output, *quarantine;
    enum weir_ledger_format format;
    bool is_summary, is_open;
    const char *const *files;
    size_t file_count;
};

/* Windows that do not fit in what is rated so far. */
struct refused {
    struct weir_lane_window *windows;
    size_t count, room;
    struct weir_arena *keys;
    struct weir_error first; /* why the first of them does not */
};

/* Everything that lives for the run. */
struct run {
    struct weir_catalog *catalog;
    struct weir_source *source;
    struct weir_quarantine *quarantine;
    struct weir_intake *intake;
    struct weir_lane *lane;
    FILE *output;
    bool is_kept; /* quarantine goes to a file */
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct refused refused[2]; /* the newer ones, and those that are tried again */
};

/* 1. the command line */
static int bad_usage(const char *what, const char *found)
{
    fprintf(stderr, "weir rate: %s%s; `weir rate --help` shows how\n", what, found);
    return WEIR_EXIT_USAGE;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct request *ret_request)
{
    static const struct option options[] = {
        {"catalog", required_argument, NULL, 'c'},
        {"format", required_argument, NULL, 'f'},
        {"summary", no_argument, NULL, 's'},
        {"output", required_argument, NULL, 'o'},
        {"quarantine", required_argument, NULL, 'q'},
        {"keep-open", no_argument, NULL, 'k'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    static const char *const formats[] = {"table", "csv", "ndjson"};
    struct request request = {.format = WEIR_LEDGER_TABLE};
    int option;

    optind = 1;
    opterr = 0; /* it would not say whose option it is, nor what to do */
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        size_t format = 0;
        switch (option) {
        case 'c':
            request.catalog = optarg;
            break;
        case 'f':
            while (format < 3 && strcmp(optarg, formats[format]) != 0)
                format++;
            if (format == 3)
                return bad_usage("--format is table, csv or ndjson, not ", optarg);
            request.format = (enum weir_ledger_format)format;
            break;
        case 's':
            request.is_summary = true;
            break;
        case 'o':
            request.output = optarg;
            break;
        case 'q':
            request.quarantine = optarg;
            break;
        case 'k':
            request.is_open = true;
            break;
        case 'h':
            fputs(help, stdout);
            return WEIR_EXIT_DONE;
        default:
            return bad_usage("no option, or one without its value: ", argv[optind - 1]);
        }
    }
    if (!request.catalog)
        return bad_usage("--catalog is missing", "");
    if (optind == argc)
        return bad_usage("no FILE given (- is standard input)", "");
    request.files = (const char *const *)argv + optind;
    request.file_count = (size_t)(argc - optind);
    *ret_request = request;
    return -1;
}

/* 2. files that are written, and those that are read */

/* Where quarantine goes without --quarantine, beside a file of output. */
static bool name_beside(const char *output, char path[PATH_MAX])
{
    return snprintf(path, PATH_MAX, "%s.quarantine.ndjson", output) < PATH_MAX;
}

static bool goes_beside(const struct request *request)
{
    struct stat about;

    return !request->quarantine && request->output && (stat(request->output, &about) != 0 || S_ISREG(about.st_mode));
}

static size_t list_written(const struct request *request, char beside[PATH_MAX], struct weir_used_file written[2])
{
    size_t count = 0;

    written[count++] = request->output
                           ? (struct weir_used_file){"--output", request->output, -1, "give --output another name"}
                           : (struct weir_used_file){"standard output", NULL, STDOUT_FILENO, "send it to another file"};
    if (request->quarantine)
        written[count++] =
            (struct weir_used_file){"--quarantine", request->quarantine, -1, "give --quarantine another name"};
    else if (goes_beside(request) && name_beside(request->output, beside))
        written[count++] = (struct weir_used_file){"the quarantine file of --output,", beside, -1,
                                                   "give --quarantine FILE, or --output another name"};
    return count;
}

/* The files of a folder, one by one; else the file itself. */
static bool check_catalog(const struct request *request, const struct weir_used_file *written, size_t count)
{
    struct weir_used_file read = {.what = "the catalog's", .path = request->catalog};
    DIR *folder = opendir(request->catalog);
    char path[PATH_MAX];
    bool is_good = true;

    if (!folder)
        return weir_check_overwrite("weir rate", written, count, &read, 1);
    read.path = path;
    for (const struct dirent *entry; is_good && (entry = readdir(folder));)
        if (snprintf(path, sizeof path, "%s/%s", request->catalog, entry->d_name) < (int)sizeof path)
            is_good = weir_check_overwrite("weir rate", written, count, &read, 1);
    (void)closedir(folder);
    return is_good;
}

static bool check_files(const struct request *request)
{
    char beside[PATH_MAX];
    struct weir_used_file written[2], *read = weir_new_array(request->file_count, sizeof *read);
    size_t count = list_written(request, beside, written);

    for (size_t i = 0; i < request->file_count; i++)
        read[i] = strcmp(request->files[i], "-") == 0
                      ? (struct weir_used_file){"standard input", NULL, STDIN_FILENO, NULL}
                      : (struct weir_used_file){"the input", request->files[i], -1, NULL};
    bool is_good = weir_check_overwrite("weir rate", written, count, read, request->file_count)
                   && check_catalog(request, written, count);
    free(read);
    return is_good;
}

/* 3. setting up */
static bool find_unpriced(void *context, struct weir_slice series_key, int64_t start, int64_t *ret_from,
                          int64_t *ret_to)
{
    return weir_find_unpriced(context, series_key, start, ret_from, ret_to) != WEIR_UNPRICED_PRICED;
}

static enum weir_status open_output(const struct request *request, struct run *run, struct weir_error *reterr)
{
    static char buffer[OUTPUT_BYTES];

    run->output = request->output ? fopen(request->output, "w") : stdout;
    if (!run->output)
        return weir_fail(reterr, WEIR_FATAL, "%s: cannot be written: %s", request->output, strerror(errno));
    if (request->output)
        (void)setvbuf(run->output, buffer, _IOFBF, sizeof buffer); /* else it is written by pages */
    return weir_ledger_text_open(request->format, request->is_summary, run->output, &run->ledger, reterr);
}

/* Without --quarantine, beside a file of output. An earlier run's goes the way of its output. */
static enum weir_status open_quarantine(const struct request *request, struct run *run, struct weir_error *reterr)
{
    char path[PATH_MAX];

    if (!goes_beside(request)) {
        run->is_kept = request->quarantine != NULL;
        return weir_quarantine_file_open(request->quarantine, &run->quarantine, reterr);
    }
    if (!name_beside(request->output, path))
        return weir_fail(reterr, WEIR_REJECT,
                         "--output: its name is too long for a quarantine file beside it; give --quarantine");
    if (unlink(path) != 0 && errno != ENOENT)
        return weir_fail(reterr, WEIR_FATAL, "%s: cannot be replaced: %s; give --quarantine", path, strerror(errno));
    run->is_kept = true;
    return weir_quarantine_file_open(path, &run->quarantine, reterr);
}

static enum weir_status set_up(const struct request *request, struct run *run, struct weir_error *reterr)
{
    struct weir_lane_settings settings = {
        .is_bounded = true,
        .windows_max = UINT32_MAX - 1,
        .ids_max = UINT64_MAX,
        .unpriced = {.context = run->catalog, .is_unpriced = find_unpriced},
    };
    struct weir_lane_state state = {.first_time = INT64_MAX, .last_time = INT64_MIN, .stamp = -1};
    enum weir_status status = weir_source_file_open(request->files, request->file_count, &run->source, reterr);

    if (status == WEIR_OK)
        status = open_output(request, run, reterr);
    if (status == WEIR_OK)
        status = open_quarantine(request, run, reterr);
    if (status != WEIR_OK)
        return status;
    run->rater = weir_rater_new(run->catalog, run->ledger);
    weir_hash_make_secret(state.secret);
    run->intake = weir_intake_new(run->catalog, run->quarantine, false);
    run->lane = weir_lane_new(run->catalog, weir_slice_text("file:0"), &settings);
    return weir_lane_start(run->lane, &state, reterr);
}

static void tear_down(const struct request *request, struct run *run)
{
    weir_rater_free(run->rater);
    weir_ledger_free(run->ledger);
    for (int i = 0; i < 2; i++) {
        free(run->refused[i].windows);
        weir_arena_free(run->refused[i].keys);
    }
    if (request->output && run->output)
        fclose(run->output);
    weir_lane_free(run->lane);
    weir_intake_free(run->intake);
    weir_quarantine_free(run->quarantine);
    weir_source_free(run->source);
    weir_catalog_free(run->catalog);
}

/* 4. the way */

/* By the length of the first ones, where the files tell how long they are. */
static void expect_events(struct run *run, const struct weir_message *messages, size_t count)
{
    uint64_t bytes = 0, read, total;

    weir_source_file_progress(run->source, &read, &total);
    for (size_t i = 0; i < count; i++)
        bytes += messages[i].value.length + 1;
    uint64_t events = bytes ? (uint64_t)((unsigned __int128)total * count / bytes) : 0;
    weir_lane_expect(run->lane, events < EXPECTED_MAX ? events : EXPECTED_MAX);
}

static enum weir_status meter(struct run *run, struct weir_error *reterr)
{
    static struct weir_message messages[WEIR_POLL_MESSAGES_MAX];
    static struct weir_intake_item items[WEIR_POLL_MESSAGES_MAX];
    struct weir_progress progress = weir_progress_start("weir rate");
    enum weir_status status = WEIR_OK;

    while (status == WEIR_OK) {
        size_t count = 0, taken;
        status = run->source->ops->poll(run->source, -1, messages, WEIR_POLL_MESSAGES_MAX, &count, reterr);
        if (count > 0 && weir_lane_state(run->lane)->counts.read == 0)
            expect_events(run, messages, count);
        for (size_t i = 0; i < count; i++)
            items[i] = (struct weir_intake_item){.lane = run->lane, .message = &messages[i]};
        if (status == WEIR_OK)
            status = weir_intake_take(run->intake, items, count, 0, &taken, reterr);
        weir_progress_show(&progress, "%llu events", (unsigned long long)weir_lane_state(run->lane)->counts.read);
    }
    weir_progress_end(&progress);
    if (status != WEIR_AGAIN)
        return status;
    return run->quarantine->ops->flush(run->quarantine, reterr);
}

/* What leaves the range now may be back in it once the others are rated. */
static void keep_refused(void *context, const struct weir_lane_window *window, struct weir_slice why)
{
    struct refused *refused = &((struct run *)context)->refused[0];

    if (refused->count == 0)
        snprintf(refused->first.text, sizeof refused->first.text, "%.*s", (int)why.length, why.data);
    if (refused->count == refused->room) {
        refused->room = refused->room ? refused->room * 2 : WINDOWS_PER_BATCH;
        refused->windows = weir_resize(refused->windows, refused->room, sizeof *refused->windows);
    }
    if (!refused->keys)
        refused->keys = weir_arena_new();
    struct weir_lane_window *kept = &refused->windows[refused->count++];
    *kept = *window;
    kept->window.series_key =
        weir_arena_copy(refused->keys, window->window.series_key.data, window->window.series_key.length);
}

/* Again and again, as long as it helps any of them: the order of windows decides nothing. */
static enum weir_status rate_refused(struct run *run, struct weir_error *reterr)
{
    struct refused *now = &run->refused[0], *last = &run->refused[1];
    enum weir_status status = WEIR_OK;

    while (status == WEIR_OK && now->count > 0) {
        struct refused swap = *last;
        *last = *now;
        *now = swap;
        now->count = 0;
        if (now->keys)
            weir_arena_clear(now->keys);
        status = weir_rater_rate(run->rater, last->windows, last->count, reterr);
        weir_rater_forget_windows(run->rater);
        if (status == WEIR_OK && now->count == last->count)
            status = weir_fail(reterr, WEIR_REJECT, "%s", now->first.text);
    }
    return status;
}

/* All usage of customers up to the series' is rated. */
static enum weir_status finish_customers(struct run *run, const struct weir_horizon *horizon,
                                         struct weir_slice series_key, struct weir_error *reterr)
{
    struct weir_series series;

    weir_check(weir_series_parse(series_key, &series));
    enum weir_status status = rate_refused(run, reterr);
    if (status == WEIR_OK)
        status = weir_rater_settle_through(run->rater, horizon, series.customer, reterr);
    return status == WEIR_OK ? run->ledger->ops->customers_done(run->ledger, reterr) : status;
}

static enum weir_status rate(struct run *run, bool is_open, struct weir_error *reterr)
{
    struct weir_window *windows = weir_new_array(WINDOWS_PER_BATCH, sizeof *windows);
    struct weir_lane_window *batch = weir_new_array(WINDOWS_PER_BATCH, sizeof *batch);
    struct weir_slice lane = weir_lane_name(run->lane);
    const struct weir_lane_state *state = weir_lane_state(run->lane);
    struct weir_horizon horizon = {
        .first_time = state->first_time,
        .last_time = state->last_time,
        .ended = is_open ? state->last_time : WEIR_TIME_NEVER,
    };
    enum weir_status status = WEIR_OK;
    size_t count;
    bool is_whole;

    weir_rater_on_refusal(run->rater, keep_refused, run);
    while (status == WEIR_OK && (count = weir_lane_drain(run->lane, WINDOWS_PER_BATCH, windows, &is_whole)) > 0) {
        for (size_t i = 0; i < count; i++)
            batch[i] = (struct weir_lane_window){.lane = lane, .window = windows[i]};
        status = weir_rater_rate(run->rater, batch, count, reterr);
        weir_rater_forget_windows(run->rater); /* each comes once */
        if (status == WEIR_OK && is_whole)
            status = finish_customers(run, &horizon, windows[count - 1].series_key, reterr);
    }
    if (status == WEIR_OK)
        status = weir_rater_settle(run->rater, &horizon, reterr);
    if (status == WEIR_OK)
        status = run->ledger->ops->finish(run->ledger, reterr);
    free(windows);
    free(batch);
    return status;
}

static void report(const struct run *run, int64_t started)
{
    const struct weir_intake_counts *counts = weir_intake_counts(run->intake);
    const uint64_t *outcomes = counts->outcomes;
    uint64_t read = 0;
    int64_t took = weir_time_now() - started;
    uint64_t milliseconds = (uint64_t)(took > 0 ? took / 1000000 : 0);

    for (int i = 0; i < WEIR_OUTCOME_FULL; i++)
        read += outcomes[i];
    if (outcomes[WEIR_OUTCOME_REJECTED] > 0 && !run->is_kept)
        weir_log_plain(WEIR_LOG_WARN, "%llu events cannot be counted and were not kept; --quarantine FILE keeps them",
                       (unsigned long long)outcomes[WEIR_OUTCOME_REJECTED]);
    uint64_t counted = outcomes[WEIR_OUTCOME_COUNTED] + outcomes[WEIR_OUTCOME_UNPRICED];
    weir_log_plain(
        WEIR_LOG_INFO,
        "read=%llu counted=%llu duplicate=%llu unmatched=%llu retracted=%llu unpriced=%llu quarantined=%llu "
        "windows=%llu line_items=%llu seconds=%llu.%03llu events_per_second=%llu",
        (unsigned long long)read, (unsigned long long)counted, (unsigned long long)outcomes[WEIR_OUTCOME_DUPLICATE],
        (unsigned long long)outcomes[WEIR_OUTCOME_UNMATCHED], (unsigned long long)outcomes[WEIR_OUTCOME_RETRACTED],
        (unsigned long long)outcomes[WEIR_OUTCOME_UNPRICED], (unsigned long long)outcomes[WEIR_OUTCOME_REJECTED],
        (unsigned long long)(weir_rater_counts(run->rater).windows - weir_rater_counts(run->rater).refused),
        (unsigned long long)weir_rater_counts(run->rater).line_items, (unsigned long long)(milliseconds / 1000),
        (unsigned long long)(milliseconds % 1000),
        (unsigned long long)(read * 1000 / (milliseconds ? milliseconds : 1)));
}

int weir_command_rate(int argc, char **argv)
{
    struct request request;
    struct run run = {0};
    struct weir_error error;
    int64_t started = weir_time_now();
    int parsed = parse(argc, argv, &request);

    if (parsed >= 0)
        return parsed;
    if (!check_files(&request))
        return WEIR_EXIT_USAGE;
    weir_log_open("weir rate", false, WEIR_LOG_INFO);
    run.catalog = weir_catalog_option(request.catalog);
    if (!run.catalog)
        return WEIR_EXIT_USAGE;
    enum weir_status status = set_up(&request, &run, &error);
    if (status == WEIR_OK)
        status = meter(&run, &error);
    if (status == WEIR_OK)
        status = rate(&run, request.is_open, &error);
    if (status == WEIR_OK)
        report(&run, started);
    else
        weir_log_plain(WEIR_LOG_ERROR, "%s", error.text);
    tear_down(&request, &run);
    return status == WEIR_OK ? WEIR_EXIT_DONE : status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}
