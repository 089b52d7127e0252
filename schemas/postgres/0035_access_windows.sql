-- When a grant is to be drawn from, as it is by now: a rerating may have moved that (docs/credits.md 5).

CREATE TABLE weir.grant_windows (
    customer text COLLATE "C" NOT NULL,
    contract text COLLATE "C" NOT NULL,
    grant_key text COLLATE "C" NOT NULL,
    number integer NOT NULL CHECK (number >= 1),
    starts_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    rerating bigint CHECK (rerating >= 1) DEFAULT nullif(current_setting('weir.rerating', true), '')::bigint,
    noted_at timestamptz NOT NULL DEFAULT now(),
    CHECK (starts_at < expires_at),
    PRIMARY KEY (customer, contract, grant_key, number),
    FOREIGN KEY (customer, contract, grant_key) REFERENCES weir.grants
);
CREATE INDEX grant_windows_expiring ON weir.grant_windows (expires_at) WHERE expires_at < 'infinity';
COMMENT ON TABLE weir.grant_windows IS 'Access windows that came in place of those in grants; the last one holds. Append-only.';
COMMENT ON COLUMN weir.grant_windows.customer IS 'The customer.';
COMMENT ON COLUMN weir.grant_windows.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.grant_windows.grant_key IS 'The grant.';
COMMENT ON COLUMN weir.grant_windows.number IS 'Its place among those of the grant, from 1.';
COMMENT ON COLUMN weir.grant_windows.starts_at IS 'Usage of windows from here on is drawn from it.';
COMMENT ON COLUMN weir.grant_windows.expires_at IS 'Usage of windows before this is; infinity: it does not expire.';
COMMENT ON COLUMN weir.grant_windows.rerating IS 'The rerating that wrote it (rerating_runs); null: a rater did, by its catalog.';
COMMENT ON COLUMN weir.grant_windows.noted_at IS 'When it was written.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.grant_windows
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE ALL ON weir.grant_windows FROM PUBLIC;
COMMENT ON COLUMN weir.grants.starts_at IS 'Usage of windows from here on is drawn from it, as it was at first (grant_windows).';
COMMENT ON COLUMN weir.grants.expires_at IS 'Usage of windows before this is, as it was at first (grant_windows); infinity: it does not expire.';

CREATE VIEW weir.grants_now AS
SELECT g.customer, g.contract, g.grant_key, g.currency, g.funding, g.price, g.priority, coalesce(w.starts_at, g.starts_at) AS starts_at,
       coalesce(w.expires_at, g.expires_at) AS expires_at, g.rolled_from
FROM weir.grants AS g
     LEFT JOIN LATERAL (SELECT w.starts_at, w.expires_at FROM weir.grant_windows AS w WHERE w.customer = g.customer
                            AND w.contract = g.contract AND w.grant_key = g.grant_key ORDER BY w.number DESC LIMIT 1) AS w ON true;
COMMENT ON VIEW weir.grants_now IS 'Prepaid amounts, with their access windows as they are by now.';
COMMENT ON COLUMN weir.grants_now.customer IS 'The customer.';
COMMENT ON COLUMN weir.grants_now.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.grants_now.grant_key IS 'Key of the grant.';
COMMENT ON COLUMN weir.grants_now.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.grants_now.funding IS 'free, promotional or paid.';
COMMENT ON COLUMN weir.grants_now.price IS 'What it was bought for.';
COMMENT ON COLUMN weir.grants_now.priority IS 'The lower is drawn first.';
COMMENT ON COLUMN weir.grants_now.starts_at IS 'Usage of windows from here on is drawn from it.';
COMMENT ON COLUMN weir.grants_now.expires_at IS 'Usage of windows before this is; infinity: it does not expire.';
COMMENT ON COLUMN weir.grants_now.rolled_from IS 'The grant that it is the rollover of; null: of none.';

CREATE OR REPLACE VIEW weir.grant_balances WITH (security_barrier) AS
SELECT g.customer, g.contract, g.grant_key, g.funding, g.price, g.starts_at, g.expires_at, l.balance_after AS balance, g.currency,
       l.number AS entries, l.recorded_at AS changed_at, e.kind AS ended, e.ends_at, g.rolled_from
FROM weir.grants_now AS g
     CROSS JOIN LATERAL (SELECT e.balance_after, e.number, e.recorded_at FROM weir.grant_entries AS e
                         WHERE e.customer = g.customer AND e.contract = g.contract AND e.grant_key = g.grant_key
                         ORDER BY e.number DESC LIMIT 1) AS l
     LEFT JOIN weir.grant_ends AS e ON e.customer = g.customer AND e.contract = g.contract AND e.grant_key = g.grant_key
WHERE (SELECT weir.sees_every_customer(current_user)) OR g.customer IN (SELECT weir.seen_customers(current_user));

-- Grants with something left whose expiry lies in a span, by customer.
CREATE FUNCTION weir.expired_grants(since timestamptz, through timestamptz)
RETURNS TABLE (customer text, contract text, grant_key text, expires_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.customer, g.contract, g.grant_key, g.expires_at
    FROM (SELECT a.customer, a.contract, a.grant_key FROM weir.grants AS a
          WHERE a.expires_at >= since AND a.expires_at <= through AND a.expires_at < 'infinity'
          UNION SELECT a.customer, a.contract, a.grant_key FROM weir.grant_windows AS a
          WHERE a.expires_at >= since AND a.expires_at <= through AND a.expires_at < 'infinity') AS near
         JOIN weir.grants_now AS g USING (customer, contract, grant_key)
         CROSS JOIN LATERAL (SELECT e.balance_after FROM weir.grant_entries AS e WHERE e.customer = g.customer
                                 AND e.contract = g.contract AND e.grant_key = g.grant_key ORDER BY e.number DESC LIMIT 1) AS l
    WHERE g.expires_at >= since AND g.expires_at <= through AND l.balance_after > 0
$$;
REVOKE ALL ON FUNCTION weir.expired_grants(timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION weir.expired_grants(timestamptz, timestamptz) IS 'Grants that expired from since through, and of which something is left.';

-- What went on at an expiry lasts as long as its grant does.
CREATE FUNCTION weir.move_terms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE weir.prepaid_terms AS t SET ends_at = NEW.expires_at FROM weir.grants AS g
        WHERE g.customer = NEW.customer AND g.contract = NEW.contract AND g.grant_key = NEW.grant_key AND g.rolled_from IS NOT NULL
            AND t.customer = g.customer AND t.contract = g.contract AND t.grant_key = g.grant_key;
    UPDATE weir.prepaid_terms AS t SET rolls_until = NEW.expires_at FROM weir.grants AS g
        WHERE g.customer = NEW.customer AND g.contract = NEW.contract AND g.grant_key = NEW.grant_key
            AND t.customer = g.customer AND t.contract = g.contract AND t.grant_key = g.rolled_from AND t.ends_at < NEW.expires_at;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.move_terms() IS 'Notes in prepaid_terms that a rollover lasts until another time.';
CREATE TRIGGER move_terms AFTER INSERT ON weir.grant_windows FOR EACH ROW EXECUTE FUNCTION weir.move_terms();
