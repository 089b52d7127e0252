/* Calendars: contracts with the same billing_period, billing_anchor and timezone have their periods in common. */
#include <stdlib.h>

#include "common/model/catalog_internal.h"

static int by_calendar(const void *left, const void *right)
{
    const struct weir_contract *a = *(struct weir_contract *const *)left, *b = *(struct weir_contract *const *)right;
    int order = weir_slice_compare(a->timezone, b->timezone);
    if (order)
        return order;
    if (a->billing_period != b->billing_period)
        return a->billing_period > b->billing_period ? 1 : -1;
    return memcmp(&a->billing_anchor, &b->billing_anchor, sizeof a->billing_anchor);
}

/* The default contract has no start; before its price book there is nothing to bill. */
static int64_t needed_from(const struct weir_contract *contract)
{
    return contract->key.length ? contract->starts_at : contract->book->versions[0].effective_from;
}

void weir_catalog_make_calendars(struct weir_catalog_load *load)
{
    struct weir_catalog *catalog = load->catalog;
    size_t count = 0;
    if (load->mistakes.found)
        return;
    struct weir_contract **contracts =
        weir_arena_take_array(load->scratch, (size_t)catalog->contract_count + 1, sizeof *contracts);
    for (uint32_t i = 0; i < catalog->contract_count; i++)
        contracts[count++] = &catalog->contracts[i];
    if (catalog->default_contract)
        contracts[count++] = catalog->default_contract;
    if (count > 1)
        qsort(contracts, count, sizeof *contracts, by_calendar);
    for (size_t i = 0; i < count; i++)
        catalog->calendar_count += i == 0 || by_calendar(&contracts[i - 1], &contracts[i]) != 0;
    catalog->calendars = weir_arena_take_array(load->arena, catalog->calendar_count, sizeof *catalog->calendars);
    size_t next = 0;
    struct weir_calendar *calendar = NULL;
    for (size_t i = 0; i < count; i++) {
        struct weir_contract *contract = contracts[i];
        if (!calendar || by_calendar(&contracts[i - 1], &contracts[i]) != 0) {
            calendar = &catalog->calendars[next++];
            *calendar = (struct weir_calendar){.billing_period = contract->billing_period,
                                               .anchor = contract->billing_anchor,
                                               .timezone = contract->timezone,
                                               .zone = contract->zone,
                                               .from = needed_from(contract)};
        }
        if (needed_from(contract) < calendar->from)
            calendar->from = needed_from(contract);
        contract->calendar = calendar;
    }
}
