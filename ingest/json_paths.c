#include "common/arena.h"
#include "ingest/json_keys.h"
#include "ingest/json_walk.h"

#include <stdlib.h>

struct weir_json_paths {
    struct weir_arena *arena;
    struct weir_json_node *root;
    uint32_t slots;
};

static struct weir_json_child no_child;
const struct weir_json_node weir_json_nowhere = {0, 0, 0, &no_child};

static struct weir_json_node *node_new(struct weir_arena *arena)
{
    struct weir_json_node *node = weir_arena_take(arena, sizeof *node);
    node->children = weir_arena_take(arena, sizeof *node->children);
    return node;
}

struct weir_json_paths *weir_json_paths_new(void)
{
    struct weir_json_paths *paths = weir_new(sizeof *paths);
    paths->arena = weir_arena_new();
    paths->root = node_new(paths->arena);
    paths->slots = 1;
    return paths;
}

struct weir_json_paths *weir_json_paths_free(struct weir_json_paths *paths)
{
    if (!paths)
        return NULL;
    weir_arena_free(paths->arena);
    free(paths);
    return NULL;
}

static void put(struct weir_json_node *node, struct weir_json_child child)
{
    uint32_t i = (uint32_t)child.key.hash & node->mask;
    while (node->children[i].node)
        i = (i + 1) & node->mask;
    node->children[i] = child;
}

/* At most a quarter full: a key that is not there costs one look. The old table stays in the arena. */
static void grow(struct weir_arena *arena, struct weir_json_node *node)
{
    struct weir_json_child *old = node->children;
    uint32_t size = node->mask + 1;

    node->mask = size * 4 - 1;
    node->children = weir_arena_take_array(arena, node->mask + 1, sizeof *node->children);
    for (uint32_t i = 0; i < size; i++)
        if (old[i].node)
            put(node, old[i]);
}

static struct weir_json_node *child_of(struct weir_arena *arena, struct weir_json_node *node, struct weir_slice step)
{
    struct weir_json_key key;

    weir_json_key_set(&key, step.data, step.length, step.data + step.length);
    const struct weir_json_node *found = weir_json_node_find(node, &key);
    if (found != &weir_json_nowhere)
        return (struct weir_json_node *)found;
    if ((node->count + 1) * 4 > node->mask + 1)
        grow(arena, node);
    struct weir_json_node *child = node_new(arena);
    put(node, (struct weir_json_child){key, child});
    node->count++;
    return child;
}

uint32_t weir_json_paths_add(struct weir_json_paths *paths, const struct weir_slice *steps, uint32_t step_count)
{
    struct weir_json_node *node = paths->root;

    weir_check(step_count > 0);
    for (uint32_t i = 0; i < step_count; i++)
        node = child_of(paths->arena, node, steps[i]);
    if (!node->slot)
        node->slot = paths->slots++;
    return node->slot;
}

uint32_t weir_json_paths_slots(const struct weir_json_paths *paths)
{
    return paths->slots;
}

const struct weir_json_node *weir_json_paths_root(const struct weir_json_paths *paths)
{
    return paths->root;
}

const struct weir_json_node *weir_json_paths_below(const struct weir_json_paths *paths, struct weir_slice step)
{
    struct weir_json_key key;

    weir_json_key_set(&key, step.data, step.length, step.data + step.length);
    return weir_json_node_find(paths->root, &key);
}

uint32_t weir_json_paths_slot(const struct weir_json_paths *paths, struct weir_slice step)
{
    return weir_json_paths_below(paths, step)->slot;
}
