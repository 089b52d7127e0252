/* Lines of files, in blocks.
 *
 * One buffer of WEIR_EVENT_BYTES_MAX + 1 MiB: a block is read behind the line that the previous one left unfinished,
 * and only that line is ever moved. A line that outgrows WEIR_EVENT_BYTES_MAX is handed out cut, and skipped to its
 * end. With the table of file names and file_stream.h's share this is all the memory there is, whatever the files hold.
 */
#include "ingest/source.h"

#include <poll.h>
#include <stdlib.h>

#include "common/model/event.h"
#include "ingest/file_stream.h"

enum { BLOCK_BYTES = 1 << 20, LINE_BYTES_MAX = WEIR_EVENT_BYTES_MAX + 1 /* with a CR */, PAUSE_WAIT_MS = 100 };

struct file_source {
    struct weir_source source;
    size_t path_count;
    struct weir_slice *paths; /* NUL-terminated */
    size_t next_path;
    struct weir_slice topic;         /* the open file's name */
    struct weir_file_stream *stream; /* NULL: between files */
    bool is_skipping;                /* the rest of a line that was too large */
    bool is_paused;
    int64_t line;     /* in this file */
    int64_t sequence; /* over all files */
    int64_t first;    /* sequences below this are not wanted (after a seek) */
    uint64_t taken;   /* bytes of the files before this one */
    uint64_t total;
    char *buffer;
    size_t begin, end; /* not yet handed out */
};

/* 1. splitting */
static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
            return false;
    return true;
}

/* Takes a line (without its newline) as a message; false: it is blank, or before what was asked for. */
static inline bool take_line(struct file_source *self, const char *text, size_t length,
                             struct weir_message *ret_message)
{
    self->line++;
    self->sequence++;
    if (length && text[length - 1] == '\r')
        length--;
    bool is_too_large = length > WEIR_EVENT_BYTES_MAX; /* then nobody knows what its end holds */
    if (self->sequence < self->first || (!is_too_large && (length == 0 || text[0] <= ' ') && is_blank(text, length)))
        return false;
    *ret_message = (struct weir_message){
        .topic = self->topic,
        .offset = self->line,
        .sequence = self->sequence,
        .timestamp = -1,
        .value = weir_slice_of(text, is_too_large ? WEIR_EVENT_BYTES_MAX : length),
        .is_too_large = is_too_large,
    };
    return true;
}

/* Complete lines of the buffer. */
static size_t split(struct file_source *self, struct weir_message *ret_messages, size_t max)
{
    size_t count = 0;

    while (count < max && self->begin < self->end) {
        const char *line = self->buffer + self->begin;
        const char *newline = memchr(line, '\n', self->end - self->begin);
        if (!newline)
            break;
        self->begin += (size_t)(newline - line) + 1;
        if (self->is_skipping)
            self->is_skipping = false;
        else if (take_line(self, line, (size_t)(newline - line), &ret_messages[count]))
            count++;
    }
    return count;
}

/* What stands in the buffer has no newline: is it a line all the same? */
static size_t take_unfinished(struct file_source *self, bool is_end, struct weir_message *ret_message)
{
    const char *line = self->buffer + self->begin;
    size_t length = self->end - self->begin;

    if (!is_end && !self->is_skipping && length <= LINE_BYTES_MAX)
        return 0;
    bool is_taken = !self->is_skipping && length > 0 && take_line(self, line, length, ret_message);
    self->is_skipping = !is_end;
    self->begin = self->end;
    return is_taken;
}

/* 2. files */
static enum weir_status open_next(struct file_source *self, struct weir_error *reterr)
{
    if (self->next_path == self->path_count)
        return WEIR_AGAIN;
    self->topic = self->paths[self->next_path];
    enum weir_status status = weir_file_stream_open(self->topic.data, &self->stream, reterr);
    if (status != WEIR_OK)
        return WEIR_FATAL; /* it could be opened when the source was */
    self->next_path++;
    self->line = 0;
    return WEIR_OK;
}

static void close_file(struct file_source *self)
{
    self->taken += weir_file_stream_taken(self->stream);
    self->stream = weir_file_stream_close(self->stream);
}

/* Reads a block behind what is left. *ret_is_end: the file has no more. */
static enum weir_status fill(struct file_source *self, int timeout_ms, bool *ret_is_end, struct weir_error *reterr)
{
    size_t length = 0;

    if (self->begin > 0) {
        memmove(self->buffer, self->buffer + self->begin, self->end - self->begin);
        self->end -= self->begin;
        self->begin = 0;
    }
    enum weir_status status =
        weir_file_stream_read(self->stream, timeout_ms, self->buffer + self->end, BLOCK_BYTES, &length, reterr);
    self->end += length;
    *ret_is_end = status == WEIR_OK && length == 0;
    return status;
}

