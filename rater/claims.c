#include "rater/claims.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

/* The first half of every lock's key: "weir" in ASCII, so that other users of the database do not meet our locks. */
#define LOCK_CLASS "2003132786"

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
    if (!claims->connection)
        claims->connection = PQconnectdb(claims->url);
    PGresult *result = PQexecParams(claims->connection, sql, 1, NULL, values, lengths, formats, 0);
    bool is_good = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
    if (is_good)
        *ret_answer = PQgetvalue(result, 0, 0)[0] == 't';
    else
        (void)weir_fail(reterr, WEIR_RETRY, "PostgreSQL: %s", PQerrorMessage(claims->connection));
    PQclear(result);
    return is_good ? WEIR_OK : WEIR_RETRY;
}

enum weir_status weir_claims_try(struct weir_claims *claims, struct weir_slice name, bool *ret_is_ours,
                                 struct weir_error *reterr)
{
    /* A session may take one lock several times and must then give it back as often: ask first whether it is held. */
    return call(claims,
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                "  AND classid::bigint = " LOCK_CLASS " AND objid::bigint = (hashtext($1::text)::bigint & 4294967295))"
                " OR pg_try_advisory_lock(" LOCK_CLASS ", hashtext($1::text))",
                name, ret_is_ours, reterr);
}

enum weir_status weir_claims_release(struct weir_claims *claims, struct weir_slice name, struct weir_error *reterr)
{
    bool was_ours;
    return call(claims, "SELECT pg_advisory_unlock(" LOCK_CLASS ", hashtext($1::text))", name, &was_ours, reterr);
}
