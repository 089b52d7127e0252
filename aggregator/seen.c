#include "aggregator/seen.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 4096, BUCKETS_MAX = 256, CROWDED = BUCKETS_MAX / 2 };

struct slot {
    uint64_t id; /* 0: free */
    uint32_t content;
    uint32_t effect : WEIR_EFFECT_BITS;
    uint32_t state : 2;
    uint32_t bucket : 8; /* position in seen->buckets */
};

static_assert(sizeof(struct slot) == 16, "what README says of memory per id");

struct weir_seen {
    struct slot *slots;
    uint64_t mask; /* slots - 1 */
    uint64_t count;
    uint64_t limit;
    uint32_t lowest;               /* no id stands in a bucket below this one */
    uint32_t buckets[BUCKETS_MAX]; /* all different, the one asked for last mostly at the end */
    uint32_t bucket_count;
};

struct weir_seen *weir_seen_new(uint64_t limit)
{
    struct weir_seen *seen = weir_new(sizeof *seen);

    weir_check(limit >= 1);
    seen->limit = limit;
    seen->mask = FIRST_SLOTS - 1;
    seen->slots = weir_new_array(FIRST_SLOTS, sizeof *seen->slots);
    seen->lowest = UINT32_MAX;
    return seen;
}

struct weir_seen *weir_seen_free(struct weir_seen *seen)
{
    if (seen)
        free(seen->slots);
    free(seen);
    return NULL;
}

/* 0 marks a free slot; its fingerprint shares a slot with 1, which costs one chance in 2^64. */
static uint64_t stored_id(uint64_t id)
{
    return id ? id : 1;
}

static struct slot *find(const struct weir_seen *seen, uint64_t id)
{
    uint64_t at = id & seen->mask;

    while (seen->slots[at].id && seen->slots[at].id != id)
        at = (at + 1) & seen->mask;
    return &seen->slots[at];
}

enum weir_seen_answer weir_seen_look(const struct weir_seen *seen, uint64_t id, uint32_t content,
                                     struct weir_id_mark *ret_mark)
{
    const struct slot *slot = find(seen, stored_id(id));

    if (!slot->id)
        return WEIR_SEEN_NEW;
    if (slot->content != content)
        return WEIR_SEEN_CONFLICT;
    *ret_mark = (struct weir_id_mark){slot->content, slot->effect, (enum weir_id_state)slot->state};
    return WEIR_SEEN_KNOWN;
}

