#include "rater/orders.h"

#include <stdio.h>
#include <string.h>

#include "common/calendar.h"
#include "rater/draw_internal.h"

/* One order on its way. */
struct ordering {
    struct weir_rater *rater;
    const struct weir_order_request *request;
    struct weir_account *account;
    const struct weir_contract *terms; /* that hold when it begins to matter */
    struct weir_grant_order order;
    int64_t from, to; /* usage of this time may be kept by other segments */
    bool is_there;    /* it was ordered before */
    struct weir_error *reterr;
};

static enum weir_status refuse(const struct ordering *ordering, const char *why)
{
    const struct weir_order_request *request = ordering->request;

    return weir_fail(ordering->reterr, WEIR_REJECT, "customer '%.*s', grant '%.*s': %s", (int)request->customer.length,
                     request->customer.data, (int)request->grant.key.length, request->grant.key.data, why);
}

static enum weir_status load(struct ordering *ordering)
{
    struct weir_rater *rater = ordering->rater;

    return rater->ledger->ops->load(rater->ledger, rater->state, ordering->reterr);
}

/* 1. a grant, against the catalog */

static bool has_its_meters(const struct weir_catalog *catalog, const struct weir_commitment *grant)
{
    for (uint32_t i = 0; i < grant->meter_count; i++)
        if (!weir_catalog_meter(catalog, grant->meters[i]))
            return false;
    return true;
}

/* What is bought as a package amounts to and costs what its terms say when it starts. */
static enum weir_status price_package(struct ordering *ordering)
{
    struct weir_commitment *grant = &ordering->order.commitment;
    bool has_amount = !weir_decimal_is_zero(grant->amount);

    if (grant->package.length == 0)
        return WEIR_OK;
    const struct weir_package *package = weir_contract_package(ordering->terms, grant->package, grant->starts_at);
    if (!package)
        return refuse(ordering, "neither its contract nor the price book has such a --package when it starts");
    if (package->tier_count && (!has_amount || grant->package_count))
        return refuse(ordering, "its --package is bought by amount: give --amount, and no --quantity");
    if (!package->tier_count && has_amount)
        return refuse(ordering, "its --package is bought whole: give --quantity, or nothing for one, and no --amount");
    return weir_package_buy(package, ordering->terms->book, &grant->package_count, &grant->amount, &grant->price)
               ? WEIR_OK
               : refuse(ordering, "what it amounts to does not fit (limit about 1.7e26)");
}

static enum weir_status check_grant(struct ordering *ordering)
{
    const struct weir_catalog *catalog = ordering->rater->catalog;
    const struct weir_commitment *grant = &ordering->order.commitment;
    const struct weir_contract *terms = ordering->terms;

    if (!terms)
        return refuse(ordering, "the customer has no such contract when it starts (the catalog applied last says)");
    if (!has_its_meters(catalog, grant))
        return refuse(ordering, "the catalog has no meter of one of the names in --meters");
    if (weir_catalog_meter(catalog, grant->key))
        return refuse(ordering, "its key is a meter's; give it another");
    for (const struct weir_contract *phase = terms - terms->phase; phase < terms - terms->phase + terms->phase_count;
         phase++)
        if (weir_contract_item(phase, grant->key))
            return refuse(ordering, "its key is that of a commitment or fee of the contract; give it another");
    return WEIR_OK;
}

static bool same_meters(const struct weir_commitment *a, const struct weir_commitment *b)
{
    if (a->meter_count != b->meter_count)
        return false;
    for (uint32_t i = 0; i < a->meter_count; i++)
        if (!weir_slice_equal(a->meters[i], b->meters[i]))
            return false;
    return true;
}

