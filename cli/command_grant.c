/* `weir grant`, `weir void`, `weir refund`: prepaid amounts beside the catalog's, and the end of any before its time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/commands.h"
#include "cli/listing.h"
#include "cli/time_option.h"
#include "common/actor.h"
#include "common/calendar.h"
#include "common/log.h"
#include "common/settings.h"
#include "rater/apply.h"
#include "rater/calendars.h"
#include "rater/orders.h"

enum { ATTEMPTS = 10, PAUSE = 100 * 1000 * 1000 };

static const struct weir_usage grant_usage = {
    .command = WEIR_COMMAND_GRANT,
    .name = "weir grant",
    .arguments = "--customer C --key KEY (--amount A --funding F | --package P) --reason WHY [OPTIONS]",
    .purpose =
        "Grants a customer an amount that its usage is drawn from, beside those of the catalog: now, or within a time\n"
        "of its own, also one that has begun, whose usage is then drawn anew. KEY is the grant's name for good: the\n"
        "same command again does nothing. What is bought is charged at once (docs/credits.md).",
    .example = "weir grant --customer acme --key sorry-4711 --amount 25 --funding promotional --reason 'outage, 4711' "
               "--expires-at 2027-01-01",
};

static const struct weir_usage void_usage = {
    .command = WEIR_COMMAND_VOID,
    .name = "weir void",
    .arguments = "--customer C --key KEY --reason WHY [OPTIONS]",
    .purpose =
        "Ends a grant before it expires: usage from then on is not drawn from it, and what is left is lost. Usage of\n"
        "before stays drawn, also where it comes late; with --at when it started nothing does. The same command again\n"
        "does nothing (docs/credits.md).",
    .example = "weir void --customer acme --key sorry-4711 --reason 'granted to the wrong customer'",
};

static const struct weir_usage refund_usage = {
    .command = WEIR_COMMAND_REFUND,
    .name = "weir refund",
    .arguments = "--customer C --key KEY --reason WHY [OPTIONS]",
    .purpose =
        "Ends a grant as weir void does, and gives back the part of its price that what is left is of its amount: a\n"
        "line item of kind fee below zero. The same command again does nothing (docs/credits.md).",
    .example = "weir refund --customer acme --key package-2026 --reason 'cancelled, ticket 4712'",
};

/* 1. words into numbers; each answers what is wrong, or NULL */

static bool read_time(const char *text, int64_t fallback, int64_t *ret_time)
{
    return weir_time_option(text, fallback, ret_time) && (!*text || *ret_time % 1000 == 0);
}

static bool read_decimal(const char *text, struct weir_decimal fallback, struct weir_decimal *ret_value)
{
    *ret_value = fallback;
    return !*text || (weir_decimal_parse(weir_slice_text(text), ret_value) == WEIR_DECIMAL_OK && ret_value->e12 >= 0);
}

static const char *read_places(const struct weir_settings *settings)
{
    const struct {
        const char *text, *wrong;
    } decimals[] = {
        {settings->amount, "--amount has more than 12 decimal places"},
        {settings->price, "--price has more than 12 decimal places"},
        {settings->overage_multiplier, "--overage-multiplier has more than 12 decimal places"},
        {settings->rollover_fraction, "--rollover-fraction has more than 12 decimal places"},
    };
    struct weir_decimal value;

    for (size_t i = 0; i < sizeof decimals / sizeof *decimals; i++)
        if (weir_decimal_parse(weir_slice_text(decimals[i].text), &value) == WEIR_DECIMAL_PRECISION)
            return decimals[i].wrong;
    return NULL;
}

static bool is_key(const char *text)
{
    size_t length = strlen(text);

    return length > 0 && length <= WEIR_KEY_MAX
           && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == length;
}

