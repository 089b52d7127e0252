/* Epochs of a lane's owners. Each take raises the lane's epoch by this: at least 1, so that it never sinks, and a
 * random part, so that no two takes make the same one.
 *
 * By 1 alone, a store that falls back to before a take would give its epoch out again: the earlier owner, who knows
 * nothing of it, and the new one would then hold one epoch, and each could write over the other. Two takes of one
 * stored epoch agree by chance once in 2^31.
 */
#ifndef WEIR_AGGREGATOR_EPOCH_H
#define WEIR_AGGREGATOR_EPOCH_H

#include <stdint.h>

uint64_t weir_epoch_raise(void); /* 1 .. 2^31 */

#endif
