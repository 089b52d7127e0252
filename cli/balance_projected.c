#include "cli/balance_projected.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/window_store.h"
#include "cli/admitted.h"
#include "cli/listing.h"
#include "common/arena.h"
#include "common/calendar.h"
#include "common/log.h"
#include "rater/apply.h"
#include "rater/balances.h"
#include "rater/calendars.h"
#include "rater/project.h"

enum { WINDOWS = 20000, CUSTOMERS = 500 }; /* of a lot: whole customers, at least one */

struct lane {
    struct weir_slice name;
    struct weir_lane_state state;
};

/* A window with its customer, for sorting. */
struct open_window {
    struct weir_slice customer;
    struct weir_lane_window window;
};

struct projection {
    const struct weir_settings *settings;
    struct weir_slice customer; /* empty: all */
    struct weir_catalog *catalog;
    struct weir_arena *arena;
    struct lane *lanes;
    size_t lane_count, lane_room;
    const struct lane *scanned;
    struct weir_slice *customers; /* with grants, by name */
    size_t customer_count, customer_room;
    struct open_window *windows; /* by customer */
    size_t window_count, window_room;
    struct weir_lane_window *lot;
    struct weir_projected_grant *grants; /* of a lot */
    size_t grant_count, grant_room;
    struct weir_listing listing;
    char as_of[WEIR_TIME_TEXT_MAX]; /* the lowest watermark; "": no lane has one */
    int64_t now;
};

static struct weir_slice keep(struct projection *projection, struct weir_slice text)
{
    return weir_arena_copy(projection->arena, text.data, text.length);
}

/* 1. whose */

static void add_customer(void *context, struct weir_slice customer)
{
    struct projection *projection = context;

    if (projection->customer_count == projection->customer_room) {
        projection->customer_room = projection->customer_room ? 2 * projection->customer_room : 64;
        projection->customers =
            weir_resize(projection->customers, projection->customer_room, sizeof *projection->customers);
    }
    projection->customers[projection->customer_count++] = keep(projection, customer);
}

/* It has grants, or its contract gives it some with its first usage. */
static bool concerns(const struct projection *projection, struct weir_slice customer, int64_t time)
{
    if (projection->customer.length && !weir_slice_equal(projection->customer, customer))
        return false;
    const struct weir_contract *contract = weir_catalog_contract_at(projection->catalog, customer, time);
    return (contract && contract->has_prepaid)
           || (projection->customer_count
               && bsearch(&customer, projection->customers, projection->customer_count, sizeof customer,
                          weir_slice_compare_items));
}

/* 2. what is open: before the ledger is read, so that what is rated meanwhile is found there */

static void add_lane(void *context, struct weir_slice name, const struct weir_lane_state *state)
{
    struct projection *projection = context;

    if (projection->lane_count == projection->lane_room) {
        projection->lane_room = projection->lane_room ? 2 * projection->lane_room : 16;
        projection->lanes = weir_resize(projection->lanes, projection->lane_room, sizeof *projection->lanes);
    }
    projection->lanes[projection->lane_count++] = (struct lane){keep(projection, name), *state};
}

static void add_window(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    struct projection *projection = context;
    struct weir_series series;

    if ((is_closed && !has_work) || !weir_series_parse(window->series_key, &series)
        || !concerns(projection, series.customer, window->start))
        return;
    if (projection->window_count == projection->window_room) {
        projection->window_room = projection->window_room ? 2 * projection->window_room : 256;
        projection->windows = weir_resize(projection->windows, projection->window_room, sizeof *projection->windows);
    }
    struct open_window *open = &projection->windows[projection->window_count++];
    *open = (struct open_window){.window = {.lane = projection->scanned->name, .window = *window}};
    open->window.window.series_key = keep(projection, window->series_key);
    weir_check(weir_series_parse(open->window.window.series_key, &series));
    open->customer = series.customer;
}

static int compare_windows(const void *left, const void *right)
{
    const struct open_window *a = left, *b = right;
    int order = weir_slice_compare(a->customer, b->customer);

    if (!order)
        order = weir_slice_compare(a->window.window.series_key, b->window.window.series_key);
    if (!order)
        order = (a->window.window.start > b->window.window.start) - (a->window.window.start < b->window.window.start);
    return order ? order : weir_slice_compare(a->window.lane, b->window.lane);
}

static enum weir_status scan(struct projection *projection, struct weir_error *reterr)
{
    char admitted[WEIR_SETTING_TEXT_MAX];
    struct weir_window_store *store = NULL;
    enum weir_status status = weir_store_redis_open(projection->settings->redis_url, &store, reterr);

