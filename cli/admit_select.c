#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admit.h"
#include "cli/open.h"
#include "common/calendar.h"
#include "common/log.h"

/* 1. which */
static bool parse_offset(const char *text, const char *end, int64_t *ret_offset)
{
    char *stop;

    errno = 0;
    *ret_offset = strtoll(text, &stop, 10);
    return text < end && *text >= '0' && *text <= '9' && stop == end && errno == 0;
}

bool weir_admit_parse_offsets(struct weir_admit *admit)
{
    const char *text = admit->settings.offset, *dots = strstr(text, "..");
    const char *end = text + strlen(text);

    admit->offset_from = 0;
    admit->offset_to = INT64_MAX;
    if (!*text)
        return true;
    bool is_right =
        dots ? parse_offset(text, dots, &admit->offset_from) && parse_offset(dots + 2, end, &admit->offset_to)
             : parse_offset(text, end, &admit->offset_from);
    if (!dots)
        admit->offset_to = admit->offset_from;
    if (!is_right || admit->offset_from > admit->offset_to)
        weir_log_plain(WEIR_LOG_ERROR, "--offset: '%s' is not an offset, nor two of them as in 100..200", text);
    return is_right && admit->offset_from <= admit->offset_to;
}

bool weir_admit_check_reason(const struct weir_admit *admit)
{
    const char *reason = admit->settings.reason;
    char allowed[WEIR_REASON_COUNT * 32] = "any";
    size_t length = strlen(allowed);

    if (!*reason || strcmp(reason, "any") == 0)
        return true;
    for (int i = 0; i < WEIR_REASON_COUNT; i++) {
        if (strcmp(reason, weir_reason_name[i]) == 0)
            return true;
        length += (size_t)snprintf(allowed + length, sizeof allowed - length, ", %s", weir_reason_name[i]);
    }
    weir_log_plain(WEIR_LOG_ERROR, "--reason: '%s' is none; allowed are %s", reason, allowed);
    return false;
}

static bool is_selected(const struct weir_admit *admit, const struct weir_quarantined_record *record)
{
    const struct weir_settings *settings = &admit->settings;
    char lane[WEIR_SETTING_TEXT_MAX];

    if (!weir_slice_equal(record->topic, weir_slice_text(settings->kafka_topic)) || record->offset < admit->offset_from
        || record->offset > admit->offset_to)
        return false;
    if (*settings->reason && strcmp(settings->reason, "any") != 0
        && strcmp(settings->reason, weir_reason_name[record->reason]) != 0)
        return false;
    snprintf(lane, sizeof lane, "%s:%d", settings->kafka_topic, record->partition);
    return !*settings->lane || strcmp(settings->lane, lane) == 0;
}

/* --customer, and --id SOURCE/ID: either part may hold a slash. */
static bool is_wanted(const struct weir_admit *admit, const struct weir_admit_event *event)
{
    const char *customer = admit->settings.customer, *id = admit->settings.id;
    size_t length = strlen(id);

    if (*customer && !(event->is_decoded && weir_slice_equal(event->customer, weir_slice_text(customer))))
        return false;
    return !*id
           || (event->is_decoded && length == (size_t)event->source.length + 1 + event->id.length
               && memcmp(id, event->source.data, event->source.length) == 0 && id[event->source.length] == '/'
               && memcmp(id + event->source.length + 1, event->id.data, event->id.length) == 0);
}

/* 2. what it is */
bool weir_admit_decode(struct weir_admit *admit, const struct weir_admit_event *from, struct weir_event *ret_event,
                       struct weir_rejection *reterr)
{
    const struct weir_message message = {
        .topic = weir_slice_text(admit->settings.kafka_topic),
        .partition = from->partition,
        .offset = from->offset,
        .sequence = from->offset,
        .value = from->value,
        .header_count = from->header_count,
        .headers = from->headers,
    };

    return weir_decode(admit->decoder, &message, ret_event, reterr) == WEIR_OK;
}

uint64_t weir_admit_identity(const struct weir_admit *admit, struct weir_slice source, struct weir_slice id)
{
    return weir_fingerprint64(&admit->key, source, id);
}

