/* `weir revenue`: what was invoiced, earned, deferred and not invoiced yet, by month. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/listing.h"
#include "common/log.h"
#include "common/settings.h"
#include "rater/revenue.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_REVENUE,
    .name = "weir revenue",
    .arguments = "[OPTIONS]",
    .purpose =
        "Shows for each customer, contract and month what was invoiced and what was earned, and at the month's "
        "end what is\n"
        "deferred (invoiced, not earned yet) and unbilled (earned, not invoiced yet). Months that weir close has "
        "closed\n"
        "never change (docs/revenue.md).",
    .example = "weir revenue --month 2026-01 --format csv",
};

enum { COLUMNS = 10 };
static const struct weir_column columns[COLUMNS] = {
    {"month", WEIR_CELL_TEXT, false},         {"customer", WEIR_CELL_TEXT, false},
    {"contract", WEIR_CELL_TEXT, false},      {"currency", WEIR_CELL_TEXT, false},
    {"invoiced", WEIR_CELL_DECIMAL, false},   {"rounding", WEIR_CELL_DECIMAL, false},
    {"recognised", WEIR_CELL_DECIMAL, false}, {"deferred", WEIR_CELL_DECIMAL, false},
    {"unbilled", WEIR_CELL_DECIMAL, false},   {"state", WEIR_CELL_TEXT, false},
};

static void show(void *context, const struct weir_revenue_month *month)
{
    const struct weir_slice cells[COLUMNS] = {
        month->month,    month->customer,   month->contract, month->currency, month->invoiced,
        month->rounding, month->recognised, month->deferred, month->unbilled, month->state,
    };

    weir_listing_add(context, cells);
}

static enum weir_status list(const struct weir_settings *settings, struct weir_error *reterr)
{
    struct weir_listing listing = weir_listing_begin(settings->format, columns, COLUMNS);
    const struct weir_revenue_filter filter = {weir_slice_text(settings->customer), settings->month};

    enum weir_status status = weir_revenue_list(settings->postgres_url, &filter, show, &listing, reterr);
    return weir_listing_finish(&listing, status, reterr);
}

int weir_command_revenue(int argc, char **argv)
{
    struct weir_settings settings;
    struct weir_error error = {{0}};
    int parsed = weir_settings_load(&usage, argc, argv, &settings);

    if (parsed >= 0)
        return parsed;
    if (*settings.month && !weir_revenue_is_month(settings.month)) {
        weir_log_plain(WEIR_LOG_ERROR, "--month needs a month such as 2026-01");
        weir_settings_free(&settings);
        return WEIR_EXIT_USAGE;
    }
    enum weir_status status = list(&settings, &error);
    if (status != WEIR_OK)
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    weir_settings_free(&settings);
    return status == WEIR_OK ? WEIR_EXIT_DONE : WEIR_EXIT_FAILED;
}
