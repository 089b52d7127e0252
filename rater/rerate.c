#include "rater/rerate.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "common/calendar.h"
#include "rater/rerate_write.h"

enum {
    ATTEMPTS = 20,  /* to read or write one chunk */
    CHUNK_LEAST = 8 /* customers that are worth the statements of a chunk */
};

/* What all threads share. Customers and request never change; the rest is the mutex's. */
struct run {
    const struct weir_rerate_request *request;
    PGresult *list;
    struct weir_slice *customers; /* views into the list, sorted */
    size_t customer_count;
    struct rerate_term_minimums minimums;
    size_t chunk;   /* customers taken at once, at most */
    int64_t number; /* 0: nothing is written */
    int catalog_version;

    pthread_mutex_t mutex;
    pthread_cond_t ended; /* a thread has */
    size_t next;          /* customer */
    int running;          /* threads */
    struct weir_rerate_counts counts;
    enum weir_status status; /* the first that is not WEIR_OK; all threads end then */
    struct weir_error error;
};

struct worker {
    struct run *run;
    PGconn *reader;
    struct rerate_fresh fresh;
    struct rerate_writer writer;   /* of a run that writes */
    PGconn *again;                 /* reads a customer for the second time, and sums; NULL: nobody needed it yet */
    bool is_judging, is_rewriting; /* a run that writes, this customer: for the first time, for the second */
    const struct rerate_chunk *chunk;
    uint64_t windows_before;       /* this customer, in the chunk */
    struct rerate_window *windows; /* of the batch */
    struct weir_lane_window *shares;
    size_t window_count, window_room;
    struct rerate_rows rows;
    struct weir_rerate_counts counts; /* of the chunk */
    struct weir_error error;
};

/* 1. one chunk */
static enum weir_status report_customer(struct worker *worker, struct rerate_customer *customer)
{
    bool is_changed;

    if (!weir_rerate_rows_add(&worker->rows, worker->run->request, customer, &worker->fresh, &is_changed))
        return weir_fail(&worker->error, WEIR_REJECT, "customer '%.*s': the sum of its charges does not fit",
                         (int)customer->customer.length, customer->customer.data);
    customer->is_changed = is_changed;
    worker->counts.changed += is_changed;
    worker->counts.customers++;
    return WEIR_OK;
}

typedef enum weir_status customer_step(struct worker *worker, struct rerate_customer *customer);

static void drop_windows(struct worker *worker)
{
    for (size_t i = 0; i < worker->window_count; i++)
        PQfreemem(worker->windows[i].bytes);
    worker->window_count = 0;
}

/* What the rater has met so far, in whatever pass. */
static uint64_t unpriced_so_far(const struct worker *worker)
{
    return weir_rater_counts(worker->fresh.rater).unpriced_windows;
}

static enum weir_status rate_batch(struct worker *worker)
{
    uint64_t unpriced_before = unpriced_so_far(worker);
    enum weir_status status = WEIR_OK;

    for (size_t i = 0; i < worker->window_count; i++)
        worker->shares[i] = worker->windows[i].share;
    if (worker->window_count)
        status = weir_rerate_fresh_windows(&worker->fresh, worker->shares, worker->window_count, &worker->error);
    if (status == WEIR_OK && worker->is_judging && worker->window_count)
        status = weir_rerate_writer_terms(&worker->writer, worker->windows, worker->window_count, &worker->fresh,
                                          &worker->error);
    if (status == WEIR_OK && worker->is_rewriting && worker->window_count)
        status = weir_rerate_writer_batch(&worker->writer, worker->windows[worker->window_count - 1].share.window.start,
                                          &worker->error);
    if (!worker->is_rewriting) {
        worker->counts.windows += worker->window_count;
        worker->counts.unpriced += unpriced_so_far(worker) - unpriced_before;
    }
    drop_windows(worker);
    return status;
}

static void keep_window(struct worker *worker, const struct rerate_window *window)
{
    if (worker->window_count == worker->window_room) {
        worker->window_room = worker->window_room ? worker->window_room * 2 : 2 * WEIR_RERATE_BATCH;
        worker->windows = weir_resize(worker->windows, worker->window_room, sizeof *worker->windows);
        worker->shares = weir_resize(worker->shares, worker->window_room, sizeof *worker->shares);
    }
    worker->windows[worker->window_count++] = *window;
}

