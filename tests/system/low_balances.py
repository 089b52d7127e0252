"""When balances fall to a threshold (docs/credits.md 5.1): worked out from the entries of the ledger, transaction by transaction, and
compared with what weir has noted."""
import collections
from fractions import Fraction

from ledger import query


def _thresholds(document):
    """{(contract, grant or ""): texts} of a catalog."""
    result = collections.defaultdict(set)
    contracts = list(document.get("contracts", []))
    if "default_contract" in document:
        contracts.append({"key": "", **document["default_contract"]})
    for contract in contracts:
        result[contract["key"], ""].update(contract.get("low_balance", ()))
        for terms in [contract, *contract.get("phases", [])]:
            for commitment in terms.get("commitments", []):
                result[contract["key"], commitment["key"]].update(commitment.get("low_balance", ()))
    return result


def _plain(text):
    number, percent = text.rstrip("%"), "%" * text.endswith("%")
    return (number.rstrip("0").rstrip(".") if "." in number else number.lstrip("0") or "0") + percent


def _steps(entries):
    """What a transaction did, by grant, and in all of a contract under (contract, "")."""
    steps = {}
    for place, key in [(entry, key) for entry in entries for key in (entry["grant_key"], "")]:
        step = steps.setdefault((place["contract"], key), {"granted": 0, "change": 0, "entries": []})
        step["granted"] += max(place["amount"], 0) if place["kind"] == "grant" else 0
        step["change"] += place["amount"]
        step["entries"].append(place)
    return steps


def expected(env):
    """{customer: crossings, in order} by the entries, and by the catalogs that were applied before each."""
    catalogs = query(env, "select applied_at, catalog from weir.catalog_versions order by catalog_version")
    ordered = query(env, "select customer, contract, grant_key, low_balance from weir.grant_orders where low_balance is not null")
    entries = query(env, "select xmin::text as transaction, customer, contract, grant_key, number, kind, amount, recorded_at"
                         " from weir.grant_entries order by recorded_at, grant_key, number")
    transactions = collections.defaultdict(list)
    for entry in entries:
        entry["amount"] = Fraction(entry["amount"])
        transactions[entry["customer"], entry["transaction"]].append(entry)
    balances, granted, count = collections.Counter(), collections.Counter(), collections.Counter()
    result = collections.defaultdict(list)
    for (customer, _), batch in transactions.items():
        applied = [row["catalog"] for row in catalogs if row["applied_at"] < batch[0]["recorded_at"]]
        thresholds = _thresholds(applied[-1] if applied else {})
        for row in ordered:
            if row["customer"] == customer:
                thresholds[row["contract"], row["grant_key"]] |= set(row["low_balance"])
        for (contract, grant), step in sorted(_steps(batch).items()):
            place = customer, contract, grant
            before = balances[place] + step["granted"]
            after = balances[place] = balances[place] + step["change"]
            granted[place] += sum(entry["amount"] for entry in step["entries"] if entry["kind"] == "grant")
            cause = min(step["entries"], key=lambda entry: (entry["amount"], entry["grant_key"], entry["number"]))
            fallen = []
            said = thresholds[contract, grant.split("+")[0]] if not grant.endswith("+rollover") else ()  # KEY+2: of a contract's second term
            for text in {_plain(text) for text in said}:
                at = Fraction(text.rstrip("%")) * (Fraction(granted[place]) / 100 if text.endswith("%") else 1)
                if before > at >= after:
                    fallen.append((-at, text))
            for at, text in sorted(fallen):
                count[place, text] += 1
                result[customer].append((contract, grant, text, -at, count[place, text], Fraction(before), Fraction(after), cause["kind"],
                                         cause["grant_key"], cause["number"]))
    return dict(result)


def check(env, where=""):
    """Every crossing that the entries show has its event, once, in order; there is no other. Answers how many."""
    events = query(env, "select * from weir.balance_events order by event")
    assert [event["event"] for event in events] == list(range(1, len(events) + 1)), where
    noted = collections.defaultdict(list)
    for event in events:
        noted[event["customer"]].append((
            event["contract"], event["grant_key"], event["threshold"], Fraction(event["threshold_amount"]), event["crossing"],
            Fraction(event["balance_before"]), Fraction(event["balance_after"]), event["cause"], event["cause_grant"], event["cause_entry"]))
    wanted = expected(env)
    for customer in sorted({*noted, *wanted}):
        assert noted[customer] == wanted.get(customer, []), (customer, [row for row in noted[customer] if row not in wanted.get(customer, [])],
                                                             [row for row in wanted.get(customer, []) if row not in noted[customer]], where)
    return len(events)
