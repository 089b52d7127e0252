/* `weir rater`: windows in Redis -> line items in PostgreSQL. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "aggregator/window_store.h"
#include "cli/commands.h"
#include "cli/open.h"
#include "cli/rater_internal.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/settings.h"
#include "rater/calendars.h"
#include "rater/claims.h"
#include "rater/lanes.h"
#include "rater/rate.h"
#include "rater/reconciliations.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_RATER,
    .name = "weir rater",
    .arguments = "[OPTIONS]",
    .purpose =
        "Rates closed windows: compares each window's total in Redis with what was rated before, and writes the\n"
        "difference as line items to PostgreSQL. Several raters share the lanes. Also settles billing periods:\n"
        "fees and true-ups. SIGTERM stops after the transaction under way.",
    .example = "WEIR_REDIS_URL=redis://127.0.0.1:6379 weir rater --postgres-url postgresql:///weir --until-done",
};

static const char waiting[] = "nothing is rated, trying again";

enum { RETRY_MOST_MS = 5000 };
/* A batch takes seconds; a rater that is stopped keeps lanes from the others so long. */
#define CLAIM_IDLE WEIR_MINUTE

/* 1. rounds */

/* --until-done ends some time when a server stays away. */
static bool is_out_of_patience(const struct rating *rating)
{
    return rating->settings.until_done && weir_outage_lasts(&rating->outage) > rating->settings.patience;
}

static enum weir_status give_up(struct weir_error *reterr)
{
    struct weir_error why = *reterr;
    return weir_fail(reterr, WEIR_FATAL, "%s. Patience is at its end; start it again to go on", why.text);
}

static void rest(int64_t duration)
{
    struct timespec time = {duration / WEIR_SECOND, duration % WEIR_SECOND};
    nanosleep(&time, NULL); /* a signal ends it early, which is what we want */
}

static void ignore(void *context, struct weir_slice why)
{
    (void)context, (void)why;
}

/* --until-done does not say that all is done when something cannot be. */
static enum weir_status check_nothing_refused(struct rating *rating, struct weir_error *reterr)
{
    uint64_t windows = 0, periods = 0, unreadable = 0;
    enum weir_status status = weir_lane_book_refused(rating->book, rating->settings.kafka_topic, &windows, reterr);

    if (status == WEIR_OK)
        status = weir_lane_book_refused_periods(rating->book, 1, ignore, NULL, &periods, reterr);
    for (size_t i = 0; i < rating->lane_count; i++)
        unreadable += rating->lanes[i].unreadable;
    if (status == WEIR_OK && windows)
        return weir_fail(reterr, WEIR_FATAL,
                         "all else is rated, but %" PRIu64
                         " windows cannot be: SELECT * FROM weir.held_usage WHERE refused "
                         "IS NOT NULL says why; mend that and start it again",
                         windows);
    if (status == WEIR_OK && periods)
        return weir_fail(reterr, WEIR_FATAL,
                         "all is rated, but %" PRIu64 " billing periods cannot be closed: SELECT * FROM "
                         "weir.refused_periods says why; mend that and start it again",
                         periods);
    if (status == WEIR_OK && unreadable)
        return weir_fail(reterr, WEIR_FATAL,
                         "all else is rated, but the series keys of %" PRIu64
                         " windows in Redis cannot be read: the log names the lanes",
                         unreadable);
    return status;
}

static enum weir_status run(struct rating *rating, const _Atomic bool *stop, struct weir_error *reterr)
{
    struct weir_progress progress = weir_progress_start(usage.name);
    int64_t pause = rating->settings.rater_interval;
    enum weir_status status = WEIR_OK;
    bool is_done = false, has_worked = false;

    while (!atomic_load_explicit(stop, memory_order_relaxed)) {
        weir_rating_look_back(rating);
        status = weir_rating_go_round(rating, stop, &is_done, &has_worked, reterr);
        weir_daemon_alive();
        weir_progress_show(&progress, "%" PRIu64 " windows, %" PRIu64 " line items", rating->windows_rated,
                           rating->line_items);
        if (status == WEIR_RETRY || status == WEIR_AGAIN) {
            atomic_fetch_add_explicit(&rating->retries, 1, memory_order_relaxed);
            weir_outage_begin(&rating->outage, waiting, reterr->text);
            weir_metrics_set_ready(rating->metrics, false, "a server does not answer");
            weir_lane_book_forget(rating->book);
            weir_rating_forget_told(rating);
            pause = pause * 2 < RETRY_MOST_MS * (WEIR_SECOND / 1000) ? pause * 2 : RETRY_MOST_MS * (WEIR_SECOND / 1000);
            if (is_out_of_patience(rating)) {
                status = give_up(reterr);
                break;
            }
            rest(pause);
            status = WEIR_OK;
            continue;
        }
        if (status != WEIR_OK || (is_done && rating->settings.until_done))
            break;
        pause = rating->settings.rater_interval;
        weir_outage_end(&rating->outage, "windows are rated");
        weir_metrics_set_ready(rating->metrics, true, "");
        weir_rater_closer_tick(rating->closer, rating->settled != 0);
        if (!has_worked)
            rest(pause);
    }
    weir_progress_end(&progress);
    if (status == WEIR_OK && rating->settings.until_done && !is_done)
        return weir_fail(
            reterr, WEIR_FATAL,
            "stopped by a signal before all was rated: what was rated is written; start it again to go on");
    if (status == WEIR_OK && is_done && rating->settings.until_done)
        status = weir_rater_closer_now(rating->closer, reterr);
    return status == WEIR_OK && is_done ? check_nothing_refused(rating, reterr) : status;
}

