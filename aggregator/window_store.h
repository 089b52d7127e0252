/* Where a lane's state is kept between crashes, and where the rater reads it: memory, or Redis.
 *
 * The writing side (lanes): one consistent cut per lane, replaced atomically: the next offset, the owner's epoch, the
 * watermark, window totals, ids seen. The reading side (raters, reconcile): closed windows waiting to be rated.
 *
 * Rounds. A store may keep open windows as a row of what changed. So that it can drop the row's front, cuts now and
 * then bring windows that did not change as well: from a cut that begins a round to the one that ends it every window
 * that is open was in one of them. What the store got of open windows before the round is not needed when it has ended.
 *
 * Numbers. Most of what would be written of an open window is its series key, the same with each change. So it has a
 * number, and may come without the key when a cut of the same owner has told it, since the last round began if one has.
 * It is then the window that came last with that number and with a key: a number may go to another window when its
 * first one is closed.
 *
 * A handle belongs to one thread; open as many as there are threads.
 *
 * A lane's name is "<topic>:<partition>"; "<topic>" may hold ':' (the last one separates).
 */
#ifndef WEIR_AGGREGATOR_WINDOW_STORE_H
#define WEIR_AGGREGATOR_WINDOW_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/model/gap.h"
#include "common/model/window.h"
#include "common/slice.h"
#include "common/status.h"

enum {
    WEIR_ID_BYTES = 15, /* 8 bytes fingerprint of (source, id) | 4 bytes of the content's | 3 bytes effect and state */
    WEIR_EFFECT_BITS = 22,
    WEIR_LANE_SECRET_BYTES = 32, /* keys the lane's fingerprints; made once, by the first owner */
    WEIR_LANE_NAME_MAX = 249 + 1 + 10,
};

/* What a lane remembers of an id. Of several records of one id the last holds. */
enum weir_id_state {
    WEIR_ID_COUNTED,
    WEIR_ID_VOID,            /* was counted, and taken out again */
    WEIR_ID_AHEAD,           /* void, and was never counted: its retraction came first */
    WEIR_ID_COUNTED_UNKNOWN, /* counted by a weir that did not keep the effect: cannot be taken out again */
};

struct weir_id_mark {
    uint32_t content; /* fingerprint of type, subject and data */
    uint32_t effect;  /* WEIR_EFFECT_BITS of a fingerprint of what was counted: time, windows, values */
    enum weir_id_state state;
};

/* Little endian; the last three bytes are effect | state << WEIR_EFFECT_BITS. */
static inline void weir_id_store(uint64_t id, const struct weir_id_mark *mark, char bytes[WEIR_ID_BYTES])
{
    uint32_t last = mark->effect | (uint32_t)mark->state << WEIR_EFFECT_BITS;

    memcpy(bytes, &id, 8);
    memcpy(bytes + 8, &mark->content, 4);
    memcpy(bytes + 12, &last, 3);
}

static inline uint64_t weir_id_load(const char bytes[WEIR_ID_BYTES], struct weir_id_mark *ret_mark)
{
    uint64_t id;
    uint32_t last = 0;

    memcpy(&id, bytes, 8);
    memcpy(&ret_mark->content, bytes + 8, 4);
    memcpy(&last, bytes + 12, 3);
    ret_mark->effect = last & ((UINT32_C(1) << WEIR_EFFECT_BITS) - 1);
    ret_mark->state = (enum weir_id_state)(last >> WEIR_EFFECT_BITS);
    return id;
}

/* Events by what became of them, since the lane began. read = all the others added up except unpriced, which the rater
 * knows. counted is never lowered: `retracted` says how many retractions were taken. */
struct weir_lane_counts {
    uint64_t read;
    uint64_t counted;
    uint64_t duplicate;
    uint64_t unmatched;
    uint64_t retracted;
    uint64_t quarantined;
};

/* The scalars of a lane's cut. */
struct weir_lane_state {
    uint64_t epoch;      /* the owner's; 0: never owned */
    int64_t next_offset; /* everything below is in the cut; -1: nothing yet */
    int64_t high;        /* highest accepted event time; 0: none yet */
    int64_t watermark;   /* windows that end at or before it are closed; 0: none yet */
    int64_t forgotten;   /* windows that end at or before it are dropped, and ids of such events; never goes back */
    int64_t first_time;  /* lowest and highest time of all counted events; first > last: none counted yet */
    int64_t last_time;
    int64_t
        stamp; /* Kafka's timestamp (ms) of the message at next_offset - 1; -1: not known. Tells a topic made anew */
    struct weir_lane_counts counts;
    unsigned char secret[WEIR_LANE_SECRET_BYTES];
    struct weir_gaps gaps; /* what this lane never counted and can read no more; only grows while the lane lives */
};

/* The store was not emptied, nor did it go back before an owner or a gap, between two looks at a lane. */
static inline bool weir_lane_state_goes_on(const struct weir_lane_state *before, const struct weir_lane_state *now)
{
    return memcmp(now->secret, before->secret, sizeof now->secret) == 0 && now->epoch >= before->epoch
           && now->gaps.count >= before->gaps.count;
}

/* One window of a cut. */
struct weir_cut_window {
    struct weir_window window; /* absolute total; series_key: empty, if it is told already */
    uint32_t number;           /* of an open one; 0: it has none, and its key */
    bool is_closed;            /* puts it on the lane's list of work for the rater; it is never open again */
    struct weir_slice unique;  /* `unique` meters: fingerprints (WEIR_UNIQUE_BYTES each) new since the last cut; not of
                                  a window without its key */
};

