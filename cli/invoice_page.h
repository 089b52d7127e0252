/* An invoice, or a credit note, as a page to print: A4, one file that needs nothing else; everything in it is escaped.
 */
#ifndef WEIR_CLI_INVOICE_PAGE_H
#define WEIR_CLI_INVOICE_PAGE_H

#include <stdio.h>

#include "common/slice.h"
#include "common/status.h"

/* json: a document of weir.invoice_document. WEIR_FATAL: it cannot be written, or is none. */
enum weir_status weir_invoice_page(struct weir_slice json, FILE *output, struct weir_error *reterr);

#endif
