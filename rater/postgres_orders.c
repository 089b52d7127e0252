/* Orders of grants in PostgreSQL: their rows, and what an order looks up of a customer: the prices and windows of
 * billing periods that it cuts; and whose grants have expired. */
#include "rater/postgres_rows.h"

/* Parameters that are no texts: fields as they stand in arrays, whose bytes follow a length. */
static void add_field(struct weir_parameters *parameters, const struct weir_buffer *buffer, size_t at)
{
    weir_parameters_add(parameters, buffer->data + at + 4, buffer->length - at - 4);
}

static enum weir_status ask(struct weir_postgres_ledger *ledger, const char *sql,
                            const struct weir_parameters *parameters, const char *doing, PGresult **ret_rows,
                            struct weir_error *reterr)
{
    weir_check(ledger->in_transaction);
    return weir_postgres_ask(ledger->connection, sql, parameters, doing, ret_rows, reterr);
}

enum weir_status weir_postgres_list_prices(struct weir_ledger *self, struct weir_state *state,
                                           struct weir_slice customer, struct weir_slice contract, int64_t from,
                                           int64_t to, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer times[2] = {{0}};
    PGresult *rows = NULL;

    weir_put_time(&times[0], from);
    weir_put_time(&times[1], to);
    weir_parameters_add_slice(&parameters, customer);
    weir_parameters_add_slice(&parameters, contract);
    add_field(&parameters, &times[0], 0);
    add_field(&parameters, &times[1], 0);
    enum weir_status status =
        ask((struct weir_postgres_ledger *)self,
            "SELECT period_start, period_end, price_book, price_book_version, price_key FROM weir.price_totals"
            " WHERE customer = $1::text AND contract = $2::text AND period_end > $3::timestamptz"
            " AND period_start < $4::timestamptz ORDER BY 1, 3, 4, 5",
            &parameters, "looking for rated periods", &rows, reterr);
    for (int i = 0; status == WEIR_OK && i < PQntuples(rows); i++) {
        int64_t start = weir_get_time(PQgetvalue(rows, i, 0)), end = weir_get_time(PQgetvalue(rows, i, 1));
        weir_state_period(state, customer, contract, start, end);
        weir_state_price(state, customer, contract, start, end, weir_postgres_field(rows, i, 2),
                         (uint32_t)weir_get_int4(PQgetvalue(rows, i, 3)), weir_postgres_field(rows, i, 4));
    }
    PQclear(rows);
    weir_buffer_free(&times[0]);
    weir_buffer_free(&times[1]);
    return status;
}

enum weir_status weir_postgres_list_windows(struct weir_ledger *self, struct weir_state *state,
                                            const struct weir_period_running *period, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer times[2] = {{0}};
    PGresult *rows = NULL;

    weir_put_time(&times[0], period->start);
    weir_put_time(&times[1], period->end);
    weir_parameters_add_slice(&parameters, period->customer);
    weir_parameters_add_slice(&parameters, period->contract);
    add_field(&parameters, &times[0], 0);
    add_field(&parameters, &times[1], 0);
    enum weir_status status =
        ask((struct weir_postgres_ledger *)self,
            "SELECT DISTINCT series_key, window_start, window_end FROM weir.rated_windows"
            " WHERE customer = $1::text AND window_start >= $3::timestamptz AND window_start < $4::timestamptz"
            " AND contract = $2::text AND period_start = $3::timestamptz AND unpriced IS NULL ORDER BY 1, 2",
            &parameters, "looking for a period's windows", &rows, reterr);
    for (int i = 0; status == WEIR_OK && i < PQntuples(rows); i++)
        weir_state_window(state, weir_postgres_field(rows, i, 0), weir_get_time(PQgetvalue(rows, i, 1)),
                          weir_get_time(PQgetvalue(rows, i, 2)));
    PQclear(rows);
    weir_buffer_free(&times[0]);
    weir_buffer_free(&times[1]);
    return status;
}

static void put_thresholds(struct weir_buffer *buffer, const struct weir_thresholds *thresholds)
{
    char text[WEIR_THRESHOLD_TEXT_MAX];

    weir_array_begin(buffer, WEIR_PG_TEXT);
    for (uint32_t i = 0; i < thresholds->count; i++) {
        weir_threshold_format(&thresholds->list[i], text);
        weir_put_text(buffer, weir_slice_text(text));
    }
    weir_array_end(buffer, thresholds->count);
}

static enum weir_status add_grant(struct weir_postgres_ledger *ledger, struct weir_slice customer,
                                  const struct weir_grant_order *order, const char *reason, const char *by,
                                  struct weir_error *reterr)
{
    const struct weir_commitment *grant = &order->commitment;
    struct weir_parameters parameters = {0};
    struct weir_buffer fields[10] = {{0}}, count = {0};
    PGresult *rows = NULL;

