/* The window store in Redis: one consistent cut for each lane.
 *
 * docs/redis.md has every key, byte by byte, what makes a lane valid, and when what is dropped. All keys of a lane lie
 * in one slot of a Redis Cluster. Logs are cut into strings of 12 MiB, since Redis ends at 512 MiB. A lane of format 1
 * to 4 is taken as it is: what was written then is read for as long as it is there, and what is written is of format 5.
 * Old windows go span by span: one that waits for its rater keeps its whole span until the first cut after it is
 * finished. maxmemory-policy has to be noeviction.
 *
 * Consistency. A cut is one transaction, fenced by WATCH of the lane hash (store_redis_encode.c says why not a script):
 * it looks first and then can not fail. Redis keeps it as one MULTI/EXEC in the AOF and in the replication stream and
 * takes an RDB snapshot between commands, so a crash, failover or restore leaves an older cut, never part of one. An
 * older cut shows at the next write: its epoch, its next_offset, or, for cuts that only closed windows and moved no
 * offset, its number in the epoch differs. A load takes many commands, but take_lane raises the epoch first, so no one
 * else changes what is loaded (raters touch only the work); at its end the epoch is looked at once more.
 *
 * Threads: a handle belongs to one. One handle writes all cuts of an epoch (another one may have taken it), as it
 * counts them. A lane's span set and logs are known to the handle after the first cut, so that it can name every key.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "aggregator/epoch.h"
#include "aggregator/store_redis_internal.h"
#include "common/calendar.h"

#define NAMING_PERIOD (5 * WEIR_SECOND)
#define NAMING_PAUSE (60 * WEIR_SECOND) /* more, after a failure */

/* 1. What the handle knows. */

static struct weir_redis_lane *lane_of(struct weir_redis_store *store, struct weir_slice name)
{
    for (size_t i = 0; i < store->lane_count; i++)
        if (weir_slice_equal((struct weir_slice){store->lanes[i]->name, store->lanes[i]->length}, name))
            return store->lanes[i];
    struct weir_redis_lane *lane = weir_new(sizeof(*lane));
    memcpy(lane->name, name.data, name.length);
    lane->length = name.length;
    store->lanes = weir_resize(store->lanes, store->lane_count + 1, sizeof(struct weir_redis_lane *));
    store->lanes[store->lane_count++] = lane;
    return lane;
}

static void forget_lane(struct weir_redis_lane *lane)
{
    free(lane->index.spans);
    free(lane->index.buckets);
    lane->index = (struct weir_redis_index){0};
    lane->has_index = false;
}

/* 2. Taking. */

static enum weir_status register_lane(struct weir_redis_store *store, struct weir_slice lane, struct weir_error *reterr)
{
    redisReply *reply = NULL;
    enum weir_status status = weir_redis_reach_names(store, reterr);
    if (status != WEIR_OK)
        return status;
    redisAppendCommand(store->context, "SADD weir:lanes %b", lane.data, (size_t)lane.length);
    status = weir_redis_receive(store, &reply, reterr);
    if (status == WEIR_OK)
        freeReplyObject(reply);
    return status;
}

static enum weir_status raise_epoch(struct weir_redis_store *store, struct weir_slice lane,
                                    const unsigned char secret[WEIR_LANE_SECRET_BYTES],
                                    struct weir_lane_state *ret_state, struct weir_error *reterr)
{
    struct weir_redis_command *command = &store->command;
    const struct weir_lane_state fresh = {
        .next_offset = -1, .first_time = INT64_MAX, .last_time = INT64_MIN, .stamp = -1};
    weir_redis_command_clear(command);
    weir_redis_add_key(command, lane, "lane");
    weir_redis_add_text(command, "%s", WEIR_REDIS_FORMAT);
    weir_redis_pack_begin(command);
    weir_redis_pack_text(command, "format");
    weir_redis_pack_text(command, "%s", WEIR_REDIS_FORMAT);
    weir_redis_pack_text(command, "epoch");
    weir_redis_pack_text(command, "0");
    weir_redis_pack_text(command, "secret");
    weir_redis_pack(command, secret, WEIR_LANE_SECRET_BYTES);
    weir_redis_pack_state(command, &fresh);
    weir_redis_pack_end(command);
    weir_redis_add_text(command, "%" PRIu64, weir_epoch_raise());
    for (size_t i = 0; i < WEIR_REDIS_STATE_FIELDS; i++)
        weir_redis_add_text(command, "%s", weir_redis_state_field[i]);
    redisReply *reply = NULL;
    enum weir_status status = weir_redis_run(store, WEIR_REDIS_TAKE_LANE, &reply, reterr);
    if (status != WEIR_OK)
        return status;
    bool fits = reply->type == REDIS_REPLY_ARRAY && reply->elements == WEIR_REDIS_STATE_FIELDS
                && weir_redis_read_state(reply->element, ret_state);
    freeReplyObject(reply);
    return fits ? WEIR_OK : weir_redis_corrupt(store, lane, "the lane hash", reterr);
}

