"""Grants at run time, at random: ordered through weir, and told to the model."""
import json

from harness import weir
from ledger import query
from model import catalog as catalogs
from model import exact, instants

DAY = 86400


def _time(seconds):
    return instants.format_utc(seconds)


def _grant(rng, customer, number, start, end, meters):
    starts = rng.randrange(start - 5 * DAY, end)
    order = {"customer": customer, "key": f"order-{number}", "amount": str(rng.choice((3, 40, 700, 20000))), "starts_at": _time(starts),
             "funding": rng.choice(("paid", "free", "promotional"))}
    if order["funding"] == "paid":
        order["price"] = rng.choice((order["amount"], "17.5", "0"))
    if rng.random() < 0.7:
        expires = rng.randrange(starts + 1, end + 10 * DAY)
        order["expires_at"] = _time(expires)
        if rng.random() < 0.5:
            order["rollover_fraction"] = rng.choice(("0.5", "1", "0.333333333333"))
            order["rollover_expires_at"] = _time(rng.randrange(expires + 1, end + 40 * DAY))
    if rng.random() < 0.3:
        order["meters"] = sorted(rng.sample(meters, rng.randrange(1, len(meters) + 1)))
    if rng.random() < 0.4:
        order["priority"] = rng.randrange(-2, 3)
    if number % 2:
        order["low_balance"] = ["0", "50%", order["amount"][0]][:1 + number % 3]
    if rng.random() < 0.5:
        order["overage_multiplier"] = rng.choice(("1.5", "0.9", "0", "1.333333333333"))
    return order


def _buy(rng, catalog, contract, starts, order):
    """Sometimes, where there are packages: the order as one, and what it amounts to and costs."""
    version = contract and catalog.version_at(contract.book, starts // instants.NS)
    packages = [*contract.packages, *version.packages] if version else []
    if order["funding"] != "paid" or not packages or rng.random() < 0.4:
        return order, order
    package = rng.choice(packages)
    del order["price"]
    order["package"] = package["key"]
    package = next(p for p in packages if p["key"] == package["key"])
    if "tiers" not in package:
        del order["amount"]
        if rng.random() < 0.6:
            order["quantity"] = str(rng.choice((1, 2, 30)))
    return order, catalog.bought(contract, order, starts)


def _flags(order):
    for name, value in order.items():
        if name not in ("contract", "end", "at_said"):
            yield f"--{name.replace('_', '-')}={','.join(value) if isinstance(value, list) else value}"


def grant(env, rng, document, count):
    """Orders at most `count` grants, some of them twice; what the model is to be told."""
    catalog = catalogs.Catalog(document)
    rated = query(env, "select customer, extract(epoch from min(window_start))::bigint as start, extract(epoch from max(window_end))::bigint as until"
                       " from weir.rated_windows group by 1 order by 1")
    orders = []
    for number in range(count):
        row = rng.choice(rated)
        order = _grant(rng, row["customer"], number, row["start"], row["until"], [meter.key for meter in catalog.meters])
        starts = instants.parse_rfc3339(order["starts_at"])
        contract = catalog.contract_at(order["customer"], starts // instants.NS)
        order, bought = _buy(rng, catalog, contract, starts, order)
        said = ["grant", "--reason", "at random", "--format", "json", *_flags(order)]
        done = weir(*said, env=env, check=contract is not None)
        assert (done.returncode == 0) == (contract is not None), done.stderr
        if contract is None:
            continue
        assert json.loads(done.stdout)["done"] == "now" and json.loads(done.stdout)["contract"] == contract.key
        if rng.random() < 0.3:
            assert json.loads(weir(*said, env=env).stdout)["done"] == "before"
            assert weir(*said, "--amount", "1", env=env, check=False).returncode == 2
        orders.append({**bought, "contract": contract.key})
    return orders


def end(env, rng, count):
    """Ends at most `count` grants, those of the catalog too; what the model is to be told."""
    open_ones = query(env, """
        select customer, contract, grant_key as key, rolled_from, extract(epoch from starts_at)::bigint as starts,
               case when expires_at < 'infinity' then extract(epoch from expires_at)::bigint end as expires
        from weir.grants g where starts_at = date_trunc('second', starts_at) and not exists (select from weir.grant_entries e
            where (e.customer, e.contract, e.grant_key) = (g.customer, g.contract, g.grant_key)
              and (e.kind in ('expiry', 'void', 'refund') or e.kind = 'rollover' and g.rolled_from is null)) order by 1, 2, 3""")
    orders = []
    for row in rng.sample(open_ones, min(count, len(open_ones))):
        until = min(row["expires"] or row["starts"] + 60 * DAY, row["starts"] + 60 * DAY)
        if until <= row["starts"]:
            continue
        kind = "void" if row["rolled_from"] else rng.choice(("void", "refund"))
        order = {"customer": row["customer"], "contract": row["contract"], "key": row["key"], "end": kind,
                 "at": _time(rng.choice((row["starts"], rng.randrange(row["starts"], until))))}
        said = [kind, "--reason", "at random", "--format", "json", *_flags(order)]
        if order["contract"]:
            said += ["--contract", order["contract"]]
        assert json.loads(weir(*said, env=env).stdout)["done"] == "now"
        if rng.random() < 0.3:
            assert json.loads(weir(*said, env=env).stdout)["done"] == "before"
            other = {"void": "refund", "refund": "void"}[kind]
            assert weir(other, *said[1:], env=env, check=False).returncode == 2
        orders.append(order)
    return orders


def check_balances(env, outcome, where):
    """What is left of each grant is what the model has not drawn, less what its end took; and nothing is left of what has expired."""
    rows = query(env, """
        select g.customer, g.contract, g.grant_key, g.rolled_from, g.expires_at <= (select min(rated_through) from weir.lanes) as is_over, x.ended,
               sum(e.amount) as balance, sum(e.amount) filter (where kind = 'grant' or kind = 'rollover' and g.rolled_from is not null) as granted,
               coalesce(sum(e.amount) filter (where kind in ('drawdown', 'giveback')), 0) as drawn,
               bool_or(kind in ('expiry', 'void', 'refund') or kind = 'rollover' and g.rolled_from is null) as has_ended
        from weir.grants g join weir.grant_entries e using (customer, contract, grant_key)
        left join weir.grant_balances x using (customer, contract, grant_key) group by 1, 2, 3, 4, 5, 6""")
    for row in rows:
        if row["is_over"] or row["ended"]:
            assert row["balance"] == 0, (row, where)
        left = outcome.rating.left.get(row["customer"], {}).get((row["contract"], row["grant_key"]))
        if left is not None and not row["rolled_from"]:
            assert exact.parse(str(row["granted"] + row["drawn"])) == left, (row, left, where)
        assert row["has_ended"] or row["granted"] + row["drawn"] == row["balance"], (row, where)
