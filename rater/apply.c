#include "rater/apply.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/model/catalog_document.h"
#include "common/model/catalog_values.h"
#include "rater/apply_check.h"
#include "rater/calendars.h"
#include "rater/postgres_value.h"

/* 1. the report */
void weir_apply_say(struct weir_apply_report *report, const char *format, ...)
{
    va_list arguments;
    char line[WEIR_ERROR_TEXT_MAX];

    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    weir_check(length >= 0);
    report->lines = weir_resize(report->lines, report->count + 1, sizeof *report->lines);
    report->lines[report->count++] = weir_copy_text(line, strlen(line));
}

void weir_apply_report_free(struct weir_apply_report *report)
{
    for (size_t i = 0; i < report->count; i++)
        free(report->lines[i]);
    free(report->lines);
    for (size_t i = 0; i < report->value_count; i++)
        free(report->values[i]);
    free(report->values);
    for (size_t i = 0; i < report->refused_count; i++)
        free(report->refused[i]);
    free(report->refused);
    *report = (struct weir_apply_report){0};
}

static void say_phase(struct weir_apply_report *report, const char *sign, const struct weir_contract *phase)
{
    char from[WEIR_TIME_TEXT_MAX];

    weir_time_format(phase->starts_at, from);
    weir_apply_say(report, "  %s phase %.*s from %s%s%.*s", sign, TEXT(phase->phase_key), from,
                   phase->reason.length ? ": " : "", TEXT(phase->reason));
}

static const struct weir_contract *phase_of(const struct weir_contract *contract, struct weir_slice key)
{
    for (uint32_t i = 1; contract && i < contract->phase_count; i++)
        if (weir_slice_equal(contract[i].phase_key, key))
            return &contract[i];
    return NULL;
}

static bool has_phases(const struct weir_contract *before, const struct weir_contract *after)
{
    return before->phase_count > 1 || after->phase_count > 1;
}

/* Phases that are new, gone or at another time, and the terms that are others, with the time from which they are.
 * before NULL: all of it is new. */
static void say_phases(struct weir_apply_report *report, const struct weir_contract *before,
                       const struct weir_contract *after)
{
    struct weir_terms_change change;
    char from[WEIR_TIME_TEXT_MAX];

    for (uint32_t i = 1; before && i < before->phase_count; i++)
        if (!phase_of(after, before[i].phase_key))
            say_phase(report, "-", &before[i]);
    for (uint32_t i = 1; i < after->phase_count; i++) {
        const struct weir_contract *old = phase_of(before, after[i].phase_key);
        if (!old || old->starts_at != after[i].starts_at || !weir_slice_equal(old->reason, after[i].reason))
            say_phase(report, old ? "~" : "+", &after[i]);
    }
    for (int64_t at = 0;
         before && has_phases(before, after) && weir_contract_next_change(before, after, &at, &change);) {
        weir_time_format(change.from, from);
        weir_apply_say(report, "  ~ from %s: %s", from, change.fields);
    }
}

/* Which term another end of a contract that renews is the end of, or cuts. */
static void say_end(struct weir_apply_report *report, const struct weir_contract *before,
                    const struct weir_contract *after)
{
    char end[WEIR_TIME_TEXT_MAX], next[WEIR_TIME_TEXT_MAX];
    struct weir_term term;

    if (after->renews_months == 0
        || (before && before->whole_ends_at == after->whole_ends_at && before->renews_months == after->renews_months))
        return;
    if (after->whole_ends_at == WEIR_TIME_NEVER) {
        weir_apply_say(report, "  ~ renews every %u months", after->renews_months);
        return;
    }
    weir_contract_term_at(after, after->whole_ends_at - 1, &term);
    weir_time_format(term.ends_at, end);
    weir_time_format(term.renews_at, next);
    if (term.ends_at == term.renews_at)
        weir_apply_say(report, "  ~ ends with its term %u, %s: not renewed then", term.number, end);
    else
        weir_apply_say(report, "  ~ ends %s, within its term %u, which would end %s", end, term.number, next);
}

enum { FIELDS_MAX = 256 };

