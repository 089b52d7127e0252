#include "benchmarks/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "benchmarks/measure.h"

enum { WORKERS_MAX = 8 };

/* 1. Redis. */

redisContext *weir_process_redis(const char *url)
{
    char host[64];
    int port = 6379;

    if (sscanf(url, "redis://%63[^:/]:%d", host, &port) < 1)
        weir_measure_die("WEIR_REDIS_URL %s: redis://host:port is wanted", url);
    redisContext *redis = redisConnect(host, port);
    if (!redis || redis->err)
        weir_measure_die("Redis at %s does not answer", url);
    return redis;
}

static redisReply *ask(redisContext *redis, const char *format, const char *one, const char *two)
{
    redisReply *reply = redisCommand(redis, format, one, two);

    if (!reply || reply->type == REDIS_REPLY_ERROR)
        weir_measure_die("Redis: %s", reply ? reply->str : redis->errstr);
    return reply;
}

void weir_process_remove_lanes(redisContext *redis, const struct weir_topic *topic)
{
    char cursor[24] = "0", pattern[128], lane[96];

    snprintf(pattern, sizeof pattern, "weir:{%s:*", topic->name);
    do {
        redisReply *page = ask(redis, "SCAN %s MATCH %s COUNT 1000", cursor, pattern);
        snprintf(cursor, sizeof cursor, "%s", page->element[0]->str);
        for (size_t i = 0; i < page->element[1]->elements; i++)
            freeReplyObject(ask(redis, "UNLINK %s", page->element[1]->element[i]->str, NULL));
        freeReplyObject(page);
    } while (strcmp(cursor, "0") != 0);
    for (int32_t i = 0; i < topic->partitions; i++) {
        snprintf(lane, sizeof lane, "%s:%d", topic->name, i);
        freeReplyObject(ask(redis, "SREM weir:lanes %s", lane, NULL));
    }
}

int64_t weir_process_next_offset(redisContext *redis, const struct weir_topic *topic, int32_t partition)
{
    char key[128];

    snprintf(key, sizeof key, "weir:{%s:%d}:lane", topic->name, partition);
    redisReply *reply = ask(redis, "HGET %s %s", key, "next_offset");
    int64_t next = reply->type == REDIS_REPLY_STRING ? strtoll(reply->str, NULL, 10) : -1;
    freeReplyObject(reply);
    return next;
}

/* 2. The worker. */

static void write_file(char *path, const char *text)
{
    int file = mkstemps(path, 5);

    if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text) || close(file) != 0)
        weir_measure_die("%s: %s", path, strerror(errno));
}

/* What a worker was started with is removed when it has ended. */
static struct {
    pid_t worker;
    char catalog[64], config[64];
} started[WORKERS_MAX];

static void keep_names(pid_t worker, const char *catalog, const char *config)
{
    for (int i = 0; i < WORKERS_MAX; i++)
        if (started[i].worker == 0) {
            started[i].worker = worker;
            snprintf(started[i].catalog, sizeof started[i].catalog, "%s", catalog);
            snprintf(started[i].config, sizeof started[i].config, "%s", config);
            return;
        }
    weir_measure_die("more than %d workers", WORKERS_MAX);
}

static void remove_files(pid_t worker)
{
    for (int i = 0; i < WORKERS_MAX; i++)
        if (started[i].worker == worker) {
            (void)unlink(started[i].catalog);
            (void)unlink(started[i].config);
            started[i].worker = 0;
        }
}

static void binary_path(char path[4096])
{
    ssize_t length = readlink("/proc/self/exe", path, 4000);

    path[length < 0 ? 0 : length] = '\0';
    for (int i = 0; i < 2; i++) /* the program, and its folder */
        if (strrchr(path, '/'))
            *strrchr(path, '/') = '\0';
    snprintf(path + strlen(path), 8, "/weir");
    if (access(path, X_OK) != 0)
        weir_measure_die("%s is not there: build weir first", path);
}

pid_t weir_process_start(const struct weir_topic *topic, const char *redis_url, const char *properties)
{
    char binary[4096], catalog[] = "/tmp/weir-benchmark-XXXXXX.json", config[] = "/tmp/weir-benchmark-XXXXXX.json";
    char text[512];

    binary_path(binary);
    write_file(catalog, weir_workload_catalog);
    snprintf(text, sizeof text, "{\"kafka\":{\"properties\":%s}}", properties ? properties : "{}");
    write_file(config, text);
    fflush(NULL);
    pid_t worker = fork();
    if (worker < 0)
        weir_measure_die("fork: %s", strerror(errno));
    if (worker > 0) {
        keep_names(worker, catalog, config);
        return worker;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("WEIR_KAFKA_BROKERS", topic->brokers, 1);
    setenv("WEIR_KAFKA_TOPIC", topic->name, 1);
    setenv("WEIR_KAFKA_GROUP", topic->name, 1);
    setenv("WEIR_REDIS_URL", redis_url, 1);
    setenv("WEIR_METRICS_LISTEN", "127.0.0.1:0", 1);
    setenv("WEIR_LOG_LEVEL", "error", 0); /* to see more, set it */
    execl(binary, "weir", "ingest", "--config", config, "--catalog", catalog, (char *)NULL);
    _exit(127);
}

static void end_by(pid_t worker, int number)
{
    int status;

    if (kill(worker, number) != 0 || waitpid(worker, &status, 0) != worker)
        weir_measure_die("the worker had ended already");
    remove_files(worker);
    if (number == SIGTERM && status != 0)
        weir_measure_die("the worker ended with %d", status);
}

void weir_process_kill(pid_t worker)
{
    end_by(worker, SIGKILL);
}

void weir_process_end(pid_t worker)
{
    end_by(worker, SIGTERM);
}
