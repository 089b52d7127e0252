/* From a message to a lane: decode, check the time, match and read, count; what cannot be counted goes to quarantine.
 *
 * The one way in, shared by `weir rate` and `weir ingest`. One thread. Allocates nothing per event.
 */
#ifndef WEIR_CLI_INTAKE_H
#define WEIR_CLI_INTAKE_H

#include <stdatomic.h>

#include "aggregator/lane.h"
#include "common/model/catalog.h"
#include "ingest/quarantine.h"
#include "ingest/source.h"

struct weir_intake_counts {
    uint64_t outcomes[WEIR_OUTCOME_FULL];   /* by enum weir_outcome */
    uint64_t rejections[WEIR_REASON_COUNT]; /* by enum weir_reason; they add up to outcomes[REJECTED] */
    uint64_t bytes;                         /* of values */
};

struct weir_intake;

/* catalog and quarantine must outlive the intake. */
struct weir_intake *weir_intake_new(const struct weir_catalog *catalog, struct weir_quarantine *quarantine);
struct weir_intake *weir_intake_free(struct weir_intake *intake); /* NULL in, NULL out */

/* Once *stop is true, quarantine that does not take a record is not waited for any longer: take answers WEIR_FATAL. */
void weir_intake_stop_on(struct weir_intake *intake, const _Atomic bool *stop);

enum { WEIR_INTAKE_GROUP = 16 };

/* A message and the lane that it goes to. */
struct weir_intake_item {
    struct weir_lane *lane;
    const struct weir_message *message;
    enum weir_outcome outcome; /* set by take */
};

/* Takes up to WEIR_INTAKE_GROUP messages, in order; as a group, so that they wait for memory together. now: wall clock,
 * ns. *ret_taken: how many lanes have moved past theirs, whatever became of it. WEIR_OK: all. WEIR_AGAIN: quarantine is
 * full: flush it and call again with the rest. WEIR_FATAL: *reterr. */
enum weir_status weir_intake_take(struct weir_intake *intake, struct weir_intake_item *items, size_t count, int64_t now,
                                  size_t *ret_taken, struct weir_error *reterr);

const struct weir_intake_counts *weir_intake_counts(const struct weir_intake *intake);

#endif
