/* One contract, both twins: what a source promises, on files and on a real Kafka. What only Kafka has:
 * test_source_kafka.c. */
#include "kafka_server.h"

#include <criterion/parameterized.h>
#include <inttypes.h>

#include "common/model/event.h"
#include "ingest/source.h"

/* 1. Twins. */

struct fixture {
    struct weir_source *source;
    bool is_kafka;
    char name[64]; /* of the topic or the file */
    int64_t base;  /* sequence of the first message */
};

static const char *twins[] = {"file", "kafka"};

static bool take_from_start(void *context, struct weir_slice topic, int32_t partition, int64_t *ret_offset,
                            struct weir_error *reterr)
{
    (void)context, (void)topic, (void)partition, (void)reterr;
    *ret_offset = -1;
    return true;
}

static void let_go(void *context, struct weir_slice topic, int32_t partition, bool lost)
{
    (void)context, (void)topic, (void)partition, (void)lost;
}

static void open_twin(struct fixture *fixture, const char *twin, const char *const *values, const size_t *lengths,
                      size_t count)
{
    struct weir_error error = {""};
    memset(fixture, 0, sizeof *fixture);
    fixture->is_kafka = strcmp(twin, "kafka") == 0;
    if (fixture->is_kafka) {
        kafka_topic("contract", 1, fixture->name);
        rd_kafka_t *producer = kafka_producer(NULL);
        for (size_t i = 0; i < count; i++)
            kafka_put(producer, fixture->name, 0, values[i], lengths[i]);
        kafka_flush(producer);
        rd_kafka_destroy(producer);
        struct weir_source_listener listener = {.assigned = take_from_start, .revoked = let_go};
        struct weir_kafka_settings settings = {
            .brokers = kafka_brokers(), .topic = fixture->name, .group = fixture->name, .until_end = true};
        cr_assert_eq(weir_source_kafka_open(&settings, &listener, &fixture->source, &error), WEIR_OK, "%s", error.text);
        return;
    }
    fixture->base = 1;
    strcpy(fixture->name, "/tmp/weir-source-XXXXXX");
    int descriptor = mkstemp(fixture->name);
    FILE *file = fdopen(descriptor, "w");
    cr_assert(file);
    for (size_t i = 0; i < count; i++)
        cr_assert(fwrite(values[i], 1, lengths[i], file) == lengths[i] && fputc('\n', file) == '\n');
    cr_assert_eq(fclose(file), 0);
    const char *path = fixture->name;
    cr_assert_eq(weir_source_file_open(&path, 1, &fixture->source, &error), WEIR_OK, "%s", error.text);
}

static void close_twin(struct fixture *fixture)
{
    weir_source_free(fixture->source);
    if (!fixture->is_kafka)
        unlink(fixture->name);
}

/* `count` messages "event 0", "event 1", … */
static void open_counted(struct fixture *fixture, const char *twin, size_t count)
{
    char(*texts)[32] = calloc(count + 1, sizeof *texts);
    const char **values = calloc(count + 1, sizeof *values);
    size_t *lengths = calloc(count + 1, sizeof *lengths);
    for (size_t i = 0; i < count; i++) {
        lengths[i] = (size_t)snprintf(texts[i], sizeof texts[i], "event %zu", i);
        values[i] = texts[i];
    }
    open_twin(fixture, twin, values, lengths, count);
    free(texts);
    free(values);
    free(lengths);
}

/* 2. Reading: every message must be the next one. */

struct reading {
    struct fixture *fixture;
    size_t next; /* number of the message that must come next */
    bool has_ended;
};

static size_t read_some(struct reading *reading, int timeout_ms, size_t max)
{
    static struct weir_message messages[WEIR_POLL_MESSAGES_MAX];
    struct weir_error error = {""};
    char text[32];
    size_t count = 0;
    struct weir_source *source = reading->fixture->source;
    enum weir_status status = source->ops->poll(source, timeout_ms, messages, max, &count, &error);

    cr_assert(status == WEIR_OK || status == WEIR_AGAIN, "poll: %d %s", status, error.text);
    cr_assert_leq(count, max);
    reading->has_ended = status == WEIR_AGAIN;
    for (size_t i = 0; i < count; i++, reading->next++) {
        const struct weir_message *message = &messages[i];
        snprintf(text, sizeof text, "event %zu", reading->next);
        cr_assert(weir_slice_equal(message->value, weir_slice_text(text)), "wanted '%s', got '%.*s'", text,
                  (int)message->value.length, message->value.data);
        cr_assert_eq(message->sequence, (int64_t)reading->next + reading->fixture->base);
        cr_assert_eq(message->offset, message->sequence);
        cr_assert_eq(message->partition, 0);
        cr_assert(weir_slice_equal(message->topic, weir_slice_text(reading->fixture->name)));
        cr_assert(!message->is_tombstone && !message->is_too_large && message->header_count == 0);
    }
    return count;
}

static void read_to(struct reading *reading, size_t next, size_t max)
{
    int64_t deadline = now_ms() + KAFKA_CALL_MS;
    while (reading->next < next) {
        size_t left = next - reading->next;
        read_some(reading, 100, left < max ? left : max);
        cr_assert(now_ms() < deadline, "message %zu does not come", reading->next);
    }
}

static void read_to_end(struct reading *reading)
{
    int64_t deadline = now_ms() + KAFKA_CALL_MS;
    do {
        read_some(reading, 100, WEIR_POLL_MESSAGES_MAX);
        cr_assert(now_ms() < deadline, "no end after message %zu", reading->next);
    } while (!reading->has_ended);
}

/* 3. The contract. */

