#include "cli/writer.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/ring.h"

enum { RETRY_FIRST_MS = 20, RETRY_MOST_MS = 2000, WAIT_MS = 500 };

static const char holding[] = "cuts cannot be written, holding everything and trying again";

struct weir_writer {
    struct weir_window_store *store;
    struct weir_quarantine *quarantine;
    struct weir_worker_gauges *gauges;
    struct weir_ring outbound, inbound; /* worker -> writer, writer -> worker */
    void *outbound_slots[WEIR_CUTS_MAX], *inbound_slots[WEIR_CUTS_MAX];
    struct weir_bell work, done;
    _Atomic bool is_stopping, is_abandoned;
    pthread_t thread;
};

enum weir_status weir_flush_quarantine(struct weir_quarantine *quarantine, struct weir_worker_gauges *gauges,
                                       struct weir_error *reterr)
{
    enum weir_status status = quarantine->ops->flush(quarantine, reterr);

    if (status == WEIR_RETRY || status == WEIR_AGAIN)
        weir_outage_begin(&gauges->quarantine, holding, reterr->text);
    else if (status == WEIR_OK)
        weir_outage_end(&gauges->quarantine, "quarantine takes records");
    return status;
}

/* One attempt: records of quarantined events first, then the cut that says they were passed. An outage that a cut was
 * given up in is over when quarantine says so, not when a cut comes that needs none of it. */
static enum weir_status write_once(struct weir_writer *writer, struct weir_flight *flight)
{
    enum weir_status status = WEIR_OK;

    if (flight->has_quarantined || weir_outage_is_on(&writer->gauges->quarantine))
        status = weir_flush_quarantine(writer->quarantine, writer->gauges, &flight->error);
    if (status != WEIR_OK)
        return status;
    status = writer->store->ops->write_cut(writer->store, &flight->sealed->cut, &flight->error);
    if (status == WEIR_RETRY || status == WEIR_AGAIN)
        weir_outage_begin(&writer->gauges->store, holding, flight->error.text);
    else
        weir_outage_end(&writer->gauges->store, "the window store takes cuts");
    return status;
}

static enum weir_status write_flight(struct weir_writer *writer, struct weir_flight *flight)
{
    enum weir_status status;
    int pause = RETRY_FIRST_MS;

    while ((status = write_once(writer, flight)) == WEIR_RETRY || status == WEIR_AGAIN) {
        /* relaxed: a flag that somebody looks at now and then; nothing hangs on its order. */
        if (atomic_load_explicit(&writer->is_abandoned, memory_order_relaxed))
            return WEIR_FENCED;
        atomic_fetch_add_explicit(&writer->gauges->cuts_retried, 1, memory_order_relaxed);
        weir_bell_wait(&writer->work, pause);
        pause = pause * 2 < RETRY_MOST_MS ? pause * 2 : RETRY_MOST_MS;
    }
    return status;
}

static void *run(void *context)
{
    struct weir_writer *writer = context;

    for (;;) {
        struct weir_flight *flight = weir_ring_pop(&writer->outbound);
        if (!flight) {
            /* acquire: with the stop comes everything pushed before it, so one more look at the ring is the last. */
            if (atomic_load_explicit(&writer->is_stopping, memory_order_acquire)) {
                if (!(flight = weir_ring_pop(&writer->outbound)))
                    return NULL;
            } else {
                weir_bell_wait(&writer->work, WAIT_MS);
                continue;
            }
        }
        flight->status = write_flight(writer, flight);
        atomic_fetch_add_explicit(flight->status == WEIR_OK ? &writer->gauges->cuts_written
                                                            : &writer->gauges->cuts_fenced,
                                  1, memory_order_relaxed);
        weir_check(weir_ring_push(&writer->inbound, flight));
        weir_bell_ring(&writer->done);
    }
}

struct weir_writer *weir_writer_new(struct weir_window_store *store, struct weir_quarantine *quarantine,
                                    struct weir_worker_gauges *gauges)
{
    struct weir_writer *writer = aligned_alloc(64, (sizeof *writer + 63) / 64 * 64);

    weir_check(writer != NULL);
    memset(writer, 0, sizeof *writer);
    writer->store = store;
    writer->quarantine = quarantine;
    writer->gauges = gauges;
    weir_ring_init(&writer->outbound, writer->outbound_slots, WEIR_CUTS_MAX);
    weir_ring_init(&writer->inbound, writer->inbound_slots, WEIR_CUTS_MAX);
    weir_bell_open(&writer->work);
    weir_bell_open(&writer->done);
    weir_check(pthread_create(&writer->thread, NULL, run, writer) == 0);
    return writer;
}

void weir_writer_abandon(struct weir_writer *writer, bool is_on)
{
    atomic_store_explicit(&writer->is_abandoned, is_on, memory_order_relaxed);
    weir_bell_ring(&writer->work);
}

struct weir_writer *weir_writer_free(struct weir_writer *writer)
{
    if (!writer)
        return NULL;
    atomic_store_explicit(&writer->is_stopping, true, memory_order_release);
    weir_bell_ring(&writer->work);
    pthread_join(writer->thread, NULL);
    weir_bell_close(&writer->work);
    weir_bell_close(&writer->done);
    free(writer);
    return NULL;
}

void weir_writer_send(struct weir_writer *writer, struct weir_flight *flight)
{
    weir_check(weir_ring_push(&writer->outbound, flight));
    weir_bell_ring(&writer->work);
}

struct weir_flight *weir_writer_receive(struct weir_writer *writer)
{
    return weir_ring_pop(&writer->inbound);
}

void weir_writer_wait(struct weir_writer *writer, int timeout_ms)
{
    weir_bell_wait(&writer->done, timeout_ms);
}
