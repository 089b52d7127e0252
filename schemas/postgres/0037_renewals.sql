-- Contracts that renew: their terms, and prepaid amounts that are granted anew with each.
ALTER TABLE weir.contracts ADD COLUMN renews jsonb CHECK (jsonb_typeof(renews) = 'object');
COMMENT ON COLUMN weir.contracts.renews IS 'How long the terms are by which it renews, as in the catalog; null: it does not renew.';

-- As in 0024, with that.
CREATE OR REPLACE FUNCTION weir.show_catalog(catalog json) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM weir.meters;
    DELETE FROM weir.contracts;
    DELETE FROM weir.price_book_versions;
    INSERT INTO weir.meters (meter, event_type, aggregation, value_path, rollup, window_length, group_by, conditions)
    SELECT m ->> 'key', m ->> 'event_type', m ->> 'aggregation', m ->> 'value', m ->> 'rollup', m ->> 'window',
           coalesce((m -> 'group_by')::jsonb, '[]'), coalesce((m -> 'where')::jsonb, '{}')
    FROM json_array_elements(coalesce(catalog -> 'meters', '[]')) AS m;
    INSERT INTO weir.price_book_versions (price_book, price_book_version, effective_from, prices, fees, discounts)
    SELECT b ->> 'key', (b ->> 'version')::integer, (b ->> 'effective_from')::timestamptz,
           coalesce((b -> 'prices')::jsonb, '[]'), coalesce((b -> 'fees')::jsonb, '[]'),
           coalesce((b -> 'discounts')::jsonb, '[]')
    FROM json_array_elements(coalesce(catalog -> 'price_books', '[]')) AS b;
    INSERT INTO weir.contracts (contract, customer, price_book, starts_at, ends_at, billing_period, billing_anchor, timezone,
                                prices, overrides, commitments, discounts, phases, renews)
    SELECT coalesce(c ->> 'key', ''), c ->> 'customer', c ->> 'price_book', (c ->> 'starts_at')::timestamptz,
           (c ->> 'ends_at')::timestamptz, c ->> 'billing_period', c ->> 'billing_anchor', c ->> 'timezone',
           coalesce((c -> 'prices')::jsonb, '[]'), coalesce((c -> 'overrides')::jsonb, '[]'), coalesce((c -> 'commitments')::jsonb, '[]'),
           (c -> 'discounts')::jsonb, coalesce((c -> 'phases')::jsonb, '[]'), (c -> 'renews')::jsonb
    FROM (SELECT json_array_elements(coalesce(catalog -> 'contracts', '[]')) AS c
          UNION ALL SELECT catalog -> 'default_contract') AS d
    WHERE json_typeof(c) = 'object';
END
$$;

-- Terms begin where billing periods do: those by months count periods, those of days and weeks go by the date.
CREATE VIEW weir.contract_renewals AS
    WITH boundaries AS (
        SELECT c.contract, c.customer, c.starts_at, c.ends_at, c.billing_period, (c.renews ->> 'months')::integer AS months, lower(p.period) AS at,
               (c.starts_at AT TIME ZONE c.timezone)::date AS first_day, on_day.day
        FROM weir.contracts AS c
        JOIN weir.calendar_periods AS p ON p.timezone = c.timezone AND p.billing_period = c.billing_period
            AND p.billing_anchor = CASE c.billing_period
                WHEN 'day' THEN ''
                WHEN 'week' THEN coalesce(c.billing_anchor, 'monday')
                WHEN 'month' THEN coalesce(c.billing_anchor, '1')
                WHEN 'year' THEN coalesce(c.billing_anchor, '01-01')
                ELSE coalesce('0' || (left(c.billing_anchor, 2)::integer - 1) % 3 + 1 || right(c.billing_anchor, 3), '01-01') END
        CROSS JOIN LATERAL (SELECT ((lower(p.period) + interval '12 hours') AT TIME ZONE c.timezone)::date AS day) AS on_day
        WHERE c.renews IS NOT NULL AND (lower(p.period) >= c.starts_at OR on_day.day = (c.starts_at AT TIME ZONE c.timezone)::date)),
    counted AS (
        SELECT *, (row_number() OVER (PARTITION BY contract ORDER BY at) - 1)
                      / (months / CASE billing_period WHEN 'year' THEN 12 WHEN 'quarter' THEN 3 ELSE 1 END) AS by_periods,
               div((extract(year FROM day) - extract(year FROM first_day)) * 12 + extract(month FROM day) - extract(month FROM first_day), months)::integer AS by_months
        FROM boundaries),
    terms AS (
        SELECT contract, customer, starts_at, ends_at, min(at) AS at, 1 + CASE
                   WHEN billing_period NOT IN ('day', 'week') THEN by_periods
                   WHEN first_day + make_interval(months => by_months * months) > day THEN by_months - 1
                   ELSE by_months END AS term
        FROM counted GROUP BY contract, customer, starts_at, ends_at, 6)
    SELECT contract, customer, term, CASE term WHEN 1 THEN starts_at ELSE at END AS starts_at,
           least(lead(at) OVER (PARTITION BY contract ORDER BY term), ends_at) AS ends_at
    FROM terms WHERE ends_at IS NULL OR term = 1 OR at < ends_at;
