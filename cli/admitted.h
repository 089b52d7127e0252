/* The topic of admitted events, "<topic>.admitted": what `weir admit` publishes and ingests, and what raters, reconcile
 * and explain look at beside the topic of usage events itself. Its lanes keep every id and every window for ever, and
 * hold no period back.
 */
#ifndef WEIR_CLI_ADMITTED_H
#define WEIR_CLI_ADMITTED_H

#include <stdbool.h>

#include "common/model/event.h"
#include "common/settings.h"
#include "common/slice.h"
#include "ingest/source.h"

/* Headers of an admitted message: the lane ("events:3") that has refused the event and may read it again, and the epoch
 * of that lane's owner when it was looked at. */
#define WEIR_ADMITTED_LANE "weir_lane"
#define WEIR_ADMITTED_EPOCH "weir_epoch"

/* Into text, which is returned. */
const char *weir_admitted_topic(const struct weir_settings *settings, char text[WEIR_SETTING_TEXT_MAX]);
/* "events.admitted" and its lanes, "events.admitted:0". */
bool weir_is_admitted(struct weir_slice topic_or_lane);
/* Of which lane the admitted message is; empty: it does not say (an older weir's), it may be any, and
 * *ret_epoch is 0. */
struct weir_slice weir_admitted_from(const struct weir_message *message, uint64_t *ret_epoch);

#endif
