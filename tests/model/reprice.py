"""Another catalog for the same usage: other amounts in the same places, so that the same windows cost something else."""
import copy
import random

from .catalog import DRAWDOWN_ORDER
from .random_catalog import money

AMOUNTS = ("unit_price", "flat_fee", "package_price", "rate", "fixed_fee", "amount", "minimum_amount", "maximum_amount")


def reprice(document, seed):
    """A copy of a catalog's document in which about half of all prices, fees, overrides and commitments differ."""
    rng = random.Random(f"reprice {seed}")
    other = copy.deepcopy(document)

    def change(holder, names):
        for name in names:
            if holder.get(name) is not None and rng.random() < 0.5:
                holder[name] = money(rng) if name != "maximum_amount" else str(rng.randrange(1000, 2000))

    for book in other.get("price_books", []):
        for price in book.get("prices", []):
            change(price, [name for name in AMOUNTS if name != "minimum_amount" or "maximum_amount" not in price])
            for tier in price.get("tiers", []):
                change(tier, AMOUNTS)
        for fee in book.get("fees", []):
            change(fee, ("amount",))
    for contract in [terms for contract in other.get("contracts", []) for terms in [contract, *contract.get("phases", [])]]:
        for override in contract.get("overrides", []):
            if rng.random() < 0.5:
                override["multiplier"] = rng.choice(("0", "0.5", "1.25", "2"))
        for commitment in contract.get("commitments", []):
            if rng.random() < 0.5 and commitment["type"] == "minimum_spend":
                commitment["amount"] = str(rng.randrange(1, 1000))
    # From a sequence of its own: what else a seed makes stays as it is.
    more = random.Random(f"reprice commitments {seed}")
    for contract in other.get("contracts", []) + [c for c in (other.get("default_contract"),) if c]:
        _change_commitments(more, contract)
    more = random.Random(f"reprice quantities of terms {seed}")
    for contract in other.get("contracts", []):
        _drop_quantities_of_terms(more, contract)
    more = random.Random(f"reprice drawdown orders {seed}")
    for holder in other.get("price_books", []) + [terms for contract in other.get("contracts", [])
                                                  for terms in [contract, *contract.get("phases", [])]]:
        if more.random() < 0.2:
            holder["drawdown_order"] = more.sample(DRAWDOWN_ORDER, 3)
        for package in holder.get("packages", []):
            for priced in package.get("tiers", [package]):
                if more.random() < 0.3:
                    priced.update({name: money(more, 200) for name in ("price", "unit_price") if name in priced})
    return other


def _change_commitments(rng, contract):
    """Prepaid amounts and minimum quantities that are more, less, others or gone; in all terms that list them alike."""
    holders = [terms for terms in (contract, *contract.get("phases", [])) if "commitments" in terms]
    changed = {}
    for terms in holders:
        kept = []
        for commitment in terms["commitments"]:
            if commitment["type"] == "minimum_quantity" and rng.random() < 0.5:
                commitment["quantity"] = str(rng.randrange(1, 400))
            if commitment["type"] == "prepaid":
                if commitment["key"] not in changed:
                    changed[commitment["key"]] = _change_prepaid(rng, copy.deepcopy(commitment))
                commitment = changed[commitment["key"]] and copy.deepcopy(changed[commitment["key"]])
            if commitment:
                kept.append(commitment)
        terms["commitments"] = kept


def _drop_quantities_of_terms(rng, contract):
    """Minimum quantities of terms that are gone, or of each period by now; in some of the terms that list them."""
    for terms in (contract, *contract.get("phases", [])):
        for commitment in list(terms.get("commitments", ())):
            if commitment["type"] == "minimum_quantity" and commitment["per"] == "term":
                chance = rng.random()
                if chance < 0.2:
                    terms["commitments"].remove(commitment)
                elif chance < 0.3:
                    commitment["per"] = "period"


def _change_prepaid(rng, commitment):
    """Another prepaid amount with the same key; None: there is none any more."""
    chance = rng.random()
    if chance < 0.1:
        return None
    if chance < 0.5 and "package" not in commitment:
        commitment["amount"] = str(rng.choice((1, 20, 500, 20000)))
        if commitment.get("price") and rng.random() < 0.5:
            commitment["price"] = money(rng, 500)
    if rng.random() < 0.2:
        commitment["priority"] = rng.randrange(-2, 3)
    if rng.random() < 0.2:
        commitment["overage_multiplier"] = rng.choice(("1.5", "0.9", "0", "1", "2"))
    for member in ("meters", "starts_at", "expires_at"):  # another access window: other segments
        if rng.random() < 0.1 and "package" not in commitment:
            commitment.pop(member, None)
    if ("expires_at" not in commitment and commitment.get("per") != "term") or rng.random() < 0.2:
        commitment.pop("rollover_fraction", None)
        commitment.pop("rollover_expires_at", None)
        commitment.pop("rollover_months", None)
    return commitment
