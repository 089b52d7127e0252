/* Inside of rater/close.h: the run (close.c), its threads (close_threads.c), and what a thread does for one customer
 * (close_customer.c). */
#ifndef WEIR_RATER_CLOSE_INTERNAL_H
#define WEIR_RATER_CLOSE_INTERNAL_H

#include <pthread.h>

#include "rater/close.h"
#include "rater/postgres.h"

struct closing {
    const struct weir_close_request *request;
    PGconn *connection; /* the run's: holds its lock. While threads run it is the first one's */
    pthread_mutex_t begins;
    int64_t number;                  /* the run's, guarded by begins while threads run; 0: none yet */
    struct weir_close_counts counts; /* the calling thread's */
};

/* Parameters are texts: every type is cast in the SQL. `through` is two of them, a day and an instant. */
void weir_close_add_through(struct weir_parameters *parameters, const char *through);

/* A connection for one thread; to be finished in any case. */
enum weir_status weir_close_connect(const struct weir_close_request *request, PGconn **ret_connection,
                                    struct weir_error *reterr);

/* The run's number, by which what is made names it; notes the run unless it is noted. Any thread, on a connection of
 * its own. */
enum weir_status weir_close_begin(struct closing *closing, PGconn *connection, int64_t *ret_number,
                                  struct weir_error *reterr);

/* What closing one customer's periods came to; zeroed before use. */
struct closed {
    PGresult *periods;  /* rows of weir.close_books. NULL: there was nothing to do */
    PGresult *kinds;    /* row by row of the same, the invoice's kind */
    PGresult *months;   /* rows of weir.months_left_open. NULL: they were not asked for */
    uint64_t left_open; /* periods, where there was nothing to do */
};
void weir_closed_clear(struct closed *closed);

/* Closes them in one transaction, so that who is told of what was made is told once, and what breaks off has made
 * nothing. Any thread, on a connection of its own. *ret_closed is to be cleared in any case. */
enum weir_status weir_close_customer(struct closing *closing, PGconn *connection, struct weir_slice customer,
                                     struct closed *ret_closed, struct weir_error *reterr);

/* All customers of the list's first column, by the request's workers; what became of each is told by the calling
 * thread in the list's order. WEIR_AGAIN: stopped by the flag. Otherwise the status of the first in that order that
 * could not be closed; what others did meanwhile stays, and is told. */
enum weir_status weir_close_list(struct closing *closing, const PGresult *list, struct weir_error *reterr);

#endif
