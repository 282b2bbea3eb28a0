"""Verify detects every change of the ledger, and rebuild restores all derived tables."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from brivionix_billing import BillingError
from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.ledger import Ledger
from brivionix_billing.ledger.database.tables import METADATA
from crash_scenario import run_day
from ledger_kit import NOW, later, opened, tables
from profiles import sampled

COLUMNS = ("id", "account", "number", "kind", "at", "booked", "body", "hash")


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a ledger with every kind of operation."""
    path = tmp_path_factory.mktemp("day") / "ledger.db"
    with opened(f"sqlite:///{path}") as ledger:
        run_day(ledger)
        assert ledger.verify() == []
    return path


@pytest.fixture
def ledger(day: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A copy of the ledger of ``day``."""
    copy = tmp_path / "ledger.db"
    copy.write_bytes(day.read_bytes())
    with opened(f"sqlite:///{copy}") as ledger:
        yield ledger


def run(ledger: Ledger, statement: str, **values: Any) -> int:
    with ledger.engine.begin() as connection:
        return connection.execute(text(statement), values).rowcount


def test_one_altered_byte_in_any_row_of_the_journal_is_detected(ledger: Ledger) -> None:
    """One altered character in any column of any entry is detected; a quick run alters one of 24."""
    path = ledger.engine.url.database
    assert path is not None
    count = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as attacker:
        attacker.execute("PRAGMA synchronous = OFF")
        rows = attacker.execute(f"SELECT rowid, {', '.join(COLUMNS)} FROM billing_journal ORDER BY rowid").fetchall()
        places = (
            (rowid, column, value, index)
            for rowid, *values in rows
            for column, value in zip(COLUMNS, values, strict=True)
            for index in range(0, len(str(value)), max(1, len(str(value)) // 12))  # at most 13 positions of a long text
        )
        for rowid, column, value, index in sampled(places, slower=3):
            whole, update = str(value), f"UPDATE billing_journal SET {column} = ? WHERE rowid = ?"
            other = "1" if whole[index] != "1" else "2"
            changed: Any = whole[:index] + other + whole[index + 1 :]
            count += 1
            try:
                attacker.execute(update, (int(changed) if column == "number" else changed, rowid))
            except sqlite3.IntegrityError:
                continue  # another entry has this number, so the database rejects the update
            assert ledger.verify(), (rowid, column, index)
            attacker.execute(update, (value, rowid))
        assert ledger.verify() == []
    assert count > 100


def test_an_entry_rewritten_with_its_hash_breaks_the_chain(ledger: Ledger) -> None:
    """An altered entry with a matching hash is detected, because the next entry does not follow it."""
    with ledger.engine.begin() as connection:
        body = connection.execute(text("SELECT body FROM billing_journal WHERE id = 'lot_1'")).scalar_one()
        changed = json.loads(body.replace('"17.00"', '"71.00"'))
        forgery = canonical_json(changed).decode()
        connection.execute(
            text("UPDATE billing_journal SET body = :body, hash = :hash WHERE id = 'lot_1'"),
            {"body": forgery, "hash": sha256(forgery.encode()).hexdigest()},
        )
    inconsistencies = ledger.verify()
    assert [(found.account, found.number) for found in inconsistencies] == [("acct", 5)]
    assert "does not follow entry 4" in str(inconsistencies[0])


def test_removed_entries_are_detected(ledger: Ledger) -> None:
    """An entry that is missing in the middle or at the end is detected."""
    run(ledger, "DELETE FROM billing_journal WHERE number = 7")
    assert "it does not follow entry 6" in str(ledger.verify()[0])
    run(ledger, "DELETE FROM billing_journal WHERE number >= 7")
    assert ledger.verify() != []


def test_a_truncated_and_rebuilt_ledger_is_detected_by_a_checkpoint(ledger: Ledger, tmp_path: Path) -> None:
    """A ledger that was truncated and rebuilt is valid, but does not match the checkpoint."""
    checkpoint = ledger.checkpoint()
    last = checkpoint["acct"][0]
    run(ledger, "DELETE FROM billing_journal WHERE number > :last", last=last - 3)
    with pytest.raises(BillingError, match="truncated"):
        ledger.rebuild()  # the tables are the only record of the removed entries
    ledger.rebuild(accept_loss=True)
    assert ledger.verify() == []
    assert f"entries {last - 2} to {last} of the checkpoint are missing" in str(ledger.verify(checkpoint)[0])
    ledger.adjust("acct", "0.01", reason="x", author="x", id="x1", at=later(200))
    ledger.adjust("acct", "0.01", reason="x", author="x", id="x2", at=later(200))
    ledger.adjust("acct", "0.01", reason="x", author="x", id="x3", at=later(200))
    assert "its hash differs from the checkpoint" in str(ledger.verify(checkpoint)[0])
    run(ledger, "DELETE FROM billing_journal")
    ledger.rebuild(accept_loss=True)
    assert "it is in the checkpoint, but not in the ledger" in str(ledger.verify(checkpoint)[0])


def test_a_checkpoint_stays_valid_when_the_journal_grows(ledger: Ledger) -> None:
    """A ledger with further entries matches an older checkpoint."""
    checkpoint = ledger.checkpoint()
    ledger.adjust("acct", "1", reason="x", author="x", id="more", at=later(200))
    assert ledger.verify(checkpoint) == []


@pytest.mark.parametrize("table", sorted(METADATA.tables.keys() - {"billing_journal", "billing_archive"}))
def test_a_change_of_a_derived_table_is_detected_and_rebuild_repairs_it(ledger: Ledger, table: str) -> None:
    """A change of any column of any derived table is detected by name, and rebuild repairs it."""
    expected = tables(ledger)
    for column in METADATA.tables[table].columns:
        if column.name in ("live", "next_expiry", "leased_until"):
            continue
        run(ledger, f"UPDATE {table} SET {column.name} = '7' WHERE rowid = (SELECT max(rowid) FROM {table})")
        assert any(table.removeprefix("billing_") in str(found) or "no such account" in str(found)
                   for found in ledger.verify()), column.name  # fmt: skip
        ledger.rebuild(accept_loss=column.name in ("id", "number"))  # with another one, the journal looks truncated
        assert tables(ledger) == expected
    run(ledger, f"DELETE FROM {table}")
    assert ledger.verify() != []
    ledger.rebuild()
    assert tables(ledger) == expected


def test_a_next_expiry_that_is_too_late_is_detected(ledger: Ledger) -> None:
    """``next_expiry`` may be earlier than the first expiry, but not later."""
    run(ledger, "UPDATE billing_account SET next_expiry = '2026-01-01T00:00:00.000000Z'")
    assert ledger.verify() == []
    run(ledger, "UPDATE billing_account SET next_expiry = '2027-01-01T00:00:00.000000Z'")
    assert "next_expiry" in str(ledger.verify()[0])


def test_rebuild_rejects_a_broken_journal(ledger: Ledger) -> None:
    """Rebuild names the broken entry and changes nothing."""
    before = tables(ledger)["billing_lot"]
    run(ledger, "UPDATE billing_journal SET body = replace(body, '\"17.00\"', '\"71.00\"') WHERE id = 'lot_1'")
    with pytest.raises(BillingError) as caught:
        ledger.rebuild()
    assert caught.value.code == "journal_broken"
    assert "'lot_1'" in str(caught.value)
    assert tables(ledger)["billing_lot"] == before


def forged(ledger: Ledger, change: dict[str, Any]) -> str:
    """Forge the last entry with matching hash and head. Returns the first inconsistency."""
    with ledger.engine.begin() as connection:
        row = connection.execute(text("SELECT id, body FROM billing_journal ORDER BY number DESC LIMIT 1")).one()
        forgery = canonical_json({**json.loads(row.body), **change}).decode()
        hash = sha256(forgery.encode()).hexdigest()
        connection.execute(
            text("UPDATE billing_journal SET body = :b, hash = :h, kind = :k WHERE id = :i"),
            {"b": forgery, "h": hash, "k": json.loads(forgery)["kind"], "i": row.id},
        )
        connection.execute(text("UPDATE billing_account SET head = :h"), {"h": hash})
    return str(ledger.verify()[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"postings": {"available": "5"}}, "do not balance"),
        ({"postings": {"available": "5", "wind": "-5"}}, "unknown subaccount 'wind'"),
        ({"postings": {"available": "-5000", "held": "5000"}}, "its postings do not match its content"),
        ({"postings": {"available": "-5000", "held": "5000"}, "content": {"credits": "5000"}}, "it leaves -"),
        ({"kind": "bogus"}, "refers to something that does not exist"),
        ({"kind": "charge", "postings": {"used": "0.5", "granted": "-0.5"}}, "does not change"),
        ({"kind": "grant", "postings": {}}, "its postings do not match its content"),
        ({"kind": "refund", "postings": {"available": "-5", "refunded": "5"}}, "its postings do not match its content"),
        ({"extra": "x"}, "columns, text and hash do not match"),
        ({"lots": [["lot_1", "used", "1", "0", "9999"]]}, "its change of lot 'lot_1'"),
        ({"lots": [["lot_9", "used", "1", "0", "1"]]}, "its change of lot 'lot_9'"),
        ({"lots": [["lot_1", "stolen", "1", "0", "1"]]}, "refers to something that does not exist"),
        ({"kind": "settle"}, "its postings do not match its content"),
        ({"v": 99}, "columns, text and hash do not match"),
        ({"previous": "0" * 64}, "does not follow"),
    ],
)
def test_a_forged_entry_with_a_matching_hash_is_detected_by_its_content(
    ledger: Ledger, change: dict[str, Any], message: str
) -> None:
    """A forged entry that does not balance or does not follow is detected, even with a matching hash and head."""
    assert message in forged(ledger, change)


def test_an_entry_with_another_purchase_price_is_detected(ledger: Ledger) -> None:
    """An entry that states another purchase price of its lot is detected."""
    ledger.adjust("acct", "-0.01", reason="x", author="x", id="last", at=later(200))
    (change,) = ledger.entry("last").lot_changes  # type: ignore[union-attr]  # it was posted above
    paid = next(lot.paid for lot in ledger.lots("acct") if lot.id == change.lot)
    purchases = [] if paid is not None else [[change.lot, "CNY", "1", "1"]]
    assert "states another purchase of lot" in forged(ledger, {"bought": purchases})


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE billing_lot SET live = 1 - live", "live does not match"),
        (
            "INSERT INTO billing_hold VALUES ('g', 'ghost', NULL, '1.000000000000000000', 'x', 'y', 'open', NULL, "
            "NULL, NULL, NULL)",
            "ghost",
        ),
        (
            "UPDATE billing_usage SET account = 'ghost' WHERE account = (SELECT MIN(account) FROM billing_usage)",
            "ghost",
        ),
        ("UPDATE billing_journal SET body = CAST(x'ff' AS TEXT) WHERE number = 3", "is not UTF-8"),
        (
            "INSERT INTO billing_journal SELECT 'forged', account, 0, kind, at, booked, body, hash "
            "FROM billing_journal WHERE number = 3 AND account = 'acct'",
            "not in the chain of any account",
        ),
    ],
)
def test_rows_without_an_entry_are_detected(ledger: Ledger, statement: str, message: str) -> None:
    """Wrong flags of lots, rows of unknown accounts, and entries outside of the chain are detected."""
    run(ledger, statement)
    assert any(message in str(found) for found in ledger.verify())


def test_a_journal_without_its_account_is_detected(ledger: Ledger) -> None:
    """The journal of a deleted account is detected."""
    ledger.open_account("second", at=NOW)
    run(ledger, "DELETE FROM billing_account WHERE id = 'acct'")
    assert "the account does not exist" in str(ledger.verify()[0])


def test_verify_and_rebuild_on_postgresql(postgres: str) -> None:
    """On PostgreSQL, an altered byte is detected, and rebuild changes nothing."""
    from ledger_kit import schema

    with schema(postgres) as url, opened(url) as ledger:
        run_day(ledger)
        assert ledger.verify() == []
        expected = tables(ledger)
        ledger.rebuild()
        assert tables(ledger) == expected
        run(ledger, "UPDATE billing_lot SET remaining = remaining + 0.000000000000000001 WHERE id = 'lot_1'")
        assert "remaining is" in str(ledger.verify()[0])
        run(ledger, "UPDATE billing_journal SET body = replace(body, 'welcome', 'welcomE')")
        assert "altered" in str(ledger.verify()[0])