/* 2. the command */
static void add_reconcile_metrics(struct rating *rating)
{
    static char kinds[WEIR_DIFFERENCE_COUNT][48];
    struct weir_metrics *metrics = rating->metrics;

    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_reconcile_last_time_seconds", "",
                     "When weir reconcile last ended, seconds since 1970; 0: never.", &rating->reconcile_time);
    for (int i = 0; i < WEIR_DIFFERENCE_COUNT; i++) {
        snprintf(kinds[i], sizeof kinds[i], "kind=\"%s\"", weir_difference_name[i]);
        weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_reconcile_last_differences", kinds[i],
                         "Differences that weir reconcile last left, by kind.", &rating->reconcile_differences[i]);
    }
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_reconcile_last_repaired", "",
                     "Windows that weir reconcile last repaired.", &rating->reconcile_repaired);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_reconcile_last_lanes", "", "Lanes that it compared.",
                     &rating->reconcile_lanes);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_reconcile_last_windows", "", "Windows that it compared.",
                     &rating->reconcile_windows);
}

static int64_t settled_seconds(void *context)
{
    struct rating *rating = context;
    return atomic_load_explicit(&rating->settled, memory_order_relaxed) / WEIR_SECOND;
}

static int64_t is_up(void *context)
{
    struct rating *rating = context;
    return !weir_outage_is_on(&rating->outage);
}

static void add_metrics(struct rating *rating)
{
    struct weir_metrics *metrics = rating->metrics;

    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_rated_windows_total", "", "Windows looked at.",
                     &rating->windows_rated);
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_line_items_total", "", "Line items written.",
                     &rating->line_items);
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_unpriced_windows_total", "",
                     "Windows rated without a price: revenue leaking.", &rating->unpriced);
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_stale_windows_total", "",
                     "Windows older than what was rated already, left alone.", &rating->stale);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_open_gaps", "", "Gaps in the events that wait for weir release.",
                     &rating->open_gaps);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_held_windows", "",
                     "Windows that are not rated because of a gap (each gap's, added up).", &rating->held_windows);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_refused_windows", "",
                     "Windows that cannot be rated; weir.held_usage says why.", &rating->refused_windows);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_refused_periods", "",
                     "Billing periods that cannot be closed; weir.refused_periods says why.", &rating->refused_periods);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_unreadable_windows", "",
                     "Windows on the lists of the lanes that this rater rated last whose series key cannot be read.",
                     &rating->unreadable_windows);
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_rater_transactions_total", "",
                     "Transactions that rated windows.", &rating->transactions);
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_rater_retries_total", "", "Rounds that a server broke off.",
                     &rating->retries);
    weir_metrics_add_call(metrics, WEIR_METRIC_GAUGE, "weir_rater_up", "",
                          "1 while Redis and PostgreSQL take part: 0, nothing is rated.", is_up, rating);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_known_lanes", "", "Lanes that the window store holds.",
                     &rating->lanes_known);
    weir_metrics_add_call(metrics, WEIR_METRIC_GAUGE, "weir_settled_seconds", "",
                          "Periods that end until then were settled when this rater last settled, seconds since 1970.",
                          settled_seconds, rating);
    add_reconcile_metrics(rating);
    const struct weir_rater_closer_counts *closed = weir_rater_closer_counts(rating->closer);
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_invoices_issued_total", "",
                     "Invoices that this rater made final.", &closed->issued);
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_close_failures_total", "",
                     "Times that closing periods broke off.", &closed->failures);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_periods_left_open", "",
                     "Periods that ended close.grace ago and could not be closed the last time.", &closed->left_open);
}

/* The catalog's calendars first, once. */
static enum weir_status try_ledger(struct rating *rating, struct weir_ledger **ret_ledger, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    if (!rating->has_calendars)
        status = weir_calendars_open(rating->settings.postgres_url, rating->catalog, false, reterr);
    rating->has_calendars = status == WEIR_OK;
    return status == WEIR_OK ? weir_ledger_postgres_open(rating->settings.postgres_url, ret_ledger, reterr) : status;
}

/* A daemon waits for a server that is away, or just starts. */
static enum weir_status open_ledger(struct rating *rating, const _Atomic bool *stop, struct weir_ledger **ret_ledger,
                                    struct weir_error *reterr)
{
    enum weir_status status;

