/* What is left of grants, as their entries have it. */
#ifndef WEIR_RATER_BALANCES_H
#define WEIR_RATER_BALANCES_H

#include "common/slice.h"
#include "common/status.h"

/* A grant, or (grant empty) all of a customer's under a contract. Numbers are texts; views live for the call. */
struct weir_balance {
    struct weir_slice customer, contract, grant, funding;
    int64_t starts_at, expires_at; /* WEIR_TIME_NEVER: none */
    struct weir_slice state;       /* active, future, expired, void, refund; empty: of several */
    struct weir_slice granted, drawn, rolled_over, lost, balance, currency;
};

struct weir_balance_entry {
    struct weir_slice customer, contract, grant, number, kind, amount, balance, meter, charged;
    int64_t period_start, segment_start; /* WEIR_TIME_NEVER: of no usage */
    int64_t recorded_at;
};

/* A balance fell to a threshold; grant empty: of all of a contract's grants together. */
struct weir_balance_event {
    struct weir_slice event, customer, contract, grant, threshold, crossing, before, after, currency;
    struct weir_slice cause, cause_grant, cause_entry; /* the entry that did it */
    struct weir_slice rerating;                        /* empty: of none */
    int64_t recorded_at;
};

struct weir_balance_filter {
    struct weir_slice customer, contract; /* empty: all */
    const char *at;                       /* what was recorded by then counts: an RFC 3339 time; "": all of it */
    int64_t after;                        /* events with a number above this */
};

/* By customer, contract and key, the sum of a contract's grants after them. WEIR_RETRY: the server is away. */
enum weir_status weir_balances_list(const char *url, const struct weir_balance_filter *filter,
                                    void (*visit)(void *context, const struct weir_balance *balance), void *context,
                                    struct weir_error *reterr);
/* Every entry, in order. */
enum weir_status weir_balances_list_entries(const char *url, const struct weir_balance_filter *filter,
                                            void (*visit)(void *context, const struct weir_balance_entry *entry),
                                            void *context, struct weir_error *reterr);
/* Customers (empty: all) that have grants, or had any ordered, by name. */
enum weir_status weir_balances_list_customers(const char *url, struct weir_slice customer,
                                              void (*visit)(void *context, struct weir_slice customer), void *context,
                                              struct weir_error *reterr);
/* Events, by number. */
enum weir_status weir_balances_list_events(const char *url, const struct weir_balance_filter *filter,
                                           void (*visit)(void *context, const struct weir_balance_event *event),
                                           void *context, struct weir_error *reterr);

#endif
