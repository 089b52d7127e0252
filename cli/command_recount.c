/* `weir recount`: a meter counted again for the past, out of Kafka or archived files, and what differs rated. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/catalog_option.h"
#include "cli/commands.h"
#include "cli/listing.h"
#include "cli/recount.h"
#include "cli/rerate_report.h"
#include "cli/time_option.h"
#include "common/actor.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "rater/apply.h"
#include "rater/calendars.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_RECOUNT,
    .name = "weir recount",
    .arguments = "--meter KEY --dry-run | --reason TEXT [OPTIONS] [FILE...]",
    .purpose =
        "Counts a new or corrected meter for the past: reads the topic again, up to where the lanes are, or archived\n"
        "FILEs (NDJSON; - is standard input; .gz and .zst are read as they are), and compares each window with what\n"
        "was rated (docs/meter-changes.md). With --dry-run it reports what differs and writes nothing; --charges does\n"
        "so in money, --catalog tries a catalog that was not applied. With --reason it rates what differs as late\n"
        "usage is rated, under a number of its own; a run that was broken off goes on when it is started again as it\n"
        "was. Only windows that take no more events are counted again, and only where all of their events are still\n"
        "there to be read.",
    .example = "weir recount --meter tokens --from 2026-01-01 --to 2026-02-01 --reason 'counted retries, ticket 4711'",
    .takes_files = true,
};

/* 1. what differs */
enum { COLUMNS = 10 };
static const struct weir_column columns[COLUMNS] = {
    {"customer", WEIR_CELL_TEXT, false},        {"meter", WEIR_CELL_TEXT, false},
    {"dimensions", WEIR_CELL_JSON, false},      {"window_start", WEIR_CELL_TEXT, false},
    {"window_end", WEIR_CELL_TEXT, false},      {"before", WEIR_CELL_DECIMAL, false},
    {"after", WEIR_CELL_DECIMAL, false},        {"difference", WEIR_CELL_DECIMAL, false},
    {"events_before", WEIR_CELL_NUMBER, false}, {"events_after", WEIR_CELL_NUMBER, false},
};

struct window_row {
    struct weir_decimal before, after, difference;
    uint64_t events_before, events_after;
};

static bool find_row(const struct weir_recount *recount, const struct weir_window_total *before,
                     const struct weir_window_total *after, struct window_row *ret_row)
{
    ret_row->events_before = before->events;
    ret_row->events_after = after->events;
    return weir_quantity_of(recount->meter_before->aggregation, before, &ret_row->before)
           && weir_quantity_of(recount->meter->aggregation, after, &ret_row->after)
           && weir_decimal_subtract(ret_row->after, ret_row->before, &ret_row->difference);
}

static void show_row(struct weir_listing *listing, const struct weir_recount_share *share, const struct window_row *row)
{
    static char dimensions[WEIR_CELL_MAX];
    char start[WEIR_TIME_TEXT_MAX], end[WEIR_TIME_TEXT_MAX], events[2][24];
    char quantities[3][WEIR_DECIMAL_TEXT_MAX];
    struct weir_series series = {0};

    weir_check(weir_series_parse(share->series_key, &series));
    weir_time_format(share->start, start);
    weir_time_format(share->end, end);
    weir_decimal_format(row->before, quantities[0]);
    weir_decimal_format(row->after, quantities[1]);
    weir_decimal_format(row->difference, quantities[2]);
    (void)snprintf(events[0], sizeof events[0], "%" PRIu64, row->events_before);
    (void)snprintf(events[1], sizeof events[1], "%" PRIu64, row->events_after);
    size_t length = weir_dimensions_json(series.dimensions, series.dimension_count, dimensions);
    const struct weir_slice cells[COLUMNS] = {
        series.customer,
        series.meter,
        weir_slice_of(dimensions, length),
        weir_slice_text(start),
        weir_slice_text(end),
        weir_slice_text(quantities[0]),
        weir_slice_text(quantities[1]),
        weir_slice_text(quantities[2]),
        weir_slice_text(events[0]),
        weir_slice_text(events[1]),
    };
    weir_listing_add(listing, cells);
}

