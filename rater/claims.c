#include "rater/claims.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/calendar.h"
#include "rater/postgres.h"

struct weir_claims {
    char *url;
    int64_t idle; /* ns */
    PGconn *connection;
};

struct weir_claims *weir_claims_new(const char *url, int64_t idle)
{
    struct weir_claims *claims = weir_new(sizeof *claims);
    claims->url = weir_copy_text(url, strlen(url));
    claims->idle = idle;
    return claims;
}

struct weir_claims *weir_claims_free(struct weir_claims *claims)
{
    if (!claims)
        return NULL;
    PQfinish(claims->connection);
    free(claims->url);
    free(claims);
    return NULL;
}

/* Whether this session holds $1's lock. */
#define IS_HELD                                                                                                        \
    "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"                              \
    " AND classid::bigint = " WEIR_LOCK_CLASS " AND objid::bigint = (hashtext($1::text)::bigint & 4294967295))"

static void disconnect(struct weir_claims *claims)
{
    PQfinish(claims->connection);
    claims->connection = NULL;
}

static bool is_connected(const struct weir_claims *claims)
{
    return claims->connection && PQstatus(claims->connection) == CONNECTION_OK;
}

/* A process that is stopped answers nothing, but its kernel does: only the server's clock tells that it does nothing.
 */
static enum weir_status connect_if_needed(struct weir_claims *claims, struct weir_error *reterr)
{
    char limit[80];
    enum weir_status status = WEIR_OK;

    if (is_connected(claims))
        return WEIR_OK;
    disconnect(claims);
    claims->connection = weir_postgres_connect(claims->url, "weir rater, claims", &status, reterr);
    if (!claims->connection)
        return status;
    snprintf(limit, sizeof limit, "SET idle_session_timeout = %" PRId64, claims->idle / (WEIR_SECOND / 1000));
    status = weir_postgres_run(claims->connection, limit, "setting the session up", reterr);
    if (status != WEIR_OK)
        disconnect(claims);
    return status;
}

/* One call of a lock function with the name's hash, which PostgreSQL works out. */
static enum weir_status call(struct weir_claims *claims, const char *sql, struct weir_slice name, bool *ret_answer,
                             struct weir_error *reterr)
{
    const char *values[] = {name.data};
    const int lengths[] = {(int)name.length}, formats[] = {1};

    PGresult *result = PQexecParams(claims->connection, sql, 1, NULL, values, lengths, formats, 0);
    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1)
        return weir_postgres_failed(claims->connection, result, "sharing lanes with other raters", reterr);
    *ret_answer = PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return WEIR_OK;
}

enum weir_status weir_claims_try(struct weir_claims *claims, struct weir_slice name, bool *ret_is_ours,
                                 struct weir_error *reterr)
{
    /* A session may take one lock several times and must then give it back as often: ask first whether it is held. */
    static const char sql[] = "SELECT " IS_HELD " OR pg_try_advisory_lock(" WEIR_LOCK_CLASS ", hashtext($1::text))";
    bool had = is_connected(claims);
    enum weir_status status = connect_if_needed(claims, reterr);

    if (status == WEIR_OK)
        status = call(claims, sql, name, ret_is_ours, reterr);
    if (status != WEIR_RETRY || !had || is_connected(claims))
        return status;
    /* The session that we had is gone, and its locks with it: tried anew, in a line with everybody else. */
    status = connect_if_needed(claims, reterr);
    return status == WEIR_OK ? call(claims, sql, name, ret_is_ours, reterr) : status;
}

enum weir_status weir_claims_release(struct weir_claims *claims, struct weir_slice name, struct weir_error *reterr)
{
    bool was_ours;

    if (!is_connected(claims))
        return WEIR_OK; /* a session's locks end with it */
    enum weir_status status = call(
        claims, "SELECT CASE WHEN " IS_HELD " THEN pg_advisory_unlock(" WEIR_LOCK_CLASS ", hashtext($1::text)) END",
        name, &was_ours, reterr);
    return is_connected(claims) ? status : WEIR_OK;
}
