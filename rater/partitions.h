/* Months' partitions of weir.line_items: made before the first row that needs one, and remembered.
 *
 * A partition is made by a statement of its own and outside of any transaction that writes: then others in need of the
 * same new month wait for an instant, and not for somebody's batch.
 */
#ifndef WEIR_RATER_PARTITIONS_H
#define WEIR_RATER_PARTITIONS_H

#include <stddef.h>
#include <stdint.h>

#include "rater/postgres.h"

/* Zero it before use; free what it holds with weir_partitions_free. */
struct weir_partitions {
    int64_t *months; /* since year 0, those that are there */
    size_t count, room;
};

bool weir_partitions_have(const struct weir_partitions *partitions, int64_t period_start);
/* Notes all that are there: who has many to write asks once. */
enum weir_status weir_partitions_find(struct weir_partitions *partitions, PGconn *connection,
                                      struct weir_error *reterr);
/* The connection is in no transaction. period_start: ns since 1970. */
enum weir_status weir_partitions_make(struct weir_partitions *partitions, PGconn *connection, int64_t period_start,
                                      struct weir_error *reterr);
void weir_partitions_free(struct weir_partitions *partitions);

#endif