static bool is_full(const struct worker *worker, const struct rerate_window *next)
{
    return worker->window_count >= WEIR_RERATE_BATCH
           && worker->windows[worker->window_count - 1].share.window.start != next->share.window.start;
}

/* What windows are rated under so far. */
static bool needs_terms(const struct worker *worker)
{
    return worker->run->number != 0 && !worker->is_rewriting;
}

/* Rates the customer's windows of the stream; *window is the next one, and after it the first of another customer. */
static enum weir_status rate_customer(struct worker *worker, const struct rerate_customer *customer,
                                      struct rerate_window *window)
{
    enum weir_status status = WEIR_OK;

    weir_rerate_fresh_begin(&worker->fresh, customer);
    while (status == WEIR_OK && window->bytes && weir_slice_compare(window->customer, customer->customer) <= 0) {
        bool is_wanted = weir_slice_equal(window->customer, customer->customer)
                         && weir_rerate_is_in(customer, window->share.window.start)
                         && (!customer->meter.length || weir_slice_equal(customer->meter, window->meter));
        if (is_wanted && is_full(worker, window))
            status = rate_batch(worker);
        if (is_wanted && status == WEIR_OK)
            keep_window(worker, window);
        else
            PQfreemem(window->bytes);
        *window = (struct rerate_window){0};
        if (status == WEIR_OK)
            status = weir_rerate_windows_next(worker->reader, needs_terms(worker), window, &worker->error);
    }
    if (status == WEIR_OK)
        status = rate_batch(worker);
    if (status == WEIR_OK)
        status = weir_rerate_fresh_periods(&worker->fresh, &worker->error);
    return status;
}

/* begin (may be NULL) and done are called around each customer. */
static enum weir_status rate_chunk(struct worker *worker, struct rerate_chunk *chunk, customer_step *begin,
                                   customer_step *done)
{
    bool has_terms = needs_terms(worker);
    struct rerate_window window = {0};
    enum weir_status status = weir_rerate_windows_begin(worker->reader, chunk, has_terms, &worker->error);

    if (status == WEIR_OK)
        status = weir_rerate_windows_next(worker->reader, has_terms, &window, &worker->error);
    for (size_t i = 0; i < chunk->count && status == WEIR_OK; i++) {
        status = begin ? begin(worker, &chunk->customers[i]) : WEIR_OK;
        if (status == WEIR_OK)
            status = rate_customer(worker, &chunk->customers[i], &window);
        if (status == WEIR_OK)
            status = done(worker, &chunk->customers[i]);
    }
    while (status == WEIR_OK && window.bytes) { /* customers that came meanwhile */
        PQfreemem(window.bytes);
        status = weir_rerate_windows_next(worker->reader, has_terms, &window, &worker->error);
    }
    PQfreemem(window.bytes);
    return status;
}

/* 2. filters */

static enum weir_status narrow(struct worker *worker, struct rerate_customer *customer)
{
    weir_rerate_narrow(worker->run->request, &worker->fresh, customer);
    worker->counts.windows = worker->counts.unpriced = 0; /* they are read again */
    return WEIR_OK;
}

/* Goes through the chunk's customers, each in the span that the filter gives it. */
static enum weir_status look_at_chunk(struct worker *worker, struct rerate_chunk *chunk, customer_step *begin,
                                      customer_step *done)
{
    const struct weir_rerate_request *request = worker->run->request;
    enum weir_status status = WEIR_OK;

    for (size_t i = 0; i < chunk->count; i++)
        weir_rerate_choose(request, &chunk->customers[i]);
    if (request->filter.contract.length || request->filter.price_book.length) {
        weir_check(chunk->count == 1);
        status = rate_chunk(worker, chunk, NULL, narrow);
        if (status == WEIR_OK && chunk->customers[0].from == chunk->customers[0].to) {
            worker->counts.customers++;
            return WEIR_OK;
        }
    }
    for (size_t i = 0; i < chunk->count && status == WEIR_OK; i++)
        status = weir_rerate_widen(worker->reader, request, &chunk->customers[i], &worker->error);
    return status == WEIR_OK ? rate_chunk(worker, chunk, begin, done) : status;
}

