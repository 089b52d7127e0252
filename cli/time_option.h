/* Times on the command line. */
#ifndef WEIR_CLI_TIME_OPTION_H
#define WEIR_CLI_TIME_OPTION_H

#include <stdbool.h>
#include <stdint.h>

/* A time, or a day in UTC; an empty text is the fallback. false: it is neither. */
bool weir_time_option(const char *text, int64_t fallback, int64_t *ret_time);

#endif
