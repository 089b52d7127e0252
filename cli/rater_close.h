/* Periods that a rater closes by itself, close.grace after their end (docs/invoices.md 1): every ten minutes, on a
 * thread and a connection of its own, so that nothing waits for it. What it does is rater/close.h's.
 *
 * All calls come from one thread; the metrics' page may read the atomics.
 */
#ifndef WEIR_CLI_RATER_CLOSE_H
#define WEIR_CLI_RATER_CLOSE_H

#include <stdbool.h>

#include "common/settings.h"
#include "common/status.h"

struct weir_rater_closer;

/* Where close.grace is 0s it never does anything. settings outlive it. WEIR_REJECT: the details file. */
enum weir_status weir_rater_closer_new(const struct weir_settings *settings, struct weir_rater_closer **ret_closer,
                                       struct weir_error *reterr);
/* Waits for the customer that is being closed, no longer. NULL in, NULL out. */
struct weir_rater_closer *weir_rater_closer_free(struct weir_rater_closer *closer);

/* tick: begins if it is time; the first time after this rater has_settled something, or a minute, since before there
 * may be nothing to close. now: closes, and waits for it. */
void weir_rater_closer_tick(struct weir_rater_closer *closer, bool has_settled);
enum weir_status weir_rater_closer_now(struct weir_rater_closer *closer, struct weir_error *reterr);

struct weir_rater_closer_counts {
    _Atomic uint64_t issued, failures;
    _Atomic uint64_t left_open; /* the last time */
};
const struct weir_rater_closer_counts *weir_rater_closer_counts(const struct weir_rater_closer *closer);

#endif
