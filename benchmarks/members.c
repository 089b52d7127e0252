#include "benchmarks/members.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "cli/worker.h"
#include "common/calendar.h"
#include "common/cores.h"
#include "common/daemon.h"

enum {
    HOLD_MS = 2,       /* a poll while messages are held back: so late may the others go */
    JOIN_SECONDS = 60, /* until each member has its share */
};

struct crew;

struct timed_store {
    struct weir_window_store store;
    struct weir_window_store *real; /* NULL: cuts are dropped */
    struct crew *crew;
};

struct member {
    struct weir_source source;
    struct weir_source *real;
    struct weir_source_listener listener; /* the worker's */
    struct timed_store taking, writing;   /* the consuming thread's, the writing thread's */
    struct weir_quarantine *quarantine;
    struct weir_worker *worker;
    struct crew *crew;
    pthread_t thread;
    bool is_ours[WEIR_MEMBERS_MAX];
    _Atomic int lanes; /* how many of them are */
    bool is_let_go;
};

struct crew {
    const struct weir_members_settings *settings;
    struct member members[WEIR_MEMBERS_MAX];
    struct weir_worker_peers peers;
    struct weir_took joining, start, took;
    _Atomic bool has_begun;                    /* start is set, by the member that is let go first */
    _Atomic bool is_over;                      /* took is its who found it false */
    _Atomic bool is_done;                      /* stops the workers */
    _Atomic int64_t durable[WEIR_MEMBERS_MAX]; /* by partition */
    _Atomic uint64_t cuts, windows;
};

/* 1. The source: holds messages back, and starts the clock. */

static void deal(struct member *member, int32_t partition, bool is_ours)
{
    if (partition >= member->crew->settings->topic->partitions)
        weir_measure_die("the topic has a partition %d", partition);
    if (member->is_ours[partition] != is_ours)
        member->lanes += is_ours ? 1 : -1;
    member->is_ours[partition] = is_ours;
}

static bool on_assigned(void *context, struct weir_slice topic, int32_t partition, int64_t *ret_offset,
                        struct weir_error *reterr)
{
    struct member *member = context;

    deal(member, partition, true);
    return member->listener.assigned(member->listener.context, topic, partition, ret_offset, reterr);
}

static void on_revoked(void *context, struct weir_slice topic, int32_t partition, bool lost)
{
    struct member *member = context;

    deal(member, partition, false);
    member->listener.revoked(member->listener.context, topic, partition, lost);
}

static int64_t on_stamp(void *context, int32_t partition)
{
    const struct member *member = context;
    return member->listener.stamp(member->listener.context, partition);
}

static void on_gone(void *context, int32_t partition, enum weir_gap_kind kind, int64_t next_offset)
{
    struct member *member = context;
    member->listener.gone(member->listener.context, partition, kind, next_offset);
}

/* The group deals out evenly, so no partition goes elsewhere once each member has its share. */
static bool is_dealt_out(const struct crew *crew)
{
    int members = crew->settings->members, partitions = crew->settings->topic->partitions, all = 0, least = partitions;

    for (int i = 0; i < members; i++) {
        int lanes = crew->members[i].lanes;
        all += lanes;
        least = lanes < least ? lanes : least;
    }
    return all == partitions && least >= partitions / members;
}

static bool may_go(const struct member *member)
{
    const struct crew *crew = member->crew;

    if (weir_measure_since(crew->joining).wall > JOIN_SECONDS)
        weir_measure_die("the group has not dealt out its partitions to %d members", crew->settings->members);
    return member == crew->members ? is_dealt_out(crew) : crew->has_begun;
}

static enum weir_status hold_back(struct member *member, struct weir_message *messages, size_t max, size_t *ret_count,
                                  struct weir_error *reterr)
{
    enum weir_status status = member->real->ops->poll(member->real, HOLD_MS, messages, max, ret_count, reterr);

    *ret_count = 0; /* read again when it is let go */
    for (int32_t i = 0; i < WEIR_MEMBERS_MAX; i++)
        if (member->is_ours[i])
            member->real->ops->pause(member->real, i);
    return status;
}

static enum weir_status let_go(struct member *member, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    member->is_let_go = true;
    for (int32_t i = 0; i < WEIR_MEMBERS_MAX && status == WEIR_OK; i++) {
        if (!member->is_ours[i])
            continue;
        member->real->ops->resume(member->real, i);
        status = member->real->ops->seek(member->real, i, 0, reterr);
    }
    return status;
}

