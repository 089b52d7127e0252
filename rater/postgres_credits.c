/* Prepaid amounts and minimum quantities in PostgreSQL: what changed is written with its line items, the entries of
 * balances among them. */
#include <stdlib.h>
#include <string.h>

#include "rater/postgres_rows.h"

/* 1. running totals */

/* One statement: columns as arrays, a row each, put where it belongs. */
struct statement {
    struct weir_postgres_ledger *ledger;
    const char *sql, *doing;
    int columns;
    size_t rows;
};

static void begin(struct statement *statement, const enum weir_postgres_type *types)
{
    for (int c = 0; c < statement->columns; c++)
        weir_array_begin(&statement->ledger->columns[c], types[c]);
}

static enum weir_status run(struct statement *statement, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    if (statement->rows == 0)
        return WEIR_OK;
    for (int c = 0; c < statement->columns; c++) {
        weir_array_end(&statement->ledger->columns[c], statement->rows);
        weir_parameters_add(&parameters, statement->ledger->columns[c].data, statement->ledger->columns[c].length);
    }
    enum weir_status status = weir_postgres_ask(statement->ledger->connection, statement->sql, &parameters,
                                                statement->doing, &result, reterr);
    PQclear(result);
    return status;
}

static enum weir_status write_segments(struct weir_postgres_ledger *ledger, const struct weir_state_view *all,
                                       struct weir_error *reterr)
{
    static const enum weir_postgres_type types[] = {
        WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT, WEIR_PG_INT4,
        WEIR_PG_UUID, WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ, WEIR_PG_NUMERIC,     WEIR_PG_INT8};
    struct statement statement = {
        .ledger = ledger,
        .sql =
            "INSERT INTO weir.segment_totals (customer, contract, period_start, period_end, price_book,"
            " price_book_version, price_id, price_key, segment_start, quantity, events)"
            " SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[],"
            " $6::int[], $7::uuid[], $8::text[], $9::timestamptz[], $10::numeric[], $11::bigint[])"
            " ON CONFLICT (customer, contract, period_start, price_book, price_book_version, price_id, segment_start)"
            " DO UPDATE SET quantity = excluded.quantity, events = excluded.events",
        .doing = "writing segments' totals",
        .columns = sizeof types / sizeof *types,
    };
    struct weir_buffer *to = ledger->columns;

    begin(&statement, types);
    for (size_t i = 0; i < all->segment_count; i++) {
        const struct weir_segment_running *segment = all->segments[i];
        if (!segment->entry.is_dirty)
            continue;
        struct weir_row_id id = weir_row_id(ledger, segment->price->price_key);
        weir_check(segment->events <= INT64_MAX);
        weir_put_text(&to[0], segment->price->customer);
        weir_put_text(&to[1], segment->price->contract);
        weir_put_time(&to[2], segment->price->period_start);
        weir_put_time(&to[3], segment->price->period_end);
        weir_put_text(&to[4], segment->price->price_book);
        weir_put_int4(&to[5], (int32_t)segment->price->price_book_version);
        weir_put_uuid(&to[6], id.bytes);
        weir_put_text(&to[7], segment->price->price_key);
        weir_put_time(&to[8], segment->start);
        weir_put_decimal(&to[9], segment->quantity);
        weir_put_int8(&to[10], (int64_t)segment->events);
        statement.rows++;
    }
    return run(&statement, reterr);
}

static enum weir_status write_commitments(struct weir_postgres_ledger *ledger, const struct weir_state_view *all,
                                          struct weir_error *reterr)
{
    static const enum weir_postgres_type types[] = {WEIR_PG_TEXT,        WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ,
                                                    WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT, WEIR_PG_NUMERIC,
                                                    WEIR_PG_NUMERIC,     WEIR_PG_INT4};
    struct statement statement = {
        .ledger = ledger,
        .sql = "INSERT INTO weir.commitment_totals (customer, contract, period_start, period_end, commitment, quantity,"
               " amount, revision)"
               " SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[],"
               " $6::numeric[], $7::numeric[], $8::int[])"
               " ON CONFLICT (customer, contract, period_start, commitment) DO UPDATE SET quantity = excluded.quantity,"
               " amount = excluded.amount, revision = excluded.revision",
        .doing = "writing commitments' totals",
        .columns = sizeof types / sizeof *types,
    };
    struct weir_buffer *to = ledger->columns;

