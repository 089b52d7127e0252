/* The decimals' edges, by hand; the many thousands of others are in tests/oracle/test_decimal_oracle.py. */
#include <criterion/criterion.h>

#include "common/decimal.h"

static struct weir_decimal read_decimal(const char *text)
{
    struct weir_decimal value = {0};
    cr_assert_eq(weir_decimal_parse(weir_slice_text(text), &value), WEIR_DECIMAL_OK, "%s", text);
    return value;
}

static void assert_is(struct weir_decimal value, const char *text)
{
    char found[WEIR_DECIMAL_TEXT_MAX];
    cr_assert_eq(weir_decimal_format_short(value, found), strlen(text), "%s, not %s", found, text);
    cr_assert_str_eq(found, text);
}

Test(decimal, reads_json_numbers_exactly)
{
    static const struct {
        const char *text, *value;
    } cases[] = {
        {"0", "0"},
        {"-0", "0"},
        {"1.50", "1.5"},
        {"15e-1", "1.5"},
        {"0.000000000001", "0.000000000001"},
        {"1e-12", "0.000000000001"},
        {"10e-13", "0.000000000001"},
        {"1E+2", "100"},
        {"0e999999999999", "0"},
        {"-12.25", "-12.25"},
        {"0.1", "0.1"},
        {"170141183460469231731687303.715884105727", "170141183460469231731687303.715884105727"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_is(read_decimal(cases[i].text), cases[i].value);
}

Test(decimal, says_why_it_cannot_read)
{
    static const struct {
        const char *text;
        enum weir_decimal_result result;
    } cases[] = {
        {"", WEIR_DECIMAL_SYNTAX},
        {"+1", WEIR_DECIMAL_SYNTAX},
        {"01", WEIR_DECIMAL_SYNTAX},
        {"1.", WEIR_DECIMAL_SYNTAX},
        {".5", WEIR_DECIMAL_SYNTAX},
        {"1e", WEIR_DECIMAL_SYNTAX},
        {"1 ", WEIR_DECIMAL_SYNTAX},
        {"NaN", WEIR_DECIMAL_SYNTAX},
        {"1e-13", WEIR_DECIMAL_PRECISION},
        {"1e-400", WEIR_DECIMAL_PRECISION},
        {"1e27", WEIR_DECIMAL_RANGE},
        {"1e999999999999", WEIR_DECIMAL_RANGE},
        {"170141183460469231731687303.715884105728", WEIR_DECIMAL_RANGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct weir_decimal value = {.e12 = 7};
        cr_assert_eq(weir_decimal_parse(weir_slice_text(cases[i].text), &value), cases[i].result, "%s", cases[i].text);
        cr_assert(value.e12 == 7, "%s: what cannot be read leaves the result alone", cases[i].text);
    }
}

/* The text need not end where the number ends: a slice of a message has other bytes behind it. */
Test(decimal, reads_no_further_than_the_slice)
{
    struct weir_decimal value;
    cr_assert_eq(weir_decimal_parse(weir_slice_of("12.5e3", 4), &value), WEIR_DECIMAL_OK);
    assert_is(value, "12.5");
    cr_assert_eq(weir_decimal_parse(weir_slice_of(NULL, 0), &value), WEIR_DECIMAL_SYNTAX);
}

/* Short texts have a way of their own; with an exponent, none has it. */
Test(decimal, short_texts_are_read_as_long_ones_are)
{
    static const char letters[] = "019./:-";
    enum { LETTERS = sizeof letters - 1, LONGEST = 6, RANDOM = 200000 };
    unsigned state = 1;

    for (size_t length = 1, count = LETTERS; length <= 10; length++, count *= LETTERS) {
        size_t cases = length <= LONGEST ? count : RANDOM;
        for (size_t i = 0; i < cases; i++) {
            char text[32];
            size_t rest = i;
            for (size_t j = 0; j < length; j++, rest /= LETTERS) {
                state = state * 1103515245u + 12345u;
                text[j] = length <= LONGEST ? letters[rest % LETTERS] : "0123456789."[(state >> 16) % 11];
            }
            struct weir_decimal plain = {7}, long_way = {7};
            char *exact = memcpy(malloc(length), text, length); /* so that a byte too many is seen */
            enum weir_decimal_result result = weir_decimal_parse(weir_slice_of(exact, length), &plain);
            free(exact);
            memcpy(text + length, "e0", 2);
            cr_assert_eq(weir_decimal_parse(weir_slice_of(text, length + 2), &long_way), result, "%.*s", (int)length,
                         text);
            cr_assert(plain.e12 == long_way.e12, "%.*s", (int)length, text);
        }
    }
}

Test(decimal, overflow_is_a_result_and_never_a_wrap)
{
    struct weir_decimal max = weir_decimal_max(), min = weir_decimal_negate(max), one = weir_decimal_of(1);
    struct weir_decimal step = {.e12 = 1}, result = {.e12 = 7};

    cr_assert_not(weir_decimal_add(max, step, &result));
    cr_assert_not(weir_decimal_subtract(min, step, &result)); /* -2^127 exists in 128 bits, and is out of range */
    cr_assert_not(weir_decimal_multiply(max, weir_decimal_of(2), &result));
    cr_assert_not(weir_decimal_multiply(max, (struct weir_decimal){WEIR_DECIMAL_ONE + 1}, &result));
    cr_assert_not(weir_decimal_divide(max, (struct weir_decimal){WEIR_DECIMAL_ONE - 1}, WEIR_HALF_EVEN, &result));
    cr_assert_not(weir_decimal_divide(one, weir_decimal_of(0), WEIR_HALF_EVEN, &result));
    cr_assert_not(weir_decimal_scale(max, 2, &result));
    cr_assert_not(weir_decimal_blocks(max, step, &result));
    cr_assert_not(weir_decimal_round(max, 0, WEIR_HALF_UP, &result));
    cr_assert(result.e12 == 7);
    cr_assert(weir_decimal_multiply(max, one, &result) && result.e12 == max.e12);
    cr_assert(weir_decimal_divide(min, one, WEIR_HALF_EVEN, &result) && result.e12 == min.e12);
    cr_assert(weir_decimal_subtract(max, max, &result) && weir_decimal_is_zero(result));
}

Test(decimal, ties_go_to_even_or_up_as_asked)
{
    static const struct {
        const char *value;
        int places;
        const char *even, *up;
    } cases[] = {
        {"0.5", 0, "0", "1"},
        {"1.5", 0, "2", "2"},
        {"2.5", 0, "2", "3"},
        {"-0.5", 0, "0", "-1"},
        {"-2.5", 0, "-2", "-3"},
        {"0.125", 2, "0.12", "0.13"},
        {"0.135", 2, "0.14", "0.14"},
        {"0.125000000001", 2, "0.13", "0.13"},
        {"0.124999999999", 2, "0.12", "0.12"},
        {"9.995", 2, "10", "10"},
        {"1.000000000001", 12, "1.000000000001", "1.000000000001"},
    };
    struct weir_decimal rounded;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct weir_decimal value = read_decimal(cases[i].value);
        cr_assert(weir_decimal_round(value, cases[i].places, WEIR_HALF_EVEN, &rounded));
        assert_is(rounded, cases[i].even);
        cr_assert(weir_decimal_round(value, cases[i].places, WEIR_HALF_UP, &rounded));
        assert_is(rounded, cases[i].up);
    }
}

Test(decimal, products_are_exact_before_they_are_rounded)
{
    struct weir_decimal product;

    /* 256 bits in between: the product of the units is far beyond 2^128. */
    cr_assert(
        weir_decimal_multiply(read_decimal("123456789012345678.9"), read_decimal("987654321.987654321"), &product));
    assert_is(product, "121932631246761163236092059.0112635269");
    cr_assert(weir_decimal_multiply(read_decimal("0.0000005"), read_decimal("0.000001"), &product)); /* a tie at 0 */
    assert_is(product, "0");
    cr_assert(weir_decimal_multiply(read_decimal("0.0000015"), read_decimal("0.000001"), &product)); /* a tie at 1 */
    assert_is(product, "0.000000000002");
}

Test(decimal, writes_places_as_asked)
{
    char text[WEIR_DECIMAL_TEXT_MAX];

    weir_decimal_format(read_decimal("-0.5"), text);
    cr_assert_str_eq(text, "-0.500000000000");
    weir_decimal_format(read_decimal("-0"), text);
    cr_assert_str_eq(text, "0.000000000000");
    weir_decimal_format(weir_decimal_negate(weir_decimal_max()), text);
    cr_assert_str_eq(text, "-170141183460469231731687303.715884105727");
    weir_decimal_format_places(read_decimal("12.3"), 2, text);
    cr_assert_str_eq(text, "12.30");
    weir_decimal_format_places(read_decimal("12"), 0, text);
    cr_assert_str_eq(text, "12");
}

Test(decimal, blocks_are_started_blocks)
{
    struct weir_decimal blocks;

    cr_assert(weir_decimal_blocks(weir_decimal_of(0), weir_decimal_of(100), &blocks));
    assert_is(blocks, "0");
    cr_assert(weir_decimal_blocks(read_decimal("0.000000000001"), weir_decimal_of(100), &blocks));
    assert_is(blocks, "1");
    cr_assert(weir_decimal_blocks(weir_decimal_of(100), weir_decimal_of(100), &blocks));
    assert_is(blocks, "1");
    cr_assert(weir_decimal_blocks(read_decimal("100.000000000001"), weir_decimal_of(100), &blocks));
    assert_is(blocks, "2");
}

Test(decimal, shares_add_up_to_the_whole)
{
    static const int64_t parts[] = {1, 2, 0, 3000000000000, 7, 999999999999};
    struct weir_decimal whole = {0}, through = {0}, before = {0}, sum = {0};

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        whole.e12 += parts[i];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        through.e12 += parts[i];
        struct weir_decimal share = weir_decimal_share(whole.e12 > 5 ? weir_decimal_of(2) : whole, through, whole);
        cr_expect(share.e12 >= before.e12 && share.e12 - before.e12 <= parts[i]);
        sum.e12 += share.e12 - before.e12;
        before = share;
    }
    cr_expect_eq(sum.e12, weir_decimal_of(2).e12);
    /* a product that needs 256 bits, rounded half-even */
    struct weir_decimal large = weir_decimal_of(INT64_MAX);
    cr_expect_eq(weir_decimal_share(large, large, large).e12, large.e12);
    cr_expect_eq(weir_decimal_share((struct weir_decimal){3}, (struct weir_decimal){1}, (struct weir_decimal){2}).e12,
                 2);
    cr_expect_eq(weir_decimal_share((struct weir_decimal){1}, (struct weir_decimal){1}, (struct weir_decimal){2}).e12,
                 0);
}

Test(decimal, the_stored_form_is_sixteen_bytes_little_endian)
{
    static const unsigned char minus_two[16] = {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    unsigned char bytes[16];

    weir_decimal_store((struct weir_decimal){-2}, bytes);
    cr_assert_arr_eq(bytes, minus_two, sizeof bytes);
    cr_assert(weir_decimal_load(bytes).e12 == -2);
    weir_decimal_store(weir_decimal_max(), bytes);
    cr_assert_eq(bytes[15], 0x7f);
    cr_assert(weir_decimal_load(bytes).e12 == weir_decimal_max().e12);
}