/* 1. buckets */
static int compare_numbers(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

/* Puts each second bucket to the next later one, so that nothing is forgotten too early. */
static void merge_buckets(struct weir_seen *seen)
{
    uint32_t sorted[BUCKETS_MAX];
    uint8_t place[BUCKETS_MAX]; /* by old position */
    uint32_t count = (seen->bucket_count + 1) / 2;

    memcpy(sorted, seen->buckets, seen->bucket_count * sizeof *sorted);
    qsort(sorted, seen->bucket_count, sizeof *sorted, compare_numbers);
    for (uint32_t i = 0; i < seen->bucket_count; i++) {
        const uint32_t *at = bsearch(&seen->buckets[i], sorted, seen->bucket_count, sizeof *sorted, compare_numbers);
        place[i] = (uint8_t)((at - sorted) / 2);
    }
    for (uint32_t i = 0; i < count; i++)
        seen->buckets[i] = sorted[2 * i + 1 < seen->bucket_count ? 2 * i + 1 : 2 * i];
    seen->bucket_count = count;
    for (uint64_t i = 0; i <= seen->mask; i++)
        if (seen->slots[i].id)
            seen->slots[i].bucket = place[seen->slots[i].bucket];
}

static __attribute__((noinline)) uint32_t find_bucket(struct weir_seen *seen, uint32_t number)
{
    for (uint32_t i = 0; i < seen->bucket_count; i++)
        if (seen->buckets[i] == number)
            return i;
    if (seen->bucket_count == BUCKETS_MAX)
        merge_buckets(seen);
    seen->buckets[seen->bucket_count] = number;
    return seen->bucket_count++;
}

bool weir_seen_is_crowded(const struct weir_seen *seen)
{
    return seen->bucket_count >= CROWDED;
}

/* 2. setting and forgetting */

/* Twice as many slots. */
static void grow(struct weir_seen *seen)
{
    struct slot *old = seen->slots;
    uint64_t old_mask = seen->mask;

    seen->mask = old_mask * 2 + 1;
    seen->slots = weir_new_array(seen->mask + 1, sizeof *seen->slots);
    for (uint64_t i = 0; i <= old_mask; i++)
        if (old[i].id)
            *find(seen, old[i].id) = old[i];
    free(old);
}

/* Moves every id of a bucket not below `bucket` into a table of `slots`. */
static void rebuild(struct weir_seen *seen, uint64_t slots, uint32_t bucket)
{
    struct slot *old = seen->slots;
    uint64_t old_mask = seen->mask;
    uint8_t place[BUCKETS_MAX] = {0};
    bool is_kept[BUCKETS_MAX] = {false};
    uint32_t kept = 0;

    for (uint32_t i = 0; i < seen->bucket_count; i++) {
        is_kept[i] = seen->buckets[i] >= bucket;
        place[i] = (uint8_t)kept;
        if (is_kept[i])
            seen->buckets[kept++] = seen->buckets[i];
    }
    seen->bucket_count = kept;
    seen->slots = weir_new_array(slots, sizeof *seen->slots);
    seen->mask = slots - 1;
    seen->count = 0;
    seen->lowest = UINT32_MAX;
    for (uint64_t i = 0; i <= old_mask; i++) {
        if (!old[i].id || !is_kept[old[i].bucket])
            continue;
        struct slot *slot = find(seen, old[i].id);
        *slot = old[i];
        slot->bucket = place[old[i].bucket];
        seen->count++;
        if (seen->buckets[slot->bucket] < seen->lowest)
            seen->lowest = seen->buckets[slot->bucket];
    }
    free(old);
}

enum weir_status weir_seen_set(struct weir_seen *seen, uint64_t id, struct weir_id_mark mark, uint32_t bucket)
{
    struct slot *slot = find(seen, stored_id(id));

    if (!slot->id) {
        if (seen->count == seen->limit)
            return WEIR_AGAIN;
        if ((seen->count + 1) * 8 > (seen->mask + 1) * 7) {
            grow(seen);
            slot = find(seen, stored_id(id));
        }
        seen->count++;
    }
    uint32_t last = seen->bucket_count - 1;
    uint32_t place = last < BUCKETS_MAX && seen->buckets[last] == bucket ? last : find_bucket(seen, bucket);
    *slot = (struct slot){stored_id(id), mark.content, mark.effect, mark.state, place & (BUCKETS_MAX - 1)};
    if (bucket < seen->lowest)
        seen->lowest = bucket;
    return WEIR_OK;
}

void weir_seen_forget(struct weir_seen *seen, uint32_t bucket)
{
    uint64_t slots = seen->mask + 1, kept = 0;

    if (bucket <= seen->lowest || seen->count == 0)
        return;
    for (uint64_t i = 0; i <= seen->mask; i++)
        kept += seen->slots[i].id && seen->buckets[seen->slots[i].bucket] >= bucket;
    while (slots > FIRST_SLOTS && kept * 4 < slots)
        slots /= 2;
    rebuild(seen, slots, bucket);
}

uint64_t weir_seen_count(const struct weir_seen *seen)
{
    return seen->count;
}

void weir_seen_prefetch(const struct weir_seen *seen, uint64_t id)
{
    __builtin_prefetch(&seen->slots[stored_id(id) & seen->mask]);
}

size_t weir_seen_bytes(const struct weir_seen *seen)
{
    return (size_t)(seen->mask + 1) * sizeof(struct slot);
}