static struct weir_slice copy(struct weir_admit *admit, struct weir_slice text)
{
    admit->bytes += text.length;
    return weir_arena_copy(admit->arena, text.length ? text.data : "", text.length);
}

/* An event that its own lane may still count must not count in another one too: its producer may send it again. The
 * lane itself knows its ids. */
static bool may_be_counted_by_its_lane(const struct weir_admit *admit, const struct weir_admit_event *event)
{
    return event->partition < admit->lane_count && admit->lanes[event->partition].is_known
           && event->time >= admit->lanes[event->partition].forgotten;
}

/* Decodes, reads by the present catalog, and says why it cannot be admitted. */
static void judge(struct weir_admit *admit, struct weir_admit_event *event)
{
    static struct weir_reading readings[WEIR_METERS_MAX];
    struct weir_event decoded;
    struct weir_rejection why;
    uint32_t count = 0;

    if (event->is_cut || event->reason == WEIR_REASON_TOO_LARGE) { /* what is left of it may read as something else */
        event->refusal =
            "quarantine does not hold the whole event; its topic does, at that place, until it expires there";
        return;
    }
    if (!weir_admit_decode(admit, event, &decoded, &why)) {
        event->refusal = weir_arena_print(admit->arena, "%s: %s", weir_reason_name[why.reason], why.detail);
        return;
    }
    event->is_decoded = true;
    event->identity = weir_admit_identity(admit, decoded.source, decoded.id);
    event->content = weir_event_content(&decoded, 0);
    event->source = copy(admit, decoded.source);
    event->id = copy(admit, decoded.id);
    event->customer = copy(admit, decoded.subject);
    event->time = decoded.time;
    event->is_retraction = decoded.is_retraction;
    event->is_for_its_lane = may_be_counted_by_its_lane(admit, event);
    if (event->is_tombstone)
        event->refusal = "its message has no value (a Kafka tombstone)";
    else if (decoded.is_retraction && !event->is_for_its_lane)
        event->refusal =
            "it is a retraction, and would void nothing outside of the admitted lane: publish an event with "
            "the negative value";
    else if (event->reason == WEIR_REASON_CONFLICT)
        event->refusal = "its id was counted with other content: send it with an id of its own";
    else if (decoded.time - weir_time_now() > admit->settings.max_future)
        event->refusal = "it is still too far in the future (max_future)";
    else if (weir_read_event(admit->reader, &decoded, readings, &count, &why) != WEIR_OK)
        event->refusal = weir_arena_print(admit->arena, "%s: %s", weir_reason_name[why.reason], why.detail);
    else if (count == 0)
        event->refusal = "it matches no meter of the catalog";
    for (uint32_t i = 0; i < count && !event->refusal && !event->is_for_its_lane; i++)
        if (admit->catalog->meters[readings[i].meter].aggregation == WEIR_AGGREGATION_UNIQUE)
            event->refusal = weir_arena_print(
                admit->arena, "meter '%.*s' counts distinct values, and those of two lanes cannot be told apart",
                (int)admit->catalog->meters[readings[i].meter].key.length,
                admit->catalog->meters[readings[i].meter].key.data);
}

/* 3. all of them */
static bool add_record(void *context, const struct weir_message *message)
{
    struct weir_admit *admit = context;
    struct weir_quarantined_record *record = weir_new(sizeof *record);

    if (weir_quarantined_parse(message, record) && is_selected(admit, record)) {
        if (admit->count == admit->room) {
            admit->room = admit->room ? admit->room * 2 : 256;
            admit->events = weir_resize(admit->events, admit->room, sizeof *admit->events);
        }
        struct weir_admit_event *event = &admit->events[admit->count];
        struct weir_header *headers = weir_arena_take_array(admit->arena, record->header_count, sizeof *headers);
        for (uint32_t i = 0; i < record->header_count; i++) { /* names are C strings for librdkafka */
            const struct weir_header *header = &record->headers[i];
            headers[i] = (struct weir_header){copy(admit, header->name),
                                              header->value.data ? copy(admit, header->value) : header->value};
        }
        *event = (struct weir_admit_event){
            .partition = record->partition,
            .offset = record->offset,
            .reason = record->reason,
            .value = copy(admit, message->value),
            .headers = headers,
            .header_count = record->header_count,
            .is_cut = record->is_cut,
            .is_tombstone = message->is_tombstone,
        };
        judge(admit, event);
        admit->count += is_wanted(admit, event);
    }
    free(record);
    return admit->count <= WEIR_ADMIT_EVENTS_MAX && admit->bytes <= WEIR_ADMIT_BYTES_MAX;
}