    begin(&statement, types);
    for (size_t i = 0; i < all->commitment_count; i++) {
        const struct weir_commitment_running *commitment = all->commitments[i];
        if (!commitment->entry.is_dirty)
            continue;
        weir_put_text(&to[0], commitment->customer);
        weir_put_text(&to[1], commitment->contract);
        weir_put_time(&to[2], commitment->period_start);
        weir_put_time(&to[3], commitment->period_end);
        weir_put_text(&to[4], commitment->commitment);
        weir_put_decimal(&to[5], commitment->quantity);
        weir_put_decimal(&to[6], commitment->amount);
        weir_put_int4(&to[7], (int32_t)commitment->revision);
        statement.rows++;
    }
    return run(&statement, reterr);
}

static enum weir_status write_draws(struct weir_postgres_ledger *ledger, const struct weir_state_view *all,
                                    struct weir_error *reterr)
{
    static const enum weir_postgres_type types[] = {WEIR_PG_TEXT,        WEIR_PG_TEXT,        WEIR_PG_TIMESTAMPTZ,
                                                    WEIR_PG_TIMESTAMPTZ, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT,
                                                    WEIR_PG_TEXT,        WEIR_PG_NUMERIC,     WEIR_PG_INT4};
    struct statement statement = {
        .ledger = ledger,
        .sql = "INSERT INTO weir.draw_totals (customer, contract, period_start, period_end, segment_start, meter,"
               " grant_key, amount, revision)"
               " SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[],"
               " $6::text[], $7::text[], $8::numeric[], $9::int[])"
               " ON CONFLICT (customer, contract, period_start, segment_start, meter, grant_key)"
               " DO UPDATE SET amount = excluded.amount, revision = excluded.revision",
        .doing = "writing draws",
        .columns = sizeof types / sizeof *types,
    };
    struct weir_buffer *to = ledger->columns;

    begin(&statement, types);
    for (size_t i = 0; i < all->draw_count; i++) {
        const struct weir_draw_running *draw = all->draws[i];
        if (!draw->entry.is_dirty)
            continue;
        weir_put_text(&to[0], draw->customer);
        weir_put_text(&to[1], draw->contract);
        weir_put_time(&to[2], draw->period_start);
        weir_put_time(&to[3], draw->period_end);
        weir_put_time(&to[4], draw->segment_start);
        weir_put_text(&to[5], draw->meter);
        weir_put_text(&to[6], draw->grant);
        weir_put_decimal(&to[7], draw->amount);
        weir_put_int4(&to[8], (int32_t)draw->revision);
        statement.rows++;
    }
    return run(&statement, reterr);
}

/* 2. grants and the entries of their balances */
static enum weir_status write_grants(struct weir_postgres_ledger *ledger, const struct weir_state_view *all,
                                     struct weir_error *reterr)
{
    static const enum weir_postgres_type types[] = {
        WEIR_PG_TEXT,    WEIR_PG_TEXT, WEIR_PG_TEXT,        WEIR_PG_TEXT,        WEIR_PG_TEXT,
        WEIR_PG_NUMERIC, WEIR_PG_INT8, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT};
    struct statement statement = {
        .ledger = ledger,
        .sql = "INSERT INTO weir.grants (customer, contract, grant_key, currency, funding, price, priority, starts_at,"
               " expires_at, rolled_from)"
               " SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[],"
               " $7::bigint[], $8::timestamptz[], $9::timestamptz[], $10::text[])",
        .doing = "writing grants",
        .columns = sizeof types / sizeof *types,
    };
    struct weir_buffer *to = ledger->columns;

