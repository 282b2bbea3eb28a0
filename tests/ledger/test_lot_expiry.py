"""A changed expiry of a lot: order of consumption, due expiries, holds, and lots that are closed."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing.ledger import Ledger
from brivionix_billing.times import Period
from exports_kit import check_exports
from ledger_kit import NOW, available, forge, got, later, opened, refused, with_credits

BY: dict[str, Any] = {"reason": "wrong", "author": "Ada"}


def test_an_expiry_moves_nearer_and_further(database: str) -> None:
    """Credits expire at the new time and not at the old one, whether it is earlier, later or never."""
    with opened(database) as ledger:
        with_credits(ledger)
        for lot, old, new in (("near", 90, 30), ("far", 60, 120), ("never", 60, None), ("first", None, 30)):
            ledger.grant("acct", "1", reason="x", id=lot, at=NOW, expires=None if old is None else later(old))
            when = None if new is None else later(new)
            entry = ledger.change_expiry("acct", lot, expires=when, id=f"{lot}-2", at=later(1), **BY)
            assert (entry.postings, entry.lot_changes, entry.expires) == ({}, (), when)
            assert ledger.lots("acct")[-1].expires == when
        steps: list[tuple[int, Any]] = [(29, 104), (30, 102), (60, 102), (90, 102), (120, 101)]
        assert [(seconds, available(ledger, seconds=seconds)) for seconds, _ in steps] == steps  # simulated
        for seconds, left in steps:
            ledger.expire(at=later(seconds))
            assert available(ledger, seconds=seconds) == left
        assert [got(lot.remaining, lot.expired) for lot in ledger.lots("acct")[1:]] == [(0, 1), (0, 1), (1, 0), (0, 1)]
        assert ledger.verify() == []


def test_later_requests_use_lots_in_the_order_of_their_new_expiries(ledger: Ledger) -> None:
    """The lot whose expiry moved first is used first, by a hold of before the change, too."""
    ledger.grant("acct", "1", reason="x", id="soon", at=NOW, expires=later(60))
    ledger.grant("acct", "1", reason="x", id="late", at=NOW, expires=later(90))
    ledger.hold("acct", "1", id="r", at=NOW)
    ledger.change_expiry("acct", "soon", expires=None, id="x", at=later(1), **BY)
    assert [use.lot for use in ledger.settle("r", "1", at=later(2)).lot_changes] == ["late"]
    assert [use.lot for use in ledger.charge("acct", "1.5", id="c", at=later(2)).lot_changes] == ["soon", "lot-acct"]


def test_a_hold_keeps_credits_of_a_lot_that_now_expires_earlier(ledger: Ledger) -> None:
    """A request that was held before the new expiry is charged to the lot after it."""
    ledger.grant("acct", "10", reason="x", id="gift", at=NOW)
    ledger.hold("acct", "110", id="r", at=NOW)
    ledger.change_expiry("acct", "gift", expires=later(60), id="x", at=later(1), **BY)
    assert available(ledger, seconds=61) == 0
    assert got(ledger.settle("r", "110", at=later(62)).owed, ledger.lots("acct")[1].used) == (0, 10)
    assert ledger.verify() == []


def test_a_closed_lot_keeps_its_expiry(ledger: Ledger) -> None:
    """An expired, a voided, a refunded and a used lot are errors that say so, and no Credits come back."""
    for lot in ("expired", "retained", "voided", "used"):
        ledger.grant("acct", "5", reason="x", id=lot, at=NOW, expires=later(60))
    ledger.charge("acct", "5", id="c", at=NOW)
    ledger.void("acct", "voided", used="waive", id="v", at=NOW, **BY)
    ledger.adjust("acct", "-5", lot="used", id="a", at=NOW, **BY)
    ledger.refund("acct", "lot-acct", id="back", at=NOW)
    ledger.hold("acct", "5", id="r", at=later(59))
    for lot, seconds, problem in (
        ("expired", 59, "is used up"),
        ("retained", 60, "expired at 2026-11-01T12:01:00"),
        ("voided", 1, "all its Credits were returned"),
        ("used", 1, "is used up"),
        ("lot-acct", 1, "all its Credits were returned"),
    ):
        with refused("lot_closed") as caught:
            ledger.change_expiry("acct", lot, expires=None, id="x", at=later(seconds), **BY)
        assert problem in str(caught.value)
    with refused("unknown_lot"):
        ledger.change_expiry("acct", "none", expires=None, id="x", at=NOW, **BY)


@pytest.mark.parametrize("expires", [NOW, NOW - timedelta(seconds=1), later(5)])
def test_a_lot_never_expires_in_the_past(ledger: Ledger, expires: datetime) -> None:
    """The new expiry is later than the operation, and than the lot if the clock of the operation is behind."""
    ledger.grant("acct", "5", reason="x", id="gift", at=later(5))
    with refused("invalid_argument"):
        ledger.change_expiry("acct", "gift", expires=expires, id="x", at=NOW, **BY)


def test_a_changed_expiry_changes_no_statement_of_before(ledger: Ledger) -> None:
    """Old and new expiry in one month: statement and exports have the expiry once, at its new time."""
    ledger.grant("acct", "5", reason="x", id="gift", at=NOW, expires=later(60))
    ledger.change_expiry("acct", "gift", expires=later(86_400), id="x", at=later(1), **BY)
    ledger.change_expiry("acct", "gift", expires=later(86_400), id="same", at=later(1), **BY)
    for _ in range(2):  # due, then posted
        movements = ledger.statement("acct", "2026-11").movements
        assert [(move.kind, move.at) for move in movements[-1:]] == [("lot_expired", later(86_400))]
        assert len(movements) == 3
        check_exports(ledger, later(0), later(90_000))  # posts it


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"lot":"gift"', '"lot":"lot-acct"', "states another expiry"),
        ('"previous_expires":"2026-11-01T12:01', '"previous_expires":"2026-11-01T12:02', "states another expiry"),
        ('"expires":"2026-11-01T12:02', '"expires":"2026-11-01T11:02', "was closed, or its new expiry had passed"),
    ],
)
def test_a_forged_change_of_an_expiry_is_found(ledger: Ledger, old: str, new: str, problem: str) -> None:
    """``verify`` derives the expiry, and finds an entry that does not follow from those before."""
    ledger.grant("acct", "5", reason="x", id="gift", at=NOW, expires=later(60))
    ledger.change_expiry("acct", "gift", expires=later(120), id="x", at=NOW, **BY)
    forge(ledger, old, new)
    assert problem in ledger.verify()[0].message


@pytest.mark.parametrize("resolution", ["release", "settle", "expire", "post late"])
def test_credits_kept_for_a_hold_expire_when_the_hold_ends(ledger: Ledger, resolution: str) -> None:
    """They expire then, not with their lot: a statement that ended in between stays as it was."""
    ledger.grant("acct", "5", reason="x", id="gift", at=NOW, expires=later(60))
    ledger.hold("acct", "105", id="r", at=NOW, ttl=timedelta(seconds=180))
    closed = Period(NOW, later(120), "UTC")
    before = ledger.statement("acct", closed)
    assert got(before.closing) == (105,)
    ended, used = 150, 0
    if resolution == "release":
        ledger.release("r", id="x", at=later(150))
    elif resolution == "settle":
        ledger.settle("r", "1", at=later(150))
        used = 1  # a request counts at the time of its hold
    else:
        ended = 180
        if resolution == "expire":
            ledger.expire(at=later(200))
    left = available(ledger, seconds=10_000)
    ledger.expire(at=later(10_000))
    assert available(ledger, seconds=10_000) == left == 100
    assert ledger.statement("acct", closed).closing == before.closing - used
    after = ledger.statement("acct", Period(later(120), later(181), "UTC"))
    assert (after.opening, after.closing) == (before.closing - used, Decimal(100))
    assert [move.at for move in after.movements] == [later(ended)]
    assert ledger.verify() == []


def test_each_part_of_a_lot_expires_when_no_hold_needs_it(ledger: Ledger) -> None:
    """Two holds end at two times after the lot: three expiries, each at its time, though they are posted together."""
    ledger.grant("acct", "5", reason="x", id="gift", at=NOW, expires=later(60))
    ledger.refund("acct", "lot-acct", id="back", at=NOW)
    for hold, seconds in (("b", 120), ("a", 90)):
        ledger.hold("acct", "2", id=hold, at=NOW, ttl=timedelta(seconds=seconds))
    ledger.expire(at=later(500))
    movements = ledger.statement("acct", "2026-11").movements
    expiries = [(move.at, got(move.credits)) for move in movements if move.kind == "lot_expired"]
    assert expiries == [(later(60), (-1,)), (later(90), (-2,)), (later(120), (-2,))]
