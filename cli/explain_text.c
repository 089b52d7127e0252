#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/explain.h"
#include "common/shown.h"
#include "common/status.h"

/* 0. what stands in it is mostly from outside: a copy of which a terminal obeys nothing */
static json_t *shown(json_t *value);

static json_t *shown_text(const char *text, size_t length)
{
    char *copy = weir_new(length + 1);
    json_t *value = json_stringn(copy, weir_shown_copy(weir_slice_of(text, length), copy));

    free(copy);
    return value;
}

static json_t *shown_object(json_t *object)
{
    json_t *copy = json_object(), *member;
    const char *name;

    json_object_foreach(object, name, member)
    {
        json_t *key = shown_text(name, strlen(name));
        json_object_set_new(copy, json_string_value(key), shown(member));
        json_decref(key);
    }
    return copy;
}

static json_t *shown(json_t *value)
{
    json_t *copy, *member;
    size_t at;

    if (json_is_string(value))
        return shown_text(json_string_value(value), json_string_length(value));
    if (json_is_object(value))
        return shown_object(value);
    if (!json_is_array(value))
        return json_incref(value);
    copy = json_array();
    json_array_foreach(value, at, member) json_array_append_new(copy, shown(member));
    return copy;
}

/* 1. the row */
static long long whole(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static bool is_true(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

static void print_dimensions(const json_t *dimensions)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)dimensions, name, value)
        printf(" %s=%s", name, json_string_value(value) ? json_string_value(value) : "");
}

static void print_item(const json_t *item)
{
    const char *contract = weir_explain_text(item, "contract"), *kind = weir_explain_text(item, "kind");
    bool is_usage = weir_explain_is_usage(item);

    printf("line item %lld, written %s\n", whole(item, "line_item_id"), weir_explain_text(item, "recorded_at"));
    printf("  customer '%s' is charged %s %s: %s of '%s'", weir_explain_text(item, "customer"),
           weir_explain_text(item, "amount"), weir_explain_text(item, "currency"), kind,
           weir_explain_text(item, "item"));
    print_dimensions(json_object_get(item, "dimensions"));
    printf(", %s", weir_explain_text(item, "component"));
    if (json_is_integer(json_object_get(item, "tier")) && whole(item, "tier") > 0)
        printf(" of tier %lld", whole(item, "tier"));
    printf(", quantity %s", weir_explain_text(item, "quantity"));
    if (*weir_explain_text(item, "unit_price"))
        printf(" at %s", weir_explain_text(item, "unit_price"));
    printf("\n  billing period %s to %s, %s%s%s\n", weir_explain_text(item, "period_start"),
           weir_explain_text(item, "period_end"), *contract ? "contract '" : "the default contract", contract,
           *contract ? "'" : "");
    if (is_usage)
        printf("  window %s to %s, revision %lld of it\n", weir_explain_text(item, "window_start"),
               weir_explain_text(item, "window_end"), whole(item, "revision"));
}

/* 2. why this price */
static void print_member(const json_t *object, const char *name)
{
    if (*weir_explain_text(object, name))
        printf(", %s %s", name, weir_explain_text(object, name));
}

static void print_term(const json_t *term)
{
    const json_t *minimum = json_object_get(term, "minimum_spend");
    size_t index;
    json_t *grant, *quantity;

    printf("  term %lld from %s to %s", whole(term, "term"), weir_explain_text(term, "starts_at"),
           weir_explain_text(term, "ends_at"));
    if (is_true(term, "renews"))
        printf(", renews then for %lld months\n", whole(term, "months"));
    else
        printf(", the contract's last\n");
    if (json_is_object(minimum))
        printf("    minimum spend '%s' of the term: %s; true-up by now %s\n", weir_explain_text(minimum, "commitment"),
               weir_explain_text(minimum, "amount"), weir_explain_text(minimum, "true_up"));
    json_array_foreach(json_object_get(term, "minimum_quantities"), index, quantity)
        printf("    minimum quantity '%s' of the term: %s of '%s'; missing by now %s, charged %s\n",
               weir_explain_text(quantity, "commitment"), weir_explain_text(quantity, "quantity"),
               weir_explain_text(quantity, "meter"), weir_explain_text(quantity, "missing"),
               weir_explain_text(quantity, "charged"));
    json_array_foreach(json_object_get(term, "prepaid"), index, grant)
    {
        printf("    prepaid '%s' of the term: %s for %s, from %s until %s", weir_explain_text(grant, "grant"),
               weir_explain_text(grant, "amount"), weir_explain_text(grant, "price"),
               weir_explain_text(grant, "starts_at"), weir_explain_text(grant, "expires_at"));
        if (*weir_explain_text(grant, "rollover_fraction"))
            printf(", then %s of what is left until %s", weir_explain_text(grant, "rollover_fraction"),
                   weir_explain_text(grant, "rollover_expires_at"));
        putchar('\n');
    }
}

