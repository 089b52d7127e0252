/* `weir rater`: windows in Redis -> line items in PostgreSQL. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "aggregator/window_store.h"
#include "cli/admitted.h"
#include "cli/commands.h"
#include "cli/open.h"
#include "cli/outage.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/settings.h"
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

enum { LANES_MAX = 65536, RETRY_MOST_MS = 5000, GAP_SHOW_SECONDS = 10, GAP_LOG_SECONDS = 60 };
#define LOOK_BACK_EVERY (10 * WEIR_SECOND) /* at what the last reconciliation found */

struct known_lane {
    char name_bytes[WEIR_LANE_NAME_MAX + 1];
    struct weir_slice name;
    struct weir_lane_state state;
};

struct rating {
    struct weir_settings settings;
    struct weir_catalog *catalog;
    struct weir_window_store *store;
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_claims *claims;
    struct weir_lane_book *book;
    struct weir_metrics *metrics;
    struct known_lane *lanes;
    size_t lane_count, lane_room;
    bool has_too_many; /* lanes, or one whose name is too long */
    struct weir_work *work;
    struct weir_lane_window *windows;
    _Atomic uint64_t line_items, windows_rated, unpriced, stale, transactions, retries, lanes_known, open_gaps,
        held_windows;
    _Atomic int64_t watermark; /* the lowest of all lanes, ns */
    struct weir_outage outage;
    int64_t logged_gap, gaps_shown_at, gaps_logged_at; /* the newest gap that was told, and when they all were */
    uint64_t logged_held;
    struct weir_reconciliations *reconciliations;
    int64_t looked_back; /* wall clock */
    _Atomic uint64_t reconcile_time, reconcile_lanes, reconcile_windows, reconcile_repaired;
    _Atomic uint64_t reconcile_differences[WEIR_DIFFERENCE_COUNT];
};

/* 1. what there is */
static void add_lane(void *context, struct weir_slice name, const struct weir_lane_state *state)
{
    struct rating *rating = context;

    if (rating->lane_count == LANES_MAX || name.length > WEIR_LANE_NAME_MAX) {
        rating->has_too_many = true;
        return;
    }
    if (rating->lane_count == rating->lane_room) {
        rating->lane_room = rating->lane_room ? rating->lane_room * 2 : 16;
        rating->lanes = weir_resize(rating->lanes, rating->lane_room, sizeof *rating->lanes);
    }
    struct known_lane *lane = &rating->lanes[rating->lane_count++];
    memcpy(lane->name_bytes, name.data, name.length);
    lane->name.length = name.length;
    lane->state = *state;
}

/* Periods end when every lane has passed their end: the slowest one decides. Lanes of admitted events have no time of
 * their own, and end nothing. */
static struct weir_horizon horizon_of(const struct rating *rating)
{
    struct weir_horizon horizon = {.first_time = WEIR_TIME_NEVER, .last_time = 0, .ended = WEIR_TIME_NEVER};
    bool is_any = false;

    for (size_t i = 0; i < rating->lane_count; i++) {
        const struct weir_lane_state *state = &rating->lanes[i].state;
        bool has_time = !weir_is_admitted(rating->lanes[i].name);
        is_any = is_any || has_time;
        if (has_time && state->watermark < horizon.ended)
            horizon.ended = state->watermark;
        if (state->counts.counted + state->counts.retracted == 0)
            continue;
        if (state->first_time < horizon.first_time)
            horizon.first_time = state->first_time;
        if (state->last_time > horizon.last_time)
            horizon.last_time = state->last_time;
    }
    if (!is_any)
        horizon.ended = 0;
    return horizon;
}

static enum weir_status list_lanes(struct rating *rating, struct weir_error *reterr)
{
    char admitted[WEIR_SETTING_TEXT_MAX];

    rating->lane_count = 0;
    enum weir_status status =
        rating->store->ops->list_lanes(rating->store, rating->settings.kafka_topic, add_lane, rating, reterr);
    if (status == WEIR_OK)
        status = rating->store->ops->list_lanes(rating->store, weir_admitted_topic(&rating->settings, admitted),
                                                add_lane, rating, reterr);
    for (size_t i = 0; i < rating->lane_count; i++) /* the array may have moved while it grew */
        rating->lanes[i].name.data = rating->lanes[i].name_bytes;
    if (status == WEIR_OK) { /* relaxed: figures on a page */
        atomic_store_explicit(&rating->lanes_known, rating->lane_count, memory_order_relaxed);
        atomic_store_explicit(&rating->watermark, horizon_of(rating).ended, memory_order_relaxed);
    }
    /* Rating some and not the others would settle periods too early. */
    if (status == WEIR_OK && rating->has_too_many)
        return weir_fail(reterr, WEIR_FATAL, "redis: topic %s has more than %d lanes; a rater takes no more than that",
                         rating->settings.kafka_topic, LANES_MAX);
    return status;
}

