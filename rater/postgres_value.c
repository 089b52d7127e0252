#include "rater/postgres_value.h"

#include <endian.h>
#include <stdlib.h>

#include "common/calendar.h"
#include "common/status.h"

enum { FIRST_ROOM = 4096 };

/* PostgreSQL counts from 2000-01-01. */
#define EPOCH_SECONDS INT64_C(946684800)
#define NS_PER_US 1000

void weir_buffer_free(struct weir_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct weir_buffer){0};
}

/* 1. writing */
static char *room_for(struct weir_buffer *buffer, size_t length)
{
    if (buffer->room - buffer->length < length) {
        buffer->room = buffer->room ? buffer->room : FIRST_ROOM;
        while (buffer->room - buffer->length < length)
            buffer->room *= 2;
        buffer->data = weir_resize(buffer->data, buffer->room, 1);
    }
    buffer->length += length;
    return buffer->data + buffer->length - length;
}

void weir_buffer_add(struct weir_buffer *buffer, struct weir_slice bytes)
{
    char *to = room_for(buffer, bytes.length);

    if (bytes.length)
        memcpy(to, bytes.data, bytes.length);
}

static void store16(char *to, uint16_t value)
{
    value = htobe16(value);
    memcpy(to, &value, sizeof value);
}

static void store32(char *to, uint32_t value)
{
    value = htobe32(value);
    memcpy(to, &value, sizeof value);
}

static void store64(char *to, uint64_t value)
{
    value = htobe64(value);
    memcpy(to, &value, sizeof value);
}

void weir_put_null(struct weir_buffer *buffer)
{
    store32(room_for(buffer, 4), UINT32_MAX);
}

void weir_put_text(struct weir_buffer *buffer, struct weir_slice text)
{
    char *to = room_for(buffer, 4 + (size_t)text.length);

    store32(to, text.length);
    if (text.length)
        memcpy(to + 4, text.data, text.length);
}

void weir_put_jsonb(struct weir_buffer *buffer, struct weir_slice json)
{
    char *to = room_for(buffer, 5 + (size_t)json.length);

    store32(to, json.length + 1);
    to[4] = 1; /* the format's version */
    memcpy(to + 5, json.data, json.length);
}

void weir_put_uuid(struct weir_buffer *buffer, const unsigned char bytes[16])
{
    char *to = room_for(buffer, 20);

    store32(to, 16);
    memcpy(to + 4, bytes, 16);
}

void weir_put_bool(struct weir_buffer *buffer, bool value)
{
    char *to = room_for(buffer, 5);

    store32(to, 1);
    to[4] = value;
}

void weir_put_int4(struct weir_buffer *buffer, int32_t value)
{
    char *to = room_for(buffer, 8);

    store32(to, 4);
    store32(to + 4, (uint32_t)value);
}

void weir_put_int8(struct weir_buffer *buffer, int64_t value)
{
    char *to = room_for(buffer, 12);

    store32(to, 8);
    store64(to + 4, (uint64_t)value);
}

/* numeric: u16 digits | i16 weight of the first | u16 sign | u16 decimal places | digits to the base 10000. Twelve
 * decimal places are three such digits exactly, so our integer's digits are PostgreSQL's. */
enum { BASE = 10000, FRACTION_DIGITS = 3, DIGITS_MAX = 10, NEGATIVE = 0x4000 };

void weir_put_decimal(struct weir_buffer *buffer, struct weir_decimal value)
{
    uint16_t digits[DIGITS_MAX];
    int count = 0, zeros = 0;
    weir_uint128 rest = value.e12 < 0 ? -(weir_uint128)value.e12 : (weir_uint128)value.e12;

    while (rest > UINT64_MAX) { /* 128-bit division is slow, and rare */
        digits[count++] = (uint16_t)(rest % BASE);
        rest /= BASE;
    }
    for (uint64_t low = (uint64_t)rest; low > 0; low /= BASE)
        digits[count++] = (uint16_t)(low % BASE);
    while (zeros < count && digits[zeros] == 0)
        zeros++;
    char *to = room_for(buffer, 4 + 8 + 2 * (size_t)(count - zeros));
    store32(to, (uint32_t)(8 + 2 * (count - zeros)));
    store16(to + 4, (uint16_t)(count - zeros));
    store16(to + 6, count ? (uint16_t)(count - 1 - FRACTION_DIGITS) : 0);
    store16(to + 8, value.e12 < 0 ? NEGATIVE : 0);
    store16(to + 10, WEIR_DECIMAL_PLACES);
    to += 12;
    for (int i = count - 1; i >= zeros; i--, to += 2)
        store16(to, digits[i]);
}

