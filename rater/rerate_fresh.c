/* A rater that begins with nothing, one customer at a time: the rules are those of every other rating. */
#include <stdlib.h>

#include "common/calendar.h"
#include "rater/rerate_internal.h"

struct weir_slice weir_rerate_price_meter(struct weir_slice price_key)
{
    const char *bracket = memchr(price_key.data, '[', price_key.length); /* no key of a meter has one */
    return bracket ? weir_slice_of(price_key.data, (size_t)(bracket - price_key.data)) : price_key;
}

bool weir_rerate_is_in(const struct rerate_customer *customer, int64_t period_start)
{
    return period_start >= customer->from && period_start < customer->to;
}

/* 1. the ledger */

/* With one meter only, what the others are charged stays as it is: it counts for minimum spends, and their prices are
 * not evaluated again for a flat fee at zero. */
static void load_other_meters(const struct rerate_fresh *fresh, struct weir_period_running *period)
{
    const struct rerate_customer *customer = fresh->customer;

    for (size_t i = 0; i < customer->price_count; i++) {
        const struct rerate_old_price *price = &customer->prices[i];
        if (price->period_start == period->start && weir_slice_equal(price->contract, period->contract)
            && !weir_slice_equal(price->meter, fresh->customer->meter))
            weir_check(weir_decimal_add(period->usage_amount, price->amount, &period->usage_amount));
    }
}

/* What is not usage: what was ordered at run time, and which grants there are and have expired. */
static void load_account(const struct rerate_fresh *fresh, struct weir_state *state)
{
    struct weir_slice customer = fresh->customer->customer;
    const struct weir_account *stored = weir_state_known_account(fresh->customer->accounts, customer);
    struct weir_account *account = weir_state_account(state, customer);
    struct weir_state_view all = weir_state_all(fresh->customer->accounts);

    if (account->entry.is_loaded)
        return;
    account->entry.is_loaded = true;
    for (size_t i = 0; stored && i < stored->order_count; i++)
        *weir_state_order(state, account) = stored->orders[i];
    for (size_t i = 0; i < all.grant_count; i++) {
        const struct weir_grant_running *old = all.grants[i];
        if (!old->entry.exists || !weir_slice_equal(old->customer, customer))
            continue;
        struct weir_grant_running *grant = weir_state_grant(state, customer, old->contract, old->key);
        grant->number = old->number;
        grant->starts_at = old->starts_at;
        grant->has_ended = old->has_ended;
    }
}

static enum weir_status load(struct weir_ledger *self, struct weir_state *state, struct weir_error *reterr)
{
    struct rerate_fresh *fresh = (struct rerate_fresh *)self;
    struct weir_state_view all = weir_state_all(state);

    (void)reterr;
    fresh->state = state;
    if (fresh->customer->has_prepaid && fresh->customer->from < fresh->customer->to)
        load_account(fresh, state);
    for (size_t i = all.period_count; i > 0 && !all.periods[i - 1]->entry.is_loaded; i--) {
        all.periods[i - 1]->entry.is_loaded = true;
        if (fresh->customer->meter.length)
            load_other_meters(fresh, all.periods[i - 1]);
    }
    for (size_t i = all.price_count; i > 0 && !all.prices[i - 1]->entry.is_loaded; i--) {
        struct weir_price_running *price = all.prices[i - 1];
        price->entry.is_loaded = true;
        if (fresh->customer->meter.length
            && !weir_slice_equal(weir_rerate_price_meter(price->price_key), fresh->customer->meter))
            price->entry.exists = true;
    }
    for (size_t i = all.charged_count; i > 0 && !all.charged[i - 1]->entry.is_loaded; i--)
        all.charged[i - 1]->entry.is_loaded = true;
    return WEIR_OK;
}

static enum weir_status write_items(struct weir_ledger *self, const struct weir_line_item *items, size_t count,
                                    struct weir_state *state, struct weir_error *reterr)
{
    struct rerate_fresh *fresh = (struct rerate_fresh *)self;

    (void)reterr;
    fresh->state = state;
    for (size_t i = 0; i < count; i++) {
        if (fresh->take_item)
            fresh->take_item(fresh->context, &items[i]);
        if (items[i].meter.length && items[i].component != WEIR_COMPONENT_INVOICE_DISCOUNT)
            continue; /* the prices' totals have it */
        if (fresh->other_count == fresh->other_room) {
            fresh->other_room = fresh->other_room ? fresh->other_room * 2 : 64;
            fresh->others = weir_resize(fresh->others, fresh->other_room, sizeof *fresh->others);
        }
        fresh->others[fresh->other_count++] = items[i];
    }
    return WEIR_OK;
}

static void abandon(struct weir_ledger *self)
{
    (void)self;
}

static enum weir_status unsettled(struct weir_ledger *self, int64_t before, int64_t span_start, size_t max,
                                  struct weir_period_running *ret_periods, size_t *ret_count, struct weir_error *reterr)
{
    (void)self, (void)before, (void)span_start, (void)max, (void)ret_periods, (void)reterr;
    *ret_count = 0;
    return WEIR_OK;
}

static enum weir_status finish(struct weir_ledger *self, struct weir_error *reterr)
{
    (void)self, (void)reterr;
    return WEIR_OK;
}

/* 2. one customer */
void weir_rerate_fresh_open(struct rerate_fresh *fresh, const struct weir_catalog *catalog)
{
    static const struct weir_ledger_ops ops = {
        .name = "rerating",
        .load = load,
        .write = write_items,
        .abandon = abandon,
        .unsettled = unsettled,
        .finish = finish,
    };

    *fresh = (struct rerate_fresh){.ledger = {&ops}, .catalog = catalog};
    fresh->rater = weir_rater_new(catalog, &fresh->ledger);
}