static enum weir_status still_ours(struct weir_redis_store *store, struct weir_slice lane,
                                   const struct weir_lane_state *state, struct weir_error *reterr)
{
    char key[WEIR_REDIS_KEY_MAX];
    size_t length = weir_redis_key(key, lane, "lane");
    redisReply *reply = NULL;
    redisAppendCommand(store->context, "HMGET %b epoch next_offset cut", key, length);
    enum weir_status status = weir_redis_receive_array(store, 3, &reply, reterr);
    if (status != WEIR_OK)
        return status;
    uint64_t epoch = 0, cut = 0;
    int64_t next_offset = 0;
    bool same = weir_redis_read_u64(reply->element[0], &epoch) && weir_redis_read_i64(reply->element[1], &next_offset)
                && weir_redis_read_u64(reply->element[2], &cut) && epoch == state->epoch
                && next_offset == state->next_offset && cut == 0;
    freeReplyObject(reply);
    return same ? WEIR_OK
                : weir_fail(reterr, WEIR_FENCED, "lane %.*s: another worker took it while it was loaded",
                            (int)lane.length, lane.data);
}

/* What another owner writes in the middle of a load can look like damage. It is damage only if the lane is still ours.
 */
static enum weir_status judge_load(struct weir_redis_store *store, struct weir_slice lane,
                                   const struct weir_lane_state *state, enum weir_status loaded,
                                   struct weir_error *reterr)
{
    struct weir_error error;

    if (loaded == WEIR_OK)
        return still_ours(store, lane, state, reterr);
    if (loaded != WEIR_FATAL || weir_redis_reach(store, lane, &error) != WEIR_OK
        || still_ours(store, lane, state, &error) != WEIR_FENCED)
        return loaded;
    *reterr = error;
    return WEIR_FENCED;
}

static enum weir_status take_lane(struct weir_window_store *base, struct weir_slice name,
                                  const unsigned char secret[WEIR_LANE_SECRET_BYTES],
                                  const struct weir_lane_loader *loader, struct weir_lane_state *ret_state,
                                  struct weir_error *reterr)
{
    struct weir_redis_store *store = (struct weir_redis_store *)base;
    struct weir_lane_state state = {0};
    weir_check(name.length > 0 && name.length <= WEIR_LANE_NAME_MAX);
    enum weir_status status;
    do {
        status = register_lane(store, name, reterr);
        if (status == WEIR_OK)
            status = weir_redis_reach(store, name, reterr);
        if (status == WEIR_OK)
            status = raise_epoch(store, name, secret, &state, reterr);
    } while (weir_redis_follow(store, status));
    if (status != WEIR_OK)
        return status;
    struct weir_redis_lane *lane = lane_of(store, name);
    lane->epoch = state.epoch;
    lane->cut_number = 0;
    lane->has_index = false;
    status = weir_redis_read_index(store, name, &lane->index, reterr);
    if (status == WEIR_OK && loader)
        status = weir_redis_load(store, name, &lane->index, state.forgotten, loader, reterr);
    status = judge_load(store, name, &state, status, reterr);
    if (status != WEIR_OK)
        return status;
    lane->has_index = true;
    *ret_state = state;
    return WEIR_OK;
}

/* 3. Writing. */

enum answer {
    ANSWER_WRITTEN,
    ANSWER_ALREADY, /* this very cut is there */
    ANSWER_FENCED,
    ANSWER_STALE, /* our index, or the lane changed between probe and transaction: once more */
};

