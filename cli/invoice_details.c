#include "cli/invoice_details.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_file.h"

struct weir_details_file {
    json_t *root;
    char *seller, *tax_categories;
};

/* What a party may say of itself: texts, but for the address's lines. */
static const char *const party_keys[] = {"name", "address", "tax_id", "email", "phone", "note", "payment", "reference"};
enum { PARTY_KEY_COUNT = sizeof party_keys / sizeof *party_keys };

static bool is_list_of_texts(const json_t *value)
{
    size_t at;
    json_t *line;

    if (!json_is_array(value))
        return false;
    json_array_foreach(value, at, line)
    {
        if (!json_is_string(line))
            return false;
    }
    return true;
}

static enum weir_status check_party(const char *path, const char *where, json_t *party, struct weir_error *reterr)
{
    const char *name;
    json_t *value;

    if (!json_is_object(party))
        return weir_fail(reterr, WEIR_REJECT, "%s: %s: an object is needed", path, where);
    json_object_foreach(party, name, value)
    {
        bool is_known = false, is_address = strcmp(name, "address") == 0;
        for (int i = 0; i < PARTY_KEY_COUNT; i++)
            is_known = is_known || strcmp(name, party_keys[i]) == 0;
        if (!is_known)
            return weir_fail(reterr, WEIR_REJECT,
                             "%s: %s.%s is not known; name, address, tax_id, email, phone, note, payment and reference "
                             "are",
                             path, where, name);
        if (is_address ? !is_list_of_texts(value) : !json_is_string(value))
            return weir_fail(reterr, WEIR_REJECT, "%s: %s.%s: %s is needed", path, where, name,
                             is_address ? "a list of texts, one for each line," : "a text");
    }
    return WEIR_OK;
}

static enum weir_status check_customers(const char *path, json_t *customers, struct weir_error *reterr)
{
    char where[512];
    const char *name;
    json_t *party;
    enum weir_status status = WEIR_OK;

    if (!json_is_object(customers))
        return weir_fail(reterr, WEIR_REJECT, "%s: customers: an object by customer is needed", path);
    json_object_foreach(customers, name, party)
    {
        (void)snprintf(where, sizeof where, "customers.%s", name);
        if (status == WEIR_OK)
            status = check_party(path, where, party, reterr);
    }
    return status;
}

static enum weir_status check_categories(const char *path, json_t *categories, struct weir_error *reterr)
{
    const char *name;
    json_t *value;

    if (!json_is_object(categories))
        return weir_fail(reterr, WEIR_REJECT, "%s: tax_categories: an object by item is needed", path);
    json_object_foreach(categories, name, value)
    {
        if (!json_is_string(value))
            return weir_fail(reterr, WEIR_REJECT, "%s: tax_categories.%s: a text is needed", path, name);
    }
    return WEIR_OK;
}

static enum weir_status check(const char *path, json_t *root, struct weir_error *reterr)
{
    const char *name;
    json_t *value;
    enum weir_status status = WEIR_OK;

    if (!json_is_object(root))
        return weir_fail(reterr, WEIR_REJECT, "%s: an object with seller, customers and tax_categories is needed",
                         path);
    json_object_foreach(root, name, value)
    {
        if (status != WEIR_OK)
            break;
        if (strcmp(name, "seller") == 0)
            status = check_party(path, name, value, reterr);
        else if (strcmp(name, "customers") == 0)
            status = check_customers(path, value, reterr);
        else if (strcmp(name, "tax_categories") == 0)
            status = check_categories(path, value, reterr);
        else
            status = weir_fail(reterr, WEIR_REJECT, "%s: %s is not known; seller, customers and tax_categories are",
                               path, name);
    }
    return status;
}

/* A NULL stands for nothing. */
static char *text_of(const json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : weir_copy_text("{}", 2);

    weir_check(text != NULL);
    return text;
}

static char *buyer_of(void *context, struct weir_slice customer)
{
    const struct weir_details_file *file = context;

    return text_of(json_object_getn(json_object_get(file->root, "customers"), customer.data, customer.length));
}

enum weir_status weir_details_open(const char *path, struct weir_details_file **ret_file,
                                   struct weir_invoice_details *ret_details, struct weir_error *reterr)
{
    char mistake[WEIR_JSON_FILE_MISTAKE_MAX];
    json_t *root = *path ? weir_json_file_read(path, mistake) : json_object();

    if (!root)
        return weir_fail(reterr, WEIR_REJECT, "%s", mistake);
    enum weir_status status = check(path, root, reterr);
    if (status != WEIR_OK) {
        json_decref(root);
        return status;
    }
    struct weir_details_file *file = weir_new(sizeof *file);
    *file = (struct weir_details_file){.root = root,
                                       .seller = text_of(json_object_get(root, "seller")),
                                       .tax_categories = text_of(json_object_get(root, "tax_categories"))};
    *ret_file = file;
    *ret_details = (struct weir_invoice_details){
        .seller = file->seller, .tax_categories = file->tax_categories, .buyer = buyer_of, .context = file};
    return WEIR_OK;
}

struct weir_details_file *weir_details_free(struct weir_details_file *file)
{
    if (!file)
        return NULL;
    json_decref(file->root);
    free(file->seller);
    free(file->tax_categories);
    free(file);
    return NULL;
}
