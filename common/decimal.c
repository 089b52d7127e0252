#include "common/decimal.h"

#include <string.h>

#include "common/status.h"

/* Magnitudes are unsigned, so that INT128_MIN never comes up; the range is symmetric. */
#define MAGNITUDE_MAX (((weir_uint128)1 << 127) - 1)

enum { DIGITS_MAX = 39 }; /* of a 128-bit magnitude */

static const uint64_t powers_of_ten[WEIR_DECIMAL_PLACES + 1] = {
    UINT64_C(1),           UINT64_C(10),           UINT64_C(100),          UINT64_C(1000),      UINT64_C(10000),
    UINT64_C(100000),      UINT64_C(1000000),      UINT64_C(10000000),     UINT64_C(100000000), UINT64_C(1000000000),
    UINT64_C(10000000000), UINT64_C(100000000000), UINT64_C(1000000000000)};

static weir_uint128 magnitude_of(weir_int128 value)
{
    return value < 0 ? -(weir_uint128)value : (weir_uint128)value;
}

static bool from_magnitude(weir_uint128 magnitude, bool is_negative, struct weir_decimal *ret_value)
{
    if (magnitude > MAGNITUDE_MAX)
        return false;
    ret_value->e12 = is_negative ? -(weir_int128)magnitude : (weir_int128)magnitude;
    return true;
}

struct weir_decimal weir_decimal_max(void)
{
    return (struct weir_decimal){(weir_int128)MAGNITUDE_MAX};
}

/* 1. text */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The parts of a JSON number, grammar checked. */
struct number {
    bool is_negative;
    struct weir_slice whole, fraction; /* digits */
    int64_t exponent;                  /* saturated far beyond anything representable */
};

enum { EXPONENT_LIMIT = 1 << 30 };

static bool split_number(struct weir_slice text, struct number *ret_number)
{
    const char *at = text.data, *end = text.data + text.length, *from;
    struct number number = {0};

    if (at < end && *at == '-') {
        number.is_negative = true;
        at++;
    }
    for (from = at; at < end && is_digit(*at);)
        at++;
    number.whole = weir_slice_of(from, (size_t)(at - from));
    if (number.whole.length == 0 || (number.whole.length > 1 && *from == '0'))
        return false;
    if (at < end && *at == '.') {
        for (from = ++at; at < end && is_digit(*at);)
            at++;
        number.fraction = weir_slice_of(from, (size_t)(at - from));
        if (number.fraction.length == 0)
            return false;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        bool is_negative = ++at < end && *at == '-';
        if (at < end && (*at == '-' || *at == '+'))
            at++;
        if (at == end)
            return false;
        for (; at < end && is_digit(*at); at++)
            if (number.exponent < EXPONENT_LIMIT)
                number.exponent = number.exponent * 10 + (*at - '0');
        if (!is_digit(at[-1]))
            return false;
        if (is_negative)
            number.exponent = -number.exponent;
    }
    *ret_number = number;
    return at == end;
}

/* Takes digits whose first one weighs 10^*weight in units of 10^-12; each one lowers *weight. Digits below weight 0
 * must be zero. */
static enum weir_decimal_result take_digits(struct weir_slice digits, int64_t *weight, weir_uint128 *magnitude)
{
    for (uint32_t i = 0; i < digits.length; i++, --*weight) {
        unsigned digit = (unsigned)(digits.data[i] - '0');
        if (*weight < 0) {
            if (digit)
                return WEIR_DECIMAL_PRECISION;
            continue;
        }
        if (*magnitude > (MAGNITUDE_MAX - digit) / 10)
            return WEIR_DECIMAL_RANGE;
        *magnitude = *magnitude * 10 + digit;
    }
    return WEIR_DECIMAL_OK;
}

/* One to eight bytes, the first lowest; bytes may be read twice, but none that is not the text's. */
static inline uint64_t load_few(const char *at, uint32_t length)
{
    uint32_t left, right;

    if (length < 4)
        return (uint64_t)(unsigned char)at[0] | (uint64_t)(unsigned char)at[length / 2] << (length / 2 * 8)
               | (uint64_t)(unsigned char)at[length - 1] << ((length - 1) * 8);
    memcpy(&left, at, 4);
    memcpy(&right, at + length - 4, 4);
    return left | (uint64_t)right << ((length - 4) * 8);
}

/* Up to eight digits with or without a point between them, no sign and no exponent: most numbers, all bytes at once.
 * false: take a longer way. */
