/* Binary mode of the CloudEvents Kafka binding 1.0: attributes in headers `ce_<name>`, as UTF-8 text and nothing else
 * (there is no other encoding in this binding); the data in the value, its type in the header `content-type`.
 *
 * The names' `ce_` is exact; an attribute that stands twice is refused as a key would be. A header without a value is
 * no attribute. Data is read when it is JSON (no content-type, application/json, anything +json); other data is as if
 * absent, since nothing in it can be metered.
 *
 * Also here, for either mode: what is known of a message's headers by those of one before.
 */
#include <assert.h>
#include <stdio.h>

#include "ingest/decode_internal.h"
#include "ingest/json_index.h"
#include "ingest/json_text.h"
#include "ingest/record_headers.h"

static const char prefix[3] = {'c', 'e', '_'};

static bool is_attribute(const struct weir_header *header)
{
    return header->name.length > sizeof prefix && memcmp(header->name.data, prefix, sizeof prefix) == 0;
}

/* Names come from anywhere: what is shown of them is text. */
static void show_name(struct weir_slice name, char shown[WEIR_SHOWN_MAX])
{
    weir_show_text(weir_utf8_is_valid(name.data, name.length) ? name : weir_slice_text("?"), shown);
}

static __attribute__((cold, noinline)) enum weir_status reject_header(const struct weir_header *header,
                                                                      enum weir_reason reason, const char *what,
                                                                      struct weir_rejection *reterr)
{
    char field[WEIR_IDENTIFIER_MAX];
    char shown[WEIR_SHOWN_MAX];

    show_name(weir_slice_of(header->name.data + sizeof prefix, header->name.length - sizeof prefix), shown);
    (void)snprintf(field, sizeof field, "%.*s", (int)(strlen(shown) - 2), shown + 1);
    return weir_decode_reject(reterr, reason, field, "the header ce_%s %s", field, what);
}

/* ASCII without NUL, eight bytes at a time, the last of which may overlap; most texts are. */
static inline bool is_plain(struct weir_slice text)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7;
    uint64_t bytes, bad = 0; /* bytes - ones: a byte that is 0 borrows; so may one that follows it */
    uint32_t at = 0;

    if (text.length >= sizeof bytes) {
        for (; text.length - at > sizeof bytes; at += sizeof bytes) {
            memcpy(&bytes, text.data + at, sizeof bytes);
            bad |= bytes | (bytes - ones);
        }
        memcpy(&bytes, text.data + text.length - sizeof bytes, sizeof bytes);
        bad |= bytes | (bytes - ones);
    } else {
        for (; at < text.length; at++)
            bad |= (uint64_t)((unsigned char)text.data[at] - 1) | (unsigned char)text.data[at];
    }
    return (bad & highs) == 0;
}

static __attribute__((noinline)) bool is_text(struct weir_slice value)
{
    return weir_utf8_is_valid(value.data, value.length) && !memchr(value.data, '\0', value.length);
}

static enum weir_status check_value(const struct weir_header *header, struct weir_rejection *reterr)
{
    if (is_plain(header->value) || is_text(header->value))
        return WEIR_OK;
    if (!weir_utf8_is_valid(header->value.data, header->value.length))
        return reject_header(header, WEIR_REASON_BAD_ENCODING, "is not UTF-8", reterr);
    return reject_header(header, WEIR_REASON_BAD_ENCODING, "holds a NUL character", reterr);
}

/* 0: nobody asked for it, or it comes as the value. */
static uint32_t slot_of(const struct weir_decoder *decoder, const struct weir_header *header)
{
    uint32_t slot = weir_json_paths_slot(
        decoder->paths, weir_slice_of(header->name.data + sizeof prefix, header->name.length - sizeof prefix));

    return slot == weir_attribute_slot(WEIR_ATTRIBUTE_DATA) || slot == weir_attribute_slot(WEIR_ATTRIBUTE_DATA_BASE64)
               ? 0
               : slot;
}

static bool is_json(struct weir_slice content_type)
{
    return content_type.length == 0 || weir_slice_equal(content_type, weir_slice_text("application/json"))
           || weir_media_type_ends(content_type, "/json") || weir_media_type_ends(content_type, "+json");
}

static inline void set_attribute(struct weir_decoder *decoder, uint32_t slot, struct weir_slice value)
{
    if (value.data && slot > 0)
        decoder->values[slot].value = (struct weir_value){value, WEIR_VALUE_STRING};
}

