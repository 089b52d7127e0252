-- Rows in the columns of FOCUS keep its rules for the kinds of charge: unit price times quantity is the cost in each row, what was bought
-- prepaid costs when it is drawn, a price's key has one item. Lines of an invoice stand in the order of operations.

CREATE OR REPLACE VIEW weir.invoice_focus WITH (security_barrier) AS
SELECT (s.of * r.invoice_amount)::text AS "BilledCost", h.customer AS "BillingAccountId", coalesce(h.buyer ->> 'name', h.customer) AS "BillingAccountName",
       'Customer' AS "BillingAccountType", h.currency AS "BillingCurrency",
       to_char(h.period_end AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "BillingPeriodEnd",
       to_char(h.period_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "BillingPeriodStart",
       CASE r.kind WHEN 'usage' THEN 'Usage' WHEN 'overage' THEN 'Usage' WHEN 'fee' THEN 'Purchase' WHEN 'true_up' THEN 'Purchase'
                   WHEN 'drawdown' THEN 'Credit' ELSE 'Adjustment' END AS "ChargeCategory",
       CASE WHEN r.is_adjustment OR n.document = 'credit_note' THEN 'Correction' END AS "ChargeClass",
       CASE r.kind WHEN 'rounding' THEN 'Rounding of the total'
            ELSE concat_ws(', ', CASE WHEN n.document = 'credit_note' THEN 'Taken back' END, r.item, replace(r.component, '_', ' '),
                           'tier ' || nullif(r.tier, 0)) END AS "ChargeDescription",
       CASE WHEN r.kind IN ('usage', 'overage', 'drawdown') THEN 'Usage-Based' WHEN r.kind = 'fee' AND bought.account IS NULL
            AND NOT EXISTS (SELECT FROM weir.fee_terms AS f WHERE f.price_book = r.price_book AND f.price_book_version = r.price_book_version
                                AND f.fee = r.item AND f.per = 'contract') THEN 'Recurring' ELSE 'One-Time' END AS "ChargeFrequency",
       to_char(r.service_end AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "ChargePeriodEnd",
       to_char(r.service_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "ChargePeriodStart",
       CASE WHEN r.kind IN ('usage', 'overage') THEN (s.of * r.quantity)::text END AS "ConsumedQuantity",
       CASE WHEN r.kind IN ('usage', 'overage') THEN 'Units' END AS "ConsumedUnit",
       (s.of * r.amount)::text AS "ContractedCost", p.unit_price::text AS "ContractedUnitPrice",
       CASE WHEN bought.account IS NULL THEN s.of * r.amount WHEN r.kind = 'drawdown'
            THEN s.of * (r.amount - round(r.amount * bought.price / bought.amount, 12)) ELSE 0.000000000000 END::text AS "EffectiveCost",
       weir.invoice_number(n.series, n.number) AS "InvoiceId", h.seller ->> 'name' AS "InvoiceIssuerName",
       (s.of * r.amount)::text AS "ListCost", p.unit_price::text AS "ListUnitPrice",
       CASE WHEN r.kind <> 'rounding' THEN 'Standard' END AS "PricingCategory",
       p.quantity::text AS "PricingQuantity", CASE WHEN p.quantity IS NOT NULL THEN 'Units' END AS "PricingUnit",
       h.seller ->> 'name' AS "ProviderName", h.seller ->> 'name' AS "PublisherName", 'Other' AS "ServiceCategory",
       coalesce(nullif(r.item, ''), 'Rounding') AS "ServiceName", nullif(r.item, '') AS "SkuId", r.meter AS "SkuMeter",
       nullif(r.item, '') || ':' || r.price_book || coalesce(':' || r.component, '') || coalesce(':' || nullif(r.tier, 0), '') AS "SkuPriceId",
       nullif(h.contract, '') AS "SubAccountId", r.dimensions::text AS "Tags",
       weir.invoice_number(cn.series, cn.number) AS "x_CorrectedInvoiceId", r.corrected_line AS "x_CorrectedInvoiceLine",
       n.document AS "x_Document", r.line AS "x_InvoiceLine", r.kind AS "x_Kind", r.tax_category AS "x_TaxCategory",
       r.price_book_version AS "x_PriceBookVersion"
FROM weir.invoice_numbers AS n JOIN weir.invoice_heads AS h USING (invoice) JOIN weir.invoice_rows AS r USING (invoice)
CROSS JOIN LATERAL (SELECT CASE n.document WHEN 'credit_note' THEN -1 ELSE 1 END AS of) AS s
CROSS JOIN LATERAL (
    SELECT CASE WHEN r.kind = 'rounding' THEN NULL WHEN c.is_product OR r.amount = 0 THEN s.of * r.quantity ELSE sign(s.of * r.amount) END AS quantity,
           CASE WHEN r.kind = 'rounding' THEN NULL WHEN c.is_product THEN r.unit_price ELSE abs(r.amount) END AS unit_price
    FROM (SELECT coalesce(r.unit_price >= 0 AND abs(r.quantity * r.unit_price - r.amount) <= 0.000000000001, false) AS is_product) AS c) AS p
LEFT JOIN weir.prepaid_terms AS t ON r.kind IN ('fee', 'drawdown') AND t.customer = h.customer AND t.contract = h.contract AND t.grant_key = r.item
LEFT JOIN weir.prepaid_terms AS bought ON bought.customer = t.customer AND bought.contract = t.contract AND bought.grant_key = t.account
LEFT JOIN weir.invoice_numbers AS cn ON cn.document = 'invoice'
    AND cn.invoice = CASE WHEN n.document = 'credit_note' THEN n.invoice ELSE r.corrected_invoice END
WHERE (SELECT weir.sees_every_customer(current_user)) OR h.customer IN (SELECT weir.seen_customers(current_user));

DO $$
DECLARE
    named text[];
BEGIN
    FOREACH named SLICE 1 IN ARRAY ARRAY[
        ['ConsumedQuantity', 'Quantity of usage; null of all else.'],
        ['ContractedUnitPrice', 'Price of one unit by the contract; what is no price times a quantity (a discount, a minimum, a prorated fee) is one unit, or minus one, at its amount.'],
        ['EffectiveCost', 'The charge, exact; what was bought prepaid costs nothing then, and its share of the price when it is drawn.'],
        ['PricingCategory', 'Standard: by the rate that was agreed, tiers and volumes included.'],
        ['PricingQuantity', 'Quantity that was priced: with ContractedUnitPrice it makes ContractedCost.'],
        ['SkuPriceId', 'Item, price book, component and tier.'],
        ['x_PriceBookVersion', 'Version of the price book.']] LOOP
        EXECUTE format('COMMENT ON COLUMN weir.invoice_focus.%I IS %L', named[1], named[2]);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION weir.make_invoice_rows(head weir.invoice_heads, tax_categories jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    WITH grouped AS (
        SELECT r.period_start AS service_start, r.period_end AS service_end,
               head.kind <> 'period' OR r.period_start <> head.period_start AS is_adjustment,
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
           c.invoice,
           (SELECT o.line FROM weir.invoice_rows AS o
            WHERE o.invoice = c.invoice AND NOT o.is_adjustment AND o.kind = n.kind AND o.item = n.item
            ORDER BY (o.price_book = n.price_book AND o.price_book_version IS NOT DISTINCT FROM n.price_book_version
                      AND o.component = n.component AND o.tier IS NOT DISTINCT FROM n.tier
                      AND o.unit_price IS NOT DISTINCT FROM n.unit_price) DESC,
                     (o.component IN ('discount', 'maximum', 'minimum', 'invoice_discount')
                      AND o.component <> n.component), o.line LIMIT 1),
           coalesce(tax_categories ->> n.item, tax_categories ->> '')
    FROM numbered AS n LEFT JOIN LATERAL (
        SELECT h.invoice FROM weir.invoice_heads AS h
        WHERE n.is_adjustment AND h.customer = head.customer AND h.contract = head.contract AND h.period_start = n.service_start
            AND h.currency = head.currency AND h.kind = 'period'
        ORDER BY EXISTS (SELECT FROM weir.invoice_voids AS v WHERE v.invoice = h.invoice), h.invoice DESC LIMIT 1) AS c ON true;
END
$$;
