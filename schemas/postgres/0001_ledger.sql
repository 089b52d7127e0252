-- The ledger and what the rater remembers. Times are UTC instants; quantities and money are exact decimals of 12 places.
-- numeric(39,12) holds exactly what weir's 128-bit decimals hold: 27 digits before the point, 12 behind it.

COMMENT ON SCHEMA weir IS 'Usage metering and rating by weir. Start with the views charges_by_customer_and_period, usage_by_day and unpriced_usage; every amount in them is a sum of line_items.';

-- 1. Customers ----------------------------------------------------------------------------------------------------------

-- Keys are compared byte by byte (collation C): the same order on every machine, which is the order that raters lock in.
CREATE TABLE weir.customers (
    customer text COLLATE "C" PRIMARY KEY CHECK (customer <> ''),
    first_rated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE weir.customers IS 'Every customer that was ever rated. A rater locks a customer''s row for the length of its transaction, so that no two raters bill one customer at the same time.';
COMMENT ON COLUMN weir.customers.customer IS 'The customer: the subject of its usage events.';
COMMENT ON COLUMN weir.customers.first_rated_at IS 'When the first of this customer''s usage, fees or minimums was rated.';

CREATE TABLE weir.price_books (
    price_book text COLLATE "C" PRIMARY KEY CHECK (price_book <> ''),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    currency_places smallint NOT NULL CHECK (currency_places BETWEEN 0 AND 12),
    rounding text NOT NULL CHECK (rounding IN ('half_even', 'half_up'))
);
COMMENT ON TABLE weir.price_books IS 'Every price book that was applied or rated with: how its invoice amounts are rounded. The prices themselves are in price_book_versions.';
COMMENT ON COLUMN weir.price_books.price_book IS 'Key of the price book in the catalog.';
COMMENT ON COLUMN weir.price_books.currency IS 'ISO 4217 code of the currency, the same in every version of the book.';
COMMENT ON COLUMN weir.price_books.currency_places IS 'Decimal places of the currency on an invoice: 2 for USD, 0 for JPY, 3 for KWD.';
COMMENT ON COLUMN weir.price_books.rounding IS 'How an invoice amount that lies exactly between two is rounded: half_even to the even digit, half_up away from zero.';

-- 2. Line items: append-only --------------------------------------------------------------------------------------------

-- Partitioned by the month (UTC) of period_start, not of window_start or of the time of writing: finance reads and closes
-- by billing period, so one period's rows stand together however late its events came, and a finished year can be moved away
-- as a whole. There is no DEFAULT partition: rows in it would have to be moved when their month gets its own, and an append-only
-- table moves nothing. The ledger makes a month's partition when its first row is about to be written.
--
-- The primary key serves one customer's month, which is how an invoice is read, and needs no second index.
CREATE TABLE weir.line_items (
    line_item_id bigint GENERATED ALWAYS AS IDENTITY,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    contract text COLLATE "C" NOT NULL,
    item text NOT NULL CHECK (item <> ''),
    meter text,
    dimensions jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(dimensions) = 'object'),
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind IN ('usage', 'fee', 'true_up', 'drawdown', 'overage', 'adjustment', 'reversal')),
    component text NOT NULL CHECK (component <> ''),
    price_book text NOT NULL CHECK (price_book <> ''),
    price_book_version integer CHECK (price_book_version >= 1),
    model text,
    tier integer CHECK (tier >= 0),
    quantity numeric(39,12) NOT NULL,
    unit_price numeric(39,12),
    amount numeric(39,12) NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    revision integer NOT NULL CHECK (revision >= 1),
    CHECK (period_start < period_end),
    CHECK (window_start < window_end),
    CHECK (kind <> 'usage' OR meter IS NOT NULL),
    CHECK (quantity <> 'NaN' AND amount <> 'NaN'),
    PRIMARY KEY (customer, period_start, line_item_id)
) PARTITION BY RANGE (period_start);

-- For "everything since": tiny, and nearly free to keep, since rows come in the order of these two.
CREATE INDEX line_items_recorded ON weir.line_items USING brin (recorded_at, line_item_id);

