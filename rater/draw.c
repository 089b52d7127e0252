/* Prepaid amounts: from what the state knows of a customer to line items of kind drawdown and overage. The rule itself
 * is in drawdown.h; here its answer is compared with what was entered so far. */
#include <stdlib.h>

#include "rater/draw_internal.h"

/* 1. segments */
static void cut_at(int64_t boundary, int64_t time, int64_t *start, int64_t *end)
{
    if (boundary <= time && boundary > *start)
        *start = boundary;
    if (boundary > time && boundary < *end)
        *end = boundary;
}

static void cut_at_grant(const struct weir_commitment *commitment, int64_t time, int64_t *start, int64_t *end)
{
    if (commitment->is_per_term)
        return; /* it begins and expires where billing periods do */
    cut_at(commitment->starts_at, time, start, end);
    cut_at(commitment->expires_at, time, start, end);
    if (!weir_decimal_is_zero(commitment->rollover_fraction))
        cut_at(commitment->rollover_expires_at, time, start, end);
}

/* What is drawn is earned in a calendar month of the contract's time zone (docs/revenue.md). */
static void cut_at_months(const struct weir_contract *contract, int64_t time, int64_t *start, int64_t *end)
{
    bool is_month = contract->billing_period == WEIR_PERIOD_MONTH && contract->billing_anchor.day == 0;
    int64_t month_start, month_end;

    if (is_month || contract->billing_period == WEIR_PERIOD_DAY)
        return;
    weir_period_of(WEIR_PERIOD_MONTH, (struct weir_billing_anchor){0}, contract->zone, time, &month_start, &month_end);
    cut_at(month_start, time, start, end);
    cut_at(month_end, time, start, end);
}

void weir_segment_at(const struct weir_contract *contract, const struct weir_account *account, int64_t period_start,
                     int64_t period_end, int64_t time, int64_t *ret_start, int64_t *ret_end)
{
    *ret_start = period_start;
    *ret_end = period_end;
    cut_at_months(contract, time, ret_start, ret_end);
    for (uint32_t i = 0; i < contract->commitment_count; i++)
        if (contract->commitments[i].type == WEIR_COMMITMENT_PREPAID)
            cut_at_grant(&contract->commitments[i], time, ret_start, ret_end);
    for (size_t i = 0; account && i < account->order_count; i++) {
        const struct weir_grant_order *order = &account->orders[i];
        if (!weir_slice_equal(order->contract, contract->key))
            continue;
        if (order->is_grant)
            cut_at_grant(&order->commitment, time, ret_start, ret_end);
        if (order->is_ended)
            cut_at(order->ends_at, time, ret_start, ret_end);
    }
}

/* An end cuts nothing off here: what has segments keeps them. */
bool weir_has_segments(const struct weir_contract *contract, const struct weir_account *account, int64_t period_start,
                       int64_t period_end)
{
    if (contract->has_prepaid)
        return true;
    for (size_t i = 0; account && i < account->order_count; i++) {
        const struct weir_grant_order *order = &account->orders[i];
        const struct weir_commitment *grant = &order->commitment;
        if (order->is_grant && weir_slice_equal(order->contract, contract->key) && grant->starts_at < period_end
            && (grant->expires_at > period_start
                || (!weir_decimal_is_zero(grant->rollover_fraction) && grant->rollover_expires_at > period_start)))
            return true;
    }
    return false;
}

/* 2. one customer's grants and charges */

/* Kept between customers; sized for one. */
struct account {
    struct weir_rater *rater;
    struct weir_slice customer;
    const struct weir_account *known; /* NULL only where it has no orders */
    struct weir_grant_book *book;
    struct weir_usage_charge *charges;
    size_t charge_count, charge_room;
    enum weir_status status; /* WEIR_FATAL: the segments are not those of this catalog */
};

static void add_charge(struct account *account, const struct weir_usage_charge *charge)
{
    if (account->charge_count == account->charge_room) {
        account->charge_room = account->charge_room ? account->charge_room * 2 : 64;
        account->charges = weir_resize(account->charges, account->charge_room, sizeof *account->charges);
    }
    account->charges[account->charge_count++] = *charge;
}

