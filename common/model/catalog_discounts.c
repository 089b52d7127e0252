/* $.contracts[*].discounts and $.price_books[*].discounts: what is taken off prices, in the order of the list. */
#include "common/model/catalog_internal.h"

#define WEIR_X(upper, lower) [WEIR_DISCOUNT_##upper] = #lower,
const char *const weir_discount_type_name[WEIR_DISCOUNT_TYPE_COUNT] = {WEIR_DISCOUNT_TYPES(WEIR_X)};
#undef WEIR_X

static void read_meters(struct weir_catalog_load *load, const struct weir_node *object, struct weir_discount *discount)
{
    struct weir_node list;
    if (!weir_read_list(load, object, "meters", 1, WEIR_METERS_MAX, &list))
        return;
    size_t count = json_array_size(list.json);
    discount->meters = weir_arena_take_array(load->arena, count, sizeof *discount->meters);
    for (size_t i = 0; i < count; i++) {
        struct weir_node node = weir_node_element(&list, i);
        const struct weir_meter_draft *draft = weir_read_node_meter(load, &node);
        if (!draft)
            continue;
        const struct weir_meter *meter = &load->catalog->meters[draft->meter.index];
        for (uint32_t other = 0; other < discount->meter_count; other++)
            if (discount->meters[other] == meter)
                weir_mistake_add(load, &node, WEIR_MISTAKE_DUPLICATE, "meter \"%s\" stands here twice",
                                 meter->key.data);
        discount->meters[discount->meter_count++] = meter;
    }
}

static void read_rate(struct weir_catalog_load *load, const struct weir_node *node, struct weir_discount *discount)
{
    struct weir_node rate = weir_node_member(node, "rate");
    if (weir_read_decimal(load, node, "rate", WEIR_POSITIVE, &discount->rate)
        && weir_decimal_compare(discount->rate, weir_decimal_of(1)) > 0)
        weir_mistake_add(load, &rate, WEIR_MISTAKE_NOT_REPRESENTABLE,
                         "found %s; must be at most \"1\", which takes all off (\"0.15\" is 15 %%)",
                         weir_found(load, rate.json));
}

static void read_time_span(struct weir_catalog_load *load, const struct weir_node *node, struct weir_discount *discount)
{
    struct weir_node ends_at = weir_node_member(node, "ends_at");
    bool has_start = weir_read_time(load, node, "starts_at", WEIR_WHOLE_SECONDS, &discount->starts_at);
    if (!ends_at.json || json_is_null(ends_at.json)
        || !weir_read_time(load, node, "ends_at", WEIR_WHOLE_SECONDS, &discount->ends_at))
        return;
    if (has_start && discount->ends_at <= discount->starts_at)
        weir_mistake_add(load, &ends_at, WEIR_MISTAKE_OUT_OF_ORDER,
                         "found %s, which is not after starts_at; must be later, or null for an open end",
                         weir_found(load, ends_at.json));
}

static void read_discount(struct weir_catalog_load *load, const struct weir_node *node, struct weir_discount *discount)
{
    enum { ON_INVOICE = WEIR_DISCOUNT_TYPE_COUNT }; /* types off each price first, then those off the invoice */
    enum {
        RATE = 1 << WEIR_DISCOUNT_PERCENTAGE | 1 << (WEIR_DISCOUNT_PERCENTAGE + ON_INVOICE),
        AMOUNT = 1 << WEIR_DISCOUNT_AMOUNT | 1 << (WEIR_DISCOUNT_AMOUNT + ON_INVOICE),
        PRICES = 1 << WEIR_DISCOUNT_PERCENTAGE | 1 << WEIR_DISCOUNT_AMOUNT,
    };
    static const char *const targets[] = {"prices", "invoice"};
    static const struct weir_field fields[] = {
        {"key", WEIR_IN_ALL, WEIR_IN_ALL}, {"type", WEIR_IN_ALL, WEIR_IN_ALL},
        {"applies_to", WEIR_IN_ALL, 0},    {"rate", RATE, RATE},
        {"amount", AMOUNT, AMOUNT},        {"meters", PRICES, 1 << WEIR_DISCOUNT_AMOUNT},
        {"starts_at", WEIR_IN_ALL, 0},     {"ends_at", WEIR_IN_ALL, 0},
    };
    unsigned variant = WEIR_IN_ALL, choice;
    const char *variant_text = "";
    *discount = (struct weir_discount){.ends_at = WEIR_TIME_NEVER};
    if (json_is_object(node->json)
        && weir_read_choice(load, node, "type", weir_discount_type_name, WEIR_DISCOUNT_TYPE_COUNT, &choice)) {
        discount->type = choice;
        if (json_object_get(node->json, "applies_to")
            && weir_read_choice(load, node, "applies_to", targets, 2, &choice))
            discount->is_on_invoice = choice == 1;
        variant = 1u << (discount->is_on_invoice ? discount->type + ON_INVOICE : discount->type);
        variant_text = weir_arena_print(load->scratch, "with type \"%s\"%s", weir_discount_type_name[discount->type],
                                        discount->is_on_invoice ? " off the invoice" : "");
    }
    if (!weir_read_object(load, node, fields, sizeof fields / sizeof *fields, variant, variant_text))
        return;
    (void)weir_read_key(load, node, "key", &discount->key);
    if (variant & RATE)
        read_rate(load, node, discount);
    if (variant & AMOUNT)
        (void)weir_read_decimal(load, node, "amount", WEIR_POSITIVE, &discount->amount);
    read_meters(load, node, discount);
    read_time_span(load, node, discount);
}

void weir_read_discounts(struct weir_catalog_load *load, const struct weir_node *object,
                         struct weir_discount **ret_discounts, uint32_t *ret_count)
{
    struct weir_node list;
    if (!weir_read_list(load, object, "discounts", 0, WEIR_DISCOUNTS_MAX, &list))
        return;
    size_t count = json_array_size(list.json);
    struct weir_discount *discounts = weir_arena_take_array(load->arena, count, sizeof *discounts);
    *ret_discounts = discounts;
    *ret_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        struct weir_node node = weir_node_element(&list, i);
        struct weir_discount *discount = &discounts[i];
        read_discount(load, &node, discount);
        for (size_t other = 0; other < i && discount->key.length; other++) {
            if (!weir_slice_equal(discounts[other].key, discount->key))
                continue;
            weir_mistake_add(load, &node, WEIR_MISTAKE_DUPLICATE,
                             "\"%s\" is already the key of discounts[%zu]; each needs its own", discount->key.data,
                             other);
            break;
        }
    }
}

static bool has_on_invoice(const struct weir_discount *discounts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (discounts[i].is_on_invoice)
            return true;
    return false;
}

void weir_catalog_note_invoice_discounts(struct weir_contract *contract)
{
    contract->has_invoice_discounts =
        contract->has_own_discounts && has_on_invoice(contract->discounts, contract->discount_count);
    for (uint32_t i = 0; !contract->has_own_discounts && i < contract->book->version_count; i++)
        contract->has_invoice_discounts |=
            has_on_invoice(contract->book->versions[i].discounts, contract->book->versions[i].discount_count);
}

const struct weir_discount *weir_contract_discounts(const struct weir_contract *contract, int64_t period_start,
                                                    uint32_t *ret_count)
{
    const struct weir_price_book_version *version;

    if (contract->has_own_discounts) {
        *ret_count = contract->discount_count;
        return contract->discount_count ? contract->discounts : NULL;
    }
    version = weir_price_book_at(contract->book, period_start);
    *ret_count = version ? version->discount_count : 0;
    return *ret_count ? version->discounts : NULL;
}
