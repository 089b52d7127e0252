#include "cli/listing.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct weir_listing weir_listing_begin(const char *format, const struct weir_column *columns, int count)
{
    struct weir_listing listing = {.format = format, .columns = columns, .count = count};

    if (strcmp(format, "table") == 0)
        listing.table = weir_text_table_new(columns, count);
    else if (strcmp(format, "csv") == 0)
        listing.is_broken = !weir_row_csv_header(stdout, columns, count);
    return listing;
}

void weir_listing_add(struct weir_listing *listing, const struct weir_slice *cells)
{
    if (listing->table)
        weir_text_table_add(listing->table, cells);
    else if (strcmp(listing->format, "csv") == 0)
        listing->is_broken = !weir_row_csv(stdout, listing->columns, cells, listing->count) || listing->is_broken;
    else
        listing->is_broken = !weir_row_ndjson(stdout, listing->columns, cells, listing->count) || listing->is_broken;
}

bool weir_listing_end(struct weir_listing *listing, bool has_table)
{
    if (listing->table && has_table)
        listing->is_broken = !weir_text_table_write(listing->table, stdout, isatty(STDOUT_FILENO));
    listing->table = weir_text_table_free(listing->table);
    return fflush(stdout) == 0 && !listing->is_broken;
}

enum weir_status weir_listing_finish(struct weir_listing *listing, enum weir_status status, struct weir_error *reterr)
{
    bool is_written = weir_listing_end(listing, status == WEIR_OK);

    return status == WEIR_OK && !is_written ? weir_fail(reterr, WEIR_FATAL, "the list cannot be written") : status;
}
