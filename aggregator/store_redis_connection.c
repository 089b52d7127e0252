/* Reaching Redis, and what its answers mean to a caller: try again, fenced, or not without a person. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "aggregator/store_redis_internal.h"
#include "common/schemas.h"

enum { CONNECT_SECONDS = 5, COMMAND_SECONDS = 30 };

static const char *const script_file[WEIR_REDIS_SCRIPT_COUNT] = {
    [WEIR_REDIS_TAKE_LANE] = "redis/take_lane.lua",
    [WEIR_REDIS_FINISH_WORK] = "redis/finish_work.lua",
};

/* 1. What an answer means. */

void weir_redis_drop(struct weir_redis_store *store)
{
    if (store->context)
        redisFree(store->context);
    store->context = NULL;
    store->node->context = NULL;
    store->is_map_old = true; /* who has gone may have handed his slots to another */
    for (size_t i = 0; i < store->lane_count; i++)
        store->lanes[i]->has_index = false;
}

/* The errors of Redis that a pause mends, and what to tell the one on call. All leave everything unwritten. */
static const struct {
    const char *code;
    const char *remedy;
} passing[] = {
    {"OOM", "Redis is over its maxmemory: raise it or free memory; nothing was written"},
    {"LOADING", "Redis is still loading its data set"},
    {"BUSY", "Redis is busy with a script of another client"},
    {"READONLY", "this Redis is a replica: point the URL at the primary, or wait for the failover"},
    {"MASTERDOWN", "this replica has lost its primary"},
    {"NOREPLICAS", "Redis has fewer replicas than min-replicas-to-write asks"},
    {"MISCONF", "Redis can not save to disk and refuses writes: see its log"},
    {"CLUSTERDOWN", "the Redis Cluster is not serving"},
    {"TRYAGAIN", "the Redis Cluster is moving this lane's keys to another node; it waits until they are there"},
    {"ASK", "the Redis Cluster is moving this lane's keys to another node; it waits until they are there"},
    {"MOVED", "the Redis Cluster has moved this lane to another node"},
};

/* Those that a person has to mend. */
static const struct {
    const char *code;
    const char *remedy;
} lasting[] = {
    {"WRONGTYPE", "a key of weir: holds something else: is another program using this database?"},
    {"WEIRFORMAT", "the lane was written in another format than " WEIR_REDIS_FORMAT
                   ": run the weir that wrote it, or use another database"},
    {"NOAUTH", "Redis asks for a password: put it into the URL"},
    {"WRONGPASS", "user or password of the Redis URL is not right"},
    {"NOPERM", "this Redis user lacks a permission"},
};

static bool has_code(const char *text, const char *code)
{
    size_t length = strlen(code);
    return strncmp(text, code, length) == 0 && (text[length] == ' ' || text[length] == 0);
}

static enum weir_status classify(const struct weir_redis_store *store, const char *text, struct weir_error *reterr)
{
    /* Before 7.0 an error inside a script came wrapped: "ERR Error running script (…): @user_script:1: -OOM …". */
    const char *wrapped = strncmp(text, "ERR Error running script", 24) == 0 ? strstr(text, ": -") : NULL;
    const char *inner = wrapped ? wrapped + 3 : text;
    for (size_t i = 0; i < sizeof(passing) / sizeof(*passing); i++)
        if (has_code(inner, passing[i].code))
            return weir_fail(reterr, WEIR_RETRY, "Redis %s: %s (%.300s)", store->shown, passing[i].remedy, text);
    for (size_t i = 0; i < sizeof(lasting) / sizeof(*lasting); i++)
        if (has_code(inner, lasting[i].code))
            return weir_fail(reterr, WEIR_FATAL, "Redis %s: %s (%.300s)", store->shown, lasting[i].remedy, text);
    if (strstr(text, "max number of clients") || strstr(text, "SCRIPT KILL"))
        return weir_fail(reterr, WEIR_RETRY, "Redis %s: %.300s", store->shown, text);
    return weir_fail(reterr, WEIR_FATAL, "Redis %s: %.300s", store->shown, text);
}

