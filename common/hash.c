#include "common/hash.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>

#define XXH_STATIC_LINKING_ONLY
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/status.h"

static_assert(WEIR_HASH_KEY_BYTES == XXH3_SECRET_DEFAULT_SIZE, "XXH3 wants this much secret");

enum { PART_MAX = 4096 };

uint64_t weir_hash64(const void *data, size_t length, uint64_t seed)
{
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

uint64_t weir_fingerprint64(const struct weir_hash_key *key, struct weir_slice first, struct weir_slice second)
{
    char bytes[sizeof first.length + 2 * PART_MAX];

    weir_check(first.length <= PART_MAX && second.length <= PART_MAX);
    memcpy(bytes, &first.length, sizeof first.length);
    if (first.length)
        memcpy(bytes + sizeof first.length, first.data, first.length);
    if (second.length)
        memcpy(bytes + sizeof first.length + first.length, second.data, second.length);
    return XXH3_64bits_withSecret(bytes, sizeof first.length + first.length + second.length, key->secret,
                                  sizeof key->secret);
}

struct weir_hash128 weir_fingerprint128(const struct weir_hash_key *key, struct weir_slice text)
{
    XXH128_hash_t hash =
        XXH3_128bits_withSecret(text.length ? text.data : "", text.length, key->secret, sizeof key->secret);
    return (struct weir_hash128){hash.low64, hash.high64};
}