/* What differs; terms only where there are no phases, which are told by themselves. */
static void list_fields(const struct weir_contract *before, const struct weir_contract *after, char *text, size_t size)
{
    struct weir_terms_change change = {0};
    int64_t at = 0;

    weir_contract_changes(before, after, text, size);
    if (!has_phases(before, after))
        (void)weir_contract_next_change(before, after, &at, &change);
    bool says_renews = before->renews_months != after->renews_months && !strstr(change.fields, "renews");
    const char *more[] = {change.fields,
                          before->whole_ends_at != after->whole_ends_at ? "ends_at" : "",
                          says_renews ? "renews" : "",
                          weir_contract_quantity_change(before, after, &at) ? "quantities" : "",
                          weir_contract_low_balance_change(before, after) ? "low_balance" : "",
                          weir_contract_packages_change(before, after) ? "packages" : ""};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (*more[i])
            snprintf(text + strlen(text), size - strlen(text), "%s%s", *text ? ", " : "", more[i]);
}

static void say_contract(struct weir_apply_report *report, const struct weir_change *change, const char *sign)
{
    const struct weir_contract *contract = change->is_removed ? change->before.contract : change->after.contract;
    char fields[FIELDS_MAX] = "";

    if (!change->is_added && !change->is_removed)
        list_fields(change->before.contract, change->after.contract, fields, sizeof fields);
    if (contract->key.length)
        weir_apply_say(report, "%s contract %.*s of %.*s%s%s", sign, TEXT(contract->key), TEXT(contract->customer),
                       *fields ? ": " : "", fields);
    else
        weir_apply_say(report, "%s default_contract%s%s", sign, *fields ? ": " : "", fields);
    if (!change->is_removed && contract->key.length)
        say_end(report, change->is_added ? NULL : change->before.contract, contract);
    if (!change->is_removed)
        say_phases(report, change->is_added ? NULL : change->before.contract, contract);
}

static void say_changes(struct weir_apply_report *report, const struct weir_change_list *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        const struct weir_change *change = &changes->changes[i];
        const char *sign = change->is_added ? "+" : change->is_removed ? "-" : "~";
        if (change->kind == WEIR_CHANGE_METER) {
            const struct weir_meter *meter = change->is_removed ? change->before.meter : change->after.meter;
            weir_apply_say(report, "%s meter %.*s", sign, TEXT(meter->key));
        } else if (change->kind == WEIR_CHANGE_VERSION) {
            const struct weir_price_book_version *version =
                change->is_removed ? change->before.version : change->after.version;
            weir_apply_say(report, "%s price book %.*s version %u", sign, TEXT(version->book->key), version->version);
        } else {
            say_contract(report, change, sign);
        }
    }
}

static void say_refused_changes(struct weir_apply_report *report, const struct weir_change_list *changes)
{
    struct weir_apply_report differs = {0};

    say_changes(&differs, changes);
    report->refused = differs.lines;
    report->refused_count = differs.count;
}

static void say_value(void *context, const char *line)
{
    struct weir_apply_report *report = context;

    report->values = weir_resize(report->values, report->value_count + 1, sizeof *report->values);
    report->values[report->value_count++] = weir_copy_text(line, strlen(line));
}

/* 2. reading */

/* *ret_catalog NULL: none was applied yet. ret_text: NULL, or the text that it was read from, the caller's to free. */
static enum weir_status read_applied(PGconn *connection, struct weir_catalog **ret_catalog, char **ret_text,
                                     int *ret_version, struct weir_error *reterr)
{
    struct weir_mistake_list mistakes = {0};
    PGresult *result = NULL;
    enum weir_status status = weir_postgres_ask_catalog(connection, &result, reterr);

    if (status != WEIR_OK)
        return status;
    *ret_catalog = NULL;
    *ret_version = 0;
    if (PQntuples(result) == 1) {
        *ret_version = weir_get_int4(PQgetvalue(result, 0, 1));
        status = weir_catalog_parse_applied("the applied catalog", PQgetvalue(result, 0, 0),
                                            (size_t)PQgetlength(result, 0, 0), ret_catalog, &mistakes);
        if (status == WEIR_OK && ret_text)
            *ret_text = weir_copy_text(PQgetvalue(result, 0, 0), (size_t)PQgetlength(result, 0, 0));
    }
    if (status != WEIR_OK)
        (void)weir_fail(reterr, status,
                        "the catalog applied as number %d cannot be used by this weir: %s: %s; apply one that "
                        "can",
                        *ret_version, mistakes.mistakes[0].path, mistakes.mistakes[0].text);
    weir_mistake_list_free(&mistakes);
    PQclear(result);
    return status;
}

