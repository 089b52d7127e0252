/* What contracts and price books say of prepaid amounts in general: the order in which they are drawn down. */
#include "common/model/catalog_internal.h"

#define WEIR_X(upper, lower) [WEIR_DRAW_BY_##upper] = #lower,
const char *const weir_draw_key_name[WEIR_DRAW_KEY_COUNT] = {WEIR_DRAW_KEYS(WEIR_X)};
#undef WEIR_X

/* False: it is none of the names, or stands before, and was reported. */
static bool read_draw_key(struct weir_catalog_load *load, const struct weir_node *node,
                          const struct weir_draw_order *before, enum weir_draw_key *ret_key)
{
    struct weir_slice name;
    unsigned key = 0;
    if (!weir_read_node_text(load, node, 1, WEIR_KEY_MAX, &name))
        return false;
    while (key < WEIR_DRAW_KEY_COUNT && !weir_slice_equal(name, weir_slice_text(weir_draw_key_name[key])))
        key++;
    if (key == WEIR_DRAW_KEY_COUNT) {
        weir_mistake_add(load, node, WEIR_MISTAKE_BAD_VALUE,
                         "found %s; must be one of %s (what they leave open, the keys of the amounts decide)%s",
                         weir_found(load, node->json), weir_words(load, weir_draw_key_name, WEIR_DRAW_KEY_COUNT),
                         weir_nearest(load, name, weir_draw_key_name, WEIR_DRAW_KEY_COUNT));
        return false;
    }
    for (uint32_t i = 0; i < before->count; i++) {
        if (before->keys[i] != key)
            continue;
        weir_mistake_add(load, node, WEIR_MISTAKE_DUPLICATE, "\"%s\" stands in the list already", name.data);
        return false;
    }
    *ret_key = key;
    return true;
}

void weir_read_draw_order(struct weir_catalog_load *load, const struct weir_node *object,
                          struct weir_draw_order *ret_order)
{
    struct weir_draw_order order = {0};
    struct weir_node list;
    if (!weir_read_list(load, object, "drawdown_order", 1, WEIR_DRAW_KEY_COUNT, &list))
        return;
    for (size_t i = 0; i < json_array_size(list.json); i++) {
        struct weir_node node = weir_node_element(&list, i);
        order.count += read_draw_key(load, &node, &order, &order.keys[order.count]);
    }
    *ret_order = order;
}

const struct weir_draw_order *weir_contract_draw_order(const struct weir_contract *contract, int64_t period_start)
{
#define WEIR_X(upper, lower) WEIR_DRAW_BY_##upper,
    static const struct weir_draw_order customary = {WEIR_DRAW_KEY_COUNT, {WEIR_DRAW_KEYS(WEIR_X)}};
#undef WEIR_X
    const struct weir_price_book_version *version;

    if (contract->drawdown_order.count)
        return &contract->drawdown_order;
    version = weir_price_book_at(contract->book, period_start);
    return version && version->drawdown_order.count ? &version->drawdown_order : &customary;
}