/* A list with commas, sorted, each once: into meters, which is the caller's to free. */
static const char *read_meters(const char *text, struct weir_commitment *grant)
{
    if (!*text)
        return NULL;
    grant->meters = weir_new_array(strlen(text) + 1, sizeof *grant->meters);
    for (const char *start = text; start;) {
        size_t length = strcspn(start, ",");
        struct weir_slice key = weir_slice_of(start, length);
        uint32_t at = grant->meter_count++;
        for (; at > 0 && weir_slice_compare(grant->meters[at - 1], key) > 0; at--)
            grant->meters[at] = grant->meters[at - 1];
        grant->meters[at] = key;
        if (length == 0 || (at > 0 && weir_slice_equal(grant->meters[at - 1], key)))
            return "--meters needs keys of meters with commas between them, each once";
        start = start[length] ? start + length + 1 : NULL;
    }
    return NULL;
}

/* A list with commas, each once: into low_balance, whose list is the caller's to free. */
static const char *read_low_balance(const char *text, struct weir_thresholds *ret_thresholds)
{
    struct weir_threshold threshold;

    if (!*text)
        return NULL;
    ret_thresholds->list = weir_new_array(WEIR_THRESHOLDS_MAX, sizeof *ret_thresholds->list);
    for (const char *start = text; start;) {
        size_t length = strcspn(start, ",");
        if (ret_thresholds->count == WEIR_THRESHOLDS_MAX
            || weir_threshold_parse(weir_slice_of(start, length), &threshold) != WEIR_DECIMAL_OK
            || !weir_thresholds_add(ret_thresholds, &threshold))
            return "--low-balance needs up to 16 amounts, or percentages below 100 of --amount, with commas between "
                   "them, each once: 20%,50,0";
        start = start[length] ? start + length + 1 : NULL;
    }
    return NULL;
}

/* What is bought as a package: what it amounts to and costs the contract says. */
static const char *read_package(const struct weir_settings *settings, struct weir_commitment *grant)
{
    grant->funding = WEIR_FUNDING_PAID;
    grant->package = weir_slice_text(settings->package);
    if (!is_key(settings->package))
        return "--package needs a key: up to 64 letters, digits, '.', '_' and '-'";
    if (*settings->price || (*settings->funding && strcmp(settings->funding, "paid") != 0))
        return "--package says the price, and is paid: leave --price and --funding out";
    if (*settings->amount && *settings->quantity)
        return "--package needs --amount or --quantity, not both";
    if (*settings->amount && (!read_decimal(settings->amount, grant->amount, &grant->amount) || grant->amount.e12 == 0))
        return "--amount must be a decimal number above 0";
    if (*settings->quantity && !weir_package_count_parse(weir_slice_text(settings->quantity), &grant->package_count))
        return "--quantity must be a whole number, 1 to 999999";
    return NULL;
}

static const char *read_said_price(const struct weir_settings *settings, struct weir_commitment *grant)
{
    const struct weir_decimal none = {0};
    unsigned funding = 0;

    if (*settings->quantity)
        return "--quantity needs a --package";
    while (funding < WEIR_FUNDING_COUNT && strcmp(settings->funding, weir_funding_name[funding]) != 0)
        funding++;
    if (funding == WEIR_FUNDING_COUNT)
        return "--funding must be free, promotional or paid";
    grant->funding = (enum weir_funding)funding;
    if (!*settings->amount || !read_decimal(settings->amount, none, &grant->amount) || grant->amount.e12 == 0)
        return "--amount must be a decimal number above 0";
    if (!read_decimal(settings->price, funding == WEIR_FUNDING_PAID ? grant->amount : none, &grant->price))
        return "--price must be a decimal number from 0";
    if (funding != WEIR_FUNDING_PAID && grant->price.e12 != 0)
        return "--price is for --funding paid: what is free or promotional costs nothing";
    return NULL;
}

static const char *read_money(const struct weir_settings *settings, struct weir_commitment *grant)
{
    const char *why = read_places(settings);

    if (!why)
        why = *settings->package ? read_package(settings, grant) : read_said_price(settings, grant);

    if (why)
        return why;
    if (!read_decimal(settings->overage_multiplier, weir_decimal_of(1), &grant->overage_multiplier))
        return "--overage-multiplier must be a decimal number from 0";
    grant->priority = settings->priority;
    return NULL;
}

