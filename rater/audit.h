/* The audit log: who changed what the ledger rests on, each entry chained to the one before it by its hash.
 *
 * PostgreSQL writes it (schemas/postgres/0007_audit.sql), by triggers on the tables that it tells of. This module reads
 * it, and works every hash out again on its own: nothing that somebody did to the database's functions makes it agree.
 * docs/audit.md says what it proves, and what only a mark kept elsewhere does.
 */
#ifndef WEIR_RATER_AUDIT_H
#define WEIR_RATER_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/digest.h"
#include "common/slice.h"
#include "common/status.h"

/* Of what is wrong, so many are told; all are counted. */
enum { WEIR_AUDIT_FINDINGS_MAX = 100 };

/* An entry and its hash: kept outside of the database, it proves that everything up to it is as it was. */
struct weir_audit_mark {
    int64_t entry; /* 0: none */
    char hash[WEIR_DIGEST_TEXT_MAX];
};

/* "ENTRY:HASH", as verify prints it. False: it is not one. */
bool weir_audit_mark_read(const char *text, struct weir_audit_mark *ret_mark);

struct weir_audit_report {
    uint64_t entries;                     /* read */
    struct weir_audit_mark head;          /* the newest entry */
    uint64_t findings;                    /* 0: the log is sound */
    char *texts[WEIR_AUDIT_FINDINGS_MAX]; /* a sentence for each of the first ones */
};

/* Reads the whole log in one snapshot and holds it against its own hashes, against `kept` (entry 0: nothing was kept)
 * and against the rows that it tells of. WEIR_OK: *ret_report is filled, whatever was found, and to be freed.
 * WEIR_RETRY: the server is away. WEIR_FATAL. */
enum weir_status weir_audit_verify(const char *url, const struct weir_audit_mark *kept,
                                   struct weir_audit_report *ret_report, struct weir_error *reterr);
void weir_audit_report_free(struct weir_audit_report *report);

struct weir_audit_entry {
    int64_t entry;
    int64_t at; /* ns */
    struct weir_slice actor, role, action, subject;
    struct weir_slice detail; /* JSON text */
    struct weir_slice hash;
};

/* Calls visit for each of the last `count` entries, oldest first; views live for the call. */
enum weir_status weir_audit_list(const char *url, int64_t count,
                                 void (*visit)(void *context, const struct weir_audit_entry *entry), void *context,
                                 struct weir_error *reterr);

#endif
