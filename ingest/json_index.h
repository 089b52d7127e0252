/* Where the tokens of a JSON text stand, found by simdjson's first stage: the one place where C++ is.
 *
 * The index of a text is the ascending byte offsets of its structural characters ({}[]:,) and of the first byte of each
 * string and of each run of other bytes outside of strings. Found on the way: invalid UTF-8, an unclosed string, an
 * unescaped control character in a string. Everything else (whether a token is a token, and stands where it may) is for
 * the caller: the control characters 0x0C and 0x1A appear as if they were structural, so each byte must be compared.
 *
 * Never reads beyond the text: simdjson copies the last block (src/generic/stage1/buf_block_reader.h in 3.0.1), so a
 * message need not be padded or copied. Its fallback for processors without SIMD does read on, so a process on one of
 * those ends with a message (x86-64 since 2011 and 64-bit ARM are fine).
 *
 * An index belongs to one thread; what it returned lives until its next call.
 */
#ifndef WEIR_INGEST_JSON_INDEX_H
#define WEIR_INGEST_JSON_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_json_index;

enum weir_json_index_result {
    WEIR_JSON_INDEX_OK,       /* at least one token */
    WEIR_JSON_INDEX_EMPTY,    /* nothing but white space */
    WEIR_JSON_INDEX_ENCODING, /* not UTF-8; judged before the others */
    WEIR_JSON_INDEX_UNCLOSED, /* the last string does not end */
    WEIR_JSON_INDEX_CONTROL,  /* a byte below 0x20 within a string */
};

/* For texts of up to `capacity` bytes (takes 4 bytes of memory for each, touched only as far as texts need it). Ends
 * the process when memory is gone. */
struct weir_json_index *weir_json_index_new(size_t capacity);
struct weir_json_index *weir_json_index_free(struct weir_json_index *index); /* NULL in, NULL out */

/* WEIR_JSON_INDEX_OK sets both results; else they are untouched. length <= capacity (checked). */
enum weir_json_index_result weir_json_index_find(struct weir_json_index *index, const char *text, size_t length,
                                                 const uint32_t **ret_offsets, uint32_t *ret_count);

bool weir_utf8_is_valid(const char *text, size_t length);

#ifdef __cplusplus
}
#endif

#endif
