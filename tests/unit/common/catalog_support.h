/* For the catalog's tests: the full catalog of catalog_full.json, changed in places. */
#ifndef WEIR_TESTS_CATALOG_SUPPORT_H
#define WEIR_TESTS_CATALOG_SUPPORT_H

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/model/catalog.h"

static inline json_t *full_catalog(void)
{
    json_error_t error;
    json_t *json = json_load_file(WEIR_SOURCE_DIR "/tests/unit/common/catalog_full.json", 0, &error);
    cr_assert(json, "%s:%d", error.text, error.line);
    return json;
}

/* place: a JSON pointer without its first '/' ("meters/0/where/data.region"); '#' appends to a list. json NULL:
 * removes. */
static inline void change(json_t *json, const char *place, const char *value)
{
    char copy[256], *save = NULL;
    json_t *at = json;
    snprintf(copy, sizeof copy, "%s", place);
    char *step = strtok_r(copy, "/", &save), *next;
    for (; (next = strtok_r(NULL, "/", &save)); step = next) {
        at = json_is_array(at) ? json_array_get(at, strtoul(step, NULL, 10)) : json_object_get(at, step);
        cr_assert(at, "no %s in %s", step, place);
    }
    json_t *loaded = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    cr_assert(!value || loaded, "bad JSON in the test: %s", value);
    int failed;
    if (json_is_array(at))
        failed = !value         ? json_array_remove(at, strtoul(step, NULL, 10))
                 : *step == '#' ? json_array_append_new(at, loaded)
                                : json_array_set_new(at, strtoul(step, NULL, 10), loaded);
    else
        failed = value ? json_object_set_new(at, step, loaded) : json_object_del(at, step);
    cr_assert(!failed, "cannot change %s", place);
}

static inline enum weir_status parse_json(json_t *json, struct weir_catalog **ret_catalog,
                                          struct weir_mistake_list *reterr_mistakes)
{
    char *text = json_dumps(json, JSON_INDENT(1));
    enum weir_status status = weir_catalog_parse("test.json", text, strlen(text), ret_catalog, reterr_mistakes);
    free(text);
    return status;
}

static inline void print_all(const struct weir_mistake_list *mistakes)
{
    for (size_t i = 0; i < mistakes->count; i++)
        fprintf(stderr, "  %s: %s: [%s] %s\n", mistakes->mistakes[i].file, mistakes->mistakes[i].path,
                mistakes->mistakes[i].kind, mistakes->mistakes[i].text);
}

#endif
