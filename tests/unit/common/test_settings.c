/* Settings: where each value comes from, what is refused and in which words, and that help and docs say what is so. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/calendar.h"
#include "common/settings.h"

extern char **environ;

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_INGEST,
    .name = "weir ingest",
    .arguments = "[OPTIONS]",
    .purpose = "Purpose.",
    .example = "weir ingest",
};
static const struct weir_usage produce = {
    .command = WEIR_COMMAND_PRODUCE,
    .name = "weir produce",
    .arguments = "[OPTIONS] FILE...",
    .purpose = "Purpose.",
    .example = "weir produce f",
    .takes_files = true,
};

enum { SAID_MAX = 65536, ARGUMENTS_MAX = 16 };
static char said[SAID_MAX]; /* what the last load wrote to stdout and stderr */

/* Each test is a process of its own, so that its environment is too. */
static char *variables[ARGUMENTS_MAX + 1];

static void set_environment(const char *first, ...)
{
    va_list arguments;
    int count = 0;

    va_start(arguments, first);
    for (const char *text = first; text; text = va_arg(arguments, const char *))
        variables[count++] = strdup(text);
    va_end(arguments);
    variables[count] = NULL;
    environ = variables;
}

/* Arguments end with NULL. Catches what is written, since that is what a user sees. */
static int load(const struct weir_usage *for_usage, struct weir_settings *settings, ...)
{
    char *argv[ARGUMENTS_MAX + 2] = {(char *)(uintptr_t) "ingest"};
    int argc = 1, saved[2] = {dup(1), dup(2)};
    FILE *caught = tmpfile();
    va_list arguments;

    va_start(arguments, settings);
    while ((argv[argc] = va_arg(arguments, char *)))
        argc++;
    va_end(arguments);
    fflush(NULL);
    dup2(fileno(caught), 1);
    dup2(fileno(caught), 2);
    int result = weir_settings_load(for_usage, argc, argv, settings);
    fflush(NULL);
    dup2(saved[0], 1);
    dup2(saved[1], 2);
    rewind(caught);
    said[fread(said, 1, sizeof said - 1, caught)] = '\0';
    fclose(caught);
    close(saved[0]);
    close(saved[1]);
    return result;
}

static char config_path[64];

static const char *config(const char *json)
{
    strcpy(config_path, "/tmp/weir-test-settings-XXXXXX");
    int file = mkstemp(config_path);
    cr_assert_eq(write(file, json, strlen(json)), (ssize_t)strlen(json));
    close(file);
    return config_path;
}

static void forget_config(void)
{
    if (*config_path)
        unlink(config_path);
}

TestSuite(settings, .fini = forget_config);

Test(settings, defaults_are_those_of_the_documents)
{
    struct weir_settings settings;

    set_environment(NULL);
    cr_assert_eq(load(&usage, &settings, NULL), -1, "%s", said);
    cr_assert_str_eq(said, "");
    cr_assert_str_eq(settings.kafka_brokers, "127.0.0.1:9092");
    cr_assert_str_eq(settings.kafka_topic, "events");
    cr_assert_str_eq(settings.kafka_group, "weir");
    cr_assert_str_eq(settings.redis_url, "redis://127.0.0.1:6379");
    cr_assert_str_eq(settings.postgres_url, "postgresql:///weir");
    cr_assert_str_eq(settings.metrics_listen, "127.0.0.1:9464");
    cr_assert_str_eq(settings.quarantine_topic, "");
    cr_assert_eq(settings.lateness, 24 * WEIR_HOUR);
    cr_assert_eq(settings.id_retention, 24 * WEIR_HOUR, "as long as lateness");
    cr_assert_eq(settings.disorder, 10 * WEIR_SECOND);
    cr_assert_eq(settings.max_future, 5 * WEIR_MINUTE);
    cr_assert_eq(settings.idle, 10 * WEIR_SECOND);
    cr_assert_eq(settings.flush_interval, WEIR_SECOND / 5);
    cr_assert_eq(settings.rater_interval, WEIR_SECOND / 5);
    cr_assert_eq(settings.rater_batch, 20000);
    cr_assert_eq(settings.lane_windows_max, 4000000);
    cr_assert_eq(settings.lane_ids_max, 40000000);
    cr_assert_eq(settings.ring_cuts, 8);
    cr_assert_eq(settings.ingest_threads, 1);
    cr_assert_eq(settings.kafka_property_count, 0u);
    cr_assert_not(settings.until_end);
    weir_settings_free(&settings);
}

