/* Whether a customer's ledger is what the catalog makes of its windows. */
#include <stdlib.h>

#include "common/hash.h"
#include "rater/rerate_write.h"

enum { FIRST_SLOTS = 64 };

static const char sums_sql[] =
    "SELECT customer, contract, period_start, item, meter IS NOT NULL, price_book, coalesce(price_book_version, 0),"
    " component, coalesce(tier, 0), sum(quantity), sum(amount) FROM weir.line_items"
    " WHERE customer >= $1::text AND customer <= $2::text AND kind IN ('usage', 'fee', 'true_up', 'reversal')"
    " AND component NOT IN ('drawdown', 'overage') GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY customer";

void weir_rerate_judge_free(struct rerate_judge *judge)
{
    PQclear(judge->old);
    weir_arena_free(judge->arena);
    free(judge->slots);
    *judge = (struct rerate_judge){0};
}

void weir_rerate_judge_forget(struct rerate_judge *judge)
{
    PQclear(judge->old);
    judge->old = NULL;
    judge->old_at = 0;
}

/* Sums of the ledger, of all customers of the chunk. */
static enum weir_status read_sums(struct rerate_judge *judge, PGconn *connection, const struct rerate_chunk *chunk,
                                  struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};

    for (size_t i = 0; i<chunk->count; i += chunk->count> 1 ? chunk->count - 1 : 1)
        weir_parameters_add(&parameters, chunk->customers[i].customer.data, chunk->customers[i].customer.length);
    if (parameters.count == 1)
        weir_parameters_add(&parameters, chunk->customers[0].customer.data, chunk->customers[0].customer.length);
    return weir_postgres_ask(connection, sums_sql, &parameters, "adding line items up", &judge->old, reterr);
}

/* 1. groups */
void weir_rerate_judge_begin(struct rerate_judge *judge)
{
    if (!judge->arena) {
        judge->arena = weir_arena_new();
        judge->slot_count = FIRST_SLOTS;
        judge->slots = weir_new_array(judge->slot_count, sizeof *judge->slots);
    }
    weir_arena_clear(judge->arena);
    memset(judge->slots, 0, judge->slot_count * sizeof *judge->slots);
    judge->group_count = 0;
    judge->last = NULL;
    judge->is_fitting = true;
    judge->has_new_terms = false;
    judge->lacks_before = true;
}

static uint64_t hash_of(const struct rerate_group *key)
{
    uint64_t hash = weir_hash64(&key->period_start, sizeof key->period_start,
                                (uint64_t)key->price_book_version * 2 + key->has_meter);

    hash = weir_hash64(key->contract.length ? key->contract.data : "", key->contract.length, hash);
    hash = weir_hash64(key->item.data, key->item.length, hash);
    return weir_hash64(key->price_book.data, key->price_book.length, hash);
}

static bool is_same(const struct rerate_group *a, const struct rerate_group *b)
{
    return a->period_start == b->period_start && a->price_book_version == b->price_book_version
           && a->has_meter == b->has_meter && weir_slice_equal(a->item, b->item)
           && weir_slice_equal(a->contract, b->contract) && weir_slice_equal(a->price_book, b->price_book);
}

static struct rerate_group **slot_of(const struct rerate_judge *judge, const struct rerate_group *key)
{
    size_t at = (size_t)key->hash & (judge->slot_count - 1);

    while (judge->slots[at] && (judge->slots[at]->hash != key->hash || !is_same(judge->slots[at], key)))
        at = (at + 1) & (judge->slot_count - 1);
    return &judge->slots[at];
}

static void grow(struct rerate_judge *judge)
{
    struct rerate_group **old = judge->slots;
    size_t count = judge->slot_count;

    judge->slot_count *= 2;
    judge->slots = weir_new_array(judge->slot_count, sizeof *judge->slots);
    for (size_t i = 0; i < count; i++)
        if (old[i])
            *slot_of(judge, old[i]) = old[i];
    free(old);
}

static struct weir_slice keep(struct rerate_judge *judge, struct weir_slice text)
{
    return text.length ? weir_arena_copy(judge->arena, text.data, text.length) : (struct weir_slice){0};
}

static struct rerate_group *group_of(struct rerate_judge *judge, struct rerate_group key)
{
    if (judge->last && is_same(judge->last, &key))
        return judge->last;
    if (judge->group_count * 2 >= judge->slot_count)
        grow(judge);
    key.hash = hash_of(&key);
    struct rerate_group **slot = slot_of(judge, &key);
    if (!*slot) {
        struct rerate_group *group = weir_arena_take(judge->arena, sizeof *group);
        *group = key;
        group->contract = keep(judge, key.contract);
        group->item = keep(judge, key.item);
        group->price_book = keep(judge, key.price_book);
        *slot = group;
        judge->group_count++;
    }
    judge->last = *slot;
    return *slot;
}