static bool is_listed(const struct rating *rating, struct weir_slice lane)
{
    for (size_t i = 0; i < rating->lane_count; i++)
        if (weir_slice_equal(rating->lanes[i].name, lane))
            return true;
    return false;
}

struct settling {
    const struct rating *rating;
    struct weir_horizon *horizon;
};

/* A lane that the store has lost and nobody has taken again yet is as far as it was last seen. */
static void wait_for_lane(void *context, struct weir_slice lane, int64_t watermark)
{
    const struct settling *settling = context;

    if (watermark < settling->horizon->ended && !is_listed(settling->rating, lane))
        settling->horizon->ended = watermark;
}

/* A period that an open gap concerns has not ended: its usage may be incomplete. */
static enum weir_status find_horizon(struct rating *rating, struct weir_horizon *ret_horizon, struct weir_error *reterr)
{
    struct weir_horizon horizon = horizon_of(rating);
    struct settling settling = {rating, &horizon};
    const struct weir_open_gap *gaps = NULL;
    size_t count = 0;
    enum weir_status status =
        weir_lane_book_lanes(rating->book, rating->settings.kafka_topic, wait_for_lane, &settling, reterr);

    if (status == WEIR_OK)
        status = weir_lane_book_open_gaps(rating->book, rating->settings.kafka_topic, false, &gaps, &count, reterr);
    for (size_t i = 0; i < count && status == WEIR_OK; i++)
        if (gaps[i].gap.time_from < horizon.ended)
            horizon.ended = gaps[i].gap.time_from;
    *ret_horizon = horizon;
    return status;
}

/* 2. one round */
static void show_counts(struct rating *rating)
{
    struct weir_rater_counts counts = weir_rater_counts(rating->rater);

    /* relaxed: figures on a page. */
    atomic_store_explicit(&rating->line_items, counts.line_items, memory_order_relaxed);
    atomic_store_explicit(&rating->windows_rated, counts.windows, memory_order_relaxed);
    atomic_store_explicit(&rating->unpriced, counts.unpriced_windows, memory_order_relaxed);
    atomic_store_explicit(&rating->stale, counts.stale, memory_order_relaxed);
}

static void set(_Atomic uint64_t *figure, uint64_t value)
{
    atomic_store_explicit(figure, value, memory_order_relaxed); /* a figure on a page */
}

/* What the last `weir reconcile` found stands on every rater's page. When PostgreSQL does not answer, rating says so.
 */
static void look_back(struct rating *rating)
{
    struct weir_reconciliation last;
    int64_t now = weir_time_now();

    if (now - rating->looked_back < LOOK_BACK_EVERY && now >= rating->looked_back)
        return;
    rating->looked_back = now;
    if (weir_reconciliations_last(rating->reconciliations, rating->settings.kafka_topic, &last, NULL) != WEIR_OK)
        return;
    set(&rating->reconcile_time, (uint64_t)(last.finished_at / WEIR_SECOND));
    set(&rating->reconcile_lanes, last.lanes);
    set(&rating->reconcile_windows, last.windows);
    set(&rating->reconcile_repaired, last.repaired);
    for (int i = 0; i < WEIR_DIFFERENCE_COUNT; i++)
        set(&rating->reconcile_differences[i], last.differences[i]);
}

/* Held windows whose gaps were released. *ret_count: how many. */
static enum weir_status rate_released(struct rating *rating, uint64_t *ret_count, struct weir_error *reterr)
{
    size_t max = (size_t)rating->settings.rater_batch, count = max;
    enum weir_status status = WEIR_OK;

    while (status == WEIR_OK && count == max) {
        status =
            weir_lane_book_released(rating->book, rating->settings.kafka_topic, max, rating->windows, &count, reterr);
        if (status == WEIR_OK && count > 0)
            status = weir_rater_rate(rating->rater, rating->windows, count, reterr);
        *ret_count += status == WEIR_OK ? count : 0;
        show_counts(rating);
    }
    return status;
}