/* Ids counted or voided since the last cut, by bucket (lane.h says what a bucket is). */
struct weir_cut_ids {
    int64_t bucket;
    struct weir_slice ids; /* WEIR_ID_BYTES each */
};

/* All there or not there. Everything is a view owned by the lane until write_cut returns. */
struct weir_cut {
    struct weir_slice lane;
    int64_t expected_offset;      /* the stored next_offset must be this one, the stored epoch state.epoch */
    bool is_anew;                 /* the topic was made anew: only then may next_offset be below expected_offset */
    struct weir_lane_state state; /* after this cut */
    size_t window_count;
    const struct weir_cut_window *windows; /* changed or newly closed since the last cut; open ones of a round */
    bool begins_round, ends_round;         /* a round that was not ended may be begun anew */
    size_t ids_count;
    const struct weir_cut_ids *ids;
    int64_t forget_ids_below;     /* id buckets below this one are dropped */
    int64_t forget_windows_below; /* windows with end <= this that are not on the list of work are dropped; none of them
                                     is open; not above state.forgotten */
};

/* Receives a lane's stored windows and ids while it is taken. Views live for the call. */
struct weir_lane_loader {
    void *context;
    void (*window)(void *context, const struct weir_window *window, bool is_closed, struct weir_slice unique);
    void (*ids)(void *context, int64_t bucket, struct weir_slice ids);
};

/* How far a list of work was read: zeroes, from its front. Only the store knows what stands in it. */
struct weir_work_place {
    bool goes_on;
    int64_t start, end;
    uint64_t cursor;
};

/* A closed window that changed since it was last rated. */
struct weir_work {
    struct weir_window window;
    uint64_t token; /* which change this is; a later change has another one */
};

struct weir_window_store;

struct weir_window_store_ops {
    const char *name; /* "memory", "redis" */

    /* 1. Lanes. Statuses: WEIR_OK, WEIR_RETRY (not reached or busy: same call again), WEIR_FENCED, WEIR_FATAL. */

    /* Become the owner: a higher epoch (epoch.h), which fences every earlier owner, then the whole cut through the
     * loader (which may be NULL). A lane never seen gets `secret`, next_offset -1. The load is one consistent cut. */
    enum weir_status (*take_lane)(struct weir_window_store *store, struct weir_slice lane,
                                  const unsigned char secret[WEIR_LANE_SECRET_BYTES],
                                  const struct weir_lane_loader *loader, struct weir_lane_state *ret_state,
                                  struct weir_error *reterr);
    /* WEIR_FENCED: the epoch or the expected offset is not the stored one; nothing was written. After WEIR_RETRY it may
     * or may not have been written; the same cut again is harmless (a stored next_offset and cut number equal to this
     * cut's is WEIR_OK). */
    enum weir_status (*write_cut)(struct weir_window_store *store, const struct weir_cut *cut,
                                  struct weir_error *reterr);

    /* 2. Raters and reconcile. */

    /* Calls visit for each known lane of the topic (NULL: every topic) with its state. */
    enum weir_status (*list_lanes)(struct weir_window_store *store, const char *topic,
                                   void (*visit)(void *context, struct weir_slice lane,
                                                 const struct weir_lane_state *state),
                                   void *context, struct weir_error *reterr);
    /* One lane's state; epoch 0: no such lane. Read after read_work it holds every gap that those windows may miss. */
    enum weir_status (*read_lane)(struct weir_window_store *store, struct weir_slice lane,
                                  struct weir_lane_state *ret_state, struct weir_error *reterr);
    /* Up to max windows of the lane's list of work, any order; views live until the next call on this handle. */
    enum weir_status (*read_work)(struct weir_window_store *store, struct weir_slice lane, size_t max,
                                  struct weir_work *ret_work, size_t *ret_count, struct weir_error *reterr);
    /* The same of what comes behind the place, which it moves on: so windows that were read before and are not finished
     * yet are passed by. Fewer than max: there are no more of them, but some may have been passed by that were never
     * read. Only read_work tells that the list is at its end. */
    enum weir_status (*read_more_work)(struct weir_window_store *store, struct weir_slice lane,
                                       struct weir_work_place *place, size_t max, struct weir_work *ret_work,
                                       size_t *ret_count, struct weir_error *reterr);
    /* These are rated: off the list, unless changed since (another token). Safe to repeat. */
    enum weir_status (*finish_work)(struct weir_window_store *store, struct weir_slice lane,
                                    const struct weir_work *work, size_t count, struct weir_error *reterr);
    /* Every stored window of the lane, closed or not: for reconcile. */
    enum weir_status (*scan_windows)(struct weir_window_store *store, struct weir_slice lane,
                                     void (*visit)(void *context, const struct weir_window *window, bool is_closed,
                                                   bool has_work),
                                     void *context, struct weir_error *reterr);
    void (*free)(struct weir_window_store *store);
};

struct weir_window_store {
    const struct weir_window_store_ops *ops; /* implementations put this first in their own struct */
};

/* In memory, for `weir rate` and tests. One handle shared by all users on one thread. Never forgets a window. */
struct weir_window_store *weir_store_memory_new(void);

/* redis://[user:password@]host:port[,host:port...][/database] or unix:/path; a Redis Cluster by any of its nodes.
 * Connects at first use; reconnects by itself (WEIR_RETRY meanwhile). */
enum weir_status weir_store_redis_open(const char *url, struct weir_window_store **ret_store,
                                       struct weir_error *reterr);

static inline void weir_window_store_free(struct weir_window_store *store)
{
    if (store)
        store->ops->free(store);
}

#endif
