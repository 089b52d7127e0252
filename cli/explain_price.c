#include <stdlib.h>
#include <string.h>

#include "cli/explain.h"
#include "common/calendar.h"
#include "rater/fees.h"
#include "rater/price.h"

const char *weir_explain_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

bool weir_explain_is_usage(const json_t *item)
{
    return strcmp(weir_explain_text(item, "kind"), "usage") == 0
           && strcmp(weir_explain_text(item, "component"), weir_component_name[WEIR_COMPONENT_INVOICE_DISCOUNT]) != 0;
}

int64_t weir_explain_time(const json_t *object, const char *name)
{
    int64_t time = 0;

    return weir_time_parse(weir_slice_text(weir_explain_text(object, name)), &time) ? time : 0;
}

struct weir_decimal weir_explain_decimal(const json_t *object, const char *name)
{
    struct weir_decimal value = {0};

    (void)weir_decimal_parse(weir_slice_text(weir_explain_text(object, name)), &value);
    return value;
}

json_t *weir_explain_json_decimal(struct weir_decimal value)
{
    char text[WEIR_DECIMAL_TEXT_MAX];

    weir_decimal_format_short(value, text);
    return json_string(text);
}

json_t *weir_explain_json_slice(struct weir_slice text)
{
    return json_stringn(text.length ? text.data : "", text.length);
}

json_t *weir_explain_json_time(int64_t time)
{
    char text[WEIR_TIME_TEXT_MAX];

    if (time == WEIR_TIME_NEVER)
        return json_null();
    weir_time_format(time, text);
    return json_string(text);
}

/* 1. contract and price */
struct terms {
    const struct weir_contract *contract;
    const struct weir_meter *meter;
    const struct weir_price_book_version *version;
    const struct weir_price *price; /* identity */
    struct weir_price effective;    /* after the override */
    struct weir_tier tiers[WEIR_TIERS_MAX];
    const struct weir_override *override;
    struct weir_discount_list discounts; /* on this price */
};

static const struct weir_price *price_of(const struct terms *terms, const json_t *dimensions)
{
    struct weir_slice texts[WEIR_DIMENSIONS_MAX];

    for (uint32_t i = 0; i < terms->meter->group_count; i++) {
        struct weir_slice name = terms->meter->groups[i].name;
        const json_t *value = json_object_getn(dimensions, name.data, name.length);
        texts[i] = weir_slice_of(json_string_value(value), json_string_length(value));
    }
    return weir_price_for(terms->version, terms->meter, texts);
}

/* What the catalog says of the item; false: not what the row says. */
static bool find_terms(const struct weir_explain *explain, const json_t *item, struct terms *terms)
{
    int64_t start = weir_explain_time(item, "window_start");
    struct weir_slice customer = weir_slice_text(weir_explain_text(item, "customer"));

    if (!explain->catalog)
        return false;
    terms->contract = weir_catalog_contract_at(explain->catalog, customer, start);
    if (!terms->contract
        || !weir_slice_equal(terms->contract->key, weir_slice_text(weir_explain_text(item, "contract"))))
        return false;
    terms->version = weir_price_book_at(terms->contract->book, start);
    if (!terms->version
        || terms->version->version != (uint32_t)json_integer_value(json_object_get(item, "price_book_version")))
        return false;
    if (!weir_explain_is_usage(item))
        return true;
    terms->meter = weir_catalog_meter(explain->catalog, weir_slice_text(weir_explain_text(item, "meter")));
    terms->price = terms->meter ? price_of(terms, json_object_get(item, "dimensions")) : NULL;
    if (!terms->price)
        return false;
    terms->effective = *terms->price;
    for (uint32_t i = 0; i < terms->contract->override_count && !terms->override; i++)
        if (terms->contract->overrides[i].meter == terms->meter)
            terms->override = &terms->contract->overrides[i];
    if (terms->override
        && !weir_price_override(terms->price, terms->override->multiplier, terms->tiers, &terms->effective))
        return false;
    weir_discounts_of(terms->contract, terms->meter, weir_explain_time(item, "period_start"), &terms->discounts);
    terms->effective.discounts = terms->discounts.count ? &terms->discounts : NULL;
    return true;
}

