-- Reratings: what was decided, by whom and why; which customers are done; what came of it. All of it append-only.

-- 1. Runs ------------------------------------------------------------------------------------------------------------------

CREATE TABLE weir.reratings (
    rerating bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now(),
    started_by text NOT NULL CHECK (started_by <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    filters jsonb NOT NULL CHECK (jsonb_typeof(filters) = 'object'),
    catalog_version integer NOT NULL REFERENCES weir.catalog_versions
);
COMMENT ON TABLE weir.reratings IS 'Every rerating that was begun: usage of the past priced again, as if from the start of each billing period. Append-only; how far each is stands in rerating_runs.';
COMMENT ON COLUMN weir.reratings.rerating IS 'Number of the run: line_items.rerating leads here.';
COMMENT ON COLUMN weir.reratings.started_at IS 'When it began.';
COMMENT ON COLUMN weir.reratings.started_by IS 'Who: user and host of weir rerate.';
COMMENT ON COLUMN weir.reratings.reason IS 'Why, in the operator''s words.';
COMMENT ON COLUMN weir.reratings.filters IS 'What was looked at: from, to, customer, meter, contract, price_book; {} is everything.';
COMMENT ON COLUMN weir.reratings.catalog_version IS 'The catalog that it priced by.';

CREATE TABLE weir.rerating_customers (
    rerating bigint NOT NULL REFERENCES weir.reratings,
    customer text COLLATE "C" NOT NULL,
    windows bigint NOT NULL,
    reversals bigint NOT NULL,
    line_items bigint NOT NULL,
    done_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rerating, customer)
);
COMMENT ON TABLE weir.rerating_customers IS 'Customers that a rerating is done with, each noted in the transaction that wrote its line items: a run that was broken off goes on with the others.';
COMMENT ON COLUMN weir.rerating_customers.rerating IS 'The run.';
COMMENT ON COLUMN weir.rerating_customers.customer IS 'The customer.';
COMMENT ON COLUMN weir.rerating_customers.windows IS 'Lanes'' shares of windows that were read.';
COMMENT ON COLUMN weir.rerating_customers.reversals IS 'Reversals written.';
COMMENT ON COLUMN weir.rerating_customers.line_items IS 'New line items written, reversals aside. Both 0: nothing changed.';
COMMENT ON COLUMN weir.rerating_customers.done_at IS 'When.';

CREATE TABLE weir.rerating_amounts (
    rerating bigint NOT NULL,
    customer text COLLATE "C" NOT NULL,
    currency text NOT NULL,
    currency_places smallint NOT NULL,
    before numeric(39,12) NOT NULL,
    after numeric(39,12) NOT NULL,
    PRIMARY KEY (rerating, customer, currency),
    FOREIGN KEY (rerating, customer) REFERENCES weir.rerating_customers
);
COMMENT ON TABLE weir.rerating_amounts IS 'What each customer was charged in the billing periods that a rerating looked at, before and after.';
COMMENT ON COLUMN weir.rerating_amounts.rerating IS 'The run.';
COMMENT ON COLUMN weir.rerating_amounts.customer IS 'The customer.';
COMMENT ON COLUMN weir.rerating_amounts.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.rerating_amounts.currency_places IS 'Decimal places of the currency.';
COMMENT ON COLUMN weir.rerating_amounts.before IS 'The ledger''s sum before.';
COMMENT ON COLUMN weir.rerating_amounts.after IS 'The ledger''s sum after.';

CREATE TABLE weir.rerating_ends (
    rerating bigint PRIMARY KEY REFERENCES weir.reratings,
    ended_at timestamptz NOT NULL DEFAULT now(),
    customers bigint NOT NULL,
    changed bigint NOT NULL,
    windows bigint NOT NULL,
    reversals bigint NOT NULL,
    line_items bigint NOT NULL
);
COMMENT ON TABLE weir.rerating_ends IS 'Reratings that are through, and what they came to.';
COMMENT ON COLUMN weir.rerating_ends.rerating IS 'The run.';
COMMENT ON COLUMN weir.rerating_ends.ended_at IS 'When its last customer was done.';
COMMENT ON COLUMN weir.rerating_ends.customers IS 'Customers looked at.';
COMMENT ON COLUMN weir.rerating_ends.changed IS 'Of them, with rows written.';
COMMENT ON COLUMN weir.rerating_ends.windows IS 'Lanes'' shares of windows read.';
COMMENT ON COLUMN weir.rerating_ends.reversals IS 'Reversals written.';
COMMENT ON COLUMN weir.rerating_ends.line_items IS 'New line items written, reversals aside.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.reratings
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.rerating_customers
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.rerating_amounts
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.rerating_ends
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE UPDATE, DELETE, TRUNCATE ON weir.reratings, weir.rerating_customers, weir.rerating_amounts, weir.rerating_ends
    FROM PUBLIC;

