#include "rater/postgres.h"

#include <stdio.h>
#include <string.h>

#include "common/actor.h"
#include "common/settings.h"
#include "rater/migrate.h"
#include "rater/postgres_value.h"

/* 1. errors */

/* By SQLSTATE, the most particular first; a class is its first two characters. `remedy` NULL: what PostgreSQL says is
 * enough. */
struct meaning {
    const char *state;
    enum weir_status status;
    const char *remedy;
};

static const struct meaning meanings[] = {
    {"3F000", WEIR_FATAL, "the schema is not there: run `weir migrate`"},
    {"42P01", WEIR_FATAL, "the schema is not this version's: run `weir migrate`"},
    {"42703", WEIR_FATAL, "the schema is not this version's: run `weir migrate`"},
    {"42883", WEIR_FATAL, "the schema is not this version's: run `weir migrate`"},
    {"42501", WEIR_FATAL, "grant the role its rights on schema weir"},
    {"25006", WEIR_RETRY,
     "the server is read-only (a standby, or in recovery): point WEIR_POSTGRES_URL at the primary"},
    {"53100", WEIR_RETRY, "the server's disk is full: make room there"},
    {"57014", WEIR_RETRY, "the server broke it off; a statement_timeout for this role may be too short"},
    {"55P03", WEIR_RETRY, NULL},
    {"08", WEIR_RETRY, NULL}, /* connection */
    {"40", WEIR_RETRY, NULL}, /* deadlock, serialization */
    {"53", WEIR_RETRY, NULL}, /* out of memory, connections, ... */
    {"57", WEIR_RETRY, NULL}, /* shutdown, crash, starting up */
    {"58", WEIR_RETRY, NULL}, /* input and output errors of the server */
    {"28", WEIR_FATAL, "check user and password in WEIR_POSTGRES_URL"},
    {"3D000", WEIR_FATAL, "create the database first (createdb)"},
    {"23", WEIR_FATAL,
     "this is a defect of weir, or somebody else wrote to its tables: nothing was written, please report it"},
};

static const struct meaning *meaning_of(const char *state)
{
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (strncmp(meanings[i].state, state, strlen(meanings[i].state)) == 0)
            return &meanings[i];
    return NULL;
}

/* The first line of a message, without blanks at its end: errors are one line. */
static int line_length(const char *text)
{
    int length = (int)strcspn(text, "\n");

    while (length > 0 && text[length - 1] == ' ')
        length--;
    return length;
}

enum weir_status weir_postgres_failed(PGconn *connection, PGresult *result, const char *doing,
                                      struct weir_error *reterr)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *text = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    const struct meaning *meaning = state ? meaning_of(state) : NULL;
    enum weir_status status = meaning ? meaning->status : state ? WEIR_FATAL : WEIR_RETRY;

    if (PQstatus(connection) != CONNECTION_OK)
        status = WEIR_RETRY; /* whatever it said last, the connection is gone */
    if (!text || !*text)
        text = result && *PQresultErrorMessage(result) ? PQresultErrorMessage(result) : PQerrorMessage(connection);
    if (!*text)
        text = "the connection broke";
    (void)weir_fail(reterr, status, "PostgreSQL, %s: %.*s%s%s%s%s%s", doing, line_length(text), text, state ? " (" : "",
                    state ? state : "", state ? ")" : "", meaning && meaning->remedy ? "; " : "",
                    meaning && meaning->remedy ? meaning->remedy : "");
    PQclear(result);
    return status;
}

/* 2. connecting */

/* Before a session there is no SQLSTATE, only words. These a person has to mend; everything else passes: a server that
 * starts, stops, recovers, is full, or says it in another language. */
static bool is_refused(const char *text)
{
    static const char *const refusals[] = {"authentication failed", "no pg_hba.conf entry",    "does not exist",
                                           "permission denied",     "not permitted to log in", "no password supplied"};

    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (strstr(text, refusals[i]))
            return true;
    return false;
}