    if (status == WEIR_OK)
        status = store->ops->list_lanes(store, projection->settings->kafka_topic, add_lane, projection, reterr);
    if (status == WEIR_OK)
        status = store->ops->list_lanes(store, weir_admitted_topic(projection->settings, admitted), add_lane,
                                        projection, reterr);
    for (size_t i = 0; i < projection->lane_count && status == WEIR_OK; i++) {
        projection->scanned = &projection->lanes[i];
        status = store->ops->scan_windows(store, projection->scanned->name, add_window, projection, reterr);
    }
    weir_window_store_free(store);
    if (projection->window_count > 1)
        qsort(projection->windows, projection->window_count, sizeof *projection->windows, compare_windows);
    return status;
}

/* 3. what it comes to */

static void add_grant(void *context, const struct weir_projected_grant *grant)
{
    struct projection *projection = context;

    if (*projection->settings->contract
        && !weir_slice_equal(grant->contract, weir_slice_text(projection->settings->contract)))
        return;
    if (projection->grant_count == projection->grant_room) {
        projection->grant_room = projection->grant_room ? 2 * projection->grant_room : 64;
        projection->grants = weir_resize(projection->grants, projection->grant_room, sizeof *projection->grants);
    }
    struct weir_projected_grant *kept = &projection->grants[projection->grant_count++];
    *kept = *grant;
    kept->customer = keep(projection, grant->customer);
    kept->contract = keep(projection, grant->contract);
    kept->grant = keep(projection, grant->grant);
    kept->currency = keep(projection, grant->currency);
}

static int compare_grants(const void *left, const void *right)
{
    const struct weir_projected_grant *a = left, *b = right;
    int order = weir_slice_compare(a->customer, b->customer);

    if (!order)
        order = weir_slice_compare(a->contract, b->contract);
    if (!order)
        order = weir_slice_compare(a->currency, b->currency);
    return order ? order : weir_slice_compare(a->grant, b->grant);
}

