#include "rater/migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/schemas.h"
#include "rater/postgres.h"
#include "rater/postgres_value.h"

/* weir.schema_migrations is made here and not by a migration, because it says which migrations there were. */
static const char bootstrap[] =
    "BEGIN;"
    "CREATE SCHEMA IF NOT EXISTS weir;"
    "CREATE TABLE IF NOT EXISTS weir.schema_migrations ("
    "    version integer PRIMARY KEY CHECK (version >= 1), name text NOT NULL, checksum text NOT NULL,"
    "    applied_at timestamptz NOT NULL DEFAULT now());"
    "COMMENT ON TABLE weir.schema_migrations IS 'Which versions of this schema were applied. `weir migrate` writes "
    "it.';"
    "COMMENT ON COLUMN weir.schema_migrations.version IS 'Number of the migration.';"
    "COMMENT ON COLUMN weir.schema_migrations.name IS 'What it is about.';"
    "COMMENT ON COLUMN weir.schema_migrations.checksum IS 'SHA-256 of its SQL, so that a change after the fact is "
    "noticed.';"
    "COMMENT ON COLUMN weir.schema_migrations.applied_at IS 'When it was applied.';"
    "COMMIT";

/* Compiling the plans of finance's views takes seconds, running them milliseconds. Role settings would not do: members
 * of a role do not inherit them. Whoever has chosen for this database keeps the choice; who does not own it cannot
 * choose. */
static const char settings[] =
    "DO $$ BEGIN"
    " IF EXISTS (SELECT FROM pg_database AS d WHERE d.datname = current_database() AND pg_has_role(d.datdba, 'USAGE')"
    "            AND NOT EXISTS (SELECT FROM pg_db_role_setting AS s, unnest(s.setconfig) AS c (setting)"
    "                            WHERE s.setdatabase = d.oid AND s.setrole = 0 AND c.setting LIKE 'jit=%')) THEN"
    "  EXECUTE format('ALTER DATABASE %I SET jit = off', current_database());"
    " END IF; "
    "END $$";

#define LOCK_KEY WEIR_LOCK_CLASS ", hashtext('schema weir')"

struct migration_file {
    int version;
    const char *sql;
    char name[WEIR_MIGRATION_NAME_MAX];
    char checksum[WEIR_DIGEST_TEXT_MAX];
};

/* 1. the files */

/* "postgres/0001_ledger.sql" to 1 and "ledger". The build made these names: a wrong one is a defect. */
static bool parse_name(const char *path, struct migration_file *file)
{
    static const char folder[] = "postgres/";
    const char *name = path + strlen(folder);
    size_t length = strlen(path);

    if (strncmp(path, folder, strlen(folder)) != 0 || length < 4 || strcmp(path + length - 4, ".sql") != 0)
        return false;
    char *end;
    file->version = (int)strtol(name, &end, 10);
    size_t rest = strlen(end);
    weir_check(end == name + 4 && *end == '_' && rest > 5 && rest - 5 < WEIR_MIGRATION_NAME_MAX);
    memcpy(file->name, end + 1, rest - 5);
    file->name[rest - 5] = '\0';
    return true;
}

/* Those the binary carries, in order: numbered from 1 without a gap. */
static size_t list_files(struct migration_file files[WEIR_MIGRATIONS_MAX])
{
    size_t count = 0;

    for (const struct weir_schema_file *from = weir_schema_files; from->name; from++) {
        struct migration_file file = {0};
        if (!parse_name(from->name, &file))
            continue;
        weir_check(count < WEIR_MIGRATIONS_MAX && file.version == (int)count + 1);
        file.sql = from->text;
        weir_digest_text(from->text, from->length, file.checksum);
        files[count++] = file;
    }
    weir_check(count > 0);
    return count;
}

int weir_migrations_newest(void)
{
    int newest = 0;

    for (const struct weir_schema_file *from = weir_schema_files; from->name; from++) {
        struct migration_file file = {0};
        if (parse_name(from->name, &file) && file.version > newest)
            newest = file.version;
    }
    return newest;
}

/* 2. what was applied */
static enum weir_status compare_applied(const PGresult *result, const struct migration_file *files, size_t count,
                                        struct weir_migration_list *list, struct weir_error *reterr)
{
    for (int row = 0; row < PQntuples(result); row++) {
        int version = weir_get_int4(PQgetvalue(result, row, 0));
        const char *name = PQgetvalue(result, row, 1), *checksum = PQgetvalue(result, row, 2);
        if (version < 1 || version > (int)count)
            return weir_fail(reterr, WEIR_FATAL,
                             "PostgreSQL: schema weir has migration %d (%s), and this weir knows only %zu: "
                             "install the newer weir",
                             version, name, count);
        if (strcmp(checksum, files[version - 1].checksum) != 0)
            return weir_fail(reterr, WEIR_FATAL,
                             "PostgreSQL: migration %d (%s) is not the one that was applied (checksum %.12s…, "
                             "this weir has %.12s…): use the weir that made this schema, or one released "
                             "after it",
                             version, name, checksum, files[version - 1].checksum);
        list->migrations[version - 1].state = WEIR_MIGRATION_APPLIED_BEFORE;
        list->migrations[version - 1].applied_at = weir_get_time(PQgetvalue(result, row, 3));
    }
    return WEIR_OK;
}

