/* What the files of the ingest worker share: worker.c (the loop), worker_lanes.c (lanes and their cuts),
 * worker_admitted.c (what lanes are told when they are taken) and worker_show.c (what it shows of itself). All on the
 * consuming thread. */
#ifndef WEIR_CLI_WORKER_INTERNAL_H
#define WEIR_CLI_WORKER_INTERNAL_H

#include "cli/worker.h"
#include "cli/writer.h"
#include "common/daemon.h"
#include "common/steady_clock.h"

/* One partition that is ours. */
struct worker_lane {
    struct weir_lane *lane; /* NULL while it waits to be taken again */
    struct weir_slice name;
    char name_bytes[WEIR_LANE_NAME_MAX + 1];
    int32_t partition;
    uint64_t generation;
    uint64_t batch;      /* of messages, the last that had any of it */
    int64_t wanted_from; /* in that batch: offsets below are taken already */
    uint32_t in_flight;
    bool is_paused;       /* back-pressure, or it waits to be taken */
    bool is_untold;       /* taken, and not told of admitted events: nothing of it is taken before */
    bool is_fenced;       /* dropped; to be taken again at retake_at once nothing is in flight */
    bool has_quarantined; /* since the last seal */
    int64_t retake_at;    /* monotonic ns */
    int64_t last_seal;    /* monotonic ns; the start of the lane's flush interval in which it was */
    int64_t last_event;   /* monotonic ns; broken ones do not count: they say nothing of the time */
    int64_t caught_up_at; /* wall clock, ns: everything that was published before it was read; 0: not yet */
    struct weir_lane_gauges *gauges;
};

struct weir_worker {
    const struct weir_catalog *catalog;
    struct weir_worker_settings settings;
    struct weir_window_store *store; /* the consuming thread's handle */
    struct weir_window_store *writer_store;
    struct weir_source *source;
    struct weir_intake *intake;
    struct weir_quarantine *quarantine;
    struct weir_writer *writer;
    struct weir_worker_gauges gauges;
    struct weir_worker_peers alone; /* itself */
    const struct weir_worker_peers *peers;
    struct worker_lane **lanes; /* by partition; NULL: not ours */
    uint32_t lane_count;
    int32_t partition_limit; /* above the highest partition that was ever ours */
    int32_t first_lane; /* the first that found no free cut: it is the first to be asked next time, or those before it
                           would take every cut that comes back */
    uint64_t generations;
    uint64_t batch; /* a number for the messages at hand, from 1 */
    struct weir_steady_clock clock;
    struct weir_outage pressure, jump, untold;
    int64_t last_pressed;       /* monotonic ns */
    int64_t hand_over_deadline; /* monotonic ns; of lanes that go together */
    int64_t last_revoked;       /* monotonic ns */
    struct weir_flight flights[WEIR_CUTS_MAX];
    struct weir_flight *free_flights[WEIR_CUTS_MAX];
    uint32_t free_count;
    const _Atomic bool *stop;
    struct weir_progress progress; /* until_end */
    bool has_failed;
    struct weir_error failure; /* of a listener call, or a flight */
};

/* worker_lanes.c */
int64_t weir_worker_now(void); /* monotonic ns */
void weir_worker_fail(struct weir_worker *worker,
                      const struct weir_error *error); /* run ends with the first of these */
void weir_worker_land_all(struct weir_worker *worker); /* cuts that have come back from the writing thread */
/* Seals what the lane has and sends it off. false: no free cut now. */
bool weir_worker_send_cut(struct weir_worker *worker, struct worker_lane *owned);
/* Writes everything that the lane has and waits for it. false: it did not get through in time, or was fenced. */
bool weir_worker_settle_lane(struct weir_worker *worker, struct worker_lane *owned);
void weir_worker_pause_lane(struct weir_worker *worker, struct worker_lane *owned, bool is_paused);
/* Lanes that were dropped are taken again once nothing of the old one is under way. */
enum weir_status weir_worker_retake_lanes(struct weir_worker *worker, struct weir_error *reterr);

/* Not to be written any more, and taken again so much later. */
void weir_worker_drop_lane(struct worker_lane *owned, int64_t again_ms);

/* worker_admitted.c */
/* After each poll: lanes that were taken since the last one. Where Kafka does not answer they are dropped, to be taken
 * again. WEIR_REJECT: what they must know has no room. */
enum weir_status weir_worker_tell_lanes(struct weir_worker *worker, struct weir_error *reterr);

/* worker_show.c */
/* After each step: figures for the metrics page; and for /readyz, systemd and a terminal, what it waits for. */
void weir_worker_show_gauges(struct weir_worker *worker);
void weir_worker_show_readiness(struct weir_worker *worker);
/* Each lane has the whole room when it is alone; here they are counted together, those of peers as well, as show_gauges
 * found them. */
enum weir_status weir_worker_check_room(const struct weir_worker *worker, struct weir_error *reterr);

#endif
