#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/admitted.h"
#include "cli/open.h"
#include "cli/recount.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "ingest/decode.h"
#include "ingest/kafka_scan.h"

enum {
    SEAL_EVERY = 65536, /* changes of a lane; its windows and ids are forgotten by then as a worker's are */
    DRAINED = 4096,
};

/* One lane under way. */
struct reading {
    struct weir_recount *recount;
    struct weir_recount_lane *from; /* NULL: files */
    struct weir_quarantined *quarantined;
    struct weir_intake *intake;
    struct weir_lane *lane;
    struct weir_sealed_cut *sealed;
    struct weir_decoder *decoder; /* of admitted events, that the lane is told of */
    struct weir_progress progress;
    uint64_t kept, check_at; /* windows in the side, at most; when they are counted */
    int64_t first_stamp;     /* of the first message, ms; -1: it has none */
    bool is_begun;
    int64_t now; /* when it began: nothing is too early in the past */
    enum weir_status status;
    struct weir_error error;
};

/* 1. into the side */
enum weir_status weir_recount_too_many(const struct weir_recount *recount, struct weir_error *reterr)
{
    return weir_fail(reterr, WEIR_FATAL,
                     "there are more than %" PRId64 " windows of meter '%.*s' to be counted: choose fewer at once "
                     "(--from, --to, --customer), or raise lane_windows_max with the memory that they need",
                     recount->settings.lane_windows_max, (int)recount->filter.meter.length, recount->filter.meter.data);
}

static void count_window(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    (void)window, (void)is_closed, (void)has_work;
    ++*(uint64_t *)context;
}

/* A window may come with many cuts, so what is kept is known only by looking, which is done seldom. */
static enum weir_status check_room(struct reading *reading, struct weir_error *reterr)
{
    struct weir_recount *recount = reading->recount;
    uint64_t limit = (uint64_t)recount->settings.lane_windows_max, count = 0;

    if (reading->kept <= reading->check_at)
        return WEIR_OK;
    for (size_t i = 0; i < recount->lane_count; i++)
        (void)recount->side->ops->scan_windows(recount->side, recount->lanes[i].name, count_window, &count, reterr);
    reading->kept = count;
    reading->check_at = count + limit / 4 + 1;
    return count > limit ? weir_recount_too_many(recount, reterr) : WEIR_OK;
}

/* Of the cut nothing is kept but the windows that are asked for and take no event any more. */
static void choose(struct weir_recount *recount, struct weir_sealed_cut *sealed)
{
    size_t kept = 0;

    for (size_t i = 0; i < sealed->cut.window_count; i++) {
        const struct weir_window *window = &sealed->windows[i].window;
        if (window->end <= recount->final_until && weir_recount_wants(recount, window))
            sealed->windows[kept++] = (struct weir_cut_window){.window = *window};
    }
    sealed->cut.window_count = kept;
    sealed->cut.ids_count = 0;
    sealed->cut.forget_windows_below = INT64_MIN;
}

static enum weir_status seal(struct reading *reading, struct weir_error *reterr)
{
    struct weir_window_store *side = reading->recount->side;

    if (!weir_lane_has_changes(reading->lane))
        return WEIR_OK;
    weir_lane_seal(reading->lane, reading->sealed);
    choose(reading->recount, reading->sealed);
    reading->kept += reading->sealed->cut.window_count;
    enum weir_status status = side->ops->write_cut(side, &reading->sealed->cut, reterr);
    return status == WEIR_OK ? check_room(reading, reterr) : status;
}

/* 2. a message */
static enum weir_status take(struct reading *reading, struct weir_intake_item *items, size_t count,
                             struct weir_error *reterr)
{
    size_t taken = 0;
    enum weir_status status = weir_intake_take(reading->intake, items, count, reading->now, &taken, reterr);

    if (status == WEIR_OK && reading->from && weir_lane_unsealed(reading->lane) >= SEAL_EVERY)
        status = seal(reading, reterr);
    return status;
}

