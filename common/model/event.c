#include "common/model/event.h"

#include "common/hash.h"

#define WEIR_X(upper, lower) [WEIR_REASON_##upper] = #lower,
const char *const weir_reason_name[WEIR_REASON_COUNT] = {WEIR_REASONS(WEIR_X)};
#undef WEIR_X

uint64_t weir_event_content(const struct weir_event *event, uint64_t seed)
{
    uint64_t hash = weir_hash64(event->type.data, event->type.length, seed);

    hash = weir_hash64(event->subject.data, event->subject.length, hash);
    return weir_hash64(event->data.data, event->data.length, hash);
}
