/* The ledgers for people and pipes: table, CSV and NDJSON, line items or their summary. They keep no state. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/calendar.h"
#include "rater/ledger.h"
#include "rater/summary.h"
#include "rater/text_row.h"

struct text_ledger {
    struct weir_ledger ledger;
    enum weir_ledger_format format;
    FILE *output;
    struct weir_summary *summary;  /* of all rows; NULL: not asked for */
    struct weir_summary *totals;   /* tables: one row a currency */
    struct weir_text_table *table; /* tables only */
    bool has_header;
};

static const struct weir_column item_columns[] = {
    {"customer", WEIR_CELL_TEXT, false},
    {"contract", WEIR_CELL_TEXT, false},
    {"item", WEIR_CELL_TEXT, false},
    {"meter", WEIR_CELL_TEXT, true},
    {"dimensions", WEIR_CELL_JSON, false},
    {"period_start", WEIR_CELL_TEXT, false},
    {"period_end", WEIR_CELL_TEXT, false},
    {"window_start", WEIR_CELL_TEXT, false},
    {"window_end", WEIR_CELL_TEXT, false},
    {"kind", WEIR_CELL_TEXT, false},
    {"component", WEIR_CELL_TEXT, false},
    {"price_book", WEIR_CELL_TEXT, false},
    {"price_book_version", WEIR_CELL_NUMBER, true},
    {"model", WEIR_CELL_TEXT, true},
    {"tier", WEIR_CELL_NUMBER, true},
    {"quantity", WEIR_CELL_DECIMAL, false},
    {"unit_price", WEIR_CELL_DECIMAL, true},
    {"amount", WEIR_CELL_DECIMAL, false},
    {"currency", WEIR_CELL_TEXT, false},
    {"revision", WEIR_CELL_NUMBER, false},
};
enum { ITEM_COLUMNS = sizeof item_columns / sizeof *item_columns };

static const struct weir_column summary_columns[] = {
    {"customer", WEIR_CELL_TEXT, false},
    {"contract", WEIR_CELL_TEXT, false},
    {"period_start", WEIR_CELL_TEXT, false},
    {"period_end", WEIR_CELL_TEXT, false},
    {"item", WEIR_CELL_TEXT, false},
    {"kind", WEIR_CELL_TEXT, false},
    {"quantity", WEIR_CELL_DECIMAL, false},
    {"amount", WEIR_CELL_DECIMAL, false},
    {"invoice_amount", WEIR_CELL_DECIMAL, false},
    {"currency", WEIR_CELL_TEXT, false},
};
enum { SUMMARY_COLUMNS = sizeof summary_columns / sizeof *summary_columns };

/* 1. cells */

/* A time and its text: rows that follow one another have the same period. */
struct told_time {
    int64_t time;
    uint32_t length; /* 0: none yet */
    char text[WEIR_TIME_TEXT_MAX];
};

/* Room for the texts of one row's numbers and times. */
struct scratch {
    struct told_time times[4];
    char decimals[3][WEIR_DECIMAL_TEXT_MAX];
    char numbers[3][12];
    char dimensions[WEIR_CELL_MAX];
};

static struct weir_slice time_cell(int64_t time, struct told_time *told)
{
    if (told->time != time || !told->length) {
        told->time = time;
        told->length = (uint32_t)weir_time_format(time, told->text);
    }
    return weir_slice_of(told->text, told->length);
}

static struct weir_slice decimal_cell(struct weir_decimal value, char text[WEIR_DECIMAL_TEXT_MAX])
{
    return weir_slice_of(text, weir_decimal_format(value, text));
}

static struct weir_slice number_cell(uint32_t number, bool is_there, char text[12])
{
    return weir_slice_of(text, is_there ? (size_t)snprintf(text, 12, "%u", number) : 0);
}

static void item_cells(const struct weir_line_item *item, struct scratch *scratch, struct weir_slice *cells)
{
    const struct weir_slice row[ITEM_COLUMNS] = {
        item->customer,
        item->contract,
        item->item,
        item->meter,
        weir_slice_of(scratch->dimensions,
                      weir_dimensions_json(item->dimensions, item->dimension_count, scratch->dimensions)),
        time_cell(item->period_start, &scratch->times[0]),
        time_cell(item->period_end, &scratch->times[1]),
        time_cell(item->window_start, &scratch->times[2]),
        time_cell(item->window_end, &scratch->times[3]),
        weir_slice_text(weir_kind_name[item->kind]),
        weir_slice_text(weir_component_name[item->component]),
        item->price_book,
        number_cell(item->price_book_version, item->price_book_version > 0, scratch->numbers[0]),
        weir_slice_text(item->model),
        number_cell(item->tier, item->kind == WEIR_KIND_USAGE, scratch->numbers[1]),
        decimal_cell(item->quantity, scratch->decimals[0]),
        item->has_unit_price ? decimal_cell(item->unit_price, scratch->decimals[1]) : (struct weir_slice){0},
        decimal_cell(item->amount, scratch->decimals[2]),
        item->currency,
        number_cell(item->revision, true, scratch->numbers[2]),
    };
    memcpy(cells, row, sizeof row);
}

