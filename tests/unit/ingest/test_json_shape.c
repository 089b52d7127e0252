/* Texts of a known shape: exactly those that differ in scalars are read, with the values where they stand. */
#include "ingest/json_shape.h"

#include "tests/unit/ingest/ingest_support.h"

enum { NAME = 1, COUNT, FLAG, INNER, DEPTH = 8, SLOTS = 5, DEPTH_OTHER = 7 };

static const char known[] = "{\"name\":\"x\",\"inner\":{\"count\":1},\"flag\":true}";
static const struct weir_json_note notes[] = {
    {0, 0, 0, WEIR_JSON_OBJECT},       {8, 11, NAME, WEIR_JSON_SCALAR},  {20, 0, INNER, WEIR_JSON_OBJECT},
    {29, 30, COUNT, WEIR_JSON_SCALAR}, {30, 0, INNER, WEIR_JSON_CLOSED}, {39, 43, FLAG, WEIR_JSON_SCALAR},
    {43, 0, 0, WEIR_JSON_CLOSED},
};

struct bench {
    struct weir_json_paths *paths;
    struct weir_json_shapes *shapes;
    const struct weir_json_node *node;
    struct weir_json_value values[SLOTS];
    char scratch[4096];
};

static void learn(struct bench *bench)
{
    struct weir_json_notes all = {0};

    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        weir_json_note(&all, notes[i]);
    weir_json_shapes_learn(bench->shapes, weir_slice_text(known), bench->node, DEPTH, &all);
}