enum weir_status weir_apply_load_version(const char *url, struct weir_catalog **ret_catalog, int *ret_version,
                                         struct weir_error *reterr)
{
    enum weir_status status;
    PGconn *connection = weir_postgres_open(url, "weir apply", &status, reterr);
    struct weir_catalog *catalog = NULL;
    int version = 0;

    if (!connection)
        return status;
    status = read_applied(connection, &catalog, NULL, &version, reterr);
    PQfinish(connection);
    if (status == WEIR_OK && !catalog)
        return weir_fail(reterr, WEIR_REJECT,
                         "no catalog was applied yet: run `weir apply --catalog DIR`, or give --catalog");
    if (status == WEIR_OK) {
        *ret_catalog = catalog;
        *ret_version = version;
    }
    return status;
}

enum weir_status weir_apply_load_catalog(const char *url, struct weir_catalog **ret_catalog, struct weir_error *reterr)
{
    int version;

    return weir_apply_load_version(url, ret_catalog, &version, reterr);
}

/* 3. storing */

/* A book may be here already, noted by a rater; what applies is what the catalog says. */
static enum weir_status store_books(PGconn *connection, const struct weir_catalog *catalog, struct weir_error *reterr)
{
    static const char *const rounding[] = {[WEIR_HALF_EVEN] = "half_even", [WEIR_HALF_UP] = "half_up"};
    struct weir_buffer columns[4] = {{0}};
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    weir_array_begin(&columns[0], WEIR_PG_TEXT);
    weir_array_begin(&columns[1], WEIR_PG_TEXT);
    weir_array_begin(&columns[2], WEIR_PG_INT4);
    weir_array_begin(&columns[3], WEIR_PG_TEXT);
    for (uint32_t i = 0; i < catalog->book_count; i++) {
        weir_put_text(&columns[0], catalog->books[i].key);
        weir_put_text(&columns[1], catalog->books[i].currency);
        weir_put_int4(&columns[2], catalog->books[i].currency_places);
        weir_put_text(&columns[3], weir_slice_text(rounding[catalog->books[i].rounding]));
    }
    for (int i = 0; i < 4; i++) {
        weir_array_end(&columns[i], catalog->book_count);
        weir_parameters_add(&parameters, columns[i].data, columns[i].length);
    }
    enum weir_status status = weir_postgres_ask(
        connection,
        "INSERT INTO weir.price_books (price_book, currency, currency_places, rounding)"
        " SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::text[]) ON CONFLICT (price_book) DO UPDATE"
        " SET currency = excluded.currency, currency_places = excluded.currency_places, rounding = excluded.rounding",
        &parameters, "storing price books", &result, reterr);
    PQclear(result);
    for (int i = 0; i < 4; i++)
        weir_buffer_free(&columns[i]);
    return status;
}

static enum weir_status store(PGconn *connection, const char *json, size_t length, const struct weir_catalog *catalog,
                              int *ret_version, struct weir_error *reterr)
{
    char sha256[WEIR_DIGEST_TEXT_MAX];
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;
    size_t priced_length = length;
    enum weir_status status = store_books(connection, catalog, reterr);

    if (status != WEIR_OK)
        return status;
    char *priced = weir_catalog_document_price(json, length, catalog, &priced_length);
    weir_digest_text(json, length, sha256);
    weir_parameters_add(&parameters, json, length);
    weir_parameters_add_text(&parameters, sha256);
    weir_parameters_add(&parameters, priced ? priced : json, priced_length);
    status = weir_postgres_ask(connection,
                               "WITH stored AS (INSERT INTO weir.catalog_versions (catalog, sha256)"
                               " VALUES ($1::json, $2::text) RETURNING catalog_version)"
                               " SELECT catalog_version, weir.show_catalog($3::json) FROM stored",
                               &parameters, "storing the catalog", &result, reterr);
    free(priced);
    if (status != WEIR_OK)
        return status;
    *ret_version = weir_get_int4(PQgetvalue(result, 0, 0));
    PQclear(result);
    return WEIR_OK;
}

