-- Months that weir close closes have an entry in the audit log, with a digest of all that it wrote down of them: so the last ones cannot
-- go unnoticed, nor figures be altered together so that they still follow from one another.

CREATE TABLE weir.month_closings (
    customer text COLLATE "C" NOT NULL,
    contract text COLLATE "C" NOT NULL,
    first_month date NOT NULL,
    last_month date NOT NULL CHECK (last_month >= first_month),
    digest text NOT NULL,
    PRIMARY KEY (customer, contract, last_month),
    FOREIGN KEY (customer, contract, first_month) REFERENCES weir.closed_months,
    FOREIGN KEY (customer, contract, last_month) REFERENCES weir.closed_months
);
COMMENT ON TABLE weir.month_closings IS 'Which months of a contract one transaction of weir close closed, and a digest of what it wrote down of them. audit_log has an entry for each.';
COMMENT ON COLUMN weir.month_closings.customer IS 'The customer.';
COMMENT ON COLUMN weir.month_closings.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.month_closings.first_month IS 'First day of the first of these months.';
COMMENT ON COLUMN weir.month_closings.last_month IS 'First day of the last one.';
COMMENT ON COLUMN weir.month_closings.digest IS 'weir.closed_digest of them: SHA-256 of their rows in closed_months, closed_revenue and closed_prepaid.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON weir.month_closings FOR EACH ROW EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON weir.month_closings FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE ALL ON weir.month_closings FROM PUBLIC;

-- In a fixed form, column by column: columns that are added later do not alter what was closed.
CREATE FUNCTION weir.closed_digest(of_customer text, of_contract text, first_month date, last_month date) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN encode(sha256(convert_to(jsonb_build_array(of_customer, of_contract,
        (SELECT jsonb_agg(jsonb_build_array(m.month, m.through_item, m.closing, m.closed_at) ORDER BY m.month)
            FROM weir.closed_months AS m
            WHERE m.customer = of_customer AND m.contract = of_contract AND m.month BETWEEN first_month AND last_month),
        (SELECT jsonb_agg(jsonb_build_array(r.month, r.currency, r.invoiced, r.rounding, r.recognised, r.deferred, r.unbilled)
                ORDER BY r.month, r.currency)
            FROM weir.closed_revenue AS r
            WHERE r.customer = of_customer AND r.contract = of_contract AND r.month BETWEEN first_month AND last_month),
        (SELECT jsonb_agg(jsonb_build_array(p.month, p.grant_key, p.currency, p.line_item_id, p.period_start, p.first_day, p.last_day,
                    p.rolled_day, p.purchased, p.invoiced, p.drawn, p.earned, p.lapsed, p.by_drawdown, p.by_breakage, p.deferred)
                ORDER BY p.month, p.grant_key, p.currency)
            FROM weir.closed_prepaid AS p
            WHERE p.customer = of_customer AND p.contract = of_contract AND p.month BETWEEN first_month AND last_month))::text, 'UTF8')),
        'hex');
END
$$;
REVOKE ALL ON FUNCTION weir.closed_digest(text, text, date, date) FROM PUBLIC;
COMMENT ON FUNCTION weir.closed_digest(text, text, date, date) IS 'SHA-256 of what was written down of a contract''s closed months.';

CREATE FUNCTION weir.audit_months() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    PERFORM weir.record_audit('months', 'months ' || jsonb_build_array(NEW.customer, NEW.contract, NEW.last_month)::text, to_jsonb(NEW));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.audit_months() IS 'Records months that were closed in audit_log.';
CREATE TRIGGER audited AFTER INSERT ON weir.month_closings FOR EACH ROW EXECUTE FUNCTION weir.audit_months();
COMMENT ON COLUMN weir.audit_log.action IS 'migrate, apply, release, repair, scope, unscope, rerate (it began), rerated (it is through), close (it began), closed (it is through), invoice (one became final), credit_note, void (of an invoice), months (they were closed), grant, grant_void or grant_refund.';

-- What is there already.
INSERT INTO weir.month_closings (customer, contract, first_month, last_month, digest)
    SELECT m.customer, m.contract, min(m.month), max(m.month), weir.closed_digest(m.customer, m.contract, min(m.month), max(m.month))
    FROM weir.closed_months AS m GROUP BY m.customer, m.contract ORDER BY m.customer, m.contract;

