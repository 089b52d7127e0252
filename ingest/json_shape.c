#include "ingest/json_shape.h"

#include <assert.h>
#include <stdlib.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "common/hash.h"
#include "ingest/json_index.h"
#include "ingest/json_number.h"
#include "ingest/json_text.h"

enum {
    BLOCK = 16,
    STEPS_MAX = 2048,
    MARKS_MAX = 1024,
    BYTES_MAX = 65536, /* of literals, each with a block to spare */
    OTHERS_MAX = 64,   /* steps that begin alike: looked through one by one */
    STARTS_MAX = 2,    /* a whole event; the data of one in binary mode */
    TRUST_MAX = 64,    /* misses that hits before them make up for */
    TRUST_NEW = 16,
    REST = 1024,             /* texts for which nothing is tried after too many misses */
    FIELDS_MAX = 256,        /* a power of two */
    VALUES_MAX = 3,          /* of a field whose values are parts of literals */
    SAMPLES_MIN = 32,        /* of a field, before they are */
    CONSTANT_BYTES_MAX = 64, /* of such a value */
    FOLDED_BYTES_MAX = 512,  /* of all of them in one shape */
    SAMPLES_YOUNG = 512,     /* texts that are looked at, each eighth of the first ones; then one in so many */
    EACH_YOUNG = 8,
    EACH_OLD = 1024,
};

/* Within a literal, what somebody asked for: the bracket of an object or array, or a scalar. */
struct mark {
    uint16_t place;
    uint16_t slot;
    uint16_t length;                  /* of a scalar */
    uint16_t text_place, text_length; /* of a string or number */
    uint8_t kind;                     /* enum weir_json_note_kind */
    uint8_t value;                    /* enum weir_value_kind, of a scalar */
};

/* Scalars behind the same literal, and whether they are always one of a few. What is found out here only decides how
 * texts are compared: a hash is enough. */
struct field {
    uint64_t literal; /* its hash; 0: none */
    uint64_t values[VALUES_MAX];
    uint16_t samples;
    uint8_t distinct;
    bool is_constant;
    bool is_variable; /* for good */
};

enum ending { STRING, OTHER_SCALAR, TEXT };

/* A literal, and what it ends at: the inside of a string, another scalar, or the end of the text. */
struct step {
    const char *literal; /* filled up to whole blocks */
    uint16_t length;
    uint16_t head; /* a bit for each byte of its first block */
    uint16_t slot; /* of the scalar */
    uint8_t mark_count;
    uint8_t ending; /* enum ending */
    const struct mark *marks;
    struct step *next;  /* what may come after the scalar */
    struct step *other; /* what may stand here instead */
};

struct start {
    const struct weir_json_node *node;
    uint32_t depth;
    struct step *first;
};

struct weir_json_shapes {
    struct start starts[STARTS_MAX];
    uint32_t trust;
    uint32_t rest;
    uint32_t samples, until_sample;
    struct field fields[FIELDS_MAX];
    uint32_t step_count, mark_count, byte_count;
    struct step steps[STEPS_MAX];
    struct mark marks[MARKS_MAX];
    char bytes[BYTES_MAX];
};

static_assert((int)WEIR_JSON_SHAPE_BYTES_MAX + (int)FOLDED_BYTES_MAX + (int)WEIR_JSON_NOTES_MAX * (int)BLOCK
                      <= (int)BYTES_MAX
                  && (int)WEIR_JSON_NOTES_MAX <= (int)MARKS_MAX && (int)WEIR_JSON_NOTES_MAX < (int)STEPS_MAX,
              "one shape always has room");

struct weir_json_shapes *weir_json_shapes_new(void)
{
    struct weir_json_shapes *shapes = weir_new(sizeof *shapes);
    shapes->trust = TRUST_NEW;
    shapes->until_sample = EACH_YOUNG;
    return shapes;
}

