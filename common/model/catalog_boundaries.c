/* Period boundaries must fall between windows.
 *
 * The check is exact and still quick: contracts are taken by (zone, billing period, anchor), and for each such
 * calendar the boundaries through the year 2100 are computed once, keeping those that cut through a window of each
 * length. A contract then only looks up whether one of these lies in its term. The check begins where the price book's
 * first version takes effect (before that nothing has a price, and old zone data is full of odd offsets), but a
 * contract's own start and end are always checked. Each phase of a contract is looked at by itself, and of one contract
 * a meter is reported once.
 */
#include <stdlib.h>

#include "common/model/catalog_internal.h"

#define CHECKED_UNTIL INT64_C(4133980800000000000) /* 2101-01-01T00:00:00Z */

/* 1. boundaries that cut */

struct times {
    size_t count;
    size_t room;
    int64_t *at;
};

/* Boundaries of one (zone, billing period, anchor) that cut through a window of each length, ascending. */
struct cuts {
    struct times by_length[WEIR_WINDOW_LENGTH_COUNT];
};

static bool cuts_window(enum weir_window_length length, int64_t boundary)
{
    int64_t start, end;
    weir_window_of(length, boundary, &start, &end);
    return start != boundary;
}

static void compute_cuts(struct cuts *cuts, const struct weir_contract *contract, int64_t from)
{
    for (int length = 0; length < WEIR_WINDOW_LENGTH_COUNT; length++)
        cuts->by_length[length].count = 0;
    while (from < CHECKED_UNTIL) {
        int64_t start, boundary;
        weir_period_of(contract->billing_period, contract->billing_anchor, contract->zone, from, &start, &boundary);
        weir_check(boundary > from);
        for (int length = 0; length < WEIR_WINDOW_LENGTH_COUNT; length++) {
            struct times *times = &cuts->by_length[length];
            if (!cuts_window(length, boundary))
                continue;
            if (times->count == times->room) {
                times->room = times->room ? 2 * times->room : 256;
                times->at = weir_resize(times->at, times->room, sizeof *times->at);
            }
            times->at[times->count++] = boundary;
        }
        from = boundary;
    }
}

/* The first cut with from < cut < end; false: there is none. */
static bool first_cut(const struct times *times, int64_t from, int64_t end, int64_t *ret_cut)
{
    size_t low = 0, high = times->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (times->at[middle] <= from)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == times->count || times->at[low] >= end)
        return false;
    *ret_cut = times->at[low];
    return true;
}

/* 2. one contract */

struct cut_place {
    const char *member;
    const char *what;
    const char *remedy;
};
static const struct cut_place at_start = {"starts_at", "the start", "a start"};
static const struct cut_place at_end = {"ends_at", "the end", "an end"};
static const struct cut_place at_next_phase = {"starts_at", "the start", "a phase that starts"};
static const struct cut_place at_period = {"billing_period", "the period boundary",
                                           "billing periods (billing_period, billing_anchor, timezone) that end"};

/* The terms under which a cut is looked for, and the meters that were reported of the contract. */
struct looked_at {
    struct weir_contract_draft *draft;
    const char *list;
    bool *is_reported;
};

static void report_cut(struct weir_catalog_load *load, const struct looked_at *at, const struct weir_meter *meter,
                       const struct cut_place *place, int64_t boundary)
{
    const struct weir_contract_draft *draft = at->draft;
    struct weir_origin origin = draft->origin;
    int64_t start, end;
    if (at->is_reported[meter->index])
        return;
    at->is_reported[meter->index] = true;
    if (place == &at_end || place == &at_next_phase)
        origin = draft->end_origin;
    else if (place == &at_period)
        origin.phase = 0;
    weir_window_of(meter->window, boundary, &start, &end);
    weir_mistake_add_at(load, origin, at->list, place->member, WEIR_MISTAKE_CUTS_WINDOW,
                        "%s %s (time zone %s) cuts through the window %s to %s of meter \"%s\" (window \"%s\"), which "
                        "%s prices; give the meter a shorter window, or the contract %s between windows",
                        place->what, weir_time_quoted(load, boundary), draft->contract.timezone.data,
                        weir_time_quoted(load, start), weir_time_quoted(load, end), meter->key.data,
                        weir_window_length_name[meter->window],
                        weir_contract_has_own(&draft->contract, meter->key)
                            ? "the contract"
                            : weir_arena_print(load->scratch, "price book \"%s\"", draft->contract.book->key.data),
                        place->remedy);
}

