/* Windows that an open gap holds back, in PostgreSQL: which gaps are open, and which were released, is read in the
 * transaction that would rate, so nothing that rates can pass a hold or a word by. Rows of weir.held_windows are
 * written by whoever has the customer's lock.
 */
#include <stdlib.h>

#include "rater/postgres_rows.h"

/* 1. loading */

/* A lane's rows: its open gaps, its last one that was released, and one of nulls when any of its windows is held or
 * refused. */
static const char lanes_sql[] =
    "WITH k AS (SELECT lane, n FROM unnest($1::text[]) WITH ORDINALITY AS k(lane, n))"
    " SELECT k.n, g.time_from, g.time_to, NULL FROM k JOIN weir.open_gaps AS g ON g.lane = k.lane"
    " UNION ALL SELECT k.n, NULL, NULL, max(g.gap) FROM k JOIN weir.lane_gaps AS g ON g.lane = k.lane"
    " JOIN weir.gap_releases AS r ON r.gap = g.gap GROUP BY k.n"
    " UNION ALL SELECT k.n, NULL, NULL, NULL FROM k"
    " WHERE EXISTS (SELECT FROM weir.held_windows AS h WHERE h.lane = k.lane)";

static void add_span(struct weir_state *state, struct weir_held_lane *lane, int64_t from, int64_t to)
{
    struct weir_held_span *spans = weir_state_take(state, (lane->span_count + 1) * sizeof *spans);

    if (lane->span_count)
        memcpy(spans, lane->spans, lane->span_count * sizeof *spans);
    spans[lane->span_count++] = (struct weir_held_span){from, to};
    lane->spans = spans;
}

/* *ret_any: some window of these lanes is held. */
static enum weir_status load_lanes(struct weir_postgres_ledger *ledger, struct weir_state *state, bool *ret_any,
                                   struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(state);
    struct weir_parameters parameters = {0};
    PGresult *rows = NULL;
    size_t first = 0;

    *ret_any = false;
    while (first < all.lane_count && all.lanes[first]->entry.is_loaded)
        *ret_any = *ret_any || all.lanes[first++]->has_held;
    if (first == all.lane_count)
        return WEIR_OK;
    weir_array_begin(&ledger->columns[0], WEIR_PG_TEXT);
    for (size_t i = first; i < all.lane_count; i++)
        weir_put_text(&ledger->columns[0], all.lanes[i]->lane);
    weir_array_end(&ledger->columns[0], all.lane_count - first);
    weir_parameters_add(&parameters, ledger->columns[0].data, ledger->columns[0].length);
    enum weir_status status =
        weir_postgres_ask(ledger->connection, lanes_sql, &parameters, "loading open gaps", &rows, reterr);
    for (int i = 0; status == WEIR_OK && i < PQntuples(rows); i++) {
        struct weir_held_lane *lane = all.lanes[first + (size_t)weir_get_int8(PQgetvalue(rows, i, 0)) - 1];
        if (!PQgetisnull(rows, i, 3))
            lane->released = ledger->rehearsed ? 0 : weir_get_int8(PQgetvalue(rows, i, 3)); /* which writes nothing */
        else if (PQgetisnull(rows, i, 1))
            *ret_any = lane->has_held = true;
        else
            add_span(state, lane, weir_get_time(PQgetvalue(rows, i, 1)), weir_get_time(PQgetvalue(rows, i, 2)));
    }
    PQclear(rows);
    return status;
}

/* The last word on the gaps that it was held by, which is read here, where it counts: a rater that saw the gap open may
 * write its row after the word. A word on the way to being kept with a window that cannot be rated is the row's. */