/* The invoice amount is rounded here, once (docs/rating.md 7.2). */
static bool summary_cells(const struct weir_summary_row *from, struct scratch *scratch, struct weir_slice *cells)
{
    struct weir_decimal invoice;

    if (!weir_decimal_round(from->amount, from->currency_places, from->rounding, &invoice))
        return false;
    size_t length = weir_decimal_format_places(invoice, from->currency_places, scratch->decimals[2]);
    const struct weir_slice row[SUMMARY_COLUMNS] = {
        from->customer,
        from->contract,
        time_cell(from->period_start, &scratch->times[0]),
        time_cell(from->period_end, &scratch->times[1]),
        from->item,
        weir_slice_text(weir_kind_name[from->kind]),
        decimal_cell(from->quantity, scratch->decimals[0]),
        decimal_cell(from->amount, scratch->decimals[1]),
        weir_slice_of(scratch->decimals[2], length),
        from->currency,
    };
    memcpy(cells, row, sizeof row);
    return true;
}

/* 2. rows */
static bool put_row(struct text_ledger *ledger, const struct weir_column *columns, const struct weir_slice *cells,
                    int count)
{
    switch (ledger->format) {
    case WEIR_LEDGER_TABLE:
        if (!ledger->table)
            ledger->table = weir_text_table_new(columns, count);
        weir_text_table_add(ledger->table, cells);
        return true;
    case WEIR_LEDGER_CSV:
        if (!ledger->has_header && !weir_row_csv_header(ledger->output, columns, count))
            return false;
        ledger->has_header = true;
        return weir_row_csv(ledger->output, columns, cells, count);
    case WEIR_LEDGER_NDJSON:
        return weir_row_ndjson(ledger->output, columns, cells, count);
    }
    return false;
}

static enum weir_status write_failed(struct weir_error *reterr)
{
    return weir_fail(reterr, WEIR_FATAL, "the output cannot be written: %s. What is there is not whole",
                     strerror(errno));
}

static enum weir_status load(struct weir_ledger *self, struct weir_state *state, struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(state);

    (void)self, (void)reterr;
    /* Entries that are new are at the end; those before them were loaded by an earlier call. */
    for (size_t i = all.window_count; i > 0 && !all.windows[i - 1]->entry.is_loaded; i--)
        all.windows[i - 1]->entry.is_loaded = true;
    for (size_t i = all.price_count; i > 0 && !all.prices[i - 1]->entry.is_loaded; i--)
        all.prices[i - 1]->entry.is_loaded = true;
    for (size_t i = all.split_count; i > 0 && !all.splits[i - 1]->entry.is_loaded; i--)
        all.splits[i - 1]->entry.is_loaded = true;
    for (size_t i = all.period_count; i > 0 && !all.periods[i - 1]->entry.is_loaded; i--)
        all.periods[i - 1]->entry.is_loaded = true;
    for (size_t i = all.charged_count; i > 0 && !all.charged[i - 1]->entry.is_loaded; i--)
        all.charged[i - 1]->entry.is_loaded = true;
    return WEIR_OK;
}

/* The dirty marks may stay: they say "was evaluated", as `exists` does, and there is nothing to keep elsewhere. */
static enum weir_status append(struct weir_ledger *self, const struct weir_line_item *items, size_t count,
                               struct weir_state *state, struct weir_error *reterr)
{
    struct text_ledger *ledger = (struct text_ledger *)self;
    static _Thread_local struct scratch scratch;
    struct weir_slice cells[ITEM_COLUMNS];
    enum weir_status status = WEIR_OK;

    (void)state;
    for (size_t i = 0; i < count && status == WEIR_OK; i++) {
        if (ledger->summary)
            status = weir_summary_add(ledger->summary, &items[i], reterr);
        else {
            item_cells(&items[i], &scratch, cells);
            if (!put_row(ledger, item_columns, cells, ITEM_COLUMNS))
                status = write_failed(reterr);
        }
        if (ledger->totals && status == WEIR_OK) {
            struct weir_line_item total = {
                .customer = weir_slice_text("total"), .currency = items[i].currency, .amount = items[i].amount};
            status = weir_summary_add(ledger->totals, &total, reterr);
        }
    }
    return status;
}

