/* What PostgreSQL knows of lanes: rater/lanes.c and rater/claims.c in memory, which the linker takes instead of them,
 * and what rater/postgres_held.c does in the ledger's transactions. What is a loss, what is held and whose word counts
 * is as schemas/postgres/0005_gaps.sql, 0008_empty_lanes.sql and 0009_refused.sql have it. */
#include <stdlib.h>
#include <string.h>

#include "rater/claims.h"
#include "rater/lanes.h"
#include "tests/simulation/simulation.h"

enum { GAPS_MAX = 256, HELD_MAX = 2048, LOOKS_MAX = 100000 };

struct known {
    bool is_there;
    int64_t next_offset, highest_offset, watermark;
    struct weir_tally tallies[1 + CUSTOMERS_MAX];
};

struct recorded_gap {
    unsigned partition;
    struct weir_gap gap;
    bool is_loss, is_released, lowers;
    uint64_t released_at; /* which word it was, in the order of all */
};

struct held {
    bool is_there;
    unsigned partition;
    char series[SERIES_MAX];
    uint32_t series_length;
    int64_t start, end;
    struct weir_window_total total;
    uint64_t number;
};

/* A window that a word let go. */
struct word {
    struct held row;
    bool lowers, was_rated;
    struct weir_window_total rated;
    uint64_t fallbacks;
    unsigned gaps; /* that there were */
};

static struct {
    struct known lanes[PARTITIONS_MAX];
    struct recorded_gap gaps[GAPS_MAX];
    unsigned gap_count;
    struct held held[HELD_MAX];
    unsigned held_count; /* places that were ever used */
    uint64_t numbers, words, looks;
    struct word given[HELD_MAX];
    unsigned given_count;
    unsigned asked[LIVES_MAX]; /* how many gaps there were when a process last asked for the open ones */
} tables;

void book_begin(void)
{
    memset(tables.lanes, 0, sizeof tables.lanes);
    memset(tables.asked, 0, sizeof tables.asked);
    tables.gap_count = tables.held_count = tables.given_count = 0;
    tables.numbers = tables.words = tables.looks = 0;
}

/* 1. claims: mostly given, also to two at a time, since exactness does not rest on them */
struct weir_claims {
    char nothing;
};

struct weir_claims *weir_claims_new(const char *url, int64_t idle)
{
    (void)url, (void)idle;
    return weir_new(sizeof(struct weir_claims));
}

struct weir_claims *weir_claims_free(struct weir_claims *claims)
{
    free(claims);
    return NULL;
}

enum weir_status weir_claims_try(struct weir_claims *claims, struct weir_slice name, bool *ret_is_ours,
                                 struct weir_error *reterr)
{
    (void)claims, (void)name;
    if (this_process()->is_dead)
        return dead(reterr);
    *ret_is_ours = run.shape.raters < 2 || choose(2, "another rater has the claim") == 0;
    return WEIR_OK;
}

enum weir_status weir_claims_release(struct weir_claims *claims, struct weir_slice name, struct weir_error *reterr)
{
    (void)claims, (void)name;
    return this_process()->is_dead ? dead(reterr) : WEIR_OK;
}

/* 2. gaps */
static bool is_open(const struct recorded_gap *row)
{
    return row->is_loss && !row->is_released;
}

static bool overlaps(const struct recorded_gap *row, unsigned partition, int64_t start, int64_t end)
{
    return row->partition == partition && row->gap.time_from < end && row->gap.time_to > start;
}

static bool is_held_by_a_gap(unsigned partition, int64_t start, int64_t end)
{
    for (unsigned i = 0; i < tables.gap_count; i++)
        if (is_open(&tables.gaps[i]) && overlaps(&tables.gaps[i], partition, start, end))
            return true;
    return false;
}

