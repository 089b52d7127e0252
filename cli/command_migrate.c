/* `weir migrate`: creates or upgrades the PostgreSQL schema. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/listing.h"
#include "common/calendar.h"
#include "common/log.h"
#include "common/settings.h"
#include "rater/migrate.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_MIGRATE,
    .name = "weir migrate",
    .arguments = "[OPTIONS]",
    .purpose =
        "Creates or upgrades schema weir in PostgreSQL: each migration in a transaction, in order, and none twice.\n"
        "Harmless to repeat, and to run from several places at once. With --dry-run it only shows how things stand.\n"
        "With --roles it also makes the roles weir_finance, weir_rater and weir_operator, and gives each what it "
        "needs.",
    .example = "weir migrate --roles --postgres-url postgresql:///weir",
};

static bool print_table(const struct weir_migration_list *list)
{
    static const char *const states[] = {
        [WEIR_MIGRATION_PENDING] = "pending",
        [WEIR_MIGRATION_APPLIED_NOW] = "applied now",
        [WEIR_MIGRATION_APPLIED_BEFORE] = "applied before",
    };
    static const struct weir_column columns[] = {
        {"version", WEIR_CELL_NUMBER, false},
        {"name", WEIR_CELL_TEXT, false},
        {"state", WEIR_CELL_TEXT, false},
        {"applied_at", WEIR_CELL_TEXT, true},
    };
    struct weir_listing listing = weir_listing_begin("table", columns, sizeof columns / sizeof *columns);

    for (size_t i = 0; i < list->count; i++) {
        const struct weir_migration *migration = &list->migrations[i];
        char version[16], time[WEIR_TIME_TEXT_MAX] = "";
        (void)snprintf(version, sizeof version, "%d", migration->version);
        if (migration->applied_at)
            weir_time_format(migration->applied_at, time);
        const struct weir_slice cells[] = {weir_slice_text(version), weir_slice_text(migration->name),
                                           weir_slice_text(states[migration->state]), weir_slice_text(time)};
        weir_listing_add(&listing, cells);
    }
    return weir_listing_end(&listing, true);
}

int weir_command_migrate(int argc, char **argv)
{
    struct weir_settings settings;
    struct weir_error error;
    int parsed = weir_settings_load(&usage, argc, argv, &settings);

    if (parsed >= 0)
        return parsed;
    struct weir_migration_list *list = weir_new(sizeof *list);
    enum weir_status status = weir_migrate(settings.postgres_url, settings.dry_run, list, &error);
    if (status == WEIR_OK && !print_table(list))
        status = weir_fail(&error, WEIR_FATAL, "the list cannot be written; what was migrated is migrated");
    if (status == WEIR_OK && settings.roles && !settings.dry_run)
        status = weir_grant_roles(settings.postgres_url, &error);
    if (status == WEIR_OK && settings.roles)
        printf("weir migrate: roles weir_finance, weir_rater, weir_operator %s\n",
               settings.dry_run ? "would be given their rights" : "have their rights");
    if (status != WEIR_OK)
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    free(list);
    weir_settings_free(&settings);
    return status == WEIR_OK ? WEIR_EXIT_DONE : WEIR_EXIT_FAILED;
}
