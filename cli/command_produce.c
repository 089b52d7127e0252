/* `weir produce`: NDJSON files to the topic, keyed by customer. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/commands.h"
#include "cli/open.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/settings.h"
#include "ingest/decode.h"
#include "ingest/producer.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_PRODUCE,
    .name = "weir produce",
    .arguments = "[OPTIONS] FILE...",
    .purpose =
        "Publishes NDJSON events (- is standard input; .gz and .zst are read as they are) to the topic, keyed by\n"
        "customer, so that a customer stays in one partition. Lines that are no valid event go out as they are,\n"
        "without a key: finding them is the ingest worker's business.",
    .example = "weir produce --kafka-topic events deploy/example/events.ndjson",
    .takes_files = true,
};

enum { FLUSH_MS = 500, LEAVE_MS = 10000 /* after a signal */ };

struct producing {
    struct weir_source *source;
    struct weir_producer *producer;
    struct weir_decoder *decoder;
    uint64_t sent, without_key, too_large;
    const _Atomic bool *stop;
};

static bool is_stopped(const struct producing *producing)
{
    return atomic_load_explicit(producing->stop, memory_order_relaxed);
}

static enum weir_status send_message(struct producing *producing, const struct weir_message *message,
                                     struct weir_error *reterr)
{
    struct weir_slice key = {0};
    struct weir_event event;
    struct weir_rejection why;
    enum weir_status status;

    if (message->is_too_large) { /* what is left of it would be another event */
        if (producing->too_large++ == 0)
            weir_log_plain(WEIR_LOG_WARN, "%.*s: line %" PRId64 " is over %d bytes and cannot be published",
                           (int)message->topic.length, message->topic.data, message->offset, WEIR_EVENT_BYTES_MAX);
        return WEIR_OK;
    }
    if (weir_decode(producing->decoder, message, &event, &why) == WEIR_OK)
        key = event.subject;
    do
        status = weir_producer_send(producing->producer, key, message->value, reterr);
    while (status == WEIR_AGAIN && !is_stopped(producing));
    producing->sent += status == WEIR_OK;
    producing->without_key += status == WEIR_OK && key.length == 0;
    return status == WEIR_AGAIN ? WEIR_OK : status;
}

/* Waits for what was sent; after a signal not for ever. */
static enum weir_status deliver(struct producing *producing, struct weir_progress *progress, struct weir_error *reterr)
{
    enum weir_status status;
    int left = LEAVE_MS;

    do {
        status = weir_producer_flush(producing->producer, FLUSH_MS, reterr);
        weir_progress_show(progress, "%" PRIu64 " events, %" PRIu64 " delivered", producing->sent,
                           weir_producer_delivered(producing->producer));
        left -= is_stopped(producing) ? FLUSH_MS : 0;
    } while (status == WEIR_AGAIN && left > 0);
    if (status == WEIR_OK && !is_stopped(producing))
        return WEIR_OK;
    return status == WEIR_FATAL
               ? status
               : weir_fail(reterr, WEIR_FATAL, "stopped by a signal: %" PRIu64 " events are published, no others",
                           weir_producer_delivered(producing->producer));
}

static enum weir_status send_all(struct producing *producing, struct weir_error *reterr)
{
    static struct weir_message messages[WEIR_POLL_MESSAGES_MAX];
    struct weir_progress progress = weir_progress_start(usage.name);
    enum weir_status status = WEIR_OK;

    while (status == WEIR_OK && !is_stopped(producing)) {
        size_t count = 0;
        status = producing->source->ops->poll(producing->source, -1, messages, WEIR_POLL_MESSAGES_MAX, &count, reterr);
        for (size_t i = 0; i < count && status == WEIR_OK; i++)
            status = send_message(producing, &messages[i], reterr);
        weir_progress_show(&progress, "%" PRIu64 " events", producing->sent);
    }
    if (status == WEIR_OK || status == WEIR_AGAIN)
        status = deliver(producing, &progress, reterr);
    weir_progress_end(&progress);
    return status == WEIR_OK && producing->too_large > 0
               ? weir_fail(reterr, WEIR_FATAL, "%" PRIu64 " events are published; %" PRIu64 " were too large",
                           producing->sent, producing->too_large)
               : status;
}

static enum weir_status run(const struct weir_settings *settings, const struct weir_catalog *no_meters,
                            struct producing *producing, struct weir_error *reterr)
{
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    struct weir_kafka_settings kafka = weir_open_kafka_settings(settings, properties);
    enum weir_status status = weir_source_file_open((const char *const *)settings->arguments,
                                                    (size_t)settings->argument_count, &producing->source, reterr);

    if (status == WEIR_OK)
        status = weir_producer_open(&kafka, &producing->producer, reterr);
    if (status != WEIR_OK)
        return status;
    producing->decoder = weir_decoder_new(no_meters);
    return send_all(producing, reterr);
}

int weir_command_produce(int argc, char **argv)
{
    struct weir_settings settings;
    struct weir_error error = {{0}};
    struct weir_catalog no_meters = {0};
    struct producing producing = {.stop = weir_daemon_catch_signals()};
    int parsed = weir_settings_load(&usage, argc, argv, &settings);

    if (parsed >= 0)
        return parsed;
    if (settings.argument_count == 0) {
        weir_log_plain(WEIR_LOG_ERROR, "no FILE given (- is standard input); `weir produce --help` shows how");
        weir_settings_free(&settings);
        return WEIR_EXIT_USAGE;
    }
    int64_t started = weir_time_now();
    enum weir_status status = run(&settings, &no_meters, &producing, &error);
    if (status == WEIR_OK) {
        uint64_t milliseconds = (uint64_t)((weir_time_now() - started) / 1000000);
        weir_log_plain(WEIR_LOG_INFO,
                       "published %" PRIu64 " events (%" PRIu64 " without a key) to %s in %" PRIu64 ".%03" PRIu64 " s",
                       producing.sent, producing.without_key, settings.kafka_topic, milliseconds / 1000,
                       milliseconds % 1000);
    } else {
        weir_log_plain(WEIR_LOG_ERROR, "%s", error.text);
    }
    weir_decoder_free(producing.decoder);
    weir_producer_free(producing.producer);
    weir_source_free(producing.source);
    weir_settings_free(&settings);
    return status == WEIR_OK ? WEIR_EXIT_DONE : status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}
