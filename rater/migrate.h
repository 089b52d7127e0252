/* The PostgreSQL schema's versions: the numbered files of schemas/postgres, carried in the binary and applied in order.
 *
 * Each migration is one transaction with its own row in weir.schema_migrations, all under one advisory lock, so that
 * any number of places may migrate at once. What was applied is never applied again, and a file that changed afterwards
 * is refused. And sessions of the database get jit = off, unless it has a setting of its own or another owner.
 */
#ifndef WEIR_RATER_MIGRATE_H
#define WEIR_RATER_MIGRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum { WEIR_MIGRATIONS_MAX = 256, WEIR_MIGRATION_NAME_MAX = 64 };

enum weir_migration_state { WEIR_MIGRATION_PENDING, WEIR_MIGRATION_APPLIED_NOW, WEIR_MIGRATION_APPLIED_BEFORE };

struct weir_migration {
    int version;
    char name[WEIR_MIGRATION_NAME_MAX]; /* "ledger" */
    enum weir_migration_state state;
    int64_t applied_at; /* 0: pending */
};

struct weir_migration_list {
    size_t count;
    struct weir_migration migrations[WEIR_MIGRATIONS_MAX]; /* by version */
};

/* The highest version that this binary carries. */
int weir_migrations_newest(void);

/* Applies what is pending, or, with dry_run, only looks and writes nothing. *ret_list says how each stands; it is
 * filled as far as it went even when the status is not WEIR_OK. WEIR_RETRY: the server cannot be reached, or broke off
 * (what was committed stays). WEIR_FATAL: the schema is newer than this binary, or a migration was altered after it was
 * applied, or failed. */
enum weir_status weir_migrate(const char *url, bool dry_run, struct weir_migration_list *ret_list,
                              struct weir_error *reterr);

/* Makes the roles weir_finance, weir_rater and weir_operator where they are missing, and gives each exactly what
 * schemas/roles.sql says (docs/finance.md), in one transaction. The schema must be this binary's newest. WEIR_RETRY:
 * the server cannot be reached or broke off. WEIR_FATAL: another schema, or who is logged in may not make roles. */
enum weir_status weir_grant_roles(const char *url, struct weir_error *reterr);

#endif