static void print_price(const json_t *root)
{
    const json_t *item = json_object_get(root, "item"), *catalog = json_object_get(root, "catalog");
    const json_t *contract = json_object_get(root, "contract"), *price = json_object_get(root, "price");
    static const char *const members[] = {"unit_price", "package_size", "package_price",  "rate",          "fixed_fee",
                                          "amount",     "free_units",   "minimum_amount", "maximum_amount"};
    size_t index;
    json_t *part;

    printf("\nprice\n  book '%s' version %lld, ", weir_explain_text(item, "price_book"),
           whole(item, "price_book_version"));
    if (json_is_object(catalog))
        printf("catalog version %lld (applied %s)\n", whole(catalog, "catalog_version"),
               weir_explain_text(catalog, "applied_at"));
    else
        printf("of no catalog that was stored (weir apply) when the row was written\n");
    if (contract)
        printf("  contract: billed by %s%s%s in %s%s%s\n", weir_explain_text(contract, "billing_period"),
               *weir_explain_text(contract, "billing_anchor") ? " from " : "",
               weir_explain_text(contract, "billing_anchor"), weir_explain_text(contract, "timezone"),
               *weir_explain_text(contract, "multiplier") ? ", prices of this meter times " : "",
               weir_explain_text(contract, "multiplier"));
    else if (json_is_object(catalog))
        printf("  that catalog has other terms for it: the row was rated by another one (see weir apply)\n");
    const json_t *phase = json_object_get(contract, "phase");
    if (json_is_object(phase))
        printf("  phase '%s' from %s%s%s\n", weir_explain_text(phase, "phase"), weir_explain_text(phase, "starts_at"),
               *weir_explain_text(phase, "reason") ? ": " : "", weir_explain_text(phase, "reason"));
    if (contract && json_is_object(json_object_get(root, "term")))
        print_term(json_object_get(root, "term"));
    if (!price)
        return;
    printf("  price '%s', %s", weir_explain_text(price, "price"), weir_explain_text(price, "model"));
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        print_member(price, members[i]);
    printf(" (in force from %s)\n", weir_explain_text(price, "effective_from"));
    json_array_foreach(json_object_get(price, "tiers"), index, part)
        printf("    tier %lld: up to %s at %s each, flat fee %s\n", whole(part, "tier"),
               *weir_explain_text(part, "up_to") ? weir_explain_text(part, "up_to") : "any number",
               weir_explain_text(part, "unit_price"), weir_explain_text(part, "flat_fee"));
    json_array_foreach(json_object_get(price, "discounts"), index, part)
        printf("    discount '%s': %s %s off\n", weir_explain_text(part, "discount"), weir_explain_text(part, "type"),
               *weir_explain_text(part, "rate") ? weir_explain_text(part, "rate") : weir_explain_text(part, "amount"));
}