const struct weir_contract *weir_terms_of(const struct weir_catalog *catalog, struct weir_slice customer,
                                          struct weir_slice key, int64_t period_start)
{
    /* A period of the default contract may begin where the customer still has one with a key. */
    const struct weir_contract *contract =
        key.length ? weir_catalog_contract_at(catalog, customer, period_start) : catalog->default_contract;

    return contract && weir_slice_equal(contract->key, key) ? contract : NULL;
}

const struct weir_price *weir_price_of(const struct weir_contract *contract, const struct weir_price_running *running)
{
    for (uint32_t i = 0; i < contract->book->version_count; i++) {
        const struct weir_price *price;
        if (contract->book->versions[i].version != running->price_book_version)
            continue;
        for (uint32_t at = 0; (price = weir_next_price(&contract->book->versions[i], &at));)
            if (weir_slice_equal(price->key, running->price_key))
                return price;
    }
    return NULL;
}

/* What there is of a customer to draw for: one of them. */
struct part {
    struct weir_slice customer;
    const struct weir_segment_running *segment;
    const struct weir_commitment_running *commitment;
    const struct weir_period_running *period; /* that is settled now: what its terms grant is there, used or not */
    const struct weir_grant_running *grant;   /* that the ledger knows: it may have ended, used or not */
};

/* The segments of one price, in the order of time: each costs what the total through it costs less what the one before
 * it did. So what a segment costs does not depend on the order in which its windows were rated. false: overflow. */
static bool charge_segments(struct account *account, const struct part *parts, size_t count)
{
    const struct weir_price_running *running = parts[0].segment->price;
    const struct weir_contract *contract =
        weir_terms_of(account->rater->catalog, running->customer, running->contract, running->period_start);
    const struct weir_price *price = contract ? weir_price_of(contract, running) : NULL;
    const struct weir_price *effective =
        price ? weir_rater_effective_price(account->rater, contract, price, running->period_start) : NULL;
    struct weir_decimal quantity = {0}, before = {0}, after;
    uint64_t events = 0;

    if (!price)
        return true; /* the catalog has no such terms any more: nothing of it is drawn */
    struct weir_usage_charge charge = {.contract = running->contract,
                                       .terms_at = contract->starts_at,
                                       .meter = price->meter->key,
                                       .currency = contract->book->currency,
                                       .order = weir_contract_draw_order(contract, running->period_start),
                                       .period_start = running->period_start,
                                       .segment_start = running->period_start};
    weir_grant_book_add(account->book, contract, running->period_start);
    /* A flat fee at zero is of the period's start, wherever its first window lies. */
    if (!effective || !weir_price_total(effective, quantity, events, &before))
        return false;
    charge.amount = before;
    add_charge(account, &charge);
    for (size_t i = 0; i < count; i++) {
        const struct weir_segment_running *segment = parts[i].segment;
        charge.segment_start = segment->start;
        events += segment->events;
        if (!weir_decimal_add(quantity, segment->quantity, &quantity)
            || !weir_price_total(effective, quantity, events, &after)
            || !weir_decimal_subtract(after, before, &charge.amount))
            return false;
        before = after;
        add_charge(account, &charge);
    }
    if (quantity.e12 != running->quantity.e12 || events != running->events)
        account->status = WEIR_FATAL;
    return true;
}

static void charge_at_end(struct account *account, const struct weir_contract *contract,
                          const struct weir_commitment_running *running, const struct weir_meter *meter)
{
    int64_t start, end;

    weir_segment_at(contract, account->known, running->period_start, running->period_end, running->period_end - 1,
                    &start, &end);
    weir_grant_book_add(account->book, contract, running->period_start);
    add_charge(account, &(struct weir_usage_charge){.contract = running->contract,
                                                    .terms_at = contract->starts_at,
                                                    .meter = meter->key,
                                                    .currency = contract->book->currency,
                                                    .order = weir_contract_draw_order(contract, running->period_start),
                                                    .period_start = running->period_start,
                                                    .segment_start = start,
                                                    .amount = running->amount});
}

/* What is charged for missing quantities is usage of the period's last instant; what discounts on the invoice take off
 * a meter's usage as well, below zero. */
