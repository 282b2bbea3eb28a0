"""Restricted lots: only requests of the named models, groups or tags use them, in the order of their priority."""

from __future__ import annotations

import hashlib
import json
import threading
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing.ledger import Ledger, Restriction, ShortfallError
from brivionix_billing.ledger.coverage import Coverage
from brivionix_billing.times import Period
from ledger_kit import BOOK, NOW, available, body, charge, got, later, quote, refused, schema, with_credits
from profiles import examples

MINI = Restriction(models=["gpt-5.4-mini"])


@pytest.fixture
def ledger() -> Ledger:
    """Return an account with 10 Credits for one model and 20 for all."""
    ledger = with_credits(Ledger.open("sqlite://", BOOK), "17")
    ledger.grant("acct", "10", reason="trial", id="mini", at=NOW, only=MINI)
    return ledger


def remaining(ledger: Ledger) -> dict[str, Decimal]:
    """Return what is left of each lot."""
    return {lot.id: lot.remaining for lot in ledger.lots("acct")}


def test_only_requests_of_the_model_count_a_restricted_lot(ledger: Ledger) -> None:
    """The balance has what every request can use, and what a given one can."""
    balance = ledger.balance("acct", at=NOW, model="gpt-5.5")
    assert got(balance.available, balance.restricted, balance.usable) == (30, 10, 20)
    assert ledger.balance("acct", at=NOW, model="gpt-5.4-mini").usable == 30
    assert ledger.balance("acct", at=NOW).usable is None


def test_a_refusal_says_what_the_request_could_use(ledger: Ledger) -> None:
    """The error has the usable Credits, and those that are for other requests."""
    with pytest.raises(ShortfallError, match=r"for model 'gpt-5\.5', has 20 Credits available") as caught:
        ledger.hold("acct", "25", id="r", at=NOW, model="gpt-5.5")
    assert got(caught.value.available, caught.value.shortfall, caught.value.restricted) == (20, 5, 10)


def test_a_hold_leaves_others_what_only_they_can_use(ledger: Ledger) -> None:
    """Holds are not bound to lots: one that could use either lot makes room for one that cannot."""
    ledger.hold("acct", "10", id="mini-1", at=NOW, model="gpt-5.4-mini")
    ledger.hold("acct", "20", id="big-1", at=NOW, model="gpt-5.5")
    with refused("insufficient_credits"):
        ledger.hold("acct", "0.000000000000000001", id="mini-2", at=NOW, model="gpt-5.4-mini")
    assert ledger.verify() == []


def test_a_settle_above_the_hold_takes_no_credits_that_another_hold_needs(ledger: Ledger) -> None:
    """It uses its own lots first, then what is free in others, and the rest is debt."""
    ledger.hold("acct", "10", id="mini-1", at=NOW, model="gpt-5.4-mini")
    ledger.hold("acct", "15", id="big-1", at=NOW, model="gpt-5.5")
    entry = ledger.settle("mini-1", "18", at=later(1))
    assert {change.lot: change.credits for change in entry.lot_changes} == {"mini": 10, "lot-acct": 5}
    assert entry.owed == 3
    assert ledger.settle("big-1", "15", at=later(2)).owed == 0
    assert ledger.verify() == []


def test_a_restricted_lot_settles_no_debt(ledger: Ledger) -> None:
    """A debt may come from other requests, so only Credits for all requests settle it."""
    ledger.charge("acct", "25", id="c", at=NOW)
    assert ledger.balance("acct", at=NOW).owed == 5
    ledger.grant("acct", "7", reason="more", id="mini-2", at=NOW, only=MINI)
    balance = ledger.balance("acct", at=NOW)
    assert got(balance.available, balance.restricted, balance.owed) == (17, 17, 5)
    ledger.grant("acct", "7", reason="for all", id="all", at=NOW)
    assert ledger.balance("acct", at=NOW).owed == 0
    assert ledger.verify() == []


def test_the_model_and_the_group_of_a_charge_decide(ledger: Ledger) -> None:
    """A hold without a model uses the restricted lot if its charge is of the model: its tokens were used."""
    ledger.hold("acct", "1", id="r", at=NOW)
    ledger.settle("r", charge(), usage=body(), at=NOW)
    assert remaining(ledger) == {"lot-acct": 20, "mini": 10 - Decimal("0.00585")}
    (request,) = ledger.requests("acct", at=NOW).requests
    assert request.lots == {"mini": Decimal("0.00585")}