/* What a package cost then is no part of the request's words, nor what one that is bought whole amounted to. */
static bool buys_the_same(const struct weir_commitment *before, const struct weir_commitment *request)
{
    bool same_amount = weir_decimal_compare(before->amount, request->amount) == 0;

    if (!weir_slice_equal(before->package, request->package))
        return false;
    if (before->package.length == 0)
        return same_amount && weir_decimal_compare(before->price, request->price) == 0;
    if (before->package_count == 0)
        return same_amount && request->package_count == 0;
    return weir_decimal_is_zero(request->amount)
           && before->package_count == (request->package_count ? request->package_count : 1);
}

/* Whether what was ordered before says what the request does; when it starts only where that is said. */
static bool says_the_same(const struct weir_commitment *before, const struct weir_commitment *request)
{
    return buys_the_same(before, request) && before->funding == request->funding
           && before->priority == request->priority
           && (request->starts_at == WEIR_ORDER_NOT_SAID || before->starts_at == request->starts_at)
           && before->expires_at == request->expires_at && same_meters(before, request)
           && weir_decimal_compare(before->overage_multiplier, request->overage_multiplier) == 0
           && weir_decimal_compare(before->rollover_fraction, request->rollover_fraction) == 0
           && (weir_decimal_is_zero(before->rollover_fraction)
               || before->rollover_expires_at == request->rollover_expires_at)
           && weir_thresholds_equal(&before->low_balance, &request->low_balance);
}

static struct weir_grant_order *order_of(const struct weir_account *account, struct weir_slice contract,
                                         struct weir_slice key)
{
    for (size_t i = 0; i < account->order_count; i++)
        if (weir_slice_equal(account->orders[i].contract, contract)
            && weir_slice_equal(account->orders[i].commitment.key, key))
            return &account->orders[i];
    return NULL;
}

static enum weir_status prepare_grant(struct ordering *ordering)
{
    const struct weir_order_request *request = ordering->request;
    const struct weir_commitment *grant = &request->grant;
    const struct weir_grant_order *before = NULL;

    /* The same command a second later means the same grant, whatever contract holds by then. */
    for (size_t i = 0; i < ordering->account->order_count && !before; i++) {
        const struct weir_grant_order *order = &ordering->account->orders[i];
        if (order->is_grant && weir_slice_equal(order->commitment.key, grant->key)
            && (request->contract.length == 0 || weir_slice_equal(order->contract, request->contract)))
            before = order;
    }
    if (before && !says_the_same(&before->commitment, grant))
        return refuse(ordering, "it was ordered before, with other words; an order stays. Give this one another key");
    if (before) {
        ordering->order = *before;
        ordering->is_there = true;
        return WEIR_OK;
    }
    ordering->order = (struct weir_grant_order){.commitment = *grant, .is_grant = true};
    struct weir_commitment *commitment = &ordering->order.commitment;
    commitment->type = WEIR_COMMITMENT_PREPAID;
    if (commitment->starts_at == WEIR_ORDER_NOT_SAID)
        commitment->starts_at = request->now;
    if (commitment->expires_at <= commitment->starts_at)
        return refuse(ordering, "it would expire before it starts; give it another --expires-at");
    ordering->terms = weir_catalog_contract_at(ordering->rater->catalog, request->customer, commitment->starts_at);
    if (ordering->terms && request->contract.length && !weir_slice_equal(ordering->terms->key, request->contract))
        ordering->terms = NULL;
    enum weir_status status = check_grant(ordering);
    if (status == WEIR_OK && ordering->terms)
        status = price_package(ordering);
    if (status != WEIR_OK || !ordering->terms)
        return status;
    weir_check(ordering->terms); /* check_grant refuses what has none */
    ordering->order.contract = ordering->terms->key;
    ordering->order.currency = ordering->terms->book->currency;
    ordering->from = commitment->starts_at;
    ordering->to =
        weir_decimal_is_zero(commitment->rollover_fraction) ? commitment->expires_at : commitment->rollover_expires_at;
    return WEIR_OK;
}

/* 2. an end */

