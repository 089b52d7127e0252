#include "common/settings.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/calendar.h"
#include "common/json_file.h"
#include "common/log.h"
#include "common/status.h"

enum type { TEXT, WHOLE, DURATION, SWITCH, FORMAT, ROW_FORMAT, REPORT_FORMAT, INVOICE_FORMAT, LOG_FORMAT, LOG_LEVEL };

struct row {
    const char *name;
    enum type type;
    unsigned commands;
    const char *fallback;
    int64_t min, max;
    size_t offset;
    const char *help;
};

#define AT(field) offsetof(struct weir_settings, field)
/* Lanes are named after the topic: also for those who never speak to Kafka. */
#define TOPIC (KAFKA | WEIR_COMMAND_RATER | WEIR_COMMAND_RELEASE | WEIR_COMMAND_BALANCE)
#define KAFKA (CONSUMING | WEIR_COMMAND_PRODUCE)
/* All of these consume under the group's name, for which brokers may have rules, also where they join none. */
#define CONSUMING                                                                                                      \
    (WEIR_COMMAND_INGEST | WEIR_COMMAND_RECONCILE | WEIR_COMMAND_EXPLAIN | WEIR_COMMAND_ADMIT | WEIR_COMMAND_RECOUNT)
#define POSTGRES                                                                                                       \
    (WEIR_COMMAND_RATER | WEIR_COMMAND_RECONCILE | WEIR_COMMAND_MIGRATE | WEIR_COMMAND_APPLY | WEIR_COMMAND_EXPLAIN    \
     | WEIR_COMMAND_ADMIT | WEIR_COMMAND_RELEASE | WEIR_COMMAND_AUDIT | RERATING | INVOICING | WEIR_COMMAND_REVENUE    \
     | ORDERING | WEIR_COMMAND_BALANCE | WEIR_COMMAND_RECOUNT)
#define ORDERING (WEIR_COMMAND_GRANT | WEIR_COMMAND_VOID | WEIR_COMMAND_REFUND)
#define INVOICING (WEIR_COMMAND_CLOSE | WEIR_COMMAND_INVOICE)
#define RERATING (WEIR_COMMAND_RERATE | WEIR_COMMAND_BACKTEST)
#define STORE                                                                                                          \
    (WEIR_COMMAND_INGEST | WEIR_COMMAND_RATER | WEIR_COMMAND_RECONCILE | WEIR_COMMAND_EXPLAIN | WEIR_COMMAND_ADMIT     \
     | WEIR_COMMAND_RECOUNT | WEIR_COMMAND_BALANCE)
#define CATALOG                                                                                                        \
    (WEIR_COMMAND_INGEST | WEIR_COMMAND_RATER | WEIR_COMMAND_RECONCILE | WEIR_COMMAND_APPLY | WEIR_COMMAND_ADMIT       \
     | WEIR_COMMAND_BACKTEST | WEIR_COMMAND_RECOUNT)

/* Usage of contracts that run for years may come late by as much. */
#define TEN_YEARS (87600 * WEIR_HOUR)

