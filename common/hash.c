#include "common/hash.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>

#define XXH_STATIC_LINKING_ONLY
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/status.h"

static_assert(WEIR_HASH_KEY_BYTES == XXH3_SECRET_DEFAULT_SIZE, "XXH3 wants this much secret");

static __attribute__((noinline)) uint64_t hash_long(const void *data, size_t length, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, length, seed);
}

/* Most texts are short: what the others need on the stack would cost as much as the hash. */
uint64_t weir_hash64(const void *data, size_t length, uint64_t seed)
{
    if (length > 16)
        return hash_long(data, length, seed);
    return XXH3_64bits_withSeed(length ? data : "", length, seed);
}

void weir_hash_make_secret(unsigned char secret[WEIR_HASH_SECRET_BYTES])
{
    size_t have = 0;

    while (have < WEIR_HASH_SECRET_BYTES) {
        ssize_t more = getrandom(secret + have, WEIR_HASH_SECRET_BYTES - have, 0);
        if (more > 0)
            have += (size_t)more;
    }
}

void weir_hash_key_init(struct weir_hash_key *key, const unsigned char secret[WEIR_HASH_SECRET_BYTES])
{
    weir_check(XXH3_generateSecret(key->secret, sizeof key->secret, secret, WEIR_HASH_SECRET_BYTES) == XXH_OK);
    memcpy(&key->seed, secret, sizeof key->seed);
}

/* Texts of some twenty bytes: a call of memcpy, or the string instruction that compilers put in its place (and in that
 * of a loop), would cost more than the hash. Pieces may overlap. */
static inline char *put_bytes(char *to, const char *from, size_t length)
{
    if (length > 64) {
        memcpy(to, from, length);
    } else if (length >= 16) {
        memcpy(to, from, 16);
        if (length > 32)
            memcpy(to + 16, from + 16, 16);
        if (length > 48)
            memcpy(to + 32, from + 32, 16);
        memcpy(to + length - 16, from + length - 16, 16);
    } else if (length >= 8) {
        memcpy(to, from, 8);
        memcpy(to + length - 8, from + length - 8, 8);
    } else if (length >= 4) {
        memcpy(to, from, 4);
        memcpy(to + length - 4, from + length - 4, 4);
    } else if (length > 0) {
        to[0] = from[0];
        to[length / 2] = from[length / 2];
        to[length - 1] = from[length - 1];
    }
    return to + length;
}

void weir_hash_pair_set(struct weir_hash_pair *pair, struct weir_slice first, struct weir_slice second)
{
    static_assert(sizeof first.length == sizeof(uint32_t), "the first one's length stands in front of it");

    weir_check(first.length <= WEIR_HASH_TEXT_MAX && second.length <= WEIR_HASH_TEXT_MAX);
    memcpy(pair->bytes, &first.length, sizeof first.length);
    char *end = put_bytes(pair->bytes + sizeof first.length, first.data, first.length);
    end = put_bytes(end, second.data, second.length);
    pair->length = (size_t)(end - pair->bytes);
}

uint64_t weir_fingerprint64_of(const struct weir_hash_key *key, const struct weir_hash_pair *pair)
{
    return XXH3_64bits_withSecret(pair->bytes, pair->length, key->secret, sizeof key->secret);
}

uint64_t weir_fingerprint64(const struct weir_hash_key *key, struct weir_slice first, struct weir_slice second)
{
    struct weir_hash_pair pair;

    weir_hash_pair_set(&pair, first, second);
    return weir_fingerprint64_of(key, &pair);
}

struct weir_hash128 weir_fingerprint128(const struct weir_hash_key *key, struct weir_slice text)
{
    XXH128_hash_t hash =
        XXH3_128bits_withSecret(text.length ? text.data : "", text.length, key->secret, sizeof key->secret);
    return (struct weir_hash128){hash.low64, hash.high64};
}
