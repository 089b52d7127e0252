/* Outcomes and their explanations.
 *
 * An outcome names who must act (later, this event, this batch, this process); the explanation is a sentence for the
 * person who can mend it. Policy (retry, quarantine, stop) sits in the caller, never where the status is made.
 */
#ifndef WEIR_COMMON_STATUS_H
#define WEIR_COMMON_STATUS_H

#include <stdbool.h>
#include <stddef.h>

enum weir_status {
    WEIR_OK = 0,
    WEIR_AGAIN,  /* full or empty: the same call may succeed later */
    WEIR_REJECT, /* this input is wrong (an event, a file, a flag): quarantine or report it */
    WEIR_RETRY,  /* this batch did not get through: keep everything, try again after a pause */
    WEIR_FENCED, /* somebody else owns the lane now, or the stored cut is not the expected one: drop, reload */
    WEIR_FATAL,  /* this process cannot go on; the error says why */
};

enum { WEIR_ERROR_TEXT_MAX = 1024 };

/* Caller-owned; untouched on WEIR_OK. One line, no trailing newline, names the thing, the place and the remedy. */
struct weir_error {
    char text[WEIR_ERROR_TEXT_MAX];
};

/* Formats *reterr (which may be NULL) and returns status, so that `return weir_fail(...)` stays one line. */
enum weir_status weir_fail(struct weir_error *reterr, enum weir_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An invariant of ours does not hold: says where and aborts. On in release builds as well, since it guards money. */
_Noreturn void weir_check_failed(const char *expression, const char *file, int line);
#define weir_check(expression)                                                                                         \
    (__builtin_expect(!!(expression), 1) ? (void)0 : weir_check_failed(#expression, __FILE__, __LINE__))

/* malloc and friends that end the process with one clear line when memory is gone; never return NULL (size > 0). */
_Noreturn void weir_out_of_memory(size_t bytes); /* ends the process: so many are not to be had */
void *weir_new(size_t size);                     /* zeroed */
void *weir_new_array(size_t count, size_t size); /* zeroed, overflow-checked */
void *weir_resize(void *memory, size_t count, size_t size);
/* An array that begins on a line of the cache, and where it is large on a huge page: probed at random, that is one miss
 * instead of two. From so many elements to so many, 0 being none; new ones are not cleared. It never shrinks but to 0.
 */
void *weir_resize_table(void *memory, size_t from, size_t to, size_t size);
/* Addresses that begin on a huge page, for so many bytes, a multiple of 2 MB; ends with munmap. Not usable: they are no
 * memory, not even where the system promises no more than it has, until mprotect makes them that. */
void *weir_reserve(size_t bytes, bool is_usable);
char *weir_copy_text(const char *text, size_t length); /* NUL-terminated copy */

#endif
