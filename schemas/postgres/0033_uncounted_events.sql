-- Duplicates and refused events by customer, for invoices' statements.

-- 1. What lanes tell -----------------------------------------------------------------------------------------------------

CREATE TABLE weir.lane_tallies (
    customer text NOT NULL,
    lane text NOT NULL REFERENCES weir.lanes,
    duplicate bigint NOT NULL CHECK (duplicate >= 0),
    quarantined bigint NOT NULL CHECK (quarantined >= 0),
    admitted bigint NOT NULL CHECK (admitted >= 0),
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer, lane)
);
COMMENT ON TABLE weir.lane_tallies IS 'What became of a customer''s events in a lane beside being counted, since the lane began; the empty customer is of events of which nobody can tell whose they are. A rater notes it before the lane is rated through a quarter of an hour.';
COMMENT ON COLUMN weir.lane_tallies.customer IS 'The customer; empty: nobody can tell.';
COMMENT ON COLUMN weir.lane_tallies.lane IS 'The lane.';
COMMENT ON COLUMN weir.lane_tallies.duplicate IS 'Duplicates of events that were counted.';
COMMENT ON COLUMN weir.lane_tallies.quarantined IS 'Refused: they are in the quarantine topic.';
COMMENT ON COLUMN weir.lane_tallies.admitted IS 'Admitted from there later (weir admit) and counted: of a lane of admitted events.';
COMMENT ON COLUMN weir.lane_tallies.noted_at IS 'When a rater noted that last.';
REVOKE ALL ON weir.lane_tallies FROM PUBLIC;

