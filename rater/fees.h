/* What a fee comes to in one billing period (docs/fees.md). Pure: no state, no I/O. */
#ifndef WEIR_RATER_FEES_H
#define WEIR_RATER_FEES_H

#include "common/model/catalog.h"

/* How often the fee is charged in the contract's billing period [start, end), and what that comes to: amount is not
 * quantity x the fee's amount where the contract's term cuts the period. false: it does not fit. */
bool weir_fee_of_period(const struct weir_contract *contract, const struct weir_fee *fee, int64_t start, int64_t end,
                        struct weir_decimal *ret_quantity, struct weir_decimal *ret_amount);

#endif
