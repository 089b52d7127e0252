#include "rater/rerate_worker.h"

#include <stdlib.h>
#include <time.h>

enum { ATTEMPTS = 20 }; /* to read or write one chunk */

/* 1. one chunk */

static enum weir_status report_customer(struct rerate_worker *worker, struct rerate_customer *customer)
{
    bool is_changed;

    if (!weir_rerate_rows_add(&worker->rows, worker->job->request, customer, &worker->fresh, &is_changed))
        return weir_fail(&worker->error, WEIR_REJECT, "customer '%.*s': the sum of its charges does not fit",
                         (int)customer->customer.length, customer->customer.data);
    customer->is_changed = is_changed;
    worker->counts.changed += is_changed;
    worker->counts.customers++;
    return WEIR_OK;
}

typedef enum weir_status customer_step(struct rerate_worker *worker, struct rerate_customer *customer);

static void drop_windows(struct rerate_worker *worker)
{
    for (size_t i = 0; i < worker->window_count; i++)
        PQfreemem(worker->windows[i].bytes);
    worker->window_count = 0;
}

/* What the rater has met so far, in whatever pass. */
static uint64_t unpriced_so_far(const struct rerate_worker *worker)
{
    return weir_rater_counts(worker->fresh.rater).unpriced_windows;
}

static enum weir_status rate_batch(struct rerate_worker *worker)
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

static void keep_window(struct rerate_worker *worker, const struct rerate_window *window)
{
    if (worker->window_count == worker->window_room) {
        worker->window_room = worker->window_room ? worker->window_room * 2 : 2 * WEIR_RERATE_BATCH;
        worker->windows = weir_resize(worker->windows, worker->window_room, sizeof *worker->windows);
        worker->shares = weir_resize(worker->shares, worker->window_room, sizeof *worker->shares);
    }
    worker->windows[worker->window_count++] = *window;
}

static bool is_full(const struct rerate_worker *worker, const struct rerate_window *next)
{
    return worker->window_count >= WEIR_RERATE_BATCH
           && worker->windows[worker->window_count - 1].share.window.start != next->share.window.start;
}

/* What windows are rated under so far. */
static bool needs_terms(const struct rerate_worker *worker)
{
    return worker->job->number != 0 && !worker->is_rewriting;
}

/* Rates the customer's windows of the stream; *window is the next one, and after it the first of another customer. */
static enum weir_status rate_customer(struct rerate_worker *worker, const struct rerate_customer *customer,
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
static enum weir_status rate_chunk(struct rerate_worker *worker, struct rerate_chunk *chunk, customer_step *begin,
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

static enum weir_status narrow(struct rerate_worker *worker, struct rerate_customer *customer)
{
    weir_rerate_narrow(worker->job->request, &worker->fresh, customer);
    worker->counts.windows = worker->counts.unpriced = 0; /* they are read again */
    return WEIR_OK;
}

/* Goes through the chunk's customers, each in the span that the filter gives it. */
static enum weir_status look_at_chunk(struct rerate_worker *worker, struct rerate_chunk *chunk, customer_step *begin,
                                      customer_step *done)
{
    const struct weir_rerate_request *request = worker->job->request;
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

static enum weir_status begin_judging(struct rerate_worker *worker, struct rerate_customer *customer)
{
    (void)customer;
    weir_rerate_judge_begin(&worker->writer.judge);
    weir_rerate_lines_keep(&worker->writer.lines);
    worker->fresh.take_item = take_judged;
    worker->fresh.context = &worker->writer;
    worker->is_judging = true;
    return WEIR_OK;
}

static enum weir_status end_rewriting(struct rerate_worker *worker, struct rerate_customer *customer)
{
    (void)customer;
    return weir_rerate_writer_end(&worker->writer, &worker->fresh, &worker->error);
}

/* A planner without statistics may otherwise sort a table for every chunk. */
static const char planner[] = "SET jit = off; SET enable_seqscan = off; SET enable_sort = off";

static PGconn *open_reader(struct rerate_worker *worker, enum weir_status *status)
{
    PGconn *connection = weir_postgres_open(worker->job->request->url, "weir rerate", status, &worker->error);

    if (*status == WEIR_OK)
        *status = weir_postgres_run(connection, planner, "setting the session up", &worker->error);
    return connection;
}

/* The reader's stream is with the customers that follow. */
static enum weir_status need_again(struct rerate_worker *worker)
{
    enum weir_status status = WEIR_OK;

    if (!worker->again)
        worker->again = open_reader(worker, &status);
    return status;
}

/* The second time through, by a connection of its own. */
static enum weir_status rewrite_customer(struct rerate_worker *worker, struct rerate_customer *customer)
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
static enum weir_status judge_ledger(struct rerate_worker *worker, struct rerate_customer *customer)
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

static enum weir_status judge_customer(struct rerate_worker *worker, struct rerate_customer *customer)
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

static enum weir_status read_chunk(struct rerate_worker *worker, const struct weir_slice *customers, size_t count,
                                   struct rerate_chunk *ret_chunk)
{
    const struct rerate_job *job = worker->job;

    return weir_rerate_read(worker->reader, job->request->catalog, &job->minimums, customers, count, ret_chunk,
                            &worker->error);
}

static enum weir_status write_chunk(struct rerate_worker *worker, const struct weir_slice *customers, size_t count)
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

/* 4. reading, and nothing else */

static enum weir_status look(struct rerate_worker *worker, const struct weir_slice *customers, size_t count)
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

/* 5. the whole */

enum weir_status weir_rerate_worker_open(struct rerate_worker *worker)
{
    const struct rerate_job *job = worker->job;
    enum weir_status status = WEIR_OK;

    worker->reader = open_reader(worker, &status);
    if (status == WEIR_OK)
        weir_rerate_fresh_open(&worker->fresh, job->request->catalog);
    if (status == WEIR_OK && job->number)
        status =
            weir_rerate_writer_open(&worker->writer, job->request, job->number, job->catalog_version, &worker->error);
    return status;
}

void weir_rerate_worker_close(struct rerate_worker *worker)
{
    drop_windows(worker);
    weir_rerate_fresh_close(&worker->fresh);
    if (worker->job->number)
        weir_rerate_writer_close(&worker->writer);
    PQfinish(worker->reader);
    PQfinish(worker->again);
    worker->reader = worker->again = NULL;
    worker->is_judging = worker->is_rewriting = false;
}

/* A transaction that was broken off (a deadlock, a lost connection) left nothing: from new connections, once more. */
enum weir_status weir_rerate_worker_take(struct rerate_worker *worker, const struct weir_slice *customers, size_t count)
{
    size_t rows = worker->rows.count;
    enum weir_status status = WEIR_OK;

    for (int attempt = 0;; attempt++) {
        if (status == WEIR_OK)
            status = worker->job->number ? write_chunk(worker, customers, count) : look(worker, customers, count);
        if (status != WEIR_RETRY || attempt == ATTEMPTS)
            return status;
        worker->rows.count = rows;
        worker->counts = (struct weir_rerate_counts){0};
        weir_rerate_worker_close(worker);
        nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
        status = weir_rerate_worker_open(worker);
    }
}