Test(settings, flags_override_environment_overrides_file_overrides_default)
{
    struct weir_settings settings;
    const char *path = config("{\"kafka\": {\"brokers\": \"file:1\", \"topic\": \"file\", \"group\": \"file\","
                              " \"properties\": {\"security.protocol\": \"SASL_SSL\", \"sasl.password\": \"x\"}},"
                              " \"lateness\": \"1h\", \"id_retention\": \"87600h\", \"rater\": {\"batch\": 7}, "
                              "\"until_end\": true, \"ring_cuts\": 9}");

    set_environment("WEIR_KAFKA_TOPIC=environment", "WEIR_KAFKA_GROUP=environment", "WEIR_LATENESS=2h",
                    "WEIR_FLUSH_INTERVAL=1s", NULL);
    cr_assert_eq(load(&usage, &settings, "--kafka-group=flag", "--config", path, "--lateness", "3h", NULL), -1, "%s",
                 said);
    cr_assert_str_eq(settings.kafka_brokers, "file:1");
    cr_assert_str_eq(settings.kafka_topic, "environment");
    cr_assert_str_eq(settings.kafka_group, "flag");
    cr_assert_eq(settings.lateness, 3 * WEIR_HOUR);
    cr_assert_eq(settings.id_retention, 87600 * WEIR_HOUR, "ten years, the longest");
    cr_assert_eq(settings.flush_interval, WEIR_SECOND);
    cr_assert_eq(settings.rater_batch, 7, "a row of another command may stand in the file");
    cr_assert_eq(settings.ring_cuts, 9);
    cr_assert(settings.until_end);
    cr_assert_eq(settings.kafka_property_count, 2u);
    cr_assert_str_eq(settings.kafka_properties[0].name, "security.protocol");
    cr_assert_str_eq(settings.kafka_properties[0].value, "SASL_SSL");
    weir_settings_free(&settings);
}

Test(settings, threads_of_ingest_are_one_to_thirty_two)
{
    const char *path = config("{\"ingest\": {\"threads\": 32}}");
    struct weir_settings settings;

    set_environment(NULL);
    cr_assert_eq(load(&usage, &settings, "--config", path, NULL), -1, "%s", said);
    cr_assert_eq(settings.ingest_threads, 32);
    weir_settings_free(&settings);
    cr_assert_eq(load(&usage, &settings, "--config", path, "--ingest-threads", "1", NULL), -1, "%s", said);
    cr_assert_eq(settings.ingest_threads, 1);
    weir_settings_free(&settings);
    cr_assert_eq(load(&produce, &settings, "--ingest-threads", "2", NULL), 2, "another command's");
    set_environment("WEIR_INGEST_THREADS=33", NULL);
    cr_assert_eq(load(&usage, &settings, NULL), 2);
    cr_assert(strstr(said, "WEIR_INGEST_THREADS: '33' is not a whole number from 1 to 32"), "%s", said);
}

Test(settings, files_are_taken_where_the_command_takes_them)
{
    struct weir_settings settings;

    set_environment(NULL);
    cr_assert_eq(load(&produce, &settings, "a", "--kafka-topic", "t", "-", "--", "--b", NULL), -1, "%s", said);
    cr_assert_eq(settings.argument_count, 3);
    cr_assert_str_eq(settings.arguments[0], "a");
    cr_assert_str_eq(settings.arguments[1], "-");
    cr_assert_str_eq(settings.arguments[2], "--b");
    weir_settings_free(&settings);
    cr_assert_eq(load(&usage, &settings, "a", NULL), 2);
    cr_assert_str_eq(said, "weir ingest: 'a' is not expected here; `weir ingest --help` shows how\n");
}

static void assert_refused(const char *flag, const char *value, const char *words)
{
    struct weir_settings settings = {0};

    cr_assert_eq(load(&usage, &settings, flag, value, NULL), 2, "%s %s", flag, value ? value : "");
    cr_assert(strstr(said, words), "%s %s said: %s", flag, value ? value : "", said);
    cr_assert_eq(strchr(said, '\n'), said + strlen(said) - 1, "one line: %s", said);
    cr_assert_null(settings.owned);
}

