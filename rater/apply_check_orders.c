/* What was ordered at run time (weir grant) has its key for good, and what a new catalog brings may not take it: both
 * would be one item of the ledger, and what is bought would not be granted (docs/credits.md 6). */
#include <stdlib.h>

#include "rater/apply_check_internal.h"
#include "rater/postgres_value.h"

struct key_list {
    struct weir_slice *keys;
    size_t count, room;
};

static void add_key(struct key_list *list, struct weir_slice key)
{
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 256;
        list->keys = weir_resize(list->keys, list->room, sizeof *list->keys);
    }
    list->keys[list->count++] = key;
}

static void add_commitments(struct key_list *list, const struct weir_contract *terms)
{
    for (uint32_t i = 0; i < terms->commitment_count; i++)
        add_key(list, terms->commitments[i].key);
}

static int by_key(const void *left, const void *right)
{
    return weir_slice_compare(*(const struct weir_slice *)left, *(const struct weir_slice *)right);
}

/* Each once: of a million contracts most have the same ones. */
static void sort_keys(struct key_list *list)
{
    size_t kept = 0;

    if (list->count > 1)
        qsort(list->keys, list->count, sizeof *list->keys, by_key);
    for (size_t i = 0; i < list->count; i++)
        if (kept == 0 || !weir_slice_equal(list->keys[kept - 1], list->keys[i]))
            list->keys[kept++] = list->keys[i];
    list->count = kept;
}

static void list_keys(const struct weir_catalog *catalog, struct key_list *list)
{
    for (uint32_t i = 0; i < catalog->meter_count; i++)
        add_key(list, catalog->meters[i].key);
    for (uint32_t i = 0; i < catalog->book_count; i++)
        for (uint32_t v = 0; v < catalog->books[i].version_count; v++)
            for (uint32_t f = 0; f < catalog->books[i].versions[v].fee_count; f++)
                add_key(list, catalog->books[i].versions[v].fees[f].key);
    for (uint32_t i = 0; i < catalog->contract_count; i++)
        add_commitments(list, &catalog->contracts[i]);
    if (catalog->default_contract)
        add_commitments(list, catalog->default_contract);
    sort_keys(list);
}

/* What has the key for the customer's contract, in any of its phases; NULL: nothing. */
static const char *item_of(const struct weir_catalog *catalog, struct weir_slice customer, struct weir_slice contract,
                           struct weir_slice key)
{
    const char *item = NULL;
    uint32_t count = catalog->default_contract != NULL;
    const struct weir_contract *contracts =
        contract.length ? weir_catalog_contracts_of(catalog, customer, &count) : catalog->default_contract;

    for (uint32_t i = 0; i < count && !item; i++)
        if (weir_slice_equal(contracts[i].key, contract))
            item = weir_contract_item(&contracts[i], key);
    return item || !weir_catalog_meter(catalog, key) ? item : "meter";
}

/* What the catalog of before had beside an order stays: it cannot be taken out of what is rated. */
static void say_clash(struct apply_check *check, const PGresult *orders, int row)
{
    struct weir_slice customer = weir_postgres_field(orders, row, 0), contract = weir_postgres_field(orders, row, 1),
                      key = weir_postgres_field(orders, row, 2);
    const char *item = item_of(check->after, customer, contract, key);

    if (!item || (check->before && item_of(check->before, customer, contract, key)))
        return;
    weir_apply_say(
        check->report,
        "%s '%.*s'%s%.*s%s: a grant of customer '%.*s' was ordered with that key, and both would be one item: "
        "give the %s another key",
        item, TEXT(key), contract.length ? " of contract '" : " under the default contract", TEXT(contract),
        contract.length ? "'" : "", TEXT(customer), item);
}

enum weir_status weir_apply_check_orders(struct apply_check *check)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer array = {0};
    struct key_list list = {0};
    PGresult *orders = NULL;

    list_keys(check->after, &list);
    weir_array_begin(&array, WEIR_PG_TEXT);
    for (size_t i = 0; i < list.count; i++)
        weir_put_text(&array, list.keys[i]);
    weir_array_end(&array, list.count);
    weir_parameters_add(&parameters, array.data, array.length);
    enum weir_status status = weir_postgres_ask(check->connection,
                                                "SELECT customer, contract, grant_key FROM weir.grant_orders"
                                                " WHERE grant_key = ANY ($1::text[]) ORDER BY 1, 2, 3",
                                                &parameters, "looking at ordered grants", &orders, check->reterr);
    for (int row = 0; status == WEIR_OK && row < PQntuples(orders); row++)
        say_clash(check, orders, row);
    PQclear(orders);
    weir_buffer_free(&array);
    free(list.keys);
    return status;
}
