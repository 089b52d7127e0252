-- Usage that can not be rebuilt: lanes as the raters knew them, gaps, windows held back for them, and the operator's word.

-- 1. Lanes -----------------------------------------------------------------------------------------------------------------

CREATE TABLE weir.lanes (
    lane text COLLATE "C" PRIMARY KEY CHECK (lane <> ''),
    next_offset bigint NOT NULL,
    highest_offset bigint NOT NULL,
    watermark timestamptz NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    times_back integer NOT NULL DEFAULT 0,
    went_back_at timestamptz,
    CHECK (next_offset <= highest_offset)
);
COMMENT ON TABLE weir.lanes IS 'Every lane (partition of the events'' topic) that a rater has met, as it stood when it was last looked at. It is how an emptied window store is told from a first start.';
COMMENT ON COLUMN weir.lanes.lane IS 'The topic''s partition, such as events:3.';
COMMENT ON COLUMN weir.lanes.next_offset IS 'All events below this offset were counted, when the lane was last looked at; -1: none yet.';
COMMENT ON COLUMN weir.lanes.highest_offset IS 'The highest next_offset that was ever seen.';
COMMENT ON COLUMN weir.lanes.watermark IS 'Windows that end at or before this time were closed, when the lane was last looked at.';
COMMENT ON COLUMN weir.lanes.first_seen_at IS 'When a rater met the lane for the first time.';
COMMENT ON COLUMN weir.lanes.seen_at IS 'When it was last looked at.';
COMMENT ON COLUMN weir.lanes.times_back IS 'How often next_offset was lower than before: the window store lost its last seconds or everything, or the topic was made anew.';
COMMENT ON COLUMN weir.lanes.went_back_at IS 'When that was last seen; null: never.';

-- A ledger from before this table: its lanes were known, or else an emptied store would pass for a first start.
INSERT INTO weir.lanes (lane, next_offset, highest_offset, watermark)
    SELECT lane, 1, 1, max(window_end) FROM weir.rated_windows GROUP BY lane;

-- 2. Gaps: append-only -----------------------------------------------------------------------------------------------------

CREATE TABLE weir.lane_gaps (
    gap bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane text COLLATE "C" NOT NULL REFERENCES weir.lanes,
    kind text NOT NULL CHECK (kind IN ('nothing_stored', 'retention', 'recreated')),
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL,
    time_from timestamptz NOT NULL,
    time_to timestamptz NOT NULL,
    found_at timestamptz NOT NULL,
    is_loss boolean NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CHECK (time_from < time_to),
    UNIQUE (lane, kind, from_offset, to_offset, found_at)
);
COMMENT ON TABLE weir.lane_gaps IS 'Events that were never counted and that Kafka has lost, and the times of usage that they may concern. Append-only.';
COMMENT ON COLUMN weir.lane_gaps.gap IS 'Number of the gap: what weir release --gap takes.';
COMMENT ON COLUMN weir.lane_gaps.lane IS 'The lane that they belonged to.';
COMMENT ON COLUMN weir.lane_gaps.kind IS 'retention: Kafka deleted them before they were read. recreated: the topic was deleted and made anew. nothing_stored: the window store held nothing of the lane, and Kafka''s first messages were gone.';
COMMENT ON COLUMN weir.lane_gaps.from_offset IS 'The first offset that is missing.';
COMMENT ON COLUMN weir.lane_gaps.to_offset IS 'The first one that is there again; -1: unknown, the topic is another one now.';
COMMENT ON COLUMN weir.lane_gaps.time_from IS 'Usage before this time is not concerned.';
COMMENT ON COLUMN weir.lane_gaps.time_to IS 'Usage from this time on is not concerned.';
COMMENT ON COLUMN weir.lane_gaps.found_at IS 'When the ingest worker met it.';
COMMENT ON COLUMN weir.lane_gaps.is_loss IS 'False: a first start on a topic that had lost its beginning already; nothing that weir ever knew is missing.';
COMMENT ON COLUMN weir.lane_gaps.recorded_at IS 'When a rater recorded it.';