static enum weir_status fenced(const struct weir_redis_lane *lane, const struct weir_cut *cut, uint64_t epoch,
                               int64_t offset, uint64_t number, struct weir_error *reterr)
{
    return weir_fail(reterr, WEIR_FENCED,
                     "lane %.*s: Redis holds epoch %" PRIu64 ", next offset %" PRId64 ", cut %" PRIu64
                     ", not epoch %" PRIu64 ", next offset %" PRId64 ", cut %" PRIu64
                     ": another worker owns it now, or Redis went back to an older state",
                     (int)cut->lane.length, cut->lane.data, epoch, offset, number, cut->state.epoch,
                     cut->expected_offset, lane->cut_number);
}

static enum weir_status judge_lane(struct weir_redis_store *store, struct weir_redis_lane *lane,
                                   const struct weir_cut *cut, const redisReply *stored, enum answer *ret_answer,
                                   struct weir_error *reterr)
{
    uint64_t epoch = 0, number = 0;
    int64_t offset = -1;
    *ret_answer = ANSWER_FENCED;
    if (stored->element[0]->type == REDIS_REPLY_NIL && stored->element[1]->type == REDIS_REPLY_NIL)
        return fenced(lane, cut, epoch, offset, number, reterr);
    if (!weir_redis_is_format(stored->element[0]))
        return weir_redis_other_format(store, cut->lane, reterr);
    if (!weir_redis_read_u64(stored->element[1], &epoch) || !weir_redis_read_i64(stored->element[2], &offset)
        || !weir_redis_read_u64(stored->element[3], &number))
        return weir_redis_corrupt(store, cut->lane, "the lane hash", reterr);
    if (epoch == cut->state.epoch && offset == cut->state.next_offset
        && (number == lane->cut_number + 1
            || (number == lane->cut_number && cut->expected_offset != cut->state.next_offset))) {
        lane->cut_number = number;
        *ret_answer = ANSWER_ALREADY;
        return WEIR_OK;
    }
    /* We took it in our format: Redis went back to before that. */
    if (strcmp(stored->element[0]->str, WEIR_REDIS_FORMAT) != 0)
        return fenced(lane, cut, epoch, offset, number, reterr);
    if (epoch != cut->state.epoch || offset != cut->expected_offset || number != lane->cut_number)
        return fenced(lane, cut, epoch, offset, number, reterr);
    *ret_answer = ANSWER_WRITTEN;
    return WEIR_OK;
}

static bool has_type(const redisReply *reply, char wanted)
{
    const char *word = wanted == 'h' ? "hash" : wanted == 's' ? "string" : "set";
    return reply->type == REDIS_REPLY_STATUS && (strcmp(reply->str, "none") == 0 || strcmp(reply->str, word) == 0);
}

/* Answers of the probe after the first two: types, and lengths of logs. */
static enum weir_status judge_keys(struct weir_redis_store *store, const struct weir_cut *cut, enum answer *ret_answer,
                                   struct weir_error *reterr)
{
    const uint64_t *expected = (const uint64_t *)(const void *)store->probe_lengths.data;
    for (size_t i = 0; i < store->probe_types.length; i++) {
        redisReply *reply = NULL;
        char type = store->probe_types.data[i];
        enum weir_status status = weir_redis_receive(store, &reply, reterr);
        if (status != WEIR_OK)
            return status;
        uint64_t length = 0;
        bool fits =
            type != 'l' ? has_type(reply, type) : reply->type == REDIS_REPLY_NIL || weir_redis_read_u64(reply, &length);
        freeReplyObject(reply);
        if (!fits)
            return weir_redis_wrong_type(store, cut->lane, reterr);
        if (type == 'l' && length != *expected++ && *ret_answer == ANSWER_WRITTEN)
            *ret_answer = ANSWER_STALE;
    }
    return WEIR_OK;
}

static enum weir_status look(struct weir_redis_store *store, struct weir_redis_lane *lane, const struct weir_cut *cut,
                             enum answer *ret_answer, struct weir_error *reterr)
{
    redisReply *reply = NULL;
    enum weir_status status = weir_redis_send(store, &store->probe, reterr);
    if (status == WEIR_OK)
        status = weir_redis_receive(store, &reply, reterr);
    if (status != WEIR_OK)
        return status;
    freeReplyObject(reply);
    status = weir_redis_receive_array(store, 4, &reply, reterr);
    if (status != WEIR_OK)
        return status;
    status = judge_lane(store, lane, cut, reply, ret_answer, reterr);
    freeReplyObject(reply);
    if (status != WEIR_OK && status != WEIR_FENCED)
        return status;
    struct weir_error other;
    enum weir_status keys = judge_keys(store, cut, ret_answer, &other);
    if (keys != WEIR_OK && status == WEIR_OK)
        return weir_fail(reterr, keys, "%s", other.text);
    return status;
}

