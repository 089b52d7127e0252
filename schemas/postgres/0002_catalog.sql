-- The catalog as `weir apply` stored it: every version that was applied, and the entries of the current one for joins in SQL.

-- json, not jsonb: the text as it was applied, and room for a million contracts.
CREATE TABLE weir.catalog_versions (
    catalog_version integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    catalog json NOT NULL CHECK (json_typeof(catalog) = 'object'),
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by text NOT NULL DEFAULT session_user
);
COMMENT ON TABLE weir.catalog_versions IS 'Every catalog that was applied, whole. The one with the highest number is in force.';
COMMENT ON COLUMN weir.catalog_versions.catalog_version IS 'Number of the catalog, ascending.';
COMMENT ON COLUMN weir.catalog_versions.catalog IS 'Meters, price books and contracts, all files merged.';
COMMENT ON COLUMN weir.catalog_versions.sha256 IS 'SHA-256 of the catalog''s text as stored.';
COMMENT ON COLUMN weir.catalog_versions.applied_at IS 'When it was applied.';
COMMENT ON COLUMN weir.catalog_versions.applied_by IS 'The PostgreSQL role that applied it.';

CREATE TABLE weir.meters (
    meter text COLLATE "C" PRIMARY KEY,
    event_type text NOT NULL,
    aggregation text NOT NULL,
    value_path text,
    rollup text,
    window_length text NOT NULL,
    group_by jsonb NOT NULL,
    conditions jsonb NOT NULL
);
COMMENT ON TABLE weir.meters IS 'The meters of the catalog in force: what is counted.';
COMMENT ON COLUMN weir.meters.meter IS 'Key of the meter.';
COMMENT ON COLUMN weir.meters.event_type IS 'Type of the events that it counts.';
COMMENT ON COLUMN weir.meters.aggregation IS 'count, sum, min, max, latest, avg or unique.';
COMMENT ON COLUMN weir.meters.value_path IS 'Where in the event the value stands; null for count.';
COMMENT ON COLUMN weir.meters.rollup IS 'sum: a period adds the windows'' values up; null: as the aggregation does.';
COMMENT ON COLUMN weir.meters.window_length IS 'Length of its windows: 1m, 5m, 15m, 1h, 1d or 1mo.';
COMMENT ON COLUMN weir.meters.group_by IS 'Names of the dimensions that it keeps apart.';
COMMENT ON COLUMN weir.meters.conditions IS 'The catalog''s "where": the values that pass, by path.';

CREATE TABLE weir.price_book_versions (
    price_book text COLLATE "C" NOT NULL REFERENCES weir.price_books,
    price_book_version integer NOT NULL CHECK (price_book_version >= 1),
    effective_from timestamptz NOT NULL,
    prices jsonb NOT NULL,
    fees jsonb NOT NULL,
    PRIMARY KEY (price_book, price_book_version)
);
COMMENT ON TABLE weir.price_book_versions IS 'The price book versions of the catalog in force. line_items.price_book and price_book_version lead here.';
COMMENT ON COLUMN weir.price_book_versions.price_book IS 'Key of the price book.';
COMMENT ON COLUMN weir.price_book_versions.price_book_version IS 'Version, from 1. A version never changes.';
COMMENT ON COLUMN weir.price_book_versions.effective_from IS 'Windows that start at or after this are priced by this version, until the next one.';
COMMENT ON COLUMN weir.price_book_versions.prices IS 'The prices, as in the catalog.';
COMMENT ON COLUMN weir.price_book_versions.fees IS 'The fees, as in the catalog.';

CREATE TABLE weir.contracts (
    contract text COLLATE "C" PRIMARY KEY,
    customer text COLLATE "C",
    price_book text NOT NULL,
    starts_at timestamptz,
    ends_at timestamptz,
    billing_period text NOT NULL,
    timezone text NOT NULL,
    overrides jsonb NOT NULL,
    commitments jsonb NOT NULL,
    CHECK (starts_at < ends_at),
    CHECK ((contract = '') = (customer IS NULL))
);
CREATE INDEX contracts_of_customer ON weir.contracts (customer, starts_at);
COMMENT ON TABLE weir.contracts IS 'The contracts of the catalog in force; the one with the empty key is the default contract, for customers without their own.';
COMMENT ON COLUMN weir.contracts.contract IS 'Key of the contract; empty for the default contract. line_items.contract leads here.';
COMMENT ON COLUMN weir.contracts.customer IS 'The customer; null for the default contract.';
COMMENT ON COLUMN weir.contracts.price_book IS 'Key of the price book that it is billed by.';
COMMENT ON COLUMN weir.contracts.starts_at IS 'First instant of the term; null for the default contract.';
COMMENT ON COLUMN weir.contracts.ends_at IS 'First instant after the term; null: open.';
COMMENT ON COLUMN weir.contracts.billing_period IS 'day, week, month, quarter or year.';
COMMENT ON COLUMN weir.contracts.timezone IS 'IANA time zone in which billing periods begin at midnight.';
COMMENT ON COLUMN weir.contracts.overrides IS 'Multipliers of prices by meter, as in the catalog.';
COMMENT ON COLUMN weir.contracts.commitments IS 'Minimum spends and prepaid amounts, as in the catalog.';

-- The entries of a catalog, taken from its JSON text. Versions and contracts that were billed can never leave a catalog
-- (weir apply refuses), so what line items refer to is always here.
CREATE FUNCTION weir.show_catalog(catalog json) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM weir.meters;
    DELETE FROM weir.contracts;
    DELETE FROM weir.price_book_versions;
    INSERT INTO weir.meters
    SELECT m ->> 'key', m ->> 'event_type', m ->> 'aggregation', m ->> 'value', m ->> 'rollup', m ->> 'window',
           coalesce((m -> 'group_by')::jsonb, '[]'), coalesce((m -> 'where')::jsonb, '{}')
    FROM json_array_elements(coalesce(catalog -> 'meters', '[]')) AS m;
    INSERT INTO weir.price_book_versions
    SELECT b ->> 'key', (b ->> 'version')::integer, (b ->> 'effective_from')::timestamptz,
           coalesce((b -> 'prices')::jsonb, '[]'), coalesce((b -> 'fees')::jsonb, '[]')
    FROM json_array_elements(coalesce(catalog -> 'price_books', '[]')) AS b;
    INSERT INTO weir.contracts
    SELECT c ->> 'key', c ->> 'customer', c ->> 'price_book', (c ->> 'starts_at')::timestamptz,
           (c ->> 'ends_at')::timestamptz, c ->> 'billing_period', c ->> 'timezone',
           coalesce((c -> 'overrides')::jsonb, '[]'), coalesce((c -> 'commitments')::jsonb, '[]')
    FROM json_array_elements(coalesce(catalog -> 'contracts', '[]')) AS c;
    INSERT INTO weir.contracts
    SELECT '', NULL, c ->> 'price_book', NULL, NULL, c ->> 'billing_period', c ->> 'timezone',
           coalesce((c -> 'overrides')::jsonb, '[]'), coalesce((c -> 'commitments')::jsonb, '[]')
    FROM (SELECT catalog -> 'default_contract' AS c) AS d
    WHERE json_typeof(c) = 'object';
END
$$;
REVOKE ALL ON FUNCTION weir.show_catalog(json) FROM PUBLIC;
COMMENT ON FUNCTION weir.show_catalog(json) IS 'Fills meters, price_book_versions and contracts from a catalog''s JSON. weir apply calls it.';
