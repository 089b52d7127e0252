/* The settings of all commands: one table says name, default, limits and help, and the parser, --help and the README's
 * table read the same rows.
 *
 * Sources, each overriding the one before: the table's defaults, the file of --config (JSON, nested by the dots of the
 * names), the environment (WEIR_ and the name in capitals, dots as underscores), flags (-- and the name, dots and
 * underscores as dashes).
 */
#ifndef WEIR_COMMON_SETTINGS_H
#define WEIR_COMMON_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { WEIR_PROPERTIES_MAX = 128, WEIR_SETTING_TEXT_MAX = 4096 };

/* What is behind a worker's group.instance.id in those of its further threads, before their number. No worker's own may
 * end so: then two members of a group never have one name, whatever the workers are called. */
#define WEIR_THREAD_INSTANCE ".thread-"
enum { WEIR_INSTANCE_MAX = 239 }; /* bytes of a worker's; Kafka has room for 249 with what is behind it */

/* Bytes of invoice.series: 1 to so many of A-Z, a-z, 0-9, '.', '_', '/' and '-'. It does not end in WEIR_CREDIT_NOTES,
 * which makes the series of its credit notes out of it. */
enum { WEIR_SERIES_MAX = 32 };
#define WEIR_CREDIT_NOTES "-CN"

/* Which commands a row is for; a flag elsewhere is unknown. In the file and the environment every row is known to all,
 * and judged by the command's own row where there are several of a name; what other commands judge differently, as
 * `format`, is left to them. */
enum weir_command {
    WEIR_COMMAND_INGEST = 1,
    WEIR_COMMAND_RATER = 2,
    WEIR_COMMAND_PRODUCE = 4,
    WEIR_COMMAND_RECONCILE = 8,
    WEIR_COMMAND_MIGRATE = 16,
    WEIR_COMMAND_APPLY = 32,
    WEIR_COMMAND_EXPLAIN = 64,
    WEIR_COMMAND_ADMIT = 128,
    WEIR_COMMAND_AUDIT = 256,
    WEIR_COMMAND_RELEASE = 512,
    WEIR_COMMAND_RERATE = 1024,
    WEIR_COMMAND_BACKTEST = 2048,
    WEIR_COMMAND_CLOSE = 4096,
    WEIR_COMMAND_INVOICE = 8192,
    WEIR_COMMAND_REVENUE = 16384,
    WEIR_COMMAND_GRANT = 32768,
    WEIR_COMMAND_VOID = 65536,
    WEIR_COMMAND_REFUND = 131072,
    WEIR_COMMAND_BALANCE = 262144,
    WEIR_COMMAND_RECOUNT = 524288,
    WEIR_COMMAND_ANY = 1048575,
};

/* Passed through to librdkafka. */
struct weir_setting_property {
    const char *name;
    const char *value;
};

/* Texts live until weir_settings_free. Durations are ns. */
struct weir_settings {
    const char *kafka_brokers, *kafka_topic, *kafka_group;
    struct weir_setting_property kafka_properties[WEIR_PROPERTIES_MAX];
    size_t kafka_property_count;
    const char *quarantine_topic; /* "": <topic>.quarantine */
    const char *redis_url, *postgres_url;
    const char *catalog;     /* "": not given */
    bool is_catalog_by_flag; /* it was said with this command, not once for all */
    int64_t lateness, disorder, max_future, id_retention, idle, flush_interval, rater_interval, patience, close_grace;
    int64_t lane_windows_max, lane_ids_max, lane_changes_max, ring_cuts, hand_over, rater_batch, rater_threads;
    int64_t ingest_threads;
    const char *metrics_listen; /* "HOST:PORT", "off" */
    const char *log_format, *log_level;
    const char *format;                                 /* "table", "json"; of reports also "csv", "html" */
    const char *lane, *reason, *offset, *id, *customer; /* "": not given */
    const char *meter, *contract, *price_book, *from, *to;
    const char *head;                                       /* "ENTRY:HASH"; "": not given */
    const char *through, *invoice_series, *invoice_details; /* details "": none */
    const char *month;                                      /* "2026-01"; "": every month */
    /* Of grants; "": not given. */
    const char *key, *amount, *price, *funding, *meters, *overage_multiplier, *rollover_fraction;
    const char *starts_at, *expires_at, *rollover_expires_at, *low_balance, *at;
    const char *package, *quantity;
    int64_t priority;
    bool entries, events, projected;
    int64_t after; /* the number of an event */
    bool until_end, until_done, dry_run, charges, roles, repair, no_events, yes, unproved;
    int64_t gap;  /* 0: not given */
    int64_t last; /* entries */
    int64_t workers, close_workers;
    bool rerate, draft;
    bool all, lower, end;

    char **arguments; /* what is no flag: files */
    int argument_count;
    void *owned;
};

/* What a command says of itself in --help. */
struct weir_usage {
    enum weir_command command;
    const char *name;      /* "weir ingest" */
    const char *arguments; /* "[OPTIONS] FILE...", or "[OPTIONS]" */
    const char *purpose;   /* a sentence or three, lines of at most 100 columns */
    const char *example;
    bool takes_files;
};

/* -1: *ret_settings is filled, go on. Otherwise the exit status: 0 after --help, 2 after a mistake, each told on stderr
 * in one line. Checks what hangs together too (id_retention not shorter than lateness), and the series of invoices. */
int weir_settings_load(const struct weir_usage *usage, int argc, char **argv, struct weir_settings *ret_settings);
void weir_settings_free(struct weir_settings *settings);

/* The table as Markdown, for the README. */
void weir_settings_describe(FILE *output);

/* url (or libpq's key=value form) with the password replaced by ***, for logs and messages: into text, which is
 * returned. When in doubt about where a password ends it shows less. */
const char *weir_url_redact(const char *url, char text[WEIR_SETTING_TEXT_MAX]);

#endif