static enum weir_status commit(struct weir_redis_store *store, const struct weir_cut *cut, redisReply **ret_reply,
                               struct weir_error *reterr)
{
    redisReply *reply = NULL;
    enum weir_status status = weir_redis_send(store, &store->transaction, reterr);
    for (size_t i = 0; i + 1 < store->transaction.commands && status == WEIR_OK; i++) {
        /* One that is not queued makes EXEC refuse them all, so its error is the outcome. */
        status = weir_redis_receive(store, &reply, reterr);
        if (status == WEIR_OK)
            freeReplyObject(reply);
    }
    if (status == WEIR_OK)
        status = weir_redis_receive(store, &reply, reterr);
    if (status != WEIR_OK)
        return status;
    for (size_t i = 0; i < reply->elements; i++) {
        if (reply->element[i]->type != REDIS_REPLY_ERROR)
            continue;
        freeReplyObject(reply);
        return weir_redis_corrupt(store, cut->lane, "a key that was changed while a cut was written", reterr);
    }
    *ret_reply = reply;
    return WEIR_OK;
}

static enum weir_status unwatch(struct weir_redis_store *store, struct weir_error *reterr)
{
    redisReply *reply = NULL;
    redisAppendCommand(store->context, "UNWATCH");
    enum weir_status status = weir_redis_receive(store, &reply, reterr);
    if (status == WEIR_OK)
        freeReplyObject(reply);
    return status;
}

static enum weir_status send_cut(struct weir_redis_store *store, struct weir_redis_lane *lane,
                                 const struct weir_cut *cut, enum answer *ret_answer, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    if (!lane->has_index)
        status = weir_redis_read_index(store, cut->lane, &lane->index, reterr);
    if (status != WEIR_OK)
        return status;
    lane->has_index = false; /* until the answer is known */
    if (!weir_redis_encode_cut(store, lane, cut))
        return weir_fail(
            reterr, WEIR_FATAL,
            "lane %.*s: a cut of more than 900 MiB (%zu windows) can not be written at once; flush more often "
            "(WEIR_FLUSH_INTERVAL)",
            (int)cut->lane.length, cut->lane.data, cut->window_count);
    status = look(store, lane, cut, ret_answer, reterr);
    if (status == WEIR_FENCED || (status == WEIR_OK && *ret_answer != ANSWER_WRITTEN)) {
        enum weir_status unwatched = unwatch(store, NULL);
        return status == WEIR_OK && unwatched != WEIR_OK && *ret_answer == ANSWER_STALE
                   ? weir_fail(reterr, unwatched, "Redis %s: connection lost; reconnecting", store->shown)
                   : status;
    }
    redisReply *reply = NULL;
    if (status == WEIR_OK)
        status = commit(store, cut, &reply, reterr);
    if (status != WEIR_OK)
        return status;
    weir_check(reply != NULL);
    if (reply->type == REDIS_REPLY_ARRAY) {
        weir_redis_settle_cut(&lane->index, cut, reply);
        lane->has_index = true;
        lane->cut_number++;
    } else {
        *ret_answer = ANSWER_STALE; /* nil: the lane hash was changed since WATCH; the next look says by whom */
    }
    freeReplyObject(reply);
    return WEIR_OK;
}

static enum weir_status try_cut(struct weir_redis_store *store, const struct weir_cut *cut, struct weir_error *reterr)
{
    enum weir_status status = weir_redis_reach(store, cut->lane, reterr);
    if (status != WEIR_OK)
        return status;
    struct weir_redis_lane *lane = lane_of(store, cut->lane);
    /* Another epoch than the last: the first cut after a take, or a late one of an owner that was fenced. The second
     * must not make us forget where the first's epoch stands, so it is known only once Redis has accepted it. */
    struct weir_redis_lane other = {.epoch = cut->state.epoch};
    bool is_known = lane->epoch == cut->state.epoch;
    struct weir_redis_lane *writing = is_known ? lane : &other;
    enum answer answer = ANSWER_STALE;
    for (int i = 0; i < 3 && status == WEIR_OK && answer == ANSWER_STALE; i++)
        status = send_cut(store, writing, cut, &answer, reterr);
    if (status == WEIR_OK && answer == ANSWER_STALE)
        status = weir_redis_corrupt(store, cut->lane, "the hash of logs", reterr);
    if (is_known)
        return status;
    if (status == WEIR_OK) {
        struct weir_redis_index old = lane->index;
        lane->epoch = other.epoch;
        lane->cut_number = other.cut_number;
        lane->has_index = other.has_index;
        lane->index = other.index;
        other.index = old;
    }
    forget_lane(&other);
    return status;
}

