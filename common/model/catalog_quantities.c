/* $.contracts[*].quantities: how many units of a fee a contract has, and from when on. */
#include <stdlib.h>

#include "common/model/catalog_internal.h"

/* A fee per unit of the contract's price book, in any of its versions. */
static void check_fee(struct weir_catalog_load *load, const struct weir_node *node, const struct weir_price_book *book,
                      struct weir_slice key)
{
    struct weir_node place = weir_node_member(node, "fee");
    bool is_there = false;
    for (uint32_t i = 0; book && i < book->version_count; i++)
        for (uint32_t f = 0; f < book->versions[i].fee_count; f++) {
            if (!weir_slice_equal(book->versions[i].fees[f].key, key))
                continue;
            is_there = true;
            if (book->versions[i].fees[f].is_per_unit)
                return;
        }
    if (book)
        weir_mistake_add(load, &place, WEIR_MISTAKE_UNKNOWN_REFERENCE,
                         is_there ? "fee %s of price book \"%s\" has no unit_price, and so no quantity"
                                  : "there is no fee %s in price book \"%s\"",
                         weir_quoted(load, key), book->key.data);
}

static bool read_quantity(struct weir_catalog_load *load, const struct weir_node *node,
                          const struct weir_price_book *book, struct weir_quantity *quantity)
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
        check_fee(load, node, book, quantity->fee);
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
                          struct weir_contract *contract)
{
    struct weir_node list;
    if (!weir_read_list(load, object, "quantities", 0, WEIR_QUANTITIES_MAX, &list))
        return;
    size_t count = json_array_size(list.json);
    contract->quantities = weir_arena_take_array(load->arena, count, sizeof *contract->quantities);
    for (size_t i = 0; i < count; i++) {
        struct weir_node node = weir_node_element(&list, i);
        struct weir_quantity quantity = {0};
        if (!read_quantity(load, &node, contract->book, &quantity))
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
}
