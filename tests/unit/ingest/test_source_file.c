/* Files as a source: every line once, whatever the compression, the block's edge or the line's length. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include "ingest/source.h"
#include "tests/unit/ingest/ingest_support.h"

static char folder[] = "/tmp/weir-source-XXXXXX";
static char path_text[8][64];

static void set_up(void)
{
    cr_assert(mkdtemp(folder) != NULL);
}

static void tear_down(void)
{
    char command[64];
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(source_file, .init = set_up, .fini = tear_down, .timeout = 250);

static const char *path_of(int number, const char *ending)
{
    (void)snprintf(path_text[number], sizeof path_text[number], "%s/%d%s", folder, number, ending);
    return path_text[number];
}

static const char *write_file(int number, const char *ending, const void *bytes, size_t length)
{
    const char *path = path_of(number, ending);
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(bytes, 1, length, file) == length && fclose(file) == 0);
    return path;
}

static size_t gzip_member(const void *bytes, size_t length, unsigned char *out, size_t room)
{
    z_stream stream = {.next_in = (Bytef *)bytes, .avail_in = (uInt)length, .next_out = out, .avail_out = (uInt)room};
    cr_assert_eq(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    cr_assert_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    size_t written = room - stream.avail_out;
    (void)deflateEnd(&stream);
    return written;
}

/* What a source gave, in one text: "name:line=value\n" for each message. */
struct taken {
    char *text;
    size_t length, room;
    size_t messages;
    int64_t last_sequence;
    size_t too_large;
};

static void take(struct taken *taken, const struct weir_message *message)
{
    const char *name = strrchr(message->topic.data, '/');
    size_t need = message->value.length + 128;
    if (taken->length + need > taken->room) {
        taken->room = 2 * (taken->length + need);
        taken->text = realloc(taken->text, taken->room);
    }
    cr_assert(message->sequence > taken->last_sequence, "sequence %lld", (long long)message->sequence);
    cr_assert_eq(message->partition, 0);
    cr_assert_eq(message->header_count, 0);
    taken->last_sequence = message->sequence;
    taken->messages++;
    taken->too_large += message->is_too_large;
    cr_assert(message->value.length <= WEIR_EVENT_BYTES_MAX);
    taken->length += (size_t)sprintf(taken->text + taken->length, "%s:%lld=", name ? name + 1 : message->topic.data,
                                     (long long)message->offset);
    memcpy(taken->text + taken->length, message->value.data, message->value.length);
    taken->length += message->value.length;
    taken->text[taken->length++] = '\n';
    taken->text[taken->length] = '\0';
}

static struct taken drain(struct weir_source *source, size_t max, enum weir_status expected, struct weir_error *reterr)
{
    static struct weir_message messages[WEIR_POLL_MESSAGES_MAX];
    struct taken taken = {.text = calloc(1, 64), .room = 64};
    enum weir_status status;
    size_t count;

    while ((status = source->ops->poll(source, -1, messages, max, &count, reterr)) == WEIR_OK) {
        cr_assert(count <= max);
        for (size_t i = 0; i < count; i++)
            take(&taken, &messages[i]);
    }
    cr_assert_eq(status, expected, "%s", reterr->text);
    if (expected == WEIR_AGAIN) {
        cr_assert_eq(source->ops->poll(source, -1, messages, max, &count, reterr), WEIR_AGAIN);
        cr_assert(source->ops->is_caught_up(source, 0));
    }
    return taken;
}

static void gives(const char *const *paths, size_t count, const char *expected)
{
    static const size_t maxes[] = {1, 2, WEIR_POLL_MESSAGES_MAX};

    for (size_t i = 0; i < sizeof maxes / sizeof maxes[0]; i++) {
        struct weir_error error = {""};
        struct weir_source *source = NULL;
        cr_assert_eq(weir_source_file_open(paths, count, &source, &error), WEIR_OK, "%s", error.text);
        struct taken taken = drain(source, maxes[i], WEIR_AGAIN, &error);
        cr_assert_str_eq(taken.text, expected);
        free(taken.text);
        weir_source_free(source);
    }
}

