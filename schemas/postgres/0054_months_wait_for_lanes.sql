-- Calendar months wait for each lane until it was rated, also one that never was; and for a lane that is gone for good no longer than until
-- somebody says so. A final invoice is void with its credit note and not without, and the months in which invoices count are audited.

-- 1. Lanes that ended ----------------------------------------------------------------------------------------------------------

CREATE TABLE weir.lane_ends (
    lane text COLLATE "C" NOT NULL REFERENCES weir.lanes,
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_by text NOT NULL CHECK (ended_by <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    PRIMARY KEY (lane, ended_at)
);
COMMENT ON TABLE weir.lane_ends IS 'Lanes that are gone for good, such as those of a topic that is not read any more: who said so, when and why. Nothing waits for such a lane, unless a rater has seen it since. Append-only.';
COMMENT ON COLUMN weir.lane_ends.lane IS 'The lane.';
COMMENT ON COLUMN weir.lane_ends.ended_at IS 'When it was said. What raters note of the lane later makes it live again.';
COMMENT ON COLUMN weir.lane_ends.ended_by IS 'Who: user and host of weir release, and the database''s user.';
COMMENT ON COLUMN weir.lane_ends.reason IS 'Why, in the operator''s words.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON weir.lane_ends FOR EACH ROW EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON weir.lane_ends FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE ALL ON weir.lane_ends FROM PUBLIC;

CREATE VIEW weir.live_lanes AS
SELECT l.lane, l.watermark, l.rated_through, least(l.watermark, coalesce(l.rated_through, 'epoch')) AS through,
       greatest(l.seen_at, l.rated_at) AS seen_at
FROM weir.lanes AS l
WHERE l.lane !~ '\.admitted:[0-9]+$'
    AND NOT EXISTS (SELECT FROM weir.lane_ends AS e WHERE e.lane = l.lane AND e.ended_at > greatest(l.seen_at, l.rated_at));
COMMENT ON VIEW weir.live_lanes IS 'The lanes that months, periods and expiries wait for: all that have a time of their own and have not ended.';
COMMENT ON COLUMN weir.live_lanes.lane IS 'The lane.';
COMMENT ON COLUMN weir.live_lanes.watermark IS 'As in lanes.';
COMMENT ON COLUMN weir.live_lanes.rated_through IS 'As in lanes. Null: no rater has worked its list to the end yet.';
COMMENT ON COLUMN weir.live_lanes.through IS 'All its windows that end until then are closed, and in the ledger or held; 1970 where that is not known.';
COMMENT ON COLUMN weir.live_lanes.seen_at IS 'When a rater noted something of it last.';

CREATE FUNCTION weir.audit_lane_end() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    PERFORM weir.record_audit('lane_end', 'lane ' || jsonb_build_array(NEW.lane, NEW.ended_at)::text, to_jsonb(NEW));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.audit_lane_end() IS 'Records in audit_log that a lane ended.';
CREATE TRIGGER audited AFTER INSERT ON weir.lane_ends FOR EACH ROW EXECUTE FUNCTION weir.audit_lane_end();
COMMENT ON COLUMN weir.audit_log.action IS 'migrate, apply, release, lane_end, repair, scope, unscope, rerate (it began), rerated (it is through), close (it began), closed (it is through), invoice (one became final), credit_note, void (of an invoice), months (they were closed), grant, grant_void or grant_refund.';

-- Beside audit_mismatches, in its form.
CREATE FUNCTION weir.lane_mismatches() RETURNS TABLE (action text, subject text, mismatch text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT 'lane_end', coalesce(f.subject, a.subject),
           CASE WHEN a.entry IS NULL THEN 'is not in the log' WHEN f.subject IS NULL THEN 'is gone, and the log tells of it'
                ELSE 'is not what the log tells' END
        FROM (SELECT 'lane ' || jsonb_build_array(e.lane, e.ended_at)::text AS subject, to_jsonb(e) AS detail FROM weir.lane_ends AS e) AS f
        FULL JOIN (SELECT * FROM weir.audit_log WHERE audit_log.action = 'lane_end') AS a ON a.subject = f.subject
        WHERE a.entry IS NULL OR f.subject IS NULL OR f.detail <> a.detail
    ORDER BY 1, 2
$$;
REVOKE ALL ON FUNCTION weir.lane_mismatches() FROM PUBLIC;
COMMENT ON FUNCTION weir.lane_mismatches() IS 'As audit_mismatches, of lanes that ended.';

-- As in 0020; a lane that ended is not waited for.
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
                  FROM weir.live_lanes AS l WHERE l.watermark < p.period_end
                  ORDER BY l.watermark, l.lane LIMIT 1),
                 'not settled: no rater has charged its fees and true-up yet') END) AS why
