/* The threads of a closing. Each takes the next customer of the list and closes his periods; the calling thread tells
 * what became of them in the list's order, whoever is done first. */
#include <stdatomic.h>
#include <stdlib.h>

#include "rater/close_internal.h"
#include "rater/postgres_value.h"

/* Customers that are taken and not told yet: one that takes long is waited for by the others when they are so far
 * ahead of him. What is kept of each is what there is to tell. */
enum { AHEAD_MAX = 1024 };

struct place {
    bool is_done;
    enum weir_status status;
    struct weir_error error;
    struct closed closed;
};

/* All but the first three is the mutex's. A place is the thread's that has taken its customer until it is done, and
 * then the calling thread's. */
struct crew {
    struct closing *closing;
    const PGresult *list;
    int count; /* customers */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int next, told; /* customers taken, and told; next - told <= AHEAD_MAX */
    bool is_over;   /* no more are taken */
    bool is_stopped;
    int running;                    /* threads */
    struct place places[AHEAD_MAX]; /* by number, modulo */
};

struct thread {
    struct crew *crew;
    PGconn *connection;
    pthread_t thread;
};

/* 1. a thread */

static struct place *place_of(struct crew *crew, int customer)
{
    return &crew->places[customer % AHEAD_MAX];
}

/* -1: there is none. */
static int take(struct crew *crew)
{
    const _Atomic bool *stop = crew->closing->request->stop;
    int taken = -1;

    pthread_mutex_lock(&crew->mutex);
    while (!crew->is_over && crew->next < crew->count && crew->next - crew->told == AHEAD_MAX)
        pthread_cond_wait(&crew->changed, &crew->mutex);
    if (!crew->is_over && crew->next < crew->count && stop && atomic_load_explicit(stop, memory_order_relaxed))
        crew->is_over = crew->is_stopped = true;
    if (!crew->is_over && crew->next < crew->count)
        taken = crew->next++;
    pthread_mutex_unlock(&crew->mutex);
    return taken;
}

static void give(struct crew *crew, struct place *place)
{
    pthread_mutex_lock(&crew->mutex);
    place->is_done = true;
    crew->is_over = crew->is_over || place->status != WEIR_OK;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->mutex);
}

static void *work(void *context)
{
    struct thread *thread = context;
    struct crew *crew = thread->crew;
    int taken;

    while ((taken = take(crew)) >= 0) {
        struct place *place = place_of(crew, taken);
        place->status = weir_close_customer(crew->closing, thread->connection,
                                            weir_postgres_field(crew->list, taken, 0), &place->closed, &place->error);
        give(crew, place);
    }
    pthread_mutex_lock(&crew->mutex);
    crew->running--;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->mutex);
    return NULL;
}

/* 2. telling */

static void tell(struct closing *closing, struct weir_slice customer, const struct closed *closed, int row)
{
    const PGresult *result = closed->periods;
    struct weir_closed_period period = {
        .customer = customer,
        .contract = weir_postgres_field(result, row, 0),
        .period_start = weir_get_time(PQgetvalue(result, row, 1)),
        .period_end = weir_get_time(PQgetvalue(result, row, 2)),
        .invoice = weir_get_int8(PQgetvalue(result, row, 3)),
        .number = weir_get_int8(PQgetvalue(result, row, 4)),
        .was_made = *PQgetvalue(result, row, 5) != 0,
        .kind = weir_postgres_field(closed->kinds, row, 0),
        .total = weir_postgres_field(result, row, 6),
        .currency = weir_postgres_field(result, row, 7),
        .why = weir_postgres_field(result, row, 8),
    };

    closing->counts.invoices += period.was_made;
    closing->counts.issued += period.number != 0;
    closing->counts.left_open += period.invoice == 0;
    closing->request->visit(closing->request->context, &period);
}

static bool has_open_period(const PGresult *periods, struct weir_slice contract)
{
    for (int row = 0; row < PQntuples(periods); row++)
        if (weir_get_int8(PQgetvalue(periods, row, 3)) == 0
            && weir_slice_equal(weir_postgres_field(periods, row, 0), contract))
            return true;
    return false;
}

