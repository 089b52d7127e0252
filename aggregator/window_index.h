/* An open-addressing index from hashes to positions in a table: linear probing without tombstones, at most 3/4 full.
 * The table holds keys and hashes; the index asks for the hash of a position by a function. One owner thread. */
#ifndef WEIR_AGGREGATOR_WINDOW_INDEX_H
#define WEIR_AGGREGATOR_WINDOW_INDEX_H

#include <stdint.h>
#include <stdlib.h>

#include "common/status.h"

/* Positions are 1-based in the index tables and links; 0 is "none" there. */
enum { FIRST_SLOTS = 4096, NONE = 0 };

struct slot {
    uint32_t tag;      /* the upper half of the hash: saves touching the entry on most mismatches */
    uint32_t position; /* NONE: free */
};

struct index {
    struct slot *slots;
    uint32_t mask;
    uint32_t count;
};

static inline void index_start(struct index *index)
{
    index->mask = FIRST_SLOTS - 1;
    index->slots = weir_new_array(FIRST_SLOTS, sizeof *index->slots);
}

static inline void index_place(struct index *index, uint64_t hash, uint32_t position)
{
    uint32_t at = (uint32_t)hash & index->mask;

    while (index->slots[at].position != NONE)
        at = (at + 1) & index->mask;
    index->slots[at] = (struct slot){(uint32_t)(hash >> 32), position};
}

/* Linear probing without tombstones: closes the gap by moving later members of the cluster back (Knuth 6.4, R). */
static inline void index_remove(struct index *index, uint32_t at, uint64_t (*hash_of)(const void *, uint32_t),
                                const void *of)
{
    uint32_t hole = at;

    for (uint32_t next = (at + 1) & index->mask; index->slots[next].position != NONE; next = (next + 1) & index->mask) {
        uint32_t home = (uint32_t)hash_of(of, index->slots[next].position) & index->mask;
        if (((next - home) & index->mask) >= ((next - hole) & index->mask)) {
            index->slots[hole] = index->slots[next];
            hole = next;
        }
    }
    index->slots[hole] = (struct slot){0, NONE};
    index->count--;
}

static inline void index_make_room(struct index *index, uint64_t (*hash_of)(const void *, uint32_t), const void *of)
{
    if ((uint64_t)(index->count + 1) * 4 <= ((uint64_t)index->mask + 1) * 3)
        return;
    struct slot *old = index->slots;
    uint32_t old_mask = index->mask;
    weir_check(old_mask < UINT32_MAX / 2);
    index->mask = old_mask * 2 + 1;
    index->slots = weir_new_array((size_t)index->mask + 1, sizeof *index->slots);
    for (uint64_t i = 0; i <= old_mask; i++)
        if (old[i].position != NONE)
            index_place(index, hash_of(of, old[i].position), old[i].position);
    free(old);
}

#endif
