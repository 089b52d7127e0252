/* The lanes in Redis: their names, and how far each one is (docs/redis.md). Nothing is written here. */
#include "aggregator/store_redis_internal.h"

/* 1. What the lane hash says. */

enum { STATE_TIMES = 7, STATE_COUNTS = 6 };

const char *const weir_redis_state_field[WEIR_REDIS_STATE_FIELDS] = {
    "epoch", "next_offset", "high",      "watermark", "first_time", "last_time",   "forgotten", "stamp",
    "read",  "counted",     "duplicate", "unmatched", "retracted",  "quarantined", "secret",    "gaps"};

/* Older cuts have no such field. */
static bool is_new(const redisReply *reply, bool is_added_later)
{
    return is_added_later && reply->type == REDIS_REPLY_NIL;
}

bool weir_redis_read_state(redisReply *const *values, struct weir_lane_state *ret_state)
{
    struct weir_lane_state state = {.stamp = -1};
    int64_t *times[STATE_TIMES] = {&state.next_offset, &state.high,      &state.watermark, &state.first_time,
                                   &state.last_time,   &state.forgotten, &state.stamp};
    uint64_t *counts[STATE_COUNTS] = {&state.counts.read,      &state.counts.counted,   &state.counts.duplicate,
                                      &state.counts.unmatched, &state.counts.retracted, &state.counts.quarantined};
    bool fits = weir_redis_read_u64(values[0], &state.epoch);
    for (size_t i = 0; i < STATE_TIMES; i++)
        fits = fits
               && (is_new(values[1 + i], times[i] == &state.stamp || times[i] == &state.forgotten)
                   || weir_redis_read_i64(values[1 + i], times[i]));
    values += 1 + STATE_TIMES;
    for (size_t i = 0; i < STATE_COUNTS; i++)
        fits =
            fits
            && (is_new(values[i], counts[i] == &state.counts.retracted) || weir_redis_read_u64(values[i], counts[i]));
    const redisReply *secret = values[STATE_COUNTS], *gaps = values[1 + STATE_COUNTS];
    struct weir_slice gaps_text =
        gaps->type == REDIS_REPLY_STRING ? weir_slice_of(gaps->str, gaps->len) : weir_slice_of("", 0);
    if (!fits || secret->type != REDIS_REPLY_STRING || secret->len != WEIR_LANE_SECRET_BYTES
        || (gaps->type != REDIS_REPLY_STRING && !is_new(gaps, true)) || !weir_gaps_parse(gaps_text, &state.gaps))
        return false;
    memcpy(state.secret, secret->str, WEIR_LANE_SECRET_BYTES);
    *ret_state = state;
    return true;
}

/* 2. Which lanes there are. */

static bool is_of_topic(const redisReply *lane, const char *topic)
{
    if (lane->type != REDIS_REPLY_STRING || lane->len == 0 || lane->len > WEIR_LANE_NAME_MAX)
        return false;
    const char *colon = memrchr(lane->str, ':', lane->len);
    return colon
           && (!topic
               || weir_slice_equal(weir_slice_text(topic), weir_slice_of(lane->str, (size_t)(colon - lane->str))));
}

/* *ret_state with epoch 0: no such lane. */
static enum weir_status try_state_of(struct weir_redis_store *store, struct weir_slice lane,
                                     struct weir_lane_state *ret_state, struct weir_error *reterr)
{
    char key[WEIR_REDIS_KEY_MAX];
    const char *argv[3 + WEIR_REDIS_STATE_FIELDS] = {"HMGET", key, "format"};
    size_t lengths[3 + WEIR_REDIS_STATE_FIELDS] = {5, weir_redis_key(key, lane, "lane"), 6};
    for (size_t i = 0; i < WEIR_REDIS_STATE_FIELDS; i++) {
        argv[3 + i] = weir_redis_state_field[i];
        lengths[3 + i] = strlen(weir_redis_state_field[i]);
    }
    redisReply *reply = NULL;
    enum weir_status status = weir_redis_reach(store, lane, reterr);
    if (status != WEIR_OK)
        return status;
    redisAppendCommandArgv(store->context, 3 + WEIR_REDIS_STATE_FIELDS, argv, lengths);
    status = weir_redis_receive_array(store, 1 + WEIR_REDIS_STATE_FIELDS, &reply, reterr);
    if (status != WEIR_OK)
        return status;
    const redisReply *format = reply->element[0];
    if (format->type == REDIS_REPLY_NIL && reply->element[1]->type == REDIS_REPLY_NIL)
        *ret_state = (struct weir_lane_state){.next_offset = -1, .stamp = -1};
    else if (!weir_redis_is_format(format))
        status = weir_redis_other_format(store, lane, reterr);
    else if (!weir_redis_read_state(reply->element + 1, ret_state))
        status = weir_redis_corrupt(store, lane, "the lane hash", reterr);
    freeReplyObject(reply);
    return status;
}

static enum weir_status read_state_of(struct weir_redis_store *store, struct weir_slice lane,
                                      struct weir_lane_state *ret_state, struct weir_error *reterr)
{
    enum weir_status status;
    do
        status = try_state_of(store, lane, ret_state, reterr);
    while (weir_redis_follow(store, status));
    return status;
}

enum weir_status weir_redis_read_lane(struct weir_window_store *base, struct weir_slice lane,
                                      struct weir_lane_state *ret_state, struct weir_error *reterr)
{
    return read_state_of((struct weir_redis_store *)base, lane, ret_state, reterr);
}

static enum weir_status read_names(struct weir_redis_store *store, redisReply **ret_names, struct weir_error *reterr)
{
    enum weir_status status;
    do {
        status = weir_redis_reach_names(store, reterr);
        if (status == WEIR_OK) {
            redisAppendCommand(store->context, "SMEMBERS weir:lanes");
            status = weir_redis_receive_array(store, SIZE_MAX, ret_names, reterr);
        }
    } while (weir_redis_follow(store, status));
    return status;
}

enum weir_status weir_redis_list_lanes(struct weir_window_store *base, const char *topic,
                                       void (*visit)(void *context, struct weir_slice lane,
                                                     const struct weir_lane_state *state),
                                       void *context, struct weir_error *reterr)
{
    struct weir_redis_store *store = (struct weir_redis_store *)base;
    redisReply *names = NULL;
    enum weir_status status = read_names(store, &names, reterr);
    if (status != WEIR_OK)
        return status;
    for (size_t i = 0; i < names->elements && status == WEIR_OK; i++) {
        struct weir_slice lane = weir_slice_of(names->element[i]->str, names->element[i]->len);
        struct weir_lane_state state = {0};
        if (!is_of_topic(names->element[i], topic))
            continue;
        status = read_state_of(store, lane, &state, reterr);
        if (status == WEIR_OK
            && state.epoch > 0) /* 0: a worker is between naming the lane and taking it, or died there */
            visit(context, lane, &state);
    }
    freeReplyObject(names);
    return status;
}