static enum weir_status find_grant(struct ordering *ordering, struct weir_grant_running **ret_grant)
{
    const struct weir_order_request *request = ordering->request;
    struct weir_state_view all = weir_state_all(ordering->rater->state);
    struct weir_grant_running *found = NULL;

    for (size_t i = 0; i < all.grant_count; i++) {
        struct weir_grant_running *grant = all.grants[i];
        if (!weir_slice_equal(grant->customer, request->customer) || !weir_slice_equal(grant->key, request->grant.key)
            || (request->contract.length && !weir_slice_equal(grant->contract, request->contract)))
            continue;
        if (found)
            return refuse(ordering, "several contracts have one of this key; say which with --contract");
        found = grant;
    }
    *ret_grant = found;
    return found ? WEIR_OK
                 : refuse(ordering, "there is none; weir balance lists them, those of the catalog from the first "
                                    "period under their contract on");
}

/* When the grant expires: as it stands in the ledger. */
static enum weir_status check_end(struct ordering *ordering, const struct weir_grant_running *grant)
{
    if (ordering->order.end == WEIR_GRANT_END_REFUND && grant->rolled_from.length)
        return refuse(ordering, "it is the rest of another grant, without a price of its own: it can be voided");
    if (grant->has_ended)
        return refuse(ordering, "it has ended already: its entries say how (weir balance --entries)");
    if (ordering->order.ends_at >= grant->expires_at)
        return refuse(ordering, "it has expired by then; an end is before that");
    return WEIR_OK;
}

static enum weir_status prepare_end(struct ordering *ordering)
{
    const struct weir_order_request *request = ordering->request;
    struct weir_grant_running *grant = NULL;
    enum weir_status status = find_grant(ordering, &grant);

    if (status != WEIR_OK || !grant)
        return status;
    weir_check(grant);
    const struct weir_grant_order *before = order_of(ordering->account, grant->contract, grant->key);
    enum weir_grant_end end = request->kind == WEIR_ORDER_VOID ? WEIR_GRANT_END_VOID : WEIR_GRANT_END_REFUND;
    if (before && before->is_ended) {
        ordering->order = *before;
        ordering->is_there = true;
        return before->end == end && (request->at == WEIR_ORDER_NOT_SAID || request->at == before->ends_at)
                   ? WEIR_OK
                   : refuse(ordering, "it was ended before, otherwise; an order stays");
    }
    ordering->order = before ? *before : (struct weir_grant_order){.contract = grant->contract};
    ordering->order.commitment.key = grant->key;
    ordering->order.is_ended = true;
    ordering->order.end = end;
    ordering->order.ends_at = request->at == WEIR_ORDER_NOT_SAID ? request->now : request->at;
    if (ordering->order.ends_at < grant->starts_at)
        ordering->order.ends_at = grant->starts_at;
    ordering->terms =
        weir_terms_of(ordering->rater->catalog, request->customer, grant->contract, ordering->order.ends_at);
    if (!ordering->terms)
        return refuse(
            ordering,
            "its contract is not in force then, the catalog applied last says; --at takes an instant of its term");
    ordering->from = ordering->order.ends_at;
    ordering->to = ordering->order.ends_at + 1000; /* a microsecond: PostgreSQL's least */
    return check_end(ordering, grant);
}

/* 3. cutting: what is kept of each segment, from the windows */

static bool is_of(const struct weir_price_running *price, const struct weir_period_running *period)
{
    return price->period_start == period->start && weir_slice_equal(price->contract, period->contract)
           && weir_slice_equal(price->customer, period->customer);
}

static struct weir_segment_running *segment_at(struct ordering *ordering, const struct weir_contract *terms,
                                               const struct weir_price_running *price, int64_t time)
{
    int64_t start, end;

    weir_segment_at(terms, ordering->account, price->period_start, price->period_end, time, &start, &end);
    struct weir_segment_running *segment = weir_state_segment(ordering->rater->state, price, start);
    segment->entry.is_dirty = true;
    return segment;
}