/* null: the terms that the contract begins with. */
static json_t *json_phase(const struct weir_contract *contract)
{
    if (contract->phase == 0)
        return json_null();
    json_t *object = json_object();
    json_object_set_new(object, "phase", weir_explain_json_slice(contract->phase_key));
    json_object_set_new(object, "starts_at", weir_explain_json_time(contract->starts_at));
    json_object_set_new(object, "reason",
                        contract->reason.length ? weir_explain_json_slice(contract->reason) : json_null());
    return object;
}

static json_t *json_contract(const struct terms *terms)
{
    const struct weir_contract *contract = terms->contract;
    char anchor[WEIR_ANCHOR_TEXT_MAX];
    json_t *object = json_object();

    json_object_set_new(object, "contract", weir_explain_json_slice(contract->key));
    json_object_set_new(object, "customer", weir_explain_json_slice(contract->customer));
    json_object_set_new(object, "price_book", weir_explain_json_slice(contract->book->key));
    json_object_set_new(object, "starts_at",
                        contract->key.length ? weir_explain_json_time(contract->whole_starts_at) : json_null());
    json_object_set_new(object, "ends_at", weir_explain_json_time(contract->whole_ends_at));
    json_object_set_new(object, "phase", json_phase(contract));
    json_object_set_new(object, "billing_period", json_string(weir_billing_period_name[contract->billing_period]));
    weir_anchor_format(contract->billing_period, contract->billing_anchor, anchor);
    json_object_set_new(object, "billing_anchor", *anchor ? json_string(anchor) : json_null());
    json_object_set_new(object, "timezone", weir_explain_json_slice(contract->timezone));
    json_object_set_new(object, "multiplier",
                        terms->override ? weir_explain_json_decimal(terms->override->multiplier) : json_null());
    return object;
}

static json_t *json_tiers(const struct weir_price *price)
{
    json_t *tiers = json_array();

    for (uint32_t i = 0; i < price->tier_count; i++) {
        const struct weir_tier *tier = &price->tiers[i];
        json_t *object = json_object();
        json_object_set_new(object, "tier", json_integer(i + 1));
        json_object_set_new(object, "up_to", tier->has_up_to ? weir_explain_json_decimal(tier->up_to) : json_null());
        json_object_set_new(object, "unit_price", weir_explain_json_decimal(tier->unit_price));
        json_object_set_new(object, "flat_fee", weir_explain_json_decimal(tier->flat_fee));
        json_array_append_new(tiers, object);
    }
    return tiers;
}

static json_t *json_discounts(const struct weir_discount_list *list)
{
    json_t *discounts = json_array();

    for (uint32_t i = 0; i < list->count; i++) {
        const struct weir_discount *discount = list->discounts[i];
        json_t *object = json_object();
        json_object_set_new(object, "discount", weir_explain_json_slice(discount->key));
        json_object_set_new(object, "type", json_string(weir_discount_type_name[discount->type]));
        if (discount->type == WEIR_DISCOUNT_PERCENTAGE)
            json_object_set_new(object, "rate", weir_explain_json_decimal(discount->rate));
        else
            json_object_set_new(object, "amount", weir_explain_json_decimal(discount->amount));
        json_array_append_new(discounts, object);
    }
    return discounts;
}

