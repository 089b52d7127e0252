#include "common/daemon.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "common/calendar.h"
#include "common/log.h"
#include "common/status.h"

static _Atomic bool is_stopping;
static uint64_t watchdog_us;       /* 0: nobody watches */
static _Atomic int64_t last_alive; /* told to the watchdog */
/* When each loop went round last, monotonic ns; 0: nobody's. A thread's first call takes one, and rest gives it back.
 * Figures by themselves, hence relaxed. */
static _Atomic int64_t rounds[WEIR_DAEMON_LOOPS_MAX];
static _Thread_local _Atomic int64_t *mine;
static const char *last_status;

int64_t weir_monotonic(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * WEIR_SECOND + now.tv_nsec;
}

static void on_signal(int signal)
{
    if (signal == SIGINT && atomic_load_explicit(&is_stopping, memory_order_relaxed))
        _exit(EXIT_FAILURE);
    atomic_store_explicit(&is_stopping, true, memory_order_relaxed); /* a lock-free flag is safe in a handler */
}

void weir_daemon_stop(void)
{
    atomic_store_explicit(&is_stopping, true, memory_order_relaxed); /* as a signal does */
}

const _Atomic bool *weir_daemon_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (sd_watchdog_enabled(0, &watchdog_us) <= 0)
        watchdog_us = 0;
    return &is_stopping;
}

void weir_daemon_ready(const char *status)
{
    sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void weir_daemon_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}

static void take_round(int64_t now)
{
    for (int i = 0; i < WEIR_DAEMON_LOOPS_MAX && !mine; i++) {
        int64_t nobody = 0;
        if (atomic_compare_exchange_strong_explicit(&rounds[i], &nobody, now, memory_order_relaxed,
                                                    memory_order_relaxed))
            mine = &rounds[i];
    }
    weir_check(mine != NULL);
}

/* When the loop went round that is silent for longest; WEIR_TIME_NEVER: there is none. */
static int64_t oldest_round(void)
{
    int64_t oldest = WEIR_TIME_NEVER;

    for (int i = 0; i < WEIR_DAEMON_LOOPS_MAX; i++) {
        int64_t round = atomic_load_explicit(&rounds[i], memory_order_relaxed);
        if (round && round < oldest)
            oldest = round;
    }
    return oldest;
}

void weir_daemon_alive(void)
{
    int64_t now = weir_monotonic();

    if (!mine)
        take_round(now);
    atomic_store_explicit(mine, now, memory_order_relaxed);
    int64_t told = atomic_load_explicit(&last_alive, memory_order_relaxed), apart = (int64_t)watchdog_us * 1000 / 4;
    if (!watchdog_us || now - told < apart)
        return;
    /* One of those who find it due tells it, and only of a round that every loop has made since. */
    int64_t oldest = oldest_round();
    if (oldest - told >= apart
        && atomic_compare_exchange_strong_explicit(&last_alive, &told, oldest, memory_order_relaxed,
                                                   memory_order_relaxed))
        sd_notify(0, "WATCHDOG=1");
}

void weir_daemon_rest(void)
{
    if (mine)
        atomic_store_explicit(mine, 0, memory_order_relaxed);
    mine = NULL;
}

int64_t weir_daemon_silence(void)
{
    int64_t oldest = oldest_round(), now = weir_monotonic();

    return oldest < now ? now - oldest : 0;
}

void weir_daemon_status(const char *status)
{
    if (status == last_status)
        return;
    last_status = status;
    sd_notifyf(0, "STATUS=%s", status);
}

struct weir_progress weir_progress_start(const char *name)
{
    return (struct weir_progress){.name = name,
                                  .shown = weir_monotonic() + 2 * WEIR_SECOND - WEIR_SECOND / 5,
                                  .is_terminal = isatty(STDERR_FILENO)};
}

void weir_progress_show(struct weir_progress *progress, const char *format, ...)
{
    char text[WEIR_LOG_PROGRESS_MAX];
    va_list arguments;

    if (!progress->is_terminal || weir_monotonic() - progress->shown < WEIR_SECOND / 5)
        return;
    progress->shown = weir_monotonic();
    progress->is_shown = true;
    int length = snprintf(text, sizeof text, "%s: ", progress->name);
    va_start(arguments, format);
    (void)vsnprintf(text + length, sizeof text - (size_t)length, format, arguments);
    va_end(arguments);
    weir_log_progress(text);
}

void weir_progress_end(struct weir_progress *progress)
{
    if (progress->is_shown)
        weir_log_progress(NULL);
    progress->is_shown = false;
}
