-- Discounts of price books, for contracts without a list of their own.
ALTER TABLE weir.price_book_versions ADD COLUMN discounts jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(discounts) = 'array');
COMMENT ON COLUMN weir.price_book_versions.discounts IS 'What is taken off under contracts without discounts of their own, in this order, as in the catalog.';
ALTER TABLE weir.contracts ALTER COLUMN discounts DROP NOT NULL, ALTER COLUMN discounts DROP DEFAULT;
COMMENT ON COLUMN weir.contracts.discounts IS 'What is taken off, in this order, as in the catalog; null: what the price book''s version in force at a period''s start says.';

-- As in 0017, with them.
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
                                prices, overrides, commitments, discounts, phases)
    SELECT coalesce(c ->> 'key', ''), c ->> 'customer', c ->> 'price_book', (c ->> 'starts_at')::timestamptz,
           (c ->> 'ends_at')::timestamptz, c ->> 'billing_period', c ->> 'billing_anchor', c ->> 'timezone',
           coalesce((c -> 'prices')::jsonb, '[]'), coalesce((c -> 'overrides')::jsonb, '[]'), coalesce((c -> 'commitments')::jsonb, '[]'),
           (c -> 'discounts')::jsonb, coalesce((c -> 'phases')::jsonb, '[]')
    FROM (SELECT json_array_elements(coalesce(catalog -> 'contracts', '[]')) AS c
          UNION ALL SELECT catalog -> 'default_contract') AS d
    WHERE json_typeof(c) = 'object';
END
$$;

CREATE OR REPLACE VIEW weir.contract_terms AS
    WITH steps AS (
        SELECT c.contract, c.customer, c.ends_at AS whole_ends_at, s.number, s.phase ->> 'key' AS phase, s.phase ->> 'reason' AS reason,
               coalesce((s.phase ->> 'starts_at')::timestamptz, c.starts_at) AS starts_at,
               s.phase -> 'price_book' AS price_book, s.phase -> 'prices' AS prices, s.phase -> 'overrides' AS overrides,
               s.phase -> 'commitments' AS commitments, s.phase -> 'discounts' AS discounts
        FROM weir.contracts AS c CROSS JOIN LATERAL (
            SELECT 0::bigint AS number, jsonb_build_object('price_book', c.price_book, 'prices', c.prices, 'overrides', c.overrides,
                                                           'commitments', c.commitments, 'discounts', c.discounts) AS phase
            UNION ALL SELECT number, phase FROM jsonb_array_elements(c.phases) WITH ORDINALITY AS p (phase, number)) AS s),
    -- What a phase does not say goes on: counting who says it numbers the stretches that say the same.
    spoken AS (
        SELECT *, count(price_book) OVER w AS said_book, count(prices) OVER w AS said_prices, count(overrides) OVER w AS said_overrides,
               count(commitments) OVER w AS said_commitments, count(discounts) OVER w AS said_discounts,
               coalesce(lead(starts_at) OVER w, whole_ends_at) AS ends_at
        FROM steps WINDOW w AS (PARTITION BY contract ORDER BY number))
    SELECT contract, customer, phase, reason, starts_at, ends_at,
           first_value(price_book) OVER (PARTITION BY contract, said_book ORDER BY number) #>> '{}' AS price_book,
           first_value(prices) OVER (PARTITION BY contract, said_prices ORDER BY number) AS prices,
           first_value(overrides) OVER (PARTITION BY contract, said_overrides ORDER BY number) AS overrides,
           first_value(commitments) OVER (PARTITION BY contract, said_commitments ORDER BY number) AS commitments,
           nullif(first_value(discounts) OVER (PARTITION BY contract, said_discounts ORDER BY number), 'null') AS discounts
    FROM spoken;
COMMENT ON COLUMN weir.contract_terms.discounts IS 'Discounts, as in the catalog; null: what the price book''s version in force at a period''s start says.';

COMMENT ON COLUMN weir.line_items.component IS 'Which part of the price the amount comes from: free_units, units, flat_fee, package, fixed_fee, flat, discount, minimum, maximum, fee, true_up, shortfall (of a minimum quantity), drawdown, overage.';
