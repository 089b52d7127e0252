/* Any bytes as an event. What is accepted is exactly what jansson accepts (json_oracle.h says where it is too lax or
 * too coarse), the values picked up are jansson's, and what is refused is refused with one readable line.
 *
 * An input that begins with \x01 is the value of a binary-mode message, any other a structured event. Each \x02 in it
 * ends one and begins the next of the same mode, since a decoder reads most texts by the shapes of earlier ones; for
 * the same reason each is judged twice.
 */
#include <math.h>
#include <stdint.h>

#include "ingest/decode.h"
#include "ingest/json_index.h"
#include "ingest/reading.h"
#include "tests/unit/ingest/json_oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char catalog_text[] =
    "{\"meters\":["
    "{\"key\":\"a\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.n\",\"window\":\"1h\",\"group_by\":["
    "\"s\",\"o.p\"]},"
    "{\"key\":\"b\",\"event_type\":\"t\",\"aggregation\":\"unique\",\"value\":\"data.o.q.r\",\"window\":\"1h\","
    "\"where\":{\"data.s\":[\"\",\"x\",\"1.5\",\"true\"]}},"
    "{\"key\":\"c\",\"event_type\":\"u\",\"aggregation\":\"max\",\"value\":\"data.ext\",\"where\":{\"ext\":[\"1\",\"\"]"
    "},\"window\":\"1d\",\"group_by\":[\"a long name of a member\"]},"
    "{\"key\":\"d\",\"event_type\":\"u\",\"aggregation\":\"unique\",\"value\":\"subject\",\"window\":\"1mo\"}]}";

static struct weir_catalog *catalog;
static struct weir_decoder *decoder;
static struct weir_reader *reader;

static void set_up(void)
{
    struct weir_mistake_list mistakes;
    if (weir_catalog_parse("fuzz", catalog_text, sizeof catalog_text - 1, &catalog, &mistakes) != WEIR_OK) {
        fprintf(stderr, "fuzz_event: %s: %s\n", mistakes.mistakes[0].path, mistakes.mistakes[0].text);
        exit(EXIT_FAILURE);
    }
    decoder = weir_decoder_new(catalog);
    reader = weir_reader_new(catalog);
}

static void check_rejection(const struct weir_rejection *why)
{
    weir_check(why->reason < WEIR_REASON_COUNT);
    weir_check(memchr(why->field, '\0', sizeof why->field) && memchr(why->detail, '\0', sizeof why->detail));
    weir_check(why->detail[0] && !strpbrk(why->detail, "\r\n"));
    weir_check(weir_utf8_is_valid(why->detail, strlen(why->detail))
               && weir_utf8_is_valid(why->field, strlen(why->field)));
}

static const json_t *at_path(const json_t *root, const struct weir_path *path, uint32_t first)
{
    for (uint32_t i = first; i < path->step_count && root; i++)
        root = json_object_getn(root, path->steps[i].data, path->steps[i].length);
    return root;
}

static void check_number(struct weir_slice text, const json_t *expected)
{
    char *copy = strndup(text.data, text.length);
    struct weir_decimal value;
    double number = strtod(copy, NULL);

    weir_check(weir_decimal_parse(text, &value) != WEIR_DECIMAL_SYNTAX);
    /* The oracle overwrites what a double cannot hold. */
    weir_check(isinf(number) || number == json_number_value(expected));
    free(copy);
}

static void check_value(const struct weir_value *value, const json_t *expected)
{
    static const enum weir_value_kind kinds[] = {
        [JSON_OBJECT] = WEIR_VALUE_OBJECT,  [JSON_ARRAY] = WEIR_VALUE_ARRAY, [JSON_STRING] = WEIR_VALUE_STRING,
        [JSON_INTEGER] = WEIR_VALUE_NUMBER, [JSON_REAL] = WEIR_VALUE_NUMBER, [JSON_TRUE] = WEIR_VALUE_TRUE,
        [JSON_FALSE] = WEIR_VALUE_FALSE,    [JSON_NULL] = WEIR_VALUE_NULL,
    };

    if (!expected) {
        weir_check(value->kind == WEIR_VALUE_MISSING && value->text.length == 0);
        return;
    }
    weir_check(value->kind == kinds[json_typeof(expected)]);
    if (value->kind == WEIR_VALUE_NUMBER)
        check_number(value->text, expected);
    else if (value->kind == WEIR_VALUE_STRING)
        weir_check(value->text.length == json_string_length(expected)
                   && memcmp(value->text.data, json_string_value(expected), value->text.length) == 0);
    else
        weir_check(value->text.length == 0);
}

static void check_text(struct weir_slice text, const json_t *expected)
{
    weir_check(json_is_string(expected) && text.length >= 1 && text.length <= WEIR_IDENTIFIER_MAX);
    weir_check(text.length == json_string_length(expected)
               && memcmp(text.data, json_string_value(expected), text.length) == 0);
}

