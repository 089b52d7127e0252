/* An ingest worker: source -> lanes -> cuts -> store, with two threads or three. A process has as many workers as
 * `ingest.threads` says (cli/ingest_threads.h), which share nothing but the bound of their memory.
 *
 * The consuming thread polls the source and owns every lane of this worker. Sealed cuts go through a bounded lock-free
 * ring to the writing thread, which writes them in order and sends them back through a second ring. Cut objects come
 * from a fixed pool, so a slow store first fills the ring and then pauses the partitions; the consuming thread never
 * waits for it. The third thread decodes messages before the consuming one counts them (cli/ahead.h), while there are
 * cores to spare: as long as those that are behind, of all the process' workers, have two each.
 *
 * On a mismatch (somebody else took the lane, or the store came back older) the lane is dropped without a write, taken
 * again and read again from its stored offset.
 */
#ifndef WEIR_CLI_WORKER_H
#define WEIR_CLI_WORKER_H

#include <stdatomic.h>

#include "aggregator/lane.h"
#include "cli/intake.h"
#include "cli/outage.h"

enum {
    WEIR_CUTS_MAX = 64,
    WEIR_PARTITIONS_MAX = 65536, /* of a topic */
    WEIR_WORKERS_MAX = 32,       /* of a process */
};

/* The workers of one process, itself among them: all their lanes together must fit into windows_max and ids_max. */
struct weir_worker_peers {
    struct weir_worker_gauges *gauges[WEIR_WORKERS_MAX];
    uint32_t count;
};

struct weir_worker_settings {
    struct weir_lane_settings lane;
    int64_t flush_interval; /* ns: a lane with changes is sealed this often */
    int64_t idle;           /* ns without events, caught up: the lane follows the wall clock */
    uint32_t cuts_max;      /* cuts in flight, 1..WEIR_CUTS_MAX */
    size_t changes_max;     /* changed windows and new ids of a lane that wait for a free cut: then it is paused */
    int64_t hand_over;      /* ns: how long a revoked or stopping worker tries to write its last cuts; then the next
                             * owner reads again */
    int64_t cores;          /* that the process may use, for all its workers; 1: no third thread */
    bool until_end;
    int64_t patience; /* ns; until_end: how long the store, or the topic of admitted events, may be away */
    const struct weir_kafka_settings *admitted; /* the topic of admitted events, which lanes must know of. NULL: none,
                                                   or it is that topic which is ingested. Must outlive the worker */
    const struct weir_worker_peers *peers; /* complete before any of them runs, and outlives them. They show nothing of
                                              themselves but gauges. NULL: alone, and it shows readiness and progress */
};

/* Of one lane. */
struct weir_lane_gauges {
    char labels[WEIR_LANE_NAME_MAX + 8]; /* lane="events:3" */
    _Atomic bool is_ours, is_paused;
    _Atomic int64_t lag, watermark; /* offsets, -1: not known; ns */
    _Atomic uint64_t unsealed;
};

/* Written by the worker's threads with relaxed atomics, read by anyone (metrics). */
struct weir_worker_gauges {
    _Atomic uint64_t lanes, windows, ids, lane_bytes;
    _Atomic uint64_t cuts_written, cuts_retried, cuts_fenced, cuts_in_flight, lanes_paused;
    _Atomic uint64_t outcomes[WEIR_OUTCOME_FULL];
    _Atomic uint64_t rejections[WEIR_REASON_COUNT];
    _Atomic uint64_t bytes;
    _Atomic uint64_t gaps[WEIR_GAP_KIND_COUNT]; /* found by this worker */
    _Atomic int64_t watermark;                  /* the lowest of this worker's lanes, ns */
    _Atomic uint64_t cuts_max, quarantine_backlog;
    _Atomic bool is_behind;     /* the last poll brought as much as one can */
    _Atomic int64_t clock_jump; /* ns that the system's clock is ahead of the steady one */
    struct weir_outage store, quarantine;
    _Atomic(const char *) source_trouble;             /* NULL: none */
    _Atomic uint64_t lanes_waiting;                   /* to be taken */
    _Atomic(struct weir_lane_gauges *) *by_partition; /* WEIR_PARTITIONS_MAX; NULL: never ours */
    _Atomic int32_t partition_limit;
};

struct weir_worker;

/* consumer_store and writer_store: one handle for each thread. All must outlive the worker. The source is set by
 * weir_worker_run, since it needs the worker's listener to open. */
struct weir_worker *weir_worker_new(const struct weir_catalog *catalog, const struct weir_worker_settings *settings,
                                    struct weir_window_store *consumer_store, struct weir_window_store *writer_store,
                                    struct weir_quarantine *quarantine);
/* Whether there is a core for the third thread of the worker with these gauges: it and each other one that is behind
 * have two. Where a worker that is behind shares its core, help costs more than it gives (ARCHITECTURE.md); where the
 * others have nothing to do, as with a hot partition, their cores are of no other use. Any thread. */
bool weir_worker_has_helper(const struct weir_worker_peers *peers, const struct weir_worker_gauges *own, int64_t cores);
struct weir_worker *weir_worker_free(struct weir_worker *worker); /* after run; NULL in, NULL out */
struct weir_source_listener weir_worker_listener(struct weir_worker *worker);
struct weir_worker_gauges *weir_worker_gauges(struct weir_worker *worker);

/* On the thread that will own the lanes. Runs until *stop is true (flushes, hands the lanes over), or, with until_end,
 * until all is read and written: a stop before that is a WEIR_FATAL. Frees the source: leaving the group is part of the
 * hand-over. WEIR_OK or WEIR_FATAL with *reterr. Without peers: the main thread (daemon.h). */
enum weir_status weir_worker_run(struct weir_worker *worker, struct weir_source *source, const _Atomic bool *stop,
                                 struct weir_error *reterr);

#endif
