/* The window store on a real Redis Cluster of three nodes: lanes on all of them, slots that move, a node that is away.
 * Its contract is that of any Redis (test_window_store.c runs it on a cluster too). */
#include <criterion/criterion.h>
#include <inttypes.h>

#include "aggregator/window_store.h"
#include "redis_server.h"

enum { LANES = 24, PATIENCE = 60 };

static struct redis_server node[REDIS_CLUSTER_NODES], replica;
static redisContext *to[REDIS_CLUSTER_NODES];
static char id[REDIS_CLUSTER_NODES][41];
static struct weir_window_store *store;
static char name[LANES][32];
static int slot[LANES];
static struct weir_lane_state state[LANES];
static const unsigned char secret[WEIR_LANE_SECRET_BYTES] = "a secret of thirty-two bytes...";

/* 1. Nodes. */

static redisReply *tell(int n, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    redisReply *reply = redisvCommand(to[n], format, arguments);
    va_end(arguments);
    cr_assert(reply && reply->type != REDIS_REPLY_ERROR, "%s: %s", format, reply ? reply->str : to[n]->errstr);
    return reply;
}

static void call(int n, const char *command)
{
    freeReplyObject(tell(n, command));
}

static void connect_to(int n)
{
    to[n] = redisConnect("127.0.0.1", node[n].port);
    cr_assert(to[n] && !to[n]->err);
    redisReply *reply = tell(n, "CLUSTER MYID");
    memcpy(id[n], reply->str, 41);
    freeReplyObject(reply);
}

static void start_all(void)
{
    char url[128];
    struct weir_error error;
    redis_cluster_start(node);
    for (int n = 0; n < REDIS_CLUSTER_NODES; n++)
        connect_to(n);
    snprintf(url, sizeof(url), "redis://127.0.0.1:1,127.0.0.1:%d", node[1].port);
    cr_assert_eq(weir_store_redis_open(url, &store, &error), WEIR_OK, "the first one does not run");
    for (int i = 0; i < LANES; i++) {
        snprintf(name[i], sizeof(name[i]), "events:%d", i);
        redisReply *reply = tell(0, "CLUSTER KEYSLOT weir:{%s}:lane", name[i]);
        slot[i] = (int)reply->integer;
        freeReplyObject(reply);
    }
}

static void stop_all(void)
{
    weir_window_store_free(store);
    store = NULL;
    for (int n = 0; n < REDIS_CLUSTER_NODES; n++) {
        if (to[n])
            redisFree(to[n]);
        to[n] = NULL;
        redis_server_stop(&node[n]);
    }
    redis_server_stop(&replica);
}

TestSuite(window_store_cluster, .init = start_all, .fini = stop_all, .timeout = 600);

static int home_of(int lane)
{
    return (slot[lane] * REDIS_CLUSTER_NODES + REDIS_CLUSTER_NODES - 1) / 16384;
}

static void pause_between_polls(void)
{
    nanosleep(&(struct timespec){0, 20000000}, NULL);
}

/* 2. Lanes. */

struct seen {
    size_t windows;
    uint64_t events;
    size_t id_bytes;
};

static void see_window(void *context, const struct weir_window *window, bool is_closed, struct weir_slice unique)
{
    struct seen *seen = context;
    (void)is_closed;
    (void)unique;
    seen->windows++;
    seen->events += window->total.events;
}

static void see_ids(void *context, int64_t bucket, struct weir_slice ids)
{
    (void)bucket;
    ((struct seen *)context)->id_bytes += ids.length;
}

static enum weir_status take(int lane, struct seen *seen, struct weir_error *error)
{
    struct weir_lane_loader loader = {seen, see_window, see_ids};
    *seen = (struct seen){0};
    return store->ops->take_lane(store, weir_slice_text(name[lane]), secret, &loader, &state[lane], error);
}

