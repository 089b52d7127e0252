"""The catalog, and which contract, period, version and price a window finds (docs/rating.md section 3)."""
import dataclasses
import json
import pathlib

from . import exact, instants

TERMS = ("price_book", "prices", "overrides", "commitments", "discounts", "drawdown_order", "packages")  # what a phase may say
DRAWDOWN_ORDER = ("priority", "funding", "meters", "expires_at", "starts_at")  # where nothing is said
MINOR_DIGITS = {"JPY": 0, "KRW": 0, "CLP": 0, "USD": 2, "EUR": 2, "GBP": 2, "CHF": 2, "INR": 2,
                "KWD": 3, "BHD": 3, "TND": 3}


@dataclasses.dataclass(frozen=True)
class Meter:
    key: str
    event_type: str
    aggregation: str
    value: str
    window: str
    group_by: tuple
    where: tuple  # of (path, frozenset of texts)
    rollup_sum: bool
    retractable: bool


@dataclasses.dataclass(eq=False)
class Price:
    meter: str
    when: dict
    body: dict  # the JSON object


@dataclasses.dataclass(eq=False)
class Version:
    version: int
    effective_ns: int
    currency: str
    half_up: bool
    prices: dict  # meter key -> [Price]
    fees: list
    discounts: list
    drawdown_order: object  # None: it does not say
    packages: list


