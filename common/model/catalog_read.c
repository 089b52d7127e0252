/* One JSON value -> one checked C value, or a mistake that says what was found and what is allowed. */
#include <inttypes.h>

#include "common/model/catalog_internal.h"

/* 1. objects */

static const struct weir_field *field_of(const struct weir_field fields[], size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

static void report_unknown(struct weir_catalog_load *load, const struct weir_node *object, const char *name,
                           const struct weir_field fields[], size_t count, unsigned variant, const char *variant_text)
{
    const char *allowed[64];
    const char *absent[64]; /* a key that is already there cannot be the one that was meant */
    size_t allowed_count = 0, absent_count = 0;
    weir_check(count <= 64);
    for (size_t i = 0; i < count; i++) {
        if (!(fields[i].allowed & variant))
            continue;
        allowed[allowed_count++] = fields[i].name;
        if (!json_object_get(object->json, fields[i].name))
            absent[absent_count++] = fields[i].name;
    }
    struct weir_node node = weir_node_member(object, name);
    if (field_of(fields, count, name))
        weir_mistake_add(load, &node, WEIR_MISTAKE_UNKNOWN_KEY, "does not go %s; allowed are %s", variant_text,
                         weir_words(load, allowed, allowed_count));
    else
        weir_mistake_add(load, &node, WEIR_MISTAKE_UNKNOWN_KEY, "unknown key; allowed are %s%s",
                         weir_words(load, allowed, allowed_count),
                         weir_nearest(load, weir_slice_text(name), absent, absent_count));
}

bool weir_read_object(struct weir_catalog_load *load, const struct weir_node *node, const struct weir_field fields[],
                      size_t field_count, unsigned variant, const char *variant_text)
{
    if (!json_is_object(node->json)) {
        weir_mistake_add(load, node, WEIR_MISTAKE_WRONG_TYPE, "found %s; must be an object",
                         weir_found(load, node->json));
        return false;
    }
    const char *name;
    json_t *value;
    json_object_foreach(node->json, name, value)
    {
        const struct weir_field *field = field_of(fields, field_count, name);
        if (!field || !(field->allowed & variant))
            report_unknown(load, node, name, fields, field_count, variant, variant_text);
    }
    for (size_t i = 0; i < field_count; i++)
        if ((fields[i].required & variant) == variant && !json_object_get(node->json, fields[i].name))
            weir_mistake_add(load, node, WEIR_MISTAKE_MISSING_KEY, "\"%s\" is missing%s%s", fields[i].name,
                             *variant_text ? "; it is needed " : "", variant_text);
    return true;
}

/* 2. scalars and lists */

bool weir_read_list(struct weir_catalog_load *load, const struct weir_node *object, const char *name, size_t min,
                    size_t max, struct weir_node *ret_list)
{
    struct weir_node list = weir_node_member(object, name);
    if (!list.json)
        return false;
    if (!json_is_array(list.json)) {
        weir_mistake_add(load, &list, WEIR_MISTAKE_WRONG_TYPE, "found %s; must be a list", weir_found(load, list.json));
        return false;
    }
    size_t size = json_array_size(list.json);
    if (size < min || size > max) {
        weir_mistake_add(load, &list, WEIR_MISTAKE_BAD_VALUE, "found %zu entries; must be %zu to %zu", size, min, max);
        return false;
    }
    *ret_list = list;
    return true;
}

bool weir_read_node_text(struct weir_catalog_load *load, const struct weir_node *node, size_t min, size_t max,
                         struct weir_slice *ret_text)
{
    if (!json_is_string(node->json)) {
        weir_mistake_add(load, node, WEIR_MISTAKE_WRONG_TYPE, "found %s; must be a string",
                         weir_found(load, node->json));
        return false;
    }
    size_t length = json_string_length(node->json);
    if (length < min || length > max) {
        weir_mistake_add(load, node, WEIR_MISTAKE_BAD_VALUE, "found %s of %zu bytes; must be %zu to %zu bytes long",
                         weir_found(load, node->json), length, min, max);
        return false;
    }
    *ret_text = weir_arena_copy(load->arena, json_string_value(node->json), length);
    return true;
}

bool weir_read_text(struct weir_catalog_load *load, const struct weir_node *object, const char *name, size_t min,
                    size_t max, struct weir_slice *ret_text)
{
    struct weir_node node = weir_node_member(object, name);
    return node.json && weir_read_node_text(load, &node, min, max, ret_text);
}

bool weir_read_key(struct weir_catalog_load *load, const struct weir_node *object, const char *name,
                   struct weir_slice *ret_key)
{
    struct weir_slice key;
    if (!weir_read_text(load, object, name, 1, WEIR_KEY_MAX, &key))
        return false;
    for (uint32_t i = 0; i < key.length; i++) {
        char c = key.data[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_'
            || c == '-')
            continue;
        struct weir_node node = weir_node_member(object, name);
        weir_mistake_add(load, &node, WEIR_MISTAKE_BAD_VALUE,
                         "found %s; a key is made of letters, digits, '.', '_' and '-'", weir_found(load, node.json));
        return false;
    }
    *ret_key = key;
    return true;
}

bool weir_read_choice(struct weir_catalog_load *load, const struct weir_node *object, const char *name,
                      const char *const choices[], size_t choice_count, unsigned *ret_choice)
{
    struct weir_node node = weir_node_member(object, name);
    if (!node.json)
        return false;
    const char *text = json_string_value(node.json);
    for (size_t i = 0; text && i < choice_count; i++) {
        if (strcmp(text, choices[i]) == 0) {
            *ret_choice = (unsigned)i;
            return true;
        }
    }
    weir_mistake_add(load, &node, text ? WEIR_MISTAKE_BAD_VALUE : WEIR_MISTAKE_WRONG_TYPE,
                     "found %s; allowed are the strings %s%s", weir_found(load, node.json),
                     weir_words(load, choices, choice_count),
                     text ? weir_nearest(load, weir_slice_text(text), choices, choice_count) : "");
    return false;
}

bool weir_read_integer(struct weir_catalog_load *load, const struct weir_node *object, const char *name, int64_t min,
                       int64_t max, int64_t *ret_integer)
{
    struct weir_node node = weir_node_member(object, name);
    if (!node.json)
        return false;
    if (!json_is_integer(node.json) || json_integer_value(node.json) < min || json_integer_value(node.json) > max) {
        weir_mistake_add(load, &node, json_is_integer(node.json) ? WEIR_MISTAKE_BAD_VALUE : WEIR_MISTAKE_WRONG_TYPE,
                         "found %s; must be a whole number from %" PRId64 " to %" PRId64 ", not in quotes",
                         weir_found(load, node.json), min, max);
        return false;
    }
    *ret_integer = json_integer_value(node.json);
    return true;
}

bool weir_read_boolean(struct weir_catalog_load *load, const struct weir_node *object, const char *name,
                       bool *ret_boolean)
{
    struct weir_node node = weir_node_member(object, name);
    if (!node.json)
        return false;
    if (!json_is_boolean(node.json)) {
        weir_mistake_add(load, &node, WEIR_MISTAKE_WRONG_TYPE, "found %s; must be true or false, not in quotes",
                         weir_found(load, node.json));
        return false;
    }
    *ret_boolean = json_is_true(node.json);
    return true;
}

/* 3. decimals and times */

/* The schema's pattern sees plain digits beyond 12 places; what only arithmetic sees (an exponent, the largest value)
 * is another kind of mistake. */
static enum weir_mistake_kind decimal_kind(enum weir_decimal_result result, struct weir_slice text)
{
    bool exponent = memchr(text.data, 'e', text.length) || memchr(text.data, 'E', text.length);
    return result == WEIR_DECIMAL_PRECISION && !exponent ? WEIR_MISTAKE_BAD_VALUE : WEIR_MISTAKE_NOT_REPRESENTABLE;
}

bool weir_read_decimal(struct weir_catalog_load *load, const struct weir_node *object, const char *name,
                       enum weir_sign sign, struct weir_decimal *ret_value)
{
    static const char *const meaning[] = {
        [WEIR_NOT_NEGATIVE] = "a decimal number of 0 or more",
        [WEIR_POSITIVE] = "a decimal number greater than 0",
    };
    struct weir_node node = weir_node_member(object, name);
    if (!node.json)
        return false;
    const char *found = weir_found(load, node.json);
    if (!json_is_string(node.json)) {
        weir_mistake_add(load, &node, WEIR_MISTAKE_WRONG_TYPE,
                         json_is_number(node.json) ? "found %s; write it as a string (in quotes), so that it is read "
                                                     "exactly; must be %s"
                                                   : "found %s; must be a string with %s",
                         found, meaning[sign]);
        return false;
    }
    struct weir_slice text = weir_slice_of(json_string_value(node.json), json_string_length(node.json));
    struct weir_decimal value;
    enum weir_decimal_result result = weir_decimal_parse(text, &value);
    if (result == WEIR_DECIMAL_SYNTAX)
        weir_mistake_add(load, &node, WEIR_MISTAKE_BAD_VALUE,
                         "found %s; must be %s, such as \"0.0025\" (digits, one point, no other characters)", found,
                         meaning[sign]);
    else if (result != WEIR_DECIMAL_OK)
        weir_mistake_add(load, &node, decimal_kind(result, text),
                         "found %s, which has %s; must be %s that is exactly "
                         "representable (at most 12 decimal places, less than 2^127 / 10^12)",
                         found, result == WEIR_DECIMAL_PRECISION ? "more than 12 decimal places" : "too many digits",
                         meaning[sign]);
    else if (text.data[0] == '-' || (sign == WEIR_POSITIVE && weir_decimal_is_zero(value)))
        weir_mistake_add(load, &node, WEIR_MISTAKE_BAD_VALUE, "found %s; must be %s", found, meaning[sign]);
    else {
        *ret_value = value;
        return true;
    }
    return false;
}

/* dddd-dd-ddTdd:dd:dd[.d+](Z|±dd:dd): the form; weir_time_parse() knows which of these exist. */
static bool has_time_form(const char *text, bool *ret_whole_second)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd";
    static const char digits[] = "0123456789";
    for (const char *f = form; *f; f++, text++) {
        bool ok = *f == 'd' ? *text >= '0' && *text <= '9' : *f == 'T' ? *text == 'T' || *text == 't' : *text == *f;
        if (!ok)
            return false;
    }
    *ret_whole_second = true;
    if (*text == '.') {
        size_t length = strspn(++text, digits);
        *ret_whole_second = strspn(text, "0") == length;
        text += length;
        if (!length)
            return false;
    }
    if (*text == 'Z' || *text == 'z')
        return text[1] == 0;
    return (*text == '+' || *text == '-') && strspn(text + 1, digits) == 2 && text[3] == ':'
           && strspn(text + 4, digits) == 2 && text[6] == 0;
}

