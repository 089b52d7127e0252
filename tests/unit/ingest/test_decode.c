/* Events from bytes: attributes, slots, the data's extent, every reason, and Kafka's binary mode. */
#include "ingest/decode.h"
#include "ingest/record_headers.h"
#include "tests/unit/ingest/ingest_support.h"

static const char catalog_text[] =
    "{\"meters\":["
    "{\"key\":\"a\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.n\",\"window\":\"1h\",\"group_by\":["
    "\"s\",\"o.p\"]},"
    "{\"key\":\"b\",\"event_type\":\"t\",\"aggregation\":\"unique\",\"value\":\"subject\",\"window\":\"1h\"},"
    "{\"key\":\"c\",\"event_type\":\"t\",\"aggregation\":\"unique\",\"value\":\"region\",\"window\":\"1h\","
    "\"where\":{\"dataschema\":[\"x\"]}}]}";

enum { N, S, O_P, SUBJECT, REGION, SCHEMA, SLOTS };
static const char *const slot_paths[SLOTS] = {"data.n", "data.s", "data.o.p", "subject", "region", "dataschema"};

struct bench {
    struct weir_catalog *catalog;
    struct weir_decoder *decoder, *twin; /* the twin is given headers as they were read by somebody else */
    unsigned char *unread;               /* of the last message */
    uint32_t slots[SLOTS];
    struct weir_event event;
    struct weir_rejection why;
};

static struct bench *bench_new(void)
{
    struct bench *bench = weir_new(sizeof *bench);
    bench->catalog = catalog_of(catalog_text);
    bench->decoder = weir_decoder_new(bench->catalog);
    bench->twin = weir_decoder_new(bench->catalog);
    for (int i = 0; i < SLOTS; i++) {
        uint32_t slot = 0;
        while (!weir_slice_equal(bench->catalog->paths[slot].text, weir_slice_text(slot_paths[i])))
            cr_assert(++slot < bench->catalog->path_count, "%s", slot_paths[i]);
        bench->slots[i] = slot;
    }
    return bench;
}

static void bench_free(struct bench *bench)
{
    weir_decoder_free(bench->decoder);
    weir_decoder_free(bench->twin);
    free(bench->unread);
    weir_catalog_free(bench->catalog);
    free(bench);
}

static enum weir_status decode(struct bench *bench, const char *text)
{
    struct weir_message message = message_of(weir_slice_text(text));
    memset(&bench->event, 0xa5, sizeof bench->event);
    return weir_decode(bench->decoder, &message, &bench->event, &bench->why);
}

static void is_text(struct weir_slice text, const char *expected)
{
    cr_expect(weir_slice_equal(text, weir_slice_text(expected)), "%.*s, not %s", (int)text.length, text.data, expected);
}

static void slot_is(const struct bench *bench, int which, enum weir_value_kind kind, const char *text)
{
    const struct weir_value *value = &bench->event.values[bench->slots[which]];
    cr_expect_eq(value->kind, kind, "%s is %d", slot_paths[which], value->kind);
    is_text(value->text, text);
}

Test(decode, a_whole_event)
{
    struct bench *bench = bench_new();

    cr_assert_eq(
        decode(bench,
               " {\"specversion\":\"1.0\",\"id\":\"8f0c\",\"source\":\"api\",\"type\":\"t\",\"subject\":\"acme\","
               "\"time\":\"2026-01-05T10:59:59.123Z\",\"region\":\"eu\","
               "\"data\": {\"n\":18.50,\"s\":\"l\\u00e4\\\"\",\"o\":{\"p\":true,\"q\":[{\"n\":1}]},\"n2\":1} \n}\r\n"),
        WEIR_OK, "%s", bench->why.detail);
    is_text(bench->event.id, "8f0c");
    is_text(bench->event.source, "api");
    is_text(bench->event.type, "t");
    is_text(bench->event.subject, "acme");
    cr_expect_eq(bench->event.time, INT64_C(1767610799123000000));
    is_text(bench->event.data, "{\"n\":18.50,\"s\":\"l\\u00e4\\\"\",\"o\":{\"p\":true,\"q\":[{\"n\":1}]},\"n2\":1}");
    slot_is(bench, N, WEIR_VALUE_NUMBER, "18.50");
    slot_is(bench, S, WEIR_VALUE_STRING, "l\xc3\xa4\"");
    slot_is(bench, O_P, WEIR_VALUE_TRUE, "");
    slot_is(bench, SUBJECT, WEIR_VALUE_STRING, "acme");
    slot_is(bench, REGION, WEIR_VALUE_STRING, "eu");
    slot_is(bench, SCHEMA, WEIR_VALUE_MISSING, "");
    bench_free(bench);
}

#define REQUIRED                                                                                                       \
    "\"specversion\":\"1.0\",\"id\":\"i\",\"source\":\"s\",\"type\":\"t\",\"subject\":\"c\",\"time\":\"2026-01-01T00:" \
    "00:00Z\""

