#include "common/model/line_item.h"

#define WEIR_X(upper, lower) [WEIR_KIND_##upper] = #lower,
const char *const weir_kind_name[WEIR_KIND_COUNT] = {WEIR_KINDS(WEIR_X)};
#undef WEIR_X

#define WEIR_X(upper, lower) [WEIR_COMPONENT_##upper] = #lower,
const char *const weir_component_name[WEIR_COMPONENT_COUNT] = {WEIR_COMPONENTS(WEIR_X)};
#undef WEIR_X