static struct rerate_sum *sum_of(struct rerate_judge *judge, struct rerate_group *group, enum weir_component component,
                                 uint32_t tier)
{
    for (uint32_t i = 0; i < group->sum_count; i++)
        if (group->sums[i].component == component && group->sums[i].tier == tier)
            return &group->sums[i];
    if (group->sum_count == group->sum_room) {
        uint32_t room = group->sum_room ? 2 * group->sum_room : 4;
        struct rerate_sum *sums = weir_arena_take_array(judge->arena, room, sizeof *sums);
        if (group->sum_count)
            memcpy(sums, group->sums, group->sum_count * sizeof *sums);
        group->sums = sums;
        group->sum_room = room;
    }
    group->sums[group->sum_count] = (struct rerate_sum){.component = component, .tier = tier};
    return &group->sums[group->sum_count++];
}

static void add(struct rerate_judge *judge, struct rerate_sum *sum, int when, struct weir_decimal quantity,
                struct weir_decimal amount)
{
    judge->is_fitting = weir_decimal_add(sum->quantity[when], quantity, &sum->quantity[when])
                        && weir_decimal_add(sum->amount[when], amount, &sum->amount[when]) && judge->is_fitting;
}

/* 2. what is now */
void weir_rerate_judge_item(void *context, const struct weir_line_item *item)
{
    struct rerate_judge *judge = context;

    if (weir_rerate_is_draw(item->component))
        return; /* rerate_accounts.c compares them one by one */
    const struct rerate_group key = {
        .contract = item->contract,
        .item = item->item,
        .price_book = item->price_book,
        .period_start = item->period_start,
        .price_book_version = item->price_book_version,
        .has_meter = item->meter.length > 0,
    };

    add(judge, sum_of(judge, group_of(judge, key), item->component, item->kind == WEIR_KIND_USAGE ? item->tier : 0), 1,
        item->quantity, item->amount);
}

static bool same_text(struct weir_slice found, const char *text)
{
    return weir_slice_equal(found, weir_slice_text(text));
}

bool weir_rerate_has_new_terms(const struct rerate_window *share, const struct weir_rated_window *window)
{
    bool has_contract = window->period_end != 0;

    return !same_text(share->unpriced, weir_unpriced_name[window->unpriced]) || share->has_contract != has_contract
           || (has_contract
               && (!weir_slice_equal(share->contract, window->contract) || share->period_start != window->period_start))
           || !weir_slice_equal(share->price_book, window->price_book)
           || (window->price_book.length
               && (share->price_book_version != window->price_book_version
                   || !weir_slice_equal(share->price_key, window->price_key)));
}

/* 3. what the ledger says */
static bool component_of(struct weir_slice name, enum weir_component *ret_component)
{
    for (int i = 0; i < WEIR_COMPONENT_COUNT; i++)
        if (same_text(name, weir_component_name[i])) {
            *ret_component = (enum weir_component)i;
            return true;
        }
    return false;
}

void weir_rerate_judge_before(struct rerate_judge *judge, const struct rerate_group *key, enum weir_component component,
                              uint32_t tier, struct weir_decimal quantity, struct weir_decimal amount)
{
    add(judge, sum_of(judge, group_of(judge, *key), component, tier), 0, quantity, amount);
}

static bool add_old(struct rerate_judge *judge, const struct rerate_customer *customer, int row)
{
    const PGresult *old = judge->old;
    enum weir_component component;
    struct weir_decimal quantity, amount;
    const struct rerate_group key = {
        .contract = weir_postgres_field(old, row, 1),
        .period_start = weir_get_time(PQgetvalue(old, row, 2)),
        .item = weir_postgres_field(old, row, 3),
        .has_meter = *PQgetvalue(old, row, 4),
        .price_book = weir_postgres_field(old, row, 5),
        .price_book_version = (uint32_t)weir_get_int4(PQgetvalue(old, row, 6)),
    };

    if (!component_of(weir_postgres_field(old, row, 7), &component)
        || !weir_get_decimal(PQgetvalue(old, row, 9), (size_t)PQgetlength(old, row, 9), &quantity)
        || !weir_get_decimal(PQgetvalue(old, row, 10), (size_t)PQgetlength(old, row, 10), &amount))
        return false;
    if (weir_rerate_is_in(customer, key.period_start)
        && (!key.has_meter || !customer->meter.length || weir_slice_equal(key.item, customer->meter)))
        weir_rerate_judge_before(judge, &key, component, (uint32_t)weir_get_int4(PQgetvalue(old, row, 8)), quantity,
                                 amount);
    return true;
}

