/* Periods of min, max and latest, whose windows move forward and back: after each batch the line items add up to what a
 * plain fold over all windows says, whatever moved together. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/calendar.h"
#include "rater/rate.h"

enum { METERS = 3, SPLITS = 2, WINDOWS = 40, LANES = 2, ROUNDS = 600, BATCH = 30 };
static const char *const meters[METERS] = {"low", "high", "last"};

static const char catalog_json[] =
    "{\"meters\":["
    "{\"key\":\"low\",\"event_type\":\"t\",\"aggregation\":\"min\",\"value\":\"data.v\",\"window\":\"1h\","
    "\"retractable\":true},"
    "{\"key\":\"high\",\"event_type\":\"t\",\"aggregation\":\"max\",\"value\":\"data.v\",\"window\":\"1h\","
    "\"retractable\":true},"
    "{\"key\":\"last\",\"event_type\":\"t\",\"aggregation\":\"latest\",\"value\":\"data.v\",\"window\":\"1h\","
    "\"retractable\":true}],"
    "\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"2020-01-01T00:00:00Z\","
    "\"prices\":["
    "{\"meter\":\"low\",\"model\":\"per_unit\",\"unit_price\":\"1\"},"
    "{\"meter\":\"high\",\"model\":\"per_unit\",\"unit_price\":\"1\"},"
    "{\"meter\":\"last\",\"model\":\"per_unit\",\"unit_price\":\"1\"}]}],"
    "\"default_contract\":{\"price_book\":\"b\",\"billing_period\":\"month\",\"timezone\":\"UTC\"}}";

/* 1. a ledger that adds up quantities by customer and meter */
struct sums {
    struct weir_ledger ledger;
    weir_int128 quantity[SPLITS][METERS];
};

static enum weir_status load(struct weir_ledger *ledger, struct weir_state *state, struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(state);
    (void)ledger, (void)reterr;
    for (size_t i = 0; i < all.window_count; i++)
        all.windows[i]->entry.is_loaded = true;
    return WEIR_OK;
}

static enum weir_status add_up(struct weir_ledger *ledger, const struct weir_line_item *items, size_t count,
                               struct weir_state *state, struct weir_error *reterr)
{
    struct sums *sums = (struct sums *)ledger;
    (void)state, (void)reterr;
    for (size_t i = 0; i < count; i++)
        for (int m = 0; m < METERS; m++)
            if (weir_slice_equal(items[i].item, weir_slice_text(meters[m])))
                sums->quantity[items[i].customer.data[0] - 'a'][m] += items[i].quantity.e12;
    return WEIR_OK;
}

static void abandon(struct weir_ledger *ledger)
{
    (void)ledger;
}

static const struct weir_ledger_ops ops = {.name = "sums", .load = load, .write = add_up, .abandon = abandon};

/* 2. windows: for each what its lane's total is now */
static struct weir_window_total totals[SPLITS][METERS][WINDOWS][LANES];
static char keys[SPLITS][METERS][WEIR_SERIES_KEY_MAX];
static struct weir_slice key_of[SPLITS][METERS];

static void make_keys(void)
{
    for (int s = 0; s < SPLITS; s++)
        for (int m = 0; m < METERS; m++) {
            char customer[2] = {(char)('a' + s), '\0'};
            struct weir_series series = {.meter = weir_slice_text(meters[m]), .customer = weir_slice_text(customer)};
            key_of[s][m] = weir_slice_of(keys[s][m], weir_series_write(&series, keys[s][m]));
        }
}

static void change(struct weir_window_total *total, int64_t start)
{
    if (total->events > 1 && rand() % 3 == 0) { /* one event is taken out, and any value may remain */
        total->events--;
        total->retracted++;
    } else {
        total->events++;
    }
    total->value = weir_decimal_of(rand() % 100);
    total->latest_time = start + rand() % 4; /* also the same in two lanes, at the same offset */
    total->latest_offset = rand() % 4;
}

static bool is_ahead(int meter, const struct weir_window_total *a, const struct weir_window_total *b)
{
    if (meter == 2 && a->latest_time != b->latest_time)
        return a->latest_time > b->latest_time;
    if (meter == 2 && a->latest_offset != b->latest_offset)
        return a->latest_offset > b->latest_offset;
    return meter == 0 ? a->value.e12 < b->value.e12 : a->value.e12 > b->value.e12;
}

static weir_int128 expected(int split, int meter)
{
    const struct weir_window_total *best = NULL;
    for (int w = 0; w < WINDOWS; w++)
        for (int l = 0; l < LANES; l++) {
            const struct weir_window_total *total = &totals[split][meter][w][l];
            if (total->events > 0 && (!best || is_ahead(meter, total, best)))
                best = total;
        }
    return best ? best->value.e12 : 0;
}

static void check(const struct sums *sums, int round)
{
    for (int s = 0; s < SPLITS; s++)
        for (int m = 0; m < METERS; m++)
            cr_assert(sums->quantity[s][m] == expected(s, m), "round %d, %s of %c: billed %lld, should be %lld", round,
                      meters[m], 'a' + s, (long long)(sums->quantity[s][m] / 1000000000000),
                      (long long)(expected(s, m) / 1000000000000));
}

Test(fold, of_windows_that_move_back_is_that_of_all_windows)
{
    static const char *const lanes[LANES] = {"events:0", "events:1"};
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    struct sums sums = {.ledger = {&ops}};
    struct weir_rater *rater = NULL;
    struct weir_error error;
    int64_t month = 1767225600 * WEIR_SECOND;

    make_keys();
    srand(5);
    cr_assert_eq(weir_catalog_parse("test", catalog_json, sizeof catalog_json - 1, &catalog, &mistakes), WEIR_OK);
    rater = weir_rater_new(catalog, &sums.ledger);
    for (int round = 0; round < ROUNDS; round++) {
        struct weir_lane_window batch[BATCH];
        int count = 1 + rand() % BATCH;
        for (int i = 0; i < count; i++) {
            int s = rand() % SPLITS, m = rand() % METERS, w = rand() % WINDOWS, l = rand() % LANES;
            int64_t start = month + w * 17 * WEIR_HOUR; /* the month's end, and the next one's begin at its last */
            if (w == WINDOWS - 1)
                start = month + 31 * WEIR_DAY - WEIR_HOUR;
            change(&totals[s][m][w][l], start);
            batch[i] = (struct weir_lane_window){
                .lane = weir_slice_text(lanes[l]),
                .window = {
                    .series_key = key_of[s][m], .start = start, .end = start + WEIR_HOUR, .total = totals[s][m][w][l]}};
        }
        cr_assert_eq(weir_rater_rate(rater, batch, (size_t)count, &error), WEIR_OK, "%s", error.text);
        check(&sums, round);
    }
    weir_rater_free(rater);
    weir_catalog_free(catalog);
}
