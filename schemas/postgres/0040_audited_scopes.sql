-- Whose usage finance sees is held against the audit log too, and applied catalogs are append-only as the ledger that rests on them.

-- As audit_mismatches. A customer that a role was given to see may be taken back and given again: the last entry counts.
CREATE FUNCTION weir.scope_mismatches() RETURNS TABLE (action text, subject text, mismatch text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    WITH told AS (
        SELECT DISTINCT ON (a.detail) a.detail, a.action = 'scope' AS is_given FROM weir.audit_log AS a
            WHERE a.action IN ('scope', 'unscope') ORDER BY a.detail, a.entry DESC
    )
    SELECT 'scope', 'role ' || (d.detail ->> 'role') || coalesce(', customer ' || (d.detail ->> 'customer'), ', every customer'),
           CASE WHEN d.is_there THEN 'is not in the log' ELSE 'is gone, and the log tells of it' END
        FROM (SELECT coalesce(f.detail, t.detail) AS detail, f.detail IS NOT NULL AS is_there
              FROM (SELECT to_jsonb(s) AS detail FROM weir.finance_scopes AS s) AS f
              FULL JOIN (SELECT told.detail FROM told WHERE told.is_given) AS t ON t.detail = f.detail
              WHERE f.detail IS NULL OR t.detail IS NULL) AS d
        ORDER BY 1, 2
$$;
REVOKE ALL ON FUNCTION weir.scope_mismatches() FROM PUBLIC;
COMMENT ON FUNCTION weir.scope_mismatches() IS 'As audit_mismatches, of finance_scopes.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON weir.catalog_versions
    FOR EACH ROW EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON weir.catalog_versions
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