static enum weir_status report(const struct weir_recount *recount, struct weir_error *reterr)
{
    struct weir_listing listing = weir_listing_begin(recount->settings.format, columns, COLUMNS);
    enum weir_status status = WEIR_OK;

    for (size_t first = 0, next = 0; first < recount->share_count && status == WEIR_OK; first = next) {
        const struct weir_recount_share *share = &recount->shares[first];
        struct weir_window_total before, after;
        struct window_row row;
        status = weir_recount_merge(recount, first, &before, &after, &next, reterr);
        if (status != WEIR_OK || share->verdict != WEIR_RECOUNT_CHANGED)
            continue;
        if (!find_row(recount, &before, &after, &row))
            status = weir_fail(reterr, WEIR_REJECT, "a difference does not fit (limit about 1.7e26)");
        else
            show_row(&listing, share, &row);
    }
    return weir_listing_finish(&listing, status, reterr);
}

/* The same in money. */
static enum weir_status report_charges(const struct weir_recount *recount, struct weir_error *reterr)
{
    char title[WEIR_SETTING_TEXT_MAX + 64], filters[WEIR_SETTING_TEXT_MAX];
    const struct weir_settings *settings = &recount->settings;
    struct weir_rerate_report charges;
    const struct weir_report_heading heading = {
        .title = title,
        .catalog = *settings->catalog ? settings->catalog : "the catalog in force",
        .filters = filters,
        .has_items = true,
    };

    (void)snprintf(title, sizeof title, "Recount of meter %s (dry run: nothing was written)", settings->meter);
    weir_report_filters(settings, filters, sizeof filters);
    weir_rehearsal_report(recount->rehearsal, &charges);
    charges.counts.windows = recount->verdicts[WEIR_RECOUNT_CHANGED];
    return weir_rerate_report_write(&charges, &heading, settings->format, stdout, reterr);
}

/* 2. what could not be counted again, and why */
static void tell_lost(const struct weir_recount *recount)
{
    char time[WEIR_TIME_TEXT_MAX];

    for (size_t i = 0; i < recount->lane_count; i++) {
        const struct weir_recount_lane *lane = &recount->lanes[i];
        if (lane->complete_from <= recount->filter.from || recount->file_count)
            continue;
        if (lane->complete_from == WEIR_TIME_NEVER) {
            weir_log(WEIR_LOG_WARN,
                     "lane %s: Kafka holds nothing below offset %" PRId64 ", and nothing tells of which time that was: "
                     "no window can be counted again. Count from an archive",
                     lane->name_bytes, lane->offsets.low);
            continue;
        }
        weir_time_format(lane->complete_from, time);
        weir_log(WEIR_LOG_WARN,
                 "lane %s: Kafka holds nothing below offset %" PRId64 ", so windows that start before %s cannot be "
                 "counted again. Count those from an archive",
                 lane->name_bytes, lane->offsets.low, time);
    }
}

static void tell_left(const struct weir_recount *recount)
{
    const uint64_t *windows = recount->verdicts;
    char time[WEIR_TIME_TEXT_MAX];

    tell_lost(recount);
    if (windows[WEIR_RECOUNT_LOST])
        weir_log(WEIR_LOG_WARN, "%" PRIu64 " windows whose events are not all in Kafka any more are left as they are",
                 windows[WEIR_RECOUNT_LOST]);
    if (windows[WEIR_RECOUNT_FROM_FILES])
        weir_log(WEIR_LOG_WARN, "%" PRIu64 " windows were counted from files, and are only counted from files again",
                 windows[WEIR_RECOUNT_FROM_FILES]);
    if (windows[WEIR_RECOUNT_WAITING])
        weir_log(WEIR_LOG_WARN, "%" PRIu64 " windows wait to be rated: let weir rater finish, and run this again",
                 windows[WEIR_RECOUNT_WAITING]);
    if (windows[WEIR_RECOUNT_HELD])
        weir_log(WEIR_LOG_WARN, "%" PRIu64 " windows are in an open gap: `weir release` first (docs/gaps.md)",
                 windows[WEIR_RECOUNT_HELD]);
    if (recount->final_until < recount->filter.to && recount->final_until > 0) {
        weir_time_format(recount->final_until, time);
        weir_log(WEIR_LOG_INFO, "windows that end after %s still take events: run this again once they do not", time);
    } else if (recount->final_until <= 0)
        weir_log(WEIR_LOG_WARN, "some lane still takes events of any time: no window can be counted again yet");
    if (recount->is_quarantine_short)
        weir_log(WEIR_LOG_WARN, "the quarantine topic has lost records: events that had been refused by the clock may "
                                "count now");
}