bool weir_read_time(struct weir_catalog_load *load, const struct weir_node *object, const char *name,
                    enum weir_time_precision precision, int64_t *ret_time)
{
    static const char meaning[] = "an RFC 3339 time such as \"2026-01-01T00:00:00Z\"";
    struct weir_node node = weir_node_member(object, name);
    if (!node.json)
        return false;
    const char *text = json_string_value(node.json);
    const char *found = weir_found(load, node.json);
    bool whole_second = false;
    int64_t time;
    if (!text || !has_time_form(text, &whole_second))
        weir_mistake_add(load, &node, text ? WEIR_MISTAKE_BAD_VALUE : WEIR_MISTAKE_WRONG_TYPE,
                         "found %s; must be a string with %s", found, meaning);
    else if (precision == WEIR_WHOLE_SECONDS && !whole_second)
        weir_mistake_add(load, &node, WEIR_MISTAKE_BAD_VALUE, "found %s; must be a whole second, %s", found, meaning);
    else if (!weir_time_parse(weir_slice_text(text), &time))
        weir_mistake_add(load, &node, WEIR_MISTAKE_NO_SUCH_TIME,
                         "found %s; there is no such time from the year 1970 to 2261; must be %s", found, meaning);
    else {
        *ret_time = time;
        return true;
    }
    return false;
}
