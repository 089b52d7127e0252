/* Billing periods: fees in advance when they begin; when they end, fees in arrears, flat fees at zero usage and the
 * true-ups to minimums (docs/rating.md 6); what is bought when it starts. Everything is a running total or a flag in
 * the period's entry, so that settling twice changes nothing. */
#include <stdlib.h>

#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "rater/rate_internal.h"

enum { PERIODS_PER_BATCH = 2000 };
#define EXPIRE_ALL_EVERY WEIR_MINUTE

/* 1. what a period charges */

struct weir_line_item weir_rater_period_item(const struct weir_contract *contract,
                                             const struct weir_period_running *period,
                                             const struct weir_price_book_version *version)
{
    return (struct weir_line_item){
        .customer = period->customer,
        .contract = period->contract,
        .period_start = period->start,
        .period_end = period->end,
        .window_start = period->start,
        .window_end = period->end,
        .price_book = contract->book->key,
        .price_book_version = version ? version->version : 0,
        .model = "",
        .quantity = weir_decimal_of(1),
        .has_unit_price = true,
        .currency = contract->book->currency,
        .currency_places = contract->book->currency_places,
        .rounding = contract->book->rounding,
        .revision = 1,
    };
}

/* Of each period; that of a term is in terms.c. */
static const struct weir_commitment *minimum_spend(const struct weir_contract *contract)
{
    for (uint32_t i = 0; i < contract->commitment_count; i++)
        if (contract->commitments[i].type == WEIR_COMMITMENT_MINIMUM_SPEND && !contract->commitments[i].is_per_term)
            return &contract->commitments[i];
    return NULL;
}

/* What is missing to the minimum spend; what is charged for missing quantities counts as usage. */
static bool find_shortfall(struct weir_rater *rater, const struct weir_contract *contract,
                           const struct weir_period_running *period, bool is_over,
                           const struct weir_commitment *commitment, struct weir_decimal *ret_shortfall)
{
    struct weir_decimal spent;

    if (!weir_rater_shortfalls(rater, contract, period, is_over, &spent)
        || !weir_decimal_add(spent, period->usage_amount, &spent)
        || !weir_decimal_subtract(commitment ? commitment->amount : spent, spent, ret_shortfall))
        return false;
    if (ret_shortfall->e12 < 0)
        ret_shortfall->e12 = 0;
    return true;
}

bool weir_rater_can_true_up_period(struct weir_rater *rater, const struct weir_contract *contract,
                                   const struct weir_period_running *period, bool is_over)
{
    struct weir_decimal shortfall;

    return (contract->commitment_count == 0
            || find_shortfall(rater, contract, period, is_over, minimum_spend(contract), &shortfall))
           && weir_rater_can_draw(rater, contract, period, is_over);
}

bool weir_rater_can_true_up(struct weir_rater *rater, const struct weir_contract *contract,
                            const struct weir_period_running *period)
{
    if (contract->has_invoice_discounts && period->is_closed && !weir_rater_can_discount(rater, contract, period))
        return false;
    if (contract->has_term_minimum && period->is_closed && !weir_rater_can_true_up_term(rater, contract, period))
        return false;
    return weir_rater_can_true_up_period(rater, contract, period, period->is_closed);
}

bool weir_rater_charge_true_up(struct weir_rater *rater, const struct weir_contract *contract,
                               struct weir_period_running *period, struct weir_slice commitment,
                               struct weir_decimal shortfall)
{
    struct weir_decimal change;

    if (!weir_decimal_subtract(shortfall, period->true_up, &change))
        return false;
    if (weir_decimal_is_zero(change))
        return true;
    struct weir_line_item item =
        weir_rater_period_item(contract, period, weir_price_book_at(contract->book, period->start));
    item.item = commitment;
    item.quantity = weir_decimal_of(0); /* docs/rating.md 6.3: an amount, not a number of anything */
    item.kind = WEIR_KIND_TRUE_UP;
    item.component = WEIR_COMPONENT_TRUE_UP;
    item.has_unit_price = false;
    item.amount = change;
    item.revision = ++period->true_up_revision;
    weir_rater_add_item(rater, &item);
    period->true_up = shortfall;
    period->entry.is_dirty = true;
    return true;
}

