/* The stored forms: what is written is read back, and nothing else is read. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "common/model/line_item.h"
#include "common/model/window.h"

static struct weir_series example(void)
{
    return (struct weir_series){
        .meter = weir_slice_text("tokens"),
        .customer = weir_slice_text("acme"),
        .dimension_count = 2,
        .dimensions = {{weir_slice_text("model"), weir_slice_text("large")},
                       {weir_slice_text("a.b"), weir_slice_text("")}},
    };
}

Test(series, bytes_are_as_the_header_says)
{
    static const char expected[] = "\6\0tokens\4\0acme\2\5\0model\5\0large\3\0a.b\0";
    struct weir_series series = example();
    char bytes[WEIR_SERIES_KEY_MAX];

    cr_assert_eq(weir_series_write(&series, bytes), sizeof expected);
    cr_assert_arr_eq(bytes, expected, sizeof expected);
}

static void assert_same(const struct weir_series *a, const struct weir_series *b)
{
    cr_assert(weir_slice_equal(a->meter, b->meter));
    cr_assert(weir_slice_equal(a->customer, b->customer));
    cr_assert_eq(a->dimension_count, b->dimension_count);
    for (uint32_t i = 0; i < a->dimension_count; i++) {
        cr_assert(weir_slice_equal(a->dimensions[i].name, b->dimensions[i].name));
        cr_assert(weir_slice_equal(a->dimensions[i].text, b->dimensions[i].text));
    }
}

static char fill[WEIR_IDENTIFIER_MAX];

static struct weir_slice random_text(uint32_t max)
{
    uint32_t length = rand() % 3 == 0 ? max : (uint32_t)rand() % (max + 1);
    return weir_slice_of(fill, length);
}

Test(series, what_is_written_is_read_back)
{
    char bytes[WEIR_SERIES_KEY_MAX];

    srand(20260105);
    for (size_t i = 0; i < sizeof fill; i++)
        fill[i] = (char)rand(); /* any bytes: a key is bytes, not text */
    for (int round = 0; round < 2000; round++) {
        struct weir_series series = {.meter = random_text(WEIR_KEY_MAX),
                                     .customer = random_text(WEIR_IDENTIFIER_MAX),
                                     .dimension_count = (uint32_t)rand() % (WEIR_DIMENSIONS_MAX + 1)};
        struct weir_series read;
        for (uint32_t i = 0; i < series.dimension_count; i++)
            series.dimensions[i] =
                (struct weir_dimension){random_text(WEIR_PATH_TEXT_MAX), random_text(WEIR_IDENTIFIER_MAX)};
        size_t length = weir_series_write(&series, bytes);
        cr_assert_leq(length, (size_t)WEIR_SERIES_KEY_MAX);
        cr_assert(weir_series_parse(weir_slice_of(bytes, length), &read));
        assert_same(&series, &read);
    }
}

/* In a buffer of just that size, so that ASan sees a byte read too far. */
static bool parses(const char *bytes, size_t length)
{
    struct weir_series series;
    char *copy = malloc(length ? length : 1);

    memcpy(copy, bytes, length);
    bool is_series = weir_series_parse(weir_slice_of(copy, length), &series);
    free(copy);
    return is_series;
}

Test(series, nothing_else_is_read)
{
    struct weir_series series = example();
    char bytes[WEIR_SERIES_KEY_MAX + 1] = {0}, changed[WEIR_SERIES_KEY_MAX + 1];
    size_t length = weir_series_write(&series, bytes);

    for (size_t shorter = 0; shorter < length; shorter++)
        cr_assert_not(parses(bytes, shorter), "cut at %zu", shorter);
    cr_assert_not(parses(bytes, length + 1), "a byte too many");
    static const struct {
        size_t at;
        char value;
        const char *why;
    } changes[] = {
        {0, WEIR_KEY_MAX + 1, "meter too long"},    {1, 1, "meter longer than the bytes"},
        {9, 2, "customer longer than the bytes"},   {14, WEIR_DIMENSIONS_MAX + 1, "too many dimensions"},
        {14, 1, "a dimension behind the last one"}, {14, 3, "a dimension too few"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        memcpy(changed, bytes, sizeof changed);
        changed[changes[i].at] = changes[i].value;
        cr_assert_not(parses(changed, length), "%s", changes[i].why);
    }
    for (int round = 0; round < 20000; round++) { /* no bytes are read beyond the end, whatever they say */
        size_t size = (size_t)rand() % 40;
        for (size_t i = 0; i < size; i++)
            changed[i] = (char)(rand() % 6);
        (void)parses(changed, size);
    }
}

Test(total, is_forty_eight_bytes)
{
    struct weir_window_total total = {
        .events = 0x0102030405060708, .value = {-1}, .latest_time = 2, .latest_offset = 3, .retracted = 4};
    static const unsigned char expected[WEIR_WINDOW_TOTAL_BYTES] = {
        8,    7,    6,    5,    4,    3,    2,    1,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,    0,    0,    0,    0,    0,    0,    0,
        3,    0,    0,    0,    0,    0,    0,    0,    4,    0,    0,    0,    0,    0,    0,    0};
    unsigned char bytes[WEIR_WINDOW_TOTAL_BYTES];

    weir_window_total_store(&total, bytes);
    cr_assert_arr_eq(bytes, expected, sizeof bytes);
    struct weir_window_total read = weir_window_total_load(bytes);
    cr_assert(read.events == total.events && read.value.e12 == -1 && read.latest_time == 2 && read.latest_offset == 3
              && read.retracted == 4);
}

/* The words that reach quarantine records, rows and metrics: each there, each once. */
static void assert_names(const char *const *names, int count)
{
    for (int i = 0; i < count; i++) {
        cr_assert_not_null(names[i]);
        for (int j = 0; j < i; j++)
            cr_assert_str_neq(names[i], names[j]);
    }
}

Test(names, are_complete_and_distinct)
{
    assert_names(weir_reason_name, WEIR_REASON_COUNT);
    assert_names(weir_kind_name, WEIR_KIND_COUNT);
    assert_names(weir_component_name, WEIR_COMPONENT_COUNT);
    cr_assert_str_eq(weir_reason_name[WEIR_REASON_TOO_LATE], "too_late");
    cr_assert_str_eq(weir_kind_name[WEIR_KIND_TRUE_UP], "true_up");
    cr_assert_str_eq(weir_component_name[WEIR_COMPONENT_FREE_UNITS], "free_units");
}
