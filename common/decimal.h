/* Money and quantities: one fixed-point type, value = e12 / 10^12, 128 bits.
 *
 * The range is symmetric (-(2^127 - 1) .. 2^127 - 1), so negation never overflows; about 1.7 * 10^26 units.
 * Every operation that can leave the range answers false and leaves its result untouched. Products and quotients are
 * exact in 256 bits and rounded once. There is no conversion from or to float or double, on purpose.
 */
#ifndef WEIR_COMMON_DECIMAL_H
#define WEIR_COMMON_DECIMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/slice.h"

__extension__ typedef __int128 weir_int128; /* the one typedef: ISO C has no name for it */
__extension__ typedef unsigned __int128 weir_uint128;

enum {
    WEIR_DECIMAL_PLACES = 12,
    WEIR_DECIMAL_TEXT_MAX = 43, /* '-' + 27 digits + '.' + 12 digits + NUL, rounded up */
};
#define WEIR_DECIMAL_ONE ((weir_int128)1000000000000)
/* -2^127, which is out of the range. */
#define WEIR_DECIMAL_BELOW ((weir_int128)((weir_uint128)1 << 127))

struct weir_decimal {
    weir_int128 e12;
};

enum weir_rounding { WEIR_HALF_EVEN, WEIR_HALF_UP /* ties away from zero */ };

enum weir_decimal_result {
    WEIR_DECIMAL_OK,
    WEIR_DECIMAL_SYNTAX,    /* not a JSON number */
    WEIR_DECIMAL_PRECISION, /* more than 12 places that are not zero */
    WEIR_DECIMAL_RANGE,     /* |value| >= 2^127 / 10^12 */
};

/* The largest and smallest values. */
struct weir_decimal weir_decimal_max(void);

static inline struct weir_decimal weir_decimal_of(int64_t whole)
{
    return (struct weir_decimal){(weir_int128)whole * WEIR_DECIMAL_ONE};
}

static inline struct weir_decimal weir_decimal_of_count(uint64_t count)
{
    return (struct weir_decimal){(weir_int128)count * WEIR_DECIMAL_ONE}; /* 64 bits and 40 */
}

static inline int weir_decimal_compare(struct weir_decimal a, struct weir_decimal b)
{
    return (a.e12 > b.e12) - (a.e12 < b.e12);
}

/* What a comparison with 0 comes to, in half the instructions. */
static inline bool weir_decimal_equal(struct weir_decimal a, struct weir_decimal b)
{
    return a.e12 == b.e12;
}

static inline bool weir_decimal_is_zero(struct weir_decimal a)
{
    return a.e12 == 0;
}

/* The same, fetched as two words. Arithmetic writes a value as two words, and as long as they are on their way to the
 * cache, one load of both waits for that instead of taking them from where they are (the processor forwards one store
 * to one load), and where stores before them wait for lines of another core that is long. */
static inline struct weir_decimal weir_decimal_by_words(const struct weir_decimal *value)
{
    uint64_t low = (uint64_t)value->e12, high = (uint64_t)(value->e12 >> 64);

    __asm__("" : "+r"(low), "+r"(high)); /* or the compiler would make one load of it */
    return (struct weir_decimal){(weir_int128)((weir_uint128)high << 64 | low)};
}

/* Reads the whole text as a JSON number (RFC 8259: no leading '+' or zeros, exponent allowed), exactly. Any exponent is
 * accepted as long as the value is representable (1e-400 is not; 0e999999999999 is 0). */
enum weir_decimal_result weir_decimal_parse(struct weir_slice text, struct weir_decimal *ret_value);

/* Writes with exactly 12 places ("-0.500000000000", never "-0…" for zero); returns the length without NUL. */
size_t weir_decimal_format(struct weir_decimal value, char text[WEIR_DECIMAL_TEXT_MAX]);
/* Writes the shortest form ("1.5", "0", "-12"). */
size_t weir_decimal_format_short(struct weir_decimal value, char text[WEIR_DECIMAL_TEXT_MAX]);
/* Writes with exactly `places` (0..12) places; the value must have no more (weir_decimal_round first; checked). */
size_t weir_decimal_format_places(struct weir_decimal value, int places, char text[WEIR_DECIMAL_TEXT_MAX]);

static inline struct weir_decimal weir_decimal_negate(struct weir_decimal a)
{
    return (struct weir_decimal){-a.e12};
}

static inline bool weir_decimal_add(struct weir_decimal a, struct weir_decimal b, struct weir_decimal *ret_sum)
{
    weir_int128 sum;

    if (__builtin_expect(__builtin_add_overflow(a.e12, b.e12, &sum), 0)
        || __builtin_expect(sum == WEIR_DECIMAL_BELOW, 0))
        return false;
    ret_sum->e12 = sum;
    return true;
}

static inline bool weir_decimal_subtract(struct weir_decimal a, struct weir_decimal b,
                                         struct weir_decimal *ret_difference)
{
    return weir_decimal_add(a, weir_decimal_negate(b), ret_difference);
}

/* a * b rounded half-even to 12 places. */
bool weir_decimal_multiply(struct weir_decimal a, struct weir_decimal b, struct weir_decimal *ret_product);
/* a / b rounded to 12 places; false as well for b == 0. */
bool weir_decimal_divide(struct weir_decimal a, struct weir_decimal b, enum weir_rounding rounding,
                         struct weir_decimal *ret_quotient);
/* amount * part / whole rounded half-even to 12 places, for 0 <= part <= whole and whole > 0 (checked). */
struct weir_decimal weir_decimal_share(struct weir_decimal amount, struct weir_decimal part, struct weir_decimal whole);
/* value * count, exact. */
bool weir_decimal_scale(struct weir_decimal value, uint64_t count, struct weir_decimal *ret_product);
/* The least whole number >= a / b, for a >= 0 and b > 0 (checked). */
bool weir_decimal_blocks(struct weir_decimal a, struct weir_decimal b, struct weir_decimal *ret_blocks);
/* Rounds to `places` (0..12) places. */
bool weir_decimal_round(struct weir_decimal value, int places, enum weir_rounding rounding,
                        struct weir_decimal *ret_rounded);

/* Sixteen bytes, two's complement, little endian: the form in cuts and keys. */
void weir_decimal_store(struct weir_decimal value, unsigned char bytes[16]);
struct weir_decimal weir_decimal_load(const unsigned char bytes[16]);

#endif
