#include "rater/price.h"

/* Multiplies one decimal in place; false: overflow. */
static bool scale_by(struct weir_decimal *value, struct weir_decimal multiplier)
{
    return weir_decimal_multiply(*value, multiplier, value);
}

bool weir_price_override(const struct weir_price *price, struct weir_decimal multiplier, struct weir_tier *tiers,
                         struct weir_price *ret_price)
{
    struct weir_price scaled = *price;

    for (uint32_t i = 0; i < price->tier_count; i++) {
        tiers[i] = price->tiers[i];
        if (!scale_by(&tiers[i].unit_price, multiplier) || !scale_by(&tiers[i].flat_fee, multiplier))
            return false;
    }
    scaled.tiers = tiers;
    if (!scale_by(&scaled.unit_price, multiplier) || !scale_by(&scaled.package_price, multiplier)
        || !scale_by(&scaled.rate, multiplier) || !scale_by(&scaled.fixed_fee, multiplier)
        || !scale_by(&scaled.amount, multiplier))
        return false;
    *ret_price = scaled;
    return true;
}

/* What the model functions share: the price, and how its quantity divides. */
struct pricing {
    const struct weir_price *price;
    struct weir_decimal billable;  /* B: what is priced, never negative */
    struct weir_decimal remainder; /* Q - free units used: what the quantities of the components must add up to */
    uint64_t events;
    const struct weir_charge_list *before;
    struct weir_charge_list *list;
};

/* Written in place: a charge that is put together on the stack and copied is waited for. */
static struct weir_charge *next_charge(struct weir_charge_list *list, enum weir_component component, uint32_t tier)
{
    weir_check(list->count < WEIR_CHARGES_MAX);
    struct weir_charge *charge = &list->charges[list->count++];
    charge->component = component;
    charge->tier = tier;
    return charge;
}

static struct weir_charge *next_units(struct weir_charge_list *list, enum weir_component component, uint32_t tier,
                                      struct weir_decimal quantity, struct weir_decimal unit_price)
{
    struct weir_charge *charge = next_charge(list, component, tier);

    charge->quantity = quantity;
    charge->has_unit_price = true;
    charge->unit_price = unit_price;
    return charge;
}

/* units x price as one charge; the quantity shown may differ from the units priced only below zero. */
static bool add_units(struct weir_charge_list *list, enum weir_component component, uint32_t tier,
                      struct weir_decimal quantity, struct weir_decimal units, struct weir_decimal unit_price)
{
    struct weir_charge *charge = next_units(list, component, tier, quantity, unit_price);

    return weir_decimal_multiply(units, unit_price, &charge->amount);
}

/* A tier that is full, as most are: if it was full before, its amount is known. */
static bool add_full_tier(struct pricing *p, uint32_t tier, struct weir_decimal units, struct weir_decimal unit_price)
{
    uint32_t at = p->list->count;
    struct weir_charge *charge = next_units(p->list, WEIR_COMPONENT_UNITS, tier, units, unit_price);
    const struct weir_charge *known = p->before && at < p->before->count ? &p->before->charges[at] : NULL;

    /* Units above zero are shown as they are priced. */
    if (!known || known->component != WEIR_COMPONENT_UNITS || known->tier != tier
        || !weir_decimal_equal(known->quantity, units) || !weir_decimal_equal(known->unit_price, unit_price))
        return weir_decimal_multiply(units, unit_price, &charge->amount);
    charge->amount = known->amount;
    return true;
}

static void add_without_price(struct weir_charge_list *list, enum weir_component component, uint32_t tier,
                              struct weir_decimal quantity, struct weir_decimal amount)
{
    struct weir_charge *charge = next_charge(list, component, tier);

    charge->quantity = quantity;
    charge->amount = amount;
    charge->has_unit_price = false;
    charge->unit_price = (struct weir_decimal){0};
}

static void add_amount(struct weir_charge_list *list, enum weir_component component, uint32_t tier,
                       struct weir_decimal amount)
{
    if (!weir_decimal_is_zero(amount))
        add_without_price(list, component, tier, (struct weir_decimal){0}, amount);
}

static bool charge_per_unit(struct pricing *p)
{
    return add_units(p->list, WEIR_COMPONENT_UNITS, 1, p->remainder, p->billable, p->price->unit_price);
}

