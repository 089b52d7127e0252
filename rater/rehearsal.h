/* What windows would be charged, and nothing is written: the rater and the ledger as they are, in transactions that
 * only read, lock nobody and are given up. For a dry run of `weir recount`.
 *
 * One connection, opened at once; one thread.
 */
#ifndef WEIR_RATER_REHEARSAL_H
#define WEIR_RATER_REHEARSAL_H

#include "rater/rate.h"
#include "rater/rerate.h"

struct weir_rehearsal;

/* The catalog must outlive the rehearsal. */
enum weir_status weir_rehearsal_open(const char *url, const struct weir_catalog *catalog,
                                     struct weir_rehearsal **ret_rehearsal, struct weir_error *reterr);
struct weir_rehearsal *weir_rehearsal_free(struct weir_rehearsal *rehearsal); /* NULL in, NULL out */

/* As weir_rater_rate. Windows of one customer must come at once, since nothing that they move is kept. */
enum weir_status weir_rehearsal_rate(struct weir_rehearsal *rehearsal, const struct weir_lane_window *windows,
                                     size_t count, struct weir_error *reterr);

/* By customer and item (the windows' meters, and what else moves with them: true-ups, discounts, what is drawn from
 * prepaid amounts): before is what the ledger has of the item in the billing periods that are touched. Views that live
 * as long as the rehearsal; the report is not to be freed. Of its counts `customers`, `changed` and `unpriced` are set.
 */
void weir_rehearsal_report(struct weir_rehearsal *rehearsal, struct weir_rerate_report *ret_report);

/* Windows that would be held or kept out, as nothing tells what they would be charged; *ret_why: of the first that
 * would be kept out, empty if none is. */
uint64_t weir_rehearsal_left_out(const struct weir_rehearsal *rehearsal, struct weir_slice *ret_why);

#endif
