/* The term of a contract that renews, and what is agreed for each of its terms (docs/catalog.md, "Terms that follow one
 * another"). */
#include <stdlib.h>
#include <string.h>

#include "cli/explain.h"
#include "rater/ledger_explain.h"
#include "rater/price.h"

/* 1. the prepaid amounts */

static bool has_grant(const json_t *list, const char *key)
{
    size_t index;
    json_t *grant;

    json_array_foreach(list, index, grant)
    {
        if (strcmp(weir_explain_text(grant, "grant"), key) == 0)
            return true;
    }
    return false;
}

static json_t *json_grant(const struct weir_contract *contract, const struct weir_commitment *commitment,
                          const struct weir_term *term)
{
    char key[WEIR_TERM_KEY_MAX];
    struct weir_commitment granted = weir_commitment_of_term(contract, commitment, term);
    json_t *object = json_object();
    int64_t from = term->starts_at;

    (void)weir_term_lists(contract, term, commitment->key, &from);
    json_object_set_new(object, "commitment", weir_explain_json_slice(commitment->key));
    json_object_set_new(object, "grant", weir_explain_json_slice(weir_term_key(commitment->key, term->number, key)));
    json_object_set_new(object, "amount", weir_explain_json_decimal(commitment->amount));
    json_object_set_new(object, "price", weir_explain_json_decimal(commitment->price));
    json_object_set_new(object, "starts_at", weir_explain_json_time(from));
    json_object_set_new(object, "expires_at", weir_explain_json_time(granted.expires_at));
    if (!weir_decimal_is_zero(commitment->rollover_fraction)) {
        json_object_set_new(object, "rollover_fraction", weir_explain_json_decimal(commitment->rollover_fraction));
        json_object_set_new(object, "rollover_expires_at", weir_explain_json_time(granted.rollover_expires_at));
    }
    return object;
}

/* Of each phase that holds in the term; one that several list is one. */
static json_t *json_prepaid(const struct weir_contract *contract, const struct weir_term *term)
{
    const struct weir_contract *first = contract - contract->phase;
    json_t *list = json_array();

    for (uint32_t phase = 0; phase < first->phase_count; phase++) {
        if (first[phase].ends_at <= term->starts_at || first[phase].starts_at >= term->ends_at)
            continue;
        for (uint32_t i = 0; i < first[phase].commitment_count; i++) {
            const struct weir_commitment *commitment = &first[phase].commitments[i];
            if (commitment->type != WEIR_COMMITMENT_PREPAID || !commitment->is_per_term)
                continue;
            json_t *grant = json_grant(&first[phase], commitment, term);
            if (!has_grant(list, weir_explain_text(grant, "grant")))
                json_array_append(list, grant);
            json_decref(grant);
        }
    }
    return list;
}

/* 2. the minimum spend */

static bool add(json_t *row, const char *name, struct weir_decimal *sum)
{
    return weir_decimal_add(*sum, weir_explain_decimal(row, name), sum);
}

/* Usage counts in the periods whose phase lists the minimum. */
static void add_sums(const struct weir_contract *contract, const struct weir_commitment *minimum, const json_t *rows,
                     bool is_true_up, json_t *object)
{
    struct weir_decimal usage = {0}, before = {0}, now = {0};
    bool fits = true;
    size_t index;
    json_t *row;

    json_array_foreach(rows, index, row)
    {
        const struct weir_commitment *listed =
            weir_contract_term_minimum(weir_contract_phase_at(contract, weir_explain_time(row, "period_start")));
        fits = fits && add(row, "true_up_before", &before) && add(row, "true_up", &now);
        if (listed && weir_slice_equal(listed->key, minimum->key))
            fits = fits && add(row, "usage_before", &usage);
    }
    if (fits)
        json_object_set_new(object, "true_up", weir_explain_json_decimal(now));
    if (!fits || !is_true_up)
        return;
    json_object_set_new(object, "usage_before", weir_explain_json_decimal(usage));
    json_object_set_new(object, "true_up_before", weir_explain_json_decimal(before));
}

/* What the ledger has of one commitment in the term, by billing period. */
static enum weir_status ask(struct weir_explain *explain, const struct weir_commitment *commitment, bool has_usage,
                            const struct weir_term *term, json_t **ret_rows, struct weir_error *reterr)
{
    const json_t *item = json_object_get(explain->root, "item");
    char *text = NULL;
    struct weir_explained_term of = {
        .line_item_id = json_integer_value(json_object_get(item, "line_item_id")),
        .before = json_integer_value(json_array_get(json_object_get(explain->root, "charge"), 0)),
        .from = term->starts_at,
        .to = term->ends_at,
        .commitment = commitment->key,
        .has_usage = has_usage,
    };
    enum weir_status status = weir_ledger_explain_term(explain->settings.postgres_url, &of, &text, reterr);

    if (status != WEIR_OK)
        return status;
    *ret_rows = json_loads(text, 0, NULL);
    free(text);
    return WEIR_OK;
}