struct weir_json_shapes *weir_json_shapes_free(struct weir_json_shapes *shapes)
{
    free(shapes);
    return NULL;
}

/* 1. blocks: sixteen bytes at a time, a bit for each */

static inline uint32_t differences(const char *a, const char *b)
{
#ifdef __SSE2__
    __m128i ours = _mm_loadu_si128((const __m128i *)(const void *)a);
    __m128i theirs = _mm_loadu_si128((const __m128i *)(const void *)b);
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(ours, theirs)) ^ 0xffff;
#else
    uint32_t bits = 0;
    for (int i = 0; i < BLOCK; i++)
        bits |= (uint32_t)(a[i] != b[i]) << i;
    return bits;
#endif
}

static inline bool is_special(char c)
{
    return c == '"' || c == '\\' || (unsigned char)c < 0x20;
}

/* Where a string may end or hold what it may not. *has_high: not 0 if a byte is above 0x7f. */
static inline uint32_t specials(const char *at, uint32_t *has_high)
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
    for (int i = 0; i < BLOCK; i++) {
        *has_high |= (unsigned char)at[i] & 0x80;
        bits |= (uint32_t)is_special(at[i]) << i;
    }
    return bits;
#endif
}

/* Which bytes are digits. */
static inline uint32_t digits(const char *at)
{
#ifdef __SSE2__
    __m128i block = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(const void *)at), _mm_set1_epi8('0'));
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(9)), block));
#else
    uint32_t bits = 0;
    for (int i = 0; i < BLOCK; i++)
        bits |= (uint32_t)weir_json_is_digit(at[i]) << i;
    return bits;
#endif
}

/* 2. reading */

struct reading {
    const char *text;
    const char *end;
    const char *limit; /* up to here a block may be read; NULL: nowhere */
    char *scratch;     /* free from here */
};

/* The first special byte from `at` on, or the end. *has_high becomes true if it passes a byte above 0x7f, and may
 * become so for one behind it. */
static inline const char *find_special(const struct reading *reading, const char *at, uint32_t *has_high)
{
    for (; __builtin_expect(at <= reading->limit, 1); at += BLOCK) {
        uint32_t found = specials(at, has_high);
        if (found)
            return at + __builtin_ctz(found);
    }
    for (; at < reading->end && !is_special(*at); at++)
        *has_high |= (unsigned char)*at & 0x80;
    return at;
}

/* A string with a backslash, the first of which is at *at; *at moves to the closing quotation mark. */
static __attribute__((noinline)) bool read_escaped(struct reading *reading, const char *begin, const char **at,
                                                   uint32_t *has_high, struct weir_slice *ret_text)
{
    const char *end = *at, *place;

    while (end < reading->end && *end == '\\')
        end = reading->end - end > 2 ? find_special(reading, end + 2, has_high) : reading->end;
    if (end == reading->end || *end != '"'
        || weir_unescape(weir_slice_of(begin, (size_t)(end - begin)), *at, reading->scratch, ret_text, &place)
               != WEIR_UNESCAPED)
        return false;
    reading->scratch += ret_text->length;
    *at = end;
    return true;
}

/* From behind the opening quotation mark to the closing one, which the next literal begins with: no other is accepted
 * there. */
static inline const char *read_string(struct reading *reading, const char *at, uint32_t *has_high,
                                      struct weir_json_value *value)
{
    const char *end = find_special(reading, at, has_high);

    value->value.text = weir_slice_of(at, (size_t)(end - at));
    value->value.kind = WEIR_VALUE_STRING;
    if (__builtin_expect(end < reading->end && *end == '\\', 0)) {
        uint32_t more = 0;
        if (!read_escaped(reading, at, &end, &more, &value->value.text))
            return NULL;
        *has_high |= more;
    }
    value->begin = (uint32_t)(at - 1 - reading->text);
    value->end = (uint32_t)(end + 1 - reading->text);
    return end;
}

