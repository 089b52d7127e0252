-- Invoices: which line items stand on which, their lines, numbers and states. All of it append-only (docs/invoices.md).

-- 1. Billing periods that once were -------------------------------------------------------------------------------------------

-- A rerating may take a period away (its contract begins later now). What was charged in it stays in the ledger, together with what
-- takes it back, and closing must still find both.
CREATE TABLE weir.past_periods (
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    contract text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    PRIMARY KEY (customer, contract, period_start)
);
COMMENT ON TABLE weir.past_periods IS 'Billing periods whose row in billing_periods was removed by a rerating, now or once.';
COMMENT ON COLUMN weir.past_periods.customer IS 'The customer.';
COMMENT ON COLUMN weir.past_periods.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.past_periods.period_start IS 'Start of the period.';
COMMENT ON COLUMN weir.past_periods.period_end IS 'End of the period.';

CREATE FUNCTION weir.keep_past_period() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO weir.past_periods (customer, contract, period_start, period_end)
        VALUES (OLD.customer, OLD.contract, OLD.period_start, OLD.period_end) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.keep_past_period() IS 'Notes a billing period that is removed.';
CREATE TRIGGER keep_past AFTER DELETE ON weir.billing_periods FOR EACH ROW EXECUTE FUNCTION weir.keep_past_period();

-- 2. Closings --------------------------------------------------------------------------------------------------------------

CREATE TABLE weir.closings (
    closing bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now(),
    started_by text NOT NULL CHECK (started_by <> ''),
    through text NOT NULL CHECK (through <> ''),
    filters jsonb NOT NULL CHECK (jsonb_typeof(filters) = 'object'),
    is_draft boolean NOT NULL
);
COMMENT ON TABLE weir.closings IS 'Every run of weir close that wrote. One without an end in closing_ends was broken off, or is under way: what it has done stays, and another run goes on.';
COMMENT ON COLUMN weir.closings.closing IS 'Number of the run.';
COMMENT ON COLUMN weir.closings.started_at IS 'When it began.';
COMMENT ON COLUMN weir.closings.started_by IS 'Who: user and host of weir.';
COMMENT ON COLUMN weir.closings.through IS 'Periods that end until then: a day, in each contract''s time zone, or an instant.';
COMMENT ON COLUMN weir.closings.filters IS 'What was looked at: customer; {} is everything.';
COMMENT ON COLUMN weir.closings.is_draft IS 'Whether invoices were left as drafts.';

CREATE TABLE weir.closing_ends (
    closing bigint PRIMARY KEY REFERENCES weir.closings,
    ended_at timestamptz NOT NULL DEFAULT now(),
    customers bigint NOT NULL,
    invoices bigint NOT NULL,
    issued bigint NOT NULL,
    left_open bigint NOT NULL
);
COMMENT ON TABLE weir.closing_ends IS 'Closings that are through, and what they came to.';
COMMENT ON COLUMN weir.closing_ends.closing IS 'The run.';
COMMENT ON COLUMN weir.closing_ends.ended_at IS 'When its last customer was done.';
COMMENT ON COLUMN weir.closing_ends.customers IS 'Customers looked at.';
COMMENT ON COLUMN weir.closing_ends.invoices IS 'Invoices made.';
COMMENT ON COLUMN weir.closing_ends.issued IS 'Invoices that got their number: made final.';
COMMENT ON COLUMN weir.closing_ends.left_open IS 'Periods that could not be closed.';

-- 3. Invoices --------------------------------------------------------------------------------------------------------------

CREATE SEQUENCE weir.invoice_ids;

CREATE TABLE weir.invoice_heads (
    invoice bigint PRIMARY KEY DEFAULT nextval('weir.invoice_ids'),
    customer text COLLATE "C" NOT NULL REFERENCES weir.customers,
    contract text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('period', 'correction')),
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    currency_places smallint NOT NULL CHECK (currency_places BETWEEN 0 AND 12),
    amount numeric NOT NULL,
    total numeric NOT NULL,
    replaces bigint,
    ledger_position bigint NOT NULL CHECK (ledger_position >= 0),
    closing bigint REFERENCES weir.closings,
    made_at timestamptz NOT NULL DEFAULT now(),
    made_by text NOT NULL CHECK (made_by <> ''),
    seller jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(seller) = 'object'),
    buyer jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(buyer) = 'object'),
    CHECK (period_start < period_end),
    CHECK (scale(total) <= currency_places OR total = trunc(total, currency_places))
);
-- A period has one invoice in a currency, and one that takes the place of each that is void.
CREATE UNIQUE INDEX invoice_heads_one ON weir.invoice_heads (customer, contract, period_start, currency, coalesce(replaces, 0))
    WHERE kind = 'period';
COMMENT ON TABLE weir.invoice_heads IS 'Every invoice that was made: of one contract of one customer, for one billing period and in one currency. Its state is in the view invoices.';
COMMENT ON COLUMN weir.invoice_heads.invoice IS 'What weir calls it, also before it has a number.';
COMMENT ON COLUMN weir.invoice_heads.customer IS 'The customer.';
COMMENT ON COLUMN weir.invoice_heads.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.invoice_heads.kind IS 'period: of a billing period; correction: only adjustments, where no further period of the contract came to carry them.';
COMMENT ON COLUMN weir.invoice_heads.period_start IS 'Start of the billing period; of a correction, of the latest one that it corrects.';
COMMENT ON COLUMN weir.invoice_heads.period_end IS 'End of that period: the first instant after it.';
COMMENT ON COLUMN weir.invoice_heads.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.invoice_heads.currency_places IS 'Decimal places of the currency.';
COMMENT ON COLUMN weir.invoice_heads.amount IS 'Sum of its line items, exact.';
COMMENT ON COLUMN weir.invoice_heads.total IS 'What is to be paid, before taxes: the sum rounded once to the currency''s places.';
COMMENT ON COLUMN weir.invoice_heads.replaces IS 'The void invoice of the same period whose place it takes.';
COMMENT ON COLUMN weir.invoice_heads.ledger_position IS 'The highest number (line_item_id) of its line items.';
COMMENT ON COLUMN weir.invoice_heads.closing IS 'The run of weir close that made it.';
COMMENT ON COLUMN weir.invoice_heads.made_at IS 'When it was made.';
COMMENT ON COLUMN weir.invoice_heads.made_by IS 'Who made it: user and host of weir.';
COMMENT ON COLUMN weir.invoice_heads.seller IS 'The seller''s details, as given when it was made.';
COMMENT ON COLUMN weir.invoice_heads.buyer IS 'The customer''s details, as given when it was made.';