static inline bool parse_few(struct weir_slice text, struct weir_decimal *ret_value)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones * 0x80;
    uint32_t length = text.length, places = 0;

    if (length - 1 >= 8)
        return false;
    uint64_t bytes = load_few(text.data, length), point = bytes ^ ones * '.';
    point = (point - ones) & ~point & highs; /* the lowest bit is that of the first point */
    if (point) {
        uint32_t whole = (uint32_t)__builtin_ctzll(point) / 8;
        uint64_t before = (UINT64_C(1) << (8 * whole)) - 1;
        if (whole == 0 || whole + 1 >= length)
            return false;
        bytes = (bytes & before) | (bytes >> 8 & ~before);
        places = --length - whole;
    }
    if ((char)bytes == '0' && length - places > 1)
        return false;
    /* Digits' values, zeros in front of them. */
    uint64_t digits = (bytes ^ ones * '0') << (64 - 8 * length);
    if ((digits | (digits + ones * 0x76)) & highs)
        return false;
    digits = digits * 10 + (digits >> 8); /* pairs */
    digits = ((digits & UINT64_C(0xff000000ff)) * (100 + (UINT64_C(1000000) << 32))
              + (digits >> 16 & UINT64_C(0xff000000ff)) * (1 + (UINT64_C(10000) << 32)))
             >> 32;
    ret_value->e12 = (weir_int128)((weir_uint128)digits * powers_of_ten[WEIR_DECIMAL_PLACES - places]);
    return true;
}

static inline const char *add_digits(const char *at, const char *end, uint64_t *value)
{
    for (; at < end && is_digit(*at); at++)
        *value = *value * 10 + (uint64_t)(*at - '0');
    return at;
}

/* Not many digits, no exponent: in one pass. false: take the long way. */
static bool parse_short(struct weir_slice text, struct weir_decimal *ret_value)
{
    enum { WHOLE_MAX = 18 };
    const char *end = text.data + text.length;
    bool is_negative = text.length > 0 && *text.data == '-';
    const char *from = text.data + is_negative;
    uint64_t whole = 0, fraction = 0;
    const char *at = add_digits(from, end, &whole);

    if (at == from || at - from > WHOLE_MAX || (at - from > 1 && *from == '0'))
        return false;
    if (at < end) {
        const char *point = at++;
        if (*point != '.' || (at = add_digits(at, end, &fraction)) != end || at - point < 2
            || at - point > 1 + WEIR_DECIMAL_PLACES)
            return false;
        fraction *= powers_of_ten[WEIR_DECIMAL_PLACES + 1 - (at - point)];
    }
    weir_int128 value = (weir_int128)whole * WEIR_DECIMAL_ONE + (weir_int128)fraction;
    ret_value->e12 = is_negative ? -value : value;
    return true;
}

static bool is_all_zero(struct weir_slice digits)
{
    for (uint32_t i = 0; i < digits.length; i++)
        if (digits.data[i] != '0')
            return false;
    return true;
}

static __attribute__((noinline)) enum weir_decimal_result parse_any(struct weir_slice text,
                                                                    struct weir_decimal *ret_value)
{
    struct number number;
    weir_uint128 magnitude = 0;

    if (parse_short(text, ret_value))
        return WEIR_DECIMAL_OK;
    if (!split_number(text, &number))
        return WEIR_DECIMAL_SYNTAX;
    if (is_all_zero(number.whole) && is_all_zero(number.fraction)) {
        ret_value->e12 = 0;
        return WEIR_DECIMAL_OK;
    }
    int64_t weight = (int64_t)number.whole.length - 1 + number.exponent + WEIR_DECIMAL_PLACES;
    enum weir_decimal_result result = take_digits(number.whole, &weight, &magnitude);
    if (result == WEIR_DECIMAL_OK)
        result = take_digits(number.fraction, &weight, &magnitude);
    for (; result == WEIR_DECIMAL_OK && weight >= 0 && magnitude; weight--) {
        if (magnitude > MAGNITUDE_MAX / 10)
            result = WEIR_DECIMAL_RANGE;
        else
            magnitude *= 10;
    }
    if (result == WEIR_DECIMAL_OK && !from_magnitude(magnitude, number.is_negative, ret_value))
        result = WEIR_DECIMAL_RANGE;
    return result;
}

enum weir_decimal_result weir_decimal_parse(struct weir_slice text, struct weir_decimal *ret_value)
{
    return __builtin_expect(parse_few(text, ret_value), 1) ? WEIR_DECIMAL_OK : parse_any(text, ret_value);
}

/* The lower digits of units, from the end of text backwards: as many as there are, and at least `least`. Two at a time:
 * each division waits for the one before it. */
static char *write_backwards(uint64_t units, int least, char *to)
{
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142"
        "4344454647484950515253545556575859606162636465666768697071727374757677787980818283848586"
        "87888990919293949596979899";
    char *end = to;

    for (; units >= 10; units /= 100) {
        to -= 2;
        memcpy(to, pairs + 2 * (units % 100), 2);
    }
    if (units)
        *--to = (char)('0' + units);
    while (end - to < least)
        *--to = '0';
    return to;
}