CREATE TABLE weir.gap_releases (
    gap bigint PRIMARY KEY REFERENCES weir.lane_gaps,
    released_at timestamptz NOT NULL DEFAULT now(),
    released_by text NOT NULL CHECK (released_by <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    lowers boolean NOT NULL
);
COMMENT ON TABLE weir.gap_releases IS 'Who decided that the windows of a gap are rated as they are, when and why. Append-only.';
COMMENT ON COLUMN weir.gap_releases.gap IS 'The gap that is closed by this.';
COMMENT ON COLUMN weir.gap_releases.released_at IS 'When.';
COMMENT ON COLUMN weir.gap_releases.released_by IS 'Who: user and host of weir release, and the database''s user.';
COMMENT ON COLUMN weir.gap_releases.reason IS 'Why, in the operator''s words.';
COMMENT ON COLUMN weir.gap_releases.lowers IS 'True: what was rebuilt replaces what was rated even where it is less (weir release --lower).';

CREATE FUNCTION weir.refuse_change_of_gaps() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'weir.% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
COMMENT ON FUNCTION weir.refuse_change_of_gaps() IS 'Keeps lane_gaps and gap_releases append-only, for their owner and superusers too.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.lane_gaps
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_change_of_gaps();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.gap_releases
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_change_of_gaps();
REVOKE UPDATE, DELETE, TRUNCATE ON weir.lane_gaps, weir.gap_releases FROM PUBLIC;

CREATE VIEW weir.open_gaps AS
    SELECT g.gap, g.lane, g.kind, g.from_offset, g.to_offset, g.time_from, g.time_to, g.found_at
    FROM weir.lane_gaps AS g
    WHERE g.is_loss AND NOT EXISTS (SELECT FROM weir.gap_releases AS r WHERE r.gap = g.gap);
COMMENT ON VIEW weir.open_gaps IS 'Gaps that nobody has decided on yet: windows in their span are held.';
COMMENT ON COLUMN weir.open_gaps.gap IS 'Number of the gap: what weir release --gap takes.';
COMMENT ON COLUMN weir.open_gaps.lane IS 'The lane that they belonged to.';
COMMENT ON COLUMN weir.open_gaps.kind IS 'retention: Kafka deleted them before they were read. recreated: the topic was deleted and made anew. nothing_stored: the window store held nothing of the lane, and Kafka''s first messages were gone.';
COMMENT ON COLUMN weir.open_gaps.from_offset IS 'The first offset that is missing.';
COMMENT ON COLUMN weir.open_gaps.to_offset IS 'The first one that is there again; -1: unknown, the topic is another one now.';
COMMENT ON COLUMN weir.open_gaps.time_from IS 'Usage before this time is not concerned.';
COMMENT ON COLUMN weir.open_gaps.time_to IS 'Usage from this time on is not concerned.';
COMMENT ON COLUMN weir.open_gaps.found_at IS 'When the ingest worker met it.';

-- 3. Windows held back -----------------------------------------------------------------------------------------------------

CREATE SEQUENCE weir.held_numbers;
COMMENT ON SEQUENCE weir.held_numbers IS 'Numbers of weir.held_windows.';

CREATE TABLE weir.held_windows (
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    window_start timestamptz NOT NULL,
    series uuid NOT NULL,
    lane text COLLATE "C" NOT NULL CHECK (lane <> ''),
    window_end timestamptz NOT NULL,
    meter text NOT NULL,
    dimensions jsonb NOT NULL,
    series_key bytea NOT NULL,
    total bytea NOT NULL,
    events bigint NOT NULL,
    value numeric(39,12) NOT NULL,
    rated_events bigint,
    rated_value numeric(39,12),
    held_number bigint NOT NULL DEFAULT nextval('weir.held_numbers'),
    may_lower boolean NOT NULL DEFAULT false,
    held_at timestamptz NOT NULL DEFAULT now(),
    CHECK (window_start < window_end),
    PRIMARY KEY (customer, window_start, series, lane)
);
CREATE INDEX held_windows_lane ON weir.held_windows (lane, window_start);
COMMENT ON TABLE weir.held_windows IS 'Windows in the span of an open gap whose total is another one than what was rated: not rated until the gap is released. A row goes when its window is rated or its gap released.';
COMMENT ON COLUMN weir.held_windows.customer IS 'The customer.';
COMMENT ON COLUMN weir.held_windows.window_start IS 'Start of the window.';
COMMENT ON COLUMN weir.held_windows.series IS 'Short form of series_key, for the index.';
COMMENT ON COLUMN weir.held_windows.lane IS 'The lane whose share of the window this is.';
COMMENT ON COLUMN weir.held_windows.window_end IS 'End of the window: the first instant after it.';
COMMENT ON COLUMN weir.held_windows.meter IS 'Key of the meter.';
COMMENT ON COLUMN weir.held_windows.dimensions IS 'The meter''s group_by names with their texts.';
COMMENT ON COLUMN weir.held_windows.series_key IS 'Meter, customer and dimensions in weir''s own form (common/model/window.h).';
COMMENT ON COLUMN weir.held_windows.total IS 'What was rebuilt, in weir''s own form (common/model/window.h).';
COMMENT ON COLUMN weir.held_windows.events IS 'What was rebuilt: number of events.';
COMMENT ON COLUMN weir.held_windows.value IS 'What was rebuilt: as in rated_windows.';
COMMENT ON COLUMN weir.held_windows.rated_events IS 'What was rated of it before: number of events; null: nothing.';
COMMENT ON COLUMN weir.held_windows.rated_value IS 'What was rated of it before; null: nothing.';
COMMENT ON COLUMN weir.held_windows.held_number IS 'Changes whenever the row does.';
COMMENT ON COLUMN weir.held_windows.may_lower IS 'The operator''s word for the next rating: what was rebuilt replaces what was rated even where it is less.';
COMMENT ON COLUMN weir.held_windows.held_at IS 'When it was held with this total.';

CREATE VIEW weir.held_usage AS
    SELECT h.customer, h.meter, h.dimensions, h.window_start, h.window_end, h.lane,
           h.events, h.value, h.rated_events, h.rated_value, h.held_at,
           (SELECT array_agg(g.gap ORDER BY g.gap) FROM weir.open_gaps AS g
            WHERE g.lane = h.lane AND g.time_from < h.window_end AND g.time_to > h.window_start) AS gaps
    FROM weir.held_windows AS h;
COMMENT ON VIEW weir.held_usage IS 'Usage that waits for an operator''s word: what was rebuilt beside what was rated before, and the open gaps that hold it (null: released, a rater is about to rate it).';
COMMENT ON COLUMN weir.held_usage.customer IS 'The customer.';
COMMENT ON COLUMN weir.held_usage.meter IS 'Key of the meter.';
COMMENT ON COLUMN weir.held_usage.dimensions IS 'The meter''s group_by names with their texts.';
COMMENT ON COLUMN weir.held_usage.window_start IS 'Start of the window.';
COMMENT ON COLUMN weir.held_usage.window_end IS 'End of the window: the first instant after it.';
COMMENT ON COLUMN weir.held_usage.lane IS 'The lane whose share of the window this is.';
COMMENT ON COLUMN weir.held_usage.events IS 'What was rebuilt: number of events.';
COMMENT ON COLUMN weir.held_usage.value IS 'What was rebuilt: as in rated_windows.';
COMMENT ON COLUMN weir.held_usage.rated_events IS 'What was rated of it before: number of events; null: nothing.';
COMMENT ON COLUMN weir.held_usage.rated_value IS 'What was rated of it before; null: nothing.';
COMMENT ON COLUMN weir.held_usage.held_at IS 'When it was held with this total.';
COMMENT ON COLUMN weir.held_usage.gaps IS 'Numbers of the open gaps that hold it; null: it was released, and a rater is about to rate it.';

-- 4. What a rater notes before it rates ------------------------------------------------------------------------------------

-- One statement, so that a lane and its gaps are noted together or not at all: whether nothing_stored is a loss hangs on what
-- was known of the lane before.
CREATE FUNCTION weir.note_lane(noted text, noted_offset bigint, noted_watermark timestamptz, kinds text[], froms bigint[],
                               tos bigint[], times_from timestamptz[], times_to timestamptz[], founds timestamptz[])
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
               g.kind <> 'nothing_stored' OR known.highest_offset > 0
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
COMMENT ON FUNCTION weir.note_lane(text, bigint, timestamptz, text[], bigint[], bigint[], timestamptz[], timestamptz[], timestamptz[]) IS 'Notes where a lane stands and which gaps it has. Answers what was known of it before, and its highest offset now.';

-- 5. All that a gap concerns -----------------------------------------------------------------------------------------------

CREATE VIEW weir.gap_windows AS
    SELECT g.gap, g.lane, w.customer, w.meter, w.dimensions, w.window_start, w.window_end, w.is_held, w.events, w.value,
           w.rated_events, w.rated_value
    FROM weir.open_gaps AS g, LATERAL (
        SELECT h.customer, h.meter, h.dimensions, h.window_start, h.window_end, true AS is_held, h.events, h.value,
               h.rated_events, h.rated_value
        FROM weir.held_windows AS h
        WHERE h.lane = g.lane AND h.window_start < g.time_to AND h.window_end > g.time_from
        UNION ALL
        SELECT r.customer, r.meter, r.dimensions, r.window_start, r.window_end, false, NULL, NULL, r.events, r.value
        FROM weir.rated_windows AS r
        WHERE r.lane = g.lane AND r.window_start < g.time_to AND r.window_end > g.time_from
            AND NOT EXISTS (SELECT FROM weir.held_windows AS h WHERE h.customer = r.customer
                            AND h.window_start = r.window_start AND h.series = r.series AND h.lane = r.lane)) AS w;
COMMENT ON VIEW weir.gap_windows IS 'Every known window that an open gap concerns. Held: something else was rebuilt than what was rated. Not held: what was rated stands, as exactly that was rebuilt, or nothing. Restrict gap: it reads all rated windows.';
COMMENT ON COLUMN weir.gap_windows.gap IS 'Number of the gap.';
COMMENT ON COLUMN weir.gap_windows.lane IS 'The lane whose share of the window this is.';
COMMENT ON COLUMN weir.gap_windows.customer IS 'The customer.';
COMMENT ON COLUMN weir.gap_windows.meter IS 'Key of the meter.';
COMMENT ON COLUMN weir.gap_windows.dimensions IS 'The meter''s group_by names with their texts.';
COMMENT ON COLUMN weir.gap_windows.window_start IS 'Start of the window.';
COMMENT ON COLUMN weir.gap_windows.window_end IS 'End of the window: the first instant after it.';
COMMENT ON COLUMN weir.gap_windows.is_held IS 'Whether it waits for an operator''s word.';
COMMENT ON COLUMN weir.gap_windows.events IS 'What was rebuilt: number of events; null: not held.';
COMMENT ON COLUMN weir.gap_windows.value IS 'What was rebuilt; null: not held.';
COMMENT ON COLUMN weir.gap_windows.rated_events IS 'What was rated: number of events; null: nothing.';
COMMENT ON COLUMN weir.gap_windows.rated_value IS 'What was rated; null: nothing.';