CREATE TABLE weir.invoice_voids (
    invoice bigint PRIMARY KEY REFERENCES weir.invoice_heads,
    voided_at timestamptz NOT NULL DEFAULT now(),
    voided_by text NOT NULL CHECK (voided_by <> ''),
    reason text NOT NULL CHECK (reason <> '')
);
COMMENT ON TABLE weir.invoice_voids IS 'Invoices that are void: their line items are free to stand on another one.';
COMMENT ON COLUMN weir.invoice_voids.invoice IS 'The invoice.';
COMMENT ON COLUMN weir.invoice_voids.voided_at IS 'When.';
COMMENT ON COLUMN weir.invoice_voids.voided_by IS 'Who: user and host of weir.';
COMMENT ON COLUMN weir.invoice_voids.reason IS 'Why.';
ALTER TABLE weir.invoice_heads ADD FOREIGN KEY (replaces) REFERENCES weir.invoice_voids;

-- Each number follows from the one before it, by a foreign key: no gap can come to be, and none can be made.
CREATE TABLE weir.invoice_numbers (
    series text COLLATE "C" NOT NULL CHECK (series <> ''),
    number bigint NOT NULL CHECK (number >= 1),
    document text NOT NULL CHECK (document IN ('invoice', 'credit_note')),
    invoice bigint NOT NULL REFERENCES weir.invoice_heads,
    issued_at timestamptz NOT NULL DEFAULT now(),
    issued_by text NOT NULL CHECK (issued_by <> ''),
    digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    previous bigint GENERATED ALWAYS AS (nullif(number - 1, 0)) STORED,
    PRIMARY KEY (series, number),
    UNIQUE (invoice, document),
    FOREIGN KEY (series, previous) REFERENCES weir.invoice_numbers (series, number)
);
COMMENT ON TABLE weir.invoice_numbers IS 'The numbers that were given: to invoices when they became final, to credit notes that make them void. Each series counts from 1 without a gap.';
COMMENT ON COLUMN weir.invoice_numbers.series IS 'The series.';
COMMENT ON COLUMN weir.invoice_numbers.number IS 'The number in it.';
COMMENT ON COLUMN weir.invoice_numbers.document IS 'invoice, or credit_note: it takes the whole invoice back.';
COMMENT ON COLUMN weir.invoice_numbers.invoice IS 'The invoice.';
COMMENT ON COLUMN weir.invoice_numbers.issued_at IS 'When it was given.';
COMMENT ON COLUMN weir.invoice_numbers.issued_by IS 'Who: user and host of weir.';
COMMENT ON COLUMN weir.invoice_numbers.digest IS 'SHA-256 of the invoice''s head and lines (weir.invoice_digest).';
COMMENT ON COLUMN weir.invoice_numbers.previous IS 'The number before it, which must be there.';

-- Which line items: of one customer, contract, billing period and currency, by number. Numbers of one customer''s line items ascend in
-- the order in which they are committed, since whoever writes them holds the customer''s lock. So the ranges that are on an invoice for
-- the first time (replaces is null) follow one another, and those of a void invoice are taken once more, each by one other.
CREATE TABLE weir.invoice_ranges (
    invoice bigint NOT NULL REFERENCES weir.invoice_heads DEFERRABLE INITIALLY DEFERRED,
    customer text COLLATE "C" NOT NULL,
    contract text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    currency text COLLATE "C" NOT NULL,
    after_item bigint NOT NULL CHECK (after_item >= 0),
    through_item bigint NOT NULL,
    replaces bigint REFERENCES weir.invoice_voids,
    CHECK (after_item < through_item),
    PRIMARY KEY (customer, contract, period_start, currency, invoice, after_item),
    UNIQUE (invoice, customer, contract, period_start, currency, after_item, through_item),
    UNIQUE (replaces, customer, contract, period_start, currency, after_item),
    FOREIGN KEY (replaces, customer, contract, period_start, currency, after_item, through_item)
        REFERENCES weir.invoice_ranges (invoice, customer, contract, period_start, currency, after_item, through_item),
    CONSTRAINT invoice_ranges_overlap EXCLUDE USING gist (customer WITH =, contract WITH =, period_start WITH =, currency WITH =,
        int8range(after_item, through_item, '(]') WITH &&) WHERE (replaces IS NULL)
);
COMMENT ON TABLE weir.invoice_ranges IS 'Which line items stand on which invoice: those of the customer, contract, billing period and currency whose line_item_id is above after_item and not above through_item. Constraints see to it that none is on two invoices that are not void.';
COMMENT ON COLUMN weir.invoice_ranges.invoice IS 'The invoice.';
COMMENT ON COLUMN weir.invoice_ranges.customer IS 'The customer.';
COMMENT ON COLUMN weir.invoice_ranges.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.invoice_ranges.period_start IS 'Start of the billing period of the line items: the invoice''s own, or of an earlier one that they adjust.';
COMMENT ON COLUMN weir.invoice_ranges.period_end IS 'End of that period.';
COMMENT ON COLUMN weir.invoice_ranges.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.invoice_ranges.after_item IS 'Line items with a higher number.';
COMMENT ON COLUMN weir.invoice_ranges.through_item IS 'Line items up to this number.';
COMMENT ON COLUMN weir.invoice_ranges.replaces IS 'The void invoice on which they stood before; null: they were on none.';