/* The last one that was given on any gap of the window. */
static bool last_word_lowers(unsigned partition, int64_t start, int64_t end)
{
    const struct recorded_gap *last = NULL;

    for (unsigned i = 0; i < tables.gap_count; i++) {
        const struct recorded_gap *row = &tables.gaps[i];
        if (row->is_released && overlaps(row, partition, start, end) && (!last || row->released_at > last->released_at))
            last = row;
    }
    return last && last->lowers;
}

unsigned gap_number(unsigned partition, const struct weir_gap *gap)
{
    for (unsigned i = 0; i < tables.gap_count; i++) {
        const struct recorded_gap *row = &tables.gaps[i];
        if (row->partition == partition && row->gap.kind == gap->kind && row->gap.from == gap->from
            && row->gap.to == gap->to && row->gap.found_at == gap->found_at)
            return i + 1;
    }
    return 0;
}

bool is_decided(unsigned gap)
{
    return gap > 0 && !is_open(&tables.gaps[gap - 1]);
}

bool was_touched(unsigned partition, int64_t start, int64_t end)
{
    for (unsigned i = 0; i < tables.gap_count; i++)
        if (overlaps(&tables.gaps[i], partition, start, end))
            return true;
    return false;
}

bool may_have_lowered(unsigned partition, int64_t start, int64_t end)
{
    for (unsigned i = 0; i < tables.gap_count; i++)
        if (tables.gaps[i].lowers && overlaps(&tables.gaps[i], partition, start, end))
            return true;
    return false;
}

/* A gap that was open when the process last asked, and still is. */
void check_closing(int64_t period_end)
{
    for (unsigned i = 0; i < tables.asked[this_process() - run.lives]; i++)
        if (is_open(&tables.gaps[i]) && tables.gaps[i].gap.time_from < period_end)
            run_fails("a billing period is settled that gap %u concerns", i + 1);
}

bool book_is_open(void)
{
    bool is_any = false;

    for (unsigned i = 0; i < tables.gap_count; i++)
        is_any = is_any || is_open(&tables.gaps[i]);
    for (unsigned i = 0; i < tables.held_count; i++)
        is_any = is_any || tables.held[i].is_there;
    return is_any;
}

static void refuse_rated(void *context, const struct weir_rated_window *window, const struct weir_rated_lane *share)
{
    const struct partition *partition = context;

    (void)window;
    if (weir_slice_equal(share->lane, weir_slice_text(partition->name)))
        run_fails("%s was rated, and an emptied store of it passes for a first start", partition->name);
}

static void record_gap(unsigned partition, const struct weir_gap *gap, bool was_known)
{
    if (gap_number(partition, gap))
        return;
    weir_check(tables.gap_count < GAPS_MAX);
    bool is_loss = gap->kind != WEIR_GAP_NOTHING_STORED || was_known;
    tables.gaps[tables.gap_count++] = (struct recorded_gap){.partition = partition, .gap = *gap, .is_loss = is_loss};
    run.gaps += is_loss;
    if (!is_loss)
        visit_rated(run_books, refuse_rated, &run.partitions[partition]);
    trace("gap %u of %s: %s, offsets %lld to %lld%s", tables.gap_count, run.partitions[partition].name,
          weir_gap_kind_name[gap->kind], (long long)gap->from, (long long)gap->to, is_loss ? "" : ", no loss");
}

/* The number of the partition's last gap, or its last one that was released; 0: there is none. */
static int64_t last_gap(unsigned partition, bool is_released)
{
    unsigned number = tables.gap_count;

    while (number > 0
           && (tables.gaps[number - 1].partition != partition || (is_released && !tables.gaps[number - 1].is_released)))
        number--;
    return number;
}

/* 3. the lane book */
struct weir_lane_book {
    struct weir_open_gap gaps[GAPS_MAX];
    char series[BATCH_MAX * THREADS_OF_RATER_MAX][SERIES_MAX]; /* of what was released: rows change */
};

struct weir_lane_book *weir_lane_book_new(const char *url)
{
    (void)url;
    return weir_new(sizeof(struct weir_lane_book));
}

