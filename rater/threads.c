#include "rater/threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "common/hash.h"
#include "common/ring.h"

enum {
    SHARED_FROM = 512, /* windows; fewer are not worth a second transaction, unless they are more than one anyway */
    WAIT_MS = 60000,   /* a ring is never lost */
};

/* One rater's part of a batch; on its way there and back it is whoever's popped it last. */
struct share {
    struct weir_ring there, back;
    void *there_slot[1], *back_slot[1];
    struct weir_bell work, done;
    _Atomic bool is_stopping;
    pthread_t thread;
    bool has_thread; /* not of a rater that is alone */
    bool is_away;    /* the calling thread's business */

    struct weir_rater *rater;
    size_t batch;
    struct weir_lane_window *windows;
    size_t count, room;
    uint64_t transactions;
    enum weir_status status;
    struct weir_error error;
};

/* A window's place in the order in which a batch is rated. */
struct place {
    struct weir_slice customer;
    const struct weir_lane_window *window;
};

struct weir_rater_threads {
    struct share *shares;
    size_t count;
    size_t batch;
    struct place *places;
    size_t place_room;
};

/* 1. one share */
static void rate_share(struct share *share)
{
    share->status = WEIR_OK;
    share->transactions = 0;
    for (size_t at = 0; at < share->count && share->status == WEIR_OK; at += share->batch) {
        size_t count = share->count - at < share->batch ? share->count - at : share->batch;
        share->status = weir_rater_rate(share->rater, share->windows + at, count, &share->error);
        share->transactions += share->status == WEIR_OK;
    }
}

static void *run(void *context)
{
    struct share *share = context;

    for (;;) {
        struct share *mine = weir_ring_pop(&share->there);
        if (mine) {
            rate_share(mine);
            weir_check(weir_ring_push(&share->back, mine));
            weir_bell_ring(&share->done);
            continue;
        }
        /* relaxed: nothing is under way when it is set, so nothing hangs on its order. */
        if (atomic_load_explicit(&share->is_stopping, memory_order_relaxed))
            return NULL;
        weir_bell_wait(&share->work, WAIT_MS);
    }
}

