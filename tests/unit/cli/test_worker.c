/* The ingest worker with its writing thread, on a scripted source and a store in memory that is slow, away or taken by
 * others when the script says so. No librdkafka (but in one test): runs under ThreadSanitizer. Whatever happens, each
 * event counts once.
 */
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

static struct shared_store *enter(struct weir_window_store *store)
{
    struct shared_store *shared = ((struct handle *)store)->shared;
    pthread_mutex_lock(&shared->lock);
    return shared;
}

static enum weir_status leave(struct shared_store *shared, enum weir_status status)
{
    pthread_mutex_unlock(&shared->lock);
    return status;
}

static bool is_away(struct shared_store *shared, struct weir_error *reterr)
{
    if (!atomic_load(&shared->is_away))
        return false;
    atomic_fetch_add(&shared->away, 1);
    weir_fail(reterr, WEIR_RETRY, "the store is away");
    return true;
}

static enum weir_status shared_take(struct weir_window_store *store, struct weir_slice lane,
                                    const unsigned char secret[WEIR_LANE_SECRET_BYTES],
                                    const struct weir_lane_loader *loader, struct weir_lane_state *ret_state,
                                    struct weir_error *reterr)
{
    struct shared_store *shared = enter(store);
    if (is_away(shared, reterr))
        return leave(shared, WEIR_RETRY);
    return leave(shared, shared->memory->ops->take_lane(shared->memory, lane, secret, loader, ret_state, reterr));
}

static enum weir_status shared_write(struct weir_window_store *store, const struct weir_cut *cut,
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

static enum weir_status shared_read(struct weir_window_store *store, struct weir_slice lane,
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
    void (*script)(struct world *world, int64_t returned); /* before each poll, on the worker's thread */
    int step;                                              /* the script's own */
    int64_t returned;                                      /* messages */
    int64_t noted;
    _Atomic bool stop;
};

static const struct weir_slice topic = {.data = "events", .length = 6};

static char *text_of(int partition, int64_t offset)
{
    static char texts[PARTITIONS][EVENTS][BYTES];
    return texts[partition][offset];
}

static void make_events(void)
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

static struct weir_message message_of(int partition, int64_t offset)
{
    return (struct weir_message){.topic = topic,
                                 .partition = partition,
                                 .offset = offset,
                                 .sequence = offset,
                                 .value = weir_slice_text(text_of(partition, offset))};
}

static void assign(struct scripted *source, int partition)
{
    int64_t offset = -1;

    source->is_paused[partition] = false;
    source->is_ours[partition] =
        source->world->listener.assigned(source->world->listener.context, topic, partition, &offset, &source->failure);
    source->has_failed = source->has_failed || !source->is_ours[partition];
    source->position[partition] = offset < 0 ? 0 : offset;
}

static void revoke(struct scripted *source, int partition, bool lost)
{
    source->world->listener.revoked(source->world->listener.context, topic, partition, lost);
    source->is_ours[partition] = false;
}

static enum weir_status poll_script(struct weir_source *self, int timeout_ms, struct weir_message *ret_messages,
                                    size_t max, size_t *ret_count, struct weir_error *reterr)
{
    struct scripted *source = (struct scripted *)self;
    struct timespec pause = {.tv_nsec = timeout_ms * 100000L}; /* a tenth of it */
    bool is_end = true;
    size_t count = 0;

    if (!source->world->returned && !source->is_ours[0])
        for (int i = 0; i < PARTITIONS; i++)
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
        is_end = is_end && source->position[i] == EVENTS;
    }
    source->world->returned += (int64_t)count;
    *ret_count = count;
    if (count == 0)
        nanosleep(&pause, NULL);
    return count == 0 && is_end ? WEIR_AGAIN : WEIR_OK;
}

static void pause_script(struct weir_source *self, int32_t partition)
{
    struct scripted *source = (struct scripted *)self;
    source->is_paused[partition] = true;
    source->pauses++;
}

static void resume_script(struct weir_source *self, int32_t partition)
{
    struct scripted *source = (struct scripted *)self;
    source->is_paused[partition] = false;
    source->resumes++;
}

