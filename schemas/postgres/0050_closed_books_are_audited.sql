-- What weir close wrote down of months and of prepaid amounts in them is held against what it follows from: the months are one after
-- the other, and a prepaid amount moved by the line items and invoices that came before the month was closed.

-- Beside audit_mismatches, in its form. What was closed before closed_prepaid was kept (0025) has no row there: an account is looked at
-- from its first row on.
CREATE FUNCTION weir.closed_mismatches() RETURNS TABLE (action text, subject text, mismatch text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    WITH gone AS (
        SELECT f.customer, f.contract, f.month
        FROM (SELECT r.customer, r.contract, r.month FROM weir.closed_revenue AS r
              UNION SELECT p.customer, p.contract, p.month FROM weir.closed_prepaid AS p) AS f
        WHERE NOT EXISTS (SELECT FROM weir.closed_months AS m WHERE m.customer = f.customer AND m.contract = f.contract AND m.month = f.month)
        UNION
        SELECT m.customer, m.contract, n.month
        FROM (SELECT c.customer, c.contract, c.month, lag(c.month) OVER (PARTITION BY c.customer, c.contract ORDER BY c.month) AS before
              FROM weir.closed_months AS c) AS m
        CROSS JOIN LATERAL weir.months_of((m.before + interval '1 month')::date, (m.month - interval '1 month')::date) AS n (month)
    ), kept AS (
        SELECT p.*, p.purchased - lag(p.purchased, 1, 0::numeric) OVER w AS purchased_in, p.invoiced - lag(p.invoiced, 1, 0::numeric) OVER w AS invoiced_in,
               p.drawn - lag(p.drawn, 1, 0::numeric) OVER w AS drawn_in,
               p.earned - lag(p.earned, 1, 0::numeric) OVER w <> p.by_drawdown OR p.lapsed - lag(p.lapsed, 1, 0::numeric) OVER w <> p.by_breakage
                   OR p.deferred <> greatest(p.invoiced - p.earned - p.lapsed, 0) AS is_contradiction
        FROM weir.closed_prepaid AS p WINDOW w AS (PARTITION BY p.customer, p.contract, p.grant_key, p.currency ORDER BY p.month)
    ), lines AS MATERIALIZED (
        SELECT i.* FROM (SELECT DISTINCT p.customer, p.contract FROM weir.closed_prepaid AS p) AS c CROSS JOIN LATERAL (
            SELECT w.* FROM weir.line_item_services AS w WHERE w.customer = c.customer AND w.contract = c.contract AND w.meter IS NULL
                AND (w.basis = 'drawdown' OR w.kind = 'drawdown') OFFSET 0) AS i
    ), moves AS ( -- as in weir.open_prepaid; a line item is of the first month that was closed after it, from its own month on
        SELECT l.customer, l.contract, t.account AS grant_key, l.currency,
               (SELECT min(m.month) FROM weir.closed_months AS m WHERE m.customer = l.customer AND m.contract = l.contract
                    AND m.through_item >= l.line_item_id AND m.month >= date_trunc('month', l.first_day::timestamp)) AS month,
               CASE l.basis WHEN 'drawdown' THEN l.amount ELSE 0 END AS purchased, 0::numeric AS invoiced,
               CASE l.basis WHEN 'drawdown' THEN 0 ELSE -l.amount END AS drawn
        FROM lines AS l JOIN weir.prepaid_terms AS t ON t.customer = l.customer AND t.contract = l.contract AND t.grant_key = l.item
        UNION ALL
        SELECT l.customer, l.contract, l.item, l.currency, p.month, 0, CASE p.document WHEN 'invoice' THEN l.amount ELSE -l.amount END, 0
        FROM lines AS l
        JOIN weir.invoice_ranges AS g ON g.customer = l.customer AND g.contract = l.contract AND g.period_start = l.period_start
            AND g.currency = l.currency AND g.after_item < l.line_item_id AND g.through_item >= l.line_item_id
        JOIN weir.invoice_postings AS p ON p.invoice = g.invoice
        WHERE l.basis = 'drawdown'
        UNION ALL
        SELECT k.customer, k.contract, k.grant_key, k.currency, k.month, -k.purchased_in, -k.invoiced_in, -k.drawn_in FROM kept AS k
    ), altered AS (
        SELECT k.customer, k.contract, k.grant_key, k.currency, k.month FROM kept AS k WHERE k.is_contradiction
        UNION
        SELECT m.customer, m.contract, m.grant_key, m.currency, m.month FROM moves AS m
        WHERE EXISTS (SELECT FROM weir.closed_months AS c WHERE c.customer = m.customer AND c.contract = m.contract AND c.month = m.month)
            AND EXISTS (SELECT FROM weir.closed_prepaid AS p WHERE p.customer = m.customer AND p.contract = m.contract
                AND p.grant_key = m.grant_key AND p.currency = m.currency AND p.month <= m.month)
        GROUP BY m.customer, m.contract, m.grant_key, m.currency, m.month
        HAVING sum(m.purchased) <> 0 OR sum(m.invoiced) <> 0 OR sum(m.drawn) <> 0
    )
    SELECT 'closed', 'customer ' || g.customer || CASE WHEN g.contract = '' THEN '' ELSE ', contract ' || g.contract END || ', ' || to_char(g.month, 'YYYY-MM'),
           'is gone from weir.closed_months, where it was closed: restore its row from a backup'
        FROM gone AS g
    UNION ALL
    SELECT 'closed', 'customer ' || a.customer || CASE WHEN a.contract = '' THEN '' ELSE ', contract ' || a.contract END || ', ' || a.grant_key || ', '
               || a.currency || ', ' || to_char(min(a.month), 'YYYY-MM'),
           'of weir.closed_prepaid does not follow from the month before it, line items and invoices: restore its row from a backup'
        FROM altered AS a GROUP BY a.customer, a.contract, a.grant_key, a.currency
    ORDER BY 1, 2
$$;
REVOKE ALL ON FUNCTION weir.closed_mismatches() FROM PUBLIC;
COMMENT ON FUNCTION weir.closed_mismatches() IS 'As audit_mismatches, of closed_months and closed_prepaid.';
