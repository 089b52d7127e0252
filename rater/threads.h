/* Several raters at once, each with a thread and a ledger of its own, so that one writes while another one loads. All
 * that a batch holds of a customer is rated by one of them, always by the same, and so none of them waits for a
 * customer that another one has locked. The batch is not one transaction but at least one of each rater: what becomes
 * of one says nothing of the others.
 *
 * The first rater runs on the calling thread. Windows go to the others, and word of them comes back, through rings:
 * whoever has a share in hand owns it. One calling thread.
 */
#ifndef WEIR_RATER_THREADS_H
#define WEIR_RATER_THREADS_H

#include "rater/rate.h"

enum { WEIR_RATER_THREADS_MAX = 16 };

struct weir_rater_threads;

/* One for each ledger (1 to WEIR_RATER_THREADS_MAX of them), each with at most `batch` windows in a transaction.
 * Catalog and ledgers must outlive the result; tell as for weir_rater_on_refusal, but from any of the threads. Statuses
 * of weir_rater_new. */
enum weir_status
weir_rater_threads_new(const struct weir_catalog *catalog, struct weir_ledger *const *ledgers, size_t count,
                       size_t batch,
                       void (*tell)(void *context, const struct weir_lane_window *window, struct weir_slice why),
                       void *context, struct weir_rater_threads **ret_threads, struct weir_error *reterr);
struct weir_rater_threads *weir_rater_threads_free(struct weir_rater_threads *threads); /* NULL in, NULL out */

/* Rates all windows, sorted by customer and series. Statuses of weir_rater_rate; with any but WEIR_OK some may be rated
 * all the same, and the same windows again are right. Small batches are left to the first rater. *ret_transactions: how
 * many were committed. */
enum weir_status weir_rater_threads_rate(struct weir_rater_threads *threads, const struct weir_lane_window *windows,
                                         size_t count, uint64_t *ret_transactions, struct weir_error *reterr);

/* The calling thread's: for settling, between batches. */
struct weir_rater *weir_rater_threads_first(struct weir_rater_threads *threads);
struct weir_rater_counts weir_rater_threads_counts(const struct weir_rater_threads *threads); /* all raters' */

#endif
