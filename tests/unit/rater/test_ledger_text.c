/* CSV that any reader takes apart again, tables that line up, summaries that add up, and outputs that cannot be
 * written. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "common/calendar.h"
#include "common/shown.h"
#include "rater/ledger.h"

#define S(text) weir_slice_text(text)

static struct weir_decimal decimal(const char *text)
{
    struct weir_decimal value;
    cr_assert_eq(weir_decimal_parse(S(text), &value), WEIR_DECIMAL_OK);
    return value;
}

static struct weir_line_item item_of(const char *customer, const char *item, const char *quantity, const char *amount)
{
    return (struct weir_line_item){
        .customer = S(customer),
        .contract = S("c-1"),
        .item = S(item),
        .meter = S(item),
        .period_start = INT64_C(1767225600) * WEIR_SECOND,
        .period_end = INT64_C(1769904000) * WEIR_SECOND,
        .window_start = INT64_C(1767225600) * WEIR_SECOND,
        .window_end = INT64_C(1767229200) * WEIR_SECOND,
        .kind = WEIR_KIND_USAGE,
        .component = WEIR_COMPONENT_UNITS,
        .price_book = S("standard"),
        .price_book_version = 1,
        .model = "per_unit",
        .tier = 1,
        .quantity = decimal(quantity),
        .has_unit_price = true,
        .unit_price = decimal("0.5"),
        .amount = decimal(amount),
        .currency = S("USD"),
        .currency_places = 2,
        .revision = 1,
    };
}

/* What the ledger writes for these items, the caller's to free. */
static char *written(enum weir_ledger_format format, bool is_summary, const struct weir_line_item *items, size_t count)
{
    char *text;
    size_t length;
    FILE *output = open_memstream(&text, &length);
    struct weir_state *state = weir_state_new();
    struct weir_ledger *ledger;
    struct weir_error error;

    cr_assert_eq(weir_ledger_text_open(format, is_summary, output, &ledger, &error), WEIR_OK);
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(ledger->ops->write(ledger, &items[i], 1, state, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(ledger->ops->finish(ledger, &error), WEIR_OK, "%s", error.text);
    weir_ledger_free(ledger);
    weir_state_free(state);
    fclose(output);
    return text;
}

/* 1. CSV: a reader by RFC 4180 that knows nothing of the writer */
static char *field(const char **at, char ends[1])
{
    char *text = calloc(1, strlen(*at) + 1);
    size_t length = 0;

    if (**at == '"') {
        for ((*at)++; **at != '"' || (*at)[1] == '"'; (*at)++) {
            cr_assert(**at, "an open quote");
            *at += **at == '"';
            text[length++] = **at;
        }
        (*at)++;
    } else {
        for (; **at != ',' && **at != '\n'; (*at)++) {
            cr_assert(**at && **at != '"' && **at != '\r', "must be quoted");
            text[length++] = **at;
        }
    }
    cr_assert(**at == ',' || **at == '\n');
    *ends = *(*at)++;
    return text;
}

Test(ledger_text, csv_comes_apart_again)
{
    static const char *const customers[] = {"acme",     "a,b", "say \"hi\"", "\"",      "two\nlines",
                                            "a\r\nb",   "",    " blanks ",   "Zoë; x",  "客户",
                                            "'quoted'", ",",   "\"\"",       "x\"y,z\n"};
    enum { COUNT = sizeof customers / sizeof *customers };
    struct weir_line_item items[COUNT];

    for (int i = 0; i < COUNT; i++) {
        items[i] = item_of(customers[i], "tokens", "1", "0.5");
        items[i].dimension_count = 1;
        items[i].dimensions[0] = (struct weir_dimension){S("model"), S(i % 2 ? "a\"b,c" : "plain")};
    }
    char *text = written(WEIR_LEDGER_CSV, false, items, COUNT);
    const char *at = text;
    for (int row = -1; row < COUNT; row++) {
        char ends = ',';
        int column = 0;
        for (; ends == ','; column++) {
            char *found = field(&at, &ends);
            if (row < 0 && column == 0)
                cr_assert_str_eq(found, "customer");
            if (row >= 0 && column == 0)
                cr_assert_str_eq(found, customers[row]);
            if (row >= 0 && column == 4)
                cr_assert_str_eq(found, row % 2 ? "{\"model\":\"a\\\"b,c\"}" : "{\"model\":\"plain\"}");
            if (row >= 0 && column == 17)
                cr_assert_str_eq(found, "0.500000000000");
            free(found);
        }
        cr_assert_eq(column, 20, "row %d", row);
    }
    cr_assert_eq(*at, '\0');
    free(text);
}

/* Texts are looked at eight bytes at a time. */
Test(ledger_text, csv_quotes_what_wants_it_wherever_it_stands)
{
    static const char bytes[] = "\",\n\r!+-.z~\xC3"; /* the first four want quotes */
    enum { LONGEST = 26 };
    char customer[LONGEST + 1], ends;

    for (size_t length = 1; length <= LONGEST; length++)
        for (size_t place = 0; place < length; place++)
            for (size_t i = 0; i < sizeof bytes - 1; i++) {
                memset(customer, 'x', length);
                customer[length] = '\0';
                customer[place] = bytes[i];
                struct weir_line_item item = item_of(customer, "tokens", "1", "0.5");
                char *text = written(WEIR_LEDGER_CSV, false, &item, 1);
                const char *at = strchr(text, '\n') + 1;
                cr_assert_eq(*at == '"', i < 4, "%s", customer);
                char *found = field(&at, &ends);
                cr_assert_str_eq(found, customer);
                free(found);
                free(text);
            }
}

Test(ledger_text, an_empty_csv_has_its_header)
{
    char *text = written(WEIR_LEDGER_CSV, true, NULL, 0);
    cr_assert_str_eq(text,
                     "customer,contract,period_start,period_end,item,kind,quantity,amount,invoice_amount,currency\n");
    free(text);
    text = written(WEIR_LEDGER_NDJSON, false, NULL, 0);
    cr_assert_str_eq(text, "");
    free(text);
}

/* 2. summaries */
Test(ledger_text, summary_adds_up_and_rounds_once)
{
    struct weir_line_item items[8] = {
        item_of("zoo", "tokens", "1", "0.0025"), item_of("acme", "tokens", "2", "0.0025"),
        item_of("zoo", "tokens", "1", "0.0025"), item_of("acme", "calls", "1", "1.005"),
        item_of("acme", "calls", "-3", "0.01"),  item_of("acme", "calls", "1", "0"),
        item_of("yen", "tokens", "1", "2.5"),    item_of("zoo", "calls", "1", "0"),
    };
    items[5].kind = WEIR_KIND_FEE;
    items[6].currency = S("JPY");
    items[6].currency_places = 0;
    items[6].rounding = WEIR_HALF_UP;
    char *text = written(WEIR_LEDGER_CSV, true, items, 8);
    cr_assert_str_eq(
        text,
        "customer,contract,period_start,period_end,item,kind,quantity,amount,invoice_amount,currency\n"
        "acme,c-1,2026-01-01T00:00:00Z,2026-02-01T00:00:00Z,calls,fee,1.000000000000,0.000000000000,0.00,USD\n"
        "acme,c-1,2026-01-01T00:00:00Z,2026-02-01T00:00:00Z,calls,usage,-2.000000000000,1.015000000000,1.02,USD\n"
        "acme,c-1,2026-01-01T00:00:00Z,2026-02-01T00:00:00Z,tokens,usage,2.000000000000,0.002500000000,0.00,USD\n"
        "yen,c-1,2026-01-01T00:00:00Z,2026-02-01T00:00:00Z,tokens,usage,1.000000000000,2.500000000000,3,JPY\n"
        "zoo,c-1,2026-01-01T00:00:00Z,2026-02-01T00:00:00Z,calls,usage,1.000000000000,0.000000000000,0.00,USD\n"
        "zoo,c-1,2026-01-01T00:00:00Z,2026-02-01T00:00:00Z,tokens,usage,2.000000000000,0.005000000000,0.00,USD\n",
        "%s", text);
    free(text);
}

Test(ledger_text, a_sum_that_does_not_fit_is_told)
{
    struct weir_line_item item = item_of("acme", "tokens", "1", "1");
    struct weir_ledger *ledger;
    struct weir_error error = {{0}};
    struct weir_state *state = weir_state_new();
    char *text;
    size_t length;
    FILE *output = open_memstream(&text, &length);

    item.amount = weir_decimal_max();
    cr_assert_eq(weir_ledger_text_open(WEIR_LEDGER_CSV, true, output, &ledger, &error), WEIR_OK);
    cr_assert_eq(ledger->ops->write(ledger, &item, 1, state, &error), WEIR_OK);
    item.amount = (struct weir_decimal){1};
    cr_assert_eq(ledger->ops->write(ledger, &item, 1, state, &error), WEIR_REJECT);
    cr_assert(strstr(error.text, "acme") && strstr(error.text, "tokens"), "%s", error.text);
    weir_ledger_free(ledger);
    weir_state_free(state);
    fclose(output);
    free(text);
}

/* 3. tables */
/* Every decimal point of the amount column stands below the one above it, whatever the names before it are. */
Test(ledger_text, tables_line_up)
{
    struct weir_line_item items[] = {item_of("acme", "tokens", "1", "0.5"),
                                     item_of("Zoë & Söhne", "tokens", "1234567", "99999.000000000001"),
                                     item_of("客户 e\u0301", "calls", "-0.25", "-12")};
    char *text = written(WEIR_LEDGER_TABLE, true, items, 3);
    const char *head = strstr(text, "\n"), *wide = strstr(text, "客户 e\u0301     ");
    size_t points[3] = {0};
    int rows = 0;

    cr_assert(head);
    cr_assert(wide && !strncmp(wide + strlen("客户 e\u0301     "), "  c-1", 5), "%s", text); /* 6 of 11 columns */
    for (const char *line = head + 1; rows < 3; line = strchr(line, '\n') + 1, rows++) {
        const char *quantity = strstr(line, "usage"), *point = quantity ? strchr(quantity, '.') : NULL;
        cr_assert(point, "%s", text);
        points[rows] = weir_shown_width(weir_slice_of(line, (size_t)(point - line)));
    }
    cr_assert(points[0] == points[1] && points[1] == points[2], "%s", text);
    cr_assert(strstr(text, "99999.000000000001") && strstr(text, "0.50") && !strstr(text, "0.500"), "%s", text);
    cr_assert(strstr(text, "total USD 99987.500000000001"), "%s", text);
    cr_assert(!strchr(text, '\033'), "colours without a terminal");
    free(text);
}

/* An amount has at least the places that its currency has, and never less than two. */
Test(ledger_text, tables_show_money_of_any_currency)
{
    static const struct {
        const char *currency;
        int places;
        const char *shown, *not_shown;
    } rows[] = {{"USD", 2, "7.50", "7.500"}, {"KWD", 3, "7.500", "7.5000"}, {"CLF", 4, "7.5000", "7.50000"}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct weir_line_item item = item_of("acme", "tokens", "1", "7.5");
        item.currency = S(rows[i].currency);
        item.currency_places = rows[i].places;
        char *text = written(WEIR_LEDGER_TABLE, false, &item, 1), *totals = strstr(text, "\ntotal");
        cr_assert(totals, "%s", text);
        *totals = '\0'; /* exact */
        cr_expect(strstr(text, rows[i].shown) && !strstr(text, rows[i].not_shown), "%s", text);
        free(text);
    }
}

/* Names come with events: what moves a cursor or ends a line is not obeyed. */
Test(ledger_text, tables_show_no_control_characters)
{
    struct weir_line_item items[] = {item_of("a\nb\033[2Jc\177\xc2\x9b\u202e", "tokens", "1", "0.5")};
    char *text = written(WEIR_LEDGER_TABLE, true, items, 1);

    cr_assert(strstr(text, "a?b?[2Jc???"), "%s", text);
    free(text);
}

/* 4. outputs that cannot be written */
Test(ledger_text, a_full_disk_is_told)
{
    for (int format = WEIR_LEDGER_TABLE; format <= WEIR_LEDGER_NDJSON; format++) {
        FILE *output = fopen("/dev/full", "w");
        struct weir_line_item item = item_of("acme", "tokens", "1", "1");
        struct weir_state *state = weir_state_new();
        struct weir_ledger *ledger;
        struct weir_error error = {{0}};
        cr_assert(output);
        cr_assert_eq(weir_ledger_text_open((enum weir_ledger_format)format, false, output, &ledger, &error), WEIR_OK);
        enum weir_status status = WEIR_OK;
        for (int i = 0; i < 1000 && status == WEIR_OK; i++)
            status = ledger->ops->write(ledger, &item, 1, state, &error);
        if (status == WEIR_OK)
            status = ledger->ops->finish(ledger, &error);
        cr_assert_eq(status, WEIR_FATAL, "format %d", format);
        cr_assert(strstr(error.text, "No space left"), "%s", error.text);
        weir_ledger_free(ledger);
        weir_state_free(state);
        fclose(output);
    }
}
