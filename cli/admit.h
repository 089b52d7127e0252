/* Parts of `weir admit`: command_admit.c (what is done, in which order), admit_select.c (records of quarantine,
 * selected, judged), admit_prove.c (what stands in Kafka and the window store against admitting them), admit_settle.c
 * (that no lane counts them which does not know it). Nobody else's.
 */
#ifndef WEIR_CLI_ADMIT_H
#define WEIR_CLI_ADMIT_H

#include "aggregator/window_store.h"
#include "cli/quarantined.h"
#include "common/arena.h"
#include "common/hash.h"
#include "common/model/catalog.h"
#include "ingest/decode.h"
#include "ingest/reading.h"

enum {
    WEIR_ADMIT_EVENTS_MAX = 100000,   /* at once */
    WEIR_ADMIT_BYTES_MAX = 256 << 20, /* of their values and headers */
};

/* One event in quarantine that was selected. Copies, in the arena. */
struct weir_admit_event {
    int32_t partition;
    int64_t offset;
    enum weir_reason reason;
    struct weir_slice value;
    const struct weir_header *headers;
    uint32_t header_count;
    bool is_cut;       /* quarantine had no room for all of it */
    bool is_tombstone; /* its message has no value */
    /* Of what could be decoded: */
    bool is_decoded;
    uint64_t identity, content; /* hashes */
    struct weir_slice source, id, customer;
    int64_t time;
    bool is_retraction;
    bool is_for_its_lane; /* which still accepts its time: it is sent there again, and not to the admitted lane */
    const char *refusal;  /* why it stays in quarantine; NULL: it may be admitted */
};

/* A lane of the events' topic, as the window store had it before quarantine was read. */
struct weir_admit_lane {
    bool is_known;
    uint64_t epoch;
    int64_t next_offset;
    int64_t forgotten;    /* it accepts nothing older, ever again */
    uint64_t quarantined; /* events that this lane has refused, as long as it remembers */
    /* Set by settle: of what is published and not counted yet. */
    bool is_concerned, has_others; /* has_others: with another epoch */
    uint64_t published_epoch;      /* the lane's when it was looked at */
};

struct weir_admit {
    struct weir_settings settings;
    const _Atomic bool *stop;
    struct weir_catalog *catalog;
    struct weir_decoder *decoder;
    struct weir_reader *reader;
    struct weir_hash_key key;
    struct weir_admit_lane *lanes; /* by partition */
    int32_t lane_count;
    struct weir_quarantined *quarantined;
    struct weir_arena *arena;
    int64_t offset_from, offset_to;  /* of --offset */
    struct weir_admit_event *events; /* by partition, then offset */
    size_t count, room, bytes;
    size_t *by_identity; /* index + 1 of the first of each; open addressing */
    uint64_t mask;
};

/* Reads --offset. false: told. */
bool weir_admit_parse_offsets(struct weir_admit *admit);
/* Whether --reason is one of those in quarantine, or any. false: told. */
bool weir_admit_check_reason(const struct weir_admit *admit);
/* Fills events with what the settings select, and refuses what cannot be counted as it is. */
enum weir_status weir_admit_select(struct weir_admit *admit, struct weir_error *reterr);
/* The partition of "topic:partition"; -1: it is no such name. */
int32_t weir_admit_partition(struct weir_slice lane);
/* Found or made, not known; until the next one is made. */
struct weir_admit_lane *weir_admit_lane(struct weir_admit *admit, int32_t partition);
/* Asks the window store for the lanes. First of all. */
enum weir_status weir_admit_lanes(struct weir_admit *admit, struct weir_error *reterr);
/* Refuses what is proved to be counted already, or to be counted by somebody else. */
enum weir_status weir_admit_prove(struct weir_admit *admit, struct weir_error *reterr);
/* After publishing to kafka->topic, before that is counted. */
enum weir_status weir_admit_settle(struct weir_admit *admit, const struct weir_kafka_settings *kafka,
                                   struct weir_error *reterr);

/* Decodes the event's bytes again: views until the next call. */
bool weir_admit_decode(struct weir_admit *admit, const struct weir_admit_event *from, struct weir_event *ret_event,
                       struct weir_rejection *reterr);
/* The place of the first selected event of this identity, 0 for none, less one. */
size_t *weir_admit_slot(const struct weir_admit *admit, uint64_t identity);
uint64_t weir_admit_identity(const struct weir_admit *admit, struct weir_slice source, struct weir_slice id);

#endif
