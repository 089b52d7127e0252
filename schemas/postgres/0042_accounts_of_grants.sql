-- Who was granted anything has an account for raters, whatever the catalog says by now: one that has dropped its prepaid amounts is
-- found by what was drawn from them, and its usage waits for weir rerate (docs/rerating.md).
CREATE TRIGGER mark AFTER INSERT ON weir.grants FOR EACH ROW EXECUTE FUNCTION weir.mark_orders();
UPDATE weir.customers AS c SET has_orders = true
    WHERE NOT has_orders AND EXISTS (SELECT FROM weir.grants AS g WHERE g.customer = c.customer);
COMMENT ON COLUMN weir.customers.has_orders IS 'The customer has rows in grants, grant_orders or grant_ends: raters load its account whatever the catalog says.';
