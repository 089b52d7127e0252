#include "aggregator/unique_set.h"

#include <assert.h>
#include <stdlib.h>

#include "common/status.h"

enum { FIRST_ROOM = 2, LIST_MAX = 8, FIRST_SLOTS = 16 };

/* Most sets stay small: up to LIST_MAX texts they are a list in the order in which they came, fresh ones last. */
struct weir_unique_set {
    struct weir_hash128 *slots; /* {0, 0}: free; that fingerprint itself is stored as {1, 0} */
    uint32_t slot_count;        /* more than LIST_MAX: a hash table, of a power of two */
    uint32_t count;
    struct weir_hash128 *fresh; /* new since the last cut; not of a list */
    uint32_t fresh_count, fresh_room;
};

static_assert(sizeof(struct weir_hash128) == 16, "a cut holds fingerprints as they are in memory");

struct weir_unique_set *weir_unique_set_new(void)
{
    return weir_new(sizeof(struct weir_unique_set));
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

static bool is_list(const struct weir_unique_set *set)
{
    return set->slot_count <= LIST_MAX;
}

static bool is_same(struct weir_hash128 one, struct weir_hash128 other)
{
    return one.low == other.low && one.high == other.high;
}

static struct weir_hash128 *find(const struct weir_unique_set *set, struct weir_hash128 text)
{
    uint32_t mask = set->slot_count - 1, at = (uint32_t)text.low & mask;

    while (!is_free(set->slots[at]) && !is_same(set->slots[at], text))
        at = (at + 1) & mask;
    return &set->slots[at];
}

bool weir_unique_set_has(const struct weir_unique_set *set, struct weir_hash128 text)
{
    text = stored(text);
    if (!is_list(set))
        return !is_free(*find(set, text));
    for (uint32_t i = 0; i < set->count; i++)
        if (is_same(set->slots[i], text))
            return true;
    return false;
}

void weir_unique_set_prefetch(const struct weir_unique_set *set, struct weir_hash128 text)
{
    uint32_t at = is_list(set) ? 0 : (uint32_t)text.low & (set->slot_count - 1);

    __builtin_prefetch(set->slots + at);
}

static void keep_fresh(struct weir_unique_set *set, struct weir_hash128 text)
{
    if (set->fresh_count == set->fresh_room) {
        set->fresh_room = set->fresh_room ? set->fresh_room * 2 : LIST_MAX;
        set->fresh = weir_resize(set->fresh, set->fresh_room, sizeof *set->fresh);
    }
    set->fresh[set->fresh_count++] = text;
}

static void grow_table(struct weir_unique_set *set)
{
    struct weir_hash128 *old = set->slots;
    uint32_t old_count = is_list(set) ? set->count : set->slot_count;

    weir_check(set->slot_count <= UINT32_MAX / 4);
    if (is_list(set)) {
        uint32_t fresh = set->fresh_count;
        set->fresh_count = 0;
        for (uint32_t i = set->count - fresh; i < set->count; i++)
            keep_fresh(set, old[i]);
        set->slot_count = FIRST_SLOTS / 2;
    }
    set->slot_count *= 2;
    set->slots = weir_new_array(set->slot_count, sizeof *set->slots);
    for (uint32_t i = 0; i < old_count; i++)
        if (!is_free(old[i]))
            *find(set, old[i]) = old[i];
    free(old);
}

/* It is not there. */
static void insert(struct weir_unique_set *set, struct weir_hash128 text, bool is_fresh)
{
    if (is_list(set) && set->count < LIST_MAX) {
        if (set->count == set->slot_count) {
            set->slot_count = set->slot_count ? set->slot_count * 2 : FIRST_ROOM;
            set->slots = weir_resize(set->slots, set->slot_count, sizeof *set->slots);
        }
        set->slots[set->count++] = text;
        set->fresh_count += is_fresh;
        return;
    }
    if (is_list(set) || (uint64_t)(set->count + 1) * 4 > (uint64_t)set->slot_count * 3)
        grow_table(set);
    *find(set, text) = text;
    set->count++;
    if (is_fresh)
        keep_fresh(set, text);
}

void weir_unique_set_add(struct weir_unique_set *set, struct weir_hash128 text)
{
    if (!weir_unique_set_has(set, text))
        insert(set, stored(text), true);
}

void weir_unique_set_restore(struct weir_unique_set *set, struct weir_slice texts)
{
    weir_check(texts.length % sizeof(struct weir_hash128) == 0 && set->fresh_count == 0);
    for (uint32_t at = 0; at < texts.length; at += sizeof(struct weir_hash128)) {
        struct weir_hash128 text;
        memcpy(&text, texts.data + at, sizeof text);
        if (!weir_unique_set_has(set, text))
            insert(set, stored(text), false);
    }
}

struct weir_slice weir_unique_set_new_texts(const struct weir_unique_set *set)
{
    const struct weir_hash128 *fresh = !is_list(set) ? set->fresh
                                       : set->slots  ? set->slots + set->count - set->fresh_count
                                                     : NULL;

    return weir_slice_of((const char *)fresh, set->fresh_count * sizeof *fresh);
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
    return sizeof *set + ((size_t)set->slot_count + set->fresh_room) * sizeof *set->slots;
}
