/* An event against the meters: which ones it matches, and what it adds to each (docs/rating.md 1).
 *
 * An event is judged whole: if one matched meter cannot read it, none counts it.
 */
#ifndef WEIR_INGEST_READING_H
#define WEIR_INGEST_READING_H

#include "common/model/catalog.h"
#include "common/model/event.h"
#include "common/model/reading.h"
#include "common/status.h"

struct weir_reader; /* meters by event type, and scratch for the texts of numbers; one thread's */

struct weir_reader *weir_reader_new(const struct weir_catalog *catalog);
struct weir_reader *weir_reader_free(struct weir_reader *reader);

/* WEIR_OK: ret_readings[0 .. *ret_count) (0: the event matches no meter), in the catalog's meter order; views live
 * until the next call. WEIR_REJECT: *reterr. ret_readings has room for all
 * meters of one event type. */
enum weir_status weir_read_event(struct weir_reader *reader, const struct weir_event *event,
                                 struct weir_reading *ret_readings, uint32_t *ret_count, struct weir_rejection *reterr);

#endif
