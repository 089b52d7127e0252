/* Log lines on stderr: text for people, or one JSON object a line. Library code reports by status; commands and the
 * threads that they start log. Any thread; a line is one write(2), so lines never mix.
 */
#ifndef WEIR_COMMON_LOG_H
#define WEIR_COMMON_LOG_H

#include <stdbool.h>

#define WEIR_LOG_LEVELS(X) X(ERROR, error) X(WARN, warn) X(INFO, info) X(DEBUG, debug)
enum weir_log_level {
#define WEIR_X(upper, lower) WEIR_LOG_##upper,
    WEIR_LOG_LEVELS(WEIR_X)
#undef WEIR_X
        WEIR_LOG_LEVEL_COUNT
};
extern const char *const weir_log_level_name[WEIR_LOG_LEVEL_COUNT];

enum { WEIR_LOG_LINE_MAX = 4096 }; /* a longer message is cut */

/* Once, before threads start. name: what runs ("weir ingest"), kept by reference. */
void weir_log_open(const char *name, bool is_json, enum weir_log_level level);
void weir_log(enum weir_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What a command says of its run, whatever the level that is logged: "NAME: message" where lines are text (people and
 * scripts read it), and a line like any other in JSON. */
void weir_log_plain(enum weir_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A line on a terminal that the next one takes the place of, also a line of the log; NULL: none, what stands is
 * cleared. Nothing where lines are JSON. For whoever knows that stderr is a terminal (daemon.h). */
enum { WEIR_LOG_PROGRESS_MAX = 512 };
void weir_log_progress(const char *text);

#endif
