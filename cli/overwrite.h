/* What a command writes, looked at before any of it is opened: it must be no file that the command reads, nor two be
 * one. */
#ifndef WEIR_CLI_OVERWRITE_H
#define WEIR_CLI_OVERWRITE_H

#include <stdbool.h>
#include <stddef.h>

struct weir_used_file {
    const char *what;   /* "--output", "the catalog"; for messages */
    const char *path;   /* NULL: standard input or output */
    int descriptor;     /* with path NULL */
    const char *remedy; /* of a file that is written: "give --output another name" */
};

/* True: each file that is written is one of its own. Otherwise the first that is not is told on stderr, by both names
 * and with the remedy. Terminals, pipes and devices may be used twice. */
bool weir_check_overwrite(const char *command, const struct weir_used_file *written, size_t written_count,
                          const struct weir_used_file *read, size_t read_count);

#endif
