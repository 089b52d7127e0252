#include "cli/rerate_report.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/html.h"
#include "rater/text_row.h"

enum { CURRENCIES_MAX = 256, CHART_ROWS = 20 };

/* A row's or a total's three amounts. */
struct amounts {
    struct weir_slice currency;
    struct weir_decimal before, after, difference;
    uint64_t unchanged; /* rows that are not shown */
    struct weir_decimal unchanged_amount;
};

struct totals {
    size_t count;
    struct amounts of[CURRENCIES_MAX];
};

static bool is_changed(const struct weir_rerate_row *row)
{
    return row->before.e12 != row->after.e12;
}

/* 1. totals */
static struct amounts *total_of(struct totals *totals, struct weir_slice currency)
{
    for (size_t i = 0; i < totals->count; i++)
        if (weir_slice_equal(totals->of[i].currency, currency))
            return &totals->of[i];
    if (totals->count == CURRENCIES_MAX)
        return NULL;
    totals->of[totals->count] = (struct amounts){.currency = currency};
    return &totals->of[totals->count++];
}

static bool add_up(const struct weir_rerate_report *report, struct totals *totals)
{
    for (size_t i = 0; i < report->row_count; i++) {
        const struct weir_rerate_row *row = &report->rows[i];
        struct amounts *total = total_of(totals, row->currency);
        struct weir_decimal difference;
        if (!total || !weir_decimal_add(total->before, row->before, &total->before)
            || !weir_decimal_add(total->after, row->after, &total->after)
            || !weir_decimal_subtract(total->after, total->before, &total->difference)
            || !weir_decimal_subtract(row->after, row->before, &difference))
            return false;
        if (is_changed(row))
            continue;
        total->unchanged++;
        if (!weir_decimal_add(total->unchanged_amount, row->after, &total->unchanged_amount))
            return false;
    }
    return true;
}

/* The difference of a row fits: add_up has looked. */
static struct weir_decimal difference_of(const struct weir_rerate_row *row)
{
    struct weir_decimal difference = {0};

    weir_check(weir_decimal_subtract(row->after, row->before, &difference));
    return difference;
}

/* 2. rows of text */
enum { COLUMNS = 6 };
static const struct weir_column with_items[COLUMNS] = {
    {"customer", WEIR_CELL_TEXT, false}, {"item", WEIR_CELL_TEXT, false},          {"before", WEIR_CELL_DECIMAL, false},
    {"after", WEIR_CELL_DECIMAL, false}, {"difference", WEIR_CELL_DECIMAL, false}, {"currency", WEIR_CELL_TEXT, false},
};
static const struct weir_column without_items[COLUMNS - 1] = {
    {"customer", WEIR_CELL_TEXT, false},      {"before", WEIR_CELL_DECIMAL, false}, {"after", WEIR_CELL_DECIMAL, false},
    {"difference", WEIR_CELL_DECIMAL, false}, {"currency", WEIR_CELL_TEXT, false},
};

struct text_row {
    struct weir_slice cells[COLUMNS];
    char texts[3][WEIR_DECIMAL_TEXT_MAX];
    int count;
};

static void fill(struct text_row *row, bool has_items, struct weir_slice customer, struct weir_slice item,
                 const struct weir_decimal amounts[3], struct weir_slice currency)
{
    row->count = 0;
    row->cells[row->count++] = customer;
    if (has_items)
        row->cells[row->count++] = item;
    for (int i = 0; i < 3; i++)
        row->cells[row->count++] = weir_slice_of(row->texts[i], weir_decimal_format(amounts[i], row->texts[i]));
    row->cells[row->count++] = currency;
}

static void fill_row(struct text_row *text, bool has_items, const struct weir_rerate_row *row)
{
    const struct weir_decimal amounts[3] = {row->before, row->after, difference_of(row)};
    fill(text, has_items, row->customer, row->item, amounts, row->currency);
}

static bool write_csv(const struct weir_rerate_report *report, const struct weir_report_heading *heading, FILE *output)
{
    const struct weir_column *columns = heading->has_items ? with_items : without_items;
    struct text_row text;

    if (!weir_row_csv_header(output, columns, heading->has_items ? COLUMNS : COLUMNS - 1))
        return false;
    for (size_t i = 0; i < report->row_count; i++) {
        fill_row(&text, heading->has_items, &report->rows[i]);
        if (!weir_row_csv(output, columns, text.cells, text.count))
            return false;
    }
    return true;
}

