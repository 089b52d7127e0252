/* The distinct texts of one `unique` window, as 128-bit keyed fingerprints, and those that are new since the last cut.
 *
 * With n texts in a window the chance of any two sharing a fingerprint is below n^2 / 2^129: 10^-20 for a billion.
 */
#ifndef WEIR_AGGREGATOR_UNIQUE_SET_H
#define WEIR_AGGREGATOR_UNIQUE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/hash.h"
#include "common/slice.h"

struct weir_unique_set;

struct weir_unique_set *weir_unique_set_new(void);
struct weir_unique_set *weir_unique_set_free(struct weir_unique_set *set); /* NULL in, NULL out */
bool weir_unique_set_has(const struct weir_unique_set *set, struct weir_hash128 text);
/* Fetches what has will look at first. */
void weir_unique_set_prefetch(const struct weir_unique_set *set, struct weir_hash128 text);
void weir_unique_set_add(struct weir_unique_set *set, struct weir_hash128 text);    /* new since the last cut */
void weir_unique_set_restore(struct weir_unique_set *set, struct weir_slice texts); /* stored already, 16 bytes each */
struct weir_slice weir_unique_set_new_texts(const struct weir_unique_set *set); /* 16 bytes each, until the next add */
void weir_unique_set_mark_stored(struct weir_unique_set *set);
uint32_t weir_unique_set_count(const struct weir_unique_set *set);
size_t weir_unique_set_bytes(const struct weir_unique_set *set);

#endif
