#include "cli/ingest_threads.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cli/admitted.h"
#include "cli/open.h"
#include "cli/worker_metrics.h"
#include "common/calendar.h"
#include "common/daemon.h"

enum { SHOW_MS = 200 };

struct ingest_thread {
    struct weir_ingest_threads *all;
    struct weir_opened_worker opened;
    struct weir_kafka_settings kafka;
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    char instance[WEIR_INSTANCE_MAX + sizeof WEIR_THREAD_INSTANCE + 10]; /* 10: digits of an index */
    pthread_t thread;
};

struct weir_ingest_threads {
    const struct weir_settings *settings;
    struct ingest_thread *threads;
    uint32_t count;
    struct weir_worker_peers peers;
    struct weir_kafka_settings admitted;
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    char admitted_topic[WEIR_SETTING_TEXT_MAX];
    const _Atomic bool *stop;
    int ended;             /* an eventfd that counts threads that ended */
    _Atomic bool is_taken; /* by the first that failed: it alone writes the next two, which joining it makes visible */
    enum weir_status status;
    struct weir_error error;
};

/* 1. opening */

/* The group knows each of its members by a name, if they have names: the first thread has the one that was given,
 * which it had when it was alone, the others have theirs made of it. */
static void name_instance(struct ingest_thread *thread, uint32_t index)
{
    for (size_t i = 0; i < thread->kafka.property_count && index > 0; i++) {
        struct weir_property *property = &thread->properties[i];
        if (strcmp(property->name, "group.instance.id") != 0)
            continue;
        int length =
            snprintf(thread->instance, sizeof thread->instance, "%s" WEIR_THREAD_INSTANCE "%u", property->value, index);
        weir_check(length < (int)sizeof thread->instance); /* settings.c has looked at it */
        property->value = thread->instance;
    }
}

static enum weir_status open_thread(struct weir_ingest_threads *threads, uint32_t index,
                                    const struct weir_catalog *catalog, struct weir_error *reterr)
{
    const struct weir_settings *settings = threads->settings;
    struct weir_worker_settings of_worker = weir_open_worker_settings(settings);
    struct ingest_thread *thread = &threads->threads[index];

    thread->all = threads;
    thread->kafka = weir_open_kafka_settings(settings, thread->properties);
    name_instance(thread, index);
    of_worker.admitted = &threads->admitted;
    of_worker.peers = &threads->peers;
    enum weir_status status = weir_open_worker(settings, catalog, &thread->kafka, &of_worker, &thread->opened, reterr);
    if (status == WEIR_OK)
        threads->peers.gauges[threads->peers.count++] = weir_worker_gauges(thread->opened.worker);
    return status;
}

enum weir_status weir_ingest_threads_open(const struct weir_settings *settings, const struct weir_catalog *catalog,
                                          struct weir_ingest_threads **ret_threads, struct weir_error *reterr)
{
    struct weir_ingest_threads *threads = weir_new(sizeof *threads);
    enum weir_status status = WEIR_OK;

    *ret_threads = threads;
    threads->settings = settings;
    threads->count = (uint32_t)settings->ingest_threads;
    weir_check(threads->count >= 1 && threads->count <= WEIR_WORKERS_MAX);
    threads->threads = weir_new_array(threads->count, sizeof *threads->threads);
    threads->admitted = weir_open_kafka_settings(settings, threads->properties);
    threads->admitted.topic = weir_admitted_topic(settings, threads->admitted_topic);
    threads->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (threads->ended < 0)
        return weir_fail(reterr, WEIR_FATAL, "no descriptor for the threads: %s. Raise the limit of open files",
                         strerror(errno));
    for (uint32_t i = 0; i < threads->count && status == WEIR_OK; i++)
        status = open_thread(threads, i, catalog, reterr);
    return status;
}

struct weir_ingest_threads *weir_ingest_threads_free(struct weir_ingest_threads *threads)
{
    if (!threads)
        return NULL;
    for (uint32_t i = 0; i < threads->count; i++)
        weir_close_worker(&threads->threads[i].opened);
    if (threads->ended >= 0)
        close(threads->ended);
    free(threads->threads);
    free(threads);
    return NULL;
}

struct weir_worker_peers *weir_ingest_threads_peers(struct weir_ingest_threads *threads)
{
    return &threads->peers;
}

/* 2. running */
static void fail(struct weir_ingest_threads *threads, enum weir_status status, const struct weir_error *error)
{
    /* relaxed: who finds it taken looks at nothing else. */
    if (atomic_exchange_explicit(&threads->is_taken, true, memory_order_relaxed))
        return;
    threads->status = status;
    threads->error = *error;
    weir_daemon_stop();
}

static void *run(void *context)
{
    struct ingest_thread *thread = context;
    struct weir_source_listener listener = weir_worker_listener(thread->opened.worker);
    struct weir_source *source = NULL;
    struct weir_error error;

    enum weir_status status = weir_source_kafka_open(&thread->kafka, &listener, &source, &error);
    if (status == WEIR_OK)
        status = weir_worker_run(thread->opened.worker, source, thread->all->stop, &error);
    if (status != WEIR_OK)
        fail(thread->all, status, &error);
    weir_daemon_rest();
    (void)eventfd_write(thread->all->ended, 1);
    return NULL;
}

/* Signals go to the main thread, whatever else the threads start. */
static uint32_t start(struct weir_ingest_threads *threads)
{
    uint32_t started = 0;
    sigset_t all, before;
    int refused = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started < threads->count && !refused) {
        struct ingest_thread *thread = &threads->threads[started];
        refused = pthread_create(&thread->thread, NULL, run, thread);
        started += !refused;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (refused) {
        struct weir_error error;
        (void)weir_fail(&error, WEIR_FATAL, "only %u of %u threads could be started (ingest.threads): %s", started,
                        threads->count, strerror(refused));
        fail(threads, WEIR_FATAL, &error);
    }
    return started;
}

enum weir_status weir_ingest_threads_run(struct weir_ingest_threads *threads, const _Atomic bool *stop,
                                         struct weir_error *reterr)
{
    struct weir_progress progress = weir_progress_start("weir ingest");
    struct pollfd waiting = {.fd = threads->ended, .events = POLLIN};
    uint64_t ended = 0, more;

    threads->stop = stop;
    weir_daemon_rest();
    uint32_t started = start(threads);
    while (ended < started) {
        weir_workers_show(&threads->peers, threads->settings->until_end ? &progress : NULL);
        (void)poll(&waiting, 1, SHOW_MS); /* a signal ends it early, and shows once more */
        ended += eventfd_read(threads->ended, &more) == 0 ? more : 0;
    }
    for (uint32_t i = 0; i < started; i++)
        pthread_join(threads->threads[i].thread, NULL);
    weir_progress_end(&progress);
    if (threads->status != WEIR_OK)
        *reterr = threads->error;
    return threads->status;
}
