#include "aggregator/lane.h"

#include <stdio.h>
#include <stdlib.h>

#include "aggregator/seen.h"
#include "aggregator/tallies.h"
#include "common/calendar.h"
#include "common/hash_short.h"

enum {
    ID_BUCKETS = 16, /* the retention is cut into so many: ids are kept at most two sixteenths longer than asked */
    READINGS_MAX = WEIR_METERS_MAX,
    EFFECT_ADMITTED = 1, /* of an id in state COUNTED_UNKNOWN, which has no effect to keep: it counts in another lane */
};

#define TELL_EVERY (15 * WEIR_MINUTE)

/* A round is begun when cuts have brought so many open windows at least, and each so many times, since the last one
 * began; it brings so many for each that changed. */
enum { ROUND_LEAST = 1 << 14, ROUND_AFTER = 2, ROUND_SHARE = 2 };

/* Ids counted or voided since the last seal, as they will be stored: WEIR_ID_BYTES each, grouped by bucket. */
struct fresh_ids {
    int64_t bucket;
    size_t count;
};

struct weir_lane {
    /* What weir_lane_hash reads, on lines of its own: a thread that decodes does not wait for the one that counts. */
    const struct weir_catalog *catalog;
    uint64_t *type_contents; /* by meter: what its events' content begins with (weir_event_content_of_type) */
    struct weir_window_table *windows;
    struct weir_hash_key secret;
    char name[WEIR_LANE_NAME_MAX + 1];
    uint32_t name_length;

    struct weir_lane_settings settings;
    struct weir_lane_state state;
    struct weir_seen *seen;
    struct weir_tallies *tallies;
    int64_t last_bucket;  /* of ids, the highest so far */
    int64_t bucket_until; /* as long as `high` is below it, it is of the same bucket as before */
    bool is_loading_full; /* the stored lane is larger than the limits */
    uint64_t unreadable;  /* stored windows that were left where they are */

    /* Since the last seal. high only rises, so the ids of one bucket stand together. */
    char *ids;
    size_t ids_count, ids_room;
    struct fresh_ids *runs;
    size_t run_count, run_room;
    int64_t sealed_offset;  /* next_offset of the last seal */
    int64_t closed_through; /* the watermark that cuts tell: every window that ends by then is closed */
    int64_t sealed_watermark;
    uint32_t round_place; /* where the round goes on that is under way; 0: none is */
    uint64_t open_sealed; /* open windows that cuts brought since the last round began */
    bool has_new_gap;
    bool is_idle;

    struct weir_window_change changes[READINGS_MAX];
};

/* 1. life */
struct weir_lane *weir_lane_new(const struct weir_catalog *catalog, struct weir_slice name,
                                const struct weir_lane_settings *settings)
{
    struct weir_lane *lane = weir_new(sizeof *lane);

    weir_check(name.length <= WEIR_LANE_NAME_MAX);
    weir_check(settings->is_bounded || settings->keeps_all || settings->retention >= settings->lateness);
    lane->catalog = catalog;
    lane->settings = *settings;
    memcpy(lane->name, name.data, name.length);
    lane->name_length = name.length;
    lane->type_contents = weir_new_array(catalog->meter_count + 1, sizeof *lane->type_contents);
    lane->windows = weir_window_table_new(catalog, settings->windows_max, settings->is_bounded, &settings->unpriced);
    lane->seen = weir_seen_new(settings->ids_max);
    lane->tallies = weir_tallies_new(WEIR_TALLIES_MAX);
    return lane;
}

struct weir_lane *weir_lane_free(struct weir_lane *lane)
{
    if (!lane)
        return NULL;
    weir_window_table_free(lane->windows);
    weir_seen_free(lane->seen);
    weir_tallies_free(lane->tallies);
    free(lane->type_contents);
    free(lane->ids);
    free(lane->runs);
    free(lane);
    return NULL;
}

void weir_lane_expect(struct weir_lane *lane, uint64_t events)
{
    weir_seen_expect(lane->seen, events);
}

static void load_window(void *context, const struct weir_window *window, bool is_closed, struct weir_slice unique)
{
    struct weir_lane *lane = context;
    struct weir_slice customer;
    struct weir_tally tally;

    if (weir_tally_load(window, &customer, &tally)) {
        weir_tallies_restore(lane->tallies, customer, &tally, is_closed);
        return;
    }
    enum weir_status status = weir_window_table_restore(lane->windows, window, is_closed, unique);

    lane->unreadable += status == WEIR_REJECT;
    lane->is_loading_full = lane->is_loading_full || status == WEIR_AGAIN;
}

