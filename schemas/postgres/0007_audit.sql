-- Who changed what finance relies on: a log in which each entry carries the hash of the one before it, so that an entry that was
-- removed or altered is found (weir audit verify; docs/audit.md).

-- 1. The log ---------------------------------------------------------------------------------------------------------------

CREATE TABLE weir.audit_log (
    entry bigint PRIMARY KEY CHECK (entry >= 1),
    at timestamptz NOT NULL,
    actor text NOT NULL,
    role text NOT NULL,
    action text NOT NULL CHECK (action <> ''),
    subject text NOT NULL,
    detail jsonb NOT NULL CHECK (jsonb_typeof(detail) = 'object'),
    previous_hash text NOT NULL CHECK (previous_hash ~ '^[0-9a-f]{64}$'),
    hash text NOT NULL UNIQUE CHECK (hash ~ '^[0-9a-f]{64}$')
);
CREATE INDEX audit_log_subject ON weir.audit_log (action, subject);
COMMENT ON TABLE weir.audit_log IS 'Who changed what the ledger rests on: migrations, catalogs, releases of gaps, repairs. Append-only, and chained by hashes: weir audit verify.';
COMMENT ON COLUMN weir.audit_log.entry IS 'Number of the entry: 1, 2, 3, ... without a gap.';
COMMENT ON COLUMN weir.audit_log.at IS 'When.';
COMMENT ON COLUMN weir.audit_log.actor IS 'user@host that ran weir; empty: it was not done by weir.';
COMMENT ON COLUMN weir.audit_log.role IS 'The PostgreSQL role that was logged in.';
COMMENT ON COLUMN weir.audit_log.action IS 'migrate, apply, release or repair.';
COMMENT ON COLUMN weir.audit_log.subject IS 'What was acted on: schema 7, catalog 12, gap 3, reconciliation 40.';
COMMENT ON COLUMN weir.audit_log.detail IS 'The row that says it in full (of a catalog: without its text, which sha256 stands for).';
COMMENT ON COLUMN weir.audit_log.previous_hash IS 'hash of the entry before; of the first one 64 zeros.';
COMMENT ON COLUMN weir.audit_log.hash IS 'SHA-256 of previous_hash and of all other columns, each as LENGTH:BYTES (docs/audit.md).';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON weir.audit_log
    FOR EACH ROW EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON weir.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE ALL ON weir.audit_log FROM PUBLIC;

-- 2. Writing it ------------------------------------------------------------------------------------------------------------