static bool write_table(const struct weir_rerate_report *report, const struct weir_report_heading *heading,
                        const struct totals *totals, FILE *output)
{
    struct weir_text_table *table = weir_text_table_new(heading->has_items ? with_items : without_items,
                                                        heading->has_items ? COLUMNS : COLUMNS - 1);
    struct text_row text;
    char name[64];

    for (size_t i = 0; i < report->row_count; i++)
        if (is_changed(&report->rows[i])) {
            fill_row(&text, heading->has_items, &report->rows[i]);
            weir_text_table_add(table, text.cells);
        }
    for (size_t i = 0; i < totals->count; i++) {
        const struct amounts *total = &totals->of[i];
        const struct weir_decimal same[3] = {total->unchanged_amount, total->unchanged_amount, {0}};
        const struct weir_decimal sums[3] = {total->before, total->after, total->difference};
        if (total->unchanged) {
            (void)snprintf(name, sizeof name, "(%" PRIu64 " unchanged)", total->unchanged);
            fill(&text, heading->has_items, weir_slice_text(name), (struct weir_slice){0}, same, total->currency);
            weir_text_table_add(table, text.cells);
        }
        fill(&text, heading->has_items, weir_slice_text("(total)"), (struct weir_slice){0}, sums, total->currency);
        weir_text_table_add(table, text.cells);
    }
    bool is_written = totals->count == 0 || weir_text_table_write(table, output, isatty(fileno(output)));
    weir_text_table_free(table);
    return is_written;
}

/* 3. JSON */
static json_t *json_slice(struct weir_slice text)
{
    return json_stringn(text.length ? text.data : "", text.length);
}

static void set_amounts(json_t *object, struct weir_decimal before, struct weir_decimal after,
                        struct weir_decimal difference, struct weir_slice currency)
{
    char text[WEIR_DECIMAL_TEXT_MAX];

    weir_decimal_format(before, text);
    json_object_set_new(object, "before", json_string(text));
    weir_decimal_format(after, text);
    json_object_set_new(object, "after", json_string(text));
    weir_decimal_format(difference, text);
    json_object_set_new(object, "difference", json_string(text));
    json_object_set_new(object, "currency", json_slice(currency));
}

static bool write_json(const struct weir_rerate_report *report, const struct weir_report_heading *heading,
                       const struct totals *totals, FILE *output)
{
    json_t *root = json_object(), *rows = json_array(), *sums = json_array(), *counts = json_object();

    for (size_t i = 0; i < report->row_count; i++) {
        const struct weir_rerate_row *row = &report->rows[i];
        json_t *object = json_object();
        json_object_set_new(object, "customer", json_slice(row->customer));
        if (heading->has_items)
            json_object_set_new(object, "item", json_slice(row->item));
        set_amounts(object, row->before, row->after, difference_of(row), row->currency);
        json_array_append_new(rows, object);
    }
    for (size_t i = 0; i < totals->count; i++) {
        json_t *object = json_object();
        set_amounts(object, totals->of[i].before, totals->of[i].after, totals->of[i].difference,
                    totals->of[i].currency);
        json_array_append_new(sums, object);
    }
    json_object_set_new(counts, "customers", json_integer((json_int_t)report->counts.customers));
    json_object_set_new(counts, "changed", json_integer((json_int_t)report->counts.changed));
    json_object_set_new(counts, "windows", json_integer((json_int_t)report->counts.windows));
    json_object_set_new(counts, "unpriced", json_integer((json_int_t)report->counts.unpriced));
    json_object_set_new(root, "title", json_string(heading->title));
    json_object_set_new(root, "catalog", json_string(heading->catalog));
    json_object_set_new(root, "filters", json_string(heading->filters));
    json_object_set_new(root, "counts", counts);
    json_object_set_new(root, "totals", sums);
    json_object_set_new(root, "rows", rows);
    bool is_written = json_dumpf(root, output, JSON_INDENT(1)) == 0 && fputc('\n', output) != EOF;
    json_decref(root);
    return is_written;
}

