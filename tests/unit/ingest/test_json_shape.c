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

static struct bench *bench_new(void)
{
    struct bench *bench = calloc(1, sizeof *bench);
    bench->paths = weir_json_paths_new();
    bench->shapes = weir_json_shapes_new();
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

/* Whether it is read, at the second try if the first one was left to the walk, to be learned from. */
static bool is_known(struct bench *bench, const char *text, size_t length)
{
    bool is_wanted, is_read = false;

    for (int i = 0; i < 2 && !is_read; i++) {
        memset(bench->values, 0, sizeof bench->values);
        is_read = weir_json_shapes_read(bench->shapes, weir_slice_of(text, length), bench->node, DEPTH, bench->values,
                                        bench->scratch, &is_wanted);
    }
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

Test(json_shape, values)
{
    struct bench *bench = bench_new();
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

Test(json_shape, what_is_of_the_shape)
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
    struct bench *bench = bench_new();
    char text[256];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int length = sprintf(text, "{\"name\":%s,\"inner\":{\"count\":%s},\"flag\":%s}", cases[i].name, cases[i].count,
                             cases[i].flag);
        cr_expect_eq(reads(bench, text, (size_t)length), cases[i].is_read, "%s", text);
    }
    bench_free(bench);
}

/* Strings of every length, with what ends or spoils them at every place: wherever blocks and the text end. */
Test(json_shape, strings_of_any_length)
{
    struct bench *bench = bench_new();
    static const char spoilers[] = "\"\\\n\xff";
    char text[256];

    for (size_t length = 0; length < 70; length++) {
        size_t at = (size_t)sprintf(text, "{\"name\":\"");
        memset(text + at, 'x', length);
        size_t all = at + length + (size_t)sprintf(text + at + length, "\",\"inner\":{\"count\":1},\"flag\":2}");
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
    bench_free(bench);
}

/* Every beginning of the text, and every text that differs in one byte of a literal. */
Test(json_shape, literals_are_exact)
{
    struct bench *bench = bench_new();
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
Test(json_shape, where_it_begins)
{
    struct bench *bench = bench_new();
    const struct weir_slice step = weir_slice_text("inner");
    bool is_wanted;

    (void)weir_json_paths_add(bench->paths, &step, 1);
    cr_assert_not(weir_json_shapes_read(bench->shapes, weir_slice_text(known),
                                        weir_json_paths_below(bench->paths, step), DEPTH, bench->values, bench->scratch,
                                        &is_wanted));
    cr_assert(is_wanted);
    cr_assert_not(weir_json_shapes_read(bench->shapes, weir_slice_text(known), bench->node, DEPTH_OTHER, bench->values,
                                        bench->scratch, &is_wanted));
    bench_free(bench);
}

/* Where hardly any text is of a known shape, it is not tried for some time, and then again. */
Test(json_shape, rests_from_misses)
{
    struct bench *bench = bench_new();
    bool is_wanted = true;
    int tried = 0, resting = 0;

    for (int i = 0; i < 10000; i++) {
        cr_assert_not(weir_json_shapes_read(bench->shapes, weir_slice_text("{\"other\":1}"), bench->node, DEPTH,
                                            bench->values, bench->scratch, &is_wanted));
        tried += is_wanted;
        resting += !is_wanted;
    }
    cr_assert(tried > 50 && tried < 500, "%d", tried);
    for (int i = 0; i < 1200; i++)
        (void)weir_json_shapes_read(bench->shapes, weir_slice_text(known), bench->node, DEPTH, bench->values,
                                    bench->scratch, &is_wanted);
    cr_assert(reads(bench, known, sizeof known - 1));
    bench_free(bench);
}

/* A shape too large to be kept does no harm. */
Test(json_shape, too_large)
{
    struct bench *bench = bench_new();
    struct weir_json_notes many = {0};
    char text[WEIR_JSON_SHAPE_BYTES_MAX + 64];
    int length = sprintf(text, "{\"%0*d\":1}", WEIR_JSON_SHAPE_BYTES_MAX, 0);
    bool is_wanted;

    weir_json_note(&many, (struct weir_json_note){0, 0, 0, WEIR_JSON_OBJECT});
    weir_json_note(&many, (struct weir_json_note){(uint32_t)length - 2, (uint32_t)length - 1, 0, WEIR_JSON_SCALAR});
    weir_json_note(&many, (struct weir_json_note){(uint32_t)length - 1, 0, 0, WEIR_JSON_CLOSED});
    weir_json_shapes_learn(bench->shapes, weir_slice_of(text, (size_t)length), bench->node, DEPTH, &many);
    cr_assert_not(weir_json_shapes_read(bench->shapes, weir_slice_of(text, (size_t)length), bench->node, DEPTH,
                                        bench->values, bench->scratch, &is_wanted));
    for (int i = 0; i < 2 * WEIR_JSON_NOTES_MAX; i++)
        weir_json_note(&many, (struct weir_json_note){1, 0, 0, WEIR_JSON_OBJECT});
    weir_json_shapes_learn(bench->shapes, weir_slice_of(text, (size_t)length), bench->node, DEPTH, &many);
    cr_assert(reads(bench, known, sizeof known - 1));
    bench_free(bench);
}
