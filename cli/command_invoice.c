/* `weir invoice`: the list of invoices, one or all of them in several forms, and what is decided about one. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/invoice_page.h"
#include "cli/listing.h"
#include "common/actor.h"
#include "common/calendar.h"
#include "common/log.h"
#include "common/settings.h"
#include "rater/invoice_export.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_INVOICE,
    .name = "weir invoice",
    .arguments = "[OPTIONS] list | export [INVOICE] | finalize INVOICE | void INVOICE",
    .purpose =
        "list shows the invoices that weir close made: of a period, in advance, or corrections alone (kind).\n"
        "export writes one, or all: as json (an object a line), csv (a row for each line), focus (csv in the columns\n"
        "of FOCUS 1.2), or one as html, a page to print. finalize gives a draft its number. void takes an invoice\n"
        "back, a final one by a credit note: its line items stand on the next invoice of the period that weir close\n"
        "makes. INVOICE is INV-000012, a credit note's INV-CN-000003, or a draft's own number (docs/invoices.md).",
    .example = "weir invoice export INV-000012 --format html > invoice.html",
    .takes_files = true,
};

/* 1. list */

enum { COLUMNS = 11 };
static const struct weir_column columns[COLUMNS] = {
    {"invoice", WEIR_CELL_TEXT, false},      {"invoice_number", WEIR_CELL_TEXT, true},
    {"state", WEIR_CELL_TEXT, false},        {"kind", WEIR_CELL_TEXT, false},
    {"customer", WEIR_CELL_TEXT, false},     {"contract", WEIR_CELL_TEXT, false},
    {"period_start", WEIR_CELL_TEXT, false}, {"period_end", WEIR_CELL_TEXT, false},
    {"total", WEIR_CELL_DECIMAL, false},     {"currency", WEIR_CELL_TEXT, false},
    {"credit_note", WEIR_CELL_TEXT, true},
};

static void show(void *context, const struct weir_invoice_entry *entry)
{
    char number[24], start[WEIR_TIME_TEXT_MAX], end[WEIR_TIME_TEXT_MAX];

    (void)snprintf(number, sizeof number, "%" PRId64, entry->invoice);
    weir_time_format(entry->period_start, start);
    weir_time_format(entry->period_end, end);
    const struct weir_slice cells[COLUMNS] = {
        weir_slice_text(number), entry->number,          entry->state,         entry->kind,  entry->customer,
        entry->contract,         weir_slice_text(start), weir_slice_text(end), entry->total, entry->currency,
        entry->credit_note,
    };
    weir_listing_add(context, cells);
}

static enum weir_status list(const struct weir_settings *settings, struct weir_error *reterr)
{
    struct weir_listing listing = weir_listing_begin(settings->format, columns, COLUMNS);
    const struct weir_invoice_filter filter = {.customer = weir_slice_text(settings->customer)};

    enum weir_status status = weir_invoice_list(settings->postgres_url, &filter, show, &listing, reterr);
    return weir_listing_finish(&listing, status, reterr);
}

/* 2. export */

static bool write_json(void *context, struct weir_slice json)
{
    (void)context;
    return fwrite(json.data, 1, json.length, stdout) == json.length && putchar('\n') != EOF;
}

struct page {
    enum weir_status status;
    struct weir_error *reterr;
};

static bool write_page(void *context, struct weir_slice json)
{
    struct page *page = context;

    page->status = weir_invoice_page(json, stdout, page->reterr);
    return false;
}

static bool write_row(void *context, const struct weir_slice *cells, int count)
{
    (void)context;
    return weir_row_csv(stdout, NULL, cells, count);
}

static enum weir_status write_invoices(const struct weir_settings *settings, const struct weir_invoice_name *name,
                                       struct weir_error *reterr)
{
    struct page page = {WEIR_OK, reterr};
    const struct weir_invoice_choice choice = {
        .has_name = settings->argument_count == 2,
        .name = *name,
        .customer = weir_slice_text(settings->customer),
    };
    const char *url = settings->postgres_url, *format = settings->format;
    enum weir_status status;

