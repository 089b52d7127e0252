#include "ingest/json_index.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>

#include <simdjson.h>

struct weir_json_index {
    std::unique_ptr<simdjson::internal::dom_parser_implementation> parser;
};

namespace
{
[[noreturn]] void stop(const char *what)
{
    std::fprintf(stderr, "weir: %s\n", what);
    std::exit(EXIT_FAILURE);
}

/* The parser goes on to its UTF-8 verdict last, and only when nothing else is wrong; a text that is no text at all is
 * named so first. */
weir_json_index_result judge(simdjson::error_code error, const char *text, size_t length)
{
    if (!weir_utf8_is_valid(text, length))
        return WEIR_JSON_INDEX_ENCODING;
    switch (error) {
    case simdjson::EMPTY:
        return WEIR_JSON_INDEX_EMPTY;
    case simdjson::UNCLOSED_STRING:
        return WEIR_JSON_INDEX_UNCLOSED;
    case simdjson::UNESCAPED_CHARS:
        return WEIR_JSON_INDEX_CONTROL;
    default:
        stop(simdjson::error_message(error));
    }
}
} // namespace

weir_json_index *weir_json_index_new(size_t capacity)
{
    auto *index = new (std::nothrow) weir_json_index;

    /* simdjson's fallback for very old processors reads beyond the text and checks UTF-8 only in strings. */
    if (simdjson::get_active_implementation()->name() == "fallback")
        stop("this processor is too old: decoding needs SSE4.2 and PCLMULQDQ (x86-64), or a 64-bit ARM or POWER one");
    /* The depth is stage 2's, which never runs. */
    if (!index || simdjson::get_active_implementation()->create_dom_parser_implementation(capacity, 1, index->parser))
        stop("out of memory for the JSON token index");
    return index;
}

weir_json_index *weir_json_index_free(weir_json_index *index)
{
    delete index;
    return nullptr;
}

weir_json_index_result weir_json_index_find(weir_json_index *index, const char *text, size_t length,
                                            const uint32_t **ret_offsets, uint32_t *ret_count)
{
    auto &parser = *index->parser;

    if (length > parser.capacity())
        stop("a JSON text is longer than its index has room for");
    if (length == 0)
        return WEIR_JSON_INDEX_EMPTY;
    auto error = parser.stage1(reinterpret_cast<const uint8_t *>(text), length, simdjson::stage1_mode::regular);
    if (error)
        return judge(error, text, length);
    *ret_offsets = parser.structural_indexes.get();
    *ret_count = parser.n_structural_indexes;
    return WEIR_JSON_INDEX_OK;
}

bool weir_utf8_is_valid(const char *text, size_t length)
{
    return length == 0 || simdjson::validate_utf8(text, length);
}
