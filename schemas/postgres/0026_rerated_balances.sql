-- Entries of balances that a rerating wrote name it.

-- Whoever writes entries for a rerating says so for its transaction, once: SET LOCAL weir.rerating = NUMBER.
ALTER TABLE weir.grant_entries ADD COLUMN rerating bigint CHECK (rerating >= 1);
ALTER TABLE weir.grant_entries ALTER COLUMN rerating SET DEFAULT nullif(current_setting('weir.rerating', true), '')::bigint;
COMMENT ON COLUMN weir.grant_entries.rerating IS 'The rerating that wrote it (rerating_runs); null: a rater did, or a command.';

CREATE OR REPLACE VIEW weir.balance_entries WITH (security_barrier) AS
SELECT customer, contract, grant_key, number, kind, amount, balance_before, balance_after, period_start, segment_start, meter,
       recorded_at, charged, rerating
FROM weir.grant_entries
WHERE (SELECT weir.sees_every_customer(current_user)) OR customer IN (SELECT weir.seen_customers(current_user));
COMMENT ON COLUMN weir.balance_entries.rerating IS 'The rerating that wrote it (rerating_runs); null: a rater did, or a command.';
