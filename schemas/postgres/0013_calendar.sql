-- The calendars of billing periods as data. Where a period begins follows from the time zone's rules, and governments change those:
-- what was once written here stays what it was, whatever later rules would say of the past (docs/catalog.md, "Calendars").

-- For "=" of texts in an EXCLUDE constraint; part of PostgreSQL, and trusted: the database's owner may create it.
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE TABLE weir.calendar_periods (
    timezone text COLLATE "C" NOT NULL CHECK (timezone <> ''),
    billing_period text COLLATE "C" NOT NULL CHECK (billing_period IN ('day', 'week', 'month', 'quarter', 'year')),
    billing_anchor text COLLATE "C" NOT NULL,
    period tstzrange NOT NULL CHECK (lower_inc(period) AND NOT upper_inc(period) AND NOT upper_inf(period)
                                     AND isfinite(lower(period)) AND isfinite(upper(period))),
    zone_rules text NOT NULL CHECK (zone_rules <> ''),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT calendar_periods_overlap
        EXCLUDE USING gist (timezone WITH =, billing_period WITH =, billing_anchor WITH =, period WITH &&)
);
COMMENT ON TABLE weir.calendar_periods IS 'The billing periods of each calendar that contracts use: written once by weir apply and weir rater, about two years ahead, and never changed. In a calendar periods cannot overlap (a constraint) and have no gap (a trigger).';
COMMENT ON COLUMN weir.calendar_periods.timezone IS 'IANA time zone.';
COMMENT ON COLUMN weir.calendar_periods.billing_period IS 'day, week, month, quarter or year.';
COMMENT ON COLUMN weir.calendar_periods.billing_anchor IS 'The day on which they begin: a weekday; a day of the month; month and day (of quarters: the first such month of the year); empty for days.';
COMMENT ON COLUMN weir.calendar_periods.period IS 'First instant, and first instant after it. A contract''s period is this, cut to its term: contract_periods.';
COMMENT ON COLUMN weir.calendar_periods.zone_rules IS 'Version of the time zone data by which it was written, such as 2025b.';
COMMENT ON COLUMN weir.calendar_periods.recorded_at IS 'When it was written.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON weir.calendar_periods
    FOR EACH ROW EXECUTE FUNCTION weir.refuse_rewriting();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON weir.calendar_periods
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_rewriting();
REVOKE ALL ON weir.calendar_periods FROM PUBLIC;

CREATE VIEW weir.calendar_gaps AS
    SELECT timezone, billing_period, billing_anchor, before AS gap_start, lower(period) AS gap_end
    FROM (SELECT *, lag(upper(period)) OVER (PARTITION BY timezone, billing_period, billing_anchor ORDER BY period) AS before
          FROM weir.calendar_periods) AS p
    WHERE before < lower(period);
COMMENT ON VIEW weir.calendar_gaps IS 'Time between two periods of a calendar that belongs to neither. There is none: a trigger refuses it.';
COMMENT ON COLUMN weir.calendar_gaps.timezone IS 'Time zone of the calendar.';
COMMENT ON COLUMN weir.calendar_gaps.billing_period IS 'Length of its periods.';
COMMENT ON COLUMN weir.calendar_gaps.billing_anchor IS 'The day on which they begin.';
COMMENT ON COLUMN weir.calendar_gaps.gap_start IS 'End of the period before.';
COMMENT ON COLUMN weir.calendar_gaps.gap_end IS 'Start of the period after.';

-- All of a statement's rows together: a calendar's first row has nothing to join on to.
CREATE FUNCTION weir.refuse_calendar_gap() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gap weir.calendar_gaps;
BEGIN
    FOR gap IN SELECT g.* FROM weir.calendar_gaps AS g
               WHERE (g.timezone, g.billing_period, g.billing_anchor)
                     IN (SELECT DISTINCT i.timezone, i.billing_period, i.billing_anchor FROM inserted AS i) LOOP
        RAISE EXCEPTION 'calendar % % % would have a gap from % to %', gap.timezone, gap.billing_period, gap.billing_anchor,
            gap.gap_start, gap.gap_end USING ERRCODE = 'exclusion_violation', CONSTRAINT = 'calendar_periods_gap';
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION weir.refuse_calendar_gap() IS 'Keeps the periods of a calendar without a gap.';
CREATE TRIGGER no_gap AFTER INSERT ON weir.calendar_periods REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_calendar_gap();

CREATE VIEW weir.contract_periods AS
    SELECT c.contract, c.customer, lower(cut.period) AS period_start, upper(cut.period) AS period_end, p.zone_rules
    FROM weir.contracts AS c
    JOIN weir.calendar_periods AS p ON p.timezone = c.timezone AND p.billing_period = c.billing_period
        AND p.billing_anchor = CASE c.billing_period
            WHEN 'day' THEN ''
            WHEN 'week' THEN coalesce(c.billing_anchor, 'monday')
            WHEN 'month' THEN coalesce(c.billing_anchor, '1')
            WHEN 'year' THEN coalesce(c.billing_anchor, '01-01')
            ELSE coalesce('0' || (left(c.billing_anchor, 2)::integer - 1) % 3 + 1 || right(c.billing_anchor, 3), '01-01') END
    CROSS JOIN LATERAL (SELECT p.period * tstzrange(c.starts_at, c.ends_at) AS period) AS cut
    WHERE NOT isempty(cut.period);
COMMENT ON VIEW weir.contract_periods IS 'The billing periods of each contract of the catalog in force, cut to its term, as far as its calendar is written. line_items.period_start leads here.';
COMMENT ON COLUMN weir.contract_periods.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.contract_periods.customer IS 'The customer; null for the default contract.';
COMMENT ON COLUMN weir.contract_periods.period_start IS 'First instant of the period.';
COMMENT ON COLUMN weir.contract_periods.period_end IS 'First instant after it.';
COMMENT ON COLUMN weir.contract_periods.zone_rules IS 'Version of the time zone data by which it was written.';
