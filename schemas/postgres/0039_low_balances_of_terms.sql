-- A prepaid amount that each term of a contract has anew (KEY+2) has the thresholds of its commitment; what went on has none.

CREATE OR REPLACE FUNCTION weir.note_crossings() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
    last bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM weir.balance_thresholds) THEN
        RETURN NULL;
    END IF;
    FOR found IN
        WITH steps AS (
            SELECT e.customer, e.contract, e.grant_key, g.currency, g.rolled_from,
                   (array_agg(e.balance_before ORDER BY e.number))[1]
                       + coalesce(sum(e.amount) FILTER (WHERE e.kind = 'grant' AND e.amount > 0), 0) AS before,
                   (array_agg(e.balance_after ORDER BY e.number DESC))[1] AS after,
                   (array_agg(e.number ORDER BY e.amount, e.number))[1] AS cause,
                   (array_agg(e.kind ORDER BY e.amount, e.number))[1] AS kind
            FROM entries AS e JOIN weir.grants AS g USING (customer, contract, grant_key)
            GROUP BY e.customer, e.contract, e.grant_key, g.currency, g.rolled_from
        ), falls AS (
            SELECT s.customer, s.contract, s.grant_key, s.currency, t.threshold, weir.threshold_amount(t.threshold, CASE WHEN t.threshold LIKE '%\%' THEN
                       (SELECT sum(a.amount) FROM weir.grant_entries AS a WHERE a.kind = 'grant' AND a.customer = s.customer
                            AND a.contract = s.contract AND a.grant_key = s.grant_key) END) AS amount,
                   s.before, s.after, s.grant_key AS cause_grant, s.cause, s.kind
            FROM steps AS s JOIN weir.balance_thresholds AS t
                ON t.contract = s.contract AND t.grant_key = split_part(s.grant_key, '+', 1) AND t.customer IN ('', s.customer)
            WHERE s.before > s.after AND s.rolled_from IS NULL
            UNION ALL
            SELECT w.customer, w.contract, '', w.currency, t.threshold, t.threshold::numeric, b.after - w.amount + w.granted, b.after,
                   w.cause_grant, w.cause, w.kind
            FROM (SELECT e.customer, e.contract, min(g.currency) AS currency, sum(e.amount) AS amount,
                         coalesce(sum(e.amount) FILTER (WHERE e.kind = 'grant' AND e.amount > 0), 0) AS granted,
                         (array_agg(e.grant_key ORDER BY e.amount, e.grant_key, e.number))[1] AS cause_grant,
                         (array_agg(e.number ORDER BY e.amount, e.grant_key, e.number))[1] AS cause,
                         (array_agg(e.kind ORDER BY e.amount, e.grant_key, e.number))[1] AS kind
                  FROM entries AS e JOIN weir.grants AS g USING (customer, contract, grant_key) GROUP BY e.customer, e.contract) AS w
                 JOIN weir.balance_thresholds AS t ON t.contract = w.contract AND t.grant_key = '' AND t.customer = ''
                 CROSS JOIN LATERAL (
                     SELECT sum(l.balance_after) AS after FROM weir.grants AS g CROSS JOIN LATERAL (
                         SELECT a.balance_after FROM weir.grant_entries AS a WHERE a.customer = g.customer
                             AND a.contract = g.contract AND a.grant_key = g.grant_key ORDER BY a.number DESC LIMIT 1) AS l
                     WHERE g.customer = w.customer AND g.contract = w.contract) AS b
        )
        SELECT * FROM falls AS f
        WHERE f.before > f.amount AND f.after <= f.amount
        ORDER BY f.customer, f.contract, f.grant_key, f.amount DESC, f.threshold
    LOOP
        IF last IS NULL THEN
            PERFORM pg_advisory_xact_lock(2003132786, hashtext('weir balance events'));
            last := coalesce((SELECT max(event) FROM weir.threshold_crossings), 0);
        END IF;
        last := last + 1;
        INSERT INTO weir.threshold_crossings (event, customer, contract, grant_key, threshold, threshold_amount, crossing, previous,
                balance_before, balance_after, currency, cause, cause_grant, cause_entry, rerating)
            SELECT last, found.customer, found.contract, found.grant_key, found.threshold, found.amount, before.count + 1,
                   nullif(before.count, 0), found.before, found.after, found.currency, found.kind, found.cause_grant, found.cause,
                   nullif(current_setting('weir.rerating', true), '')::bigint
            FROM (SELECT coalesce(max(crossing), 0) AS count FROM weir.threshold_crossings AS c WHERE c.customer = found.customer
                      AND c.contract = found.contract AND c.grant_key = found.grant_key AND c.threshold = found.threshold) AS before;
    END LOOP;
    IF last IS NOT NULL THEN
        PERFORM pg_notify('weir_balance_events', last::text);
    END IF;
    RETURN NULL;
END
$$;
