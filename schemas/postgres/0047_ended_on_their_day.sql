-- What is left of a grant that was ended by an order is breakage of the day of its end, as docs/revenue.md 2.4 has it: ended at the
-- first instant of a month it was breakage of the month before, in which a refund earned what the month after took back. And a credit
-- note's rows in the columns of FOCUS name the lines that they take back, not those that these lines corrected.

-- As in 0035, with when an end was ordered: as of a time before that a grant has not ended.
CREATE OR REPLACE VIEW weir.grant_balances WITH (security_barrier) AS
SELECT g.customer, g.contract, g.grant_key, g.funding, g.price, g.starts_at, g.expires_at, l.balance_after AS balance, g.currency,
       l.number AS entries, l.recorded_at AS changed_at, e.kind AS ended, e.ends_at, g.rolled_from, e.ordered_at AS end_ordered_at
FROM weir.grants_now AS g
     CROSS JOIN LATERAL (SELECT e.balance_after, e.number, e.recorded_at FROM weir.grant_entries AS e
                         WHERE e.customer = g.customer AND e.contract = g.contract AND e.grant_key = g.grant_key
                         ORDER BY e.number DESC LIMIT 1) AS l
     LEFT JOIN weir.grant_ends AS e ON e.customer = g.customer AND e.contract = g.contract AND e.grant_key = g.grant_key
WHERE (SELECT weir.sees_every_customer(current_user)) OR g.customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON COLUMN weir.grant_balances.end_ordered_at IS 'When weir void or weir refund was run; null: it was not.';

