/* `weir apply`: stores a catalog in PostgreSQL, unless it would change history. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/catalog_option.h"
#include "cli/commands.h"
#include "common/log.h"
#include "common/model/catalog_document.h"
#include "common/settings.h"
#include "common/shown.h"
#include "rater/apply.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_APPLY,
    .name = "weir apply",
    .arguments = "--catalog DIR [OPTIONS]",
    .purpose =
        "Checks a catalog, shows what differs from the one before it, and stores it in PostgreSQL as a new version,\n"
        "in one transaction. Refuses what would change history, and says what to do instead. Raters and ingest\n"
        "workers that were started without --catalog read the last version when they start. With --dry-run it only\n"
        "says what would be stored or refused. With --rerate it also stores what changes rated time (lines with !):\n"
        "restart raters, then run weir rerate.",
    .example = "weir apply --catalog deploy/example/catalog --postgres-url postgresql:///weir",
};

static void put_line(const char *before, const char *line)
{
    fputs(before, stdout);
    weir_shown_put(stdout, line);
    putchar('\n');
}

static int tell(const struct weir_apply_report *report, bool dry_run)
{
    bool is_refused = report->outcome == WEIR_APPLY_REFUSED;

    for (size_t i = 0; i < report->count && is_refused; i++)
        weir_log_plain(WEIR_LOG_ERROR, "%s", report->lines[i]);
    for (size_t i = 0; i < report->count && !is_refused; i++)
        put_line("", report->lines[i]);
    for (size_t i = 0; i < report->refused_count; i++)
        put_line("", report->refused[i]);
    for (size_t i = 0; i < report->value_count; i++)
        put_line(i ? "  " : "values:\n  ", report->values[i]);
    if (is_refused)
        weir_log_plain(WEIR_LOG_ERROR, "refused, nothing was stored");
    else if (report->outcome == WEIR_APPLY_UNCHANGED)
        printf("nothing to do: the same as catalog %d, which is in force\n", report->catalog_version);
    else if (dry_run)
        puts("would be stored (dry run)");
    else
        printf("stored as catalog %d\n", report->catalog_version);
    return report->outcome == WEIR_APPLY_REFUSED ? WEIR_EXIT_USAGE : WEIR_EXIT_DONE;
}

static int apply(const struct weir_settings *settings)
{
    struct weir_apply_report report = {0};
    struct weir_error error;
    char *json = NULL;
    size_t length;
    int code = WEIR_EXIT_DONE;
    enum weir_status status = weir_catalog_document(settings->catalog, &json, &length, &error);

    if (status == WEIR_OK)
        status = (settings->rerate ? weir_apply_for_rerating : weir_apply_catalog)(settings->postgres_url, json, length,
                                                                                   settings->dry_run, &report, &error);
    free(json);
    if (status == WEIR_OK)
        code = tell(&report, settings->dry_run);
    else
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    weir_apply_report_free(&report);
    return status == WEIR_OK ? code : status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}

int weir_command_apply(int argc, char **argv)
{
    struct weir_settings settings;
    int code = weir_settings_load(&usage, argc, argv, &settings);

    if (code >= 0)
        return code;
    if (!*settings.catalog) {
        weir_log_plain(WEIR_LOG_ERROR, "no catalog; give --catalog DIR or set WEIR_CATALOG");
        weir_settings_free(&settings);
        return WEIR_EXIT_USAGE;
    }
    /* First as files, so that a mistake is told with the file it stands in. */
    struct weir_catalog *checked = weir_catalog_option(settings.catalog);
    code = checked ? apply(&settings) : WEIR_EXIT_USAGE;
    weir_catalog_free(checked);
    weir_settings_free(&settings);
    return code;
}