/* What a slot holds must not survive into the next event. */
Test(decode, events_do_not_interfere)
{
    struct bench *bench = bench_new();

    cr_assert_eq(decode(bench, "{" REQUIRED ",\"region\":\"eu\",\"data\":{\"n\":1,\"s\":\"\\u0041\",\"o\":{\"p\":2}}}"),
                 WEIR_OK);
    slot_is(bench, S, WEIR_VALUE_STRING, "A");
    cr_assert_eq(decode(bench, "{" REQUIRED "}"), WEIR_OK);
    for (int i = 0; i < SLOTS; i++)
        slot_is(bench, i, i == SUBJECT ? WEIR_VALUE_STRING : WEIR_VALUE_MISSING, i == SUBJECT ? "c" : "");
    cr_expect_eq(bench->event.data.length, 0);
    cr_assert_eq(decode(bench, "{" REQUIRED ",\"data\":{\"n\":1,\"n\":2}}"), WEIR_REJECT);
    cr_assert_eq(decode(bench, "{" REQUIRED ",\"data\":{\"o\":{\"p\":null}}}"), WEIR_OK);
    slot_is(bench, N, WEIR_VALUE_MISSING, "");
    slot_is(bench, O_P, WEIR_VALUE_NULL, "");
    bench_free(bench);
}

Test(decode, data_of_any_type)
{
    static const char *const data[] = {"null",    "1",  "-2.5e+3", "\"text \\n\"", "[]",
                                       "[1,[2]]", "{}", "true",    "{ \"n\" : 1 }"};
    struct bench *bench = bench_new();
    char text[512];

    for (size_t i = 0; i < sizeof data / sizeof data[0]; i++) {
        (void)snprintf(text, sizeof text,
                       "{" REQUIRED ",\"data\" :\t%s \r\n, \"datacontenttype\":\"text/plain\",\"dataschema\":\"s\"}",
                       data[i]);
        cr_assert_eq(decode(bench, text), WEIR_OK, "%s", bench->why.detail);
        is_text(bench->event.data, data[i]);
        slot_is(bench, SCHEMA, WEIR_VALUE_STRING, "s");
        (void)snprintf(text, sizeof text, "{\"data\":%s," REQUIRED "}", data[i]);
        cr_assert_eq(decode(bench, text), WEIR_OK, "%s", bench->why.detail);
        is_text(bench->event.data, data[i]);
    }
    bench_free(bench);
}

/* Keys that look like a path's last step, in other places. */
Test(decode, a_path_is_one_place)
{
    struct bench *bench = bench_new();

    cr_assert_eq(decode(bench,
                        "{" REQUIRED ",\"n\":1,\"s\":\"x\",\"x\":{\"data\":{\"n\":2}},\"data\":{\"data\":{\"n\":3},"
                        "\"o\":[{\"p\":4}],\"a\":[{\"n\":5}],\"region\":\"eu\",\"subject\":{\"n\":6}}}"),
                 WEIR_OK);
    slot_is(bench, N, WEIR_VALUE_MISSING, "");
    slot_is(bench, S, WEIR_VALUE_MISSING, "");
    slot_is(bench, O_P, WEIR_VALUE_MISSING, "");
    slot_is(bench, REGION, WEIR_VALUE_MISSING, "");
    slot_is(bench, SUBJECT, WEIR_VALUE_STRING, "c");
    cr_assert_eq(decode(bench, "{" REQUIRED ",\"d\\u0061ta\":{\"\\u006e\":7,\"o\":{\"\\u0070\":[]}}}"), WEIR_OK);
    slot_is(bench, N, WEIR_VALUE_NUMBER, "7");
    slot_is(bench, O_P, WEIR_VALUE_ARRAY, "");
    is_text(bench->event.data, "{\"\\u006e\":7,\"o\":{\"\\u0070\":[]}}");
    bench_free(bench);
}

#define SPECVERSION "\"specversion\":\"1.0\","
#define ID "\"id\":\"i\","
#define SOURCE "\"source\":\"s\","
#define TYPE "\"type\":\"t\","
#define SUBJECT_C "\"subject\":\"c\","
#define TIME "\"time\":\"2026-01-01T00:00:00Z\""
#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X256 X64 X64 X64 X64

struct refusal {
    const char *text;
    enum weir_reason reason;
    const char *field;
};

