/* Puts many texts into byte order (weir_slice_compare's): a radix sort over the eight bytes behind what all of them
 * begin with, and again within those that are the same there. Texts that are equal stay in the order that they had. */
#ifndef WEIR_COMMON_TEXT_ORDER_H
#define WEIR_COMMON_TEXT_ORDER_H

#include "common/slice.h"

/* ret_order: count positions in texts, in their order. */
void weir_text_order(const struct weir_slice *texts, uint32_t count, uint32_t *ret_order);

#endif