FROM weir.billing_periods AS p;

-- 2. Months --------------------------------------------------------------------------------------------------------------------

-- As in 0038, for lanes that have not ended; one that was never rated to its end is waited for, too.
CREATE OR REPLACE FUNCTION weir.months_to_close(of_customer text, through_day date, through_at timestamptz) RETURNS TABLE(contract text, timezone text, first_month date, last_month date)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT h.contract, h.timezone, coalesce(h.next_month, date_trunc('month', h.since AT TIME ZONE h.timezone)::date),
           (date_trunc('month', h.until AT TIME ZONE h.timezone) - interval '1 month')::date
    FROM (SELECT k.contract, coalesce(f.timezone, t.timezone, 'UTC') AS timezone, k.since,
                 (SELECT (max(m.month) + interval '1 month')::date FROM weir.closed_months AS m
                  WHERE m.customer = of_customer AND m.contract = k.contract) AS next_month,
                 least(weir.closing_end(k.contract, through_day, through_at),
                       (SELECT min(l.through) FROM weir.live_lanes AS l),
                       (SELECT min(g.time_from) FROM weir.open_gaps AS g),
                       (SELECT min(w.window_start) FROM weir.held_windows AS w WHERE w.customer = of_customer),
                       (SELECT min(p.period_end) - interval '1 microsecond' FROM weir.billing_periods AS p
                        WHERE p.customer = of_customer AND p.contract = k.contract AND NOT p.is_closed)) AS until
          FROM (SELECT p.contract, min(p.period_start) AS since
                FROM (SELECT b.contract, b.period_start FROM weir.billing_periods AS b WHERE b.customer = of_customer
                      UNION ALL
                      SELECT b.contract, b.period_start FROM weir.past_periods AS b WHERE b.customer = of_customer) AS p
                GROUP BY p.contract) AS k
          LEFT JOIN weir.revenue_contracts AS f ON f.contract = k.contract
          LEFT JOIN weir.contracts AS t ON t.contract = k.contract) AS h;
END
$$;