CREATE FUNCTION weir.audit_field(field text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT octet_length(convert_to(field, 'UTF8')) || ':' || field
$$;
COMMENT ON FUNCTION weir.audit_field(text) IS 'A field as LENGTH:BYTES, so that no two entries are written alike.';

-- SECURITY DEFINER: whoever may apply or release has it recorded, and may not write here otherwise. One at a time, so that the
-- numbers have no gap and the chain no fork; held until the transaction ends.
CREATE FUNCTION weir.record_audit(what text, about text, said jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    last weir.audit_log;
    next weir.audit_log;
BEGIN
    PERFORM pg_advisory_xact_lock(2003132786, hashtext('weir audit'));
    SELECT * INTO last FROM weir.audit_log ORDER BY entry DESC LIMIT 1;
    next.entry := coalesce(last.entry, 0) + 1;
    next.at := clock_timestamp();
    next.actor := coalesce(current_setting('weir.actor', true), '');
    next.role := session_user;
    next.action := what;
    next.subject := about;
    next.detail := said;
    next.previous_hash := coalesce(last.hash, repeat('0', 64));
    next.hash := encode(sha256(convert_to(next.previous_hash
        || weir.audit_field(next.entry::text)
        || weir.audit_field(to_char(next.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        || weir.audit_field(next.actor) || weir.audit_field(next.role) || weir.audit_field(next.action)
        || weir.audit_field(next.subject) || weir.audit_field(next.detail::text), 'UTF8')), 'hex');
    INSERT INTO weir.audit_log SELECT next.*;
    RETURN next.entry;
END
$$;
REVOKE ALL ON FUNCTION weir.record_audit(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION weir.record_audit(text, text, jsonb) IS 'Appends an entry to audit_log, in the transaction of what it tells. Answers its number.';

-- What each audited table's row is called in the log. By triggers and not by weir's commands, so that what is done by plain SQL is
-- recorded too.
CREATE FUNCTION weir.audit_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    CASE TG_TABLE_NAME
        WHEN 'schema_migrations' THEN
            PERFORM weir.record_audit('migrate', 'schema ' || NEW.version, to_jsonb(NEW));
        WHEN 'catalog_versions' THEN
            PERFORM weir.record_audit('apply', 'catalog ' || NEW.catalog_version, to_jsonb(NEW) - 'catalog');
        WHEN 'gap_releases' THEN
            PERFORM weir.record_audit('release', 'gap ' || NEW.gap, to_jsonb(NEW));
        WHEN 'reconciliations' THEN
            PERFORM weir.record_audit('repair', 'reconciliation ' || NEW.reconciliation_id, to_jsonb(NEW));
    END CASE;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.audit_row() IS 'Records a new row in audit_log.';

-- What was there before the log: recorded as it stands.
DO $$
DECLARE
    said jsonb;
BEGIN
    SET LOCAL timezone = 'UTC';
    FOR said IN SELECT to_jsonb(m) FROM weir.schema_migrations AS m ORDER BY m.version LOOP
        PERFORM weir.record_audit('migrate', 'schema ' || (said ->> 'version'), said);
    END LOOP;
    FOR said IN SELECT to_jsonb(c) - 'catalog' FROM weir.catalog_versions AS c ORDER BY c.catalog_version LOOP
        PERFORM weir.record_audit('apply', 'catalog ' || (said ->> 'catalog_version'), said);
    END LOOP;
    FOR said IN SELECT to_jsonb(r) FROM weir.gap_releases AS r ORDER BY r.released_at, r.gap LOOP
        PERFORM weir.record_audit('release', 'gap ' || (said ->> 'gap'), said);
    END LOOP;
    FOR said IN SELECT to_jsonb(r) FROM weir.reconciliations AS r WHERE r.repaired > 0 ORDER BY r.reconciliation_id LOOP
        PERFORM weir.record_audit('repair', 'reconciliation ' || (said ->> 'reconciliation_id'), said);
    END LOOP;
END
$$;

CREATE TRIGGER audited AFTER INSERT ON weir.schema_migrations FOR EACH ROW EXECUTE FUNCTION weir.audit_row();
CREATE TRIGGER audited AFTER INSERT ON weir.catalog_versions FOR EACH ROW EXECUTE FUNCTION weir.audit_row();
CREATE TRIGGER audited AFTER INSERT ON weir.gap_releases FOR EACH ROW EXECUTE FUNCTION weir.audit_row();
CREATE TRIGGER audited AFTER INSERT ON weir.reconciliations FOR EACH ROW WHEN (NEW.repaired > 0)
    EXECUTE FUNCTION weir.audit_row();

-- 3. Holding it against what it tells of -----------------------------------------------------------------------------------

-- The log alone shows that it was not altered; this shows that neither were the rows that it tells of.
CREATE FUNCTION weir.audit_mismatches() RETURNS TABLE (action text, subject text, mismatch text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    WITH facts AS (
        SELECT 'migrate' AS action, 'schema ' || m.version AS subject, to_jsonb(m) AS detail, true AS is_itself
            FROM weir.schema_migrations AS m
        UNION ALL
        SELECT 'apply', 'catalog ' || c.catalog_version, to_jsonb(c) - 'catalog',
               c.sha256 = encode(sha256(convert_to(c.catalog::text, 'UTF8')), 'hex')
            FROM weir.catalog_versions AS c
        UNION ALL
        SELECT 'release', 'gap ' || r.gap, to_jsonb(r), true FROM weir.gap_releases AS r
        UNION ALL
        SELECT 'repair', 'reconciliation ' || r.reconciliation_id, to_jsonb(r), true
            FROM weir.reconciliations AS r WHERE r.repaired > 0
    )
    SELECT coalesce(f.action, a.action), coalesce(f.subject, a.subject),
           CASE WHEN a.entry IS NULL THEN 'is not in the log' WHEN f.action IS NULL THEN 'is gone, and the log tells of it'
                WHEN f.is_itself THEN 'is not what the log tells' ELSE 'its text is not the one of its checksum' END
        FROM facts AS f
        FULL JOIN (SELECT * FROM weir.audit_log WHERE audit_log.action IN ('migrate', 'apply', 'release', 'repair')) AS a
            ON a.action = f.action AND a.subject = f.subject
        WHERE a.entry IS NULL OR f.action IS NULL OR NOT f.is_itself OR f.detail <> a.detail
        ORDER BY 1, 2
$$;
REVOKE ALL ON FUNCTION weir.audit_mismatches() FROM PUBLIC;
COMMENT ON FUNCTION weir.audit_mismatches() IS 'Rows that audit_log tells of and that are gone or altered, and rows that it does not tell of. None is what it should answer.';