bool weir_rater_true_up_period(struct weir_rater *rater, const struct weir_contract *contract,
                               struct weir_period_running *period)
{
    const struct weir_commitment *commitment = minimum_spend(contract);
    struct weir_decimal shortfall;

    return weir_rater_minimums(rater, contract, period)
           && (!commitment
               || (find_shortfall(rater, contract, period, true, commitment, &shortfall)
                   && weir_rater_charge_true_up(rater, contract, period, commitment->key, shortfall)));
}

bool weir_rater_true_up(struct weir_rater *rater, const struct weir_contract *contract,
                        struct weir_period_running *period)
{
    /* All of them or none: nothing that was charged has to be taken back. */
    if (!weir_rater_can_true_up_period(rater, contract, period, true)
        || (contract->has_term_minimum && !weir_rater_can_true_up_term(rater, contract, period))
        || !weir_rater_invoice_discounts(rater, contract, period)
        || !weir_rater_true_up_period(rater, contract, period))
        return false;
    return !contract->has_term_minimum || weir_rater_true_up_term(rater, contract, period);
}

/* The running total of a price that charges its first flat fee even without usage. */
static struct weir_price_running *price_at_zero(struct weir_rater *rater, const struct weir_period_running *period,
                                                const struct weir_price_book_version *version,
                                                const struct weir_price *price)
{
    return weir_state_price(rater->state, period->customer, period->contract, period->start, period->end,
                            version->book->key, version->version, price->key);
}

/* Makes the entries that closing will touch. The default contract charges a flat fee at zero only where a window of
 * that price exists, and then rating the window did it. */
static void aim_at_zero(struct weir_rater *rater, const struct weir_contract *contract,
                        struct weir_period_running *period)
{
    const struct weir_price_book_version *version = weir_price_book_at(contract->book, period->start);

    weir_rater_aim_at_fees(rater, contract, period);
    if (contract->has_minimum_quantity)
        weir_rater_aim_at_minimums(rater, contract, period);
    if (contract->has_invoice_discounts)
        weir_rater_aim_at_invoice_discounts(rater, contract, period);
    if (contract->has_term_minimum)
        weir_rater_aim_at_term(rater, contract, period);
    if (contract->key.length == 0 || !version)
        return;
    const struct weir_price *price;
    for (uint32_t at = 0; (price = weir_next_price(version, &at));) {
        if (!price->flat_fee_at_zero)
            continue;
        price_at_zero(rater, period, version, price);
    }
}

static bool has_segments(const struct weir_rater *rater, const struct weir_contract *contract,
                         const struct weir_period_running *period)
{
    return weir_has_segments(contract, weir_state_known_account(rater->state, period->customer), period->start,
                             period->end);
}

static bool charge_at_zero(struct weir_rater *rater, const struct weir_contract *contract,
                           struct weir_period_running *period)
{
    const struct weir_price_book_version *version = weir_price_book_at(contract->book, period->start);

    if (contract->key.length == 0 || !version)
        return true;
    const struct weir_price *price;
    for (uint32_t at = 0; (price = weir_next_price(version, &at));) {
        if (!price->flat_fee_at_zero)
            continue;
        struct target target = {
            .meter = price->meter,
            .contract = contract,
            .period_start = period->start,
            .period_end = period->end,
            .period = period,
            .version = version,
            .price = price,
            .effective = weir_rater_effective_price(rater, contract, price, period->start),
            .running = price_at_zero(rater, period, version, price),
        };
        if (target.running->entry.exists || target.running->entry.is_dirty)
            continue;
        if (!target.effective || !weir_rater_charge(rater, &target, (struct weir_decimal){0}, 0, 1))
            return false;
        if (has_segments(rater, contract, period))
            weir_state_segment(rater->state, target.running, period->start)->entry.is_dirty = true;
    }
    return true;
}