/* Where a period of the contract is told that waits, its months wait with it. */
static void tell_months(struct closing *closing, struct weir_slice customer, const struct closed *closed, int row)
{
    const PGresult *result = closed->months;
    const struct weir_closed_period months = {
        .customer = customer,
        .contract = weir_postgres_field(result, row, 0),
        .period_start = weir_get_time(PQgetvalue(result, row, 1)),
        .period_end = weir_get_time(PQgetvalue(result, row, 2)),
        .kind = weir_slice_text("month"),
        .why = weir_postgres_field(result, row, 4),
    };

    closing->counts.months_left_open += (uint64_t)weir_get_int8(PQgetvalue(result, row, 3));
    if (!has_open_period(closed->periods, months.contract))
        closing->request->visit(closing->request->context, &months);
}

static void tell_all(struct closing *closing, struct weir_slice customer, const struct closed *closed)
{
    closing->counts.left_open += closed->left_open;
    closing->counts.customers += closed->periods != NULL;
    for (int row = 0; row < PQntuples(closed->periods); row++)
        tell(closing, customer, closed, row);
    for (int row = 0; row < PQntuples(closed->months); row++)
        tell_months(closing, customer, closed, row);
}

/* The next customer's place, done. NULL: he was not taken, and will not be. */
static struct place *wait_for(struct crew *crew)
{
    struct place *place = place_of(crew, crew->told); /* told is written by this thread alone */

    pthread_mutex_lock(&crew->mutex);
    while (!(crew->told < crew->next && place->is_done) && (crew->told < crew->next || crew->running > 0))
        pthread_cond_wait(&crew->changed, &crew->mutex);
    bool is_taken = crew->told < crew->next;
    pthread_mutex_unlock(&crew->mutex);
    return is_taken ? place : NULL;
}

static void leave(struct crew *crew, struct place *place)
{
    weir_closed_clear(&place->closed);
    pthread_mutex_lock(&crew->mutex);
    place->is_done = false;
    crew->told++;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->mutex);
}

static enum weir_status tell_in_order(struct crew *crew, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    struct place *place;

    while (crew->told < crew->count && (place = wait_for(crew))) {
        if (place->status == WEIR_OK)
            tell_all(crew->closing, weir_postgres_field(crew->list, crew->told, 0), &place->closed);
        if (status == WEIR_OK && place->status != WEIR_OK) {
            status = place->status;
            *reterr = place->error;
        }
        leave(crew, place);
    }
    if (status == WEIR_OK && crew->is_stopped) /* threads have ended, or will take nobody */
        status = weir_fail(reterr, WEIR_AGAIN,
                           "stopped by a signal: customers that are done stay done, the same command goes on");
    return status;
}

/* 3. the whole */

/* The first has the run's connection, so that the lock's is not idle for an hour. */
static enum weir_status open_threads(struct thread *threads, int count, struct crew *crew, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    for (int i = 0; i < count && status == WEIR_OK; i++) {
        threads[i].crew = crew;
        threads[i].connection = crew->closing->connection;
        if (i > 0)
            status = weir_close_connect(crew->closing->request, &threads[i].connection, reterr);
    }
    return status;
}

enum weir_status weir_close_list(struct closing *closing, const PGresult *list, struct weir_error *reterr)
{
    struct crew *crew = weir_new(sizeof *crew);
    int customers = PQntuples(list), wanted = closing->request->workers;
    int count = wanted < customers ? wanted : customers;
    struct thread *threads = weir_new_array((size_t)count, sizeof *threads);

    weir_check(wanted >= 1 && wanted <= WEIR_CLOSE_WORKERS_MAX);
    crew->closing = closing;
    crew->list = list;
    crew->count = customers;
    crew->running = count;
    pthread_mutex_init(&crew->mutex, NULL);
    pthread_cond_init(&crew->changed, NULL);
    enum weir_status status = open_threads(threads, count, crew, reterr);
    if (status == WEIR_OK) {
        for (int i = 0; i < count; i++)
            weir_check(pthread_create(&threads[i].thread, NULL, work, &threads[i]) == 0);
        status = tell_in_order(crew, reterr);
        for (int i = 0; i < count; i++)
            pthread_join(threads[i].thread, NULL);
    }
    for (int i = 1; i < count; i++)
        PQfinish(threads[i].connection);
    pthread_cond_destroy(&crew->changed);
    pthread_mutex_destroy(&crew->mutex);
    free(threads);
    free(crew);
    return status;
}
