/* Shared by draw.c (what is drawn), grants.c (from which grants) and orders.c (what was ordered at run time); nobody
 * else's. */
#ifndef WEIR_RATER_DRAW_INTERNAL_H
#define WEIR_RATER_DRAW_INTERNAL_H

#include "rater/drawdown.h"
#include "rater/rate_internal.h"

/* The contract that a period is of, as the catalog has it at its start; NULL: it has no such terms any more. */
const struct weir_contract *weir_terms_of(const struct weir_catalog *catalog, struct weir_slice customer,
                                          struct weir_slice key, int64_t period_start);

/* The price that a running total is of, under the terms of its period; NULL: they have it no more. */
const struct weir_price *weir_price_of(const struct weir_contract *contract, const struct weir_price_running *running);

/* grants.c: the grants of one customer after another, in the form in which they are drawn down. Kept between customers.
 */
struct weir_grant_book {
    struct weir_rater *rater;
    struct weir_slice customer;
    const struct weir_account *account; /* NULL: it has no orders */
    struct weir_grant *grants;
    size_t count, room;
    struct noted_grant **noted; /* those of the state that the customer has */
    size_t noted_count, noted_room;
    const struct weir_contract **added; /* whose grants are there, but for those per term */
    size_t added_count, added_room;
};

/* With what was ordered for the customer, under whatever terms. */
void weir_grant_book_begin(struct weir_grant_book *book, struct weir_slice customer);
/* What usage under these terms in the billing period that holds the time can be drawn from. */
void weir_grant_book_add(struct weir_grant_book *book, const struct weir_contract *terms, int64_t time);
/* When all is drawn: what is left of those that have ended goes out of them, on into others or back to the customer.
 * false: overflow. */
bool weir_grant_book_end(struct weir_grant_book *book);
void weir_grant_book_free(struct weir_grant_book *book);

#endif
