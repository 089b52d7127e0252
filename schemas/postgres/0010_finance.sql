-- Finance's view of the ledger: every number with its tier and price, what was changed afterwards, how far periods are; and whose
-- usage a reader may see (docs/finance.md).

-- 1. Whose usage a reader sees ---------------------------------------------------------------------------------------------

CREATE TABLE weir.finance_scopes (
    role text COLLATE "C" NOT NULL CHECK (role <> ''),
    customer text COLLATE "C" CHECK (customer <> ''),
    UNIQUE NULLS NOT DISTINCT (role, customer)
);
COMMENT ON TABLE weir.finance_scopes IS 'Which customers the members of a role see in finance''s views. Empty: everybody sees all. As soon as there is a row, members of weir_finance see only what a row gives to a role of theirs.';
COMMENT ON COLUMN weir.finance_scopes.role IS 'The PostgreSQL role, such as one for each reseller or region.';
COMMENT ON COLUMN weir.finance_scopes.customer IS 'A customer that its members see; null: every customer.';
REVOKE ALL ON weir.finance_scopes FROM PUBLIC;

-- A name that was mistyped would close off somebody, or nobody, without a word.
CREATE FUNCTION weir.check_finance_scope() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF to_regrole(quote_ident(NEW.role)) IS NULL THEN
        RAISE EXCEPTION 'there is no role %: create it first', NEW.role USING ERRCODE = 'undefined_object';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION weir.check_finance_scope() IS 'Refuses scopes for roles that do not exist.';
CREATE TRIGGER check_role BEFORE INSERT OR UPDATE ON weir.finance_scopes
    FOR EACH ROW EXECUTE FUNCTION weir.check_finance_scope();

CREATE FUNCTION weir.audit_finance_scope() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM weir.record_audit('unscope', 'role ' || OLD.role, to_jsonb(OLD));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM weir.record_audit('scope', 'role ' || NEW.role, to_jsonb(NEW));
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.audit_finance_scope() IS 'Records in audit_log who was given, or lost, the sight of a customer.';
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON weir.finance_scopes
    FOR EACH ROW EXECUTE FUNCTION weir.audit_finance_scope();
CREATE TRIGGER whole BEFORE TRUNCATE ON weir.finance_scopes FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
COMMENT ON COLUMN weir.audit_log.action IS 'migrate, apply, release, repair, scope or unscope.';

-- Both are asked once a query, by views, with current_user. They answer only about a role that the session may be.
CREATE FUNCTION weir.sees_every_customer(reader name) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (SELECT FROM weir.finance_scopes)
        OR NOT EXISTS (SELECT FROM pg_roles AS f WHERE f.rolname = 'weir_finance' AND pg_has_role(reader, f.oid, 'MEMBER'))
        OR EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = reader AND r.rolsuper)
        OR EXISTS (SELECT FROM weir.finance_scopes AS s JOIN pg_roles AS r ON r.rolname = s.role
                   WHERE s.customer IS NULL AND pg_has_role(reader, r.oid, 'MEMBER'))
$$;
COMMENT ON FUNCTION weir.sees_every_customer(name) IS 'Whether no row of finance_scopes restricts a role. Only members of weir_finance can be restricted.';

CREATE FUNCTION weir.seen_customers(reader name) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.customer FROM weir.finance_scopes AS s JOIN pg_roles AS r ON r.rolname = s.role
    WHERE s.customer IS NOT NULL AND pg_has_role(reader, r.oid, 'MEMBER') AND pg_has_role(session_user, reader, 'MEMBER')
$$;
COMMENT ON FUNCTION weir.seen_customers(name) IS 'The customers that finance_scopes gives to a role.';

-- 2. The views -------------------------------------------------------------------------------------------------------------

-- security_barrier: a reader's own function in a condition must not be shown rows that the view leaves out.
CREATE OR REPLACE VIEW weir.charges_by_customer_and_period WITH (security_barrier) AS
SELECT l.customer, l.contract, l.period_start, p.period_end, l.item, l.kind, l.quantity, l.amount,
       weir.round_invoice(l.amount, b.currency_places, b.rounding) AS invoice_amount, l.currency, p.is_closed
