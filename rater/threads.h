/* Several raters at once, each with a thread and a ledger of its own, so that one writes while another one loads. All
 * that a batch holds of a customer is rated by one of them, always by the same, and so none of them waits for a
 * customer that another one has locked. The batch is not one transaction but at least one of each rater: what becomes
 * of one says nothing of the others.
 *
 * The calling thread reads the next batch meanwhile. Windows go to the threads, and word of them comes back, through
 * rings: whoever has a share in hand owns it. One calling thread, one batch at a time.
 */
#ifndef WEIR_RATER_THREADS_H
#define WEIR_RATER_THREADS_H

#include "rater/rate.h"

enum { WEIR_RATER_THREADS_MAX = 16 };

struct weir_rater_threads;

/* One for each ledger (1 to WEIR_RATER_THREADS_MAX of them), each with at most `batch` windows in a transaction.
 * Catalog and ledgers must outlive the result; tell as for weir_rater_on_refusal, but from any of the threads. */
struct weir_rater_threads *weir_rater_threads_new(
    const struct weir_catalog *catalog, struct weir_ledger *const *ledgers, size_t count, size_t batch,
    void (*tell)(void *context, const struct weir_lane_window *window, struct weir_slice why), void *context);
struct weir_rater_threads *weir_rater_threads_free(struct weir_rater_threads *threads); /* NULL in, NULL out */

/* Begins to rate all windows, sorted by customer and series. The array may be used again at once; what it points at
 * must live until weir_rater_threads_wait. A small batch is rated here and now, by the first rater. */
void weir_rater_threads_start(struct weir_rater_threads *threads, const struct weir_lane_window *windows, size_t count);
/* The end of what was started (once for each). Statuses of weir_rater_rate; with any but WEIR_OK some may be rated all
 * the same, and the same windows again are right. *ret_transactions: how many were committed. reterr: NULL to be told
 * nothing.
 */
enum weir_status weir_rater_threads_wait(struct weir_rater_threads *threads, uint64_t *ret_transactions,
                                         struct weir_error *reterr);

/* For settling. Nothing may be under way, here and below. */
struct weir_rater *weir_rater_threads_first(struct weir_rater_threads *threads);
struct weir_rater_counts weir_rater_threads_counts(const struct weir_rater_threads *threads); /* all raters' */

#endif
