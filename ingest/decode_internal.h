/* What the two modes of decoding share: decode.c (structured) and decode_binary.c. */
#ifndef WEIR_INGEST_DECODE_INTERNAL_H
#define WEIR_INGEST_DECODE_INTERNAL_H

#include "common/calendar.h"
#include "ingest/decode.h"
#include "ingest/json_walk.h"

/* The attributes that decoding itself reads. The first six are required; the first seven are judged in this order. */
#define WEIR_ATTRIBUTES(X)                                                                                             \
    X(SPECVERSION, specversion)                                                                                        \
    X(ID, id)                                                                                                          \
    X(SOURCE, source)                                                                                                  \
    X(TYPE, type)                                                                                                      \
    X(SUBJECT, subject)                                                                                                \
    X(TIME, time)                                                                                                      \
    X(RETRACTION, retraction)                                                                                          \
    X(DATA, data)                                                                                                      \
    X(DATA_BASE64, data_base64)
enum weir_attribute {
#define WEIR_X(upper, lower) WEIR_ATTRIBUTE_##upper,
    WEIR_ATTRIBUTES(WEIR_X)
#undef WEIR_X
        WEIR_ATTRIBUTE_COUNT
};
extern const char *const weir_attribute_name[WEIR_ATTRIBUTE_COUNT];

/* Headers by their names: messages of one producer mostly have the same ones in the same order, and the same content
 * type. What follows from those is known by then: the mode, and which value is which attribute's. */
enum { WEIR_KNOWN_HEADERS_MAX = 16, WEIR_KNOWN_NAME_MAX = 32, WEIR_KNOWN_TYPE_MAX = 64 };
enum { WEIR_HEADER_NONE = WEIR_HEADERS_MAX };
struct weir_known_headers {
    uint32_t count;        /* 0: none are known */
    uint32_t content_type; /* which one it is; WEIR_HEADER_NONE */
    bool is_binary;        /* else structured: no value matters but the content type */
    bool is_json;          /* data is read */
    uint32_t type_length;
    char type[WEIR_KNOWN_TYPE_MAX];
    struct {
        char name[WEIR_KNOWN_NAME_MAX];
        uint32_t length; /* 1 to WEIR_KNOWN_NAME_MAX */
        uint32_t slot;   /* of the attribute; 0: nobody asked for it */
        bool is_attribute;
    } at[WEIR_KNOWN_HEADERS_MAX];
};

struct weir_decoder {
    const struct weir_catalog *catalog;
    struct weir_json_paths *paths;
    struct weir_json_walker *walker;
    const struct weir_json_node *data; /* where a walk of the data alone begins */
    const struct weir_json_node *root;
    uint32_t slots;                                                           /* how many values there may be */
    struct weir_known_headers known;                                          /* of a message before */
    struct weir_header headers[WEIR_HEADERS_MAX];                             /* of a message that had them unread */
    struct weir_date_memo date;                                               /* of the event before */
    uint32_t path_slots[WEIR_PATHS_MAX];                                      /* by catalog path */
    struct weir_json_value values[1 + WEIR_ATTRIBUTE_COUNT + WEIR_PATHS_MAX]; /* by slot */
};

/* Where a walk puts an attribute: these paths were added first. */
static inline uint32_t weir_attribute_slot(enum weir_attribute which)
{
    return 1 + (uint32_t)which;
}

/* Formats *reterr and returns WEIR_REJECT. */
enum weir_status weir_decode_reject(struct weir_rejection *reterr, enum weir_reason reason, const char *field,
                                    const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Headers of a message that was accepted; content_type: which one it is, WEIR_HEADER_NONE. */
void weir_know_headers(struct weir_decoder *decoder, const struct weir_message *message, uint32_t content_type,
                       bool is_binary);
/* true: all headers of the message, which are unread, are known, and have values that need no closer look; attributes
 * are taken. false: decoder->values are to be cleared. */
bool weir_take_known_headers(struct weir_decoder *decoder, const struct weir_message *message);

/* Binary mode. Fills decoder->values from the headers. content_type: which header; WEIR_HEADER_NONE. */
enum weir_status weir_decode_binary(struct weir_decoder *decoder, const struct weir_message *message,
                                    uint32_t content_type, struct weir_slice *ret_data, struct weir_rejection *reterr);
/* The same from the value, after the attributes. is_json: there is something to read in it. */
enum weir_status weir_decode_binary_data(struct weir_decoder *decoder, struct weir_slice value, bool is_json,
                                         struct weir_slice *ret_data, struct weir_rejection *reterr);

/* A media type without its parameters equals `type` (small letters), or begins or ends with a part of it. ASCII case
 * and white space around it do not count. */
bool weir_media_type_is(struct weir_slice content_type, const char *type);
bool weir_media_type_begins(struct weir_slice content_type, const char *begin);
bool weir_media_type_ends(struct weir_slice content_type, const char *end);

#endif
