-- Revenue of prepaid amounts: a purchase is deferred, earned as it is drawn, and what is left when it ends is breakage
-- (docs/revenue.md). Stored, and append-only, are the figures of closed months; everything else is worked out from line items.

-- 1. What was bought -----------------------------------------------------------------------------------------------------------

CREATE TABLE weir.prepaid_terms (
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    contract text COLLATE "C" NOT NULL,
    grant_key text COLLATE "C" NOT NULL CHECK (grant_key <> ''),
    account text COLLATE "C" NOT NULL,
    amount numeric(39,12) NOT NULL CHECK (amount > 0),
    price numeric(39,12) NOT NULL CHECK (price >= 0),
    ends_at timestamptz NOT NULL,
    rolls_until timestamptz CHECK (rolls_until > ends_at),
    PRIMARY KEY (customer, contract, grant_key)
);
COMMENT ON TABLE weir.prepaid_terms IS 'Prepaid amounts that are bought: as the catalog has them, or as they were granted; and what of them went on when they expired. What leaves the catalog stays here.';
COMMENT ON COLUMN weir.prepaid_terms.customer IS 'The customer.';
COMMENT ON COLUMN weir.prepaid_terms.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.prepaid_terms.grant_key IS 'Key of the grant: the item of its line items.';
COMMENT ON COLUMN weir.prepaid_terms.account IS 'The grant that was bought: itself, or the one that it is the rollover of.';
COMMENT ON COLUMN weir.prepaid_terms.amount IS 'How much there is to draw.';
COMMENT ON COLUMN weir.prepaid_terms.price IS 'What it is bought for; 0 of a rollover.';
COMMENT ON COLUMN weir.prepaid_terms.ends_at IS 'Usage of windows before this is drawn from it; infinity: it does not expire.';
COMMENT ON COLUMN weir.prepaid_terms.rolls_until IS 'When what went on at its expiry expires; null: nothing did.';
REVOKE ALL ON weir.prepaid_terms FROM PUBLIC;

CREATE FUNCTION weir.prepaid_commitments(commitments jsonb, phases jsonb)
RETURNS TABLE (grant_key text, amount numeric, price numeric, expires_at timestamptz)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 2 AS $$
    SELECT DISTINCT ON (c.said ->> 'key') c.said ->> 'key', (c.said ->> 'amount')::numeric,
           CASE coalesce(c.said ->> 'funding', 'paid') WHEN 'paid' THEN coalesce(c.said ->> 'price', c.said ->> 'amount')::numeric ELSE 0 END,
           coalesce(c.said ->> 'expires_at', 'infinity')::timestamptz
    FROM (SELECT said FROM jsonb_array_elements(commitments) AS m (said)
          UNION ALL
          SELECT m.said FROM jsonb_array_elements(phases) AS p (said), jsonb_array_elements(coalesce(p.said -> 'commitments', '[]')) AS m (said)) AS c
    WHERE c.said ->> 'type' = 'prepaid'
    ORDER BY c.said ->> 'key'
$$;
COMMENT ON FUNCTION weir.prepaid_commitments(jsonb, jsonb) IS 'The prepaid amounts that a contract''s terms list, each once.';

CREATE FUNCTION weir.keep_prepaid_terms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO weir.prepaid_terms (customer, contract, grant_key, account, amount, price, ends_at)
        SELECT NEW.customer, NEW.contract, p.grant_key, p.grant_key, p.amount, p.price, least(p.expires_at, NEW.ends_at,
            (SELECT e.ends_at FROM weir.grant_ends AS e
             WHERE e.customer = NEW.customer AND e.contract = NEW.contract AND e.grant_key = p.grant_key))
        FROM weir.prepaid_commitments(NEW.commitments, NEW.phases) AS p WHERE p.price > 0
        ON CONFLICT (customer, contract, grant_key) DO UPDATE
            SET amount = excluded.amount, price = excluded.price, ends_at = excluded.ends_at;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.keep_prepaid_terms() IS 'Notes what a contract that is applied sells.';
CREATE TRIGGER keep_prepaid AFTER INSERT OR UPDATE ON weir.contracts FOR EACH ROW
    WHEN (NEW.customer IS NOT NULL AND (NEW.commitments::text LIKE '%prepaid%' OR NEW.phases::text LIKE '%prepaid%'))
    EXECUTE FUNCTION weir.keep_prepaid_terms();

