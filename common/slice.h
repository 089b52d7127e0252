/* A piece of somebody else's bytes. A slice never owns; whoever hands one out says how long it lives. */
#ifndef WEIR_COMMON_SLICE_H
#define WEIR_COMMON_SLICE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct weir_slice {
    const char *data; /* not NUL-terminated; may be NULL only when length is 0 */
    uint32_t length;  /* bytes */
};

static inline struct weir_slice weir_slice_of(const char *data, size_t length)
{
    return (struct weir_slice){data, (uint32_t)length};
}

static inline struct weir_slice weir_slice_text(const char *text)
{
    return (struct weir_slice){text, (uint32_t)strlen(text)};
}

static inline bool weir_slice_equal(struct weir_slice a, struct weir_slice b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

/* The same, for texts that are often the very same bytes. */
static inline bool weir_slice_same(struct weir_slice a, struct weir_slice b)
{
    return a.data == b.data ? a.length == b.length : weir_slice_equal(a, b);
}

/* Two short pieces of one length that mostly are equal, without a call: by their first and last bytes, which may
 * overlap.
 */
static inline bool weir_bytes_equal(const char *a, const char *b, uint32_t length)
{
    uint64_t words[4];
    uint32_t halves[4];

    if (length >= sizeof *words && length <= 2 * sizeof *words) {
        memcpy(&words[0], a, sizeof *words);
        memcpy(&words[1], b, sizeof *words);
        memcpy(&words[2], a + length - sizeof *words, sizeof *words);
        memcpy(&words[3], b + length - sizeof *words, sizeof *words);
        return ((words[0] ^ words[1]) | (words[2] ^ words[3])) == 0;
    }
    if (length >= sizeof *halves && length <= 2 * sizeof *halves) {
        memcpy(&halves[0], a, sizeof *halves);
        memcpy(&halves[1], b, sizeof *halves);
        memcpy(&halves[2], a + length - sizeof *halves, sizeof *halves);
        memcpy(&halves[3], b + length - sizeof *halves, sizeof *halves);
        return ((halves[0] ^ halves[1]) | (halves[2] ^ halves[3])) == 0;
    }
    return memcmp(a, b, length) == 0;
}

/* Byte order, shorter first on a common prefix: a total order, the same on every machine. */
static inline int weir_slice_compare(struct weir_slice a, struct weir_slice b)
{
    uint32_t shorter = a.length < b.length ? a.length : b.length;
    int order = shorter ? memcmp(a.data, b.data, shorter) : 0;
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

/* The same for qsort and bsearch, over slices. */
static inline int weir_slice_compare_items(const void *left, const void *right)
{
    return weir_slice_compare(*(const struct weir_slice *)left, *(const struct weir_slice *)right);
}

#endif