/* Brings PostgreSQL's knowledge of the lane up to date, with every gap that what was read before may miss.
 * *ret_is_same: the store was not emptied, nor did it go back, since the lane was last looked at; if it was, what was
 * read may have had gaps that nobody sees any more, and is left. */
static enum weir_status note_lane(struct rating *rating, struct known_lane *lane, bool *ret_is_same,
                                  struct weir_error *reterr)
{
    struct weir_lane_state now;
    int64_t back = -1;
    enum weir_status status = rating->store->ops->read_lane(rating->store, lane->name, &now, reterr);

    if (status != WEIR_OK)
        return status;
    *ret_is_same = memcmp(now.secret, lane->state.secret, sizeof now.secret) == 0 && now.epoch >= lane->state.epoch
                   && now.gaps.count >= lane->state.gaps.count;
    if (now.epoch == 0)
        return WEIR_OK; /* emptied, and not taken again yet */
    lane->state = now;
    status = weir_lane_book_note(rating->book, lane->name, &now, &back, reterr);
    if (status == WEIR_OK && back >= 0)
        weir_log(WEIR_LOG_WARN,
                 "lane %s went back from offset %lld to %lld: the window store lost its last seconds or everything, or "
                 "the topic was made anew. What was rated stands",
                 lane->name_bytes, (long long)back, (long long)now.next_offset);
    return status;
}

/* Rates all that the lane's list of work holds. *ret_count: windows taken off the list. Held ones are off it as well:
 * PostgreSQL has them. */
static enum weir_status rate_lane(struct rating *rating, struct known_lane *known, const _Atomic bool *stop,
                                  uint64_t *ret_count, struct weir_error *reterr)
{
    struct weir_window_store *store = rating->store;
    struct weir_slice lane = known->name;
    size_t max = (size_t)rating->settings.rater_batch, count = max;
    bool is_same = true;

    *ret_count = 0;
    enum weir_status status = note_lane(rating, known, &is_same, reterr);
    while (status == WEIR_OK && count == max && is_same && !atomic_load_explicit(stop, memory_order_relaxed)) {
        status = store->ops->read_work(store, lane, max, rating->work, &count, reterr);
        if (status == WEIR_OK && count > 0)
            status = note_lane(rating, known, &is_same, reterr);
        if (status != WEIR_OK || count == 0 || !is_same)
            break;
        for (size_t i = 0; i < count; i++)
            rating->windows[i] = (struct weir_lane_window){.lane = lane, .window = rating->work[i].window};
        status = weir_rater_rate(rating->rater, rating->windows, count, reterr);
        if (status == WEIR_OK)
            status = store->ops->finish_work(store, lane, rating->work, count, reterr);
        if (status == WEIR_OK)
            *ret_count += count;
        atomic_fetch_add_explicit(&rating->transactions, 1, memory_order_relaxed);
        weir_daemon_alive();
        show_counts(rating);
    }
    return status;
}

static enum weir_status has_no_work(struct rating *rating, bool *ret_none, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    size_t count = 0;

    for (size_t i = 0; i < rating->lane_count && status == WEIR_OK && count == 0; i++)
        status = rating->store->ops->read_work(rating->store, rating->lanes[i].name, 1, rating->work, &count, reterr);
    if (status == WEIR_OK && count == 0)
        status =
            weir_lane_book_released(rating->book, rating->settings.kafka_topic, 1, rating->windows, &count, reterr);
    *ret_none = count == 0;
    return status;
}

/* Every ten seconds: it counts all held windows. One line a gap when it is new, or a minute later when it holds another
 * number of windows. */
static enum weir_status show_gaps(struct rating *rating, struct weir_error *reterr)
{
    const struct weir_open_gap *gaps = NULL;
    int64_t now = weir_time_now();
    uint64_t held = 0;
    size_t count = 0;

