/* weir: one binary, one table of commands. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "common/log.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct command commands[] = {
    {"rate", weir_command_rate, "events in files to line items, in one process"},
    {"check", weir_command_check, "validate a catalog"},
    {"migrate", weir_command_migrate, "create or upgrade the PostgreSQL schema"},
    {"apply", weir_command_apply, "store a catalog version in PostgreSQL"},
    {"produce", weir_command_produce, "publish NDJSON files to Kafka, keyed by customer"},
    {"ingest", weir_command_ingest, "ingest worker: Kafka to windows in Redis"},
    {"rater", weir_command_rater, "rater: windows in Redis to line items in PostgreSQL"},
    {"reconcile", weir_command_reconcile, "compare Kafka, Redis and PostgreSQL, and repair"},
    {"explain", weir_command_explain, "one line item back to its price, offsets and events"},
    {"release", weir_command_release, "list gaps in the events, decide on the windows that they hold"},
    {"admit", weir_command_admit, "reviewed events out of quarantine, counted once"},
    {"rerate", weir_command_rerate, "price usage of the past again, by the catalog in force"},
    {"backtest", weir_command_backtest, "price usage of the past by another catalog, to compare revenue"},
    {"grant", weir_command_grant, "an amount that a customer's usage is drawn from, beside the catalog's"},
    {"void", weir_command_void, "end a grant before it expires; what is left is lost"},
    {"refund", weir_command_refund, "the same, and the price of what is left is given back"},
    {"balance", weir_command_balance, "what is left of grants, now or as of a time, and every entry"},
    {"recount", weir_command_recount, "count a new or corrected meter for the past, and rate what differs"},
    {"close", weir_command_close, "the invoices of billing periods that ended"},
    {"invoice", weir_command_invoice, "list and export invoices, make them final or void"},
    {"revenue", weir_command_revenue, "what was earned, deferred and not invoiced yet, by month"},
    {"audit", weir_command_audit, "who changed what; proof that the log of it was not altered"},
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static void print_help(FILE *output)
{
    fputs("weir: usage metering and rating, exact to the last decimal place\n\n"
          "usage: weir COMMAND [OPTIONS] [FILES]\n\n"
          "commands:\n",
          output);
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(output, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`weir COMMAND --help` tells a command's options, with an example; `weir --version` the version.\n"
          "example: weir rate --catalog deploy/example/catalog --summary deploy/example/events.ndjson\n",
          output);
}

/* What the caller closed would be given to the first file or connection that is opened, and be written into. */
static void keep_standard_streams(void)
{
    for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
        if (fcntl(i, F_GETFD) < 0 && errno == EBADF)
            (void)open("/dev/null", i == STDIN_FILENO ? O_WRONLY : O_RDONLY); /* whoever uses it is told, as before */
}

/* A result that is not all there is no success. Commands that looked for themselves have told it, and failed. */
static int end_with(int status)
{
    errno = 0;
    if (status != WEIR_EXIT_DONE || (fflush(stdout) == 0 && !ferror(stdout)))
        return status;
    weir_log_plain(WEIR_LOG_ERROR, "the output cannot be written: %s. Everything else was done",
                   errno ? strerror(errno) : "a part of it is missing");
    return WEIR_EXIT_FAILED;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return WEIR_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return WEIR_EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("weir " WEIR_VERSION);
        return WEIR_EXIT_DONE;
    }
    for (int i = 0; i < COMMAND_COUNT; i++) {
        static char name[32];
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        (void)snprintf(name, sizeof name, "weir %s", commands[i].name);
        weir_log_open(name, false, WEIR_LOG_INFO); /* some have no settings that say how */
        return commands[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "weir: '%s' is not a command; `weir --help` lists them\n", argv[1]);
    return WEIR_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    keep_standard_streams();
    return end_with(run(argc, argv));
}
