#include <stdio.h>
#include <stdlib.h>

#include "cli/admitted.h"
#include "cli/open.h"
#include "cli/recount.h"
#include "common/calendar.h"
#include "rater/lanes.h"

bool weir_recount_wants(const struct weir_recount *recount, const struct weir_window *window)
{
    struct weir_series series;

    return window->start >= recount->filter.from && window->start < recount->filter.to
           && weir_series_parse(window->series_key, &series) && weir_slice_equal(series.meter, recount->filter.meter)
           && (!recount->filter.customer.length || weir_slice_equal(series.customer, recount->filter.customer));
}

/* 1. lanes */
static void add_lane(void *context, struct weir_slice name, const struct weir_lane_state *state)
{
    struct weir_recount *recount = context;

    recount->lanes = weir_resize(recount->lanes, recount->lane_count + 1, sizeof *recount->lanes);
    struct weir_recount_lane *lane = &recount->lanes[recount->lane_count++];
    *lane = (struct weir_recount_lane){.state = *state, .complete_from = INT64_MIN, .partition = -1};
    memcpy(lane->name_bytes, name.data, name.length);
    lane->is_admitted = weir_is_admitted(name);
    const char *colon = strrchr(lane->name_bytes, ':');
    weir_check(colon != NULL);
    lane->partition = (int32_t)strtol(colon + 1, NULL, 10);
}

static enum weir_status list_lanes(struct weir_recount *recount, struct weir_window_store *store, const char *topic,
                                   struct weir_error *reterr)
{
    char admitted[WEIR_SETTING_TEXT_MAX];
    enum weir_status status = store->ops->list_lanes(store, topic, add_lane, recount, reterr);

    if (status == WEIR_OK)
        status =
            store->ops->list_lanes(store, weir_admitted_topic(&recount->settings, admitted), add_lane, recount, reterr);
    for (size_t i = 0; i < recount->lane_count; i++) /* they have moved */
        recount->lanes[i].name = weir_slice_text(recount->lanes[i].name_bytes);
    return status;
}

static struct weir_recount_lane *find_lane(struct weir_recount *recount, bool is_admitted, int32_t partition)
{
    for (size_t i = 0; i < recount->lane_count; i++)
        if (recount->lanes[i].is_admitted == is_admitted && recount->lanes[i].partition == partition)
            return &recount->lanes[i];
    return NULL;
}

/* Every partition has a lane, and each lane's offsets are there to be compared with. */
static enum weir_status match(struct weir_recount *recount, bool is_admitted, const char *topic,
                              const struct weir_kafka_offsets *offsets, int32_t count, struct weir_error *reterr)
{
    for (int32_t i = 0; i < count; i++) {
        struct weir_recount_lane *lane = find_lane(recount, is_admitted, i);
        if (!lane && is_admitted)
            continue; /* nothing of it is counted */
        if (!lane || lane->state.next_offset < 0)
            return weir_fail(reterr, WEIR_REJECT,
                             "lane %s:%d is not in Redis yet, so nobody knows what it will count: start weir ingest, "
                             "and run this again",
                             topic, (int)i);
        lane->offsets = offsets[i];
        if (lane->state.next_offset > offsets[i].end)
            return weir_fail(
                reterr, WEIR_REJECT,
                "lane %s: its cut is at offset %lld, beyond Kafka's end %lld. The topic was made anew; let "
                "the workers read it first",
                lane->name_bytes, (long long)lane->state.next_offset, (long long)offsets[i].end);
    }
    for (size_t i = 0; i < recount->lane_count; i++)
        if (recount->lanes[i].is_admitted == is_admitted && recount->lanes[i].partition >= count)
            return weir_fail(
                reterr, WEIR_REJECT,
                "lane %s: Kafka has no such partition any more. Count from an archive instead, or take the "
                "lane's keys out of Redis (docs/gaps.md)",
                recount->lanes[i].name_bytes);
    return WEIR_OK;
}

static enum weir_status ask_kafka(struct weir_recount *recount, struct weir_error *reterr)
{
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    struct weir_kafka_settings kafka = weir_open_kafka_settings(&recount->settings, properties);
    char admitted[WEIR_SETTING_TEXT_MAX];
    enum weir_status status = WEIR_OK;

    for (int i = 0; i < 2 && status == WEIR_OK; i++) {
        struct weir_kafka_offsets *offsets = NULL;
        int32_t count = 0;
        if (i > 0)
            kafka.topic = weir_admitted_topic(&recount->settings, admitted);
        status = weir_kafka_ask_offsets(&kafka, &offsets, &count, reterr);
        if (i > 0 && status == WEIR_REJECT)
            status = WEIR_OK; /* nothing was ever admitted */
        if (status == WEIR_OK)
            status = match(recount, i > 0, kafka.topic, offsets, count, reterr);
        free(offsets);
    }
    return status;
}

/* Windows that end until then take no event any more, in any lane. */
static enum weir_status find_final(struct weir_recount *recount, struct weir_error *reterr)
{
    size_t count = 0;

