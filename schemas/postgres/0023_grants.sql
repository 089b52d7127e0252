-- Grants made at run time, what ends a grant before its time, and entries for what is left when it ends (docs/credits.md).

-- 1. Orders ----------------------------------------------------------------------------------------------------------------

ALTER TABLE weir.customers ADD COLUMN has_orders boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN weir.customers.has_orders IS 'The customer has rows in grant_orders or grant_ends: raters load its account whatever the catalog says.';

CREATE TABLE weir.grant_orders (
    customer text COLLATE "C" NOT NULL REFERENCES weir.customers,
    contract text COLLATE "C" NOT NULL,
    grant_key text COLLATE "C" NOT NULL CHECK (grant_key <> ''),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount numeric(39,12) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    funding text NOT NULL CHECK (funding IN ('free', 'promotional', 'paid')),
    price numeric(39,12) NOT NULL CHECK (price >= 0 AND price <> 'NaN'),
    priority bigint NOT NULL,
    starts_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    meters text[] COLLATE "C" NOT NULL,
    overage_multiplier numeric(39,12) NOT NULL CHECK (overage_multiplier >= 0 AND overage_multiplier <> 'NaN'),
    rollover_fraction numeric(39,12) NOT NULL CHECK (rollover_fraction >= 0 AND rollover_fraction <= 1),
    rollover_expires_at timestamptz,
    reason text NOT NULL CHECK (reason <> ''),
    ordered_by text NOT NULL CHECK (ordered_by <> ''),
    ordered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (starts_at < expires_at),
    CHECK (funding = 'paid' OR price = 0),
    CHECK ((rollover_fraction > 0) = (rollover_expires_at IS NOT NULL) AND rollover_expires_at > expires_at),
    PRIMARY KEY (customer, contract, grant_key)
);
COMMENT ON TABLE weir.grant_orders IS 'Grants made by weir grant, beside those of the catalog. Append-only.';
COMMENT ON COLUMN weir.grant_orders.customer IS 'The customer.';
COMMENT ON COLUMN weir.grant_orders.contract IS 'Key of the contract whose usage it is for; empty for the default contract.';
COMMENT ON COLUMN weir.grant_orders.grant_key IS 'The operator''s name for it: the same command again does nothing.';
COMMENT ON COLUMN weir.grant_orders.currency IS 'ISO 4217 code of the contract''s currency.';
COMMENT ON COLUMN weir.grant_orders.amount IS 'How much there is to draw.';
COMMENT ON COLUMN weir.grant_orders.funding IS 'free, promotional or paid.';
COMMENT ON COLUMN weir.grant_orders.price IS 'What it is bought for.';
COMMENT ON COLUMN weir.grant_orders.priority IS 'The lower is drawn first.';
COMMENT ON COLUMN weir.grant_orders.starts_at IS 'Usage of windows from here on is drawn from it.';
COMMENT ON COLUMN weir.grant_orders.expires_at IS 'Usage of windows before this is; infinity: it does not expire.';
COMMENT ON COLUMN weir.grant_orders.meters IS 'Usage of these meters alone; empty: of all.';
COMMENT ON COLUMN weir.grant_orders.overage_multiplier IS 'What usage costs, times the price, once nothing is left.';
COMMENT ON COLUMN weir.grant_orders.rollover_fraction IS 'Which part of what is left at its expiry goes on; 0: none.';
COMMENT ON COLUMN weir.grant_orders.rollover_expires_at IS 'When what went on expires.';
COMMENT ON COLUMN weir.grant_orders.reason IS 'Why.';
COMMENT ON COLUMN weir.grant_orders.ordered_by IS 'user@host that ran weir grant.';
COMMENT ON COLUMN weir.grant_orders.ordered_at IS 'When.';

