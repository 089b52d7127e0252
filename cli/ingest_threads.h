/* The threads of `weir ingest`: as many workers (cli/worker.h) as `ingest.threads` says. Each is a member of the
 * consumer group by itself, with a source, handles of the store and a quarantine of its own, so that partitions are
 * dealt out among threads as they are among processes, a lane's owner is one thread, and nothing is shared on the way
 * of an event. What they have in common: the bound of memory, the page, and that they end together.
 *
 * The main thread only watches them: it tells systemd and a terminal how they are, and a signal reaches it alone.
 */
#ifndef WEIR_CLI_INGEST_THREADS_H
#define WEIR_CLI_INGEST_THREADS_H

#include "cli/worker.h"
#include "common/settings.h"

struct weir_ingest_threads;

/* Opens all but the sources. The settings (ingest_threads: 1 to WEIR_WORKERS_MAX) and the catalog must outlive the
 * result, which is to be freed also when something could not be opened. WEIR_OK, or the status of what failed. */
enum weir_status weir_ingest_threads_open(const struct weir_settings *settings, const struct weir_catalog *catalog,
                                          struct weir_ingest_threads **ret_threads, struct weir_error *reterr);
struct weir_ingest_threads *weir_ingest_threads_free(struct weir_ingest_threads *threads); /* NULL in, NULL out */

/* For metrics and figures; complete, and as old as the threads. */
struct weir_worker_peers *weir_ingest_threads_peers(struct weir_ingest_threads *threads);

/* Until *stop is true, which is the flag of weir_daemon_catch_signals, or, with until_end, all have read to the end.
 * One that cannot go on stops the others, which hand their lanes over: its status and *reterr are returned. Once. Main
 * thread. */
enum weir_status weir_ingest_threads_run(struct weir_ingest_threads *threads, const _Atomic bool *stop,
                                         struct weir_error *reterr);

#endif
