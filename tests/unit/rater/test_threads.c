/* Several raters at once make the line items that one makes: whatever the windows, in whatever order, and each
 * customer's by one of them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/calendar.h"
#include "rater/threads.h"

enum { CUSTOMERS = 40, HOURS = 30, THREADS = 3, BATCH = 100, WINDOWS = CUSTOMERS * HOURS };

static const char catalog_json[] =
    "{\"meters\":[{\"key\":\"tokens\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.v\",\"window\":"
    "\"1h\"}],\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":"
    "\"2020-01-01T00:00:00Z\",\"prices\":[{\"meter\":\"tokens\",\"model\":\"graduated\",\"tiers\":["
    "{\"up_to\":\"500\",\"unit_price\":\"3\"},{\"up_to\":null,\"unit_price\":\"2\",\"flat_fee\":\"7\"}]}]}],"
    "\"default_contract\":{\"price_book\":\"b\",\"billing_period\":\"month\",\"timezone\":\"UTC\"}}";

/* A ledger that adds up amounts by customer, and does what it is told to. */
struct sums {
    struct weir_ledger ledger;
    weir_int128 amount[CUSTOMERS];
    size_t largest, transactions;
    enum weir_status answer;
};

static enum weir_status load(struct weir_ledger *ledger, struct weir_state *state, struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(state);
    struct sums *sums = (struct sums *)ledger;
    size_t count = 0;

    for (size_t i = 0; i < all.window_count; i++) {
        count += !all.windows[i]->entry.is_loaded;
        all.windows[i]->entry.is_loaded = true;
    }
    sums->largest = count > sums->largest ? count : sums->largest;
    return sums->answer == WEIR_OK ? WEIR_OK : weir_fail(reterr, sums->answer, "the ledger is away");
}

static enum weir_status add_up(struct weir_ledger *ledger, const struct weir_line_item *items, size_t count,
                               struct weir_state *state, struct weir_error *reterr)
{
    struct sums *sums = (struct sums *)ledger;
    (void)state, (void)reterr;
    for (size_t i = 0; i < count; i++)
        sums->amount[strtoul(items[i].customer.data + 1, NULL, 10)] += items[i].amount.e12;
    sums->transactions++;
    return WEIR_OK;
}

static void abandon(struct weir_ledger *ledger)
{
    (void)ledger;
}

static const struct weir_ledger_ops ops = {.name = "sums", .load = load, .write = add_up, .abandon = abandon};

static struct weir_catalog *catalog;
static struct sums sums[THREADS];
static struct weir_ledger *const ledgers[THREADS] = {&sums[0].ledger, &sums[1].ledger, &sums[2].ledger};
static char keys[CUSTOMERS][WEIR_SERIES_KEY_MAX];
static struct weir_lane_window windows[WINDOWS];
static struct weir_error error;

static void set_up(void)
{
    struct weir_mistake_list mistakes;

    cr_assert_eq(weir_catalog_parse("c", catalog_json, sizeof catalog_json - 1, &catalog, &mistakes), WEIR_OK);
    for (int i = 0; i < THREADS; i++)
        sums[i].ledger.ops = &ops;
    for (int i = 0; i < WINDOWS; i++) {
        char customer[16];
        int number = i % CUSTOMERS;
        snprintf(customer, sizeof customer, "c%d", number);
        struct weir_series series = {.meter = weir_slice_text("tokens"), .customer = weir_slice_text(customer)};
        size_t length = weir_series_write(&series, keys[number]);
        int64_t start = (20000 * 24 + i / CUSTOMERS) * WEIR_HOUR;
        windows[i] =
            (struct weir_lane_window){.lane = weir_slice_text("l:0"),
                                      .window = {.series_key = weir_slice_of(keys[number], length),
                                                 .start = start,
                                                 .end = start + WEIR_HOUR,
                                                 .total = {.events = 1, .value = weir_decimal_of(rand() % 100)}}};
    }
    for (int i = WINDOWS - 1; i > 0; i--) {
        int other = rand() % (i + 1);
        struct weir_lane_window kept = windows[i];
        windows[i] = windows[other];
        windows[other] = kept;
    }
}