static const struct row rows[] = {
    {"kafka.brokers", TEXT, KAFKA, "127.0.0.1:9092", 0, 0, AT(kafka_brokers), "bootstrap brokers, host:port,..."},
    {"kafka.topic", TEXT, TOPIC, "events", 0, 0, AT(kafka_topic), "topic of usage events"},
    {"kafka.group", TEXT, CONSUMING, "weir", 0, 0, AT(kafka_group), "consumer group of the ingest workers"},
    {"quarantine.topic", TEXT, WEIR_COMMAND_INGEST | WEIR_COMMAND_EXPLAIN | WEIR_COMMAND_ADMIT | WEIR_COMMAND_RECOUNT,
     "", 0, 0, AT(quarantine_topic), "where events go that cannot be counted; empty: TOPIC.quarantine"},
    {"redis.url", TEXT, STORE, "redis://127.0.0.1:6379", 0, 0, AT(redis_url),
     "window store: redis://[user:password@]host:port[,...][/db] or unix:///path"},
    {"postgres.url", TEXT, POSTGRES | WEIR_COMMAND_INGEST, "postgresql:///weir", 0, 0, AT(postgres_url),
     "ledger: any libpq connection string"},
    {"catalog", TEXT, CATALOG, "", 0, 0, AT(catalog), "folder of JSON files or one file; empty: the one applied last"},
    {"lateness", DURATION, WEIR_COMMAND_INGEST | WEIR_COMMAND_RECOUNT, "24h", 0, TEN_YEARS, AT(lateness),
     "how late an event is accepted, in event time"},
    {"disorder", DURATION, WEIR_COMMAND_INGEST | WEIR_COMMAND_RECOUNT, "10s", 0, 9500 * WEIR_HOUR, AT(disorder),
     "how far the watermark stays behind the highest event time"},
    {"max_future", DURATION, WEIR_COMMAND_INGEST | WEIR_COMMAND_ADMIT | WEIR_COMMAND_RECOUNT, "5m", 0, 9500 * WEIR_HOUR,
     AT(max_future), "how far ahead of the clock an event may be"},
    {"id_retention", DURATION, WEIR_COMMAND_INGEST | WEIR_COMMAND_RECOUNT, "0s", 0, TEN_YEARS, AT(id_retention),
     "how long ids are remembered; 0s: as long as lateness, and never shorter"},
    {"idle", DURATION, WEIR_COMMAND_INGEST, "10s", WEIR_SECOND / 10, WEIR_DAY, AT(idle),
     "a lane without events and caught up follows the wall clock after this"},
    {"flush_interval", DURATION, WEIR_COMMAND_INGEST, "200ms", WEIR_SECOND / 100, WEIR_MINUTE, AT(flush_interval),
     "how often a lane's changes go to the window store"},
    {"lane_windows_max", WHOLE, WEIR_COMMAND_INGEST | WEIR_COMMAND_ADMIT | WEIR_COMMAND_RECOUNT, "4000000", 1000,
     4000000000, AT(lane_windows_max), "windows that a worker's lanes hold in memory (200 bytes, at times 300)"},
    {"lane_ids_max", WHOLE, WEIR_COMMAND_INGEST | WEIR_COMMAND_ADMIT | WEIR_COMMAND_RECOUNT, "40000000", 1000,
     4000000000, AT(lane_ids_max), "ids, and values of unique meters, in memory (an id: at most 16 bytes)"},
    {"ring_cuts", WHOLE, WEIR_COMMAND_INGEST, "8", 1, 64, AT(ring_cuts),
     "cuts under way to the window store before partitions are paused"},
    {"lane_changes_max", WHOLE, WEIR_COMMAND_INGEST, "262144", 1000, 100000000, AT(lane_changes_max),
     "changes of a lane that wait for a free cut before it is paused"},
    {"hand_over", DURATION, WEIR_COMMAND_INGEST, "20s", WEIR_SECOND / 10, 10 * WEIR_MINUTE, AT(hand_over),
     "how long a stopping worker tries to write its last cuts"},
    {"ingest.threads", WHOLE, WEIR_COMMAND_INGEST, "1", 1, 32, AT(ingest_threads),
     "threads, each a member of the group: as many as cores, or as partitions"},
    {"rater.batch", WHOLE, WEIR_COMMAND_RATER | WEIR_COMMAND_RECOUNT, "20000", 1, 1000000, AT(rater_batch),
     "windows per transaction"},
    {"rater.threads", WHOLE, WEIR_COMMAND_RATER, "2", 1, 16, AT(rater_threads),
     "transactions at once, each with a connection and customers of its own"},
    {"rater.interval", DURATION, WEIR_COMMAND_RATER, "200ms", WEIR_SECOND / 100, WEIR_HOUR, AT(rater_interval),
     "how often the lists of work are looked at"},
    {"patience", DURATION, WEIR_COMMAND_INGEST | WEIR_COMMAND_RATER | WEIR_COMMAND_ADMIT, "60s", WEIR_SECOND, WEIR_DAY,
     AT(patience), "how long --until-end and --until-done wait for a server that is away"},
    /* Two rows of one setting: the two daemons of one machine must not want one port. */
    {"metrics.listen", TEXT, WEIR_COMMAND_RATER, "127.0.0.1:9465", 0, 0, AT(metrics_listen),
     "host:port of /metrics, /healthz and /readyz of weir rater"},
    {"metrics.listen", TEXT, WEIR_COMMAND_INGEST, "127.0.0.1:9464", 0, 0, AT(metrics_listen),
     "host:port of /metrics, /healthz, /readyz; port 0: any free one; off: none"},
    {"log.format", LOG_FORMAT, WEIR_COMMAND_ANY, "text", 0, 0, AT(log_format), "text or json"},
    {"log.level", LOG_LEVEL, WEIR_COMMAND_ANY, "info", 0, 0, AT(log_level), "error, warn, info or debug"},
    {"until_end", SWITCH, WEIR_COMMAND_INGEST, "false", 0, 0, AT(until_end),
     "stop, flushed, at the offsets that were the end at the start"},
    {"until_done", SWITCH, WEIR_COMMAND_RATER, "false", 0, 0, AT(until_done),
     "stop when nothing closed is left to rate"},
    {"lane", TEXT, WEIR_COMMAND_RELEASE, "", 0, 0, AT(lane),
     "the lane whose gaps are released, or that ended, such as events:3"},
    {"gap", WHOLE, WEIR_COMMAND_RELEASE, "0", 0, INT64_MAX, AT(gap), "number of one gap"},
    {"all", SWITCH, WEIR_COMMAND_RELEASE, "false", 0, 0, AT(all), "all open gaps of the lane"},
    {"reason", TEXT,
     WEIR_COMMAND_RELEASE | WEIR_COMMAND_RERATE | WEIR_COMMAND_RECOUNT | WEIR_COMMAND_INVOICE | ORDERING, "", 0, 0,
     AT(reason), "why; it is kept"},
    {"lower", SWITCH, WEIR_COMMAND_RELEASE, "false", 0, 0, AT(lower),
     "what was rebuilt replaces what was rated, even where it is less"},
    {"end", SWITCH, WEIR_COMMAND_RELEASE, "false", 0, 0, AT(end),
     "the lane is gone for good: nothing waits for it any more"},
    {"dry_run", SWITCH,
     WEIR_COMMAND_MIGRATE | WEIR_COMMAND_APPLY | WEIR_COMMAND_RELEASE | WEIR_COMMAND_RERATE | WEIR_COMMAND_RECOUNT
         | WEIR_COMMAND_CLOSE | ORDERING,
     "false", 0, 0, AT(dry_run), "say what would be done, and do nothing"},
    {"roles", SWITCH, WEIR_COMMAND_MIGRATE, "false", 0, 0, AT(roles), "make weir's roles and give them their rights"},
    {"rerate", SWITCH, WEIR_COMMAND_APPLY, "false", 0, 0, AT(rerate),
     "store also what changes rated time; weir rerate is to follow"},
    {"repair", SWITCH, WEIR_COMMAND_RECONCILE, "false", 0, 0, AT(repair),
     "rate what differs and may be rated, as a rater would"},
    {"reason", TEXT, WEIR_COMMAND_ADMIT, "too_late", 0, 0, AT(reason),
     "events in quarantine for this reason; any: all"},
    {"lane", TEXT, WEIR_COMMAND_ADMIT, "", 0, 0, AT(lane), "events of this lane, TOPIC:PARTITION"},
    {"offset", TEXT, WEIR_COMMAND_ADMIT, "", 0, 0, AT(offset), "events at this offset, or A..B: from A to B"},
    {"id", TEXT, WEIR_COMMAND_ADMIT, "", 0, 0, AT(id), "the event with this identity, SOURCE/ID"},
    {"customer", TEXT, WEIR_COMMAND_ADMIT, "", 0, 0, AT(customer), "events of this customer"},
    {"unproved", SWITCH, WEIR_COMMAND_ADMIT, "false", 0, 0, AT(unproved),
     "admit also what nothing proves not to be counted already"},
    {"yes", SWITCH, WEIR_COMMAND_ADMIT, "false", 0, 0, AT(yes), "admit them; otherwise they are only listed"},
    {"no_events", SWITCH, WEIR_COMMAND_EXPLAIN, "false", 0, 0, AT(no_events),
     "leave the events in Kafka alone: the rest is told at once"},
    {"head", TEXT, WEIR_COMMAND_AUDIT, "", 0, 0, AT(head),
     "what an earlier verify ended with, ENTRY:HASH: it must still be in the log"},
    {"last", WHOLE, WEIR_COMMAND_AUDIT, "20", 1, 1000000, AT(last), "list: how many of the newest entries"},
    {"format", FORMAT, WEIR_COMMAND_RECONCILE | WEIR_COMMAND_EXPLAIN | WEIR_COMMAND_ADMIT | WEIR_COMMAND_AUDIT, "table",
     0, 0, AT(format), "table or json"},
    {"format", ROW_FORMAT, WEIR_COMMAND_CLOSE | WEIR_COMMAND_REVENUE | ORDERING | WEIR_COMMAND_BALANCE, "table", 0, 0,
     AT(format), "table, csv or json (an object a line)"},
    {"format", REPORT_FORMAT, WEIR_COMMAND_RECOUNT, "table", 0, 0, AT(format),
     "table, csv, json (an object a line); with --charges as of weir rerate, and html"},
    {"charges", SWITCH, WEIR_COMMAND_RECOUNT, "false", 0, 0, AT(charges),
     "with --dry-run: report in money, by customer and item"},
    {"format", INVOICE_FORMAT, WEIR_COMMAND_INVOICE, "table", 0, 0, AT(format),
     "list: table, csv or json; export: json, csv, focus or html"},
    {"through", TEXT, WEIR_COMMAND_CLOSE, "", 0, 0, AT(through),
     "periods that end by the end of this day, in each contract's time zone; or by this instant"},
    {"draft", SWITCH, WEIR_COMMAND_CLOSE, "false", 0, 0, AT(draft), "leave the invoices as drafts, without a number"},
    {"customer", TEXT, INVOICING | WEIR_COMMAND_REVENUE | WEIR_COMMAND_BALANCE, "", 0, 0, AT(customer),
     "this customer's alone"},
    {"month", TEXT, WEIR_COMMAND_REVENUE, "", 0, 0, AT(month), "this month alone, such as 2026-01"},
    {"close.grace", DURATION, WEIR_COMMAND_RATER, "0s", 0, TEN_YEARS, AT(close_grace),
     "raters make the invoices of periods that ended so long ago; 0s: none, weir close does it"},
    {"close.workers", WHOLE, WEIR_COMMAND_CLOSE | WEIR_COMMAND_RATER, "1", 1, 64, AT(close_workers),
     "customers closed at once, each on a connection of its own; with 1 numbers go by customer"},
    {"invoice.series", TEXT, INVOICING | WEIR_COMMAND_RATER, "INV", 0, 0, AT(invoice_series),
     "1 to 32 of A-Za-z0-9._/-, not ending in -CN: credit notes have SERIES-CN"},
    {"invoice.details", TEXT, WEIR_COMMAND_CLOSE | WEIR_COMMAND_RATER, "", 0, 0, AT(invoice_details),
     "JSON file: the seller, the customers' names and addresses, tax categories"},
    {"format", REPORT_FORMAT, RERATING, "table", 0, 0, AT(format), "table, csv, json or html"},
    {"from", TEXT, RERATING, "", 0, 0, AT(from),
     "usage from this time or day (UTC) on; its whole billing period is looked at"},
    {"to", TEXT, RERATING, "", 0, 0, AT(to), "usage before this time or day (UTC)"},
    {"customer", TEXT, RERATING, "", 0, 0, AT(customer), "usage of this customer"},
    {"meter", TEXT, RERATING, "", 0, 0, AT(meter), "usage of this meter; true-ups follow it"},
    {"contract", TEXT, RERATING, "", 0, 0, AT(contract), "billing periods of this contract, before or now"},
    {"price_book", TEXT, RERATING, "", 0, 0, AT(price_book),
     "billing periods that this price book charges in, before or now; KEY@VERSION: that version"},
    {"customer", TEXT, ORDERING, "", 0, 0, AT(customer), "whose it is"},
    {"contract", TEXT, ORDERING, "", 0, 0, AT(contract), "the contract whose usage it is for; empty: the one in force"},
    {"contract", TEXT, WEIR_COMMAND_BALANCE, "", 0, 0, AT(contract), "of this contract alone"},
    {"key", TEXT, ORDERING, "", 0, 0, AT(key), "the grant's name, on invoices too; with it nothing is done twice"},
    {"amount", TEXT, WEIR_COMMAND_GRANT, "", 0, 0, AT(amount), "how much there is to draw, in the contract's currency"},
    {"funding", TEXT, WEIR_COMMAND_GRANT, "", 0, 0, AT(funding), "free, promotional or paid"},
    {"price", TEXT, WEIR_COMMAND_GRANT, "", 0, 0, AT(price), "what it is bought for; empty: the amount"},
    {"package", TEXT, WEIR_COMMAND_GRANT, "", 0, 0, AT(package),
     "the package of its price book or contract that it is bought as, at its price; empty: none"},
    {"quantity", TEXT, WEIR_COMMAND_GRANT, "", 0, 0, AT(quantity), "how many packages that are bought whole; empty: 1"},
    {"priority", WHOLE, WEIR_COMMAND_GRANT, "0", -1000000000, 1000000000, AT(priority), "the lower is drawn first"},
    {"starts_at", TEXT, WEIR_COMMAND_GRANT, "", 0, 0, AT(starts_at),
     "usage of windows from this day (UTC) or instant on is drawn from it; empty: from now on"},
    {"expires_at", TEXT, WEIR_COMMAND_GRANT, "", 0, 0, AT(expires_at), "and of windows before this; empty: no end"},
    {"meters", TEXT, WEIR_COMMAND_GRANT, "", 0, 0, AT(meters), "usage of these meters alone, KEY,KEY; empty: of all"},
    {"overage_multiplier", TEXT, WEIR_COMMAND_GRANT, "", 0, 0, AT(overage_multiplier),
     "what usage costs, times the price, once nothing is left; empty: 1"},
    {"rollover_fraction", TEXT, WEIR_COMMAND_GRANT, "", 0, 0, AT(rollover_fraction),
     "which part of what is left at --expires-at goes on, up to 1; empty: none"},
    {"rollover_expires_at", TEXT, WEIR_COMMAND_GRANT, "", 0, 0, AT(rollover_expires_at), "when what goes on expires"},
    {"low_balance", TEXT, WEIR_COMMAND_GRANT, "", 0, 0, AT(low_balance),
     "what is left of it is told when it falls to one of these: amounts or percentages, 20%,0; empty: never"},
    {"at", TEXT, WEIR_COMMAND_VOID | WEIR_COMMAND_REFUND, "", 0, 0, AT(at),
     "usage from this day (UTC) or instant on is not drawn from it; empty: from now on"},
    {"at", TEXT, WEIR_COMMAND_BALANCE, "", 0, 0, AT(at), "as it was recorded by this instant"},
    {"entries", SWITCH, WEIR_COMMAND_BALANCE, "false", 0, 0, AT(entries), "every entry, instead of balances"},
    {"events", SWITCH, WEIR_COMMAND_BALANCE, "false", 0, 0, AT(events),
     "when balances fell to a threshold (low_balance), instead of balances"},
    {"projected", SWITCH, WEIR_COMMAND_BALANCE, "false", 0, 0, AT(projected),
     "with what windows in Redis that are not rated yet would draw by now"},
    {"after", WHOLE, WEIR_COMMAND_BALANCE, "0", 0, INT64_MAX, AT(after), "with --events, those after this number"},
    {"meter", TEXT, WEIR_COMMAND_RECOUNT, "", 0, 0, AT(meter), "the meter that is counted again"},
    {"from", TEXT, WEIR_COMMAND_RECOUNT, "", 0, 0, AT(from), "windows that start at this time or day (UTC), or later"},
    {"to", TEXT, WEIR_COMMAND_RECOUNT, "", 0, 0, AT(to), "windows that start before this time or day (UTC)"},
    {"customer", TEXT, WEIR_COMMAND_RECOUNT, "", 0, 0, AT(customer), "windows of this customer"},
    {"workers", WHOLE, RERATING, "2", 1, 64, AT(workers), "threads, each with a connection to PostgreSQL"},
};
enum { ROW_COUNT = sizeof rows / sizeof *rows };

