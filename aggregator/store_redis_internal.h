/* What the parts of the Redis window store share; store_redis.c describes the keys and their bytes.
 *
 * store_redis.c             the operations; state of lanes
 * store_redis_url.c         the URL
 * store_redis_cluster.c     which node holds a lane
 * store_redis_connection.c  connecting, replies and what they mean
 * store_redis_command.c     arguments of a script, in memory that is reused
 * store_redis_index.c       what Redis holds of a lane, by name and length
 * store_redis_stream.c      commands in the form in which they are sent
 * store_redis_encode.c      a cut as commands: a probe and a transaction
 * store_redis_value.c       a window's total as bytes
 * store_redis_open.c        the log of open windows, and what it comes to
 * store_redis_load.c        spans, windows and logs back out of Redis
 * store_redis_scan.c        windows by HSCAN, and every one of them for reconcile
 * store_redis_work.c        the rater's list
 */
#ifndef WEIR_AGGREGATOR_STORE_REDIS_INTERNAL_H
#define WEIR_AGGREGATOR_STORE_REDIS_INTERNAL_H

#include <hiredis/hiredis.h>
#include <stdarg.h>

#include "aggregator/window_store.h"

#define WEIR_REDIS_FORMAT "5" /* 1 to 4 are read, and become 5 when the lane is taken: store_redis.c says how */

enum {
    WEIR_REDIS_KEY_MAX = WEIR_LANE_NAME_MAX + 128,
    WEIR_REDIS_TEXT_MAX = 256, /* a formatted argument with its NUL */
    WEIR_REDIS_NAME_MAX = 64,  /* a span ("<start>:<end>") or a log ("unique:<start>:<end>") with its NUL */
    WEIR_REDIS_VALUE_BYTES = WEIR_WINDOW_TOTAL_BYTES + 1, /* total | u8 flags: the most that a total takes */
    WEIR_REDIS_OLD_VALUE_BYTES = 41,                      /* the same without total.retracted */
    WEIR_REDIS_PACKED_MAX = 40,                           /* shorter than both: a packed total */
    WEIR_REDIS_OLD_ID_BYTES = 12,                         /* an id without effect and state */
    WEIR_REDIS_TOKEN_BYTES = 8,
    WEIR_REDIS_CHUNK = 500,                  /* windows in one HSET; finished items in one packed argument */
    WEIR_REDIS_SEGMENT_BYTES = 12 << 20,     /* a log's bytes in one string; Redis ends at 512 MiB */
    WEIR_REDIS_OPEN_SEGMENT_BYTES = 1 << 20, /* the same of the log of open windows, which goes by whole segments */
    WEIR_REDIS_RANGE_BYTES = 1 << 20,        /* read at a time, a divisor of both */
    WEIR_REDIS_OPEN_HEAD_BYTES = 20,         /* i64 start | i64 end | u32 bytes of the records that follow */
    WEIR_REDIS_OPEN_RECORD_BYTES = 5,        /* u32 number | u8 length of the value */
    WEIR_REDIS_OPEN_KEYED = 128,             /* beside that length: the series key comes before the value */
    WEIR_REDIS_SCAN_COUNT = 4096,            /* fields asked of one HSCAN */
    WEIR_REDIS_PIPELINE = 32,                /* commands sent ahead of their answers */
    WEIR_REDIS_CUT_BYTES_MAX =
        900 << 20, /* Redis ends a connection that has queued 1 GiB (client-query-buffer-limit) */
};

/* Beside a block's bytes: its records have numbers. Those of format 4 have not. */
#define WEIR_REDIS_OPEN_NUMBERED (UINT32_C(1) << 31)

struct weir_redis_buffer {
    char *data;
    size_t length;
    size_t capacity;
};

/* Where the next bytes go: `more` of them have room there, and count once `length` says so. */
char *weir_redis_reserve(struct weir_redis_buffer *buffer, size_t more);
void weir_redis_put(struct weir_redis_buffer *buffer, const void *data, size_t length);
void weir_redis_buffer_free(struct weir_redis_buffer *buffer);

/* All windows with the same start and end. */
struct weir_redis_span {
    int64_t start;
    int64_t end;
    uint64_t unique_bytes; /* of its log of unique fingerprints */
    /* While a cut is under way: */
    bool is_new;
    size_t pending_from; /* its records in store->gather */
    size_t pending;      /* bytes of them */
};

struct weir_redis_bucket {
    int64_t bucket;
    uint64_t bytes;
    uint64_t old_bytes; /* of its log in the old format: read and forgotten, never written */
    uint64_t pending;   /* bytes that the cut under way adds */
};