Test(settings, what_is_wrong_on_the_command_line_is_named)
{
    set_environment(NULL);
    assert_refused("--kafka-borkers", "x", "--kafka-borkers is not an option; did you mean --kafka-brokers?");
    assert_refused("--kafka-borkers=x", NULL, "--kafka-borkers is not an option; did you mean --kafka-brokers?");
    assert_refused("--rater-batch", "5", "--rater-batch is not an option"); /* of another command */
    assert_refused("--lateness", "24x", "--lateness: '24x' is not a duration from 0ms to ");
    assert_refused("--lateness=-1h", NULL, "--lateness: '-1h' is not a duration");
    assert_refused("--lateness", "87601h", "--lateness: '87601h' is not a duration");
    assert_refused("--id-retention", "87601h", "--id-retention: '87601h' is not a duration");
    assert_refused("--flush-interval", "9ms", "--flush-interval: '9ms' is not a duration from 10ms to 1m");
    assert_refused("--ring-cuts", "0", "--ring-cuts: '0' is not a whole number from 1 to 64");
    assert_refused("--ring-cuts", "65", "a whole number from 1 to 64");
    assert_refused("--ring-cuts", " 5", "a whole number from 1 to 64");
    assert_refused("--ring-cuts", "+5", "a whole number from 1 to 64");
    assert_refused("--ring-cuts", "5x", "a whole number from 1 to 64");
    assert_refused("--ring-cuts", "99999999999999999999", "a whole number from 1 to 64");
    assert_refused("--ingest-threads", "0", "--ingest-threads: '0' is not a whole number from 1 to 32");
    assert_refused("--ingest-threads", "33", "--ingest-threads: '33' is not a whole number from 1 to 32");
    assert_refused("--log-format", "xml", "--log-format: 'xml' is not text or json");
    assert_refused("--log-level", "loud", "--log-level: 'loud' is not error, warn, info or debug");
    assert_refused("--until-end=yes", NULL, "--until-end: 'yes' is not true or false");
    assert_refused("--kafka-topic", NULL, "--kafka-topic needs a value");
    assert_refused("--config", "/nonexistent/weir.json", "/nonexistent/weir.json");
    assert_refused("--id-retention", "23h", "id_retention is shorter than lateness");
}

Test(settings, what_is_wrong_in_the_environment_is_named)
{
    struct weir_settings settings;

    set_environment("WEIR_LATENESS=soon", NULL);
    cr_assert_eq(load(&usage, &settings, NULL), 2);
    cr_assert(strstr(said, "WEIR_LATENESS: 'soon' is not a duration"), "%s", said);
}

/* One word in the file or the environment serves many commands: each judges it as its --help tells. */
Test(settings, a_format_is_judged_by_the_commands_own_row)
{
    static const struct {
        enum weir_command command;
        const char *good, *bad, *allowed; /* NULL: the command has no format, and every one is good */
    } cases[] = {
        {WEIR_COMMAND_RECONCILE, "json", "csv", "table or json"},
        {WEIR_COMMAND_AUDIT, "table", "csv", "table or json"},
        {WEIR_COMMAND_CLOSE, "csv", "html", "table, csv or json"},
        {WEIR_COMMAND_REVENUE, "csv", "html", "table, csv or json"},
        {WEIR_COMMAND_BALANCE, "csv", "focus", "table, csv or json"},
        {WEIR_COMMAND_RECOUNT, "html", "focus", "table, csv, json or html"},
        {WEIR_COMMAND_RERATE, "html", "focus", "table, csv, json or html"},
        {WEIR_COMMAND_INVOICE, "focus", "xml", "table, csv, json, focus or html"},
        {WEIR_COMMAND_INGEST, "focus", NULL, NULL},
        {WEIR_COMMAND_RATER, "csv", NULL, NULL},
        {WEIR_COMMAND_APPLY, "html", NULL, NULL},
    };
    struct weir_settings settings;
    char text[64], words[128];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int is_file = 0; is_file < 2; is_file++)
            for (int is_bad = 0; is_bad < (cases[i].bad ? 2 : 1); is_bad++) {
                struct weir_usage of = {
                    .command = cases[i].command, .name = "weir x", .arguments = "", .purpose = "", .example = ""};
                const char *value = is_bad ? cases[i].bad : cases[i].good;
                snprintf(text, sizeof text, is_file ? "{\"format\": \"%s\"}" : "WEIR_FORMAT=%s", value);
                set_environment(is_file ? NULL : text, NULL);
                int status =
                    is_file ? load(&of, &settings, "--config", config(text), NULL) : load(&of, &settings, NULL);
                forget_config();
                cr_assert_eq(status, is_bad ? 2 : -1, "%d %s: %s", (int)cases[i].command, text, said);
                snprintf(words, sizeof words, "'%s' is not %s\n", value, cases[i].allowed ? cases[i].allowed : "");
                if (is_bad)
                    cr_assert(strstr(said, words), "%s", said);
                else if (cases[i].allowed)
                    cr_assert_str_eq(settings.format, value);
                if (!is_bad)
                    weir_settings_free(&settings);
            }
}

