/* $.meters, and the table of all paths that they read.
 *
 * Which paths there are: "data" and one to seven members below it, or one attribute of the event. `id`, `time`,
 * `specversion`, `datacontenttype` and `retraction` are no paths: the first two are different in every event, the next
 * two say how the event is written down and may differ between the structured and the binary form of the same event,
 * and a retraction has to match what the event that it voids matched. Attributes are
 * texts, so a number cannot be read from one: as a value they serve `unique` alone.
 */
#include <stdlib.h>

#include "common/model/catalog_internal.h"

enum { PATH_STEPS_MAX = 8, STEP_BYTES_MAX = 64, GROUP_NAME_BYTES_MAX = WEIR_PATH_TEXT_MAX - 5 /* "data." */ };

/* 1. paths */

static bool is_attribute(struct weir_slice text)
{
    static const char *const not_a_path[] = {"data", "id", "time", "specversion", "datacontenttype", "retraction"};
    if (text.length == 0 || text.length > STEP_BYTES_MAX)
        return false;
    for (uint32_t i = 0; i < text.length; i++)
        if (!(text.data[i] >= 'a' && text.data[i] <= 'z') && !(text.data[i] >= '0' && text.data[i] <= '9'))
            return false;
    for (size_t i = 0; i < sizeof not_a_path / sizeof *not_a_path; i++)
        if (weir_slice_equal(text, weir_slice_text(not_a_path[i])))
            return false;
    return true;
}

/* min..max steps between points, each 1..64 bytes without control characters. */
static bool are_steps(struct weir_slice text, uint32_t min, uint32_t max)
{
    uint32_t steps = 1, length = 0;
    for (uint32_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '.') {
            if (length == 0)
                return false;
            steps++;
            length = 0;
        } else if (c < 0x20 || c == 0x7f || ++length > STEP_BYTES_MAX) {
            return false;
        }
    }
    return length > 0 && steps >= min && steps <= max;
}

static bool is_data_path(struct weir_slice text)
{
    return text.length > 5 && memcmp(text.data, "data.", 5) == 0 && text.length <= WEIR_PATH_TEXT_MAX
           && are_steps(text, 2, PATH_STEPS_MAX);
}

bool weir_path_slot(struct weir_catalog_load *load, const struct weir_node *node, struct weir_slice text,
                    uint32_t *ret_slot)
{
    struct weir_catalog *catalog = load->catalog;
    for (uint32_t i = 0; i < catalog->path_count; i++) {
        if (weir_slice_equal(catalog->paths[i].text, text)) {
            *ret_slot = i;
            return true;
        }
    }
    if (catalog->path_count == WEIR_PATHS_MAX) {
        if (!load->paths_full)
            weir_mistake_add(load, node, WEIR_MISTAKE_TOO_MANY,
                             "%s would be path number %d; all meters together may read %d different paths",
                             weir_quoted(load, text), WEIR_PATHS_MAX + 1, WEIR_PATHS_MAX);
        load->paths_full = true;
        return false;
    }
    struct weir_path *path = &catalog->paths[catalog->path_count];
    *path = (struct weir_path){.text = text};
    uint32_t start = 0;
    for (uint32_t i = 0; i <= text.length; i++) {
        if (i < text.length && text.data[i] != '.')
            continue;
        path->steps[path->step_count++] = weir_slice_of(text.data + start, i - start);
        start = i + 1;
    }
    *ret_slot = catalog->path_count++;
    return true;
}

static const char path_meaning[] =
    "a path is \"data.\" and one to seven names with points between (each 1 to 64 bytes, "
    "128 in all), or an attribute such as \"subject\" (not id, time, specversion, "
    "datacontenttype, retraction)";

/* 2. members of a meter */