static const char held_sql[] =
    "SELECT k.n, h.lane, h.total, h.held_number, h.may_lower OR (h.refused IS NULL AND coalesce("
    "(SELECT r.lowers FROM weir.lane_gaps AS g JOIN weir.gap_releases AS r ON r.gap = g.gap WHERE g.lane = h.lane"
    " AND g.time_from < h.window_end AND g.time_to > h.window_start ORDER BY r.released_at DESC, r.gap DESC LIMIT 1),"
    " false)), h.refused IS NOT NULL"
    " FROM unnest($1::text[], $2::timestamptz[], $3::uuid[]) WITH ORDINALITY AS k(customer, start, series, n)"
    " JOIN weir.held_windows AS h ON h.customer = k.customer AND h.window_start = k.start AND h.series = k.series";

static enum weir_status take_held(struct weir_state *state, const PGresult *rows, size_t first,
                                  struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(state);

    for (int i = 0; i < PQntuples(rows); i++) {
        struct weir_rated_window *window = all.windows[first + (size_t)weir_get_int8(PQgetvalue(rows, i, 0)) - 1];
        struct weir_rated_lane *share = weir_rated_window_lane(state, window, weir_postgres_field(rows, i, 1));
        if (PQgetlength(rows, i, 2) != WEIR_WINDOW_TOTAL_BYTES)
            return weir_fail(reterr, WEIR_FATAL,
                             "PostgreSQL, weir.held_windows: a total that weir never wrote; restore the tables of "
                             "schema weir as they were");
        share->held = weir_window_total_load((const unsigned char *)PQgetvalue(rows, i, 2));
        share->held_number = (uint64_t)weir_get_int8(PQgetvalue(rows, i, 3));
        share->may_lower = *PQgetvalue(rows, i, 4);
        share->is_refused = *PQgetvalue(rows, i, 5);
    }
    return WEIR_OK;
}

enum weir_status weir_postgres_load_held(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                         struct weir_error *reterr)
{
    static const enum weir_postgres_type types[] = {WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ, WEIR_PG_UUID};
    enum { KEYS = sizeof types / sizeof *types };
    struct weir_state_view all = weir_state_all(state);
    struct weir_parameters parameters = {0};
    PGresult *rows = NULL;
    size_t first = 0;
    bool any;
    enum weir_status status = load_lanes(ledger, state, &any, reterr);

    while (first < all.window_count && all.windows[first]->entry.is_loaded)
        first++;
    if (status != WEIR_OK || !any || first == all.window_count)
        return status;
    for (int i = 0; i < KEYS; i++)
        weir_array_begin(&ledger->columns[i], types[i]);
    for (size_t i = first; i < all.window_count; i++) {
        struct weir_series series;
        struct weir_row_id id = weir_row_id(ledger, all.windows[i]->series_key);
        weir_check(weir_series_parse(all.windows[i]->series_key, &series));
        weir_put_text(&ledger->columns[0], series.customer);
        weir_put_time(&ledger->columns[1], all.windows[i]->start);
        weir_put_uuid(&ledger->columns[2], id.bytes);
    }
    for (int i = 0; i < KEYS; i++) {
        weir_array_end(&ledger->columns[i], all.window_count - first);
        weir_parameters_add(&parameters, ledger->columns[i].data, ledger->columns[i].length);
    }
    status = weir_postgres_ask(ledger->connection, held_sql, &parameters, "loading held windows", &rows, reterr);
    if (status == WEIR_OK)
        status = take_held(state, rows, first, reterr);
    PQclear(rows);
    return status;
}

/* 2. writing */
static const enum weir_postgres_type held_types[] = {
    WEIR_PG_TEXT,  WEIR_PG_TIMESTAMPTZ, WEIR_PG_UUID,    WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT,
    WEIR_PG_JSONB, WEIR_PG_BYTEA,       WEIR_PG_BYTEA,   WEIR_PG_INT8, WEIR_PG_INT8,        WEIR_PG_NUMERIC,
    WEIR_PG_INT8,  WEIR_PG_INT8,        WEIR_PG_NUMERIC, WEIR_PG_BOOL, WEIR_PG_TEXT};
enum { HELD_COLUMNS = sizeof held_types / sizeof *held_types, HELD_KEYS = 4 };

