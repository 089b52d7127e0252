/* What makes a process a good daemon, or a good neighbour on a terminal: stopping on signals, talking to systemd,
 * progress. Main thread only, but for the stop flag, stopping, being alive and the silence.
 */
#ifndef WEIR_COMMON_DAEMON_H
#define WEIR_COMMON_DAEMON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* SIGTERM and SIGINT set the flag that is returned; a second SIGINT ends the process at once. SIGPIPE is ignored. */
const _Atomic bool *weir_daemon_catch_signals(void);

/* The same from within: a part that cannot go on ends the whole. Any thread. */
void weir_daemon_stop(void);

/* sd_notify, where systemd listens; else nothing. */
void weir_daemon_ready(const char *status);
void weir_daemon_stopping(void);
enum { WEIR_DAEMON_LOOPS_MAX = 64 }; /* threads that call alive at one time */

/* The calling thread's loop goes round: tells the watchdog, and /healthz (metrics.h), as long as every loop does.
 * Cheap; call it every round, and in every wait. */
void weir_daemon_alive(void);
/* The calling thread's loop is over, and its silence means nothing any more. */
void weir_daemon_rest(void);
/* ns since the loop that is silent for longest called alive; 0: there is none. */
int64_t weir_daemon_silence(void);
/* What `systemctl status` shows beside the unit; said when it is another text (another pointer) than before. */
void weir_daemon_status(const char *status);

/* ns of a clock that never goes back, for how long something takes. Any thread. */
int64_t weir_monotonic(void);

/* A line on a terminal that is written over, at most 5 times a second, first after two seconds; nothing elsewhere, and
 * none where the log is JSON. A line of the log takes its place, and the next one comes below that. */
struct weir_progress {
    const char *name;
    int64_t shown; /* monotonic ns */
    bool is_terminal;
    bool is_shown;
};
struct weir_progress weir_progress_start(const char *name);
void weir_progress_show(struct weir_progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));
void weir_progress_end(struct weir_progress *progress); /* clears the line */

#endif
