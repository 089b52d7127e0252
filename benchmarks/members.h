/* `weir ingest` in this process: as many of its workers as are wanted, each on a thread of its own and a member of one
 * consumer group, between sources and stores that look at the clock. The workers are those of the command; around them
 * only the quarantine is another, which counts.
 *
 * What is in the time: everything from the first message that is returned to any member until the cuts in Redis cover
 * the last one of all partitions; the CPU time is that of all threads of the process between the two. What is not:
 * joining. A member that is alone gets every partition, and gives some away when the next one comes. So messages are
 * held back until each member has its share: partitions are paused as soon as they are assigned, and what came before
 * that is dropped and read again. Then one member is let go, and its first message starts the clock and lets the others
 * go. So when the clock starts, there has been fetched and decompressed for nothing what brought one consumer its first
 * message, as with bare librdkafka, whose clock starts likewise; let go together, each member would have had as much.
 */
#ifndef WEIR_BENCHMARKS_MEMBERS_H
#define WEIR_BENCHMARKS_MEMBERS_H

#include "benchmarks/topic.h"

enum { WEIR_MEMBERS_MAX = 8 }; /* and so many partitions */

struct weir_members_settings {
    const struct weir_topic *topic; /* its name is the group's, too */
    const struct weir_catalog *catalog;
    const char *redis_url; /* NULL: cuts are sealed and dropped */
    uint64_t events;       /* all that the topic holds */
    int members;           /* 1 to the topic's partitions */
};

struct weir_members_result {
    struct weir_took took;
    uint64_t cuts, windows;      /* written */
    uint64_t counted, duplicate; /* events, by all members */
};

/* Lanes of the topic must not be in Redis yet; they are left there. What goes wrong ends the program. */
struct weir_members_result weir_members_run(const struct weir_members_settings *settings);

#endif
