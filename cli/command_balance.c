/* `weir balance`: what is left of prepaid amounts, now or as of a time. */
#include <stdio.h>

#include "cli/balance_projected.h"
#include "cli/commands.h"
#include "cli/listing.h"
#include "common/calendar.h"
#include "common/log.h"
#include "common/settings.h"
#include "rater/balances.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_BALANCE,
    .name = "weir balance",
    .arguments = "[OPTIONS]",
    .purpose =
        "Shows what is left of each grant, those of the catalog and those of weir grant, and in all (a row without a\n"
        "grant): what came in, what was drawn, what went on into another, what was lost when it ended. With --at as it "
        "was recorded by then; "
        "with\n"
        "--entries everything that ever changed a balance; with --events when one fell to a threshold (low_balance): "
        "who\n"
        "keeps the last number and asks for what is --after it misses nothing, and sees nothing twice. With "
        "--projected\n"
        "what is left once all that is counted and not rated yet is drawn; stderr says through which offsets "
        "(docs/credits.md).",
    .example = "weir balance --customer acme --at 2026-02-01T00:00:00Z --format csv",
};

static const struct weir_column balance_columns[] = {
    {"customer", WEIR_CELL_TEXT, false},  {"contract", WEIR_CELL_TEXT, false},
    {"grant", WEIR_CELL_TEXT, false},     {"funding", WEIR_CELL_TEXT, false},
    {"starts_at", WEIR_CELL_TEXT, false}, {"expires_at", WEIR_CELL_TEXT, true},
    {"state", WEIR_CELL_TEXT, false},     {"granted", WEIR_CELL_DECIMAL, false},
    {"drawn", WEIR_CELL_DECIMAL, false},  {"rolled_over", WEIR_CELL_DECIMAL, false},
    {"lost", WEIR_CELL_DECIMAL, false},   {"balance", WEIR_CELL_DECIMAL, false},
    {"currency", WEIR_CELL_TEXT, false},
};

static const struct weir_column entry_columns[] = {
    {"customer", WEIR_CELL_TEXT, false},     {"contract", WEIR_CELL_TEXT, false},
    {"grant", WEIR_CELL_TEXT, false},        {"number", WEIR_CELL_NUMBER, false},
    {"kind", WEIR_CELL_TEXT, false},         {"amount", WEIR_CELL_DECIMAL, false},
    {"balance", WEIR_CELL_DECIMAL, false},   {"period_start", WEIR_CELL_TEXT, true},
    {"segment_start", WEIR_CELL_TEXT, true}, {"meter", WEIR_CELL_TEXT, true},
    {"charged", WEIR_CELL_DECIMAL, true},    {"recorded_at", WEIR_CELL_TEXT, false},
};

static const struct weir_column event_columns[] = {
    {"event", WEIR_CELL_NUMBER, false},           {"customer", WEIR_CELL_TEXT, false},
    {"contract", WEIR_CELL_TEXT, false},          {"grant", WEIR_CELL_TEXT, false},
    {"threshold", WEIR_CELL_TEXT, false},         {"crossing", WEIR_CELL_NUMBER, false},
    {"balance_before", WEIR_CELL_DECIMAL, false}, {"balance_after", WEIR_CELL_DECIMAL, false},
    {"currency", WEIR_CELL_TEXT, false},          {"cause", WEIR_CELL_TEXT, false},
    {"cause_grant", WEIR_CELL_TEXT, false},       {"cause_entry", WEIR_CELL_NUMBER, false},
    {"rerating", WEIR_CELL_NUMBER, true},         {"recorded_at", WEIR_CELL_TEXT, false},
};

enum {
    EVENT_COLUMNS = sizeof event_columns / sizeof *event_columns,
    BALANCE_COLUMNS = sizeof balance_columns / sizeof *balance_columns,
    ENTRY_COLUMNS = sizeof entry_columns / sizeof *entry_columns,
};

/* Into text, which is returned; none is empty. */
static struct weir_slice show_time(int64_t time, char text[WEIR_TIME_TEXT_MAX])
{
    *text = '\0';
    if (time != WEIR_TIME_NEVER)
        weir_time_format(time, text);
    return weir_slice_text(text);
}

