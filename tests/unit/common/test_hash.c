/* Hashes and fingerprints: known values, the parts told apart, keys that matter, and few collisions. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/hash.h"
#include "common/status.h"

static struct weir_hash_key key_of(unsigned char first)
{
    unsigned char secret[WEIR_HASH_SECRET_BYTES] = {first, 1, 2, 3};
    struct weir_hash_key key;

    weir_hash_key_init(&key, secret);
    return key;
}

static uint64_t print64(const struct weir_hash_key *key, const char *first, const char *second)
{
    return weir_fingerprint64(key, weir_slice_text(first), weir_slice_text(second));
}

/* XXH3's published test vector: what stores hold must be readable by the next build, and by others. */
Test(hash, is_xxh3)
{
    cr_assert_eq(weir_hash64("", 0, 0), UINT64_C(0x2d06800538d394c2));
    cr_assert_eq(weir_hash64(NULL, 0, 0), UINT64_C(0x2d06800538d394c2));
    cr_assert_neq(weir_hash64("a", 1, 0), weir_hash64("a", 1, 1));
}

Test(hash, two_texts_are_not_their_concatenation)
{
    struct weir_hash_key key = key_of(1);

    cr_assert_neq(print64(&key, "a", "bc"), print64(&key, "ab", "c"));
    cr_assert_neq(print64(&key, "", "abc"), print64(&key, "abc", ""));
    cr_assert_eq(print64(&key, "api", "8f0c"), print64(&key, "api", "8f0c"));
    cr_assert_eq(weir_fingerprint64(&key, weir_slice_of(NULL, 0), weir_slice_text("x")), print64(&key, "", "x"));
}

Test(hash, the_secret_decides)
{
    struct weir_hash_key one = key_of(1), same = key_of(1), other = key_of(2);
    struct weir_hash128 a = weir_fingerprint128(&one, weir_slice_text("text"));
    struct weir_hash128 b = weir_fingerprint128(&same, weir_slice_text("text"));
    struct weir_hash128 c = weir_fingerprint128(&other, weir_slice_text("text"));

    cr_assert(a.low == b.low && a.high == b.high);
    cr_assert(a.low != c.low && a.high != c.high);
    cr_assert_neq(print64(&one, "s", "id"), print64(&other, "s", "id"));
    cr_assert_neq(weir_hash_key_seed(&one), weir_hash_key_seed(&other));
}

Test(hash, secrets_are_fresh)
{
    unsigned char one[WEIR_HASH_SECRET_BYTES] = {0}, two[WEIR_HASH_SECRET_BYTES] = {0};

    weir_hash_make_secret(one);
    weir_hash_make_secret(two);
    cr_assert_arr_neq(one, two, sizeof one);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* 200,000 neighbouring ids: by chance two of them would share 64 bits once in a billion runs; and every length works.
 */
Test(hash, neighbours_do_not_collide)
{
    enum { COUNT = 200000 };
    struct weir_hash_key key = key_of(9);
    uint64_t *prints = weir_new_array(COUNT, sizeof *prints);
    char id[4097];

    for (int i = 0; i < COUNT; i++) {
        snprintf(id, sizeof id, "%d", i);
        prints[i] = print64(&key, i % 2 ? "gateway-1" : "gateway-2", id);
    }
    qsort(prints, COUNT, sizeof *prints, ascending);
    for (int i = 1; i < COUNT; i++)
        cr_assert_neq(prints[i - 1], prints[i]);
    memset(id, 'x', sizeof id);
    for (size_t length = 1; length <= 4096; length++) {
        uint64_t before = weir_fingerprint64(&key, weir_slice_of(id, length), weir_slice_of(id, length));
        id[length - 1] = 'y'; /* the last byte counts, at every length */
        cr_assert_neq(before, weir_fingerprint64(&key, weir_slice_of(id, length), weir_slice_of(id, length)));
        id[length - 1] = 'x';
    }
    free(prints);
}