static int load_series(enum weir_command command, const char *series)
{
    const struct weir_usage of = {
        .command = command, .name = "weir x", .arguments = "", .purpose = "", .example = "weir x"};
    struct weir_settings settings;
    char text[256];

    snprintf(text, sizeof text, "WEIR_INVOICE_SERIES=%s", series);
    set_environment(text, NULL);
    int status = load(&of, &settings, NULL);
    if (status == -1) {
        cr_expect_str_eq(settings.invoice_series, series);
        weir_settings_free(&settings);
    }
    return status;
}

/* It is a part of numbers that are given for good, and SERIES-CN is the series of its credit notes. */
Test(settings, a_series_of_invoices_keeps_to_its_limits)
{
    static const enum weir_command commands[] = {WEIR_COMMAND_CLOSE, WEIR_COMMAND_INVOICE, WEIR_COMMAND_RATER};
    static const char *const good[] = {
        "I", "INV", "2026/EU_a.b-c", "CN", "X-cn", "X-CN-", "-", "-C", "abcdefghijklmnopqrstuvwxyz-_./12"};
    static const char *const bad[] = {"",
                                      " ",
                                      "a b;,",
                                      "a\nb",
                                      "a'b",
                                      "R\xc3\x89",
                                      "X-CN",
                                      "-CN",
                                      "X-CN-CN",
                                      "a:b",
                                      "a\\b",
                                      "a@b",
                                      "a[b",
                                      "a`b",
                                      "a{b",
                                      "abcdefghijklmnopqrstuvwxyz-_./123",
                                      "abcdefghijklmnopqrstuvwxyz-CNCN-CN"};

    for (size_t c = 0; c < sizeof commands / sizeof *commands; c++) {
        for (size_t i = 0; i < sizeof good / sizeof *good; i++)
            cr_expect_eq(load_series(commands[c], good[i]), -1, "%s: %s", good[i], said);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            cr_expect_eq(load_series(commands[c], bad[i]), 2, "%s", bad[i]);
            cr_expect(strstr(said, "weir x: invoice.series: '") == said
                          && strstr(said, "1 to 32 of A-Z a-z 0-9 . _ / -") && strstr(said, "choose another series"),
                      "%s", said);
        }
    }
    cr_expect_eq(load_series(WEIR_COMMAND_INGEST, "a b;,"), -1, "it has no series: %s", said);
}

Test(settings, every_mistake_of_a_file_is_told)
{
    struct weir_settings settings;
    const char *path = config(
        "{\"kafka\": {\"broker\": \"x\", \"topic\": 5, \"properties\": {\"a\": 1, \"b\": null}}, \"latenes\": \"1h\","
        " \"redis\": \"redis://x\","
        " \"idle\": {\"x\": 1}, \"until_end\": \"perhaps\", \"ring_cuts\": 1.5, \"lateness\": true}");

    set_environment(NULL);
    cr_assert_eq(load(&usage, &settings, "--config", path, NULL), 2);
    static const char *const words[] = {"kafka.broker is not a setting",
                                        "kafka.topic: a string is needed",
                                        "kafka.properties.a: a string",
                                        "kafka.properties.b: a string",
                                        "latenes is not a setting",
                                        "redis: an object is needed",
                                        "idle.x is not a setting",
                                        "until_end: 'perhaps' is not true or false",
                                        "ring_cuts: a whole number is needed",
                                        "lateness: a string is needed"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        cr_expect(strstr(said, words[i]), "%s is missing in:\n%s", words[i], said);
    cr_expect(strstr(said, config_path), "the file is named");
}

static int load_named(const char *instance)
{
    struct weir_settings settings;
    char text[512];

    snprintf(text, sizeof text, "{\"kafka\": {\"properties\": {\"group.instance.id\": \"%s\"}}}", instance);
    int status = load(&usage, &settings, "--config", config(text), NULL);
    if (status == -1)
        weir_settings_free(&settings);
    unlink(config_path);
    return status;
}

/* A worker's further threads have names made of its own (cli/ingest_threads.c). */
Test(settings, no_worker_is_named_as_a_thread_of_another_one)
{
    static const char *const good[] = {"worker-1", "worker-1-2", "a.thread-", "thread-1", "a.thread-1x", ""};
    static const char *const bad[] = {"worker.thread-1", ".thread-31", "a.thread-1.thread-0"};
    char name[WEIR_INSTANCE_MAX + 2] = {0};

    set_environment(NULL);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_expect_eq(load_named(good[i]), -1, "%s: %s", good[i], said);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect_eq(load_named(bad[i]), 2, "%s", bad[i]);
        cr_expect(strstr(said, "kafka.properties.group.instance.id: a name that does not end in \".thread-\""), "%s",
                  said);
    }
    memset(name, 'n', WEIR_INSTANCE_MAX);
    cr_expect_eq(load_named(name), -1);
    name[WEIR_INSTANCE_MAX] = 'n';
    cr_expect_eq(load_named(name), 2);
    cr_expect(strstr(said, "at most 239 bytes"), "%s", said);
}