COMMENT ON VIEW weir.contract_renewals IS 'The terms of each contract of the catalog in force that renews, as far as its calendar is written.';
COMMENT ON COLUMN weir.contract_renewals.contract IS 'Key of the contract.';
COMMENT ON COLUMN weir.contract_renewals.customer IS 'The customer.';
COMMENT ON COLUMN weir.contract_renewals.term IS 'Number of the term, from 1; prepaid amounts per term have it in their keys from the second on.';
COMMENT ON COLUMN weir.contract_renewals.starts_at IS 'First instant of the term.';
COMMENT ON COLUMN weir.contract_renewals.ends_at IS 'First instant after it; null: later than the calendar is written.';

-- What is granted with each term is noted with its grants (0025, keep_grant_terms), not with the contract.
CREATE OR REPLACE FUNCTION weir.prepaid_commitments(commitments jsonb, phases jsonb)
RETURNS TABLE (grant_key text, amount numeric, price numeric, expires_at timestamptz)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 2 AS $$
    SELECT DISTINCT ON (c.said ->> 'key') c.said ->> 'key', (c.said ->> 'amount')::numeric,
           CASE coalesce(c.said ->> 'funding', 'paid') WHEN 'paid' THEN coalesce(c.said ->> 'price', c.said ->> 'amount')::numeric ELSE 0 END,
           coalesce(c.said ->> 'expires_at', 'infinity')::timestamptz
    FROM (SELECT said FROM jsonb_array_elements(commitments) AS m (said)
          UNION ALL
          SELECT m.said FROM jsonb_array_elements(phases) AS p (said), jsonb_array_elements(coalesce(p.said -> 'commitments', '[]')) AS m (said)) AS c
    WHERE c.said ->> 'type' = 'prepaid' AND coalesce(c.said ->> 'per', 'contract') = 'contract'
    ORDER BY c.said ->> 'key'
$$;
CREATE OR REPLACE FUNCTION weir.keep_prepaid_terms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO weir.prepaid_terms AS t (customer, contract, grant_key, account, amount, price, ends_at)
        SELECT NEW.customer, NEW.contract, p.grant_key, p.grant_key, p.amount, p.price, least(p.expires_at, NEW.ends_at,
            (SELECT e.ends_at FROM weir.grant_ends AS e
             WHERE e.customer = NEW.customer AND e.contract = NEW.contract AND e.grant_key = p.grant_key))
        FROM weir.prepaid_commitments(NEW.commitments, NEW.phases) AS p WHERE p.price > 0
        ON CONFLICT (customer, contract, grant_key) DO UPDATE
            SET amount = excluded.amount, price = excluded.price, ends_at = excluded.ends_at,
                rolls_until = CASE WHEN t.rolls_until > excluded.ends_at THEN t.rolls_until END;
    -- What is granted with each term is known by its grants; one does not outlast the contract.
    UPDATE weir.prepaid_terms AS t
        SET ends_at = least(t.ends_at, NEW.ends_at), rolls_until = CASE WHEN t.ends_at < NEW.ends_at THEN least(t.rolls_until, NEW.ends_at) END
        WHERE t.customer = NEW.customer AND t.contract = NEW.contract AND greatest(t.ends_at, t.rolls_until) > NEW.ends_at
            AND t.grant_key <> split_part(t.grant_key, '+', 1) AND NOT EXISTS (
                SELECT FROM weir.prepaid_commitments(NEW.commitments, NEW.phases) AS p WHERE p.grant_key = split_part(t.grant_key, '+', 1));
    RETURN NULL;
END
$$;