static enum weir_status seek_script(struct weir_source *self, int32_t partition, int64_t offset,
                                    struct weir_error *reterr)
{
    struct scripted *source = (struct scripted *)self;
    (void)reterr;
    source->position[partition] = offset < 0 ? 0 : offset;
    source->seeks++;
    return WEIR_OK;
}

static void mark_script(struct weir_source *self, int32_t partition, int64_t next_offset)
{
    const struct scripted *source = (struct scripted *)self;
    cr_assert_leq(next_offset, source->position[partition], "durable before it was returned");
}

static bool is_caught_up(struct weir_source *self, int32_t partition)
{
    return ((struct scripted *)self)->position[partition] == EVENTS;
}

static int64_t lag_script(struct weir_source *self, int32_t partition)
{
    return EVENTS - ((struct scripted *)self)->position[partition];
}

/* Leaving the group: what is still ours goes back. */
static void free_script(struct weir_source *self)
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
static struct world *world_new(void (*script)(struct world *, int64_t))
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
    for (int i = 0; i < 2; i++)
        world->handles[i] = (struct handle){.base = {.ops = &shared_ops}, .shared = &world->store};
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
                                                    .decodes_ahead = true,
                                                    .hand_over = 20 * WEIR_SECOND,
                                                    .until_end = true,
                                                    .patience = WEIR_MINUTE};
    return world;
}

static enum weir_status run(struct world *world, struct weir_error *reterr)
{
    world->source = weir_new(sizeof *world->source);
    world->source->base.ops = &script_ops;
    world->source->world = world;
    world->returned = world->step = 0;
    world->stop = false;
    world->worker = weir_worker_new(world->catalog, &world->settings, &world->handles[0].base, &world->handles[1].base,
                                    world->quarantine);
    world->listener = weir_worker_listener(world->worker);
    return weir_worker_run(world->worker, &world->source->base, &world->stop, reterr);
}

static struct weir_worker_gauges *gauges(struct world *world)
{
    return weir_worker_gauges(world->worker);
}

static void world_free(struct world *world)
{
    weir_worker_free(world->worker);
    weir_quarantine_free(world->quarantine);
    weir_window_store_free(world->store.memory);
    weir_catalog_free(world->catalog);
    pthread_mutex_destroy(&world->store.lock);
    free(world);
}

struct totals {
    uint64_t calls, events;
    struct weir_decimal sum;
    int64_t next_offset[PARTITIONS];
};

static void add_window(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    struct totals *totals = context;
    struct weir_series series;

    (void)is_closed, (void)has_work;
    if (weir_series_is_tally(window->series_key))
        return;
    cr_assert(weir_series_parse(window->series_key, &series));
    if (series.meter.data[0] == 'c') {
        totals->calls += window->total.events;
    } else {
        totals->events += window->total.events;
        cr_assert(weir_decimal_add(totals->sum, window->total.value, &totals->sum));
    }
}

static void add_lane(void *context, struct weir_slice lane, const struct weir_lane_state *state)
{
    struct totals *totals = context;
    int partition = lane.data[lane.length - 1] - '0';
    totals->next_offset[partition] = state->next_offset;
}

/* Both under the lock: the writing thread may be at work. */
static struct totals look(struct world *world)
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

static void assert_whole(struct world *world)
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

static void assert_runs_whole(struct world *world)
{
    struct weir_error error = {{0}};
    cr_assert_eq(run(world, &error), WEIR_OK, "%s", error.text);
    assert_whole(world);
}

/* 4. what happens to it */
/* The store sticks until a lane is paused for it, and once more when all lanes are read again. */
static void sticks(struct world *world, int64_t returned)
{
    cr_assert_leq(atomic_load(&gauges(world)->cuts_in_flight), (uint64_t)2);
    if (world->step % 2 == 0 && world->step < 6 && world->source->pauses == world->source->resumes && returned > 0) {
        atomic_store(&world->store.is_stuck, true);
        world->step++;
    } else if (world->step % 2 == 1 && world->source->pauses - world->source->resumes == PARTITIONS) {
        atomic_store(&world->store.is_stuck, false);
        world->step++;
    }
    world->noted = world->source->pauses - world->source->resumes;
}