static void tell_refused(const struct weir_recount *recount)
{
    for (int i = 0; i < WEIR_REASON_COUNT; i++)
        if (recount->rejections[i])
            weir_log(WEIR_LOG_WARN,
                     "%" PRIu64 " events that are not in quarantine cannot be counted by this catalog: %s",
                     recount->rejections[i], weir_reason_name[i]);
}

static void tell_charge(const struct weir_recount *recount, struct weir_slice currency, struct weir_decimal amount)
{
    char text[WEIR_DECIMAL_TEXT_MAX];

    weir_decimal_format_short(amount, text);
    if (recount->run)
        weir_log_plain(WEIR_LOG_INFO, "recount %" PRId64 " charges %s %.*s", recount->run, text, (int)currency.length,
                       currency.data);
    else
        weir_log_plain(WEIR_LOG_INFO, "it would charge %s %.*s", text, (int)currency.length, currency.data);
}

static int by_currency(const void *a, const void *b)
{
    const struct weir_rerate_row *left = a, *right = b;

    return weir_slice_compare(left->currency, right->currency);
}

/* What a run would charge; afterwards the rehearsal's rows are by currency. A difference that does not fit is not told:
 * the run would end with it. */
static void tell_rehearsed(const struct weir_recount *recount)
{
    struct weir_rerate_report charges;
    struct weir_slice why;
    uint64_t left_out = weir_rehearsal_left_out(recount->rehearsal, &why);

    weir_rehearsal_report(recount->rehearsal, &charges);
    if (charges.row_count)
        qsort(charges.rows, charges.row_count, sizeof *charges.rows, by_currency);
    for (size_t i = 0; i < charges.row_count;) {
        struct weir_decimal before = {0}, after = {0}, sum;
        struct weir_slice currency = charges.rows[i].currency;
        bool is_fitting = true;
        for (; i < charges.row_count && weir_slice_equal(charges.rows[i].currency, currency); i++)
            is_fitting = is_fitting && weir_decimal_add(before, charges.rows[i].before, &before)
                         && weir_decimal_add(after, charges.rows[i].after, &after);
        if (is_fitting && weir_decimal_subtract(after, before, &sum) && !weir_decimal_is_zero(sum))
            tell_charge(recount, currency, sum);
    }
    if (charges.counts.unpriced)
        weir_log(WEIR_LOG_WARN, "%" PRIu64 " shares of windows have no price by this catalog", charges.counts.unpriced);
    if (left_out)
        weir_log(WEIR_LOG_WARN, "of %" PRIu64 " windows it cannot be told what they would be charged%s%.*s", left_out,
                 why.length ? ": " : "", (int)why.length, why.data);
}

static void tell_counts(const struct weir_recount *recount, const struct weir_recount_result *result)
{
    const uint64_t *outcomes = recount->outcomes, *windows = recount->verdicts;
    uint64_t left = 0, read = recount->left_out;

    for (int i = WEIR_RECOUNT_LOST; i < WEIR_RECOUNT_VERDICT_COUNT; i++)
        left += windows[i];
    for (int i = 0; i < WEIR_OUTCOME_FULL; i++)
        read += outcomes[i];
    for (size_t i = 0; i < result->charge_count; i++)
        tell_charge(recount, result->charges[i].currency, result->charges[i].amount);
    weir_log_plain(WEIR_LOG_INFO,
                   "read=%" PRIu64 " counted=%" PRIu64 " duplicate=%" PRIu64 " unmatched=%" PRIu64 " retracted=%" PRIu64
                   " quarantined=%" PRIu64 " refused=%" PRIu64 " changed=%" PRIu64 " unchanged=%" PRIu64
                   " left=%" PRIu64 " line_items=%" PRIu64 " recount=%" PRId64,
                   read, outcomes[WEIR_OUTCOME_COUNTED] + outcomes[WEIR_OUTCOME_UNPRICED],
                   outcomes[WEIR_OUTCOME_DUPLICATE], outcomes[WEIR_OUTCOME_UNMATCHED], outcomes[WEIR_OUTCOME_RETRACTED],
                   recount->left_out, outcomes[WEIR_OUTCOME_REJECTED], windows[WEIR_RECOUNT_CHANGED],
                   windows[WEIR_RECOUNT_SAME], left, result->line_items, recount->run);
}

