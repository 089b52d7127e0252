/* The files of schemas/, carried in the binary: JSON Schemas, "redis/NAME.lua", "postgres/NNNN_name.sql". */
#ifndef WEIR_COMMON_SCHEMAS_H
#define WEIR_COMMON_SCHEMAS_H

#include <stddef.h>

struct weir_schema_file {
    const char *name; /* relative to schemas/, '/' between parts */
    const char *text; /* NUL-terminated */
    size_t length;
};

/* Sorted by name, ended by an entry whose name is NULL. */
extern const struct weir_schema_file weir_schema_files[];

#endif
