/* Prepaid amounts and minimum quantities of a rerating that writes: the state of the fresh rater goes on from what the
 * ledger has of them, so that storing it brings balances to it by further entries. */
#include "rater/rerate_write.h"

enum weir_status weir_rerate_accounts_read(struct rerate_writer *writer, const struct rerate_chunk *chunk,
                                           struct weir_error *reterr)
{
    weir_state_clear(writer->accounts);
    for (size_t i = 0; i < chunk->count; i++)
        if (chunk->customers[i].has_commitments)
            weir_state_account(writer->accounts, chunk->customers[i].customer);
    return weir_postgres_load_accounts(writer->ledger, writer->accounts, reterr);
}

/* One customer: what the ledger has, and what there should be. */
struct pair {
    struct weir_state *stored, *now;
    const struct weir_catalog *catalog;
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

/* What the catalog grants, whether there is usage to draw from it or not. */
static struct weir_decimal granted(const struct pair *pair, const struct weir_grant_running *grant)
{
    bool is_default = grant->contract.length == 0;
    uint32_t count = pair->catalog->default_contract != NULL;
    const struct weir_contract *contracts =
        is_default ? pair->catalog->default_contract
                   : weir_catalog_contracts_of(pair->catalog, pair->customer->customer, &count);

    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; weir_slice_equal(contracts[i].key, grant->contract) && k < contracts[i].commitment_count;
             k++)
            if (contracts[i].commitments[k].type == WEIR_COMMITMENT_PREPAID
                && weir_slice_equal(contracts[i].commitments[k].key, grant->key))
                return contracts[i].commitments[k].amount;
    return (struct weir_decimal){0};
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
            grant->amount = granted(pair, old);
            grant->taken = old->has_ended ? grant->amount : (struct weir_decimal){0};
            grant->rolled_from = weir_state_copy(pair->now, old->rolled_from);
        }
        grant->taken_change = change_of(old->taken, grant->taken);
        grant->rolled_change = change_of(old->rolled, grant->rolled);
        grant->entry.exists = grant->entry.is_dirty = true;
        grant->number = old->number;
        grant->balance = old->balance;
        grant->change = change_of(old->amount, grant->amount);
    }
    now = weir_state_all(pair->now);
    for (size_t i = 0; i < now.grant_count; i++)
        pair->is_changed = pair->is_changed || !weir_decimal_is_zero(now.grants[i]->change)
                           || !weir_decimal_is_zero(now.grants[i]->taken_change)
                           || !weir_decimal_is_zero(now.grants[i]->rolled_change);
}

bool weir_rerate_accounts_complete(const struct rerate_writer *writer, struct rerate_fresh *fresh)
{
    struct pair pair = {writer->accounts, fresh->state, fresh->catalog, fresh->customer, false};

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
