"""Nobody changes the ledger unseen, and all that it derives can be made anew."""

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
from crash_scenario import do
from ledger_kit import NOW, later, opened, tables

COLUMNS = ("id", "account", "number", "kind", "at", "booked", "body", "hash")


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a ledger after a day with every kind of operation."""
    path = tmp_path_factory.mktemp("day") / "ledger.db"
    with opened(f"sqlite:///{path}") as ledger:
        do(ledger)
        assert ledger.verify() == []
    return path


@pytest.fixture
def ledger(day: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A copy of it."""
    copy = tmp_path / "ledger.db"
    copy.write_bytes(day.read_bytes())
    with opened(f"sqlite:///{copy}") as found:
        yield found


def run(ledger: Ledger, statement: str, **values: Any) -> int:
    with ledger.engine.begin() as connection:
        return connection.execute(text(statement), values).rowcount


def test_one_changed_byte_in_any_row_of_the_journal_is_found(ledger: Ledger) -> None:
    """Bytes of each column of each entry, changed alone, are found: some thousands of ways to lie."""
    tried = 0
    path = ledger.engine.url.database
    assert path is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as liar:
        liar.execute("PRAGMA synchronous = OFF")
        rows = liar.execute(f"SELECT rowid, {', '.join(COLUMNS)} FROM billing_journal ORDER BY rowid").fetchall()
        for rowid, *values in rows:
            for column, value in zip(COLUMNS, values, strict=True):
                whole, update = str(value), f"UPDATE billing_journal SET {column} = ? WHERE rowid = ?"
                step = max(1, len(whole) // 12)  # twelve places of a long text, every one of a short one
                for place in range(0, len(whole), step):
                    other = "1" if whole[place] != "1" else "2"
                    changed: Any = whole[:place] + other + whole[place + 1 :]
                    tried += 1
                    try:
                        liar.execute(update, (int(changed) if column == "number" else changed, rowid))
                    except sqlite3.IntegrityError:
                        continue  # another entry has this number: the database itself does not let it happen
                    assert ledger.verify(), (rowid, column, place)
                liar.execute(update, (value, rowid))
        assert ledger.verify() == []
    assert tried > 2_000


def test_an_entry_rewritten_with_its_hash_breaks_the_chain(ledger: Ledger) -> None:
    """Whoever changes an amount and makes the entry's hash anew is found by the entry behind it."""
    with ledger.engine.begin() as connection:
        body = connection.execute(text("SELECT body FROM billing_journal WHERE id = 'lot_1'")).scalar_one()
        changed = json.loads(body.replace('"17.00"', '"71.00"'))
        written = canonical_json(changed).decode()
        connection.execute(
            text("UPDATE billing_journal SET body = :body, hash = :hash WHERE id = 'lot_1'"),
            {"body": written, "hash": sha256(written.encode()).hexdigest()},
        )
    faults = ledger.verify()
    assert [(fault.account, fault.number) for fault in faults] == [("acct", 5)]
    assert "does not follow entry 4" in str(faults[0])


def test_entries_taken_out_or_doubled_are_found(ledger: Ledger) -> None:
    """An entry that is missing, in the middle or at the end, and one that stands twice, are found."""
    run(ledger, "DELETE FROM billing_journal WHERE number = 7")
    assert "it does not follow entry 6" in str(ledger.verify()[0])
    run(ledger, "DELETE FROM billing_journal WHERE number >= 7")
    assert ledger.verify() != []


def test_a_tail_cut_off_together_with_what_it_made_is_found_by_a_checkpoint(ledger: Ledger, tmp_path: Path) -> None:
    """Cut off the last entries, and rebuild: the ledger is sound, but not the one of the checkpoint."""
    checkpoint = ledger.checkpoint()
    last = checkpoint["acct"][0]
    run(ledger, "DELETE FROM billing_journal WHERE number > :last", last=last - 3)
    with pytest.raises(BillingError, match="truncated"):
        ledger.rebuild()  # what the tables still know of is evidence
    ledger.rebuild(accept_loss=True)
    assert ledger.verify() == []
    assert f"entries {last - 2} to {last} of the checkpoint are missing" in str(ledger.verify(checkpoint)[0])
    ledger.adjust("acct", "0.01", reason="x", author="x", id="x1", at=later(200))
    ledger.adjust("acct", "0.01", reason="x", author="x", id="x2", at=later(200))
    ledger.adjust("acct", "0.01", reason="x", author="x", id="x3", at=later(200))
    assert "its hash differs from the checkpoint" in str(ledger.verify(checkpoint)[0])
    run(ledger, "DELETE FROM billing_journal")
    ledger.rebuild(accept_loss=True)
    assert "it was there at the checkpoint, and is missing" in str(ledger.verify(checkpoint)[0])


def test_a_checkpoint_of_before_holds_as_the_journal_grows(ledger: Ledger) -> None:
    """What was noted stays true."""
    checkpoint = ledger.checkpoint()
    ledger.adjust("acct", "1", reason="x", author="x", id="more", at=later(200))
    assert ledger.verify(checkpoint) == []


@pytest.mark.parametrize("table", [name for name in METADATA.tables if name != "billing_journal"])
def test_a_change_of_anything_derived_is_found_and_rebuilding_mends_it(ledger: Ledger, table: str) -> None:
    """Every column of every projection: changed alone, it is found by name, and rebuilding brings it back."""
    right = tables(ledger)
    for column in METADATA.tables[table].columns:
        if column.name in ("live", "next_expiry"):
            continue
        run(ledger, f"UPDATE {table} SET {column.name} = '7' WHERE rowid = (SELECT max(rowid) FROM {table})")
        assert any(table.removeprefix("billing_") in str(fault) or "no such account" in str(fault)
                   for fault in ledger.verify()), column.name  # fmt: skip
        ledger.rebuild(accept_loss=column.name == "id")  # a journal without its account could be one that was truncated
        assert tables(ledger) == right
    run(ledger, f"DELETE FROM {table}")
    assert ledger.verify() != []
    ledger.rebuild()
    assert tables(ledger) == right


def test_a_bound_that_would_let_something_expire_unseen_is_found(ledger: Ledger) -> None:
    """``next_expiry`` may be earlier than what expires first, never later."""
    run(ledger, "UPDATE billing_account SET next_expiry = '2026-01-01T00:00:00.000000Z'")
    assert ledger.verify() == []
    run(ledger, "UPDATE billing_account SET next_expiry = '2027-01-01T00:00:00.000000Z'")
    assert "next_expiry" in str(ledger.verify()[0])


def test_a_broken_journal_is_not_rebuilt_from(ledger: Ledger) -> None:
    """What does not follow is no ground to build on: nothing is changed, and the entry is named."""
    before = tables(ledger)["billing_lot"]
    run(ledger, "UPDATE billing_journal SET body = replace(body, '\"17.00\"', '\"71.00\"') WHERE id = 'lot_1'")
    with pytest.raises(BillingError) as caught:
        ledger.rebuild()
    assert caught.value.code == "journal_broken"
    assert "'lot_1'" in str(caught.value)
    assert tables(ledger)["billing_lot"] == before


def forged(ledger: Ledger, change: dict[str, Any]) -> str:
    """What verifying says of a journal whose last entry was replaced by a forged one with a sound hash and head."""
    with ledger.engine.begin() as connection:
        row = connection.execute(text("SELECT id, body FROM billing_journal ORDER BY number DESC LIMIT 1")).one()
        written = canonical_json({**json.loads(row.body), **change}).decode()
        hash = sha256(written.encode()).hexdigest()
        connection.execute(
            text("UPDATE billing_journal SET body = :b, hash = :h, kind = :k WHERE id = :i"),
            {"b": written, "h": hash, "k": json.loads(written)["kind"], "i": row.id},
        )
        connection.execute(text("UPDATE billing_account SET head = :h"), {"h": hash})
    return str(ledger.verify()[0])


@pytest.mark.parametrize(
    ("change", "found"),
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
def test_a_forged_entry_with_a_sound_hash_is_found_by_what_it_says(
    ledger: Ledger, change: dict[str, Any], found: str
) -> None:
    """Whoever can make hashes and heads anew still cannot post what does not balance or was not there."""
    assert found in forged(ledger, change)


def test_an_entry_that_lies_about_the_price_of_a_lot_is_found(ledger: Ledger) -> None:
    """What Credits were bought for stands in every entry that uses them, and has to be what was paid."""
    ledger.adjust("acct", "-0.01", reason="x", author="x", id="last", at=later(200))
    (use,) = ledger.entry("last").lot_changes  # type: ignore[union-attr]  # it is there
    paid = next(lot.paid for lot in ledger.lots("acct") if lot.id == use.lot)
    said = [] if paid is not None else [[use.lot, "CNY", "1", "1"]]
    assert "states another purchase of lot" in forged(ledger, {"bought": said})


@pytest.mark.parametrize(
    ("lie", "found"),
    [
        ("UPDATE billing_lot SET live = 1 - live", "live does not match"),
        (
            "INSERT INTO billing_hold VALUES ('g', 'ghost', NULL, '1.000000000000000000', 'x', 'y', 'open', NULL)",
            "ghost",
        ),
        ("UPDATE billing_usage SET account = 'ghost'", "ghost"),
        ("UPDATE billing_journal SET body = CAST(x'ff' AS TEXT) WHERE number = 3", "is not UTF-8"),
        (
            "INSERT INTO billing_journal SELECT 'forged', account, 0, kind, at, booked, body, hash "
            "FROM billing_journal WHERE number = 3",
            "not in the chain of any account",
        ),
    ],
)
def test_rows_that_nothing_brought_about_are_found(ledger: Ledger, lie: str, found: str) -> None:
    """Lots that are hidden or shown, rows of accounts that there are not, entries beside the chain."""
    run(ledger, lie)
    assert any(found in str(fault) for fault in ledger.verify())


def test_journals_of_accounts_that_were_taken_away_are_found(ledger: Ledger) -> None:
    """An account deleted from the table leaves a journal that nobody owns."""
    ledger.open_account("second", at=NOW)
    run(ledger, "DELETE FROM billing_account WHERE id = 'acct'")
    assert "the account does not exist" in str(ledger.verify()[0])


def test_postgresql_finds_the_same(postgres: str) -> None:
    """On PostgreSQL as well: a changed byte is found, and rebuilding changes nothing."""
    from ledger_kit import schema

    with schema(postgres) as url, opened(url) as ledger:
        do(ledger)
        assert ledger.verify() == []
        right = tables(ledger)
        ledger.rebuild()
        assert tables(ledger) == right
        run(ledger, "UPDATE billing_lot SET remaining = remaining + 0.000000000000000001 WHERE id = 'lot_1'")
        assert "remaining is" in str(ledger.verify()[0])
        run(ledger, "UPDATE billing_journal SET body = replace(body, 'welcome', 'welcomE')")
        assert "altered" in str(ledger.verify()[0])
