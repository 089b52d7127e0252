-- Revenue recognition: how much of each line item is earned in which month, and what is deferred or not invoiced yet
-- (docs/revenue.md). Nearly all of it follows from line items and invoices, by views. Stored, and append-only, is what must not move
-- when a catalog changes or line items come late: a fee's kind, a contract's time zone, and the figures of closed months.

-- 1. What must not move --------------------------------------------------------------------------------------------------------

CREATE TABLE weir.fee_terms (
    price_book text COLLATE "C" NOT NULL,
    price_book_version integer NOT NULL,
    fee text COLLATE "C" NOT NULL,
    per text NOT NULL CHECK (per IN ('period', 'year', 'contract')),
    PRIMARY KEY (price_book, price_book_version, fee)
);
COMMENT ON TABLE weir.fee_terms IS 'How often each fee is charged, as the catalog said when its price book version was first applied: what a fee pays for follows from it. Versions that leave the catalog stay here.';
COMMENT ON COLUMN weir.fee_terms.price_book IS 'Key of the price book.';
COMMENT ON COLUMN weir.fee_terms.price_book_version IS 'Its version.';
COMMENT ON COLUMN weir.fee_terms.fee IS 'Key of the fee.';
COMMENT ON COLUMN weir.fee_terms.per IS 'period, year or contract.';

CREATE FUNCTION weir.keep_fee_terms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO weir.fee_terms (price_book, price_book_version, fee, per)
        SELECT NEW.price_book, NEW.price_book_version, f ->> 'key', coalesce(f ->> 'per', 'period')
        FROM jsonb_array_elements(NEW.fees) AS f ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.keep_fee_terms() IS 'Notes the fees of a price book version that is applied.';
CREATE TRIGGER keep_fees AFTER INSERT ON weir.price_book_versions FOR EACH ROW EXECUTE FUNCTION weir.keep_fee_terms();
INSERT INTO weir.fee_terms (price_book, price_book_version, fee, per)
    SELECT v.price_book, v.price_book_version, f ->> 'key', coalesce(f ->> 'per', 'period')
    FROM weir.price_book_versions AS v, jsonb_array_elements(v.fees) AS f;

CREATE TABLE weir.revenue_contracts (
    contract text COLLATE "C" PRIMARY KEY,
    timezone text NOT NULL,
    starts_at timestamptz
);
COMMENT ON TABLE weir.revenue_contracts IS 'Contracts of which a month was closed, as they stood then: their days and months stay where they were, whatever a later catalog says.';
COMMENT ON COLUMN weir.revenue_contracts.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.revenue_contracts.timezone IS 'IANA time zone of its days and months.';
COMMENT ON COLUMN weir.revenue_contracts.starts_at IS 'Its beginning, from which yearly fees count; null for the default contract.';

-- Numbers of one customer's line items ascend in the order of commits, since whoever writes them holds the customer's lock, which a
-- closing holds too. So "came after the month was closed" is "has a higher number".
CREATE TABLE weir.closed_months (
    customer text COLLATE "C" NOT NULL REFERENCES weir.customers,
    contract text COLLATE "C" NOT NULL,
    month date NOT NULL CHECK (extract(day FROM month) = 1),
    through_item bigint NOT NULL CHECK (through_item >= 0),
    closing bigint REFERENCES weir.closings,
    closed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer, contract, month),
    UNIQUE (customer, contract, through_item, month)
);
COMMENT ON TABLE weir.closed_months IS 'Calendar months, in the contract''s time zone, whose revenue is closed: what comes later is recognised in the first month that is open.';
COMMENT ON COLUMN weir.closed_months.customer IS 'The customer.';
COMMENT ON COLUMN weir.closed_months.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.closed_months.month IS 'First day of the month.';
COMMENT ON COLUMN weir.closed_months.through_item IS 'The customer''s highest line_item_id when it was closed: line items with a higher number came later.';
COMMENT ON COLUMN weir.closed_months.closing IS 'The run of weir close that closed it.';
COMMENT ON COLUMN weir.closed_months.closed_at IS 'When it was closed.';