/* In a cluster the lanes' names lie on another node than most lanes: if that one falls back alone, a lane that has just
 * been made would be there and known to no rater. So they are named again now and then; if that fails, later. */
static void name_lanes(struct weir_redis_store *store)
{
    struct timespec clock;
    clock_gettime(CLOCK_MONOTONIC, &clock);
    int64_t now = clock.tv_sec * WEIR_SECOND + clock.tv_nsec;
    if (!store->node_of_slot || now - store->named < NAMING_PERIOD)
        return;
    store->named = now;
    for (size_t i = 0; i < store->lane_count; i++) {
        struct weir_slice name = {store->lanes[i]->name, store->lanes[i]->length};
        enum weir_status status;
        do
            status = register_lane(store, name, NULL);
        while (weir_redis_follow(store, status));
        if (status != WEIR_OK) {
            store->named += NAMING_PAUSE;
            return;
        }
    }
}

static enum weir_status write_cut(struct weir_window_store *base, const struct weir_cut *cut, struct weir_error *reterr)
{
    struct weir_redis_store *store = (struct weir_redis_store *)base;
    enum weir_status status;
    weir_check(cut->lane.length > 0 && cut->lane.length <= WEIR_LANE_NAME_MAX);
    weir_check(cut->state.next_offset >= cut->expected_offset || cut->is_anew);
    do
        status = try_cut(store, cut, reterr);
    while (weir_redis_follow(store, status));
    if (status == WEIR_OK)
        name_lanes(store);
    return status;
}

/* 4. The handle. */

static void store_free(struct weir_window_store *base)
{
    struct weir_redis_store *store = (struct weir_redis_store *)base;
    weir_redis_close_nodes(store);
    weir_redis_release_kept(store);
    free(store->kept);
    for (size_t i = 0; i < store->lane_count; i++) {
        forget_lane(store->lanes[i]);
        free(store->lanes[i]);
    }
    free(store->lanes);
    weir_redis_command_free(&store->command);
    weir_redis_buffer_free(&store->log);
    weir_redis_buffer_free(&store->gather);
    weir_redis_buffer_free(&store->open);
    weir_redis_buffer_free(&store->probe.bytes);
    weir_redis_buffer_free(&store->transaction.bytes);
    weir_redis_buffer_free(&store->probe_types);
    weir_redis_buffer_free(&store->probe_lengths);
    weir_redis_buffer_free(&store->order);
    weir_redis_endpoint_free(&store->endpoint);
    free(store);
}

static const struct weir_window_store_ops redis_ops = {
    .name = "redis",
    .take_lane = take_lane,
    .write_cut = write_cut,
    .list_lanes = weir_redis_list_lanes,
    .read_lane = weir_redis_read_lane,
    .read_work = weir_redis_read_work,
    .read_more_work = weir_redis_read_more_work,
    .finish_work = weir_redis_finish_work,
    .scan_windows = weir_redis_scan_windows,
    .free = store_free,
};

/* hiredis writes without MSG_NOSIGNAL: a connection that Redis closed would end the process. */
static void ignore_broken_pipe(void)
{
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
        action.sa_handler = SIG_IGN;
        sigaction(SIGPIPE, &action, NULL);
    }
}

enum weir_status weir_store_redis_open(const char *url, struct weir_window_store **ret_store, struct weir_error *reterr)
{
    struct weir_redis_endpoint endpoint;
    enum weir_status status = weir_redis_parse_url(url, &endpoint, reterr);
    if (status != WEIR_OK)
        return status;
    struct weir_redis_store *store = weir_new(sizeof(*store));
    store->base.ops = &redis_ops;
    store->endpoint = endpoint;
    weir_redis_open_nodes(store);
    weir_check(getrandom(&store->token, sizeof(store->token), 0) == sizeof(store->token));
    ignore_broken_pipe();
    *ret_store = &store->base;
    return WEIR_OK;
}
