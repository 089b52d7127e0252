-- Packages of credit: what weir grant bought as one (docs/credits.md 2.3).

ALTER TABLE weir.grant_orders
    ADD COLUMN package text COLLATE "C" CHECK (package <> ''),
    ADD COLUMN packages bigint CHECK (packages > 0),
    ADD CONSTRAINT grant_orders_count_check CHECK (packages IS NULL OR package IS NOT NULL),
    ADD CONSTRAINT grant_orders_package_paid_check CHECK (package IS NULL OR funding = 'paid');
COMMENT ON COLUMN weir.grant_orders.package IS 'Key of the package of the price book or contract that it was bought as; null: the price was said.';
COMMENT ON COLUMN weir.grant_orders.packages IS 'How many of it; null: it was bought by amount.';
