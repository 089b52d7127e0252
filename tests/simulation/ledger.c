/* The ledger as PostgreSQL keeps it: rated windows, running totals, billing periods and line items, changed by
 * transactions that happen whole or not at all, with a lock on each customer from load to the transaction's end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rater/price.h"
#include "tests/simulation/simulation.h"

enum { SUMS_MAX = 2048, LOCKS_MAX = 64, DEADLOCK_AFTER = 1 };

/* Line items added up. */
struct sum {
    char customer[32], contract[16], item[16];
    enum weir_kind kind;
    enum weir_component component;
    uint32_t tier;
    int64_t period_start;
    struct weir_decimal quantity, amount;
};

struct lock {
    char customer[32];
    const struct handle *holder; /* NULL: free */
};

struct books {
    struct weir_state *state; /* rows that are committed: those whose entry.exists */
    struct sum sums[SUMS_MAX];
    size_t sum_count;
    struct lock locks[LOCKS_MAX];
    size_t lock_count;
};

struct handle {
    struct weir_ledger ledger;
    struct books *books;
    const struct process *process;
    bool is_safe;
    bool is_open; /* a transaction */
};

struct books *books_new(void)
{
    struct books *books = weir_new(sizeof *books);
    books->state = weir_state_new();
    return books;
}

struct books *books_free(struct books *books)
{
    if (books)
        weir_state_free(books->state);
    free(books);
    return NULL;
}

/* 1. rows */
static void copy_window(struct weir_state *to_state, struct weir_rated_window *to, const struct weir_rated_window *from,
                        bool only_dirty)
{
    to->unpriced = from->unpriced;
    to->contract = weir_state_copy(to_state, from->contract);
    to->period_start = from->period_start;
    to->period_end = from->period_end;
    to->price_book = weir_state_copy(to_state, from->price_book);
    to->price_book_version = from->price_book_version;
    to->price_key = weir_state_copy(to_state, from->price_key);
    for (uint32_t i = 0; i < from->lane_count; i++) {
        if (only_dirty && !from->lanes[i].is_dirty)
            continue;
        struct weir_rated_lane *lane = weir_rated_window_lane(to_state, to, from->lanes[i].lane);
        lane->total = from->lanes[i].total;
        lane->revision = from->lanes[i].revision;
    }
}

static void copy_price(struct weir_price_running *to, const struct weir_price_running *from)
{
    to->quantity = from->quantity;
    to->events = from->events;
    to->amount = from->amount;
}

static void copy_period(struct weir_period_running *to, const struct weir_period_running *from)
{
    to->usage_amount = from->usage_amount;
    to->true_up = from->true_up;
    to->true_up_revision = from->true_up_revision;
    to->is_advance_charged = from->is_advance_charged;
    to->is_closed = from->is_closed;
}

static struct weir_price_running *same_price(struct weir_state *state, const struct weir_price_running *price)
{
    return weir_state_price(state, price->customer, price->contract, price->period_start, price->period_end,
                            price->price_book, price->price_book_version, price->price_key);
}

static const struct weir_entry loaded = {.is_loaded = true}, there = {.is_loaded = true, .exists = true};

static void load_rows(struct weir_state *stored, struct weir_state *state)
{
    struct weir_state_view all = weir_state_all(state);

    for (size_t i = 0; i < all.window_count; i++) {
        struct weir_rated_window *window = all.windows[i];
        const struct weir_rated_window *row = weir_state_window(stored, window->series_key, window->start, window->end);
        if (window->entry.is_loaded)
            continue;
        window->entry = row->entry.exists ? there : loaded;
        if (row->entry.exists)
            copy_window(state, window, row, false);
    }
    for (size_t i = 0; i < all.price_count; i++) {
        const struct weir_price_running *row = same_price(stored, all.prices[i]);
        if (all.prices[i]->entry.is_loaded)
            continue;
        copy_price(all.prices[i], row);
        all.prices[i]->entry = row->entry.exists ? there : loaded;
    }
    for (size_t i = 0; i < all.split_count; i++) {
        const struct weir_split_running *row =
            weir_state_split(stored, same_price(stored, all.splits[i]->price), all.splits[i]->series_key);
        if (all.splits[i]->entry.is_loaded)
            continue;
        all.splits[i]->total = row->total;
        all.splits[i]->entry = row->entry.exists ? there : loaded;
    }
    for (size_t i = 0; i < all.period_count; i++) {
        struct weir_period_running *period = all.periods[i];
        const struct weir_period_running *row =
            weir_state_period(stored, period->customer, period->contract, period->start, period->end);
        if (period->entry.is_loaded)
            continue;
        copy_period(period, row);
        period->entry = row->entry.exists ? there : loaded;
    }
}