/* Behind the number that begins at `at`; NULL: none does. Short ones, without an exponent, by their digits' bits. */
static inline const char *number_end(const struct reading *reading, const char *at)
{
    if (__builtin_expect(at <= reading->limit, 1)) {
        uint32_t others = ~digits(at), run = (uint32_t)__builtin_ctz(others); /* upper bits are set */
        if (run > 0 && run < BLOCK - 1 && (*at != '0' || run == 1)) {
            uint32_t fraction = at[run] == '.' ? (uint32_t)__builtin_ctz(others >> (run + 1)) : 0;
            uint32_t length = fraction > 0 ? run + 1 + fraction : run;
            if (length < BLOCK && at[length] != '.' && (at[length] | 0x20) != 'e')
                return at + length;
        }
    }
    return weir_json_number_end(at);
}

/* The end of the word, or NULL. */
static inline const char *read_word(const struct reading *reading, const char *at, const char *word, size_t length,
                                    enum weir_value_kind kind, struct weir_json_value *value)
{
    value->value = (struct weir_value){{NULL, 0}, kind};
    return (size_t)(reading->end - at) >= length && memcmp(at, word, length) == 0 ? at + length : NULL;
}

/* Its end, or NULL. What follows is the next literal's to compare. The text ends with a bracket, so a number ends
 * before. */
static inline const char *read_other(const struct reading *reading, const char *at, struct weir_json_value *value)
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
    value->begin = (uint32_t)(at - reading->text);
    value->end = end ? (uint32_t)(end - reading->text) : 0;
    return end;
}

static inline bool begins_other(char c)
{
    return weir_json_is_digit(c) || c == '-' || c == 't' || c == 'f' || c == 'n';
}

/* At least a block, which the text has room for; the last block may overlap the one before. */
static inline bool is_same_text(const char *at, const char *literal, size_t length)
{
    size_t i = 0;

    for (; i + 2 * BLOCK < length; i += 2 * BLOCK)
        if (differences(at + i, literal + i) | differences(at + i + BLOCK, literal + i + BLOCK))
            return false;
    if (i + BLOCK < length && differences(at + i, literal + i))
        return false;
    return !differences(at + length - BLOCK, literal + length - BLOCK);
}

/* Whether the step's literal stands at `at`. */
static inline bool has_literal(const struct reading *reading, const struct step *step, const char *at)
{
    size_t length = step->length;

    if (length < BLOCK && __builtin_expect(at <= reading->limit, 1))
        return !(differences(at, step->literal) & step->head);
    if (length > (size_t)(reading->end - at))
        return false;
    return length >= BLOCK ? is_same_text(at, step->literal, length) : memcmp(at, step->literal, length) == 0;
}

/* Whether the step's literal stands at `at`, and behind it what it ends at. */
static inline bool stands_here(const struct reading *reading, const struct step *step, const char *at)
{
    return has_literal(reading, step, at)
           && (step->ending == STRING
               || (step->ending == TEXT ? (size_t)(reading->end - at) == step->length
                                        : begins_other(at[step->length])));
}

/* Every text that has the longer one has the shorter one too. */
static bool begins_with(const struct step *longer, const struct step *shorter)
{
    return longer->length >= shorter->length && memcmp(longer->literal, shorter->literal, shorter->length) == 0;
}

/* Of the others that may stand here the one that does, or NULL. It moves up by one, but never before a longer one that
 * begins with it: so the first that stands here is the longest that does. */
static __attribute__((noinline)) struct step *choose_other(struct step **first, const struct reading *reading,
                                                           const char *at)
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

static inline void set_marks(const struct step *step, const struct reading *reading, const char *at,
                             struct weir_json_value *values)
{
    uint32_t from = (uint32_t)(at - reading->text);

