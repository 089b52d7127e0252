/* The world of an ingest worker, for its tests: a scripted source and a store in memory that is slow, away or taken by
 * others when the script says so. No librdkafka: runs under ThreadSanitizer.
 */
#ifndef WEIR_TESTS_WORKER_SUPPORT_H
#define WEIR_TESTS_WORKER_SUPPORT_H

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/worker.h"
#include "common/calendar.h"
#include "common/model/tally.h"

enum { PARTITIONS = 2, EVENTS = 6000 /* a partition */, AT_ONCE = 64, BYTES = 256 };

/* 1. a store that both threads share */
struct shared_store {
    struct weir_window_store *memory;
    pthread_mutex_t lock;
    _Atomic int slow_ms;   /* each write takes so long */
    _Atomic bool is_stuck; /* a write waits until it is not */
    _Atomic bool is_away;  /* nothing gets through */
    _Atomic uint64_t away; /* calls that did not */
};

/* One handle for each thread, as the contract has it. */
struct handle {
    struct weir_window_store base;
    struct shared_store *shared;
};

static inline struct shared_store *enter(struct weir_window_store *store)
{
    struct shared_store *shared = ((struct handle *)store)->shared;
    pthread_mutex_lock(&shared->lock);
    return shared;
}

static inline enum weir_status leave(struct shared_store *shared, enum weir_status status)
{
    pthread_mutex_unlock(&shared->lock);
    return status;
}

static inline bool is_away(struct shared_store *shared, struct weir_error *reterr)
{
    if (!atomic_load(&shared->is_away))
        return false;
    atomic_fetch_add(&shared->away, 1);
    weir_fail(reterr, WEIR_RETRY, "the store is away");
    return true;
}

static inline enum weir_status shared_take(struct weir_window_store *store, struct weir_slice lane,
                                           const unsigned char secret[WEIR_LANE_SECRET_BYTES],
                                           const struct weir_lane_loader *loader, struct weir_lane_state *ret_state,
                                           struct weir_error *reterr)
{
    struct shared_store *shared = enter(store);
    if (is_away(shared, reterr))
        return leave(shared, WEIR_RETRY);
    return leave(shared, shared->memory->ops->take_lane(shared->memory, lane, secret, loader, ret_state, reterr));
}

static inline enum weir_status shared_write(struct weir_window_store *store, const struct weir_cut *cut,
                                            struct weir_error *reterr)
{
    struct shared_store *shared = ((struct handle *)store)->shared;
    struct timespec pause = {.tv_nsec = atomic_load(&shared->slow_ms) * 1000000L};

    do
        nanosleep(&pause, NULL);
    while (atomic_load(&shared->is_stuck));
    enter(store);
    if (is_away(shared, reterr))
        return leave(shared, WEIR_RETRY);
    return leave(shared, shared->memory->ops->write_cut(shared->memory, cut, reterr));
}

static inline enum weir_status shared_read(struct weir_window_store *store, struct weir_slice lane,
                                           struct weir_lane_state *ret_state, struct weir_error *reterr)
{
    struct shared_store *shared = enter(store);
    if (is_away(shared, reterr))
        return leave(shared, WEIR_RETRY);
    return leave(shared, shared->memory->ops->read_lane(shared->memory, lane, ret_state, reterr));
}

static const struct weir_window_store_ops shared_ops = {
    .name = "shared", .take_lane = shared_take, .write_cut = shared_write, .read_lane = shared_read};

/* 2. a source by script */
struct world;

struct scripted {
    struct weir_source base;
    struct world *world;
    bool is_ours[PARTITIONS], is_paused[PARTITIONS];
    int64_t position[PARTITIONS];
    int pauses, resumes, seeks;
    bool has_failed; /* a partition was not taken: poll fails */
    struct weir_error failure;
};

struct world {
    struct shared_store store;
    struct handle handles[2];
    struct weir_catalog *catalog;
    struct weir_quarantine *quarantine;
    struct weir_worker *worker;
    struct weir_worker_settings settings;
    struct weir_source_listener listener;
    struct scripted *source;
    bool starts_without[PARTITIONS];                       /* not assigned at the start */
    bool is_of_another[PARTITIONS];                        /* its end is not waited for */
    void (*script)(struct world *world, int64_t returned); /* before each poll, on the worker's thread */
    int step;                                              /* the script's own */
    int64_t returned;                                      /* messages */
    int64_t noted;
    _Atomic bool stop;
};

static const struct weir_slice topic = {.data = "events", .length = 6};

static inline char *text_of(int partition, int64_t offset)
{
    static char texts[PARTITIONS][EVENTS][BYTES];
    return texts[partition][offset];
}

static inline void make_events(void)
{
    char time[WEIR_TIME_TEXT_MAX];

    for (int partition = 0; partition < PARTITIONS; partition++)
        for (int i = 0; i < EVENTS; i++) {
            int id = i % 7 == 3 ? i - 3 : i; /* each seventh is an earlier one again */
            weir_time_format((weir_time_now() / WEIR_HOUR - 1) * WEIR_HOUR + (int64_t)(id % 600) * WEIR_SECOND, time);
            snprintf(text_of(partition, i), BYTES,
                     "{\"specversion\":\"1.0\",\"id\":\"%d-%d\",\"source\":\"s\",\"type\":\"t\",\"subject\":\"c%d\","
                     "\"time\":\"%s\",\"data\":{\"v\":%d}}",
                     partition, id, id % 50, time, id % 10);
        }
}