static bool charge_graduated(struct pricing *p)
{
    struct weir_decimal lower = {0};

    for (uint32_t i = 0; i < p->price->tier_count; i++) {
        const struct weir_tier *tier = &p->price->tiers[i];
        bool is_last = !tier->has_up_to || weir_decimal_compare(p->billable, tier->up_to) <= 0;
        struct weir_decimal units;
        if (!weir_decimal_subtract(is_last ? p->billable : tier->up_to, lower, &units))
            return false;
        if (is_last) {
            /* A total below zero stands in tier 1, priced as zero. */
            struct weir_decimal shown = weir_decimal_is_zero(p->billable) ? p->remainder : units;
            if (!add_units(p->list, WEIR_COMPONENT_UNITS, i + 1, shown, units, tier->unit_price))
                return false;
            break;
        }
        if (!add_full_tier(p, i + 1, units, tier->unit_price))
            return false;
        lower = tier->up_to;
    }
    lower = (struct weir_decimal){0};
    for (uint32_t i = 0; i < p->price->tier_count; i++) {
        const struct weir_tier *tier = &p->price->tiers[i];
        if (weir_decimal_compare(p->billable, lower) > 0 || (i == 0 && p->price->flat_fee_at_zero))
            add_amount(p->list, WEIR_COMPONENT_FLAT_FEE, i + 1, tier->flat_fee);
        lower = tier->up_to;
        if (!tier->has_up_to)
            break;
    }
    return true;
}

static bool charge_volume(struct pricing *p)
{
    uint32_t i = 0;

    while (p->price->tiers[i].has_up_to && weir_decimal_compare(p->billable, p->price->tiers[i].up_to) > 0)
        i++;
    weir_check(i < p->price->tier_count);
    const struct weir_tier *tier = &p->price->tiers[i];
    if (!add_units(p->list, WEIR_COMPONENT_UNITS, i + 1, p->remainder, p->billable, tier->unit_price))
        return false;
    if (p->billable.e12 > 0 || p->price->flat_fee_at_zero)
        add_amount(p->list, WEIR_COMPONENT_FLAT_FEE, i + 1, tier->flat_fee);
    return true;
}

static bool charge_package(struct pricing *p)
{
    struct weir_decimal blocks;

    return weir_decimal_blocks(p->billable, p->price->package_size, &blocks)
           && add_units(p->list, WEIR_COMPONENT_PACKAGE, 1, p->remainder, blocks, p->price->package_price);
}

static bool charge_percentage(struct pricing *p)
{
    struct weir_decimal fees;

    if (!add_units(p->list, WEIR_COMPONENT_UNITS, 1, p->remainder, p->billable, p->price->rate)
        || !weir_decimal_scale(p->price->fixed_fee, p->events, &fees))
        return false;
    add_amount(p->list, WEIR_COMPONENT_FIXED_FEE, 1, fees);
    return true;
}

static bool charge_flat(struct pricing *p)
{
    bool is_used = p->billable.e12 > 0;

    add_without_price(p->list, WEIR_COMPONENT_FLAT, 1, p->remainder,
                      is_used ? p->price->amount : (struct weir_decimal){0});
    return true;
}

static bool sum_amounts(const struct weir_charge_list *list, struct weir_decimal *ret_sum)
{
    struct weir_decimal sum = {0};

    for (uint32_t i = 0; i < list->count; i++)
        if (!weir_decimal_add(sum, list->charges[i].amount, &sum))
            return false;
    *ret_sum = sum;
    return true;
}

void weir_discounts_of(const struct weir_contract *contract, const struct weir_meter *meter, int64_t period_start,
                       struct weir_discount_list *ret_list)
{
    uint32_t count;
    const struct weir_discount *discounts = weir_contract_discounts(contract, period_start, &count);

    ret_list->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct weir_discount *discount = &discounts[i];
        bool is_for = discount->meter_count == 0 && !discount->is_on_invoice;
        for (uint32_t m = 0; m < discount->meter_count; m++)
            is_for = is_for || discount->meters[m] == meter;
        if (is_for && period_start >= discount->starts_at && period_start < discount->ends_at)
            ret_list->discounts[ret_list->count++] = discount;
    }
}

bool weir_discount_amount(const struct weir_discount *discount, struct weir_decimal amount,
                          struct weir_decimal *ret_taken)
{
    if (discount->type == WEIR_DISCOUNT_PERCENTAGE)
        return weir_decimal_multiply(amount, discount->rate, ret_taken);
    *ret_taken = weir_decimal_compare(discount->amount, amount) < 0 ? discount->amount : amount;
    return true;
}

