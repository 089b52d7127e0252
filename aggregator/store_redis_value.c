/* A window's total as the bytes of its field. Most totals need a few of their 48 bytes, and what they need is what
 * Redis takes in, allocates, keeps and appends to its file five times a second for each window that changes.
 *
 * Packed: u8 flags, u8 lengths (bytes of `events` in the lower half, of `value` in the upper), `events`, `value` (two's
 * complement), and what the flags say: `latest_time` and `latest_offset`, `retracted`, 8 bytes each. Where that is more
 * than WEIR_REDIS_PACKED_MAX bytes, the plain form: the total's 48 bytes, u8 flags. So a length tells the form; the one
 * of format 1 has 41 bytes.
 */
#include "aggregator/store_redis_internal.h"

enum { CLOSED = 1, HAS_LATEST = 2, HAS_RETRACTED = 4, HEAD = 2, VALUE_MAX = 15 };

/* Bytes that hold the number, little endian; none for 0. */
static inline unsigned events_length(uint64_t events)
{
    return events ? (71 - (unsigned)__builtin_clzll(events)) / 8 : 0;
}

/* The same for a signed number: its uppermost bit is the sign. */
static inline unsigned value_length(weir_int128 value)
{
    weir_uint128 bits = (weir_uint128)(value < 0 ? ~value : value);
    uint64_t high = (uint64_t)(bits >> 64), low = (uint64_t)bits;

    if (value == 0)
        return 0;
    return (high ? 136 - (unsigned)__builtin_clzll(high) : low ? 72 - (unsigned)__builtin_clzll(low) : 8) / 8;
}

static size_t store_plain(const struct weir_window_total *total, bool is_closed,
                          unsigned char bytes[WEIR_REDIS_VALUE_BYTES])
{
    weir_window_total_store(total, bytes);
    bytes[WEIR_WINDOW_TOTAL_BYTES] = is_closed ? CLOSED : 0;
    return WEIR_REDIS_VALUE_BYTES;
}

size_t weir_redis_store_value(const struct weir_window_total *total, bool is_closed,
                              unsigned char bytes[WEIR_REDIS_VALUE_BYTES])
{
    unsigned events = events_length(total->events), value = value_length(total->value.e12);
    bool has_latest = total->latest_time != 0 || total->latest_offset != 0, has_retracted = total->retracted != 0;
    unsigned length = HEAD + events + value + has_latest * 16 + has_retracted * 8;
    unsigned char *at = bytes + HEAD;

    if (value > VALUE_MAX || length > WEIR_REDIS_PACKED_MAX)
        return store_plain(total, is_closed, bytes);
    bytes[0] = (unsigned char)(is_closed * CLOSED | has_latest * HAS_LATEST | has_retracted * HAS_RETRACTED);
    bytes[1] = (unsigned char)(events | value << 4);
    /* Whole numbers, of which the next ones overwrite what is too much: there is room behind the last one. */
    memcpy(at, &total->events, 8);
    at += events;
    weir_decimal_store(total->value, at);
    at += value;
    if (has_latest) {
        memcpy(at, &total->latest_time, 8);
        memcpy(at + 8, &total->latest_offset, 8);
        at += 16;
    }
    if (has_retracted)
        memcpy(at, &total->retracted, 8);
    return length;
}

static bool load_packed(const unsigned char *bytes, size_t length, struct weir_window_total *ret_total)
{
    unsigned flags = bytes[0], events = bytes[1] & 15, value = bytes[1] >> 4;
    const unsigned char *at = bytes + HEAD;
    unsigned char wide[16];

    if (flags > (CLOSED | HAS_LATEST | HAS_RETRACTED) || events > 8
        || length != HEAD + events + value + !!(flags & HAS_LATEST) * 16u + !!(flags & HAS_RETRACTED) * 8u)
        return false;
    *ret_total = (struct weir_window_total){0};
    memcpy(&ret_total->events, at, events);
    at += events;
    memset(wide, value > 0 && at[value - 1] >= 128 ? 255 : 0, sizeof wide);
    memcpy(wide, at, value);
    ret_total->value = weir_decimal_load(wide);
    at += value;
    if (flags & HAS_LATEST) {
        memcpy(&ret_total->latest_time, at, 8);
        memcpy(&ret_total->latest_offset, at + 8, 8);
        at += 16;
    }
    if (flags & HAS_RETRACTED)
        memcpy(&ret_total->retracted, at, 8);
    return true;
}

bool weir_redis_load_value(const void *data, size_t length, struct weir_window_total *ret_total, bool *ret_closed)
{
    const unsigned char *bytes = data;
    unsigned char total[WEIR_WINDOW_TOTAL_BYTES] = {0};

    if (length >= HEAD && length <= WEIR_REDIS_PACKED_MAX) {
        *ret_closed = bytes[0] & CLOSED;
        return load_packed(bytes, length, ret_total);
    }
    if ((length != WEIR_REDIS_VALUE_BYTES && length != WEIR_REDIS_OLD_VALUE_BYTES) || bytes[length - 1] > CLOSED)
        return false;
    memcpy(total, bytes, length - 1);
    *ret_total = weir_window_total_load(total);
    *ret_closed = bytes[length - 1] == CLOSED;
    return true;
}
