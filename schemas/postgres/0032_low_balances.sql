-- Low balances: what is left of a grant, or of all of a contract's, falls to a threshold: a row, once for each time
-- (docs/credits.md 5.1).

-- 1. Thresholds ------------------------------------------------------------------------------------------------------------

CREATE TABLE weir.balance_thresholds (
    customer text COLLATE "C" NOT NULL,
    contract text COLLATE "C" NOT NULL,
    grant_key text COLLATE "C" NOT NULL,
    threshold text COLLATE "C" NOT NULL CHECK (threshold ~ '^[0-9]+(\.[0-9]+)?%?$'),
    CHECK (grant_key <> '' OR threshold NOT LIKE '%\%'),
    PRIMARY KEY (contract, grant_key, customer, threshold)
);
COMMENT ON TABLE weir.balance_thresholds IS 'Balances that are told when they fall to it: those of the catalog in force, and of grant_orders.';
COMMENT ON COLUMN weir.balance_thresholds.customer IS 'The customer of an order; empty: of every customer of the contract, by the catalog.';
COMMENT ON COLUMN weir.balance_thresholds.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.balance_thresholds.grant_key IS 'The grant; empty: all of the contract together.';
COMMENT ON COLUMN weir.balance_thresholds.threshold IS 'An amount, or with % a part of what was granted.';
REVOKE ALL ON weir.balance_thresholds FROM PUBLIC;

