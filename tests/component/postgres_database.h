/* A database of the test's own on a real PostgreSQL, migrated and empty, gone with the test.
 *
 * WEIR_TEST_POSTGRES_URL names a server that the tests may create databases in; without it, one hook starts a private
 * server for the whole program (deploy/local) and another one stops it. */
#ifndef WEIR_TESTS_COMPONENT_POSTGRES_DATABASE_H
#define WEIR_TESTS_COMPONENT_POSTGRES_DATABASE_H

#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rater/migrate.h"

static char postgres_folder[64]; /* of the server that this program started; "": none */

static void postgres_local(const char *command)
{
    char line[512];
    snprintf(line, sizeof line, WEIR_SOURCE_DIR "/deploy/local %s --dir %s >/dev/null 2>&1", command, postgres_folder);
    if (system(line) != 0)
        fprintf(stderr, "%s failed\n", line);
}

static void postgres_start(void)
{
    char line[512], url[512] = "";
    strcpy(postgres_folder, "/tmp/weir-test-XXXXXX");
    if (!mkdtemp(postgres_folder))
        abort();
    postgres_local("up --only postgres --fast");
    snprintf(line, sizeof line,
             "eval \"$(" WEIR_SOURCE_DIR "/deploy/local env --dir %s)\"; printf %%s \"$WEIR_POSTGRES_URL\"",
             postgres_folder);
    FILE *pipe = popen(line, "r");
    if (pipe) {
        if (!fgets(url, sizeof url, pipe))
            url[0] = '\0';
        pclose(pipe);
    }
    setenv("WEIR_TEST_POSTGRES_URL", url, 1);
}

/* The server's url with another database: scheme://user:password@host:port/NAME?options. False: there is no server. */
static bool postgres_url(const char *name, char url[512])
{
    const char *server = getenv("WEIR_TEST_POSTGRES_URL");
    const char *slashes = server ? strstr(server, "://") : NULL;
    const char *path = slashes ? strchr(slashes + 3, '/') : NULL;
    if (!path)
        return false;
    const char *options = strchr(path, '?');
    snprintf(url, 512, "%.*s/%s%s", (int)(path - server), server, name, options ? options : "");
    return true;
}

/* Outside of a test; a failure shows when a test connects. */
static void postgres_say(const char *sql)
{
    PGconn *server = PQconnectdb(getenv("WEIR_TEST_POSTGRES_URL"));
    PQclear(PQexec(server, sql));
    PQfinish(server);
}

/* The variable names a migrated database that those of the tests are copies of. */
#define POSTGRES_TEMPLATE "WEIR_TEST_POSTGRES_TEMPLATE"

/* To migrate is most of what a database costs: once for the program instead of once for each test. */
static void postgres_make_template(void)
{
    static struct weir_migration_list list;
    struct weir_error error;
    char name[64], sql[256], url[512];
    snprintf(name, sizeof name, "weir_template_%d", (int)getpid());
    if (!postgres_url(name, url))
        return;
    setenv(POSTGRES_TEMPLATE, name, 1);
    snprintf(sql, sizeof sql, "CREATE DATABASE %s TEMPLATE template0 ENCODING 'UTF8'", name);
    postgres_say(sql);
    if (weir_migrate(url, false, &list, &error) != WEIR_OK)
        fprintf(stderr, "%s\n", error.text);
}

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    if (!getenv("WEIR_TEST_POSTGRES_URL"))
        postgres_start();
    postgres_make_template();
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    char sql[256];
    (void)stats;
    snprintf(sql, sizeof sql, "DROP DATABASE IF EXISTS %s WITH (FORCE)", getenv(POSTGRES_TEMPLATE));
    postgres_say(sql);
    if (!postgres_folder[0])
        return;
    postgres_local("down --wipe");
    rmdir(postgres_folder);
}

struct database {
    char name[64];
    char url[512];
    PGconn *admin; /* connected to the database itself, for looking at it and bending it */
};

static void database_url(const char *name, char url[512])
{
    cr_assert(postgres_url(name, url),
              "no PostgreSQL: WEIR_TEST_POSTGRES_URL is not set (postgresql://.../DATABASE) and "
              "deploy/local did not start one");
}

static void sql_on(PGconn *connection, const char *sql)
{
    PGresult *result = PQexec(connection, sql);
    ExecStatusType status = PQresultStatus(result);
    cr_assert(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK, "%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
}

static PGconn *connect_to(const char *url)
{
    PGconn *connection = PQconnectdb(url);
    cr_assert_eq(PQstatus(connection), CONNECTION_OK, "%s", PQerrorMessage(connection));
    sql_on(connection, "SET timezone = 'UTC'; SET client_min_messages = warning");
    return connection;
}

static void database_copy(struct database *database, const char *from)
{
    static int number;
    char sql[256];
    memset(database, 0, sizeof *database);
    snprintf(database->name, sizeof database->name, "weir_test_%d_%d", (int)getpid(), number++);
    PGconn *server = connect_to(getenv("WEIR_TEST_POSTGRES_URL") ? getenv("WEIR_TEST_POSTGRES_URL") : "");
    snprintf(sql, sizeof sql, "CREATE DATABASE %s TEMPLATE %s ENCODING 'UTF8' STRATEGY FILE_COPY", database->name,
             from);
    sql_on(server, sql);
    PQfinish(server);
    database_url(database->name, database->url);
    database->admin = connect_to(database->url);
}

static inline void database_make_empty(struct database *database)
{
    database_copy(database, "template0");
}

static inline void database_make(struct database *database)
{
    static struct weir_migration_list list;
    struct weir_error error;
    const char *from = getenv(POSTGRES_TEMPLATE);

    database_copy(database, from ? from : "template0");
    if (!from) /* the runner has no hooks: tests/support/plain_runner.c */
        cr_assert_eq(weir_migrate(database->url, false, &list, &error), WEIR_OK, "%s", error.text);
}

static void database_drop(struct database *database)
{
    char sql[256];
    if (!database->admin)
        return;
    PQfinish(database->admin);
    database->admin = NULL;
    PGconn *server = connect_to(getenv("WEIR_TEST_POSTGRES_URL"));
    snprintf(sql, sizeof sql, "DROP DATABASE %s WITH (FORCE)", database->name);
    sql_on(server, sql);
    PQfinish(server);
}

/* One value as text, the caller's to free. */
static char *ask_text(struct database *database, const char *sql)
{
    PGresult *result = PQexec(database->admin, sql);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s: %s", sql, PQerrorMessage(database->admin));
    cr_assert_eq(PQntuples(result), 1, "%s: %d rows", sql, PQntuples(result));
    char *text = strdup(PQgetvalue(result, 0, 0));
    PQclear(result);
    return text;
}

static inline long ask_number(struct database *database, const char *sql)
{
    char *text = ask_text(database, sql);
    long number = strtol(text, NULL, 10);
    free(text);
    return number;
}

/* Runs what must fail; answers its SQLSTATE. */
static inline const char *sqlstate_of(struct database *database, const char *sql)
{
    static char state[6];
    PGresult *result = PQexec(database->admin, sql);
    const char *found = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    snprintf(state, sizeof state, "%s", found ? found : "");
    PQclear(result);
    return state;
}

#endif
