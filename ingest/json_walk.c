#include "ingest/json_walk.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/hash.h"
#include "ingest/json_index.h"
#include "ingest/json_keys.h"
#include "ingest/json_number.h"
#include "ingest/json_shape.h"
#include "ingest/json_text.h"

enum {
    FEW_KEYS = 32,     /* up to here a repeated key is looked for at once, by comparing */
    KEY_BYTES_MIN = 5, /* `"":0,`: how many keys a text can hold */
    PADDING = 16,      /* behind the scratch */
};

struct weir_json_walker {
    size_t text_max;
    struct weir_json_index *index;
    struct weir_json_key *keys; /* of all open objects */
    uint32_t *table;            /* for finding repeated keys in large objects: index + 1 */
    uint64_t seed;
    char *scratch; /* unescaped strings */
    struct weir_json_shapes *shapes;
    struct weir_json_notes notes; /* of a text whose shape is learned */
};

/* An open object or array. */
struct frame {
    const struct weir_json_node *node; /* among whose children its keys are looked up */
    uint64_t seen;                     /* a bit for each key's hash: most objects are never searched */
    uint32_t first;                    /* of its keys */
    uint32_t slot;
    char closer;
};

struct walk {
    struct weir_json_walker *walker;
    struct weir_json_value *values;
    struct weir_rejection *reterr;
    const char *text;
    uint32_t length;
    const uint32_t *at; /* the first token */
    const uint32_t *end;
    const char *backslash; /* the first at or after the current string; the text's end when there is none */
    char *scratch;         /* free from here */
};

/* 1. lifecycle */
static size_t table_size(size_t keys)
{
    size_t size = 64;
    while (size < 2 * keys)
        size *= 2;
    return size;
}

struct weir_json_walker *weir_json_walker_new(size_t text_max)
{
    struct weir_json_walker *walker = weir_new(sizeof *walker);
    size_t keys = text_max / KEY_BYTES_MIN + 1;
    unsigned char secret[WEIR_HASH_SECRET_BYTES];

    walker->text_max = text_max;
    walker->index = weir_json_index_new(text_max + 1);
    walker->keys = weir_new_array(keys, sizeof *walker->keys);
    walker->table = weir_new_array(table_size(keys), sizeof *walker->table);
    walker->scratch = weir_new(2 * text_max + 2 * PADDING);
    walker->shapes = weir_json_shapes_new();
    weir_hash_make_secret(secret);
    memcpy(&walker->seed, secret, sizeof walker->seed);
    return walker;
}

struct weir_json_walker *weir_json_walker_free(struct weir_json_walker *walker)
{
    if (!walker)
        return NULL;
    weir_json_index_free(walker->index);
    free(walker->keys);
    free(walker->table);
    free(walker->scratch);
    weir_json_shapes_free(walker->shapes);
    free(walker);
    return NULL;
}

/* 2. rejecting */
static __attribute__((cold, noinline, format(printf, 4, 5))) bool
reject(const struct walk *walk, enum weir_reason reason, size_t place, const char *format, ...)
{
    struct weir_rejection *why = walk->reterr;
    va_list arguments;
    int used = snprintf(why->detail, sizeof why->detail, "byte %zu: ", place + 1);

    why->reason = reason;
    why->field[0] = '\0';
    va_start(arguments, format);
    (void)vsnprintf(why->detail + used, sizeof why->detail - (size_t)used, format, arguments);
    va_end(arguments);
    return false;
}

static __attribute__((cold, noinline)) bool unexpected(const struct walk *walk, size_t place, const char *expected)
{
    char found[WEIR_SHOWN_MAX];

    weir_show_byte(walk->text, walk->length, place, found);
    return reject(walk, WEIR_REASON_MALFORMED_JSON, place, "expected %s, found %s", expected, found);
}

static __attribute__((cold, noinline)) bool repeated(const struct walk *walk, const struct weir_json_key *key,
                                                     size_t place)
{
    char shown[WEIR_SHOWN_MAX];

    weir_show_text(weir_slice_of(key->text, key->length), shown);
    return reject(walk, WEIR_REASON_DUPLICATE_KEY, place, "the key %s stands twice in one object", shown);
}

/* 3. scalars */
static const bool ends_scalar[256] = {
    [' '] = true, ['\t'] = true, ['\n'] = true, ['\r'] = true, [','] = true,
    [':'] = true, ['{'] = true,  ['}'] = true,  ['['] = true,  [']'] = true,
};

/* One to eight digits between `begin` and the next token, without a leading zero: most numbers, told without a branch
 * for each digit. Eight bytes may be read. */