/* Everything that was done to it since `before`. A price's total that is new was made by charge_at_zero: any other is
 * of an earlier transaction. */
static void take_back(struct weir_rater *rater, const struct weir_contract *contract,
                      struct weir_period_running *period, const struct weir_period_running *before, size_t item_count)
{
    const struct weir_price_book_version *version = weir_price_book_at(contract->book, period->start);
    const struct weir_price *price;

    *period = *before;
    rater->item_count = item_count;
    rater->charging.running = NULL;
    for (uint32_t at = 0; contract->key.length && version && (price = weir_next_price(version, &at));) {
        struct weir_price_running *running =
            price->flat_fee_at_zero ? price_at_zero(rater, period, version, price) : NULL;
        if (!running || running->entry.exists)
            continue;
        running->entry.is_dirty = false;
        if (has_segments(rater, contract, period))
            weir_state_segment(rater->state, running, period->start)->entry.is_dirty = false;
        running->quantity = running->amount = (struct weir_decimal){0};
        running->events = 0;
    }
}

/* It is tried again a minute later. */
static void keep_out(struct weir_rater *rater, struct weir_period_running *period, const struct weir_error *why)
{
    rater->counts.refused_periods++;
    period->refused_change = WEIR_HELD_HOLD;
    period->refused = weir_state_copy(rater->state, weir_slice_text(why->text));
}

/* What belongs to one customer's period holds back nothing else. */
static enum weir_status refuse_period(struct weir_rater *rater, const struct weir_contract *contract,
                                      struct weir_period_running *period, const struct weir_period_running *before,
                                      size_t item_count, struct weir_error *reterr)
{
    char start[WEIR_TIME_TEXT_MAX];

    weir_time_format(period->start, start);
    enum weir_status status = weir_fail(
        reterr, WEIR_REJECT,
        "customer '%.*s', contract '%.*s', period from %s: its amounts do not fit (limit about 1.7e26). Check its "
        "prices, fees and commitments",
        (int)period->customer.length, period->customer.data, (int)period->contract.length, period->contract.data,
        start);
    if (!rater->ledger->ops->keeps_state)
        return status;
    take_back(rater, contract, period, before, item_count);
    period->entry.is_dirty = period->entry.is_dirty || !period->entry.exists;
    keep_out(rater, period, reterr);
    return WEIR_OK;
}

static enum weir_status settle_period(struct weir_rater *rater, const struct weir_contract *contract,
                                      struct weir_period_running *period, bool is_ended, struct weir_error *reterr)
{
    struct weir_period_running before = *period;
    bool was_charged = period->is_advance_charged;
    size_t item_count = rater->item_count;

    if (weir_rater_is_outdated(rater, period->customer)) {
        (void)weir_rater_say_waiting(rater, period->customer, reterr);
        period->entry.is_dirty |= !period->entry.exists; /* known, it is tried again */
        keep_out(rater, period, reterr);
        return WEIR_OK;
    }
    if (!was_charged) {
        period->is_closed = false; /* perhaps as one from before the span, which has grown since */
        if (!weir_rater_charge_fees(rater, contract, period, WEIR_FEE_IN_ADVANCE))
            return refuse_period(rater, contract, period, &before, item_count, reterr);
        weir_rater_charge_purchases(rater, contract, period);
        period->is_advance_charged = true;
        period->entry.is_dirty = true;
        period->refused_change = WEIR_HELD_LET_GO;
        before = *period;
        item_count = rater->item_count;
    }
    if (period->is_closed)
        period->refused_change = WEIR_HELD_LET_GO; /* by a rerating, perhaps */
    if (!is_ended || period->is_closed)
        return WEIR_OK;
    if ((was_charged && !weir_rater_adjust_fees(rater, contract, period))
        || !weir_rater_charge_fees(rater, contract, period, WEIR_FEE_IN_ARREARS)
        || !charge_at_zero(rater, contract, period) || !weir_rater_true_up(rater, contract, period))
        return refuse_period(rater, contract, period, &before, item_count, reterr);
    period->is_closed = true;
    period->entry.is_dirty = true;
    period->refused_change = WEIR_HELD_LET_GO;
    return WEIR_OK;
}

