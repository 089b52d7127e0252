#include "common/model/event.h"

#define WEIR_X(upper, lower) [WEIR_REASON_##upper] = #lower,
const char *const weir_reason_name[WEIR_REASON_COUNT] = {WEIR_REASONS(WEIR_X)};
#undef WEIR_X
