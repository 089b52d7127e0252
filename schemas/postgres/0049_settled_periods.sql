-- Not every settled period has an invoice to come (docs/invoices.md 1.4), as the comment of 0016 has it.
COMMENT ON COLUMN weir.closing_status.state IS 'open; settled: weir close makes its invoice, unless nothing of it is left to invoice (it has no line items, or they stand on invoices in advance); draft; final.';
