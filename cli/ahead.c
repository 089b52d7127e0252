#include "cli/ahead.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/ring.h"

enum {
    RING = 64,        /* groups that are decoded and not counted yet, at most: a power of two */
    RING_ALONE = 2,   /* of a batch without a helper: what stays in the cache; a power of two */
    TEXTS_AHEAD = 2,  /* messages */
    WORTH_WAKING = 4, /* groups: waking the helper costs as much as decoding some events */
    SPINS = 2000,     /* a few microseconds: a group takes the helper no longer, while it has a core */
    ASLEEP_MS = 1000,
};

/* Group numbers run freely and wrap at 2^32: a batch has those from `first` to `limit`. A group's seats are at its
 * number modulo the ring's size; whether they are filled stands at its number modulo RING whatever the batch's ring is:
 * each place is written again with nearly every RING groups, so that no number is met there from before the wrap. */
struct weir_ahead {
    /* The batch, written by the counting thread while no group of it can be claimed. */
    const struct weir_intake_item *items;
    size_t item_count;
    uint32_t first;
    uint32_t next; /* the counting thread's alone: the group that is counted next */
    struct weir_seat *seats;
    struct weir_seat_filler *filler, *helping;
    pthread_t thread;
    struct weir_bell bell;
    bool has_helper, is_called;

    _Atomic uint32_t ring; /* of this batch; written as the batch is, but a helper that comes late may read it then */
    _Alignas(64) _Atomic uint32_t limit;   /* groups below may be claimed; written by the counting thread */
    _Alignas(64) _Atomic uint32_t counted; /* seats of groups below are free again; the same */
    _Alignas(64) _Atomic uint32_t claimed; /* the first that nobody has begun; both */
    _Alignas(64) _Atomic bool is_asleep;   /* the helper has nothing to do */
    _Atomic bool is_stopping;
    struct {
        _Alignas(64) _Atomic uint32_t through; /* the number of the group here that is filled, and 1 */
    } filled[RING];
};

/* 1. both threads */

/* relaxed: who has seen a limit (acquire) sees the ring of that batch or of a later one, and of a later one no group is
 * claimed by a number of this one. */
static uint32_t ring_of(const struct weir_ahead *ahead)
{
    return atomic_load_explicit(&ahead->ring, memory_order_relaxed);
}

static bool may_claim(struct weir_ahead *ahead, uint32_t group)
{
    /* acquire pairs with begin's release: the batch is there before a group of it is filled; and with the counting
     * thread's: it has read the seats before they are filled again. */
    return group != atomic_load_explicit(&ahead->limit, memory_order_acquire)
           && group - atomic_load_explicit(&ahead->counted, memory_order_acquire) < ring_of(ahead);
}

/* A batch cannot end while a group of it is claimed and not filled, so a number that is still the first unclaimed one
 * when it is taken is of the batch that is there, whenever it was read. */
static bool claim(struct weir_ahead *ahead, uint32_t *ret_group)
{
    uint32_t group = atomic_load_explicit(&ahead->claimed, memory_order_relaxed);

    do
        if (!may_claim(ahead, group))
            return false;
    while (!atomic_compare_exchange_weak_explicit(&ahead->claimed, &group, group + 1, memory_order_acq_rel,
                                                  memory_order_relaxed));
    *ret_group = group;
    return true;
}

static size_t first_item(const struct weir_ahead *ahead, uint32_t group)
{
    return (size_t)(group - ahead->first) * WEIR_AHEAD_GROUP;
}

static size_t group_size(const struct weir_ahead *ahead, uint32_t group)
{
    size_t left = ahead->item_count - first_item(ahead, group);
    return left < WEIR_AHEAD_GROUP ? left : WEIR_AHEAD_GROUP;
}

static struct weir_seat *seats_of(const struct weir_ahead *ahead, uint32_t group)
{
    return &ahead->seats[(size_t)(group & (ring_of(ahead) - 1)) * WEIR_AHEAD_GROUP];
}

static void fill_group(struct weir_ahead *ahead, struct weir_seat_filler *filler, uint32_t group)
{
    const struct weir_intake_item *items = ahead->items + first_item(ahead, group);
    size_t count = group_size(ahead, group);
    struct weir_seat *seats = seats_of(ahead, group);

    for (size_t i = 0; i < count && i < TEXTS_AHEAD; i++)
        weir_seat_prefetch_text(&items[i]);
    for (size_t i = 0; i < count; i++) {
        if (i + TEXTS_AHEAD < count)
            weir_seat_prefetch_text(&items[i + TEXTS_AHEAD]);
        weir_seat_fill(filler, &items[i], &seats[i]);
    }
    /* release publishes the seats. */
    atomic_store_explicit(&ahead->filled[group & (RING - 1)].through, group + 1, memory_order_release);
}

static bool is_filled(struct weir_ahead *ahead, uint32_t group)
{
    /* acquire pairs with fill_group's release: the seats are there before they are read. */
    return atomic_load_explicit(&ahead->filled[group & (RING - 1)].through, memory_order_acquire) == group + 1;
}

/* 2. the helper */

