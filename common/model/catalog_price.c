/* One price, and how the prices of a version get along: which split goes to which (docs/rating.md 3.4). */
#include <inttypes.h>
#include <stdlib.h>

#include "common/model/catalog_internal.h"

enum {
    PER_UNIT = 1 << WEIR_MODEL_PER_UNIT,
    GRADUATED = 1 << WEIR_MODEL_GRADUATED,
    VOLUME = 1 << WEIR_MODEL_VOLUME,
    PACKAGE = 1 << WEIR_MODEL_PACKAGE,
    PERCENTAGE = 1 << WEIR_MODEL_PERCENTAGE,
    FLAT = 1 << WEIR_MODEL_FLAT,
};

/* 1. tiers */

/* Whether the tiers ascend; *last is the limit of the tier before, 0 at first. */
static void read_up_to(struct weir_catalog_load *load, const struct weir_node *node, bool is_last,
                       struct weir_tier *tier, struct weir_decimal *last)
{
    struct weir_node up_to = weir_node_member(node, "up_to");
    if (json_is_null(up_to.json)) {
        if (!is_last)
            weir_mistake_add(load, &up_to, WEIR_MISTAKE_OUT_OF_ORDER,
                             "found null, but only the last tier is open; write where this one ends");
        return;
    }
    if (!weir_read_decimal(load, node, "up_to", WEIR_POSITIVE, &tier->up_to))
        return;
    tier->has_up_to = true;
    if (is_last)
        weir_mistake_add(load, &up_to, WEIR_MISTAKE_OUT_OF_ORDER,
                         "found %s; the last tier must be open: \"up_to\": null", weir_found(load, up_to.json));
    else if (weir_decimal_compare(tier->up_to, *last) <= 0)
        weir_mistake_add(load, &up_to, WEIR_MISTAKE_OUT_OF_ORDER,
                         "found %s, which is not above the tier before; tiers must ascend",
                         weir_found(load, up_to.json));
    *last = tier->up_to;
}

void weir_read_tiers(struct weir_catalog_load *load, const struct weir_node *object, bool *flat_fee_at_zero,
                     struct weir_tier **ret_tiers, uint32_t *ret_count)
{
    enum { FIRST = 1, LATER = 2, PLAIN = 4 };
    static const struct weir_field fields[] = {
        {"up_to", WEIR_IN_ALL, WEIR_IN_ALL},
        {"unit_price", WEIR_IN_ALL, WEIR_IN_ALL},
        {"flat_fee", FIRST | LATER, 0},
        {"flat_fee_at_zero", FIRST, 0},
    };
    struct weir_node list;
    struct weir_decimal last = {0};
    if (!weir_read_list(load, object, "tiers", 1, WEIR_TIERS_MAX, &list))
        return;
    size_t count = json_array_size(list.json);
    struct weir_tier *tiers = weir_arena_take_array(load->arena, count, sizeof *tiers);
    *ret_tiers = tiers;
    *ret_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        struct weir_node node = weir_node_element(&list, i);
        struct weir_tier *tier = &tiers[i];
        unsigned variant = !flat_fee_at_zero ? PLAIN : i == 0 ? FIRST : LATER;
        if (!weir_read_object(load, &node, fields, sizeof fields / sizeof *fields, variant,
                              variant == PLAIN   ? "in a package"
                              : variant == FIRST ? ""
                                                 : "in a tier after the first"))
            continue;
        read_up_to(load, &node, i == count - 1, tier, &last);
        (void)weir_read_decimal(load, &node, "unit_price", WEIR_NOT_NEGATIVE, &tier->unit_price);
        (void)weir_read_decimal(load, &node, "flat_fee", WEIR_NOT_NEGATIVE, &tier->flat_fee);
        if (variant == FIRST && weir_read_boolean(load, &node, "flat_fee_at_zero", flat_fee_at_zero)
            && !json_object_get(node.json, "flat_fee"))
            weir_mistake_add(load, &node, WEIR_MISTAKE_MISSING_KEY,
                             "\"flat_fee\" is missing; \"flat_fee_at_zero\" says when it is charged");
    }
}

/* 2. when */