Test(settings, a_file_that_is_no_settings_is_refused)
{
    static const char *const files[] = {"", "[]", "{", "{\"lateness\":\"1h\",\"lateness\":\"2h\"}", "{} x", "5"};
    struct weir_settings settings;

    set_environment(NULL);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        cr_assert_eq(load(&usage, &settings, "--config", config(files[i]), NULL), 2, "%s", files[i]);
        cr_assert(strstr(said, config_path), "%s", said);
        unlink(config_path);
    }
    cr_assert_eq(load(&usage, &settings, "--config", config("{\"kafka\": {\"properties\": \"x\"}}"), NULL), 2);
    cr_assert(strstr(said, ": kafka.properties: an object is needed\n"), "%s", said);
    unlink(config_path);
    cr_assert_eq(load(&usage, &settings, "--config", "/", NULL), 2);
    cr_assert_str_eq(said, "weir ingest: /: is a folder; a JSON file is needed\n");
    cr_assert_eq(load(&usage, &settings, "--config", "/nonexistent/x", NULL), 2);
    cr_assert_str_eq(said, "weir ingest: /nonexistent/x: cannot be read: No such file or directory\n");
}

/* Each line, and that every flag that help names is one, with its default. */
Test(settings, help_fits_and_is_true)
{
    struct weir_settings settings;
    char *save = NULL, *copy;

    set_environment(NULL);
    cr_assert_eq(load(&usage, &settings, "--help", NULL), 0);
    cr_assert(strstr(said, "--kafka-brokers") && strstr(said, "WEIR_KAFKA_BROKERS") && strstr(said, "127.0.0.1:9092"));
    cr_assert_not(strstr(said, "--rater-batch"), "another command's");
    copy = strdup(said);
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        cr_expect_leq(strlen(line), (size_t)100, "%s", line);
        char flag[64];
        if (sscanf(line, "  %63s", flag) != 1 || strncmp(line, "  --", 4) != 0 || strcmp(flag, "--help") == 0)
            continue;
        cr_expect_eq(load(&usage, &settings, flag, NULL), strcmp(flag, "--until-end") == 0 ? -1 : 2);
        cr_expect_not(strstr(said, "not an option"), "%s", said);
        if (strcmp(flag, "--until-end") == 0)
            weir_settings_free(&settings);
    }
    free(copy);
}

Test(settings, the_table_lists_each_setting_once)
{
    char *text = NULL;
    size_t length;
    FILE *output = open_memstream(&text, &length);
    int rows = 0;

    weir_settings_describe(output);
    fclose(output);
    cr_assert(strstr(text, "| `kafka.brokers` | `WEIR_KAFKA_BROKERS` | `127.0.0.1:9092` | "));
    for (const char *at = text; (at = strstr(at, "\n| `")); at++)
        rows++;
    cr_assert_geq(rows, 20);
    free(text);
}

Test(redact, never_shows_a_password)
{
    static const struct {
        const char *url, *shown;
    } cases[] = {
        {"redis://127.0.0.1:6379", "redis://127.0.0.1:6379"},
        {"redis://:secret@h:6379/1", "redis://:***@h:6379/1"},
        {"postgresql://weir:secret@h:5432/weir", "postgresql://weir:***@h:5432/weir"},
        {"postgresql://weir@h/weir", "postgresql://weir@h/weir"},
        {"postgresql://weir:se@cr:et@h/weir", "postgresql://weir:***@h/weir"},
        {"postgresql://h/weir?user=u&password=secret&sslmode=require", "postgresql://h/weir?user=u&password=***"},
        {"host=h password = 'se cret' user=u", "host=h password=***"},
        {"postgresql://u:p@h/d?sslpassword=secret", "postgresql://u:***@h/d?sslpassword=***"},
        {"host=h user=u", "host=h user=u"},
    };
    char text[WEIR_SETTING_TEXT_MAX];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_str_eq(weir_url_redact(cases[i].url, text), cases[i].shown);
}