static const char *read_span(const struct weir_settings *settings, struct weir_commitment *grant)
{
    if (!read_time(settings->starts_at, WEIR_ORDER_NOT_SAID, &grant->starts_at)
        || !read_time(settings->expires_at, WEIR_TIME_NEVER, &grant->expires_at)
        || !read_time(settings->rollover_expires_at, WEIR_TIME_NEVER, &grant->rollover_expires_at))
        return "--starts-at, --expires-at and --rollover-expires-at need a day or an instant, to the microsecond at "
               "most: 2026-01-31 or 2026-01-31T12:00:00Z";
    if (!read_decimal(settings->rollover_fraction, (struct weir_decimal){0}, &grant->rollover_fraction)
        || weir_decimal_compare(grant->rollover_fraction, weir_decimal_of(1)) > 0)
        return "--rollover-fraction must be a decimal number from 0 to 1";
    if (weir_decimal_is_zero(grant->rollover_fraction))
        return *settings->rollover_expires_at ? "--rollover-expires-at needs a --rollover-fraction above 0" : NULL;
    if (grant->expires_at == WEIR_TIME_NEVER || !*settings->rollover_expires_at)
        return "--rollover-fraction needs --expires-at, and --rollover-expires-at after it";
    return grant->rollover_expires_at > grant->expires_at ? NULL : "--rollover-expires-at must be after --expires-at";
}

static const char *read_request(const struct weir_settings *settings, struct weir_order_request *request)
{
    bool is_grant = request->kind == WEIR_ORDER_GRANT;

    if (!*settings->customer || !*settings->reason)
        return "--customer and --reason are needed";
    if (is_grant && strlen(settings->customer) > WEIR_IDENTIFIER_MAX)
        return "--customer is longer than 256 bytes: no event can be of that customer";
    if (is_grant ? !is_key(settings->key) : !*settings->key)
        return "--key is needed: up to 64 letters, digits, '.', '_' and '-'";
    request->grant.key = weir_slice_text(settings->key);
    if (!is_grant)
        return read_time(settings->at, WEIR_ORDER_NOT_SAID, &request->at)
                   ? NULL
                   : "--at needs a day or an instant, to the microsecond at most: 2026-01-31 or 2026-01-31T12:00:00Z";
    const char *why = read_money(settings, &request->grant);
    if (!why)
        why = read_span(settings, &request->grant);
    if (!why)
        why = read_low_balance(settings->low_balance, &request->grant.low_balance);
    return why ? why : read_meters(settings->meters, &request->grant);
}

/* 2. carrying it out */

static enum weir_status try_order(const struct weir_settings *settings, const struct weir_catalog *catalog,
                                  const struct weir_order_request *request, struct weir_order_result *ret_result,
                                  struct weir_error *reterr)
{
    struct weir_ledger *ledger = NULL;
    enum weir_status status = weir_ledger_postgres_open(settings->postgres_url, &ledger, reterr);

    if (status != WEIR_OK)
        return status;
    struct weir_rater *rater = weir_rater_new(catalog, ledger);
    status = weir_rater_order(rater, request, ret_result, reterr);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    return status;
}

/* Usage under the customer's contract that is to come is not drawn from it: often a day that begins sooner in UTC. */
static void warn_of_default_contract(const struct weir_catalog *catalog, const struct weir_order_request *request)
{
    int64_t starts_at = request->grant.starts_at == WEIR_ORDER_NOT_SAID ? request->now : request->grant.starts_at;
    char at[WEIR_TIME_TEXT_MAX], contract_starts[WEIR_TIME_TEXT_MAX];

    for (uint32_t i = 0; i < catalog->contract_count; i++) {
        const struct weir_contract *contract = &catalog->contracts[i];
        if (!weir_slice_equal(contract->customer, request->customer) || contract->whole_starts_at <= starts_at)
            continue;
        weir_time_format(starts_at, at);
        weir_time_format(contract->whole_starts_at, contract_starts);
        weir_log(WEIR_LOG_WARN,
                 "weir grant: it is for usage under the default contract, in which the customer is when it starts, %s; "
                 "contract '%.*s' starts %s",
                 at, (int)contract->key.length, contract->key.data, contract_starts);
        return;
    }
}

static enum weir_status order(const struct weir_settings *settings, const struct weir_order_request *request,
                              struct weir_order_result *ret_result, struct weir_error *reterr)
{
    struct weir_catalog *catalog = NULL;
    enum weir_status status = weir_apply_load_catalog(settings->postgres_url, &catalog, reterr);