static void load_ids(void *context, int64_t bucket, struct weir_slice ids)
{
    struct weir_lane *lane = context;

    weir_check(ids.length % WEIR_ID_BYTES == 0);
    if (bucket > lane->last_bucket)
        lane->last_bucket = bucket;
    for (uint32_t at = 0; at < ids.length && !lane->is_loading_full; at += WEIR_ID_BYTES) {
        struct weir_id_mark mark;
        uint64_t id = weir_id_load(ids.data + at, &mark);
        if (weir_seen_set(lane->seen, id, mark, (uint32_t)bucket) != WEIR_OK)
            lane->is_loading_full = true;
    }
}

struct weir_lane_loader weir_lane_loader(struct weir_lane *lane)
{
    return (struct weir_lane_loader){.context = lane, .window = load_window, .ids = load_ids};
}

uint64_t weir_lane_unreadable(const struct weir_lane *lane)
{
    return lane->unreadable;
}

static uint32_t close_least(const struct weir_lane *lane)
{
    enum { USUAL = 2048 }; /* a quarter of what a busy lane's cut holds anyway */

    return lane->settings.close_least ? lane->settings.close_least : USUAL;
}

static void close_windows(struct weir_lane *lane, uint32_t least)
{
    int64_t through = weir_window_table_close(lane->windows, lane->state.watermark, least);

    if (through > lane->closed_through)
        lane->closed_through = through;
}

static void raise_watermark(struct weir_lane *lane, int64_t watermark)
{
    if (watermark <= lane->state.watermark || lane->settings.is_bounded)
        return;
    lane->state.watermark = watermark;
    close_windows(lane, close_least(lane));
}

enum weir_status weir_lane_start(struct weir_lane *lane, const struct weir_lane_state *state, struct weir_error *reterr)
{
    if (lane->is_loading_full || weir_lane_ids(lane) > lane->settings.ids_max)
        return weir_fail(reterr, WEIR_REJECT,
                         "lane %s: its stored windows or ids do not fit: raise lane_windows_max "
                         "(now %llu) or lane_ids_max (now %llu)",
                         lane->name, (unsigned long long)lane->settings.windows_max,
                         (unsigned long long)lane->settings.ids_max);
    lane->state = *state;
    if (state->first_time == 0 && state->last_time == 0 && state->counts.counted + state->counts.retracted == 0)
        lane->state.first_time = WEIR_TIME_NEVER; /* nothing counted: an empty span */
    weir_hash_key_init(&lane->secret, state->secret);
    for (uint32_t i = 0; i < lane->catalog->meter_count; i++)
        lane->type_contents[i] =
            weir_event_content_of_type(lane->catalog->meters[i].event_type, weir_hash_key_seed(&lane->secret));
    if (lane->settings.keeps_all)
        lane->state.watermark = WEIR_TIME_NEVER;
    lane->sealed_offset = state->next_offset;
    lane->sealed_watermark = state->watermark;
    if (weir_window_table_count(lane->windows) > 0)
        lane->open_sealed = UINT64_MAX / 2; /* at once: what earlier owners wrote may be long */
    close_windows(lane, UINT32_MAX);
    /* Its cut may have told a watermark that was waiting for windows to close. */
    if (state->high > 0)
        raise_watermark(lane, state->high - lane->settings.disorder);
    return WEIR_OK;
}

/* 2. events */

/* An older event is too late. `forgotten` tells when lateness was made longer after windows and ids had gone. */
static int64_t accepted_from(const struct weir_lane *lane)
{
    int64_t from = lane->state.watermark - lane->settings.lateness;

    return lane->state.forgotten > from && lane->state.forgotten > 0 ? lane->state.forgotten : from;
}

static __attribute__((noinline)) enum weir_status refuse_time(const struct weir_lane *lane, int64_t time, int64_t now,
                                                              struct weir_rejection *reterr)
{
    char found[WEIR_TIME_TEXT_MAX], limit[WEIR_TIME_TEXT_MAX];
    bool is_early = time - now > lane->settings.max_future;
    bool is_forgotten = accepted_from(lane) > lane->state.watermark - lane->settings.lateness;

    weir_time_format(time, found);
    weir_time_format(is_early ? now + lane->settings.max_future : accepted_from(lane), limit);
    reterr->reason = is_early ? WEIR_REASON_TOO_EARLY : WEIR_REASON_TOO_LATE;
    snprintf(reterr->field, sizeof reterr->field, "time");
    snprintf(reterr->detail, sizeof reterr->detail,
             is_early       ? "%s is further in the future than allowed; accepted up to %s (max_future)"
             : is_forgotten ? "%s is later than accepted; accepted from %s (older windows went before lateness grew)"
                            : "%s is later than accepted; accepted from %s (lateness)",
             found, limit);
    return WEIR_REJECT;
}