static int by_place(const void *a, const void *b)
{
    const struct weir_admit_event *left = a, *right = b;

    if (left->partition != right->partition)
        return left->partition < right->partition ? -1 : 1;
    return (left->offset > right->offset) - (left->offset < right->offset);
}

size_t *weir_admit_slot(const struct weir_admit *admit, uint64_t identity)
{
    uint64_t at = identity & admit->mask;

    while (admit->by_identity[at] && admit->events[admit->by_identity[at] - 1].identity != identity)
        at = (at + 1) & admit->mask;
    return &admit->by_identity[at];
}

/* One record for each place (a crash may have repeated some), and one event for each identity. */
static void settle(struct weir_admit *admit)
{
    size_t kept = 0;
    uint64_t slots = 1024;

    if (admit->count)
        qsort(admit->events, admit->count, sizeof *admit->events, by_place);
    for (size_t i = 0; i < admit->count; i++)
        if (kept == 0 || by_place(&admit->events[kept - 1], &admit->events[i]) != 0)
            admit->events[kept++] = admit->events[i];
    admit->count = kept;
    while (slots < admit->count * 2)
        slots *= 2;
    admit->by_identity = weir_new_array(slots, sizeof *admit->by_identity);
    admit->mask = slots - 1;
    for (size_t i = 0; i < admit->count; i++) {
        struct weir_admit_event *event = &admit->events[i];
        size_t *slot = event->refusal ? NULL : weir_admit_slot(admit, event->identity);
        if (slot && *slot) {
            const struct weir_admit_event *first = &admit->events[*slot - 1];
            event->refusal = weir_arena_print(admit->arena,
                                              first->content == event->content
                                                  ? "the same event stands at partition %d, offset %" PRId64
                                                  : "partition %d, offset %" PRId64 " has its id with other content",
                                              first->partition, first->offset);
        } else if (slot) {
            *slot = i + 1;
        }
    }
    for (size_t i = 0; i < admit->count; i++) {
        const struct weir_admit_event *event = &admit->events[i];
        size_t place = event->is_retraction && event->refusal ? *weir_admit_slot(admit, event->identity) : 0;
        if (place && admit->events[place - 1].content == event->content)
            admit->events[place - 1].refusal =
                weir_arena_print(admit->arena, "partition %d, offset %" PRId64 " is a retraction of it",
                                 event->partition, event->offset);
    }
}

enum weir_status weir_admit_select(struct weir_admit *admit, struct weir_error *reterr)
{
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    struct weir_kafka_settings kafka = weir_open_kafka_settings(&admit->settings, properties);
    struct weir_kafka_scan scan = {.context = admit, .visit = add_record, .stop = admit->stop};
    struct weir_kafka_stretch *stretches = NULL;
    char topic[WEIR_SETTING_TEXT_MAX];
    size_t count = 0;

    kafka.topic = weir_quarantine_topic(&admit->settings, topic);
    enum weir_status status = weir_kafka_whole(&kafka, &stretches, &count, reterr);
    if (status == WEIR_OK)
        status = weir_kafka_scan(&kafka, stretches, count, &scan, reterr);
    free(stretches);
    if (status == WEIR_OK && (admit->count > WEIR_ADMIT_EVENTS_MAX || admit->bytes > WEIR_ADMIT_BYTES_MAX))
        status = weir_fail(reterr, WEIR_REJECT,
                           "more than %d events or %d MiB are selected: take fewer at once (--lane, --offset, "
                           "--customer)",
                           WEIR_ADMIT_EVENTS_MAX, WEIR_ADMIT_BYTES_MAX >> 20);
    if (status == WEIR_OK)
        settle(admit);
    return status;
}