static void check_meter_boundaries(struct weir_catalog_load *load, const struct looked_at *at, const struct cuts *cuts,
                                   const struct weir_priced_meter *priced)
{
    const struct weir_contract_draft *draft = at->draft;
    const struct weir_contract *contract = &draft->contract;
    const struct weir_meter *meter = priced->meter;
    bool has_key = draft != load->default_contract;
    bool has_end = has_key && contract->ends_at != WEIR_TIME_NEVER;
    int64_t from = contract->starts_at > priced->from ? contract->starts_at : priced->from, start, end, cut;
    if (load->meters[meter->index].broken)
        return;
    weir_window_of(meter->window, from, &start, &end);
    from = start == from ? from : end; /* the window that is under way began before there was a price */
    if (has_key && cuts_window(meter->window, contract->starts_at))
        report_cut(load, at, meter, &at_start, contract->starts_at);
    else if (has_end && cuts_window(meter->window, contract->ends_at))
        report_cut(load, at, meter, draft->end_origin.phase ? &at_next_phase : &at_end, contract->ends_at);
    else if (first_cut(&cuts->by_length[meter->window], from, contract->ends_at, &cut))
        report_cut(load, at, meter, &at_period, cut);
}

static void check_boundaries(struct weir_catalog_load *load, const struct looked_at *at, const struct cuts *cuts)
{
    const struct weir_contract *contract = &at->draft->contract;
    const struct weir_book_facts *facts = &load->facts[contract->book - load->catalog->books];
    for (uint32_t i = 0; i < facts->meter_count; i++)
        if (!weir_contract_has_own(contract, facts->meters[i].meter->key))
            check_meter_boundaries(load, at, cuts, &facts->meters[i]);
    for (uint32_t i = 0; i < contract->price_count; i++) { /* by meter; those without one come last */
        struct weir_priced_meter own = {contract->prices[i].meter, facts->from};
        if (own.meter && (i == 0 || contract->prices[i - 1].meter != own.meter))
            check_meter_boundaries(load, at, cuts, &own);
    }
}

/* 3. contracts by their calendar */

struct entry {
    struct weir_contract_draft *draft;
};

/* Phases of a contract one after another. */
static int by_calendar(const void *left, const void *right)
{
    const struct weir_contract_draft *a = ((const struct entry *)left)->draft,
                                     *b = ((const struct entry *)right)->draft;
    int order = weir_slice_compare(a->contract.timezone, b->contract.timezone);
    if (order)
        return order;
    if (a->contract.billing_period != b->contract.billing_period)
        return a->contract.billing_period > b->contract.billing_period ? 1 : -1;
    return memcmp(&a->contract.billing_anchor, &b->contract.billing_anchor, sizeof a->contract.billing_anchor);
}

static int by_calendar_and_place(const void *left, const void *right)
{
    int order = by_calendar(left, right);
    return order ? order
                 : weir_origin_compare(((const struct entry *)left)->draft->origin,
                                       ((const struct entry *)right)->draft->origin);
}

static bool is_checkable(const struct weir_catalog_load *load, const struct weir_contract_draft *draft)
{
    return draft->has_term && draft->has_period && draft->contract.book
           && !load->facts[draft->contract.book - load->catalog->books].broken;
}

/* The earliest time at which any of these contracts can be cut. */
static int64_t earliest(const struct weir_catalog_load *load, const struct entry entries[], size_t count)
{
    int64_t time = CHECKED_UNTIL;
    for (size_t i = 0; i < count; i++) {
        const struct weir_contract *contract = &entries[i].draft->contract;
        int64_t from = load->facts[contract->book - load->catalog->books].from;
        from = contract->starts_at > from ? contract->starts_at : from;
        time = from < time ? from : time;
    }
    return time;
}

/* entries: those that share a calendar. */
static void check_entries(struct weir_catalog_load *load, const struct entry entries[], size_t count,
                          const struct cuts *cuts)
{
    bool is_reported[WEIR_METERS_MAX] = {0};
    for (size_t i = 0; i < count; i++) {
        struct looked_at at = {entries[i].draft,
                               entries[i].draft == load->default_contract ? "default_contract" : "contracts",
                               is_reported};
        if (at.draft->origin.phase == 0)
            memset(is_reported, 0, sizeof is_reported);
        check_boundaries(load, &at, cuts);
    }
}

void weir_catalog_check_boundaries(struct weir_catalog_load *load)
{
    struct entry *entries = weir_arena_take_array(load->scratch, load->contract_count + 1, sizeof *entries);
    size_t count = 0, end;
    struct cuts cuts = {0};
    for (size_t i = 0; i < load->contract_count; i++)
        if (is_checkable(load, &load->contracts[i]))
            entries[count++].draft = &load->contracts[i];
    if (load->default_contract && is_checkable(load, load->default_contract))
        entries[count++].draft = load->default_contract;
    qsort(entries, count, sizeof *entries, by_calendar_and_place);
    for (size_t first = 0; first < count; first = end) {
        const struct weir_contract *contract = &entries[first].draft->contract;
        for (end = first + 1; end < count && by_calendar(&entries[first], &entries[end]) == 0;)
            end++;
        compute_cuts(&cuts, contract, earliest(load, &entries[first], end - first));
        check_entries(load, &entries[first], end - first, &cuts);
    }
    for (int length = 0; length < WEIR_WINDOW_LENGTH_COUNT; length++)
        free(cuts.by_length[length].at);
}