CREATE TABLE weir.closed_revenue (
    customer text COLLATE "C" NOT NULL,
    contract text COLLATE "C" NOT NULL,
    month date NOT NULL,
    currency text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    invoiced numeric NOT NULL,
    rounding numeric NOT NULL,
    recognised numeric NOT NULL,
    deferred numeric NOT NULL,
    unbilled numeric NOT NULL,
    PRIMARY KEY (customer, contract, month, currency),
    FOREIGN KEY (customer, contract, month) REFERENCES weir.closed_months
);
CREATE INDEX closed_revenue_month ON weir.closed_revenue (month);
COMMENT ON TABLE weir.closed_revenue IS 'The figures of closed months, as they were when they were closed. A month without a row has nothing but zeros.';
COMMENT ON COLUMN weir.closed_revenue.customer IS 'The customer.';
COMMENT ON COLUMN weir.closed_revenue.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.closed_revenue.month IS 'First day of the calendar month, in the contract''s time zone.';
COMMENT ON COLUMN weir.closed_revenue.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.closed_revenue.invoiced IS 'Invoices of the month less credit notes, exact.';
COMMENT ON COLUMN weir.closed_revenue.rounding IS 'What rounding adds to that: invoiced + rounding is the sum of the documents'' totals.';
COMMENT ON COLUMN weir.closed_revenue.recognised IS 'Revenue that was earned in the month.';
COMMENT ON COLUMN weir.closed_revenue.deferred IS 'At the end of the month: what was invoiced and is not earned yet (contract liability).';
COMMENT ON COLUMN weir.closed_revenue.unbilled IS 'At the end of the month: what was earned and is not invoiced yet (contract asset, unbilled receivable).';

-- 2. Days and months -----------------------------------------------------------------------------------------------------------

-- What of an amount is earned after some of its days: a running total, rounded half-even to twelve places, so that the days add up.
CREATE FUNCTION weir.earned(amount numeric, days integer, of_days integer) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    total numeric;
    whole numeric;
    twice numeric;
BEGIN
    IF days >= of_days THEN
        RETURN amount;
    ELSIF days <= 0 THEN
        RETURN 0;
    END IF;
    total := trunc(abs(amount) * 1000000000000) * days;
    whole := div(total, of_days);
    twice := 2 * (total - whole * of_days);
    IF twice > of_days OR (twice = of_days AND whole % 2 = 1) THEN
        whole := whole + 1;
    END IF;
    RETURN sign(amount) * whole * 0.000000000001;
END
$$;
COMMENT ON FUNCTION weir.earned(numeric, integer, integer) IS 'What of an amount is earned after some of its days.';

-- generate_series would do, but planners take it to be a thousand months.
CREATE FUNCTION weir.months_of(first date, last date) RETURNS SETOF date
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE ROWS 3 AS $$
DECLARE
    month date := date_trunc('month', first::timestamp);
BEGIN
    WHILE month <= last LOOP
        RETURN NEXT month;
        month := month + interval '1 month';
    END LOOP;
END
$$;
COMMENT ON FUNCTION weir.months_of(date, date) IS 'The first days of the months from the one of a day to that of another.';

-- The first anniversary of a day on or after another.
CREATE FUNCTION weir.anniversary(of_day date, since date) RETURNS date
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    years integer := greatest(0, extract(year FROM since) - extract(year FROM of_day));
    found date := of_day + years * interval '1 year';
BEGIN
    RETURN CASE WHEN found >= since THEN found ELSE of_day + (years + 1) * interval '1 year' END;
END
$$;
COMMENT ON FUNCTION weir.anniversary(date, date) IS 'The first anniversary of a day on or after another; of a February 29th, the month''s last day.';

-- Each line item with the days over which it is earned, in its contract's time zone: [first_day, end_day). OFFSET 0 keeps the planner
-- from writing the same expressions out again and again.
CREATE VIEW weir.line_item_services AS
SELECT i.line_item_id, i.customer, i.contract, i.currency, i.period_start, i.period_end, i.item, i.meter, o.kind, i.amount, o.timezone,
       CASE o.kind WHEN 'fee' THEN CASE o.per WHEN 'contract' THEN 'at_once' ELSE 'rateable' END
                   WHEN 'true_up' THEN 'period_end' ELSE 'delivery' END AS basis,
       s.first_day,
       CASE WHEN o.kind <> 'fee' OR o.per = 'contract' THEN s.first_day + 1
            WHEN o.per = 'year' THEN weir.anniversary(o.start_day, greatest((i.period_end AT TIME ZONE o.timezone)::date, s.first_day + 1))
            ELSE greatest((i.period_end AT TIME ZONE o.timezone)::date, s.first_day + 1) END AS end_day
