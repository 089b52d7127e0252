#include "cli/intake.h"

#include <stdlib.h>

#include "ingest/decode.h"
#include "ingest/reading.h"

struct weir_intake {
    struct weir_decoder *decoder;
    struct weir_reader *reader;
    struct weir_quarantine *quarantine;
    struct weir_intake_counts counts;
    struct weir_event event;
    struct weir_rejection rejection;
    struct weir_reading readings[WEIR_METERS_MAX];
};

struct weir_intake *weir_intake_new(const struct weir_catalog *catalog, struct weir_quarantine *quarantine)
{
    struct weir_intake *intake = weir_new(sizeof *intake);
    intake->decoder = weir_decoder_new(catalog);
    intake->reader = weir_reader_new(catalog);
    intake->quarantine = quarantine;
    return intake;
}

struct weir_intake *weir_intake_free(struct weir_intake *intake)
{
    if (!intake)
        return NULL;
    weir_decoder_free(intake->decoder);
    weir_reader_free(intake->reader);
    free(intake);
    return NULL;
}

/* Everything that can refuse an event before its lane looks at it. */
static enum weir_status read_message(struct weir_intake *intake, const struct weir_lane *lane,
                                     const struct weir_message *message, int64_t now, uint32_t *ret_count)
{
    enum weir_status status = weir_decode(intake->decoder, message, &intake->event, &intake->rejection);

    if (status == WEIR_OK)
        status = weir_lane_check_time(lane, intake->event.time, now, &intake->rejection);
    if (status == WEIR_OK)
        status = weir_read_event(intake->reader, &intake->event, intake->readings, ret_count, &intake->rejection);
    return status;
}

static enum weir_status put_away(struct weir_intake *intake, const struct weir_message *message,
                                 struct weir_error *reterr)
{
    return intake->quarantine->ops->put(intake->quarantine, message, &intake->rejection, reterr);
}

static enum weir_status full(const struct weir_lane *lane, struct weir_error *reterr)
{
    struct weir_slice name = weir_lane_name(lane);
    return weir_fail(reterr, WEIR_FATAL,
                     "lane %.*s is full: %llu windows and %llu ids in memory. Raise lane_windows_max or lane_ids_max, or "
                     "lower lateness; nothing was lost",
                     (int)name.length, name.data, (unsigned long long)weir_lane_windows(lane),
                     (unsigned long long)weir_lane_ids(lane));
}

enum weir_status weir_intake_take(struct weir_intake *intake, struct weir_lane *lane,
                                  const struct weir_message *message, int64_t now, enum weir_outcome *ret_outcome,
                                  struct weir_error *reterr)
{
    enum weir_outcome outcome = WEIR_OUTCOME_REJECTED;
    enum weir_status status;
    uint32_t count = 0;

    if (read_message(intake, lane, message, now, &count) == WEIR_OK) {
        outcome = weir_lane_take(lane, &intake->event, intake->readings, count, message->sequence, &intake->rejection);
        if (outcome == WEIR_OUTCOME_FULL)
            return full(lane, reterr);
        if (outcome == WEIR_OUTCOME_REJECTED) {
            /* The lane has moved past it already, so this record must get through. */
            while ((status = put_away(intake, message, reterr)) == WEIR_AGAIN)
                if ((status = intake->quarantine->ops->flush(intake->quarantine, reterr)) != WEIR_OK)
                    break;
            if (status != WEIR_OK)
                return WEIR_FATAL;
        }
    } else {
        if ((status = put_away(intake, message, reterr)) != WEIR_OK)
            return status == WEIR_AGAIN ? status : WEIR_FATAL;
        weir_lane_reject(lane, message->sequence);
    }
    intake->counts.outcomes[outcome]++;
    intake->counts.bytes += message->value.length;
    if (outcome == WEIR_OUTCOME_REJECTED)
        intake->counts.rejections[intake->rejection.reason]++;
    if (ret_outcome)
        *ret_outcome = outcome;
    return WEIR_OK;
}

const struct weir_intake_counts *weir_intake_counts(const struct weir_intake *intake) { return &intake->counts; }
