/* What several entries must have in common: keys that would meet in one invoice, contracts of one customer, and period
 * boundaries that must fall between windows.
 *
 * The boundary check is exact and still quick: contracts are taken by (zone, billing period, anchor), and for each such
 * calendar the boundaries through the year 2100 are computed once, keeping those that cut through a window of each
 * length. A contract then only looks up whether one of these lies in its term. The check begins where the price book's
 * first version takes effect (before that nothing has a price, and old zone data is full of odd offsets), but a
 * contract's own start and end are always checked.
 */
#include <stdlib.h>

#include "common/model/catalog_internal.h"

#define CHECKED_UNTIL INT64_C(4133980800000000000) /* 2101-01-01T00:00:00Z */

/* 1. facts about price books */

static int slice_compare(const void *left, const void *right)
{
    return weir_slice_compare(*(const struct weir_slice *)left, *(const struct weir_slice *)right);
}

static bool holds_slice(const struct weir_slice *sorted, uint32_t count, struct weir_slice key)
{
    return count && bsearch(&key, sorted, count, sizeof *sorted, slice_compare);
}

static bool prices_meter(const struct weir_book_facts *facts, struct weir_slice key)
{
    for (uint32_t i = 0; i < facts->meter_count; i++)
        if (weir_slice_equal(facts->meters[i].meter->key, key))
            return true;
    return false;
}

static void gather_meters(struct weir_catalog_load *load, const struct weir_price_book *book,
                          struct weir_book_facts *facts)
{
    int64_t priced_from[WEIR_METERS_MAX];
    for (uint32_t i = 0; i < WEIR_METERS_MAX; i++)
        priced_from[i] = WEIR_TIME_NEVER;
    for (uint32_t i = 0; i < book->version_count; i++) {
        const struct weir_price_book_version *version = &book->versions[i];
        for (uint32_t p = 0; p < version->price_count; p++) {
            const struct weir_meter *meter = version->prices[p].meter;
            if (meter && meter->index < WEIR_METERS_MAX && version->effective_from < priced_from[meter->index])
                priced_from[meter->index] = version->effective_from;
        }
        if (i == 0 || version->effective_from < facts->from)
            facts->from = version->effective_from;
    }
    facts->meters = weir_arena_take_array(load->scratch, load->meter_count, sizeof *facts->meters);
    for (uint32_t i = 0; i < load->catalog->meter_count && i < WEIR_METERS_MAX; i++)
        if (priced_from[i] != WEIR_TIME_NEVER)
            facts->meters[facts->meter_count++] = (struct weir_priced_meter){&load->catalog->meters[i], priced_from[i]};
}

static void gather_fee_keys(struct weir_catalog_load *load, const struct weir_price_book *book,
                            struct weir_book_facts *facts)
{
    size_t fees = 0;
    for (uint32_t i = 0; i < book->version_count; i++)
        fees += book->versions[i].fee_count;
    facts->fee_keys = weir_arena_take_array(load->scratch, fees, sizeof *facts->fee_keys);
    for (uint32_t i = 0; i < book->version_count; i++)
        for (uint32_t f = 0; f < book->versions[i].fee_count; f++)
            if (book->versions[i].fees[f].key.length)
                facts->fee_keys[facts->fee_count++] = book->versions[i].fees[f].key;
    if (facts->fee_count)
        qsort(facts->fee_keys, facts->fee_count, sizeof *facts->fee_keys, slice_compare);
}

/* 2. keys that would meet as `item` */

/* versions of the draft list that belong to books[index] stand one after the other */
static void check_fee_keys(struct weir_catalog_load *load, const struct weir_version_draft *draft)
{
    const struct weir_price_book *book = weir_catalog_book(load->catalog, draft->key);
    const struct weir_book_facts *facts = book ? &load->facts[book - load->catalog->books] : NULL;
    for (uint32_t i = 0; facts && i < draft->version.fee_count; i++) {
        struct weir_slice key = draft->version.fees[i].key;
        if (key.length && prices_meter(facts, key))
            weir_mistake_add_at(load, draft->origin, "price_books", weir_arena_print(load->scratch, "fees[%u].key", i),
                                WEIR_MISTAKE_KEY_CLASH,
                                "\"%s\" is also a meter that this price book prices; both would be the item \"%s\" of "
                                "an invoice: rename the fee",
                                key.data, key.data);
    }
}

/* Whether the contract has a price of its own for this meter. */
static bool has_own(const struct weir_contract *contract, struct weir_slice meter)
{
    for (uint32_t i = 0; i < contract->price_count; i++)
        if (contract->prices[i].meter && weir_slice_equal(contract->prices[i].meter->key, meter))
            return true;
    return false;
}

