-- What an invoice rests on: how far each lane's events are in the ledger, and what was counted of the customer's.

-- 1. How far the ledger is -------------------------------------------------------------------------------------------------

-- A rater notes these together, after it has come to the end of a lane's list of work and before it settles periods by it.
ALTER TABLE weir.lanes ADD COLUMN rated_offset bigint, ADD COLUMN rated_through timestamptz, ADD COLUMN events_read bigint,
    ADD COLUMN events_counted bigint, ADD COLUMN events_duplicate bigint, ADD COLUMN events_unmatched bigint,
    ADD COLUMN events_retracted bigint, ADD COLUMN events_quarantined bigint, ADD COLUMN rated_at timestamptz;
COMMENT ON COLUMN weir.lanes.rated_offset IS 'Of the events below this offset, all that closed is in the ledger, or held.';
COMMENT ON COLUMN weir.lanes.rated_through IS 'Windows of these events that end until then are closed, and in the ledger or held.';
COMMENT ON COLUMN weir.lanes.events_read IS 'Events that the lane had read at rated_offset since it began; the five that follow add up to it.';
COMMENT ON COLUMN weir.lanes.events_counted IS 'Of them, counted.';
COMMENT ON COLUMN weir.lanes.events_duplicate IS 'Of them, duplicates of events that were counted.';
COMMENT ON COLUMN weir.lanes.events_unmatched IS 'Of them, of no meter.';
COMMENT ON COLUMN weir.lanes.events_retracted IS 'Of them, retractions that took an event out again.';
COMMENT ON COLUMN weir.lanes.events_quarantined IS 'Of them, refused: they are in the quarantine topic.';
COMMENT ON COLUMN weir.lanes.rated_at IS 'When a rater noted that last.';

CREATE FUNCTION weir.note_rated(names text[], offsets bigint[], through timestamptz[], counts bigint[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE weir.lanes AS l SET rated_offset = r.at_offset, rated_through = r.through, events_read = counts[6 * r.place - 5],
        events_counted = counts[6 * r.place - 4], events_duplicate = counts[6 * r.place - 3], events_unmatched = counts[6 * r.place - 2],
        events_retracted = counts[6 * r.place - 1], events_quarantined = counts[6 * r.place], rated_at = now()
    FROM unnest(names, offsets, through) WITH ORDINALITY AS r(name, at_offset, through, place)
    WHERE l.lane = r.name
$$;
REVOKE ALL ON FUNCTION weir.note_rated(text[], bigint[], timestamptz[], bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION weir.note_rated(text[], bigint[], timestamptz[], bigint[]) IS 'Notes of several lanes how far they are rated; counts has six for each.';

-- 2. The statement ---------------------------------------------------------------------------------------------------------

CREATE TABLE weir.invoice_statements (
    invoice bigint PRIMARY KEY REFERENCES weir.invoice_heads DEFERRABLE INITIALLY DEFERRED,
    statement json NOT NULL CHECK (json_typeof(statement) = 'object')
);
COMMENT ON TABLE weir.invoice_statements IS 'What each invoice rests on, as it was when the invoice was made (docs/invoices.md). Invoices of before this table have none.';
COMMENT ON COLUMN weir.invoice_statements.invoice IS 'The invoice.';
COMMENT ON COLUMN weir.invoice_statements.statement IS 'lanes: how far each is in the ledger, and what became of its events; usage: what was counted of the customer, by service period and meter; released_gaps: usage that was lost and decided on.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON weir.invoice_statements FOR EACH ROW EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON weir.invoice_statements
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE ALL ON weir.invoice_statements FROM PUBLIC;

-- rated_windows is of the same instant as the line items: both are written under the customer's lock, which is held here.
CREATE FUNCTION weir.completeness(head weir.invoice_heads) RETURNS json
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
            'retracted', l.events_retracted, 'quarantined', l.events_quarantined) ORDER BY l.lane) FROM weir.lanes AS l), '[]'),
        'usage', coalesce((SELECT json_agg(json_build_object('service_start', c.period_start, 'service_end', c.period_end,
            'meter', c.meter, 'windows', c.windows, 'events', c.events, 'retracted', c.retracted, 'unpriced', c.unpriced)
            ORDER BY c.period_start, c.meter) FROM counted AS c), '[]'),
        'released_gaps', coalesce((SELECT json_agg(json_build_object('gap', g.gap, 'lane', g.lane, 'time_from', g.time_from,
            'time_to', g.time_to, 'reason', d.reason) ORDER BY g.gap)
            FROM weir.lane_gaps AS g JOIN weir.gap_releases AS d USING (gap)
            WHERE g.is_loss AND EXISTS (SELECT FROM periods AS p WHERE g.time_from < p.period_end AND g.time_to > p.period_start)), '[]'))
