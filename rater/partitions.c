#include "rater/partitions.h"

#include <stdlib.h>

#include "common/calendar.h"
#include "rater/postgres_value.h"

/* Months since year 0 of a time in UTC. */
static int64_t month_of(int64_t time)
{
    int64_t days = time / WEIR_DAY - (time % WEIR_DAY < 0), year;
    int month, day;

    weir_date_of_days(days, &year, &month, &day);
    return year * 12 + month - 1;
}

bool weir_partitions_have(const struct weir_partitions *partitions, int64_t period_start)
{
    int64_t month = month_of(period_start);

    for (size_t i = partitions->count; i > 0; i--) /* the newest are asked for most */
        if (partitions->months[i - 1] == month)
            return true;
    return false;
}

static void note(struct weir_partitions *partitions, int64_t month)
{
    if (partitions->count == partitions->room) {
        partitions->room = partitions->room ? partitions->room * 2 : 64;
        partitions->months = weir_resize(partitions->months, partitions->room, sizeof *partitions->months);
    }
    partitions->months[partitions->count++] = month;
}

enum weir_status weir_partitions_find(struct weir_partitions *partitions, PGconn *connection, struct weir_error *reterr)
{
    PGresult *result = NULL;
    enum weir_status status =
        weir_postgres_ask(connection,
                          "SELECT substr(relname, 12, 4)::int * 12 + substr(relname, 17, 2)::int - 1 FROM pg_inherits"
                          " JOIN pg_class AS c ON c.oid = inhrelid WHERE inhparent = 'weir.line_items'::regclass"
                          " AND relname ~ '^line_items_[0-9]{4}_[0-9]{2}$' ORDER BY 1",
                          NULL, "looking for partitions of line_items", &result, reterr);

    for (int i = 0; status == WEIR_OK && i < PQntuples(result); i++)
        note(partitions, weir_get_int4(PQgetvalue(result, i, 0)));
    PQclear(result);
    return status;
}

enum weir_status weir_partitions_make(struct weir_partitions *partitions, PGconn *connection, int64_t period_start,
                                      struct weir_error *reterr)
{
    int64_t month = month_of(period_start);
    struct weir_parameters parameters = {0};
    struct weir_buffer time = {0};
    PGresult *result = NULL;

    weir_put_time(&time, weir_days_of_date(month / 12, (int)(month % 12) + 1, 1) * WEIR_DAY);
    weir_parameters_add(&parameters, time.data + 4, 8);
    enum weir_status status = weir_postgres_ask(
        connection, "SELECT weir.make_line_items_partition(($1::timestamptz AT TIME ZONE 'UTC')::date)", &parameters,
        "making a month's partition of line_items", &result, reterr);
    weir_buffer_free(&time);
    PQclear(result);
    if (status == WEIR_OK)
        note(partitions, month);
    return status;
}

void weir_partitions_free(struct weir_partitions *partitions)
{
    free(partitions->months);
    *partitions = (struct weir_partitions){0};
}
