/* $.contracts[*].quantities: how many units of a fee a contract has, and from when on. */
#include <stdlib.h>

#include "common/model/catalog_internal.h"

/* Whether the book has the fee in any of its versions; *ret_is_per_unit: one of them is per unit. */
static bool has_fee(const struct weir_price_book *book, struct weir_slice key, bool *ret_is_per_unit)
{
    bool is_there = false;
    for (uint32_t i = 0; i < book->version_count; i++)
        for (uint32_t f = 0; f < book->versions[i].fee_count; f++)
            if (weir_slice_equal(book->versions[i].fees[f].key, key)) {
                is_there = true;
                *ret_is_per_unit |= book->versions[i].fees[f].is_per_unit;
            }
    return is_there;
}

/* A fee per unit of a price book that the contract has in one of its phases. */
static void check_fee(struct weir_catalog_load *load, const struct weir_node *node,
                      const struct weir_contract_draft drafts[], size_t draft_count, struct weir_slice key)
{
    struct weir_node place = weir_node_member(node, "fee");
    const struct weir_price_book *where = NULL; /* the fee is, but not per unit */
    bool is_per_unit = false;
    for (size_t i = 0; i < draft_count && !is_per_unit; i++) {
        const struct weir_price_book *book = drafts[i].contract.book;
        if (!book)
            return; /* reported; the fee may be there */
        if (has_fee(book, key, &is_per_unit) && !where)
            where = book;
    }
    if (is_per_unit)
        return;
    weir_mistake_add(load, &place, WEIR_MISTAKE_UNKNOWN_REFERENCE,
                     where ? "fee %s of price book \"%s\" has no unit_price, and so no quantity"
                           : "there is no fee %s in price book \"%s\"",
                     weir_quoted(load, key), (where ? where : drafts[0].contract.book)->key.data);
}

static bool read_quantity(struct weir_catalog_load *load, const struct weir_node *node,
                          const struct weir_contract_draft drafts[], size_t draft_count, struct weir_quantity *quantity)
{
    static const struct weir_field fields[] = {
        {"fee", WEIR_IN_ALL, WEIR_IN_ALL},
        {"effective_from", WEIR_IN_ALL, WEIR_IN_ALL},
        {"quantity", WEIR_IN_ALL, WEIR_IN_ALL},
    };
    if (!weir_read_object(load, node, fields, sizeof fields / sizeof *fields, WEIR_IN_ALL, ""))
        return false;
    bool has_fee = weir_read_key(load, node, "fee", &quantity->fee);
    if (has_fee)
        check_fee(load, node, drafts, draft_count, quantity->fee);
    (void)weir_read_decimal(load, node, "quantity", WEIR_NOT_NEGATIVE, &quantity->quantity);
    return weir_read_time(load, node, "effective_from", WEIR_WHOLE_SECONDS, &quantity->effective_from) && has_fee;
}

static int by_fee_and_time(const void *left, const void *right)
{
    const struct weir_quantity *a = left, *b = right;
    int order = weir_slice_compare(a->fee, b->fee);
    return order ? order : (a->effective_from > b->effective_from) - (a->effective_from < b->effective_from);
}

void weir_read_quantities(struct weir_catalog_load *load, const struct weir_node *object,
                          struct weir_contract_draft drafts[], size_t draft_count)
{
    struct weir_contract *contract = &drafts[0].contract;
    struct weir_node list;
    if (!weir_read_list(load, object, "quantities", 0, WEIR_QUANTITIES_MAX, &list))
        return;
    size_t count = json_array_size(list.json);
    contract->quantities = weir_arena_take_array(load->arena, count, sizeof *contract->quantities);
    for (size_t i = 0; i < count; i++) {
        struct weir_node node = weir_node_element(&list, i);
        struct weir_quantity quantity = {0};
        if (!read_quantity(load, &node, drafts, draft_count, &quantity))
            continue;
        for (uint32_t other = 0; other < contract->quantity_count; other++) {
            if (by_fee_and_time(&contract->quantities[other], &quantity) != 0)
                continue;
            weir_mistake_add(load, &node, WEIR_MISTAKE_DUPLICATE,
                             "fee %s has a quantity from %s on already; it has one at a time",
                             weir_quoted(load, quantity.fee), weir_time_quoted(load, quantity.effective_from));
            break;
        }
        contract->quantities[contract->quantity_count++] = quantity;
    }
    if (contract->quantity_count > 1)
        qsort(contract->quantities, contract->quantity_count, sizeof *contract->quantities, by_fee_and_time);
    for (size_t i = 1; i < draft_count; i++) {
        drafts[i].contract.quantities = contract->quantities;
        drafts[i].contract.quantity_count = contract->quantity_count;
    }
}