static enum weir_status timed_poll(struct weir_source *self, int timeout_ms, struct weir_message *ret_messages,
                                   size_t max, size_t *ret_count, struct weir_error *reterr)
{
    struct member *member = (struct member *)self;
    enum weir_status status = WEIR_OK;

    *ret_count = 0;
    if (!member->is_let_go && !may_go(member))
        return hold_back(member, ret_messages, max, ret_count, reterr);
    if (!member->is_let_go)
        status = let_go(member, reterr);
    if (status == WEIR_OK)
        status = member->real->ops->poll(member->real, timeout_ms, ret_messages, max, ret_count, reterr);
    if (*ret_count > 0 && !member->crew->has_begun) {
        member->crew->start = weir_measure_now();
        member->crew->has_begun = true;
    }
    return status;
}

#define REAL(self) (((struct member *)(self))->real)
static void timed_pause(struct weir_source *self, int32_t partition)
{
    REAL(self)->ops->pause(REAL(self), partition);
}

static void timed_resume(struct weir_source *self, int32_t partition)
{
    REAL(self)->ops->resume(REAL(self), partition);
}

static enum weir_status timed_seek(struct weir_source *self, int32_t partition, int64_t offset,
                                   struct weir_error *reterr)
{
    return REAL(self)->ops->seek(REAL(self), partition, offset, reterr);
}

static void timed_mark_durable(struct weir_source *self, int32_t partition, int64_t next_offset)
{
    REAL(self)->ops->mark_durable(REAL(self), partition, next_offset);
}

static bool timed_is_caught_up(struct weir_source *self, int32_t partition)
{
    return REAL(self)->ops->is_caught_up(REAL(self), partition);
}

static int64_t timed_lag(struct weir_source *self, int32_t partition)
{
    return REAL(self)->ops->lag(REAL(self), partition);
}

static void timed_free(struct weir_source *self)
{
    weir_source_free(REAL(self));
}

static void open_source(struct member *member)
{
    static const struct weir_source_ops ops = {.name = "timed",
                                               .poll = timed_poll,
                                               .pause = timed_pause,
                                               .resume = timed_resume,
                                               .seek = timed_seek,
                                               .mark_durable = timed_mark_durable,
                                               .is_caught_up = timed_is_caught_up,
                                               .lag = timed_lag,
                                               .free = timed_free};
    /* How soon a member hears that another has come: joining is not what is measured. */
    static const struct weir_property properties[] = {{"heartbeat.interval.ms", "100"}};
    const struct weir_topic *topic = member->crew->settings->topic;
    struct weir_kafka_settings kafka = {.brokers = topic->brokers,
                                        .topic = topic->name,
                                        .group = topic->name,
                                        .properties = properties,
                                        .property_count = 1};
    struct weir_source_listener listener = {
        .context = member, .assigned = on_assigned, .revoked = on_revoked, .stamp = on_stamp, .gone = on_gone};
    struct weir_error error;

    member->source.ops = &ops;
    member->listener = weir_worker_listener(member->worker);
    if (weir_source_kafka_open(&kafka, &listener, &member->real, &error) != WEIR_OK)
        weir_measure_die("%s", error.text);
}

/* 2. The store: stops the clock. */

static enum weir_status timed_take_lane(struct weir_window_store *self, struct weir_slice lane,
                                        const unsigned char secret[WEIR_LANE_SECRET_BYTES],
                                        const struct weir_lane_loader *loader, struct weir_lane_state *ret_state,
                                        struct weir_error *reterr)
{
    struct weir_window_store *real = ((struct timed_store *)self)->real;

    if (real)
        return real->ops->take_lane(real, lane, secret, loader, ret_state, reterr);
    *ret_state = (struct weir_lane_state){.epoch = 1, .next_offset = -1, .stamp = -1};
    memcpy(ret_state->secret, secret, WEIR_LANE_SECRET_BYTES);
    return WEIR_OK;
}

/* Of two that write the last cuts of two lanes at once, at least one sees both: hence the default order. */
static enum weir_status timed_write_cut(struct weir_window_store *self, const struct weir_cut *cut,
                                        struct weir_error *reterr)
{
    const struct timed_store *timed = (struct timed_store *)self;
    enum weir_status status = timed->real ? timed->real->ops->write_cut(timed->real, cut, reterr) : WEIR_OK;
    struct crew *crew = timed->crew;
    int64_t all = 0;

