#include "common/model/tally.h"

#include "common/calendar.h"

struct weir_window weir_tally_store(struct weir_slice customer, const struct weir_tally *tally,
                                    char bytes[WEIR_SERIES_KEY_MAX])
{
    const struct weir_series series = {.meter = weir_slice_of("", 0), .customer = customer};

    return (struct weir_window){
        .series_key = weir_slice_of(bytes, weir_series_write(&series, bytes)),
        .end = WEIR_TIME_NEVER,
        .total = {.events = tally->duplicate, .retracted = tally->quarantined, .value = {.e12 = tally->admitted}},
    };
}

bool weir_tally_load(const struct weir_window *window, struct weir_slice *ret_customer, struct weir_tally *ret_tally)
{
    struct weir_series series;

    if (!weir_series_is_tally(window->series_key) || !weir_series_parse(window->series_key, &series))
        return false;
    *ret_customer = series.customer;
    *ret_tally = (struct weir_tally){.duplicate = window->total.events,
                                     .quarantined = window->total.retracted,
                                     .admitted = (uint64_t)window->total.value.e12};
    return true;
}
