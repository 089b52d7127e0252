#include "rater/audit.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/calendar.h"
#include "common/model/catalog_document.h"
#include "rater/postgres.h"
#include "rater/postgres_value.h"

enum { ENTRIES_AT_ONCE = 5000 };

/* Every column that is hashed, as the text that is hashed, in the order of hashing (docs/audit.md); then the hashes. */
enum { ENTRY, AT, ACTOR, ROLE, ACTION, SUBJECT, DETAIL, HASHED_COLUMNS, PREVIOUS_HASH = HASHED_COLUMNS, HASH, NUMBER };
static const char entries_sql[] =
    "SELECT a.entry::text, to_char(a.at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), a.actor, a.role, a.action, a.subject,"
    " a.detail::text, a.previous_hash, a.hash, a.entry AS number FROM weir.audit_log AS a WHERE a.entry > $1"
    " ORDER BY a.entry LIMIT $2";

/* 1. marks */

bool weir_audit_mark_read(const char *text, struct weir_audit_mark *ret_mark)
{
    char *end;
    long long entry = strtoll(text, &end, 10);

    if (entry < 1 || end == text || *end != ':' || strlen(end + 1) != WEIR_DIGEST_TEXT_MAX - 1
        || strspn(end + 1, "0123456789abcdef") != WEIR_DIGEST_TEXT_MAX - 1)
        return false;
    ret_mark->entry = entry;
    memcpy(ret_mark->hash, end + 1, WEIR_DIGEST_TEXT_MAX);
    return true;
}

/* 2. verifying */

static void find(struct weir_audit_report *report, const char *format, ...)
{
    va_list arguments;
    char text[WEIR_ERROR_TEXT_MAX];

    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    weir_check(length >= 0);
    if (report->findings < WEIR_AUDIT_FINDINGS_MAX)
        report->texts[report->findings] = weir_copy_text(text, strlen(text));
    report->findings++;
}

void weir_audit_report_free(struct weir_audit_report *report)
{
    for (size_t i = 0; i < WEIR_AUDIT_FINDINGS_MAX; i++)
        free(report->texts[i]);
    *report = (struct weir_audit_report){0};
}

/* What the entry's hash must be: of the one before it as it was found, so that one altered entry is one finding. */
static void hash_of(const PGresult *result, int row, struct weir_buffer *buffer, char hash[WEIR_DIGEST_TEXT_MAX])
{
    struct weir_slice previous = weir_postgres_field(result, row, PREVIOUS_HASH);

    buffer->length = 0;
    weir_buffer_add(buffer, previous);
    for (int i = 0; i < HASHED_COLUMNS; i++) {
        char head[24];
        struct weir_slice field = weir_postgres_field(result, row, i);
        (void)snprintf(head, sizeof head, "%u:", (unsigned)field.length);
        weir_buffer_add(buffer, weir_slice_text(head));
        weir_buffer_add(buffer, field);
    }
    weir_digest_text(buffer->data, buffer->length, hash);
}

/* One entry: number, link and hash. head is the one before it, and then this one. */
static void check_entry(const PGresult *result, int row, const struct weir_audit_mark *kept, struct weir_buffer *buffer,
                        struct weir_audit_report *report)
{
    static const char first[] = "0000000000000000000000000000000000000000000000000000000000000000";
    char hash[WEIR_DIGEST_TEXT_MAX];
    int64_t entry = weir_get_int8(PQgetvalue(result, row, NUMBER));
    struct weir_slice found = weir_postgres_field(result, row, HASH);

    if (entry != report->head.entry + 1)
        find(report, "entries %" PRId64 " to %" PRId64 " are gone", report->head.entry + 1, entry - 1);
    else if (!weir_slice_equal(weir_postgres_field(result, row, PREVIOUS_HASH),
                               weir_slice_text(entry == 1 ? first : report->head.hash)))
        find(report, "entry %" PRId64 " does not follow from the one before it: one of the two was altered", entry);
    hash_of(result, row, buffer, hash);
    if (!weir_slice_equal(found, weir_slice_text(hash)))
        find(report, "entry %" PRId64 " (%s %s) was altered: its hash is not the one of its columns", entry,
             PQgetvalue(result, row, ACTION), PQgetvalue(result, row, SUBJECT));
    if (entry == kept->entry && !weir_slice_equal(found, weir_slice_text(kept->hash)))
        find(report, "entry %" PRId64 " is not the one that was kept: the log was written anew since", entry);
    report->head.entry = entry;
    (void)snprintf(report->head.hash, sizeof report->head.hash, "%.*s", (int)found.length, found.data);
    report->entries++;
}

