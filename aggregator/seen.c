#include "aggregator/seen.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
    SEGMENTS = 256,         /* by the id's upper 8 bits, which are not stored again */
    BLOCK = 64,             /* ids of a block */
    BLOCK_FILL = 61,        /* ids of a block on average, at most */
    SHARE_MIN = 256,        /* expected ids of a segment that are worth a share */
    FIRST_ROOM = 4,         /* records of a segment's first block, which grows by doubling */
    MAPPED_BYTES = 1 << 13, /* segments from here on are pages of their own: they grow in place, and leave no holes */
    PAGE = 4096,
    BUCKETS_MAX = 64,
    STATE_SHIFT = WEIR_SEEN_CONTENT_BITS, /* in a record's rest */
    BUCKET_SHIFT = STATE_SHIFT + 2,
    CROWDED = BUCKETS_MAX / 2,
};

/* What an id leaves when its segment and its tag are taken off, and its mark. */
struct record {
    uint32_t id_low;
    uint16_t id_high;
    uint16_t effect;
    uint32_t rest; /* content, above it 2 bits of the state and 6 of the position in seen->buckets: in one, since a bit
                      field is written by reading what stands there, which for a new id is yet to come from memory */
};

/* Ids are put behind one another, so that a search ends at the first free tag. 13 cache lines. */
struct block {
    uint8_t tags[BLOCK]; /* the id's lower 8 bits; 0: free */
    struct record records[BLOCK];
};

static_assert(BUCKETS_MAX == 1 << (32 - BUCKET_SHIFT), "a bucket's position has the uppermost bits");
static_assert(sizeof(struct record) == 12 && sizeof(struct block) == 13 * 64, "what the header says of memory per id");

/* The blocks of a segment stand in the order of the ids' next 32 bits: growing is one pass from front to end. An id
 * whose block is full stands in the next one that is not. */
struct segment {
    struct block *blocks; /* with one block: records for room_of(count) ids only */
    uint32_t block_count; /* 0: no ids */
    uint32_t count;
};

/* A place for an id, in the first block where it may stand. */
struct free_place {
    uint64_t id; /* 0, which none has as it is stored: none is known */
    struct block *block;
    uint32_t number;
};

struct weir_seen {
    struct segment segments[SEGMENTS];
    uint64_t count;
    uint64_t limit;
    size_t bytes;
    struct block *aside; /* what the segment that was rebuilt last has left, for the next one */
    size_t aside_bytes;
    uint8_t *fill; /* how many ids its new blocks have by then */
    uint32_t fill_room;
    struct block *shares; /* NULL, or the segments' first blocks made at once, as many for each */
    uint32_t share_blocks;
    struct free_place last;        /* where the last id that was called new will stand */
    uint32_t lowest;               /* no id stands in a bucket below this one */
    uint32_t buckets[BUCKETS_MAX]; /* all different, the one asked for last mostly at the end */
    uint32_t bucket_count;
};

struct weir_seen *weir_seen_new(uint64_t limit)
{
    struct weir_seen *seen = weir_new(sizeof *seen);

    weir_check(limit >= 1);
    seen->limit = limit;
    seen->bytes = sizeof *seen;
    seen->lowest = UINT32_MAX;
    return seen;
}

/* 1. memory of a segment */

static uint32_t room_of(uint32_t count)
{
    uint32_t room = FIRST_ROOM;

    while (room < count)
        room *= 2;
    return room;
}

static size_t bytes_of(uint32_t blocks, uint32_t count)
{
    return blocks == 0   ? 0
           : blocks == 1 ? offsetof(struct block, records) + room_of(count) * sizeof(struct record)
                         : blocks * sizeof(struct block);
}

/* Blocks for so many ids and an eighth to a quarter more, by chance, lest all segments grow, and have much to spare, at
 * the same time; where they are mapped, as many as fill pages. */