CREATE TABLE weir.grant_ends (
    customer text COLLATE "C" NOT NULL REFERENCES weir.customers,
    contract text COLLATE "C" NOT NULL,
    grant_key text COLLATE "C" NOT NULL CHECK (grant_key <> ''),
    kind text NOT NULL CHECK (kind IN ('void', 'refund')),
    ends_at timestamptz NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    ordered_by text NOT NULL CHECK (ordered_by <> ''),
    ordered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (customer, contract, grant_key)
);
COMMENT ON TABLE weir.grant_ends IS 'Grants that weir void or weir refund has ended before their time, those of the catalog too. Append-only.';
COMMENT ON COLUMN weir.grant_ends.customer IS 'The customer.';
COMMENT ON COLUMN weir.grant_ends.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.grant_ends.grant_key IS 'The grant.';
COMMENT ON COLUMN weir.grant_ends.kind IS 'void: what is left is lost; refund: its price is given back.';
COMMENT ON COLUMN weir.grant_ends.ends_at IS 'Usage of windows from here on is not drawn from it any more.';
COMMENT ON COLUMN weir.grant_ends.reason IS 'Why.';
COMMENT ON COLUMN weir.grant_ends.ordered_by IS 'user@host that ran the command.';
COMMENT ON COLUMN weir.grant_ends.ordered_at IS 'When.';

-- Whoever orders has the customer's row locked: no rater is at the account meanwhile, and the next one sees the mark.
CREATE FUNCTION weir.mark_orders() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE weir.customers SET has_orders = true WHERE customer = NEW.customer AND NOT has_orders;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.mark_orders() IS 'Sets customers.has_orders.';
CREATE TRIGGER mark AFTER INSERT ON weir.grant_orders FOR EACH ROW EXECUTE FUNCTION weir.mark_orders();
CREATE TRIGGER mark AFTER INSERT ON weir.grant_ends FOR EACH ROW EXECUTE FUNCTION weir.mark_orders();

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.grant_orders
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.grant_ends
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE ALL ON weir.grant_orders, weir.grant_ends FROM PUBLIC;

-- 2. Entries ---------------------------------------------------------------------------------------------------------------

ALTER TABLE weir.grants ADD COLUMN rolled_from text COLLATE "C" CHECK (rolled_from <> '');
COMMENT ON COLUMN weir.grants.rolled_from IS 'The grant that it is the rollover of; null: of none.';
CREATE INDEX grants_expiring ON weir.grants (expires_at) WHERE expires_at < 'infinity';

ALTER TABLE weir.grant_entries
    DROP CONSTRAINT grant_entries_kind_check,
    DROP CONSTRAINT grant_entries_check2,
    DROP CONSTRAINT grant_entries_check3,
    DROP CONSTRAINT grant_entries_check5,
    ADD COLUMN charged numeric(39,12) CHECK (charged <> 'NaN'),
    ADD CONSTRAINT grant_entries_kind_check
        CHECK (kind IN ('grant', 'drawdown', 'giveback', 'expiry', 'rollover', 'void', 'refund')),
    ADD CONSTRAINT grant_entries_sign_check
        CHECK (CASE kind WHEN 'drawdown' THEN amount < 0 WHEN 'giveback' THEN amount > 0 ELSE true END),
    ADD CONSTRAINT grant_entries_usage_check
        CHECK ((kind IN ('drawdown', 'giveback')) = (meter IS NOT NULL)
               AND (meter IS NULL) = (period_start IS NULL) AND (meter IS NULL) = (segment_start IS NULL)),
    ADD CONSTRAINT grant_entries_first_check
        CHECK (number > 1 OR (kind IN ('grant', 'rollover') AND balance_before = 0)),
    ADD CONSTRAINT grant_entries_refund_check CHECK ((kind = 'refund') = (charged IS NOT NULL));
COMMENT ON COLUMN weir.grant_entries.kind IS 'grant: the amount came in (or was set anew); drawdown: usage was drawn from it; giveback: less was to be drawn than thought; expiry, void, refund: what was left when it ended is gone (above 0: usage of before the end is still to be drawn from it); rollover: what went on at its expiry, and on the grant that it went to, what came in.';
COMMENT ON COLUMN weir.grant_entries.period_start IS 'Billing period of the usage; null unless drawdown or giveback.';
COMMENT ON COLUMN weir.grant_entries.charged IS 'Of kind refund: the amount of its line item (kind fee), below 0 where money is given back.';

CREATE OR REPLACE VIEW weir.grant_balances WITH (security_barrier) AS
SELECT g.customer, g.contract, g.grant_key, g.funding, g.price, g.starts_at, g.expires_at, l.balance_after AS balance, g.currency,
       l.number AS entries, l.recorded_at AS changed_at, e.kind AS ended, e.ends_at, g.rolled_from
