/* A Redis of the test's own: a private redis-server on a free loopback port, in a temporary folder, gone with the test.
 * A cluster is three of them. */
#ifndef WEIR_TESTS_COMPONENT_REDIS_SERVER_H
#define WEIR_TESTS_COMPONENT_REDIS_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct redis_server {
    pid_t pid;
    int port;
    int bus_port; /* 0: not a node of a cluster */
    char folder[64];
    char url[64];
    char socket_url[128];
};

static int redis_server_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) != 0
        || getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        abort();
    close(listener);
    return ntohs(address.sin_port);
}

static void redis_server_exec(const struct redis_server *server)
{
    char port[16], bus_port[16], socket_path[96];
    snprintf(port, sizeof(port), "%d", server->port);
    snprintf(socket_path, sizeof(socket_path), "%s/socket", server->folder);
    snprintf(bus_port, sizeof(bus_port), "%d", server->bus_port);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execlp("redis-server", "redis-server", "--bind", "127.0.0.1", "--port", port, "--unixsocket", socket_path, "--dir",
           server->folder, "--save", "", "--appendonly", "no", "--logfile", "log", "--loglevel", "warning",
           server->bus_port ? "--cluster-enabled" : NULL, "yes", "--cluster-port", bus_port, "--cluster-announce-ip",
           "127.0.0.1", "--cluster-node-timeout", "5000", (char *)NULL);
    perror("redis-server");
    _exit(127);
}

/* Answers within a minute, or the port was taken meanwhile and the process has ended. */
static int redis_server_answers(const struct redis_server *server)
{
    struct timespec pause = {0, 5000000};
    for (int i = 0; i < 12000; i++) {
        redisContext *context = redisConnect("127.0.0.1", server->port);
        redisReply *reply = context && !context->err ? redisCommand(context, "INFO server") : NULL;
        char ours[32];
        snprintf(ours, sizeof(ours), "process_id:%d\r", (int)server->pid);
        int is_ours = reply && reply->type == REDIS_REPLY_STRING && strstr(reply->str, ours) != NULL;
        if (reply)
            freeReplyObject(reply);
        if (context)
            redisFree(context);
        if (is_ours)
            return 1;
        if (waitpid(server->pid, NULL, WNOHANG) == server->pid)
            return 0;
        nanosleep(&pause, NULL); /* between polls */
    }
    return 0;
}

static void redis_server_launch(struct redis_server *server)
{
    server->pid = fork();
    if (server->pid == 0)
        redis_server_exec(server);
}

static void redis_server_begin(struct redis_server *server, int is_node)
{
    memset(server, 0, sizeof(*server));
    strcpy(server->folder, "/tmp/weir-redis-XXXXXX");
    if (!mkdtemp(server->folder))
        abort();
    for (int i = 0; i < 5; i++) {
        server->port = redis_server_free_port();
        server->bus_port = is_node ? redis_server_free_port() : 0;
        redis_server_launch(server);
        if (redis_server_answers(server)) {
            snprintf(server->url, sizeof(server->url), "redis://127.0.0.1:%d", server->port);
            snprintf(server->socket_url, sizeof(server->socket_url), "unix://%s/socket", server->folder);
            return;
        }
        kill(server->pid, SIGKILL);
    }
    fprintf(stderr, "redis-server does not start; is it installed (deploy/install-packages)?\n");
    abort();
}

static inline void redis_server_start(struct redis_server *server)
{
    redis_server_begin(server, 0);
}

static void redis_server_stop(struct redis_server *server)
{
    static const char *const files[] = {"log", "socket", "dump.rdb", "nodes.conf"};
    if (server->pid <= 0)
        return;
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", server->folder, files[i]);
        unlink(path);
    }
    rmdir(server->folder);
    server->pid = 0;
}

enum { REDIS_CLUSTER_NODES = 3 };

/* Each hears of the others. One that is met and does not answer within the node timeout is forgotten. */
static inline void redis_cluster_meet(const struct redis_server nodes[REDIS_CLUSTER_NODES])
{
    for (int i = 0; i < REDIS_CLUSTER_NODES; i++) {
        redisContext *context = redisConnect("127.0.0.1", nodes[i].port);
        for (int n = 0; n < i; n++) {
            redisReply *reply = redisCommand(context, "CLUSTER MEET 127.0.0.1 %d %d", nodes[n].port, nodes[n].bus_port);
            if (reply)
                freeReplyObject(reply);
        }
        redisFree(context);
    }
}

/* All three, with the slots in equal shares, each finding the cluster whole. */
static inline void redis_cluster_await(const struct redis_server nodes[REDIS_CLUSTER_NODES])
{
    struct timespec pause = {0, 20000000};
    int whole = 0;
    for (int tries = 0; whole < REDIS_CLUSTER_NODES; tries++) {
        whole = 0;
        for (int i = 0; i < REDIS_CLUSTER_NODES; i++) {
            redisContext *context = redisConnect("127.0.0.1", nodes[i].port);
            redisReply *reply = context && !context->err ? redisCommand(context, "CLUSTER INFO") : NULL;
            whole += reply && reply->type == REDIS_REPLY_STRING && strstr(reply->str, "cluster_state:ok")
                     && strstr(reply->str, "cluster_known_nodes:3");
            if (reply)
                freeReplyObject(reply);
            if (context)
                redisFree(context);
        }
        if (tries > 6000)
            abort();
        if (tries % 400 == 399)
            redis_cluster_meet(nodes);
        nanosleep(&pause, NULL); /* between polls */
    }
}

/* Another node, without slots, that knows the others. */
static inline void redis_cluster_join(struct redis_server *node, const struct redis_server *member)
{
    redis_server_begin(node, 1);
    redisContext *context = redisConnect("127.0.0.1", node->port);
    freeReplyObject(redisCommand(context, "CLUSTER MEET 127.0.0.1 %d %d", member->port, member->bus_port));
    redisFree(context);
}

static inline void redis_cluster_start(struct redis_server nodes[REDIS_CLUSTER_NODES])
{
    for (int i = 0; i < REDIS_CLUSTER_NODES; i++) {
        redis_server_begin(&nodes[i], 1);
        redisContext *context = redisConnect("127.0.0.1", nodes[i].port);
        freeReplyObject(redisCommand(context, "CLUSTER ADDSLOTSRANGE %d %d", i * 16384 / REDIS_CLUSTER_NODES,
                                     (i + 1) * 16384 / REDIS_CLUSTER_NODES - 1));
        freeReplyObject(redisCommand(context, "CLUSTER SET-CONFIG-EPOCH %d", i + 1));
        redisFree(context);
    }
    redis_cluster_meet(nodes);
    redis_cluster_await(nodes);
}

#endif