void weir_put_time(struct weir_buffer *buffer, int64_t time)
{
    weir_check(time == WEIR_TIME_NEVER || time % NS_PER_US == 0);
    weir_put_int8(buffer, time == WEIR_TIME_NEVER ? INT64_MAX : time / NS_PER_US - EPOCH_SECONDS * 1000000);
}

void weir_put_copy_header(struct weir_buffer *buffer)
{
    static const char signature[] = "PGCOPY\n\377\r\n"; /* its NUL belongs to it */
    char *to = room_for(buffer, sizeof signature + 8);

    memcpy(to, signature, sizeof signature);
    memset(to + sizeof signature, 0, 8); /* no flags, no extension */
}

void weir_put_row(struct weir_buffer *buffer, int columns)
{
    store16(room_for(buffer, 2), (uint16_t)columns);
}

void weir_put_copy_end(struct weir_buffer *buffer)
{
    store16(room_for(buffer, 2), UINT16_MAX);
}

/* i32 dimensions | i32 has nulls | i32 type | i32 count | i32 lower bound | elements. */
void weir_array_begin(struct weir_buffer *buffer, enum weir_postgres_type element)
{
    buffer->length = 0;
    char *to = room_for(buffer, 20);
    store32(to, 1);
    store32(to + 4, 1);
    store32(to + 8, element);
    store32(to + 12, 0);
    store32(to + 16, 1);
}

void weir_array_end(struct weir_buffer *buffer, size_t count)
{
    weir_check(count <= INT32_MAX);
    store32(buffer->data + 12, (uint32_t)count);
    if (count == 0) { /* an empty array has no dimension */
        store32(buffer->data, 0);
        buffer->length = 12;
    }
}

/* 2. reading */
static uint16_t fetch16(const char *from)
{
    uint16_t value;
    memcpy(&value, from, sizeof value);
    return be16toh(value);
}

int32_t weir_get_int4(const char *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return (int32_t)be32toh(value);
}

int64_t weir_get_int8(const char *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return (int64_t)be64toh(value);
}

int64_t weir_get_time(const char *bytes)
{
    int64_t stored = weir_get_int8(bytes), us, time;

    /* infinity is the largest number there is: what overflowed says nothing of the sign */
    if (__builtin_add_overflow(stored, EPOCH_SECONDS * 1000000, &us) || __builtin_mul_overflow(us, NS_PER_US, &time))
        return stored > 0 ? WEIR_TIME_NEVER : INT64_MIN;
    return time;
}

bool weir_get_decimal(const char *bytes, size_t length, struct weir_decimal *ret_value)
{
    weir_uint128 sum = 0, limit = (weir_uint128)weir_decimal_max().e12;

    if (length < 8 || length != 8 + 2 * (size_t)fetch16(bytes))
        return false;
    int count = fetch16(bytes), weight = (int16_t)fetch16(bytes + 2), sign = fetch16(bytes + 4);
    if (sign != 0 && sign != NEGATIVE)
        return false; /* NaN and infinity */
    for (int i = 0; i < count || (count > 0 && weight - i >= -FRACTION_DIGITS); i++) {
        unsigned digit = i < count ? fetch16(bytes + 8 + 2 * i) : 0;
        if (weight - i < -FRACTION_DIGITS) {
            if (digit)
                return false; /* more than twelve places */
            continue;
        }
        if (sum > (limit - digit) / BASE)
            return false;
        sum = sum * BASE + digit;
    }
    ret_value->e12 = sign ? -(weir_int128)sum : (weir_int128)sum;
    return true;
}
