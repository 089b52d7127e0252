/* What must hold when a run has come to its rest: the ledger that one clean rater makes of the straight model's windows
 * is the ledger that the run made. */
#include <stdlib.h>
#include <string.h>

#include "tests/simulation/simulation.h"

static struct weir_lane_window *list_windows(const struct expectation *expectation, struct weir_lane_window *to,
                                             unsigned partition)
{
    for (unsigned i = 0; i < expectation->count; i++) {
        const struct expected_window *window = &expectation->windows[i];
        *to++ = (struct weir_lane_window){
            .lane = weir_slice_text(run.partitions[partition].name),
            .window = {.series_key = weir_slice_of(window->series, window->series_length),
                       .start = window->start,
                       .end = window->end,
                       .total = window->total},
        };
    }
    return to;
}

static struct books *right_books(void)
{
    static struct expectation expectations[PARTITIONS_MAX];
    struct weir_lane_window *windows = weir_new_array((size_t)PARTITIONS_MAX * EXPECTED_MAX, sizeof *windows);
    struct weir_lane_window *end = windows;
    struct weir_horizon horizon = {.first_time = WEIR_TIME_NEVER, .last_time = 0, .ended = WEIR_TIME_NEVER};
    struct books *books = books_new();
    struct weir_ledger *ledger = ledger_handle(books, true);
    struct weir_rater *rater = NULL;
    struct weir_error error;

    for (unsigned i = 0; i < run.shape.partitions; i++) {
        expect_lane(&run.partitions[i], INT64_MAX, &expectations[i]);
        end = list_windows(&expectations[i], end, i);
        if (expectations[i].first_time < horizon.first_time)
            horizon.first_time = expectations[i].first_time;
        if (expectations[i].last_time > horizon.last_time)
            horizon.last_time = expectations[i].last_time;
    }
    if (weir_rater_new(run.catalog, ledger, &rater, &error) != WEIR_OK
        || weir_rater_rate(rater, windows, (size_t)(end - windows), &error) != WEIR_OK
        || weir_rater_settle(rater, &horizon, &error) != WEIR_OK)
        run_fails("the right ledger cannot be made: %s", error.text);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    free(windows);
    return books;
}

void check_end(void)
{
    for (unsigned i = 0; i < run.shape.partitions; i++) {
        if (stored_state(i)->next_offset != end_offset(&run.partitions[i]))
            run_fails("%s ends at offset %lld, and the partition at %lld", run.partitions[i].name,
                      (long long)stored_state(i)->next_offset, (long long)end_offset(&run.partitions[i]));
        check_lane(i);
    }
    struct books *books = right_books();
    compare_books(run_books, books);
    books_free(books);
}