/* 1. names */
enum { NAME_MAX_BYTES = 64 };

static void environment_name(const struct row *row, char name[NAME_MAX_BYTES])
{
    size_t at = (size_t)snprintf(name, NAME_MAX_BYTES, "WEIR_");

    for (const char *from = row->name; *from; from++)
        name[at++] = (char)(*from == '.' ? '_' : toupper((unsigned char)*from));
    name[at] = '\0';
}

static void flag_name(const struct row *row, char name[NAME_MAX_BYTES])
{
    size_t at = 0;

    for (const char *from = row->name; *from; from++)
        name[at++] = (char)(*from == '.' || *from == '_' ? '-' : *from);
    name[at] = '\0';
}

/* Edits between two short words; for "did you mean". */
static size_t distance(const char *a, const char *b)
{
    size_t previous[NAME_MAX_BYTES + 1], length = strlen(b);

    if (length > NAME_MAX_BYTES)
        return NAME_MAX_BYTES;
    for (size_t j = 0; j <= length; j++)
        previous[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = previous[0];
        previous[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t least = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = previous[j];
            if (previous[j] + 1 < least)
                least = previous[j] + 1;
            if (previous[j - 1] + 1 < least)
                least = previous[j - 1] + 1;
            previous[j] = least;
        }
    }
    return previous[length];
}

