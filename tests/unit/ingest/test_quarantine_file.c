/* Quarantine records: valid JSON whatever the bytes, nothing of the event lost, durable when flush returns. */
#include <jansson.h>
#include <pthread.h>
#include <sys/stat.h>

#include "ingest/quarantine.h"
#include "tests/unit/ingest/ingest_support.h"

static char folder[] = "/tmp/weir-quarantine-XXXXXX";
static char path[64];

static void set_up(void)
{
    cr_assert(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof path, "%s/quarantine.ndjson", folder);
}

static void tear_down(void)
{
    (void)unlink(path);
    cr_assert_eq(rmdir(folder), 0);
}

TestSuite(quarantine_file, .init = set_up, .fini = tear_down, .timeout = 250);

static struct weir_quarantine *open_file(void)
{
    struct weir_quarantine *quarantine = NULL;
    struct weir_error error;
    cr_assert_eq(weir_quarantine_file_open(path, &quarantine, &error), WEIR_OK);
    return quarantine;
}

static size_t read_records(json_t **ret_records)
{
    FILE *file = fopen(path, "rb");
    json_error_t error;
    size_t lines = 0;

    *ret_records = json_array();
    cr_assert(file != NULL);
    for (int c; (c = fgetc(file)) != EOF;) {
        (void)ungetc(c, file);
        json_t *record = json_loadf(file, JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &error);
        cr_assert(record != NULL, "record %zu: %s", lines, error.text);
        cr_assert_eq(fgetc(file), '\n');
        cr_assert_eq(json_array_append_new(*ret_records, record), 0);
        lines++;
    }
    (void)fclose(file);
    return lines;
}

static const char *text_in(const json_t *records, size_t index, const char *key)
{
    return json_string_value(json_object_get(json_array_get(records, index), key));
}

static struct weir_rejection why_of(enum weir_reason reason, const char *field, const char *detail)
{
    struct weir_rejection why = {.reason = reason};
    (void)snprintf(why.field, sizeof why.field, "%s", field);
    (void)snprintf(why.detail, sizeof why.detail, "%s", detail);
    return why;
}

/* Decodes base64 by itself, so that the writer is not its own judge. */
static size_t from_base64(const char *text, unsigned char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    int have = 0;
    size_t length = 0;

    cr_assert_eq(strlen(text) % 4, 0);
    for (; *text && *text != '='; text++) {
        bits = bits << 6 | (uint32_t)(strchr(digits, *text) - digits);
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[length++] = (unsigned char)(bits >> have);
        }
    }
    return length;
}

Test(quarantine_file, records)
{
    struct weir_quarantine *quarantine = open_file();
    struct weir_error error;
    struct weir_rejection why = why_of(WEIR_REASON_WRONG_TYPE, "data.tokens", "a \"quoted\" word");
    struct weir_message message = {.topic = weir_slice_text("dir/ev\"ents\\\xff.ndjson"),
                                   .offset = 17,
                                   .value = weir_slice_text("{\"a\":\"\\n\t\x01 caf\xc3\xa9\x7f\"}")};
    json_t *records;

    cr_assert_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_OK);
    message = (struct weir_message){.topic = weir_slice_text("t"),
                                    .partition = 3,
                                    .offset = INT64_MAX,
                                    .value = weir_slice_of("bad \xc3\x28 \0 bytes", 14)};
    why = why_of(WEIR_REASON_BAD_ENCODING, "", "x");
    cr_assert_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_OK);
    message.value = weir_slice_of(NULL, 0);
    cr_assert_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_OK);
    message.value = weir_slice_of("a\0b", 3);
    cr_assert_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_OK);
    cr_assert_eq(quarantine->ops->flush(quarantine, &error), WEIR_OK);
    cr_assert_eq(read_records(&records), 4); /* before it is closed */
    cr_expect_str_eq(text_in(records, 0, "topic"), "dir/ev\"ents\\\xef\xbf\xbd.ndjson");
    cr_expect_eq(json_integer_value(json_object_get(json_array_get(records, 0), "partition")), 0);
    cr_expect_eq(json_integer_value(json_object_get(json_array_get(records, 0), "offset")), 17);
    cr_expect_str_eq(text_in(records, 0, "reason"), "wrong_type");
    cr_expect_str_eq(text_in(records, 0, "field"), "data.tokens");
    cr_expect_str_eq(text_in(records, 0, "detail"), "a \"quoted\" word");
    cr_expect_str_eq(text_in(records, 0, "event"), "{\"a\":\"\\n\t\x01 caf\xc3\xa9\x7f\"}");
    cr_expect_eq(json_object_size(json_array_get(records, 0)), 7);
    cr_expect_eq(json_integer_value(json_object_get(json_array_get(records, 1), "partition")), 3);
    cr_expect_eq(json_integer_value(json_object_get(json_array_get(records, 1), "offset")), INT64_MAX);
    cr_expect_null(text_in(records, 1, "event"));
    unsigned char bytes[32];
    cr_assert_eq(from_base64(text_in(records, 1, "event_base64"), bytes), 14);
    cr_expect_eq(memcmp(bytes, "bad \xc3\x28 \0 bytes", 14), 0);
    cr_expect_str_eq(text_in(records, 2, "event"), "");
    cr_expect_str_eq(text_in(records, 3, "event_base64"), "YQBi");
    json_decref(records);
    weir_quarantine_free(quarantine);
}

