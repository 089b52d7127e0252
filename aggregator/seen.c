#include "aggregator/seen.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 4096 };

struct slot {
    uint64_t id; /* 0: free */
    uint32_t content;
    uint32_t bucket;
};

struct weir_seen {
    struct slot *slots;
    uint64_t mask; /* slots - 1 */
    uint64_t count;
    uint64_t limit;
    uint32_t lowest; /* no id stands in a bucket below this one */
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

enum weir_seen_answer weir_seen_look(const struct weir_seen *seen, uint64_t id, uint32_t content)
{
    const struct slot *slot = find(seen, stored_id(id));

    if (!slot->id)
        return WEIR_SEEN_NEW;
    return slot->content == content ? WEIR_SEEN_DUPLICATE : WEIR_SEEN_CONFLICT;
}

/* Moves every id of a bucket not below `bucket` into a table with room for `slots`. */
static void rebuild(struct weir_seen *seen, uint64_t slots, uint32_t bucket)
{
    struct slot *old = seen->slots;
    uint64_t old_mask = seen->mask;

    seen->slots = weir_new_array(slots, sizeof *seen->slots);
    seen->mask = slots - 1;
    seen->count = 0;
    seen->lowest = UINT32_MAX;
    for (uint64_t i = 0; i <= old_mask; i++) {
        if (!old[i].id || old[i].bucket < bucket)
            continue;
        *find(seen, old[i].id) = old[i];
        seen->count++;
        if (old[i].bucket < seen->lowest)
            seen->lowest = old[i].bucket;
    }
    free(old);
}

enum weir_status weir_seen_add(struct weir_seen *seen, uint64_t id, uint32_t content, uint32_t bucket)
{
    if (seen->count == seen->limit)
        return WEIR_AGAIN;
    if ((seen->count + 1) * 8 > (seen->mask + 1) * 7)
        rebuild(seen, (seen->mask + 1) * 2, 0);
    struct slot *slot = find(seen, stored_id(id));
    weir_check(!slot->id);
    *slot = (struct slot){stored_id(id), content, bucket};
    seen->count++;
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
        kept += seen->slots[i].id && seen->slots[i].bucket >= bucket;
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
