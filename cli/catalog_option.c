#include "cli/catalog_option.h"

#include "common/log.h"

struct weir_catalog *weir_catalog_option(const char *path)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};

    if (weir_catalog_load(path, &catalog, &mistakes) == WEIR_OK)
        return catalog;
    for (size_t i = 0; i < mistakes.count; i++)
        weir_log_plain(WEIR_LOG_ERROR, "%s: %s: %s", mistakes.mistakes[i].file, mistakes.mistakes[i].path,
                       mistakes.mistakes[i].text);
    weir_mistake_list_free(&mistakes);
    return NULL;
}