/* One reason for each address that was tried. */
static const char *in_one_line(const char *text, char line[static WEIR_ERROR_TEXT_MAX])
{
    size_t used = 0;

    for (; *text && used < WEIR_ERROR_TEXT_MAX - 1; text += *text == '\n') {
        int length = *text == '\t' ? 0 : line_length(text); /* not its guesses */
        used += length == 0 ? 0
                            : (size_t)snprintf(line + used, WEIR_ERROR_TEXT_MAX - used, "%s%.*s", used ? "; " : "",
                                               length, text);
        text += strcspn(text, "\n");
    }
    if (used == 0)
        line[0] = '\0';
    return line;
}

static enum weir_status connect_failed(PGconn *connection, const char *url, struct weir_error *reterr)
{
    char shown[WEIR_SETTING_TEXT_MAX], line[WEIR_ERROR_TEXT_MAX];
    const char *text = PQerrorMessage(connection);
    enum weir_status status = is_refused(text) ? WEIR_FATAL : WEIR_RETRY;

    return weir_fail(reterr, status, "PostgreSQL at %s: %s; check WEIR_POSTGRES_URL, and that the server runs",
                     weir_url_redact(url, shown), in_one_line(text, line));
}

/* A commit that the server may forget in a crash is none: the window is off Redis' list of work by then, and nothing
 * would rate it again. What is stricter than `on` stays. */
static const char session[] =
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';"
    "SET client_encoding = 'UTF8'; SET timezone = 'UTC'; SET search_path = pg_catalog, pg_temp;"
    "SET client_min_messages = warning; SET lock_timeout = '2min'; SET idle_in_transaction_session_timeout = '10min';"
    /* The server, too, notices within a minute that we vanished: until then our locks keep others from our work. */
    "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3";

/* A url that cannot be read will not be readable later. */
static bool is_readable(const char *url, struct weir_error *reterr)
{
    char shown[WEIR_SETTING_TEXT_MAX], *why = NULL;
    PQconninfoOption *options = PQconninfoParse(url, &why);

    if (!options)
        (void)weir_fail(reterr, WEIR_FATAL, "WEIR_POSTGRES_URL %s: %.*s", weir_url_redact(url, shown),
                        why ? line_length(why) : 0, why ? why : "");
    PQconninfoFree(options);
    PQfreemem(why);
    return options != NULL;
}

/* Whom the audit log names for what this session does. */
static enum weir_status name_actor(PGconn *connection, struct weir_error *reterr)
{
    char actor[WEIR_ACTOR_MAX];
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    weir_actor(actor);
    weir_parameters_add_text(&parameters, actor);
    enum weir_status status = weir_postgres_ask(connection, "SELECT set_config('weir.actor', $1::text, false)",
                                                &parameters, "setting the session up", &result, reterr);
    PQclear(result);
    return status;
}

PGconn *weir_postgres_connect(const char *url, const char *program, enum weir_status *ret_status,
                              struct weir_error *reterr)
{
    *ret_status = WEIR_FATAL;
    if (!is_readable(url, reterr))
        return NULL;
    /* What stands before dbname can be overridden by the url. A server that vanished is noticed within a minute or so.
     */
    const char *keywords[] = {"connect_timeout",
                              "keepalives_idle",
                              "keepalives_interval",
                              "keepalives_count",
                              "tcp_user_timeout",
                              "fallback_application_name",
                              "dbname",
                              NULL};
    const char *values[] = {"10", "30", "10", "3", "60000", program, url, NULL};
    PGconn *connection = PQconnectdbParams(keywords, values, 1);

    if (PQstatus(connection) != CONNECTION_OK) {
        *ret_status = connect_failed(connection, url, reterr);
        PQfinish(connection);
        return NULL;
    }
    const char *encoding = PQparameterStatus(connection, "server_encoding");
    if (!encoding || strcmp(encoding, "UTF8") != 0) {
        *ret_status = weir_fail(reterr, WEIR_FATAL,
                                "PostgreSQL: the database's encoding is %s and must be UTF8: create it "
                                "with createdb --encoding=UTF8 --template=template0",
                                encoding ? encoding : "unknown");
        PQfinish(connection);
        return NULL;
    }
    *ret_status = weir_postgres_run(connection, session, "setting the session up", reterr);
    if (*ret_status == WEIR_OK)
        *ret_status = name_actor(connection, reterr);
    if (*ret_status != WEIR_OK) {
        PQfinish(connection);
        return NULL;
    }
    return connection;
}