    weir_put_decimal(&fields[0], grant->amount);
    weir_put_decimal(&fields[1], grant->price);
    weir_put_int8(&fields[2], grant->priority);
    weir_put_time(&fields[3], grant->starts_at);
    weir_put_time(&fields[4], grant->expires_at);
    weir_array_begin(&fields[5], WEIR_PG_TEXT);
    for (uint32_t i = 0; i < grant->meter_count; i++)
        weir_put_text(&fields[5], grant->meters[i]);
    weir_array_end(&fields[5], grant->meter_count);
    weir_put_decimal(&fields[6], grant->overage_multiplier);
    weir_put_decimal(&fields[7], grant->rollover_fraction);
    weir_put_time(&fields[8], grant->rollover_expires_at);
    put_thresholds(&fields[9], &grant->low_balance);
    weir_parameters_add_slice(&parameters, customer);
    weir_parameters_add_slice(&parameters, order->contract);
    weir_parameters_add_slice(&parameters, grant->key);
    weir_parameters_add_slice(&parameters, order->currency);
    weir_parameters_add_text(&parameters, weir_funding_name[grant->funding]);
    for (int i = 0; i < 9; i++) {
        if (i == 5)
            weir_parameters_add(&parameters, fields[i].data, fields[i].length);
        else
            add_field(&parameters, &fields[i], 0);
    }
    weir_parameters_add_text(&parameters, reason);
    weir_parameters_add_text(&parameters, by);
    weir_parameters_add(&parameters, fields[9].data, fields[9].length);
    weir_parameters_add_slice(&parameters, grant->package);
    weir_put_int8(&count, grant->package_count);
    add_field(&parameters, &count, 0);
    enum weir_status status =
        ask(ledger,
            "INSERT INTO weir.grant_orders (customer, contract, grant_key, currency, funding, amount, price, priority,"
            " starts_at, expires_at, meters, overage_multiplier, rollover_fraction, rollover_expires_at, reason,"
            " ordered_by, low_balance, package, packages) VALUES ($1::text, $2::text, $3::text, $4::text, $5::text,"
            " $6::numeric, $7::numeric, $8::bigint, $9::timestamptz, $10::timestamptz, $11::text[], $12::numeric,"
            " $13::numeric, CASE WHEN $13::numeric > 0 THEN $14::timestamptz END, $15::text, $16::text,"
            " nullif($17::text[], '{}'), nullif($18::text, ''), nullif($19::bigint, 0))",
            &parameters, "writing an order", &rows, reterr);
    PQclear(rows);
    for (int i = 0; i < 10; i++)
        weir_buffer_free(&fields[i]);
    weir_buffer_free(&count);
    return status;
}

static enum weir_status add_end(struct weir_postgres_ledger *ledger, struct weir_slice customer,
                                const struct weir_grant_order *order, const char *reason, const char *by,
                                struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer time = {0};
    PGresult *rows = NULL;

    weir_put_time(&time, order->ends_at);
    weir_parameters_add_slice(&parameters, customer);
    weir_parameters_add_slice(&parameters, order->contract);
    weir_parameters_add_slice(&parameters, order->commitment.key);
    weir_parameters_add_text(&parameters, weir_grant_end_name[order->end]);
    add_field(&parameters, &time, 0);
    weir_parameters_add_text(&parameters, reason);
    weir_parameters_add_text(&parameters, by);
    enum weir_status status =
        ask(ledger,
            "INSERT INTO weir.grant_ends (customer, contract, grant_key, kind, ends_at, reason, ordered_by)"
            " VALUES ($1::text, $2::text, $3::text, $4::text, $5::timestamptz, $6::text, $7::text)",
            &parameters, "writing an order", &rows, reterr);
    PQclear(rows);
    weir_buffer_free(&time);
    return status;
}

enum weir_status weir_postgres_add_order(struct weir_ledger *self, struct weir_slice customer,
                                         const struct weir_grant_order *order, const char *reason, const char *by,
                                         struct weir_error *reterr)
{
    struct weir_postgres_ledger *ledger = (struct weir_postgres_ledger *)self;

    return order->is_ended ? add_end(ledger, customer, order, reason, by, reterr)
                           : add_grant(ledger, customer, order, reason, by, reterr);
}

/* By name from `after` on, so that one that stays does not come again. */
enum weir_status weir_postgres_read_expired(struct weir_postgres_ledger *ledger, int64_t from, int64_t through,
                                            struct weir_slice after, size_t max, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer fields[3] = {{0}};

    weir_put_time(&fields[0], from);
    weir_put_time(&fields[1], through);
    weir_put_int8(&fields[2], (int64_t)max);
    weir_parameters_add_slice(&parameters, after);
    for (int i = 0; i < 3; i++)
        add_field(&parameters, &fields[i], 0);
    PQclear(ledger->expired);
    ledger->expired = NULL;
    enum weir_status status = weir_postgres_ask(
        ledger->connection,
        "SELECT DISTINCT customer COLLATE \"C\" FROM weir.expired_grants($2::timestamptz, $3::timestamptz)"
        " WHERE customer > $1::text COLLATE \"C\" ORDER BY 1 LIMIT $4::bigint",
        &parameters, "looking for grants that have expired", &ledger->expired, reterr);
    for (int i = 0; i < 3; i++)
        weir_buffer_free(&fields[i]);
    return status;
}