/* 3. writing */

static void take_judged(void *context, const struct weir_line_item *item)
{
    struct rerate_writer *writer = context;

    weir_rerate_judge_item(&writer->judge, item);
    weir_rerate_lines_item(&writer->lines, item);
}

static enum weir_status begin_judging(struct worker *worker, struct rerate_customer *customer)
{
    (void)customer;
    weir_rerate_judge_begin(&worker->writer.judge);
    weir_rerate_lines_keep(&worker->writer.lines);
    worker->fresh.take_item = take_judged;
    worker->fresh.context = &worker->writer;
    worker->is_judging = true;
    return WEIR_OK;
}

static enum weir_status end_rewriting(struct worker *worker, struct rerate_customer *customer)
{
    (void)customer;
    return weir_rerate_writer_end(&worker->writer, &worker->fresh, &worker->error);
}

/* A planner without statistics may otherwise sort a table for every chunk. */
static const char planner[] = "SET jit = off; SET enable_seqscan = off; SET enable_sort = off";

static PGconn *open_reader(struct worker *worker, enum weir_status *status)
{
    PGconn *connection = weir_postgres_open(worker->run->request->url, "weir rerate", status, &worker->error);

    if (*status == WEIR_OK)
        *status = weir_postgres_run(connection, planner, "setting the session up", &worker->error);
    return connection;
}

/* The reader's stream is with the customers that follow. */
static enum weir_status need_again(struct worker *worker)
{
    enum weir_status status = WEIR_OK;

    if (!worker->again)
        worker->again = open_reader(worker, &status);
    return status;
}

/* The second time through, by a connection of its own. */
static enum weir_status rewrite_customer(struct worker *worker, struct rerate_customer *customer)
{
    struct rerate_chunk single = {.count = 1, .customers = {*customer}};
    PGconn *reader = worker->reader;
    enum weir_status status = need_again(worker);

    if (status == WEIR_OK)
        status = weir_rerate_lines_begin(&worker->writer.lines, customer, &worker->error);
    worker->is_rewriting = true;
    worker->fresh.take_item = weir_rerate_lines_item;
    worker->fresh.context = &worker->writer.lines;
    worker->reader = worker->again;
    if (status == WEIR_OK)
        status = rate_chunk(worker, &single, NULL, end_rewriting);
    worker->reader = reader;
    worker->fresh.take_item = NULL;
    worker->is_rewriting = false;
    return status;
}

/* Where the customer's sum differs, the ledger's lines are wanted anyway. Otherwise their sums will mostly do. */
static enum weir_status judge_ledger(struct worker *worker, struct rerate_customer *customer)
{
    struct rerate_writer *writer = &worker->writer;
    bool is_certain = customer->is_changed || writer->judge.has_new_terms;
    enum weir_status status = is_certain ? WEIR_OK : need_again(worker);

    if (status == WEIR_OK && is_certain)
        status = weir_rerate_lines_read(&writer->lines, worker->chunk, customer, &worker->error);
    else if (status == WEIR_OK)
        status = weir_rerate_judge_sums(&writer->judge, worker->again, worker->chunk, customer, &worker->error);
    if (status == WEIR_OK)
        status = weir_rerate_judge_end(&writer->judge, &worker->fresh, &customer->is_changed, &worker->error);
    if (status == WEIR_OK && weir_rerate_accounts_complete(&worker->fresh))
        customer->is_changed = true;
    if (status == WEIR_OK && customer->is_changed && !is_certain && writer->lines.is_whole)
        status = weir_rerate_lines_read(&writer->lines, worker->chunk, customer, &worker->error);
    return status;
}

static enum weir_status judge_customer(struct worker *worker, struct rerate_customer *customer)
{
    enum weir_status status = report_customer(worker, customer);