/* 2. values */
struct loading {
    const struct weir_usage *usage;
    struct weir_settings *settings;
    struct weir_arena *arena;
};

/* Says what is wrong with a value; `where` is the flag, the variable or the file's key. Answers false. */
static bool refuse(const struct loading *loading, const char *where, const char *found, const char *allowed)
{
    fprintf(stderr, "%s: %s: '%s' is not %s\n", loading->usage->name, where, found, allowed);
    return false;
}

static bool refuse_range(const struct loading *loading, const struct row *row, const char *where, const char *found)
{
    char low[WEIR_TIME_TEXT_MAX], high[WEIR_TIME_TEXT_MAX], allowed[128];

    if (row->type == DURATION) {
        weir_duration_format(row->min, low);
        weir_duration_format(row->max, high);
        snprintf(allowed, sizeof allowed, "a duration from %s to %s (ms, s, m, h, d)", low, high);
    } else {
        snprintf(allowed, sizeof allowed, "a whole number from %" PRId64 " to %" PRId64, row->min, row->max);
    }
    return refuse(loading, where, found, allowed);
}

static bool parse_whole(const char *text, int64_t *ret_value)
{
    char *end;

    if (!isdigit((unsigned char)*text) && *text != '-') /* strtoll would pass over white space and '+' */
        return false;
    errno = 0;
    *ret_value = strtoll(text, &end, 10);
    return end != text && *end == '\0' && errno == 0;
}