FROM weir.line_items AS i
LEFT JOIN weir.revenue_contracts AS f ON f.contract = i.contract
LEFT JOIN weir.contracts AS c ON c.contract = i.contract
LEFT JOIN weir.fee_terms AS t ON i.meter IS NULL AND t.price_book = i.price_book AND t.price_book_version = i.price_book_version
    AND t.fee = i.item
CROSS JOIN LATERAL (
    SELECT weir.reversed_kind(i.kind, i.meter, i.component) AS kind, coalesce(f.timezone, c.timezone, 'UTC') AS timezone,
           coalesce(t.per, 'period') AS per,
           CASE WHEN t.per = 'year' THEN (coalesce(f.starts_at, c.starts_at, i.period_start)
                                          AT TIME ZONE coalesce(f.timezone, c.timezone, 'UTC'))::date END AS start_day
    OFFSET 0) AS o
CROSS JOIN LATERAL (
    SELECT CASE WHEN o.kind = 'true_up' THEN ((i.period_end - interval '1 microsecond') AT TIME ZONE o.timezone)::date
                WHEN o.per = 'year' THEN weir.anniversary(o.start_day, (i.period_start AT TIME ZONE o.timezone)::date)
                ELSE (i.window_start AT TIME ZONE o.timezone)::date END AS first_day
    OFFSET 0) AS s;
COMMENT ON VIEW weir.line_item_services IS 'Line items with the days over which they are earned: from first_day on, before end_day. Finance reads revenue_schedule.';
COMMENT ON COLUMN weir.line_item_services.line_item_id IS 'The line item.';
COMMENT ON COLUMN weir.line_item_services.customer IS 'The customer.';
COMMENT ON COLUMN weir.line_item_services.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.line_item_services.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.line_item_services.period_start IS 'Start of its billing period.';
COMMENT ON COLUMN weir.line_item_services.period_end IS 'End of it.';
COMMENT ON COLUMN weir.line_item_services.item IS 'What is charged: key of the meter, the fee or the commitment.';
COMMENT ON COLUMN weir.line_item_services.meter IS 'Key of the meter; null for what is no usage.';
COMMENT ON COLUMN weir.line_item_services.kind IS 'Its kind; of a reversal, the kind of what it takes back.';
COMMENT ON COLUMN weir.line_item_services.amount IS 'Its amount.';
COMMENT ON COLUMN weir.line_item_services.timezone IS 'Time zone of the days.';
COMMENT ON COLUMN weir.line_item_services.basis IS 'delivery: the day in which its window starts; period_end: the last day of its billing period; rateable: evenly by day; at_once: its first day.';
COMMENT ON COLUMN weir.line_item_services.first_day IS 'First day.';
COMMENT ON COLUMN weir.line_item_services.end_day IS 'The day after the last one.';

CREATE VIEW weir.revenue_schedule WITH (security_barrier) AS
SELECT r.line_item_id, r.customer, r.contract, r.period_start, r.item, r.kind, r.currency, r.amount, r.basis, r.first_day,
       r.end_day - 1 AS last_day, r.service_month, greatest(r.service_month, o.month) AS month, r.recognised,
       coalesce(r.service_month < o.month, false) AS is_catch_up
FROM (SELECT w.*, date_trunc('month', w.first_day::timestamp)::date AS service_month, w.amount AS recognised
      FROM weir.line_item_services AS w WHERE w.basis <> 'rateable'
      UNION ALL
      SELECT w.*, m.month, weir.earned(w.amount, (m.month + interval '1 month')::date - w.first_day, w.end_day - w.first_day)
                           - weir.earned(w.amount, m.month - w.first_day, w.end_day - w.first_day)
      FROM weir.line_item_services AS w, weir.months_of(w.first_day, w.end_day - 1) AS m (month)
      WHERE w.meter IS NULL AND w.basis = 'rateable') AS r
