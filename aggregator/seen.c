#include "aggregator/seen.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "aggregator/seen_blocks.h"

enum {
    SEGMENTS = 256, /* by the id's upper 8 bits, which are not stored again */
    BLOCK = WEIR_SEEN_BLOCK,
    LINE = 64,       /* bytes */
    BLOCK_FILL = 61, /* ids of a block on average, at most */
    SHARE_MIN = 256, /* expected ids of a segment that are worth a share */
    TAG_BITS = 16,
    ID_BITS = 40, /* of a record */
    BUCKETS_MAX = 64,
    BUCKET_SHIFT = 2, /* in a record's last byte, above the state */
    CROWDED = BUCKETS_MAX / 2,
};

static_assert(BUCKETS_MAX == 1 << (8 - BUCKET_SHIFT), "a bucket's position has the uppermost bits");
static_assert(ID_BITS + WEIR_SEEN_CONTENT_BITS == 64 && 8 + ID_BITS + TAG_BITS == 64,
              "an id is its segment, its tag and what a record has of it");

/* Where a block of a segment is, and how many ids stand in it: behind one another, so that a new one's place is known
 * before the block is looked at. */
struct entry {
    uint32_t block;
    uint8_t fill;
} __attribute__((packed));

/* The blocks of a segment stand in the order of the ids' next 32 bits: growing is one pass from front to end. An id
 * whose block is full stands in the next one that is not. */
struct segment {
    struct entry *entries;
    uint32_t block_count; /* 0: no ids */
    uint32_t count;
};

struct weir_seen {
    struct segment segments[SEGMENTS];
    struct weir_seen_blocks blocks;
    uint64_t count;
    uint64_t limit;
    uint64_t entry_count; /* of all segments */
    uint64_t last;        /* the last id that was called new, and where it will stand, or NULL */
    struct entry *last_entry;
    uint32_t lowest;               /* no id stands in a bucket below this one */
    uint32_t buckets[BUCKETS_MAX]; /* all different, the one asked for last mostly at the end */
    uint32_t bucket_count;
};

/* 1. blocks of a segment */

/* Blocks for so many ids and an eighth to a quarter more, by chance, lest all segments grow, and have much to spare, at
 * the same time. */
static uint32_t blocks_for(uint32_t segment, uint64_t count)
{
    if (count <= BLOCK)
        return count > 0;
    uint64_t needed = (count + BLOCK_FILL - 1) / BLOCK_FILL;
    uint32_t chance = (segment * UINT32_C(0x9E3779B1) + (uint32_t)needed * UINT32_C(0x85EBCA77)) >> 26;
    return (uint32_t)(needed + needed * (64 + chance) / 512);
}

/* The most blocks that so many ids need: all of them in one segment, which is rebuilt, and a block of each other. */
static uint64_t blocks_at_most(uint64_t ids)
{
    return (ids / BLOCK_FILL + 1) * 5 / 2 + (uint64_t)SEGMENTS * 2; /* 5/4 of what is needed, twice */
}

struct weir_seen *weir_seen_new(uint64_t limit)
{
    struct weir_seen *seen = weir_new(sizeof *seen);

    weir_check(limit >= 1);
    seen->limit = limit;
    seen->lowest = UINT32_MAX;
    weir_seen_blocks_open(&seen->blocks, blocks_at_most(limit));
    return seen;
}

static void take_blocks(struct weir_seen *seen, struct segment *segment, uint32_t count)
{
    segment->block_count = count;
    segment->entries = count > 0 ? weir_new_array(count, sizeof *segment->entries) : NULL;
    for (uint32_t i = 0; i < count; i++)
        segment->entries[i].block = weir_seen_blocks_take(&seen->blocks);
    seen->entry_count += count;
}

static void give_blocks_back(struct weir_seen *seen, struct segment *segment)
{
    for (uint32_t i = 0; i < segment->block_count; i++)
        weir_seen_blocks_give_back(&seen->blocks, segment->entries[i].block);
    seen->entry_count -= segment->block_count;
    free(segment->entries);
}