static bool where_allows(const struct weir_meter *meter, uint32_t slot, struct weir_slice text)
{
    for (uint32_t i = 0; i < meter->where_count; i++) {
        const struct weir_where *where = &meter->where[i];
        if (where->slot != slot)
            continue;
        for (uint32_t v = 0; v < where->value_count; v++)
            if (weir_slice_equal(where->values[v], text))
                return true;
        return false;
    }
    return true;
}

static void read_condition(struct weir_catalog_load *load, const struct weir_node *node, struct weir_slice text,
                           struct weir_price *price)
{
    const struct weir_meter *meter = price->meter;
    struct weir_slice name = weir_slice_text(node->name);
    const char *names[WEIR_DIMENSIONS_MAX];
    uint32_t group = 0;
    for (uint32_t i = 0; i < meter->group_count; i++)
        names[i] = meter->groups[i].name.data;
    while (group < meter->group_count && !weir_slice_equal(meter->groups[group].name, name))
        group++;
    if (group == meter->group_count) {
        weir_mistake_add(load, node, WEIR_MISTAKE_NEVER_MATCHES,
                         "this price can never match: %s is not in the group_by of meter \"%s\" (%s)%s",
                         weir_quoted(load, name), meter->key.data,
                         meter->group_count ? weir_words(load, names, meter->group_count) : "it has none",
                         weir_nearest(load, name, names, meter->group_count));
        return;
    }
    if (!where_allows(meter, meter->groups[group].slot, text))
        weir_mistake_add(load, node, WEIR_MISTAKE_NEVER_MATCHES,
                         "this price can never match: the \"where\" of meter \"%s\" lets no %s through",
                         meter->key.data, weir_found(load, node->json));
    price->when[price->when_count++] = (struct weir_when){group, text};
}

static void sort_when(struct weir_price *price)
{
    for (uint32_t i = 1; i < price->when_count; i++) {
        struct weir_when moving = price->when[i];
        uint32_t at = i;
        for (; at > 0; at--) {
            const struct weir_when *before = &price->when[at - 1];
            if (weir_slice_compare(price->meter->groups[before->group].name, price->meter->groups[moving.group].name)
                <= 0)
                break;
            price->when[at] = *before;
        }
        price->when[at] = moving;
    }
}

static char *append_escaped(char *to, struct weir_slice text)
{
    for (uint32_t i = 0; i < text.length; i++) {
        if (text.data[i] && strchr("\\,=]", text.data[i]))
            *to++ = '\\';
        *to++ = text.data[i];
    }
    return to;
}

/* "tokens[model=large,region=eu]" */
static struct weir_slice key_of(struct weir_catalog_load *load, const struct weir_price *price)
{
    const struct weir_meter *meter = price->meter;
    size_t room = meter->key.length + 2;
    for (uint32_t i = 0; i < price->when_count; i++)
        room += 2 * (size_t)(meter->groups[price->when[i].group].name.length + price->when[i].text.length) + 2;
    char *text = weir_arena_take(load->arena, room + 1), *to = text;
    memcpy(to, meter->key.data, meter->key.length);
    to += meter->key.length;
    for (uint32_t i = 0; i < price->when_count; i++) {
        *to++ = i == 0 ? '[' : ',';
        to = append_escaped(to, meter->groups[price->when[i].group].name);
        *to++ = '=';
        to = append_escaped(to, price->when[i].text);
    }
    if (price->when_count)
        *to++ = ']';
    return weir_slice_of(text, (size_t)(to - text));
}

static void read_when(struct weir_catalog_load *load, const struct weir_node *object,
                      const struct weir_meter_draft *meter, struct weir_price *price)
{
    struct weir_node when = weir_node_member(object, "when");
    if (when.json && !json_is_object(when.json)) {
        weir_mistake_add(load, &when, WEIR_MISTAKE_WRONG_TYPE,
                         "found %s; must be an object from dimensions to texts, such as {\"model\":\"large\"}",
                         weir_found(load, when.json));
        return;
    }
    if (when.json && json_object_size(when.json) > WEIR_DIMENSIONS_MAX) {
        weir_mistake_add(load, &when, WEIR_MISTAKE_BAD_VALUE, "found %zu dimensions; at most %d are allowed",
                         json_object_size(when.json), WEIR_DIMENSIONS_MAX);
        return;
    }
    const char *name;
    json_t *value;
    json_object_foreach(when.json, name, value)
    {
        struct weir_node node = weir_node_member(&when, name);
        struct weir_slice text;
        if (weir_read_node_text(load, &node, 0, WEIR_IDENTIFIER_MAX, &text) && meter && !meter->broken)
            read_condition(load, &node, text, price);
    }
}