LEFT JOIN LATERAL (
    SELECT (c.month + interval '1 month')::date AS month FROM weir.closed_months AS c
    WHERE c.customer = r.customer AND c.contract = r.contract AND c.through_item < r.line_item_id
    ORDER BY c.through_item DESC, c.month DESC LIMIT 1) AS o ON true
WHERE (SELECT weir.sees_every_customer(current_user)) OR r.customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.revenue_schedule IS 'What of each line item is earned in which month. Restrict customer and period_start. A line item''s rows add up to its amount.';
COMMENT ON COLUMN weir.revenue_schedule.line_item_id IS 'The line item: weir explain leads from there to the events.';
COMMENT ON COLUMN weir.revenue_schedule.customer IS 'The customer.';
COMMENT ON COLUMN weir.revenue_schedule.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.revenue_schedule.period_start IS 'Start of its billing period.';
COMMENT ON COLUMN weir.revenue_schedule.item IS 'What is charged: key of the meter, the fee or the commitment.';
COMMENT ON COLUMN weir.revenue_schedule.kind IS 'Its kind; of a reversal, the kind of what it takes back.';
COMMENT ON COLUMN weir.revenue_schedule.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.revenue_schedule.amount IS 'The line item''s amount.';
COMMENT ON COLUMN weir.revenue_schedule.basis IS 'delivery: the day in which its window starts; period_end: the last day of its billing period; rateable: evenly by day; at_once: its first day.';
COMMENT ON COLUMN weir.revenue_schedule.first_day IS 'First day of its service, in the contract''s time zone.';
COMMENT ON COLUMN weir.revenue_schedule.last_day IS 'Last day of it.';
COMMENT ON COLUMN weir.revenue_schedule.service_month IS 'Month of the service: its first day.';
COMMENT ON COLUMN weir.revenue_schedule.month IS 'Month in which it is recognised: that of the service, or the first that was open when the line item came.';
COMMENT ON COLUMN weir.revenue_schedule.recognised IS 'What is recognised of the amount.';
COMMENT ON COLUMN weir.revenue_schedule.is_catch_up IS 'Whether the line item came after the month of its service was closed.';

-- 3. In which month an invoice counts ------------------------------------------------------------------------------------------

CREATE TABLE weir.invoice_postings (
    customer text COLLATE "C" NOT NULL,
    contract text COLLATE "C" NOT NULL,
    currency text COLLATE "C" NOT NULL,
    month date NOT NULL CHECK (extract(day FROM month) = 1),
    invoice bigint NOT NULL REFERENCES weir.invoice_heads,
    document text NOT NULL CHECK (document IN ('invoice', 'credit_note')),
    amount numeric NOT NULL,
    rounding numeric NOT NULL,
    PRIMARY KEY (invoice, document)
);
CREATE INDEX invoice_postings_month ON weir.invoice_postings (customer, contract, month);
COMMENT ON TABLE weir.invoice_postings IS 'In which month each invoice and each credit note counts: the one in which its billing period ends, or the first that was open when it got its number.';
COMMENT ON COLUMN weir.invoice_postings.customer IS 'The customer.';
COMMENT ON COLUMN weir.invoice_postings.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.invoice_postings.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.invoice_postings.month IS 'First day of the month, in the contract''s time zone.';
COMMENT ON COLUMN weir.invoice_postings.invoice IS 'The invoice.';
COMMENT ON COLUMN weir.invoice_postings.document IS 'invoice, or credit_note: it takes the whole invoice back.';
COMMENT ON COLUMN weir.invoice_postings.amount IS 'Its exact amount; of a credit note with the sign turned.';
COMMENT ON COLUMN weir.invoice_postings.rounding IS 'Its total less that.';

