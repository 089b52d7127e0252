-- Prepaid amounts and minimum quantities: what they are worked out from, what was drawn, and each balance as the chain of its
-- entries (docs/credits.md).

-- 1. The rater's totals ----------------------------------------------------------------------------------------------------

CREATE TABLE weir.segment_totals (
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    contract text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    price_book text COLLATE "C" NOT NULL CHECK (price_book <> ''),
    price_book_version integer NOT NULL CHECK (price_book_version >= 1),
    price_id uuid NOT NULL,
    segment_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    price_key text COLLATE "C" NOT NULL CHECK (price_key <> ''),
    quantity numeric(39,12) NOT NULL,
    events bigint NOT NULL CHECK (events >= 0),
    CHECK (segment_start >= period_start AND segment_start < period_end),
    PRIMARY KEY (customer, contract, period_start, price_book, price_book_version, price_id, segment_start)
);
COMMENT ON TABLE weir.segment_totals IS 'The parts of price_totals by segment, under contracts with prepaid amounts: what a segment costs follows from them.';
COMMENT ON COLUMN weir.segment_totals.customer IS 'The customer.';
COMMENT ON COLUMN weir.segment_totals.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.segment_totals.period_start IS 'Start of the billing period.';
COMMENT ON COLUMN weir.segment_totals.price_book IS 'Key of the price book.';
COMMENT ON COLUMN weir.segment_totals.price_book_version IS 'Its version.';
COMMENT ON COLUMN weir.segment_totals.price_id IS 'First 128 bits of SHA-256 of price_key.';
COMMENT ON COLUMN weir.segment_totals.segment_start IS 'Start of the segment: of the period, or where a prepaid amount starts or expires within it.';
COMMENT ON COLUMN weir.segment_totals.period_end IS 'End of the billing period.';
COMMENT ON COLUMN weir.segment_totals.price_key IS 'The price within its version.';
COMMENT ON COLUMN weir.segment_totals.quantity IS 'The segment''s part of the price''s quantity.';
COMMENT ON COLUMN weir.segment_totals.events IS 'The segment''s part of its events.';

CREATE TABLE weir.commitment_totals (
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    contract text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    commitment text COLLATE "C" NOT NULL CHECK (commitment <> ''),
    period_end timestamptz NOT NULL,
    quantity numeric(39,12) NOT NULL,
    amount numeric(39,12) NOT NULL,
    revision integer NOT NULL CHECK (revision >= 1),
    CHECK (period_start < period_end),
    PRIMARY KEY (customer, contract, period_start, commitment)
);
COMMENT ON TABLE weir.commitment_totals IS 'What minimum quantities have charged in each billing period for what was missing.';
COMMENT ON COLUMN weir.commitment_totals.customer IS 'The customer.';
COMMENT ON COLUMN weir.commitment_totals.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.commitment_totals.period_start IS 'Start of the billing period.';
COMMENT ON COLUMN weir.commitment_totals.commitment IS 'Key of the commitment.';
COMMENT ON COLUMN weir.commitment_totals.period_end IS 'End of the billing period.';
COMMENT ON COLUMN weir.commitment_totals.quantity IS 'The sum of its line items'' quantities: what is missing.';
COMMENT ON COLUMN weir.commitment_totals.amount IS 'The sum of its line items'' amounts.';
COMMENT ON COLUMN weir.commitment_totals.revision IS 'How many line items these are.';

CREATE TABLE weir.draw_totals (
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    contract text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    segment_start timestamptz NOT NULL,
    meter text COLLATE "C" NOT NULL CHECK (meter <> ''),
    grant_key text COLLATE "C" NOT NULL,
    period_end timestamptz NOT NULL,
    amount numeric(39,12) NOT NULL,
    revision integer NOT NULL CHECK (revision >= 1),
    CHECK (segment_start >= period_start AND segment_start < period_end),
    CHECK (grant_key = '' OR amount >= 0),
    PRIMARY KEY (customer, contract, period_start, segment_start, meter, grant_key)
);
COMMENT ON TABLE weir.draw_totals IS 'What is drawn from each grant for the usage of a meter in a segment, and the overage.';
COMMENT ON COLUMN weir.draw_totals.customer IS 'The customer.';
COMMENT ON COLUMN weir.draw_totals.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.draw_totals.period_start IS 'Start of the billing period.';
COMMENT ON COLUMN weir.draw_totals.segment_start IS 'Start of the segment.';
COMMENT ON COLUMN weir.draw_totals.meter IS 'Key of the meter.';
COMMENT ON COLUMN weir.draw_totals.grant_key IS 'Key of the grant; empty for the overage.';
COMMENT ON COLUMN weir.draw_totals.period_end IS 'End of the billing period.';
COMMENT ON COLUMN weir.draw_totals.amount IS 'What is drawn: the line items of kind drawdown add up to it below zero, those of kind overage to it.';
COMMENT ON COLUMN weir.draw_totals.revision IS 'How many line items these are.';