static bool add_all_old(struct rerate_judge *judge, const struct rerate_customer *customer)
{
    for (; judge->old_at < PQntuples(judge->old); judge->old_at++) {
        int order = weir_slice_compare(weir_postgres_field(judge->old, judge->old_at, 0), customer->customer);
        if (order > 0)
            break;
        if (order == 0 && !add_old(judge, customer, judge->old_at))
            return false;
    }
    return true;
}

enum weir_status weir_rerate_judge_sums(struct rerate_judge *judge, PGconn *connection,
                                        const struct rerate_chunk *chunk, const struct rerate_customer *customer,
                                        struct weir_error *reterr)
{
    enum weir_status status = judge->old ? WEIR_OK : read_sums(judge, connection, chunk, reterr);

    if (status == WEIR_OK && !add_all_old(judge, customer))
        status =
            weir_fail(reterr, WEIR_FATAL, "PostgreSQL, weir.line_items, customer '%.*s': a row that weir never wrote",
                      (int)customer->customer.length, customer->customer.data);
    judge->lacks_before = false;
    return status;
}

static bool is_different(const struct rerate_group *group)
{
    for (uint32_t i = 0; i < group->sum_count; i++)
        if (group->sums[i].quantity[0].e12 != group->sums[i].quantity[1].e12
            || group->sums[i].amount[0].e12 != group->sums[i].amount[1].e12)
            return true;
    return false;
}

/* A period that is none any more, or ends at another time. */
static enum weir_status judge_periods(const struct rerate_fresh *fresh, bool *ret_is_changed, struct weir_error *reterr)
{
    const struct rerate_customer *customer = fresh->customer;

    for (size_t i = 0; i < customer->period_count; i++) {
        const struct rerate_old_period *period = &customer->periods[i];
        int64_t end = period->end;
        if (!weir_rerate_is_in(customer, period->start))
            continue;
        bool is_there = weir_rerate_contract_of(fresh, period, &end);
        if (!is_there && fresh->customer->meter.length)
            return weir_fail(reterr, WEIR_REJECT,
                             "customer '%.*s': the catalog has other billing periods than its usage was rated in: "
                             "rerate all of its meters, without --meter",
                             (int)customer->customer.length, customer->customer.data);
        *ret_is_changed = *ret_is_changed || !is_there || end != period->end;
    }
    return WEIR_OK;
}

enum weir_status weir_rerate_judge_end(struct rerate_judge *judge, const struct rerate_fresh *fresh,
                                       bool *ret_is_changed, struct weir_error *reterr)
{
    struct weir_slice customer = fresh->customer->customer;

    weir_check(!judge->lacks_before);
    if (!judge->is_fitting)
        return weir_fail(reterr, WEIR_REJECT, "customer '%.*s': the sum of its line items does not fit",
                         (int)customer.length, customer.data);
    *ret_is_changed = judge->has_new_terms;
    for (size_t i = 0; i < judge->slot_count; i++)
        if (judge->slots[i]) {
            judge->slots[i]->is_changed = is_different(judge->slots[i]);
            *ret_is_changed = *ret_is_changed || judge->slots[i]->is_changed;
        }
    return judge_periods(fresh, ret_is_changed, reterr);
}

bool weir_rerate_is_draw(enum weir_component component)
{
    return component == WEIR_COMPONENT_DRAWDOWN || component == WEIR_COMPONENT_OVERAGE;
}

bool weir_rerate_is_changed(struct rerate_judge *judge, struct weir_slice contract, int64_t period_start,
                            struct weir_slice price_book, uint32_t price_book_version, struct weir_slice item,
                            bool has_meter)
{
    struct rerate_group key = {
        .contract = contract,
        .item = item,
        .price_book = price_book,
        .period_start = period_start,
        .price_book_version = price_book_version,
        .has_meter = has_meter,
    };

    if (!judge->last || !is_same(judge->last, &key)) { /* lines come with others of their group */
        key.hash = hash_of(&key);
        struct rerate_group *group = *slot_of(judge, &key);
        if (!group)
            return false;
        judge->last = group;
    }
    return judge->last->is_changed;
}