/* The price as this contract pays it; only what its model has. */
static json_t *json_price(const struct terms *terms)
{
    const struct weir_price *price = &terms->effective;
    json_t *object = json_object();
    const struct {
        const char *name;
        bool is_there;
        struct weir_decimal value;
    } parts[] = {
        {"unit_price", price->model == WEIR_MODEL_PER_UNIT, price->unit_price},
        {"package_size", price->model == WEIR_MODEL_PACKAGE, price->package_size},
        {"package_price", price->model == WEIR_MODEL_PACKAGE, price->package_price},
        {"rate", price->model == WEIR_MODEL_PERCENTAGE, price->rate},
        {"fixed_fee", price->model == WEIR_MODEL_PERCENTAGE, price->fixed_fee},
        {"amount", price->model == WEIR_MODEL_FLAT, price->amount},
        {"free_units", !weir_decimal_is_zero(price->free_units), price->free_units},
        {"minimum_amount", price->has_minimum, price->minimum_amount},
        {"maximum_amount", price->has_maximum, price->maximum_amount},
    };

    json_object_set_new(object, "price", weir_explain_json_slice(terms->price->key));
    json_object_set_new(object, "model", json_string(weir_price_model_name[price->model]));
    json_object_set_new(object, "effective_from", weir_explain_json_time(terms->version->effective_from));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].is_there)
            json_object_set_new(object, parts[i].name, weir_explain_json_decimal(parts[i].value));
    if (price->tier_count)
        json_object_set_new(object, "tiers", json_tiers(price));
    if (price->discounts)
        json_object_set_new(object, "discounts", json_discounts(price->discounts));
    return object;
}

/* 2. arithmetic */

/* What the ledger holds of the price, by component and tier, before and after the charge. */
struct sums {
    struct weir_charge_list before, after;
    struct weir_decimal quantity_before, quantity_after;
    uint64_t events_before, events_after; /* where a fee per event tells them */
};

static bool component_of(const char *name, enum weir_component *ret_component)
{
    for (int i = 0; i < WEIR_COMPONENT_COUNT; i++)
        if (strcmp(weir_component_name[i], name) == 0) {
            *ret_component = (enum weir_component)i;
            return true;
        }
    return false;
}

static struct weir_charge *charge_at(struct weir_charge_list *list, enum weir_component component, uint32_t tier)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->charges[i].component == component && list->charges[i].tier == tier)
            return &list->charges[i];
    if (list->count == WEIR_CHARGES_MAX)
        return NULL;
    list->charges[list->count] = (struct weir_charge){.component = component, .tier = tier};
    return &list->charges[list->count++];
}

static bool add_running(struct weir_charge_list *list, enum weir_component component, const json_t *row,
                        const char *quantity, const char *amount, struct weir_decimal *total)
{
    struct weir_charge *charge = charge_at(list, component, (uint32_t)json_integer_value(json_object_get(row, "tier")));
    struct weir_decimal value = weir_explain_decimal(row, quantity);

    return charge && weir_decimal_add(charge->quantity, value, &charge->quantity)
           && weir_decimal_add(*total, value, total)
           && weir_decimal_add(charge->amount, weir_explain_decimal(row, amount), &charge->amount);
}

/* Fixed fees are a whole number of times the fee. */
static uint64_t events_of(const struct terms *terms, struct weir_charge_list *list)
{
    struct weir_decimal fee = terms->effective.fixed_fee;
    const struct weir_charge *charge = charge_at(list, WEIR_COMPONENT_FIXED_FEE, 1);

    return terms->effective.model == WEIR_MODEL_PERCENTAGE && fee.e12 > 0 && charge
               ? (uint64_t)(charge->amount.e12 / fee.e12)
               : 0;
}

static bool add_up(const struct terms *terms, const json_t *running, struct sums *sums)
{
    size_t index;
    json_t *row;

    json_array_foreach(running, index, row)
    {
        enum weir_component component;
        if (price_of(terms, json_object_get(row, "dimensions")) != terms->price)
            continue;
        if (!component_of(weir_explain_text(row, "component"), &component)
            || !add_running(&sums->before, component, row, "quantity_before", "amount_before", &sums->quantity_before)
            || !add_running(&sums->after, component, row, "quantity_after", "amount_after", &sums->quantity_after))
            return false;
    }
    sums->events_before = events_of(terms, &sums->before);
    sums->events_after = events_of(terms, &sums->after);
    return true;
}

static bool is_nothing(const struct weir_charge_list *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->charges[i].amount.e12 || list->charges[i].quantity.e12)
            return false;
    return true;
}