CREATE TABLE weir.invoice_rows (
    invoice bigint NOT NULL REFERENCES weir.invoice_heads DEFERRABLE INITIALLY DEFERRED,
    line integer NOT NULL CHECK (line >= 1),
    is_adjustment boolean NOT NULL,
    kind text NOT NULL CHECK (kind <> ''),
    item text NOT NULL,
    meter text,
    dimensions jsonb NOT NULL,
    service_start timestamptz NOT NULL,
    service_end timestamptz NOT NULL,
    price_book text,
    price_book_version integer,
    model text,
    component text,
    tier integer,
    unit_price numeric(39,12),
    quantity numeric NOT NULL,
    amount numeric NOT NULL,
    invoice_amount numeric NOT NULL,
    line_items bigint NOT NULL CHECK (line_items >= 0),
    corrected_invoice bigint REFERENCES weir.invoice_heads,
    corrected_line integer,
    tax_category text,
    PRIMARY KEY (invoice, line),
    FOREIGN KEY (corrected_invoice, corrected_line) REFERENCES weir.invoice_rows (invoice, line),
    CHECK (is_adjustment OR corrected_invoice IS NULL),
    CHECK (kind <> 'rounding' OR (amount = 0 AND quantity = 0 AND line_items = 0))
);
COMMENT ON TABLE weir.invoice_rows IS 'The lines of invoices.';
COMMENT ON COLUMN weir.invoice_rows.invoice IS 'The invoice.';
COMMENT ON COLUMN weir.invoice_rows.line IS 'Its number on the invoice, from 1.';
COMMENT ON COLUMN weir.invoice_rows.is_adjustment IS 'Whether it is for an earlier billing period than the invoice''s.';
COMMENT ON COLUMN weir.invoice_rows.kind IS 'usage, fee, true_up, drawdown, overage, adjustment, or rounding: what the total differs by from the sum of the rounded lines.';
COMMENT ON COLUMN weir.invoice_rows.item IS 'What is charged: key of the meter, the fee or the commitment; empty for rounding.';
COMMENT ON COLUMN weir.invoice_rows.meter IS 'Key of the meter; null for what is no usage.';
COMMENT ON COLUMN weir.invoice_rows.dimensions IS 'The dimensions that all of the line''s usage has in common, when that is all of them.';
COMMENT ON COLUMN weir.invoice_rows.service_start IS 'Start of the billing period in which it was delivered.';
COMMENT ON COLUMN weir.invoice_rows.service_end IS 'End of that period: the first instant after it.';
COMMENT ON COLUMN weir.invoice_rows.price_book IS 'Key of the price book; null for rounding.';
COMMENT ON COLUMN weir.invoice_rows.price_book_version IS 'Version of the price book.';
COMMENT ON COLUMN weir.invoice_rows.model IS 'Price model; null for what is no usage.';
COMMENT ON COLUMN weir.invoice_rows.component IS 'Which part of the price (line_items.component).';
COMMENT ON COLUMN weir.invoice_rows.tier IS 'Tier of the price, from 1; 0 for what concerns the whole price.';
COMMENT ON COLUMN weir.invoice_rows.unit_price IS 'Price of one unit; null where there is none.';
COMMENT ON COLUMN weir.invoice_rows.quantity IS 'Quantity: of an adjustment, by how much it changed.';
COMMENT ON COLUMN weir.invoice_rows.amount IS 'Charge before taxes, exact: the sum of its line items.';
COMMENT ON COLUMN weir.invoice_rows.invoice_amount IS 'Charge rounded once to the currency, as its price book says.';
COMMENT ON COLUMN weir.invoice_rows.line_items IS 'Number of line items in it.';
COMMENT ON COLUMN weir.invoice_rows.corrected_invoice IS 'Of an adjustment: the invoice that charged that period; null: there was none.';
COMMENT ON COLUMN weir.invoice_rows.corrected_line IS 'The line there of the same price and tier, or else of the same item; null: it had none.';
COMMENT ON COLUMN weir.invoice_rows.tax_category IS 'What the details file says of the item, for the system that adds taxes.';

-- An invoice is its lines, exactly and as rounded. Deferred: its parts come one after another.
CREATE FUNCTION weir.check_invoice() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sums record;
BEGIN
    SELECT coalesce(sum(amount), 0) AS amount, coalesce(sum(invoice_amount), 0) AS total INTO sums
        FROM weir.invoice_rows WHERE invoice_rows.invoice = NEW.invoice;
    IF sums.amount <> NEW.amount OR sums.total <> NEW.total THEN
        RAISE EXCEPTION 'invoice %: its lines add up to % (%), its head says % (%)', NEW.invoice, sums.total, sums.amount, NEW.total,
            NEW.amount USING ERRCODE = 'check_violation', CONSTRAINT = 'invoice_is_its_lines';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.check_invoice() IS 'Refuses an invoice that is not the sum of its lines.';
CREATE CONSTRAINT TRIGGER is_its_lines AFTER INSERT ON weir.invoice_heads DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION weir.check_invoice();

DO $$
DECLARE
    of text;
BEGIN
    FOREACH of IN ARRAY ARRAY['closings', 'closing_ends', 'invoice_heads', 'invoice_voids', 'invoice_numbers', 'invoice_ranges',
                              'invoice_rows', 'past_periods'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON weir.%I FOR EACH ROW'
                       ' EXECUTE FUNCTION weir.refuse_rewriting()', of);
        EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON weir.%I FOR EACH STATEMENT'
                       ' EXECUTE FUNCTION weir.refuse_rewriting()', of);
        EXECUTE format('REVOKE ALL ON weir.%I FROM PUBLIC', of);
    END LOOP;
END
$$;

-- 4. What is on no invoice yet ---------------------------------------------------------------------------------------------