static bool set_row(const struct loading *loading, const struct row *row, const char *where, const char *value)
{
    void *field = (char *)loading->settings + row->offset;
    int64_t number = 0;
    bool is_level = false;

    switch (row->type) {
    case SWITCH:
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return refuse(loading, where, value, "true or false");
        *(bool *)field = value[0] == 't';
        return true;
    case WHOLE:
    case DURATION:
        if (!(row->type == WHOLE ? parse_whole(value, &number) : weir_duration_parse(weir_slice_text(value), &number))
            || number < row->min || number > row->max)
            return refuse_range(loading, row, where, value);
        *(int64_t *)field = number;
        return true;
    case FORMAT:
        if (strcmp(value, "table") != 0 && strcmp(value, "json") != 0)
            return refuse(loading, where, value, "table or json");
        break;
    case ROW_FORMAT:
        if (strcmp(value, "table") != 0 && strcmp(value, "csv") != 0 && strcmp(value, "json") != 0)
            return refuse(loading, where, value, "table, csv or json");
        break;
    case INVOICE_FORMAT:
        if (strcmp(value, "table") != 0 && strcmp(value, "csv") != 0 && strcmp(value, "json") != 0
            && strcmp(value, "html") != 0 && strcmp(value, "focus") != 0)
            return refuse(loading, where, value, "table, csv, json, focus or html");
        break;
    case REPORT_FORMAT:
        if (strcmp(value, "table") != 0 && strcmp(value, "csv") != 0 && strcmp(value, "json") != 0
            && strcmp(value, "html") != 0)
            return refuse(loading, where, value, "table, csv, json or html");
        break;
    case LOG_FORMAT:
        if (strcmp(value, "text") != 0 && strcmp(value, "json") != 0)
            return refuse(loading, where, value, "text or json");
        break;
    case LOG_LEVEL:
        for (int i = 0; i < WEIR_LOG_LEVEL_COUNT; i++)
            is_level = is_level || strcmp(value, weir_log_level_name[i]) == 0;
        if (!is_level)
            return refuse(loading, where, value, "error, warn, info or debug");
        break;
    case TEXT:
        break;
    }
    *(const char **)field = weir_arena_copy(loading->arena, value, strlen(value)).data;
    return true;
}

