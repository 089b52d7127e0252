#include "aggregator/unique_set.h"

#include <assert.h>
#include <stdlib.h>

#include "common/status.h"

enum { FIRST_SLOTS = 8 };

struct weir_unique_set {
    struct weir_hash128 *slots; /* {0, 0}: free; that fingerprint itself is stored as {1, 0} */
    uint32_t mask;
    uint32_t count;
    struct weir_hash128 *fresh; /* new since the last cut */
    uint32_t fresh_count, fresh_room;
};

static_assert(sizeof(struct weir_hash128) == 16, "a cut holds fingerprints as they are in memory");

struct weir_unique_set *weir_unique_set_new(void)
{
    struct weir_unique_set *set = weir_new(sizeof *set);
    set->mask = FIRST_SLOTS - 1;
    set->slots = weir_new_array(FIRST_SLOTS, sizeof *set->slots);
    return set;
}

struct weir_unique_set *weir_unique_set_free(struct weir_unique_set *set)
{
    if (set) {
        free(set->slots);
        free(set->fresh);
    }
    free(set);
    return NULL;
}

static bool is_free(struct weir_hash128 slot)
{
    return slot.low == 0 && slot.high == 0;
}

static struct weir_hash128 stored(struct weir_hash128 text)
{
    if (is_free(text))
        text.low = 1;
    return text;
}

static struct weir_hash128 *find(const struct weir_unique_set *set, struct weir_hash128 text)
{
    uint32_t at = (uint32_t)text.low & set->mask;

    while (!is_free(set->slots[at]) && (set->slots[at].low != text.low || set->slots[at].high != text.high))
        at = (at + 1) & set->mask;
    return &set->slots[at];
}

bool weir_unique_set_has(const struct weir_unique_set *set, struct weir_hash128 text)
{
    return !is_free(*find(set, stored(text)));
}

static void grow(struct weir_unique_set *set)
{
    struct weir_hash128 *old = set->slots;
    uint32_t old_mask = set->mask;

    weir_check(old_mask < UINT32_MAX / 4);
    set->mask = old_mask * 2 + 1;
    set->slots = weir_new_array((size_t)set->mask + 1, sizeof *set->slots);
    for (uint32_t i = 0; i <= old_mask; i++)
        if (!is_free(old[i]))
            *find(set, old[i]) = old[i];
    free(old);
}

/* true: it was not there. */
static bool insert(struct weir_unique_set *set, struct weir_hash128 text)
{
    if ((uint64_t)(set->count + 1) * 4 > ((uint64_t)set->mask + 1) * 3)
        grow(set);
    struct weir_hash128 *slot = find(set, stored(text));
    if (!is_free(*slot))
        return false;
    *slot = stored(text);
    set->count++;
    return true;
}

void weir_unique_set_add(struct weir_unique_set *set, struct weir_hash128 text)
{
    if (!insert(set, text))
        return;
    if (set->fresh_count == set->fresh_room) {
        set->fresh_room = set->fresh_room ? set->fresh_room * 2 : FIRST_SLOTS;
        set->fresh = weir_resize(set->fresh, set->fresh_room, sizeof *set->fresh);
    }
    set->fresh[set->fresh_count++] = stored(text);
}

void weir_unique_set_restore(struct weir_unique_set *set, struct weir_slice texts)
{
    weir_check(texts.length % sizeof(struct weir_hash128) == 0);
    for (uint32_t at = 0; at < texts.length; at += sizeof(struct weir_hash128)) {
        struct weir_hash128 text;
        memcpy(&text, texts.data + at, sizeof text);
        insert(set, text);
    }
}

struct weir_slice weir_unique_set_new_texts(const struct weir_unique_set *set)
{
    return weir_slice_of((const char *)set->fresh, set->fresh_count * sizeof *set->fresh);
}

void weir_unique_set_mark_stored(struct weir_unique_set *set)
{
    set->fresh_count = 0;
}

uint32_t weir_unique_set_count(const struct weir_unique_set *set)
{
    return set->count;
}

size_t weir_unique_set_bytes(const struct weir_unique_set *set)
{
    return sizeof *set + ((size_t)set->mask + 1 + set->fresh_room) * sizeof *set->slots;
}
