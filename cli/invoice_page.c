#include "cli/invoice_page.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "cli/html.h"
#include "common/decimal.h"

/* 1. texts of the document */

static const char *text(const json_t *object, const char *name)
{
    const char *found = json_string_value(json_object_get(object, name));

    return found ? found : "";
}

static bool is(const json_t *object, const char *name, const char *value)
{
    return strcmp(text(object, name), value) == 0;
}

static void put(FILE *output, const char *from)
{
    weir_html_put(output, weir_slice_text(from));
}

/* before, the text and after; nothing where the text is empty. */
static void put_between(FILE *output, const char *before, const char *from, const char *after)
{
    if (!*from)
        return;
    fputs(before, output);
    put(output, from);
    fputs(after, output);
}

/* A decimal's text without zeros at its end: 1500, 0.002. */
static void put_number(FILE *output, const char *number)
{
    size_t length = strlen(number);

    if (strchr(number, '.')) {
        while (length > 0 && number[length - 1] == '0')
            length--;
        if (length > 0 && number[length - 1] == '.')
            length--;
    }
    fprintf(output, "%.*s", (int)length, number);
}

/* 2. what stands above the lines */

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n<style>\n"
    "@page{size:A4;margin:18mm 16mm}\n"
    "body{font:14px/1.45 system-ui,sans-serif;color:#1c2733;max-width:178mm;margin:2rem auto;padding:0 1rem}\n"
    "h1{font-size:1.7rem;margin:0}h2{font-size:1rem;margin:1.6rem 0 .4rem}\n"
    ".top{display:flex;justify-content:space-between;gap:2rem}.party{white-space:pre-line}\n"
    ".mark{display:inline-block;border:2px solid #b3261e;color:#b3261e;padding:.1rem .7rem;font-weight:600}\n"
    "dl{display:grid;grid-template-columns:auto 1fr;gap:.1rem 1rem;margin:1rem 0}dt{color:#5a6875}dd{margin:0}\n"
    "table{border-collapse:collapse;width:100%}th,td{padding:.35rem .5rem;border-bottom:1px solid #dde3ea;"
    "text-align:left;vertical-align:top}\n"
    "th{font-weight:600;border-bottom:2px solid #1c2733}td.n,th.n{text-align:right;white-space:nowrap;"
    "font-variant-numeric:tabular-nums}\n"
    "tr{break-inside:avoid}thead{display:table-header-group}.small{color:#5a6875;font-size:.85em}\n"
    ".number{white-space:nowrap}\n"
    "tr.total td{font-weight:700;font-size:1.15em;border-bottom:0;border-top:2px solid #1c2733}\n"
    "@media print{body{margin:0;padding:0;max-width:none}}\n</style>\n";

static void put_party(FILE *output, const char *title, const json_t *party, const char *key)
{
    const json_t *address = json_object_get(party, "address");

    fprintf(output, "<div class=\"party\"><span class=\"small\">%s</span>\n<strong>", title);
    put(output, *text(party, "name") ? text(party, "name") : key);
    fputs("</strong>", output);
    for (size_t i = 0; i < json_array_size(address); i++) {
        const char *line = json_string_value(json_array_get(address, i));
        put_between(output, "\n", line ? line : "", "");
    }
    put_between(output, "\nTax ID ", text(party, "tax_id"), "");
    put_between(output, "\n", text(party, "email"), "");
    put_between(output, "\n", text(party, "phone"), "");
    fputs("</div>\n", output);
}

static void put_fact(FILE *output, const char *name, const char *value)
{
    if (!*value)
        return;
    fprintf(output, "<dt>%s</dt><dd>", name);
    put(output, value);
    fputs("</dd>\n", output);
}

static void put_title(FILE *output, const json_t *document)
{
    bool is_credit_note = is(document, "document", "credit_note");
    const char *number = text(document, is_credit_note ? "credit_note_number" : "invoice_number");

    fputs("<title>", output);
    fputs(is_credit_note ? "Credit note " : "Invoice ", output);
    put(output, *number ? number : "(draft)");
    fputs("</title>\n<div class=\"top\"><div><h1>", output);
    fputs(is_credit_note ? "Credit note" : "Invoice", output);
    put_between(output, " ", number, "");
    fputs("</h1>\n", output);
    if (is(document, "state", "draft"))
        fputs("<p class=\"mark\">DRAFT: not an invoice yet</p>\n", output);
    else if (is(document, "state", "void") && !is_credit_note)
        fputs("<p class=\"mark\">VOID</p>\n", output);
    fputs("</div>\n", output);
    if (*text(json_object_get(document, "seller"), "name"))
        put_party(output, "from", json_object_get(document, "seller"), "");
    fputs("</div>\n", output);
}

