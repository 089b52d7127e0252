#include "rater/rerate.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "rater/rerate_worker.h"

enum { CHUNK_LEAST = 8 }; /* customers that are worth the statements of a chunk */

/* What all threads share. Customers and request never change; the rest is the mutex's. */
struct run {
    struct rerate_job job;
    PGresult *list;
    struct weir_slice *customers; /* views into the list, sorted */
    size_t customer_count;
    size_t chunk; /* customers taken at once, at most */

    pthread_mutex_t mutex;
    pthread_cond_t ended; /* a thread has */
    size_t next;          /* customer */
    int running;          /* threads */
    struct weir_rerate_counts counts;
    enum weir_status status; /* the first that is not WEIR_OK; all threads end then */
    struct weir_error error;
};

struct thread {
    struct run *run;
    pthread_t handle;
    struct rerate_worker worker;
};

/* 1. threads */

/* Towards the end fewer and fewer, so that all threads end together. */
static size_t next_count(const struct run *run)
{
    size_t left = run->customer_count - run->next, share = left / (size_t)run->job.request->workers;

    share = share < CHUNK_LEAST ? CHUNK_LEAST : share;
    share = share < run->chunk ? share : run->chunk;
    return share < left ? share : left;
}

static size_t take_customers(struct run *run, const struct weir_slice **ret_customers)
{
    const _Atomic bool *stop = run->job.request->stop;
    size_t count = 0;

    pthread_mutex_lock(&run->mutex);
    if (run->status == WEIR_OK && stop && atomic_load_explicit(stop, memory_order_relaxed))
        run->status = weir_fail(&run->error, WEIR_AGAIN, "stopped by a signal before all customers were looked at");
    if (run->status == WEIR_OK) {
        count = next_count(run);
        *ret_customers = run->customers + run->next;
        run->next += count;
    }
    pthread_mutex_unlock(&run->mutex);
    return count;
}

static void give_counts(struct run *run, struct rerate_worker *worker, enum weir_status status)
{
    pthread_mutex_lock(&run->mutex);
    run->counts.customers += worker->counts.customers;
    run->counts.changed += worker->counts.changed;
    run->counts.windows += worker->counts.windows;
    run->counts.unpriced += worker->counts.unpriced;
    run->counts.reversals += worker->counts.reversals;
    run->counts.line_items += worker->counts.line_items;
    if (run->status == WEIR_OK && status != WEIR_OK) {
        run->status = status;
        run->error = worker->error;
    }
    pthread_mutex_unlock(&run->mutex);
    worker->counts = (struct weir_rerate_counts){0};
}

static void *work(void *context)
{
    struct thread *thread = context;
    struct run *run = thread->run;
    struct rerate_worker *worker = &thread->worker;
    const struct weir_slice *customers;
    enum weir_status status = weir_rerate_worker_open(worker);
    size_t count;

    if (status != WEIR_OK)
        give_counts(run, worker, status);
    while (status == WEIR_OK && (count = take_customers(run, &customers))) {
        status = weir_rerate_worker_take(worker, customers, count);
        give_counts(run, worker, status);
    }
    weir_rerate_worker_close(worker);
    pthread_mutex_lock(&run->mutex);
    run->running--;
    pthread_cond_signal(&run->ended);
    pthread_mutex_unlock(&run->mutex);
    return NULL;
}

/* Shows how far it is until all threads have ended. */
static void watch(struct run *run)
{
    pthread_mutex_lock(&run->mutex);
    while (run->running > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 200 * 1000 * 1000;
        until.tv_sec += until.tv_nsec / WEIR_SECOND;
        until.tv_nsec %= WEIR_SECOND;
        pthread_cond_timedwait(&run->ended, &run->mutex, &until);
        if (run->job.request->progress)
            run->job.request->progress(run->job.request->context, &run->counts);
    }
    pthread_mutex_unlock(&run->mutex);
}

static void gather(const struct thread *threads, int count, struct weir_rerate_report *report)
{
    struct rerate_rows all = {.arena = weir_arena_new()};

    for (int i = 0; i < count; i++)
        weir_rerate_rows_append(&all, &threads[i].worker.rows);
    weir_rerate_rows_report(&all, report);
}