    if (status == WEIR_OK)
        status = weir_calendars_open(settings->postgres_url, catalog, false, reterr);
    if (status == WEIR_OK)
        status = try_order(settings, catalog, request, ret_result, reterr);
    /* A transaction that the server broke off (a deadlock) left nothing, or all: once more. */
    for (int i = 1; i < ATTEMPTS && status == WEIR_RETRY; i++) {
        nanosleep(&(struct timespec){.tv_nsec = PAUSE}, NULL);
        status = try_order(settings, catalog, request, ret_result, reterr);
    }
    if (status == WEIR_OK && request->kind == WEIR_ORDER_GRANT && ret_result->was_made && !*ret_result->contract)
        warn_of_default_contract(catalog, request);
    weir_catalog_free(catalog);
    return status;
}

static const struct weir_column columns[] = {
    {"customer", WEIR_CELL_TEXT, false},     {"contract", WEIR_CELL_TEXT, false},
    {"grant", WEIR_CELL_TEXT, false},        {"done", WEIR_CELL_TEXT, false},
    {"balance", WEIR_CELL_DECIMAL, false},   {"charged", WEIR_CELL_DECIMAL, false},
    {"line_items", WEIR_CELL_NUMBER, false},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

static bool show(const struct weir_settings *settings, const struct weir_order_request *request,
                 const struct weir_order_result *result)
{
    struct weir_listing listing = weir_listing_begin(settings->format, columns, COLUMNS);
    char left[WEIR_DECIMAL_TEXT_MAX], charged[WEIR_DECIMAL_TEXT_MAX], items[24];

    (void)snprintf(items, sizeof items, "%" PRIu64, result->line_items);
    weir_decimal_format(result->left, left);
    weir_decimal_format(result->charged, charged);
    const struct weir_slice cells[COLUMNS] = {
        request->customer,      weir_slice_text(result->contract),
        request->grant.key,     weir_slice_text(!result->was_made ? "before" : request->is_dry ? "not yet" : "now"),
        weir_slice_text(left),  weir_slice_text(charged),
        weir_slice_text(items),
    };
    weir_listing_add(&listing, cells);
    return weir_listing_end(&listing, true);
}

static int run(const struct weir_usage *usage, enum weir_order_kind kind, int argc, char **argv)
{
    struct weir_settings settings;
    struct weir_error error = {{0}};
    struct weir_order_result result;
    char by[WEIR_ACTOR_MAX];
    int parsed = weir_settings_load(usage, argc, argv, &settings);

    if (parsed >= 0)
        return parsed;
    int64_t now = weir_time_now();
    struct weir_order_request request = {
        .kind = kind,
        .customer = weir_slice_text(settings.customer),
        .contract = weir_slice_text(settings.contract),
        .now = now - now % 1000,
        .reason = settings.reason,
        .by = weir_actor(by),
        .is_dry = settings.dry_run,
    };
    const char *why = read_request(&settings, &request);
    enum weir_status status = WEIR_REJECT;
    if (why) {
        weir_log_plain(WEIR_LOG_ERROR, "%s", why);
    } else {
        status = order(&settings, &request, &result, &error);
        if (status == WEIR_OK && !show(&settings, &request, &result))
            status = weir_fail(&error, WEIR_FATAL, "what was done cannot be written; it is done");
        if (status != WEIR_OK)
            weir_log(WEIR_LOG_ERROR, "%s", error.text);
    }
    free(request.grant.meters);
    free(request.grant.low_balance.list);
    weir_settings_free(&settings);
    return status == WEIR_OK ? WEIR_EXIT_DONE : status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}

int weir_command_grant(int argc, char **argv)
{
    return run(&grant_usage, WEIR_ORDER_GRANT, argc, argv);
}

int weir_command_void(int argc, char **argv)
{
    return run(&void_usage, WEIR_ORDER_VOID, argc, argv);
}

int weir_command_refund(int argc, char **argv)
{
    return run(&refund_usage, WEIR_ORDER_REFUND, argc, argv);
}
