/* A bounded lock-free ring of pointers between exactly one producer thread and one consumer thread.
 *
 * head and tail run freely and wrap at 2^32; only their difference counts. They stand on cache lines of their own, so
 * that the two threads do not steal each other's. The ring owns neither the slots' array (the caller's) nor what the
 * pointers point at: an item belongs to whoever took it last.
 */
#ifndef WEIR_COMMON_RING_H
#define WEIR_COMMON_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

struct weir_ring {
    _Alignas(64) _Atomic uint32_t tail; /* written by the producer */
    _Alignas(64) _Atomic uint32_t head; /* written by the consumer */
    _Alignas(64) uint32_t mask;
    void **slots;
};

/* capacity: a power of two, the length of slots. */
static inline void weir_ring_init(struct weir_ring *ring, void **slots, uint32_t capacity)
{
    weir_check(capacity > 0 && (capacity & (capacity - 1)) == 0);
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    ring->mask = capacity - 1;
    ring->slots = slots;
}

/* Producer only. false: full, the item is still the caller's. */
static inline bool weir_ring_push(struct weir_ring *ring, void *item)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed); /* ours alone */
    /* acquire pairs with the consumer's release: it has read a slot before we write it again. */
    if (tail - atomic_load_explicit(&ring->head, memory_order_acquire) > ring->mask)
        return false;
    ring->slots[tail & ring->mask] = item;
    /* release publishes the slot, and everything that the item points at. */
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}

/* Consumer only. NULL: empty. */
static inline void *weir_ring_pop(struct weir_ring *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed); /* ours alone */
    /* acquire pairs with the producer's release: the slot is there before we read it. */
    if (head == atomic_load_explicit(&ring->tail, memory_order_acquire))
        return NULL;
    void *item = ring->slots[head & ring->mask];
    /* release: we have read the slot, the producer may write it again. */
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return item;
}

/* Anyone; a moment's truth. */
static inline uint32_t weir_ring_count(struct weir_ring *ring)
{
    /* head first: then tail can only be further on, and the difference never looks negative. */
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    return atomic_load_explicit(&ring->tail, memory_order_acquire) - head;
}

/* A bell for a consumer that has nothing to do: an eventfd, so that ringing never blocks and a ring before the wait is
 * not lost. */
struct weir_bell {
    int fd;
};

void weir_bell_open(struct weir_bell *bell);
void weir_bell_close(struct weir_bell *bell);
void weir_bell_ring(struct weir_bell *bell);
/* Waits for a ring, or timeout_ms (0..): whichever is first. */
void weir_bell_wait(struct weir_bell *bell, int timeout_ms);

#endif