/* An answer that is an error: what it means, and it is freed. The connection is dropped: answers may be under way. */
static enum weir_status refused(struct weir_redis_store *store, redisReply *answer, struct weir_error *reterr)
{
    enum weir_status status = classify(store, answer->str, reterr);
    bool is_moved = has_code(answer->str, "MOVED");
    weir_redis_drop(store);
    if (is_moved)
        status = weir_redis_moved(store, answer->str, status, reterr);
    freeReplyObject(answer);
    return status;
}

static enum weir_status lost(struct weir_redis_store *store, struct weir_error *reterr)
{
    bool timed_out = store->context->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK);
    enum weir_status status = timed_out ? weir_fail(reterr, WEIR_RETRY, "Redis %s: no answer within %d s; reconnecting",
                                                    store->shown, COMMAND_SECONDS)
                                        : weir_fail(reterr, WEIR_RETRY, "Redis %s: connection lost (%s); reconnecting",
                                                    store->shown, store->context->errstr);
    weir_redis_drop(store);
    return status;
}

enum weir_status weir_redis_try(struct weir_redis_store *store, const char *command, redisReply **ret_reply,
                                struct weir_error *reterr)
{
    errno = 0;
    *ret_reply = redisCommand(store->context, command);
    return *ret_reply ? WEIR_OK : lost(store, reterr);
}

enum weir_status weir_redis_receive(struct weir_redis_store *store, redisReply **ret_reply, struct weir_error *reterr)
{
    void *reply = NULL;
    errno = 0;
    if (redisGetReply(store->context, &reply) != REDIS_OK)
        return lost(store, reterr);
    redisReply *answer = reply;
    if (answer->type == REDIS_REPLY_ERROR)
        return refused(store, answer, reterr);
    *ret_reply = answer;
    return WEIR_OK;
}

enum weir_status weir_redis_receive_array(struct weir_redis_store *store, size_t count, redisReply **ret_reply,
                                          struct weir_error *reterr)
{
    redisReply *reply = NULL;
    enum weir_status status = weir_redis_receive(store, &reply, reterr);
    if (status != WEIR_OK)
        return status;
    weir_check(reply != NULL);
    if (reply->type != REDIS_REPLY_ARRAY || (count != SIZE_MAX && reply->elements != count)) {
        freeReplyObject(reply);
        weir_redis_drop(store);
        return weir_fail(reterr, WEIR_FATAL, "Redis %s: an answer is not of the expected shape: is this really Redis?",
                         store->shown);
    }
    *ret_reply = reply;
    return WEIR_OK;
}

enum weir_status weir_redis_corrupt(struct weir_redis_store *store, struct weir_slice lane, const char *what,
                                    struct weir_error *reterr)
{
    weir_redis_drop(store);
    return weir_fail(
        reterr, WEIR_FATAL,
        "Redis %s: lane %.*s: %s is not what weir wrote; was the database changed by hand, or did keys get "
        "evicted? Restore it from a snapshot, or delete the lane's keys and read Kafka again",
        store->shown, (int)lane.length, lane.data, what);
}

enum weir_status weir_redis_other_format(struct weir_redis_store *store, struct weir_slice lane,
                                         struct weir_error *reterr)
{
    weir_redis_drop(store);
    return weir_fail(reterr, WEIR_FATAL,
                     "Redis %s: lane %.*s was written in another format than " WEIR_REDIS_FORMAT
                     ": run the weir that wrote it, or use another database",
                     store->shown, (int)lane.length, lane.data);
}