CREATE FUNCTION weir.keep_order_terms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO weir.prepaid_terms (customer, contract, grant_key, account, amount, price, ends_at)
        VALUES (NEW.customer, NEW.contract, NEW.grant_key, NEW.grant_key, NEW.amount, NEW.price, NEW.expires_at) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.keep_order_terms() IS 'Notes what was sold by weir grant.';
CREATE TRIGGER keep_prepaid AFTER INSERT ON weir.grant_orders FOR EACH ROW
    WHEN (NEW.price > 0) EXECUTE FUNCTION weir.keep_order_terms();

CREATE FUNCTION weir.end_terms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE weir.prepaid_terms AS t SET ends_at = least(t.ends_at, NEW.ends_at)
        WHERE t.customer = NEW.customer AND t.contract = NEW.contract AND t.grant_key = NEW.grant_key;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.end_terms() IS 'Notes that a grant was ended before its time.';
CREATE TRIGGER keep_prepaid AFTER INSERT ON weir.grant_ends FOR EACH ROW EXECUTE FUNCTION weir.end_terms();

-- With the first entry of a grant that the catalog does not have: a rollover, or one that has left it.
CREATE FUNCTION weir.keep_grant_terms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO weir.prepaid_terms (customer, contract, grant_key, account, amount, price, ends_at)
        SELECT g.customer, g.contract, g.grant_key, coalesce(g.rolled_from, g.grant_key), NEW.amount, g.price, g.expires_at
        FROM weir.grants AS g
        WHERE g.customer = NEW.customer AND g.contract = NEW.contract AND g.grant_key = NEW.grant_key
            AND (g.price > 0 OR EXISTS (SELECT FROM weir.prepaid_terms AS s WHERE s.customer = g.customer
                                            AND s.contract = g.contract AND s.grant_key = g.rolled_from))
        ON CONFLICT DO NOTHING;
    UPDATE weir.prepaid_terms AS t SET rolls_until = g.expires_at FROM weir.grants AS g
        WHERE g.customer = NEW.customer AND g.contract = NEW.contract AND g.grant_key = NEW.grant_key
            AND t.customer = g.customer AND t.contract = g.contract AND t.grant_key = g.rolled_from;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.keep_grant_terms() IS 'Notes a grant that the catalog does not have.';
CREATE TRIGGER keep_prepaid AFTER INSERT ON weir.grant_entries FOR EACH ROW
    WHEN (NEW.number = 1) EXECUTE FUNCTION weir.keep_grant_terms();

INSERT INTO weir.prepaid_terms (customer, contract, grant_key, account, amount, price, ends_at)
    SELECT c.customer, c.contract, p.grant_key, p.grant_key, p.amount, p.price, least(p.expires_at, c.ends_at)
    FROM weir.contracts AS c CROSS JOIN LATERAL weir.prepaid_commitments(c.commitments, c.phases) AS p
    WHERE c.customer IS NOT NULL AND p.price > 0;
INSERT INTO weir.prepaid_terms (customer, contract, grant_key, account, amount, price, ends_at)
    SELECT g.customer, g.contract, g.grant_key, g.grant_key, e.amount, g.price, g.expires_at
    FROM weir.grants AS g JOIN weir.grant_entries AS e USING (customer, contract, grant_key)
    WHERE g.price > 0 AND e.number = 1 ON CONFLICT DO NOTHING;

-- What of a price is earned when part of the whole is drawn: half-even to twelve places, all of it with the last.
CREATE FUNCTION weir.earned_share(price numeric, part numeric, whole numeric) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    total numeric := trunc(abs(price) * 1000000000000) * part;
    units numeric := div(total, whole);
    twice numeric := 2 * (total - units * whole);
BEGIN
    IF part >= whole THEN
        RETURN price;
    ELSIF part <= 0 THEN
        RETURN 0;
    END IF;
    IF twice > whole OR (twice = whole AND units % 2 = 1) THEN
        units := units + 1;
    END IF;
    RETURN sign(price) * units * 0.000000000001;
END
$$;
COMMENT ON FUNCTION weir.earned_share(numeric, numeric, numeric) IS 'What of a price is earned when part of the whole is drawn.';