static enum weir_status poll_file(struct weir_source *source, int timeout_ms, struct weir_message *ret_messages,
                                  size_t max, size_t *ret_count, struct weir_error *reterr)
{
    struct file_source *self = (struct file_source *)source;
    bool is_end = false;

    *ret_count = 0;
    if (self->is_paused) {
        (void)poll(NULL, 0, timeout_ms < 0 || timeout_ms > PAUSE_WAIT_MS ? PAUSE_WAIT_MS : timeout_ms);
        return WEIR_OK;
    }
    while (max > 0) {
        enum weir_status status = self->stream ? WEIR_OK : open_next(self, reterr);
        if (status != WEIR_OK)
            return status;
        *ret_count = split(self, ret_messages, max);
        if (*ret_count > 0)
            return WEIR_OK;
        *ret_count = take_unfinished(self, false, ret_messages);
        if (*ret_count > 0)
            return WEIR_OK;
        status = fill(self, timeout_ms, &is_end, reterr);
        if (status != WEIR_OK)
            return status == WEIR_AGAIN ? WEIR_OK : status;
        if (is_end) {
            *ret_count = take_unfinished(self, true, ret_messages);
            close_file(self);
            if (*ret_count > 0)
                return WEIR_OK;
        }
    }
    return WEIR_OK;
}

/* 3. the rest of the interface */
static void pause_file(struct weir_source *source, int32_t partition)
{
    (void)partition;
    ((struct file_source *)source)->is_paused = true;
}

static void resume_file(struct weir_source *source, int32_t partition)
{
    (void)partition;
    ((struct file_source *)source)->is_paused = false;
}

/* From the first file on again: lines are counted, so the ones before are read and not returned. */
static enum weir_status seek_file(struct weir_source *source, int32_t partition, int64_t offset,
                                  struct weir_error *reterr)
{
    struct file_source *self = (struct file_source *)source;

    (void)partition;
    for (size_t i = 0; i < self->next_path; i++)
        if (strcmp(self->paths[i].data, "-") == 0)
            return weir_fail(reterr, WEIR_FATAL, "standard input cannot be read a second time; put it into a file");
    if (self->stream)
        self->stream = weir_file_stream_close(self->stream);
    self->next_path = 0;
    self->begin = self->end = 0;
    self->is_skipping = false;
    self->line = self->sequence = 0;
    self->taken = 0;
    self->first = offset;
    return WEIR_OK;
}

static void mark_durable(struct weir_source *source, int32_t partition, int64_t next_offset)
{
    (void)source, (void)partition, (void)next_offset;
}

static bool is_caught_up(struct weir_source *source, int32_t partition)
{
    const struct file_source *self = (const struct file_source *)source;

    (void)partition;
    return !self->stream && self->next_path == self->path_count;
}

static int64_t lag(struct weir_source *source, int32_t partition)
{
    (void)source, (void)partition;
    return -1; /* lines are not counted ahead */
}

static void free_file(struct weir_source *source)
{
    struct file_source *self = (struct file_source *)source;

    weir_file_stream_close(self->stream);
    for (size_t i = 0; i < self->path_count; i++)
        free((char *)self->paths[i].data);
    free(self->paths);
    free(self->buffer);
    free(self);
}

static const struct weir_source_ops file_ops = {
    .name = "file",
    .poll = poll_file,
    .pause = pause_file,
    .resume = resume_file,
    .seek = seek_file,
    .mark_durable = mark_durable,
    .is_caught_up = is_caught_up,
    .lag = lag,
    .free = free_file,
};

/* Looked at before anything is read: a wrong name should not be found out after an hour's work. */
static enum weir_status look_at_files(struct file_source *self, struct weir_error *reterr)
{
    bool are_known = true;

    for (size_t i = 0; i < self->path_count; i++) {
        uint64_t size = 0;
        bool is_known = false;
        enum weir_status status = weir_file_stream_look(self->paths[i].data, &is_known, &size, reterr);
        if (status != WEIR_OK)
            return status;
        self->total += size;
        are_known = are_known && is_known;
    }
    if (!are_known)
        self->total = 0;
    return WEIR_OK;
}

enum weir_status weir_source_file_open(const char *const *paths, size_t path_count, struct weir_source **ret_source,
                                       struct weir_error *reterr)
{
    struct file_source *self = weir_new(sizeof *self);

    self->source.ops = &file_ops;
    self->path_count = path_count;
    self->paths = weir_new_array(path_count + 1, sizeof *self->paths);
    for (size_t i = 0; i < path_count; i++)
        self->paths[i] = weir_slice_of(weir_copy_text(paths[i], strlen(paths[i])), strlen(paths[i]));
    self->buffer = weir_new(LINE_BYTES_MAX + BLOCK_BYTES);
    enum weir_status status = look_at_files(self, reterr);
    if (status != WEIR_OK) {
        free_file(&self->source);
        return status;
    }
    *ret_source = &self->source;
    return WEIR_OK;
}

void weir_source_file_progress(const struct weir_source *source, uint64_t *ret_read, uint64_t *ret_total)
{
    const struct file_source *self = (const struct file_source *)source;

    *ret_read = self->taken + (self->stream ? weir_file_stream_taken(self->stream) : 0);
    *ret_total = self->total;
}
