-- What each role may do (docs/finance.md). `weir migrate --roles` runs this after the migrations, in one transaction; it may be run
-- again at any time, and must be after an upgrade that brings new tables. Roles belong to the whole server: two databases of weir
-- on one server share them.
--
-- None of them may change or remove a line item, nor any other row that is append-only: triggers refuse that to everybody, the
-- missing right refuses it once more.

DO $$
DECLARE
    made text;
BEGIN
    FOREACH made IN ARRAY ARRAY['weir_finance', 'weir_rater', 'weir_operator'] LOOP
        IF to_regrole(made) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', made);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; -- another database's weir migrate was faster
            END;
        END IF;
    END LOOP;
END
$$;

-- What an earlier version gave and this one does not is taken back.
REVOKE ALL ON ALL TABLES IN SCHEMA weir FROM weir_finance, weir_rater, weir_operator;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA weir FROM weir_finance, weir_rater, weir_operator;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA weir FROM weir_finance, weir_rater, weir_operator;
GRANT USAGE ON SCHEMA weir TO weir_finance, weir_rater, weir_operator;

-- 1. Finance: the views, and nothing below them.
GRANT SELECT ON weir.charges_by_customer_and_period, weir.charge_lines, weir.adjustments, weir.usage_by_day, weir.unpriced_usage,
    weir.held_usage, weir.period_status, weir.invoices, weir.invoice_lines, weir.invoice_line_items, weir.closing_status,
    weir.invoice_focus, weir.invoice_completeness, weir.revenue_schedule, weir.revenue_months, weir.prepaid_months,
    weir.grant_balances, weir.balance_entries, weir.balance_events, weir.recounted_usage, weir.uncounted_events TO weir_finance;

-- Partitions are read through their table.
DO $$
DECLARE
    readable text;
BEGIN
    FOR readable IN SELECT format('weir.%I', relname) FROM pg_class
                    WHERE relnamespace = 'weir'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition LOOP
        EXECUTE format('GRANT SELECT ON %s TO weir_rater, weir_operator', readable);
    END LOOP;
END
$$;

-- 2. Raters (weir rater). Rows of weir.customers are locked, and marked with a first grant.
REVOKE SELECT ON weir.audit_log, weir.finance_scopes FROM weir_rater;
GRANT INSERT ON weir.line_items, weir.price_books, weir.lane_gaps, weir.calendar_periods, weir.grants, weir.grant_windows, weir.grant_entries
    TO weir_rater;
GRANT INSERT, UPDATE ON weir.segment_totals, weir.commitment_totals, weir.draw_totals TO weir_rater;
GRANT INSERT, UPDATE ON weir.customers, weir.rated_windows, weir.price_totals, weir.split_totals, weir.billing_periods, weir.lanes,
    weir.lane_tallies TO weir_rater;
GRANT INSERT, UPDATE, DELETE ON weir.held_windows, weir.refused_periods TO weir_rater;
GRANT USAGE ON SEQUENCE weir.held_numbers TO weir_rater;
GRANT EXECUTE ON FUNCTION weir.make_line_items_partition(date),
    weir.note_rated(text[], bigint[], timestamptz[], bigint[]), weir.note_tallies(text, text[], bigint[], bigint[], bigint[]),
    weir.expired_grants(timestamptz, timestamptz) TO weir_rater;

-- 3. Operators (weir apply, rerate, release, reconcile, explain, admit, audit): what raters may, as a repair rates, and these.
GRANT weir_rater TO weir_operator;
GRANT INSERT ON weir.catalog_versions, weir.gap_releases, weir.lane_ends, weir.reconciliations TO weir_operator;
GRANT INSERT, DELETE ON weir.meters, weir.price_book_versions, weir.contracts TO weir_operator;
GRANT UPDATE ON weir.price_books TO weir_operator;
GRANT EXECUTE ON FUNCTION weir.show_catalog(json), weir.audit_mismatches(), weir.rerating_mismatches(),
    weir.scope_mismatches(), weir.derived_mismatches(), weir.closed_mismatches(), weir.month_mismatches(),
    weir.posting_mismatches(), weir.lane_mismatches() TO weir_operator;
GRANT INSERT ON weir.grant_orders, weir.grant_ends TO weir_operator;
GRANT EXECUTE ON FUNCTION weir.grant_subject(text, text, text), weir.order_mismatches() TO weir_operator;
GRANT INSERT ON weir.reratings, weir.rerating_customers, weir.rerating_amounts, weir.rerating_ends, weir.recounted_windows
    TO weir_operator;
GRANT DELETE ON weir.price_totals, weir.split_totals, weir.billing_periods, weir.commitment_totals, weir.segment_totals, weir.draw_totals
    TO weir_operator; -- a rerating writes them anew

-- Closing and invoices, by weir close or by raters (close.grace): rows are added, and nothing is ever changed.
GRANT INSERT ON weir.closings, weir.closing_ends, weir.invoice_heads, weir.invoice_rows, weir.invoice_ranges, weir.invoice_numbers,
    weir.invoice_voids TO weir_rater;
GRANT USAGE ON SEQUENCE weir.invoice_ids TO weir_rater;
GRANT EXECUTE ON FUNCTION weir.uninvoiced(text), weir.closing_end(text, date, timestamptz),
    weir.closing_plan(text, date, timestamptz), weir.invoice_digest(bigint), weir.invoice_digest_of_lines(bigint),
    weir.issue_number(text, text, bigint, text),
    weir.make_invoice_rows(weir.invoice_heads, jsonb), weir.make_invoice(weir.invoice_heads, weir.closing_step[], jsonb),
    weir.drop_old_drafts(text, date, timestamptz, text),
    weir.close_customer(text, date, timestamptz, boolean, text, text, bigint, jsonb, jsonb, jsonb) TO weir_rater;
GRANT EXECUTE ON FUNCTION weir.finalize_invoice(bigint, text, text), weir.void_invoice(bigint, text, text),
    weir.invoice_mismatches(), weir.invoice_document(bigint, text) TO weir_operator;

-- Months of revenue: closing writes their figures down.
GRANT INSERT ON weir.revenue_contracts, weir.closed_months, weir.closed_revenue, weir.closed_prepaid, weir.month_closings TO weir_rater;
GRANT EXECUTE ON FUNCTION weir.months_to_close(text, date, timestamptz), weir.months_left_open(text, date, timestamptz),
    weir.closed_digest(text, text, date, date),
    weir.close_months(text, date, timestamptz, bigint),
    weir.close_books(text, date, timestamptz, boolean, text, text, bigint, jsonb, jsonb, jsonb) TO weir_rater;
