/* A lane: one partition's share of the work, from events to sealed cuts. Knows nothing of Kafka, files or Redis.
 *
 * One owner thread, so nothing in it needs a lock. It counts events into windows and ids, and from time to time seals
 * what changed into a cut: a self-contained copy that another thread can write while the lane goes on.
 *
 * Time. `high` is the highest time of an event that the lane took (counted, duplicate or unmatched). The watermark is
 * high less the allowed disorder, or the wall clock less it for a lane that is idle; it never goes back. Windows that
 * end at or before it are closed, many of one end by several cuts; so cuts tell the time through which all are, and
 * whoever takes the lane works the watermark out again. An event older than watermark - lateness is too late: its id
 * may be forgotten already. So is one older than `forgotten`, the highest such limit of all cuts: up to there windows
 * and ids are gone, and a longer lateness does not bring them back. An id is forgotten when watermark - retention has
 * passed its bucket, and retention >= lateness, so an id is always known for as long as a resend of its event can be
 * accepted.
 *
 * Retraction. An event with the attribute `retraction` voids the event of its id and content, whichever of the two
 * comes first. What the lane then holds is the same in both orders: windows as if the event had been counted and taken
 * out again, the span of events with its time, the id void. Taking out is exact because the id's mark tells (by its
 * effect) that the retraction reads as the event did when it was counted, and because a window is there for as long as
 * an event of its time can be accepted. A void id stays known like a counted one: its record is written again, in the
 * bucket of that moment, so that it outlives every resend of the event or of the retraction, which carry the same time.
 *
 * Duplicates and refused events are tallied by customer (tallies.h), and in a lane of admitted events those that count:
 * what a customer's invoice says of them. All tallies of a lane add up to its counts.
 *
 * Admitted events (`weir admit`) count in a lane of their own. Whoever takes a lane tells it of them (know), before its
 * first event: so it does not count one of them as well, however it would judge it by now.
 */
#ifndef WEIR_AGGREGATOR_LANE_H
#define WEIR_AGGREGATOR_LANE_H

#include "aggregator/window_store.h"
#include "aggregator/window_table.h"
#include "common/model/catalog.h"
#include "common/model/event.h"
#include "common/model/reading.h"

struct weir_lane_settings {
    bool is_bounded;  /* files: nothing is too late or too early, nothing is forgotten; no store, no cuts,
                         weir_lane_drain */
    bool keeps_all;   /* admitted events: none is too late, nothing is forgotten, and windows are closed as soon as they
                         are   made; retention and lateness do not matter */
    bool names_all;   /* each window of a cut has its series key, for who keeps but some of a cut's windows */
    int64_t disorder; /* ns, >= 0 */
    int64_t lateness; /* ns, >= 0 */
    int64_t retention;                   /* ns, >= lateness */
    int64_t max_future;                  /* ns, >= 0: an event may be this far ahead of the wall clock */
    uint32_t close_least;                /* windows of one end that one cut may close beside those that changed, if a
                                            sixteenth is not more; 0: the usual number */
    uint32_t round_least;                /* open windows that cuts bring before a round begins, at least; 0: the usual
                                            number */
    uint64_t windows_max;                /* windows in memory, >= 1 */
    uint64_t ids_max;                    /* ids and texts of `unique` windows in memory, >= 1 */
    struct weir_unpriced_check unpriced; /* .is_unpriced NULL: unpriced events are not told apart */
};

enum weir_outcome {
    WEIR_OUTCOME_COUNTED,
    WEIR_OUTCOME_UNPRICED, /* counted, and at least one of its windows has no price */
    WEIR_OUTCOME_DUPLICATE,
    WEIR_OUTCOME_UNMATCHED,
    WEIR_OUTCOME_RETRACTED, /* a retraction was taken: its event counts no more, or will not when it comes */
    WEIR_OUTCOME_REJECTED,  /* to quarantine; why is in *reterr */
    WEIR_OUTCOME_FULL,      /* windows_max or ids_max is reached: nothing changed, the lane cannot go on */
};

struct weir_lane;

/* name: "<topic>:<partition>", copied. The catalog must outlive the lane. */
struct weir_lane *weir_lane_new(const struct weir_catalog *catalog, struct weir_slice name,
                                const struct weir_lane_settings *settings);
struct weir_lane *weir_lane_free(struct weir_lane *lane); /* NULL in, NULL out */
/* About so many events will come: room for their ids is made at once. Before the first, once at most. */
void weir_lane_expect(struct weir_lane *lane, uint64_t events);

/* Taking: give the store this loader, then start with the state it answered. WEIR_REJECT: the stored lane does not fit
 * into windows_max or ids_max; *reterr names the setting. */
struct weir_lane_loader weir_lane_loader(struct weir_lane *lane);
enum weir_status weir_lane_start(struct weir_lane *lane, const struct weir_lane_state *state,
                                 struct weir_error *reterr);

/* This event counts already, in another lane: when it comes here it is a duplicate (with other content a conflict), and
 * its retraction is refused. In memory only: to be told after each start, before the first event. Nothing is remembered
 * of one that is too late here anyway, nor of one that the lane itself has counted or voided. WEIR_REJECT: ids_max. */
enum weir_status weir_lane_know(struct weir_lane *lane, const struct weir_event *event, struct weir_error *reterr);
/* The lane takes no event that is older than this. Never goes back while the lane lives. */
int64_t weir_lane_accepted_from(const struct weir_lane *lane);

