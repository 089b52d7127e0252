#include "aggregator/series_keys.h"

#include <stdlib.h>

#include "common/status.h"

enum {
    UNIT = 16,               /* a key has a multiple of it */
    SIZES = 32,              /* in units: larger ones, which hardly anybody has, have memory of their own */
    FIRST_PIECE = 1 << 14,   /* bytes */
    LARGEST_PIECE = 1 << 23, /* which has huge pages */
};

struct piece {
    struct piece *before;
    size_t size;
};

struct weir_series_keys {
    struct piece *last; /* the one that keys are cut from */
    size_t used;        /* of it */
    size_t bytes;       /* of all */
    char *left[SIZES];  /* by size: one that was removed, which begins with the address of the next */
};

struct weir_series_keys *weir_series_keys_new(void)
{
    return weir_new(sizeof(struct weir_series_keys));
}

struct weir_series_keys *weir_series_keys_free(struct weir_series_keys *keys)
{
    if (!keys)
        return NULL;
    for (struct piece *piece = keys->last, *before; piece; piece = before) {
        before = piece->before;
        (void)weir_resize_table(piece, piece->size, 0, 1);
    }
    free(keys);
    return NULL;
}

static size_t size_of(size_t length)
{
    return (length + UNIT - 1) / UNIT;
}

static void add_piece(struct weir_series_keys *keys)
{
    size_t size = keys->bytes < FIRST_PIECE ? FIRST_PIECE : keys->bytes > LARGEST_PIECE ? LARGEST_PIECE : keys->bytes;
    struct piece *piece = weir_resize_table(NULL, 0, size, 1);

    *piece = (struct piece){keys->last, size};
    keys->last = piece;
    keys->used = (sizeof *piece + UNIT - 1) / UNIT * UNIT;
    keys->bytes += size;
}

char *weir_series_keys_add(struct weir_series_keys *keys, struct weir_slice key)
{
    size_t size = size_of(key.length);
    char *at;

    weir_check(key.length > 0);
    if (size >= SIZES)
        return weir_copy_text(key.data, key.length);
    if (keys->left[size]) {
        at = keys->left[size];
        memcpy(&keys->left[size], at, sizeof keys->left[size]);
    } else {
        if (!keys->last || keys->last->size - keys->used < size * UNIT)
            add_piece(keys);
        at = (char *)keys->last + keys->used;
        keys->used += size * UNIT;
    }
    memcpy(at, key.data, key.length);
    return at;
}

void weir_series_keys_remove(struct weir_series_keys *keys, char *key, size_t length)
{
    size_t size = size_of(length);

    if (size >= SIZES) {
        free(key);
        return;
    }
    memcpy(key, &keys->left[size], sizeof keys->left[size]);
    keys->left[size] = key;
}

size_t weir_series_keys_bytes(const struct weir_series_keys *keys)
{
    return sizeof *keys + keys->bytes;
}
