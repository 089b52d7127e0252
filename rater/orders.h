/* Grants at run time: what weir grant, weir void and weir refund order, beside the catalog (docs/credits.md 6).
 *
 * An order is one transaction under the lock of the customer: its row, which names it for good, the segments that its
 * times cut, what it charges, and what is drawn otherwise because of it. The same order again changes nothing.
 */
#ifndef WEIR_RATER_ORDERS_H
#define WEIR_RATER_ORDERS_H

#include "rater/rate.h"

enum weir_order_kind { WEIR_ORDER_GRANT, WEIR_ORDER_VOID, WEIR_ORDER_REFUND };

#define WEIR_ORDER_NOT_SAID INT64_MIN

struct weir_order_request {
    enum weir_order_kind kind;
    struct weir_slice customer;
    struct weir_slice contract; /* empty: the one in force when the grant starts; of an end: the one that has it */
    int64_t at;                 /* of an end: from when on nothing is drawn; WEIR_ORDER_NOT_SAID: now */
    /* key; of a grant all that is prepaid's. starts_at may be WEIR_ORDER_NOT_SAID: now. Whole microseconds. With a
     * package its amount (of one bought whole) and price are 0: the order finds them. */
    struct weir_commitment grant;
    int64_t now;
    const char *reason, *by; /* not empty */
    bool is_dry;             /* checked, worked out, and given up */
};

struct weir_order_result {
    bool was_made; /* false: it was there already */
    char contract[WEIR_KEY_MAX + 1];
    struct weir_decimal left;    /* in the grant */
    struct weir_decimal charged; /* by line items of this order: the price, or below 0 the refund */
    uint64_t line_items;         /* all that the order led to */
};

/* WEIR_REJECT: the order contradicts the catalog, an order of before, or what became of the grant. WEIR_RETRY: the
 * server is away; the same order again is right. WEIR_FATAL. */
enum weir_status weir_rater_order(struct weir_rater *rater, const struct weir_order_request *request,
                                  struct weir_order_result *ret_result, struct weir_error *reterr);

#endif
