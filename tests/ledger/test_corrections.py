"""Corrections name their object: voided lots, reversed charges, adjustments of a lot."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import Payable
from brivionix_billing.ledger import Ledger
from ledger_kit import NOW, available, body, charge, forge, got, later, opened, quote, refused, with_credits

BY: dict[str, Any] = {"reason": "wrong", "author": "Ada"}


def test_voiding_a_grant_leaves_the_bought_lot_alone(ledger: Ledger) -> None:
    """CASES 47: voiding a used grant with ``waive`` removes its rest, and neither a bought lot nor revenue changes."""
    ledger.grant("acct", "10", reason="x", id="gift", at=NOW)
    ledger.charge("acct", "4", id="c", at=NOW)
    before = ledger.lots("acct")[0]
    entry = ledger.void("acct", "gift", used="waive", id="v", at=NOW, **BY)
    assert got(entry.credits, entry.money(), available(ledger)) == (10, {}, 100)
    assert ledger.lots("acct")[0] == before
    assert ledger.lots("acct")[1].returned == 10
    assert ledger.statement("acct", "2026-11").closing == 100
    with refused("not_reversible"):
        ledger.void("acct", "gift", used="waive", id="v2", at=NOW, **BY)


def test_used_credits_of_a_voided_lot_can_be_owed(ledger: Ledger) -> None:
    """With ``owe``, used Credits become debt, which other Credits settle; without other Credits it stays."""
    ledger.grant("acct", "10", reason="x", id="gift", at=NOW)
    ledger.charge("acct", "4", id="c", at=NOW)
    ledger.void("acct", "gift", used="owe", id="v", at=NOW, **BY)
    assert available(ledger) == 96
    ledger.void("acct", "lot-acct", used="owe", id="v2", at=NOW, **BY)
    assert ledger.balance("acct", at=NOW).owed == 4
    assert ledger.lots("acct")[0].recognised == Payable(0, "CNY")
    assert ledger.verify() == []


def test_voiding_a_lot_shrinks_holds(ledger: Ledger) -> None:
    """Held Credits of a voided lot are removed, too, and available Credits are never negative."""
    ledger.hold("acct", "80", id="r", at=NOW)
    ledger.void("acct", "lot-acct", used="waive", id="v", at=NOW, **BY)
    has = ledger.balance("acct", at=NOW)
    assert got(has.available, has.held, has.owed) == (0, 0, 0)
    assert ledger.settle("r", "1", at=NOW).owed == 1
    assert ledger.verify() == []


def test_a_reversed_charge_can_be_refunded_in_full(database: str) -> None:
    """CASES 48: after a charge of 50 is reversed, the whole payment is refundable, and token and usage follow."""
    with opened(database) as ledger:
        with_credits(ledger)
        ledger.create_token("acct", id="tok", at=NOW, group="default", secret="s" * 30)
        ledger.hold("acct", "50", id="r", at=NOW, token="tok")
        ledger.settle("r", "50", at=later(1))
        part = ledger.reverse_charge("acct", "r", credits="20", id="one", at=later(2), **BY)
        assert part.lot_changes[0].money == Payable("17.00", "CNY")
        assert part.money()["CNY"]["revenue"].amount == 17
        ledger.reverse_charge("acct", "r:settle", id="rest", at=later(3), **BY)
        with refused("not_reversible"):
            ledger.reverse_charge("acct", "r", id="more", at=later(4), **BY)
        assert ledger.token("tok").spent == 0
        assert ledger.usage("acct", "2026-11") == []
        assert ledger.refund("acct", "lot-acct", id="back", at=later(5)).refund_amount == Payable("85.00", "CNY")
        assert ledger.verify() == []


def test_the_next_bill_shows_a_reversal(ledger: Ledger) -> None:
    """A charge of November that is reversed in December changes the statement and the bill of December only."""
    wrong = charge()
    ledger.charge("acct", wrong, usage=body(), id="c", at=NOW)
    november = ledger.statement("acct", "2026-11")
    ledger.reverse_charge("acct", "c", id="rev", at=later(40 * 86_400), **BY)
    assert ledger.statement("acct", "2026-11") == november
    december = ledger.statement("acct", "2026-12")
    assert got(december.opening, december.used, december.closing) == (november.closing, -wrong.credits, 100)
    (line,) = december.usage
    assert (line.model, line.requests, line.input_tokens, line.credits) == ("gpt-5.4-mini", -1, -12_000, -wrong.credits)
    (shown,) = december.balance().movements
    assert (shown.label, shown.credits) == ("Reversed charge 2026-12-11, c: wrong", wrong.credits)
    assert list(ledger.records("acct", "2026-12")) == []


def test_a_reversal_in_the_month_of_its_charge_balances_its_bill(ledger: Ledger) -> None:
    """The bill shows the usage before the reversal, and the reversal as a movement."""
    wrong = charge()
    ledger.charge("acct", wrong, usage=body(), id="c", at=NOW)
    ledger.charge("acct", "7", id="elsewhere", at=NOW)
    ledger.reverse_charge("acct", "elsewhere", credits="2", id="rev-1", at=later(1), **BY)
    ledger.reverse_charge("acct", "c", credits="0.001", id="rev-2", at=later(1), **BY)
    balance = ledger.statement("acct", "2026-11").balance()
    moved = sum((movement.credits for movement in balance.movements), Decimal(0))
    assert balance.opening + moved - wrong.credits == balance.closing == available(ledger)
    assert len(list(ledger.records("acct", "2026-11", skip_unpriced=True))) == 1


def test_a_reversal_reduces_the_debt_of_its_charge(ledger: Ledger) -> None:
    """What a charge left as debt reduces the debt; after the debt was settled, the lot that settled it gets it back."""
    ledger.charge("acct", "130", id="c", at=NOW)
    assert ledger.reverse_charge("acct", "c", credits="110", id="one", at=NOW, **BY).owed == -30
    assert got(available(ledger), ledger.balance("acct", at=NOW).owed) == (80, 0)
    ledger.charge("acct", "100", id="d", at=NOW)
    ledger.top_up("acct", quote("85"), reference="p", id="lot-2", at=NOW)
    ledger.reverse_charge("acct", "d", id="two", at=NOW, **BY)
    assert [str(lot.remaining) for lot in ledger.lots("acct")] == ["80", "100"]


def test_credits_returned_to_an_expired_lot_expire(ledger: Ledger) -> None:
    """A lot that expired after the charge gets its Credits back, and they expire at once."""
    ledger.grant("acct", "10", reason="x", id="gift", at=NOW, expires=later(60))
    ledger.charge("acct", "10", id="c", at=NOW)
    ledger.reverse_charge("acct", "c", id="rev", at=later(61), **BY)
    assert got(available(ledger, seconds=61), ledger.lots("acct")[1].expired) == (100, 10)
    assert ledger.verify() == []


def test_only_a_charge_of_the_account_is_reversed(ledger: Ledger) -> None:
    """A top-up, an open hold, a charge of another account and an unknown id are no charges to reverse."""
    with_credits(ledger, account="other")
    ledger.charge("other", "1", id="theirs", at=NOW)
    ledger.hold("acct", "1", id="open", at=NOW)
    for id in ("lot-acct", "open", "theirs", "nothing"):
        with refused("not_reversible"):
            ledger.reverse_charge("acct", id, id="rev", at=NOW, **BY)


def test_an_adjustment_takes_from_the_lot_it_names(ledger: Ledger) -> None:
    """A downward adjustment of a lot changes this lot only, up to its remaining Credits; an upward one names none."""
    ledger.grant("acct", "10", reason="x", id="gift", at=NOW)
    entry = ledger.adjust("acct", "-5", lot="lot-acct", id="a", at=NOW, **BY)
    assert [(change.lot, str(change.credits)) for change in entry.lot_changes] == [("lot-acct", "5")]
    with refused("insufficient_credits"):
        ledger.adjust("acct", "-10.5", lot="gift", id="b", at=NOW, **BY)
    with refused("unknown_lot"):
        ledger.adjust("acct", "-1", lot="none", id="c", at=NOW, **BY)
    with refused("invalid_argument"):
        ledger.adjust("acct", "1", lot="gift", id="d", at=NOW, **BY)


@pytest.mark.parametrize("used", ["", "forgive", None])
def test_a_void_states_what_happens_to_used_credits(ledger: Ledger, used: str) -> None:
    """``used`` must be ``owe`` or ``waive``."""
    with refused("invalid_argument"):
        ledger.void("acct", "lot-acct", used=used, id="v", at=NOW, **BY)


def test_a_forged_reversal_of_more_than_the_charge_is_found(ledger: Ledger) -> None:
    """``verify`` finds reversals that exceed their charge, even if every sum is consistent."""
    ledger.charge("acct", "5", id="c", at=NOW)
    ledger.charge("acct", "20", id="d", at=NOW)
    ledger.reverse_charge("acct", "d", credits="10", id="rev", at=NOW, **BY)
    forge(ledger, '"charge":"d"', '"charge":"c"')
    assert [problem.message for problem in ledger.verify()] == [
        "10 Credits of charge 'c' were reversed, but it charged less"
    ]
