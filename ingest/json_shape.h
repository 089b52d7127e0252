/* Texts that differ from an earlier one in nothing but their scalars: read by comparison, without finding tokens.
 *
 * Events of one producer mostly have the same members in the same order, written in the same way. What stands between
 * the scalars of a text that the walk (json_walk.h) has accepted is its shape: literals, which hold all brackets,
 * commas and keys. A text that has the same literals, and between them scalars of JSON, is accepted by the walk as
 * well, with the same paths at the same scalars: keys are the same, so none stands twice, and nothing is nested deeper.
 * So a text of a known shape needs no look at its keys, and the others lose a few comparisons and go the long way,
 * which also says what is wrong with them: nothing is ever refused here.
 *
 * Scalars that are always one of a few (a version, a type, a region) are compared as parts of the literals around them.
 * Which ones are is found out by the way: now and then a text of a known shape is not read here, and its walk is
 * learned from. A text with another value there is read by the shape that leaves the scalar open.
 *
 * Shapes are kept as a tree, by what they begin with, and bounded: when there is no room they are forgotten and learned
 * anew. While most texts have new shapes, neither is tried for some time. One thread's, as the walker that owns it.
 */
#ifndef WEIR_INGEST_JSON_SHAPE_H
#define WEIR_INGEST_JSON_SHAPE_H

#include "ingest/json_walk.h"

enum {
    WEIR_JSON_NOTES_MAX = 256,        /* scalars and brackets of a text whose shape is kept */
    WEIR_JSON_SHAPE_BYTES_MAX = 2048, /* of all its literals */
};

struct weir_json_shapes;

struct weir_json_shapes *weir_json_shapes_new(void);
struct weir_json_shapes *weir_json_shapes_free(struct weir_json_shapes *shapes); /* NULL in, NULL out */
/* Whether texts are read by AVX2, as they are where the processor has it, or without: for tests of both. false: it has
 * not. */
bool weir_json_shapes_widen(struct weir_json_shapes *shapes, bool is_wide);

enum weir_json_shape_result {
    /* The whole of what weir_json_walk would do and return WEIR_OK for (an object or array without white space behind
     * it); unescaped strings are in scratch (room for text.length bytes). */
    WEIR_JSON_SHAPE_READ,
    /* Values may have been set of paths that the text has, if it is accepted. */
    WEIR_JSON_SHAPE_UNKNOWN,
    WEIR_JSON_SHAPE_WANTED, /* the same, and the notes of its walk should be learned */
};
enum weir_json_shape_result weir_json_shapes_read(struct weir_json_shapes *shapes, struct weir_slice text,
                                                  const struct weir_json_node *node, uint32_t depth,
                                                  struct weir_json_value *values, char *scratch);

/* What a walk met, in the text's order. */
enum weir_json_note_kind { WEIR_JSON_SCALAR, WEIR_JSON_OBJECT, WEIR_JSON_ARRAY, WEIR_JSON_CLOSED };
struct weir_json_note {
    uint32_t place;
    uint32_t end;  /* of a scalar */
    uint32_t slot; /* where it goes; 0: nobody asked for it */
    enum weir_json_note_kind kind;
};
struct weir_json_notes {
    uint32_t count; /* beyond WEIR_JSON_NOTES_MAX: not all were noted */
    struct weir_json_note notes[WEIR_JSON_NOTES_MAX];
};
static inline void weir_json_note(struct weir_json_notes *notes, struct weir_json_note note)
{
    if (notes->count < WEIR_JSON_NOTES_MAX)
        notes->notes[notes->count] = note;
    notes->count++;
}

/* Keeps the shape of a text that the walk has accepted, with these notes, and learns of its scalars. */
void weir_json_shapes_learn(struct weir_json_shapes *shapes, struct weir_slice text, const struct weir_json_node *node,
                            uint32_t depth, const struct weir_json_notes *notes);

#endif