static uint32_t blocks_for(uint32_t segment, uint32_t count)
{
    if (count <= BLOCK)
        return count > 0;
    uint32_t needed = (count + BLOCK_FILL - 1) / BLOCK_FILL;
    uint32_t chance = (segment * UINT32_C(0x9E3779B1) + needed * UINT32_C(0x85EBCA77)) >> 26;
    uint32_t blocks = needed + (uint32_t)((uint64_t)needed * (64 + chance) / 512);
    size_t bytes = blocks * sizeof(struct block);
    uint32_t in_pages = (uint32_t)(bytes / PAGE * PAGE / sizeof(struct block));
    if (bytes < MAPPED_BYTES)
        return blocks;
    return in_pages >= needed ? in_pages : (uint32_t)((bytes + PAGE - 1) / PAGE * PAGE / sizeof(struct block));
}

static void out_of_memory_unless(bool is_good)
{
    if (!is_good)
        free(weir_new_array(SIZE_MAX, 1)); /* ends the process with the one line that is said of it everywhere */
}

/* From one size to another, 0 being none; what is in it then means nothing. */
static struct block *resize_blocks(struct block *blocks, size_t from, size_t to)
{
    void *memory = blocks;

    if (from >= MAPPED_BYTES && to >= MAPPED_BYTES) {
        memory = mremap(blocks, from, to, MREMAP_MAYMOVE);
        out_of_memory_unless(memory != MAP_FAILED);
        return memory;
    }
    if (from >= MAPPED_BYTES)
        weir_check(munmap(blocks, from) == 0);
    else
        free(blocks);
    if (to < MAPPED_BYTES)
        return to ? weir_resize(NULL, to, 1) : NULL;
    memory = mmap(NULL, to, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    out_of_memory_unless(memory != MAP_FAILED);
    return memory;
}

static bool is_share(const struct weir_seen *seen, uint32_t number, const struct block *blocks)
{
    return seen->shares && blocks == seen->shares + (size_t)number * seen->share_blocks;
}

/* What it had is free. A share is left for good, and its pages given back; else the next one is rebuilt there. */
static void leave_blocks(struct weir_seen *seen, uint32_t number, struct block *blocks, size_t bytes)
{
    if (!is_share(seen, number, blocks)) {
        seen->aside = blocks;
        seen->aside_bytes = bytes;
        return;
    }
    size_t before = (PAGE - (uintptr_t)blocks % PAGE) % PAGE;
    if (bytes > before + PAGE)
        (void)madvise((char *)blocks + before, (bytes - before) / PAGE * PAGE, MADV_DONTNEED);
    seen->bytes -= bytes;
}

void weir_seen_expect(struct weir_seen *seen, uint64_t count)
{
    uint64_t share = (count < seen->limit ? count : seen->limit) / SEGMENTS;

    weir_check(seen->count == 0 && !seen->shares);
    if (share < SHARE_MIN || share > UINT32_MAX / 2)
        return;
    seen->share_blocks = (uint32_t)((share + share / 8) / BLOCK_FILL + 1);
    size_t blocks = (size_t)SEGMENTS * seen->share_blocks;
    seen->shares = weir_resize_table(NULL, 0, blocks, sizeof(struct block));
    seen->bytes += blocks * sizeof(struct block);
    for (size_t i = 0; i < blocks; i++)
        memset(seen->shares[i].tags, 0, BLOCK);
    for (uint32_t i = 0; i < SEGMENTS; i++)
        seen->segments[i] = (struct segment){seen->shares + (size_t)i * seen->share_blocks, seen->share_blocks, 0};
}

struct weir_seen *weir_seen_free(struct weir_seen *seen)
{
    if (!seen)
        return NULL;
    for (uint32_t i = 0; i < SEGMENTS; i++)
        if (!is_share(seen, i, seen->segments[i].blocks))
            (void)resize_blocks(seen->segments[i].blocks,
                                bytes_of(seen->segments[i].block_count, seen->segments[i].count), 0);
    (void)weir_resize_table(seen->shares, (size_t)SEGMENTS * seen->share_blocks, 0, sizeof(struct block));
    (void)resize_blocks(seen->aside, seen->aside_bytes, 0);
    free(seen->fill);
    free(seen);
    return NULL;
}

/* 2. search */

/* Tag 0 marks a free place; an id with it shares its place with the one of tag 1, as if ids had 64 - 1/256 bits. */
static uint64_t stored_id(uint64_t id)
{
    return id & 0xff ? id : id | 1;
}

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

/* Which of the tags are this one, a bit each. */
static uint64_t tags_like(const uint8_t tags[BLOCK], uint8_t tag)
{
    uint64_t like = 0;
#ifdef __SSE2__
    for (int i = 0; i < BLOCK; i += 16) {
        __m128i some = _mm_loadu_si128((const __m128i *)(const void *)(tags + i));
        uint32_t equal = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(some, _mm_set1_epi8((char)tag)));
        like |= (uint64_t)equal << i;
    }
#else
    for (int i = 0; i < BLOCK; i++)
        like |= (uint64_t)(tags[i] == tag) << i;
#endif
    return like;
}