    if (now - rating->gaps_shown_at < GAP_SHOW_SECONDS * WEIR_SECOND && now >= rating->gaps_shown_at)
        return WEIR_OK;
    enum weir_status status =
        weir_lane_book_open_gaps(rating->book, rating->settings.kafka_topic, true, &gaps, &count, reterr);
    if (status != WEIR_OK)
        return status;
    rating->gaps_shown_at = now;
    for (size_t i = 0; i < count; i++)
        held += gaps[i].held;
    bool again = held != rating->logged_held && now - rating->gaps_logged_at > GAP_LOG_SECONDS * WEIR_SECOND;
    for (size_t i = 0; i < count; i++) {
        if (!again && gaps[i].number <= rating->logged_gap)
            continue;
        weir_log(
            WEIR_LOG_ERROR,
            "gap %lld of lane %.*s (%s): %llu windows are held, %llu of them below what was rated. Periods from its "
            "time on are not settled. `weir release --lane %.*s --gap %lld` when it is decided (docs/gaps.md)",
            (long long)gaps[i].number, (int)gaps[i].lane.length, gaps[i].lane.data,
            weir_gap_kind_name[gaps[i].gap.kind], (unsigned long long)gaps[i].held, (unsigned long long)gaps[i].fewer,
            (int)gaps[i].lane.length, gaps[i].lane.data, (long long)gaps[i].number);
        rating->logged_held = held;
        rating->gaps_logged_at = now;
    }
    if (count > 0 && gaps[count - 1].number > rating->logged_gap)
        rating->logged_gap = gaps[count - 1].number;
    atomic_store_explicit(&rating->open_gaps, count, memory_order_relaxed);
    atomic_store_explicit(&rating->held_windows, held, memory_order_relaxed);
    return WEIR_OK;
}

/* Periods are settled when no rater has work left, so that true-ups are charged once and not corrected at once; one
 * rater does it. */
static enum weir_status settle(struct rating *rating, bool *ret_settled, struct weir_error *reterr)
{
    struct weir_horizon horizon;
    bool is_ours = false;
    char name[WEIR_LANE_NAME_MAX + 16];

    snprintf(name, sizeof name, "settle:%s", rating->settings.kafka_topic);
    enum weir_status status = weir_claims_try(rating->claims, weir_slice_text(name), &is_ours, reterr);
    if (status == WEIR_OK && is_ours) {
        status = find_horizon(rating, &horizon, reterr);
        if (status == WEIR_OK)
            status = weir_rater_settle(rating->rater, &horizon, reterr);
        show_counts(rating);
        enum weir_status released = weir_claims_release(rating->claims, weir_slice_text(name), reterr);
        status = status == WEIR_OK ? released : status;
    }
    *ret_settled = status == WEIR_OK && is_ours;
    return status;
}

/* *ret_done: nothing closed is left, and the periods are settled. *ret_worked: something was rated. */
static enum weir_status go_round(struct rating *rating, const _Atomic bool *stop, bool *ret_done, bool *ret_worked,
                                 struct weir_error *reterr)
{
    enum weir_status status = list_lanes(rating, reterr);
    uint64_t released = 0;
    bool none = false;

    *ret_done = *ret_worked = false;
    if (status == WEIR_OK)
        status = rate_released(rating, &released, reterr);
    *ret_worked = released > 0;
    for (size_t i = 0; i < rating->lane_count && status == WEIR_OK; i++) {
        uint64_t count = 0;
        bool is_ours = false;
        status = weir_claims_try(rating->claims, rating->lanes[i].name, &is_ours, reterr);
        if (status == WEIR_OK && is_ours)
            status = rate_lane(rating, &rating->lanes[i], stop, &count, reterr);
        /* Given back each round: a rater that starts later gets its share. */
        if (status == WEIR_OK && is_ours)
            status = weir_claims_release(rating->claims, rating->lanes[i].name, reterr);
        *ret_worked = *ret_worked || count > 0;
    }
    if (status == WEIR_OK)
        status = has_no_work(rating, &none, reterr);
    if (status == WEIR_OK && none)
        status = show_gaps(rating, reterr);
    if (status == WEIR_OK && none && !*ret_worked)
        status = settle(rating, ret_done, reterr);
    return status;
}

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

static enum weir_status run(struct rating *rating, const _Atomic bool *stop, struct weir_error *reterr)
{
    struct weir_progress progress = weir_progress_start(usage.name);
    int64_t pause = rating->settings.rater_interval;
    enum weir_status status = WEIR_OK;
    bool is_done = false, has_worked = false;

