/* Headers read where they stand in a record: from records made here, in memory of just their size. */
#include "ingest/record_headers.h"

#include "tests/unit/ingest/ingest_support.h"

enum { HEADERS = 8, ROOM = 400000 };

struct record {
    unsigned char *bytes;
    size_t length;
    struct weir_slice key, value;
    size_t headers_at;
    struct weir_header headers[HEADERS];
    uint32_t header_count;
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* A text of small letters, or of any bytes but NUL. */
static struct weir_slice make_text(uint64_t *random, size_t length)
{
    static char all[1 << 22];
    static size_t used;
    char *text = all + used;

    if (used + length > sizeof all)
        used = 0, text = all;
    used += length;
    uint64_t any = next_random(random) % 2;
    for (size_t i = 0; i < length; i++)
        text[i] = (char)(any ? 1 + next_random(random) % 255 : 'a' + next_random(random) % 26);
    return weir_slice_of(text, length);
}

/* A record of format v2 at the end of a piece of memory, behind so many other bytes. The value of its first header is
 * `more` bytes longer than others are. */
static struct record make_record_with(uint64_t *random, size_t key_length, size_t value_length, size_t more,
                                      size_t before)
{
    static unsigned char body[ROOM];
    struct record record = {.header_count = (uint32_t)(next_random(random) % (HEADERS + 1))};
    struct weir_slice key = make_text(random, key_length);
    size_t at = 0, key_at, value_at;

    if (key.length == 0 && next_random(random) % 2)
        key.data = NULL;
    body[at++] = 0;
    at += put_number(body + at, (int64_t)(next_random(random) >> (next_random(random) % 64)));
    at += put_number(body + at, (int32_t)(next_random(random) >> (next_random(random) % 64)));
    at += put_bytes(body + at, key);
    key_at = at - key.length;
    at += put_bytes(body + at, make_text(random, value_length));
    value_at = at - value_length;
    size_t headers_at = at;
    at += put_number(body + at, record.header_count);
    for (uint32_t i = 0; i < record.header_count; i++) {
        struct weir_header *header = &record.headers[i];
        header->name = make_text(random, next_random(random) % 40);
        header->value = make_text(random, (next_random(random) % 3 ? next_random(random) % 40 : 0) + (i ? 0 : more));
        if (header->value.length == 0 && next_random(random) % 2)
            header->value.data = NULL;
        at += put_bytes(body + at, header->name);
        at += put_bytes(body + at, header->value);
    }
    unsigned char length[16];
    size_t prefix = put_number(length, (int64_t)at);
    record.length = before + prefix + at;
    record.bytes = malloc(record.length);
    for (size_t i = 0; i < before; i++)
        record.bytes[i] = (unsigned char)next_random(random);
    memcpy(record.bytes + before, length, prefix);
    memcpy(record.bytes + before + prefix, body, at);
    const char *begin = (const char *)record.bytes + before + prefix;
    record.key = (struct weir_slice){key.data ? begin + key_at : NULL, key.length};
    record.value = weir_slice_of(begin + value_at, value_length);
    record.headers_at = before + prefix + headers_at;
    return record;
}

static struct record make_record(uint64_t *random, size_t value_length, size_t before)
{
    static const size_t keys[] = {0, 1, 15, 63, 64, 300, 9000};