/* Digits of value in units of 10^-places, with the point set. */
static size_t write_digits(weir_uint128 units, bool is_negative, int places, char text[WEIR_DECIMAL_TEXT_MAX])
{
    char digits[DIGITS_MAX + 2], *end = digits + sizeof digits, *to = end;
    size_t length = 0;

    while (units > UINT64_MAX) { /* 18 digits at a time: a 128-bit division is dear */
        weir_uint128 rest = units / UINT64_C(1000000000000000000);
        to = write_backwards((uint64_t)(units - rest * UINT64_C(1000000000000000000)), 18, to);
        units = rest;
    }
    int left = places + 1 - (int)(end - to);
    to = write_backwards((uint64_t)units, left, to);
    size_t count = (size_t)(end - to), whole = count - (size_t)places;
    if (is_negative)
        text[length++] = '-';
    memcpy(text + length, to, whole);
    length += whole;
    if (places) {
        text[length++] = '.';
        memcpy(text + length, to + whole, (size_t)places);
        length += (size_t)places;
    }
    text[length] = '\0';
    return length;
}

size_t weir_decimal_format_places(struct weir_decimal value, int places, char text[WEIR_DECIMAL_TEXT_MAX])
{
    weir_check(places >= 0 && places <= WEIR_DECIMAL_PLACES);
    uint64_t unit = powers_of_ten[WEIR_DECIMAL_PLACES - places];
    weir_uint128 magnitude = magnitude_of(value.e12);
    weir_check(unit == 1 || magnitude % unit == 0);
    return write_digits(unit == 1 ? magnitude : magnitude / unit, value.e12 < 0, places, text);
}

size_t weir_decimal_format(struct weir_decimal value, char text[WEIR_DECIMAL_TEXT_MAX])
{
    return weir_decimal_format_places(value, WEIR_DECIMAL_PLACES, text);
}

size_t weir_decimal_format_short(struct weir_decimal value, char text[WEIR_DECIMAL_TEXT_MAX])
{
    size_t length = weir_decimal_format(value, text);

    while (text[length - 1] == '0')
        length--;
    if (text[length - 1] == '.')
        length--;
    text[length] = '\0';
    return length;
}

/* 2. arithmetic */
bool weir_decimal_scale(struct weir_decimal value, uint64_t count, struct weir_decimal *ret_product)
{
    weir_int128 product;

    if (__builtin_mul_overflow(value.e12, (weir_int128)count, &product) || magnitude_of(product) > MAGNITUDE_MAX)
        return false;
    ret_product->e12 = product;
    return true;
}

/* A 256-bit magnitude. */
struct wide {
    weir_uint128 high, low;
};

static struct wide multiply_wide(weir_uint128 a, weir_uint128 b)
{
    uint64_t a0 = (uint64_t)a, a1 = (uint64_t)(a >> 64), b0 = (uint64_t)b, b1 = (uint64_t)(b >> 64);
    weir_uint128 low = (weir_uint128)a0 * b0, high = (weir_uint128)a1 * b1;
    weir_uint128 cross = (weir_uint128)a0 * b1, other = (weir_uint128)a1 * b0;
    struct wide product;

    weir_uint128 middle = (low >> 64) + (uint64_t)cross + (uint64_t)other;
    product.low = (middle << 64) | (uint64_t)low;
    product.high = high + (cross >> 64) + (other >> 64) + (middle >> 64);
    return product;
}

/* quotient and remainder of a 256-bit magnitude by a 128-bit divisor; false: the quotient needs more than 128 bits. */
static bool divide_wide(struct wide dividend, weir_uint128 divisor, weir_uint128 *ret_quotient,
                        weir_uint128 *ret_remainder)
{
    weir_uint128 remainder = dividend.high, quotient = 0;

    if (dividend.high >= divisor)
        return false;
    if (dividend.high == 0) {
        *ret_quotient = dividend.low / divisor;
        *ret_remainder = dividend.low - *ret_quotient * divisor; /* a division is dear, and a function each */
        return true;
    }
    for (int bit = 127; bit >= 0; bit--) { /* shift and subtract: rare, and easy to believe */
        bool carry = remainder >> 127;
        remainder = remainder << 1 | (dividend.low >> bit & 1);
        quotient <<= 1;
        if (carry || remainder >= divisor) {
            remainder -= divisor;
            quotient |= 1;
        }
    }
    *ret_quotient = quotient;
    *ret_remainder = remainder;
    return true;
}

