/* `weir admit`: reviewed events out of quarantine, counted once. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admit.h"
#include "cli/admitted.h"
#include "cli/commands.h"
#include "cli/open.h"
#include "cli/worker.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "ingest/republish.h"
#include "rater/text_row.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_ADMIT,
    .name = "weir admit",
    .arguments = "[OPTIONS]",
    .purpose =
        "Lists events in quarantine, and which of them may be admitted and why not the others; with --yes admits\n"
        "those that may: publishes them byte for byte to TOPIC.admitted and ingests that topic, whose lane accepts\n"
        "events of any age and never forgets an id; what its own lane still accepts is sent there again, for running\n"
        "workers to count. So an event counts once, however often the command runs, also\n"
        "when it is killed. Raters charge what was admitted like any late usage. Events whose resend was counted,\n"
        "as far as Kafka still shows it, are refused, and so is what cannot be counted by the present catalog.",
    .example = "weir admit --reason too_late --customer acme --yes",
};

enum {
    TEXTS = 6,
    ORIGIN_EPOCH_MAX = 24,
};

/* 1. the list */
static void list_table(const struct weir_admit *admit)
{
    static const struct weir_column columns[TEXTS] = {
        {"event", WEIR_CELL_TEXT, false}, {"reason", WEIR_CELL_TEXT, false}, {"customer", WEIR_CELL_TEXT, false},
        {"time", WEIR_CELL_TEXT, false},  {"id", WEIR_CELL_TEXT, false},     {"admit", WEIR_CELL_TEXT, false}};
    struct weir_text_table *table = weir_text_table_new(columns, TEXTS);

    for (size_t i = 0; i < admit->count; i++) {
        const struct weir_admit_event *event = &admit->events[i];
        char time[WEIR_TIME_TEXT_MAX] = "", place[WEIR_SETTING_TEXT_MAX], answer[512];
        char id[2 * WEIR_IDENTIFIER_MAX + 2] = "";
        if (event->is_decoded) {
            weir_time_format(event->time, time);
            snprintf(id, sizeof id, "%.*s/%.*s", (int)event->source.length, event->source.data, (int)event->id.length,
                     event->id.data);
        }
        snprintf(place, sizeof place, "%s:%d offset %" PRId64, admit->settings.kafka_topic, event->partition,
                 event->offset);
        snprintf(answer, sizeof answer, "%s%s",
                 event->refusal           ? "no: "
                 : event->is_for_its_lane ? "yes, sent to its lane again"
                                          : "yes",
                 event->refusal ? event->refusal : "");
        const struct weir_slice cells[TEXTS] = {
            weir_slice_text(place), weir_slice_text(weir_reason_name[event->reason]),
            event->customer,        weir_slice_text(time),
            weir_slice_text(id),    weir_slice_text(answer)};
        weir_text_table_add(table, cells);
    }
    weir_text_table_write(table, stdout, false);
    weir_text_table_free(table);
}

static json_t *json_text(const struct weir_admit_event *event, struct weir_slice text)
{
    return event->is_decoded ? json_stringn(text.data, text.length) : json_null();
}

