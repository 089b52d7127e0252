#include "rater/fees.h"

#include "rater/rate_internal.h"

/* 1. how often */

/* The days on which a year since the contract's first day has passed. */
static struct weir_billing_anchor anniversary_of(const struct weir_contract *contract)
{
    int64_t year;
    int month, day;

    weir_date_of_days(weir_zone_day(contract->zone, contract->whole_starts_at), &year, &month, &day);
    return (struct weir_billing_anchor){.month = (unsigned char)(month - 1), .day = (unsigned char)(day - 1)};
}

static int64_t count_years(const struct weir_contract *contract, int64_t start, int64_t end)
{
    struct weir_billing_anchor anchor = anniversary_of(contract);
    int64_t count = 0, year_start = end, year_end;

    do {
        weir_period_of(WEIR_PERIOD_YEAR, anchor, contract->zone, year_start - 1, &year_start, &year_end);
        count += year_start > start;
    } while (year_start > start);
    return count + (year_start == start || start == contract->whole_starts_at);
}

static int64_t count_times(const struct weir_contract *contract, const struct weir_fee *fee, int64_t start, int64_t end)
{
    if (fee->per == WEIR_FEE_PER_PERIOD)
        return 1;
    if (contract->key.length == 0)
        return 0; /* the default contract begins with nobody */
    return fee->per == WEIR_FEE_PER_CONTRACT ? start == contract->whole_starts_at : count_years(contract, start, end);
}

/* 2. how much */

/* A day that is cut belongs to what comes after it. */
static uint64_t measure(const struct weir_contract *contract, enum weir_proration proration, int64_t from, int64_t to)
{
    return proration == WEIR_PRORATION_DAY
               ? (uint64_t)(weir_zone_day(contract->zone, to) - weir_zone_day(contract->zone, from))
               : (uint64_t)((to - from) / WEIR_SECOND);
}

/* What an amount for the whole period has come to from its start until a time in it. */
static bool amount_until(struct weir_decimal amount, uint64_t part, uint64_t whole, struct weir_decimal *ret_amount)
{
    struct weir_decimal product;

    if (part >= whole) {
        *ret_amount = amount;
        return true;
    }
    return weir_decimal_scale(amount, part, &product)
           && weir_decimal_divide(product, weir_decimal_of((int64_t)whole), WEIR_HALF_EVEN, ret_amount);
}

struct charge {
    const struct weir_contract *contract;
    const struct weir_fee *fee;
    int64_t start, end; /* the billing period */
    bool (*take)(void *context, const struct weir_fee_piece *piece);
    void *context;
};

/* From a time in the period until its end. */
static bool charge_piece(const struct charge *charge, int64_t from, struct weir_decimal quantity)
{
    const struct weir_contract *contract = charge->contract;
    enum weir_proration proration = charge->fee->proration;
    struct weir_fee_piece piece = {.start = from, .quantity = quantity};
    struct weir_decimal whole_amount, before, after;
    int64_t whole_start, whole_end;

    if (weir_decimal_is_zero(quantity))
        return true;
    if (!weir_decimal_multiply(charge->fee->amount, quantity, &whole_amount))
        return false;
    if (proration == WEIR_PRORATION_NONE) {
        piece.amount = whole_amount;
        return charge->take(charge->context, &piece);
    }
    weir_calendar_period_at(contract->calendar, charge->start, &whole_start, &whole_end);
    uint64_t whole = measure(contract, proration, whole_start, whole_end);
    return amount_until(whole_amount, measure(contract, proration, whole_start, from), whole, &before)
           && amount_until(whole_amount, measure(contract, proration, whole_start, charge->end), whole, &after)
           && weir_decimal_subtract(after, before, &piece.amount) && charge->take(charge->context, &piece);
}

/* What there is at the start, then each change; without proration a change counts from the next period on. */
static bool charge_units(const struct charge *charge)
{
    const struct weir_quantity *at = charge->contract->quantities, *end = at + charge->contract->quantity_count;
    struct weir_decimal now = {0}, change;

    while (at < end && !weir_slice_equal(at->fee, charge->fee->key))
        at++;
    for (; at < end && weir_slice_equal(at->fee, charge->fee->key) && at->effective_from <= charge->start; at++)
        now = at->quantity;
    if (!charge_piece(charge, charge->start, now))
        return false;
    if (charge->fee->proration == WEIR_PRORATION_NONE)
        return true;
    for (; at < end && weir_slice_equal(at->fee, charge->fee->key) && at->effective_from < charge->end; at++) {
        if (!weir_decimal_subtract(at->quantity, now, &change) || !charge_piece(charge, at->effective_from, change))
            return false;
        now = at->quantity;
    }
    return true;
}

