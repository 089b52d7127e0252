/* The details file of invoices (docs/invoices.md): who sells, who buys, which tax category an item has. Read once,
 * checked whole; weir.invoice_heads keeps what an invoice was made with. Read by any thread.
 */
#ifndef WEIR_CLI_INVOICE_DETAILS_H
#define WEIR_CLI_INVOICE_DETAILS_H

#include "rater/close.h"

struct weir_details_file;

/* path "": no details. WEIR_REJECT: *reterr names the file, the place and what is needed. WEIR_OK: *ret_file is the
 * caller's, and *ret_details views into it. */
enum weir_status weir_details_open(const char *path, struct weir_details_file **ret_file,
                                   struct weir_invoice_details *ret_details, struct weir_error *reterr);
struct weir_details_file *weir_details_free(struct weir_details_file *file); /* NULL in, NULL out */

#endif
