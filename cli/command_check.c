/* weir check: reads a catalog and reports every mistake in it. */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "common/model/catalog.h"
#include "common/shown.h"

static const char help[] =
    "usage: weir check --catalog DIR [--format text|json]\n"
    "\n"
    "Reads a catalog (a JSON file, or a folder whose *.json files are merged) and reports every mistake in it: file,\n"
    "JSON path, what was found and what is allowed. Exit status: 0 no mistakes, 2 mistakes or bad usage.\n"
    "\n"
    "  --catalog DIR        the catalog; without it, WEIR_CATALOG from the environment\n"
    "  --format text|json   text (default): one mistake a line on stderr; json: one object on stdout\n"
    "  --help               this text\n"
    "\n"
    "example: weir check --catalog deploy/example/catalog\n";

static uint64_t version_count(const struct weir_catalog *catalog)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < catalog->book_count; i++)
        count += catalog->books[i].version_count;
    return count;
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static void print_summary(const struct weir_catalog *catalog)
{
    uint64_t versions = version_count(catalog);
    uint32_t contracts = weir_catalog_contract_count(catalog);
    printf("catalog: %" PRIu32 " meter%s, %" PRIu32 " price book%s (%" PRIu64 " version%s), %" PRIu32
           " contract%s: no mistakes\n",
           catalog->meter_count, plural(catalog->meter_count), catalog->book_count, plural(catalog->book_count),
           versions, plural(versions), contracts, plural(contracts));
}

static void print_mistakes(const struct weir_mistake_list *mistakes)
{
    for (size_t i = 0; i < mistakes->count; i++) {
        const struct weir_mistake *mistake = &mistakes->mistakes[i];
        weir_shown_put(stderr, mistake->file);
        fputs(": ", stderr);
        weir_shown_put(stderr, mistake->path);
        fputs(": ", stderr);
        weir_shown_put(stderr, mistake->text);
        putc('\n', stderr);
    }
    fprintf(stderr, "catalog: %zu mistake%s\n", mistakes->count, plural(mistakes->count));
}

/* Either may be missing: {"meters":1,...,"mistakes":[]} or {"mistakes":[{...}]}. */
static void print_json(const struct weir_catalog *catalog, const struct weir_mistake_list *mistakes)
{
    json_t *root = json_object(), *list = json_array();
    if (catalog) {
        json_object_set_new(root, "meters", json_integer(catalog->meter_count));
        json_object_set_new(root, "price_books", json_integer(catalog->book_count));
        json_object_set_new(root, "price_book_versions", json_integer((json_int_t)version_count(catalog)));
        json_object_set_new(root, "contracts", json_integer(weir_catalog_contract_count(catalog)));
    }
    for (size_t i = 0; i < mistakes->count; i++) {
        const struct weir_mistake *mistake = &mistakes->mistakes[i];
        json_t *entry = json_object();
        /* a file's name may be no UTF-8: then only the name is lost, not the mistake */
        if (json_object_set_new(entry, "file", json_string(mistake->file)))
            json_object_set_new(entry, "file", json_null());
        json_object_set_new(entry, "path", json_string(mistake->path));
        json_object_set_new(entry, "kind", json_string(mistake->kind));
        json_object_set_new(entry, "text", json_string(mistake->text));
        json_array_append_new(list, entry);
    }
    json_object_set_new(root, "mistakes", list);
    (void)json_dumpf(root, stdout, JSON_INDENT(1)); /* what cannot be written, cli/weir.c finds */
    putchar('\n');
    json_decref(root);
}

/* Reads the flags; a status to exit with, or -1 to go on. */
static int read_flags(int argc, char **argv, const char **ret_catalog, bool *ret_json)
{
    static const struct option flags[] = {
        {"catalog", required_argument, NULL, 'c'},
        {"format", required_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int flag;
    optind = 0;                                                        /* glibc: start afresh */
    opterr = 0;                                                        /* it would not say whose option it is */
    while ((flag = getopt_long(argc, argv, "h", flags, NULL)) != -1) { // NOLINT(concurrency-mt-unsafe)
        if (flag == 'h') {
            fputs(help, stdout);
            return WEIR_EXIT_DONE;
        }
        if (flag == 'c') {
            *ret_catalog = optarg;
        } else if (flag == 'f' && (strcmp(optarg, "text") == 0 || strcmp(optarg, "json") == 0)) {
            *ret_json = *optarg == 'j';
        } else {
            if (flag == 'f')
                fprintf(stderr, "weir check: --format %s: allowed are text and json\n", optarg);
            else
                fprintf(stderr, "weir check: %s is no option, or misses its value; `weir check --help` shows how\n",
                        argv[optind - 1]);
            return WEIR_EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "weir check: unexpected argument \"%s\"; the catalog is given with --catalog DIR\n",
                argv[optind]);
        return WEIR_EXIT_USAGE;
    }
    return -1;
}

int weir_command_check(int argc, char **argv)
{
    const char *path = getenv("WEIR_CATALOG"); // NOLINT(concurrency-mt-unsafe)
    bool json = false;
    int status = read_flags(argc, argv, &path, &json);
    if (status >= 0)
        return status;
    if (!path || !*path) {
        fputs("weir check: no catalog; give --catalog DIR or set WEIR_CATALOG\n", stderr);
        return WEIR_EXIT_USAGE;
    }
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    status = weir_catalog_load(path, &catalog, &mistakes) == WEIR_OK ? WEIR_EXIT_DONE : WEIR_EXIT_USAGE;
    if (json)
        print_json(catalog, &mistakes);
    else if (catalog)
        print_summary(catalog);
    else
        print_mistakes(&mistakes);
    weir_catalog_free(catalog);
    weir_mistake_list_free(&mistakes);
    return status;
}