/* The same, and which places are free: of a block that is not full, or 0. */
static inline uint64_t look_through(const struct block *block, uint8_t tag, uint64_t *ret_free)
{
#ifdef __SSE2__
    const __m128i wanted = _mm_set1_epi8((char)tag), none = _mm_setzero_si128();
    uint64_t like = 0, free_places = 0;

    for (int i = 0; i < BLOCK; i += 16) {
        __m128i some = _mm_loadu_si128((const __m128i *)(const void *)(block->tags + i));
        like |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(some, wanted)) << i;
        free_places |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(some, none)) << i;
    }
    *ret_free = free_places;
    return like;
#else
    *ret_free = tags_like(block->tags, 0);
    return tags_like(block->tags, tag);
#endif
}

/* How many ids stand in it. */
static uint32_t taken_of(const struct block *block)
{
    uint64_t free_places = block->tags[BLOCK - 1] ? 0 : tags_like(block->tags, 0);

    return free_places ? (uint32_t)__builtin_ctzll(free_places) : BLOCK;
}

static uint32_t rest_of(uint32_t content, enum weir_id_state state, uint32_t bucket)
{
    return (content & WEIR_SEEN_CONTENT_MASK) | (uint32_t)state << STATE_SHIFT | bucket << BUCKET_SHIFT;
}

static enum weir_id_state state_of(const struct record *record)
{
    return (enum weir_id_state)(record->rest >> STATE_SHIFT & 3);
}

static uint32_t bucket_of(const struct record *record)
{
    return record->rest >> BUCKET_SHIFT;
}

static void set_bucket(struct record *record, uint32_t bucket)
{
    record->rest = (record->rest & ((UINT32_C(1) << BUCKET_SHIFT) - 1)) | bucket << BUCKET_SHIFT;
}

static bool is_record(const struct record *record, uint64_t id)
{
    return record->id_low == (uint32_t)(id >> 8) && record->id_high == (uint16_t)(id >> 40);
}

/* NULL: not there. */
static struct record *find(const struct weir_seen *seen, uint64_t id)
{
    const struct segment *segment = segment_of(seen, id);
    uint32_t at = segment->block_count ? home_of(segment, id) : 0;

    for (uint32_t left = segment->block_count; left > 0; left--) {
        struct block *block = &segment->blocks[at];
        for (uint64_t like = tags_like(block->tags, (uint8_t)id); like; like &= like - 1)
            if (is_record(&block->records[__builtin_ctzll(like)], id))
                return &block->records[__builtin_ctzll(like)];
        if (!block->tags[BLOCK - 1])
            return NULL;
        at = at + 1 == segment->block_count ? 0 : at + 1;
    }
    return NULL;
}

static __attribute__((noinline)) struct free_place find_place(const struct segment *segment, uint64_t id)
{
    uint32_t at = home_of(segment, id);

    while (segment->blocks[at].tags[BLOCK - 1])
        at = at + 1 == segment->block_count ? 0 : at + 1;
    struct block *block = &segment->blocks[at];
    return (struct free_place){id, block, (uint32_t)__builtin_ctzll(tags_like(block->tags, 0))};
}

/* A place for an id that is not there; the segment has room. */
static inline struct record *place(struct weir_seen *seen, uint64_t id)
{
    struct free_place at = seen->last;

    if (at.id != id)
        at = find_place(segment_of(seen, id), id);
    seen->last.id = 0;
    at.block->tags[at.number] = (uint8_t)id;
    return &at.block->records[at.number];
}

