/* Minimum spends per term: what is missing is charged in the term's last billing period, a running total of that (its
 * true_up), for the usage of all of them (docs/catalog.md, "Renewal and end"). */
#include "rater/rate_internal.h"

/* A term with a minimum of its own. */
struct term {
    struct weir_term span;
    const struct weir_contract *last_terms; /* of its last period, which say what the minimum is */
    const struct weir_commitment *commitment;
};

/* false: the term that holds the time has none. */
static bool find_term(const struct weir_contract *contract, int64_t time, struct term *ret_term)
{
    weir_contract_term_at(contract, time, &ret_term->span);
    ret_term->last_terms = weir_contract_phase_at(contract, ret_term->span.ends_at - 1);
    ret_term->commitment = weir_contract_term_minimum(ret_term->last_terms);
    return ret_term->commitment;
}

/* The term's periods one after another: *at is the term's start first. NULL: there are no more. */
static struct weir_period_running *next_period(struct weir_rater *rater, const struct term *term,
                                               struct weir_slice customer, int64_t *at,
                                               const struct weir_contract **ret_terms)
{
    int64_t start, end;

    if (*at >= term->span.ends_at)
        return NULL;
    *ret_terms = weir_contract_phase_at(term->last_terms, *at);
    weir_contract_period_at(*ret_terms, *at, &start, &end);
    *at = end;
    return weir_state_period(rater->state, customer, (*ret_terms)->key, start, end);
}

void weir_rater_aim_at_term(struct weir_rater *rater, const struct weir_contract *contract,
                            const struct weir_period_running *period)
{
    const struct weir_contract *terms;
    struct term term;

    if (!find_term(contract, period->start, &term))
        return;
    for (int64_t at = term.span.starts_at; next_period(rater, &term, period->customer, &at, &terms);)
        if (terms->has_minimum_quantity)
            weir_state_account(rater->state, period->customer);
}

/* What has been charged in a period for missing quantities: that is usage here as well. */
static bool add_shortfalls(struct weir_rater *rater, const struct weir_contract *terms,
                           const struct weir_period_running *period, struct weir_decimal *spent)
{
    for (uint32_t i = 0; terms->has_minimum_quantity && i < terms->commitment_count; i++)
        if (terms->commitments[i].type == WEIR_COMMITMENT_MINIMUM_QUANTITY
            && !weir_decimal_add(*spent,
                                 weir_state_commitment(rater->state, period->customer, period->contract, period->start,
                                                       period->end, terms->commitments[i].key)
                                     ->amount,
                                 spent))
            return false;
    return true;
}

/* What is missing, as far as it is due: when the last period is closed (or `period`, which is about to be), and the
 * first one is known, since nobody knows what was used before weir counted. false: overflow. */
static bool find_missing(struct weir_rater *rater, const struct term *term, const struct weir_period_running *period,
                         struct weir_period_running **ret_last, struct weir_decimal *ret_missing)
{
    struct weir_decimal spent = {0}, of_period;
    const struct weir_contract *terms;
    struct weir_period_running *next, *first = NULL;

    *ret_last = NULL;
    *ret_missing = (struct weir_decimal){0};
    for (int64_t at = term->span.starts_at; (next = next_period(rater, term, period->customer, &at, &terms));) {
        const struct weir_commitment *commitment = weir_contract_term_minimum(terms);
        first = first ? first : next;
        *ret_last = next;
        if (!commitment || !weir_slice_equal(commitment->key, term->commitment->key))
            continue;
        if (!weir_decimal_add(spent, next->usage_amount, &spent))
            return false;
        if (next != period
                ? !add_shortfalls(rater, terms, next, &spent)
                : !weir_rater_shortfalls(rater, terms, next, &of_period) || !weir_decimal_add(spent, of_period, &spent))
            return false;
    }
    weir_check(*ret_last);
    if (!first->is_advance_charged || !((*ret_last)->is_closed || *ret_last == period))
        return true;
    if (!weir_decimal_subtract(term->commitment->amount, spent, ret_missing))
        return false;
    if (ret_missing->e12 < 0)
        ret_missing->e12 = 0;
    return true;
}

bool weir_rater_can_true_up_term(struct weir_rater *rater, const struct weir_contract *contract,
                                 const struct weir_period_running *period)
{
    struct weir_period_running *last;
    struct weir_decimal missing;
    struct term term;

    return !find_term(contract, period->start, &term) || find_missing(rater, &term, period, &last, &missing);
}

bool weir_rater_true_up_term(struct weir_rater *rater, const struct weir_contract *contract,
                             const struct weir_period_running *period)
{
    struct weir_period_running *last;
    struct weir_decimal missing;
    struct term term;

    return !find_term(contract, period->start, &term)
           || (find_missing(rater, &term, period, &last, &missing)
               && weir_rater_charge_true_up(rater, term.last_terms, last, term.commitment->key, missing));
}