$$;
REVOKE ALL ON FUNCTION weir.completeness(weir.invoice_heads) FROM PUBLIC;
COMMENT ON FUNCTION weir.completeness(weir.invoice_heads) IS 'What an invoice that is being made rests on.';

CREATE FUNCTION weir.state_completeness() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO weir.invoice_statements (invoice, statement) VALUES (NEW.invoice, weir.completeness(NEW));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.state_completeness() IS 'Every invoice has its statement, whoever makes it.';
CREATE TRIGGER states_completeness AFTER INSERT ON weir.invoice_heads FOR EACH ROW EXECUTE FUNCTION weir.state_completeness();

-- As before, followed by the statement where there is one: digests of before stay what they are.
ALTER FUNCTION weir.invoice_digest(bigint) RENAME TO invoice_digest_of_lines;
CREATE FUNCTION weir.invoice_digest(of_invoice bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT encode(sha256(convert_to(weir.invoice_digest_of_lines(of_invoice) || s.statement::text, 'UTF8')), 'hex')
                     FROM weir.invoice_statements AS s WHERE s.invoice = of_invoice), weir.invoice_digest_of_lines(of_invoice))
$$;
REVOKE ALL ON FUNCTION weir.invoice_digest(bigint) FROM PUBLIC;
COMMENT ON FUNCTION weir.invoice_digest(bigint) IS 'SHA-256 of an invoice: its head, its lines, its ranges of line items and its statement.';
COMMENT ON FUNCTION weir.invoice_digest_of_lines(bigint) IS 'The same without the statement.';

-- 3. On the document -------------------------------------------------------------------------------------------------------