static void keep_rows(struct weir_state *stored, struct weir_state *state)
{
    struct weir_state_view all = weir_state_all(state);

    for (size_t i = 0; i < all.window_count; i++) {
        struct weir_rated_window *window = all.windows[i];
        if (!window->entry.is_dirty)
            continue;
        struct weir_rated_window *row = weir_state_window(stored, window->series_key, window->start, window->end);
        copy_window(stored, row, window, true);
        row->entry = window->entry = there;
        for (uint32_t j = 0; j < window->lane_count; j++)
            window->lanes[j].is_dirty = false;
    }
    for (size_t i = 0; i < all.price_count; i++)
        if (all.prices[i]->entry.is_dirty) {
            struct weir_price_running *row = same_price(stored, all.prices[i]);
            copy_price(row, all.prices[i]);
            row->entry = all.prices[i]->entry = there;
        }
    for (size_t i = 0; i < all.split_count; i++)
        if (all.splits[i]->entry.is_dirty) {
            struct weir_split_running *row =
                weir_state_split(stored, same_price(stored, all.splits[i]->price), all.splits[i]->series_key);
            row->total = all.splits[i]->total;
            row->entry = all.splits[i]->entry = there;
        }
    for (size_t i = 0; i < all.period_count; i++)
        if (all.periods[i]->entry.is_dirty) {
            struct weir_period_running *period = all.periods[i];
            struct weir_period_running *row =
                weir_state_period(stored, period->customer, period->contract, period->start, period->end);
            copy_period(row, period);
            row->entry = period->entry = there;
        }
}

static bool is_of_split(const struct weir_rated_window *row, const struct weir_split_running *split)
{
    const struct weir_price_running *price = split->price;

    return row->entry.exists && row->unpriced == WEIR_UNPRICED_PRICED && row->period_start == price->period_start
           && row->price_book_version == price->price_book_version
           && weir_slice_equal(row->series_key, split->series_key) && weir_slice_equal(row->contract, price->contract)
           && weir_slice_equal(row->price_book, price->price_book)
           && weir_slice_equal(row->price_key, price->price_key);
}

/* The one share that decides, as PostgreSQL finds it. */
static bool decides(enum weir_aggregation aggregation, const struct weir_window_total *total,
                    const struct weir_window_total *rest)
{
    if (rest->events == 0)
        return true;
    if (aggregation == WEIR_AGGREGATION_LATEST)
        return total->latest_time != rest->latest_time       ? total->latest_time > rest->latest_time
               : total->latest_offset != rest->latest_offset ? total->latest_offset > rest->latest_offset
                                                             : total->value.e12 > rest->value.e12;
    return aggregation == WEIR_AGGREGATION_MAX ? total->value.e12 > rest->value.e12
                                               : total->value.e12 < rest->value.e12;
}

static void find_rest(struct weir_state *stored, struct weir_state *state, struct weir_split_running *split)
{
    struct weir_state_view rows = weir_state_all(stored), all = weir_state_all(state);

    for (size_t i = 0; i < rows.window_count; i++) {
        const struct weir_rated_window *row = rows.windows[i];
        bool is_own = !is_of_split(row, split);
        for (size_t j = 0; j < all.window_count && !is_own; j++)
            is_own =
                all.windows[j]->start == row->start && weir_slice_equal(all.windows[j]->series_key, row->series_key);
        for (uint32_t j = 0; j < row->lane_count && !is_own; j++)
            if (row->lanes[j].total.events > 0 && decides(split->aggregation, &row->lanes[j].total, &split->rest))
                split->rest = row->lanes[j].total;
    }
}

/* 2. line items */
static void put_name(char *to, size_t room, struct weir_slice from)
{
    weir_check(from.length < room);
    if (from.length)
        memcpy(to, from.data, from.length);
    to[from.length] = '\0';
}

