#include "ingest/decode_internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "ingest/json_index.h"
#include "ingest/json_text.h"
#include "ingest/record_headers.h"

const char *const weir_attribute_name[WEIR_ATTRIBUTE_COUNT] = {
#define WEIR_X(upper, lower) [WEIR_ATTRIBUTE_##upper] = #lower,
    WEIR_ATTRIBUTES(WEIR_X)
#undef WEIR_X
};

/* 1. lifecycle */
struct weir_decoder *weir_decoder_new(const struct weir_catalog *catalog)
{
    struct weir_decoder *decoder = weir_new(sizeof *decoder);

    weir_check(catalog->path_count <= WEIR_PATHS_MAX);
    decoder->catalog = catalog;
    decoder->paths = weir_json_paths_new();
    for (int i = 0; i < WEIR_ATTRIBUTE_COUNT; i++) {
        struct weir_slice name = weir_slice_text(weir_attribute_name[i]);
        weir_check(weir_json_paths_add(decoder->paths, &name, 1) == weir_attribute_slot((enum weir_attribute)i));
    }
    for (uint32_t i = 0; i < catalog->path_count; i++) {
        const struct weir_path *path = &catalog->paths[i];
        decoder->path_slots[i] = weir_json_paths_add(decoder->paths, path->steps, path->step_count);
    }
    decoder->root = weir_json_paths_root(decoder->paths);
    decoder->slots = weir_json_paths_slots(decoder->paths);
    decoder->data = weir_json_paths_below(decoder->paths, weir_slice_text(weir_attribute_name[WEIR_ATTRIBUTE_DATA]));
    decoder->walker = weir_json_walker_new(WEIR_EVENT_BYTES_MAX);
    return decoder;
}

struct weir_decoder *weir_decoder_free(struct weir_decoder *decoder)
{
    if (!decoder)
        return NULL;
    weir_json_walker_free(decoder->walker);
    weir_json_paths_free(decoder->paths);
    free(decoder);
    return NULL;
}

/* 2. rejecting */
__attribute__((cold)) enum weir_status weir_decode_reject(struct weir_rejection *reterr, enum weir_reason reason,
                                                          const char *field, const char *format, ...)
{
    va_list arguments;

    reterr->reason = reason;
    (void)snprintf(reterr->field, sizeof reterr->field, "%s", field);
    va_start(arguments, format);
    (void)vsnprintf(reterr->detail, sizeof reterr->detail, format, arguments);
    va_end(arguments);
    return WEIR_REJECT;
}

static const char *kind_name(enum weir_value_kind kind)
{
    static const char *const names[] = {
        [WEIR_VALUE_MISSING] = "missing",  [WEIR_VALUE_NULL] = "null",       [WEIR_VALUE_FALSE] = "false",
        [WEIR_VALUE_TRUE] = "true",        [WEIR_VALUE_NUMBER] = "a number", [WEIR_VALUE_STRING] = "a string",
        [WEIR_VALUE_OBJECT] = "an object", [WEIR_VALUE_ARRAY] = "an array",
    };
    return names[kind];
}

/* 3. attributes */
static inline const struct weir_json_value *attribute(const struct weir_decoder *decoder, enum weir_attribute which)
{
    return &decoder->values[weir_attribute_slot(which)];
}

static __attribute__((cold, noinline)) enum weir_status
reject_kind(const struct weir_json_value *value, enum weir_attribute which, struct weir_rejection *reterr)
{
    const char *name = weir_attribute_name[which];
    enum weir_value_kind kind = value->value.kind;

    if (kind == WEIR_VALUE_MISSING || kind == WEIR_VALUE_NULL)
        return weir_decode_reject(reterr, WEIR_REASON_MISSING_FIELD, name,
                                  "the attribute %s is %s; every event needs it", name, kind_name(kind));
    return weir_decode_reject(reterr, WEIR_REASON_WRONG_TYPE, name,
                              "the attribute %s is %s at byte %u; it must be a string", name, kind_name(kind),
                              value->begin + 1);
}

static inline enum weir_status take_identifier(const struct weir_decoder *decoder, enum weir_attribute which,
                                               struct weir_slice *ret_text, struct weir_rejection *reterr)
{
    const struct weir_json_value *value = attribute(decoder, which);
    const char *name = weir_attribute_name[which];