static const struct refusal refusals[] = {
    {"", WEIR_REASON_MALFORMED_JSON, ""},
    {"[]", WEIR_REASON_MALFORMED_JSON, ""},
    {"[{" REQUIRED "}]", WEIR_REASON_MALFORMED_JSON, ""},
    {"\"x\"", WEIR_REASON_MALFORMED_JSON, ""},
    {"12", WEIR_REASON_MALFORMED_JSON, ""},
    {"null", WEIR_REASON_MALFORMED_JSON, ""},
    {"{" REQUIRED "} {" REQUIRED "}", WEIR_REASON_MALFORMED_JSON, ""},
    {"{" REQUIRED ",\"data\":1,\"data_base64\":\"AA==\"}", WEIR_REASON_MALFORMED_JSON, "data_base64"},
    {"{" REQUIRED ",\"data\":null,\"data_base64\":null}", WEIR_REASON_MALFORMED_JSON, "data_base64"},
    {"{" REQUIRED ",\"id\":\"i\"}", WEIR_REASON_DUPLICATE_KEY, ""},
    {"{" REQUIRED ",\"x\":\"\xc3\x28\"}", WEIR_REASON_BAD_ENCODING, ""},
    {"{" REQUIRED ",\"x\":\"\\u0000\"}", WEIR_REASON_BAD_ENCODING, ""},
    {"{}", WEIR_REASON_MISSING_FIELD, "specversion"},
    {"{" ID SOURCE TYPE SUBJECT_C TIME "}", WEIR_REASON_MISSING_FIELD, "specversion"},
    {"{" SPECVERSION SOURCE TYPE SUBJECT_C TIME "}", WEIR_REASON_MISSING_FIELD, "id"},
    {"{" SPECVERSION ID TYPE SUBJECT_C TIME "}", WEIR_REASON_MISSING_FIELD, "source"},
    {"{" SPECVERSION ID SOURCE SUBJECT_C TIME "}", WEIR_REASON_MISSING_FIELD, "type"},
    {"{" SPECVERSION ID SOURCE TYPE TIME "}", WEIR_REASON_MISSING_FIELD, "subject"},
    {"{" SPECVERSION ID SOURCE TYPE "\"subject\":\"c\"}", WEIR_REASON_MISSING_FIELD, "time"},
    {"{\"specversion\":null," ID SOURCE TYPE SUBJECT_C TIME "}", WEIR_REASON_MISSING_FIELD, "specversion"},
    {"{" SPECVERSION "\"id\":null," SOURCE TYPE SUBJECT_C TIME "}", WEIR_REASON_MISSING_FIELD, "id"},
    {"{" SPECVERSION ID SOURCE TYPE SUBJECT_C "\"time\":null}", WEIR_REASON_MISSING_FIELD, "time"},
    {"{\"specversion\":1.0," ID SOURCE TYPE SUBJECT_C TIME "}", WEIR_REASON_WRONG_TYPE, "specversion"},
    {"{" SPECVERSION "\"id\":1," SOURCE TYPE SUBJECT_C TIME "}", WEIR_REASON_WRONG_TYPE, "id"},
    {"{" SPECVERSION ID "\"source\":[\"s\"]," TYPE SUBJECT_C TIME "}", WEIR_REASON_WRONG_TYPE, "source"},
    {"{" SPECVERSION ID SOURCE "\"type\":{}," SUBJECT_C TIME "}", WEIR_REASON_WRONG_TYPE, "type"},
    {"{" SPECVERSION ID SOURCE TYPE "\"subject\":true," TIME "}", WEIR_REASON_WRONG_TYPE, "subject"},
    {"{" SPECVERSION ID SOURCE TYPE SUBJECT_C "\"time\":1767225600}", WEIR_REASON_WRONG_TYPE, "time"},
    {"{\"specversion\":\"0.3\"," ID SOURCE TYPE SUBJECT_C TIME "}", WEIR_REASON_BAD_SPECVERSION, "specversion"},
    {"{\"specversion\":\"\"," ID SOURCE TYPE SUBJECT_C TIME "}", WEIR_REASON_BAD_SPECVERSION, "specversion"},
    {"{\"specversion\":\"1.0 \"," ID SOURCE TYPE SUBJECT_C TIME "}", WEIR_REASON_BAD_SPECVERSION, "specversion"},
    {"{" SPECVERSION "\"id\":\"\"," SOURCE TYPE SUBJECT_C TIME "}", WEIR_REASON_EMPTY_FIELD, "id"},
    {"{" SPECVERSION ID "\"source\":\"\"," TYPE SUBJECT_C TIME "}", WEIR_REASON_EMPTY_FIELD, "source"},
    {"{" SPECVERSION ID SOURCE "\"type\":\"\"," SUBJECT_C TIME "}", WEIR_REASON_EMPTY_FIELD, "type"},
    {"{" SPECVERSION ID SOURCE TYPE "\"subject\":\"\"," TIME "}", WEIR_REASON_EMPTY_FIELD, "subject"},
    {"{" SPECVERSION "\"id\":\"" X256 "x\"," SOURCE TYPE SUBJECT_C TIME "}", WEIR_REASON_TOO_LONG, "id"},
    {"{" SPECVERSION ID SOURCE TYPE "\"subject\":\"" X256 "\\n\"," TIME "}", WEIR_REASON_TOO_LONG, "subject"},
    {"{" SPECVERSION ID SOURCE TYPE SUBJECT_C "\"time\":\"\"}", WEIR_REASON_BAD_TIME, "time"},
    {"{" SPECVERSION ID SOURCE TYPE SUBJECT_C "\"time\":\"2026-02-29T00:00:00Z\"}", WEIR_REASON_BAD_TIME, "time"},
    {"{" SPECVERSION ID SOURCE TYPE SUBJECT_C "\"time\":\"2026-01-01T00:00:00\"}", WEIR_REASON_BAD_TIME, "time"},
    {"{" SPECVERSION ID SOURCE TYPE SUBJECT_C "\"time\":\"1969-12-31T23:59:59Z\"}", WEIR_REASON_BAD_TIME, "time"},
    {"{" REQUIRED ",\"retraction\":1}", WEIR_REASON_WRONG_TYPE, "retraction"},
    {"{" REQUIRED ",\"retraction\":\"True\"}", WEIR_REASON_WRONG_TYPE, "retraction"},
    {"{" REQUIRED ",\"retraction\":[true]}", WEIR_REASON_WRONG_TYPE, "retraction"},
    /* several faults: grammar before fields, fields in their order */
    {"{\"time\":1,\"id\":2,}", WEIR_REASON_MALFORMED_JSON, ""},
    {"{\"specversion\":\"2\",\"id\":\"\",\"time\":1}", WEIR_REASON_BAD_SPECVERSION, "specversion"},
    {"{\"time\":1,\"type\":\"\"," SPECVERSION ID SOURCE "\"subject\":4}", WEIR_REASON_EMPTY_FIELD, "type"},
};