/* may_rerate: what a rerating can follow is no refusal but told. */
static enum weir_status apply_locked(PGconn *connection, const char *json, size_t length, struct weir_catalog *after,
                                     bool dry_run, bool may_rerate, struct weir_apply_report *report,
                                     struct weir_error *reterr)
{
    struct weir_catalog *before = NULL;
    char *text = NULL;
    struct weir_apply_report history = {0};
    struct weir_change_list changes = {0};
    enum weir_status status = read_applied(connection, &before, &text, &report->catalog_version, reterr);

    if (status != WEIR_OK)
        return status;
    weir_catalog_difference(before, after, &changes);
    report->outcome = changes.count || !before ? WEIR_APPLY_STORED : WEIR_APPLY_UNCHANGED;
    if (report->outcome == WEIR_APPLY_STORED)
        status = weir_apply_check(connection, before, after, &changes, report, may_rerate ? &history : report, reterr);
    if (status == WEIR_OK && report->count)
        report->outcome = WEIR_APPLY_REFUSED;
    if (status == WEIR_OK && text && report->outcome != WEIR_APPLY_UNCHANGED)
        weir_catalog_values_compare(text, strlen(text), json, length, say_value, report);
    if (status == WEIR_OK && report->outcome == WEIR_APPLY_REFUSED)
        say_refused_changes(report, &changes);
    if (status == WEIR_OK && report->outcome == WEIR_APPLY_STORED) {
        say_changes(report, &changes);
        for (size_t i = 0; i < history.count; i++)
            weir_apply_say(report, "! %s", history.lines[i]);
        if (!dry_run)
            status = store(connection, json, length, after, &report->catalog_version, reterr);
    }
    if (status == WEIR_OK && report->outcome != WEIR_APPLY_REFUSED)
        status = weir_calendars_keep(connection, after, weir_time_now(), dry_run, report, reterr);
    weir_apply_report_free(&history);
    weir_change_list_free(&changes);
    weir_catalog_free(before);
    free(text);
    return status;
}

static enum weir_status apply(const char *url, const char *json, size_t length, bool dry_run, bool may_rerate,
                              struct weir_apply_report *ret_report, struct weir_error *reterr)
{
    struct weir_apply_report report = {0};
    struct weir_mistake_list mistakes = {0};
    struct weir_catalog *after = NULL;
    enum weir_status status = weir_catalog_parse("catalog", json, length, &after, &mistakes);

    if (status != WEIR_OK) {
        status =
            weir_fail(reterr, status, "%s: %s; see weir check", mistakes.mistakes[0].path, mistakes.mistakes[0].text);
        weir_mistake_list_free(&mistakes);
        return status;
    }
    PGconn *connection = weir_postgres_open(url, "weir apply", &status, reterr);
    /* One apply at a time; raters go on meanwhile, under the catalog that they started with. */
    if (status == WEIR_OK)
        status = weir_postgres_run(connection,
                                   "BEGIN; SELECT pg_advisory_xact_lock(" WEIR_LOCK_CLASS ", hashtext('weir apply'))",
                                   "waiting for another weir apply", reterr);
    if (status == WEIR_OK)
        status = apply_locked(connection, json, length, after, dry_run, may_rerate, &report, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_run(connection, "COMMIT", "storing the catalog", reterr);
    PQfinish(connection);
    weir_catalog_free(after);
    if (status == WEIR_OK)
        *ret_report = report;
    else
        weir_apply_report_free(&report);
    return status;
}

enum weir_status weir_apply_catalog(const char *url, const char *json, size_t length, bool dry_run,
                                    struct weir_apply_report *ret_report, struct weir_error *reterr)
{
    return apply(url, json, length, dry_run, false, ret_report, reterr);
}

enum weir_status weir_apply_for_rerating(const char *url, const char *json, size_t length, bool dry_run,
                                         struct weir_apply_report *ret_report, struct weir_error *reterr)
{
    return apply(url, json, length, dry_run, true, ret_report, reterr);
}
