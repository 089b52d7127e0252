/* Opening what the settings name: shared by the commands that run on real servers. */
#ifndef WEIR_CLI_OPEN_H
#define WEIR_CLI_OPEN_H

#include "cli/worker.h"
#include "common/metrics.h"
#include "common/model/catalog.h"
#include "common/settings.h"
#include "ingest/source.h"

/* The catalog of the settings: a path, or the one applied last in PostgreSQL. -1: *ret_catalog is the caller's;
 * otherwise the exit status, all told. */
int weir_open_catalog(const struct weir_settings *settings, struct weir_catalog **ret_catalog);

/* The same for a daemon, which waits for a PostgreSQL that is away or just starts, and says so in its log and on its
 * page: for ever, or as long as settings->patience when it is to end by itself. Told to stop meanwhile, a daemon ends
 * well. */
int weir_await_catalog(const struct weir_settings *settings, const _Atomic bool *stop,
                       struct weir_catalog **ret_catalog);

/* Views into settings and properties, which must outlive the result's use. */
struct weir_kafka_settings weir_open_kafka_settings(const struct weir_settings *settings,
                                                    struct weir_property properties[WEIR_PROPERTIES_MAX]);

/* What the settings say of an ingest worker. */
struct weir_worker_settings weir_open_worker_settings(const struct weir_settings *settings);

/* A worker, and what it works with and does not own. Zeroed before it is opened; closed also when that failed. */
struct weir_opened_worker {
    struct weir_worker *worker;
    struct weir_window_store *consumer_store, *writer_store;
    struct weir_quarantine *quarantine;
};
/* WEIR_OK, or the status of what could not be opened. Catalog and what of_worker points at must outlive it. */
enum weir_status weir_open_worker(const struct weir_settings *settings, const struct weir_catalog *catalog,
                                  const struct weir_kafka_settings *kafka, const struct weir_worker_settings *of_worker,
                                  struct weir_opened_worker *opened, struct weir_error *reterr);
void weir_close_worker(struct weir_opened_worker *opened);

/* Opens metrics.listen and logs where it is. A run that ends by itself (until_end, until_done) goes on without, when
 * the port is taken: several of them are often started at once. */
enum weir_status weir_open_metrics(struct weir_metrics *metrics, const struct weir_settings *settings,
                                   struct weir_error *reterr);

#endif
