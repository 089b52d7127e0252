/* Workers of one process: each on a thread, in a world of its own but for the store, and what they have in common: one
 * bound of memory and one page. Runs under ThreadSanitizer (tests/run).
 */
#include <sched.h>
#include <stddef.h>
#include <string.h>

#include "cli/worker_metrics.h"
#include "common/daemon.h"
#include "tests/unit/cli/worker_support.h"

enum { IDS = EVENTS - EVENTS / 7 /* of a partition */, COUNTED = PARTITIONS * IDS };

/* 1. two that run */
struct pair {
    struct world *worlds[2];
    struct weir_worker_peers peers;
    enum weir_status statuses[2];
    struct weir_error errors[2];
    _Atomic bool has_ended[2];
};

static void is_paired(struct pair *pair)
{
    *pair = (struct pair){0};
    for (int i = 0; i < 2; i++) {
        struct world *world = pair->worlds[i] = world_new(NULL);
        world->settings.peers = &pair->peers;
        world->settings.cores = 3; /* helped while the other is not behind */
        share_store(world, &pair->worlds[0]->store);
        world->starts_without[1 - i] = world->is_of_another[1 - i] = true;
    }
}

Test(worker_peers, a_helper_has_a_core_while_those_that_are_behind_have_two)
{
    static struct weir_worker_gauges gauges[WEIR_WORKERS_MAX];
    struct weir_worker_peers peers = {.count = WEIR_WORKERS_MAX};

    for (int i = 0; i < WEIR_WORKERS_MAX; i++)
        peers.gauges[i] = &gauges[i];
    for (int behind = 0; behind <= WEIR_WORKERS_MAX; behind++) {
        for (int i = 0; i < behind; i++) /* the first one last */
            gauges[WEIR_WORKERS_MAX - 1 - i].is_behind = true;
        int others = behind < WEIR_WORKERS_MAX ? behind : behind - 1;
        cr_expect(weir_worker_has_helper(&peers, &gauges[0], 2 * (others + 1)), "%d behind", behind);
        cr_expect_not(weir_worker_has_helper(&peers, &gauges[0], 2 * (others + 1) - 1), "%d behind", behind);
    }
    peers = (struct weir_worker_peers){.gauges = {&gauges[0]}, .count = 1}; /* alone, and behind */
    cr_expect(weir_worker_has_helper(&peers, &gauges[0], 2));
    cr_expect_not(weir_worker_has_helper(&peers, &gauges[0], 1));
}

static void make_workers(struct pair *pair)
{
    pair->peers.count = 0;
    for (int i = 0; i < 2; i++) {
        make_worker(pair->worlds[i]);
        pair->peers.gauges[pair->peers.count++] = gauges(pair->worlds[i]);
    }
}

static void free_workers(struct pair *pair)
{
    for (int i = 0; i < 2; i++)
        pair->worlds[i]->worker = weir_worker_free(pair->worlds[i]->worker);
}

static struct pair pair; /* of the test; each is a process of its own */

static void *run_one(void *context)
{
    const int *i = context;
    struct world *world = pair.worlds[*i];

    pair.statuses[*i] = weir_worker_run(world->worker, &world->source->base, &world->stop, &pair.errors[*i]);
    atomic_store(&pair.has_ended[*i], true);
    weir_daemon_rest();
    return NULL;
}

static int rows_of(const char *page, const char *row)
{
    int count = 0;

    for (const char *at = page; (at = strstr(at, row)); at++)
        count++;
    return count;
}

/* Beside them, as the metrics server does. */
static void *read_pages(void *context)
{
    struct weir_metrics *metrics = weir_metrics_new();

    (void)context;
    weir_workers_add_metrics(metrics, &pair.peers);
    while (!atomic_load(&pair.has_ended[0]) || !atomic_load(&pair.has_ended[1])) {
        char *page = weir_metrics_page(metrics);
        cr_assert_eq(rows_of(page, "\nweir_lanes "), 1);
        free(page);
        (void)weir_workers_why_not_ready(&pair.peers);
        weir_workers_show(&pair.peers, NULL);
    }
    weir_metrics_free(metrics);
    return NULL;
}

static void run_both(void)
{
    static const int numbers[2] = {0, 1};
    pthread_t threads[2], reader;

    make_workers(&pair);
    for (int i = 0; i < 2; i++)
        atomic_store(&pair.has_ended[i], false);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, run_one, (void *)(uintptr_t)&numbers[i]), 0);
    cr_assert_eq(pthread_create(&reader, NULL, read_pages, NULL), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    pthread_join(reader, NULL);
}

static void assert_both_are_whole(void)
{
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pair.statuses[i], WEIR_OK, "%d: %s", i, pair.errors[i].text);
    assert_whole(pair.worlds[0]);
}

static void free_pair(void)
{
    free_workers(&pair);
    for (int i = 0; i < 2; i++)
        world_free(pair.worlds[i]);
}

static _Atomic int owner; /* of partition 1, by the number of its worker */
static _Atomic int taken; /* times */
enum { MOVES = 7, BETWEEN = 700 /* events */ };