/* 3. the difference */
static void print_usage_arithmetic(const json_t *arithmetic, const json_t *item)
{
    printf("\nthe difference\n  the price's quantity in this period went from %s to %s\n",
           weir_explain_text(arithmetic, "quantity_before"), weir_explain_text(arithmetic, "quantity_after"));
    printf("  %s (%s): %s before, %s after; %s - %s = %s, which %s\n", weir_explain_text(item, "component"),
           weir_explain_text(arithmetic, "rule"), weir_explain_text(arithmetic, "amount_before"),
           weir_explain_text(arithmetic, "amount_after"), weir_explain_text(arithmetic, "amount_after"),
           weir_explain_text(arithmetic, "amount_before"), weir_explain_text(arithmetic, "difference"),
           is_true(arithmetic, "is_line_items_amount") ? "is the line item's amount" : "is NOT the line item's amount");
    printf("  the ledger's totals %s what the price says of these quantities\n",
           is_true(arithmetic, "is_price_of_quantity") ? "are" : "are NOT");
}

static void print_period_arithmetic(const json_t *arithmetic)
{
    printf("\nthe amount\n  %s", weir_explain_text(arithmetic, "rule"));
    if (*weir_explain_text(arithmetic, "minimum_spend"))
        printf(": minimum spend %s, usage charged until then %s, true-up until then %s",
               weir_explain_text(arithmetic, "minimum_spend"), weir_explain_text(arithmetic, "usage_before"),
               weir_explain_text(arithmetic, "true_up_before"));
    else if (*weir_explain_text(arithmetic, "fee"))
        printf(": %s per %s, charged %s, proration %s", weir_explain_text(arithmetic, "fee"),
               weir_explain_text(arithmetic, "per"), weir_explain_text(arithmetic, "charged"),
               weir_explain_text(arithmetic, "proration"));
    if (*weir_explain_text(arithmetic, "price"))
        printf(": %s", weir_explain_text(arithmetic, "price"));
    const json_t *is_right = json_object_get(arithmetic, "is_line_items_amount");
    if (json_is_boolean(is_right))
        printf("; this %s the line item's amount\n", json_is_true(is_right) ? "makes" : "does NOT make");
    else
        printf("%s\n", is_right ? "" : "; less what was charged before");
}

static void print_period(const json_t *root)
{
    const json_t *period = json_object_get(root, "period");

    if (json_is_object(period))
        printf("  the period now: %lld line items, usage %s, true-up %s, %s\n", whole(period, "line_items"),
               weir_explain_text(period, "usage_amount"), weir_explain_text(period, "true_up"),
               is_true(period, "is_closed") ? "closed" : "not closed yet");
}

static void print_revisions(const json_t *root)
{
    const json_t *revisions = json_object_get(root, "revisions");
    long long ours = whole(json_object_get(root, "item"), "line_item_id");
    size_t index;
    json_t *row;

    printf("\nwhat was written of it, in order\n");
    json_array_foreach(revisions, index, row)
    {
        printf("  %s line item %lld, %s, revision %lld: %s", whole(row, "line_item_id") == ours ? ">" : " ",
               whole(row, "line_item_id"), weir_explain_text(row, "recorded_at"), whole(row, "revision"),
               weir_explain_text(row, "component"));
        if (strcmp(weir_explain_text(row, "kind"), "reversal") == 0)
            printf(", reversal");
        if (json_is_integer(json_object_get(row, "tier")) && whole(row, "tier") > 0)
            printf(" of tier %lld", whole(row, "tier"));
        printf(", quantity %s, amount %s\n", weir_explain_text(row, "quantity"), weir_explain_text(row, "amount"));
    }
}

/* 4. lanes and events */
static void print_event(const json_t *event)
{
    const char *outcome = weir_explain_text(event, "outcome");

    printf("      offset %lld, %s, id '%s', value %s: %s", whole(event, "offset"), weir_explain_text(event, "time"),
           weir_explain_text(event, "id"), weir_explain_text(event, "value"), outcome);
    if (json_object_get(event, "of_offset"))
        printf(" of the event at offset %lld", whole(event, "of_offset"));
    if (*weir_explain_text(event, "reason"))
        printf(", reason %s", weir_explain_text(event, "reason"));
    putchar('\n');
}