-- As in 0025.
CREATE OR REPLACE FUNCTION weir.close_months(of_customer text, through_day date, through_at timestamptz, of_closing bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    figures weir.closed_revenue[];
    prepaid weir.closed_prepaid[];
    due record;
    of record;
    newest bigint;
BEGIN
    PERFORM FROM weir.customers AS c WHERE c.customer = of_customer FOR NO KEY UPDATE;
    SELECT array_agg(m.contract ORDER BY m.contract) AS contracts, array_agg(m.first_month ORDER BY m.contract) AS firsts,
           array_agg(m.last_month ORDER BY m.contract) AS lasts INTO due
        FROM weir.months_to_close(of_customer, through_day, through_at) AS m WHERE m.first_month <= m.last_month;
    IF due.contracts IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO weir.revenue_contracts (contract, timezone, starts_at)
        SELECT c.contract, c.timezone, c.starts_at FROM weir.contracts AS c WHERE c.contract = ANY (due.contracts)
        ORDER BY c.contract ON CONFLICT DO NOTHING;
    SELECT coalesce(max(l.newest), 0) INTO newest
        FROM (SELECT DISTINCT p.period_start FROM weir.billing_periods AS p WHERE p.customer = of_customer
              UNION SELECT p.period_start FROM weir.past_periods AS p WHERE p.customer = of_customer) AS k
        CROSS JOIN LATERAL (SELECT max(i.line_item_id) AS newest FROM weir.line_items AS i
                            WHERE i.customer = of_customer AND i.period_start = k.period_start) AS l;
    figures := array(SELECT ROW(o.customer, o.contract, o.month, o.currency, o.invoiced, o.rounding, o.recognised, o.deferred, o.unbilled)
                            ::weir.closed_revenue FROM weir.open_revenue AS o WHERE o.customer = of_customer);
    IF EXISTS (SELECT FROM weir.prepaid_terms AS t WHERE t.customer = of_customer) THEN
        prepaid := array(SELECT ROW(o.customer, o.contract, o.grant_key, o.currency, o.month, o.line_item_id, o.period_start, o.first_day,
                                    o.last_day, o.rolled_day, o.purchased, o.invoiced, o.drawn, o.earned, o.lapsed, o.by_drawdown, o.by_breakage, o.deferred)
                                ::weir.closed_prepaid FROM weir.open_prepaid AS o WHERE o.customer = of_customer);
    END IF;
    FOR of IN SELECT * FROM unnest(due.contracts, due.firsts, due.lasts) AS m (contract, first_month, last_month) LOOP
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
        INSERT INTO weir.month_closings (customer, contract, first_month, last_month, digest)
            VALUES (of_customer, of.contract, of.first_month, of.last_month,
                    weir.closed_digest(of_customer, of.contract, of.first_month, of.last_month));
    END LOOP;
END
$$;

-- Beside audit_mismatches, in its form.
CREATE FUNCTION weir.month_mismatches() RETURNS TABLE (action text, subject text, mismatch text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    WITH facts AS (
        SELECT 'months ' || jsonb_build_array(c.customer, c.contract, c.last_month)::text AS subject, to_jsonb(c) AS detail,
               c.digest = weir.closed_digest(c.customer, c.contract, c.first_month, c.last_month) AS is_itself
        FROM weir.month_closings AS c
    )
    SELECT 'months', coalesce(f.subject, a.subject),
           CASE WHEN a.entry IS NULL THEN 'is not in the log' WHEN f.subject IS NULL THEN 'is gone, and the log tells of it'
                WHEN f.is_itself THEN 'is not what the log tells'
                ELSE 'is not what was closed: a row of weir.closed_months, weir.closed_revenue or weir.closed_prepaid was altered, or is gone' END
        FROM facts AS f
        FULL JOIN (SELECT * FROM weir.audit_log WHERE audit_log.action = 'months') AS a ON a.subject = f.subject
        WHERE a.entry IS NULL OR f.subject IS NULL OR NOT f.is_itself OR f.detail <> a.detail
    UNION ALL
    SELECT 'months', 'months ' || jsonb_build_array(m.customer, m.contract, m.month)::text,
           'is in weir.closed_months, and the log does not tell that it was closed'
        FROM weir.closed_months AS m
        WHERE NOT EXISTS (SELECT FROM weir.month_closings AS c WHERE c.customer = m.customer AND c.contract = m.contract
            AND m.month BETWEEN c.first_month AND c.last_month)
    ORDER BY 1, 2
$$;
REVOKE ALL ON FUNCTION weir.month_mismatches() FROM PUBLIC;
COMMENT ON FUNCTION weir.month_mismatches() IS 'As audit_mismatches, of closed months.';
