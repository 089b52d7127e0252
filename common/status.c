#include "common/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum weir_status weir_fail(struct weir_error *reterr, enum weir_status status, const char *format, ...)
{
    if (reterr) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(reterr->text, sizeof reterr->text, format, arguments);
        va_end(arguments);
    }
    return status;
}

_Noreturn void weir_check_failed(const char *expression, const char *file, int line)
{
    fprintf(stderr,
            "weir: invariant broken at %s:%d: %s. This is a defect of weir, please report it; nothing after the "
            "last durable cut or commit was written\n",
            file, line, expression);
    abort();
}

_Noreturn void weir_out_of_memory(size_t size)
{
    fprintf(stderr,
            "weir: out of memory asking for %zu bytes: lower lane_windows_max, lane_ids_max or rater.batch, or "
            "give the process more\n",
            size);
    exit(EXIT_FAILURE);
}

void *weir_new(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        weir_out_of_memory(size);
    return memory;
}

enum { HUGE_PAGE = 2 << 20, LINE = 64 };

static bool has_huge_pages(size_t bytes)
{
    return bytes >= 4 * (size_t)HUGE_PAGE;
}

void *weir_new_array(size_t count, size_t size)
{
    size_t bytes;
    void *memory;

    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2) /* it is rounded up below */
        weir_out_of_memory(SIZE_MAX);
    if (!has_huge_pages(bytes)) {
        memory = calloc(count ? count : 1, size);
    } else {
        /* Large tables are probed at random: with huge pages a probe costs one miss instead of two. */
        bytes = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        memory = aligned_alloc(HUGE_PAGE, bytes);
        if (memory) {
            (void)madvise(memory, bytes, MADV_HUGEPAGE); /* a wish, not a need */
            memset(memory, 0, bytes);
        }
    }
    if (!memory)
        weir_out_of_memory(bytes);
    return memory;
}

void *weir_resize(void *memory, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        weir_out_of_memory(SIZE_MAX);
    void *resized = realloc(memory, bytes ? bytes : 1);
    if (!resized)
        weir_out_of_memory(bytes);
    return resized;
}

/* A table grows, so that one of a huge page will soon have several; and where it moves nothing is copied. */
static bool is_mapped(size_t bytes)
{
    return bytes >= (size_t)HUGE_PAGE;
}

void *weir_reserve(size_t bytes, bool is_usable)
{
    int protection = is_usable ? PROT_READ | PROT_WRITE : PROT_NONE;
    char *memory = mmap(NULL, bytes + HUGE_PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        weir_out_of_memory(bytes);
    size_t before = (HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE) % HUGE_PAGE;
    if (before)
        weir_check(munmap(memory, before) == 0);
    weir_check(munmap(memory + before + bytes, HUGE_PAGE - before) == 0);
    return memory + before;
}

void *weir_resize_table(void *memory, size_t from, size_t to, size_t size)
{
    size_t old = (from * size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE, bytes;
    void *resized;

    if (__builtin_mul_overflow(to, size, &bytes) || bytes > SIZE_MAX / 2)
        weir_out_of_memory(SIZE_MAX);
    if (is_mapped(bytes)) {
        bytes = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        resized = weir_reserve(bytes, true);
        if (is_mapped(from * size)) { /* whole huge pages move as they are */
            if (mremap(memory, old, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, resized) == MAP_FAILED)
                weir_out_of_memory(bytes);
            return resized;
        }
        (void)madvise(resized, bytes, MADV_HUGEPAGE);
    } else {
        weir_check(!is_mapped(from * size) || to == 0);
        resized = to ? aligned_alloc(LINE, (bytes + LINE - 1) / LINE * LINE) : NULL;
        if (to && !resized)
            weir_out_of_memory(bytes);
    }
    if (from && to)
        memcpy(resized, memory, (from < to ? from : to) * size);
    if (is_mapped(from * size))
        weir_check(munmap(memory, old) == 0);
    else
        free(memory);
    return resized;
}

char *weir_copy_text(const char *text, size_t length)
{
    char *copy = weir_new(length + 1);
    if (length)
        memcpy(copy, text, length);
    return copy;
}
