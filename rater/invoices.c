#include "rater/invoices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rater/postgres.h"
#include "rater/postgres_value.h"

/* 1. which one */

bool weir_invoice_name_read(const char *text, struct weir_invoice_name *ret_name)
{
    const char *dash = strrchr(text, '-');
    const char *digits = dash ? dash + 1 : text;
    size_t length = strlen(digits);

    if (length == 0 || length > 18 || strspn(digits, "0123456789") != length || dash == text)
        return false;
    *ret_name = (struct weir_invoice_name){weir_slice_text(text), weir_slice_of(text, dash ? (size_t)(dash - text) : 0),
                                           strtoll(digits, NULL, 10)};
    return true;
}

/* What the SQL calls $1 and $2; its texts live in `number`. */
static void add_name(struct weir_parameters *parameters, const struct weir_invoice_name *name, char number[24])
{
    (void)snprintf(number, 24, "%lld", (long long)name->number);
    weir_parameters_add_slice(parameters, name->series);
    weir_parameters_add_text(parameters, number);
}

#define NAMED                                                                                                          \
    "(SELECT h.invoice FROM weir.invoice_heads AS h WHERE $1::text = '' AND h.invoice = ($2::text)::bigint"            \
    " UNION ALL SELECT n.invoice FROM weir.invoice_numbers AS n WHERE n.series = $1::text"                             \
    " AND n.number = ($2::text)::bigint AND n.document = 'invoice')"

/* 2. what is decided */

/* One row: the state that the invoice had, and the number that was given. */
static enum weir_status decide(const char *url, const struct weir_invoice_name *name, const char *sql,
                               const char *wanted, struct weir_slice third, const char *by, const char *doing,
                               char ret_number[WEIR_INVOICE_NUMBER_MAX], struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;
    char number[24];
    enum weir_status status;
    PGconn *connection = weir_postgres_open(url, "weir invoice", &status, reterr);

    add_name(&parameters, name, number);
    weir_parameters_add_slice(&parameters, third);
    weir_parameters_add_text(&parameters, by);
    if (status == WEIR_OK)
        status = weir_postgres_ask(connection, sql, &parameters, doing, &result, reterr);
    if (status == WEIR_OK && PQntuples(result) == 0)
        status = weir_fail(reterr, WEIR_REJECT, "there is no invoice %.*s; `weir invoice list` shows them",
                           (int)name->text.length, name->text.data);
    else if (status == WEIR_OK && strstr(wanted, PQgetvalue(result, 0, 0)) == NULL)
        status = weir_fail(reterr, WEIR_REJECT, "invoice %.*s is %s already", (int)name->text.length, name->text.data,
                           PQgetvalue(result, 0, 0));
    if (status == WEIR_OK)
        (void)snprintf(ret_number, WEIR_INVOICE_NUMBER_MAX, "%s", PQgetvalue(result, 0, 1));
    PQclear(result);
    PQfinish(connection);
    return status;
}

enum weir_status weir_invoice_finalize(const char *url, const struct weir_invoice_name *name, const char *series,
                                       const char *by, char ret_number[WEIR_INVOICE_NUMBER_MAX],
                                       struct weir_error *reterr)
{
    static const char sql[] = "SELECT i.state, CASE WHEN i.state = 'draft' THEN weir.invoice_number($3::text, "
                              "weir.finalize_invoice(i.invoice,"
                              " $3::text, $4::text)) END FROM weir.invoices AS i WHERE i.invoice IN " NAMED;

    return decide(url, name, sql, "draft", weir_slice_text(series), by, "making an invoice final", ret_number, reterr);
}

enum weir_status weir_invoice_void(const char *url, const struct weir_invoice_name *name, const char *reason,
                                   const char *by, char ret_number[WEIR_INVOICE_NUMBER_MAX], struct weir_error *reterr)
{
    static const char sql[] =
        "SELECT i.state, CASE WHEN i.state <> 'void' THEN (SELECT weir.invoice_number(v.series, v.number)"
        " FROM weir.void_invoice(i.invoice, $4::text, $3::text) AS v) END FROM weir.invoices AS i WHERE i.invoice "
        "IN " NAMED;

    return decide(url, name, sql, "draft final", weir_slice_text(reason), by, "making an invoice void", ret_number,
                  reterr);
}

/* 3. the list */

enum weir_status weir_invoice_list(const char *url, const struct weir_invoice_filter *filter,
                                   void (*visit)(void *context, const struct weir_invoice_entry *entry), void *context,
                                   struct weir_error *reterr)
{
    static const char sql[] =
        "SELECT invoice, coalesce(invoice_number, ''), state, customer, contract, kind, total::text, currency,"
        " coalesce(credit_note_number, ''), period_start, period_end, made_at FROM weir.invoices"
        " WHERE $1::text IN ('', customer) AND $2::text IN ('', state) ORDER BY invoice";
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;
    enum weir_status status;
    PGconn *connection = weir_postgres_open(url, "weir invoice", &status, reterr);

    weir_parameters_add_slice(&parameters, filter->customer);
    weir_parameters_add_slice(&parameters, filter->state);
    if (status == WEIR_OK)
        status = weir_postgres_ask(connection, sql, &parameters, "listing invoices", &result, reterr);
    for (int row = 0; status == WEIR_OK && row < PQntuples(result); row++) {
        const struct weir_invoice_entry entry = {
            .invoice = weir_get_int8(PQgetvalue(result, row, 0)),
            .number = weir_postgres_field(result, row, 1),
            .state = weir_postgres_field(result, row, 2),
            .customer = weir_postgres_field(result, row, 3),
            .contract = weir_postgres_field(result, row, 4),
            .kind = weir_postgres_field(result, row, 5),
            .total = weir_postgres_field(result, row, 6),
            .currency = weir_postgres_field(result, row, 7),
            .credit_note = weir_postgres_field(result, row, 8),
            .period_start = weir_get_time(PQgetvalue(result, row, 9)),
            .period_end = weir_get_time(PQgetvalue(result, row, 10)),
            .made_at = weir_get_time(PQgetvalue(result, row, 11)),
        };
        visit(context, &entry);
    }
    PQclear(result);
    PQfinish(connection);
    return status;
}
