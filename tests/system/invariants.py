"""What SQL says of every ledger after every test: line items are the sums that raters keep, invoices are their lines, balances their
entries, months reconcile, and nothing that is append-only was changed or removed. Each query answers rows only where something is wrong.

A test that breaks a ledger on purpose leaves the table `public.bent` there; one that writes line items by hand `public.made_by_hand`, as it has
none of the rater's totals."""
import psycopg2
import psycopg2.extensions

# 1. Line items, and the totals that each was charged as a difference of: the price of the period's quantity.
TOTALS = {
    "line items that do not add up to the quantity and the price of their period":
        "select * from (select customer, contract, period_start, price_book, price_book_version, meter, sum(quantity) as quantity, sum(amount) as amount"
        " from weir.price_totals group by 1, 2, 3, 4, 5, 6) t full join (select customer, contract, period_start, price_book collate \"C\" as price_book,"
        " price_book_version, meter, sum(quantity) as quantity, sum(amount) as amount from weir.line_items where meter is not null"
        " and component <> 'invoice_discount' group by 1, 2, 3, 4, 5, 6) i using (customer, contract, period_start, price_book, price_book_version, meter)"
        " where coalesce(t.quantity, 0) <> coalesce(i.quantity, 0) or coalesce(t.amount, 0) <> coalesce(i.amount, 0)",
    "a period that is not its usage and its true-up":
        "select * from (select customer, contract, period_start, coalesce(sum(amount) filter (where meter is not null), 0) as usage,"
        " coalesce(sum(amount) filter (where component = 'true_up'), 0) as true_up from weir.line_items group by 1, 2, 3) i"
        " full join weir.billing_periods p using (customer, contract, period_start)"
        " where coalesce(i.usage, 0) <> coalesce(p.usage_amount, 0) or coalesce(i.true_up, 0) <> coalesce(p.true_up, 0)",
    "draws that are not in the line items, or of which the balance has other ones":
        "select * from (select customer, contract, item as grant_key, sum(amount) as amount from weir.line_items"
        " where weir.reversed_kind(kind, meter, component) = 'drawdown' group by 1, 2, 3) i full join (select customer, contract, grant_key,"
        " sum(amount) as amount from weir.grant_entries where kind in ('drawdown', 'giveback') group by 1, 2, 3) e using (customer, contract, grant_key)"
        " where coalesce(i.amount, 0) <> coalesce(e.amount, 0)",
}

# 2. Balances
BALANCES = {
    "a balance that is not the sum of its entries, or below zero":
        "select * from weir.grant_balances b left join (select customer, contract, grant_key, sum(amount) as amount, count(*) as n from weir.grant_entries"
        " group by 1, 2, 3) e using (customer, contract, grant_key) where b.balance <> coalesce(e.amount, 0) or b.balance < 0",
    "an entry that does not go on where the one before it ended":
        "select * from (select *, lag(balance_after, 1, 0) over (partition by customer, contract, grant_key order by number) as left_before,"
        " row_number() over (partition by customer, contract, grant_key order by number) as place from weir.grant_entries) e"
        " where balance_before <> left_before or balance_after <> balance_before + amount or number <> place",
}

# 3. Invoices
INVOICES = {
    "a line item on two invoices that are not void":
        "select line_item_id from weir.invoice_line_items where not is_void group by 1 having count(*) > 1",
    "an invoice that is not its line items":
        "select h.invoice from weir.invoice_heads h left join weir.invoice_line_items i using (invoice)"
        " group by h.invoice, h.amount having coalesce(sum(i.amount), 0) <> h.amount",
    "an invoice that is not its lines":
        "select h.invoice from weir.invoice_heads h left join weir.invoice_rows r using (invoice)"
        " group by h.invoice, h.amount, h.total having coalesce(sum(r.amount), 0) <> h.amount or coalesce(sum(r.invoice_amount), 0) <> h.total",
    "a line whose line items are not as many as it says":
        "select h.invoice from weir.invoice_heads h join weir.invoice_rows r using (invoice) group by h.invoice having sum(r.line_items) >"
        " (select count(*) from weir.invoice_line_items i where i.invoice = h.invoice)",
    "a number that was left out":
        "select series from weir.invoice_numbers group by series having max(number) <> count(*) or min(number) <> 1",
    "a final invoice that is void without a credit note":
        "select * from weir.invoices where state = 'void' and (number is null) <> (credit_note_number is null)",
    "an adjustment that names another period's or item's line":
        "select r.* from weir.invoice_rows r join weir.invoice_heads h using (invoice)"
        " left join weir.invoice_heads c on c.invoice = r.corrected_invoice"
        " left join weir.invoice_rows o on o.invoice = r.corrected_invoice and o.line = r.corrected_line"
        " where (c.customer, c.contract, c.currency) <> (h.customer, h.contract, h.currency)"
        " or coalesce(o.service_start, c.period_start) <> r.service_start or o.is_adjustment"
        " or o.item <> r.item or (o.kind <> r.kind and (r.kind, o.kind) <> ('overage', 'usage')) or (o.line is null and r.corrected_line is not null)",
    "an invoice in advance with something else, or a line of a later period that is not in advance":
        "select h.invoice from weir.invoice_heads h join weir.invoice_ranges r using (invoice) where (h.kind = 'advance' or r.period_start > h.period_start)"
        " and r.advance_at is distinct from weir.invoice_instant(h.kind, h.period_start, h.period_end)",
    "line items of a period that nothing knows":
        "select i.line_item_id from weir.line_items i where not exists (select from weir.billing_periods p where p.customer = i.customer"
        " and p.contract = i.contract and p.period_start = i.period_start) and not exists (select from weir.past_periods p"
        " where p.customer = i.customer and p.contract = i.contract and p.period_start = i.period_start)",
}

