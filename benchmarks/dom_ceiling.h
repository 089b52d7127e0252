/* simdjson's own DOM parse of one text, for the decode benchmark to be measured against. */
#ifndef WEIR_BENCHMARKS_DOM_CEILING_H
#define WEIR_BENCHMARKS_DOM_CEILING_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* True when it is JSON. 64 bytes behind the text must be readable. One thread. */
bool dom_ceiling_parse(const char *text, size_t length);

#ifdef __cplusplus
}
#endif

#endif
