/* Arguments of one script call, in memory that is reused: it grows to the largest cut and stays. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "aggregator/store_redis_internal.h"

char *weir_redis_reserve(struct weir_redis_buffer *buffer, size_t more)
{
    if (buffer->data && buffer->capacity - buffer->length >= more)
        return buffer->data + buffer->length;
    size_t capacity = buffer->capacity ? buffer->capacity : 4096;
    while (capacity - buffer->length < more)
        capacity *= 2;
    buffer->data = weir_resize(buffer->data, capacity, 1);
    buffer->capacity = capacity;
    return buffer->data + buffer->length;
}

void weir_redis_put(struct weir_redis_buffer *buffer, const void *data, size_t length)
{
    if (length == 0)
        return;
    memcpy(weir_redis_reserve(buffer, length), data, length);
    buffer->length += length;
}

void weir_redis_buffer_free(struct weir_redis_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct weir_redis_buffer){0};
}

static void add_piece(struct weir_redis_pieces *pieces, const char *outside, size_t offset, size_t length)
{
    if (pieces->count == pieces->capacity) {
        pieces->capacity = pieces->capacity ? pieces->capacity * 2 : 64;
        pieces->at = weir_resize(pieces->at, pieces->capacity, sizeof(*pieces->at));
    }
    pieces->at[pieces->count++] = (struct weir_redis_piece){outside, offset, length};
}

void weir_redis_command_clear(struct weir_redis_command *command)
{
    command->bytes.length = 0;
    command->keys.count = 0;
    command->arguments.count = 0;
    command->outside_bytes = 0;
}

void weir_redis_command_free(struct weir_redis_command *command)
{
    weir_redis_buffer_free(&command->bytes);
    free(command->keys.at);
    free(command->arguments.at);
    free(command->argv);
    free(command->lengths);
    *command = (struct weir_redis_command){0};
}

static size_t vprint_key(char key[WEIR_REDIS_KEY_MAX], struct weir_slice lane, const char *format, va_list arguments)
{
    weir_check(lane.length <= WEIR_LANE_NAME_MAX);
    memcpy(key, "weir:{", 6);
    memcpy(key + 6, lane.data, lane.length);
    memcpy(key + 6 + lane.length, "}:", 2);
    size_t length = 6 + lane.length + 2;
    int printed = vsnprintf(key + length, WEIR_REDIS_KEY_MAX - length, format, arguments);
    weir_check(printed > 0 && (size_t)printed < WEIR_REDIS_KEY_MAX - length);
    return length + (size_t)printed;
}

size_t weir_redis_key(char key[WEIR_REDIS_KEY_MAX], struct weir_slice lane, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t length = vprint_key(key, lane, format, arguments);
    va_end(arguments);
    return length;
}

size_t weir_redis_add_key(struct weir_redis_command *command, struct weir_slice lane, const char *format, ...)
{
    char key[WEIR_REDIS_KEY_MAX];
    va_list arguments;
    va_start(arguments, format);
    size_t length = vprint_key(key, lane, format, arguments);
    va_end(arguments);
    add_piece(&command->keys, NULL, command->bytes.length, length);
    weir_redis_put(&command->bytes, key, length);
    return command->keys.count;
}

size_t weir_redis_vprint(char text[WEIR_REDIS_TEXT_MAX], const char *format, va_list arguments)
{
    int length = vsnprintf(text, WEIR_REDIS_TEXT_MAX, format, arguments);
    weir_check(length >= 0 && length < WEIR_REDIS_TEXT_MAX);
    return (size_t)length;
}

void weir_redis_add_text(struct weir_redis_command *command, const char *format, ...)
{
    char text[WEIR_REDIS_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    size_t length = weir_redis_vprint(text, format, arguments);
    va_end(arguments);
    add_piece(&command->arguments, NULL, command->bytes.length, length);
    weir_redis_put(&command->bytes, text, length);
}

void weir_redis_add_outside(struct weir_redis_command *command, const char *data, size_t length)
{
    add_piece(&command->arguments, data, 0, length);
    command->outside_bytes += length;
}

void weir_redis_pack_begin(struct weir_redis_command *command)
{
    command->packed_from = command->bytes.length;
}

void weir_redis_pack(struct weir_redis_command *command, const void *data, size_t length)
{
    weir_check(length <= UINT16_MAX);
    struct weir_redis_buffer *bytes = &command->bytes;
    char *at = weir_redis_reserve(bytes, length + 3);
    if (length < 256) {
        *at++ = (char)0xd9; /* msgpack str 8 */
    } else {
        *at++ = (char)0xda; /* msgpack str 16, big endian */
        *at++ = (char)(length >> 8);
    }
    *at++ = (char)(length & 0xff);
    if (length)
        memcpy(at, data, length);
    bytes->length = (size_t)(at - bytes->data) + length;
}

void weir_redis_pack_text(struct weir_redis_command *command, const char *format, ...)
{
    char text[WEIR_REDIS_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    size_t length = weir_redis_vprint(text, format, arguments);
    va_end(arguments);
    weir_redis_pack(command, text, length);
}

void weir_redis_pack_end(struct weir_redis_command *command)
{
    add_piece(&command->arguments, NULL, command->packed_from, command->bytes.length - command->packed_from);
}