COMMENT ON TABLE weir.line_items IS 'The ledger: what was charged, for what, and by which price. Append-only: a late event or a correction adds rows and changes none, so a number that was once read can always be explained. A period''s charge is the sum of its rows, exact to twelve places; only invoices are rounded.';
COMMENT ON COLUMN weir.line_items.line_item_id IS 'Number of the row, ascending in the order of writing (numbers may be left out).';
COMMENT ON COLUMN weir.line_items.recorded_at IS 'When the row was written: the start of its transaction.';
COMMENT ON COLUMN weir.line_items.customer IS 'The customer who is charged: the subject of the usage events.';
COMMENT ON COLUMN weir.line_items.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.line_items.item IS 'What is charged: key of the meter, the fee or the commitment.';
COMMENT ON COLUMN weir.line_items.meter IS 'Key of the meter for usage; null for fees and true-ups.';
COMMENT ON COLUMN weir.line_items.dimensions IS 'The meter''s group_by names with the texts of this usage, such as {"model": "large"}.';
COMMENT ON COLUMN weir.line_items.period_start IS 'Start of the billing period, cut to the contract''s term.';
COMMENT ON COLUMN weir.line_items.period_end IS 'End of the billing period: the first instant after it.';
COMMENT ON COLUMN weir.line_items.window_start IS 'Start of the window in which the usage happened; the period''s start for fees and true-ups.';
COMMENT ON COLUMN weir.line_items.window_end IS 'End of that window: the first instant after it.';
COMMENT ON COLUMN weir.line_items.kind IS 'usage; fee; true_up (to a minimum spend); drawdown and overage (of prepaid amounts); adjustment and reversal (corrections).';
COMMENT ON COLUMN weir.line_items.component IS 'Which part of the price the amount comes from: free_units, units, flat_fee, package, fixed_fee, flat, minimum, maximum, fee, true_up.';
COMMENT ON COLUMN weir.line_items.price_book IS 'Key of the price book.';
COMMENT ON COLUMN weir.line_items.price_book_version IS 'Version of the price book; null where none was in force (a true-up before the first version).';
COMMENT ON COLUMN weir.line_items.model IS 'Price model: per_unit, graduated, volume, package, percentage or flat; null for fees and true-ups.';
COMMENT ON COLUMN weir.line_items.tier IS 'Tier of the price, from 1; 0 for what concerns the whole price (free units, minimum, maximum); null for fees and true-ups.';
COMMENT ON COLUMN weir.line_items.quantity IS 'Change of the quantity. The rows of a period add up to the period''s quantity.';
COMMENT ON COLUMN weir.line_items.unit_price IS 'Price of one unit after the contract''s override; null where there is none.';
COMMENT ON COLUMN weir.line_items.amount IS 'Change of the charge, not rounded to the currency. The rows of a period add up to the period''s charge.';
COMMENT ON COLUMN weir.line_items.currency IS 'ISO 4217 code of the currency.';
COMMENT ON COLUMN weir.line_items.revision IS '1 for a window''s first rating; each later change of the window adds 1.';

CREATE FUNCTION weir.refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'weir.line_items is append-only: % is refused. Correct a charge by further rows, never by changing one', TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;
COMMENT ON FUNCTION weir.refuse_change() IS 'Keeps line_items append-only, for its owner and superusers too.';

-- Row triggers are copied to every partition, so they also guard against changes in a partition by its own name. Triggers for
-- TRUNCATE are not: make_line_items_partition adds them.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON weir.line_items
    FOR EACH ROW EXECUTE FUNCTION weir.refuse_change();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON weir.line_items
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON weir.line_items FROM PUBLIC;

-- Made as a table of its own and then attached: that takes a lock on line_items which lets readers and writers go on.
-- SECURITY DEFINER: a rater's role needs the right to call this and to insert, not the right to make tables.
CREATE FUNCTION weir.make_line_items_partition(any_day date) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    month date := date_trunc('month', any_day)::date;
    partition text := 'line_items_' || to_char(month, 'YYYY_MM');
