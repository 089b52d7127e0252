#include "common/model/window.h"

#include <assert.h>

#include "common/status.h"

/* Lengths and totals are little endian, which is this machine's order on everything that weir builds for. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "stored forms are written as they are in memory");

static char *put_text(char *to, struct weir_slice text)
{
    uint16_t length = (uint16_t)text.length;

    memcpy(to, &length, sizeof length);
    if (length)
        memcpy(to + sizeof length, text.data, length);
    return to + sizeof length + length;
}

size_t weir_series_write(const struct weir_series *series, char bytes[WEIR_SERIES_KEY_MAX])
{
    char *to = bytes;

    weir_check(series->meter.length <= WEIR_KEY_MAX);
    weir_check(series->customer.length <= WEIR_IDENTIFIER_MAX);
    weir_check(series->dimension_count <= WEIR_DIMENSIONS_MAX);
    to = put_text(to, series->meter);
    to = put_text(to, series->customer);
    *to++ = (char)series->dimension_count;
    for (uint32_t i = 0; i < series->dimension_count; i++) {
        weir_check(series->dimensions[i].name.length <= WEIR_PATH_TEXT_MAX);
        weir_check(series->dimensions[i].text.length <= WEIR_IDENTIFIER_MAX);
        to = put_text(to, series->dimensions[i].name);
        to = put_text(to, series->dimensions[i].text);
    }
    return (size_t)(to - bytes);
}

/* Takes a text off the front of *bytes; false: it is not whole, or longer than limit. */
static bool take_text(struct weir_slice *bytes, uint32_t limit, struct weir_slice *ret_text)
{
    uint16_t length;

    if (bytes->length < sizeof length)
        return false;
    memcpy(&length, bytes->data, sizeof length);
    if (length > limit || bytes->length - sizeof length < length)
        return false;
    *ret_text = weir_slice_of(bytes->data + sizeof length, length);
    *bytes = weir_slice_of(bytes->data + sizeof length + length, bytes->length - sizeof length - length);
    return true;
}

bool weir_series_parse(struct weir_slice bytes, struct weir_series *ret_series)
{
    if (!take_text(&bytes, WEIR_KEY_MAX, &ret_series->meter)
        || !take_text(&bytes, WEIR_IDENTIFIER_MAX, &ret_series->customer) || bytes.length == 0)
        return false;
    ret_series->dimension_count = (unsigned char)bytes.data[0];
    bytes = weir_slice_of(bytes.data + 1, bytes.length - 1);
    if (ret_series->dimension_count > WEIR_DIMENSIONS_MAX)
        return false;
    for (uint32_t i = 0; i < ret_series->dimension_count; i++)
        if (!take_text(&bytes, WEIR_PATH_TEXT_MAX, &ret_series->dimensions[i].name)
            || !take_text(&bytes, WEIR_IDENTIFIER_MAX, &ret_series->dimensions[i].text))
            return false;
    return bytes.length == 0;
}

void weir_window_total_store(const struct weir_window_total *total, unsigned char bytes[WEIR_WINDOW_TOTAL_BYTES])
{
    memcpy(bytes, &total->events, 8);
    weir_decimal_store(total->value, bytes + 8);
    memcpy(bytes + 24, &total->latest_time, 8);
    memcpy(bytes + 32, &total->latest_offset, 8);
    memcpy(bytes + 40, &total->retracted, 8);
}

struct weir_window_total weir_window_total_load(const unsigned char bytes[WEIR_WINDOW_TOTAL_BYTES])
{
    struct weir_window_total total;

    memcpy(&total.events, bytes, 8);
    total.value = weir_decimal_load(bytes + 8);
    memcpy(&total.latest_time, bytes + 24, 8);
    memcpy(&total.latest_offset, bytes + 32, 8);
    memcpy(&total.retracted, bytes + 40, 8);
    return total;
}
