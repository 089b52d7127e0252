/* The report of `weir rerate`, `weir backtest` and `weir recount --charges`: before, after and difference, for a
 * terminal (table), a spreadsheet (csv), a program (json) and a meeting (html: one page that needs nothing else). */
#ifndef WEIR_CLI_RERATE_REPORT_H
#define WEIR_CLI_RERATE_REPORT_H

#include <stdio.h>

#include "common/settings.h"
#include "rater/rerate.h"

struct weir_report_heading {
    const char *title;   /* "Rerating (dry run)" */
    const char *catalog; /* "catalog 7", or its path */
    const char *filters; /* "" for all */
    bool has_items;      /* rows are by customer and item */
};

/* What the settings choose: "from 2026-01-01, meter tokens". */
void weir_report_filters(const struct weir_settings *settings, char *text, size_t room);

/* format: "table", "csv", "json" or "html". A table and a page leave customers out whose charge stays as it is, and say
 * how many; csv and json hold every row. WEIR_FATAL: it cannot be written, or a total does not fit. */
enum weir_status weir_rerate_report_write(const struct weir_rerate_report *report,
                                          const struct weir_report_heading *heading, const char *format, FILE *output,
                                          struct weir_error *reterr);

#endif
