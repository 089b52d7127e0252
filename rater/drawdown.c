#include "rater/drawdown.h"

#include <stdlib.h>

static int compare_times(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_by(enum weir_draw_key key, const struct weir_grant *a, const struct weir_grant *b)
{
    switch (key) {
    case WEIR_DRAW_BY_PRIORITY:
        return compare_times(a->priority, b->priority);
    case WEIR_DRAW_BY_FUNDING:
        return (a->funding == WEIR_FUNDING_PAID) - (b->funding == WEIR_FUNDING_PAID);
    case WEIR_DRAW_BY_METERS: /* all meters are more than any number of them */
        return compare_times((int64_t)(a->meter_count - 1u), (int64_t)(b->meter_count - 1u));
    case WEIR_DRAW_BY_EXPIRES_AT:
        return compare_times(a->expires_at, b->expires_at);
    case WEIR_DRAW_BY_STARTS_AT:
        return compare_times(a->starts_at, b->starts_at);
    case WEIR_DRAW_KEY_COUNT:
        break;
    }
    return 0;
}

static int compare_grants(const void *left, const void *right, void *context)
{
    const struct weir_grant *a = left, *b = right;
    const struct weir_draw_order *by = context;
    int order = 0;

    for (uint32_t i = 0; i < by->count && !order; i++)
        order = compare_by(by->keys[i], a, b);
    if (!order)
        order = weir_slice_compare(a->key, b->key);
    if (!order)
        order = weir_slice_compare(a->contract, b->contract);
    return order ? order : compare_times(a->terms_at, b->terms_at);
}

void weir_grants_sort(struct weir_grant *grants, size_t count, const struct weir_draw_order *order)
{
    struct weir_draw_order by = *order;

    if (count > 1)
        qsort_r(grants, count, sizeof *grants, compare_grants, &by);
}

static bool is_same_order(const struct weir_draw_order *a, const struct weir_draw_order *b)
{
    bool is_same = a->count == b->count;

    for (uint32_t i = 0; is_same && i < a->count; i++)
        is_same = a->keys[i] == b->keys[i];
    return is_same;
}

/* By what is charged together: a meter in a billing period. */
static int compare_totals(const void *left, const void *right)
{
    const struct weir_usage_charge *a = left, *b = right;
    int order = compare_times(a->period_start, b->period_start);

    if (!order)
        order = weir_slice_compare(a->contract, b->contract);
    if (!order)
        order = weir_slice_compare(a->meter, b->meter);
    return order ? order : compare_times(a->segment_start, b->segment_start);
}

static int compare_charges(const void *left, const void *right)
{
    const struct weir_usage_charge *a = left, *b = right;
    int order = compare_times(a->segment_start, b->segment_start);

    if (!order)
        order = weir_slice_compare(a->contract, b->contract);
    if (!order)
        order = compare_times(a->period_start, b->period_start);
    return order ? order : weir_slice_compare(a->meter, b->meter);
}

/* Takes the debt from the charge as far as there is any; a charge below 0 adds to it. false: it does not fit. */
static bool pay(struct weir_usage_charge *charge, struct weir_decimal *debt)
{
    struct weir_decimal rest;

    if (!weir_decimal_subtract(charge->amount, *debt, &rest))
        return false;
    *debt = (struct weir_decimal){rest.e12 < 0 ? -rest.e12 : 0};
    charge->amount = (struct weir_decimal){rest.e12 < 0 ? 0 : rest.e12};
    return true;
}

/* A segment may charge less than nothing: more usage made all of the period's cheaper, or usage was corrected. That
 * comes off the segments before it, the latest first, and then those after it: nothing is drawn but for what the period
 * costs in all. */
static bool net(struct weir_usage_charge *charges, size_t count)
{
    struct weir_decimal debt = {0};

    for (size_t i = count; i > 0; i--)
        if (!pay(&charges[i - 1], &debt))
            return false;
    for (size_t i = 0; i < count && debt.e12 > 0; i++)
        if (!pay(&charges[i], &debt))
            return false;
    return true;
}

static bool same_total(const struct weir_usage_charge *a, const struct weir_usage_charge *b)
{
    return a->period_start == b->period_start && weir_slice_equal(a->contract, b->contract)
           && weir_slice_equal(a->meter, b->meter);
}

/* Adds up what is of one meter and segment. false: it does not fit. */
static bool merge(struct weir_usage_charge *charges, size_t *count)
{
    size_t kept = 0;

    for (size_t i = 0; i < *count; i++) {
        struct weir_usage_charge *last = kept ? &charges[kept - 1] : NULL;
        if (!last || last->segment_start != charges[i].segment_start || !same_total(last, &charges[i]))
            charges[kept++] = charges[i];
        else if (!weir_decimal_add(last->amount, charges[i].amount, &last->amount))
            return false;
    }
    *count = kept;
    return true;
}

static bool net_all(struct weir_usage_charge *charges, size_t count)
{
    for (size_t first = 0, end; first < count; first = end) {
        end = first + 1;
        while (end < count && same_total(&charges[first], &charges[end]))
            end++;
        if (!net(charges + first, end - first))
            return false;
    }
    return true;
}

static bool applies(const struct weir_grant *grant, const struct weir_usage_charge *charge)
{
    if (charge->segment_start < grant->starts_at || charge->segment_start >= grant->expires_at
        || (grant->is_ended && charge->segment_start >= grant->ends_at) || grant->terms_at != charge->terms_at
        || !weir_slice_equal(grant->contract, charge->contract) || !weir_slice_equal(grant->currency, charge->currency))
        return false;
    for (uint32_t i = 0; i < grant->meter_count; i++)
        if (weir_slice_equal(grant->meters[i], charge->meter))
            return true;
    return grant->meter_count == 0;
}

/* false: it does not fit. */
static bool set_rollover(struct weir_rollover *rollover)
{
    if (rollover->is_set)
        return true;
    rollover->is_set = true;
    return weir_decimal_multiply(*rollover->from, rollover->fraction, rollover->left);
}

static bool draw_charge(struct weir_grant *grants, size_t count, const struct weir_usage_charge *charge,
                        weir_draw_taker *take, void *context)
{
    struct weir_decimal rest = charge->amount, more, overage;
    const struct weir_grant *last = NULL;

    for (size_t i = 0; i < count && rest.e12 > 0; i++) {
        struct weir_grant *grant = &grants[i];
        if (!applies(grant, charge))
            continue;
        if (grant->rollover && !set_rollover(grant->rollover))
            return false;
        if (grant->has_overage)
            last = grant;
        struct weir_decimal drawn = grant->left->e12 < rest.e12 ? *grant->left : rest;
        if (weir_decimal_is_zero(drawn))
            continue;
        grant->left->e12 -= drawn.e12;
        rest.e12 -= drawn.e12;
        if (!take(context, charge, grant, drawn))
            return false;
    }
    if (rest.e12 == 0 || !last)
        return true;
    if (!weir_decimal_subtract(last->overage_multiplier, weir_decimal_of(1), &more)
        || !weir_decimal_multiply(rest, more, &overage))
        return false;
    return weir_decimal_is_zero(overage) || take(context, charge, NULL, overage);
}

bool weir_draw_down(struct weir_grant *grants, size_t grant_count, struct weir_usage_charge *charges,
                    size_t charge_count, weir_draw_taker *take, void *context)
{
    if (charge_count > 1)
        qsort(charges, charge_count, sizeof *charges, compare_totals);
    if (!merge(charges, &charge_count) || !net_all(charges, charge_count))
        return false;
    if (charge_count > 1)
        qsort(charges, charge_count, sizeof *charges, compare_charges);
    const struct weir_draw_order *sorted = NULL;
    for (size_t i = 0; i < charge_count; i++) {
        if (charges[i].amount.e12 <= 0)
            continue;
        if (!sorted || !is_same_order(sorted, charges[i].order))
            weir_grants_sort(grants, grant_count, charges[i].order);
        sorted = charges[i].order;
        if (!draw_charge(grants, grant_count, &charges[i], take, context))
            return false;
    }
    return true;
}
