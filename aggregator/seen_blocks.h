/* Memory of the table of ids: blocks of one size, by number. They stand behind one another in a range of addresses that
 * is reserved once, so growing moves nothing, asks the kernel for nothing but pages, and leaves no holes: those given
 * back are taken again first. What is reserved and not in use has no memory. From 64 MB on, and where so many are
 * expected, they stand on huge pages: an id is looked for at random, and among pages of 4 KB the page is a second miss,
 * which in a virtual machine costs as much as the first. One owner thread. */
#ifndef WEIR_AGGREGATOR_SEEN_BLOCKS_H
#define WEIR_AGGREGATOR_SEEN_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

enum { WEIR_SEEN_BLOCK = 64 }; /* ids of a block */

/* What an id leaves when its segment and its tag are taken off, and its mark. Eleven bytes, since lines of the cache
 * are what ids cost. */
struct weir_seen_record {
    uint64_t id_and_content; /* bits 16 to 55 of the id, above them 24 of the content's fingerprint */
    uint16_t effect;
    uint8_t state_and_bucket; /* 2 bits of the state, above them 6 of the position in seen->buckets */
} __attribute__((packed));

/* 13 lines of the cache. With tags of 8 bits one id in five was compared with a record that was not its own, and waited
 * for it; with 16 it is one in a thousand. */
struct weir_seen_block {
    uint16_t tags[WEIR_SEEN_BLOCK]; /* the ids' lower 16 bits */
    struct weir_seen_record records[WEIR_SEEN_BLOCK];
};

struct weir_seen_blocks {
    struct weir_seen_block *first; /* all of them, by number */
    size_t reserved, usable;       /* bytes from `first`: addresses; those that may be written */
    uint32_t end;                  /* blocks from here on were never taken */
    uint32_t free_count, free;     /* blocks below that are free; one of them, which tells the next one */
};

/* Reserves addresses for so many blocks, or for twice what the machine's memory has room for. With none, and where more
 * are taken, the process ends. */
void weir_seen_blocks_open(struct weir_seen_blocks *blocks, uint64_t most);
void weir_seen_blocks_close(struct weir_seen_blocks *blocks);

/* So many blocks, with none taken yet: they are taken on huge pages, from 0 on. */
void weir_seen_blocks_expect(struct weir_seen_blocks *blocks, uint32_t count);

/* The number of a block that nobody has; what is in it means nothing. */
uint32_t weir_seen_blocks_take(struct weir_seen_blocks *blocks);
void weir_seen_blocks_give_back(struct weir_seen_blocks *blocks, uint32_t number);

/* How many are in use. */
uint32_t weir_seen_blocks_used(const struct weir_seen_blocks *blocks);
/* Moves the block to a lower number if it has to, when all from weir_seen_blocks_used on are to be let go; its number
 * then. Each block in use is asked for once, and then weir_seen_blocks_cut ends it. */
uint32_t weir_seen_blocks_lower(struct weir_seen_blocks *blocks, uint32_t number);
void weir_seen_blocks_cut(struct weir_seen_blocks *blocks);

size_t weir_seen_blocks_bytes(const struct weir_seen_blocks *blocks); /* memory held */

static inline struct weir_seen_block *weir_seen_block_at(const struct weir_seen_blocks *blocks, uint32_t number)
{
    return &blocks->first[number];
}

#endif
