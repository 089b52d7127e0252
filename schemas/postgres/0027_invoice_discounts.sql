-- Discounts on the whole invoice: what they take off usage has a meter, what they take off fees has none.
CREATE OR REPLACE FUNCTION weir.reversed_kind(kind text, meter text, component text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN kind <> 'reversal' THEN kind WHEN meter IS NOT NULL THEN 'usage' WHEN component = 'shortfall' THEN 'true_up'
                WHEN component = 'invoice_discount' THEN 'fee' ELSE component END
$$;
COMMENT ON COLUMN weir.line_items.component IS 'Which part of the price the amount comes from: free_units, units, flat_fee, package, fixed_fee, flat, discount, minimum, maximum, invoice_discount (of the whole invoice, off this item), fee, true_up, shortfall (of a minimum quantity), drawdown, overage.';
COMMENT ON TABLE weir.commitment_totals IS 'What minimum quantities have charged in each billing period for what was missing, and what discounts on the invoice have taken off each item.';
COMMENT ON COLUMN weir.commitment_totals.commitment IS 'Key of the commitment; of a discount on the invoice, of the item that it is taken off.';
COMMENT ON COLUMN weir.commitment_totals.amount IS 'The sum of its line items'' amounts; below zero: taken off.';
COMMENT ON VIEW weir.usage_by_day IS 'Usage and its charges by customer, day (UTC), meter and dimensions. A window of a month counts on its first day, what a discount on the invoice takes off on the first day of the billing period. For a meter that takes the highest or latest value, a day''s quantity is by how much it moved the period''s.';
