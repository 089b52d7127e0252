-- The past counted again (weir recount): its runs are reratings, and what each share of a window was before is kept.

CREATE TABLE weir.recounted_windows (
    rerating bigint NOT NULL REFERENCES weir.reratings,
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    window_start timestamptz NOT NULL,
    series uuid NOT NULL,
    lane text COLLATE "C" NOT NULL CHECK (lane <> ''),
    window_end timestamptz NOT NULL,
    meter text NOT NULL,
    dimensions jsonb NOT NULL,
    revision integer NOT NULL CHECK (revision >= 1),
    events_before bigint NOT NULL CHECK (events_before >= 0),
    value_before numeric(39,12) NOT NULL,
    latest_time_before bigint NOT NULL,
    latest_offset_before bigint NOT NULL,
    retracted_before bigint NOT NULL CHECK (retracted_before >= 0),
    events bigint NOT NULL CHECK (events >= 0),
    value numeric(39,12) NOT NULL,
    retracted bigint NOT NULL CHECK (retracted >= 0),
    recounted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rerating, customer, window_start, series, lane)
);
-- weir reconcile asks for a share's.
CREATE INDEX recounted_windows_share ON weir.recounted_windows (customer, window_start, series, lane);
COMMENT ON TABLE weir.recounted_windows IS 'Each lane''s share of a window that weir recount replaced: what it was and what it is since, noted in the transaction that charged the difference. Append-only.';
COMMENT ON COLUMN weir.recounted_windows.rerating IS 'The run (rerating_runs, with "recount" in its filters).';
COMMENT ON COLUMN weir.recounted_windows.customer IS 'The customer.';
COMMENT ON COLUMN weir.recounted_windows.window_start IS 'Start of the window.';
COMMENT ON COLUMN weir.recounted_windows.series IS 'Which series, as in rated_windows.';
COMMENT ON COLUMN weir.recounted_windows.lane IS 'The lane whose share it is.';
COMMENT ON COLUMN weir.recounted_windows.window_end IS 'End of the window: the first instant after it.';
COMMENT ON COLUMN weir.recounted_windows.meter IS 'Key of the meter.';
COMMENT ON COLUMN weir.recounted_windows.dimensions IS 'The meter''s group_by names with the texts of this usage.';
COMMENT ON COLUMN weir.recounted_windows.revision IS 'The window''s revision that the run made: its line items carry it too.';
COMMENT ON COLUMN weir.recounted_windows.events_before IS 'Events that counted before; 0 where there was no such share.';
COMMENT ON COLUMN weir.recounted_windows.value_before IS 'The value before, as in rated_windows.';
COMMENT ON COLUMN weir.recounted_windows.latest_time_before IS 'As in rated_windows, before.';
COMMENT ON COLUMN weir.recounted_windows.latest_offset_before IS 'As in rated_windows, before.';
COMMENT ON COLUMN weir.recounted_windows.retracted_before IS 'Events that had been retracted, before.';
COMMENT ON COLUMN weir.recounted_windows.events IS 'Events that count since.';
COMMENT ON COLUMN weir.recounted_windows.value IS 'The value since, as in rated_windows.';
COMMENT ON COLUMN weir.recounted_windows.retracted IS 'Events that were retracted, since.';
COMMENT ON COLUMN weir.recounted_windows.recounted_at IS 'When: the start of the transaction.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.recounted_windows
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE UPDATE, DELETE, TRUNCATE ON weir.recounted_windows FROM PUBLIC;

-- What finance reads of it.
CREATE VIEW weir.recounted_usage WITH (security_barrier) AS
SELECT w.rerating, r.started_by, r.reason, w.recounted_at, w.customer, w.meter, w.dimensions, w.window_start, w.window_end, w.lane,
       w.revision, w.events_before, w.value_before, w.retracted_before, w.events, w.value, w.retracted
FROM weir.recounted_windows AS w JOIN weir.reratings AS r USING (rerating)
WHERE (SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.recounted_usage IS 'Windows that were counted again by a new or corrected meter: before and since, by whom and why. Their charges are the line items with the same rerating.';
COMMENT ON COLUMN weir.recounted_usage.rerating IS 'The run.';
COMMENT ON COLUMN weir.recounted_usage.started_by IS 'Who: user and host of weir recount.';
COMMENT ON COLUMN weir.recounted_usage.reason IS 'Why, in the operator''s words.';
COMMENT ON COLUMN weir.recounted_usage.recounted_at IS 'When.';
COMMENT ON COLUMN weir.recounted_usage.customer IS 'The customer.';
COMMENT ON COLUMN weir.recounted_usage.meter IS 'Key of the meter.';
COMMENT ON COLUMN weir.recounted_usage.dimensions IS 'The meter''s group_by names with the texts of this usage.';
COMMENT ON COLUMN weir.recounted_usage.window_start IS 'Start of the window.';
COMMENT ON COLUMN weir.recounted_usage.window_end IS 'End of the window.';
COMMENT ON COLUMN weir.recounted_usage.lane IS 'The lane whose share it is.';
COMMENT ON COLUMN weir.recounted_usage.revision IS 'The window''s revision that the run made.';
COMMENT ON COLUMN weir.recounted_usage.events_before IS 'Events that counted before.';
COMMENT ON COLUMN weir.recounted_usage.value_before IS 'The value before; 0 of a count.';
COMMENT ON COLUMN weir.recounted_usage.retracted_before IS 'Events that had been retracted, before.';
COMMENT ON COLUMN weir.recounted_usage.events IS 'Events that count since.';
COMMENT ON COLUMN weir.recounted_usage.value IS 'The value since.';
COMMENT ON COLUMN weir.recounted_usage.retracted IS 'Events that were retracted, since.';
COMMENT ON COLUMN weir.reratings.filters IS 'What was looked at: from, to, customer, meter, contract, price_book; {} is everything. With "recount", kafka or files, the meter was counted again.';
