-- Windows that cannot be rated (an amount does not fit, their terms have changed) are kept out with the reason, so that they hold back
-- nothing else; and what is held is compared with what was rated as raters do it: by changes and by events that came.
ALTER TABLE weir.held_windows
    ADD COLUMN retracted bigint NOT NULL DEFAULT 0 CHECK (retracted >= 0),
    ADD COLUMN rated_retracted bigint,
    ADD COLUMN refused text CHECK (refused <> ''),
    ADD COLUMN refused_at timestamptz,
    ADD CHECK ((refused IS NULL) = (refused_at IS NULL));

-- The last eight bytes of a total, little endian (common/model/window.h).
UPDATE weir.held_windows AS h SET
    retracted = (SELECT sum(get_byte(h.total, 40 + i)::bigint << (8 * i)) FROM generate_series(0, 7) AS i),
    rated_retracted = (SELECT r.retracted FROM weir.rated_windows AS r WHERE r.customer = h.customer
                       AND r.window_start = h.window_start AND r.series = h.series AND r.lane = h.lane);

CREATE INDEX held_windows_refused ON weir.held_windows (lane) WHERE refused IS NOT NULL;
COMMENT ON TABLE weir.held_windows IS 'Windows that are not rated: in the span of an open gap and with another total than what was rated (until the gap is released), or that cannot be rated (refused; tried again every minute). A row goes when its window is rated.';
COMMENT ON COLUMN weir.held_windows.retracted IS 'What was rebuilt: number of events that were retracted.';
COMMENT ON COLUMN weir.held_windows.rated_retracted IS 'What was rated of it before: number of events that were retracted; null: nothing.';
COMMENT ON COLUMN weir.held_windows.refused IS 'Why it cannot be rated, and what to do; null: it was not tried, a gap holds it.';
COMMENT ON COLUMN weir.held_windows.refused_at IS 'When it was last tried in vain.';
COMMENT ON COLUMN weir.held_windows.may_lower IS 'With refused: the operator''s word that it had when it was tried. Other rows have the last word on their gaps (weir.gap_releases).';

CREATE OR REPLACE VIEW weir.held_usage AS
    SELECT h.customer, h.meter, h.dimensions, h.window_start, h.window_end, h.lane,
           h.events, h.value, h.rated_events, h.rated_value, h.held_at,
           (SELECT array_agg(g.gap ORDER BY g.gap) FROM weir.open_gaps AS g
            WHERE g.lane = h.lane AND g.time_from < h.window_end AND g.time_to > h.window_start) AS gaps,
           h.retracted, h.rated_retracted, h.refused, h.refused_at
    FROM weir.held_windows AS h;
COMMENT ON VIEW weir.held_usage IS 'Usage that is not billed yet: what was rebuilt beside what was rated before, and the open gaps that hold it (null: none any more, a rater is about to rate it) or why it cannot be rated.';
COMMENT ON COLUMN weir.held_usage.gaps IS 'Numbers of the open gaps that hold it; null: it was released, and a rater is about to rate it, or it is refused.';
COMMENT ON COLUMN weir.held_usage.retracted IS 'What was rebuilt: number of events that were retracted.';
COMMENT ON COLUMN weir.held_usage.rated_retracted IS 'What was rated of it before: number of events that were retracted; null: nothing.';
COMMENT ON COLUMN weir.held_usage.refused IS 'Why it cannot be rated, and what to do; null: it was not tried, a gap holds it.';
COMMENT ON COLUMN weir.held_usage.refused_at IS 'When it was last tried in vain.';