static void tear_down(void)
{
    weir_catalog_free(catalog);
}

static struct weir_rater_threads *start(size_t count)
{
    return weir_rater_threads_new(catalog, ledgers, count, BATCH, NULL, NULL);
}

static enum weir_status rate(struct weir_rater_threads *threads, const struct weir_lane_window *from, size_t count,
                             uint64_t *ret_transactions, struct weir_error *reterr)
{
    weir_rater_threads_start(threads, from, count);
    return weir_rater_threads_wait(threads, ret_transactions, reterr);
}

TestSuite(threads, .init = set_up, .fini = tear_down);

Test(threads, make_what_one_makes)
{
    weir_int128 alone[CUSTOMERS];
    uint64_t transactions;
    struct weir_rater_threads *threads = start(1);

    cr_assert_eq(rate(threads, windows, WINDOWS, &transactions, &error), WEIR_OK);
    cr_assert_eq(transactions, WINDOWS / BATCH);
    weir_rater_threads_free(threads);
    memcpy(alone, sums[0].amount, sizeof alone);
    memset(sums[0].amount, 0, sizeof alone);
    sums[0].transactions = 0;
    threads = start(THREADS);
    for (int at = 0; at < WINDOWS; at += WINDOWS / 2)
        cr_assert_eq(rate(threads, windows + at, WINDOWS / 2, &transactions, &error), WEIR_OK);
    cr_assert_eq(weir_rater_threads_counts(threads).windows, WINDOWS);
    for (int i = 0; i < THREADS; i++) {
        cr_assert_gt(sums[i].transactions, 0, "rater %d did nothing", i);
        cr_assert_leq(sums[i].largest, BATCH);
    }
    for (int c = 0; c < CUSTOMERS; c++) {
        int raters = 0;
        weir_int128 together = 0;
        for (int i = 0; i < THREADS; i++) {
            raters += sums[i].amount[c] != 0;
            together += sums[i].amount[c];
        }
        cr_assert_eq(raters, 1, "customer %d fell to %d raters", c, raters);
        cr_assert(together == alone[c], "customer %d", c);
    }
    weir_rater_threads_free(threads);
}

Test(threads, leave_few_windows_to_the_first)
{
    uint64_t transactions;
    struct weir_rater_threads *threads = start(THREADS);

    cr_assert_eq(rate(threads, windows, BATCH, &transactions, &error), WEIR_OK);
    cr_assert_eq(transactions, 1);
    cr_assert_eq(sums[0].transactions, 1);
    cr_assert_eq(rate(threads, windows + BATCH, 0, &transactions, &error), WEIR_OK);
    cr_assert_eq(transactions, 0);
    weir_rater_threads_free(threads);
}

Test(threads, go_on_when_another_fails)
{
    uint64_t transactions;
    struct weir_rater_threads *threads = start(THREADS);

    sums[1].answer = WEIR_RETRY;
    cr_assert_eq(rate(threads, windows, WINDOWS, &transactions, &error), WEIR_RETRY);
    cr_assert(strstr(error.text, "away"), "%s", error.text);
    cr_assert_eq(sums[1].transactions, 0);
    cr_assert_eq(transactions, sums[0].transactions + sums[2].transactions);
    cr_assert_gt(transactions, 0);
    sums[2].answer = WEIR_FATAL; /* what trying again does not mend is told first */
    cr_assert_eq(rate(threads, windows, WINDOWS, &transactions, &error), WEIR_FATAL);
    sums[0].answer = WEIR_RETRY;
    cr_assert_eq(rate(threads, windows, WINDOWS, &transactions, &error), WEIR_FATAL);
    weir_rater_threads_free(threads);
}

Test(threads, say_what_cannot_be_rated_at_all)
{
    static const char broken[] = "no series key";
    uint64_t transactions;
    struct weir_rater_threads *threads = start(THREADS);

    windows[7].window.series_key = weir_slice_of(broken, sizeof broken - 1);
    cr_assert_eq(rate(threads, windows, WINDOWS, &transactions, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "series key cannot be read"), "%s", error.text);
    weir_rater_threads_free(threads);
}
