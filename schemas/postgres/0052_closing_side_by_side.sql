-- As in 0016, for customers that are closed at once. An entry of the audit log is one at a time too, and a draft that is replaced takes its
-- turn there before its customer's new invoice has a number: so whoever gives a number waits there first. In the other order two of them
-- could wait for one another. The digest is worked out before anybody waits: an invoice never changes.
CREATE OR REPLACE FUNCTION weir.issue_number(of_series text, of_document text, of_invoice bigint, by_whom text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_contents text := weir.invoice_digest(of_invoice);
    given bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(2003132786, hashtext('weir audit'));
    PERFORM pg_advisory_xact_lock(2003132786, hashtext('weir series ' || of_series));
    INSERT INTO weir.invoice_numbers (series, number, document, invoice, issued_by, digest)
        SELECT of_series, coalesce(max(n.number), 0) + 1, of_document, of_invoice, by_whom, of_contents
        FROM weir.invoice_numbers AS n WHERE n.series = of_series
        RETURNING number INTO given;
    RETURN given;
END
$$;
