/* An event in quarantine may have come again, and then it was counted: under the same identity, at another offset.
 * Kafka tells as far as it remembers. A place that is not in quarantine itself was counted, or will be. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admit.h"
#include "cli/admitted.h"
#include "cli/open.h"
#include "cli/worker.h"
#include "common/daemon.h"

struct proving {
    struct weir_admit *admit;
    bool is_admitted; /* the topic of admitted events is read, not that of events */
    struct weir_progress progress;
};

static void refuse_counted(const struct proving *proving, const struct weir_message *message,
                           struct weir_admit_event *ours, uint64_t content)
{
    struct weir_admit *admit = proving->admit;
    bool is_read =
        message->partition < admit->lane_count && message->offset < admit->lanes[message->partition].next_offset;

    if (ours->refusal)
        return;
    if (proving->is_admitted)
        ours->refusal =
            weir_arena_print(admit->arena, "it was admitted before: %.*s, partition %d, offset %" PRId64,
                             (int)message->topic.length, message->topic.data, message->partition, message->offset);
    else
        ours->refusal =
            weir_arena_print(admit->arena, "its id %s: partition %d, offset %" PRId64 "%s",
                             is_read ? "was counted" : "has come again and will be counted", message->partition,
                             message->offset, content == ours->content ? "" : ", with other content");
}

/* What matches no meter, or cannot be read, was not counted: by the present catalog, which is the only one there is. */
static bool look(void *context, const struct weir_message *message)
{
    static struct weir_reading readings[WEIR_METERS_MAX];
    const struct proving *proving = context;
    struct weir_admit *admit = proving->admit;
    struct weir_event event;
    struct weir_rejection why;
    uint32_t count = 0;

    if (weir_decode(admit->decoder, message, &event, &why) != WEIR_OK)
        return true;
    size_t place = *weir_admit_slot(admit, weir_admit_identity(admit, event.source, event.id));
    if (!place
        || (!proving->is_admitted && weir_quarantined_reason(admit->quarantined, message->partition, message->offset)))
        return true;
    if (weir_read_event(admit->reader, &event, readings, &count, &why) == WEIR_OK && count > 0)
        refuse_counted(proving, message, &admit->events[place - 1], weir_event_content(&event, 0));
    return true;
}

static void show(void *context, uint64_t done, uint64_t all)
{
    struct proving *proving = context;
    weir_progress_show(&proving->progress, "looking for resends: %" PRIu64 " of %" PRIu64 " offsets", done, all);
}

static enum weir_status scan_topic(struct proving *proving, const char *topic, struct weir_error *reterr)
{
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    struct weir_kafka_settings kafka = weir_open_kafka_settings(&proving->admit->settings, properties);
    const struct weir_kafka_scan scan = {
        .context = proving, .visit = look, .progress = show, .stop = proving->admit->stop};
    struct weir_kafka_stretch *stretches = NULL;
    size_t count = 0;

    kafka.topic = topic;
    enum weir_status status = weir_kafka_whole(&kafka, &stretches, &count, reterr);
    if (status == WEIR_OK)
        status = weir_kafka_scan(&kafka, stretches, count, &scan, reterr);
    else if (status == WEIR_REJECT && proving->is_admitted)
        status = WEIR_OK; /* nothing was ever admitted */
    free(stretches);
    return status;
}

int32_t weir_admit_partition(struct weir_slice lane)
{
    char text[WEIR_LANE_NAME_MAX + 1];

    if (lane.length > WEIR_LANE_NAME_MAX)
        return -1;
    if (lane.length)
        memcpy(text, lane.data, lane.length);
    text[lane.length] = '\0';
    const char *colon = strrchr(text, ':');
    long partition = colon ? strtol(colon + 1, NULL, 10) : -1;
    return partition < 0 || partition >= WEIR_PARTITIONS_MAX ? -1 : (int32_t)partition;
}

