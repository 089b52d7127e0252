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
