/* Minimum quantities: what is missing to one is charged as if it had been used (docs/rating.md 6.4), a running total by
 * commitment and period; of a term, in its last period. And purchases of prepaid amounts, which are charged like fees.
 */
#include "rater/rate_internal.h"

/* 1. what is missing */

bool weir_rater_each_price(const struct weir_contract *contract, const struct weir_period_running *period,
                           const struct weir_meter *meter,
                           bool (*visit)(void *context, const struct weir_price_book_version *version,
                                         const struct weir_price *price),
                           void *context)
{
    const struct weir_price_book *book = contract->book;

    for (uint32_t i = 0; i < book->version_count; i++) {
        const struct weir_price_book_version *version = &book->versions[i];
        const struct weir_price *price;
        if (version->effective_from >= period->end)
            break;
        if (i + 1 < book->version_count && book->versions[i + 1].effective_from <= period->start)
            continue;
        for (uint32_t at = 0; (price = weir_next_price(version, &at));)
            if ((!meter || price->meter == meter) && !visit(context, version, price))
                return false;
    }
    return true;
}

struct visit {
    struct weir_rater *rater;
    const struct weir_period_running *period;
    struct weir_decimal *quantity; /* of all prices */
};

static struct weir_price_running *running_of(struct weir_rater *rater, const struct weir_period_running *period,
                                             const struct weir_price_book_version *version,
                                             const struct weir_price *price)
{
    return weir_state_price(rater->state, period->customer, period->contract, period->start, period->end,
                            version->book->key, version->version, price->key);
}

static bool make_entry(void *context, const struct weir_price_book_version *version, const struct weir_price *price)
{
    struct visit *visit = context;

    running_of(visit->rater, visit->period, version, price);
    return true;
}

static bool add_quantity(void *context, const struct weir_price_book_version *version, const struct weir_price *price)
{
    struct visit *visit = context;

    return weir_decimal_add(*visit->quantity, running_of(visit->rater, visit->period, version, price)->quantity,
                            visit->quantity);
}

void weir_rater_aim_at_quantity(struct weir_rater *rater, const struct weir_contract *contract,
                                const struct weir_period_running *period, const struct weir_meter *meter)
{
    struct visit visit = {.rater = rater, .period = period};

    weir_rater_each_price(contract, period, meter, make_entry, &visit);
}

bool weir_rater_add_quantity(struct weir_rater *rater, const struct weir_contract *contract,
                             const struct weir_period_running *period, const struct weir_meter *meter,
                             struct weir_decimal *quantity)
{
    struct visit visit = {.rater = rater, .period = period, .quantity = quantity};

    return weir_rater_each_price(contract, period, meter, add_quantity, &visit);
}

/* What is missing, and what it costs: on top of what the price that usage without dimensions finds at the period's end
 * has in the period. */
struct shortfall {
    const struct weir_price_book_version *version;
    struct weir_decimal quantity, amount;
};

static bool find_missing(struct weir_rater *rater, const struct weir_contract *contract,
                         const struct weir_period_running *period, const struct weir_commitment *commitment,
                         struct shortfall *ret_shortfall)
{
    struct weir_slice texts[WEIR_DIMENSIONS_MAX] = {{0}};
    struct weir_decimal quantity, before = {0}, after, used = {0};
    bool is_due = true;

    *ret_shortfall = (struct shortfall){.version = weir_price_book_at(contract->book, period->end - 1)};
    const struct weir_price *price =
        ret_shortfall->version ? weir_price_for(ret_shortfall->version, commitment->meter, texts) : NULL;
    if (!price)
        return true;
    if (!(commitment->is_per_term ? weir_rater_term_quantity(rater, contract, period, commitment, &is_due, &used)
                                  : weir_rater_add_quantity(rater, contract, period, commitment->meter, &used))
        || !weir_decimal_subtract(commitment->quantity, used, &ret_shortfall->quantity))
        return false;
    if (!is_due || ret_shortfall->quantity.e12 <= 0) {
        ret_shortfall->quantity.e12 = 0;
        return true;
    }
    const struct weir_price *effective = weir_rater_effective_price(rater, contract, price, period->start);
    const struct weir_price_running *running = running_of(rater, period, ret_shortfall->version, price);
    if (running->entry.exists || running->entry.is_dirty)
        before = running->amount;
    return effective && weir_decimal_add(running->quantity, ret_shortfall->quantity, &quantity)
           && weir_price_total(effective, quantity, running->events, &after)
           && weir_decimal_subtract(after, before, &ret_shortfall->amount);
}

static struct weir_commitment_running *commitment_of(struct weir_rater *rater, const struct weir_period_running *period,
                                                     const struct weir_commitment *commitment)
{
    return weir_state_commitment(rater->state, period->customer, period->contract, period->start, period->end,
                                 commitment->key);
}

void weir_rater_aim_at_minimums(struct weir_rater *rater, const struct weir_contract *contract,
                                const struct weir_period_running *period)
{
    weir_state_account(rater->state, period->customer);
    for (uint32_t i = 0; i < contract->commitment_count; i++) {
        const struct weir_commitment *commitment = &contract->commitments[i];
        if (commitment->type != WEIR_COMMITMENT_MINIMUM_QUANTITY)
            continue;
        weir_rater_aim_at_quantity(rater, contract, period, commitment->meter);
        commitment_of(rater, period, commitment);
    }
}