enum weir_status weir_lane_check_time(const struct weir_lane *lane, int64_t time, int64_t now,
                                      struct weir_rejection *reterr)
{
    if (lane->settings.is_bounded
        || (time - now <= lane->settings.max_future && (lane->settings.keeps_all || time >= accepted_from(lane))))
        return WEIR_OK;
    return refuse_time(lane, time, now, reterr);
}

/* Minutes. */
static int64_t bucket_length(const struct weir_lane *lane)
{
    int64_t length = lane->settings.retention / ID_BUCKETS / WEIR_MINUTE;
    return length < 1 ? 1 : length;
}

/* A bucket is named by the minute in which it ends, so that it says by itself when its ids may go, however long buckets
 * were when it was made. */
static int64_t bucket_of(const struct weir_lane *lane, int64_t time)
{
    int64_t length = bucket_length(lane);
    return (time / WEIR_MINUTE / length + 1) * length;
}

/* None is below an earlier one, so that of several records of an id the last stands last. */
static inline int64_t next_bucket(struct weir_lane *lane)
{
    if (lane->settings.is_bounded || lane->settings.keeps_all)
        return 0;
    if (lane->state.high >= lane->bucket_until) { /* to be asked only then: it divides twice */
        int64_t bucket = bucket_of(lane, lane->state.high);
        lane->bucket_until = bucket * WEIR_MINUTE;
        if (bucket > lane->last_bucket)
            lane->last_bucket = bucket;
    }
    return lane->last_bucket;
}

/* With this watermark, ids of buckets below are not needed any more. (Older cuts name a bucket by its beginning.) */
static int64_t ids_needed_from(const struct weir_lane *lane, int64_t watermark)
{
    return (watermark - lane->settings.retention) / WEIR_MINUTE - bucket_length(lane);
}

/* For the next cut. */
static void record_id(struct weir_lane *lane, uint64_t id, const struct weir_id_mark *mark, int64_t bucket)
{
    if (lane->settings.is_bounded)
        return; /* nothing will be resumed */
    if (lane->ids_count == lane->ids_room) {
        lane->ids_room = lane->ids_room ? lane->ids_room * 2 : 4096;
        lane->ids = weir_resize(lane->ids, lane->ids_room, WEIR_ID_BYTES);
    }
    weir_id_store(id, mark, lane->ids + lane->ids_count++ * WEIR_ID_BYTES);
    if (lane->run_count == 0 || lane->runs[lane->run_count - 1].bucket != bucket) {
        if (lane->run_count == lane->run_room) {
            lane->run_room = lane->run_room ? lane->run_room * 2 : 16;
            lane->runs = weir_resize(lane->runs, lane->run_room, sizeof *lane->runs);
        }
        lane->runs[lane->run_count++] = (struct fresh_ids){.bucket = bucket};
    }
    lane->runs[lane->run_count - 1].count++;
}

/* There are more buckets than the ids are worth: those that are not needed any more go now. */
static __attribute__((noinline)) void forget_ids(struct weir_lane *lane)
{
    int64_t needed = ids_needed_from(lane, lane->closed_through);

    if (!lane->settings.is_bounded && needed > 0)
        weir_seen_forget(lane->seen, (uint32_t)needed);
}

/* The bucket is of the highest time so far, this event's included: a resend of it is refused as too late before the
 * bucket is forgotten. */
static inline void remember(struct weir_lane *lane, const struct weir_event *event,
                            const struct weir_lane_hashes *hashes, enum weir_id_state state, bool is_new)
{
    struct weir_id_mark mark = {hashes->content, hashes->effect, state};

    if (event->time > lane->state.high)
        lane->state.high = event->time;
    int64_t bucket = next_bucket(lane);
    if (__builtin_expect(weir_seen_is_crowded(lane->seen), 0))
        forget_ids(lane);
    enum weir_status status = is_new ? weir_seen_add(lane->seen, hashes->id, mark, (uint32_t)bucket)
                                     : weir_seen_set(lane->seen, hashes->id, mark, (uint32_t)bucket);
    weir_check(status == WEIR_OK);
    record_id(lane, hashes->id, &mark, bucket);
    if (event->time < lane->state.first_time)
        lane->state.first_time = event->time;
    if (event->time > lane->state.last_time)
        lane->state.last_time = event->time;
}

/* Its bucket is of its own time: it is forgotten when the event is too late here, as one that was counted would be. */
enum weir_status weir_lane_know(struct weir_lane *lane, const struct weir_event *event, struct weir_error *reterr)
{
    uint64_t id = weir_fingerprint64(&lane->secret, event->source, event->id);
    uint32_t content = (uint32_t)weir_event_content(event, weir_hash_key_seed(&lane->secret));
    struct weir_id_mark mark, admitted = {content, EFFECT_ADMITTED, WEIR_ID_COUNTED_UNKNOWN};
    int64_t bucket = event->time > 0 ? bucket_of(lane, event->time) : 0;