    if (status != WEIR_OK)
        return status;
    crew->durable[cut->lane.data[cut->lane.length - 1] - '0'] = cut->state.next_offset > 0 ? cut->state.next_offset : 0;
    crew->cuts++;
    crew->windows += cut->window_count;
    for (int32_t i = 0; i < WEIR_MEMBERS_MAX; i++)
        all += crew->durable[i];
    if (all == (int64_t)crew->settings->events && !atomic_exchange(&crew->is_over, true)) {
        crew->took = weir_measure_since(crew->start);
        crew->is_done = true;
    }
    return status;
}

static struct weir_window_store *open_redis(const char *url)
{
    struct weir_window_store *store;
    struct weir_error error;

    if (!url)
        return NULL;
    if (weir_store_redis_open(url, &store, &error) != WEIR_OK)
        weir_measure_die("%s", error.text);
    return store;
}

static struct timed_store open_store(struct crew *crew)
{
    static const struct weir_window_store_ops ops = {
        .name = "timed", .take_lane = timed_take_lane, .write_cut = timed_write_cut};

    return (struct timed_store){.store.ops = &ops, .real = open_redis(crew->settings->redis_url), .crew = crew};
}

/* 3. The workers. */

static struct weir_worker_settings worker_settings(void)
{
    return (struct weir_worker_settings){
        .lane = {.disorder = 5 * WEIR_SECOND,
                 .lateness = WEIR_DAY,
                 .retention = WEIR_DAY,
                 .max_future = WEIR_DAY,
                 .windows_max = 20000000,
                 .ids_max = 100000000},
        .flush_interval = WEIR_SECOND / 5,
        .idle = WEIR_MINUTE,
        .cuts_max = 8,
        .changes_max = 262144,
        .hand_over = 20 * WEIR_SECOND,
        .cores = weir_cores(),
    };
}

static void open_member(struct crew *crew, struct member *member)
{
    struct weir_worker_settings of_worker = worker_settings();
    struct weir_error error;

    of_worker.peers = &crew->peers;
    member->crew = crew;
    member->taking = open_store(crew);
    member->writing = open_store(crew);
    if (weir_quarantine_file_open(NULL, &member->quarantine, &error) != WEIR_OK)
        weir_measure_die("%s", error.text);
    member->worker = weir_worker_new(crew->settings->catalog, &of_worker, &member->taking.store, &member->writing.store,
                                     member->quarantine);
    crew->peers.gauges[crew->peers.count++] = weir_worker_gauges(member->worker);
}

static void *run_member(void *context)
{
    struct member *member = context;
    struct weir_error error;

    open_source(member);
    if (weir_worker_run(member->worker, &member->source, &member->crew->is_done, &error) != WEIR_OK)
        weir_measure_die("%s", error.text);
    weir_daemon_rest();
    return NULL;
}

static void close_member(struct member *member, struct weir_members_result *result)
{
    const struct weir_worker_gauges *gauges = weir_worker_gauges(member->worker);

    result->counted += gauges->outcomes[WEIR_OUTCOME_COUNTED];
    result->duplicate += gauges->outcomes[WEIR_OUTCOME_DUPLICATE];
    weir_worker_free(member->worker);
    weir_quarantine_free(member->quarantine);
    weir_window_store_free(member->writing.real);
    weir_window_store_free(member->taking.real);
}

struct weir_members_result weir_members_run(const struct weir_members_settings *settings)
{
    struct crew crew = {.settings = settings, .joining = weir_measure_now()};
    struct weir_members_result result = {0};
    int members = settings->members;

    weir_check(members >= 1 && members <= settings->topic->partitions);
    weir_check(settings->topic->partitions <= WEIR_MEMBERS_MAX);
    for (int i = 0; i < members; i++)
        open_member(&crew, &crew.members[i]);
    for (int i = 0; i < members; i++)
        if (pthread_create(&crew.members[i].thread, NULL, run_member, &crew.members[i]) != 0)
            weir_measure_die("no thread for a worker");
    for (int i = 0; i < members; i++)
        pthread_join(crew.members[i].thread, NULL);
    for (int i = 0; i < members; i++)
        close_member(&crew.members[i], &result);
    result.took = crew.took;
    result.cuts = crew.cuts;
    result.windows = crew.windows;
    return result;
}