CREATE FUNCTION weir.post_invoice() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO weir.invoice_postings (customer, contract, currency, month, invoice, document, amount, rounding)
    SELECT h.customer, h.contract, h.currency,
           greatest(date_trunc('month', (h.period_end - interval '1 microsecond') AT TIME ZONE coalesce(
                        (SELECT f.timezone FROM weir.revenue_contracts AS f WHERE f.contract = h.contract),
                        (SELECT c.timezone FROM weir.contracts AS c WHERE c.contract = h.contract), 'UTC'))::date,
                    (SELECT (max(m.month) + interval '1 month')::date FROM weir.closed_months AS m
                     WHERE m.customer = h.customer AND m.contract = h.contract),
                    (SELECT p.month FROM weir.invoice_postings AS p WHERE p.invoice = h.invoice AND p.document = 'invoice')),
           NEW.invoice, NEW.document, s.sign * h.amount, s.sign * (h.total - h.amount)
    FROM weir.invoice_heads AS h, (SELECT CASE NEW.document WHEN 'invoice' THEN 1 ELSE -1 END AS sign) AS s
    WHERE h.invoice = NEW.invoice;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.post_invoice() IS 'Notes in which month an invoice or a credit note that got its number counts.';
CREATE TRIGGER posted AFTER INSERT ON weir.invoice_numbers FOR EACH ROW EXECUTE FUNCTION weir.post_invoice();
INSERT INTO weir.invoice_postings (customer, contract, currency, month, invoice, document, amount, rounding)
    SELECT h.customer, h.contract, h.currency, date_trunc('month', (h.period_end - interval '1 microsecond') AT TIME ZONE coalesce(
               (SELECT c.timezone FROM weir.contracts AS c WHERE c.contract = h.contract), 'UTC'))::date,
           h.invoice, n.document, s.sign * h.amount, s.sign * (h.total - h.amount)
    FROM weir.invoice_numbers AS n JOIN weir.invoice_heads AS h USING (invoice)
    CROSS JOIN LATERAL (SELECT CASE n.document WHEN 'invoice' THEN 1 ELSE -1 END AS sign) AS s;

DO $$
DECLARE
    of text;
BEGIN
    FOREACH of IN ARRAY ARRAY['fee_terms', 'revenue_contracts', 'closed_months', 'closed_revenue', 'invoice_postings'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON weir.%I FOR EACH ROW'
                       ' EXECUTE FUNCTION weir.refuse_rewriting()', of);
        EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON weir.%I FOR EACH STATEMENT'
                       ' EXECUTE FUNCTION weir.refuse_rewriting()', of);
        EXECUTE format('REVOKE ALL ON weir.%I FROM PUBLIC', of);
    END LOOP;
END
$$;

-- 4. The months that are open --------------------------------------------------------------------------------------------------

