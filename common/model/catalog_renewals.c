/* What a contract that renews says: how long its terms are, and which commitments start anew with each. */
#include "common/model/catalog_internal.h"

static void read_months(struct weir_catalog_load *load, const struct weir_node *object, const char *name,
                        const struct weir_contract *contract, uint32_t *ret_months)
{
    struct weir_node node = weir_node_member(object, name);
    uint32_t step = contract->billing_period == WEIR_PERIOD_QUARTER ? 3
                    : contract->billing_period == WEIR_PERIOD_YEAR  ? 12
                                                                    : 1;
    int64_t months;
    if (!node.json || !weir_read_integer(load, object, name, 1, WEIR_TERM_MONTHS_MAX, &months))
        return;
    *ret_months = (uint32_t)months;
    if (*ret_months % step)
        weir_mistake_add(load, &node, WEIR_MISTAKE_CONTRADICTION,
                         "found %u, which is no whole number of billing periods (\"%s\"); must be a multiple of %u",
                         *ret_months, weir_billing_period_name[contract->billing_period], step);
}

/* One that is granted anew with each term has no times of its own; one that is granted once has nothing else. */
static void read_term_months(struct weir_catalog_load *load, const struct weir_node *object,
                             const struct weir_contract *contract, struct weir_commitment *commitment)
{
    static const char *const times[] = {"starts_at", "expires_at", "rollover_expires_at"};
    static const char *const months[] = {"months", "rollover_months"};
    for (size_t i = 0; commitment->is_per_term && i < sizeof times / sizeof *times; i++) {
        struct weir_node node = weir_node_member(object, times[i]);
        if (node.json)
            weir_mistake_add(load, &node, WEIR_MISTAKE_CONTRADICTION,
                             "is a time in one term, and with per \"term\" there is an amount in each; say after how "
                             "many \"months\" it expires, and \"rollover_months\" what goes on");
    }
    for (size_t i = 0; !commitment->is_per_term && i < sizeof months / sizeof *months; i++) {
        struct weir_node node = weir_node_member(object, months[i]);
        if (node.json)
            weir_mistake_add(load, &node, WEIR_MISTAKE_CONTRADICTION,
                             "counts from the start of a term; give the amount per \"term\", or a time in its place");
    }
    read_months(load, object, "months", contract, &commitment->months);
    read_months(load, object, "rollover_months", contract, &commitment->rollover_months);
    struct weir_node rollover = weir_node_member(object, "rollover_months");
    if (rollover.json && commitment->is_per_term && !weir_node_member(object, "rollover_fraction").json)
        weir_mistake_add(load, &rollover, WEIR_MISTAKE_CONTRADICTION,
                         "nothing goes on without \"rollover_fraction\"; give it too, or leave this out");
}

void weir_read_per(struct weir_catalog_load *load, const struct weir_node *object, const struct weir_contract *contract,
                   struct weir_commitment *commitment)
{
    static const char *const minimum[] = {"period", "term"}, *const prepaid[] = {"contract", "term"};
    bool is_prepaid = commitment->type == WEIR_COMMITMENT_PREPAID;
    unsigned choice = 0;
    if (!is_prepaid || weir_node_member(object, "per").json)
        (void)weir_read_choice(load, object, "per", is_prepaid ? prepaid : minimum, 2, &choice);
    commitment->is_per_term = choice == 1;
    if (is_prepaid)
        read_term_months(load, object, contract, commitment);
}

/* Whatever is wrong with it: then it counts as one that renews, so that what rests on that is not reported as well. */
void weir_read_renewal(struct weir_catalog_load *load, const struct weir_node *object, struct weir_contract *contract)
{
    static const struct weir_field fields[] = {{"months", WEIR_IN_ALL, WEIR_IN_ALL}};
    struct weir_node node = weir_node_member(object, "renews");
    if (!node.json)
        return;
    contract->renews_months = 12;
    if (weir_read_object(load, &node, fields, sizeof fields / sizeof *fields, WEIR_IN_ALL, ""))
        read_months(load, &node, "months", contract, &contract->renews_months);
}