bool weir_take_known_headers(struct weir_decoder *decoder, const struct weir_message *message)
{
    const struct weir_known_headers *known = &decoder->known;
    const char *at = message->unread.data, *end = at + message->unread.length;
    struct weir_slice value;

    if (known->count == 0 || known->count != message->header_count)
        return false;
    for (uint32_t i = 0; i < known->count; i++) {
        if (!weir_record_has_name(&at, end, weir_slice_of(known->at[i].name, known->at[i].length))
            || !weir_record_short_value(&at, end, &value))
            return false;
        if (known->at[i].is_attribute) {
            if (__builtin_expect(!is_plain(value), 0) && !is_text(value))
                return false;
            set_attribute(decoder, known->at[i].slot, value);
        } else if (i == known->content_type
                   && (value.length != known->type_length || memcmp(value.data, known->type, value.length) != 0)) {
            return false;
        }
    }
    return at == end; /* else they may be only the front of them */
}

void weir_know_headers(struct weir_decoder *decoder, const struct weir_message *message, uint32_t content_type,
                       bool is_binary)
{
    static_assert(WEIR_KNOWN_NAME_MAX <= (int)WEIR_RECORD_NAME_MAX, "they are looked for in records");
    struct weir_known_headers *known = &decoder->known;
    struct weir_slice type =
        content_type != WEIR_HEADER_NONE ? message->headers[content_type].value : weir_slice_of(NULL, 0);

    known->count = 0;
    if (message->header_count > WEIR_KNOWN_HEADERS_MAX || type.length > sizeof known->type)
        return;
    for (uint32_t i = 0; i < message->header_count; i++) {
        const struct weir_header *header = &message->headers[i];
        if (header->name.length == 0 || header->name.length > WEIR_KNOWN_NAME_MAX)
            return;
        memcpy(known->at[i].name, header->name.data, header->name.length);
        known->at[i].length = header->name.length;
        known->at[i].is_attribute = is_binary && is_attribute(header);
        known->at[i].slot = known->at[i].is_attribute ? slot_of(decoder, header) : 0;
    }
    if (type.length)
        memcpy(known->type, type.data, type.length);
    known->type_length = type.length;
    known->content_type = content_type;
    known->is_binary = is_binary;
    known->is_json = is_json(type);
    known->count = message->header_count;
}

static enum weir_status take_attribute(struct weir_decoder *decoder, const struct weir_message *message, uint32_t index,
                                       struct weir_rejection *reterr)
{
    const struct weir_header *header = &message->headers[index];

    for (uint32_t i = 0; i < index; i++)
        if (__builtin_expect(weir_slice_equal(message->headers[i].name, header->name), 0))
            return reject_header(header, WEIR_REASON_DUPLICATE_KEY, "stands twice", reterr);
    set_attribute(decoder, slot_of(decoder, header), header->value);
    return check_value(header, reterr);
}

enum weir_status weir_decode_binary_data(struct weir_decoder *decoder, struct weir_slice value, bool is_json,
                                         struct weir_slice *ret_data, struct weir_rejection *reterr)
{
    const struct weir_json_value *data = &decoder->values[weir_attribute_slot(WEIR_ATTRIBUTE_DATA)];

    *ret_data = weir_slice_of(NULL, 0);
    if (value.length == 0 || !is_json)
        return WEIR_OK;
    enum weir_status status =
        weir_json_walk(decoder->walker, value, decoder->data, WEIR_EVENT_DEPTH_MAX - 1, decoder->values, reterr);
    if (status == WEIR_OK)
        *ret_data = weir_slice_of(value.data + data->begin, data->end - data->begin);
    return status;
}

enum weir_status weir_decode_binary(struct weir_decoder *decoder, const struct weir_message *message,
                                    uint32_t content_type, struct weir_slice *ret_data, struct weir_rejection *reterr)
{
    struct weir_slice type =
        content_type != WEIR_HEADER_NONE ? message->headers[content_type].value : weir_slice_of(NULL, 0);
    enum weir_status status = WEIR_OK;

    for (uint32_t i = 0; i < message->header_count && status == WEIR_OK; i++)
        if (is_attribute(&message->headers[i]))
            status = take_attribute(decoder, message, i, reterr);
    return status == WEIR_OK ? weir_decode_binary_data(decoder, message->value, is_json(type), ret_data, reterr)
                             : status;
}