static void check_data(struct weir_slice text, const json_t *expected)
{
    if (!expected) {
        weir_check(text.length == 0);
        return;
    }
    weir_check(text.length > 0 && !strchr(" \t\r\n", text.data[0]) && !strchr(" \t\r\n", text.data[text.length - 1]));
    json_t *data = oracle_load(text.data, text.length);
    weir_check(data && json_equal(data, expected));
    json_decref(data);
}

static void read_event(const struct weir_event *event)
{
    static struct weir_reading readings[WEIR_METERS_MAX];
    struct weir_rejection why;
    uint32_t count = 0;

    if (weir_read_event(reader, event, readings, &count, &why) == WEIR_OK) {
        weir_check(count <= catalog->meter_count);
        for (uint32_t i = 0; i < count; i++)
            weir_check(weir_slice_equal(catalog->meters[readings[i].meter].event_type, event->type));
    } else {
        check_rejection(&why);
        weir_check(why.field[0]);
    }
}

static void fuzz_structured(const struct weir_message *message)
{
    static struct weir_event event;
    struct weir_rejection why;
    enum weir_status status = weir_decode(decoder, message, &event, &why);
    json_t *root = oracle_load(message->value.data, message->value.length);

    if (status == WEIR_OK) {
        weir_check(json_is_object(root));
        weir_check(strcmp(json_string_value(json_object_get(root, "specversion")), "1.0") == 0);
        check_text(event.id, json_object_get(root, "id"));
        check_text(event.source, json_object_get(root, "source"));
        check_text(event.type, json_object_get(root, "type"));
        check_text(event.subject, json_object_get(root, "subject"));
        check_data(event.data, json_object_get(root, "data"));
        for (uint32_t i = 0; i < catalog->path_count; i++)
            check_value(&event.values[i], at_path(root, &catalog->paths[i], 0));
        read_event(&event);
    } else {
        check_rejection(&why);
        bool is_grammar = why.reason == WEIR_REASON_MALFORMED_JSON || why.reason == WEIR_REASON_DUPLICATE_KEY
                          || why.reason == WEIR_REASON_BAD_ENCODING;
        bool has_both = json_object_get(root, "data") && json_object_get(root, "data_base64");
        if (is_grammar)
            weir_check(!json_is_object(root) || has_both);
        else
            weir_check(why.reason == WEIR_REASON_TOO_DEEP || (json_is_object(root) && why.field[0] && !has_both));
    }
    json_decref(root);
}

static void fuzz_binary(struct weir_message *message)
{
    static const char *const headers_of[][2] = {{"ce_specversion", "1.0"}, {"ce_id", "i"},
                                                {"ce_source", "s"},        {"ce_type", "t"},
                                                {"ce_subject", "c"},       {"ce_time", "2026-01-01T00:00:00Z"}};
    static struct weir_event event;
    struct weir_header headers[6];
    struct weir_rejection why;

    for (int i = 0; i < 6; i++)
        headers[i] = (struct weir_header){weir_slice_text(headers_of[i][0]), weir_slice_text(headers_of[i][1])};
    message->headers = headers;
    message->header_count = 6;
    enum weir_status status = weir_decode(decoder, message, &event, &why);
    json_t *root = message->value.length ? oracle_load(message->value.data, message->value.length) : NULL;
    if (status == WEIR_OK) {
        weir_check(root || message->value.length == 0);
        check_data(event.data, root);
        for (uint32_t i = 0; i < catalog->path_count; i++)
            if (weir_slice_equal(catalog->paths[i].steps[0], weir_slice_text("data")))
                check_value(&event.values[i], at_path(root, &catalog->paths[i], 1));
        read_event(&event);
    } else {
        check_rejection(&why);
        weir_check(!root || why.reason == WEIR_REASON_TOO_DEEP);
    }
    json_decref(root);
}

/* In a copy of just this size, so that a read beyond it is seen. */
static void fuzz_one(const char *text, size_t length, bool is_binary)
{
    char *copy = malloc(length ? length : 1);

    memcpy(copy, text, length);
    for (int times = 0; times < 2; times++) {
        struct weir_message message = {.value = weir_slice_of(copy, length)};
        if (is_binary)
            fuzz_binary(&message);
        else
            fuzz_structured(&message);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool is_binary = size > 0 && data[0] == 1;
    const char *at = (const char *)data + is_binary, *end = (const char *)data + size;

    if (!catalog)
        set_up();
    if (size > WEIR_EVENT_BYTES_MAX)
        return 0;
    for (const char *mark; (mark = memchr(at, 2, (size_t)(end - at))); at = mark + 1)
        fuzz_one(at, (size_t)(mark - at), is_binary);
    fuzz_one(at, (size_t)(end - at), is_binary);
    return 0;
}
