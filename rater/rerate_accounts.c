/* Prepaid amounts and minimum quantities of a rerating that writes: the state of the fresh rater goes on from what the
 * ledger has of them, so that storing it brings balances to it by further entries. */
#include "rater/rerate_write.h"

/* One customer: what the ledger has, and what there should be. */
struct pair {
    struct weir_state *stored, *now;
    const struct rerate_customer *customer;
    bool is_changed;
};

/* Entries that were only looked for say nothing. */
static bool is_stored(const struct pair *pair, const struct weir_entry *entry, struct weir_slice customer)
{
    return entry->exists && weir_slice_equal(customer, pair->customer->customer);
}

static void compare_segments(struct pair *pair)
{
    struct weir_state_view now = weir_state_all(pair->now), stored;
    size_t count = 0;

    for (size_t i = 0; i < now.segment_count; i++) {
        const struct weir_segment_running *segment = now.segments[i];
        const struct weir_price_running *of = segment->price;
        if (!segment->entry.is_dirty)
            continue;
        const struct weir_price_running *price =
            weir_state_price(pair->stored, of->customer, of->contract, of->period_start, of->period_end, of->price_book,
                             of->price_book_version, of->price_key);
        const struct weir_segment_running *old = weir_state_segment(pair->stored, price, segment->start);
        if (!old->entry.exists || old->quantity.e12 != segment->quantity.e12 || old->events != segment->events)
            pair->is_changed = true;
        count++;
    }
    stored = weir_state_all(pair->stored);
    for (size_t i = 0; i < stored.segment_count; i++)
        if (is_stored(pair, &stored.segments[i]->entry, stored.segments[i]->price->customer))
            count--;
    pair->is_changed = pair->is_changed || count != 0;
}

/* Rows of a rerating carry the revision that they price again, and the next one goes on from there. */
static void complete_commitments(struct pair *pair)
{
    struct weir_state_view stored = weir_state_all(pair->stored);

    for (size_t i = 0; i < stored.commitment_count; i++) {
        const struct weir_commitment_running *old = stored.commitments[i];
        if (!is_stored(pair, &old->entry, old->customer) || !weir_rerate_is_in(pair->customer, old->period_start))
            continue;
        struct weir_commitment_running *now = weir_state_commitment(
            pair->now, old->customer, old->contract, old->period_start, old->period_end, old->commitment);
        if (now->quantity.e12 != old->quantity.e12 || now->amount.e12 != old->amount.e12)
            pair->is_changed = true;
        now->revision = old->revision;
    }
}

/* Between 0 and what was granted, or what a line item amounts to: neither is near the limit. */
static struct weir_decimal change_of(struct weir_decimal before, struct weir_decimal after)
{
    return (struct weir_decimal){after.e12 - before.e12};
}

static void complete_draws(struct pair *pair)
{
    struct weir_state_view stored = weir_state_all(pair->stored), now;

    for (size_t i = 0; i < stored.draw_count; i++) {
        const struct weir_draw_running *old = stored.draws[i];
        if (!is_stored(pair, &old->entry, old->customer))
            continue;
        struct weir_draw_running *draw = weir_state_draw(pair->now, old);
        draw->change = change_of(old->amount, draw->amount);
        draw->revision = old->revision;
    }
    now = weir_state_all(pair->now);
    for (size_t i = 0; i < now.draw_count; i++)
        pair->is_changed = pair->is_changed || !weir_decimal_is_zero(now.draws[i]->change);
}

/* What was ordered of a grant; NULL: nothing. */
static const struct weir_grant_order *order_of(const struct pair *pair, const struct weir_grant_running *grant)
{
    const struct weir_account *account = weir_state_known_account(pair->stored, grant->customer);

    for (size_t i = 0; account && i < account->order_count; i++)
        if (weir_slice_equal(account->orders[i].commitment.key, grant->key)
            && weir_slice_equal(account->orders[i].contract, grant->contract))
            return &account->orders[i];
    return NULL;
}

/* Of a grant that the catalog does not have any more, what its end took is undone by entries of the same kind. */
static enum weir_grant_end end_of(const struct pair *pair, const struct weir_grant_running *grant)
{
    const struct weir_grant_order *order = order_of(pair, grant);

    return order && order->is_ended ? order->end : WEIR_GRANT_END_EXPIRY;
}

static bool brings_change(const struct weir_grant_running *grant)
{
    return !weir_decimal_is_zero(grant->change) || !weir_decimal_is_zero(grant->taken_change)
           || !weir_decimal_is_zero(grant->rolled_change) || !weir_decimal_is_zero(grant->charged_change)
           || weir_grant_has_moved(grant);
}

static void complete_grants(struct pair *pair)
{
    struct weir_state_view stored = weir_state_all(pair->stored), now;

    for (size_t i = 0; i < stored.grant_count; i++) {
        const struct weir_grant_running *old = stored.grants[i];
        if (!is_stored(pair, &old->entry, old->customer))
            continue;
        struct weir_grant_running *grant = weir_state_grant(pair->now, old->customer, old->contract, old->key);
        if (!grant->commitment) {
            grant->end = end_of(pair, old);
            grant->starts_at = old->starts_at;
            grant->expires_at = old->expires_at;
        }
        grant->noted_starts_at = old->noted_starts_at;
        grant->noted_expires_at = old->noted_expires_at;
        grant->rolled_from = old->rolled_from;
        grant->number = old->number;
        grant->balance = old->balance;
        grant->change = change_of(old->amount, grant->amount);
        grant->taken_change = change_of(old->taken, grant->taken);
        grant->rolled_change = change_of(old->rolled, grant->rolled);
        grant->charged_change = change_of(old->charged, grant->charged);
        grant->entry.exists = true;
        grant->entry.is_dirty = brings_change(grant);
    }
    now = weir_state_all(pair->now);
    for (size_t i = 0; i < now.grant_count; i++)
        pair->is_changed = pair->is_changed || brings_change(now.grants[i]);
}

bool weir_rerate_accounts_complete(struct rerate_fresh *fresh)
{
    struct pair pair = {fresh->customer->accounts, fresh->state, fresh->customer, false};

    if (!fresh->customer->has_commitments || fresh->customer->from >= fresh->customer->to)
        return false;
    weir_state_account(fresh->state, fresh->customer->customer);
    complete_commitments(&pair);
    if (!fresh->customer->has_prepaid)
        return pair.is_changed;
    compare_segments(&pair);
    complete_draws(&pair);
    complete_grants(&pair);
    return pair.is_changed;
}
