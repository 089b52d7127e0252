/* An event in quarantine may have come again, and then it was counted: under the same identity, at another offset.
 * Kafka tells as far as it remembers. A place that is not in quarantine itself was counted, or will be. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admit.h"
#include "cli/admitted.h"
#include "cli/open.h"
#include "common/daemon.h"

struct proving {
    struct weir_admit *admit;
    bool is_admitted; /* the topic of admitted events is read, not that of events */
    struct weir_progress progress;
    const int64_t *next_offsets; /* of the lanes, by partition; -1: not known */
    int32_t partition_count;
};

static void refuse_counted(const struct proving *proving, const struct weir_message *message,
                           struct weir_admit_event *ours, uint64_t content)
{
    struct weir_admit *admit = proving->admit;
    bool is_read =
        message->partition < proving->partition_count && message->offset < proving->next_offsets[message->partition];

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

struct offset_list {
    int64_t *at;
    int32_t count;
};

static void note_offset(void *context, struct weir_slice name, const struct weir_lane_state *state)
{
    struct offset_list *list = context;
    char text[WEIR_LANE_NAME_MAX + 1];

    memcpy(text, name.data, name.length);
    text[name.length] = '\0';
    const char *colon = strrchr(text, ':');
    long partition = colon ? strtol(colon + 1, NULL, 10) : -1;
    if (partition < 0 || partition > INT32_MAX - 1)
        return;
    if (partition >= list->count) {
        list->at = weir_resize(list->at, (size_t)partition + 1, sizeof *list->at);
        while (list->count <= partition)
            list->at[list->count++] = -1;
    }
    list->at[partition] = state->next_offset;
}

enum weir_status weir_admit_prove(struct weir_admit *admit, struct weir_error *reterr)
{
    struct proving proving = {.admit = admit, .progress = weir_progress_start("weir admit")};
    struct offset_list offsets = {0};
    struct weir_window_store *store = NULL;
    char topic[WEIR_SETTING_TEXT_MAX];
    enum weir_status status = weir_store_redis_open(admit->settings.redis_url, &store, reterr);

    if (status == WEIR_OK)
        status = store->ops->list_lanes(store, admit->settings.kafka_topic, note_offset, &offsets, reterr);
    weir_window_store_free(store);
    proving.next_offsets = offsets.at;
    proving.partition_count = offsets.count;
    if (status == WEIR_OK)
        status = scan_topic(&proving, admit->settings.kafka_topic, reterr);
    proving.is_admitted = true;
    if (status == WEIR_OK)
        status = scan_topic(&proving, weir_admitted_topic(&admit->settings, topic), reterr);
    weir_progress_end(&proving.progress);
    free(offsets.at);
    return status;
}