static void read_value(struct weir_catalog_load *load, const struct weir_node *object, struct weir_meter *meter,
                       bool is_unique)
{
    struct weir_slice text;
    if (!weir_read_text(load, object, "value", 1, WEIR_PATH_TEXT_MAX, &text))
        return;
    struct weir_node node = weir_node_member(object, "value");
    if (is_data_path(text) || (is_unique && is_attribute(text)))
        (void)weir_path_slot(load, &node, text, &meter->value_slot);
    else if (is_attribute(text))
        weir_mistake_add(load, &node, WEIR_MISTAKE_BAD_VALUE,
                         "found %s; an attribute is no number, so it can be the value of \"unique\" only; write a "
                         "path below data, such as \"data.%s\"",
                         weir_found(load, node.json), text.data);
    else
        weir_mistake_add(load, &node, WEIR_MISTAKE_BAD_VALUE, "found %s; %s", weir_found(load, node.json),
                         path_meaning);
}

/* A list of distinct texts; returns how many were good. */
static uint32_t read_texts(struct weir_catalog_load *load, const struct weir_node *list, size_t min, size_t max,
                           struct weir_slice texts[])
{
    uint32_t count = 0;
    for (size_t i = 0; i < json_array_size(list->json); i++) {
        struct weir_node node = weir_node_element(list, i);
        struct weir_slice text;
        if (!weir_read_node_text(load, &node, min, max, &text))
            continue;
        uint32_t same = 0;
        while (same < count && !weir_slice_equal(texts[same], text))
            same++;
        if (same < count)
            weir_mistake_add(load, &node, WEIR_MISTAKE_DUPLICATE, "%s stands in this list twice; once is enough",
                             weir_found(load, node.json));
        else
            texts[count++] = text;
    }
    return count;
}

static void read_where(struct weir_catalog_load *load, const struct weir_node *object, struct weir_meter *meter)
{
    struct weir_node where = weir_node_member(object, "where");
    if (!where.json)
        return;
    if (!json_is_object(where.json)) {
        weir_mistake_add(load, &where, WEIR_MISTAKE_WRONG_TYPE,
                         "found %s; must be an object from paths to lists of texts, such as {\"data.region\":[\"eu\"]}",
                         weir_found(load, where.json));
        return;
    }
    if (json_object_size(where.json) > WEIR_WHERE_MAX) {
        weir_mistake_add(load, &where, WEIR_MISTAKE_BAD_VALUE, "found %zu paths; at most %d are allowed",
                         json_object_size(where.json), WEIR_WHERE_MAX);
        return;
    }
    const char *name;
    json_t *value;
    json_object_foreach(where.json, name, value)
    {
        struct weir_slice path = weir_arena_copy(load->arena, name, strlen(name));
        struct weir_node node = weir_node_member(&where, name), list;
        bool known = is_data_path(path) || is_attribute(path);
        if (!known)
            weir_mistake_add(load, &node, WEIR_MISTAKE_BAD_VALUE, "found the path %s; %s", weir_quoted(load, path),
                             path_meaning);
        if (!weir_read_list(load, &where, name, 1, WEIR_WHERE_VALUES_MAX, &list))
            continue;
        struct weir_where *entry = &meter->where[meter->where_count];
        entry->values = weir_arena_take_array(load->arena, json_array_size(list.json), sizeof *entry->values);
        entry->value_count = read_texts(load, &list, 0, WEIR_IDENTIFIER_MAX, entry->values);
        if (known && weir_path_slot(load, &node, path, &entry->slot))
            meter->where_count++;
    }
}

static void read_groups(struct weir_catalog_load *load, const struct weir_node *object, struct weir_meter *meter)
{
    struct weir_node list;
    struct weir_slice names[WEIR_DIMENSIONS_MAX];
    if (!weir_read_list(load, object, "group_by", 0, WEIR_DIMENSIONS_MAX, &list))
        return;
    uint32_t count = read_texts(load, &list, 1, GROUP_NAME_BYTES_MAX, names);
    for (uint32_t i = 0; i < count; i++) {
        struct weir_group *group = &meter->groups[meter->group_count];
        if (!are_steps(names[i], 1, PATH_STEPS_MAX - 1)) {
            weir_mistake_add(load, &list, WEIR_MISTAKE_BAD_VALUE,
                             "found %s; a dimension is one to seven names below data with points between, such as "
                             "\"model\" or \"request.region\", each 1 to 64 bytes without control characters",
                             weir_quoted(load, names[i]));
            continue;
        }
        const char *path = weir_arena_print(load->arena, "data.%s", names[i].data);
        group->name = names[i];
        if (weir_path_slot(load, &list, weir_slice_text(path), &group->slot))
            meter->group_count++;
    }
}

