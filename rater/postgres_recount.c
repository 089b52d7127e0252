/* What shares of windows were before they were counted again: a row each in weir.recounted_windows, in the transaction
 * that charges the difference. */
#include "rater/postgres_rows.h"

static const enum weir_postgres_type types[] = {
    WEIR_PG_TEXT,  WEIR_PG_TIMESTAMPTZ, WEIR_PG_UUID,    WEIR_PG_TEXT,    WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT,
    WEIR_PG_JSONB, WEIR_PG_INT4,        WEIR_PG_INT8,    WEIR_PG_NUMERIC, WEIR_PG_INT8,        WEIR_PG_INT8,
    WEIR_PG_INT8,  WEIR_PG_INT8,        WEIR_PG_NUMERIC, WEIR_PG_INT8,
};
enum { COLUMNS = sizeof types / sizeof *types };

static const char sql[] =
    "INSERT INTO weir.recounted_windows (rerating, customer, window_start, series, lane, window_end, meter, dimensions,"
    " revision, events_before, value_before, latest_time_before, latest_offset_before, retracted_before, events, value,"
    " retracted) SELECT $17::bigint, k.* FROM unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::text[],"
    " $5::timestamptz[], $6::text[], $7::jsonb[], $8::int[], $9::bigint[], $10::numeric[], $11::bigint[],"
    " $12::bigint[], $13::bigint[], $14::bigint[], $15::numeric[], $16::bigint[]) AS k"
    " ON CONFLICT DO NOTHING"; /* what it was when the run came to it first */

static void put(struct weir_postgres_ledger *ledger, const struct weir_rated_window *window,
                const struct weir_rated_lane *share)
{
    struct weir_row_id id = weir_row_id(ledger, window->series_key);
    struct weir_buffer *to = ledger->columns;
    struct weir_series series;

    weir_check(weir_series_parse(window->series_key, &series));
    weir_put_text(to++, series.customer);
    weir_put_time(to++, window->start);
    weir_put_uuid(to++, id.bytes);
    weir_put_text(to++, share->lane);
    weir_put_time(to++, window->end);
    weir_put_text(to++, series.meter);
    weir_put_jsonb(to++, weir_slice_of(ledger->json,
                                       weir_dimensions_json(series.dimensions, series.dimension_count, ledger->json)));
    weir_put_int4(to++, (int32_t)share->revision);
    weir_put_int8(to++, (int64_t)share->replaced.events);
    weir_put_decimal(to++, share->replaced.value);
    weir_put_int8(to++, share->replaced.latest_time);
    weir_put_int8(to++, share->replaced.latest_offset);
    weir_put_int8(to++, (int64_t)share->replaced.retracted);
    weir_put_int8(to++, (int64_t)share->total.events);
    weir_put_decimal(to++, share->total.value);
    weir_put_int8(to, (int64_t)share->total.retracted);
}

enum weir_status weir_postgres_write_recounted(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                               struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(state);
    struct weir_parameters parameters = {0};
    struct weir_buffer run = {0};
    PGresult *result = NULL;
    size_t count = 0;

    for (int i = 0; i < COLUMNS; i++)
        weir_array_begin(&ledger->columns[i], types[i]);
    for (size_t i = 0; i < all.window_count; i++)
        for (uint32_t j = 0; j < all.windows[i]->lane_count; j++)
            if (all.windows[i]->lanes[j].is_replaced) {
                put(ledger, all.windows[i], &all.windows[i]->lanes[j]);
                count++;
            }
    if (count == 0)
        return WEIR_OK;
    for (int i = 0; i < COLUMNS; i++) {
        weir_array_end(&ledger->columns[i], count);
        weir_parameters_add(&parameters, ledger->columns[i].data, ledger->columns[i].length);
    }
    weir_put_int8(&run, ledger->run);
    weir_parameters_add(&parameters, run.data + 4, 8);
    enum weir_status status =
        weir_postgres_ask(ledger->connection, sql, &parameters, "noting recounted windows", &result, reterr);
    PQclear(result);
    weir_buffer_free(&run);
    return status;
}
