#include "cli/overwrite.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool find(const struct weir_used_file *file, struct stat *ret_about)
{
    return (file->path ? stat(file->path, ret_about) : fstat(file->descriptor, ret_about)) == 0;
}

/* Where a file that does not exist yet would be made. */
static bool find_place(const char *path, char place[PATH_MAX])
{
    char folder[PATH_MAX], name[PATH_MAX], real[PATH_MAX];

    if (strlen(path) >= PATH_MAX)
        return false;
    memcpy(folder, path, strlen(path) + 1);
    memcpy(name, path, strlen(path) + 1);
    return realpath(dirname(folder), real) && snprintf(place, PATH_MAX, "%s/%s", real, basename(name)) < PATH_MAX;
}

static bool is_one_file(const struct weir_used_file *a, const struct weir_used_file *b)
{
    char places[2][PATH_MAX];
    struct stat about[2];
    bool is_there[] = {find(a, &about[0]), find(b, &about[1])};

    if (is_there[0] && is_there[1])
        return S_ISREG(about[0].st_mode) && about[0].st_dev == about[1].st_dev && about[0].st_ino == about[1].st_ino;
    if (is_there[0] || is_there[1] || !a->path || !b->path)
        return false;
    return strcmp(a->path, b->path) == 0
           || (find_place(a->path, places[0]) && find_place(b->path, places[1]) && strcmp(places[0], places[1]) == 0);
}

/* "--output 'items.csv'", "standard output". */
static void name(const struct weir_used_file *file, char *text, size_t size)
{
    (void)snprintf(text, size, "%s%s%s%s", file->what, file->path ? " '" : "", file->path ? file->path : "",
                   file->path ? "'" : "");
}

bool weir_check_overwrite(const char *command, const struct weir_used_file *written, size_t written_count,
                          const struct weir_used_file *read, size_t read_count)
{
    char names[2][PATH_MAX + 64];

    for (size_t i = 0; i < written_count; i++) {
        name(&written[i], names[0], sizeof names[0]);
        for (size_t j = 0; j < read_count; j++) {
            if (!is_one_file(&written[i], &read[j]))
                continue;
            name(&read[j], names[1], sizeof names[1]);
            fprintf(stderr, "%s: %s is the same file as %s, which would be overwritten: %s\n", command, names[0],
                    names[1], written[i].remedy);
            return false;
        }
        for (size_t j = 0; j < i; j++) {
            if (!is_one_file(&written[i], &written[j]))
                continue;
            name(&written[j], names[1], sizeof names[1]);
            fprintf(stderr, "%s: %s and %s would be written into one file: %s\n", command, names[1], names[0],
                    written[i].remedy);
            return false;
        }
    }
    return true;
}
