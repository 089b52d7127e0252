/* Compiled for processors with AVX2, where the compiler can (CMakeLists.txt); run only on those. */
#include "ingest/json_shape_read.h"

bool weir_json_steps_read_wide(struct step **first, struct weir_slice text, struct weir_json_value *values,
                               char *scratch)
{
    return read_steps(first, text, values, scratch);
}