/* What is in quarantine does not count: there the live lane's own judgement stands, by the clock of its day. */
static bool visit(void *context, const struct weir_message *message)
{
    struct reading *reading = context;
    struct weir_intake_item item = {.lane = reading->lane, .message = message};

    if (!reading->is_begun) {
        reading->is_begun = true;
        reading->first_stamp = message->timestamp;
    }
    if (weir_quarantined_reason(reading->quarantined, message->partition, message->offset)) {
        weir_lane_reject(reading->lane, weir_slice_of(NULL, 0), message->sequence);
        reading->recount->left_out++;
        return true;
    }
    reading->status = take(reading, &item, 1, &reading->error);
    return reading->status == WEIR_OK;
}

static void show(void *context, uint64_t done, uint64_t all)
{
    struct reading *reading = context;

    weir_progress_show(&reading->progress, "lane %s: %" PRIu64 " of %" PRIu64 " offsets", reading->from->name_bytes,
                       done, all);
}

/* 3. a lane of Kafka's */

/* As workers tell a lane that they have just taken (worker_admitted.c). */
static bool tell(void *context, const struct weir_message *message)
{
    struct reading *reading = context;
    uint64_t epoch;
    struct weir_slice from = weir_admitted_from(message, &epoch);
    struct weir_rejection why;
    struct weir_event event;

    if ((from.length == 0 || weir_slice_equal(from, reading->from->name))
        && weir_decode(reading->decoder, message, &event, &why) == WEIR_OK)
        reading->status = weir_lane_know(reading->lane, &event, &reading->error);
    return reading->status == WEIR_OK;
}

static enum weir_status tell_admitted(struct reading *reading, struct weir_error *reterr)
{
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    struct weir_kafka_settings kafka = weir_open_kafka_settings(&reading->recount->settings, properties);
    char topic[WEIR_SETTING_TEXT_MAX];
    struct weir_kafka_stretch stretch = {.to = INT64_MAX};
    const struct weir_kafka_scan scan = {
        .context = reading, .visit = tell, .stop = reading->recount->stop, .has_all = true};

    kafka.topic = weir_admitted_topic(&reading->recount->settings, topic);
    enum weir_status status = weir_kafka_scan(&kafka, &stretch, 1, &scan, reterr);
    return status == WEIR_REJECT && stretch.end < 0 ? WEIR_OK : status; /* nothing was ever admitted */
}

/* Events of messages that are gone are no later than they were sent, but for what the clocks may differ. */
static void find_complete(struct reading *reading)
{
    struct weir_recount_lane *lane = reading->from;
    bool has_counted = lane->state.counts.read > 0;

    if (lane->offsets.low <= 0 || (!reading->is_begun && !has_counted))
        return;
    lane->complete_from = !reading->is_begun || reading->first_stamp <= 0
                              ? WEIR_TIME_NEVER
                              : reading->first_stamp * 1000000 + reading->recount->settings.max_future + 1;
}

static enum weir_status read_lane(struct reading *reading, struct weir_error *reterr)
{
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    struct weir_kafka_settings kafka = weir_open_kafka_settings(&reading->recount->settings, properties);
    struct weir_kafka_stretch stretch = {.partition = reading->from->partition, .to = reading->from->state.next_offset};
    const struct weir_kafka_scan scan = {
        .context = reading, .visit = visit, .progress = show, .stop = reading->recount->stop, .has_all = true};
    char admitted[WEIR_SETTING_TEXT_MAX];
    enum weir_status status = WEIR_OK;

    if (reading->from->is_admitted)
        kafka.topic = weir_admitted_topic(&reading->recount->settings, admitted);
    else
        status = tell_admitted(reading, reterr);
    if (status == WEIR_OK && reading->status == WEIR_OK)
        status = weir_quarantined_load(&reading->recount->settings, weir_slice_text(kafka.topic),
                                       reading->recount->stop, &reading->quarantined, reterr);
    if (status == WEIR_OK && reading->status == WEIR_OK)
        status = weir_kafka_scan(&kafka, &stretch, 1, &scan, reterr);
    if (status == WEIR_OK && reading->status != WEIR_OK) {
        *reterr = reading->error;
        status = reading->status;
    }
    if (status == WEIR_OK)
        status = seal(reading, reterr);
    if (status != WEIR_OK)
        return status;
    reading->from->offsets.low = stretch.low;
    reading->recount->is_quarantine_short |= weir_quarantined_is_short(reading->quarantined);
    find_complete(reading);
    return WEIR_OK;
}

