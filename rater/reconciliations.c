#include "rater/reconciliations.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/calendar.h"
#include "rater/postgres.h"
#include "rater/postgres_value.h"

#define WEIR_X(upper, lower) [WEIR_DIFFERENCE_##upper] = #lower,
const char *const weir_difference_name[WEIR_DIFFERENCE_COUNT] = {WEIR_DIFFERENCES(WEIR_X)};
#undef WEIR_X

struct weir_reconciliations {
    char *url;
    PGconn *connection; /* NULL: to be opened */
};

struct weir_reconciliations *weir_reconciliations_new(const char *url)
{
    struct weir_reconciliations *reconciliations = weir_new(sizeof *reconciliations);

    reconciliations->url = weir_copy_text(url, strlen(url));
    return reconciliations;
}

struct weir_reconciliations *weir_reconciliations_free(struct weir_reconciliations *reconciliations)
{
    if (!reconciliations)
        return NULL;
    PQfinish(reconciliations->connection);
    free(reconciliations->url);
    free(reconciliations);
    return NULL;
}

uint64_t weir_reconciliation_differences(const struct weir_reconciliation *reconciliation)
{
    uint64_t sum = 0;

    for (int i = 0; i < WEIR_DIFFERENCE_COUNT; i++)
        sum += reconciliation->differences[i];
    return sum;
}

static enum weir_status ask(struct weir_reconciliations *reconciliations, const char *sql,
                            const struct weir_parameters *parameters, const char *doing, PGresult **ret_result,
                            struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    if (!reconciliations->connection)
        reconciliations->connection = weir_postgres_connect(reconciliations->url, "weir reconcile", &status, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_ask(reconciliations->connection, sql, parameters, doing, ret_result, reterr);
    if (status != WEIR_OK) {
        PQfinish(reconciliations->connection);
        reconciliations->connection = NULL;
    }
    return status;
}

/* {"unrated": 2}: kinds without a difference are left out. */
static void write_kinds(const struct weir_reconciliation *reconciliation, char *text, size_t room)
{
    size_t at = 0;

    for (int i = 0; i < WEIR_DIFFERENCE_COUNT; i++)
        if (reconciliation->differences[i])
            at += (size_t)snprintf(text + at, room - at, "%s\"%s\": %" PRIu64, at ? ", " : "{", weir_difference_name[i],
                                   reconciliation->differences[i]);
    snprintf(text + at, room - at, "%s}", at ? "" : "{");
}

enum weir_status weir_reconciliations_add(struct weir_reconciliations *reconciliations, const char *topic,
                                          const struct weir_reconciliation *reconciliation, struct weir_error *reterr)
{
    const uint64_t numbers[] = {reconciliation->windows, reconciliation->waiting, reconciliation->behind,
                                reconciliation->repaired, weir_reconciliation_differences(reconciliation)};
    enum { NUMBERS = sizeof numbers / sizeof *numbers };
    struct weir_parameters parameters = {0};
    struct weir_buffer bytes = {0};
    char kinds[WEIR_DIFFERENCE_COUNT * 48];
    PGresult *result = NULL;

    write_kinds(reconciliation, kinds, sizeof kinds);
    weir_put_time(&bytes, reconciliation->started_at / 1000 * 1000);
    weir_put_int8(&bytes, (int64_t)reconciliation->lanes);
    for (int i = 0; i < NUMBERS; i++)
        weir_put_int8(&bytes, (int64_t)numbers[i]);
    weir_parameters_add_text(&parameters, topic);
    weir_parameters_add_text(&parameters, kinds);
    for (size_t i = 0; i < 2 + NUMBERS; i++)
        weir_parameters_add(&parameters, bytes.data + 12 * i + 4, 8);
    enum weir_status status =
        ask(reconciliations,
            "INSERT INTO weir.reconciliations (topic, differences_by_kind, started_at, finished_at, lanes, windows,"
            " waiting, behind, repaired, differences) VALUES ($1::text, $2::text::jsonb, $3::timestamptz,"
            " greatest($3::timestamptz, clock_timestamp()), $4::bigint, $5::bigint, $6::bigint, $7::bigint, $8::bigint,"
            " $9::bigint)",
            &parameters, "keeping what was found", &result, reterr);
    PQclear(result);
    weir_buffer_free(&bytes);
    return status;
}

/* Columns: started_at, finished_at, lanes, windows, waiting, behind, repaired, then one for each kind. */
#define WEIR_X(upper, lower) ", coalesce((differences_by_kind ->> '" #lower "')::bigint, 0)"
static const char last_sql[] =
    "SELECT started_at, finished_at, lanes::bigint, windows, waiting, behind, repaired" WEIR_DIFFERENCES(
        WEIR_X) " FROM weir.reconciliations WHERE topic = $1::text ORDER BY reconciliation_id DESC LIMIT 1";
#undef WEIR_X

enum weir_status weir_reconciliations_last(struct weir_reconciliations *reconciliations, const char *topic,
                                           struct weir_reconciliation *ret_last, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    weir_parameters_add_text(&parameters, topic);
    enum weir_status status =
        ask(reconciliations, last_sql, &parameters, "reading the last reconciliation", &result, reterr);
    if (status != WEIR_OK)
        return status;
    *ret_last = (struct weir_reconciliation){0};
    if (PQntuples(result)) {
        uint64_t *const fields[] = {&ret_last->lanes, &ret_last->windows, &ret_last->waiting, &ret_last->behind,
                                    &ret_last->repaired};
        enum { FIELDS = sizeof fields / sizeof *fields };
        ret_last->started_at = weir_get_time(PQgetvalue(result, 0, 0));
        ret_last->finished_at = weir_get_time(PQgetvalue(result, 0, 1));
        for (int i = 0; i < FIELDS; i++)
            *fields[i] = (uint64_t)weir_get_int8(PQgetvalue(result, 0, 2 + i));
        for (int i = 0; i < WEIR_DIFFERENCE_COUNT; i++)
            ret_last->differences[i] = (uint64_t)weir_get_int8(PQgetvalue(result, 0, 2 + FIELDS + i));
    }
    PQclear(result);
    return WEIR_OK;
}