static void show(void *context, const struct weir_balance *balance)
{
    char starts_at[WEIR_TIME_TEXT_MAX], expires_at[WEIR_TIME_TEXT_MAX];
    const struct weir_slice cells[BALANCE_COLUMNS] = {
        balance->customer,
        balance->contract,
        balance->grant,
        balance->funding,
        show_time(balance->starts_at, starts_at),
        show_time(balance->expires_at, expires_at),
        balance->state,
        balance->granted,
        balance->drawn,
        balance->rolled_over,
        balance->lost,
        balance->balance,
        balance->currency,
    };

    weir_listing_add(context, cells);
}

static void show_entry(void *context, const struct weir_balance_entry *entry)
{
    char period[WEIR_TIME_TEXT_MAX], segment[WEIR_TIME_TEXT_MAX], recorded_at[WEIR_TIME_TEXT_MAX];
    const struct weir_slice cells[ENTRY_COLUMNS] = {
        entry->customer,
        entry->contract,
        entry->grant,
        entry->number,
        entry->kind,
        entry->amount,
        entry->balance,
        show_time(entry->period_start, period),
        show_time(entry->segment_start, segment),
        entry->meter,
        entry->charged,
        show_time(entry->recorded_at, recorded_at),
    };

    weir_listing_add(context, cells);
}

static void show_event(void *context, const struct weir_balance_event *event)
{
    char recorded_at[WEIR_TIME_TEXT_MAX];
    const struct weir_slice cells[EVENT_COLUMNS] = {
        event->event,       event->customer,
        event->contract,    event->grant,
        event->threshold,   event->crossing,
        event->before,      event->after,
        event->currency,    event->cause,
        event->cause_grant, event->cause_entry,
        event->rerating,    show_time(event->recorded_at, recorded_at),
    };

    weir_listing_add(context, cells);
}

static enum weir_status list_events(const struct weir_settings *settings, const struct weir_balance_filter *filter,
                                    struct weir_error *reterr)
{
    struct weir_listing listing = weir_listing_begin(settings->format, event_columns, EVENT_COLUMNS);
    enum weir_status status = weir_balances_list_events(settings->postgres_url, filter, show_event, &listing, reterr);

    return weir_listing_finish(&listing, status, reterr);
}

static enum weir_status list(const struct weir_settings *settings, struct weir_error *reterr)
{
    const struct weir_balance_filter filter = {
        .customer = weir_slice_text(settings->customer),
        .contract = weir_slice_text(settings->contract),
        .at = settings->at,
        .after = settings->after,
    };

    if (settings->projected)
        return weir_balance_projected(settings, reterr);
    if (settings->events)
        return list_events(settings, &filter, reterr);
    struct weir_listing listing =
        weir_listing_begin(settings->format, settings->entries ? entry_columns : balance_columns,
                           settings->entries ? ENTRY_COLUMNS : BALANCE_COLUMNS);

    enum weir_status status =
        settings->entries ? weir_balances_list_entries(settings->postgres_url, &filter, show_entry, &listing, reterr)
                          : weir_balances_list(settings->postgres_url, &filter, show, &listing, reterr);
    return weir_listing_finish(&listing, status, reterr);
}

/* What is wrong with the options together, or NULL. */
static const char *mistake(const struct weir_settings *settings)
{
    int64_t at;

    if (*settings->at && !weir_time_parse(weir_slice_text(settings->at), &at))
        return "--at needs an instant such as 2026-02-01T00:00:00Z";
    if (settings->entries && settings->events)
        return "either --entries or --events: each is a list of its own";
    if (settings->after && !settings->events)
        return "--after N is for --events: those with a number above N";
    if (settings->projected && (*settings->at || settings->entries || settings->events))
        return "--projected is of now and of balances: leave --at, --entries and --events out";
    return NULL;
}

int weir_command_balance(int argc, char **argv)
{
    struct weir_settings settings;
    struct weir_error error = {{0}};
    int parsed = weir_settings_load(&usage, argc, argv, &settings);

    if (parsed >= 0)
        return parsed;
    const char *wrong = mistake(&settings);
    if (wrong) {
        weir_log_plain(WEIR_LOG_ERROR, "%s", wrong);
        weir_settings_free(&settings);
        return WEIR_EXIT_USAGE;
    }
    enum weir_status status = list(&settings, &error);
    if (status != WEIR_OK)
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    weir_settings_free(&settings);
    return status == WEIR_OK ? WEIR_EXIT_DONE : WEIR_EXIT_FAILED;
}