-- After closing: what ended by then and is open still, and the first thing that it waits for.
CREATE FUNCTION weir.months_left_open(of_customer text, through_day date, through_at timestamptz)
RETURNS TABLE (contract text, starts_at timestamptz, ends_at timestamptz, months bigint, why text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT m.contract, m.first_month::timestamp AT TIME ZONE m.timezone, m.after_month::timestamp AT TIME ZONE m.timezone,
           (SELECT count(*) FROM weir.months_of(m.first_month, (m.after_month - interval '1 month')::date)), w.why
    FROM (SELECT c.contract, c.timezone, greatest(c.first_month, (c.last_month + interval '1 month')::date) AS first_month,
                 date_trunc('month', weir.closing_end(c.contract, through_day, through_at) AT TIME ZONE c.timezone)::date AS after_month
          FROM weir.months_to_close(of_customer, through_day, through_at) AS c) AS m
    CROSS JOIN LATERAL (
        SELECT o.why FROM (
            SELECT l.through AS at, 1 AS place, format('not rated: lane %s is at %s%s', l.lane,
                       CASE l.through WHEN 'epoch' THEN 'its beginning'
                            ELSE to_char(l.through AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') END,
                       CASE WHEN l.seen_at < now() - interval '1 hour'
                            THEN ', last seen at ' || to_char(l.seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                                 || ' (if it is gone for good: weir release --end)' ELSE '' END) AS why
                FROM (SELECT * FROM weir.live_lanes AS a ORDER BY a.through, a.lane LIMIT 1) AS l
            UNION ALL
            SELECT g.time_from, 2, format('gap %s of lane %s is open: weir release', g.gap, g.lane)
                FROM (SELECT * FROM weir.open_gaps AS a ORDER BY a.time_from, a.gap LIMIT 1) AS g
            UNION ALL
            SELECT min(h.window_start), 3, format('%s windows from %s on are held or refused: weir.held_usage', count(*),
                       to_char(min(h.window_start) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
                FROM weir.held_windows AS h WHERE h.customer = of_customer HAVING count(*) > 0
            UNION ALL
            SELECT p.period_end - interval '1 microsecond', 4, format('not settled: the billing period from %s on',
                       to_char(p.period_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
                FROM (SELECT * FROM weir.billing_periods AS a WHERE a.customer = of_customer AND a.contract = m.contract AND NOT a.is_closed
                      ORDER BY a.period_end LIMIT 1) AS p) AS o
        ORDER BY o.at, o.place LIMIT 1) AS w
    WHERE m.first_month < m.after_month ORDER BY m.contract;
END
$$;
REVOKE ALL ON FUNCTION weir.months_left_open(text, date, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION weir.months_left_open(text, date, timestamptz) IS 'Calendar months of each contract of a customer that have ended by then and that weir close cannot close now: from when to when, how many they are, and what they wait for first.';

-- 3. Invoices ------------------------------------------------------------------------------------------------------------------

-- A time in a digest is a text, in the zone of whoever asks: in psql, too, it is weir's own. Digests that weir gave stay what they are.
ALTER FUNCTION weir.invoice_digest_of_lines(bigint) SET timezone = 'UTC';
ALTER FUNCTION weir.invoice_digest(bigint) SET timezone = 'UTC';

CREATE FUNCTION weir.check_void() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF EXISTS (SELECT FROM weir.invoice_numbers AS n WHERE n.invoice = NEW.invoice AND n.document = 'credit_note')
            <> (EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = NEW.invoice)
                AND EXISTS (SELECT FROM weir.invoice_numbers AS n WHERE n.invoice = NEW.invoice AND n.document = 'invoice')) THEN
        RAISE EXCEPTION 'invoice %: a final invoice is void with its credit note, and no other has one (weir invoice void)', NEW.invoice
            USING ERRCODE = 'check_violation', CONSTRAINT = 'void_has_credit_note';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.check_void() IS 'Sees to it, when a transaction ends, that final invoices are void with a credit note and that no other has one.';
CREATE CONSTRAINT TRIGGER void_has_credit_note AFTER INSERT ON weir.invoice_voids DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION weir.check_void();
CREATE CONSTRAINT TRIGGER void_has_credit_note AFTER INSERT ON weir.invoice_numbers DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION weir.check_void();

-- Beside audit_mismatches, in its form: invoices that are void without a credit note, or the other way; and in which month each invoice
-- and each credit note counts, with what it counts, which open months are worked out from and closed ones were. A month is the one of the
-- invoice's time in its contract's zone, in a catalog of before that may be another one (they are only read where it is needed); later, where
-- the months before were closed when it got its number.
CREATE FUNCTION weir.posting_mismatches() RETURNS TABLE (action text, subject text, mismatch text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    WITH zones AS MATERIALIZED (
        SELECT DISTINCT s.contract, s.timezone FROM weir.catalog_versions AS v CROSS JOIN LATERAL weir.shown_contracts(v.catalog) AS s
    ), due AS (
        SELECT n.invoice, n.document, h.customer, h.contract, h.currency, s.sign * h.amount AS amount, s.sign * (h.total - h.amount) AS rounding,
               CASE h.kind WHEN 'advance' THEN h.period_start ELSE h.period_end - interval '1 microsecond' END AS at,
               coalesce(f.timezone, c.timezone, 'UTC') AS timezone,
               CASE n.document WHEN 'credit_note' THEN
                   (SELECT p.month FROM weir.invoice_postings AS p WHERE p.invoice = n.invoice AND p.document = 'invoice') END AS of_invoice
        FROM weir.invoice_numbers AS n JOIN weir.invoice_heads AS h USING (invoice)
        CROSS JOIN LATERAL (SELECT CASE n.document WHEN 'invoice' THEN 1 ELSE -1 END AS sign) AS s
        LEFT JOIN weir.revenue_contracts AS f ON f.contract = h.contract
        LEFT JOIN weir.contracts AS c ON c.contract = h.contract
    ), held AS (
        SELECT coalesce(d.invoice, p.invoice) AS invoice, coalesce(d.document, p.document) AS document, CASE
            WHEN p.invoice IS NULL THEN 'is gone from weir.invoice_postings'
            WHEN d.invoice IS NULL THEN 'is in weir.invoice_postings, and has no number'
            WHEN (p.customer, p.contract, p.currency, p.amount, p.rounding) <> (d.customer, d.contract, d.currency, d.amount, d.rounding)
                THEN 'is not what was issued'
            WHEN p.month = greatest(date_trunc('month', d.at AT TIME ZONE d.timezone)::date, d.of_invoice) THEN NULL
            WHEN p.month > greatest(date_trunc('month', d.at AT TIME ZONE d.timezone)::date, d.of_invoice) AND k.is_closed THEN NULL
            WHEN EXISTS (SELECT FROM zones AS z
                    CROSS JOIN LATERAL (SELECT greatest(date_trunc('month', d.at AT TIME ZONE z.timezone)::date, d.of_invoice) AS month) AS e
                    WHERE z.contract = d.contract AND (p.month = e.month OR p.month > e.month AND k.is_closed)) THEN NULL
            ELSE 'counts in another month than its own' END AS mismatch
        FROM due AS d FULL JOIN weir.invoice_postings AS p ON p.invoice = d.invoice AND p.document = d.document
        LEFT JOIN LATERAL (SELECT EXISTS (SELECT FROM weir.closed_months AS m WHERE m.customer = p.customer AND m.contract = p.contract
            AND m.month = (p.month - interval '1 month')::date) AS is_closed) AS k ON true
    ), counted AS (
        SELECT p.customer, p.contract, p.currency, p.month, sum(p.amount) AS amount, sum(p.rounding) AS rounding
        FROM weir.invoice_postings AS p
        JOIN (SELECT m.customer, m.contract, max(m.month) AS month FROM weir.closed_months AS m GROUP BY 1, 2) AS f
            ON f.customer = p.customer AND f.contract = p.contract AND f.month >= p.month
        GROUP BY 1, 2, 3, 4
    )
    SELECT h.document, 'invoice ' || h.invoice, CASE h.document WHEN 'invoice' THEN '' ELSE 'its credit note ' END || h.mismatch
               || ': restore its row of weir.invoice_postings from a backup'
        FROM held AS h WHERE h.mismatch IS NOT NULL
    UNION ALL
    SELECT 'closed', 'customer ' || coalesce(r.customer, c.customer)
               || CASE WHEN coalesce(r.contract, c.contract) = '' THEN '' ELSE ', contract ' || coalesce(r.contract, c.contract) END
               || ', ' || coalesce(r.currency, c.currency) || ', ' || to_char(coalesce(r.month, c.month), 'YYYY-MM'),
           'was closed with other invoices than those that weir.invoice_postings has in it'
        FROM counted AS c FULL JOIN weir.closed_revenue AS r
            ON r.customer = c.customer AND r.contract = c.contract AND r.currency = c.currency AND r.month = c.month
        WHERE coalesce(c.amount, 0) <> coalesce(r.invoiced, 0) OR coalesce(c.rounding, 0) <> coalesce(r.rounding, 0)
    UNION ALL
    SELECT 'void', 'invoice ' || s.invoice, CASE WHEN s.is_credited THEN 'has a credit note, and is not a final one that is void'
               ELSE 'was final and is void without a credit note, so it counts in revenue still' END
        FROM (SELECT h.invoice, v.invoice IS NOT NULL AS is_void, i.invoice IS NOT NULL AS is_final, c.invoice IS NOT NULL AS is_credited
              FROM weir.invoice_heads AS h LEFT JOIN weir.invoice_voids AS v ON v.invoice = h.invoice
              LEFT JOIN weir.invoice_numbers AS i ON i.invoice = h.invoice AND i.document = 'invoice'
              LEFT JOIN weir.invoice_numbers AS c ON c.invoice = h.invoice AND c.document = 'credit_note') AS s
        WHERE s.is_credited <> (s.is_void AND s.is_final)
    ORDER BY 1, 2
$$;
REVOKE ALL ON FUNCTION weir.posting_mismatches() FROM PUBLIC;
COMMENT ON FUNCTION weir.posting_mismatches() IS 'As audit_mismatches, of the months in which invoices and credit notes count, and of void invoices.';
