/* Loads the catalog that a command was given, or says on stderr, one line each, what is wrong with it. */
#ifndef WEIR_CLI_CATALOG_OPTION_H
#define WEIR_CLI_CATALOG_OPTION_H

#include "common/model/catalog.h"

/* NULL: told, exit with 2. The catalog is the caller's. */
struct weir_catalog *weir_catalog_option(const char *path);

#endif
