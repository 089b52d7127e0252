/* An event's way in memory, from bytes to windows and ids: decoder, reader and lanes on one thread, with a quarantine
 * that must stay empty. */
#ifndef WEIR_BENCHMARKS_WAY_H
#define WEIR_BENCHMARKS_WAY_H

#include "aggregator/lane.h"
#include "cli/intake.h"

enum { WEIR_WAY_LANES_MAX = 16, WEIR_WAY_GROUP = 16 };

struct weir_way {
    struct weir_lane *lanes[WEIR_WAY_LANES_MAX];
    uint32_t lane_count;
    struct weir_quarantine quarantine;
    struct weir_intake *intake;
    int64_t sequence;
};

/* The workload's catalog, read: the caller's to free. */
struct weir_catalog *weir_way_catalog(void);
/* The catalog must outlive it. In place: the intake points to the quarantine. */
void weir_way_open(struct weir_way *way, const struct weir_catalog *catalog, uint32_t lanes,
                   const struct weir_lane_settings *settings);
void weir_way_close(struct weir_way *way);
/* Up to WEIR_WAY_GROUP messages, each to the lane of its partition; their sequence is set. What is refused ends the
 * program. */
void weir_way_take(struct weir_way *way, struct weir_message *messages, size_t count);

#endif