static inline struct weir_message message_of(int partition, int64_t offset)
{
    return (struct weir_message){.topic = topic,
                                 .partition = partition,
                                 .offset = offset,
                                 .sequence = offset,
                                 .value = weir_slice_text(text_of(partition, offset))};
}

static inline void assign(struct scripted *source, int partition)
{
    int64_t offset = -1;

    source->is_paused[partition] = false;
    source->is_ours[partition] =
        source->world->listener.assigned(source->world->listener.context, topic, partition, &offset, &source->failure);
    source->has_failed = source->has_failed || !source->is_ours[partition];
    source->position[partition] = offset < 0 ? 0 : offset;
}

static inline void revoke(struct scripted *source, int partition, bool lost)
{
    source->world->listener.revoked(source->world->listener.context, topic, partition, lost);
    source->is_ours[partition] = false;
}

static inline enum weir_status poll_script(struct weir_source *self, int timeout_ms, struct weir_message *ret_messages,
                                           size_t max, size_t *ret_count, struct weir_error *reterr)
{
    struct scripted *source = (struct scripted *)self;
    struct timespec pause = {.tv_nsec = timeout_ms * 100000L}; /* a tenth of it */
    bool is_end = true;
    size_t count = 0;

    if (!source->world->returned && !source->is_ours[0])
        for (int i = 0; i < PARTITIONS; i++)
            if (!source->world->starts_without[i])
                assign(source, i);
    if (source->has_failed) {
        *reterr = source->failure;
        return WEIR_FATAL;
    }
    if (source->world->script)
        source->world->script(source->world, source->world->returned);
    for (int i = 0; i < PARTITIONS; i++) {
        int64_t last = source->position[i] + AT_ONCE / PARTITIONS;
        for (; source->is_ours[i] && !source->is_paused[i] && source->position[i] < EVENTS && source->position[i] < last
               && count < max;
             source->position[i]++)
            ret_messages[count++] = message_of(i, source->position[i]);
        is_end = is_end && (source->world->is_of_another[i] || source->position[i] == EVENTS);
    }
    source->world->returned += (int64_t)count;
    *ret_count = count;
    if (count == 0)
        nanosleep(&pause, NULL);
    return count == 0 && is_end ? WEIR_AGAIN : WEIR_OK;
}

static inline void pause_script(struct weir_source *self, int32_t partition)
{
    struct scripted *source = (struct scripted *)self;
    source->is_paused[partition] = true;
    source->pauses++;
}

static inline void resume_script(struct weir_source *self, int32_t partition)
{
    struct scripted *source = (struct scripted *)self;
    source->is_paused[partition] = false;
    source->resumes++;
}

static inline enum weir_status seek_script(struct weir_source *self, int32_t partition, int64_t offset,
                                           struct weir_error *reterr)
{
    struct scripted *source = (struct scripted *)self;
    (void)reterr;
    source->position[partition] = offset < 0 ? 0 : offset;
    source->seeks++;
    return WEIR_OK;
}

static inline void mark_script(struct weir_source *self, int32_t partition, int64_t next_offset)
{
    const struct scripted *source = (struct scripted *)self;
    cr_assert_leq(next_offset, source->position[partition], "durable before it was returned");
}

static inline bool is_caught_up(struct weir_source *self, int32_t partition)
{
    return ((struct scripted *)self)->position[partition] == EVENTS;
}

static inline int64_t lag_script(struct weir_source *self, int32_t partition)
{
    return EVENTS - ((struct scripted *)self)->position[partition];
}

/* Leaving the group: what is still ours goes back. */
static inline void free_script(struct weir_source *self)
{
    struct scripted *source = (struct scripted *)self;
    for (int i = 0; i < PARTITIONS; i++)
        if (source->is_ours[i])
            revoke(source, i, false);
    free(source);
}

static const struct weir_source_ops script_ops = {.name = "script",
                                                  .poll = poll_script,
                                                  .pause = pause_script,
                                                  .resume = resume_script,
                                                  .seek = seek_script,
                                                  .mark_durable = mark_script,
                                                  .is_caught_up = is_caught_up,
                                                  .lag = lag_script,
                                                  .free = free_script};

/* 3. the world */
static inline void share_store(struct world *world, struct shared_store *store)
{
    for (int i = 0; i < 2; i++)
        world->handles[i] = (struct handle){.base = {.ops = &shared_ops}, .shared = store};
}