/* 3. a price */

static void read_amounts(struct weir_catalog_load *load, const struct weir_node *node, struct weir_price *price)
{
    switch (price->model) {
    case WEIR_MODEL_PER_UNIT:
        (void)weir_read_decimal(load, node, "unit_price", WEIR_NOT_NEGATIVE, &price->unit_price);
        break;
    case WEIR_MODEL_GRADUATED:
    case WEIR_MODEL_VOLUME:
        weir_read_tiers(load, node, &price->flat_fee_at_zero, &price->tiers, &price->tier_count);
        break;
    case WEIR_MODEL_PACKAGE:
        (void)weir_read_decimal(load, node, "package_size", WEIR_POSITIVE, &price->package_size);
        (void)weir_read_decimal(load, node, "package_price", WEIR_NOT_NEGATIVE, &price->package_price);
        break;
    case WEIR_MODEL_PERCENTAGE:
        (void)weir_read_decimal(load, node, "rate", WEIR_NOT_NEGATIVE, &price->rate);
        (void)weir_read_decimal(load, node, "fixed_fee", WEIR_NOT_NEGATIVE, &price->fixed_fee);
        break;
    case WEIR_MODEL_FLAT:
        (void)weir_read_decimal(load, node, "amount", WEIR_NOT_NEGATIVE, &price->amount);
        break;
    case WEIR_PRICE_MODEL_COUNT:
        break;
    }
}

bool weir_read_price(struct weir_catalog_load *load, const struct weir_node *node, struct weir_price *ret_price)
{
    static const struct weir_field fields[] = {
        {"meter", WEIR_IN_ALL, WEIR_IN_ALL},
        {"when", WEIR_IN_ALL, 0},
        {"model", WEIR_IN_ALL, WEIR_IN_ALL},
        {"unit_price", PER_UNIT, PER_UNIT},
        {"tiers", GRADUATED | VOLUME, GRADUATED | VOLUME},
        {"package_size", PACKAGE, PACKAGE},
        {"package_price", PACKAGE, PACKAGE},
        {"rate", PERCENTAGE, PERCENTAGE},
        {"fixed_fee", PERCENTAGE, 0},
        {"amount", FLAT, FLAT},
        {"free_units", WEIR_IN_ALL, 0},
        {"minimum_amount", WEIR_IN_ALL, 0},
        {"maximum_amount", WEIR_IN_ALL, 0},
    };
    struct weir_price price = {0};
    unsigned variant = WEIR_IN_ALL, model = WEIR_PRICE_MODEL_COUNT;
    const char *variant_text = "";
    if (json_is_object(node->json)
        && weir_read_choice(load, node, "model", weir_price_model_name, WEIR_PRICE_MODEL_COUNT, &model)) {
        variant = 1u << model;
        variant_text = weir_arena_print(load->scratch, "with model \"%s\"", weir_price_model_name[model]);
    }
    price.model = model;
    if (!weir_read_object(load, node, fields, sizeof fields / sizeof *fields, variant, variant_text)) {
        *ret_price = price;
        return false;
    }
    const struct weir_meter_draft *meter = weir_read_meter(load, node, "meter");
    if (meter)
        price.meter = &load->catalog->meters[meter->meter.index];
    size_t before = load->mistakes.found;
    read_when(load, node, meter, &price);
    bool is_comparable = meter && !meter->broken && load->mistakes.found == before;
    read_amounts(load, node, &price);
    (void)weir_read_decimal(load, node, "free_units", WEIR_NOT_NEGATIVE, &price.free_units);
    price.has_minimum = weir_read_decimal(load, node, "minimum_amount", WEIR_NOT_NEGATIVE, &price.minimum_amount);
    price.has_maximum = weir_read_decimal(load, node, "maximum_amount", WEIR_NOT_NEGATIVE, &price.maximum_amount);
    if (price.has_minimum && price.has_maximum
        && weir_decimal_compare(price.maximum_amount, price.minimum_amount) < 0) {
        struct weir_node maximum = weir_node_member(node, "maximum_amount");
        weir_mistake_add(load, &maximum, WEIR_MISTAKE_OUT_OF_ORDER,
                         "found %s, which is below minimum_amount; it must be at least that",
                         weir_found(load, maximum.json));
    }
    if (price.meter) {
        sort_when(&price);
        price.key = key_of(load, &price);
    }
    *ret_price = price;
    return is_comparable;
}