/* One from before the span: whatever it had of fees was billed before weir counted. What was ordered for it stands. */
static void settle_bare(struct weir_period_running *period)
{
    if (period->is_advance_charged || period->is_closed)
        return;
    period->is_closed = true;
    period->entry.is_dirty = true;
}

/* 2. which periods, in batches */
enum due_as { DUE_AS_BEGUN, DUE_AS_ENDED, DUE_AS_BEFORE_SPAN };

struct due {
    const struct weir_contract *contract;
    struct weir_period_running *period;
    enum due_as as;
};

struct due_list {
    size_t count;
    struct due due[PERIODS_PER_BATCH];
};

static enum due_as due_as(bool is_ended)
{
    return is_ended ? DUE_AS_ENDED : DUE_AS_BEGUN;
}

static enum weir_status settle_once(struct weir_rater *rater, const struct due_list *list, struct weir_error *reterr)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct due *due = &list->due[i];
        if (due->as == DUE_AS_ENDED)
            aim_at_zero(rater, due->contract, due->period);
        if (due->contract->has_prepaid)
            weir_state_account(rater->state, due->period->customer);
    }
    enum weir_status status = rater->ledger->ops->load(rater->ledger, rater->state, reterr);
    if (status == WEIR_OK)
        weir_rater_find_outdated(rater);
    for (size_t i = 0; i < list->count && status == WEIR_OK; i++) {
        const struct due *due = &list->due[i];
        if (due->as == DUE_AS_BEFORE_SPAN)
            settle_bare(due->period);
        else
            status = settle_period(rater, due->contract, due->period, due->as == DUE_AS_ENDED, reterr);
    }
    if (status == WEIR_OK && rater->ledger->ops->keeps_state)
        status = weir_rater_draw(rater, reterr);
    if (status == WEIR_OK)
        status = weir_rater_write(rater, reterr);
    if (status != WEIR_OK)
        rater->ledger->ops->abandon(rater->ledger);
    return status;
}

/* Nothing of it was done: the state is forgotten, but for the periods that are due. */
static void begin_list_again(struct weir_rater *rater, struct due_list *list)
{
    struct weir_slice *customers = weir_arena_take_array(rater->batch, list->count, sizeof *customers);
    int64_t *spans = weir_arena_take_array(rater->batch, 2 * list->count, sizeof *spans);

    for (size_t i = 0; i < list->count; i++) {
        const struct weir_period_running *period = list->due[i].period;
        customers[i] = weir_arena_copy(rater->batch, period->customer.data, period->customer.length);
        spans[2 * i] = period->start;
        spans[2 * i + 1] = period->end;
    }
    weir_rater_forget(rater);
    for (size_t i = 0; i < list->count; i++)
        list->due[i].period =
            weir_state_period(rater->state, customers[i], list->due[i].contract->key, spans[2 * i], spans[2 * i + 1]);
}

static enum weir_status settle_list(struct weir_rater *rater, struct due_list *list, struct weir_error *reterr)
{
    struct weir_rater_counts counts = rater->counts;
    enum weir_status status = WEIR_OK;
    size_t overdrawn;

    if (list->count == 0)
        return WEIR_OK;
    weir_rater_forget_overdrawn(rater);
    for (bool is_again = true; is_again;) {
        overdrawn = rater->overdrawn_count;
        status = settle_once(rater, list, reterr);
        is_again = status != WEIR_OK && rater->overdrawn_count > overdrawn;
        if (!is_again)
            break;
        rater->counts = counts;
        begin_list_again(rater, list);
    }
    list->count = 0;
    weir_rater_forget(rater);
    return status;
}

