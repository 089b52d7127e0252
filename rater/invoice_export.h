/* Invoices out of PostgreSQL: as documents (a JSON text each) and as rows of lines, in weir's columns or in those of
 * FOCUS. What they hold is decided in schemas/postgres (weir.invoice_document, weir.invoice_lines, weir.invoice_focus).
 * One thread; memory is bounded, whatever their number.
 */
#ifndef WEIR_RATER_INVOICE_EXPORT_H
#define WEIR_RATER_INVOICE_EXPORT_H

#include "rater/invoices.h"

enum weir_invoice_rows { WEIR_INVOICE_LINES, WEIR_INVOICE_FOCUS };

/* Which invoices: one by its name (of a credit note: that), or all, or all of a customer. */
struct weir_invoice_choice {
    bool has_name;
    struct weir_invoice_name name;
    struct weir_slice customer; /* empty: all */
};

/* Calls visit with each document's JSON; false from it: stop. WEIR_REJECT: the one that is named is not there. */
enum weir_status weir_invoice_documents(const char *url, const struct weir_invoice_choice *choice,
                                        bool (*visit)(void *context, struct weir_slice json), void *context,
                                        struct weir_error *reterr);

/* Calls visit with the columns' names first, then with each row; empty cells are null. An invoice may
 * have no rows, where all that it charged was taken back. Views live for the call. WEIR_REJECT: the one that is named
 * is not there, or is a draft, of which FOCUS has nothing. */
enum weir_status weir_invoice_read_rows(const char *url, const struct weir_invoice_choice *choice,
                                        enum weir_invoice_rows rows,
                                        bool (*visit)(void *context, const struct weir_slice *cells, int count),
                                        void *context, struct weir_error *reterr);

#endif