Test(worker, a_slow_store_pauses_lanes_and_loses_nothing)
{
    struct world *world = world_new(sticks);

    assert_runs_whole(world);
    cr_assert_eq(world->step, 6, "the lanes were paused %d times of 3", world->step / 2);
    cr_assert_eq(world->noted, 0, "each pause is followed by a resume");
    world_free(world);
}

static void goes_away(struct world *world, int64_t returned)
{
    if (world->step == 0 && returned > EVENTS / 2) {
        atomic_store(&world->store.is_away, true);
        world->step = 1;
    }
    if (world->step == 1 && atomic_load(&world->store.away) >= 3) {
        cr_assert_str_eq(weir_outage_is_on(&gauges(world)->store) ? "told" : "not told", "told");
        atomic_store(&world->store.is_away, false);
        world->step = 2;
    }
}

Test(worker, a_store_that_goes_away_is_waited_for)
{
    struct world *world = world_new(goes_away);

    assert_runs_whole(world);
    cr_assert_eq(world->step, 2);
    cr_assert_gt(atomic_load(&gauges(world)->cuts_retried), (uint64_t)0);
    world_free(world);
}

static void is_away_at_first(struct world *world, int64_t returned)
{
    (void)returned;
    if (atomic_load(&world->store.away) >= 2)
        atomic_store(&world->store.is_away, false);
}

Test(worker, lanes_are_taken_when_the_store_comes)
{
    struct world *world = world_new(is_away_at_first);

    atomic_store(&world->store.is_away, true);
    assert_runs_whole(world);
    world_free(world);
}

/* Another worker takes a lane while cuts of ours are under way; and once more when we have it again. */
static void rob(struct world *world)
{
    static const unsigned char secret[WEIR_LANE_SECRET_BYTES] = "a secret of thirty-two bytes...";
    struct weir_window_store *memory = world->store.memory;
    struct weir_lane_state state;
    struct weir_error error;

    pthread_mutex_lock(&world->store.lock);
    cr_assert_eq(memory->ops->take_lane(memory, weir_slice_text("events:1"), secret, NULL, &state, &error), WEIR_OK);
    pthread_mutex_unlock(&world->store.lock);
    world->step++;
}

static void is_robbed(struct world *world, int64_t returned)
{
    if (world->step > 1 || returned < EVENTS / 2 * (world->step + 1) || world->source->seeks < world->step)
        return;
    cr_assert_lt(world->source->position[1], EVENTS);
    rob(world);
}

Test(worker, a_fenced_lane_is_taken_again_and_read_again)
{
    struct world *world = world_new(is_robbed);

    atomic_store(&world->store.slow_ms, 2);
    assert_runs_whole(world);
    cr_assert_eq(world->step, 2);
    cr_assert_geq(atomic_load(&gauges(world)->cuts_fenced), (uint64_t)2);
    world_free(world);
}

/* When everything was read, and not everything is written. */
static void is_robbed_at_the_end(struct world *world, int64_t returned)
{
    if (world->step == 0 && returned == PARTITIONS * EVENTS)
        rob(world);
}

Test(worker, a_lane_fenced_at_the_end_is_read_again_before_the_run_ends)
{
    struct world *world = world_new(is_robbed_at_the_end);

    atomic_store(&world->store.slow_ms, 20);
    assert_runs_whole(world);
    cr_assert_geq(atomic_load(&gauges(world)->cuts_fenced), (uint64_t)1);
    world_free(world);
}

/* 1: handed over, cleanly; 3: comes back; 4: lost; 5: comes back again. */
static void comes_and_goes(struct world *world, int64_t returned)
{
    struct scripted *source = world->source;

    if (world->step == 0 && returned > EVENTS / 2) {
        revoke(source, 1, false);
        cr_assert_eq(look(world).next_offset[1], source->position[1], "a lane that is handed over is written first");
        world->step = 1;
        world->noted = returned;
    } else if (world->step == 1 && (returned > world->noted + 500 || source->position[0] == EVENTS)) {
        cr_assert_eq(look(world).next_offset[1], source->position[1], "it was written after it was handed over");
        assign(source, 1);
        cr_assert_eq(source->position[1], look(world).next_offset[1]);
        world->step = 2;
        world->noted = returned;
    } else if (world->step == 2 && returned > world->noted + 500) {
        revoke(source, 1, true);
        world->step = 3;
        assign(source, 1);
    }
}