static enum weir_status put_summary(struct text_ledger *ledger, struct weir_error *reterr)
{
    static _Thread_local struct scratch scratch;
    struct weir_slice cells[SUMMARY_COLUMNS];
    size_t count;
    const struct weir_summary_row *const *rows = weir_summary_rows(ledger->summary, &count);

    for (size_t i = 0; i < count; i++) {
        if (!summary_cells(rows[i], &scratch, cells))
            return weir_fail(reterr, WEIR_REJECT, "an invoice amount does not fit once it is rounded");
        if (!put_row(ledger, summary_columns, cells, SUMMARY_COLUMNS))
            return write_failed(reterr);
    }
    return WEIR_OK;
}

static enum weir_status customers_done(struct weir_ledger *self, struct weir_error *reterr)
{
    struct text_ledger *ledger = (struct text_ledger *)self;
    enum weir_status status = ledger->summary ? put_summary(ledger, reterr) : WEIR_OK;

    if (status == WEIR_OK && ledger->summary)
        weir_summary_clear(ledger->summary);
    return status;
}

/* "total  USD  1234.50", one line a currency, below the table. */
static void put_totals(struct text_ledger *ledger)
{
    char text[WEIR_DECIMAL_TEXT_MAX];
    size_t count;
    const struct weir_summary_row *const *rows = weir_summary_rows(ledger->totals, &count);

    for (size_t i = 0; i < count; i++) {
        weir_decimal_format(rows[i]->amount, text);
        fprintf(ledger->output, "%stotal %.*s %s\n", i ? "" : "\n", (int)rows[i]->currency.length,
                rows[i]->currency.data, text);
    }
}

static enum weir_status finish(struct weir_ledger *self, struct weir_error *reterr)
{
    struct text_ledger *ledger = (struct text_ledger *)self;
    const struct weir_column *columns = ledger->summary ? summary_columns : item_columns;
    int count = ledger->summary ? SUMMARY_COLUMNS : ITEM_COLUMNS;
    enum weir_status status = ledger->summary ? put_summary(ledger, reterr) : WEIR_OK;

    if (status != WEIR_OK)
        return status;
    if (ledger->format == WEIR_LEDGER_CSV && !ledger->has_header)
        weir_row_csv_header(ledger->output, columns, count);
    if (ledger->format == WEIR_LEDGER_TABLE) {
        if (!ledger->table)
            ledger->table = weir_text_table_new(columns, count);
        weir_text_table_write(ledger->table, ledger->output, isatty(fileno(ledger->output)));
        put_totals(ledger);
    }
    return fflush(ledger->output) == 0 && !ferror(ledger->output) ? WEIR_OK : write_failed(reterr);
}

static void abandon(struct weir_ledger *self)
{
    (void)self;
}

static enum weir_status unsettled(struct weir_ledger *self, int64_t before, int64_t span_start, size_t max,
                                  struct weir_period_running *ret_periods, size_t *ret_count, struct weir_error *reterr)
{
    (void)self, (void)before, (void)span_start, (void)max, (void)ret_periods, (void)reterr;
    *ret_count = 0;
    return WEIR_OK;
}

static void free_ledger(struct weir_ledger *self)
{
    struct text_ledger *ledger = (struct text_ledger *)self;

    fflush(ledger->output); /* the output is the caller's */
    weir_summary_free(ledger->summary);
    weir_summary_free(ledger->totals);
    weir_text_table_free(ledger->table);
    free(ledger);
}

enum weir_status weir_ledger_text_open(enum weir_ledger_format format, bool is_summary, FILE *output,
                                       struct weir_ledger **ret_ledger, struct weir_error *reterr)
{
#define OPS(format_name)                                                                                               \
    {                                                                                                                  \
        .name = (format_name), .load = load, .write = append, .abandon = abandon, .unsettled = unsettled,              \
        .finish = finish, .free = free_ledger, .customers_done = customers_done                                        \
    }
    static const struct weir_ledger_ops ops[] = {
        [WEIR_LEDGER_TABLE] = OPS("table"), [WEIR_LEDGER_CSV] = OPS("csv"), [WEIR_LEDGER_NDJSON] = OPS("ndjson")};
#undef OPS
    struct text_ledger *ledger = weir_new(sizeof *ledger);

    (void)reterr;
    ledger->ledger.ops = &ops[format];
    ledger->format = format;
    ledger->output = output;
    if (is_summary)
        ledger->summary = weir_summary_new();
    if (format == WEIR_LEDGER_TABLE)
        ledger->totals = weir_summary_new();
    *ret_ledger = &ledger->ledger;
    return WEIR_OK;
}
