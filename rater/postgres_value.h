/* PostgreSQL's binary formats: one value after another into a growing buffer, and back.
 *
 * A field is an int32 length (-1: null) and the value's bytes, all big endian; rows of COPY and elements of arrays are
 * made of the same fields, so both are written with the same calls. One thread.
 */
#ifndef WEIR_RATER_POSTGRES_VALUE_H
#define WEIR_RATER_POSTGRES_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/decimal.h"
#include "common/slice.h"

/* The types' numbers in PostgreSQL (pg_type.dat), for arrays. */
enum weir_postgres_type {
    WEIR_PG_BOOL = 16,
    WEIR_PG_BYTEA = 17,
    WEIR_PG_INT8 = 20,
    WEIR_PG_INT4 = 23,
    WEIR_PG_TEXT = 25,
    WEIR_PG_TIMESTAMPTZ = 1184,
    WEIR_PG_NUMERIC = 1700,
    WEIR_PG_UUID = 2950,
    WEIR_PG_JSONB = 3802,
};

struct weir_buffer {
    char *data;
    size_t length, room;
};

void weir_buffer_free(struct weir_buffer *buffer);
void weir_buffer_add(struct weir_buffer *buffer, struct weir_slice bytes); /* as they are: no field */

/* 1. fields. Each is appended whole. */
void weir_put_null(struct weir_buffer *buffer);
void weir_put_text(struct weir_buffer *buffer, struct weir_slice text);  /* text, bytea, json */
void weir_put_jsonb(struct weir_buffer *buffer, struct weir_slice json); /* valid JSON */
void weir_put_uuid(struct weir_buffer *buffer, const unsigned char bytes[16]);
void weir_put_bool(struct weir_buffer *buffer, bool value);
void weir_put_int4(struct weir_buffer *buffer, int32_t value);
void weir_put_int8(struct weir_buffer *buffer, int64_t value);
void weir_put_decimal(struct weir_buffer *buffer, struct weir_decimal value);
void weir_put_time(struct weir_buffer *buffer,
                   int64_t time); /* whole microseconds (checked); WEIR_TIME_NEVER: infinity */

/* 2. what stands around fields. */
void weir_put_copy_header(struct weir_buffer *buffer);
void weir_put_row(struct weir_buffer *buffer, int columns); /* begins a row of COPY */
void weir_put_copy_end(struct weir_buffer *buffer);

/* A one-dimensional array as a parameter: begin, the elements as fields, end with their count (0 is an array as well).
 */
void weir_array_begin(struct weir_buffer *buffer, enum weir_postgres_type element);
void weir_array_end(struct weir_buffer *buffer, size_t count);

/* 3. reading a field's bytes. */
int32_t weir_get_int4(const char *bytes);
int64_t weir_get_int8(const char *bytes);
int64_t
weir_get_time(const char *bytes); /* infinity: WEIR_TIME_NEVER; before 1677 or after 2262: the nearest that fits */
bool weir_get_decimal(const char *bytes, size_t length, struct weir_decimal *ret_value); /* false: does not fit */

#endif