static inline bool is_short_integer(const char *begin, uint32_t length)
{
    uint64_t bytes;
    uint64_t fill; /* '0' in place of what is behind */

    if (length > 8 || (*begin == '0' && length > 1))
        return false;
    memcpy(&bytes, begin, 8);
    fill = length == 8 ? 0 : ~UINT64_C(0) << (8 * length);
    bytes = (bytes & ~fill) | (UINT64_C(0x3030303030303030) & fill);
    return (bytes & UINT64_C(0xf0f0f0f0f0f0f0f0)) == UINT64_C(0x3030303030303030)
           && ((bytes + UINT64_C(0x0606060606060606)) & UINT64_C(0xf0f0f0f0f0f0f0f0)) == UINT64_C(0x3030303030303030);
}

static inline bool take_number(struct walk *walk, uint32_t place, uint32_t next, struct weir_json_value *value)
{
    const char *begin = walk->text + place;

    if (__builtin_expect(walk->length - place >= 8 && is_short_integer(begin, next - place), 1)) {
        value->value = (struct weir_value){{begin, next - place}, WEIR_VALUE_NUMBER};
        value->begin = place;
        value->end = next;
        return true;
    }
    const char *end = weir_json_number_end(begin);

    if (__builtin_expect(!end || !ends_scalar[(unsigned char)*end], 0))
        return unexpected(walk, place, "a JSON number (as 0, -12.5 or 1e6)");
    value->value = (struct weir_value){{begin, (uint32_t)(end - begin)}, WEIR_VALUE_NUMBER};
    value->begin = place;
    value->end = (uint32_t)(end - walk->text);
    return true;
}

static inline bool take_word(struct walk *walk, uint32_t place, const char *word, uint32_t length,
                             enum weir_value_kind kind, struct weir_json_value *value)
{
    const char *begin = walk->text + place;

    if (walk->length - place <= length || memcmp(begin, word, length) != 0
        || !ends_scalar[(unsigned char)begin[length]])
        return unexpected(walk, place, "a JSON value");
    value->value = (struct weir_value){{NULL, 0}, kind};
    value->begin = place;
    value->end = place + length;
    return true;
}

static __attribute__((noinline)) bool unescape(struct walk *walk, struct weir_slice *text, uint32_t place)
{
    const char *end = text->data + text->length;
    const char *bad = NULL;
    enum weir_unescaped result = weir_unescape(*text, walk->backslash, walk->scratch, text, &bad);

    if (result != WEIR_UNESCAPED) {
        size_t at = bad ? (size_t)(bad - walk->text) : place;
        return result == WEIR_UNESCAPED_NUL
                   ? reject(walk, WEIR_REASON_BAD_ENCODING, at, "a string holds the character \\u0000; leave it out")
               : result == WEIR_UNESCAPED_HALF
                   ? reject(walk, WEIR_REASON_MALFORMED_JSON, at,
                            "half of a surrogate pair; write both halves or the character itself")
                   : reject(walk, WEIR_REASON_MALFORMED_JSON, at,
                            "not an escape sequence (those are \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\u with four hex "
                            "digits)");
    }
    walk->scratch += text->length;
    walk->backslash = weir_find_backslash(end, walk->text + walk->length);
    return true;
}

/* The string that opens at `place`; *ret_end is behind its closing quote. Between a closing quote and the next token
 * there can only be white space, so the end is found from behind. */
static inline bool take_string(struct walk *walk, uint32_t place, uint32_t next, struct weir_slice *ret_text,
                               uint32_t *ret_end)
{
    uint32_t end = next;

    while (walk->text[--end] != '"')
        ;
    *ret_text = (struct weir_slice){walk->text + place + 1, end - place - 1};
    *ret_end = end + 1;
    if (__builtin_expect(walk->backslash < walk->text + end, 0))
        return unescape(walk, ret_text, place);
    return true;
}

static inline __attribute__((always_inline)) bool take_scalar(struct walk *walk, uint32_t place, uint32_t next,
                                                              struct weir_json_value *value)
{
    switch (walk->text[place]) {
    case '"':
        value->value.kind = WEIR_VALUE_STRING;
        value->begin = place;
        return take_string(walk, place, next, &value->value.text, &value->end);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return take_number(walk, place, next, value);
    case 't':
        return take_word(walk, place, "true", 4, WEIR_VALUE_TRUE, value);
    case 'f':
        return take_word(walk, place, "false", 5, WEIR_VALUE_FALSE, value);
    case 'n':
        return take_word(walk, place, "null", 4, WEIR_VALUE_NULL, value);
    default:
        return unexpected(walk, place, "a JSON value");
    }
}

/* 4. keys */
static bool stands_among(const struct weir_json_key *keys, uint32_t count, const struct weir_json_key *key)
{
    for (uint32_t i = 0; i < count; i++)
        if (weir_json_key_equal(&keys[i], key))
            return true;
    return false;
}