/* Whether the ledger's running totals are what the price says of the quantity. */
static bool agrees(struct weir_charge_list *ledger, struct weir_charge_list *priced)
{
    for (int pass = 0; pass < 2; pass++) {
        struct weir_charge_list *from = pass ? priced : ledger, *to = pass ? ledger : priced;
        for (uint32_t i = 0; i < from->count; i++) {
            const struct weir_charge *other = charge_at(to, from->charges[i].component, from->charges[i].tier);
            if (!other || other->amount.e12 != from->charges[i].amount.e12)
                return false;
        }
    }
    return true;
}

static const char *rule_of(enum weir_component component, enum weir_price_model model)
{
    switch (component) {
    case WEIR_COMPONENT_FREE_UNITS:
        return "units that cost nothing, up to free_units of the period";
    case WEIR_COMPONENT_UNITS:
        return model == WEIR_MODEL_GRADUATED    ? "the period's units within this tier x its unit_price"
               : model == WEIR_MODEL_VOLUME     ? "all of the period's units x the unit_price of the tier they fall in"
               : model == WEIR_MODEL_PERCENTAGE ? "the period's quantity x rate"
                                                : "the period's units x unit_price";
    case WEIR_COMPONENT_FLAT_FEE:
        return "the tier's flat_fee, once in a period";
    case WEIR_COMPONENT_PACKAGE:
        return "packages begun in the period x package_price";
    case WEIR_COMPONENT_FIXED_FEE:
        return "the period's events x fixed_fee";
    case WEIR_COMPONENT_FLAT:
        return "the amount, once in a period with usage";
    case WEIR_COMPONENT_DISCOUNT:
        return "what the contract's discounts take off the price";
    case WEIR_COMPONENT_MINIMUM:
        return "what the price is short of minimum_amount";
    case WEIR_COMPONENT_MAXIMUM:
        return "what the price is above maximum_amount, taken off";
    case WEIR_COMPONENT_INVOICE_DISCOUNT:
        return "what discounts on the whole invoice take off this item, less what they took before";
    case WEIR_COMPONENT_FEE:
        return "the fee, for as many as the period has of it, and the share of a period that is cut";
    case WEIR_COMPONENT_TRUE_UP:
        return "what the period's usage is short of the minimum spend";
    case WEIR_COMPONENT_SHORTFALL:
        return "what is missing to the minimum quantity, charged as if it had been used";
    case WEIR_COMPONENT_DRAWDOWN:
        return "what the grant covers of the meter's usage, up to what was left of it";
    case WEIR_COMPONENT_OVERAGE:
        return "usage that no grant covers x (overage_multiplier - 1)";
    case WEIR_COMPONENT_COUNT:
        break;
    }
    return "";
}

static json_t *json_arithmetic(const struct terms *terms, const json_t *item, struct sums *sums)
{
    struct weir_charge_list *before = weir_new(sizeof *before), *after = weir_new(sizeof *after);
    enum weir_component component = WEIR_COMPONENT_UNITS;
    json_t *object = json_object();

    (void)component_of(weir_explain_text(item, "component"), &component);
    uint32_t tier = (uint32_t)json_integer_value(json_object_get(item, "tier"));
    const struct weir_charge *was = charge_at(&sums->before, component, tier);
    const struct weir_charge *is = charge_at(&sums->after, component, tier);
    struct weir_decimal difference = {0};
    if (was && is)
        (void)weir_decimal_subtract(is->amount, was->amount, &difference);
    /* A price that was never evaluated has charged nothing, not even its flat fee at zero. */
    bool is_right = weir_price_charges(&terms->effective, sums->quantity_after, sums->events_after, after)
                    && agrees(&sums->after, after);
    if (is_right && !is_nothing(&sums->before))
        is_right = weir_price_charges(&terms->effective, sums->quantity_before, sums->events_before, before)
                   && agrees(&sums->before, before);
    json_object_set_new(object, "rule", json_string(rule_of(component, terms->effective.model)));
    json_object_set_new(object, "quantity_before", weir_explain_json_decimal(sums->quantity_before));
    json_object_set_new(object, "quantity_after", weir_explain_json_decimal(sums->quantity_after));
    if (was && is) {
        json_object_set_new(object, "amount_before", weir_explain_json_decimal(was->amount));
        json_object_set_new(object, "amount_after", weir_explain_json_decimal(is->amount));
    }
    json_object_set_new(object, "difference", weir_explain_json_decimal(difference));
    json_object_set_new(object, "is_line_items_amount",
                        json_boolean(difference.e12 == weir_explain_decimal(item, "amount").e12));
    json_object_set_new(object, "is_price_of_quantity", json_boolean(is_right));
    free(before);
    free(after);
    return object;
}

