/* The events of a window, out of Kafka again: each lane's partition is read from where Kafka's memory begins to the
 * lane's next offset, by the same decoder and reader. What was counted is told by the rules of the lane: what is in
 * quarantine was not, of one identity only the first was, and that one not when a retraction of it came. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/explain.h"
#include "cli/open.h"
#include "cli/quarantined.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/hash.h"
#include "common/log.h"
#include "ingest/decode.h"
#include "ingest/reading.h"

/* RETRACTED: the event that a retraction voids; RETRACTION: what voids it. */
enum outcome { COUNTED, DUPLICATE, CONFLICT, RETRACTED, RETRACTION, QUARANTINED };
static const char *const outcome_name[] = {"counted",   "duplicate",  "conflict",
                                           "retracted", "retraction", "quarantined"};

/* One event of the window. */
struct found {
    uint64_t id, content, text; /* hashes; text: of a `unique` value */
    int64_t offset, time;
    int64_t first; /* offset of the first one of this identity */
    bool is_retraction;
    struct weir_decimal value;
    enum outcome outcome;
    const char *reason; /* QUARANTINED */
};

struct reading_lane {
    const struct weir_explain *explain;
    const struct weir_meter *meter;
    struct weir_slice series_key;
    int64_t window_start;
    const struct weir_quarantined *quarantined;
    struct weir_decoder *decoder;
    struct weir_reader *reader;
    struct weir_hash_key key;
    struct weir_progress progress;
    const char *lane;
    bool is_second; /* looks for earlier ones of the identities found */
    struct found *found;
    size_t count, room;
    char (*names)[WEIR_IDENTIFIER_MAX + 1]; /* ids of those that will be listed */
    size_t *by_id;                          /* index + 1 into found of the first of an identity; open addressing */
    uint64_t mask;
};

/* 1. finding */
static size_t *slot_of(const struct reading_lane *reading, uint64_t id)
{
    uint64_t at = id & reading->mask;

    while (reading->by_id[at] && reading->found[reading->by_id[at] - 1].id != id)
        at = (at + 1) & reading->mask;
    return &reading->by_id[at];
}

static bool is_of_window(const struct reading_lane *reading, const struct weir_event *event,
                         const struct weir_reading *from)
{
    char bytes[WEIR_SERIES_KEY_MAX];
    struct weir_series series = {.meter = reading->meter->key, .customer = event->subject};
    int64_t start, end;

    if (from->meter != reading->meter->index)
        return false;
    weir_window_of(reading->meter->window, event->time, &start, &end);
    if (start != reading->window_start)
        return false;
    series.dimension_count = reading->meter->group_count;
    for (uint32_t i = 0; i < series.dimension_count; i++)
        series.dimensions[i] = (struct weir_dimension){reading->meter->groups[i].name, from->dimensions[i]};
    return weir_slice_equal(weir_slice_of(bytes, weir_series_write(&series, bytes)), reading->series_key);
}

static void add(struct reading_lane *reading, const struct weir_message *message, const struct weir_event *event,
                const struct weir_reading *from)
{
    if (reading->count == reading->room) {
        reading->room = reading->room ? reading->room * 2 : 256;
        reading->found = weir_resize(reading->found, reading->room, sizeof *reading->found);
    }
    struct found *found = &reading->found[reading->count++];
    *found = (struct found){
        .id = weir_fingerprint64(&reading->key, event->source, event->id),
        .content = weir_event_content(event, 0),
        .text = weir_hash64(from->unique_text.data, from->unique_text.length, 2),
        .offset = message->offset,
        .first = message->offset,
        .time = event->time,
        .is_retraction = event->is_retraction,
        .value = from->value,
        .reason = weir_quarantined_reason(reading->quarantined, message->partition, message->offset),
    };
    if (reading->count <= WEIR_EXPLAIN_EVENTS_MAX)
        snprintf(reading->names[reading->count - 1], sizeof *reading->names, "%.*s", (int)event->id.length,
                 event->id.data);
}