-- 2. Grants and balances ---------------------------------------------------------------------------------------------------

CREATE TABLE weir.grants (
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    contract text COLLATE "C" NOT NULL,
    grant_key text COLLATE "C" NOT NULL CHECK (grant_key <> ''),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    funding text NOT NULL CHECK (funding IN ('free', 'promotional', 'paid')),
    price numeric(39,12) NOT NULL CHECK (price >= 0),
    priority bigint NOT NULL,
    starts_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    CHECK (starts_at < expires_at),
    PRIMARY KEY (customer, contract, grant_key)
);
COMMENT ON TABLE weir.grants IS 'Prepaid amounts that usage is drawn from, from the first usage under their contract on. Append-only; what is left of each says grant_entries.';
COMMENT ON COLUMN weir.grants.customer IS 'The customer.';
COMMENT ON COLUMN weir.grants.contract IS 'Key of the contract whose usage it is for; empty for the default contract.';
COMMENT ON COLUMN weir.grants.grant_key IS 'Key of the commitment.';
COMMENT ON COLUMN weir.grants.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.grants.funding IS 'free, promotional or paid.';
COMMENT ON COLUMN weir.grants.price IS 'What it was bought for.';
COMMENT ON COLUMN weir.grants.priority IS 'The lower is drawn first.';
COMMENT ON COLUMN weir.grants.starts_at IS 'Usage of windows from here on is drawn from it.';
COMMENT ON COLUMN weir.grants.expires_at IS 'Usage of windows before this is; infinity: it does not expire.';
COMMENT ON COLUMN weir.grants.noted_at IS 'When weir first had to do with it.';

-- A balance is what its chain of entries says, by constraint: each entry goes on from the balance that the one before it left.
CREATE TABLE weir.grant_entries (
    customer text COLLATE "C" NOT NULL,
    contract text COLLATE "C" NOT NULL,
    grant_key text COLLATE "C" NOT NULL,
    number integer NOT NULL CHECK (number >= 1),
    previous integer CHECK (previous = number - 1),
    kind text NOT NULL CHECK (kind IN ('grant', 'drawdown', 'giveback')),
    amount numeric(39,12) NOT NULL CHECK (amount <> 0 AND amount <> 'NaN'),
    balance_before numeric(39,12) NOT NULL CHECK (balance_before >= 0 AND balance_before <> 'NaN'),
    balance_after numeric(39,12) NOT NULL CHECK (balance_after >= 0 AND balance_after <> 'NaN'),
    period_start timestamptz,
    segment_start timestamptz,
    meter text COLLATE "C",
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (balance_after = balance_before + amount),
    CHECK (CASE kind WHEN 'drawdown' THEN amount < 0 WHEN 'giveback' THEN amount > 0 ELSE true END),
    CHECK ((kind = 'grant') = (meter IS NULL) AND (meter IS NULL) = (period_start IS NULL) AND (meter IS NULL) = (segment_start IS NULL)),
    CHECK ((number = 1) = (previous IS NULL)),
    CHECK (number > 1 OR (kind = 'grant' AND balance_before = 0)),
    PRIMARY KEY (customer, contract, grant_key, number),
    UNIQUE (customer, contract, grant_key, number, balance_after),
    FOREIGN KEY (customer, contract, grant_key) REFERENCES weir.grants,
    FOREIGN KEY (customer, contract, grant_key, previous, balance_before)
        REFERENCES weir.grant_entries (customer, contract, grant_key, number, balance_after)
);
COMMENT ON TABLE weir.grant_entries IS 'Everything that ever changed a balance, in order. Append-only. A balance is the balance_after of a grant''s last entry, and the sum of its amounts.';
COMMENT ON COLUMN weir.grant_entries.customer IS 'The customer.';
COMMENT ON COLUMN weir.grant_entries.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.grant_entries.grant_key IS 'The grant.';
COMMENT ON COLUMN weir.grant_entries.number IS 'The entry''s place, from 1, without gaps.';
COMMENT ON COLUMN weir.grant_entries.previous IS 'The one before it; null for the first.';
COMMENT ON COLUMN weir.grant_entries.kind IS 'grant: the amount came in (or was set anew); drawdown: usage was drawn from it; giveback: less was to be drawn than thought.';
COMMENT ON COLUMN weir.grant_entries.amount IS 'What is added to the balance; below zero: taken.';
COMMENT ON COLUMN weir.grant_entries.balance_before IS 'The balance before it.';
COMMENT ON COLUMN weir.grant_entries.balance_after IS 'The balance after it.';
COMMENT ON COLUMN weir.grant_entries.period_start IS 'Billing period of the usage; null for kind grant.';
COMMENT ON COLUMN weir.grant_entries.segment_start IS 'Segment of the usage.';
COMMENT ON COLUMN weir.grant_entries.meter IS 'Meter of the usage.';
COMMENT ON COLUMN weir.grant_entries.recorded_at IS 'When it was written.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.grants
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.grant_entries
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE UPDATE, DELETE, TRUNCATE ON weir.grants, weir.grant_entries FROM PUBLIC;

