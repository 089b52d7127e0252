/* Hashes and keyed fingerprints, over xxHash.
 *
 * weir_hash64 is for tables in memory. Fingerprints reach stores, and are keyed by a lane's secret so that a producer
 * who does not know it cannot make two ids or texts collide on purpose (XXH3 with a secret is not a cryptographic MAC:
 * it is enough against chance and against guessing, and the secret never leaves the store).
 */
#ifndef WEIR_COMMON_HASH_H
#define WEIR_COMMON_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "common/slice.h"

enum { WEIR_HASH_SECRET_BYTES = 32, WEIR_HASH_KEY_BYTES = 192 };

struct weir_hash128 {
    uint64_t low, high;
};

struct weir_hash_key {
    uint64_t seed;
    unsigned char secret[WEIR_HASH_KEY_BYTES]; /* derived, XXH3's own form */
};

uint64_t weir_hash64(const void *data, size_t length, uint64_t seed);

/* Spreads a number that was put together of hashes over all its bits. */
static inline uint64_t weir_hash_mix(uint64_t hash)
{
    hash = (hash ^ hash >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    return hash ^ hash >> 32;
}

/* Fresh random bytes for a secret, from the system. */
void weir_hash_make_secret(unsigned char secret[WEIR_HASH_SECRET_BYTES]);
void weir_hash_key_init(struct weir_hash_key *key, const unsigned char secret[WEIR_HASH_SECRET_BYTES]);
static inline uint64_t weir_hash_key_seed(const struct weir_hash_key *key)
{
    return key->seed;
}

enum { WEIR_HASH_TEXT_MAX = 4096 };

/* Of two texts, in a way that ("a", "bc") and ("ab", "c") differ. Each at most WEIR_HASH_TEXT_MAX bytes (checked). */
uint64_t weir_fingerprint64(const struct weir_hash_key *key, struct weir_slice first, struct weir_slice second);

/* The same in two steps, for who has something else to do in between: what was just copied piece by piece cannot be
 * read word by word until it has reached the cache. set copies the texts; the same limit. */
struct weir_hash_pair {
    size_t length;
    char bytes[sizeof(uint32_t) + 2 * WEIR_HASH_TEXT_MAX];
};
void weir_hash_pair_set(struct weir_hash_pair *pair, struct weir_slice first, struct weir_slice second);
uint64_t weir_fingerprint64_of(const struct weir_hash_key *key, const struct weir_hash_pair *pair);

struct weir_hash128 weir_fingerprint128(const struct weir_hash_key *key, struct weir_slice text);

#endif
