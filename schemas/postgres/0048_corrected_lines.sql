-- Which line an adjustment names: two prices of one meter differ by their model, where a component (a discount, free units) has neither
-- tier nor unit price; and overage that there was none of before corrects its meter's usage.

-- As in 0045, but for that.
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
            AND o.service_start = n.service_start AND NOT o.is_adjustment AND o.item = n.item
            AND (o.kind = n.kind OR n.kind = 'overage' AND o.kind = 'usage')
        ORDER BY o.kind = n.kind DESC, (o.price_book = n.price_book AND o.price_book_version IS NOT DISTINCT FROM n.price_book_version
                  AND o.model IS NOT DISTINCT FROM n.model AND o.component = n.component AND o.tier IS NOT DISTINCT FROM n.tier
                  AND o.unit_price IS NOT DISTINCT FROM n.unit_price) DESC,
                 (o.component IN ('discount', 'maximum', 'minimum', 'invoice_discount')
                  AND o.component <> n.component), p.invoice = w.invoice DESC NULLS LAST, o.invoice DESC, o.line LIMIT 1) AS c ON true;
END
$$;
