#include "aggregator/epoch.h"

#include <string.h>

#include "common/hash.h"

uint64_t weir_epoch_raise(void)
{
    unsigned char random[WEIR_HASH_SECRET_BYTES];
    uint32_t part;

    weir_hash_make_secret(random);
    memcpy(&part, random, sizeof part);
    return 1 + (uint64_t)(part >> 1);
}