/* 3. statements */
enum weir_status weir_postgres_run(PGconn *connection, const char *sql, const char *doing, struct weir_error *reterr)
{
    PGresult *result = PQexec(connection, sql);
    ExecStatusType answer = PQresultStatus(result);

    if (answer != PGRES_COMMAND_OK && answer != PGRES_TUPLES_OK)
        return weir_postgres_failed(connection, result, doing, reterr);
    PQclear(result);
    return WEIR_OK;
}

void weir_parameters_add(struct weir_parameters *parameters, const void *bytes, size_t length)
{
    weir_check(parameters->count < WEIR_PARAMETERS_MAX && length <= INT32_MAX);
    parameters->values[parameters->count] = bytes;
    parameters->lengths[parameters->count++] = (int)length;
}

void weir_parameters_add_slice(struct weir_parameters *parameters, struct weir_slice text)
{
    weir_parameters_add(parameters, text.length ? text.data : "", text.length);
}

void weir_parameters_add_text(struct weir_parameters *parameters, const char *text)
{
    weir_parameters_add_slice(parameters, weir_slice_text(text));
}

enum weir_status weir_postgres_ask(PGconn *connection, const char *sql, const struct weir_parameters *parameters,
                                   const char *doing, PGresult **ret_result, struct weir_error *reterr)
{
    static const int binary[WEIR_PARAMETERS_MAX] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                                    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    static const struct weir_parameters none;

    if (!parameters)
        parameters = &none;
    PGresult *result =
        PQexecParams(connection, sql, parameters->count, NULL, parameters->values, parameters->lengths, binary, 1);
    ExecStatusType answer = PQresultStatus(result);
    if (answer != PGRES_TUPLES_OK && answer != PGRES_COMMAND_OK)
        return weir_postgres_failed(connection, result, doing, reterr);
    *ret_result = result;
    return WEIR_OK;
}

enum weir_status weir_postgres_ask_catalog(PGconn *connection, PGresult **ret_result, struct weir_error *reterr)
{
    return weir_postgres_ask(connection,
                             "SELECT catalog::text, catalog_version FROM weir.catalog_versions"
                             " ORDER BY catalog_version DESC LIMIT 1",
                             NULL, "reading the catalog", ret_result, reterr);
}

struct weir_slice weir_postgres_field(const PGresult *result, int row, int column)
{
    return weir_slice_of(PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column));
}

/* 4. the schema */
enum weir_status weir_postgres_check_schema(PGconn *connection, struct weir_error *reterr)
{
    int needed = weir_migrations_newest();
    PGresult *result = NULL;
    enum weir_status status = weir_postgres_ask(connection, "SELECT max(version)::int FROM weir.schema_migrations",
                                                NULL, "looking for the schema", &result, reterr);

    if (status != WEIR_OK)
        return status;
    int found = PQgetisnull(result, 0, 0) ? 0 : weir_get_int4(PQgetvalue(result, 0, 0));
    PQclear(result);
    if (found < needed)
        return weir_fail(reterr, WEIR_FATAL,
                         "PostgreSQL: schema weir is at version %d and this weir needs %d: run `weir "
                         "migrate`",
                         found, needed);
    if (found > needed)
        return weir_fail(reterr, WEIR_FATAL,
                         "PostgreSQL: schema weir is at version %d and this weir knows only %d: "
                         "install the newer weir",
                         found, needed);
    return WEIR_OK;
}

PGconn *weir_postgres_open(const char *url, const char *program, enum weir_status *ret_status,
                           struct weir_error *reterr)
{
    PGconn *connection = weir_postgres_connect(url, program, ret_status, reterr);

    if (connection)
        *ret_status = weir_postgres_check_schema(connection, reterr);
    if (*ret_status == WEIR_OK)
        return connection;
    PQfinish(connection);
    return NULL;
}
