/* The bytes of one file, decompressed: plain, gzip (several members) or zstd (several frames), by the name's ending.
 *
 * Memory: 256 KiB for compressed bytes, and what the decompressor needs (zlib 40 KiB; zstd the frame's window, 8 MiB as
 * usually written, 128 MiB at most: larger ones are refused by libzstd with an error that says so).
 */
#ifndef WEIR_INGEST_FILE_STREAM_H
#define WEIR_INGEST_FILE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct weir_file_stream;

/* Can it be read, without opening it (a pipe can be opened only once)? WEIR_REJECT: no, or it is a folder.
 * *ret_is_known: how many bytes it will give, *ret_size, is known: a plain file. */
enum weir_status weir_file_stream_look(const char *path, bool *ret_is_known, uint64_t *ret_size,
                                       struct weir_error *reterr);

/* "-" is standard input, as it comes. WEIR_REJECT: it cannot be opened. */
enum weir_status weir_file_stream_open(const char *path, struct weir_file_stream **ret_stream,
                                       struct weir_error *reterr);
struct weir_file_stream *weir_file_stream_close(struct weir_file_stream *stream); /* NULL in, NULL out */

/* Up to `room` (> 0) bytes, as many as there are; *ret_length == 0 with WEIR_OK is the end. timeout_ms bounds the wait
 * for a pipe's next bytes (-1: none). WEIR_AGAIN: the time ran out, or a signal came. WEIR_FATAL: unreadable, damaged
 * or cut short; *reterr names file and byte. */
enum weir_status weir_file_stream_read(struct weir_file_stream *stream, int timeout_ms, char *bytes, size_t room,
                                       size_t *ret_length, struct weir_error *reterr);

uint64_t weir_file_stream_taken(const struct weir_file_stream *stream); /* bytes of the file itself so far */

#endif
