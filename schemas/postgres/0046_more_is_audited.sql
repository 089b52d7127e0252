-- What is shown of the catalog in force, what reratings did by customer, and the figures of closed months are held against what
-- the audit log tells of. It has no entry for each of their rows: they follow from rows that it has, or from each other.

-- 1. What is shown of a catalog, row by row, so that it can be compared as well as stored -------------------------------------

CREATE FUNCTION weir.shown_meters(catalog json)
RETURNS TABLE (meter text, event_type text, aggregation text, value_path text, rollup text, window_length text, group_by jsonb, conditions jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT m ->> 'key', m ->> 'event_type', m ->> 'aggregation', m ->> 'value', m ->> 'rollup', m ->> 'window',
           coalesce((m -> 'group_by')::jsonb, '[]'), coalesce((m -> 'where')::jsonb, '{}')
    FROM json_array_elements(coalesce(catalog -> 'meters', '[]')) AS m
$$;
COMMENT ON FUNCTION weir.shown_meters(json) IS 'The rows of meters that a catalog makes.';

CREATE FUNCTION weir.shown_price_book_versions(catalog json)
RETURNS TABLE (price_book text, price_book_version integer, effective_from timestamptz, prices jsonb, fees jsonb, discounts jsonb, packages jsonb,
               drawdown_order jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT b ->> 'key', (b ->> 'version')::integer, (b ->> 'effective_from')::timestamptz,
           coalesce((b -> 'prices')::jsonb, '[]'), coalesce((b -> 'fees')::jsonb, '[]'),
           coalesce((b -> 'discounts')::jsonb, '[]'), coalesce((b -> 'packages')::jsonb, '[]'), (b -> 'drawdown_order')::jsonb
    FROM json_array_elements(coalesce(catalog -> 'price_books', '[]')) AS b
$$;
COMMENT ON FUNCTION weir.shown_price_book_versions(json) IS 'The rows of price_book_versions that a catalog makes.';

CREATE FUNCTION weir.shown_contracts(catalog json)
RETURNS TABLE (contract text, customer text, price_book text, starts_at timestamptz, ends_at timestamptz, billing_period text, billing_anchor text,
               timezone text, prices jsonb, overrides jsonb, commitments jsonb, discounts jsonb, phases jsonb, renews jsonb, packages jsonb,
               drawdown_order jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(c ->> 'key', ''), c ->> 'customer', c ->> 'price_book', (c ->> 'starts_at')::timestamptz,
           (c ->> 'ends_at')::timestamptz, c ->> 'billing_period', c ->> 'billing_anchor', c ->> 'timezone',
           coalesce((c -> 'prices')::jsonb, '[]'), coalesce((c -> 'overrides')::jsonb, '[]'), coalesce((c -> 'commitments')::jsonb, '[]'),
           (c -> 'discounts')::jsonb, coalesce((c -> 'phases')::jsonb, '[]'), (c -> 'renews')::jsonb,
           coalesce((c -> 'packages')::jsonb, '[]'), (c -> 'drawdown_order')::jsonb
    FROM (SELECT json_array_elements(coalesce(catalog -> 'contracts', '[]')) AS c
          UNION ALL SELECT catalog -> 'default_contract') AS d
    WHERE json_typeof(c) = 'object'
$$;
COMMENT ON FUNCTION weir.shown_contracts(json) IS 'The rows of contracts that a catalog makes.';

-- As in 0043, by these.
CREATE OR REPLACE FUNCTION weir.show_catalog(catalog json) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM weir.meters;
    DELETE FROM weir.contracts;
    DELETE FROM weir.price_book_versions;
    INSERT INTO weir.meters (meter, event_type, aggregation, value_path, rollup, window_length, group_by, conditions)
        SELECT * FROM weir.shown_meters(catalog);
    INSERT INTO weir.price_book_versions (price_book, price_book_version, effective_from, prices, fees, discounts, packages, drawdown_order)
        SELECT * FROM weir.shown_price_book_versions(catalog);
    INSERT INTO weir.contracts (contract, customer, price_book, starts_at, ends_at, billing_period, billing_anchor, timezone,
                                prices, overrides, commitments, discounts, phases, renews, packages, drawdown_order)
        SELECT * FROM weir.shown_contracts(catalog);
END
$$;

-- A contract's row shows what is bought as a package with the amount and the price that the package comes to, which the catalog
-- leaves to the package: those two are not compared, the package is.
CREATE FUNCTION weir.commitments_to_compare(commitments jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(CASE WHEN e ? 'package' THEN e - 'amount' - 'price' ELSE e END ORDER BY n), '[]')
    FROM jsonb_array_elements(commitments) WITH ORDINALITY AS t (e, n)
$$;
CREATE FUNCTION weir.contract_to_compare(contract jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT contract || jsonb_build_object(
        'commitments', weir.commitments_to_compare(contract -> 'commitments'),
        'phases', (SELECT coalesce(jsonb_agg(CASE WHEN p ? 'commitments'
                                                  THEN p || jsonb_build_object('commitments', weir.commitments_to_compare(p -> 'commitments'))
                                                  ELSE p END ORDER BY n), '[]')
                   FROM jsonb_array_elements(contract -> 'phases') WITH ORDINALITY AS t (p, n)))
$$;

-- 2. Beside audit_mismatches, in its form -------------------------------------------------------------------------------------

CREATE FUNCTION weir.derived_mismatches() RETURNS TABLE (action text, subject text, mismatch text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    WITH applied AS (SELECT c.catalog FROM weir.catalog_versions AS c ORDER BY c.catalog_version DESC LIMIT 1),
    shown AS (
        SELECT 'meter ' || m.meter AS subject, to_jsonb(m) AS detail FROM weir.meters AS m
        UNION ALL
        SELECT 'price book ' || v.price_book || ' version ' || v.price_book_version, to_jsonb(v) FROM weir.price_book_versions AS v
        UNION ALL
        SELECT CASE WHEN c.contract = '' THEN 'the default contract' ELSE 'contract ' || c.contract END, weir.contract_to_compare(to_jsonb(c)) FROM weir.contracts AS c
    ),
    said AS (
        SELECT 'meter ' || m.meter AS subject, to_jsonb(m) AS detail FROM applied, weir.shown_meters(applied.catalog) AS m
        UNION ALL
        SELECT 'price book ' || v.price_book || ' version ' || v.price_book_version, to_jsonb(v)
            FROM applied, weir.shown_price_book_versions(applied.catalog) AS v
        UNION ALL
        SELECT CASE WHEN c.contract = '' THEN 'the default contract' ELSE 'contract ' || c.contract END, weir.contract_to_compare(to_jsonb(c))
            FROM applied, weir.shown_contracts(applied.catalog) AS c
    ),
    done AS (
        SELECT c.rerating, count(*) AS customers, count(*) FILTER (WHERE c.reversals + c.line_items > 0) AS changed,
               sum(c.windows) AS windows, sum(c.reversals) AS reversals, sum(c.line_items) AS line_items
        FROM weir.rerating_customers AS c GROUP BY c.rerating
    ),
    -- What was earned by a month's end and is not invoiced is what was invoiced and is not earned, the other way round.
    months AS (
        SELECT r.customer, r.contract, r.month, r.currency,
               sum(r.recognised - r.invoiced) OVER (PARTITION BY r.customer, r.contract, r.currency ORDER BY r.month) + r.deferred - r.unbilled AS rest
        FROM weir.closed_revenue AS r
    )
    SELECT 'apply', coalesce(s.subject, d.subject),
           CASE WHEN d.subject IS NULL THEN 'is not in the catalog in force' WHEN s.subject IS NULL THEN 'is gone, and the catalog in force has it'
                ELSE 'is not what the catalog in force says' END
        FROM shown AS s FULL JOIN said AS d ON d.subject = s.subject
        WHERE s.detail IS DISTINCT FROM d.detail AND EXISTS (SELECT FROM applied) -- before the first apply there is nothing to hold it against
    UNION ALL
    SELECT 'rerated', 'rerating ' || e.rerating, 'is not what its customers come to (rerating_customers)'
        FROM weir.rerating_ends AS e LEFT JOIN done AS d ON d.rerating = e.rerating
        WHERE (e.customers, e.changed, e.windows, e.reversals, e.line_items) IS DISTINCT FROM
              (coalesce(d.customers, 0), coalesce(d.changed, 0), coalesce(d.windows, 0), coalesce(d.reversals, 0), coalesce(d.line_items, 0))
    UNION ALL
    SELECT 'closed', 'customer ' || m.customer || CASE WHEN m.contract = '' THEN '' ELSE ', contract ' || m.contract END || ', ' || m.currency
               || ', ' || to_char(min(m.month), 'YYYY-MM'), 'is closed with figures that do not follow from the month before it'
        FROM months AS m WHERE m.rest <> 0 GROUP BY m.customer, m.contract, m.currency
    ORDER BY 1, 2
$$;
REVOKE ALL ON FUNCTION weir.derived_mismatches() FROM PUBLIC;
COMMENT ON FUNCTION weir.derived_mismatches() IS 'As audit_mismatches, of meters, price_book_versions and contracts, rerating_customers and closed_revenue.';
