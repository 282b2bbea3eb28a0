"""Verification of the entries after a checkpoint only."""

from __future__ import annotations

import pytest

from brivionix_billing.ledger import Ledger
from ledger_kit import NOW, opened, with_credits


def test_new_entries_are_verified_from_a_checkpoint(database: str) -> None:
    """``verify_new_entries`` accepts a valid ledger, and reads only the entries after the checkpoint."""
    with opened(database) as ledger:
        with_credits(ledger)
        ledger.hold("acct", "1", id="r1", at=NOW)
        made = ledger.checkpoint()
        ledger.settle("r1", "0.5", at=NOW)
        ledger.hold("acct", "1", id="r2", at=NOW)
        ledger.open_account("new", at=NOW)
        assert ledger.verify_new_entries(made) == ledger.verify_new_entries({}) == []
        with ledger.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE billing_journal SET body = 'x' WHERE number = 1 AND account = 'acct'")
        assert ledger.verify_new_entries(made) == []
        assert ledger.verify_new_entries({}) != []


@pytest.mark.parametrize(
    "attack",
    [
        "DELETE FROM billing_journal WHERE id = 'r2'",
        "DELETE FROM billing_journal WHERE id = 'r1:settle'",
        "DELETE FROM billing_journal WHERE id = 'r1'",
        "UPDATE billing_journal SET hash = 'x' WHERE id = 'r1'",
        "UPDATE billing_journal SET body = replace(body, '0.5', '0.4') WHERE id = 'r1:settle'",
        "UPDATE billing_account SET head = 'x'",
        "UPDATE billing_account SET number = number - 1",
        "UPDATE billing_lot SET remaining = '7.000000000000000000'",
        "UPDATE billing_hold SET state = 'open' WHERE id = 'r1'",
        "DELETE FROM billing_hold WHERE id = 'r2'",
        "DELETE FROM billing_account",
    ],
)
def test_altered_new_entries_are_found(ledger: Ledger, attack: str) -> None:
    """Every alteration of the new entries, of the head, and of the lots and holds that they changed is reported."""
    ledger.hold("acct", "1", id="r1", at=NOW)
    made = ledger.checkpoint()
    ledger.settle("r1", "0.5", at=NOW)
    ledger.hold("acct", "1", id="r2", at=NOW)
    assert ledger.verify_new_entries(made) == []
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql(attack)
    assert ledger.verify_new_entries(made) != []
