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

/* What the fee has come to from the start of the whole period until a time in it. */
static bool amount_until(const struct weir_fee *fee, uint64_t part, uint64_t whole, struct weir_decimal *ret_amount)
{
    struct weir_decimal product;

    if (part >= whole) {
        *ret_amount = fee->amount;
        return true;
    }
    return weir_decimal_scale(fee->amount, part, &product)
           && weir_decimal_divide(product, weir_decimal_of((int64_t)whole), WEIR_HALF_EVEN, ret_amount);
}

bool weir_fee_of_period(const struct weir_contract *contract, const struct weir_fee *fee, int64_t start, int64_t end,
                        struct weir_decimal *ret_quantity, struct weir_decimal *ret_amount)
{
    int64_t times = count_times(contract, fee, start, end), whole_start, whole_end;
    struct weir_decimal before, after;

    *ret_quantity = weir_decimal_of(times);
    if (fee->proration == WEIR_PRORATION_NONE)
        return weir_decimal_scale(fee->amount, (uint64_t)times, ret_amount);
    weir_calendar_period_at(contract->calendar, start, &whole_start, &whole_end);
    uint64_t whole = measure(contract, fee->proration, whole_start, whole_end);
    return amount_until(fee, measure(contract, fee->proration, whole_start, start), whole, &before)
           && amount_until(fee, measure(contract, fee->proration, whole_start, end), whole, &after)
           && weir_decimal_subtract(after, before, ret_amount);
}

bool weir_rater_charge_fees(struct weir_rater *rater, const struct weir_contract *contract,
                            const struct weir_period_running *period, enum weir_fee_charged charged)
{
    const struct weir_price_book_version *version = weir_price_book_at(contract->book, period->start);

    for (uint32_t i = 0; version && i < version->fee_count; i++) {
        const struct weir_fee *fee = &version->fees[i];
        if (fee->charged != charged)
            continue;
        struct weir_line_item item = weir_rater_period_item(contract, period, version);
        if (!weir_fee_of_period(contract, fee, period->start, period->end, &item.quantity, &item.amount))
            return false;
        if (weir_decimal_is_zero(item.quantity))
            continue;
        item.item = fee->key;
        item.kind = WEIR_KIND_FEE;
        item.component = WEIR_COMPONENT_FEE;
        item.unit_price = fee->amount;
        weir_rater_add_item(rater, &item);
    }
    return true;
}
