-- Fees and true-ups of a customer without reading its usage: a rerating asks for them. Few rows, so a small index.
CREATE INDEX line_items_without_meter ON weir.line_items (customer, period_start) WHERE meter IS NULL;