static void one_gives(const char *text, size_t length, const char *expected)
{
    const char *path = write_file(0, "", text, length);
    gives(&path, 1, expected);
}
#define ONE_GIVES(text, expected) one_gives(text, sizeof(text) - 1, expected)

Test(source_file, lines)
{
    ONE_GIVES("", "");
    ONE_GIVES("\n", "");
    ONE_GIVES("\n\n \n\t\r\n  ", "");
    ONE_GIVES("a", "0:1=a\n");
    ONE_GIVES("a\n", "0:1=a\n");
    ONE_GIVES("a\nb", "0:1=a\n0:2=b\n");
    ONE_GIVES("a\r\nb\r\n", "0:1=a\n0:2=b\n");
    ONE_GIVES("a\r\r\nb\r", "0:1=a\r\n0:2=b\n");
    ONE_GIVES("\n\na\n \nb\n\n", "0:3=a\n0:5=b\n");
    ONE_GIVES(" a \n\tb", "0:1= a \n0:2=\tb\n");
}

Test(source_file, zero_bytes_are_bytes)
{
    const char *path = write_file(0, "", "a\0b\n\0\n", 6);
    struct weir_error error = {""};
    struct weir_source *source = NULL;

    cr_assert_eq(weir_source_file_open(&path, 1, &source, &error), WEIR_OK);
    struct taken taken = drain(source, 10, WEIR_AGAIN, &error);
    cr_assert_eq(taken.messages, 2);
    cr_assert_eq(memcmp(taken.text, "0:1=a\0b\n0:2=\0\n", 15), 0);
    free(taken.text);
    weir_source_free(source);
}

Test(source_file, several_files_are_one_lane)
{
    const char *paths[4];

    paths[0] = write_file(0, "", "a\nb", 3);
    paths[1] = write_file(1, "", "", 0);
    paths[2] = write_file(2, "", "\nc\n", 3);
    paths[3] = paths[0];
    gives(paths, 4, "0:1=a\n0:2=b\n2:2=c\n0:1=a\n0:2=b\n");
    gives(paths, 0, "");
}

/* A text of many lines of all lengths, larger than a few blocks. */
static char *long_text(size_t *ret_length, size_t lines)
{
    char *text = malloc(lines * 700);
    uint64_t random = 7;
    size_t length = 0;

    for (size_t i = 0; i < lines; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t size = 1 + (random >> 33) % 600;
        memset(text + length, 'a' + (int)(i % 26), size);
        length += size;
        if (i % 5 == 0)
            text[length++] = '\r';
        text[length++] = '\n';
    }
    *ret_length = length;
    return text;
}

static char *expected_of(const char *text, size_t length, const char *name)
{
    char *expected = malloc(length * 2 + 64);
    size_t used = 0;
    long line = 0;

    for (const char *at = text, *end = text + length; at < end; line++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t size = (size_t)(newline - at) - (newline[-1] == '\r');
        used += (size_t)sprintf(expected + used, "%s:%ld=%.*s\n", name, line + 1, (int)size, at);
        at = newline + 1;
    }
    return expected;
}

Test(source_file, blocks_and_compressions)
{
    size_t length;
    char *text = long_text(&length, 15000);
    unsigned char *packed = malloc(length + 4096);
    size_t third = length / 3;

    cr_assert(length > 4u << 20);
    const char *path = write_file(0, ".ndjson", text, length);
    char *expected = expected_of(text, length, "0.ndjson");
    gives(&path, 1, expected);
    free(expected);
    /* Three members, one of nothing, and the padding that tapes leave. */
    size_t used = gzip_member(text, third, packed, length);
    used += gzip_member("", 0, packed + used, length - used);
    used += gzip_member(text + third, length - third, packed + used, length - used);
    memset(packed + used, 0, 512);
    path = write_file(1, ".ndjson.gz", packed, used + 512);
    expected = expected_of(text, length, "1.ndjson.gz");
    gives(&path, 1, expected);
    free(expected);
    /* Two frames. */
    used = ZSTD_compress(packed, length + 4096, text, third, 3);
    used += ZSTD_compress(packed + used, length + 4096 - used, text + third, length - third, 3);
    path = write_file(2, ".ndjson.zst", packed, used);
    expected = expected_of(text, length, "2.ndjson.zst");
    gives(&path, 1, expected);
    free(expected);
    free(packed);
    free(text);
}

