/* The calendars of billing periods in PostgreSQL (weir.calendar_periods): written once, about two years ahead, and
 * never changed, so that a period that was billed stays what it was when a government changes its clocks. What is
 * written there goes before the zone's rules: everyone who rates keeps the catalog's calendars first.
 */
#ifndef WEIR_RATER_CALENDARS_H
#define WEIR_RATER_CALENDARS_H

#include "common/model/catalog.h"
#include "rater/apply.h"
#include "rater/postgres.h"

enum {
    WEIR_CALENDAR_AHEAD_DAYS = 800, /* how far they are written... */
    WEIR_CALENDAR_LEAST_DAYS = 400, /* ...whenever less than this is left */
};

/* Writes what is missing of the catalog's calendars, from their contracts' earliest start on, and gives the catalog all
 * that is written (weir_calendar_keep). In the open transaction, which then holds a lock that others wait for here.
 * dry_run: nothing is written. report (may be NULL) gets a line for each calendar that the system's zone rules would by
 * now cut otherwise. */
enum weir_status weir_calendars_keep(PGconn *connection, struct weir_catalog *catalog, int64_t now, bool dry_run,
                                     struct weir_apply_report *report, struct weir_error *reterr);

/* The same with a connection and transaction of its own. WEIR_RETRY: the server is away. */
enum weir_status weir_calendars_open(const char *url, struct weir_catalog *catalog, bool dry_run,
                                     struct weir_error *reterr);

#endif