static void *help(void *context)
{
    struct weir_ahead *ahead = context;
    uint32_t group;

    while (!atomic_load_explicit(&ahead->is_stopping, memory_order_relaxed)) {
        if (claim(ahead, &group)) {
            fill_group(ahead, ahead->helping, group);
            continue;
        }
        /* relaxed: a wake that is missed is made up for by the next one, and nobody waits for the helper to begin. */
        atomic_store_explicit(&ahead->is_asleep, true, memory_order_relaxed);
        weir_bell_wait(&ahead->bell, ASLEEP_MS);
        atomic_store_explicit(&ahead->is_asleep, false, memory_order_relaxed);
    }
    return NULL;
}

/* When there is enough to do, and room for half a ring: or it would be woken for every group. */
static void wake_helper(struct weir_ahead *ahead)
{
    uint32_t claimed = atomic_load_explicit(&ahead->claimed, memory_order_relaxed);

    if (!ahead->is_called || !atomic_load_explicit(&ahead->is_asleep, memory_order_relaxed)
        || atomic_load_explicit(&ahead->limit, memory_order_relaxed) - claimed < WORTH_WAKING
        || claimed - ahead->next > RING / 2)
        return;
    atomic_store_explicit(&ahead->is_asleep, false, memory_order_relaxed); /* it is rung for once */
    weir_bell_ring(&ahead->bell);
}

/* 3. the counting thread */

static void pause_a_little(uint32_t *spins)
{
    if (++*spins > SPINS) /* the helper has lost its core in the middle of a group */
        sched_yield();
#if defined(__x86_64__) || defined(__i386__)
    else
        __builtin_ia32_pause();
#endif
}

void weir_ahead_call_helper(struct weir_ahead *ahead, bool is_called)
{
    ahead->is_called = ahead->has_helper && is_called;
}

void weir_ahead_begin(struct weir_ahead *ahead, const struct weir_intake_item *items, size_t count)
{
    uint32_t groups = (uint32_t)((count + WEIR_AHEAD_GROUP - 1) / WEIR_AHEAD_GROUP);

    weir_check(ahead->next == atomic_load_explicit(&ahead->limit, memory_order_relaxed));
    ahead->items = items;
    ahead->item_count = count;
    ahead->first = ahead->next;
    atomic_store_explicit(&ahead->ring, ahead->is_called ? RING : RING_ALONE, memory_order_relaxed);
    /* release publishes the batch. */
    atomic_store_explicit(&ahead->limit, ahead->first + groups, memory_order_release);
    wake_helper(ahead);
}

struct weir_seat *weir_ahead_next(struct weir_ahead *ahead, size_t *ret_count)
{
    uint32_t group = ahead->next, other, spins = 0;

    /* release: the seats of the group before have been read. */
    atomic_store_explicit(&ahead->counted, group, memory_order_release);
    *ret_count = 0;
    if (group == atomic_load_explicit(&ahead->limit, memory_order_relaxed))
        return NULL;
    while (!is_filled(ahead, group)) {
        if (claim(ahead, &other))
            fill_group(ahead, ahead->filler, other);
        else
            pause_a_little(&spins);
    }
    wake_helper(ahead);
    ahead->next++;
    *ret_count = group_size(ahead, group);
    return seats_of(ahead, group);
}

void weir_ahead_end(struct weir_ahead *ahead)
{
    uint32_t limit = atomic_load_explicit(&ahead->limit, memory_order_relaxed), spins = 0;
    uint32_t claimed = atomic_load_explicit(&ahead->claimed, memory_order_relaxed);

    /* What nobody has begun nobody begins any more. */
    while (claimed != limit
           && !atomic_compare_exchange_weak_explicit(&ahead->claimed, &claimed, limit, memory_order_acq_rel,
                                                     memory_order_relaxed))
        ;
    for (uint32_t group = ahead->next; group != claimed; group++)
        while (!is_filled(ahead, group))
            pause_a_little(&spins);
    ahead->next = limit;
    atomic_store_explicit(&ahead->counted, limit, memory_order_release);
}

struct weir_seat_filler *weir_ahead_filler(struct weir_ahead *ahead)
{
    return ahead->filler;
}

/* 4. life */

struct weir_ahead *weir_ahead_new(const struct weir_catalog *catalog, bool has_helper)
{
    struct weir_ahead *ahead = aligned_alloc(64, (sizeof *ahead + 63) / 64 * 64);

    weir_check(ahead != NULL);
    memset(ahead, 0, sizeof *ahead);
    ahead->ring = RING_ALONE;
    ahead->seats = weir_seats_new(catalog, (size_t)(has_helper ? RING : RING_ALONE) * WEIR_AHEAD_GROUP);
    ahead->filler = weir_seat_filler_new(catalog);
    ahead->has_helper = ahead->is_called = has_helper;
    if (has_helper) {
        ahead->helping = weir_seat_filler_new(catalog);
        weir_bell_open(&ahead->bell);
        weir_check(pthread_create(&ahead->thread, NULL, help, ahead) == 0);
    }
    return ahead;
}

struct weir_ahead *weir_ahead_free(struct weir_ahead *ahead)
{
    if (!ahead)
        return NULL;
    if (ahead->has_helper) {
        atomic_store_explicit(&ahead->is_stopping, true, memory_order_relaxed);
        weir_bell_ring(&ahead->bell);
        pthread_join(ahead->thread, NULL);
        weir_bell_close(&ahead->bell);
    }
    weir_seat_filler_free(ahead->filler);
    weir_seat_filler_free(ahead->helping);
    weir_seats_free(ahead->seats);
    free(ahead);
    return NULL;
}
