/* The list of mistakes, and the words in them. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "common/model/catalog_internal.h"

static const char *const kind_name[] = {
#define WEIR_X(upper, lower, structural) [WEIR_MISTAKE_##upper] = #lower,
    WEIR_MISTAKE_KINDS(WEIR_X)
#undef WEIR_X
};

struct weir_node weir_node_member(const struct weir_node *object, const char *name)
{
    return (struct weir_node){object, name, 0, json_object_get(object->json, name)};
}

struct weir_node weir_node_element(const struct weir_node *list, size_t index)
{
    return (struct weir_node){list, NULL, index, json_array_get(list->json, index)};
}

/* 1. paths */

static bool is_plain_name(const char *name)
{
    return *name && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == strlen(name);
}

static const char *path_of(struct weir_catalog_load *load, const struct weir_node *node, uint32_t *ret_file)
{
    if (!node->up) {
        *ret_file = (uint32_t)node->index;
        return "$";
    }
    const char *up = path_of(load, node->up, ret_file);
    if (!node->name)
        return weir_arena_print(load->scratch, "%s[%zu]", up, node->index);
    if (is_plain_name(node->name))
        return weir_arena_print(load->scratch, "%s.%s", up, node->name);
    return weir_arena_print(load->scratch, "%s[%s]", up, weir_quoted(load, weir_slice_text(node->name)));
}

/* 2. the list */

/* Counts the mistake; false: there is no need for its words. */
static bool is_listed(struct weir_catalog_load *load)
{
    load->mistakes.found++;
    return load->mistakes.listed < WEIR_MISTAKES_LISTED_MAX;
}

static void add(struct weir_catalog_load *load, uint32_t file, const char *file_text, const char *path,
                enum weir_mistake_kind kind, const char *text)
{
    struct weir_mistakes *mistakes = &load->mistakes;
    if (mistakes->listed == mistakes->room) {
        mistakes->room = mistakes->room ? 2 * mistakes->room : 64;
        mistakes->drafts = weir_resize(mistakes->drafts, mistakes->room, sizeof *mistakes->drafts);
    }
    if (!mistakes->arena)
        mistakes->arena = weir_arena_new();
    mistakes->drafts[mistakes->listed] = (struct weir_mistake_draft){
        {
            .file = weir_arena_copy(mistakes->arena, file_text, strlen(file_text)).data,
            .path = weir_arena_copy(mistakes->arena, path, strlen(path)).data,
            .kind = kind_name[kind],
            .text = weir_arena_copy(mistakes->arena, text, strlen(text)).data,
        },
        file,
        mistakes->listed,
    };
    mistakes->listed++;
}

void weir_mistake_add(struct weir_catalog_load *load, const struct weir_node *node, enum weir_mistake_kind kind,
                      const char *format, ...)
{
    if (!is_listed(load))
        return;
    va_list arguments;
    va_start(arguments, format);
    const char *text = weir_arena_vprint(load->scratch, format, arguments);
    va_end(arguments);
    uint32_t file;
    const char *path = path_of(load, node, &file);
    add(load, file, load->file_names[file], path, kind, text);
}

static const char *origin_path(struct weir_catalog_load *load, struct weir_origin origin, const char *list)
{
    if (origin.index == UINT32_MAX)
        return weir_arena_print(load->scratch, "$.%s", list);
    if (origin.phase)
        return weir_arena_print(load->scratch, "$.%s[%" PRIu32 "].phases[%" PRIu32 "]", list, origin.index,
                                origin.phase - 1);
    return weir_arena_print(load->scratch, "$.%s[%" PRIu32 "]", list, origin.index);
}

void weir_mistake_add_at(struct weir_catalog_load *load, struct weir_origin origin, const char *list,
                         const char *member, enum weir_mistake_kind kind, const char *format, ...)
{
    if (!is_listed(load))
        return;
    va_list arguments;
    va_start(arguments, format);
    const char *text = weir_arena_vprint(load->scratch, format, arguments);
    va_end(arguments);
    const char *path = origin_path(load, origin, list);
    if (member)
        path = weir_arena_print(load->scratch, "%s.%s", path, member);
    add(load, origin.file, load->file_names[origin.file], path, kind, text);
}

void weir_mistake_add_file(struct weir_catalog_load *load, uint32_t file, const char *file_text,
                           enum weir_mistake_kind kind, const char *text)
{
    if (is_listed(load))
        add(load, file, file_text, "$", kind, text);
}

/* Numbers by value, the rest by bytes, so that [2] stands before [10]. */
static int path_compare(const char *a, const char *b)
{
    static const char digits[] = "0123456789";
    while (*a && *b) {
        size_t in_a = strspn(a, digits), in_b = strspn(b, digits);
        if (in_a && in_b) {
            if (in_a != in_b)
                return in_a < in_b ? -1 : 1;
            int order = memcmp(a, b, in_a);
            if (order)
                return order;
            a += in_a;
            b += in_b;
        } else if (*a != *b) {
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        } else {
            a++;
            b++;
        }
    }
    return (*a != 0) - (*b != 0);
}

