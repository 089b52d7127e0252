"""Terms that change after something was settled by them: what a later word of the catalog gives back stays given back."""
import csv
import io
import json
import re

import pytest
from harness import weir
from ledger import query
from test_random_pipeline import count_what_is_there

LIST = {"key": "list", "version": 1, "currency": "USD", "effective_from": "2026-01-01T00:00:00Z",
        "prices": [{"meter": "calls", "model": "per_unit", "unit_price": "1"}]}


class Site:
    """One ledger: events go the whole way, catalogs are applied, and the ledger is asked."""

    def __init__(self, servers, folder, name):
        self.env = {**servers.room(name, partitions=1), "WEIR_LATENESS": "87600h", "WEIR_KAFKA_GROUP": name}
        self.folder, self.events = folder, 0

    def apply(self, catalog, *arguments, check=True):
        (self.folder / "catalog.json").write_text(json.dumps(catalog), encoding="utf-8")
        return weir("apply", "--catalog", self.folder / "catalog.json", *arguments, env=self.env, check=check)

    def use(self, *usage):
        """Each of usage: customer, time, how many; none: what there is is rated."""
        lines = []
        for customer, time, count in usage:
            self.events += 1
            lines.append(json.dumps({"specversion": "1.0", "id": str(self.events), "source": "s", "type": "call",
                                     "subject": customer, "time": time, "data": {"n": count}}))
        if usage:
            (self.folder / "events.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")
            weir("produce", self.folder / "events.ndjson", env=self.env)
            count_what_is_there(self.env)  # --until-end would close all there is
        weir("rater", "--until-done", env=self.env)

    def balance(self, grant="credit"):
        told = weir("balance", "--customer", "acme", "--format", "csv", env=self.env).stdout.decode()
        return [(float(row["balance"]), float(row["lost"]), row["state"])
                for row in csv.DictReader(io.StringIO(told)) if row["grant"] == grant]

    def entries(self):
        return query(self.env, "select count(*) as n from weir.grant_entries")[0]["n"]


@pytest.fixture
def site(servers, tmp_path, request):
    return Site(servers, tmp_path, re.sub("[^a-z0-9]+", "-", request.node.name)[5:60].strip("-"))


def catalog(commitments=(), books=(LIST,), **contract):
    return {"meters": [{"key": "calls", "event_type": "call", "aggregation": "sum", "value": "data.n", "window": "1h"}],
            "price_books": list(books),
            "contracts": [{"key": "acme-1", "customer": "acme", "price_book": "list", "starts_at": "2026-01-01T00:00:00Z",
                           "billing_period": "month", "timezone": "UTC", "commitments": list(commitments), **contract}]}


def credit(**more):
    return {"key": "credit", "type": "prepaid", "amount": "100", **more}


SPRING = (("acme", "2026-01-05T10:00:00Z", 10), ("acme", "2026-07-06T10:00:00Z", 10), ("zed", "2026-08-06T10:00:00Z", 5))
AUTUMN = (("acme", "2026-09-06T10:00:00Z", 20), ("zed", "2026-10-06T10:00:00Z", 5))


def test_what_a_rerating_gives_back_is_there_for_the_next_window(site):
    site.apply(catalog([credit(expires_at="2026-08-01T00:00:00Z")]))
    site.use(*SPRING)
    assert site.balance() == [(0, 80, "expired")]
    site.apply(catalog([credit(expires_at="2199-01-01T00:00:00Z")]), "--rerate")
    weir("rerate", "--reason", "longer", env=site.env)
    assert site.balance() == [(80, 0, "active")]
    site.use(*AUTUMN)
    assert site.balance() == [(60, 0, "active")]


def test_an_end_that_is_taken_back_gives_back_what_was_lost_by_it(site):
    kept = {"rollover_fraction": "0.5", "rollover_expires_at": "2199-06-01T00:00:00Z"}
    site.apply(catalog([credit(**kept, expires_at="2199-01-01T00:00:00Z")]))
    site.use(*SPRING)
    site.apply(catalog([credit(**kept, expires_at="2026-08-01T00:00:00Z")]), "--rerate")
    weir("rerate", "--reason", "shorter", env=site.env)
    site.use()
    assert site.balance() == [(0, 40, "expired")] and site.balance("credit+rollover")[0][0] == 40
    site.apply(catalog([credit(**kept, expires_at="2199-01-01T00:00:00Z")]), "--rerate")
    site.use(*AUTUMN)  # no rerating: who draws next finds it
    assert site.balance() == [(60, 0, "active")] and site.balance("credit+rollover")[0][0] == 0


