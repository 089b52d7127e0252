#include "common/model/catalog_document.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_TEXT_MAX = 4096 };

/* The lists of one file go behind those of the files before it; a second default contract replaces the first, and was
 * refused when the catalog was checked. */
static enum weir_status merge_file(json_t *document, const char *path, struct weir_error *reterr)
{
    static const char *const lists[] = {"meters", "price_books", "contracts"};
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);

    if (!json_is_object(root)) {
        json_decref(root);
        return weir_fail(reterr, WEIR_REJECT, "%s: %s; see weir check", path,
                         root ? "is not a JSON object" : error.text);
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        (void)json_array_extend(json_object_get(document, lists[i]), json_object_get(root, lists[i]));
    json_t *contract = json_object_get(root, "default_contract");
    if (contract)
        (void)json_object_set(document, "default_contract", contract);
    json_decref(root);
    return WEIR_OK;
}

/* As weir_catalog_load: *.json, but nothing hidden. */
static int is_json_name(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static enum weir_status merge_folder(json_t *document, const char *path, struct weir_error *reterr)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, is_json_name, by_bytes);
    enum weir_status status = WEIR_OK;

    if (count < 0)
        return weir_fail(reterr, WEIR_REJECT, "%s: cannot be read: %s", path, strerror(errno));
    for (int i = 0; i < count; i++) {
        char file[PATH_TEXT_MAX];
        if (status == WEIR_OK && snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name) >= PATH_TEXT_MAX)
            status = weir_fail(reterr, WEIR_REJECT, "%s: the path is too long", path);
        if (status == WEIR_OK)
            status = merge_file(document, file, reterr);
        free(entries[i]);
    }
    free(entries);
    return status;
}

enum weir_status weir_catalog_document(const char *path, char **ret_text, size_t *ret_length, struct weir_error *reterr)
{
    json_t *document = json_pack("{s:[], s:[], s:[]}", "meters", "price_books", "contracts");
    struct stat found;

    weir_check(document);
    bool is_folder = stat(path, &found) == 0 && S_ISDIR(found.st_mode);
    enum weir_status status = is_folder ? merge_folder(document, path, reterr) : merge_file(document, path, reterr);
    if (status == WEIR_OK) {
        *ret_text = json_dumps(document, JSON_COMPACT);
        weir_check(*ret_text);
        *ret_length = strlen(*ret_text);
    }
    json_decref(document);
    return status;
}
