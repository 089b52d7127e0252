/* Events against meters: which match, what they read, and what is wrong where (docs/rating.md 1). */
#include "ingest/decode.h"
#include "ingest/reading.h"
#include "tests/unit/ingest/ingest_support.h"

struct bench {
    struct weir_catalog *catalog;
    struct weir_decoder *decoder;
    struct weir_reader *reader;
    struct weir_event event;
    struct weir_reading readings[WEIR_METERS_MAX];
    uint32_t count;
    struct weir_rejection why;
};

static struct bench *bench_new(const char *meters)
{
    struct bench *bench = weir_new(sizeof *bench);
    char *text = malloc(strlen(meters) + 64);

    (void)sprintf(text, "{\"meters\":[%s]}", meters);
    bench->catalog = catalog_of(text);
    bench->decoder = weir_decoder_new(bench->catalog);
    bench->reader = weir_reader_new(bench->catalog);
    free(text);
    return bench;
}

static void bench_free(struct bench *bench)
{
    weir_reader_free(bench->reader);
    weir_decoder_free(bench->decoder);
    weir_catalog_free(bench->catalog);
    free(bench);
}

static enum weir_status read_as(struct bench *bench, const char *type, const char *data)
{
    char text[4096];
    (void)snprintf(text, sizeof text,
                   "{\"specversion\":\"1.0\",\"id\":\"i\",\"source\":\"s\",\"type\":\"%s\",\"subject\":\"acme\","
                   "\"time\":\"2026-01-01T00:00:00Z\",\"region\":\"eu\",\"data\":%s}",
                   type, data);
    struct weir_message message = message_of(weir_slice_text(text));
    static char kept[4096]; /* the event's views outlive this function */
    memcpy(kept, text, sizeof kept);
    message.value.data = kept;
    cr_assert_eq(weir_decode(bench->decoder, &message, &bench->event, &bench->why), WEIR_OK, "%s", bench->why.detail);
    bench->count = 99;
    return weir_read_event(bench->reader, &bench->event, bench->readings, &bench->count, &bench->why);
}

static void read_ok(struct bench *bench, const char *data, uint32_t count)
{
    cr_assert_eq(read_as(bench, "t", data), WEIR_OK, "%s: %s", data, bench->why.detail);
    cr_assert_eq(bench->count, count, "%s: %u readings", data, bench->count);
}

static void read_bad(struct bench *bench, const char *data, enum weir_reason reason, const char *field)
{
    cr_assert_eq(read_as(bench, "t", data), WEIR_REJECT, "%s", data);
    cr_expect_eq(bench->why.reason, reason, "%s: %s", data, weir_reason_name[bench->why.reason]);
    cr_expect_str_eq(bench->why.field, field);
    cr_expect(strlen(bench->why.detail) > 10);
}

static void is_text(struct weir_slice text, const char *expected)
{
    cr_expect(weir_slice_equal(text, weir_slice_text(expected)), "%.*s, not %s", (int)text.length, text.data, expected);
}

static void value_is(const struct bench *bench, uint32_t which, const char *expected)
{
    char text[WEIR_DECIMAL_TEXT_MAX];
    weir_decimal_format_short(bench->readings[which].value, text);
    cr_expect_str_eq(text, expected);
}

#define METER(key, rest) "{\"key\":\"" key "\",\"event_type\":\"t\",\"window\":\"1h\"," rest "}"

