/* The walk against a list of texts with known verdicts, and against jansson on these and on mutations of them. */
#include "ingest/json_walk.h"
#include "tests/unit/ingest/ingest_support.h"
#include "tests/unit/ingest/json_oracle.h"

struct sample {
    const char *text;
    size_t length;
    bool is_json;
};
#define Y(literal)                                                                                                     \
    {                                                                                                                  \
        literal, sizeof(literal) - 1, true                                                                             \
    }
#define N(literal)                                                                                                     \
    {                                                                                                                  \
        literal, sizeof(literal) - 1, false                                                                            \
    }

static const struct sample samples[] = {
    /* arrays */
    Y("[]"),
    Y("[ ]"),
    Y(" [] "),
    Y("[[]]"),
    Y("[[],[]]"),
    Y("[1]"),
    Y("[1,2]"),
    Y("[\n1\t,\r2 ]"),
    Y("[null]"),
    Y("[true,false,null]"),
    Y("[\"\"]"),
    Y("[{}]"),
    Y("[1,null,null,2]"),
    Y("[[[[1]]]]"),
    Y("[\"a\" ]"),
    Y("[1 ]"),
    N("["),
    N("]"),
    N("[1"),
    N("[1,"),
    N("[1,]"),
    N("[,1]"),
    N("[,]"),
    N("[1,,2]"),
    N("[1 2]"),
    N("[1:2]"),
    N("[\"a\"\"b\"]"),
    N("[\"a\" \"b\"]"),
    N("[1]]"),
    N("[1]x"),
    N("[[1]"),
    N("[}"),
    N("[1}"),
    N("[\"\":1]"),
    N("[1,\n"),
    N("[\"a"),
    N("[a]"),
    N("[][]"),
    N("[3[4]]"),
    N("[1{}]"),
    N("[*]"),
    N("[\x0b]"),
    N("[\x0c]"),
    N("[1\x0c]"),
    N("[1\x0c,2]"),
    N("[1\x1a"
      "2]"),
    N("[\"a\"\x0c]"),
    N("[\"a\"\x1a"
      "1]"),
    N("[\0]"),
    N("[1\0]"),
    N("[\"a\"\0]"),
    N("[\xc2\xa0]"),
    N("[\xe2\x80\x83"
      "1]"),
    /* objects */
    Y("{}"),
    Y("{ }"),
    Y("{\"a\":1}"),
    Y("{\"a\" : 1 , \"b\" : 2}"),
    Y("{\"\":0}"),
    Y("{\"a\":{\"a\":{\"a\":1}}}"),
    Y("{\"a\":[],\"b\":{}}"),
    Y("{\"a\":\"b\",\"c\":\"d\"}"),
    Y("{\n\"a\"\n:\n1\n}\n"),
    Y("\t{\"x\":[{\"x\":1},{\"x\":2}]}\r\n"),
    Y("{\"\\u0061\":1,\"b\":2}"),
    Y("{\"aaaaaaaab\":1,\"aaaaaaaac\":2}"),
    Y("{\"a\":1,\"aa\":1,\"aaa\":1,\"A\":1}"),
    N("{"),
    N("}"),
    N("{\"a\"}"),
    N("{\"a\":}"),
    N("{\"a\":1"),
    N("{\"a\":1,"),
    N("{\"a\":1,}"),
    N("{,}"),
    N("{,\"a\":1}"),
    N("{\"a\":1,,\"b\":2}"),
    N("{\"a\" 1}"),
    N("{\"a\",1}"),
    N("{\"a\"::1}"),
    N("{a:1}"),
    N("{1:1}"),
    N("{null:1}"),
    N("{'a':1}"),
    N("{\"a\":1 \"b\":2}"),
    N("{\"a\":1]"),
    N("{\"a\":1}}"),
    N("{\"a\":1}{\"a\":1}"),
    N("{\"a\":1} x"),
    N("{\"a\":1}/**/"),
    N("{\"a\":1}//"),
    N("{\"a\":/**/1}"),
    N("{\"a\":1}#"),
    N("{\"a\":1},"),
    N("{:1}"),
    N("{\"a\":1:2}"),
    N("{[]:1}"),
    N("{{}:1}"),
    N("{\"a\"\x0c:1}"),
    N("{\"a\":1\x1a\"b\":2}"),
    N("{\"a\"b:1}"),
    N("{\"a\"\"b\":1}"),
    N("{\"a\":\"b\"c}"),
    N("{\"a\":\"b\"\"c\"}"),
    N("{\"a\":1\"b\":2}"),
    N("{\"a\":b\"c\"}"),
    N("{\"a\":\\\"b\"}"),
    N("{\"a\":1\\\"b\"}"),
    N("{\"a\"\\:1}"),
    N("{\"a\":\"b\"\\}"),
    N("{\"a\":\"b\"\\\"}"),
    /* keys that stand twice */
    N("{\"a\":1,\"a\":1}"),
    N("{\"a\":1,\"b\":2,\"a\":3}"),
    N("{\"a\":{\"b\":1,\"b\":2}}"),
    N("[{\"x\":1,\"x\":1}]"),
    N("{\"a\":1,\"\\u0061\":2}"),
    N("{\"\\u0061\":1,\"a\":2}"),
    N("{\"\":1,\"\":2}"),
    N("{\"a\\n\":1,\"a\\u000a\":2}"),
    N("{\"aaaaaaaaaaaaaaaab\":1,\"aaaaaaaaaaaaaaaab\":2}"),
    N("{\"\\/\":1,\"/\":2}"),
    N("{\"\xc3\xa9\":1,\"\\u00e9\":2}"),
    N("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}"),
    N("{\"a\":{},\"a\":{}}"),
    /* numbers */
    Y("0"),
    Y("-0"),
    Y("1"),
    Y("-1"),
    Y("10"),
    Y("123456789012345678901234567890"),
    Y("0.0"),
    Y("0.5"),
    Y("-0.5"),
    Y("1.25"),
    Y("1e0"),
    Y("1E0"),
    Y("1e+5"),
    Y("1e-5"),
    Y("1.5e10"),
    Y("0e0"),
    Y("0e+1"),
    Y("-0e-0"),
    Y("1e999"),
    Y("[-1e999]"),
    Y("1e00"),
    Y("1.0000000000000000000000000000000000001"),
    Y("[0]"),
    Y("[-0.0,1]"),
    Y(" 1 "),
    Y("1\n"),
    Y("20e1"),
    N("00"),
    N("01"),
    N("-01"),
    N("+1"),
    N("-"),
    N("--1"),
    N("-+1"),
    N("1."),
    N("1.e5"),
    N(".5"),
    N("-.5"),
    N("1e"),
    N("1e+"),
    N("1E-"),
    N("1e1.5"),
    N("1.5.5"),
    N("1x"),
    N("0x10"),
    N("1 2"),
    N("1,2"),
    N("1_000"),
    N("1e1e1"),
    N("NaN"),
    N("nan"),
    N("Infinity"),
    N("-Infinity"),
    N("inf"),
    N("-nan"),
    N("[1.]"),
    N("[01]"),
    N("[-]"),
    N("[1e]"),
    N("[.1]"),
    N("[+1]"),
    N("[1x]"),
    N("[1\"a\"]"),
    N("[1a]"),
    N("[-1-1]"),
    N("[1+1]"),
    N("[0.]"),
    N("[0e]"),
    N("[1e5x]"),
    N("\xef\xbc\x91"),
    N("[1\xe5]"),
    N("1]"),
    N("{\"a\":1.}"),
    N("{\"a\":-}"),
    N("{\"a\":1 .5}"),
    N("[- 1]"),
    N("[2.e3]"),
    N("[9.e+]"),
    /* words */
    Y("true"),
    Y("false"),
    Y("null"),
    Y(" true "),
    Y("[true]"),
    Y("{\"a\":null}"),
    N("tru"),
    N("truex"),
    N("True"),
    N("TRUE"),
    N("nul"),
    N("nulll"),
    N("fals"),
    N("falsee"),
    N("t"),
    N("n"),
    N("f"),
    N("[tru]"),
    N("[truex]"),
    N("[true1]"),
    N("[true\"\"]"),
    N("true false"),
    N("true,"),
    N("[nul]"),
    N("{\"a\":nulll}"),
    N("{\"a\":t}"),
    N("{\"a\":f}"),
    N("undefined"),
    N("[true\x0c]"),
    /* strings */
    Y("\"\""),
    Y("\"a\""),
    Y("\" \""),
    Y("\"a b\""),
    Y("\"\\\"\""),
    Y("\"\\\\\""),
    Y("\"\\/\\b\\f\\n\\r\\t\""),
    Y("\"\\u0001\""),
    Y("\"\\u00e9\""),
    Y("\"\\u20AC\""),
    Y("\"\\uD83D\\uDE00\""),
    Y("\"\\ud83d\\ude00\""),
    Y("\"\xc3\xa9\""),
    Y("\"\xe2\x82\xac\""),
    Y("\"\xf0\x9f\x98\x80\""),
    Y("\"\x7f\""),
    Y("\"\xef\xbf\xbf\""),
    Y("\"\xf4\x8f\xbf\xbf\""),
    Y("\"\xed\x9f\xbf\""),
    Y("\"\\uffff\""),
    Y("\"{}[],:\""),
    Y("\"\\\\\\\"\""),
    Y("\"\\\\u0000\""),
    Y("[\"a\\\\\"]"),
    Y("[\"\\\\\\\\\",\"b\"]"),
    Y("\"// no comment\""),
    Y("\"\xe2\x80\xa8\""),
    Y("[\"a \"  ,\"b\"]"),
    Y("\"\\u005c\""),
    Y("\"\\u0022\""),
    Y("\"\\udbff\\udfff\""),
    Y("\"\xef\xbb\xbf\""),
    N("\""),
    N("\"a"),
    N("a\""),
    N("\"\\\""),
    N("\"\\x\""),
    N("\"\\a\""),
    N("\"\\'\""),
    N("\"\\u\""),
    N("\"\\u1\""),
    N("\"\\u12\""),
    N("\"\\u123\""),
    N("\"\\u123g\""),
    N("\"\\u 123\""),
    N("\"\\U0041\""),
    N("\"\\u-001\""),
    N("\"\\u+041\""),
    N("\"\\u0000\""),
    N("[\"a\\u0000b\"]"),
    N("{\"\\u0000\":1}"),
    N("\"\\ud800\""),
    N("\"\\udc00\""),
    N("\"\\ud800a\""),
    N("\"\\ud800\\n\""),
    N("\"\\ud800\\u0041\""),
    N("\"\\ud800\\ud800\""),
    N("\"\\udc00\\ud800\""),
    N("\"\\udc00\\udc00\""),
    N("\"\\ud800\\ue000\""),
    N("\"\\ud800\\ud7ff\""),
    N("\"\\ud800\\u\""),
    N("\"\\ud800\\udc0\""),
    N("\"\\ud800\\\""),
    N("\"\n\""),
    N("\"\t\""),
    N("\"\r\""),
    N("\"\0\""),
    N("\"\x1f\""),
    N("{\"a\n\":1}"),
    N("'a'"),
    N("\"a\"b"),
    N("\"a\" \"b\""),
    N("\\"),
    N("\\u0041"),
    N("[\\]"),
    N("\"\\u00\xe9\""),
    N("[\"\\\"]"),
    N("\"\\\\\\\""),
    N("\"\\ \""),
    N("\"\\\n\""),
    /* encoding */
    N("\"\x80\""),
    N("\"\xc0\x80\""),
    N("\"\xc1\xbf\""),
    N("\"\xc3\""),
    N("\"\xe2\x82\""),
    N("\"\xe0\x80\x80\""),
    N("\"\xed\xa0\x80\""),
    N("\"\xed\xbf\xbf\""),
    N("\"\xf0\x80\x80\x80\""),
    N("\"\xf4\x90\x80\x80\""),
    N("\"\xf5\x80\x80\x80\""),
    N("\"\xff\""),
    N("\"\xfe\""),
    N("\xff"),
    N("[1]\xff"),
    N("{\"a\":1}\xc3"),
    N("\xef\xbb\xbf{}"),
    N("\xfe\xff\0{\0}"),
    N("{\0}\0"),
    N("{\"\xff\":1}"),
    /* nothing, and not quite nothing */
    N(""),
    N(" "),
    N("\n"),
    N("\t\r\n "),
    N("\0"),
    N(","),
    N(":"),
    N("{]"),
    N("[)"),
    N("<null>"),
    N("()"),
    N("\x0c"),
    N("{}\0"),
    N("{}{"),
    N("{} ]"),
    N("[\"x\"]]"),
    N("\x1e{}"),
};
enum { SAMPLES = sizeof samples / sizeof samples[0] };

