/* One round of a rater: what is on the lanes' lists of work, what was held and is released, and periods that have
 * ended.
 */
#include <inttypes.h>
#include <stdio.h>

#include "cli/rater_internal.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/model/tally.h"

enum { GAP_SHOW_SECONDS = 10, GAP_LOG_SECONDS = 60 };
#define QUARTER_HOUR (15 * WEIR_MINUTE)
#define LOOK_BACK_EVERY (10 * WEIR_SECOND) /* at what the last reconciliation found */

static void show_counts(struct rating *rating)
{
    struct weir_rater_counts counts = weir_rater_threads_counts(rating->threads);

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
void weir_rating_look_back(struct rating *rating)
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

/* The first one of a round is named; all stand in weir.held_usage. One that was only tried again is known. */
void weir_rating_tell_refused(void *context, const struct weir_lane_window *window, struct weir_slice why)
{
    struct rating *rating = context;

    /* relaxed: a count, whichever thread's is the first. */
    if (window->held_number == 0 && atomic_fetch_add_explicit(&rating->newly_refused, 1, memory_order_relaxed) == 0)
        weir_log(WEIR_LOG_ERROR,
                 "a window of lane %.*s cannot be rated and waits in weir.held_usage, tried again every minute: %.*s",
                 (int)window->lane.length, window->lane.data, (int)why.length, why.data);
}

static void tell_how_many_refused(struct rating *rating)
{
    if (rating->newly_refused > 1)
        weir_log(WEIR_LOG_ERROR, "%" PRIu64 " more windows cannot be rated: weir.held_usage, column refused",
                 rating->newly_refused - 1);
    rating->newly_refused = 0;
}

/* The end of what the threads were given; nothing of it is taken off a list before. */
static enum weir_status await(struct rating *rating, struct weir_error *reterr)
{
    uint64_t transactions;
    enum weir_status status = weir_rater_threads_wait(rating->threads, &transactions, reterr);

    atomic_fetch_add_explicit(&rating->transactions, transactions, memory_order_relaxed);
    weir_daemon_alive();
    show_counts(rating);
    return status;
}

/* Held windows whose gaps were released, and those that could not be rated before. *ret_count: how many. */
static enum weir_status rate_released(struct rating *rating, uint64_t *ret_count, struct weir_error *reterr)
{
    size_t max = rating->room, count = max;
    enum weir_status status = WEIR_OK;

    while (status == WEIR_OK && count == max) {
        status =
            weir_lane_book_released(rating->book, rating->settings.kafka_topic, max, rating->windows, &count, reterr);
        if (status != WEIR_OK || count == 0)
            break;
        weir_rater_threads_start(rating->threads, rating->windows, count);
        status = await(rating, reterr);
        *ret_count += status == WEIR_OK ? count : 0;
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
    *ret_is_same = weir_lane_state_goes_on(&lane->state, &now);
    if (now.epoch == 0)
        return WEIR_OK; /* emptied, and not taken again yet */
    lane->state = now;
    status = weir_lane_book_note(rating->book, lane->name, &now, &back, &lane->gap, reterr);
    if (status == WEIR_OK && back >= 0)
        weir_log(WEIR_LOG_WARN,
                 "lane %s went back from offset %lld to %lld: the window store lost its last seconds or everything, or "
                 "the topic was made anew. What was rated stands",
                 lane->name_bytes, (long long)back, (long long)now.next_offset);
    return status;
}

/* The lane's list of work was read to its end, and all on it is rated; the lane was looked at after it. Where it went
 * back in the meantime, the list was that of the older cut. */
static void note_rated(struct known_lane *lane)
{
    lane->rated_through =
        lane->state.watermark < lane->listed_watermark ? lane->state.watermark : lane->listed_watermark;
    bool has_gone_back = lane->state.next_offset < lane->listed_offset;
    lane->rated_offset = has_gone_back ? lane->state.next_offset : lane->listed_offset;
    lane->rated_counts = has_gone_back ? lane->state.counts : lane->listed_counts;
}

/* One walk along a lane's list. */
struct walk {
    struct weir_work_place place;
    uint64_t lots, windows; /* read; rated or noted, and off the list */
    uint64_t unreadable;
    bool is_same, is_ours; /* the store, the lane */
    bool is_short;         /* the last lot was not full */
};

/* A window whose series key cannot be read is nobody's, so that nobody can be charged for it: it stays on the list.
 * Once the store is mended it is gone from there, or a later version reads it. */
static bool is_readable(const struct weir_work *work)
{
    struct weir_series series;

    return weir_series_parse(work->window.series_key, &series);
}

static void leave_unreadable(struct lot *lot, struct walk *walk)
{
    size_t kept = 0;

    for (size_t i = 0; i < lot->count; i++)
        if (is_readable(&lot->work[i]))
            lot->work[kept++] = lot->work[i];
    walk->unreadable += lot->count - kept;
    lot->count = kept;
}

static void tell_unreadable(struct known_lane *known, uint64_t unreadable)
{
    known->unreadable = unreadable;
    if (unreadable > known->told_unreadable)
        weir_log(WEIR_LOG_ERROR,
                 "lane %s: %" PRIu64 " windows on its list of work have a series key that cannot be read: Redis was "
                 "written by something else, by a later weir, or is damaged. They are left there and all others rated. "
                 "Empty the lane in Redis, and what Kafka still holds is read again (docs/operations.md)",
                 known->name_bytes, unreadable);
    known->told_unreadable = unreadable;
}

/* Nothing is on the lane's list but what cannot be read, as far as one lot shows. */
static enum weir_status is_list_done(struct rating *rating, struct weir_slice lane, bool *ret_done,
                                     struct weir_error *reterr)
{
    struct weir_work *work = rating->lots[0].work;
    size_t count = 0, at = 0;
    enum weir_status status = rating->store->ops->read_work(rating->store, lane, 1, work, &count, reterr);

    if (status == WEIR_OK && count > 0 && !is_readable(&work[0]))
        status = rating->store->ops->read_work(rating->store, lane, rating->room, work, &count, reterr);
    while (at < count && !is_readable(&work[at]))
        at++;
    *ret_done = at == count;
    return status;
}

/* Tallies are nothing to rate: noted, and off the list. They stand behind the others then, until the next lot. */
static enum weir_status note_tallies(struct rating *rating, const struct known_lane *known, struct walk *walk,
                                     struct lot *lot, struct weir_error *reterr)
{
    size_t all = lot->count, kept = 0;

    for (size_t i = 0; i < all; i++) {
        if (weir_series_is_tally(lot->work[i].window.series_key))
            continue;
        struct weir_work work = lot->work[i];
        lot->work[i] = lot->work[kept];
        lot->work[kept++] = work;
    }
    lot->count = kept;
    if (all == kept)
        return WEIR_OK;
    enum weir_status status = weir_lane_book_tallies(rating->book, known->name, lot->work + kept, all - kept, reterr);
    if (status == WEIR_OK)
        status = rating->store->ops->finish_work(rating->store, known->name, lot->work + kept, all - kept, reterr);
    walk->windows += status == WEIR_OK ? all - kept : 0;
    return status;
}

/* Of a store that is not the same any more nothing is left in the lot. */
static enum weir_status read_lot(struct rating *rating, struct known_lane *known, struct walk *walk, struct lot *lot,
                                 struct weir_error *reterr)
{
    lot->known_gap = known->gap;
    enum weir_status status = rating->store->ops->read_more_work(rating->store, known->name, &walk->place, rating->room,
                                                                 lot->work, &lot->count, reterr);
    if (status == WEIR_OK)
        status = note_lane(rating, known, &walk->is_same, reterr);
    if (lot->count > 0 && known->state.next_offset < 0) /* of cuts that the store has lost since, all there were */
        walk->is_same = false;
    walk->lots++;
    walk->is_short = status == WEIR_OK && lot->count < rating->room;
    if (status != WEIR_OK || !walk->is_same)
        lot->count = 0;
    weir_arena_clear(lot->keys);
    for (size_t i = 0; i < lot->count; i++) {
        struct weir_slice *key = &lot->work[i].window.series_key;
        *key = weir_arena_copy(lot->keys, key->data, key->length);
    }
    leave_unreadable(lot, walk);
    return status == WEIR_OK ? note_tallies(rating, known, walk, lot, reterr) : status;
}

static void start_lot(struct rating *rating, const struct known_lane *known, const struct lot *lot)
{
    for (size_t i = 0; i < lot->count; i++)
        rating->windows[i] =
            (struct weir_lane_window){.lane = known->name, .window = lot->work[i].window, .known_gap = lot->known_gap};
    weir_rater_threads_start(rating->threads, rating->windows, lot->count);
}

/* It is rated, and committed. */
static enum weir_status finish_lot(struct rating *rating, const struct known_lane *known, struct walk *walk,
                                   const struct lot *lot, struct weir_error *reterr)
{
    enum weir_status status =
        rating->store->ops->finish_work(rating->store, known->name, lot->work, lot->count, reterr);

    walk->windows += status == WEIR_OK ? lot->count : 0;
    return status;
}

/* Rates what the list holds, lot by lot: the next one is read while one is rated, and that one taken off the list while
 * the next one is rated. At most two are in hand. */
static enum weir_status walk_list(struct rating *rating, struct known_lane *known, const _Atomic bool *stop,
                                  struct walk *walk, struct weir_error *reterr)
{
    struct lot *away = NULL;
    enum weir_status status = WEIR_OK, rated;

    while (status == WEIR_OK && !walk->is_short && walk->is_same && walk->is_ours
           && !atomic_load_explicit(stop, memory_order_relaxed)) {
        struct lot *lot = &rating->lots[away == &rating->lots[0]], *before = away;
        status = read_lot(rating, known, walk, lot, reterr);
        rated = before ? await(rating, status == WEIR_OK ? reterr : NULL) : WEIR_OK;
        away = NULL;
        status = status == WEIR_OK ? rated : status;
        if (status == WEIR_OK && lot->count > 0) {
            start_lot(rating, known, lot);
            away = lot;
        }
        if (status == WEIR_OK && before)
            status = finish_lot(rating, known, walk, before, reterr);
        if (status == WEIR_OK && !walk->is_short)
            status = weir_claims_try(rating->claims, known->name, &walk->is_ours, reterr);
    }
    if (!away)
        return status;
    rated = await(rating, status == WEIR_OK ? reterr : NULL);
    if (status == WEIR_OK)
        status = rated;
    return status == WEIR_OK ? finish_lot(rating, known, walk, away, reterr) : status;
}

/* Which gaps the lane has is known before its list is read. *ret_known: false, the store has lost the lane since it was
 * listed, and there is nothing to rate. */
static enum weir_status know_gaps(struct rating *rating, struct known_lane *known, bool *ret_known,
                                  struct weir_error *reterr)
{
    bool is_same = true;
    enum weir_status status = known->gap < 0 ? note_lane(rating, known, &is_same, reterr) : WEIR_OK;

    *ret_known = is_same && known->gap >= 0;
    if (!*ret_known)
        known->rated_through = NEVER_RATED;
    return status;
}

/* Rates all that the lane's list of work holds. *ret_count: windows taken off the list. Held ones are off it as well:
 * PostgreSQL has them. A list of several lots may have been passed by in places; only one that is read in one go is at
 * its end. */
static enum weir_status rate_lane(struct rating *rating, struct known_lane *known, const _Atomic bool *stop,
                                  uint64_t *ret_count, struct weir_error *reterr)
{
    struct walk walk;
    bool is_known = false;
    enum weir_status status = know_gaps(rating, known, &is_known, reterr);

    *ret_count = 0;
    if (status != WEIR_OK || !is_known)
        return status;
    do {
        walk = (struct walk){.is_same = true, .is_ours = true};
        status = walk_list(rating, known, stop, &walk, reterr);
        *ret_count += walk.windows;
    } while (status == WEIR_OK && walk.lots > 1 && walk.windows > 0 && walk.is_same && walk.is_ours
             && !atomic_load_explicit(stop, memory_order_relaxed));
    if (status == WEIR_OK && walk.is_short)
        tell_unreadable(known, walk.unreadable);
    if (!walk.is_same)
        known->rated_through = NEVER_RATED;
    else if (status == WEIR_OK && (walk.lots == 1 || walk.windows == 0) && walk.is_short)
        note_rated(known);
    return status;
}

/* A lane that another rater is at: whether that one has come to the end of the list. What it is rating is still on it.
 */
static enum weir_status look_at_lane(struct rating *rating, struct known_lane *known, struct weir_error *reterr)
{
    bool is_done = false, is_same = true;
    enum weir_status status = is_list_done(rating, known->name, &is_done, reterr);

    if (status == WEIR_OK && is_done)
        status = note_lane(rating, known, &is_same, reterr);
    if (!is_same)
        known->rated_through = NEVER_RATED;
    else if (status == WEIR_OK && is_done)
        note_rated(known);
    return status;
}

static enum weir_status rate_or_look(struct rating *rating, struct known_lane *lane, const _Atomic bool *stop,
                                     uint64_t *ret_count, struct weir_error *reterr)
{
    bool is_ours = false;
    enum weir_status status = weir_claims_try(rating->claims, lane->name, &is_ours, reterr);

    if (status == WEIR_OK && !is_ours)
        return look_at_lane(rating, lane, reterr);
    if (status == WEIR_OK)
        status = rate_lane(rating, lane, stop, ret_count, reterr);
    /* Given back each round: a rater that starts later gets its share. */
    return status == WEIR_OK ? weir_claims_release(rating->claims, lane->name, reterr) : status;
}

static enum weir_status has_no_work(struct rating *rating, bool *ret_none, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    bool is_done = true;
    size_t count = 0;

    for (size_t i = 0; i < rating->lane_count && status == WEIR_OK && is_done; i++)
        status = is_list_done(rating, rating->lanes[i].name, &is_done, reterr);
    if (status == WEIR_OK && is_done)
        status =
            weir_lane_book_released(rating->book, rating->settings.kafka_topic, 1, rating->windows, &count, reterr);
    *ret_none = is_done && count == 0;
    return status;
}

/* The first of them is named when there are more than when they were last told. */
static void tell_refused_period(void *context, struct weir_slice why)
{
    struct rating *rating = context;

    snprintf(rating->refused_period, sizeof rating->refused_period, "%.*s", (int)why.length, why.data);
}

static enum weir_status show_refused(struct rating *rating, struct weir_error *reterr)
{
    uint64_t windows = 0, periods = 0, unreadable = 0;
    enum weir_status status = weir_lane_book_refused(rating->book, rating->settings.kafka_topic, &windows, reterr);

    if (status == WEIR_OK)
        status = weir_lane_book_refused_periods(rating->book, 1, tell_refused_period, rating, &periods, reterr);
    if (status != WEIR_OK)
        return status;
    if (periods > rating->logged_refused_periods)
        weir_log(WEIR_LOG_ERROR,
                 "%" PRIu64 " billing periods cannot be closed and wait in weir.refused_periods, tried again every "
                 "minute; the first: %s",
                 periods, rating->refused_period);
    rating->logged_refused_periods = periods;
    for (size_t i = 0; i < rating->lane_count; i++)
        unreadable += rating->lanes[i].unreadable;
    set(&rating->refused_windows, windows);
    set(&rating->refused_periods, periods);
    set(&rating->unreadable_windows, unreadable);
    return WEIR_OK;
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
    enum weir_status status = show_refused(rating, reterr);
    if (status == WEIR_OK)
        status = weir_lane_book_open_gaps(rating->book, rating->settings.kafka_topic, true, &gaps, &count, reterr);
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

/* A lane that follows the clock moves all the time; periods begin and end at quarters of an hour. */
static bool must_tell(const struct known_lane *lane)
{
    return lane->noted_offset != lane->rated_offset
           || lane->noted_through / QUARTER_HOUR != lane->rated_through / QUARTER_HOUR;
}

/* PostgreSQL is told before anything is settled by it, so that an invoice knows what it rests on. */
static enum weir_status tell_how_far(struct rating *rating, struct weir_error *reterr)
{
    size_t count = 0;

    if (rating->rated_room < rating->lane_count) {
        rating->rated_room = rating->lane_room;
        rating->rated = weir_resize(rating->rated, rating->rated_room, sizeof *rating->rated);
    }
    for (size_t i = 0; i < rating->lane_count; i++) {
        const struct known_lane *lane = &rating->lanes[i];
        if (must_tell(lane))
            rating->rated[count++] =
                (struct weir_lane_rating){lane->name, lane->rated_offset, lane->rated_through, lane->rated_counts};
    }
    enum weir_status status = count > 0 ? weir_lane_book_rated(rating->book, rating->rated, count, reterr) : WEIR_OK;
    for (size_t i = 0; i < rating->lane_count && status == WEIR_OK && count > 0; i++) {
        struct known_lane *lane = &rating->lanes[i];
        if (must_tell(lane)) {
            lane->noted_offset = lane->rated_offset;
            lane->noted_through = lane->rated_through;
        }
    }
    return status;
}

/* Periods are settled through the time up to which everything is rated; what comes late after it is charged by
 * difference. One rater does it. *ret_settled: it was this one, and no lane was left out. */
static enum weir_status settle(struct rating *rating, bool *ret_settled, struct weir_error *reterr)
{
    struct weir_horizon horizon;
    bool is_ours = false, is_known = false;
    char name[WEIR_LANE_NAME_MAX + 16];

    *ret_settled = false;
    if (!weir_rating_horizon(rating, &horizon))
        return WEIR_OK;
    snprintf(name, sizeof name, "settle:%s", rating->settings.kafka_topic);
    enum weir_status status = weir_claims_try(rating->claims, weir_slice_text(name), &is_ours, reterr);
    if (status == WEIR_OK && is_ours) {
        status = weir_rating_find_horizon(rating, &horizon, &is_known, reterr);
        if (status == WEIR_OK && is_known)
            status = tell_how_far(rating, reterr);
        if (status == WEIR_OK && is_known)
            status = weir_rater_settle(weir_rater_threads_first(rating->threads), &horizon, reterr);
        if (status == WEIR_OK && is_known)
            atomic_store_explicit(&rating->settled, horizon.ended, memory_order_relaxed); /* a figure on a page */
        show_counts(rating);
        enum weir_status released = weir_claims_release(rating->claims, weir_slice_text(name), reterr);
        status = status == WEIR_OK ? released : status;
    }
    *ret_settled = status == WEIR_OK && is_ours && is_known;
    return status;
}

/* Where work never ends, it settles every second. */
static bool is_time_to_settle(struct rating *rating, bool has_worked)
{
    int64_t now = weir_time_now();

    if (has_worked && now >= rating->settled_at && now - rating->settled_at < WEIR_SECOND)
        return false;
    rating->settled_at = now;
    return true;
}

/* *ret_done: nothing closed is left, and the periods are settled. *ret_worked: something was rated. */
enum weir_status weir_rating_go_round(struct rating *rating, const _Atomic bool *stop, bool *ret_done, bool *ret_worked,
                                      struct weir_error *reterr)
{
    enum weir_status status = weir_rating_list_lanes(rating, reterr);
    uint64_t count = 0;
    bool none = false, is_settled = false;

    *ret_done = *ret_worked = false;
    rating->first_gap = WEIR_TIME_NEVER;
    if (status == WEIR_OK)
        status = weir_rating_end_at_gaps(rating, &rating->first_gap, reterr);
    if (status == WEIR_OK)
        status = rate_released(rating, &count, reterr);
    *ret_worked = count > 0;
    for (size_t i = 0; i < rating->lane_count && status == WEIR_OK; i++) {
        count = 0;
        status = rate_or_look(rating, &rating->lanes[i], stop, &count, reterr);
        *ret_worked = *ret_worked || count > 0;
    }
    tell_how_many_refused(rating);
    if (status == WEIR_OK)
        status = show_gaps(rating, reterr);
    if (status == WEIR_OK && is_time_to_settle(rating, *ret_worked))
        status = settle(rating, &is_settled, reterr);
    if (status == WEIR_OK && is_settled && !*ret_worked)
        status = has_no_work(rating, &none, reterr);
    *ret_done = status == WEIR_OK && none;
    return status;
}