/* refused null: a gap holds it. may_lower only keeps a word that was given before it was refused. */
static const char hold_sql[] =
    "INSERT INTO weir.held_windows AS h (customer, window_start, series, lane, window_end, meter, dimensions, "
    "series_key,"
    " total, events, retracted, value, rated_events, rated_retracted, rated_value, may_lower, refused, refused_at)"
    " SELECT *, CASE WHEN n.refused IS NOT NULL THEN now() END FROM unnest($1::text[], $2::timestamptz[], $3::uuid[],"
    " $4::text[], $5::timestamptz[], $6::text[], $7::jsonb[], $8::bytea[], $9::bytea[], $10::bigint[], $11::bigint[],"
    " $12::numeric[], $13::bigint[], $14::bigint[], $15::numeric[], $16::bool[], $17::text[]) AS n(a, b, c, d, e, f, "
    "g, i,"
    " j, k, l, m, o, p, q, r, refused) ON CONFLICT (customer, window_start, series, lane) DO UPDATE SET"
    " held_at = CASE WHEN h.total = excluded.total THEN h.held_at ELSE now() END, held_number = excluded.held_number,"
    " total = excluded.total, events = excluded.events, retracted = excluded.retracted, value = excluded.value,"
    " rated_events = excluded.rated_events, rated_retracted = excluded.rated_retracted,"
    " rated_value = excluded.rated_value, may_lower = excluded.may_lower, refused = excluded.refused,"
    " refused_at = excluded.refused_at";

static const char let_go_sql[] =
    "DELETE FROM weir.held_windows AS h USING unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::text[])"
    " AS k(customer, start, series, lane) WHERE h.customer = k.customer AND h.window_start = k.start"
    " AND h.series = k.series AND h.lane = k.lane";

static void put_key(struct weir_postgres_ledger *ledger, const struct weir_rated_window *window,
                    const struct weir_series *series, const struct weir_rated_lane *share)
{
    struct weir_row_id id = weir_row_id(ledger, window->series_key);

    weir_put_text(&ledger->columns[0], series->customer);
    weir_put_time(&ledger->columns[1], window->start);
    weir_put_uuid(&ledger->columns[2], id.bytes);
    weir_put_text(&ledger->columns[3], share->lane);
}

static void put_held(struct weir_postgres_ledger *ledger, const struct weir_rated_window *window,
                     const struct weir_series *series, const struct weir_rated_lane *share)
{
    unsigned char total[WEIR_WINDOW_TOTAL_BYTES];
    struct weir_buffer *to = &ledger->columns[HELD_KEYS];

    weir_window_total_store(&share->held, total);
    weir_check(share->held.events <= INT64_MAX && share->held.retracted <= INT64_MAX);
    weir_put_time(to++, window->end);
    weir_put_text(to++, series->meter);
    weir_put_jsonb(to++, weir_slice_of(ledger->json, weir_dimensions_json(series->dimensions, series->dimension_count,
                                                                          ledger->json)));
    weir_put_text(to++, window->series_key);
    weir_put_text(to++, weir_slice_of((const char *)total, sizeof total));
    weir_put_int8(to++, (int64_t)share->held.events);
    weir_put_int8(to++, (int64_t)share->held.retracted);
    weir_put_decimal(to++, share->held.value);
    if (share->revision > 0) {
        weir_put_int8(to++, (int64_t)share->total.events);
        weir_put_int8(to++, (int64_t)share->total.retracted);
        weir_put_decimal(to++, share->total.value);
    } else {
        weir_put_null(to++);
        weir_put_null(to++);
        weir_put_null(to++);
    }
    weir_put_bool(to++, share->refused.length > 0 && share->may_lower);
    if (share->refused.length)
        weir_put_text(to, share->refused);
    else
        weir_put_null(to);
}