-- What was noted with more is newer: a tally only grows while its lane lives.
CREATE FUNCTION weir.note_tallies(of_lane text, customers text[], duplicates bigint[], refused bigint[], let_in bigint[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO weir.lane_tallies AS t (customer, lane, duplicate, quarantined, admitted)
    SELECT n.customer, of_lane, n.duplicate, n.quarantined, n.admitted
    FROM unnest(customers, duplicates, refused, let_in) AS n(customer, duplicate, quarantined, admitted) ORDER BY n.customer
    ON CONFLICT (customer, lane) DO UPDATE SET duplicate = EXCLUDED.duplicate, quarantined = EXCLUDED.quarantined,
        admitted = EXCLUDED.admitted, noted_at = now()
    WHERE EXCLUDED.duplicate + EXCLUDED.quarantined + EXCLUDED.admitted > t.duplicate + t.quarantined + t.admitted
$$;
REVOKE ALL ON FUNCTION weir.note_tallies(text, text[], bigint[], bigint[], bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION weir.note_tallies(text, text[], bigint[], bigint[], bigint[]) IS 'Notes tallies of a lane.';

CREATE VIEW weir.uncounted_events WITH (security_barrier) AS
SELECT customer, lane, duplicate, quarantined, admitted, noted_at FROM weir.lane_tallies
WHERE (SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.uncounted_events IS 'Events of a customer that are duplicates or were refused, by lane, since the lane began. Restrict customer.';
COMMENT ON COLUMN weir.uncounted_events.customer IS 'The customer; empty: events of which nobody can tell whose they are.';
COMMENT ON COLUMN weir.uncounted_events.lane IS 'The lane.';
COMMENT ON COLUMN weir.uncounted_events.duplicate IS 'Duplicates of events that were counted.';
COMMENT ON COLUMN weir.uncounted_events.quarantined IS 'Refused: they are in the quarantine topic.';
COMMENT ON COLUMN weir.uncounted_events.admitted IS 'Admitted from there later and counted: of a lane of admitted events.';
COMMENT ON COLUMN weir.uncounted_events.noted_at IS 'When a rater noted that last.';

-- 2. On the invoice ------------------------------------------------------------------------------------------------------

-- The customer's, of all lanes; and how much of it the statement of the contract's invoice before this one did not have.
CREATE FUNCTION weir.uncounted(head weir.invoice_heads) RETURNS json
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH now_at AS (
        SELECT coalesce(sum(t.duplicate), 0) AS duplicate, coalesce(sum(t.quarantined), 0) AS quarantined, coalesce(sum(t.admitted), 0) AS admitted,
               coalesce(json_agg(json_build_object('lane', t.lane, 'duplicate', t.duplicate, 'quarantined', t.quarantined,
                   'admitted', t.admitted) ORDER BY t.lane), '[]') AS lanes
        FROM weir.lane_tallies AS t WHERE t.customer = head.customer
    ), before AS (
        SELECT h.invoice, s.statement -> 'uncounted' AS uncounted
        FROM weir.invoice_heads AS h JOIN weir.invoice_statements AS s ON s.invoice = h.invoice
        WHERE h.customer = head.customer AND h.contract = head.contract AND h.invoice < head.invoice
            AND NOT EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice)
        ORDER BY h.invoice DESC LIMIT 1
    )
    SELECT json_build_object('duplicate', c.duplicate, 'quarantined', c.quarantined, 'admitted', c.admitted, 'since_invoice', b.invoice,
        'new_duplicate', c.duplicate - coalesce((b.uncounted ->> 'duplicate')::numeric, 0),
        'new_quarantined', c.quarantined - coalesce((b.uncounted ->> 'quarantined')::numeric, 0),
        'new_admitted', c.admitted - coalesce((b.uncounted ->> 'admitted')::numeric, 0), 'lanes', c.lanes)
    FROM now_at AS c LEFT JOIN before AS b ON true
$$;
REVOKE ALL ON FUNCTION weir.uncounted(weir.invoice_heads) FROM PUBLIC;
COMMENT ON FUNCTION weir.uncounted(weir.invoice_heads) IS 'Duplicates and refused events of the customer of an invoice that is being made.';

-- As in 0020; with the customer's events that were not counted, and of each lane those that are nobody's.
CREATE OR REPLACE FUNCTION weir.completeness(head weir.invoice_heads) RETURNS json
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    WITH periods AS (
        SELECT DISTINCT r.period_start, r.period_end FROM weir.invoice_ranges AS r
        WHERE r.invoice = head.invoice AND r.customer = head.customer
    ), counted AS (
        SELECT p.period_start, p.period_end, w.meter, count(*) AS windows, sum(w.events) AS events, sum(w.retracted) AS retracted,
               coalesce(sum(w.events) FILTER (WHERE w.unpriced IS NOT NULL), 0) AS unpriced
        FROM periods AS p JOIN weir.rated_windows AS w ON w.customer = head.customer AND w.window_start >= p.period_start
            AND w.window_start < p.period_end AND (w.contract = head.contract OR w.contract IS NULL)
        GROUP BY 1, 2, 3
    )
    SELECT json_build_object(
        'lanes', coalesce((SELECT json_agg(json_build_object('lane', l.lane, 'offset', l.rated_offset, 'through', l.rated_through,
            'read', l.events_read, 'counted', l.events_counted, 'duplicate', l.events_duplicate, 'unmatched', l.events_unmatched,
            'retracted', l.events_retracted, 'quarantined', l.events_quarantined,
            'quarantined_of_nobody', coalesce(t.quarantined, 0)) ORDER BY l.lane)
            FROM weir.lanes AS l LEFT JOIN weir.lane_tallies AS t ON t.lane = l.lane AND t.customer = ''), '[]'),
        'usage', coalesce((SELECT json_agg(json_build_object('service_start', c.period_start, 'service_end', c.period_end,
            'meter', c.meter, 'windows', c.windows, 'events', c.events, 'retracted', c.retracted, 'unpriced', c.unpriced)
            ORDER BY c.period_start, c.meter) FROM counted AS c), '[]'),
        'uncounted', weir.uncounted(head),
        'released_gaps', coalesce((SELECT json_agg(json_build_object('gap', g.gap, 'lane', g.lane, 'time_from', g.time_from,
            'time_to', g.time_to, 'reason', d.reason) ORDER BY g.gap)
            FROM weir.lane_gaps AS g JOIN weir.gap_releases AS d USING (gap)
            WHERE g.is_loss AND EXISTS (SELECT FROM periods AS p WHERE g.time_from < p.period_end AND g.time_to > p.period_start)), '[]'))
$$;
