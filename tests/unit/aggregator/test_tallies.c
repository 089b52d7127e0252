/* Tallies: against a plain model over takes and restores, and what comes when the table is full. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/tallies.h"

enum { CUSTOMERS = 300 };

struct stored {
    struct weir_tally tallies[CUSTOMERS + 1]; /* the last one is nobody's */
    bool is_told[CUSTOMERS + 1];
};

static unsigned place_of(struct weir_slice customer)
{
    char text[16] = "";

    memcpy(text, customer.data, customer.length);
    return customer.length ? (unsigned)atoi(text + 1) : CUSTOMERS;
}

static void store(void *context, const struct weir_cut_window *window)
{
    struct stored *stored = context;
    struct weir_slice customer;
    struct weir_tally tally;

    cr_assert(weir_tally_load(&window->window, &customer, &tally));
    cr_assert_eq(window->window.start, 0);
    cr_assert_eq(window->window.end, INT64_MAX);
    unsigned at = place_of(customer);
    cr_assert_neq(memcmp(&tally, &stored->tallies[at], sizeof tally), 0, "it has changed, or is told");
    stored->tallies[at] = tally;
    stored->is_told[at] = window->is_closed;
}

/* When told, what was stored before comes again. */
static void tell(void *context, const struct weir_cut_window *window)
{
    struct stored *stored = context;
    struct weir_slice customer;
    struct weir_tally tally;

    cr_assert(weir_tally_load(&window->window, &customer, &tally));
    cr_assert(window->is_closed);
    unsigned at = place_of(customer);
    stored->tallies[at] = tally;
    stored->is_told[at] = true;
}

static struct weir_tallies *restore(const struct stored *stored)
{
    struct weir_tallies *tallies = weir_tallies_new(CUSTOMERS + 1);
    char name[16];

    for (unsigned i = 0; i <= CUSTOMERS; i++) {
        static const struct weir_tally none;
        snprintf(name, sizeof name, i < CUSTOMERS ? "c%u" : "", i);
        if (memcmp(&stored->tallies[i], &none, sizeof none) != 0)
            weir_tallies_restore(tallies, weir_slice_text(name), &stored->tallies[i], stored->is_told[i]);
    }
    return tallies;
}

Test(tallies, are_what_was_added)
{
    static struct stored stored;
    struct weir_tally expected[CUSTOMERS + 1] = {{0}};
    struct weir_tallies *tallies = weir_tallies_new(CUSTOMERS + 1);
    char name[16];

    srand(11);
    for (int i = 0; i < 200000; i++) {
        unsigned at = (unsigned)rand() % (CUSTOMERS + 1);
        snprintf(name, sizeof name, at < CUSTOMERS ? "c%u" : "", at);
        struct weir_tally *tally = weir_tallies_change(tallies, weir_slice_text(name));
        tally->duplicate += (unsigned)i % 3;
        tally->quarantined++;
        expected[at].duplicate += (unsigned)i % 3;
        expected[at].quarantined++;
        if (rand() % 100 == 0) {
            size_t most = weir_tallies_changed(tallies);
            cr_assert(most > 0 && most <= CUSTOMERS + 1);
            weir_tallies_take(tallies, false, store, &stored);
            cr_assert_eq(memcmp(stored.tallies, expected, sizeof expected), 0);
            if (rand() % 3 == 0) {
                weir_tallies_take(tallies, true, tell, &stored);
                for (unsigned j = 0; j <= CUSTOMERS; j++)
                    cr_assert(stored.is_told[j] || expected[j].quarantined == 0, "customer %u", j);
                cr_assert_eq(weir_tallies_changed(tallies), 0);
            }
            if (rand() % 5 == 0) { /* a crash: what was not taken never happened */
                weir_tallies_free(tallies);
                tallies = restore(&stored);
            }
        }
    }
    cr_assert_eq(weir_tallies_count(tallies), CUSTOMERS + 1);
    weir_tallies_free(tallies);
}

Test(tallies, that_do_not_fit_are_nobodys)
{
    static struct stored stored;
    struct weir_tallies *tallies = weir_tallies_new(2);
    static const char *const names[] = {"c1", "c2", "c3", "c1", "c4", ""};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        weir_tallies_change(tallies, weir_slice_text(names[i]))->duplicate++;
    weir_tallies_take(tallies, true, tell, &stored);
    cr_assert_eq(stored.tallies[1].duplicate, 2);
    cr_assert_eq(stored.tallies[2].duplicate, 1);
    cr_assert_eq(stored.tallies[3].duplicate, 0);
    cr_assert_eq(stored.tallies[CUSTOMERS].duplicate, 3);
    cr_assert_eq(weir_tallies_count(tallies), 3);
    weir_tallies_free(tallies);
}
