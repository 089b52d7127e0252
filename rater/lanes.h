/* What PostgreSQL knows of lanes: where each stood when a rater last looked, the gaps that it has, which of them wait
 * for an operator's word, and the windows that are to be rated because it was given. docs/gaps.md has the rules.
 *
 * A rater notes a lane before it rates anything that it read of it. That windows in an open gap are held is not its
 * business: the ledger reads the open gaps in the very transaction that would rate them (postgres_held.c).
 *
 * A connection of its own, opened at the first call and again when it broke (WEIR_RETRY). One thread.
 */
#ifndef WEIR_RATER_LANES_H
#define WEIR_RATER_LANES_H

#include "aggregator/window_store.h"
#include "rater/rate.h"

struct weir_lane_book;

struct weir_lane_book *weir_lane_book_new(const char *url);              /* any libpq connection string */
struct weir_lane_book *weir_lane_book_free(struct weir_lane_book *book); /* NULL in, NULL out */
/* After any trouble: every lane is noted anew. The server that answers next may have been promoted without our last
 * notes, and a gap that only we remember would hold nothing there. */
void weir_lane_book_forget(struct weir_lane_book *book);

/* Notes the lane as the store has it. May be called as often as one likes: it asks PostgreSQL only for what it must
 * know at once (a lane or a gap that was not noted before), and every few seconds. *ret_back: where the lane stood
 * before, when it has gone back since; -1: it has not. *ret_gap: the number of its last gap, 0: it has none. What is
 * read of the store from now on knows of that gap (weir_lane_window.known_gap). */
enum weir_status weir_lane_book_note(struct weir_lane_book *book, struct weir_slice lane,
                                     const struct weir_lane_state *state, int64_t *ret_back, int64_t *ret_gap,
                                     struct weir_error *reterr);

/* How far a lane is rated: all that closed of the events below an offset is in the ledger, or held. */
struct weir_lane_rating {
    struct weir_slice name;
    int64_t offset, through;        /* through: windows that end until then, ns */
    struct weir_lane_counts counts; /* of the events below offset */
};
/* Notes it of lanes that were noted before: for what is settled, and invoiced, by it. */
enum weir_status weir_lane_book_rated(struct weir_lane_book *book, const struct weir_lane_rating *lanes, size_t count,
                                      struct weir_error *reterr);

/* Work that is a tally each (common/model/tally.h): noted for invoices. One that was noted with more is left alone. */
enum weir_status weir_lane_book_tallies(struct weir_lane_book *book, struct weir_slice lane,
                                        const struct weir_work *tallies, size_t count, struct weir_error *reterr);

/* A gap that nobody has decided on. */
struct weir_open_gap {
    int64_t number;
    struct weir_slice lane;
    struct weir_gap gap;
    uint64_t held;  /* windows that it holds back */
    uint64_t fewer; /* of these: with fewer events than what was rated (weir_window_total_is_older) */
};
/* All of a topic's lanes and of its admitted events, by number; views live until the next call with this book.
 * are_counted: held and fewer are filled, which reads every held window. */
enum weir_status weir_lane_book_open_gaps(struct weir_lane_book *book, const char *topic, bool are_counted,
                                          const struct weir_open_gap **ret_gaps, size_t *ret_count,
                                          struct weir_error *reterr);

/* Held windows of the topic's lanes, and of its admitted events, that no open gap holds any more, at most max, to be
 * given to weir_rater_rate as they are; views live until the next call with this book. Those that could not be rated
 * come again a minute after they were last tried, and once at once to a book that has just connected. */
enum weir_status weir_lane_book_released(struct weir_lane_book *book, const char *topic, size_t max,
                                         struct weir_lane_window *ret_windows, size_t *ret_count,
                                         struct weir_error *reterr);

/* How many windows of the topic's lanes cannot be rated (weir_rater_rate). */
enum weir_status weir_lane_book_refused(struct weir_lane_book *book, const char *topic, uint64_t *ret_count,
                                        struct weir_error *reterr);

/* Billing periods that cannot be closed (weir_rater_settle), of whatever topic: how many, and why, of at most max. */
enum weir_status weir_lane_book_refused_periods(struct weir_lane_book *book, size_t max,
                                                void (*visit)(void *context, struct weir_slice why), void *context,
                                                uint64_t *ret_count, struct weir_error *reterr);

/* Calls visit for each lane of the topic that was ever noted and has not ended. */
enum weir_status weir_lane_book_lanes(struct weir_lane_book *book, const char *topic,
                                      void (*visit)(void *context, struct weir_slice lane, int64_t watermark),
                                      void *context, struct weir_error *reterr);

/* The operator's word. gap 0: all open gaps of the lane. */
struct weir_release {
    struct weir_slice lane;
    int64_t gap;
    const char *by, *reason;
    bool lowers;
};
/* What it does, or (is_dry) would do: gaps that are closed, and their held windows by what becomes of them: rated for
 * the first time or with more events than before; of fewer events and so left as they were rated, or lowered. */
struct weir_release_counts {
    uint64_t gaps, rated, kept, lowered;
};
enum weir_status weir_lane_book_release(struct weir_lane_book *book, const struct weir_release *release, bool is_dry,
                                        struct weir_release_counts *ret_counts, struct weir_error *reterr);

/* The operator's word that a lane is gone for good (weir.lane_ends): periods, months and expiries do not wait for it
 * any more, until a rater sees it again. WEIR_REJECT: there is no such lane, or what speaks against it. */
enum weir_status weir_lane_book_end(struct weir_lane_book *book, struct weir_slice lane, const char *by,
                                    const char *reason, bool is_dry, struct weir_error *reterr);

#endif