/* Fees come from the price book; where that prices the meter too, check_fee_keys has said it. */
static void check_own_meters(struct weir_catalog_load *load, const struct weir_contract_draft *draft, const char *list)
{
    const struct weir_contract *contract = &draft->contract;
    const struct weir_book_facts *facts = contract->book ? &load->facts[contract->book - load->catalog->books] : NULL;
    for (uint32_t i = 0; facts && i < facts->fee_count; i++)
        if ((i == 0 || !weir_slice_equal(facts->fee_keys[i - 1], facts->fee_keys[i]))
            && has_own(contract, facts->fee_keys[i]) && !prices_meter(facts, facts->fee_keys[i]))
            weir_mistake_add_at(load, draft->origin, list, "prices", WEIR_MISTAKE_KEY_CLASH,
                                "meter \"%s\" is also a fee of price book \"%s\"; both would be the item \"%s\" of an "
                                "invoice: rename the fee",
                                facts->fee_keys[i].data, contract->book->key.data, facts->fee_keys[i].data);
}

static void check_commitment_keys(struct weir_catalog_load *load, const struct weir_contract_draft *draft,
                                  const char *list)
{
    const struct weir_contract *contract = &draft->contract;
    if (!contract->book)
        return;
    const struct weir_book_facts *facts = &load->facts[contract->book - load->catalog->books];
    for (uint32_t i = 0; i < contract->commitment_count; i++) {
        struct weir_slice key = contract->commitments[i].key;
        if (key.length == 0)
            continue;
        const char *other = holds_slice(facts->fee_keys, facts->fee_count, key)  ? "a fee of"
                            : prices_meter(facts, key) || has_own(contract, key) ? "a meter priced by the contract or"
                                                                                 : NULL;
        if (other)
            weir_mistake_add_at(load, draft->origin, list, weir_arena_print(load->scratch, "commitments[%u].key", i),
                                WEIR_MISTAKE_KEY_CLASH,
                                "\"%s\" is also %s price book \"%s\"; both would be the item \"%s\" of an invoice: "
                                "rename the commitment",
                                key.data, other, contract->book->key.data, key.data);
    }
}

static void check_terms_keys(struct weir_catalog_load *load, const struct weir_contract_draft *draft, const char *list)
{
    check_own_meters(load, draft, list);
    check_commitment_keys(load, draft, list);
}

/* 3. contracts among themselves */

/* For lists of contracts in another order than theirs. */
struct entry {
    struct weir_contract_draft *draft;
};

static int by_key(const void *left, const void *right)
{
    const struct weir_contract_draft *a = ((const struct entry *)left)->draft,
                                     *b = ((const struct entry *)right)->draft;
    int order = weir_slice_compare(a->contract.key, b->contract.key);
    return order ? order : weir_origin_compare(a->origin, b->origin);
}

static void check_contract_keys(struct weir_catalog_load *load)
{
    size_t count = load->contract_count, first = 0;
    struct entry *entries = weir_arena_take_array(load->scratch, count, sizeof *entries);
    for (size_t i = 0; i < count; i++)
        entries[i].draft = &load->contracts[i];
    if (count > 1)
        qsort(entries, count, sizeof *entries, by_key);
    for (size_t i = 1; i < count; i++) {
        const struct weir_contract_draft *draft = entries[i].draft;
        if (!weir_slice_equal(draft->contract.key, entries[first].draft->contract.key))
            first = i;
        else if (draft->contract.key.length)
            weir_mistake_add_at(load, draft->origin, "contracts", "key", WEIR_MISTAKE_DUPLICATE,
                                "\"%s\" is already the key of %s; each contract needs its own",
                                draft->contract.key.data,
                                weir_origin_text(load, entries[first].draft->origin, "contracts"));
    }
}

/* Contracts come by customer, then start: one that starts before the latest end so far overlaps. */
static void check_overlaps(struct weir_catalog_load *load)
{
    const struct weir_contract_draft *latest = NULL;
    for (size_t i = 0; i < load->contract_count; i++) {
        const struct weir_contract_draft *draft = &load->contracts[i];
        if (!draft->has_term || draft->contract.customer.length == 0)
            continue;
        if (!latest || !weir_slice_equal(latest->contract.customer, draft->contract.customer)) {
            latest = draft;
            continue;
        }
        if (draft->contract.starts_at < latest->contract.ends_at) {
            bool open = latest->contract.ends_at == WEIR_TIME_NEVER;
            weir_mistake_add_at(
                load, draft->origin, "contracts", NULL, WEIR_MISTAKE_OVERLAP,
                "contract %s of customer %s starts at %s, while contract %s (%s) %s%s; a customer has "
                "one contract at a time: let the earlier one end first",
                weir_quoted(load, draft->contract.key), weir_quoted(load, draft->contract.customer),
                weir_time_quoted(load, draft->contract.starts_at), weir_quoted(load, latest->contract.key),
                weir_origin_text(load, latest->origin, "contracts"), open ? "has no end" : "runs until ",
                open ? "" : weir_time_quoted(load, latest->contract.ends_at));
        }
        if (draft->contract.ends_at > latest->contract.ends_at)
            latest = draft;
    }
}

