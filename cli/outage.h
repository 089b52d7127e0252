/* Something that others do not take from us, or not now: said once when it begins and once when it is over, however
 * often it is tried meanwhile. Also said anew when the reason changes, at most every two seconds. Any thread.
 */
#ifndef WEIR_CLI_OUTAGE_H
#define WEIR_CLI_OUTAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct weir_outage {
    _Atomic int64_t since, said; /* monotonic ns; since 0: there is none */
    _Atomic uint64_t reason;     /* its hash */
};

/* consequence: what we do meanwhile. */
void weir_outage_begin(struct weir_outage *outage, const char *consequence, const char *reason);
/* what: "the window store takes cuts". Cheap when there is no outage. */
void weir_outage_end(struct weir_outage *outage, const char *what);
bool weir_outage_is_on(const struct weir_outage *outage);
int64_t weir_outage_lasts(const struct weir_outage *outage); /* ns so far; 0: there is none */

#endif