Test(reading, numbers)
{
    static const char *const aggregations[] = {"sum", "min", "max", "latest", "avg"};
    static const struct {
        const char *sent, *value;
    } good[] = {
        {"1834", "1834"},
        {"0", "0"},
        {"-0", "0"},
        {"1.50", "1.5"},
        {"15e-1", "1.5"},
        {"\"2.5\"", "2.5"},
        {"\"-1e3\"", "-1000"},
        {"0.000000000001", "0.000000000001"},
        {"1.0000000000000000", "1"},
        {"9007199254740993", "9007199254740993"},
        {"0.1", "0.1"},
        {"170141183460469231731687303", "170141183460469231731687303"},
        {"0e99999999999999999999", "0"},
        {"\"\\u0031\"", "1"},
    };
    static const struct {
        const char *sent;
        enum weir_reason reason;
    } bad[] = {
        {"null", WEIR_REASON_MISSING_FIELD},
        {"true", WEIR_REASON_WRONG_TYPE},
        {"[1]", WEIR_REASON_WRONG_TYPE},
        {"{}", WEIR_REASON_WRONG_TYPE},
        {"\"\"", WEIR_REASON_WRONG_TYPE},
        {"\" 1\"", WEIR_REASON_WRONG_TYPE},
        {"\"1 \"", WEIR_REASON_WRONG_TYPE},
        {"\"+1\"", WEIR_REASON_WRONG_TYPE},
        {"\"01\"", WEIR_REASON_WRONG_TYPE},
        {"\"1.\"", WEIR_REASON_WRONG_TYPE},
        {"\"0x1\"", WEIR_REASON_WRONG_TYPE},
        {"\"1,5\"", WEIR_REASON_WRONG_TYPE},
        {"\"NaN\"", WEIR_REASON_WRONG_TYPE},
        {"0.0000000000001", WEIR_REASON_NUMBER_RANGE},
        {"1e-13", WEIR_REASON_NUMBER_RANGE},
        {"\"1e-400\"", WEIR_REASON_NUMBER_RANGE},
        {"1e27", WEIR_REASON_NUMBER_RANGE},
        {"170141183460469231731687304", WEIR_REASON_NUMBER_RANGE},
        {"-1e999999999999", WEIR_REASON_NUMBER_RANGE},
    };
    char text[256];

    for (size_t a = 0; a < sizeof aggregations / sizeof aggregations[0]; a++) {
        (void)snprintf(text, sizeof text, METER("m", "\"aggregation\":\"%s\",\"value\":\"data.n\""), aggregations[a]);
        struct bench *bench = bench_new(text);
        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
            (void)snprintf(text, sizeof text, "{\"n\":%s}", good[i].sent);
            read_ok(bench, text, 1);
            value_is(bench, 0, good[i].value);
        }
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            (void)snprintf(text, sizeof text, "{\"n\":%s}", bad[i].sent);
            read_bad(bench, text, bad[i].reason, "data.n");
        }
        read_bad(bench, "{}", WEIR_REASON_MISSING_FIELD, "data.n");
        read_bad(bench, "3", WEIR_REASON_MISSING_FIELD, "data.n");
        read_bad(bench, "null", WEIR_REASON_MISSING_FIELD, "data.n");
        bench_free(bench);
    }
}

Test(reading, unique)
{
    struct bench *bench = bench_new(METER("m", "\"aggregation\":\"unique\",\"value\":\"data.u\""));
    static const char *const texts[][2] = {
        {"\"x\"", "x"}, {"1.50", "1.5"},  {"15e-1", "1.5"},   {"\"1.50\"", "1.50"},
        {"-0", "0"},    {"true", "true"}, {"false", "false"}, {"\"\\u00e9\"", "\xc3\xa9"},
        {"1e3", "1000"}};
    char text[2048];

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        (void)snprintf(text, sizeof text, "{\"u\":%s}", texts[i][0]);
        read_ok(bench, text, 1);
        is_text(bench->readings[0].unique_text, texts[i][1]);
    }
    (void)snprintf(text, sizeof text, "{\"u\":\"%01000d\"}", 7); /* no limit of length */
    read_ok(bench, text, 1);
    cr_expect_eq(bench->readings[0].unique_text.length, 1000);
    read_bad(bench, "{}", WEIR_REASON_MISSING_FIELD, "data.u");
    read_bad(bench, "{\"u\":null}", WEIR_REASON_MISSING_FIELD, "data.u");
    read_bad(bench, "{\"u\":\"\"}", WEIR_REASON_MISSING_FIELD, "data.u");
    read_bad(bench, "{\"u\":{}}", WEIR_REASON_WRONG_TYPE, "data.u");
    read_bad(bench, "{\"u\":[]}", WEIR_REASON_WRONG_TYPE, "data.u");
    read_bad(bench, "{\"u\":1e-13}", WEIR_REASON_NUMBER_RANGE, "data.u");
    read_bad(bench, "{\"u\":1e40}", WEIR_REASON_NUMBER_RANGE, "data.u");
    bench_free(bench);
}

