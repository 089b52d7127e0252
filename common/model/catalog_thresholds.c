/* Thresholds of balances: "50" or "20%", in a catalog's low_balance and in what weir grant is told. */
#include <stdio.h>

#include "common/model/catalog_internal.h"

enum { PERCENT_DIGITS = 2, PERCENT_PLACES = 4 };

static uint32_t digits_from(struct weir_slice text, uint32_t at)
{
    uint32_t count = 0;

    while (at + count < text.length && text.data[at + count] >= '0' && text.data[at + count] <= '9')
        count++;
    return count;
}

/* One or two digits, and up to four places. */
static bool is_percentage(struct weir_slice number)
{
    uint32_t whole = digits_from(number, 0);

    if (whole < 1 || whole > PERCENT_DIGITS)
        return false;
    if (whole == number.length)
        return true;
    uint32_t places = digits_from(number, whole + 1);
    return number.data[whole] == '.' && places >= 1 && places <= PERCENT_PLACES && whole + 1 + places == number.length;
}

enum weir_decimal_result weir_threshold_parse(struct weir_slice text, struct weir_threshold *ret_threshold)
{
    bool is_percent = text.length > 0 && text.data[text.length - 1] == '%';
    struct weir_slice number = weir_slice_of(text.data, text.length - is_percent);

    ret_threshold->is_percent = is_percent;
    if (is_percent ? !is_percentage(number)
                   : digits_from(number, 0) == 0 || memchr(number.data, 'e', number.length)
                         || memchr(number.data, 'E', number.length))
        return WEIR_DECIMAL_SYNTAX;
    if (is_percent && number.length > 1 && number.data[0] == '0' && number.data[1] != '.')
        number = weir_slice_of(number.data + 1, number.length - 1);
    return weir_decimal_parse(number, &ret_threshold->value);
}

void weir_threshold_format(const struct weir_threshold *threshold, char text[WEIR_THRESHOLD_TEXT_MAX])
{
    char number[WEIR_DECIMAL_TEXT_MAX];

    weir_decimal_format_short(threshold->value, number);
    (void)snprintf(text, WEIR_THRESHOLD_TEXT_MAX, "%s%s", number, threshold->is_percent ? "%" : "");
}

static int compare(const struct weir_threshold *a, const struct weir_threshold *b)
{
    int order = a->is_percent - b->is_percent;

    return order ? order : weir_decimal_compare(a->value, b->value);
}

bool weir_thresholds_add(struct weir_thresholds *thresholds, const struct weir_threshold *threshold)
{
    uint32_t at = thresholds->count;

    while (at > 0 && compare(&thresholds->list[at - 1], threshold) > 0)
        at--;
    if (at > 0 && compare(&thresholds->list[at - 1], threshold) == 0)
        return false;
    memmove(&thresholds->list[at + 1], &thresholds->list[at], (thresholds->count - at) * sizeof *threshold);
    thresholds->list[at] = *threshold;
    thresholds->count++;
    return true;
}

bool weir_thresholds_equal(const struct weir_thresholds *a, const struct weir_thresholds *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (compare(&a->list[i], &b->list[i]) != 0)
            return false;
    return true;
}

static bool read_threshold(struct weir_catalog_load *load, const struct weir_node *node, bool has_whole,
                           struct weir_threshold *ret_threshold)
{
    struct weir_slice text;

    if (!weir_read_node_text(load, node, 1, WEIR_KEY_MAX, &text))
        return false;
    enum weir_decimal_result result = weir_threshold_parse(text, ret_threshold);
    if (result == WEIR_DECIMAL_OK && (has_whole || !ret_threshold->is_percent))
        return true;
    weir_mistake_add(load, node, result == WEIR_DECIMAL_RANGE ? WEIR_MISTAKE_NOT_REPRESENTABLE : WEIR_MISTAKE_BAD_VALUE,
                     has_whole ? "found %s; must be an amount, such as \"50\", or a percentage below 100 of what was "
                                 "granted, such as \"20%%\""
                               : "found %s; must be an amount, such as \"50\"",
                     weir_found(load, node->json));
    return false;
}

void weir_read_low_balance(struct weir_catalog_load *load, const struct weir_node *object, bool has_whole,
                           struct weir_thresholds *ret_thresholds)
{
    struct weir_threshold threshold;
    struct weir_node list;

    if (!weir_read_list(load, object, "low_balance", 1, WEIR_THRESHOLDS_MAX, &list))
        return;
    size_t count = json_array_size(list.json);
    ret_thresholds->list = weir_arena_take_array(load->arena, count, sizeof *ret_thresholds->list);
    for (size_t i = 0; i < count; i++) {
        struct weir_node node = weir_node_element(&list, i);
        if (read_threshold(load, &node, has_whole, &threshold) && !weir_thresholds_add(ret_thresholds, &threshold))
            weir_mistake_add(load, &node, WEIR_MISTAKE_DUPLICATE, "%s stands in the list already",
                             weir_found(load, node.json));
    }
}
