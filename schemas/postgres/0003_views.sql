-- What finance starts from. Sums are exact; rounding happens here, once, on whole invoice lines.

-- PostgreSQL's round() takes a tie away from zero; banks and most billing systems take it to the even digit.
CREATE FUNCTION weir.round_half_even(value numeric, places integer) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN abs(value - trunc(value, places)) * 2 * 10::numeric ^ places = 1
                     AND trunc(value, places) * 10::numeric ^ places % 2 = 0
                THEN trunc(value, places)
                ELSE round(value, places) END
$$;
COMMENT ON FUNCTION weir.round_half_even(numeric, integer) IS 'Rounds to a number of decimal places; what lies exactly between two goes to the even digit: 0.125 to 0.12, 0.135 to 0.14.';

CREATE FUNCTION weir.round_invoice(value numeric, places integer, rounding text) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE rounding WHEN 'half_up' THEN round(value, places) ELSE weir.round_half_even(value, places) END
$$;
COMMENT ON FUNCTION weir.round_invoice(numeric, integer, text) IS 'Rounds an invoice amount as its price book says: half_even, or half_up (ties away from zero).';

-- period_end is the billing period's own: a contract whose end was set after its first line items has one period, not two.
CREATE VIEW weir.charges_by_customer_and_period AS
SELECT l.customer, l.contract, l.period_start, p.period_end, l.item, l.kind, l.quantity, l.amount,
       weir.round_invoice(l.amount, b.currency_places, b.rounding) AS invoice_amount, l.currency, p.is_closed
FROM (SELECT customer, contract, period_start, item, kind, currency, price_book,
             sum(quantity) AS quantity, sum(amount) AS amount
      FROM weir.line_items
      GROUP BY customer, contract, period_start, item, kind, currency, price_book) AS l
JOIN weir.billing_periods AS p USING (customer, contract, period_start)
JOIN weir.price_books AS b USING (price_book);
COMMENT ON VIEW weir.charges_by_customer_and_period IS 'Invoice lines: one row for each customer, contract, billing period, item and kind. Restrict customer and period_start to read one invoice quickly.';
COMMENT ON COLUMN weir.charges_by_customer_and_period.customer IS 'The customer.';
COMMENT ON COLUMN weir.charges_by_customer_and_period.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.charges_by_customer_and_period.period_start IS 'Start of the billing period.';
COMMENT ON COLUMN weir.charges_by_customer_and_period.period_end IS 'End of the billing period: the first instant after it.';
COMMENT ON COLUMN weir.charges_by_customer_and_period.item IS 'What is charged: key of the meter, the fee or the commitment.';
COMMENT ON COLUMN weir.charges_by_customer_and_period.kind IS 'usage, fee, true_up, drawdown, overage, adjustment or reversal.';
COMMENT ON COLUMN weir.charges_by_customer_and_period.quantity IS 'The period''s quantity.';
COMMENT ON COLUMN weir.charges_by_customer_and_period.amount IS 'The period''s charge, exact.';
COMMENT ON COLUMN weir.charges_by_customer_and_period.invoice_amount IS 'The charge rounded once to the currency''s places, as the price book says.';
COMMENT ON COLUMN weir.charges_by_customer_and_period.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.charges_by_customer_and_period.is_closed IS 'Whether the period has ended and all its fees are in; late usage can still change it.';

CREATE VIEW weir.usage_by_day AS
SELECT customer, (window_start AT TIME ZONE 'UTC')::date AS day, meter, dimensions, sum(quantity) AS quantity,
       sum(amount) AS amount, currency
FROM weir.line_items
WHERE kind = 'usage'
GROUP BY customer, day, meter, dimensions, currency;
COMMENT ON VIEW weir.usage_by_day IS 'Usage and its charges by customer, day (UTC), meter and dimensions. A window of a month counts on its first day. For a meter that takes the highest or latest value, a day''s quantity is by how much it moved the period''s.';
COMMENT ON COLUMN weir.usage_by_day.customer IS 'The customer.';
COMMENT ON COLUMN weir.usage_by_day.day IS 'Day (UTC) in which the window starts.';
COMMENT ON COLUMN weir.usage_by_day.meter IS 'Key of the meter.';
COMMENT ON COLUMN weir.usage_by_day.dimensions IS 'The meter''s group_by names with their texts.';
COMMENT ON COLUMN weir.usage_by_day.quantity IS 'Quantity of that day.';
COMMENT ON COLUMN weir.usage_by_day.amount IS 'Charge of that day, exact.';
COMMENT ON COLUMN weir.usage_by_day.currency IS 'ISO 4217 code of the currency.';

CREATE VIEW weir.unpriced_usage AS
SELECT customer, meter, dimensions, unpriced AS reason, window_start, window_end, sum(events) AS events,
       max(rated_at) AS rated_at
FROM weir.rated_windows
WHERE unpriced IS NOT NULL
GROUP BY customer, meter, dimensions, unpriced, window_start, window_end;
COMMENT ON VIEW weir.unpriced_usage IS 'Usage that nothing is charged for, because no contract or no price was found: revenue leaking. Give it a price in the catalog and apply it.';
COMMENT ON COLUMN weir.unpriced_usage.customer IS 'The customer.';
COMMENT ON COLUMN weir.unpriced_usage.meter IS 'Key of the meter.';
COMMENT ON COLUMN weir.unpriced_usage.dimensions IS 'The meter''s group_by names with their texts.';
COMMENT ON COLUMN weir.unpriced_usage.reason IS 'no_meter: the catalog has no such meter any more; no_contract: neither a contract nor a default contract; no_price: the price book has no price for it.';
COMMENT ON COLUMN weir.unpriced_usage.window_start IS 'Start of the window.';
COMMENT ON COLUMN weir.unpriced_usage.window_end IS 'End of the window: the first instant after it.';
COMMENT ON COLUMN weir.unpriced_usage.events IS 'Events in it.';
COMMENT ON COLUMN weir.unpriced_usage.rated_at IS 'When it was found to have no price.';
