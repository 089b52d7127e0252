/* Keys of JSON objects: a cheap hash for looking them up and telling them apart. Inside of the walk only.
 *
 * The hash covers length, first and last eight bytes. Of two keys of the same length up to eight bytes it differs
 * exactly when they do, so that short keys are never compared byte by byte. It is not keyed: whoever could be slowed
 * down by chosen keys (large objects) must not rely on it.
 */
#ifndef WEIR_INGEST_JSON_KEYS_H
#define WEIR_INGEST_JSON_KEYS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/slice.h"

struct weir_json_key {
    uint64_t hash;
    const char *text; /* unescaped */
    uint32_t length;
};

/* `end` is how far bytes may be read: at least to the key's own end. (Written field by field where it will stay: a
 * struct returned and copied would be read back wider than it was written, which stalls.) */
static inline void weir_json_key_set(struct weir_json_key *key, const char *text, uint32_t length, const char *end)
{
    uint64_t head = 0;
    uint64_t tail = 0;

    if (__builtin_expect(end - text >= 8, 1)) {
        memcpy(&head, text, 8);
        if (length < 8)
            head &= (UINT64_C(1) << (8 * length)) - 1;
        else
            memcpy(&tail, text + length - 8, 8);
    } else {
        memcpy(&head, text, length);
    }
    uint64_t hash = (head ^ (length > 8 ? tail << 23 | tail >> 41 : 0)) + length * UINT64_C(0x9e3779b97f4a7c15);
    hash *= UINT64_C(0xd6e8feb86659fd93);
    key->hash = hash ^ hash >> 32;
    key->text = text;
    key->length = length;
}

static inline bool weir_json_key_equal(const struct weir_json_key *a, const struct weir_json_key *b)
{
    return a->hash == b->hash && a->length == b->length && (a->length <= 8 || memcmp(a->text, b->text, a->length) == 0);
}

/* A node of the trie of paths: a hash table of its children by key. */
struct weir_json_child {
    struct weir_json_key key;
    const struct weir_json_node *node; /* NULL: empty */
};

struct weir_json_node {
    uint32_t slot; /* 0: nobody asked for this value */
    uint32_t mask;
    uint32_t count;
    struct weir_json_child *children; /* mask + 1, never full */
};

extern const struct weir_json_node weir_json_nowhere; /* no slot, no children */

static inline const struct weir_json_node *weir_json_node_find(const struct weir_json_node *node,
                                                               const struct weir_json_key *key)
{
    for (uint32_t i = (uint32_t)key->hash & node->mask;; i = (i + 1) & node->mask) {
        const struct weir_json_child *child = &node->children[i];
        if (!child->node)
            return &weir_json_nowhere;
        if (weir_json_key_equal(&child->key, key))
            return child->node;
    }
}

#endif