/* Another event of the same identity, before: then ours was not the one that counted. */
static void look_earlier(struct reading_lane *reading, const struct weir_message *message,
                         const struct weir_event *event)
{
    size_t place = *slot_of(reading, weir_fingerprint64(&reading->key, event->source, event->id));
    struct found *ours = place ? &reading->found[place - 1] : NULL;

    if (!ours || message->offset >= ours->first
        || weir_quarantined_reason(reading->quarantined, message->partition, message->offset))
        return;
    ours->first = message->offset;
    ours->outcome = ours->content == weir_event_content(event, 0) ? DUPLICATE : CONFLICT;
}

static bool visit(void *context, const struct weir_message *message)
{
    static struct weir_reading readings[WEIR_METERS_MAX];
    struct reading_lane *reading = context;
    struct weir_event event;
    struct weir_rejection why;
    uint32_t count = 0;

    if (weir_decode(reading->decoder, message, &event, &why) != WEIR_OK
        || weir_read_event(reading->reader, &event, readings, &count, &why) != WEIR_OK)
        return true;
    if (reading->is_second && count > 0)
        look_earlier(reading, message, &event);
    for (uint32_t i = 0; i < count && !reading->is_second; i++)
        if (is_of_window(reading, &event, &readings[i]))
            add(reading, message, &event, &readings[i]);
    return true;
}

static void show(void *context, uint64_t done, uint64_t all)
{
    struct reading_lane *reading = context;
    weir_progress_show(&reading->progress, "lane %s%s: %" PRIu64 " of %" PRIu64 " offsets", reading->lane,
                       reading->is_second ? ", once more" : "", done, all);
}

/* 2. judging and adding up */

/* Another one of an identity. What it voids lies in the same window: a retraction carries its event's time and data. */
static void judge_again(struct found *first, struct found *found)
{
    found->first = first->offset;
    found->outcome = first->content == found->content ? DUPLICATE : CONFLICT;
    if (found->outcome == DUPLICATE && found->is_retraction && first->outcome == COUNTED) {
        found->outcome = RETRACTION;
        first->outcome = RETRACTED;
    }
}

/* In order of offset: the first of an identity that is not in quarantine counts. */
static void judge(struct reading_lane *reading)
{
    uint64_t slots = 1024;

    while (slots < reading->count * 2)
        slots *= 2;
    free(reading->by_id);
    reading->by_id = weir_new_array(slots, sizeof *reading->by_id);
    reading->mask = slots - 1;
    for (size_t i = 0; i < reading->count; i++) {
        struct found *found = &reading->found[i];
        size_t *slot = slot_of(reading, found->id);
        if (found->reason) {
            found->outcome = QUARANTINED;
        } else if (*slot) {
            judge_again(&reading->found[*slot - 1], found);
        } else {
            *slot = i + 1;
            found->outcome = found->is_retraction ? RETRACTION : COUNTED;
        }
    }
}