/* 4. prices among themselves */

static const struct weir_slice *text_for(const struct weir_price *price, uint32_t group)
{
    for (uint32_t i = 0; i < price->when_count; i++)
        if (price->when[i].group == group)
            return &price->when[i].text;
    return NULL;
}

/* Can one split match both? */
static bool can_meet(const struct weir_price *a, const struct weir_price *b)
{
    for (uint32_t i = 0; i < a->when_count; i++) {
        const struct weir_slice *text = text_for(b, a->when[i].group);
        if (text && !weir_slice_equal(*text, a->when[i].text))
            return false;
    }
    return true;
}

/* Is there a more specific price that takes every split which both a and b match? Then they never decide. */
static bool is_settled(const struct weir_price *prices, uint32_t count, const struct weir_price *a,
                       const struct weir_price *b)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct weir_price *other = &prices[i];
        if (other->meter != a->meter || other->when_count <= a->when_count)
            continue;
        uint32_t held = 0;
        for (; held < other->when_count; held++) {
            const struct weir_slice *text = text_for(a, other->when[held].group);
            if (!text)
                text = text_for(b, other->when[held].group);
            if (!text || !weir_slice_equal(*text, other->when[held].text))
                break;
        }
        if (held == other->when_count)
            return true;
    }
    return false;
}

static void report_rival(struct weir_catalog_load *load, const struct weir_node *list, const struct weir_price *prices,
                         const bool comparable[], uint32_t count, uint32_t at)
{
    const struct weir_price *price = &prices[at];
    struct weir_node node = weir_node_element(list, at);
    for (uint32_t i = 0; i < at; i++) {
        const struct weir_price *other = &prices[i];
        if (!comparable[i] || other->meter != price->meter || other->when_count != price->when_count)
            continue;
        if (weir_slice_equal(other->key, price->key)) {
            weir_mistake_add(load, &node, WEIR_MISTAKE_NEVER_MATCHES,
                             "this price can never match: prices[%" PRIu32 "] is for the same meter and \"when\", %s",
                             i, weir_quoted(load, price->key));
            return;
        }
        if (can_meet(other, price) && !is_settled(prices, count, other, price)) {
            weir_mistake_add(load, &node, WEIR_MISTAKE_AMBIGUOUS,
                             "%s and prices[%" PRIu32 "], %s, are equally specific and can match the same usage; let "
                             "one name more dimensions, or add a price that names both",
                             weir_quoted(load, price->key), i, weir_quoted(load, other->key));
            return;
        }
    }
}

/* By meter, then most conditions first, then key: the order that weir_price_for() relies on. */
static int price_compare(const void *left, const void *right)
{
    const struct weir_price *a = left, *b = right;
    if (!a->meter || !b->meter)
        return !b->meter - !a->meter;
    if (a->meter->index != b->meter->index)
        return a->meter->index < b->meter->index ? -1 : 1;
    if (a->when_count != b->when_count)
        return a->when_count > b->when_count ? -1 : 1;
    return weir_slice_compare(a->key, b->key);
}

void weir_prices_settle(struct weir_catalog_load *load, const struct weir_node *list, struct weir_price *prices,
                        const bool comparable[], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (comparable[i])
            report_rival(load, list, prices, comparable, count, i);
    if (count > 1)
        qsort(prices, count, sizeof *prices, price_compare);
}
