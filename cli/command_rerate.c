/* `weir rerate` and `weir backtest`: the past priced again, by the catalog in force or by another one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/catalog_option.h"
#include "cli/commands.h"
#include "cli/rerate_report.h"
#include "cli/time_option.h"
#include "common/actor.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/settings.h"
#include "rater/apply.h"
#include "rater/calendars.h"
#include "rater/catalog_difference.h"
#include "rater/rerate.h"

static const struct weir_usage rerate_usage = {
    .command = WEIR_COMMAND_RERATE,
    .name = "weir rerate",
    .arguments = "--dry-run | --reason TEXT [OPTIONS]",
    .purpose =
        "Prices usage of the past again by the catalog that was applied last: windows as PostgreSQL has them, from "
        "the\n"
        "start of each billing period (docs/rerating.md). With --dry-run it reports what each customer is charged\n"
        "before and after, and writes nothing. With --reason it brings the ledger to it: reversals and new line items\n"
        "under a number of their own, customer by customer. A run that was broken off goes on when it is started\n"
        "again as it was. The options choose what is looked at; whole billing periods always are.",
    .example = "weir rerate --reason 'price of tokens was wrong, ticket 4711' --from 2026-01-01 --to 2026-02-01 "
               "--meter tokens",
};

static const struct weir_usage backtest_usage = {
    .command = WEIR_COMMAND_BACKTEST,
    .name = "weir backtest",
    .arguments = "--catalog NEW [OPTIONS]",
    .purpose = "Prices usage of the past by a catalog that was not applied, and reports revenue by customer and by "
               "meter, fee\n"
               "and commitment, before and after. Reads windows as PostgreSQL has them; writes nothing.",
    .example = "weir backtest --catalog next-year --from 2026-01-01 --to 2026-04-01 --format csv > revenue.csv",
};

/* 1. options */

/* KEY or KEY@VERSION. */
static bool read_price_book(const char *text, struct weir_rerate_filter *filter)
{
    const char *at = strrchr(text, '@');
    char *end = NULL;
    unsigned long version = at ? strtoul(at + 1, &end, 10) : 0;

    filter->price_book = weir_slice_of(text, at ? (size_t)(at - text) : strlen(text));
    filter->price_book_version = (uint32_t)version;
    return !at || (version >= 1 && version <= INT32_MAX && end != at + 1 && !*end && filter->price_book.length);
}

/* NULL: all is well. */
static const char *read_filter(const struct weir_settings *settings, struct weir_rerate_filter *filter)
{
    *filter = (struct weir_rerate_filter){
        .customer = weir_slice_text(settings->customer),
        .meter = weir_slice_text(settings->meter),
        .contract = weir_slice_text(settings->contract),
    };
    if (!weir_time_option(settings->from, INT64_MIN, &filter->from))
        return "--from is no time; write 2026-01-31 or 2026-01-31T12:00:00Z";
    if (!weir_time_option(settings->to, WEIR_TIME_NEVER, &filter->to))
        return "--to is no time; write 2026-01-31 or 2026-01-31T12:00:00Z";
    if (filter->from >= filter->to)
        return "--to must be after --from: what starts at --to is not looked at";
    if (!read_price_book(settings->price_book, filter))
        return "--price-book must be KEY or KEY@VERSION, a number from 1";
    return NULL;
}

/* 2. the run */
static void show(void *context, const struct weir_rerate_counts *counts)
{
    weir_progress_show(context, "%" PRIu64 " of %" PRIu64 " customers, %" PRIu64 " windows, %" PRIu64 " changed",
                       counts->customers, counts->customers_all, counts->windows, counts->changed);
}

static int end_with(enum weir_status status, const struct weir_error *error)
{
    if (status == WEIR_OK)
        return WEIR_EXIT_DONE;
    weir_log(WEIR_LOG_ERROR, "%s", error->text);
    return status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}

static void tell(const struct weir_rerate_counts *counts, int64_t number)
{
    weir_log_plain(WEIR_LOG_INFO,
                   "customers=%" PRIu64 " changed=%" PRIu64 " windows=%" PRIu64 " unpriced=%" PRIu64
                   " reversals=%" PRIu64 " line_items=%" PRIu64 " rerating=%" PRId64,
                   counts->customers, counts->changed, counts->windows, counts->unpriced, counts->reversals,
                   counts->line_items, number);
}

