#include "cli/admitted.h"

#include <stdio.h>
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
