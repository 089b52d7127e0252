#include "ingest/file_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { INPUT_BYTES = 256 * 1024, GZIP_WINDOW = 15 + 16 /* zlib's word for: gzip only */ };

enum format { PLAIN, GZIP, ZSTD };

struct weir_file_stream {
    char *path;
    int descriptor;
    enum format format;
    bool is_regular;
    bool is_ended;       /* the file's last byte has been read */
    bool is_within;      /* a member or frame has begun and not ended */
    const char *failure; /* damage that was found behind bytes that were still good */
    uint64_t taken;
    unsigned char *input; /* compressed bytes [begin, end) */
    size_t begin, end;
    z_stream gzip;
    ZSTD_DStream *zstd;
};

static bool ends_in(const char *path, const char *ending)
{
    size_t length = strlen(path);
    size_t tail = strlen(ending);
    return length > tail && strcmp(path + length - tail, ending) == 0;
}

static enum weir_status start_format(struct weir_file_stream *stream, struct weir_error *reterr)
{
    if (stream->format == PLAIN)
        return WEIR_OK;
    stream->input = weir_new(INPUT_BYTES);
    if (stream->format == GZIP && inflateInit2(&stream->gzip, GZIP_WINDOW) != Z_OK)
        return weir_fail(reterr, WEIR_FATAL, "%s: out of memory for zlib", stream->path);
    if (stream->format == ZSTD && !(stream->zstd = ZSTD_createDStream()))
        return weir_fail(reterr, WEIR_FATAL, "%s: out of memory for zstd", stream->path);
    return WEIR_OK;
}

static enum format format_of(const char *path)
{
    return ends_in(path, ".gz") ? GZIP : ends_in(path, ".zst") ? ZSTD : PLAIN; /* "-" is plain */
}

enum weir_status weir_file_stream_look(const char *path, bool *ret_is_known, uint64_t *ret_size,
                                       struct weir_error *reterr)
{
    struct stat status;

    *ret_is_known = false;
    *ret_size = 0;
    if (strcmp(path, "-") == 0)
        return WEIR_OK;
    if (stat(path, &status) != 0 || access(path, R_OK) != 0)
        return weir_fail(reterr, WEIR_REJECT, "%s: cannot be read: %s", path, strerror(errno));
    if (S_ISDIR(status.st_mode))
        return weir_fail(reterr, WEIR_REJECT, "%s: is a folder; name the files in it", path);
    *ret_is_known = S_ISREG(status.st_mode) && format_of(path) == PLAIN;
    *ret_size = *ret_is_known ? (uint64_t)status.st_size : 0;
    return WEIR_OK;
}

enum weir_status weir_file_stream_open(const char *path, struct weir_file_stream **ret_stream,
                                       struct weir_error *reterr)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int descriptor = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;

    if (descriptor < 0)
        return weir_fail(reterr, WEIR_REJECT, "%s: cannot be read: %s", path, strerror(errno));
    struct weir_file_stream *stream = weir_new(sizeof *stream);
    stream->path = weir_copy_text(path, strlen(path));
    stream->descriptor = descriptor;
    stream->format = format_of(path);
    stream->is_regular = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    if (stream->is_regular)
        (void)posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL); /* advice: the answer does not matter */
    enum weir_status started = start_format(stream, reterr);
    if (started != WEIR_OK) {
        weir_file_stream_close(stream);
        return started;
    }
    *ret_stream = stream;
    return WEIR_OK;
}

struct weir_file_stream *weir_file_stream_close(struct weir_file_stream *stream)
{
    if (!stream)
        return NULL;
    if (stream->format == GZIP)
        (void)inflateEnd(&stream->gzip);
    ZSTD_freeDStream(stream->zstd);
    if (stream->descriptor != STDIN_FILENO)
        close(stream->descriptor);
    free(stream->input);
    free(stream->path);
    free(stream);
    return NULL;
}

uint64_t weir_file_stream_taken(const struct weir_file_stream *stream)
{
    return stream->taken;
}

