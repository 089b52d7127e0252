/* The writing thread of an ingest worker: takes sealed cuts in order, writes each to the store, sends it back with what
 * became of it. Retries a store that cannot be reached for as long as it takes; before a cut that covers quarantined
 * events it makes sure that their records are durable.
 */
#ifndef WEIR_CLI_WRITER_H
#define WEIR_CLI_WRITER_H

#include "aggregator/lane.h"
#include "cli/worker.h"
#include "ingest/quarantine.h"

/* A cut on its way there and back. Owned by the worker's pool; whoever popped it last may touch it. */
struct weir_flight {
    struct weir_sealed_cut *sealed;
    void *lane;              /* the worker's lane that it was sealed from */
    uint64_t generation;     /* of that lane: a cut of an earlier taking is not for a later one */
    bool has_quarantined;    /* covers quarantined events: their records must be durable first */
    enum weir_status status; /* on the way back: WEIR_OK, WEIR_FENCED, WEIR_FATAL */
    struct weir_error error;
};

struct weir_writer;

/* store, quarantine and gauges must outlive the writer. The thread starts at once. */
struct weir_writer *weir_writer_new(struct weir_window_store *store, struct weir_quarantine *quarantine,
                                    struct weir_worker_gauges *gauges);
/* Stops the thread; nothing may be under way. */
struct weir_writer *weir_writer_free(struct weir_writer *writer);
/* While on, a cut that the store does not take at the first try comes back as FENCED instead of being tried again. */
void weir_writer_abandon(struct weir_writer *writer, bool is_on);

/* Quarantine's flush, with its outage told in the gauges. Any thread. */
enum weir_status weir_flush_quarantine(struct weir_quarantine *quarantine, struct weir_worker_gauges *gauges,
                                       struct weir_error *reterr);

/* The worker's thread only. At most WEIR_CUTS_MAX flights may be under way (checked). */
void weir_writer_send(struct weir_writer *writer, struct weir_flight *flight);
/* NULL: nothing has come back. Flights of one lane come back in the order they were sent. */
struct weir_flight *weir_writer_receive(struct weir_writer *writer);
/* Waits until something may have come back, or timeout_ms. */
void weir_writer_wait(struct weir_writer *writer, int timeout_ms);

#endif