/* Whether a quotient with this remainder is rounded away from zero. */
static bool rounds_up(weir_uint128 quotient, weir_uint128 remainder, weir_uint128 divisor, enum weir_rounding rounding)
{
    weir_uint128 rest = divisor - remainder;

    if (remainder != rest)
        return remainder > rest;
    return rounding == WEIR_HALF_UP || (quotient & 1);
}

static bool divide_rounded(struct wide dividend, weir_uint128 divisor, enum weir_rounding rounding, bool is_negative,
                           struct weir_decimal *ret_value)
{
    weir_uint128 quotient, remainder;

    if (!divide_wide(dividend, divisor, &quotient, &remainder) || quotient > MAGNITUDE_MAX)
        return false;
    if (rounds_up(quotient, remainder, divisor, rounding))
        quotient++;
    return from_magnitude(quotient, is_negative, ret_value);
}

/* Of magnitudes below 2^64: always within the range, and the remainder is one of 64 bits. */
static struct weir_decimal multiply_narrow(uint64_t x, uint64_t y, bool is_negative)
{
    static const uint64_t one = (uint64_t)WEIR_DECIMAL_ONE;
    weir_uint128 product = (weir_uint128)x * y, quotient = product / one;
    uint64_t remainder = (uint64_t)product - (uint64_t)quotient * one;

    quotient += remainder > one / 2 || (remainder == one / 2 && (quotient & 1));
    return (struct weir_decimal){is_negative ? -(weir_int128)quotient : (weir_int128)quotient};
}

bool weir_decimal_multiply(struct weir_decimal a, struct weir_decimal b, struct weir_decimal *ret_product)
{
    bool is_negative = (a.e12 < 0) != (b.e12 < 0);
    weir_uint128 x = magnitude_of(a.e12), y = magnitude_of(b.e12);

    if ((x | y) >> 64 == 0) {
        *ret_product = multiply_narrow((uint64_t)x, (uint64_t)y, is_negative);
        return true;
    }
    return divide_rounded(multiply_wide(x, y), (weir_uint128)WEIR_DECIMAL_ONE, WEIR_HALF_EVEN, is_negative,
                          ret_product);
}

bool weir_decimal_divide(struct weir_decimal a, struct weir_decimal b, enum weir_rounding rounding,
                         struct weir_decimal *ret_quotient)
{
    if (b.e12 == 0)
        return false;
    return divide_rounded(multiply_wide(magnitude_of(a.e12), (weir_uint128)WEIR_DECIMAL_ONE), magnitude_of(b.e12),
                          rounding, (a.e12 < 0) != (b.e12 < 0), ret_quotient);
}

struct weir_decimal weir_decimal_share(struct weir_decimal amount, struct weir_decimal part, struct weir_decimal whole)
{
    struct weir_decimal share;

    weir_check(part.e12 >= 0 && whole.e12 > 0 && part.e12 <= whole.e12);
    weir_check(divide_rounded(multiply_wide(magnitude_of(amount.e12), magnitude_of(part.e12)), magnitude_of(whole.e12),
                              WEIR_HALF_EVEN, amount.e12 < 0, &share));
    return share;
}

bool weir_decimal_blocks(struct weir_decimal a, struct weir_decimal b, struct weir_decimal *ret_blocks)
{
    weir_check(a.e12 >= 0);
    weir_check(b.e12 > 0);
    weir_int128 blocks = a.e12 / b.e12 + (a.e12 % b.e12 != 0), value;
    if (__builtin_mul_overflow(blocks, WEIR_DECIMAL_ONE, &value))
        return false;
    ret_blocks->e12 = value;
    return true;
}

bool weir_decimal_round(struct weir_decimal value, int places, enum weir_rounding rounding,
                        struct weir_decimal *ret_rounded)
{
    weir_check(places >= 0 && places <= WEIR_DECIMAL_PLACES);
    uint64_t unit = powers_of_ten[WEIR_DECIMAL_PLACES - places];
    weir_uint128 magnitude = magnitude_of(value.e12);
    weir_uint128 quotient = magnitude / unit, remainder = magnitude % unit;
    if (remainder && rounds_up(quotient, remainder, unit, rounding))
        quotient++;
    return from_magnitude(quotient * unit, value.e12 < 0, ret_rounded);
}

/* 3. stored form */
void weir_decimal_store(struct weir_decimal value, unsigned char bytes[16])
{
    weir_uint128 bits = (weir_uint128)value.e12;

    for (int i = 0; i < 16; i++)
        bytes[i] = (unsigned char)(bits >> (8 * i));
}

struct weir_decimal weir_decimal_load(const unsigned char bytes[16])
{
    weir_uint128 bits = 0;

    for (int i = 15; i >= 0; i--)
        bits = bits << 8 | bytes[i];
    return (struct weir_decimal){(weir_int128)bits};
}