Test(decode, every_reason)
{
    struct bench *bench = bench_new();
    bool is_seen[WEIR_REASON_COUNT] = {false};

    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        memset(&bench->why, 0xa5, sizeof bench->why);
        cr_expect_eq(decode(bench, refusals[i].text), WEIR_REJECT, "%s", refusals[i].text);
        cr_expect_eq(bench->why.reason, refusals[i].reason, "%s: %s", refusals[i].text, bench->why.detail);
        cr_expect_str_eq(bench->why.field, refusals[i].field);
        bool has_subject = refusals[i].reason >= WEIR_REASON_MISSING_FIELD
                           && (strstr(refusals[i].text, SUBJECT_C) || strstr(refusals[i].text, "\"subject\":\"c\"}")
                               || strstr(refusals[i].text, REQUIRED));
        is_text(bench->event.subject, has_subject ? "c" : "");
        cr_expect(memchr(bench->why.detail, '\0', sizeof bench->why.detail) != NULL);
        cr_expect(strlen(bench->why.detail) > 10, "%s", bench->why.detail);
        is_seen[bench->why.reason] = true;
    }
    for (int i = 0; i < WEIR_REASON_COUNT; i++) {
        bool is_of_others = i == WEIR_REASON_NUMBER_RANGE || i == WEIR_REASON_TOO_LATE || i == WEIR_REASON_TOO_EARLY
                            || i == WEIR_REASON_CONFLICT || i == WEIR_REASON_RETRACTION_DIFFERS
                            || i == WEIR_REASON_NOT_RETRACTABLE || i == WEIR_REASON_UNSUPPORTED
                            || i == WEIR_REASON_TOO_LARGE
                            || i == WEIR_REASON_TOO_DEEP; /* the last three: tests of their own below */
        cr_expect(is_seen[i] || is_of_others, "%s", weir_reason_name[i]);
    }
    bench_free(bench);
}

Test(decode, identifiers_at_their_limit)
{
    struct bench *bench = bench_new();

    cr_expect_eq(decode(bench, "{" SPECVERSION "\"id\":\"" X256 "\"," SOURCE TYPE SUBJECT_C TIME "}"), WEIR_OK);
    cr_expect_eq(bench->event.id.length, 256);
    /* The limit is of the unescaped text. */
    cr_expect_eq(
        decode(bench, "{" SPECVERSION "\"id\":\"" X64 X64 X64 "\\u0078\\u0078\\u0078\\u0078\\u0078\\u0078\\u0078\\u0078"
                      "\\u0078\\u0078\\u0078\\u0078\\u0078\\u0078\\u0078\\u0078\"," SOURCE TYPE SUBJECT_C TIME "}"),
        WEIR_OK);
    cr_expect_eq(bench->event.id.length, 208);
    bench_free(bench);
}

Test(decode, retractions)
{
    static const struct {
        const char *text;
        bool is_retraction;
    } events[] = {{"{" REQUIRED "}", false},
                  {"{" REQUIRED ",\"retraction\":true}", true},
                  {"{\"retraction\":\"tr\\u0075e\"," REQUIRED "}", true},
                  {"{" REQUIRED ",\"retraction\":false}", false},
                  {"{" REQUIRED ",\"retraction\":\"false\"}", false},
                  {"{" REQUIRED ",\"retraction\":null}", false},
                  {"{" REQUIRED ",\"data\":{\"retraction\":true}}", false}};
    struct bench *bench = bench_new();

    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        cr_expect_eq(decode(bench, events[i].text), WEIR_OK, "%s", events[i].text);
        cr_expect_eq(bench->event.is_retraction, events[i].is_retraction, "%s", events[i].text);
    }
    bench_free(bench);
}

