/* `weir explain`: one line item back to its price, its windows, its offsets and its events. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/explain.h"
#include "common/daemon.h"
#include "common/log.h"
#include "rater/ledger_explain.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_EXPLAIN,
    .name = "weir explain",
    .arguments = "[OPTIONS] LINE_ITEM_ID",
    .purpose =
        "Tells why one line item is what it is: contract, price and tier, the window and each lane's share of it,\n"
        "the rows before it and the arithmetic of the difference; then the events themselves, read back from Kafka,\n"
        "how they add up, and which were duplicates or in quarantine. Reads only. The numbers are in the column\n"
        "line_item_id of weir.line_items.",
    .example = "weir explain --format json 4711",
    .takes_files = true,
};

/* Lanes' offsets in Redis. Without Redis the rest can still be told. */
struct lane_list {
    json_t *lanes;
};

static void note_offset(void *context, struct weir_slice name, const struct weir_lane_state *state)
{
    const struct lane_list *list = context;
    size_t index;
    json_t *lane;

    json_array_foreach(list->lanes, index,
                       lane) if (weir_slice_equal(name, weir_slice_text(weir_explain_text(lane, "lane"))))
        json_object_set_new(lane, "next_offset", json_integer(state->next_offset));
}

void weir_explain_offsets(struct weir_explain *explain)
{
    struct lane_list list = {json_object_get(explain->root, "lanes")};
    struct weir_window_store *store = NULL;
    struct weir_error error;
    enum weir_status status = weir_store_redis_open(explain->settings.redis_url, &store, &error);

    if (status == WEIR_OK)
        status = store->ops->list_lanes(store, NULL, note_offset, &list, &error);
    if (status != WEIR_OK)
        json_object_set_new(explain->root, "no_offsets", json_string(error.text));
    weir_window_store_free(store);
}

/* The catalog's text leaves the explanation: it may be large. */
static void take_catalog(struct weir_explain *explain)
{
    json_t *catalog = json_object_get(explain->root, "catalog");
    const char *text = weir_explain_text(catalog, "text");
    struct weir_mistake_list mistakes = {0};

    if (*text && weir_catalog_parse_applied("catalog", text, strlen(text), &explain->catalog, &mistakes) != WEIR_OK) {
        explain->catalog = NULL;
        weir_mistake_list_free(&mistakes);
    }
    json_object_del(catalog, "text");
}

static bool parse_id(const char *text, int64_t *ret_id)
{
    char *end;

    errno = 0;
    *ret_id = strtoll(text, &end, 10);
    return end != text && *end == '\0' && errno == 0 && *ret_id > 0;
}

static enum weir_status run(struct weir_explain *explain, int64_t id, struct weir_error *reterr)
{
    char *text = NULL;
    enum weir_status status = weir_ledger_explain(explain->settings.postgres_url, id, &text, reterr);

    if (status != WEIR_OK)
        return status;
    explain->root = json_loads(text, 0, NULL);
    free(text);
    if (!explain->root)
        return weir_fail(reterr, WEIR_FATAL, "PostgreSQL's answer about line item %lld cannot be read", (long long)id);
    take_catalog(explain);
    /* A rerating charges a window as if from the start of its period: what was there before says nothing about it. A
     * recount charges as late usage is charged. */
    const json_t *rerating = json_object_get(explain->root, "rerating");
    if (!json_is_object(rerating) || *weir_explain_text(rerating, "recount")) {
        status = weir_explain_term(explain, reterr);
        weir_explain_price(explain);
    }
    json_object_del(explain->root, "running");
    bool is_usage = weir_explain_is_usage(json_object_get(explain->root, "item"));
    if (is_usage)
        weir_explain_offsets(explain);
    if (status == WEIR_OK && is_usage && !explain->settings.no_events)
        status = weir_explain_events(explain, reterr);
    if (status == WEIR_OK)
        weir_explain_print(explain);
    return status;
}

int weir_command_explain(int argc, char **argv)
{
    struct weir_explain explain = {.stop = weir_daemon_catch_signals()};
    struct weir_error error = {{0}};
    int64_t id;
    int parsed = weir_settings_load(&usage, argc, argv, &explain.settings);

    if (parsed >= 0)
        return parsed;
    if (explain.settings.argument_count != 1 || !parse_id(explain.settings.arguments[0], &id)) {
        weir_log_plain(WEIR_LOG_ERROR, "one LINE_ITEM_ID is needed, a number; `weir explain --help` shows how");
        weir_settings_free(&explain.settings);
        return WEIR_EXIT_USAGE;
    }
    enum weir_status status = run(&explain, id, &error);
    if (status != WEIR_OK)
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    json_decref(explain.root);
    weir_catalog_free(explain.catalog);
    weir_settings_free(&explain.settings);
    return status == WEIR_OK ? WEIR_EXIT_DONE : status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}