static enum weir_status write_changes(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                      enum weir_held_change change, const char *sql, int columns, const char *doing,
                                      struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(state);
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;
    size_t count = 0;

    for (int i = 0; i < columns; i++)
        weir_array_begin(&ledger->columns[i], held_types[i]);
    for (size_t i = 0; i < all.window_count; i++)
        for (uint32_t j = 0; j < all.windows[i]->lane_count; j++) {
            const struct weir_rated_lane *share = &all.windows[i]->lanes[j];
            struct weir_series series;
            if (share->held_change != change)
                continue;
            weir_check(weir_series_parse(all.windows[i]->series_key, &series));
            put_key(ledger, all.windows[i], &series, share);
            if (columns > HELD_KEYS)
                put_held(ledger, all.windows[i], &series, share);
            count++;
        }
    if (count == 0)
        return WEIR_OK;
    for (int i = 0; i < columns; i++) {
        weir_array_end(&ledger->columns[i], count);
        weir_parameters_add(&parameters, ledger->columns[i].data, ledger->columns[i].length);
    }
    enum weir_status status = weir_postgres_ask(ledger->connection, sql, &parameters, doing, &result, reterr);
    PQclear(result);
    return status;
}

enum weir_status weir_postgres_write_held(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                          struct weir_error *reterr)
{
    enum weir_status status =
        write_changes(ledger, state, WEIR_HELD_HOLD, hold_sql, HELD_COLUMNS, "holding windows", reterr);
    return status == WEIR_OK ? write_changes(ledger, state, WEIR_HELD_LET_GO, let_go_sql, HELD_KEYS,
                                             "letting held windows go", reterr)
                             : status;
}

/* 3. periods */
static const enum weir_postgres_type refused_types[] = {WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ,
                                                        WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT};
enum { REFUSED_COLUMNS = sizeof refused_types / sizeof *refused_types, REFUSED_KEYS = 3 };

static const char refuse_sql[] =
    "INSERT INTO weir.refused_periods (customer, contract, period_start, period_end, refused)"
    " SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[])"
    " ON CONFLICT (customer, contract, period_start) DO UPDATE SET period_end = excluded.period_end,"
    " refused = excluded.refused, refused_at = now()";

static const char close_sql[] =
    "DELETE FROM weir.refused_periods AS r USING unnest($1::text[], $2::text[], $3::timestamptz[])"
    " AS k(customer, contract, start) WHERE r.customer = k.customer AND r.contract = k.contract"
    " AND r.period_start = k.start";

static enum weir_status write_periods(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                      enum weir_held_change change, const char *sql, int columns, const char *doing,
                                      struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(state);
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;
    size_t count = 0;

    for (int i = 0; i < columns; i++)
        weir_array_begin(&ledger->columns[i], refused_types[i]);
    for (size_t i = 0; i < all.period_count; i++) {
        const struct weir_period_running *period = all.periods[i];
        if (period->refused_change != change)
            continue;
        weir_put_text(&ledger->columns[0], period->customer);
        weir_put_text(&ledger->columns[1], period->contract);
        weir_put_time(&ledger->columns[2], period->start);
        if (columns > REFUSED_KEYS) {
            weir_put_time(&ledger->columns[3], period->end);
            weir_put_text(&ledger->columns[4], period->refused);
        }
        count++;
    }
    if (count == 0)
        return WEIR_OK;
    for (int i = 0; i < columns; i++) {
        weir_array_end(&ledger->columns[i], count);
        weir_parameters_add(&parameters, ledger->columns[i].data, ledger->columns[i].length);
    }
    enum weir_status status = weir_postgres_ask(ledger->connection, sql, &parameters, doing, &result, reterr);
    PQclear(result);
    return status;
}

enum weir_status weir_postgres_write_refused(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                             struct weir_error *reterr)
{
    enum weir_status status = write_periods(ledger, state, WEIR_HELD_HOLD, refuse_sql, REFUSED_COLUMNS,
                                            "noting periods that cannot be closed", reterr);
    return status == WEIR_OK ? write_periods(ledger, state, WEIR_HELD_LET_GO, close_sql, REFUSED_KEYS,
                                             "letting closed periods go", reterr)
                             : status;
}