    while (!atomic_load_explicit(stop, memory_order_relaxed)) {
        look_back(rating);
        status = go_round(rating, stop, &is_done, &has_worked, reterr);
        weir_daemon_alive();
        weir_progress_show(&progress, "%" PRIu64 " windows, %" PRIu64 " line items", rating->windows_rated,
                           rating->line_items);
        if (status == WEIR_RETRY || status == WEIR_AGAIN) {
            atomic_fetch_add_explicit(&rating->retries, 1, memory_order_relaxed);
            weir_outage_begin(&rating->outage, waiting, reterr->text);
            weir_metrics_set_ready(rating->metrics, false, "a server does not answer");
            weir_lane_book_forget(rating->book);
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
        if (!has_worked)
            rest(pause);
    }
    weir_progress_end(&progress);
    if (status == WEIR_OK && rating->settings.until_done && !is_done)
        return weir_fail(
            reterr, WEIR_FATAL,
            "stopped by a signal before all was rated: what was rated is written; start it again to go on");
    return status;
}

/* 3. the command */
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

static int64_t watermark_seconds(void *context)
{
    struct rating *rating = context;
    return atomic_load_explicit(&rating->watermark, memory_order_relaxed) / WEIR_SECOND;
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
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_rater_transactions_total", "", "Batches committed.",
                     &rating->transactions);
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_rater_retries_total", "", "Rounds that a server broke off.",
                     &rating->retries);
    weir_metrics_add_call(metrics, WEIR_METRIC_GAUGE, "weir_rater_up", "",
                          "1 while Redis and PostgreSQL take part: 0, nothing is rated.", is_up, rating);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_known_lanes", "", "Lanes that the window store holds.",
                     &rating->lanes_known);
    weir_metrics_add_call(metrics, WEIR_METRIC_GAUGE, "weir_settled_seconds", "",
                          "Lowest watermark of all lanes, seconds since 1970: periods that end before it are settled.",
                          watermark_seconds, rating);
    add_reconcile_metrics(rating);
}

/* A daemon waits for a server that is away, or just starts. */
static enum weir_status open_ledger(struct rating *rating, const _Atomic bool *stop, struct weir_error *reterr)
{
    enum weir_status status;

    while ((status = weir_ledger_postgres_open(rating->settings.postgres_url, &rating->ledger, reterr)) == WEIR_RETRY
           && !is_out_of_patience(rating) && !atomic_load_explicit(stop, memory_order_relaxed)) {
        weir_outage_begin(&rating->outage, waiting, reterr->text);
        weir_daemon_ready("waiting for PostgreSQL"); /* no restart would help */
        weir_daemon_alive();
        rest(WEIR_SECOND);
    }
    return status == WEIR_RETRY && is_out_of_patience(rating) ? give_up(reterr) : status;
}

static enum weir_status set_up(struct rating *rating, const _Atomic bool *stop, struct weir_error *reterr)
{
    enum weir_status status = weir_store_redis_open(rating->settings.redis_url, &rating->store, reterr);

    rating->metrics = weir_metrics_new();
    add_metrics(rating);
    if (status == WEIR_OK)
        status = weir_open_metrics(rating->metrics, &rating->settings, reterr);
    if (status == WEIR_OK)
        status = open_ledger(rating, stop, reterr);
    if (status == WEIR_OK)
        status = weir_rater_new(rating->catalog, rating->ledger, &rating->rater, reterr);
    if (status != WEIR_OK)
        return status;
    rating->claims = weir_claims_new(rating->settings.postgres_url);
    rating->reconciliations = weir_reconciliations_new(rating->settings.postgres_url);
    rating->book = weir_lane_book_new(rating->settings.postgres_url);
    rating->work = weir_new_array((size_t)rating->settings.rater_batch, sizeof *rating->work);
    rating->windows = weir_new_array((size_t)rating->settings.rater_batch, sizeof *rating->windows);
    return WEIR_OK;
}

static void tear_down(struct rating *rating)
{
    weir_metrics_free(rating->metrics);
    weir_claims_free(rating->claims);
    weir_reconciliations_free(rating->reconciliations);
    weir_lane_book_free(rating->book);
    weir_rater_free(rating->rater);
    weir_ledger_free(rating->ledger);
    weir_window_store_free(rating->store);
    weir_catalog_free(rating->catalog);
    free(rating->lanes);
    free(rating->work);
    free(rating->windows);
    weir_settings_free(&rating->settings);
}

static void report(const struct rating *rating, int64_t took)
{
    struct weir_rater_counts counts = weir_rater_counts(rating->rater);
    uint64_t milliseconds = (uint64_t)(took / 1000000);

    weir_log_plain(WEIR_LOG_INFO,
                   "windows=%" PRIu64 " unchanged=%" PRIu64 " unpriced=%" PRIu64 " stale=%" PRIu64 " held=%" PRIu64
                   " line_items=%" PRIu64 " seconds=%" PRIu64 ".%03" PRIu64,
                   counts.windows, counts.unchanged, counts.unpriced_windows, counts.stale, counts.held,
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
