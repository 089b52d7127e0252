"""Revenue of a ledger that came through the pipeline: its line items and invoices, and the terms of the catalog and of what was ordered,
given to the model of docs/revenue.md, which knows nothing of how either came about."""
import collections
import datetime
import zoneinfo

from ledger import query
from model import catalog as catalogs
from model import drawdown, exact, instants, invoices, revenue

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def _at(seconds):
    return None if seconds is None else EPOCH + datetime.timedelta(seconds=seconds)


def _end(nanoseconds):
    return None if nanoseconds == drawdown.FOREVER else EPOCH + datetime.timedelta(microseconds=nanoseconds // 1000)


class Books(revenue.Books):
    """Nothing of it is closed: every line item is earned in its own months."""

    def per(self, item):
        return self.fees.get((item.line[3], item.line[4], item.line[1])) if item.line[0] == "fee" else None


def _terms(catalog):
    contracts = [*catalog.contracts, *([catalog.default] if catalog.default else [])]
    zones = {contract.key: zoneinfo.ZoneInfo(contract.timezone) for contract in contracts}
    starts = {contract.key: _at(contract.whole_starts) for contract in contracts if contract.whole_starts is not None}
    fees = {(key, version.version, fee["key"]): fee["per"] for key, versions in catalog.books.items() for version in versions for fee in version.fees}
    return zones, starts, fees


def _grants(catalog, orders, customer, contract, went_on, left, until):
    """What was bought under a contract, in terms that began by `until` (seconds), and what of it went on."""
    grants, rollovers, ended = {}, {}, set()
    terms = catalog.of_customer[customer] if contract else [catalog.default]
    listed = [grant for one in terms if one.key == contract for grant in drawdown.grants_of(one, drawdown.orders_of(orders, customer, one), until)]
    for grant in listed:
        key = contract, grant.key
        if grant.ends == grant.until() and (grant.source is None or grant.ends > grant.starts):
            ended.add(key)
        if grant.source is None and grant.price:
            grants[key] = grant.amount, grant.price, _end(grant.until())
    for grant in listed:
        if grant.source and (contract, grant.source) in grants and (customer, contract, grant.key) in went_on:
            source = next(one for one in listed if one.key == grant.source)
            rest = left.get((contract, grant.source), source.amount)
            rollovers[contract, grant.key] = grant.source, _end(grant.until()), rest - exact.multiply(rest, source.fraction)
    return grants, rollovers, ended


def _load(env):
    items, windows = collections.defaultdict(list), {}
    for row in query(env, """select line_item_id, customer, coalesce(contract, '') as contract, period_start, period_end, window_start, currency,
                                    weir.reversed_kind(kind, meter, component) as kind, item, meter, price_book, price_book_version, model, component,
                                    tier, unit_price::text, quantity::text, amount::text from weir.line_items order by 1"""):
        items[row["customer"]].append(invoices.Item(row["line_item_id"], row["contract"], row["period_start"], row["period_end"], row["currency"],
                                                    tuple(row[name] for name in invoices.LINE), exact.parse(row["quantity"]), exact.parse(row["amount"])))
        windows[row["line_item_id"]] = row["window_start"]
    on_invoice = collections.defaultdict(list)
    for row in query(env, "select invoice, line_item_id from weir.invoice_line_items"):
        on_invoice[row["invoice"]].append(row["line_item_id"])
    made = collections.defaultdict(list)
    for row in query(env, "select invoice, customer, contract, kind, period_start, period_end, currency, amount::text, total::text from weir.invoices"
                          " where state = 'final'"):
        numbered = {item.number: item for item in items[row["customer"]]}
        made[row["customer"]].append(invoices.Invoice(
            row["contract"], row["kind"], row["period_start"], row["period_end"], row["currency"], [numbered[of] for of in on_invoice[row["invoice"]]],
            amount=exact.parse(row["amount"]), total=exact.parse(row["total"])))
    return items, windows, made


def check(env, document, outcome, orders, where):
    """Every month of every contract, whether closed or open, is what the model makes of the line items; how many were compared."""
    catalog = catalogs.Catalog(document)
    zones, starts, fees = _terms(catalog)
    items, windows, made = _load(env)
    went_on = {(row["customer"], row["contract"], row["grant_key"]) for row in query(
        env, "select customer, contract, grant_key from weir.grants where rolled_from is not null")}
    found = {(row["customer"], row["contract"], row["currency"], (row["month"].year, row["month"].month)): tuple(map(exact.parse, row["figures"]))
             for row in query(env, "select customer, contract, currency, month, array[invoiced, rounding, recognised, deferred, unbilled]::text[] as figures"
                                   " from weir.revenue_months")}
    expected = {}
    for customer, of_customer in items.items():
        grants, rollovers, ended = {}, {}, set()
        until = int(max(item.start for item in of_customer).timestamp())
        for contract in {item.contract for item in of_customer}:
            bought, rests, orderly = _grants(catalog, orders, customer, contract, went_on, outcome.rating.left.get(customer, {}), until)
            grants.update(bought)
            rollovers.update(rests)
            ended |= orderly
        books = Books(None, None, None, zones, starts, fees, grants, rollovers, ended)
        books.items, books.windows = of_customer, windows
        for invoice in made[customer]:
            books.postings.append((invoice, 1, books.month_of_invoice(invoice)))
        expected.update({(customer, *key): figures[:5] for key, figures in books.months().items()})
    # Closed months go on for as long as a balance stands; nothing happens in them.
    wrong = {key: (found.get(key), expected.get(key)) for key in {*found, *expected} if found.get(key) != expected.get(key)
             and (key in expected or any(found[key][:3]))}
    assert not wrong, f"revenue, found and expected: {dict(list(wrong.items())[:4])} ({where})"
    return len(expected)