static void charge_shortfall(struct account *account, const struct weir_commitment_running *running)
{
    const struct weir_contract *contract =
        weir_terms_of(account->rater->catalog, running->customer, running->contract, running->period_start);
    const struct weir_meter *meter = weir_catalog_meter(account->rater->catalog, running->commitment);
    bool is_commitment = false;

    for (uint32_t i = 0; contract && i < contract->commitment_count; i++) {
        const struct weir_commitment *commitment = &contract->commitments[i];
        if (!weir_slice_equal(commitment->key, running->commitment))
            continue;
        is_commitment = true;
        if (commitment->type == WEIR_COMMITMENT_MINIMUM_QUANTITY)
            charge_at_end(account, contract, running, commitment->meter);
    }
    if (contract && meter && !is_commitment)
        charge_at_end(account, contract, running, meter);
}

static void note_terms(struct account *account, const struct weir_period_running *period)
{
    const struct weir_contract *contract =
        weir_terms_of(account->rater->catalog, period->customer, period->contract, period->start);

    if (contract)
        weir_grant_book_add(account->book, contract, period->start);
}

/* By the first terms that list it. */
static void note_known(struct account *account, const struct weir_grant_running *grant)
{
    const struct weir_contract *at =
        weir_terms_of(account->rater->catalog, grant->customer, grant->contract, grant->starts_at);
    const struct weir_contract *terms = at ? at - at->phase : NULL;

    for (const struct weir_contract *end = at ? terms + at->phase_count : NULL; terms < end; terms++)
        for (uint32_t i = 0; i < terms->commitment_count; i++)
            if ((!terms->commitments[i].is_per_term || grant->starts_at < terms->ends_at)
                && weir_commitment_grants(&terms->commitments[i], grant->key)) {
                weir_grant_book_add(account->book, terms,
                                    grant->starts_at > terms->starts_at ? grant->starts_at : terms->starts_at);
                return;
            }
}

/* 3. the difference */
static bool take_draw(void *context, const struct weir_usage_charge *charge, const struct weir_grant *grant,
                      struct weir_decimal amount)
{
    struct account *account = context;
    const struct weir_contract *contract =
        weir_terms_of(account->rater->catalog, account->customer, charge->contract, charge->period_start);
    struct weir_draw_running probe = {.customer = account->customer,
                                      .contract = charge->contract,
                                      .period_start = charge->period_start,
                                      .segment_start = charge->segment_start,
                                      .meter = charge->meter,
                                      .grant = grant ? grant->key : (struct weir_slice){0}};
    int64_t start;

    weir_check(contract != NULL);
    weir_contract_period_at(contract, charge->period_start, &start, &probe.period_end);
    weir_state_draw(account->rater->state, &probe)->target = amount;
    return true;
}

/* false: overflow. */
static bool enter_draw(struct weir_rater *rater, struct weir_draw_running *draw)
{
    struct weir_decimal change;

    if (!weir_decimal_subtract(draw->target, draw->amount, &change))
        return false;
    if (weir_decimal_is_zero(change))
        return true;
    const struct weir_contract *contract =
        weir_terms_of(rater->catalog, draw->customer, draw->contract, draw->period_start);
    weir_check(contract != NULL);
    const struct weir_period_running period = {
        .customer = draw->customer, .contract = draw->contract, .start = draw->period_start, .end = draw->period_end};
    struct weir_line_item item =
        weir_rater_period_item(contract, &period, weir_price_book_at(contract->book, period.start));
    bool is_overage = draw->grant.length == 0;
    weir_segment_at(contract, weir_state_known_account(rater->state, draw->customer), period.start, period.end,
                    draw->segment_start, &item.window_start, &item.window_end);
    item.item = is_overage ? draw->meter : draw->grant;
    if (!is_overage)
        item.dimensions[item.dimension_count++] =
            (struct weir_dimension){.name = weir_slice_text("meter"), .text = draw->meter};
    item.kind = is_overage ? WEIR_KIND_OVERAGE : WEIR_KIND_DRAWDOWN;
    item.component = is_overage ? WEIR_COMPONENT_OVERAGE : WEIR_COMPONENT_DRAWDOWN;
    item.quantity = weir_decimal_of(0);
    item.has_unit_price = false;
    item.amount = is_overage ? change : weir_decimal_negate(change);
    item.revision = ++draw->revision;
    weir_rater_add_item(rater, &item);
    draw->amount = draw->target;
    draw->change = change;
    draw->entry.is_dirty = true;
    return true;
}

