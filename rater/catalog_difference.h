/* What differs between two catalogs, entry by entry, by meaning: "0.50" is "0.5", and a default that is spelled out
 * changes nothing. */
#ifndef WEIR_RATER_CATALOG_DIFFERENCE_H
#define WEIR_RATER_CATALOG_DIFFERENCE_H

#include "common/model/catalog.h"

enum weir_change_kind { WEIR_CHANGE_METER, WEIR_CHANGE_VERSION, WEIR_CHANGE_CONTRACT };

/* One entry that is not the same in both; old NULL: added, new NULL: removed. Pointers into the catalogs. */
struct weir_change {
    enum weir_change_kind kind;
    union {
        const struct weir_meter *meter;
        const struct weir_price_book_version *version;
        const struct weir_contract *contract; /* its first entry; the default contract as well: its key is empty */
    } before, after;
    bool is_added, is_removed;
};

struct weir_change_list {
    size_t count, room;
    struct weir_change *changes; /* meters, price book versions, contracts, each by key */
};

/* before NULL: all is added. *ret_changes is to be freed. */
void weir_catalog_difference(const struct weir_catalog *before, const struct weir_catalog *after,
                             struct weir_change_list *ret_changes);
void weir_change_list_free(struct weir_change_list *changes);

/* The fields that differ, separated by ", ", into text (`size` bytes); "" where none does. For meters only those that
 * make a window's total mean something else; for contracts those that hold in all phases, but not ends_at. */
void weir_meter_changes(const struct weir_catalog *before, const struct weir_meter *old,
                        const struct weir_catalog *after, const struct weir_meter *new, char *text, size_t size);
void weir_contract_changes(const struct weir_contract *before, const struct weir_contract *after, char *text,
                           size_t size);

/* A span of time in which a contract has other terms than before. */
struct weir_terms_change {
    int64_t from, until;
    char fields[96];         /* "price_book, overrides" */
    struct weir_slice phase; /* the one that holds or held from `from` on; empty: what the contract begins with */
};

/* The first such span from *at on (0 at first), which is then its end; false: there is none. Only of the time that both
 * contracts have in common. */
bool weir_contract_next_change(const struct weir_contract *before, const struct weir_contract *after, int64_t *at,
                               struct weir_terms_change *ret_change);

/* The earliest time from which on the contract has another quantity of some fee. false: it never has. */
bool weir_contract_quantity_change(const struct weir_contract *before, const struct weir_contract *after,
                                   int64_t *ret_from);

/* Whether a balance of the contract has other thresholds, which have no part in any charge. */
bool weir_contract_low_balance_change(const struct weir_contract *before, const struct weir_contract *after);

/* Whether the contract sells other packages in some phase. What was bought stays as it was. */
bool weir_contract_packages_change(const struct weir_contract *before, const struct weir_contract *after);

#endif
