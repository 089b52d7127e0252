#include "common/model/event.h"

#include "common/hash_short.h"

#define WEIR_X(upper, lower) [WEIR_REASON_##upper] = #lower,
const char *const weir_reason_name[WEIR_REASON_COUNT] = {WEIR_REASONS(WEIR_X)};
#undef WEIR_X

uint64_t weir_event_content_of_type(struct weir_slice type, uint64_t seed)
{
    return weir_hash64(type.data, type.length, seed);
}

uint64_t weir_event_content_below(uint64_t of_type, const struct weir_event *event)
{
    uint64_t hash = weir_hash64_short(event->subject, of_type);

    return weir_hash64(event->data.data, event->data.length, hash);
}

uint64_t weir_event_content(const struct weir_event *event, uint64_t seed)
{
    return weir_event_content_below(weir_event_content_of_type(event->type, seed), event);
}
