/* What lanes held, in every cut that the store ever took: what may be rated, and what not without a word.
 *
 * A total of a lane that could not read all is compared with what the whole log says up to the same offset. Where the
 * two are not the same, some gap of the lane has to span the window, and nobody may rate the total before each gap that
 * does was recorded, and then found to be no loss or released. */
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "tests/simulation/simulation.h"

enum { CHAINS = 1024, FOUND_MAX = 512 };

/* A window as a cut held it. */
struct sighting {
    struct sighting *next;
    unsigned partition;
    int64_t start;
    struct weir_window_total total;
    uint32_t series_length, gap_count;
    uint16_t gaps[WEIR_GAPS_MAX]; /* those that may have taken from it, in `found`; none: it is the truth */
    char series[];
};

static struct {
    struct sighting *chains[CHAINS];
    struct {
        unsigned partition;
        struct weir_gap gap;
    } found[FOUND_MAX];
    unsigned found_count;
} truth;

void truth_begin(void)
{
    memset(&truth, 0, sizeof truth);
}

void truth_end(void)
{
    for (int i = 0; i < CHAINS; i++)
        while (truth.chains[i]) {
            struct sighting *next = truth.chains[i]->next;
            free(truth.chains[i]);
            truth.chains[i] = next;
        }
}

bool same_total(const struct weir_window_total *a, const struct weir_window_total *b)
{
    return a->events == b->events && a->retracted == b->retracted && a->value.e12 == b->value.e12
           && a->latest_time == b->latest_time && a->latest_offset == b->latest_offset;
}

static unsigned number_of(unsigned partition, const struct weir_gap *gap)
{
    unsigned i = 0;

    while (i < truth.found_count
           && (truth.found[i].partition != partition || memcmp(&truth.found[i].gap, gap, sizeof *gap) != 0))
        i++;
    weir_check(i < FOUND_MAX);
    if (i == truth.found_count) {
        truth.found[truth.found_count].partition = partition;
        truth.found[truth.found_count++].gap = *gap;
    }
    return i;
}

static struct sighting **chain_of(unsigned partition, struct weir_slice series, int64_t start)
{
    return &truth.chains[weir_hash64(series.data, series.length, (uint64_t)start + partition) % CHAINS];
}

static bool is_of(const struct sighting *sighting, unsigned partition, struct weir_slice series, int64_t start)
{
    return sighting->partition == partition && sighting->start == start
           && weir_slice_equal(series, weir_slice_of(sighting->series, sighting->series_length));
}

static bool is_true(const struct expectation *whole, const struct weir_window *window)
{
    const struct expected_window *expected = find_expected(whole, window->series_key, window->start);
    return expected && same_total(&expected->total, &window->total);
}

static void remember(unsigned partition, const struct weir_lane_state *state, const struct weir_window *window,
                     const struct expectation *whole)
{
    struct sighting **chain = chain_of(partition, window->series_key, window->start);
    struct sighting *sighting = weir_new(sizeof *sighting + window->series_key.length);

    sighting->partition = partition;
    sighting->start = window->start;
    sighting->total = window->total;
    sighting->series_length = window->series_key.length;
    memcpy(sighting->series, window->series_key.data, window->series_key.length);
    if (whole && !is_true(whole, window)) {
        for (uint32_t i = 0; i < state->gaps.count; i++)
            if (state->gaps.at[i].time_from < window->end && state->gaps.at[i].time_to > window->start)
                sighting->gaps[sighting->gap_count++] = (uint16_t)number_of(partition, &state->gaps.at[i]);
        if (sighting->gap_count == 0)
            run_fails("%s: a window of meter %.*s misses events, and no gap spans it", run.partitions[partition].name,
                      (int)window->series_key.data[0], window->series_key.data + 2);
    }
    sighting->next = *chain;
    *chain = sighting;
}

void remember_cut(unsigned partition, const struct weir_lane_state *state, const struct weir_cut *cut)
{
    static struct expectation whole;
    static const struct weir_gaps none;

    if (state->gaps.count)
        expect_lane(&run.partitions[partition], state->next_offset, &none, &whole);
    for (size_t i = 0; i < cut->window_count; i++)
        if (!weir_series_is_tally(cut->windows[i].window.series_key))
            remember(partition, state, &cut->windows[i].window, state->gaps.count ? &whole : NULL);
    for (uint32_t i = 0; i < state->gaps.count; i++) {
        const struct weir_gap *gap = &state->gaps.at[i];
        if (gap->from >= gap->to || gap->to > log_start(&run.partitions[partition]))
            run_fails("%s has a gap from %lld to %lld, and Kafka begins at %lld", run.partitions[partition].name,
                      (long long)gap->from, (long long)gap->to, (long long)log_start(&run.partitions[partition]));
    }
}

static bool may_be_rated(const struct sighting *sighting)
{
    for (uint32_t i = 0; i < sighting->gap_count; i++)
        if (!is_decided(gap_number(sighting->partition, &truth.found[sighting->gaps[i]].gap)))
            return false;
    return true;
}

static void check_rated(unsigned partition, const struct weir_rated_window *window,
                        const struct weir_window_total *before, const struct weir_window_total *total)
{
    const char *name = run.partitions[partition].name, *meter = window->series_key.data + 2;
    int length = window->series_key.data[0];
    bool was_seen = false, may_be = false;

    for (const struct sighting *at = *chain_of(partition, window->series_key, window->start); at; at = at->next) {
        if (!is_of(at, partition, window->series_key, window->start) || !same_total(&at->total, total))
            continue;
        was_seen = true;
        may_be = may_be || may_be_rated(at);
    }
    if (!was_seen)
        run_fails("%s: a window of meter %.*s is rated at a total that no cut ever held", name, length, meter);
    if (!may_be)
        run_fails("%s: a window of meter %.*s is rated, with %llu events, and a gap that nobody decided on may have "
                  "taken from it",
                  name, length, meter, (unsigned long long)total->events);
    if (weir_window_total_is_older(total, before) && !may_have_lowered(partition, window->start, window->end))
        run_fails("%s: a window of meter %.*s was rated at %llu events, and now at %llu", name, length, meter,
                  (unsigned long long)before->events, (unsigned long long)total->events);
}

void check_commit(struct weir_state *stored, struct weir_state *state)
{
    struct weir_state_view all = weir_state_all(state);

    for (size_t i = 0; i < all.window_count; i++)
        for (uint32_t j = 0; j < all.windows[i]->lane_count; j++) {
            const struct weir_rated_window *window = all.windows[i];
            if (!window->lanes[j].is_dirty)
                continue;
            struct weir_rated_window *row = weir_state_window(stored, window->series_key, window->start, window->end);
            check_rated(partition_of(window->lanes[j].lane), window,
                        &weir_rated_window_lane(stored, row, window->lanes[j].lane)->total, &window->lanes[j].total);
        }
    for (size_t i = 0; i < all.period_count; i++) {
        const struct weir_period_running *period = all.periods[i];
        if (period->is_closed
            && !weir_state_period(stored, period->customer, period->contract, period->start, period->end)->is_closed)
            check_closing(period->end);
    }
}