struct weir_lane_book *weir_lane_book_free(struct weir_lane_book *book)
{
    free(book);
    return NULL;
}

void weir_lane_book_forget(struct weir_lane_book *book)
{
    (void)book;
}

enum weir_status weir_lane_book_note(struct weir_lane_book *book, struct weir_slice lane,
                                     const struct weir_lane_state *state, int64_t *ret_back, int64_t *ret_gap,
                                     struct weir_error *reterr)
{
    unsigned partition = partition_of(lane);
    struct known *known = &tables.lanes[partition];
    enum fault fault = FAULT_NONE;

    (void)book;
    *ret_back = -1;
    if (!known->is_there || state->next_offset < known->next_offset || state->gaps.count > 0)
        fault = meet_fault(FAULTS_ANY, "noting a lane");
    if (fault == FAULT_DEAD_BEFORE || this_process()->is_dead)
        return dead(reterr);
    if (fault == FAULT_REFUSED)
        return weir_fail(reterr, WEIR_RETRY, "the ledger cannot be reached");
    if (!known->is_there)
        *known = (struct known){.is_there = true, .next_offset = -1, .highest_offset = -1};
    for (uint32_t i = 0; i < state->gaps.count; i++)
        record_gap(partition, &state->gaps.at[i], known->highest_offset >= 0);
    if (state->next_offset < known->next_offset)
        *ret_back = known->next_offset;
    known->next_offset = state->next_offset;
    known->watermark = state->watermark;
    if (state->next_offset > known->highest_offset)
        known->highest_offset = state->next_offset;
    *ret_gap = last_gap(partition, false);
    return lose_answer(fault, reterr);
}

static uint64_t sum_of(const struct weir_tally *tally)
{
    return tally->duplicate + tally->quarantined + tally->admitted;
}

enum weir_status weir_lane_book_tallies(struct weir_lane_book *book, struct weir_slice lane,
                                        const struct weir_work *tallies, size_t count, struct weir_error *reterr)
{
    struct known *known = &tables.lanes[partition_of(lane)];
    enum fault fault = count ? meet_fault(FAULTS_ANY, "noting tallies") : FAULT_NONE;

    (void)book;
    if (fault == FAULT_DEAD_BEFORE || this_process()->is_dead)
        return dead(reterr);
    if (fault == FAULT_REFUSED)
        return weir_fail(reterr, WEIR_RETRY, "the ledger cannot be reached");
    for (size_t i = 0; i < count; i++) {
        struct weir_slice customer;
        struct weir_tally tally;
        weir_check(weir_tally_load(&tallies[i].window, &customer, &tally));
        struct weir_tally *row = &known->tallies[tally_place(customer)];
        if (sum_of(&tally) > sum_of(row))
            *row = tally;
    }
    return lose_answer(fault, reterr);
}

void check_noted_tally(unsigned partition, const struct weir_window *window, bool is_closed)
{
    struct weir_slice customer;
    struct weir_tally tally;

    if (!weir_tally_load(window, &customer, &tally))
        return;
    const struct weir_tally *row = &tables.lanes[partition].tallies[tally_place(customer)];
    bool has_gap = stored_state(partition)->gaps.count > 0;
    if ((is_closed && sum_of(row) < sum_of(&tally)) || (!has_gap && sum_of(row) > sum_of(&tally)))
        run_fails("%s: of '%.*s' %llu duplicates and refused events are noted, and the store has %llu",
                  run.partitions[partition].name, (int)customer.length, customer.data, (unsigned long long)sum_of(row),
                  (unsigned long long)sum_of(&tally));
}

static void count_held(const struct recorded_gap *row, struct weir_open_gap *gap)
{
    for (unsigned i = 0; i < tables.held_count; i++)
        gap->held += tables.held[i].is_there
                     && overlaps(row, tables.held[i].partition, tables.held[i].start, tables.held[i].end);
}

