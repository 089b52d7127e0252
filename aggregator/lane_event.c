/* What an event does to a lane: judged, counted or refused, and its id remembered. */
#include "aggregator/lane_internal.h"

#include <stdio.h>

#include "common/hash_short.h"

enum {
    EFFECT_ADMITTED = 1, /* of an id in state COUNTED_UNKNOWN, which has no effect to keep: it counts in another lane */
};

/* 1. its time */

static __attribute__((noinline)) enum weir_status refuse_time(const struct weir_lane *lane, int64_t time, int64_t now,
                                                              struct weir_rejection *reterr)
{
    char found[WEIR_TIME_TEXT_MAX], limit[WEIR_TIME_TEXT_MAX];
    bool is_early = time - now > lane->settings.max_future;
    bool is_forgotten = lane_accepted_from(lane) > lane->state.watermark - lane->settings.lateness;

    weir_time_format(time, found);
    weir_time_format(is_early ? now + lane->settings.max_future : lane_accepted_from(lane), limit);
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
        || (time - now <= lane->settings.max_future && (lane->settings.keeps_all || time >= lane_accepted_from(lane))))
        return WEIR_OK;
    return refuse_time(lane, time, now, reterr);
}

/* 2. ids */

/* None is below an earlier one, so that of several records of an id the last stands last. */
static inline int64_t next_bucket(struct weir_lane *lane)
{
    if (lane->settings.is_bounded || lane->settings.keeps_all)
        return 0;
    if (lane->state.high >= lane->bucket_until) { /* to be asked only then: it divides twice */
        int64_t bucket = lane_bucket_of(lane, lane->state.high);
        lane->bucket_until = bucket * WEIR_MINUTE;
        if (bucket > lane->last_bucket)
            lane->last_bucket = bucket;
    }
    return lane->last_bucket;
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
    int64_t needed = lane_ids_needed_from(lane, lane->closed_through);

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
    int64_t bucket = event->time > 0 ? lane_bucket_of(lane, event->time) : 0;

    if (event->is_retraction || event->time < lane_accepted_from(lane)
        || weir_seen_look(lane->seen, id, content, &mark) != WEIR_SEEN_NEW)
        return WEIR_OK;
    if (weir_lane_ids(lane) < lane->settings.ids_max
        && weir_seen_set(lane->seen, id, admitted, (uint32_t)bucket) == WEIR_OK)
        return WEIR_OK;
    return weir_fail(reterr, WEIR_REJECT,
                     "lane %s: the ids of admitted events do not fit beside its own into what other lanes leave of "
                     "lane_ids_max (%llu). Raise it with the memory that it needs; nothing was lost",
                     lane->name, (unsigned long long)lane->settings.ids_max);
}

/* 3. before its turn */

/* The effect is what counting the event does: its time and, for each window that it adds to, which one and how much;
 * keyed, as only the lane's secret makes it unpredictable. Meters may come in any order. 0 where a meter cannot take it
 * out again. */
void weir_lane_hash(const struct weir_lane *lane, const struct weir_event *event, struct weir_reading *readings,
                    uint32_t count, struct weir_lane_hashes *ret_hashes)
{
    uint64_t seed = weir_hash_key_seed(&lane->secret);
    struct weir_hash_pair identity;
    bool is_retractable;

    weir_hash_pair_set(&identity, event->source, event->id); /* before all else: hash.h */
    uint64_t sum = weir_window_table_hash(lane->windows, readings, count, weir_hash64_short(event->subject, 0),
                                          &lane->secret, &is_retractable);
    uint64_t effect = weir_hash_mix(weir_hash_mix(sum ^ seed) + (uint64_t)event->time);

    ret_hashes->effect = is_retractable ? (uint32_t)(effect >> (64 - WEIR_EFFECT_BITS)) : 0;
    ret_hashes->id = weir_fingerprint64_of(&lane->secret, &identity);
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

/* 4. its turn */

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
    lane_raise_watermark(lane, lane->state.high - lane->settings.disorder);
    return outcome;
}

void weir_lane_reject(struct weir_lane *lane, struct weir_slice customer, int64_t sequence)
{
    pass(lane, sequence);
    lane->state.counts.quarantined++;
    tally(lane, customer, (struct weir_tally){.quarantined = 1});
}
