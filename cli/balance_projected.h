/* `weir balance --projected`: what the ledger says is left, and what would be if all that Redis has counted and nobody
 * has rated yet were. Only reads. */
#ifndef WEIR_CLI_BALANCE_PROJECTED_H
#define WEIR_CLI_BALANCE_PROJECTED_H

#include "common/settings.h"
#include "common/status.h"

/* Lists it on standard output; what it rests on goes to stderr. WEIR_RETRY: a server is away. */
enum weir_status weir_balance_projected(const struct weir_settings *settings, struct weir_error *reterr);

#endif