static int compare_texts(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static struct weir_decimal count_texts(const struct reading_lane *reading)
{
    uint64_t *texts = weir_new_array(reading->count + 1, sizeof *texts);
    size_t count = 0;
    int64_t distinct = 0;

    for (size_t i = 0; i < reading->count; i++)
        if (reading->found[i].outcome == COUNTED)
            texts[count++] = reading->found[i].text;
    qsort(texts, count, sizeof *texts, compare_texts);
    for (size_t i = 0; i < count; i++)
        distinct += i == 0 || texts[i] != texts[i - 1];
    free(texts);
    return weir_decimal_of(distinct);
}

/* false: the sum does not fit. */
static bool fold_one(enum weir_aggregation aggregation, struct weir_window_total *total, const struct found *found)
{
    bool is_first = total->events++ == 0;

    switch (aggregation) {
    case WEIR_AGGREGATION_SUM:
    case WEIR_AGGREGATION_AVG:
        return weir_decimal_add(total->value, found->value, &total->value);
    case WEIR_AGGREGATION_MIN:
        if (is_first || weir_decimal_compare(found->value, total->value) < 0)
            total->value = found->value;
        return true;
    case WEIR_AGGREGATION_MAX:
        if (is_first || weir_decimal_compare(found->value, total->value) > 0)
            total->value = found->value;
        return true;
    case WEIR_AGGREGATION_LATEST: /* offsets ascend */
        if (is_first || found->time >= total->latest_time) {
            total->value = found->value;
            total->latest_time = found->time;
        }
        return true;
    default:
        return true;
    }
}

static bool fold(const struct reading_lane *reading, struct weir_window_total *ret_total)
{
    bool is_right = true;

    *ret_total = (struct weir_window_total){0};
    for (size_t i = 0; i < reading->count && is_right; i++)
        if (reading->found[i].outcome == COUNTED)
            is_right = fold_one(reading->meter->aggregation, ret_total, &reading->found[i]);
    if (reading->meter->aggregation == WEIR_AGGREGATION_UNIQUE)
        ret_total->value = count_texts(reading);
    return is_right;
}

/* 3. one lane */
static json_t *json_found(const struct reading_lane *reading)
{
    json_t *list = json_array();

    for (size_t i = 0; i < reading->count && i < WEIR_EXPLAIN_EVENTS_MAX; i++) {
        const struct found *found = &reading->found[i];
        char time[WEIR_TIME_TEXT_MAX];
        json_t *entry = json_object();
        weir_time_format(found->time, time);
        json_object_set_new(entry, "offset", json_integer(found->offset));
        json_object_set_new(entry, "id", json_string(reading->names[i]));
        json_object_set_new(entry, "time", json_string(time));
        json_object_set_new(entry, "value", weir_explain_json_decimal(found->value));
        json_object_set_new(entry, "outcome", json_string(outcome_name[found->outcome]));
        if (found->first != found->offset)
            json_object_set_new(entry, "of_offset", json_integer(found->first));
        if (found->reason)
            json_object_set_new(entry, "reason", json_string(found->reason));
        json_array_append_new(list, entry);
    }
    return list;
}

static void set_count(json_t *object, const struct reading_lane *reading, enum outcome outcome)
{
    json_int_t count = 0;

    for (size_t i = 0; i < reading->count; i++)
        count += reading->found[i].outcome == outcome;
    json_object_set_new(object, outcome_name[outcome], json_integer(count));
}

static void describe(const struct reading_lane *reading, json_t *lane, const struct weir_kafka_stretch *stretch)
{
    struct weir_window_total total;
    json_t *events = json_object();
    bool fits = fold(reading, &total);
    bool is_same = fits && total.events == (uint64_t)json_integer_value(json_object_get(lane, "events"))
                   && total.value.e12 == weir_explain_decimal(lane, "value").e12;

    json_object_set_new(events, "from_offset", json_integer(stretch->low));
    json_object_set_new(events, "to_offset", json_integer(stretch->to));
    json_object_set_new(events, "is_whole", json_boolean(stretch->low == 0));
    json_object_set_new(events, "messages", json_integer((json_int_t)stretch->messages));
    json_object_set_new(events, "found", json_integer((json_int_t)reading->count));
    for (int i = COUNTED; i <= QUARANTINED; i++)
        set_count(events, reading, (enum outcome)i);
    json_object_set_new(events, "value", weir_explain_json_decimal(total.value));
    json_object_set_new(events, "is_total", json_boolean(is_same));
    json_object_set_new(events, "list", json_found(reading));
    json_object_set_new(lane, "read", events);
}

/* The first pass sees only events of the window. When more count than were rated, an earlier one of the same identity
 * may have been of another time, customer or type: a second pass looks for it. */
static enum weir_status read_lane(struct reading_lane *reading, json_t *lane, const struct weir_kafka_settings *kafka,
                                  int32_t partition, struct weir_error *reterr)
{
    const struct weir_kafka_scan scan = {
        .context = reading, .visit = visit, .progress = show, .stop = reading->explain->stop};
    const json_t *next = json_object_get(lane, "next_offset");
    struct weir_kafka_stretch stretch = {.partition = partition,
                                         .to = json_is_integer(next) ? json_integer_value(next) : INT64_MAX};
    struct weir_kafka_stretch again;
    json_int_t counted = 0;

    reading->count = 0;
    reading->is_second = false;
    again = stretch;
    enum weir_status status = weir_kafka_scan(kafka, &stretch, 1, &scan, reterr);
    if (status != WEIR_OK)
        return status;
    judge(reading);
    for (size_t i = 0; i < reading->count; i++)
        counted += reading->found[i].outcome == COUNTED;
    if (counted > json_integer_value(json_object_get(lane, "events"))) {
        reading->is_second = true;
        status = weir_kafka_scan(kafka, &again, 1, &scan, reterr);
    }
    if (status == WEIR_OK)
        describe(reading, lane, &stretch);
    return status;
}

/* "events:3" to the topic "events" and 3. */
static bool split_lane(const char *lane, char topic[WEIR_LANE_NAME_MAX + 1], int32_t *ret_partition)
{
    const char *colon = strrchr(lane, ':');
    char *end;

    if (!colon || colon == lane || strlen(lane) > WEIR_LANE_NAME_MAX)
        return false;
    snprintf(topic, WEIR_LANE_NAME_MAX + 1, "%.*s", (int)(colon - lane), lane);
    *ret_partition = (int32_t)strtol(colon + 1, &end, 10);
    return *end == '\0' && *ret_partition >= 0;
}

/* The series key's bytes from hexadecimal; into bytes. */
static size_t parse_hex(const char *text, char bytes[WEIR_SERIES_KEY_MAX])
{
    static const char digits[] = "0123456789abcdef";
    size_t length = 0;

    for (; text[0] && text[1] && length < WEIR_SERIES_KEY_MAX; text += 2) {
        const char *high = strchr(digits, text[0]), *low = strchr(digits, text[1]);
        if (!high || !low)
            return 0;
        bytes[length++] = (char)((high - digits) << 4 | (low - digits));
    }
    return length;
}

static enum weir_status read_topic_lane(struct reading_lane *reading, json_t *lane, struct weir_error *reterr)
{
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    struct weir_kafka_settings kafka = weir_open_kafka_settings(&reading->explain->settings, properties);
    char topic[WEIR_LANE_NAME_MAX + 1], series_key[WEIR_SERIES_KEY_MAX];
    struct weir_quarantined *quarantined = NULL;
    int32_t partition;

    reading->lane = weir_explain_text(lane, "lane");
    if (!split_lane(reading->lane, topic, &partition))
        return WEIR_OK;
    kafka.topic = topic;
    reading->series_key = weir_slice_of(series_key, parse_hex(weir_explain_text(lane, "series_key"), series_key));
    enum weir_status status = weir_quarantined_load(&reading->explain->settings, weir_slice_text(topic),
                                                    reading->explain->stop, &quarantined, reterr);
    reading->quarantined = quarantined;
    if (status == WEIR_OK)
        status = read_lane(reading, lane, &kafka, partition, reterr);
    if (status == WEIR_OK && weir_quarantined_is_short(quarantined))
        json_object_set_new(json_object_get(lane, "read"), "is_quarantine_whole", json_false());
    reading->quarantined = weir_quarantined_free(quarantined);
    reading->series_key = (struct weir_slice){0};
    return status;
}

enum weir_status weir_explain_events(struct weir_explain *explain, struct weir_error *reterr)
{
    static const unsigned char no_secret[WEIR_HASH_SECRET_BYTES];
    const json_t *item = json_object_get(explain->root, "item");
    struct reading_lane reading = {.explain = explain, .progress = weir_progress_start("weir explain")};
    enum weir_status status = WEIR_OK;
    size_t index;
    json_t *lane;

    reading.meter = explain->catalog
                        ? weir_catalog_meter(explain->catalog, weir_slice_text(weir_explain_text(item, "meter")))
                        : NULL;
    if (!reading.meter)
        return WEIR_OK;
    reading.window_start = weir_explain_time(item, "window_start");
    reading.decoder = weir_decoder_new(explain->catalog);
    reading.reader = weir_reader_new(explain->catalog);
    reading.names = weir_new_array(WEIR_EXPLAIN_EVENTS_MAX, sizeof *reading.names);
    weir_hash_key_init(&reading.key, no_secret);
    json_array_foreach(json_object_get(explain->root, "lanes"), index, lane)
    {
        status = read_topic_lane(&reading, lane, reterr);
        if (status == WEIR_REJECT) { /* the topic is gone: the rest of the explanation stands */
            json_object_set_new(lane, "unread", json_string(reterr->text));
            status = WEIR_OK;
        }
        if (status != WEIR_OK)
            break;
    }
    weir_progress_end(&reading.progress);
    weir_decoder_free(reading.decoder);
    weir_reader_free(reading.reader);
    free(reading.found);
    free(reading.names);
    free(reading.by_id);
    return status;
}