/* Every price has its first segment; all of what is there belongs to it where the period folds. */
static void begin_segments(struct ordering *ordering, const struct weir_contract *terms,
                           const struct weir_period_running *period)
{
    struct weir_state_view all = weir_state_all(ordering->rater->state);

    for (size_t i = 0; i < all.segment_count; i++)
        if (is_of(all.segments[i]->price, period)) {
            all.segments[i]->quantity = (struct weir_decimal){0};
            all.segments[i]->events = 0;
            all.segments[i]->entry.is_dirty = true;
        }
    for (size_t i = 0; i < all.price_count; i++) {
        const struct weir_price_running *price = all.prices[i];
        const struct weir_price *listed = is_of(price, period) ? weir_price_of(terms, price) : NULL;
        if (!listed || !price->entry.exists)
            continue;
        struct weir_segment_running *segment = segment_at(ordering, terms, price, period->start);
        if (weir_period_folds(listed->meter)) {
            segment->quantity = price->quantity;
            segment->events = price->events;
        }
    }
}

static bool add_window(struct ordering *ordering, const struct weir_contract *terms,
                       const struct weir_period_running *period, const struct weir_rated_window *window)
{
    struct weir_series series;
    struct weir_window_total total;
    struct weir_decimal quantity;

    weir_check(weir_series_parse(window->series_key, &series));
    const struct weir_meter *meter = weir_catalog_meter(ordering->rater->catalog, series.meter);
    if (!window->price_book.length || window->unpriced != WEIR_UNPRICED_PRICED || window->period_start != period->start
        || !weir_slice_equal(window->contract, period->contract) || !meter || weir_period_folds(meter))
        return true;
    const struct weir_price_running *price =
        weir_state_price(ordering->rater->state, period->customer, period->contract, period->start, period->end,
                         window->price_book, window->price_book_version, window->price_key);
    struct weir_segment_running *segment = segment_at(ordering, terms, price, window->start);
    if (!weir_merge_lanes(meter->aggregation, window, NULL, NULL, &total)
        || !weir_quantity_of(meter->aggregation, &total, &quantity)
        || !weir_decimal_add(segment->quantity, quantity, &segment->quantity))
        return false;
    segment->events += total.events;
    return true;
}

static enum weir_status cut_period(struct ordering *ordering, const struct weir_contract *terms,
                                   const struct weir_period_running *period)
{
    struct weir_rater *rater = ordering->rater;
    enum weir_status status = rater->ledger->ops->list_windows(rater->ledger, rater->state, period, ordering->reterr);

    if (status == WEIR_OK)
        status = load(ordering);
    if (status != WEIR_OK)
        return status;
    begin_segments(ordering, terms, period);
    struct weir_state_view all = weir_state_all(rater->state);
    for (size_t i = 0; i < all.window_count; i++)
        if (!add_window(ordering, terms, period, all.windows[i]))
            return weir_rater_overflow(all.windows[i], ordering->reterr);
    return WEIR_OK;
}

static bool is_within(int64_t time, const struct weir_period_running *period)
{
    return time > period->start && time < period->end;
}

/* Whether the order's times lie within the period, or its usage was not kept by segment so far. */
static bool must_cut(const struct ordering *ordering, const struct weir_contract *terms,
                     const struct weir_period_running *period)
{
    const struct weir_commitment *grant = &ordering->order.commitment;
    bool has = weir_has_segments(terms, ordering->account, period->start, period->end);

    if (ordering->order.is_ended)
        return has && is_within(ordering->order.ends_at, period);
    return !has || is_within(grant->starts_at, period) || is_within(grant->expires_at, period)
           || (!weir_decimal_is_zero(grant->rollover_fraction) && is_within(grant->rollover_expires_at, period));
}

