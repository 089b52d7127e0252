/* The bytes of a window's field in Redis (docs/redis.md). */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "aggregator/store_redis_internal.h"

static bool same(const struct weir_window_total *a, const struct weir_window_total *b)
{
    return a->events == b->events && a->retracted == b->retracted && a->value.e12 == b->value.e12
           && a->latest_time == b->latest_time && a->latest_offset == b->latest_offset;
}

/* Stored and loaded it is the same; its length. */
static size_t round_trip(const struct weir_window_total *total)
{
    size_t length = 0;
    for (int is_closed = 0; is_closed < 2; is_closed++) {
        unsigned char *bytes = malloc(WEIR_REDIS_VALUE_BYTES); /* exactly: a sanitizer sees what is too much */
        struct weir_window_total loaded;
        bool closed = !is_closed;
        length = weir_redis_store_value(total, is_closed, bytes);
        cr_assert(length <= WEIR_REDIS_PACKED_MAX || length == WEIR_REDIS_VALUE_BYTES, "%zu", length);
        unsigned char *exact = malloc(length);
        memcpy(exact, bytes, length);
        cr_assert(weir_redis_load_value(exact, length, &loaded, &closed));
        cr_assert(same(total, &loaded) && closed == is_closed, "%zu bytes", length);
        free(exact);
        free(bytes);
    }
    return length;
}

Test(redis_value, every_length_at_its_edges)
{
    static const int64_t times[] = {0, 1, -1, INT64_MAX, INT64_MIN};
    for (int e = 0; e <= 64; e++)
        for (int v = 0; v < 127; v++)
            for (int step = -1; step <= 1; step++)
                for (size_t t = 0; t < sizeof times / sizeof *times; t++) {
                    weir_int128 value = ((weir_int128)1 << v) + step;
                    struct weir_window_total total = {.events = e < 64 ? UINT64_C(1) << e : UINT64_MAX,
                                                      .value.e12 = value,
                                                      .latest_time = times[t],
                                                      .retracted = v % 3 ? 0 : (uint64_t)v << 57};
                    round_trip(&total);
                    total.value.e12 = -value;
                    total.latest_offset = times[(t + 1) % 5];
                    total.events--;
                    round_trip(&total);
                }
    round_trip(&(struct weir_window_total){.value.e12 = WEIR_DECIMAL_BELOW});
    round_trip(&(struct weir_window_total){.value.e12 = ~WEIR_DECIMAL_BELOW, .events = UINT64_MAX});
}

Test(redis_value, is_as_long_as_the_numbers)
{
    cr_assert_eq(round_trip(&(struct weir_window_total){0}), 2);
    cr_assert_eq(round_trip(&(struct weir_window_total){.events = 255}), 3);
    cr_assert_eq(round_trip(&(struct weir_window_total){.events = 256}), 4);
    cr_assert_eq(round_trip(&(struct weir_window_total){.events = 1, .value.e12 = 127}), 4);
    cr_assert_eq(round_trip(&(struct weir_window_total){.events = 1, .value.e12 = 128}), 5);
    cr_assert_eq(round_trip(&(struct weir_window_total){.events = 1, .value.e12 = -128}), 4);
    cr_assert_eq(round_trip(&(struct weir_window_total){.events = 1, .value.e12 = -129}), 5);
    cr_assert_eq(round_trip(&(struct weir_window_total){.retracted = 1}), 10);
    cr_assert_eq(round_trip(&(struct weir_window_total){.latest_offset = 1}), 18);
    /* 40 bytes are packed, 41 would be taken for those of format 1. */
    struct weir_window_total total = {
        .events = UINT64_C(1) << 55, .value.e12 = 1 << 30, .latest_time = 1, .retracted = 1};
    cr_assert_eq(round_trip(&total), 37);
    total.value.e12 = (weir_int128)1 << 54;
    cr_assert_eq(round_trip(&total), 40);
    total.value.e12 = (weir_int128)1 << 55;
    cr_assert_eq(round_trip(&total), 49);
}

/* As docs/redis.md has them. */
Test(redis_value, bytes_are_those_of_the_documentation)
{
    unsigned char bytes[WEIR_REDIS_VALUE_BYTES];
    struct weir_window_total total = {
        .events = 0x0102, .value.e12 = -2, .latest_time = 3, .latest_offset = 4, .retracted = 5};
    static const unsigned char expected[] = {7, 0x12, 2, 1, 0xfe, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0,
                                             0, 0,    0, 0, 0,    0, 5, 0, 0, 0, 0, 0, 0, 0};
    cr_assert_eq(weir_redis_store_value(&total, true, bytes), sizeof expected);
    cr_assert_eq(memcmp(bytes, expected, sizeof expected), 0);
}

Test(redis_value, what_is_none_is_refused)
{
    struct weir_window_total total;
    bool is_closed;
    unsigned char bytes[64] = {0};
    for (size_t length = 0; length < sizeof bytes; length++)
        cr_assert_eq(weir_redis_load_value(bytes, length, &total, &is_closed),
                     length == 2 || length == 41 || length == 49, "%zu", length);
    bytes[0] = 8;
    cr_assert_not(weir_redis_load_value(bytes, 2, &total, &is_closed), "an unknown flag");
    bytes[0] = 0;
    bytes[1] = 9;
    cr_assert_not(weir_redis_load_value(bytes, 11, &total, &is_closed), "more bytes of events than there are");
    bytes[48] = bytes[40] = 2;
    cr_assert_not(weir_redis_load_value(bytes, 49, &total, &is_closed), "an unknown flag");
    cr_assert_not(weir_redis_load_value(bytes, 41, &total, &is_closed), "an unknown flag");
}
