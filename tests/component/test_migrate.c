/* weir migrate on a real PostgreSQL: from nothing, again, from several places at once, and what it refuses. */
#include <pthread.h>

#include "postgres_database.h"
#include "rater/ledger.h"

static struct database database;

static void drop_database(void)
{
    database_drop(&database);
} /* also after a failed assertion */

TestSuite(migrate, .fini = drop_database, .timeout = 600);

static size_t count_state(const struct weir_migration_list *list, enum weir_migration_state state)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++)
        count += list->migrations[i].state == state;
    return count;
}

Test(migrate, from_nothing_and_again)
{
    static struct weir_migration_list list;
    struct weir_error error;

    database_make_empty(&database);
    cr_assert_eq(weir_migrate(database.url, true, &list, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(count_state(&list, WEIR_MIGRATION_PENDING), list.count);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM pg_namespace WHERE nspname = 'weir'"), 0,
                 "a dry run wrote");
    cr_assert_eq(weir_migrate(database.url, false, &list, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(count_state(&list, WEIR_MIGRATION_APPLIED_NOW), list.count);
    cr_assert_geq(list.count, 3);
    cr_assert_eq((int)list.count, weir_migrations_newest());
    for (size_t i = 0; i < list.count; i++)
        cr_assert(list.migrations[i].version == (int)i + 1 && list.migrations[i].applied_at > 0);
    char *before =
        ask_text(&database, "SELECT string_agg(m::text, ' ' ORDER BY version) FROM weir.schema_migrations m");
    for (int dry_run = 0; dry_run < 2; dry_run++) {
        cr_assert_eq(weir_migrate(database.url, dry_run, &list, &error), WEIR_OK, "%s", error.text);
        cr_assert_eq(count_state(&list, WEIR_MIGRATION_APPLIED_BEFORE), list.count);
    }
    char *after = ask_text(&database, "SELECT string_agg(m::text, ' ' ORDER BY version) FROM weir.schema_migrations m");
    cr_assert_str_eq(after, before);
    free(before);
    free(after);
}

struct runner {
    const char *url;
    struct weir_migration_list list;
    enum weir_status status;
    struct weir_error error;
};

static void *run(void *context)
{
    struct runner *runner = context;
    runner->status = weir_migrate(runner->url, false, &runner->list, &runner->error);
    return NULL;
}

Test(migrate, at_once)
{
    enum { RUNNERS = 5 };
    static struct runner runners[RUNNERS];
    pthread_t threads[RUNNERS];
    size_t now = 0;

    database_make_empty(&database);
    for (int i = 0; i < RUNNERS; i++) {
        runners[i].url = database.url;
        pthread_create(&threads[i], NULL, run, &runners[i]);
    }
    for (int i = 0; i < RUNNERS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_eq(runners[i].status, WEIR_OK, "%s", runners[i].error.text);
        cr_assert_eq(count_state(&runners[i].list, WEIR_MIGRATION_PENDING), 0);
        now += count_state(&runners[i].list, WEIR_MIGRATION_APPLIED_NOW);
    }
    cr_assert_eq(now, runners[0].list.count, "each migration is applied once");
}

/* A migration that fails leaves nothing of itself, and those before it stay. */
Test(migrate, goes_on_after_a_failure)
{
    static struct weir_migration_list list;
    struct weir_error error;

    database_make_empty(&database);
    sql_on(database.admin, "CREATE SCHEMA weir; CREATE TABLE weir.contracts (somebody_elses int)");
    cr_assert_eq(weir_migrate(database.url, false, &list, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "migration 2 (catalog)") && strstr(error.text, "already exists"), "%s", error.text);
    cr_assert_eq(ask_number(&database, "SELECT max(version) FROM weir.schema_migrations"), 1);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM pg_class WHERE relname = 'catalog_versions'"), 0);
    sql_on(database.admin, "DROP TABLE weir.contracts");
    cr_assert_eq(weir_migrate(database.url, false, &list, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(list.migrations[0].state, WEIR_MIGRATION_APPLIED_BEFORE);
    cr_assert_eq(list.migrations[1].state, WEIR_MIGRATION_APPLIED_NOW);
}

static void refuses(const char *change, const char *says)
{
    static struct weir_migration_list list;
    struct weir_error error = {{0}};

    database_make(&database);
    sql_on(database.admin, change);
    for (int dry_run = 0; dry_run < 2; dry_run++) {
        cr_assert_eq(weir_migrate(database.url, dry_run, &list, &error), WEIR_FATAL, "%s", change);
        cr_assert(strstr(error.text, says) && !strchr(error.text, '\n'), "%s", error.text);
    }
}

Test(migrate, a_newer_schema)
{
    struct weir_ledger *ledger = NULL;
    struct weir_error error = {{0}};

    refuses("INSERT INTO weir.schema_migrations VALUES (9000, 'from the future', '')", "install the newer weir");
    cr_assert_eq(weir_ledger_postgres_open(database.url, &ledger, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "newer weir"), "%s", error.text);
}

Test(migrate, an_altered_migration)
{
    refuses("UPDATE weir.schema_migrations SET checksum = 'other' WHERE version = 2",
            "migration 2 (catalog) is not the one that was applied");
}

Test(migrate, an_older_schema_is_told)
{
    struct weir_ledger *ledger = NULL;
    struct weir_error error = {{0}};

    database_make(&database);
    sql_on(database.admin,
           "DELETE FROM weir.schema_migrations WHERE version = (SELECT max(version) FROM weir.schema_migrations)");
    cr_assert_eq(weir_ledger_postgres_open(database.url, &ledger, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "run `weir migrate`"), "%s", error.text);
}

Test(migrate, no_server)
{
    static struct weir_migration_list list;
    struct weir_error error = {{0}};

    cr_assert_eq(weir_migrate("postgresql://127.0.0.1:1/weir", false, &list, &error), WEIR_RETRY);
    cr_assert(strstr(error.text, "127.0.0.1"), "%s", error.text);
}