FROM (SELECT customer, contract, period_start, item, kind, currency, price_book,
             sum(quantity) AS quantity, sum(amount) AS amount
      FROM weir.line_items
      WHERE (SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user))
      GROUP BY customer, contract, period_start, item, kind, currency, price_book) AS l
JOIN weir.billing_periods AS p USING (customer, contract, period_start)
JOIN weir.price_books AS b USING (price_book);

CREATE OR REPLACE VIEW weir.usage_by_day WITH (security_barrier) AS
SELECT customer, (window_start AT TIME ZONE 'UTC')::date AS day, meter, dimensions, sum(quantity) AS quantity,
       sum(amount) AS amount, currency
FROM weir.line_items
WHERE kind = 'usage'
    AND ((SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user)))
GROUP BY customer, day, meter, dimensions, currency;

CREATE OR REPLACE VIEW weir.unpriced_usage WITH (security_barrier) AS
SELECT customer, meter, dimensions, unpriced AS reason, window_start, window_end, sum(events) AS events,
       max(rated_at) AS rated_at
FROM weir.rated_windows
WHERE unpriced IS NOT NULL
    AND ((SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user)))
GROUP BY customer, meter, dimensions, unpriced, window_start, window_end
HAVING sum(events) > 0;

CREATE OR REPLACE VIEW weir.held_usage WITH (security_barrier) AS
    SELECT h.customer, h.meter, h.dimensions, h.window_start, h.window_end, h.lane,
           h.events, h.value, h.rated_events, h.rated_value, h.held_at,
           (SELECT array_agg(g.gap ORDER BY g.gap) FROM weir.open_gaps AS g
            WHERE g.lane = h.lane AND g.time_from < h.window_end AND g.time_to > h.window_start) AS gaps,
           h.retracted, h.rated_retracted, h.refused, h.refused_at
    FROM weir.held_windows AS h
    WHERE (SELECT weir.sees_every_customer(current_user)) OR h.customer IN (SELECT weir.seen_customers(current_user));

CREATE VIEW weir.charge_lines WITH (security_barrier) AS
SELECT line_item_id, recorded_at, customer, contract, period_start, period_end, item, meter, dimensions, window_start, window_end,
       kind, component, price_book, price_book_version, model, tier, quantity, unit_price, amount, currency, revision
FROM weir.line_items
WHERE (SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.charge_lines IS 'Every line item with the tier and the price that it comes from. Restrict customer and period_start; weir explain LINE_ITEM_ID leads one back to its events.';

CREATE VIEW weir.adjustments WITH (security_barrier) AS
SELECT * FROM weir.charge_lines WHERE revision > 1 OR kind IN ('adjustment', 'reversal');
COMMENT ON VIEW weir.adjustments IS 'Line items that changed what had been charged before: usage that came late or was corrected, true-ups that followed it. Restrict recorded_at to see what changed since.';

CREATE VIEW weir.period_status WITH (security_barrier) AS
SELECT customer, contract, period_start, period_end, is_closed, is_advance_charged, usage_amount, true_up, updated_at
FROM weir.billing_periods
WHERE (SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.period_status IS 'How far each customer''s billing periods are: whether one has ended with all its fees and its true-up charged, and what usage and true-up amount to.';

DO $$
DECLARE
    of record;
BEGIN
    FOR of IN
        SELECT c.relname AS view, a.attname AS name,
               coalesce(col_description('weir.line_items'::regclass, l.attnum), col_description('weir.billing_periods'::regclass, p.attnum))
                   AS said
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_attribute AS l ON l.attrelid = 'weir.line_items'::regclass AND l.attname = a.attname
            AND c.relname <> 'period_status'
        LEFT JOIN pg_attribute AS p ON p.attrelid = 'weir.billing_periods'::regclass AND p.attname = a.attname
        WHERE c.relnamespace = 'weir'::regnamespace AND c.relname IN ('charge_lines', 'adjustments', 'period_status')
    LOOP
        EXECUTE format('COMMENT ON COLUMN weir.%I.%I IS %L', of.view, of.name, of.said);
    END LOOP;
END
$$;
