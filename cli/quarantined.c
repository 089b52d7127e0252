#include "cli/quarantined.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/open.h"
#include "common/hash.h"

/* 1. one record */
static bool parse_number(struct weir_slice text, int64_t *ret_value)
{
    char digits[24], *end;

    if (text.length == 0 || text.length >= sizeof digits)
        return false;
    memcpy(digits, text.data, text.length);
    digits[text.length] = '\0';
    *ret_value = strtoll(digits, &end, 10);
    return *end == '\0' && *ret_value >= 0;
}

static bool parse_reason(struct weir_slice text, enum weir_reason *ret_reason)
{
    for (int i = 0; i < WEIR_REASON_COUNT; i++)
        if (weir_slice_equal(text, weir_slice_text(weir_reason_name[i]))) {
            *ret_reason = (enum weir_reason)i;
            return true;
        }
    return false;
}

bool weir_quarantined_parse(const struct weir_message *message, struct weir_quarantined_record *ret_record)
{
    bool has_topic = false, has_partition = false, has_offset = false, has_reason = false;
    int64_t partition = 0;

    ret_record->header_count = 0;
    ret_record->is_cut = false;
    ret_record->detail = (struct weir_slice){0};
    for (uint32_t i = 0; i < message->header_count; i++) {
        const struct weir_header *header = &message->headers[i];
        if (weir_slice_equal(header->name, weir_slice_text("weir_topic"))) {
            ret_record->topic = header->value;
            has_topic = true;
        } else if (weir_slice_equal(header->name, weir_slice_text("weir_partition")))
            has_partition = parse_number(header->value, &partition) && partition <= INT32_MAX;
        else if (weir_slice_equal(header->name, weir_slice_text("weir_offset")))
            has_offset = parse_number(header->value, &ret_record->offset);
        else if (weir_slice_equal(header->name, weir_slice_text("weir_reason")))
            has_reason = parse_reason(header->value, &ret_record->reason);
        else if (weir_slice_equal(header->name, weir_slice_text("weir_detail")))
            ret_record->detail = header->value;
        else if (weir_slice_equal(header->name, weir_slice_text("weir_cut")))
            ret_record->is_cut = true;
        else if (!weir_slice_equal(header->name, weir_slice_text("weir_field")))
            ret_record->headers[ret_record->header_count++] = *header;
    }
    ret_record->partition = (int32_t)partition;
    return has_topic && has_partition && has_offset && has_reason;
}

/* 2. all of them */
struct place {
    int64_t offset;
    int32_t partition;
    bool is_taken;
    unsigned char reason;
};

struct weir_quarantined {
    struct weir_slice topic;
    struct place *places; /* open addressing, at most three quarters full */
    uint64_t mask, count;
    bool is_short;
};

static struct place *find(const struct weir_quarantined *quarantined, int32_t partition, int64_t offset)
{
    uint64_t at = weir_hash64(&offset, sizeof offset, (uint64_t)partition) & quarantined->mask;

    while (quarantined->places[at].is_taken
           && (quarantined->places[at].offset != offset || quarantined->places[at].partition != partition))
        at = (at + 1) & quarantined->mask;
    return &quarantined->places[at];
}

static void grow(struct weir_quarantined *quarantined)
{
    struct place *old = quarantined->places;
    uint64_t old_slots = old ? quarantined->mask + 1 : 0, slots = old ? old_slots * 2 : 1024;

    quarantined->places = weir_new_array(slots, sizeof *quarantined->places);
    quarantined->mask = slots - 1;
    for (uint64_t i = 0; i < old_slots; i++)
        if (old[i].is_taken)
            *find(quarantined, old[i].partition, old[i].offset) = old[i];
    free(old);
}

static bool add_record(void *context, const struct weir_message *message)
{
    struct weir_quarantined *quarantined = context;
    struct weir_quarantined_record record;

    if (!weir_quarantined_parse(message, &record) || !weir_slice_equal(record.topic, quarantined->topic))
        return true;
    if (quarantined->count * 4 >= (quarantined->mask + 1) * 3)
        grow(quarantined);
    struct place *place = find(quarantined, record.partition, record.offset);
    quarantined->count += !place->is_taken; /* a crash may have repeated the record */
    *place = (struct place){record.offset, record.partition, true, (unsigned char)record.reason};
    return true;
}

const char *weir_quarantine_topic(const struct weir_settings *settings, char text[WEIR_SETTING_TEXT_MAX])
{
    snprintf(text, WEIR_SETTING_TEXT_MAX, "%s%s",
             *settings->quarantine_topic ? settings->quarantine_topic : settings->kafka_topic,
             *settings->quarantine_topic ? "" : ".quarantine");
    return text;
}

enum weir_status weir_quarantined_load(const struct weir_settings *settings, struct weir_slice topic,
                                       const _Atomic bool *stop, struct weir_quarantined **ret_quarantined,
                                       struct weir_error *reterr)
{
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    struct weir_kafka_settings kafka = weir_open_kafka_settings(settings, properties);
    struct weir_quarantined *quarantined = weir_new(sizeof *quarantined);
    struct weir_kafka_scan scan = {.context = quarantined, .visit = add_record, .stop = stop};
    struct weir_kafka_stretch *stretches = NULL;
    char name[WEIR_SETTING_TEXT_MAX];
    size_t count = 0;

    quarantined->topic = topic;
    grow(quarantined);
    kafka.topic = weir_quarantine_topic(settings, name);
    enum weir_status status = weir_kafka_whole(&kafka, &stretches, &count, reterr);
    bool is_absent = status == WEIR_REJECT;
    if (status == WEIR_OK)
        status = weir_kafka_scan(&kafka, stretches, count, &scan, reterr);
    for (size_t i = 0; i < count; i++)
        quarantined->is_short = quarantined->is_short || stretches[i].low > 0;
    free(stretches);
    if (status != WEIR_OK && !is_absent) {
        weir_quarantined_free(quarantined);
        return status;
    }
    *ret_quarantined = quarantined;
    return WEIR_OK;
}

struct weir_quarantined *weir_quarantined_free(struct weir_quarantined *quarantined)
{
    if (!quarantined)
        return NULL;
    free(quarantined->places);
    free(quarantined);
    return NULL;
}

const char *weir_quarantined_reason(const struct weir_quarantined *quarantined, int32_t partition, int64_t offset)
{
    const struct place *place = find(quarantined, partition, offset);

    return place->is_taken ? weir_reason_name[place->reason] : NULL;
}

uint64_t weir_quarantined_count(const struct weir_quarantined *quarantined, int32_t partition, int64_t below)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i <= quarantined->mask; i++) {
        const struct place *place = &quarantined->places[i];
        count += place->is_taken && place->partition == partition && place->offset < below;
    }
    return count;
}

bool weir_quarantined_is_short(const struct weir_quarantined *quarantined)
{
    return quarantined->is_short;
}
