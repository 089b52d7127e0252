#include "rater/revenue.h"

#include <stdio.h>
#include <string.h>

#include "common/calendar.h"
#include "rater/postgres.h"
#include "rater/postgres_value.h"

bool weir_revenue_is_month(const char *text)
{
    char whole[WEIR_TIME_TEXT_MAX];
    int64_t time;

    (void)snprintf(whole, sizeof whole, "%s-01T00:00:00Z", text);
    return strlen(text) == 7 && weir_time_parse(weir_slice_text(whole), &time);
}

/* A condition on the customer is a text of its own: PostgreSQL must see it to read that customer's rows alone. */
#define LIST(condition)                                                                                                \
    "SELECT to_char(month, 'YYYY-MM'), customer, contract, currency, invoiced::text, rounding::text, "                 \
    "recognised::text, deferred::text, unbilled::text, CASE WHEN is_closed THEN 'closed' ELSE 'open' END"              \
    " FROM weir.revenue_months WHERE ($2::text = '' OR month = (nullif($2::text, '') || '-01')::date) AND " condition  \
    " ORDER BY month, customer, contract, currency"

enum weir_status weir_revenue_list(const char *url, const struct weir_revenue_filter *filter,
                                   void (*visit)(void *context, const struct weir_revenue_month *month), void *context,
                                   struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;
    enum weir_status status;
    PGconn *connection = weir_postgres_open(url, "weir revenue", &status, reterr);

    weir_parameters_add_slice(&parameters, filter->customer);
    weir_parameters_add_text(&parameters, filter->month);
    if (status == WEIR_OK)
        status = weir_postgres_run(connection, "SET jit = off", "setting the session up", reterr);
    if (status == WEIR_OK)
        status =
            weir_postgres_ask(connection, filter->customer.length ? LIST("customer = $1::text") : LIST("$1::text = ''"),
                              &parameters, "reading revenue", &result, reterr);
    for (int row = 0; status == WEIR_OK && row < PQntuples(result); row++) {
        const struct weir_revenue_month month = {
            .month = weir_postgres_field(result, row, 0),
            .customer = weir_postgres_field(result, row, 1),
            .contract = weir_postgres_field(result, row, 2),
            .currency = weir_postgres_field(result, row, 3),
            .invoiced = weir_postgres_field(result, row, 4),
            .rounding = weir_postgres_field(result, row, 5),
            .recognised = weir_postgres_field(result, row, 6),
            .deferred = weir_postgres_field(result, row, 7),
            .unbilled = weir_postgres_field(result, row, 8),
            .state = weir_postgres_field(result, row, 9),
        };
        visit(context, &month);
    }
    PQclear(result);
    PQfinish(connection);
    return status;
}
