-- Revenue: what a discount on the invoice takes off usage is earned with the period's days, and a month's usage is added up before it is
-- divided among days, which takes a fraction of the time where a customer has many line items.

-- 1. When a prepaid amount ends -------------------------------------------------------------------------------------------------

-- As in 0025; nothing is drawn under a contract that is over, from what was ordered no more than from what the catalog lists.
CREATE OR REPLACE FUNCTION weir.keep_order_terms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO weir.prepaid_terms (customer, contract, grant_key, account, amount, price, ends_at)
        VALUES (NEW.customer, NEW.contract, NEW.grant_key, NEW.grant_key, NEW.amount, NEW.price, least(NEW.expires_at,
            (SELECT c.ends_at FROM weir.contracts AS c WHERE c.contract = NEW.contract))) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE FUNCTION weir.ordered_ends(contracts text[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE weir.prepaid_terms AS t
    SET ends_at = n.ends_at, rolls_until = CASE WHEN t.rolls_until > n.ends_at THEN t.rolls_until END
    FROM (SELECT o.customer, o.contract, o.grant_key, least(o.expires_at, c.ends_at, e.ends_at) AS ends_at
          FROM weir.grant_orders AS o JOIN weir.contracts AS c ON c.contract = o.contract
          LEFT JOIN weir.grant_ends AS e ON e.customer = o.customer AND e.contract = o.contract AND e.grant_key = o.grant_key
          WHERE o.contract = ANY (contracts)) AS n
    WHERE t.customer = n.customer AND t.contract = n.contract AND t.grant_key = n.grant_key AND t.ends_at <> n.ends_at
$$;
REVOKE ALL ON FUNCTION weir.ordered_ends(text[]) FROM PUBLIC;
COMMENT ON FUNCTION weir.ordered_ends(text[]) IS 'Notes of what was ordered under some contracts when it ends now.';

CREATE FUNCTION weir.keep_ordered_terms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM weir.grant_orders) THEN
        PERFORM weir.ordered_ends(array(SELECT n.contract FROM applied AS n));
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.keep_ordered_terms() IS 'Notes when grants of contracts that are applied end.';
CREATE TRIGGER keep_ordered AFTER INSERT ON weir.contracts REFERENCING NEW TABLE AS applied
    FOR EACH STATEMENT EXECUTE FUNCTION weir.keep_ordered_terms();
SELECT weir.ordered_ends(array(SELECT c.contract FROM weir.contracts AS c));

-- As in 0025; a rollover that is ended, too: what went on into it lapses then.
CREATE OR REPLACE FUNCTION weir.end_terms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE weir.prepaid_terms AS t SET ends_at = least(t.ends_at, NEW.ends_at)
        WHERE t.customer = NEW.customer AND t.contract = NEW.contract AND t.grant_key = NEW.grant_key;
    UPDATE weir.prepaid_terms AS t SET rolls_until = CASE WHEN NEW.ends_at > t.ends_at THEN least(t.rolls_until, NEW.ends_at) END
        FROM weir.grants AS g
        WHERE g.customer = NEW.customer AND g.contract = NEW.contract AND g.grant_key = NEW.grant_key
            AND t.customer = g.customer AND t.contract = g.contract AND t.grant_key = g.rolled_from;
    RETURN NULL;
END
$$;

-- 2. Days, and months ------------------------------------------------------------------------------------------------------------

-- As in 0025; what a discount on the invoice takes off usage is rateable: it is taken off all of the period's.
CREATE OR REPLACE VIEW weir.line_item_services AS
SELECT i.line_item_id, i.customer, i.contract, i.currency, i.period_start, i.period_end, i.item, i.meter, o.kind, i.amount, o.timezone,
       CASE o.kind WHEN 'fee' THEN CASE o.per WHEN 'contract' THEN 'at_once' WHEN 'grant' THEN 'drawdown' ELSE 'rateable' END
                   WHEN 'true_up' THEN 'period_end' ELSE CASE WHEN o.is_discount THEN 'rateable' ELSE 'delivery' END END AS basis,
       s.first_day,
       CASE WHEN (o.kind <> 'fee' AND NOT o.is_discount) OR o.per = 'contract' THEN s.first_day + 1
            WHEN o.per = 'grant' THEN CASE WHEN isfinite(coalesce(g.rolls_until, g.ends_at)) THEN greatest(
                ((coalesce(g.rolls_until, g.ends_at) - interval '1 microsecond') AT TIME ZONE o.timezone)::date, s.first_day) + 1
                                             ELSE 'infinity' END
            WHEN o.per = 'year' THEN weir.anniversary(o.start_day, greatest((i.period_end AT TIME ZONE o.timezone)::date, s.first_day + 1))
            ELSE greatest((i.period_end AT TIME ZONE o.timezone)::date, s.first_day + 1) END AS end_day,
       i.component
FROM weir.line_items AS i
LEFT JOIN weir.revenue_contracts AS f ON f.contract = i.contract
LEFT JOIN weir.contracts AS c ON c.contract = i.contract
LEFT JOIN weir.fee_terms AS t ON i.meter IS NULL AND t.price_book = i.price_book AND t.price_book_version = i.price_book_version
    AND t.fee = i.item
LEFT JOIN weir.prepaid_terms AS g ON i.meter IS NULL AND i.component = 'fee' AND g.customer = i.customer AND g.contract = i.contract
    AND g.grant_key = i.item
CROSS JOIN LATERAL (
    SELECT weir.reversed_kind(i.kind, i.meter, i.component) AS kind, coalesce(f.timezone, c.timezone, 'UTC') AS timezone,
           CASE WHEN g.grant_key IS NOT NULL THEN 'grant' ELSE coalesce(t.per, 'period') END AS per,
           i.meter IS NOT NULL AND i.component = 'invoice_discount' AS is_discount,
           CASE WHEN t.per = 'year' THEN (coalesce(f.starts_at, c.starts_at, i.period_start)
                                          AT TIME ZONE coalesce(f.timezone, c.timezone, 'UTC'))::date END AS start_day
    OFFSET 0) AS o
CROSS JOIN LATERAL (
    SELECT CASE WHEN o.kind = 'true_up' THEN ((i.period_end - interval '1 microsecond') AT TIME ZONE o.timezone)::date
                WHEN o.per = 'year' THEN weir.anniversary(o.start_day, (i.period_start AT TIME ZONE o.timezone)::date)
                ELSE (i.window_start AT TIME ZONE o.timezone)::date END AS first_day
    OFFSET 0) AS s;
COMMENT ON COLUMN weir.line_item_services.component IS 'Which part of the price the amount comes from.';
COMMENT ON COLUMN weir.line_item_services.basis IS 'delivery: the day in which its window starts; period_end: the last day of its billing period; rateable: evenly by day; at_once: its first day; drawdown: as usage is drawn from what was bought.';

CREATE OR REPLACE VIEW weir.revenue_schedule WITH (security_barrier) AS
SELECT r.line_item_id, r.customer, r.contract, r.period_start, r.item, r.kind, r.currency, r.amount, r.basis, r.first_day,
       r.end_day - 1 AS last_day, r.service_month, greatest(r.service_month, o.month) AS month, r.recognised,
       coalesce(r.service_month < o.month, false) AS is_catch_up
FROM (SELECT i.line_item_id, i.customer, i.contract, i.period_start, i.item, weir.reversed_kind(i.kind, i.meter, i.component) AS kind, i.currency,
             i.amount, 'delivery' AS basis, d.first_day, d.first_day + 1 AS end_day, date_trunc('month', d.first_day::timestamp)::date AS service_month,
             i.amount AS recognised
      FROM weir.line_items AS i -- usage: nearly all of them
      LEFT JOIN weir.revenue_contracts AS f ON f.contract = i.contract
      LEFT JOIN weir.contracts AS c ON c.contract = i.contract
      CROSS JOIN LATERAL (SELECT (i.window_start AT TIME ZONE coalesce(f.timezone, c.timezone, 'UTC'))::date AS first_day OFFSET 0) AS d
      WHERE i.meter IS NOT NULL AND i.component <> 'invoice_discount'
      UNION ALL
      SELECT w.line_item_id, w.customer, w.contract, w.period_start, w.item, w.kind, w.currency, w.amount, w.basis, w.first_day, w.end_day,
             date_trunc('month', w.first_day::timestamp)::date, w.amount
      FROM weir.line_item_services AS w WHERE w.meter IS NULL AND w.basis NOT IN ('rateable', 'drawdown')
      UNION ALL
      SELECT w.line_item_id, w.customer, w.contract, w.period_start, w.item, w.kind, w.currency, w.amount, w.basis, w.first_day, w.end_day, m.month,
             weir.earned(w.amount, (m.month + interval '1 month')::date - w.first_day, w.end_day - w.first_day)
             - weir.earned(w.amount, m.month - w.first_day, w.end_day - w.first_day)
      FROM weir.line_item_services AS w, weir.months_of(w.first_day, w.end_day - 1) AS m (month)
      WHERE w.meter IS NULL AND w.basis = 'rateable'
      UNION ALL
      SELECT w.line_item_id, w.customer, w.contract, w.period_start, w.item, w.kind, w.currency, w.amount, w.basis, w.first_day, w.end_day, m.month,
             weir.earned(w.amount, (m.month + interval '1 month')::date - w.first_day, w.end_day - w.first_day)
             - weir.earned(w.amount, m.month - w.first_day, w.end_day - w.first_day)
      FROM weir.line_item_services AS w, weir.months_of(w.first_day, w.end_day - 1) AS m (month)
      WHERE w.meter IS NOT NULL AND w.component = 'invoice_discount') AS r
LEFT JOIN LATERAL (
    SELECT (c.month + interval '1 month')::date AS month FROM weir.closed_months AS c
    WHERE c.customer = r.customer AND c.contract = r.contract AND c.through_item < r.line_item_id
    ORDER BY c.through_item DESC, c.month DESC LIMIT 1) AS o ON true
WHERE (SELECT weir.sees_every_customer(current_user)) OR r.customer IN (SELECT weir.seen_customers(current_user))
UNION ALL
SELECT p.line_item_id, p.customer, p.contract, p.period_start, p.grant_key COLLATE "default", 'fee', p.currency COLLATE "default",
       p.purchased::numeric(39,12), b.basis, b.first_day,
       nullif(p.last_day, 'infinity'), b.service_month, greatest(b.service_month, p.month), b.recognised, b.service_month < p.month
FROM (SELECT k.customer, k.contract, k.grant_key, k.currency, k.month, k.line_item_id, k.period_start, k.first_day, k.last_day, k.rolled_day,
             k.purchased, k.by_drawdown, k.by_breakage FROM weir.closed_prepaid AS k
      UNION ALL
      SELECT k.customer, k.contract, k.grant_key, k.currency, k.month, k.line_item_id, k.period_start, k.first_day, k.last_day, k.rolled_day,
             k.purchased, k.by_drawdown, k.by_breakage FROM weir.open_prepaid AS k) AS p
CROSS JOIN LATERAL (
    SELECT 'drawdown' AS basis, p.first_day, p.month AS service_month, p.by_drawdown AS recognised
    UNION ALL
    SELECT 'breakage', l.day, date_trunc('month', l.day::timestamp)::date, p.by_breakage
    FROM (SELECT CASE WHEN p.rolled_day IS NOT NULL AND p.month < date_trunc('month', p.last_day::timestamp)::date THEN p.rolled_day
                      ELSE p.last_day END AS day) AS l) AS b
WHERE b.recognised <> 0
    AND ((SELECT weir.sees_every_customer(current_user)) OR p.customer IN (SELECT weir.seen_customers(current_user)));

CREATE OR REPLACE VIEW weir.open_revenue AS
SELECT c.customer, o.contract, o.currency, o.month, o.invoiced, o.rounding, o.recognised, o.deferred, o.unbilled
FROM weir.customers AS c CROSS JOIN LATERAL (
    WITH spans AS MATERIALIZED (
        SELECT s.* FROM weir.revenue_spans AS s WHERE s.customer = c.customer
    ), frontiers AS (
        SELECT DISTINCT s.contract, s.closed_month, s.open_month FROM spans AS s
    ), usage AS MATERIALIZED ( -- all of a month's usage is earned on its days: added up before anything else is done with it
        SELECT s.contract, s.period_start, s.timezone, s.open_month, u.currency, u.window_start, u.period_end, u.is_new, u.discount, u.amount
        FROM spans AS s CROSS JOIN LATERAL (
            SELECT i.currency, i.window_start, i.period_end, i.line_item_id > s.through_item AS is_new,
                   CASE i.component WHEN 'invoice_discount' THEN i.line_item_id END AS discount, sum(i.amount) AS amount
            FROM weir.line_items AS i
            WHERE i.customer = c.customer AND i.period_start = s.period_start AND i.contract = s.contract AND i.meter IS NOT NULL
                AND i.line_item_id > CASE WHEN s.is_past THEN s.through_item ELSE 0 END
            GROUP BY 1, 2, 3, 4, 5 OFFSET 0) AS u
    ), items AS MATERIALIZED ( -- OFFSET 0: period by period, never all of a customer's partitions
        SELECT r.line_item_id, r.contract, r.currency, r.period_start, r.amount, r.basis, r.first_day, r.end_day,
               s.open_month, r.line_item_id > s.through_item AS is_new
        FROM spans AS s CROSS JOIN LATERAL (
            SELECT w.* FROM weir.line_item_services AS w
            WHERE w.customer = c.customer AND w.period_start = s.period_start AND w.contract = s.contract AND w.meter IS NULL
                AND w.line_item_id > CASE WHEN s.is_past THEN s.through_item ELSE 0 END OFFSET 0) AS r
        UNION ALL
        SELECT r.line_item_id, r.contract, r.currency, r.period_start, r.amount, r.basis, r.first_day, r.end_day, s.open_month, false
        FROM spans AS s CROSS JOIN LATERAL (
            SELECT w.* FROM weir.line_item_services AS w
            WHERE w.customer = c.customer AND w.period_start = s.period_start AND w.contract = s.contract
                AND w.line_item_id <= s.through_item AND w.meter IS NULL AND w.end_day > s.open_month OFFSET 0) AS r
        WHERE s.is_past
        UNION ALL
        SELECT u.discount, u.contract, u.currency, u.period_start, u.amount, CASE WHEN u.discount IS NULL THEN 'delivery' ELSE 'rateable' END,
               d.first_day, CASE WHEN u.discount IS NULL THEN d.first_day + 1
                                 ELSE greatest((u.period_end AT TIME ZONE u.timezone)::date, d.first_day + 1) END, u.open_month, u.is_new
        FROM usage AS u CROSS JOIN LATERAL (SELECT (u.window_start AT TIME ZONE u.timezone)::date AS first_day OFFSET 0) AS d
    ), stretches AS MATERIALIZED (
        SELECT i.*, greatest(date_trunc('month', i.first_day::timestamp)::date, i.open_month) AS from_month,
               greatest(date_trunc('month', (i.end_day - 1)::timestamp)::date, i.open_month) AS to_month
        FROM items AS i
        WHERE i.basis <> 'drawdown' AND i.end_day > i.first_day + 1 AND (i.is_new OR i.open_month IS NULL OR i.end_day > i.open_month)
    ), prepaid AS MATERIALIZED (
        SELECT p.* FROM weir.open_prepaid AS p WHERE p.customer = c.customer
    ), standing AS MATERIALIZED ( -- what is deferred of prepaid amounts from a month on
        SELECT p.contract, p.currency, p.grant_key, p.month, p.deferred FROM prepaid AS p
        UNION ALL
        SELECT l.contract, l.currency, l.grant_key, f.closed_month, l.deferred FROM frontiers AS f CROSS JOIN LATERAL (
            SELECT DISTINCT ON (p.grant_key, p.currency) p.* FROM weir.closed_prepaid AS p
            WHERE p.customer = c.customer AND p.contract = f.contract ORDER BY p.grant_key, p.currency, p.month DESC) AS l
    ), moves AS (
        SELECT i.contract, i.currency, greatest(date_trunc('month', i.first_day::timestamp)::date, i.open_month) AS month,
               0 AS invoiced, 0 AS rounding, i.amount AS recognised, 0 AS deferred
        FROM items AS i
        WHERE i.basis <> 'drawdown' AND i.end_day = i.first_day + 1
            AND (i.is_new OR i.open_month IS NULL OR i.first_day >= i.open_month)
        UNION ALL
        SELECT p.contract, p.currency, p.month, 0, 0, p.by_drawdown + p.by_breakage, 0 FROM prepaid AS p
            WHERE p.by_drawdown <> 0 OR p.by_breakage <> 0
        UNION ALL
        SELECT s.contract, s.currency, m.month, 0, 0,
               weir.earned(s.amount, (m.month + interval '1 month')::date - s.first_day, s.end_day - s.first_day)
               - CASE WHEN s.is_new AND m.month = s.from_month THEN 0
                      ELSE weir.earned(s.amount, m.month - s.first_day, s.end_day - s.first_day) END, 0
        FROM stretches AS s, weir.months_of(s.from_month, s.to_month) AS m (month)
        UNION ALL
        SELECT s.contract, s.currency, m.month, 0, 0, 0,
               CASE p.document WHEN 'invoice' THEN 1 ELSE -1 END
               * (s.amount - weir.earned(s.amount, (m.month + interval '1 month')::date - s.first_day, s.end_day - s.first_day))
        FROM stretches AS s
        JOIN weir.invoice_ranges AS g ON g.customer = c.customer AND g.contract = s.contract AND g.period_start = s.period_start
            AND g.currency = s.currency AND s.line_item_id > g.after_item AND s.line_item_id <= g.through_item
        JOIN weir.invoice_postings AS p ON p.invoice = g.invoice,
            weir.months_of(greatest(p.month, s.open_month), s.to_month) AS m (month)
        UNION ALL
        SELECT p.contract, p.currency, p.month, p.amount, p.rounding, 0, 0
        FROM weir.invoice_postings AS p JOIN frontiers AS f USING (contract)
        WHERE p.customer = c.customer AND (f.open_month IS NULL OR p.month >= f.open_month)
    ), months AS (
        SELECT m.contract, m.currency, m.month, sum(m.invoiced) AS invoiced, sum(m.rounding) AS rounding, sum(m.recognised) AS recognised,
               sum(m.deferred) AS deferred
        FROM moves AS m GROUP BY 1, 2, 3
    ), bounds AS (
        SELECT b.contract, b.currency, min(b.month) AS from_month, max(b.month) AS to_month, min(b.balance) AS balance
        FROM (SELECT m.contract, m.currency, m.month, NULL::numeric AS balance FROM months AS m
              UNION ALL
              SELECT r.contract, r.currency, f.open_month, r.unbilled - r.deferred
              FROM frontiers AS f JOIN weir.closed_revenue AS r
                  ON r.customer = c.customer AND r.contract = f.contract AND r.month = f.closed_month
              WHERE r.unbilled <> 0 OR r.deferred <> 0) AS b
        GROUP BY 1, 2
    ), figures AS (
        SELECT b.contract, b.currency, g.month, b.balance, coalesce(m.invoiced, 0) AS invoiced, coalesce(m.rounding, 0) AS rounding,
               coalesce(m.recognised, 0) AS recognised, coalesce(m.deferred, 0) + coalesce(d.deferred, 0) AS deferred
        FROM bounds AS b CROSS JOIN LATERAL weir.months_of(b.from_month, b.to_month) AS g (month)
        LEFT JOIN months AS m ON m.contract = b.contract AND m.currency = b.currency AND m.month = g.month
        LEFT JOIN LATERAL (
            SELECT sum(l.deferred) AS deferred
            FROM (SELECT DISTINCT ON (s.grant_key) s.deferred FROM standing AS s
                  WHERE s.contract = b.contract AND s.currency = b.currency AND s.month <= g.month
                  ORDER BY s.grant_key, s.month DESC) AS l) AS d ON true
    )
    SELECT f.contract, f.currency, f.month, f.invoiced, f.rounding, f.recognised, f.deferred,
           coalesce(f.balance, 0) + f.deferred + sum(f.recognised - f.invoiced)
               OVER (PARTITION BY f.contract, f.currency ORDER BY f.month) AS unbilled
    FROM figures AS f) AS o;