bool weir_fee_pieces(const struct weir_contract *contract, const struct weir_fee *fee, int64_t start, int64_t end,
                     bool (*take)(void *context, const struct weir_fee_piece *piece), void *context)
{
    const struct charge charge = {contract, fee, start, end, take, context};

    return fee->is_per_unit ? charge_units(&charge)
                            : charge_piece(&charge, start, weir_decimal_of(count_times(contract, fee, start, end)));
}

static bool add_up(void *context, const struct weir_fee_piece *piece)
{
    struct weir_fee_piece *total = context;

    return weir_decimal_add(total->quantity, piece->quantity, &total->quantity)
           && weir_decimal_add(total->amount, piece->amount, &total->amount);
}

bool weir_fee_of_period(const struct weir_contract *contract, const struct weir_fee *fee, int64_t start, int64_t end,
                        struct weir_decimal *ret_quantity, struct weir_decimal *ret_amount)
{
    struct weir_fee_piece total = {0};

    if (!weir_fee_pieces(contract, fee, start, end, add_up, &total))
        return false;
    *ret_quantity = total.quantity;
    *ret_amount = total.amount;
    return true;
}

/* 3. line items */

struct emission {
    struct weir_rater *rater;
    const struct weir_contract *contract;
    const struct weir_period_running *period;
    const struct weir_price_book_version *version;
    const struct weir_fee *fee;
};

static void add_item(const struct emission *emission, const struct weir_fee_piece *piece, uint32_t revision,
                     int64_t advance_at)
{
    struct weir_line_item item = weir_rater_period_item(emission->contract, emission->period, emission->version);

    item.item = emission->fee->key;
    item.kind = WEIR_KIND_FEE;
    item.component = WEIR_COMPONENT_FEE;
    item.window_start = piece->start;
    item.quantity = piece->quantity;
    item.unit_price = emission->fee->amount;
    item.amount = piece->amount;
    item.revision = revision;
    item.advance_at = advance_at;
    weir_rater_add_item(emission->rater, &item);
}

static bool emit_piece(void *context, const struct weir_fee_piece *piece)
{
    const struct emission *emission = context;

    add_item(emission, piece, 1, emission->fee->charged == WEIR_FEE_IN_ADVANCE ? emission->period->start : 0);
    return true;
}

bool weir_rater_charge_fees(struct weir_rater *rater, const struct weir_contract *contract,
                            const struct weir_period_running *period, enum weir_fee_charged charged)
{
    const struct weir_price_book_version *version = weir_price_book_at(contract->book, period->start);

    for (uint32_t i = 0; version && i < version->fee_count; i++) {
        struct emission emission = {rater, contract, period, version, &version->fees[i]};
        if (version->fees[i].charged == charged
            && !weir_fee_pieces(contract, &version->fees[i], period->start, period->end, emit_piece, &emission))
            return false;
    }
    return true;
}

/* 4. in advance, and then otherwise */

/* Quantities may change in a period under way; an end of the contract within one that was charged, weir apply refuses.
 */
static bool is_adjusted(const struct weir_fee *fee)
{
    return fee->is_per_unit && fee->charged == WEIR_FEE_IN_ADVANCE;
}

static struct weir_charged_item *charged_fee(struct weir_rater *rater, const struct weir_period_running *period,
                                             const struct weir_fee *fee)
{
    return weir_state_charged(rater->state, period->customer, period->contract, period->start, period->end, fee->key);
}

void weir_rater_aim_at_fees(struct weir_rater *rater, const struct weir_contract *contract,
                            const struct weir_period_running *period)
{
    const struct weir_price_book_version *version = weir_price_book_at(contract->book, period->start);

    for (uint32_t i = 0; version && i < version->fee_count; i++)
        if (is_adjusted(&version->fees[i]))
            charged_fee(rater, period, &version->fees[i]);
}

bool weir_rater_adjust_fees(struct weir_rater *rater, const struct weir_contract *contract,
                            const struct weir_period_running *period)
{
    const struct weir_price_book_version *version = weir_price_book_at(contract->book, period->start);

    for (uint32_t i = 0; version && i < version->fee_count; i++) {
        struct emission emission = {rater, contract, period, version, &version->fees[i]};
        struct weir_fee_piece change = {.start = period->start};
        if (!is_adjusted(&version->fees[i]))
            continue;
        const struct weir_charged_item *charged = charged_fee(rater, period, &version->fees[i]);
        if (!weir_fee_of_period(contract, &version->fees[i], period->start, period->end, &change.quantity,
                                &change.amount)
            || !weir_decimal_subtract(change.quantity, charged->quantity, &change.quantity)
            || !weir_decimal_subtract(change.amount, charged->amount, &change.amount))
            return false;
        if (!weir_decimal_is_zero(change.quantity) || !weir_decimal_is_zero(change.amount))
            add_item(&emission, &change, charged->revision + 1, 0);
    }
    return true;
}