void weir_seen_expect(struct weir_seen *seen, uint64_t count)
{
    uint64_t share = (count < seen->limit ? count : seen->limit) / SEGMENTS;

    weir_check(seen->entry_count == 0);
    if (share < SHARE_MIN)
        return;
    uint64_t blocks_each = (share + share / 8) / BLOCK_FILL + 1;
    if (blocks_each > UINT32_MAX / SEGMENTS)
        return;
    uint32_t blocks = (uint32_t)blocks_each;
    weir_seen_blocks_expect(&seen->blocks, SEGMENTS * blocks);
    for (uint32_t i = 0; i < SEGMENTS; i++)
        take_blocks(seen, &seen->segments[i], blocks);
}

struct weir_seen *weir_seen_free(struct weir_seen *seen)
{
    if (!seen)
        return NULL;
    for (uint32_t i = 0; i < SEGMENTS; i++)
        free(seen->segments[i].entries);
    weir_seen_blocks_close(&seen->blocks);
    free(seen);
    return NULL;
}

/* 2. search */

static struct segment *segment_of(const struct weir_seen *seen, uint64_t id)
{
    return (struct segment *)&seen->segments[id >> 56];
}

/* By the 32 bits of the id that come next. */
static uint32_t home_of_middle(const struct segment *segment, uint32_t middle)
{
    return (uint32_t)((uint64_t)middle * segment->block_count >> 32);
}

static uint32_t home_of(const struct segment *segment, uint64_t id)
{
    return home_of_middle(segment, (uint32_t)(id >> 24));
}

static struct weir_seen_block *block_of(const struct weir_seen *seen, const struct entry *entry)
{
    return weir_seen_block_at(&seen->blocks, entry->block);
}

static uint32_t after(const struct segment *segment, uint32_t at)
{
    return at + 1 == segment->block_count ? 0 : at + 1;
}

/* Which of the tags are this one, a bit each; what is not in use has any. */
static inline uint64_t tags_like(const struct weir_seen_block *block, uint16_t tag)
{
    uint64_t like = 0;
#ifdef __SSE2__
    const __m128i wanted = _mm_set1_epi16((short)tag);
    for (int i = 0; i < BLOCK; i += 16) {
        __m128i low = _mm_load_si128((const __m128i *)(const void *)(block->tags + i));
        __m128i high = _mm_load_si128((const __m128i *)(const void *)(block->tags + i + 8));
        __m128i equal = _mm_packs_epi16(_mm_cmpeq_epi16(low, wanted), _mm_cmpeq_epi16(high, wanted));
        like |= (uint64_t)(uint32_t)_mm_movemask_epi8(equal) << i;
    }
#else
    for (int i = 0; i < BLOCK; i++)
        like |= (uint64_t)(block->tags[i] == tag) << i;
#endif
    return like;
}

/* What a record has of an id. */
static inline uint64_t kept_of(uint64_t id)
{
    return id << 8 >> (8 + TAG_BITS);
}

static inline uint64_t id_of(const struct weir_seen_record *record)
{
    return record->id_and_content & ((UINT64_C(1) << ID_BITS) - 1);
}

static inline uint32_t content_of(const struct weir_seen_record *record)
{
    return (uint32_t)(record->id_and_content >> ID_BITS);
}

static inline uint32_t bucket_of(const struct weir_seen_record *record)
{
    return record->state_and_bucket >> BUCKET_SHIFT;
}

static void set_bucket(struct weir_seen_record *record, uint32_t bucket)
{
    record->state_and_bucket =
        (uint8_t)((record->state_and_bucket & ((1 << BUCKET_SHIFT) - 1)) | bucket << BUCKET_SHIFT);
}