/* 3. the run */
static enum weir_status begin(struct weir_recount *recount, struct weir_error *reterr)
{
    char by[WEIR_ACTOR_MAX];
    const struct weir_recount_order order = {
        .filter = recount->filter,
        .reason = recount->settings.reason,
        .by = weir_actor(by),
        .source = recount->file_count ? "files" : "kafka",
        .catalog_version = recount->catalog_version,
    };
    bool was_begun = false;
    enum weir_status status = weir_recount_book_open(recount->settings.postgres_url, &recount->book, reterr);

    if (status == WEIR_OK && !recount->settings.dry_run)
        status = weir_recount_begin(recount->book, &order, &recount->run, &was_begun, reterr);
    if (was_begun)
        weir_log(WEIR_LOG_INFO, "goes on with recount %" PRId64 ", which had been broken off", recount->run);
    return status;
}

static enum weir_status recount_past(struct weir_recount *recount, struct weir_error *reterr)
{
    struct weir_recount_result result = {0};
    enum weir_status status = weir_recount_look(recount, reterr);

    if (status == WEIR_OK)
        status = weir_recount_count(recount, reterr);
    if (status == WEIR_OK)
        status = begin(recount, reterr);
    if (status == WEIR_OK)
        status = weir_recount_compare(recount, reterr);
    if (status == WEIR_OK)
        status = recount->run ? weir_recount_write(recount, reterr) : weir_recount_rehearse(recount, reterr);
    if (status == WEIR_OK)
        status = recount->settings.charges ? report_charges(recount, reterr) : report(recount, reterr);
    if (status == WEIR_OK && recount->run)
        status = weir_recount_end(recount->book, recount->run, &result, reterr);
    if (status == WEIR_OK) {
        tell_left(recount);
        tell_refused(recount);
        if (recount->rehearsal)
            tell_rehearsed(recount);
        tell_counts(recount, &result);
    } else if (recount->run)
        weir_log(WEIR_LOG_WARN,
                 "recount %" PRId64 " is not done; the same command goes on with it while no other catalog is applied",
                 recount->run);
    return status;
}

/* 4. the command */

/* NULL: all is well. */
static const char *mistake(struct weir_recount *recount)
{
    const struct weir_settings *settings = &recount->settings;

    recount->filter.meter = weir_slice_text(settings->meter);
    recount->filter.customer = weir_slice_text(settings->customer);
    if (!*settings->meter)
        return "--meter is missing: which meter is counted again";
    if (settings->dry_run == (*settings->reason != '\0'))
        return settings->dry_run ? "--dry-run writes nothing, so --reason is for a run without it"
                                 : "either --dry-run, or --reason: it is kept for those who ask later";
    if (settings->charges && !settings->dry_run)
        return "--charges is for --dry-run: what a run charged stands in weir.line_items under its number";
    if (!settings->charges && strcmp(settings->format, "html") == 0)
        return "--format html is for --charges";
    if (settings->is_catalog_by_flag && !settings->dry_run)
        return "--catalog is for --dry-run: what is rated goes by the catalog that was applied";
    if (!weir_time_option(settings->from, INT64_MIN, &recount->filter.from)
        || !weir_time_option(settings->to, WEIR_TIME_NEVER, &recount->filter.to))
        return "--from and --to are times: write 2026-01-31 or 2026-01-31T12:00:00Z";
    if (recount->filter.from >= recount->filter.to)
        return "--to must be after --from: a window that starts at --to is not looked at";
    if (recount->file_count && (!*settings->from || !*settings->to))
        return "FILEs need --from and --to: of windows between them, the files must hold every event";
    if (strlen(settings->kafka_topic) + strlen(WEIR_RECOUNTED_SUFFIX ":0") > WEIR_LANE_NAME_MAX)
        return "the topic's name is too long for a lane of its own";
    return NULL;
}