    if (__builtin_expect(value->value.kind != WEIR_VALUE_STRING, 0))
        return reject_kind(value, which, reterr);
    if (__builtin_expect(value->value.text.length - 1 >= WEIR_IDENTIFIER_MAX, 0)) {
        if (value->value.text.length == 0)
            return weir_decode_reject(reterr, WEIR_REASON_EMPTY_FIELD, name, "the attribute %s is the empty string",
                                      name);
        return weir_decode_reject(reterr, WEIR_REASON_TOO_LONG, name,
                                  "the attribute %s has %u bytes; at most %d are allowed", name,
                                  value->value.text.length, WEIR_IDENTIFIER_MAX);
    }
    *ret_text = value->value.text;
    return WEIR_OK;
}

static inline enum weir_status check_specversion(const struct weir_decoder *decoder, struct weir_rejection *reterr)
{
    const struct weir_json_value *value = attribute(decoder, WEIR_ATTRIBUTE_SPECVERSION);
    char shown[WEIR_SHOWN_MAX];

    if (__builtin_expect(value->value.kind != WEIR_VALUE_STRING, 0))
        return reject_kind(value, WEIR_ATTRIBUTE_SPECVERSION, reterr);
    if (__builtin_expect(value->value.text.length == 3 && memcmp(value->value.text.data, "1.0", 3) == 0, 1))
        return WEIR_OK;
    weir_show_text(value->value.text, shown);
    return weir_decode_reject(reterr, WEIR_REASON_BAD_SPECVERSION, "specversion",
                              "specversion is %s; only CloudEvents \"1.0\" is understood", shown);
}

static inline enum weir_status take_time(struct weir_decoder *decoder, int64_t *ret_time, struct weir_rejection *reterr)
{
    const struct weir_json_value *value = attribute(decoder, WEIR_ATTRIBUTE_TIME);
    char shown[WEIR_SHOWN_MAX];

    if (__builtin_expect(value->value.kind != WEIR_VALUE_STRING, 0))
        return reject_kind(value, WEIR_ATTRIBUTE_TIME, reterr);
    if (__builtin_expect(weir_time_parse_next(value->value.text, &decoder->date, ret_time), 1))
        return WEIR_OK;
    weir_show_text(value->value.text, shown);
    return weir_decode_reject(
        reterr, WEIR_REASON_BAD_TIME, "time",
        "%s is no time from 1970 to 2261 as RFC 3339 writes it (2026-01-05T10:59:59.123Z; at most nine "
        "decimals, seconds to 59)",
        shown);
}

/* An extension of ours: a Boolean, which in binary mode is a text. null is how JSON writes an attribute that is not
 * there. */
static inline enum weir_status take_retraction(const struct weir_decoder *decoder, bool *ret_is_retraction,
                                               struct weir_rejection *reterr)
{
    const struct weir_json_value *value = attribute(decoder, WEIR_ATTRIBUTE_RETRACTION);
    enum weir_value_kind kind = value->value.kind;

    *ret_is_retraction = false;
    if (__builtin_expect(kind == WEIR_VALUE_MISSING, 1))
        return WEIR_OK;
    bool is_text = kind == WEIR_VALUE_STRING;
    *ret_is_retraction =
        kind == WEIR_VALUE_TRUE || (is_text && weir_slice_equal(value->value.text, weir_slice_text("true")));
    if (*ret_is_retraction || kind == WEIR_VALUE_FALSE || kind == WEIR_VALUE_NULL
        || (is_text && weir_slice_equal(value->value.text, weir_slice_text("false"))))
        return WEIR_OK;
    return weir_decode_reject(reterr, WEIR_REASON_WRONG_TYPE, "retraction",
                              "the attribute retraction is %s; it must be true or false",
                              is_text ? "another text" : kind_name(kind));
}

static inline enum weir_status take_attributes(struct weir_decoder *decoder, struct weir_event *event,
                                               struct weir_rejection *reterr)
{
    enum weir_status status = check_specversion(decoder, reterr);

