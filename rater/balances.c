#include "rater/balances.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/calendar.h"
#include "rater/postgres.h"
#include "rater/postgres_value.h"

#define CAME_IN "kind = 'grant' OR kind = 'rollover' AND rolled_from IS NOT NULL"
#define WENT_ON "kind = 'rollover' AND rolled_from IS NULL"
#define WAS_LOST "kind IN ('expiry', 'void', 'refund')"

/* A customer of its own is a condition of its own: PostgreSQL must see it to read that customer's rows alone. */
#define CHOSEN(view, condition)                                                                                        \
    "WITH chosen AS (SELECT * FROM " view " WHERE " condition " AND $2::text IN ('', contract)"                        \
    " AND recorded_at <= coalesce(nullif($3::text, '')::timestamptz, 'infinity'))"

static const char balances[] =
    ", known AS (SELECT g.*, c.kind, c.amount, coalesce(nullif($3::text, '')::timestamptz, now()) AS at"
    " FROM chosen AS c JOIN weir.grant_balances AS g USING (customer, contract, grant_key))"
    " SELECT customer, contract, coalesce(grant_key, ''), coalesce(funding, ''), starts_at, expires_at,"
    " CASE WHEN grant_key IS NULL THEN '' WHEN ends_at <= min(at) AND end_ordered_at <= min(at) THEN ended"
    " WHEN expires_at <= min(at) THEN 'expired' WHEN starts_at > min(at) THEN 'future' ELSE 'active' END,"
    " coalesce(sum(amount) FILTER (WHERE " CAME_IN "), 0)::text,"
    " (-coalesce(sum(amount) FILTER (WHERE kind IN ('drawdown', 'giveback')), 0))::text,"
    " (-coalesce(sum(amount) FILTER (WHERE " WENT_ON "), 0))::text,"
    " (-coalesce(sum(amount) FILTER (WHERE " WAS_LOST "), 0))::text, sum(amount)::text, currency FROM known"
    " GROUP BY GROUPING SETS ((customer, contract, currency, grant_key, funding, starts_at, expires_at, ended,"
    " ends_at, end_ordered_at), (customer, contract, currency)) ORDER BY customer, contract, currency, grant_key NULLS "
    "LAST";

static const char entries[] =
    " SELECT customer, contract, grant_key, number::text, kind, amount::text, balance_after::text, period_start,"
    " segment_start, coalesce(meter, ''), coalesce(charged::text, ''), recorded_at FROM chosen"
    " ORDER BY customer, contract, grant_key, chosen.number";

static const char events[] =
    " SELECT event::text, customer, contract, grant_key, threshold, crossing::text, balance_before::text,"
    " balance_after::text, currency, cause, cause_grant, cause_entry::text, coalesce(rerating::text, ''), recorded_at"
    " FROM chosen WHERE event > ($4::text)::bigint ORDER BY event";

static int64_t time_at(const PGresult *rows, int row, int column)
{
    return PQgetisnull(rows, row, column) ? WEIR_TIME_NEVER : weir_get_time(PQgetvalue(rows, row, column));
}

static const char *choose(const struct weir_balance_filter *filter, const char *question)
{
    bool has_customer = filter->customer.length > 0;

    if (question == events)
        return has_customer ? CHOSEN("weir.balance_events", "customer = $1::text")
                            : CHOSEN("weir.balance_events", "$1::text = ''");
    return has_customer ? CHOSEN("weir.balance_entries", "customer = $1::text")
                        : CHOSEN("weir.balance_entries", "$1::text = ''");
}

static enum weir_status ask(const char *url, const struct weir_balance_filter *filter, const char *question,
                            PGresult **ret_rows, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer sql = {0};
    char after[24];
    enum weir_status status;
    PGconn *connection = weir_postgres_open(url, "weir balance", &status, reterr);

    weir_parameters_add_slice(&parameters, filter->customer);
    weir_parameters_add_slice(&parameters, filter->contract);
    weir_parameters_add_text(&parameters, filter->at);
    if (status == WEIR_OK)
        status = weir_postgres_run(connection, "SET jit = off", "setting the session up", reterr);
    (void)snprintf(after, sizeof after, "%" PRId64, filter->after);
    if (question == events)
        weir_parameters_add_text(&parameters, after);
    weir_buffer_add(&sql, weir_slice_text(choose(filter, question)));
    weir_buffer_add(&sql, weir_slice_of(question, strlen(question) + 1));
    if (status == WEIR_OK)
        status = weir_postgres_ask(connection, sql.data, &parameters, "reading balances", ret_rows, reterr);
    weir_buffer_free(&sql);
    PQfinish(connection);
    return status;
}

