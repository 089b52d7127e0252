#include "aggregator/tallies.h"

#include <stdlib.h>

#include "common/arena.h"
#include "common/hash.h"
#include "common/status.h"

enum { FIRST_SLOTS = 16 };

struct entry {
    struct weir_slice customer; /* in the arena */
    uint64_t hash;
    struct weir_tally tally;
    bool is_changed; /* since the last take */
    bool is_waiting; /* to be told; then it stands in waiting */
};

struct weir_tallies {
    uint32_t customers_max;
    struct entry *entries;
    uint32_t *slots; /* place in entries + 1; 0: free */
    uint32_t mask;
    uint32_t count, room;
    uint32_t *waiting;
    uint32_t waiting_count, waiting_room;
    struct weir_arena *names;
    size_t name_bytes;
};

struct weir_tallies *weir_tallies_new(uint32_t customers_max)
{
    struct weir_tallies *tallies = weir_new(sizeof *tallies);

    tallies->customers_max = customers_max;
    tallies->mask = FIRST_SLOTS - 1;
    tallies->slots = weir_new_array(FIRST_SLOTS, sizeof *tallies->slots);
    tallies->names = weir_arena_new();
    return tallies;
}

struct weir_tallies *weir_tallies_free(struct weir_tallies *tallies)
{
    if (!tallies)
        return NULL;
    weir_arena_free(tallies->names);
    free(tallies->entries);
    free(tallies->slots);
    free(tallies->waiting);
    free(tallies);
    return NULL;
}

static uint32_t *find(const struct weir_tallies *tallies, struct weir_slice customer, uint64_t hash)
{
    uint32_t at = (uint32_t)hash & tallies->mask;

    while (tallies->slots[at]) {
        const struct entry *entry = &tallies->entries[tallies->slots[at] - 1];
        if (entry->hash == hash && weir_slice_equal(entry->customer, customer))
            break;
        at = (at + 1) & tallies->mask;
    }
    return &tallies->slots[at];
}

static void grow(struct weir_tallies *tallies)
{
    weir_check(tallies->mask < UINT32_MAX / 4);
    tallies->mask = tallies->mask * 2 + 1;
    free(tallies->slots);
    tallies->slots = weir_new_array((size_t)tallies->mask + 1, sizeof *tallies->slots);
    for (uint32_t i = 0; i < tallies->count; i++)
        *find(tallies, tallies->entries[i].customer, tallies->entries[i].hash) = i + 1;
}

/* Found or made. */
static struct entry *entry_of(struct weir_tallies *tallies, struct weir_slice customer, bool is_bounded)
{
    uint64_t hash = weir_hash64(customer.data, customer.length, 0);
    uint32_t *slot = find(tallies, customer, hash);

    if (*slot)
        return &tallies->entries[*slot - 1];
    if (is_bounded && customer.length && tallies->count >= tallies->customers_max)
        return entry_of(tallies, weir_slice_of("", 0), false);
    if (((uint64_t)tallies->count + 1) * 4 > ((uint64_t)tallies->mask + 1) * 3) {
        grow(tallies);
        slot = find(tallies, customer, hash);
    }
    if (tallies->count == tallies->room) {
        tallies->room = tallies->room ? tallies->room * 2 : FIRST_SLOTS;
        tallies->entries = weir_resize(tallies->entries, tallies->room, sizeof *tallies->entries);
    }
    struct entry *entry = &tallies->entries[tallies->count++];
    *entry = (struct entry){.customer = weir_arena_copy(tallies->names, customer.data, customer.length), .hash = hash};
    tallies->name_bytes += customer.length + 1;
    *slot = tallies->count;
    return entry;
}

static void wait(struct weir_tallies *tallies, struct entry *entry)
{
    if (entry->is_waiting)
        return;
    if (tallies->waiting_count == tallies->waiting_room) {
        tallies->waiting_room = tallies->waiting_room ? tallies->waiting_room * 2 : FIRST_SLOTS;
        tallies->waiting = weir_resize(tallies->waiting, tallies->waiting_room, sizeof *tallies->waiting);
    }
    tallies->waiting[tallies->waiting_count++] = (uint32_t)(entry - tallies->entries);
    entry->is_waiting = true;
}

void weir_tallies_restore(struct weir_tallies *tallies, struct weir_slice customer, const struct weir_tally *tally,
                          bool is_told)
{
    struct entry *entry = entry_of(tallies, customer, false);

    entry->tally = *tally;
    if (!is_told)
        wait(tallies, entry);
}

struct weir_tally *weir_tallies_change(struct weir_tallies *tallies, struct weir_slice customer)
{
    struct entry *entry = entry_of(tallies, customer, true);

    entry->is_changed = true;
    wait(tallies, entry);
    return &entry->tally;
}

size_t weir_tallies_changed(const struct weir_tallies *tallies)
{
    return tallies->waiting_count;
}

void weir_tallies_take(struct weir_tallies *tallies, bool is_telling,
                       void (*visit)(void *context, const struct weir_cut_window *window), void *context)
{
    char bytes[WEIR_SERIES_KEY_MAX];

    for (uint32_t i = 0; i < tallies->waiting_count; i++) {
        struct entry *entry = &tallies->entries[tallies->waiting[i]];
        if (!is_telling && !entry->is_changed)
            continue;
        struct weir_cut_window window = {.window = weir_tally_store(entry->customer, &entry->tally, bytes),
                                         .is_closed = is_telling};
        visit(context, &window);
        entry->is_changed = false;
        entry->is_waiting = !is_telling;
    }
    if (is_telling)
        tallies->waiting_count = 0;
}

uint32_t weir_tallies_count(const struct weir_tallies *tallies)
{
    return tallies->count;
}

size_t weir_tallies_bytes(const struct weir_tallies *tallies)
{
    return tallies->name_bytes + tallies->room * sizeof *tallies->entries
           + ((size_t)tallies->mask + 1 + tallies->waiting_room) * sizeof *tallies->slots;
}
