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

/* 1. the files as one */

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

/* 2. what packages come to */

static bool has_packages(const struct weir_catalog *catalog)
{
    for (uint32_t i = 0; i < catalog->contract_count; i++)
        for (uint32_t k = 0; k < catalog->contracts[i].commitment_count; k++)
            if (catalog->contracts[i].commitments[k].package.length)
                return true;
    return false;
}

static void set_decimal(json_t *object, const char *name, struct weir_decimal value)
{
    char text[WEIR_DECIMAL_TEXT_MAX];

    weir_decimal_format_short(value, text);
    json_object_set_new(object, name, json_string(text));
}

/* Commitments stand in the contract in the order of the list. */
static void price_terms(json_t *terms, const struct weir_contract *contract)
{
    json_t *list = json_object_get(terms, "commitments");

    weir_check(!list || json_array_size(list) == contract->commitment_count);
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (!contract->commitments[i].package.length)
            continue;
        set_decimal(json_array_get(list, i), "amount", contract->commitments[i].amount);
        set_decimal(json_array_get(list, i), "price", contract->commitments[i].price);
    }
}

static const struct weir_contract *contract_of(const struct weir_catalog *catalog, const json_t *entry)
{
    const char *key = json_string_value(json_object_get(entry, "key")),
               *customer = json_string_value(json_object_get(entry, "customer"));
    uint32_t count;
    weir_check(key && customer);
    const struct weir_contract *contracts = weir_catalog_contracts_of(catalog, weir_slice_text(customer), &count);

    while (count > 0 && !weir_slice_equal(contracts->key, weir_slice_text(key))) {
        contracts++;
        count--;
    }
    weir_check(count > 0);
    return contracts;
}

char *weir_catalog_document_price(const char *text, size_t length, const struct weir_catalog *catalog,
                                  size_t *ret_length)
{
    if (!has_packages(catalog))
        return NULL;
    json_t *document = json_loadb(text, length, 0, NULL);
    json_t *contracts = json_object_get(document, "contracts");

    weir_check(document);
    for (size_t i = 0; i < json_array_size(contracts); i++) {
        json_t *entry = json_array_get(contracts, i), *phases = json_object_get(entry, "phases");
        const struct weir_contract *contract = contract_of(catalog, entry);
        price_terms(entry, contract);
        for (size_t k = 0; k < json_array_size(phases); k++)
            price_terms(json_array_get(phases, k), contract + 1 + k);
    }
    char *priced = json_dumps(document, JSON_COMPACT);
    weir_check(priced);
    json_decref(document);
    *ret_length = strlen(priced);
    return priced;
}
