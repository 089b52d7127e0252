/* How a text is compared with shapes that are known (json_shape.h): the part that each event goes through, as one
 * function that is compiled twice, for processors with AVX2 (json_shape_wide.c) and for all (json_shape.c). Both do the
 * same.
 */
#ifndef WEIR_INGEST_JSON_SHAPE_READ_H
#define WEIR_INGEST_JSON_SHAPE_READ_H

#ifdef __AVX2__
#include <immintrin.h>
#elif defined __SSE2__
#include <emmintrin.h>
#endif

#include "ingest/json_index.h"
#include "ingest/json_number.h"
#include "ingest/json_shape.h"
#include "ingest/json_text.h"

enum { BLOCK = 32, HALF = BLOCK / 2 };

/* Within a literal, what somebody asked for: the bracket of an object or array, or a scalar. */
struct mark {
    struct weir_json_value value; /* all but where its text stands; places are counted from the literal's beginning */
    uint16_t slot;
    uint16_t text_place;
};

enum ending { STRING, OTHER_SCALAR, TEXT };

/* A literal, and what it ends at: the inside of a string, another scalar, or the end of the text. */
struct step {
    const char *literal; /* with a block to spare */
    uint32_t head;       /* a bit for each byte of its first block */
    uint16_t length;
    uint16_t slot;  /* of the scalar */
    uint8_t ending; /* enum ending */
    bool has_marks;
    uint8_t mark_count, closed_count;
    const struct mark *marks; /* behind them those of brackets that close: slot and value.end */
    struct step *next;        /* what may come after the scalar */
    struct step *other;       /* what may stand here instead */
};

/* Blocks full of them, which cost less to load than to make. */
extern const char weir_json_quotes[BLOCK], weir_json_backslashes[BLOCK];

/* A text, from the first of the steps that it may begin with; what weir_json_shapes_read does otherwise. */
bool weir_json_steps_read_wide(struct step **first, struct weir_slice text, struct weir_json_value *values,
                               char *scratch);

/* 1. blocks: a bit for each byte */

#ifndef __AVX2__
static inline uint32_t half_differences(const char *a, const char *b)
{
#ifdef __SSE2__
    __m128i ours = _mm_loadu_si128((const __m128i *)(const void *)a);
    __m128i theirs = _mm_loadu_si128((const __m128i *)(const void *)b);
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(ours, theirs)) ^ 0xffff;
#else
    uint32_t bits = 0;
    for (int i = 0; i < HALF; i++)
        bits |= (uint32_t)(a[i] != b[i]) << i;
    return bits;
#endif
}
#endif

static inline uint32_t differences(const char *a, const char *b)
{
#ifdef __AVX2__
    __m256i ours = _mm256_loadu_si256((const __m256i *)(const void *)a);
    __m256i theirs = _mm256_loadu_si256((const __m256i *)(const void *)b);
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(ours, theirs));
#else
    return half_differences(a, b) | half_differences(a + HALF, b + HALF) << HALF;
#endif
}

static inline bool is_special(char c)
{
    return c == '"' || c == '\\' || (unsigned char)c < 0x20;
}

/* Where a string may end or hold what it may not, in half a block. *has_high: not 0 if a byte is above 0x7f. */
static inline uint32_t half_specials(const char *at, uint32_t *has_high)
{
#ifdef __SSE2__
    __m128i block = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i quote = _mm_cmpeq_epi8(block, _mm_set1_epi8('"'));
    __m128i backslash = _mm_cmpeq_epi8(block, _mm_set1_epi8('\\'));
    __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
    *has_high |= (uint32_t)_mm_movemask_epi8(block);
    return (uint32_t)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control));
#else
    uint32_t bits = 0;
    for (int i = 0; i < HALF; i++) {
        *has_high |= (unsigned char)at[i] & 0x80;
        bits |= (uint32_t)is_special(at[i]) << i;
    }
    return bits;
#endif
}

static inline uint32_t specials(const char *at, uint32_t *has_high)
{
#ifdef __AVX2__
    __m256i block = _mm256_loadu_si256((const __m256i *)(const void *)at);
    __m256i quote = _mm256_cmpeq_epi8(block, *(const __m256i *)(const void *)weir_json_quotes);
    __m256i backslash = _mm256_cmpeq_epi8(block, *(const __m256i *)(const void *)weir_json_backslashes);
    __m256i control = _mm256_cmpeq_epi8(_mm256_min_epu8(block, _mm256_set1_epi8(0x1f)), block);
    *has_high |= (uint32_t)_mm256_movemask_epi8(block);
    return (uint32_t)_mm256_movemask_epi8(_mm256_or_si256(_mm256_or_si256(quote, backslash), control));
#else
    uint32_t left = half_specials(at, has_high);
    return left ? left : half_specials(at + HALF, has_high) << HALF;
#endif
}