enum { A, A_B, A_B_C, X, PATHS };
static const char *const steps_of[PATHS][3] = {{"a"}, {"a", "b"}, {"a", "b", "c"}, {"x"}};

struct bench {
    struct weir_json_paths *paths;
    struct weir_json_walker *walker;
    uint32_t slots[PATHS];
};

static struct bench bench_new(void)
{
    struct bench bench = {weir_json_paths_new(), weir_json_walker_new(WEIR_EVENT_BYTES_MAX), {0}};
    for (int i = 0; i < PATHS; i++) {
        struct weir_slice steps[3];
        uint32_t count = 0;
        for (; count < 3 && steps_of[i][count]; count++)
            steps[count] = weir_slice_text(steps_of[i][count]);
        bench.slots[i] = weir_json_paths_add(bench.paths, steps, count);
    }
    return bench;
}

static void bench_free(struct bench *bench)
{
    weir_json_walker_free(bench->walker);
    weir_json_paths_free(bench->paths);
}

static void same_value(struct weir_slice text, const struct weir_json_value *value, const json_t *expected)
{
    enum weir_value_kind kind = value->value.kind;

    if (!expected) {
        cr_assert_eq(kind, WEIR_VALUE_MISSING);
        return;
    }
    cr_assert(value->begin < value->end && value->end <= text.length);
    if (kind == WEIR_VALUE_STRING || kind == WEIR_VALUE_OBJECT || kind == WEIR_VALUE_ARRAY) {
        json_t *alone = json_loadb(text.data + value->begin, value->end - value->begin, JSON_DECODE_ANY, NULL);
        cr_assert(kind != WEIR_VALUE_STRING || json_equal(alone, expected));
        cr_assert(strchr("\"{[", text.data[value->begin]) && strchr("\"}]", text.data[value->end - 1]));
        json_decref(alone);
    } else if (kind == WEIR_VALUE_NUMBER) {
        cr_assert_eq(value->value.text.data, text.data + value->begin);
        cr_assert_eq(value->value.text.length, value->end - value->begin);
    } else {
        cr_assert(strchr("tfn", text.data[value->begin]) && strchr("el", text.data[value->end - 1]));
    }
    switch (json_typeof(expected)) {
    case JSON_OBJECT:
        cr_assert_eq(kind, WEIR_VALUE_OBJECT);
        break;
    case JSON_ARRAY:
        cr_assert_eq(kind, WEIR_VALUE_ARRAY);
        break;
    case JSON_TRUE:
        cr_assert_eq(kind, WEIR_VALUE_TRUE);
        break;
    case JSON_FALSE:
        cr_assert_eq(kind, WEIR_VALUE_FALSE);
        break;
    case JSON_NULL:
        cr_assert_eq(kind, WEIR_VALUE_NULL);
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        cr_assert_eq(kind, WEIR_VALUE_NUMBER);
        break;
    case JSON_STRING:
        cr_assert_eq(kind, WEIR_VALUE_STRING);
        cr_assert_eq(value->value.text.length, json_string_length(expected));
        cr_assert_eq(memcmp(value->value.text.data, json_string_value(expected), value->value.text.length), 0);
        break;
    }
}