Test(reading, dimensions)
{
    struct bench *bench = bench_new(METER("m", "\"aggregation\":\"count\",\"group_by\":[\"b\",\"a.x\"]"));
    char text[1024];

    read_ok(bench, "{\"b\":1.50,\"a\":{\"x\":\"eu\"}}", 1);
    is_text(bench->readings[0].dimensions[0], "1.5");
    is_text(bench->readings[0].dimensions[1], "eu");
    read_ok(bench, "{\"b\":false}", 1);
    is_text(bench->readings[0].dimensions[0], "false");
    is_text(bench->readings[0].dimensions[1], "");
    read_ok(bench, "{\"b\":null,\"a\":{\"x\":\"\"}}", 1);
    is_text(bench->readings[0].dimensions[0], "");
    is_text(bench->readings[0].dimensions[1], "");
    read_ok(bench, "{\"b\":12345678901234567890123456,\"a\":5}", 1);
    is_text(bench->readings[0].dimensions[0], "12345678901234567890123456");
    (void)snprintf(text, sizeof text, "{\"b\":\"%0256d\"}", 1);
    read_ok(bench, text, 1);
    (void)snprintf(text, sizeof text, "{\"b\":\"%0257d\"}", 1);
    read_bad(bench, text, WEIR_REASON_TOO_LONG, "data.b");
    read_bad(bench, "{\"b\":{}}", WEIR_REASON_WRONG_TYPE, "data.b");
    read_bad(bench, "{\"a\":{\"x\":[]}}", WEIR_REASON_WRONG_TYPE, "data.a.x");
    read_bad(bench, "{\"b\":1e-13}", WEIR_REASON_NUMBER_RANGE, "data.b");
    read_bad(bench, "{\"b\":999999999999999999999999999}", WEIR_REASON_NUMBER_RANGE, "data.b");
    read_bad(bench, "{\"b\":123456789012345678901234567890}", WEIR_REASON_NUMBER_RANGE, "data.b");
    bench_free(bench);
}

Test(reading, where)
{
    struct bench *bench = bench_new(METER(
        "m",
        "\"aggregation\":\"sum\",\"value\":\"data.n\",\"where\":{"
        "\"data.r\":[\"1.5\",\"true\",\"eu\"],\"region\":[\"eu\",\"us\"]}") "," METER("none", "\"aggregation\":"
                                                                                              "\"count\",\"where\":{"
                                                                                              "\"data.gone\":[\"\"]}"));

    read_ok(bench, "{\"r\":\"eu\",\"n\":1}", 2);
    read_ok(bench, "{\"r\":1.50,\"n\":1}", 2);
    read_ok(bench, "{\"r\":\"1.5\",\"n\":1}", 2);
    read_ok(bench, "{\"r\":true,\"n\":1,\"gone\":null}", 2);
    read_ok(bench, "{\"r\":\"eu\",\"n\":1,\"gone\":\"x\"}", 1);
    cr_expect_eq(bench->readings[0].meter, weir_catalog_meter(bench->catalog, weir_slice_text("m"))->index);
    read_ok(bench, "{\"r\":\"EU\",\"n\":{}}", 1); /* not matched, so not read either */
    cr_expect_eq(bench->readings[0].meter, weir_catalog_meter(bench->catalog, weir_slice_text("none"))->index);
    read_ok(bench, "{\"r\":{},\"gone\":[]}", 0);
    read_ok(bench, "{\"r\":1e-13,\"gone\":0}", 0);
    read_ok(bench, "{\"r\":1e40,\"gone\":\" \"}", 0);
    read_bad(bench, "{\"r\":\"eu\"}", WEIR_REASON_MISSING_FIELD, "data.n");
    bench_free(bench);
}

/* One meter that cannot read it is enough, whichever it is. */
Test(reading, an_event_is_judged_whole)
{
    struct bench *bench = bench_new(METER("a", "\"aggregation\":\"count\"") "," METER(
        "b",
        "\"aggregation\":\"sum\",\"value\":"
        "\"data.n\"") "," METER("c", "\"aggregation\":\"unique\",\"value\":\"data.n\"") "," METER("d",
                                                                                                  "\"aggregation\":"
                                                                                                  "\"max\",\"value\":"
                                                                                                  "\"data.m\",\"group_"
                                                                                                  "by\":[\"n\"]"));

    read_ok(bench, "{\"n\":2.50,\"m\":\"7\"}", 4);
    value_is(bench, 1, "2.5");
    is_text(bench->readings[2].unique_text, "2.5");
    value_is(bench, 3, "7");
    is_text(bench->readings[3].dimensions[0], "2.5");
    for (uint32_t i = 0; i < 4; i++)
        cr_expect_eq(bench->readings[i].meter, i);
    read_bad(bench, "{\"n\":2.50}", WEIR_REASON_MISSING_FIELD, "data.m");
    read_bad(bench, "{\"m\":1}", WEIR_REASON_MISSING_FIELD, "data.n");
    bench_free(bench);
}

