/* A catalog as one JSON text: what `weir apply` stores, and weir_catalog_parse reads back. */
#ifndef WEIR_COMMON_MODEL_CATALOG_DOCUMENT_H
#define WEIR_COMMON_MODEL_CATALOG_DOCUMENT_H

#include <stddef.h>

#include "common/model/catalog.h"

/* The same files as weir_catalog_load takes, merged into
 * {"meters":[…],"price_books":[…],"contracts":[…],"default_contract":{…}}: compact, entries in the files' order, each
 * as it stands there. *ret_text is the caller's to free. WEIR_REJECT: a file cannot be read or is no JSON object;
 * mistakes in entries are weir_catalog_parse's to find. */
enum weir_status weir_catalog_document(const char *path, char **ret_text, size_t *ret_length,
                                       struct weir_error *reterr);
/* The same text, of a catalog without mistakes, with what is bought as a package priced: its commitment has "amount"
 * and "price" as well. The caller's to free; NULL: nothing is. */
char *weir_catalog_document_price(const char *text, size_t length, const struct weir_catalog *catalog,
                                  size_t *ret_length);

#endif