/* A cut of one closed window of its own span, and two ids. */
static enum weir_status write_cut(int lane, struct weir_error *error)
{
    char ids[2 * WEIR_ID_BYTES] = "two ids of fifteen bytes each";
    int64_t offset = state[lane].next_offset + 1;
    struct weir_cut_window window = {.window = {.series_key = weir_slice_text("series"),
                                                .start = offset * 60,
                                                .end = offset * 60 + 60,
                                                .total = {.events = 7}},
                                     .is_closed = true};
    struct weir_cut_ids bucket = {.bucket = offset, .ids = weir_slice_of(ids, sizeof(ids))};
    struct weir_cut cut = {.lane = weir_slice_text(name[lane]),
                           .expected_offset = state[lane].next_offset,
                           .state = state[lane],
                           .window_count = 1,
                           .windows = &window,
                           .ids_count = 1,
                           .ids = &bucket,
                           .forget_ids_below = INT64_MIN,
                           .forget_windows_below = INT64_MIN};
    cut.state.next_offset = offset;
    enum weir_status status = store->ops->write_cut(store, &cut, error);
    if (status == WEIR_OK)
        state[lane].next_offset = offset;
    return status;
}

static void must_take(int lane, size_t windows)
{
    struct weir_error error = {""};
    struct seen seen;
    enum weir_status status = take(lane, &seen, &error);
    cr_assert_eq(status, WEIR_OK, "%s", error.text);
    cr_assert_eq(seen.windows, windows);
    cr_assert_eq(seen.events, 7 * windows);
    cr_assert_eq(seen.id_bytes, 2 * WEIR_ID_BYTES * windows);
}

static void must_write(int lane)
{
    struct weir_error error = {""};
    enum weir_status status = write_cut(lane, &error);
    cr_assert_eq(status, WEIR_OK, "%s", error.text);
}

static size_t work_of(int lane, enum weir_status *ret_status, bool finish)
{
    struct weir_work work[64];
    struct weir_error error = {""};
    size_t count = 0;
    *ret_status = store->ops->read_work(store, weir_slice_text(name[lane]), 64, work, &count, &error);
    if (*ret_status == WEIR_OK && finish)
        *ret_status = store->ops->finish_work(store, weir_slice_text(name[lane]), work, count, &error);
    cr_assert(*ret_status == WEIR_OK || *ret_status == WEIR_RETRY, "%s", error.text);
    return count;
}

static void count_window(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    (void)window;
    (void)is_closed;
    (void)has_work;
    ++*(size_t *)context;
}

static void count_lane(void *context, struct weir_slice lane, const struct weir_lane_state *found)
{
    (void)lane;
    (void)found;
    ++*(size_t *)context;
}

static size_t listed(void)
{
    struct weir_error error;
    size_t count = 0;
    cr_assert_eq(store->ops->list_lanes(store, "events", count_lane, &count, &error), WEIR_OK, "%s", error.text);
    return count;
}

/* 3. What only a cluster does. */

Test(window_store_cluster, lanes_lie_on_all_nodes_and_are_listed_from_any)
{
    int lanes[REDIS_CLUSTER_NODES] = {0};
    enum weir_status status;
    for (int i = 0; i < LANES; i++) {
        must_take(i, 0);
        must_write(i);
        redisReply *reply = tell(home_of(i), "EXISTS weir:{%s}:lane", name[i]);
        cr_assert_eq(reply->integer, 1, "each lane where its slot is");
        freeReplyObject(reply);
        lanes[home_of(i)]++;
    }
    cr_assert(lanes[0] && lanes[1] && lanes[2]);
    cr_assert_eq(listed(), LANES);
    for (int i = 0; i < LANES; i++) {
        cr_assert_eq(work_of(i, &status, true), 1);
        cr_assert_eq(work_of(i, &status, false), 0);
        must_take(i, 1);
    }

    /* The names lie in one slot. When they alone are lost, the owners' next cuts bring them back. */
    for (int n = 0; n < REDIS_CLUSTER_NODES; n++) {
        redisReply *reply = redisCommand(to[n], "DEL weir:lanes"); /* two of the three say MOVED */
        freeReplyObject(reply);
    }
    cr_assert_eq(listed(), 0);
    for (time_t end = time(NULL) + PATIENCE; listed() < LANES; pause_between_polls()) {
        cr_assert_lt(time(NULL), end);
        for (int i = 0; i < LANES; i++)
            must_write(i);
    }
}

static void move_keys(int lane, int from, int target, size_t leave)
{
    redisReply *keys = tell(from, "CLUSTER GETKEYSINSLOT %d 1000", slot[lane]);
    cr_assert_geq(keys->elements, leave);
    for (size_t i = leave; i < keys->elements; i++)
        freeReplyObject(tell(from, "MIGRATE 127.0.0.1 %d %b 0 5000", node[target].port, keys->element[i]->str,
                             (size_t)keys->element[i]->len));
    freeReplyObject(keys);
}