Test(worker, lanes_go_and_come_while_cuts_are_under_way)
{
    struct world *world = world_new(comes_and_goes);

    atomic_store(&world->store.slow_ms, 2);
    assert_runs_whole(world);
    cr_assert_eq(world->step, 3);
    world_free(world);
}

static void is_stopped(struct world *world, int64_t returned)
{
    if (returned > EVENTS / 2)
        atomic_store(&world->stop, true);
}

Test(worker, a_stop_writes_what_was_read)
{
    struct world *world = world_new(is_stopped);
    struct weir_error error = {{0}};

    world->settings.until_end = false;
    atomic_store(&world->store.slow_ms, 2);
    cr_assert_eq(run(world, &error), WEIR_OK, "%s", error.text);
    struct totals found = look(world);
    cr_assert_eq(found.next_offset[0] + found.next_offset[1], world->returned);
    cr_assert_lt(world->returned, PARTITIONS * EVENTS);
    weir_worker_free(world->worker);
    world->script = NULL;
    world->settings.until_end = true;
    int64_t before = world->returned;
    assert_runs_whole(world);
    cr_assert_eq(world->returned, PARTITIONS * EVENTS - before, "read on from where the first one stopped");
    world_free(world);
}

Test(worker, a_batch_run_that_is_stopped_has_failed)
{
    struct world *world = world_new(is_stopped);
    struct weir_error error = {{0}};

    cr_assert_eq(run(world, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "stopped by a signal before the end"), "%s", error.text);
    struct totals found = look(world);
    cr_assert_eq(found.next_offset[0] + found.next_offset[1], world->returned, "and yet it wrote what it had read");
    world_free(world);
}

Test(worker, a_batch_run_does_not_wait_for_a_store_for_ever)
{
    struct world *world = world_new(NULL);
    struct weir_error error = {{0}};

    world->settings.patience = WEIR_SECOND / 2;
    atomic_store(&world->store.is_away, true);
    cr_assert_eq(run(world, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "patience is at its end"), "%s", error.text);
    world_free(world);
}

#ifndef __SANITIZE_THREAD__ /* it asks librdkafka, which ThreadSanitizer does not bear (tests/run) */
/* Nothing is read of a lane that could not be told what was admitted. */
Test(worker, a_batch_run_does_not_wait_for_the_admitted_events_for_ever)
{
    const struct weir_kafka_settings admitted = {.brokers = "127.0.0.1:1", .topic = "events.admitted", .group = "test"};
    struct world *world = world_new(NULL);
    struct weir_error error = {{0}};

    world->settings.admitted = &admitted;
    world->settings.patience = WEIR_SECOND / 2;
    cr_assert_eq(run(world, &error), WEIR_FATAL);
    cr_assert_eq(
        strcmp(error.text, "the topic of admitted events cannot be read, and patience is at its end; start it again"),
        0, "%s", error.text);
    for (int i = 0; i < PARTITIONS; i++)
        cr_assert_eq(look(world).next_offset[i], -1);
    world_free(world);
}
#endif

/* Either lane alone would fit. */
Test(worker, all_lanes_share_one_bound_of_memory)
{
    struct world *world = world_new(NULL);
    struct weir_error error = {{0}};

    world->settings.lane.ids_max = EVENTS;
    cr_assert_eq(run(world, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "lane_ids_max") && strstr(error.text, "nothing was lost"), "%s", error.text);
    weir_worker_free(world->worker);
    world->settings.lane.ids_max = 2 * EVENTS;
    assert_runs_whole(world);
    weir_worker_free(world->worker);
    /* What is stored does not fit either: it is refused before it is in memory. */
    world->settings.lane.ids_max = EVENTS;
    cr_assert_eq(run(world, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "lane_ids_max"), "%s", error.text);
    world_free(world);
}
