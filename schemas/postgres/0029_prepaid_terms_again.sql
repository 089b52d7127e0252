-- Terms of a prepaid amount that a rerating's catalog has otherwise: what went on at the old expiry does not outlast a later one.

CREATE OR REPLACE FUNCTION weir.keep_prepaid_terms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO weir.prepaid_terms AS t (customer, contract, grant_key, account, amount, price, ends_at)
        SELECT NEW.customer, NEW.contract, p.grant_key, p.grant_key, p.amount, p.price, least(p.expires_at, NEW.ends_at,
            (SELECT e.ends_at FROM weir.grant_ends AS e
             WHERE e.customer = NEW.customer AND e.contract = NEW.contract AND e.grant_key = p.grant_key))
        FROM weir.prepaid_commitments(NEW.commitments, NEW.phases) AS p WHERE p.price > 0
        ON CONFLICT (customer, contract, grant_key) DO UPDATE
            SET amount = excluded.amount, price = excluded.price, ends_at = excluded.ends_at,
                rolls_until = CASE WHEN t.rolls_until > excluded.ends_at THEN t.rolls_until END;
    RETURN NULL;
END
$$;