bool weir_rater_shortfalls(struct weir_rater *rater, const struct weir_contract *contract,
                           const struct weir_period_running *period, bool is_over, struct weir_decimal *ret_amount)
{
    struct shortfall shortfall;

    *ret_amount = (struct weir_decimal){0};
    for (uint32_t i = 0; contract->has_minimum_quantity && i < contract->commitment_count; i++)
        if (contract->commitments[i].type == WEIR_COMMITMENT_MINIMUM_QUANTITY
            && (is_over || !contract->commitments[i].is_per_term)
            && (!find_missing(rater, contract, period, &contract->commitments[i], &shortfall)
                || !weir_decimal_add(*ret_amount, shortfall.amount, ret_amount)))
            return false;
    return true;
}

/* 2. charging */

bool weir_rater_charge_commitment(struct weir_rater *rater, struct weir_commitment_running *running,
                                  struct weir_decimal quantity, struct weir_decimal amount, struct weir_line_item *item)
{
    if (!weir_decimal_subtract(quantity, running->quantity, &item->quantity)
        || !weir_decimal_subtract(amount, running->amount, &item->amount))
        return false;
    if (weir_decimal_is_zero(item->quantity) && weir_decimal_is_zero(item->amount))
        return true;
    item->item = running->commitment;
    item->revision = ++running->revision;
    weir_rater_add_item(rater, item);
    running->quantity = quantity;
    running->amount = amount;
    running->entry.is_dirty = true;
    return true;
}

bool weir_rater_minimums(struct weir_rater *rater, const struct weir_contract *contract,
                         const struct weir_period_running *period)
{
    struct shortfall shortfall;

    for (uint32_t i = 0; contract->has_minimum_quantity && i < contract->commitment_count; i++) {
        const struct weir_commitment *commitment = &contract->commitments[i];
        if (commitment->type != WEIR_COMMITMENT_MINIMUM_QUANTITY)
            continue;
        if (!find_missing(rater, contract, period, commitment, &shortfall))
            return false;
        struct weir_line_item item = weir_rater_period_item(contract, period, shortfall.version);
        item.kind = WEIR_KIND_TRUE_UP;
        item.component = WEIR_COMPONENT_SHORTFALL;
        item.has_unit_price = false;
        if (!weir_rater_charge_commitment(rater, commitment_of(rater, period, commitment), shortfall.quantity,
                                          shortfall.amount, &item))
            return false;
    }
    return true;
}

/* By terms that hold in the time from `from` on. */
static bool is_listed_before(const struct weir_contract *terms, struct weir_slice key, int64_t from)
{
    for (uint32_t back = 1; back <= terms->phase && (terms - back)->ends_at > from; back++)
        for (uint32_t i = 0; i < (terms - back)->commitment_count; i++)
            if (weir_slice_equal((terms - back)->commitments[i].key, key))
                return true;
    return false;
}

/* When it is bought, by the terms that list it first: once, or in the term. */
static int64_t bought_at(const struct weir_contract *terms, const struct weir_commitment *commitment,
                         const struct weir_term *term)
{
    int64_t at = commitment->is_per_term ? term->starts_at : commitment->starts_at;

    return at < terms->starts_at ? terms->starts_at : at;
}

static bool is_bought_in(const struct weir_contract *terms, const struct weir_commitment *commitment,
                         const struct weir_term *term, const struct weir_period_running *period)
{
    int64_t at = bought_at(terms, commitment, term);

    if (commitment->is_per_term && at >= terms->ends_at)
        return false;
    return at >= period->start && at < period->end
           && !is_listed_before(terms, commitment->key, commitment->is_per_term ? term->starts_at : INT64_MIN);
}

/* It may start under later terms than those that list it first. */
void weir_rater_charge_purchases(struct weir_rater *rater, const struct weir_contract *contract,
                                 const struct weir_period_running *period)
{
    char key[WEIR_TERM_KEY_MAX];
    struct weir_term term;

    weir_contract_term_at(contract, period->start, &term);
    for (const struct weir_contract *terms = contract - contract->phase; terms <= contract; terms++) {
        for (uint32_t i = 0; terms->has_prepaid && i < terms->commitment_count; i++) {
            const struct weir_commitment *commitment = &terms->commitments[i];
            if (commitment->type != WEIR_COMMITMENT_PREPAID || weir_decimal_is_zero(commitment->price)
                || !is_bought_in(terms, commitment, &term, period))
                continue;
            struct weir_line_item item =
                weir_rater_period_item(contract, period, weir_price_book_at(contract->book, period->start));
            item.item = commitment->is_per_term
                            ? weir_state_copy(rater->state, weir_term_key(commitment->key, term.number, key))
                            : commitment->key;
            item.kind = WEIR_KIND_FEE;
            item.component = WEIR_COMPONENT_FEE;
            item.unit_price = item.amount = commitment->price;
            item.advance_at = bought_at(terms, commitment, &term);
            weir_rater_add_item(rater, &item);
        }
    }
}