enum weir_status weir_lane_book_open_gaps(struct weir_lane_book *book, const char *topic, bool are_counted,
                                          const struct weir_open_gap **ret_gaps, size_t *ret_count,
                                          struct weir_error *reterr)
{
    size_t count = 0;

    (void)topic;
    if (this_process()->is_dead)
        return dead(reterr);
    tables.asked[this_process() - run.lives] = tables.gap_count;
    for (unsigned i = 0; i < tables.gap_count; i++) {
        const struct recorded_gap *row = &tables.gaps[i];
        if (!is_open(row))
            continue;
        book->gaps[count] = (struct weir_open_gap){
            .number = i + 1, .lane = weir_slice_text(run.partitions[row->partition].name), .gap = row->gap};
        if (are_counted)
            count_held(row, &book->gaps[count]);
        count++;
    }
    *ret_gaps = book->gaps;
    *ret_count = count;
    return WEIR_OK;
}

enum weir_status weir_lane_book_released(struct weir_lane_book *book, const char *topic, size_t max,
                                         struct weir_lane_window *ret_windows, size_t *ret_count,
                                         struct weir_error *reterr)
{
    size_t count = 0;

    (void)topic;
    weir_check(max <= BATCH_MAX * THREADS_OF_RATER_MAX);
    if (++tables.looks > LOOKS_MAX)
        run_fails("windows that were let go are rated for ever");
    for (unsigned i = 0; i < tables.held_count && count < max; i++) {
        const struct held *row = &tables.held[i];
        if (!row->is_there || is_held_by_a_gap(row->partition, row->start, row->end))
            continue;
        memcpy(book->series[count], row->series, row->series_length);
        ret_windows[count] = (struct weir_lane_window){
            .lane = weir_slice_text(run.partitions[row->partition].name),
            .window = {.series_key = weir_slice_of(book->series[count], row->series_length),
                       .start = row->start,
                       .end = row->end,
                       .total = row->total},
            .held_number = row->number,
        };
        count++;
    }
    *ret_count = count;
    enum fault fault =
        count ? meet_fault(FAULT_BIT(FAULT_REFUSED) | FAULT_BIT(FAULT_DEAD_BEFORE) | FAULT_BIT(FAULT_STALL),
                           "looking for released windows")
              : FAULT_NONE;
    if (fault == FAULT_DEAD_BEFORE || this_process()->is_dead)
        return dead(reterr);
    return fault == FAULT_REFUSED ? weir_fail(reterr, WEIR_RETRY, "the ledger cannot be reached") : WEIR_OK;
}

enum weir_status weir_lane_book_refused(struct weir_lane_book *book, const char *topic, uint64_t *ret_count,
                                        struct weir_error *reterr)
{
    (void)book, (void)topic;
    *ret_count = 0;
    return this_process()->is_dead ? dead(reterr) : WEIR_OK;
}

enum weir_status weir_lane_book_refused_periods(struct weir_lane_book *book, size_t max,
                                                void (*visit)(void *context, struct weir_slice why), void *context,
                                                uint64_t *ret_count, struct weir_error *reterr)
{
    (void)book, (void)max, (void)visit, (void)context;
    *ret_count = 0;
    return this_process()->is_dead ? dead(reterr) : WEIR_OK;
}

/* Whoever makes invoices asks for it; nobody here does. */
enum weir_status weir_lane_book_rated(struct weir_lane_book *book, const struct weir_lane_rating *lanes, size_t count,
                                      struct weir_error *reterr)
{
    (void)book;
    for (size_t i = 0; i < count; i++)
        weir_check(lanes[i].through != INT64_MIN && lanes[i].offset >= -1);
    return this_process()->is_dead ? dead(reterr) : WEIR_OK;
}