    if (strcmp(format, "html") == 0)
        status = weir_invoice_documents(url, &choice, write_page, &page, reterr);
    else if (strcmp(format, "json") == 0)
        status = weir_invoice_documents(url, &choice, write_json, NULL, reterr);
    else
        status =
            weir_invoice_read_rows(url, &choice, strcmp(format, "focus") == 0 ? WEIR_INVOICE_FOCUS : WEIR_INVOICE_LINES,
                                   write_row, NULL, reterr);
    if (status == WEIR_OK)
        status = page.status;
    return status == WEIR_OK && (fflush(stdout) != 0 || ferror(stdout))
               ? weir_fail(reterr, WEIR_FATAL, "the invoices cannot be written")
               : status;
}

/* 3. decisions */

static enum weir_status finalize(const struct weir_settings *settings, const struct weir_invoice_name *name,
                                 struct weir_error *reterr)
{
    char by[WEIR_ACTOR_MAX], number[WEIR_INVOICE_NUMBER_MAX];
    enum weir_status status =
        weir_invoice_finalize(settings->postgres_url, name, settings->invoice_series, weir_actor(by), number, reterr);

    if (status == WEIR_OK)
        printf("weir invoice: final as %s\n", number);
    return status;
}

static enum weir_status make_void(const struct weir_settings *settings, const struct weir_invoice_name *name,
                                  struct weir_error *reterr)
{
    char by[WEIR_ACTOR_MAX], number[WEIR_INVOICE_NUMBER_MAX];
    enum weir_status status =
        weir_invoice_void(settings->postgres_url, name, settings->reason, weir_actor(by), number, reterr);

    if (status == WEIR_OK)
        printf("weir invoice: void%s%s\n", *number ? " by credit note " : "", number);
    return status;
}

/* 4. the command */

enum verb { LIST, EXPORT, FINALIZE, VOID, NONE };
static const char *const verbs[NONE] = {"list", "export", "finalize", "void"};

/* Whether the verb has the form. */
static bool has_form(enum verb verb, const char *format)
{
    bool is_table = strcmp(format, "table") == 0, is_page = strcmp(format, "html") == 0;

    return verb == EXPORT ? !is_table : !is_page && strcmp(format, "focus") != 0;
}

/* What is wrong with words and options together, or NULL. */
static const char *mistake(const struct weir_settings *settings, enum verb *ret_verb,
                           struct weir_invoice_name *ret_name)
{
    int count = settings->argument_count;

    *ret_verb = LIST;
    while (*ret_verb < NONE && (count == 0 || strcmp(settings->arguments[0], verbs[*ret_verb]) != 0))
        (*ret_verb)++;
    if (*ret_verb == NONE)
        return "one of list, export [INVOICE], finalize INVOICE, void INVOICE is needed";
    if (count != (*ret_verb == LIST ? 1 : 2) && !(*ret_verb == EXPORT && count == 1))
        return *ret_verb == LIST ? "list takes no words" : "one INVOICE is needed";
    if (!has_form(*ret_verb, settings->format))
        return *ret_verb == EXPORT ? "export takes --format json, csv, focus or html"
                                   : "--format is table, csv or json here";
    if (count == 1 && strcmp(settings->format, "html") == 0)
        return "--format html is a page for one INVOICE";
    if (count == 2 && !weir_invoice_name_read(settings->arguments[1], ret_name))
        return "INVOICE is a number such as INV-000012, or a draft's own number such as 7";
    if (*ret_verb == VOID && !*settings->reason)
        return "--reason is needed to make an invoice void: it is kept for those who ask later";
    return NULL;
}

int weir_command_invoice(int argc, char **argv)
{
    struct weir_settings settings;
    struct weir_error error = {{0}};
    struct weir_invoice_name name = {0};
    enum verb verb;
    enum weir_status status = WEIR_OK;
    int parsed = weir_settings_load(&usage, argc, argv, &settings);

    if (parsed >= 0)
        return parsed;
    const char *wrong = mistake(&settings, &verb, &name);
    if (wrong) {
        weir_log_plain(WEIR_LOG_ERROR, "%s", wrong);
        weir_settings_free(&settings);
        return WEIR_EXIT_USAGE;
    }
    if (verb == LIST)
        status = list(&settings, &error);
    else if (verb == EXPORT)
        status = write_invoices(&settings, &name, &error);
    else
        status = verb == FINALIZE ? finalize(&settings, &name, &error) : make_void(&settings, &name, &error);
    if (status != WEIR_OK)
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    weir_settings_free(&settings);
    return status == WEIR_OK ? WEIR_EXIT_DONE : status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}