/* As find, and notes the place where the id will stand if it is not there: nearly always in the first block. */
static inline const struct record *find_or_note(struct weir_seen *seen, uint64_t id)
{
    const struct segment *segment = segment_of(seen, id);
    uint64_t free_places, like;

    seen->last.id = 0;
    if (segment->block_count == 0)
        return NULL;
    struct block *block = &segment->blocks[home_of(segment, id)];
    for (like = look_through(block, (uint8_t)id, &free_places); like; like &= like - 1)
        if (is_record(&block->records[__builtin_ctzll(like)], id))
            return &block->records[__builtin_ctzll(like)];
    if (!free_places)
        return find(seen, id);
    seen->last = (struct free_place){id, block, (uint32_t)__builtin_ctzll(free_places)};
    return NULL;
}

enum weir_seen_answer weir_seen_look(struct weir_seen *seen, uint64_t id, uint32_t content,
                                     struct weir_id_mark *ret_mark)
{
    const struct record *record = find_or_note(seen, stored_id(id));

    if (!record)
        return WEIR_SEEN_NEW;
    if ((record->rest & WEIR_SEEN_CONTENT_MASK) != (content & WEIR_SEEN_CONTENT_MASK))
        return WEIR_SEEN_CONFLICT;
    *ret_mark = (struct weir_id_mark){record->rest & WEIR_SEEN_CONTENT_MASK, record->effect, state_of(record)};
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
            struct block *block = &seen->segments[i].blocks[j];
            for (uint32_t k = 0; k < BLOCK && block->tags[k]; k++)
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

/* As many free blocks for the segment as `count` ids need, where the last one was. What it had until then. */
static struct segment start_rebuilding(struct weir_seen *seen, uint32_t number, uint32_t count)
{
    struct segment *segment = &seen->segments[number];
    struct segment old = *segment;

    seen->last.id = 0;
    uint32_t blocks = blocks_for(number, count);
    size_t bytes = bytes_of(blocks, count);

    if (blocks > seen->fill_room) {
        seen->bytes += blocks - seen->fill_room;
        seen->fill = weir_resize(seen->fill, blocks, 1);
        seen->fill_room = blocks;
    }
    *segment = (struct segment){resize_blocks(seen->aside, seen->aside_bytes, bytes), blocks, count};
    seen->bytes += bytes - seen->aside_bytes;
    seen->aside = NULL;
    seen->aside_bytes = 0;
    weir_check(blocks == 0 || segment->blocks);
    for (uint32_t i = 0; i < blocks; i++)
        memset(segment->blocks[i].tags, 0, BLOCK);
    if (seen->fill)
        memset(seen->fill, 0, blocks);
    return old;
}

/* Where records move to: a copy of what tags, being bytes, could be written over for all that the compiler knows. */
struct target {
    struct segment segment;
    uint8_t *fill;
};

/* Copied in one piece: a record on the stack, put together of its fields, would be waited for. */
static inline struct record *move_record(const struct target *target, uint8_t tag, const struct record *from)
{
    uint32_t at = home_of_middle(&target->segment, (uint32_t)from->id_high << 16 | from->id_low >> 16);

    while (__builtin_expect(target->fill[at] == BLOCK, 0))
        at = at + 1 == target->segment.block_count ? 0 : at + 1;
    struct block *block = &target->segment.blocks[at];
    uint32_t place = target->fill[at]++;
    block->tags[place] = tag;
    memcpy(&block->records[place], from, sizeof *from);
    return &block->records[place];
}

/* Moves the ids of the segment whose bucket is kept (NULL: all), their buckets to their new places, to memory for
 * `count`: as many, or one to come as well. */
static __attribute__((noinline)) void rebuild(struct weir_seen *seen, uint32_t number, uint32_t count,
                                              const bool is_kept[BUCKETS_MAX], const uint8_t place_of[BUCKETS_MAX])
{
    const struct segment old = start_rebuilding(seen, number, count);
    const struct target target = {seen->segments[number], seen->fill};

    weir_check(count == 0 || (target.segment.blocks && target.fill));
    for (uint32_t i = 0; i < old.block_count && count > 0; i++) {
        const struct block *block = &old.blocks[i];
        uint32_t taken = taken_of(block);
        for (uint32_t j = 0; j < taken; j++) {
            const struct record *record = &block->records[j];
            if (!is_kept)
                (void)move_record(&target, block->tags[j], record);
            else if (is_kept[bucket_of(record)])
                set_bucket(move_record(&target, block->tags[j], record), place_of[bucket_of(record)]);
        }
    }
    leave_blocks(seen, number, old.blocks, bytes_of(old.block_count, old.count));
}

/* Room for one more, which is counted. */
static inline void make_room(struct weir_seen *seen, uint64_t id)
{
    struct segment *segment = segment_of(seen, id);
    bool is_full = segment->block_count <= 1
                       ? segment->count == 0 || segment->count == BLOCK || segment->count == room_of(segment->count)
                       : segment->count >= segment->block_count * BLOCK_FILL;

    if (__builtin_expect(is_full, 0)) /* counts the one to come */
        rebuild(seen, (uint32_t)(id >> 56), segment->count + 1, NULL, NULL);
    else
        segment->count++;
}

static inline void write_record(struct weir_seen *seen, struct record *record, uint64_t id, struct weir_id_mark mark,
                                uint32_t bucket)
{
    uint32_t last = seen->bucket_count - 1;
    uint32_t position = last < BUCKETS_MAX && seen->buckets[last] == bucket ? last : find_bucket(seen, bucket);

    *record = (struct record){(uint32_t)(id >> 8), (uint16_t)(id >> 40), (uint16_t)mark.effect,
                              rest_of(mark.content, mark.state, position)};
    if (bucket < seen->lowest)
        seen->lowest = bucket;
}

static enum weir_status add(struct weir_seen *seen, uint64_t id, struct weir_id_mark mark, uint32_t bucket)
{
    if (seen->count == seen->limit)
        return WEIR_AGAIN;
    make_room(seen, id);
    write_record(seen, place(seen, id), id, mark, bucket);
    seen->count++;
    return WEIR_OK;
}

enum weir_status weir_seen_add(struct weir_seen *seen, uint64_t id, struct weir_id_mark mark, uint32_t bucket)
{
    return add(seen, stored_id(id), mark, bucket);
}

enum weir_status weir_seen_set(struct weir_seen *seen, uint64_t id, struct weir_id_mark mark, uint32_t bucket)
{
    id = stored_id(id);
    struct record *record = find(seen, id);