/* The log of open windows: bytes [from, bytes) of it are there. */
struct weir_redis_open_log {
    uint64_t from;
    uint64_t bytes;
    uint64_t round;   /* where the round began that is under way; WEIR_REDIS_NO_ROUND: none is, or nobody knows */
    uint64_t pending; /* bytes that the cut under way adds */
};
#define WEIR_REDIS_NO_ROUND UINT64_MAX

/* What Redis holds of a lane, by name and length: exact while one owner writes, so that each cut can name its keys. */
struct weir_redis_index {
    struct weir_redis_open_log open;
    struct weir_redis_span *spans; /* by (end, start) */
    size_t span_count;
    size_t span_capacity;
    struct weir_redis_bucket *buckets; /* by bucket */
    size_t bucket_count;
    size_t bucket_capacity;
};

struct weir_redis_span *weir_redis_span_find(struct weir_redis_index *index, int64_t start, int64_t end); /* or NULL */
struct weir_redis_span *weir_redis_span_get(struct weir_redis_index *index, int64_t start, int64_t end);
struct weir_redis_bucket *weir_redis_bucket_get(struct weir_redis_index *index, int64_t bucket);
void weir_redis_index_clear(struct weir_redis_index *index);

/* A lane that this handle has written. */
struct weir_redis_lane {
    char name[WEIR_LANE_NAME_MAX];
    uint32_t length;
    uint64_t epoch;
    uint64_t cut_number; /* of the last cut that Redis is known to hold, in this epoch */
    bool has_index;
    struct weir_redis_index index;
};

/* Commands as they are sent. */
struct weir_redis_stream {
    struct weir_redis_buffer bytes;
    size_t commands;
};

enum { WEIR_REDIS_HEAD_MAX = 24, WEIR_REDIS_END = 2 }; /* bytes in front of an argument, and behind it */

/* The digits of the number between the mark and the end of the line; they are mostly two or three. */
static inline char *weir_redis_write_head(char *at, char mark, size_t number)
{
    char digits[WEIR_REDIS_HEAD_MAX];
    size_t count = 0;

    *at++ = mark;
    for (; number >= 10; number /= 10)
        digits[count++] = (char)('0' + number % 10);
    *at++ = (char)('0' + number);
    while (count > 0)
        *at++ = digits[--count];
    memcpy(at, "\r\n", WEIR_REDIS_END);
    return at + WEIR_REDIS_END;
}

/* One argument, where WEIR_REDIS_HEAD_MAX + length + WEIR_REDIS_END bytes have room. */
static inline char *weir_redis_write_argument(char *at, const void *data, size_t length)
{
    at = weir_redis_write_head(at, '$', length);
    if (length)
        memcpy(at, data, length);
    memcpy(at + length, "\r\n", WEIR_REDIS_END);
    return at + length + WEIR_REDIS_END;
}

/* What was written into reserved room counts, up to `end`. */
static inline void weir_redis_used_up_to(struct weir_redis_buffer *bytes, const char *end)
{
    bytes->length = (size_t)(end - bytes->data);
}

/* A key of a lane. */
struct weir_redis_key {
    char bytes[WEIR_REDIS_KEY_MAX];
    size_t length;
};

/* "weir:{lane}:" and what:<start>:<end>, what, log:<segment>. */
struct weir_redis_key weir_redis_span_key(struct weir_slice lane, const char *what, const struct weir_redis_span *span);
struct weir_redis_key weir_redis_plain_key(struct weir_slice lane, const char *what);
struct weir_redis_key weir_redis_segment_key(struct weir_slice lane, const char *log, uint64_t segment);