/* A large object: through a table with a hash that the sender cannot know, so that no choice of keys makes it slow. */
static __attribute__((noinline)) bool check_keys(const struct walk *walk, const struct weir_json_key *keys,
                                                 uint32_t count, uint32_t place)
{
    uint32_t *table = walk->walker->table;
    size_t size = table_size(count);

    memset(table, 0, size * sizeof *table);
    for (uint32_t i = 0; i < count; i++) {
        size_t at = weir_hash64(keys[i].text, keys[i].length, walk->walker->seed) & (size - 1);
        for (; table[at]; at = (at + 1) & (size - 1))
            if (weir_json_key_equal(&keys[table[at] - 1], &keys[i]))
                return repeated(walk, &keys[i], place);
        table[at] = i + 1;
    }
    return true;
}

/* Reads the key at `place` and remembers it as its object's; *ret_node is where its value belongs. */
static inline bool take_key(struct walk *walk, struct frame *frame, struct weir_json_key *keys, uint32_t key_count,
                            uint32_t place, uint32_t next, const struct weir_json_node **ret_node)
{
    struct weir_json_key *key = &keys[key_count];
    const char *scratch = walk->scratch;
    struct weir_slice text;
    uint32_t end;

    if (!take_string(walk, place, next, &text, &end))
        return false;
    weir_json_key_set(key, text.data, text.length,
                      text.data == scratch ? text.data + text.length : walk->text + walk->length);
    uint64_t bit = UINT64_C(1) << (key->hash >> 58);
    if (frame->seen & bit && key_count - frame->first < FEW_KEYS
        && stands_among(keys + frame->first, key_count - frame->first, key))
        return repeated(walk, key, place);
    frame->seen |= bit;
    *ret_node = weir_json_node_find(frame->node, key);
    return true;
}

/* 5. the walk */

static const char *after_value(const struct frame *frame)
{
    return frame->closer == '}' ? "',' or '}' after a member" : "',' or ']' after an element";
}

/* notes is NULL where none are taken, which the compiler knows. */
static inline __attribute__((always_inline)) void note(struct weir_json_notes *notes, uint32_t place, uint32_t end,
                                                       uint32_t slot, enum weir_json_note_kind kind)
{
    if (notes)
        weir_json_note(notes, (struct weir_json_note){place, end, slot, kind});
}

/* Everything inside of the first bracket. The last token is known to be '}' or ']', so any other token has one behind
 * it: only after a closer must the end be looked for. */
static inline __attribute__((always_inline)) bool walk_nested(struct walk *walk, const struct weir_json_node *node,
                                                              uint32_t depth, struct weir_json_notes *notes)
{
    struct frame frames[WEIR_EVENT_DEPTH_MAX + 1];
    struct frame *frame = frames; /* frames[0] is none, and nothing closes it */
    const char *text = walk->text;
    const uint32_t *at = walk->at; /* the next token */
    struct weir_json_value *values = walk->values;
    struct weir_json_key *keys = walk->walker->keys;
    uint32_t key_count = 0;
    uint32_t place;

    *frame = (struct frame){&weir_json_nowhere, 0, 0, 0, '\0'};
value:
    place = *at++;
    if (text[place] == '{' || text[place] == '[') {
        bool is_object = text[place] == '{';
        if (frame == frames + depth)
            return reject(walk, WEIR_REASON_TOO_DEEP, place, "objects and arrays are nested more than %d levels deep",
                          WEIR_EVENT_DEPTH_MAX);
        *++frame =
            (struct frame){is_object ? node : &weir_json_nowhere, 0, key_count, node->slot, is_object ? '}' : ']'};
        values[node->slot].value = (struct weir_value){{NULL, 0}, is_object ? WEIR_VALUE_OBJECT : WEIR_VALUE_ARRAY};
        values[node->slot].begin = place;
        note(notes, place, 0, node->slot, is_object ? WEIR_JSON_OBJECT : WEIR_JSON_ARRAY);
        place = *at;
        if (text[place] == frame->closer)
            goto close;
        if (is_object)
            goto key;
        node = &weir_json_nowhere;
        goto value;
    }
    if (!take_scalar(walk, place, *at, &values[node->slot]))
        return false;
    note(notes, place, values[node->slot].end, node->slot, WEIR_JSON_SCALAR);
after:
    place = *at;
    if (text[place] == ',') {
        at++;
        if (frame->closer == '}')
            goto key;
        node = &weir_json_nowhere;
        goto value;
    }
    if (text[place] != frame->closer)
        return unexpected(walk, place, after_value(frame));
close:
    at++;
    if (key_count - frame->first > FEW_KEYS && !check_keys(walk, keys + frame->first, key_count - frame->first, place))
        return false;
    key_count = frame->first;
    values[frame->slot].end = place + 1;
    note(notes, place, 0, frame->slot, WEIR_JSON_CLOSED);
    if (--frame == frames)
        return at == walk->end || unexpected(walk, *at, "nothing after the value's end");
    if (at == walk->end)
        return unexpected(walk, walk->length, after_value(frame));
    goto after;
key:
    place = at[0];
    if (__builtin_expect(text[place] != '"', 0))
        return unexpected(walk, place, "a key in double quotes");
    if (!take_key(walk, frame, keys, key_count++, place, at[1], &node))
        return false;
    if (__builtin_expect(text[at[1]] != ':', 0))
        return unexpected(walk, at[1], "':' after a key");
    at += 2;
    goto value;
}