    while ((status = try_ledger(rating, ret_ledger, reterr)) == WEIR_RETRY && !is_out_of_patience(rating)
           && !atomic_load_explicit(stop, memory_order_relaxed)) {
        weir_outage_begin(&rating->outage, waiting, reterr->text);
        weir_daemon_ready("waiting for PostgreSQL"); /* no restart would help */
        weir_daemon_alive();
        rest(WEIR_SECOND);
    }
    return status == WEIR_RETRY && is_out_of_patience(rating) ? give_up(reterr) : status;
}

static enum weir_status set_up(struct rating *rating, const _Atomic bool *stop, struct weir_error *reterr)
{
    size_t batch = (size_t)rating->settings.rater_batch, threads = (size_t)rating->settings.rater_threads;
    enum weir_status status = weir_store_redis_open(rating->settings.redis_url, &rating->store, reterr);

    if (status == WEIR_OK)
        status = weir_rater_closer_new(&rating->settings, &rating->closer, reterr);
    if (status != WEIR_OK)
        return status;
    rating->metrics = weir_metrics_new();
    add_metrics(rating);
    if (status == WEIR_OK)
        status = weir_open_metrics(rating->metrics, &rating->settings, reterr);
    for (size_t i = 0; i < threads && status == WEIR_OK; i++)
        status = open_ledger(rating, stop, &rating->ledgers[i], reterr);
    if (status != WEIR_OK)
        return status;
    rating->threads =
        weir_rater_threads_new(rating->catalog, rating->ledgers, threads, batch, weir_rating_tell_refused, rating);
    rating->claims = weir_claims_new(rating->settings.postgres_url, CLAIM_IDLE);
    rating->reconciliations = weir_reconciliations_new(rating->settings.postgres_url);
    rating->book = weir_lane_book_new(rating->settings.postgres_url);
    rating->room = batch * threads;
    for (int i = 0; i < 2; i++) {
        rating->lots[i].work = weir_new_array(rating->room, sizeof *rating->lots[i].work);
        rating->lots[i].keys = weir_arena_new();
    }
    rating->windows = weir_new_array(rating->room, sizeof *rating->windows);
    return WEIR_OK;
}

static void tear_down(struct rating *rating)
{
    weir_metrics_free(rating->metrics);
    weir_rater_closer_free(rating->closer);
    weir_claims_free(rating->claims);
    weir_reconciliations_free(rating->reconciliations);
    weir_lane_book_free(rating->book);
    weir_rater_threads_free(rating->threads);
    for (int i = 0; i < WEIR_RATER_THREADS_MAX; i++)
        weir_ledger_free(rating->ledgers[i]);
    weir_window_store_free(rating->store);
    weir_catalog_free(rating->catalog);
    free(rating->lanes);
    free(rating->rated);
    for (int i = 0; i < 2; i++) {
        free(rating->lots[i].work);
        weir_arena_free(rating->lots[i].keys);
    }
    free(rating->windows);
    weir_settings_free(&rating->settings);
}

static void report(const struct rating *rating, int64_t took)
{
    struct weir_rater_counts counts = weir_rater_threads_counts(rating->threads);
    uint64_t milliseconds = (uint64_t)(took / 1000000);

    weir_log_plain(WEIR_LOG_INFO,
                   "windows=%" PRIu64 " unchanged=%" PRIu64 " unpriced=%" PRIu64 " stale=%" PRIu64 " held=%" PRIu64
                   " refused=%" PRIu64 " line_items=%" PRIu64 " seconds=%" PRIu64 ".%03" PRIu64,
                   counts.windows, counts.unchanged, counts.unpriced_windows, counts.stale, counts.held, counts.refused,
                   counts.line_items, milliseconds / 1000, milliseconds % 1000);
}

int weir_command_rater(int argc, char **argv)
{
    struct rating rating = {0};
    struct weir_error error = {{0}};
    int parsed = weir_settings_load(&usage, argc, argv, &rating.settings);

    if (parsed >= 0)
        return parsed;
    const _Atomic bool *stop = weir_daemon_catch_signals();
    int64_t started = weir_time_now();
    parsed = weir_await_catalog(&rating.settings, stop, &rating.catalog);
    if (parsed >= 0) {
        weir_settings_free(&rating.settings);
        return parsed;
    }
    enum weir_status status = set_up(&rating, stop, &error);
    if (status == WEIR_OK) {
        weir_daemon_ready("rating");
        status = run(&rating, stop, &error);
        weir_daemon_stopping();
    }
    bool is_stopped_waiting =
        status == WEIR_RETRY && !rating.settings.until_done && atomic_load_explicit(stop, memory_order_relaxed);
    if (status == WEIR_OK)
        report(&rating, weir_time_now() - started);
    else if (!is_stopped_waiting)
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    tear_down(&rating);
    return status == WEIR_OK || is_stopped_waiting ? WEIR_EXIT_DONE
           : status == WEIR_REJECT                 ? WEIR_EXIT_USAGE
                                                   : WEIR_EXIT_FAILED;
}
