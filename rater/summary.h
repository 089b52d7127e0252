/* Line items added up by customer, contract, period, item, kind and currency: what finance reads first. */
#ifndef WEIR_RATER_SUMMARY_H
#define WEIR_RATER_SUMMARY_H

#include "common/model/line_item.h"
#include "common/status.h"

struct weir_summary_row {
    struct weir_slice customer, contract, item, currency;
    int64_t period_start, period_end;
    enum weir_kind kind;
    struct weir_decimal quantity, amount;
    int currency_places;
    enum weir_rounding rounding;
};

struct weir_summary;

struct weir_summary *weir_summary_new(void);
struct weir_summary *weir_summary_free(struct weir_summary *summary); /* NULL in, NULL out */
/* WEIR_REJECT: a sum does not fit; *reterr names the row. */
enum weir_status weir_summary_add(struct weir_summary *summary, const struct weir_line_item *item,
                                  struct weir_error *reterr);
/* Forgets all rows. */
void weir_summary_clear(struct weir_summary *summary);
/* Sorted by customer, contract, period start, item, kind, currency; the summary's own. Nothing is
 * added any more, unless it is cleared. */
const struct weir_summary_row *const *weir_summary_rows(struct weir_summary *summary, size_t *ret_count);

#endif
