#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "cli/recount.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "rater/ledger.h"

enum {
    RETRY_MS = 500,
    RETRIES_MAX = 20,
};

/* One of the two. */
struct target {
    struct weir_rater *rater;
    struct weir_rehearsal *rehearsal;
};

static enum weir_status rate_once(const struct target *target, const struct weir_lane_window *windows, size_t count,
                                  struct weir_error *reterr)
{
    return target->rater ? weir_rater_rate(target->rater, windows, count, reterr)
                         : weir_rehearsal_rate(target->rehearsal, windows, count, reterr);
}

static enum weir_status rate(const struct target *target, const struct weir_lane_window *windows, size_t count,
                             struct weir_error *reterr)
{
    const struct timespec pause = {0, RETRY_MS * 1000000L};
    enum weir_status status = rate_once(target, windows, count, reterr);

    for (int i = 0; i < RETRIES_MAX && status == WEIR_RETRY; i++) {
        nanosleep(&pause, NULL);
        status = rate_once(target, windows, count, reterr);
    }
    return status;
}

/* The window's shares that differ, behind the others. */
static void add_window(const struct weir_recount *recount, size_t first, size_t next, struct weir_lane_window *windows,
                       size_t *count)
{
    for (size_t at = first; at < next; at++) {
        const struct weir_recount_share *share = &recount->shares[at];
        if (share->verdict == WEIR_RECOUNT_CHANGED && !weir_recount_is_same(&share->stored, &share->after))
            windows[(*count)++] = (struct weir_lane_window){
                .lane = share->lane,
                .window = {share->series_key, share->start, share->end, share->after},
                .replaced = &share->stored,
            };
    }
}

static void tell_refused(void *context, const struct weir_lane_window *window, struct weir_slice why)
{
    bool *is_told = context;

    (void)window;
    if (!*is_told)
        weir_log(WEIR_LOG_ERROR, "a window cannot be rated, and waits in weir.held_usage: %.*s", (int)why.length,
                 why.data);
    *is_told = true;
}

/* What a gap that opened meanwhile holds, or what could not be rated, is not counted yet. */
static enum weir_status check_taken(const struct weir_rater *rater, struct weir_error *reterr)
{
    const struct weir_rater_counts counts = weir_rater_counts(rater);

    if (counts.stale)
        return weir_fail(reterr, WEIR_FATAL, "%" PRIu64 " windows were rated anew while they were counted",
                         counts.stale);
    return counts.held + counts.refused == 0
               ? WEIR_OK
               : weir_fail(reterr, WEIR_FATAL,
                           "%" PRIu64 " windows are held or cannot be rated (weir.held_usage says why)",
                           counts.held + counts.refused);
}

static bool is_of_customer(const struct weir_recount_share *share, const struct weir_recount_share *first)
{
    struct weir_series one, other; /* of one meter: a customer's windows stand together */

    return weir_series_parse(share->series_key, &one) && weir_series_parse(first->series_key, &other)
           && weir_slice_equal(one.customer, other.customer);
}

/* Whether a batch may end between two windows, each of which is replaced whole or not at all: in a rehearsal, of which
 * nothing is kept, a customer's totals move once. */
static bool may_end(const struct target *target, const struct weir_recount_share *window,
                    const struct weir_recount_share *next)
{
    return target->rater || !is_of_customer(window, next);
}

/* Rates what differs, some windows at once. */
static enum weir_status rate_changed(const struct weir_recount *recount, const struct target *target,
                                     struct weir_error *reterr)
{
    struct weir_progress progress = weir_progress_start("weir recount");
    size_t batch = (size_t)recount->settings.rater_batch, room = 0, count = 0;
    struct weir_lane_window *windows = NULL;
    enum weir_status status = WEIR_OK;

    for (size_t at = 0, first = 0; at < recount->share_count && status == WEIR_OK; first = at) {
        size_t next = weir_recount_next_window(recount, at);
        if (count + (next - at) > room) {
            room = 2 * (count + (next - at));
            windows = weir_resize(windows, room, sizeof *windows);
        }
        add_window(recount, at, next, windows, &count);
        at = next;
        if (at < recount->share_count
            && (count < batch || !may_end(target, &recount->shares[first], &recount->shares[at])))
            continue;
        if (atomic_load_explicit(recount->stop, memory_order_relaxed)) /* a flag by itself */
            status = weir_fail(reterr, WEIR_FATAL, "stopped by a signal");
        else if (count)
            status = rate(target, windows, count, reterr);
        count = 0;
        weir_progress_show(&progress, "%zu of %zu shares of windows", at, recount->share_count);
    }
    weir_progress_end(&progress);
    free(windows);
    return status;
}

enum weir_status weir_recount_write(struct weir_recount *recount, struct weir_error *reterr)
{
    struct weir_ledger *ledger = NULL;
    bool is_told = false;
    enum weir_status status = weir_ledger_postgres_open(recount->settings.postgres_url, &ledger, reterr);

    if (status != WEIR_OK)
        return status;
    const struct target target = {.rater = weir_rater_new(recount->catalog, ledger)};
    weir_ledger_postgres_write_for(ledger, recount->run);
    weir_rater_on_refusal(target.rater, tell_refused, &is_told);
    status = rate_changed(recount, &target, reterr);
    if (status == WEIR_OK)
        status = check_taken(target.rater, reterr);
    weir_rater_free(target.rater);
    weir_ledger_free(ledger);
    return status;
}

enum weir_status weir_recount_rehearse(struct weir_recount *recount, struct weir_error *reterr)
{
    enum weir_status status =
        weir_rehearsal_open(recount->settings.postgres_url, recount->catalog, &recount->rehearsal, reterr);
    const struct target target = {.rehearsal = recount->rehearsal};

    return status == WEIR_OK ? rate_changed(recount, &target, reterr) : status;
}
