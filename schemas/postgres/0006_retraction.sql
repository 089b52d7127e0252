-- Events that were taken out of a window again (docs/rating.md 1.7). Rows of before had none.
ALTER TABLE weir.rated_windows ADD COLUMN retracted bigint NOT NULL DEFAULT 0 CHECK (retracted >= 0);

-- What was retracted is no revenue leaking.
CREATE OR REPLACE VIEW weir.unpriced_usage AS
SELECT customer, meter, dimensions, unpriced AS reason, window_start, window_end, sum(events) AS events,
       max(rated_at) AS rated_at
FROM weir.rated_windows
WHERE unpriced IS NOT NULL
GROUP BY customer, meter, dimensions, unpriced, window_start, window_end
HAVING sum(events) > 0;

COMMENT ON COLUMN weir.rated_windows.events IS 'Number of events that count: without those that were retracted.';
COMMENT ON COLUMN weir.rated_windows.retracted IS 'Number of events that were taken out again by a retraction. events + 2 x retracted only rises: a lower one is an older state of the window.';