/* One command: begin says how many arguments follow its name, and each put is one. */
void weir_redis_stream_begin(struct weir_redis_stream *stream, const char *name, size_t arguments);
void weir_redis_stream_put(struct weir_redis_stream *stream, const void *data, size_t length);
void weir_redis_stream_put_text(struct weir_redis_stream *stream, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void weir_redis_stream_put_key(struct weir_redis_stream *stream, const struct weir_redis_key *key);

/* Arguments of one script call. Pieces lie in `bytes`, or outside when they are large and live long enough. */
struct weir_redis_piece {
    const char *outside; /* NULL: bytes.data + offset */
    size_t offset;
    size_t length;
};

struct weir_redis_pieces {
    struct weir_redis_piece *at;
    size_t count;
    size_t capacity;
};

struct weir_redis_command {
    struct weir_redis_buffer bytes;
    struct weir_redis_pieces keys;
    struct weir_redis_pieces arguments;
    size_t packed_from; /* where the packed argument that is being written began */
    size_t outside_bytes;
    const char **argv;
    size_t *lengths;
    size_t argv_capacity;
};

void weir_redis_command_clear(struct weir_redis_command *command);
void weir_redis_command_free(struct weir_redis_command *command);
/* Adds "weir:{lane}:" + the formatted rest to KEYS and returns its position, counted from 1. */
size_t weir_redis_add_key(struct weir_redis_command *command, struct weir_slice lane, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A formatted argument, below WEIR_REDIS_TEXT_MAX (checked); returns its length. */
size_t weir_redis_vprint(char text[WEIR_REDIS_TEXT_MAX], const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
void weir_redis_add_text(struct weir_redis_command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void weir_redis_add_outside(struct weir_redis_command *command, const char *data, size_t length);
/* One argument made of msgpack strings: begin, pack each (up to 65,535 bytes), end. */
void weir_redis_pack_begin(struct weir_redis_command *command);
void weir_redis_pack(struct weir_redis_command *command, const void *data, size_t length);
void weir_redis_pack_text(struct weir_redis_command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void weir_redis_pack_end(struct weir_redis_command *command);

enum weir_redis_script { WEIR_REDIS_TAKE_LANE, WEIR_REDIS_FINISH_WORK, WEIR_REDIS_SCRIPT_COUNT };

enum { WEIR_REDIS_PORT = 6379, WEIR_REDIS_SLOTS = 16384 };

struct weir_redis_host {
    char *name;
    int port;
};

struct weir_redis_endpoint {
    char *user;     /* or NULL */
    char *password; /* or NULL */
    struct weir_redis_host *hosts;
    size_t host_count; /* 0: a Unix socket */
    char *path;
    int database;
};

/* A Redis: the only one, or a node of a cluster. */
struct weir_redis_node {
    char *host; /* NULL: endpoint.path */
    int port;
    char *shown;           /* for messages: no password */
    redisContext *context; /* NULL: not connected */
    bool is_seed;          /* the URL names it: always kept */
    bool is_serving;       /* the map names it */
};

struct weir_redis_store {
    struct weir_window_store base;
    struct weir_redis_endpoint endpoint;
    struct weir_redis_node **nodes; /* never none */
    size_t node_count;
    size_t asked;                          /* how often the map was asked for: each time somebody else is asked first */
    struct weir_redis_node **node_of_slot; /* WEIR_REDIS_SLOTS of them, each may be NULL; NULL: not (known to be) a
                                              cluster */
    bool is_map_old;                       /* ask for it before anything else */
    bool is_redirected;                    /* the last answer named another node, and the map has it: see follow */
    int redirects;                         /* in a row */
    struct weir_redis_node *node;          /* where the commands go now; its context and shown are: */
    redisContext *context;                 /* NULL: not connected */
    const char *shown;
    char sha[WEIR_REDIS_SCRIPT_COUNT][41]; /* as this server named them */
    uint64_t token;                        /* starts at random, so that no two owners' changes carry the same one */
    struct weir_redis_lane **lanes;
    size_t lane_count;
    struct weir_redis_command command;
    struct weir_redis_buffer log;    /* a span's unique log while it is loaded */
    struct weir_redis_buffer gather; /* one window's fingerprints out of it; records on their way into logs */
    struct weir_redis_buffer open;   /* records of open windows, on their way into their log or out of it */
    redisReply **kept;               /* answers that the last read_work handed views into */
    size_t kept_count;
    size_t kept_capacity;
    /* A cut under way. */
    struct weir_redis_stream probe;
    struct weir_redis_stream transaction;
    struct weir_redis_buffer probe_types; /* a char for each answer of the probe after the first two: a type, or 'l' */
    struct weir_redis_buffer probe_lengths; /* a uint64_t for each 'l': the log's length as the index has it */
    struct weir_redis_buffer order;         /* window order of a cut, counters by span */
    /* Where the last read_work stopped in the first span of its lane, so that emptied places are not walked again. */
    char cursor_lane[WEIR_LANE_NAME_MAX];
    uint32_t cursor_lane_length;
    struct weir_redis_span cursor_span;
    unsigned long long cursor;
    int64_t named; /* when this handle last named its lanes (monotonic ns) */
};

/* 1. Routing. Each call on the store reaches the node of its lane first; from then on all commands go to it. */
enum weir_status weir_redis_reach(struct weir_redis_store *store, struct weir_slice lane, struct weir_error *reterr);
/* The same for the set of all lanes' names, which in a cluster lies in a slot of its own. */
enum weir_status weir_redis_reach_names(struct weir_redis_store *store, struct weir_error *reterr);
/* The call that ended with this status may be made again at once, as Redis said that another node has the lane. False
 * in the end when the nodes do not agree. */
bool weir_redis_follow(struct weir_redis_store *store, enum weir_status status);
/* Redis answered "MOVED <slot> <host>:<port>", which was classified as `status`; the connection is dropped. */
enum weir_status weir_redis_moved(struct weir_redis_store *store, const char *answer, enum weir_status status,
                                  struct weir_error *reterr);
void weir_redis_open_nodes(struct weir_redis_store *store);
void weir_redis_close_nodes(struct weir_redis_store *store);

/* 2. Connection. */
enum weir_status weir_redis_parse_url(const char *url, struct weir_redis_endpoint *ret, struct weir_error *reterr);
void weir_redis_endpoint_free(struct weir_redis_endpoint *endpoint);
/* To store->node. */
enum weir_status weir_redis_connect(struct weir_redis_store *store, struct weir_error *reterr);
/* Closes it and forgets what was known of lanes' contents, as it may be out of date. */
void weir_redis_drop(struct weir_redis_store *store);
/* One command whose answer may be an error. */
enum weir_status weir_redis_try(struct weir_redis_store *store, const char *command, redisReply **ret_reply,
                                struct weir_error *reterr);
/* The next answer. On failure the connection is dropped, so answers still under way can not be taken for others. */
enum weir_status weir_redis_receive(struct weir_redis_store *store, redisReply **ret_reply, struct weir_error *reterr);
/* As receive, and it must be an array of `count` elements (SIZE_MAX: any number). */
enum weir_status weir_redis_receive_array(struct weir_redis_store *store, size_t count, redisReply **ret_reply,
                                          struct weir_error *reterr);
/* Runs the script with store->command; EVAL with the text when the server does not know it. */
enum weir_status weir_redis_run(struct weir_redis_store *store, enum weir_redis_script script, redisReply **ret_reply,
                                struct weir_error *reterr);
/* Sends a stream at once, past hiredis's buffer; its answers are to be received. */
enum weir_status weir_redis_send(struct weir_redis_store *store, const struct weir_redis_stream *stream,
                                 struct weir_error *reterr);
const char *weir_redis_script_text(const char *name, size_t *ret_length);
/* WEIR_FATAL: what stands at this place is not what the format says. Drops the connection. */
enum weir_status weir_redis_corrupt(struct weir_redis_store *store, struct weir_slice lane, const char *what,
                                    struct weir_error *reterr);
/* WEIR_FATAL as well: a format that is not ours, a key of another type. */
enum weir_status weir_redis_other_format(struct weir_redis_store *store, struct weir_slice lane,
                                         struct weir_error *reterr);
enum weir_status weir_redis_wrong_type(struct weir_redis_store *store, struct weir_slice lane,
                                       struct weir_error *reterr);
/* Writes "weir:{lane}:" + the formatted rest; returns its length. */
size_t weir_redis_key(char key[WEIR_REDIS_KEY_MAX], struct weir_slice lane, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* 3. A cut. */
/* Fills store->probe and store->transaction; false: over WEIR_REDIS_CUT_BYTES_MAX. The lane's index must be known. */
bool weir_redis_encode_cut(struct weir_redis_store *store, struct weir_redis_lane *lane, const struct weir_cut *cut);
/* After EXEC: the index as Redis holds it now. Spans that were dropped are named in the last answer, if in any. */
void weir_redis_settle_cut(struct weir_redis_index *index, const struct weir_cut *cut, const redisReply *answer);
void weir_redis_pack_state(struct weir_redis_command *command, const struct weir_lane_state *state);

/* 4. Reading. */
enum { WEIR_REDIS_STATE_FIELDS = 16 };
extern const char *const weir_redis_state_field[WEIR_REDIS_STATE_FIELDS]; /* of the lane hash */
/* From their values, in this order. */
bool weir_redis_read_state(redisReply *const *values, struct weir_lane_state *ret_state);
/* store_redis_lanes.c: see window_store.h. */
enum weir_status weir_redis_read_lane(struct weir_window_store *base, struct weir_slice lane,
                                      struct weir_lane_state *ret_state, struct weir_error *reterr);
enum weir_status weir_redis_list_lanes(struct weir_window_store *base, const char *topic,
                                       void (*visit)(void *context, struct weir_slice lane,
                                                     const struct weir_lane_state *state),
                                       void *context, struct weir_error *reterr);
bool weir_redis_is_format(const redisReply *format); /* one that can be read: 1 to WEIR_REDIS_FORMAT */
bool weir_redis_read_i64(const redisReply *reply, int64_t *ret_value);
bool weir_redis_read_u64(const redisReply *reply, uint64_t *ret_value);
bool weir_redis_read_span(const redisReply *reply, struct weir_redis_span *ret_span);
bool weir_redis_read_value(const redisReply *reply, struct weir_window_total *ret_total, bool *ret_closed);
/* A window's field; store answers its length. */
size_t weir_redis_store_value(const struct weir_window_total *total, bool is_closed,
                              unsigned char bytes[WEIR_REDIS_VALUE_BYTES]);
bool weir_redis_load_value(const void *data, size_t length, struct weir_window_total *ret_total, bool *ret_closed);
enum weir_status weir_redis_read_index(struct weir_redis_store *store, struct weir_slice lane,
                                       struct weir_redis_index *index, struct weir_error *reterr);
enum weir_status weir_redis_load(struct weir_redis_store *store, struct weir_slice lane,
                                 const struct weir_redis_index *index, int64_t forgotten,
                                 const struct weir_lane_loader *loader, struct weir_error *reterr);
/* What takes a field of a span's hash. */
struct weir_redis_window_sink {
    void (*take)(void *context, const struct weir_redis_span *span, struct weir_slice series, const redisReply *value,
                 bool *reterr_corrupt);
    void *context;
};

/* All fields of "<what>:<start>:<end>" of up to WEIR_REDIS_PIPELINE spans; one may come twice (resizing). */
enum weir_status weir_redis_scan_spans(struct weir_redis_store *store, struct weir_slice lane, const char *what,
                                       const struct weir_redis_span *spans, size_t count,
                                       const struct weir_redis_window_sink *sink, struct weir_error *reterr);
enum weir_status weir_redis_scan_windows(struct weir_window_store *base, struct weir_slice lane,
                                         void (*visit)(void *context, const struct weir_window *window, bool is_closed,
                                                       bool has_work),
                                         void *context, struct weir_error *reterr);

/* Hands the bytes [from, bytes) of a log to take, in order; segment: bytes of one of its strings. */
enum weir_status weir_redis_read_log(struct weir_redis_store *store, struct weir_slice lane, const char *name,
                                     uint64_t segment, uint64_t from, uint64_t bytes,
                                     void (*take)(void *context, const char *data, size_t length), void *context,
                                     struct weir_error *reterr);

/* 5. Open windows. What the log comes to: each window once, as it was last. Windows that are closed by now are in it as
 * well, until somebody who has seen them closed hides them. */
struct weir_redis_open;

/* index must stay as it is while *ret_open is used, which is set and to be freed whatever the answer is. forgotten:
 * windows that end at or before it are passed over, as they may have been dropped; 0: none were. */
enum weir_status weir_redis_open_read(struct weir_redis_store *store, struct weir_slice lane,
                                      const struct weir_redis_index *index, int64_t forgotten,
                                      struct weir_redis_open **ret_open, struct weir_error *reterr);
struct weir_redis_open *weir_redis_open_free(struct weir_redis_open *open); /* NULL in, NULL out */
/* A field of the window was met. true: it holds, and if it is closed, what the log says is hidden. false: it is of
 * before format 4, and the log has it as it was later. */
bool weir_redis_open_settle(struct weir_redis_open *open, const struct weir_redis_span *span, struct weir_slice series,
                            bool is_closed);
/* Those of the span that are not hidden. */
void weir_redis_open_visit(const struct weir_redis_open *open, const struct weir_redis_span *span,
                           void (*visit)(void *context, const struct weir_window *window), void *context);

/* 6. Work. */
enum weir_status weir_redis_read_more_work(struct weir_window_store *base, struct weir_slice lane,
                                           struct weir_work_place *place, size_t max, struct weir_work *ret_work,
                                           size_t *ret_count, struct weir_error *reterr);
enum weir_status weir_redis_read_work(struct weir_window_store *base, struct weir_slice lane, size_t max,
                                      struct weir_work *ret_work, size_t *ret_count, struct weir_error *reterr);
enum weir_status weir_redis_finish_work(struct weir_window_store *base, struct weir_slice lane,
                                        const struct weir_work *work, size_t count, struct weir_error *reterr);
void weir_redis_release_kept(struct weir_redis_store *store);

#endif
