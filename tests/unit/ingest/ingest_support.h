/* What the ingest tests share. */
#ifndef WEIR_TESTS_INGEST_SUPPORT_H
#define WEIR_TESTS_INGEST_SUPPORT_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/model/catalog.h"
#include "common/model/event.h"
#include "ingest/source.h"

static inline struct weir_catalog *catalog_of(const char *json)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};

    if (weir_catalog_parse("test", json, strlen(json), &catalog, &mistakes) != WEIR_OK)
        cr_assert_fail("catalog: %s: %s", mistakes.mistakes[0].path, mistakes.mistakes[0].text);
    return catalog;
}

/* A copy whose last byte is the last of its page, with a page behind it that nobody may touch: a read beyond the text
 * ends the test, whatever the build. */
struct guarded {
    char *map;
    size_t size;
    struct weir_slice text;
};

static inline struct guarded guard(const char *text, size_t length)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = (length + page - 1) / page + 1;
    struct guarded guarded = {NULL, pages * page + page, {NULL, 0}};

    guarded.map = mmap(NULL, guarded.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(guarded.map != MAP_FAILED);
    cr_assert(mprotect(guarded.map + pages * page, page, PROT_NONE) == 0);
    guarded.text = weir_slice_of(guarded.map + pages * page - length, length);
    memcpy(guarded.map + pages * page - length, text, length);
    return guarded;
}

static inline void unguard(struct guarded *guarded)
{
    munmap(guarded->map, guarded->size);
}

/* A number as records have it: zigzag, seven bits a byte. */
static inline size_t put_number(unsigned char *at, int64_t number)
{
    uint64_t rest = ((uint64_t)number << 1) ^ (uint64_t)(number >> 63);
    size_t count = 0;

    for (; rest >= 0x80; rest >>= 7)
        at[count++] = (unsigned char)(rest | 0x80);
    at[count++] = (unsigned char)rest;
    return count;
}

/* Bytes with their length before them; data NULL: as null. */
static inline size_t put_bytes(unsigned char *at, struct weir_slice bytes)
{
    if (!bytes.data)
        return put_number(at, -1);
    size_t count = put_number(at, bytes.length);
    memcpy(at + count, bytes.data, bytes.length);
    return count + bytes.length;
}

/* The headers of a message as they stand in a record, in memory of just their size, to be freed. */
static inline unsigned char *unread_of(const struct weir_header *headers, uint32_t count, struct weir_slice *ret_unread)
{
    size_t room = 1, length = 0;

    for (uint32_t i = 0; i < count; i++)
        room += headers[i].name.length + headers[i].value.length + 20;
    unsigned char *wide = malloc(room);
    for (uint32_t i = 0; i < count; i++) {
        length += put_bytes(wide + length, headers[i].name);
        length += put_bytes(wide + length, headers[i].value);
    }
    unsigned char *bytes = malloc(length ? length : 1);
    memcpy(bytes, wide, length);
    free(wide);
    *ret_unread = weir_slice_of((const char *)bytes, length);
    return bytes;
}

static inline struct weir_message message_of(struct weir_slice value)
{
    return (struct weir_message){.topic = weir_slice_text("test"), .value = value};
}

#endif
