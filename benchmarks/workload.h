/* The events that benchmarks run on: a believable stream of 250 to 300 bytes each, the same for the same settings.
 *
 * Zipf customers; three event types that eight meters count, one of them grouped; some events come twice, some late.
 * Two days of event time from 2026-01-05, if not told otherwise. It is the workload of tests/model/load.py in C, not
 * the same bytes. Knows what it made (weir_workload_totals), so that a benchmark can check its answer. One thread.
 */
#ifndef WEIR_BENCHMARKS_WORKLOAD_H
#define WEIR_BENCHMARKS_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ingest/source.h"

enum { WEIR_WORKLOAD_EVENT_MAX = 4096 }; /* bytes of one event, at most */

struct weir_workload_settings {
    uint64_t seed;
    uint64_t events;            /* in all, repeated ones included; event time is spread over them */
    uint32_t customers;         /* 1..1,000,000 */
    uint32_t repeated_permille; /* 0..1000 of the events are an earlier one again */
    uint32_t late_permille;     /* 0..1000 are up to six hours late */
    uint32_t span_seconds;      /* of event time, from noon of the first day on; 0: two days, from their beginning */
    uint32_t event_bytes;       /* shorter events get a text in data until they are as long; at most 4000; 0: none */
};

/* Of the distinct events made so far. */
struct weir_workload_totals {
    uint64_t events, repeated;
    uint64_t completions, requests, samples; /* by type; they add up to events */
    uint64_t tokens_in;
};

struct weir_workload;

struct weir_workload *weir_workload_new(const struct weir_workload_settings *settings);
struct weir_workload *weir_workload_free(struct weir_workload *workload); /* NULL in, NULL out */
/* The next event's JSON, no line end, into WEIR_WORKLOAD_EVENT_MAX bytes. Its length; 0: all are made. */
size_t weir_workload_next(struct weir_workload *workload, char *text);
/* The same event in Kafka's binary mode: its attributes as headers (ce_specversion, ce_id and so on), its data as the
 * value. All values are views into the text, which must be one of the workload's. */
enum { WEIR_WORKLOAD_HEADERS = 7 };
struct weir_workload_message {
    struct weir_header headers[WEIR_WORKLOAD_HEADERS];
    struct weir_slice value;
};
struct weir_workload_message weir_workload_to_binary(const char *text, size_t length);
/* That message as a record as brokers keep it: format v2, without a key. How long it is; *ret_value: where the value
 * stands in it. */
enum { WEIR_WORKLOAD_RECORD_MAX = WEIR_WORKLOAD_EVENT_MAX + 256 };
size_t weir_workload_to_record(const struct weir_workload_message *message, char record[WEIR_WORKLOAD_RECORD_MAX],
                               struct weir_slice *ret_value);
struct weir_workload_totals weir_workload_totals(const struct weir_workload *workload);
/* The catalog for it: every customer under the default contract. */
extern const char weir_workload_catalog[];
/* Writes it all, a line each, and the catalog, into the two files. false: errno. */
bool weir_workload_write(struct weir_workload *workload, const char *events_path, const char *catalog_path);

#endif
