/* Pure pricing: (price, period quantity, events) -> charges, component by component (docs/rating.md 5). No state, no
 * I/O.
 *
 * A charge is a running total. The rater bills the difference of two of them, so line items of a period always add up
 * to price(period total).
 */
#ifndef WEIR_RATER_PRICE_H
#define WEIR_RATER_PRICE_H

#include "common/model/catalog.h"
#include "common/model/line_item.h"

enum { WEIR_CHARGES_MAX = 2 * WEIR_TIERS_MAX + 5 };

struct weir_charge {
    enum weir_component component;
    uint32_t tier; /* from 1; 0: none */
    struct weir_decimal quantity;
    struct weir_decimal amount; /* rounded half-even to 12 places */
    bool has_unit_price;
    struct weir_decimal unit_price;
};

struct weir_charge_list {
    uint32_t count;
    struct weir_charge charges[WEIR_CHARGES_MAX]; /* ascending by (component, tier); never two of the same; zero ones
                                                     may be left out */
};

/* The price with an override's multiplier applied: *ret_price shares everything but its tiers with `price`; tiers has
 * room for price->tier_count. false: overflow. */
bool weir_price_override(const struct weir_price *price, struct weir_decimal multiplier, struct weir_tier *tiers,
                         struct weir_price *ret_price);

/* What a contract takes off each price of a meter, in this order. */
struct weir_discount_list {
    uint32_t count;
    const struct weir_discount *discounts[WEIR_DISCOUNTS_MAX];
};

/* Those under the contract that are for the prices of the meter, in the billing period that begins then. */
void weir_discounts_of(const struct weir_contract *contract, const struct weir_meter *meter, int64_t period_start,
                       struct weir_discount_list *ret_list);
/* What it takes off an amount (>= 0): never more than that. false: it does not fit. */
bool weir_discount_amount(const struct weir_discount *discount, struct weir_decimal amount,
                          struct weir_decimal *ret_taken);

/* false: an amount does not fit; *ret_list is then unspecified. */
bool weir_price_charges(const struct weir_price *price, struct weir_decimal quantity, uint64_t events,
                        struct weir_charge_list *ret_list);

/* Sum of the amounts. */
bool weir_price_total(const struct weir_price *price, struct weir_decimal quantity, uint64_t events,
                      struct weir_decimal *ret_amount);

/* Calls emit for each (component, tier) whose quantity or amount differs, with the difference (unit_price is after's,
 * or before's where after has none). false: a difference does not fit, or emit said false. Either list may be NULL:
 * nothing charged. */
bool weir_charges_difference(const struct weir_charge_list *before, const struct weir_charge_list *after,
                             bool (*emit)(void *context, const struct weir_charge *difference), void *context);

/* What a price's running total costs, from one total to the next. All zero: nothing is charged yet. */
struct weir_running_charges {
    bool is_known;
    bool at;                          /* if is_known: lists[at] is what the total costs */
    struct weir_charge_list lists[2]; /* the other one: the next total's, or of no meaning */
};

/* The total becomes another one: gives emit what weir_charges_difference would of the two totals' charges. false: an
 * amount or a difference does not fit, or emit said false; *running is then unspecified. */
bool weir_price_advance(const struct weir_price *price, struct weir_decimal quantity, uint64_t events,
                        struct weir_running_charges *running,
                        bool (*emit)(void *context, const struct weir_charge *difference), void *context);

#endif