    if (event->is_retraction || event->time < accepted_from(lane)
        || weir_seen_look(lane->seen, id, content, &mark) != WEIR_SEEN_NEW)
        return WEIR_OK;
    if (weir_lane_ids(lane) < lane->settings.ids_max
        && weir_seen_set(lane->seen, id, admitted, (uint32_t)bucket) == WEIR_OK)
        return WEIR_OK;
    return weir_fail(reterr, WEIR_REJECT,
                     "lane %s: the ids of admitted events do not fit beside its own: raise lane_ids_max (now %llu)",
                     lane->name, (unsigned long long)lane->settings.ids_max);
}

int64_t weir_lane_accepted_from(const struct weir_lane *lane)
{
    return accepted_from(lane);
}

/* The effect is what counting the event does: its time and, for each window that it adds to, which one and how much;
 * keyed, as only the lane's secret makes it unpredictable. Meters may come in any order. 0 where a meter cannot take it
 * out again. */
void weir_lane_hash(const struct weir_lane *lane, const struct weir_event *event, struct weir_reading *readings,
                    uint32_t count, struct weir_lane_hashes *ret_hashes)
{
    uint64_t seed = weir_hash_key_seed(&lane->secret);
    bool is_retractable;
    uint64_t sum = weir_window_table_hash(lane->windows, readings, count, weir_hash64_short(event->subject, 0),
                                          &lane->secret, &is_retractable);
    uint64_t effect = weir_hash_mix(weir_hash_mix(sum ^ seed) + (uint64_t)event->time);

    ret_hashes->effect = is_retractable ? (uint32_t)(effect >> (64 - WEIR_EFFECT_BITS)) : 0;
    ret_hashes->id = weir_fingerprint64(&lane->secret, event->source, event->id);
    /* What a meter reads has the meter's type. */
    ret_hashes->content = (uint32_t)(count > 0 ? weir_event_content_below(lane->type_contents[readings[0].meter], event)
                                               : weir_event_content(event, seed));
}

void weir_lane_prefetch(const struct weir_lane_coming *events, size_t count)
{
    struct weir_window_coming windows[WEIR_COMING_MAX];

    weir_check(count <= WEIR_COMING_MAX);
    for (size_t i = 0; i < count; i++) {
        windows[i].table = events[i].lane->windows;
        windows[i].readings = events[i].readings;
        windows[i].count = events[i].count;
        weir_seen_prefetch(events[i].lane->seen, events[i].hashes->id);
    }
    for (int stage = 0; stage <= 3; stage++)
        weir_window_table_prefetch(windows, count, stage);
}

static enum weir_outcome refuse(struct weir_rejection *reterr, enum weir_reason reason, const char *field,
                                const char *detail)
{
    reterr->reason = reason;
    snprintf(reterr->field, sizeof reterr->field, "%s", field);
    snprintf(reterr->detail, sizeof reterr->detail, "%s", detail);
    return WEIR_OUTCOME_REJECTED;
}

static enum weir_outcome refuse_overflow(const struct weir_lane *lane, const struct weir_meter *meter,
                                         struct weir_rejection *reterr)
{
    const struct weir_slice *path = &lane->catalog->paths[meter->value_slot].text;

    reterr->reason = WEIR_REASON_NUMBER_RANGE;
    snprintf(reterr->field, sizeof reterr->field, "%.*s", (int)path->length, path->data);
    snprintf(reterr->detail, sizeof reterr->detail,
             "with this value the window's total of meter '%.*s' would pass the limit (about 1.7e26)",
             (int)meter->key.length, meter->key.data);
    return WEIR_OUTCOME_REJECTED;
}

/* Why the reading cannot be counted. */
static __attribute__((noinline)) enum weir_outcome refuse_reading(const struct weir_lane *lane,
                                                                  const struct weir_reading *reading,
                                                                  enum weir_prepared prepared,
                                                                  struct weir_rejection *reterr)
{
    switch (prepared) {
    case WEIR_PREPARED:
        break;
    case WEIR_PREPARED_FULL:
        return WEIR_OUTCOME_FULL;
    case WEIR_PREPARED_OVERFLOW:
        return refuse_overflow(lane, &lane->catalog->meters[reading->meter], reterr);
    case WEIR_PREPARED_ABSENT: /* the meter was made retractable in between */
        return refuse(reterr, WEIR_REASON_RETRACTION_DIFFERS, "",
                      "the event to be voided was counted in a window that is forgotten already, or that kept no "
                      "single events then: it cannot be taken out; send an event that makes up for it instead");
    }
    weir_check(!"a reading that can be counted");
    return WEIR_OUTCOME_REJECTED;
}

/* Both passes of a step: first everything that can fail, then everything that changes. Answers COUNTED or UNPRICED
 * when it went through, whichever step it was. */