/* Each test is one of both ways to read. */
#define TEST_BOTH(NAME)                                                                                                \
    static void NAME(bool is_wide);                                                                                    \
    Test(json_shape, NAME##_without_avx2)                                                                              \
    {                                                                                                                  \
        NAME(false);                                                                                                   \
    }                                                                                                                  \
    Test(json_shape, NAME)                                                                                             \
    {                                                                                                                  \
        NAME(true);                                                                                                    \
    }                                                                                                                  \
    static void NAME(bool is_wide)

static struct bench *bench_new(bool is_wide)
{
    struct bench *bench = calloc(1, sizeof *bench);
    bench->paths = weir_json_paths_new();
    bench->shapes = weir_json_shapes_new();
    if (!weir_json_shapes_widen(bench->shapes, is_wide))
        cr_skip_test("this processor has no AVX2");
    bench->node = weir_json_paths_root(bench->paths);
    learn(bench);
    return bench;
}

static void bench_free(struct bench *bench)
{
    weir_json_shapes_free(bench->shapes);
    weir_json_paths_free(bench->paths);
    free(bench);
}

static enum weir_json_shape_result try_to_read(struct bench *bench, struct weir_slice text)
{
    memset(bench->values, 0, sizeof bench->values);
    return weir_json_shapes_read(bench->shapes, text, bench->node, DEPTH, bench->values, bench->scratch);
}

/* Whether it is read, at the second try if the first one was left to the walk, to be learned from. */
static bool is_known(struct bench *bench, const char *text, size_t length)
{
    bool is_read = false;

    for (int i = 0; i < 2 && !is_read; i++)
        is_read = try_to_read(bench, weir_slice_of(text, length)) == WEIR_JSON_SHAPE_READ;
    return is_read;
}

/* If it is not, the bench reads its own shape some times, lest it rests from misses. */
static bool reads(struct bench *bench, const char *text, size_t length)
{
    bool is_read = is_known(bench, text, length);

    for (int i = 0; i < 4 && !is_read; i++)
        cr_assert(is_known(bench, known, sizeof known - 1));
    return is_read;
}

static void is_text(const struct weir_json_value *value, enum weir_value_kind kind, const char *text)
{
    cr_assert_eq(value->value.kind, kind);
    cr_assert(weir_slice_equal(value->value.text, weir_slice_text(text)), "%.*s", (int)value->value.text.length,
              value->value.text.data);
}

TEST_BOTH(values)
{
    struct bench *bench = bench_new(is_wide);
    static const char text[] = "{\"name\":\"a \\\"b\\\"\",\"inner\":{\"count\":-1.5e3},\"flag\":null}";

    cr_assert(reads(bench, text, sizeof text - 1));
    is_text(&bench->values[NAME], WEIR_VALUE_STRING, "a \"b\"");
    is_text(&bench->values[COUNT], WEIR_VALUE_NUMBER, "-1.5e3");
    is_text(&bench->values[FLAG], WEIR_VALUE_NULL, "");
    is_text(&bench->values[INNER], WEIR_VALUE_OBJECT, "");
    cr_assert_eq(bench->values[NAME].begin, 8);
    cr_assert_eq(bench->values[NAME].end, 17);
    cr_assert_eq(memcmp(text + bench->values[INNER].begin, "{\"count\":-1.5e3}",
                        bench->values[INNER].end - bench->values[INNER].begin),
                 0);
    cr_assert_eq(bench->values[INNER].end - bench->values[INNER].begin, 16);
    bench_free(bench);
}

TEST_BOTH(what_is_of_the_shape)
{
    static const struct {
        const char *name, *count, *flag;
        bool is_read;
    } cases[] = {
        {"\"\"", "0", "false", true},
        {"\"caf\xc3\xa9\"", "12345678901234567890", "0.0", true},
        {"\"a text of more than one block, and one more\"", "1", "1", true},
        {"\"\\u00e9\\\\\"", "1", "1", true},
        {"1", "1", "1", false},
        {"\"x\"", "\"1\"", "1", false},
        {"\"x\"", "{}", "1", false},
        {"\"x\"", "01", "1", false},
        {"\"x\"", "1.", "1", false},
        {"\"x\"", "+1", "1", false},
        {"\"x\"", "0.5", "1", true},
        {"\"x\"", "-0.5", "1", true},
        {"\"x\"", "00.5", "1", false},
        {"\"x\"", "1.5.2", "1", false},
        {"\"x\"", "1.e5", "1", false},
        {"\"x\"", ".5", "1", false},
        {"\"x\"", "1e5", "1", true},
        {"\"x\"", "1.5E-5", "1", true},
        {"\"x\"", "1.5e", "1", false},
        {"\"x\"", "1/5", "1", false},
        {"\"x\"", "1:5", "1", false},
        {"\"x\"", "12345678901234", "1", true},
        {"\"x\"", "123456789012345", "1", true},
        {"\"x\"", "1234567890123456", "1", true},
        {"\"x\"", "1234567.1234567", "1", true},
        {"\"x\"", "1234567.12345678", "1", true},
        {"\"x\"", "123456789012345.1", "1", true},
        {"\"x\"", "1234567.1234567e1", "1", true},
        {"\"x\"", " 1", "1", false},
        {"\"x\"", "1 ", "1", false},
        {"\"x\"", "", "1", false},
        {"\"x\"", "1", "tru", false},
        {"\"x\"", "1", "truex", false},
        {"\"x\"", "1", "nul", false},
        {"\"x\"", "1", "[]", false},
        {"\"x\"", "1", "1,\"y\":2", false},
        {"\"x\"y\"", "1", "1", false},
        {"\"\n\"", "1", "1", false},
        {"\"\x1f\"", "1", "1", false},
        {"\"\xff\"", "1", "1", false},
        {"\"a text of more than one block, and a bad byte \xc3 in it\"", "1", "1", false},
        {"\"\\x\"", "1", "1", false},
        {"\"\\u0000\"", "1", "1", false},
        {"\"\\ud800\"", "1", "1", false},
        {"\"\\\"", "1", "1", false},
    };
    struct bench *bench = bench_new(is_wide);
    char text[256];

    for (size_t i = 0; i < 2 * (sizeof cases / sizeof *cases); i++) {
        size_t which = i / 2;
        /* Numbers near the text's end are read otherwise. */
        const char *flag = i % 2 && strcmp(cases[which].flag, "1") == 0 ? "1.00000000000000000000" : cases[which].flag;
        int length = sprintf(text, "{\"name\":%s,\"inner\":{\"count\":%s},\"flag\":%s}", cases[which].name,
                             cases[which].count, flag);
        cr_expect_eq(reads(bench, text, (size_t)length), cases[which].is_read, "%s", text);
        if (cases[which].is_read)
            is_text(&bench->values[COUNT], WEIR_VALUE_NUMBER, cases[which].count);
    }
    bench_free(bench);
}

/* Strings of every length, with what ends or spoils them at every place: wherever blocks and the text end. */
static void check_strings(struct bench *bench, const char *rest)
{
    static const char spoilers[] = "\"\\\n\xff";
    char text[256];

    for (size_t length = 0; length < 70; length++) {
        size_t at = (size_t)sprintf(text, "{\"name\":\"");
        memset(text + at, 'x', length);
        size_t all = at + length + (size_t)sprintf(text + at + length, "%s", rest);
        struct guarded whole = guard(text, all);
        cr_assert(reads(bench, whole.text.data, all));
        cr_assert_eq(bench->values[NAME].value.text.length, length);
        unguard(&whole);
        for (size_t i = 0; i < length; i++)
            for (const char *spoiler = spoilers; *spoiler; spoiler++) {
                text[at + i] = *spoiler;
                cr_assert_not(reads(bench, text, all), "%s", text);
                text[at + i] = 'x';
            }
    }
}

TEST_BOTH(strings_of_any_length)
{
    static const char last[] = "{\"name\":\"x\"}";
    static const struct weir_json_note in_last[] = {
        {0, 0, 0, WEIR_JSON_OBJECT}, {8, 11, NAME, WEIR_JSON_SCALAR}, {11, 0, 0, WEIR_JSON_CLOSED}};
    struct bench *bench = bench_new(is_wide);
    struct weir_json_notes all = {0};

    check_strings(bench, "\",\"inner\":{\"count\":1},\"flag\":2}");
    for (size_t i = 0; i < sizeof in_last / sizeof *in_last; i++)
        weir_json_note(&all, in_last[i]);
    weir_json_shapes_learn(bench->shapes, weir_slice_text(last), bench->node, DEPTH, &all);
    check_strings(bench, "\"}");
    bench_free(bench);
}

/* Every beginning of the text, and every text that differs in one byte of a literal. */
TEST_BOTH(literals_are_exact)
{
    struct bench *bench = bench_new(is_wide);
    char text[sizeof known];

    for (size_t length = 0; length < sizeof known - 1; length++) {
        struct guarded cut = guard(known, length);
        cr_assert_not(reads(bench, cut.text.data, length));
        unguard(&cut);
    }
    for (size_t i = 0; i < sizeof known - 1; i++) {
        bool is_scalars = i == 9 || i == 29;
        memcpy(text, known, sizeof known);
        text[i] = '7';
        cr_assert_eq(reads(bench, text, sizeof known - 1), is_scalars, "%s", text);
    }
    bench_free(bench);
}

/* Another place to begin at, or another depth that is allowed, is another shape. */
/* Literals of all lengths, so that they end anywhere in a block; each of their bytes counts. */
TEST_BOTH(literals_of_any_length)
{
    enum { KEY_MAX = 110 };
    char text[3 * KEY_MAX];

    for (size_t length = 0; length < KEY_MAX; length++) {
        struct bench *bench = bench_new(is_wide);
        struct weir_json_notes all = {0};
        size_t at = (size_t)sprintf(text, "{\"%0*d\":1,\"name\":", (int)length + 1, 0);
        size_t all_length = at + (size_t)sprintf(text + at, "\"x\",\"%0*d\":[]}", (int)length + 2, 0);
        const struct weir_json_note made[] = {
            {0, 0, 0, WEIR_JSON_OBJECT},
            {(uint32_t)length + 5, (uint32_t)length + 6, COUNT, WEIR_JSON_SCALAR},
            {(uint32_t)at, (uint32_t)at + 3, NAME, WEIR_JSON_SCALAR},
            {(uint32_t)all_length - 3, 0, INNER, WEIR_JSON_ARRAY},
            {(uint32_t)all_length - 2, 0, INNER, WEIR_JSON_CLOSED},
            {(uint32_t)all_length - 1, 0, 0, WEIR_JSON_CLOSED},
        };
        for (size_t i = 0; i < sizeof made / sizeof *made; i++)
            weir_json_note(&all, made[i]);
        weir_json_shapes_learn(bench->shapes, weir_slice_of(text, all_length), bench->node, DEPTH, &all);
        struct guarded whole = guard(text, all_length);
        cr_assert(reads(bench, whole.text.data, all_length), "%s", text);
        cr_assert_eq(bench->values[INNER].begin, all_length - 3);
        cr_assert_eq(bench->values[INNER].end, all_length - 1);
        is_text(&bench->values[COUNT], WEIR_VALUE_NUMBER, "1");
        unguard(&whole);
        for (size_t cut = 1; cut < all_length; cut++) {
            whole = guard(text, cut);
            ((char *)(uintptr_t)whole.text.data)[cut - 1] = '}';
            cr_assert_not(reads(bench, whole.text.data, cut));
            unguard(&whole);
        }
        for (size_t i = 0; i < all_length; i++) {
            char was = text[i];
            if (i == length + 5 || i == at + 1) /* the scalars */
                continue;
            text[i] = was == 'y' ? 'z' : 'y';
            cr_assert_not(reads(bench, text, all_length), "%s", text);
            text[i] = was;
        }
        bench_free(bench);
    }
}

TEST_BOTH(where_it_begins)
{
    struct bench *bench = bench_new(is_wide);
    const struct weir_slice step = weir_slice_text("inner");

    (void)weir_json_paths_add(bench->paths, &step, 1);
    cr_assert_eq(weir_json_shapes_read(bench->shapes, weir_slice_text(known), weir_json_paths_below(bench->paths, step),
                                       DEPTH, bench->values, bench->scratch),
                 WEIR_JSON_SHAPE_WANTED);
    cr_assert_eq(weir_json_shapes_read(bench->shapes, weir_slice_text(known), bench->node, DEPTH_OTHER, bench->values,
                                       bench->scratch),
                 WEIR_JSON_SHAPE_WANTED);
    bench_free(bench);
}

/* Where hardly any text is of a known shape, it is not tried for some time, and then again. */
TEST_BOTH(rests_from_misses)
{
    struct bench *bench = bench_new(is_wide);
    int tried = 0, resting = 0;

    for (int i = 0; i < 10000; i++) {
        enum weir_json_shape_result result = try_to_read(bench, weir_slice_text("{\"other\":1}"));
        cr_assert_neq(result, WEIR_JSON_SHAPE_READ);
        tried += result == WEIR_JSON_SHAPE_WANTED;
        resting += result == WEIR_JSON_SHAPE_UNKNOWN;
    }
    cr_assert(tried > 50 && tried < 500, "%d", tried);
    for (int i = 0; i < 1200; i++)
        (void)try_to_read(bench, weir_slice_text(known));
    cr_assert(reads(bench, known, sizeof known - 1));
    bench_free(bench);
}

/* A shape too large to be kept does no harm. */
TEST_BOTH(too_large)
{
    struct bench *bench = bench_new(is_wide);
    struct weir_json_notes many = {0};
    char text[WEIR_JSON_SHAPE_BYTES_MAX + 64];
    int length = sprintf(text, "{\"%0*d\":1}", WEIR_JSON_SHAPE_BYTES_MAX, 0);

    weir_json_note(&many, (struct weir_json_note){0, 0, 0, WEIR_JSON_OBJECT});
    weir_json_note(&many, (struct weir_json_note){(uint32_t)length - 2, (uint32_t)length - 1, 0, WEIR_JSON_SCALAR});
    weir_json_note(&many, (struct weir_json_note){(uint32_t)length - 1, 0, 0, WEIR_JSON_CLOSED});
    weir_json_shapes_learn(bench->shapes, weir_slice_of(text, (size_t)length), bench->node, DEPTH, &many);
    cr_assert_neq(try_to_read(bench, weir_slice_of(text, (size_t)length)), WEIR_JSON_SHAPE_READ);
    for (int i = 0; i < 2 * WEIR_JSON_NOTES_MAX; i++)
        weir_json_note(&many, (struct weir_json_note){1, 0, 0, WEIR_JSON_OBJECT});
    weir_json_shapes_learn(bench->shapes, weir_slice_of(text, (size_t)length), bench->node, DEPTH, &many);
    cr_assert(reads(bench, known, sizeof known - 1));
    bench_free(bench);
}
