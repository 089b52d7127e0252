-- What is charged in advance is invoiced when it is charged: on the invoice of the period that ends just then, or else on one of its own
-- (docs/invoices.md 2). Line items of before this migration say nothing of it: they stand on the invoice of their own period, as they did.

-- 1. What is charged in advance ------------------------------------------------------------------------------------------------

ALTER TABLE weir.line_items ADD COLUMN advance_at timestamptz;
COMMENT ON COLUMN weir.line_items.advance_at IS 'Charged in advance: when it is to be invoiced, the start of its period or of what is bought. Null: when its period ends.';
CREATE INDEX line_items_in_advance ON weir.line_items (customer, period_start, line_item_id) WHERE advance_at IS NOT NULL;

ALTER TABLE weir.invoice_ranges ADD COLUMN advance_at timestamptz,
    ADD CONSTRAINT invoice_ranges_in_advance CHECK (advance_at IS NULL OR through_item = after_item + 1);
COMMENT ON COLUMN weir.invoice_ranges.advance_at IS 'Of a line item that was charged in advance, which is a range by itself: when. Null: none in it was.';
ALTER TABLE weir.invoice_heads DROP CONSTRAINT invoice_heads_kind_check,
    ADD CONSTRAINT invoice_heads_kind_check CHECK (kind IN ('period', 'advance', 'correction'));
CREATE INDEX invoice_heads_customer ON weir.invoice_heads (customer, contract, period_start);
COMMENT ON COLUMN weir.invoice_heads.kind IS 'period: of a billing period; advance: of what was charged in advance when no period of its contract ended; correction: only adjustments, where no further period of the contract came to carry them.';
COMMENT ON COLUMN weir.invoice_heads.period_start IS 'Start of the billing period; of an invoice in advance, when it was charged; of a correction, start of the latest period that it corrects.';

