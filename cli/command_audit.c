/* `weir audit`: the log of who changed what the ledger rests on, and the proof that it was not altered. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/listing.h"
#include "common/calendar.h"
#include "common/log.h"
#include "common/settings.h"
#include "common/shown.h"
#include "rater/audit.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_AUDIT,
    .name = "weir audit",
    .arguments = "[OPTIONS] verify|list",
    .purpose =
        "verify reads the whole audit log, works its chain of hashes out again and holds it against the rows that it\n"
        "tells of: an entry or a row that was removed or altered is named. It ends with the newest entry's mark; keep\n"
        "that somewhere else, and give it to the next verify as --head: then nobody can write the log anew either.\n"
        "list shows the newest entries. Exit status: 0 the log is sound, 1 it is not. docs/audit.md has the rest.",
    .example = "weir audit verify --head 41:6c4f8c1b9a0e3d52f7a1806be2c49d3357f0a8e1d4b6927c58e03fa1b7d2c964",
    .takes_files = true,
};

static bool is_json(const struct weir_settings *settings)
{
    return strcmp(settings->format, "json") == 0;
}

/* 1. verify */

static void print_report(const struct weir_audit_report *report, bool as_json)
{
    size_t told = report->findings < WEIR_AUDIT_FINDINGS_MAX ? (size_t)report->findings : WEIR_AUDIT_FINDINGS_MAX;

    if (as_json) {
        json_t *texts = json_array();
        for (size_t i = 0; i < told; i++)
            json_array_append_new(texts, json_string(report->texts[i]));
        json_t *object = json_pack("{s:I, s:I, s:s, s:I, s:o}", "entries", (json_int_t)report->entries, "head",
                                   (json_int_t)report->head.entry, "hash", report->head.hash, "findings",
                                   (json_int_t)report->findings, "texts", texts);
        weir_check(object != NULL);
        json_dumpf(object, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(object);
        return;
    }
    for (size_t i = 0; i < told; i++) {
        weir_shown_put(stdout, report->texts[i]);
        putchar('\n');
    }
    if (report->findings > told)
        printf("and %" PRIu64 " more\n", report->findings - told);
    printf("weir audit: entries=%" PRIu64 " findings=%" PRIu64 " head=%" PRId64 ":%s\n", report->entries,
           report->findings, report->head.entry, report->head.hash);
}

static enum weir_status verify(const struct weir_settings *settings, const struct weir_audit_mark *kept,
                               bool *ret_is_sound, struct weir_error *reterr)
{
    struct weir_audit_report report = {0};
    enum weir_status status = weir_audit_verify(settings->postgres_url, kept, &report, reterr);

    if (status != WEIR_OK)
        return status;
    print_report(&report, is_json(settings));
    *ret_is_sound = report.findings == 0;
    weir_audit_report_free(&report);
    return WEIR_OK;
}

/* 2. list */

enum { COLUMNS = 7 };
static const struct weir_column columns[COLUMNS] = {
    {"entry", WEIR_CELL_NUMBER, false}, {"at", WEIR_CELL_TEXT, false},    {"action", WEIR_CELL_TEXT, false},
    {"subject", WEIR_CELL_TEXT, false}, {"actor", WEIR_CELL_TEXT, false}, {"role", WEIR_CELL_TEXT, false},
    {"detail", WEIR_CELL_TEXT, false},
};

static void add_row(void *context, const struct weir_audit_entry *entry)
{
    char number[24], at[WEIR_TIME_TEXT_MAX];

    (void)snprintf(number, sizeof number, "%" PRId64, entry->entry);
    weir_time_format(entry->at, at);
    const struct weir_slice cells[COLUMNS] = {
        weir_slice_text(number), weir_slice_text(at), entry->action, entry->subject, entry->actor, entry->role,
        entry->detail,
    };
    weir_listing_add(context, cells);
}

static void print_object(void *context, const struct weir_audit_entry *entry)
{
    char at[WEIR_TIME_TEXT_MAX];

    (void)context;
    weir_time_format(entry->at, at);
    json_t *detail = json_loadb(entry->detail.data, entry->detail.length, 0, NULL);
    json_t *object =
        json_pack("{s:I, s:s, s:s%, s:s%, s:s%, s:s%, s:o, s:s%}", "entry", (json_int_t)entry->entry, "at", at, "actor",
                  entry->actor.data, entry->actor.length, "role", entry->role.data, entry->role.length, "action",
                  entry->action.data, entry->action.length, "subject", entry->subject.data, entry->subject.length,
                  "detail", detail, "hash", entry->hash.data, entry->hash.length);
    weir_check(object != NULL);
    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(object);
}

static enum weir_status list(const struct weir_settings *settings, struct weir_error *reterr)
{
    if (is_json(settings))
        return weir_audit_list(settings->postgres_url, settings->last, print_object, NULL, reterr);
    struct weir_listing listing = weir_listing_begin("table", columns, COLUMNS);
    enum weir_status status = weir_audit_list(settings->postgres_url, settings->last, add_row, &listing, reterr);

    return weir_listing_finish(&listing, status, reterr);
}

/* 3. the command */

/* What is wrong with the words and options together, or NULL. */
static const char *mistake(const struct weir_settings *settings, struct weir_audit_mark *ret_kept)
{
    const char *word = settings->argument_count == 1 ? settings->arguments[0] : "";

    if (strcmp(word, "verify") != 0 && strcmp(word, "list") != 0)
        return "either verify or list is needed, and nothing else";
    if (*settings->head && strcmp(word, "verify") != 0)
        return "--head is for verify";
    if (*settings->head && !weir_audit_mark_read(settings->head, ret_kept))
        return "--head takes ENTRY:HASH as verify prints it, such as 41:6c4f... with all 64 digits";
    return NULL;
}

int weir_command_audit(int argc, char **argv)
{
    struct weir_settings settings;
    struct weir_error error = {{0}};
    struct weir_audit_mark kept = {0};
    bool is_sound = true;
    int parsed = weir_settings_load(&usage, argc, argv, &settings);

    if (parsed >= 0)
        return parsed;
    const char *wrong = mistake(&settings, &kept);
    if (wrong) {
        weir_log_plain(WEIR_LOG_ERROR, "%s", wrong);
        weir_settings_free(&settings);
        return WEIR_EXIT_USAGE;
    }
    enum weir_status status = strcmp(settings.arguments[0], "list") == 0 ? list(&settings, &error)
                                                                         : verify(&settings, &kept, &is_sound, &error);
    if (status != WEIR_OK)
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    weir_settings_free(&settings);
    return status == WEIR_OK && is_sound ? WEIR_EXIT_DONE : WEIR_EXIT_FAILED;
}