/* All of them as one component; *base becomes what is left. */
static bool charge_discounts(const struct weir_discount_list *discounts, struct weir_decimal *base,
                             struct weir_charge_list *list)
{
    struct weir_decimal left = *base, taken;

    for (uint32_t i = 0; i < discounts->count; i++)
        if (!weir_discount_amount(discounts->discounts[i], left, &taken) || !weir_decimal_subtract(left, taken, &left))
            return false;
    if (!weir_decimal_subtract(left, *base, &taken))
        return false;
    add_amount(list, WEIR_COMPONENT_DISCOUNT, 0, taken);
    *base = left;
    return true;
}

/* Lifts or lowers the period's charge to its limits, as components of their own, so that tiers stay explainable; takes
 * discounts off before. */
static bool charge_limits(const struct weir_price *price, struct weir_decimal quantity, struct weir_charge_list *list)
{
    struct weir_decimal base, change;

    if (!price->discounts && !price->has_minimum && !price->has_maximum)
        return true;
    if (!sum_amounts(list, &base))
        return false;
    if (quantity.e12 <= 0 && base.e12 <= 0)
        return true; /* no usage: price(0) is 0 */
    if (price->discounts && !charge_discounts(price->discounts, &base, list))
        return false;
    if (price->has_minimum && weir_decimal_compare(base, price->minimum_amount) < 0) {
        if (!weir_decimal_subtract(price->minimum_amount, base, &change))
            return false;
        add_amount(list, WEIR_COMPONENT_MINIMUM, 0, change);
    } else if (price->has_maximum && weir_decimal_compare(base, price->maximum_amount) > 0) {
        if (!weir_decimal_subtract(price->maximum_amount, base, &change))
            return false;
        add_amount(list, WEIR_COMPONENT_MAXIMUM, 0, change);
    }
    return true;
}

/* before: charges of another total of the price, whose products are taken over where they are the same. NULL: none. */
static bool charges_after(const struct weir_price *price, struct weir_decimal quantity, uint64_t events,
                          const struct weir_charge_list *before, struct weir_charge_list *ret_list)
{
    static bool (*const charge_model[WEIR_PRICE_MODEL_COUNT])(struct pricing *) = {
        [WEIR_MODEL_PER_UNIT] = charge_per_unit,     [WEIR_MODEL_GRADUATED] = charge_graduated,
        [WEIR_MODEL_VOLUME] = charge_volume,         [WEIR_MODEL_PACKAGE] = charge_package,
        [WEIR_MODEL_PERCENTAGE] = charge_percentage, [WEIR_MODEL_FLAT] = charge_flat,
    };
    struct pricing p = {.price = price, .remainder = quantity, .events = events, .before = before, .list = ret_list};

    ret_list->count = 0;
    if (price->free_units.e12 > 0) {
        struct weir_decimal used = weir_decimal_compare(quantity, price->free_units) < 0 ? quantity : price->free_units;
        if (!weir_decimal_subtract(quantity, used, &p.remainder))
            return false;
        if (!weir_decimal_is_zero(used))
            add_without_price(ret_list, WEIR_COMPONENT_FREE_UNITS, 0, used, (struct weir_decimal){0});
    }
    p.billable.e12 = p.remainder.e12 > 0 ? p.remainder.e12 : 0;
    return charge_model[price->model](&p) && charge_limits(price, quantity, ret_list);
}

bool weir_price_charges(const struct weir_price *price, struct weir_decimal quantity, uint64_t events,
                        struct weir_charge_list *ret_list)
{
    return charges_after(price, quantity, events, NULL, ret_list);
}

bool weir_price_total(const struct weir_price *price, struct weir_decimal quantity, uint64_t events,
                      struct weir_decimal *ret_amount)
{
    struct weir_charge_list list;

    return weir_price_charges(price, quantity, events, &list) && sum_amounts(&list, ret_amount);
}

/* Order of components, then tiers: the order in which lists are made. */
static uint64_t place_of(const struct weir_charge *charge)
{
    return (uint64_t)charge->component << 32 | charge->tier;
}