def test_a_contract_that_goes_on_keeps_what_was_bought_for_it(site):
    goes_on, ends = catalog([credit()]), catalog([credit()], ends_at="2026-08-01T00:00:00Z")
    site.apply(goes_on)
    weir("grant", "--customer", "acme", "--contract", "acme-1", "--key", "bought", "--amount", "50", "--price", "40",
         "--funding", "paid", "--starts-at", "2026-01-01T00:00:00Z", "--reason", "more", env=site.env)
    site.use(*SPRING)
    site.apply(ends)
    site.use()
    assert site.balance()[0][0] == site.balance("bought")[0][0] == 0
    site.apply(goes_on)
    site.use(*AUTUMN)
    assert site.balance()[0][1] == site.balance("bought")[0][1] == 0
    assert site.balance()[0][0] + site.balance("bought")[0][0] == 110
    before = site.entries()
    weir("rerate", "--reason", "nothing changed", env=site.env)
    site.use()
    assert site.entries() == before
    weir("refund", "--customer", "acme", "--key", "bought", "--reason", "not needed", env=site.env)


@pytest.mark.parametrize("months", (1, 5))
def test_a_rerating_leaves_grants_of_ended_terms_as_they_are(site, months):
    site.apply(catalog([credit(per="term", months=months)], renews={"months": 6}))
    site.use(*SPRING)
    before, balance = site.entries(), site.balance()
    assert balance[0][2] == "expired"
    for _ in range(2):
        weir("rerate", "--reason", "nothing changed", env=site.env)
        site.use()
        assert (site.entries(), site.balance()) == (before, balance)


def test_a_contract_that_comes_late_leaves_nothing_of_the_default_one(site):
    books = [{**LIST, "fees": [{"key": "platform", "amount": "99", "per": "period", "charged": "in_advance"}]},
             {**LIST, "key": "deal", "fees": [{"key": "base", "amount": "50", "per": "period", "charged": "in_advance"}]}]
    default = {"default_contract": {"price_book": "list", "billing_period": "month", "timezone": "UTC"}}
    late = {**catalog(books=books, price_book="deal", starts_at="2026-03-01T00:00:00Z"), **default}
    site.apply({**late, "contracts": []})
    site.use(("acme", "2026-02-05T10:00:00Z", 10), ("acme", "2026-03-05T10:00:00Z", 10), ("zed", "2026-03-06T10:00:00Z", 5))
    site.apply(late, "--rerate")
    weir("rerate", "--reason", "late contract", env=site.env)
    site.use()
    charged = {(row["contract"], row["item"]): float(row["amount"]) for row in query(
        site.env, "select contract, item, sum(amount) as amount from weir.line_items where customer = 'acme' group by 1, 2")}
    assert {key: amount for key, amount in charged.items() if amount} == {
        ("", "platform"): 99, ("", "calls"): 10, ("acme-1", "base"): 50, ("acme-1", "calls"): 10}
    again = weir("rerate", "--dry-run", "--format", "json", env=site.env)
    assert b"changed=0 " in again.stderr


def test_seats_said_later_for_a_period_that_was_charged_are_charged_when_it_ends(site):
    books = [{**LIST, "fees": [{"key": "seat", "unit_price": "20", "per": "period", "charged": "in_advance"}]}]
    seats = [{"fee": "seat", "effective_from": "2026-03-01T00:00:00Z", "quantity": "10"}]
    more = [*seats, {"fee": "seat", "effective_from": "2026-04-01T00:00:00Z", "quantity": "12"}]
    site.apply(catalog(books=books, quantities=seats, starts_at="2026-03-01T00:00:00Z"))
    site.use(("acme", "2026-03-05T10:00:00Z", 1), ("acme", "2026-04-02T10:00:00Z", 1))
    site.apply(catalog(books=books, quantities=more, starts_at="2026-03-01T00:00:00Z"))
    site.use(("acme", "2026-05-03T10:00:00Z", 1))
    charged = query(site.env, "select to_char(period_start at time zone 'UTC', 'MM') as month, sum(amount)::int as amount"
                              " from weir.line_items where item = 'seat' group by 1 order by 1")
    assert [(row["month"], row["amount"]) for row in charged] == [("03", 200), ("04", 240), ("05", 240)]
    assert b"changed=0 " in weir("rerate", "--dry-run", env=site.env).stderr