/* NULL: not there. Then the entry of the block where it will stand is noted, unless the segment has no room. */
static inline struct weir_seen_record *find(struct weir_seen *seen, uint64_t id)
{
    const struct segment *segment = segment_of(seen, id);
    uint32_t at = home_of(segment, id);

    seen->last_entry = NULL;
    for (uint32_t left = segment->block_count; left > 0; left--, at = after(segment, at)) {
        struct entry *entry = &segment->entries[at];
        struct weir_seen_block *block = block_of(seen, entry);
        uint64_t like = tags_like(block, (uint16_t)id);
        if (entry->fill < BLOCK)
            like &= (UINT64_C(1) << entry->fill) - 1;
        for (; __builtin_expect(like != 0, 0); like &= like - 1)
            if (id_of(&block->records[__builtin_ctzll(like)]) == kept_of(id))
                return &block->records[__builtin_ctzll(like)];
        if (__builtin_expect(entry->fill < BLOCK, 1)) {
            seen->last = id;
            seen->last_entry = entry;
            return NULL;
        }
    }
    return NULL;
}

enum weir_seen_answer weir_seen_look(struct weir_seen *seen, uint64_t id, uint32_t content,
                                     struct weir_id_mark *ret_mark)
{
    const struct weir_seen_record *record = find(seen, id);

    if (!record)
        return WEIR_SEEN_NEW;
    if (content_of(record) != (content & WEIR_SEEN_CONTENT_MASK))
        return WEIR_SEEN_CONFLICT;
    *ret_mark = (struct weir_id_mark){content_of(record), record->effect,
                                      (enum weir_id_state)(record->state_and_bucket & ((1 << BUCKET_SHIFT) - 1))};
    return WEIR_SEEN_KNOWN;
}

