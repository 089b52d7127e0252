/* Currencies: which codes there are, and how many places an invoice amount has. */
#ifndef WEIR_COMMON_MODEL_CURRENCY_H
#define WEIR_COMMON_MODEL_CURRENCY_H

#include "common/slice.h"

/* Places of the minor unit (0, 2, 3 or 4) of an active ISO 4217 code in capital letters; -1 for any other text. */
int weir_currency_places(struct weir_slice code);

#endif