Test(source_file, empty_compressed_files)
{
    unsigned char packed[128];
    const char *paths[2];

    paths[0] = write_file(0, ".gz", packed, gzip_member("", 0, packed, sizeof packed));
    size_t used = ZSTD_compress(packed, sizeof packed, "", 0, 3);
    paths[1] = write_file(1, ".zst", packed, used);
    gives(paths, 2, "");
}

/* Lines around the largest event, and far beyond it; the ones behind them are all there. */
Test(source_file, huge_lines)
{
    static const size_t sizes[] = {WEIR_EVENT_BYTES_MAX - 1,     WEIR_EVENT_BYTES_MAX,
                                   WEIR_EVENT_BYTES_MAX + 1,     WEIR_EVENT_BYTES_MAX + 2,
                                   WEIR_EVENT_BYTES_MAX + 3,     2 * WEIR_EVENT_BYTES_MAX,
                                   2 * WEIR_EVENT_BYTES_MAX + 1, 5 * WEIR_EVENT_BYTES_MAX + 12345};
    static const char *const endings[] = {"\n", "\r\n", ""};
    char *text = malloc(6 * WEIR_EVENT_BYTES_MAX + 64);

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (size_t j = 0; j < 3; j++) {
            struct weir_error error = {""};
            struct weir_source *source = NULL;
            size_t length = 6;
            memcpy(text, "first\n", 6);
            memset(text + length, 'x', sizes[i]);
            length += sizes[i];
            length += (size_t)sprintf(text + length, "%s%s", endings[j], j < 2 ? "last\n" : "");
            const char *path = write_file(0, "", text, length);
            cr_assert_eq(weir_source_file_open(&path, 1, &source, &error), WEIR_OK);
            struct taken taken = drain(source, 100, WEIR_AGAIN, &error);
            bool is_too_large = sizes[i] > WEIR_EVENT_BYTES_MAX;
            size_t kept = is_too_large ? WEIR_EVENT_BYTES_MAX : sizes[i];
            cr_expect_eq(taken.messages, j < 2 ? 3 : 2, "%zu bytes: %zu messages", sizes[i], taken.messages);
            cr_expect_eq(taken.too_large, is_too_large);
            cr_expect_eq(taken.length, strlen("0:1=first\n0:2=\n") + kept + (j < 2 ? strlen("0:3=last\n") : 0));
            if (j < 2)
                cr_expect_str_eq(taken.text + taken.length - strlen("0:3=last\n"), "0:3=last\n");
            free(taken.text);
            weir_source_free(source);
        }
    free(text);
}

/* The block ends behind the CR of a line that is just as long as an event may be: whether it is too long is not known
 * before the next byte is. */
Test(source_file, a_block_that_ends_within_a_line_end)
{
    static const char *const rests[] = {"\r\nlast\n", "\rx\nlast\n"};
    size_t length = 2u << 20;
    char *text = malloc(length + 16);

    for (size_t i = 0; i < 2; i++) {
        struct weir_error error = {""};
        struct weir_source *source = NULL;
        memset(text, 'x', length);
        text[length - WEIR_EVENT_BYTES_MAX - 2] = '\n';
        memcpy(text + length - 1, rests[i], strlen(rests[i]));
        const char *path = write_file(0, "", text, length - 1 + strlen(rests[i]));
        cr_assert_eq(weir_source_file_open(&path, 1, &source, &error), WEIR_OK);
        struct taken taken = drain(source, 100, WEIR_AGAIN, &error);
        cr_expect_eq(taken.messages, 3);
        cr_expect_eq(taken.too_large, i);
        free(taken.text);
        weir_source_free(source);
    }
    free(text);
}