/* Whoever judged it then waited longer for it, or for its id: counted by today's lateness, windows would lack it. */
static enum weir_status check_late(const struct reading *reading, struct weir_error *reterr)
{
    uint64_t late = weir_intake_counts(reading->intake)->rejections[WEIR_REASON_TOO_LATE];

    return late == 0
               ? WEIR_OK
               : weir_fail(
                   reterr, WEIR_REJECT,
                   "lane %s: %" PRIu64 " events that are not in quarantine would be too late by the present "
                   "lateness, so they were counted under a longer one%s. Give --lateness as long as it ever was",
                   reading->from->name_bytes, late,
                   weir_quarantined_is_short(reading->quarantined) ? ", or their records have left the quarantine topic"
                                                                   : "");
}

static void add_counts(struct reading *reading)
{
    const struct weir_intake_counts *counts = weir_intake_counts(reading->intake);

    for (int i = 0; i < WEIR_OUTCOME_FULL; i++)
        reading->recount->outcomes[i] += counts->outcomes[i];
    for (int i = 0; i < WEIR_REASON_COUNT; i++)
        reading->recount->rejections[i] += counts->rejections[i];
}

static void add_found(struct weir_recount *recount, struct weir_slice lane, const struct weir_window *window)
{
    if (recount->found_count == recount->found_room) {
        recount->found_room = recount->found_room ? recount->found_room * 2 : 1024;
        recount->found = weir_resize(recount->found, recount->found_room, sizeof *recount->found);
    }
    recount->found[recount->found_count++] = (struct weir_lane_window){.lane = lane, .window = *window};
}

struct collecting {
    struct weir_recount *recount;
    struct weir_slice lane;
};

static void collect(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    const struct collecting *collecting = context;

    (void)is_closed, (void)has_work;
    add_found(collecting->recount, collecting->lane, window);
}

static struct weir_lane_settings lane_settings(const struct reading *reading)
{
    struct weir_lane_settings settings = weir_open_worker_settings(&reading->recount->settings).lane;

    settings.max_future = INT64_MAX; /* who was too early is in quarantine */
    settings.keeps_all = reading->from && reading->from->is_admitted;
    settings.is_bounded = !reading->from;
    settings.names_all = true; /* choose keeps but some windows of a cut */
    return settings;
}

static enum weir_status count_lane(struct weir_recount *recount, struct weir_recount_lane *from,
                                   struct weir_quarantine *nowhere, struct weir_error *reterr)
{
    unsigned char secret[WEIR_LANE_SECRET_BYTES];
    struct reading reading = {.recount = recount,
                              .from = from,
                              .progress = weir_progress_start("weir recount"),
                              .first_stamp = -1,
                              .now = weir_time_now()};
    struct weir_lane_settings settings = lane_settings(&reading);
    struct weir_lane_state state;

    weir_hash_make_secret(secret);
    enum weir_status status = recount->side->ops->take_lane(recount->side, from->name, secret, NULL, &state, reterr);
    weir_check(status == WEIR_OK); /* it is in memory */
    reading.intake = weir_intake_new(&recount->counted, nowhere, false);
    reading.lane = weir_lane_new(&recount->counted, from->name, &settings);
    reading.sealed = weir_sealed_cut_new();
    reading.decoder = weir_decoder_new(&recount->counted);
    reading.check_at = (uint64_t)recount->settings.lane_windows_max;
    status = weir_lane_start(reading.lane, &state, reterr);
    if (status == WEIR_OK)
        status = read_lane(&reading, reterr);
    if (status == WEIR_OK)
        status = check_late(&reading, reterr);
    weir_progress_end(&reading.progress);
    add_counts(&reading);
    weir_quarantined_free(reading.quarantined);
    weir_decoder_free(reading.decoder);
    weir_sealed_cut_free(reading.sealed);
    weir_lane_free(reading.lane);
    weir_intake_free(reading.intake);
    return status;
}

static enum weir_status count_kafka(struct weir_recount *recount, struct weir_quarantine *nowhere,
                                    struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    recount->complete_from = INT64_MIN;
    for (size_t i = 0; i < recount->lane_count && status == WEIR_OK; i++) {
        struct weir_recount_lane *lane = &recount->lanes[i];
        struct collecting collecting = {recount, lane->name};
        status = count_lane(recount, lane, nowhere, reterr);
        if (status == WEIR_OK)
            status = recount->side->ops->scan_windows(recount->side, lane->name, collect, &collecting, reterr);
        if (lane->complete_from > recount->complete_from)
            recount->complete_from = lane->complete_from;
    }
    return status;
}

