"""Frozen accounts: no new holds and charges, while requests in flight still settle."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from brivionix_billing.ledger import Ledger
from ledger_kit import NOW, available, later, opened, quote, refused, tables, with_credits


def test_a_frozen_account_settles_and_gets_no_new_requests(database: str) -> None:
    """Holds and charges without a hold are refused with 403; open holds settle or release; payments are credited."""
    with opened(database) as ledger:
        with_credits(ledger)
        for id in ("r1", "r2", "r3"):
            ledger.hold("acct", "1", id=id, at=NOW, ttl=timedelta(seconds=60))
        ledger.freeze("acct", reason="stolen card", id="freeze", at=later(1))
        before = tables(ledger)
        with refused("account_frozen") as caught:
            ledger.hold("acct", "1", id="r4", at=later(2))
        assert caught.value.http_status == 403
        with refused("account_frozen"):
            ledger.charge("acct", "1", id="c", at=later(2))
        assert tables(ledger) == before
        assert ledger.hold("acct", "1", id="r1", at=later(2), ttl=timedelta(seconds=60)).repeated
        ledger.settle("r1", "0.5", at=later(3))
        ledger.release("r2", at=later(3))
        ledger.settle("r3", "2", at=later(61))  # late
        ledger.top_up("acct", quote("85"), reference="more", id="more", at=later(62))
        assert available(ledger, seconds=62) == Decimal("197.5")
        assert ledger.balance("acct", at=later(62)).frozen_at == later(1)
        assert ledger.verify() == []
        before = tables(ledger)
        ledger.rebuild()
        assert tables(ledger) == before
        ledger.unfreeze("acct", reason="a mistake", id="unfreeze", at=later(63))
        assert ledger.balance("acct", at=later(63)).frozen_at is None
        ledger.hold("acct", "1", id="r4", at=later(64))
        assert ledger.verify() == []


def test_freezing_is_journaled_with_its_reason(ledger: Ledger) -> None:
    """Both entries have their reason; freezing again keeps the first time; a statement shows no movement."""
    for n in (0, 10):
        ledger.freeze("acct", reason="suspicion", id=f"f{n}", at=later(n))
    assert ledger.balance("acct", at=later(20)).frozen_at == NOW
    ledger.unfreeze("acct", reason="cleared", id="u", at=later(20))
    entries = [entry for entry in ledger.journal("acct") if entry.kind.startswith("account_")]
    assert [(entry.kind, entry.content["reason"]) for entry in entries] == [
        ("account_frozen", "suspicion"),
        ("account_frozen", "suspicion"),
        ("account_unfrozen", "cleared"),
    ]
    assert [movement.kind for movement in ledger.statement("acct", "2026-11").movements] == ["top_up"]
    assert ledger.freeze("acct", reason="suspicion", id="f0", at=later(30)).repeated
    assert ledger.balance("acct", at=later(30)).frozen_at is None
    with refused("invalid_argument"):
        ledger.freeze("acct", reason="", id="x", at=NOW)


def test_verify_finds_an_account_unfrozen_by_hand(ledger: Ledger) -> None:
    """A table that hides the freezing is an inconsistency."""
    ledger.freeze("acct", reason="suspicion", id="f", at=NOW)
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE billing_account SET frozen_at = NULL")
    (found,) = ledger.verify()
    assert "frozen_at is None, by the journal" in found.message