/* A cut waits, as it makes new keys. What only reads answers with everything, or waits for what is on its way. */
static void must_wait(int lane, size_t windows)
{
    struct weir_error error = {""};
    struct weir_lane_state kept = state[lane];
    struct seen seen;
    size_t scanned = 0;
    enum weir_status status = write_cut(lane, &error);
    cr_assert_eq(status, WEIR_RETRY, "%s", error.text);
    cr_assert(strstr(error.text, "moving this lane's keys"), "%s", error.text);
    status = take(lane, &seen, &error);
    cr_assert(status == WEIR_RETRY
                  || (status == WEIR_OK && seen.windows == windows && seen.events == 7 * windows
                      && seen.id_bytes == 2 * WEIR_ID_BYTES * windows),
              "%s", error.text);
    status = store->ops->scan_windows(store, weir_slice_text(name[lane]), count_window, &scanned, &error);
    cr_assert(status == WEIR_RETRY || (status == WEIR_OK && scanned == windows), "%s", error.text);
    size_t work = work_of(lane, &status, false);
    cr_assert(status == WEIR_RETRY || work == windows, "%s", error.text);
    state[lane] = kept;
}

Test(window_store_cluster, a_lane_waits_while_its_slot_moves_and_goes_on_where_it_is_now)
{
    enum { LANE = 3, CUTS = 5 };
    int from = home_of(LANE), target = (from + 1) % REDIS_CLUSTER_NODES;
    struct weir_error error;
    enum weir_status status;
    must_take(LANE, 0);
    for (int i = 0; i < CUTS; i++)
        must_write(LANE);
    redisReply *all = tell(from, "CLUSTER COUNTKEYSINSLOT %d", slot[LANE]);
    size_t keys = (size_t)all->integer;
    freeReplyObject(all);
    freeReplyObject(tell(target, "CLUSTER SETSLOT %d IMPORTING %s", slot[LANE], id[from]));
    freeReplyObject(tell(from, "CLUSTER SETSLOT %d MIGRATING %s", slot[LANE], id[target]));
    must_wait(LANE, CUTS); /* a new key would have to be made at the target, the others are at the source */
    for (size_t leave = keys - 1; leave > 0; leave -= leave / 3 + 1) {
        move_keys(LANE, from, target, leave);
        must_wait(LANE, CUTS);
    }
    move_keys(LANE, from, target, 0);
    must_wait(LANE, CUTS);
    freeReplyObject(tell(target, "CLUSTER SETSLOT %d NODE %s", slot[LANE], id[target]));
    freeReplyObject(tell(from, "CLUSTER SETSLOT %d NODE %s", slot[LANE], id[target]));
    cr_assert_eq(write_cut(LANE, &error), WEIR_FENCED, "it was taken meanwhile: %s", error.text);
    must_take(LANE, CUTS);
    must_write(LANE);
    cr_assert_eq(work_of(LANE, &status, true), CUTS + 1);
}

Test(window_store_cluster, a_moved_slot_is_followed_at_once)
{
    enum { LANE = 3 };
    int home = home_of(LANE);
    enum weir_status status;
    must_take(LANE, 0);
    must_write(LANE);
    for (int i = 1; i <= 4; i++) {
        int from = (home + i - 1) % REDIS_CLUSTER_NODES, target = (home + i) % REDIS_CLUSTER_NODES;
        freeReplyObject(tell(target, "CLUSTER SETSLOT %d IMPORTING %s", slot[LANE], id[from]));
        freeReplyObject(tell(from, "CLUSTER SETSLOT %d MIGRATING %s", slot[LANE], id[target]));
        move_keys(LANE, from, target, 0);
        freeReplyObject(tell(target, "CLUSTER SETSLOT %d NODE %s", slot[LANE], id[target]));
        freeReplyObject(tell(from, "CLUSTER SETSLOT %d NODE %s", slot[LANE], id[target]));
        switch (i) {
        case 1:
            must_write(LANE);
            break;
        case 2:
            cr_assert_eq(work_of(LANE, &status, true), 2);
            break;
        case 3:
            must_take(LANE, 2);
            break;
        default:
            cr_assert_eq(listed(), 1);
        }
    }
}