static enum weir_status end_with(enum weir_status status, const struct weir_error *error)
{
    if (status != WEIR_OK)
        weir_log(WEIR_LOG_ERROR, "%s", error->text);
    return status;
}

static int exit_code(enum weir_status status)
{
    return status == WEIR_OK ? WEIR_EXIT_DONE : status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}

static void choose_meter(struct weir_recount *recount)
{
    recount->alone = *recount->meter;
    recount->alone.index = 0;
    recount->alone.is_retractable = true;
    recount->counted = (struct weir_catalog){
        .path_count = recount->catalog->path_count,
        .paths = recount->catalog->paths,
        .meter_count = 1,
        .meters = &recount->alone,
    };
}

/* -1: go on. */
static int open_catalogs(struct weir_recount *recount)
{
    const char *url = recount->settings.postgres_url;
    struct weir_error error = {{0}};
    bool is_tried = recount->settings.dry_run && *recount->settings.catalog != '\0';
    enum weir_status status = weir_apply_load_version(url, &recount->applied, &recount->catalog_version, &error);

    if (status == WEIR_REJECT && is_tried)
        status = WEIR_OK; /* none was applied, so nothing was rated */
    if (status != WEIR_OK)
        return exit_code(end_with(status, &error));
    recount->catalog = is_tried ? weir_catalog_option(recount->settings.catalog) : recount->applied;
    if (!recount->catalog)
        return WEIR_EXIT_USAGE;
    status = weir_calendars_open(url, recount->catalog, recount->settings.dry_run, &error);
    if (status != WEIR_OK)
        return exit_code(end_with(status, &error));
    recount->meter = weir_catalog_meter(recount->catalog, recount->filter.meter);
    recount->meter_before = recount->applied ? weir_catalog_meter(recount->applied, recount->filter.meter) : NULL;
    if (!recount->meter_before)
        recount->meter_before = recount->meter;
    if (recount->meter) {
        choose_meter(recount);
        return -1;
    }
    weir_log(WEIR_LOG_ERROR, "the catalog has no meter '%s'; `weir apply` brings it in, or --dry-run --catalog NEW",
             recount->settings.meter);
    return WEIR_EXIT_USAGE;
}

static void tear_down(struct weir_recount *recount)
{
    weir_recount_book_free(recount->book);
    weir_rehearsal_free(recount->rehearsal);
    weir_window_store_free(recount->side);
    weir_arena_free(recount->arena);
    free(recount->lanes);
    free(recount->waiting);
    free(recount->gaps);
    free(recount->found);
    free(recount->shares);
    if (recount->catalog != recount->applied)
        weir_catalog_free(recount->catalog);
    weir_catalog_free(recount->applied);
    weir_settings_free(&recount->settings);
}

int weir_command_recount(int argc, char **argv)
{
    struct weir_recount recount = {0};
    struct weir_error error = {{0}};
    int code = weir_settings_load(&usage, argc, argv, &recount.settings);

    if (code >= 0)
        return code;
    recount.stop = weir_daemon_catch_signals();
    recount.files = (const char *const *)recount.settings.arguments;
    recount.file_count = (size_t)recount.settings.argument_count;
    const char *wrong = mistake(&recount);
    if (wrong) {
        weir_log_plain(WEIR_LOG_ERROR, "%s; `%s --help` shows how", wrong, usage.name);
        weir_settings_free(&recount.settings);
        return WEIR_EXIT_USAGE;
    }
    (void)snprintf(recount.files_lane, sizeof recount.files_lane, "%s" WEIR_RECOUNTED_SUFFIX ":0",
                   recount.settings.kafka_topic);
    recount.arena = weir_arena_new();
    recount.side = weir_store_memory_new();
    code = open_catalogs(&recount);
    if (code < 0)
        code = exit_code(end_with(recount_past(&recount, &error), &error));
    tear_down(&recount);
    return code;
}