static enum weir_status add_period(struct weir_rater *rater, struct due_list *list,
                                   const struct weir_contract *contract, struct weir_period_running *period,
                                   enum due_as as, struct weir_error *reterr)
{
    if (period->is_advance_charged && (period->is_closed || as != DUE_AS_ENDED))
        return WEIR_OK;
    list->due[list->count++] = (struct due){contract, period, as};
    return list->count == PERIODS_PER_BATCH ? settle_list(rater, list, reterr) : WEIR_OK;
}

static enum weir_status add_due(struct weir_rater *rater, struct due_list *list, const struct weir_contract *contract,
                                struct weir_slice customer, int64_t start, int64_t end, enum due_as as,
                                struct weir_error *reterr)
{
    struct weir_period_running *period = weir_state_period(rater->state, customer, contract->key, start, end);

    return add_period(rater, list, contract, period, as, reterr);
}

enum weir_status weir_rater_settle_period(struct weir_rater *rater, const struct weir_contract *contract,
                                          struct weir_slice customer, int64_t start, int64_t end, bool is_ended,
                                          struct weir_error *reterr)
{
    struct due_list *list = weir_new(sizeof *list);
    enum weir_status status = add_due(rater, list, contract, customer, start, end, due_as(is_ended), reterr);

    if (status == WEIR_OK)
        status = settle_list(rater, list, reterr);
    free(list);
    return status;
}

/* All periods of one contract with a key that overlap the span and are not known to be settled. */
static enum weir_status settle_contract(struct weir_rater *rater, struct due_list *list, uint32_t index,
                                        const struct weir_horizon *horizon, struct settled *reached,
                                        struct weir_error *reterr)
{
    const struct weir_contract *contract = &rater->catalog->contracts[index];
    enum weir_status status = WEIR_OK;
    int64_t at = horizon->first_time > contract->starts_at ? horizon->first_time : contract->starts_at;

    if (at < rater->settled[index].closed)
        at = rater->settled[index].closed;
    *reached = rater->settled[index];
    while (status == WEIR_OK && at < contract->ends_at && at <= horizon->last_time) {
        int64_t start, end;
        weir_contract_period_at(contract, at, &start, &end);
        bool is_ended = end <= horizon->ended;
        if (is_ended || end > rater->settled[index].advanced)
            status = add_due(rater, list, contract, contract->customer, start, end, due_as(is_ended), reterr);
        if (is_ended && reached->closed <= start)
            reached->closed = end;
        reached->advanced = end;
        at = end;
    }
    return status;
}

/* The contract that a period which the ledger tells of belongs to, with *end as it is now; NULL: it is in no catalog
 * any more, or the period is none of it. */
static const struct weir_contract *contract_of(const struct weir_catalog *catalog,
                                               const struct weir_period_running *period, int64_t *ret_end)
{
    int64_t start = period->start;

    *ret_end = period->end;
    if (period->contract.length == 0)
        return catalog->default_contract;
    const struct weir_contract *contract = weir_catalog_contract_at(catalog, period->customer, start);
    if (!contract || !weir_slice_equal(contract->key, period->contract))
        return NULL;
    weir_contract_period_at(contract, period->start, &start, ret_end);
    return start == period->start ? contract : NULL;
}

/* Under the default contract a customer has a period where there is usage: the ledger (or, embedded, the state) knows
 * them. It also knows those of any contract that could not be closed, and those from before the span in which something
 * was ordered. */
