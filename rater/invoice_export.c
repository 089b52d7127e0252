#include "rater/invoice_export.h"

#include <stdio.h>
#include <string.h>

#include "rater/postgres.h"
#include "rater/postgres_value.h"

enum { CELLS_MAX = 64 };

/* 1. a cursor: rows come in parts */

struct reading {
    PGconn *connection;
    const char *doing;
    uint64_t rows;
};

/* The documents that are chosen: $1 whether by name, $2 series, $3 number, $4 customer. */
#define CHOSEN                                                                                                         \
    "(SELECT i.invoice, 'invoice' AS document FROM weir.invoices AS i WHERE CASE WHEN $1::text = '' THEN"              \
    " $4::text IN ('', i.customer) ELSE $2::text = '' AND i.invoice = ($3::text)::bigint END"                          \
    " UNION ALL SELECT n.invoice, n.document FROM weir.invoice_numbers AS n"                                           \
    " WHERE $1::text <> '' AND n.series = $2::text AND n.number = ($3::text)::bigint)"

/* What is named and not there must not pass for one without rows. */
static enum weir_status look(struct reading *reading, const struct weir_invoice_choice *choice,
                             const struct weir_parameters *parameters, bool is_focus, struct weir_error *reterr)
{
    const struct weir_slice asked = choice->name.text;
    PGresult *result = NULL;
    enum weir_status status = weir_postgres_ask(reading->connection,
                                                "SELECT i.number IS NULL, i.state FROM " CHOSEN
                                                " AS c JOIN weir.invoices AS i USING (invoice)",
                                                parameters, reading->doing, &result, reterr);

    if (status == WEIR_OK && PQntuples(result) == 0)
        status = weir_fail(reterr, WEIR_REJECT, "there is no invoice %.*s; `weir invoice list` shows them",
                           (int)asked.length, asked.data);
    else if (status == WEIR_OK && is_focus && *PQgetvalue(result, 0, 0))
        status = weir_fail(reterr, WEIR_REJECT,
                           "invoice %.*s is a %sdraft: FOCUS has what was billed; csv, json and html show drafts",
                           (int)asked.length, asked.data, strcmp(PQgetvalue(result, 0, 1), "void") == 0 ? "void " : "");
    PQclear(result);
    return status;
}

static enum weir_status open_cursor(struct reading *reading, const struct weir_invoice_choice *choice, const char *sql,
                                    bool is_focus, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;
    char number[24];

    (void)snprintf(number, sizeof number, "%lld", (long long)choice->name.number);
    weir_parameters_add_text(&parameters, choice->has_name ? "named" : "");
    weir_parameters_add_slice(&parameters, choice->name.series);
    weir_parameters_add_text(&parameters, number);
    weir_parameters_add_slice(&parameters, choice->customer);
    enum weir_status status = weir_postgres_run(reading->connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                                                reading->doing, reterr);
    if (status == WEIR_OK && choice->has_name)
        status = look(reading, choice, &parameters, is_focus, reterr);
    if (status == WEIR_OK)
        status = weir_postgres_ask(reading->connection, sql, &parameters, reading->doing, &result, reterr);
    PQclear(result);
    return status;
}

/* Calls take for each row until it says no. */
static enum weir_status read_cursor(struct reading *reading,
                                    bool (*take)(void *context, const PGresult *result, int row), void *context,
                                    struct weir_error *reterr)
{
    bool goes_on = true;

    while (goes_on) {
        PGresult *result = PQexec(reading->connection, "FETCH 500 FROM invoices"); /* every type as text */
        if (PQresultStatus(result) != PGRES_TUPLES_OK)
            return weir_postgres_failed(reading->connection, result, reading->doing, reterr);
        int count = PQntuples(result);
        for (int row = -1; row < count && goes_on; row++)
            if (row >= 0 || reading->rows == 0)
                goes_on = take(context, result, row);
        reading->rows += (uint64_t)count;
        goes_on = goes_on && count > 0;
        PQclear(result);
    }
    return WEIR_OK;
}

static enum weir_status read_all(const char *url, const struct weir_invoice_choice *choice, const char *sql,
                                 bool is_focus, bool (*take)(void *context, const PGresult *result, int row),
                                 void *context, struct weir_error *reterr)
{
    enum weir_status status;
    struct reading reading = {.doing = "reading invoices"};

    reading.connection = weir_postgres_open(url, "weir invoice", &status, reterr);
    if (status == WEIR_OK)
        status = open_cursor(&reading, choice, sql, is_focus, reterr);
    if (status == WEIR_OK)
        status = read_cursor(&reading, take, context, reterr);
    PQfinish(reading.connection);
    return status;
}

