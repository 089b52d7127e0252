/* One strict pass over a JSON text: grammar, duplicate keys, nesting, and the values at a few paths picked up on the
 * way.
 *
 * Accepts what RFC 8259 allows, less: invalid UTF-8 and \u0000 (bad_encoding), half a surrogate pair (malformed_json),
 * a key that stands twice in one object (duplicate_key; compared after unescaping) and more levels than the caller
 * allows (too_deep). Of several faults the first in this order is named: invalid UTF-8; an unclosed string, a control
 * character in one, or a text that does not end with the closer of what it opens; then what the pass meets first,
 * reading from the start (an object of more than 32 keys is searched for a repeated one at its end).
 *
 * Texts that differ in their scalars only from one that was accepted before are read by comparison (json_shape.h), to
 * the same result.
 *
 * Paths are compiled once into a trie of small hash tables and may be shared by walkers. A walker belongs to one
 * thread; it allocates everything when made (13 bytes of address space for each byte of the largest text, touched only
 * as far as texts need it), nothing afterwards.
 */
#ifndef WEIR_INGEST_JSON_WALK_H
#define WEIR_INGEST_JSON_WALK_H

#include <stdint.h>

#include "common/model/event.h"
#include "common/status.h"

/* 1. paths */
struct weir_json_paths;
struct weir_json_node; /* a place in the trie */

struct weir_json_paths *weir_json_paths_new(void);
struct weir_json_paths *weir_json_paths_free(struct weir_json_paths *paths); /* NULL in, NULL out */

/* The slot of a path (at least one step), the same for the same path; from 1, without gaps. Slot 0 is where values go
 * that nobody asked for. The steps' bytes must outlive the paths. */
uint32_t weir_json_paths_add(struct weir_json_paths *paths, const struct weir_slice *steps, uint32_t step_count);
/* The highest slot so far and one: how many values a walk needs room for. */
uint32_t weir_json_paths_slots(const struct weir_json_paths *paths);

/* Where to begin: the node of a whole text, and of the value at one step below it. */
const struct weir_json_node *weir_json_paths_root(const struct weir_json_paths *paths);
const struct weir_json_node *weir_json_paths_below(const struct weir_json_paths *paths, struct weir_slice step);
/* The slot of a path of this one step; 0: nobody added it. */
uint32_t weir_json_paths_slot(const struct weir_json_paths *paths, struct weir_slice step);

/* 2. the walk */
struct weir_json_value {
    struct weir_value value; /* text points into the JSON text or the walker's scratch */
    uint32_t begin, end;     /* the value's own bytes in the JSON text */
};

struct weir_json_walker;

struct weir_json_walker *weir_json_walker_new(size_t text_max);
struct weir_json_walker *weir_json_walker_free(struct weir_json_walker *walker); /* NULL in, NULL out */

/* Walks the whole text (at most text_max bytes) as one value with white space around it; at most `depth` levels of
 * objects and arrays (up to WEIR_EVENT_DEPTH_MAX). WEIR_OK: values[slot] is set for every path at or below `node` that
 * exists in the text, and untouched for the others. values[0] is the value at `node` itself where nobody added that
 * path (the last of those that nobody asked for). WEIR_REJECT: *reterr says why, values are unspecified. What values
 * point to lives until the walker's next call. */
enum weir_status weir_json_walk(struct weir_json_walker *walker, struct weir_slice text,
                                const struct weir_json_node *node, uint32_t depth, struct weir_json_value *values,
                                struct weir_rejection *reterr);

#endif
