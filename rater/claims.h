/* Who rates which lane: advisory locks in PostgreSQL, so that several raters share the lanes. Only a division of
 * labour: two raters on one lane would be slower, never wrong (rows of customers are locked, and charges are
 * differences).
 *
 * A claim lives as long as the connection; a rater that dies gives its lanes up by dying, one that is stopped loses
 * them after a while. One thread.
 */
#ifndef WEIR_RATER_CLAIMS_H
#define WEIR_RATER_CLAIMS_H

#include <stdbool.h>

#include "common/slice.h"
#include "common/status.h"

struct weir_claims;

/* url: any libpq connection string. Connects at the first try. idle: ns (whole milliseconds) without a call after which
 * the server takes all claims back, as a rater that is stopped would keep them for ever; a rater that goes on calls
 * weir_claims_try more often than that for what it holds. */
struct weir_claims *weir_claims_new(const char *url, int64_t idle);
struct weir_claims *weir_claims_free(struct weir_claims *claims); /* releases all; NULL in, NULL out */
/* *ret_is_ours: the claim is held now (it may have been before, or be lost by now to another rater). WEIR_RETRY:
 * PostgreSQL cannot be reached, or not now.
 */
enum weir_status weir_claims_try(struct weir_claims *claims, struct weir_slice name, bool *ret_is_ours,
                                 struct weir_error *reterr);
enum weir_status weir_claims_release(struct weir_claims *claims, struct weir_slice name, struct weir_error *reterr);

#endif