-- For one customer at a time: restrict customer. Of billing periods that lie whole in closed months only line items are read that came
-- since, and fees that reach beyond; each by an index. What balances were when the last month was closed stands in closed_revenue.
CREATE VIEW weir.open_revenue AS
SELECT c.customer, o.contract, o.currency, o.month, o.invoiced, o.rounding, o.recognised, o.deferred, o.unbilled
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
    ), spans AS MATERIALIZED (
        SELECT k.contract, k.period_start, f.open_month, coalesce(f.through_item, 0) AS through_item,
               coalesce(((k.period_end - interval '1 microsecond') AT TIME ZONE f.timezone)::date < f.open_month, false) AS is_past
        FROM known AS k JOIN frontiers AS f USING (contract)
    ), items AS MATERIALIZED ( -- OFFSET 0: period by period, never all of a customer's partitions
        SELECT r.line_item_id, r.contract, r.currency, r.period_start, r.amount, r.first_day, r.end_day,
               s.open_month, r.line_item_id > s.through_item AS is_new
        FROM spans AS s CROSS JOIN LATERAL (
            SELECT w.* FROM weir.line_item_services AS w
            WHERE w.customer = c.customer AND w.period_start = s.period_start AND w.contract = s.contract OFFSET 0) AS r
        WHERE NOT s.is_past
        UNION ALL
        SELECT r.line_item_id, r.contract, r.currency, r.period_start, r.amount, r.first_day, r.end_day, s.open_month, true
        FROM spans AS s CROSS JOIN LATERAL (
            SELECT w.* FROM weir.line_item_services AS w
            WHERE w.customer = c.customer AND w.period_start = s.period_start AND w.contract = s.contract
                AND w.line_item_id > s.through_item OFFSET 0) AS r
        WHERE s.is_past
        UNION ALL
        SELECT r.line_item_id, r.contract, r.currency, r.period_start, r.amount, r.first_day, r.end_day, s.open_month, false
        FROM spans AS s CROSS JOIN LATERAL (
            SELECT w.* FROM weir.line_item_services AS w
            WHERE w.customer = c.customer AND w.period_start = s.period_start AND w.contract = s.contract
                AND w.line_item_id <= s.through_item AND w.meter IS NULL AND w.end_day > s.open_month OFFSET 0) AS r
        WHERE s.is_past
    ), stretches AS MATERIALIZED (
        SELECT i.*, greatest(date_trunc('month', i.first_day::timestamp)::date, i.open_month) AS from_month,
               greatest(date_trunc('month', (i.end_day - 1)::timestamp)::date, i.open_month) AS to_month
        FROM items AS i WHERE i.end_day > i.first_day + 1 AND (i.is_new OR i.open_month IS NULL OR i.end_day > i.open_month)
    ), moves AS (
        SELECT i.contract, i.currency, greatest(date_trunc('month', i.first_day::timestamp)::date, i.open_month) AS month,
               0 AS invoiced, 0 AS rounding, i.amount AS recognised, 0 AS deferred
        FROM items AS i
        WHERE i.end_day = i.first_day + 1 AND (i.is_new OR i.open_month IS NULL OR i.first_day >= i.open_month)
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
    )
    SELECT b.contract, b.currency, g.month, coalesce(m.invoiced, 0) AS invoiced, coalesce(m.rounding, 0) AS rounding,
           coalesce(m.recognised, 0) AS recognised, coalesce(m.deferred, 0) AS deferred,
           coalesce(b.balance, 0) + coalesce(m.deferred, 0) + sum(coalesce(m.recognised, 0) - coalesce(m.invoiced, 0))
               OVER (PARTITION BY b.contract, b.currency ORDER BY g.month) AS unbilled
    FROM bounds AS b CROSS JOIN LATERAL weir.months_of(b.from_month, b.to_month) AS g (month)
    LEFT JOIN months AS m ON m.contract = b.contract AND m.currency = b.currency AND m.month = g.month) AS o;
COMMENT ON VIEW weir.open_revenue IS 'The figures of revenue_months for months that are not closed, worked out from line items and invoices. Restrict customer.';
COMMENT ON COLUMN weir.open_revenue.customer IS 'The customer.';
COMMENT ON COLUMN weir.open_revenue.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.open_revenue.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.open_revenue.month IS 'First day of the month.';
COMMENT ON COLUMN weir.open_revenue.invoiced IS 'As in closed_revenue.';
COMMENT ON COLUMN weir.open_revenue.rounding IS 'As in closed_revenue.';
COMMENT ON COLUMN weir.open_revenue.recognised IS 'As in closed_revenue.';
COMMENT ON COLUMN weir.open_revenue.deferred IS 'As in closed_revenue.';
COMMENT ON COLUMN weir.open_revenue.unbilled IS 'As in closed_revenue.';

CREATE VIEW weir.revenue_months WITH (security_barrier) AS
SELECT r.customer, r.contract, r.currency, r.month, r.invoiced, r.rounding, r.recognised, r.deferred, r.unbilled, true AS is_closed
FROM weir.closed_revenue AS r
WHERE (SELECT weir.sees_every_customer(current_user)) OR r.customer IN (SELECT weir.seen_customers(current_user))
UNION ALL
SELECT o.customer, o.contract, o.currency, o.month, o.invoiced, o.rounding, o.recognised, o.deferred, o.unbilled, false
FROM weir.open_revenue AS o
WHERE (SELECT weir.sees_every_customer(current_user)) OR o.customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.revenue_months IS 'What was invoiced and what was earned in each calendar month, and what is deferred or not invoiced at its end: over all months up to one, recognised + deferred = invoiced + unbilled. Restrict customer.';
COMMENT ON COLUMN weir.revenue_months.customer IS 'The customer.';
COMMENT ON COLUMN weir.revenue_months.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.revenue_months.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.revenue_months.month IS 'First day of the calendar month, in the contract''s time zone.';
COMMENT ON COLUMN weir.revenue_months.invoiced IS 'Invoices of the month less credit notes, exact.';
COMMENT ON COLUMN weir.revenue_months.rounding IS 'What rounding adds to that: invoiced + rounding is the sum of the documents'' totals.';
COMMENT ON COLUMN weir.revenue_months.recognised IS 'Revenue that was earned in the month.';
COMMENT ON COLUMN weir.revenue_months.deferred IS 'At the end of the month: what was invoiced and is not earned yet (contract liability).';
COMMENT ON COLUMN weir.revenue_months.unbilled IS 'At the end of the month: what was earned and is not invoiced yet (contract asset, unbilled receivable).';
COMMENT ON COLUMN weir.revenue_months.is_closed IS 'Whether weir close has closed the month: its figures never change.';