/* Which bytes of half a block are digits. */
static inline uint32_t half_digits(const char *at)
{
#ifdef __SSE2__
    __m128i block = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(const void *)at), _mm_set1_epi8('0'));
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(9)), block));
#else
    uint32_t bits = 0;
    for (int i = 0; i < HALF; i++)
        bits |= (uint32_t)weir_json_is_digit(at[i]) << i;
    return bits;
#endif
}

/* 2. reading */

/* Handed on by value: what has no address stays in registers, whatever is written meanwhile. */
struct reading {
    const char *text;
    const char *end;
};

/* Whether `bytes` may be read. */
static inline bool has_room(struct reading reading, const char *at, size_t bytes)
{
    return (size_t)(reading.end - at) >= bytes;
}

/* The first special byte from `at` on; NULL: there is none. *has_high becomes true if it passes a byte above 0x7f, and
 * may become so for one behind it. */
static __attribute__((noinline)) const char *find_special_near_end(struct reading reading, const char *at,
                                                                   uint32_t *has_high)
{
    if (has_room(reading, at, HALF)) {
        uint32_t found = half_specials(at, has_high);
        if (found)
            return at + __builtin_ctz(found);
        at += HALF;
    }
    for (; at < reading.end; at++) {
        if (is_special(*at))
            return at;
        *has_high |= (unsigned char)*at & 0x80;
    }
    return NULL;
}

static inline const char *find_special(struct reading reading, const char *at, uint32_t *has_high)
{
    for (; __builtin_expect(has_room(reading, at, BLOCK), 1); at += BLOCK) {
        uint32_t found = specials(at, has_high);
        if (found)
            return at + __builtin_ctz(found);
    }
    uint32_t more = 0;
    at = find_special_near_end(reading, at, &more);
    *has_high |= more;
    return at;
}

/* A string with a backslash, the first of which is at `end`: where its closing quotation mark is, or NULL. *scratch is
 * free for it, and moves. */
static __attribute__((noinline)) const char *read_escaped(struct reading reading, const char *begin, const char *end,
                                                          uint32_t *has_high, char **scratch,
                                                          struct weir_slice *ret_text)
{
    const char *first = end, *place;

    while (end && *end == '\\')
        end = reading.end - end > 2 ? find_special(reading, end + 2, has_high) : NULL;
    if (!end || *end != '"'
        || weir_unescape(weir_slice_of(begin, (size_t)(end - begin)), first, *scratch, ret_text, &place)
               != WEIR_UNESCAPED)
        return NULL;
    *scratch += ret_text->length;
    return end;
}

/* From behind the opening quotation mark to the closing one, which the next literal begins with: no other is accepted
 * there. NULL: none. */
static inline const char *read_string(struct reading reading, const char *at, uint32_t *has_high, char **scratch,
                                      struct weir_json_value *value)
{
    const char *end = find_special(reading, at, has_high);

    if (__builtin_expect(!end, 0))
        return NULL;
    value->value.text = weir_slice_of(at, (size_t)(end - at));
    value->value.kind = WEIR_VALUE_STRING;
    if (__builtin_expect(*end == '\\', 0)) {
        uint32_t more = 0;
        end = read_escaped(reading, at, end, &more, scratch, &value->value.text);
        if (!end)
            return NULL;
        *has_high |= more;
    }
    value->begin = (uint32_t)(at - reading.text) - 1;
    value->end = (uint32_t)(end - reading.text) + 1;
    return end;
}

/* Behind the number that begins at `at`; NULL: none does. Short ones, without an exponent, by their digits' bits. */
static inline const char *number_end(struct reading reading, const char *at)
{
    if (__builtin_expect(has_room(reading, at, HALF), 1)) {
        uint32_t others = ~half_digits(at), run = (uint32_t)__builtin_ctz(others); /* upper bits are set */
        if (run > 0 && run < HALF - 1 && (*at != '0' || run == 1)) {
            uint32_t fraction = at[run] == '.' ? (uint32_t)__builtin_ctz(others >> (run + 1)) : 0;
            uint32_t length = fraction > 0 ? run + 1 + fraction : run;
            if (length < HALF && at[length] != '.' && (at[length] | 0x20) != 'e')
                return at + length;
        }
    }
    return weir_json_number_end(at);
}

/* The end of the word, or NULL. */
static inline const char *read_word(struct reading reading, const char *at, const char *word, size_t length,
                                    enum weir_value_kind kind, struct weir_json_value *value)
{
    value->value = (struct weir_value){{NULL, 0}, kind};
    return (size_t)(reading.end - at) >= length && memcmp(at, word, length) == 0 ? at + length : NULL;
}

