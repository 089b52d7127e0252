/* Records of the quarantine topic read back: which events are in quarantine, and why. For explain and admit.
 *
 * Record format: ingest/quarantine.h. A record that somebody else wrote is passed over. One thread.
 */
#ifndef WEIR_CLI_QUARANTINED_H
#define WEIR_CLI_QUARANTINED_H

#include "common/model/event.h"
#include "common/settings.h"
#include "ingest/kafka_scan.h"

/* One record; views into the message. */
struct weir_quarantined_record {
    struct weir_slice topic; /* where the event lay */
    int32_t partition;
    int64_t offset;
    enum weir_reason reason;
    struct weir_slice detail;
    bool is_cut; /* not the whole event */
    /* The event's own headers, in their order. */
    uint32_t header_count;
    struct weir_header headers[2 * WEIR_HEADERS_MAX];
};

/* false: not a record of weir's. */
bool weir_quarantined_parse(const struct weir_message *message, struct weir_quarantined_record *ret_record);

/* The places (of one topic's partitions) that are in quarantine. */
struct weir_quarantined;

/* Reads the whole quarantine topic of the settings. No such topic: none. */
enum weir_status weir_quarantined_load(const struct weir_settings *settings, struct weir_slice topic,
                                       const _Atomic bool *stop, struct weir_quarantined **ret_quarantined,
                                       struct weir_error *reterr);
struct weir_quarantined *weir_quarantined_free(struct weir_quarantined *quarantined); /* NULL in, NULL out */
/* The reason's name; NULL: the event is not in quarantine. */
const char *weir_quarantined_reason(const struct weir_quarantined *quarantined, int32_t partition, int64_t offset);
/* How many events of the partition below the offset are in quarantine. */
uint64_t weir_quarantined_count(const struct weir_quarantined *quarantined, int32_t partition, int64_t below);
/* Whether records are gone that there may have been. */
bool weir_quarantined_is_short(const struct weir_quarantined *quarantined);

/* The quarantine topic's name, into text, which is returned. */
const char *weir_quarantine_topic(const struct weir_settings *settings, char text[WEIR_SETTING_TEXT_MAX]);

#endif
