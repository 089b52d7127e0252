/* Catalogs in PostgreSQL: storing a new one without changing history, and reading the last one back.
 *
 * History is what was rated: a catalog that would have rated it otherwise is refused, entry by entry, with what to do
 * instead. A rater reads its catalog once, when it starts: restart the raters after an apply.
 */
#ifndef WEIR_RATER_APPLY_H
#define WEIR_RATER_APPLY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/model/catalog.h"
#include "common/status.h"

enum weir_apply_outcome {
    WEIR_APPLY_STORED,    /* lines: what differs from the catalog before it, and calendars as below */
    WEIR_APPLY_UNCHANGED, /* nothing to do; lines: calendars that stay though zone rules changed (rater/calendars.h) */
    WEIR_APPLY_REFUSED,   /* nothing was stored; lines: each entry that would change history, and the remedy */
};

struct weir_apply_report {
    enum weir_apply_outcome outcome;
    int catalog_version; /* the one now in force; 0: none */
    size_t count;
    char **lines; /* "+ meter tokens", "~ contract acme: ends_at", or a sentence */
    size_t value_count;
    char **values; /* which values of entries that were there are others (catalog_values.h) */
    size_t refused_count;
    char **refused; /* of what is refused: what differs, as lines have it of what is stored */
};

/* json: a whole valid catalog (weir_catalog_document). One transaction; with dry_run nothing is stored. WEIR_OK:
 * *ret_report is filled, refused or not, and to be freed. WEIR_RETRY: the server cannot be reached or broke off.
 * WEIR_REJECT: the catalog is not valid. WEIR_FATAL. */
enum weir_status weir_apply_catalog(const char *url, const char *json, size_t length, bool dry_run,
                                    struct weir_apply_report *ret_report, struct weir_error *reterr);
/* The same, and what would change rated time is stored too, with a line ("! ...") for each such change: the ledger
 * follows by a rerating (rater/rerate.h). Refused is still what no rerating can follow: meters that changed, entries
 * that were rated and are missing, another currency. */
enum weir_status weir_apply_for_rerating(const char *url, const char *json, size_t length, bool dry_run,
                                         struct weir_apply_report *ret_report, struct weir_error *reterr);
void weir_apply_report_free(struct weir_apply_report *report);

/* The catalog that was applied last. WEIR_REJECT: none was, or this weir finds mistakes in it. */
enum weir_status weir_apply_load_catalog(const char *url, struct weir_catalog **ret_catalog, struct weir_error *reterr);

/* The same, with its number. */
enum weir_status weir_apply_load_version(const char *url, struct weir_catalog **ret_catalog, int *ret_version,
                                         struct weir_error *reterr);

#endif