static inline enum weir_outcome step_windows(struct weir_lane *lane, enum weir_window_step step,
                                             const struct weir_event *event, const struct weir_reading *readings,
                                             uint32_t count, const struct weir_lane_hashes *hashes, int64_t sequence,
                                             struct weir_rejection *reterr)
{
    struct weir_window_event who = {
        .customer = event->subject, .id = hashes->id, .time = event->time, .offset = sequence};
    uint32_t count_prepared;
    enum weir_prepared prepared =
        weir_window_table_prepare(lane->windows, step, readings, count, &who, lane->changes, &count_prepared);

    if (__builtin_expect(prepared != WEIR_PREPARED, 0))
        return refuse_reading(lane, &readings[count_prepared], prepared, reterr);
    weir_window_table_apply(lane->windows, step, readings, lane->changes, count);
    return who.is_unpriced ? WEIR_OUTCOME_UNPRICED : WEIR_OUTCOME_COUNTED;
}

/* A retraction can be taken only where every meter that it matches could take the event out, whether or not it came
 * already: so the order of the two does not matter. */
static bool is_retractable(const struct weir_lane *lane, const struct weir_reading *readings, uint32_t count,
                           struct weir_rejection *reterr)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct weir_meter *meter = &lane->catalog->meters[readings[i].meter];
        if (meter->is_retractable)
            continue;
        reterr->reason = WEIR_REASON_NOT_RETRACTABLE;
        snprintf(reterr->field, sizeof reterr->field, "retraction");
        snprintf(reterr->detail, sizeof reterr->detail,
                 "meter '%.*s' (%s) keeps no single events, so nothing can be taken out of it; no meter was changed. "
                 "\"retractable\": true in the catalog makes it keep them from then on",
                 (int)meter->key.length, meter->key.data, weir_aggregation_name[meter->aggregation]);
        return false;
    }
    return true;
}

static bool is_same_effect(const struct weir_id_mark *mark, const struct weir_lane_hashes *hashes)
{
    return mark->effect == (hashes->effect & WEIR_SEEN_EFFECT_MASK);
}

/* The id is known, with this content. */
static __attribute__((noinline)) enum weir_outcome judge_known(struct weir_lane *lane, const struct weir_event *event,
                                                               const struct weir_reading *readings, uint32_t count,
                                                               const struct weir_lane_hashes *hashes,
                                                               const struct weir_id_mark *mark, int64_t sequence,
                                                               struct weir_rejection *reterr)
{
    /* A retraction that came ahead voids the event that it describes, and no other one of the same id. */
    if (mark->state == WEIR_ID_AHEAD && !is_same_effect(mark, hashes))
        return refuse(reterr, WEIR_REASON_RETRACTION_DIFFERS, "",
                      "a retraction of this id came before, and reads otherwise (its time, or the catalog has changed "
                      "since): nothing of this id counts");
    if (!event->is_retraction || mark->state == WEIR_ID_VOID || mark->state == WEIR_ID_AHEAD)
        return WEIR_OUTCOME_DUPLICATE;
    if (mark->state == WEIR_ID_COUNTED_UNKNOWN && mark->effect == EFFECT_ADMITTED)
        return refuse(reterr, WEIR_REASON_RETRACTION_DIFFERS, "",
                      "the event to be voided was admitted (weir admit) and counts in the lane of admitted events, "
                      "where nothing is voided; send an event with the negative value instead");
    if (mark->state == WEIR_ID_COUNTED_UNKNOWN)
        return refuse(reterr, WEIR_REASON_RETRACTION_DIFFERS, "",
                      "the event to be voided was counted by an older weir, which kept too little to take it out "
                      "exactly; send an event with the negative value instead");
    if (!is_same_effect(mark, hashes))
        return refuse(reterr, WEIR_REASON_RETRACTION_DIFFERS, "",
                      "the event to be voided was counted otherwise than this retraction reads: another time, or the "
                      "catalog has changed since. Send it with the event's own time, or an event with the negative "
                      "value");
    enum weir_outcome outcome = step_windows(lane, WEIR_WINDOW_UNDO, event, readings, count, hashes, sequence, reterr);
    if (outcome != WEIR_OUTCOME_COUNTED && outcome != WEIR_OUTCOME_UNPRICED)
        return outcome;
    remember(lane, event, hashes, WEIR_ID_VOID, false);
    return WEIR_OUTCOME_RETRACTED;
}

static inline enum weir_outcome judge(struct weir_lane *lane, const struct weir_event *event,
                                      const struct weir_reading *readings, uint32_t count,
                                      const struct weir_lane_hashes *hashes, int64_t sequence,
                                      struct weir_rejection *reterr)
{
    struct weir_id_mark mark;