/* Judges a text by both; true when it is JSON. */
static bool judge(struct bench *bench, const char *text, size_t length)
{
    struct weir_json_value values[1 + PATHS] = {0};
    struct weir_rejection why = {0};
    struct guarded guarded = guard(text, length);
    json_t *root = oracle_load(text, length);
    enum weir_status status = weir_json_walk(bench->walker, guarded.text, weir_json_paths_root(bench->paths),
                                             WEIR_EVENT_DEPTH_MAX, values, &why);

    cr_assert(status == WEIR_OK || status == WEIR_REJECT);
    if (status == WEIR_REJECT)
        cr_assert(why.detail[0] != '\0');
    if (status == WEIR_REJECT && why.reason == WEIR_REASON_TOO_DEEP) {
        json_decref(root);
        unguard(&guarded);
        return false;
    }
    cr_assert_eq(status == WEIR_OK, root != NULL, "%.*s: %s", (int)length, text,
                 status == WEIR_OK ? "accepted, and jansson does not" : why.detail);
    if (root) {
        const json_t *a = json_object_get(root, "a");
        const json_t *b = json_object_get(a, "b");
        same_value(guarded.text, &values[bench->slots[A]], a);
        same_value(guarded.text, &values[bench->slots[A_B]], b);
        same_value(guarded.text, &values[bench->slots[A_B_C]], json_object_get(b, "c"));
        same_value(guarded.text, &values[bench->slots[X]], json_object_get(root, "x"));
    }
    json_decref(root);
    unguard(&guarded);
    return status == WEIR_OK;
}