/* Bytes of the file itself. */
static enum weir_status read_raw(struct weir_file_stream *stream, int timeout_ms, void *bytes, size_t room,
                                 size_t *ret_length, struct weir_error *reterr)
{
    if (!stream->is_regular && timeout_ms >= 0) {
        struct pollfd wait = {.fd = stream->descriptor, .events = POLLIN};
        if (poll(&wait, 1, timeout_ms) <= 0)
            return WEIR_AGAIN;
    }
    ssize_t length = read(stream->descriptor, bytes, room);
    if (length < 0 && (errno == EINTR || errno == EAGAIN))
        return WEIR_AGAIN;
    if (length < 0)
        return weir_fail(reterr, WEIR_FATAL, "%s: cannot be read on at byte %llu: %s", stream->path,
                         (unsigned long long)stream->taken, strerror(errno));
    stream->taken += (uint64_t)length;
    stream->is_ended = length == 0;
    *ret_length = (size_t)length;
    return WEIR_OK;
}

/* Zero bytes behind the last member are padding (tapes, gzip -l); anything else there is damage. */
static bool skip_padding(struct weir_file_stream *stream)
{
    while (stream->begin < stream->end && stream->input[stream->begin] == 0)
        stream->begin++;
    return stream->begin < stream->end;
}

static enum weir_status damaged(const struct weir_file_stream *stream, const char *what, struct weir_error *reterr)
{
    uint64_t place = stream->taken - (stream->end - stream->begin);
    return weir_fail(reterr, WEIR_FATAL, "%s: damaged at byte %llu: %s; what stands before it has been read",
                     stream->path, (unsigned long long)place, what);
}

static enum weir_status inflate_some(struct weir_file_stream *stream, char *bytes, size_t room, size_t *ret_length,
                                     struct weir_error *reterr)
{
    z_stream *gzip = &stream->gzip;

    *ret_length = 0;
    if (!stream->is_within) {
        if (stream->taken > stream->end - stream->begin && !skip_padding(stream))
            return WEIR_OK;
        (void)inflateReset(gzip);
        stream->is_within = true;
    }
    gzip->next_in = stream->input + stream->begin;
    gzip->avail_in = (uInt)(stream->end - stream->begin);
    gzip->next_out = (Bytef *)bytes;
    gzip->avail_out = (uInt)room;
    int result = inflate(gzip, Z_NO_FLUSH);
    stream->begin = stream->end - gzip->avail_in;
    *ret_length = room - gzip->avail_out;
    if (result == Z_STREAM_END)
        stream->is_within = false;
    else if (result != Z_OK && result != Z_BUF_ERROR)
        stream->failure = gzip->msg ? gzip->msg : "no gzip data";
    return stream->failure && *ret_length == 0 ? damaged(stream, stream->failure, reterr) : WEIR_OK;
}

static enum weir_status decompress_some(struct weir_file_stream *stream, char *bytes, size_t room, size_t *ret_length,
                                        struct weir_error *reterr)
{
    ZSTD_inBuffer input = {stream->input, stream->end, stream->begin};
    ZSTD_outBuffer output = {bytes, room, 0};
    size_t result = ZSTD_decompressStream(stream->zstd, &output, &input);

    stream->begin = input.pos;
    *ret_length = output.pos;
    stream->is_within = result != 0;
    if (ZSTD_isError(result))
        stream->failure = ZSTD_getErrorName(result);
    return stream->failure && *ret_length == 0 ? damaged(stream, stream->failure, reterr) : WEIR_OK;
}

enum weir_status weir_file_stream_read(struct weir_file_stream *stream, int timeout_ms, char *bytes, size_t room,
                                       size_t *ret_length, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    if (stream->format == PLAIN)
        return read_raw(stream, timeout_ms, bytes, room, ret_length, reterr);
    *ret_length = 0;
    if (stream->failure)
        return damaged(stream, stream->failure, reterr);
    while (status == WEIR_OK && *ret_length == 0) {
        /* What the decompressor holds back comes out first: it may need no more input for that. */
        if (stream->begin < stream->end || stream->is_within)
            status = stream->format == GZIP ? inflate_some(stream, bytes, room, ret_length, reterr)
                                            : decompress_some(stream, bytes, room, ret_length, reterr);
        if (status != WEIR_OK || *ret_length > 0 || stream->begin < stream->end)
            continue;
        if (stream->is_ended)
            break;
        stream->begin = stream->end = 0;
        status = read_raw(stream, timeout_ms, stream->input, INPUT_BYTES, &stream->end, reterr);
    }
    if (status == WEIR_OK && *ret_length == 0 && (stream->is_within || stream->taken == 0))
        return damaged(stream, "the file ends before its data does", reterr);
    return status;
}
