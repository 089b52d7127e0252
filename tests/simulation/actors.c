/* The actors: workers and raters, which are the real code on simulated outsides, and what brings a run to its rest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/rater_internal.h"
#include "tests/simulation/simulation.h"

enum { STALL_SECONDS = 5, REST_SECONDS = 600, RATER_PAUSE_MS = 100 };

struct run run;
struct books *run_books;

/* 1. faults */
bool never(void *context)
{
    (void)context;
    return false;
}

void kill_process(void)
{
    struct process *process = this_process();

    trace("is killed");
    run.deaths++;
    process->is_dead = true;
    expire_member(process);
    release_locks(process);
}

enum weir_status dead(struct weir_error *reterr)
{
    return weir_fail(reterr, WEIR_FATAL, "the process is dead");
}

enum fault meet_fault(unsigned allowed, const char *what)
{
    enum fault faults[FAULT_COUNT];
    unsigned count = 0;

    if (this_process()->is_dead)
        return FAULT_DEAD_BEFORE;
    for (unsigned i = 1; i < FAULT_COUNT; i++)
        if (allowed & FAULT_BIT(i))
            faults[count++] = (enum fault)i;
    unsigned chosen = step(count, what);
    if (this_process()->is_dead)
        return FAULT_DEAD_BEFORE;
    if (chosen == 0)
        return FAULT_NONE;
    run.faults++;
    switch (faults[chosen - 1]) {
    case FAULT_DEAD_BEFORE:
        kill_process();
        return FAULT_DEAD_BEFORE;
    case FAULT_STALL:
        trace("stops for %d s", STALL_SECONDS);
        run.stalls++;
        expire_member(this_process());
        stall(STALL_SECONDS * WEIR_SECOND);
        trace("goes on");
        return this_process()->is_dead ? FAULT_DEAD_BEFORE : FAULT_NONE;
    default:
        return faults[chosen - 1];
    }
}

enum weir_status lose_answer(enum fault fault, struct weir_error *reterr)
{
    if (fault == FAULT_DEAD_AFTER)
        kill_process();
    if (this_process()->is_dead)
        return dead(reterr);
    if (fault == FAULT_ANSWER_LOST) {
        trace("the answer is lost");
        return weir_fail(reterr, WEIR_RETRY, "the answer was lost");
    }
    return WEIR_OK;
}

/* 2. workers */
static struct weir_worker_settings worker_settings(void)
{
    return (struct weir_worker_settings){
        .lane = {.close_least = run.shape.fetch, /* a few, so that windows wait to be closed */
                 .round_least = run.shape.fetch, /* and rounds come often; store_memory.c checks them */
                 .disorder = run.shape.disorder,
                 .lateness = run.shape.lateness,
                 .retention = run.shape.lateness,
                 .max_future = 100 * WEIR_DAY,
                 .windows_max = 100000,
                 .ids_max = 100000},
        .flush_interval = run.shape.flush_interval,
        .idle = run.shape.idle,
        .cuts_max = run.shape.cuts_max,
        .changes_max = run.shape.changes_max,
        .hand_over = 20 * WEIR_SECOND,
    };
}

static void run_worker(struct process *process)
{
    struct weir_worker_settings settings = worker_settings();
    struct weir_window_store *consumer_store = store_handle(), *writer_store = store_handle();
    struct weir_quarantine *quarantine = quarantine_handle();
    struct weir_worker *worker = weir_worker_new(run.catalog, &settings, consumer_store, writer_store, quarantine);
    struct weir_source_listener listener = weir_worker_listener(worker);
    struct weir_error error = {{0}};

    enum weir_status status = weir_worker_run(worker, source_handle(&listener), &process->stop, &error);
    /* One that was asked to stop need not wait for a quarantine that is full. */
    if (status != WEIR_OK && !process->is_dead && !process->stop)
        run_fails("%s stopped by itself: %s", process->name, error.text);
    weir_worker_free(worker);
    weir_quarantine_free(quarantine);
    weir_window_store_free(writer_store);
    weir_window_store_free(consumer_store);
    trace("ends");
}

/* 3. raters: what `weir rater` does between its start and its end */
static void run_rater(struct process *process)
{
    enum { ROOM = BATCH_MAX * THREADS_OF_RATER_MAX };
    struct weir_work work[2][ROOM];
    struct weir_lane_window windows[ROOM];
    struct rating rating = {
        .store = store_handle(),
        .claims = weir_claims_new("", WEIR_MINUTE),
        .book = weir_lane_book_new(""),
        .lots = {{.work = work[0], .keys = weir_arena_new()}, {.work = work[1], .keys = weir_arena_new()}},
        .windows = windows,
        .room = (size_t)run.shape.batch * run.shape.threads};
    struct weir_error error = {{0}};

    for (unsigned i = 0; i < run.shape.threads; i++)
        rating.ledgers[i] = ledger_handle(run_books, false);
    enum weir_status status = WEIR_OK;
    rating.threads =
        weir_rater_threads_new(run.catalog, rating.ledgers, run.shape.threads, run.shape.batch, NULL, NULL);
    rating.settings.kafka_topic = TOPIC;
    while (status == WEIR_OK && !process->stop && !process->is_dead) {
        bool was_complete = is_complete(), is_done = false, has_worked = false;
        uint64_t fallbacks = run.fallbacks, releases = run.releases;
        status = weir_rating_go_round(&rating, &process->stop, &is_done, &has_worked, &error);
        if (status == WEIR_OK && is_done && was_complete && fallbacks == run.fallbacks && releases == run.releases)
            run.is_settled = true; /* a gap that was open when the round began holds its periods, released or not */
        if (status == WEIR_RETRY || status == WEIR_AGAIN) {
            trace("tries again: %s", error.text);
            weir_lane_book_forget(rating.book);
            weir_rating_forget_told(&rating);
            status = WEIR_OK;
            has_worked = false;
        }
        if (!has_worked)
            wait_for(never, NULL, RATER_PAUSE_MS * (WEIR_SECOND / 1000));
    }
    if (status != WEIR_OK && !process->is_dead)
        run_fails("%s stopped by itself: %s", process->name, error.text);
    weir_rater_threads_free(rating.threads);
    weir_arena_free(rating.lots[0].keys);
    weir_arena_free(rating.lots[1].keys);
    weir_lane_book_free(rating.book);
    weir_claims_free(rating.claims);
    for (unsigned i = 0; i < run.shape.threads; i++)
        weir_ledger_free(rating.ledgers[i]);
    weir_window_store_free(rating.store);
    free(rating.lanes);
    free(rating.rated);
    trace("ends");
}

