/* A tally: what became of a customer's events in a lane beside being counted, since the lane began.
 *
 * It travels as a window does, so it is in the lane's cut like everything else: its series key has an empty meter,
 * which no catalog has, and it is over all of time. Nobody's bill depends on it; invoices state it (docs/invoices.md
 * 7). The tally of the empty customer, which no event can have, is of the events of which nobody can tell whose they
 * are.
 */
#ifndef WEIR_COMMON_MODEL_TALLY_H
#define WEIR_COMMON_MODEL_TALLY_H

#include "common/model/window.h"

struct weir_tally {
    uint64_t duplicate;
    uint64_t quarantined;
    uint64_t admitted; /* counted, in a lane of admitted events; 0 in any other */
};

static inline bool weir_series_is_tally(struct weir_slice series_key)
{
    return series_key.length > 2 && series_key.data[0] == 0 && series_key.data[1] == 0;
}

/* Writes the series key to bytes, which the window's view points to. */
struct weir_window weir_tally_store(struct weir_slice customer, const struct weir_tally *tally,
                                    char bytes[WEIR_SERIES_KEY_MAX]);
/* false: it is none. *ret_customer: a view into the series key. */
bool weir_tally_load(const struct weir_window *window, struct weir_slice *ret_customer, struct weir_tally *ret_tally);

#endif