/* White space of more than an event's size is not known to be blank when its first part is: it may not vanish. */
Test(source_file, a_huge_line_of_spaces_is_handed_out)
{
    size_t length = 3 * WEIR_EVENT_BYTES_MAX;
    char *text = malloc(length);
    struct weir_error error = {""};
    struct weir_source *source = NULL;

    memset(text, ' ', length);
    memcpy(text + length - 3, "{}\n", 3);
    const char *path = write_file(0, "", text, length);
    cr_assert_eq(weir_source_file_open(&path, 1, &source, &error), WEIR_OK);
    struct taken taken = drain(source, 100, WEIR_AGAIN, &error);
    cr_expect_eq(taken.messages, 1);
    cr_expect_eq(taken.too_large, 1);
    free(taken.text);
    weir_source_free(source);
    free(text);
}

static void is_damaged(const char *ending, const void *bytes, size_t length, size_t least)
{
    struct weir_error error = {""};
    struct weir_source *source = NULL;
    const char *path = write_file(3, ending, bytes, length);

    cr_assert_eq(weir_source_file_open(&path, 1, &source, &error), WEIR_OK, "%s", error.text);
    struct taken taken = drain(source, 1000, WEIR_FATAL, &error);
    cr_expect(taken.messages >= least, "%s of %zu bytes: %zu messages", ending, length, taken.messages);
    cr_expect(strstr(error.text, path) && strstr(error.text, "damaged at byte"), "%s", error.text);
    free(taken.text);
    weir_source_free(source);
}

Test(source_file, damaged_files)
{
    size_t length;
    char *text = long_text(&length, 3000);
    unsigned char *packed = malloc(length + 4096);
    size_t used = gzip_member(text, length, packed, length + 4096);

    is_damaged(".gz", packed, used - 1, 2000); /* cut in the trailer */
    is_damaged(".gz", packed, used / 2, 100);  /* cut in the middle */
    is_damaged(".gz", packed, 5, 0);           /* cut in the header */
    is_damaged(".gz", "", 0, 0);
    is_damaged(".gz", "plain text\n", 11, 0);
    packed[used] = 'x';
    is_damaged(".gz", packed, used + 1, 2999); /* something behind it */
    packed[used - 8] ^= 1;
    is_damaged(".gz", packed, used, 2000); /* the checksum is wrong */
    used = ZSTD_compress(packed, length + 4096, text, length, 3);
    is_damaged(".zst", packed, used - 1, 100);
    is_damaged(".zst", packed, used / 2, 0);
    is_damaged(".zst", "", 0, 0);
    is_damaged(".zst", "plain text\n", 11, 0);
    free(packed);
    free(text);
}

Test(source_file, files_that_cannot_be_opened)
{
    struct weir_error error = {""};
    struct weir_source *source = NULL;
    const char *paths[2] = {write_file(0, "", "a\n", 2), "/nowhere/at/all"};

    cr_expect_eq(weir_source_file_open(paths, 2, &source, &error), WEIR_REJECT);
    cr_expect(strstr(error.text, "/nowhere/at/all: cannot be read"), "%s", error.text);
    paths[1] = folder;
    cr_expect_eq(weir_source_file_open(paths, 2, &source, &error), WEIR_REJECT);
    cr_expect(strstr(error.text, "is a folder"), "%s", error.text);
    cr_expect_null(source);
}

Test(source_file, progress_and_seek)
{
    struct weir_error error = {""};
    struct weir_source *source = NULL;
    const char *paths[2] = {write_file(0, "", "a\nb\n", 4), write_file(1, "", "c\n\nd", 4)};
    uint64_t done, total;

    cr_assert_eq(weir_source_file_open(paths, 2, &source, &error), WEIR_OK);
    weir_source_file_progress(source, &done, &total);
    cr_expect_eq(done, 0);
    cr_expect_eq(total, 8);
    free(drain(source, 10, WEIR_AGAIN, &error).text);
    weir_source_file_progress(source, &done, &total);
    cr_expect_eq(done, 8);
    cr_assert_eq(source->ops->seek(source, 0, 2, &error), WEIR_OK);
    struct taken taken = drain(source, 10, WEIR_AGAIN, &error);
    cr_expect_str_eq(taken.text, "0:2=b\n1:1=c\n1:3=d\n");
    free(taken.text);
    cr_assert_eq(source->ops->seek(source, 0, taken.last_sequence, &error), WEIR_OK);
    taken = drain(source, 10, WEIR_AGAIN, &error);
    cr_expect_str_eq(taken.text, "1:3=d\n");
    free(taken.text);
    weir_source_free(source);
}