static enum weir_status settle_known(struct weir_rater *rater, struct due_list *list,
                                     const struct weir_horizon *horizon, struct weir_error *reterr)
{
    static _Thread_local struct weir_period_running found[PERIODS_PER_BATCH];
    const struct weir_contract *contract = rater->catalog->default_contract;
    enum weir_status status = WEIR_OK;
    int64_t span_start = horizon->first_time <= horizon->last_time ? horizon->first_time : 0;
    size_t count = 0, due;

    if (!rater->ledger->ops->keeps_state) {
        struct weir_state_view all = weir_state_all(rater->state);
        for (size_t i = 0; i < all.period_count && status == WEIR_OK; i++) {
            struct weir_period_running *period = all.periods[i];
            if (contract && period->contract.length == 0)
                status = add_period(rater, list, contract, period, due_as(period->end <= horizon->ended), reterr);
        }
        return status == WEIR_OK ? settle_list(rater, list, reterr) : status;
    }
    do {
        status = rater->ledger->ops->unsettled(rater->ledger, horizon->ended, span_start, PERIODS_PER_BATCH, found,
                                               &count, reterr);
        due = 0;
        for (size_t i = 0; i < count && status == WEIR_OK; i++) {
            int64_t end;
            if (!(contract = contract_of(rater->catalog, &found[i], &end)))
                continue;
            due++;
            enum due_as as =
                contract->key.length && end <= span_start ? DUE_AS_BEFORE_SPAN : due_as(end <= horizon->ended);
            status = add_due(rater, list, contract, found[i].customer, found[i].start, end, as, reterr);
        }
        if (status == WEIR_OK)
            status = settle_list(rater, list, reterr);
    } while (status == WEIR_OK && count == PERIODS_PER_BATCH && due > 0);
    return status;
}

enum weir_status weir_rater_draw_once(struct weir_rater *rater, struct weir_error *reterr)
{
    weir_check(!rater->ledger->ops->keeps_state);
    enum weir_status status = rater->ledger->ops->load(rater->ledger, rater->state, reterr); /* also without usage */
    if (status != WEIR_OK)
        return status;
    weir_rater_charge_orders(rater);
    status = weir_rater_draw(rater, reterr);
    if (status == WEIR_OK)
        status = weir_rater_write(rater, reterr);
    weir_rater_forget(rater);
    return status;
}

static enum weir_status expire_once(struct weir_rater *rater, const struct weir_slice *customers, size_t count,
                                    struct weir_error *reterr)
{
    for (size_t i = 0; i < count; i++)
        weir_state_account(rater->state, customers[i]);
    enum weir_status status = rater->ledger->ops->load(rater->ledger, rater->state, reterr);
    if (status == WEIR_OK) {
        weir_rater_find_outdated(rater);
        status = weir_rater_draw(rater, reterr);
    }
    if (status == WEIR_OK)
        status = weir_rater_write(rater, reterr);
    if (status != WEIR_OK)
        rater->ledger->ops->abandon(rater->ledger);
    weir_rater_forget(rater);
    return status;
}

/* Everything that is known of one lot of customers is drawn anew, and what has expired of it ends. */
static enum weir_status expire_lot(struct weir_rater *rater, const struct weir_slice *customers, size_t count,
                                   struct weir_error *reterr)
{
    enum weir_status status;
    size_t overdrawn;

    weir_rater_forget_overdrawn(rater);
    struct weir_slice *kept = weir_arena_take_array(rater->batch, count, sizeof *kept);
    for (size_t i = 0; i < count; i++)
        kept[i] = weir_arena_copy(rater->batch, customers[i].data, customers[i].length);
    do {
        overdrawn = rater->overdrawn_count;
        status = expire_once(rater, kept, count, reterr);
        if (rater->overdrawn_count > overdrawn)
            weir_log(WEIR_LOG_ERROR, "what has expired waits: %s", reterr->text);
    } while (status != WEIR_OK && rater->overdrawn_count > overdrawn);
    return status;
}

enum weir_status weir_rater_expire(struct weir_rater *rater, const struct weir_slice *customers, size_t count,
                                   int64_t through, struct weir_error *reterr)
{
    rater->ended = through;
    return expire_lot(rater, customers, count, reterr);
}

/* What is left of grants that expired by then goes out of their balances: not before their time by the clock, which
 * events may be ahead of (max_future). Those that expired since the last time are looked for each time, and all of them
 * now and then: a correction may have given something back. */