-- As in 0041.
CREATE OR REPLACE VIEW weir.invoice_focus WITH (security_barrier) AS
SELECT (s.of * r.invoice_amount)::text AS "BilledCost", h.customer AS "BillingAccountId", coalesce(h.buyer ->> 'name', h.customer) AS "BillingAccountName",
       'Customer' AS "BillingAccountType", h.currency AS "BillingCurrency",
       to_char(h.period_end AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "BillingPeriodEnd",
       to_char(h.period_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "BillingPeriodStart",
       CASE r.kind WHEN 'usage' THEN 'Usage' WHEN 'overage' THEN 'Usage' WHEN 'fee' THEN 'Purchase' WHEN 'true_up' THEN 'Purchase'
                   WHEN 'drawdown' THEN 'Credit' ELSE 'Adjustment' END AS "ChargeCategory",
       CASE WHEN r.is_adjustment OR n.document = 'credit_note' THEN 'Correction' END AS "ChargeClass",
       CASE r.kind WHEN 'rounding' THEN 'Rounding of the total'
            ELSE concat_ws(', ', CASE WHEN n.document = 'credit_note' THEN 'Taken back' END, r.item, replace(r.component, '_', ' '),
                           'tier ' || nullif(r.tier, 0)) END AS "ChargeDescription",
       CASE WHEN r.kind IN ('usage', 'overage', 'drawdown') THEN 'Usage-Based' WHEN r.kind = 'fee' AND bought.account IS NULL
            AND NOT EXISTS (SELECT FROM weir.fee_terms AS f WHERE f.price_book = r.price_book AND f.price_book_version = r.price_book_version
                                AND f.fee = r.item AND f.per = 'contract') THEN 'Recurring' ELSE 'One-Time' END AS "ChargeFrequency",
       to_char(r.service_end AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "ChargePeriodEnd",
       to_char(r.service_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "ChargePeriodStart",
       CASE WHEN r.kind IN ('usage', 'overage') THEN (s.of * r.quantity)::text END AS "ConsumedQuantity",
       CASE WHEN r.kind IN ('usage', 'overage') THEN 'Units' END AS "ConsumedUnit",
       (s.of * r.amount)::text AS "ContractedCost", p.unit_price::text AS "ContractedUnitPrice",
       CASE WHEN bought.account IS NULL THEN s.of * r.amount WHEN r.kind = 'drawdown'
            THEN s.of * (r.amount - round(r.amount * bought.price / bought.amount, 12)) ELSE 0.000000000000 END::text AS "EffectiveCost",
       weir.invoice_number(n.series, n.number) AS "InvoiceId", h.seller ->> 'name' AS "InvoiceIssuerName",
       (s.of * r.amount)::text AS "ListCost", p.unit_price::text AS "ListUnitPrice",
       CASE WHEN r.kind <> 'rounding' THEN 'Standard' END AS "PricingCategory",
       p.quantity::text AS "PricingQuantity", CASE WHEN p.quantity IS NOT NULL THEN 'Units' END AS "PricingUnit",
       h.seller ->> 'name' AS "ProviderName", h.seller ->> 'name' AS "PublisherName", 'Other' AS "ServiceCategory",
       coalesce(nullif(r.item, ''), 'Rounding') AS "ServiceName", nullif(r.item, '') AS "SkuId", r.meter AS "SkuMeter",
       nullif(r.item, '') || ':' || r.price_book || coalesce(':' || r.component, '') || coalesce(':' || nullif(r.tier, 0), '') AS "SkuPriceId",
       nullif(h.contract, '') AS "SubAccountId", r.dimensions::text AS "Tags",
       weir.invoice_number(cn.series, cn.number) AS "x_CorrectedInvoiceId",
       CASE n.document WHEN 'credit_note' THEN r.line ELSE r.corrected_line END AS "x_CorrectedInvoiceLine",
       n.document AS "x_Document", r.line AS "x_InvoiceLine", r.kind AS "x_Kind", r.tax_category AS "x_TaxCategory",
       r.price_book_version AS "x_PriceBookVersion"
FROM weir.invoice_numbers AS n JOIN weir.invoice_heads AS h USING (invoice) JOIN weir.invoice_rows AS r USING (invoice)
CROSS JOIN LATERAL (SELECT CASE n.document WHEN 'credit_note' THEN -1 ELSE 1 END AS of) AS s
CROSS JOIN LATERAL (
    SELECT CASE WHEN r.kind = 'rounding' THEN NULL WHEN c.is_product OR r.amount = 0 THEN s.of * r.quantity ELSE sign(s.of * r.amount) END AS quantity,
           CASE WHEN r.kind = 'rounding' THEN NULL WHEN c.is_product THEN r.unit_price ELSE abs(r.amount) END AS unit_price
    FROM (SELECT coalesce(r.unit_price >= 0 AND abs(r.quantity * r.unit_price - r.amount) <= 0.000000000001, false) AS is_product) AS c) AS p
LEFT JOIN weir.prepaid_terms AS t ON r.kind IN ('fee', 'drawdown') AND t.customer = h.customer AND t.contract = h.contract AND t.grant_key = r.item
LEFT JOIN weir.prepaid_terms AS bought ON bought.customer = t.customer AND bought.contract = t.contract AND bought.grant_key = t.account
LEFT JOIN weir.invoice_numbers AS cn ON cn.document = 'invoice'
    AND cn.invoice = CASE WHEN n.document = 'credit_note' THEN n.invoice ELSE r.corrected_invoice END
WHERE (SELECT weir.sees_every_customer(current_user)) OR h.customer IN (SELECT weir.seen_customers(current_user));

-- As in 0025, but for the day of an end.
CREATE OR REPLACE VIEW weir.open_prepaid AS
SELECT c.customer, o.*
FROM weir.customers AS c CROSS JOIN LATERAL (
    WITH terms AS MATERIALIZED (
        SELECT t.contract, t.grant_key, t.account, t.amount, t.price, t.ends_at, t.rolls_until FROM weir.prepaid_terms AS t
        WHERE t.customer = c.customer
    ), spans AS MATERIALIZED (
        SELECT s.* FROM weir.revenue_spans AS s WHERE s.customer = c.customer AND s.contract IN (SELECT t.contract FROM terms AS t)
    ), frontiers AS (
        SELECT DISTINCT s.contract, s.timezone, s.closed_month, s.open_month FROM spans AS s
    ), lines AS MATERIALIZED (
        SELECT i.line_item_id, i.contract, i.item, i.currency, i.period_start, i.basis, i.amount, i.first_day,
               greatest(date_trunc('month', i.first_day::timestamp)::date, s.open_month) AS month
        FROM spans AS s CROSS JOIN LATERAL (
            SELECT w.* FROM weir.line_item_services AS w
            WHERE w.customer = c.customer AND w.period_start = s.period_start AND w.contract = s.contract AND w.meter IS NULL
                AND w.line_item_id > CASE WHEN s.is_past THEN s.through_item ELSE 0 END OFFSET 0) AS i
        WHERE (i.basis = 'drawdown' OR i.kind = 'drawdown')
            AND (i.line_item_id > s.through_item OR s.open_month IS NULL OR i.first_day >= s.open_month)
    ), bases AS MATERIALIZED (
        SELECT l.* FROM frontiers AS f CROSS JOIN LATERAL (
            SELECT DISTINCT ON (p.grant_key, p.currency) p.* FROM weir.closed_prepaid AS p
            WHERE p.customer = c.customer AND p.contract = f.contract ORDER BY p.grant_key, p.currency, p.month DESC) AS l
    ), moves AS (
        SELECT l.contract, t.account AS grant_key, l.currency, l.month, CASE l.basis WHEN 'drawdown' THEN l.amount ELSE 0 END AS purchased,
               0 AS invoiced, CASE l.basis WHEN 'drawdown' THEN 0 ELSE -l.amount END AS drawn
        FROM lines AS l JOIN terms AS t ON t.contract = l.contract AND t.grant_key = l.item
        UNION ALL
        SELECT i.contract, i.item, i.currency, p.month, 0, CASE p.document WHEN 'invoice' THEN i.amount ELSE -i.amount END, 0
        FROM frontiers AS f
        JOIN weir.invoice_postings AS p ON p.customer = c.customer AND p.contract = f.contract
            AND (f.open_month IS NULL OR p.month >= f.open_month)
        JOIN weir.invoice_ranges AS g ON g.invoice = p.invoice CROSS JOIN LATERAL (
            SELECT w.* FROM weir.line_item_services AS w
            WHERE w.customer = c.customer AND w.period_start = g.period_start AND w.contract = g.contract AND w.meter IS NULL
                AND w.line_item_id > g.after_item AND w.line_item_id <= g.through_item OFFSET 0) AS i
        WHERE i.basis = 'drawdown' AND i.currency = g.currency
    ), ends AS ( -- of what goes on when it expires only the rest lapses then: what its entries say
        SELECT t.contract, t.grant_key, t.amount, t.price, date_trunc('month', l.last_day::timestamp)::date AS month, l.last_day,
               CASE WHEN t.rolls_until IS NOT NULL THEN l.rolled_day END AS rolled_day,
               CASE WHEN t.rolls_until IS NOT NULL THEN date_trunc('month', l.rolled_day::timestamp)::date END AS rolled_month,
               CASE WHEN t.rolls_until IS NOT NULL THEN (
                   SELECT coalesce(-sum(e.amount), 0) FROM weir.grant_entries AS e WHERE e.customer = c.customer
                       AND e.contract = t.contract AND e.grant_key = t.grant_key AND e.kind = 'expiry') END AS lapsed_units
        FROM terms AS t JOIN frontiers AS f USING (contract) CROSS JOIN LATERAL (
            SELECT ((t.ends_at - interval '1 microsecond') AT TIME ZONE f.timezone)::date AS rolled_day,
                   ((coalesce(t.rolls_until, t.ends_at) - CASE WHEN EXISTS (
                       SELECT FROM weir.grant_ends AS e WHERE e.customer = c.customer AND e.contract = t.contract
                           AND e.grant_key = t.grant_key || CASE WHEN t.rolls_until IS NULL THEN '' ELSE '+rollover' END
                           AND e.ends_at = coalesce(t.rolls_until, t.ends_at))
                   THEN interval '0' ELSE interval '1 microsecond' END) AT TIME ZONE f.timezone)::date AS last_day) AS l
        WHERE t.account = t.grant_key
    ), sums AS (
        SELECT m.contract, m.grant_key, m.currency, m.month, sum(m.purchased) AS purchased, sum(m.invoiced) AS invoiced, sum(m.drawn) AS drawn
        FROM (SELECT * FROM moves
              UNION ALL
              SELECT e.contract, e.grant_key, a.currency, greatest(n.month, f.open_month), 0, 0, 0
              FROM ends AS e JOIN frontiers AS f USING (contract)
              CROSS JOIN LATERAL (VALUES (e.month), (e.rolled_month)) AS n (month)
              JOIN (SELECT contract, grant_key, currency FROM moves UNION SELECT contract, grant_key, currency FROM bases) AS a
                  USING (contract, grant_key)
              WHERE isfinite(n.month)) AS m
        GROUP BY 1, 2, 3, 4
    ), totals AS (
        SELECT s.contract, s.grant_key, s.currency, s.month, e.month AS end_month, e.amount, e.price, e.last_day, e.rolled_day, e.rolled_month, e.lapsed_units,
               coalesce(b.line_item_id, n.line_item_id) AS line_item_id, coalesce(b.period_start, n.period_start) AS period_start,
               coalesce(b.first_day, n.first_day) AS first_day,
               coalesce(b.purchased, 0) + sum(s.purchased) OVER w AS purchased, coalesce(b.invoiced, 0) + sum(s.invoiced) OVER w AS invoiced,
               coalesce(b.drawn, 0) + sum(s.drawn) OVER w AS drawn, coalesce(b.earned, 0) AS earned_before,
               coalesce(b.lapsed, 0) AS lapsed_before,
               s.purchased <> 0 OR s.invoiced <> 0 OR s.drawn <> 0 AS has_moved
        FROM sums AS s JOIN ends AS e USING (contract, grant_key) LEFT JOIN bases AS b USING (contract, grant_key, currency)
        LEFT JOIN LATERAL (
            SELECT l.line_item_id, l.period_start, l.first_day FROM lines AS l
            WHERE l.basis = 'drawdown' AND l.contract = s.contract AND l.item = s.grant_key AND l.currency = s.currency
            ORDER BY l.line_item_id LIMIT 1) AS n ON true
        WINDOW w AS (PARTITION BY s.contract, s.grant_key, s.currency ORDER BY s.month)
    ), states AS (
        SELECT t.*, r.earned, CASE WHEN t.month >= t.end_month THEN t.purchased - r.earned
                                   WHEN t.month >= t.rolled_month THEN least(weir.earned_share(
                                       t.price, greatest(t.drawn, 0) + t.lapsed_units, t.amount), t.purchased) - r.earned
                                   ELSE 0 END AS lapsed
        FROM totals AS t CROSS JOIN LATERAL (
            SELECT least(weir.earned_share(t.price, t.drawn, t.amount), t.purchased) AS earned OFFSET 0) AS r
    )
    SELECT d.contract, d.grant_key, d.currency, d.month, d.line_item_id, d.period_start, d.first_day, d.last_day, d.rolled_day, d.purchased, d.invoiced,
           d.drawn, d.earned, d.lapsed, d.by_drawdown, d.by_breakage, greatest(d.invoiced - d.earned - d.lapsed, 0) AS deferred
    FROM (SELECT s.*, s.earned - lag(s.earned, 1, s.earned_before) OVER w AS by_drawdown,
                 s.lapsed - lag(s.lapsed, 1, s.lapsed_before) OVER w AS by_breakage
          FROM states AS s WINDOW w AS (PARTITION BY s.contract, s.grant_key, s.currency ORDER BY s.month)) AS d
    WHERE d.has_moved OR d.by_drawdown <> 0 OR d.by_breakage <> 0) AS o;