    return make_record_with(random, keys[next_random(random) % 7], value_length, 0, before);
}

static bool find(struct weir_slice key, struct weir_slice value, uint32_t max)
{
    struct weir_slice bytes;
    uint32_t count;

    return weir_record_find_headers(key, value, max, &bytes, &count);
}

static bool read_record(const struct record *record, struct weir_header *ret_headers, uint32_t *ret_count)
{
    struct weir_message message = {.value = record->value};
    struct weir_header room[WEIR_HEADERS_MAX];
    const struct weir_header *headers;

    if (!weir_record_find_headers(record->key, record->value, HEADERS, &message.unread, &message.header_count))
        return false;
    *ret_count = weir_message_headers(&message, room, &headers);
    cr_assert(*ret_count == 0 || (headers == room && *ret_count == message.header_count));
    memcpy(ret_headers, headers, *ret_count * sizeof *headers);
    return *ret_count > 0;
}

static void same_headers(const struct record *record, const struct weir_header *headers, uint32_t count)
{
    cr_assert_eq(count, record->header_count);
    for (uint32_t i = 0; i < count; i++) {
        cr_assert(weir_slice_equal(headers[i].name, record->headers[i].name));
        cr_assert(weir_slice_equal(headers[i].value, record->headers[i].value));
        cr_assert_eq(headers[i].value.data == NULL, record->headers[i].value.data == NULL);
    }
}

static const size_t value_lengths[] = {1, 2, 31, 63, 64, 65, 127, 128, 250, 8191, 8192, 70000};

Test(record_headers, any_record)
{
    uint64_t random = 7;
    struct weir_header headers[HEADERS];
    uint32_t count;

    for (int round = 0; round < 4000; round++) {
        struct record record = make_record(&random, value_lengths[round % 12], round / 12 % 2 ? round % 40 : 0);
        cr_assert_eq(find(record.key, record.value, HEADERS), record.header_count > 0);
        cr_assert_eq(read_record(&record, headers, &count), record.header_count > 0);
        if (record.header_count > 0) {
            same_headers(&record, headers, count);
            cr_assert_not(find(record.key, record.value, record.header_count - 1));
        }
        free(record.bytes);
    }
}

/* Of a record's length the upper digits may be enough by themselves where headers are large beside the value: then it
 * is taken to be too small, and none are told, never others or a part of them (librdkafka is asked instead). */
Test(record_headers, headers_that_are_larger_than_the_value)
{
    static const size_t sizes[] = {0, 40, 300, 900, 1500, 2500, 4000, 7000, 8000, 8200, 10000, 40000, 200000};
    uint64_t random = 12;
    struct weir_header headers[HEADERS];
    uint32_t count;
    int cut = 0, whole = 0;

    for (int round = 0; round < 20000; round++) {
        size_t more = sizes[next_random(&random) % 13] + next_random(&random) % 130;
        struct record record =
            make_record_with(&random, round % 3 ? 0 : next_random(&random) % 70, 1 + (size_t)round % 60, more, 0);
        bool is_read = read_record(&record, headers, &count);
        if (is_read)
            same_headers(&record, headers, count);
        cr_assert(!is_read || record.header_count > 0);
        whole += is_read;
        cut += !is_read && record.header_count > 0;
        free(record.bytes);
    }
    cr_assert(cut > 2000 && whole > 2000, "%d cut, %d whole", cut, whole);
}

/* What librdkafka does not look at: a changed byte may make headers others or none, but never reaches beyond. */
Test(record_headers, broken_headers)
{
    uint64_t random = 8;
    struct weir_header headers[HEADERS];
    uint32_t count;
    int read = 0, refused = 0;

    for (int round = 0; round < 4000; round++) {
        struct record record = make_record(&random, value_lengths[round % 9], round % 3);
        for (size_t at = record.headers_at; at < record.length; at++) {
            unsigned char was = record.bytes[at];
            record.bytes[at] = (unsigned char)next_random(&random);
            bool is_read = read_record(&record, headers, &count);
            for (uint32_t i = 0; is_read && i < count; i++) {
                const char *end = (const char *)record.bytes + record.length;
                cr_assert(headers[i].name.data + headers[i].name.length <= end);
                cr_assert(!headers[i].value.data || headers[i].value.data + headers[i].value.length <= end);
            }
            read += is_read;
            refused += !is_read;
            record.bytes[at] = was;
        }
        free(record.bytes);
    }
    cr_assert(read > 1000 && refused > 1000, "%d read, %d not", read, refused);
}

Test(record_headers, a_name_ends_before_a_nul)
{
    uint64_t random = 9;
    struct weir_header headers[HEADERS];
    uint32_t count;
    struct record record;

    for (record = make_record(&random, 100, 0); record.header_count == 0 || record.headers[0].name.length < 3;
         record = make_record(&random, 100, 0))
        free(record.bytes);
    record.bytes[record.headers_at + 2 + 2] = '\0'; /* behind the number of headers and the name's length */
    cr_assert(read_record(&record, headers, &count));
    cr_assert_eq(headers[0].name.length, 2);
    free(record.bytes);
}

/* Attributes that nobody has defined yet: whoever does knows what they mean for what follows. */
Test(record_headers, unknown_attributes)
{
    uint64_t random = 10;
    struct weir_header headers[HEADERS];
    uint32_t count;

    for (int round = 0; round < 256 * 4; round++) {
        struct record record = make_record(&random, 100, 0);
        size_t at = 0;
        while (record.bytes[at] >= 0x80)
            at++;
        record.bytes[at + 1] = (unsigned char)round;
        cr_assert_eq(read_record(&record, headers, &count), round % 256 == 0 && record.header_count > 0);
        free(record.bytes);
    }
}

/* A message of the formats before, at the end of memory: lengths of four bytes, and nothing behind the value. */
Test(record_headers, older_formats)
{
    uint64_t random = 11;

    for (int round = 0; round < 3000; round++) {
        enum { BEFORE_KEY = 14 }; /* crc, format, attributes, time */
        static const size_t key_lengths[] = {0, 3, 64, 300};
        size_t key_length = key_lengths[round % 4], length = 1 + next_random(&random) % 70000;
        size_t all = BEFORE_KEY + 4 + key_length + 4 + length;
        unsigned char *bytes = malloc(all), *at = bytes + BEFORE_KEY;
        for (size_t i = 0; i < all; i++)
            bytes[i] = (unsigned char)(round % 3 ? next_random(&random) : (uint64_t)round % 2);
        uint32_t sizes[2] = {key_length ? (uint32_t)key_length : UINT32_MAX, (uint32_t)length};
        for (int i = 0; i < 4; i++) {
            at[i] = (unsigned char)(sizes[0] >> (24 - 8 * i));
            at[4 + key_length + (size_t)i] = (unsigned char)(sizes[1] >> (24 - 8 * i));
        }
        struct weir_slice key = {key_length ? (const char *)at + 4 : NULL, (uint32_t)key_length};
        cr_assert_not(find(key, weir_slice_of((const char *)at + 8 + key_length, length), HEADERS));
        free(bytes);
    }
}

Test(record_headers, too_long_or_empty)
{
    cr_assert_not(find(weir_slice_of(NULL, 0), weir_slice_of("", 0), HEADERS));
    cr_assert_not(find(weir_slice_of(NULL, 0), weir_slice_of("", 1 << 20), HEADERS));
}

Test(record_headers, more_than_there_is_room_for)
{
    struct weir_message message = {.header_count = WEIR_HEADERS_MAX + 1};
    struct weir_header many[WEIR_HEADERS_MAX + 1], room[WEIR_HEADERS_MAX];
    const struct weir_header *headers;

    for (int i = 0; i <= WEIR_HEADERS_MAX; i++)
        many[i] = (struct weir_header){weir_slice_text("name"), weir_slice_text("value")};
    unsigned char *bytes = unread_of(many, WEIR_HEADERS_MAX + 1, &message.unread);
    cr_assert_eq(weir_message_headers(&message, room, &headers), 0);
    free(bytes);
    message.header_count = WEIR_HEADERS_MAX;
    bytes = unread_of(many, WEIR_HEADERS_MAX, &message.unread);
    cr_assert_eq(weir_message_headers(&message, room, &headers), WEIR_HEADERS_MAX);
    free(bytes);
}

Test(record_headers, a_message_that_has_its_headers)
{
    const struct weir_header own[] = {{weir_slice_text("a"), weir_slice_text("b")}}, *headers;
    struct weir_message message = {.headers = own, .header_count = 1};
    struct weir_header room[WEIR_HEADERS_MAX];

    cr_assert_eq(weir_message_headers(&message, room, &headers), 1);
    cr_assert_eq(headers, own);
}