CREATE VIEW weir.rerating_runs AS
    SELECT r.rerating, r.started_at, r.started_by, r.reason, r.filters, r.catalog_version,
           CASE WHEN e.rerating IS NULL THEN 'unfinished' ELSE 'done' END AS state, e.ended_at,
           coalesce(e.customers, c.customers, 0) AS customers, coalesce(e.changed, c.changed, 0) AS changed,
           coalesce(e.windows, c.windows, 0)::bigint AS windows, coalesce(e.reversals, c.reversals, 0)::bigint AS reversals,
           coalesce(e.line_items, c.line_items, 0)::bigint AS line_items
    FROM weir.reratings AS r LEFT JOIN weir.rerating_ends AS e USING (rerating)
    LEFT JOIN LATERAL (SELECT count(*) AS customers, count(*) FILTER (WHERE d.reversals + d.line_items > 0) AS changed,
                              sum(d.windows) AS windows, sum(d.reversals) AS reversals, sum(d.line_items) AS line_items
                       FROM weir.rerating_customers AS d WHERE d.rerating = r.rerating AND e.rerating IS NULL) AS c ON true;
COMMENT ON VIEW weir.rerating_runs IS 'Every rerating and how far it is. One that is unfinished goes on when weir rerate is run again with the same options and reason, under the same catalog.';
COMMENT ON COLUMN weir.rerating_runs.rerating IS 'Number of the run.';
COMMENT ON COLUMN weir.rerating_runs.started_at IS 'When it began.';
COMMENT ON COLUMN weir.rerating_runs.started_by IS 'Who: user and host of weir rerate.';
COMMENT ON COLUMN weir.rerating_runs.reason IS 'Why, in the operator''s words.';
COMMENT ON COLUMN weir.rerating_runs.filters IS 'What was looked at; {} is everything.';
COMMENT ON COLUMN weir.rerating_runs.catalog_version IS 'The catalog that it priced by.';
COMMENT ON COLUMN weir.rerating_runs.state IS 'done, or unfinished: under way, or broken off.';
COMMENT ON COLUMN weir.rerating_runs.ended_at IS 'When it was through; null: it is not.';
COMMENT ON COLUMN weir.rerating_runs.customers IS 'Customers looked at so far.';
COMMENT ON COLUMN weir.rerating_runs.changed IS 'Of them, with rows written.';
COMMENT ON COLUMN weir.rerating_runs.windows IS 'Lanes'' shares of windows read so far.';
COMMENT ON COLUMN weir.rerating_runs.reversals IS 'Reversals written so far.';
COMMENT ON COLUMN weir.rerating_runs.line_items IS 'New line items written so far, reversals aside.';

-- 2. Line items ------------------------------------------------------------------------------------------------------------

ALTER TABLE weir.line_items ADD COLUMN rerating bigint CHECK (rerating >= 1);
COMMENT ON COLUMN weir.line_items.rerating IS 'The rerating that wrote the row (rerating_runs); null: a rater did.';
COMMENT ON COLUMN weir.line_items.kind IS 'usage; fee; true_up (to a minimum spend); drawdown and overage (of prepaid amounts); reversal: takes back what a window, fee or true-up was charged, and stands with what it takes back.';
COMMENT ON COLUMN weir.line_items.revision IS '1 for a window''s first rating; each later change of the window adds 1. Rows of a rerating carry the revision that they price again.';

-- What a reversal takes back: usage has a meter, the others a component of their own.
CREATE FUNCTION weir.reversed_kind(kind text, meter text, component text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN kind <> 'reversal' THEN kind WHEN meter IS NOT NULL THEN 'usage' ELSE component END
$$;
COMMENT ON FUNCTION weir.reversed_kind(text, text, text) IS 'A line item''s kind, or, of a reversal, the kind of what it takes back.';

-- A reversal counts with what it takes back: one invoice line, rounded once. What was taken back whole is no line.
CREATE OR REPLACE VIEW weir.charges_by_customer_and_period WITH (security_barrier) AS
SELECT l.customer, l.contract, l.period_start, p.period_end, l.item, l.kind, l.quantity, l.amount,
       weir.round_invoice(l.amount, b.currency_places, b.rounding) AS invoice_amount, l.currency, p.is_closed
FROM (SELECT customer, contract, period_start, item, weir.reversed_kind(kind, meter, component) AS kind, currency,
             price_book, sum(quantity) AS quantity, sum(amount) AS amount
      FROM weir.line_items
      WHERE (SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user))
      GROUP BY customer, contract, period_start, item, weir.reversed_kind(kind, meter, component), currency, price_book
      HAVING count(rerating) = 0 OR sum(quantity) <> 0 OR sum(amount) <> 0) AS l
