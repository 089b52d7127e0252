/* The parts of `weir rater`: what lanes there are and through when they are rated (rater_lanes.c), one round of rating
 * and settling (rater_round.c), and the command around them (command_rater.c). Nobody else's. One thread, but for what
 * weir_rater_threads starts; the metrics' page reads the atomics.
 */
#ifndef WEIR_CLI_RATER_INTERNAL_H
#define WEIR_CLI_RATER_INTERNAL_H

#include "aggregator/window_store.h"
#include "cli/outage.h"
#include "cli/rater_close.h"
#include "common/arena.h"
#include "common/metrics.h"
#include "common/settings.h"
#include "rater/claims.h"
#include "rater/lanes.h"
#include "rater/rate.h"
#include "rater/reconciliations.h"
#include "rater/threads.h"

#define NEVER_RATED INT64_MIN

struct known_lane {
    char name_bytes[WEIR_LANE_NAME_MAX + 1];
    struct weir_slice name;
    struct weir_lane_state state;
    bool is_listed;
    int64_t rated_through;    /* all windows that end until then are rated, or kept out; NEVER_RATED: not known */
    int64_t listed_watermark; /* as read before its list of work is */
    uint64_t unreadable; /* on its list of work, as it was last walked by this rater: their series cannot be read */
    uint64_t told_unreadable;
    int64_t listed_offset; /* likewise */
    struct weir_lane_counts listed_counts;
    int64_t rated_offset; /* all that closed of the events below is rated, or kept out; where rated_through is known */
    struct weir_lane_counts rated_counts;
    int64_t noted_offset, noted_through; /* what PostgreSQL was told of them; -1: nothing */
    int64_t gap;                         /* PostgreSQL's last one of the lane, when it was last noted; -1: not known */
};

/* What was read of a lane's list at once; one is rated while the other one is read. */
struct lot {
    struct weir_work *work;
    size_t count;
    int64_t known_gap;       /* of the lane, before it was read */
    struct weir_arena *keys; /* the windows' series keys */
};

struct rating {
    struct weir_settings settings;
    struct weir_catalog *catalog;
    bool has_calendars; /* its calendars are kept (rater/calendars.h) */
    struct weir_window_store *store;
    struct weir_ledger *ledgers[WEIR_RATER_THREADS_MAX];
    struct weir_rater_threads *threads;
    struct weir_claims *claims;
    struct weir_lane_book *book;
    struct weir_metrics *metrics;
    struct known_lane *lanes;
    size_t lane_count, lane_room;
    size_t known_count, next_lane;  /* while lanes are listed: those of before; where the next is looked for first */
    int64_t first_gap;              /* where the earliest gap began that was open when the round did */
    int64_t settled_at;             /* wall clock */
    bool has_too_many;              /* lanes, or one whose name is too long */
    size_t room;                    /* windows that are read and rated at once: a transaction of each thread */
    struct weir_lane_rating *rated; /* on their way to PostgreSQL */
    size_t rated_room;
    struct lot lots[2];
    struct weir_lane_window *windows; /* on their way to the threads */
    _Atomic uint64_t line_items, windows_rated, unpriced, stale, transactions, retries, lanes_known, open_gaps,
        held_windows, refused_windows, refused_periods, unreadable_windows;
    _Atomic int64_t settled; /* through when this rater has settled, ns */
    struct weir_outage outage;
    int64_t logged_gap, gaps_shown_at, gaps_logged_at; /* the newest gap that was told, and when they all were */
    uint64_t logged_held, logged_refused_periods;
    char refused_period[WEIR_ERROR_TEXT_MAX]; /* why the first of them cannot be closed */
    _Atomic uint64_t newly_refused;           /* windows, this round */
    struct weir_rater_closer *closer;
    struct weir_reconciliations *reconciliations;
    int64_t looked_back; /* wall clock */
    _Atomic uint64_t reconcile_time, reconcile_lanes, reconcile_windows, reconcile_repaired;
    _Atomic uint64_t reconcile_differences[WEIR_DIFFERENCE_COUNT];
};

/* 1. rater_lanes.c */

/* The lanes that the store has now. What is known of those of before stays. */
enum weir_status weir_rating_list_lanes(struct rating *rating, struct weir_error *reterr);
/* PostgreSQL is told anew how far each lane is rated, and asked for its gaps: what it was told may be gone with its
 * server. */
void weir_rating_forget_told(struct rating *rating);
/* Through when all lanes are rated. false: some lane was not rated yet. */
bool weir_rating_horizon(const struct rating *rating, struct weir_horizon *ret_horizon);
/* The same, no further than lanes and gaps that only PostgreSQL knows allow. */
enum weir_status weir_rating_find_horizon(struct rating *rating, struct weir_horizon *ret_horizon, bool *ret_known,
                                          struct weir_error *reterr);
/* Where the earliest open gap begins, if that is before *end. */
enum weir_status weir_rating_end_at_gaps(struct rating *rating, int64_t *end, struct weir_error *reterr);

/* 2. rater_round.c */

/* *ret_done: nothing closed is left, and the periods are settled. *ret_worked: something was rated. */
enum weir_status weir_rating_go_round(struct rating *rating, const _Atomic bool *stop, bool *ret_done, bool *ret_worked,
                                      struct weir_error *reterr);
/* For weir_rater_threads_new. */
void weir_rating_tell_refused(void *context, const struct weir_lane_window *window, struct weir_slice why);
/* What the last `weir reconcile` found stands on every rater's page. */
void weir_rating_look_back(struct rating *rating);

#endif
