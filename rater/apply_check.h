/* Which entries of a new catalog would change what was rated, for apply.c; and how a line of its report is said, for
 * calendars.c too. */
#ifndef WEIR_RATER_APPLY_CHECK_H
#define WEIR_RATER_APPLY_CHECK_H

#include "rater/apply.h"
#include "rater/catalog_difference.h"
#include "rater/postgres.h"

/* A slice for printf's %.*s. */
#define TEXT(slice) (int)(slice).length, (slice).data

/* Adds a line to the report. */
void weir_apply_say(struct weir_apply_report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* In the open transaction. `before` NULL: no catalog was applied yet. Adds a line to the report for each
 * refusal, and one to history for each change of rated time that a rerating can follow; the two may be the same. */
enum weir_status weir_apply_check(PGconn *connection, const struct weir_catalog *before,
                                  const struct weir_catalog *after, const struct weir_change_list *changes,
                                  struct weir_apply_report *report, struct weir_apply_report *history,
                                  struct weir_error *reterr);

#endif