/* 3. fees and true-ups */

struct wanted_piece {
    struct weir_fee_piece piece;
    bool is_found;
};

static bool look_at_piece(void *context, const struct weir_fee_piece *piece)
{
    struct wanted_piece *wanted = context;

    wanted->is_found = wanted->is_found
                       || (piece->start == wanted->piece.start && piece->quantity.e12 == wanted->piece.quantity.e12
                           && piece->amount.e12 == wanted->piece.amount.e12);
    return true;
}

/* A later line is what the fee comes to less what was charged before: nothing is said of that. */
static void explain_fee(const struct terms *terms, const struct weir_fee *fee, const json_t *item, json_t *object)
{
    struct wanted_piece wanted = {
        .piece = {.start = weir_explain_time(item, "window_start"),
                  .quantity = weir_explain_decimal(item, "quantity"),
                  .amount = weir_explain_decimal(item, "amount")},
    };

    json_object_set_new(object, "fee", weir_explain_json_decimal(fee->amount));
    json_object_set_new(object, "per", json_string(fee->is_per_unit ? "unit" : weir_fee_per_name[fee->per]));
    json_object_set_new(object, "charged",
                        json_string(fee->charged == WEIR_FEE_IN_ADVANCE ? "in_advance" : "in_arrears"));
    json_object_set_new(object, "proration", json_string(weir_proration_name[fee->proration]));
    if (json_integer_value(json_object_get(item, "revision")) > 1)
        return;
    (void)weir_fee_pieces(terms->contract, fee, weir_explain_time(item, "period_start"),
                          weir_explain_time(item, "period_end"), look_at_piece, &wanted);
    json_object_set_new(object, "is_line_items_amount", json_boolean(wanted.is_found));
}

/* Of the period, or of the term that ends with it. */
static void explain_true_up(const struct weir_commitment *commitment, const json_t *root, struct weir_decimal amount,
                            json_t *object)
{
    const json_t *sums = commitment->is_per_term ? json_object_get(json_object_get(root, "term"), "minimum_spend")
                                                 : json_object_get(root, "period");
    struct weir_decimal usage = weir_explain_decimal(sums, "usage_before"), short_of = {0}, change = {0};
    json_t *before = json_object_get(sums, "true_up_before");

    if (commitment->is_per_term)
        json_object_set_new(object, "rule",
                            json_string("what the usage of the whole term is short of its minimum "
                                        "spend"));
    json_object_set_new(object, "minimum_spend", weir_explain_json_decimal(commitment->amount));
    json_object_set_new(object, "usage_before", weir_explain_json_decimal(usage));
    json_object_set_new(object, "true_up_before", before ? json_copy(before) : json_null());
    (void)weir_decimal_subtract(commitment->amount, usage, &short_of);
    short_of.e12 = short_of.e12 < 0 ? 0 : short_of.e12;
    (void)weir_decimal_subtract(short_of, weir_explain_decimal(sums, "true_up_before"), &change);
    json_object_set_new(object, "is_line_items_amount", json_boolean(change.e12 == amount.e12));
}