def test_a_hold_of_a_charge_has_its_model(ledger: Ledger) -> None:
    """A worst case or charge names its model and group, so a gateway passes nothing else."""
    ledger.hold("acct", charge({"usage": {"prompt_tokens": 0, "completion_tokens": 5_000_000}}), id="r", at=NOW)
    assert ledger.balance("acct", at=NOW).held > 20
    assert ledger.entry("r").result["scope"] == {"group": "default", "model": "gpt-5.4-mini"}  # type: ignore[union-attr]


def test_groups_and_tags() -> None:
    """Of each kind that a restriction names, one name must match; the group of a hold is that of its token."""
    ledger = with_credits(Ledger.open("sqlite://", BOOK), "17")
    only = Restriction(groups=["def*"], tags=["team=x", "team=y"])
    ledger.grant("acct", "5", reason="team", id="team", at=NOW, only=only)
    ledger.create_token("acct", id="tok", group="default", at=NOW)
    ledger.hold("acct", "25", id="a", at=NOW, token="tok", tags={"team": "y"})
    ledger.settle("a", "25", at=NOW)
    assert available(ledger) == 0
    ledger.grant("acct", "5", reason="team", id="team-2", at=NOW, only=only)
    for token, team in ((None, "x"), ("tok", "z"), ("tok", None)):
        with refused("insufficient_credits"):
            ledger.hold("acct", "1", id="b", at=NOW, token=token, tags=team and {"team": team})  # type: ignore[arg-type]
    assert ledger.verify() == []


def test_the_order_is_priority_then_expiry_then_age() -> None:
    """A lower priority is used first, whatever expires sooner."""
    ledger = Ledger.open("sqlite://", BOOK)
    ledger.open_account("acct", at=NOW)
    for id, priority, expires in (
        ("old", 50, None),
        ("soon", 50, later(60)),
        ("first", 0, None),
        ("last", 100, later(9)),
    ):
        ledger.grant("acct", "1", reason="r", id=id, at=NOW, priority=priority, expires=expires)
    entry = ledger.charge("acct", "4", id="c", at=NOW)
    assert [change.lot for change in entry.lot_changes] == ["first", "soon", "old", "last"]


def test_an_expired_lot_keeps_what_only_its_holds_need(ledger: Ledger) -> None:
    """Two lots that expire with requests in flight each retain what their own requests hold."""
    for model in ("a", "b"):
        ledger.grant("acct", "8", reason="r", id=model, at=NOW, expires=later(10), only=Restriction(models=[model]))
        ledger.hold("acct", "5", id=f"hold-{model}", at=NOW, model=model)
    ledger.expire(at=later(20))
    assert got(remaining(ledger)["a"], remaining(ledger)["b"]) == (5, 5)
    for model in ("a", "b"):
        entry = ledger.settle(f"hold-{model}", "6", at=later(20))
        assert [got(change.lot, change.credits) for change in entry.lot_changes] == [(model, 5), ("lot-acct", 1)]
    assert ledger.verify() == []


def test_a_refund_leaves_what_holds_need(ledger: Ledger) -> None:
    """Only what no hold needs is refundable, although the account has more available."""
    ledger.hold("acct", "12", id="big-1", at=NOW, model="gpt-5.5")
    with refused("not_refundable"):
        ledger.refund("acct", "lot-acct", credits="8.000000000000000001", id="back", at=NOW)
    assert ledger.refund("acct", "lot-acct", id="back", at=NOW).credits == 8
    assert available(ledger) == 10


def test_a_dispute_shrinks_the_holds_that_lose_their_lot(ledger: Ledger) -> None:
    """A newer hold that another lot covers is not shrunk."""
    ledger.hold("acct", "12", id="big-1", at=NOW, model="gpt-5.5")
    ledger.hold("acct", "10", id="mini-1", at=later(1), model="gpt-5.4-mini")
    entry = ledger.dispute("acct", "lot-acct", id="chargeback", at=later(2))
    assert entry.result["shrunk"] == [["big-1", "12"]]
    assert ledger.balance("acct", at=later(2)).held == 10
    assert ledger.verify() == []