#define CONTRACT(name)                                                                                                 \
    static void name(const char *twin);                                                                                \
    ParameterizedTestParameters(source, name)                                                                          \
    {                                                                                                                  \
        static int which[] = {0, 1};                                                                                   \
        return cr_make_param_array(int, which, 2);                                                                     \
    }                                                                                                                  \
    ParameterizedTest(int *which, source, name)                                                                        \
    {                                                                                                                  \
        name(twins[*which]);                                                                                           \
    }                                                                                                                  \
    static void name(const char *twin)

CONTRACT(everything_in_order_then_the_end)
{
    struct fixture fixture;
    enum { COUNT = 20000 };
    open_counted(&fixture, twin, COUNT);
    struct reading reading = {.fixture = &fixture};
    read_to(&reading, 1, 1);
    cr_expect_not(fixture.source->ops->is_caught_up(fixture.source, 0));
    read_to(&reading, 100, 7);
    read_to_end(&reading);
    cr_expect_eq(reading.next, (size_t)COUNT);
    cr_expect(fixture.source->ops->is_caught_up(fixture.source, 0));
    read_some(&reading, 0, 1);
    cr_expect(reading.has_ended, "the end is told as often as it is asked");
    close_twin(&fixture);
}

CONTRACT(nothing_ends_at_once)
{
    struct fixture fixture;
    open_counted(&fixture, twin, 0);
    struct reading reading = {.fixture = &fixture};
    read_to_end(&reading);
    cr_expect_eq(reading.next, (size_t)0);
    close_twin(&fixture);
}

CONTRACT(paused_is_silent_and_resumed_goes_on)
{
    struct fixture fixture;
    enum { COUNT = 30000 };
    open_counted(&fixture, twin, COUNT);
    struct reading reading = {.fixture = &fixture};
    fixture.source->ops->pause(fixture.source, 0); /* not ours yet, or before the first poll: harmless */
    fixture.source->ops->resume(fixture.source, 0);
    for (size_t stop = 100; stop < COUNT; stop = stop * 3 + 1) {
        read_to(&reading, stop, 64);
        fixture.source->ops->pause(fixture.source, 0);
        fixture.source->ops->pause(fixture.source, 0); /* twice is once */
        for (int64_t until = now_ms() + 150; now_ms() < until;)
            cr_assert_eq(read_some(&reading, 20, 100), 0, "a message while paused");
        cr_assert_not(reading.has_ended, "paused before the end is not the end");
        fixture.source->ops->resume(fixture.source, 0);
        fixture.source->ops->resume(fixture.source, 0);
    }
    read_to_end(&reading);
    cr_expect_eq(reading.next, (size_t)COUNT);
    close_twin(&fixture);
}

CONTRACT(sought_is_read_from_there)
{
    struct fixture fixture;
    enum { COUNT = 20000 };
    static const size_t targets[] = {500, 0, 19999, 10, 10000, 3};
    struct weir_error error = {""};
    open_counted(&fixture, twin, COUNT);
    struct reading reading = {.fixture = &fixture};
    read_to(&reading, 5000, 512);
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        reading.next = targets[i];
        cr_assert_eq(fixture.source->ops->seek(fixture.source, 0, (int64_t)targets[i] + fixture.base, &error), WEIR_OK,
                     "%s", error.text);
        read_to(&reading, targets[i] + 1, 100);
        cr_assert(targets[i] == COUNT - 1 || !fixture.source->ops->is_caught_up(fixture.source, 0));
    }
    read_to_end(&reading);
    cr_assert_eq(reading.next, (size_t)COUNT);
    reading.next = 7; /* also after the end */
    cr_assert_eq(fixture.source->ops->seek(fixture.source, 0, 7 + fixture.base, &error), WEIR_OK, "%s", error.text);
    read_to(&reading, 8, 1);
    /* and while paused */
    fixture.source->ops->pause(fixture.source, 0);
    reading.next = 3;
    cr_assert_eq(fixture.source->ops->seek(fixture.source, 0, 3 + fixture.base, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(read_some(&reading, 50, 100), 0);
    fixture.source->ops->resume(fixture.source, 0);
    read_to_end(&reading);
    cr_expect_eq(reading.next, (size_t)COUNT);
    close_twin(&fixture);
}

CONTRACT(what_is_too_large_is_cut)
{
    struct fixture fixture;
    static struct weir_message messages[8];
    struct weir_error error = {""};
    const size_t lengths[] = {2, WEIR_EVENT_BYTES_MAX, WEIR_EVENT_BYTES_MAX + 1, 3 << 20, 2};
    enum { COUNT = sizeof lengths / sizeof *lengths };
    const char *values[COUNT];
    size_t seen = 0;
    for (size_t i = 0; i < COUNT; i++) {
        char *value = malloc(lengths[i]);
        memset(value, 'a' + (int)i, lengths[i]);
        values[i] = value;
    }
    open_twin(&fixture, twin, values, lengths, COUNT);
    for (int64_t deadline = now_ms() + KAFKA_CALL_MS; seen < COUNT && now_ms() < deadline;) {
        size_t count = 0;
        cr_assert_neq(fixture.source->ops->poll(fixture.source, 100, messages, 8, &count, &error), WEIR_FATAL, "%s",
                      error.text);
        for (size_t i = 0; i < count; i++, seen++) {
            bool is_too_large = lengths[seen] > WEIR_EVENT_BYTES_MAX;
            cr_assert_eq(messages[i].is_too_large, is_too_large);
            cr_assert_eq(messages[i].value.length, is_too_large ? WEIR_EVENT_BYTES_MAX : lengths[seen]);
            cr_assert_eq(memcmp(messages[i].value.data, values[seen], messages[i].value.length), 0);
        }
    }
    cr_expect_eq(seen, (size_t)COUNT);
    close_twin(&fixture);
    for (size_t i = 0; i < COUNT; i++)
        free((char *)values[i]);
}