    if (!record)
        return add(seen, id, mark, bucket);
    write_record(seen, record, id, mark, bucket);
    return WEIR_OK;
}

/* How many ids of each bucket, by position, the segment has. */
static uint32_t count_kept(const struct segment *segment, const bool is_kept[BUCKETS_MAX], bool is_used[BUCKETS_MAX])
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < segment->block_count; i++) {
        const struct block *block = &segment->blocks[i];
        for (uint32_t j = 0; j < BLOCK && block->tags[j]; j++) {
            uint32_t bucket = bucket_of(&block->records[j]);
            count += is_kept[bucket];
            is_used[bucket] = true;
        }
    }
    return count;
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
        rebuild(seen, i, count_kept(&seen->segments[i], is_kept, is_used), is_kept, place_of);
        seen->count += seen->segments[i].count;
    }
    seen->lowest = UINT32_MAX;
    for (uint32_t i = 0; i < seen->bucket_count; i++)
        if (is_kept[i] && is_used[i] && seen->buckets[i] < seen->lowest)
            seen->lowest = seen->buckets[i];
    memcpy(seen->buckets, buckets, kept * sizeof *buckets);
    seen->bucket_count = kept;
}

uint64_t weir_seen_count(const struct weir_seen *seen)
{
    return seen->count;
}

void weir_seen_prefetch(const struct weir_seen *seen, uint64_t id, int stage)
{
    const struct segment *segment = segment_of(seen, id);

    if (!segment->block_count)
        return;
    const struct block *block = &segment->blocks[home_of(segment, id)];
    if (stage == 0) {
        __builtin_prefetch(block->tags);
    } else if (!block->tags[BLOCK - 1]) { /* most ids are new, and this is where it will be written */
        __builtin_prefetch(&block->records[__builtin_ctzll(tags_like(block->tags, 0))], 1);
    }
}

size_t weir_seen_bytes(const struct weir_seen *seen)
{
    return seen->bytes;
}