static void keep_order(struct ordering *ordering)
{
    struct weir_grant_order *kept =
        order_of(ordering->account, ordering->order.contract, ordering->order.commitment.key);

    if (!kept)
        kept = weir_state_order(ordering->rater->state, ordering->account);
    *kept = ordering->order;
}

/* Cuts what the order cuts, and has it stand among the account's orders. */
static enum weir_status cut(struct ordering *ordering)
{
    struct weir_rater *rater = ordering->rater;
    const struct weir_catalog *catalog = rater->catalog;
    struct weir_slice customer = ordering->account->customer;
    enum weir_status status =
        rater->ledger->ops->list_prices(rater->ledger, rater->state, customer, ordering->order.contract, ordering->from,
                                        ordering->to, ordering->reterr);

    if (status == WEIR_OK)
        status = load(ordering);
    if (status != WEIR_OK)
        return status;
    size_t count = weir_state_all(rater->state).period_count;
    bool *is_cut = weir_state_take(rater->state, count + 1);
    for (size_t i = 0; i < count; i++) {
        const struct weir_period_running *period = weir_state_all(rater->state).periods[i];
        const struct weir_contract *terms = weir_terms_of(catalog, customer, period->contract, period->start);
        is_cut[i] =
            terms && weir_slice_equal(period->contract, ordering->order.contract) && must_cut(ordering, terms, period);
    }
    keep_order(ordering);
    for (size_t i = 0; i < count && status == WEIR_OK; i++) {
        const struct weir_period_running *period = weir_state_all(rater->state).periods[i];
        if (is_cut[i] && weir_has_segments(ordering->terms, ordering->account, period->start, period->end))
            status = cut_period(ordering, weir_terms_of(catalog, customer, period->contract, period->start), period);
    }
    return status;
}

/* 4. the whole */

/* Before the transaction begins: the month that a line item is most likely of has its partition then. */
static void aim(struct ordering *ordering)
{
    const struct weir_order_request *request = ordering->request;
    int64_t start, end, time = request->kind == WEIR_ORDER_GRANT ? request->grant.starts_at : request->at;

    if (time == WEIR_ORDER_NOT_SAID)
        time = request->now;
    const struct weir_contract *terms = weir_catalog_contract_at(ordering->rater->catalog, request->customer, time);
    if (!terms)
        return;
    weir_contract_period_at(terms, time, &start, &end);
    weir_state_period(ordering->rater->state, request->customer, terms->key, start, end);
}

/* What is bought is charged at once, in the period in which it starts. */
static void charge_purchase(struct weir_rater *rater, struct weir_slice customer, const struct weir_contract *terms,
                            const struct weir_grant_order *order)
{
    const struct weir_commitment *grant = &order->commitment;
    int64_t start, end;

    if (!order->is_grant || weir_decimal_is_zero(grant->price))
        return;
    weir_contract_period_at(terms, grant->starts_at, &start, &end);
    const struct weir_period_running *period = weir_state_period(rater->state, customer, order->contract, start, end);
    struct weir_line_item item = weir_rater_period_item(terms, period, weir_price_book_at(terms->book, start));
    item.item = grant->key;
    item.kind = WEIR_KIND_FEE;
    item.component = WEIR_COMPONENT_FEE;
    item.unit_price = item.amount = grant->price;
    item.advance_at = grant->starts_at;
    weir_rater_add_item(rater, &item);
}

void weir_rater_charge_orders(struct weir_rater *rater)
{
    struct weir_state_view all = weir_state_all(rater->state);

    for (size_t i = 0; i < all.account_count; i++)
        for (size_t k = 0; k < all.accounts[i]->order_count; k++) {
            const struct weir_grant_order *order = &all.accounts[i]->orders[k];
            const struct weir_contract *terms =
                weir_terms_of(rater->catalog, all.accounts[i]->customer, order->contract, order->commitment.starts_at);
            if (terms)
                charge_purchase(rater, all.accounts[i]->customer, terms, order);
        }
}

