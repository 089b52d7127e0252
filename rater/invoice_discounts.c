/* Discounts on the whole invoice (docs/fees.md): what they take off each item of a billing period, its usage by meter
 * and its fees, as running totals. So a late window changes them by a difference, and each item bears its own part. */
#include "rater/fees.h"
#include "rater/rate_internal.h"

enum { PARTS_MAX = WEIR_METERS_MAX + WEIR_FEES_MAX };

/* An item of the period. */
struct part {
    struct weir_slice item;
    const struct weir_meter *meter; /* NULL: a fee */
    struct weir_decimal amount;     /* before */
    struct weir_decimal left;       /* after */
};

struct parts {
    struct weir_rater *rater;
    const struct weir_contract *contract;
    const struct weir_period_running *period;
    struct weir_decimal of_meter[WEIR_METERS_MAX];
    bool has_meter[WEIR_METERS_MAX];
    uint32_t count;
    struct part parts[PARTS_MAX]; /* usage by meter, then fees, each by key */
};

/* 1. what there is */
static bool add_price(void *context, const struct weir_price_book_version *version, const struct weir_price *price)
{
    struct parts *parts = context;
    const struct weir_period_running *period = parts->period;
    const struct weir_price_running *running =
        weir_state_price(parts->rater->state, period->customer, period->contract, period->start, period->end,
                         version->book->key, version->version, price->key);
    struct weir_decimal *sum = &parts->of_meter[price->meter->index];

    parts->has_meter[price->meter->index] = true;
    return (!running->entry.exists && !running->entry.is_dirty) || weir_decimal_add(*sum, running->amount, sum);
}

static void add_part(struct parts *parts, uint32_t first, const struct part *part)
{
    uint32_t at = parts->count++;

    for (; at > first && weir_slice_compare(parts->parts[at - 1].item, part->item) > 0; at--)
        parts->parts[at] = parts->parts[at - 1];
    parts->parts[at] = *part;
}

static bool find_parts(struct weir_rater *rater, const struct weir_contract *contract,
                       const struct weir_period_running *period, struct parts *ret_parts)
{
    const struct weir_price_book_version *version = weir_price_book_at(contract->book, period->start);

    *ret_parts = (struct parts){.rater = rater, .contract = contract, .period = period};
    if (!weir_rater_each_price(contract, period, NULL, add_price, ret_parts))
        return false;
    for (uint32_t i = 0; i < rater->catalog->meter_count; i++)
        if (ret_parts->has_meter[i])
            add_part(ret_parts, 0,
                     &(struct part){rater->catalog->meters[i].key, &rater->catalog->meters[i], ret_parts->of_meter[i],
                                    ret_parts->of_meter[i]});
    for (uint32_t i = 0, first = ret_parts->count; version && i < version->fee_count; i++) {
        struct part part = {.item = version->fees[i].key};
        struct weir_decimal quantity;
        if (!weir_fee_of_period(contract, &version->fees[i], period->start, period->end, &quantity, &part.amount))
            return false;
        part.left = part.amount;
        add_part(ret_parts, first, &part);
    }
    return true;
}

/* 2. what is taken off */

/* Each item's share is what all through it bear less what those before it do: they add up to the whole. */
static bool take_amount(struct parts *parts, struct weir_decimal amount)
{
    struct weir_decimal whole = {0}, through = {0}, before = {0};

    for (uint32_t i = 0; i < parts->count; i++)
        if (parts->parts[i].left.e12 > 0 && !weir_decimal_add(whole, parts->parts[i].left, &whole))
            return false;
    if (weir_decimal_compare(amount, whole) > 0)
        amount = whole;
    for (uint32_t i = 0; i < parts->count && whole.e12 > 0; i++) {
        struct part *part = &parts->parts[i];
        if (part->left.e12 <= 0)
            continue;
        through.e12 += part->left.e12; /* through <= whole, so neither this nor what follows overflows */
        struct weir_decimal share = weir_decimal_share(amount, through, whole);
        part->left.e12 -= share.e12 - before.e12;
        before = share;
    }
    return true;
}

