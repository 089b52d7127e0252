#include "cli/admitted.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *weir_admitted_topic(const struct weir_settings *settings, char text[WEIR_SETTING_TEXT_MAX])
{
    snprintf(text, WEIR_SETTING_TEXT_MAX, "%s" WEIR_ADMITTED_SUFFIX, settings->kafka_topic);
    return text;
}

bool weir_is_admitted(struct weir_slice name)
{
    size_t suffix = strlen(WEIR_ADMITTED_SUFFIX), length = name.length;

    for (size_t i = length; i > 0; i--)
        if (name.data[i - 1] == ':') {
            length = i - 1;
            break;
        }
    return length > suffix && memcmp(name.data + length - suffix, WEIR_ADMITTED_SUFFIX, suffix) == 0;
}

struct weir_slice weir_admitted_from(const struct weir_message *message, uint64_t *ret_epoch)
{
    struct weir_slice from = {0};
    char digits[24];

    *ret_epoch = 0;
    for (uint32_t i = 0; i < message->header_count; i++) { /* ours are the last ones */
        const struct weir_header *header = &message->headers[i];
        if (weir_slice_equal(header->name, weir_slice_text(WEIR_ADMITTED_LANE)))
            from = header->value;
        if (!weir_slice_equal(header->name, weir_slice_text(WEIR_ADMITTED_EPOCH)) || header->value.length == 0
            || header->value.length >= sizeof digits)
            continue;
        memcpy(digits, header->value.data, header->value.length);
        digits[header->value.length] = '\0';
        *ret_epoch = strtoull(digits, NULL, 10);
    }
    return from;
}