    begin(&statement, types);
    for (size_t i = 0; i < all->grant_count; i++) {
        const struct weir_grant_running *grant = all->grants[i];
        if (!grant->entry.is_dirty || grant->entry.exists)
            continue;
        const struct weir_commitment *commitment = grant->commitment;
        weir_put_text(&to[0], grant->customer);
        weir_put_text(&to[1], grant->contract);
        weir_put_text(&to[2], grant->key);
        weir_put_text(&to[3], grant->currency);
        weir_put_text(&to[4], weir_slice_text(weir_funding_name[commitment->funding]));
        weir_put_decimal(&to[5], commitment->price);
        weir_put_int8(&to[6], commitment->priority);
        weir_put_time(&to[7], grant->starts_at);
        weir_put_time(&to[8], grant->expires_at);
        if (grant->rolled_from.length)
            weir_put_text(&to[9], grant->rolled_from);
        else
            weir_put_null(&to[9]);
        statement.rows++;
    }
    return run(&statement, reterr);
}

static enum weir_status write_windows(struct weir_postgres_ledger *ledger, const struct weir_state_view *all,
                                      struct weir_error *reterr)
{
    static const enum weir_postgres_type types[] = {WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ,
                                                    WEIR_PG_TIMESTAMPTZ};
    struct statement statement = {
        .ledger = ledger,
        .sql = "INSERT INTO weir.grant_windows (customer, contract, grant_key, number, starts_at, expires_at)"
               " SELECT g.customer, g.contract, g.grant_key, 1 + (SELECT count(*) FROM weir.grant_windows AS w"
               " WHERE w.customer = g.customer AND w.contract = g.contract AND w.grant_key = g.grant_key), g.starts_at,"
               " g.expires_at FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])"
               " AS g(customer, contract, grant_key, starts_at, expires_at)",
        .doing = "writing access windows of grants",
        .columns = sizeof types / sizeof *types,
    };
    struct weir_buffer *to = ledger->columns;

    begin(&statement, types);
    for (size_t i = 0; i < all->grant_count; i++) {
        const struct weir_grant_running *grant = all->grants[i];
        if (!grant->entry.is_dirty || !grant->entry.exists || !weir_grant_has_moved(grant))
            continue;
        weir_put_text(&to[0], grant->customer);
        weir_put_text(&to[1], grant->contract);
        weir_put_text(&to[2], grant->key);
        weir_put_time(&to[3], grant->starts_at);
        weir_put_time(&to[4], grant->expires_at);
        statement.rows++;
    }
    return run(&statement, reterr);
}

/* An entry to be: what is put in first, so that no balance on the way is below 0. */
struct grant_entry {
    struct weir_grant_running *grant;
    const struct weir_draw_running *draw; /* NULL: it is of no usage */
    const char *kind;
    struct weir_decimal amount;
};

static int compare_entries(const void *left, const void *right)
{
    const struct grant_entry *a = left, *b = right;
    int order = weir_slice_compare(a->grant->customer, b->grant->customer);

    if (!order)
        order = weir_slice_compare(a->grant->contract, b->grant->contract);
    if (!order)
        order = weir_slice_compare(a->grant->key, b->grant->key);
    if (!order)
        order = -weir_decimal_compare(a->amount, b->amount);
    if (!order)
        order = (a->draw != NULL) - (b->draw != NULL);
    if (!order && !a->draw)
        order = strcmp(a->kind, b->kind);
    if (order || !a->draw)
        return order;
    order = (a->draw->segment_start > b->draw->segment_start) - (a->draw->segment_start < b->draw->segment_start);
    return order ? order : weir_slice_compare(a->draw->meter, b->draw->meter);
}

static struct grant_entry *list_entries(struct weir_state *state, const struct weir_state_view *all, size_t *ret_count)
{
    struct grant_entry *entries = weir_new_array(3 * all->grant_count + all->draw_count + 1, sizeof *entries);
    size_t count = 0;