CREATE TABLE weir.closed_prepaid (
    customer text COLLATE "C" NOT NULL,
    contract text COLLATE "C" NOT NULL,
    grant_key text COLLATE "C" NOT NULL,
    currency text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    month date NOT NULL,
    line_item_id bigint,
    period_start timestamptz,
    first_day date,
    last_day date NOT NULL,
    rolled_day date,
    purchased numeric NOT NULL,
    invoiced numeric NOT NULL,
    drawn numeric NOT NULL,
    earned numeric NOT NULL,
    lapsed numeric NOT NULL,
    by_drawdown numeric NOT NULL,
    by_breakage numeric NOT NULL,
    deferred numeric NOT NULL CHECK (deferred >= 0),
    PRIMARY KEY (customer, contract, grant_key, currency, month),
    FOREIGN KEY (customer, contract, month) REFERENCES weir.closed_months
);
COMMENT ON TABLE weir.closed_prepaid IS 'The figures of prepaid amounts in closed months, as they were when these were closed. A month without a row is as the one before it.';
COMMENT ON COLUMN weir.closed_prepaid.customer IS 'The customer.';
COMMENT ON COLUMN weir.closed_prepaid.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.closed_prepaid.grant_key IS 'Key of the grant.';
COMMENT ON COLUMN weir.closed_prepaid.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.closed_prepaid.month IS 'First day of the calendar month, in the contract''s time zone.';
COMMENT ON COLUMN weir.closed_prepaid.line_item_id IS 'The line item of its purchase, the first where there are several; null: it is not charged yet.';
COMMENT ON COLUMN weir.closed_prepaid.period_start IS 'Start of that line item''s billing period.';
COMMENT ON COLUMN weir.closed_prepaid.first_day IS 'Day of the purchase.';
COMMENT ON COLUMN weir.closed_prepaid.last_day IS 'Last day on which something can be drawn from it; infinity: it does not expire.';
COMMENT ON COLUMN weir.closed_prepaid.rolled_day IS 'Day at whose end part of it lapsed and the rest went on; null: nothing did.';
COMMENT ON COLUMN weir.closed_prepaid.purchased IS 'What was charged for it up to the month''s end, less what was given back.';
COMMENT ON COLUMN weir.closed_prepaid.invoiced IS 'What of that stood on invoices, less credit notes.';
COMMENT ON COLUMN weir.closed_prepaid.drawn IS 'What was drawn from it up to the month''s end.';
COMMENT ON COLUMN weir.closed_prepaid.earned IS 'What of the price was earned by that, up to the month''s end.';
COMMENT ON COLUMN weir.closed_prepaid.lapsed IS 'What was earned as breakage, up to the month''s end.';
COMMENT ON COLUMN weir.closed_prepaid.by_drawdown IS 'What was earned by drawdown in the month.';
COMMENT ON COLUMN weir.closed_prepaid.by_breakage IS 'What was earned as breakage in the month; below zero where what had lapsed was drawn after all.';
COMMENT ON COLUMN weir.closed_prepaid.deferred IS 'What was invoiced and not earned at the month''s end.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON weir.closed_prepaid FOR EACH ROW EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON weir.closed_prepaid FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE ALL ON weir.closed_prepaid FROM PUBLIC;

-- 2. Days and months -----------------------------------------------------------------------------------------------------------

-- As in 0021, with purchases: drawdown, from their day on to the last on which something can be drawn.
CREATE OR REPLACE VIEW weir.line_item_services AS
SELECT i.line_item_id, i.customer, i.contract, i.currency, i.period_start, i.period_end, i.item, i.meter, o.kind, i.amount, o.timezone,
       CASE o.kind WHEN 'fee' THEN CASE o.per WHEN 'contract' THEN 'at_once' WHEN 'grant' THEN 'drawdown' ELSE 'rateable' END
                   WHEN 'true_up' THEN 'period_end' ELSE 'delivery' END AS basis,
       s.first_day,
       CASE WHEN o.kind <> 'fee' OR o.per = 'contract' THEN s.first_day + 1
            WHEN o.per = 'grant' THEN CASE WHEN isfinite(coalesce(g.rolls_until, g.ends_at)) THEN greatest(
                ((coalesce(g.rolls_until, g.ends_at) - interval '1 microsecond') AT TIME ZONE o.timezone)::date, s.first_day) + 1
                                             ELSE 'infinity' END
            WHEN o.per = 'year' THEN weir.anniversary(o.start_day, greatest((i.period_end AT TIME ZONE o.timezone)::date, s.first_day + 1))
            ELSE greatest((i.period_end AT TIME ZONE o.timezone)::date, s.first_day + 1) END AS end_day
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
           CASE WHEN t.per = 'year' THEN (coalesce(f.starts_at, c.starts_at, i.period_start)
                                          AT TIME ZONE coalesce(f.timezone, c.timezone, 'UTC'))::date END AS start_day
    OFFSET 0) AS o