-- 3. What finance reads ----------------------------------------------------------------------------------------------------

CREATE VIEW weir.grant_balances WITH (security_barrier) AS
SELECT g.customer, g.contract, g.grant_key, g.funding, g.price, g.starts_at, g.expires_at, l.balance_after AS balance, g.currency,
       l.number AS entries, l.recorded_at AS changed_at
FROM weir.grants AS g, LATERAL (SELECT e.balance_after, e.number, e.recorded_at FROM weir.grant_entries AS e
                                WHERE e.customer = g.customer AND e.contract = g.contract AND e.grant_key = g.grant_key
                                ORDER BY e.number DESC LIMIT 1) AS l
WHERE (SELECT weir.sees_every_customer(current_user)) OR g.customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.grant_balances IS 'What is left of each prepaid amount.';
COMMENT ON COLUMN weir.grant_balances.customer IS 'The customer.';
COMMENT ON COLUMN weir.grant_balances.contract IS 'Key of the contract whose usage it is for; empty for the default contract.';
COMMENT ON COLUMN weir.grant_balances.grant_key IS 'Key of the grant.';
COMMENT ON COLUMN weir.grant_balances.funding IS 'free, promotional or paid.';
COMMENT ON COLUMN weir.grant_balances.price IS 'What it was bought for.';
COMMENT ON COLUMN weir.grant_balances.starts_at IS 'Usage of windows from here on is drawn from it.';
COMMENT ON COLUMN weir.grant_balances.expires_at IS 'Usage of windows before this is.';
COMMENT ON COLUMN weir.grant_balances.balance IS 'What is left, expired or not.';
COMMENT ON COLUMN weir.grant_balances.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.grant_balances.entries IS 'How many entries its balance has.';
COMMENT ON COLUMN weir.grant_balances.changed_at IS 'When the last of them was written.';

CREATE VIEW weir.balance_entries WITH (security_barrier) AS
SELECT customer, contract, grant_key, number, kind, amount, balance_before, balance_after, period_start, segment_start, meter,
       recorded_at
FROM weir.grant_entries
WHERE (SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON VIEW weir.balance_entries IS 'Everything that changed a balance. A balance as of a time is the balance_after of the last entry with a recorded_at up to then.';
COMMENT ON COLUMN weir.balance_entries.customer IS 'The customer.';
COMMENT ON COLUMN weir.balance_entries.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.balance_entries.grant_key IS 'The grant.';
COMMENT ON COLUMN weir.balance_entries.number IS 'The entry''s place, from 1, without gaps.';
COMMENT ON COLUMN weir.balance_entries.kind IS 'grant, drawdown or giveback.';
COMMENT ON COLUMN weir.balance_entries.amount IS 'What is added to the balance; below zero: taken.';
COMMENT ON COLUMN weir.balance_entries.balance_before IS 'The balance before it.';
COMMENT ON COLUMN weir.balance_entries.balance_after IS 'The balance after it.';
COMMENT ON COLUMN weir.balance_entries.period_start IS 'Billing period of the usage; null for kind grant.';
COMMENT ON COLUMN weir.balance_entries.segment_start IS 'Segment of the usage.';
COMMENT ON COLUMN weir.balance_entries.meter IS 'Meter of the usage.';
COMMENT ON COLUMN weir.balance_entries.recorded_at IS 'When it was written.';

-- Line items of the new kinds have no meter: a component tells them apart, also where they are taken back.
CREATE OR REPLACE FUNCTION weir.reversed_kind(kind text, meter text, component text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN kind <> 'reversal' THEN kind WHEN meter IS NOT NULL THEN 'usage' WHEN component = 'shortfall' THEN 'true_up'
                ELSE component END
$$;
COMMENT ON COLUMN weir.line_items.item IS 'What is charged: key of the meter, the fee, the commitment or the grant; of an overage the meter''s.';
COMMENT ON COLUMN weir.line_items.component IS 'Which part of the price the amount comes from: free_units, units, flat_fee, package, fixed_fee, flat, minimum, maximum, fee, true_up, shortfall (of a minimum quantity), drawdown, overage.';
COMMENT ON COLUMN weir.billing_periods.true_up IS 'Charged so far to reach the contract''s minimum spend: the sum of the period''s line items with component true_up.';
