/* Minimums per term: what is missing is charged in the term's last billing period, a running total of that, for the
 * usage of all of them (docs/catalog.md, "Renewal and end"). Of spend in its true_up; of quantities as those of a
 * period are (minimums.c), of which only what was used is other. */
#include "rater/rate_internal.h"

/* A term with minimums of its own, as its last period's terms list them. */
struct term {
    struct weir_term span;
    const struct weir_contract *last_terms;
    const struct weir_commitment *commitment; /* the minimum spend; NULL: there is none */
    bool has_quantity;
};

/* false: the term that holds the time has none. */
static bool find_term(const struct weir_contract *contract, int64_t time, struct term *ret_term)
{
    weir_contract_term_at(contract, time, &ret_term->span);
    ret_term->last_terms = weir_contract_phase_at(contract, ret_term->span.ends_at - 1);
    ret_term->commitment = weir_contract_term_minimum(ret_term->last_terms);
    ret_term->has_quantity = false;
    for (uint32_t i = 0; i < ret_term->last_terms->commitment_count; i++)
        ret_term->has_quantity |= weir_commitment_is_term_quantity(&ret_term->last_terms->commitments[i]);
    return ret_term->commitment || ret_term->has_quantity;
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

static struct weir_period_running *last_period(struct weir_rater *rater, const struct term *term,
                                               struct weir_slice customer)
{
    const struct weir_contract *terms;
    int64_t at = term->span.ends_at - 1;

    return next_period(rater, term, customer, &at, &terms);
}

/* Nobody knows what was used before weir counted. */
static bool is_known(struct weir_rater *rater, const struct term *term, struct weir_slice customer)
{
    const struct weir_contract *terms;
    int64_t at = term->span.starts_at;

    return next_period(rater, term, customer, &at, &terms)->is_advance_charged;
}

void weir_rater_aim_at_term(struct weir_rater *rater, const struct weir_contract *contract,
                            const struct weir_period_running *period)
{
    const struct weir_contract *terms;
    struct weir_period_running *next;
    struct term term;

    if (!find_term(contract, period->start, &term))
        return;
    for (int64_t at = term.span.starts_at; (next = next_period(rater, &term, period->customer, &at, &terms));) {
        if (terms->has_minimum_quantity)
            weir_state_account(rater->state, period->customer);
        for (uint32_t i = 0; term.has_quantity && i < terms->commitment_count; i++)
            if (weir_commitment_is_term_quantity(&terms->commitments[i]))
                weir_rater_aim_at_quantity(rater, terms, next, terms->commitments[i].meter);
    }
    if (term.last_terms->has_minimum_quantity)
        weir_rater_aim_at_minimums(rater, term.last_terms, last_period(rater, &term, period->customer));
}

static bool lists(const struct weir_contract *terms, const struct weir_commitment *quantity)
{
    for (uint32_t i = 0; i < terms->commitment_count; i++)
        if (weir_commitment_is_term_quantity(&terms->commitments[i]) && terms->commitments[i].meter == quantity->meter
            && weir_slice_equal(terms->commitments[i].key, quantity->key))
            return true;
    return false;
}

bool weir_rater_term_quantity(struct weir_rater *rater, const struct weir_contract *contract,
                              const struct weir_period_running *period, const struct weir_commitment *commitment,
                              bool *ret_is_due, struct weir_decimal *ret_quantity)
{
    const struct weir_contract *terms;
    struct weir_period_running *next;
    struct term term;

    *ret_quantity = (struct weir_decimal){0};
    *ret_is_due = find_term(contract, period->start, &term)
                  && last_period(rater, &term, period->customer)->start == period->start
                  && is_known(rater, &term, period->customer);
    if (!*ret_is_due)
        return true;
    for (int64_t at = term.span.starts_at; (next = next_period(rater, &term, period->customer, &at, &terms));)
        if (lists(terms, commitment) && !weir_rater_add_quantity(rater, terms, next, commitment->meter, ret_quantity))
            return false;
    return true;
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

/* What is missing to the minimum spend, as far as it is due: when the last period is closed (or `period`, which is
 * about to be), and the first one is known. false: overflow. */
static bool find_missing(struct weir_rater *rater, const struct term *term, const struct weir_period_running *period,
                         const struct weir_period_running *last, struct weir_decimal *ret_missing)
{
    bool is_due = (last->is_closed || last == period) && is_known(rater, term, period->customer);
    struct weir_decimal spent = {0}, of_period;
    const struct weir_contract *terms;
    struct weir_period_running *next;

    *ret_missing = (struct weir_decimal){0};
    for (int64_t at = term->span.starts_at; (next = next_period(rater, term, period->customer, &at, &terms));) {
        const struct weir_commitment *commitment = weir_contract_term_minimum(terms);
        bool is_brought_forward = next == period || (next == last && is_due);
        if (!commitment || !weir_slice_equal(commitment->key, term->commitment->key))
            continue;
        if (!weir_decimal_add(spent, next->usage_amount, &spent))
            return false;
        if (is_brought_forward ? !weir_rater_shortfalls(rater, terms, next, true, &of_period)
                                     || !weir_decimal_add(spent, of_period, &spent)
                               : !add_shortfalls(rater, terms, next, &spent))
            return false;
    }
    if (!is_due)
        return true;
    if (!weir_decimal_subtract(term->commitment->amount, spent, ret_missing))
        return false;
    if (ret_missing->e12 < 0)
        ret_missing->e12 = 0;
    return true;
}

/* What the last period is charged for missing quantities depends on the other periods as well, and what it has to be
 * charged to a minimum spend of its own on that. */
static bool bears_others(const struct term *term, const struct weir_period_running *period,
                         const struct weir_period_running *last)
{
    return term->has_quantity && last != period && last->is_closed;
}

bool weir_rater_can_true_up_term(struct weir_rater *rater, const struct weir_contract *contract,
                                 const struct weir_period_running *period)
{
    struct weir_decimal missing;
    struct term term;

    if (!find_term(contract, period->start, &term))
        return true;
    const struct weir_period_running *last = last_period(rater, &term, period->customer);
    if (bears_others(&term, period, last) && !weir_rater_can_true_up_period(rater, term.last_terms, last, true))
        return false;
    return !term.commitment || find_missing(rater, &term, period, last, &missing);
}

bool weir_rater_true_up_term(struct weir_rater *rater, const struct weir_contract *contract,
                             const struct weir_period_running *period)
{
    struct weir_decimal missing;
    struct term term;

    if (!find_term(contract, period->start, &term))
        return true;
    struct weir_period_running *last = last_period(rater, &term, period->customer);
    if (bears_others(&term, period, last) && !weir_rater_true_up_period(rater, term.last_terms, last))
        return false;
    return !term.commitment
           || (find_missing(rater, &term, period, last, &missing)
               && weir_rater_charge_true_up(rater, term.last_terms, last, term.commitment->key, missing));
}