static const struct weir_column columns[] = {
    {"customer", WEIR_CELL_TEXT, false},  {"contract", WEIR_CELL_TEXT, false},
    {"grant", WEIR_CELL_TEXT, false},     {"funding", WEIR_CELL_TEXT, false},
    {"starts_at", WEIR_CELL_TEXT, false}, {"expires_at", WEIR_CELL_TEXT, true},
    {"state", WEIR_CELL_TEXT, false},     {"balance", WEIR_CELL_DECIMAL, false},
    {"open", WEIR_CELL_DECIMAL, false},   {"projected", WEIR_CELL_DECIMAL, false},
    {"currency", WEIR_CELL_TEXT, false},  {"as_of", WEIR_CELL_TEXT, true},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

static void show(struct projection *projection, const struct weir_projected_grant *grant, bool is_total)
{
    char starts_at[WEIR_TIME_TEXT_MAX] = "", expires_at[WEIR_TIME_TEXT_MAX] = "";
    char balance[WEIR_DECIMAL_TEXT_MAX], open[WEIR_DECIMAL_TEXT_MAX], projected[WEIR_DECIMAL_TEXT_MAX];

    if (!is_total)
        weir_time_format(grant->starts_at, starts_at);
    if (!is_total && grant->expires_at != WEIR_TIME_NEVER)
        weir_time_format(grant->expires_at, expires_at);
    weir_decimal_format(grant->balance, balance);
    weir_decimal_format((struct weir_decimal){grant->balance.e12 - grant->projected.e12}, open);
    weir_decimal_format(grant->projected, projected);
    const struct weir_slice cells[COLUMNS] = {
        grant->customer,
        grant->contract,
        is_total ? (struct weir_slice){0} : grant->grant,
        is_total ? (struct weir_slice){0} : grant->funding,
        weir_slice_text(starts_at),
        weir_slice_text(expires_at),
        weir_slice_text(is_total ? "" : grant->state),
        weir_slice_text(balance),
        weir_slice_text(open),
        weir_slice_text(projected),
        grant->currency,
        weir_slice_text(projection->as_of),
    };
    weir_listing_add(&projection->listing, cells);
}

static bool is_of_one_total(const struct weir_projected_grant *a, const struct weir_projected_grant *b)
{
    return weir_slice_equal(a->customer, b->customer) && weir_slice_equal(a->contract, b->contract)
           && weir_slice_equal(a->currency, b->currency);
}

/* With the sum of each contract's after them. */
static enum weir_status show_all(struct projection *projection, struct weir_error *reterr)
{
    if (projection->grant_count > 1)
        qsort(projection->grants, projection->grant_count, sizeof *projection->grants, compare_grants);
    for (size_t first = 0, end; first < projection->grant_count; first = end) {
        struct weir_projected_grant total = projection->grants[first];
        show(projection, &total, false);
        for (end = first + 1; end < projection->grant_count && is_of_one_total(&total, &projection->grants[end]);
             end++) {
            const struct weir_projected_grant *grant = &projection->grants[end];
            show(projection, grant, false);
            if (!weir_decimal_add(total.balance, grant->balance, &total.balance)
                || !weir_decimal_add(total.projected, grant->projected, &total.projected))
                return weir_fail(reterr, WEIR_FATAL, "customer '%.*s': its balances do not fit together",
                                 (int)total.customer.length, total.customer.data);
        }
        show(projection, &total, true);
    }
    projection->grant_count = 0;
    return WEIR_OK;
}

/* The next lot from both lists, which are by customer; each is moved on. */
static size_t take_lot(struct projection *projection, size_t *customer, size_t *window, size_t *ret_customers)
{
    size_t count = 0, whole = 0, first = *customer;

    while (whole < CUSTOMERS && count < WINDOWS) {
        const struct weir_slice *a = *customer < projection->customer_count ? &projection->customers[*customer] : NULL;
        const struct weir_slice *b = *window < projection->window_count ? &projection->windows[*window].customer : NULL;
        if (!a && !b)
            break;
        struct weir_slice next = !b || (a && weir_slice_compare(*a, *b) <= 0) ? *a : *b;
        *customer += a && weir_slice_equal(*a, next);
        const struct open_window *windows = projection->windows;
        for (; windows && *window < projection->window_count && weir_slice_equal(windows[*window].customer, next);
             (*window)++)
            projection->lot[count++] = windows[*window].window;
        whole++;
    }
    *ret_customers = *customer - first;
    return count;
}

static enum weir_status project(struct projection *projection, struct weir_rater *rater, struct weir_error *reterr)
{
    size_t customer = 0, window = 0, customers;
    enum weir_status status = WEIR_OK;

    projection->lot = weir_new_array(projection->window_count + 1, sizeof *projection->lot);
    while (status == WEIR_OK && (customer < projection->customer_count || window < projection->window_count)) {
        size_t first = customer, count = take_lot(projection, &customer, &window, &customers);
        status = weir_rater_project(rater, projection->customers + first, customers, projection->lot, count,
                                    projection->now, add_grant, projection, reterr);
        if (status == WEIR_OK)
            status = show_all(projection, reterr);
    }
    return status;
}

/* 4. the whole */

static void tell_what_it_rests_on(struct projection *projection)
{
    int64_t lowest = WEIR_TIME_NEVER;

    for (size_t i = 0; i < projection->lane_count; i++) {
        const struct lane *lane = &projection->lanes[i];
        char watermark[WEIR_TIME_TEXT_MAX];
        weir_time_format(lane->state.watermark, watermark);
        weir_log_plain(WEIR_LOG_INFO, "lane=%.*s offset=%" PRId64 " watermark=%s", (int)lane->name.length,
                       lane->name.data, lane->state.next_offset, watermark);
        if (!weir_is_admitted(lane->name) && lane->state.watermark < lowest)
            lowest = lane->state.watermark;
    }
    if (lowest != WEIR_TIME_NEVER)
        weir_time_format(lowest, projection->as_of);
}

static enum weir_status look(struct projection *projection, struct weir_error *reterr)
{
    const struct weir_settings *settings = projection->settings;
    struct weir_ledger *ledger = NULL;
    enum weir_status status =
        weir_balances_list_customers(settings->postgres_url, projection->customer, add_customer, projection, reterr);

    if (status == WEIR_OK)
        status = scan(projection, reterr);
    if (status == WEIR_OK)
        status = weir_ledger_postgres_open(settings->postgres_url, &ledger, reterr);
    if (status != WEIR_OK)
        return status;
    struct weir_rater *rater = weir_rater_new(projection->catalog, ledger);
    tell_what_it_rests_on(projection);
    projection->listing = weir_listing_begin(settings->format, columns, COLUMNS);
    status = project(projection, rater, reterr);
    status = weir_listing_finish(&projection->listing, status, reterr);
    struct weir_rater_counts counts = weir_rater_counts(rater);
    weir_log_plain(WEIR_LOG_INFO, "windows=%zu held=%" PRIu64 " refused=%" PRIu64, projection->window_count,
                   counts.held, counts.refused);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    return status;
}

enum weir_status weir_balance_projected(const struct weir_settings *settings, struct weir_error *reterr)
{
    struct projection projection = {.settings = settings,
                                    .customer = weir_slice_text(settings->customer),
                                    .arena = weir_arena_new(),
                                    .now = weir_time_now()};
    enum weir_status status = weir_apply_load_catalog(settings->postgres_url, &projection.catalog, reterr);

    if (status == WEIR_OK)
        status = weir_calendars_open(settings->postgres_url, projection.catalog, true, reterr);
    if (status == WEIR_OK)
        status = look(&projection, reterr);
    weir_catalog_free(projection.catalog);
    free(projection.customers);
    free(projection.windows);
    free(projection.lanes);
    free(projection.grants);
    free(projection.lot);
    weir_arena_free(projection.arena);
    return status;
}