JOIN weir.billing_periods AS p USING (customer, contract, period_start)
JOIN weir.price_books AS b USING (price_book);
COMMENT ON COLUMN weir.charges_by_customer_and_period.kind IS 'usage, fee, true_up, drawdown, overage or adjustment; reversals count with what they take back.';

CREATE OR REPLACE VIEW weir.usage_by_day WITH (security_barrier) AS
SELECT customer, (window_start AT TIME ZONE 'UTC')::date AS day, meter, dimensions, sum(quantity) AS quantity,
       sum(amount) AS amount, currency
FROM weir.line_items
WHERE meter IS NOT NULL
    AND ((SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user)))
GROUP BY customer, day, meter, dimensions, currency;

CREATE OR REPLACE VIEW weir.charge_lines WITH (security_barrier) AS
SELECT line_item_id, recorded_at, customer, contract, period_start, period_end, item, meter, dimensions, window_start, window_end,
       kind, component, price_book, price_book_version, model, tier, quantity, unit_price, amount, currency, revision, rerating
FROM weir.line_items
WHERE (SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON COLUMN weir.charge_lines.rerating IS 'The rerating that wrote the row (rerating_runs); null: a rater did.';

CREATE OR REPLACE VIEW weir.adjustments WITH (security_barrier) AS
SELECT * FROM weir.charge_lines WHERE revision > 1 OR kind IN ('adjustment', 'reversal') OR rerating IS NOT NULL;
COMMENT ON VIEW weir.adjustments IS 'Line items that changed what had been charged before: usage that came late or was corrected, true-ups that followed it, reratings. Restrict recorded_at to see what changed since.';
COMMENT ON COLUMN weir.adjustments.rerating IS 'The rerating that wrote the row (rerating_runs); null: a rater did.';

-- 3. The audit log ---------------------------------------------------------------------------------------------------------

CREATE FUNCTION weir.audit_rerating() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    PERFORM weir.record_audit(CASE TG_TABLE_NAME WHEN 'reratings' THEN 'rerate' ELSE 'rerated' END,
                              'rerating ' || NEW.rerating, to_jsonb(NEW));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.audit_rerating() IS 'Records that a rerating began, and what it came to, in audit_log.';
CREATE TRIGGER audited AFTER INSERT ON weir.reratings FOR EACH ROW EXECUTE FUNCTION weir.audit_rerating();
CREATE TRIGGER audited AFTER INSERT ON weir.rerating_ends FOR EACH ROW EXECUTE FUNCTION weir.audit_rerating();
COMMENT ON COLUMN weir.audit_log.action IS 'migrate, apply, release, repair, scope, unscope, rerate (it began) or rerated (it is through).';

-- Beside audit_mismatches, in its form.
CREATE FUNCTION weir.rerating_mismatches() RETURNS TABLE (action text, subject text, mismatch text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    WITH facts AS (
        SELECT 'rerate' AS action, 'rerating ' || r.rerating AS subject, to_jsonb(r) AS detail FROM weir.reratings AS r
        UNION ALL
        SELECT 'rerated', 'rerating ' || e.rerating, to_jsonb(e) FROM weir.rerating_ends AS e
    )
    SELECT coalesce(f.action, a.action), coalesce(f.subject, a.subject),
           CASE WHEN a.entry IS NULL THEN 'is not in the log' WHEN f.action IS NULL THEN 'is gone, and the log tells of it'
                ELSE 'is not what the log tells' END
        FROM facts AS f
        FULL JOIN (SELECT * FROM weir.audit_log WHERE audit_log.action IN ('rerate', 'rerated')) AS a
            ON a.action = f.action AND a.subject = f.subject
        WHERE a.entry IS NULL OR f.action IS NULL OR f.detail <> a.detail
    ORDER BY 1, 2
$$;
REVOKE ALL ON FUNCTION weir.rerating_mismatches() FROM PUBLIC;
COMMENT ON FUNCTION weir.rerating_mismatches() IS 'As audit_mismatches, of reratings and their ends.';
