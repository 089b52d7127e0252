"""Closing and invoices by the rules of docs/invoices.md, line item by line item: no ranges, no SQL.

Amounts and quantities are integers of 10^-12. Times are any ordered numbers; `day_end` says where a day ends for a contract."""
import collections
import dataclasses
import itertools

LINE = ("kind", "item", "meter", "price_book", "price_book_version", "model", "component", "tier", "unit_price")
KINDS = ("advance", "period", "correction")
ORDER = ("fee", "usage", "overage", "true_up", "adjustment", "drawdown")


@dataclasses.dataclass
class Item:
    """A line item: what it is charged for, and where it stands in the ledger."""
    number: int
    contract: str
    start: object
    end: object
    currency: str
    line: tuple  # the values of LINE
    quantity: int
    amount: int
    advance_at: object = None  # charged in advance: when
    is_rerated: bool = False


@dataclasses.dataclass
class Period:
    end: object
    is_settled: bool = False
    obstacle: bool = False  # an open gap, or a held window


@dataclasses.dataclass
class Invoice:
    contract: str
    kind: str
    start: object
    end: object
    currency: str
    items: list
    state: str = "draft"
    number: int = 0
    credit_note: int = 0
    lines: list = dataclasses.field(default_factory=list)
    amount: int = 0
    total: int = 0


def rounded(amount, places, half_up):
    """To `places`, as integers of 10^-12."""
    unit = 10 ** (12 - places)
    whole, rest = divmod(abs(amount), unit)
    if 2 * rest > unit or (2 * rest == unit and (half_up or whole % 2)):
        whole += 1
    return whole * unit * (1 if amount >= 0 else -1)