/* 4. period boundaries */

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

struct cut_place {
    const char *member;
    const char *what;
    const char *remedy;
};
static const struct cut_place at_start = {"starts_at", "the start", "a start"};
static const struct cut_place at_end = {"ends_at", "the end", "an end"};
static const struct cut_place at_period = {"billing_period", "the period boundary",
                                           "billing periods (billing_period, billing_anchor, timezone) that end"};

static void report_cut(struct weir_catalog_load *load, const struct weir_contract_draft *draft, const char *list,
                       const struct weir_meter *meter, const struct cut_place *place, int64_t boundary)
{
    int64_t start, end;
    weir_window_of(meter->window, boundary, &start, &end);
    weir_mistake_add_at(load, draft->origin, list, place->member, WEIR_MISTAKE_CUTS_WINDOW,
                        "%s %s (time zone %s) cuts through the window %s to %s of meter \"%s\" (window \"%s\"), which "
                        "%s prices; give the meter a shorter window, or the contract %s between windows",
                        place->what, weir_time_quoted(load, boundary), draft->contract.timezone.data,
                        weir_time_quoted(load, start), weir_time_quoted(load, end), meter->key.data,
                        weir_window_length_name[meter->window],
                        has_own(&draft->contract, meter->key)
                            ? "the contract"
                            : weir_arena_print(load->scratch, "price book \"%s\"", draft->contract.book->key.data),
                        place->remedy);
}

static void check_meter_boundaries(struct weir_catalog_load *load, const struct weir_contract_draft *draft,
                                   const char *list, const struct cuts *cuts, const struct weir_priced_meter *priced)
{
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
        report_cut(load, draft, list, meter, &at_start, contract->starts_at);
    else if (has_end && cuts_window(meter->window, contract->ends_at))
        report_cut(load, draft, list, meter, &at_end, contract->ends_at);
    else if (first_cut(&cuts->by_length[meter->window], from, contract->ends_at, &cut))
        report_cut(load, draft, list, meter, &at_period, cut);
}

static void check_boundaries(struct weir_catalog_load *load, const struct weir_contract_draft *draft, const char *list,
                             const struct cuts *cuts)
{
    const struct weir_contract *contract = &draft->contract;
    const struct weir_book_facts *facts = &load->facts[contract->book - load->catalog->books];
    for (uint32_t i = 0; i < facts->meter_count; i++)
        if (!has_own(contract, facts->meters[i].meter->key))
            check_meter_boundaries(load, draft, list, cuts, &facts->meters[i]);
    for (uint32_t i = 0; i < contract->price_count; i++) { /* by meter; those without one come last */
        struct weir_priced_meter own = {contract->prices[i].meter, facts->from};
        if (own.meter && (i == 0 || contract->prices[i - 1].meter != own.meter))
            check_meter_boundaries(load, draft, list, cuts, &own);
    }
}

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

static void check_all_boundaries(struct weir_catalog_load *load)
{
    struct entry *entries = weir_arena_take_array(load->scratch, load->contract_count + 1, sizeof *entries);
    size_t count = 0, end;
    struct cuts cuts = {0};
    for (size_t i = 0; i < load->contract_count; i++)
        if (is_checkable(load, &load->contracts[i]))
            entries[count++].draft = &load->contracts[i];
    if (load->default_contract && is_checkable(load, load->default_contract))
        entries[count++].draft = load->default_contract;
    qsort(entries, count, sizeof *entries, by_calendar);
    for (size_t first = 0; first < count; first = end) {
        const struct weir_contract *contract = &entries[first].draft->contract;
        for (end = first + 1; end < count && by_calendar(&entries[first], &entries[end]) == 0;)
            end++;
        compute_cuts(&cuts, contract, earliest(load, &entries[first], end - first));
        for (size_t i = first; i < end; i++)
            check_boundaries(load, entries[i].draft,
                             entries[i].draft == load->default_contract ? "default_contract" : "contracts", &cuts);
    }
    for (int length = 0; length < WEIR_WINDOW_LENGTH_COUNT; length++)
        free(cuts.by_length[length].at);
}

/* 5. all of them */

void weir_catalog_check(struct weir_catalog_load *load)
{
    for (uint32_t i = 0; i < load->catalog->book_count; i++) {
        gather_meters(load, &load->catalog->books[i], &load->facts[i]);
        gather_fee_keys(load, &load->catalog->books[i], &load->facts[i]);
    }
    for (size_t i = 0; i < load->version_count; i++)
        check_fee_keys(load, &load->versions[i]);
    for (size_t i = 0; i < load->contract_count; i++)
        check_terms_keys(load, &load->contracts[i], "contracts");
    if (load->default_contract)
        check_terms_keys(load, load->default_contract, "default_contract");
    check_contract_keys(load);
    check_overlaps(load);
    check_all_boundaries(load);
}
