/* A lane's tallies (common/model/tally.h): which customers had duplicates or refused events, and how many.
 *
 * The whole of them is in memory, as absolute totals, for as long as the lane lives: customers whose events all simply
 * count have none. A store gets what changed with each cut; raters are told (the window is closed) when the caller says
 * so, and then of everything that changed since they were told last.
 */
#ifndef WEIR_AGGREGATOR_TALLIES_H
#define WEIR_AGGREGATOR_TALLIES_H

#include "aggregator/window_store.h"
#include "common/model/tally.h"

/* Customers of a lane, nobody among them. Those that come when it is full are tallied with the events of nobody. */
enum { WEIR_TALLIES_MAX = 1000000 };

struct weir_tallies;

struct weir_tallies *weir_tallies_new(uint32_t customers_max);
struct weir_tallies *weir_tallies_free(struct weir_tallies *tallies); /* NULL in, NULL out */

/* As it was stored; whatever the maximum. is_told: raters know it. */
void weir_tallies_restore(struct weir_tallies *tallies, struct weir_slice customer, const struct weir_tally *tally,
                          bool is_told);
/* The customer's, to be added to; it has changed now. An empty customer: nobody's. Until the next call. */
struct weir_tally *weir_tallies_change(struct weir_tallies *tallies, struct weir_slice customer);

/* At most so many windows come with the next take. */
size_t weir_tallies_changed(const struct weir_tallies *tallies);
/* Those that changed since the last take; is_telling: closed, and of all that changed since they were told last. Views
 * live for the call. */
void weir_tallies_take(struct weir_tallies *tallies, bool is_telling,
                       void (*visit)(void *context, const struct weir_cut_window *window), void *context);

uint32_t weir_tallies_count(const struct weir_tallies *tallies);
size_t weir_tallies_bytes(const struct weir_tallies *tallies);

#endif