    worker->fresh.take_item = NULL;
    worker->is_judging = false;
    customer->windows = worker->counts.windows - worker->windows_before;
    worker->windows_before = worker->counts.windows;
    worker->writer.customer = customer;
    if (status == WEIR_OK)
        status = judge_ledger(worker, customer);
    if (status == WEIR_OK && customer->is_changed)
        status = worker->writer.lines.is_whole ? weir_rerate_writer_end(&worker->writer, &worker->fresh, &worker->error)
                                               : rewrite_customer(worker, customer);
    worker->counts.reversals += customer->reversals;
    worker->counts.line_items += customer->line_items;
    return status;
}

static enum weir_status read_chunk(struct worker *worker, const struct weir_slice *customers, size_t count,
                                   struct rerate_chunk *ret_chunk)
{
    const struct run *run = worker->run;

    return weir_rerate_read(worker->reader, run->request->catalog, &run->minimums, customers, count, ret_chunk,
                            &worker->error);
}

static enum weir_status write_chunk(struct worker *worker, const struct weir_slice *customers, size_t count)
{
    struct rerate_chunk chunk;
    enum weir_status status = weir_rerate_writer_begin(&worker->writer, customers, count, &worker->error);

    if (status == WEIR_OK)
        status = read_chunk(worker, customers, count, &chunk);
    if (status != WEIR_OK)
        return status;
    worker->windows_before = 0;
    worker->chunk = &chunk;
    weir_rerate_judge_forget(&worker->writer.judge);
    status = look_at_chunk(worker, &chunk, begin_judging, judge_customer);
    if (status == WEIR_OK)
        status = weir_rerate_lines_drain(&worker->writer.lines, &worker->error);
    if (status == WEIR_OK)
        status = weir_rerate_writer_commit(&worker->writer, &chunk, worker->rows.rows, &worker->error);
    weir_rerate_chunk_free(&chunk);
    return status;
}

/* 4. threads */

static enum weir_status look(struct worker *worker, const struct weir_slice *customers, size_t count)
{
    struct rerate_chunk chunk;
    enum weir_status status = weir_postgres_run(worker->reader, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                                                "beginning to read", &worker->error);

    if (status == WEIR_OK)
        status = read_chunk(worker, customers, count, &chunk);
    if (status != WEIR_OK)
        return status;
    status = look_at_chunk(worker, &chunk, NULL, report_customer);
    weir_rerate_chunk_free(&chunk);
    return status == WEIR_OK ? weir_postgres_run(worker->reader, "COMMIT", "ending to read", &worker->error) : status;
}

/* Towards the end fewer and fewer, so that all threads end together. */
static size_t next_count(const struct run *run)
{
    size_t left = run->customer_count - run->next, share = left / (size_t)run->request->workers;

    share = share < CHUNK_LEAST ? CHUNK_LEAST : share;
    share = share < run->chunk ? share : run->chunk;
    return share < left ? share : left;
}