CROSS JOIN LATERAL (
    SELECT CASE WHEN o.kind = 'true_up' THEN ((i.period_end - interval '1 microsecond') AT TIME ZONE o.timezone)::date
                WHEN o.per = 'year' THEN weir.anniversary(o.start_day, (i.period_start AT TIME ZONE o.timezone)::date)
                ELSE (i.window_start AT TIME ZONE o.timezone)::date END AS first_day
    OFFSET 0) AS s;
COMMENT ON COLUMN weir.line_item_services.basis IS 'delivery: the day in which its window starts; period_end: the last day of its billing period; rateable: evenly by day; at_once: its first day; drawdown: as usage is drawn from what was bought.';

CREATE VIEW weir.revenue_spans AS
SELECT c.customer, s.contract, s.period_start, s.timezone, s.closed_month, s.open_month, s.through_item, s.is_past
FROM weir.customers AS c CROSS JOIN LATERAL (
    WITH known AS (
        SELECT p.contract, p.period_start, p.period_end FROM weir.billing_periods AS p WHERE p.customer = c.customer
        UNION
        SELECT p.contract, p.period_start, p.period_end FROM weir.past_periods AS p
            WHERE p.customer = c.customer AND NOT EXISTS (SELECT FROM weir.billing_periods AS b WHERE b.customer = p.customer
                AND b.contract = p.contract AND b.period_start = p.period_start)
    ), frontiers AS MATERIALIZED (
        SELECT k.contract, l.month AS closed_month, (l.month + interval '1 month')::date AS open_month, l.through_item,
               coalesce(f.timezone, t.timezone, 'UTC') AS timezone
        FROM (SELECT DISTINCT contract FROM known) AS k
        LEFT JOIN weir.revenue_contracts AS f USING (contract) LEFT JOIN weir.contracts AS t USING (contract)
        LEFT JOIN LATERAL (SELECT m.month, m.through_item FROM weir.closed_months AS m
            WHERE m.customer = c.customer AND m.contract = k.contract ORDER BY m.month DESC LIMIT 1) AS l ON true
    )
    SELECT k.contract, k.period_start, f.timezone, f.closed_month, f.open_month, coalesce(f.through_item, 0) AS through_item,
           coalesce(((k.period_end - interval '1 microsecond') AT TIME ZONE f.timezone)::date < f.open_month, false) AS is_past
    FROM known AS k JOIN frontiers AS f USING (contract)) AS s;
COMMENT ON VIEW weir.revenue_spans IS 'Each billing period, and how far its contract''s months are closed. Restrict customer.';
COMMENT ON COLUMN weir.revenue_spans.customer IS 'The customer.';
COMMENT ON COLUMN weir.revenue_spans.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.revenue_spans.period_start IS 'Start of the billing period.';
COMMENT ON COLUMN weir.revenue_spans.timezone IS 'Time zone of the contract''s days and months.';
COMMENT ON COLUMN weir.revenue_spans.closed_month IS 'The last month of the contract that is closed; null: none.';
COMMENT ON COLUMN weir.revenue_spans.open_month IS 'The first one after it.';
COMMENT ON COLUMN weir.revenue_spans.through_item IS 'Line items with a higher number came after it was closed; 0: none is closed.';
COMMENT ON COLUMN weir.revenue_spans.is_past IS 'Whether the period lies whole in closed months.';

-- 3. Prepaid amounts, month by month -------------------------------------------------------------------------------------------

-- A prepaid amount is an account: what was charged for it, what was invoiced of that, what was drawn. Of closed months their last
-- figures are taken, and what came since is added; so each month's figures are differences to the ones before, whatever came late.
CREATE VIEW weir.open_prepaid AS
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
                   ((coalesce(t.rolls_until, t.ends_at) - interval '1 microsecond') AT TIME ZONE f.timezone)::date AS last_day) AS l
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
COMMENT ON VIEW weir.open_prepaid IS 'As closed_prepaid, for months that are not closed and in which something changes. Restrict customer.';

CREATE VIEW weir.prepaid_months WITH (security_barrier) AS
SELECT p.customer, p.contract, p.grant_key, p.currency, p.month, p.purchased, p.invoiced, p.drawn, p.earned, p.lapsed, p.by_drawdown,
       p.by_breakage, p.deferred, true AS is_closed
