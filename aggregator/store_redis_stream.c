/* Commands in the form in which they are sent: "*arguments\r\n", then "$length\r\nbytes\r\n" for each. They are written
 * into memory that is reused, and go out as they lie there. What is written for each window of a cut is inline in
 * store_redis_internal.h. */
#include <inttypes.h>
#include <stdarg.h>

#include "aggregator/store_redis_internal.h"

void weir_redis_stream_put(struct weir_redis_stream *stream, const void *data, size_t length)
{
    char *at = weir_redis_reserve(&stream->bytes, WEIR_REDIS_HEAD_MAX + length + WEIR_REDIS_END);
    weir_redis_used_up_to(&stream->bytes, weir_redis_write_argument(at, data, length));
}

void weir_redis_stream_put_text(struct weir_redis_stream *stream, const char *format, ...)
{
    char text[WEIR_REDIS_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    size_t length = weir_redis_vprint(text, format, arguments);
    va_end(arguments);
    weir_redis_stream_put(stream, text, length);
}

void weir_redis_stream_begin(struct weir_redis_stream *stream, const char *name, size_t arguments)
{
    weir_redis_used_up_to(&stream->bytes, weir_redis_write_head(weir_redis_reserve(&stream->bytes, WEIR_REDIS_HEAD_MAX),
                                                                '*', arguments + 1));
    weir_redis_stream_put(stream, name, strlen(name));
    stream->commands++;
}

struct weir_redis_key weir_redis_span_key(struct weir_slice lane, const char *what, const struct weir_redis_span *span)
{
    struct weir_redis_key key;
    key.length = weir_redis_key(key.bytes, lane, "%s:%" PRId64 ":%" PRId64, what, span->start, span->end);
    return key;
}

struct weir_redis_key weir_redis_plain_key(struct weir_slice lane, const char *what)
{
    struct weir_redis_key key;
    key.length = weir_redis_key(key.bytes, lane, "%s", what);
    return key;
}

struct weir_redis_key weir_redis_segment_key(struct weir_slice lane, const char *log, uint64_t segment)
{
    struct weir_redis_key key;
    key.length = weir_redis_key(key.bytes, lane, "%s:%" PRIu64, log, segment);
    return key;
}

void weir_redis_stream_put_key(struct weir_redis_stream *stream, const struct weir_redis_key *key)
{
    weir_redis_stream_put(stream, key->bytes, key->length);
}