/* 2. documents */

struct documents {
    bool (*visit)(void *context, struct weir_slice json);
    void *context;
};

/* Row -1 stands for the columns' names. */
static bool take_document(void *context, const PGresult *result, int row)
{
    const struct documents *documents = context;

    return row < 0 || documents->visit(documents->context, weir_postgres_field(result, row, 0));
}

enum weir_status weir_invoice_documents(const char *url, const struct weir_invoice_choice *choice,
                                        bool (*visit)(void *context, struct weir_slice json), void *context,
                                        struct weir_error *reterr)
{
    static const char sql[] =
        "DECLARE invoices CURSOR FOR SELECT weir.invoice_document(c.invoice, c.document)::text FROM " CHOSEN
        " AS c ORDER BY c.invoice, c.document DESC";
    struct documents documents = {visit, context};

    return read_all(url, choice, sql, false, take_document, &documents, reterr);
}

/* 3. rows */

struct rows {
    bool (*visit)(void *context, const struct weir_slice *cells, int count);
    void *context;
};

static bool take_row(void *context, const PGresult *result, int row)
{
    const struct rows *rows = context;
    struct weir_slice cells[CELLS_MAX];
    int count = PQnfields(result);

    weir_check(count <= CELLS_MAX);
    for (int i = 0; i < count; i++)
        cells[i] = row < 0 ? weir_slice_text(PQfname(result, i)) : weir_postgres_field(result, row, i);
    return rows->visit(rows->context, cells, count);
}

#define MOMENT(column) "to_char(" column " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"

enum weir_status weir_invoice_read_rows(const char *url, const struct weir_invoice_choice *choice,
                                        enum weir_invoice_rows kind,
                                        bool (*visit)(void *context, const struct weir_slice *cells, int count),
                                        void *context, struct weir_error *reterr)
{
    static const char lines[] =
        "DECLARE invoices CURSOR FOR SELECT CASE c.document WHEN 'invoice' THEN i.invoice_number ELSE "
        "i.credit_note_number END"
        " AS invoice_number, i.invoice::text, CASE c.document WHEN 'invoice' THEN i.state ELSE c.document END AS state,"
        " i.customer, i.contract, " MOMENT("i.period_start") " AS period_start, " MOMENT(
            "i.period_end") " AS period_end,"
                            " r.line::text, r.is_adjustment::text, r.kind, r.item, r.meter, "
                            "r.dimensions::text, " MOMENT("r.service_start") " AS service_start, " MOMENT(
                                "r.service_end") " AS service_end, r.price_book, r.price_book_version::text, r.model,"
                                                 " r.component, r.tier::text, r.unit_price::text, (s.of * "
                                                 "r.quantity)::text AS quantity,"
                                                 " (s.of * r.amount)::text AS amount, (s.of * r.invoice_amount)::text "
                                                 "AS invoice_amount, i.currency,"
                                                 " CASE c.document WHEN 'invoice' THEN coalesce(o.invoice_number, "
                                                 "o.invoice::text) ELSE i.invoice_number END AS corrected_invoice,"
                                                 " (CASE c.document WHEN 'invoice' THEN r.corrected_line ELSE r.line "
                                                 "END)::text AS corrected_line, r.tax_category, 'not included' AS taxes"
                                                 " FROM " CHOSEN " AS c JOIN weir.invoices AS i USING (invoice) JOIN "
                                                 "weir.invoice_rows AS r USING (invoice)"
                                                 " CROSS JOIN LATERAL (SELECT CASE c.document WHEN 'invoice' THEN 1 "
                                                 "ELSE -1 END AS of) AS s"
                                                 " LEFT JOIN weir.invoices AS o ON o.invoice = r.corrected_invoice "
                                                 "ORDER BY i.invoice, c.document DESC, r.line";
    static const char focus[] =
        "DECLARE invoices CURSOR FOR SELECT f.* FROM weir.invoice_focus AS f WHERE f.\"InvoiceId\" IN (SELECT"
        " weir.invoice_number(n.series, n.number) FROM " CHOSEN " AS c JOIN weir.invoice_numbers AS n"
        " ON n.invoice = c.invoice AND ($1::text = '' OR n.document = c.document))"
        " ORDER BY f.\"InvoiceId\", f.\"x_InvoiceLine\"";
    struct rows rows = {visit, context};
    bool is_focus = kind == WEIR_INVOICE_FOCUS;

    return read_all(url, choice, is_focus ? focus : lines, is_focus, take_row, &rows, reterr);
}