    for (const struct mark *mark = step->marks, *end = mark + step->mark_count; mark < end; mark++) {
        struct weir_json_value *value = &values[mark->slot];
        if (mark->kind == WEIR_JSON_CLOSED) {
            value->end = from + mark->place + 1;
            continue;
        }
        value->value.text = (struct weir_slice){at + mark->text_place, mark->text_length};
        value->value.kind = (enum weir_value_kind)mark->value;
        value->begin = from + mark->place;
        value->end = value->begin + mark->length;
    }
}

static inline bool read_steps(struct step **first, struct reading *reading, struct weir_json_value *values)
{
    const char *at = reading->text;
    uint32_t has_high = 0;

    for (struct step *step; (step = *first); first = &step->next) {
        if (!stands_here(reading, step, at) && !(step = choose_other(first, reading, at)))
            return false;
        if (step->mark_count > 0)
            set_marks(step, reading, at, values);
        at += step->length;
        if (__builtin_expect(step->ending == STRING, 1))
            at = read_string(reading, at, &has_high, &values[step->slot]);
        else if (step->ending == OTHER_SCALAR)
            at = read_other(reading, at, &values[step->slot]);
        else
            return !has_high || weir_utf8_is_valid(reading->text, (size_t)(reading->end - reading->text));
        if (!at)
            return false;
    }
    return false;
}

static struct start *find_start(struct weir_json_shapes *shapes, const struct weir_json_node *node, uint32_t depth)
{
    for (int i = 0; i < STARTS_MAX; i++)
        if (shapes->starts[i].node == node && shapes->starts[i].depth == depth)
            return &shapes->starts[i];
    return NULL;
}

bool weir_json_shapes_read(struct weir_json_shapes *shapes, struct weir_slice text, const struct weir_json_node *node,
                           uint32_t depth, struct weir_json_value *values, char *scratch, bool *ret_is_wanted)
{
    struct start *start = find_start(shapes, node, depth);
    struct reading reading = {text.data, text.data + text.length, NULL, scratch};

    *ret_is_wanted = false;
    if (text.length == 0 || (text.data[text.length - 1] != '}' && text.data[text.length - 1] != ']'))
        return false;
    if (text.length >= BLOCK)
        reading.limit = reading.end - BLOCK;
    if (shapes->rest > 0) {
        shapes->rest--;
        return false;
    }
    if (--shapes->until_sample == 0) { /* the walk tells which scalars it has, and what stands before each */
        shapes->samples += shapes->samples < SAMPLES_YOUNG;
        shapes->until_sample = shapes->samples < SAMPLES_YOUNG ? EACH_YOUNG : EACH_OLD;
        *ret_is_wanted = true;
        return false;
    }
    if (start && read_steps(&start->first, &reading, values)) {
        shapes->trust += shapes->trust < TRUST_MAX;
        return true;
    }
    *ret_is_wanted = true;
    if (shapes->trust-- == 0) {
        shapes->trust = TRUST_NEW;
        shapes->rest = REST;
    }
    return false;
}

/* 3. learning */

static void forget_all(struct weir_json_shapes *shapes)
{
    memset(shapes->starts, 0, sizeof shapes->starts);
    shapes->step_count = shapes->mark_count = shapes->byte_count = 0;
}

static struct step *find_step(struct step *first, struct weir_slice literal, enum ending ending, uint32_t *ret_count)
{
    for (*ret_count = 0; first; first = first->other, ++*ret_count)
        if (first->ending == ending && weir_slice_equal(weir_slice_of(first->literal, first->length), literal))
            break;
    return first;
}

static struct step *add_step(struct weir_json_shapes *shapes, struct weir_slice literal, enum ending ending,
                             uint32_t slot)
{
    struct step *step = &shapes->steps[shapes->step_count++];
    char *copy = shapes->bytes + shapes->byte_count;

    memcpy(copy, literal.data, literal.length);
    shapes->byte_count += literal.length + BLOCK;
    *step = (struct step){.literal = copy,
                          .length = (uint16_t)literal.length,
                          .head = literal.length < BLOCK ? (uint16_t)((1u << literal.length) - 1) : 0xffff,
                          .slot = (uint16_t)slot,
                          .ending = (uint8_t)ending,
                          .marks = shapes->marks + shapes->mark_count};
    return step;
}