static void list_json(const struct weir_admit *admit)
{
    json_t *list = json_array();

    for (size_t i = 0; i < admit->count; i++) {
        const struct weir_admit_event *event = &admit->events[i];
        char time[WEIR_TIME_TEXT_MAX];
        json_t *entry = json_object();
        weir_time_format(event->time, time);
        json_object_set_new(entry, "partition", json_integer(event->partition));
        json_object_set_new(entry, "offset", json_integer(event->offset));
        json_object_set_new(entry, "reason", json_string(weir_reason_name[event->reason]));
        json_object_set_new(entry, "source", json_text(event, event->source));
        json_object_set_new(entry, "id", json_text(event, event->id));
        json_object_set_new(entry, "customer", json_text(event, event->customer));
        json_object_set_new(entry, "time", event->is_decoded ? json_string(time) : json_null());
        json_object_set_new(entry, "may_be_admitted", json_boolean(!event->refusal));
        json_object_set_new(entry, "is_for_its_lane", json_boolean(!event->refusal && event->is_for_its_lane));
        json_object_set_new(entry, "why_not", event->refusal ? json_string(event->refusal) : json_null());
        json_array_append_new(list, entry);
    }
    json_dumpf(list, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(list);
}

/* 2. admitting */
static uint64_t count_of(const struct weir_admit *admit, bool is_for_its_lane)
{
    uint64_t count = 0;

    for (size_t i = 0; i < admit->count; i++)
        count += !admit->events[i].refusal && admit->events[i].is_for_its_lane == is_for_its_lane;
    return count;
}

/* The event's headers, and which lane has refused it, and under which owner: for those who take that lane. One that has
 * as many as are read goes without, and then every lane is told of it. */
static uint32_t add_origin(const struct weir_admit *admit, const struct weir_admit_event *event, char *lane,
                           char *epoch, struct weir_header headers[])
{
    uint32_t count = event->header_count;

    if (count)
        memcpy(headers, event->headers, count * sizeof *headers);
    if (count + 2 > WEIR_HEADERS_MAX)
        return count;
    snprintf(lane, WEIR_LANE_NAME_MAX + 1, "%s:%d", admit->settings.kafka_topic, event->partition);
    snprintf(epoch, ORIGIN_EPOCH_MAX, "%" PRIu64, admit->lanes[event->partition].epoch);
    headers[count++] = (struct weir_header){weir_slice_text(WEIR_ADMITTED_LANE), weir_slice_text(lane)};
    headers[count++] = (struct weir_header){weir_slice_text(WEIR_ADMITTED_EPOCH), weir_slice_text(epoch)};
    return count;
}

static enum weir_status send(const struct weir_admit *admit, const struct weir_admit_event *event,
                             struct weir_republisher *republisher, struct weir_error *reterr)
{
    struct weir_header headers[2 * WEIR_HEADERS_MAX];
    char lane[WEIR_LANE_NAME_MAX + 1], epoch[ORIGIN_EPOCH_MAX];

    if (event->is_for_its_lane)
        return weir_republisher_send(republisher, event->partition, event->customer, event->value, event->headers,
                                     event->header_count, reterr);
    uint32_t count = add_origin(admit, event, lane, epoch, headers);
    return weir_republisher_send(republisher, 0, event->customer, event->value, headers, count, reterr);
}

/* Those for the lane that settings->topic is of: each back to its partition, or all to the one of admitted events. */
static enum weir_status publish(struct weir_admit *admit, const struct weir_kafka_settings *kafka, bool is_for_its_lane,
                                struct weir_error *reterr)
{
    struct weir_republisher *republisher = NULL;
    enum weir_status status = weir_republisher_open(kafka, &republisher, reterr);

    for (size_t i = 0; i < admit->count && status == WEIR_OK; i++) {
        const struct weir_admit_event *event = &admit->events[i];
        if (!event->refusal && event->is_for_its_lane == is_for_its_lane)
            status = send(admit, event, republisher, reterr);
    }
    if (status == WEIR_OK)
        status = weir_republisher_flush(republisher, reterr);
    weir_republisher_free(republisher);
    return status;
}

static enum weir_status run_worker(const struct weir_admit *admit, const struct weir_kafka_settings *kafka,
                                   struct weir_opened_worker *ingesting, struct weir_error *reterr)
{
    struct weir_worker_settings of_worker = weir_open_worker_settings(&admit->settings);
    struct weir_source *source = NULL;

    of_worker.lane.keeps_all = true;
    of_worker.until_end = true;
    enum weir_status status = weir_open_worker(&admit->settings, admit->catalog, kafka, &of_worker, ingesting, reterr);
    if (status != WEIR_OK)
        return status;
    struct weir_source_listener listener = weir_worker_listener(ingesting->worker);
    status = weir_source_kafka_open(kafka, &listener, &source, reterr);
    return status == WEIR_OK ? weir_worker_run(ingesting->worker, source, admit->stop, reterr) : status;
}

static void report(const struct weir_admit *admit, const struct weir_opened_worker *ingesting)
{
    uint64_t published = count_of(admit, false), sent = count_of(admit, true);
    uint64_t outcomes[WEIR_OUTCOME_FULL] = {0};

    for (int i = 0; i < WEIR_OUTCOME_FULL && ingesting->worker; i++)
        outcomes[i] = atomic_load_explicit(&weir_worker_gauges(ingesting->worker)->outcomes[i], memory_order_relaxed);
    weir_log_plain(WEIR_LOG_INFO,
                   "selected=%zu refused=%" PRIu64 " published=%" PRIu64 " sent_again=%" PRIu64 " counted=%" PRIu64
                   " duplicate=%" PRIu64 " quarantined=%" PRIu64,
                   admit->count, admit->count - published - sent, published, sent,
                   outcomes[WEIR_OUTCOME_COUNTED] + outcomes[WEIR_OUTCOME_UNPRICED], outcomes[WEIR_OUTCOME_DUPLICATE],
                   outcomes[WEIR_OUTCOME_REJECTED]);
}

/* Ingests also when nothing is to be published: an earlier run may have ended in between. */
static enum weir_status carry_out(struct weir_admit *admit, struct weir_error *reterr)
{
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    struct weir_kafka_settings kafka = weir_open_kafka_settings(&admit->settings, properties);
    struct weir_opened_worker ingesting = {0};
    char topic[WEIR_SETTING_TEXT_MAX], group[WEIR_SETTING_TEXT_MAX];
    enum weir_status status = count_of(admit, true) ? publish(admit, &kafka, true, reterr) : WEIR_OK;

    if (status != WEIR_OK)
        return status;
    kafka.topic = weir_admitted_topic(&admit->settings, topic);
    snprintf(group, sizeof group, "%s" WEIR_ADMITTED_SUFFIX, admit->settings.kafka_group);
    kafka.group = group;
    kafka.until_end = true;
    status = publish(admit, &kafka, false, reterr);
    if (status == WEIR_OK)
        status = weir_admit_settle(admit, &kafka, reterr);
    if (status == WEIR_OK)
        status = run_worker(admit, &kafka, &ingesting, reterr);
    if (status == WEIR_OK)
        report(admit, &ingesting);
    weir_close_worker(&ingesting);
    return status;
}

/* 3. the command */
static enum weir_status run(struct weir_admit *admit, struct weir_error *reterr)
{
    static const unsigned char no_secret[WEIR_HASH_SECRET_BYTES];
    const struct weir_settings *settings = &admit->settings;

    admit->decoder = weir_decoder_new(admit->catalog);
    admit->reader = weir_reader_new(admit->catalog);
    admit->arena = weir_arena_new();
    weir_hash_key_init(&admit->key, no_secret);
    enum weir_status status = weir_admit_lanes(admit, reterr);
    if (status == WEIR_OK)
        status = weir_admit_select(admit, reterr);
    if (status == WEIR_OK)
        status = weir_quarantined_load(settings, weir_slice_text(settings->kafka_topic), admit->stop,
                                       &admit->quarantined, reterr);
    if (status == WEIR_OK && admit->count)
        status = weir_admit_prove(admit, reterr);
    if (status != WEIR_OK)
        return status;
    if (settings->format[0] == 'j')
        list_json(admit);
    else
        list_table(admit);
    if (fflush(stdout) != 0 || ferror(stdout))
        return weir_fail(reterr, WEIR_FATAL, "the list cannot be written: %s. Nothing was admitted", strerror(errno));
    return settings->yes ? carry_out(admit, reterr) : WEIR_OK;
}

static void tear_down(struct weir_admit *admit)
{
    weir_decoder_free(admit->decoder);
    weir_reader_free(admit->reader);
    weir_quarantined_free(admit->quarantined);
    weir_arena_free(admit->arena);
    weir_catalog_free(admit->catalog);
    free(admit->events);
    free(admit->by_identity);
    free(admit->lanes);
    weir_settings_free(&admit->settings);
}

int weir_command_admit(int argc, char **argv)
{
    struct weir_admit admit = {.stop = weir_daemon_catch_signals()};
    struct weir_error error = {{0}};
    int parsed = weir_settings_load(&usage, argc, argv, &admit.settings);

    if (parsed >= 0)
        return parsed;
    bool is_right = weir_admit_check_reason(&admit) && weir_admit_parse_offsets(&admit);
    parsed = is_right ? weir_open_catalog(&admit.settings, &admit.catalog) : WEIR_EXIT_USAGE;
    if (parsed >= 0) {
        weir_settings_free(&admit.settings);
        return parsed;
    }
    enum weir_status status = run(&admit, &error);
    if (status != WEIR_OK)
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    tear_down(&admit);
    return status == WEIR_OK ? WEIR_EXIT_DONE : status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}
