/* From a message to a lane: decode, check the time, match and read, count; what cannot be counted goes to quarantine.
 *
 * The one way in, shared by `weir rate` and `weir ingest`. One thread counts; it may have a helper that decodes ahead
 * (cli/ahead.h). Allocates nothing per event.
 */
#ifndef WEIR_CLI_INTAKE_H
#define WEIR_CLI_INTAKE_H

#include <stdatomic.h>

#include "cli/seat.h"
#include "ingest/quarantine.h"

struct weir_intake_counts {
    uint64_t outcomes[WEIR_OUTCOME_FULL];   /* by enum weir_outcome */
    uint64_t rejections[WEIR_REASON_COUNT]; /* by enum weir_reason; they add up to outcomes[REJECTED] */
    uint64_t bytes;                         /* of values */
};

struct weir_intake;

/* catalog and quarantine must outlive the intake. has_helper: with a second thread, which helps until told otherwise.
 */
struct weir_intake *weir_intake_new(const struct weir_catalog *catalog, struct weir_quarantine *quarantine,
                                    bool has_helper);
struct weir_intake *weir_intake_free(struct weir_intake *intake); /* NULL in, NULL out */

/* From the next messages on: whether the second thread, if there is one, is called. */
void weir_intake_call_helper(struct weir_intake *intake, bool is_called);

/* Once *stop is true, or after so many ns (0: never), quarantine that does not take a record is not waited for any
 * longer: take answers WEIR_FATAL. */
void weir_intake_stop_on(struct weir_intake *intake, const _Atomic bool *stop, int64_t patience);

/* Takes messages in order, the more at once the better; of a lane each above the one before. now: wall clock, ns.
 * *ret_taken: how many lanes have moved past theirs, whatever became of it. WEIR_OK: all. WEIR_AGAIN: quarantine is
 * full: flush it and call again with the rest. WEIR_FATAL: *reterr. Nobody reads the messages any more then. */
enum weir_status weir_intake_take(struct weir_intake *intake, struct weir_intake_item *items, size_t count, int64_t now,
                                  size_t *ret_taken, struct weir_error *reterr);

const struct weir_intake_counts *weir_intake_counts(const struct weir_intake *intake);

#endif
