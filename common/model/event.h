/* One usage event as the decoder leaves it: views into the message, nothing owned, nothing copied. */
#ifndef WEIR_COMMON_MODEL_EVENT_H
#define WEIR_COMMON_MODEL_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/slice.h"

/* The topic of admitted events is named after that of events: events.admitted. */
#define WEIR_ADMITTED_SUFFIX ".admitted"

enum {
    WEIR_EVENT_BYTES_MAX = 1 << 20, /* one event's value */
    WEIR_EVENT_DEPTH_MAX = 64,      /* nesting of objects and arrays, the top level being 1 */
    WEIR_IDENTIFIER_MAX = 256,      /* id, source, type, subject and each dimension's text, bytes */
    WEIR_PATHS_MAX = 64,            /* distinct paths that all meters of a catalog read */
};

/* What stands at a path. */
enum weir_value_kind {
    WEIR_VALUE_MISSING,
    WEIR_VALUE_NULL,
    WEIR_VALUE_FALSE,
    WEIR_VALUE_TRUE,
    WEIR_VALUE_NUMBER, /* text is the number as sent, grammar checked */
    WEIR_VALUE_STRING, /* text is unescaped, valid UTF-8, without NUL */
    WEIR_VALUE_OBJECT,
    WEIR_VALUE_ARRAY,
};

struct weir_value {
    struct weir_slice text; /* empty for kinds other than NUMBER and STRING */
    enum weir_value_kind kind;
};

/* Views live until the decoder's next call or the end of the message, whichever is first. */
struct weir_event {
    struct weir_slice id;
    struct weir_slice source;
    struct weir_slice type;
    struct weir_slice subject; /* the customer */
    int64_t time;              /* event time, ns since 1970 */
    bool is_retraction;        /* voids the event of the same source, id and content (docs/rating.md 1.7) */
    struct weir_slice data;    /* the JSON text of `data` as sent; empty when absent. For the content fingerprint */
    struct weir_value values[WEIR_PATHS_MAX]; /* by catalog path slot; only the first catalog->path_count are set */
};

/* Of what a resend must have the same: type, subject and the bytes of data, not the time (docs/rating.md 1.5). */
uint64_t weir_event_content(const struct weir_event *event, uint64_t seed);
/* The same in two steps: the first is the same for all events of a type. */
uint64_t weir_event_content_of_type(struct weir_slice type, uint64_t seed);
uint64_t weir_event_content_below(uint64_t of_type, const struct weir_event *event);

/* Why an event went to quarantine. The name is the word in quarantine records, metrics and docs. */
#define WEIR_REASONS(X)                                                                                                \
    X(MALFORMED_JSON, malformed_json) /* no JSON object: grammar, trailing bytes, both data and data_base64 */         \
    X(DUPLICATE_KEY, duplicate_key)   /* a key stands twice in one object, at any depth */                             \
    X(BAD_ENCODING, bad_encoding)     /* not UTF-8, or a NUL character */                                              \
    X(TOO_LARGE, too_large)           /* over WEIR_EVENT_BYTES_MAX */                                                  \
    X(TOO_DEEP, too_deep)             /* over WEIR_EVENT_DEPTH_MAX */                                                  \
    X(MISSING_FIELD, missing_field)   /* a required attribute, or what a matched meter reads */                        \
    X(EMPTY_FIELD, empty_field)       /* id, source, type or subject is "" */                                          \
    X(WRONG_TYPE, wrong_type)                                                                                          \
    X(TOO_LONG, too_long)               /* an identifier or a dimension over WEIR_IDENTIFIER_MAX bytes */              \
    X(BAD_SPECVERSION, bad_specversion) /* not "1.0" */                                                                \
    X(BAD_TIME, bad_time)                                                                                              \
    X(NUMBER_RANGE, number_range) /* more than 12 decimal places, or too large */                                      \
    X(UNSUPPORTED, unsupported)   /* a batch, or a binary-mode content type that is not JSON where data is read */     \
    X(TOO_LATE, too_late)                                                                                              \
    X(TOO_EARLY, too_early)                   /* further in the future than allowed */                                 \
    X(CONFLICT, conflict)                     /* a known id with other content */                                      \
    X(RETRACTION_DIFFERS, retraction_differs) /* the same content, but not as it was counted: time or catalog */       \
    X(NOT_RETRACTABLE, not_retractable)       /* a meter that cannot take an event out again */
enum weir_reason {
#define WEIR_X(upper, lower) WEIR_REASON_##upper,
    WEIR_REASONS(WEIR_X)
#undef WEIR_X
        WEIR_REASON_COUNT
};
extern const char *const weir_reason_name[WEIR_REASON_COUNT];

/* The whole of a rejection. detail is a sentence, field a path ("data.tokens") or "" when none is to blame. */
struct weir_rejection {
    enum weir_reason reason;
    char field[WEIR_IDENTIFIER_MAX + 8];
    char detail[256];
};

#endif