static enum weir_status read_applied(PGconn *connection, const struct migration_file *files, size_t count,
                                     struct weir_migration_list *list, struct weir_error *reterr)
{
    PGresult *result = NULL;
    enum weir_status status = weir_postgres_ask(connection, "SELECT to_regclass('weir.schema_migrations') IS NOT NULL",
                                                NULL, "looking for the schema", &result, reterr);

    if (status != WEIR_OK)
        return status;
    bool is_there = *PQgetvalue(result, 0, 0);
    PQclear(result);
    if (!is_there)
        return WEIR_OK;
    status = weir_postgres_ask(connection,
                               "SELECT version, name, checksum, applied_at FROM weir.schema_migrations ORDER BY 1",
                               NULL, "reading the migrations that were applied", &result, reterr);
    if (status != WEIR_OK)
        return status;
    status = compare_applied(result, files, count, list, reterr);
    PQclear(result);
    return status;
}

/* 3. applying */
static enum weir_status apply_file(PGconn *connection, const struct migration_file *file,
                                   struct weir_migration *migration, struct weir_error *reterr)
{
    char doing[128];
    struct weir_buffer version = {0};
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    snprintf(doing, sizeof doing, "migration %d (%s)", file->version, file->name);
    enum weir_status status = weir_postgres_run(connection, "BEGIN", doing, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_run(connection, file->sql, doing, reterr);
    if (status == WEIR_OK) {
        weir_put_int4(&version, file->version);
        weir_parameters_add(&parameters, version.data + 4, 4);
        weir_parameters_add_text(&parameters, file->name);
        weir_parameters_add_text(&parameters, file->checksum);
        status = weir_postgres_ask(connection,
                                   "INSERT INTO weir.schema_migrations (version, name, checksum)"
                                   " VALUES ($1, $2::text, $3::text) RETURNING applied_at",
                                   &parameters, doing, &result, reterr);
    }
    weir_buffer_free(&version);
    if (status == WEIR_OK) {
        migration->applied_at = weir_get_time(PQgetvalue(result, 0, 0));
        PQclear(result);
        status = weir_postgres_run(connection, "COMMIT", doing, reterr);
    }
    if (status == WEIR_OK)
        migration->state = WEIR_MIGRATION_APPLIED_NOW;
    else
        (void)weir_postgres_run(connection, "ROLLBACK", doing, NULL);
    return status;
}

static enum weir_status apply_pending(PGconn *connection, const struct migration_file *files, size_t count,
                                      struct weir_migration_list *list, struct weir_error *reterr)
{
    /* Held by the session: it goes when the connection does. Whoever comes second waits, and then finds nothing to do.
     */
    enum weir_status status =
        weir_postgres_run(connection, "SET lock_timeout = 0; SELECT pg_advisory_lock(" LOCK_KEY ")",
                          "waiting for another weir migrate", reterr);

    if (status == WEIR_OK)
        status = read_applied(connection, files, count, list, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_run(connection, bootstrap, "making schema weir", reterr);
    for (size_t i = 0; i < count && status == WEIR_OK; i++)
        if (list->migrations[i].state == WEIR_MIGRATION_PENDING)
            status = apply_file(connection, &files[i], &list->migrations[i], reterr);
    if (status == WEIR_OK)
        status = weir_postgres_run(connection, settings, "setting the database up", reterr);
    return status;
}

enum weir_status weir_grant_roles(const char *url, struct weir_error *reterr)
{
    const struct weir_schema_file *file = weir_schema_files;
    enum weir_status status;

    while (file->name && strcmp(file->name, "roles.sql") != 0)
        file++;
    weir_check(file->name);
    PGconn *connection = weir_postgres_open(url, "weir migrate", &status, reterr);
    if (!connection)
        return status;
    status = weir_postgres_run(connection, "SET lock_timeout = 0; BEGIN; SELECT pg_advisory_xact_lock(" LOCK_KEY ")",
                               "waiting for another weir migrate", reterr);
    if (status == WEIR_OK)
        status = weir_postgres_run(connection, file->text, "giving roles their rights", reterr);
    if (status == WEIR_OK)
        status = weir_postgres_run(connection, "COMMIT", "giving roles their rights", reterr);
    PQfinish(connection);
    return status;
}

enum weir_status weir_migrate(const char *url, bool dry_run, struct weir_migration_list *ret_list,
                              struct weir_error *reterr)
{
    struct migration_file *files = weir_new_array(WEIR_MIGRATIONS_MAX, sizeof *files);
    size_t count = list_files(files);
    enum weir_status status;

    *ret_list = (struct weir_migration_list){.count = count};
    for (size_t i = 0; i < count; i++) {
        ret_list->migrations[i].version = files[i].version;
        memcpy(ret_list->migrations[i].name, files[i].name, sizeof files[i].name);
    }
    PGconn *connection = weir_postgres_connect(url, "weir migrate", &status, reterr);
    if (connection)
        status = dry_run ? read_applied(connection, files, count, ret_list, reterr)
                         : apply_pending(connection, files, count, ret_list, reterr);
    PQfinish(connection);
    free(files);
    return status;
}