CREATE FUNCTION weir.invoice_instant(kind text, period_start timestamptz, period_end timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE kind WHEN 'advance' THEN period_start ELSE period_end END
$$;
COMMENT ON FUNCTION weir.invoice_instant(text, timestamptz, timestamptz) IS 'The time that an invoice is of: it holds what is to be invoiced by then.';

-- As in 0038, with when a range was charged in advance; one that was not, has the digest that it had.
CREATE OR REPLACE FUNCTION weir.invoice_digest_of_lines(of_invoice bigint) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN (
    SELECT encode(sha256(convert_to(jsonb_build_array(h.invoice, h.customer, h.contract, h.kind, h.period_start, h.period_end, h.currency,
            h.amount, h.total, h.replaces, h.ledger_position, h.seller, h.buyer,
            (SELECT jsonb_agg(jsonb_build_array(r.line, r.is_adjustment, r.kind, r.item, r.meter, r.dimensions, r.service_start,
                        r.service_end, r.price_book, r.price_book_version, r.model, r.component, r.tier, r.unit_price, r.quantity,
                        r.amount, r.invoice_amount, r.line_items, r.corrected_invoice, r.corrected_line, r.tax_category)
                    ORDER BY r.line) FROM weir.invoice_rows AS r WHERE r.invoice = h.invoice),
            (SELECT jsonb_agg(jsonb_build_array(g.contract, g.period_start, g.currency, g.after_item, g.through_item, g.replaces)
                        || CASE WHEN g.advance_at IS NULL THEN '[]' ELSE jsonb_build_array(g.advance_at) END
                    ORDER BY g.contract, g.period_start, g.currency, g.after_item)
                FROM weir.invoice_ranges AS g WHERE g.invoice = h.invoice))::text, 'UTF8')), 'hex')
    FROM weir.invoice_heads AS h WHERE h.invoice = of_invoice);
END
$$;

-- 2. What is on no invoice yet -------------------------------------------------------------------------------------------------

-- What is charged in advance is a range by itself, so those of all else are cut there. Of a period that was taken away nothing is in
-- advance any more: what was charged, and what takes it back, stay together.
DROP FUNCTION weir.uninvoiced(text);
CREATE FUNCTION weir.uninvoiced(of_customer text)
RETURNS TABLE (contract text, period_start timestamptz, period_end timestamptz, currency text, after_item bigint, through_item bigint,
               replaces bigint, advance_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH known AS MATERIALIZED (
        SELECT p.contract, p.period_start, p.period_end, false AS is_past FROM weir.billing_periods AS p WHERE p.customer = of_customer
        UNION ALL
        SELECT p.contract, p.period_start, p.period_end, true FROM weir.past_periods AS p
            WHERE p.customer = of_customer AND NOT EXISTS (SELECT FROM weir.billing_periods AS b WHERE b.customer = p.customer
                AND b.contract = p.contract AND b.period_start = p.period_start)
    ), advance AS MATERIALIZED (
        SELECT k.contract, k.period_start, k.period_end, i.currency, i.line_item_id, CASE WHEN NOT k.is_past THEN i.advance_at END AS advance_at
        FROM known AS k CROSS JOIN LATERAL (
            SELECT i.currency, i.line_item_id, i.advance_at FROM weir.line_items AS i
            WHERE i.customer = of_customer AND i.period_start = k.period_start AND i.contract = k.contract AND i.advance_at IS NOT NULL) AS i
    ), cuts AS (
        SELECT a.contract, a.period_start, array_agg(a.line_item_id ORDER BY a.line_item_id) AS items FROM advance AS a GROUP BY 1, 2
    ), covered AS (
        SELECT r.contract, r.period_start, r.currency, max(r.through_item) AS through
            FROM weir.invoice_ranges AS r WHERE r.customer = of_customer AND r.replaces IS NULL AND r.advance_at IS NULL GROUP BY 1, 2, 3
    ), least_covered AS (
        SELECT c.contract, c.period_start, min(c.through) AS through FROM covered AS c GROUP BY 1, 2
    )
    SELECT k.contract, k.period_start, k.period_end, l.currency, greatest(c.through, u.items[l.place], 0), l.newest, NULL::bigint,
           NULL::timestamptz
        FROM known AS k LEFT JOIN least_covered AS m USING (contract, period_start) LEFT JOIN cuts AS u USING (contract, period_start)
        CROSS JOIN LATERAL (
            SELECT i.currency, width_bucket(i.line_item_id, coalesce(u.items, '{}')) AS place, max(i.line_item_id) AS newest
            FROM weir.line_items AS i
            WHERE i.customer = of_customer AND i.period_start = k.period_start AND i.line_item_id > coalesce(m.through, 0)
                AND i.contract = k.contract AND i.advance_at IS NULL
            GROUP BY 1, 2) AS l
        LEFT JOIN covered AS c ON c.contract = k.contract AND c.period_start = k.period_start AND c.currency = l.currency
        WHERE l.newest > coalesce(c.through, 0)
    UNION ALL
    SELECT a.contract, a.period_start, a.period_end, a.currency, a.line_item_id - 1, a.line_item_id, NULL, a.advance_at
        FROM advance AS a
        WHERE NOT EXISTS (SELECT FROM weir.invoice_ranges AS r WHERE r.customer = of_customer AND r.contract = a.contract
            AND r.period_start = a.period_start AND r.currency = a.currency AND r.after_item = a.line_item_id - 1 AND r.replaces IS NULL)
    UNION ALL
    SELECT r.contract, r.period_start, r.period_end, r.currency, r.after_item, r.through_item, r.invoice,
           CASE WHEN EXISTS (SELECT FROM weir.billing_periods AS b WHERE b.customer = r.customer AND b.contract = r.contract
                             AND b.period_start = r.period_start) THEN r.advance_at END
        FROM weir.invoice_ranges AS r JOIN weir.invoice_voids AS v ON v.invoice = r.invoice
        WHERE r.customer = of_customer
            AND NOT EXISTS (SELECT FROM weir.invoice_ranges AS n WHERE n.replaces = r.invoice AND n.customer = r.customer
                AND n.contract = r.contract AND n.period_start = r.period_start AND n.currency = r.currency
                AND n.after_item = r.after_item);
END
$$;
REVOKE ALL ON FUNCTION weir.uninvoiced(text) FROM PUBLIC;
COMMENT ON FUNCTION weir.uninvoiced(text) IS 'A customer''s line items that stand on no invoice, or on a void one, by contract, billing period and currency: those above after_item and not above through_item; replaces is the void invoice, advance_at when they were charged in advance.';

-- 3. The plan, and invoices ----------------------------------------------------------------------------------------------------

ALTER TYPE weir.closing_step ADD ATTRIBUTE advance_at timestamptz;

-- As in 0016. What is charged in advance goes to the period that ends just then, as soon as that is closed; where that has its invoice
-- already, or there is none, it has one of its own.
CREATE OR REPLACE FUNCTION weir.closing_plan(of_customer text, through_day date, through_at timestamptz) RETURNS SETOF weir.closing_step
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH free AS MATERIALIZED (
        SELECT u.* FROM weir.uninvoiced(of_customer) AS u
    ), live AS MATERIALIZED (
        SELECT h.contract, h.period_start, h.currency FROM weir.invoice_heads AS h
        WHERE h.customer = of_customer AND h.kind = 'period'
            AND NOT EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice)
    ), ends AS MATERIALIZED (
        SELECT c.contract, weir.closing_end(c.contract, through_day, through_at) AS through
        FROM (SELECT DISTINCT p.contract FROM weir.billing_periods AS p WHERE p.customer = of_customer
              UNION SELECT f.contract FROM free AS f) AS c
    ), periods AS MATERIALIZED (
        SELECT p.contract, p.period_start, p.period_end, p.is_invoiced, p.has_ended,
               CASE WHEN p.has_ended AND (NOT p.is_invoiced OR EXISTS (SELECT FROM free AS f WHERE f.contract = p.contract))
                    THEN p.why END AS why
        FROM (SELECT b.contract, b.period_start, b.period_end, b.period_end <= e.through AS has_ended, b.why,
                     EXISTS (SELECT FROM live AS l WHERE l.contract = b.contract AND l.period_start = b.period_start) AS is_invoiced
              FROM weir.period_obstacles AS b JOIN ends AS e USING (contract) WHERE b.customer = of_customer) AS p
    ), ready AS MATERIALIZED (
        SELECT p.contract, p.period_start, p.period_end FROM periods AS p
        WHERE p.has_ended AND p.why IS NULL
            AND NOT EXISTS (SELECT FROM periods AS b WHERE b.contract = p.contract AND b.period_start < p.period_start
                AND b.has_ended AND b.why IS NOT NULL AND NOT b.is_invoiced)
    ), aimed AS MATERIALIZED (
        SELECT f.*, t.period_start AS target_start, t.period_end AS target_end
        FROM free AS f LEFT JOIN LATERAL (
            SELECT r.period_start, r.period_end FROM ready AS r
            WHERE r.contract = f.contract
                AND CASE WHEN f.advance_at IS NULL THEN r.period_start >= f.period_start ELSE r.period_end = f.advance_at END
                AND NOT EXISTS (SELECT FROM live AS l WHERE l.contract = r.contract AND l.period_start = r.period_start
                    AND l.currency = f.currency)
            ORDER BY r.period_start LIMIT 1) AS t ON true
    ), early AS ( -- the period that ends just then has its invoice, or there is none
        SELECT a.* FROM aimed AS a JOIN ends AS e USING (contract)
        WHERE a.target_start IS NULL AND a.advance_at <= e.through
            AND NOT EXISTS (SELECT FROM weir.billing_periods AS p WHERE p.customer = of_customer AND p.contract = a.contract
                AND p.period_end = a.advance_at
                AND NOT EXISTS (SELECT FROM live AS l WHERE l.contract = p.contract AND l.period_start = p.period_start
                    AND l.currency = a.currency))
    ), left_over AS (
        SELECT a.* FROM aimed AS a JOIN ends AS e USING (contract)
        WHERE a.target_start IS NULL AND a.advance_at IS NULL AND a.period_end + (a.period_end - a.period_start) <= e.through
            AND NOT EXISTS (SELECT FROM weir.billing_periods AS p WHERE p.customer = of_customer AND p.contract = a.contract
                AND p.period_start >= a.period_start
                AND NOT EXISTS (SELECT FROM live AS l WHERE l.contract = p.contract AND l.period_start = p.period_start
                    AND l.currency = a.currency))
            AND NOT EXISTS (SELECT FROM periods AS p WHERE p.contract = a.contract AND p.period_start = a.period_start
                AND p.why IS NOT NULL)
    )
    SELECT a.contract, 'period', a.target_start, a.target_end, a.currency, a.period_start, a.period_end, a.after_item, a.through_item,
           a.replaces, NULL::text, a.advance_at
        FROM aimed AS a WHERE a.target_start IS NOT NULL
    UNION ALL
    SELECT a.contract, 'advance', a.advance_at, a.period_end, a.currency, a.period_start, a.period_end, a.after_item, a.through_item,
           a.replaces, NULL, a.advance_at
        FROM early AS a
    UNION ALL
    SELECT o.contract, 'correction', max(o.period_start) OVER same, max(o.period_end) OVER same, o.currency, o.period_start,
           o.period_end, o.after_item, o.through_item, o.replaces, NULL, NULL
        FROM left_over AS o WINDOW same AS (PARTITION BY o.contract, o.currency)
    UNION ALL
    SELECT p.contract, NULL, p.period_start, p.period_end, NULL, NULL, NULL, NULL, NULL, NULL, p.why, NULL
        FROM periods AS p WHERE p.has_ended AND p.why IS NOT NULL AND NOT p.is_invoiced
$$;

-- As in 0041. What was charged in advance for the period after it is no adjustment; a rerating of it is one, also where the period's own
-- invoice has it. An adjustment names the line where that period's item stands, be it on the invoice before it.
CREATE OR REPLACE FUNCTION weir.make_invoice_rows(head weir.invoice_heads, tax_categories jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    WITH places AS MATERIALIZED ( -- invoices on which a period's lines are not adjustments: its own, and those in advance of it
        SELECT h.invoice, o.period_start AS service_start, h.kind = 'period' AND h.period_start = o.period_start AS is_own,
               EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice) AS is_void
        FROM (SELECT DISTINCT r.period_start, r.period_end FROM weir.invoice_ranges AS r
              WHERE r.invoice = head.invoice AND r.customer = head.customer AND r.advance_at IS NULL) AS o
        JOIN weir.invoice_heads AS h ON h.customer = head.customer AND h.contract = head.contract AND h.currency = head.currency
            AND (h.kind = 'period' AND (h.period_start = o.period_start OR h.period_end = o.period_start)
                 OR h.kind = 'advance' AND h.period_start >= o.period_start AND h.period_start < o.period_end)
    ), grouped AS (
        SELECT r.period_start AS service_start, r.period_end AS service_end,
               head.kind = 'correction' OR head.kind = 'period' AND (r.period_start < head.period_start
                   OR i.rerating IS NOT NULL AND i.meter IS NULL AND EXISTS (SELECT FROM places AS p JOIN weir.invoice_rows AS o USING (invoice)
                       WHERE NOT p.is_void AND NOT p.is_own AND p.service_start = r.period_start AND o.service_start = r.period_start
                           AND NOT o.is_adjustment AND o.kind = 'fee' AND o.item = i.item)) AS is_adjustment,
               weir.reversed_kind(i.kind, i.meter, i.component) AS kind, i.item, i.meter, i.price_book, i.price_book_version, i.model,
               i.component, i.tier, i.unit_price,
               CASE WHEN min(i.dimensions::text) = max(i.dimensions::text) THEN min(i.dimensions::text)::jsonb ELSE '{}' END AS dimensions,
               sum(i.quantity) AS quantity, sum(i.amount) AS amount, count(*) AS line_items
        FROM weir.invoice_ranges AS r JOIN weir.line_items AS i ON i.customer = r.customer AND i.period_start = r.period_start
            AND i.line_item_id > r.after_item AND i.line_item_id <= r.through_item
            AND i.contract = r.contract AND i.currency = r.currency
        WHERE r.invoice = head.invoice AND r.customer = head.customer
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
        HAVING sum(i.quantity) <> 0 OR sum(i.amount) <> 0
    ), numbered AS (
        SELECT g.*, weir.round_invoice(g.amount, b.currency_places, b.rounding) AS invoice_amount,
               row_number() OVER (ORDER BY g.is_adjustment, g.service_start,
                   array_position(ARRAY['fee', 'usage', 'overage', 'true_up', 'adjustment', 'drawdown'], g.kind), g.item COLLATE "C",
                   g.price_book COLLATE "C", g.price_book_version,
                   coalesce(array_position(ARRAY['discount', 'maximum', 'minimum', 'invoice_discount'], g.component), 0),
                   g.tier, g.component COLLATE "C", g.unit_price, g.model COLLATE "C",
                   g.meter COLLATE "C")::integer AS line
        FROM grouped AS g JOIN weir.price_books AS b USING (price_book)
    )
    INSERT INTO weir.invoice_rows (invoice, line, is_adjustment, kind, item, meter, dimensions, service_start, service_end, price_book,
        price_book_version, model, component, tier, unit_price, quantity, amount, invoice_amount, line_items, corrected_invoice,
        corrected_line, tax_category)
    SELECT head.invoice, n.line, n.is_adjustment, n.kind, n.item, n.meter, n.dimensions, n.service_start, n.service_end, n.price_book,
           n.price_book_version, n.model, n.component, n.tier, n.unit_price, n.quantity, n.amount, n.invoice_amount, n.line_items,
           coalesce(c.invoice, w.invoice), c.line,
           coalesce(tax_categories ->> n.item, tax_categories ->> '')
    FROM numbered AS n LEFT JOIN LATERAL (
        SELECT p.invoice FROM places AS p WHERE n.is_adjustment AND p.is_own AND p.service_start = n.service_start
        ORDER BY p.is_void, p.invoice DESC LIMIT 1) AS w ON true
    LEFT JOIN LATERAL (
        SELECT o.invoice, o.line FROM places AS p JOIN weir.invoice_rows AS o USING (invoice)
        WHERE n.is_adjustment AND p.service_start = n.service_start AND (NOT p.is_void OR p.invoice = w.invoice)
            AND o.service_start = n.service_start AND NOT o.is_adjustment AND o.kind = n.kind AND o.item = n.item
        ORDER BY (o.price_book = n.price_book AND o.price_book_version IS NOT DISTINCT FROM n.price_book_version
                  AND o.component = n.component AND o.tier IS NOT DISTINCT FROM n.tier
                  AND o.unit_price IS NOT DISTINCT FROM n.unit_price) DESC,
                 (o.component IN ('discount', 'maximum', 'minimum', 'invoice_discount')
                  AND o.component <> n.component), p.invoice = w.invoice DESC NULLS LAST, o.invoice DESC, o.line LIMIT 1) AS c ON true;
END
$$;

-- As in 0016, with when line items were charged in advance.
CREATE OR REPLACE FUNCTION weir.make_invoice(head weir.invoice_heads, steps weir.closing_step[], tax_categories jsonb) RETURNS weir.invoice_heads
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rounding text;
BEGIN
    head.invoice := nextval('weir.invoice_ids');
    head.made_at := now();
    -- The newest void one of the same period that has no other in its place; in advance, of the same charges.
    IF head.kind = 'period' THEN
        SELECT max(h.invoice) INTO head.replaces FROM weir.invoice_heads AS h JOIN weir.invoice_voids AS v ON v.invoice = h.invoice
            WHERE h.customer = head.customer AND h.contract = head.contract AND h.period_start = head.period_start
                AND h.currency = head.currency AND h.kind = 'period';
    ELSIF head.kind = 'advance' THEN
        SELECT max(s.replaces) INTO head.replaces FROM unnest(steps) AS s
            WHERE s.after_item IS NOT NULL AND s.contract = head.contract AND s.target_kind = head.kind
                AND s.target_start = head.period_start AND s.target_end = head.period_end AND s.currency = head.currency;
    END IF;
    INSERT INTO weir.invoice_ranges (invoice, customer, contract, period_start, period_end, currency, after_item, through_item, replaces,
                                     advance_at)
        SELECT head.invoice, head.customer, s.contract, s.period_start, s.period_end, s.currency, s.after_item, s.through_item, s.replaces,
               s.advance_at
        FROM unnest(steps) AS s
        WHERE s.after_item IS NOT NULL AND s.contract = head.contract AND s.target_kind = head.kind
            AND s.target_start = head.period_start AND s.target_end = head.period_end AND s.currency = head.currency;
    PERFORM weir.make_invoice_rows(head, tax_categories);
    SELECT max(g.through_item) INTO head.ledger_position FROM weir.invoice_ranges AS g WHERE g.invoice = head.invoice;
    SELECT max(b.currency_places) INTO head.currency_places FROM weir.price_books AS b WHERE b.currency = head.currency;
    SELECT coalesce(sum(r.amount), 0), CASE WHEN bool_and(b.rounding = 'half_up') THEN 'half_up' ELSE 'half_even' END
        INTO head.amount, rounding
        FROM weir.invoice_rows AS r JOIN weir.price_books AS b USING (price_book) WHERE r.invoice = head.invoice;
    head.total := weir.round_invoice(head.amount, head.currency_places, rounding);
    INSERT INTO weir.invoice_rows (invoice, line, is_adjustment, kind, item, dimensions, service_start, service_end, quantity, amount,
                                   invoice_amount, line_items)
        SELECT head.invoice, max(r.line) + 1, false, 'rounding', '', '{}', head.period_start, head.period_end, 0, 0,
               head.total - sum(r.invoice_amount), 0
        FROM weir.invoice_rows AS r WHERE r.invoice = head.invoice HAVING sum(r.invoice_amount) <> head.total;
    INSERT INTO weir.invoice_heads SELECT head.*;
    RETURN head;
END
$$;

-- As in 0016; also where something was charged in advance since.
CREATE OR REPLACE FUNCTION weir.drop_old_drafts(of_customer text, through_day date, through_at timestamptz, by_whom text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO weir.invoice_voids (invoice, voided_by, reason)
    SELECT h.invoice, by_whom, 'line items came since: a newer draft takes its place'
    FROM weir.invoice_heads AS h LEFT JOIN weir.period_obstacles AS p USING (customer, contract, period_start)
    WHERE h.customer = of_customer AND NOT EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice)
        AND NOT EXISTS (SELECT FROM weir.invoice_numbers AS n WHERE n.invoice = h.invoice)
        AND weir.invoice_instant(h.kind, h.period_start, h.period_end) <= weir.closing_end(h.contract, through_day, through_at)
        AND (p.why IS NULL OR h.kind = 'advance')
        AND EXISTS (SELECT FROM weir.uninvoiced(of_customer) AS u WHERE u.contract = h.contract AND u.currency = h.currency
            AND CASE WHEN u.advance_at IS NOT NULL THEN u.advance_at = weir.invoice_instant(h.kind, h.period_start, h.period_end) AND h.kind <> 'correction'
                     ELSE u.period_start <= h.period_start AND h.kind <> 'advance' END)
$$;

-- As in 0016, in the order of the times that invoices are of; what is charged in advance waits for nothing in its period.
CREATE OR REPLACE FUNCTION weir.close_customer(of_customer text, through_day date, through_at timestamptz, is_draft boolean, of_series text,
                                    by_whom text, of_closing bigint, seller jsonb, buyer jsonb, tax_categories jsonb)
RETURNS TABLE (invoice bigint, contract text, period_start timestamptz, period_end timestamptz, currency text, total numeric,
               was_made boolean, number bigint, why text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    steps weir.closing_step[];
    head weir.invoice_heads;
    made bigint[] := '{}';
BEGIN
    PERFORM FROM weir.customers AS c WHERE c.customer = of_customer FOR NO KEY UPDATE;
    PERFORM weir.drop_old_drafts(of_customer, through_day, through_at, by_whom);
    steps := array(SELECT s FROM weir.closing_plan(of_customer, through_day, through_at) AS s);
    FOR head IN
        SELECT n.* FROM (SELECT DISTINCT NULL::bigint, of_customer, s.contract, s.target_kind, s.target_start, s.target_end, s.currency, NULL::smallint,
            NULL::numeric, NULL::numeric, NULL::bigint, NULL::bigint, of_closing, NULL::timestamptz, by_whom, seller, buyer
            FROM unnest(steps) AS s WHERE s.after_item IS NOT NULL) AS n (invoice, customer, contract, kind, period_start, period_end, currency)
        ORDER BY weir.invoice_instant(n.kind, n.period_start, n.period_end), n.contract,
            array_position(ARRAY['advance', 'period', 'correction'], n.kind), n.currency, n.period_start
    LOOP
        head := weir.make_invoice(head, steps, tax_categories);
        made := made || head.invoice;
    END LOOP;
    FOR invoice, contract, period_start, period_end, currency, total, was_made IN
        SELECT h.invoice, h.contract, h.period_start, h.period_end, h.currency, h.total, h.invoice = ANY (made)
        FROM weir.invoice_heads AS h
        WHERE h.customer = of_customer AND weir.invoice_instant(h.kind, h.period_start, h.period_end) <= weir.closing_end(h.contract, through_day, through_at)
            AND NOT EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice)
            AND NOT EXISTS (SELECT FROM weir.invoice_numbers AS n WHERE n.invoice = h.invoice)
            AND (NOT is_draft OR h.invoice = ANY (made))
            AND (h.kind = 'advance' OR NOT EXISTS (SELECT FROM weir.period_obstacles AS p WHERE p.customer = h.customer AND p.contract = h.contract
                AND p.period_start = h.period_start AND p.why IS NOT NULL))
        ORDER BY weir.invoice_instant(h.kind, h.period_start, h.period_end), h.contract, h.invoice
    LOOP
        number := CASE WHEN NOT is_draft THEN weir.issue_number(of_series, 'invoice', invoice, by_whom) END;
        RETURN NEXT;
    END LOOP;
    RETURN QUERY SELECT NULL::bigint, s.contract, s.target_start, s.target_end, NULL, NULL::numeric, false, NULL::bigint, s.why
        FROM unnest(steps) AS s WHERE s.after_item IS NULL ORDER BY s.target_start, s.contract;
END
$$;

-- As in 0038: what is charged in advance rests on no usage.
CREATE OR REPLACE FUNCTION weir.completeness(head weir.invoice_heads) RETURNS json
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN (
    WITH periods AS (
        SELECT DISTINCT r.period_start, r.period_end FROM weir.invoice_ranges AS r
        WHERE r.invoice = head.invoice AND r.customer = head.customer AND r.advance_at IS NULL
    ), counted AS (
        SELECT p.period_start, p.period_end, w.meter, count(*) AS windows, sum(w.events) AS events, sum(w.retracted) AS retracted,
               coalesce(sum(w.events) FILTER (WHERE w.unpriced IS NOT NULL), 0) AS unpriced
        FROM periods AS p JOIN weir.rated_windows AS w ON w.customer = head.customer AND w.window_start >= p.period_start
            AND w.window_start < p.period_end AND (w.contract = head.contract OR w.contract IS NULL)
        GROUP BY 1, 2, 3
    )
    SELECT json_build_object(
        'lanes', coalesce((SELECT json_agg(json_build_object('lane', l.lane, 'offset', l.rated_offset, 'through', l.rated_through,
            'read', l.events_read, 'counted', l.events_counted, 'duplicate', l.events_duplicate, 'unmatched', l.events_unmatched,
            'retracted', l.events_retracted, 'quarantined', l.events_quarantined,
            'quarantined_of_nobody', coalesce(t.quarantined, 0)) ORDER BY l.lane)
            FROM weir.lanes AS l LEFT JOIN weir.lane_tallies AS t ON t.lane = l.lane AND t.customer = ''), '[]'),
        'usage', coalesce((SELECT json_agg(json_build_object('service_start', c.period_start, 'service_end', c.period_end,
            'meter', c.meter, 'windows', c.windows, 'events', c.events, 'retracted', c.retracted, 'unpriced', c.unpriced)
            ORDER BY c.period_start, c.meter) FROM counted AS c), '[]'),
        'uncounted', weir.uncounted(head),
        'released_gaps', coalesce((SELECT json_agg(json_build_object('gap', g.gap, 'lane', g.lane, 'time_from', g.time_from,
            'time_to', g.time_to, 'reason', d.reason) ORDER BY g.gap)
            FROM weir.lane_gaps AS g JOIN weir.gap_releases AS d USING (gap)
            WHERE g.is_loss AND EXISTS (SELECT FROM periods AS p WHERE g.time_from < p.period_end AND g.time_to > p.period_start)), '[]')));
END
$$;

-- 4. Revenue -------------------------------------------------------------------------------------------------------------------

-- As in 0021; an invoice in advance counts in the month of its time.
CREATE OR REPLACE FUNCTION weir.post_invoice() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO weir.invoice_postings (customer, contract, currency, month, invoice, document, amount, rounding)
    SELECT h.customer, h.contract, h.currency,
           greatest(date_trunc('month', CASE h.kind WHEN 'advance' THEN h.period_start ELSE h.period_end - interval '1 microsecond' END AT TIME ZONE coalesce(
                        (SELECT f.timezone FROM weir.revenue_contracts AS f WHERE f.contract = h.contract),
                        (SELECT c.timezone FROM weir.contracts AS c WHERE c.contract = h.contract), 'UTC'))::date,
                    (SELECT (max(m.month) + interval '1 month')::date FROM weir.closed_months AS m
                     WHERE m.customer = h.customer AND m.contract = h.contract),
                    (SELECT p.month FROM weir.invoice_postings AS p WHERE p.invoice = h.invoice AND p.document = 'invoice')),
           NEW.invoice, NEW.document, s.sign * h.amount, s.sign * (h.total - h.amount)
    FROM weir.invoice_heads AS h, (SELECT CASE NEW.document WHEN 'invoice' THEN 1 ELSE -1 END AS sign) AS s
    WHERE h.invoice = NEW.invoice;
    RETURN NULL;
END
$$;

-- As in 0036; all fees may be invoiced before they are earned, those of one day, too.
CREATE OR REPLACE VIEW weir.open_revenue AS
SELECT c.customer, o.contract, o.currency, o.month, o.invoiced, o.rounding, o.recognised, o.deferred, o.unbilled
FROM weir.customers AS c CROSS JOIN LATERAL (
    WITH spans AS MATERIALIZED (
        SELECT s.* FROM weir.revenue_spans AS s WHERE s.customer = c.customer
    ), frontiers AS (
        SELECT DISTINCT s.contract, s.closed_month, s.open_month FROM spans AS s
    ), usage AS MATERIALIZED ( -- all of a month's usage is earned on its days: added up before anything else is done with it
        SELECT s.contract, s.period_start, s.timezone, s.open_month, u.currency, u.window_start, u.period_end, u.is_new, u.discount, u.amount
        FROM spans AS s CROSS JOIN LATERAL (
            SELECT i.currency, i.window_start, i.period_end, i.line_item_id > s.through_item AS is_new,
                   CASE i.component WHEN 'invoice_discount' THEN i.line_item_id END AS discount, sum(i.amount) AS amount
            FROM weir.line_items AS i
            WHERE i.customer = c.customer AND i.period_start = s.period_start AND i.contract = s.contract AND i.meter IS NOT NULL
                AND i.line_item_id > CASE WHEN s.is_past THEN s.through_item ELSE 0 END
            GROUP BY 1, 2, 3, 4, 5 OFFSET 0) AS u
    ), items AS MATERIALIZED ( -- OFFSET 0: period by period, never all of a customer's partitions
        SELECT r.line_item_id, r.contract, r.currency, r.period_start, r.amount, r.basis, r.first_day, r.end_day,
               s.open_month, r.line_item_id > s.through_item AS is_new
        FROM spans AS s CROSS JOIN LATERAL (
            SELECT w.* FROM weir.line_item_services AS w
            WHERE w.customer = c.customer AND w.period_start = s.period_start AND w.contract = s.contract AND w.meter IS NULL
                AND w.line_item_id > CASE WHEN s.is_past THEN s.through_item ELSE 0 END OFFSET 0) AS r
        UNION ALL
        SELECT r.line_item_id, r.contract, r.currency, r.period_start, r.amount, r.basis, r.first_day, r.end_day, s.open_month, false
        FROM spans AS s CROSS JOIN LATERAL (
            SELECT w.* FROM weir.line_item_services AS w
            WHERE w.customer = c.customer AND w.period_start = s.period_start AND w.contract = s.contract
                AND w.line_item_id <= s.through_item AND w.meter IS NULL AND w.end_day > s.open_month OFFSET 0) AS r
        WHERE s.is_past
        UNION ALL
        SELECT u.discount, u.contract, u.currency, u.period_start, u.amount, CASE WHEN u.discount IS NULL THEN 'delivery' ELSE 'rateable' END,
               d.first_day, CASE WHEN u.discount IS NULL THEN d.first_day + 1
                                 ELSE greatest((u.period_end AT TIME ZONE u.timezone)::date, d.first_day + 1) END, u.open_month, u.is_new
        FROM usage AS u CROSS JOIN LATERAL (SELECT (u.window_start AT TIME ZONE u.timezone)::date AS first_day OFFSET 0) AS d
    ), stretches AS MATERIALIZED (
        SELECT i.*, greatest(date_trunc('month', i.first_day::timestamp)::date, i.open_month) AS from_month,
               greatest(date_trunc('month', (i.end_day - 1)::timestamp)::date, i.open_month) AS to_month
        FROM items AS i
        WHERE i.basis IN ('rateable', 'at_once') AND (i.is_new OR i.open_month IS NULL OR i.end_day > i.open_month)
    ), prepaid AS MATERIALIZED (
        SELECT p.* FROM weir.open_prepaid AS p WHERE p.customer = c.customer
    ), standing AS MATERIALIZED ( -- what is deferred of prepaid amounts from a month on
        SELECT p.contract, p.currency, p.grant_key, p.month, p.deferred FROM prepaid AS p
        UNION ALL
        SELECT l.contract, l.currency, l.grant_key, f.closed_month, l.deferred FROM frontiers AS f CROSS JOIN LATERAL (
            SELECT DISTINCT ON (p.grant_key, p.currency) p.* FROM weir.closed_prepaid AS p
            WHERE p.customer = c.customer AND p.contract = f.contract ORDER BY p.grant_key, p.currency, p.month DESC) AS l
    ), moves AS (
        SELECT i.contract, i.currency, greatest(date_trunc('month', i.first_day::timestamp)::date, i.open_month) AS month,
               0 AS invoiced, 0 AS rounding, i.amount AS recognised, 0 AS deferred
        FROM items AS i
        WHERE i.basis NOT IN ('rateable', 'at_once', 'drawdown')
            AND (i.is_new OR i.open_month IS NULL OR i.first_day >= i.open_month)
        UNION ALL
        SELECT p.contract, p.currency, p.month, 0, 0, p.by_drawdown + p.by_breakage, 0 FROM prepaid AS p
            WHERE p.by_drawdown <> 0 OR p.by_breakage <> 0
        UNION ALL
        SELECT s.contract, s.currency, m.month, 0, 0,
               weir.earned(s.amount, (m.month + interval '1 month')::date - s.first_day, s.end_day - s.first_day)
               - CASE WHEN s.is_new AND m.month = s.from_month THEN 0
                      ELSE weir.earned(s.amount, m.month - s.first_day, s.end_day - s.first_day) END, 0
        FROM stretches AS s, weir.months_of(s.from_month, s.to_month) AS m (month)
        UNION ALL
        SELECT s.contract, s.currency, m.month, 0, 0, 0,
               CASE p.document WHEN 'invoice' THEN 1 ELSE -1 END
               * (s.amount - weir.earned(s.amount, (m.month + interval '1 month')::date - s.first_day, s.end_day - s.first_day))
        FROM stretches AS s
        JOIN weir.invoice_ranges AS g ON g.customer = c.customer AND g.contract = s.contract AND g.period_start = s.period_start
            AND g.currency = s.currency AND s.line_item_id > g.after_item AND s.line_item_id <= g.through_item
        JOIN weir.invoice_postings AS p ON p.invoice = g.invoice,
            weir.months_of(greatest(p.month, s.open_month), s.to_month) AS m (month)
        UNION ALL
        SELECT p.contract, p.currency, p.month, p.amount, p.rounding, 0, 0
        FROM weir.invoice_postings AS p JOIN frontiers AS f USING (contract)
        WHERE p.customer = c.customer AND (f.open_month IS NULL OR p.month >= f.open_month)
    ), months AS (
        SELECT m.contract, m.currency, m.month, sum(m.invoiced) AS invoiced, sum(m.rounding) AS rounding, sum(m.recognised) AS recognised,
               sum(m.deferred) AS deferred
        FROM moves AS m GROUP BY 1, 2, 3
    ), bounds AS (
        SELECT b.contract, b.currency, min(b.month) AS from_month, max(b.month) AS to_month, min(b.balance) AS balance
        FROM (SELECT m.contract, m.currency, m.month, NULL::numeric AS balance FROM months AS m
              UNION ALL
              SELECT r.contract, r.currency, f.open_month, r.unbilled - r.deferred
              FROM frontiers AS f JOIN weir.closed_revenue AS r
                  ON r.customer = c.customer AND r.contract = f.contract AND r.month = f.closed_month
              WHERE r.unbilled <> 0 OR r.deferred <> 0) AS b
        GROUP BY 1, 2
    ), figures AS (
        SELECT b.contract, b.currency, g.month, b.balance, coalesce(m.invoiced, 0) AS invoiced, coalesce(m.rounding, 0) AS rounding,
               coalesce(m.recognised, 0) AS recognised, coalesce(m.deferred, 0) + coalesce(d.deferred, 0) AS deferred
        FROM bounds AS b CROSS JOIN LATERAL weir.months_of(b.from_month, b.to_month) AS g (month)
        LEFT JOIN months AS m ON m.contract = b.contract AND m.currency = b.currency AND m.month = g.month
        LEFT JOIN LATERAL (
            SELECT sum(l.deferred) AS deferred
            FROM (SELECT DISTINCT ON (s.grant_key) s.deferred FROM standing AS s
                  WHERE s.contract = b.contract AND s.currency = b.currency AND s.month <= g.month
                  ORDER BY s.grant_key, s.month DESC) AS l) AS d ON true
    )
    SELECT f.contract, f.currency, f.month, f.invoiced, f.rounding, f.recognised, f.deferred,
           coalesce(f.balance, 0) + f.deferred + sum(f.recognised - f.invoiced)
               OVER (PARTITION BY f.contract, f.currency ORDER BY f.month) AS unbilled
    FROM figures AS f) AS o;