Test(json_walk, known_verdicts)
{
    struct bench bench = bench_new();

    cr_assert(SAMPLES >= 150);
    for (size_t i = 0; i < SAMPLES; i++)
        cr_expect_eq(judge(&bench, samples[i].text, samples[i].length), samples[i].is_json, "sample %zu: %s", i,
                     samples[i].text);
    bench_free(&bench);
}

/* The same texts as a member's value, and among white space: where a token ends and where the text ends differ. */
Test(json_walk, known_verdicts_nested)
{
    struct bench bench = bench_new();
    static const char *const around[][2] = {
        {"{\"a\":", "}"}, {"[", "]"}, {"{\"a\":{\"b\":[1,", ",2]},\"x\":\"y\"}"}, {"{\"a\": ", " ,\"z\":1}"}};
    char text[512];

    for (size_t i = 0; i < SAMPLES; i++)
        for (size_t j = 0; j < sizeof around / sizeof around[0]; j++) {
            size_t before = strlen(around[j][0]);
            size_t after = strlen(around[j][1]);
            memcpy(text, around[j][0], before);
            memcpy(text + before, samples[i].text, samples[i].length);
            memcpy(text + before + samples[i].length, around[j][1], after);
            bool is_json = judge(&bench, text, before + samples[i].length + after);
            if (samples[i].is_json)
                cr_expect(is_json, "sample %zu", i);
        }
    bench_free(&bench);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

enum { MUTANT_ROOM = 8 };

/* Up to three bytes changed, left out or put in; there is room for MUTANT_ROOM more. Its length. */
static size_t mutate(char *text, size_t length, uint64_t *random)
{
    static const char bytes[] = "{}[]:,\"\\ \n0123e.-+tfnabx/u\xc3\xa9\x00\x0c\x1a\xff";

    for (uint64_t i = 0, changes = 1 + next_random(random) % 3; i < changes; i++) {
        size_t at = next_random(random) % length;
        char byte = bytes[next_random(random) % (sizeof bytes - 1)];
        switch (next_random(random) % 3) {
        case 0:
            text[at] = byte;
            break;
        case 1:
            memmove(text + at, text + at + 1, length - at - 1), length--;
            break;
        default:
            memmove(text + at + 1, text + at, length - at), text[at] = byte, length++;
            break;
        }
    }
    return length;
}

Test(json_walk, agrees_with_jansson_on_mutations)
{
    struct bench bench = bench_new();
    static const char base[] =
        "{\"a\":{\"b\":{\"c\":\"v\\u00e9 \\\\ w\"},\"n\":[1,-2.5e3,true,null]},\"x\":\"caf\xc3\xa9\",\"y\":[{},[]]}";
    uint64_t random = 42;
    size_t accepted = 0;

    for (int round = 0; round < 60000; round++) {
        char text[sizeof base + MUTANT_ROOM];
        memcpy(text, base, sizeof base);
        accepted += judge(&bench, text, mutate(text, sizeof base - 1, &random));
    }
    cr_assert(accepted > 1000 && accepted < 59000, "%zu accepted: the mutations do not test both sides", accepted);
    bench_free(&bench);
}

/* The same of texts whose shape is known: the walker reads most of what it has seen by comparison (json_shape.h). */
Test(json_walk, agrees_with_jansson_on_mutations_of_known_shapes)
{
    static const char *const bases[] = {
        "{\"a\":{\"b\":{\"c\":\"a string that is longer than one block\"},\"n\":-12.5e1},\"x\":\"y\",\"long "
        "\":[true,null]}",
        "{\"x\":\"caf\xc3\xa9 \\\" \\n and \\ud83d\\ude00 after "
        "it\",\"a\":{\"b\":[\"c\",\"\",{}],\"c\":false},\"t\":1}",
        "{\"a\": 0, \"x\" : [ 1, \"2\", [ 3 ] ]}",
        "{\"a\":1}",
        "[\"0123456789\",\"0123456789abcde\",\"0123456789abcdef\",\"0123456789abcdef0\"]",
    };
    struct bench bench = bench_new();
    uint64_t random = 43;
    size_t accepted = 0, judged = 0;

    for (int round = 0; round < 8000; round++)
        for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
            char text[256];
            size_t length = strlen(bases[i]);
            memcpy(text, bases[i], length);
            cr_assert(judge(&bench, text, length)); /* known again, or learned again */
            accepted += judge(&bench, text, mutate(text, length, &random));
            judged++;
        }
    cr_assert(accepted > judged / 20 && accepted < judged / 2, "%zu of %zu accepted", accepted, judged);
    bench_free(&bench);
}