BEGIN
    IF to_regclass('weir.' || partition) IS NULL THEN
        PERFORM pg_advisory_xact_lock(2003132786, hashtext('partition of line_items'));
        -- By the table itself: to_regclass would answer again what this session's cache said before it waited.
        IF NOT EXISTS (SELECT FROM pg_class WHERE relname = partition AND relnamespace = 'weir'::regnamespace) THEN
            EXECUTE format('CREATE TABLE weir.%I (LIKE weir.line_items INCLUDING DEFAULTS INCLUDING CONSTRAINTS'
                           ' INCLUDING INDEXES INCLUDING COMMENTS)', partition);
            EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON weir.%I'
                           ' FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_change()', partition);
            EXECUTE format('REVOKE ALL ON weir.%I FROM PUBLIC', partition);
            EXECUTE format('COMMENT ON TABLE weir.%I IS %L', partition,
                           'Line items of billing periods that start in ' || to_char(month, 'YYYY-MM')
                           || ' (UTC). Read them through weir.line_items.');
            EXECUTE format('ALTER TABLE weir.line_items ATTACH PARTITION weir.%I FOR VALUES FROM (%L) TO (%L)', partition,
                           to_char(month, 'YYYY-MM-DD') || ' 00:00:00+00',
                           to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00');
        END IF;
    END IF;
    RETURN partition;
END
$$;
REVOKE ALL ON FUNCTION weir.make_line_items_partition(date) FROM PUBLIC;
COMMENT ON FUNCTION weir.make_line_items_partition(date) IS 'Makes the partition of line_items for the month of a day, if it is not there. Safe to call from several places at once. Answers its name.';

-- 3. What has been rated so far -------------------------------------------------------------------------------------------

-- series and price_id are the first 128 bits of SHA-256 of series_key and price_key: those texts may be longer than an index
-- entry can be. The keys themselves stand beside them.
CREATE TABLE weir.rated_windows (
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    window_start timestamptz NOT NULL,
    series uuid NOT NULL,
    lane text COLLATE "C" NOT NULL CHECK (lane <> ''),
    window_end timestamptz NOT NULL,
    meter text NOT NULL,
    dimensions jsonb NOT NULL,
    series_key bytea NOT NULL,
    events bigint NOT NULL CHECK (events >= 0),
    value numeric(39,12) NOT NULL,
    latest_time bigint NOT NULL,
    latest_offset bigint NOT NULL,
    revision integer NOT NULL CHECK (revision >= 1),
    unpriced text CHECK (unpriced IN ('no_meter', 'no_contract', 'no_price')),
    contract text COLLATE "C",
    period_start timestamptz,
    period_end timestamptz,
    price_book text,
    price_book_version integer CHECK (price_book_version >= 1),
    price_key text,
    rated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (window_start < window_end),
    CHECK (period_start < period_end),
    CHECK ((contract IS NULL) = (period_start IS NULL) AND (period_start IS NULL) = (period_end IS NULL)),
    CHECK ((price_book IS NULL) = (price_book_version IS NULL) AND (price_book IS NULL) = (price_key IS NULL)),
    CHECK (unpriced IS NOT NULL OR (contract IS NOT NULL AND price_book IS NOT NULL)),
    PRIMARY KEY (customer, window_start, series, lane)
) WITH (fillfactor = 90);
-- Small while all usage has a price; it is also how a meter's unpriced windows are found.
CREATE INDEX rated_windows_unpriced ON weir.rated_windows (meter, window_start) WHERE unpriced IS NOT NULL;

COMMENT ON TABLE weir.rated_windows IS 'What each window amounted to when it was last rated: one row for each lane (partition of the events'' topic) that holds a share of it. The next rating charges the difference to this.';
COMMENT ON COLUMN weir.rated_windows.customer IS 'The customer.';
COMMENT ON COLUMN weir.rated_windows.window_start IS 'Start of the window.';
COMMENT ON COLUMN weir.rated_windows.series IS 'Short form of series_key, for the index.';
COMMENT ON COLUMN weir.rated_windows.lane IS 'The topic''s partition that holds the events, such as events:3.';
COMMENT ON COLUMN weir.rated_windows.window_end IS 'End of the window: the first instant after it.';
COMMENT ON COLUMN weir.rated_windows.meter IS 'Key of the meter.';
COMMENT ON COLUMN weir.rated_windows.dimensions IS 'The meter''s group_by names with their texts.';
COMMENT ON COLUMN weir.rated_windows.series_key IS 'Meter, customer and dimensions in weir''s own form (common/model/window.h).';
COMMENT ON COLUMN weir.rated_windows.events IS 'Number of events counted.';
COMMENT ON COLUMN weir.rated_windows.value IS 'What the meter''s aggregation made of them: sum (for sum and avg), min, max, latest or number of distinct values; 0 for count.';
COMMENT ON COLUMN weir.rated_windows.latest_time IS 'For meters that take the latest value: that event''s time in nanoseconds since 1970; otherwise 0.';
COMMENT ON COLUMN weir.rated_windows.latest_offset IS 'For meters that take the latest value: that event''s offset; otherwise 0.';
COMMENT ON COLUMN weir.rated_windows.revision IS 'How often this share was rated; its newest line items carry this number.';
COMMENT ON COLUMN weir.rated_windows.unpriced IS 'Why nothing is charged: no_meter, no_contract or no_price; null where there is a price. This is revenue leaking.';
COMMENT ON COLUMN weir.rated_windows.contract IS 'Contract it was rated under; empty for the default contract; null without any.';
COMMENT ON COLUMN weir.rated_windows.period_start IS 'Start of the billing period it belongs to.';
COMMENT ON COLUMN weir.rated_windows.period_end IS 'End of that period.';
COMMENT ON COLUMN weir.rated_windows.price_book IS 'Price book it was rated by; null when unpriced.';
COMMENT ON COLUMN weir.rated_windows.price_book_version IS 'Version of the price book it was rated by.';
COMMENT ON COLUMN weir.rated_windows.price_key IS 'Price within that version: the meter, and the dimensions that the price asks for.';
COMMENT ON COLUMN weir.rated_windows.rated_at IS 'When it was last rated.';

CREATE TABLE weir.price_totals (
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    contract text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    price_book text COLLATE "C" NOT NULL CHECK (price_book <> ''),
    price_book_version integer NOT NULL CHECK (price_book_version >= 1),
    price_id uuid NOT NULL,
    period_end timestamptz NOT NULL,
    meter text NOT NULL,
    price_key text NOT NULL,
    quantity numeric(39,12) NOT NULL,
    events bigint NOT NULL CHECK (events >= 0),
    amount numeric(39,12) NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (period_start < period_end),
    PRIMARY KEY (customer, contract, period_start, price_book, price_book_version, price_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE weir.price_totals IS 'Running total of each price in each billing period: tiers, packages and minimums count from here. amount equals the sum of the line items of that price.';
COMMENT ON COLUMN weir.price_totals.customer IS 'The customer.';
COMMENT ON COLUMN weir.price_totals.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.price_totals.period_start IS 'Start of the billing period.';
COMMENT ON COLUMN weir.price_totals.price_book IS 'Key of the price book.';
COMMENT ON COLUMN weir.price_totals.price_book_version IS 'Version of the price book; each version''s prices count for themselves.';
COMMENT ON COLUMN weir.price_totals.price_id IS 'Short form of price_key, for the index.';
COMMENT ON COLUMN weir.price_totals.period_end IS 'End of the billing period.';
COMMENT ON COLUMN weir.price_totals.meter IS 'Key of the meter that the price is for.';
COMMENT ON COLUMN weir.price_totals.price_key IS 'Price within the version: the meter, and the dimensions that the price asks for.';
COMMENT ON COLUMN weir.price_totals.quantity IS 'Quantity of the period so far.';
COMMENT ON COLUMN weir.price_totals.events IS 'Events of the period so far.';
COMMENT ON COLUMN weir.price_totals.amount IS 'What this quantity costs: all line items of this price in this period, added up.';
COMMENT ON COLUMN weir.price_totals.updated_at IS 'When it last changed.';

CREATE TABLE weir.split_totals (
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    contract text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    price_book text COLLATE "C" NOT NULL CHECK (price_book <> ''),
    price_book_version integer NOT NULL CHECK (price_book_version >= 1),
    price_id uuid NOT NULL,
    series uuid NOT NULL,
    series_key bytea NOT NULL,
    events bigint NOT NULL CHECK (events >= 0),
    value numeric(39,12) NOT NULL,
    latest_time bigint NOT NULL,
    latest_offset bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer, contract, period_start, price_book, price_book_version, price_id, series)
) WITH (fillfactor = 70);
COMMENT ON TABLE weir.split_totals IS 'For meters whose period is not the sum of its windows (min, max, latest, avg): the period''s total of each combination of dimensions.';
COMMENT ON COLUMN weir.split_totals.customer IS 'The customer.';
COMMENT ON COLUMN weir.split_totals.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.split_totals.period_start IS 'Start of the billing period.';
COMMENT ON COLUMN weir.split_totals.price_book IS 'Key of the price book.';
COMMENT ON COLUMN weir.split_totals.price_book_version IS 'Version of the price book.';
COMMENT ON COLUMN weir.split_totals.price_id IS 'The price, as in price_totals.';
COMMENT ON COLUMN weir.split_totals.series IS 'Short form of series_key, for the index.';
COMMENT ON COLUMN weir.split_totals.series_key IS 'Meter, customer and dimensions in weir''s own form (common/model/window.h).';
COMMENT ON COLUMN weir.split_totals.events IS 'Events of the period so far.';
COMMENT ON COLUMN weir.split_totals.value IS 'Sum (for avg), min, max or latest value of the period so far.';
COMMENT ON COLUMN weir.split_totals.latest_time IS 'For meters that take the latest value: that event''s time in nanoseconds since 1970; otherwise 0.';
COMMENT ON COLUMN weir.split_totals.latest_offset IS 'For meters that take the latest value: that event''s offset; otherwise 0.';
COMMENT ON COLUMN weir.split_totals.updated_at IS 'When it last changed.';

CREATE TABLE weir.billing_periods (
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    contract text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    usage_amount numeric(39,12) NOT NULL,
    true_up numeric(39,12) NOT NULL,
    true_up_revision integer NOT NULL CHECK (true_up_revision >= 0),
    is_advance_charged boolean NOT NULL,
    is_closed boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (period_start < period_end),
    PRIMARY KEY (customer, contract, period_start)
) WITH (fillfactor = 70);
CREATE INDEX billing_periods_unsettled ON weir.billing_periods (period_end)
    WHERE contract = '' AND NOT (is_advance_charged AND is_closed);
COMMENT ON TABLE weir.billing_periods IS 'Each customer''s billing periods that were rated: usage charged so far, and whether fees and the true-up are in the ledger.';
COMMENT ON COLUMN weir.billing_periods.customer IS 'The customer.';
COMMENT ON COLUMN weir.billing_periods.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.billing_periods.period_start IS 'Start of the period, cut to the contract''s term.';
COMMENT ON COLUMN weir.billing_periods.period_end IS 'End of the period: the first instant after it.';
COMMENT ON COLUMN weir.billing_periods.usage_amount IS 'Usage charged so far: the sum of the period''s line items of kind usage.';
COMMENT ON COLUMN weir.billing_periods.true_up IS 'Charged so far to reach the contract''s minimum spend: the sum of the period''s line items of kind true_up.';
COMMENT ON COLUMN weir.billing_periods.true_up_revision IS 'How many line items made that true-up.';
COMMENT ON COLUMN weir.billing_periods.is_advance_charged IS 'Whether the fees that are charged in advance are in the ledger.';
COMMENT ON COLUMN weir.billing_periods.is_closed IS 'Whether the period has ended and its fees in arrears and true-up are in the ledger. Late usage still adds line items.';
COMMENT ON COLUMN weir.billing_periods.updated_at IS 'When it last changed.';
