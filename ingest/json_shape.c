#include "ingest/json_shape.h"

#include <assert.h>
#include <stdlib.h>

#include "common/hash.h"
#include "ingest/json_shape_read.h"

enum {
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

struct start {
    const struct weir_json_node *node;
    uint32_t depth;
    struct step *first;
};

struct weir_json_shapes {
    bool (*read)(struct step **first, struct weir_slice text, struct weir_json_value *values, char *scratch);
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

#define EIGHT(TEXT) TEXT TEXT TEXT TEXT TEXT TEXT TEXT TEXT
_Alignas(BLOCK) const char weir_json_quotes[BLOCK] = EIGHT("\"\"\"\"");
_Alignas(BLOCK) const char weir_json_backslashes[BLOCK] = EIGHT("\\\\\\\\");

struct weir_json_shapes *weir_json_shapes_new(void)
{
    struct weir_json_shapes *shapes = weir_new(sizeof *shapes);
    shapes->trust = TRUST_NEW;
    shapes->until_sample = EACH_YOUNG;
    (void)weir_json_shapes_widen(shapes, true);
    return shapes;
}

struct weir_json_shapes *weir_json_shapes_free(struct weir_json_shapes *shapes)
{
    free(shapes);
    return NULL;
}

/* 1. reading */

static bool read_narrow(struct step **first, struct weir_slice text, struct weir_json_value *values, char *scratch)
{
    return read_steps(first, text, values, scratch);
}

bool weir_json_shapes_widen(struct weir_json_shapes *shapes, bool is_wide)
{
#ifdef __x86_64__
    if (is_wide && __builtin_cpu_supports("avx2")) {
        shapes->read = weir_json_steps_read_wide;
        return true;
    }
#endif
    shapes->read = read_narrow;
    return !is_wide;
}

static struct start *find_start(struct weir_json_shapes *shapes, const struct weir_json_node *node, uint32_t depth)
{
    for (int i = 0; i < STARTS_MAX; i++)
        if (shapes->starts[i].node == node && shapes->starts[i].depth == depth)
            return &shapes->starts[i];
    return NULL;
}

enum weir_json_shape_result weir_json_shapes_read(struct weir_json_shapes *shapes, struct weir_slice text,
                                                  const struct weir_json_node *node, uint32_t depth,
                                                  struct weir_json_value *values, char *scratch)
{
    if (text.length == 0 || (text.data[text.length - 1] != '}' && text.data[text.length - 1] != ']'))
        return WEIR_JSON_SHAPE_UNKNOWN;
    if (shapes->rest > 0) {
        shapes->rest--;
        return WEIR_JSON_SHAPE_UNKNOWN;
    }
    if (--shapes->until_sample == 0) { /* the walk tells which scalars it has, and what stands before each */
        shapes->samples += shapes->samples < SAMPLES_YOUNG;
        shapes->until_sample = shapes->samples < SAMPLES_YOUNG ? EACH_YOUNG : EACH_OLD;
        return WEIR_JSON_SHAPE_WANTED;
    }
    struct start *start = find_start(shapes, node, depth);
    if (start && shapes->read(&start->first, text, values, scratch)) {
        shapes->trust += shapes->trust < TRUST_MAX;
        return WEIR_JSON_SHAPE_READ;
    }
    if (shapes->trust-- == 0) {
        shapes->trust = TRUST_NEW;
        shapes->rest = REST;
    }
    return WEIR_JSON_SHAPE_WANTED;
}

/* 2. learning */

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
                          .head = literal.length < BLOCK ? (UINT32_C(1) << literal.length) - 1 : UINT32_MAX,
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

static struct mark mark_of(const struct weir_json_note *note, struct weir_slice text, uint32_t from)
{
    struct mark mark = {.slot = (uint16_t)note->slot};
    struct weir_json_value *value = &mark.value;

    value->begin = value->end = note->place - from;
    if (note->kind == WEIR_JSON_CLOSED) {
        value->end++;
        return mark;
    }
    if (note->kind != WEIR_JSON_SCALAR) {
        value->value.kind = note->kind == WEIR_JSON_OBJECT ? WEIR_VALUE_OBJECT : WEIR_VALUE_ARRAY;
        return mark;
    }
    bool is_string = text.data[note->place] == '"';
    value->end = note->end - from;
    value->value.kind = kind_of(text.data[note->place]);
    if (is_string || value->value.kind == WEIR_VALUE_NUMBER)
        value->value.text.length = value->end - value->begin - (is_string ? 2 : 0);
    mark.text_place = (uint16_t)(value->begin + is_string);
    return mark;
}

/* The brackets and scalars of the literal that begins at `from` that somebody asked for; what closes comes last. */
static void add_marks(struct weir_json_shapes *shapes, struct step *step, const struct weir_json_note *notes,
                      uint32_t count, struct weir_slice text, uint32_t from)
{
    for (int is_closed = 0; is_closed <= 1; is_closed++)
        for (uint32_t i = 0; i < count; i++) {
            if (notes[i].slot == 0 || (notes[i].kind == WEIR_JSON_CLOSED) != is_closed)
                continue;
            shapes->marks[shapes->mark_count++] = mark_of(&notes[i], text, from);
            *(is_closed ? &step->closed_count : &step->mark_count) += 1;
            step->has_marks = true;
        }
}

static bool has_room_for(const struct weir_json_shapes *shapes, uint32_t notes, uint32_t bytes)
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
    if (!has_room_for(shapes, notes->count, bytes))
        forget_all(shapes);
    struct start *start = find_start(shapes, node, depth);
    if (!start && (start = find_start(shapes, NULL, 0)))
        *start = (struct start){node, depth, NULL};
    if (start && !insert(shapes, &start->first, text, notes))
        forget_all(shapes);
}
