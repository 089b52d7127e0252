#include "aggregator/seen_blocks.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/status.h"

enum {
    PAGE = 4096,
    HUGE_PAGE = 2 << 20,
    HUGE_FROM = 64 << 20, /* bytes: from here on a huge page that was just begun is a thirtieth of all, or less */
};

static_assert(sizeof(struct weir_seen_record) == 11 && sizeof(struct weir_seen_block) == 13 * 64,
              "what seen.h says of memory per id");

static size_t up_to(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

void weir_seen_blocks_open(struct weir_seen_blocks *blocks, uint64_t most)
{
    uint64_t memory_has = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t more_than_all = 2 * memory_has / sizeof(struct weir_seen_block);

    if (most > more_than_all)
        most = more_than_all;
    if (most >= UINT32_MAX)
        most = UINT32_MAX - 1;
    size_t bytes = up_to(most * sizeof(struct weir_seen_block), HUGE_PAGE);
    *blocks = (struct weir_seen_blocks){.first = weir_reserve(bytes, false), .reserved = bytes};
}

void weir_seen_blocks_close(struct weir_seen_blocks *blocks)
{
    weir_check(munmap(blocks->first, blocks->reserved) == 0);
}

/* The first so many bytes may be written. */
static void make_usable(struct weir_seen_blocks *blocks, size_t bytes, bool is_huge)
{
    char *from = (char *)blocks->first + blocks->usable;
    size_t more = bytes - blocks->usable;

    if (bytes > blocks->reserved)
        weir_out_of_memory(bytes);
    if (mprotect(from, more, PROT_READ | PROT_WRITE) != 0)
        weir_out_of_memory(more);
    if (is_huge)
        (void)madvise(from, more, MADV_HUGEPAGE); /* a wish, not a need */
    blocks->usable = bytes;
}

void weir_seen_blocks_expect(struct weir_seen_blocks *blocks, uint32_t count)
{
    weir_check(blocks->end == 0 && blocks->usable == 0);
    make_usable(blocks, up_to(count * sizeof(struct weir_seen_block), HUGE_PAGE), true);
}

uint32_t weir_seen_blocks_take(struct weir_seen_blocks *blocks)
{
    uint32_t number = blocks->free;

    if (blocks->free_count > 0) {
        blocks->free_count--;
        memcpy(&blocks->free, weir_seen_block_at(blocks, number), sizeof blocks->free);
        return number;
    }
    if ((blocks->end + (size_t)1) * sizeof(struct weir_seen_block) > blocks->usable)
        make_usable(blocks, blocks->usable + HUGE_PAGE, blocks->usable >= HUGE_FROM);
    return blocks->end++;
}

void weir_seen_blocks_give_back(struct weir_seen_blocks *blocks, uint32_t number)
{
    memcpy(weir_seen_block_at(blocks, number), &blocks->free, sizeof blocks->free);
    blocks->free = number;
    blocks->free_count++;
}

uint32_t weir_seen_blocks_used(const struct weir_seen_blocks *blocks)
{
    return blocks->end - blocks->free_count;
}

uint32_t weir_seen_blocks_lower(struct weir_seen_blocks *blocks, uint32_t number)
{
    uint32_t to;

    if (number < weir_seen_blocks_used(blocks))
        return number;
    for (to = blocks->free; to >= weir_seen_blocks_used(blocks);)
        memcpy(&to, weir_seen_block_at(blocks, to), sizeof to);
    memcpy(&blocks->free, weir_seen_block_at(blocks, to), sizeof blocks->free);
    memcpy(weir_seen_block_at(blocks, to), weir_seen_block_at(blocks, number), sizeof(struct weir_seen_block));
    return to;
}

void weir_seen_blocks_cut(struct weir_seen_blocks *blocks)
{
    size_t bytes = weir_seen_blocks_bytes(blocks);

    blocks->end = weir_seen_blocks_used(blocks);
    blocks->free_count = 0;
    size_t left = weir_seen_blocks_bytes(blocks);
    if (bytes > left)
        (void)madvise((char *)blocks->first + left, bytes - left, MADV_DONTNEED);
}

size_t weir_seen_blocks_bytes(const struct weir_seen_blocks *blocks)
{
    return up_to(blocks->end * sizeof(struct weir_seen_block), PAGE);
}