    if (status == WEIR_OK)
        status = take_identifier(decoder, WEIR_ATTRIBUTE_ID, &event->id, reterr);
    if (status == WEIR_OK)
        status = take_identifier(decoder, WEIR_ATTRIBUTE_SOURCE, &event->source, reterr);
    if (status == WEIR_OK)
        status = take_identifier(decoder, WEIR_ATTRIBUTE_TYPE, &event->type, reterr);
    if (status == WEIR_OK)
        status = take_identifier(decoder, WEIR_ATTRIBUTE_SUBJECT, &event->subject, reterr);
    if (status == WEIR_OK)
        status = take_time(decoder, &event->time, reterr);
    if (status == WEIR_OK)
        status = take_retraction(decoder, &event->is_retraction, reterr);
    return status;
}

/* Whose event it is that is refused for another attribute. */
static __attribute__((cold, noinline)) void find_subject(const struct weir_decoder *decoder, struct weir_event *event)
{
    struct weir_rejection unsaid;

    if (take_identifier(decoder, WEIR_ATTRIBUTE_SUBJECT, &event->subject, &unsaid) != WEIR_OK)
        event->subject = weir_slice_of(NULL, 0);
}

/* 4. structured mode */
static inline __attribute__((always_inline)) enum weir_status decode_structured(struct weir_decoder *decoder,
                                                                                const struct weir_message *message,
                                                                                struct weir_slice *ret_data,
                                                                                struct weir_rejection *reterr)
{
    if (message->is_tombstone)
        return weir_decode_reject(reterr, WEIR_REASON_MALFORMED_JSON, "",
                                  "the message has no value (a Kafka tombstone)");
    enum weir_status status =
        weir_json_walk(decoder->walker, message->value, decoder->root, WEIR_EVENT_DEPTH_MAX, decoder->values, reterr);
    if (status != WEIR_OK)
        return status;
    const char *first = message->value.data;
    while (*first == ' ' || *first == '\t' || *first == '\n' || *first == '\r')
        first++;
    if (*first != '{')
        return weir_decode_reject(reterr, WEIR_REASON_MALFORMED_JSON, "",
                                  *first == '['
                                      ? "the text is a JSON array; an event is one object, and batches are not taken"
                                      : "the text is a JSON value but not an object");
    const struct weir_json_value *data = attribute(decoder, WEIR_ATTRIBUTE_DATA);
    bool has_data = data->value.kind != WEIR_VALUE_MISSING;
    if (has_data && attribute(decoder, WEIR_ATTRIBUTE_DATA_BASE64)->value.kind != WEIR_VALUE_MISSING)
        return weir_decode_reject(reterr, WEIR_REASON_MALFORMED_JSON, "data_base64",
                                  "the event has both data and data_base64; CloudEvents allows one of them");
    *ret_data =
        has_data ? weir_slice_of(message->value.data + data->begin, data->end - data->begin) : weir_slice_of(NULL, 0);
    return WEIR_OK;
}

/* 5. which mode */

/* The type without parameters and the white space around it. */
static struct weir_slice media_type(struct weir_slice text)
{
    uint32_t length = 0;

    while (text.length && (text.data[0] == ' ' || text.data[0] == '\t'))
        text = weir_slice_of(text.data + 1, text.length - 1);
    while (length < text.length && text.data[length] != ';')
        length++;
    while (length && (text.data[length - 1] == ' ' || text.data[length - 1] == '\t'))
        length--;
    return weir_slice_of(text.data, length);
}

bool weir_media_type_begins(struct weir_slice content_type, const char *begin)
{
    struct weir_slice type = media_type(content_type);
    size_t length = strlen(begin);
    return type.length >= length && strncasecmp(type.data, begin, length) == 0;
}

bool weir_media_type_ends(struct weir_slice content_type, const char *end)
{
    struct weir_slice type = media_type(content_type);
    size_t length = strlen(end);
    return type.length >= length && strncasecmp(type.data + type.length - length, end, length) == 0;
}

bool weir_media_type_is(struct weir_slice content_type, const char *type)
{
    return weir_media_type_begins(content_type, type) && weir_media_type_ends(content_type, type)
           && media_type(content_type).length == strlen(type);
}

static uint32_t find_header(const struct weir_message *message, const char *name)
{
    size_t length = strlen(name);

    for (uint32_t i = 0; i < message->header_count; i++)
        if (message->headers[i].name.length == length && strncasecmp(message->headers[i].name.data, name, length) == 0)
            return i;
    return WEIR_HEADER_NONE;
}