/* 4. the operator, who decides on each gap some time after a rater has told of it */
static void run_operator(struct process *process)
{
    struct weir_lane_book *book = weir_lane_book_new("");
    struct weir_release_counts counts;
    const struct weir_open_gap *gaps;
    uint64_t seed = run.operator_seed;
    size_t count = 0;

    while (!process->stop) {
        int64_t wait = (int64_t)(next_random(&seed) % 30) * (WEIR_SECOND / 10);
        wait_for(never, NULL, WEIR_SECOND / 10);
        weir_check(weir_lane_book_open_gaps(book, TOPIC, false, &gaps, &count, NULL) == WEIR_OK);
        if (count == 0)
            continue;
        wait_for(never, NULL, wait);
        const struct weir_open_gap *chosen = &gaps[next_random(&seed) % count];
        struct weir_release release = {.lane = chosen->lane,
                                       .gap = next_random(&seed) % 2 ? chosen->number : 0,
                                       .by = "operator",
                                       .reason = "nothing can bring them back",
                                       .lowers = next_random(&seed) % 10 < run.shape.lowers};
        weir_check(weir_lane_book_release(book, &release, false, &counts, NULL) == WEIR_OK);
    }
    weir_lane_book_free(book);
}

/* 5. lives */
static void begin_life(bool is_worker, unsigned number, unsigned life);

/* Whoever died or was asked to stop is started again, as by systemd. */
static void live_again(struct process *process, void *context)
{
    unsigned number = 0, life = 0;

    (void)context;
    if (!run.is_ending && sscanf(strchr(process->name, ' '), "%u.%u", &number, &life) == 2)
        begin_life(process->name[0] == 'w', number, life + 1);
}

static void begin_life(bool is_worker, unsigned number, unsigned life)
{
    if (run.life_count == LIVES_MAX)
        run_fails("more than %d processes in one run", LIVES_MAX);
    struct process *process = &run.lives[run.life_count++];
    *process = (struct process){.on_end = live_again};
    snprintf(process->name, sizeof process->name, "%s %u.%u", is_worker ? "worker" : "rater", number, life);
    start_process(process, is_worker ? run_worker : run_rater);
}

void start_actors(void)
{
    for (unsigned i = 0; i < run.shape.workers; i++)
        begin_life(true, i, 1);
    for (unsigned i = 0; i < run.shape.raters; i++)
        begin_life(false, i, 1);
    if (run.shape.losses) {
        struct process *operator= & run.lives[run.life_count++];
        *operator=(struct process){.name = "operator"};
        start_process(operator, run_operator);
    }
}

static bool have_all_ended(void *context)
{
    (void)context;
    for (unsigned i = 0; i < run.life_count; i++)
        if (!run.lives[i].has_ended)
            return false;
    return true;
}

void stop_actors(void)
{
    run.is_ending = true;
    for (unsigned i = 0; i < run.life_count; i++)
        run.lives[i].stop = true;
    wait_for(have_all_ended, NULL, REST_SECONDS * WEIR_SECOND);
    if (!have_all_ended(NULL))
        run_fails("somebody does not stop");
}

/* 6. rest */
static void is_all_closed(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    (void)has_work;
    *(bool *)context = *(bool *)context && (is_closed || weir_series_is_tally(window->series_key));
}

static bool is_read(void)
{
    for (unsigned i = 0; i < run.shape.partitions; i++) {
        const struct weir_lane_state *state = stored_state(i);
        if (!state || state->next_offset != end_offset(&run.partitions[i]))
            return false;
    }
    return true;
}

bool is_complete(void)
{
    bool is_closed = is_read();

    for (unsigned i = 0; i < run.shape.partitions && is_closed; i++) {
        const struct weir_lane_state *state = stored_state(i);
        is_closed = state->watermark >= (state->last_time / WEIR_DAY + 1) * WEIR_DAY;
        stored_windows(i, is_all_closed, &is_closed);
    }
    return is_closed;
}

void wait_for_rest(void)
{
    int64_t deadline = simulated_clock() + REST_SECONDS * WEIR_SECOND;

    for (;;) {
        bool is_at_rest = run.is_settled && is_complete() && !book_is_open();
        for (unsigned i = 0; i < run.shape.partitions; i++)
            is_at_rest = is_at_rest && !store_has_work(i);
        if (is_at_rest)
            return;
        if (simulated_clock() > deadline)
            run_fails("no rest after %d s: %s", REST_SECONDS,
                      !is_read()      ? "events are not all read"
                      : is_complete() ? "not all is rated"
                                      : "windows do not close");
        /* A long case's events are ahead of the clock; it overtakes them when all are read. */
        if (run.shape.is_long && !run.has_jumped && is_read()) {
            let_time_pass(3 * WEIR_DAY);
            deadline += 3 * WEIR_DAY;
            run.has_jumped = true;
        }
        wait_for(never, NULL, WEIR_SECOND / 10);
    }
}
