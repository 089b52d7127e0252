-- Invoices as documents: one JSON text each, from which the page is made; and rows in the columns of FOCUS.

-- A credit note takes the whole invoice back: its quantities and amounts, negated. Numbers are texts, so that nobody reads them as floats.
-- Days are those of the contract's time zone.
CREATE FUNCTION weir.invoice_document(of_invoice bigint, of_document text) RETURNS json
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    WITH zone AS (
        SELECT coalesce((SELECT c.timezone FROM weir.contracts AS c JOIN weir.invoice_heads AS h USING (contract)
                         WHERE h.invoice = of_invoice), 'UTC') AS name
    ), sign AS (
        SELECT CASE of_document WHEN 'credit_note' THEN -1 ELSE 1 END AS of
    )
    SELECT json_build_object(
        'document', of_document, 'invoice', i.invoice, 'invoice_number', i.invoice_number, 'credit_note_number', i.credit_note_number,
        'state', i.state, 'kind', i.kind, 'void_reason', i.void_reason,
        'replaces', (SELECT r.invoice_number FROM weir.invoices AS r WHERE r.invoice = i.replaces),
        'customer', i.customer, 'contract', i.contract, 'timezone', zone.name,
        'period_start', i.period_start, 'period_end', i.period_end,
        'period_first_day', (i.period_start AT TIME ZONE zone.name)::date,
        'period_last_day', ((i.period_end - interval '1 microsecond') AT TIME ZONE zone.name)::date,
        'made_at', i.made_at, 'issued_at', n.issued_at, 'issued_day', (n.issued_at AT TIME ZONE zone.name)::date,
        'voided_at', i.voided_at, 'currency', i.currency, 'amount', (sign.of * i.amount)::text, 'total', (sign.of * i.total)::text,
        'taxes', 'not included', 'seller', i.seller, 'buyer', i.buyer,
        'lines', coalesce((SELECT json_agg(json_build_object(
            'line', r.line, 'is_adjustment', r.is_adjustment, 'kind', r.kind, 'item', r.item, 'meter', r.meter, 'dimensions', r.dimensions,
            'service_start', r.service_start, 'service_end', r.service_end,
            'service_first_day', (r.service_start AT TIME ZONE zone.name)::date,
            'service_last_day', ((r.service_end - interval '1 microsecond') AT TIME ZONE zone.name)::date,
            'price_book', r.price_book, 'price_book_version', r.price_book_version, 'model', r.model, 'component', r.component,
            'tier', r.tier, 'unit_price', r.unit_price::text, 'quantity', (sign.of * r.quantity)::text,
            'amount', (sign.of * r.amount)::text, 'invoice_amount', (sign.of * r.invoice_amount)::text, 'line_items', r.line_items,
            'corrected_invoice', coalesce(c.invoice_number, c.invoice::text), 'corrected_line', r.corrected_line,
            'tax_category', r.tax_category) ORDER BY r.line)
            FROM weir.invoice_rows AS r LEFT JOIN weir.invoices AS c ON c.invoice = r.corrected_invoice
            WHERE r.invoice = i.invoice), '[]'))
    FROM weir.invoices AS i CROSS JOIN zone CROSS JOIN sign
    LEFT JOIN weir.invoice_numbers AS n ON n.invoice = i.invoice AND n.document = of_document
    WHERE i.invoice = of_invoice
