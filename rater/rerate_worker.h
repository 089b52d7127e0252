/* One thread of a rerating: takes customers chunk by chunk, reads what PostgreSQL has of them, prices it again by a
 * rater that begins with nothing, and reports or writes what differs. It owns its connections, its rater and its rows;
 * what all threads read is the job's, and never changes. Inside of rerate.c.
 */
#ifndef WEIR_RATER_RERATE_WORKER_H
#define WEIR_RATER_RERATE_WORKER_H

#include "rater/rerate_write.h"

struct rerate_job {
    const struct weir_rerate_request *request;
    struct rerate_term_minimums minimums;
    int64_t number; /* of the run; 0: nothing is written */
    int catalog_version;
};

struct rerate_worker {
    const struct rerate_job *job;
    PGconn *reader;
    struct rerate_fresh fresh;
    struct rerate_writer writer;   /* of a run that writes */
    PGconn *again;                 /* reads a customer for the second time, and sums; NULL: nobody needed it yet */
    bool is_judging, is_rewriting; /* a run that writes, this customer: for the first time, for the second */
    const struct rerate_chunk *chunk;
    uint64_t windows_before;       /* this customer, in the chunk */
    struct rerate_window *windows; /* of the batch */
    struct weir_lane_window *shares;
    size_t window_count, window_room;
    struct rerate_rows rows;
    struct weir_rerate_counts counts; /* of the chunk */
    struct weir_error error;
};

/* `job` and `rows.arena` are set, all else is zero. Not WEIR_OK: worker->error; it is still to be closed. */
enum weir_status weir_rerate_worker_open(struct rerate_worker *worker);
/* What it has reported stays in `rows`. */
void weir_rerate_worker_close(struct rerate_worker *worker);

/* Customers of one chunk, at most WEIR_RERATE_CHUNK, sorted. Adds to `rows`, and to `counts` what they came to, which
 * the caller takes off. A transaction that was broken off (a deadlock, a lost connection) is tried again from new
 * connections. */
enum weir_status weir_rerate_worker_take(struct rerate_worker *worker, const struct weir_slice *customers,
                                         size_t count);

#endif