static size_t take_customers(struct run *run, const struct weir_slice **ret_customers)
{
    const _Atomic bool *stop = run->request->stop;
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

static void give_counts(struct worker *worker, enum weir_status status)
{
    struct run *run = worker->run;

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

static enum weir_status open_worker(struct worker *worker)
{
    const struct run *run = worker->run;
    enum weir_status status = WEIR_OK;

    worker->reader = open_reader(worker, &status);
    if (status == WEIR_OK)
        weir_rerate_fresh_open(&worker->fresh, run->request->catalog);
    if (status == WEIR_OK && run->number)
        status =
            weir_rerate_writer_open(&worker->writer, run->request, run->number, run->catalog_version, &worker->error);
    return status;
}

static void close_worker(struct worker *worker)
{
    drop_windows(worker);
    weir_rerate_fresh_close(&worker->fresh);
    if (worker->run->number)
        weir_rerate_writer_close(&worker->writer);
    PQfinish(worker->reader);
    PQfinish(worker->again);
    worker->reader = worker->again = NULL;
    worker->is_judging = worker->is_rewriting = false;
}

/* A transaction that was broken off (a deadlock, a lost connection) left nothing: from new connections, once more. */
static enum weir_status do_customers(struct worker *worker, const struct weir_slice *customers, size_t count)
{
    size_t rows = worker->rows.count;
    enum weir_status status = WEIR_OK;

    for (int attempt = 0;; attempt++) {
        if (status == WEIR_OK)
            status = worker->run->number ? write_chunk(worker, customers, count) : look(worker, customers, count);
        if (status != WEIR_RETRY || attempt == ATTEMPTS)
            return status;
        worker->rows.count = rows;
        worker->counts = (struct weir_rerate_counts){0};
        close_worker(worker);
        nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
        status = open_worker(worker);
    }
}

static void *work(void *context)
{
    struct worker *worker = context;
    struct run *run = worker->run;
    const struct weir_slice *customers;
    enum weir_status status = open_worker(worker);
    size_t count;

    if (status != WEIR_OK)
        give_counts(worker, status);
    while (status == WEIR_OK && (count = take_customers(run, &customers))) {
        status = do_customers(worker, customers, count);
        give_counts(worker, status);
    }
    close_worker(worker);
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
        if (run->request->progress)
            run->request->progress(run->request->context, &run->counts);
    }
    pthread_mutex_unlock(&run->mutex);
}

static void gather(const struct worker *workers, int count, struct weir_rerate_report *report)
{
    struct rerate_rows all = {.arena = weir_arena_new()};

    for (int i = 0; i < count; i++)
        weir_rerate_rows_append(&all, &workers[i].rows);
    weir_rerate_rows_report(&all, report);
}

static void run_workers(struct run *run, struct weir_rerate_report *report)
{
    int count = run->request->workers;
    struct worker *workers = weir_new_array((size_t)count, sizeof *workers);
    pthread_t *threads = weir_new_array((size_t)count, sizeof *threads);

    run->running = count;
    for (int i = 0; i < count; i++) {
        workers[i].run = run;
        workers[i].rows.arena = weir_arena_new();
        weir_check(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    watch(run);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    if (run->status == WEIR_OK)
        gather(workers, count, report);
    for (int i = 0; i < count; i++) {
        weir_arena_free(workers[i].rows.arena);
        free(workers[i].rows.rows);
        free(workers[i].windows);
        free(workers[i].shares);
    }
    free(workers);
    free(threads);
}

/* 5. the whole */
static enum weir_status list_customers(struct run *run, PGconn *connection, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer number = {0};
    enum weir_status status = weir_rerate_check_names(connection, run->request, reterr);

    if (status == WEIR_OK) {
        struct weir_slice customer = run->request->filter.customer;
        weir_parameters_add_slice(&parameters, customer);
        weir_put_int8(&number, run->number);
        weir_parameters_add(&parameters, number.data + 4, 8);
        status = weir_postgres_ask(connection,
                                   "SELECT c.customer FROM weir.customers AS c WHERE $1::text IN ('', c.customer)"
                                   " AND NOT EXISTS (SELECT FROM weir.rerating_customers AS d"
                                   " WHERE d.rerating = $2::bigint AND d.customer = c.customer) ORDER BY c.customer",
                                   &parameters, "listing customers", &run->list, reterr);
    }
    if (status == WEIR_OK)
        status = weir_rerate_term_minimums_read(connection, &run->minimums, reterr);
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
    struct run run = {.request = request,
                      .chunk = is_named_one ? 1 : WEIR_RERATE_CHUNK,
                      .number = number,
                      .catalog_version = catalog_version};
    struct weir_rerate_report report = {0};
    enum weir_status status = list_customers(&run, connection, reterr);

    weir_check(request->workers >= 1 && request->workers <= WEIR_RERATE_WORKERS_MAX);
    if (status == WEIR_OK && run.customer_count == 0 && request->filter.customer.length && !number)
        status = weir_fail(reterr, WEIR_REJECT, "customer '%.*s' was never rated", (int)request->filter.customer.length,
                           request->filter.customer.data);
    if (status == WEIR_OK) {
        pthread_mutex_init(&run.mutex, NULL);
        pthread_cond_init(&run.ended, NULL);
        run_workers(&run, &report);
        pthread_cond_destroy(&run.ended);
        pthread_mutex_destroy(&run.mutex);
        status = run.status;
        if (status != WEIR_OK)
            *reterr = run.error;
    }
    free(run.customers);
    PQclear(run.list);
    weir_rerate_term_minimums_free(&run.minimums);
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
        status = weir_rerate_all(request, connection, 0, 0, ret_report, reterr);
    PQfinish(connection);
    return status;
}