Test(source_file, pause_and_resume)
{
    struct weir_error error = {""};
    struct weir_source *source = NULL;
    const char *path = write_file(0, "", "a\nb\n", 4);
    struct weir_message message;
    size_t count;

    cr_assert_eq(weir_source_file_open(&path, 1, &source, &error), WEIR_OK);
    cr_assert_eq(source->ops->poll(source, 0, &message, 1, &count, &error), WEIR_OK);
    cr_assert_eq(count, 1);
    source->ops->pause(source, 0);
    cr_assert_eq(source->ops->poll(source, 0, &message, 1, &count, &error), WEIR_OK);
    cr_assert_eq(count, 0);
    source->ops->resume(source, 0);
    cr_assert_eq(source->ops->poll(source, 0, &message, 1, &count, &error), WEIR_OK);
    cr_assert_eq(count, 1);
    cr_assert_eq(memcmp(message.value.data, "b", 1), 0);
    weir_source_free(source);
}

/* A named pipe: bytes come when they come, a line in pieces, and the wait is bounded. */
static void *write_pipe(void *path)
{
    int pipe = open(path, O_WRONLY);
    static const char *const pieces[] = {"a", "b\nc", "\n", "d\ne"};

    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
        cr_assert_eq(write(pipe, pieces[i], strlen(pieces[i])), (ssize_t)strlen(pieces[i]));
    close(pipe);
    return NULL;
}

Test(source_file, a_pipe)
{
    struct weir_error error = {""};
    struct weir_source *source = NULL;
    const char *path = path_of(0, "");
    pthread_t writer;

    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_assert_eq(weir_source_file_open(&path, 1, &source, &error), WEIR_OK);
    cr_assert_eq(pthread_create(&writer, NULL, write_pipe, (void *)path), 0);
    struct taken taken = drain(source, 10, WEIR_AGAIN, &error);
    cr_expect_str_eq(taken.text, "0:1=ab\n0:2=c\n0:3=d\n0:4=e\n");
    cr_assert_eq(pthread_join(writer, NULL), 0);
    free(taken.text);
    cr_expect_eq(source->ops->seek(source, 0, 1, &error), WEIR_OK);
    weir_source_free(source);
}

Test(source_file, standard_input_and_its_timeout)
{
    struct weir_error error = {""};
    struct weir_source *source = NULL;
    const char *path = "-";
    struct weir_message message;
    size_t count = 9;
    int ends[2];

    cr_assert_eq(pipe(ends), 0);
    cr_assert(dup2(ends[0], STDIN_FILENO) == STDIN_FILENO);
    cr_assert_eq(weir_source_file_open(&path, 1, &source, &error), WEIR_OK);
    cr_assert_eq(source->ops->poll(source, 1, &message, 1, &count, &error), WEIR_OK);
    cr_expect_eq(count, 0);
    cr_assert_eq(write(ends[1], "x\ny", 3), 3);
    cr_assert_eq(source->ops->poll(source, 1000, &message, 1, &count, &error), WEIR_OK);
    cr_expect_eq(count, 1);
    cr_expect(weir_slice_equal(message.topic, weir_slice_text("-")));
    close(ends[1]);
    cr_assert_eq(source->ops->poll(source, 1000, &message, 1, &count, &error), WEIR_OK);
    cr_expect_eq(count, 1);
    cr_assert_eq(source->ops->poll(source, 1000, &message, 1, &count, &error), WEIR_AGAIN);
    cr_expect_eq(source->ops->seek(source, 0, 0, &error), WEIR_FATAL);
    weir_source_free(source);
}