/* By customer, its segments first, those of a price together. */
static int compare_parts(const void *left, const void *right)
{
    const struct part *a = left, *b = right;
    int order = weir_slice_compare(a->customer, b->customer);

    if (!order)
        order = (a->segment == NULL) - (b->segment == NULL);
    if (order || !a->segment)
        return order;
    if (a->segment->price != b->segment->price)
        return (uintptr_t)a->segment->price < (uintptr_t)b->segment->price ? -1 : 1; /* entries never move */
    return (a->segment->start > b->segment->start) - (a->segment->start < b->segment->start);
}

static int compare_draws(const void *left, const void *right)
{
    const struct weir_draw_running *a = *(struct weir_draw_running *const *)left,
                                   *b = *(struct weir_draw_running *const *)right;
    int order = weir_slice_compare(a->customer, b->customer);

    if (!order)
        order = (a->segment_start > b->segment_start) - (a->segment_start < b->segment_start);
    if (!order)
        order = weir_slice_compare(a->meter, b->meter);
    return order ? order : weir_slice_compare(a->grant, b->grant);
}

/* All there is of one customer (count 0: nothing but what was granted); targets of its draws are 0. false: overflow. */
static bool allocate(struct account *account, struct weir_slice customer, const struct part *parts, size_t count)
{
    account->charge_count = 0;
    account->customer = customer;
    account->known = weir_state_known_account(account->rater->state, customer);
    weir_grant_book_begin(account->book, customer);
    for (size_t first = 0, end; first < count; first = end) {
        end = first + 1;
        if (parts[first].period)
            note_terms(account, parts[first].period);
        if (parts[first].grant)
            note_known(account, parts[first].grant);
        if (parts[first].commitment)
            charge_shortfall(account, parts[first].commitment);
        if (!parts[first].segment)
            continue;
        while (end < count && parts[end].segment && parts[end].segment->price == parts[first].segment->price)
            end++;
        if (!charge_segments(account, parts + first, end - first))
            return false;
    }
    return weir_draw_down(account->book->grants, account->book->count, account->charges, account->charge_count,
                          take_draw, account)
           && weir_grant_book_end(account->book);
}

static bool enter_all(struct account *account)
{
    struct weir_rater *rater = account->rater;
    struct weir_state_view all = weir_state_all(rater->state);
    struct weir_draw_running **draws = weir_new_array(all.draw_count + 1, sizeof(struct weir_draw_running *));
    bool fits = true;

    /* In one order, whatever the state's: a replay gives the same rows. */
    for (size_t i = 0; i < all.draw_count; i++)
        draws[i] = all.draws[i];
    if (all.draw_count > 1)
        qsort(draws, all.draw_count, sizeof(struct weir_draw_running *), compare_draws);
    for (size_t i = 0; i < all.draw_count && fits; i++) {
        account->customer = draws[i]->customer;
        fits = weir_rater_is_outdated(rater, draws[i]->customer) || enter_draw(rater, draws[i]);
    }
    free(draws);
    return fits;
}

/* An entry that was only looked for says nothing, and a price that was never evaluated has charged nothing. */
static bool was_charged(const struct weir_segment_running *segment)
{
    return (segment->entry.exists || segment->entry.is_dirty)
           && (segment->price->entry.exists || segment->price->entry.is_dirty);
}

static struct part *list_parts(struct weir_state *state, size_t *ret_count)
{
    struct weir_state_view all = weir_state_all(state);
    size_t room = all.segment_count + all.commitment_count + all.period_count + all.grant_count, count = 0;
    struct part *parts = weir_new_array(room + 1, sizeof *parts);

    for (size_t i = 0; i < all.segment_count; i++)
        if (was_charged(all.segments[i]))
            parts[count++] = (struct part){.customer = all.segments[i]->price->customer, .segment = all.segments[i]};
    for (size_t i = 0; i < all.commitment_count; i++)
        parts[count++] = (struct part){.customer = all.commitments[i]->customer, .commitment = all.commitments[i]};
    for (size_t i = 0; i < all.period_count; i++)
        if (all.periods[i]->entry.is_dirty && weir_state_known_account(state, all.periods[i]->customer))
            parts[count++] = (struct part){.customer = all.periods[i]->customer, .period = all.periods[i]};
    for (size_t i = 0; i < all.grant_count; i++)
        if (all.grants[i]->number > 0)
            parts[count++] = (struct part){.customer = all.grants[i]->customer, .grant = all.grants[i]};
    if (count > 1)
        qsort(parts, count, sizeof *parts, compare_parts);
    *ret_count = count;
    return parts;
}

