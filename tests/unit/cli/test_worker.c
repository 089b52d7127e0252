/* The ingest worker with its writing thread, in a world of its own (worker_support.h; librdkafka in but one test).
 * Whatever happens, each event counts once.
 */
#include <string.h>

#include "tests/unit/cli/worker_support.h"

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

static void goes_at_its_end(struct world *world, int64_t returned)
{
    (void)returned;
    if (world->step == 0 && world->source->position[1] == EVENTS) {
        revoke(world->source, 1, false);
        world->is_of_another[1] = true;
        world->step = 1;
    }
}

/* Nobody may come who ends it: the other one may have seen that all is read, and left. */
Test(worker, a_lane_that_goes_to_another_at_the_end_of_a_batch_run_is_closed)
{
    struct world *world = world_new(goes_at_its_end);

    assert_runs_whole(world);
    cr_assert_eq(world->step, 1);
    cr_assert_eq(look(world).open, (uint64_t)0);
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
    cr_assert(strstr(error.text, "do not fit") && strstr(error.text, "nothing was lost"), "%s", error.text);
    world_free(world);
}