void weir_rerate_fresh_close(struct rerate_fresh *fresh)
{
    weir_rater_free(fresh->rater);
    free(fresh->others);
    *fresh = (struct rerate_fresh){0};
}

void weir_rerate_fresh_begin(struct rerate_fresh *fresh, const struct rerate_customer *customer)
{
    weir_rater_start_over(fresh->rater);
    fresh->customer = customer;
    fresh->other_count = 0;
}

enum weir_status weir_rerate_fresh_windows(struct rerate_fresh *fresh, const struct weir_lane_window *windows,
                                           size_t count, struct weir_error *reterr)
{
    weir_rater_forget_windows(fresh->rater); /* of the batch before: until now they could be looked at */
    return weir_rater_rate(fresh->rater, windows, count, reterr);
}

static bool is_in_period(const struct rerate_old_period *period, int64_t time)
{
    return time >= period->start && time < period->end;
}

/* Under the default contract a customer has a period where there is usage, or where something was ordered
 * (docs/rating.md 6.1). Where a contract of its own has all of that by now, there is none. */
static bool has_default_period(const struct rerate_fresh *fresh, const struct rerate_old_period *period)
{
    const struct rerate_customer *customer = fresh->customer;
    const struct weir_account *account = weir_state_known_account(customer->accounts, customer->customer);

    if (customer->meter.length)
        return true; /* other meters were not looked at */
    for (size_t i = 0; account && i < account->order_count; i++) {
        const struct weir_grant_order *order = &account->orders[i];
        if (order->contract.length == 0
            && ((order->is_grant && is_in_period(period, order->commitment.starts_at))
                || (order->is_ended && is_in_period(period, order->ends_at))))
            return true;
    }
    struct weir_state_view all = fresh->state ? weir_state_all(fresh->state) : (struct weir_state_view){0};
    for (size_t i = 0; i < all.period_count; i++)
        if (all.periods[i]->contract.length == 0 && all.periods[i]->start == period->start)
            return all.periods[i]->entry.is_dirty;
    return false;
}

const struct weir_contract *weir_rerate_contract_of(const struct rerate_fresh *fresh,
                                                    const struct rerate_old_period *period, int64_t *ret_end)
{
    /* A period of the default contract may begin where the customer still has one with a key. */
    const struct weir_contract *contract =
        period->contract.length ? weir_catalog_contract_at(fresh->catalog, fresh->customer->customer, period->start)
                                : fresh->catalog->default_contract;
    int64_t start;

    if (!contract || !weir_slice_equal(contract->key, period->contract)
        || (period->contract.length == 0 && !has_default_period(fresh, period)))
        return NULL;
    weir_contract_period_at(contract, period->start, &start, ret_end);
    return start == period->start ? contract : NULL;
}

enum weir_status weir_rerate_fresh_periods(struct rerate_fresh *fresh, struct weir_error *reterr)
{
    const struct rerate_customer *customer = fresh->customer;
    enum weir_status status = WEIR_OK;

    for (size_t i = 0; i < customer->period_count && status == WEIR_OK; i++) {
        const struct rerate_old_period *period = &customer->periods[i];
        int64_t end;
        if (!weir_rerate_is_in(customer, period->start) || !period->is_advance_charged)
            continue;
        const struct weir_contract *contract = weir_rerate_contract_of(fresh, period, &end);
        /* One that ends later than it did has not ended for all we know: a rater settles it in time. */
        if (contract)
            status = weir_rater_settle_period(fresh->rater, contract, customer->customer, period->start, end,
                                              period->is_closed && end <= period->end, reterr);
    }
    return status == WEIR_OK ? weir_rater_draw_once(fresh->rater, reterr) : status;
}

static bool has_other_meters(const struct rerate_fresh *fresh, const struct rerate_old_period *period)
{
    const struct rerate_customer *customer = fresh->customer;

    for (size_t i = 0; fresh->customer->meter.length && i < customer->price_count; i++)
        if (customer->prices[i].period_start == period->start
            && weir_slice_equal(customer->prices[i].contract, period->contract)
            && !weir_slice_equal(customer->prices[i].meter, fresh->customer->meter))
            return true;
    return false;
}

void weir_rerate_fresh_complete(struct rerate_fresh *fresh)
{
    const struct rerate_customer *customer = fresh->customer;

    weir_rater_forget_windows(fresh->rater);
    for (size_t i = 0; fresh->state && i < customer->period_count; i++) {
        const struct rerate_old_period *old = &customer->periods[i];
        int64_t end = old->end;
        if (!weir_rerate_is_in(customer, old->start))
            continue;
        bool is_there = weir_rerate_contract_of(fresh, old, &end) || has_other_meters(fresh, old);
        if (!is_there)
            continue;
        struct weir_period_running *period =
            weir_state_period(fresh->state, customer->customer, old->contract, old->start, end);
        if (!period->entry.is_loaded && fresh->customer->meter.length)
            load_other_meters(fresh, period);
        period->entry.is_loaded = period->entry.is_dirty = true; /* what was only looked at is not kept */
        period->is_closed = period->is_closed || (old->is_closed && !old->is_advance_charged); /* before the span */
        if (period->true_up.e12 != old->true_up.e12)
            period->true_up_revision += old->true_up_revision;
        else
            period->true_up_revision = old->true_up_revision;
    }
}
