/* A file of JSON that somebody wrote by hand. */
#ifndef WEIR_COMMON_JSON_FILE_H
#define WEIR_COMMON_JSON_FILE_H

#include <jansson.h>

enum { WEIR_JSON_FILE_MISTAKE_MAX = 1024 };

/* Its value, the caller's; no key may stand twice in an object. NULL: mistake says why, with the file, and the place in
 * it where there is one. */
json_t *weir_json_file_read(const char *path, char mistake[WEIR_JSON_FILE_MISTAKE_MAX]);

#endif