enum weir_status weir_lane_book_lanes(struct weir_lane_book *book, const char *topic,
                                      void (*visit)(void *context, struct weir_slice lane, int64_t watermark),
                                      void *context, struct weir_error *reterr)
{
    (void)book, (void)topic;
    if (this_process()->is_dead)
        return dead(reterr);
    for (unsigned i = 0; i < run.shape.partitions; i++)
        if (tables.lanes[i].is_there)
            visit(context, weir_slice_text(run.partitions[i].name), tables.lanes[i].watermark);
    return WEIR_OK;
}

/* 4. the operator */
static void note_word(const struct held *row, bool lowers)
{
    struct word *word = &tables.given[tables.given_count++];
    const struct weir_window_total *rated =
        rated_total(run_books, row->partition, weir_slice_of(row->series, row->series_length), row->start);

    weir_check(tables.given_count < HELD_MAX);
    *word = (struct word){.row = *row, .lowers = lowers, .fallbacks = run.fallbacks, .gaps = tables.gap_count};
    word->was_rated = rated != NULL;
    if (rated)
        word->rated = *rated;
}

/* What the word makes of the window, if the lane holds `now` of it at the end and has lost nothing since. */
static const struct weir_window_total *outcome_of(const struct word *word, const struct weir_window_total *now)
{
    const struct weir_window_total *least = word->lowers ? &word->row.total : &word->rated;

    if (!word->lowers && !word->was_rated)
        return now;
    return weir_window_total_is_older(now, least) ? least : now;
}

void check_words(void)
{
    static struct expectation expectation;

    for (unsigned i = 0; i < tables.given_count; i++) {
        const struct word *word = &tables.given[i];
        const struct held *row = &word->row;
        struct weir_slice series = weir_slice_of(row->series, row->series_length);
        const struct weir_lane_state *state = stored_state(row->partition);
        bool has_lost_since = word->fallbacks != run.fallbacks;
        for (unsigned j = word->gaps; j < tables.gap_count; j++)
            has_lost_since = has_lost_since || tables.gaps[j].partition == row->partition;
        if (has_lost_since)
            continue;
        expect_lane(&run.partitions[row->partition], state->next_offset, &state->gaps, &expectation);
        const struct expected_window *now = find_expected(&expectation, series, row->start);
        if (!now || weir_window_total_is_older(&now->total, &row->total))
            continue; /* lost after it was held, before the word was given */
        const struct weir_window_total *rated = rated_total(run_books, row->partition, series, row->start);
        if (!rated || !same_total(rated, outcome_of(word, &now->total)))
            run_fails("%s: a window of meter %.*s was let go%s at %llu events, rated at %llu, and is rated at %llu",
                      run.partitions[row->partition].name, (int)series.data[0], series.data + 2,
                      word->lowers ? " to lower" : "", (unsigned long long)row->total.events,
                      (unsigned long long)word->rated.events, rated ? (unsigned long long)rated->events : 0);
        run.words++;
    }
}

enum weir_status weir_lane_book_release(struct weir_lane_book *book, const struct weir_release *release, bool is_dry,
                                        struct weir_release_counts *ret_counts, struct weir_error *reterr)
{
    unsigned partition = partition_of(release->lane);
    bool was_held[HELD_MAX];

    (void)book, (void)reterr;
    weir_check(!is_dry);
    for (unsigned i = 0; i < tables.held_count; i++)
        was_held[i] = is_held_by_a_gap(tables.held[i].partition, tables.held[i].start, tables.held[i].end);
    *ret_counts = (struct weir_release_counts){0};
    tables.words++;
    for (unsigned i = 0; i < tables.gap_count; i++) {
        struct recorded_gap *row = &tables.gaps[i];
        if (row->partition != partition || !is_open(row) || (release->gap != 0 && release->gap != i + 1))
            continue;
        row->is_released = true;
        row->lowers = release->lowers;
        row->released_at = tables.words;
        ret_counts->gaps++;
        trace("gap %u is released%s", i + 1, release->lowers ? ", to lower" : "");
    }
    for (unsigned i = 0; i < tables.held_count; i++) {
        const struct held *row = &tables.held[i];
        if (row->is_there && was_held[i] && !is_held_by_a_gap(row->partition, row->start, row->end))
            note_word(row, last_word_lowers(partition, row->start, row->end));
    }
    run.is_settled = false;
    run.releases++;
    return WEIR_OK;
}