def test_statement_lots_and_revenue_show_the_restriction() -> None:
    """A purchased lot may be restricted; its label, its state and its revenue are those of any lot."""
    ledger = Ledger.open("sqlite://", BOOK)
    ledger.open_account("acct", at=NOW)
    ledger.top_up("acct", quote("17"), reference="p", id="lot", at=NOW, only=MINI, priority=10)
    ledger.charge("acct", "10", id="plain", at=NOW)
    ledger.hold("acct", "10", id="r", at=NOW, model="gpt-5.4-mini")
    ledger.settle("r", "10", at=NOW)
    (lot,) = ledger.lots("acct")
    assert (lot.only, lot.priority, lot.as_dict()["only"]) == (MINI, 10, {"models": ["gpt-5.4-mini"]})
    assert got(str(lot.recognised), ledger.balance("acct", at=NOW).owed) == ("8.50 CNY", 10)
    statement = ledger.statement("acct", Period.parse("2026-11"))
    assert statement.movements[0].label == "Top-up 2026-11-01, 17.00 CNY by rmb (only models gpt-5.4-mini)"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"scope":{"model":"gpt-5.4-mini"}', '"scope":{"model":"gpt-5.5"}', "for other requests"),
        ('"only":{"models":["gpt-5.4-mini"]}', '"only":{"models":["gpt-5.5"]}', "for other requests"),
    ],
)
def test_a_forged_use_of_a_restricted_lot_is_detected(ledger: Ledger, old: str, new: str, problem: str) -> None:
    """A replay checks that the requests which used a lot match its restriction."""
    ledger.charge("acct", "20", id="c", at=NOW)
    ledger.hold("acct", "5", id="r", at=NOW, model="gpt-5.4-mini")
    ledger.settle("r", "5", at=NOW)
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE billing_journal SET body = replace(body, ?, ?)", (old, new))
    with ledger.engine.begin() as connection:
        head = ""
        for number, text in connection.exec_driver_sql(
            "SELECT number, body FROM billing_journal ORDER BY number"
        ).all():
            previous = json.loads(text)["previous"]
            text = text.replace(previous, head) if previous else text
            head = hashlib.sha256(text.encode()).hexdigest()
            connection.exec_driver_sql(
                "UPDATE billing_journal SET body = ?, hash = ? WHERE number = ?", (text, head, number)
            )
    assert any(problem in str(found) for found in ledger.verify())


def test_a_forged_priority_is_detected(ledger: Ledger) -> None:
    """The columns of a lot are those of its entry."""
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE billing_lot SET priority = 1, restriction = NULL WHERE id = 'mini'")
        connection.exec_driver_sql("UPDATE billing_account SET restricted = NULL")
    found = " ".join(map(str, ledger.verify()))
    assert "priority is 1" in found
    assert "restriction is None" in found
    assert "restricted is None" in found
    ledger.rebuild()
    assert ledger.verify() == []


@pytest.mark.parametrize(
    "given",
    [
        {"only": {"models": ["x"]}},
        {"priority": -1},
        {"priority": 101},
        {"priority": True},
        {"priority": "1"},
    ],
)
def test_invalid_terms_of_a_lot(ledger: Ledger, given: dict[str, Any]) -> None:
    """A restriction is a ``Restriction``, and a priority an int from 0 to 100."""
    with refused("invalid_argument"):
        ledger.grant("acct", "1", reason="r", id="g", at=NOW, **given)


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"models": "gpt"},
        {"models": [""]},
        {"models": ["a", "a"]},
        {"groups": [1]},
        {"tags": ["x"]},
        {"tags": ["=x"]},
        {"models": [f"m{n}" for n in range(101)]},
    ],
)
def test_invalid_restrictions(names: dict[str, Any]) -> None:
    """A restriction names at least one model, group or tag, each once."""
    with refused("invalid_argument"):
        Restriction(**names)


def test_an_account_without_restricted_lots_executes_no_further_statement() -> None:
    """A hold reads neither lots nor other holds, as long as no restricted lot has Credits."""
    ledger = with_credits(Ledger.open("sqlite://", BOOK))
    statements: list[str] = []

    def trace(cursor: Any) -> None:
        cursor.connection.set_trace_callback(statements.append)

    ledger._run_write(lambda store: trace(store._cursor), None)  # the connection of the ledger
    statements.clear()
    ledger.hold("acct", "1", id="a", at=NOW, model="m", group="g")
    plain = len(statements)
    assert not any("billing_lot" in statement for statement in statements)
    ledger.grant("acct", "1", reason="r", id="gift", at=NOW, only=MINI)
    ledger.charge("acct", charge({"usage": {"prompt_tokens": 0, "completion_tokens": 1_000_000}}), id="c", at=NOW)
    assert ledger.balance("acct", at=NOW).restricted == 0
    statements.clear()
    ledger.hold("acct", "1", id="b", at=NOW, model="m", group="g")
    assert len(statements) == plain