/* 3. the file */

/* Like one that a worker's thread is given: WEIR_THREAD_INSTANCE and a number at the end. */
static bool is_thread_instance(const char *value)
{
    size_t length = strlen(value), digits = 0, word = strlen(WEIR_THREAD_INSTANCE);

    while (digits < length && value[length - digits - 1] >= '0' && value[length - digits - 1] <= '9')
        digits++;
    return digits > 0 && length >= digits + word
           && memcmp(value + length - digits - word, WEIR_THREAD_INSTANCE, word) == 0;
}

static bool check_property(const struct loading *loading, const char *file, const char *name, const char *value)
{
    if (strcmp(name, "group.instance.id") != 0)
        return true;
    if (strlen(value) > WEIR_INSTANCE_MAX)
        fprintf(stderr, "%s: %s: kafka.properties.%s: a name of at most %d bytes\n", loading->usage->name, file, name,
                WEIR_INSTANCE_MAX);
    else if (is_thread_instance(value))
        fprintf(stderr,
                "%s: %s: kafka.properties.%s: a name that does not end in \"" WEIR_THREAD_INSTANCE
                "\" and a number, as those of a worker's threads do\n",
                loading->usage->name, file, name);
    else
        return true;
    return false;
}

/* Every mistake is told. */
static bool set_properties(const struct loading *loading, const char *file, json_t *object)
{
    struct weir_settings *settings = loading->settings;
    const char *name;
    json_t *value;
    bool is_good = true;

    json_object_foreach(object, name, value)
    {
        if (!json_is_string(value) || settings->kafka_property_count == WEIR_PROPERTIES_MAX) {
            fprintf(stderr, "%s: %s: kafka.properties.%s: a string is needed, and at most %d properties\n",
                    loading->usage->name, file, name, WEIR_PROPERTIES_MAX);
            is_good = false;
            continue;
        }
        is_good = check_property(loading, file, name, json_string_value(value)) && is_good;
        settings->kafka_properties[settings->kafka_property_count++] = (struct weir_setting_property){
            weir_arena_copy(loading->arena, name, strlen(name)).data,
            weir_arena_copy(loading->arena, json_string_value(value), json_string_length(value)).data};
    }
    return is_good;
}

/* The row that a value from the file or the environment is judged by: the command's own, else the first of this name.
 * NULL: commands that have it judge it differently (format), and it does not concern this one. False: no setting. */
static bool find_row(const struct weir_usage *usage, const char *name, const struct row **ret_row)
{
    const struct row *first = NULL;
    bool is_alike = true;

    for (int i = 0; i < ROW_COUNT; i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        if (rows[i].commands & usage->command) {
            *ret_row = &rows[i];
            return true;
        }
        first = first ? first : &rows[i];
        is_alike = is_alike && rows[i].type == first->type && rows[i].min == first->min && rows[i].max == first->max;
    }
    *ret_row = is_alike ? first : NULL;
    return first != NULL;
}

/* Whether settings stand below it. */
static bool is_group(const char *path)
{
    size_t length = strlen(path);
    bool is_one = strcmp(path, "kafka.properties") == 0;

    for (int i = 0; i < ROW_COUNT; i++)
        is_one = is_one || (strncmp(rows[i].name, path, length) == 0 && rows[i].name[length] == '.');
    return is_one;
}

static bool set_json(const struct loading *loading, const char *file, const char *path, json_t *value)
{
    char where[WEIR_SETTING_TEXT_MAX], number[32];
    const struct row *row;

    snprintf(where, sizeof where, "%s: %s", file, path);
    bool is_setting = find_row(loading->usage, path, &row);
    if (!is_setting && is_group(path)) {
        fprintf(stderr, "%s: %s: an object is needed\n", loading->usage->name, where);
        return false;
    }
    if (!is_setting) {
        fprintf(stderr, "%s: %s is not a setting; the README lists them\n", loading->usage->name, where);
        return false;
    }
    if (!row)
        return true;
    if (json_is_string(value))
        return set_row(loading, row, where, json_string_value(value));
    if (json_is_boolean(value) && row->type == SWITCH)
        return set_row(loading, row, where, json_is_true(value) ? "true" : "false");
    if (json_is_integer(value) && row->type == WHOLE) {
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return set_row(loading, row, where, number);
    }
    fprintf(stderr, "%s: %s: %s is needed\n", loading->usage->name, where,
            row->type == SWITCH  ? "true or false"
            : row->type == WHOLE ? "a whole number"
                                 : "a string");
    return false;
}