/* catalog_version 0: nothing is written. */
static int rate_again(const struct weir_usage *usage, const struct weir_settings *settings,
                      const struct weir_catalog *catalog, int catalog_version, const struct weir_rerate_filter *filter,
                      const _Atomic bool *stop)
{
    char filters[WEIR_SETTING_TEXT_MAX];
    struct weir_progress progress = weir_progress_start(usage->name);
    struct weir_rerate_report report = {0};
    struct weir_error error = {{0}};
    bool is_backtest = usage == &backtest_usage;
    const struct weir_rerate_request request = {
        .url = settings->postgres_url,
        .catalog = catalog,
        .filter = *filter,
        .workers = (int)settings->workers,
        .has_items = is_backtest,
        .shows_chosen = is_backtest,
        .stop = stop,
        .progress = show,
        .context = &progress,
    };
    char title[64] = "Backtest", by[WEIR_ACTOR_MAX];
    const struct weir_rerate_order order = {settings->reason, weir_actor(by), catalog_version};
    const struct weir_report_heading heading = {
        .title = title,
        .catalog = is_backtest ? settings->catalog : "the catalog in force",
        .filters = filters,
        .has_items = is_backtest,
    };
    int64_t number = 0;
    bool was_begun = false;

    weir_report_filters(settings, filters, sizeof filters);
    enum weir_status status = catalog_version
                                  ? weir_rerate_write(&request, &order, &number, &was_begun, &report, &error)
                                  : weir_rerate_look(&request, &report, &error);
    weir_progress_end(&progress);
    if (!is_backtest && number)
        (void)snprintf(title, sizeof title, "Rerating %" PRId64, number);
    else if (!is_backtest)
        (void)snprintf(title, sizeof title, "Rerating (dry run: nothing was written)");
    if (status == WEIR_OK)
        status = weir_rerate_report_write(&report, &heading, settings->format, stdout, &error);
    if (was_begun)
        weir_log(WEIR_LOG_INFO, "went on with rerating %" PRId64 ", which had been broken off", number);
    if (status == WEIR_OK)
        tell(&report.counts, number);
    else if (number)
        weir_log(WEIR_LOG_WARN,
                 "rerating %" PRId64 " is not done; the same command goes on with it while no other catalog is applied",
                 number);
    weir_rerate_report_free(&report);
    return end_with(status, &error);
}

/* What was counted otherwise than the catalog to try would count cannot be seen from stored windows. */
static void warn_of_meters(const struct weir_settings *settings, const struct weir_catalog *catalog)
{
    struct weir_catalog *applied = NULL;
    struct weir_change_list changes = {0};
    struct weir_error error;

    if (weir_apply_load_catalog(settings->postgres_url, &applied, &error) != WEIR_OK)
        return; /* none was applied; what else is wrong, the run itself will say */
    weir_catalog_difference(applied, catalog, &changes);
    for (size_t i = 0; i < changes.count; i++) {
        const struct weir_change *change = &changes.changes[i];
        if (change->kind != WEIR_CHANGE_METER || change->is_removed)
            continue;
        struct weir_slice key = change->after.meter->key;
        if (!*settings->meter || weir_slice_equal(key, weir_slice_text(settings->meter)))
            weir_log(
                WEIR_LOG_WARN,
                "meter '%.*s' %s: weir recount --dry-run --charges --meter KEY --catalog NEW says what that changes",
                (int)key.length, key.data,
                change->is_added ? "is new, and charges only what was counted by it"
                                 : "counts otherwise, and its usage is priced as it was counted");
    }
    weir_change_list_free(&changes);
    weir_catalog_free(applied);
}

static int refuse(const char *wrong)
{
    weir_log_plain(WEIR_LOG_ERROR, "%s", wrong);
    return WEIR_EXIT_USAGE;
}

/* 3. the commands */
static int run(const struct weir_usage *usage, int argc, char **argv)
{
    struct weir_settings settings;
    struct weir_rerate_filter filter;
    struct weir_catalog *catalog = NULL;
    struct weir_error error = {{0}};
    int version = 0;
    int code = weir_settings_load(usage, argc, argv, &settings);

    if (code >= 0)
        return code;
    const _Atomic bool *stop = weir_daemon_catch_signals();
    bool is_backtest = usage == &backtest_usage;
    const char *wrong = read_filter(&settings, &filter);
    if (!wrong && is_backtest && !*settings.catalog)
        wrong = "no catalog; give --catalog NEW, the one to try";
    if (!wrong && !is_backtest && settings.dry_run == (*settings.reason != '\0'))
        wrong = settings.dry_run ? "--dry-run writes nothing, so --reason is for a run without it"
                                 : "either --dry-run, or --reason: it is kept for those who ask later";
    if (wrong) {
        code = refuse(wrong);
    } else if (is_backtest) {
        catalog = weir_catalog_option(settings.catalog);
        code = catalog ? -1 : WEIR_EXIT_USAGE;
    } else {
        enum weir_status status = weir_apply_load_version(settings.postgres_url, &catalog, &version, &error);
        code = status == WEIR_OK ? -1 : end_with(status, &error);
    }
    if (code < 0) {
        bool writes_nothing = is_backtest || settings.dry_run;
        enum weir_status status = weir_calendars_open(settings.postgres_url, catalog, writes_nothing, &error);
        code = status == WEIR_OK ? -1 : end_with(status, &error);
    }
    if (code < 0 && is_backtest)
        warn_of_meters(&settings, catalog);
    if (code < 0)
        code = rate_again(usage, &settings, catalog, is_backtest || settings.dry_run ? 0 : version, &filter, stop);
    weir_catalog_free(catalog);
    weir_settings_free(&settings);
    return code;
}

int weir_command_rerate(int argc, char **argv)
{
    return run(&rerate_usage, argc, argv);
}

int weir_command_backtest(int argc, char **argv)
{
    return run(&backtest_usage, argc, argv);
}