Test(decode, size_and_depth)
{
    struct bench *bench = bench_new();
    char *text = malloc(WEIR_EVENT_BYTES_MAX + 16);
    size_t length = (size_t)sprintf(text, "{" REQUIRED ",\"x\":\"");

    memset(text + length, 'x', WEIR_EVENT_BYTES_MAX - length);
    memcpy(text + WEIR_EVENT_BYTES_MAX - 2, "\"}", 3);
    struct weir_message message = message_of(weir_slice_of(text, WEIR_EVENT_BYTES_MAX));
    cr_expect_eq(weir_decode(bench->decoder, &message, &bench->event, &bench->why), WEIR_OK, "%s", bench->why.detail);
    message.is_too_large = true;
    cr_expect_eq(weir_decode(bench->decoder, &message, &bench->event, &bench->why), WEIR_REJECT);
    cr_expect_eq(bench->why.reason, WEIR_REASON_TOO_LARGE);
    memcpy(text + WEIR_EVENT_BYTES_MAX - 2, "\" }", 4);
    message = message_of(weir_slice_of(text, WEIR_EVENT_BYTES_MAX + 1));
    cr_expect_eq(weir_decode(bench->decoder, &message, &bench->event, &bench->why), WEIR_REJECT);
    cr_expect_eq(bench->why.reason, WEIR_REASON_TOO_LARGE);

    for (int levels = 62; levels < 67; levels++) { /* of data; the event itself is one more */
        length = (size_t)sprintf(text, "{" REQUIRED ",\"data\":");
        memset(text + length, '[', (size_t)levels);
        memset(text + length + levels, ']', (size_t)levels);
        (void)strcpy(text + length + 2 * levels, "}");
        cr_expect_eq(decode(bench, text), levels < 64 ? WEIR_OK : WEIR_REJECT);
        if (levels >= 64)
            cr_expect_eq(bench->why.reason, WEIR_REASON_TOO_DEEP);
    }
    free(text);
    bench_free(bench);
}

/* Binary mode */
struct pair {
    const char *name;
    const char *value; /* NULL: a header without a value */
};

#define BINARY                                                                                                         \
    {"ce_specversion", "1.0"}, {"ce_id", "i"}, {"ce_source", "s"}, {"ce_type", "t"}, {"ce_subject", "c"},              \
    {                                                                                                                  \
        "ce_time", "2026-01-01T00:00:00Z"                                                                              \
    }

static void assert_same_event(const struct bench *bench, const struct weir_event *other)
{
    const struct weir_event *event = &bench->event;

    cr_assert(weir_slice_equal(event->id, other->id) && weir_slice_equal(event->source, other->source));
    cr_assert(weir_slice_equal(event->type, other->type) && weir_slice_equal(event->subject, other->subject));
    cr_assert(weir_slice_equal(event->data, other->data));
    cr_assert(event->time == other->time && event->is_retraction == other->is_retraction);
    for (int i = 0; i < SLOTS; i++) {
        const struct weir_value *one = &event->values[bench->slots[i]], *same = &other->values[bench->slots[i]];
        cr_assert(one->kind == same->kind && weir_slice_equal(one->text, same->text));
    }
}

/* As its source leaves it, with headers unread, whatever came before; and the same with headers that were read. */
static enum weir_status decode_both(struct bench *bench, struct weir_message *message)
{
    static struct weir_event event;
    static struct weir_header headers[WEIR_HEADERS_MAX];
    struct weir_rejection why;

    memset(&bench->event, 0xa5, sizeof bench->event);
    enum weir_status status = weir_decode(bench->decoder, message, &bench->event, &bench->why);
    message->header_count = weir_message_headers(message, headers, &message->headers);
    message->unread = weir_slice_of(NULL, 0);
    cr_assert_eq(weir_decode(bench->twin, message, &event, &why), status);
    if (status == WEIR_OK) {
        assert_same_event(bench, &event);
    } else {
        cr_assert_eq(bench->why.reason, why.reason);
        cr_assert_str_eq(bench->why.field, why.field);
        cr_assert_str_eq(bench->why.detail, why.detail);
    }
    return status;
}

static enum weir_status decode_headers(struct bench *bench, const struct weir_header *headers, uint32_t count,
                                       const char *value)
{
    struct weir_message message = message_of(value ? weir_slice_text(value) : weir_slice_of(NULL, 0));

    message.is_tombstone = !value;
    message.header_count = count;
    if (count == 0 || count > WEIR_HEADERS_MAX) { /* never unread */
        message.headers = headers;
        return weir_decode(bench->decoder, &message, &bench->event, &bench->why);
    }
    free(bench->unread);
    bench->unread = unread_of(headers, count, &message.unread);
    return decode_both(bench, &message);
}

static uint32_t headers_of(const struct pair *pairs, struct weir_header headers[WEIR_HEADERS_MAX + 8])
{
    uint32_t count = 0;

    for (; pairs[count].name; count++) {
        headers[count].name = weir_slice_text(pairs[count].name);
        headers[count].value = pairs[count].value ? weir_slice_text(pairs[count].value) : weir_slice_of(NULL, 0);
    }
    return count;
}

static enum weir_status decode_message(struct bench *bench, const struct pair *pairs, const char *value)
{
    struct weir_header headers[WEIR_HEADERS_MAX + 8];
    uint32_t count = headers_of(pairs, headers);

    return decode_headers(bench, headers, count, value);
}
#define HEADERS(...)                                                                                                   \
    (const struct pair[])                                                                                              \
    {                                                                                                                  \
        __VA_ARGS__,                                                                                                   \
        {                                                                                                              \
            NULL, NULL                                                                                                 \
        }                                                                                                              \
    }