    if (count == 0)
        return WEIR_OUTCOME_UNMATCHED;
    if (event->is_retraction && !is_retractable(lane, readings, count, reterr))
        return WEIR_OUTCOME_REJECTED;
    switch (weir_seen_look(lane->seen, hashes->id, hashes->content, &mark)) {
    case WEIR_SEEN_KNOWN:
        return judge_known(lane, event, readings, count, hashes, &mark, sequence, reterr);
    case WEIR_SEEN_CONFLICT:
        return refuse(reterr, WEIR_REASON_CONFLICT, "id",
                      "an event with this source and id, but another type, subject or data, was counted or voided "
                      "before");
    case WEIR_SEEN_NEW:
        break;
    }
    if (weir_lane_ids(lane) >= lane->settings.ids_max)
        return WEIR_OUTCOME_FULL;
    enum weir_outcome outcome = step_windows(lane, event->is_retraction ? WEIR_WINDOW_VOID : WEIR_WINDOW_ADD, event,
                                             readings, count, hashes, sequence, reterr);
    if (outcome != WEIR_OUTCOME_COUNTED && outcome != WEIR_OUTCOME_UNPRICED)
        return outcome;
    remember(lane, event, hashes, event->is_retraction ? WEIR_ID_AHEAD : WEIR_ID_COUNTED, true);
    return event->is_retraction ? WEIR_OUTCOME_RETRACTED : outcome;
}

static void pass(struct weir_lane *lane, int64_t sequence)
{
    weir_check(sequence >= lane->state.next_offset);
    lane->state.next_offset = sequence + 1;
    lane->state.stamp = -1;
    lane->state.counts.read++;
}

static void tally(struct weir_lane *lane, struct weir_slice customer, struct weir_tally more)
{
    if (lane->settings.is_bounded)
        return; /* nothing will be resumed */
    struct weir_tally *known = weir_tallies_change(lane->tallies, customer);
    known->duplicate += more.duplicate;
    known->quarantined += more.quarantined;
    known->admitted += more.admitted;
}

enum weir_outcome weir_lane_take(struct weir_lane *lane, const struct weir_event *event,
                                 const struct weir_reading *readings, uint32_t count,
                                 const struct weir_lane_hashes *hashes, int64_t sequence, struct weir_rejection *reterr)
{
    enum weir_outcome outcome = judge(lane, event, readings, count, hashes, sequence, reterr);

    switch (outcome) {
    case WEIR_OUTCOME_FULL:
        return outcome;
    case WEIR_OUTCOME_COUNTED:
    case WEIR_OUTCOME_UNPRICED:
        lane->state.counts.counted++;
        if (lane->settings.keeps_all)
            tally(lane, event->subject, (struct weir_tally){.admitted = 1});
        break;
    case WEIR_OUTCOME_DUPLICATE:
        lane->state.counts.duplicate++;
        tally(lane, event->subject, (struct weir_tally){.duplicate = 1});
        break;
    case WEIR_OUTCOME_UNMATCHED:
        lane->state.counts.unmatched++;
        break;
    case WEIR_OUTCOME_RETRACTED:
        lane->state.counts.retracted++;
        break;
    case WEIR_OUTCOME_REJECTED:
        lane->state.counts.quarantined++;
        tally(lane, event->subject, (struct weir_tally){.quarantined = 1});
        break;
    }
    pass(lane, sequence);
    if (outcome != WEIR_OUTCOME_REJECTED && event->time > lane->state.high)
        lane->state.high = event->time;
    raise_watermark(lane, lane->state.high - lane->settings.disorder);
    return outcome;
}

void weir_lane_reject(struct weir_lane *lane, struct weir_slice customer, int64_t sequence)
{
    pass(lane, sequence);
    lane->state.counts.quarantined++;
    tally(lane, customer, (struct weir_tally){.quarantined = 1});
}

void weir_lane_skip_to(struct weir_lane *lane, int64_t next_offset)
{
    if (next_offset <= lane->state.next_offset)
        return;
    lane->state.next_offset = next_offset;
    lane->state.stamp = -1;
}

void weir_lane_set_stamp(struct weir_lane *lane, int64_t stamp)
{
    lane->state.stamp = stamp;
}

/* What the lost events' times may be. A lane that has a cut would take none older than it accepts; one that
 * has none took them at a time that nobody here remembers. None was taken that lay further ahead of the clock than
 * allowed. */
