/* Bytes to events: CloudEvents 1.0 JSON, structured mode and Kafka binary mode.
 *
 * Strict: accepts exactly what RFC 8259 allows (one object, no trailing bytes, valid UTF-8, no duplicate keys at any
 * depth), and says what is wrong with the rest. Total: never fails on any bytes, allocates nothing after creation.
 * simdjson finds the tokens (json_index.h) of what is of no known shape (json_shape.h); the walk over them, the numbers
 * and the fields are here.
 *
 * Of several faults one is named, the same every time: size; then encoding and grammar (json_walk.h says in which
 * order); then the attributes specversion, id, source, type, subject, time, retraction, in this order. Attributes that
 * weir does not read may be any JSON. Bytes in a detail are counted from 1.
 *
 * A decoder belongs to one thread. What it returns points into the message or into the decoder's scratch (unescaped
 * strings) and lives until the decoder's next call.
 */
#ifndef WEIR_INGEST_DECODE_H
#define WEIR_INGEST_DECODE_H

#include "common/model/catalog.h"
#include "common/model/event.h"
#include "common/status.h"
#include "ingest/source.h"

struct weir_decoder;

/* The catalog says which paths to pick up; it must outlive the decoder. */
struct weir_decoder *weir_decoder_new(const struct weir_catalog *catalog);
struct weir_decoder *weir_decoder_free(struct weir_decoder *decoder);

/* WEIR_OK: *ret_event is whole. WEIR_REJECT: *reterr says why; of *ret_event only the subject is to be used: whose
 * event it is, where size, encoding and grammar are in order and the attribute would do; else empty. Chooses the mode
 * by the headers: with `ce_specversion` among them it is binary mode, unless content-type begins with
 * application/cloudevents; a batch content type is WEIR_REASON_UNSUPPORTED. A tombstone (null value) in structured mode
 * is malformed_json. */
enum weir_status weir_decode(struct weir_decoder *decoder, const struct weir_message *message,
                             struct weir_event *ret_event, struct weir_rejection *reterr);

#endif