Test(decode, retractions_in_binary_mode)
{
    struct bench *bench = bench_new();

    cr_expect_eq(decode_message(bench, HEADERS(BINARY, {"ce_retraction", "true"}), "1"), WEIR_OK);
    cr_expect(bench->event.is_retraction);
    cr_expect_eq(decode_message(bench, HEADERS(BINARY, {"ce_retraction", "false"}), "1"), WEIR_OK);
    cr_expect(!bench->event.is_retraction);
    cr_expect_eq(decode_message(bench, HEADERS(BINARY, {"ce_retraction", NULL}), "1"), WEIR_OK);
    cr_expect(!bench->event.is_retraction);
    cr_expect_eq(decode_message(bench, HEADERS(BINARY, {"ce_retraction", "1"}), "1"), WEIR_REJECT);
    cr_expect_eq(bench->why.reason, WEIR_REASON_WRONG_TYPE);
    bench_free(bench);
}

Test(decode, binary_mode)
{
    struct bench *bench = bench_new();

    cr_assert_eq(decode_message(
                     bench, HEADERS({"trace", "1"}, BINARY, {"ce_region", "eu"}, {"content-type", "application/json"}),
                     " {\"n\":1.5,\"o\":{\"p\":\"\\u0041\"}}\n"),
                 WEIR_OK, "%s", bench->why.detail);
    is_text(bench->event.id, "i");
    is_text(bench->event.source, "s");
    is_text(bench->event.type, "t");
    is_text(bench->event.subject, "c");
    cr_expect_eq(bench->event.time, INT64_C(1767225600000000000));
    is_text(bench->event.data, "{\"n\":1.5,\"o\":{\"p\":\"\\u0041\"}}");
    slot_is(bench, N, WEIR_VALUE_NUMBER, "1.5");
    slot_is(bench, O_P, WEIR_VALUE_STRING, "A");
    slot_is(bench, REGION, WEIR_VALUE_STRING, "eu");
    slot_is(bench, SUBJECT, WEIR_VALUE_STRING, "c");
    /* A value that looks like attributes is data, and nothing but data. */
    cr_assert_eq(decode_message(bench, HEADERS(BINARY), "{\"subject\":\"other\",\"region\":\"us\",\"data\":{\"n\":1}}"),
                 WEIR_OK);
    is_text(bench->event.subject, "c");
    slot_is(bench, REGION, WEIR_VALUE_MISSING, "");
    slot_is(bench, N, WEIR_VALUE_MISSING, "");
    bench_free(bench);
}

Test(decode, binary_data)
{
    static const char *const data[] = {"1", " -2.5e3 ", "\"a\\n\"", "null", "true", "[]", "{}", "[1,{\"a\":2}]"};
    static const char *const trimmed[] = {"1", "-2.5e3", "\"a\\n\"", "null", "true", "[]", "{}", "[1,{\"a\":2}]"};
    static const char *const json_types[] = {"application/json",       "Application/JSON; charset=utf-8", "text/json",
                                             "application/vnd.x+json", "application/vnd.x+JSON ;a=b",     ""};
    static const char *const other_types[] = {"text/plain", "application/xml", "application/jsonx",
                                              "application/json5"};
    struct bench *bench = bench_new();

    for (size_t i = 0; i < sizeof data / sizeof data[0]; i++) {
        cr_assert_eq(decode_message(bench, HEADERS(BINARY), data[i]), WEIR_OK, "%s: %s", data[i], bench->why.detail);
        is_text(bench->event.data, trimmed[i]);
    }
    for (size_t i = 0; i < sizeof json_types / sizeof json_types[0]; i++) {
        cr_expect_eq(decode_message(bench, HEADERS(BINARY, {"content-type", json_types[i]}), "{\"n\":1}"), WEIR_OK);
        slot_is(bench, N, WEIR_VALUE_NUMBER, "1");
        cr_expect_eq(decode_message(bench, HEADERS(BINARY, {"content-type", json_types[i]}), "{\"n\":1"), WEIR_REJECT);
    }
    for (size_t i = 0; i < sizeof other_types / sizeof other_types[0]; i++) {
        cr_expect_eq(decode_message(bench, HEADERS(BINARY, {"content-type", other_types[i]}), "{\"n\":1"), WEIR_OK);
        slot_is(bench, N, WEIR_VALUE_MISSING, "");
        cr_expect_eq(bench->event.data.length, 0);
    }
    cr_expect_eq(decode_message(bench, HEADERS(BINARY), NULL), WEIR_OK);
    cr_expect_eq(bench->event.data.length, 0);
    cr_expect_eq(decode_message(bench, HEADERS(BINARY), ""), WEIR_OK);
    cr_expect_eq(bench->event.data.length, 0);
    cr_expect_eq(decode_message(bench, HEADERS(BINARY), " "), WEIR_REJECT);
    cr_expect_eq(decode_message(bench, HEADERS(BINARY), "1 2"), WEIR_REJECT);
    cr_expect_eq(decode_message(bench, HEADERS(BINARY), "1,"), WEIR_REJECT);
    cr_expect_eq(decode_message(bench, HEADERS(BINARY), "tru"), WEIR_REJECT);
    char nested[160];
    for (int levels = 62; levels < 66; levels++) { /* one less than an event may have, whose object is not here */
        memset(nested, '[', (size_t)levels);
        memset(nested + levels, ']', (size_t)levels);
        nested[2 * levels] = '\0';
        cr_expect_eq(decode_message(bench, HEADERS(BINARY), nested), levels < 64 ? WEIR_OK : WEIR_REJECT);
        cr_expect(levels < 64 || bench->why.reason == WEIR_REASON_TOO_DEEP);
    }
    bench_free(bench);
}