/* Its end, or NULL. What follows is the next literal's to compare. The text ends with a bracket, so a number ends
 * before. */
static inline const char *read_other(struct reading reading, const char *at, struct weir_json_value *value)
{
    const char *end;

    switch (*at) {
    case 't':
        end = read_word(reading, at, "true", 4, WEIR_VALUE_TRUE, value);
        break;
    case 'f':
        end = read_word(reading, at, "false", 5, WEIR_VALUE_FALSE, value);
        break;
    case 'n':
        end = read_word(reading, at, "null", 4, WEIR_VALUE_NULL, value);
        break;
    default:
        end = number_end(reading, at);
        value->value = (struct weir_value){weir_slice_of(at, end ? (size_t)(end - at) : 0), WEIR_VALUE_NUMBER};
    }
    value->begin = (uint32_t)(at - reading.text);
    value->end = end ? (uint32_t)(end - reading.text) : 0;
    return end;
}

static inline bool begins_other(char c)
{
    return weir_json_is_digit(c) || c == '-' || c == 't' || c == 'f' || c == 'n';
}

/* Whether the step's literal stands at `at`. */
static inline bool has_literal(struct reading reading, const struct step *step, const char *at)
{
    const char *literal = step->literal;
    size_t length = step->length, left = (size_t)(reading.end - at);

    if (__builtin_expect(left < BLOCK, 0))
        return length <= left && memcmp(at, literal, length) == 0;
    if (differences(at, literal) & step->head)
        return false;
    if (length <= BLOCK)
        return true;
    if (length > left)
        return false;
    for (size_t i = BLOCK; i + BLOCK < length; i += BLOCK)
        if (differences(at + i, literal + i))
            return false;
    return !differences(at + length - BLOCK, literal + length - BLOCK);
}

/* Whether the step's literal stands at `at`, and behind it what it ends at. */
static inline bool stands_here(struct reading reading, const struct step *step, const char *at)
{
    return has_literal(reading, step, at)
           && (step->ending == STRING
               || (step->ending == TEXT ? (size_t)(reading.end - at) == step->length : begins_other(at[step->length])));
}

/* Every text that has the longer one has the shorter one too. */
static inline bool begins_with(const struct step *longer, const struct step *shorter)
{
    return longer->length >= shorter->length && memcmp(longer->literal, shorter->literal, shorter->length) == 0;
}

/* Of the others that may stand here the one that does, or NULL. It moves up by one, but never before a longer one that
 * begins with it: so the first that stands here is the longest that does. */
static __attribute__((noinline)) struct step *choose_other(struct step **first, struct reading reading, const char *at)
{
    for (struct step **before = first, *step; (step = (*before)->other); before = &(*before)->other) {
        if (!stands_here(reading, step, at))
            continue;
        if (!begins_with(*before, step)) {
            (*before)->other = step->other;
            step->other = *before;
            *before = step;
        }
        return step;
    }
    return NULL;
}

static inline void set_marks(const struct step *step, struct reading reading, const char *at,
                             struct weir_json_value *values)
{
    const struct mark *mark = step->marks, *closed = mark + step->mark_count;
    uint32_t from = (uint32_t)(at - reading.text);

    for (; mark < closed; mark++) {
        struct weir_json_value *value = &values[mark->slot];
        *value = mark->value;
        value->value.text.data = at + mark->text_place;
        value->begin = mark->value.begin + from;
        value->end = mark->value.end + from;
    }
    for (uint32_t i = 0; i < step->closed_count; i++)
        values[closed[i].slot].end = closed[i].value.end + from;
}

static inline __attribute__((always_inline)) bool read_steps(struct step **first, struct weir_slice text,
                                                             struct weir_json_value *values, char *scratch)
{
    struct reading reading = {text.data, text.data + text.length};
    const char *at = text.data;
    uint32_t has_high = 0;

    for (struct step *step; (step = *first); first = &step->next) {
        if (!stands_here(reading, step, at) && !(step = choose_other(first, reading, at)))
            return false;
        if (step->has_marks)
            set_marks(step, reading, at, values);
        at += step->length;
        if (__builtin_expect(step->ending == STRING, 1))
            at = read_string(reading, at, &has_high, &scratch, &values[step->slot]);
        else if (step->ending == OTHER_SCALAR)
            at = read_other(reading, at, &values[step->slot]);
        else
            return !has_high || weir_utf8_is_valid(text.data, text.length);
        if (!at)
            return false;
    }
    return false;
}

#endif
