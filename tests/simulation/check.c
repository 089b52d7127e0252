/* What must hold when a run has come to its rest: the ledger that one clean rater makes of the straight model's windows
 * is the ledger that the run made. */
#include <stdlib.h>
#include <string.h>

#include "tests/simulation/simulation.h"

struct listing {
    struct weir_lane_window *windows;
    size_t count;
    struct expectation lanes[PARTITIONS_MAX]; /* as the store has them */
};

static void list_window(struct listing *listing, unsigned partition, const struct weir_window *window)
{
    weir_check(listing->count < (size_t)PARTITIONS_MAX * EXPECTED_MAX);
    listing->windows[listing->count++] =
        (struct weir_lane_window){.lane = weir_slice_text(run.partitions[partition].name), .window = *window};
}

/* Of a window that a gap concerns, what was rated may stand although the store has less of it. */
static void list_touched(void *context, const struct weir_rated_window *rated, const struct weir_rated_lane *share)
{
    struct listing *listing = context;
    unsigned partition = partition_of(share->lane);
    struct weir_window window = {rated->series_key, rated->start, rated->end, share->total};
    const struct expected_window *now = find_expected(&listing->lanes[partition], window.series_key, window.start);

    if (!was_touched(partition, window.start, window.end))
        return;
    if (now && !same_total(&now->total, &window.total) && !weir_window_total_is_older(&now->total, &window.total))
        run_fails("%s: a window of meter %.*s is rated at %llu events, and the store has %llu",
                  run.partitions[partition].name, (int)window.series_key.data[0], window.series_key.data + 2,
                  (unsigned long long)window.total.events, (unsigned long long)now->total.events);
    list_window(listing, partition, &window);
}

static void list_untouched(struct listing *listing, unsigned partition)
{
    for (unsigned i = 0; i < listing->lanes[partition].count; i++) {
        const struct expected_window *expected = &listing->lanes[partition].windows[i];
        struct weir_window window = {.series_key = weir_slice_of(expected->series, expected->series_length),
                                     .start = expected->start,
                                     .end = expected->end,
                                     .total = expected->total};
        if (!was_touched(partition, window.start, window.end))
            list_window(listing, partition, &window);
        else if (!rated_total(run_books, partition, window.series_key, window.start))
            run_fails("%s: a window of meter %.*s was never rated", run.partitions[partition].name,
                      (int)window.series_key.data[0], window.series_key.data + 2);
    }
}

static struct books *right_books(void)
{
    static struct listing listing;
    struct weir_horizon horizon = {.first_time = WEIR_TIME_NEVER, .last_time = 0, .ended = WEIR_TIME_NEVER};
    struct books *books = books_new();
    struct weir_ledger *ledger = ledger_handle(books, true);
    struct weir_rater *rater = NULL;
    struct weir_error error;

    listing.windows = weir_new_array((size_t)PARTITIONS_MAX * EXPECTED_MAX, sizeof *listing.windows);
    listing.count = 0;
    for (unsigned i = 0; i < run.shape.partitions; i++) {
        struct expectation *lane = &listing.lanes[i];
        expect_lane(&run.partitions[i], INT64_MAX, &stored_state(i)->gaps, lane);
        list_untouched(&listing, i);
        if (lane->first_time < horizon.first_time)
            horizon.first_time = lane->first_time;
        if (lane->last_time > horizon.last_time)
            horizon.last_time = lane->last_time;
    }
    visit_rated(run_books, list_touched, &listing);
    rater = weir_rater_new(run.catalog, ledger);
    if (weir_rater_rate(rater, listing.windows, listing.count, &error) != WEIR_OK
        || weir_rater_settle(rater, &horizon, &error) != WEIR_OK)
        run_fails("the right ledger cannot be made: %s", error.text);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    free(listing.windows);
    return books;
}

static void check_noted(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    check_noted_tally(*(const unsigned *)context, window, is_closed && !has_work);
}

void check_end(void)
{
    for (unsigned i = 0; i < run.shape.partitions; i++) {
        if (stored_state(i)->next_offset != end_offset(&run.partitions[i]))
            run_fails("%s ends at offset %lld, and the partition at %lld", run.partitions[i].name,
                      (long long)stored_state(i)->next_offset, (long long)end_offset(&run.partitions[i]));
        check_lane(i);
        stored_windows(i, check_noted, &i);
    }
    check_words();
    struct books *books = right_books();
    compare_books(run_books, books);
    books_free(books);
}
