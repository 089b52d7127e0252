#include "rater/claims.h"

#include <stdlib.h>
#include <string.h>

#include "rater/postgres.h"

struct weir_claims {
    char *url;
    PGconn *connection;
};

struct weir_claims *weir_claims_new(const char *url)
{
    struct weir_claims *claims = weir_new(sizeof *claims);
    claims->url = weir_copy_text(url, strlen(url));
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

/* One call of a lock function with the name's hash, which PostgreSQL works out. */
static enum weir_status call(struct weir_claims *claims, const char *sql, struct weir_slice name, bool *ret_answer,
                             struct weir_error *reterr)
{
    const char *values[] = {name.data};
    const int lengths[] = {(int)name.length}, formats[] = {1};

    if (claims->connection && PQstatus(claims->connection) != CONNECTION_OK) {
        PQfinish(claims->connection);
        claims->connection = NULL;
    }
    enum weir_status status = WEIR_OK;
    if (!claims->connection)
        claims->connection = weir_postgres_connect(claims->url, "weir rater, claims", &status, reterr);
    if (!claims->connection)
        return status;
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
    return call(claims,
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                "  AND classid::bigint = " WEIR_LOCK_CLASS
                " AND objid::bigint = (hashtext($1::text)::bigint & 4294967295))"
                " OR pg_try_advisory_lock(" WEIR_LOCK_CLASS ", hashtext($1::text))",
                name, ret_is_ours, reterr);
}

enum weir_status weir_claims_release(struct weir_claims *claims, struct weir_slice name, struct weir_error *reterr)
{
    bool was_ours;
    return call(claims, "SELECT pg_advisory_unlock(" WEIR_LOCK_CLASS ", hashtext($1::text))", name, &was_ours, reterr);
}