static enum weir_status add_minimum(struct weir_explain *explain, const struct weir_contract *contract,
                                    const struct weir_term *term, json_t *told, struct weir_error *reterr)
{
    const char *component = weir_explain_text(json_object_get(explain->root, "item"), "component");
    const struct weir_commitment *minimum =
        weir_contract_term_minimum(weir_contract_phase_at(contract, term->ends_at - 1));
    bool has_usage = strcmp(component, weir_component_name[WEIR_COMPONENT_TRUE_UP]) == 0;
    json_t *rows;

    if (!minimum)
        return WEIR_OK;
    enum weir_status status = ask(explain, minimum, has_usage, term, &rows, reterr);
    if (status != WEIR_OK)
        return status;
    json_t *object = json_object();
    json_object_set_new(object, "commitment", weir_explain_json_slice(minimum->key));
    json_object_set_new(object, "amount", weir_explain_json_decimal(minimum->amount));
    add_sums(contract, minimum, rows, has_usage, object);
    json_object_set_new(told, "minimum_spend", object);
    json_decref(rows);
    return WEIR_OK;
}

/* 3. the minimum quantities */

static json_t *json_quantity(const struct weir_commitment *commitment, const json_t *rows)
{
    struct weir_decimal missing = {0}, charged = {0};
    json_t *object = json_object(), *row;
    bool fits = true;
    size_t index;

    json_array_foreach(rows, index, row)
    {
        fits = fits && add(row, "missing", &missing) && add(row, "charged", &charged);
    }
    json_object_set_new(object, "commitment", weir_explain_json_slice(commitment->key));
    json_object_set_new(object, "meter", weir_explain_json_slice(commitment->meter->key));
    json_object_set_new(object, "quantity", weir_explain_json_decimal(commitment->quantity));
    json_object_set_new(object, "missing", fits ? weir_explain_json_decimal(missing) : json_null());
    json_object_set_new(object, "charged", fits ? weir_explain_json_decimal(charged) : json_null());
    return object;
}

static enum weir_status add_quantities(struct weir_explain *explain, const struct weir_contract *contract,
                                       const struct weir_term *term, json_t *told, struct weir_error *reterr)
{
    const struct weir_contract *last = weir_contract_phase_at(contract, term->ends_at - 1);
    json_t *list = json_array(), *rows;
    enum weir_status status = WEIR_OK;

    json_object_set_new(told, "minimum_quantities", list);
    for (uint32_t i = 0; i < last->commitment_count && status == WEIR_OK; i++) {
        const struct weir_commitment *commitment = &last->commitments[i];
        if (!weir_commitment_is_term_quantity(commitment))
            continue;
        status = ask(explain, commitment, false, term, &rows, reterr);
        if (status != WEIR_OK)
            break;
        json_array_append_new(list, json_quantity(commitment, rows));
        json_decref(rows);
    }
    return status;
}

enum weir_status weir_explain_term(struct weir_explain *explain, struct weir_error *reterr)
{
    const json_t *item = json_object_get(explain->root, "item");
    int64_t start = weir_explain_time(item, "period_start");
    struct weir_slice customer = weir_slice_text(weir_explain_text(item, "customer"));
    const struct weir_contract *contract =
        explain->catalog ? weir_catalog_contract_at(explain->catalog, customer, start) : NULL;
    struct weir_term term;

    if (!contract || !weir_slice_equal(contract->key, weir_slice_text(weir_explain_text(item, "contract")))
        || (contract->renews_months == 0 && !contract->has_term_minimum))
        return WEIR_OK;
    weir_contract_term_at(contract, start, &term);
    json_t *told = json_object();
    json_object_set_new(told, "term", json_integer(term.number));
    json_object_set_new(told, "starts_at", weir_explain_json_time(term.starts_at));
    json_object_set_new(told, "ends_at", weir_explain_json_time(term.ends_at));
    json_object_set_new(told, "renews",
                        json_boolean(contract->renews_months > 0 && term.ends_at < contract->whole_ends_at));
    json_object_set_new(told, "months", contract->renews_months ? json_integer(contract->renews_months) : json_null());
    json_object_set_new(told, "minimum_spend", json_null());
    json_object_set_new(told, "prepaid", json_prepaid(contract, &term));
    json_object_set_new(explain->root, "term", told);
    enum weir_status status = add_minimum(explain, contract, &term, told, reterr);
    return status == WEIR_OK ? add_quantities(explain, contract, &term, told, reterr) : status;
}