enum weir_status weir_balances_list(const char *url, const struct weir_balance_filter *filter,
                                    void (*visit)(void *context, const struct weir_balance *balance), void *context,
                                    struct weir_error *reterr)
{
    PGresult *rows = NULL;
    enum weir_status status = ask(url, filter, balances, &rows, reterr);

    for (int i = 0; status == WEIR_OK && i < PQntuples(rows); i++) {
        const struct weir_balance balance = {
            .customer = weir_postgres_field(rows, i, 0),
            .contract = weir_postgres_field(rows, i, 1),
            .grant = weir_postgres_field(rows, i, 2),
            .funding = weir_postgres_field(rows, i, 3),
            .starts_at = time_at(rows, i, 4),
            .expires_at = time_at(rows, i, 5),
            .state = weir_postgres_field(rows, i, 6),
            .granted = weir_postgres_field(rows, i, 7),
            .drawn = weir_postgres_field(rows, i, 8),
            .rolled_over = weir_postgres_field(rows, i, 9),
            .lost = weir_postgres_field(rows, i, 10),
            .balance = weir_postgres_field(rows, i, 11),
            .currency = weir_postgres_field(rows, i, 12),
        };
        visit(context, &balance);
    }
    PQclear(rows);
    return status;
}

enum weir_status weir_balances_list_entries(const char *url, const struct weir_balance_filter *filter,
                                            void (*visit)(void *context, const struct weir_balance_entry *entry),
                                            void *context, struct weir_error *reterr)
{
    PGresult *rows = NULL;
    enum weir_status status = ask(url, filter, entries, &rows, reterr);

    for (int i = 0; status == WEIR_OK && i < PQntuples(rows); i++) {
        const struct weir_balance_entry entry = {
            .customer = weir_postgres_field(rows, i, 0),
            .contract = weir_postgres_field(rows, i, 1),
            .grant = weir_postgres_field(rows, i, 2),
            .number = weir_postgres_field(rows, i, 3),
            .kind = weir_postgres_field(rows, i, 4),
            .amount = weir_postgres_field(rows, i, 5),
            .balance = weir_postgres_field(rows, i, 6),
            .period_start = time_at(rows, i, 7),
            .segment_start = time_at(rows, i, 8),
            .meter = weir_postgres_field(rows, i, 9),
            .charged = weir_postgres_field(rows, i, 10),
            .recorded_at = time_at(rows, i, 11),
        };
        visit(context, &entry);
    }
    PQclear(rows);
    return status;
}

enum weir_status weir_balances_list_events(const char *url, const struct weir_balance_filter *filter,
                                           void (*visit)(void *context, const struct weir_balance_event *event),
                                           void *context, struct weir_error *reterr)
{
    PGresult *rows = NULL;
    enum weir_status status = ask(url, filter, events, &rows, reterr);

    for (int i = 0; status == WEIR_OK && i < PQntuples(rows); i++) {
        const struct weir_balance_event event = {
            .event = weir_postgres_field(rows, i, 0),
            .customer = weir_postgres_field(rows, i, 1),
            .contract = weir_postgres_field(rows, i, 2),
            .grant = weir_postgres_field(rows, i, 3),
            .threshold = weir_postgres_field(rows, i, 4),
            .crossing = weir_postgres_field(rows, i, 5),
            .before = weir_postgres_field(rows, i, 6),
            .after = weir_postgres_field(rows, i, 7),
            .currency = weir_postgres_field(rows, i, 8),
            .cause = weir_postgres_field(rows, i, 9),
            .cause_grant = weir_postgres_field(rows, i, 10),
            .cause_entry = weir_postgres_field(rows, i, 11),
            .rerating = weir_postgres_field(rows, i, 12),
            .recorded_at = time_at(rows, i, 13),
        };
        visit(context, &event);
    }
    PQclear(rows);
    return status;
}

enum weir_status weir_balances_list_customers(const char *url, struct weir_slice customer,
                                              void (*visit)(void *context, struct weir_slice customer), void *context,
                                              struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *rows = NULL;
    enum weir_status status;
    PGconn *connection = weir_postgres_open(url, "weir balance", &status, reterr);

    weir_parameters_add_slice(&parameters, customer);
    if (status == WEIR_OK)
        status =
            weir_postgres_ask(connection,
                              "SELECT customer FROM weir.grants WHERE $1::text IN ('', customer) UNION"
                              " SELECT customer FROM weir.customers WHERE has_orders AND $1::text IN ('', customer)"
                              " ORDER BY 1",
                              &parameters, "listing customers with grants", &rows, reterr);
    for (int i = 0; status == WEIR_OK && i < PQntuples(rows); i++)
        visit(context, weir_postgres_field(rows, i, 0));
    PQclear(rows);
    PQfinish(connection);
    return status;
}