FROM weir.closed_prepaid AS p
WHERE (SELECT weir.sees_every_customer(current_user)) OR p.customer IN (SELECT weir.seen_customers(current_user))
UNION ALL
SELECT p.customer, p.contract, p.grant_key, p.currency, p.month, p.purchased, p.invoiced, p.drawn, p.earned, p.lapsed, p.by_drawdown,
       p.by_breakage, p.deferred, false
FROM weir.open_prepaid AS p
WHERE (SELECT weir.sees_every_customer(current_user)) OR p.customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.prepaid_months IS 'Prepaid amounts that were bought: what of them is earned by drawdown and as breakage, and deferred. A month in which nothing changes has no row: it is as the one before it. Restrict customer.';
COMMENT ON COLUMN weir.prepaid_months.is_closed IS 'Whether weir close has closed the month: its figures never change.';

-- 4. Schedules and months, as in 0021 ------------------------------------------------------------------------------------------

CREATE OR REPLACE VIEW weir.revenue_schedule WITH (security_barrier) AS
SELECT r.line_item_id, r.customer, r.contract, r.period_start, r.item, r.kind, r.currency, r.amount, r.basis, r.first_day,
       r.end_day - 1 AS last_day, r.service_month, greatest(r.service_month, o.month) AS month, r.recognised,
       coalesce(r.service_month < o.month, false) AS is_catch_up
FROM (SELECT w.*, date_trunc('month', w.first_day::timestamp)::date AS service_month, w.amount AS recognised
      FROM weir.line_item_services AS w WHERE w.basis NOT IN ('rateable', 'drawdown')
      UNION ALL
      SELECT w.*, m.month, weir.earned(w.amount, (m.month + interval '1 month')::date - w.first_day, w.end_day - w.first_day)
                           - weir.earned(w.amount, m.month - w.first_day, w.end_day - w.first_day)
      FROM weir.line_item_services AS w, weir.months_of(w.first_day, w.end_day - 1) AS m (month)
      WHERE w.meter IS NULL AND w.basis = 'rateable') AS r
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
COMMENT ON VIEW weir.revenue_schedule IS 'What of each line item is earned in which month. Restrict customer and period_start. A line item''s rows add up to its amount; those of a prepaid amount stand with its purchase, as far as it is earned.';
COMMENT ON COLUMN weir.revenue_schedule.amount IS 'The line item''s amount; of a prepaid amount, what was charged for it in all.';
COMMENT ON COLUMN weir.revenue_schedule.basis IS 'delivery: the day in which its window starts; period_end: the last day of its billing period; rateable: evenly by day; at_once: its first day; drawdown: what was drawn from what was bought; breakage: what was left of it when it ended.';
COMMENT ON COLUMN weir.revenue_schedule.last_day IS 'Last day of it; null: as it is drawn.';

