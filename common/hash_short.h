/* weir_hash64 where it is called for each event with texts that are mostly short: a call would cost as much as the
 * hash. Apart from hash.h, since it brings xxHash with it. */
#ifndef WEIR_COMMON_HASH_SHORT_H
#define WEIR_COMMON_HASH_SHORT_H

#define XXH_STATIC_LINKING_ONLY
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/hash.h"

enum { WEIR_HASH_SHORT = 16 };

static inline uint64_t weir_hash64_short(struct weir_slice text, uint64_t seed)
{
    if (__builtin_expect(text.length > WEIR_HASH_SHORT || text.length == 0, 0))
        return weir_hash64(text.data, text.length, seed);
    return XXH3_64bits_withSeed(text.data, text.length, seed);
}

#endif
