#include "common/model/catalog_values.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"

enum { PLACE_MAX = 1024, ENTRY_NAME_MAX = 192, LINE_MAX_BYTES = PLACE_MAX + 2 * WEIR_VALUE_SHOWN + 64 };

struct comparing {
    char place[PLACE_MAX]; /* as far as the walk has come */
    void (*visit)(void *context, const char *line);
    void *context;
};

/* As JSON, or `none`; a character is not cut in two. */
static void show(const json_t *value, char text[WEIR_VALUE_SHOWN + 8])
{
    char *whole = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    size_t length = whole ? strlen(whole) : 0;

    if (length <= WEIR_VALUE_SHOWN) {
        (void)snprintf(text, WEIR_VALUE_SHOWN + 8, "%s", whole ? whole : "none");
    } else {
        for (length = WEIR_VALUE_SHOWN; ((unsigned char)whole[length] & 0xC0) == 0x80;)
            length--;
        (void)snprintf(text, WEIR_VALUE_SHOWN + 8, "%.*s...", (int)length, whole);
    }
    free(whole);
}

static void tell(struct comparing *comparing, const json_t *before, const json_t *after)
{
    char line[LINE_MAX_BYTES], old[WEIR_VALUE_SHOWN + 8], new[WEIR_VALUE_SHOWN + 8];

    show(before, old);
    show(after, new);
    (void)snprintf(line, sizeof line, "%s: %s -> %s", comparing->place, old, new);
    comparing->visit(comparing->context, line);
}

/* How a member of a list is called: by its key, where it has one. */
static void name_of(const json_t *member, size_t index, char name[ENTRY_NAME_MAX])
{
    const char *key = json_string_value(json_object_get(member, "key"));
    json_int_t version = json_integer_value(json_object_get(member, "version"));

    if (key && version)
        (void)snprintf(name, ENTRY_NAME_MAX, "%s version %" JSON_INTEGER_FORMAT, key, version);
    else if (key)
        (void)snprintf(name, ENTRY_NAME_MAX, "%s", key);
    else
        (void)snprintf(name, ENTRY_NAME_MAX, "%zu", index);
}

/* The list's members by their names; views. */
static json_t *by_name(const json_t *list)
{
    json_t *named = json_object();
    char name[ENTRY_NAME_MAX];

    weir_check(named);
    for (size_t i = 0; i < json_array_size(list); i++) {
        name_of(json_array_get(list, i), i, name);
        (void)json_object_set(named, name, json_array_get(list, i));
    }
    return named;
}

static void compare(struct comparing *comparing, const json_t *before, const json_t *after);

/* One step down: before and after are views of the member, NULL where it is missing. */
static void compare_member(struct comparing *comparing, const char *format, const char *name, const json_t *before,
                           const json_t *after)
{
    size_t length = strlen(comparing->place);

    (void)snprintf(comparing->place + length, sizeof comparing->place - length, format, name);
    compare(comparing, before, after);
    comparing->place[length] = '\0';
}

static void compare_members(struct comparing *comparing, const char *format, json_t *before, json_t *after)
{
    const char *name;
    json_t *value;

    json_object_foreach(before, name, value)
        compare_member(comparing, format, name, value, json_object_get(after, name));
    json_object_foreach(after, name, value) if (!json_object_get(before, name))
        compare_member(comparing, format, name, NULL, value);
}

static void compare(struct comparing *comparing, const json_t *before, const json_t *after)
{
    if (before && after && json_equal(before, after))
        return;
    if (json_is_object(before) && json_is_object(after)) {
        bool is_entry = !strchr(comparing->place, ':');
        compare_members(comparing, is_entry ? ": %s" : ".%s", (json_t *)before, (json_t *)after);
    } else if (json_is_array(before) && json_is_array(after)) {
        json_t *old = by_name(before), *new = by_name(after);
        compare_members(comparing, "[%s]", old, new);
        json_decref(old);
        json_decref(new);
    } else {
        tell(comparing, before, after);
    }
}

/* Entries of one list that both catalogs have. */
static void compare_entries(struct comparing *comparing, const char *what, const json_t *before, const json_t *after)
{
    json_t *old = by_name(before), *new = by_name(after), *value;
    const char *name;

    json_object_foreach(old, name, value) if (json_object_get(new, name))
    {
        (void)snprintf(comparing->place, sizeof comparing->place, "%s %s", what, name);
        compare(comparing, value, json_object_get(new, name));
    }
    json_decref(old);
    json_decref(new);
}

void weir_catalog_values_compare(const char *before, size_t before_length, const char *after, size_t after_length,
                                 void (*visit)(void *context, const char *line), void *context)
{
    static const char *const lists[][2] = {
        {"meters", "meter"}, {"price_books", "price book"}, {"contracts", "contract"}};
    struct comparing comparing = {.visit = visit, .context = context};
    json_t *old = json_loadb(before, before_length, 0, NULL), *new = json_loadb(after, after_length, 0, NULL);

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        compare_entries(&comparing, lists[i][1], json_object_get(old, lists[i][0]), json_object_get(new, lists[i][0]));
    json_t *old_default = json_object_get(old, "default_contract"),
           *new_default = json_object_get(new, "default_contract");
    if (old_default && new_default) {
        (void)snprintf(comparing.place, sizeof comparing.place, "default_contract");
        compare(&comparing, old_default, new_default);
    }
    json_decref(old);
    json_decref(new);
}
