-- A lane that was known while it was empty (next_offset 0) loses what comes and goes while nobody reads it, like any other. Only
-- one that was never known begins on what an old topic still holds.

CREATE OR REPLACE FUNCTION weir.note_lane(noted text, noted_offset bigint, noted_watermark timestamptz, kinds text[],
                                          froms bigint[], tos bigint[], times_from timestamptz[], times_to timestamptz[],
                                          founds timestamptz[])
RETURNS TABLE (known_offset bigint, known_highest bigint)
LANGUAGE plpgsql AS $$
DECLARE
    known weir.lanes;
BEGIN
    INSERT INTO weir.lanes (lane, next_offset, highest_offset, watermark) VALUES (noted, -1, -1, noted_watermark)
        ON CONFLICT DO NOTHING;
    SELECT * INTO known FROM weir.lanes WHERE lane = noted FOR UPDATE;
    INSERT INTO weir.lane_gaps (lane, kind, from_offset, to_offset, time_from, time_to, found_at, is_loss)
        SELECT noted, g.kind, g.from_offset, g.to_offset, g.time_from, g.time_to, g.found_at,
               g.kind <> 'nothing_stored' OR known.highest_offset >= 0
        FROM unnest(kinds, froms, tos, times_from, times_to, founds)
            AS g(kind, from_offset, to_offset, time_from, time_to, found_at)
        ON CONFLICT DO NOTHING;
    UPDATE weir.lanes SET next_offset = noted_offset, highest_offset = greatest(highest_offset, noted_offset),
        watermark = noted_watermark, seen_at = now(),
        times_back = times_back + CASE WHEN noted_offset < known.next_offset THEN 1 ELSE 0 END,
        went_back_at = CASE WHEN noted_offset < known.next_offset THEN now() ELSE went_back_at END
        WHERE lane = noted;
    known_offset := known.next_offset;
    known_highest := greatest(known.highest_offset, noted_offset);
    RETURN NEXT;
END
$$;
