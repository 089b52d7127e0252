/* `weir close`: the invoices of billing periods that ended. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/commands.h"
#include "cli/invoice_details.h"
#include "cli/listing.h"
#include "common/actor.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/settings.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_CLOSE,
    .name = "weir close",
    .arguments = "--through DATE [OPTIONS]",
    .purpose =
        "Makes an invoice for each contract and billing period that ended by the end of DATE (a day, in the "
        "contract's\n"
        "time zone; or an instant) and that nothing keeps open: raters have settled it, no gap is open in it and no\n"
        "window held. Late usage of periods that have their invoice goes to the next one as adjustment lines. Closes\n"
        "the calendar months that ended for revenue. Says of other periods, and of other months (kind month), what\n"
        "they wait for. What is left of grants that expired by then goes out of their balances first. May be run\n"
        "again at any time: what is done is done once (docs/invoices.md).",
    .example = "weir close --through 2026-01-31 --invoice-details parties.json",
};

enum { COLUMNS = 10 };
static const struct weir_column columns[COLUMNS] = {
    {"customer", WEIR_CELL_TEXT, false},   {"contract", WEIR_CELL_TEXT, false}, {"period_start", WEIR_CELL_TEXT, false},
    {"period_end", WEIR_CELL_TEXT, false}, {"state", WEIR_CELL_TEXT, false},    {"kind", WEIR_CELL_TEXT, true},
    {"invoice", WEIR_CELL_TEXT, true},     {"total", WEIR_CELL_DECIMAL, true},  {"currency", WEIR_CELL_TEXT, true},
    {"waits_for", WEIR_CELL_TEXT, true},
};

struct output {
    const struct weir_settings *settings;
    struct weir_listing listing;
    struct weir_progress progress;
    uint64_t told;
};

static void show(void *context, const struct weir_closed_period *period)
{
    struct output *output = context;
    char start[WEIR_TIME_TEXT_MAX], end[WEIR_TIME_TEXT_MAX], invoice[WEIR_SETTING_TEXT_MAX] = "";
    bool is_made = period->invoice != 0;

    weir_time_format(period->period_start, start);
    weir_time_format(period->period_end, end);
    if (is_made && period->number && !output->settings->dry_run)
        (void)snprintf(invoice, sizeof invoice, "%s-%06" PRId64, output->settings->invoice_series, period->number);
    else if (is_made && !output->settings->dry_run)
        (void)snprintf(invoice, sizeof invoice, "%" PRId64, period->invoice);
    const struct weir_slice cells[COLUMNS] = {
        period->customer,
        period->contract,
        weir_slice_text(start),
        weir_slice_text(end),
        weir_slice_text(!is_made         ? "open"
                        : period->number ? "final"
                                         : "draft"),
        period->kind,
        weir_slice_text(invoice),
        period->total,
        period->currency,
        period->why,
    };
    output->told++;
    weir_progress_show(&output->progress, "%" PRIu64 " periods", output->told);
    weir_listing_add(&output->listing, cells);
}

static enum weir_status close_and_tell(const struct weir_settings *settings, const struct weir_invoice_details *details,
                                       const _Atomic bool *stop, struct weir_error *reterr)
{
    char by[WEIR_ACTOR_MAX];
    struct output output = {.settings = settings,
                            .listing = weir_listing_begin(settings->format, columns, COLUMNS),
                            .progress = weir_progress_start(usage.name)};
    struct weir_close_counts counts;
    const struct weir_close_request request = {
        .url = settings->postgres_url,
        .customer = weir_slice_text(settings->customer),
        .through = settings->through,
        .is_draft = settings->draft,
        .is_dry = settings->dry_run,
        .workers = (int)settings->close_workers,
        .series = settings->invoice_series,
        .by = weir_actor(by),
        .details = details,
        .stop = stop,
        .visit = show,
        .context = &output,
    };

    enum weir_status status = weir_close(&request, &counts, reterr);
    weir_progress_end(&output.progress);
    bool is_written = weir_listing_end(&output.listing, output.told > 0);
    if (counts.invoices > 0 && !*settings->invoice_details)
        weir_log_plain(WEIR_LOG_WARN,
                       "these invoices name no seller: --invoice-details FILE says who sells and who buys");
    weir_log_plain(WEIR_LOG_INFO,
                   "%scustomers=%" PRIu64 " invoices=%" PRIu64 " issued=%" PRIu64 " left_open=%" PRIu64
                   " expired=%" PRIu64 " expiries_waiting=%" PRIu64 " months_left_open=%" PRIu64,
                   settings->dry_run ? "dry_run " : "", counts.customers, counts.invoices, counts.issued,
                   counts.left_open, counts.expired, counts.waiting, counts.months_left_open);
    return status == WEIR_OK && !is_written
               ? weir_fail(reterr, WEIR_FATAL, "the list cannot be written; what was closed is closed")
               : status;
}

int weir_command_close(int argc, char **argv)
{
    struct weir_settings settings;
    struct weir_details_file *file = NULL;
    struct weir_invoice_details details;
    struct weir_error error = {{0}};
    int parsed = weir_settings_load(&usage, argc, argv, &settings);

    if (parsed >= 0)
        return parsed;
    const _Atomic bool *stop = weir_daemon_catch_signals();
    if (!weir_close_is_through(settings.through)) {
        weir_log_plain(WEIR_LOG_ERROR,
                       "--through needs a day such as 2026-01-31 (until its end in each contract's time zone), or "
                       "an instant");
        weir_settings_free(&settings);
        return WEIR_EXIT_USAGE;
    }
    enum weir_status status = weir_details_open(settings.invoice_details, &file, &details, &error);
    if (status == WEIR_OK)
        status = close_and_tell(&settings, &details, stop, &error);
    if (status != WEIR_OK)
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    weir_details_free(file);
    weir_settings_free(&settings);
    return status == WEIR_OK ? WEIR_EXIT_DONE : status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}