/* Scalars that are one of a few become parts of literals: other values in their places, now and then and then always,
 * values with escapes or of any kind, and mutations of all that. */
Test(json_walk, agrees_with_jansson_where_scalars_are_of_a_few)
{
    static const char *const usual[][2] = {
        {"\"1.0\"", "\"1.0\""}, {"\"caf\xc3\xa9\"", "\"\""}, {"200", "-1.5e3"}, {"false", "null"}};
    static const char *const odd[] = {"\"1.0\\u0030\"", "\"1.00\"", "20",       "2000",
                                      "true",           "[]",       "\"\xff\"", "{\"c\":1}"};
    struct bench bench = bench_new();
    uint64_t random = 44;
    char text[512];

    for (int round = 0; round < 24000; round++) {
        const char *scalars[4];
        for (int i = 0; i < 4; i++)
            scalars[i] = next_random(&random) % (round % 8000 < 6000 ? 200 : 4) == 0
                             ? odd[next_random(&random) % (sizeof odd / sizeof *odd)]
                             : usual[i][next_random(&random) % 2];
        int length = sprintf(text, "{\"v\":%s,\"id\":\"%d\",\"a\":{\"b\":{\"c\":%s},\"n\":%s},\"x\":%s,\"t\":\"%s\"}",
                             scalars[0], round, scalars[1], scalars[2], scalars[3], round < 16000 ? "type" : "another");
        (void)judge(&bench, text, (size_t)length);
        if (round % 4 == 0)
            (void)judge(&bench, text, mutate(text, (size_t)length, &random));
    }
    bench_free(&bench);
}

