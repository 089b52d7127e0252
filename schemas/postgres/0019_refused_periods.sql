-- A billing period whose fees, flat fees and true-up do not fit is noted, and holds back no other.

CREATE TABLE weir.refused_periods (
    customer text COLLATE "C" NOT NULL CHECK (customer <> ''),
    contract text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    refused text NOT NULL CHECK (refused <> ''),
    refused_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer, contract, period_start)
);
COMMENT ON TABLE weir.refused_periods IS 'Billing periods that have ended and cannot be closed: tried again every minute. A row goes when its period is closed.';
COMMENT ON COLUMN weir.refused_periods.customer IS 'The customer.';
COMMENT ON COLUMN weir.refused_periods.contract IS 'Key of the contract; empty for the default contract.';
COMMENT ON COLUMN weir.refused_periods.period_start IS 'Start of the period, cut to the contract''s term.';
COMMENT ON COLUMN weir.refused_periods.period_end IS 'End of the period: the first instant after it.';
COMMENT ON COLUMN weir.refused_periods.refused IS 'Why it cannot be closed, and what to do.';
COMMENT ON COLUMN weir.refused_periods.refused_at IS 'When it was last tried in vain.';