static void put_facts(FILE *output, const json_t *document)
{
    const json_t *buyer = json_object_get(document, "buyer");
    char period[128];

    put_party(output, "to", buyer, text(document, "customer"));
    (void)snprintf(period, sizeof period, "%s to %s (%s)", text(document, "period_first_day"),
                   text(document, "period_last_day"), text(document, "timezone"));
    fputs("<dl>\n", output);
    put_fact(output, "Date", text(document, "issued_day"));
    put_fact(output,
             is(document, "kind", "correction") ? "Corrects the period"
             : is(document, "kind", "advance")  ? "In advance"
                                                : "Billing period",
             period);
    put_fact(output, "Customer", text(document, "customer"));
    put_fact(output, "Contract", text(document, "contract"));
    put_fact(output, "Reference", text(buyer, "reference"));
    if (is(document, "document", "credit_note"))
        put_fact(output, "Takes back invoice", text(document, "invoice_number"));
    else
        put_fact(output, "Taken back by credit note", text(document, "credit_note_number"));
    put_fact(output, "Reason", text(document, "void_reason"));
    put_fact(output, "Replaces invoice", text(document, "replaces"));
    fputs("</dl>\n", output);
}

/* 3. lines */

static struct weir_decimal decimal(const json_t *line, const char *name)
{
    struct weir_decimal value = weir_decimal_of(0);

    return weir_decimal_parse(weir_slice_text(text(line, name)), &value) == WEIR_DECIMAL_OK ? value
                                                                                            : weir_decimal_of(0);
}

/* A fee that is not its quantity at its unit price: of a part of its period. */
static bool is_prorated(const json_t *line)
{
    struct weir_decimal product;

    return is(line, "kind", "fee") && is(line, "component", "fee") && *text(line, "unit_price")
           && (!weir_decimal_multiply(decimal(line, "quantity"), decimal(line, "unit_price"), &product)
               || weir_decimal_compare(product, decimal(line, "amount")) != 0);
}

/* Its unit price is a package's, and its quantity what is in them: how many were started. */
static bool has_packages(const json_t *line, struct weir_decimal *ret_count)
{
    return is(line, "component", "package")
           && weir_decimal_divide(decimal(line, "amount"), decimal(line, "unit_price"), WEIR_HALF_EVEN, ret_count);
}

/* What a line is beside its item; "" when that is all. *ret_component: as its component says. */
static const char *said_of(const json_t *line, const char **ret_component)
{
    const char *component = text(line, "component");

    *ret_component = "";
    if (is(line, "kind", "true_up"))
        return strcmp(component, "shortfall") == 0 ? ": up to the minimum quantity" : ": up to the minimum spend";
    if (is(line, "kind", "drawdown"))
        return ": paid from this balance";
    if (is(line, "kind", "overage"))
        return ": overage, beyond what was prepaid";
    if (is_prorated(line))
        return ": part of a period";
    if (strcmp(component, "units") != 0
        && strcmp(component, "fee") != 0) /* these say nothing beside a quantity and a price */
        *ret_component = component;
    return "";
}

static void put_description(FILE *output, const json_t *line)
{
    const char *component, *name;
    json_int_t tier = json_integer_value(json_object_get(line, "tier"));
    json_t *value;
    bool is_first = true;

    put(output, is(line, "kind", "rounding") ? "Rounding" : text(line, "item"));
    fputs(said_of(line, &component), output);
    fputs(*component ? ": " : "", output);
    for (; *component; component++)
        fputc(*component == '_' ? ' ' : *component, output);
    if (tier > 0 && (is(line, "model", "graduated") || is(line, "model", "volume")))
        fprintf(output, ", tier %" JSON_INTEGER_FORMAT, tier);
    json_object_foreach(json_object_get(line, "dimensions"), name, value)
    {
        put_between(output, is_first ? " <span class=\"small\">" : ", ", name, "");
        put_between(output, " ", json_string_value(value) ? json_string_value(value) : "", "");
        is_first = false;
    }
    fputs(is_first ? "" : "</span>", output);
}