static void run_threads(struct run *run, struct weir_rerate_report *report)
{
    int count = run->job.request->workers;
    struct thread *threads = weir_new_array((size_t)count, sizeof *threads);

    run->running = count;
    for (int i = 0; i < count; i++) {
        threads[i].run = run;
        threads[i].worker.job = &run->job;
        threads[i].worker.rows.arena = weir_arena_new();
        weir_check(pthread_create(&threads[i].handle, NULL, work, &threads[i]) == 0);
    }
    watch(run);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i].handle, NULL);
    if (run->status == WEIR_OK)
        gather(threads, count, report);
    for (int i = 0; i < count; i++) {
        struct rerate_worker *worker = &threads[i].worker;
        weir_arena_free(worker->rows.arena);
        free(worker->rows.rows);
        free(worker->windows);
        free(worker->shares);
    }
    free(threads);
}

/* 2. the whole */

static enum weir_status list_customers(struct run *run, PGconn *connection, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer number = {0};

    weir_parameters_add_slice(&parameters, run->job.request->filter.customer);
    weir_put_int8(&number, run->job.number);
    weir_parameters_add(&parameters, number.data + 4, 8);
    enum weir_status status =
        weir_postgres_ask(connection,
                          "SELECT c.customer FROM weir.customers AS c WHERE $1::text IN ('', c.customer)"
                          " AND NOT EXISTS (SELECT FROM weir.rerating_customers AS d"
                          " WHERE d.rerating = $2::bigint AND d.customer = c.customer) ORDER BY c.customer",
                          &parameters, "listing customers", &run->list, reterr);
    if (status == WEIR_OK)
        status = weir_rerate_term_minimums_read(connection, &run->job.minimums, reterr);
    weir_buffer_free(&number);
    if (status != WEIR_OK)
        return status;
    run->customer_count = (size_t)PQntuples(run->list);
    run->customers = weir_new_array(run->customer_count + 1, sizeof *run->customers);
    for (size_t i = 0; i < run->customer_count; i++)
        run->customers[i] = weir_postgres_field(run->list, (int)i, 0);
    run->counts.customers_all = run->customer_count;
    return WEIR_OK;
}

enum weir_status weir_rerate_all(const struct weir_rerate_request *request, PGconn *connection, int64_t number,
                                 int catalog_version, struct weir_rerate_report *ret_report, struct weir_error *reterr)
{
    bool is_named_one = request->filter.contract.length || request->filter.price_book.length;
    struct run run = {.job = {.request = request, .number = number, .catalog_version = catalog_version},
                      .chunk = is_named_one ? 1 : WEIR_RERATE_CHUNK};
    struct weir_rerate_report report = {0};
    enum weir_status status = list_customers(&run, connection, reterr);

    weir_check(request->workers >= 1 && request->workers <= WEIR_RERATE_WORKERS_MAX);
    if (status == WEIR_OK) {
        pthread_mutex_init(&run.mutex, NULL);
        pthread_cond_init(&run.ended, NULL);
        run_threads(&run, &report);
        pthread_cond_destroy(&run.ended);
        pthread_mutex_destroy(&run.mutex);
        status = run.status;
        if (status != WEIR_OK)
            *reterr = run.error;
    }
    free(run.customers);
    PQclear(run.list);
    weir_rerate_term_minimums_free(&run.job.minimums);
    if (status == WEIR_OK) {
        report.counts = run.counts;
        *ret_report = report;
    }
    return status;
}

enum weir_status weir_rerate_look(const struct weir_rerate_request *request, struct weir_rerate_report *ret_report,
                                  struct weir_error *reterr)
{
    enum weir_status status;
    PGconn *connection = weir_postgres_open(request->url, "weir rerate", &status, reterr);

    if (status == WEIR_OK)
        status = weir_rerate_check_names(connection, request, reterr);
    if (status == WEIR_OK)
        status = weir_rerate_all(request, connection, 0, 0, ret_report, reterr);
    PQfinish(connection);
    return status;
}