/* All of an object; every mistake is told. */
static bool set_object(const struct loading *loading, const char *file, const char *prefix, json_t *object)
{
    const char *name;
    json_t *value;
    bool is_good = true;

    json_object_foreach(object, name, value)
    {
        const char *path = weir_arena_print(loading->arena, "%s%s%s", prefix, *prefix ? "." : "", name);
        if (strcmp(path, "kafka.properties") == 0 && json_is_object(value))
            is_good = set_properties(loading, file, value) && is_good;
        else if (json_is_object(value) && !*prefix)
            is_good = set_object(loading, file, path, value) && is_good;
        else
            is_good = set_json(loading, file, path, value) && is_good;
    }
    return is_good;
}

static bool set_file(const struct loading *loading, const char *file)
{
    char mistake[WEIR_JSON_FILE_MISTAKE_MAX];
    json_t *root = weir_json_file_read(file, mistake);
    bool is_good = json_is_object(root);

    if (!root)
        fprintf(stderr, "%s: %s\n", loading->usage->name, mistake);
    else if (!is_good)
        fprintf(stderr, "%s: %s: an object of settings is needed\n", loading->usage->name, file);
    else
        is_good = set_object(loading, file, "", root);
    json_decref(root);
    return is_good;
}

/* 4. flags and help */
static void print_help(const struct weir_usage *usage)
{
    char flag[NAME_MAX_BYTES], environment[NAME_MAX_BYTES];

    printf("usage: %s %s\n\n%s\n\noptions (also in the file of --config, and in the environment):\n", usage->name,
           usage->arguments, usage->purpose);
    for (int i = 0; i < ROW_COUNT; i++) {
        if (!(rows[i].commands & usage->command))
            continue;
        flag_name(&rows[i], flag);
        environment_name(&rows[i], environment);
        printf("  --%-20s %s\n", flag, rows[i].help);
        if (rows[i].type == SWITCH)
            continue;
        printf("    %-20s %s, default %s%s%s\n", "", environment, *rows[i].fallback ? "" : "(empty)", rows[i].fallback,
               "");
    }
    printf("  --%-20s JSON file of settings, nested by the dots of their names\n", "config FILE");
    printf("  --%-20s this text\n\nexample: %s\n", "help", usage->example);
}

static const struct row *find_flag(const struct weir_usage *usage, const char *name, size_t length)
{
    char flag[NAME_MAX_BYTES];

    for (int i = 0; i < ROW_COUNT; i++) {
        flag_name(&rows[i], flag);
        if ((rows[i].commands & usage->command) && strlen(flag) == length && strncmp(flag, name, length) == 0)
            return &rows[i];
    }
    return NULL;
}

static bool unknown_flag(const struct weir_usage *usage, const char *argument, size_t length)
{
    char flag[NAME_MAX_BYTES], best[NAME_MAX_BYTES] = "help", name[2 * NAME_MAX_BYTES];

    snprintf(name, sizeof name, "%.*s", (int)length, argument);
    for (int i = 0; i < ROW_COUNT; i++) {
        flag_name(&rows[i], flag);
        if ((rows[i].commands & usage->command) && distance(name, flag) < distance(name, best))
            memcpy(best, flag, sizeof best);
    }
    fprintf(stderr, "%s: --%s is not an option; did you mean --%s? `%s --help` lists them\n", usage->name, name, best,
            usage->name);
    return false;
}

/* One argument that begins with "--"; *at moves over its value. With settings NULL only --config is looked for. */
static bool take_flag(const struct loading *loading, int argc, char **argv, int *at, const char **ret_config)
{
    const char *name = argv[*at] + 2, *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    bool is_config = length == 6 && strncmp(name, "config", 6) == 0;
    const struct row *row = is_config ? NULL : find_flag(loading->usage, name, length);
    const char *value = equals ? equals + 1 : NULL;

    if (!is_config && !row)
        return unknown_flag(loading->usage, name, length);
    if (row && row->type == SWITCH && !value)
        value = "true";
    if (!value && *at + 1 < argc)
        value = argv[++*at];
    if (!value) {
        fprintf(stderr, "%s: --%s needs a value\n", loading->usage->name, name);
        return false;
    }
    if (is_config) {
        *ret_config = value;
        return true;
    }
    char where[NAME_MAX_BYTES + 2];
    snprintf(where, sizeof where, "--%.*s", (int)length, name);
    if (strcmp(row->name, "catalog") == 0)
        loading->settings->is_catalog_by_flag = true;
    return !loading->arena || set_row(loading, row, where, value);
}

/* Two passes: the file of --config comes before the environment, the other flags after it. */
static bool take_flags(const struct loading *loading, int argc, char **argv, const char **ret_config)
{
    struct weir_settings *settings = loading->settings;
    bool only_files = false;

    settings->argument_count = 0;
    for (int i = 1; i < argc; i++) {
        if (!only_files && strcmp(argv[i], "--") == 0)
            only_files = true;
        else if (!only_files && strncmp(argv[i], "--", 2) == 0) {
            if (!take_flag(loading, argc, argv, &i, ret_config))
                return false;
        } else if (loading->usage->takes_files)
            settings->arguments[settings->argument_count++] = argv[i];
        else {
            fprintf(stderr, "%s: '%s' is not expected here; `%s --help` shows how\n", loading->usage->name, argv[i],
                    loading->usage->name);
            return false;
        }
    }
    return true;
}