static enum weir_value_kind kind_of(char first)
{
    switch (first) {
    case '"':
        return WEIR_VALUE_STRING;
    case 't':
        return WEIR_VALUE_TRUE;
    case 'f':
        return WEIR_VALUE_FALSE;
    case 'n':
        return WEIR_VALUE_NULL;
    default:
        return WEIR_VALUE_NUMBER;
    }
}

static void mark_scalar(struct mark *mark, char first, uint32_t length)
{
    mark->value = (uint8_t)kind_of(first);
    mark->length = (uint16_t)length;
    mark->text_place = (uint16_t)(mark->place + (mark->value == WEIR_VALUE_STRING));
    if (mark->value == WEIR_VALUE_STRING)
        mark->text_length = (uint16_t)(length - 2);
    else if (mark->value == WEIR_VALUE_NUMBER)
        mark->text_length = (uint16_t)length;
}

/* The brackets and scalars of the literal that begins at `from` that somebody asked for. */
static void add_marks(struct weir_json_shapes *shapes, struct step *step, const struct weir_json_note *notes,
                      uint32_t count, struct weir_slice text, uint32_t from)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct weir_json_note *note = &notes[i];
        if (note->slot == 0)
            continue;
        struct mark *mark = &shapes->marks[shapes->mark_count + step->mark_count++];
        *mark = (struct mark){.place = (uint16_t)(note->place - from),
                              .slot = (uint16_t)note->slot,
                              .kind = (uint8_t)note->kind,
                              .value = note->kind == WEIR_JSON_OBJECT ? WEIR_VALUE_OBJECT : WEIR_VALUE_ARRAY};
        if (note->kind == WEIR_JSON_SCALAR)
            mark_scalar(mark, text.data[note->place], note->end - note->place);
    }
    shapes->mark_count += step->mark_count;
}

static bool has_room(const struct weir_json_shapes *shapes, uint32_t notes, uint32_t bytes)
{
    return shapes->step_count + notes < STEPS_MAX && shapes->mark_count + notes <= MARKS_MAX
           && shapes->byte_count + bytes + FOLDED_BYTES_MAX + (notes + 1) * BLOCK <= BYTES_MAX;
}

/* NULL: there is no room for another one. */
static struct field *find_field(struct weir_json_shapes *shapes, struct weir_slice literal)
{
    uint64_t hash = weir_hash64(literal.data, literal.length, 0) | 1;

    for (uint32_t i = 0; i < FIELDS_MAX; i++) {
        struct field *field = &shapes->fields[(hash / 2 + i) % FIELDS_MAX];
        if (field->literal == 0)
            field->literal = hash;
        if (field->literal == hash)
            return field;
    }
    return NULL;
}

/* true: texts were compared with its values, and there are too many of them now. */
static bool add_value(struct field *field, struct weir_slice scalar)
{
    uint64_t hash = weir_hash64(scalar.data, scalar.length, 0);
    uint32_t i = 0;

    if (field->is_variable)
        return false;
    while (i < field->distinct && field->values[i] != hash)
        i++;
    field->is_variable = i == VALUES_MAX || scalar.length > CONSTANT_BYTES_MAX;
    if (field->is_variable)
        return field->is_constant;
    if (i == field->distinct)
        field->values[field->distinct++] = hash;
    field->samples += field->samples < SAMPLES_MIN;
    field->is_constant = field->samples == SAMPLES_MIN;
    return false;
}

static struct weir_slice scalar_of(struct weir_slice text, const struct weir_json_note *note)
{
    return weir_slice_of(text.data + note->place, note->end - note->place);
}

/* Finds out which scalars are to be parts of literals. A field whose values were, and are no longer, makes an end of
 * all shapes: where a text is looked for, and where it is put, must be the same. */