class Books:
    """One customer's periods, line items and invoices. Numbers are shared by all customers of a series."""

    def __init__(self, series, price_books, day_end):
        self.series, self.price_books, self.day_end = series, price_books, day_end
        self.items, self.invoices = [], []
        self.periods = collections.defaultdict(dict)  # contract -> start -> Period

    # 1. what is where
    def live(self):
        return [invoice for invoice in self.invoices if invoice.state != "void"]

    def free(self):
        taken = {item.number for invoice in self.live() for item in invoice.items}
        return [item for item in self.items if item.number not in taken]

    def has_invoice(self, contract, start, currency=None):
        return any(i.kind == "period" and (i.contract, i.start) == (contract, start) and currency in (None, i.currency) for i in self.live())

    def blocked(self, contract, start):
        period = self.periods[contract].get(start)
        return period is not None and (not period.is_settled or period.obstacle)

    def advance_at(self, item):
        """None also where its period is no more."""
        return item.advance_at if item.start in self.periods[item.contract] else None

    def instant(self, invoice):
        """What is to be invoiced by then stands on it."""
        return invoice.start if invoice.kind == "advance" else invoice.end

    def can_be_final(self, invoice, through):
        return self.instant(invoice) <= self.day_end(invoice.contract, through) and (
            invoice.kind == "advance" or not self.blocked(invoice.contract, invoice.start))

    # 2. closing
    def drop_old_drafts(self, through):
        free = self.free()
        for draft in [i for i in self.invoices if i.state == "draft"]:
            if self.can_be_final(draft, through) and any(self.would_hold(draft, item) for item in free):
                draft.state = "void"

    def would_hold(self, draft, item):
        if (item.contract, item.currency) != (draft.contract, draft.currency):
            return False
        at = self.advance_at(item)
        if at is None:
            return draft.kind != "advance" and item.start <= draft.start
        return draft.kind != "correction" and at == self.instant(draft)

    def ready(self, contract, through):
        starts, held_back = [], False
        for start, period in sorted(self.periods[contract].items()):
            if period.end > self.day_end(contract, through):
                continue
            if self.blocked(contract, start):
                held_back = held_back or not self.has_invoice(contract, start)
            elif not held_back:
                starts.append(start)
        return starts

    def close(self, through, is_draft):
        self.drop_old_drafts(through)
        made = collections.defaultdict(list)
        left = collections.defaultdict(list)
        ready = {contract: self.ready(contract, through) for contract in {item.contract for item in self.items}}
        for item in self.free():
            at, periods = self.advance_at(item), self.periods[item.contract]
            waiting = [start for start in ready[item.contract] if not self.has_invoice(item.contract, start, item.currency)]
            target = next((start for start in waiting if (start >= item.start if at is None else periods[start].end == at)), None)
            if target is not None:
                made[item.contract, "period", target, periods[target].end, item.currency].append(item)
            elif at is not None:
                if at <= self.day_end(item.contract, through) and not any(
                        period.end == at and not self.has_invoice(item.contract, start, item.currency) for start, period in periods.items()):
                    made[item.contract, "advance", at, self.end_of(item), item.currency].append(item)
            elif self.is_over(item, through):
                left[item.contract, item.currency].append(item)
        for (contract, currency), items in left.items():
            made[contract, "correction", max(item.start for item in items), max(self.end_of(item) for item in items), currency] = items
        new = [Invoice(*key, sorted(items, key=lambda item: item.number)) for key, items in made.items()]
        for invoice in sorted(new, key=lambda i: (self.instant(i), i.contract, KINDS.index(i.kind), i.currency, i.start)):
            self.make(invoice)
        for invoice in sorted(self.live(), key=lambda i: (self.instant(i), i.contract, self.invoices.index(i))):
            if invoice.state == "draft" and not is_draft and self.can_be_final(invoice, through):
                self.finalize(invoice)

    def end_of(self, item):
        period = self.periods[item.contract].get(item.start)
        return period.end if period else item.end

    def is_over(self, item, through):
        """No further period of its contract came in as long as the item's own took."""
        waiting = [start for start in self.periods[item.contract] if start >= item.start and not self.has_invoice(item.contract, start, item.currency)]
        end = self.end_of(item)
        return not waiting and not self.blocked(item.contract, item.start) and end + (end - item.start) <= self.day_end(item.contract, through)

    # 3. one invoice
    def is_adjustment(self, invoice, item):
        """For a period before the invoice's; or a rerating of what was invoiced in advance of that."""
        if invoice.kind != "period" or item.start < invoice.start:
            return invoice.kind == "correction" or invoice.kind == "period"
        return item.start == invoice.start and item.is_rerated and item.line[0] == "fee" and any(
            (i.contract, i.currency) == (invoice.contract, invoice.currency) and (i.kind, i.start) != ("period", invoice.start)
            and any(key[:2] == (False, item.start) and key[2:4] == ("fee", item.line[1]) for key, *_ in i.lines) for i in self.live())

    def make(self, invoice):
        groups = collections.defaultdict(list)
        for item in invoice.items:
            groups[(self.is_adjustment(invoice, item), item.start) + item.line].append(item)
        exact = {key: (sum(i.quantity for i in items), sum(i.amount for i in items)) for key, items in groups.items()}
        for key, (quantity, amount) in exact.items():
            if quantity or amount:
                places, half_up = self.price_books[key[2 + LINE.index("price_book")]]
                invoice.lines.append((key, quantity, amount, rounded(amount, places, half_up)))
        invoice.amount = sum(line[2] for line in invoice.lines)
        books = [self.price_books[line[0][2 + LINE.index("price_book")]] for line in invoice.lines]
        invoice.total = rounded(invoice.amount, books[0][0] if books else 2, all(half_up for _places, half_up in books))
        self.invoices.append(invoice)

    def finalize(self, invoice):
        invoice.state, invoice.number = "final", next(self.series["INV"])

    def void(self, invoice):
        if invoice.state == "final":
            invoice.credit_note = next(self.series["INV-CN"])
        invoice.state = "void"


def new_series():
    return {"INV": itertools.count(1), "INV-CN": itertools.count(1)}