/* More shapes than there is room for, and more that begin alike than are looked through, again and again. */
Test(json_walk, shapes_without_end)
{
    struct bench bench = bench_new();
    char text[128];

    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 4000; i++) {
            int length =
                sprintf(text, i % 2 ? "{\"key %d\":1,\"x\":\"%d\"}" : "{\"a\":\"%d\",\"b%d\":{},\"x\":2}", i, i);
            for (int times = 0; times < 2; times++)
                cr_assert(judge(&bench, text, (size_t)length));
        }
    bench_free(&bench);
}

/* Structural bits cross simdjson's 64-byte blocks and 128-byte steps: every alignment of every sample. */
Test(json_walk, any_alignment)
{
    struct bench bench = bench_new();
    char text[1024];

    for (size_t i = 0; i < SAMPLES; i += 3)
        for (size_t pad = 0; pad < 130; pad++) {
            memset(text, ' ', pad);
            memcpy(text + pad, samples[i].text, samples[i].length);
            cr_expect_eq(judge(&bench, text, pad + samples[i].length), samples[i].is_json, "sample %zu after %zu", i,
                         pad);
        }
    bench_free(&bench);
}

static struct weir_rejection rejection_of(struct bench *bench, const char *text, size_t length)
{
    struct weir_json_value values[1 + PATHS] = {0};
    struct weir_rejection why = {.reason = WEIR_REASON_COUNT};

