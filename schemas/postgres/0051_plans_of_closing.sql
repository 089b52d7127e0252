-- Closing calls these for each customer, and most often finds nothing to do: as in 0038, a session plans them once in this language, and
-- not at each call, which was a quarter of what it costs to close a customer's periods and three quarters of seeing that all are closed.
-- They say what they said before.

CREATE OR REPLACE FUNCTION weir.closing_end(of_contract text, through_day date, through_at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN coalesce(through_at, (through_day + 1)::timestamp AT TIME ZONE
        coalesce((SELECT c.timezone FROM weir.contracts AS c WHERE c.contract = of_contract), 'UTC'));
END
$$;

CREATE OR REPLACE FUNCTION weir.closing_plan(of_customer text, through_day date, through_at timestamptz) RETURNS SETOF weir.closing_step
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
    WITH free AS MATERIALIZED (
        SELECT u.* FROM weir.uninvoiced(of_customer) AS u
    ), live AS MATERIALIZED (
        SELECT h.contract, h.period_start, h.currency FROM weir.invoice_heads AS h
        WHERE h.customer = of_customer AND h.kind = 'period'
            AND NOT EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice)
    ), ends AS MATERIALIZED (
        SELECT c.contract, weir.closing_end(c.contract, through_day, through_at) AS through
        FROM (SELECT DISTINCT p.contract FROM weir.billing_periods AS p WHERE p.customer = of_customer
              UNION SELECT f.contract FROM free AS f) AS c
    ), periods AS MATERIALIZED (
        SELECT p.contract, p.period_start, p.period_end, p.is_invoiced, p.has_ended,
               CASE WHEN p.has_ended AND (NOT p.is_invoiced OR EXISTS (SELECT FROM free AS f WHERE f.contract = p.contract))
                    THEN p.why END AS why
        FROM (SELECT b.contract, b.period_start, b.period_end, b.period_end <= e.through AS has_ended, b.why,
                     EXISTS (SELECT FROM live AS l WHERE l.contract = b.contract AND l.period_start = b.period_start) AS is_invoiced
              FROM weir.period_obstacles AS b JOIN ends AS e USING (contract) WHERE b.customer = of_customer) AS p
    ), ready AS MATERIALIZED (
        SELECT p.contract, p.period_start, p.period_end FROM periods AS p
        WHERE p.has_ended AND p.why IS NULL
            AND NOT EXISTS (SELECT FROM periods AS b WHERE b.contract = p.contract AND b.period_start < p.period_start
                AND b.has_ended AND b.why IS NOT NULL AND NOT b.is_invoiced)
    ), aimed AS MATERIALIZED (
        SELECT f.*, t.period_start AS target_start, t.period_end AS target_end
        FROM free AS f LEFT JOIN LATERAL (
            SELECT r.period_start, r.period_end FROM ready AS r
            WHERE r.contract = f.contract
                AND CASE WHEN f.advance_at IS NULL THEN r.period_start >= f.period_start ELSE r.period_end = f.advance_at END
                AND NOT EXISTS (SELECT FROM live AS l WHERE l.contract = r.contract AND l.period_start = r.period_start
                    AND l.currency = f.currency)
            ORDER BY r.period_start LIMIT 1) AS t ON true
    ), early AS ( -- the period that ends just then has its invoice, or there is none
        SELECT a.* FROM aimed AS a JOIN ends AS e USING (contract)
        WHERE a.target_start IS NULL AND a.advance_at <= e.through
            AND NOT EXISTS (SELECT FROM weir.billing_periods AS p WHERE p.customer = of_customer AND p.contract = a.contract
                AND p.period_end = a.advance_at
                AND NOT EXISTS (SELECT FROM live AS l WHERE l.contract = p.contract AND l.period_start = p.period_start
                    AND l.currency = a.currency))
    ), left_over AS (
        SELECT a.* FROM aimed AS a JOIN ends AS e USING (contract)
        WHERE a.target_start IS NULL AND a.advance_at IS NULL AND a.period_end + (a.period_end - a.period_start) <= e.through
            AND NOT EXISTS (SELECT FROM weir.billing_periods AS p WHERE p.customer = of_customer AND p.contract = a.contract
                AND p.period_start >= a.period_start
                AND NOT EXISTS (SELECT FROM live AS l WHERE l.contract = p.contract AND l.period_start = p.period_start
                    AND l.currency = a.currency))
            AND NOT EXISTS (SELECT FROM periods AS p WHERE p.contract = a.contract AND p.period_start = a.period_start
                AND p.why IS NOT NULL)
    )
    SELECT a.contract, 'period', a.target_start, a.target_end, a.currency, a.period_start, a.period_end, a.after_item, a.through_item,
           a.replaces, NULL::text, a.advance_at
        FROM aimed AS a WHERE a.target_start IS NOT NULL
    UNION ALL
    SELECT a.contract, 'advance', a.advance_at, a.period_end, a.currency, a.period_start, a.period_end, a.after_item, a.through_item,
           a.replaces, NULL, a.advance_at
        FROM early AS a
    UNION ALL
    SELECT o.contract, 'correction', max(o.period_start) OVER same, max(o.period_end) OVER same, o.currency, o.period_start,
           o.period_end, o.after_item, o.through_item, o.replaces, NULL, NULL
        FROM left_over AS o WINDOW same AS (PARTITION BY o.contract, o.currency)
    UNION ALL
    SELECT p.contract, NULL, p.period_start, p.period_end, NULL, NULL, NULL, NULL, NULL, NULL, p.why, NULL
        FROM periods AS p WHERE p.has_ended AND p.why IS NOT NULL AND NOT p.is_invoiced;
END
$$;

CREATE OR REPLACE FUNCTION weir.drop_old_drafts(of_customer text, through_day date, through_at timestamptz, by_whom text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    INSERT INTO weir.invoice_voids (invoice, voided_by, reason)
    SELECT h.invoice, by_whom, 'line items came since: a newer draft takes its place'
    FROM weir.invoice_heads AS h LEFT JOIN weir.period_obstacles AS p USING (customer, contract, period_start)
    WHERE h.customer = of_customer AND NOT EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice)
        AND NOT EXISTS (SELECT FROM weir.invoice_numbers AS n WHERE n.invoice = h.invoice)
        AND weir.invoice_instant(h.kind, h.period_start, h.period_end) <= weir.closing_end(h.contract, through_day, through_at)
        AND (p.why IS NULL OR h.kind = 'advance')
        AND EXISTS (SELECT FROM weir.uninvoiced(of_customer) AS u WHERE u.contract = h.contract AND u.currency = h.currency
            AND CASE WHEN u.advance_at IS NOT NULL THEN u.advance_at = weir.invoice_instant(h.kind, h.period_start, h.period_end) AND h.kind <> 'correction'
                     ELSE u.period_start <= h.period_start AND h.kind <> 'advance' END);
END
$$;