enum weir_status weir_redis_wrong_type(struct weir_redis_store *store, struct weir_slice lane,
                                       struct weir_error *reterr)
{
    weir_redis_drop(store);
    return weir_fail(reterr, WEIR_FATAL,
                     "Redis %s: lane %.*s: a key of weir: holds something else: is another program "
                     "using this database?",
                     store->shown, (int)lane.length, lane.data);
}

/* Not through hiredis's own buffer, which would copy a large cut once more and move it about. Answers (a few bytes for
 * each command) wait in Redis meanwhile, so neither side can block the other. */
enum weir_status weir_redis_send(struct weir_redis_store *store, const struct weir_redis_stream *stream,
                                 struct weir_error *reterr)
{
    for (size_t sent = 0; sent < stream->bytes.length;) {
        ssize_t piece = send(store->context->fd, stream->bytes.data + sent, stream->bytes.length - sent, MSG_NOSIGNAL);
        if (piece > 0) {
            sent += (size_t)piece;
        } else if (errno != EINTR) {
            enum weir_status status = weir_fail(reterr, WEIR_RETRY, "Redis %s: connection lost (%s); reconnecting",
                                                store->shown, strerror(errno));
            weir_redis_drop(store);
            return status;
        }
    }
    return WEIR_OK;
}

/* 2. Connecting. */

static enum weir_status expect_ok(struct weir_redis_store *store, struct weir_error *reterr)
{
    redisReply *reply = NULL;
    enum weir_status status = weir_redis_receive(store, &reply, reterr);
    if (status == WEIR_OK)
        freeReplyObject(reply);
    return status;
}

static enum weir_status log_in(struct weir_redis_store *store, struct weir_error *reterr)
{
    const struct weir_redis_endpoint *endpoint = &store->endpoint;
    if (endpoint->password) {
        if (endpoint->user)
            redisAppendCommand(store->context, "AUTH %s %s", endpoint->user, endpoint->password);
        else
            redisAppendCommand(store->context, "AUTH %s", endpoint->password);
        enum weir_status status = expect_ok(store, reterr);
        if (status != WEIR_OK)
            return status;
    }
    if (endpoint->database) {
        redisAppendCommand(store->context, "SELECT %d", endpoint->database);
        return expect_ok(store, reterr);
    }
    return WEIR_OK;
}

/* A Redis that evicts keys would lose money silently. INFO may be forbidden to us; then it is the operator's word. */
static enum weir_status check_eviction(struct weir_redis_store *store, struct weir_error *reterr)
{
    redisReply *reply = NULL;
    enum weir_status status = weir_redis_try(store, "INFO memory", &reply, reterr);
    if (status != WEIR_OK)
        return status;
    bool evicts = reply->type == REDIS_REPLY_STRING && strstr(reply->str, "maxmemory_policy:allkeys")
                  && !strstr(reply->str, "\nmaxmemory:0\r");
    freeReplyObject(reply);
    if (!evicts)
        return WEIR_OK;
    weir_redis_drop(store);
    return weir_fail(
        reterr, WEIR_FATAL,
        "Redis %s: its maxmemory-policy evicts any key, which would lose usage; set maxmemory-policy noeviction",
        store->shown);
}

const char *weir_redis_script_text(const char *name, size_t *ret_length)
{
    for (const struct weir_schema_file *file = weir_schema_files; file->name; file++) {
        if (strcmp(file->name, name) == 0) {
            *ret_length = file->length;
            return file->text;
        }
    }
    weir_check(!"the script is in the binary");
    return NULL;
}

static enum weir_status load_scripts(struct weir_redis_store *store, struct weir_error *reterr)
{
    for (int i = 0; i < WEIR_REDIS_SCRIPT_COUNT; i++) {
        size_t length;
        const char *text = weir_redis_script_text(script_file[i], &length);
        redisAppendCommand(store->context, "SCRIPT LOAD %b", text, length);
        redisReply *reply = NULL;
        enum weir_status status = weir_redis_receive(store, &reply, reterr);
        if (status != WEIR_OK)
            return status;
        weir_check(reply != NULL && reply->type == REDIS_REPLY_STRING && reply->len == 40);
        memcpy(store->sha[i], reply->str, 41);
        freeReplyObject(reply);
    }
    return WEIR_OK;
}