    (void)weir_json_walk(bench->walker, weir_slice_of(text, length), weir_json_paths_root(bench->paths),
                         WEIR_EVENT_DEPTH_MAX, values, &why);
    return why;
}

Test(json_walk, depth)
{
    struct bench bench = bench_new();
    char text[1024];

    for (size_t levels = 60; levels < 70; levels++) {
        memset(text, '[', levels);
        memset(text + levels, ']', levels);
        enum weir_reason reason = rejection_of(&bench, text, 2 * levels).reason;
        cr_expect_eq(reason, levels <= WEIR_EVENT_DEPTH_MAX ? WEIR_REASON_COUNT : WEIR_REASON_TOO_DEEP, "%zu", levels);
        size_t length = 0;
        for (size_t i = 0; i < levels; i++)
            length += (size_t)sprintf(text + length, "{\"a\":");
        text[length++] = '1';
        memset(text + length, '}', levels);
        reason = rejection_of(&bench, text, length + levels).reason;
        cr_expect_eq(reason, levels <= WEIR_EVENT_DEPTH_MAX ? WEIR_REASON_COUNT : WEIR_REASON_TOO_DEEP, "%zu", levels);
    }
    bench_free(&bench);
}

Test(json_walk, reasons_and_places)
{
    static const struct {
        const char *text;
        enum weir_reason reason;
        const char *detail;
    } cases[] = {
        {"{\"a\":1 \"b\"}", WEIR_REASON_MALFORMED_JSON, "byte 8: expected ',' or '}' after a member, found '\"'"},
        {"{\"a\":[1;2]}", WEIR_REASON_MALFORMED_JSON, "byte 7: expected a JSON number (as 0, -12.5 or 1e6), found '1'"},
        {"{\"a\":nul}", WEIR_REASON_MALFORMED_JSON, "byte 6: expected a JSON value, found 'n'"},
        {"{\"a\"=1}", WEIR_REASON_MALFORMED_JSON, "byte 5: expected ':' after a key, found '='"},
        {"{\"a\":1,}", WEIR_REASON_MALFORMED_JSON, "byte 8: expected a key in double quotes, found '}'"},
        {"{\"a\":\"\\q\"}", WEIR_REASON_MALFORMED_JSON, NULL},
        {"{\"a\":\"\\ud800\"}", WEIR_REASON_MALFORMED_JSON,
         "byte 7: half of a surrogate pair; write both halves or the character itself"},
        {"{\"a\":\"x\\u0000\"}", WEIR_REASON_BAD_ENCODING,
         "byte 8: a string holds the character \\u0000; leave it out"},
        {"{\"a\":\"x\xff\"}", WEIR_REASON_BAD_ENCODING, "byte 8: not UTF-8"},
        {"\xff{\"a", WEIR_REASON_BAD_ENCODING, "byte 1: not UTF-8"},
        {"{\"a\":\"b\\\\\",\"c\":\"\t\"}", WEIR_REASON_MALFORMED_JSON,
         "byte 17: a control character in a string; escape it (as \\n or \\u001f)"},
        {"{\"a\":\"b", WEIR_REASON_MALFORMED_JSON, "byte 8: the text ends within a string"},
        {"  ", WEIR_REASON_MALFORMED_JSON, "byte 3: there is nothing but white space"},
        {"", WEIR_REASON_MALFORMED_JSON, "byte 1: there is nothing but white space"},
        {"{\"a\":1", WEIR_REASON_MALFORMED_JSON,
         "byte 6: the last token of the text does not close what the first one opens"},
        {"{\"a\":[1]", WEIR_REASON_MALFORMED_JSON, "byte 9: expected ',' or '}' after a member, found the end"},
        {"{\"a\":1}}", WEIR_REASON_MALFORMED_JSON, "byte 8: expected nothing after the value's end, found '}'"},
        {"{\"a\":{\"k\":1,\"k\":2}}", WEIR_REASON_DUPLICATE_KEY, "byte 13: the key \"k\" stands twice in one object"},
    };
    struct bench bench = bench_new();

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct weir_rejection why = rejection_of(&bench, cases[i].text, strlen(cases[i].text));
        cr_expect_eq(why.reason, cases[i].reason, "%s", cases[i].text);
        if (cases[i].detail)
            cr_expect_str_eq(why.detail, cases[i].detail, "%s", cases[i].text);
        cr_expect_str_eq(why.field, "");
    }
    bench_free(&bench);
}