FROM weir.grants AS g
     CROSS JOIN LATERAL (SELECT e.balance_after, e.number, e.recorded_at FROM weir.grant_entries AS e
                         WHERE e.customer = g.customer AND e.contract = g.contract AND e.grant_key = g.grant_key
                         ORDER BY e.number DESC LIMIT 1) AS l
     LEFT JOIN weir.grant_ends AS e ON e.customer = g.customer AND e.contract = g.contract AND e.grant_key = g.grant_key
WHERE (SELECT weir.sees_every_customer(current_user)) OR g.customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON COLUMN weir.grant_balances.balance IS 'What is left.';
COMMENT ON COLUMN weir.grant_balances.ended IS 'void or refund, where a command has ended it; else null.';
COMMENT ON COLUMN weir.grant_balances.ends_at IS 'From when on nothing is drawn from it, where a command has ended it.';
COMMENT ON COLUMN weir.grant_balances.rolled_from IS 'The grant that it is the rollover of; null: of none.';

CREATE OR REPLACE VIEW weir.balance_entries WITH (security_barrier) AS
SELECT customer, contract, grant_key, number, kind, amount, balance_before, balance_after, period_start, segment_start, meter,
       recorded_at, charged
FROM weir.grant_entries
WHERE (SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON COLUMN weir.balance_entries.kind IS 'grant, drawdown, giveback, expiry, rollover, void or refund.';
COMMENT ON COLUMN weir.balance_entries.period_start IS 'Billing period of the usage; null unless drawdown or giveback.';
COMMENT ON COLUMN weir.balance_entries.charged IS 'Of kind refund: the amount of its line item, below 0 where money is given back.';

-- 3. The audit log ---------------------------------------------------------------------------------------------------------

-- Names cannot run into one another: each part is quoted.
CREATE FUNCTION weir.grant_subject(customer text, contract text, grant_key text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'grant ' || jsonb_build_array(customer, contract, grant_key)::text
$$;
COMMENT ON FUNCTION weir.grant_subject(text, text, text) IS 'What a grant is called in audit_log.';

CREATE FUNCTION weir.audit_order() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    PERFORM weir.record_audit(CASE TG_TABLE_NAME WHEN 'grant_orders' THEN 'grant' ELSE 'grant_' || (to_jsonb(NEW) ->> 'kind') END,
                              weir.grant_subject(NEW.customer, NEW.contract, NEW.grant_key), to_jsonb(NEW));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.audit_order() IS 'Records grants, voids and refunds in audit_log.';
CREATE TRIGGER audited AFTER INSERT ON weir.grant_orders FOR EACH ROW EXECUTE FUNCTION weir.audit_order();
CREATE TRIGGER audited AFTER INSERT ON weir.grant_ends FOR EACH ROW EXECUTE FUNCTION weir.audit_order();
COMMENT ON COLUMN weir.audit_log.action IS 'migrate, apply, release, repair, scope, unscope, rerate (it began), rerated (it is through), close (it began), closed (it is through), invoice (one became final), credit_note, void (of an invoice), grant, grant_void or grant_refund.';

-- Beside audit_mismatches, in its form.
CREATE FUNCTION weir.order_mismatches() RETURNS TABLE (action text, subject text, mismatch text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    WITH facts AS (
        SELECT 'grant' AS action, weir.grant_subject(o.customer, o.contract, o.grant_key) AS subject, to_jsonb(o) AS detail
            FROM weir.grant_orders AS o
        UNION ALL
        SELECT 'grant_' || e.kind, weir.grant_subject(e.customer, e.contract, e.grant_key), to_jsonb(e) FROM weir.grant_ends AS e
    )
    SELECT coalesce(f.action, a.action), coalesce(f.subject, a.subject),
           CASE WHEN a.entry IS NULL THEN 'is not in the log' WHEN f.action IS NULL THEN 'is gone, and the log tells of it'
                ELSE 'is not what the log tells' END
        FROM facts AS f
        FULL JOIN (SELECT * FROM weir.audit_log WHERE audit_log.action IN ('grant', 'grant_void', 'grant_refund')) AS a
            ON a.action = f.action AND a.subject = f.subject
        WHERE a.entry IS NULL OR f.action IS NULL OR f.detail <> a.detail
        ORDER BY 1, 2
$$;
REVOKE ALL ON FUNCTION weir.order_mismatches() FROM PUBLIC;
COMMENT ON FUNCTION weir.order_mismatches() IS 'As audit_mismatches, of grants, voids and refunds.';