/* 4. files, all of them one lane */
static enum weir_status read_files(struct reading *reading, struct weir_source *source, struct weir_error *reterr)
{
    static struct weir_message messages[WEIR_POLL_MESSAGES_MAX];
    static struct weir_intake_item items[WEIR_POLL_MESSAGES_MAX];
    enum weir_status status = WEIR_OK;

    while (status == WEIR_OK) {
        size_t count = 0;
        if (atomic_load_explicit(reading->recount->stop, memory_order_relaxed)) /* a flag by itself */
            return weir_fail(reterr, WEIR_FATAL, "stopped by a signal");
        status = source->ops->poll(source, -1, messages, WEIR_POLL_MESSAGES_MAX, &count, reterr);
        for (size_t i = 0; i < count; i++)
            items[i] = (struct weir_intake_item){.lane = reading->lane, .message = &messages[i]};
        if (status == WEIR_OK)
            status = take(reading, items, count, reterr);
        weir_progress_show(&reading->progress, "%" PRIu64 " events", weir_lane_state(reading->lane)->counts.read);
    }
    return status == WEIR_AGAIN ? WEIR_OK : status;
}

static enum weir_status drain(struct reading *reading, struct weir_error *reterr)
{
    struct weir_recount *recount = reading->recount;
    struct weir_window *windows = weir_new_array(DRAINED, sizeof *windows);
    enum weir_status status = WEIR_OK;
    size_t count;
    bool is_whole;

    while (status == WEIR_OK && (count = weir_lane_drain(reading->lane, DRAINED, windows, &is_whole)) > 0)
        for (size_t i = 0; i < count && status == WEIR_OK; i++) {
            struct weir_window window = windows[i];
            if (window.end > recount->final_until || !weir_recount_wants(recount, &window))
                continue;
            window.series_key = weir_arena_copy(recount->arena, window.series_key.data, window.series_key.length);
            add_found(recount, weir_slice_text(recount->files_lane), &window);
            if (recount->found_count > (size_t)recount->settings.lane_windows_max)
                status = weir_recount_too_many(recount, reterr);
        }
    free(windows);
    return status;
}

static enum weir_status count_files(struct weir_recount *recount, struct weir_quarantine *nowhere,
                                    struct weir_error *reterr)
{
    struct reading reading = {
        .recount = recount, .progress = weir_progress_start("weir recount"), .now = weir_time_now()};
    struct weir_lane_settings settings = lane_settings(&reading);
    struct weir_lane_state state = {.first_time = INT64_MAX, .last_time = INT64_MIN, .stamp = -1};
    struct weir_source *source = NULL;
    enum weir_status status = weir_source_file_open(recount->files, recount->file_count, &source, reterr);

    if (status != WEIR_OK)
        return status;
    recount->complete_from = INT64_MIN; /* --from and --to are the operator's word for it */
    weir_hash_make_secret(state.secret);
    reading.intake = weir_intake_new(&recount->counted, nowhere, false);
    reading.lane = weir_lane_new(&recount->counted, weir_slice_text(recount->files_lane), &settings);
    status = weir_lane_start(reading.lane, &state, reterr);
    if (status == WEIR_OK)
        status = read_files(&reading, source, reterr);
    if (status == WEIR_OK)
        status = drain(&reading, reterr);
    weir_progress_end(&reading.progress);
    add_counts(&reading);
    weir_lane_free(reading.lane);
    weir_intake_free(reading.intake);
    weir_source_free(source);
    return status;
}

enum weir_status weir_recount_count(struct weir_recount *recount, struct weir_error *reterr)
{
    struct weir_quarantine *nowhere = NULL;
    enum weir_status status = weir_quarantine_file_open(NULL, &nowhere, reterr);

    if (status == WEIR_OK)
        status = recount->file_count ? count_files(recount, nowhere, reterr) : count_kafka(recount, nowhere, reterr);
    weir_quarantine_free(nowhere);
    return status;
}
