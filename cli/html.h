/* Text in a page: what HTML would take for its own is escaped. */
#ifndef WEIR_CLI_HTML_H
#define WEIR_CLI_HTML_H

#include <stdio.h>

#include "common/slice.h"

/* As text, or within a quoted attribute. What cannot be written shows in ferror. */
void weir_html_put(FILE *output, struct weir_slice text);

#endif
