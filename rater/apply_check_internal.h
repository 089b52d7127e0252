/* What the checks of a new catalog share: rater/apply_check.c has meters, price books and what is missing,
 * apply_check_contract.c contracts, apply_check_orders.c what was ordered. For these alone. */
#ifndef WEIR_RATER_APPLY_CHECK_INTERNAL_H
#define WEIR_RATER_APPLY_CHECK_INTERNAL_H

#include "rater/apply_check.h"

struct apply_check {
    PGconn *connection;
    const struct weir_catalog *before, *after;
    struct weir_apply_report *report;  /* what is refused */
    struct weir_apply_report *history; /* what a rerating or recount could follow; the same, when that is refused too */
    struct weir_error *reterr;
    PGresult *meters, *versions, *contracts; /* that have rated usage; sorted, in binary */
};

/* Texts, then times (nanoseconds), then a number, as parameters of a question that answers one time, or null. */
struct apply_question {
    struct weir_slice texts[2];
    int text_count;
    int64_t times[2];
    int time_count;
    int32_t number;
    bool has_number;
};

/* *ret_time 0: null. */
enum weir_status weir_apply_ask_time(struct apply_check *check, const char *sql, const struct apply_question *question,
                                     int64_t *ret_time);

/* Down to what PostgreSQL keeps of a time; WEIR_TIME_NEVER stays. */
int64_t weir_apply_whole_microseconds(int64_t time);

/* rater/apply_check_orders.c: keys of new commitments, fees and meters that grants were ordered with. */
enum weir_status weir_apply_check_orders(struct apply_check *check);

/* An added or changed contract. is_rated: some period of it was rated. */
enum weir_status weir_apply_check_contract(struct apply_check *check, const struct weir_change *change, bool is_rated);

#endif