Test(reading, no_meter_of_that_type)
{
    struct bench *bench = bench_new(METER("a", "\"aggregation\":\"count\""));
    struct bench *empty = bench_new("");

    cr_expect_eq(read_as(bench, "tt", "{}"), WEIR_OK);
    cr_expect_eq(bench->count, 0);
    cr_expect_eq(read_as(bench, "T", "{}"), WEIR_OK);
    cr_expect_eq(bench->count, 0);
    cr_expect_eq(read_as(empty, "t", "{}"), WEIR_OK);
    cr_expect_eq(empty->count, 0);
    bench_free(bench);
    bench_free(empty);
}

/* Adds a meter of events of that type. */
static size_t add_meter(char *meters, size_t size, size_t at, const char *type)
{
    int more = snprintf(meters + at, size - at,
                        "%s{\"key\":\"m%zu\",\"event_type\":\"%s\",\"window\":\"1h\",\"aggregation\":\"count\"}",
                        at ? "," : "", at, type);
    return at + (size_t)more;
}

static void type_is_read(struct bench *bench, const char *type, bool is_known)
{
    cr_assert_eq(read_as(bench, type, "{}"), WEIR_OK);
    cr_assert_eq(bench->count, is_known, "%s: %u readings", type, bench->count);
    if (is_known)
        is_text(bench->catalog->meters[bench->readings[0].meter].event_type, type);
}

/* Types are looked up by their first and last eight bytes; so there are many that differ in little else. Of those with
 * the same ends and another length each has a slot of its own, as the hash has the length: comparing it is not what
 * this test sees. */
Test(reading, types_that_are_alike)
{
    static const char *const known[] = {"+", "+-", "abcdefghABCDEFGH", "abcdefgh-ABCDEFGH", "abcdefgh+ABCDEFGH"};
    static const char *const unknown[] = {"-", "++", "-+", "abcdefgh", "abcdefghABCDEFG", "abcdefgh*ABCDEFGH"};
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    enum { MANY = 26 * 4 * 96 };
    char *meters = malloc(MANY), type[32];
    size_t at = 0;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        at = add_meter(meters, MANY, at, known[i]);
    for (const char *letter = letters; *letter; letter++) /* 8 to 16 times: all of them have the same ends */
        for (int length = 8; length <= 16; length += 4)
            at = add_meter(meters, MANY, at, memset(memset(type, 0, sizeof type), *letter, (size_t)length));
    struct bench *bench = bench_new(meters);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        type_is_read(bench, known[i], true);
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        type_is_read(bench, unknown[i], false);
    for (const char *letter = letters; *letter; letter++) {
        for (int length = 7; length <= 17; length++)
            type_is_read(bench, memset(memset(type, 0, sizeof type), *letter, (size_t)length), length % 4 == 0);
        for (const char *other = letters; *other; other++) {
            (void)snprintf(type, sizeof type, "abcdefghABCDEF%c%c", *letter, *other);
            type_is_read(bench, type, false);
        }
    }
    bench_free(bench);
    free(meters);
}

/* The largest catalog: each type finds its own meters, in the catalog's order. */
Test(reading, hundreds_of_meters)
{
    char *meters = malloc(WEIR_METERS_MAX * 128);
    size_t length = 0;
    char type[16];

    for (int i = 0; i < WEIR_METERS_MAX; i++)
        length +=
            (size_t)sprintf(meters + length,
                            "%s{\"key\":\"m%d\",\"event_type\":\"type%d\",\"aggregation\":\"count\",\"window\":\"1h\"}",
                            i ? "," : "", i, i % 50);
    struct bench *bench = bench_new(meters);
    for (int i = 0; i < 60; i++) {
        (void)snprintf(type, sizeof type, "type%d", i);
        cr_assert_eq(read_as(bench, type, "{}"), WEIR_OK);
        cr_assert_eq(bench->count, i >= 50 ? 0 : i < WEIR_METERS_MAX % 50 ? 6 : 5);
        for (uint32_t j = 0; j < bench->count; j++) {
            is_text(bench->catalog->meters[bench->readings[j].meter].event_type, type);
            cr_assert(j == 0 || bench->readings[j].meter > bench->readings[j - 1].meter);
        }
    }
    bench_free(bench);
    free(meters);
}