static void print_read(const json_t *read)
{
    const json_t *list = json_object_get(read, "list");
    size_t index;
    json_t *event;

    if (!is_true(read, "is_whole"))
        printf("    Kafka no longer holds what was before offset %lld: events of it are missing here\n",
               whole(read, "from_offset"));
    if (json_object_get(read, "is_quarantine_whole"))
        printf("    Kafka no longer holds all records of quarantine: what is called counted may have been refused\n");
    printf(
        "    offsets %lld to %lld read: %lld events of this window, %lld counted, %lld retracted, %lld duplicates, %lld"
        " conflicts, %lld in quarantine\n",
        whole(read, "from_offset"), whole(read, "to_offset"), whole(read, "found"), whole(read, "counted"),
        whole(read, "retracted"), whole(read, "duplicate"), whole(read, "conflict"), whole(read, "quarantined"));
    printf("    together %s: this %s the total that was rated\n", weir_explain_text(read, "value"),
           is_true(read, "is_total") ? "is" : "is NOT");
    json_array_foreach(list, index, event)
    {
        if (index >= WEIR_EXPLAIN_EVENTS_SHOWN)
            break;
        print_event(event);
    }
    if (whole(read, "found") > WEIR_EXPLAIN_EVENTS_SHOWN)
        printf("      and %lld more (--format json lists up to %d)\n", whole(read, "found") - WEIR_EXPLAIN_EVENTS_SHOWN,
               WEIR_EXPLAIN_EVENTS_MAX);
}

static void print_lanes(const json_t *root)
{
    size_t index;
    json_t *lane;

    printf("\nthe window's events, as last rated\n");
    json_array_foreach(json_object_get(root, "lanes"), index, lane)
    {
        const json_t *read = json_object_get(lane, "read");
        printf("  lane %s: %lld events, value %s, revision %lld, rated %s", weir_explain_text(lane, "lane"),
               whole(lane, "events"), weir_explain_text(lane, "value"), whole(lane, "revision"),
               weir_explain_text(lane, "rated_at"));
        if (json_is_integer(json_object_get(lane, "next_offset")))
            printf(", next offset %lld\n", whole(lane, "next_offset"));
        else
            printf(", next offset not known (%s)\n", weir_explain_text(root, "no_offsets"));
        if (read)
            print_read(read);
        if (*weir_explain_text(lane, "unread"))
            printf("    not read: %s\n", weir_explain_text(lane, "unread"));
    }
}

/* A row of a rerating: why it is there, and what it stands beside. */
static void print_rerating(const json_t *rerating, bool is_reversal)
{
    bool is_recount = *weir_explain_text(rerating, "recount") != '\0';

    printf("\n%s %lld, %s by %s: %s\n", is_recount ? "recount" : "rerating", whole(rerating, "rerating"),
           weir_explain_text(rerating, "started_at"), weir_explain_text(rerating, "started_by"),
           weir_explain_text(rerating, "reason"));
    if (is_recount)
        puts("  the window was counted again; this is the difference to what it was charged before");
    else if (is_reversal)
        puts("  takes back what this was charged before, all rows until then together; what it is charged now follows "
             "it");
    else
        puts("  what this is charged by the catalog of that run, its period priced from the start; what was charged "
             "before "
             "is taken back");
}

static void print(const json_t *root)
{
    const json_t *item = json_object_get(root, "item"), *arithmetic = json_object_get(root, "arithmetic");
    const json_t *rerating = json_object_get(root, "rerating");
    bool is_usage = weir_explain_is_usage(item);

    print_item(item);
    if (json_is_object(rerating))
        print_rerating(rerating, strcmp(weir_explain_text(item, "kind"), "reversal") == 0);
    if (!json_is_object(rerating) || *weir_explain_text(rerating, "recount"))
        print_price(root);
    if (arithmetic && is_usage)
        print_usage_arithmetic(arithmetic, item);
    else if (arithmetic)
        print_period_arithmetic(arithmetic);
    print_period(root);
    print_revisions(root);
    if (is_usage)
        print_lanes(root);
}

void weir_explain_print(const struct weir_explain *explain)
{
    if (explain->settings.format[0] == 'j') {
        json_dumpf(explain->root, stdout, JSON_INDENT(2));
        putchar('\n');
        return;
    }
    json_t *root = shown(explain->root);
    print(root);
    json_decref(root);
}