@dataclasses.dataclass(eq=False)
class Contract:
    key: str
    customer: object  # None for the default contract
    book: str
    starts: object  # seconds; None for the default contract
    ends: object  # seconds or None
    billing: str
    anchor: object  # as in the catalog, or None
    timezone: str
    prices: list  # [Price], its own
    multipliers: dict  # meter key -> scaled integer
    commitments: list
    whole_starts: object  # of all phases; as starts
    whole_ends: object
    discounts: object  # None: those of the price book
    drawdown_order: object  # None: the price book's
    packages: list  # its own
    quantities: list  # (seconds, fee, scaled), by time
    renews: int = 0  # months of a term; 0: it has one
    phases: object = None  # all of the contract's, this one among them

    def discounts_of(self, version, meter, start):
        """Those on the meter's prices in the period that begins at `start`, when the book's `version` is in force, in their order."""
        listed = self.discounts if self.discounts is not None else version.discounts if version else []
        return [d for d in listed if d.get("applies_to") != "invoice" and meter in d.get("meters", (meter,)) and _holds(d, start)]

    def invoice_discounts(self, version, start):
        listed = self.discounts if self.discounts is not None else version.discounts if version else []
        return [d for d in listed if d.get("applies_to") == "invoice" and _holds(d, start)]

    def months_on(self, months):
        """Where the first billing period begins that many months after the contract's start, or later."""
        if not months:
            return self.whole_starts
        step = {"month": 1, "quarter": 3, "year": 12}.get(self.billing)
        if not step:  # by the date, and the next period where none begins then
            at = instants.date_later(self.timezone, self.whole_starts, months)
            return at if self.whole_period(at)[0] == at else self.whole_period(at)[1]
        first, after = self.whole_period(self.whole_starts)  # so many whole periods, from the start on or the first after it
        at = first if instants.day_number(self.timezone, first) == instants.day_number(self.timezone, self.whole_starts) else after
        for _ in range(months // step):
            at = self.whole_period(at)[1]
        return at

    def terms(self):
        """(number, start, end) of one after another, to the contract's end; the end may be None."""
        start, number = self.whole_starts, 1
        while self.whole_ends is None or start < self.whole_ends:
            end = self.months_on(number * self.renews) if self.renews else None
            yield number, start, end if self.whole_ends is None else min(end or self.whole_ends, self.whole_ends)
            if end is None:
                return
            start, number = end, number + 1

    def listed_in(self, start, end, key):
        """From when on a phase in that time lists a commitment; None: none does."""
        return next((max(start, phase.starts) for phase in self.phases
                     if (end is None or phase.starts < end) and (phase.ends is None or phase.ends > start)
                     and any(entry["key"] == key for entry in phase.commitments)), None)

    def whole_period(self, seconds):
        return instants.period(self.billing, self.timezone, seconds, self.anchor)

    def period(self, seconds):
        start, end = self.whole_period(seconds)
        if self.starts is not None:
            start = max(start, self.starts)
            end = end if self.ends is None else min(end, self.ends)
        return start, end


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a window's usage is charged: one running total of sections 4 and 5."""
    contract: Contract
    customer: str
    start: int
    end: int
    version: Version
    price: Price


@dataclasses.dataclass(frozen=True)
class Unpriced:
    reason: str
    contract: object  # None without a contract
    start: int
    end: int


def _seconds(text):
    if text is None:
        return None
    nanoseconds = instants.parse_rfc3339(text)
    if nanoseconds is None or nanoseconds % instants.NS:
        raise ValueError(f"the model takes whole seconds only, not {text!r}")
    return nanoseconds // instants.NS


def _holds(discount, start):
    """Whether it is for the billing period that begins at `start`."""
    return (_seconds(discount.get("starts_at")) or 0) <= start and (
        discount.get("ends_at") is None or start < _seconds(discount["ends_at"]))


def _contract(entry, default=False):
    starts = None if default else _seconds(entry["starts_at"])
    return Contract(
        key="" if default else entry["key"], customer=None if default else entry["customer"],
        book=entry["price_book"], starts=starts, whole_starts=starts, whole_ends=_seconds(entry.get("ends_at")),
        ends=_seconds(entry.get("ends_at")), billing=entry["billing_period"], anchor=entry.get("billing_anchor"),
        timezone=entry["timezone"],
        prices=[Price(p["meter"], p.get("when", {}), p) for p in entry.get("prices", [])],
        multipliers={o["meter"]: exact.parse(o["multiplier"]) for o in entry.get("overrides", [])},
        commitments=entry.get("commitments", []), discounts=entry.get("discounts"), drawdown_order=entry.get("drawdown_order"),
        renews=entry.get("renews", {}).get("months", 0), packages=entry.get("packages", []),
        quantities=sorted((_seconds(q["effective_from"]), q["fee"], exact.parse(q["quantity"])) for q in entry.get("quantities", [])))


def _phases(contract, entry):
    """A contract as one for each stretch of time with the same terms (docs/rating.md 3.1)."""
    found = [contract]
    for phase in entry.get("phases", []):
        before = found[-1]
        terms = {**entry, **{name: value for name, value in phase.items() if name in TERMS}}
        entry = terms
        found[-1] = dataclasses.replace(before, ends=_seconds(phase["starts_at"]))
        found.append(dataclasses.replace(_contract(terms), starts=_seconds(phase["starts_at"])))
    for phase in found:
        phase.phases = found
    return found


class Catalog:
    def __init__(self, document):
        self.meters = [
            Meter(m["key"], m["event_type"], m["aggregation"], m.get("value"), m["window"],
                  tuple(m.get("group_by", [])),
                  tuple((path, frozenset(texts)) for path, texts in m.get("where", {}).items()),
                  m.get("rollup") == "sum",
                  m.get("retractable", m["aggregation"] in ("count", "sum", "avg")))
            for m in document.get("meters", [])]
        self.meter_of_key = {meter.key: meter for meter in self.meters}
        self.books = {}
        for book in document.get("price_books", []):
            prices = {}
            for price in book.get("prices", []):
                prices.setdefault(price["meter"], []).append(Price(price["meter"], price.get("when", {}), price))
            self.books.setdefault(book["key"], []).append(Version(
                book["version"], instants.parse_rfc3339(book["effective_from"]), book["currency"],
                book.get("rounding") == "half_up", prices, book.get("fees", []), book.get("discounts", []),
                book.get("drawdown_order"), book.get("packages", [])))
        for versions in self.books.values():
            versions.sort(key=lambda version: version.effective_ns)
        self.contracts = [phase for entry in document.get("contracts", []) for phase in _phases(_contract(entry), entry)]
        self.of_customer = {}
        for contract in self.contracts:
            self.of_customer.setdefault(contract.customer, []).append(contract)
        self._price_packages()
        default = document.get("default_contract")
        self.default = _contract(default, default=True) if default else None

    def bought(self, contract, entry, time):
        """A prepaid amount that is bought as a package, with its `amount` and `price`; any other as it is."""
        if "package" not in entry or "price" in entry:
            return entry
        version = self.version_at(contract.book, time // instants.NS)
        package = next(p for p in [*contract.packages, *version.packages] if p["key"] == entry["package"])
        if "tiers" in package:
            amount = exact.parse(entry["amount"])
            tier = next(t for t in package["tiers"] if t["up_to"] is None or amount <= exact.parse(t["up_to"]))
            price = exact.multiply(amount, exact.parse(tier["unit_price"]))
        else:
            count = int(entry.get("quantity", "1"))
            amount, price = exact.parse(package["amount"]) * count, exact.parse(package["price"]) * count
        return {**entry, "amount": exact.fixed(amount), "price": exact.invoice(price, MINOR_DIGITS[version.currency], version.half_up)}

    def _price_packages(self):
        """Each purchase at the price of the first terms that list it, when it starts."""
        bought = {}
        for contract in self.contracts:
            listed = []
            for entry in contract.commitments:
                if "package" in entry:
                    starts = max(contract.starts * instants.NS, instants.parse_rfc3339(entry["starts_at"]) if "starts_at" in entry else 0)
                    if (contract.key, entry["key"]) not in bought:  # later terms may have no version in force then
                        bought[contract.key, entry["key"]] = self.bought(contract, entry, starts)
                    entry = bought[contract.key, entry["key"]]
                listed.append(entry)
            contract.commitments = listed

    def contract_at(self, customer, seconds):
        for contract in self.of_customer.get(customer, ()):
            if contract.starts <= seconds and (contract.ends is None or seconds < contract.ends):
                return contract
        return self.default

    def version_at(self, book, seconds):
        found = None
        for version in self.books[book]:
            if version.effective_ns <= seconds * instants.NS:
                found = version
        return found

    def drawdown_order(self, contract, start):
        """By which keys grants are drawn down in the period that begins at `start`."""
        version = self.version_at(contract.book, start)
        return contract.drawdown_order or (version and version.drawdown_order) or DRAWDOWN_ORDER

    def prices_in_force(self, contract, version):
        """What a split can find: the contract's own prices, and those of the book that some split finds no own one for."""
        def is_free(price):
            return not any(own.meter == price.meter and own.when.items() <= price.when.items() for own in contract.prices)
        return contract.prices + [p for prices in version.prices.values() for p in prices if is_free(p)]

    def price_of(self, contract, version, meter, texts):
        """The price that a split finds in a version."""
        best = None
        dimensions = dict(zip(meter.group_by, texts))
        own = [price for price in contract.prices if price.meter == meter.key]
        for prices in (own, version.prices.get(meter.key, ())):
            for price in prices:
                if all(dimensions.get(name) == text for name, text in price.when.items()):
                    if best is None or len(price.when) > len(best.when):
                        best = price
            if best is not None:
                break
        return best

    def place(self, customer, meter, texts, start):
        """Place of the window that begins at `start`, or why it has none."""
        contract = self.contract_at(customer, start)
        if contract is None:
            return Unpriced("no_contract", None, 0, 0)
        begin, end = contract.period(start)
        version = self.version_at(contract.book, start)
        best = None if version is None else self.price_of(contract, version, meter, texts)
        if best is None:
            return Unpriced("no_price", contract, begin, end)
        return Place(contract, customer, begin, end, version, best)


def load(path):
    """A file, or every .json file of a folder, merged."""
    path = pathlib.Path(path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    merged = {}
    for file in files:
        for name, value in json.loads(file.read_text(encoding="utf-8")).items():
            if name == "$schema":  # for editors
                continue
            if isinstance(value, list):
                merged.setdefault(name, []).extend(value)
            elif name in merged:
                raise ValueError(f"{file}: a second {name}")
            else:
                merged[name] = value
    return Catalog(merged)