# 4. Revenue
REVENUE = {
    "a line item whose schedule is not its amount":
        "select i.line_item_id from weir.line_item_services i left join (select line_item_id, sum(recognised) as recognised from weir.revenue_schedule"
        " group by 1) r using (line_item_id) where i.basis <> 'drawdown' and i.amount is distinct from r.recognised",
    "a prepaid amount that is not its purchases, or whose months are not what is earned of it, or of which something is left when it has ended":
        "select * from (select customer, contract, grant_key, currency, sum(by_drawdown) as by_drawdown, sum(by_breakage) as by_breakage,"
        " (array_agg(array[purchased, earned, lapsed, drawn] order by month desc))[1:1] as last from weir.prepaid_months group by 1, 2, 3, 4) p"
        " full join (select customer, contract, item as grant_key, currency, sum(amount) filter (where basis = 'drawdown') as purchased"
        " from weir.line_item_services where basis = 'drawdown' group by 1, 2, 3, 4) s using (customer, contract, grant_key, currency)"
        " left join weir.prepaid_terms t using (customer, contract, grant_key)"
        " where coalesce(last[1][1], 0) <> coalesce(s.purchased, 0) or last[1][2] <> by_drawdown or last[1][3] <> by_breakage"
        " or (isfinite(coalesce(t.rolls_until, t.ends_at)) and by_drawdown + by_breakage <> last[1][1])",
    "a month that is not the sum of its schedule":
        "select * from (select customer, contract, currency, month, sum(recognised) as scheduled from weir.revenue_schedule group by 1, 2, 3, 4) s"
        " full join weir.revenue_months m using (customer, contract, currency, month) where coalesce(scheduled, 0) <> coalesce(recognised, 0)",
    "a month that does not reconcile":
        "select * from (select *, sum(recognised) over w + deferred as earned, sum(invoiced) over w + unbilled as charged from weir.revenue_months"
        " window w as (partition by customer, contract, currency order by month)) m where earned <> charged",
    "months that are not the final invoices":
        "select * from (select customer, contract, currency, sum(invoiced) as invoiced, sum(rounding) as rounding from weir.revenue_months group by 1, 2, 3) m"
        " full join (select customer, contract, currency, sum(amount) as amount, sum(total) as total from weir.invoices where state = 'final'"
        " group by 1, 2, 3) i using (customer, contract, currency) where coalesce(invoiced, 0) <> coalesce(amount, 0)"
        " or coalesce(invoiced + rounding, 0) <> coalesce(total, 0)",
    "months that leave a month out":
        "select customer from weir.closed_months group by customer, contract having count(*) <> (extract(year from age(max(month), min(month))) * 12"
        " + extract(month from age(max(month), min(month))) + 1)",
}

# 5. Whatever is append-only was never changed: not even by its owner, whom triggers would refuse.
CHANGED = ("select s.relname, s.n_tup_upd, s.n_tup_del from pg_stat_user_tables s where s.n_tup_upd + s.n_tup_del > 0 and exists (select from pg_trigger t"
           " where t.tgrelid = s.relid and t.tgname = 'append_only')")

# Of 4, what does not look at the schedule of each line item: test_revenue.py has the rest, in every case.
MONTHS = {what: REVENUE[what] for what in ("a month that does not reconcile", "months that are not the final invoices")}

# With what there must be for it: a ledger without it has nothing that could be wrong.
AFTER_EACH = (("line_items", TOTALS), ("grant_entries", BALANCES), ("invoice_heads", INVOICES), ("invoice_heads", MONTHS),
              ("schema_migrations", {"rows of an append-only table that were changed or removed": CHANGED}))


def broken(cursor, is_made_by_hand=False):
    """{what: some rows} of what does not hold, in one ledger."""
    found = {}
    for needed, invariants in AFTER_EACH:
        cursor.execute(f"select exists (select from weir.{needed})")
        for what, text in invariants.items() if cursor.fetchone()[0] and not (is_made_by_hand and invariants is TOTALS) else ():
            cursor.execute(text)
            found.update({what: rows[:3] for rows in [cursor.fetchall()] if rows})
    return found


def check(url):
    """Of the database at url, in one snapshot."""
    connection = psycopg2.connect(url)
    try:
        connection.set_session(isolation_level=psycopg2.extensions.ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
        with connection.cursor() as cursor:
            cursor.execute("select to_regclass('weir.audit_log') is null or to_regclass('public.bent') is not null, to_regclass('public.made_by_hand') is not null")
            [(is_no_ledger, is_made_by_hand)] = cursor.fetchall()
            found = {} if is_no_ledger else broken(cursor, is_made_by_hand)
        assert not found, f"{url.rpartition('/')[2]}: {found}"
    finally:
        connection.close()