static bool same_sum(const struct sum *a, const struct sum *b)
{
    return strcmp(a->customer, b->customer) == 0 && strcmp(a->contract, b->contract) == 0
           && strcmp(a->item, b->item) == 0 && a->kind == b->kind && a->component == b->component && a->tier == b->tier
           && a->period_start == b->period_start;
}

static void add_item(struct books *books, const struct weir_line_item *item)
{
    struct sum probe = {
        .kind = item->kind, .component = item->component, .tier = item->tier, .period_start = item->period_start};
    size_t i = 0;

    put_name(probe.customer, sizeof probe.customer, item->customer);
    put_name(probe.contract, sizeof probe.contract, item->contract);
    put_name(probe.item, sizeof probe.item, item->item);
    while (i < books->sum_count && !same_sum(&books->sums[i], &probe))
        i++;
    weir_check(i < SUMS_MAX);
    if (i == books->sum_count)
        books->sums[books->sum_count++] = probe;
    weir_check(weir_decimal_add(books->sums[i].quantity, item->quantity, &books->sums[i].quantity));
    weir_check(weir_decimal_add(books->sums[i].amount, item->amount, &books->sums[i].amount));
}

/* All amounts of these; item empty: of any. */
static weir_int128 added_up(const struct books *books, struct weir_slice customer, struct weir_slice contract,
                            int64_t period_start, enum weir_kind kind, struct weir_slice item)
{
    weir_int128 amount = 0;

    for (size_t i = 0; i < books->sum_count; i++) {
        const struct sum *sum = &books->sums[i];
        if (sum->kind == kind && sum->period_start == period_start
            && weir_slice_equal(customer, weir_slice_text(sum->customer))
            && weir_slice_equal(contract, weir_slice_text(sum->contract))
            && (item.length == 0 || weir_slice_equal(item, weir_slice_text(sum->item))))
            amount += sum->amount.e12;
    }
    return amount;
}

/* What was charged of single items, as PostgreSQL adds it up. */
static void load_charged(const struct books *books, struct weir_state *state)
{
    struct weir_state_view all = weir_state_all(state);

    for (size_t i = 0; i < all.charged_count; i++) {
        struct weir_charged_item *charged = all.charged[i];
        for (size_t j = 0; j < books->sum_count && !charged->entry.is_loaded; j++) {
            const struct sum *sum = &books->sums[j];
            if (sum->kind == WEIR_KIND_USAGE || sum->period_start != charged->period_start
                || !weir_slice_equal(charged->customer, weir_slice_text(sum->customer))
                || !weir_slice_equal(charged->contract, weir_slice_text(sum->contract))
                || !weir_slice_equal(charged->item, weir_slice_text(sum->item)))
                continue;
            weir_check(weir_decimal_add(charged->quantity, sum->quantity, &charged->quantity));
            weir_check(weir_decimal_add(charged->amount, sum->amount, &charged->amount));
            charged->revision = 1;
        }
        charged->entry.is_loaded = true;
    }
}

/* The line items of a price add up to price(total), those of a period to what the period says. After each commit. */
static void check_sums(struct books *books)
{
    struct weir_state_view all = weir_state_all(books->state);
    const struct weir_price_book_version *version = &run.catalog->books[0].versions[0];

    for (size_t i = 0; i < all.price_count; i++) {
        const struct weir_price_running *running = all.prices[i];
        struct weir_decimal total;
        uint32_t p = 0;
        if (!running->entry.exists)
            continue;
        while (!weir_slice_equal(version->prices[p].key, running->price_key))
            p++;
        weir_check(weir_price_total(&version->prices[p], running->quantity, running->events, &total));
        weir_int128 billed = added_up(books, running->customer, running->contract, running->period_start,
                                      WEIR_KIND_USAGE, running->price_key);
        if (billed != total.e12 || running->amount.e12 != total.e12)
            run_fails(
                "%.*s, %.*s: line items add up to %lld, the total says %lld, the price of it is %lld (millionths)",
                (int)running->customer.length, running->customer.data, (int)running->price_key.length,
                running->price_key.data, (long long)(billed / 1000000), (long long)(running->amount.e12 / 1000000),
                (long long)(total.e12 / 1000000));
    }
    for (size_t i = 0; i < all.period_count; i++) {
        const struct weir_period_running *period = all.periods[i];
        const struct weir_slice any = {0};
        if (period->entry.exists
            && (added_up(books, period->customer, period->contract, period->start, WEIR_KIND_USAGE, any)
                    != period->usage_amount.e12
                || added_up(books, period->customer, period->contract, period->start, WEIR_KIND_TRUE_UP, any)
                       != period->true_up.e12))
            run_fails("a period of %.*s: its line items do not add up to what it says", (int)period->customer.length,
                      period->customer.data);
    }
}

