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

static enum weir_status rate(struct weir_rater *rater, const struct weir_lane_window *windows, size_t count,
                             struct weir_error *reterr)
{
    const struct timespec pause = {0, RETRY_MS * 1000000L};
    enum weir_status status = weir_rater_rate(rater, windows, count, reterr);

    for (int i = 0; i < RETRIES_MAX && status == WEIR_RETRY; i++) {
        nanosleep(&pause, NULL);
        status = weir_rater_rate(rater, windows, count, reterr);
    }
    return status;
}

static bool is_of_window(const struct weir_recount_share *share, const struct weir_recount_share *first)
{
    return share->start == first->start && weir_slice_equal(share->series_key, first->series_key);
}

/* That one window has. */
static size_t most_shares(const struct weir_recount *recount)
{
    size_t most = 1, first = 0;

    for (size_t i = 1; i < recount->share_count; i++) {
        first = is_of_window(&recount->shares[i], &recount->shares[first]) ? first : i;
        most = i - first + 1 > most ? i - first + 1 : most;
    }
    return most;
}

/* The window's shares that differ, behind the others. */
static size_t add_window(const struct weir_recount *recount, size_t first, struct weir_lane_window *windows,
                         size_t *count)
{
    size_t at = first;

    for (; at < recount->share_count && is_of_window(&recount->shares[at], &recount->shares[first]); at++) {
        const struct weir_recount_share *share = &recount->shares[at];
        if (share->verdict == WEIR_RECOUNT_CHANGED && !weir_recount_is_same(&share->stored, &share->after))
            windows[(*count)++] = (struct weir_lane_window){
                .lane = share->lane,
                .window = {share->series_key, share->start, share->end, share->after},
                .replaces = true,
            };
    }
    return at;
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

    return counts.held + counts.refused + counts.stale == 0
               ? WEIR_OK
               : weir_fail(reterr, WEIR_FATAL,
                           "%" PRIu64 " windows are held or cannot be rated (weir.held_usage says why)",
                           counts.held + counts.refused + counts.stale);
}

enum weir_status weir_recount_write(struct weir_recount *recount, struct weir_error *reterr)
{
    struct weir_progress progress = weir_progress_start("weir recount");
    /* A window's shares stand together, so it is replaced whole or not at all. */
    size_t batch = (size_t)recount->settings.rater_batch;
    struct weir_lane_window *windows = weir_new_array(batch + most_shares(recount), sizeof *windows);
    struct weir_ledger *ledger = NULL;
    struct weir_rater *rater = NULL;
    bool is_told = false;
    enum weir_status status = weir_ledger_postgres_open(recount->settings.postgres_url, &ledger, reterr);

    if (status == WEIR_OK) {
        rater = weir_rater_new(recount->catalog, ledger);
        weir_ledger_postgres_write_for(ledger, recount->run);
        weir_rater_on_refusal(rater, tell_refused, &is_told);
    }
    for (size_t at = 0, count = 0; at < recount->share_count && status == WEIR_OK;) {
        at = add_window(recount, at, windows, &count);
        if (count < batch && at < recount->share_count)
            continue;
        if (atomic_load_explicit(recount->stop, memory_order_relaxed)) /* a flag by itself */
            status = weir_fail(reterr, WEIR_FATAL, "stopped by a signal");
        else if (count)
            status = rate(rater, windows, count, reterr);
        count = 0;
        weir_progress_show(&progress, "%zu of %zu shares of windows", at, recount->share_count);
    }
    if (status == WEIR_OK)
        status = check_taken(rater, reterr);
    weir_progress_end(&progress);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    free(windows);
    return status;
}
