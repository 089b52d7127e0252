#include "common/text_order.h"

#include <stdlib.h>

#include "common/status.h"

enum { FEW = 24, KEY = 8, DIGITS = 256 }; /* so few are sorted by comparing them */

struct place {
    uint64_t key; /* the next eight bytes, the first one uppermost; zeros behind the end */
    uint32_t at;
    uint32_t length; /* of the whole text */
};

struct sorting {
    const struct weir_slice *texts;
    struct place *spare;
    uint32_t counts[KEY][DIGITS];
};

static int compare(const struct sorting *sorting, const struct place *a, const struct place *b, uint32_t offset)
{
    struct weir_slice left = sorting->texts[a->at], right = sorting->texts[b->at];

    uint32_t shorter = left.length < right.length ? left.length : right.length;
    int order = shorter > offset ? memcmp(left.data + offset, right.data + offset, shorter - offset) : 0;
    return order ? order : (left.length > right.length) - (left.length < right.length);
}

static void insert_in_order(const struct sorting *sorting, struct place *places, uint32_t count, uint32_t offset)
{
    for (uint32_t i = 1; i < count; i++) {
        struct place place = places[i];
        uint32_t to = i;
        for (; to > 0 && compare(sorting, &places[to - 1], &place, offset) > 0; to--)
            places[to] = places[to - 1];
        places[to] = place;
    }
}

static int by_length(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    int order = (a->length > b->length) - (a->length < b->length);
    return order ? order : (a->at > b->at) - (a->at < b->at);
}

/* How many bytes from offset on all of them have in common. */
static uint32_t in_common(const struct sorting *sorting, const struct place *places, uint32_t count, uint32_t offset)
{
    struct weir_slice first = sorting->texts[places[0].at];
    uint32_t common = first.length > offset ? first.length - offset : 0;

    for (uint32_t i = 1; i < count && common > 0; i++) {
        struct weir_slice text = sorting->texts[places[i].at];
        uint32_t most = text.length > offset ? text.length - offset : 0;
        common = common < most ? common : most;
        if (common > 0 && memcmp(first.data + offset, text.data + offset, common) == 0)
            continue;
        for (uint32_t same = 0; same < common; same++)
            if (first.data[offset + same] != text.data[offset + same])
                common = same;
    }
    return common;
}

static uint64_t read_key(struct weir_slice text, uint32_t offset)
{
    unsigned char bytes[KEY] = {0};
    uint64_t key;

    if (text.length > offset)
        memcpy(bytes, text.data + offset, text.length - offset < KEY ? text.length - offset : KEY);
    memcpy(&key, bytes, sizeof key);
    return __builtin_bswap64(key);
}

/* By key, from its last byte to its first; a byte that is the same in all of them moves nothing. */
static void sort_by_key(struct sorting *sorting, struct place *places, uint32_t count)
{
    struct place *from = places, *to = sorting->spare;

    memset(sorting->counts, 0, sizeof sorting->counts);
    for (uint32_t i = 0; i < count; i++)
        for (int byte = 0; byte < KEY; byte++)
            sorting->counts[byte][places[i].key >> (8 * byte) & 0xFF]++;
    for (int byte = 0; byte < KEY; byte++) {
        uint32_t *counts = sorting->counts[byte], sum = 0;
        if (counts[places[0].key >> (8 * byte) & 0xFF] == count)
            continue;
        for (int digit = 0; digit < DIGITS; digit++) {
            uint32_t here = counts[digit];
            counts[digit] = sum;
            sum += here;
        }
        for (uint32_t i = 0; i < count; i++)
            to[counts[from[i].key >> (8 * byte) & 0xFF]++] = from[i];
        struct place *swap = from;
        from = to;
        to = swap;
    }
    if (from != places)
        memcpy(places, from, count * sizeof *places);
}

/* They are the same before offset. */
static void sort_from(struct sorting *sorting, struct place *places, uint32_t count, uint32_t offset)
{
    if (count <= FEW) {
        insert_in_order(sorting, places, count, offset);
        return;
    }
    offset += in_common(sorting, places, count, offset);
    bool is_end = true, is_same = true;
    for (uint32_t i = 0; i < count; i++) {
        places[i].key = read_key(sorting->texts[places[i].at], offset);
        is_end = is_end && places[i].length <= offset;
        is_same = is_same && places[i].length == places[0].length;
    }
    if (is_end) { /* all the same, but for zeros at their ends */
        if (!is_same)
            qsort(places, count, sizeof *places, by_length);
        return;
    }
    sort_by_key(sorting, places, count);
    for (uint32_t i = 0, after; i < count; i = after) {
        for (after = i + 1; after < count && places[after].key == places[i].key;)
            after++;
        if (after - i > 1)
            sort_from(sorting, places + i, after - i, offset + KEY);
    }
}

void weir_text_order(const struct weir_slice *texts, uint32_t count, uint32_t *ret_order)
{
    struct sorting *sorting = weir_new(sizeof *sorting);
    struct place *places = weir_new_array(count, sizeof *places);

    sorting->texts = texts;
    sorting->spare = weir_new_array(count, sizeof *sorting->spare);
    for (uint32_t i = 0; i < count; i++)
        places[i] = (struct place){.at = i, .length = texts[i].length};
    if (count > 0)
        sort_from(sorting, places, count, 0);
    for (uint32_t i = 0; i < count; i++)
        ret_order[i] = places[i].at;
    free(sorting->spare);
    free(places);
    free(sorting);
}
