#include "common/model/gap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"

#define WEIR_X(upper, lower) [WEIR_GAP_##upper] = #lower,
const char *const weir_gap_kind_name[WEIR_GAP_KIND_COUNT] = {WEIR_GAP_KINDS(WEIR_X)};
#undef WEIR_X

static int64_t lower(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t higher(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void weir_gaps_add(struct weir_gaps *gaps, const struct weir_gap *gap)
{
    if (gaps->count < WEIR_GAPS_MAX) {
        gaps->at[gaps->count++] = *gap;
        return;
    }
    struct weir_gap *last = &gaps->at[WEIR_GAPS_MAX - 1];
    bool is_open_ended = last->to == WEIR_GAP_END_UNKNOWN || gap->to == WEIR_GAP_END_UNKNOWN;
    *last = (struct weir_gap){
        .kind = gap->kind == WEIR_GAP_RECREATED ? gap->kind : last->kind, /* the one that claims more */
        .from = lower(last->from, gap->from),
        .to = is_open_ended ? WEIR_GAP_END_UNKNOWN : higher(last->to, gap->to),
        .time_from = lower(last->time_from, gap->time_from),
        .time_to = higher(last->time_to, gap->time_to),
        .found_at = gap->found_at,
    };
    /* What nothing_stored means depends on who knew the lane before: a gap that is surely one must not hide in it. */
    if (last->kind == WEIR_GAP_NOTHING_STORED)
        last->kind = gap->kind;
}

struct weir_slice weir_gaps_format(const struct weir_gaps *gaps, char text[WEIR_GAPS_MAX * WEIR_GAP_TEXT_MAX])
{
    size_t length = 0;

    for (uint32_t i = 0; i < gaps->count; i++) {
        const struct weir_gap *gap = &gaps->at[i];
        int written =
            snprintf(text + length, WEIR_GAP_TEXT_MAX, "%s%s %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64,
                     i ? "," : "", weir_gap_kind_name[gap->kind], gap->from, gap->to, gap->time_from, gap->time_to,
                     gap->found_at);
        weir_check(written > 0 && written < WEIR_GAP_TEXT_MAX);
        length += (size_t)written;
    }
    return weir_slice_of(text, length);
}

static bool parse_one(struct weir_slice text, struct weir_gap *ret_gap)
{
    char line[WEIR_GAP_TEXT_MAX], word[32];
    struct weir_gap gap = {.kind = WEIR_GAP_KIND_COUNT};
    int read = 0;

    if (text.length >= sizeof line)
        return false;
    memcpy(line, text.data, text.length);
    line[text.length] = '\0';
    if (sscanf(line, "%31s %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 "%n", word, &gap.from, &gap.to,
               &gap.time_from, &gap.time_to, &gap.found_at, &read)
            != 6
        || line[read])
        return false;
    for (int i = 0; i < WEIR_GAP_KIND_COUNT; i++)
        if (strcmp(word, weir_gap_kind_name[i]) == 0)
            gap.kind = (enum weir_gap_kind)i;
    *ret_gap = gap;
    return gap.kind != WEIR_GAP_KIND_COUNT;
}

bool weir_gaps_parse(struct weir_slice text, struct weir_gaps *ret_gaps)
{
    struct weir_gaps gaps = {0};

    while (text.length > 0) {
        const char *comma = memchr(text.data, ',', text.length);
        size_t length = comma ? (size_t)(comma - text.data) : text.length;
        if (gaps.count == WEIR_GAPS_MAX || !parse_one(weir_slice_of(text.data, length), &gaps.at[gaps.count++]))
            return false;
        size_t passed = length + (comma != NULL);
        if (comma && passed == text.length)
            return false;
        text = weir_slice_of(text.data + passed, text.length - passed);
    }
    *ret_gaps = gaps;
    return true;
}