static bool take_rate(struct parts *parts, struct weir_decimal rate)
{
    for (uint32_t i = 0; i < parts->count; i++) {
        struct part *part = &parts->parts[i];
        struct weir_decimal taken;
        if (part->left.e12 <= 0)
            continue;
        if (!weir_decimal_multiply(part->left, rate, &taken) || !weir_decimal_subtract(part->left, taken, &part->left))
            return false;
    }
    return true;
}

static bool take_all(struct parts *parts)
{
    const struct weir_period_running *period = parts->period;
    uint32_t count;
    const struct weir_discount *discounts = weir_contract_discounts(parts->contract, period->start, &count);

    for (uint32_t i = 0; i < count; i++) {
        const struct weir_discount *discount = &discounts[i];
        if (!discount->is_on_invoice || period->start < discount->starts_at || period->start >= discount->ends_at)
            continue;
        if (discount->type == WEIR_DISCOUNT_PERCENTAGE ? !take_rate(parts, discount->rate)
                                                       : !take_amount(parts, discount->amount))
            return false;
    }
    return true;
}

/* 3. line items */
static struct weir_commitment_running *taken_of(struct weir_rater *rater, const struct weir_period_running *period,
                                                struct weir_slice item)
{
    return weir_state_commitment(rater->state, period->customer, period->contract, period->start, period->end, item);
}

static bool make_entries(void *context, const struct weir_price_book_version *version, const struct weir_price *price)
{
    struct parts *parts = context;
    const struct weir_period_running *period = parts->period;

    weir_state_price(parts->rater->state, period->customer, period->contract, period->start, period->end,
                     version->book->key, version->version, price->key);
    taken_of(parts->rater, period, price->meter->key);
    return true;
}

void weir_rater_aim_at_invoice_discounts(struct weir_rater *rater, const struct weir_contract *contract,
                                         struct weir_period_running *period)
{
    const struct weir_price_book_version *version = weir_price_book_at(contract->book, period->start);
    static _Thread_local struct parts parts;

    if (period->has_discount_entries)
        return;
    period->has_discount_entries = true;
    weir_state_account(rater->state, period->customer);
    parts = (struct parts){.rater = rater, .period = period};
    weir_rater_each_price(contract, period, NULL, make_entries, &parts);
    for (uint32_t i = 0; version && i < version->fee_count; i++)
        taken_of(rater, period, version->fees[i].key);
}

bool weir_rater_can_discount(struct weir_rater *rater, const struct weir_contract *contract,
                             const struct weir_period_running *period)
{
    static _Thread_local struct parts parts;

    return find_parts(rater, contract, period, &parts) && take_all(&parts);
}

static bool charge_part(struct weir_rater *rater, const struct weir_contract *contract,
                        struct weir_period_running *period, const struct part *part)
{
    struct weir_commitment_running *taken = taken_of(rater, period, part->item);
    struct weir_decimal before = taken->amount, amount, change;
    struct weir_line_item item =
        weir_rater_period_item(contract, period, weir_price_book_at(contract->book, period->start));

    item.component = WEIR_COMPONENT_INVOICE_DISCOUNT;
    item.kind = part->meter ? WEIR_KIND_USAGE : WEIR_KIND_FEE;
    item.meter = part->meter ? part->meter->key : (struct weir_slice){0};
    item.has_unit_price = false;
    return weir_decimal_subtract(part->left, part->amount, &amount)
           && weir_rater_charge_commitment(rater, taken, (struct weir_decimal){0}, amount, &item)
           && weir_decimal_subtract(amount, before, &change) && (!part->meter || weir_add_usage(period, change));
}

bool weir_rater_invoice_discounts(struct weir_rater *rater, const struct weir_contract *contract,
                                  struct weir_period_running *period)
{
    static _Thread_local struct parts parts;

    if (!contract->has_invoice_discounts)
        return true;
    if (!find_parts(rater, contract, period, &parts) || !take_all(&parts))
        return false;
    /* Differences of what is between nothing and an amount of the ledger's fit. */
    for (uint32_t i = 0; i < parts.count; i++)
        weir_check(charge_part(rater, contract, period, &parts.parts[i]));
    return true;
}
