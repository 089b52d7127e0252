-- As in 0015, and by billing period: without it a customer's month could only be found by reading all of the customer's line items.
CREATE OR REPLACE VIEW weir.usage_by_day WITH (security_barrier) AS
SELECT customer, (window_start AT TIME ZONE 'UTC')::date AS day, meter, dimensions, sum(quantity) AS quantity,
       sum(amount) AS amount, currency, period_start
FROM weir.line_items
WHERE meter IS NOT NULL
    AND ((SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user)))
GROUP BY customer, day, meter, dimensions, currency, period_start;
COMMENT ON VIEW weir.usage_by_day IS 'Usage and its charges by customer, day (UTC), meter and dimensions, in each billing period. Restrict customer and period_start. A window of a month counts on its first day, what a discount on the invoice takes off on the first day of the billing period. For a meter that takes the highest or latest value, a day''s quantity is by how much it moved the period''s.';
COMMENT ON COLUMN weir.usage_by_day.period_start IS 'Start of the billing period: a day may belong to two.';