const struct weir_gap *weir_lane_add_gap(struct weir_lane *lane, enum weir_gap_kind kind, int64_t next_offset,
                                         int64_t now)
{
    struct weir_lane_state *state = &lane->state;
    int64_t from = state->next_offset > 0 ? state->next_offset : 0;
    /* A lane of admitted events took them of any age, and has no watermark to speak of. */
    bool is_any_age = kind == WEIR_GAP_NOTHING_STORED || lane->settings.keeps_all;
    int64_t earliest = is_any_age ? 0 : accepted_from(lane);
    int64_t latest = now + lane->settings.max_future > earliest ? now + lane->settings.max_future : earliest;
    struct weir_gap gap = {
        .kind = kind,
        .from = from,
        .to = kind == WEIR_GAP_RECREATED ? WEIR_GAP_END_UNKNOWN : next_offset,
        .time_from = earliest > 0 ? earliest - earliest % 1000 : 0,
        .time_to = latest - latest % 1000 + 1000,
        .found_at = now - now % 1000,
    };

    weir_check(next_offset >= from || kind == WEIR_GAP_RECREATED);
    weir_gaps_add(&state->gaps, &gap);
    state->next_offset = next_offset;
    state->stamp = -1;
    lane->has_new_gap = true;
    return &state->gaps.at[state->gaps.count - 1];
}

void weir_lane_idle(struct weir_lane *lane, int64_t now)
{
    raise_watermark(lane, now - lane->settings.disorder);
    lane->is_idle = true;
}

void weir_lane_close_all(struct weir_lane *lane)
{
    if (!lane->settings.is_bounded)
        close_windows(lane, UINT32_MAX);
}

size_t weir_lane_drain(struct weir_lane *lane, size_t max, struct weir_window *ret_windows, bool *ret_is_whole)
{
    weir_check(lane->settings.is_bounded);
    return weir_window_table_drain(lane->windows, max, ret_windows, ret_is_whole);
}

/* 3. cuts */
struct weir_sealed_cut *weir_sealed_cut_new(void)
{
    return weir_new(sizeof(struct weir_sealed_cut));
}

struct weir_sealed_cut *weir_sealed_cut_free(struct weir_sealed_cut *sealed)
{
    if (!sealed)
        return NULL;
    free(sealed->windows);
    free(sealed->ids);
    free(sealed->bytes);
    free(sealed);
    return NULL;
}

bool weir_lane_has_news(const struct weir_lane *lane)
{
    return lane->state.next_offset != lane->sealed_offset || lane->has_new_gap
           || weir_window_table_changed(lane->windows) > 0;
}

bool weir_lane_has_changes(const struct weir_lane *lane)
{
    return weir_lane_has_news(lane) || lane->closed_through != lane->sealed_watermark;
}

size_t weir_lane_unsealed(const struct weir_lane *lane)
{
    return weir_window_table_changed(lane->windows) + lane->ids_count;
}

/* While bytes grows, views into it are kept as offsets from a null pointer; seal turns them into pointers at the end.
 */
static struct weir_slice add_bytes(struct weir_sealed_cut *sealed, struct weir_slice from)
{
    if (sealed->bytes_room - sealed->bytes_used < from.length) {
        sealed->bytes_room = (sealed->bytes_used + from.length) * 2;
        sealed->bytes = weir_resize(sealed->bytes, sealed->bytes_room, 1);
    }
    if (from.length)
        memcpy(sealed->bytes + sealed->bytes_used, from.data, from.length);
    struct weir_slice copy = {(const char *)(uintptr_t)sealed->bytes_used, from.length};
    sealed->bytes_used += from.length;
    return copy;
}

static void place_bytes(const struct weir_sealed_cut *sealed, struct weir_slice *slice)
{
    slice->data = sealed->bytes + (uintptr_t)slice->data;
}

static void seal_window(void *context, const struct weir_cut_window *window)
{
    struct weir_sealed_cut *sealed = context;
    struct weir_cut_window *copy = &sealed->windows[sealed->cut.window_count++];

    *copy = *window;
    copy->window.series_key = add_bytes(sealed, window->window.series_key);
    copy->unique = add_bytes(sealed, window->unique);
}

static void seal_ids(struct weir_lane *lane, struct weir_sealed_cut *sealed)
{
    const char *from = lane->ids;

    if (sealed->ids_room < lane->run_count) {
        sealed->ids_room = lane->run_count;
        sealed->ids = weir_resize(sealed->ids, sealed->ids_room, sizeof *sealed->ids);
    }
    for (size_t i = 0; i < lane->run_count; i++) {
        size_t bytes = lane->runs[i].count * WEIR_ID_BYTES;
        sealed->ids[i] =
            (struct weir_cut_ids){.bucket = lane->runs[i].bucket, .ids = add_bytes(sealed, weir_slice_of(from, bytes))};
        from += bytes;
    }
    sealed->cut.ids_count = lane->run_count;
    lane->ids_count = lane->run_count = 0;
}

/* Periods end at quarters of an hour: raters know every tally by the cut in which the watermark passes one. They are
 * told at once by a lane that is idle, and of admitted events. */