/* Objects of every size around the change of method, with and without a key that stands twice, at any two places. */
Test(json_walk, repeated_keys_in_objects_of_any_size)
{
    struct bench bench = bench_new();
    static char text[1 << 16];

    for (int count = 2; count < 90; count++)
        for (int twice = -1; twice < count - 1; twice += count < 30 || count > 36 ? 7 : 1) {
            size_t length = (size_t)sprintf(text, "{\"a\":{");
            for (int i = 0; i < count; i++) {
                int key = i == count - 1 && twice >= 0 ? twice : i;
                length += (size_t)sprintf(text + length, i % 2 ? "%s\"a long common prefix %d\":%d" : "%s\"%d\":%d",
                                          i ? "," : "", i % 2 == key % 2 ? key : i, i);
            }
            length += (size_t)sprintf(text + length, "},\"x\":\"y\"}");
            judge(&bench, text, length);
        }
    bench_free(&bench);
}

/* The largest event there may be, made of nothing but keys: within a second, with room for them all. */
Test(json_walk, a_million_bytes_of_keys, .timeout = 120)
{
    struct bench bench = bench_new();
    char *text = malloc(WEIR_EVENT_BYTES_MAX + 64);
    size_t length = 1;

    text[0] = '{';
    for (int i = 0; length < WEIR_EVENT_BYTES_MAX - 16; i++)
        length += (size_t)sprintf(text + length, "%s\"%x\":0", i ? "," : "", i);
    text[length++] = '}';
    cr_assert(judge(&bench, text, length));
    length = 1;
    while (length < WEIR_EVENT_BYTES_MAX - 6) { /* the most keys that fit: all the same */
        memcpy(text + length, "\"\":0,", 5);
        length += 5;
    }
    text[length - 1] = '}';
    cr_assert_not(judge(&bench, text, length));
    free(text);
    bench_free(&bench);
}

Test(json_walk, same_path_same_slot)
{
    struct weir_json_paths *paths = weir_json_paths_new();
    char names[300][16];
    struct weir_slice steps[2] = {weir_slice_text("data"), weir_slice_text("x")};

    cr_assert_eq(weir_json_paths_add(paths, steps, 2), 1);
    cr_assert_eq(weir_json_paths_add(paths, steps, 1), 2);
    cr_assert_eq(weir_json_paths_add(paths, steps, 2), 1);
    for (int i = 0; i < 300; i++) {
        (void)snprintf(names[i], sizeof names[i], "n%d", i);
        steps[1] = weir_slice_text(names[i]);
        cr_assert_eq(weir_json_paths_add(paths, steps, 2), (uint32_t)(3 + i));
    }
    for (int i = 0; i < 300; i++) {
        steps[1] = weir_slice_text(names[i]);
        cr_assert_eq(weir_json_paths_add(paths, steps, 2), (uint32_t)(3 + i));
    }
    cr_assert_eq(weir_json_paths_slots(paths), 303);
    weir_json_paths_free(paths);
}
