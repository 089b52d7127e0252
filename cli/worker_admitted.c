/* Lanes that were just taken are told what `weir admit` let in, before their first event: it counts in a lane of its
 * own, and one that is read again (Redis was emptied, or came back older) might judge it otherwise than the first time,
 * and count it once more. The argument, and why this often needs no reading: docs/exactly-once.md 3.15. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admitted.h"
#include "cli/worker_internal.h"
#include "common/calendar.h"
#include "common/log.h"
#include "ingest/decode.h"
#include "ingest/kafka_scan.h"

enum {
    PATIENCE_MS = 5000, /* for an answer of Kafka's; the other lanes wait meanwhile */
    AGAIN_MS = 5000,    /* until it is asked again */
};

struct telling {
    struct weir_worker *worker;
    struct weir_decoder *decoder;
    enum weir_status status; /* REJECT: a lane has no room */
    struct weir_error error; /* of that, or of Kafka */
};

static bool waits(const struct worker_lane *owned)
{
    return owned && owned->lane && owned->is_untold;
}

static bool tell(void *context, const struct weir_message *message)
{
    struct telling *telling = context;
    struct weir_worker *worker = telling->worker;
    uint64_t epoch;
    struct weir_slice from = weir_admitted_from(message, &epoch);
    struct weir_rejection why;
    struct weir_event event;

    if (weir_decode(telling->decoder, message, &event, &why) != WEIR_OK)
        return true; /* no lane can count it either */
    for (int32_t i = 0; i < worker->partition_limit && telling->status == WEIR_OK; i++)
        if (waits(worker->lanes[i]) && (from.length == 0 || weir_slice_equal(from, worker->lanes[i]->name)))
            telling->status = weir_lane_know(worker->lanes[i]->lane, &event, &telling->error);
    return telling->status == WEIR_OK;
}

static void show_alive(void *context, uint64_t done, uint64_t all)
{
    (void)context, (void)done, (void)all;
    weir_daemon_alive();
}

/* A lane refuses as too late whatever is older than it accepts: it need not be told of that. The cut of the admitted
 * lane says up to which offset no event is younger than `high`; where no waiting lane accepts as old ones, only what
 * was published after that needs reading. */
static int64_t first_offset(struct weir_worker *worker)
{
    char name[WEIR_LANE_NAME_MAX + 1];
    struct weir_lane_state state;
    struct weir_error error;
    int64_t accepted = WEIR_TIME_NEVER;
    int length = snprintf(name, sizeof name, "%s:0", worker->settings.admitted->topic);

    for (int32_t i = 0; i < worker->partition_limit; i++)
        if (waits(worker->lanes[i]) && weir_lane_accepted_from(worker->lanes[i]->lane) < accepted)
            accepted = weir_lane_accepted_from(worker->lanes[i]->lane);
    if (length >= (int)sizeof name
        || worker->store->ops->read_lane(worker->store, weir_slice_text(name), &state, &error) != WEIR_OK)
        return 0;
    return state.epoch > 0 && state.next_offset > 0 && state.high < accepted ? state.next_offset : 0;
}

/* A broker that has just started may know no topic yet. One that knows that of the events knows whether the other is
 * there: so it is asked for both before it is believed. */
static enum weir_status ask_again(struct weir_worker *worker, const struct weir_kafka_scan *scan,
                                  struct weir_kafka_stretch *stretch, struct weir_error *reterr)
{
    struct weir_kafka_settings events = *worker->settings.admitted;
    struct weir_kafka_stretch *partitions = NULL;
    char topic[WEIR_LANE_NAME_MAX + 1];
    size_t count = 0;

    snprintf(topic, sizeof topic, "%s", worker->settings.admitted->topic);
    weir_check(weir_is_admitted(weir_slice_text(topic)));
    topic[strlen(topic) - strlen(WEIR_ADMITTED_SUFFIX)] = '\0';
    events.topic = topic;
    enum weir_status status = weir_kafka_whole(&events, &partitions, &count, reterr);
    free(partitions);
    if (status != WEIR_OK)
        return WEIR_RETRY;
    *stretch = (struct weir_kafka_stretch){.to = INT64_MAX};
    status = weir_kafka_scan(worker->settings.admitted, stretch, 1, scan, reterr);
    return status == WEIR_REJECT && stretch->end < 0 ? WEIR_OK : status; /* nothing was ever admitted */
}

static enum weir_status read_admitted(struct telling *telling)
{
    struct weir_worker *worker = telling->worker;
    const struct weir_kafka_scan scan = {
        .context = telling, .visit = tell, .progress = show_alive, .stop = worker->stop, .patience_ms = PATIENCE_MS};
    struct weir_kafka_stretch stretch = {.from = first_offset(worker), .to = INT64_MAX};
    enum weir_status status = weir_kafka_scan(worker->settings.admitted, &stretch, 1, &scan, &telling->error);

    if (status == WEIR_OK && stretch.end < stretch.from) { /* not the topic that the admitted lane has read */
        stretch.from = 0;
        stretch.to = INT64_MAX;
        status = weir_kafka_scan(worker->settings.admitted, &stretch, 1, &scan, &telling->error);
    }
    if (status == WEIR_REJECT && stretch.end < 0)
        status = ask_again(worker, &scan, &stretch, &telling->error);
    if (status != WEIR_OK)
        return status;
    if (stretch.messages > 0)
        weir_log(WEIR_LOG_INFO, "%llu admitted events read from '%s', which lanes that were taken must not count again",
                 (unsigned long long)stretch.messages, worker->settings.admitted->topic);
    if (stretch.low > 0)
        weir_log(
            WEIR_LOG_WARN,
            "topic '%s' has lost its first %lld offsets: what was admitted there is not recognised when it is read "
            "again. It must not expire (retention.ms=-1, cleanup.policy=delete)",
            worker->settings.admitted->topic, (long long)stretch.low);
    return WEIR_OK;
}

/* Of none of them was a message taken. */
static void put_off(struct weir_worker *worker, const struct weir_error *error)
{
    if (!atomic_load_explicit(worker->stop, memory_order_relaxed))
        weir_outage_begin(&worker->untold, "lanes wait, since what was admitted (weir admit) must be known first",
                          error->text);
    for (int32_t i = 0; i < worker->partition_limit; i++)
        if (waits(worker->lanes[i]))
            weir_worker_drop_lane(worker->lanes[i], AGAIN_MS);
}

enum weir_status weir_worker_tell_lanes(struct weir_worker *worker, struct weir_error *reterr)
{
    struct telling telling = {.worker = worker};
    enum weir_status status = WEIR_OK;
    bool is_any = false;

    for (int32_t i = 0; i < worker->partition_limit; i++)
        is_any = is_any || waits(worker->lanes[i]);
    if (!is_any)
        return WEIR_OK;
    if (worker->settings.admitted) {
        telling.decoder = weir_decoder_new(worker->catalog);
        status = read_admitted(&telling);
        weir_decoder_free(telling.decoder);
    }
    if (telling.status != WEIR_OK) {
        *reterr = telling.error;
        return telling.status;
    }
    if (status != WEIR_OK) {
        put_off(worker, &telling.error);
        return WEIR_OK;
    }
    weir_outage_end(&worker->untold, "what was admitted is known");
    for (int32_t i = 0; i < worker->partition_limit; i++)
        if (waits(worker->lanes[i]))
            worker->lanes[i]->is_untold = false;
    return WEIR_OK;
}
