/* Pure drawdown: what grants of a customer there are, what its usage costs -> what is drawn from each, and the overage
 * (docs/credits.md 2). No state, no I/O.
 *
 * The answer depends on the sums of the charges alone, never on the order in which they came to be: the rater enters
 * the difference of two answers, so what was entered always adds up to the answer for all that is known.
 */
#ifndef WEIR_RATER_DRAWDOWN_H
#define WEIR_RATER_DRAWDOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/decimal.h"
#include "common/model/catalog.h"

/* What becomes of another grant's rest: its amount is known when that one has expired, and nothing was drawn from it
 * before. Several terms' grants may share one. */
struct weir_rollover {
    const struct weir_decimal *from; /* what is left of the other grant, which applies to usage before `at` alone */
    int64_t at;
    struct weir_decimal fraction; /* of it, rounded half-even to 12 places */
    struct weir_decimal *left;    /* of this one, set when usage of `at` or after asks for it */
    bool is_set;
};

/* An amount that usage of [starts_at, expires_at) is drawn from. Views are the caller's. */
struct weir_grant {
    struct weir_slice key;
    struct weir_slice contract; /* usage under this one alone */
    int64_t terms_at;           /* and under the terms that begin then */
    struct weir_slice currency; /* usage in this one alone */
    struct weir_decimal *left;  /* >= 0, lowered; grants of several terms may share one */
    enum weir_funding funding;
    int64_t priority;
    int64_t starts_at, expires_at;
    bool is_ended; /* before it expires: usage of ends_at and after is not drawn; its place in the order stays */
    int64_t ends_at;
    uint32_t meter_count; /* 0: usage of all meters */
    const struct weir_slice *meters;
    bool has_overage; /* usage that it applies to and nothing covers costs overage_multiplier times as much */
    struct weir_decimal overage_multiplier;
    struct weir_rollover *rollover; /* NULL: its amount is what is left from the start */
};

/* What the usage of a meter costs in one segment: the part of a billing period in which the same grants are to be had.
 */
struct weir_usage_charge {
    struct weir_slice contract;
    int64_t terms_at;
    struct weir_slice meter;
    struct weir_slice currency;
    const struct weir_draw_order *order; /* in which grants are drawn down for it */
    int64_t period_start;
    int64_t segment_start;
    struct weir_decimal amount;
};

/* grant NULL: the overage, which is what comes on top of the charge (below 0 with a multiplier below 1); never 0.
 * Otherwise what is drawn from it, > 0. */
typedef bool weir_draw_taker(void *context, const struct weir_usage_charge *charge, const struct weir_grant *grant,
                             struct weir_decimal amount);

/* Puts the grants in the order in which they are drawn down: by these keys, then by their own. */
void weir_grants_sort(struct weir_grant *grants, size_t count, const struct weir_draw_order *order);

/* Allocates: grants and charges in any order, several charges of one meter and segment adding up. The arrays are worked
 * in: their order and the amounts change. Calls take in the order of time. false: an amount does not fit, or take said
 * so. */
bool weir_draw_down(struct weir_grant *grants, size_t grant_count, struct weir_usage_charge *charges,
                    size_t charge_count, weir_draw_taker *take, void *context);

#endif
