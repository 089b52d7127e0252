/* Which values differ between two catalogs (catalog_document.h), for those who read what an apply would change: one
 * line for each, of entries that are in both. What the differences mean is catalog.h's to say. */
#ifndef WEIR_COMMON_MODEL_CATALOG_VALUES_H
#define WEIR_COMMON_MODEL_CATALOG_VALUES_H

#include <stddef.h>

/* visit: a line such as
 *     contract acme: phases[growth].overrides[0].multiplier: "1" -> "0.5"
 * Members of lists are told by their key, or else by their place from 0; what one side lacks is `none`, and a value of
 * more than WEIR_VALUE_SHOWN bytes is cut. Lines live for the call. Texts that are no JSON have no differences. */
enum { WEIR_VALUE_SHOWN = 160 };
void weir_catalog_values_compare(const char *before, size_t before_length, const char *after, size_t after_length,
                                 void (*visit)(void *context, const char *line), void *context);

#endif