/* 3. meters */

enum {
    IN_COUNT = 1,
    IN_SUM = 2,
    IN_AVG = 4,
    IN_GAUGE = 8, /* min, max, latest */
    IN_UNIQUE = 16,
    IN_VALUED = IN_SUM | IN_AVG | IN_GAUGE | IN_UNIQUE,
};

static unsigned variant_of(enum weir_aggregation aggregation)
{
    switch (aggregation) {
    case WEIR_AGGREGATION_COUNT:
        return IN_COUNT;
    case WEIR_AGGREGATION_SUM:
        return IN_SUM;
    case WEIR_AGGREGATION_AVG:
        return IN_AVG;
    case WEIR_AGGREGATION_UNIQUE:
        return IN_UNIQUE;
    default:
        return IN_GAUGE;
    }
}

static void read_meter(struct weir_catalog_load *load, const struct weir_node *node, struct weir_meter *meter)
{
    static const struct weir_field fields[] = {
        {"key", WEIR_IN_ALL, WEIR_IN_ALL},
        {"event_type", WEIR_IN_ALL, WEIR_IN_ALL},
        {"aggregation", WEIR_IN_ALL, WEIR_IN_ALL},
        {"value", IN_VALUED, IN_VALUED},
        {"rollup", IN_GAUGE | IN_AVG, 0},
        {"retractable", IN_GAUGE | IN_UNIQUE, 0},
        {"window", WEIR_IN_ALL, WEIR_IN_ALL},
        {"group_by", WEIR_IN_ALL, 0},
        {"where", WEIR_IN_ALL, 0},
    };
    static const char *const rollups[] = {"sum"};
    *meter = (struct weir_meter){.value_slot = UINT32_MAX};
    unsigned variant = WEIR_IN_ALL, choice;
    const char *variant_text = "";
    if (json_is_object(node->json)
        && weir_read_choice(load, node, "aggregation", weir_aggregation_name, WEIR_AGGREGATION_COUNT_OF, &choice)) {
        meter->aggregation = choice;
        variant = variant_of(meter->aggregation);
        variant_text = weir_arena_print(load->scratch, "with aggregation \"%s\"", weir_aggregation_name[choice]);
    }
    if (!weir_read_object(load, node, fields, sizeof fields / sizeof *fields, variant, variant_text))
        return;
    (void)weir_read_key(load, node, "key", &meter->key);
    (void)weir_read_text(load, node, "event_type", 1, WEIR_IDENTIFIER_MAX, &meter->event_type);
    if (variant != IN_COUNT)
        read_value(load, node, meter, variant == WEIR_IN_ALL || meter->aggregation == WEIR_AGGREGATION_UNIQUE);
    if (variant & (IN_GAUGE | IN_AVG))
        meter->rollup_sum = weir_read_choice(load, node, "rollup", rollups, 1, &choice);
    meter->is_retractable = variant & (IN_COUNT | IN_SUM | IN_AVG);
    if (variant & (IN_GAUGE | IN_UNIQUE))
        (void)weir_read_boolean(load, node, "retractable", &meter->is_retractable);
    if (weir_read_choice(load, node, "window", weir_window_length_name, WEIR_WINDOW_LENGTH_COUNT, &choice))
        meter->window = choice;
    read_groups(load, node, meter);
    read_where(load, node, meter);
}

static int draft_compare(const void *left, const void *right)
{
    const struct weir_meter_draft *a = left, *b = right;
    int order = weir_slice_compare(a->meter.key, b->meter.key);
    return order ? order : weir_origin_compare(a->origin, b->origin);
}