/* The period that a line item of the order is of: its month has a partition from load on, and the period a row. */
static enum weir_status make_period(struct ordering *ordering)
{
    int64_t start, end,
        time = ordering->order.is_ended ? ordering->order.ends_at : ordering->order.commitment.starts_at;

    weir_contract_period_at(ordering->terms, time, &start, &end);
    struct weir_period_running *period =
        weir_state_period(ordering->rater->state, ordering->account->customer, ordering->order.contract, start, end);
    enum weir_status status = load(ordering);
    bool is_charged = ordering->order.is_ended ? ordering->order.end == WEIR_GRANT_END_REFUND
                                               : !weir_decimal_is_zero(ordering->order.commitment.price);
    if (status == WEIR_OK && is_charged && !period->entry.exists)
        period->entry.is_dirty = true;
    return status;
}

static void tell(struct ordering *ordering, struct weir_order_result *ret_result)
{
    struct weir_rater *rater = ordering->rater;
    const struct weir_grant_running *grant = weir_state_grant(rater->state, ordering->account->customer,
                                                              ordering->order.contract, ordering->order.commitment.key);

    *ret_result = (struct weir_order_result){
        .was_made = !ordering->is_there,
        .left = ordering->is_there ? grant->balance : grant->left,
        .line_items = ordering->is_there ? 0 : rater->item_count,
    };
    if (!ordering->is_there && ordering->order.is_ended) {
        ret_result->left = (struct weir_decimal){0};
        ret_result->charged = grant->charged_change;
    } else if (!ordering->is_there) {
        ret_result->charged = ordering->order.commitment.price;
    }
    (void)snprintf(ret_result->contract, sizeof ret_result->contract, "%.*s", (int)ordering->order.contract.length,
                   ordering->order.contract.data);
}

static enum weir_status carry_out(struct ordering *ordering, struct weir_order_result *ret_result)
{
    struct weir_rater *rater = ordering->rater;
    const struct weir_order_request *request = ordering->request;
    enum weir_status status = load(ordering);

    if (status == WEIR_OK) {
        weir_rater_find_outdated(rater);
        if (weir_rater_is_outdated(rater, request->customer))
            status = weir_rater_say_outdated(request->customer, ordering->reterr);
    }
    if (status == WEIR_OK)
        status = request->kind == WEIR_ORDER_GRANT ? prepare_grant(ordering) : prepare_end(ordering);
    if (status == WEIR_OK && ordering->is_there) {
        tell(ordering, ret_result);
        return WEIR_OK;
    }
    if (status == WEIR_OK)
        status = make_period(ordering);
    if (status == WEIR_OK)
        status = cut(ordering);
    if (status == WEIR_OK)
        status = rater->ledger->ops->add_order(rater->ledger, request->customer, &ordering->order, request->reason,
                                               request->by, ordering->reterr);
    if (status != WEIR_OK)
        return status;
    if (!ordering->order.is_ended)
        charge_purchase(rater, ordering->account->customer, ordering->terms, &ordering->order);
    status = weir_rater_draw(rater, ordering->reterr);
    if (status != WEIR_OK)
        return status;
    tell(ordering, ret_result);
    return request->is_dry ? WEIR_OK : weir_rater_write(rater, ordering->reterr);
}

enum weir_status weir_rater_order(struct weir_rater *rater, const struct weir_order_request *request,
                                  struct weir_order_result *ret_result, struct weir_error *reterr)
{
    struct ordering ordering = {.rater = rater, .request = request, .reterr = reterr};

    weir_check(rater->ledger->ops->add_order != NULL);
    ordering.account = weir_state_account(rater->state, request->customer);
    aim(&ordering);
    enum weir_status status = carry_out(&ordering, ret_result);
    if (status != WEIR_OK || ordering.is_there || request->is_dry)
        rater->ledger->ops->abandon(rater->ledger);
    weir_rater_forget(rater);
    return status;
}