/* 5. all of it */

/* Numbers of it stand on invoices for good, and are read by other programs. */
static bool is_series(const char *text)
{
    size_t length = strlen(text), suffix = strlen(WEIR_CREDIT_NOTES);

    return length >= 1 && length <= WEIR_SERIES_MAX
           && strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-") == length
           && (length < suffix || strcmp(text + length - suffix, WEIR_CREDIT_NOTES) != 0);
}

/* Not with the other values: what other commands find in a file that they share does not stop them. */
static bool check_series(const struct loading *loading)
{
    const char *series = loading->settings->invoice_series;
    const struct row *row = find_flag(loading->usage, "invoice-series", strlen("invoice-series"));

    if (!row || is_series(series))
        return true;
    fprintf(stderr,
            "%s: %s: '%s' is not 1 to %d of A-Z a-z 0-9 . _ / -, without " WEIR_CREDIT_NOTES
            " at its end, which credit notes have. Numbers that were given in it stay; choose another series to go "
            "on in\n",
            loading->usage->name, row->name, series, WEIR_SERIES_MAX);
    return false;
}

static bool check_together(const struct loading *loading)
{
    struct weir_settings *settings = loading->settings;

    if (settings->id_retention == 0)
        settings->id_retention = settings->lateness;
    if (settings->id_retention >= settings->lateness)
        return true;
    fprintf(stderr,
            "%s: id_retention is shorter than lateness: a late resend could not be told from a new event. Raise "
            "id_retention or lower lateness\n",
            loading->usage->name);
    return false;
}

static bool load(const struct loading *loading, int argc, char **argv)
{
    struct loading look = {.usage = loading->usage, .settings = loading->settings};
    char name[NAME_MAX_BYTES];
    const char *config = NULL, *value;

    for (int i = 0; i < 2 * ROW_COUNT; i++) { /* every row, then the command's own, which win */
        const struct row *row = &rows[i % ROW_COUNT];
        if (i < ROW_COUNT || row->commands & loading->usage->command)
            weir_check(set_row(loading, row, row->name, row->fallback));
    }
    if (!take_flags(&look, argc, argv, &config) || (config && !set_file(loading, config)))
        return false;
    for (int i = 0; i < ROW_COUNT; i++) {
        const struct row *row;
        environment_name(&rows[i], name);
        if ((value = getenv(name)) && find_row(loading->usage, rows[i].name, &row) && row
            && !set_row(loading, row, name, value))
            return false;
    }
    return take_flags(loading, argc, argv, &config) && check_together(loading) && check_series(loading);
}

int weir_settings_load(const struct weir_usage *usage, int argc, char **argv, struct weir_settings *ret_settings)
{
    struct weir_settings settings = {.owned = weir_arena_new()};
    struct loading loading = {usage, &settings, settings.owned};

    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(usage);
            weir_settings_free(&settings);
            return 0;
        }
    settings.arguments = weir_arena_take_array(settings.owned, (size_t)argc + 1, sizeof *settings.arguments);
    if (!load(&loading, argc, argv)) {
        weir_settings_free(&settings);
        return 2;
    }
    enum weir_log_level level = WEIR_LOG_ERROR;
    while (strcmp(settings.log_level, weir_log_level_name[level]) != 0)
        level++;
    weir_log_open(usage->name, settings.log_format[0] == 'j', level);
    *ret_settings = settings;
    return -1;
}

void weir_settings_free(struct weir_settings *settings)
{
    weir_arena_free(settings->owned);
    *settings = (struct weir_settings){0};
}

void weir_settings_describe(FILE *output)
{
    char environment[NAME_MAX_BYTES];

    fputs("| setting | environment | default | what it is |\n|---|---|---|---|\n", output);
    for (int i = 0; i < ROW_COUNT; i++) {
        environment_name(&rows[i], environment);
        fprintf(output, "| `%s` | `%s` | `%s` | %s |\n", rows[i].name, environment, rows[i].fallback, rows[i].help);
    }
}

const char *weir_url_redact(const char *url, char text[WEIR_SETTING_TEXT_MAX])
{
    const char *user = strstr(url, "://");
    const char *colon = user ? strchr(user + 3, ':') : NULL;
    const char *at = strrchr(url, '@'); /* the last: a password may hold one */
    const char *key;

    if (at && colon && colon < at)
        snprintf(text, WEIR_SETTING_TEXT_MAX, "%.*s:***%s", (int)(colon - url), url, at);
    else
        snprintf(text, WEIR_SETTING_TEXT_MAX, "%s", url);
    /* "password=..." of a query or of libpq's key=value form may be quoted and spaced in many ways: nothing after it is
     * shown. */
    key = strstr(text, "password");
    if (key && strchr(key, '='))
        snprintf(text + (key - text), WEIR_SETTING_TEXT_MAX - (size_t)(key - text), "password=***");
    return text;
}