/* 3. locks */
static struct lock *lock_of(struct books *books, struct weir_slice customer)
{
    for (size_t i = 0; i < books->lock_count; i++)
        if (weir_slice_equal(customer, weir_slice_text(books->locks[i].customer)))
            return &books->locks[i];
    weir_check(books->lock_count < LOCKS_MAX);
    struct lock *lock = &books->locks[books->lock_count++];
    put_name(lock->customer, sizeof lock->customer, customer);
    return lock;
}

static bool is_free(void *context)
{
    return !((struct lock *)context)->holder;
}

static bool take_lock(struct handle *handle, struct weir_slice customer)
{
    struct lock *lock = lock_of(handle->books, customer);

    if (lock->holder && lock->holder != handle)
        trace("waits for the lock of %s", lock->customer);
    /* The holder may be stopped for long, and that is waited for; a circle is broken after a while, as PostgreSQL does.
     */
    for (int tries = 0; lock->holder != handle && lock->holder && tries < 20 && !handle->process->is_dead; tries++)
        wait_for(is_free, lock, DEADLOCK_AFTER * WEIR_SECOND);
    if (lock->holder && lock->holder != handle)
        return false;
    lock->holder = handle;
    return true;
}

/* In one order, so that raters wait in a line: customers are numbered here. */
static bool take_locks(struct handle *handle, struct weir_state *state)
{
    struct weir_state_view all = weir_state_all(state);
    struct weir_series series;

    for (unsigned c = 0; c < run.shape.customers; c++) {
        char name[32];
        bool is_wanted = false;
        snprintf(name, sizeof name, "customer-%u", c);
        for (size_t i = 0; i < all.window_count; i++)
            is_wanted |= !all.windows[i]->entry.is_loaded && weir_series_parse(all.windows[i]->series_key, &series)
                         && weir_slice_equal(series.customer, weir_slice_text(name));
        for (size_t i = 0; i < all.period_count; i++)
            is_wanted |=
                !all.periods[i]->entry.is_loaded && weir_slice_equal(all.periods[i]->customer, weir_slice_text(name));
        if (is_wanted && !take_lock(handle, weir_slice_text(name)))
            return false;
    }
    return true;
}

static void end_transaction(struct handle *handle)
{
    for (size_t i = 0; i < handle->books->lock_count; i++)
        if (handle->books->locks[i].holder == handle)
            handle->books->locks[i].holder = NULL;
    handle->is_open = false;
}

void release_locks(const struct process *process)
{
    for (size_t i = 0; run_books && i < run_books->lock_count; i++)
        if (run_books->locks[i].holder && run_books->locks[i].holder->process == process)
            run_books->locks[i].holder = NULL;
}

/* 4. the interface */
static enum weir_status load(struct weir_ledger *self, struct weir_state *state, struct weir_error *reterr)
{
    struct handle *handle = (struct handle *)self;
    enum fault fault = handle->is_safe ? FAULT_NONE
                                       : meet_fault(FAULT_BIT(FAULT_REFUSED) | FAULT_BIT(FAULT_DEAD_BEFORE)
                                                        | FAULT_BIT(FAULT_DEAD_AFTER) | FAULT_BIT(FAULT_STALL),
                                                    "loading from the ledger");

    if (fault == FAULT_DEAD_BEFORE)
        return dead(reterr);
    if (fault == FAULT_REFUSED || (!handle->is_safe && !take_locks(handle, state))) {
        end_transaction(handle);
        return weir_fail(reterr, WEIR_RETRY, "the ledger broke the transaction off");
    }
    handle->is_open = true;
    if (!handle->is_safe)
        load_held(state);
    load_rows(handle->books->state, state);
    load_charged(handle->books, state);
    return lose_answer(fault, reterr);
}