static enum weir_status expire(struct weir_rater *rater, int64_t through, struct weir_error *reterr)
{
    enum { CUSTOMERS = 100 };
    struct weir_slice customers[CUSTOMERS], after = {0};
    char last[WEIR_IDENTIFIER_MAX];
    size_t count = CUSTOMERS;
    enum weir_status status = WEIR_OK;
    int64_t now = weir_monotonic(), clock = weir_time_now();

    if (!rater->ledger->ops->expired)
        return WEIR_OK;
    through = through < clock ? through : clock;
    through -= through % 1000; /* PostgreSQL counts microseconds */
    bool looks_at_all = rater->ended == INT64_MIN || now - rater->expired_all_at > EXPIRE_ALL_EVERY;
    int64_t from = looks_at_all || rater->ended > through ? 0 : rater->ended;
    rater->ended = through;
    while (status == WEIR_OK && count == CUSTOMERS) {
        status = rater->ledger->ops->expired(rater->ledger, from, through, after, CUSTOMERS, customers, &count, reterr);
        if (status != WEIR_OK || count == 0)
            break;
        memcpy(last, customers[count - 1].data, customers[count - 1].length);
        after = weir_slice_of(last, customers[count - 1].length);
        status = expire_lot(rater, customers, count, reterr);
    }
    if (status == WEIR_OK && looks_at_all)
        rater->expired_all_at = now;
    if (status != WEIR_OK)
        rater->ended = INT64_MIN; /* all of them again */
    return status;
}

enum weir_status weir_rater_settle_through(struct weir_rater *rater, const struct weir_horizon *horizon,
                                           struct weir_slice through, struct weir_error *reterr)
{
    const struct weir_catalog *catalog = rater->catalog;
    struct due_list *list = weir_new(sizeof *list);
    enum weir_status status = WEIR_OK;
    uint32_t *at = &rater->settled_through; /* contracts are sorted by customer */

    weir_check(!rater->ledger->ops->keeps_state);
    rater->settled_from = horizon->first_time;
    for (; *at < catalog->contract_count && weir_slice_compare(catalog->contracts[*at].customer, through) <= 0; ++*at) {
        struct settled reached;
        status = settle_contract(rater, list, *at, horizon, &reached, reterr);
        if (status != WEIR_OK)
            break;
        rater->settled[*at] = reached;
    }
    if (status == WEIR_OK)
        status = settle_list(rater, list, reterr);
    if (status == WEIR_OK)
        status = settle_known(rater, list, horizon, reterr);
    if (status == WEIR_OK)
        status = weir_rater_draw_once(rater, reterr);
    free(list);
    if (status == WEIR_OK)
        weir_rater_start_over(rater);
    return status;
}

enum weir_status weir_rater_settle(struct weir_rater *rater, const struct weir_horizon *horizon,
                                   struct weir_error *reterr)
{
    struct due_list *list = weir_new(sizeof *list);
    struct settled *reached = weir_new_array(rater->catalog->contract_count + 1, sizeof *reached);
    enum weir_status status = WEIR_OK;
    uint32_t contracts = horizon->first_time <= horizon->last_time ? rater->catalog->contract_count : 0;

    if (horizon->first_time < rater->settled_from) /* a late event: earlier periods are in the span now */
        memset(rater->settled, 0, rater->catalog->contract_count * sizeof *rater->settled);
    rater->settled_from = horizon->first_time;

    for (uint32_t i = 0; i < contracts && status == WEIR_OK; i++)
        status = settle_contract(rater, list, i, horizon, &reached[i], reterr);
    if (status == WEIR_OK)
        status = settle_list(rater, list, reterr);
    if (status == WEIR_OK)
        status = settle_known(rater, list, horizon, reterr);
    if (status == WEIR_OK)
        status = expire(rater, horizon->ended, reterr);
    if (status == WEIR_OK && !rater->ledger->ops->keeps_state)
        status = weir_rater_draw_once(rater, reterr);
    /* Only now is it known that everything on the way was written. */
    if (status == WEIR_OK && contracts)
        memcpy(rater->settled, reached, contracts * sizeof *reached);
    free(reached);
    free(list);
    return status;
}
