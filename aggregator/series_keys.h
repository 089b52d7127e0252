/* The keys of series: texts of a few dozen bytes that come and go one by one. They stand close together on large pieces
 * of memory, on huge pages where there are many: whoever compares keys of one event after another waits less, and all
 * of them are freed at once. What one leaves the next one of its size takes. One owner thread. */
#ifndef WEIR_AGGREGATOR_SERIES_KEYS_H
#define WEIR_AGGREGATOR_SERIES_KEYS_H

#include <stddef.h>

#include "common/slice.h"

struct weir_series_keys;

struct weir_series_keys *weir_series_keys_new(void);
struct weir_series_keys *weir_series_keys_free(struct weir_series_keys *keys); /* NULL in, NULL out */

/* A copy of it, which stays where it is until it is removed. Of one byte at least. */
char *weir_series_keys_add(struct weir_series_keys *keys, struct weir_slice key);
void weir_series_keys_remove(struct weir_series_keys *keys, char *key, size_t length);

size_t weir_series_keys_bytes(const struct weir_series_keys *keys); /* memory held, but for what is larger than most */

#endif