static enum weir_status check_entries(PGconn *connection, const struct weir_audit_mark *kept,
                                      struct weir_audit_report *report, struct weir_error *reterr)
{
    struct weir_buffer text = {0};
    enum weir_status status = WEIR_OK;

    for (int rows = ENTRIES_AT_ONCE; rows == ENTRIES_AT_ONCE && status == WEIR_OK;) {
        struct weir_buffer from = {0};
        struct weir_parameters parameters = {0};
        PGresult *result = NULL;
        weir_put_int8(&from, report->head.entry);
        weir_put_int8(&from, ENTRIES_AT_ONCE);
        weir_parameters_add(&parameters, from.data + 4, 8);
        weir_parameters_add(&parameters, from.data + 16, 8);
        status = weir_postgres_ask(connection, entries_sql, &parameters, "reading the audit log", &result, reterr);
        weir_buffer_free(&from);
        rows = status == WEIR_OK ? PQntuples(result) : 0;
        for (int row = 0; row < rows; row++)
            check_entry(result, row, kept, &text, report);
        PQclear(result);
    }
    weir_buffer_free(&text);
    return status;
}

static enum weir_status check_rows(PGconn *connection, struct weir_audit_report *report, struct weir_error *reterr)
{
    PGresult *result = NULL;
    enum weir_status status =
        weir_postgres_ask(connection,
                          "SELECT subject, mismatch FROM weir.audit_mismatches()"
                          " UNION ALL SELECT subject, mismatch FROM weir.rerating_mismatches()"
                          " UNION ALL SELECT subject, mismatch FROM weir.invoice_mismatches()"
                          " UNION ALL SELECT subject, mismatch FROM weir.order_mismatches()"
                          " UNION ALL SELECT subject, mismatch FROM weir.scope_mismatches()"
                          " UNION ALL SELECT subject, mismatch FROM weir.derived_mismatches()"
                          " UNION ALL SELECT subject, mismatch FROM weir.closed_mismatches()"
                          " UNION ALL SELECT subject, mismatch FROM weir.month_mismatches()"
                          " UNION ALL SELECT subject, mismatch FROM weir.posting_mismatches()"
                          " UNION ALL SELECT subject, mismatch FROM weir.lane_mismatches()",
                          NULL, "holding the audit log against what it tells of", &result, reterr);

    if (status != WEIR_OK)
        return status;
    for (int row = 0; row < PQntuples(result); row++)
        find(report, "%s %s", PQgetvalue(result, row, 0), PQgetvalue(result, row, 1));
    PQclear(result);
    return WEIR_OK;
}

/* What a contract buys as a package is shown with what it comes to, which is weir's to work out, not the database's. */
static const char packages_sql[] =
    "SELECT c.contract FROM weir.contracts AS c JOIN weir.shown_contracts($1::json) AS s ON s.contract = c.contract"
    " WHERE (c.commitments, c.phases) IS DISTINCT FROM (s.commitments, s.phases)"
    " AND weir.contract_to_compare(to_jsonb(c)) = weir.contract_to_compare(to_jsonb(s))" /* others are told already */
    " ORDER BY c.contract";

static enum weir_status compare_packages(PGconn *connection, struct weir_slice priced, struct weir_audit_report *report,
                                         struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    weir_parameters_add(&parameters, priced.data, priced.length);
    enum weir_status status = weir_postgres_ask(connection, packages_sql, &parameters,
                                                "holding contracts against their packages", &result, reterr);
    for (int row = 0; status == WEIR_OK && row < PQntuples(result); row++)
        find(report,
             "contract %s has an amount or a price in weir.contracts that is not what its package comes to: restore "
             "its row from a backup",
             PQgetvalue(result, row, 0));
    PQclear(result);
    return status;
}