CREATE FUNCTION weir.uninvoiced(of_customer text)
RETURNS TABLE (contract text, period_start timestamptz, period_end timestamptz, currency text, after_item bigint, through_item bigint,
               replaces bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH known AS (
        SELECT p.contract, p.period_start, p.period_end FROM weir.billing_periods AS p WHERE p.customer = of_customer
        UNION ALL
        SELECT p.contract, p.period_start, p.period_end FROM weir.past_periods AS p
            WHERE p.customer = of_customer AND NOT EXISTS (SELECT FROM weir.billing_periods AS b WHERE b.customer = p.customer
                AND b.contract = p.contract AND b.period_start = p.period_start)
    ), covered AS (
        SELECT r.contract, r.period_start, r.currency, max(r.through_item) AS through
            FROM weir.invoice_ranges AS r WHERE r.customer = of_customer AND r.replaces IS NULL GROUP BY 1, 2, 3
    ), least_covered AS (
        SELECT c.contract, c.period_start, min(c.through) AS through FROM covered AS c GROUP BY 1, 2
    )
    SELECT k.contract, k.period_start, k.period_end, l.currency, coalesce(c.through, 0), l.newest, NULL::bigint
        FROM known AS k LEFT JOIN least_covered AS m USING (contract, period_start)
        CROSS JOIN LATERAL (
            SELECT i.currency, max(i.line_item_id) AS newest FROM weir.line_items AS i
            WHERE i.customer = of_customer AND i.period_start = k.period_start AND i.line_item_id > coalesce(m.through, 0)
                AND i.contract = k.contract
            GROUP BY i.currency) AS l
        LEFT JOIN covered AS c ON c.contract = k.contract AND c.period_start = k.period_start AND c.currency = l.currency
        WHERE l.newest > coalesce(c.through, 0)
    UNION ALL
    SELECT r.contract, r.period_start, r.period_end, r.currency, r.after_item, r.through_item, r.invoice
        FROM weir.invoice_ranges AS r JOIN weir.invoice_voids AS v ON v.invoice = r.invoice
        WHERE r.customer = of_customer
            AND NOT EXISTS (SELECT FROM weir.invoice_ranges AS n WHERE n.replaces = r.invoice AND n.customer = r.customer
                AND n.contract = r.contract AND n.period_start = r.period_start AND n.currency = r.currency
                AND n.after_item = r.after_item)
$$;
REVOKE ALL ON FUNCTION weir.uninvoiced(text) FROM PUBLIC;
COMMENT ON FUNCTION weir.uninvoiced(text) IS 'A customer''s line items that stand on no invoice, or on a void one, by contract, billing period and currency: those above after_item and not above through_item; replaces is the void invoice.';

CREATE VIEW weir.period_obstacles AS
SELECT p.customer, p.contract, p.period_start, p.period_end, p.is_closed, coalesce(
    (SELECT format('gap %s of lane %s is open: weir release', g.gap, g.lane) FROM weir.open_gaps AS g
        WHERE g.time_from < p.period_end AND g.time_to > p.period_start ORDER BY g.gap LIMIT 1),
    (SELECT format('%s windows of it are held or refused: weir.held_usage', count(*)) FROM weir.held_windows AS h
        WHERE h.customer = p.customer AND h.window_start < p.period_end AND h.window_end > p.period_start
        HAVING count(*) > 0),
    CASE WHEN NOT p.is_closed THEN
        coalesce((SELECT format('not settled: lane %s is at %s', l.lane, to_char(l.watermark AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
                  FROM weir.lanes AS l WHERE l.watermark < p.period_end AND l.lane !~ '\.admitted:[0-9]+$'
                  ORDER BY l.watermark, l.lane LIMIT 1),
                 'not settled: no rater has charged its fees and true-up yet') END) AS why
FROM weir.billing_periods AS p;
COMMENT ON VIEW weir.period_obstacles IS 'What a billing period waits for before it can be closed: which lane, gap or held windows.';
COMMENT ON COLUMN weir.period_obstacles.customer IS 'The customer.';
COMMENT ON COLUMN weir.period_obstacles.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.period_obstacles.period_start IS 'Start of the period.';
COMMENT ON COLUMN weir.period_obstacles.period_end IS 'End of the period: the first instant after it.';
COMMENT ON COLUMN weir.period_obstacles.is_closed IS 'Whether it is settled: its fees in arrears and true-up are in the ledger.';
COMMENT ON COLUMN weir.period_obstacles.why IS 'Why it cannot be closed; null: nothing keeps it.';

-- 5. The plan of a customer's closing --------------------------------------------------------------------------------------

CREATE TYPE weir.closing_step AS (
    contract text, target_kind text, target_start timestamptz, target_end timestamptz, currency text,
    period_start timestamptz, period_end timestamptz, after_item bigint, through_item bigint, replaces bigint, why text);
COMMENT ON TYPE weir.closing_step IS 'Line items and the invoice that they go to; or (after_item is null) a period that cannot be closed, and why.';

-- The day ends when the contract's next one begins. Exactly one of the two times is given.
CREATE FUNCTION weir.closing_end(of_contract text, through_day date, through_at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(through_at, (through_day + 1)::timestamp AT TIME ZONE
        coalesce((SELECT c.timezone FROM weir.contracts AS c WHERE c.contract = of_contract), 'UTC'))
$$;
REVOKE ALL ON FUNCTION weir.closing_end(text, date, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION weir.closing_end(text, date, timestamptz) IS 'Up to when a contract''s periods are closed: an instant, or the end of a day in the contract''s time zone.';

-- Each range goes to the first period of its contract, from its own on, that can be closed now and has no invoice yet in its
-- currency. Periods are closed in their order: one that waits holds those after it back. What is left belongs to periods that have
-- their invoice; it waits for the next one, unless none came in as long as the period itself took.
CREATE FUNCTION weir.closing_plan(of_customer text, through_day date, through_at timestamptz) RETURNS SETOF weir.closing_step
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
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
            WHERE r.contract = f.contract AND r.period_start >= f.period_start
                AND NOT EXISTS (SELECT FROM live AS l WHERE l.contract = r.contract AND l.period_start = r.period_start
                    AND l.currency = f.currency)
            ORDER BY r.period_start LIMIT 1) AS t ON true
    ), left_over AS (
        SELECT a.* FROM aimed AS a JOIN ends AS e USING (contract)
        WHERE a.target_start IS NULL AND a.period_end + (a.period_end - a.period_start) <= e.through
            AND NOT EXISTS (SELECT FROM weir.billing_periods AS p WHERE p.customer = of_customer AND p.contract = a.contract
                AND p.period_start >= a.period_start
                AND NOT EXISTS (SELECT FROM live AS l WHERE l.contract = p.contract AND l.period_start = p.period_start
                    AND l.currency = a.currency))
            AND NOT EXISTS (SELECT FROM periods AS p WHERE p.contract = a.contract AND p.period_start = a.period_start
                AND p.why IS NOT NULL)
    )
    SELECT a.contract, 'period', a.target_start, a.target_end, a.currency, a.period_start, a.period_end, a.after_item, a.through_item,
           a.replaces, NULL::text
        FROM aimed AS a WHERE a.target_start IS NOT NULL
    UNION ALL
    SELECT o.contract, 'correction', max(o.period_start) OVER same, max(o.period_end) OVER same, o.currency, o.period_start,
           o.period_end, o.after_item, o.through_item, o.replaces, NULL
        FROM left_over AS o WINDOW same AS (PARTITION BY o.contract, o.currency)
    UNION ALL
    SELECT p.contract, NULL, p.period_start, p.period_end, NULL, NULL, NULL, NULL, NULL, NULL, p.why
        FROM periods AS p WHERE p.has_ended AND p.why IS NOT NULL AND NOT p.is_invoiced
$$;
REVOKE ALL ON FUNCTION weir.closing_plan(text, date, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION weir.closing_plan(text, date, timestamptz) IS 'What closing a customer''s periods would do now: which line items go to which invoice, and which periods cannot be closed, with the reason.';

-- 6. Making invoices -------------------------------------------------------------------------------------------------------

-- In a fixed form, column by column: columns that are added later do not alter what was signed.
CREATE FUNCTION weir.invoice_digest(of_invoice bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT encode(sha256(convert_to(jsonb_build_array(h.invoice, h.customer, h.contract, h.kind, h.period_start, h.period_end, h.currency,
            h.amount, h.total, h.replaces, h.ledger_position, h.seller, h.buyer,
            (SELECT jsonb_agg(jsonb_build_array(r.line, r.is_adjustment, r.kind, r.item, r.meter, r.dimensions, r.service_start,
                        r.service_end, r.price_book, r.price_book_version, r.model, r.component, r.tier, r.unit_price, r.quantity,
                        r.amount, r.invoice_amount, r.line_items, r.corrected_invoice, r.corrected_line, r.tax_category)
                    ORDER BY r.line) FROM weir.invoice_rows AS r WHERE r.invoice = h.invoice),
            (SELECT jsonb_agg(jsonb_build_array(g.contract, g.period_start, g.currency, g.after_item, g.through_item, g.replaces)
                    ORDER BY g.contract, g.period_start, g.currency, g.after_item)
                FROM weir.invoice_ranges AS g WHERE g.invoice = h.invoice))::text, 'UTF8')), 'hex')
    FROM weir.invoice_heads AS h WHERE h.invoice = of_invoice
$$;
REVOKE ALL ON FUNCTION weir.invoice_digest(bigint) FROM PUBLIC;
COMMENT ON FUNCTION weir.invoice_digest(bigint) IS 'SHA-256 of an invoice: its head, its lines and its ranges of line items.';

-- One at a time for each series, until the transaction ends: a number that is not committed would otherwise be passed over.
CREATE FUNCTION weir.issue_number(of_series text, of_document text, of_invoice bigint, by_whom text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(2003132786, hashtext('weir series ' || of_series));
    INSERT INTO weir.invoice_numbers (series, number, document, invoice, issued_by, digest)
        SELECT of_series, coalesce(max(n.number), 0) + 1, of_document, of_invoice, by_whom, weir.invoice_digest(of_invoice)
        FROM weir.invoice_numbers AS n WHERE n.series = of_series
        RETURNING number INTO given;
    RETURN given;
END
$$;
REVOKE ALL ON FUNCTION weir.issue_number(text, text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION weir.issue_number(text, text, bigint, text) IS 'Gives an invoice, or the credit note that takes it back, the next number of a series.';

-- A line is what one price, component, tier and unit price charge of an item in one billing period; what was taken back whole is none.
-- An adjustment names the line of the same price and tier, or else of the same item and kind.
CREATE FUNCTION weir.make_invoice_rows(head weir.invoice_heads, tax_categories jsonb) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    WITH grouped AS (
        SELECT r.period_start AS service_start, r.period_end AS service_end,
               head.kind <> 'period' OR r.period_start <> head.period_start AS is_adjustment,
               weir.reversed_kind(i.kind, i.meter, i.component) AS kind, i.item, i.meter, i.price_book, i.price_book_version, i.model,
               i.component, i.tier, i.unit_price,
               CASE WHEN min(i.dimensions::text) = max(i.dimensions::text) THEN min(i.dimensions::text)::jsonb ELSE '{}' END AS dimensions,
               sum(i.quantity) AS quantity, sum(i.amount) AS amount, count(*) AS line_items
        FROM weir.invoice_ranges AS r JOIN weir.line_items AS i ON i.customer = r.customer AND i.period_start = r.period_start
            AND i.line_item_id > r.after_item AND i.line_item_id <= r.through_item
            AND i.contract = r.contract AND i.currency = r.currency
        WHERE r.invoice = head.invoice AND r.customer = head.customer
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
        HAVING sum(i.quantity) <> 0 OR sum(i.amount) <> 0
    ), numbered AS (
        SELECT g.*, weir.round_invoice(g.amount, b.currency_places, b.rounding) AS invoice_amount,
               row_number() OVER (ORDER BY g.is_adjustment, g.service_start,
                   array_position(ARRAY['fee', 'usage', 'overage', 'true_up', 'adjustment', 'drawdown'], g.kind), g.item COLLATE "C",
                   g.price_book COLLATE "C", g.price_book_version, g.tier, g.component COLLATE "C", g.unit_price, g.model COLLATE "C",
                   g.meter COLLATE "C")::integer AS line
        FROM grouped AS g JOIN weir.price_books AS b USING (price_book)
    )
    INSERT INTO weir.invoice_rows (invoice, line, is_adjustment, kind, item, meter, dimensions, service_start, service_end, price_book,
        price_book_version, model, component, tier, unit_price, quantity, amount, invoice_amount, line_items, corrected_invoice,
        corrected_line, tax_category)
    SELECT head.invoice, n.line, n.is_adjustment, n.kind, n.item, n.meter, n.dimensions, n.service_start, n.service_end, n.price_book,
           n.price_book_version, n.model, n.component, n.tier, n.unit_price, n.quantity, n.amount, n.invoice_amount, n.line_items,
           c.invoice,
           (SELECT o.line FROM weir.invoice_rows AS o
            WHERE o.invoice = c.invoice AND NOT o.is_adjustment AND o.kind = n.kind AND o.item = n.item
            ORDER BY (o.price_book = n.price_book AND o.price_book_version IS NOT DISTINCT FROM n.price_book_version
                      AND o.component = n.component AND o.tier IS NOT DISTINCT FROM n.tier
                      AND o.unit_price IS NOT DISTINCT FROM n.unit_price) DESC, o.line LIMIT 1),
           coalesce(tax_categories ->> n.item, tax_categories ->> '')
    FROM numbered AS n LEFT JOIN LATERAL (
        SELECT h.invoice FROM weir.invoice_heads AS h
        WHERE n.is_adjustment AND h.customer = head.customer AND h.contract = head.contract AND h.period_start = n.service_start
            AND h.currency = head.currency AND h.kind = 'period'
        ORDER BY EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice), h.invoice DESC LIMIT 1) AS c ON true
$$;
REVOKE ALL ON FUNCTION weir.make_invoice_rows(weir.invoice_heads, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION weir.make_invoice_rows(weir.invoice_heads, jsonb) IS 'Writes an invoice''s lines, from the line items of its ranges.';

-- The ranges of a plan that go to one invoice, its lines, what is left of rounding, and its head.
CREATE FUNCTION weir.make_invoice(head weir.invoice_heads, steps weir.closing_step[], tax_categories jsonb) RETURNS weir.invoice_heads
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rounding text;
BEGIN
    head.invoice := nextval('weir.invoice_ids');
    head.made_at := now();
    -- The newest void one of the same period that has no other in its place.
    SELECT max(h.invoice) INTO head.replaces FROM weir.invoice_heads AS h JOIN weir.invoice_voids AS v ON v.invoice = h.invoice
        WHERE h.customer = head.customer AND h.contract = head.contract AND h.period_start = head.period_start
            AND h.currency = head.currency AND h.kind = 'period' AND head.kind = 'period';
    INSERT INTO weir.invoice_ranges (invoice, customer, contract, period_start, period_end, currency, after_item, through_item, replaces)
        SELECT head.invoice, head.customer, s.contract, s.period_start, s.period_end, s.currency, s.after_item, s.through_item, s.replaces
        FROM unnest(steps) AS s
        WHERE s.after_item IS NOT NULL AND s.contract = head.contract AND s.target_kind = head.kind
            AND s.target_start = head.period_start AND s.currency = head.currency;
    PERFORM weir.make_invoice_rows(head, tax_categories);
    SELECT max(g.through_item) INTO head.ledger_position FROM weir.invoice_ranges AS g WHERE g.invoice = head.invoice;
    SELECT max(b.currency_places) INTO head.currency_places FROM weir.price_books AS b WHERE b.currency = head.currency;
    SELECT coalesce(sum(r.amount), 0), CASE WHEN bool_and(b.rounding = 'half_up') THEN 'half_up' ELSE 'half_even' END
        INTO head.amount, rounding
        FROM weir.invoice_rows AS r JOIN weir.price_books AS b USING (price_book) WHERE r.invoice = head.invoice;
    head.total := weir.round_invoice(head.amount, head.currency_places, rounding);
    INSERT INTO weir.invoice_rows (invoice, line, is_adjustment, kind, item, dimensions, service_start, service_end, quantity, amount,
                                   invoice_amount, line_items)
        SELECT head.invoice, max(r.line) + 1, false, 'rounding', '', '{}', head.period_start, head.period_end, 0, 0,
               head.total - sum(r.invoice_amount), 0
        FROM weir.invoice_rows AS r WHERE r.invoice = head.invoice HAVING sum(r.invoice_amount) <> head.total;
    INSERT INTO weir.invoice_heads SELECT head.*;
    RETURN head;
END
$$;
REVOKE ALL ON FUNCTION weir.make_invoice(weir.invoice_heads, weir.closing_step[], jsonb) FROM PUBLIC;
COMMENT ON FUNCTION weir.make_invoice(weir.invoice_heads, weir.closing_step[], jsonb) IS 'Makes one invoice of a plan (weir.closing_plan). The customer''s lock is held.';

-- A draft that more line items came for would not be what is in the ledger: it gives way to a new one.
CREATE FUNCTION weir.drop_old_drafts(of_customer text, through_day date, through_at timestamptz, by_whom text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO weir.invoice_voids (invoice, voided_by, reason)
    SELECT h.invoice, by_whom, 'line items came since: a newer draft takes its place'
    FROM weir.invoice_heads AS h LEFT JOIN weir.period_obstacles AS p USING (customer, contract, period_start)
    WHERE h.customer = of_customer AND NOT EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice)
        AND NOT EXISTS (SELECT FROM weir.invoice_numbers AS n WHERE n.invoice = h.invoice)
        AND h.period_end <= weir.closing_end(h.contract, through_day, through_at)
        AND p.why IS NULL
        AND EXISTS (SELECT FROM weir.uninvoiced(of_customer) AS u WHERE u.contract = h.contract AND u.currency = h.currency
            AND u.period_start <= h.period_start)
$$;
REVOKE ALL ON FUNCTION weir.drop_old_drafts(text, date, timestamptz, text) FROM PUBLIC;
COMMENT ON FUNCTION weir.drop_old_drafts(text, date, timestamptz, text) IS 'Makes drafts void that do not hold all that they would hold if they were made now.';

-- Closes one customer's periods, in the caller's transaction. Answers what became of each: an invoice that was made or issued, or
-- a period that could not be closed.
CREATE FUNCTION weir.close_customer(of_customer text, through_day date, through_at timestamptz, is_draft boolean, of_series text,
                                    by_whom text, of_closing bigint, seller jsonb, buyer jsonb, tax_categories jsonb)
RETURNS TABLE (invoice bigint, contract text, period_start timestamptz, period_end timestamptz, currency text, total numeric,
               was_made boolean, number bigint, why text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    steps weir.closing_step[];
    head weir.invoice_heads;
    made bigint[] := '{}';
BEGIN
    PERFORM FROM weir.customers AS c WHERE c.customer = of_customer FOR NO KEY UPDATE;
    PERFORM weir.drop_old_drafts(of_customer, through_day, through_at, by_whom);
    steps := array(SELECT s FROM weir.closing_plan(of_customer, through_day, through_at) AS s);
    FOR head IN
        SELECT DISTINCT NULL::bigint, of_customer, s.contract, s.target_kind, s.target_start, s.target_end, s.currency, NULL::smallint,
            NULL::numeric, NULL::numeric, NULL::bigint, NULL::bigint, of_closing, NULL::timestamptz, by_whom, seller, buyer
        FROM unnest(steps) AS s WHERE s.after_item IS NOT NULL
        ORDER BY s.target_start, s.contract, s.target_kind DESC, s.currency
    LOOP
        head := weir.make_invoice(head, steps, tax_categories);
        made := made || head.invoice;
    END LOOP;
    FOR invoice, contract, period_start, period_end, currency, total, was_made IN
        SELECT h.invoice, h.contract, h.period_start, h.period_end, h.currency, h.total, h.invoice = ANY (made)
        FROM weir.invoice_heads AS h
        WHERE h.customer = of_customer AND h.period_end <= weir.closing_end(h.contract, through_day, through_at)
            AND NOT EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice)
            AND NOT EXISTS (SELECT FROM weir.invoice_numbers AS n WHERE n.invoice = h.invoice)
            AND (NOT is_draft OR h.invoice = ANY (made))
            AND NOT EXISTS (SELECT FROM weir.period_obstacles AS p WHERE p.customer = h.customer AND p.contract = h.contract
                AND p.period_start = h.period_start AND p.why IS NOT NULL)
        ORDER BY h.period_start, h.contract, h.invoice
    LOOP
        number := CASE WHEN NOT is_draft THEN weir.issue_number(of_series, 'invoice', invoice, by_whom) END;
        RETURN NEXT;
    END LOOP;
    RETURN QUERY SELECT NULL::bigint, s.contract, s.target_start, s.target_end, NULL, NULL::numeric, false, NULL::bigint, s.why
        FROM unnest(steps) AS s WHERE s.after_item IS NULL ORDER BY s.target_start, s.contract;
END
$$;
REVOKE ALL ON FUNCTION weir.close_customer(text, date, timestamptz, boolean, text, text, bigint, jsonb, jsonb, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION weir.close_customer(text, date, timestamptz, boolean, text, text, bigint, jsonb, jsonb, jsonb) IS 'Closes a customer''s billing periods that ended: makes their invoices and, unless they are to be drafts, gives them their numbers. weir close calls it, a transaction for each customer.';

-- A draft becomes final; an invoice becomes void, with a credit note if it was final. Both answer the number given.
CREATE FUNCTION weir.finalize_invoice(of_invoice bigint, of_series text, by_whom text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM weir.customers AS c JOIN weir.invoice_heads AS h USING (customer) WHERE h.invoice = of_invoice FOR NO KEY UPDATE OF c;
    IF EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = of_invoice) THEN
        RAISE EXCEPTION 'invoice % is void', of_invoice USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF EXISTS (SELECT FROM weir.invoice_numbers AS n WHERE n.invoice = of_invoice) THEN
        RAISE EXCEPTION 'invoice % is final already', of_invoice USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN weir.issue_number(of_series, 'invoice', of_invoice, by_whom);
END
$$;
REVOKE ALL ON FUNCTION weir.finalize_invoice(bigint, text, text) FROM PUBLIC;
COMMENT ON FUNCTION weir.finalize_invoice(bigint, text, text) IS 'Makes a draft final: it gets its number.';

CREATE FUNCTION weir.void_invoice(of_invoice bigint, by_whom text, why text) RETURNS TABLE (series text, number bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM weir.customers AS c JOIN weir.invoice_heads AS h USING (customer) WHERE h.invoice = of_invoice FOR NO KEY UPDATE OF c;
    IF EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = of_invoice) THEN
        RAISE EXCEPTION 'invoice % is void already', of_invoice USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    INSERT INTO weir.invoice_voids (invoice, voided_by, reason) VALUES (of_invoice, by_whom, why);
    SELECT n.series || '-CN' INTO series FROM weir.invoice_numbers AS n WHERE n.invoice = of_invoice AND n.document = 'invoice';
    IF series IS NOT NULL THEN
        number := weir.issue_number(series, 'credit_note', of_invoice, by_whom);
    END IF;
    RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION weir.void_invoice(bigint, text, text) FROM PUBLIC;
COMMENT ON FUNCTION weir.void_invoice(bigint, text, text) IS 'Makes an invoice void: its line items may stand on another one. If it was final, a credit note takes it back, numbered in the series SERIES-CN.';

-- 7. Finance's views -------------------------------------------------------------------------------------------------------

CREATE FUNCTION weir.invoice_number(series text, number bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT series || '-' || lpad(number::text, greatest(6, length(number::text)), '0')
$$;
COMMENT ON FUNCTION weir.invoice_number(text, bigint) IS 'A number as it is printed: INV-000012.';

CREATE VIEW weir.invoices WITH (security_barrier) AS
SELECT h.invoice, n.series, n.number, weir.invoice_number(n.series, n.number) AS invoice_number,
       CASE WHEN v.invoice IS NOT NULL THEN 'void' WHEN n.invoice IS NOT NULL THEN 'final' ELSE 'draft' END AS state,
       h.customer, h.contract, h.kind, h.period_start, h.period_end, h.currency, h.amount, h.total, h.made_at, n.issued_at, v.voided_at,
       v.reason AS void_reason, weir.invoice_number(c.series, c.number) AS credit_note_number,
       h.replaces, h.made_by, h.closing, h.seller, h.buyer
FROM weir.invoice_heads AS h
LEFT JOIN weir.invoice_numbers AS n ON n.invoice = h.invoice AND n.document = 'invoice'
LEFT JOIN weir.invoice_numbers AS c ON c.invoice = h.invoice AND c.document = 'credit_note'
LEFT JOIN weir.invoice_voids AS v ON v.invoice = h.invoice
WHERE (SELECT weir.sees_every_customer(current_user)) OR h.customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.invoices IS 'Invoices with their state: draft (no number yet), final, or void (its credit note takes it back, its line items stand on another invoice). What was invoiced is the sum over state final.';
COMMENT ON COLUMN weir.invoices.invoice_number IS 'The number as it is printed; null: a draft.';
COMMENT ON COLUMN weir.invoices.state IS 'draft, final or void.';
COMMENT ON COLUMN weir.invoices.void_reason IS 'Why it is void.';
COMMENT ON COLUMN weir.invoices.credit_note_number IS 'Number of the credit note that takes it back; null: none, or it was void as a draft.';

CREATE VIEW weir.invoice_lines WITH (security_barrier) AS
SELECT h.customer, h.contract, h.period_start, h.currency, r.invoice, r.line, r.is_adjustment, r.kind, r.item, r.meter, r.dimensions,
       r.service_start, r.service_end, r.price_book, r.price_book_version, r.model, r.component, r.tier, r.unit_price, r.quantity, r.amount,
       r.invoice_amount, r.line_items, r.corrected_invoice, r.corrected_line, r.tax_category
FROM weir.invoice_heads AS h JOIN weir.invoice_rows AS r USING (invoice)
WHERE (SELECT weir.sees_every_customer(current_user)) OR h.customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.invoice_lines IS 'The lines of invoices; their state is in the view invoices. Restrict customer, or invoice. Adjustments (is_adjustment) keep the period in which the usage was delivered, and name the line that they correct.';

CREATE VIEW weir.invoice_line_items WITH (security_barrier) AS
SELECT g.invoice, i.line_item_id, i.customer, i.contract, i.period_start, i.currency, i.item, i.kind, i.amount,
       EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = g.invoice) AS is_void
FROM weir.invoice_ranges AS g JOIN weir.line_items AS i ON i.customer = g.customer AND i.period_start = g.period_start
    AND i.line_item_id > g.after_item AND i.line_item_id <= g.through_item AND i.contract = g.contract AND i.currency = g.currency
WHERE (SELECT weir.sees_every_customer(current_user)) OR g.customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.invoice_line_items IS 'Which line items stand on which invoice: each on at most one that is not void. Restrict customer and period_start, or invoice.';
COMMENT ON COLUMN weir.invoice_line_items.is_void IS 'Whether that invoice is void.';

CREATE VIEW weir.closing_status WITH (security_barrier) AS
SELECT p.customer, p.contract, p.period_start, p.period_end, p.is_closed AS is_settled,
       CASE WHEN h.invoice IS NOT NULL THEN CASE WHEN n.invoice IS NOT NULL THEN 'final' ELSE 'draft' END
            WHEN p.is_closed THEN 'settled' ELSE 'open' END AS state,
       p.why AS waits_for, h.currency, h.invoice, h.total
FROM weir.period_obstacles AS p
LEFT JOIN weir.invoice_heads AS h ON h.customer = p.customer AND h.contract = p.contract AND h.period_start = p.period_start
    AND h.kind = 'period' AND NOT EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice)
LEFT JOIN weir.invoice_numbers AS n ON n.invoice = h.invoice AND n.document = 'invoice'
WHERE (SELECT weir.sees_every_customer(current_user)) OR p.customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.closing_status IS 'How far each billing period is: open, settled (it can be closed), draft or final; and what it waits for. Restrict customer.';
COMMENT ON COLUMN weir.closing_status.is_settled IS 'Whether the period has ended and its fees in arrears and true-up are in the ledger.';
COMMENT ON COLUMN weir.closing_status.state IS 'open; settled: weir close makes its invoice; draft; final.';
COMMENT ON COLUMN weir.closing_status.waits_for IS 'Why it cannot be closed now; null: nothing keeps it.';

-- Columns of one name mean the same everywhere.
DO $$
DECLARE
    of record;
BEGIN
    FOR of IN
        SELECT c.relname AS view, a.attname AS name, t.said
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        CROSS JOIN LATERAL (
            SELECT col_description(s.attrelid, s.attnum) AS said
            FROM unnest(ARRAY['invoice_rows', 'invoice_heads', 'invoice_numbers', 'invoice_voids', 'line_items', 'billing_periods'])
                WITH ORDINALITY AS o(source, place)
            JOIN pg_attribute AS s ON s.attrelid = ('weir.' || o.source)::regclass AND s.attname = a.attname
            ORDER BY (o.source = CASE c.relname WHEN 'invoices' THEN 'invoice_heads' WHEN 'invoice_lines' THEN 'invoice_rows'
                                 WHEN 'closing_status' THEN 'billing_periods' ELSE 'line_items' END) DESC, o.place LIMIT 1) AS t
        WHERE c.relnamespace = 'weir'::regnamespace
            AND c.relname IN ('invoices', 'invoice_lines', 'invoice_line_items', 'closing_status')
            AND col_description(a.attrelid, a.attnum) IS NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN weir.%I.%I IS %L', of.view, of.name, of.said);
    END LOOP;
END
$$;

-- 8. The audit log ---------------------------------------------------------------------------------------------------------

CREATE FUNCTION weir.audit_invoicing() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    CASE TG_TABLE_NAME
        WHEN 'closings' THEN PERFORM weir.record_audit('close', 'closing ' || NEW.closing, to_jsonb(NEW));
        WHEN 'closing_ends' THEN PERFORM weir.record_audit('closed', 'closing ' || NEW.closing, to_jsonb(NEW));
        WHEN 'invoice_numbers' THEN PERFORM weir.record_audit(NEW.document, 'invoice ' || NEW.invoice, to_jsonb(NEW) - 'previous');
        WHEN 'invoice_voids' THEN PERFORM weir.record_audit('void', 'invoice ' || NEW.invoice, to_jsonb(NEW));
    END CASE;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.audit_invoicing() IS 'Records closings, and invoices that become final or void, in audit_log.';
CREATE TRIGGER audited AFTER INSERT ON weir.closings FOR EACH ROW EXECUTE FUNCTION weir.audit_invoicing();
CREATE TRIGGER audited AFTER INSERT ON weir.closing_ends FOR EACH ROW EXECUTE FUNCTION weir.audit_invoicing();
CREATE TRIGGER audited AFTER INSERT ON weir.invoice_numbers FOR EACH ROW EXECUTE FUNCTION weir.audit_invoicing();
CREATE TRIGGER audited AFTER INSERT ON weir.invoice_voids FOR EACH ROW EXECUTE FUNCTION weir.audit_invoicing();
COMMENT ON COLUMN weir.audit_log.action IS 'migrate, apply, release, repair, scope, unscope, rerate (it began), rerated (it is through), close (it began), closed (it is through), invoice (one became final), credit_note, or void.';

-- Beside audit_mismatches, in its form. The digest is worked out again: a line that was altered is found by it.
CREATE FUNCTION weir.invoice_mismatches() RETURNS TABLE (action text, subject text, mismatch text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    WITH facts AS (
        SELECT 'close' AS action, 'closing ' || c.closing AS subject, to_jsonb(c) AS detail, true AS is_itself FROM weir.closings AS c
        UNION ALL
        SELECT 'closed', 'closing ' || e.closing, to_jsonb(e), true FROM weir.closing_ends AS e
        UNION ALL
        SELECT n.document, 'invoice ' || n.invoice, to_jsonb(n) - 'previous', n.digest IS NOT DISTINCT FROM weir.invoice_digest(n.invoice)
            FROM weir.invoice_numbers AS n
        UNION ALL
        SELECT 'void', 'invoice ' || v.invoice, to_jsonb(v), true FROM weir.invoice_voids AS v
    )
    SELECT coalesce(f.action, a.action), coalesce(f.subject, a.subject),
           CASE WHEN a.entry IS NULL THEN 'is not in the log' WHEN f.action IS NULL THEN 'is gone, and the log tells of it'
                WHEN f.is_itself THEN 'is not what the log tells' ELSE 'is not what was issued: its lines were altered' END
        FROM facts AS f
        FULL JOIN (SELECT * FROM weir.audit_log
                   WHERE audit_log.action IN ('close', 'closed', 'invoice', 'credit_note', 'void')) AS a
            ON a.action = f.action AND a.subject = f.subject
        WHERE a.entry IS NULL OR f.action IS NULL OR NOT f.is_itself OR f.detail <> a.detail
    ORDER BY 1, 2
$$;
REVOKE ALL ON FUNCTION weir.invoice_mismatches() FROM PUBLIC;
COMMENT ON FUNCTION weir.invoice_mismatches() IS 'As audit_mismatches, of closings and invoices.';