static void look_at_fields(struct weir_json_shapes *shapes, struct weir_slice text, const struct weir_json_notes *notes)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < notes->count; i++) {
        const struct weir_json_note *note = &notes->notes[i];
        if (note->kind != WEIR_JSON_SCALAR)
            continue;
        struct field *field = find_field(shapes, weir_slice_of(text.data + at, note->place - at));
        if (field && add_value(field, scalar_of(text, note)))
            forget_all(shapes);
        at = note->end;
    }
}

/* Whether the scalar, behind this literal, is compared like one. Its escapes would have to be read. */
static bool is_folded(struct weir_json_shapes *shapes, struct weir_slice literal, struct weir_slice scalar,
                      uint32_t *folded)
{
    const struct field *field = find_field(shapes, literal);

    if (!field || !field->is_constant || field->is_variable || scalar.length > CONSTANT_BYTES_MAX
        || *folded + scalar.length > FOLDED_BYTES_MAX || memchr(scalar.data, '\\', scalar.length))
        return false;
    *folded += scalar.length;
    return true;
}

/* Before the others, but behind those that begin with it. */
static void put_step(struct step **first, struct step *step)
{
    struct step **place = first;

    for (struct step **other = first; *other; other = &(*other)->other)
        if (begins_with(*other, step))
            place = &(*other)->other;
    step->other = *place;
    *place = step;
}

/* Puts the shape's steps into the tree. false: too many begin alike. */
static bool insert(struct weir_json_shapes *shapes, struct step **first, struct weir_slice text,
                   const struct weir_json_notes *notes)
{
    uint32_t at = 0, scalar = 0, marked = 0, folded = 0; /* since the last step; behind the last scalar */

    for (uint32_t i = 0; i <= notes->count; i++) {
        const struct weir_json_note *note = i < notes->count ? &notes->notes[i] : NULL;
        if (note && note->kind != WEIR_JSON_SCALAR)
            continue;
        struct weir_slice before = weir_slice_of(text.data + scalar, (note ? note->place : text.length) - scalar);
        scalar = note ? note->end : text.length;
        if (note && is_folded(shapes, before, scalar_of(text, note), &folded))
            continue;
        enum ending ending = !note ? TEXT : text.data[note->place] == '"' ? STRING : OTHER_SCALAR;
        uint32_t until = note ? note->place + (ending == STRING) : text.length, others;
        struct weir_slice literal = weir_slice_of(text.data + at, until - at);
        struct step *step = find_step(*first, literal, ending, &others);
        if (!step) {
            if (others == OTHERS_MAX)
                return false;
            step = add_step(shapes, literal, ending, note ? note->slot : 0);
            add_marks(shapes, step, notes->notes + marked, i - marked, text, at);
            put_step(first, step);
        }
        first = &step->next;
        marked = i + 1;
        at = note ? note->end - (ending == STRING) : until;
    }
    return true;
}

void weir_json_shapes_learn(struct weir_json_shapes *shapes, struct weir_slice text, const struct weir_json_node *node,
                            uint32_t depth, const struct weir_json_notes *notes)
{
    uint32_t bytes = text.length;

    if (notes->count > WEIR_JSON_NOTES_MAX)
        return;
    for (uint32_t i = 0; i < notes->count; i++)
        if (notes->notes[i].kind == WEIR_JSON_SCALAR)
            bytes -= notes->notes[i].end - notes->notes[i].place - 2; /* a string's quotation marks stay */
    if (bytes > WEIR_JSON_SHAPE_BYTES_MAX)
        return;
    look_at_fields(shapes, text, notes);
    if (!has_room(shapes, notes->count, bytes))
        forget_all(shapes);
    struct start *start = find_start(shapes, node, depth);
    if (!start && (start = find_start(shapes, NULL, 0)))
        *start = (struct start){node, depth, NULL};
    if (start && !insert(shapes, &start->first, text, notes))
        forget_all(shapes);
}