static enum weir_status check_packages(PGconn *connection, struct weir_audit_report *report, struct weir_error *reterr)
{
    struct weir_mistake_list mistakes = {0};
    struct weir_catalog *catalog = NULL;
    PGresult *result = NULL;
    enum weir_status status = weir_postgres_ask_catalog(connection, &result, reterr);

    if (status != WEIR_OK)
        return status;
    if (PQntuples(result) == 1) {
        struct weir_slice text = weir_postgres_field(result, 0, 0);
        size_t length = 0;
        char *priced = NULL;
        if (weir_catalog_parse_applied("the applied catalog", text.data, text.length, &catalog, &mistakes) != WEIR_OK)
            find(report, "catalog %d cannot be used by this weir, so packages are not compared: %s: %s",
                 weir_get_int4(PQgetvalue(result, 0, 1)), mistakes.mistakes[0].path, mistakes.mistakes[0].text);
        else
            priced = weir_catalog_document_price(text.data, text.length, catalog, &length);
        if (priced)
            status = compare_packages(connection, (struct weir_slice){priced, (uint32_t)length}, report, reterr);
        free(priced);
    }
    weir_mistake_list_free(&mistakes);
    weir_catalog_free(catalog);
    PQclear(result);
    return status;
}

enum weir_status weir_audit_verify(const char *url, const struct weir_audit_mark *kept,
                                   struct weir_audit_report *ret_report, struct weir_error *reterr)
{
    struct weir_audit_report report = {0};
    enum weir_status status;
    PGconn *connection = weir_postgres_open(url, "weir audit", &status, reterr);

    if (!connection)
        return status;
    status =
        weir_postgres_run(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "beginning to read", reterr);
    if (status == WEIR_OK)
        status = check_entries(connection, kept, &report, reterr);
    if (status == WEIR_OK && kept->entry > report.head.entry)
        find(&report, "entries %" PRId64 " to %" PRId64 " are gone: the last one that was kept is beyond the log's end",
             report.head.entry + 1, kept->entry);
    if (status == WEIR_OK)
        status = check_rows(connection, &report, reterr);
    if (status == WEIR_OK)
        status = check_packages(connection, &report, reterr);
    PQfinish(connection);
    if (status == WEIR_OK)
        *ret_report = report;
    else
        weir_audit_report_free(&report);
    return status;
}

/* 3. listing */

enum weir_status weir_audit_list(const char *url, int64_t count,
                                 void (*visit)(void *context, const struct weir_audit_entry *entry), void *context,
                                 struct weir_error *reterr)
{
    struct weir_buffer limit = {0};
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;
    enum weir_status status;
    PGconn *connection = weir_postgres_open(url, "weir audit", &status, reterr);

    if (!connection)
        return status;
    weir_put_int8(&limit, count);
    weir_parameters_add(&parameters, limit.data + 4, 8);
    status = weir_postgres_ask(connection,
                               "SELECT * FROM (SELECT entry, at, actor, role, action, subject, detail::text, hash"
                               " FROM weir.audit_log ORDER BY entry DESC LIMIT $1) AS newest ORDER BY entry",
                               &parameters, "reading the audit log", &result, reterr);
    weir_buffer_free(&limit);
    for (int row = 0; status == WEIR_OK && row < PQntuples(result); row++) {
        const struct weir_audit_entry entry = {
            .entry = weir_get_int8(PQgetvalue(result, row, 0)),
            .at = weir_get_time(PQgetvalue(result, row, 1)),
            .actor = weir_postgres_field(result, row, 2),
            .role = weir_postgres_field(result, row, 3),
            .action = weir_postgres_field(result, row, 4),
            .subject = weir_postgres_field(result, row, 5),
            .detail = weir_postgres_field(result, row, 6),
            .hash = weir_postgres_field(result, row, 7),
        };
        visit(context, &entry);
    }
    PQclear(result);
    PQfinish(connection);
    return status;
}