static enum weir_status commit(struct weir_ledger *self, const struct weir_line_item *items, size_t count,
                               struct weir_state *state, struct weir_error *reterr)
{
    struct handle *handle = (struct handle *)self;
    enum fault fault = handle->is_safe ? FAULT_NONE : meet_fault(FAULTS_ANY, "committing");

    if (fault == FAULT_DEAD_BEFORE)
        return dead(reterr);
    weir_check(handle->is_open);
    if (fault == FAULT_REFUSED) {
        end_transaction(handle);
        return weir_fail(reterr, WEIR_RETRY, "the ledger cannot be reached");
    }
    if (!handle->is_safe)
        check_commit(handle->books->state, state);
    for (size_t i = 0; i < count; i++)
        add_item(handle->books, &items[i]);
    keep_rows(handle->books->state, state);
    if (!handle->is_safe)
        keep_held(state);
    check_sums(handle->books);
    end_transaction(handle);
    if (!handle->is_safe) {
        trace("committed %zu line items", count);
        run.commits++;
    }
    return lose_answer(fault, reterr);
}

static enum weir_status load_rest(struct weir_ledger *self, struct weir_state *state, struct weir_error *reterr)
{
    struct handle *handle = (struct handle *)self;
    struct weir_state_view all = weir_state_all(state);
    enum fault fault =
        handle->is_safe ? FAULT_NONE
                        : meet_fault(FAULT_BIT(FAULT_REFUSED) | FAULT_BIT(FAULT_DEAD_BEFORE), "loading a split's rest");

    if (fault == FAULT_DEAD_BEFORE)
        return dead(reterr);
    if (fault == FAULT_REFUSED) {
        end_transaction(handle);
        return weir_fail(reterr, WEIR_RETRY, "the ledger broke the transaction off");
    }
    for (size_t i = 0; i < all.split_count; i++)
        if (all.splits[i]->wants_rest)
            find_rest(handle->books->state, state, all.splits[i]);
    return WEIR_OK;
}

static void abandon(struct weir_ledger *self)
{
    end_transaction((struct handle *)self);
}

static enum weir_status unsettled(struct weir_ledger *self, int64_t before, int64_t span_start, size_t max,
                                  struct weir_period_running *ret_periods, size_t *ret_count, struct weir_error *reterr)
{
    struct handle *handle = (struct handle *)self;
    struct weir_state_view all = weir_state_all(handle->books->state);

    (void)reterr;
    *ret_count = 0;
    for (size_t i = 0; i < all.period_count && *ret_count < max; i++) {
        const struct weir_period_running *period = all.periods[i];
        bool is_unsettled = !period->is_advance_charged || (!period->is_closed && period->end <= before);
        if (period->contract.length)
            is_unsettled = !period->is_advance_charged && !period->is_closed && period->end <= span_start;
        if (period->entry.exists && is_unsettled)
            ret_periods[(*ret_count)++] = *period;
    }
    return WEIR_OK;
}

static enum weir_status finish(struct weir_ledger *self, struct weir_error *reterr)
{
    (void)self, (void)reterr;
    return WEIR_OK;
}

static void ledger_free(struct weir_ledger *self)
{
    end_transaction((struct handle *)self);
    free(self);
}

struct weir_ledger *ledger_handle(struct books *books, bool is_safe)
{
    static const struct weir_ledger_ops ops = {.name = "simulated",
                                               .keeps_state = true,
                                               .load = load,
                                               .write = commit,
                                               .abandon = abandon,
                                               .unsettled = unsettled,
                                               .finish = finish,
                                               .free = ledger_free,
                                               .load_rest = load_rest};
    struct handle *handle = weir_new(sizeof *handle);

    handle->ledger.ops = &ops;
    handle->books = books;
    handle->process = this_process();
    handle->is_safe = is_safe;
    return &handle->ledger;
}

/* 5. two ledgers */
void visit_rated(const struct books *books,
                 void (*visit)(void *context, const struct weir_rated_window *window,
                               const struct weir_rated_lane *share),
                 void *context)
{
    struct weir_state_view all = weir_state_all(books->state);

    for (size_t i = 0; i < all.window_count; i++)
        for (uint32_t j = 0; j < all.windows[i]->lane_count; j++)
            if (all.windows[i]->entry.exists && all.windows[i]->lanes[j].revision > 0)
                visit(context, all.windows[i], &all.windows[i]->lanes[j]);
}