    for (size_t i = 0; i < all->grant_count; i++) {
        struct weir_grant_running *grant = all->grants[i];
        const struct grant_entry own[] = {
            {grant, NULL, grant->rolled_from.length ? "rollover" : "grant", grant->change},
            {grant, NULL, "rollover", weir_decimal_negate(grant->rolled_change)},
            {grant, NULL, weir_grant_end_name[grant->end], weir_decimal_negate(grant->taken_change)},
        };
        for (size_t j = 0; j < sizeof own / sizeof *own && grant->entry.is_dirty; j++)
            if (!weir_decimal_is_zero(own[j].amount))
                entries[count++] = own[j];
    }
    for (size_t i = 0; i < all->draw_count; i++) {
        const struct weir_draw_running *draw = all->draws[i];
        if (draw->grant.length && !weir_decimal_is_zero(draw->change))
            entries[count++] =
                (struct grant_entry){weir_state_grant(state, draw->customer, draw->contract, draw->grant), draw,
                                     draw->change.e12 > 0 ? "drawdown" : "giveback", weir_decimal_negate(draw->change)};
    }
    if (count > 1)
        qsort(entries, count, sizeof *entries, compare_entries);
    *ret_count = count;
    return entries;
}

static void put_entry(struct weir_buffer *to, const struct grant_entry *entry)
{
    struct weir_grant_running *grant = entry->grant;

    weir_put_text(&to[0], grant->customer);
    weir_put_text(&to[1], grant->contract);
    weir_put_text(&to[2], grant->key);
    weir_put_int4(&to[3], (int32_t)++grant->number);
    weir_put_text(&to[4], weir_slice_text(entry->kind));
    weir_put_decimal(&to[5], entry->amount);
    weir_put_decimal(&to[6], grant->balance);
    grant->balance.e12 += entry->amount.e12; /* between 0 and what was granted */
    weir_put_decimal(&to[7], grant->balance);
    if (entry->draw) {
        weir_put_time(&to[8], entry->draw->period_start);
        weir_put_time(&to[9], entry->draw->segment_start);
        weir_put_text(&to[10], entry->draw->meter);
    } else {
        for (int c = 8; c <= 10; c++)
            weir_put_null(&to[c]);
    }
    if (!entry->draw && strcmp(entry->kind, weir_grant_end_name[WEIR_GRANT_END_REFUND]) == 0)
        weir_put_decimal(&to[11], grant->charged_change);
    else
        weir_put_null(&to[11]);
}

static enum weir_status write_entries(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                      const struct weir_state_view *all, struct weir_error *reterr)
{
    static const enum weir_postgres_type types[] = {
        WEIR_PG_TEXT,    WEIR_PG_TEXT,    WEIR_PG_TEXT,        WEIR_PG_INT4,        WEIR_PG_TEXT, WEIR_PG_NUMERIC,
        WEIR_PG_NUMERIC, WEIR_PG_NUMERIC, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT, WEIR_PG_NUMERIC};
    struct statement statement = {
        .ledger = ledger,
        .sql = "INSERT INTO weir.grant_entries (customer, contract, grant_key, number, previous, kind, amount,"
               " balance_before, balance_after, period_start, segment_start, meter, charged)"
               " SELECT customer, contract, grant_key, number, nullif(number - 1, 0), kind, amount, balance_before,"
               " balance_after, period_start, segment_start, meter, charged"
               " FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::numeric[], $7::numeric[],"
               " $8::numeric[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::numeric[])"
               " AS e(customer, contract, grant_key,"
               " number, kind, amount, balance_before, balance_after, period_start, segment_start, meter, charged)",
        .doing = "writing the entries of balances",
        .columns = sizeof types / sizeof *types,
    };
    struct grant_entry *entries = list_entries(state, all, &statement.rows);

    begin(&statement, types);
    for (size_t i = 0; i < statement.rows; i++)
        put_entry(ledger->columns, &entries[i]);
    free(entries);
    return run(&statement, reterr);
}

enum weir_status weir_postgres_write_accounts(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                              struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(state);

    if (all.account_count == 0)
        return WEIR_OK;
    enum weir_status status = write_segments(ledger, &all, reterr);
    if (status == WEIR_OK)
        status = write_commitments(ledger, &all, reterr);
    if (status == WEIR_OK)
        status = write_draws(ledger, &all, reterr);
    if (status == WEIR_OK)
        status = write_grants(ledger, &all, reterr);
    if (status == WEIR_OK)
        status = write_windows(ledger, &all, reterr);
    return status == WEIR_OK ? write_entries(ledger, state, &all, reterr) : status;
}