CREATE FUNCTION weir.plain_threshold(said text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT trim_scale(rtrim(said, '%')::numeric)::text || CASE WHEN said LIKE '%\%' THEN '%' ELSE '' END
$$;
COMMENT ON FUNCTION weir.plain_threshold(text) IS 'A threshold in one spelling: 50.0 is 50.';

CREATE FUNCTION weir.threshold_amount(threshold text, granted numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN threshold LIKE '%\%' THEN trim_scale(rtrim(threshold, '%')::numeric * granted * 0.01) ELSE threshold::numeric END
$$;
COMMENT ON FUNCTION weir.threshold_amount(text, numeric) IS 'The balance that a threshold stands for, exact.';

CREATE FUNCTION weir.note_thresholds() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM weir.balance_thresholds WHERE customer = '';
    IF NEW.catalog::text NOT LIKE '%low\_balance%' THEN
        RETURN NULL;
    END IF;
    INSERT INTO weir.balance_thresholds (customer, contract, grant_key, threshold)
        WITH contracts AS (
            SELECT c ->> 'key' AS contract, c AS said FROM json_array_elements(coalesce(NEW.catalog -> 'contracts', '[]')) AS c
            UNION ALL SELECT '', NEW.catalog -> 'default_contract' WHERE json_typeof(NEW.catalog -> 'default_contract') = 'object'
        ), terms AS (
            SELECT contract, said FROM contracts
            UNION ALL SELECT contract, p FROM contracts, json_array_elements(coalesce(said -> 'phases', '[]')) AS p
        ), balances AS (
            SELECT contract, '' AS grant_key, said -> 'low_balance' AS thresholds FROM contracts
            UNION ALL SELECT contract, c ->> 'key', c -> 'low_balance'
                FROM terms, json_array_elements(coalesce(said -> 'commitments', '[]')) AS c
        )
        SELECT DISTINCT '', contract, grant_key, weir.plain_threshold(t)
            FROM balances, json_array_elements_text(coalesce(thresholds, '[]')) AS t;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.note_thresholds() IS 'Fills balance_thresholds from a catalog that is applied.';
CREATE TRIGGER note_thresholds AFTER INSERT ON weir.catalog_versions FOR EACH ROW EXECUTE FUNCTION weir.note_thresholds();

ALTER TABLE weir.grant_orders ADD COLUMN low_balance text[] COLLATE "C" CHECK (cardinality(low_balance) > 0);
COMMENT ON COLUMN weir.grant_orders.low_balance IS 'What is left of it is told when it falls to one of these: amounts, or with % a part of the amount; null: never.';

CREATE FUNCTION weir.note_ordered_thresholds() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO weir.balance_thresholds (customer, contract, grant_key, threshold)
        SELECT NEW.customer, NEW.contract, NEW.grant_key, weir.plain_threshold(t) FROM unnest(NEW.low_balance) AS t ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.note_ordered_thresholds() IS 'Adds the thresholds of a grant that is ordered to balance_thresholds.';
CREATE TRIGGER note_thresholds AFTER INSERT ON weir.grant_orders FOR EACH ROW
    WHEN (NEW.low_balance IS NOT NULL) EXECUTE FUNCTION weir.note_ordered_thresholds();

-- A column that came later is null in what the log tells of, or not there.
CREATE OR REPLACE FUNCTION weir.order_mismatches() RETURNS TABLE (action text, subject text, mismatch text)
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
        WHERE a.entry IS NULL OR f.action IS NULL OR jsonb_strip_nulls(f.detail) <> jsonb_strip_nulls(a.detail)
        ORDER BY 1, 2
$$;

-- 2. Events ----------------------------------------------------------------------------------------------------------------

-- Of one balance and threshold in a chain, so that no crossing is there twice or missing; all together numbered in the order in
-- which they were committed, so that who has read up to a number has missed none below it.
CREATE TABLE weir.threshold_crossings (
    event bigint PRIMARY KEY CHECK (event >= 1),
    customer text COLLATE "C" NOT NULL,
    contract text COLLATE "C" NOT NULL,
    grant_key text COLLATE "C" NOT NULL,
    threshold text COLLATE "C" NOT NULL,
    threshold_amount numeric NOT NULL CHECK (threshold_amount >= 0),
    crossing integer NOT NULL CHECK (crossing >= 1),
    previous integer CHECK (previous = crossing - 1),
    balance_before numeric(39,12) NOT NULL,
    balance_after numeric(39,12) NOT NULL CHECK (balance_after >= 0),
    currency text NOT NULL,
    cause text NOT NULL,
    cause_grant text COLLATE "C" NOT NULL,
    cause_entry integer NOT NULL,
    rerating bigint,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (balance_before > threshold_amount AND balance_after <= threshold_amount),
    CHECK ((crossing = 1) = (previous IS NULL)),
    UNIQUE (customer, contract, grant_key, threshold, crossing),
    UNIQUE (customer, contract, grant_key, threshold, cause_grant, cause_entry),
    FOREIGN KEY (customer, contract, grant_key, threshold, previous)
        REFERENCES weir.threshold_crossings (customer, contract, grant_key, threshold, crossing),
    FOREIGN KEY (customer, contract, cause_grant, cause_entry) REFERENCES weir.grant_entries (customer, contract, grant_key, number)
);
COMMENT ON TABLE weir.threshold_crossings IS 'Every time that a balance fell to a threshold, written with the entries that took it there. Append-only.';
COMMENT ON COLUMN weir.threshold_crossings.event IS 'Its number: 1, 2, 3, ... without a gap, in the order in which they were committed.';
COMMENT ON COLUMN weir.threshold_crossings.customer IS 'The customer.';
COMMENT ON COLUMN weir.threshold_crossings.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.threshold_crossings.grant_key IS 'The grant; empty: all of the contract together.';
COMMENT ON COLUMN weir.threshold_crossings.threshold IS 'An amount, or with % a part of what was granted.';
COMMENT ON COLUMN weir.threshold_crossings.threshold_amount IS 'The balance that it stood for.';
COMMENT ON COLUMN weir.threshold_crossings.crossing IS 'How often the balance has fallen to it, with this time.';
COMMENT ON COLUMN weir.threshold_crossings.previous IS 'The crossing before it; null for the first.';
COMMENT ON COLUMN weir.threshold_crossings.balance_before IS 'The balance before, with what was granted at the same time.';
COMMENT ON COLUMN weir.threshold_crossings.balance_after IS 'The balance after.';
COMMENT ON COLUMN weir.threshold_crossings.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.threshold_crossings.cause IS 'The kind of the entry that took it there; where there are several, of the one that took most.';
COMMENT ON COLUMN weir.threshold_crossings.cause_grant IS 'The grant of that entry.';
COMMENT ON COLUMN weir.threshold_crossings.cause_entry IS 'Its number (balance_entries).';
COMMENT ON COLUMN weir.threshold_crossings.rerating IS 'The rerating that wrote it (rerating_runs); null: a rater did, or a command.';
COMMENT ON COLUMN weir.threshold_crossings.recorded_at IS 'When it was written.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.threshold_crossings
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE ALL ON weir.threshold_crossings FROM PUBLIC;

-- What one transaction does to a balance is one step: nobody ever saw a balance between its entries. What it grants counts as
-- there before, so that what is granted and drawn at once is a fall.
CREATE FUNCTION weir.note_crossings() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
    last bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM weir.balance_thresholds) THEN
        RETURN NULL;
    END IF;
    FOR found IN
        WITH steps AS (
            SELECT e.customer, e.contract, e.grant_key, g.currency,
                   (array_agg(e.balance_before ORDER BY e.number))[1]
                       + coalesce(sum(e.amount) FILTER (WHERE e.kind = 'grant' AND e.amount > 0), 0) AS before,
                   (array_agg(e.balance_after ORDER BY e.number DESC))[1] AS after,
                   (array_agg(e.number ORDER BY e.amount, e.number))[1] AS cause,
                   (array_agg(e.kind ORDER BY e.amount, e.number))[1] AS kind
            FROM entries AS e JOIN weir.grants AS g USING (customer, contract, grant_key)
            GROUP BY e.customer, e.contract, e.grant_key, g.currency
        ), falls AS (
            SELECT s.customer, s.contract, s.grant_key, s.currency, t.threshold, weir.threshold_amount(t.threshold, CASE WHEN t.threshold LIKE '%\%' THEN
                       (SELECT sum(a.amount) FROM weir.grant_entries AS a WHERE a.kind = 'grant' AND a.customer = s.customer
                            AND a.contract = s.contract AND a.grant_key = s.grant_key) END) AS amount,
                   s.before, s.after, s.grant_key AS cause_grant, s.cause, s.kind
            FROM steps AS s JOIN weir.balance_thresholds AS t
                ON t.contract = s.contract AND t.grant_key = s.grant_key AND t.customer IN ('', s.customer)
            WHERE s.before > s.after
            UNION ALL
            SELECT w.customer, w.contract, '', w.currency, t.threshold, t.threshold::numeric, b.after - w.amount + w.granted, b.after,
                   w.cause_grant, w.cause, w.kind
            FROM (SELECT e.customer, e.contract, min(g.currency) AS currency, sum(e.amount) AS amount,
                         coalesce(sum(e.amount) FILTER (WHERE e.kind = 'grant' AND e.amount > 0), 0) AS granted,
                         (array_agg(e.grant_key ORDER BY e.amount, e.grant_key, e.number))[1] AS cause_grant,
                         (array_agg(e.number ORDER BY e.amount, e.grant_key, e.number))[1] AS cause,
                         (array_agg(e.kind ORDER BY e.amount, e.grant_key, e.number))[1] AS kind
                  FROM entries AS e JOIN weir.grants AS g USING (customer, contract, grant_key) GROUP BY e.customer, e.contract) AS w
                 JOIN weir.balance_thresholds AS t ON t.contract = w.contract AND t.grant_key = '' AND t.customer = ''
                 CROSS JOIN LATERAL (
                     SELECT sum(l.balance_after) AS after FROM weir.grants AS g CROSS JOIN LATERAL (
                         SELECT a.balance_after FROM weir.grant_entries AS a WHERE a.customer = g.customer
                             AND a.contract = g.contract AND a.grant_key = g.grant_key ORDER BY a.number DESC LIMIT 1) AS l
                     WHERE g.customer = w.customer AND g.contract = w.contract) AS b
        )
        SELECT * FROM falls AS f
        WHERE f.before > f.amount AND f.after <= f.amount
        ORDER BY f.customer, f.contract, f.grant_key, f.amount DESC, f.threshold
    LOOP
        IF last IS NULL THEN
            PERFORM pg_advisory_xact_lock(2003132786, hashtext('weir balance events'));
            last := coalesce((SELECT max(event) FROM weir.threshold_crossings), 0);
        END IF;
        last := last + 1;
        INSERT INTO weir.threshold_crossings (event, customer, contract, grant_key, threshold, threshold_amount, crossing, previous,
                balance_before, balance_after, currency, cause, cause_grant, cause_entry, rerating)
            SELECT last, found.customer, found.contract, found.grant_key, found.threshold, found.amount, before.count + 1,
                   nullif(before.count, 0), found.before, found.after, found.currency, found.kind, found.cause_grant, found.cause,
                   nullif(current_setting('weir.rerating', true), '')::bigint
            FROM (SELECT coalesce(max(crossing), 0) AS count FROM weir.threshold_crossings AS c WHERE c.customer = found.customer
                      AND c.contract = found.contract AND c.grant_key = found.grant_key AND c.threshold = found.threshold) AS before;
    END LOOP;
    IF last IS NOT NULL THEN
        PERFORM pg_notify('weir_balance_events', last::text);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.note_crossings() IS 'Notes in threshold_crossings what entries of balances took to a threshold.';
CREATE TRIGGER note_crossings AFTER INSERT ON weir.grant_entries REFERENCING NEW TABLE AS entries
    FOR EACH STATEMENT EXECUTE FUNCTION weir.note_crossings();

CREATE VIEW weir.balance_events WITH (security_barrier) AS
SELECT event, customer, contract, grant_key, threshold, threshold_amount, crossing, balance_before, balance_after, currency, cause,
       cause_grant, cause_entry, rerating, recorded_at
FROM weir.threshold_crossings
WHERE (SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.balance_events IS 'Every time that a balance fell to a threshold of its grant or contract (low_balance), once.';
COMMENT ON COLUMN weir.balance_events.event IS 'Its number: 1, 2, 3, ... in the order in which they were committed; whoever has read up to one has missed none below it.';
COMMENT ON COLUMN weir.balance_events.customer IS 'The customer.';
COMMENT ON COLUMN weir.balance_events.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.balance_events.grant_key IS 'The grant; empty: all of the contract together.';
COMMENT ON COLUMN weir.balance_events.threshold IS 'An amount, or with % a part of what was granted.';
COMMENT ON COLUMN weir.balance_events.threshold_amount IS 'The balance that it stood for.';
COMMENT ON COLUMN weir.balance_events.crossing IS 'How often the balance has fallen to it, with this time.';
COMMENT ON COLUMN weir.balance_events.balance_before IS 'The balance before, with what was granted at the same time.';
COMMENT ON COLUMN weir.balance_events.balance_after IS 'The balance after.';
COMMENT ON COLUMN weir.balance_events.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.balance_events.cause IS 'Kind of the entry that took it there (balance_entries); of several, of the one that took most.';
COMMENT ON COLUMN weir.balance_events.cause_grant IS 'The grant of that entry.';
COMMENT ON COLUMN weir.balance_events.cause_entry IS 'Its number.';
COMMENT ON COLUMN weir.balance_events.rerating IS 'The rerating that wrote it (rerating_runs); null: a rater did, or a command.';
COMMENT ON COLUMN weir.balance_events.recorded_at IS 'When it was written.';