/* 4. HTML */
static void decimal_cell(FILE *output, struct weir_decimal value, bool is_difference)
{
    char text[WEIR_DECIMAL_TEXT_MAX];

    weir_decimal_format_short(value, text);
    fprintf(output, "<td class=\"n%s\">%s%s</td>",
            !is_difference || value.e12 == 0 ? ""
            : value.e12 < 0                  ? " less"
                                             : " more",
            is_difference && value.e12 > 0 ? "+" : "", text);
}

static const char page_head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n<style>\n"
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#1c2733}\n"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}\n"
    "table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;border-bottom:1px solid "
    "#dde3ea;text-align:left}\n"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.more{color:#0a6b3d}.less{color:#b3261e}\n"
    "tr.sum td{font-weight:600}svg{width:100%;height:auto}@media print{body{margin:0}}\n</style>\n";

static weir_uint128 size_of(struct weir_decimal value)
{
    return value.e12 < 0 ? (weir_uint128) - (value.e12 + 1) + 1 : (weir_uint128)value.e12;
}

static int by_size(const void *left, const void *right)
{
    weir_uint128 a = size_of(difference_of(*(const struct weir_rerate_row *const *)left));
    weir_uint128 b = size_of(difference_of(*(const struct weir_rerate_row *const *)right));

    return (a < b) - (a > b);
}

/* One bar: its row of the drawing, and how long it is of 260 units. */
static void draw_bar(FILE *output, const struct weir_rerate_row *row, int place, weir_uint128 most, bool has_items)
{
    struct weir_decimal difference = difference_of(row);
    char text[WEIR_DECIMAL_TEXT_MAX];
    /* Both shifted until the product cannot overflow: a bar is only looked at. */
    weir_uint128 size = size_of(difference);
    while (most >> 100) {
        most >>= 1;
        size >>= 1;
    }
    int length = (int)(size * 260 / (most ? most : 1)) + 1, y = 24 * place;
    bool is_less = difference.e12 < 0;

    weir_decimal_format_short(difference, text);
    fprintf(output, "<text x=\"290\" y=\"%d\" text-anchor=\"end\" font-size=\"12\">", y + 16);
    weir_html_put(output, row->customer);
    if (has_items) {
        fputs(" \302\267 ", output);
        weir_html_put(output, row->item);
    }
    fprintf(output, "</text><rect x=\"300\" y=\"%d\" width=\"%d\" height=\"16\" fill=\"%s\"/>", y + 4, length,
            is_less ? "#b3261e" : "#0a6b3d");
    fprintf(output, "<text x=\"%d\" y=\"%d\" font-size=\"12\">%s%s ", 306 + length, y + 16, is_less ? "" : "+", text);
    weir_html_put(output, row->currency);
    fputs("</text>\n", output);
}

/* The largest differences of one currency. */
static void draw(const struct weir_rerate_report *report, const struct amounts *total, bool has_items, FILE *output)
{
    const struct weir_rerate_row **largest = weir_new_array(report->row_count + 1, sizeof *largest);
    size_t count = 0;

    for (size_t i = 0; i < report->row_count; i++)
        if (is_changed(&report->rows[i]) && weir_slice_equal(report->rows[i].currency, total->currency))
            largest[count++] = &report->rows[i];
    if (count > 0) {
        qsort(largest, count, sizeof *largest, by_size);
        size_t shown = count < CHART_ROWS ? count : CHART_ROWS;
        fputs("<h2>Largest differences, ", output);
        weir_html_put(output, total->currency);
        fprintf(output, "</h2>\n<svg viewBox=\"0 0 760 %zu\" role=\"img\" aria-label=\"largest differences\">\n",
                24 * shown + 4);
        for (size_t i = 0; i < shown; i++)
            draw_bar(output, largest[i], (int)i, size_of(difference_of(largest[0])), has_items);
        fputs("</svg>\n", output);
    }
    free(largest);
}

static void page_row(FILE *output, const char *kind, struct weir_slice name, struct weir_slice item, bool has_items,
                     const struct amounts *amounts)
{
    fprintf(output, "<tr%s><td>", kind);
    weir_html_put(output, name);
    if (has_items) {
        fputs("</td><td>", output);
        weir_html_put(output, item);
    }
    fputs("</td>", output);
    decimal_cell(output, amounts->before, false);
    decimal_cell(output, amounts->after, false);
    decimal_cell(output, amounts->difference, true);
    fputs("<td>", output);
    weir_html_put(output, amounts->currency);
    fputs("</td></tr>\n", output);
}

static void page_table(const struct weir_rerate_report *report, bool has_items, const struct totals *totals,
                       FILE *output)
{
    char name[64];

    fprintf(output,
            "<h2>By customer%s</h2>\n<table>\n<tr><th>customer</th>%s<th class=\"n\">before</th>"
            "<th class=\"n\">after</th><th class=\"n\">difference</th><th>currency</th></tr>\n",
            has_items ? " and item" : "", has_items ? "<th>item</th>" : "");
    for (size_t i = 0; i < report->row_count; i++) {
        const struct weir_rerate_row *row = &report->rows[i];
        const struct amounts amounts = {row->currency, row->before, row->after, difference_of(row), 0, {0}};
        if (is_changed(row))
            page_row(output, "", row->customer, row->item, has_items, &amounts);
    }
    for (size_t i = 0; i < totals->count; i++) {
        const struct amounts *total = &totals->of[i];
        const struct amounts same = {total->currency, total->unchanged_amount, total->unchanged_amount, {0}, 0, {0}};
        (void)snprintf(name, sizeof name, "%" PRIu64 " unchanged", total->unchanged);
        if (total->unchanged)
            page_row(output, "", weir_slice_text(name), (struct weir_slice){0}, has_items, &same);
        page_row(output, " class=\"sum\"", weir_slice_text("total"), (struct weir_slice){0}, has_items, total);
    }
    fputs("</table>\n", output);
}

static bool write_html(const struct weir_rerate_report *report, const struct weir_report_heading *heading,
                       const struct totals *totals, FILE *output)
{
    fputs(page_head, output);
    fputs("<title>", output);
    weir_html_put(output, weir_slice_text(heading->title));
    fputs("</title>\n<h1>", output);
    weir_html_put(output, weir_slice_text(heading->title));
    fputs("</h1>\n<p>Priced by ", output);
    weir_html_put(output, weir_slice_text(heading->catalog));
    fprintf(output, "; %s", *heading->filters ? "only " : "all usage");
    weir_html_put(output, weir_slice_text(heading->filters));
    fprintf(output,
            ". %" PRIu64 " customers looked at, %" PRIu64 " change; %" PRIu64 " windows, %" PRIu64
            " of them without a price.</p>\n",
            report->counts.customers, report->counts.changed, report->counts.windows, report->counts.unpriced);
    for (size_t i = 0; i < totals->count; i++)
        draw(report, &totals->of[i], heading->has_items, output);
    page_table(report, heading->has_items, totals, output);
    fputs("</html>\n", output);
    return !ferror(output);
}

void weir_report_filters(const struct weir_settings *settings, char *text, size_t room)
{
    const struct {
        const char *name, *value;
    } parts[] = {{"from", settings->from},         {"to", settings->to},
                 {"customer", settings->customer}, {"meter", settings->meter},
                 {"contract", settings->contract}, {"price book", settings->price_book}};
    size_t length = 0;

    text[0] = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (*parts[i].value && length < room)
            length += (size_t)snprintf(text + length, room - length, "%s%s %s", length ? ", " : "", parts[i].name,
                                       parts[i].value);
}

enum weir_status weir_rerate_report_write(const struct weir_rerate_report *report,
                                          const struct weir_report_heading *heading, const char *format, FILE *output,
                                          struct weir_error *reterr)
{
    struct totals *totals = weir_new(sizeof *totals);
    bool is_written;

    if (!add_up(report, totals)) {
        free(totals);
        return weir_fail(reterr, WEIR_FATAL, "the sum of all customers' charges does not fit; look at fewer of them");
    }
    errno = 0;
    if (strcmp(format, "csv") == 0)
        is_written = write_csv(report, heading, output);
    else if (strcmp(format, "json") == 0)
        is_written = write_json(report, heading, totals, output);
    else if (strcmp(format, "html") == 0)
        is_written = write_html(report, heading, totals, output);
    else
        is_written = write_table(report, heading, totals, output);
    is_written = fflush(output) == 0 && is_written && !ferror(output);
    free(totals);
    return is_written ? WEIR_OK : weir_fail(reterr, WEIR_FATAL, "the report cannot be written: %s", strerror(errno));
}
