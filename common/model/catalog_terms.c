/* The terms of contracts that renew: where they begin, and what a prepaid amount is in each of them. */
#include <stdio.h>
#include <string.h>

#include "common/model/catalog.h"

/* Months between the billing periods' starts; 0: they begin on any day of a month. */
static int months_of_period(enum weir_billing_period period)
{
    return period == WEIR_PERIOD_MONTH ? 1 : period == WEIR_PERIOD_QUARTER ? 3 : period == WEIR_PERIOD_YEAR ? 12 : 0;
}

/* Months and anchor days are counted before a month without such a day takes its last one: so terms of the same number
 * of months have the same number of billing periods, whatever days months have. */
static int64_t nominal_day(const struct weir_contract *contract, uint32_t months)
{
    const struct weir_billing_anchor *anchor = &contract->billing_anchor;
    int step = months_of_period(contract->billing_period), month, day;
    int64_t year;

    weir_date_of_days(weir_zone_day(contract->zone, contract->whole_starts_at), &year, &month, &day);
    int64_t at = year * 12 + month - 1;
    if (step == 0)
        return weir_day_of_month(at + months, day - 1);
    int64_t ahead = ((anchor->month - at) % step + step) % step;
    if (ahead == 0 && anchor->day < day - 1)
        ahead = step;
    return weir_day_of_month(at + ahead + months, anchor->day);
}

int64_t weir_contract_months_on(const struct weir_contract *contract, uint32_t months)
{
    int64_t start, end;

    if (months == 0)
        return contract->whole_starts_at;
    int64_t day = nominal_day(contract, months);
    if (day >= WEIR_TIME_MAX / WEIR_DAY)
        return WEIR_TIME_NEVER;
    /* What was written down holds, also where the clocks go by other rules since: it is off by hours then, never by
     * half a day. */
    int64_t time = weir_zone_day_start(contract->zone, day) - WEIR_DAY / 2;
    weir_calendar_period_at(contract->calendar, time, &start, &end);
    return start == time ? start : end;
}

void weir_contract_term(const struct weir_contract *contract, uint32_t number, struct weir_term *ret_term)
{
    uint32_t months = contract->renews_months;

    ret_term->number = number;
    ret_term->starts_at = weir_contract_months_on(contract, (number - 1) * months);
    ret_term->renews_at = months ? weir_contract_months_on(contract, number * months) : WEIR_TIME_NEVER;
    ret_term->ends_at = ret_term->renews_at < contract->whole_ends_at ? ret_term->renews_at : contract->whole_ends_at;
}

void weir_contract_term_at(const struct weir_contract *contract, int64_t time, struct weir_term *ret_term)
{
    uint32_t number = 1, months = contract->renews_months;

    if (months) {
        /* By days, and never too far: a month has at least 28, and a term begins less than a year after its day. */
        int64_t days = (time - contract->whole_starts_at) / WEIR_DAY - 400;
        number += days > 0 ? (uint32_t)(days / (INT64_C(31) * months)) : 0;
        while (weir_contract_months_on(contract, number * months) <= time)
            number++;
    }
    weir_contract_term(contract, number, ret_term);
}

bool weir_term_lists(const struct weir_contract *contract, const struct weir_term *term, struct weir_slice key,
                     int64_t *ret_from)
{
    const struct weir_contract *first = contract - contract->phase;

    for (uint32_t phase = 0; phase < first->phase_count; phase++) {
        if (first[phase].ends_at <= term->starts_at || first[phase].starts_at >= term->ends_at)
            continue;
        for (uint32_t i = 0; i < first[phase].commitment_count; i++) {
            if (!weir_slice_equal(first[phase].commitments[i].key, key))
                continue;
            *ret_from = first[phase].starts_at > term->starts_at ? first[phase].starts_at : term->starts_at;
            return true;
        }
    }
    return false;
}

struct weir_commitment weir_commitment_of_term(const struct weir_contract *contract,
                                               const struct weir_commitment *commitment, const struct weir_term *term)
{
    struct weir_commitment result = *commitment;
    uint32_t expiry = (term->number - 1) * contract->renews_months
                      + (commitment->months ? commitment->months : contract->renews_months);

    result.starts_at = term->starts_at;
    result.expires_at = weir_contract_months_on(contract, expiry);
    if (!weir_decimal_is_zero(commitment->rollover_fraction))
        result.rollover_expires_at = weir_contract_months_on(
            contract, expiry + (commitment->rollover_months ? commitment->rollover_months : contract->renews_months));
    return result;
}

struct weir_slice weir_term_key(struct weir_slice key, uint32_t number, char text[WEIR_TERM_KEY_MAX])
{
    if (number == 1)
        return key;
    int length = snprintf(text, WEIR_TERM_KEY_MAX, "%.*s+%u", (int)key.length, key.data, number);
    weir_check(length > 0 && length < WEIR_TERM_KEY_MAX);
    return weir_slice_of(text, (uint32_t)length);
}

bool weir_commitment_grants(const struct weir_commitment *commitment, struct weir_slice grant)
{
    struct weir_slice key = commitment->key;

    if (commitment->type != WEIR_COMMITMENT_PREPAID || grant.length < key.length
        || memcmp(grant.data, key.data, key.length) != 0)
        return false;
    if (grant.length == key.length)
        return true;
    if (!commitment->is_per_term || grant.data[key.length] != '+' || grant.length == key.length + 1)
        return false;
    for (uint32_t i = key.length + 1; i < grant.length; i++)
        if (grant.data[i] < '0' || grant.data[i] > '9')
            return false;
    return true;
}

bool weir_commitment_is_term_quantity(const struct weir_commitment *commitment)
{
    return commitment->type == WEIR_COMMITMENT_MINIMUM_QUANTITY && commitment->is_per_term;
}

const struct weir_commitment *weir_contract_term_minimum(const struct weir_contract *terms)
{
    for (uint32_t i = 0; i < terms->commitment_count; i++)
        if (terms->commitments[i].type == WEIR_COMMITMENT_MINIMUM_SPEND && terms->commitments[i].is_per_term)
            return &terms->commitments[i];
    return NULL;
}
