-- Billing periods in which something was ordered and that lie before the first event: raters look for them (docs/credits.md 6).

CREATE INDEX billing_periods_bare ON weir.billing_periods (period_end)
    WHERE contract <> '' AND NOT is_advance_charged AND NOT is_closed;
