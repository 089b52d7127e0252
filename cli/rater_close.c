#include "cli/rater_close.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "cli/invoice_details.h"
#include "common/actor.h"
#include "common/calendar.h"
#include "common/log.h"

#define CLOSE_EVERY (10 * WEIR_MINUTE)

struct weir_rater_closer {
    const struct weir_settings *settings;
    struct weir_details_file *file;
    struct weir_invoice_details details;
    struct weir_rater_closer_counts counts;
    pthread_t thread;
    bool has_thread;
    _Atomic bool is_done, stop;
    int64_t made_at, begun_at; /* wall clock */
};

static void pass_over(void *context, const struct weir_closed_period *period)
{
    (void)context;
    (void)period;
}

static enum weir_status close_due(struct weir_rater_closer *closer, struct weir_error *reterr)
{
    char by[WEIR_ACTOR_MAX], through[WEIR_TIME_TEXT_MAX];
    struct weir_close_counts counts;
    const struct weir_close_request request = {
        .url = closer->settings->postgres_url,
        .through = through,
        .only_due = true,
        .workers = (int)closer->settings->close_workers,
        .series = closer->settings->invoice_series,
        .by = weir_actor(by),
        .details = &closer->details,
        .stop = &closer->stop,
        .visit = pass_over,
    };

    int64_t until = weir_time_now() - closer->settings->close_grace;
    weir_time_format(until - until % WEIR_SECOND, through);
    enum weir_status status = weir_close(&request, &counts, reterr);
    atomic_fetch_add_explicit(&closer->counts.issued, counts.issued, memory_order_relaxed);
    atomic_store_explicit(&closer->counts.left_open, counts.left_open, memory_order_relaxed);
    if (counts.issued > 0)
        weir_log(WEIR_LOG_INFO, "closed periods through %s: %" PRIu64 " invoices of %" PRIu64 " customers", through,
                 counts.issued, counts.customers);
    return status;
}

/* Another closing under way, or a server that is away: the next time will do. */
static void *work(void *context)
{
    struct weir_rater_closer *closer = context;
    struct weir_error error = {{0}};
    enum weir_status status = close_due(closer, &error);

    if (status != WEIR_OK && status != WEIR_AGAIN) {
        atomic_fetch_add_explicit(&closer->counts.failures, 1, memory_order_relaxed);
        weir_log(WEIR_LOG_ERROR, "closing periods, tried again in ten minutes: %s", error.text);
    }
    atomic_store_explicit(&closer->is_done, true, memory_order_release);
    return NULL;
}

enum weir_status weir_rater_closer_new(const struct weir_settings *settings, struct weir_rater_closer **ret_closer,
                                       struct weir_error *reterr)
{
    const char *path = settings->close_grace ? settings->invoice_details : "";
    struct weir_rater_closer *closer = weir_new(sizeof *closer);

    closer->settings = settings;
    closer->made_at = weir_time_now();
    enum weir_status status = weir_details_open(path, &closer->file, &closer->details, reterr);
    if (status != WEIR_OK) {
        free(closer);
        return status;
    }
    if (settings->close_grace && !*path)
        weir_log_plain(WEIR_LOG_WARN,
                       "invoices will name no seller: --invoice-details FILE says who sells and who buys");
    *ret_closer = closer;
    return WEIR_OK;
}

static void join(struct weir_rater_closer *closer)
{
    if (closer->has_thread)
        pthread_join(closer->thread, NULL);
    closer->has_thread = false;
}

struct weir_rater_closer *weir_rater_closer_free(struct weir_rater_closer *closer)
{
    if (!closer)
        return NULL;
    atomic_store_explicit(&closer->stop, true, memory_order_relaxed); /* looked at between two customers */
    join(closer);
    weir_details_free(closer->file);
    free(closer);
    return NULL;
}

void weir_rater_closer_tick(struct weir_rater_closer *closer, bool has_settled)
{
    int64_t now = weir_time_now();

    if (!closer->settings->close_grace
        || (closer->has_thread && !atomic_load_explicit(&closer->is_done, memory_order_acquire)))
        return;
    join(closer);
    if (!has_settled && now >= closer->made_at && now - closer->made_at < WEIR_MINUTE)
        return;
    if (closer->begun_at && now >= closer->begun_at && now - closer->begun_at < CLOSE_EVERY)
        return;
    closer->begun_at = now;
    atomic_store_explicit(&closer->is_done, false, memory_order_relaxed); /* the thread's start publishes it */
    closer->has_thread = true;
    weir_check(pthread_create(&closer->thread, NULL, work, closer) == 0);
}

enum weir_status weir_rater_closer_now(struct weir_rater_closer *closer, struct weir_error *reterr)
{
    if (!closer->settings->close_grace)
        return WEIR_OK;
    join(closer);
    enum weir_status status = close_due(closer, reterr);
    return status == WEIR_AGAIN ? WEIR_OK : status; /* another one does it */
}

const struct weir_rater_closer_counts *weir_rater_closer_counts(const struct weir_rater_closer *closer)
{
    return &closer->counts;
}