bool weir_charges_difference(const struct weir_charge_list *before, const struct weir_charge_list *after,
                             bool (*emit)(void *context, const struct weir_charge *difference), void *context)
{
    static const struct weir_charge_list nothing;
    static const struct weir_charge zero;
    const struct weir_charge_list *olds = before ? before : &nothing, *news = after ? after : &nothing;
    const struct weir_charge *old = olds->charges, *old_end = old + olds->count;
    const struct weir_charge *new = news->charges, *new_end = new + news->count;

    while (old < old_end || new < new_end) {
        uint64_t old_place = old < old_end ? place_of(old) : UINT64_MAX;
        uint64_t new_place = new < new_end ? place_of(new) : UINT64_MAX;
        const struct weir_charge *from = old_place <= new_place ? old++ : &zero;
        const struct weir_charge *to = new_place <= old_place ? new ++ : &zero;
        const struct weir_charge *as = to != &zero ? to : from;
        struct weir_charge difference;

        if (weir_decimal_equal(to->quantity, from->quantity) && weir_decimal_equal(to->amount, from->amount))
            continue;
        difference.component = as->component;
        difference.tier = as->tier;
        difference.has_unit_price = as->has_unit_price;
        difference.unit_price = as->unit_price;
        if (!weir_decimal_subtract(to->quantity, from->quantity, &difference.quantity)
            || !weir_decimal_subtract(to->amount, from->amount, &difference.amount))
            return false;
        if (!emit(context, &difference))
            return false;
    }
    return true;
}

/* Where a total moves within its tier, as it mostly does, one charge changes, by quantity alone. That one; NULL: more
 * may, or otherwise. *ret_units: what it is for, then. */
static struct weir_charge *moving_charge(const struct weir_price *price, struct weir_decimal quantity,
                                         struct weir_charge_list *list, struct weir_decimal *ret_units)
{
    struct weir_charge *charge = list->charges, *end = charge + list->count;

    if (price->discounts || price->has_minimum || price->has_maximum || price->free_units.e12 > 0 || charge == end)
        return NULL;
    if (price->model == WEIR_MODEL_GRADUATED)
        while (charge + 1 < end && charge[1].component == WEIR_COMPONENT_UNITS)
            charge++;
    else if (price->model != WEIR_MODEL_VOLUME && price->model != WEIR_MODEL_PER_UNIT)
        return NULL;
    *ret_units = quantity;
    if (charge->quantity.e12 <= 0 || quantity.e12 <= 0)
        return NULL; /* nothing was or is used: other rules */
    if (price->model == WEIR_MODEL_PER_UNIT)
        return charge;
    const struct weir_tier *tier = &price->tiers[charge->tier - 1];
    struct weir_decimal lower = charge->tier > 1 ? tier[-1].up_to : (struct weir_decimal){0};
    if (weir_decimal_compare(quantity, lower) <= 0
        || (tier->has_up_to && weir_decimal_compare(quantity, tier->up_to) > 0))
        return NULL;
    if (price->model == WEIR_MODEL_GRADUATED)
        ret_units->e12 -= lower.e12; /* both are above zero */
    return charge;
}

/* Tells the difference of one charge, and makes it what it is now. */
static bool move_charge(struct weir_charge *charge, struct weir_decimal units,
                        bool (*emit)(void *context, const struct weir_charge *difference), void *context)
{
    struct weir_charge difference;
    struct weir_decimal amount;

    if (weir_decimal_equal(units, charge->quantity))
        return true;
    if (!weir_decimal_multiply(units, charge->unit_price, &amount)
        || !weir_decimal_subtract(amount, charge->amount, &difference.amount))
        return false;
    difference.quantity.e12 = units.e12 - charge->quantity.e12; /* both are above zero */
    difference.component = charge->component;
    difference.tier = charge->tier;
    difference.has_unit_price = true;
    difference.unit_price = charge->unit_price;
    charge->quantity = weir_decimal_by_words(&units);
    charge->amount = weir_decimal_by_words(&amount);
    return emit(context, &difference);
}

bool weir_price_advance(const struct weir_price *price, struct weir_decimal quantity, uint64_t events,
                        struct weir_running_charges *running,
                        bool (*emit)(void *context, const struct weir_charge *difference), void *context)
{
    struct weir_charge_list *before = running->is_known ? &running->lists[running->at] : NULL;
    struct weir_charge_list *after = &running->lists[!running->at];
    struct weir_decimal units;
    struct weir_charge *moving = before ? moving_charge(price, quantity, before, &units) : NULL;

    if (moving)
        return move_charge(moving, units, emit, context);
    if (!charges_after(price, quantity, events, before, after)
        || !weir_charges_difference(before, after, emit, context))
        return false;
    running->at = !running->at;
    running->is_known = true;
    return true;
}