/* Keeps the first of each key, and none without a key. */
static void drop_duplicates(struct weir_catalog_load *load)
{
    size_t kept = 0;
    for (size_t i = 0; i < load->meter_count; i++) {
        const struct weir_meter_draft *draft = &load->meters[i];
        if (draft->meter.key.length == 0)
            continue;
        if (kept && weir_slice_equal(load->meters[kept - 1].meter.key, draft->meter.key))
            weir_mistake_add_at(load, draft->origin, "meters", "key", WEIR_MISTAKE_DUPLICATE,
                                "\"%s\" is already the key of %s; each meter needs its own", draft->meter.key.data,
                                weir_origin_text(load, load->meters[kept - 1].origin, "meters"));
        else
            load->meters[kept++] = *draft;
    }
    load->meter_count = kept;
}

void weir_catalog_read_meters(struct weir_catalog_load *load)
{
    size_t total = weir_catalog_list_total(load, "meters"), next = 0;
    load->meters = weir_arena_take_array(load->scratch, total, sizeof *load->meters);
    load->catalog->paths = weir_arena_take_array(load->arena, WEIR_PATHS_MAX, sizeof *load->catalog->paths);
    for (uint32_t file = 0; file < load->file_count; file++) {
        struct weir_node root, list;
        if (!weir_catalog_list(load, file, "meters", &root, &list))
            continue;
        for (size_t i = 0; i < json_array_size(list.json); i++) {
            struct weir_node node = weir_node_element(&list, i);
            struct weir_meter_draft *draft = &load->meters[next++];
            size_t before = load->mistakes.found;
            draft->origin = (struct weir_origin){file, (uint32_t)i, 0};
            read_meter(load, &node, &draft->meter);
            draft->broken = load->mistakes.found != before;
            if (next == WEIR_METERS_MAX + 1)
                weir_mistake_add(load, &node, WEIR_MISTAKE_TOO_MANY, "is meter number %zu; a catalog has at most %d",
                                 next, WEIR_METERS_MAX);
        }
    }
    load->meter_count = next;
    if (next > 1)
        qsort(load->meters, next, sizeof *load->meters, draft_compare);
    drop_duplicates(load);
    struct weir_catalog *catalog = load->catalog;
    catalog->meters = weir_arena_take_array(load->arena, load->meter_count, sizeof *catalog->meters);
    catalog->meter_count = (uint32_t)load->meter_count;
    for (uint32_t i = 0; i < catalog->meter_count; i++) {
        load->meters[i].meter.index = i;
        catalog->meters[i] = load->meters[i].meter;
    }
}

static const struct weir_meter_draft *find_meter(struct weir_catalog_load *load, const struct weir_node *node,
                                                 struct weir_slice key)
{
    const struct weir_meter *meter = weir_catalog_meter(load->catalog, key);
    if (meter)
        return &load->meters[meter->index];
    const char *words[WEIR_METERS_MAX];
    size_t count = 0;
    for (; count < load->meter_count && count < WEIR_METERS_MAX; count++)
        words[count] = load->meters[count].meter.key.data;
    weir_mistake_add(load, node, WEIR_MISTAKE_UNKNOWN_REFERENCE, "there is no meter \"%s\"%s", key.data,
                     weir_nearest(load, key, words, count));
    return NULL;
}

const struct weir_meter_draft *weir_read_meter(struct weir_catalog_load *load, const struct weir_node *object,
                                               const char *name)
{
    struct weir_node node = weir_node_member(object, name);
    struct weir_slice key;
    return weir_read_key(load, object, name, &key) ? find_meter(load, &node, key) : NULL;
}

const struct weir_meter_draft *weir_read_node_meter(struct weir_catalog_load *load, const struct weir_node *node)
{
    struct weir_slice key;
    return weir_read_node_text(load, node, 1, WEIR_KEY_MAX, &key) ? find_meter(load, node, key) : NULL;
}