static void put_packages(FILE *output, const json_t *line, struct weir_decimal count)
{
    char number[WEIR_DECIMAL_TEXT_MAX];

    weir_decimal_format_short(count, number);
    fprintf(output, " <br><span class=\"small\">%s started %s at ", number,
            weir_decimal_compare(count, weir_decimal_of(1)) == 0 ? "package" : "packages");
    put_number(output, text(line, "unit_price"));
    fputs("</span>", output);
}

static void put_line(FILE *output, const json_t *document, const json_t *line)
{
    json_int_t corrected = json_integer_value(json_object_get(line, "corrected_line"));
    bool is_next =
        is(document, "kind", "period") && strcmp(text(line, "service_start"), text(document, "period_start")) > 0;
    struct weir_decimal packages;
    bool is_in_packages = has_packages(line, &packages);

    fprintf(output, "<tr><td class=\"n\">%" JSON_INTEGER_FORMAT "</td><td>",
            json_integer_value(json_object_get(line, "line")));
    put_description(output, line);
    if (is_in_packages)
        put_packages(output, line, packages);
    if (json_is_true(json_object_get(line, "is_adjustment"))) {
        fprintf(output, "<br><span class=\"small\">delivered %s to %s", text(line, "service_first_day"),
                text(line, "service_last_day"));
        put_between(output, "; corrects <span class=\"number\">", text(line, "corrected_invoice"), "</span>");
        if (corrected)
            fprintf(output, ", line %" JSON_INTEGER_FORMAT, corrected);
        fputs("</span>", output);
    } else if (is_next) {
        fprintf(output, "<br><span class=\"small\">in advance, %s to %s</span>", text(line, "service_first_day"),
                text(line, "service_last_day"));
    }
    fputs("</td><td class=\"n\">", output);
    if (!weir_decimal_is_zero(decimal(line, "quantity")))
        put_number(output, text(line, "quantity"));
    fputs("</td><td class=\"n\">", output);
    if (!is_in_packages)
        put_number(output, text(line, "unit_price"));
    fputs("</td><td class=\"n\">", output);
    put(output, text(line, "invoice_amount"));
    fputs("</td></tr>\n", output);
}

enum section { REGULAR, ADJUSTMENTS, ROUNDING };

static enum section section_of(const json_t *line)
{
    return is(line, "kind", "rounding")                           ? ROUNDING
           : json_is_true(json_object_get(line, "is_adjustment")) ? ADJUSTMENTS
                                                                  : REGULAR;
}

static void put_section(FILE *output, const json_t *document, enum section section)
{
    const json_t *lines = json_object_get(document, "lines");
    size_t count = 0;

    for (size_t i = 0; i < json_array_size(lines); i++) {
        const json_t *line = json_array_get(lines, i);
        if (section_of(line) != section)
            continue;
        if (count++ == 0 && section == ADJUSTMENTS)
            fputs("<tr><td></td><td colspan=\"4\"><strong>Adjustments of what was invoiced before</strong></td></tr>\n",
                  output);
        put_line(output, document, line);
    }
}

static void put_table(FILE *output, const json_t *document)
{
    fputs("<table>\n<thead><tr><th class=\"n\">#</th><th>Description</th><th class=\"n\">Quantity</th><th "
          "class=\"n\">Unit "
          "price</th><th class=\"n\">Amount, ",
          output);
    put(output, text(document, "currency"));
    fputs("</th></tr></thead>\n<tbody>\n", output);
    for (enum section section = REGULAR; section <= ROUNDING; section++)
        put_section(output, document, section);
    fputs("<tr class=\"total\"><td></td><td colspan=\"3\">Total before taxes</td><td class=\"n\">", output);
    put(output, text(document, "total"));
    put_between(output, " ", text(document, "currency"), "</td></tr>\n</tbody></table>\n");
}

/* 4. what it rests on, in small print */

enum { LANES_SHOWN = 32 };

static json_int_t number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

/* The first day of a service period, in the contract's time zone as its lines have it. */
static const char *first_day(const json_t *document, const json_t *row)
{
    const json_t *lines = json_object_get(document, "lines");

    if (is(document, "period_start", text(row, "service_start")))
        return text(document, "period_first_day");
    for (size_t i = 0; i < json_array_size(lines); i++)
        if (is(json_array_get(lines, i), "service_start", text(row, "service_start")))
            return text(json_array_get(lines, i), "service_first_day");
    return text(row, "service_start");
}

