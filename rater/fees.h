/* What a fee comes to in one billing period (docs/fees.md). Pure: no state, no I/O. */
#ifndef WEIR_RATER_FEES_H
#define WEIR_RATER_FEES_H

#include "common/model/catalog.h"

/* One of the parts that a fee comes to: what is charged from the period's start on, or for a change of its quantity
 * from then on; each until the period's end. */
struct weir_fee_piece {
    int64_t start;
    struct weir_decimal quantity; /* times, or units more (or less) than before */
    struct weir_decimal amount;   /* not quantity x the fee's amount where the piece is not a whole period */
};

/* Calls take for each piece of the fee in the contract's billing period [start, end), by time. false: an amount does
 * not fit, or take said so. */
bool weir_fee_pieces(const struct weir_contract *contract, const struct weir_fee *fee, int64_t start, int64_t end,
                     bool (*take)(void *context, const struct weir_fee_piece *piece), void *context);

/* All pieces together. false: it does not fit. */
bool weir_fee_of_period(const struct weir_contract *contract, const struct weir_fee *fee, int64_t start, int64_t end,
                        struct weir_decimal *ret_quantity, struct weir_decimal *ret_amount);

#endif