enum weir_status weir_redis_connect(struct weir_redis_store *store, struct weir_error *reterr)
{
    struct weir_redis_node *node = store->node;
    if (store->context && !store->context->err)
        return WEIR_OK;
    if (store->context)
        weir_redis_drop(store);
    struct timeval connect_time = {CONNECT_SECONDS, 0};
    struct timeval command_time = {COMMAND_SECONDS, 0};
    store->context = node->context = node->host ? redisConnectWithTimeout(node->host, node->port, connect_time)
                                                : redisConnectUnixWithTimeout(store->endpoint.path, connect_time);
    weir_check(store->context);
    if (store->context->err) {
        enum weir_status status = weir_fail(reterr, WEIR_RETRY, "Redis %s: not reached (%s); is it running?",
                                            store->shown, store->context->errstr);
        weir_redis_drop(store);
        return status;
    }
    if (redisSetTimeout(store->context, command_time) != REDIS_OK)
        return lost(store, reterr);
    if (node->host)
        redisEnableKeepAlive(store->context);
    enum weir_status status = log_in(store, reterr);
    if (status == WEIR_OK)
        status = check_eviction(store, reterr);
    return status == WEIR_OK ? load_scripts(store, reterr) : status;
}

/* 3. Scripts. */

static void put_piece(struct weir_redis_command *command, size_t at, const struct weir_redis_piece *piece)
{
    command->argv[at] = piece->outside ? piece->outside : command->bytes.data + piece->offset;
    command->lengths[at] = piece->length;
}

static void send_script(struct weir_redis_store *store, const char *verb, const char *script, size_t script_length)
{
    struct weir_redis_command *command = &store->command;
    size_t count = 3 + command->keys.count + command->arguments.count;
    if (command->argv_capacity < count) {
        command->argv = weir_resize(command->argv, count, sizeof(*command->argv));
        command->lengths = weir_resize(command->lengths, count, sizeof(*command->lengths));
        command->argv_capacity = count;
    }
    char key_count[24];
    command->argv[0] = verb;
    command->lengths[0] = strlen(verb);
    command->argv[1] = script;
    command->lengths[1] = script_length;
    command->argv[2] = key_count;
    command->lengths[2] = (size_t)snprintf(key_count, sizeof(key_count), "%zu", command->keys.count);
    for (size_t i = 0; i < command->keys.count; i++)
        put_piece(command, 3 + i, &command->keys.at[i]);
    for (size_t i = 0; i < command->arguments.count; i++)
        put_piece(command, 3 + command->keys.count + i, &command->arguments.at[i]);
    redisAppendCommandArgv(store->context, (int)count, command->argv, command->lengths);
}

enum weir_status weir_redis_run(struct weir_redis_store *store, enum weir_redis_script script, redisReply **ret_reply,
                                struct weir_error *reterr)
{
    send_script(store, "EVALSHA", store->sha[script], 40);
    void *reply = NULL;
    errno = 0;
    if (redisGetReply(store->context, &reply) != REDIS_OK)
        return lost(store, reterr);
    redisReply *answer = reply;
    if (answer->type == REDIS_REPLY_ERROR && has_code(answer->str, "NOSCRIPT")) {
        freeReplyObject(answer); /* SCRIPT FLUSH, or a restart behind a proxy */
        size_t length;
        const char *text = weir_redis_script_text(script_file[script], &length);
        send_script(store, "EVAL", text, length);
        return weir_redis_receive(store, ret_reply, reterr);
    }
    if (answer->type == REDIS_REPLY_ERROR)
        return refused(store, answer, reterr);
    *ret_reply = answer;
    return WEIR_OK;
}