/* 5. in the ledger's transactions */
static struct held *held_row(unsigned partition, struct weir_slice series, int64_t start)
{
    for (unsigned i = 0; i < tables.held_count; i++) {
        struct held *row = &tables.held[i];
        if (row->is_there && row->partition == partition && row->start == start
            && weir_slice_equal(series, weir_slice_of(row->series, row->series_length)))
            return row;
    }
    return NULL;
}

static void load_spans(struct weir_state *state, struct weir_held_lane *lane)
{
    unsigned partition = partition_of(lane->lane);

    lane->entry.is_loaded = true;
    for (unsigned i = 0; i < tables.held_count; i++)
        lane->has_held = lane->has_held || (tables.held[i].is_there && tables.held[i].partition == partition);
    lane->released = last_gap(partition, true);
    lane->spans = weir_state_take(state, GAPS_MAX * sizeof *lane->spans);
    for (unsigned i = 0; i < tables.gap_count; i++)
        if (tables.gaps[i].partition == partition && is_open(&tables.gaps[i]))
            lane->spans[lane->span_count++] =
                (struct weir_held_span){tables.gaps[i].gap.time_from, tables.gaps[i].gap.time_to};
}

void load_held(struct weir_state *state)
{
    struct weir_state_view all = weir_state_all(state);

    for (size_t i = 0; i < all.lane_count; i++)
        if (!all.lanes[i]->entry.is_loaded)
            load_spans(state, all.lanes[i]);
    for (size_t i = 0; i < all.window_count; i++)
        for (unsigned p = 0; !all.windows[i]->entry.is_loaded && p < run.shape.partitions; p++) {
            const struct held *row = held_row(p, all.windows[i]->series_key, all.windows[i]->start);
            if (!row)
                continue;
            struct weir_rated_lane *share =
                weir_rated_window_lane(state, all.windows[i], weir_slice_text(run.partitions[p].name));
            share->held = row->total;
            share->held_number = row->number;
            share->may_lower = last_word_lowers(p, row->start, row->end);
        }
}

static void hold_row(unsigned partition, const struct weir_rated_window *window, const struct weir_rated_lane *share)
{
    struct held *row = held_row(partition, window->series_key, window->start);
    unsigned place = 0;

    if (share->refused.length)
        run_fails("a window is refused: %.*s", (int)share->refused.length, share->refused.data);
    if (!row) {
        while (place < tables.held_count && tables.held[place].is_there)
            place++;
        weir_check(place < HELD_MAX && window->series_key.length <= SERIES_MAX);
        tables.held_count += place == tables.held_count;
        row = &tables.held[place];
        *row = (struct held){.is_there = true,
                             .partition = partition,
                             .series_length = window->series_key.length,
                             .start = window->start,
                             .end = window->end};
        memcpy(row->series, window->series_key.data, window->series_key.length);
    }
    row->total = share->held;
    row->number = ++tables.numbers;
    run.holds++;
}

void keep_held(struct weir_state *state)
{
    struct weir_state_view all = weir_state_all(state);

    for (size_t i = 0; i < all.window_count; i++)
        for (uint32_t j = 0; j < all.windows[i]->lane_count; j++) {
            const struct weir_rated_lane *share = &all.windows[i]->lanes[j];
            unsigned partition = share->held_change ? partition_of(share->lane) : 0;
            struct held *row =
                share->held_change ? held_row(partition, all.windows[i]->series_key, all.windows[i]->start) : NULL;
            if (share->held_change == WEIR_HELD_HOLD)
                hold_row(partition, all.windows[i], share);
            else if (share->held_change == WEIR_HELD_LET_GO && row)
                row->is_there = false;
        }
}