static __attribute__((noinline)) bool walk_plain(struct walk *walk, const struct weir_json_node *node, uint32_t depth)
{
    return walk_nested(walk, node, depth, NULL);
}

static __attribute__((cold, noinline)) bool walk_and_learn(struct walk *walk, const struct weir_json_node *node,
                                                           uint32_t depth)
{
    struct weir_json_walker *walker = walk->walker;

    walker->notes.count = 0;
    if (!walk_nested(walk, node, depth, &walker->notes))
        return false;
    weir_json_shapes_learn(walker->shapes, weir_slice_of(walk->text, walk->length), node, depth, &walker->notes);
    return true;
}

/* A text that is one scalar: the only case where a scalar is the last token, so it is read from a padded copy. */
static bool walk_scalar(struct walk *walk, const struct weir_json_node *node)
{
    uint32_t place = walk->at[0];
    bool is_alone = walk->at + 1 == walk->end;
    uint32_t next = is_alone ? walk->length : walk->at[1];

    memcpy(walk->scratch, walk->text, walk->length);
    walk->scratch[walk->length] = ' ';
    walk->text = walk->scratch;
    walk->length++;
    walk->scratch += walk->length + PADDING;
    walk->backslash = weir_find_backslash(walk->text, walk->text + walk->length);
    if (!take_scalar(walk, place, next, &walk->values[node->slot]))
        return false;
    return is_alone || unexpected(walk, next, "nothing after the value's end");
}

static bool reject_index(const struct walk *walk, enum weir_json_index_result result)
{
    switch (result) {
    case WEIR_JSON_INDEX_ENCODING:
        return reject(walk, WEIR_REASON_BAD_ENCODING, weir_find_bad_utf8(walk->text, walk->length), "not UTF-8");
    case WEIR_JSON_INDEX_UNCLOSED:
        return reject(walk, WEIR_REASON_MALFORMED_JSON, walk->length, "the text ends within a string");
    case WEIR_JSON_INDEX_CONTROL:
        return reject(walk, WEIR_REASON_MALFORMED_JSON, weir_find_control(walk->text, walk->length),
                      "a control character in a string; escape it (as \\n or \\u001f)");
    default:
        return reject(walk, WEIR_REASON_MALFORMED_JSON, walk->length, "there is nothing but white space");
    }
}

static __attribute__((noinline)) enum weir_status walk_tokens(struct walk *walk, const struct weir_json_node *node,
                                                              uint32_t depth, bool is_wanted)
{
    uint32_t count = 0;
    enum weir_json_index_result result =
        weir_json_index_find(walk->walker->index, walk->text, walk->length, &walk->at, &count);

    if (result != WEIR_JSON_INDEX_OK)
        return reject_index(walk, result), WEIR_REJECT;
    walk->end = walk->at + count;
    char first = walk->text[walk->at[0]];
    char last = walk->text[walk->at[count - 1]];
    if (first != '{' && first != '[')
        return walk_scalar(walk, node) ? WEIR_OK : WEIR_REJECT;
    if (last != '}' && last != ']')
        return reject(walk, WEIR_REASON_MALFORMED_JSON, walk->at[count - 1],
                      "the last token of the text does not close what the first one opens"),
               WEIR_REJECT;
    walk->backslash = weir_find_backslash(walk->text, walk->text + walk->length);
    bool is_accepted = is_wanted ? walk_and_learn(walk, node, depth) : walk_plain(walk, node, depth);
    return is_accepted ? WEIR_OK : WEIR_REJECT;
}

enum weir_status weir_json_walk(struct weir_json_walker *walker, struct weir_slice text,
                                const struct weir_json_node *node, uint32_t depth, struct weir_json_value *values,
                                struct weir_rejection *reterr)
{
    weir_check(text.length <= walker->text_max && depth <= WEIR_EVENT_DEPTH_MAX);
    enum weir_json_shape_result result =
        weir_json_shapes_read(walker->shapes, text, node, depth, values, walker->scratch);
    if (__builtin_expect(result == WEIR_JSON_SHAPE_READ, 1))
        return WEIR_OK;
    struct walk walk = {walker, values, reterr, text.data, text.length, NULL, NULL, NULL, walker->scratch};
    return walk_tokens(&walk, node, depth, result == WEIR_JSON_SHAPE_WANTED);
}