/* Every byte value, and every length of base64's last group. */
Test(quarantine_file, any_bytes_come_back)
{
    struct weir_quarantine *quarantine = open_file();
    struct weir_rejection why = why_of(WEIR_REASON_MALFORMED_JSON, "", "x");
    struct weir_error error;
    char event[300];
    unsigned char back[300];
    json_t *records;

    for (size_t length = 0; length < 260; length++) {
        for (size_t i = 0; i < length; i++)
            event[i] = (char)(length % 2 ? i % 0x80 : i * 7 + length);
        struct weir_message message = message_of(weir_slice_of(event, length));
        cr_assert_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_OK);
    }
    weir_quarantine_free(quarantine);
    cr_assert_eq(read_records(&records), 260);
    for (size_t length = 0; length < 260; length++) {
        for (size_t i = 0; i < length; i++)
            event[i] = (char)(length % 2 ? i % 0x80 : i * 7 + length);
        const json_t *text = json_object_get(json_array_get(records, length), "event");
        const char *base64 = text_in(records, length, "event_base64");
        cr_assert((text != NULL) != (base64 != NULL));
        size_t got = text ? json_string_length(text) : from_base64(base64, back);
        cr_assert_eq(got, length);
        cr_assert_eq(memcmp(text ? (const void *)json_string_value(text) : back, event, length), 0);
    }
    json_decref(records);
}

/* Records larger than the buffer, and the largest event there is. */
Test(quarantine_file, large_records)
{
    struct weir_quarantine *quarantine = open_file();
    struct weir_rejection why = why_of(WEIR_REASON_TOO_LARGE, "", "x");
    struct weir_error error;
    char *event = malloc(WEIR_EVENT_BYTES_MAX);
    json_t *records;

    memset(event, '"', WEIR_EVENT_BYTES_MAX);
    struct weir_message message = message_of(weir_slice_of(event, WEIR_EVENT_BYTES_MAX));
    for (int i = 0; i < 3; i++)
        cr_assert_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_OK);
    cr_assert_eq(quarantine->ops->flush(quarantine, &error), WEIR_OK);
    cr_assert_eq(read_records(&records), 3);
    cr_expect_eq(json_string_length(json_object_get(json_array_get(records, 2), "event")), WEIR_EVENT_BYTES_MAX);
    json_decref(records);
    weir_quarantine_free(quarantine);
    free(event);
}

Test(quarantine_file, created_by_the_first_record_and_truncated)
{
    struct weir_rejection why = why_of(WEIR_REASON_TOO_LARGE, "", "x");
    struct weir_message message = message_of(weir_slice_text("{}"));
    struct weir_error error;
    struct stat status;
    json_t *records;

    struct weir_quarantine *quarantine = open_file();
    cr_assert_eq(quarantine->ops->flush(quarantine, &error), WEIR_OK);
    weir_quarantine_free(quarantine);
    cr_assert_neq(stat(path, &status), 0);
    for (int i = 0; i < 2; i++) {
        quarantine = open_file();
        for (int j = i; j < 2; j++) /* the first time twice */
            cr_assert_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_OK);
        weir_quarantine_free(quarantine);
        cr_assert_eq(read_records(&records), (size_t)(2 - i));
        json_decref(records);
    }
}

Test(quarantine_file, nowhere_and_nothing)
{
    struct weir_rejection why = why_of(WEIR_REASON_TOO_LARGE, "", "x");
    struct weir_message message = message_of(weir_slice_text("{}"));
    struct weir_quarantine *quarantine = NULL;
    struct weir_error error = {""};

    cr_assert_eq(weir_quarantine_file_open(NULL, &quarantine, &error), WEIR_OK);
    cr_expect_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_OK);
    cr_expect_eq(quarantine->ops->flush(quarantine, &error), WEIR_OK);
    weir_quarantine_free(quarantine);
    cr_assert_eq(weir_quarantine_file_open("/nowhere/q", &quarantine, &error), WEIR_OK);
    cr_expect_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_FATAL);
    cr_expect(strstr(error.text, "/nowhere/q"), "%s", error.text);
    weir_quarantine_free(quarantine);
    /* A full disk: said at the latest when flush promises durability, and from then on. */
    cr_assert_eq(weir_quarantine_file_open("/dev/full", &quarantine, &error), WEIR_OK);
    cr_expect_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_OK);
    cr_expect_eq(quarantine->ops->flush(quarantine, &error), WEIR_FATAL);
    cr_expect(strstr(error.text, "/dev/full"), "%s", error.text);
    cr_expect_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_FATAL);
    weir_quarantine_free(quarantine);
}

static void *put_many(void *quarantine_of)
{
    struct weir_quarantine *quarantine = quarantine_of;
    struct weir_rejection why = why_of(WEIR_REASON_TOO_LATE, "time", "x");
    struct weir_message message = message_of(weir_slice_text("{\"some\":\"event\"}"));
    struct weir_error error;

    for (int i = 0; i < 2000; i++) {
        message.offset = i;
        cr_assert_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_OK);
    }
    return NULL;
}

Test(quarantine_file, put_and_flush_from_different_threads)
{
    struct weir_quarantine *quarantine = open_file();
    struct weir_error error;
    pthread_t threads[2];
    json_t *records;

    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, put_many, quarantine), 0);
    for (int i = 0; i < 20; i++)
        cr_assert_eq(quarantine->ops->flush(quarantine, &error), WEIR_OK);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    weir_quarantine_free(quarantine);
    cr_assert_eq(read_records(&records), 4000);
    json_decref(records);
}