static bool has_specversion(const struct weir_message *message)
{
    for (uint32_t i = 0; i < message->header_count; i++)
        if (weir_slice_equal(message->headers[i].name, weir_slice_text("ce_specversion")))
            return true;
    return false;
}

static enum weir_status decode_by_headers(struct weir_decoder *decoder, const struct weir_message *message,
                                          struct weir_slice *ret_data, struct weir_rejection *reterr)
{
    char shown[WEIR_SHOWN_MAX];

    if (message->header_count > WEIR_HEADERS_MAX)
        return weir_decode_reject(reterr, WEIR_REASON_TOO_LARGE, "",
                                  "the message has %u headers; at most %d are allowed", message->header_count,
                                  WEIR_HEADERS_MAX);
    uint32_t index = find_header(message, "content-type");
    struct weir_slice content_type = index != WEIR_HEADER_NONE ? message->headers[index].value : weir_slice_of(NULL, 0);
    bool is_event = weir_media_type_begins(content_type, "application/cloudevents");
    if (is_event && !weir_media_type_is(content_type, "application/cloudevents")
        && !weir_media_type_is(content_type, "application/cloudevents+json")) {
        weir_show_text(weir_utf8_is_valid(content_type.data, content_type.length) ? content_type : weir_slice_text("?"),
                       shown);
        return weir_decode_reject(reterr, WEIR_REASON_UNSUPPORTED, "content-type",
                                  "content-type %s; one event as application/cloudevents+json is what can be read",
                                  shown);
    }
    bool is_binary = !is_event && has_specversion(message);
    enum weir_status status = is_binary ? weir_decode_binary(decoder, message, index, ret_data, reterr)
                                        : decode_structured(decoder, message, ret_data, reterr);
    if (status == WEIR_OK && message->headers == decoder->headers) /* they were unread, as the next ones may be */
        weir_know_headers(decoder, message, index, is_binary);
    return status;
}

static void clear_values(struct weir_decoder *decoder)
{
    static_assert(WEIR_VALUE_MISSING == 0, "all zero is a value that is not there");
    memset(decoder->values, 0, decoder->slots * sizeof *decoder->values);
}

static __attribute__((noinline)) enum weir_status decode_headers(struct weir_decoder *decoder,
                                                                 const struct weir_message *message,
                                                                 struct weir_slice *ret_data,
                                                                 struct weir_rejection *reterr)
{
    if (!message->unread.data)
        return decode_by_headers(decoder, message, ret_data, reterr);
    if (__builtin_expect(weir_take_known_headers(decoder, message), 1))
        return decoder->known.is_binary
                   ? weir_decode_binary_data(decoder, message->value, decoder->known.is_json, ret_data, reterr)
                   : decode_structured(decoder, message, ret_data, reterr);
    clear_values(decoder);
    struct weir_message read = *message;
    read.header_count = weir_message_headers(message, decoder->headers, &read.headers);
    read.unread = weir_slice_of(NULL, 0);
    return decode_by_headers(decoder, &read, ret_data, reterr);
}

enum weir_status weir_decode(struct weir_decoder *decoder, const struct weir_message *message,
                             struct weir_event *ret_event, struct weir_rejection *reterr)
{
    const uint32_t *path_slots = decoder->path_slots, path_count = decoder->catalog->path_count;

    ret_event->subject = weir_slice_of(NULL, 0);
    if (message->is_too_large || message->value.length > WEIR_EVENT_BYTES_MAX)
        return weir_decode_reject(reterr, WEIR_REASON_TOO_LARGE, "", "the event has more than %d bytes",
                                  WEIR_EVENT_BYTES_MAX);
    clear_values(decoder);
    enum weir_status status = message->header_count ? decode_headers(decoder, message, &ret_event->data, reterr)
                                                    : decode_structured(decoder, message, &ret_event->data, reterr);
    if (status == WEIR_OK && (status = take_attributes(decoder, ret_event, reterr)) != WEIR_OK)
        find_subject(decoder, ret_event);
    for (uint32_t i = 0; i < path_count; i++)
        ret_event->values[i] = decoder->values[path_slots[i]].value;
    return status;
}