static json_t *json_fee_or_true_up(const struct terms *terms, const json_t *root, const json_t *item)
{
    struct weir_slice key = weir_slice_text(weir_explain_text(item, "item"));
    json_t *object = json_object();
    bool is_true_up = strcmp(weir_explain_text(item, "kind"), "true_up") == 0;

    json_object_set_new(object, "rule",
                        json_string(rule_of(is_true_up ? WEIR_COMPONENT_TRUE_UP : WEIR_COMPONENT_FEE, 0)));
    if (is_true_up)
        json_object_set_new(object, "is_line_items_amount", json_false());
    for (uint32_t i = 0; !is_true_up && i < terms->version->fee_count; i++)
        if (weir_slice_equal(terms->version->fees[i].key, key))
            explain_fee(terms, &terms->version->fees[i], item, object);
    for (uint32_t i = 0; is_true_up && i < terms->contract->commitment_count; i++)
        if (weir_slice_equal(terms->contract->commitments[i].key, key))
            explain_true_up(&terms->contract->commitments[i], root, weir_explain_decimal(item, "amount"), object);
    return object;
}

/* What the line item alone does not tell: it depends on all of the period's prices, or of the customer's grants. */
static json_t *json_rule_alone(const char *rule)
{
    json_t *object = json_object();

    json_object_set_new(object, "rule", json_string(rule));
    json_object_set_new(object, "is_line_items_amount", json_null());
    return object;
}

static const char *shortfall_rule(const struct weir_contract *contract, struct weir_slice key)
{
    for (uint32_t i = 0; i < contract->commitment_count; i++)
        if (weir_commitment_is_term_quantity(&contract->commitments[i])
            && weir_slice_equal(contract->commitments[i].key, key))
            return "what the usage of the whole term is short of its minimum quantity, charged as if it had been used "
                   "in the term's last period";
    return rule_of(WEIR_COMPONENT_SHORTFALL, 0);
}

static json_t *json_purchase(const struct weir_commitment *commitment, struct weir_decimal amount)
{
    json_t *object = json_object();

    json_object_set_new(object, "rule", json_string("the prepaid amount's price, in the period in which it starts"));
    json_object_set_new(object, "price", weir_explain_json_decimal(commitment->price));
    json_object_set_new(object, "is_line_items_amount", json_boolean(commitment->price.e12 == amount.e12));
    return object;
}

static json_t *json_period_arithmetic(const struct terms *terms, const json_t *root, const json_t *item)
{
    enum weir_component component = WEIR_COMPONENT_FEE;

    (void)component_of(weir_explain_text(item, "component"), &component);
    if (component == WEIR_COMPONENT_SHORTFALL)
        return json_rule_alone(shortfall_rule(terms->contract, weir_slice_text(weir_explain_text(item, "item"))));
    if ((component != WEIR_COMPONENT_FEE && component != WEIR_COMPONENT_TRUE_UP)
        || (component == WEIR_COMPONENT_TRUE_UP && terms->contract->has_minimum_quantity))
        return json_rule_alone(rule_of(component, 0));
    for (uint32_t i = 0; component == WEIR_COMPONENT_FEE && i < terms->contract->commitment_count; i++)
        if (weir_commitment_grants(&terms->contract->commitments[i], weir_slice_text(weir_explain_text(item, "item"))))
            return json_purchase(&terms->contract->commitments[i], weir_explain_decimal(item, "amount"));
    return json_fee_or_true_up(terms, root, item);
}

void weir_explain_price(struct weir_explain *explain)
{
    const json_t *item = json_object_get(explain->root, "item");
    struct terms *terms = weir_new(sizeof *terms);
    struct sums *sums = weir_new(sizeof *sums);

    if (find_terms(explain, item, terms)) {
        json_object_set_new(explain->root, "contract", json_contract(terms));
        if (!terms->price)
            json_object_set_new(explain->root, "arithmetic", json_period_arithmetic(terms, explain->root, item));
        else if (add_up(terms, json_object_get(explain->root, "running"), sums)) {
            json_object_set_new(explain->root, "price", json_price(terms));
            json_object_set_new(explain->root, "arithmetic", json_arithmetic(terms, item, sums));
        }
    }
    free(terms);
    free(sums);
}