$$;
REVOKE ALL ON FUNCTION weir.invoice_document(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION weir.invoice_document(bigint, text) IS 'An invoice, or the credit note that takes it back, with all that stands on it.';

-- FOCUS 1.2 (FinOps Open Cost and Usage Specification): what was billed, so drafts are left out, and a credit note's rows stand beside
-- those of the invoice that it takes back. BilledCost adds up to the invoices' totals; the other costs are exact.
CREATE VIEW weir.invoice_focus WITH (security_barrier) AS
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
       CASE r.kind WHEN 'usage' THEN 'Usage-Based' WHEN 'overage' THEN 'Usage-Based' WHEN 'fee' THEN 'Recurring' ELSE 'One-Time' END
           AS "ChargeFrequency",
       to_char(r.service_end AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "ChargePeriodEnd",
       to_char(r.service_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "ChargePeriodStart",
       CASE WHEN r.meter IS NOT NULL THEN (s.of * r.quantity)::text END AS "ConsumedQuantity",
       CASE WHEN r.meter IS NOT NULL THEN 'Units' END AS "ConsumedUnit",
       (s.of * r.amount)::text AS "ContractedCost", r.unit_price::text AS "ContractedUnitPrice", (s.of * r.amount)::text AS "EffectiveCost",
       weir.invoice_number(n.series, n.number) AS "InvoiceId", h.seller ->> 'name' AS "InvoiceIssuerName",
       (s.of * r.amount)::text AS "ListCost", r.unit_price::text AS "ListUnitPrice",
       CASE WHEN r.kind = 'rounding' THEN NULL WHEN r.tier >= 1 AND r.model IN ('graduated', 'volume') THEN 'Dynamic' ELSE 'Standard' END
           AS "PricingCategory",
       CASE WHEN r.kind <> 'rounding' THEN (s.of * r.quantity)::text END AS "PricingQuantity",
       CASE WHEN r.kind <> 'rounding' THEN 'Units' END AS "PricingUnit",
       h.seller ->> 'name' AS "ProviderName", h.seller ->> 'name' AS "PublisherName", 'Other' AS "ServiceCategory",
       coalesce(nullif(r.item, ''), 'Rounding') AS "ServiceName", nullif(r.item, '') AS "SkuId", r.meter AS "SkuMeter",
       r.price_book || coalesce('@' || r.price_book_version, '') || coalesce(':' || r.component, '') || coalesce(':' || nullif(r.tier, 0), '')
           AS "SkuPriceId",
       nullif(h.contract, '') AS "SubAccountId", r.dimensions::text AS "Tags",
       weir.invoice_number(cn.series, cn.number) AS "x_CorrectedInvoiceId", r.corrected_line AS "x_CorrectedInvoiceLine",
       n.document AS "x_Document", r.line AS "x_InvoiceLine", r.kind AS "x_Kind", r.tax_category AS "x_TaxCategory"
FROM weir.invoice_numbers AS n JOIN weir.invoice_heads AS h USING (invoice) JOIN weir.invoice_rows AS r USING (invoice)
CROSS JOIN LATERAL (SELECT CASE n.document WHEN 'credit_note' THEN -1 ELSE 1 END AS of) AS s
LEFT JOIN weir.invoice_numbers AS cn ON cn.document = 'invoice'
    AND cn.invoice = CASE WHEN n.document = 'credit_note' THEN n.invoice ELSE r.corrected_invoice END
WHERE (SELECT weir.sees_every_customer(current_user)) OR h.customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.invoice_focus IS 'Invoice lines and credit notes in the columns of FOCUS 1.2 (focus.finops.org); adjustments keep their ChargePeriod, are a Correction, and name in x_CorrectedInvoiceId and x_CorrectedInvoiceLine what they correct. Restrict "BillingAccountId".';

DO $$
DECLARE
    named text[];
BEGIN
    FOREACH named SLICE 1 IN ARRAY ARRAY[
        ['BilledCost', 'What the invoice says, rounded to the currency.'], ['BillingAccountId', 'The customer.'],
        ['BillingAccountName', 'The customer''s name; its key where no details were given.'], ['BillingAccountType', 'Customer.'],
        ['BillingCurrency', 'ISO 4217 code of the currency.'], ['BillingPeriodEnd', 'End of the invoice''s billing period: the first instant after it.'],
        ['BillingPeriodStart', 'Start of the invoice''s billing period.'],
        ['ChargeCategory', 'Usage, Purchase (fees, true-ups), Credit (drawdown of prepaid amounts) or Adjustment (rounding).'],
        ['ChargeClass', 'Correction: of a billing period that was invoiced before. Null: not.'], ['ChargeDescription', 'What is charged.'],
        ['ChargeFrequency', 'Usage-Based, Recurring or One-Time.'],
        ['ChargePeriodEnd', 'End of the period in which it was delivered: of a correction, the original one.'],
        ['ChargePeriodStart', 'Start of that period.'], ['ConsumedQuantity', 'Quantity of usage.'], ['ConsumedUnit', 'Units of the meter.'],
        ['ContractedCost', 'The charge, exact.'], ['ContractedUnitPrice', 'Price of one unit by the contract.'], ['EffectiveCost', 'The charge, exact.'],
        ['InvoiceId', 'Number of the invoice or credit note.'], ['InvoiceIssuerName', 'The seller.'],
        ['ListCost', 'The charge by the contract''s prices: weir keeps no other list.'], ['ListUnitPrice', 'As ContractedUnitPrice.'],
        ['PricingCategory', 'Standard, or Dynamic where the unit price hangs on the tier.'], ['PricingQuantity', 'Quantity that was priced.'],
        ['PricingUnit', 'Units.'], ['ProviderName', 'The seller.'], ['PublisherName', 'The seller.'], ['ServiceCategory', 'Other.'],
        ['ServiceName', 'Key of the meter, fee or commitment.'], ['SkuId', 'Key of the meter, fee or commitment.'], ['SkuMeter', 'Key of the meter.'],
        ['SkuPriceId', 'Price book, version, component and tier.'], ['SubAccountId', 'Key of the contract; null for the default contract.'],
        ['Tags', 'The dimensions that all of the line''s usage has in common.'], ['x_CorrectedInvoiceId', 'The invoice that it corrects or takes back.'],
        ['x_CorrectedInvoiceLine', 'The line there.'], ['x_Document', 'invoice or credit_note.'], ['x_InvoiceLine', 'Line of the invoice.'],
        ['x_Kind', 'Kind of the line.'], ['x_TaxCategory', 'Tax category of the item.']] LOOP
        EXECUTE format('COMMENT ON COLUMN weir.invoice_focus.%I IS %L', named[1], named[2]);
    END LOOP;
END
$$;
