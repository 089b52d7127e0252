-- Prices that a contract has for itself.
ALTER TABLE weir.contracts ADD COLUMN prices jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(prices) = 'array');
COMMENT ON COLUMN weir.contracts.prices IS 'The contract''s own prices, as in the catalog: they come before those of its price book.';
COMMENT ON COLUMN weir.line_items.price_book_version IS 'Version of the price book that was in force; null where none was (a true-up before the first version). The price is the contract''s own where that has one (weir.contracts.prices).';

-- As in 0011, with the contracts' prices.
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
    INSERT INTO weir.price_book_versions (price_book, price_book_version, effective_from, prices, fees)
    SELECT b ->> 'key', (b ->> 'version')::integer, (b ->> 'effective_from')::timestamptz,
           coalesce((b -> 'prices')::jsonb, '[]'), coalesce((b -> 'fees')::jsonb, '[]')
    FROM json_array_elements(coalesce(catalog -> 'price_books', '[]')) AS b;
    INSERT INTO weir.contracts (contract, customer, price_book, starts_at, ends_at, billing_period, billing_anchor, timezone,
                                prices, overrides, commitments)
    SELECT coalesce(c ->> 'key', ''), c ->> 'customer', c ->> 'price_book', (c ->> 'starts_at')::timestamptz,
           (c ->> 'ends_at')::timestamptz, c ->> 'billing_period', c ->> 'billing_anchor', c ->> 'timezone',
           coalesce((c -> 'prices')::jsonb, '[]'), coalesce((c -> 'overrides')::jsonb, '[]'), coalesce((c -> 'commitments')::jsonb, '[]')
    FROM (SELECT json_array_elements(coalesce(catalog -> 'contracts', '[]')) AS c
          UNION ALL SELECT catalog -> 'default_contract') AS d
    WHERE json_typeof(c) = 'object';
END
$$;