-- 5. Closing -------------------------------------------------------------------------------------------------------------------

-- A month is closed when it has ended and is whole: all windows of every lane until its end are rated, no gap is open and no window held or
-- refused before that, and each billing period that ended by then is settled. Months are closed in their order.
CREATE FUNCTION weir.months_to_close(of_customer text, through_day date, through_at timestamptz)
RETURNS TABLE (contract text, timezone text, first_month date, last_month date)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.contract, h.timezone, coalesce(h.next_month, date_trunc('month', h.since AT TIME ZONE h.timezone)::date),
           (date_trunc('month', h.until AT TIME ZONE h.timezone) - interval '1 month')::date
    FROM (SELECT k.contract, coalesce(f.timezone, t.timezone, 'UTC') AS timezone, k.since,
                 (SELECT (max(m.month) + interval '1 month')::date FROM weir.closed_months AS m
                  WHERE m.customer = of_customer AND m.contract = k.contract) AS next_month,
                 least(weir.closing_end(k.contract, through_day, through_at),
                       (SELECT min(least(l.watermark, l.rated_through)) FROM weir.lanes AS l WHERE l.lane !~ '\.admitted:[0-9]+$'),
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
          LEFT JOIN weir.contracts AS t ON t.contract = k.contract) AS h
$$;
REVOKE ALL ON FUNCTION weir.months_to_close(text, date, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION weir.months_to_close(text, date, timestamptz) IS 'Which months of each contract of a customer weir close would close now: none where last_month is before first_month.';

CREATE FUNCTION weir.close_months(of_customer text, through_day date, through_at timestamptz, of_closing bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    figures weir.closed_revenue[];
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
    FOR of IN SELECT * FROM weir.months_to_close(of_customer, through_day, through_at) AS m WHERE m.first_month <= m.last_month LOOP
        INSERT INTO weir.closed_months (customer, contract, month, through_item, closing)
            SELECT of_customer, of.contract, m.month, newest, of_closing FROM weir.months_of(of.first_month, of.last_month) AS m (month);
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
REVOKE ALL ON FUNCTION weir.close_months(text, date, timestamptz, bigint) FROM PUBLIC;
COMMENT ON FUNCTION weir.close_months(text, date, timestamptz, bigint) IS 'Closes a customer''s months that ended and are whole, in the caller''s transaction, and writes down their figures.';

CREATE FUNCTION weir.close_books(of_customer text, through_day date, through_at timestamptz, is_draft boolean, of_series text,
                                 by_whom text, of_closing bigint, seller jsonb, buyer jsonb, tax_categories jsonb)
RETURNS TABLE (invoice bigint, contract text, period_start timestamptz, period_end timestamptz, currency text, total numeric,
               was_made boolean, number bigint, why text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT * FROM weir.close_customer(of_customer, through_day, through_at, is_draft, of_series, by_whom, of_closing,
                                                   seller, buyer, tax_categories);
    IF NOT is_draft THEN
        PERFORM weir.close_months(of_customer, through_day, through_at, of_closing);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION weir.close_books(text, date, timestamptz, boolean, text, text, bigint, jsonb, jsonb, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION weir.close_books(text, date, timestamptz, boolean, text, text, bigint, jsonb, jsonb, jsonb) IS 'weir.close_customer, and after it, unless invoices are to be drafts, weir.close_months.';