Test(decode, binary_refusals)
{
    static const struct {
        struct pair headers[10];
        enum weir_reason reason;
        const char *field;
    } cases[] = {
        {{BINARY, {"ce_id", "j"}}, WEIR_REASON_DUPLICATE_KEY, "id"},
        {{BINARY, {"ce_x", "1"}, {"ce_x", "1"}}, WEIR_REASON_DUPLICATE_KEY, "x"},
        {{BINARY, {"ce_x", "\xff"}}, WEIR_REASON_BAD_ENCODING, "x"},
        {{{"ce_specversion", "1.0"}, {"CE_id", "i"}}, WEIR_REASON_MISSING_FIELD, "id"},
        {{{"ce_specversion", "1.0"}, {"ce_id", NULL}}, WEIR_REASON_MISSING_FIELD, "id"},
        {{{"ce_specversion", "1.0"}, {"ce_id", ""}}, WEIR_REASON_EMPTY_FIELD, "id"},
        {{{"ce_specversion", "0.3"}, {"ce_id", "i"}}, WEIR_REASON_BAD_SPECVERSION, "specversion"},
        {{{"ce_specversion", "1.0"}, {"ce_id", X256 "x"}}, WEIR_REASON_TOO_LONG, "id"},
        {{BINARY, {"content-type", "application/cloudevents-batch+json"}}, WEIR_REASON_UNSUPPORTED, "content-type"},
        {{{"Content-Type", "application/CloudEvents-batch"}}, WEIR_REASON_UNSUPPORTED, "content-type"},
        {{{"content-type", "application/cloudevents+avro"}}, WEIR_REASON_UNSUPPORTED, "content-type"},
        /* Structured, since the content type says so: then the value must be the whole event. */
        {{BINARY, {"content-type", "application/cloudevents+json; charset=UTF-8"}},
         WEIR_REASON_MISSING_FIELD,
         "specversion"},
        {{{"ce_id", "i"}}, WEIR_REASON_MISSING_FIELD, "specversion"},
    };
    struct bench *bench = bench_new();

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect_eq(decode_message(bench, cases[i].headers, "{}"), WEIR_REJECT, "case %zu", i);
        cr_expect_eq(bench->why.reason, cases[i].reason, "case %zu: %s", i, bench->why.detail);
        cr_expect_str_eq(bench->why.field, cases[i].field, "case %zu: %s", i, bench->why.detail);
    }
    struct pair many[WEIR_HEADERS_MAX + 2] = {{"ce_specversion", "1.0"}};
    for (int i = 1; i <= WEIR_HEADERS_MAX; i++)
        many[i] = (struct pair){"h", "v"};
    cr_expect_eq(decode_message(bench, many, "{}"), WEIR_REJECT);
    cr_expect_eq(bench->why.reason, WEIR_REASON_TOO_LARGE);
    struct weir_header nul = {weir_slice_text("ce_specversion"), weir_slice_of("1.0\0", 4)};
    cr_assert_eq(decode_message(bench, HEADERS(BINARY), "{}"), WEIR_OK);
    cr_expect_eq(decode_headers(bench, &nul, 1, "{}"), WEIR_REJECT);
    cr_expect_eq(bench->why.reason, WEIR_REASON_BAD_ENCODING);
    bench_free(bench);
}

#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
static const struct pair usual[] = {{"content-type", "application/json"}, BINARY, {"ce_region", "eu"}, {"trace", "1"}};
static const struct pair odd[] = {{"ce_id", "other"},
                                  {"ce_id", "caf\xc3\xa9"},
                                  {"ce_id", NULL},
                                  {"ce_id", TEN TEN TEN TEN TEN TEN "123"},
                                  {"ce_id", TEN TEN TEN TEN TEN TEN "1234"},
                                  {"ce_id", HUNDRED TEN TEN "12345678"},
                                  {"ce_iD", "i"},
                                  {"ce_region", "\xff"},
                                  {"ce_region", "a value that is \xff no text"},
                                  {"ce_regioN", "eu"},
                                  {"ce_data", "1"},
                                  {"ce_a name that is longer than what is kept", "1"},
                                  {"a name of more than 63 bytes, " TEN TEN TEN TEN, "1"},
                                  {"ce_specversion", "0.3"},
                                  {"ce_specversioN", "1.0"},
                                  {"Content-Type", "text/plain"},
                                  {"content-type", "application/cloudevents+json"},
                                  {"content-type", "application/json; charset=utf-8"},
                                  {"content-type", HUNDRED "/json"},
                                  {"content-type", NULL},
                                  {"trace", HUNDRED HUNDRED},
                                  {"", "x"}};