/* Signals are for the thread that waits for them. */
static void start_thread(struct share *share)
{
    sigset_t all, before;

    weir_ring_init(&share->there, share->there_slot, 1);
    weir_ring_init(&share->back, share->back_slot, 1);
    weir_bell_open(&share->work);
    weir_bell_open(&share->done);
    sigfillset(&all);
    weir_check(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    weir_check(pthread_create(&share->thread, NULL, run, share) == 0);
    weir_check(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    share->has_thread = true;
}

static void stop_thread(struct share *share)
{
    atomic_store_explicit(&share->is_stopping, true, memory_order_relaxed);
    weir_bell_ring(&share->work);
    pthread_join(share->thread, NULL);
    weir_bell_close(&share->work);
    weir_bell_close(&share->done);
}

/* 2. making and freeing */
struct weir_rater_threads *weir_rater_threads_new(
    const struct weir_catalog *catalog, struct weir_ledger *const *ledgers, size_t count, size_t batch,
    void (*tell)(void *context, const struct weir_lane_window *window, struct weir_slice why), void *context)
{
    struct weir_rater_threads *threads = weir_new(sizeof *threads);

    weir_check(count > 0 && count <= WEIR_RATER_THREADS_MAX && batch > 0);
    threads->batch = batch;
    threads->shares = aligned_alloc(_Alignof(struct share), count * sizeof *threads->shares);
    weir_check(threads->shares != NULL);
    memset(threads->shares, 0, count * sizeof *threads->shares);
    for (; threads->count < count; threads->count++) {
        struct share *share = &threads->shares[threads->count];
        share->batch = batch;
        share->rater = weir_rater_new(catalog, ledgers[threads->count]);
        weir_rater_on_refusal(share->rater, tell, context);
        if (count > 1)
            start_thread(share);
    }
    return threads;
}

struct weir_rater_threads *weir_rater_threads_free(struct weir_rater_threads *threads)
{
    if (!threads)
        return NULL;
    for (size_t i = 0; i < threads->count; i++) {
        if (threads->shares[i].has_thread)
            stop_thread(&threads->shares[i]);
        weir_rater_free(threads->shares[i].rater);
        free(threads->shares[i].windows);
    }
    free(threads->shares);
    free(threads->places);
    free(threads);
    return NULL;
}

/* 3. a batch */

/* One whose series key cannot be read is nobody's; the rater that gets it says so. */
static struct weir_slice customer_of(struct weir_slice series_key)
{
    struct weir_series series;
    return weir_series_parse(series_key, &series) ? series.customer : (struct weir_slice){0};
}

static int compare_places(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    int order = weir_slice_compare(a->customer, b->customer);

    if (order == 0)
        order = weir_slice_compare(a->window->window.series_key, b->window->window.series_key);
    if (order == 0)
        order =
            (a->window->window.start > b->window->window.start) - (a->window->window.start < b->window->window.start);
    return order;
}

/* By customer and series: what one window finds, in the rater's state and in PostgreSQL's indexes, is what the next one
 * looks for. */
static void sort(struct weir_rater_threads *threads, const struct weir_lane_window *windows, size_t count)
{
    if (count > threads->place_room) {
        threads->place_room = count;
        threads->places = weir_resize(threads->places, count, sizeof *threads->places);
    }
    for (size_t i = 0; i < count; i++)
        threads->places[i] = (struct place){customer_of(windows[i].window.series_key), &windows[i]};
    qsort(threads->places, count, sizeof *threads->places, compare_places);
}

static void add_window(struct share *share, const struct weir_lane_window *window)
{
    if (share->count == share->room) {
        share->room = share->room ? share->room * 2 : SHARED_FROM;
        share->windows = weir_resize(share->windows, share->room, sizeof *share->windows);
    }
    share->windows[share->count++] = *window;
}

static void divide(struct weir_rater_threads *threads, size_t count, bool is_shared)
{
    const struct place *places = threads->places;
    struct share *share = threads->shares;

    for (size_t i = 0; i < threads->count; i++)
        threads->shares[i].count = 0;
    for (size_t i = 0; i < count; i++) {
        struct weir_slice customer = places[i].customer;
        if (is_shared && (i == 0 || !weir_slice_equal(customer, places[i - 1].customer)))
            share = &threads->shares[weir_hash64(customer.data, customer.length, 0) % threads->count];
        add_window(share, places[i].window);
    }
}

void weir_rater_threads_start(struct weir_rater_threads *threads, const struct weir_lane_window *windows, size_t count)
{
    bool is_shared = threads->count > 1 && (count >= SHARED_FROM || count > threads->batch);

    sort(threads, windows, count);
    divide(threads, count, is_shared);
    if (!is_shared) {
        rate_share(&threads->shares[0]);
        return;
    }
    for (size_t i = 0; i < threads->count; i++) {
        struct share *share = &threads->shares[i];
        share->is_away = share->count > 0;
        if (share->is_away) {
            weir_check(weir_ring_push(&share->there, share));
            weir_bell_ring(&share->work);
        }
    }
}

static bool is_passing(enum weir_status status)
{
    return status == WEIR_RETRY || status == WEIR_AGAIN;
}

/* What trying again does not mend goes first. */
static enum weir_status worse(enum weir_status status, const struct share *share, struct weir_error *reterr)
{
    if (share->status == WEIR_OK || (status != WEIR_OK && (is_passing(share->status) || !is_passing(status))))
        return status;
    if (reterr)
        *reterr = share->error;
    return share->status;
}

enum weir_status weir_rater_threads_wait(struct weir_rater_threads *threads, uint64_t *ret_transactions,
                                         struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    *ret_transactions = 0;
    for (size_t i = 0; i < threads->count; i++) {
        struct share *share = &threads->shares[i];
        while (share->is_away && !weir_ring_pop(&share->back))
            weir_bell_wait(&share->done, WAIT_MS);
        share->is_away = false;
        if (share->count == 0)
            continue;
        *ret_transactions += share->transactions;
        status = worse(status, share, reterr);
    }
    return status;
}

struct weir_rater *weir_rater_threads_first(struct weir_rater_threads *threads)
{
    return threads->shares[0].rater;
}

struct weir_rater_counts weir_rater_threads_counts(const struct weir_rater_threads *threads)
{
    struct weir_rater_counts sum = {0};

    for (size_t i = 0; i < threads->count; i++) {
        struct weir_rater_counts counts = weir_rater_counts(threads->shares[i].rater);
        sum.windows += counts.windows;
        sum.unchanged += counts.unchanged;
        sum.stale += counts.stale;
        sum.held += counts.held;
        sum.refused += counts.refused;
        sum.refused_periods += counts.refused_periods;
        sum.unpriced_windows += counts.unpriced_windows;
        sum.unpriced_events += counts.unpriced_events;
        sum.line_items += counts.line_items;
    }
    return sum;
}
