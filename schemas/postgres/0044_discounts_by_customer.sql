-- A discount on the invoice that usage earned is as rare as a fee: found the same way, so that the revenue schedule goes through a
-- month's usage once.
DROP INDEX weir.line_items_without_meter;
CREATE INDEX line_items_beside_usage ON weir.line_items (customer, period_start) WHERE meter IS NULL OR component = 'invoice_discount';