enum { USUAL = sizeof usual / sizeof *usual, ODD = sizeof odd / sizeof *odd };

/* A message is decoded the same whatever came before it: names that are known, in the same order or another, with other
 * values, with one name changed, left out or standing twice. */
Test(decode, headers_before_change_nothing)
{
    struct bench *bench = bench_new();
    uint64_t random = 45;
    int accepted = 0;

    for (int round = 0; round < 20000; round++) {
        struct pair pairs[USUAL + 1] = {0};
        size_t count = USUAL - (round % 7 == 0);
        memcpy(pairs, usual, count * sizeof *pairs);
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint32_t draw = (uint32_t)(random >> 33);
        if (draw % 3 == 0)
            pairs[draw / 3 % count] = odd[draw / 32 % ODD];
        if (draw / 512 % 4 == 0) {
            struct pair first = pairs[0];
            pairs[0] = pairs[draw / 4096 % count];
            pairs[draw / 4096 % count] = first;
        }
        /* An event in the value too: where the headers say that it is structured. */
        accepted += decode_message(bench, pairs, round % 2 ? "{\"n\":1}" : "{" REQUIRED "}") == WEIR_OK;
    }
    cr_assert(accepted > 10000 && accepted < 19000, "%d", accepted);
    bench_free(bench);
}

/* Any byte of them changed, or the end cut off, after headers that are known: as they are read one by one, and never
 * beyond their end. */
Test(decode, broken_headers_that_are_unread)
{
    struct bench *bench = bench_new();
    struct weir_header headers[WEIR_HEADERS_MAX + 8];
    struct pair pairs[USUAL + 1] = {0};
    uint64_t random = 46;
    int accepted = 0;

    memcpy(pairs, usual, sizeof usual);
    uint32_t count = headers_of(pairs, headers);
    for (int round = 0; round < 20000; round++) {
        struct weir_message message = message_of(weir_slice_text("{\"n\":1}"));
        cr_assert_eq(decode_headers(bench, headers, count, "{\"n\":1}"), WEIR_OK);
        free(bench->unread);
        bench->unread = unread_of(headers, count, &message.unread);
        message.header_count = count;
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint32_t at = (uint32_t)((random >> 33) % message.unread.length);
        bench->unread[at] = (unsigned char)(random >> 20);
        if (round % 2) { /* that byte is the last one */
            unsigned char *cut = malloc(at + 1);
            memcpy(cut, bench->unread, at + 1);
            free(bench->unread);
            bench->unread = cut;
            message.unread = weir_slice_of((const char *)cut, at + 1);
        }
        accepted += decode_both(bench, &message) == WEIR_OK;
    }
    cr_assert(accepted > 2000 && accepted < 10000, "%d", accepted);
    bench_free(bench);
}

Test(decode, structured_by_content_type_and_tombstone)
{
    struct bench *bench = bench_new();

    cr_expect_eq(decode_message(bench, HEADERS({"content-type", "application/cloudevents+json"}), "{" REQUIRED "}"),
                 WEIR_OK);
    cr_expect_eq(decode_message(bench, HEADERS({"content-type", "application/json"}), "{" REQUIRED "}"), WEIR_OK);
    cr_expect_eq(decode_message(bench, HEADERS({"x", "y"}), "{" REQUIRED "}"), WEIR_OK);
    cr_expect_eq(decode_message(bench, HEADERS({"x", "y"}), NULL), WEIR_REJECT);
    cr_expect_eq(bench->why.reason, WEIR_REASON_MALFORMED_JSON);
    for (int i = 0; i < 2; i++) { /* what the headers say of the event is not taken, however well they are known */
        const struct pair headers[] = {BINARY, {"content-type", "application/cloudevents+json"}, {NULL, NULL}};
        cr_expect_eq(decode_message(bench, headers, "{" REQUIRED "}"), WEIR_OK);
        cr_expect_eq(decode_message(bench, headers, "{}"), WEIR_REJECT);
        cr_expect_eq(bench->why.reason, WEIR_REASON_MISSING_FIELD);
    }
    for (int i = 0; i < 2; i++) /* nor is data read that is no JSON */
        cr_expect_eq(decode_message(bench, HEADERS(BINARY, {"content-type", "text/plain"}), "no JSON"), WEIR_OK);
    bench_free(bench);
}

/* Every prefix of an event, ending at a guarded page: refused, and never read beyond. */
Test(decode, cut_anywhere)
{
    static const char whole[] =
        "{" REQUIRED ",\"data\":{\"n\":-1.5e10,\"s\":\"\\u00e9\\\\x\",\"o\":{\"p\":[true,null]}}}";
    struct bench *bench = bench_new();

    for (size_t length = 0; length <= sizeof whole - 1; length++) {
        struct guarded guarded = guard(whole, length);
        struct weir_message message = message_of(guarded.text);
        cr_expect_eq(weir_decode(bench->decoder, &message, &bench->event, &bench->why),
                     length == sizeof whole - 1 ? WEIR_OK : WEIR_REJECT, "%zu", length);
        unguard(&guarded);
    }
    bench_free(bench);
}