Test(window_store_cluster, a_node_that_comes_back_empty_is_noticed)
{
    enum { LANE = 3 };
    int home = home_of(LANE);
    struct weir_error error;
    enum weir_status status;
    must_take(LANE, 0);
    must_write(LANE);
    kill(node[home].pid, SIGKILL);
    waitpid(node[home].pid, NULL, 0);
    cr_assert_eq(write_cut(LANE, &error), WEIR_RETRY, "%s", error.text);
    int other = LANE;
    while (home_of(other) == home)
        other = (other + 1) % LANES;
    for (time_t end = time(NULL) + PATIENCE; !strstr(error.text, "not serving"); pause_between_polls()) {
        struct weir_lane_state found;
        cr_assert_lt(time(NULL), end, "%s", error.text);
        status = store->ops->read_lane(store, weir_slice_text(name[other]), &found, &error);
        cr_assert(status == WEIR_OK || status == WEIR_RETRY, "%s", error.text);
    }
    redis_server_launch(&node[home]);
    redisFree(to[home]);
    to[home] = NULL;
    redis_cluster_await(node);
    while ((status = write_cut(LANE, &error)) == WEIR_RETRY)
        pause_between_polls();
    cr_assert_eq(status, WEIR_FENCED, "nothing was saved, so this is an older cut: %s", error.text);
    must_take(LANE, 0);
    must_write(LANE);
}

static void until(redisContext *context, const char *command, const char *wanted)
{
    for (time_t end = time(NULL) + PATIENCE;; pause_between_polls()) {
        redisReply *reply = redisCommand(context, command);
        cr_assert(reply != NULL, "%s", context->errstr);
        bool is_there = reply->type != REDIS_REPLY_ERROR && (!wanted || (reply->str && strstr(reply->str, wanted)));
        freeReplyObject(reply);
        if (is_there)
            return;
        cr_assert_lt(time(NULL), end, "%s never says %s", command, wanted ? wanted : "OK");
    }
}

/* Of a killed master the replica is promoted, by the cluster alone. What it has is what counts. */
Test(window_store_cluster, a_promoted_replica_is_found)
{
    enum { LANE = 3 };
    int home = home_of(LANE);
    struct weir_error error;
    enum weir_status status;
    char command[80];
    redis_cluster_join(&replica, &node[home]);
    redisContext *context = redisConnect("127.0.0.1", replica.port);
    snprintf(command, sizeof(command), "CLUSTER REPLICATE %s", id[home]);
    until(context, command, NULL); /* as soon as it has heard of it */
    until(context, "INFO replication", "master_link_status:up");
    must_take(LANE, 0);
    must_write(LANE);
    snprintf(command, sizeof(command), "SET {%s}:last 1", name[LANE]);
    call(home, command); /* WAIT is for what its own connection has written: this comes after the cut */
    redisReply *copies = tell(home, "WAIT 1 60000");
    cr_assert_eq(copies->integer, 1);
    freeReplyObject(copies);
    for (int n = 0; n < REDIS_CLUSTER_NODES; n++)
        until(to[n], "CLUSTER NODES", "slave"); /* its votes come from those who know it */
    kill(node[home].pid, SIGKILL);
    waitpid(node[home].pid, NULL, 0);
    for (time_t end = time(NULL) + PATIENCE; (status = write_cut(LANE, &error)) == WEIR_RETRY; pause_between_polls())
        cr_assert_lt(time(NULL), end, "%s", error.text);
    cr_assert_eq(status, WEIR_OK, "the replica had all of it: %s", error.text);
    must_take(LANE, 2);
    redisReply *reply = redisCommand(context, "EXISTS weir:{%s}:lane", name[LANE]);
    cr_assert_eq(reply->integer, 1);
    freeReplyObject(reply);
    redisFree(context);
}

Test(window_store_cluster, several_hosts_are_for_a_cluster_only)
{
    struct redis_server single;
    struct weir_window_store *other;
    struct weir_lane_state found;
    struct weir_error error;
    char url[128];
    redis_server_start(&single);
    snprintf(url, sizeof(url), "redis://127.0.0.1:%d,127.0.0.1:%d", single.port, single.port);
    cr_assert_eq(weir_store_redis_open(url, &other, &error), WEIR_OK);
    enum weir_status status = other->ops->read_lane(other, weir_slice_text("events:0"), &found, &error);
    weir_window_store_free(other);
    redis_server_stop(&single);
    cr_assert_eq(status, WEIR_FATAL);
    cr_assert(strstr(error.text, "not a Redis Cluster"), "%s", error.text);
    call(0, "PING");
}