    recount->final_until = WEIR_TIME_NEVER;
    for (size_t i = 0; i < recount->lane_count; i++) {
        if (recount->lanes[i].is_admitted)
            continue;
        count++;
        if (recount->lanes[i].state.forgotten < recount->final_until)
            recount->final_until = recount->lanes[i].state.forgotten;
    }
    return count ? WEIR_OK
                 : weir_fail(reterr, WEIR_REJECT,
                             "topic '%s' has no lane in Redis, so nobody knows what is counted of it: start weir "
                             "ingest, and run this again",
                             recount->settings.kafka_topic);
}

/* 2. what is not to be touched */
struct waiting {
    struct weir_recount *recount;
    size_t room;
};

static void add_waiting(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    struct waiting *waiting = context;
    struct weir_recount *recount = waiting->recount;

    (void)is_closed;
    if (!has_work || !weir_recount_wants(recount, window))
        return;
    if (recount->waiting_count == waiting->room) {
        waiting->room = waiting->room ? waiting->room * 2 : 256;
        recount->waiting = weir_resize(recount->waiting, waiting->room, sizeof *recount->waiting);
    }
    recount->waiting[recount->waiting_count++] =
        (struct weir_recount_place){weir_arena_copy(recount->arena, window->series_key.data, window->series_key.length),
                                    window->start, window->end};
}

static int by_place(const void *a, const void *b)
{
    const struct weir_recount_place *left = a, *right = b;
    int order = weir_slice_compare(left->series_key, right->series_key);

    return order ? order : (left->start > right->start) - (left->start < right->start);
}

static enum weir_status list_waiting(struct weir_recount *recount, struct weir_window_store *store,
                                     struct weir_error *reterr)
{
    struct waiting waiting = {.recount = recount};
    enum weir_status status = WEIR_OK;

    for (size_t i = 0; i < recount->lane_count && status == WEIR_OK; i++)
        status = store->ops->scan_windows(store, recount->lanes[i].name, add_waiting, &waiting, reterr);
    if (recount->waiting_count)
        qsort(recount->waiting, recount->waiting_count, sizeof *recount->waiting, by_place);
    return status;
}

static enum weir_status list_gaps(struct weir_recount *recount, struct weir_error *reterr)
{
    struct weir_lane_book *book = weir_lane_book_new(recount->settings.postgres_url);
    const struct weir_open_gap *gaps = NULL;
    size_t count = 0;
    enum weir_status status =
        weir_lane_book_open_gaps(book, recount->settings.kafka_topic, false, &gaps, &count, reterr);

    recount->gaps = weir_new_array(count + 1, sizeof *recount->gaps);
    for (size_t i = 0; i < count && status == WEIR_OK; i++)
        recount->gaps[recount->gap_count++] =
            (struct weir_recount_place){.start = gaps[i].gap.time_from, .end = gaps[i].gap.time_to};
    weir_lane_book_free(book);
    return status;
}

enum weir_status weir_recount_look(struct weir_recount *recount, struct weir_error *reterr)
{
    struct weir_window_store *store = NULL;
    enum weir_status status = weir_store_redis_open(recount->settings.redis_url, &store, reterr);

    if (status == WEIR_OK)
        status = list_lanes(recount, store, recount->settings.kafka_topic, reterr);
    if (status == WEIR_OK)
        status = find_final(recount, reterr);
    if (status == WEIR_OK && recount->file_count == 0)
        status = ask_kafka(recount, reterr);
    /* After the lanes: what they have finished with by then comes to no list any more. */
    if (status == WEIR_OK)
        status = list_waiting(recount, store, reterr);
    weir_window_store_free(store);
    return status == WEIR_OK ? list_gaps(recount, reterr) : status;
}

/* 3. a second look */
struct looking {
    const struct weir_recount *recount;
    bool has_more;
};

static void look_at_lane(void *context, struct weir_slice name, const struct weir_lane_state *state)
{
    struct looking *looking = context;
    const struct weir_recount *recount = looking->recount;

    for (size_t i = 0; i < recount->lane_count; i++)
        if (weir_slice_equal(recount->lanes[i].name, name)) {
            looking->has_more = looking->has_more || recount->lanes[i].state.next_offset != state->next_offset;
            return;
        }
    looking->has_more = true; /* the first that was ever admitted */
}

enum weir_status weir_recount_look_again(struct weir_recount *recount, struct weir_error *reterr)
{
    struct weir_window_store *store = NULL;
    struct looking looking = {.recount = recount};
    char admitted[WEIR_SETTING_TEXT_MAX];
    enum weir_status status = weir_store_redis_open(recount->settings.redis_url, &store, reterr);

    if (status == WEIR_OK)
        status = store->ops->list_lanes(store, weir_admitted_topic(&recount->settings, admitted), look_at_lane,
                                        &looking, reterr);
    weir_window_store_free(store);
    recount->has_admitted = looking.has_more;
    return status;
}
