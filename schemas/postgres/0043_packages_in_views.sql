-- Packages and the order of drawdown of the catalog in force, beside its prices and commitments (docs/credits.md 2.2 and 2.3).
ALTER TABLE weir.price_book_versions
    ADD COLUMN packages jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(packages) = 'array'),
    ADD COLUMN drawdown_order jsonb CHECK (jsonb_typeof(drawdown_order) = 'array');
COMMENT ON COLUMN weir.price_book_versions.packages IS 'Packages of prepaid credit, as in the catalog.';
COMMENT ON COLUMN weir.price_book_versions.drawdown_order IS 'By what grants are taken, first to last, under contracts that do not say it themselves, as in the catalog; null: priority, funding, meters, expires_at, starts_at.';
ALTER TABLE weir.contracts
    ADD COLUMN packages jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(packages) = 'array'),
    ADD COLUMN drawdown_order jsonb CHECK (jsonb_typeof(drawdown_order) = 'array');
COMMENT ON COLUMN weir.contracts.packages IS 'Packages of its own, which come before the price book''s, as in the catalog.';
COMMENT ON COLUMN weir.contracts.drawdown_order IS 'By what grants are taken, first to last, as in the catalog; null: what the price book''s version in force at a period''s start says.';

-- As in 0037, with them.
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
    INSERT INTO weir.price_book_versions (price_book, price_book_version, effective_from, prices, fees, discounts, packages, drawdown_order)
    SELECT b ->> 'key', (b ->> 'version')::integer, (b ->> 'effective_from')::timestamptz,
           coalesce((b -> 'prices')::jsonb, '[]'), coalesce((b -> 'fees')::jsonb, '[]'),
           coalesce((b -> 'discounts')::jsonb, '[]'), coalesce((b -> 'packages')::jsonb, '[]'), (b -> 'drawdown_order')::jsonb
    FROM json_array_elements(coalesce(catalog -> 'price_books', '[]')) AS b;
    INSERT INTO weir.contracts (contract, customer, price_book, starts_at, ends_at, billing_period, billing_anchor, timezone,
                                prices, overrides, commitments, discounts, phases, renews, packages, drawdown_order)
    SELECT coalesce(c ->> 'key', ''), c ->> 'customer', c ->> 'price_book', (c ->> 'starts_at')::timestamptz,
           (c ->> 'ends_at')::timestamptz, c ->> 'billing_period', c ->> 'billing_anchor', c ->> 'timezone',
           coalesce((c -> 'prices')::jsonb, '[]'), coalesce((c -> 'overrides')::jsonb, '[]'), coalesce((c -> 'commitments')::jsonb, '[]'),
           (c -> 'discounts')::jsonb, coalesce((c -> 'phases')::jsonb, '[]'), (c -> 'renews')::jsonb,
           coalesce((c -> 'packages')::jsonb, '[]'), (c -> 'drawdown_order')::jsonb
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
               s.phase -> 'commitments' AS commitments, s.phase -> 'discounts' AS discounts,
               s.phase -> 'packages' AS packages, s.phase -> 'drawdown_order' AS drawdown_order
        FROM weir.contracts AS c CROSS JOIN LATERAL (
            SELECT 0::bigint AS number, jsonb_build_object('price_book', c.price_book, 'prices', c.prices, 'overrides', c.overrides,
                                                           'commitments', c.commitments, 'discounts', c.discounts,
                                                           'packages', c.packages, 'drawdown_order', c.drawdown_order) AS phase
            UNION ALL SELECT number, phase FROM jsonb_array_elements(c.phases) WITH ORDINALITY AS p (phase, number)) AS s),
    -- What a phase does not say goes on: counting who says it numbers the stretches that say the same.
    spoken AS (
        SELECT *, count(price_book) OVER w AS said_book, count(prices) OVER w AS said_prices, count(overrides) OVER w AS said_overrides,
               count(commitments) OVER w AS said_commitments, count(discounts) OVER w AS said_discounts,
               count(packages) OVER w AS said_packages, count(drawdown_order) OVER w AS said_order,
               coalesce(lead(starts_at) OVER w, whole_ends_at) AS ends_at
        FROM steps WINDOW w AS (PARTITION BY contract ORDER BY number))
    SELECT contract, customer, phase, reason, starts_at, ends_at,
           first_value(price_book) OVER (PARTITION BY contract, said_book ORDER BY number) #>> '{}' AS price_book,
           first_value(prices) OVER (PARTITION BY contract, said_prices ORDER BY number) AS prices,
           first_value(overrides) OVER (PARTITION BY contract, said_overrides ORDER BY number) AS overrides,
           first_value(commitments) OVER (PARTITION BY contract, said_commitments ORDER BY number) AS commitments,
           nullif(first_value(discounts) OVER (PARTITION BY contract, said_discounts ORDER BY number), 'null') AS discounts,
           first_value(packages) OVER (PARTITION BY contract, said_packages ORDER BY number) AS packages,
           nullif(first_value(drawdown_order) OVER (PARTITION BY contract, said_order ORDER BY number), 'null') AS drawdown_order
    FROM spoken;
COMMENT ON COLUMN weir.contract_terms.packages IS 'The contract''s own packages, which come before the price book''s, as in the catalog.';
COMMENT ON COLUMN weir.contract_terms.drawdown_order IS 'By what grants are taken, first to last, as in the catalog; null: what the price book''s version in force at a period''s start says.';

-- What was applied last. Nothing of the terms that keep_prepaid keeps is another.
ALTER TABLE weir.contracts DISABLE TRIGGER keep_prepaid;
WITH applied AS (SELECT catalog FROM weir.catalog_versions ORDER BY catalog_version DESC LIMIT 1)
UPDATE weir.price_book_versions AS v
SET packages = coalesce((b.said -> 'packages')::jsonb, '[]'), drawdown_order = (b.said -> 'drawdown_order')::jsonb
FROM applied, json_array_elements(coalesce(catalog -> 'price_books', '[]')) AS b (said)
WHERE v.price_book = b.said ->> 'key' AND v.price_book_version = (b.said ->> 'version')::integer;
WITH applied AS (SELECT catalog FROM weir.catalog_versions ORDER BY catalog_version DESC LIMIT 1)
UPDATE weir.contracts AS c
SET packages = coalesce((d.said -> 'packages')::jsonb, '[]'), drawdown_order = (d.said -> 'drawdown_order')::jsonb
FROM (SELECT json_array_elements(coalesce(catalog -> 'contracts', '[]')) AS said FROM applied
      UNION ALL SELECT catalog -> 'default_contract' FROM applied) AS d
WHERE c.contract = coalesce(d.said ->> 'key', '');
ALTER TABLE weir.contracts ENABLE TRIGGER keep_prepaid;