/* The lane's own view of a time: WEIR_OK, or WEIR_REJECT with too_late or too_early. now: wall clock, ns. */
enum weir_status weir_lane_check_time(const struct weir_lane *lane, int64_t time, int64_t now,
                                      struct weir_rejection *reterr);

/* What take looks up by, with the readings' series: worked out early, so that the memory can be fetched while other
 * events are decoded. */
struct weir_lane_hashes {
    uint64_t id;
    uint32_t content;
    uint32_t effect;
};
/* Sets what of each reading is the lane's too. Reads of the lane only what stays as it is from its start to its end:
 * any thread may call it meanwhile. */
void weir_lane_hash(const struct weir_lane *lane, const struct weir_event *event, struct weir_reading *readings,
                    uint32_t count, struct weir_lane_hashes *ret_hashes);
/* An event that will be taken soon, and by which lane; with readings. */
struct weir_lane_coming {
    const struct weir_lane *lane;
    const struct weir_lane_hashes *hashes;
    struct weir_reading *readings;
    uint32_t count;
};
/* Fetches what taking the events will touch, at most WEIR_COMING_MAX, so that they wait for memory together. Notes in
 * the readings where their series seem to stand. */
enum { WEIR_COMING_MAX = 64 };
void weir_lane_prefetch(const struct weir_lane_coming *events, size_t count);

/* Takes one event that decoded and passed check_time; of it subject, time and is_retraction are read, the rest is in
 * the hashes. hashes and the readings' series are of this lane and this event. sequence: its offset, not below the
 * lane's next_offset. With count 0 the event is unmatched. Whatever the outcome but FULL, the lane's next offset is now
 * sequence + 1. */
enum weir_outcome weir_lane_take(struct weir_lane *lane, const struct weir_event *event,
                                 const struct weir_reading *readings, uint32_t count,
                                 const struct weir_lane_hashes *hashes, int64_t sequence,
                                 struct weir_rejection *reterr);
/* Passes over a message that went to quarantine before it reached take. customer: empty when nobody can tell. */
void weir_lane_reject(struct weir_lane *lane, struct weir_slice customer, int64_t sequence);
/* Kafka's timestamp (ms; -1: none) of the message that was passed last. */
void weir_lane_set_stamp(struct weir_lane *lane, int64_t stamp);
/* Offsets [from, next_offset) can be read no more (kind recreated: the lane begins anew at next_offset, which may lie
 * below where it was; ids and windows are kept). now: wall clock, ns. Returns the gap as it was noted. */
const struct weir_gap *weir_lane_add_gap(struct weir_lane *lane, enum weir_gap_kind kind, int64_t next_offset,
                                         int64_t now);
/* Passes over offsets that hold nothing for us (transaction markers, compacted messages). */
void weir_lane_skip_to(struct weir_lane *lane, int64_t next_offset);

/* Brings the watermark to the wall clock less the allowed disorder: for a lane without events that is caught up. */
void weir_lane_idle(struct weir_lane *lane, int64_t now);
/* Windows that are due and were left for later cuts are in the next one, for a lane that gets no more. */
void weir_lane_close_all(struct weir_lane *lane);
/* The end of bounded input: every window is closed now, and handed out once, whole, instead of in cuts. As
 * weir_window_table_drain. */
size_t weir_lane_drain(struct weir_lane *lane, size_t max, struct weir_window *ret_windows, bool *ret_is_whole);

/* A sealed cut: owns copies of everything in `cut`. Reusable; its memory grows to the largest cut it held. */
struct weir_sealed_cut {
    struct weir_cut cut;
    struct weir_cut_window *windows;
    size_t window_room;
    struct weir_cut_ids *ids;
    size_t ids_room;
    char *bytes; /* series keys, unique texts, ids */
    size_t bytes_used, bytes_room;
};

struct weir_sealed_cut *weir_sealed_cut_new(void);
struct weir_sealed_cut *weir_sealed_cut_free(struct weir_sealed_cut *sealed); /* NULL in, NULL out */

/* True when there is anything that the last sealed cut does not hold. */
bool weir_lane_has_changes(const struct weir_lane *lane);
/* The same, but for a watermark that moved and closed nothing: that may wait a while to be told. */
bool weir_lane_has_news(const struct weir_lane *lane);
/* Changed windows and new marks of ids since the last seal: for sealing early when a cut would grow large. */
size_t weir_lane_unsealed(const struct weir_lane *lane);
/* Copies what changed since the last seal; the next cut expects this one to be stored. Then forgets what is too old. */
void weir_lane_seal(struct weir_lane *lane, struct weir_sealed_cut *sealed);

const struct weir_lane_state *weir_lane_state(const struct weir_lane *lane);
struct weir_slice weir_lane_name(const struct weir_lane *lane);
/* Stored windows that were not taken, as their series keys cannot be read: they are nobody's, and no event adds to
 * them. */
uint64_t weir_lane_unreadable(const struct weir_lane *lane);
uint64_t weir_lane_windows(const struct weir_lane *lane);
uint64_t weir_lane_ids(const struct weir_lane *lane); /* and texts of `unique` windows, which may live longer */
size_t weir_lane_bytes(const struct weir_lane *lane); /* memory held by windows and ids */

#endif