static int draft_compare(const void *left, const void *right)
{
    const struct weir_mistake_draft *a = left, *b = right;
    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    int order = path_compare(a->mistake.path, b->mistake.path);
    return order ? order : (a->number > b->number) - (a->number < b->number);
}

void weir_mistakes_take(struct weir_mistakes *mistakes, struct weir_mistake_list *ret_list)
{
    if (mistakes->listed > 1)
        qsort(mistakes->drafts, mistakes->listed, sizeof *mistakes->drafts, draft_compare);
    size_t unlisted = mistakes->found - mistakes->listed;
    struct weir_mistake *list = weir_arena_take_array(mistakes->arena, mistakes->listed + 1, sizeof *list);
    for (size_t i = 0; i < mistakes->listed; i++)
        list[i] = mistakes->drafts[i].mistake;
    if (unlisted)
        list[mistakes->listed] =
            (struct weir_mistake){list[mistakes->listed - 1].file, "$", kind_name[WEIR_MISTAKE_TOO_MANY],
                                  weir_arena_print(mistakes->arena, "%zu more mistakes are not listed", unlisted)};
    *ret_list = (struct weir_mistake_list){mistakes->listed + (unlisted != 0), list, mistakes->arena};
    free(mistakes->drafts);
    *mistakes = (struct weir_mistakes){0};
}

void weir_mistake_list_free(struct weir_mistake_list *mistakes)
{
    if (!mistakes)
        return;
    weir_arena_free(mistakes->owned);
    *mistakes = (struct weir_mistake_list){0};
}

/* 3. words in mistakes */

/* JSON's own quoting keeps line ends and control characters out of the one-line message. */
const char *weir_quoted(struct weir_catalog_load *load, struct weir_slice text)
{
    enum { SHOWN_MAX = 72 };
    size_t shown = text.length;
    if (shown > SHOWN_MAX)
        for (shown = SHOWN_MAX; shown > 0 && ((unsigned char)text.data[shown] & 0xc0) == 0x80;)
            shown--;
    json_t *json = json_stringn_nocheck(text.data ? text.data : "", shown);
    char *quoted = json ? json_dumps(json, JSON_ENCODE_ANY) : NULL;
    const char *copy =
        weir_arena_print(load->scratch, "%s%s", quoted ? quoted : "a text", shown < text.length ? "…" : "");
    free(quoted);
    json_decref(json);
    return copy;
}

const char *weir_found(struct weir_catalog_load *load, const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return weir_quoted(load, weir_slice_of(json_string_value(json), json_string_length(json)));
    case JSON_INTEGER:
    case JSON_REAL: {
        /* 15 digits: what was typed, not its nearest binary neighbour */
        char *text = json_dumps(json, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        const char *copy = weir_arena_print(load->scratch, "the number %s", text ? text : "");
        free(text);
        return copy;
    }
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        break;
    }
    return "null";
}

const char *weir_origin_text(struct weir_catalog_load *load, struct weir_origin origin, const char *list)
{
    return weir_arena_print(load->scratch, "%s in %s", origin_path(load, origin, list), load->file_names[origin.file]);
}

const char *weir_time_quoted(struct weir_catalog_load *load, int64_t time)
{
    char text[WEIR_TIME_TEXT_MAX];
    weir_time_format(time, text);
    return weir_arena_print(load->scratch, "%s", text);
}

const char *weir_words(struct weir_catalog_load *load, const char *const words[], size_t count)
{
    const char *all = "";
    for (size_t i = 0; i < count; i++)
        all = weir_arena_print(load->scratch, "%s%s%s", all, i ? ", " : "", words[i]);
    return all;
}

/* Levenshtein's distance, of words short enough for one row on the stack. */
static size_t distance(struct weir_slice a, const char *b)
{
    enum { LONGEST = 64 };
    size_t b_length = strlen(b);
    if (a.length > LONGEST || b_length > LONGEST)
        return SIZE_MAX;
    size_t row[LONGEST + 1];
    for (size_t j = 0; j <= b_length; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = diagonal + (a.data[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_length];
}

const char *weir_nearest(struct weir_catalog_load *load, struct weir_slice word, const char *const words[],
                         size_t count)
{
    size_t nearest = SIZE_MAX;
    const char *best = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t steps = distance(word, words[i]);
        if (steps < nearest) {
            nearest = steps;
            best = words[i];
        }
    }
    /* further than half of the word is no likeness */
    if (!best || nearest > 4 || 2 * nearest > strlen(best))
        return "";
    return weir_arena_print(load->scratch, "; did you mean \"%s\"?", best);
}

int weir_origin_compare(struct weir_origin a, struct weir_origin b)
{
    if (a.file != b.file)
        return a.file < b.file ? -1 : 1;
    if (a.index != b.index)
        return a.index < b.index ? -1 : 1;
    return (a.phase > b.phase) - (a.phase < b.phase);
}
