/* Any bytes as the headers of a Kafka record, behind a byte that says how many. They are decoded where they stand, by a
 * decoder that may know their names from an earlier message, and after weir_message_headers has read them one by one,
 * by one that knows none: what comes of it is the same.
 *
 * Each input is judged twice, the second time by what was learned from it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/status.h"
#include "ingest/decode.h"
#include "ingest/record_headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char catalog_text[] = "{\"meters\":[{\"key\":\"a\",\"event_type\":\"t\",\"aggregation\":\"unique\","
                                   "\"value\":\"region\",\"window\":\"1h\","
                                   "\"group_by\":[\"n\"]}]}";
static struct weir_catalog *catalog;
static struct weir_decoder *decoder, *twin;

static void set_up(void)
{
    struct weir_mistake_list mistakes;

    if (weir_catalog_parse("fuzz", catalog_text, sizeof catalog_text - 1, &catalog, &mistakes) != WEIR_OK) {
        fprintf(stderr, "fuzz_headers: %s: %s\n", mistakes.mistakes[0].path, mistakes.mistakes[0].text);
        exit(EXIT_FAILURE);
    }
    decoder = weir_decoder_new(catalog);
    twin = weir_decoder_new(catalog);
}

static void check_same(const struct weir_event *one, const struct weir_event *other)
{
    weir_check(weir_slice_equal(one->id, other->id) && weir_slice_equal(one->source, other->source));
    weir_check(weir_slice_equal(one->type, other->type) && weir_slice_equal(one->subject, other->subject));
    weir_check(one->time == other->time && one->is_retraction == other->is_retraction);
    weir_check(weir_slice_equal(one->data, other->data));
    for (uint32_t i = 0; i < catalog->path_count; i++)
        weir_check(one->values[i].kind == other->values[i].kind
                   && weir_slice_equal(one->values[i].text, other->values[i].text));
}

static void judge(const struct weir_message *message)
{
    static struct weir_event event, other;
    static struct weir_header headers[WEIR_HEADERS_MAX];
    struct weir_rejection why, why_other;
    struct weir_message read = *message;

    read.header_count = weir_message_headers(message, headers, &read.headers);
    read.unread = weir_slice_of(NULL, 0);
    enum weir_status status = weir_decode(decoder, message, &event, &why);
    weir_check(weir_decode(twin, &read, &other, &why_other) == status);
    if (status == WEIR_OK)
        check_same(&event, &other);
    else
        weir_check(why.reason == why_other.reason && strcmp(why.detail, why_other.detail) == 0
                   && strcmp(why.field, why_other.field) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!catalog)
        set_up();
    if (size < 2)
        return 0;
    char *copy = malloc(size - 1); /* of just this size, so that a read beyond it is seen */
    memcpy(copy, data + 1, size - 1);
    struct weir_message message = {.value = weir_slice_text("{\"n\":1}"),
                                   .header_count = 1u + data[0] % WEIR_HEADERS_MAX,
                                   .unread = weir_slice_of(copy, size - 1)};
    judge(&message);
    judge(&message);
    free(copy);
    return 0;
}