static inline struct world *world_new(void (*script)(struct world *, int64_t))
{
    static const char catalog[] = "{\"meters\":[{\"key\":\"calls\",\"event_type\":\"t\",\"aggregation\":\"count\","
                                  "\"window\":\"1m\"},{\"key\":\"sum\",\"event_type\":\"t\",\"aggregation\":\"sum\","
                                  "\"value\":\"data.v\",\"window\":\"1h\"}]}";
    struct world *world = weir_new(sizeof *world);
    struct weir_mistake_list mistakes = {0};
    struct weir_error error;

    make_events();
    cr_assert_eq(weir_catalog_parse("test", catalog, sizeof catalog - 1, &world->catalog, &mistakes), WEIR_OK);
    cr_assert_eq(weir_quarantine_file_open(NULL, &world->quarantine, &error), WEIR_OK);
    world->store.memory = weir_store_memory_new();
    pthread_mutex_init(&world->store.lock, NULL);
    share_store(world, &world->store);
    world->script = script;
    world->settings = (struct weir_worker_settings){.lane = {.disorder = WEIR_MINUTE,
                                                             .lateness = WEIR_DAY,
                                                             .retention = WEIR_DAY,
                                                             .max_future = WEIR_HOUR,
                                                             .windows_max = 100000,
                                                             .ids_max = 100000},
                                                    .flush_interval = WEIR_SECOND / 200,
                                                    .idle = WEIR_MINUTE,
                                                    .cuts_max = 2,
                                                    .changes_max = 400,
                                                    .cores = 2,
                                                    .hand_over = 20 * WEIR_SECOND,
                                                    .until_end = true,
                                                    .patience = WEIR_MINUTE};
    return world;
}

static inline void make_worker(struct world *world)
{
    world->source = weir_new(sizeof *world->source);
    world->source->base.ops = &script_ops;
    world->source->world = world;
    world->returned = world->step = 0;
    world->stop = false;
    world->worker = weir_worker_new(world->catalog, &world->settings, &world->handles[0].base, &world->handles[1].base,
                                    world->quarantine);
    world->listener = weir_worker_listener(world->worker);
}

static inline enum weir_status run(struct world *world, struct weir_error *reterr)
{
    make_worker(world);
    return weir_worker_run(world->worker, &world->source->base, &world->stop, reterr);
}

static inline struct weir_worker_gauges *gauges(struct world *world)
{
    return weir_worker_gauges(world->worker);
}

static inline void world_free(struct world *world)
{
    weir_worker_free(world->worker);
    weir_quarantine_free(world->quarantine);
    weir_window_store_free(world->store.memory);
    weir_catalog_free(world->catalog);
    pthread_mutex_destroy(&world->store.lock);
    free(world);
}

struct totals {
    uint64_t windows, calls, events;
    uint64_t open; /* windows of `calls` that are not closed */
    struct weir_decimal sum;
    int64_t next_offset[PARTITIONS];
};

static inline void add_window(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    struct totals *totals = context;
    struct weir_series series;

    (void)has_work;
    if (weir_series_is_tally(window->series_key))
        return;
    totals->windows++;
    cr_assert(weir_series_parse(window->series_key, &series));
    if (series.meter.data[0] == 'c') {
        totals->calls += window->total.events;
        totals->open += !is_closed;
    } else {
        totals->events += window->total.events;
        cr_assert(weir_decimal_add(totals->sum, window->total.value, &totals->sum));
    }
}

static inline void add_lane(void *context, struct weir_slice lane, const struct weir_lane_state *state)
{
    struct totals *totals = context;
    int partition = lane.data[lane.length - 1] - '0';
    totals->next_offset[partition] = state->next_offset;
}

/* Both under the lock: the writing thread may be at work. */
static inline struct totals look(struct world *world)
{
    static const char *const lanes[PARTITIONS] = {"events:0", "events:1"};
    struct weir_window_store *memory = world->store.memory;
    struct totals totals = {.next_offset = {-1, -1}};
    struct weir_error error;

    pthread_mutex_lock(&world->store.lock);
    for (int i = 0; i < PARTITIONS; i++)
        cr_assert_eq(memory->ops->scan_windows(memory, weir_slice_text(lanes[i]), add_window, &totals, &error),
                     WEIR_OK);
    cr_assert_eq(memory->ops->list_lanes(memory, "events", add_lane, &totals, &error), WEIR_OK);
    pthread_mutex_unlock(&world->store.lock);
    return totals;
}

static inline void assert_whole(struct world *world)
{
    struct totals found = look(world);
    uint64_t events = 0;
    int64_t sum = 0;

    for (int i = 0; i < EVENTS; i++)
        if (i % 7 != 3) {
            events += PARTITIONS;
            sum += (int64_t)(i % 10) * PARTITIONS;
        }
    cr_assert_eq(found.calls, events, "%llu of %llu", (unsigned long long)found.calls, (unsigned long long)events);
    cr_assert_eq(found.events, events);
    cr_assert_eq(weir_decimal_compare(found.sum, weir_decimal_of(sum)), 0);
    for (int i = 0; i < PARTITIONS; i++)
        cr_assert_eq(found.next_offset[i], EVENTS);
}

static inline void assert_runs_whole(struct world *world)
{
    struct weir_error error = {{0}};
    cr_assert_eq(run(world, &error), WEIR_OK, "%s", error.text);
    assert_whole(world);
}

#endif
