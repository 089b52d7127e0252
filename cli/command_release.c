/* `weir release`: the operator's word on gaps. Lists open ones, or closes some: the raters then rate their windows.
 * Also his word that a lane is gone for good. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "common/actor.h"
#include "common/calendar.h"
#include "common/log.h"
#include "common/settings.h"
#include "rater/lanes.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_RELEASE,
    .name = "weir release",
    .arguments = "[OPTIONS]",
    .purpose =
        "Gaps are events that Kafka lost before they were counted. Windows that they may concern are held: not\n"
        "rated, until somebody has decided (docs/gaps.md). Without options this lists the open gaps. With --lane and\n"
        "--gap or --all, and --reason, it closes them: running raters then rate what was rebuilt. A window that was\n"
        "rated with more events before keeps what was rated, unless --lower says that what was rebuilt is the truth.\n"
        "With --lane, --end and --reason it says that a lane is gone for good, as those of a topic that is not read\n"
        "any more are: periods, months and expiries wait for it no longer.",
    .example = "weir release --lane events:3 --gap 7 --reason 'producer outage on Nov 25, nothing was sent'",
};

static void print_gap(const struct weir_open_gap *open, int width)
{
    char from[WEIR_TIME_TEXT_MAX], to[WEIR_TIME_TEXT_MAX], offsets[64];

    weir_time_format(open->gap.time_from, from);
    weir_time_format(open->gap.time_to, to);
    if (open->gap.to == WEIR_GAP_END_UNKNOWN)
        (void)snprintf(offsets, sizeof offsets, "%" PRId64 "..", open->gap.from);
    else
        (void)snprintf(offsets, sizeof offsets, "%" PRId64 "..%" PRId64, open->gap.from, open->gap.to - 1);
    printf("%-*.*s  %6" PRId64 "  %-14s  %24s  %-30s  %-30s  %8" PRIu64 "  %8" PRIu64 "\n", width,
           (int)open->lane.length, open->lane.data, open->number, weir_gap_kind_name[open->gap.kind], offsets, from, to,
           open->held, open->fewer);
}

static enum weir_status list(struct weir_lane_book *book, const struct weir_settings *settings,
                             struct weir_error *reterr)
{
    const struct weir_open_gap *gaps = NULL;
    size_t count = 0;
    int width = 4;
    enum weir_status status = weir_lane_book_open_gaps(book, settings->kafka_topic, true, &gaps, &count, reterr);

    if (status != WEIR_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        width = (int)gaps[i].lane.length > width ? (int)gaps[i].lane.length : width;
    if (count > 0)
        printf("%-*s  %6s  %-14s  %24s  %-30s  %-30s  %8s  %8s\n", width, "lane", "gap", "kind", "offsets",
               "usage from", "usage to", "held", "fewer");
    for (size_t i = 0; i < count; i++)
        print_gap(&gaps[i], width);
    printf("weir release: open=%zu\n", count);
    return WEIR_OK;
}

static enum weir_status release(struct weir_lane_book *book, const struct weir_settings *settings,
                                struct weir_error *reterr)
{
    char by[WEIR_ACTOR_MAX];
    struct weir_release_counts counts = {0};
    const struct weir_release word = {
        .lane = weir_slice_text(settings->lane),
        .gap = settings->all ? 0 : settings->gap,
        .by = weir_actor(by),
        .reason = settings->reason,
        .lowers = settings->lower,
    };
    enum weir_status status = weir_lane_book_release(book, &word, settings->dry_run, &counts, reterr);

    if (status != WEIR_OK)
        return status;
    if (counts.gaps == 0)
        return weir_fail(reterr, WEIR_REJECT, "lane %s has no such open gap; `weir release` lists them",
                         settings->lane);
    printf("weir release: %sgaps=%" PRIu64 " rated=%" PRIu64 " kept=%" PRIu64 " lowered=%" PRIu64 "\n",
           settings->dry_run ? "dry_run " : "", counts.gaps, counts.rated, counts.kept, counts.lowered);
    return WEIR_OK;
}

static enum weir_status end(struct weir_lane_book *book, const struct weir_settings *settings,
                            struct weir_error *reterr)
{
    char by[WEIR_ACTOR_MAX];
    enum weir_status status = weir_lane_book_end(book, weir_slice_text(settings->lane), weir_actor(by),
                                                 settings->reason, settings->dry_run, reterr);

    if (status == WEIR_OK)
        printf("weir release: %sended=%s\n", settings->dry_run ? "dry_run " : "", settings->lane);
    return status;
}

static enum weir_status decide(struct weir_lane_book *book, const struct weir_settings *settings,
                               struct weir_error *reterr)
{
    return settings->end ? end(book, settings, reterr) : release(book, settings, reterr);
}

/* What is wrong with the options together, or NULL. */
static const char *mistake(const struct weir_settings *settings)
{
    bool is_word =
        *settings->lane || settings->gap || settings->all || settings->lower || settings->end || *settings->reason;

    if (!is_word)
        return NULL;
    if (!*settings->lane)
        return "--lane is needed to release: which lane's gaps";
    if (settings->end && (settings->gap || settings->all || settings->lower))
        return "--end is of a lane, not of its gaps: without --gap, --all and --lower";
    if (!settings->end && (settings->gap != 0) == settings->all)
        return "either --gap N or --all is needed to release, or --end of the lane";
    if (!*settings->reason && !settings->dry_run)
        return "--reason is needed to release: it is kept for those who ask later";
    return NULL;
}

int weir_command_release(int argc, char **argv)
{
    struct weir_settings settings;
    struct weir_error error = {{0}};
    int parsed = weir_settings_load(&usage, argc, argv, &settings);

    if (parsed >= 0)
        return parsed;
    const char *wrong = mistake(&settings);
    if (wrong) {
        weir_log_plain(WEIR_LOG_ERROR, "%s", wrong);
        weir_settings_free(&settings);
        return WEIR_EXIT_USAGE;
    }
    struct weir_lane_book *book = weir_lane_book_new(settings.postgres_url);
    enum weir_status status = *settings.lane ? decide(book, &settings, &error) : list(book, &settings, &error);
    if (status != WEIR_OK)
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    weir_lane_book_free(book);
    weir_settings_free(&settings);
    return status == WEIR_OK ? WEIR_EXIT_DONE : status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}
