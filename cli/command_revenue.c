/* `weir revenue`: what was invoiced, earned, deferred and not invoiced yet, by month. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "common/log.h"
#include "common/settings.h"
#include "rater/revenue.h"
#include "rater/text_row.h"

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

struct output {
    const char *format;
    struct weir_text_table *table; /* NULL: csv or json */
    bool is_broken;
};

static void show(void *context, const struct weir_revenue_month *month)
{
    struct output *output = context;
    const struct weir_slice cells[COLUMNS] = {
        month->month,    month->customer,   month->contract, month->currency, month->invoiced,
        month->rounding, month->recognised, month->deferred, month->unbilled, month->state,
    };

    if (output->table)
        weir_text_table_add(output->table, cells);
    else if (strcmp(output->format, "csv") == 0)
        output->is_broken = !weir_row_csv(stdout, columns, cells, COLUMNS) || output->is_broken;
    else
        output->is_broken = !weir_row_ndjson(stdout, columns, cells, COLUMNS) || output->is_broken;
}

static enum weir_status list(const struct weir_settings *settings, struct weir_error *reterr)
{
    struct output output = {.format = settings->format};
    const struct weir_revenue_filter filter = {weir_slice_text(settings->customer), settings->month};

    if (strcmp(settings->format, "table") == 0)
        output.table = weir_text_table_new(columns, COLUMNS);
    else if (strcmp(settings->format, "csv") == 0)
        output.is_broken = !weir_row_csv_header(stdout, columns, COLUMNS);
    enum weir_status status = weir_revenue_list(settings->postgres_url, &filter, show, &output, reterr);
    if (status == WEIR_OK && output.table)
        output.is_broken = !weir_text_table_write(output.table, stdout, isatty(STDOUT_FILENO));
    weir_text_table_free(output.table);
    output.is_broken = fflush(stdout) != 0 || output.is_broken;
    return status == WEIR_OK && output.is_broken ? weir_fail(reterr, WEIR_FATAL, "the list cannot be written") : status;
}

int weir_command_revenue(int argc, char **argv)
{
    struct weir_settings settings;
    struct weir_error error = {{0}};
    int parsed = weir_settings_load(&usage, argc, argv, &settings);

    if (parsed >= 0)
        return parsed;
    if (*settings.month && !weir_revenue_is_month(settings.month)) {
        fprintf(stderr, "%s: --month needs a month such as 2026-01\n", usage.name);
        weir_settings_free(&settings);
        return WEIR_EXIT_USAGE;
    }
    enum weir_status status = list(&settings, &error);
    if (status != WEIR_OK)
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    weir_settings_free(&settings);
    return status == WEIR_OK ? WEIR_EXIT_DONE : WEIR_EXIT_FAILED;
}