struct wanted {
    struct weir_slice lane, series;
    int64_t start;
    const struct weir_window_total *found;
};

static void find_rated(void *context, const struct weir_rated_window *window, const struct weir_rated_lane *share)
{
    struct wanted *wanted = context;

    if (window->start == wanted->start && weir_slice_equal(window->series_key, wanted->series)
        && weir_slice_equal(share->lane, wanted->lane))
        wanted->found = &share->total;
}

const struct weir_window_total *rated_total(const struct books *books, unsigned partition, struct weir_slice series,
                                            int64_t start)
{
    struct wanted wanted = {weir_slice_text(run.partitions[partition].name), series, start, NULL};

    visit_rated(books, find_rated, &wanted);
    return wanted.found;
}

static void compare_windows(const struct books *found, const struct books *expected, const char *wrong)
{
    struct weir_state_view all = weir_state_all(expected->state);

    for (size_t i = 0; i < all.window_count; i++) {
        const struct weir_rated_window *window = all.windows[i];
        if (!window->entry.exists)
            continue;
        struct weir_rated_window *other =
            weir_state_window(found->state, window->series_key, window->start, window->end);
        for (uint32_t j = 0; j < window->lane_count; j++) {
            const struct weir_window_total *a = &window->lanes[j].total;
            const struct weir_window_total *b =
                &weir_rated_window_lane(found->state, other, window->lanes[j].lane)->total;
            if (!other->entry.exists || !same_total(a, b))
                run_fails("%s: a window of %.*s, meter %.*s, with %llu events where the other has %llu", wrong,
                          (int)window->lanes[j].lane.length, window->lanes[j].lane.data,
                          (int)window->series_key.data[0], window->series_key.data + 2, (unsigned long long)a->events,
                          (unsigned long long)b->events);
        }
    }
}

static void compare_sums(const struct books *found, const struct books *expected, const char *wrong)
{
    for (size_t i = 0; i < expected->sum_count; i++) {
        const struct sum *sum = &expected->sums[i];
        size_t j = 0;
        while (j < found->sum_count && !same_sum(&found->sums[j], sum))
            j++;
        struct weir_decimal zero = {0};
        struct weir_decimal quantity = j < found->sum_count ? found->sums[j].quantity : zero;
        struct weir_decimal amount = j < found->sum_count ? found->sums[j].amount : zero;
        if (quantity.e12 != sum->quantity.e12 || amount.e12 != sum->amount.e12)
            run_fails("%s: %s, %s, %s, %s tier %u: %lld of amount, the other %lld (millionths)", wrong, sum->customer,
                      sum->item, weir_kind_name[sum->kind], weir_component_name[sum->component], sum->tier,
                      (long long)(sum->amount.e12 / 1000000), (long long)(amount.e12 / 1000000));
    }
}

static void compare_periods(const struct books *found, const struct books *expected, const char *wrong)
{
    struct weir_state_view all = weir_state_all(expected->state);

    for (size_t i = 0; i < all.period_count; i++) {
        const struct weir_period_running *a = all.periods[i];
        if (!a->entry.exists)
            continue;
        const struct weir_period_running *b =
            weir_state_period(found->state, a->customer, a->contract, a->start, a->end);
        if (!b->entry.exists || a->usage_amount.e12 != b->usage_amount.e12 || a->true_up.e12 != b->true_up.e12
            || a->is_advance_charged != b->is_advance_charged || a->is_closed != b->is_closed)
            run_fails("%s: a billing period of %.*s is not as in the other", wrong, (int)a->customer.length,
                      a->customer.data);
    }
}

void compare_books(const struct books *found, const struct books *expected)
{
    compare_windows(found, expected, "missing in the ledger");
    compare_windows(expected, found, "too much in the ledger");
    compare_sums(found, expected, "missing in the ledger");
    compare_sums(expected, found, "too much in the ledger");
    compare_periods(found, expected, "missing in the ledger");
    compare_periods(expected, found, "too much in the ledger");
}