def test_writers_never_hold_a_credit_twice(postgres: str) -> None:
    """Holds of two models compete for a lot that both may use: together they get all of it, and not more."""
    with schema(postgres) as url, Ledger.open(url, BOOK) as ledger:
        compete(ledger)


def compete(ledger: Ledger) -> None:
    """Hold in two threads, more than there is."""
    ledger.open_account("acct", at=NOW)
    ledger.grant("acct", "6", reason="r", id="all", at=NOW)
    for model in ("a", "b"):
        ledger.grant("acct", "3", reason="r", id=model, at=NOW, only=Restriction(models=[model]))
    refusals: list[str] = []

    def write(model: str) -> None:
        for number in range(8):
            try:
                ledger.hold("acct", "1", id=f"{model}-{number}", at=NOW, model=model)
            except ShortfallError:
                refusals.append(model)

    threads = [threading.Thread(target=write, args=(model,)) for model in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    balance = ledger.balance("acct", at=NOW)
    assert got(balance.held, balance.available, len(refusals)) == (12, 0, 4)
    assert ledger.verify() == []


NEEDS = st.lists(st.tuples(st.integers(0, 9), st.sets(st.sampled_from("abcd"))), max_size=5)


@given(st.fixed_dictionaries({name: st.integers(0, 9) for name in "abcd"}), NEEDS)
def test_a_coverage_is_a_maximum_flow(sources: dict[str, int], needs: list[tuple[int, set[str]]]) -> None:
    """What is placed in total is what Hall's theorem allows, and no demand takes from an earlier one."""

    def most(first: int) -> int:
        chosen = needs[:first]
        return min(
            sum(amount for amount, _ in chosen)
            - sum(amount for amount, _ in part)
            + sum(sources[name] for name in set().union(*(names for _, names in part)))
            for size in range(first + 1)
            for part in combinations(chosen, size)
        )

    coverage = Coverage(sources)
    for number, (amount, names) in enumerate(needs):
        assert coverage.place(amount, names) == most(number + 1) - most(number)
    assert Fraction(sum(coverage.take(name, 9) for name in sources)) == sum(sources.values()) - most(len(needs))


STEPS = st.lists(
    st.tuples(st.booleans(), st.integers(1, 4), st.sets(st.sampled_from("abc"), min_size=1)), min_size=3, max_size=6
)


def can_cover(sources: dict[str, int], needs: list[tuple[int, frozenset[str]]]) -> bool:
    """Try every way to give each need, unit by unit, a source that it may use."""
    for number, (amount, names) in enumerate(needs):
        if amount:
            rest = [(amount - 1, names), *needs[number + 1 :]]
            return any(sources[name] and can_cover({**sources, name: sources[name] - 1}, rest) for name in names)
    return True


@settings(max_examples=examples(400), deadline=None)
@given(st.fixed_dictionaries({name: st.integers(0, 4) for name in "abc"}), STEPS)
def test_each_step_of_a_coverage_is_what_trying_all_assignments_finds(
    sources: dict[str, int], steps: list[tuple[bool, int, set[str]]]
) -> None:
    """In any order, a demand gets, and a removal takes, the most with which all earlier demands stay covered."""
    coverage, left, needs = Coverage(sources), dict(sources), list[tuple[int, frozenset[str]]]()
    for is_place, amount, chosen in steps:
        names = frozenset(chosen)
        if is_place:
            most = max(part for part in range(amount + 1) if can_cover(left, [*needs, (part, names)]))
            assert coverage.place(amount, names) == most
            needs.append((most, names))
            continue
        for name in sorted(names):
            most = max(
                part
                for part in range(min(amount, left[name]) + 1)
                if can_cover({**left, name: left[name] - part}, needs)
            )
            assert coverage.take(name, amount) == most
            left[name] -= most