CREATE OR REPLACE VIEW weir.open_revenue AS
SELECT c.customer, o.contract, o.currency, o.month, o.invoiced, o.rounding, o.recognised, o.deferred, o.unbilled
FROM weir.customers AS c CROSS JOIN LATERAL (
    WITH spans AS MATERIALIZED (
        SELECT s.* FROM weir.revenue_spans AS s WHERE s.customer = c.customer
    ), frontiers AS (
        SELECT DISTINCT s.contract, s.closed_month, s.open_month FROM spans AS s
    ), items AS MATERIALIZED ( -- OFFSET 0: period by period, never all of a customer's partitions
        SELECT r.line_item_id, r.contract, r.currency, r.period_start, r.amount, r.basis, r.first_day, r.end_day,
               s.open_month, r.line_item_id > s.through_item AS is_new
        FROM spans AS s CROSS JOIN LATERAL (
            SELECT w.* FROM weir.line_item_services AS w
            WHERE w.customer = c.customer AND w.period_start = s.period_start AND w.contract = s.contract
                AND w.line_item_id > CASE WHEN s.is_past THEN s.through_item ELSE 0 END OFFSET 0) AS r
        UNION ALL
        SELECT r.line_item_id, r.contract, r.currency, r.period_start, r.amount, r.basis, r.first_day, r.end_day, s.open_month, false
        FROM spans AS s CROSS JOIN LATERAL (
            SELECT w.* FROM weir.line_item_services AS w
            WHERE w.customer = c.customer AND w.period_start = s.period_start AND w.contract = s.contract
                AND w.line_item_id <= s.through_item AND w.meter IS NULL AND w.end_day > s.open_month OFFSET 0) AS r
        WHERE s.is_past
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

-- 5. Closing, as in 0021 with prepaid amounts ----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION weir.close_months(of_customer text, through_day date, through_at timestamptz, of_closing bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    figures weir.closed_revenue[];
    prepaid weir.closed_prepaid[];
    of record;
    newest bigint;
BEGIN
    PERFORM FROM weir.customers AS c WHERE c.customer = of_customer FOR NO KEY UPDATE;
    IF NOT EXISTS (SELECT FROM weir.months_to_close(of_customer, through_day, through_at) AS m WHERE m.first_month <= m.last_month) THEN
        RETURN;
    END IF;
    INSERT INTO weir.revenue_contracts (contract, timezone, starts_at)
        SELECT c.contract, c.timezone, c.starts_at FROM weir.months_to_close(of_customer, through_day, through_at) AS m
        JOIN weir.contracts AS c USING (contract) WHERE m.first_month <= m.last_month ORDER BY c.contract ON CONFLICT DO NOTHING;
    SELECT coalesce(max(l.newest), 0) INTO newest
        FROM (SELECT DISTINCT p.period_start FROM weir.billing_periods AS p WHERE p.customer = of_customer
              UNION SELECT p.period_start FROM weir.past_periods AS p WHERE p.customer = of_customer) AS k
        CROSS JOIN LATERAL (SELECT max(i.line_item_id) AS newest FROM weir.line_items AS i
                            WHERE i.customer = of_customer AND i.period_start = k.period_start) AS l;
    figures := array(SELECT ROW(o.customer, o.contract, o.month, o.currency, o.invoiced, o.rounding, o.recognised, o.deferred, o.unbilled)
                            ::weir.closed_revenue FROM weir.open_revenue AS o WHERE o.customer = of_customer);
    prepaid := array(SELECT ROW(o.customer, o.contract, o.grant_key, o.currency, o.month, o.line_item_id, o.period_start, o.first_day,
                                o.last_day, o.rolled_day, o.purchased, o.invoiced, o.drawn, o.earned, o.lapsed, o.by_drawdown, o.by_breakage, o.deferred)
                            ::weir.closed_prepaid FROM weir.open_prepaid AS o WHERE o.customer = of_customer);
    FOR of IN SELECT * FROM weir.months_to_close(of_customer, through_day, through_at) AS m WHERE m.first_month <= m.last_month LOOP
        INSERT INTO weir.closed_months (customer, contract, month, through_item, closing)
            SELECT of_customer, of.contract, m.month, newest, of_closing FROM weir.months_of(of.first_month, of.last_month) AS m (month);
        INSERT INTO weir.closed_prepaid
            SELECT p.* FROM unnest(prepaid) AS p WHERE p.contract = of.contract AND p.month <= of.last_month;
        INSERT INTO weir.closed_revenue
            SELECT f.* FROM unnest(figures) AS f
            WHERE f.contract = of.contract AND f.month <= of.last_month
                AND (f.invoiced, f.rounding, f.recognised, f.deferred, f.unbilled) IS DISTINCT FROM (0, 0, 0, 0, 0);
        -- Months beyond the last in which anything happens: balances stay as they are.
        INSERT INTO weir.closed_revenue
            SELECT of_customer, of.contract, m.month, f.currency, 0, 0, 0, f.deferred, f.unbilled
            FROM (SELECT DISTINCT ON (u.currency) u.* FROM unnest(figures) AS u WHERE u.contract = of.contract
                  ORDER BY u.currency, u.month DESC) AS f,
                weir.months_of((f.month + interval '1 month')::date, of.last_month) AS m (month)
            WHERE f.deferred <> 0 OR f.unbilled <> 0;
    END LOOP;
END
$$;

DO $$
DECLARE
    of record;
BEGIN
    FOR of IN
        SELECT c.relname AS view, a.attname AS name, col_description('weir.closed_prepaid'::regclass, s.attnum) AS said
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        JOIN pg_attribute AS s ON s.attrelid = 'weir.closed_prepaid'::regclass AND s.attname = a.attname
        WHERE c.relnamespace = 'weir'::regnamespace AND c.relname IN ('open_prepaid', 'prepaid_months')
    LOOP
        EXECUTE format('COMMENT ON COLUMN weir.%I.%I IS %L', of.view, of.name, of.said);
    END LOOP;
END
$$;
