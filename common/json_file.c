#include "common/json_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

json_t *weir_json_file_read(const char *path, char mistake[WEIR_JSON_FILE_MISTAKE_MAX])
{
    json_error_t error;
    struct stat found;
    json_t *root = NULL;
    FILE *stream = NULL;

    if (stat(path, &found) == 0 && S_ISDIR(found.st_mode)) {
        (void)snprintf(mistake, WEIR_JSON_FILE_MISTAKE_MAX, "%s: is a folder; a JSON file is needed", path);
    } else if (!(stream = fopen(path, "re"))) {
        (void)snprintf(mistake, WEIR_JSON_FILE_MISTAKE_MAX, "%s: cannot be read: %s", path, strerror(errno));
    } else if (!(root = json_loadf(stream, JSON_REJECT_DUPLICATES, &error))) {
        (void)snprintf(mistake, WEIR_JSON_FILE_MISTAKE_MAX, "%s:%d:%d: %s", path, error.line, error.column, error.text);
    }
    if (stream)
        (void)fclose(stream);
    return root;
}
