/* A real `weir ingest`, or another command, on the benchmark's topic, and what its lanes have stored in Redis. Every
 * call that fails ends the program; a worker ends with it. One thread. */
#ifndef WEIR_BENCHMARKS_PROCESS_H
#define WEIR_BENCHMARKS_PROCESS_H

#include <hiredis/hiredis.h>
#include <sys/types.h>

#include "benchmarks/topic.h"

redisContext *weir_process_redis(const char *url); /* redis://host:port */
/* The lanes of the topic out of Redis, with all that they hold. */
void weir_process_remove_lanes(redisContext *redis, const struct weir_topic *topic);
/* Everything of the lane below this offset is durable; -1: nothing is stored. */
int64_t weir_process_next_offset(redisContext *redis, const struct weir_topic *topic, int32_t partition);

/* The weir beside the benchmarks' folder, with the workload's catalog. properties: of librdkafka, a JSON object; or
 * NULL. Up to 8 at once. */
pid_t weir_process_start(const struct weir_topic *topic, const char *redis_url, const char *properties);
void weir_process_kill(pid_t worker); /* SIGKILL */
void weir_process_end(pid_t worker);  /* SIGTERM; its CPU time is then among the children's */

/* Any command of weir, to its end. */
struct weir_process_settings {
    const struct weir_topic *topic;
    const char *redis_url, *postgres_url;
};
struct weir_process_took {
    double wall, cpu; /* seconds */
    uint64_t peak;    /* bytes in RAM, at most */
    const char *said; /* the last of its standard error; until the next call */
};
#define WEIR_PROCESS_CATALOG "{catalog}" /* among the arguments: a file that has the workload's */
/* arguments: the command, ..., NULL. It must end well. */
struct weir_process_took weir_process_run(const struct weir_process_settings *settings, const char *const *arguments);

#endif