static void put_usage(FILE *output, const json_t *document, const json_t *usage)
{
    for (size_t i = 0; i < json_array_size(usage); i++) {
        const json_t *row = json_array_get(usage, i);
        fputs(i ? "; " : "Counted: ", output);
        put(output, text(row, "meter"));
        fprintf(output, " from %.10s, %" JSON_INTEGER_FORMAT " %s", first_day(document, row), number(row, "events"),
                number(row, "events") == 1 ? "event" : "events");
        if (number(row, "retracted"))
            fprintf(output, " (%" JSON_INTEGER_FORMAT " taken back)", number(row, "retracted"));
        if (number(row, "unpriced"))
            fprintf(output, " (%" JSON_INTEGER_FORMAT " without a price)", number(row, "unpriced"));
    }
    fputs(json_array_size(usage) ? ". " : "", output);
}

static void put_count(FILE *output, const json_t *object, const char *name, const char *what, const char **separator)
{
    json_int_t count = number(object, name);

    if (count == 0)
        return;
    fprintf(output, "%s%" JSON_INTEGER_FORMAT " %s", *separator, count, what);
    *separator = ", ";
}

/* What is new since the invoice before; the JSON form has all of it. */
static void put_uncounted(FILE *output, const json_t *uncounted)
{
    const char *separator = "Not counted";

    if (!json_is_object(uncounted))
        return;
    if (!json_is_null(json_object_get(uncounted, "since_invoice")))
        separator = "Not counted, since the invoice before this one";
    fputs(separator, output);
    separator = ": ";
    put_count(output, uncounted, "new_duplicate", number(uncounted, "new_duplicate") == 1 ? "duplicate" : "duplicates",
              &separator);
    put_count(output, uncounted, "new_quarantined", "refused", &separator);
    put_count(output, uncounted, "new_admitted", "refused before and counted after all", &separator);
    fputs(*separator == ':' ? ": none. " : ". ", output);
}

static void put_lanes(FILE *output, const json_t *lanes)
{
    size_t count = json_array_size(lanes);

    if (count > LANES_SHOWN) {
        fprintf(output, "All of %zu lanes of events as told in the JSON form of this invoice. ", count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *lane = json_array_get(lanes, i);
        fputs(i ? "; " : "Events up to: ", output);
        put(output, text(lane, "lane"));
        fprintf(output, " offset %" JSON_INTEGER_FORMAT, number(lane, "offset"));
    }
    fputs(count ? ". " : "", output);
}

static void put_completeness(FILE *output, const json_t *document)
{
    const json_t *statement = json_object_get(document, "completeness");
    const json_t *gaps = json_object_get(statement, "released_gaps");

    if (!json_is_object(statement))
        return;
    fputs("<p class=\"small\">", output);
    put_usage(output, document, json_object_get(statement, "usage"));
    put_uncounted(output, json_object_get(statement, "uncounted"));
    put_lanes(output, json_object_get(statement, "lanes"));
    for (size_t i = 0; i < json_array_size(gaps); i++) {
        const json_t *gap = json_array_get(gaps, i);
        fprintf(output, "Usage from %.19s to %.19s UTC may be missing: ", text(gap, "time_from"), text(gap, "time_to"));
        put_between(output, "", text(gap, "reason"), ". ");
    }
    fputs("</p>\n", output);
}

enum weir_status weir_invoice_page(struct weir_slice json, FILE *output, struct weir_error *reterr)
{
    json_t *document = json_loadb(json.data, json.length, 0, NULL);

    if (!json_is_object(document)) {
        json_decref(document);
        return weir_fail(reterr, WEIR_FATAL, "PostgreSQL answered no invoice; is this weir the one of its schema?");
    }
    const json_t *seller = json_object_get(document, "seller");
    fputs(head, output);
    put_title(output, document);
    put_facts(output, document);
    put_table(output, document);
    fputs("<p class=\"small\">All amounts are before taxes.", output);
    put_between(output, " ", text(seller, "note"), "");
    fputs("</p>\n", output);
    put_between(output, "<p>Payment: ", text(seller, "payment"), "</p>\n");
    put_completeness(output, document);
    fputs("</html>\n", output);
    json_decref(document);
    return fflush(output) == 0 && !ferror(output)
               ? WEIR_OK
               : weir_fail(reterr, WEIR_FATAL, "the invoice cannot be written: %s", strerror(errno));
}
