/* Which Redis holds a lane: the only one, or a node of a Redis Cluster.
 *
 * Whether it is a cluster is asked with the first connection (CLUSTER SLOTS), so one URL serves both, and a single
 * Redis costs nothing more afterwards. All keys of a lane share a slot, so each call on the store talks to one node
 * alone, and nothing above knows of the others.
 *
 * MOVED: the answer says where the slot is now, and the call is made again there (weir_redis_follow). A node that can
 * not be reached may have been replaced: the map of slots is asked for again, of another node each time, as one that is
 * cut off knows only the old one. Then a lane is in the state of any Redis that failed over: perhaps older, which its
 * owner sees at the next cut.
 *
 * ASK and TRYAGAIN: the slot's keys are on their way to another node, one by one. A lane is read and written as a whole
 * or not at all, and a cut is one transaction on one node; so the call waits (WEIR_RETRY) until all of them are there.
 * Following ASK would be wrong, too: the node that keys are moving to answers for a key that has not come yet as if it
 * did not exist. The node that they are leaving never does, so nothing is read as missing that is only elsewhere.
 */
#include <stdio.h>
#include <stdlib.h>

#include "aggregator/store_redis_internal.h"

enum { REDIRECTS_MAX = 3 };

/* 1. Slots. */

/* CRC16 (XMODEM) of the bytes between the first '{' of the key and the next '}', or of the whole key. */
static size_t slot_of(const char *key, size_t length)
{
    const char *open = memchr(key, '{', length);
    const char *close = open ? memchr(open, '}', length - (size_t)(open - key)) : NULL;
    if (close && close > open + 1) {
        key = open + 1;
        length = (size_t)(close - key);
    }
    uint16_t crc = 0;
    for (size_t i = 0; i < length; i++) {
        crc = (uint16_t)(crc ^ (unsigned char)key[i] << 8);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc % WEIR_REDIS_SLOTS;
}

/* 2. Nodes. */

static void choose(struct weir_redis_store *store, struct weir_redis_node *node)
{
    store->node = node;
    store->context = node->context;
    store->shown = node->shown;
}

static struct weir_redis_node *node_of(struct weir_redis_store *store, struct weir_slice host, int port)
{
    for (size_t i = 0; i < store->node_count; i++) {
        struct weir_redis_node *node = store->nodes[i];
        if (node->host && node->port == port && weir_slice_equal(weir_slice_text(node->host), host))
            return node;
    }
    struct weir_redis_node *node = weir_new(sizeof(*node));
    node->host = weir_copy_text(host.data, host.length);
    node->port = port;
    weir_check(asprintf(&node->shown, "%s:%d", node->host, port) > 0);
    store->nodes = weir_resize(store->nodes, store->node_count + 1, sizeof(struct weir_redis_node *));
    store->nodes[store->node_count++] = node;
    return node;
}

static void node_free(struct weir_redis_node *node)
{
    if (node->context)
        redisFree(node->context);
    free(node->host);
    free(node->shown);
    free(node);
}

void weir_redis_open_nodes(struct weir_redis_store *store)
{
    const struct weir_redis_endpoint *endpoint = &store->endpoint;
    for (size_t i = 0; i < endpoint->host_count; i++)
        node_of(store, weir_slice_text(endpoint->hosts[i].name), endpoint->hosts[i].port)->is_seed = true;
    if (endpoint->host_count == 0) {
        store->nodes = weir_new(sizeof(struct weir_redis_node *));
        store->nodes[store->node_count++] = weir_new(sizeof(struct weir_redis_node));
        store->nodes[0]->shown = weir_copy_text(endpoint->path, strlen(endpoint->path));
        store->nodes[0]->is_seed = true;
    }
    choose(store, store->nodes[0]);
}

void weir_redis_close_nodes(struct weir_redis_store *store)
{
    for (size_t i = 0; i < store->node_count; i++)
        node_free(store->nodes[i]);
    free(store->nodes);
    free(store->node_of_slot);
}

/* 3. The map. */

/* An element of CLUSTER SLOTS: [first, last, [host, port, ...] of the master, replicas ...]. */
static bool is_range(const redisReply *range)
{
    if (range->type != REDIS_REPLY_ARRAY || range->elements < 3 || range->element[0]->type != REDIS_REPLY_INTEGER
        || range->element[1]->type != REDIS_REPLY_INTEGER || range->element[2]->type != REDIS_REPLY_ARRAY)
        return false;
    const redisReply *master = range->element[2];
    return range->element[0]->integer >= 0 && range->element[0]->integer <= range->element[1]->integer
           && range->element[1]->integer < WEIR_REDIS_SLOTS && master->elements >= 2
           && (master->element[0]->type == REDIS_REPLY_STRING || master->element[0]->type == REDIS_REPLY_NIL)
           && master->element[1]->type == REDIS_REPLY_INTEGER && master->element[1]->integer > 0
           && master->element[1]->integer <= 65535;
}

/* A node without an address of its own is to be reached as the one that named it was. */
static struct weir_slice host_or(const char *host, size_t length, const struct weir_redis_node *asked)
{
    if (length > 0 && !(length == 1 && *host == '?'))
        return weir_slice_of(host, length);
    return weir_slice_text(asked->host ? asked->host : "127.0.0.1");
}

static void forget_nodes(struct weir_redis_store *store)
{
    size_t kept = 0;
    for (size_t i = 0; i < store->node_count; i++) {
        struct weir_redis_node *node = store->nodes[i];
        if (node->is_serving || node->is_seed || node == store->node)
            store->nodes[kept++] = node;
        else
            node_free(node);
    }
    store->node_count = kept;
}

static bool take_map(struct weir_redis_store *store, const redisReply *ranges)
{
    for (size_t i = 0; i < ranges->elements; i++)
        if (!is_range(ranges->element[i]))
            return false;
    if (!store->node_of_slot)
        store->node_of_slot = weir_new_array(WEIR_REDIS_SLOTS, sizeof(struct weir_redis_node *));
    memset(store->node_of_slot, 0, WEIR_REDIS_SLOTS * sizeof(struct weir_redis_node *));
    for (size_t i = 0; i < store->node_count; i++)
        store->nodes[i]->is_serving = false;
    for (size_t i = 0; i < ranges->elements; i++) {
        const redisReply *range = ranges->element[i], *master = range->element[2];
        struct weir_redis_node *node =
            node_of(store, host_or(master->element[0]->str, master->element[0]->len, store->node),
                    (int)master->element[1]->integer);
        node->is_serving = true;
        for (long long slot = range->element[0]->integer; slot <= range->element[1]->integer; slot++)
            store->node_of_slot[slot] = node;
    }
    forget_nodes(store);
    store->is_map_old = ranges->elements == 0; /* a node that has not joined yet */
    return true;
}

/* Of store->node. Not a cluster: WEIR_OK, and there is no map. */
static enum weir_status read_map(struct weir_redis_store *store, struct weir_error *reterr)
{
    redisReply *reply = NULL;
    bool is_single = false;
    enum weir_status status = weir_redis_try(store, "CLUSTER SLOTS", &reply, reterr);
    if (status != WEIR_OK)
        return status;
    if (reply->type == REDIS_REPLY_ERROR)
        is_single = true; /* switched off, forbidden, or not known behind a proxy */
    else if (reply->type != REDIS_REPLY_ARRAY || !take_map(store, reply))
        status = weir_fail(reterr, WEIR_FATAL, "Redis %s: CLUSTER SLOTS is not answered as Redis does", store->shown);
    freeReplyObject(reply);
    if (is_single && store->node_of_slot)
        return weir_fail(reterr, WEIR_RETRY, "Redis %s: this node is not in the Redis Cluster any more", store->shown);
    if (is_single && store->endpoint.host_count > 1)
        return weir_fail(reterr, WEIR_FATAL,
                         "Redis %s: the URL names several hosts, but this is not a Redis Cluster (or CLUSTER SLOTS is "
                         "forbidden): name the primary alone",
                         store->shown);
    return status;
}

/* Of whoever answers; those that we are connected to come first, as the others may keep us waiting. */
static enum weir_status find_map(struct weir_redis_store *store, struct weir_error *reterr)
{
    enum weir_status status = WEIR_RETRY;
    size_t count = store->node_count, first = store->asked++;
    struct weir_redis_node **order = weir_new_array(count, sizeof(struct weir_redis_node *));
    size_t ordered = 0;
    for (int connected = 1; connected >= 0; connected--)
        for (size_t i = 0; i < count; i++)
            if ((store->nodes[(first + i) % count]->context != NULL) == connected)
                order[ordered++] = store->nodes[(first + i) % count];
    for (size_t i = 0; i < count && status == WEIR_RETRY; i++) {
        choose(store, order[i]);
        status = weir_redis_connect(store, reterr);
        if (status == WEIR_OK)
            status = read_map(store, reterr);
    }
    free(order);
    return status;
}

/* 4. Reaching. */

/* NULL: the names. */
static enum weir_status reach(struct weir_redis_store *store, const struct weir_slice *lane, struct weir_error *reterr)
{
    char key[WEIR_REDIS_KEY_MAX] = "weir:lanes";
    enum weir_status status = WEIR_OK;
    if (!store->node_of_slot && store->context && !store->context->err)
        return WEIR_OK;
    if (!store->node_of_slot || store->is_map_old)
        status = find_map(store, reterr);
    if (status != WEIR_OK || !store->node_of_slot)
        return status;
    size_t slot = slot_of(key, lane ? weir_redis_key(key, *lane, "lane") : strlen(key));
    if (!store->node_of_slot[slot]) {
        store->is_map_old = true;
        return weir_fail(reterr, WEIR_RETRY, "Redis %s: no node of the Redis Cluster serves slot %zu", store->shown,
                         slot);
    }
    choose(store, store->node_of_slot[slot]);
    return weir_redis_connect(store, reterr);
}

enum weir_status weir_redis_reach(struct weir_redis_store *store, struct weir_slice lane, struct weir_error *reterr)
{
    return reach(store, &lane, reterr);
}

enum weir_status weir_redis_reach_names(struct weir_redis_store *store, struct weir_error *reterr)
{
    return reach(store, NULL, reterr);
}

enum weir_status weir_redis_moved(struct weir_redis_store *store, const char *answer, enum weir_status status,
                                  struct weir_error *reterr)
{
    char host[256] = "";
    int slot = -1, port = 0, read = 0;
    const char *colon = strrchr(answer, ':');
    if (!store->node_of_slot)
        return weir_fail(
            reterr, WEIR_FATAL,
            "Redis %s: this is a node of a Redis Cluster, which does not answer CLUSTER SLOTS: allow it to "
            "this user (+cluster|slots)",
            store->shown);
    if (sscanf(answer, "MOVED %d %n", &slot, &read) != 1 || slot < 0 || slot >= WEIR_REDIS_SLOTS || !colon
        || colon < answer + read || (size_t)(colon - answer - read) >= sizeof(host))
        return status; /* the map is asked for */
    memcpy(host, answer + read, (size_t)(colon - answer - read));
    if (sscanf(colon, ":%5d", &port) != 1 || port <= 0 || port > 65535)
        return status;
    store->node_of_slot[slot] = node_of(store, host_or(host, strlen(host), store->node), port);
    store->is_map_old = false;
    store->is_redirected = true;
    return status;
}

bool weir_redis_follow(struct weir_redis_store *store, enum weir_status status)
{
    bool again = status == WEIR_RETRY && store->is_redirected && store->redirects < REDIRECTS_MAX;
    store->redirects = again ? store->redirects + 1 : 0;
    store->is_redirected = false;
    return again;
}