/* The new owner has the lane before the old one's poll returns, as the group may have it. */
static void passes_it_on(struct world *world, int64_t returned)
{
    struct scripted *source = world->source;
    int me = world == pair.worlds[1];

    (void)returned;
    if (atomic_load(&pair.has_ended[1 - me]) && !source->is_ours[1])
        world->is_of_another[1] = true; /* it is not to come any more */
    if (atomic_load(&owner) != me)
        return;
    if (!source->is_ours[1]) {
        assign(source, 1);
        world->noted = source->position[1];
        atomic_fetch_add(&taken, 1);
    } else if (atomic_load(&taken) <= MOVES && source->position[1] >= world->noted + BETWEEN) {
        int before = atomic_load(&taken);
        revoke(source, 1, false);
        world->is_of_another[1] = before == MOVES; /* for good */
        atomic_store(&owner, 1 - me);
        while (atomic_load(&taken) == before && !atomic_load(&pair.has_ended[1 - me]))
            sched_yield();
    }
}

/* All that both hold fits exactly, so a lane that was counted with the old owner and the new one would not. */
Test(worker_peers, a_lane_goes_from_one_to_the_other_and_back)
{
    is_paired(&pair);
    for (int i = 0; i < 2; i++) {
        struct world *world = pair.worlds[i];
        world->script = passes_it_on;
        world->settings.lane.ids_max = COUNTED;
        world->starts_without[0] = world->is_of_another[0] = i == 1;
        world->starts_without[1] = true;
        world->is_of_another[1] = false;
    }
    run_both();
    assert_both_are_whole();
    cr_assert_eq(taken, 1 + MOVES);
    cr_assert_eq(weir_workers_outcome(&pair.peers, WEIR_OUTCOME_COUNTED), (uint64_t)COUNTED);
    cr_assert_eq(weir_workers_read(&pair.peers), (uint64_t)PARTITIONS * EVENTS, "nothing was read twice");
    cr_assert_eq(weir_workers_sum(&pair.peers, offsetof(struct weir_worker_gauges, cuts_fenced)), (uint64_t)0);
    free_pair();
}

/* Who is first at its end waits until the other has read all: then both hold all that they have. */
static void waits_for_the_other(struct world *world, int64_t returned)
{
    int another = world == pair.worlds[0];

    (void)returned;
    world->is_of_another[another] =
        atomic_load(&gauges(pair.worlds[another])->ids) == IDS || atomic_load(&pair.has_ended[another]);
}

/* Either worker's lane alone would fit. */
Test(worker_peers, all_of_a_process_share_one_bound_of_memory)
{
    is_paired(&pair);
    for (int i = 0; i < 2; i++) {
        pair.worlds[i]->script = waits_for_the_other;
        pair.worlds[i]->settings.lane.ids_max = COUNTED - 1;
    }
    run_both();
    for (int i = 0; i < 2; i++)
        cr_assert(pair.statuses[i] == WEIR_OK || strstr(pair.errors[i].text, "lane_ids_max"), "%s",
                  pair.errors[i].text);
    cr_assert(pair.statuses[0] == WEIR_FATAL || pair.statuses[1] == WEIR_FATAL);
    free_workers(&pair);
    for (int i = 0; i < 2; i++)
        pair.worlds[i]->settings.lane.ids_max = COUNTED;
    run_both();
    assert_both_are_whole();
    free_pair();
}

/* 2. one that runs, beside what another has shown */
static struct weir_worker_gauges other;

static enum weir_status run_beside(struct world *world, struct weir_worker_peers *peers, struct weir_error *reterr)
{
    make_worker(world);
    peers->gauges[0] = gauges(world);
    peers->gauges[1] = &other;
    peers->count = 2;
    return weir_worker_run(world->worker, &world->source->base, &world->stop, reterr);
}

Test(worker_peers, what_another_holds_is_no_room_for_a_lane_that_is_taken)
{
    struct weir_worker_peers peers = {0};
    struct world *world = world_new(NULL);
    struct weir_error error = {{0}};

    assert_runs_whole(world);
    uint64_t ids = COUNTED, windows = look(world).windows;
    world->worker = weir_worker_free(world->worker);
    world->settings.peers = &peers;
    world->settings.lane.ids_max = world->settings.lane.windows_max = 50000;
    for (int step = 0; step < 4; step++) { /* as much as fits, and one more: ids, then windows */
        atomic_store(&other.ids, step / 2 == 0 ? 50000 - ids + (uint64_t)step % 2 : 0);
        atomic_store(&other.windows, step / 2 == 1 ? 50000 - windows + (uint64_t)step % 2 : 0);
        enum weir_status status = run_beside(world, &peers, &error);
        cr_assert_eq(status, step % 2 ? WEIR_FATAL : WEIR_OK, "%d: %s", step, error.text);
        if (step % 2)
            cr_assert(strstr(error.text, "its stored windows or ids do not fit") && strstr(error.text, "lane_ids_max")
                          && strstr(error.text, "nothing was lost"),
                      "%d: %s", step, error.text);
        world->worker = weir_worker_free(world->worker);
    }
    world_free(world);
}

Test(worker_peers, what_another_holds_counts_when_lanes_grow)
{
    struct weir_worker_peers peers = {0};
    struct weir_error error = {{0}};

    for (int is_too_much = 0; is_too_much < 2; is_too_much++) {
        struct world *world = world_new(NULL);
        world->settings.peers = &peers;
        world->settings.lane.ids_max = 50000;
        atomic_store(&other.ids, 50000 - COUNTED + (uint64_t)is_too_much);
        atomic_store(&other.lanes, 3);
        cr_assert_eq(run_beside(world, &peers, &error), is_too_much ? WEIR_FATAL : WEIR_OK, "%s", error.text);
        cr_assert(!is_too_much || strstr(error.text, "5 lanes hold"), "%s", error.text);
        world_free(world);
    }
}