/* 3. buckets */
static int compare_numbers(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static void move_to_places(struct weir_seen *seen, const uint8_t place[BUCKETS_MAX])
{
    for (uint32_t i = 0; i < SEGMENTS; i++)
        for (uint32_t j = 0; j < seen->segments[i].block_count; j++) {
            const struct entry *entry = &seen->segments[i].entries[j];
            struct weir_seen_block *block = block_of(seen, entry);
            for (uint32_t k = 0; k < entry->fill; k++)
                set_bucket(&block->records[k], place[bucket_of(&block->records[k])]);
        }
}

/* Puts each second bucket to the next later one, so that nothing is forgotten too early. */
static void merge_buckets(struct weir_seen *seen)
{
    uint32_t sorted[BUCKETS_MAX];
    uint8_t place[BUCKETS_MAX]; /* by old position */
    uint32_t count = (seen->bucket_count + 1) / 2;

    memcpy(sorted, seen->buckets, seen->bucket_count * sizeof *sorted);
    qsort(sorted, seen->bucket_count, sizeof *sorted, compare_numbers);
    for (uint32_t i = 0; i < seen->bucket_count; i++) {
        const uint32_t *at = bsearch(&seen->buckets[i], sorted, seen->bucket_count, sizeof *sorted, compare_numbers);
        place[i] = (uint8_t)((at - sorted) / 2);
    }
    for (uint32_t i = 0; i < count; i++)
        seen->buckets[i] = sorted[2 * i + 1 < seen->bucket_count ? 2 * i + 1 : 2 * i];
    seen->bucket_count = count;
    move_to_places(seen, place);
}

static __attribute__((noinline)) uint32_t find_bucket(struct weir_seen *seen, uint32_t number)
{
    for (uint32_t i = 0; i < seen->bucket_count; i++)
        if (seen->buckets[i] == number)
            return i;
    if (seen->bucket_count == BUCKETS_MAX)
        merge_buckets(seen);
    seen->buckets[seen->bucket_count] = number;
    return seen->bucket_count++;
}

bool weir_seen_is_crowded(const struct weir_seen *seen)
{
    return seen->bucket_count >= CROWDED;
}

/* 4. setting and forgetting */

/* The next free place of a block that has one; blocks: all of them. */
static inline struct weir_seen_record *place(struct weir_seen_block *blocks, struct entry *entry, uint16_t tag)
{
    struct weir_seen_block *block = &blocks[entry->block];

    block->tags[entry->fill] = tag;
    return &block->records[entry->fill++];
}

/* The first block from there on that has room; there is one. */
static inline struct entry *find_room(const struct segment *segment, uint32_t at)
{
    while (__builtin_expect(segment->entries[at].fill == BLOCK, 0))
        at = after(segment, at);
    return &segment->entries[at];
}

/* A block that will be read or written from front to end. */
static inline void prefetch_block(const struct weir_seen_block *block)
{
    for (size_t at = 0; at < sizeof *block; at += LINE)
        __builtin_prefetch((const char *)block + at);
}

/* Moves the ids of the segment whose bucket is kept (NULL: all), their buckets to their new places, to blocks for
 * `count`: as many, or one to come as well. */
static __attribute__((noinline)) void rebuild(struct weir_seen *seen, uint32_t number, uint32_t count,
                                              const bool is_kept[BUCKETS_MAX], const uint8_t place_of[BUCKETS_MAX])
{
    struct segment old = seen->segments[number], new = {.count = count};

    seen->last_entry = NULL;
    take_blocks(seen, &new, blocks_for(number, count));
    weir_check(count == 0 || new.entries);
    /* By itself, since the compiler must take it that what is written could be it. */
    struct weir_seen_block *const blocks = seen->blocks.first;
    for (uint32_t i = 0; i < old.block_count && count > 0; i++) {
        const struct weir_seen_block *block = &blocks[old.entries[i].block];
        uint32_t fill = old.entries[i].fill,
                 to_come = (uint32_t)((uint64_t)(i + 1) * new.block_count / old.block_count);
        if (i + 1 < old.block_count)
            prefetch_block(&blocks[old.entries[i + 1].block]);
        if (to_come + 1 < new.block_count)
            prefetch_block(&blocks[new.entries[to_come + 1].block]);
        for (uint32_t j = 0; j < fill; j++) {
            const struct weir_seen_record *record = &block->records[j];
            if (is_kept && !is_kept[bucket_of(record)])
                continue;
            uint32_t home = home_of_middle(&new, (uint32_t)(record->id_and_content >> 8));
            struct weir_seen_record *to = place(blocks, find_room(&new, home), block->tags[j]);
            memcpy(to, record, sizeof *to); /* in one piece: put together of its fields it would be waited for */
            if (is_kept)
                set_bucket(to, place_of[bucket_of(to)]);
        }
    }
    give_blocks_back(seen, &old);
    seen->segments[number] = new;
}

/* Room for one more, which is counted. */
static inline void make_room(struct weir_seen *seen, uint64_t id)
{
    struct segment *segment = segment_of(seen, id);
    bool is_full = segment->count >= (segment->block_count == 1 ? BLOCK : segment->block_count * BLOCK_FILL);

    if (__builtin_expect(is_full, 0)) /* counts the one to come */
        rebuild(seen, (uint32_t)(id >> 56), segment->count + 1, NULL, NULL);
    else
        segment->count++;
}

static inline void write_record(struct weir_seen *seen, struct weir_seen_record *record, uint64_t id,
                                struct weir_id_mark mark, uint32_t bucket)
{
    uint32_t last = seen->bucket_count - 1;
    uint32_t position = last < BUCKETS_MAX && seen->buckets[last] == bucket ? last : find_bucket(seen, bucket);

    *record = (struct weir_seen_record){kept_of(id) | (uint64_t)mark.content << ID_BITS, (uint16_t)mark.effect,
                                        (uint8_t)(mark.state | position << BUCKET_SHIFT)};
    if (bucket < seen->lowest)
        seen->lowest = bucket;
}

enum weir_status weir_seen_add(struct weir_seen *seen, uint64_t id, struct weir_id_mark mark, uint32_t bucket)
{
    if (seen->count == seen->limit)
        return WEIR_AGAIN;
    make_room(seen, id);
    const struct segment *segment = segment_of(seen, id);
    struct entry *entry =
        seen->last_entry && seen->last == id ? seen->last_entry : find_room(segment, home_of(segment, id));
    seen->last_entry = NULL;
    write_record(seen, place(seen->blocks.first, entry, (uint16_t)id), id, mark, bucket);
    seen->count++;
    return WEIR_OK;
}

enum weir_status weir_seen_set(struct weir_seen *seen, uint64_t id, struct weir_id_mark mark, uint32_t bucket)
{
    struct weir_seen_record *record = find(seen, id);

    if (!record)
        return weir_seen_add(seen, id, mark, bucket);
    write_record(seen, record, id, mark, bucket);
    return WEIR_OK;
}

/* How many ids of each bucket, by position, the segment has. */
static uint32_t count_kept(const struct weir_seen *seen, const struct segment *segment, const bool is_kept[BUCKETS_MAX],
                           bool is_used[BUCKETS_MAX])
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < segment->block_count; i++) {
        const struct weir_seen_block *block = block_of(seen, &segment->entries[i]);
        for (uint32_t j = 0; j < segment->entries[i].fill; j++) {
            uint32_t bucket = bucket_of(&block->records[j]);
            count += is_kept[bucket];
            is_used[bucket] = true;
        }
    }
    return count;
}

