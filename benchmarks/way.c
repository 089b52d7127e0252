#include "benchmarks/way.h"

#include <stdio.h>
#include <string.h>

#include "benchmarks/measure.h"
#include "benchmarks/workload.h"

struct weir_catalog *weir_way_catalog(void)
{
    struct weir_mistake_list mistakes;
    struct weir_catalog *catalog;

    if (weir_catalog_parse("workload", weir_workload_catalog, strlen(weir_workload_catalog), &catalog, &mistakes)
        != WEIR_OK)
        weir_measure_die("%s", mistakes.mistakes[0].text);
    return catalog;
}

static enum weir_status refuse(struct weir_quarantine *quarantine, const struct weir_message *message,
                               const struct weir_rejection *why, struct weir_error *reterr)
{
    (void)quarantine;
    (void)message;
    return weir_fail(reterr, WEIR_FATAL, "an event was refused: %s", why->detail);
}

void weir_way_open(struct weir_way *way, const struct weir_catalog *catalog, uint32_t lanes,
                   const struct weir_lane_settings *settings)
{
    static const struct weir_quarantine_ops ops = {.put = refuse};
    struct weir_lane_state state = {.next_offset = 0};
    struct weir_error error;

    weir_check(lanes >= 1 && lanes <= WEIR_WAY_LANES_MAX);
    *way = (struct weir_way){.quarantine = {.ops = &ops}, .lane_count = lanes};
    way->intake = weir_intake_new(catalog, &way->quarantine, false);
    for (uint32_t i = 0; i < lanes; i++) {
        char name[32];
        int length = snprintf(name, sizeof name, "events:%u", i);
        way->lanes[i] = weir_lane_new(catalog, weir_slice_of(name, (size_t)length), settings);
        if (weir_lane_start(way->lanes[i], &state, &error) != WEIR_OK)
            weir_measure_die("%s", error.text);
    }
}

void weir_way_close(struct weir_way *way)
{
    weir_intake_free(way->intake);
    for (uint32_t i = 0; i < way->lane_count; i++)
        weir_lane_free(way->lanes[i]);
}

void weir_way_take(struct weir_way *way, struct weir_message *messages, size_t count)
{
    struct weir_intake_item items[WEIR_WAY_GROUP];
    struct weir_error error;
    size_t taken;

    weir_check(count <= WEIR_WAY_GROUP);
    for (size_t i = 0; i < count; i++) {
        messages[i].sequence = way->sequence++;
        items[i] = (struct weir_intake_item){.lane = way->lanes[(uint32_t)messages[i].partition % way->lane_count],
                                             .message = &messages[i]};
    }
    if (count > 0 && weir_intake_take(way->intake, items, count, 0, &taken, &error) != WEIR_OK)
        weir_measure_die("%s", error.text);
}
