/* Windows to line items: finds contract, version and price, takes the difference to what was rated before, and settles
 * billing periods (fees, true-ups). All rules are in docs/rating.md. One thread.
 */
#ifndef WEIR_RATER_RATE_H
#define WEIR_RATER_RATE_H

#include "common/model/catalog.h"
#include "common/model/line_item.h"
#include "common/status.h"
#include "rater/ledger.h"
#include "rater/state.h"

struct weir_rater;

struct weir_rater_counts {
    uint64_t windows;         /* looked at */
    uint64_t unchanged;       /* difference of zero */
    uint64_t stale;           /* older than what was rated already: an older cut came back; left alone */
    uint64_t held;            /* in the span of an open gap: not rated until it is released */
    uint64_t refused;         /* cannot be rated: kept out, and tried again (once for each time) */
    uint64_t refused_periods; /* cannot be closed: noted, and tried again (once for each time) */
    uint64_t unpriced_windows;
    uint64_t unpriced_events; /* events in them (of one with two such windows, both count) */
    uint64_t line_items;
};

/* catalog and ledger must outlive the rater. */
struct weir_rater *weir_rater_new(const struct weir_catalog *catalog, struct weir_ledger *ledger);
struct weir_rater *weir_rater_free(struct weir_rater *rater);

/* One closed window's absolute total in one lane. */
struct weir_lane_window {
    struct weir_slice lane;
    struct weir_window window;
    uint64_t
        held_number; /* of the row that it was held in, when it comes from there (weir_lane_book_released); else 0 */
    /* Counted again (weir recount): the truth even where it is less than what was rated, as long as that is this still.
     * NULL: as it comes from its lane. Alive for the call. */
    const struct weir_window_total *replaced;
    int64_t known_gap; /* the lane's last gap, as noted before the window was read (weir_lane_book_note); 0: none */
};

/* Rates a batch in one transaction of the ledger. Windows of one series that stand together are rated faster. Where the
 * ledger keeps no state, nothing is forgotten between batches.
 * A window that cannot be rated (an amount does not fit, its terms have changed) is kept with the ledger and rated by
 * weir_lane_book_released once it can be; the embedded ledgers have no such place, there whoever is told of it
 * (weir_rater_on_refusal) has to keep it and may give it again; without, it is WEIR_REJECT or WEIR_FATAL. WEIR_RETRY:
 * nothing is known to be done; the same batch again is right. WEIR_AGAIN: nothing is done, since a gap that was found
 * after a window was read has been released; the windows have to be read again. WEIR_FATAL/REJECT: *reterr (an overflow
 * names customer, meter and window). */
enum weir_status weir_rater_rate(struct weir_rater *rater, const struct weir_lane_window *windows, size_t count,
                                 struct weir_error *reterr);

/* Between batches: forgets the last totals of the windows rated so far. Right only where none of them comes again (a
 * bounded input: each window once, whole). Running totals of prices, splits and periods stay. */
void weir_rater_forget_windows(struct weir_rater *rater);

/* Between batches: forgets everything that was rated, as if the rater were new. Only where the ledger keeps no state.
 */
void weir_rater_start_over(struct weir_rater *rater);

/* tell is called for each window that is kept out, after that was written. The views live for the call. */
void weir_rater_on_refusal(struct weir_rater *rater,
                           void (*tell)(void *context, const struct weir_lane_window *window, struct weir_slice why),
                           void *context);

/* What is known of time: the span of counted events (first > last: none) and through when periods are ended. */
struct weir_horizon {
    int64_t first_time;
    int64_t last_time;
    int64_t ended; /* periods with end <= this are ended */
};

/* Settles every period that the horizon says began (fees in advance) or ended (the rest) and that is not settled yet.
 * One that cannot be closed (its amounts do not fit) is noted by a ledger that keeps state (weir.refused_periods) and
 * tried again; for the others it is WEIR_REJECT. */
enum weir_status weir_rater_settle(struct weir_rater *rater, const struct weir_horizon *horizon,
                                   struct weir_error *reterr);

/* Where the ledger keeps no state, and usage comes customer by customer in the order of their names: what
 * weir_rater_settle would do at the end, for all customers up to `through` (once all of their usage is rated), who are
 * forgotten then. */
enum weir_status weir_rater_settle_through(struct weir_rater *rater, const struct weir_horizon *horizon,
                                           struct weir_slice through, struct weir_error *reterr);

/* What is left of these customers' grants goes out of their balances where they expired by `through`: usage of before
 * is known. One transaction. */
enum weir_status weir_rater_expire(struct weir_rater *rater, const struct weir_slice *customers, size_t count,
                                   int64_t through, struct weir_error *reterr);

/* Settles one period of a contract, whether or not it is due: fees in advance, and when it is_ended all the rest. */
enum weir_status weir_rater_settle_period(struct weir_rater *rater, const struct weir_contract *contract,
                                          struct weir_slice customer, int64_t start, int64_t end, bool is_ended,
                                          struct weir_error *reterr);

/* Where the ledger keeps no state nothing is drawn from prepaid amounts on the way: draws, once, what all that was
 * rated and settled comes to. weir_rater_settle does it by itself. */
enum weir_status weir_rater_draw_once(struct weir_rater *rater, struct weir_error *reterr);

/* Adds `more`, another share of the same thing (a lane's of a window, a window's of a period). false: it does not fit.
 */
bool weir_total_merge(enum weir_aggregation aggregation, struct weir_window_total *total,
                      const struct weir_window_total *more);
/* The quantity that a window's total stands for. false: it does not fit. */
bool weir_quantity_of(enum weir_aggregation aggregation, const struct weir_window_total *total,
                      struct weir_decimal *ret_quantity);

/* Why a window that starts at start would have no price; WEIR_UNPRICED_PRICED: it has one. For telling unpriced usage
 * early. The answer holds for all starts in [*ret_from, *ret_to). */
enum weir_unpriced weir_find_unpriced(const struct weir_catalog *catalog, struct weir_slice series_key, int64_t start,
                                      int64_t *ret_from, int64_t *ret_to);

struct weir_rater_counts weir_rater_counts(const struct weir_rater *rater);

#endif
