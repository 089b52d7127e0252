#include "cli/outage.h"

#include <string.h>

#include "common/calendar.h"
#include "common/daemon.h"
#include "common/hash.h"
#include "common/log.h"

enum { SAY_EVERY_MS = 2000 };

/* relaxed throughout: figures by themselves. Two threads that begin one outage at the same instant: the exchange
 * decides who says it. */
void weir_outage_begin(struct weir_outage *outage, const char *consequence, const char *reason)
{
    int64_t now = weir_monotonic(), none = 0;
    uint64_t hash = weir_hash64(reason, strlen(reason), 0);
    bool is_new =
        atomic_compare_exchange_strong_explicit(&outage->since, &none, now, memory_order_relaxed, memory_order_relaxed);
    bool is_other =
        atomic_load_explicit(&outage->reason, memory_order_relaxed) != hash
        && now - atomic_load_explicit(&outage->said, memory_order_relaxed) >= SAY_EVERY_MS * (WEIR_SECOND / 1000);

    if (!is_new && !is_other)
        return;
    atomic_store_explicit(&outage->reason, hash, memory_order_relaxed);
    atomic_store_explicit(&outage->said, now, memory_order_relaxed);
    weir_log(WEIR_LOG_WARN, "%s: %s", consequence, reason);
}

void weir_outage_end(struct weir_outage *outage, const char *what)
{
    if (!weir_outage_is_on(outage))
        return;
    int64_t since = atomic_exchange_explicit(&outage->since, 0, memory_order_relaxed);
    if (since)
        weir_log(WEIR_LOG_INFO, "%s again, after %lld s", what, (long long)((weir_monotonic() - since) / WEIR_SECOND));
}

bool weir_outage_is_on(const struct weir_outage *outage)
{
    return atomic_load_explicit(&outage->since, memory_order_relaxed) != 0;
}

int64_t weir_outage_lasts(const struct weir_outage *outage)
{
    int64_t since = atomic_load_explicit(&outage->since, memory_order_relaxed);
    return since ? weir_monotonic() - since : 0;
}
