"""Another catalog for the same usage: other amounts in the same places, so that the same windows cost something else."""
import copy
import random

from .random_catalog import money

AMOUNTS = ("unit_price", "flat_fee", "package_price", "rate", "fixed_fee", "amount", "minimum_amount", "maximum_amount")


def reprice(document, seed):
    """A copy of a catalog's document in which about half of all prices, fees, overrides and minimum spends differ."""
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
    return other