struct weir_admit_lane *weir_admit_lane(struct weir_admit *admit, int32_t partition)
{
    if (partition >= admit->lane_count) {
        admit->lanes = weir_resize(admit->lanes, (size_t)partition + 1, sizeof *admit->lanes);
        while (admit->lane_count <= partition)
            admit->lanes[admit->lane_count++] = (struct weir_admit_lane){.next_offset = -1};
    }
    return &admit->lanes[partition];
}

static void note_lane(void *context, struct weir_slice name, const struct weir_lane_state *state)
{
    int32_t partition = weir_admit_partition(name);

    if (partition >= 0)
        *weir_admit_lane(context, partition) = (struct weir_admit_lane){
            .is_known = true,
            .epoch = state->epoch,
            .next_offset = state->next_offset,
            .forgotten = state->forgotten,
            .quarantined = state->counts.quarantined,
        };
}

enum weir_status weir_admit_lanes(struct weir_admit *admit, struct weir_error *reterr)
{
    struct weir_window_store *store = NULL;
    enum weir_status status = weir_store_redis_open(admit->settings.redis_url, &store, reterr);

    if (status == WEIR_OK)
        status = store->ops->list_lanes(store, admit->settings.kafka_topic, note_lane, admit, reterr);
    weir_window_store_free(store);
    return status;
}

/* A lane that was built anew may have counted what it had refused before: its clock was another one. But what it
 * refuses is in quarantine before its cut is written. So when it has refused as many as quarantine holds of it, those
 * are the same events, and it has counted none of them. */
static const char *why_unproved(const struct weir_admit *admit, int32_t partition)
{
    if (partition >= admit->lane_count || !admit->lanes[partition].is_known)
        return "the window store does not know its lane: nothing tells whether it was counted (--unproved admits it)";
    if (weir_quarantined_is_short(admit->quarantined))
        return "quarantine has lost records: nothing tells whether its lane counted it later (--unproved admits it)";
    const struct weir_admit_lane *lane = &admit->lanes[partition];
    if (weir_quarantined_count(admit->quarantined, partition, lane->next_offset) != lane->quarantined)
        return "its lane was built anew and has counted some of what it had refused before: nothing tells whether this "
               "is one of them (see weir explain; --unproved admits it)";
    return NULL;
}

/* What its lane has yet to read it may judge otherwise, and those who own it now do not know what is admitted. */
static void refuse_unread(struct weir_admit *admit)
{
    for (size_t i = 0; i < admit->count; i++) {
        struct weir_admit_event *event = &admit->events[i];
        const struct weir_admit_lane *lane = weir_admit_lane(admit, event->partition);
        if (!event->refusal && !event->is_for_its_lane && lane->is_known && event->offset >= lane->next_offset)
            event->refusal = "no cut of its lane passes it yet: run the command again when the lane has read so far";
    }
}

static void refuse_unproved(struct weir_admit *admit)
{
    const char *why = NULL;

    for (size_t i = 0; i < admit->count; i++) { /* by partition */
        if (i == 0 || admit->events[i].partition != admit->events[i - 1].partition)
            why = why_unproved(admit, admit->events[i].partition);
        if (!admit->events[i].refusal && !admit->events[i].is_for_its_lane)
            admit->events[i].refusal = why;
    }
}

enum weir_status weir_admit_prove(struct weir_admit *admit, struct weir_error *reterr)
{
    struct proving proving = {.admit = admit, .progress = weir_progress_start("weir admit")};
    char topic[WEIR_SETTING_TEXT_MAX];
    enum weir_status status = scan_topic(&proving, admit->settings.kafka_topic, reterr);

    proving.is_admitted = true;
    if (status == WEIR_OK)
        status = scan_topic(&proving, weir_admitted_topic(&admit->settings, topic), reterr);
    weir_progress_end(&proving.progress);
    if (status == WEIR_OK)
        refuse_unread(admit);
    if (status == WEIR_OK && !admit->settings.unproved)
        refuse_unproved(admit);
    return status;
}
