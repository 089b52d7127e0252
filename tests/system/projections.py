"""What `weir balance --projected` says would be left of each grant, held against what is left once all windows are closed and rated."""
import json

from harness import assert_same, weir
from ledger import query
from model import catalog as catalogs
from model import exact

ENDS = "('expiry', 'void', 'refund')"


def read(env):
    """({(customer, contract, grant): (what the ledger has, what would be left)}, the windows that it rests on)"""
    done = weir("balance", "--projected", "--format", "json", env=env)
    said = dict(pair.split(b"=") for pair in done.stderr.splitlines()[-1].split() if b"=" in pair)
    assert said[b"held"] == said[b"refused"] == b"0", done.stderr
    rows = [row for row in map(json.loads, done.stdout.splitlines()) if row["grant"]]
    return ({(row["customer"], row["contract"], row["grant"]): (exact.parse(row["balance"]), exact.parse(row["projected"])) for row in rows},
            int(said[b"windows"]))


def entries(env):
    """{(customer, contract, grant): (what is left of what came in, the whole of its entries, whether its end is among them)}"""
    rows = query(env, f"""
        select customer, contract, grant_key, bool_or(kind in {ENDS} or kind = 'rollover' and rolled_from is null) as has_ended, sum(amount) as balance,
               coalesce(sum(amount) filter (where kind in ('grant', 'drawdown', 'giveback') or kind = 'rollover' and rolled_from is not null), 0) as unused
        from weir.grant_entries join weir.grants using (customer, contract, grant_key) group by 1, 2, 3""")
    return {(row["customer"], row["contract"], row["grant_key"]): (exact.parse(str(row["unused"])), exact.parse(str(row["balance"])), row["has_ended"])
            for row in rows}


def _of_periods_ends(document):
    """Contracts in which the end of a period changes what is charged: missing quantities, flat fees without usage, discounts on the invoice."""
    catalog = catalogs.Catalog(document)
    for contract in [*catalog.contracts, *filter(None, [catalog.default])]:
        versions = catalog.books[contract.book]
        prices = [*contract.prices, *(price for version in versions for listed in version.prices.values() for price in listed)]
        discounts = contract.discounts if contract.discounts is not None else [one for version in versions for one in version.discounts]
        if (any(entry["type"] == "minimum_quantity" for entry in contract.commitments)
                or any(tier.get("flat_fee_at_zero") for price in prices for tier in price.body.get("tiers", ()))
                or any(discount.get("applies_to") == "invoice" for discount in discounts)):
            yield contract.key


def check(document, before, projected, after, where):
    """before, after: entries() when it was asked for, and when all was rated. What expired meanwhile is left out of a projection, but where
    usage would be drawn from what went on: then the end of its source is known. Answers of how many grants something was left to draw."""
    late, expected = set(_of_periods_ends(document)), {}
    for place, (unused, _balance, _has_ended) in after.items():
        went_on = (*place[:2], place[2] + "+rollover") in projected
        expected[place] = 0 if went_on or before.get(place, (0, 0, False))[2] else unused
    found = {place: left for place, (_balance, left) in projected.items() if place[1] not in late}
    assert_same("projections", found, {place: expected.get(place) for place in found}, where)
    assert_same("balances beside them", {place: balance for place, (balance, _left) in projected.items() if balance},
                {place: balance for place, (_unused, balance, _has_ended) in before.items() if balance}, where)
    return sum(left != projected[place][0] for place, left in found.items())
