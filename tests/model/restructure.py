"""Another catalog for the same customers: not other amounts (reprice.py) but other terms. Versions of price books, phases, ends, starts,
renewals, seats, discounts, commitments, calendars, contracts that come, go, or follow one another."""
import copy

from . import instants
from . import random_catalog as made

DAY = 86400


def _text(seconds):
    return instants.format_utc(seconds)


def _period_starts(contract, start, end):
    """Some within the case, after the contract's own start."""
    begins = made._parse(contract["starts_at"])
    until = min(end + 10 * DAY, made._parse(contract["ends_at"]) if contract.get("ends_at") else end + 10 * DAY)
    at, found = max(begins, start - 10 * DAY), []
    while at < until and len(found) < 60:
        first, at = instants.period(contract["billing_period"], contract["timezone"], at, contract.get("billing_anchor"))
        if first > begins:
            found.append(first)
    return found


class _Restructuring:
    """One copy of a document; each method changes one thing of it, or finds nothing to change and answers False."""

    def __init__(self, rng, document, start, end):
        self.rng, self.document, self.start, self.end = rng, copy.deepcopy(document), start, end
        self.contracts = self.document["contracts"]
        self.meters = [meter["key"] for meter in self.document["meters"]]

    def _versions(self, book):
        return [version for version in self.document["price_books"] if version["key"] == book]

    def _contract(self, having=None):
        fitting = [contract for contract in self.contracts if not having or contract.get(having)]
        return self.rng.choice(fitting) if fitting else None

    def _time(self, contract=None, of_ten=4):
        """Anywhere around the case; `of_ten` of ten times where a billing period of the contract begins."""
        starts = _period_starts(contract, self.start, self.end) if contract else ()
        if starts and self.rng.random() < of_ten / 10:
            return self.rng.choice(starts)
        return self.rng.randrange(self.start - 5 * DAY, self.end + 5 * DAY)

    def version(self):
        book = self.rng.choice(self.document["price_books"])["key"]
        last = max(self._versions(book), key=lambda version: version["version"])
        new = copy.deepcopy(self.rng.choice(self._versions(book)))
        new["version"] = last["version"] + 1
        new["effective_from"] = _text(max(made._parse(last["effective_from"]) + 1, self._time(self._contract(), 3)))
        for item in (*new["prices"], *new.get("fees", ())):
            for name in ("unit_price", "amount", "package_price"):
                if name in item:
                    item[name] = made.money(self.rng)
        self.document["price_books"].append(new)

    def fee(self):
        fees = [fee for version in self.document["price_books"] for fee in version.get("fees", ())]
        if not fees:
            return False
        fee = self.rng.choice(fees)
        fee["amount" if "amount" in fee else "unit_price"] = made.money(self.rng)

    def rounding(self):
        rounding = self.rng.choice(("half_up", "half_even"))
        for version in self._versions(self.rng.choice(self.document["price_books"])["key"]):
            version["rounding"] = rounding

    def ends(self):
        contract = self._contract()
        at = self._time(contract, 5) if contract else 0
        at -= at % 3600
        if not contract or at <= made._parse(contract["starts_at"]):
            return False
        contract["ends_at"] = self.rng.choice((None, _text(at), _text(at)))

    def starts(self):
        contract = self._contract()
        if not contract:
            return False
        contract["starts_at"] = _text(max(0, made._parse(contract["starts_at"]) + DAY * self.rng.choice((-30, -7, -1, 1, 2))))

    def renews(self):
        contract = self._contract()
        if not contract:
            return False
        if contract.pop("renews", None) and self.rng.random() < 0.4:
            return True
        step = {"quarter": 3, "year": 12}.get(contract["billing_period"], 1)
        contract["renews"] = {"months": step * self.rng.choice((1, 2, 3))}

    def calendar(self):
        contract = self._contract()
        if not contract:
            return False
        contract.pop("billing_anchor", None)
        contract["billing_period"] = self.rng.choice(("week", "month", "quarter", "year"))
        if contract["billing_period"] == "month":
            contract["billing_anchor"] = self.rng.choice((1, 15, 31))

    def quantities(self):
        seats = [(contract, fee["key"]) for contract in self.contracts for version in self._versions(contract["price_book"])
                 for fee in version.get("fees", ()) if "unit_price" in fee]
        if not seats:
            return False
        contract, fee = self.rng.choice(seats)
        said = contract.setdefault("quantities", [])
        if said and self.rng.random() < 0.3:
            said.pop(self.rng.randrange(len(said)))
        else:
            said.append({"fee": fee, "effective_from": _text(self._time(contract)), "quantity": made.quantity(self.rng, 50)})

    def phase(self):
        contract = self._contract()
        starts = _period_starts(contract, self.start, self.end) if contract else ()
        if not starts:
            return False
        phases = contract.setdefault("phases", [])
        new = {"key": f"new-{len(phases)}", "starts_at": _text(self.rng.choice(starts)),
               **self.rng.choice(({"discounts": made._discounts(self.rng, "new-", self.meters, self.start, self.end)},
                                  {"commitments": [self._floor()]}, {"drawdown_order": ["priority"]},
                                  {"price_book": self.rng.choice(self.document["price_books"])["key"]}))}
        contract["phases"] = sorted([*phases, new], key=lambda phase: made._parse(phase["starts_at"]))

    def phase_dropped(self):
        contract = self._contract("phases")
        if not contract:
            return False
        contract["phases"].pop(self.rng.randrange(len(contract["phases"])))

    def phase_moved(self):
        contract = self._contract("phases")
        starts = _period_starts(contract, self.start, self.end) if contract else ()
        if not starts:
            return False
        self.rng.choice(contract["phases"])["starts_at"] = _text(self.rng.choice(starts))

    def discount(self):
        holder = self.rng.choice([*self.contracts, *self.document["price_books"]])
        kept = holder.get("discounts", []) if self.rng.random() < 0.5 else []
        holder["discounts"] = kept + made._discounts(self.rng, "new-", self.meters, self.start, self.end)[:1]

    def override(self):
        contract = self._contract()
        if not contract:
            return False
        priced = {price["meter"] for version in self._versions(contract["price_book"]) for price in version["prices"]}
        free = sorted(priced - {price["meter"] for price in contract.get("prices", ())})
        if not free:
            return False
        contract["overrides"] = [{"meter": self.rng.choice(free), "multiplier": "0.7"}]

    def _floor(self):
        return {"key": "new-floor", "type": "minimum_spend", "amount": made.quantity(self.rng, 2000), "per": "period"}

    def minimum(self):
        contract = self._contract()
        if not contract:
            return False
        others = [item for item in contract.get("commitments", ()) if item["type"] != "minimum_spend"]
        contract["commitments"] = [*others, self._floor()]

    def prepaid(self):
        contract = self._contract()
        if not contract:
            return False
        starts = max(self._time(), made._parse(contract["starts_at"]))
        contract.setdefault("commitments", []).append(
            {"key": "new-credit", "type": "prepaid", "amount": made.quantity(self.rng, 500), "starts_at": _text(starts)})

    def default(self):
        contract = self.document.get("default_contract")
        if not contract:
            return False
        if self.rng.random() < 0.5:
            contract["price_book"] = self.rng.choice(self.document["price_books"])["key"]
        else:
            contract.setdefault("commitments", []).append({"key": "new-gift", "type": "prepaid", "amount": "40", "funding": "free"})

    def contract_dropped(self):
        contract = self._contract()
        if not contract:
            return False
        self.contracts.remove(contract)

    def contract_added(self):
        """Behind all that its customer has."""
        contract = self._contract()
        last = [other.get("ends_at") for other in self.contracts if contract and other["customer"] == contract["customer"]]
        if not contract or None in last:
            return False
        new = {name: copy.deepcopy(value) for name, value in contract.items() if name not in ("phases", "quantities")}
        self.contracts.append({**new, "key": "new", "ends_at": None, "starts_at": max(last, key=made._parse)})


CHANGES = ("version", "version", "fee", "rounding", "ends", "ends", "starts", "renews", "calendar", "quantities", "quantities", "phase", "phase_dropped",
           "phase_moved", "discount", "override", "minimum", "prepaid", "default", "contract_dropped", "contract_added")


def restructure(rng, document, start, end):
    """A copy with one or two changes, not all of which a catalog may have; and which ones."""
    changed = _Restructuring(rng, document, start, end)
    names = [name for name in rng.choices(CHANGES, k=rng.choice((1, 1, 2))) if getattr(changed, name)() is not False]
    return changed.document, names
