/* Accounts of which nothing may be drawn now: the customer waits, and the others go on.
 * - Those that were drawn by another catalog: `weir apply --rerate` has changed the prepaid amounts of a time that was
 *   rated, and `weir rerate` has not run yet. What is drawn from them now would be the difference of two catalogs
 *   (docs/rerating.md).
 * - Those of which what would be drawn does not fit. That a window or a period is too large is mostly known before
 *   it is charged (weir_rater_can_draw). Else it shows when all is drawn, too late to take a window back: then the
 *   batch is given up, and done again without that customer. */
#include <stdlib.h>

#include "rater/draw_internal.h"

/* What the ledger has of one price, or of one of its segments. */
struct sum {
    const struct weir_price_running *price;
    struct weir_decimal quantity;
    uint64_t events;
};

static bool is_nothing(const struct weir_segment_running *segment)
{
    return !segment->entry.exists || (weir_decimal_is_zero(segment->quantity) && segment->events == 0);
}

/* Whether the catalog still has what the segment is of. One without usage may be left over from before an order. */
static bool knows_segment(const struct weir_catalog *catalog, const struct weir_account *account,
                          const struct weir_segment_running *segment)
{
    const struct weir_price_running *price = segment->price;
    const struct weir_contract *terms = weir_terms_of(catalog, price->customer, price->contract, price->period_start);
    int64_t start, end;

    if (is_nothing(segment))
        return true;
    if (!terms || !weir_price_of(terms, price)
        || !weir_has_segments(terms, account, price->period_start, price->period_end))
        return false;
    weir_contract_period_at(terms, price->period_start, &start, &end);
    if (start != price->period_start)
        return false;
    weir_segment_at(terms, account, start, price->period_end, segment->start, &start, &end);
    return start == segment->start;
}

/* Whether the catalog still has amounts that what the draw is for could be drawn from. */
static bool knows_draw(const struct weir_rater *rater, const struct weir_draw_running *draw)
{
    const struct weir_contract *terms =
        weir_terms_of(rater->catalog, draw->customer, draw->contract, draw->period_start);

    return weir_decimal_is_zero(draw->amount)
           || (terms
               && weir_has_segments(terms, weir_state_known_account(rater->state, draw->customer), draw->period_start,
                                    draw->period_end));
}

static void note(struct weir_state *state, struct weir_slice customer)
{
    struct weir_account *account = weir_state_known_account(state, customer);

    if (account)
        account->is_outdated = true;
}

static int by_price(const void *left, const void *right)
{
    const struct sum *a = left, *b = right;
    return ((uintptr_t)a->price > (uintptr_t)b->price) - ((uintptr_t)a->price < (uintptr_t)b->price);
}

/* Adds up what is sorted by price, one sum for each. What does not fit is not what the price has. */
static size_t add_up(struct sum *sums, size_t count)
{
    size_t prices = 0;

    for (size_t i = 0; i < count; i++) {
        if (prices == 0 || sums[prices - 1].price != sums[i].price) {
            sums[prices++] = sums[i];
            continue;
        }
        sums[prices - 1].events += sums[i].events;
        (void)weir_decimal_add(sums[prices - 1].quantity, sums[i].quantity, &sums[prices - 1].quantity);
    }
    return prices;
}

/* A period that has segments has all of its usage in them. */
static void compare_sums(struct weir_rater *rater, const struct sum *sums, size_t count)
{
    struct weir_state_view all = weir_state_all(rater->state);

    for (size_t i = 0; i < all.price_count; i++) {
        const struct weir_price_running *price = all.prices[i];
        const struct weir_account *account = weir_state_known_account(rater->state, price->customer);
        const struct weir_contract *terms =
            account ? weir_terms_of(rater->catalog, price->customer, price->contract, price->period_start) : NULL;
        if (!price->entry.exists || !terms
            || !weir_has_segments(terms, account, price->period_start, price->period_end))
            continue;
        const struct sum key = {.price = price}, none = {.price = price};
        const struct sum *sum = count ? bsearch(&key, sums, count, sizeof *sums, by_price) : NULL;
        sum = sum ? sum : &none;
        if (sum->quantity.e12 != price->quantity.e12 || sum->events != price->events)
            note(rater->state, price->customer);
    }
}

void weir_rater_find_outdated(struct weir_rater *rater)
{
    struct weir_state_view all = weir_state_all(rater->state);

    if (all.account_count == 0 || !rater->ledger->ops->keeps_state)
        return;
    struct sum *sums = weir_new_array(all.segment_count + 1, sizeof *sums);
    size_t count = 0;
    for (size_t i = 0; i < all.segment_count; i++) {
        const struct weir_segment_running *segment = all.segments[i];
        const struct weir_account *account = weir_state_known_account(rater->state, segment->price->customer);
        if (!knows_segment(rater->catalog, account, segment))
            note(rater->state, segment->price->customer);
        if (segment->entry.exists)
            sums[count++] = (struct sum){segment->price, segment->quantity, segment->events};
    }
    if (count > 1)
        qsort(sums, count, sizeof *sums, by_price);
    compare_sums(rater, sums, add_up(sums, count));
    free(sums);
    for (size_t i = 0; i < all.draw_count; i++)
        if (!knows_draw(rater, all.draws[i]))
            note(rater->state, all.draws[i]->customer);
    for (size_t i = 0; i < rater->overdrawn_count; i++) {
        struct weir_account *account = weir_state_known_account(rater->state, rater->overdrawn[i]);
        if (account)
            account->is_outdated = account->is_overdrawn = true;
    }
}

static enum weir_status fail_overdrawn(struct weir_slice customer, struct weir_error *reterr)
{
    return weir_fail(reterr, WEIR_REJECT,
                     "customer '%.*s': what is drawn from its prepaid amounts, or the overage, does not fit (limit "
                     "about 1.7e26). Check its events, its prices and overage_multiplier",
                     (int)customer.length, customer.data);
}

enum weir_status weir_rater_say_overdrawn(struct weir_rater *rater, struct weir_slice customer,
                                          struct weir_error *reterr)
{
    const struct weir_account *account = weir_state_known_account(rater->state, customer);

    if (account && !account->is_overdrawn && rater->ledger->ops->keeps_state) {
        rater->overdrawn = weir_resize(rater->overdrawn, rater->overdrawn_count + 1, sizeof(struct weir_slice));
        rater->overdrawn[rater->overdrawn_count++] = weir_arena_copy(rater->batch, customer.data, customer.length);
    }
    return fail_overdrawn(customer, reterr);
}

void weir_rater_forget_overdrawn(struct weir_rater *rater)
{
    rater->overdrawn_count = 0;
    weir_arena_clear(rater->batch);
}

bool weir_rater_is_outdated(const struct weir_rater *rater, struct weir_slice customer)
{
    const struct weir_account *account = weir_state_known_account(rater->state, customer);

    return account && account->is_outdated;
}

enum weir_status weir_rater_say_outdated(struct weir_slice customer, struct weir_error *reterr)
{
    return weir_fail(reterr, WEIR_FATAL,
                     "customer '%.*s': its usage was drawn from prepaid amounts that this catalog has otherwise. Run "
                     "weir rerate, which brings the ledger to it, or apply the catalog that it was rated with",
                     (int)customer.length, customer.data);
}

enum weir_status weir_rater_say_waiting(const struct weir_rater *rater, struct weir_slice customer,
                                        struct weir_error *reterr)
{
    const struct weir_account *account = weir_state_known_account(rater->state, customer);

    return account && account->is_overdrawn ? fail_overdrawn(customer, reterr)
                                            : weir_rater_say_outdated(customer, reterr);
}
