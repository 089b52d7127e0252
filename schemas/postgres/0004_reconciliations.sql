-- What each `weir reconcile` found, so that it can be seen afterwards and on every rater's page of metrics.

CREATE TABLE weir.reconciliations (
    reconciliation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    topic text NOT NULL CHECK (topic <> ''),
    lanes integer NOT NULL CHECK (lanes >= 0),
    windows bigint NOT NULL CHECK (windows >= 0),
    waiting bigint NOT NULL CHECK (waiting >= 0),
    behind bigint NOT NULL CHECK (behind >= 0),
    repaired bigint NOT NULL CHECK (repaired >= 0),
    differences bigint NOT NULL CHECK (differences >= 0),
    differences_by_kind jsonb NOT NULL CHECK (jsonb_typeof(differences_by_kind) = 'object'),
    CHECK (started_at <= finished_at)
);
COMMENT ON TABLE weir.reconciliations IS 'The result of each weir reconcile: Kafka''s offsets, Redis'' windows and this ledger against each other. Append-only.';
COMMENT ON COLUMN weir.reconciliations.reconciliation_id IS 'Number of the run, ascending.';
COMMENT ON COLUMN weir.reconciliations.started_at IS 'When it began to look.';
COMMENT ON COLUMN weir.reconciliations.finished_at IS 'When it was done.';
COMMENT ON COLUMN weir.reconciliations.topic IS 'Topic of usage events that it looked at.';
COMMENT ON COLUMN weir.reconciliations.lanes IS 'Lanes (partitions) compared.';
COMMENT ON COLUMN weir.reconciliations.windows IS 'Lanes'' shares of windows that were found in Redis and compared.';
COMMENT ON COLUMN weir.reconciliations.waiting IS 'Of these, how many waited to be rated: no difference.';
COMMENT ON COLUMN weir.reconciliations.behind IS 'Offsets in Kafka that were not counted yet: no difference.';
COMMENT ON COLUMN weir.reconciliations.repaired IS 'Windows that differed and were rated by --repair.';
COMMENT ON COLUMN weir.reconciliations.differences IS 'What differed, less what was repaired. 0 is what it should be.';
COMMENT ON COLUMN weir.reconciliations.differences_by_kind IS 'The same by kind (docs/operations.md has what each means); kinds without a difference are left out.';

CREATE FUNCTION weir.refuse_rewriting() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'weir.% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
COMMENT ON FUNCTION weir.refuse_rewriting() IS 'Keeps a table append-only, for its owner and superusers too.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON weir.reconciliations
    FOR EACH ROW EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON weir.reconciliations
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE UPDATE, DELETE, TRUNCATE ON weir.reconciliations FROM PUBLIC;
