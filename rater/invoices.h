/* Invoices as they stand in PostgreSQL: their list, and what an operator decides about one. Making them is
 * rater/close.h's, the rules are in docs/invoices.md. Each call has a connection of its own. One thread.
 */
#ifndef WEIR_RATER_INVOICES_H
#define WEIR_RATER_INVOICES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/slice.h"
#include "common/status.h"

enum { WEIR_INVOICE_NUMBER_MAX = 256 };

/* Which invoice: as it is printed (INV-000012, also INV-12), or a draft's own number (7). */
struct weir_invoice_name {
    struct weir_slice text;   /* as it was asked for */
    struct weir_slice series; /* empty: `number` is weir's own */
    int64_t number;
};
/* false: the text is neither. Views into text. */
bool weir_invoice_name_read(const char *text, struct weir_invoice_name *ret_name);

/* A draft gets its number in the series: INV-000012 into ret_number. WEIR_REJECT: there is no such invoice, or it is no
 * draft. WEIR_RETRY: the server is away. WEIR_FATAL. */
enum weir_status weir_invoice_finalize(const char *url, const struct weir_invoice_name *name, const char *series,
                                       const char *by, char ret_number[WEIR_INVOICE_NUMBER_MAX],
                                       struct weir_error *reterr);

/* Makes an invoice void; of a final one *ret_number is its credit note's number, of a draft empty. As above. */
enum weir_status weir_invoice_void(const char *url, const struct weir_invoice_name *name, const char *reason,
                                   const char *by, char ret_number[WEIR_INVOICE_NUMBER_MAX], struct weir_error *reterr);

/* One of the list; views live for the call. Numbers are empty where there are none. */
struct weir_invoice_entry {
    int64_t invoice;
    struct weir_slice number, state, customer, contract, kind, total, currency, credit_note;
    int64_t period_start, period_end, made_at; /* ns */
};
struct weir_invoice_filter {
    struct weir_slice customer, state; /* empty: all */
};
/* Calls visit for each, in the order in which they were made. */
enum weir_status weir_invoice_list(const char *url, const struct weir_invoice_filter *filter,
                                   void (*visit)(void *context, const struct weir_invoice_entry *entry), void *context,
                                   struct weir_error *reterr);

#endif