-- As in 0018, with the statement.
CREATE OR REPLACE FUNCTION weir.invoice_document(of_invoice bigint, of_document text) RETURNS json
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    WITH zone AS (
        SELECT coalesce((SELECT c.timezone FROM weir.contracts AS c JOIN weir.invoice_heads AS h USING (contract)
                         WHERE h.invoice = of_invoice), 'UTC') AS name
    ), sign AS (
        SELECT CASE of_document WHEN 'credit_note' THEN -1 ELSE 1 END AS of
    )
    SELECT json_build_object(
        'document', of_document, 'invoice', i.invoice, 'invoice_number', i.invoice_number, 'credit_note_number', i.credit_note_number,
        'state', i.state, 'kind', i.kind, 'void_reason', i.void_reason,
        'replaces', (SELECT r.invoice_number FROM weir.invoices AS r WHERE r.invoice = i.replaces),
        'customer', i.customer, 'contract', i.contract, 'timezone', zone.name,
        'period_start', i.period_start, 'period_end', i.period_end,
        'period_first_day', (i.period_start AT TIME ZONE zone.name)::date,
        'period_last_day', ((i.period_end - interval '1 microsecond') AT TIME ZONE zone.name)::date,
        'made_at', i.made_at, 'issued_at', n.issued_at, 'issued_day', (n.issued_at AT TIME ZONE zone.name)::date,
        'voided_at', i.voided_at, 'currency', i.currency, 'amount', (sign.of * i.amount)::text, 'total', (sign.of * i.total)::text,
        'taxes', 'not included', 'seller', i.seller, 'buyer', i.buyer,
        'lines', coalesce((SELECT json_agg(json_build_object(
            'line', r.line, 'is_adjustment', r.is_adjustment, 'kind', r.kind, 'item', r.item, 'meter', r.meter, 'dimensions', r.dimensions,
            'service_start', r.service_start, 'service_end', r.service_end,
            'service_first_day', (r.service_start AT TIME ZONE zone.name)::date,
            'service_last_day', ((r.service_end - interval '1 microsecond') AT TIME ZONE zone.name)::date,
            'price_book', r.price_book, 'price_book_version', r.price_book_version, 'model', r.model, 'component', r.component,
            'tier', r.tier, 'unit_price', r.unit_price::text, 'quantity', (sign.of * r.quantity)::text,
            'amount', (sign.of * r.amount)::text, 'invoice_amount', (sign.of * r.invoice_amount)::text, 'line_items', r.line_items,
            'corrected_invoice', coalesce(c.invoice_number, c.invoice::text), 'corrected_line', r.corrected_line,
            'tax_category', r.tax_category) ORDER BY r.line)
            FROM weir.invoice_rows AS r LEFT JOIN weir.invoices AS c ON c.invoice = r.corrected_invoice
            WHERE r.invoice = i.invoice), '[]'),
        'completeness', (SELECT s.statement FROM weir.invoice_statements AS s WHERE s.invoice = i.invoice))
    FROM weir.invoices AS i CROSS JOIN zone CROSS JOIN sign
    LEFT JOIN weir.invoice_numbers AS n ON n.invoice = i.invoice AND n.document = of_document
    WHERE i.invoice = of_invoice
$$;

CREATE VIEW weir.invoice_completeness WITH (security_barrier) AS
SELECT h.customer, h.contract, h.period_start, s.invoice, s.statement
FROM weir.invoice_statements AS s JOIN weir.invoice_heads AS h USING (invoice)
WHERE (SELECT weir.sees_every_customer(current_user)) OR h.customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.invoice_completeness IS 'What each invoice rests on (docs/invoices.md). Restrict customer.';
COMMENT ON COLUMN weir.invoice_completeness.customer IS 'The customer.';
COMMENT ON COLUMN weir.invoice_completeness.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.invoice_completeness.period_start IS 'Start of the billing period.';
COMMENT ON COLUMN weir.invoice_completeness.invoice IS 'The invoice.';
COMMENT ON COLUMN weir.invoice_completeness.statement IS 'How far each lane was in the ledger, what was counted of the customer, which gaps were decided on.';

-- 4. Periods that cannot be settled ----------------------------------------------------------------------------------------

-- As in 0016; and a period whose amounts do not fit says so.
CREATE OR REPLACE VIEW weir.period_obstacles AS
SELECT p.customer, p.contract, p.period_start, p.period_end, p.is_closed, coalesce(
    (SELECT format('gap %s of lane %s is open: weir release', g.gap, g.lane) FROM weir.open_gaps AS g
        WHERE g.time_from < p.period_end AND g.time_to > p.period_start ORDER BY g.gap LIMIT 1),
    (SELECT format('%s windows of it are held or refused: weir.held_usage', count(*)) FROM weir.held_windows AS h
        WHERE h.customer = p.customer AND h.window_start < p.period_end AND h.window_end > p.period_start
        HAVING count(*) > 0),
    CASE WHEN NOT p.is_closed THEN
        coalesce((SELECT 'refused: ' || f.refused FROM weir.refused_periods AS f
                  WHERE f.customer = p.customer AND f.contract = p.contract AND f.period_start = p.period_start),
                 (SELECT format('not settled: lane %s is at %s', l.lane, to_char(l.watermark AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
                  FROM weir.lanes AS l WHERE l.watermark < p.period_end AND l.lane !~ '\.admitted:[0-9]+$'
                  ORDER BY l.watermark, l.lane LIMIT 1),
                 'not settled: no rater has charged its fees and true-up yet') END) AS why
FROM weir.billing_periods AS p;