/* Accounts of which the state holds nothing to draw for: what was ordered for them is noted all the same. */
static bool draw_others(struct weir_rater *rater, struct account *account)
{
    struct weir_state_view all = weir_state_all(rater->state);
    bool fits = true;

    for (size_t i = 0; i < all.account_count && fits; i++)
        if (!all.accounts[i]->is_drawn && !all.accounts[i]->is_outdated && all.accounts[i]->order_count > 0)
            fits = allocate(account, all.accounts[i]->customer, NULL, 0);
    return fits;
}

static bool draw_all(struct weir_rater *rater, struct account *account)
{
    struct weir_state_view all = weir_state_all(rater->state);
    size_t count;
    struct part *parts = list_parts(rater->state, &count);
    bool fits = true;

    for (size_t i = 0; i < all.draw_count; i++)
        all.draws[i]->target = (struct weir_decimal){0};
    for (size_t i = 0; i < all.grant_count; i++)
        all.grants[i]->commitment = NULL; /* not seen in this pass */
    for (size_t i = 0; i < all.account_count; i++)
        all.accounts[i]->is_drawn = false;
    for (size_t first = 0, end; first < count && fits && account->status == WEIR_OK; first = end) {
        end = first + 1;
        while (end < count && weir_slice_equal(parts[end].customer, parts[first].customer))
            end++;
        if (weir_rater_is_outdated(rater, parts[first].customer))
            continue;
        weir_state_account(rater->state, parts[first].customer)->is_drawn = true;
        fits = allocate(account, parts[first].customer, parts + first, end - first);
    }
    free(parts);
    fits = fits && (account->status != WEIR_OK || draw_others(rater, account));
    return fits && (account->status != WEIR_OK || enter_all(account));
}

/* The largest one, less 1. */
static void take_multiplier(struct weir_decimal multiplier, struct weir_decimal *most)
{
    struct weir_decimal more;

    if (weir_decimal_subtract(multiplier, weir_decimal_of(1), &more) && weir_decimal_compare(more, *most) > 0)
        *most = more;
}

bool weir_rater_can_draw(struct weir_rater *rater, const struct weir_contract *contract,
                         const struct weir_period_running *period, bool is_over)
{
    const struct weir_account *account = weir_state_known_account(rater->state, period->customer);
    struct weir_decimal most = {0}, spent;

    for (uint32_t i = 0; contract->has_prepaid && i < contract->commitment_count; i++)
        if (contract->commitments[i].type == WEIR_COMMITMENT_PREPAID)
            take_multiplier(contract->commitments[i].overage_multiplier, &most);
    for (size_t i = 0; account && i < account->order_count; i++)
        if (account->orders[i].is_grant && weir_slice_equal(account->orders[i].contract, contract->key))
            take_multiplier(account->orders[i].commitment.overage_multiplier, &most);
    /* No meter and segment has more to cover than all usage of the period comes to. */
    return weir_decimal_is_zero(most)
           || (weir_rater_shortfalls(rater, contract, period, is_over, &spent)
               && weir_decimal_add(spent, period->usage_amount, &spent) && weir_decimal_multiply(spent, most, &spent));
}

enum weir_status weir_rater_draw(struct weir_rater *rater, struct weir_error *reterr)
{
    struct weir_grant_book book = {.rater = rater};
    struct account account = {.rater = rater, .book = &book};

    if (weir_state_all(rater->state).account_count == 0)
        return WEIR_OK;
    bool fits = draw_all(rater, &account);
    enum weir_status status = fits ? account.status : WEIR_REJECT;
    if (!fits)
        status = weir_rater_say_overdrawn(rater, account.customer, reterr);
    else if (status != WEIR_OK)
        weir_fail(reterr, status,
                  "customer '%.*s': usage was rated before its contract had the prepaid amounts of this catalog. Apply "
                  "the catalog that it was rated with, and give the customer a contract with the new terms",
                  (int)account.customer.length, account.customer.data);
    weir_grant_book_free(&book);
    free(account.charges);
    return status;
}
