#include "benchmarks/dom_ceiling.h"

#include <simdjson.h>

bool dom_ceiling_parse(const char *text, size_t length)
{
    static simdjson::dom::parser parser;
    return parser.parse(text, length, false).error() == simdjson::SUCCESS;
}
