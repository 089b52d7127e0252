#include "cli/time_option.h"

#include <stdio.h>
#include <string.h>

#include "common/calendar.h"

bool weir_time_option(const char *text, int64_t fallback, int64_t *ret_time)
{
    char whole[WEIR_TIME_TEXT_MAX];

    *ret_time = fallback;
    if (!*text)
        return true;
    (void)snprintf(whole, sizeof whole, "%s%s", text, strlen(text) == 10 ? "T00:00:00Z" : "");
    return weir_time_parse(weir_slice_text(whole), ret_time);
}
