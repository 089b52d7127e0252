/* Decoding ahead of counting, on a thread of its own: messages of a batch go in groups through a ring of seats, decoded
 * by the helping thread or by the counting one, whichever comes to a group first, and counted in their order.
 *
 * The counting thread never waits for the helper to begin: a group that nobody has begun it decodes itself. So a helper
 * that gets no core costs nothing, and two threads share a load that neither could carry alone. All functions are for
 * the counting thread.
 */
#ifndef WEIR_CLI_AHEAD_H
#define WEIR_CLI_AHEAD_H

#include "cli/seat.h"

enum { WEIR_AHEAD_GROUP = 16 }; /* messages whose cache misses are waited for together */

struct weir_ahead;

/* has_helper: starts the helping thread, which helps until it is told otherwise. The catalog must outlive it. */
struct weir_ahead *weir_ahead_new(const struct weir_catalog *catalog, bool has_helper);
struct weir_ahead *weir_ahead_free(struct weir_ahead *ahead); /* NULL in, NULL out; no batch is under way */

/* From the next batch on: whether the helper, if there is one, is called. */
void weir_ahead_call_helper(struct weir_ahead *ahead, bool is_called);

/* A batch: items and their messages stay as they are until weir_ahead_end. */
void weir_ahead_begin(struct weir_ahead *ahead, const struct weir_intake_item *items, size_t count);
/* The next group's seats, filled, *ret_count of them; 0: there are no more. They live until the next call. */
struct weir_seat *weir_ahead_next(struct weir_ahead *ahead, size_t *ret_count);
/* Nobody reads the batch any more, whether or not all of it was asked for. */
void weir_ahead_end(struct weir_ahead *ahead);

/* The counting thread's own. */
struct weir_seat_filler *weir_ahead_filler(struct weir_ahead *ahead);

#endif
