/* Binary mode of the CloudEvents Kafka binding 1.0: attributes in headers `ce_<name>`, as UTF-8 text and nothing else
 * (there is no other encoding in this binding); the data in the value, its type in the header `content-type`.
 *
 * The names' `ce_` is exact; an attribute that stands twice is refused as a key would be. A header without a value is
 * no attribute. Data is read when it is JSON (no content-type, application/json, anything +json); other data is as if
 * absent, since nothing in it can be metered.
 */
#include <stdio.h>

#include "ingest/decode_internal.h"
#include "ingest/json_index.h"
#include "ingest/json_text.h"

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

static enum weir_status check_header(const struct weir_message *message, uint32_t index, struct weir_rejection *reterr)
{
    const struct weir_header *header = &message->headers[index];
    char field[WEIR_IDENTIFIER_MAX];
    char shown[WEIR_SHOWN_MAX];
    struct weir_slice name = weir_slice_of(header->name.data + sizeof prefix, header->name.length - sizeof prefix);

    show_name(name, shown);
    (void)snprintf(field, sizeof field, "%.*s", (int)(strlen(shown) - 2), shown + 1);
    for (uint32_t i = 0; i < index; i++)
        if (weir_slice_equal(message->headers[i].name, header->name))
            return weir_decode_reject(reterr, WEIR_REASON_DUPLICATE_KEY, field, "the header ce_%s stands twice", field);
    if (!weir_utf8_is_valid(header->value.data, header->value.length))
        return weir_decode_reject(reterr, WEIR_REASON_BAD_ENCODING, field, "the header ce_%s is not UTF-8", field);
    if (header->value.length && memchr(header->value.data, '\0', header->value.length))
        return weir_decode_reject(reterr, WEIR_REASON_BAD_ENCODING, field, "the header ce_%s holds a NUL character",
                                  field);
    return WEIR_OK;
}

static void set_attribute(struct weir_decoder *decoder, struct weir_slice name, struct weir_slice value)
{ /* the headers are few, and so are the names that anybody reads */
    if (!value.data)
        return;
    for (uint32_t i = 0; i < decoder->top_count; i++)
        if (weir_slice_equal(decoder->tops[i].name, name))
            decoder->values[decoder->tops[i].slot].value = (struct weir_value){value, WEIR_VALUE_STRING};
}

static bool is_json(struct weir_slice content_type)
{
    return content_type.length == 0 || weir_media_type_ends(content_type, "/json")
           || weir_media_type_ends(content_type, "+json");
}

enum weir_status weir_decode_binary(struct weir_decoder *decoder, const struct weir_message *message,
                                    struct weir_slice content_type, struct weir_slice *ret_data,
                                    struct weir_rejection *reterr)
{
    enum weir_status status = WEIR_OK;

    for (uint32_t i = 0; i < message->header_count && status == WEIR_OK; i++)
        if (is_attribute(&message->headers[i]))
            status = check_header(message, i, reterr);
    *ret_data = weir_slice_of(NULL, 0);
    if (status == WEIR_OK && message->value.length && is_json(content_type)) {
        uint32_t slot = decoder->attribute_slots[WEIR_ATTRIBUTE_DATA];
        status = weir_json_walk(decoder->walker, message->value, decoder->data, WEIR_EVENT_DEPTH_MAX - 1,
                                decoder->values, reterr);
        if (status == WEIR_OK)
            *ret_data = weir_slice_of(message->value.data + decoder->values[slot].begin,
                                      decoder->values[slot].end - decoder->values[slot].begin);
    }
    if (status != WEIR_OK)
        return status;
    for (uint32_t i = 0; i < message->header_count; i++)
        if (is_attribute(&message->headers[i]))
            set_attribute(decoder,
                          weir_slice_of(message->headers[i].name.data + sizeof prefix,
                                        message->headers[i].name.length - sizeof prefix),
                          message->headers[i].value);
    return WEIR_OK;
}
