/* Quarantine records as lines of JSON in a file (the record is described in quarantine.h).
 *
 * One lock and one buffer: records are rare, and the file is the same for whoever puts one. Strings other than the
 * event (a file's name may hold any bytes) have U+FFFD for what is not UTF-8; the event itself is base64 then, and so
 * nothing of it is lost.
 */
#include "ingest/quarantine.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ingest/json_index.h"
#include "ingest/json_text.h"

enum { BUFFER_BYTES = 64 * 1024, PIECE_MAX = 512 };

struct quarantine_file {
    struct weir_quarantine quarantine;
    pthread_mutex_t lock; /* everything below */
    char *path;           /* NULL: nothing is kept */
    int descriptor;       /* -1: no record yet */
    int failure;          /* errno of a write that failed: a line may be cut, and nothing may follow it */
    size_t used;
    char buffer[BUFFER_BYTES];
};

/* 1. bytes */
static void drain(struct quarantine_file *self)
{
    size_t done = 0;

    while (done < self->used && !self->failure) {
        ssize_t written = write(self->descriptor, self->buffer + done, self->used - done);
        if (written > 0)
            done += (size_t)written;
        else if (errno != EINTR)
            self->failure = errno;
    }
    self->used = 0;
}

static void put_bytes(struct quarantine_file *self, const char *bytes, size_t length)
{
    while (length > 0) {
        if (self->used == BUFFER_BYTES)
            drain(self);
        size_t some = BUFFER_BYTES - self->used < length ? BUFFER_BYTES - self->used : length;
        memcpy(self->buffer + self->used, bytes, some);
        self->used += some;
        bytes += some;
        length -= some;
    }
}

static void put_text(struct quarantine_file *self, const char *text)
{
    put_bytes(self, text, strlen(text));
}

/* 2. JSON */
static void put_escaped(struct quarantine_file *self, unsigned char byte)
{
    char escape[8] = {'\\', (char)byte, 0};

    switch (byte) {
    case '"':
    case '\\':
        break;
    case '\n':
        escape[1] = 'n';
        break;
    case '\r':
        escape[1] = 'r';
        break;
    case '\t':
        escape[1] = 't';
        break;
    default:
        (void)snprintf(escape, sizeof escape, "\\u%04x", byte);
        break;
    }
    put_text(self, escape);
}

/* UTF-8 text within a string. */
static void put_characters(struct quarantine_file *self, const char *text, size_t length)
{
    size_t begin = 0;

    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7f)
            continue;
        put_bytes(self, text + begin, i - begin);
        put_escaped(self, byte);
        begin = i + 1;
    }
    put_bytes(self, text + begin, length - begin);
}

/* Any bytes as a string. */
static void put_string(struct quarantine_file *self, const char *text, size_t length)
{
    put_text(self, "\"");
    while (length > 0) {
        size_t good = weir_find_bad_utf8(text, length);
        put_characters(self, text, good);
        if (good < length) {
            put_text(self, "\xef\xbf\xbd");
            good++;
        }
        text += good;
        length -= good;
    }
    put_text(self, "\"");
}

static void put_base64(struct quarantine_file *self, const unsigned char *bytes, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t bits =
            (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
        char four[4] = {digits[bits >> 18], digits[bits >> 12 & 63], left > 1 ? digits[bits >> 6 & 63] : '=',
                        left > 2 ? digits[bits & 63] : '='};
        put_bytes(self, four, sizeof four);
    }
}

static void put_event(struct quarantine_file *self, struct weir_slice event)
{
    bool is_text =
        event.length == 0 || (weir_utf8_is_valid(event.data, event.length) && !memchr(event.data, '\0', event.length));

    put_text(self, is_text ? ",\"event\":\"" : ",\"event_base64\":\"");
    if (is_text)
        put_characters(self, event.data, event.length);
    else
        put_base64(self, (const unsigned char *)event.data, event.length);
    put_text(self, "\"}\n");
}

static void put_record(struct quarantine_file *self, const struct weir_message *message,
                       const struct weir_rejection *why)
{
    char numbers[PIECE_MAX];

    put_text(self, "{\"topic\":");
    put_string(self, message->topic.data, message->topic.length);
    (void)snprintf(numbers, sizeof numbers,
                   ",\"partition\":%d,\"offset\":%lld,\"reason\":\"%s\",\"field\":", message->partition,
                   (long long)message->offset, weir_reason_name[why->reason]);
    put_text(self, numbers);
    put_string(self, why->field, strlen(why->field));
    put_text(self, ",\"detail\":");
    put_string(self, why->detail, strlen(why->detail));
    put_event(self, message->value);
}

/* 3. the interface */
static enum weir_status broken(const struct quarantine_file *self, struct weir_error *reterr)
{
    return weir_fail(reterr, WEIR_FATAL, "%s: quarantine records cannot be written: %s", self->path,
                     strerror(self->failure));
}

static enum weir_status put(struct weir_quarantine *quarantine, const struct weir_message *message,
                            const struct weir_rejection *why, struct weir_error *reterr)
{
    struct quarantine_file *self = (struct quarantine_file *)quarantine;
    enum weir_status status = WEIR_OK;

    if (!self->path)
        return WEIR_OK;
    (void)pthread_mutex_lock(&self->lock);
    if (self->descriptor < 0) {
        self->descriptor = open(self->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        self->failure = self->descriptor < 0 ? errno : 0;
    }
    if (!self->failure)
        put_record(self, message, why);
    if (self->failure)
        status = broken(self, reterr);
    (void)pthread_mutex_unlock(&self->lock);
    return status;
}

static enum weir_status flush(struct weir_quarantine *quarantine, struct weir_error *reterr)
{
    struct quarantine_file *self = (struct quarantine_file *)quarantine;
    enum weir_status status = WEIR_OK;

    (void)pthread_mutex_lock(&self->lock);
    if (self->descriptor >= 0) {
        drain(self);
        /* EINVAL: a pipe or a terminal, which cannot be synced. */
        if (!self->failure && fsync(self->descriptor) != 0 && errno != EINVAL && errno != EROFS)
            self->failure = errno;
        if (self->failure)
            status = broken(self, reterr);
    }
    (void)pthread_mutex_unlock(&self->lock);
    return status;
}

static uint64_t backlog(const struct weir_quarantine *quarantine)
{
    (void)quarantine;
    return 0; /* put writes */
}

static void free_file(struct weir_quarantine *quarantine)
{
    struct quarantine_file *self = (struct quarantine_file *)quarantine;

    if (self->descriptor >= 0) {
        drain(self);
        close(self->descriptor);
    }
    (void)pthread_mutex_destroy(&self->lock);
    free(self->path);
    free(self);
}

static const struct weir_quarantine_ops file_ops = {.put = put, .flush = flush, .backlog = backlog, .free = free_file};

enum weir_status weir_quarantine_file_open(const char *path, struct weir_quarantine **ret_quarantine,
                                           struct weir_error *reterr)
{
    struct quarantine_file *self = weir_new(sizeof *self);

    (void)reterr;
    self->quarantine.ops = &file_ops;
    self->descriptor = -1;
    self->path = path ? weir_copy_text(path, strlen(path)) : NULL;
    weir_check(pthread_mutex_init(&self->lock, NULL) == 0);
    *ret_quarantine = &self->quarantine;
    return WEIR_OK;
}
