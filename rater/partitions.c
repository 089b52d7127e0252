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
    if (status != WEIR_OK)
        return status;
    if (partitions->count == partitions->room) {
        partitions->room = partitions->room ? partitions->room * 2 : 64;
        partitions->months = weir_resize(partitions->months, partitions->room, sizeof *partitions->months);
    }
    partitions->months[partitions->count++] = month;
    return WEIR_OK;
}

void weir_partitions_free(struct weir_partitions *partitions)
{
    free(partitions->months);
    *partitions = (struct weir_partitions){0};
}
