/* Between publishing and counting. What is published is decided: whoever takes a lane from then on is told of it. An
 * owner who took its lane after we had looked at it, and before that, may not have been: so it is fenced, takes the
 * lane again, and then it is. Each message says which owner was looked at, so that this holds as well for what an
 * earlier run published that was killed before it came here. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/admit.h"
#include "cli/admitted.h"
#include "cli/open.h"
#include "common/hash.h"
#include "common/log.h"

static void concern(struct weir_admit_lane *lane, uint64_t epoch)
{
    lane->has_others = lane->has_others || (lane->is_concerned && epoch != lane->published_epoch);
    lane->is_concerned = true;
    lane->published_epoch = epoch;
}

static bool note(void *context, const struct weir_message *message)
{
    struct weir_admit *admit = context;
    uint64_t epoch = 0;
    struct weir_slice from = weir_admitted_from(message, &epoch);
    int32_t partition = weir_admit_partition(from);

    if (partition >= 0)
        concern(weir_admit_lane(admit, partition), epoch);
    for (int32_t i = 0; i < admit->lane_count && from.length == 0; i++) /* published by an older weir */
        concern(&admit->lanes[i], 0);
    return true;
}

/* Those that the admitted lane has not counted yet. */
static enum weir_status note_published(struct weir_admit *admit, struct weir_window_store *store,
                                       const struct weir_kafka_settings *kafka, struct weir_error *reterr)
{
    const struct weir_kafka_scan scan = {.context = admit, .visit = note, .stop = admit->stop};
    struct weir_kafka_stretch stretch = {.to = INT64_MAX};
    char name[WEIR_LANE_NAME_MAX + 1];
    struct weir_lane_state state;
    int length = snprintf(name, sizeof name, "%s:0", kafka->topic);

    weir_check(length < (int)sizeof name);
    enum weir_status status = store->ops->read_lane(store, weir_slice_text(name), &state, reterr);
    if (status != WEIR_OK)
        return status;
    stretch.from = state.epoch > 0 && state.next_offset > 0 ? state.next_offset : 0;
    return weir_kafka_scan(kafka, &stretch, 1, &scan, reterr);
}

/* Whether the lane, taken anew, may have counted one of those that are admitted now. */
static bool may_have_counted(const struct weir_admit *admit, int32_t partition, const struct weir_lane_state *now)
{
    const struct weir_admit_lane *before = &admit->lanes[partition];
    bool is_passed = false;

    for (size_t i = 0; i < admit->count; i++) {
        const struct weir_admit_event *event = &admit->events[i];
        is_passed = is_passed
                    || (!event->refusal && !event->is_for_its_lane && event->partition == partition
                        && event->offset < now->next_offset);
    }
    return is_passed
           && (!before->is_known || now->next_offset < before->next_offset || now->forgotten < before->forgotten
               || now->counts.quarantined < before->quarantined);
}

static enum weir_status settle_lane(const struct weir_admit *admit, int32_t partition, struct weir_window_store *store,
                                    struct weir_error *reterr)
{
    const struct weir_admit_lane *lane = &admit->lanes[partition];
    unsigned char secret[WEIR_LANE_SECRET_BYTES];
    struct weir_lane_state state;
    char name[WEIR_LANE_NAME_MAX + 1];
    int length = snprintf(name, sizeof name, "%s:%d", admit->settings.kafka_topic, partition);

    weir_check(length < (int)sizeof name);
    enum weir_status status = store->ops->read_lane(store, weir_slice_text(name), &state, reterr);
    if (status != WEIR_OK || (!lane->has_others && state.epoch == lane->published_epoch))
        return status;
    weir_hash_make_secret(secret);
    status = store->ops->take_lane(store, weir_slice_text(name), secret, NULL, &state, reterr);
    if (status == WEIR_FENCED) /* somebody else took it after us: knowing what is published */
        return WEIR_OK;
    if (status == WEIR_OK && may_have_counted(admit, partition, &state))
        weir_log(WEIR_LOG_WARN,
                 "lane %s was built anew while its events were admitted, and may have counted some of them itself: "
                 "compare them (weir explain), and take out what counts twice by an event with the negative value",
                 name);
    return status;
}

enum weir_status weir_admit_settle(struct weir_admit *admit, const struct weir_kafka_settings *kafka,
                                   struct weir_error *reterr)
{
    struct weir_window_store *store = NULL;
    enum weir_status status = weir_store_redis_open(admit->settings.redis_url, &store, reterr);

    if (status == WEIR_OK)
        status = note_published(admit, store, kafka, reterr);
    for (int32_t i = 0; i < admit->lane_count && status == WEIR_OK; i++)
        if (admit->lanes[i].is_concerned)
            status = settle_lane(admit, i, store, reterr);
    weir_window_store_free(store);
    return status;
}