static void seal_tallies(struct weir_lane *lane, struct weir_sealed_cut *sealed)
{
    bool has_passed = lane->closed_through / TELL_EVERY != lane->sealed_watermark / TELL_EVERY;

    weir_tallies_take(lane->tallies, has_passed || lane->is_idle || lane->settings.keeps_all, seal_window, sealed);
    lane->is_idle = false;
}

/* Begins a round (window_store.h) when it is due, and goes on with one: by what changed, so that a lane in which little
 * happens writes little. */
static void seal_round(struct weir_lane *lane, struct weir_sealed_cut *sealed, size_t most)
{
    uint64_t least = lane->settings.round_least ? lane->settings.round_least : ROUND_LEAST;

    if (lane->round_place == 0 && lane->open_sealed >= least
        && lane->open_sealed >= ROUND_AFTER * weir_window_table_open(lane->windows)) {
        sealed->cut.begins_round = true;
        lane->round_place = 1;
        lane->open_sealed = 0;
    }
    if (lane->round_place == 0)
        return;
    lane->round_place = weir_window_table_take_unchanged(lane->windows, lane->round_place, most, seal_window, sealed);
    sealed->cut.ends_round = lane->round_place == 0;
}

/* A bucket may go when the retention has passed its end; a window, when no event for it can be accepted any more. The
 * cut says how far that went, since another lateness, later, must not accept events for what is gone. By the watermark
 * that the cut tells: a window that is not closed yet stays, and whoever takes the lane knows no other one. */
static void forget(struct weir_lane *lane, struct weir_cut *cut)
{
    int64_t bucket = ids_needed_from(lane, lane->closed_through);
    int64_t windows = lane->closed_through - lane->settings.lateness;

    if (lane->settings.is_bounded || lane->settings.keeps_all)
        return;
    if (windows > lane->state.forgotten)
        lane->state.forgotten = windows;
    cut->forget_windows_below = lane->state.forgotten;
    weir_window_table_forget(lane->windows, cut->forget_windows_below);
    if (bucket <= 0)
        return;
    cut->forget_ids_below = bucket;
    weir_seen_forget(lane->seen, (uint32_t)bucket);
}

void weir_lane_seal(struct weir_lane *lane, struct weir_sealed_cut *sealed)
{
    size_t changed = weir_window_table_changed(lane->windows), most = ROUND_SHARE * changed;
    size_t room = changed + most + weir_tallies_changed(lane->tallies);

    sealed->bytes_used = 0;
    /* The name too: a lane that is lost is freed while its cuts are still on their way. */
    sealed->cut =
        (struct weir_cut){.lane = add_bytes(sealed, weir_lane_name(lane)), .expected_offset = lane->sealed_offset};
    if (sealed->window_room < room) {
        sealed->window_room = room + room / 2;
        sealed->windows = weir_resize(sealed->windows, sealed->window_room, sizeof *sealed->windows);
    }
    seal_round(lane, sealed, most);
    weir_window_table_take_changed(lane->windows, seal_window, sealed);
    for (size_t i = 0; i < sealed->cut.window_count; i++)
        lane->open_sealed += !sealed->windows[i].is_closed;
    seal_tallies(lane, sealed);
    seal_ids(lane, sealed);
    place_bytes(sealed, &sealed->cut.lane);
    for (size_t i = 0; i < sealed->cut.window_count; i++) {
        place_bytes(sealed, &sealed->windows[i].window.series_key);
        place_bytes(sealed, &sealed->windows[i].unique);
    }
    for (size_t i = 0; i < sealed->cut.ids_count; i++)
        place_bytes(sealed, &sealed->ids[i].ids);
    sealed->cut.windows = sealed->windows;
    sealed->cut.ids = sealed->ids;
    forget(lane, &sealed->cut);
    sealed->cut.state = lane->state;
    sealed->cut.is_anew = lane->state.next_offset < lane->sealed_offset;
    lane->sealed_offset = lane->state.next_offset;
    sealed->cut.state.watermark = lane->closed_through;
    lane->sealed_watermark = lane->closed_through;
    lane->has_new_gap = false;
    close_windows(lane, close_least(lane));
}

const struct weir_lane_state *weir_lane_state(const struct weir_lane *lane)
{
    return &lane->state;
}

struct weir_slice weir_lane_name(const struct weir_lane *lane)
{
    return weir_slice_of(lane->name, lane->name_length);
}

uint64_t weir_lane_windows(const struct weir_lane *lane)
{
    return weir_window_table_count(lane->windows);
}

uint64_t weir_lane_ids(const struct weir_lane *lane)
{
    return weir_seen_count(lane->seen) + weir_window_table_uniques(lane->windows);
}

size_t weir_lane_bytes(const struct weir_lane *lane)
{
    return weir_window_table_bytes(lane->windows) + weir_seen_bytes(lane->seen) + weir_tallies_bytes(lane->tallies);
}
