/* The ledger that finance reads: PostgreSQL. Loading begins a transaction and locks the customers, writing ends it;
 * what was there is fetched and what changed is written by sets, never row by row. */
#include <stdlib.h>
#include <string.h>

#include "common/calendar.h"
#include "rater/postgres_rows.h"

struct weir_row_id weir_row_id(struct weir_postgres_ledger *ledger, struct weir_slice key)
{
    struct weir_row_id id;
    weir_digest(ledger->digester, key, id.bytes);
    return id;
}

/* 1. connection and transaction */
static void forget_books(struct weir_postgres_ledger *ledger)
{
    ledger->book_count = 0;
    weir_arena_free(ledger->arena);
    ledger->arena = weir_arena_new();
}

/* The next connection may lead to a server that was promoted without the last transactions, or restored. */
static void disconnect(struct weir_postgres_ledger *ledger)
{
    PQfinish(ledger->connection);
    ledger->connection = NULL;
    ledger->in_transaction = false;
    ledger->partitions.count = 0;
    forget_books(ledger);
}

/* Batches of keys against large tables: index look-ups, always. A planner that has no statistics yet (a fresh table)
 * may otherwise read a whole table for each batch. */
static const char planner[] =
    "SET jit = off; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";

static enum weir_status connect_if_needed(struct weir_postgres_ledger *ledger, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    if (ledger->connection && PQstatus(ledger->connection) == CONNECTION_OK)
        return WEIR_OK;
    disconnect(ledger);
    ledger->connection = weir_postgres_open(ledger->url, "weir rater", &status, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_run(ledger->connection, planner, "setting the session up", reterr);
    if (status != WEIR_OK)
        disconnect(ledger);
    return status;
}

static void abandon(struct weir_ledger *self)
{
    struct weir_postgres_ledger *ledger = (struct weir_postgres_ledger *)self;

    if (!ledger->in_transaction)
        return;
    ledger->in_transaction = false;
    forget_books(ledger); /* those that were noted in it are not, and months whose partitions it made have none */
    ledger->partitions.count = 0;
    if (weir_postgres_run(ledger->connection, "ROLLBACK", "giving a transaction up", NULL) != WEIR_OK)
        disconnect(ledger);
}

/* 2. partitions */

/* Before the transaction begins, but for what is loaded later in it: two raters in need of one new month then wait for
 * an instant, not for each other's batch. A line item's period always has an entry, so every month that write will need
 * is known here. */
static enum weir_status make_partitions(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                        struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(state);
    enum weir_status status = WEIR_OK;

    for (size_t i = 0; i < all.period_count && status == WEIR_OK; i++) {
        int64_t start = all.periods[i]->start;
        if (!all.periods[i]->entry.is_loaded && !weir_partitions_have(&ledger->partitions, start))
            status = weir_partitions_make(&ledger->partitions, ledger->connection, start, reterr);
    }
    return status;
}

/* 3. the interface */
static void mark_loaded(struct weir_state *state)
{
    struct weir_state_view all = weir_state_all(state);

    for (size_t i = 0; i < all.window_count; i++)
        all.windows[i]->entry.is_loaded = true;
    for (size_t i = 0; i < all.price_count; i++)
        all.prices[i]->entry.is_loaded = true;
    for (size_t i = 0; i < all.split_count; i++)
        all.splits[i]->entry.is_loaded = true;
    for (size_t i = 0; i < all.period_count; i++)
        all.periods[i]->entry.is_loaded = true;
    for (size_t i = 0; i < all.lane_count; i++)
        all.lanes[i]->entry.is_loaded = true;
    for (size_t i = 0; i < all.charged_count; i++)
        all.charged[i]->entry.is_loaded = true;
    weir_postgres_mark_accounts_loaded(state);
}

static enum weir_status load(struct weir_ledger *self, struct weir_state *state, struct weir_error *reterr)
{
    struct weir_postgres_ledger *ledger = (struct weir_postgres_ledger *)self;
    enum weir_status status = WEIR_OK;

    if (!ledger->in_transaction)
        status = connect_if_needed(ledger, reterr);
    if (status == WEIR_OK && !ledger->rehearsed)
        status = make_partitions(ledger, state, reterr);
    /* Read committed: what is read after the customers' locks are held must be what their last holder committed. */
    if (status == WEIR_OK && !ledger->in_transaction) {
        status = weir_postgres_run(ledger->connection,
                                   ledger->rehearsed ? "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
                                                     : "BEGIN ISOLATION LEVEL READ COMMITTED",
                                   "beginning a transaction", reterr);
        ledger->in_transaction = status == WEIR_OK;
    }
    if (status == WEIR_OK)
        status = weir_postgres_lock_customers(ledger, state, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_load_accounts(ledger, state, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_load_state(ledger, state, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_load_held(ledger, state, reterr);
    if (status == WEIR_OK)
        mark_loaded(state);
    else
        abandon(self);
    return status;
}

static enum weir_status load_rest(struct weir_ledger *self, struct weir_state *state, struct weir_error *reterr)
{
    struct weir_postgres_ledger *ledger = (struct weir_postgres_ledger *)self;

    weir_check(ledger->in_transaction);
    enum weir_status status = weir_postgres_load_rest(ledger, state, reterr);
    if (status != WEIR_OK)
        abandon(self);
    return status;
}

static void mark_written(struct weir_state *state)
{
    struct weir_state_view all = weir_state_all(state);
    const struct weir_entry written = {.is_loaded = true, .exists = true};

    for (size_t i = 0; i < all.window_count; i++)
        if (all.windows[i]->entry.is_dirty) {
            all.windows[i]->entry = written;
            for (uint32_t j = 0; j < all.windows[i]->lane_count; j++)
                all.windows[i]->lanes[j].is_dirty = false;
        }
    for (size_t i = 0; i < all.price_count; i++)
        if (all.prices[i]->entry.is_dirty)
            all.prices[i]->entry = written;
    for (size_t i = 0; i < all.split_count; i++)
        if (all.splits[i]->entry.is_dirty)
            all.splits[i]->entry = written;
    for (size_t i = 0; i < all.period_count; i++)
        if (all.periods[i]->entry.is_dirty)
            all.periods[i]->entry = written;
}

static enum weir_status write_batch(struct weir_ledger *self, const struct weir_line_item *items, size_t count,
                                    struct weir_state *state, struct weir_error *reterr)
{
    struct weir_postgres_ledger *ledger = (struct weir_postgres_ledger *)self;

    weir_check(ledger->in_transaction);
    if (ledger->rehearsed) {
        enum weir_status rehearsed = ledger->rehearsed(ledger->rehearsal, ledger, items, count, state, reterr);
        abandon(self);
        return rehearsed;
    }
    enum weir_status status = weir_postgres_write_items(ledger, items, count, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_write_state(ledger, state, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_write_accounts(ledger, state, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_write_held(ledger, state, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_write_refused(ledger, state, reterr);
    if (status == WEIR_OK && ledger->run)
        status = weir_postgres_write_recounted(ledger, state, reterr);
    if (status == WEIR_OK) {
        status = weir_postgres_run(ledger->connection, "COMMIT", "committing", reterr);
        if (status == WEIR_OK)
            ledger->in_transaction = false;
    }
    if (status == WEIR_OK)
        mark_written(state);
    else
        abandon(self);
    return status;
}

static enum weir_status read_unsettled(struct weir_postgres_ledger *ledger, int64_t before, int64_t span_start,
                                       size_t max, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer bytes = {0};
    int64_t limit = before < INT64_MAX - WEIR_SECOND ? before - before % 1000 : WEIR_TIME_NEVER;

    weir_put_time(&bytes, limit);
    weir_put_int8(&bytes, (int64_t)max);
    weir_put_time(&bytes, span_start - span_start % 1000);
    for (int i = 0; i < 3; i++)
        weir_parameters_add(&parameters, bytes.data + 4 + 12 * i, 8);
    PQclear(ledger->unsettled);
    ledger->unsettled = NULL;
    enum weir_status status = weir_postgres_ask(
        ledger->connection,
        "WITH again AS (SELECT greatest(backend_start, now() - interval '1 minute') AS since FROM pg_stat_activity"
        " WHERE pid = pg_backend_pid())"
        " SELECT customer, period_start, period_end, usage_amount, true_up, true_up_revision, is_advance_charged,"
        " is_closed, ''"
        " FROM weir.billing_periods AS p WHERE contract = '' AND NOT (is_advance_charged AND is_closed)"
        " AND (NOT is_advance_charged OR period_end <= $1::timestamptz) AND NOT EXISTS (SELECT FROM"
        " weir.refused_periods AS r WHERE r.customer = p.customer AND r.contract = ''"
        " AND r.period_start = p.period_start)"
        " UNION ALL SELECT customer, period_start, period_end, usage_amount, true_up, true_up_revision, false, false,"
        " contract FROM weir.billing_periods AS p WHERE contract <> '' AND NOT is_advance_charged AND NOT is_closed"
        " AND period_end <= $3::timestamptz"
        " UNION ALL SELECT customer, period_start, period_end, 0, 0, 0, false, false, contract"
        " FROM weir.refused_periods AS r, again WHERE refused_at < again.since"
        " AND (period_end <= $1::timestamptz OR NOT EXISTS (SELECT FROM weir.billing_periods AS p WHERE"
        " p.customer = r.customer AND p.contract = r.contract AND p.period_start = r.period_start"
        " AND p.is_advance_charged)) ORDER BY 9, 3, 1 LIMIT $2::bigint",
        &parameters, "looking for periods to settle", &ledger->unsettled, reterr);
    weir_buffer_free(&bytes);
    return status;
}

static enum weir_status unsettled(struct weir_ledger *self, int64_t before, int64_t span_start, size_t max,
                                  struct weir_period_running *ret_periods, size_t *ret_count, struct weir_error *reterr)
{
    struct weir_postgres_ledger *ledger = (struct weir_postgres_ledger *)self;
    enum weir_status status = connect_if_needed(ledger, reterr);

    if (status == WEIR_OK)
        status = read_unsettled(ledger, before, span_start, max, reterr);
    if (status != WEIR_OK)
        return status;
    const PGresult *rows = ledger->unsettled;
    for (int i = 0; i < PQntuples(rows); i++) {
        struct weir_period_running *period = &ret_periods[i];
        *period = (struct weir_period_running){
            .entry = {.exists = true},
            .customer = weir_postgres_field(rows, i, 0),
            .start = weir_get_time(PQgetvalue(rows, i, 1)),
            .end = weir_get_time(PQgetvalue(rows, i, 2)),
            .contract = weir_postgres_field(rows, i, 8),
            .true_up_revision = (uint32_t)weir_get_int4(PQgetvalue(rows, i, 5)),
            .is_advance_charged = *PQgetvalue(rows, i, 6),
            .is_closed = *PQgetvalue(rows, i, 7),
        };
        if (!weir_get_decimal(PQgetvalue(rows, i, 3), (size_t)PQgetlength(rows, i, 3), &period->usage_amount)
            || !weir_get_decimal(PQgetvalue(rows, i, 4), (size_t)PQgetlength(rows, i, 4), &period->true_up))
            return weir_fail(reterr, WEIR_FATAL,
                             "weir.billing_periods, customer '%.*s': an amount that weir never wrote",
                             (int)period->customer.length, period->customer.data);
    }
    *ret_count = (size_t)PQntuples(rows);
    return WEIR_OK;
}

static enum weir_status expired(struct weir_ledger *self, int64_t from, int64_t through, struct weir_slice after,
                                size_t max, struct weir_slice *ret_customers, size_t *ret_count,
                                struct weir_error *reterr)
{
    struct weir_postgres_ledger *ledger = (struct weir_postgres_ledger *)self;
    enum weir_status status = connect_if_needed(ledger, reterr);

    if (status == WEIR_OK)
        status = weir_postgres_read_expired(ledger, from, through, after, max, reterr);
    *ret_count = status == WEIR_OK ? (size_t)PQntuples(ledger->expired) : 0;
    for (size_t i = 0; i < *ret_count; i++)
        ret_customers[i] = weir_postgres_field(ledger->expired, (int)i, 0);
    return status;
}

static enum weir_status finish(struct weir_ledger *self, struct weir_error *reterr)
{
    (void)self, (void)reterr; /* all is committed */
    return WEIR_OK;
}

static void free_ledger(struct weir_ledger *self)
{
    struct weir_postgres_ledger *ledger = (struct weir_postgres_ledger *)self;

    disconnect(ledger);
    PQclear(ledger->unsettled);
    PQclear(ledger->expired);
    for (int i = 0; i < WEIR_ROW_COLUMNS_MAX; i++)
        weir_buffer_free(&ledger->columns[i]);
    weir_buffer_free(&ledger->copy);
    weir_digester_free(ledger->digester);
    weir_arena_free(ledger->arena);
    free(ledger->customers);
    weir_partitions_free(&ledger->partitions);
    free(ledger->books);
    free(ledger->url);
    free(ledger);
}

enum weir_status weir_ledger_postgres_open(const char *url, struct weir_ledger **ret_ledger, struct weir_error *reterr)
{
    static const struct weir_ledger_ops ops = {
        .name = "postgres",
        .keeps_state = true,
        .load = load,
        .load_rest = load_rest,
        .write = write_batch,
        .abandon = abandon,
        .unsettled = unsettled,
        .finish = finish,
        .free = free_ledger,
        .list_prices = weir_postgres_list_prices,
        .list_windows = weir_postgres_list_windows,
        .add_order = weir_postgres_add_order,
        .expired = expired,
    };
    struct weir_postgres_ledger *ledger = weir_new(sizeof *ledger);

    ledger->ledger.ops = &ops;
    ledger->url = weir_copy_text(url, strlen(url));
    ledger->digester = weir_digester_new();
    ledger->arena = weir_arena_new();
    enum weir_status status = connect_if_needed(ledger, reterr);
    if (status == WEIR_OK)
        *ret_ledger = &ledger->ledger;
    else
        free_ledger(&ledger->ledger);
    return status;
}

void weir_ledger_postgres_write_for(struct weir_ledger *self, int64_t run)
{
    struct weir_postgres_ledger *ledger = (struct weir_postgres_ledger *)self;

    weir_check(!ledger->in_transaction);
    ledger->run = run;
}

void weir_postgres_ledger_rehearse(struct weir_ledger *self, weir_postgres_rehearsed *take, void *context)
{
    struct weir_postgres_ledger *ledger = (struct weir_postgres_ledger *)self;

    weir_check(!ledger->in_transaction);
    ledger->rehearsed = take;
    ledger->rehearsal = context;
}
