/* An open-addressing index from hashes to positions in a table: linear probing without tombstones, at most 3/4 full.
 * A slot's place is the uppermost bits of the tag that it keeps, so that growing goes through old and new slots in
 * order and touches nothing else. The table holds the keys. One owner thread. */
#ifndef WEIR_AGGREGATOR_WINDOW_INDEX_H
#define WEIR_AGGREGATOR_WINDOW_INDEX_H

#include <stdint.h>
#include <stdlib.h>

#include "common/status.h"

/* Positions are 1-based in the index tables and links; 0 is "none" there. */
enum { FIRST_BITS = 12, FIRST_SLOTS = 1 << FIRST_BITS, MOST_BITS = 31, NONE = 0 };

struct slot {
    uint32_t tag;      /* the upper half of the hash: saves touching the entry on most mismatches */
    uint32_t position; /* NONE: free */
};

struct index {
    struct slot *slots;
    uint32_t mask;
    uint32_t count;
    uint32_t shift; /* 32 - log2 of the slots */
};

static inline void index_start(struct index *index)
{
    index->mask = FIRST_SLOTS - 1;
    index->shift = 32 - FIRST_BITS;
    index->slots = weir_new_array(FIRST_SLOTS, sizeof *index->slots);
}

static inline uint32_t index_tag(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

static inline uint32_t index_home(const struct index *index, uint64_t hash)
{
    return index_tag(hash) >> index->shift;
}

static inline uint32_t index_next(const struct index *index, uint32_t at)
{
    return (at + 1) & index->mask;
}

static inline void index_place(struct index *index, uint32_t tag, uint32_t position)
{
    uint32_t at = tag >> index->shift;

    while (index->slots[at].position != NONE)
        at = index_next(index, at);
    index->slots[at] = (struct slot){tag, position};
}

static inline void index_grow(struct index *index)
{
    struct slot *old = index->slots;
    uint32_t old_mask = index->mask;

    weir_check(index->shift > 32 - MOST_BITS);
    index->mask = old_mask * 2 + 1;
    index->shift--;
    index->slots = weir_new_array((size_t)index->mask + 1, sizeof *index->slots);
    for (uint64_t i = 0; i <= old_mask; i++)
        if (old[i].position != NONE)
            index_place(index, old[i].tag, old[i].position);
    free(old);
}

static inline void index_add(struct index *index, uint64_t hash, uint32_t position)
{
    if ((uint64_t)(index->count + 1) * 4 > ((uint64_t)index->mask + 1) * 3)
        index_grow(index);
    index_place(index, index_tag(hash), position);
    index->count++;
}

/* The position is there. Linear probing without tombstones: closes the gap by moving later members of the cluster back
 * (Knuth 6.4, R). */
static inline void index_remove(struct index *index, uint32_t tag, uint32_t position)
{
    uint32_t hole = tag >> index->shift;

    while (index->slots[hole].position != position) {
        weir_check(index->slots[hole].position != NONE);
        hole = index_next(index, hole);
    }
    for (uint32_t next = index_next(index, hole); index->slots[next].position != NONE; next = index_next(index, next)) {
        uint32_t home = index->slots[next].tag >> index->shift;
        if (((next - home) & index->mask) >= ((next - hole) & index->mask)) {
            index->slots[hole] = index->slots[next];
            hole = next;
        }
    }
    index->slots[hole] = (struct slot){0, NONE};
    index->count--;
}

#endif
