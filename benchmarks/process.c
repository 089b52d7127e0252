#include "benchmarks/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
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

/* 3. Any command. */
enum { ARGUMENTS_MAX = 16, SAID_MAX = 4096 };

_Noreturn static void become(const struct weir_process_settings *settings, const char *const *arguments,
                             const char *binary, char *catalog, int errors)
{
    char *words[ARGUMENTS_MAX + 2] = {"weir"};

    for (int i = 0; arguments[i] && i < ARGUMENTS_MAX; i++)
        words[i + 1] = strcmp(arguments[i], WEIR_PROCESS_CATALOG) == 0 ? catalog : (char *)(uintptr_t)arguments[i];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("WEIR_KAFKA_BROKERS", settings->topic->brokers, 1);
    setenv("WEIR_KAFKA_TOPIC", settings->topic->name, 1);
    setenv("WEIR_KAFKA_GROUP", settings->topic->name, 1);
    setenv("WEIR_REDIS_URL", settings->redis_url, 1);
    setenv("WEIR_POSTGRES_URL", settings->postgres_url, 1);
    setenv("WEIR_METRICS_LISTEN", "off", 1);
    if (dup2(errors, STDERR_FILENO) < 0 || !freopen("/dev/null", "w", stdout))
        _exit(126);
    execv(binary, words);
    _exit(127);
}

/* The last of what the pipe gives, until its end. */
static void read_end(int pipe, char said[SAID_MAX])
{
    size_t length = 0;

    for (ssize_t got; (got = read(pipe, said + length, SAID_MAX - 1 - length)) > 0;) {
        length += (size_t)got;
        if (length > SAID_MAX / 2) {
            memmove(said, said + length - SAID_MAX / 4, SAID_MAX / 4);
            length = SAID_MAX / 4;
        }
    }
    said[length] = '\0';
}

struct weir_process_took weir_process_run(const struct weir_process_settings *settings, const char *const *arguments)
{
    static char said[SAID_MAX];
    char binary[4096], catalog[] = "/tmp/weir-benchmark-XXXXXX.json";
    struct weir_took start = weir_measure_now();
    struct rusage usage;
    int ends[2], status;

    binary_path(binary);
    write_file(catalog, weir_workload_catalog);
    if (pipe(ends) != 0)
        weir_measure_die("pipe: %s", strerror(errno));
    fflush(NULL);
    pid_t running = fork();
    if (running < 0)
        weir_measure_die("fork: %s", strerror(errno));
    if (running == 0)
        become(settings, arguments, binary, catalog, ends[1]);
    (void)close(ends[1]);
    read_end(ends[0], said);
    (void)close(ends[0]);
    if (wait4(running, &status, 0, &usage) != running)
        weir_measure_die("wait4: %s", strerror(errno));
    (void)unlink(catalog);
    if (status != 0)
        weir_measure_die("weir %s ended with %d: %s", arguments[0], status, said);
    struct weir_took took = weir_measure_since(start);
    return (struct weir_process_took){took.wall, took.children, (uint64_t)usage.ru_maxrss * 1024, said};
}