/* Gives memory back where more than an eighth of it is free. */
static void close_up(struct weir_seen *seen)
{
    if (seen->blocks.free_count <= seen->blocks.end / 8)
        return;
    for (uint32_t i = 0; i < SEGMENTS; i++)
        for (uint32_t j = 0; j < seen->segments[i].block_count; j++) {
            struct entry *entry = &seen->segments[i].entries[j];
            entry->block = weir_seen_blocks_lower(&seen->blocks, entry->block);
        }
    weir_seen_blocks_cut(&seen->blocks);
}

void weir_seen_forget(struct weir_seen *seen, uint32_t bucket)
{
    uint8_t place_of[BUCKETS_MAX] = {0};
    bool is_kept[BUCKETS_MAX] = {false}, is_used[BUCKETS_MAX] = {false};
    uint32_t kept = 0, buckets[BUCKETS_MAX];

    if (bucket <= seen->lowest || seen->count == 0)
        return;
    for (uint32_t i = 0; i < seen->bucket_count; i++) {
        is_kept[i] = seen->buckets[i] >= bucket;
        place_of[i] = (uint8_t)kept;
        if (is_kept[i])
            buckets[kept++] = seen->buckets[i];
    }
    seen->count = 0;
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        rebuild(seen, i, count_kept(seen, &seen->segments[i], is_kept, is_used), is_kept, place_of);
        seen->count += seen->segments[i].count;
    }
    seen->lowest = UINT32_MAX;
    for (uint32_t i = 0; i < seen->bucket_count; i++)
        if (is_kept[i] && is_used[i] && seen->buckets[i] < seen->lowest)
            seen->lowest = seen->buckets[i];
    memcpy(seen->buckets, buckets, kept * sizeof *buckets);
    seen->bucket_count = kept;
    close_up(seen);
}

uint64_t weir_seen_count(const struct weir_seen *seen)
{
    return seen->count;
}

void weir_seen_prefetch(const struct weir_seen *seen, uint64_t id)
{
    const struct segment *segment = segment_of(seen, id);

    if (!segment->block_count)
        return;
    uint32_t at = home_of(segment, id);
    if (__builtin_expect(segment->entries[at].fill == BLOCK, 0)) {
        __builtin_prefetch(block_of(seen, &segment->entries[at])->tags);
        __builtin_prefetch(block_of(seen, &segment->entries[at])->tags + BLOCK / 2);
        at = after(segment, at);
    }
    const struct entry *entry = &segment->entries[at];
    const struct weir_seen_block *block = block_of(seen, entry);
    __builtin_prefetch(block->tags);
    __builtin_prefetch(block->tags + BLOCK / 2);
    __builtin_prefetch(&block->records[entry->fill < BLOCK ? entry->fill : 0], 1); /* most ids are new */
}

size_t weir_seen_bytes(const struct weir_seen *seen)
{
    return sizeof *seen + seen->entry_count * sizeof(struct entry) + weir_seen_blocks_bytes(&seen->blocks);
}
